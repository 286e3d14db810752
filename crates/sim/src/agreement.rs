//! What devices that hold the same entries show, compared with each other and with the model.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::repeat;

use larder_engine::{Cursor, Document, Page, Query, Space};
use larder_log::Band;
use larder_protocol::LogHead;
use larder_types::limits::CLOCK_AHEAD_MS_MAX;
use larder_types::{Clock, DeviceId, EntryHash, Hash, ObjectId};
use serde_json::Value;

use crate::app::{ASIDE, COMMON};
use crate::bands::clearance_in;
use crate::device::Slot;
use crate::model::{Exact, Fate, Operation, Unit};
use crate::redactions::Asides;
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

type Documents = BTreeMap<ObjectId, Document>;

/// All that a device shows.
pub(crate) struct Content {
    documents: Documents,
    trash: Documents,
    /// How often words are there that may be taken out.
    pub(crate) asides: BTreeMap<String, usize>,
    entries: BTreeMap<(DeviceId, u64), Listed>,
    /// Entries of which bytes are lacking.
    awaited: BTreeSet<(DeviceId, u64)>,
    /// Whether sections wait for a secret, or a change.
    is_waiting: bool,
    digest: Hash,
    adoptions: u64,
    pub(crate) clearance: Band,
    space: Space,
}

