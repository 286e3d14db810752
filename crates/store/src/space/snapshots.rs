//! Snapshots: the one that stands for entries whose bytes may be gone, and one that is coming in.
//!
//! Invariant: the leaves of the held one are those of its act, at every moment. A later one's are
//! written apart, some at a time ([`State::Written`]); by one change of rows they come to lie over
//! those of the held one ([`State::Over`]), and are moved among them, some at a time, after that.

use larder_log::Band;
use larder_log::merkle::Frontier;
pub use larder_log::snapshot::LeafKey as Key;
use larder_log::snapshot::{Leaf, SnapshotAct};
use larder_log::stability::Named;
use larder_types::limits::ACT_BYTES_MAX;
use larder_types::{EntryHash, Hash, ObjectId, canonical};
use rusqlite::{Connection, Row, params};

use crate::error::{Part, StoreError};
use crate::space::logs::LogId;
use crate::space::pieces;
use crate::sql::{Uint, all, cached, decoded, execute, first, one, parsed};

const PART: &str = "snapshots";
const LEAVES: &str = "leaves";

/// An encoded frontier of a tree.
const FRONTIER_BYTES_MAX: usize = 4096;
/// As many logs as there may be, each named by 32 bytes and a number.
const NAMED_BYTES_MAX: usize = 64 << 10;

/// What a snapshot is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its leaves are coming in.
    Receiving,
    /// All of its leaves are here: bytes below it may go.
    Held,
    /// What a later one has otherwise than the held one is being written. It counts for nothing.
    Written,
    /// Leaves that lie over those of the held one: of its documents and tombstones the later.
    Over,
    /// A copy of one that was held, with leaves above this device's clearance: what they stand for
    /// is kept until another device has it ([`pieces`]). It is handed over, and counts for nothing
    /// else.
    Kept,
}

impl State {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Receiving => 0,
            Self::Held => 1,
            Self::Written => 2,
            Self::Over => 3,
            Self::Kept => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Receiving),
            1 => Some(Self::Held),
            2 => Some(Self::Written),
            3 => Some(Self::Over),
            4 => Some(Self::Kept),
            _ => None,
        }
    }
}

/// A snapshot by its local number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The local number.
    pub snapshot: i64,
    /// Its name everywhere.
    pub id: Hash,
    /// What it is here.
    pub state: State,
    /// What was agreed.
    pub act: SnapshotAct,
    /// The tree over the leaves that are here.
    pub received: Frontier,
    /// Of the held one: the local number of the leaves that lie over its own.
    pub over: Option<i64>,
}

const COLUMNS: &str = "SELECT snapshot, id, state, act, received,
    CASE state WHEN 1 THEN (SELECT snapshot FROM snapshots WHERE state = 3) END FROM snapshots";
/// Of leaves that count for nothing by themselves: of those there is one lot at most.
const NO_ID: Hash = Hash::new([0; 32]);

/// Beside the held one of the same name.
fn id_of_kept(id: &Hash) -> Hash {
    Hash::new(id.as_bytes().map(|byte| !byte))
}

fn row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    let (state, id) = (parsed(row, 2, State::from_code)?, Hash::new(row.get(1)?));
    Ok(Snapshot {
        snapshot: row.get(0)?,
        id: if state == State::Kept { id_of_kept(&id) } else { id },
        state,
        act: decoded(row, 3, ACT_BYTES_MAX)?,
        received: decoded(row, 4, FRONTIER_BYTES_MAX)?,
        over: row.get(5)?,
    })
}

/// The snapshot in this state, if there is one.
///
/// # Errors
/// [`StoreError::Read`] of `snapshots`.
pub fn in_state(conn: &Connection, state: State) -> Result<Option<Snapshot>, StoreError> {
    let sql = format!("{COLUMNS} WHERE state = ?1 ORDER BY snapshot DESC LIMIT 1");
    first(conn, PART, &sql, [state.code()], row)
}

