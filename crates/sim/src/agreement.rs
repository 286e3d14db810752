//! What devices that hold the same entries show, compared with each other and with the model.

use std::collections::{BTreeMap, BTreeSet};

use larder_engine::{Answer, Document, Query, Space};
use larder_log::{Band, Class, Payload, entry_hash};
use larder_protocol::{LogHead, Position, Reply, Request};
use larder_types::limits::CLOCK_AHEAD_MS_MAX;
use larder_types::{Clock, DeviceId, EntryHash, Hash, ObjectId};
use serde_json::Value;

use crate::app::COMMON;
use crate::device::Slot;
use crate::model::{Exact, Fate, Known, Operation, Unit};
use crate::world::World;

/// Words that are searched for on each device.
const SEARCHES_MAX: usize = 12;
/// Receipts made anew and verified.
const RECEIPTS_MAX: u64 = 40;

/// An entry as a listing shows it.
struct Listed {
    entry: EntryHash,
    /// Whether a document came to be by it; none if its bytes were pruned before they came here.
    creates: Option<bool>,
    /// When, as its device's clock claimed.
    clock: Option<Clock>,
}

/// Which documents' texts have which lines, and how often.
type Places<'a> = BTreeMap<&'a str, BTreeMap<ObjectId, usize>>;

/// All that a device shows.
pub(crate) struct Content {
    documents: BTreeMap<ObjectId, Document>,
    entries: BTreeMap<(DeviceId, u64), Listed>,
    digest: Hash,
    adoptions: u64,
    pub(crate) clearance: Band,
    space: Space,
}

impl Content {
    pub(crate) fn read(space: &Space) -> Self {
        let mut documents = BTreeMap::new();
        let mut after = None;
        loop {
            let page = space.list(None, after, 1000).expect("a listing");
            documents
                .extend(page.documents.into_iter().map(|document| (document.object, document)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let (mut entries, mut adoptions) = (BTreeMap::new(), 0);
        let mut after = None;
        loop {
            let page = space.receipts(after, 1000).expect("a listing");
            let Some(last) = page.last() else { break };
            after = Some((last.device, last.seq));
            let kinds = page.iter().flat_map(|info| &info.kinds);
            adoptions += kinds.filter(|kind| **kind == "adoption").count() as u64;
            entries.extend(page.iter().map(|info| {
                let is_known = !info.kinds.is_empty();
                let creates = is_known.then(|| info.kinds.contains(&"create"));
                let clock = info.clock;
                ((info.device, info.seq), Listed { entry: info.entry, creates, clock })
            }));
        }
        let digest = space.digest().expect("a digest");
        let (clearance, space) = (clearance_in(space), space.clone());
        let content = Self { documents, entries, digest, adoptions, clearance, space };
        content.check_search();
        content
    }

    /// Two devices with the same entries show the same.
    pub(crate) fn compare(&self, other: &Self, slot: Slot) {
        let objects = |content: &Self| content.documents.keys().copied().collect::<Vec<_>>();
        assert_eq!(objects(self), objects(other), "{slot} has other documents");
        for (object, document) in &self.documents {
            let theirs = &other.documents[object];
            let of = |document: &Document| {
                let json = serde_json::to_string(&document.value).expect("JSON");
                (document.collection.clone(), json, document.heads.clone())
            };
            assert_eq!(of(document), of(theirs), "{slot} shows another value of {object}");
        }
        let hashes = |content: &Self| -> Vec<_> {
            content.entries.iter().map(|(place, listed)| (*place, listed.entry)).collect()
        };
        assert_eq!(hashes(self), hashes(other), "{slot} has other entries");
        assert_eq!(self.digest, other.digest, "{slot} has other documents or tombstones");
    }

    /// The same of what both are cleared for.
    pub(crate) fn compare_up_to(&self, clearance: Band, other: &Self, slot: Slot) {
        let both = clearance.min(self.clearance);
        let of = |content: &Self| -> Vec<_> {
            let documents = content.documents.iter().filter(|(_, it)| it.band <= both);
            let shown = |(object, it): (&ObjectId, &Document)| {
                let json = serde_json::to_string(&it.value).expect("JSON");
                (*object, it.collection.clone(), json, it.heads.clone())
            };
            documents.map(shown).collect()
        };
        assert_eq!(of(self), of(other), "{slot} shows other documents up to {both:?}");
    }

    /// Each document is found by its words, once, and nothing else is.
    fn check_search(&self) {
        self.check_query(COMMON, &self.documents.keys().copied().collect::<Vec<_>>());
        let places = self.places();
        for (token, places) in places.iter().rev().take(SEARCHES_MAX) {
            let objects: Vec<ObjectId> = places.keys().copied().collect();
            self.check_query(token, &objects);
        }
    }

    fn check_query(&self, word: &str, expected: &[ObjectId]) {
        let found = self.space.search(&Query::text(word).limit(1000)).expect("a search");
        let mut found: Vec<ObjectId> = found.iter().map(|found| found.document.object).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "a search for {word} finds other documents");
    }

    /// Which documents' texts have which lines, and how often.
    fn places(&self) -> Places<'_> {
        let mut places = Places::new();
        for (object, document) in &self.documents {
            let text = document.value.get("text").and_then(Value::as_str).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with('q') && line.ends_with('z')) {
                *places.entry(line).or_default().entry(*object).or_default() += 1;
            }
        }
        places
    }

