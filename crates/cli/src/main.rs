//! The `larder` command: one face of the façade. It parses, prints and decides exit codes.
#![allow(dead_code, unused_imports, reason = "the commands that use these follow")]

mod args;
mod files;
mod output;

fn main() {}
