//! Membership, epochs, own secrets, and who holds what.

use larder_types::{DeviceId, EpochId, Hash};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::space::logs::LogId;
use crate::space::sections::Place;
use crate::sql::{Uint, all, execute, first, one};

/// A device's signed word that it holds a log up to a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Who holds it.
    pub acker: DeviceId,
    /// Whose log.
    pub device: DeviceId,
    /// Entries held.
    pub size: u64,
    /// The tree's root at that size.
    pub root: Hash,
    /// When, in seconds since 1970, as the acker's clock claimed.
    pub time_s: u64,
    /// By the acker's acknowledgement key.
    pub signature: [u8; 64],
}

const ACK_COLUMNS: &str = "SELECT acker, device, size, root, time_s, signature FROM acks";

fn ack_row(row: &Row<'_>) -> rusqlite::Result<Ack> {
    Ok(Ack {
        acker: DeviceId::new(row.get(0)?),
        device: DeviceId::new(row.get(1)?),
        size: row.get::<_, Uint>(2)?.0,
        root: Hash::new(row.get(3)?),
        time_s: row.get::<_, Uint>(4)?.0,
        signature: row.get(5)?,
    })
}

/// Keeps an acknowledgement if it is of a larger tree than the one kept. Returns whether it is.
///
/// # Errors
/// [`StoreError::Write`] of `acks`.
pub fn put_ack(conn: &Connection, ack: &Ack) -> Result<bool, StoreError> {
    let sql = "INSERT INTO acks (acker, device, size, root, time_s, signature)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (acker, device) DO UPDATE SET
                   size = excluded.size,
                   root = excluded.root,
                   time_s = excluded.time_s,
                   signature = excluded.signature
               WHERE excluded.size > acks.size";
    let params = params![
        ack.acker.as_bytes(),
        ack.device.as_bytes(),
        Uint(ack.size),
        ack.root.as_bytes(),
        Uint(ack.time_s),
        ack.signature,
    ];
    execute(conn, "acks", sql, params).map(|changed| changed > 0)
}

/// Whether [`put_ack`] would store it.
///
/// # Errors
/// [`StoreError::Read`] of `acks`.
pub fn is_new_ack(conn: &Connection, ack: &Ack) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM acks WHERE acker = ?1 AND device = ?2 AND size >= ?3";
    let params = params![ack.acker.as_bytes(), ack.device.as_bytes(), Uint(ack.size)];
    first(conn, "acks", sql, params, |_| Ok(())).map(|known| known.is_none())
}

/// All acknowledgements.
///
/// # Errors
/// [`StoreError::Read`] of `acks`.
pub fn acks(conn: &Connection) -> Result<Vec<Ack>, StoreError> {
    all(conn, "acks", &format!("{ACK_COLUMNS} ORDER BY acker, device"), [], ack_row)
}

/// The acknowledgements of one device's log.
///
/// # Errors
/// [`StoreError::Read`] of `acks`.
pub fn acks_of(conn: &Connection, device: &DeviceId) -> Result<Vec<Ack>, StoreError> {
    let sql = format!("{ACK_COLUMNS} WHERE device = ?1 ORDER BY acker");
    all(conn, "acks", &sql, [device.as_bytes()], ack_row)
}

/// An epoch, as its opening act says, and its secrets if this device has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its name.
    pub epoch: EpochId,
    /// Who opened it.
    pub opener: DeviceId,
    /// The act, encoded.
    pub act: Vec<u8>,
    /// Its secrets, wrapped; `None` if this device has none, or no longer.
    pub wrapped: Option<Vec<u8>>,
}

fn epoch_row(row: &Row<'_>) -> rusqlite::Result<Epoch> {
    Ok(Epoch {
        epoch: EpochId::new(row.get(0)?),
        opener: DeviceId::new(row.get(1)?),
        act: row.get(2)?,
        wrapped: row.get(3)?,
    })
}

/// Records an epoch.
///
/// # Errors
/// [`StoreError::Write`] of `epochs`, of kind constraint if it is there already.
pub fn add_epoch(conn: &Connection, epoch: &Epoch) -> Result<(), StoreError> {
    let sql = "INSERT INTO epochs (epoch, opener, act, wrapped) VALUES (?1, ?2, ?3, ?4)";
    let params = params![epoch.epoch.as_bytes(), epoch.opener.as_bytes(), epoch.act, epoch.wrapped];
    execute(conn, "epochs", sql, params).map(drop)
}

