//! Blobs: their manifests, their sealed chunks, and which documents name them.
//!
//! Invariants: a chunk is kept once, however many blobs share it; `blobs.missing` counts the
//! chunks of a blob that are not held; `blob_names` says what `documents.json` says.

use larder_crypto::Secret;
use larder_log::Band;
use larder_log::blob as log;
use larder_types::{BlobId, Hash, ObjectId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::{Part, StoreError};
use crate::space::logs::LogId;
use crate::sql::{Uint, all, cached, execute, first, one, parsed};

const PART: &str = "blobs";
const CHUNKS: &str = "chunks";

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its local number, in the order in which blobs came to be known here.
    pub blob: i64,
    /// Its id.
    pub id: BlobId,
    /// Whose log brought its manifest first.
    pub log: LogId,
    /// In which entry.
    pub seq: u64,
    /// When, as the author's clock claimed.
    pub added: Timestamp,
    /// Bytes of content.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// What it was called.
    pub name: Option<String>,
    /// Chunks that are not held.
    pub missing: u64,
    /// Whether its chunks are to be fetched whatever its size, and named or not.
    pub wanted: bool,
    /// Whether a live document names it.
    pub named: bool,
    /// The lowest band that its manifest came in.
    pub band: Band,
}

/// A blob to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewBlob<'a> {
    /// Its id.
    pub id: &'a BlobId,
    /// Whose log brought its manifest.
    pub log: LogId,
    /// In which entry.
    pub seq: u64,
    /// When, as the author's clock claimed.
    pub added: Timestamp,
    /// Bytes of content.
    pub size: u64,
    /// What it is.
    pub media_type: &'a str,
    /// What it was called.
    pub name: Option<&'a str>,
    /// The band of its manifest.
    pub band: Band,
}

/// A chunk's place in a blob.
#[derive(Debug, Clone)]
pub struct Place {
    /// The first byte of the blob that it holds.
    pub start: u64,
    /// What it is, as the blob's manifest says.
    pub chunk: log::Chunk,
    /// Its sealed bytes, if they are held.
    pub sealed: Option<Vec<u8>>,
}

/// Where a walk over the chunks that are wanted goes on: from this byte of this blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct At {
    /// The blob's number.
    pub blob: i64,
    /// Its byte.
    pub start: i64,
}

const COLUMNS: &str = "SELECT blob, id, log, seq, added_wall, size, media_type, name, missing,
    wanted, EXISTS (SELECT 1 FROM blob_names n WHERE n.id = b.id), band FROM blobs b";

fn row(row: &Row<'_>) -> rusqlite::Result<Blob> {
    Ok(Blob {
        blob: row.get(0)?,
        id: BlobId::new(row.get(1)?),
        log: row.get(2)?,
        seq: row.get::<_, Uint>(3)?.0,
        added: Timestamp(row.get::<_, Uint>(4)?.0),
        size: row.get::<_, Uint>(5)?.0,
        media_type: row.get(6)?,
        name: row.get(7)?,
        missing: row.get::<_, Uint>(8)?.0,
        wanted: row.get(9)?,
        named: row.get(10)?,
        band: parsed(row, 11, Band::from_u8)?,
    })
}

/// Writes a blob of these chunks, in order. False: it is there already.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `blob_chunks`, `chunks` or `staged`.
pub fn insert(
    conn: &Connection,
    new: &NewBlob<'_>,
    chunks: &[log::Chunk],
) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO blobs
                   (id, log, seq, added_wall, size, media_type, name, missing, band)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)";
    let params = params![
        new.id.as_bytes(),
        new.log,
        Uint(new.seq),
        Uint(new.added.0),
        Uint(new.size),
        new.media_type,
        new.name,
        new.band as u8,
    ];
    if execute(conn, PART, sql, params)? == 0 {
        let sql = "UPDATE blobs SET log = ?2, seq = ?3, band = ?4 WHERE id = ?1 AND band > ?4";
        let params = params![new.id.as_bytes(), new.log, Uint(new.seq), new.band as u8];
        return execute(conn, PART, sql, params).map(|_| false);
    }
    let blob = conn.last_insert_rowid();
    let mut start = 0;
    for log::Chunk { len, digest, key } in chunks {
        let chunk = match chunk(conn, digest)? {
            Some((chunk, _)) => chunk,
            None => insert_chunk(conn, digest)?,
        };
        let sql = "INSERT INTO blob_chunks (blob, start, len, chunk, key)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        execute(conn, "blob_chunks", sql, params![blob, Uint(start), len, chunk, key.expose()])?;
        execute(conn, "staged", "DELETE FROM staged WHERE chunk = ?1", [chunk])?;
        execute(conn, "kept_chunks", "DELETE FROM kept_chunks WHERE chunk = ?1", [chunk])?;
        start += u64::from(*len);
    }
    count_missing(conn, blob)?;
    Ok(true)
}

