//! What happened to documents, in the order in which it took effect here.

use larder_types::{Clock, CollectionName, ObjectId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::sections::Place;
use crate::sql::{Uint, all, execute, first, one, parsed};

const PART: &str = "late";

/// A place in that order: how far sections and late effects were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seen {
    /// The last section.
    pub section: i64,
    /// The last late effect.
    pub late: i64,
}

/// Something that happened to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The place behind it.
    pub seen: Seen,
    /// The id that the section names; for a late effect the one that it concerns.
    pub object: ObjectId,
    /// The section that did it; none for a document that moved or was rebuilt.
    pub section: Option<Source>,
    /// The collection of the document or tombstone that has this id now.
    pub collection: Option<CollectionName>,
    /// Whether the id is that of a deleted document.
    pub is_deleted: bool,
    /// Whether the document that has this id now is in the trash.
    pub is_trashed: bool,
}

/// A section that did something to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its number.
    pub section: i64,
    /// Where it stands.
    pub place: Place,
    /// Its kind.
    pub kind: u16,
    /// Its author's clock.
    pub clock: Clock,
}

/// Records an effect that does not follow from the order of sections.
///
/// # Errors
/// [`StoreError::Write`] of `late`.
pub fn add_late(
    conn: &Connection,
    object: &ObjectId,
    section: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO late (after, object, section)
               VALUES ((SELECT coalesce(max(section), 0) FROM sections), ?1, ?2)";
    execute(conn, PART, sql, params![object.as_bytes(), section]).map(drop)
}

/// The place behind all that happened so far, if `section` is the last section that took effect.
///
/// # Errors
/// [`StoreError::Read`] of `late`.
pub fn end(conn: &Connection, section: i64) -> Result<Seen, StoreError> {
    let sql = "SELECT coalesce(max(late), 0) FROM late";
    Ok(Seen { section, late: one(conn, PART, sql, [], |row| row.get(0))? })
}

/// Up to `limit` changes of documents of these kinds behind `seen` and up to `end`, in order. With
/// fewer than `limit` there are no more, and the place behind them is `end`.
///
/// # Errors
/// [`StoreError::Read`] of `sections` or `late`.
pub fn after(
    conn: &Connection,
    seen: Seen,
    end: Seen,
    kinds: (u16, u16),
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    // A tombstone for each band: the lowest is told of, and none beside what lives above it.
    let sql = "SELECT s.object, d.collection, t.collection, t.object IS NOT NULL,
                   s.section, s.log, s.seq, s.idx, s.kind, s.clock_wall, s.clock_count,
                   d.trashed IS NOT NULL
               FROM sections s
               LEFT JOIN documents d ON d.object = s.object
               LEFT JOIN tombstones t ON t.object = s.object AND d.object IS NULL AND t.band =
                   (SELECT min(band) FROM tombstones WHERE object = s.object)
               WHERE s.section > ?1 AND s.section <= ?5
                   AND s.kind BETWEEN ?2 AND ?3 AND s.object IS NOT NULL
                   AND s.state IN (2, 4)
                   AND NOT EXISTS (SELECT 1 FROM late l WHERE l.section = s.section)
               ORDER BY s.section LIMIT ?4";
    let params = params![seen.section, kinds.0, kinds.1, limit, end.section];
    let sections = all(conn, "sections", sql, params, row)?;
    let sql = "SELECT l.object, d.collection, t.collection, t.object IS NOT NULL,
                   s.section, s.log, s.seq, s.idx, s.kind, s.clock_wall, s.clock_count,
                   d.trashed IS NOT NULL, l.late, l.after
               FROM late l
               LEFT JOIN sections s ON s.section = l.section
               LEFT JOIN documents d ON d.object = l.object
               LEFT JOIN tombstones t ON t.object = l.object AND d.object IS NULL AND t.band =
                   (SELECT min(band) FROM tombstones WHERE object = l.object)
               WHERE l.late > ?1 ORDER BY l.late LIMIT ?2";
    let late = all(conn, PART, sql, params![seen.late, limit], |columns| {
        Ok((columns.get::<_, i64>(12)?, columns.get::<_, i64>(13)?, row(columns)?))
    })?;
    let mut merged = Vec::new();
    let mut seen = seen;
    let (mut sections, mut late) = (sections.into_iter().peekable(), late.into_iter().peekable());
    while merged.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
        let after = late.peek().map(|(_, after, _)| *after);
        let number = |change: &Change| change.section.map_or(0, |source| source.section);
        let is_before = |change: &Change| after.is_none_or(|after| number(change) <= after);
        let mut change = if let Some(change) = sections.next_if(is_before) {
            seen.section = number(&change);
            change
        } else if let Some((number, _, change)) = late.next() {
            seen.late = number;
            change
        } else {
            break;
        };
        change.seen = seen;
        merged.push(change);
    }
    Ok(merged)
}

fn row(row: &Row<'_>) -> rusqlite::Result<Change> {
    let name = |column| {
        parsed(row, column, |name: Option<String>| match name {
            Some(name) => name.parse().ok().map(Some),
            None => Some(None),
        })
    };
    let (live, dead): (Option<CollectionName>, Option<CollectionName>) = (name(1)?, name(2)?);
    let section = match row.get::<_, Option<i64>>(4)? {
        Some(section) => Some(Source {
            section,
            place: Place::read(row, 5)?,
            kind: row.get(8)?,
            clock: Clock { wall: Timestamp(row.get::<_, Uint>(9)?.0), count: row.get(10)? },
        }),
        None => None,
    };
    Ok(Change {
        seen: Seen::default(),
        object: ObjectId::new(row.get(0)?),
        section,
        collection: live.or(dead),
        is_deleted: row.get(3)?,
        is_trashed: row.get(11)?,
    })
}

/// The first section that deletes an object, among those that are applied.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn first_of_kind(
    conn: &Connection,
    object: &ObjectId,
    kind: u16,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT section FROM sections WHERE object = ?1 AND kind = ?2 AND state IN (2, 4)
               ORDER BY section LIMIT 1";
    first(conn, "sections", sql, params![object.as_bytes(), kind], |row| row.get(0))
}
