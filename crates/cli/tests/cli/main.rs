//! The real binary: real processes, files and sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[cfg(unix)]
mod alone;
mod auditor;
mod bad_input;
mod black;
mod blobs;
mod copies;
mod demo;
#[cfg(target_os = "linux")]
mod discovery;
mod exports;
mod home;
mod household;
#[cfg(unix)]
mod key_kills;
mod keys;
#[cfg(unix)]
mod kills;
mod members;
mod pairing;
mod refusals;
#[cfg(unix)]
mod served;
mod subject;
mod trash;
