//! What is behind the leaves of a snapshot that comes in: tombstones, and documents, whole or piece
//! by piece.
//!
//! Invariants: nothing is kept of a document but what its leaf or what is kept already names by
//! its hash, so a peer that lies is found out at the first piece that is another, and takes no more
//! room than the document does; nothing of it is shown before all of it is here.

use larder_document::{Document, Heads, Link, Object};
use larder_log::snapshot::{Content, DocumentLeaf, Leaf, Stamp, TombstoneLeaf};
use larder_store::space::snapshots::Key;
use larder_store::space::tombstones::{self, Tombstone};
use larder_store::space::{changes, documents, logs, pieces};
use larder_types::Hash;
use minicbor::bytes::ByteVec;
use rusqlite::Connection;

use super::heads_of;
use crate::copies::{Found, Room, locate};
use crate::rows::Origin;
use crate::snapshot::digest_of;
use crate::state::State as WriterState;
use crate::touched::{Stored, parse};
use crate::unreadable::Thing;
use crate::{Error, Result};

/// What came of something that a peer supplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Took {
    /// Nothing new.
    Nothing,
    /// Not all that belongs to it is here yet.
    Some,
    /// All of it is here.
    All,
}

impl WriterState {
    /// Takes in what a leaf stands for, as far as it came. None if the content is another.
    pub(super) fn take_item(
        &mut self,
        db: &Connection,
        snapshot: i64,
        leaf: &Leaf,
        content: Content,
    ) -> Result<Option<Took>> {
        self.damage.unreadable.enter(Thing::Document(leaf.key().1))?;
        match (leaf, content) {
            (Leaf::Tombstone(leaf), Content::Gone) => {
                self.take_tombstone(db, leaf)?;
                Ok(Some(Took::All))
            }
            (Leaf::Tombstone(_), Content::Document { .. }) => Ok(None),
            (Leaf::Document(leaf), Content::Gone) => {
                let found = locate(db, &leaf.object, (leaf.band, leaf.generation))?;
                let is_buried = matches!(found, Found::Buried);
                Ok(Some(if is_buried { Took::All } else { Took::Nothing }))
            }
            (Leaf::Document(leaf), Content::Document { at, pieces }) => {
                self.take_pieces(db, snapshot, leaf, at, &pieces)
            }
        }
    }

    fn take_tombstone(&mut self, db: &Connection, leaf: &TombstoneLeaf) -> Result<()> {
        let tombstone = Tombstone {
            object: leaf.object,
            collection: leaf.collection.clone(),
            clock: leaf.deleted.clock,
            device: leaf.deleted.device,
            seq: leaf.deleted.seq,
            index: leaf.index,
            band: leaf.band,
        };
        // It goes once what was edited beside a redaction is made again.
        if self.erasing.keeps(&leaf.object) {
            return Ok(tombstones::put(db, &tombstone)?);
        }
        self.bury(db, &tombstone)
    }

    /// Takes in pieces of a document from the one with the number `at` on. What came whole is never
    /// staged.
    fn take_pieces(
        &mut self,
        db: &Connection,
        snapshot: i64,
        leaf: &DocumentLeaf,
        at: u64,
        came: &[ByteVec],
    ) -> Result<Option<Took>> {
        let key: Key = (leaf.band, leaf.object, leaf.generation);
        let (fetched, before) = match (pieces::find(db, snapshot, &key)?, came.split_first()) {
            (Some(fetched), _) => (fetched, fetched.pieces),
            (None, Some((value, changes))) if at == 0 => {
                let Some(first) = first_value(leaf, value) else { return Ok(None) };
                let changes: Vec<&[u8]> = changes.iter().map(|change| change.as_slice()).collect();
                if self.take_whole(db, leaf, &first, &changes)? {
                    return Ok(Some(Took::All));
                }
                let created = Document::flat(first).created()?;
                let Some(root) = created.iter().next() else {
                    return Err(Error::Internal("a document without a root".into()));
                };
                let root = Hash::new(*root);
                (pieces::begin(db, snapshot, &key, value, &root, &leaf.heads)?, 0)
            }
            // It has not begun to come.
            (None, _) => return Ok(Some(Took::Nothing)),
        };
        let Some(fetched) = keep(db, fetched, at, came)? else { return Ok(None) };
        if fetched.pieces == before {
            return Ok(Some(Took::Nothing));
        }
        if pieces::next(db, fetched)?.is_some() {
            return Ok(Some(Took::Some));
        }
        let all = pieces::every(db, fetched)?;
        pieces::remove(db, fetched)?;
        let Some((value, changes)) = all.split_first() else { return Ok(None) };
        let Some(first) = first_value(leaf, value) else { return Ok(None) };
        let changes: Vec<&[u8]> = changes.iter().map(Vec::as_slice).collect();
        let is_taken = self.take_whole(db, leaf, &first, &changes)?;
        Ok(is_taken.then_some(Took::All))
    }

