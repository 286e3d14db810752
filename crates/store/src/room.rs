//! How much of a database's file is free, and giving that back.

use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Part, StoreError};
use crate::sql::{Uint, one};

const PART: &str = "database";

/// What a database takes on disk once its WAL is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of its file.
    pub bytes: u64,
    /// Of these, bytes of pages that hold nothing.
    pub free: u64,
    /// Whether [`give_back`] can free those: not in a database that keeps no note of what refers
    /// to which page.
    pub can_shrink: bool,
}

/// How much of a database's file is free. Reads one page.
///
/// # Errors
/// [`StoreError::Read`] of the database.
pub fn room(conn: &Connection) -> Result<Room, StoreError> {
    let of = |sql| one(conn, PART, sql, [], |row| row.get::<_, Uint>(0)).map(|value| value.0);
    let page = of("PRAGMA page_size")?;
    Ok(Room {
        bytes: page * of("PRAGMA page_count")?,
        free: page * of("PRAGMA freelist_count")?,
        can_shrink: of("PRAGMA auto_vacuum")? == INCREMENTAL,
    })
}

/// Moves up to `pages` pages from the end of the file to free places, and cuts the file there. The
/// file gets shorter when the WAL is written back.
///
/// # Errors
/// [`StoreError::Write`] of the database.
pub fn give_back(conn: &Connection, pages: u32) -> Result<(), StoreError> {
    let sql = format!("PRAGMA incremental_vacuum({pages})");
    let mut statement = conn.prepare(&sql).writing(PART)?;
    let mut rows = statement.query([]).writing(PART)?;
    // A row for each page.
    while rows.next().writing(PART)?.is_some() {}
    Ok(())
}

/// Writes the whole WAL back into the file, empties it, and lets go of the pages that `conn` keeps
/// in memory, which may have old content in unused room. False: somebody reads from before; who
/// asks again later finds it done.
///
/// # Errors
/// [`StoreError::Write`] of the checkpoint.
pub fn empty_wal(conn: &Connection) -> Result<bool, StoreError> {
    let part = "checkpoint";
    // First what waits for nobody. A database without a WAL says -1 for both.
    let is_whole = |sql| {
        conn.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? == row.get::<_, i64>(2)?))
        })
        .writing(part)
    };
    if !matches!(is_whole("PRAGMA wal_checkpoint(PASSIVE)")?, (0, true)) {
        return Ok(false);
    }
    // This waits for readers, and whoever writes for it.
    conn.busy_timeout(EMPTY_WAIT).writing(part)?;
    let emptied = is_whole("PRAGMA wal_checkpoint(TRUNCATE)");
    conn.busy_timeout(BUSY_WAIT).writing(part)?;
    conn.execute_batch("PRAGMA shrink_memory").writing(part)?;
    Ok(matches!(emptied?, (0, true)))
}

const EMPTY_WAIT: Duration = Duration::from_millis(100);
/// For how long a connection waits for another, as rusqlite opens them.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// As `PRAGMA auto_vacuum` tells it.
const INCREMENTAL: u64 = 2;
