//! Documents that the search indexes are behind with.
//!
//! Of words these are all that are numbered above the last one whose words are indexed, since
//! numbers ascend; and those in a queue, which what changes or deletes an indexed document writes,
//! and what indexes it takes out. Whose words were indexed goes into a second queue, of those whose
//! vectors are still to be made.

use larder_types::CollectionName;
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, execute, first, one, parsed};

const PART: &str = "unindexed";
const UNEMBEDDED: &str = "unembedded";

/// A document to be indexed anew, or to be taken out of the indexes if it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unindexed {
    /// Its place in the queue.
    pub place: i64,
    /// Its local number.
    pub document: i64,
    /// The JSON that its words in the index are of, if it has any there.
    pub indexed: Option<String>,
}

/// Puts a document into the queue at `place`, which is beyond all others, unless it is there
/// already. `indexed` is the JSON that the words in the index are of, if it has any there. Returns
/// whether it was put there.
///
/// # Errors
/// [`StoreError::Write`] of `unindexed`.
pub fn add(
    conn: &Connection,
    place: i64,
    document: i64,
    indexed: Option<&str>,
) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO unindexed (place, document, indexed) VALUES (?1, ?2, ?3)";
    Ok(execute(conn, PART, sql, params![place, document, indexed])? > 0)
}

/// Leaves in the queue what is to be taken out of the indexes, without its words: none of any are
/// indexed now, and so all documents are numbered above the last one that is.
///
/// # Errors
/// [`StoreError::Write`] of `unindexed`.
pub fn forget_words(conn: &Connection) -> Result<(), StoreError> {
    let sql = "DELETE FROM unindexed WHERE document IN (SELECT document FROM documents)";
    execute(conn, PART, sql, [])?;
    execute(conn, PART, "UPDATE unindexed SET indexed = NULL", []).map(drop)
}

/// The last document whose words are indexed, and the last one that there is; 0 if there is none.
///
/// # Errors
/// [`StoreError::Read`] of `unindexed`.
pub fn behind(conn: &Connection) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT (SELECT coalesce(max(document), 0) FROM search_documents),
                      (SELECT coalesce(max(document), 0) FROM documents)";
    one(conn, PART, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// What of a document is indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its local number.
    pub document: i64,
    /// Its collection.
    pub collection: CollectionName,
    /// Its current value as JSON.
    pub json: String,
}

const CONTENT: &str = "SELECT document, collection, json FROM documents";

fn content(row: &Row<'_>) -> rusqlite::Result<Content> {
    let collection = parsed(row, 1, |name: String| name.parse().ok())?;
    Ok(Content { document: row.get(0)?, collection, json: row.get(2)? })
}

/// The document of this number, if it is there.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn document(conn: &Connection, document: i64) -> Result<Option<Content>, StoreError> {
    first(conn, "documents", &format!("{CONTENT} WHERE document = ?1"), [document], content)
}

/// The first document that is numbered above `after`.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn next_document(conn: &Connection, after: i64) -> Result<Option<Content>, StoreError> {
    // Not "> ?1", which begins on the page of the one before: that may be damaged.
    let sql = format!("{CONTENT} WHERE document >= ?1 + 1 ORDER BY document LIMIT 1");
    first(conn, "documents", &sql, [after], content)
}

/// The first in the queue behind `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `unindexed`.
pub fn next(conn: &Connection, after: i64) -> Result<Option<Unindexed>, StoreError> {
    let sql = "SELECT place, document, indexed FROM unindexed WHERE place > ?1
               ORDER BY place LIMIT 1";
    first(conn, PART, sql, [after], |row| {
        Ok(Unindexed { place: row.get(0)?, document: row.get(1)?, indexed: row.get(2)? })
    })
}

/// Takes all up to `place` out of the queue.
///
/// # Errors
/// [`StoreError::Write`] of `unindexed`.
pub fn remove_to(conn: &Connection, place: i64) -> Result<(), StoreError> {
    execute(conn, PART, "DELETE FROM unindexed WHERE place <= ?1", [place]).map(drop)
}

