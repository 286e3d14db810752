//! Deleted objects, band by band. They never come back.

use larder_log::Band;
use larder_types::{Clock, CollectionName, DeviceId, ObjectId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, execute, first, number_of, one, parsed};

const PART: &str = "tombstones";

/// The deletion of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// What was deleted.
    pub object: ObjectId,
    /// In which band: an object with the same id in another is another one.
    pub band: Band,
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
    "SELECT object, collection, clock_wall, clock_count, device, seq, idx, band FROM tombstones";

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
        band: parsed(row, 7, Band::from_u8)?,
    })
}

/// Records a deletion. Of several for one object in one band the first by (clock, device, seq,
/// index) is kept, of those that erase it if there are any: so that every device keeps the same
/// one, in whatever order they come.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn put(conn: &Connection, tombstone: &Tombstone) -> Result<(), StoreError> {
    let sql = "INSERT INTO tombstones
                   (object, collection, clock_wall, clock_count, device, seq, idx, band)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (object, band) DO UPDATE SET
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
        tombstone.band as u8,
    ];
    execute(conn, PART, sql, params).map(drop)
}

/// Forgets the deletions of an object in the bands up to one, to be found again in the log.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn forget(conn: &Connection, object: &ObjectId, up_to: Band) -> Result<(), StoreError> {
    let sql = "DELETE FROM tombstones WHERE object = ?1 AND band <= ?2";
    execute(conn, PART, sql, params![object.as_bytes(), up_to as u8]).map(drop)
}

/// Forgets the deletion of an object in one band.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn forget_in(conn: &Connection, object: &ObjectId, band: Band) -> Result<(), StoreError> {
    let sql = "DELETE FROM tombstones WHERE object = ?1 AND band = ?2";
    execute(conn, PART, sql, params![object.as_bytes(), band as u8]).map(drop)
}

/// Forgets that an object was erased, in the bands above one if there is one.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn forget_erased(
    conn: &Connection,
    object: &ObjectId,
    above: Option<Band>,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM tombstones WHERE object = ?1 AND band > ?2 AND collection IS NULL";
    let above = number_of(above);
    execute(conn, PART, sql, params![object.as_bytes(), above]).map(drop)
}

/// Forgets all deletions in the bands above one, or in all.
///
/// # Errors
/// [`StoreError::Write`] of `tombstones`.
pub fn forget_above(conn: &Connection, above: Option<Band>) -> Result<(), StoreError> {
    let above = number_of(above);
    let sql = "DELETE FROM tombstones WHERE band > ?1 AND collection IS NOT NULL";
    execute(conn, PART, sql, [above]).map(drop)
}

/// The deletions of one object, by band.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn of_object(conn: &Connection, object: &ObjectId) -> Result<Vec<Tombstone>, StoreError> {
    let sql = format!("{COLUMNS} WHERE object = ?1 ORDER BY band");
    all(conn, PART, &sql, [object.as_bytes()], row)
}

/// Whether there is any.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn any(conn: &Connection) -> Result<bool, StoreError> {
    one(conn, PART, "SELECT EXISTS (SELECT 1 FROM tombstones)", [], |row| row.get(0))
}

/// Whether an object was deleted in any band.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn contains(conn: &Connection, object: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM tombstones WHERE object = ?1";
    first(conn, PART, sql, [object.as_bytes()], |_| Ok(())).map(|found| found.is_some())
}

/// Whether an object was deleted in this band.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn contains_in(conn: &Connection, object: &ObjectId, band: Band) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM tombstones WHERE object = ?1 AND band = ?2";
    first(conn, PART, sql, params![object.as_bytes(), band as u8], |_| Ok(()))
        .map(|found| found.is_some())
}

/// The highest band in which an object was erased; it was in all below it as well.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn erased_up_to(conn: &Connection, object: &ObjectId) -> Result<Option<Band>, StoreError> {
    let sql = "SELECT band FROM tombstones WHERE object = ?1 AND collection IS NULL
               ORDER BY band DESC LIMIT 1";
    first(conn, PART, sql, [object.as_bytes()], |row| parsed(row, 0, Band::from_u8))
}

/// Up to `limit` deletions, by object and band, after the one named.
///
/// # Errors
/// [`StoreError::Read`] of `tombstones`.
pub fn page(
    conn: &Connection,
    after: Option<(ObjectId, Band)>,
    limit: u32,
) -> Result<Vec<Tombstone>, StoreError> {
    let sql = format!("{COLUMNS} WHERE (object, band) > (?1, ?2) ORDER BY object, band LIMIT ?3");
    let (object, band) = after
        .as_ref()
        .map_or((&[][..], Band::Green), |(object, band)| (object.as_bytes().as_slice(), *band));
    all(conn, PART, &sql, params![object, band as u8, limit], row)
}
