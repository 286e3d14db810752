//! Documents and tombstones against the sections that make them.

use std::collections::{BTreeMap, BTreeSet};

use larder_document::Heads;
use larder_log::act::Act;
use larder_log::{Band, Class, kind};
use larder_store::space::documents::{self, Stamp};
use larder_store::space::sections::{self, Place, Section, State};
use larder_store::space::tombstones::{self, Tombstone};
use larder_store::space::{changes, copies, entries, logs, snapshots};
use larder_types::{EntryHash, ObjectId, Timestamp, canonical};
use rusqlite::Connection;

use super::log::{Judged, counts, open};
use super::{CheckedPart, Checking, is_alive, is_document, tried};
use crate::Result;
use crate::copies::next_id;
use crate::effects::{Effects, about};
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::touched::{load, parse};
use crate::unreadable::Thing;

/// What is compared of a document: not when it was last touched here, which depends on the order
/// in which changes came, nor the bytes of its history, which are those of its heads.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    document: i64,
    collection: String,
    generation: EntryHash,
    created: Stamp,
    heads: Vec<u8>,
    json: String,
    trashed: Option<Timestamp>,
    band: Band,
    path: Vec<ObjectId>,
    /// Whether its history is that of its heads and gives its value.
    is_sound: bool,
}

/// All rows of some ids, in the bands above one if there is one.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rows {
    documents: BTreeMap<ObjectId, Option<Row>>,
    tombstones: BTreeMap<ObjectId, Vec<Tombstone>>,
}

impl Rows {
    fn read(db: &Connection, ids: &BTreeSet<ObjectId>, above: Option<Band>) -> Result<Self> {
        let mut rows = Self::default();
        for id in ids {
            // A row that cannot be read is not the one that should be there.
            let row = match documents::find(db, id) {
                Ok(None) => None,
                Ok(Some(row)) if Some(row.band) <= above => None,
                Ok(Some(row)) => Some(Row::of(db, row)?),
                Err(_) => Some(None),
            };
            is_alive(db)?;
            if let Some(row) = row {
                rows.documents.insert(*id, row);
            }
            let mut buried = tombstones::of_object(db, id)?;
            buried.retain(|tombstone| Some(tombstone.band) > above);
            if !buried.is_empty() {
                rows.tombstones.insert(*id, buried);
            }
        }
        Ok(rows)
    }

    fn is_like(&self, other: &Self) -> bool {
        let without_number = |row: &Option<Row>| row.clone().map(|row| Row { document: 0, ..row });
        self.tombstones == other.tombstones
            && self.documents.len() == other.documents.len()
            && self.documents.iter().all(|(id, row)| {
                let other = other.documents.get(id);
                other.is_some_and(|other| without_number(row) == without_number(other))
            })
    }
}

impl Row {
    fn of(db: &Connection, row: documents::Document) -> Result<Option<Self>> {
        let path = copies::path(db, &row.object)?;
        let is_sound = load(db, &row).is_ok_and(|document| {
            let heads = canonical::decode::<Heads>(&row.heads, row.heads.len());
            let value = parse(&row.json);
            heads.is_ok_and(|heads| heads == document.heads())
                && document.value().is_ok_and(|now| value.is_ok_and(|value| value == now))
                && document.trashed().is_ok_and(|since| since == row.trashed)
        });
        let collection = row.collection.to_string();
        let documents::Document { document, generation, created, heads, json, .. } = row;
        let (trashed, band) = (row.trashed, row.band);
        Ok(Some(Self {
            document,
            collection,
            generation,
            created,
            heads,
            json,
            trashed,
            band,
            path,
            is_sound,
        }))
    }
}

/// Some objects.
pub(super) fn check_objects(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    page: &[ObjectId],
) -> Result<()> {
    let agreed = if may_be_pruned(db)? { agreed(db)? } else { Vec::new() };
    for object in page {
        checking.report.objects += 1;
        check_object(db, state, checking, *object, &agreed)?;
    }
    Ok(())
}