/// All that are kept for others.
///
/// # Errors
/// [`StoreError::Read`] of `snapshots`.
pub fn kept_for_others(conn: &Connection) -> Result<Vec<Snapshot>, StoreError> {
    let sql = format!("{COLUMNS} WHERE state = ?1 ORDER BY snapshot");
    all(conn, PART, &sql, [State::Kept.code()], row)
}

/// Copies a held snapshot with all of its leaves, none of which lies over them, to be kept. Returns
/// the copy's local number.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots` or `leaves`.
pub fn keep_copy(conn: &Connection, held: &Snapshot) -> Result<i64, StoreError> {
    let copy = add(conn, State::Kept, &held.act)?;
    let sql = "UPDATE snapshots SET received = ?2 WHERE snapshot = ?1";
    execute(conn, PART, sql, params![copy, canonical::encode(&held.received)])?;
    let sql = "INSERT INTO leaves (snapshot, band, object, generation, is_held, leaf)
               SELECT ?2, band, object, generation, is_held, leaf FROM leaves WHERE snapshot = ?1";
    execute(conn, LEAVES, sql, [held.snapshot, copy])?;
    Ok(copy)
}

/// Adds a snapshot without leaves. Returns its local number.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots`, of kind constraint if it is there already.
pub fn add(conn: &Connection, state: State, act: &SnapshotAct) -> Result<i64, StoreError> {
    let sql = "INSERT INTO snapshots (id, state, act, received) VALUES (?1, ?2, ?3, ?4)";
    let received = canonical::encode(&Frontier::new());
    let id = match state {
        State::Receiving | State::Held => act.id(),
        State::Kept => id_of_kept(&act.id()),
        State::Written | State::Over => NO_ID,
    };
    execute(
        conn,
        PART,
        sql,
        params![id.as_bytes(), state.code(), canonical::encode(act), received],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Puts a snapshot in the place of the held one, if there is one: `written` is what it has
/// otherwise, whole. Every other row stays as it is.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots`.
pub fn take_over(
    conn: &Connection,
    written: i64,
    held: Option<&Snapshot>,
    act: &SnapshotAct,
    tree: &Frontier,
) -> Result<(), StoreError> {
    let Some(held) = held else { return set(conn, written, State::Held, act, tree) };
    set(conn, held.snapshot, State::Held, act, tree)?;
    let sql = "UPDATE snapshots SET state = ?2 WHERE snapshot = ?1";
    execute(conn, PART, sql, params![written, State::Over.code()]).map(drop)
}

/// Moves up to `limit` of the leaves that lie over the held one's among them. Whether those were
/// all.
///
/// # Errors
/// [`StoreError::Read`] and [`StoreError::Write`] of `leaves`.
pub fn move_some(conn: &Connection, held: &Snapshot, limit: u32) -> Result<bool, StoreError> {
    let Some(over) = held.over else { return Ok(true) };
    let sql = "SELECT band, object, generation, leaf FROM leaves
               WHERE snapshot = ?1 ORDER BY band, object, generation LIMIT ?2";
    let page = all(conn, LEAVES, sql, params![over, limit], kept)?;
    for Kept { key, leaf } in &page {
        put(conn, held.snapshot, key, leaf)?;
        let sql = format!("DELETE FROM leaves WHERE snapshot = ?1 AND {AT}");
        let (band, object, generation) = columns(key);
        execute(conn, LEAVES, &sql, params![over, band, object, generation])?;
    }
    remove_some(conn, over, limit.saturating_sub(u32::try_from(page.len()).unwrap_or(limit)))
}

/// Removes up to `limit` leaves of a snapshot, and it once it has none. Whether that was so.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots` or `leaves`.
pub fn remove_some(conn: &Connection, snapshot: i64, limit: u32) -> Result<bool, StoreError> {
    let sql = "DELETE FROM leaves WHERE snapshot = ?1 AND (band, object, generation) IN
                   (SELECT band, object, generation FROM leaves WHERE snapshot = ?1 LIMIT ?2)";
    let removed = execute(conn, LEAVES, sql, params![snapshot, limit])?;
    let is_all = u32::try_from(removed).is_ok_and(|removed| removed < limit);
    if is_all {
        execute(conn, PART, "DELETE FROM snapshots WHERE snapshot = ?1", [snapshot])?;
    }
    Ok(is_all)
}

/// Adds or replaces a leaf of a whole snapshot: a tombstone takes the place of all that was created
/// under its id in its band.
///
/// # Errors
/// [`StoreError::Write`] of `leaves`.
pub fn put(conn: &Connection, snapshot: i64, key: &Key, leaf: &[u8]) -> Result<(), StoreError> {
    let (band, object, generation) = columns(key);
    if *generation == [0; 32] {
        let sql = "DELETE FROM leaves WHERE snapshot = ?1 AND band = ?2 AND object = ?3
                       AND generation <> zeroblob(32)";
        execute(conn, LEAVES, sql, params![snapshot, band, object])?;
    }
    put_leaf(conn, snapshot, key, leaf, true)
}

/// Says what a snapshot has become, and of what its leaves are.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots`.
pub fn set(
    conn: &Connection,
    snapshot: i64,
    state: State,
    act: &SnapshotAct,
    received: &Frontier,
) -> Result<(), StoreError> {
    let sql = "UPDATE snapshots SET id = ?2, state = ?3, act = ?4, received = ?5
               WHERE snapshot = ?1";
    let id = act.id();
    let (act, received) = (canonical::encode(act), canonical::encode(received));
    execute(conn, PART, sql, params![snapshot, id.as_bytes(), state.code(), act, received])
        .map(drop)
}

/// Removes a snapshot with its leaves, those over them, and what has come of their documents.
///
/// # Errors
/// [`StoreError::Write`] of `snapshots`, `leaves` or `pieces`.
pub fn remove(conn: &Connection, snapshot: &Snapshot) -> Result<(), StoreError> {
    pieces::remove_of(conn, snapshot.snapshot)?;
    for snapshot in [Some(snapshot.snapshot), snapshot.over].into_iter().flatten() {
        execute(conn, LEAVES, "DELETE FROM leaves WHERE snapshot = ?1", [snapshot])?;
        execute(conn, PART, "DELETE FROM snapshots WHERE snapshot = ?1", [snapshot])?;
    }
    Ok(())
}

/// A leaf as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the order.
    pub key: Key,
    /// Its exact bytes.
    pub leaf: Vec<u8>,
}

impl Kept {
    /// The leaf.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read(&self) -> Result<Leaf, StoreError> {
        Leaf::decode(&self.leaf).map_err(|e| StoreError::damaged(LEAVES, e.to_string()))
    }
}

