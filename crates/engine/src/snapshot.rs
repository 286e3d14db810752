//! Computes snapshots: what the entries between two frontiers make of the leaves of the first.
//!
//! Invariant: the result depends on the entries up to the frontier alone, not on what this device
//! has applied behind it. Where that cannot be had, there is no result ([`Step::NotNow`]).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use larder_document::{HeadsFold, Link, Object, body};
use larder_log::merkle::{self, Frontier};
use larder_log::snapshot::{
    BandTree, DocumentLeaf, Leaf, LogEnd, SnapshotAct, Stamp, TombstoneLeaf, leaf_hash,
    value_digest,
};
use larder_log::{Band, Header, Metadata, Opened, Payload, VERSION, kind};
use larder_store::space::logs::{self, LogId, Tree};
use larder_store::space::sections::{self, Section};
use larder_store::space::snapshots::{self, Kept, Key, Snapshot};
use larder_store::space::tombstones::Tombstone;
use larder_store::space::{entries, erasures};
use larder_types::limits::SNAPSHOT_LEAF_BYTES_MAX;
use larder_types::{CollectionName, DeviceId, EntryHash, Hash, ObjectId};
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
    /// The snapshot that it is computed from.
    base: Option<Hash>,
    /// Which of the logs is looked at, and its next entry.
    at: usize,
    next: u64,
    gathered: Gathered,
    /// Once all is gathered.
    counting: Option<Counting>,
}

/// Where a computation has come to.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to do.
    Partly,
    Done(Computed),
    /// It cannot be computed here now: not all of its entries are here, or another history of a
    /// log; or sections of them are missing or wait; or they build on such as it leaves out, of
    /// which a change without its document would come to nothing in it, and its body would go; or
    /// what a deleted document came to cannot be told, or has no room in a leaf.
    NotNow,
}

impl Computing {
    pub(crate) fn new(frontier: Vec<LogEnd>, base: Option<&Snapshot>) -> Self {
        let base = base.map(|base| base.id);
        let gathered = Gathered::default();
        Self { frontier, base, at: 0, next: 0, gathered, counting: None }
    }

    /// Whether this is still what it is computed from.
    pub(crate) fn is_from(&self, base: Option<&Snapshot>) -> bool {
        self.base == base.map(|base| base.id)
    }

