//! Sections: their commitments, their bytes as far as held, and what became of them.

use std::ops::RangeInclusive;

use larder_log::{Class, Payload, SectionCommitment};
use larder_types::{Clock, ObjectId, Timestamp, canonical};
use rusqlite::{Connection, Row, params};

use crate::error::{Part, StoreError};
use crate::space::kept;
use crate::space::logs::LogId;
use crate::sql::{Uint, all, cached, decoded, execute, first, one, parsed};

const PART: &str = "sections";

/// Where a section stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The log.
    pub log: LogId,
    /// The entry.
    pub seq: u64,
    /// The section's index in the entry.
    pub index: u32,
}

impl Place {
    /// Reads three columns from `column` on.
    pub(crate) fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            log: row.get(column)?,
            seq: row.get::<_, Uint>(column + 1)?.0,
            index: row.get(column + 2)?,
        })
    }
}

/// What became of a section here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its bytes are not held, and wanted.
    Missing,
    /// Its bytes are held; the secret to open them is not.
    Waiting,
    /// Opened, and its effect is in the other tables.
    Applied,
    /// It failed a rule, and never has an effect.
    Void,
    /// Its bytes are not held and not wanted: pruned.
    Excused,
    /// Opened, of a kind that this version does not know.
    Kept,
    /// Its bytes are not held, and nobody may bring them back.
    Erased,
    /// It is above this device's clearance: its bytes are not wanted, and not held but until
    /// another device says that it holds them.
    Hidden,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Missing,
        Self::Waiting,
        Self::Applied,
        Self::Void,
        Self::Excused,
        Self::Kept,
        Self::Erased,
        Self::Hidden,
    ];

    /// The state of a section that nobody tried to open.
    pub const fn unopened(payload: &Payload) -> Self {
        match payload {
            Payload::Missing => Self::Missing,
            Payload::Sealed(_) | Payload::Opened(_) => Self::Waiting,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Waiting => 1,
            Self::Applied => 2,
            Self::Void => 3,
            Self::Excused => 4,
            Self::Kept => 5,
            Self::Erased => 6,
            Self::Hidden => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// What opening a section told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its kind.
    pub kind: u16,
    /// The object it concerns.
    pub object: Option<ObjectId>,
    /// Its author's clock.
    pub clock: Clock,
}

/// A section to be written with its entry.
#[derive(Debug, Clone, Copy)]
pub struct NewSection<'a> {
    /// Its commitment.
    pub commitment: &'a SectionCommitment,
    /// Its bytes.
    pub payload: &'a Payload,
    /// What became of it so far.
    pub state: State,
    /// What opening it told, if it was opened.
    pub about: Option<About>,
}

/// A section without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its number in the order in which sections came to be known here, which is a causal order.
    pub section: i64,
    /// Where it stands.
    pub place: Place,
    /// What became of it.
    pub state: State,
    /// What opening it told, if it was opened.
    pub about: Option<About>,
    /// Its commitment.
    pub commitment: SectionCommitment,
}

/// An encoded commitment: fixed fields of about 100 bytes.
const COMMITMENT_BYTES_MAX: usize = 256;

pub(super) const COLUMNS: &str = "SELECT s.section, s.log, s.seq, s.idx, s.state, s.kind, s.object,
    s.clock_wall, s.clock_count, s.commitment";

/// The one at a place, of which log, entry and index are the first three parameters.
const AT: &str = "section = (SELECT section + ?3 FROM entries
    WHERE log = ?1 AND seq = ?2 AND ?3 < sections)";

/// Those of the entries of log ?1 that a condition on `e.seq` names; in order, if it is asked for
/// by [`BY_PLACE`].
const OF_ENTRIES: &str = "entries e CROSS JOIN sections s
    ON s.section >= e.section AND s.section < e.section + e.sections WHERE e.log = ?1 AND";

