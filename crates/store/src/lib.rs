//! One space's database, and the profile's: migrations, tables, connections.
//!
//! Every function takes a connection that is open already; writes belong into a transaction
//! ([`begin`], [`commit`]), so that a unit of work is kept whole or not at all.
//! `docs/format/store.md` lists the tables.
//!
//! Invariants: nothing here decrypts a section or sees an unwrapped key; no clock is read and no
//! randomness drawn; every error names the part of the database it concerns.

mod check;
mod error;
pub mod migrate;
mod pool;
pub mod profile;
mod room;
pub mod security;
pub mod space;
mod sql;
mod transaction;

pub use check::{check, rebuild_indexes};
pub use error::{ErrorKind, StoreError, kind_of};
pub use pool::{Access, Lent, Opener, Pool, Readers, configure};
pub use room::{Room, empty_wal, give_back, room};
pub use transaction::{begin, begin_anew, commit, savepoint};
