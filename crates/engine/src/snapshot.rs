//! Computes snapshots: what the entries between two frontiers make of the leaves of the first.
//!
//! Invariant: the result depends on the entries up to the frontier alone, not on what this device
//! has applied behind it. Where that cannot be had, there is no result ([`Step::NotNow`],
//! [`Step::Never`]).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use larder_document::{Heads, HeadsFold, Link, Object, body};
use larder_log::merkle::{self, Frontier};
use larder_log::snapshot::{
    BandTree, DocumentLeaf, Leaf, LogEnd, SnapshotAct, Stamp, TombstoneLeaf, leaf_hash, leaf_salt,
    value_digest,
};
use larder_log::{Band, Header, Opened, Payload, VERSION, kind};
use larder_store::space::logs::{self, LogId, Tree};
use larder_store::space::sections::{self, Section};
use larder_store::space::snapshots::{self, Kept, Key, Snapshot};
use larder_store::space::tombstones::Tombstone;
use larder_store::space::{entries, erasures};
use larder_types::limits::SNAPSHOT_LEAF_BYTES_MAX;
use larder_types::{CollectionName, DeviceId, EntryHash, Hash, ObjectId};
use minicbor::bytes::ByteVec;
use rusqlite::Connection;

use crate::copies::{Found, locate};
use crate::erase::tombstone_of;
use crate::keyring::{Keyring, Opening};
use crate::touched::load;
use crate::{Error, Result};

/// What entries add to a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// New and changed leaves, in order.
    pub(crate) leaves: BTreeMap<Key, Leaf>,
}

/// A snapshot as it was computed.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) act: SnapshotAct,
    pub(crate) tree: Frontier,
    pub(crate) delta: Delta,
}

/// A snapshot that is being computed, some sections at a time. What is written between two steps is
/// behind its frontier, and changes nothing.
#[derive(Debug)]
pub(crate) struct Computing {
    frontier: Vec<LogEnd>,
    /// Up to which band.
    clearance: Band,
    /// The snapshot that it is computed from.
    base: Option<Hash>,
    /// Which of the logs is looked at, and its next entry.
    at: usize,
    next: u64,
    gathered: Gathered,
    /// Sections behind the base that it says nothing of, as they were adopted since.
    later: Vec<(DeviceId, u64, u32)>,
    /// Once all is gathered.
    counting: Option<Counting>,
}

/// Up to which band an act of erasure in this entry erases, if it does.
pub(crate) type Erases<'a> = dyn Fn(&DeviceId, u64) -> Option<Band> + 'a;

/// Where a computation has come to.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to do.
    Partly,
    Done(Computed),
    /// It cannot be computed here now: not all of its entries are here, or another history of a
    /// log; or sections of them are missing or wait; or they build on such as it leaves out, of
    /// which a change without its document would come to nothing in it, and its body would go.
    NotNow,
    /// It will not be computed here: what a deleted document came to cannot be told any more, or
    /// has no room in a leaf.
    Never,
}

impl Computing {
    /// With the sections behind the base that count by an adoption between the two frontiers.
    pub(crate) fn new(
        frontier: Vec<LogEnd>,
        base: Option<&Snapshot>,
        clearance: Band,
        later: Vec<(DeviceId, u64, u32)>,
    ) -> Self {
        let base = base.map(|base| base.id);
        let gathered = Gathered::default();
        Self { frontier, clearance, base, at: 0, next: 0, gathered, later, counting: None }
    }

    /// Whether this is still what it is computed from, and for whom.
    pub(crate) fn is_from(&self, base: Option<&Snapshot>, clearance: Band) -> bool {
        self.base == base.map(|base| base.id) && self.clearance == clearance
    }

