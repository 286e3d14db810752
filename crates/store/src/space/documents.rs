//! Live documents: their current JSON, and the Automerge history behind it.
//!
//! Reading a document reads no history: that is in a table of its own, and in parts, so that an
//! edit adds to it what is new and no more.

use larder_log::Band;
use larder_types::{Clock, CollectionName, EntryHash, ObjectId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::{Part, StoreError};
use crate::space::blobs;
use crate::space::logs::LogId;
use crate::sql::{Uint, all, cached, execute, first, number_of, one, parsed};

const PART: &str = "documents";

/// Which entry did something to a document, and when its author claimed that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The author's log.
    pub log: LogId,
    /// The entry.
    pub seq: u64,
    /// The author's clock.
    pub clock: Clock,
}

/// A live document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its local number, by which the search indexes name it.
    pub document: i64,
    /// Its id.
    pub object: ObjectId,
    /// Its collection.
    pub collection: CollectionName,
    /// Its lineage.
    pub generation: EntryHash,
    /// Its creation.
    pub created: Stamp,
    /// Its last change in the order of this device.
    pub updated: Stamp,
    /// Encoded heads of its history.
    pub heads: Vec<u8>,
    /// Its current value as JSON.
    pub json: String,
    /// Since when it is in the trash, as who put it there claims; none if it is not.
    pub trashed: Option<Timestamp>,
    /// How sensitive it is.
    pub band: Band,
}

/// A document to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewDocument<'a> {
    /// Its id.
    pub object: &'a ObjectId,
    /// Its collection.
    pub collection: &'a CollectionName,
    /// Its lineage.
    pub generation: &'a EntryHash,
    /// Its creation; kept from before if the document is there already.
    pub created: Stamp,
    /// Its last change.
    pub updated: Stamp,
    /// Encoded heads of its history.
    pub heads: &'a [u8],
    /// Its current value as JSON.
    pub json: &'a str,
    /// Since when it is in the trash; none if it is not.
    pub trashed: Option<Timestamp>,
    /// How sensitive it is; kept from before if the document is there already.
    pub band: Band,
    /// Its history.
    pub history: History<'a>,
}

/// Which documents are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are not in the trash.
    Shown,
    /// Those that are.
    Trashed,
    /// All.
    All,
}

impl Which {
    /// By which index they are found: those in the trash by theirs.
    const fn index(self, of_trash: &'static str) -> &'static str {
        match self {
            Self::Trashed => of_trash,
            Self::Shown | Self::All => "",
        }
    }

    pub(crate) const fn condition(self) -> &'static str {
        match self {
            Self::Shown => "trashed IS NULL",
            Self::Trashed => "trashed IS NOT NULL",
            Self::All => "TRUE",
        }
    }
}

/// What becomes of what is stored of a document's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History<'a> {
    /// There is none before the first edit.
    None,
    /// It is this, in place of what is there.
    Whole(&'a [u8]),
    /// This follows on what is there.
    More(&'a [u8]),
}

const COLUMNS: &str = "SELECT document, object, collection, generation,
    created_log, created_seq, created_wall, created_count,
    updated_log, updated_seq, updated_wall, updated_count, heads, json, trashed, band
    FROM documents";

fn stamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        log: row.get(column)?,
        seq: row.get::<_, Uint>(column + 1)?.0,
        clock: Clock {
            wall: Timestamp(row.get::<_, Uint>(column + 2)?.0),
            count: row.get(column + 3)?,
        },
    })
}

fn row(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        document: row.get(0)?,
        object: ObjectId::new(row.get(1)?),
        collection: parsed(row, 2, |name: String| name.parse().ok())?,
        generation: EntryHash::new(row.get(3)?),
        created: stamp(row, 4)?,
        updated: stamp(row, 8)?,
        heads: row.get(12)?,
        json: row.get(13)?,
        trashed: row.get::<_, Option<Uint>>(14)?.map(|ms| Timestamp(ms.0)),
        band: parsed(row, 15, Band::from_u8)?,
    })
}

/// Writes a document, new or changed. Returns its local number.
///
/// # Errors
/// [`StoreError::Write`] of `documents`, `histories` or `blob_names`.
pub fn put(conn: &Connection, new: &NewDocument<'_>) -> Result<i64, StoreError> {
    // Not an upsert: that makes SQLite open a savepoint for each row, a quarter of all the work of
    // writing small documents.
    let sql = "UPDATE documents SET collection = ?2, generation = ?3, updated_log = ?4,
                   updated_seq = ?5, updated_wall = ?6, updated_count = ?7, heads = ?8, json = ?9,
                   trashed = ?10
               WHERE object = ?1";
    let params = params![
        new.object.as_bytes(),
        new.collection.as_str(),
        new.generation.as_bytes(),
        new.updated.log,
        Uint(new.updated.seq),
        Uint(new.updated.clock.wall.0),
        new.updated.clock.count,
        new.heads,
        new.json,
        new.trashed.map(|since| Uint(since.0)),
    ];
    if execute(conn, PART, sql, params)? == 0 {
        return insert(conn, new);
    }
    let sql = "SELECT document FROM documents WHERE object = ?1";
    let document = one(conn, PART, sql, [new.object.as_bytes()], |row| row.get(0))?;
    if new.history == History::None {
        forget_history(conn, document)?;
    }
    add_history(conn, document, new.history)?;
    blobs::name(conn, document, new.json, false)?;
    Ok(document)
}

