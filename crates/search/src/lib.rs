//! Full-text and vector indexes and their fusion, over a transaction.
