use rusqlite::Connection;

use crate::error::{Part, StoreError};

/// Reads the whole database and checks it: every page that holds anything authenticates, tables
/// and indexes agree, and every reference leads somewhere. Takes as long as reading the file does.
///
/// # Errors
/// [`StoreError::Damaged`] with what is wrong; [`StoreError::Read`].
pub fn check(conn: &Connection) -> Result<(), StoreError> {
    let part = "database";
    let found: String =
        conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).reading(part)?;
    if found != "ok" {
        return Err(StoreError::damaged(part, found));
    }
    let mut broken = conn.prepare("PRAGMA foreign_key_check").reading(part)?;
    let mut broken = broken.query([]).reading(part)?;
    let Some(row) = broken.next().reading(part)? else { return Ok(()) };
    let table: String = row.get(0).reading(part)?;
    Err(StoreError::damaged(part, format!("a row of {table} refers to one that is not there")))
}

/// Builds all indexes of tables anew from the tables.
///
/// # Errors
/// [`StoreError::Write`] of the database.
pub fn rebuild_indexes(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch("REINDEX").writing("database")
}