pub(super) fn check_one(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    object: ObjectId,
) -> Result<()> {
    let agreed = if may_be_pruned(db)? { agreed(db)? } else { Vec::new() };
    check_object(db, state, checking, object, &agreed)
}

fn check_object(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    object: ObjectId,
    agreed: &[i64],
) -> Result<()> {
    state.damage.unreadable.enter(Thing::Document(object))?;
    let Some((ids, mut sections)) = family(db, object)? else {
        checking.report.objects_not_judged += 1;
        return Ok(());
    };
    let mut erased = None;
    for id in &ids {
        let up_to = tombstones::erased_up_to(db, id)?;
        if up_to.is_some() {
            crate::erase::check_object(db, state, checking, *id)?;
        }
        erased = erased.max(up_to);
    }
    // What is in a band that no erasure reached is as any other.
    sections.retain(|section| state.keyring.band(&section.commitment) > erased);
    if erased.is_some() && sections.is_empty() {
        return Ok(());
    }
    // What was handed over as a snapshot has sections of which nothing is noted here.
    if has_leaf(db, &ids, agreed)? {
        checking.report.objects_not_judged += 1;
        return Ok(());
    }
    let before = Rows::read(db, &ids, erased)?;
    let repair = checking.repair;
    let is_receiving = snapshots::in_state(db, snapshots::State::Receiving)?.is_some();
    let mut judged = Vec::new();
    let after = tried(db, state, |db, state| {
        clear(db, state, &ids, erased)?;
        if !replay(db, state, &sections)? {
            return Ok((None, false));
        }
        let after = Rows::read(db, &ids, erased)?;
        // What a part of an earlier snapshot said stays, and its leaves went as another one began.
        if is_receiving && !before.documents.keys().eq(after.documents.keys()) {
            return Ok((None, false));
        }
        let stays = repair && !before.is_like(&after);
        if repair && !stays {
            judged = judged_otherwise(db, &sections)?;
        }
        if stays {
            keep_numbers(db, state, &before, &after)?;
            index_anew(db, state, &before, &after)?;
            for id in &ids {
                changes::add_late(db, id, None)?;
            }
        }
        Ok((Some(after), stays))
    })?;
    for id in &ids {
        state.cache.remove(id);
    }
    // What counts by now waits, where its document is not here yet.
    for (place, now) in judged {
        sections::settle(db, place, now, None)?;
    }
    let Some(after) = after else {
        checking.report.objects_not_judged += 1;
        return Ok(());
    };
    for id in ids {
        let (old, new) = (before.documents.get(&id), after.documents.get(&id));
        let without_number = |row: &Option<Row>| row.clone().map(|row| Row { document: 0, ..row });
        let what = match (old.map(without_number), new.map(without_number)) {
            (old, new) if old == new => {
                if before.tombstones.get(&id) == after.tombstones.get(&id) {
                    continue;
                }
                "its tombstone is not what the log says"
            }
            (None, Some(_)) => "it is missing, and the log has it",
            (Some(_), None) => "it is there, and by the log it is not",
            _ => "its value or its history is not what the log says",
        };
        checking.found(CheckedPart::Document, what).object = Some(id);
    }
    Ok(())
}

/// What became of those sections that are judged otherwise than they were.
fn judged_otherwise(db: &Connection, sections: &[Section]) -> Result<Vec<(Place, State)>> {
    let mut judged = Vec::new();
    for section in sections {
        let now = sections::find(db, section.place)?.map(|now| now.state);
        judged.extend(now.filter(|now| *now != section.state).map(|now| (section.place, now)));
    }
    Ok(judged)
}