/// Gives an epoch its wrapped secrets, or takes them away.
///
/// # Errors
/// [`StoreError::Write`] of `epochs`.
pub fn set_epoch_secrets(
    conn: &Connection,
    epoch: &EpochId,
    wrapped: Option<&[u8]>,
) -> Result<(), StoreError> {
    let sql = "UPDATE epochs SET wrapped = ?2 WHERE epoch = ?1";
    execute(conn, "epochs", sql, params![epoch.as_bytes(), wrapped]).map(drop)
}

/// One epoch.
///
/// # Errors
/// [`StoreError::Read`] of `epochs`.
pub fn epoch(conn: &Connection, epoch: &EpochId) -> Result<Option<Epoch>, StoreError> {
    let sql = "SELECT epoch, opener, act, wrapped FROM epochs WHERE epoch = ?1";
    first(conn, "epochs", sql, [epoch.as_bytes()], epoch_row)
}

/// All epochs, in the order in which they came to be known here.
///
/// # Errors
/// [`StoreError::Read`] of `epochs`.
pub fn epochs(conn: &Connection) -> Result<Vec<Epoch>, StoreError> {
    let sql = "SELECT epoch, opener, act, wrapped FROM epochs ORDER BY rowid";
    all(conn, "epochs", sql, [], epoch_row)
}

/// An opened CONTROL section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Where it stands.
    pub place: Place,
    /// Its kind.
    pub kind: u16,
    /// Its body, encoded.
    pub body: Vec<u8>,
}

/// Records an act behind those before it.
///
/// # Errors
/// [`StoreError::Write`] of `acts`, of kind constraint if it is there already.
pub fn add_act(conn: &Connection, act: &Act) -> Result<(), StoreError> {
    let sql = "INSERT INTO acts (log, seq, idx, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let params = params![act.place.log, Uint(act.place.seq), act.place.index, act.kind, act.body];
    execute(conn, "acts", sql, params).map(drop)
}

/// An enrolment in the history of a forked log that is not held here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrayAct {
    /// Whose log.
    pub log: LogId,
    /// What shows it ([`larder_log::ProvenAct`]), encoded.
    pub proof: Vec<u8>,
    /// Its body, encoded.
    pub body: Vec<u8>,
}

/// Records one.
///
/// # Errors
/// [`StoreError::Write`] of `stray_acts`.
pub fn add_stray_act(conn: &Connection, act: &StrayAct) -> Result<(), StoreError> {
    let sql = "INSERT INTO stray_acts (log, proof, body) VALUES (?1, ?2, ?3)";
    execute(conn, "stray_acts", sql, params![act.log, act.proof, act.body]).map(drop)
}

/// All of them, in the order in which they came.
///
/// # Errors
/// [`StoreError::Read`] of `stray_acts`.
pub fn stray_acts(conn: &Connection) -> Result<Vec<StrayAct>, StoreError> {
    let sql = "SELECT log, proof, body FROM stray_acts ORDER BY act";
    all(conn, "stray_acts", sql, [], stray_act)
}

fn stray_act(row: &Row<'_>) -> rusqlite::Result<StrayAct> {
    Ok(StrayAct { log: row.get(0)?, proof: row.get(1)?, body: row.get(2)? })
}

/// Those of one log, in the order in which they came.
///
/// # Errors
/// [`StoreError::Read`] of `stray_acts`.
pub fn stray_acts_of(conn: &Connection, log: LogId) -> Result<Vec<StrayAct>, StoreError> {
    let sql = "SELECT log, proof, body FROM stray_acts WHERE log = ?1 ORDER BY act";
    all(conn, "stray_acts", sql, [log], stray_act)
}

/// Removes one.
///
/// # Errors
/// [`StoreError::Write`] of `stray_acts`.
pub fn drop_stray_act(conn: &Connection, act: &StrayAct) -> Result<(), StoreError> {
    let sql = "DELETE FROM stray_acts WHERE log = ?1 AND proof = ?2 AND body = ?3";
    execute(conn, "stray_acts", sql, params![act.log, act.proof, act.body]).map(drop)
}

/// How many bytes the proofs of one log's take.
///
/// # Errors
/// [`StoreError::Read`] of `stray_acts`.
pub fn stray_acts_bytes(conn: &Connection, log: LogId) -> Result<usize, StoreError> {
    let sql = "SELECT coalesce(sum(length(proof)), 0) FROM stray_acts WHERE log = ?1";
    let bytes = one(conn, "stray_acts", sql, [log], |row| row.get::<_, Uint>(0))?;
    Ok(usize::try_from(bytes.0).unwrap_or(usize::MAX))
}