const BY_PLACE: &str = "ORDER BY e.seq, s.section";

/// The partial index's own condition: SQLite does not conclude it from `state = 1`.
const PENDING: &str = "state IN (0, 1) AND section > ?1";

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<Section> {
    let about = match row.get::<_, Option<u16>>(5)? {
        Some(kind) => Some(About {
            kind,
            object: row.get::<_, Option<_>>(6)?.map(ObjectId::new),
            clock: Clock { wall: Timestamp(row.get::<_, Uint>(7)?.0), count: row.get(8)? },
        }),
        None => None,
    };
    Ok(Section {
        section: row.get(0)?,
        place: Place::read(row, 1)?,
        state: parsed(row, 4, State::from_code)?,
        about,
        commitment: decoded(row, 9, COMMITMENT_BYTES_MAX)?,
    })
}

fn halves(payload: &Payload) -> (Option<&[u8]>, Option<&[u8]>) {
    match payload {
        Payload::Missing => (None, None),
        Payload::Sealed(bytes) => (Some(bytes), None),
        Payload::Opened(bytes) => (None, Some(bytes)),
    }
}

fn whole(sealed: Option<Vec<u8>>, opened: Option<Vec<u8>>) -> Payload {
    match (sealed, opened) {
        (Some(sealed), _) => Payload::Sealed(sealed),
        (None, Some(opened)) => Payload::Opened(opened),
        (None, None) => Payload::Missing,
    }
}

/// Writes a section under this number.
pub(crate) fn insert(
    conn: &Connection,
    section: i64,
    place: Place,
    new: &NewSection<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO sections (log, seq, idx, state, kind, object, clock_wall, clock_count,
                   commitment, sealed, opened, section)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let (sealed, opened) = halves(new.payload);
    let object = new.about.and_then(|about| about.object);
    let params = params![
        place.log,
        Uint(place.seq),
        place.index,
        new.state.code(),
        new.about.map(|about| about.kind),
        object.as_ref().map(ObjectId::as_bytes),
        new.about.map(|about| Uint(about.clock.wall.0)),
        new.about.map(|about| about.clock.count),
        canonical::encode(new.commitment),
        sealed,
        opened,
        section,
    ];
    execute(conn, PART, sql, params).map(drop)
}

/// Records what became of a section, and what opening it told. `None` leaves what was told before.
///
/// # Errors
/// [`StoreError::Write`] of `sections`; [`StoreError::Misuse`] if there is no such section.
pub fn settle(
    conn: &Connection,
    place: Place,
    state: State,
    about: Option<&About>,
) -> Result<(), StoreError> {
    let changed = if let Some(about) = about {
        let sql = format!(
            "UPDATE sections
                 SET state = ?4, kind = ?5, object = ?6, clock_wall = ?7, clock_count = ?8
                 WHERE {AT}"
        );
        let params = params![
            place.log,
            Uint(place.seq),
            place.index,
            state.code(),
            about.kind,
            about.object.as_ref().map(ObjectId::as_bytes),
            Uint(about.clock.wall.0),
            about.clock.count,
        ];
        execute(conn, PART, &sql, params)?
    } else {
        let sql = format!("UPDATE sections SET state = ?4 WHERE {AT}");
        let params = params![place.log, Uint(place.seq), place.index, state.code()];
        execute(conn, PART, &sql, params)?
    };
    must_exist(changed, place)
}

/// [`settle`] for a section that had to wait and takes effect only now: `late` is told of it.
///
/// # Errors
/// As [`settle`]; [`StoreError::Write`] of `late`.
pub fn settle_late(
    conn: &Connection,
    section: &Section,
    state: State,
    about: &About,
) -> Result<(), StoreError> {
    settle(conn, section.place, state, Some(about))?;
    match about.object {
        Some(object) if state == State::Applied => {
            super::changes::add_late(conn, &object, Some(section.section))
        }
        _ => Ok(()),
    }
}