/// Whether a snapshot stands for a part of what documents are made of.
fn has_leaf(db: &Connection, ids: &BTreeSet<ObjectId>, agreed: &[i64]) -> Result<bool> {
    for (snapshot, id) in agreed.iter().flat_map(|agreed| ids.iter().map(move |id| (agreed, id))) {
        if snapshots::has_leaf_of(db, *snapshot, id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ids that have to do with an object, and the sections that are of them, in order. `None`:
/// too many to look at together.
fn family(db: &Connection, object: ObjectId) -> Result<Option<(BTreeSet<ObjectId>, Vec<Section>)>> {
    let mut ids = BTreeSet::from([object]);
    let mut open = vec![object];
    let mut all = BTreeMap::new();
    while let Some(id) = open.pop() {
        let mut found: Vec<ObjectId> = copies::path(db, &id)?;
        for copy in copies::through(db, &id)? {
            found.extend(copies::path(db, &copy)?);
            found.push(copy);
        }
        let mut creations = BTreeSet::new();
        for section in sections::of_object(db, &id)? {
            if section.about.is_some_and(|about| about.kind == kind::DOCUMENT_CREATE) {
                creations.extend(entries::hash(db, section.place.log, section.place.seq)?);
            }
            if is_document(&section) {
                all.insert(section.section, section);
            }
        }
        if creations.len() > 1 {
            for generation in &creations {
                let mut at = id;
                for _ in 1..creations.len() {
                    at = next_id(&at, generation);
                    found.push(at);
                }
            }
        }
        for id in found {
            if ids.insert(id) {
                open.push(id);
            }
        }
        if ids.len() > FAMILY_MAX {
            return Ok(None);
        }
    }
    Ok(Some((ids, all.into_values().collect())))
}

fn clear(
    db: &Connection,
    state: &mut WriterState,
    ids: &BTreeSet<ObjectId>,
    above: Option<Band>,
) -> Result<()> {
    for id in ids {
        for band in Band::SHARED.into_iter().filter(|band| Some(*band) > above) {
            tombstones::forget_in(db, id, band)?;
        }
        state.cache.remove(id);
        let is_below = |row: documents::Document| Some(row.band) <= above;
        if above.is_some() && documents::find(db, id)?.is_some_and(is_below) {
            continue;
        }
        documents::remove(db, id)?;
        copies::set_path(db, id, &[])?;
    }
    Ok(())
}

/// Applies the sections anew. What builds on a log with two histories may have come before what it
/// builds on: it is tried again as long as something comes of it. False if one of them cannot be
/// opened.
fn replay(db: &Connection, state: &mut WriterState, sections: &[Section]) -> Result<bool> {
    let mut left = sections.to_vec();
    loop {
        if !replay_once(db, state, &left)? {
            return Ok(false);
        }
        let before = left.len();
        let mut waiting = Vec::new();
        for section in left {
            let now = sections::find(db, section.place)?;
            waiting.extend(now.filter(|now| now.state == State::Waiting));
        }
        if waiting.is_empty() || waiting.len() == before {
            return Ok(true);
        }
        left = waiting;
    }
}

fn replay_once(db: &Connection, state: &mut WriterState, sections: &[Section]) -> Result<bool> {
    let mut effects = Effects::default();
    for section in sections {
        let place = section.place;
        let opened = match open(db, state, section)? {
            Judged::Opened(opened) => *opened,
            Judged::Nothing | Judged::Damaged => return Ok(false),
        };
        let device = logs::by_number(db, place.log)?.device;
        let Some(entry) = entries::hash(db, place.log, place.seq)? else { return Ok(false) };
        let (seq, index, clock) = (place.seq, place.index, about(&opened).clock);
        let band = state.band_of(section)?;
        let origin = Origin { log: place.log, device, seq, index, entry, clock, band };
        if !state.counts_at(&origin) {
            sections::settle(db, place, State::Void, None)?;
            continue;
        }
        let is_void = Act::read(section.commitment.class, &opened).is_err()
            || section.commitment.class != Class::Data as u8;
        // What was void may have been so by its document alone, which is found out again.
        if is_void || (section.state == State::Void && !counts(db, state, section)?) {
            continue;
        }
        if section.state != State::Applied {
            sections::settle(db, place, State::Applied, None)?;
        }
        let became = state.take_document(db, origin, opened, None, &mut effects)?;
        if became != State::Applied {
            sections::settle(db, place, became, None)?;
        }
    }
    state.write_effects(db, effects)?;
    Ok(true)
}

/// The indexes know documents by their numbers, and what an app brought itself is in no log. One
/// that was made again may have come back under the number of another that was, or that of one that
/// is new: those are moved behind all others first (simulated seed 28).
fn keep_numbers(
    db: &Connection,
    state: &mut WriterState,
    before: &Rows,
    after: &Rows,
) -> Result<()> {
    let number = |rows: &Rows, id| Some(rows.documents.get(id)?.as_ref()?.document);
    let there =
        after.documents.keys().filter_map(|id| Some((number(before, id), number(after, id)?)));
    let made: Vec<_> = there.filter(|(old, new)| *old != Some(*new)).collect();
    let mut free = made.iter().map(|(_, new)| new + 1).max().unwrap_or(1);
    let mut back = Vec::new();
    for (old, new) in &made {
        let is_anothers = made.iter().any(|(old, _)| *old == Some(*new));
        let mut now = *new;
        if old.is_some() || is_anothers {
            documents::renumber(db, *new, free)?;
            (now, free) = (free, free + 1);
        }
        if let Some(old) = old {
            back.push((now, *old));
        } else {
            // The number may have been that of another, whose vectors are still there.
            larder_search::remove_vectors(db, now)?;
            state.index_new(now);
        }
    }
    for (from, to) in back {
        documents::renumber(db, from, to)?;
    }
    Ok(())
}

/// The indexes hold what the documents said before. What they hold of one that is damaged nobody
/// knows: a check compares them.
fn index_anew(db: &Connection, state: &mut WriterState, before: &Rows, after: &Rows) -> Result<()> {
    for (id, old) in &before.documents {
        let Some(old) = old.as_ref().filter(|old| old.is_sound) else { continue };
        match after.documents.get(id) {
            Some(Some(new)) if new.json == old.json => {}
            Some(_) => state.index_changed(db, old.document, &old.json)?,
            None => state.index_removed(db, old.document, &old.json)?,
        }
    }
    Ok(())
}

/// Documents that no section is of.
pub(super) fn check_strays(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    page: &[documents::Document],
) -> Result<()> {
    for row in page {
        let root = crate::copies::root(db, &row.object)?;
        let sections = sections::of_object(db, &root)?;
        // Of what was pruned there is no section to be found.
        let is_known = sections.iter().any(is_document);
        if is_known || may_be_pruned(db)? {
            continue;
        }
        if checking.repair {
            state.remove_row(db, row)?;
            changes::add_late(db, &row.object, None)?;
        }
        let what = "it is there, and the log knows nothing of it";
        checking.found(CheckedPart::Document, what).object = Some(row.object);
    }
    Ok(())
}

fn may_be_pruned(db: &Connection) -> Result<bool> {
    let is_receiving = snapshots::in_state(db, snapshots::State::Receiving)?.is_some();
    Ok(is_receiving || sections::any_in(db, State::Excused)?)
}

/// The lots of leaves that are here, of whole snapshots or not.
fn agreed(db: &Connection) -> Result<Vec<i64>> {
    let all = [snapshots::State::Held, snapshots::State::Receiving];
    let all = all.into_iter().map(|state| Ok(snapshots::in_state(db, state)?));
    let all: Result<Vec<_>> = all.collect();
    let leaves = |of: snapshots::Snapshot| [Some(of.snapshot), of.over];
    Ok(all?.into_iter().flatten().flat_map(leaves).flatten().collect())
}

const FAMILY_MAX: usize = 256;
