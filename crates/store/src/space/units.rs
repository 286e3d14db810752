//! The own units of work that had an idempotency key.

use larder_types::{Hash, IdempotencyKey};
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, execute, first};

const PART: &str = "units";

/// A unit that was committed under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Digest of its content: another content under the same key is an error of the caller's.
    pub digest: Hash,
    /// Its entry in the own log.
    pub seq: u64,
}

/// The unit committed under `key`.
///
/// # Errors
/// [`StoreError::Read`] of `units`.
pub fn find(conn: &Connection, key: &IdempotencyKey) -> Result<Option<Unit>, StoreError> {
    first(conn, PART, "SELECT digest, seq FROM units WHERE key = ?1", [key.as_bytes()], |row| {
        Ok(Unit { digest: Hash::new(row.get(0)?), seq: row.get::<_, Uint>(1)?.0 })
    })
}

/// The keys under which the unit in this entry was committed, each with the digest of its content.
///
/// # Errors
/// [`StoreError::Read`] of `units`.
pub fn of_entry(conn: &Connection, seq: u64) -> Result<Vec<(IdempotencyKey, Hash)>, StoreError> {
    let sql = "SELECT key, digest FROM units WHERE seq = ?1";
    all(conn, PART, sql, [Uint(seq)], |row| {
        Ok((IdempotencyKey::new(row.get(0)?), Hash::new(row.get(1)?)))
    })
}

/// Forgets the digest of what the unit in this entry held, by which that could be guessed. The key
/// stays used.
///
/// # Errors
/// [`StoreError::Write`] of `units`.
pub fn forget_content(conn: &Connection, seq: u64) -> Result<(), StoreError> {
    let sql = "UPDATE units SET digest = zeroblob(32) WHERE seq = ?1";
    execute(conn, PART, sql, [Uint(seq)]).map(drop)
}

/// Records a unit under its key, once.
///
/// # Errors
/// [`StoreError::Write`] of `units`, of kind constraint if the key was used before.
pub fn add(conn: &Connection, key: &IdempotencyKey, unit: &Unit) -> Result<(), StoreError> {
    let sql = "INSERT INTO units (key, digest, seq) VALUES (?1, ?2, ?3)";
    let params = params![key.as_bytes(), unit.digest.as_bytes(), Uint(unit.seq)];
    execute(conn, PART, sql, params).map(drop)
}
