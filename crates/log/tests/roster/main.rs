//! Membership: named outcomes, and generated histories against a model that is written from the
//! definitions alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod histories;
mod model;
mod outcomes;
mod world;
