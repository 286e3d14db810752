//! What sections of peers do to documents: creations and deletions at once, changes all of one
//! document together.

use std::collections::BTreeMap;

use larder_document::{Actor, Object, Outcome, body};
use larder_log::act::Act;
use larder_log::{Band, Class, Header, Opened, Payload, kind};
use larder_store::space::entries;
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::{self, About, Place, Section};
use larder_types::limits::ENTRY_OPENED_BYTES_MAX;
use larder_types::limits::{GATHERED_BYTES_MAX, RETRIES_MAX};
use larder_types::{CollectionName, DeviceId, EntryHash, ObjectId};
use rusqlite::Connection;

use crate::copies::{Creation, Found, Room, locate};
use crate::erase::is_unread;
use crate::heal;
use crate::keyring::Opening;
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::tally::VoidCause;
use crate::touched::Stored;
use crate::unreadable::Thing;
use crate::{Error, Result};

const ROUNDS_MAX: usize = 8;

/// A change to a document, gathered until the batch's end.
struct Change {
    actor: Actor,
    bytes: Vec<u8>,
    origin: Origin,
    /// What opening it told, if it had waited before.
    waited: Option<About>,
}

/// What a batch does to documents.
#[derive(Default)]
pub(crate) struct Effects {
    changes: BTreeMap<(ObjectId, Creation), Vec<Change>>,
    /// Bytes of the changes gathered.
    pub(crate) bytes: usize,
    /// The entry under way, and the bytes of its DATA bodies so far, by band.
    opened: Option<(LogId, u64, [usize; 4])>,
    /// Whether documents were created or changed, for which others may have waited.
    pub(crate) progress: bool,
}

impl Effects {
    /// Whether a body still counts, or lies beyond what the bodies of one entry may hold that are
    /// of one band: nobody need know those of the others.
    pub(crate) fn admits(&mut self, (log, seq, band): (LogId, u64, Band), body: &[u8]) -> bool {
        let known = self.opened.filter(|(l, s, _)| (*l, *s) == (log, seq));
        let mut by_band = known.map(|(_, _, by_band)| by_band).unwrap_or_default();
        let mut sum = body.len();
        if let Some(bytes) = by_band.get_mut(band as usize) {
            sum = sum.saturating_add(*bytes);
            *bytes = sum;
        }
        self.opened = Some((log, seq, by_band));
        sum <= ENTRY_OPENED_BYTES_MAX
    }

    /// What is gathered so far, to be written, if it takes much memory.
    pub(crate) fn take_large(&mut self) -> Option<Self> {
        (self.bytes > GATHERED_BYTES_MAX).then(|| std::mem::take(self))
    }
}

/// What became of sections with changes, as far as it is not in the database already.
#[derive(Default)]
struct Outcomes(BTreeMap<Place, Settled>);

struct Settled {
    author: DeviceId,
    band: Band,
    state: sections::State,
    waited: Option<About>,
}

impl Outcomes {
    /// A section waits if one of its changes does, and is void if one of them is.
    fn add(&mut self, change: &Change, state: sections::State) {
        let Change { origin, waited, .. } = change;
        let (author, band) = (origin.device, origin.band);
        let new = Settled { author, band, state, waited: *waited };
        let known = self.0.entry(origin.place()).or_insert(new);
        let rank = |state| match state {
            sections::State::Waiting => 2,
            sections::State::Void => 1,
            _ => 0,
        };
        if rank(state) > rank(known.state) {
            known.state = state;
        }
    }

    /// A new section stands as applied, one that waited as waiting.
    fn write(self, db: &Connection, writer: &mut WriterState) -> Result<()> {
        for (place, Settled { author, band, state, waited }) in self.0 {
            if state == sections::State::Void {
                writer.tally.void(VoidCause::Change, author);
            }
            let known = match waited {
                Some(_) => sections::State::Waiting,
                None => sections::State::Applied,
            };
            if state == known {
                continue;
            }
            if state == sections::State::Waiting {
                writer.note_waits(db, &author, band)?;
            }
            match (waited, sections::find(db, place)?) {
                (Some(about), Some(section)) => {
                    sections::settle_late(db, &section, state, &about)?;
                }
                _ => sections::settle(db, place, state, None)?,
            }
        }
        Ok(())
    }
}

