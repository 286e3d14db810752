use std::path::Path;
use std::sync::Arc;

use larder_engine::{
    Band, Carried, ChangesCursor, CheckReport, Conflict, Cursor, DeviceInfo, Difference, Document,
    ErasureInfo, ExportSummary, Found, HistoryItem, Message, Object, Page, PersonalKind,
    PruneStatus, Pruned, Query, ReceiptInfo, Retained, Retention, RetentionDue, Retentions, Role,
    SpaceState, SpaceStatus, SpaceWriter, Version,
};
use larder_types::{DeviceId, Hash, MemberId, ObjectId, SpaceId, SpaceName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

use crate::error::{blocking, told};
use crate::node::OpenSpace;
use crate::profile::Handles;
use crate::{Changes, Error, Receipt, RecoveryKit, Result, UnitOfWork};

/// One space of a profile: its documents, its search and its receipts. Cheap to clone; it keeps
/// its profile open.
///
/// What is written returns once it is durable on this device; other devices learn of it as they
/// sync. What is read is a snapshot, and never waits for a writer; as many reads as
/// [`Options::readers`](crate::Options::readers) run at once, and further ones wait for those.
#[derive(Clone)]
pub struct Space {
    name: SpaceName,
    id: SpaceId,
    device: DeviceId,
    changed: watch::Sender<u64>,
    heard: broadcast::Sender<Message>,
    pub(crate) handles: Arc<Handles>,
    /// What it was opened for, if that is less than the device is cleared for.
    pub(crate) clearance: Option<Band>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("name", self.name()).finish_non_exhaustive()
    }
}

impl Space {
    pub(crate) fn new(space: &OpenSpace, handles: Arc<Handles>) -> Self {
        let (name, id) = (space.reader.name().clone(), space.reader.id());
        let (device, changed) = (space.reader.device(), space.changed.clone());
        let heard = space.heard.clone();
        Self { name, id, device, changed, heard, handles, clearance: None }
    }

    /// Its name.
    pub fn name(&self) -> &SpaceName {
        &self.name
    }

    /// Its id, the same on every device.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// This device's id in it.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Ticks after every commit here and every batch taken in from another device, and goes on
    /// doing so after [`Profile::reopen`](crate::Profile::reopen).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says something to the devices of the space that are connected now: presence, a cursor. It is
    /// sealed, never stored, and in no order with documents; nobody who is away gets it. Returns
    /// how many connections it was handed to; one that was sent
    /// [`MESSAGES_PER_SECOND_MAX`](crate::limits::MESSAGES_PER_SECOND_MAX) within a second drops
    /// it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is longer than
    /// [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX), and before the first sync after
    /// joining; [`ErrorKind::NotAllowed`](crate::ErrorKind::NotAllowed) in a `black:` space, which
    /// has no other devices.
    pub async fn broadcast(&self, message: impl Into<Vec<u8>>) -> Result<usize> {
        let space = self.open_seen().await?;
        let sealed = space.reader.source()?.seal_message(message.into())?;
        // Fails only if there is no connection.
        Ok(space.said.send(Arc::new(sealed)).unwrap_or(0))
    }

    /// What other devices [`broadcast`](Space::broadcast) from now on, each with the device that
    /// its connection proved. A receiver that does not keep up misses the oldest, and is told how
    /// many.
    pub fn messages(&self) -> broadcast::Receiver<Message> {
        self.heard.subscribe()
    }

    /// What happened to documents from a place on, and what happens from now on: which, by which
    /// device, under which receipt. [`ChangesCursor::START`] is before everything,
    /// [`Space::changes_end`] behind what happened so far.
    pub fn changes(&self, from: ChangesCursor) -> Changes {
        Changes::new(self.clone(), from)
    }

    /// The place behind all changes so far.
    ///
    /// # Errors
    /// The storage's.
    pub async fn changes_end(&self) -> Result<ChangesCursor> {
        self.read_seen(larder_engine::Space::changes_end).await
    }

    pub(crate) async fn changes_page(
        &self,
        from: ChangesCursor,
        limit: usize,
    ) -> Result<larder_engine::Changes> {
        self.read_seen(move |space| space.changes(&from, limit)).await
    }

    /// Waits for a tick.
    pub(crate) async fn ticked(&self, ticks: &mut watch::Receiver<u64>) -> Result<()> {
        let node = self.handles.node()?;
        tokio::select! {
            ticked = ticks.changed() => ticked.map_err(|_| Error::Closed),
            () = node.stopped() => Err(Error::Closed),
        }
    }

