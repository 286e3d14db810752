//! The own units of work that had an idempotency key, those among them that this device wrote
//! before it got new keys.

use larder_types::{Hash, IdempotencyKey};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::logs::LogId;
use crate::sql::{Uint, all, execute, first};

const PART: &str = "units";

/// A unit that was committed under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Digest of its content: another content under the same key is an error of the caller's.
    pub digest: Hash,
    /// The log that its entry is in. None: the own one.
    pub log: Option<LogId>,
    /// Its entry there.
    pub seq: u64,
}

fn unit(row: &Row<'_>, at: usize) -> rusqlite::Result<Unit> {
    let (digest, log, seq) = (row.get(at)?, row.get(at + 1)?, row.get::<_, Uint>(at + 2)?.0);
    Ok(Unit { digest: Hash::new(digest), log, seq })
}

/// The unit committed under `key`.
///
/// # Errors
/// [`StoreError::Read`] of `units`.
pub fn find(conn: &Connection, key: &IdempotencyKey) -> Result<Option<Unit>, StoreError> {
    let sql = "SELECT digest, log, seq FROM units WHERE key = ?1";
    first(conn, PART, sql, [key.as_bytes()], |row| unit(row, 0))
}

/// Up to `limit` units with their keys, in the order of these, from behind `after` on.
///
/// # Errors
/// [`StoreError::Read`] of `units`.
pub fn page(
    conn: &Connection,
    after: Option<&IdempotencyKey>,
    limit: u32,
) -> Result<Vec<(IdempotencyKey, Unit)>, StoreError> {
    let sql = "SELECT key, digest, log, seq FROM units WHERE key > ?1 ORDER BY key LIMIT ?2";
    let after: &[u8] = after.map_or(&[], |key| key.as_bytes());
    let row = |row: &Row<'_>| Ok((IdempotencyKey::new(row.get(0)?), unit(row, 1)?));
    all(conn, PART, sql, params![after, limit], row)
}

/// The keys under which the unit in this entry of the own log was committed, each with the digest
/// of its content.
///
/// # Errors
/// [`StoreError::Read`] of `units`.
pub fn of_entry(conn: &Connection, seq: u64) -> Result<Vec<(IdempotencyKey, Hash)>, StoreError> {
    let sql = "SELECT key, digest FROM units WHERE seq = ?1 AND log IS NULL";
    all(conn, PART, sql, [Uint(seq)], |row| {
        Ok((IdempotencyKey::new(row.get(0)?), Hash::new(row.get(1)?)))
    })
}

/// Forgets the digest of what the unit in this entry held, by which that could be guessed. The key
/// stays used. No log: the own one.
///
/// # Errors
/// [`StoreError::Write`] of `units`.
pub fn forget_content(conn: &Connection, log: Option<LogId>, seq: u64) -> Result<(), StoreError> {
    let sql = "UPDATE units SET digest = zeroblob(32) WHERE seq = ?1 AND log IS ?2";
    execute(conn, PART, sql, params![Uint(seq), log]).map(drop)
}

/// Records a unit under its key, once.
///
/// # Errors
/// [`StoreError::Write`] of `units`, of kind constraint if the key was used before.
pub fn add(conn: &Connection, key: &IdempotencyKey, unit: &Unit) -> Result<(), StoreError> {
    let sql = "INSERT INTO units (key, digest, log, seq) VALUES (?1, ?2, ?3, ?4)";
    let params = params![key.as_bytes(), unit.digest.as_bytes(), unit.log, Uint(unit.seq)];
    execute(conn, PART, sql, params).map(drop)
}
