//! What happened to documents since an app last looked, from the database alone: an app that was
//! away misses nothing.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use larder_log::kind;
use larder_store::space::changes::{self as table, Seen, Source};
use larder_store::space::logs::{self, LogId};
use larder_store::space::{copies, entries, sections, set_value, value};
use larder_types::{Clock, CollectionName, DeviceId, Entropy, ObjectId, hex, unhex};
use rusqlite::Connection;
use serde::{Serialize, Serializer};

use crate::copies::{Found, locate};
use crate::model::{as_optional_text, as_rfc3339, as_text};
use crate::read::{opened, snapshot};
use crate::space::{Published, Space};
use crate::state::shown;
use crate::{Error, Result};

const INCARNATION: &str = "incarnation";
const PAGE_MAX: usize = 1000;

/// A place in the order in which changes took effect on this device. Means nothing to another
/// device, nor to the same one after its database was made anew. Kept as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangesCursor {
    /// None at the beginning, which is one of every database.
    incarnation: Option<[u8; 8]>,
    seen: Seen,
    /// The same in another space, whose changes are told together with those of this one: what is
    /// BLACK of it.
    beside: Option<([u8; 8], Seen)>,
}

impl ChangesCursor {
    /// Before everything that this device knows of.
    pub const START: Self =
        Self { incarnation: None, seen: Seen { section: 0, late: 0 }, beside: None };

    /// The place in the space whose changes are told together with those of this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        let (incarnation, seen) = self.beside.unzip();
        Self { incarnation, seen: seen.unwrap_or_default(), beside: None }
    }

    /// This place, and that one in the space whose changes are told together with those of this.
    #[must_use]
    pub fn with_beside(self, other: &Self) -> Self {
        Self { beside: other.incarnation.map(|known| (known, other.seen)), ..self }
    }
}

impl fmt::Display for ChangesCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { section, late } = self.seen;
        let incarnation = self.incarnation.map_or_else(|| "start".to_owned(), |bytes| hex(&bytes));
        write!(f, "{incarnation}-{section}-{late}")?;
        match self.beside {
            Some((known, Seen { section, late })) => {
                write!(f, "-{}-{section}-{late}", hex(&known))
            }
            None => Ok(()),
        }
    }
}

impl FromStr for ChangesCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Invalid(format!("'{text}' is no place in the changes of a space"));
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or_else(bad);
        let incarnation = match part()? {
            "start" => None,
            bytes => Some(unhex(bytes).map_err(|_| bad())?),
        };
        let number = |text: &str| match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(bad()),
        };
        let seen = Seen { section: number(part()?)?, late: number(part()?)? };
        if incarnation.is_none() && seen != Seen::default() {
            return Err(bad());
        }
        let beside = match parts.next() {
            None => None,
            Some(known) => {
                let mut part = || parts.next().ok_or_else(bad);
                let seen = Seen { section: number(part()?)?, late: number(part()?)? };
                Some((unhex(known).map_err(|_| bad())?, seen))
            }
        };
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self { incarnation, seen, beside })
    }
}

impl Serialize for ChangesCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The document was created.
    Created,
    /// It was edited, or taken out of the trash.
    Edited,
    /// It is in the trash: it was put there now, or edited elsewhere before it was known to be.
    Trashed,
    /// It was deleted, for ever.
    Deleted,
    /// What is read under this id has changed without anybody's writing: another document has the
    /// id now, or none, or its rows were rebuilt. Read it anew.
    Reread,
}

/// Something that happened to a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The document.
    #[serde(serialize_with = "as_text")]
    pub object: ObjectId,
    /// Its collection, if that is known.
    #[serde(serialize_with = "as_optional_text")]
    pub collection: Option<CollectionName>,
    /// What happened.
    pub kind: ChangeKind,
    /// Who did it; none for [`ChangeKind::Reread`].
    pub by: Option<Author>,
    /// The place behind it.
    pub cursor: ChangesCursor,
}

/// Who changed a document, and under which receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Author {
    /// The device. With `seq` it names the receipt ([`Space::receipt`]).
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// The entry of its log.
    pub seq: u64,
    /// Whether it is this device.
    pub local: bool,
    /// When, as the device's clock claims.
    #[serde(serialize_with = "as_rfc3339")]
    pub clock: Clock,
}

/// Some changes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes.
    pub changes: Vec<Change>,
    /// The place behind them.
    pub cursor: ChangesCursor,
    /// Whether there are more already.
    pub more: bool,
    /// The place asked for is not one of this database, which was made anew: what was missed is
    /// not known. Read all documents, then go on from `cursor`.
    pub lost: bool,
}