/// A blob may hold one chunk several times: each place counts.
fn count_missing(conn: &Connection, blob: i64) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET missing = (
                   SELECT count(*) FROM blob_chunks JOIN chunks USING (chunk)
                   WHERE blob_chunks.blob = ?1 AND held = 0)
               WHERE blob = ?1";
    execute(conn, PART, sql, [blob]).map(drop)
}

fn chunk(conn: &Connection, digest: &Hash) -> Result<Option<(i64, bool)>, StoreError> {
    let sql = "SELECT chunk, held FROM chunks WHERE digest = ?1";
    first(conn, CHUNKS, sql, [digest.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn insert_chunk(conn: &Connection, digest: &Hash) -> Result<i64, StoreError> {
    let sql = "INSERT INTO chunks (digest, held) VALUES (?1, 0)";
    execute(conn, CHUNKS, sql, [digest.as_bytes()])?;
    Ok(conn.last_insert_rowid())
}

/// A sealed chunk's bytes, to be kept.
#[derive(Debug, Clone)]
pub struct NewChunk {
    /// Its digest.
    pub digest: Hash,
    /// Its bytes.
    pub sealed: Vec<u8>,
    /// Digest of what is in it, and the key that opens it to that; none if it was not opened.
    pub opened: Option<(Hash, Secret<32>)>,
}

/// Keeps the sealed bytes of a chunk. One that no blob has is refused unless `staged`. True: it
/// was not held before.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `chunks`, `chunk_bytes` or `staged`.
pub fn put_chunk(conn: &Connection, new: &NewChunk, staged: bool) -> Result<bool, StoreError> {
    let number = match chunk(conn, &new.digest)? {
        Some((number, false)) => number,
        None if staged => {
            let number = insert_chunk(conn, &new.digest)?;
            execute(conn, "staged", "INSERT INTO staged (chunk) VALUES (?1)", [number])?;
            number
        }
        Some((_, true)) | None => return Ok(false),
    };
    let sql = "INSERT INTO chunk_bytes (chunk, sealed) VALUES (?1, ?2)";
    execute(conn, "chunk_bytes", sql, params![number, new.sealed])?;
    let sql = "UPDATE chunks SET held = 1, opened = ?2, key = ?3 WHERE chunk = ?1";
    let opened = new.opened.as_ref().map(|(opened, _)| opened.as_bytes());
    let key = new.opened.as_ref().map(|(_, key)| key.expose());
    execute(conn, CHUNKS, sql, params![number, opened, key])?;
    let sql = "UPDATE blobs SET missing = missing - places FROM (
                   SELECT blob AS of, count(*) AS places FROM blob_chunks
                   WHERE chunk = ?1 GROUP BY blob)
               WHERE blob = of";
    execute(conn, PART, sql, [number])?;
    Ok(true)
}

/// Removes chunks that were staged, all of them or these.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `chunks`, `chunk_bytes` or `staged`.
pub fn unstage(conn: &Connection, digests: Option<&[Hash]>) -> Result<u64, StoreError> {
    let staged = match digests {
        None => all(conn, CHUNKS, "SELECT chunk FROM staged", [], |row| row.get(0))?,
        Some(digests) => {
            let sql = "SELECT chunk FROM staged JOIN chunks USING (chunk) WHERE digest = ?1";
            let mut staged: Vec<i64> = Vec::new();
            for digest in digests {
                staged.extend(first(conn, CHUNKS, sql, [digest.as_bytes()], |row| {
                    row.get::<_, i64>(0)
                })?);
            }
            staged
        }
    };
    for chunk in &staged {
        remove_chunk(conn, *chunk)?;
    }
    Ok(staged.len() as u64)
}

/// Whether any chunk is staged.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn has_staged(conn: &Connection) -> Result<bool, StoreError> {
    one(conn, CHUNKS, "SELECT EXISTS (SELECT 1 FROM staged)", [], |row| row.get(0))
}

fn remove_chunk(conn: &Connection, chunk: i64) -> Result<(), StoreError> {
    execute(conn, "staged", "DELETE FROM staged WHERE chunk = ?1", [chunk])?;
    execute(conn, "chunk_bytes", "DELETE FROM chunk_bytes WHERE chunk = ?1", [chunk])?;
    execute(conn, CHUNKS, "DELETE FROM chunks WHERE chunk = ?1", [chunk]).map(drop)
}

/// Removes a chunk that is of no blob, and of no use else.
pub(crate) fn remove_unused(conn: &Connection, chunk: i64) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM blob_chunks WHERE chunk = ?1
               UNION ALL SELECT 1 FROM staged WHERE chunk = ?1
               UNION ALL SELECT 1 FROM kept_chunks WHERE chunk = ?1 LIMIT 1";
    match first(conn, CHUNKS, sql, [chunk], |_| Ok(()))? {
        Some(()) => Ok(()),
        None => remove_chunk(conn, chunk),
    }
}

