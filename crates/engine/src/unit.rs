//! A unit of work: what one atomic commit is to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use larder_document::{Heads, Object};
use larder_log::Band;
use larder_log::contract::SpaceContracts;
use larder_types::{
    BlobId, CollectionName, CorrelationId, Entropy, Hash, IdempotencyKey, ObjectId, canonical,
};
use serde::Serialize;

use crate::blobs::blobs_in;
use crate::sight::Sight;
use crate::{Error, Result, Space};

/// Which value a `put` was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The current one, whatever it is: fields that differ from it are changed.
    Latest,
    /// The one at these heads: only what differs from it is changed, and edits made since survive.
    Merge(Heads),
    /// The one at these heads, which must still be the current one, else the unit fails with
    /// [`Error::Conflict`].
    Exactly(Heads),
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Put {
        collection: CollectionName,
        object: ObjectId,
        value: Object,
        base: Base,
        band: Option<Band>,
    },
    /// Creates it, restored from another object.
    Restore {
        collection: CollectionName,
        object: ObjectId,
        value: Object,
        from: ObjectId,
    },
    Trash {
        object: ObjectId,
        is_in: bool,
    },
    Delete {
        object: ObjectId,
    },
    Vector {
        object: ObjectId,
        vector: Vec<f32>,
    },
}

impl Operation {
    /// The document that it is of.
    pub(crate) const fn object(&self) -> ObjectId {
        match self {
            Self::Put { object, .. }
            | Self::Restore { object, .. }
            | Self::Trash { object, .. }
            | Self::Delete { object }
            | Self::Vector { object, .. } => *object,
        }
    }

    /// Whether a document is gone after it, or out of sight.
    pub(crate) const fn removes(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Trash { is_in: true, .. })
    }
}

/// One atomic commit over any number of documents: all of it happens, or nothing.
///
/// It makes one entry in the log and returns one receipt. Costs what it holds: the values are
/// kept until the commit.
#[derive(Debug, Clone, Default)]
pub struct UnitOfWork {
    pub(crate) operations: Vec<Operation>,
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    pub(crate) actor: Option<String>,
    pub(crate) correlation: Option<CorrelationId>,
    pub(crate) may_remove_many: bool,
    /// What is there for it.
    pub(crate) sight: Sight,
    /// What is wanted of personal data in it, if it is not what the space's own contracts say.
    pub(crate) contracts: Option<Arc<SpaceContracts>>,
    band: Option<Band>,
    /// Ids that were drawn for it, which nothing has.
    drawn: BTreeSet<ObjectId>,
}

impl UnitOfWork {
    /// An empty unit, which commits to nothing and fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a document under a fresh id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name or a value that is not a JSON object.
    pub fn create<T: Serialize>(
        &mut self,
        entropy: &mut dyn Entropy,
        collection: &str,
        value: &T,
    ) -> Result<ObjectId> {
        let object = ObjectId::random(entropy);
        self.put(collection, object, value)?;
        self.drawn.insert(object);
        Ok(object)
    }

    /// Gives a document this value, creating it if there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name or a value that is not a JSON object.
    pub fn put<T: Serialize>(
        &mut self,
        collection: &str,
        object: ObjectId,
        value: &T,
    ) -> Result<()> {
        self.put_at(collection, object, value, Base::Latest)
    }

    /// Gives a document this value, made from the value at `base`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name or a value that is not a JSON object.
    pub fn put_at<T: Serialize>(
        &mut self,
        collection: &str,
        object: ObjectId,
        value: &T,
        base: Base,
    ) -> Result<()> {
        let (collection, value) = (parse_collection(collection)?, to_object(value)?);
        let band = self.band;
        self.operations.push(Operation::Put { collection, object, value, base, band });
        Ok(())
    }

    /// Of which band the documents are that the calls after this one create: only devices that are
    /// cleared for it can read them. Without it, of the space's usual one. A document keeps its
    /// band.
    pub fn band(&mut self, band: Band) {
        self.band = Some(band);
    }

    /// Deletes a document, for ever and on every device: no concurrent edit brings it back.
    pub fn delete(&mut self, object: ObjectId) {
        self.operations.push(Operation::Delete { object });
    }

    /// Puts a document into the trash: it is kept as it is, on every device, and no longer listed,
    /// found or edited, until somebody takes it out. An edit made elsewhere at the same time is in
    /// the trash with it.
    pub fn trash(&mut self, object: ObjectId) {
        self.operations.push(Operation::Trash { object, is_in: true });
    }

    /// Takes a document out of the trash; also if somebody puts it there at the same time.
    pub fn undo_trash(&mut self, object: ObjectId) {
        self.operations.push(Operation::Trash { object, is_in: false });
    }

