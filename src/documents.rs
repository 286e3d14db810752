//! Documents: written, read and searched, with what is BLACK of them, which is in a space of its
//! own (`black.rs`).

use larder_engine::{
    Band, Conflict, Cursor, Difference, Document, ErasureInfo, Found, HistoryItem, Object, Page,
    Query, Retained, Retention, RetentionDue, Retentions, SpaceWriter, Version,
};
use larder_types::ObjectId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::black::{Listed, check_alone, is_raised, of_black};
use crate::{Error, Receipt, Result, Space, UnitOfWork};

/// Writing.
impl Space {
    /// Creates a document under a fresh id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a bad collection name or a value that
    /// is not a JSON object within the limits; as [`Space::commit`].
    pub async fn create<T: Serialize + ?Sized>(
        &self,
        collection: &str,
        value: &T,
    ) -> Result<(ObjectId, Receipt)> {
        let mut unit = UnitOfWork::new();
        let object = unit.create(collection, value)?;
        Ok((object, self.commit(unit).await?))
    }

    /// Gives a document this value, creating it if there is none. Fields that differ from the
    /// current value are changed, and only those.
    ///
    /// # Errors
    /// As [`Space::create`]; [`ErrorKind::Deleted`](crate::ErrorKind::Deleted) for a deleted one.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        collection: &str,
        object: ObjectId,
        value: &T,
    ) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.put(collection, object, value)?;
        self.commit(unit).await
    }

    /// Puts a document into the trash: it is kept as it is, on every device, and no longer listed,
    /// found or edited, until [`Space::undo_trash`].
    ///
    /// # Errors
    /// As [`Space::delete`].
    pub async fn trash(&self, object: ObjectId) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.trash(object);
        self.commit(unit).await
    }

    /// Takes a document out of the trash; also if another device puts it there at the same time.
    ///
    /// # Errors
    /// As [`Space::delete`].
    pub async fn undo_trash(&self, object: ObjectId) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.undo_trash(object);
        self.commit(unit).await
    }

    /// Makes a new document of what another one was, deleted or not, which its history names
    /// ([`HistoryItem::restored_from`]). The other one stays what it is: what was deleted never
    /// comes back. Of a deleted one [`Version::Now`] is all that was ever written of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there never was such a document, it
    /// was erased, or what it was is not on this device any more; as [`Space::create`].
    pub async fn restore(&self, from: ObjectId, version: Version) -> Result<(ObjectId, Receipt)> {
        let home = self.home_to_read(from).await?;
        let found = home.read_seen(move |space| space.restorable(&from, &version)).await?;
        let mut unit = UnitOfWork::new();
        let object = unit.restore(from, found.collection.as_str(), found.value)?;
        Ok((object, self.commit(unit).await?))
    }

    /// Deletes a document, for ever and on every device.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none;
    /// [`ErrorKind::Deleted`](crate::ErrorKind::Deleted) if it was deleted before.
    pub async fn delete(&self, object: ObjectId) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.delete(object);
        self.commit(unit).await
    }

    /// Erases a document, whether or not it was deleted before: every version of it, and the blobs
    /// that only it names, go from this device, and from every other when it hears of it, whatever
    /// was edited there meanwhile. Nobody can bring it back. Its receipts stay, and still verify.
    /// [`Space::erasures`] tells who has done it.
    ///
    /// It is erased when this returns; this device reports that once its disk has nothing of it any
    /// more, as a rule at once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if nothing is known of such a document;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if this device may only read; the
    /// storage's.
    pub async fn erase(&self, object: ObjectId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| {
            let receipt = writer.erase(object)?;
            // What cannot be done now is done as soon as it can.
            let _ = writer.finish_erasures();
            Ok(receipt)
        };
        let home = self.home_of(object).await?;
        home.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// What was erased in this space, and which devices have done it, as far as this one has heard.
    ///
    /// # Errors
    /// The storage's.
    pub async fn erasures(&self) -> Result<Vec<ErasureInfo>> {
        let mut all = self.read(larder_engine::Space::erasures).await?;
        if let Some(black) = self.black().await? {
            all.extend(black.read(larder_engine::Space::erasures).await?);
        }
        Ok(all)
    }

    /// How long documents are kept: what is set for single collections or bands, and what counts
    /// for all others. What is BLACK is kept as the space says in which it is ([`Space::parts`]).
    ///
    /// # Errors
    /// The storage's.
    pub async fn retention(&self) -> Result<Retentions> {
        self.read_seen(larder_engine::Space::retention).await
    }

    /// Sets how long documents of a collection, of a band, or of a band in a collection are kept,
    /// or of all that nothing is set for: on every device, whoever wrote them. What is set for both
    /// counts first, then what is for the collection, then what is for the band. What is over its
    /// time goes by itself, into the trash first where there is one, once the clocks of two devices
    /// say so; a device that hears of no other asks ([`Space::retention_due`]). For
    /// [`Band::Black`] it is set in the space that has what is BLACK of this one, and counts there
    /// alone.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it makes no sense, or this device is
    /// neither an owner's nor an admin's; the storage's.
    pub async fn set_retention(
        &self,
        collection: Option<&str>,
        band: Option<Band>,
        retention: Retention,
    ) -> Result<Receipt> {
        let collection = collection.map(str::to_owned);
        let work = move |writer: &mut SpaceWriter| {
            writer.set_retention(collection.as_deref(), band, retention)
        };
        let home = self.part(band.unwrap_or(Band::Green)).await?;
        home.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Which documents are over their time by this device's clock and those of who changed them
    /// last; with `new`, as if that were set.
    ///
    /// # Errors
    /// As [`Space::set_retention`].
    pub async fn retention_due(
        &self,
        new: Option<(Option<&str>, Option<Band>, Retention)>,
    ) -> Result<RetentionDue> {
        let new = new.map(|(of, band, retention)| (of.map(str::to_owned), band, retention));
        self.read(move |space| {
            let new = new.as_ref().map(|(collection, band, retention)| {
                let collection: Option<&str> = collection.as_deref();
                (collection, *band, *retention)
            });
            space.retention_due(new)
        })
        .await
    }

    /// Removes, now, what [`Space::retention_due`] counts: because a person says that this device's
    /// clock is right.
    ///
    /// # Errors
    /// The storage's; what was done before stands.
    pub async fn apply_retention(&self) -> Result<Retained> {
        self.open().await?.writer()?.run(true, SpaceWriter::apply_retention).await
    }

    /// An empty unit of work, to be filled and given to [`Space::commit`].
    pub fn unit(&self) -> UnitOfWork {
        UnitOfWork::new()
    }

    /// Commits a unit: all of it, durably, or nothing. Units that wait together share one
    /// transaction, so writing from many tasks is fast. At most
    /// [`limits::WRITE_QUEUE_MAX`](crate::limits::WRITE_QUEUE_MAX) wait for the disk; this waits
    /// for a place among them first, so whoever writes faster than the disk is slowed down to it.
    /// A future that is dropped before it has a place commits nothing; one dropped later may have.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if an expected version is not the
    /// current one, [`ErrorKind::Deleted`](crate::ErrorKind::Deleted),
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid),
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly), and the storage's. Nothing of the unit
    /// remains then.
    pub async fn commit(&self, unit: UnitOfWork) -> Result<Receipt> {
        let (home, unit) = self.home_of_unit(unit).await?;
        let open = home.open_seen().await?;
        let again = self.may_be_raised(&open.reader, &unit)?.then(|| unit.clone());
        let done = open.writer()?.commit(home.unit_seen(unit)).await;
        let Some(again) = again.filter(|_| is_raised(&done)) else { return done?.try_into() };
        let (black, unit) = self.home_of_unit(check_alone(again)?.black()).await?;
        black.open_seen().await?.writer()?.commit(black.unit_seen(unit)).await?.try_into()
    }

    /// [`Space::commit`] for apps that are not async. While nothing else writes in the space, the
    /// commit is done on the caller's own thread, which saves two switches of threads; otherwise
    /// the unit waits in its turn, and shares a transaction with others. On a thread of an async
    /// runtime it works as well, but keeps that from everything else until the disk has synced.
    ///
    /// # Errors
    /// As [`Space::commit`].
    pub fn commit_blocking(&self, unit: UnitOfWork) -> Result<Receipt> {
        let node = self.handles.node()?;
        let (space, unit) = self.home_of_unit_blocking(&node, unit)?;
        let again = self.may_be_raised(&space.reader, &unit)?.then(|| unit.clone());
        let done = space.writer()?.commit_blocking(self.unit_seen(unit));
        let Some(again) = again.filter(|_| is_raised(&done)) else { return done?.try_into() };
        let (space, unit) = self.home_of_unit_blocking(&node, check_alone(again)?.black())?;
        space.writer()?.commit_blocking(self.unit_seen(unit))?.try_into()
    }

    /// Fills a unit and commits it.
    ///
    /// # Errors
    /// Those of `build`, and as [`Space::commit`].
    pub async fn write(
        &self,
        build: impl FnOnce(&mut UnitOfWork) -> Result<()>,
    ) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        build(&mut unit)?;
        self.commit(unit).await
    }
}