    /// Whether the unit is in the logs as one that creates a document, if that can be told.
    fn creates(&self, unit: &Unit) -> Option<bool> {
        let Fate::Committed(committed) = &unit.fate else { return Some(false) };
        self.entries.get(&(unit.author, committed.seq)).map_or(Some(false), |entry| entry.creates)
    }

    /// Whether the unit is in the logs; none if even its app does not know.
    fn holds(&self, unit: &Unit) -> Option<bool> {
        match &unit.fate {
            Fate::Committed(committed) => {
                let entry = self.entries.get(&(unit.author, committed.seq));
                Some(entry.is_some_and(|entry| entry.entry == committed.entry))
            }
            Fate::Refused => Some(false),
            Fate::Waiting | Fate::Unknown => None,
        }
    }
}

/// Which band the device is cleared for, as far as it knows.
fn clearance_in(space: &Space) -> Band {
    let devices = space.devices().unwrap_or_default();
    devices.into_iter().find(|device| device.me).map_or(Band::Red, |own| own.clearance)
}

impl World {
    pub(crate) fn clearance(&self, slot: Slot) -> Band {
        self.devices[slot].space().map_or(Band::Red, clearance_in)
    }

    /// What a device with a lower clearance could give to anybody has no byte above it.
    pub(crate) fn check_clearance(&mut self, slot: Slot) {
        let clearance = self.clearance(slot);
        if clearance == Band::Red {
            return;
        }
        let band = |operation: &Operation| self.model.documents[&operation.object()].band;
        let below =
            |unit: &Unit| unit.operations.iter().filter(|it| band(it) <= Some(clearance)).count();
        let units = self.model.committed_units();
        let units = units.filter(|(unit, _)| below(unit) < unit.operations.len());
        let units = units.map(|(unit, one)| ((unit.author, one.entry), below(unit)));
        let units: BTreeMap<_, usize> = units.collect();
        let space = self.devices[slot].space().expect("it is up").clone();
        let (mut after, mut have, mut seen) = (Position::default(), BTreeMap::new(), 0);
        loop {
            let (epochs, bytes_target) = (Vec::new(), 1 << 20);
            let request = Request::ReadBatch { after, have: have.clone(), epochs, bytes_target };
            let answer = space.answer(&self.devices[slot].transport, request);
            let Answer::Reply(Reply::Batch { position, batch }) = answer else {
                panic!("{slot} does not hand on what it holds: {answer:?}")
            };
            let Some(batch) = batch else { break };
            (after, _) = (position, have.insert(batch.device, batch.size()));
            for entry in &batch.entries {
                let of = (batch.device, entry_hash(&entry.header));
                let Some(below) = units.get(&of) else { continue };
                let all = entry.commitments.iter().zip(&entry.payloads);
                let here = all.filter(|(commitment, payload)| {
                    commitment.class == Class::Data as u8 && **payload != Payload::Missing
                });
                let here = here.count();
                assert!(here <= *below, "{slot} has bytes of {of:?} above {clearance:?}");
                seen += 1;
            }
        }
        self.report.add("check: entries above a clearance", seen);
    }