/// A key as it is stored.
fn columns((band, object, generation): &Key) -> (u8, &[u8; 16], &[u8; 32]) {
    (*band as u8, object.as_bytes(), generation.as_bytes())
}

/// The leaf with the key in the parameters from the second on.
const AT: &str = "band = ?2 AND object = ?3 AND generation = ?4";

/// What a key is compared with; without one, what all keys are greater than.
fn behind(after: Option<&Key>) -> (u8, &[u8], &[u8]) {
    after.map(columns).map_or((0, &[], &[]), |(band, object, generation)| {
        (band, object.as_slice(), generation.as_slice())
    })
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let band = parsed(row, 0, Band::from_u8)?;
    let key = (band, ObjectId::new(row.get(1)?), EntryHash::new(row.get(2)?));
    Ok(Kept { key, leaf: row.get(3)? })
}

/// Adds or replaces a leaf.
///
/// # Errors
/// [`StoreError::Write`] of `leaves`.
pub fn put_leaf(
    conn: &Connection,
    snapshot: i64,
    key: &Key,
    leaf: &[u8],
    is_held: bool,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO leaves (snapshot, band, object, generation, is_held, leaf)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (snapshot, band, object, generation) DO UPDATE SET
                   is_held = excluded.is_held, leaf = excluded.leaf";
    let (band, object, generation) = columns(key);
    let params = params![snapshot, band, object, generation, is_held, leaf];
    execute(conn, LEAVES, sql, params).map(drop)
}