/// Writes a document that is not there yet. Returns its local number, which is above all those that
/// are there and those that the search indexes still hold.
///
/// # Errors
/// [`StoreError::Write`] of `documents`, of kind constraint if it is there.
pub fn insert(conn: &Connection, new: &NewDocument<'_>) -> Result<i64, StoreError> {
    let sql = "INSERT INTO documents (document, object, collection, generation,
                   created_log, created_seq, created_wall, created_count,
                   updated_log, updated_seq, updated_wall, updated_count, heads, json, trashed,
                   band)
               VALUES (
                   1 + max((SELECT coalesce(max(document), 0) FROM documents),
                           (SELECT coalesce(max(document), 0) FROM unindexed)),
                   ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                   ?15)";
    let params = params![
        new.object.as_bytes(),
        new.collection.as_str(),
        new.generation.as_bytes(),
        new.created.log,
        Uint(new.created.seq),
        Uint(new.created.clock.wall.0),
        new.created.clock.count,
        new.updated.log,
        Uint(new.updated.seq),
        Uint(new.updated.clock.wall.0),
        new.updated.clock.count,
        new.heads,
        new.json,
        new.trashed.map(|since| Uint(since.0)),
        new.band as u8,
    ];
    execute(conn, PART, sql, params)?;
    let document = conn.last_insert_rowid();
    add_history(conn, document, new.history)?;
    blobs::name(conn, document, new.json, true)?;
    Ok(document)
}

fn add_history(conn: &Connection, document: i64, history: History<'_>) -> Result<(), StoreError> {
    let bytes = match history {
        History::None => return Ok(()),
        History::Whole(bytes) => {
            forget_history(conn, document)?;
            bytes
        }
        History::More(bytes) => bytes,
    };
    let sql = "INSERT INTO histories (document, part, bytes)
               SELECT ?1, 1 + coalesce(max(part), -1), ?2 FROM histories WHERE document = ?1";
    execute(conn, HISTORIES, sql, params![document, bytes]).map(drop)
}

fn forget_history(conn: &Connection, document: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM histories WHERE document = ?1";
    execute(conn, HISTORIES, sql, [document]).map(drop)
}

const HISTORIES: &str = "histories";

/// Removes a document. Returns the local number it had, or `None` if there was none.
///
/// # Errors
/// [`StoreError::Write`] of `documents`.
pub fn remove(conn: &Connection, object: &ObjectId) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT document FROM documents WHERE object = ?1";
    let found = first(conn, PART, sql, [object.as_bytes()], |row| row.get(0))?;
    if let Some(document) = found {
        execute(conn, PART, "DELETE FROM documents WHERE document = ?1", [document])?;
        forget_history(conn, document)?;
        blobs::unname(conn, document)?;
    }
    Ok(found)
}

/// Gives a document another local number, which no document has: the indexes know it by that.
///
/// # Errors
/// [`StoreError::Write`] of `documents`, `histories` or `blob_names`.
pub fn renumber(conn: &Connection, from: i64, to: i64) -> Result<(), StoreError> {
    let sql = "UPDATE documents SET document = ?2 WHERE document = ?1";
    execute(conn, PART, sql, params![from, to])?;
    let sql = "UPDATE histories SET document = ?2 WHERE document = ?1";
    execute(conn, HISTORIES, sql, params![from, to])?;
    let sql = "UPDATE blob_names SET document = ?2 WHERE document = ?1";
    execute(conn, "blob_names", sql, params![from, to]).map(drop)
}

/// Gives a document another id, which no document has.
///
/// # Errors
/// [`StoreError::Write`] of `documents`, of kind constraint if one has it.
pub fn rename(conn: &Connection, document: i64, object: &ObjectId) -> Result<(), StoreError> {
    let sql = "UPDATE documents SET object = ?2 WHERE document = ?1";
    execute(conn, PART, sql, params![document, object.as_bytes()]).map(drop)
}

/// The document with this id.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn find(conn: &Connection, object: &ObjectId) -> Result<Option<Document>, StoreError> {
    first(conn, PART, &format!("{COLUMNS} WHERE object = ?1"), [object.as_bytes()], row)
}

/// Up to `limit` documents of the bands above one, or of all.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn above(
    conn: &Connection,
    above: Option<Band>,
    limit: u32,
) -> Result<Vec<Document>, StoreError> {
    let above = number_of(above);
    let sql = format!("{COLUMNS} WHERE band > ?1 ORDER BY document LIMIT ?2");
    all(conn, PART, &sql, params![above, limit], row)
}

