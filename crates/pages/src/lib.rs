//! The encrypting SQLite VFS: every byte of every database file and WAL is sealed.
//!
//! Stock SQLite runs over a shim that seals each page and WAL frame with XAES-256-GCM on its way
//! to the operating system and opens it on its way back. `docs/format/pages.md` draws the bytes.
//!
//! Invariants: nothing but the main database and its WAL ever reaches the disk (no rollback
//! journal, no temporary file, no `-shm`); what does not authenticate is an error, never content;
//! a wrong key and a foreign file leave every byte as it was; one process at a time.
//!
//! A process must not open and close an open database's file by other means (`std::fs`): POSIX
//! would drop the lock that keeps other processes out.

mod attach;
mod code;
mod copying;
mod database;
mod error;
mod files;
mod format;
mod locks;
mod lower;
mod main_file;
mod nonces;
mod registered;
mod session;
mod shim;
mod shm;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod unsynced;
mod unused;
mod vectors;
mod vfs;
mod wal_file;

pub use copying::{Copied, Copying};
pub use error::{Error, Result};
pub use files::{Files, Held, Lock, SystemFiles};
pub use lower::syncs;
pub use vectors::load_vectors;
pub use vfs::{OpenMode, Vfs, WeakVfs, open_in_memory};
