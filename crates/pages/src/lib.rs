//! The encrypting SQLite VFS: every byte of every database file and WAL is sealed.

mod vectors;

pub use vectors::load_vectors;