/// Replaces the bytes held of a section: supplies missing ones, puts the opened form in the place
/// of the sealed one, or drops them.
///
/// # Errors
/// [`StoreError::Write`] of `sections`; [`StoreError::Misuse`] if there is no such section.
pub fn set_payload(conn: &Connection, place: Place, payload: &Payload) -> Result<(), StoreError> {
    let sql = format!("UPDATE sections SET sealed = ?4, opened = ?5 WHERE {AT}");
    let (sealed, opened) = halves(payload);
    let params = params![place.log, Uint(place.seq), place.index, sealed, opened];
    must_exist(execute(conn, PART, &sql, params)?, place)
}

fn must_exist(changed: usize, place: Place) -> Result<(), StoreError> {
    if changed == 1 {
        return Ok(());
    }
    let Place { log, seq, index } = place;
    let what = format!("there is no section {}/{seq}/{index}", log.get());
    Err(StoreError::Misuse { part: PART, what })
}

/// One section.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn find(conn: &Connection, place: Place) -> Result<Option<Section>, StoreError> {
    let sql = format!("{COLUMNS} FROM sections s WHERE {AT}");
    first(conn, PART, &sql, params![place.log, Uint(place.seq), place.index], row)
}

/// The section with a number.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn numbered(conn: &Connection, section: i64) -> Result<Option<Section>, StoreError> {
    let sql = format!("{COLUMNS} FROM sections s WHERE section = ?1");
    first(conn, PART, &sql, [section], row)
}

/// The bytes held of a section; [`Payload::Missing`] also if there is no such section.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn payload(conn: &Connection, place: Place) -> Result<Payload, StoreError> {
    let sql = format!("SELECT sealed, opened FROM sections WHERE {AT}");
    let params = params![place.log, Uint(place.seq), place.index];
    first(conn, PART, &sql, params, |row| Ok(whole(row.get(0)?, row.get(1)?)))
        .map(|found| found.unwrap_or(Payload::Missing))
}

/// The sections of one entry, in order.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn of_entry(conn: &Connection, log: LogId, seq: u64) -> Result<Vec<Section>, StoreError> {
    let sql = format!("{COLUMNS} FROM {OF_ENTRIES} e.seq = ?2 {BY_PLACE}");
    all(conn, PART, &sql, params![log, Uint(seq)], row)
}

/// Commitments and bytes of the sections of entries `first` to `last`, each with its entry's seq
/// and its index, in order.
pub(crate) fn carried(
    conn: &Connection,
    log: LogId,
    first: u64,
    last: u64,
) -> Result<Vec<(u64, u32, SectionCommitment, Payload)>, StoreError> {
    let sql = format!(
        "SELECT s.seq, s.idx, s.commitment, s.sealed, s.opened
         FROM {OF_ENTRIES} e.seq BETWEEN ?2 AND ?3 {BY_PLACE}"
    );
    all(conn, PART, &sql, params![log, Uint(first), Uint(last)], |row| {
        Ok((
            row.get::<_, Uint>(0)?.0,
            row.get(1)?,
            decoded(row, 2, COMMITMENT_BYTES_MAX)?,
            whole(row.get(3)?, row.get(4)?),
        ))
    })
}