impl WriterState {
    /// Takes in an opened section of a document's life.
    pub(crate) fn take_document(
        &mut self,
        db: &Connection,
        origin: Origin,
        opened: Opened,
        waited: Option<About>,
        effects: &mut Effects,
    ) -> Result<sections::State> {
        let metadata = opened.metadata;
        if metadata.kind == kind::BLOB {
            return match crate::blobs::take(db, &origin, &opened.body)? {
                sections::State::Void => Ok(self.tally.void(VoidCause::Form, origin.device)),
                state => Ok(state),
            };
        }
        if !(kind::DOCUMENT_CREATE..=kind::DOCUMENT_DELETE).contains(&metadata.kind) {
            return Ok(sections::State::Kept);
        }
        let (Some(object), Some(collection)) = (metadata.object, metadata.collection) else {
            return Ok(self.tally.void(VoidCause::Form, origin.device));
        };
        self.damage.unreadable.enter(Thing::Document(object))?;
        match metadata.kind {
            kind::DOCUMENT_CREATE => {
                let value = body::Create::decode(&opened.body).ok().and_then(|c| c.value().ok());
                let Some(value) = value else {
                    return Ok(self.tally.void(VoidCause::Form, origin.device));
                };
                self.create(db, &origin, object, &collection, &value, effects)
            }
            kind::DOCUMENT_CHANGE => {
                let change = body::Change::decode(&opened.body).ok();
                let changes = change.as_ref().and_then(|change| change.changes().ok());
                let (Some(changes), Some(generation)) = (changes, metadata.generation) else {
                    return Ok(self.tally.void(VoidCause::Form, origin.device));
                };
                let actor = Actor::of(&origin.device, &object, &generation);
                let of = (origin.band, generation);
                let gathered = effects.changes.entry((object, of)).or_default();
                let before = gathered.len();
                for bytes in changes {
                    effects.bytes += bytes.len();
                    gathered.push(Change { actor, bytes: bytes.to_vec(), origin, waited });
                }
                let waits = waited.is_some() && gathered.len() > before;
                Ok(if waits { sections::State::Waiting } else { sections::State::Applied })
            }
            _ => {
                if body::Delete::decode(&opened.body).is_err() {
                    return Ok(self.tally.void(VoidCause::Form, origin.device));
                }
                let tombstone = origin.tombstone(object, Some(collection));
                self.bury(db, &tombstone)?;
                Ok(sections::State::Applied)
            }
        }
    }

    fn create(
        &mut self,
        db: &Connection,
        origin: &Origin,
        object: ObjectId,
        collection: &CollectionName,
        value: &Object,
        effects: &mut Effects,
    ) -> Result<sections::State> {
        match self.make_room(db, object, (origin.band, origin.entry))? {
            Room::At(at, path) => {
                self.write_new(db, origin, &at, &path, collection, value)?;
                effects.progress = true;
            }
            Room::Taken if self.is_second(db, origin, object)? => {
                return Ok(self.tally.void(VoidCause::Twice, origin.device));
            }
            // What is taken came with a snapshot, or its bytes were lost here and have come again.
            Room::Buried | Room::Taken => {}
        }
        Ok(sections::State::Applied)
    }

    /// Whether a section before this one in the same entry creates the same object.
    fn is_second(&self, db: &Connection, origin: &Origin, object: ObjectId) -> Result<bool> {
        let creates = |section: &Section| {
            section.place.index < origin.index
                && section.state != sections::State::Void
                && self.keyring.band(&section.commitment) == Some(origin.band)
                && section.about.is_some_and(|about| {
                    about.kind == kind::DOCUMENT_CREATE && about.object == Some(object)
                })
        };
        Ok(sections::of_entry(db, origin.log, origin.seq)?.iter().any(creates))
    }