/// Digest and key of a chunk that is held, with this content: one of a blob of this band that is
/// named, asked for or leased, so that no collection takes it before what is being added is whole.
/// Bands share no chunk, since the key of one opens it for all who know the lower one.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn known(
    conn: &Connection,
    opened: &Hash,
    band: Band,
) -> Result<Option<(Hash, Secret<32>)>, StoreError> {
    let sql = "SELECT digest, key FROM chunks c WHERE opened = ?1 AND held = 1
               AND EXISTS (SELECT 1 FROM blob_chunks p JOIN blobs b USING (blob)
                   WHERE p.chunk = c.chunk AND b.band = ?2 AND (b.wanted = 1
                       OR b.leased_until IS NOT NULL
                       OR EXISTS (SELECT 1 FROM blob_names n WHERE n.id = b.id))) LIMIT 1";
    first(conn, CHUNKS, sql, params![opened.as_bytes(), band as u8], |row| {
        Ok((Hash::new(row.get(0)?), Secret::new(row.get(1)?)))
    })
}

/// Whether a chunk's bytes are held.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn holds(conn: &Connection, digest: &Hash) -> Result<bool, StoreError> {
    Ok(chunk(conn, digest)?.is_some_and(|(_, held)| held))
}

/// Whether a chunk is, or was, part of a blob of which the manifest came in a band up to this one.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn is_up_to(conn: &Connection, digest: &Hash, band: Band) -> Result<bool, StoreError> {
    let Some((chunk, _)) = chunk(conn, digest)? else { return Ok(false) };
    let sql = "SELECT 1 FROM blob_chunks JOIN blobs USING (blob)
               WHERE blob_chunks.chunk = ?1 AND band <= ?2
               UNION ALL SELECT 1 FROM kept_chunks WHERE chunk = ?1 AND band <= ?2 LIMIT 1";
    first(conn, PART, sql, params![chunk, band as u8], |_| Ok(())).map(|found| found.is_some())
}

/// How many chunks are held.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn held(conn: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM chunks WHERE held = 1";
    one(conn, CHUNKS, sql, [], |row| Ok(row.get::<_, Uint>(0)?.0))
}

/// A chunk's sealed bytes, if they are held.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn sealed(conn: &Connection, digest: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT sealed FROM chunk_bytes JOIN chunks USING (chunk) WHERE digest = ?1";
    first(conn, CHUNKS, sql, [digest.as_bytes()], |row| row.get(0))
}

/// A chunk that is said to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its local number.
    pub chunk: i64,
    /// Its digest.
    pub digest: Hash,
}

/// At most `limit` chunks that are held, in the order of their numbers, behind `after`.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn held_page(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Held>, StoreError> {
    let sql = "SELECT chunk, digest FROM chunks WHERE chunk > ?1 AND held = 1
               ORDER BY chunk LIMIT ?2";
    all(conn, CHUNKS, sql, params![after, limit], |row| {
        Ok(Held { chunk: row.get(0)?, digest: Hash::new(row.get(1)?) })
    })
}

/// A blob that has a chunk; none if it is staged only.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn blob_with(conn: &Connection, chunk: i64) -> Result<Option<BlobId>, StoreError> {
    let sql = "SELECT id FROM blob_chunks JOIN blobs USING (blob) WHERE chunk = ?1 LIMIT 1";
    first(conn, PART, sql, [chunk], |row| row.get(0).map(BlobId::new))
}