    /// Logs and documents, as one device shows them, beside the model.
    pub(crate) fn check_entries(
        &mut self,
        members: &[Slot],
        frontier: &BTreeMap<DeviceId, LogHead>,
        content: &Content,
    ) {
        let is_honest =
            |author: &DeviceId| members.iter().any(|slot| self.devices[*slot].id == Some(*author));
        let mut receipts = 0;
        for (unit, committed) in self.model.committed_units() {
            receipts += 1;
            if is_honest(&unit.author) {
                assert_eq!(
                    content.holds(unit),
                    Some(true),
                    "entry {} of {} is not what its receipt says",
                    committed.seq,
                    unit.slot
                );
            }
        }
        self.report.add("check: receipts kept", receipts);
        self.check_checkpoints(frontier, content);
        self.check_clocks(content);
        let members: BTreeSet<DeviceId> =
            members.iter().filter_map(|slot| self.devices[*slot].id).collect();
        let places = content.places();
        for (object, known) in &self.model.documents {
            self.check_document(*object, known, content, (&members, &places));
        }
        self.report.add("check: late edits adopted", content.adoptions);
        self.report.add("check: documents", self.model.documents.len() as u64);
    }

    /// Every entry is under a checkpoint that its author signed.
    fn check_checkpoints(&mut self, frontier: &BTreeMap<DeviceId, LogHead>, content: &Content) {
        for head in frontier.values() {
            let last = head.size;
            for seq in 0..RECEIPTS_MAX / 8 {
                let seq = if seq == 0 { last } else { 1 + self.dice.below(last) };
                let receipt = content.space.receipt(&head.device, seq).expect("an entry held");
                receipt.verify().expect("an entry under a checkpoint");
                self.report.count("check: entries under checkpoints");
            }
        }
    }

    /// A clock that is far ahead drags no other device's with it.
    fn check_clocks(&mut self, content: &Content) {
        for device in self.devices.iter().filter(|device| !device.was_copied) {
            let Some(id) = device.id else { continue };
            let most_ms = device.world.latest().0 + CLOCK_AHEAD_MS_MAX;
            for ((_, seq), listed) in content.entries.range((id, 0)..=(id, u64::MAX)) {
                let wall_ms = listed.clock.map_or(0, |clock| clock.wall.0);
                let slot = device.slot;
                assert!(wall_ms <= most_ms, "entry {seq} of {slot} is of {wall_ms}, by {most_ms}");
            }
            self.report.count("check: clocks");
        }
    }

    fn check_document(
        &self,
        object: ObjectId,
        known: &Known,
        content: &Content,
        (members, places): (&BTreeSet<DeviceId>, &Places<'_>),
    ) {
        if known.band.is_some_and(|band| band > content.clearance) {
            let of = |unit: &usize| &self.model.units[*unit].operations;
            let operations = known.units.iter().flat_map(of).filter(|it| it.object() == object);
            for token in operations.filter_map(Operation::token) {
                assert!(!places.contains_key(token), "{token} is above a clearance");
                let found = content.space.search(&Query::text(token)).expect("a search");
                assert!(found.is_empty(), "{token} is above a clearance, and found");
            }
            assert!(!content.documents.contains_key(&object), "{object} is above a clearance");
            return;
        }
        let expected = self.expected(object, known, content, members);
        let Expected { deleted, creations, is_disputed, is_certain, .. } = expected;
        let shown = content.documents.get(&object);
        for (token, held) in &expected.tokens {
            let places = places.get(token);
            let found: usize = places.map_or(0, |places| places.values().sum());
            let me = self.devices.iter().find(|device| device.id == Some(content.space.device()));
            assert!(
                expected.allows(*held, found),
                "{token} of {object} is there {found} times on {:?}, its unit {held:?}: {:?} {:?}",
                me.map(|device| device.slot),
                shown.map(|shown| &shown.value),
                content.space.status(),
            );
        }
        if deleted == Some(true) {
            assert!(shown.is_none(), "{object} was deleted and is there");
            assert!(content.space.is_deleted(&object).expect("an answer"));
        } else if let (Exact::By(_, value), true, Some(false)) = (&known.exact, is_certain, deleted)
            && creations == 1
            && !is_disputed
        {
            let shown = shown.map(|document| &document.value);
            assert_eq!(shown, Some(value), "{object} is not what its one writer wrote");
        }
    }

    /// Whether it was written after its author was shut out, as far as the first device knew.
    fn is_late(&self, unit: &Unit) -> bool {
        let keeps = self.model.keeps.get(&unit.author).filter(|_| !self.devices[0].was_copied);
        let Fate::Committed(committed) = &unit.fate else { return false };
        let is_late = keeps.is_some_and(|keeps| *keeps < committed.seq);
        is_late && !self.is_copied(&unit.author)
    }

    /// What a document has to be where this content is.
    fn expected<'m>(
        &'m self,
        object: ObjectId,
        known: &Known,
        content: &Content,
        members: &BTreeSet<DeviceId>,
    ) -> Expected<'m> {
        // Of a log with two histories a device holds one, and edits that build on what only the
        // other has wait for ever.
        let is_missing = |unit: &Unit| {
            let is_held = content.holds(unit) == Some(true) && !unit.is_twice;
            self.is_copied(&unit.author) && !is_held && !matches!(unit.fate, Fate::Refused)
        };
        let units = || known.units.iter().map(|index| &self.model.units[*index]);
        let any_doubtful = units().any(|unit| self.is_doubtful(&unit.author));
        let mut expected = Expected {
            deleted: Some(false),
            creations: 0,
            overwrites: 0,
            overwritten_again: 0,
            is_overwritten: false,
            is_disputed: units().any(is_missing),
            is_certain: true,
            tokens: Vec::new(),
        };
        for unit in units() {
            let is_copied = self.is_copied(&unit.author);
            let is_orphan = !members.contains(&unit.author);
            expected.is_disputed |= is_orphan && any_doubtful;
            let held = match content.holds(unit) {
                // It is, and counts for nothing unless somebody had written on.
                Some(true) if self.is_late(unit) && content.adoptions == 0 => Some(false),
                Some(true) if self.is_doubtful(&unit.author) => None,
                // What a copy forgot it may have been asked for again, as another entry.
                Some(false) if unit.key.is_some() && is_copied => None,
                held => held,
            };
            expected.is_certain &= held == Some(true) || matches!(unit.fate, Fate::Refused);
            for operation in unit.operations.iter().filter(|op| op.object() == object) {
                expected.take(operation, unit, held, is_copied, content.creates(unit));
            }
        }
        // Of another creation than its app had seen, one leaves lines in both.
        if expected.creations > 1 {
            expected.overwritten_again += expected.overwrites;
        }
        expected
    }
}

