//! Computes snapshots: what the entries between two frontiers make of the leaves of the first.
//!
//! Invariant: the result depends on the entries up to the frontier alone, not on what this device
//! has applied behind it. Where that cannot be had, there is no result ([`NotNow`]).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use larder_document::{HeadsFold, Link, Object, body};
use larder_log::merkle::{self, Frontier};
use larder_log::snapshot::{
    BandTree, DocumentLeaf, Leaf, LogEnd, SnapshotAct, Stamp, TombstoneLeaf, leaf_hash,
    value_digest,
};
use larder_log::{Band, Header, Metadata, Opened, Payload, VERSION, kind};
use larder_store::space::entries;
use larder_store::space::logs::{self, LogId, Tree};
use larder_store::space::sections::{self, Section};
use larder_store::space::snapshots::{self, Key, Snapshot};
use larder_types::limits::SNAPSHOT_LEAF_BYTES_MAX;
use larder_types::{CollectionName, DeviceId, EntryHash, Hash, ObjectId};
use rusqlite::Connection;

use crate::copies::{Found, locate};
use crate::keyring::{Keyring, Opening};
use crate::touched::load;
use crate::{Error, Result};

/// Why a snapshot cannot be computed here now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// Not all of its entries are here, or another history of a log.
    NotHere,
    /// Its entries build on such as it leaves out: a change without its document would come to
    /// nothing in it, and its body would go.
    NotCausal,
    /// Sections of its entries are missing or wait.
    Unsettled,
    /// What a deleted document came to below the frontier cannot be told, or has no room in a leaf.
    Unclear,
}

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

/// Computes the snapshot at `frontier`, from the one that is held on.
pub(crate) fn compute(
    db: &Connection,
    keyring: &Keyring,
    base: Option<&Snapshot>,
    frontier: Vec<LogEnd>,
) -> Result<std::result::Result<Computed, NotNow>> {
    let mut gathering = Gathering { db, keyring, base, ..Gathering::new(db, keyring) };
    for end in &frontier {
        let Some(log) = logs::find(db, &end.device)? else { return Ok(Err(NotNow::NotHere)) };
        let is_here = end.size <= log.frontier.size()
            && merkle::root_at(&Tree::new(db, log.log), end.size)? == end.root;
        if !is_here {
            return Ok(Err(NotNow::NotHere));
        }
        if sections::unsettled(db, log.log, end.size)? > 0 {
            return Ok(Err(NotNow::Unsettled));
        }
        let from = base.map_or(0, |base| base.act.size_of(&end.device));
        if !is_causal(db, log.log, from.saturating_add(1), &frontier, end.size)? {
            return Ok(Err(NotNow::NotCausal));
        }
        gathering.log(log.log, end.device, from.saturating_add(1), end.size)?;
    }
    let Some(delta) = gathering.finish() else { return Ok(Err(NotNow::Unclear)) };
    let tree = delta.tree(db, base)?;
    let green = BandTree { band: Band::Green, leaves: tree.size(), root: tree.root() };
    let act = SnapshotAct { v: VERSION, frontier, bands: vec![green] };
    Ok(Ok(Computed { act, tree, delta }))
}

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
    let mut next = first;
    while next <= last {
        for entry in entries::range(db, log, next, last.min(next.saturating_add(HEADERS_PAGE)))? {
            let header = Header::decode(&entry.header)
                .map_err(|e| Error::Corrupt(format!("the header of entry {}: {e}", entry.seq)))?;
            if header.deps.iter().any(|dep| dep.seq > size_of(&dep.device)) {
                return Ok(false);
            }
        }
        next = next.saturating_add(HEADERS_PAGE + 1);
    }
    Ok(true)
}

/// Headers looked at between two looks at the database.
const HEADERS_PAGE: u64 = 1024;

impl Delta {
    /// The tree over the leaves of `base` with these changes.
    fn tree(&self, db: &Connection, base: Option<&Snapshot>) -> Result<Frontier> {
        let mut tree = Frontier::new();
        let mut add = |leaf: &[u8]| tree.append(leaf_hash(leaf), &mut |_| {});
        let mut new = self.leaves.iter().peekable();
        let none = EntryHash::new([0; 32]);
        if let Some(base) = base {
            snapshots::each_leaf(db, base.snapshot, |kept| {
                while let Some((_, leaf)) = new.next_if(|(key, _)| **key < kept.key) {
                    add(&leaf.encode());
                }
                let buried = kept.key.1 != none && self.leaves.contains_key(&(kept.key.0, none));
                let replaced = new.peek().is_some_and(|(key, _)| **key == kept.key);
                if !buried && !replaced {
                    add(&kept.leaf);
                }
                Ok::<_, Error>(())
            })?;
        }
        for (_, leaf) in new {
            add(&leaf.encode());
        }
        Ok(tree)
    }

