//! The devices' logs and their Merkle trees.

use larder_log::merkle::{Frontier, Node, Nodes};
use larder_types::{DeviceId, Hash, canonical};
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, decoded, execute, first, one};

const PART: &str = "logs";

/// An encoded frontier: a size and at most 64 hashes.
const FRONTIER_BYTES_MAX: usize = 4096;

/// A device's log, by the number it has in this database alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(i64);

impl LogId {
    /// The number as it is stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl ToSql for LogId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for LogId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// A log as far as it is held here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its local number.
    pub log: LogId,
    /// Its device.
    pub device: DeviceId,
    /// Its tree's end: size, root, and what it takes to append.
    pub frontier: Frontier,
    /// Evidence of a fork, which stopped it.
    pub stopped: Option<Vec<u8>>,
}

const COLUMNS: &str = "SELECT log, device, frontier, stopped FROM logs";

fn row(row: &Row<'_>) -> rusqlite::Result<Log> {
    Ok(Log {
        log: row.get(0)?,
        device: DeviceId::new(row.get(1)?),
        frontier: decoded(row, 2, FRONTIER_BYTES_MAX)?,
        stopped: row.get(3)?,
    })
}

/// Adds an empty log, unless it is there; returns it in either case.
///
/// # Errors
/// [`StoreError::Write`] or [`StoreError::Read`] of `logs`.
pub fn find_or_add(conn: &Connection, device: &DeviceId) -> Result<Log, StoreError> {
    if let Some(log) = find(conn, device)? {
        return Ok(log);
    }
    let frontier = Frontier::new();
    let sql = "INSERT INTO logs (device, size, frontier) VALUES (?1, 0, ?2)";
    execute(conn, PART, sql, params![device.as_bytes(), canonical::encode(&frontier)])?;
    Ok(Log { log: LogId(conn.last_insert_rowid()), device: *device, frontier, stopped: None })
}

/// A device's log.
///
/// # Errors
/// [`StoreError::Read`] of `logs`.
pub fn find(conn: &Connection, device: &DeviceId) -> Result<Option<Log>, StoreError> {
    first(conn, PART, &format!("{COLUMNS} WHERE device = ?1"), [device.as_bytes()], row)
}

/// The log with this local number.
///
/// # Errors
/// [`StoreError::Read`] of `logs`, also if there is none.
pub fn by_number(conn: &Connection, log: LogId) -> Result<Log, StoreError> {
    one(conn, PART, &format!("{COLUMNS} WHERE log = ?1"), [log], row)
}

/// All logs, in the order in which they came to be known here: the frontier of this device.
///
/// # Errors
/// [`StoreError::Read`] of `logs`.
pub fn every(conn: &Connection) -> Result<Vec<Log>, StoreError> {
    all(conn, PART, &format!("{COLUMNS} ORDER BY log"), [], row)
}

/// Writes an inner node anew, unless its entry is gone. Those below it that end with the same entry
/// come first.
///
/// # Errors
/// [`StoreError::Read`] or [`StoreError::Write`] of `entries`.
pub fn set_node(conn: &Connection, log: LogId, node: &Node) -> Result<(), StoreError> {
    let Some((seq, at)) = place_of(node.level, node.index) else { return Ok(()) };
    let sql = "SELECT nodes FROM entries WHERE log = ?1 AND seq = ?2";
    let found = first(conn, "entries", sql, params![log, seq], |row| row.get(0))?;
    let Some(mut nodes): Option<Vec<u8>> = found else { return Ok(()) };
    let at = usize::try_from(at.0).unwrap_or(usize::MAX);
    let mut above = nodes.split_off(at.min(nodes.len()));
    nodes.extend(node.hash.as_bytes());
    nodes.extend(above.drain(above.len().min(32)..));
    let sql = "UPDATE entries SET nodes = ?3 WHERE log = ?1 AND seq = ?2";
    execute(conn, "entries", sql, params![log, seq, nodes]).map(drop)
}

/// The entry that completes an inner node, and how many bytes of `entries.nodes` come before it.
fn place_of(level: u8, index: u64) -> Option<(Uint, Uint)> {
    let below = level.checked_sub(1)?;
    let seq = index.checked_add(1)?.checked_mul(1_u64.checked_shl(u32::from(level))?)?;
    Some((Uint(seq), Uint(u64::from(below) * 32)))
}

/// Writes a log's end anew.
///
/// # Errors
/// [`StoreError::Write`] of `logs`.
pub fn set_frontier(conn: &Connection, log: LogId, frontier: &Frontier) -> Result<(), StoreError> {
    let sql = "UPDATE logs SET size = ?2, frontier = ?3 WHERE log = ?1";
    let params = params![log, Uint(frontier.size()), canonical::encode(frontier)];
    execute(conn, PART, sql, params).map(drop)
}

/// What the space's writer keeps beside the end of its own log; `None` if it has kept nothing yet.
///
/// # Errors
/// [`StoreError::Read`] of `logs`.
pub fn kept(conn: &Connection, log: LogId) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT writer FROM logs WHERE log = ?1";
    first(conn, PART, sql, [log], |row| row.get(0)).map(Option::flatten)
}

/// Keeps that.
///
/// # Errors
/// [`StoreError::Write`] of `logs`.
pub fn keep(conn: &Connection, log: LogId, state: &[u8]) -> Result<(), StoreError> {
    let sql = "UPDATE logs SET writer = ?2 WHERE log = ?1";
    execute(conn, PART, sql, params![log, state]).map(drop)
}

/// Stops a log for good, with the evidence of its fork, which takes the place of what there was.
///
/// # Errors
/// [`StoreError::Write`] of `logs`.
pub fn stop(conn: &Connection, log: LogId, evidence: &[u8]) -> Result<(), StoreError> {
    let sql = "UPDATE logs SET stopped = ?2 WHERE log = ?1";
    execute(conn, PART, sql, params![log, evidence]).map(drop)
}

/// The nodes of a log's tree, for roots and proofs at any size up to the log's.
#[derive(Clone, Copy)]
pub struct Tree<'c> {
    conn: &'c Connection,
    log: LogId,
}

impl<'c> Tree<'c> {
    /// The tree of `log`.
    pub const fn new(conn: &'c Connection, log: LogId) -> Self {
        Self { conn, log }
    }
}

impl Nodes for Tree<'_> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let read = |row: &Row<'_>| row.get(0).map(Hash::new);
        let found = if level == 0 {
            let sql = "SELECT hash FROM entries WHERE log = ?1 AND seq = ?2";
            let params = params![self.log, Uint(index.saturating_add(1))];
            first(self.conn, "entries", sql, params, read)?
        } else if let Some((seq, at)) = place_of(level, index) {
            let sql = "SELECT substr(nodes, ?3 + 1, 32) FROM entries
                       WHERE log = ?1 AND seq = ?2 AND length(nodes) >= ?3 + 32";
            first(self.conn, "entries", sql, params![self.log, seq, at], read)?
        } else {
            None
        };
        found.ok_or_else(|| {
            let log = self.log.get();
            StoreError::damaged("entries", format!("log {log} has no node {level}/{index}"))
        })
    }
}