    /// Takes in a document at a leaf's version. False, and nothing was done, if these are not all
    /// of its changes, or others.
    fn take_whole(
        &mut self,
        db: &Connection,
        leaf: &DocumentLeaf,
        first: &Object,
        changes: &[&[u8]],
    ) -> Result<bool> {
        let heads = heads_of(leaf);
        let origin = |stamp: &Stamp| -> Result<Origin> {
            Ok(Origin {
                log: logs::find_or_add(db, &stamp.device)?.log,
                device: stamp.device,
                seq: stamp.seq,
                index: 0,
                entry: leaf.generation,
                clock: stamp.clock,
                band: leaf.band,
            })
        };
        let mut new = None;
        if matches!(locate(db, &leaf.object, (leaf.band, leaf.generation))?, Found::Unknown) {
            let mut document = Document::flat(first.clone());
            if !document.take_history(changes, &heads) {
                return Ok(false);
            }
            let created = origin(&leaf.created)?;
            match self.make_room(db, leaf.object, (leaf.band, leaf.generation))? {
                Room::At(at, path) => {
                    self.write_new(db, &created, &at, &path, &leaf.collection, first)?;
                }
                Room::Buried | Room::Taken => {}
            }
            new = Some(document);
        }
        let Found::At(row) = locate(db, &leaf.object, (leaf.band, leaf.generation))? else {
            return Ok(true);
        };
        let row: documents::Document = *row;
        let is_new = new.is_some();
        let (mut stored, before) = if let Some(document) = new {
            let (root, changes) = (leaf.object, Vec::new());
            (Stored { row, root, document, changes, edited: false }, Heads::FLAT)
        } else {
            let mut stored = Stored::read(db, &mut self.cache, row, leaf.object)?;
            let before = stored.document.heads();
            if !stored.document.take_history(changes, &heads) {
                self.cache.insert(stored.row.object, stored.document);
                return Ok(false);
            }
            (stored, before)
        };
        let after = stored.document.heads();
        if after != before {
            self.write_edited(db, origin(&leaf.updated)?.stamp(), &mut stored)?;
        }
        if is_new || after != before {
            changes::add_late(db, &stored.row.object, None)?;
        }
        self.cache.insert(stored.row.object, stored.document);
        Ok(true)
    }
}

/// The value that a document was created with, if this is it. How it is written may take more than
/// it took when it was created.
fn first_value(leaf: &DocumentLeaf, json: &[u8]) -> Option<Object> {
    let first = parse(std::str::from_utf8(json).ok()?).ok()?;
    (digest_of(&first) == leaf.value).then_some(first)
}

/// Keeps the changes that are not here yet. None if one of them is not the one that comes next.
fn keep(
    db: &Connection,
    mut fetched: pieces::Fetched,
    at: u64,
    came: &[ByteVec],
) -> Result<Option<pieces::Fetched>> {
    // Another peer has brought some since this one was asked.
    let here = fetched.pieces.checked_sub(at).and_then(|here| usize::try_from(here).ok());
    let Some(new) = here.and_then(|here| came.get(here..)) else { return Ok(Some(fetched)) };
    for bytes in new {
        let Ok(Link { hash, deps }) = Link::of(bytes) else { return Ok(None) };
        let hash = Hash::new(hash);
        if deps.is_empty() || pieces::next(db, fetched)? != Some(hash) {
            return Ok(None);
        }
        let deps: Vec<Hash> = deps.into_iter().map(Hash::new).collect();
        fetched = pieces::keep(db, fetched, &hash, &deps, bytes)?;
    }
    Ok(Some(fetched))
}
