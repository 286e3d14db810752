//! The documents that one unit touches: read once, changed in memory, written at its end.
//!
//! A [`Part`] gathers what a local unit does to one document, and [`crate::rows`] writes what it
//! came to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use larder_document::body::Redacted;
use larder_document::{Actor, Cache, Document, Heads, Object, Outcome};
use larder_log::Band;
use larder_log::contract::SpaceContracts;
use larder_store::space::documents;
use larder_types::{CollectionName, EntryHash, ObjectId, Timestamp, canonical};
use rusqlite::Connection;

use crate::contract::Noticed;
use crate::copies::{is_deleted, root};
use crate::sight::Sight;
use crate::unit::Base;
use crate::{Error, Result};

/// A document as an open transaction sees it.
pub(crate) enum State {
    /// There is none, and never was one.
    Absent,
    /// Deleted before.
    Deleted,
    /// Created here.
    New {
        collection: CollectionName,
        value: Object,
        from: Option<ObjectId>,
        redacted: Option<Box<Redacted>>,
        band: Band,
    },
    /// Stored before.
    Stored(Box<Stored>),
    /// Deleted here; the row is the one to remove.
    Removed { row: Box<documents::Document> },
}

/// A document that was stored before, loaded.
pub(crate) struct Stored {
    pub(crate) row: documents::Document,
    /// The id that it was created under, and that its changes name.
    pub(crate) root: ObjectId,
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
    /// What kinds of personal data were found in what it is given.
    pub(crate) personal: u8,
    /// The lowest band that contracts allow for that.
    pub(crate) raised: Option<Band>,
    /// Whether something has the id that is not there for the unit.
    is_hidden: bool,
}

/// Where a document is to be: its collection and its band.
pub(crate) struct Filed<'a> {
    pub(crate) collection: &'a CollectionName,
    /// What the app says, if it does.
    pub(crate) asked: Option<Band>,
    /// What a new one is of if it does not.
    pub(crate) usual: Band,
    pub(crate) clearance: Band,
    /// What contracts found in its value.
    pub(crate) noticed: Option<&'a Noticed>,
}

/// All parts, in the order in which they were first touched.
#[derive(Default)]
pub(crate) struct Touched {
    order: Vec<ObjectId>,
    parts: HashMap<ObjectId, Part>,
    /// What the app's contracts have to tell.
    pub(crate) noticed: Vec<Noticed>,
    /// What is there for the unit.
    pub(crate) sight: Sight,
    /// See [`UnitOfWork`](crate::UnitOfWork).
    pub(crate) contracts: Option<Arc<SpaceContracts>>,
}

impl Touched {
    /// Of a unit for which no more is there than this.
    pub(crate) fn seeing(sight: Sight) -> Self {
        Self { sight, ..Self::default() }
    }

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
                let is_hidden = self.sight.hides(db, &object)?;
                let state = if is_hidden { State::Absent } else { read(db, cache, &object)? };
                self.order.push(object);
                let (vector, personal, raised) = (None, 0, None);
                Ok(vacant.insert(Part { state, vector, personal, raised, is_hidden }))
            }
        }
    }

    /// Whether any of them came to something that is to be written.
    pub(crate) fn has_effect(&self) -> bool {
        self.parts.values().any(|part| match &part.state {
            State::Absent | State::Deleted => false,
            State::New { .. } | State::Removed { .. } => true,
            State::Stored(stored) => stored.edited,
        })
    }

    /// The parts, in the order in which they were first touched.
    pub(crate) fn into_parts(mut self) -> Vec<(ObjectId, Part)> {
        let parts = &mut self.parts;
        self.order.into_iter().filter_map(|object| Some((object, parts.remove(&object)?))).collect()
    }
}

fn read(db: &Connection, cache: &mut Cache, object: &ObjectId) -> Result<State> {
    let Some(row) = documents::find(db, object)? else {
        let deleted = is_deleted(db, object)?;
        return Ok(if deleted { State::Deleted } else { State::Absent });
    };
    let root = root(db, object)?;
    Ok(State::Stored(Box::new(Stored::read(db, cache, row, root)?)))
}

/// Loads a stored document, with its history if it has one.
pub(crate) fn load(db: &Connection, row: &documents::Document) -> Result<Document> {
    let heads: Heads = canonical::decode(&row.heads, row.heads.len())?;
    let saved = if heads.is_flat() { None } else { documents::history(db, row.document)? };
    Ok(Document::load(parse(&row.json)?, saved.as_deref())?)
}

