//! One device, synchronous: commits documents, log, receipts and indexes together.