    /// Applies the changes gathered, all of one document together. Whether anything came of them,
    /// or of the creations before them.
    pub(crate) fn write_effects(&mut self, db: &Connection, effects: Effects) -> Result<bool> {
        let Effects { changes, mut progress, .. } = effects;
        let mut outcomes = Outcomes::default();
        for ((object, of), changes) in changes {
            let mut write = |state: &mut Self| {
                state
                    .apart(db, |state| state.write_changes(db, object, of, &changes, &mut outcomes))
            };
            let mut written = write(self)?;
            if written.is_err() && self.mend(db, object)? {
                written = write(self)?;
            }
            match written {
                Ok(is_changed) => progress |= is_changed,
                Err(error) => {
                    self.set_aside(Some(object), &error);
                    for change in &changes {
                        outcomes.add(change, sections::State::Waiting);
                    }
                }
            }
        }
        outcomes.write(db, self)?;
        Ok(progress)
    }

    fn write_changes(
        &mut self,
        db: &Connection,
        object: ObjectId,
        of: Creation,
        changes: &[Change],
        outcomes: &mut Outcomes,
    ) -> Result<bool> {
        self.damage.unreadable.enter(Thing::Document(object))?;
        let state = match locate(db, &object, of)? {
            Found::At(row) => {
                let stored = Stored::read(db, &mut self.cache, *row, object)?;
                return self.apply_changes(db, stored, changes, outcomes);
            }
            Found::Buried => sections::State::Applied,
            Found::Unknown => sections::State::Waiting,
        };
        for change in changes {
            outcomes.add(change, state);
        }
        Ok(false)
    }

    fn apply_changes(
        &mut self,
        db: &Connection,
        mut stored: Stored,
        changes: &[Change],
        outcomes: &mut Outcomes,
    ) -> Result<bool> {
        let batch: Vec<_> = changes.iter().map(|c| (c.actor, c.bytes.as_slice())).collect();
        let mut last = None;
        for (change, outcome) in changes.iter().zip(stored.document.apply(&batch)) {
            let state = match outcome {
                Outcome::Applied => {
                    last = Some(change.origin);
                    sections::State::Applied
                }
                Outcome::Duplicate => sections::State::Applied,
                Outcome::Waiting => sections::State::Waiting,
                Outcome::Void(_) => sections::State::Void,
            };
            outcomes.add(change, state);
        }
        if let Some(origin) = &last {
            self.write_edited(db, origin.stamp(), &mut stored)?;
            self.tally.merges += u64::from(stored.document.heads().iter().count() > 1);
        }
        self.cache.insert(stored.row.object, stored.document);
        Ok(last.is_some())
    }

    /// Tries sections again that waited: for a secret, a document or another change.
    pub(crate) fn retry(&mut self, db: &Connection) -> Result<()> {
        self.carefully(|state| state.retry_rounds(db))
    }