/// All acts but those of two kinds, in the order in which they were applied.
///
/// # Errors
/// [`StoreError::Read`] of `acts`.
pub fn acts_but(conn: &Connection, kinds: [u16; 2]) -> Result<Vec<Act>, StoreError> {
    let sql = "SELECT log, seq, idx, kind, body FROM acts WHERE kind NOT IN (?1, ?2) ORDER BY act";
    all(conn, "acts", sql, kinds, |row| {
        Ok(Act { place: Place::read(row, 0)?, kind: row.get(3)?, body: row.get(4)? })
    })
}

/// How many acts of these kinds stand in a log before an entry.
///
/// # Errors
/// [`StoreError::Read`] of `acts`.
pub fn count_acts(
    conn: &Connection,
    log: LogId,
    before_seq: u64,
    kinds: [u16; 4],
) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM acts
               WHERE log = ?1 AND seq < ?2 AND kind IN (?3, ?4, ?5, ?6)";
    let [a, b, c, d] = kinds;
    let params = params![log, Uint(before_seq), a, b, c, d];
    one(conn, "acts", sql, params, |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// The act at a place.
///
/// # Errors
/// [`StoreError::Read`] of `acts`.
pub fn act(conn: &Connection, place: Place) -> Result<Option<Act>, StoreError> {
    let sql = "SELECT log, seq, idx, kind, body FROM acts WHERE log = ?1 AND seq = ?2 AND idx = ?3";
    first(conn, "acts", sql, params![place.log, Uint(place.seq), place.index], |row| {
        Ok(Act { place: Place::read(row, 0)?, kind: row.get(3)?, body: row.get(4)? })
    })
}

/// Puts an act in the place of what is recorded there, or adds it.
///
/// # Errors
/// [`StoreError::Write`] of `acts`.
pub fn set_act(conn: &Connection, act: &Act) -> Result<(), StoreError> {
    let sql = "INSERT INTO acts (log, seq, idx, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (log, seq, idx)
               DO UPDATE SET kind = excluded.kind, body = excluded.body";
    let params = params![act.place.log, Uint(act.place.seq), act.place.index, act.kind, act.body];
    execute(conn, "acts", sql, params).map(drop)
}

/// All acts of one kind, in the order in which they were applied.
///
/// # Errors
/// [`StoreError::Read`] of `acts`.
pub fn acts_of_kind(conn: &Connection, kind: u16) -> Result<Vec<Act>, StoreError> {
    let sql = "SELECT log, seq, idx, kind, body FROM acts WHERE kind = ?1 ORDER BY act";
    all(conn, "acts", sql, [kind], |row| {
        Ok(Act { place: Place::read(row, 0)?, kind: row.get(3)?, body: row.get(4)? })
    })
}

/// Where the last act of a kind is in each log that has one: the log's number, and the entry's.
///
/// # Errors
/// [`StoreError::Read`] of `acts`.
pub fn last_of_kind(conn: &Connection, kind: u16) -> Result<Vec<(LogId, u64)>, StoreError> {
    let sql = "SELECT log, max(seq) FROM acts WHERE kind = ?1 GROUP BY log";
    all(conn, "acts", sql, [kind], |row| Ok((row.get(0)?, row.get::<_, Uint>(1)?.0)))
}

/// An own key or secret, wrapped.
///
/// # Errors
/// [`StoreError::Read`] of `secrets`.
pub fn secret(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    first(conn, "secrets", "SELECT wrapped FROM secrets WHERE name = ?1", [name], |row| row.get(0))
}

/// All own keys and secrets, wrapped, by name.
///
/// # Errors
/// [`StoreError::Read`] of `secrets`.
pub fn secrets(conn: &Connection) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    all(conn, "secrets", "SELECT name, wrapped FROM secrets ORDER BY name", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Stores or replaces one.
///
/// # Errors
/// [`StoreError::Write`] of `secrets`.
pub fn set_secret(conn: &Connection, name: &str, wrapped: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO secrets (name, wrapped) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET wrapped = excluded.wrapped";
    execute(conn, "secrets", sql, params![name, wrapped]).map(drop)
}

/// Removes one.
///
/// # Errors
/// [`StoreError::Write`] of `secrets`.
pub fn remove_secret(conn: &Connection, name: &str) -> Result<(), StoreError> {
    execute(conn, "secrets", "DELETE FROM secrets WHERE name = ?1", [name]).map(drop)
}
