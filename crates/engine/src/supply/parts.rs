//! Parts of the snapshot that is held here, as a peer asks for them.
//!
//! Invariant: what a part has of a document depends on its leaf alone, and on where the peer is
//! with it, not on how its history is stored here; so another peer can go on with it.

use std::sync::Arc;

use larder_document::Heads;
use larder_log::Band;
use larder_log::merkle::{self, MemoryNodes};
use larder_log::snapshot::{Content, DocumentLeaf, Item, Leaf, Part, leaf_hash};
use larder_protocol::WantedSnapshot;
use larder_store::space::documents::Document as Row;
use larder_store::space::snapshots::{self, Kept, Key, Snapshot};
use larder_types::Hash;
use larder_types::limits::{
    BATCH_BYTES_TARGET, SNAPSHOT_PART_LEAVES_MAX, SNAPSHOT_PART_PIECES_MAX, WANTED_MAX,
};
use rusqlite::Connection;

use super::{LEAVES_PAGE, heads_of};
use crate::copies::{Found, locate};
use crate::kept::pieces_kept;
use crate::snapshot::digest_of;
use crate::space::Space;
use crate::touched::load;
use crate::{Error, Result};

/// About how many bytes of a snapshot are handed over at once, [`BATCH_BYTES_TARGET`] unless told
/// otherwise. A document that takes more is cut. Whoever takes them in takes parts of any size, so
/// it is for tests, and for lines on which little comes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartBytes(pub usize);

impl Default for PartBytes {
    fn default() -> Self {
        Self(BATCH_BYTES_TARGET)
    }
}

impl PartBytes {
    /// More than [`BATCH_BYTES_TARGET`] has no room in a frame.
    fn get(self) -> usize {
        self.0.min(BATCH_BYTES_TARGET)
    }
}

/// What is kept of the snapshot that is handed over, once somebody asked for it: what would have to
/// be made anew for every part.
#[derive(Default)]
pub(crate) struct Handing {
    /// The nodes of its tree, of so many leaves, for proofs. 64 bytes for each leaf.
    nodes: Option<((Hash, u64), Arc<MemoryNodes>)>,
    /// The document that was too large for the last part. As much memory as its changes take.
    document: Option<Arc<Laid>>,
}

impl Handing {
    /// Lets go of what takes much room.
    pub(crate) fn let_go(&mut self) {
        self.document = None;
    }
}

/// A document at a leaf's version, piece by piece ([`Content::Document`]).
struct Laid {
    snapshot: Hash,
    key: Key,
    pieces: Vec<Vec<u8>>,
}

impl Laid {
    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| cost(piece)).sum()
    }
}

/// What a piece takes of a part.
fn cost(piece: &[u8]) -> usize {
    piece.len() + 8
}

/// What a part still has room for. Whatever comes first has room, so that every part brings
/// something.
struct PartRoom {
    bytes: usize,
    pieces: usize,
    is_fresh: bool,
}

impl PartRoom {
    fn new(bytes: PartBytes) -> Self {
        Self { bytes: bytes.get(), pieces: SNAPSHOT_PART_PIECES_MAX, is_fresh: true }
    }

    /// Whether there was room.
    fn take(&mut self, bytes: usize, pieces: usize) -> bool {
        let has_room = self.is_fresh || (bytes <= self.bytes && pieces <= self.pieces);
        if has_room {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.pieces = self.pieces.saturating_sub(pieces);
            self.is_fresh = false;
        }
        has_room
    }
}