impl Content {
    pub(crate) fn read(space: &Space, awaited: BTreeSet<(DeviceId, u64)>) -> Self {
        let documents = all(|after| space.list(None, after, 1000).expect("a listing"));
        let trash = all(|after| space.list_trash(None, after, 1000).expect("a listing"));
        let mut asides: BTreeMap<String, usize> = BTreeMap::new();
        for document in documents.values().chain(trash.values()) {
            if let Some(word) = document.value.get(ASIDE).and_then(Value::as_str) {
                *asides.entry(word.to_owned()).or_default() += 1;
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
        let content = Self {
            documents,
            trash,
            asides,
            entries,
            awaited,
            is_waiting: space.status().expect("how it stands").waiting > 0,
            digest,
            adoptions,
            clearance,
            space,
        };
        content.check_search();
        content
    }

    /// Two devices with the same entries show the same, but of what is `open`: each keeps its own
    /// until what is left of a redacted document comes, and from a log with two histories it may
    /// never.
    pub(crate) fn compare(&self, other: &Self, slot: Slot, open: &BTreeSet<ObjectId>) {
        let objects = |documents: &Documents| -> BTreeSet<ObjectId> {
            documents.keys().copied().filter(|object| !open.contains(object)).collect()
        };
        for (ours, theirs, of) in
            [(&self.documents, &other.documents, ""), (&self.trash, &other.trash, " in the trash")]
        {
            let (mine, yours) = (objects(ours), objects(theirs));
            let differing: Vec<_> = mine.symmetric_difference(&yours).collect();
            assert!(differing.is_empty(), "{slot} has other documents{of}: {differing:?}");
            for (object, document) in ours.iter().filter(|(object, _)| mine.contains(*object)) {
                let of = |document: &Document| {
                    let json = serde_json::to_string(&document.value).expect("JSON");
                    (document.collection.clone(), json, document.heads.clone())
                };
                let (ours, theirs) = (of(document), of(&theirs[object]));
                assert_eq!(ours, theirs, "{slot} shows another value of {object}");
            }
        }
        let hashes = |content: &Self| -> Vec<_> {
            content.entries.iter().map(|(place, listed)| (*place, listed.entry)).collect()
        };
        assert_eq!(hashes(self), hashes(other), "{slot} has other entries");
        if open.is_empty() {
            assert_eq!(self.digest, other.digest, "{slot} has other documents or tombstones");
        }
    }

    /// The same of what both are cleared for.
    pub(crate) fn compare_up_to(&self, clearance: Band, other: &Self, slot: Slot) {
        let both = clearance.min(self.clearance);
        let of = |content: &Self| -> BTreeSet<_> {
            let listed = [(false, &content.documents), (true, &content.trash)];
            let all =
                listed.into_iter().flat_map(|(is_trash, all)| all.iter().zip(repeat(is_trash)));
            let shown = |((object, it), is_trash): ((&ObjectId, &Document), bool)| {
                let json = serde_json::to_string(&it.value).expect("JSON");
                (*object, is_trash, it.collection.clone(), json, it.heads.to_string())
            };
            all.filter(|((_, it), _)| it.band <= both).map(shown).collect()
        };
        let (ours, theirs) = (of(self), of(other));
        let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
        assert!(differing.is_empty(), "{slot} shows others up to {both:?}: {differing:?}");
    }

    /// Each document is found by its words, once, and nothing else is.
    fn check_search(&self) {
        self.check_query(COMMON, &self.documents.keys().copied().collect::<Vec<_>>());
        let places = places_of([&self.documents]);
        for (token, places) in places.iter().rev().take(SEARCHES_MAX) {
            let objects: Vec<ObjectId> = places.keys().copied().collect();
            self.check_query(token, &objects);
        }
        let trashed = places_of([&self.trash]);
        for token in trashed.keys().filter(|token| !places.contains_key(*token)).take(SEARCHES_MAX)
        {
            self.check_query(token, &[]);
        }
    }

    pub(crate) fn finds(&self, word: &str) -> Vec<ObjectId> {
        let found = self.space.search(&Query::text(word).limit(1000)).expect("a search");
        found.iter().map(|found| found.document.object).collect()
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.space.device()
    }

    fn check_query(&self, word: &str, expected: &[ObjectId]) {
        let mut found = self.finds(word);
        found.sort_unstable();
        assert_eq!(found, expected, "a search for {word} finds other documents");
    }

    /// Whether the unit is in the logs as one that creates a document, if that can be told.
    fn creates(&self, unit: &Unit) -> Option<bool> {
        let Fate::Committed(committed) = &unit.fate else { return Some(false) };
        self.entries.get(&(unit.author, committed.seq)).map_or(Some(false), |entry| entry.creates)
    }

    /// Whether bytes are lacking of the unit or of one that its author wrote before, on which it
    /// may build, or something here waits for what nobody has.
    fn awaits(&self, unit: &Unit) -> bool {
        let Fate::Committed(committed) = &unit.fate else { return false };
        let before = (unit.author, 0)..=(unit.author, committed.seq);
        self.is_waiting || self.awaited.range(before).next().is_some()
    }

    /// Whether the unit is in the logs; none if even its app does not know.
    pub(crate) fn holds(&self, unit: &Unit) -> Option<bool> {
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

fn all(mut list: impl FnMut(Option<Cursor>) -> Page) -> Documents {
    let (mut documents, mut after) = (BTreeMap::new(), None);
    loop {
        let page = list(after);
        documents.extend(page.documents.into_iter().map(|document| (document.object, document)));
        after = page.next;
        if after.is_none() {
            return documents;
        }
    }
}

/// Which documents' texts have which lines, and how often.
fn places_of<'a>(all: impl IntoIterator<Item = &'a Documents>) -> Places<'a> {
    let mut places = Places::new();
    for (object, document) in all.into_iter().flatten() {
        let text = document.value.get("text").and_then(Value::as_str).unwrap_or_default();
        for line in text.lines().filter(|line| line.starts_with('q') && line.ends_with('z')) {
            *places.entry(line).or_default().entry(*object).or_default() += 1;
        }
    }
    places
}

impl World {
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
        let places = places_of([&content.documents, &content.trash]);
        let mut asides = Asides::default();
        for (first, family) in self.model.families() {
            let found = self.check_document(first, &family, content, (&members, &places));
            asides.gone += found.gone;
            asides.kept += found.kept;
        }
        self.report.add("check: words taken out", asides.gone);
        self.report.add("check: words left in", asides.kept);
        self.report.add("check: documents in the trash", content.trash.len() as u64);
        self.check_erased(&members, content);
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

    /// A document, with all that is left of it under other ids.
    fn check_document(
        &self,
        first: ObjectId,
        family: &[ObjectId],
        content: &Content,
        (members, places): (&BTreeSet<DeviceId>, &Places<'_>),
    ) -> Asides {
        let known = &self.model.documents[&first];
        if known.band.is_some_and(|band| band > content.clearance) {
            self.check_hidden(family, content, places);
            return Asides::default();
        }
        let expected = self.expected(family, content, members);
        let Expected { deleted, creations, is_disputed, is_certain, .. } = expected;
        let (shown, trashed) = (content.documents.get(&first), content.trash.get(&first));
        for (token, held) in &expected.tokens {
            let places = places.get(token);
            let found: usize = places.map_or(0, |places| places.values().sum());
            let me = self.devices.iter().find(|device| device.id == Some(content.device()));
            assert!(
                expected.allows(*held, found),
                "{token} of {family:?} is there {found} times on {:?}, unit {held:?}: {:?} {:?}",
                me.map(|device| device.slot),
                shown.or(trashed).map(|shown| &shown.value),
                content.space.status().map(|status| status.state),
            );
        }
        assert!(expected.may_be_trashed || trashed.is_none(), "nobody threw {first} away");
        let is_sole = creations == 1 && !is_disputed && is_certain && deleted == Some(false);
        if deleted == Some(true) {
            assert!(shown.or(trashed).is_none(), "{first} was deleted and is there");
            // What was left of it was, where that it was redacted is in another history.
            let is_deleted = |object| content.space.is_deleted(object).expect("an answer");
            assert!(family.iter().any(is_deleted), "{first} was deleted, and is not known to be");
        } else if let (Exact::By(_, value), true) = (&known.exact, is_sole) {
            let shown = shown.map(|document| &document.value);
            assert_eq!(shown, Some(value), "{first} is not what its one writer wrote");
        } else if let (Exact::Trashed(_, value), true) = (&known.exact, is_sole) {
            let trashed = trashed.map(|document| &document.value);
            assert_eq!(trashed, Some(value), "{first} is not in the trash as it was");
        }
        Asides::check(family, &expected, content)
    }

    /// Nothing of what is above its clearance is there.
    fn check_hidden(&self, family: &[ObjectId], content: &Content, places: &Places<'_>) {
        for object in family {
            let of = |unit: &usize| &self.model.units[*unit].operations;
            let units = self.model.documents[object].units.iter().flat_map(of);
            for token in units.filter(|it| it.object() == *object).filter_map(Operation::token) {
                assert!(!places.contains_key(token), "{token} is above a clearance");
                assert!(content.finds(token).is_empty(), "{token} is above a clearance, and found");
            }
            let is_there =
                content.documents.contains_key(object) || content.trash.contains_key(object);
            assert!(!is_there, "{object} is above a clearance");
        }
    }

    /// Whether it was written after its author was shut out, as far as the first device knew.
    fn is_late(&self, unit: &Unit) -> bool {
        let keeps = self.model.keeps.get(&unit.author).filter(|_| self.is_first_whole());
        let Fate::Committed(committed) = &unit.fate else { return false };
        let is_late = keeps.is_some_and(|keeps| *keeps < committed.seq);
        is_late && !self.is_copied(&unit.author)
    }

    /// Whether a unit that touches a document of this band is in the logs, and counts.
    fn counts(&self, unit: &Unit, band: Option<Band>, content: &Content) -> Option<bool> {
        let is_copied = self.is_copied(&unit.author);
        let is_above = self.is_above(unit, band);
        match content.holds(unit) {
            // It is, and counts for nothing unless somebody had written on.
            Some(true) if is_above && self.model.is_unsure_of_bands => None,
            Some(true) if (self.is_late(unit) || is_above) && content.adoptions == 0 => Some(false),
            Some(true) if is_above || self.is_doubtful(&unit.author) => None,
            // What a copy forgot it may have been asked for again, as another entry.
            Some(false) if unit.key.is_some() && is_copied => None,
            held => held,
        }
    }

    /// What a document has to be where this content is.
    fn expected<'m>(
        &'m self,
        family: &[ObjectId],
        content: &Content,
        members: &BTreeSet<DeviceId>,
    ) -> Expected<'m> {
        // Of a log with two histories a device holds one, and edits that build on what only the
        // other has wait for ever.
        let is_missing = |unit: &Unit| {
            let is_held = content.holds(unit) == Some(true) && !unit.is_twice;
            self.is_copied(&unit.author) && !is_held && !matches!(unit.fate, Fate::Refused)
        };
        let known = || family.iter().map(|object| &self.model.documents[object]);
        let indexes: BTreeSet<usize> =
            known().flat_map(|known| known.units.iter().copied()).collect();
        let units = || indexes.iter().map(|index| &self.model.units[*index]);
        let band = known().next().and_then(|known| known.band);
        let any_doubtful = units().any(|unit| self.is_doubtful(&unit.author));
        let any_above = units().any(|unit| self.is_above(unit, band));
        let mut expected = Expected { is_disputed: units().any(is_missing), ..Expected::new() };
        // Who had pruned what an edit builds on may be gone before it has handed its snapshot over.
        let is_orphan = |unit: &Unit| !members.contains(&unit.author);
        let lacks_base = units().any(|unit| is_orphan(unit) && content.awaits(unit));
        let redacts = |unit: &&Unit| {
            let is_one = |it: &Operation| matches!(it, Operation::Redact { .. });
            unit.operations.iter().any(|it| is_one(it) && family.contains(&it.object()))
        };
        let redactions = units().filter(redacts).map(|unit| self.counts(unit, band, content));
        let redactions = redactions.filter(|held| *held != Some(false)).count();
        let mut read = Vec::new();
        for unit in units() {
            let is_copied = self.is_copied(&unit.author);
            let is_orphan = is_orphan(unit);
            // Of who was shut out it is known what counts; edits that build on the rest adopt it.
            expected.is_disputed |= is_orphan && any_doubtful && !self.is_judged(&unit.author);
            // Who is cleared for less by now cannot open what its edits build on, to adopt that.
            expected.is_disputed |= any_above && self.was_lowered(&unit.author);
            let held = match self.counts(unit, band, content) {
                // Its author is gone, or writes nothing more before `renew`, and may be all who
                // could make an edit beside a redaction again.
                Some(true) if redactions > 0 && (is_copied || is_orphan) => None,
                // The malicious member hands on headers alone; who had the bytes may be gone. So
                // may the history that an edit beside a redaction was made in; and its author may
                // not make it again if it was cleared for less before it heard.
                Some(true)
                    if (lacks_base || redactions > 0 && self.was_lowered(&unit.author))
                        && content.awaits(unit) =>
                {
                    None
                }
                held => held,
            };
            expected.is_certain &= held == Some(true) || matches!(unit.fate, Fate::Refused);
            // What is left may never come then, and each keeps its own until it does.
            let is_open = redacts(&unit) && (is_copied || self.is_doubtful(&unit.author));
            expected.is_disputed |= is_open && held != Some(false);
            for operation in unit.operations.iter().filter(|op| family.contains(&op.object())) {
                read.extend(operation.read().filter(|_| held != Some(false)));
                expected.take(operation, unit, held, is_copied, content.creates(unit));
            }
        }
        // Of another creation than its app had seen, one leaves lines in both.
        if expected.creations > 1 {
            expected.overwritten_again += expected.overwrites;
        }
        // What its app had read it may have written into another creation that came meanwhile.
        let makes = |it: &Operation| matches!(it, Operation::Create { .. });
        if units().filter(|unit| unit.operations.iter().any(makes)).count() > 1 {
            expected.forgive(|token| read.iter().any(|text| text.contains(token)));
        }
        // Two that were made beside each other leave two documents, and of edits that were built on
        // each other beside one each author makes the other's again (decision 0040).
        let authors: BTreeSet<&DeviceId> = units().map(|unit| &unit.author).collect();
        if redactions > 0 {
            expected.parted = redactions - 1 + authors.len();
        }
        if redactions > 0 && expected.deleted != Some(false) {
            // Of one of them, perhaps, or of the one that there was before.
            expected.deleted = None;
        }
        expected
    }
}

/// What the model says of a document on one device. `None`: it cannot tell.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Expected<'m> {
    deleted: Option<bool>,
    creations: usize,
    overwrites: usize,
    /// How often a line may be there more than once.
    overwritten_again: usize,
    /// How often because there are several documents of what is left of it.
    parted: usize,
    is_overwritten: bool,
    /// Whether it hangs on a log with two histories.
    is_disputed: bool,
    /// Whether it is known of each unit whether it is held.
    is_certain: bool,
    may_be_trashed: bool,
    /// Whether a part was taken out of it, for sure.
    pub(crate) is_redacted: bool,
    /// What each unit left in it, and whether that unit is held.
    tokens: Vec<(&'m str, Option<bool>)>,
    /// The same of words that may be taken out.
    pub(crate) asides: Vec<(&'m str, Option<bool>)>,
}

impl<'m> Expected<'m> {
    const fn new() -> Self {
        Self {
            deleted: Some(false),
            creations: 0,
            overwrites: 0,
            overwritten_again: 0,
            parted: 0,
            is_overwritten: false,
            is_disputed: false,
            is_certain: true,
            may_be_trashed: false,
            is_redacted: false,
            tokens: Vec::new(),
            asides: Vec::new(),
        }
    }

    /// Whether its one creation shows, and nothing was put in its place.
    pub(crate) fn is_there_once(&self) -> bool {
        self.deleted == Some(false)
            && self.creations == 1
            && self.is_certain
            && !self.is_disputed
            && !self.is_overwritten
    }

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
            Operation::Redact { .. } => self.is_redacted |= held == Some(true) && !is_copied,
            Operation::Trash { is_in, .. } => self.may_be_trashed |= *is_in && is_done,
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
        if let Operation::Create { aside: Some(word), .. } = operation {
            self.asides.push((word, held));
        }
        self.tokens.extend(operation.token().map(|token| (token, held)));
    }

    /// Of words that are not to be there it cannot be told where they `may_be_again`.
    fn forgive(&mut self, may_be_again: impl Fn(&str) -> bool) {
        for (token, held) in &mut self.tokens {
            if *held == Some(false) && may_be_again(token) {
                *held = None;
            }
        }
    }

    /// Whether what a unit left may be found so often.
    fn allows(&self, held: Option<bool>, found: usize) -> bool {
        let most = 1 + self.overwritten_again + self.parted;
        match (held, self.deleted) {
            (_, Some(true)) => found == 0,
            (Some(false), _) => found < most,
            (Some(true), Some(false)) if !self.is_overwritten && !self.is_disputed => {
                (1..=1 + self.parted).contains(&found)
            }
            _ => found <= most,
        }
    }
}
