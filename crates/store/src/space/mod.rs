//! A space's database: the logs as they travel, and what was made of them.
//!
//! Invariants: an entry, its sections, its tree's nodes and its transaction are written together;
//! what was appended is never changed but for a section's payload and state; `transactions` is in
//! causal order, because that is the order in which they were applied.

pub mod blobs;
pub mod carry_ends;
pub mod changes;
pub mod control;
pub mod copies;
pub mod documents;
pub mod entries;
pub mod erasures;
pub mod kept;
pub mod logs;
pub mod pieces;
pub mod retention;
pub mod sections;
pub mod snapshots;
pub mod tombstones;
pub mod transactions;
pub mod unindexed;
pub mod units;

use larder_log::Band;
use rusqlite::{Connection, params};

use crate::error::{Part, StoreError};
use crate::sql::{Uint, execute, first, one};

/// A value that belongs to the space as a whole, such as its name or the own device.
///
/// # Errors
/// [`StoreError::Read`] of `space`.
pub fn value(conn: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    first(conn, "space", "SELECT value FROM space WHERE key = ?1", [key], |row| row.get(0))
}

/// Sets or changes such a value.
///
/// # Errors
/// [`StoreError::Write`] of `space`.
pub fn set_value(conn: &Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO space (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    execute(conn, "space", sql, params![key, value]).map(drop)
}

/// Counts and sizes, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Logs known.
    pub logs: u64,
    /// Entries held, of all logs.
    pub entries: u64,
    /// Transactions held, of all logs.
    pub transactions: u64,
    /// Sections held, of all entries.
    pub sections: u64,
    /// Sections whose bytes are missing and wanted.
    pub sections_missing: u64,
    /// Sections whose bytes are held and not opened yet.
    pub sections_waiting: u64,
    /// Sections whose bytes are neither held nor wanted: pruned.
    pub sections_excused: u64,
    /// Documents, live or deleted, that the search indexes are behind with.
    pub unindexed: u64,
    /// The database without its WAL. Bytes.
    pub database_bytes: u64,
    /// Pages of the database that hold nothing. Bytes.
    pub free_bytes: u64,
}

/// What there is up to a band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Live documents.
    pub documents: u64,
    /// Those of them that are in the trash.
    pub trashed: u64,
    /// Deleted objects.
    pub tombstones: u64,
}

/// What there is up to a band.
///
/// # Errors
/// [`StoreError::Read`] of `documents` or `tombstones`.
pub fn counts_up_to(conn: &Connection, band: Band) -> Result<Counts, StoreError> {
    let count = |part: &'static str, sql: &str| -> Result<u64, StoreError> {
        one(conn, part, sql, [band as u8], |row| row.get::<_, Uint>(0)).map(|count| count.0)
    };
    let trashed = "SELECT count(*) FROM documents WHERE band <= ?1 AND trashed IS NOT NULL";
    let tombstones = "SELECT count(DISTINCT object) FROM tombstones WHERE band <= ?1";
    Ok(Counts {
        documents: count("documents", "SELECT count(*) FROM documents WHERE band <= ?1")?,
        trashed: count("documents", trashed)?,
        tombstones: count("tombstones", tombstones)?,
    })
}

/// Counts and sizes. Takes time in proportion to the number of sections.
///
/// # Errors
/// [`StoreError::Read`].
pub fn status(conn: &Connection) -> Result<Status, StoreError> {
    let count = |part: &'static str, sql: &str| -> Result<u64, StoreError> {
        one(conn, part, sql, [], |row| row.get::<_, Uint>(0)).map(|count| count.0)
    };
    let pragma = |name: &str| -> Result<u64, StoreError> {
        conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, Uint>(0))
            .map(|value| value.0)
            .reading("header")
    };
    let page_bytes = pragma("page_size")?;
    Ok(Status {
        logs: count("logs", "SELECT count(*) FROM logs")?,
        entries: count("logs", "SELECT coalesce(sum(size), 0) FROM logs")?,
        transactions: count("transactions", "SELECT count(*) FROM transactions")?,
        sections: count("sections", "SELECT count(*) FROM sections")?,
        sections_missing: count("sections", "SELECT count(*) FROM sections WHERE state = 0")?,
        sections_waiting: count("sections", "SELECT count(*) FROM sections WHERE state = 1")?,
        sections_excused: count("sections", "SELECT count(*) FROM sections WHERE state = 4")?,
        unindexed: unindexed::count(conn)?,
        database_bytes: pragma("page_count")?.saturating_mul(page_bytes),
        free_bytes: pragma("freelist_count")?.saturating_mul(page_bytes),
    })
}
