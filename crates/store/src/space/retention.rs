//! What is old: by when this device is known to have had it, and by what clocks claim.

use larder_log::Band;
use larder_types::{CollectionName, ObjectId, Timestamp};
use rusqlite::{Connection, ToSql, params};

use crate::error::StoreError;
use crate::space::documents::Which;
use crate::sql::{Uint, all, execute, first, one, parsed};

const PART: &str = "retention_marks";

/// Until when a document has to have been changed last to be old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// By the transaction of this device that brought the change.
    Position(i64),
    /// By the clock of who made the change.
    Claimed(Timestamp),
}

impl Until {
    const fn condition(self) -> &'static str {
        match self {
            Self::Position(_) => "e.position <= ?2",
            Self::Claimed(_) => "d.updated_wall <= ?2",
        }
    }

    fn bound(self) -> Box<dyn ToSql> {
        match self {
            Self::Position(position) => Box::new(position),
            Self::Claimed(time) => Box::new(Uint(time.0)),
        }
    }
}

/// Notes up to which transaction this device has come by now, unless that was done lately, and
/// forgets what was noted of times that are still to come: some clock was wrong then. Whether it
/// was noted.
///
/// # Errors
/// [`StoreError::Write`] of `retention_marks`.
pub fn mark(conn: &Connection, now: Timestamp, every_ms: u64) -> Result<bool, StoreError> {
    let sql = "DELETE FROM retention_marks WHERE time > ?1";
    execute(conn, PART, sql, [Uint(now.0)])?;
    let sql = "INSERT INTO retention_marks (time, position)
               SELECT ?1, coalesce((SELECT max(position) FROM transactions), 0)
               WHERE NOT EXISTS (SELECT 1 FROM retention_marks WHERE time > ?2)";
    let since = now.0.saturating_sub(every_ms);
    Ok(execute(conn, PART, sql, params![Uint(now.0), Uint(since)])? > 0)
}

/// The last transaction that this device had at this time; none if that is not known.
///
/// # Errors
/// [`StoreError::Read`] of `retention_marks`.
pub fn position_at(conn: &Connection, time: Timestamp) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(position) FROM retention_marks WHERE time <= ?1";
    one(conn, PART, sql, [Uint(time.0)], |row| row.get(0))
}

/// The collections that have documents, those in the trash or any. Takes time in proportion to
/// their number, not to that of documents.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn collections(conn: &Connection, which: Which) -> Result<Vec<CollectionName>, StoreError> {
    let from = match which {
        Which::Trashed => "documents INDEXED BY documents_trashed_of WHERE trashed IS NOT NULL AND",
        Which::Shown | Which::All => "documents INDEXED BY documents_collection WHERE",
    };
    let sql = format!(
        "WITH RECURSIVE found (name) AS (
             SELECT (SELECT collection FROM {from} TRUE ORDER BY collection LIMIT 1)
             UNION ALL
             SELECT (SELECT collection FROM {from} collection > name ORDER BY collection LIMIT 1)
             FROM found WHERE name IS NOT NULL)
         SELECT name FROM found WHERE name IS NOT NULL"
    );
    all(conn, "documents", &sql, [], |row| parsed(row, 0, |name: String| name.parse().ok()))
}

/// Up to `limit` documents of a collection and band that were changed last until then, oldest here
/// first.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn old(
    conn: &Connection,
    which: Which,
    (collection, band): (&CollectionName, Band),
    until: Until,
    limit: usize,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = format!(
        "SELECT d.object FROM documents d INDEXED BY {}
         JOIN entries e ON e.log = d.updated_log AND e.seq = d.updated_seq
         WHERE d.collection = ?1 AND {} AND d.{} AND d.band = ?4
         ORDER BY d.document LIMIT ?3",
        if which == Which::Trashed { "documents_trashed_of" } else { "documents_collection" },
        until.condition(),
        which.condition(),
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let params = params![collection.as_str(), until.bound(), limit, band as u8];
    all(conn, "documents", &sql, params, |row| Ok(ObjectId::new(row.get(0)?)))
}

/// Up to `limit` documents of a collection and band, not in the trash, that are not among the
/// `count` that were changed last by the clocks of who did it; of those the ones that were changed
/// until then.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn beyond(
    conn: &Connection,
    (collection, band): (&CollectionName, Band),
    count: u64,
    until: Until,
    limit: usize,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = format!(
        "SELECT d.object FROM (
             SELECT * FROM documents WHERE collection = ?1 AND trashed IS NULL AND band = ?5
             ORDER BY updated_wall DESC, updated_count DESC, object DESC LIMIT -1 OFFSET ?4) d
         JOIN entries e ON e.log = d.updated_log AND e.seq = d.updated_seq
         WHERE {} ORDER BY d.updated_wall, d.updated_count, d.object LIMIT ?3",
        until.condition(),
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let params = params![collection.as_str(), until.bound(), limit, count, band as u8];
    all(conn, "documents", &sql, params, |row| Ok(ObjectId::new(row.get(0)?)))
}

/// Whether a document of the collection and band, not in the trash, claims to have been changed
/// after this.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn is_ahead(
    conn: &Connection,
    (collection, band): (&CollectionName, Band),
    time: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM documents
               WHERE collection = ?1 AND trashed IS NULL AND updated_wall > ?2 AND band = ?3
               LIMIT 1";
    let params = params![collection.as_str(), Uint(time.0), band as u8];
    first(conn, "documents", sql, params, |_| Ok(())).map(|found| found.is_some())
}
