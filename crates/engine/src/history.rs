//! What happened to a document, what it was, and what differs between two of its versions.
//!
//! Invariant: what is told of a document is of that document alone, also where its id was created
//! more than once (`docs/format/documents.md`).

use larder_document::{
    Actor, Conflict, Difference, Document, Heads, Object, body, differences, trash_of,
};
use larder_log::snapshot::{DocumentLeaf, Leaf, Stamp};
use larder_log::{Opened, kind};
use larder_store::space::sections::{self, Section, State};
use larder_store::space::{copies, documents, entries, logs, snapshots, tombstones};
use larder_types::{CollectionName, EntryHash, ObjectId, Timestamp};
use rusqlite::Connection;

use crate::copies::{is_deleted, next_id, root};
use crate::model::{HistoryItem, Restorable, Version};
use crate::read::{opened, snapshot, word_of};
use crate::sight::Sight;
use crate::space::{Published, Space};
use crate::touched::load;
use crate::{Error, Result};

/// An applied section of a document's life.
struct Event {
    section: Section,
    /// What it holds, if its bytes and its secret are still here.
    opened: Option<Opened>,
}

impl Space {
    /// Fields that were set to different values at the same time: the value shown, and the others.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deleted`]; [`Error::Auditor`]; the storage's errors.
    pub fn conflicts(&self, object: &ObjectId) -> Result<Vec<Conflict>> {
        self.check_reads()?;
        let db = self.shared.pool.reader()?;
        Ok(load(&db, &self.live(&db, object)?)?.conflicts()?)
    }

    /// What happened to a document, in the order in which this device learned of it. Of a deleted
    /// one whose id was created more than once, what happened to all of them. Of what was pruned
    /// before this device came, only the creation and the last change.
    ///
    /// # Errors
    /// [`Error::Auditor`]; the storage's errors.
    pub fn history(&self, object: &ObjectId) -> Result<Vec<HistoryItem>> {
        self.check_reads()?;
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let now = self.shared.env.now();
        let mut history = Vec::new();
        for event in life(&db, (&published, self.sight), object)? {
            history.extend(item(&db, &published, event, now)?);
        }
        let known = |stamp: &Stamp| {
            history.iter().any(|item| (item.device, item.seq) == (stamp.device, stamp.seq))
        };
        // What a newcomer knows of the time before it was handed the document.
        let mut handed: Vec<HistoryItem> = Vec::new();
        let row = self.sight.row(&db, object)?;
        if let Some(leaf) = row.map(|row| leaf(&db, &row)).transpose()? {
            for (stamp, kind) in leaf.iter().flat_map(|leaf| {
                let updated = Some(leaf.updated).filter(|updated| *updated != leaf.created);
                let created = (leaf.created, kind::DOCUMENT_CREATE);
                std::iter::once(created).chain(updated.map(|it| (it, kind::DOCUMENT_CHANGE)))
            }) {
                if !known(&stamp) {
                    handed.push(pruned_item(&published, stamp, kind, now));
                }
            }
        }
        handed.append(&mut history);
        Ok(handed)
    }

    /// What a document was. `None`: it had not been created then.
    ///
    /// A version by time is all that is known here and was made until then, as its authors' clocks
    /// claim, with what that builds on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Deleted`], since nothing is kept to read of what was deleted;
    /// [`Error::Document`] for heads that the document never had; [`Error::Pruned`] for a time
    /// between edits whose entries were pruned; [`Error::Auditor`]; the storage's errors.
    pub fn value_at(&self, object: &ObjectId, version: &Version) -> Result<Option<Object>> {
        self.check_reads()?;
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        self.value_then(&*snapshot(&db)?, &published, object, version)
    }

