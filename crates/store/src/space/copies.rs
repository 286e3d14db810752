//! Documents that live under an id derived from the one they were created under, because another
//! creation has that.

use larder_types::ObjectId;
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::sql::{all, execute, first, one};

const PART: &str = "copies";

/// The ids that a document passed on its way to its own, from the one it was created under; none
/// if it lives under that.
///
/// # Errors
/// [`StoreError::Read`] of `copies`.
pub fn path(conn: &Connection, object: &ObjectId) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT via FROM copies WHERE object = ?1 ORDER BY step";
    all(conn, PART, sql, [object.as_bytes()], |row| row.get(0).map(ObjectId::new))
}

/// Whether there are any.
///
/// # Errors
/// [`StoreError::Read`] of `copies`.
pub fn any(conn: &Connection) -> Result<bool, StoreError> {
    first(conn, PART, "SELECT 1 FROM copies LIMIT 1", [], |_| Ok(())).map(|row| row.is_some())
}

/// Records such a way in place of what was recorded for `object`.
///
/// # Errors
/// [`StoreError::Write`] of `copies`.
pub fn set_path(conn: &Connection, object: &ObjectId, path: &[ObjectId]) -> Result<(), StoreError> {
    execute(conn, PART, "DELETE FROM copies WHERE object = ?1", [object.as_bytes()])?;
    let sql = "INSERT INTO copies (object, step, via) VALUES (?1, ?2, ?3)";
    for (step, via) in (0_i64..).zip(path) {
        execute(conn, PART, sql, params![object.as_bytes(), step, via.as_bytes()])?;
    }
    Ok(())
}

/// The documents, live or deleted, that passed this id.
///
/// # Errors
/// [`StoreError::Read`] of `copies`.
pub fn through(conn: &Connection, via: &ObjectId) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT DISTINCT object FROM copies WHERE via = ?1 ORDER BY object";
    all(conn, PART, sql, [via.as_bytes()], |row| row.get(0).map(ObjectId::new))
}

/// Whether any passed this id.
///
/// # Errors
/// [`StoreError::Read`] of `copies`.
pub fn is_passed(conn: &Connection, via: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM copies WHERE via = ?1 LIMIT 1";
    first(conn, PART, sql, [via.as_bytes()], |_| Ok(())).map(|row| row.is_some())
}

/// Whether what has this id was deleted, by it or by one that it passed.
///
/// # Errors
/// [`StoreError::Read`] of `copies`.
pub fn is_deleted(conn: &Connection, object: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tombstones WHERE object = ?1) OR EXISTS (
                   SELECT 1 FROM copies JOIN tombstones ON tombstones.object = copies.via
                   WHERE copies.object = ?1)";
    one(conn, PART, sql, [object.as_bytes()], |row| row.get(0))
}
