//! Entries, sections, Merkle logs, checkpoints, receipts, roster and epochs: pure functions and values.
