//! The encrypting VFS on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod common;
mod crash;
mod disk;
mod trace;
