//! The store through its public API, on real SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod encrypted;
mod faults;
mod fixture;
mod migrations;
mod profile;
mod space;
mod walk;