    /// Changes the leaves of a snapshot in the database.
    pub(crate) fn write(&self, db: &Connection, snapshot: i64) -> Result<()> {
        for (key, leaf) in &self.leaves {
            if let Leaf::Tombstone(tombstone) = leaf {
                snapshots::remove_documents(db, snapshot, &tombstone.object)?;
            }
            snapshots::put_leaf(db, snapshot, key, &leaf.encode(), true)?;
        }
        Ok(())
    }
}

/// A document that was created or changed between the frontiers.
struct Growth {
    base: Option<DocumentLeaf>,
    created: Option<(CollectionName, Stamp, Hash)>,
    changed: Option<Stamp>,
    heads: HeadsFold,
}

struct Gathering<'a> {
    db: &'a Connection,
    keyring: &'a Keyring,
    base: Option<&'a Snapshot>,
    documents: BTreeMap<Key, Growth>,
    tombstones: BTreeMap<ObjectId, TombstoneLeaf>,
    header: Option<Header>,
    /// Documents that were deleted behind the last frontier, and of which it cannot be told what
    /// they came to: it matters only if they were deleted behind this one as well.
    unclear: BTreeSet<ObjectId>,
}

impl<'a> Gathering<'a> {
    fn new(db: &'a Connection, keyring: &'a Keyring) -> Self {
        Self {
            db,
            keyring,
            base: None,
            documents: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            header: None,
            unclear: BTreeSet::new(),
        }
    }

    fn log(&mut self, log: LogId, device: DeviceId, first: u64, last: u64) -> Result<()> {
        self.header = None;
        sections::each_document_section(self.db, log, first, last, |section, payload| {
            let Some(opened) = self.open(&section, payload)? else { return Ok(()) };
            let Opened { metadata, body, .. } = opened;
            let stamp = Stamp { device, seq: section.place.seq, clock: metadata.clock };
            self.section(&section, &metadata, &body, stamp)
        })
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
                self.bury(new)?;
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
                    self.unclear.insert(key.0);
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
        let vacant = match self.documents.entry(key) {
            Entry::Occupied(growth) => return Ok(Some(growth.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let mut leaf = None;
        if let Some(base) = self.base {
            if snapshots::leaf(self.db, base.snapshot, &tombstone_key(key.0))?.is_some() {
                return Ok(None);
            }
            leaf = snapshots::leaf(self.db, base.snapshot, &key)?;
        }
        let base = match leaf.map(|leaf| leaf.read()).transpose()? {
            Some(Leaf::Document(leaf)) => Some(leaf),
            Some(Leaf::Tombstone(_)) | None => None,
        };
        let heads = base.iter().flat_map(|base| &base.heads).map(|head| *head.as_bytes());
        let heads = HeadsFold::from_heads(heads);
        Ok(Some(vacant.insert(Growth { base, created: None, changed: None, heads })))
    }

    fn bury(&mut self, new: TombstoneLeaf) -> Result<()> {
        let known = match self.tombstones.get(&new.object) {
            Some(known) => Some(known.clone()),
            None => match self.base {
                None => None,
                Some(base) => {
                    let key = tombstone_key(new.object);
                    match snapshots::leaf(self.db, base.snapshot, &key)? {
                        None => None,
                        Some(kept) => match kept.read()? {
                            Leaf::Tombstone(known) => Some(known),
                            Leaf::Document(_) => None,
                        },
                    }
                }
            },
        };
        let order = |leaf: &TombstoneLeaf| {
            let Stamp { device, seq, clock } = leaf.deleted;
            (clock, device, seq, leaf.index)
        };
        if known.is_none_or(|known| order(&new) < order(&known)) {
            self.tombstones.insert(new.object, new);
        }
        Ok(())
    }

    fn finish(self) -> Option<Delta> {
        if self.unclear.iter().any(|object| !self.tombstones.contains_key(object)) {
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
