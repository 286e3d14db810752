//! One entry of the old log, done again in this device's own.

use std::collections::BTreeSet;

use larder_document::{Actor, Heads, Link, body, trash_of};
use larder_log::act::Act;
use larder_log::blob::Manifest;
use larder_log::{Class, kind};
use larder_store::space::logs::{self, Log};
use larder_store::space::{documents, units};
use larder_types::{CollectionName, EntryHash, IdempotencyKey, ObjectId};
use rusqlite::{Connection, Transaction};

use super::ends::{End, Of};
use super::old::{Old, OldSection};
use super::{Carried, Carry, ENTRY_BYTES, LeftBehind, Source, leave};
use crate::blobs;
use crate::copies::{Creation, Found, is_deleted, locate, next_id};
use crate::redact::follow;
use crate::rows::Origin;
use crate::state::State;
use crate::touched::{self, Touched};
use crate::{Error, Result};

/// What doing one entry again came to.
#[derive(Default)]
struct Redone {
    created: u64,
    edited: u64,
    deleted: u64,
    blobs: u64,
    moot: u64,
    bytes: usize,
    /// Documents that were redacted meanwhile, and what is left of each.
    redacted: BTreeSet<(ObjectId, ObjectId)>,
    /// The first entry that it came to.
    seq: Option<u64>,
    /// Under which idempotency keys it was written cannot be read.
    has_no_keys: bool,
}

impl Redone {
    /// The document was deleted meanwhile, or redacted: then what was written into it may belong
    /// into what is left of it.
    fn come_to_nothing(&mut self, db: &Connection, object: ObjectId) -> Result<()> {
        let rest = follow(db, &object)?;
        if rest == object {
            self.moot += 1;
        } else {
            self.redacted.insert((object, rest));
        }
        Ok(())
    }
}

