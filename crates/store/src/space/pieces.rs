//! Documents of a snapshot that comes in which are too large to come at once, and of one that is
//! kept for others.
//!
//! Invariants: of what comes in, a piece is kept only if what is here already names it, so that
//! whoever sends pieces cannot make more of them than the document has; which comes next follows
//! from the document alone.

use larder_log::Band;
use larder_types::{Hash, ObjectId};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::snapshots::{Key, State};
use crate::sql::{Uint, all, execute, first, number_of, one};

const PART: &str = "fetched";
const PIECES: &str = "pieces";
const NAMES: &str = "piece_names";

/// A document of which some pieces are here: its first value, then changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// The local number.
    pub fetched: i64,
    /// How many pieces are here.
    pub pieces: u64,
}

fn row(row: &Row<'_>) -> rusqlite::Result<Fetched> {
    Ok(Fetched { fetched: row.get(0)?, pieces: row.get::<_, Uint>(1)?.0 })
}

/// What is here of a leaf's document, if it has begun to come in.
///
/// # Errors
/// [`StoreError::Read`] of `fetched`.
pub fn find(conn: &Connection, snapshot: i64, key: &Key) -> Result<Option<Fetched>, StoreError> {
    let sql = "SELECT fetched, pieces FROM fetched
               WHERE snapshot = ?1 AND band = ?2 AND object = ?3 AND generation = ?4";
    let params = params![snapshot, key.0 as u8, key.1.as_bytes(), key.2.as_bytes()];
    first(conn, PART, sql, params, row)
}

/// Begins a leaf's document with its first value. `root` is the change that stands for it, which
/// is no piece; `heads` are the first to be named.
///
/// # Errors
/// [`StoreError::Write`] of `fetched`, `pieces` or `piece_names`.
pub fn begin(
    conn: &Connection,
    snapshot: i64,
    key: &Key,
    value: &[u8],
    root: &Hash,
    heads: &[Hash],
) -> Result<Fetched, StoreError> {
    let sql = "INSERT INTO fetched (snapshot, band, object, generation, pieces)
               VALUES (?1, ?2, ?3, ?4, 0)";
    let params = params![snapshot, key.0 as u8, key.1.as_bytes(), key.2.as_bytes()];
    execute(conn, PART, sql, params)?;
    let begun = Fetched { fetched: conn.last_insert_rowid(), pieces: 0 };
    keep(conn, begun, root, heads, value)
}

/// Keeps all pieces of a leaf's document, which go with the snapshot. Nothing if some are here.
///
/// # Errors
/// [`StoreError::Write`] of `fetched` or `pieces`.
pub fn keep_all(
    conn: &Connection,
    snapshot: i64,
    key: &Key,
    all: &[Vec<u8>],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO fetched (snapshot, band, object, generation, pieces)
               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    let (band, count) = (key.0 as u8, Uint(all.len() as u64));
    let params = params![snapshot, band, key.1.as_bytes(), key.2.as_bytes(), count];
    if execute(conn, PART, sql, params)? == 0 {
        return Ok(());
    }
    let fetched = conn.last_insert_rowid();
    let sql = "INSERT INTO pieces (fetched, piece, bytes) VALUES (?1, ?2, ?3)";
    for (piece, bytes) in (0..).zip(all) {
        execute(conn, PIECES, sql, params![fetched, Uint(piece), bytes])?;
    }
    Ok(())
}