/// [`carried`], section by section: bytes of content that cannot be read are missing.
pub(crate) fn carried_readable(
    conn: &Connection,
    log: LogId,
    first: u64,
    last: u64,
) -> Result<Vec<(u64, u32, SectionCommitment, Payload)>, StoreError> {
    let sql = format!(
        "SELECT s.section, s.seq, s.idx, s.commitment
         FROM {OF_ENTRIES} e.seq BETWEEN ?2 AND ?3 {BY_PLACE}"
    );
    let found = all(conn, PART, &sql, params![log, Uint(first), Uint(last)], |row| {
        let commitment: SectionCommitment = decoded(row, 3, COMMITMENT_BYTES_MAX)?;
        Ok((row.get::<_, i64>(0)?, row.get::<_, Uint>(1)?.0, row.get(2)?, commitment))
    })?;
    let mut carried = Vec::with_capacity(found.len());
    for (section, seq, index, commitment) in found {
        let sql = "SELECT sealed, opened FROM sections WHERE section = ?1";
        let payload = one(conn, PART, sql, [section], |row| Ok(whole(row.get(0)?, row.get(1)?)));
        let is_content = commitment.class == Class::Data as u8;
        let payload =
            payload.or_else(|e| if is_content { Ok(Payload::Missing) } else { Err(e) })?;
        carried.push((seq, index, commitment, payload));
    }
    Ok(carried)
}

/// All opened sections of an object in the order in which they came to be known here: its history.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn of_object(conn: &Connection, object: &ObjectId) -> Result<Vec<Section>, StoreError> {
    let sql = format!("{COLUMNS} FROM sections s WHERE object = ?1 ORDER BY section");
    all(conn, PART, &sql, [object.as_bytes()], row)
}

/// Up to `limit` sections numbered above `after` (0 to begin with), whatever became of them.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn page(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Section>, StoreError> {
    // Not "> ?1", which begins on the page of the one before: that may be damaged.
    let sql =
        format!("{COLUMNS} FROM sections s WHERE section >= ?1 + 1 ORDER BY section LIMIT ?2");
    all(conn, PART, &sql, params![after, limit], row)
}

/// Whether bytes are held of any section of an object.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn has_bytes(conn: &Connection, object: &ObjectId) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sections WHERE object = ?1
                   AND (sealed IS NOT NULL OR opened IS NOT NULL))";
    one(conn, PART, sql, [object.as_bytes()], |row| row.get(0))
}

/// Up to `limit` objects that opened sections of these kinds are of, by id, after the one named.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn objects(
    conn: &Connection,
    after: Option<&ObjectId>,
    kinds: (u16, u16),
    limit: u32,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT DISTINCT object FROM sections
               WHERE object IS NOT NULL AND object > ?1 AND kind BETWEEN ?2 AND ?3
               ORDER BY object LIMIT ?4";
    let after: &[u8] = after.map_or(&[], |object| object.as_bytes());
    let params = params![after, kinds.0, kinds.1, limit];
    all(conn, PART, sql, params, |row| row.get(0).map(ObjectId::new))
}

/// The first object after the one named that a section is of, by the index alone.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn next_object(
    conn: &Connection,
    after: Option<&ObjectId>,
) -> Result<Option<ObjectId>, StoreError> {
    let sql = "SELECT object FROM sections INDEXED BY sections_object
               WHERE object IS NOT NULL AND object > ?1 ORDER BY object LIMIT 1";
    let after: &[u8] = after.map_or(&[], |object| object.as_bytes());
    first(conn, PART, sql, [after], |row| row.get(0).map(ObjectId::new))
}

/// Whether any section is in this state.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn any_in(conn: &Connection, state: State) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sections WHERE state = ?1 LIMIT 1";
    first(conn, PART, sql, [state.code()], |_| Ok(())).map(|found| found.is_some())
}

/// How many sections wait to be opened, and of how many the bytes are missing. Counts no others.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn pending(conn: &Connection) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT coalesce(sum(state = 1), 0), coalesce(sum(state = 0), 0) FROM sections
               WHERE state IN (0, 1)";
    one(conn, PART, sql, [], |row| Ok((row.get::<_, Uint>(0)?.0, row.get::<_, Uint>(1)?.0)))
}

/// The numbers of up to `limit` sections that wait to be opened, in causal order, above `after` (0
/// to begin with). By the index alone: the rows may be damaged.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn waiting(conn: &Connection, after: i64, limit: u32) -> Result<Vec<i64>, StoreError> {
    let sql = format!(
        "SELECT section FROM sections WHERE state = 1 AND {PENDING} ORDER BY section LIMIT ?2"
    );
    all(conn, PART, &sql, params![after, limit], |row| row.get(0))
}