/// Drops the bytes of a chunk. Blobs of more than `bytes_max` that had all of theirs and that a
/// document names are asked for; smaller ones are wanted anyway.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `chunks` or `chunk_bytes`.
pub fn drop_chunk(conn: &Connection, chunk: i64, bytes_max: u64) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET wanted = 1 WHERE missing = 0 AND size > ?2
                   AND blob IN (SELECT blob FROM blob_chunks WHERE chunk = ?1)
                   AND EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id)";
    execute(conn, PART, sql, params![chunk, bounded(bytes_max)])?;
    forget(conn, chunk)
}

fn forget(conn: &Connection, chunk: i64) -> Result<(), StoreError> {
    execute(conn, "chunk_bytes", "DELETE FROM chunk_bytes WHERE chunk = ?1", [chunk])?;
    let sql = "UPDATE chunks SET held = 0, opened = NULL, key = NULL WHERE chunk = ?1";
    execute(conn, CHUNKS, sql, [chunk])?;
    let sql = "UPDATE blobs SET missing = missing + places FROM (
                   SELECT blob AS of, count(*) AS places FROM blob_chunks
                   WHERE chunk = ?1 GROUP BY blob)
               WHERE blob = of";
    execute(conn, PART, sql, [chunk]).map(drop)
}

/// Whether a live document names a blob.
///
/// # Errors
/// [`StoreError::Read`] of `blob_names`.
pub fn is_named(conn: &Connection, id: &BlobId) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM blob_names WHERE id = ?1)";
    one(conn, "blob_names", sql, [id.as_bytes()], |row| row.get(0))
}

/// Whether a blob was added and not named yet.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn is_leased(conn: &Connection, id: &BlobId) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM blobs WHERE id = ?1 AND leased_until IS NOT NULL)";
    one(conn, PART, sql, [id.as_bytes()], |row| row.get(0))
}

/// The local numbers of the live documents that name a blob.
///
/// # Errors
/// [`StoreError::Read`] of `blob_names`.
pub fn named_by(conn: &Connection, id: &BlobId) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT document FROM blob_names WHERE id = ?1";
    all(conn, "blob_names", sql, [id.as_bytes()], |row| row.get(0))
}

/// Removes a blob: what its manifest said, and the chunks that no other has.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `chunks` or `chunk_bytes`.
pub fn remove(conn: &Connection, id: &BlobId) -> Result<(), StoreError> {
    let Some(Blob { blob, .. }) = find(conn, id)? else { return Ok(()) };
    let sql = "SELECT DISTINCT chunk FROM blob_chunks b WHERE blob = ?1
                   AND NOT EXISTS (SELECT 1 FROM blob_chunks o
                       WHERE o.chunk = b.chunk AND o.blob <> ?1)
                   AND NOT EXISTS (SELECT 1 FROM staged s WHERE s.chunk = b.chunk)
                   AND NOT EXISTS (SELECT 1 FROM kept_chunks k WHERE k.chunk = b.chunk)";
    let chunks: Vec<i64> = all(conn, CHUNKS, sql, [blob], |row| row.get(0))?;
    execute(conn, "blob_chunks", "DELETE FROM blob_chunks WHERE blob = ?1", [blob])?;
    execute(conn, PART, "DELETE FROM blobs WHERE blob = ?1", [blob])?;
    chunks.into_iter().try_for_each(|chunk| remove_chunk(conn, chunk))
}

/// A chunk as the first blob that has it says.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn chunk_named(conn: &Connection, digest: &Hash) -> Result<Option<log::Chunk>, StoreError> {
    let sql = "SELECT 0, len, digest, b.key FROM chunks JOIN blob_chunks b USING (chunk)
               WHERE digest = ?1 LIMIT 1";
    first(conn, CHUNKS, sql, [digest.as_bytes()], named)
}

/// The chunk of a blob that holds its byte `at`, and the chunk's sealed bytes if they are held.
/// None: the blob ends before.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn chunk_at(conn: &Connection, blob: i64, at: u64) -> Result<Option<Place>, StoreError> {
    let sql = "SELECT start, len, digest, b.key, sealed FROM blob_chunks b
               JOIN chunks USING (chunk) LEFT JOIN chunk_bytes USING (chunk)
               WHERE blob = ?1 AND start <= ?2 ORDER BY start DESC LIMIT 1";
    let found = first(conn, CHUNKS, sql, params![blob, Uint(at)], |row| {
        Ok(Place { start: row.get::<_, Uint>(0)?.0, chunk: named(row)?, sealed: row.get(4)? })
    })?;
    Ok(found.filter(|place| at < place.start + u64::from(place.chunk.len)))
}

