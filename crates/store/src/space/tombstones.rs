//! Deleted objects. They never come back.

use larder_types::{Clock, CollectionName, DeviceId, ObjectId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, execute, first, one, parsed};

const PART: &str = "tombstones";

/// The deletion of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// What was deleted.
    pub object: ObjectId,
    /// Where it had been. None: it is erased.
    pub collection: Option<CollectionName>,
    /// When, as its author's clock claimed.
    pub clock: Clock,
    /// Its author.
    pub device: DeviceId,
    /// Its entry in the author's log.
    pub seq: u64,
    /// Its section in that entry.
    pub index: u32,
}

const COLUMNS: &str =
    "SELECT object, collection, clock_wall, clock_count, device, seq, idx FROM tombstones";

fn row(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    let collection = |name: Option<String>| match name {
        Some(name) => name.parse().ok().map(Some),
        None => Some(None),
    };
    Ok(Tombstone {
        object: ObjectId::new(row.get(0)?),
        collection: parsed(row, 1, collection)?,
        clock: Clock { wall: Timestamp(row.get::<_, Uint>(2)?.0), count: row.get(3)? },
        device: DeviceId::new(row.get(4)?),
        seq: row.get::<_, Uint>(5)?.0,
        index: row.get(6)?,
    })
}

/// Records a deletion. Of several for one object the first by (clock, device, seq, index) is kept,
/// of those that erase it if there are any: so that every device keeps the same one, in whatever
/// order they come.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn put(conn: &Connection, tombstone: &Tombstone) -> Result<(), StoreError> {
    let sql = "INSERT INTO tombstones
                   (object, collection, clock_wall, clock_count, device, seq, idx)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (object) DO UPDATE SET
                   collection = excluded.collection,
                   clock_wall = excluded.clock_wall,
                   clock_count = excluded.clock_count,
                   device = excluded.device,
                   seq = excluded.seq,
                   idx = excluded.idx
               WHERE (excluded.collection IS NOT NULL, excluded.clock_wall,
                      excluded.clock_count, excluded.device, excluded.seq, excluded.idx)
                   < (tombstones.collection IS NOT NULL, tombstones.clock_wall,
                      tombstones.clock_count, tombstones.device, tombstones.seq,
                      tombstones.idx)";
    let params = params![
        tombstone.object.as_bytes(),
        tombstone.collection.as_ref().map(CollectionName::as_str),
        Uint(tombstone.clock.wall.0),
        tombstone.clock.count,
        tombstone.device.as_bytes(),
        Uint(tombstone.seq),
        tombstone.index,
    ];
    execute(conn, PART, sql, params).map(drop)
}

/// Forgets a deletion, to be found again in the log.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn forget(conn: &Connection, object: &ObjectId) -> Result<(), StoreError> {
    execute(conn, PART, "DELETE FROM tombstones WHERE object = ?1", [object.as_bytes()]).map(drop)
}

/// The deletion of one object.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn find(conn: &Connection, object: &ObjectId) -> Result<Option<Tombstone>, StoreError> {
    first(conn, PART, &format!("{COLUMNS} WHERE object = ?1"), [object.as_bytes()], row)
}

/// Whether there is any.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn any(conn: &Connection) -> Result<bool, StoreError> {
    one(conn, PART, "SELECT EXISTS (SELECT 1 FROM tombstones)", [], |row| row.get(0))
}

/// Whether an object was deleted.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn contains(conn: &Connection, object: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM tombstones WHERE object = ?1";
    first(conn, PART, sql, [object.as_bytes()], |_| Ok(())).map(|found| found.is_some())
}

/// Whether an object was erased.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn is_erased(conn: &Connection, object: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM tombstones WHERE object = ?1 AND collection IS NULL";
    first(conn, PART, sql, [object.as_bytes()], |_| Ok(())).map(|found| found.is_some())
}

/// Up to `limit` deletions, by object, after the one named.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn page(
    conn: &Connection,
    after: Option<&ObjectId>,
    limit: u32,
) -> Result<Vec<Tombstone>, StoreError> {
    let sql = format!("{COLUMNS} WHERE object > ?1 ORDER BY object LIMIT ?2");
    let after: &[u8] = after.map_or(&[], |object| object.as_bytes());
    all(conn, PART, &sql, params![after, limit], row)
}