/// Up to `limit` sections whose bytes are missing, or are here sealed and were never opened, in
/// causal order, numbered above `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn lacking(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Section>, StoreError> {
    // One query of both would sort all of them before the first.
    let mut sections = Vec::new();
    for which in ["state = 0", UNREAD] {
        let sql = format!(
            "{COLUMNS} FROM sections s WHERE {which} AND {PENDING} ORDER BY section LIMIT ?2"
        );
        sections.extend(all(conn, PART, &sql, params![after, limit], row)?);
    }
    sections.sort_unstable_by_key(|section| section.section);
    sections.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(sections)
}

/// Whether there are sections that are here sealed and were never opened.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn any_unread(conn: &Connection) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM sections WHERE {UNREAD} AND {PENDING} LIMIT 1");
    first(conn, PART, &sql, [0], |_| Ok(())).map(|found| found.is_some())
}

/// Nothing that was opened waits for a secret. Of kind 0 is what was only ever told of.
const UNREAD: &str = "state = 1 AND ifnull(kind, 0) = 0 AND sealed IS NOT NULL";

/// Up to `limit` sections of entries up to `last_seq` that are missing or wait, numbered above
/// `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn unsettled(
    conn: &Connection,
    log: LogId,
    last_seq: u64,
    after: i64,
    limit: u32,
) -> Result<Vec<Section>, StoreError> {
    let sql = format!(
        "{COLUMNS} FROM sections s WHERE {PENDING} AND log = ?2 AND seq <= ?3
         ORDER BY section LIMIT ?4"
    );
    all(conn, PART, &sql, params![after, log, Uint(last_seq), limit], row)
}

/// How many sections wait.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn count_waiting(conn: &Connection) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM sections WHERE state = 1 AND {PENDING}");
    one(conn, PART, &sql, [0], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// The first missing section of each log that has any: its entry.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn first_missing(conn: &Connection) -> Result<Vec<(LogId, u64)>, StoreError> {
    let sql =
        format!("SELECT log, min(seq) FROM sections WHERE state = 0 AND {PENDING} GROUP BY log");
    all(conn, PART, &sql, [0], |row| Ok((row.get(0)?, row.get::<_, Uint>(1)?.0)))
}

/// Calls `visit` with the sections of documents in entries `first_seq` to `last_seq`, applied,
/// void or erased, and their bytes, and with those that are excused; in order, one at a time.
///
/// # Errors
/// What `visit` returns, which ends the walk; [`StoreError::Read`] of `sections`.
pub fn each_document_section<E: From<StoreError>>(
    conn: &Connection,
    log: LogId,
    first_seq: u64,
    last_seq: u64,
    mut visit: impl FnMut(Section, Payload) -> Result<(), E>,
) -> Result<(), E> {
    let sql = format!(
        "{COLUMNS}, s.sealed, s.opened FROM {OF_ENTRIES} e.seq BETWEEN ?2 AND ?3
             AND (s.state IN (2, 3) AND s.kind IN (1, 2, 3)
                 OR s.state = 6 AND s.object IS NOT NULL OR s.state = 4) {BY_PLACE}"
    );
    let mut statement = cached(conn, PART, &sql)?;
    let mut rows = statement.query(params![log, Uint(first_seq), Uint(last_seq)]).reading(PART)?;
    while let Some(next) = rows.next().reading(PART)? {
        let section = row(next).reading(PART)?;
        let bytes = (next.get(10).reading(PART)?, next.get(11).reading(PART)?);
        visit(section, whole(bytes.0, bytes.1))?;
    }
    Ok(())
}

/// What there is to drop of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Droppable {
    /// Sections of documents that have bytes.
    pub sections: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The condition under which the bytes of a section may be dropped, apart from its place. Those of