/// All chunks of a blob, in order: with the rest of its row, its manifest.
///
/// # Errors
/// [`StoreError::Read`] of `chunks`.
pub fn chunks(conn: &Connection, blob: i64) -> Result<Vec<log::Chunk>, StoreError> {
    let sql = "SELECT start, len, digest, b.key FROM blob_chunks b JOIN chunks USING (chunk)
               WHERE blob = ?1 ORDER BY start";
    all(conn, CHUNKS, sql, [blob], named)
}

fn named(row: &Row<'_>) -> rusqlite::Result<log::Chunk> {
    let (digest, key) = (Hash::new(row.get(2)?), Secret::new(row.get(3)?));
    Ok(log::Chunk { len: row.get(1)?, digest, key })
}

/// The blob with this id.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn find(conn: &Connection, id: &BlobId) -> Result<Option<Blob>, StoreError> {
    first(conn, PART, &format!("{COLUMNS} WHERE b.id = ?1"), [id.as_bytes()], row)
}

/// At most `limit` blobs behind the one of number `after`, in the order of their numbers.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn list(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Blob>, StoreError> {
    let sql = format!("{COLUMNS} WHERE b.blob > ?1 ORDER BY b.blob LIMIT ?2");
    all(conn, PART, &sql, params![after, limit], row)
}

/// Up to `limit` blobs that live documents name and no manifest here describes, in the order of
/// their ids, behind `after`.
///
/// # Errors
/// [`StoreError::Read`] of `blob_names`.
pub fn unknown(
    conn: &Connection,
    after: Option<&BlobId>,
    limit: u32,
) -> Result<Vec<BlobId>, StoreError> {
    let sql = "SELECT DISTINCT id FROM blob_names n
               WHERE id > ?1 AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.id = n.id)
               ORDER BY id LIMIT ?2";
    let after = after.map_or(&[][..], |id| id.as_bytes());
    all(conn, "blob_names", sql, params![after, limit], |row| row.get(0).map(BlobId::new))
}

/// Asks for a blob's chunks, or no longer.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`.
pub fn set_wanted(conn: &Connection, id: &BlobId, wanted: bool) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET wanted = ?2 WHERE id = ?1";
    execute(conn, PART, sql, params![id.as_bytes(), wanted]).map(drop)
}

/// What makes a blob wanted here.
const WANTED: &str = "missing > 0 AND (wanted = 1 OR (size <= ?1
    AND EXISTS (SELECT 1 FROM blob_names n WHERE n.id = b.id)))";

/// At most `limit` chunks that are wanted and not held, from `from` on, each with where the walk
/// goes on behind it: those of blobs asked for, and of named ones of at most `bytes_max`.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn wanted(
    conn: &Connection,
    bytes_max: u64,
    from: At,
    limit: usize,
) -> Result<Vec<(At, Hash)>, StoreError> {
    let blobs = format!("SELECT blob FROM blobs b WHERE {WANTED} AND blob >= ?2 ORDER BY blob");
    let mut blobs = cached(conn, PART, &blobs)?;
    let mut rows = blobs.query(params![bounded(bytes_max), from.blob]).reading(PART)?;
    let sql = "SELECT start, digest FROM blob_chunks JOIN chunks USING (chunk)
               WHERE blob = ?1 AND start >= ?2 AND held = 0 ORDER BY start LIMIT ?3";
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next().reading(PART)?
    {
        let blob: i64 = row.get(0).reading(PART)?;
        let start = if blob == from.blob { from.start } else { 0 };
        let left = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
        found.extend(all(conn, CHUNKS, sql, params![blob, start, left], |row| {
            let behind = At { blob, start: row.get::<_, i64>(0)? + 1 };
            Ok((behind, Hash::new(row.get(1)?)))
        })?);
    }
    Ok(found)
}

fn bounded(bytes_max: u64) -> Uint {
    Uint(bytes_max.min(i64::MAX.unsigned_abs()))
}