    /// Creates a document under a fresh id that names the one that it is restored from
    /// ([`crate::Space::restorable`]). That one stays what it is: deleted, or another version.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name.
    pub fn restore(
        &mut self,
        entropy: &mut dyn Entropy,
        from: ObjectId,
        collection: &str,
        value: Object,
    ) -> Result<ObjectId> {
        let (object, collection) = (ObjectId::random(entropy), parse_collection(collection)?);
        self.operations.push(Operation::Restore { collection, object, value, from });
        Ok(object)
    }

    /// Somebody was asked whether more than
    /// [`REMOVALS_UNASKED_MAX`](larder_types::limits::REMOVALS_UNASKED_MAX) documents are to go at
    /// once, and said yes. Without it a unit that deletes so many, or puts them into the trash, is
    /// refused.
    pub fn confirm_removals(&mut self) {
        self.may_remove_many = true;
    }

    /// Gives a document the app's own embedding, for this device's vector index. All vectors of
    /// one space have the same number of dimensions; they are not synced.
    pub fn vector(&mut self, object: ObjectId, vector: Vec<f32>) {
        self.operations.push(Operation::Vector { object, vector });
    }

    /// A unit with a key that this device has committed before changes nothing and returns the
    /// first receipt; with other content under that key it fails.
    pub fn idempotency_key(&mut self, key: IdempotencyKey) {
        self.idempotency_key = Some(key);
    }

    /// Who, within the app, did this: recorded sealed in the log. At most 128 bytes.
    pub fn actor(&mut self, actor: &str) {
        self.actor = Some(actor.to_owned());
    }

    /// Ties this unit to others.
    pub fn correlation(&mut self, correlation: CorrelationId) {
        self.correlation = Some(correlation);
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Each document that it is about, or is restored from, with the band that is asked for it.
    pub fn documents(&self) -> impl Iterator<Item = (ObjectId, Option<Band>)> {
        self.operations.iter().map(|operation| match operation {
            Operation::Put { object, band, .. } => (*object, *band),
            Operation::Restore { from, .. } => (*from, None),
            other => (other.object(), None),
        })
    }

    /// Whether it is about documents alone that it creates itself, under ids drawn for it.
    pub fn is_all_new(&self) -> bool {
        let is_new = |operation: &Operation| {
            let is_restored = matches!(operation, Operation::Restore { .. });
            !is_restored && self.drawn.contains(&operation.object())
        };
        self.operations.iter().all(is_new)
    }

    /// Has it written under the contracts of that space, of which it is a part that stays here.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn under_contracts_of(&mut self, space: &Space) -> Result<()> {
        self.contracts = Some(Arc::clone(&space.shared.published()?.contracts));
        Ok(())
    }

    /// Has all that it creates BLACK, whatever was asked for.
    pub fn make_black(&mut self) {
        for operation in &mut self.operations {
            if let Operation::Put { band, .. } = operation {
                *band = Some(Band::Black);
            }
        }
    }

    /// The blobs that are named in what it writes.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.operations.iter().flat_map(|operation| match operation {
            Operation::Put { value, .. } | Operation::Restore { value, .. } => blobs_in(value),
            _ => BTreeSet::new(),
        })
    }

    /// A digest of what the unit is to do, the same for the same calls in the same order.
    pub(crate) fn digest(&self) -> Result<Hash> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for operation in &self.operations {
            match operation {
                Operation::Put { collection, object, value, base, band } => {
                    let json = larder_document::check(value)?;
                    let base = match base {
                        Base::Latest => vec![0],
                        Base::Merge(heads) => [vec![1], canonical::encode(heads)].concat(),
                        Base::Exactly(heads) => [vec![2], canonical::encode(heads)].concat(),
                    };
                    parts.push(canonical::encode(&(0u8, collection, object, band)));
                    parts.push(base);
                    parts.push(json);
                }
                Operation::Delete { object } => parts.push(canonical::encode(&(1u8, object))),
                Operation::Restore { collection, object, value, from } => {
                    parts.push(canonical::encode(&(3u8, collection, object, from)));
                    parts.push(larder_document::check(value)?);
                }
                Operation::Trash { object, is_in } => {
                    parts.push(canonical::encode(&(4u8, object, *is_in)));
                }
                Operation::Vector { object, vector } => {
                    parts.push(canonical::encode(&(2u8, object, vector.clone())));
                }
            }
        }
        parts.push(canonical::encode(&(self.actor.clone(), self.correlation)));
        let mut bytes = b"larder/unit/v0".to_vec();
        for part in &parts {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        Ok(larder_crypto::hash::sha256(&[&bytes]))
    }
}

pub(crate) fn parse_collection(name: &str) -> Result<CollectionName> {
    name.parse().map_err(|e: larder_types::NameError| Error::Invalid(e.to_string()))
}

fn to_object<T: Serialize>(value: &T) -> Result<Object> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::Invalid("a document must serialise to a JSON object".into())),
        Err(e) => Err(Error::Invalid(format!("the value does not serialise to JSON: {e}"))),
    }
}