    fn retry_rounds(&mut self, db: &Connection) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let mut effects = Effects::default();
            let limit = u32::try_from(RETRIES_MAX).unwrap_or(u32::MAX);
            let waiting = sections::waiting(db, self.retried, limit)?;
            // The next time it goes on behind these, so that none is passed over for ever.
            self.retried = match waiting.last() {
                Some(last) if waiting.len() == RETRIES_MAX => *last,
                _ => 0,
            };
            for number in &waiting {
                let Some(section) = &self.section(db, *number)? else { continue };
                if let Err(error) =
                    self.apart(db, |state| state.retry_one(db, section, &mut effects))?
                {
                    self.set_aside(section.about.and_then(|about| about.object), &error);
                }
            }
            let progress = self.write_effects(db, effects)?;
            if !progress || waiting.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn retry_one(
        &mut self,
        db: &Connection,
        section: &Section,
        effects: &mut Effects,
    ) -> Result<()> {
        let (place, commitment) = (section.place, &section.commitment);
        let Some((entry, opening)) = self.open_stored(db, section)? else { return Ok(()) };
        let opened = match opening {
            Opening::NoSecret => return Ok(()),
            // It opened before: it is not void, but damaged.
            Opening::Void if section.about.is_some() => return heal::forget(db, self, section),
            Opening::Void => {
                let author = logs::by_number(db, place.log)?.device;
                let state = self.tally.void(VoidCause::Seal, author);
                return Ok(sections::settle(db, place, state, None)?);
            }
            Opening::Opened(opened) => *opened,
        };
        let about = about(&opened);
        let band = self.band_of(section)?;
        let is_content = commitment.class == Class::Data as u8;
        if is_content && self.is_erased(db, about.object.as_ref(), band)? {
            return self.erase_opened(db, section, &opened);
        }
        let origin = Origin::of_stored(db, place, entry, (about.clock, band))?;
        // Its bytes were lost here and have come again: it took effect before.
        let is_back = section.about == Some(about);
        let state = match Act::read(commitment.class, &opened) {
            Ok(Some(_)) if is_back => sections::State::Applied,
            Err(_) | Ok(Some(_)) => self.tally.void(VoidCause::Form, origin.device),
            Ok(None) if !is_content => sections::State::Kept,
            Ok(None) if let Some(why) = self.why_not_of(&origin, about.kind) => {
                self.adopted.is_open = true;
                self.tally.void(why, origin.device)
            }
            Ok(None)
                if is_unread(section)
                    && !effects.admits((place.log, place.seq, band), &opened.body) =>
            {
                self.tally.void(VoidCause::Form, origin.device)
            }
            Ok(None) => self.take_document(db, origin, opened, Some(about), effects)?,
        };
        if state != sections::State::Waiting {
            sections::settle_late(db, section, state, &about)?;
        } else if is_unread(section) {
            // It has opened: nobody needs to be asked for it any more.
            sections::settle(db, place, state, Some(&about))?;
        }
        Ok(())
    }
}

impl WriterState {
    /// The band of a section that opens.
    pub(crate) fn band_of(&self, section: &Section) -> Result<Band> {
        let missing = || Error::Corrupt("a section that opens has no band".into());
        self.keyring.band(&section.commitment).ok_or_else(missing)
    }

    /// A section with its bytes as they are stored, as far as it opens, and its entry's hash.
    /// `None`: its bytes are not here.
    pub(crate) fn open_stored(
        &self,
        db: &Connection,
        section: &Section,
    ) -> Result<Option<(EntryHash, Opening)>> {
        let place = section.place;
        let missing = || Error::Corrupt("a stored section's entry is missing".into());
        let entry = entries::find(db, place.log, place.seq)?.ok_or_else(missing)?;
        let header = Header::decode(&entry.header).map_err(|_| missing())?;
        let opening = match sections::payload(db, place)? {
            Payload::Missing => return Ok(None),
            Payload::Sealed(sealed) => {
                self.keyring.open(&header, place.index, &section.commitment, &sealed)
            }
            Payload::Opened(bytes) => match larder_log::unpack(&bytes) {
                Ok(opened) => Opening::Opened(Box::new(opened)),
                Err(_) => Opening::Void,
            },
        };
        Ok(Some((entry.hash, opening)))
    }
}

pub(crate) fn about(opened: &Opened) -> About {
    let metadata = &opened.metadata;
    About { kind: metadata.kind, object: metadata.object, clock: metadata.clock }
}