/// acts and of kinds that this version does not know never are, nor those of what is void: no
/// snapshot stands for it, and somebody may adopt it yet.
const DROPPABLE: &str = "state = 2 AND kind IN (1, 2, 3)
    AND (sealed IS NOT NULL OR opened IS NOT NULL)";

/// What [`drop_bytes`] would drop of entries up to `last_seq`. Takes time in proportion to them.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn droppable(conn: &Connection, log: LogId, last_seq: u64) -> Result<Droppable, StoreError> {
    let sql = format!(
        "SELECT count(*),
             coalesce(sum(coalesce(length(sealed), 0) + coalesce(length(opened), 0)), 0)
         FROM {OF_ENTRIES} e.seq <= ?2 AND {DROPPABLE}"
    );
    one(conn, PART, &sql, params![log, Uint(last_seq)], |row| {
        Ok(Droppable { sections: row.get::<_, Uint>(0)?.0, bytes: row.get::<_, Uint>(1)?.0 })
    })
}

/// Whether there is as much to drop as this of entries behind `after`, up to `last_seq`; of each
/// section `besides` bytes do not count. Reads no more than that, beside what cannot be dropped.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn has_droppable(
    conn: &Connection,
    log: LogId,
    after: u64,
    last_seq: u64,
    besides: u64,
    much: &mut Droppable,
) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT coalesce(length(sealed), 0) + coalesce(length(opened), 0)
         FROM {OF_ENTRIES} e.seq > ?2 AND e.seq <= ?3 AND {DROPPABLE} {BY_PLACE}"
    );
    let mut statement = cached(conn, PART, &sql)?;
    let mut rows = statement.query(params![log, Uint(after), Uint(last_seq)]).reading(PART)?;
    while much.sections > 0 && much.bytes > 0 {
        let Some(row) = rows.next().reading(PART)? else { return Ok(false) };
        much.sections -= 1;
        much.bytes = much
            .bytes
            .saturating_sub(row.get::<_, Uint>(0).reading(PART)?.0.saturating_sub(besides));
    }
    Ok(true)
}

/// What was dropped of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Sections that lost their bytes.
    pub sections: u64,
    /// Those bytes.
    pub bytes: u64,
    /// The last of their entries: before it nothing is left to drop.
    pub last_seq: u64,
}

/// Drops the bytes of up to `limit` sections of documents in entries `first_seq` to `last_seq`,
/// which are excused from then on.
///
/// The rows are deleted and written again: SQLite leaves a row that got shorter where it is, and
/// the page around it stays as empty as that.
///
/// # Errors
/// [`StoreError::Write`] or [`StoreError::Read`] of `sections`.
pub fn drop_bytes(
    conn: &Connection,
    log: LogId,
    first_seq: u64,
    last_seq: u64,
    limit: u32,
) -> Result<Dropped, StoreError> {
    let sql = format!(
        "{COLUMNS}, coalesce(length(sealed), 0) + coalesce(length(opened), 0)
         FROM {OF_ENTRIES} e.seq BETWEEN ?2 AND ?3 AND {DROPPABLE} {BY_PLACE} LIMIT ?4"
    );
    let params = params![log, Uint(first_seq), Uint(last_seq), limit];
    let mut sum = Dropped::default();
    let dropped = all(conn, PART, &sql, params, |found| {
        sum.bytes += found.get::<_, Uint>(10)?.0;
        row(found)
    })?;
    remove_rows(conn, &dropped)?;
    for section in &dropped {
        insert_empty(conn, section, State::Excused, section.about)?;
    }
    sum.sections = dropped.len() as u64;
    sum.last_seq = dropped.last().map_or(0, |last| last.place.seq);
    Ok(sum)
}