/// The first and the last place in the queue; `None` if it is empty.
///
/// # Errors
/// [`StoreError::Read`] of `unindexed`.
pub fn ends(conn: &Connection) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT (SELECT min(place) FROM unindexed), (SELECT max(place) FROM unindexed)";
    ends_of(conn, PART, sql)
}

fn ends_of(
    conn: &Connection,
    part: &'static str,
    sql: &str,
) -> Result<Option<(i64, i64)>, StoreError> {
    one(conn, part, sql, [], |row| {
        Ok(Option::zip(row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
    })
}

/// Whether a document is in the queue.
///
/// # Errors
/// [`StoreError::Read`] of `unindexed`.
pub fn contains(conn: &Connection, document: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM unindexed WHERE document = ?1";
    first(conn, PART, sql, [document], |_| Ok(())).map(|found| found.is_some())
}

/// Documents whose words are indexed and whose vectors are still to be made, unless they have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unembedded {
    /// Their place in the queue.
    pub place: i64,
    /// The number of the first.
    pub first: i64,
    /// The number of the last.
    pub last: i64,
}

/// Puts documents, whose words are indexed, at the end of those whose vectors are still to be made:
/// at a place beyond all others.
///
/// # Errors
/// [`StoreError::Write`] of `unembedded`.
pub fn add_unembedded(conn: &Connection, added: Unembedded) -> Result<(), StoreError> {
    let sql = "INSERT INTO unembedded (place, first, last) VALUES (?1, ?2, ?3)";
    let Unembedded { place, first, last } = added;
    execute(conn, UNEMBEDDED, sql, [place, first, last]).map(drop)
}

/// What stands first behind the place `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `unembedded`.
pub fn next_unembedded(conn: &Connection, after: i64) -> Result<Option<Unembedded>, StoreError> {
    let sql = "SELECT place, first, last FROM unembedded WHERE place > ?1 ORDER BY place LIMIT 1";
    first(conn, UNEMBEDDED, sql, [after], |row| {
        Ok(Unembedded { place: row.get(0)?, first: row.get(1)?, last: row.get(2)? })
    })
}

/// The first of the documents of `waiting` that has its words indexed.
///
/// # Errors
/// [`StoreError::Read`] of `unembedded`.
pub fn first_of(conn: &Connection, waiting: Unembedded) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT document FROM search_documents WHERE document BETWEEN ?1 AND ?2
               ORDER BY document LIMIT 1";
    first(conn, UNEMBEDDED, sql, [waiting.first, waiting.last], |row| row.get(0))
}

/// Leaves at a place the documents from `first` on.
///
/// # Errors
/// [`StoreError::Write`] of `unembedded`.
pub fn shorten_unembedded(conn: &Connection, place: i64, first: i64) -> Result<(), StoreError> {
    let sql = "UPDATE unembedded SET first = ?2 WHERE place = ?1";
    execute(conn, UNEMBEDDED, sql, [place, first]).map(drop)
}

/// Takes all up to `place` out of those whose vectors are still to be made.
///
/// # Errors
/// [`StoreError::Write`] of `unembedded`.
pub fn remove_unembedded(conn: &Connection, place: i64) -> Result<(), StoreError> {
    execute(conn, UNEMBEDDED, "DELETE FROM unembedded WHERE place <= ?1", [place]).map(drop)
}

/// The first and the last place of those whose vectors are still to be made; `None` if there are
/// none.
///
/// # Errors
/// [`StoreError::Read`] of `unembedded`.
pub fn unembedded_ends(conn: &Connection) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT (SELECT min(place) FROM unembedded), (SELECT max(place) FROM unembedded)";
    ends_of(conn, UNEMBEDDED, sql)
}

/// How many documents the indexes are behind with, of words or of vectors; more, if some of those
/// are gone or have their vectors.
///
/// # Errors
/// [`StoreError::Read`] of `unindexed`.
pub fn count(conn: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT (SELECT count(*) FROM unindexed) + (
                   SELECT coalesce(sum(last - first + 1), 0) FROM unembedded) + (
                   SELECT count(*) FROM documents WHERE document > (
                       SELECT coalesce(max(document), 0) FROM search_documents))";
    one(conn, PART, sql, [], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}