    /// What a document was, to be made again under an id of its own ([`UnitOfWork::restore`]). Of a
    /// deleted one [`Version::Now`] is all that was ever written of it, edits too that came too
    /// late.
    ///
    /// # Errors
    /// As [`Space::value_at`], but for [`Error::Deleted`]; [`Error::Pruned`] for a deleted one of
    /// which entries were pruned; [`Error::NotFound`] for one that was erased, or had not been
    /// created then.
    ///
    /// [`UnitOfWork::restore`]: crate::UnitOfWork::restore
    pub fn restorable(&self, object: &ObjectId, version: &Version) -> Result<Restorable> {
        self.check_reads()?;
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let not_then = || Error::NotFound(format!("{object} had not been created then"));
        if let Some(row) = self.sight.row(&db, object)? {
            let value = self.value_then(&db, &published, object, version)?;
            let value = value.ok_or_else(not_then)?;
            return Ok(Restorable { collection: row.collection, value });
        }
        let mut ids = copies::path(&db, object)?;
        ids.push(*object);
        for id in &ids {
            if tombstones::erased_up_to(&db, id)?.is_some() {
                return Err(Error::NotFound(format!("{object} was erased: nothing is left of it")));
            }
        }
        if !self.sight.is_deleted(&db, object)? {
            return Err(Error::NotFound(format!("there is no document {object}")));
        }
        let events = life(&db, (&published, self.sight), object)?;
        let root = ids.first().copied().unwrap_or(*object);
        let (collection, document, events) = deleted(&db, root, *object, events)?;
        let value = value_of(&document, events, version)?.ok_or_else(not_then)?;
        Ok(Restorable { collection, value })
    }

    /// The places at which two versions of a document differ. Before its creation it counts as
    /// empty.
    ///
    /// # Errors
    /// As [`Space::value_at`].
    pub fn diff(&self, object: &ObjectId, from: &Version, to: &Version) -> Result<Vec<Difference>> {
        self.check_reads()?;
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let value = |version| self.value_then(&db, &published, object, version);
        let (before, after) = (value(from)?.unwrap_or_default(), value(to)?.unwrap_or_default());
        Ok(differences(&before, &after)?)
    }

    fn live(&self, db: &Connection, object: &ObjectId) -> Result<documents::Document> {
        match self.sight.row(db, object)? {
            Some(row) => Ok(row),
            None if self.sight.is_deleted(db, object)? => Err(Error::Deleted(*object)),
            None => Err(Error::NotFound(format!("there is no document {object}"))),
        }
    }

    fn value_then(
        &self,
        db: &Connection,
        published: &Published,
        object: &ObjectId,
        version: &Version,
    ) -> Result<Option<Object>> {
        let document = load(db, &self.live(db, object)?)?;
        match version {
            Version::Now => Ok(Some(document.value()?)),
            Version::Heads(heads) => Ok(Some(document.value_at(heads)?)),
            Version::Time(time) => {
                let events = life(db, (published, self.sight), object)?;
                let is_pruned = |event: &Event| event.section.state == State::Excused;
                let creates = |event: &Event| {
                    event.section.about.is_some_and(|about| about.kind == kind::DOCUMENT_CREATE)
                };
                let heads = if events.iter().any(is_pruned) || !events.iter().any(creates) {
                    pruned_heads(db, object, *time)?
                } else {
                    None
                };
                version_until(&document, events, heads, *time)
            }
        }
    }
}

pub(crate) fn live(db: &Connection, object: &ObjectId) -> Result<documents::Document> {
    match documents::find(db, object)? {
        Some(row) => Ok(row),
        None if is_deleted(db, object)? => Err(Error::Deleted(*object)),
        None => Err(Error::NotFound(format!("there is no document {object}"))),
    }
}

/// A deleted document as its sections made it, and those of them that are its.
fn deleted(
    db: &Connection,
    root: ObjectId,
    object: ObjectId,
    events: Vec<Event>,
) -> Result<(CollectionName, Document, Vec<Event>)> {
    let mut first: Option<(EntryHash, CollectionName, Object)> = None;
    for event in &events {
        let Some(about) = event.section.about else { continue };
        if !matches!(about.kind, kind::DOCUMENT_CREATE | kind::DOCUMENT_CHANGE) {
            continue;
        }
        let opened = event.opened.as_ref().ok_or(Error::Pruned(object))?;
        if about.kind == kind::DOCUMENT_CHANGE {
            continue;
        }
        let place = event.section.place;
        let generation = entries::hash(db, place.log, place.seq)?;
        let value = body::Create::decode(&opened.body).ok().and_then(|create| create.value().ok());
        let found = generation.zip(opened.metadata.collection.clone()).zip(value);
        if let Some(((generation, collection), value)) = found
            && first.as_ref().is_none_or(|(lowest, ..)| generation < *lowest)
        {
            first = Some((generation, collection, value));
        }
    }
    let (generation, collection, value) = first.ok_or(Error::Pruned(object))?;
    let mut document = Document::flat(value);
    let mut its = Vec::new();
    for event in events {
        let metadata = event.opened.as_ref().map(|opened| &opened.metadata);
        let place = event.section.place;
        let is_its = match metadata.map(|metadata| metadata.kind) {
            Some(kind::DOCUMENT_CREATE) => {
                entries::hash(db, place.log, place.seq)? == Some(generation)
            }
            Some(kind::DOCUMENT_CHANGE) => {
                metadata.is_some_and(|metadata| metadata.generation == Some(generation))
            }
            _ => false,
        };
        if !is_its {
            continue;
        }
        if let Some(opened) = &event.opened
            && let Ok(change) = body::Change::decode(&opened.body)
            && let Ok(changes) = change.changes()
        {
            let actor = Actor::of(&logs::by_number(db, place.log)?.device, &root, &generation);
            let changes: Vec<_> = changes.map(|change| (actor, change)).collect();
            drop(document.apply(&changes));
        }
        its.push(event);
    }
    Ok((collection, document, its))
}

