//! Sessions between model stores that hold real batches, under every interleaving.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "tests"
)]

mod honest;
mod hostile;
mod memory;
mod wire_bytes;
mod world;