impl Space {
    /// A part of the snapshot that is held here, packed. If it is another than the wanted one, its
    /// beginning: the peer may make do with it.
    /// Nothing above the band that the peer is cleared for.
    pub(super) fn part(
        &self,
        db: &Connection,
        wanted: &WantedSnapshot,
        clearance: Band,
    ) -> Result<Option<Vec<u8>>> {
        // What this device may not read any more it may still hand over.
        let is_above = Some(clearance) > self.shared.published()?.clearance;
        let mut kept = if is_above { snapshots::kept_for_others(db)? } else { Vec::new() };
        kept.retain(|kept| kept.id == wanted.id);
        let held = match kept.pop() {
            Some(kept) => Some(kept),
            None => snapshots::in_state(db, snapshots::State::Held)?,
        };
        let Some(held) = held else { return Ok(None) };
        let (id, lacking) = (held.id, Vec::new());
        let other = WantedSnapshot { id, received: 0, after: None, lacking };
        let wanted = if held.id == wanted.id { wanted } else { &other };
        let (items, proof) = if wanted.lacking.is_empty() {
            self.next_items(db, &held, wanted, clearance)?
        } else {
            (self.named_items(db, &held, wanted, clearance)?, Vec::new())
        };
        let packed = Part { snapshot: held.id, items, proof }.pack();
        packed.map(Some).map_err(|e| Error::Internal(e.to_string()))
    }

    /// The leaves that come next, and proof that they do.
    fn next_items(
        &self,
        db: &Connection,
        held: &Snapshot,
        wanted: &WantedSnapshot,
        clearance: Band,
    ) -> Result<(Vec<Item>, Vec<Hash>)> {
        let (mut items, mut room) = (Vec::new(), PartRoom::new(self.shared.profile.part_bytes));
        let (mut after, mut band) = (wanted.after, None);
        'pages: loop {
            let page = snapshots::leaves(db, held, after.as_ref(), LEAVES_PAGE)?;
            let Some(end) = page.last().map(|kept| kept.key) else { break };
            after = Some(end);
            for kept in page {
                let of = kept.key.0;
                // Of each band by itself: the peer may not know of the next one's root.
                let is_other = band.is_some_and(|band| band != of);
                if items.len() == SNAPSHOT_PART_LEAVES_MAX || of > clearance || is_other {
                    break 'pages;
                }
                let Some(item) = self.item(db, held, kept, 0, &mut room)? else { break 'pages };
                items.push(item);
                band = Some(of);
            }
        }
        let end = wanted.received.checked_add(items.len() as u64).filter(|_| !items.is_empty());
        let size = band.and_then(|band| held.act.tree(band)).map_or(0, |tree| tree.leaves);
        let proof = match end {
            // What the peer says it has is its own matter: of another number the proof fails there.
            Some(end) if (1..=size).contains(&end) => {
                let Ok(proof) = merkle::consistency_proof(&*self.nodes(db, held)?, end, size);
                proof
            }
            _ => Vec::new(),
        };
        Ok((items, proof))
    }

    /// Of documents asked for by name what comes next of each.
    fn named_items(
        &self,
        db: &Connection,
        held: &Snapshot,
        wanted: &WantedSnapshot,
        clearance: Band,
    ) -> Result<Vec<Item>> {
        let (mut items, mut room) = (Vec::new(), PartRoom::new(self.shared.profile.part_bytes));
        let lacking = wanted.lacking.iter().filter(|(band, ..)| *band <= clearance);
        for (band, object, generation, at) in lacking.take(WANTED_MAX) {
            let key = (*band, *object, *generation);
            let Some(kept) = snapshots::leaf(db, held, &key)? else { continue };
            let Some(item) = self.item(db, held, kept, *at, &mut room)? else { break };
            if item.content != Content::Gone {
                items.push(item);
            }
        }
        Ok(items)
    }