/// One leaf.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn leaf(conn: &Connection, of: &Snapshot, key: &Key) -> Result<Option<Kept>, StoreError> {
    let sql = format!(
        "SELECT band, object, generation, leaf FROM ({MERGED})
         WHERE band = ?3 AND object = ?4 AND generation = ?5"
    );
    let (band, object, generation) = columns(key);
    let params = params![of.snapshot, of.over, band, object, generation];
    first(conn, LEAVES, &sql, params, kept)
}

/// The leaves of a snapshot, ?1, with those that lie over them, ?2 (null if there are none).
const MERGED: &str = "SELECT band, object, generation, leaf FROM leaves WHERE snapshot = ?2
    UNION ALL
    SELECT band, object, generation, leaf FROM leaves AS below WHERE snapshot = ?1 AND NOT EXISTS (
        SELECT 1 FROM leaves AS above WHERE above.snapshot = ?2 AND above.band = below.band
            AND above.object = below.object
            AND above.generation IN (below.generation, zeroblob(32)))";

/// Whether the leaf is here with all that it stands for.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn holds(conn: &Connection, snapshot: i64, key: &Key) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM leaves WHERE snapshot = ?1 AND {AT} AND is_held = 1");
    let (band, object, generation) = columns(key);
    let params = params![snapshot, band, object, generation];
    first(conn, LEAVES, &sql, params, |_| Ok(())).map(|found| found.is_some())
}

/// Whether a leaf is of what was created or deleted under `object`.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn has_leaf_of(
    conn: &Connection,
    snapshot: i64,
    object: &ObjectId,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM leaves
               WHERE snapshot = ?1 AND band IN (0, 1, 2) AND object = ?2 LIMIT 1";
    first(conn, LEAVES, sql, params![snapshot, object.as_bytes()], |_| Ok(()))
        .map(|found| found.is_some())
}

/// Up to `limit` leaves in order, behind the one with the key `after`.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn leaves(
    conn: &Connection,
    of: &Snapshot,
    after: Option<&Key>,
    limit: u32,
) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT band, object, generation, leaf FROM ({MERGED})
         WHERE (band, object, generation) > (?3, ?4, ?5)
         ORDER BY band, object, generation LIMIT ?6"
    );
    let (band, object, generation) = behind(after);
    let params = params![of.snapshot, of.over, band, object, generation, limit];
    all(conn, LEAVES, &sql, params, kept)
}

/// Calls `visit` with every leaf in order, one at a time.
///
/// # Errors
/// What `visit` returns, which ends the walk; [`StoreError::Read`] of `leaves`.
pub fn each_leaf<E: From<StoreError>>(
    conn: &Connection,
    of: &Snapshot,
    mut visit: impl FnMut(Kept) -> Result<(), E>,
) -> Result<(), E> {
    let sql = format!(
        "SELECT band, object, generation, leaf FROM ({MERGED}) ORDER BY band, object, generation"
    );
    let mut statement = cached(conn, LEAVES, &sql)?;
    let mut rows = statement.query(params![of.snapshot, of.over]).reading(LEAVES)?;
    while let Some(next) = rows.next().reading(LEAVES)? {
        visit(kept(next).reading(LEAVES)?)?;
    }
    Ok(())
}

/// The last leaf.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn last_key(conn: &Connection, snapshot: i64) -> Result<Option<Key>, StoreError> {
    let sql = "SELECT band, object, generation, leaf FROM leaves
               WHERE snapshot = ?1 ORDER BY band DESC, object DESC, generation DESC LIMIT 1";
    first(conn, LEAVES, sql, [snapshot], kept).map(|last| last.map(|kept| kept.key))
}