/// How many documents of a snapshot have pieces here.
///
/// # Errors
/// [`StoreError::Read`] of `fetched`.
pub fn count_of(conn: &Connection, snapshot: i64) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM fetched WHERE snapshot = ?1";
    one(conn, PART, sql, [snapshot], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// The change that comes next: of those that are named and not here that with the lowest hash.
/// None: all of the document is here.
///
/// # Errors
/// [`StoreError::Read`] of `piece_names`.
pub fn next(conn: &Connection, of: Fetched) -> Result<Option<Hash>, StoreError> {
    let sql = "SELECT hash FROM piece_names WHERE fetched = ?1 AND is_here = 0
               ORDER BY hash LIMIT 1";
    first(conn, NAMES, sql, [of.fetched], |row| row.get(0).map(Hash::new))
}

/// Keeps the next change, which names `deps`.
///
/// # Errors
/// [`StoreError::Write`] of `fetched`, `pieces` or `piece_names`.
pub fn keep(
    conn: &Connection,
    of: Fetched,
    hash: &Hash,
    deps: &[Hash],
    bytes: &[u8],
) -> Result<Fetched, StoreError> {
    let Fetched { fetched, pieces } = of;
    let sql = "INSERT INTO pieces (fetched, piece, bytes) VALUES (?1, ?2, ?3)";
    execute(conn, PIECES, sql, params![fetched, Uint(pieces), bytes])?;
    let sql = "INSERT INTO piece_names (fetched, hash, is_here) VALUES (?1, ?2, 1)
               ON CONFLICT (fetched, hash) DO UPDATE SET is_here = 1";
    execute(conn, NAMES, sql, params![fetched, hash.as_bytes()])?;
    let sql = "INSERT INTO piece_names (fetched, hash, is_here) VALUES (?1, ?2, 0)
               ON CONFLICT (fetched, hash) DO NOTHING";
    for dep in deps {
        execute(conn, NAMES, sql, params![fetched, dep.as_bytes()])?;
    }
    let pieces = pieces + 1;
    let sql = "UPDATE fetched SET pieces = ?2 WHERE fetched = ?1";
    execute(conn, PART, sql, params![fetched, Uint(pieces)])?;
    Ok(Fetched { fetched, pieces })
}

/// All pieces that are here, in order: the first value, then changes. They take as much memory as
/// the document has bytes.
///
/// # Errors
/// [`StoreError::Read`] of `pieces`.
pub fn every(conn: &Connection, of: Fetched) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT bytes FROM pieces WHERE fetched = ?1 ORDER BY piece";
    all(conn, PIECES, sql, [of.fetched], |row| row.get(0))
}

/// Removes what is here of a leaf's document.
///
/// # Errors
/// [`StoreError::Write`] of `fetched`, `pieces` or `piece_names`.
pub fn remove(conn: &Connection, of: Fetched) -> Result<(), StoreError> {
    execute(conn, PIECES, "DELETE FROM pieces WHERE fetched = ?1", [of.fetched])?;
    execute(conn, NAMES, "DELETE FROM piece_names WHERE fetched = ?1", [of.fetched])?;
    execute(conn, PART, "DELETE FROM fetched WHERE fetched = ?1", [of.fetched]).map(drop)
}

/// Removes what is here of all documents of a snapshot.
///
/// # Errors
/// As [`remove`].
pub fn remove_of(conn: &Connection, snapshot: i64) -> Result<(), StoreError> {
    let sql = "SELECT fetched, pieces FROM fetched WHERE snapshot = ?1";
    all(conn, PART, sql, [snapshot], row)?.into_iter().try_for_each(|of| remove(conn, of))
}

/// Removes what is here of all documents that were created under an id in a band.
///
/// # Errors
/// As [`remove`].
pub fn remove_of_object(
    conn: &Connection,
    object: &ObjectId,
    band: Band,
) -> Result<(), StoreError> {
    let sql = "SELECT fetched, pieces FROM fetched WHERE object = ?1 AND band = ?2";
    let all = all(conn, PART, sql, params![object.as_bytes(), band as u8], row)?;
    all.into_iter().try_for_each(|of| remove(conn, of))
}

/// Removes what is here of all documents of the bands above one, or of all, but for what is kept
/// for others.
///
/// # Errors
/// As [`remove`].
pub fn remove_above(conn: &Connection, above: Option<Band>) -> Result<(), StoreError> {
    let above = number_of(above);
    let sql = "SELECT fetched, pieces FROM fetched JOIN snapshots USING (snapshot)
               WHERE band > ?1 AND state <> ?2";
    let params = params![above, State::Kept.code()];
    let all = all(conn, PART, sql, params, row)?;
    all.into_iter().try_for_each(|of| remove(conn, of))
}