    /// A leaf with its content as it is here, from its piece `at` on; none if the part has no room
    /// for it. Only what is too large for a part of its own is cut.
    fn item(
        &self,
        db: &Connection,
        held: &Snapshot,
        kept: Kept,
        at: u64,
        room: &mut PartRoom,
    ) -> Result<Option<Item>> {
        let laid = match kept.read()? {
            Leaf::Tombstone(_) => None,
            Leaf::Document(leaf) => self.laid(db, held, kept.key, &leaf)?,
        };
        let Kept { leaf, .. } = kept;
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let left = laid.as_ref().and_then(|laid| laid.pieces.get(from..)).unwrap_or_default();
        let Some(laid) = laid.as_ref().filter(|_| !left.is_empty()) else {
            let content = Content::Gone;
            return Ok(room.take(leaf.len(), 0).then_some(Item { leaf, content }));
        };
        let mut pieces = Vec::new();
        let bytes = laid.bytes();
        if bytes <= self.shared.profile.part_bytes.get() && left.len() <= SNAPSHOT_PART_PIECES_MAX {
            if !room.take(leaf.len() + bytes, left.len()) {
                return Ok(None);
            }
            pieces.extend(left.iter().map(|piece| piece.clone().into()));
        } else {
            let mut beside = leaf.len();
            for piece in left {
                if !room.take(beside + cost(piece), 1) {
                    break;
                }
                pieces.push(piece.clone().into());
                beside = 0;
            }
            if pieces.is_empty() {
                return Ok(None);
            }
        }
        if pieces.len() == left.len() {
            self.shared.handing().document.take_if(|document| Arc::ptr_eq(document, laid));
        }
        Ok(Some(Item { leaf, content: Content::Document { at, pieces } }))
    }

    /// A document at a leaf's version; none if it is not here any more.
    fn laid(
        &self,
        db: &Connection,
        held: &Snapshot,
        key: Key,
        leaf: &DocumentLeaf,
    ) -> Result<Option<Arc<Laid>>> {
        let kept = match held.state {
            snapshots::State::Kept => pieces_kept(db, held, &key)?,
            _ => None,
        };
        let Found::At(row) = locate(db, &leaf.object, (leaf.band, leaf.generation))? else {
            return Ok(kept.map(|pieces| Arc::new(Laid { snapshot: held.id, key, pieces })));
        };
        let is_it = |laid: &&Arc<Laid>| laid.snapshot == held.id && laid.key == key;
        let known = self.shared.handing().document.as_ref().filter(is_it).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(pieces) = pieces_of(db, &row, leaf)? else { return Ok(None) };
        let laid = Arc::new(Laid { snapshot: held.id, key, pieces });
        if laid.bytes() > self.shared.profile.part_bytes.get() {
            self.shared.handing().document = Some(Arc::clone(&laid));
        }
        Ok(Some(laid))
    }

    fn nodes(&self, db: &Connection, held: &Snapshot) -> Result<Arc<MemoryNodes>> {
        let size = held.received.size();
        let known = |handing: &Handing| match &handing.nodes {
            Some((of, nodes)) if *of == (held.id, size) => Some(Arc::clone(nodes)),
            _ => None,
        };
        if let Some(nodes) = known(&self.shared.handing()) {
            return Ok(nodes);
        }
        let mut nodes = MemoryNodes::default();
        snapshots::each_leaf(db, held, |kept| {
            nodes.append(leaf_hash(&kept.leaf));
            Ok::<_, Error>(())
        })?;
        let nodes = Arc::new(nodes);
        self.shared.handing().nodes = Some(((held.id, size), Arc::clone(&nodes)));
        Ok(nodes)
    }
}

/// A document's pieces at a leaf's version; none if it is another document.
pub(crate) fn pieces_of(
    db: &Connection,
    row: &Row,
    leaf: &DocumentLeaf,
) -> Result<Option<Vec<Vec<u8>>>> {
    let document = load(db, row)?;
    let value = document.value_at(&Heads::FLAT)?;
    let Some(changes) = document.changes_to(&heads_of(leaf)) else { return Ok(None) };
    if digest_of(&value) != leaf.value {
        return Ok(None);
    }
    let mut pieces = vec![larder_document::canonical(&value)];
    pieces.extend(changes);
    Ok(Some(pieces))
}
