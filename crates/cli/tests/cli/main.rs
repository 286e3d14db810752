//! The real binary: real processes, files and sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod bad_input;
mod demo;
mod home;
mod household;
mod keys;
#[cfg(unix)]
mod kills;
mod refusals;
