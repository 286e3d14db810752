//! Writes what a transaction came to into the tables that are read: documents, tombstones, the
//! vectors that an app brings. Words and the embedder's vectors follow ([`crate::index`]).

use larder_document::{Heads, Object, Storing};
use larder_log::Band;
use larder_search::Text;
use larder_store::space::copies;
use larder_store::space::documents::{self, History, NewDocument, Stamp};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::Place;
use larder_store::space::tombstones::Tombstone;
use larder_types::{Clock, CollectionName, DeviceId, EntryHash, ObjectId, canonical};
use rusqlite::Connection;

use crate::Result;
use crate::copies::{Found, locate};
use crate::state::State as WriterState;
use crate::touched::{Part, State, Stored};

/// The name under which vectors that the app brings itself are kept. No embedder is called so.
pub(crate) const APP_VECTORS: &str = "app";

/// Which section did it.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) log: LogId,
    pub(crate) device: DeviceId,
    pub(crate) seq: u64,
    pub(crate) index: u32,
    pub(crate) entry: EntryHash,
    pub(crate) clock: Clock,
    pub(crate) band: Band,
}

impl Origin {
    /// Of a section that is stored, with its band and the clock that opening it told.
    pub(crate) fn of_stored(
        db: &Connection,
        place: Place,
        entry: EntryHash,
        (clock, band): (Clock, Band),
    ) -> Result<Self> {
        let Place { log, seq, index } = place;
        let device = logs::by_number(db, log)?.device;
        Ok(Self { log, device, seq, index, entry, clock, band })
    }

    pub(crate) const fn stamp(&self) -> Stamp {
        Stamp { log: self.log, seq: self.seq, clock: self.clock }
    }

    pub(crate) fn tombstone(
        &self,
        object: ObjectId,
        collection: Option<CollectionName>,
    ) -> Tombstone {
        let Self { clock, device, seq, index, band, .. } = *self;
        Tombstone { object, collection, clock, device, seq, index, band }
    }
}

impl WriterState {
    /// Writes one document's part.
    pub(crate) fn write_part(
        &mut self,
        db: &Connection,
        origin: &Origin,
        object: ObjectId,
        part: Part,
    ) -> Result<()> {
        let (document, collection) = match part.state {
            State::Absent | State::Deleted => return Ok(()),
            State::Removed { row } => {
                let tombstone = origin.tombstone(object, Some(row.collection));
                return self.bury(db, &tombstone);
            }
            State::New { collection, value, .. } => {
                let document = self.write_new(db, origin, &object, &[], &collection, &value)?;
                (document, collection)
            }
            State::Stored(mut stored) => {
                if !find_again(db, &mut stored)? {
                    return Ok(());
                }
                let object = stored.row.object;
                let (document, collection) = (stored.row.document, stored.row.collection.clone());
                if stored.edited {
                    self.write_edited(db, origin.stamp(), &mut stored)?;
                }
                self.cache.insert(object, stored.document);
                (document, collection)
            }
        };
        if let Some(vector) = part.vector {
            larder_search::put_vector(db, APP_VECTORS, document, collection.as_str(), &vector)?;
        }
        Ok(())
    }

    pub(crate) fn write_new(
        &mut self,
        db: &Connection,
        origin: &Origin,
        object: &ObjectId,
        path: &[ObjectId],
        collection: &CollectionName,
        value: &Object,
    ) -> Result<i64> {
        copies::set_path(db, object, path)?;
        let document = documents::insert(
            db,
            &NewDocument {
                object,
                collection,
                generation: &origin.entry,
                created: origin.stamp(),
                updated: origin.stamp(),
                heads: &canonical::encode(&Heads::FLAT),
                json: &json_of(value),
                trashed: None,
                band: origin.band,
                history: History::None,
            },
        )?;
        self.index_new(document);
        Ok(document)
    }

    pub(crate) fn write_edited(
        &mut self,
        db: &Connection,
        updated: Stamp,
        stored: &mut Stored,
    ) -> Result<()> {
        let row = &stored.row;
        let value = stored.document.value()?;
        let storing = stored.document.store();
        documents::put(
            db,
            &NewDocument {
                object: &row.object,
                collection: &row.collection,
                generation: &row.generation,
                created: row.created,
                updated,
                heads: &canonical::encode(&stored.document.heads()),
                json: &json_of(&value),
                trashed: stored.document.trashed()?,
                band: row.band,
                history: match &storing {
                    Storing::None => History::None,
                    Storing::Whole(bytes) => History::Whole(bytes),
                    Storing::More(bytes) => History::More(bytes),
                },
            },
        )?;
        self.index_changed(db, row.document, &row.json)
    }
}

pub(crate) fn text_of(value: &Object) -> Text {
    larder_search::text_of(value)
}

/// The same unit may have deleted what this is a copy of: then it is gone, or where that was.
fn find_again(db: &Connection, stored: &mut Stored) -> Result<bool> {
    let row = &mut stored.row;
    if stored.root == row.object {
        return Ok(true);
    }
    match locate(db, &stored.root, (row.band, row.generation))? {
        Found::At(now) => row.object = now.object,
        Found::Buried | Found::Unknown => return Ok(false),
    }
    Ok(true)
}

/// The canonical JSON of a value.
fn json_of(value: &Object) -> String {
    String::from_utf8_lossy(&larder_document::canonical(value)).into_owned()
}