/// Up to `limit` leaves whose content is wanted, in order, behind the one with the key `after`.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn wanted(
    conn: &Connection,
    snapshot: i64,
    after: Option<&Key>,
    limit: u32,
) -> Result<Vec<Kept>, StoreError> {
    let sql = "SELECT band, object, generation, leaf FROM leaves
               WHERE snapshot = ?1 AND is_held = 0 AND (band, object, generation) > (?2, ?3, ?4)
               ORDER BY band, object, generation LIMIT ?5";
    let (band, object, generation) = behind(after);
    all(conn, LEAVES, sql, params![snapshot, band, object, generation, limit], kept)
}

/// Wants again what the leaves of an object's documents in a band stand for, which has gone.
///
/// # Errors
/// [`StoreError::Read`] and [`StoreError::Write`] of `leaves`.
pub fn want_again(
    conn: &Connection,
    of: &Snapshot,
    object: &ObjectId,
    band: Band,
) -> Result<(), StoreError> {
    let (object, band) = (object.as_bytes(), band as u8);
    if let Some(over) = of.over {
        let sql = "SELECT band, object, generation, leaf FROM leaves
                   WHERE snapshot = ?1 AND band = ?2 AND object = ?3 ORDER BY generation";
        for Kept { key, leaf } in all(conn, LEAVES, sql, params![over, band, object], kept)? {
            put(conn, of.snapshot, &key, &leaf)?;
        }
        let sql = "DELETE FROM leaves WHERE snapshot = ?1 AND band = ?2 AND object = ?3";
        execute(conn, LEAVES, sql, params![over, band, object])?;
    }
    let sql = "UPDATE leaves SET is_held = 0
               WHERE snapshot = ?1 AND band = ?2 AND object = ?3 AND generation <> zeroblob(32)";
    execute(conn, LEAVES, sql, params![of.snapshot, band, object]).map(drop)
}

/// Removes the leaves of the bands above one.
///
/// # Errors
/// [`StoreError::Write`] of `leaves`.
pub fn remove_above(conn: &Connection, snapshot: i64, band: Band) -> Result<(), StoreError> {
    let sql = "DELETE FROM leaves WHERE snapshot = ?1 AND band > ?2";
    execute(conn, LEAVES, sql, params![snapshot, band as u8]).map(drop)
}

/// Whether the leaf is here and what it stands for is wanted.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn wants(conn: &Connection, snapshot: i64, key: &Key) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM leaves WHERE snapshot = ?1 AND {AT} AND is_held = 0");
    let (band, object, generation) = columns(key);
    let params = params![snapshot, band, object, generation];
    first(conn, LEAVES, &sql, params, |_| Ok(())).map(|found| found.is_some())
}

/// How many leaves have their content wanted.
///
/// # Errors
/// [`StoreError::Read`] of `leaves`.
pub fn count_wanted(conn: &Connection, snapshot: i64) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM leaves WHERE snapshot = ?1 AND is_held = 0";
    one(conn, LEAVES, sql, [snapshot], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// How far the first entries of a log name the others: of at most `end`, as far as is kept.
///
/// # Errors
/// [`StoreError::Read`] of `named`.
pub fn named(conn: &Connection, log: LogId, end: u64) -> Result<Named, StoreError> {
    let sql = "SELECT named FROM named WHERE log = ?1 AND size <= ?2 ORDER BY size DESC LIMIT 1";
    first(conn, "named", sql, params![log, Uint(end)], |row| decoded(row, 0, NAMED_BYTES_MAX))
        .map(Option::unwrap_or_default)
}

/// Keeps it beside what is kept of fewer entries.
///
/// # Errors
/// [`StoreError::Write`] of `named`.
pub fn add_named(conn: &Connection, log: LogId, named: &Named) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO named (log, size, named) VALUES (?1, ?2, ?3)";
    let params = params![log, Uint(named.size()), canonical::encode(named)];
    execute(conn, "named", sql, params).map(drop)
}