/// Counts and sizes, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Blobs known.
    pub blobs: u64,
    /// Their bytes, held or not.
    pub bytes: u64,
    /// Blobs that are wanted here and not whole.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Blobs that are not whole, wanted or not.
    pub partial: u64,
}

/// Counts and sizes of blobs up to a band, where named ones of at most `bytes_max` are wanted.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn status(conn: &Connection, bytes_max: u64, up_to: Band) -> Result<Status, StoreError> {
    let band = up_to as u8;
    let bytes_max = bounded(bytes_max);
    let count = |row: &Row<'_>, column| row.get::<_, Uint>(column).map(|count| count.0);
    let sql = "SELECT count(*), coalesce(sum(size), 0), count(*) FILTER (WHERE missing > 0)
               FROM blobs WHERE band <= ?1";
    let (blobs, bytes, partial) =
        one(conn, PART, sql, [band], |row| Ok((count(row, 0)?, count(row, 1)?, count(row, 2)?)))?;
    let sql = format!(
        "SELECT count(*), coalesce(sum(size), 0) FROM blobs b
         WHERE {WANTED} AND band <= ?2"
    );
    let (waiting, waiting_bytes) = one(conn, PART, &sql, params![bytes_max, band], |row| {
        Ok((count(row, 0)?, count(row, 1)?))
    })?;
    Ok(Status { blobs, bytes, waiting, waiting_bytes, partial })
}

/// Notes which blobs a live document names, as its value says: objects with a member `$blob` whose
/// value is an id. `is_new`: there is nothing of it to take back.
///
/// # Errors
/// [`StoreError::Write`] of `blob_names`.
pub(crate) fn name(
    conn: &Connection,
    document: i64,
    json: &str,
    is_new: bool,
) -> Result<(), StoreError> {
    if !is_new {
        unname(conn, document)?;
    }
    if !json.contains(MEMBER) {
        return Ok(());
    }
    // GLOB tells case; SQLite's unhex would take capitals as well.
    let sql = "INSERT OR IGNORE INTO blob_names (id, document)
               SELECT unhex(atom), ?1 FROM json_tree(?2)
               WHERE key = '$blob' AND type = 'text' AND length(atom) = 64
                   AND atom NOT GLOB '*[^0-9a-f]*'";
    execute(conn, "blob_names", sql, params![document, json])?;
    let sql = "UPDATE blobs SET leased_until = NULL WHERE leased_until IS NOT NULL
                   AND id IN (SELECT id FROM blob_names WHERE document = ?1)";
    execute(conn, PART, sql, [document]).map(drop)
}

/// A blob of another band than the live document that names it, if there is one: who may read the
/// one may not read the other.
///
/// # Errors
/// [`StoreError::Read`] of `blob_names`.
pub fn of_other_band(
    conn: &Connection,
    object: &ObjectId,
) -> Result<Option<(BlobId, Band)>, StoreError> {
    let sql = "SELECT b.id, b.band FROM documents d JOIN blob_names n USING (document)
               JOIN blobs b USING (id) WHERE d.object = ?1 AND b.band <> d.band LIMIT 1";
    first(conn, PART, sql, [object.as_bytes()], |row| {
        Ok((BlobId::new(row.get(0)?), parsed(row, 1, Band::from_u8)?))
    })
}

/// A document is gone.
///
/// # Errors
/// [`StoreError::Write`] of `blob_names`.
pub(crate) fn unname(conn: &Connection, document: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM blob_names WHERE document = ?1";
    execute(conn, "blob_names", sql, [document]).map(drop)
}

/// How the member begins in JSON without white space.
const MEMBER: &str = "\"$blob\":";

/// Makes `blob_names` anew from all documents.
///
/// # Errors
/// [`StoreError::Write`] or [`StoreError::Read`] of `blob_names` or `documents`.
pub fn rename_all(conn: &Connection) -> Result<(), StoreError> {
    execute(conn, "blob_names", "DELETE FROM blob_names", [])?;
    let sql = "SELECT document, json FROM documents WHERE instr(json, ?1) > 0";
    let documents: Vec<(i64, String)> =
        all(conn, "documents", sql, [MEMBER], |row| Ok((row.get(0)?, row.get(1)?)))?;
    documents.iter().try_for_each(|(document, json)| name(conn, *document, json, true))
}