    /// Goes on, over `sections` sections about, or `leaves` leaves.
    pub(crate) fn step(
        &mut self,
        db: &Connection,
        keyring: &Keyring,
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
        if (self.at, self.next) == (0, 0) && !self.is_settled(db)? {
            return Ok(Step::NotNow);
        }
        while let Some(end) = self.frontier.get(self.at) {
            let Some(log) = logs::find(db, &end.device)? else { return Ok(Step::NotNow) };
            let from = base.map_or(0, |base| base.act.size_of(&end.device));
            self.next = self.next.max(from.saturating_add(1));
            while self.next <= end.size {
                if left == 0 {
                    return Ok(Step::Partly);
                }
                let last = end.size.min(self.next.saturating_add(ENTRIES_AT_ONCE - 1));
                if !is_causal(db, log.log, self.next, &self.frontier, last)? {
                    return Ok(Step::NotNow);
                }
                let gathered = &mut self.gathered;
                let mut gathering = Gathering { db, keyring, base, header: None, gathered };
                let seen = gathering.log(log.log, end.device, self.next, last)?;
                left = left.saturating_sub(seen.max(1));
                self.next = last + 1;
            }
            (self.at, self.next) = (self.at + 1, 0);
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.take_erasures(db, base, &self.frontier)?;
        let Some(delta) = gathered.finish() else { return Ok(Step::NotNow) };
        self.counting = Some(Counting { delta, tree: Frontier::new(), after: None });
        Ok(Step::Partly)
    }

    fn computed(&mut self, Counting { delta, tree, .. }: Counting) -> Computed {
        let green = BandTree { band: Band::Green, leaves: tree.size(), root: tree.root() };
        let frontier = std::mem::take(&mut self.frontier);
        let act = SnapshotAct { v: VERSION, frontier, bands: vec![green] };
        Computed { act, tree, delta }
    }
}

impl Computing {
    /// Whether all of its entries are here, in this history, and of none a section waits.
    fn is_settled(&self, db: &Connection) -> Result<bool> {
        for end in &self.frontier {
            let Some(log) = logs::find(db, &end.device)? else { return Ok(false) };
            let is_settled = end.size <= log.frontier.size()
                && merkle::root_at(&Tree::new(db, log.log), end.size)? == end.root
                && sections::unsettled(db, log.log, end.size)? == 0;
            if !is_settled {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

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
    /// The last leaf of either that was gone over.
    after: Option<Key>,
}

impl Counting {
    /// Goes over up to `limit` leaves. Whether those were all.
    fn step(&mut self, db: &Connection, base: Option<&Snapshot>, limit: u32) -> Result<bool> {
        let page = match base {
            Some(base) => snapshots::leaves(db, base, self.after.as_ref(), limit)?,
            None => Vec::new(),
        };
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut new = self.delta.leaves.range((from, Bound::Unbounded)).peekable();
        let mut old = page.into_iter().peekable();
        for _ in 0..limit {
            let is_new = match (old.peek(), new.peek()) {
                (None, None) => return Ok(true),
                (Some(old), Some((key, _))) => **key <= old.key,
                (old, _) => old.is_none(),
            };
            if let Some((key, leaf)) = new.next_if(|_| is_new) {
                old.next_if(|old| old.key == *key);
                self.tree.append(leaf_hash(&leaf.encode()), &mut |_| {});
                self.after = Some(*key);
            } else if let Some(Kept { key, leaf }) = old.next() {
                let tombstone = tombstone_key(key.0);
                if key == tombstone || !self.delta.leaves.contains_key(&tombstone) {
                    self.tree.append(leaf_hash(&leaf), &mut |_| {});
                }
                self.after = Some(key);
            }
        }
        Ok(false)
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

/// A document that was created or changed between the frontiers.
#[derive(Debug)]
struct Growth {
    base: Option<DocumentLeaf>,
    created: Option<(CollectionName, Stamp, Hash)>,
    changed: Option<Stamp>,
    heads: HeadsFold,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Gathered {
    documents: BTreeMap<Key, Growth>,
    tombstones: BTreeMap<ObjectId, TombstoneLeaf>,
    /// Documents that were deleted behind the last frontier, and of which it cannot be told what
    /// they came to: it matters only if they were deleted behind this one as well.
    unclear: BTreeSet<ObjectId>,
    /// Objects of which bytes are gone that were erased: it cannot be told what they came to before
    /// that.
    erased: BTreeSet<ObjectId>,
}

struct Gathering<'a> {
    db: &'a Connection,
    keyring: &'a Keyring,
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
            if section.state == sections::State::Erased {
                let object = section.about.and_then(|about| about.object);
                self.gathered.erased.extend(object);
                return Ok(());
            }
            let Some(opened) = self.open(&section, payload)? else { return Ok(()) };
            let Opened { metadata, body, .. } = opened;
            let stamp = Stamp { device, seq: section.place.seq, clock: metadata.clock };
            self.section(&section, &metadata, &body, stamp)
        })?;
        Ok(seen)
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
        section: &Section,
        metadata: &Metadata,
        body: &[u8],
        stamp: Stamp,
    ) -> Result<()> {
        let is_void = section.state == sections::State::Void;
        let (Some(object), Some(collection)) = (metadata.object, &metadata.collection) else {
            return Ok(());
        };
        match metadata.kind {
            kind::DOCUMENT_CREATE if !is_void => {
                let value = body::Create::decode(body).ok().and_then(|c| c.value().ok());
                let Some(value) = value else { return Ok(()) };
                let place = section.place;
                let generation = entries::hash(self.db, place.log, place.seq)?
                    .ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
                let created = (collection.clone(), stamp, digest_of(&value));
                if let Some(growth) = self.growth((object, generation))? {
                    growth.created.get_or_insert(created);
                }
            }
            kind::DOCUMENT_CHANGE => {
                let change = body::Change::decode(body).ok();
                let changes = change.as_ref().and_then(|change| change.changes().ok());
                if let (Some(changes), Some(generation)) = (changes, metadata.generation) {
                    self.changes((object, generation), changes, is_void, stamp)?;
                }
            }
            kind::DOCUMENT_DELETE if !is_void => {
                let (collection, deleted) = (Some(collection.clone()), stamp);
                let index = section.place.index;
                let new = TombstoneLeaf { object, collection, deleted, index };
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
            match locate(self.db, &key.0, &key.1)? {
                Found::At(row) => document = Some(load(self.db, &row)?),
                Found::Buried => {
                    self.gathered.unclear.insert(key.0);
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
                growth.changed = growth.changed.max_by_clock(Some(stamp));
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
            if snapshots::leaf(self.db, base, &tombstone_key(key.0))?.is_some() {
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
        let known = match self.tombstones.get(&new.object) {
            Some(known) => Some(known.clone()),
            None => known_tombstone(db, base, new.object)?,
        };
        let order = |leaf: &TombstoneLeaf| {
            let Stamp { device, seq, clock } = leaf.deleted;
            (leaf.collection.is_some(), clock, device, seq, leaf.index)
        };
        if known.is_none_or(|known| order(&new) < order(&known)) {
            self.tombstones.insert(new.object, new);
        }
        Ok(())
    }

    /// Takes in the acts of erasure between the two frontiers.
    fn take_erasures(
        &mut self,
        db: &Connection,
        base: Option<&Snapshot>,
        frontier: &[LogEnd],
    ) -> Result<()> {
        for end in frontier {
            let Some(log) = logs::find(db, &end.device)? else { continue };
            let from = base.map_or(0, |base| base.act.size_of(&end.device));
            for act in erasures::of_entries(db, log.log, from.saturating_add(1), end.size)? {
                if act.stage != erasures::State::Void {
                    let Tombstone { object, collection, clock, device, seq, index } =
                        tombstone_of(db, &act)?;
                    let deleted = Stamp { device, seq, clock };
                    self.bury(db, base, TombstoneLeaf { object, collection, deleted, index })?;
                }
            }
        }
        for object in std::mem::take(&mut self.erased) {
            let known = match self.tombstones.get(&object) {
                Some(known) => Some(known.clone()),
                None => known_tombstone(db, base, object)?,
            };
            if known.is_none_or(|known| known.collection.is_some()) {
                self.unclear.insert(object);
            }
        }
        Ok(())
    }

    fn finish(self) -> Option<Delta> {
        let is_clear = |object: &ObjectId| self.tombstones.contains_key(object);
        if !self.unclear.iter().all(is_clear) {
            return None;
        }
        let mut leaves = BTreeMap::new();
        for ((object, generation), growth) in self.documents {
            if self.tombstones.contains_key(&object) {
                continue;
            }
            let Growth { base, created, changed, heads } = growth;
            let (collection, created, updated, value) = match (base, created) {
                (Some(base), _) => (base.collection, base.created, base.updated, base.value),
                (None, Some((collection, stamp, value))) => (collection, stamp, stamp, value),
                // Changes of what never came to be.
                (None, None) => continue,
            };
            let updated = Some(updated).max_by_clock(changed).unwrap_or(updated);
            let heads = heads.heads().map(Hash::new).collect();
            let leaf = Leaf::Document(DocumentLeaf {
                object,
                generation,
                collection,
                created,
                updated,
                value,
                heads,
            });
            if leaf.encode().len() > SNAPSHOT_LEAF_BYTES_MAX {
                return None;
            }
            leaves.insert((object, generation), leaf);
        }
        for (object, tombstone) in self.tombstones {
            leaves.insert(tombstone_key(object), Leaf::Tombstone(tombstone));
        }
        Some(Delta { leaves })
    }
}

fn known_tombstone(
    db: &Connection,
    base: Option<&Snapshot>,
    object: ObjectId,
) -> Result<Option<TombstoneLeaf>> {
    let Some(base) = base else { return Ok(None) };
    let kept = snapshots::leaf(db, base, &tombstone_key(object))?;
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

pub(crate) const fn tombstone_key(object: ObjectId) -> Key {
    (object, EntryHash::new([0; 32]))
}

/// The digest of a first value.
pub(crate) fn digest_of(value: &Object) -> Hash {
    value_digest(&larder_document::canonical(value))
}
