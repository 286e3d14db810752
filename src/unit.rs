use larder_engine::{Band, Base, Object};
use larder_types::{BlobId, CorrelationId, IdempotencyKey, ObjectId};
use serde::Serialize;

use crate::Result;
use crate::system::OsEntropy;

/// One atomic commit over any number of documents: all of it happens, or nothing.
///
/// It makes one entry in the device's log and returns one receipt
/// ([`Space::commit`](crate::Space::commit)). It holds its values in memory until then.
///
/// ```
/// # use larder::{UnitOfWork, Result};
/// # fn main() -> Result<()> {
/// let mut unit = UnitOfWork::new();
/// let bread = unit.create("recipes", &serde_json::json!({ "title": "Bread" }))?;
/// unit.create("lists", &serde_json::json!({ "title": "To bake", "items": [bread.to_string()] }))?;
/// unit.actor("ana");
/// assert_eq!(unit.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a unit of work does nothing until it is committed"]
pub struct UnitOfWork(larder_engine::UnitOfWork);

impl UnitOfWork {
    /// An empty unit; committed like this it fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a document under a fresh id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a bad collection name or a value that
    /// does not serialise to a JSON object.
    pub fn create<T: Serialize + ?Sized>(
        &mut self,
        collection: &str,
        value: &T,
    ) -> Result<ObjectId> {
        Ok(self.0.create(&mut OsEntropy, collection, &value)?)
    }

    /// Gives a document this value, creating it if there is none: fields that differ from the
    /// current value are changed, so that concurrent edits of other fields survive.
    ///
    /// # Errors
    /// As [`UnitOfWork::create`].
    pub fn put<T: Serialize + ?Sized>(
        &mut self,
        collection: &str,
        object: ObjectId,
        value: &T,
    ) -> Result<()> {
        Ok(self.0.put(collection, object, &value)?)
    }

    /// Gives a document this value; see [`UnitOfWork::put`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a bad collection name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever has an object at hand gives it away"
    )]
    pub fn put_json(&mut self, collection: &str, object: ObjectId, value: Object) -> Result<()> {
        Ok(self.0.put(collection, object, &value)?)
    }

    /// Gives a document this value, made from the value at `base`.
    ///
    /// # Errors
    /// As [`UnitOfWork::create`].
    pub fn put_at<T: Serialize + ?Sized>(
        &mut self,
        collection: &str,
        object: ObjectId,
        value: &T,
        base: Base,
    ) -> Result<()> {
        Ok(self.0.put_at(collection, object, &value, base)?)
    }

    /// Of which [`Band`] the documents are that the calls after this one create: only devices that
    /// are cleared for it get them, and no other holds a word of them. Without it, of the space's
    /// usual one. A document keeps its band, and the blobs that it names are of the same one
    /// ([`NewBlob`](crate::NewBlob)).
    ///
    /// What is [`Band::Black`] never leaves this device, and is lost with it. It is in a space of
    /// its own, `black:` and the name of this one, made with the first such document, and shown
    /// together with this one: by handles that are not [lowered](crate::Space::at_clearance). A
    /// unit has BLACK documents alone, or none.
    pub fn band(&mut self, band: Band) {
        self.0.band(band);
    }

    /// Deletes a document, for ever and on every device: no concurrent edit brings it back.
    pub fn delete(&mut self, object: ObjectId) {
        self.0.delete(object);
    }

    /// Puts a document into the trash: it is kept as it is, on every device, and no longer listed,
    /// found or edited, until [`UnitOfWork::undo_trash`]. An edit made elsewhere at the same time
    /// is in the trash with it.
    pub fn trash(&mut self, object: ObjectId) {
        self.0.trash(object);
    }

    /// Takes a document out of the trash; also if another device puts it there at the same time.
    pub fn undo_trash(&mut self, object: ObjectId) {
        self.0.undo_trash(object);
    }

    /// Somebody was asked whether more than
    /// [`REMOVALS_UNASKED_MAX`](crate::limits::REMOVALS_UNASKED_MAX) documents are to go at once,
    /// and said yes. Without it a unit that deletes so many, or puts them into the trash, is
    /// refused with [`ErrorKind::RemovesMany`](crate::ErrorKind::RemovesMany).
    pub fn confirm_removals(&mut self) {
        self.0.confirm_removals();
    }

    pub(crate) fn restore(
        &mut self,
        from: ObjectId,
        collection: &str,
        value: Object,
    ) -> Result<ObjectId> {
        Ok(self.0.restore(&mut OsEntropy, from, collection, value)?)
    }

    /// Gives a document the app's own embedding, for this device's vector index
    /// ([`Query::vector`](crate::Query::vector)). All vectors of a space have the same number of
    /// dimensions; they are not synced.
    pub fn vector(&mut self, object: ObjectId, vector: Vec<f32>) {
        self.0.vector(object, vector);
    }

    /// A unit with a key that this device has committed before changes nothing and returns the
    /// first receipt; with other content under that key it fails.
    pub fn idempotency_key(&mut self, key: IdempotencyKey) {
        self.0.idempotency_key(key);
    }

    /// Who, within the app, does this: recorded sealed in the log. At most 128 bytes.
    pub fn actor(&mut self, actor: &str) {
        self.0.actor(actor);
    }

    /// Ties this unit to others.
    pub fn correlation(&mut self, correlation: CorrelationId) {
        self.0.correlation(correlation);
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each document that it is about, with the band that is asked for it.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (ObjectId, Option<Band>)> {
        self.0.documents()
    }

    /// Whether something of it is to be BLACK.
    pub(crate) fn asks_black(&self) -> bool {
        self.documents().any(|(_, band)| band == Some(Band::Black))
    }

    /// Whether nothing of it can be known anywhere yet.
    pub(crate) fn is_all_new(&self) -> bool {
        self.0.is_all_new()
    }

    /// The same under the contracts of that space.
    pub(crate) fn under(mut self, space: &larder_engine::Space) -> larder_engine::Result<Self> {
        self.0.under_contracts_of(space)?;
        Ok(self)
    }

    /// The same, all that it creates being BLACK.
    pub(crate) fn black(mut self) -> Self {
        self.0.make_black();
        self
    }

    /// The blobs that are named in what it writes.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.0.blobs()
    }

    pub(crate) fn into_engine(self) -> larder_engine::UnitOfWork {
        self.0
    }
}