/// Reading.
impl Space {
    /// A document's value. `None`: there is none, or it was deleted.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not read as a `T`; the storage's.
    pub async fn get<T: DeserializeOwned>(&self, object: ObjectId) -> Result<Option<T>> {
        let Some(document) = self.document(object).await? else { return Ok(None) };
        let value = serde_json::Value::Object(document.value);
        serde_json::from_value(value).map(Some).map_err(|source| Error::Shape { object, source })
    }

    /// A document with what is known of it. `None`: there is none, or it was deleted.
    ///
    /// # Errors
    /// The storage's.
    pub async fn document(&self, object: ObjectId) -> Result<Option<Document>> {
        self.home_to_read(object).await?.read_seen(move |space| space.document(&object)).await
    }

    /// The documents of a collection whose field `path` is this text; through an index.
    ///
    /// # Errors
    /// The storage's.
    pub async fn find(&self, collection: &str, path: &str) -> Result<Vec<Document>> {
        let (collection, path) = (collection.to_owned(), path.to_owned());
        // What is BLACK first: whoever edits the first of several does that here.
        self.both(true, move |space| space.find(&collection, &path)).await
    }

    /// At most `limit` documents, of one collection or all, from `after` on: the first page
    /// without a cursor, the next with [`Page::next`].
    ///
    /// # Errors
    /// The storage's.
    pub async fn list(
        &self,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.page(Listed::Shown, collection, after, limit).await
    }