/// Drops what is noted of a section above this device's clearance, and its bytes but for `payload`.
/// The row is written again, as those of [`drop_bytes`] are.
///
/// # Errors
/// [`StoreError::Write`] of `sections`.
pub fn hide(conn: &Connection, section: &Section, payload: &Payload) -> Result<(), StoreError> {
    remove_rows(conn, std::slice::from_ref(section))?;
    let Section { section, place, commitment, .. } = section;
    let (state, about) = (State::Hidden, None);
    insert(conn, *section, *place, &NewSection { commitment, payload, state, about })
}

/// Erases the bytes of sections, each with what is noted of it from then on, and the chunks that
/// are kept for one that was a blob's manifest. The rows are written
/// again, as those of [`drop_bytes`] are.
///
/// # Errors
/// [`StoreError::Write`] of `sections`.
pub fn erase(conn: &Connection, sections: &[Section]) -> Result<(), StoreError> {
    remove_rows(conn, sections)?;
    for section in sections {
        insert_empty(conn, section, State::Erased, section.about)?;
        kept::forget_of(conn, section.section)?;
    }
    Ok(())
}

fn remove_rows(conn: &Connection, sections: &[Section]) -> Result<(), StoreError> {
    for section in sections {
        execute(conn, PART, "DELETE FROM sections WHERE section = ?1", [section.section])?;
    }
    Ok(())
}

fn insert_empty(
    conn: &Connection,
    Section { section, place, commitment, .. }: &Section,
    state: State,
    about: Option<About>,
) -> Result<(), StoreError> {
    let payload = &Payload::Missing;
    insert(conn, *section, *place, &NewSection { commitment, payload, state, about })
}

/// Wants the missing bytes of entries up to `last_seq` no more.
///
/// # Errors
/// [`StoreError::Write`] of `sections`.
pub fn excuse(conn: &Connection, log: LogId, last_seq: u64) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE sections SET state = 4 WHERE state = 0 AND {PENDING} AND log = ?2 AND seq <= ?3"
    );
    execute(conn, PART, &sql, params![0, log, Uint(last_seq)]).map(|changed| changed as u64)
}

/// Whether the bytes of any section are missing.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn any_missing(conn: &Connection) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM sections WHERE state = 0 AND {PENDING} LIMIT 1");
    first(conn, PART, &sql, [0], |_| Ok(())).map(|found| found.is_some())
}

/// Up to `limit` sections whose bytes are missing of entries up to `last_seq`, numbered above
/// `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn missing(
    conn: &Connection,
    log: LogId,
    last_seq: u64,
    after: i64,
    limit: u32,
) -> Result<Vec<Section>, StoreError> {
    let sql = format!(
        "{COLUMNS} FROM sections s WHERE state = 0 AND {PENDING} AND log = ?2 AND seq <= ?3
         ORDER BY section LIMIT ?4"
    );
    all(conn, PART, &sql, params![after, log, Uint(last_seq), limit], row)
}

/// The number of the last section; 0 if there is none.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn last(conn: &Connection) -> Result<i64, StoreError> {
    one(conn, PART, "SELECT coalesce(max(section), 0) FROM sections", [], |row| row.get(0))
}

/// Up to `limit` sections that count, of these kinds, numbered above `after` (0 to begin with).
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn applied(
    conn: &Connection,
    kinds: RangeInclusive<u16>,
    after: i64,
    limit: u32,
) -> Result<Vec<Section>, StoreError> {
    let sql = format!(
        "{COLUMNS} FROM sections s WHERE section > ?1 AND state = 2 AND kind BETWEEN ?2 AND ?3
         ORDER BY section LIMIT ?4"
    );
    all(conn, PART, &sql, params![after, kinds.start(), kinds.end(), limit], row)
}

/// How many sections are numbered above `after`.
///
/// # Errors
/// [`StoreError::Read`] of `sections`.
pub fn count_after(conn: &Connection, after: i64) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM sections WHERE section > ?1";
    one(conn, PART, sql, [after], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}