impl Space {
    /// Up to `limit` changes (1,000 at most) behind `after`, as they took effect here.
    ///
    /// A change is told once its effect can be read. One that had no effect, an edit of what was
    /// deleted already for one, is not told.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn changes(&self, after: &ChangesCursor, limit: usize) -> Result<Changes> {
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let incarnation = incarnation(&db)?;
        let end = table::end(&db, shown(&db, &self.device())?)?;
        let is_known = after.incarnation.is_none_or(|known| known == incarnation)
            && after.seen.section <= end.section
            && after.seen.late <= end.late;
        let beside = after.beside;
        let cursor = |seen| ChangesCursor { incarnation: Some(incarnation), seen, beside };
        if !is_known {
            let cursor = cursor(end);
            return Ok(Changes { changes: Vec::new(), cursor, more: false, lost: true });
        }
        let limit = limit.clamp(1, PAGE_MAX);
        let kinds = (kind::DOCUMENT_CREATE, kind::DOCUMENT_DELETE);
        let rows_max = u32::try_from(limit).unwrap_or(u32::MAX);
        let rows = table::after(&db, after.seen, end, kinds, rows_max)?;
        let more = rows.len() == limit;
        let seen = rows.last().filter(|_| more).map_or(end, |last| last.seen);
        let mut telling = Telling::new(&db, &published, self.device())?;
        let mut changes = Vec::new();
        for mut row in rows {
            if !self.tells(&db, &published, &mut row)? {
                continue;
            }
            let cursor = cursor(row.seen);
            changes.extend(telling.tell(row, cursor)?);
        }
        Ok(Changes { changes, cursor: cursor(seen), more, lost: false })
    }

    /// Whether this handle tells of a change; what it does not see is taken out of it.
    fn tells(
        &self,
        db: &Connection,
        published: &Published,
        row: &mut table::Change,
    ) -> Result<bool> {
        if self.sight.is_whole() {
            return Ok(true);
        }
        let object = row.object;
        let is_seen = match &row.section {
            Some(source) => sections::find(db, source.place)?
                .is_some_and(|section| self.sight.sees_section(published, &section)),
            None => self.sight.knows(db, published, &object)?,
        };
        let lives = self.sight.row(db, &object)?;
        row.is_deleted = self.sight.is_deleted(db, &object)?;
        row.is_trashed = lives.as_ref().is_some_and(|row| row.trashed.is_some());
        if lives.is_none() && !row.is_deleted {
            row.collection = None;
        }
        Ok(is_seen)
    }

    /// The place behind all that happened so far.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn changes_end(&self) -> Result<ChangesCursor> {
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let seen = table::end(&db, shown(&db, &self.device())?)?;
        Ok(ChangesCursor { incarnation: Some(incarnation(&db)?), seen, beside: None })
    }
}

/// From now on every cursor that was given out is of another database.
pub(crate) fn new_incarnation(db: &Connection, entropy: &mut dyn Entropy) -> Result<()> {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    Ok(set_value(db, INCARNATION, &bytes)?)
}

fn incarnation(db: &Connection) -> Result<[u8; 8]> {
    let stored = value(db, INCARNATION)?.and_then(|bytes| bytes.try_into().ok());
    stored.ok_or_else(|| Error::Corrupt("the database's incarnation is missing".into()))
}

/// What one page of changes has to look up.
struct Telling<'a> {
    db: &'a Connection,
    published: &'a Published,
    me: DeviceId,
    devices: HashMap<LogId, DeviceId>,
    /// By object, the first section that deletes it.
    deleted: HashMap<ObjectId, Option<i64>>,
    has_copies: bool,
}

impl<'a> Telling<'a> {
    fn new(db: &'a Connection, published: &'a Published, me: DeviceId) -> Result<Self> {
        let devices = logs::every(db)?.into_iter().map(|log| (log.log, log.device)).collect();
        let has_copies = copies::any(db)?;
        Ok(Self { db, published, me, devices, deleted: HashMap::new(), has_copies })
    }

    fn tell(&mut self, row: table::Change, cursor: ChangesCursor) -> Result<Option<Change>> {
        let table::Change { mut object, section, collection, is_deleted, is_trashed, .. } = row;
        let change = |object, kind, by| Change { object, collection, kind, by, cursor };
        let Some(source) = section else {
            return Ok(Some(change(object, ChangeKind::Reread, None)));
        };
        if is_deleted && self.is_too_late(&object, &source)? {
            return Ok(None);
        }
        if self.has_copies && !is_deleted {
            match self.place_of(&object, &source)? {
                Some(place) => object = place,
                None => return Ok(None),
            }
        }
        let kind = match source.kind {
            kind::DOCUMENT_CREATE => ChangeKind::Created,
            kind::DOCUMENT_CHANGE if is_trashed => ChangeKind::Trashed,
            kind::DOCUMENT_CHANGE => ChangeKind::Edited,
            _ => ChangeKind::Deleted,
        };
        let missing = || Error::Corrupt("a section's log is missing".into());
        let device = self.devices.get(&source.place.log).copied().ok_or_else(missing)?;
        let (seq, clock, local) = (source.place.seq, source.clock, device == self.me);
        Ok(Some(change(object, kind, Some(Author { device, seq, local, clock }))))
    }

    /// Whether the object was deleted before this section could change it.
    fn is_too_late(&mut self, object: &ObjectId, source: &Source) -> Result<bool> {
        if source.kind == kind::DOCUMENT_DELETE {
            return Ok(false);
        }
        if !self.deleted.contains_key(object) {
            let first = table::first_of_kind(self.db, object, kind::DOCUMENT_DELETE)?;
            self.deleted.insert(*object, first);
        }
        let first = self.deleted.get(object).copied().flatten();
        Ok(first.is_some_and(|first| first < source.section))
    }

    /// Where the document lives that a section is of, whose id may have been created more than
    /// once. None: it is gone.
    fn place_of(&self, object: &ObjectId, source: &Source) -> Result<Option<ObjectId>> {
        let place = source.place;
        if source.kind == kind::DOCUMENT_DELETE || copies::through(self.db, object)?.is_empty() {
            return Ok(Some(*object));
        }
        let generation = if source.kind == kind::DOCUMENT_CREATE {
            entries::hash(self.db, place.log, place.seq)?
        } else {
            let section = sections::find(self.db, place)?;
            let opened = match &section {
                Some(section) => opened(self.db, self.published, section)?,
                None => None,
            };
            opened.and_then(|opened| opened.metadata.generation)
        };
        let Some(generation) = generation else { return Ok(Some(*object)) };
        let section = sections::find(self.db, place)?;
        let band = section.and_then(|section| self.published.keyring.band(&section.commitment));
        let Some(band) = band else { return Ok(None) };
        Ok(match locate(self.db, object, (band, generation))? {
            Found::At(row) => Some(row.object),
            Found::Buried | Found::Unknown => None,
        })
    }
}
