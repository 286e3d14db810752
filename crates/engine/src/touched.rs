//! The documents that one unit or batch touches: read once, changed in memory, written at its end.
//!
//! Local units and batches from peers go the same way: a [`Part`] gathers what happens to one
//! document, and [`crate::rows`] writes what it came to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use larder_document::{Actor, Cache, Document, Heads, Object};
use larder_store::space::{documents, tombstones};
use larder_types::{CollectionName, EntryHash, ObjectId, Timestamp, canonical};
use rusqlite::Connection;

use crate::unit::Base;
use crate::{Error, Result};

/// A document as an open transaction sees it.
pub(crate) enum State {
    /// There is none, and never was one.
    Absent,
    /// Deleted before.
    Deleted,
    /// Created here.
    New { collection: CollectionName, value: Object },
    /// Stored before.
    Stored(Box<Stored>),
    /// Deleted here; the row is the one to remove, if it was stored.
    Removed { collection: Option<CollectionName>, row: Option<Box<documents::Document>> },
}

/// A document that was stored before, loaded.
pub(crate) struct Stored {
    pub(crate) row: documents::Document,
    pub(crate) document: Document,
    /// Changes made by the own unit, to be logged.
    pub(crate) changes: Vec<Vec<u8>>,
    /// Whether its row has to be written.
    pub(crate) edited: bool,
}

/// One document's part of a transaction.
pub(crate) struct Part {
    pub(crate) state: State,
    pub(crate) vector: Option<Vec<f32>>,
}

/// All parts, in the order in which they were first touched.
#[derive(Default)]
pub(crate) struct Touched {
    order: Vec<ObjectId>,
    parts: HashMap<ObjectId, Part>,
}

impl Touched {
    /// The part of `object`, read from the database at its first touch.
    pub(crate) fn part(
        &mut self,
        db: &Connection,
        cache: &mut Cache,
        object: ObjectId,
    ) -> Result<&mut Part> {
        match self.parts.entry(object) {
            Entry::Occupied(part) => Ok(part.into_mut()),
            Entry::Vacant(vacant) => {
                let state = read(db, cache, &object)?;
                self.order.push(object);
                Ok(vacant.insert(Part { state, vector: None }))
            }
        }
    }

    /// Drops what is known of `object`, so that the next touch reads it anew.
    pub(crate) fn forget(&mut self, object: &ObjectId) {
        if self.parts.remove(object).is_some() {
            self.order.retain(|other| other != object);
        }
    }

    /// The parts, in the order in which they were first touched.
    pub(crate) fn into_parts(mut self) -> Vec<(ObjectId, Part)> {
        let parts = &mut self.parts;
        self.order.into_iter().filter_map(|object| Some((object, parts.remove(&object)?))).collect()
    }
}

fn read(db: &Connection, cache: &mut Cache, object: &ObjectId) -> Result<State> {
    let Some(row) = documents::find(db, object)? else {
        let deleted = tombstones::contains(db, object)?;
        return Ok(if deleted { State::Deleted } else { State::Absent });
    };
    let document = match cache.get(object) {
        Some(document) => document,
        None => load(db, &row)?,
    };
    Ok(State::Stored(Box::new(Stored { row, document, changes: Vec::new(), edited: false })))
}

/// Loads a stored document, with its history if it has one.
pub(crate) fn load(db: &Connection, row: &documents::Document) -> Result<Document> {
    let heads: Heads = canonical::decode(&row.heads, row.heads.len())?;
    let saved = if heads.is_flat() { None } else { documents::automerge(db, row.document)? };
    Ok(Document::load(parse(&row.json)?, saved.as_deref())?)
}

/// The value in a document's JSON column.
pub(crate) fn parse(json: &str) -> Result<Object> {
    Ok(larder_document::parse(json.as_bytes())?)
}

impl Part {
    /// Gives the document a value, as a local unit asks.
    pub(crate) fn put(
        &mut self,
        object: ObjectId,
        collection: &CollectionName,
        value: &Object,
        base: &Base,
        actor: impl FnOnce(&EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<()> {
        match &mut self.state {
            State::Deleted | State::Removed { .. } => return Err(Error::Deleted(object)),
            State::Absent => {
                if *base != Base::Latest {
                    return Err(Error::NotFound(format!("there is no document {object} to edit")));
                }
                self.state = State::New { collection: collection.clone(), value: value.clone() };
            }
            State::New { collection: known, value: pending } => {
                same_collection(object, known, collection)?;
                pending.clone_from(value);
            }
            State::Stored(stored) => {
                same_collection(object, &stored.row.collection, collection)?;
                stored.put(object, value, base, actor, now)?;
            }
        }
        Ok(())
    }

    /// Deletes the document, as a local unit asks.
    pub(crate) fn delete(&mut self, object: ObjectId) -> Result<()> {
        let before = std::mem::replace(&mut self.state, State::Absent);
        self.state = match before {
            State::Deleted | State::Removed { .. } => return Err(Error::Deleted(object)),
            State::Absent => {
                let message = format!("there is no document {object} to delete");
                return Err(Error::NotFound(message));
            }
            State::New { .. } => State::Absent,
            State::Stored(stored) => State::Removed {
                collection: Some(stored.row.collection.clone()),
                row: Some(Box::new(stored.row)),
            },
        };
        Ok(())
    }
}

impl Part {
    /// Deletes the document, as a peer's tombstone tells: it wins, whatever there is.
    pub(crate) fn bury(&mut self, collection: CollectionName) {
        let row = match std::mem::replace(&mut self.state, State::Deleted) {
            State::Stored(stored) => Some(Box::new(stored.row)),
            State::Removed { row, .. } => row,
            State::Absent | State::Deleted | State::New { .. } => None,
        };
        self.state = State::Removed { collection: Some(collection), row };
    }
}

impl Stored {
    fn put(
        &mut self,
        object: ObjectId,
        value: &Object,
        base: &Base,
        actor: impl FnOnce(&EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<()> {
        let base = match base {
            Base::Latest => None,
            Base::Merge(heads) => Some(heads),
            Base::Exactly(heads) => {
                let current = self.document.heads();
                if *heads != current {
                    let current_value = Box::new(self.document.value()?);
                    return Err(Error::Conflict { object, heads: current, current: current_value });
                }
                None
            }
        };
        if let Some(change) = self.document.put(actor(&self.row.generation), base, value, now)? {
            self.changes.push(change);
            self.edited = true;
        }
        Ok(())
    }
}

fn same_collection(object: ObjectId, known: &CollectionName, asked: &CollectionName) -> Result<()> {
    if known == asked {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "document {object} is in the collection '{known}', not in '{asked}', and a document never \
         changes its collection"
    )))
}