/// A version of a document of which these are all sections.
fn value_of(document: &Document, events: Vec<Event>, version: &Version) -> Result<Option<Object>> {
    match version {
        Version::Now => Ok(Some(document.value()?)),
        Version::Heads(heads) => Ok(Some(document.value_at(heads)?)),
        Version::Time(time) => version_until(document, events, None, *time),
    }
}

/// What `heads` and the sections that were written until then come to.
fn version_until(
    document: &Document,
    events: Vec<Event>,
    mut heads: Option<Heads>,
    time: Timestamp,
) -> Result<Option<Object>> {
    for event in events {
        let until = event.section.about.is_some_and(|about| about.clock.wall <= time);
        if let (true, Some(version)) = (until, version_of(&event)) {
            heads = Some(heads.map_or(version.clone(), |heads: Heads| heads.and(&version)));
        }
    }
    let Some(heads) = heads else { return Ok(None) };
    Ok(Some(document.value_at(&document.without_covered(&heads)?)?))
}

/// The leaf of a document in the snapshot that stands for what was pruned, if it has one.
pub(crate) fn leaf(db: &Connection, row: &documents::Document) -> Result<Option<DocumentLeaf>> {
    let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else { return Ok(None) };
    let key = (row.band, root(db, &row.object)?, row.generation);
    let kept = snapshots::leaf(db, &held, &key)?;
    Ok(match kept.map(|kept| kept.read()).transpose()? {
        Some(Leaf::Document(leaf)) => Some(leaf),
        Some(Leaf::Tombstone(_)) | None => None,
    })
}

/// What pruned entries made of a document until then: their order is not kept, so it is all of them
/// or none.
fn pruned_heads(db: &Connection, object: &ObjectId, time: Timestamp) -> Result<Option<Heads>> {
    let Some(leaf) = leaf(db, &live(db, object)?)? else { return Ok(None) };
    if leaf.created.clock.wall > time {
        return Ok(None);
    }
    if leaf.updated.clock.wall > time {
        return Err(Error::Pruned(*object));
    }
    Ok(Some(Heads::from_hashes(leaf.heads.iter().map(|head| *head.as_bytes()))))
}

fn pruned_item(published: &Published, stamp: Stamp, kind: u16, now: Timestamp) -> HistoryItem {
    let enrolled = published.roster.device(&stamp.device);
    HistoryItem {
        device: stamp.device,
        label: enrolled.map(|enrolled| enrolled.label.clone()),
        member: enrolled.map(|enrolled| enrolled.member),
        seq: stamp.seq,
        clock: stamp.clock,
        clock_ahead: stamp.clock.is_flagged(now),
        kind: word_of(kind),
        actor: None,
        correlation: None,
        version: None,
        restored_from: None,
        pruned: true,
    }
}

fn item(
    db: &Connection,
    published: &Published,
    event: Event,
    now: Timestamp,
) -> Result<Option<HistoryItem>> {
    let version = version_of(&event);
    let restored_from = restored_from(&event);
    let word = word_of_event(&event);
    let Event { section, opened } = event;
    let Some(about) = section.about else { return Ok(None) };
    let device = logs::by_number(db, section.place.log)?.device;
    let enrolled = published.roster.device(&device);
    Ok(Some(HistoryItem {
        device,
        label: enrolled.map(|enrolled| enrolled.label.clone()),
        member: enrolled.map(|enrolled| enrolled.member),
        seq: section.place.seq,
        clock: about.clock,
        clock_ahead: about.clock.is_flagged(now),
        kind: word.unwrap_or_else(|| word_of(about.kind)),
        correlation: opened.as_ref().and_then(|opened| opened.metadata.correlation),
        actor: opened.and_then(|opened| opened.metadata.actor),
        version,
        restored_from,
        pruned: section.state == State::Excused,
    }))
}