/// Whether there are blobs that no document names, or marked ones.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn has_unnamed(conn: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM blobs b WHERE unnamed_since IS NOT NULL
                   OR NOT EXISTS (SELECT 1 FROM blob_names n WHERE n.id = b.id))";
    one(conn, PART, sql, [], |row| row.get(0))
}

/// Marks blobs that no document names, if they are not marked, with the time and the newest
/// transaction; takes the mark from those that one names.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`.
pub fn mark_unnamed(conn: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET unnamed_since = NULL, unnamed_at = NULL
               WHERE unnamed_since IS NOT NULL
                   AND EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id)";
    execute(conn, PART, sql, [])?;
    let sql = "UPDATE blobs SET unnamed_since = ?1,
                   unnamed_at = (SELECT coalesce(max(position), 0) FROM transactions)
               WHERE unnamed_since IS NULL
                   AND NOT EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id)";
    execute(conn, PART, sql, [Uint(now.0)]).map(drop)
}

/// Leases a blob that was added, perhaps again, while this process has the space open: whoever
/// added it has yet to name it. What a document names already needs no lease.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`.
pub fn lease(conn: &Connection, id: &BlobId) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET unnamed_since = NULL, unnamed_at = NULL,
                   leased_until = iif(EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id),
                       NULL, ?2)
               WHERE id = ?1";
    execute(conn, PART, sql, params![id.as_bytes(), HELD]).map(drop)
}

/// Whether an earlier process left leases without an end.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn has_left_leases(conn: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM blobs WHERE leased_until = ?1)";
    one(conn, PART, sql, [HELD], |row| row.get(0))
}

/// Gives an end to leases that an earlier process left.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`.
pub fn end_leases(conn: &Connection, until: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE blobs SET leased_until = ?1 WHERE leased_until = ?2";
    execute(conn, PART, sql, params![Uint(until.0), HELD]).map(drop)
}

/// How many blobs are leased that no document names.
///
/// # Errors
/// [`StoreError::Read`] of `blobs`.
pub fn leased(conn: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM blobs WHERE leased_until > ?1 AND wanted = 0
                   AND NOT EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id)";
    one(conn, PART, sql, [Uint(now.0)], |row| Ok(row.get::<_, Uint>(0)?.0))
}

/// The end of a lease of the process that has the space open.
const HELD: i64 = i64::MAX;

/// From when on blobs that no document names may go.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Marked then or earlier.
    pub before: Timestamp,
    /// When this was the newest transaction, or an earlier one.
    pub at: i64,
    /// Leased until then at most. No blob is due that the process leases that has the space open.
    pub leased_until: Timestamp,
}

/// Removes chunks that only blobs have which are marked, due, not asked for and not leased: at most
/// `limit`. Returns how many were removed, and their bytes.
///
/// # Errors
/// [`StoreError::Write`] of `blobs`, `chunks`, `chunk_bytes` or `staged`.
pub fn collect(conn: &Connection, due: Due, limit: u32) -> Result<(u64, u64), StoreError> {
    let sql = "WITH due AS (SELECT blob FROM blobs
                   WHERE unnamed_since <= ?1 AND unnamed_at <= ?2 AND wanted = 0
                       AND coalesce(leased_until, 0) <= min(?4, ?5))
               SELECT DISTINCT chunk, length(sealed) FROM due JOIN blob_chunks bc USING (blob)
               JOIN chunk_bytes USING (chunk)
               WHERE NOT EXISTS (SELECT 1 FROM blob_chunks o
                   WHERE o.chunk = bc.chunk AND o.blob NOT IN (SELECT blob FROM due))
               LIMIT ?3";
    let params = params![Uint(due.before.0), due.at, limit, Uint(due.leased_until.0), HELD - 1];
    let gone: Vec<(i64, u64)> =
        all(conn, CHUNKS, sql, params, |row| Ok((row.get(0)?, row.get::<_, Uint>(1)?.0)))?;
    for (chunk, _) in &gone {
        forget(conn, *chunk)?;
    }
    Ok((gone.len() as u64, gone.iter().map(|(_, bytes)| bytes).sum()))
}

/// The newest transaction before the first one of this log that does not lie within its first
/// `size` entries; none if all do.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn position_within(
    conn: &Connection,
    log: LogId,
    size: u64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT position - 1 FROM entries WHERE log = ?1 AND seq = ?2 + 1";
    first(conn, "entries", sql, params![log, Uint(size)], |row| row.get(0))
}