impl Origin {
    pub(crate) const fn place(&self) -> Place {
        Place { log: self.log, seq: self.seq, index: self.index }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use larder_store::space::documents;
    use rusqlite::types::ValueRef;
    use serde_json::json;

    use super::*;
    use crate::durability_tests::World;
    use crate::{Profile, ProfileOptions, UnitOfWork};

    #[test]
    fn what_waited_is_applied_once_it_can_be_whatever_came_first() {
        let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
        let profile = Profile::in_memory(Arc::new(World(AtomicU64::new(0))), options).unwrap();
        let (space, mut writer) = profile.create_space(&"personal:me".parse().unwrap()).unwrap();
        let object = ObjectId::new([1; 16]);
        for n in 0..3 {
            let mut unit = UnitOfWork::new();
            unit.put("notes", object, &json!({"title": "Letter", "n": n})).unwrap();
            writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
        }
        let digest = space.digest().unwrap();
        let state_of =
            |states: &[sections::State], retry: bool, writer: &mut crate::SpaceWriter| {
                writer.transact(|tx, state| {
                    let of_object = sections::of_object(tx, &object)?;
                    assert_eq!(of_object.len(), states.len());
                    if let Some(row) = documents::find(tx, &object)?.filter(|_| retry) {
                        state.remove_row(tx, &row)?;
                        for section in &of_object {
                            sections::settle(tx, section.place, sections::State::Waiting, None)?;
                        }
                        // As if the creation had come last.
                        state.retried = of_object[0].section;
                        state.retry(tx)?;
                        assert!(documents::find(tx, &object)?.is_none());
                        state.retry(tx)?;
                    }
                    let now = sections::of_object(tx, &object)?;
                    assert!(now.iter().map(|section| section.state).eq(states.iter().copied()));
                    Ok(())
                })
            };
        let applied = [sections::State::Applied; 3];
        state_of(&applied, false, &mut writer).unwrap();
        state_of(&applied, true, &mut writer).unwrap();
        assert_eq!(space.digest().unwrap(), digest);
    }

    #[test]
    fn what_counts_for_nothing_is_counted_by_why() {
        let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
        let profile =
            Profile::in_memory(Arc::new(World(AtomicU64::new(1 << 63))), options).unwrap();
        let (_, mut writer) = profile.create_space(&"shared:us".parse().unwrap()).unwrap();
        let object = ObjectId::new([1; 16]);
        let mut unit = UnitOfWork::new();
        unit.put("notes", object, &json!({"title": "Letter"})).unwrap();
        writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
        let commit = |writer: &mut crate::SpaceWriter, kind, body: &[u8]| {
            writer.transact(|tx, state| {
                let row = documents::find(tx, &object)?.unwrap();
                let metadata = larder_log::Metadata {
                    kind,
                    collection: Some("notes".parse().unwrap()),
                    object: Some(object),
                    generation: Some(row.generation),
                    actor: None,
                    correlation: None,
                    clock: larder_types::Clock::ZERO,
                    personal: None,
                };
                let opened = Opened { meta_salt: [7; 16], metadata, body: body.to_vec() };
                let origin = Origin {
                    log: state.log,
                    device: state.shared.keys.device(),
                    seq: state.frontier.size(),
                    index: 0,
                    entry: EntryHash::new([9; 32]),
                    clock: larder_types::Clock::ZERO,
                    band: Band::Green,
                };
                let mut effects = Effects::default();
                state.take_document(tx, origin, opened, None, &mut effects)?;
                state.write_effects(tx, effects)
            })
        };
        assert_eq!(writer.counted().void, BTreeMap::new());
        commit(&mut writer, kind::DOCUMENT_CREATE, b"no creation").unwrap();
        commit(&mut writer, kind::DOCUMENT_DELETE, b"no deletion").unwrap();
        let noise = body::Change::new(vec![vec![1, 2, 3]]).encode();
        commit(&mut writer, kind::DOCUMENT_CHANGE, &noise).unwrap();
        let void = [(VoidCause::Form, 2), (VoidCause::Change, 1)];
        assert_eq!(writer.counted().void, BTreeMap::from(void));
        assert_eq!(writer.counted().void, BTreeMap::new(), "since the last time");
    }

    #[test]
    fn bodies_beyond_what_an_entry_may_hold_do_not_count() {
        let one_more_in = |seq, band| {
            let mut effects = Effects::default();
            let half = vec![0; ENTRY_OPENED_BYTES_MAX / 2];
            let log =
                <LogId as rusqlite::types::FromSql>::column_result(ValueRef::Integer(1)).unwrap();
            let first = (log, 1, Band::Green);
            assert!(effects.admits(first, &half) && effects.admits(first, &half));
            effects.admits((log, seq, band), &[0])
        };
        assert!(!one_more_in(1, Band::Green), "one byte more in the same entry");
        assert!(one_more_in(2, Band::Green), "the next entry begins anew");
        assert!(one_more_in(1, Band::Amber), "who is cleared for GREEN cannot know of it");
    }
}
