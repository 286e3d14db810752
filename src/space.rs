use std::path::Path;
use std::sync::Arc;

use larder_engine::{
    Band, Carried, ChangesCursor, CheckReport, DeviceInfo, ExportSummary, Message, PersonalKind,
    PruneStatus, Pruned, ReceiptInfo, Role, SpaceState, SpaceStatus, SpaceWriter,
};
use larder_types::{DeviceId, Hash, MemberId, SpaceId, SpaceName};
use tokio::sync::{broadcast, watch};

use crate::error::{blocking, told};
use crate::node::OpenSpace;
use crate::profile::Handles;
use crate::{Changes, Error, Receipt, RecoveryKit, Result};

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
        let (device, changed) = (space.reader.device(), handles.shown(&name));
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
    /// sealed, never stored, and in no order with documents; nobody who is away gets it, and no
    /// auditor. Returns how many connections it was handed to; one that was sent
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
        let end = self.read_seen(larder_engine::Space::changes_end).await?;
        match self.of_black(larder_engine::Space::changes_end).await {
            Ok(Some((_, beside))) => Ok(end.with_beside(&beside)),
            Ok(None) | Err(Error::Black { .. }) => Ok(end),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn changes_page(
        &self,
        from: ChangesCursor,
        limit: usize,
    ) -> Result<larder_engine::Changes> {
        let own = self.read_seen(move |space| space.changes(&from, limit)).await?;
        // What is BLACK is told behind the rest, as it is listed.
        if !own.changes.is_empty() || own.more || own.lost {
            let has_black = !matches!(self.black().await, Ok(None));
            return Ok(larder_engine::Changes { more: own.more || has_black, ..own });
        }
        let (at, from) = (own.cursor, from.beside());
        let mut there = match self.of_black(move |space| space.changes(&from, limit)).await {
            Ok(Some((_, there))) => there,
            // It is told once it can be read again.
            Ok(None) | Err(Error::Black { .. }) => return Ok(own),
            Err(error) => return Err(error),
        };
        for change in &mut there.changes {
            change.cursor = at.with_beside(&change.cursor);
        }
        there.cursor = at.with_beside(&there.cursor);
        Ok(there)
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
        self.state_with_black(self.read_seen(larder_engine::Space::state).await?).await
    }
}

/// The space as a whole.
impl Space {
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

    /// Makes this device an owner by the words of the space's recovery kit, also if it was given a
    /// lesser role, was shut out or had left, and shuts out for good the devices that are lost.
    /// What is written from now on is sealed to the others alone.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is another kit, or the space has
    /// none; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a lost device that does not
    /// belong to the space; the storage's. Nothing is written then.
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
    /// same member that may do and read as much, has signed that it holds every entry that is here,
    /// and said that it has all files: for who moves to a new phone. Nothing goes from this device.
    /// Sync afterwards, so that the others hear of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if `to` does not belong to the space;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it may do or read less, is another
    /// member's, has not signed for everything yet, or has not said that it has all files: sync
    /// with it after the first call, and call this again. Nothing is written then. The storage's.
    pub async fn retire(&self, to: DeviceId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.retire(to, false);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// [`Space::retire`] whatever `to` has of files: what nobody else has of them stays on this
    /// device, and comes to no other one any more.
    ///
    /// # Errors
    /// As [`Space::retire`], but for files.
    pub async fn retire_without_files(&self, to: DeviceId) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.retire(to, true);
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
    /// [`ErrorKind::NotAllowed`](crate::ErrorKind::NotAllowed) on an auditor's device;
    /// [`Error::Closed`]; the storage's.
    pub async fn clearance(&self) -> Result<Band> {
        let reader = self.seen().await?;
        blocking(move || reader.clearance()).await
    }

    /// Gives a device another role and clearance. With a greater clearance it gets what it may read
    /// by then when it syncs next; with a lesser one it lets go of what it has above that. What it
    /// wrote before counts by what it was. Nobody becomes an auditor by it, or stops being one.
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
        let mut status = self.read_seen(larder_engine::Space::status).await?;
        status.state = self.state_with_black(status.state).await?;
        Ok(status)
    }
}

/// Receipts.
impl Space {
    /// The receipt for one entry of one device's log, this device's or another's.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not held here; the storage's.
    pub async fn receipt(&self, device: DeviceId, seq: u64) -> Result<Receipt> {
        let home = self.home_of_device(device).await?;
        home.read_seen(move |space| space.receipt(&device, seq)).await?.try_into()
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
        let home = self.home_of_device(device).await?;
        home.read_seen(move |space| space.personal(&device, seq)).await
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