/// What the model says of a document on one device. `None`: it cannot tell.
struct Expected<'m> {
    deleted: Option<bool>,
    creations: usize,
    overwrites: usize,
    /// How often a line may be there more than once.
    overwritten_again: usize,
    is_overwritten: bool,
    /// Whether it hangs on a log with two histories.
    is_disputed: bool,
    /// Whether it is known of each unit whether it is held.
    is_certain: bool,
    /// What each unit left in it, and whether that unit is held.
    tokens: Vec<(&'m str, Option<bool>)>,
}

impl<'m> Expected<'m> {
    fn take(
        &mut self,
        operation: &'m Operation,
        unit: &Unit,
        held: Option<bool>,
        is_copied: bool,
        creates: Option<bool>,
    ) {
        let is_done = held != Some(false);
        match operation {
            Operation::Delete { .. } | Operation::Erase { .. } => {
                self.deleted = match (self.deleted, held) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (before, Some(false)) => before,
                    (_, None) => None,
                };
            }
            Operation::Overwrite { .. } => {
                self.is_overwritten |= is_done;
                self.overwrites += usize::from(is_done);
                // Asked for again on an old copy, it inserts what had not arrived.
                self.overwritten_again += usize::from(is_done && is_copied);
            }
            // Another creation had arrived since the app looked, and this is an edit of it.
            Operation::Create { is_shared: true, .. } if creates != Some(true) => {
                self.is_overwritten |= is_done;
                // Or it was one, and which of several lived is not known.
                self.creations += 2 * usize::from(creates.is_none());
            }
            Operation::Create { .. } => self.creations += usize::from(is_done),
            // Asked for again on an old copy, where the document is not, it makes one of all its
            // lines.
            Operation::Edit { .. } => {
                let is_again = unit.key.is_some() && is_copied;
                self.overwritten_again += usize::from(is_again && is_done);
            }
        }
        self.tokens.extend(operation.token().map(|token| (token, held)));
    }

    /// Whether what a unit left may be found so often.
    fn allows(&self, held: Option<bool>, found: usize) -> bool {
        match (held, self.deleted) {
            (_, Some(true)) => found == 0,
            (Some(false), _) => found <= self.overwritten_again,
            (Some(true), Some(false)) if !self.is_overwritten && !self.is_disputed => found == 1,
            _ => found <= 1 + self.overwritten_again,
        }
    }
}