impl State {
    /// Does an entry of the old log again. About how many bytes that was.
    pub(super) fn carry_entry(
        &mut self,
        tx: &mut Transaction<'_>,
        old: &mut Old,
        carry: &mut Carry,
        seq: u64,
    ) -> Result<usize> {
        let Carry { sources, carried } = carry;
        let Some(source) = sources.first() else { return Ok(0) };
        let is_here = seq < source.unlike && self.may_write_at(&old.log.device, seq);
        let left = |carried: &mut Carried, what: String| {
            leave(carried, LeftBehind { file: source.file.clone(), seq, what });
        };
        let (mut sections, unread) = match old.entry(seq) {
            Ok(read) => read,
            Err(error) if !is_of_content(&error) => return Err(error),
            Err(_) if is_here => (Vec::new(), 0),
            Err(error) => {
                left(carried, error.to_string());
                return Ok(ENTRY_BYTES);
            }
        };
        sections.retain(|section| !self.counts_here(&old.log, source, seq, section));
        if sections.is_empty() && is_here {
            return keep_keys_of(tx, old, seq).map(|()| ENTRY_BYTES);
        }
        if unread > 0 && !is_here {
            left(carried, format!("{unread} of its sections cannot be read in the old copy"));
        }
        let before = self.mark();
        let done =
            larder_store::savepoint(tx, |db| self.redo_entry(db, old, source, seq, &sections));
        match done {
            Ok(done) => {
                carried.entries += u64::from(done.seq.is_some());
                carried.created += done.created;
                carried.edited += done.edited;
                carried.deleted += done.deleted;
                carried.blobs += done.blobs;
                carried.moot += done.moot;
                for (object, rest) in done.redacted {
                    left(carried, format!("of document {object}, redacted meanwhile: see {rest}"));
                }
                for what in sections.iter().filter_map(unlike) {
                    left(carried, what.to_owned());
                }
                if done.has_no_keys && !carried.left.iter().any(|left| left.what == NO_KEYS) {
                    left(carried, NO_KEYS.to_owned());
                }
                Ok(done.bytes + ENTRY_BYTES)
            }
            Err(error) if !tx.is_autocommit() && is_of_content(&error) => {
                self.return_to(before);
                left(carried, error.to_string());
                Ok(ENTRY_BYTES)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the others have this section, and it counts for them.
    fn counts_here(&self, log: &Log, source: &Source, seq: u64, section: &OldSection) -> bool {
        let OldSection { index, entry, band, ref opened } = *section;
        let device = log.device;
        let origin = Origin { log: log.log, device, seq, index, entry, clock: self.clock, band };
        let counts = match opened.metadata.kind {
            kind::DOCUMENT_CREATE..=kind::DOCUMENT_DELETE => self.counts_at(&origin),
            _ => self.may_write_at(&device, seq),
        };
        seq < source.unlike && counts
    }

    fn redo_entry(
        &mut self,
        db: &Connection,
        old: &mut Old,
        source: &Source,
        seq: u64,
        sections: &[OldSection],
    ) -> Result<Redone> {
        let (mut touched, mut done) = (Touched::default(), Redone::default());
        let (mut actor, mut correlation) = (None, None);
        for section in sections {
            let metadata = &section.opened.metadata;
            done.bytes += section.opened.body.len();
            actor = actor.or_else(|| metadata.actor.clone());
            correlation = correlation.or(metadata.correlation);
            match metadata.kind {
                kind::DOCUMENT_CREATE..=kind::DOCUMENT_DELETE => {
                    self.check_cleared(section.band)?;
                    self.redo_document(db, old, source, section, &mut touched, &mut done)?;
                }
                kind::BLOB => self.redo_blob(db, section, &mut done)?,
                _ => {}
            }
        }
        if touched.has_effect() {
            let appended = self.finish(db, touched, actor.as_deref(), correlation)?;
            done.seq = done.seq.or(Some(appended.seq));
        }
        for section in sections {
            if let Ok(Some(Act::Erase(act))) = Act::read(Class::Control as u8, &section.opened)
                && Self::check_known(db, &act.object).is_ok()
            {
                let listed = self.to_list(db, &act.object, self.reads_up_to()?)?;
                let seq = self.append_erasure(db, act.object, listed, act.instead)?;
                done.seq = done.seq.or(Some(seq));
                done.deleted += 1;
            }
        }
        if let Some(new) = done.seq {
            let keys = old.keys_of(seq)?;
            done.has_no_keys = keys.is_none();
            for (key, digest) in keys.unwrap_or_default() {
                keep_key(db, &key, units::Unit { digest, log: None, seq: new })?;
            }
        }
        Ok(done)
    }

    fn redo_document(
        &mut self,
        db: &Connection,
        old: &mut Old,
        source: &Source,
        section: &OldSection,
        touched: &mut Touched,
        done: &mut Redone,
    ) -> Result<()> {
        let metadata = &section.opened.metadata;
        let form = || Error::Invalid("a section of the old log has not its form".into());
        let object = metadata.object.ok_or_else(form)?;
        let collection = metadata.collection.clone().ok_or_else(form)?;
        let of = |generation| (object, section.band, generation);
        match (metadata.kind, metadata.generation) {
            (kind::DOCUMENT_CREATE, _) => {
                let create = body::Create::decode(&section.opened.body).map_err(|_| form())?;
                let at = self.redo_creation(db, section, (object, collection), create, touched)?;
                source.set_end(db, of(section.entry), &End::begin(at))?;
                match at {
                    Some(_) => done.created += 1,
                    None => done.come_to_nothing(db, object)?,
                }
                Ok(())
            }
            (kind::DOCUMENT_CHANGE, Some(generation)) => {
                let change = body::Change::decode(&section.opened.body).map_err(|_| form())?;
                let changes: Vec<Vec<u8>> = change.changes()?.map(<[u8]>::to_vec).collect();
                let target = (of(generation), collection);
                for bytes in changes {
                    let is_made = self.redo_change(db, old, source, &target, &bytes, touched)?;
                    if is_made {
                        done.edited += 1;
                    } else {
                        done.come_to_nothing(db, object)?;
                    }
                }
                Ok(())
            }
            (_, generation) => {
                let end = match generation {
                    Some(generation) => source.end(db, of(generation))?,
                    None => None,
                };
                let at = match (end, generation) {
                    (Some(end), _) => end.at,
                    (None, Some(generation)) => at_now(db, &object, (section.band, generation))?,
                    (None, None) => Some(object),
                };
                let Some(at) = at.filter(|_| !matches!(is_deleted(db, &object), Ok(true))) else {
                    done.moot += 1;
                    return Ok(());
                };
                let part = touched.part(db, &mut self.cache, at)?;
                match part.state {
                    touched::State::Stored(_) => {
                        part.delete(at)?;
                        done.deleted += 1;
                    }
                    _ => done.moot += 1,
                }
                Ok(())
            }
        }
    }

    /// Creates a document again, under its id or, if that is another's by now, under one derived
    /// from it, as if both had been created apart. None if it was deleted meanwhile.
    fn redo_creation(
        &mut self,
        db: &Connection,
        section: &OldSection,
        (object, collection): (ObjectId, CollectionName),
        create: body::Create,
        touched: &mut Touched,
    ) -> Result<Option<ObjectId>> {
        if is_deleted(db, &object)? {
            return Ok(None);
        }
        let mut at = object;
        while documents::find(db, &at)?.is_some() {
            at = next_id(&at, &section.entry);
        }
        let part = touched.part(db, &mut self.cache, at)?;
        if !matches!(part.state, touched::State::Absent) {
            return Ok(None);
        }
        part.state = touched::State::New {
            collection,
            value: create.value()?,
            from: create.from,
            redacted: create.redacted.map(Box::new),
            band: section.band,
        };
        part.personal |= section.opened.metadata.personal.unwrap_or_default();
        Ok(Some(at))
    }

    /// Makes a change again. False if its document is gone.
    fn redo_change(
        &mut self,
        db: &Connection,
        old: &mut Old,
        source: &Source,
        (of, collection): &(Of, CollectionName),
        change: &[u8],
        touched: &mut Touched,
    ) -> Result<bool> {
        let (object, band, generation) = *of;
        let lacks = || Error::Invalid(format!("document {object} is not whole in the old copy"));
        let after = Heads::after(change).ok_or_else(lacks)?;
        let link = Link::of(change)?;
        let (value, root) = {
            let author = Actor::of(&old.log.device, &object, &generation);
            let document = old.document(*of)?.ok_or_else(lacks)?;
            if !document.has_change(&link.hash) {
                document.apply(&[(author, change)]);
            }
            (document.value_at(&after)?, document.created()?)
        };
        let mut end = match source.end(db, *of)? {
            Some(end) => end,
            None => match locate(db, &object, (band, generation))? {
                Found::At(row) => End::begin(Some(row.object)),
                Found::Buried => End::begin(None),
                Found::Unknown => {
                    // Nobody who was spoken to has what it changes: it stays as a document.
                    let at = next_id(&object, &generation);
                    let part = touched.part(db, &mut self.cache, at)?;
                    part.restore(at, (collection, band), &value, object)?;
                    let end = End { old: link.hash.to_vec(), ..End::begin(Some(at)) };
                    return source.set_end(db, *of, &end).map(|()| true);
                }
            },
        };
        let Some(at) = end.at.filter(|at| !matches!(is_deleted(db, at), Ok(true))) else {
            return Ok(false);
        };
        let (me, now) = (self.device(), self.shared.env.now());
        let actor = |root: &ObjectId, of: &EntryHash| Actor::of(&me, root, of);
        let part = touched.part(db, &mut self.cache, at)?;
        let touched::State::Stored(stored) = &part.state else {
            return Err(Error::Invalid(format!("document {object} was created by the same entry")));
        };
        let mut base = if end.old.is_empty() { Heads::FLAT } else { end.new.clone() };
        for dep in &link.deps {
            if stored.document.has_change(dep) && !root.iter().any(|root| root == dep) {
                base = base.and(&Heads::from_hashes([*dep]));
            }
        }
        let new = match trash_of(change) {
            Some(is_in) => {
                let before = stored.changes.len();
                part.trash(at, is_in, actor, now)?;
                part.change(before)
            }
            None => part.redo(at, &value, &base, actor, now)?,
        };
        end.old = link.hash.to_vec();
        end.new = new.map_or(base.clone(), |new| new);
        source.set_end(db, *of, &end).map(|()| true)
    }

    /// A file's manifest. Its chunks follow.
    fn redo_blob(
        &mut self,
        db: &Connection,
        section: &OldSection,
        done: &mut Redone,
    ) -> Result<()> {
        let body = &section.opened.body;
        let id = Manifest::id(body);
        let known = larder_store::space::blobs::find(db, &id)?;
        if known.is_some_and(|row| row.band <= section.band) {
            return Ok(());
        }
        self.check_cleared(section.band)?;
        let metadata = &section.opened.metadata;
        let (actor, correlation) = (metadata.actor.as_deref(), metadata.correlation);
        let origin = self.append_manifest(db, body.clone(), section.band, actor, correlation)?;
        blobs::take(db, &origin, body)?;
        done.blobs += 1;
        done.seq = done.seq.or(Some(origin.seq));
        Ok(())
    }
}

/// Of a file of which that cannot be read, once.
pub(super) const NO_KEYS: &str = "under which idempotency keys units were written cannot all be \
                                  read: an app that repeats one does it twice";

/// Notes under which idempotency keys an entry was written that the others have.
fn keep_keys_of(db: &Connection, old: &Old, seq: u64) -> Result<()> {
    let log = logs::find(db, &old.log.device)?.map(|log| log.log);
    for (key, digest) in old.keys_of(seq)?.unwrap_or_default() {
        keep_key(db, &key, units::Unit { digest, log, seq })?;
    }
    Ok(())
}

/// Notes that a unit was written under this key, unless one was before.
pub(super) fn keep_key(db: &Connection, key: &IdempotencyKey, unit: units::Unit) -> Result<()> {
    if units::find(db, key)?.is_none() {
        units::add(db, key, &unit)?;
    }
    Ok(())
}

/// Where a document is that the others have.
fn at_now(db: &Connection, object: &ObjectId, of: Creation) -> Result<Option<ObjectId>> {
    Ok(match locate(db, object, of)? {
        Found::At(row) => Some(row.object),
        Found::Buried | Found::Unknown => None,
    })
}

/// What of the old log is not done again by itself, but by who has the right to it now, if they
/// still want it.
fn unlike(section: &OldSection) -> Option<&'static str> {
    Some(match section.opened.metadata.kind {
        kind::ENROLMENT => "a device was let in: invite it again if it is not in the space",
        kind::CHANGE => "a device was given another role: do so again if it is still wanted",
        kind::REVOCATION => "a device was shut out: do so again if it is still in the space",
        kind::RECOVERY => "the space was recovered: do so again if need be",
        kind::QUARANTINE => "a device was set aside: do so again if it is still away",
        kind::RETENTION => "a rule of retention was set: set it again if it is still wanted",
        kind::CONTRACT => "the space's contracts were set: set them again if still wanted",
        kind::POLICY => "the space's policy was set: set it again if it is still wanted",
        _ => return None,
    })
}

/// Whether an error is about what was to be carried over, and not about this device's storage.
fn is_of_content(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid(_)
            | Error::Document(_)
            | Error::NotFound(_)
            | Error::Deleted(_)
            | Error::Trashed(_)
            | Error::NotCleared { .. }
    )
}