fn restored_from(event: &Event) -> Option<ObjectId> {
    let opened = event.opened.as_ref()?;
    match opened.metadata.kind {
        kind::DOCUMENT_CREATE => body::Create::decode(&opened.body).ok()?.from,
        _ => None,
    }
}

/// The word for what only its body tells.
fn word_of_event(event: &Event) -> Option<&'static str> {
    let opened = event.opened.as_ref()?;
    if opened.metadata.kind == kind::DOCUMENT_CREATE {
        let create = body::Create::decode(&opened.body).ok()?;
        let is_redacted = create.redacted.is_some();
        return create.from.map(|_| if is_redacted { "redact" } else { "restore" });
    }
    if opened.metadata.kind != kind::DOCUMENT_CHANGE {
        return None;
    }
    let change = body::Change::decode(&opened.body).ok()?;
    let is_in = change.changes().ok()?.filter_map(trash_of).last()?;
    Some(if is_in { "trash" } else { "untrash" })
}

/// The version that the author of a section saw when it was written.
fn version_of(event: &Event) -> Option<Heads> {
    let opened = event.opened.as_ref()?;
    match opened.metadata.kind {
        kind::DOCUMENT_CREATE => Some(Heads::FLAT),
        kind::DOCUMENT_CHANGE => {
            let change = body::Change::decode(&opened.body).ok()?;
            let last = change.changes().ok()?.last()?;
            Heads::after(last)
        }
        _ => None,
    }
}

/// The applied sections of one document, in the order in which they came to be known here.
fn life(
    db: &Connection,
    (published, sight): (&Published, Sight),
    object: &ObjectId,
) -> Result<Vec<Event>> {
    let path = copies::path(db, object)?;
    let root = path.first().copied().unwrap_or(*object);
    let applied = |id: &ObjectId| -> Result<Vec<Section>> {
        let mut sections = sections::of_object(db, id)?;
        sections.retain(|section| {
            matches!(section.state, State::Applied | State::Excused)
                && sight.sees_section(published, section)
        });
        Ok(sections)
    };
    let of_root = applied(&root)?;
    let creations = creations(db, &of_root)?;
    let generation = match sight.row(db, object)? {
        Some(row) => Some(row.generation),
        // What it passed last and the entry that created it give its id.
        None => path.last().and_then(|last| {
            creations.iter().find(|entry| next_id(last, entry) == *object).copied()
        }),
    };
    let is_one_of_many = creations.len() > 1;
    let mut events = Vec::new();
    for section in of_root {
        let opened = opened(db, published, &section)?;
        let is_its = match (section.about.map(|about| about.kind), &generation) {
            (Some(kind::DOCUMENT_CREATE), Some(generation)) => {
                let place = section.place;
                entries::hash(db, place.log, place.seq)?.as_ref() == Some(generation)
            }
            (Some(kind::DOCUMENT_CHANGE), Some(generation)) => match &opened {
                Some(opened) => opened.metadata.generation.as_ref() == Some(generation),
                None => !is_one_of_many,
            },
            _ => true,
        };
        if is_its {
            events.push(Event { section, opened });
        }
    }
    // It was deleted by its own id, or by one that it comes by.
    for id in path.iter().skip(1).chain(path.first().map(|_| object)) {
        for section in applied(id)? {
            if section.about.is_some_and(|about| about.kind == kind::DOCUMENT_DELETE) {
                let opened = opened(db, published, &section)?;
                events.push(Event { section, opened });
            }
        }
    }
    events.sort_by_key(|event| event.section.section);
    Ok(events)
}

/// The entries that create a document among these sections of one id.
fn creations(db: &Connection, sections: &[Section]) -> Result<Vec<EntryHash>> {
    let is_creation =
        |section: &&Section| section.about.is_some_and(|about| about.kind == kind::DOCUMENT_CREATE);
    let mut creations = Vec::new();
    for section in sections.iter().filter(is_creation) {
        creations.extend(entries::hash(db, section.place.log, section.place.seq)?);
    }
    Ok(creations)
}