    /// Whether it can be read and written, and why not. Changes are told by
    /// [`Event::StateChanged`](crate::Event::StateChanged).
    ///
    /// # Errors
    /// The storage's.
    pub async fn state(&self) -> Result<SpaceState> {
        self.read_seen(larder_engine::Space::state).await
    }
}

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
        let found = self.read_seen(move |space| space.restorable(&from, &version)).await?;
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
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// What was erased in this space, and which devices have done it, as far as this one has heard.
    ///
    /// # Errors
    /// The storage's.
    pub async fn erasures(&self) -> Result<Vec<ErasureInfo>> {
        self.read(larder_engine::Space::erasures).await
    }

    /// How long documents are kept: what is set for single collections or bands, and what counts
    /// for all others.
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
    /// say so; a device that hears of no other asks ([`Space::retention_due`]).
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
        self.open().await?.writer()?.run(true, work).await?.try_into()
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
        self.open_seen().await?.writer()?.commit(self.unit_seen(unit)).await?.try_into()
    }

    /// [`Space::commit`] for apps that are not async. While nothing else writes in the space, the
    /// commit is done on the caller's own thread, which saves two switches of threads; otherwise
    /// the unit waits in its turn, and shares a transaction with others. On a thread of an async
    /// runtime it works as well, but keeps that from everything else until the disk has synced.
    ///
    /// # Errors
    /// As [`Space::commit`].
    pub fn commit_blocking(&self, unit: UnitOfWork) -> Result<Receipt> {
        let space = self.handles.node()?.space_blocking(&self.name)?;
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
        self.read_seen(move |space| space.document(&object)).await
    }

    /// The documents of a collection whose field `path` is this text; through an index.
    ///
    /// # Errors
    /// The storage's.
    pub async fn find(&self, collection: &str, path: &str) -> Result<Vec<Document>> {
        let (collection, path) = (collection.to_owned(), path.to_owned());
        self.read_seen(move |space| space.find(&collection, &path)).await
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
        let collection = collection.map(str::to_owned);
        self.read_seen(move |space| space.list(collection.as_deref(), after, limit)).await
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
        let collection = collection.map(str::to_owned);
        self.read_seen(move |space| space.list_trash(collection.as_deref(), after, limit)).await
    }

    /// Whether there was a document of this id that was deleted.
    ///
    /// # Errors
    /// The storage's.
    pub async fn is_deleted(&self, object: ObjectId) -> Result<bool> {
        self.read_seen(move |space| space.is_deleted(&object)).await
    }

    /// Whether a document was erased ([`Space::erase`]), or redacted ([`Space::redact`]), here or
    /// elsewhere.
    ///
    /// # Errors
    /// The storage's.
    pub async fn is_erased(&self, object: ObjectId) -> Result<bool> {
        self.read_seen(move |space| space.is_erased(&object)).await
    }

    /// The best results of a search, best first, among all that was committed before it was called.
    /// What is committed is indexed a little later, and the search waits for that.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vector of another size than those
    /// of the space; the embedder's and the storage's.
    pub async fn search(&self, query: Query) -> Result<Vec<Found>> {
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
        self.read_seen(move |space| space.conflicts(&object)).await
    }

    /// What happened to a document, in the order in which this device learned of it: who did it,
    /// when by its own claim, and under which receipt.
    ///
    /// # Errors
    /// The storage's.
    pub async fn history(&self, object: ObjectId) -> Result<Vec<HistoryItem>> {
        self.read_seen(move |space| space.history(&object)).await
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
        self.read_seen(move |space| space.value_at(&object, &version)).await
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
        self.read_seen(move |space| space.diff(&object, &from, &to)).await
    }

    /// A digest over all documents and tombstones: two devices with the same content have the
    /// same. Reads everything.
    ///
    /// # Errors
    /// The storage's.
    pub async fn digest(&self) -> Result<Hash> {
        self.read_seen(larder_engine::Space::digest).await
    }

    /// Reads the space's whole file and checks it: every page authenticates, tables and indexes
    /// agree, headers come to the signed roots, the bytes of sections are those that were
    /// committed to, and documents, tombstones and search indexes are what the log makes of them.
    /// Changes nothing; others read and write meanwhile. Takes about as long as applying the whole
    /// log. Of a profile that is opened read-only only the file itself is checked.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it cannot be read; the storage's.
    pub async fn check(&self) -> Result<CheckReport> {
        let open = self.open().await?;
        match open.writer() {
            Ok(writer) => writer.check(false).await,
            Err(_) => self.read(|space| space.check().map(|()| CheckReport::default())).await,
        }
    }

    /// [`Space::check`], and mends what can be: what follows from the log is made again, and other
    /// devices are asked for the bytes of sections that are damaged. The report lists each thing
    /// that was done. If it is cut, it can be begun again at any time.
    ///
    /// # Errors
    /// As [`Space::check`]; [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly).
    pub async fn repair(&self) -> Result<CheckReport> {
        self.open().await?.writer()?.check(true).await
    }

    /// The devices enrolled in the space, as far as known here.
    ///
    /// # Errors
    /// The storage's.
    pub async fn devices(&self) -> Result<Vec<DeviceInfo>> {
        self.read_seen(larder_engine::Space::devices).await
    }

    /// The devices that were shut out of the space, as far as known here.
    ///
    /// # Errors
    /// The storage's.
    pub async fn former_devices(&self) -> Result<Vec<DeviceInfo>> {
        self.read_seen(larder_engine::Space::former_devices).await
    }

    /// Shuts devices out of the space, for good: whoever comes back is invited again, under new
    /// keys. What is held here of what they wrote counts, and nothing that they write besides; what
    /// is written from now on is sealed to the others alone. Devices that hear of it later have
    /// the same result.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a device that does not belong to the
    /// space; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if this one has no right to it, or
    /// if no owner would be left; the storage's.
    pub async fn revoke(&self, devices: impl Into<Vec<DeviceId>>) -> Result<Receipt> {
        let devices = devices.into();
        let work = move |writer: &mut SpaceWriter| writer.revoke(&devices);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Shuts a member out with every device, those too that nobody has heard of yet.
    ///
    /// # Errors
    /// As [`Space::revoke`].
    pub async fn revoke_member(&self, member: MemberId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.revoke_member(member);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Makes this device an owner by the words of the space's recovery kit, and shuts out for good
    /// the devices that are lost. What is written from now on is sealed to the others alone.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is another kit, the space has none,
    /// or this device's role was lowered by a change before;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a lost device that does not belong
    /// to the space; the storage's. Nothing is written then.
    pub async fn recover(
        &self,
        kit: &RecoveryKit,
        lost: impl Into<Vec<DeviceId>>,
    ) -> Result<Receipt> {
        let (kit, lost) = (kit.clone(), lost.into());
        let work = move |writer: &mut SpaceWriter| writer.recover(kit.secret(), &lost);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Shuts this device out of the space, by itself and for good, once `to`, another device of the
    /// same member that may do and read as much, has signed that it holds every entry that is here:
    /// for who moves to a new phone. Nothing goes from this device. Sync afterwards, so that the
    /// others hear of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if `to` does not belong to the space;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it may do or read less, is another
    /// member's, or has not signed for everything yet. Nothing is written then. The storage's.
    pub async fn retire(&self, to: DeviceId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.retire(to);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// What was carried over so far of what only an old copy had
    /// ([`Profile::renew`](crate::Profile::renew)); none if there was no such copy.
    ///
    /// # Errors
    /// [`Error::Closed`]; the storage's.
    pub async fn carried(&self) -> Result<Option<Carried>> {
        let reader = self.open().await?.reader.clone();
        blocking(move || reader.carried()).await
    }

    /// Carries over now what can be, and says what was carried over so far. It is done by itself
    /// too, after each session: who is not done has to sync with another device of the space.
    ///
    /// # Errors
    /// [`Error::Closed`]; the storage's. What was carried over is durable.
    pub async fn carry_over(&self) -> Result<Option<Carried>> {
        self.open().await?.writer()?.run(true, SpaceWriter::carry_over).await
    }

    /// Says that what could not be carried over of an old copy ([`Carried::left`]) is not wanted
    /// any more, because it was written by hand, say. [`Profile::purge`](crate::Profile::purge)
    /// refuses before, and removes it then.
    ///
    /// # Errors
    /// [`Error::Closed`]; the storage's.
    pub async fn leave_behind(&self) -> Result<()> {
        self.open().await?.writer()?.run(true, SpaceWriter::leave_behind).await
    }

    /// What two people compare, by voice say, who want to be sure that they mean the same space and
    /// see the same devices in it: six groups of five digits over the space's id and over all its
    /// devices with their keys, members, roles and clearances. Devices that have not synced since
    /// one came or went differ. Nothing that is written in the space is in it.
    ///
    /// # Errors
    /// [`Error::Closed`]; the storage's.
    pub async fn fingerprint(&self) -> Result<String> {
        let reader = self.seen().await?;
        blocking(move || reader.fingerprint()).await
    }

    /// The highest band that this device may read.
    ///
    /// # Errors
    /// [`Error::Closed`]; the storage's.
    pub async fn clearance(&self) -> Result<Band> {
        let reader = self.seen().await?;
        blocking(move || reader.clearance()).await
    }

    /// Gives a device another role and clearance. With a greater clearance it gets what it may read
    /// by then when it syncs next; with a lesser one it lets go of what it has above that. What it
    /// wrote before counts by what it was.
    ///
    /// # Errors
    /// As [`Space::revoke`].
    pub async fn change_role(
        &self,
        device: DeviceId,
        role: Role,
        clearance: Band,
    ) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.change_role(device, role, clearance);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Sets a device aside that stays away: nothing waits for it until it is back. It keeps its
    /// rights, and loses nothing that it wrote meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a device that does not belong to the
    /// space; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for this one, one that is set aside
    /// already, or if this device may not; the storage's.
    pub async fn quarantine(&self, device: DeviceId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.quarantine(device);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// Waits again for a device that was set aside, before it is back.
    ///
    /// # Errors
    /// As [`Space::quarantine`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for one that is
    /// not set aside.
    pub async fn lift_quarantine(&self, device: DeviceId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.lift_quarantine(device);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// What there is in the space.
    ///
    /// # Errors
    /// The storage's.
    pub async fn status(&self) -> Result<SpaceStatus> {
        self.read_seen(larder_engine::Space::status).await
    }
}

/// Receipts.
impl Space {
    /// The receipt for one entry of one device's log, this device's or another's.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not held here; the storage's.
    pub async fn receipt(&self, device: DeviceId, seq: u64) -> Result<Receipt> {
        self.read_seen(move |space| space.receipt(&device, seq)).await?.try_into()
    }

    /// At most `limit` entries of all logs in short, from behind the one named on.
    ///
    /// # Errors
    /// The storage's.
    pub async fn receipts(
        &self,
        after: Option<(DeviceId, u64)>,
        limit: usize,
    ) -> Result<Vec<ReceiptInfo>> {
        self.read_seen(move |space| space.receipts(after, limit)).await
    }

    /// What kinds of personal data the author's app found in what it wrote with this entry, under a
    /// contract ([`Options::contract`](crate::Options::contract)): it is in the metadata that the
    /// receipt commits to. An export hides it.
    ///
    /// # Errors
    /// The storage's.
    pub async fn personal(&self, device: DeviceId, seq: u64) -> Result<Vec<PersonalKind>> {
        self.read_seen(move |space| space.personal(&device, seq)).await
    }

    /// Writes the receipts of all entries, with checkpoints and keys and without any content, into
    /// the directory, for an outsider to verify. `progress` is told how many of how many entries
    /// are done.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the directory is not
    /// empty; [`ErrorKind::Io`](crate::ErrorKind::Io); the storage's.
    pub async fn export_receipts(
        &self,
        dir: &Path,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<ExportSummary> {
        let dir = dir.to_owned();
        let (telling, tells) = watch::channel((0, 0));
        let export = self.read(move |space| {
            space.export_receipts(&dir, &mut |done, total| {
                telling.send_replace((done, total));
            })
        });
        told(export, tells, progress).await
    }

    /// How far the space could be pruned, and what that waits for.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub async fn prune_status(&self) -> Result<PruneStatus> {
        self.read(larder_engine::Space::prune_status).await
    }

    /// Drops the bodies of entries whose outcome all devices have stated alike, as far as that has
    /// come, and states the outcome of what is here now. Spaces do it by themselves once that is
    /// worth it ([`Options::prune_from`](crate::Options::prune_from)); to have it now, call it
    /// on every device, with a sync between. Documents, histories and receipts stay. `progress` is
    /// told how many sections were dropped. It goes in short steps between other work. Where much
    /// of the space's file is free then, that is given back to the disk.
    ///
    /// # Errors
    /// [`Error`] if the space cannot be written; what was dropped before stays dropped.
    pub async fn prune(&self, mut progress: impl FnMut(u64) + Send) -> Result<Pruned> {
        let space = self.open().await?;
        let (telling, tells) = watch::channel((0, 0));
        let pruning = space.writer()?.prune(telling);
        told(pruning, tells, |done, _| progress(done)).await
    }
}

/// Keys.
impl Space {
    /// Gives the space a new at-rest key: its database is written anew while it is used, and the
    /// old file is removed. `progress` is told how many of how many bytes are written. Needs as
    /// much room again as the space has on disk, until it is done.
    ///
    /// The wish for it is durable. If it is cut, or the future is dropped, it goes on by itself,
    /// from the start, here or when the space is opened next. A key that is older than
    /// [`limits::REKEY_AGE_MS`](crate::limits::REKEY_AGE_MS) is renewed without being asked.
    ///
    /// # Errors
    /// [`ErrorKind::DiskFull`](crate::ErrorKind::DiskFull) and the storage's: it is given up, the
    /// space goes on under the key that it has, and it is tried again when it is opened next.
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly);
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a space in memory.
    pub async fn rekey(&self, mut progress: impl FnMut(u64, u64) + Send) -> Result<()> {
        let space = self.open().await?;
        let (telling, tells) = watch::channel((0, 0));
        let rekey = space.writer()?.rekey(telling);
        told(rekey, tells, |done, total| progress(done * PAGE_BYTES, total * PAGE_BYTES)).await
    }
}

/// Bytes of a database's page.
pub(crate) const PAGE_BYTES: u64 = 4096;