    /// [`Space::list`] of the documents that are in the trash.
    ///
    /// # Errors
    /// The storage's.
    pub async fn list_trash(
        &self,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.page(Listed::Trashed, collection, after, limit).await
    }

    /// Whether there was a document of this id that was deleted.
    ///
    /// # Errors
    /// The storage's.
    pub async fn is_deleted(&self, object: ObjectId) -> Result<bool> {
        self.home_to_read(object).await?.read_seen(move |space| space.is_deleted(&object)).await
    }

    /// Whether a document was erased ([`Space::erase`]), or redacted ([`Space::redact`]), here or
    /// elsewhere.
    ///
    /// # Errors
    /// The storage's.
    pub async fn is_erased(&self, object: ObjectId) -> Result<bool> {
        self.home_to_read(object).await?.read_seen(move |space| space.is_erased(&object)).await
    }

    /// The best results of a search, best first, among all that was committed before it was called.
    /// What is committed is indexed a little later, and the search waits for that.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vector of another size than those
    /// of the space; the embedder's and the storage's.
    pub async fn search(&self, query: Query) -> Result<Vec<Found>> {
        let own = self.own_search(query.clone()).await?;
        match self.black_search(query.clone()).await {
            Ok(Some(black)) => Ok(query.merged(own, black)),
            Ok(None) => Ok(own),
            Err(Error::Black { .. }) if !own.is_empty() => Ok(own),
            Err(error) => Err(error),
        }
    }

    async fn black_search(&self, query: Query) -> Result<Option<Vec<Found>>> {
        let Some(black) = self.black().await? else { return Ok(None) };
        let found = black.own_search(query).await;
        found.map(Some).map_err(|error| of_black(black.name(), error))
    }

    async fn own_search(&self, query: Query) -> Result<Vec<Found>> {
        let space = self.open_seen().await?;
        let mark = space.reader.awaits_index(&query);
        if let (Some(mark), Ok(writer)) = (mark, space.writer()) {
            writer.index(mark).await?;
        }
        self.read_seen(move |space| space.search(&query)).await
    }

    /// Fields that devices gave different values while apart: which one is shown, and which others
    /// there are. Writing the field settles it.
    ///
    /// # Errors
    /// The storage's.
    pub async fn conflicts(&self, object: ObjectId) -> Result<Vec<Conflict>> {
        self.home_to_read(object).await?.read_seen(move |space| space.conflicts(&object)).await
    }

    /// What happened to a document, in the order in which this device learned of it: who did it,
    /// when by its own claim, and under which receipt.
    ///
    /// # Errors
    /// The storage's.
    pub async fn history(&self, object: ObjectId) -> Result<Vec<HistoryItem>> {
        self.home_to_read(object).await?.read_seen(move |space| space.history(&object)).await
    }

    /// What a document was: at its heads ([`Document::heads`], [`HistoryItem::version`]), or at a
    /// time. `None`: it had not been created then.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound);
    /// [`ErrorKind::Deleted`](crate::ErrorKind::Deleted): of a deleted document nothing is kept to
    /// read; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for heads it never had here; the
    /// storage's.
    pub async fn value_at(&self, object: ObjectId, version: Version) -> Result<Option<Object>> {
        let home = self.home_to_read(object).await?;
        home.read_seen(move |space| space.value_at(&object, &version)).await
    }

    /// The places at which two versions of a document differ. Before its creation it counts as
    /// empty.
    ///
    /// # Errors
    /// As [`Space::value_at`].
    pub async fn diff(
        &self,
        object: ObjectId,
        from: Version,
        to: Version,
    ) -> Result<Vec<Difference>> {
        let home = self.home_to_read(object).await?;
        home.read_seen(move |space| space.diff(&object, &from, &to)).await
    }
}