/// The document with this local number.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn by_number(conn: &Connection, document: i64) -> Result<Option<Document>, StoreError> {
    first(conn, PART, &format!("{COLUMNS} WHERE document = ?1"), [document], row)
}

/// At most `limit` documents, those numbered last.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn newest(conn: &Connection, limit: u32) -> Result<Vec<Document>, StoreError> {
    all(conn, PART, &format!("{COLUMNS} ORDER BY document DESC LIMIT ?1"), [limit], row)
}

/// A document's history, if it has one: its parts one behind the other.
///
/// # Errors
/// [`StoreError::Read`] of `histories`.
pub fn history(conn: &Connection, document: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT bytes FROM histories WHERE document = ?1 ORDER BY part";
    let parts: Vec<Vec<u8>> = all(conn, HISTORIES, sql, [document], |row| row.get(0))?;
    Ok(if parts.is_empty() { None } else { Some(parts.concat()) })
}

/// The documents of a collection whose top-level string `path` is this one and that are not in the
/// trash, oldest here first.
/// Two devices that imported one file while apart made two.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn by_path(
    conn: &Connection,
    collection: &CollectionName,
    path: &str,
) -> Result<Vec<Document>, StoreError> {
    let sql = format!(
        "{COLUMNS} WHERE collection = ?1 AND path = ?2 AND trashed IS NULL ORDER BY document"
    );
    all(conn, PART, &sql, params![collection.as_str(), path], row)
}

/// Up to `limit` of these documents, of one collection or of all and up to a band, by local number
/// after `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn page(
    conn: &Connection,
    (which, collection, up_to): (Which, Option<&CollectionName>, Band),
    after: i64,
    limit: u32,
) -> Result<Vec<Document>, StoreError> {
    let condition = which.condition();
    if let Some(collection) = collection {
        let sql = format!(
            "{COLUMNS} {} WHERE collection = ?1 AND document > ?2 AND {condition}
                 AND band <= ?4 ORDER BY document LIMIT ?3",
            which.index("INDEXED BY documents_trashed_of"),
        );
        all(conn, PART, &sql, params![collection.as_str(), after, limit, up_to as u8], row)
    } else {
        // Not "> ?1", which begins on the page of the one before: that may be damaged.
        let sql = format!(
            "{COLUMNS} {} WHERE document >= ?1 + 1 AND {condition} AND band <= ?3
             ORDER BY document LIMIT ?2",
            which.index("INDEXED BY documents_trashed"),
        );
        all(conn, PART, &sql, params![after, limit, up_to as u8], row)
    }
}

/// Calls `visit` with every document, of one collection or of all, by local number; one at a time,
/// so that memory does not grow with their number.
///
/// # Errors
/// What `visit` returns, which ends the walk; [`StoreError::Read`] of `documents`.
pub fn each<E: From<StoreError>>(
    conn: &Connection,
    collection: Option<&CollectionName>,
    mut visit: impl FnMut(Document) -> Result<(), E>,
) -> Result<(), E> {
    let (sql, name) = match collection {
        Some(collection) => {
            (format!("{COLUMNS} WHERE collection = ?1 ORDER BY document"), collection.as_str())
        }
        None => (format!("{COLUMNS} WHERE ?1 = '' ORDER BY document"), ""),
    };
    let mut statement = cached(conn, PART, &sql)?;
    let mut rows = statement.query([name]).reading(PART)?;
    while let Some(next) = rows.next().reading(PART)? {
        visit(row(next).reading(PART)?)?;
    }
    Ok(())
}

/// How many documents are in the trash.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn count_trashed(conn: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM documents WHERE trashed IS NOT NULL";
    one(conn, PART, sql, [], |row| row.get::<_, Uint>(0).map(|count| count.0))
}

/// The local numbers of the documents up to a band that are not in the trash, as a JSON list.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn shown_up_to(conn: &Connection, band: Band) -> Result<String, StoreError> {
    let sql = "SELECT json_group_array(document) FROM documents
               WHERE band <= ?1 AND trashed IS NULL";
    one(conn, PART, sql, [band as u8], |row| row.get(0))
}

/// How many documents there are, of one collection or of all.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn count(conn: &Connection, collection: Option<&CollectionName>) -> Result<u64, StoreError> {
    let read = |row: &Row<'_>| row.get::<_, Uint>(0).map(|count| count.0);
    match collection {
        Some(collection) => {
            let sql = "SELECT count(*) FROM documents WHERE collection = ?1";
            one(conn, PART, sql, [collection.as_str()], read)
        }
        None => one(conn, PART, "SELECT count(*) FROM documents", [], read),
    }
}

/// The collections that have documents, by name, each with how many.
///
/// # Errors
/// [`StoreError::Read`] of `documents`.
pub fn collections(conn: &Connection) -> Result<Vec<(CollectionName, u64)>, StoreError> {
    let sql = "SELECT collection, count(*) FROM documents GROUP BY collection ORDER BY collection";
    all(conn, PART, sql, [], |row| {
        Ok((parsed(row, 0, |name: String| name.parse().ok())?, row.get::<_, Uint>(1)?.0))
    })
}
