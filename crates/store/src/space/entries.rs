//! Entries: headers as the exact bytes they were, and their leaf hashes.

use larder_log::merkle::Node;
use larder_types::EntryHash;
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::logs::LogId;
use crate::space::sections::{self, NewSection, Place};
use crate::space::transactions::Next;
use crate::sql::{Uint, all, execute, first};

const PART: &str = "entries";

/// An entry to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// Its place in the log; the first is 1.
    pub seq: u64,
    /// Its leaf hash.
    pub hash: &'a EntryHash,
    /// Its header, as the exact bytes it was.
    pub header: &'a [u8],
    /// The nodes of the log's tree that it completes, from its leaf up.
    pub nodes: &'a [Node],
    /// Its sections, in order.
    pub sections: &'a [NewSection<'a>],
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub seq: u64,
    /// Its leaf hash.
    pub hash: EntryHash,
    /// Its header's bytes.
    pub header: Vec<u8>,
}

/// Writes an entry with its sections, as one of the transaction that comes `next`.
/// [`super::transactions::append`] belongs into the same transaction of the database.
///
/// # Errors
/// [`StoreError::Write`] of `entries` or `sections`, of kind constraint if it is there already.
pub fn insert(
    conn: &Connection,
    log: LogId,
    next: &mut Next,
    new: &NewEntry<'_>,
) -> Result<(), StoreError> {
    let first = if new.sections.is_empty() { 0 } else { next.section };
    let inner = new.nodes.iter().filter(|node| node.level > 0);
    let nodes: Vec<u8> = inner.flat_map(|node| *node.hash.as_bytes()).collect();
    let sql = "INSERT INTO entries (log, seq, hash, position, section, sections, nodes, header)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let params = params![
        log,
        Uint(new.seq),
        new.hash.as_bytes(),
        next.position,
        first,
        Uint(new.sections.len() as u64),
        nodes,
        new.header
    ];
    execute(conn, PART, sql, params)?;
    for ((section, index), section_new) in (first..).zip(0..).zip(new.sections) {
        sections::insert(conn, section, Place { log, seq: new.seq, index }, section_new)?;
        next.section = section + 1;
    }
    Ok(())
}

fn row(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get::<_, Uint>(0)?.0,
        hash: EntryHash::new(row.get(1)?),
        header: row.get(2)?,
    })
}

/// One entry.
///
/// # Errors
/// [`StoreError::Read`] of `entries`.
pub fn find(conn: &Connection, log: LogId, seq: u64) -> Result<Option<Entry>, StoreError> {
    let sql = "SELECT seq, hash, header FROM entries WHERE log = ?1 AND seq = ?2";
    first(conn, PART, sql, params![log, Uint(seq)], row)
}

/// One entry's leaf hash: for deps and forks, without reading the header.
///
/// # Errors
/// [`StoreError::Read`] of `entries`.
pub fn hash(conn: &Connection, log: LogId, seq: u64) -> Result<Option<EntryHash>, StoreError> {
    let sql = "SELECT hash FROM entries WHERE log = ?1 AND seq = ?2";
    first(conn, PART, sql, params![log, Uint(seq)], |row| row.get(0).map(EntryHash::new))
}

/// Writes an entry's leaf hash anew: that of its header.
///
/// # Errors
/// [`StoreError::Write`] of `entries`.
pub fn set_hash(
    conn: &Connection,
    log: LogId,
    seq: u64,
    hash: &EntryHash,
) -> Result<(), StoreError> {
    let sql = "UPDATE entries SET hash = ?3 WHERE log = ?1 AND seq = ?2";
    execute(conn, PART, sql, params![log, Uint(seq), hash.as_bytes()]).map(drop)
}

/// Entries `first_seq` to `last_seq` as far as they are held, in order.
///
/// # Errors
/// [`StoreError::Read`] of `entries`.
pub fn range(
    conn: &Connection,
    log: LogId,
    first_seq: u64,
    last_seq: u64,
) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT seq, hash, header FROM entries
               WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq";
    all(conn, PART, sql, params![log, Uint(first_seq), Uint(last_seq)], row)
}
