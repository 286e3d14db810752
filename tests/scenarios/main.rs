//! The façade as an app uses it: real files, real sockets, several devices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod audit;
mod auditor;
mod black;
mod blobs;
mod blocking;
mod clearance;
mod common;
mod contracts;
mod cuts;
mod full_disk;
mod keys;
mod lifecycle;
mod live;
mod many;
mod network;
mod pairing;
mod profiles;
mod prune;
mod security;
mod sync;
mod transfer;
mod twins;
mod units;
