//! The encrypting VFS on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod attach;
mod backup;
mod common;
mod copying;
mod crash;
mod crash_points;
mod damage;
mod disk;
mod faults;
mod full;
mod gathered;
mod golden;
mod grammar;
mod journals;
mod large;
mod law;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(unix)]
mod paths;
mod power;
mod refusal;
mod sharing;
mod slt;
mod synced;
mod tampering;
mod unused;
