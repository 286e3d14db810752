//! A disk in memory that loses power, fails and fills up when a test says so.
//!
//! [`Disk::register`] makes it a SQLite VFS, to stand below [`Vfs`](crate::Vfs) (or below plain
//! SQLite with `locking_mode=EXCLUSIVE`: it has no shared memory). As [`Files`](crate::Files) it
//! has what lies beside the databases. Nothing in it reads a clock,
//! sleeps or draws randomness: the same calls, hook and seeds give the same bytes.
//!
//! What is assumed of a real disk, and so what a test over this one proves:
//!
//! - A sync makes the content and size of one file durable. Unsynced writes reach the medium in
//!   any order, wholly, not at all, or in some of their 512-byte sectors ([`Loss`]), of which each
//!   byte is old or new; only space that a file newly got may hold noise.
//! - A write never changes bytes outside of it (SQLite calls this powersafe overwrite).
//! - A name is durable when its directory was synced, as SQLite's Unix VFS does it: with the first
//!   sync of a WAL or journal that it created, for all names beside it, and in a deletion that
//!   asks for it. A main database's own sync does not cover its name. Without that, a new file
//!   may be gone or empty after a crash, and a deleted one may be back; of several changes of one
//!   name a prefix remains. A new name for a file is there wholly or not at all. What is in a
//!   directory whose own name is lost is lost with it.
//! - A file needs a directory that was made, save in the root and directly below it.
//! - Handles that were open when the power failed answer I/O errors for ever after.
//!
//! Invariants: a [`Disk`] is one set of files shared by its clones; locks are those of SQLite
//! (SHARED, RESERVED, PENDING, EXCLUSIVE) between handles, whichever thread holds them.

mod content;
mod dice;
mod disk;
mod files;
mod forge;
mod locks;
mod loss;
mod media;
#[cfg(target_os = "linux")]
mod memory;
mod table;
#[cfg(test)]
mod tests;

pub use dice::Dice;
pub use disk::{Call, Disk, Operation, Outcome, Snapshot};
pub use forge::{Forge, clear_unused};
pub use loss::Loss;
#[cfg(target_os = "linux")]
pub use memory::{MemorySearch, masked};
