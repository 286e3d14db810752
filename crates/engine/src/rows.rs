//! Writes what a transaction came to into the tables that are read: documents, tombstones, the
//! full-text index and the vectors.

use larder_document::{Heads, Object};
use larder_search::{EmbedError, Embedder, SearchError, Text};
use larder_store::space::copies;
use larder_store::space::documents::{self, NewDocument, Stamp};
use larder_store::space::logs::LogId;
use larder_store::space::tombstones::Tombstone;
use larder_types::{Clock, CollectionName, DeviceId, EntryHash, ObjectId, canonical};
use rusqlite::Connection;

use crate::state::State as WriterState;
use crate::touched::{Part, State, Stored, parse};
use crate::{Error, Result};

/// The name under which vectors that the app brings itself are kept.
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
}

impl Origin {
    const fn stamp(&self) -> Stamp {
        Stamp { log: self.log, seq: self.seq, clock: self.clock }
    }

    pub(crate) fn tombstone(
        &self,
        object: ObjectId,
        collection: Option<CollectionName>,
    ) -> Tombstone {
        let Self { clock, device, seq, index, .. } = *self;
        Tombstone { object, collection, clock, device, seq, index }
    }
}

/// A document whose embedding is to be made anew.
pub(crate) struct Embed {
    pub(crate) document: i64,
    collection: CollectionName,
    text: String,
}

impl WriterState {
    /// Writes one document's part.
    pub(crate) fn write_part(
        &mut self,
        db: &Connection,
        origin: &Origin,
        object: ObjectId,
        part: Part,
        embed: &mut Vec<Embed>,
    ) -> Result<()> {
        let (document, collection) = match part.state {
            State::Absent | State::Deleted => return Ok(()),
            State::Removed { row } => {
                let tombstone = origin.tombstone(object, Some(row.collection));
                return self.bury(db, &tombstone, embed);
            }
            State::New { collection, value } => {
                let document = write_new(db, origin, &object, &[], &collection, &value, embed)?;
                (document, collection)
            }
            // The same unit deleted what it is a copy of.
            State::Stored(stored) if is_copy_buried(db, &stored)? => return Ok(()),
            State::Stored(stored) => {
                let (document, collection) = (stored.row.document, stored.row.collection.clone());
                if stored.edited {
                    write_edited(db, origin, &stored, embed)?;
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

    /// Makes the embeddings of the documents that changed, all in one call.
    pub(crate) fn write_embeddings(&self, db: &Connection, embed: &[Embed]) -> Result<()> {
        let embedder = &self.shared.embedder;
        let vectors = vectors(&**embedder, embed)
            .map_err(|e| Error::Invalid(format!("the embedder failed on this unit: {e}")))?;
        for (embed, vector) in embed.iter().zip(&vectors) {
            put_vector(db, &**embedder, embed, vector)?;
        }
        Ok(())
    }

    /// The same for what came from peers. An embedder is a matter of this device alone: a text that
    /// it fails on stays without a vector.
    pub(crate) fn embed_received(&self, db: &Connection, embed: &[Embed]) -> Result<()> {
        let embedder = &self.shared.embedder;
        let together = vectors(&**embedder, embed).ok();
        for (n, text) in embed.iter().enumerate() {
            let vector = match &together {
                Some(vectors) => vectors.get(n).cloned(),
                None => vectors(&**embedder, std::slice::from_ref(text))
                    .ok()
                    .and_then(|mut vectors| vectors.pop()),
            };
            let Some(vector) = vector else { continue };
            let put = put_vector(db, &**embedder, text, &vector);
            if let Err(e @ SearchError::Storage(_)) = put {
                return Err(e.into());
            }
        }
        Ok(())
    }
}

fn vectors(
    embedder: &dyn Embedder,
    embed: &[Embed],
) -> std::result::Result<Vec<Vec<f32>>, EmbedError> {
    if embed.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = embed.iter().map(|embed| embed.text.as_str()).collect();
    let vectors = embedder.embed_batch(&texts)?;
    if vectors.len() != embed.len() {
        let message = "it returned another number of vectors than it was given texts";
        return Err(EmbedError(message.into()));
    }
    Ok(vectors)
}

fn put_vector(
    db: &Connection,
    embedder: &dyn Embedder,
    embed: &Embed,
    vector: &[f32],
) -> std::result::Result<(), SearchError> {
    let Embed { document, collection, .. } = embed;
    larder_search::put_vector(db, embedder.id(), *document, collection.as_str(), vector)
}

pub(crate) fn write_new(
    db: &Connection,
    origin: &Origin,
    object: &ObjectId,
    path: &[ObjectId],
    collection: &CollectionName,
    value: &Object,
    embed: &mut Vec<Embed>,
) -> Result<i64> {
    copies::set_path(db, object, path)?;
    let document = documents::put(
        db,
        &NewDocument {
            object,
            collection,
            generation: &origin.entry,
            created: origin.stamp(),
            updated: origin.stamp(),
            heads: &canonical::encode(&Heads::FLAT),
            json: &json_of(value),
            automerge: None,
        },
    )?;
    index(db, document, collection, None, value, embed)?;
    Ok(document)
}

pub(crate) fn write_edited(
    db: &Connection,
    origin: &Origin,
    stored: &Stored,
    embed: &mut Vec<Embed>,
) -> Result<()> {
    let row = &stored.row;
    let value = stored.document.value()?;
    let saved = stored.document.save();
    documents::put(
        db,
        &NewDocument {
            object: &row.object,
            collection: &row.collection,
            generation: &row.generation,
            created: row.created,
            updated: origin.stamp(),
            heads: &canonical::encode(&stored.document.heads()),
            json: &json_of(&value),
            automerge: saved.as_deref(),
        },
    )?;
    let old = text_of(&parse(&row.json)?);
    index(db, row.document, &row.collection, Some(&old), &value, embed)
}

fn index(
    db: &Connection,
    document: i64,
    collection: &CollectionName,
    old: Option<&Text>,
    value: &Object,
    embed: &mut Vec<Embed>,
) -> Result<()> {
    let text = text_of(value);
    if old != Some(&text) {
        larder_search::put_text(db, document, collection.as_str(), old, &text)?;
        let text = format!("{}\n{}", text.title, text.body);
        embed.push(Embed { document, collection: collection.clone(), text });
    }
    Ok(())
}

pub(crate) fn text_of(value: &Object) -> Text {
    larder_search::text_of(value)
}

fn is_copy_buried(db: &Connection, stored: &Stored) -> Result<bool> {
    Ok(stored.root != stored.row.object && copies::is_buried(db, &stored.row.object)?)
}

/// The canonical JSON of a value.
fn json_of(value: &Object) -> String {
    String::from_utf8_lossy(&larder_document::canonical(value)).into_owned()
}
