//! How far the edits of each document of an old copy were made again in this device's log.

use larder_types::{EntryHash, ObjectId};
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::sql::{execute, first};

const PART: &str = "carry_ends";

/// A document of an old file: the id that it was created under there, its band and its creation.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// The old file.
    pub file: &'a str,
    /// The id.
    pub object: ObjectId,
    /// The band.
    pub band: u8,
    /// The entry that created it.
    pub generation: EntryHash,
}

/// How far one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Where it is now. None: it is gone.
    pub at: Option<ObjectId>,
    /// The last change that was made again; empty before the first.
    pub old: Vec<u8>,
    /// The version that it came to here, as whoever stores it writes it.
    pub new: Vec<u8>,
}

/// How far a document is; none if nothing of it came by.
///
/// # Errors
/// [`StoreError::Read`] of `carry_ends`.
pub fn find(conn: &Connection, of: &Of<'_>) -> Result<Option<End>, StoreError> {
    let sql = "SELECT at, old, new FROM carry_ends
               WHERE file = ?1 AND object = ?2 AND band = ?3 AND generation = ?4";
    let params = params![of.file, of.object.as_bytes(), of.band, of.generation.as_bytes()];
    first(conn, PART, sql, params, |row| {
        let at: Option<[u8; 16]> = row.get(0)?;
        Ok(End { at: at.map(ObjectId::new), old: row.get(1)?, new: row.get(2)? })
    })
}

/// Records how far a document is, in place of what was recorded.
///
/// # Errors
/// [`StoreError::Write`] of `carry_ends`.
pub fn set(conn: &Connection, of: &Of<'_>, end: &End) -> Result<(), StoreError> {
    let sql = "INSERT INTO carry_ends (file, object, band, generation, at, old, new)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (file, object, band, generation)
               DO UPDATE SET at = excluded.at, old = excluded.old, new = excluded.new";
    let at = end.at.as_ref().map(ObjectId::as_bytes);
    let (object, generation) = (of.object.as_bytes(), of.generation.as_bytes());
    let params = params![of.file, object, of.band, generation, at, end.old, end.new];
    execute(conn, PART, sql, params).map(drop)
}

/// Forgets all of one file.
///
/// # Errors
/// [`StoreError::Write`] of `carry_ends`.
pub fn forget(conn: &Connection, file: &str) -> Result<(), StoreError> {
    execute(conn, PART, "DELETE FROM carry_ends WHERE file = ?1", [file]).map(drop)
}