    /// Goes on, over `sections` sections about, or `leaves` leaves.
    pub(crate) fn step(
        &mut self,
        db: &Connection,
        (keyring, erases): (&Keyring, &Erases<'_>),
        base: Option<&Snapshot>,
        (sections, leaves): (u64, u32),
    ) -> Result<Step> {
        if let Some(mut counting) = self.counting.take() {
            if !counting.step(db, base, leaves)? {
                self.counting = Some(counting);
                return Ok(Step::Partly);
            }
            return Ok(Step::Done(self.computed(counting)));
        }
        let mut left = sections;
        if (self.at, self.next) == (0, 0) && !self.is_settled(db, keyring)? {
            return Ok(Step::NotNow);
        }
        while let Some(end) = self.frontier.get(self.at) {
            let Some(log) = logs::find(db, &end.device)? else { return Ok(Step::NotNow) };
            let from = base.map_or(0, |base| self.begins(base, &end.device));
            self.next = self.next.max(from.saturating_add(1));
            while self.next <= end.size {
                if left == 0 {
                    return Ok(Step::Partly);
                }
                let last = end.size.min(self.next.saturating_add(ENTRIES_AT_ONCE - 1));
                if !is_causal(db, log.log, self.next, &self.frontier, last)? {
                    return Ok(Step::NotNow);
                }
                let (clearance, header, gathered) = (self.clearance, None, &mut self.gathered);
                let mut gathering = Gathering { db, keyring, clearance, base, header, gathered };
                let seen = gathering.log(log.log, end.device, self.next, last)?;
                left = left.saturating_sub(seen.max(1));
                self.next = last + 1;
            }
            (self.at, self.next) = (self.at + 1, 0);
        }
        for (device, seq, index) in std::mem::take(&mut self.later) {
            let Some(log) = logs::find(db, &device)? else { return Ok(Step::NotNow) };
            let (clearance, header, gathered) = (self.clearance, None, &mut self.gathered);
            let mut gathering = Gathering { db, keyring, clearance, base, header, gathered };
            gathering.adopted(log.log, device, (seq, index))?;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        if gathered.is_gone {
            return Ok(Step::NotNow);
        }
        gathered.take_erasures(db, base, &self.frontier, (erases, self.clearance))?;
        gathered.uncover(db)?;
        let Some(delta) = gathered.finish() else { return Ok(Step::Never) };
        self.counting = Some(Counting::new(delta));
        Ok(Step::Partly)
    }

    /// Behind which entry of a log there is something that the base does not say: of a band that it
    /// says nothing of, from the beginning.
    fn begins(&self, base: &Snapshot, device: &DeviceId) -> u64 {
        let is_whole = base.act.tree(self.clearance.min(Band::Red)).is_some();
        if is_whole { base.act.size_of(device) } else { 0 }
    }

    fn computed(&mut self, Counting { delta, tree, mut bands, .. }: Counting) -> Computed {
        for band in Band::SHARED.into_iter().filter(|band| *band <= self.clearance) {
            end_band(&mut bands, band, &tree);
        }
        let frontier = std::mem::take(&mut self.frontier);
        let act = SnapshotAct { v: VERSION, frontier, bands };
        Computed { act, tree, delta }
    }
}

impl Computing {
    /// Whether all of its entries are here, in this history, and of none a section waits.
    fn is_settled(&self, db: &Connection, keyring: &Keyring) -> Result<bool> {
        for end in &self.frontier {
            let Some(log) = logs::find(db, &end.device)? else { return Ok(false) };
            let is_here = end.size <= log.frontier.size()
                && merkle::root_at(&Tree::new(db, log.log), end.size)? == end.root;
            if !is_here || self.waits(db, keyring, (log.log, end.size))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a section of a log's first entries is missing or waits, of those bands.
    fn waits(&self, db: &Connection, keyring: &Keyring, (log, size): (LogId, u64)) -> Result<bool> {
        let is_above = |section: &Section| {
            keyring.band(&section.commitment).is_some_and(|band| band > self.clearance)
        };
        let mut after = 0;
        loop {
            let page = sections::unsettled(db, log, size, after, SECTIONS_PAGE)?;
            let Some(last) = page.last() else { return Ok(false) };
            after = last.section;
            if !page.iter().all(is_above) {
                return Ok(true);
            }
        }
    }
}

/// Sections read at once.
const SECTIONS_PAGE: u32 = 256;

/// Entries whose sections are gone through without a look at how much has been done. An entry has
/// [`SECTIONS_MAX`](larder_types::limits::SECTIONS_MAX) of them at most.
const ENTRIES_AT_ONCE: u64 = 16;

/// Whether entries `first` to `last` of a log build on nothing that is behind `frontier`.
fn is_causal(
    db: &Connection,
    log: LogId,
    first: u64,
    frontier: &[LogEnd],
    last: u64,
) -> Result<bool> {
    let size_of = |device: &DeviceId| {
        frontier.iter().find(|end| end.device == *device).map_or(0, |end| end.size)
    };
    for entry in entries::range(db, log, first, last)? {
        let header = Header::decode(&entry.header)
            .map_err(|e| Error::Corrupt(format!("the header of entry {}: {e}", entry.seq)))?;
        if header.deps.iter().any(|dep| dep.seq > size_of(&dep.device)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A tree that is made of the leaves of the base and what is otherwise, some leaves at a time.
#[derive(Debug)]
struct Counting {
    delta: Delta,
    tree: Frontier,
    /// The trees of the bands that are over.
    bands: Vec<BandTree>,
    /// The last leaf of either that was gone over.
    after: Option<Key>,
}

/// Says what a band came to, if that was not said before.
fn end_band(bands: &mut Vec<BandTree>, band: Band, tree: &Frontier) {
    if bands.last().is_none_or(|last| last.band < band) {
        bands.push(BandTree { band, leaves: tree.size(), root: tree.root() });
    }
}

impl Counting {
    fn new(delta: Delta) -> Self {
        Self { delta, tree: Frontier::new(), bands: Vec::new(), after: None }
    }

    fn append(&mut self, key: Key, leaf: &[u8]) {
        for band in Band::SHARED.into_iter().filter(|band| *band < key.0) {
            end_band(&mut self.bands, band, &self.tree);
        }
        self.tree.append(leaf_hash(leaf), &mut |_| {});
    }

    /// Goes over up to `limit` leaves. Whether those were all.
    fn step(&mut self, db: &Connection, base: Option<&Snapshot>, limit: u32) -> Result<bool> {
        let page = match base {
            Some(base) => snapshots::leaves(db, base, self.after.as_ref(), limit)?,
            None => Vec::new(),
        };
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut new = self.delta.leaves.range((from, Bound::Unbounded)).peekable();
        let mut old = page.into_iter().peekable();
        let mut took = Vec::new();
        let mut is_end = false;
        for _ in 0..limit {
            let is_new = match (old.peek(), new.peek()) {
                (None, None) => {
                    is_end = true;
                    break;
                }
                (Some(old), Some((key, _))) => **key <= old.key,
                (old, _) => old.is_none(),
            };
            let (key, leaf) = if let Some((key, leaf)) = new.next_if(|_| is_new) {
                old.next_if(|old| old.key == *key);
                (*key, Some(leaf.encode()))
            } else if let Some(Kept { key, leaf }) = old.next() {
                let tombstone = tombstone_key(key.0, key.1);
                let stays = key == tombstone || !self.delta.leaves.contains_key(&tombstone);
                (key, stays.then_some(leaf))
            } else {
                continue;
            };
            took.push((key, leaf));
        }
        for (key, leaf) in took {
            if let Some(leaf) = leaf {
                self.append(key, &leaf);
            }
            self.after = Some(key);
        }
        Ok(is_end)
    }
}

impl Delta {
    /// Writes up to `limit` leaves behind the one with the key `after`. The last of them, if there
    /// may be more.
    pub(crate) fn write(
        &self,
        db: &Connection,
        snapshot: i64,
        after: Option<Key>,
        limit: u32,
    ) -> Result<Option<Key>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut left = limit;
        for (key, leaf) in self.leaves.range((from, Bound::Unbounded)) {
            if left == 0 {
                return Ok(last);
            }
            snapshots::put_leaf(db, snapshot, key, &leaf.encode(), true)?;
            (last, left) = (Some(*key), left - 1);
        }
        Ok(None)
    }
}

/// What a document's leaf has from the section that created it.
#[derive(Debug)]
struct Created {
    collection: CollectionName,
    stamp: Stamp,
    value: Hash,
    salt: [u8; 16],
    redacted: Option<ByteVec>,
}

/// A document that was created or changed between the frontiers.
#[derive(Debug)]
struct Growth {
    base: Option<DocumentLeaf>,
    created: Option<Created>,
    changed: Option<Stamp>,
    heads: HeadsFold,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Gathered {
    documents: BTreeMap<Key, Growth>,
    tombstones: BTreeMap<Placed, TombstoneLeaf>,
    /// Documents that were deleted behind the last frontier, and of which it cannot be told what
    /// they came to: it matters only if they were deleted behind this one as well.
    unclear: BTreeSet<Placed>,
    /// Objects of which bytes are gone that were erased: it cannot be told what they came to before
    /// that.
    erased: BTreeSet<Placed>,
    /// Bytes are gone that the base does not stand for.
    is_gone: bool,
}

/// An object, in its band.
type Placed = (Band, ObjectId);

struct Gathering<'a> {
    db: &'a Connection,
    keyring: &'a Keyring,
    clearance: Band,
    base: Option<&'a Snapshot>,
    header: Option<Header>,
    gathered: &'a mut Gathered,
}

impl Gathering<'_> {
    /// Takes in the sections of some entries. How many they were.
    fn log(&mut self, log: LogId, device: DeviceId, first: u64, last: u64) -> Result<u64> {
        let mut seen = 0;
        sections::each_document_section(self.db, log, first, last, |section, payload| {
            seen += 1;
            let band = self.band_of(&section);
            let is_new = |band: &Band| !is_said(self.base, (&device, section.place.seq), *band);
            let Some(band) = band.filter(is_new) else { return Ok(()) };
            if section.state == sections::State::Excused {
                self.gathered.is_gone = true;
                return Ok(());
            }
            self.take(device, (&section, band), payload)
        })?;
        Ok(seen)
    }

    /// Takes in a section behind the base. Without its bytes the base stood for it when it counted.
    fn adopted(&mut self, log: LogId, device: DeviceId, (seq, index): (u64, u32)) -> Result<()> {
        sections::each_document_section(self.db, log, seq, seq, |section, payload| {
            let is_it = section.place.index == index && section.state != sections::State::Excused;
            match self.band_of(&section).filter(|_| is_it) {
                Some(band) => self.take(device, (&section, band), payload),
                None => Ok(()),
            }
        })
    }

    fn band_of(&self, section: &Section) -> Option<Band> {
        self.keyring.band(&section.commitment).filter(|band| *band <= self.clearance)
    }

    fn take(
        &mut self,
        device: DeviceId,
        (section, band): (&Section, Band),
        payload: Payload,
    ) -> Result<()> {
        if section.state == sections::State::Erased {
            let object = section.about.and_then(|about| about.object);
            self.gathered.erased.extend(object.map(|object| (band, object)));
            return Ok(());
        }
        let Some(opened) = self.open(section, payload)? else { return Ok(()) };
        let stamp = Stamp { device, seq: section.place.seq, clock: opened.metadata.clock };
        self.section((section, band), &opened, stamp)
    }

    /// An opened section; none if it is void whoever has it.
    fn open(&mut self, section: &Section, payload: Payload) -> Result<Option<Opened>> {
        let place = section.place;
        let corrupt = |what| {
            Error::Corrupt(format!("section {} of entry {}: {what}", place.index, place.seq))
        };
        match payload {
            Payload::Missing => Err(corrupt("its bytes are gone though no snapshot covers it")),
            Payload::Opened(bytes) => Ok(larder_log::unpack(&bytes).ok()),
            Payload::Sealed(sealed) => {
                let header = match self.header.take().filter(|header| header.seq == place.seq) {
                    Some(header) => header,
                    None => entries::find(self.db, place.log, place.seq)?
                        .and_then(|entry| Header::decode(&entry.header).ok())
                        .ok_or_else(|| corrupt("its entry is missing"))?,
                };
                let opening = self.keyring.open(&header, place.index, &section.commitment, &sealed);
                self.header = Some(header);
                match opening {
                    Opening::Opened(opened) => Ok(Some(*opened)),
                    Opening::Void => Ok(None),
                    Opening::NoSecret => Err(corrupt("it was applied and cannot be opened")),
                }
            }
        }
    }

    fn section(
        &mut self,
        (section, band): (&Section, Band),
        Opened { meta_salt, metadata, body }: &Opened,
        stamp: Stamp,
    ) -> Result<()> {
        let is_void = section.state == sections::State::Void;
        let (Some(object), Some(collection)) = (metadata.object, &metadata.collection) else {
            return Ok(());
        };
        match metadata.kind {
            kind::DOCUMENT_CREATE if !is_void => {
                let create = body::Create::decode(body).ok();
                let value = create.as_ref().and_then(|create| create.value().ok());
                let Some(value) = value else { return Ok(()) };
                let redacted = create.and_then(|create| create.redacted);
                let redacted = redacted.map(|redacted| redacted.encode().into());
                let place = section.place;
                let generation = entries::hash(self.db, place.log, place.seq)?
                    .ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
                let (value, salt) = (digest_of(&value), leaf_salt(meta_salt));
                let collection = collection.clone();
                let created = Created { collection, stamp, value, salt, redacted };
                if let Some(growth) = self.growth((band, object, generation))? {
                    growth.created.get_or_insert(created);
                }
            }
            kind::DOCUMENT_CHANGE => {
                let change = body::Change::decode(body).ok();
                let changes = change.as_ref().and_then(|change| change.changes().ok());
                if let (Some(changes), Some(generation)) = (changes, metadata.generation) {
                    self.changes((band, object, generation), changes, is_void, stamp)?;
                }
            }
            kind::DOCUMENT_DELETE if !is_void => {
                let (collection, deleted) = (Some(collection.clone()), stamp);
                let index = section.place.index;
                let new = TombstoneLeaf { object, collection, deleted, index, band };
                self.gathered.bury(self.db, self.base, new)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn changes<'b>(
        &mut self,
        key: Key,
        changes: impl Iterator<Item = &'b [u8]>,
        is_void: bool,
        stamp: Stamp,
    ) -> Result<()> {
        if self.growth(key)?.is_none() {
            return Ok(());
        }
        // Of a void section some changes may count. Which, its document knows.
        let mut document = None;
        if is_void {
            match locate(self.db, &key.1, (key.0, key.2))? {
                Found::At(row) => document = Some(load(self.db, &row)?),
                Found::Buried => {
                    self.gathered.unclear.insert((key.0, key.1));
                    return Ok(());
                }
                Found::Unknown => return Ok(()),
            }
        }
        let Some(growth) = self.growth(key)? else { return Ok(()) };
        for change in changes {
            let Ok(link) = Link::of(change) else { continue };
            if document.as_ref().is_none_or(|document| document.has_change(&link.hash)) {
                growth.heads.add(&link);
                // What is void is not read by all.
                if !is_void {
                    growth.changed = growth.changed.max_by_clock(Some(stamp));
                }
            }
        }
        Ok(())
    }

    /// What is known of a document; none if it was deleted below the first frontier.
    fn growth(&mut self, key: Key) -> Result<Option<&mut Growth>> {
        let vacant = match self.gathered.documents.entry(key) {
            Entry::Occupied(growth) => return Ok(Some(growth.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let mut leaf = None;
        if let Some(base) = self.base {
            if snapshots::leaf(self.db, base, &tombstone_key(key.0, key.1))?.is_some() {
                return Ok(None);
            }
            leaf = snapshots::leaf(self.db, base, &key)?;
        }
        let base = match leaf.map(|leaf| leaf.read()).transpose()? {
            Some(Leaf::Document(leaf)) => Some(leaf),
            Some(Leaf::Tombstone(_)) | None => None,
        };
        let heads = base.iter().flat_map(|base| &base.heads).map(|head| *head.as_bytes());
        let heads = HeadsFold::from_heads(heads);
        Ok(Some(vacant.insert(Growth { base, created: None, changed: None, heads })))
    }
}

impl Gathered {
    /// Of several tombstones the first counts, of those that erase the object if there are any.
    fn bury(&mut self, db: &Connection, base: Option<&Snapshot>, new: TombstoneLeaf) -> Result<()> {
        let place = (new.band, new.object);
        let known = match self.tombstones.get(&place) {
            Some(known) => Some(known.clone()),
            None => known_tombstone(db, base, place)?,
        };
        let order = |leaf: &TombstoneLeaf| {
            let Stamp { device, seq, clock } = leaf.deleted;
            (leaf.collection.is_some(), clock, device, seq, leaf.index)
        };
        if known.is_none_or(|known| order(&new) < order(&known)) {
            self.tombstones.insert(place, new);
        }
        Ok(())
    }

    /// Takes in the acts of erasure between the two frontiers.
    fn take_erasures(
        &mut self,
        db: &Connection,
        base: Option<&Snapshot>,
        frontier: &[LogEnd],
        (erases, clearance): (&Erases<'_>, Band),
    ) -> Result<()> {
        let bands = || Band::SHARED.into_iter().filter(|band| *band <= clearance);
        for end in frontier {
            let Some(log) = logs::find(db, &end.device)? else { continue };
            let is_whole = |base: &&Snapshot| base.act.tree(clearance.min(Band::Red)).is_some();
            let from = base.filter(is_whole).map_or(0, |base| base.act.size_of(&end.device));
            for act in erasures::of_entries(db, log.log, from.saturating_add(1), end.size)? {
                let up_to = erases(&end.device, act.place.seq);
                let place = (&end.device, act.place.seq);
                let is_open = |band: &Band| Some(*band) <= up_to && !is_said(base, place, *band);
                for band in bands().filter(is_open) {
                    let Tombstone { object, collection, clock, device, seq, index, .. } =
                        tombstone_of(db, &act, band)?;
                    let deleted = Stamp { device, seq, clock };
                    let new = TombstoneLeaf { object, collection, deleted, index, band };
                    self.bury(db, base, new)?;
                }
            }
        }
        for place in std::mem::take(&mut self.erased) {
            let known = match self.tombstones.get(&place) {
                Some(known) => Some(known.clone()),
                None => known_tombstone(db, base, place)?,
            };
            if known.is_none_or(|known| known.collection.is_some()) {
                self.unclear.insert(place);
            }
        }
        Ok(())
    }

    /// Several devices may write one change: what one wrote of it behind the first frontier may be
    /// beneath what is above that.
    fn uncover(&mut self, db: &Connection) -> Result<()> {
        for ((band, object, generation), growth) in &mut self.documents {
            if growth.base.is_none() || growth.heads.heads().count() < 2 {
                continue;
            }
            match locate(db, object, (*band, *generation))? {
                Found::At(row) => {
                    let heads = Heads::from_hashes(growth.heads.heads());
                    if let Ok(heads) = load(db, &row)?.without_covered(&heads) {
                        growth.heads = HeadsFold::from_heads(heads.iter().copied());
                    }
                }
                Found::Buried => drop(self.unclear.insert((*band, *object))),
                Found::Unknown => {}
            }
        }
        Ok(())
    }

    fn finish(self) -> Option<Delta> {
        let is_clear = |place: &Placed| self.tombstones.contains_key(place);
        if !self.unclear.iter().all(is_clear) {
            return None;
        }
        let mut leaves = BTreeMap::new();
        for ((band, object, generation), growth) in self.documents {
            if self.tombstones.contains_key(&(band, object)) {
                continue;
            }
            let Growth { base, created, changed, heads } = growth;
            let (of, updated) = match (base, created) {
                (Some(base), _) => {
                    let DocumentLeaf { collection, created: stamp, value, salt, .. } = base;
                    let redacted = base.redacted;
                    (Created { collection, stamp, value, salt, redacted }, base.updated)
                }
                (None, Some(created)) => {
                    let updated = created.stamp;
                    (created, updated)
                }
                // Changes of what never came to be.
                (None, None) => continue,
            };
            let Created { collection, stamp: created, value, salt, redacted } = of;
            let updated = Some(updated).max_by_clock(changed).unwrap_or(updated);
            let heads = heads.heads().map(Hash::new).collect();
            let mut leaf = DocumentLeaf {
                object,
                generation,
                collection,
                created,
                updated,
                value,
                heads,
                band,
                salt,
                redacted,
            };
            let has_room = |leaf: &DocumentLeaf| {
                Leaf::Document(leaf.clone()).encode().len() <= SNAPSHOT_LEAF_BYTES_MAX
            };
            if !has_room(&leaf) {
                leaf.redacted = None;
                if !has_room(&leaf) {
                    return None;
                }
            }
            leaves.insert((band, object, generation), Leaf::Document(leaf));
        }
        for ((band, object), tombstone) in self.tombstones {
            leaves.insert(tombstone_key(band, object), Leaf::Tombstone(tombstone));
        }
        Some(Delta { leaves })
    }
}

/// Whether the base says what an entry did in a band.
fn is_said(base: Option<&Snapshot>, (device, seq): (&DeviceId, u64), band: Band) -> bool {
    base.is_some_and(|base| seq <= base.act.size_of(device) && base.act.tree(band).is_some())
}

fn known_tombstone(
    db: &Connection,
    base: Option<&Snapshot>,
    (band, object): Placed,
) -> Result<Option<TombstoneLeaf>> {
    let Some(base) = base else { return Ok(None) };
    let kept = snapshots::leaf(db, base, &tombstone_key(band, object))?;
    Ok(match kept.map(|kept| kept.read()).transpose()? {
        Some(Leaf::Tombstone(known)) => Some(known),
        Some(Leaf::Document(_)) | None => None,
    })
}

trait Later {
    fn max_by_clock(self, other: Self) -> Self;
}

impl Later for Option<Stamp> {
    fn max_by_clock(self, other: Self) -> Self {
        let order = |stamp: &Stamp| (stamp.clock, stamp.device, stamp.seq);
        match (self, other) {
            (Some(one), Some(other)) if order(&other) > order(&one) => Some(other),
            (None, other) => other,
            (one, _) => one,
        }
    }
}

pub(crate) const fn tombstone_key(band: Band, object: ObjectId) -> Key {
    (band, object, EntryHash::new([0; 32]))
}

/// The digest of a first value.
pub(crate) fn digest_of(value: &Object) -> Hash {
    value_digest(&larder_document::canonical(value))
}
