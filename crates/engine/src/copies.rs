//! Where a document lives if its id was created more than once (`docs/format/documents.md`).
//!
//! Each creation goes from id to id, from the one it names to those derived from it, until it is
//! the lowest that comes by. Which that is does not depend on the order in which they come.

use larder_crypto::hash::sha256;
use larder_log::Band;
use larder_store::space::documents::{self, Document};
use larder_store::space::tombstones::{self, Tombstone};
use larder_store::space::{changes, copies, pieces};
use larder_types::{EntryHash, ObjectId};
use rusqlite::Connection;

use crate::Result;
use crate::state::State as WriterState;

const LABEL: &[u8] = b"larder/copy/v0";

/// Where a creation ends up.
pub(crate) enum Room {
    /// There, behind the ids it passed.
    At(ObjectId, Vec<ObjectId>),
    /// An id that it comes by was deleted.
    Buried,
    /// It is there already.
    Taken,
}

/// Where the document is that a change is of.
pub(crate) enum Found {
    At(Box<Document>),
    Buried,
    /// It has not been created here.
    Unknown,
}

/// A creation among those under one id: its band, and the entry. The lower band comes first, so
/// that where a document lives is the same for who is not cleared for the others.
pub(crate) type Creation = (Band, EntryHash);

const fn creation(row: &Document) -> Creation {
    (row.band, row.generation)
}

enum Way {
    Free(ObjectId, Vec<ObjectId>),
    /// The id is that of a creation which has to go further now.
    Higher(Box<Document>, Vec<ObjectId>),
    Same(Box<Document>),
    Buried,
}

/// The id to which a creation goes on from `object`.
pub(crate) fn next_id(object: &ObjectId, generation: &EntryHash) -> ObjectId {
    let hash = sha256(&[LABEL, object.as_bytes(), generation.as_bytes()]);
    let mut id = [0; 16];
    id.iter_mut().zip(hash.as_bytes()).for_each(|(id, byte)| *id = *byte);
    ObjectId::new(id)
}

/// Follows the way of a creation from `at` on.
fn way(db: &Connection, mut at: ObjectId, of: Creation, mut path: Vec<ObjectId>) -> Result<Way> {
    loop {
        if tombstones::contains_in(db, &at, of.0)? {
            return Ok(Way::Buried);
        }
        match documents::find(db, &at)? {
            None => return Ok(Way::Free(at, path)),
            Some(row) if creation(&row) == of => return Ok(Way::Same(Box::new(row))),
            Some(row) if creation(&row) > of => {
                return Ok(Way::Higher(Box::new(row), path));
            }
            Some(_) => {
                path.push(at);
                at = next_id(&at, &of.1);
            }
        }
    }
}

/// The document that was created under `object` in a band, by an entry.
pub(crate) fn locate(db: &Connection, object: &ObjectId, of: Creation) -> Result<Found> {
    Ok(match way(db, *object, of, Vec::new())? {
        Way::Same(row) => Found::At(row),
        Way::Buried => Found::Buried,
        Way::Free(..) | Way::Higher(..) => Found::Unknown,
    })
}

/// The id under which the document `object` was created.
pub(crate) fn root(db: &Connection, object: &ObjectId) -> Result<ObjectId> {
    Ok(copies::path(db, object)?.first().copied().unwrap_or(*object))
}

/// Whether `object` is deleted, by its own id or by one it passed.
pub(crate) fn is_deleted(db: &Connection, object: &ObjectId) -> Result<bool> {
    Ok(copies::is_deleted(db, object)?)
}

impl WriterState {
    /// Finds the place of a creation, and moves those on that have to give way.
    pub(crate) fn make_room(
        &mut self,
        db: &Connection,
        object: ObjectId,
        of: Creation,
    ) -> Result<Room> {
        let (mut displaced, room) = match way(db, object, of, Vec::new())? {
            Way::Buried => return Ok(Room::Buried),
            Way::Same(_) => return Ok(Room::Taken),
            Way::Free(at, path) => return Ok(Room::At(at, path)),
            Way::Higher(row, path) => {
                let at = row.object;
                (row, Room::At(at, path))
            }
        };
        let mut moves = Vec::new();
        loop {
            let mut path = copies::path(db, &displaced.object)?;
            path.push(displaced.object);
            let next = next_id(&displaced.object, &displaced.generation);
            match way(db, next, creation(&displaced), path)? {
                Way::Free(at, path) => {
                    moves.push((displaced, at, path));
                    break;
                }
                Way::Higher(row, path) => {
                    moves.push((displaced, row.object, path));
                    displaced = row;
                }
                Way::Buried | Way::Same(_) => {
                    changes::add_late(db, &displaced.object, None)?;
                    self.remove_row(db, &displaced)?;
                    break;
                }
            }
        }
        for (row, to, path) in moves.into_iter().rev() {
            self.move_row(db, &row, to, &path)?;
        }
        Ok(room)
    }

    /// Deletes whatever was or is to be created under an id in a band.
    pub(crate) fn bury(&mut self, db: &Connection, tombstone: &Tombstone) -> Result<()> {
        tombstones::put(db, tombstone)?;
        let (object, band) = (&tombstone.object, tombstone.band);
        pieces::remove_of_object(db, object, band)?;
        for copy in copies::through(db, object)? {
            if let Some(row) = documents::find(db, &copy)?.filter(|row| row.band == band) {
                changes::add_late(db, &copy, None)?;
                self.remove_row(db, &row)?;
                self.refill(db, copy)?;
            }
        }
        if let Some(row) = documents::find(db, object)?.filter(|row| row.band == band) {
            self.remove_row(db, &row)?;
            self.refill(db, *object)?;
        }
        Ok(())
    }

    /// What had to give way to the document that was here comes back.
    pub(crate) fn refill(&mut self, db: &Connection, mut empty: ObjectId) -> Result<()> {
        loop {
            let mut lowest: Option<(Document, Vec<ObjectId>)> = None;
            for copy in copies::through(db, &empty)? {
                let mut path = copies::path(db, &copy)?;
                if path.pop() != Some(empty) {
                    continue;
                }
                let Some(row) = documents::find(db, &copy)? else { continue };
                if lowest.as_ref().is_none_or(|(low, _)| creation(&row) < creation(low)) {
                    lowest = Some((row, path));
                }
            }
            let Some((row, path)) = lowest else { return Ok(()) };
            self.move_row(db, &row, empty, &path)?;
            empty = row.object;
        }
    }

    fn move_row(
        &mut self,
        db: &Connection,
        row: &Document,
        to: ObjectId,
        path: &[ObjectId],
    ) -> Result<()> {
        documents::rename(db, row.document, &to)?;
        changes::add_late(db, &row.object, None)?;
        changes::add_late(db, &to, None)?;
        copies::set_path(db, &row.object, &[])?;
        copies::set_path(db, &to, path)?;
        if let Some(document) = self.cache.take(&row.object) {
            self.cache.insert(to, document);
        }
        Ok(())
    }

    pub(crate) fn remove_row(&mut self, db: &Connection, row: &Document) -> Result<()> {
        documents::remove(db, &row.object)?;
        self.index_removed(db, row.document, &row.json)?;
        self.cache.remove(&row.object);
        Ok(())
    }
}
