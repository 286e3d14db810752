//! Acts that erase an object, and how far this device is with each.

use larder_types::{EntryHash, ObjectId};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::logs::LogId;
use crate::space::sections::Place;
use crate::sql::{Uint, all, execute, first, one, parsed};

const PART: &str = "erasures";

/// How far this device is with an act of erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its author had no right to it.
    Void,
    /// It has taken effect; the disk may still have something of it.
    Open,
    /// Nothing of it is on this device's disk, and this device has said so.
    Done,
}

impl State {
    const ALL: [Self; 3] = [Self::Void, Self::Open, Self::Done];

    const fn code(self) -> u8 {
        match self {
            Self::Void => 0,
            Self::Open => 1,
            Self::Done => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// An act of erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// Its number in the order in which acts of erasure came.
    pub erasure: i64,
    /// Where it stands.
    pub place: Place,
    /// The entry that holds it.
    pub entry: EntryHash,
    /// What it erases.
    pub object: ObjectId,
    /// How far this device is with it.
    pub stage: State,
}

const COLUMNS: &str = "SELECT erasure, log, seq, idx, entry, object, state FROM erasures";

fn row(row: &Row<'_>) -> rusqlite::Result<Erasure> {
    Ok(Erasure {
        erasure: row.get(0)?,
        place: Place::read(row, 1)?,
        entry: EntryHash::new(row.get(4)?),
        object: ObjectId::new(row.get(5)?),
        stage: parsed(row, 6, State::from_code)?,
    })
}

/// Records an act, once.
///
/// # Errors
/// [`StoreError::Write`] of `erasures`.
pub fn add(
    conn: &Connection,
    place: Place,
    entry: &EntryHash,
    object: &ObjectId,
    state: State,
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO erasures (log, seq, idx, entry, object, state)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Place { log, seq, index } = place;
    let (entry, object) = (entry.as_bytes(), object.as_bytes());
    execute(conn, PART, sql, params![log, Uint(seq), index, entry, object, state.code()]).map(drop)
}

/// Records how far this device is with one.
///
/// # Errors
/// [`StoreError::Write`] of `erasures`.
pub fn set_stage(conn: &Connection, erasure: i64, stage: State) -> Result<(), StoreError> {
    let sql = "UPDATE erasures SET state = ?2 WHERE erasure = ?1";
    execute(conn, PART, sql, params![erasure, stage.code()]).map(drop)
}

/// Something of an erased object came once more: the disk is to be seen to again.
///
/// # Errors
/// [`StoreError::Write`] of `erasures`.
pub fn reopen(conn: &Connection, object: &ObjectId) -> Result<(), StoreError> {
    let sql = "UPDATE erasures SET state = 1 WHERE object = ?1 AND state = 2";
    execute(conn, PART, sql, [object.as_bytes()]).map(drop)
}

/// The acts that erase an object, in order, those that are void too.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn of_object(conn: &Connection, object: &ObjectId) -> Result<Vec<Erasure>, StoreError> {
    let sql = format!("{COLUMNS} WHERE object = ?1 ORDER BY erasure");
    all(conn, PART, &sql, [object.as_bytes()], row)
}

/// Those in entries `first` to `last` of a log.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn of_entries(
    conn: &Connection,
    log: LogId,
    first: u64,
    last: u64,
) -> Result<Vec<Erasure>, StoreError> {
    let sql = format!("{COLUMNS} WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq, idx");
    all(conn, PART, &sql, params![log, Uint(first), Uint(last)], row)
}

/// Up to `limit` of which the disk may still have something, in order.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn open(conn: &Connection, limit: u32) -> Result<Vec<Erasure>, StoreError> {
    let sql = format!("{COLUMNS} WHERE state = 1 ORDER BY erasure LIMIT ?1");
    all(conn, PART, &sql, [limit], row)
}

/// Up to `limit` that are numbered above `after` (0 to begin with), in order.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn page(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Erasure>, StoreError> {
    let sql = format!("{COLUMNS} WHERE erasure > ?1 ORDER BY erasure LIMIT ?2");
    all(conn, PART, &sql, params![after, limit], row)
}

/// The one at a place.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn find(conn: &Connection, place: Place) -> Result<Option<Erasure>, StoreError> {
    let sql = format!("{COLUMNS} WHERE log = ?1 AND seq = ?2 AND idx = ?3");
    first(conn, PART, &sql, params![place.log, Uint(place.seq), place.index], row)
}

/// Whether there is any, void or not.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn any(conn: &Connection) -> Result<bool, StoreError> {
    one(conn, PART, "SELECT EXISTS (SELECT 1 FROM erasures)", [], |row| row.get(0))
}

/// Whether there is one of which the disk may still have something.
///
/// # Errors
/// [`StoreError::Read`] of `erasures`.
pub fn any_open(conn: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erasures WHERE state = 1)";
    one(conn, PART, sql, [], |row| row.get(0))
}
