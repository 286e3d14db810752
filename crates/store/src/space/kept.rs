//! What is above the device's clearance, and kept until another device has it: sections, and sealed
//! chunks of blobs.
//!
//! Invariant: what opens a chunk is not kept beside it, and it is part of no blob here.

use larder_log::Band;
use larder_types::{BlobId, Hash};
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::space::blobs;
use crate::space::logs::LogId;
use crate::space::sections::{COLUMNS, Section, row};
use crate::sql::{Uint, all, execute, first, one};

const PART: &str = "kept_chunks";
const SECTIONS: &str = "sections";

/// Up to `limit` hidden sections that have their bytes all the same, numbered above `after` (0 to
/// begin with).
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn hidden_with_bytes(
    conn: &Connection,
    after: i64,
    limit: u32,
) -> Result<Vec<Section>, StoreError> {
    let sql = format!(
        "{COLUMNS} FROM sections s WHERE {HIDDEN_WITH_BYTES} AND section > ?1
         ORDER BY section LIMIT ?2"
    );
    all(conn, SECTIONS, &sql, params![after, limit], row)
}

/// How many they are.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn count_hidden_with_bytes(conn: &Connection) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM sections WHERE {HIDDEN_WITH_BYTES}");
    one(conn, SECTIONS, &sql, [], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// The partial index's own condition.
const HIDDEN_WITH_BYTES: &str = "state = 7 AND (sealed IS NOT NULL OR opened IS NOT NULL)";

/// Keeps the chunks of a blob that are held, for the section that its manifest stands in. The blob
/// is to be removed.
///
/// # Errors
/// [`StoreError::Write`] of `kept_chunks` or `chunks`.
pub fn keep_chunks(conn: &Connection, section: i64, id: &BlobId) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO kept_chunks (section, chunk, band)
               SELECT ?1, chunk, band FROM blobs JOIN blob_chunks USING (blob)
               JOIN chunks USING (chunk) WHERE id = ?2 AND held = 1";
    execute(conn, PART, sql, params![section, id.as_bytes()])?;
    let sql = "UPDATE chunks SET opened = NULL, key = NULL
               WHERE chunk IN (SELECT chunk FROM kept_chunks WHERE section = ?1)";
    execute(conn, "chunks", sql, [section]).map(drop)
}

/// Up to `limit` chunks of the bands up to one, numbered above `after` (0 to
/// begin with): each with its number.
///
/// # Errors
/// [`StoreError::Read`] of `kept_chunks`.
pub fn page(
    conn: &Connection,
    up_to: Band,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Hash)>, StoreError> {
    let sql = "SELECT DISTINCT chunk, digest FROM kept_chunks JOIN chunks USING (chunk)
               WHERE band <= ?1 AND chunk > ?2 AND held = 1 ORDER BY chunk LIMIT ?3";
    all(conn, PART, sql, params![up_to as u8, after, limit], |row| {
        Ok((row.get(0)?, Hash::new(row.get(1)?)))
    })
}

/// Up to `limit` chunks that are held for blobs, numbered above `after` (0 to begin with): each
/// with its number.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn page_of_blobs(
    conn: &Connection,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Hash)>, StoreError> {
    let sql = "SELECT chunk, digest FROM chunks c WHERE held = 1 AND chunk > ?1
                   AND EXISTS (SELECT 1 FROM blob_chunks b WHERE b.chunk = c.chunk)
               ORDER BY chunk LIMIT ?2";
    all(conn, "chunks", sql, params![after, limit], |row| Ok((row.get(0)?, Hash::new(row.get(1)?))))
}

/// How many are kept.
///
/// # Errors
/// [`StoreError::Read`] of `kept_chunks`.
pub fn count(conn: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT count(DISTINCT chunk) FROM kept_chunks";
    one(conn, PART, sql, [], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// Whether a chunk is held for a blob here: what is kept for others alone is not.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn is_of_blob(conn: &Connection, digest: &Hash) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM chunks JOIN blob_chunks USING (chunk)
               WHERE digest = ?1 AND held = 1 LIMIT 1";
    first(conn, "chunks", sql, [digest.as_bytes()], |_| Ok(())).map(|found| found.is_some())
}

/// Up to `limit` sections of entries `first_seq` to `last_seq` of which no bytes are held, numbered
/// above `after` (0 to begin with), but for those that were erased.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn without_bytes(
    conn: &Connection,
    log: LogId,
    (first_seq, last_seq): (u64, u64),
    after: i64,
    limit: u32,
) -> Result<Vec<Section>, StoreError> {
    let sql = format!(
        "{COLUMNS} FROM sections s WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 AND section > ?4
             AND sealed IS NULL AND opened IS NULL AND state != 6 ORDER BY section LIMIT ?5"
    );
    all(conn, SECTIONS, &sql, params![log, Uint(first_seq), Uint(last_seq), after, limit], row)
}

/// Lets go of chunks up to a band that another device has.
///
/// # Errors
/// [`StoreError::Write`] of `kept_chunks` or `chunks`.
pub fn release(conn: &Connection, digests: &[Hash], up_to: Band) -> Result<(), StoreError> {
    for digest in digests {
        let sql = "SELECT chunk FROM chunks WHERE digest = ?1";
        let chunk = first(conn, PART, sql, [digest.as_bytes()], |row| row.get::<_, i64>(0))?;
        let Some(chunk) = chunk else { continue };
        let sql = "DELETE FROM kept_chunks WHERE chunk = ?1 AND band <= ?2";
        if execute(conn, PART, sql, params![chunk, up_to as u8])? > 0 {
            blobs::remove_unused(conn, chunk)?;
        }
    }
    Ok(())
}

/// Lets go of what is kept for a section: it was erased.
///
/// # Errors
/// [`StoreError::Write`] of `kept_chunks` or `chunks`.
pub fn forget_of(conn: &Connection, section: i64) -> Result<(), StoreError> {
    let sql = "SELECT chunk FROM kept_chunks WHERE section = ?1";
    let chunks: Vec<i64> = all(conn, PART, sql, [section], |row| row.get(0))?;
    if chunks.is_empty() {
        return Ok(());
    }
    execute(conn, PART, "DELETE FROM kept_chunks WHERE section = ?1", [section])?;
    chunks.into_iter().try_for_each(|chunk| blobs::remove_unused(conn, chunk))
}