/// The value in a document's JSON column, of any size: what merged from several edits is not
/// bounded as each of them is.
pub(crate) fn parse(json: &str) -> Result<Object> {
    serde_json::from_str(json).map_err(|e| Error::Corrupt(format!("a document's value: {e}")))
}

impl Part {
    /// The document's band, if there is one, or was until now.
    pub(crate) fn band(&self) -> Option<Band> {
        match &self.state {
            State::Absent | State::Deleted => None,
            State::New { band, .. } => Some(*band),
            State::Stored(stored) => Some(stored.row.band),
            State::Removed { row } => Some(row.band),
        }
    }

    /// Whether it may name blobs by what was done to it.
    pub(crate) fn names_blobs(&self) -> bool {
        match &self.state {
            State::New { value, .. } => value.iter().any(names_blob),
            State::Stored(stored) => stored.edited,
            State::Absent | State::Deleted | State::Removed { .. } => false,
        }
    }

    /// Whether it has this value already.
    pub(crate) fn is(&self, value: &Object) -> Result<bool> {
        Ok(matches!(&self.state, State::Stored(stored) if stored.document.value()? == *value))
    }

    /// Gives the document a value, as a local unit asks.
    pub(crate) fn put(
        &mut self,
        object: ObjectId,
        filed: &Filed<'_>,
        value: &Object,
        base: &Base,
        actor: impl FnOnce(&ObjectId, &EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<()> {
        let collection = filed.collection;
        let raised = filed.noticed.and_then(|noticed| noticed.raised);
        self.check_band(object, filed.asked, raised)?;
        match &mut self.state {
            State::Deleted | State::Removed { .. } => return Err(Error::Deleted(object)),
            State::Absent => {
                if *base != Base::Latest {
                    return Err(Error::NotFound(format!("there is no document {object} to edit")));
                }
                if self.is_hidden {
                    return Err(Error::Invalid(format!(
                        "the id {object} cannot be used here: write the document under a fresh one"
                    )));
                }
                let (collection, value) = (collection.clone(), value.clone());
                let band = filed.asked.unwrap_or(filed.usual);
                self.state = State::New { collection, value, from: None, redacted: None, band };
            }
            State::New { collection: known, value: pending, .. } => {
                same_collection(object, known, collection)?;
                pending.clone_from(value);
            }
            State::Stored(stored) => {
                same_collection(object, &stored.row.collection, collection)?;
                if stored.document.trashed()?.is_some() {
                    return Err(Error::Trashed(object));
                }
                stored.put(object, value, base, actor, now)?;
            }
        }
        self.raise(object, filed)
    }

    /// A document keeps its band, and what a contract makes higher was asked for all the same.
    fn check_band(
        &self,
        object: ObjectId,
        asked: Option<Band>,
        raised: Option<Band>,
    ) -> Result<()> {
        let (Some(known), Some(band)) = (self.band(), asked) else { return Ok(()) };
        let is_that = |raised: Option<Band>| raised.map_or(band, |least| band.max(least)) == known;
        if is_that(raised) || is_that(self.raised) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "document {object} is {known}, and a document keeps its band: write it anew under \
             another id to make it {band}"
        )))
    }

    /// Has a new document in the band that contracts want for what it holds.
    fn raise(&mut self, object: ObjectId, filed: &Filed<'_>) -> Result<()> {
        let clearance = filed.clearance;
        if let Some((noticed, least)) = filed.noticed.and_then(|it| Some((it, it.raised?))) {
            let (collection, kinds) = (filed.collection.clone(), noticed.names());
            match &mut self.state {
                State::New { band, .. } => *band = least.max(*band),
                State::Stored(stored) if stored.edited && stored.row.band < least => {
                    let (known, band) = (stored.row.band, least);
                    return Err(Error::ContractBand { object, collection, kinds, known, band });
                }
                _ => {}
            }
            self.raised = self.raised.max(Some(least));
            if let Some(band) = self.band().filter(|band| *band > clearance) {
                return Err(Error::ContractAbove { object, collection, kinds, band, clearance });
            }
        }
        match self.band().filter(|band| *band > clearance) {
            Some(band) => Err(Error::NotCleared { band, clearance }),
            None => Ok(()),
        }
    }

    /// Takes in changes that were made again of another document.
    pub(crate) fn make_again(&mut self, object: ObjectId, changes: &[Vec<u8>]) -> Result<()> {
        let State::Stored(stored) = &mut self.state else {
            return Err(Error::NotFound(format!("there is no document {object}")));
        };
        for change in changes {
            // Nobody's: whoever writes it is entitled to it.
            let outcome = stored.document.apply(&[(Actor::NOBODY, change)]);
            if matches!(outcome[..], [Outcome::Applied]) {
                stored.changes.push(change.clone());
                stored.edited = true;
            }
        }
        Ok(())
    }

    /// Makes an edit again that turned the value at `base` into this one, in the trash too. The
    /// version behind it, if it is one.
    pub(crate) fn redo(
        &mut self,
        object: ObjectId,
        value: &Object,
        base: &Heads,
        actor: impl FnOnce(&ObjectId, &EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<Option<Heads>> {
        let State::Stored(stored) = &mut self.state else {
            return Err(Error::NotFound(format!("there is no document {object}")));
        };
        let before = stored.changes.len();
        stored.put(object, value, &Base::Merge(base.clone()), actor, now)?;
        Ok(self.change(before))
    }

    /// The version behind one of the changes that were made here.
    pub(crate) fn change(&self, at: usize) -> Option<Heads> {
        let State::Stored(stored) = &self.state else { return None };
        stored.changes.get(at).and_then(|change| Heads::after(change))
    }

    /// Creates the document, which is restored from another, as a local unit asks.
    pub(crate) fn restore(
        &mut self,
        object: ObjectId,
        (collection, band): (&CollectionName, Band),
        value: &Object,
        from: ObjectId,
    ) -> Result<()> {
        if !matches!(self.state, State::Absent) {
            return Err(Error::Invalid(format!(
                "what is restored gets an id of its own: {object}"
            )));
        }
        let (collection, value) = (collection.clone(), value.clone());
        self.state = State::New { collection, value, from: Some(from), redacted: None, band };
        Ok(())
    }

    /// Puts the document into the trash or takes it out, as a local unit asks.
    pub(crate) fn trash(
        &mut self,
        object: ObjectId,
        is_in: bool,
        actor: impl FnOnce(&ObjectId, &EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<()> {
        match &mut self.state {
            State::Deleted | State::Removed { .. } => Err(Error::Deleted(object)),
            State::Absent => Err(Error::NotFound(format!("there is no document {object}"))),
            State::New { .. } => Err(Error::Invalid(format!(
                "document {object} is created by this unit: leave it out, or commit that first"
            ))),
            State::Stored(stored) => {
                let actor = actor(&stored.root, &stored.row.generation);
                if let Some(change) = stored.document.put_in_trash(actor, is_in, now)? {
                    stored.changes.push(change);
                    stored.edited = true;
                }
                Ok(())
            }
        }
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
            State::Stored(stored) => State::Removed { row: Box::new(stored.row) },
        };
        Ok(())
    }
}

impl Stored {
    pub(crate) fn read(
        db: &Connection,
        cache: &mut Cache,
        row: documents::Document,
        root: ObjectId,
    ) -> Result<Self> {
        // Who writes it puts it back. A copy costs as much as its history is long.
        let document = match cache.take(&row.object) {
            Some(document) => document,
            None => load(db, &row)?,
        };
        Ok(Self { row, root, document, changes: Vec::new(), edited: false })
    }

    fn put(
        &mut self,
        object: ObjectId,
        value: &Object,
        base: &Base,
        actor: impl FnOnce(&ObjectId, &EntryHash) -> Actor,
        now: Timestamp,
    ) -> Result<()> {
        let base = match base {
            Base::Latest => None,
            Base::Merge(heads) => Some(heads),
            Base::Exactly(heads) => {
                check_current(object, &self.document, heads)?;
                None
            }
        };
        if let Some(change) =
            self.document.put(actor(&self.root, &self.row.generation), base, value, now)?
        {
            self.changes.push(change);
            self.edited = true;
        }
        Ok(())
    }
}

/// Whether these heads, which somebody has read, are a document's current version.
///
/// # Errors
/// [`Error::Conflict`].
pub(crate) fn check_current(object: ObjectId, document: &Document, read: &Heads) -> Result<()> {
    let heads = document.heads();
    let is_created = heads.is_flat() && *read == document.created()?;
    if *read == heads || is_created {
        return Ok(());
    }
    Err(Error::Conflict { object, heads, current: Box::new(document.value()?) })
}

/// Whether a member of a value has one called `$blob`, or is it.
fn names_blob((name, value): (&String, &serde_json::Value)) -> bool {
    fn within(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(members) => members.iter().any(names_blob),
            serde_json::Value::Array(items) => items.iter().any(within),
            _ => false,
        }
    }
    name == "$blob" || within(value)
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
