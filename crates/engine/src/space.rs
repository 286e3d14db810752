//! One space of one device: its database, its keys, and what both its writer and its readers know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use larder_log::Band;
use larder_log::act::Role;
use larder_log::contract::SpaceContracts;
use larder_log::roster::Roster;
use larder_search::Embedder;
use larder_store::Pool;
use larder_store::profile::{self as table, Membership};
use larder_store::space::logs::Log;
use larder_types::{DeviceId, EntryHash, EpochId, Hash, SpaceId, SpaceName, TransportId};
use rusqlite::Connection;

use crate::carry::Carrying;
use crate::clearance::cleared_for;
use crate::home::Home;
use crate::index::PublishedQueue;
use crate::keyring::{Keyring, SpaceKeys};
use crate::messages::Ledger;
use crate::mirror::Mirror;
use crate::model::{DeviceInfo, RekeyStatus};
use crate::policy::Policy;
use crate::profile::Inner;
use crate::recovery::Recovery;
use crate::rekey::Rekey;
use crate::retire::Leaving;
use crate::secrets::disk::Left;
use crate::sight::Sight;
use crate::supply::{Handing, Uncomputed, VoidTold};
use crate::trouble::Trouble;
use crate::writer::goes_through;
use crate::{Environment, Error, Result};

/// Of whom a log is taken in although many others came in the same way.
pub(crate) type Vouched = BTreeMap<DeviceId, BTreeSet<DeviceId>>;

/// What a space's writer and its readers share.
pub(crate) struct Shared {
    pub(crate) id: SpaceId,
    pub(crate) name: SpaceName,
    pub(crate) keys: SpaceKeys,
    pub(crate) env: Arc<dyn Environment>,
    pub(crate) profile: Arc<Inner>,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) pool: Pool,
    /// Where the database is; changes with its key.
    home: RwLock<Arc<Home>>,
    rekey: Mutex<Rekey>,
    pub(crate) mirror: Mirror,
    /// What the last transaction made of roster and secrets; none before the first is read.
    pub(crate) published: RwLock<Option<Arc<Published>>>,
    /// How far the indexes are behind.
    pub(crate) queue: PublishedQueue,
    handing: Mutex<Handing>,
    void_told: Mutex<VoidTold>,
    uncomputed: Mutex<Uncomputed>,
    leaving: Mutex<Leaving>,
    /// By peer: up to whose the proofs of two histories are that it was told last.
    forks_told: Mutex<BTreeMap<TransportId, DeviceId>>,
    /// By branch: devices of which its entries name some that are not here.
    vouched: Mutex<Vouched>,
    pub(crate) frozen: OnceLock<Frozen>,
    pub(crate) trouble: Trouble,
    /// What the WAL may have of secrets that went.
    pub(crate) left: Left,
    pub(crate) messages: Ledger,
    recovery: Mutex<Option<Recovery>>,
    carrying: Mutex<Option<Carrying>>,
}

/// Why this copy of a space must not sign any more, until it is opened again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Frozen {
    /// It ends before what this device has signed.
    Behind { signed: u64, found: u64 },
    /// This device has signed something else than it holds.
    OtherHistory,
    /// The profile was given new keys, by which the space does not know it yet.
    Renewed,
}

/// What the last transaction made of roster and secrets, for readers.
pub(crate) struct Published {
    pub(crate) roster: Roster,
    pub(crate) keyring: Keyring,
    /// Devices whose logs have two histories.
    pub(crate) stopped: BTreeSet<DeviceId>,
    /// The highest band that this device may read; none if it is an auditor's.
    pub(crate) clearance: Option<Band>,
    pub(crate) policy: Policy,
    /// What the space's owners want of personal data.
    pub(crate) contracts: Arc<SpaceContracts>,
}

impl Published {
    /// Of which band documents are if nobody says.
    pub(crate) fn default_band(&self) -> Band {
        self.clearance.map_or(Band::Green, |up_to| self.policy.band.min(up_to))
    }

    /// The epochs of which this device has all secrets that it may have.
    pub(crate) fn epochs_held(&self) -> Vec<EpochId> {
        self.keyring.held(self.clearance)
    }
}

impl Shared {
    pub(crate) fn new(
        profile: Arc<Inner>,
        row: &table::Space,
        keys: SpaceKeys,
        home: Home,
    ) -> Self {
        // A row that is not complete yet has a database that may not be there.
        let creates = row.state == Membership::Joining;
        Self {
            id: row.space,
            name: row.name.clone(),
            keys,
            env: Arc::clone(&profile.env),
            embedder: Arc::clone(&profile.embedder),
            pool: Pool::with_readers(profile.readers, home.opener(creates)),
            left: Left::new(home.may_have_wal()),
            home: RwLock::new(Arc::new(home)),
            rekey: Mutex::new(Rekey::Idle),
            mirror: profile.mirror(row),
            published: RwLock::default(),
            queue: PublishedQueue::default(),
            handing: Mutex::default(),
            void_told: Mutex::default(),
            uncomputed: Mutex::default(),
            leaving: Mutex::default(),
            forks_told: Mutex::default(),
            vouched: Mutex::default(),
            frozen: OnceLock::new(),
            trouble: Trouble::default(),
            messages: Ledger::default(),
            recovery: Mutex::default(),
            carrying: Mutex::default(),
            profile,
        }
    }

    /// Of the snapshot that is handed over.
    pub(crate) fn handing(&self) -> MutexGuard<'_, Handing> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leaving(&self) -> MutexGuard<'_, Leaving> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uncomputed(&self) -> MutexGuard<'_, Uncomputed> {
        self.uncomputed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn void_told(&self) -> MutexGuard<'_, VoidTold> {
        self.void_told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forks_told(&self) -> MutexGuard<'_, BTreeMap<TransportId, DeviceId>> {
        self.forks_told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vouched(&self) -> MutexGuard<'_, Vouched> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a space that is being made anew.
    pub(crate) fn recovery(&self) -> MutexGuard<'_, Option<Recovery>> {
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While what an old copy has is to be carried over.
    pub(crate) fn carrying(&self) -> MutexGuard<'_, Option<Carrying>> {
        self.carrying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on the database is in another file, which is like the one before.
    pub(crate) fn move_to(&self, home: Home) {
        let opener = home.opener(false);
        let mut place = self.home.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, Arc::new(home));
        drop(place);
        old.retire();
        self.pool.switch(opener);
    }

    pub(crate) fn set_rekey(&self, rekey: Rekey) {
        *self.rekey.lock().unwrap_or_else(PoisonError::into_inner) = rekey;
    }

    pub(crate) fn rekey_status(&self) -> Result<RekeyStatus> {
        let rekey = *self.rekey.lock().unwrap_or_else(PoisonError::into_inner);
        if let Rekey::Copying { pages, pages_total } = rekey {
            return Ok(RekeyStatus::Copying { pages, pages_total });
        }
        let row = self.profile.with_db(|db| Ok(table::space(db, &self.id)?))?;
        let wished = row.is_some_and(|row| row.home.rekey_wished_at.is_some());
        Ok(if wished { RekeyStatus::Wished } else { RekeyStatus::None })
    }

    /// From now on this device signs nothing in this space. The first reason stays.
    pub(crate) fn freeze(&self, why: Frozen) {
        if self.frozen.set(why).is_ok() {
            self.trouble.changed();
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.get().is_some()
    }

    pub(crate) fn check_may_sign(&self) -> Result<()> {
        match self.frozen.get() {
            None => Ok(()),
            Some(Frozen::Behind { signed, found }) => {
                Err(Error::RolledBack { signed: *signed, found: *found })
            }
            Some(Frozen::OtherHistory) => Err(Error::OtherHistory),
            Some(Frozen::Renewed) => Err(Error::Renewed),
        }
    }

    /// Somebody holds the own log up to `size`, signed, and this copy ends at `found`: it must not
    /// sign any more, not after it is opened again either.
    pub(crate) fn found_behind(&self, size: u64, root: &Hash, found: u64) -> Result<()> {
        self.freeze(Frozen::Behind { signed: size, found });
        self.mirror.write(&self.id, size, root)
    }

    /// Something is about to leave this device that shows its own log, up to `log`'s end: the
    /// profile knows it first, durably, so that a device whose file is lost never signs those
    /// entries otherwise.
    pub(crate) fn is_shown(&self, db: &Connection, log: &Log) -> Result<()> {
        let (noted, size) = (self.mirror.end(), log.frontier.size());
        let is_own = log.device == self.keys.device();
        // What cannot be written here signs nothing.
        if !is_own || size <= noted.size || self.is_frozen() || self.profile.is_read_only() {
            return Ok(());
        }
        if self.is_recovering() && !goes_through(db, log.log, &noted)? {
            self.freeze(Frozen::OtherHistory);
            return Ok(());
        }
        self.mirror.write(&self.id, size, &log.frontier.root())
    }

    pub(crate) fn publish(
        &self,
        roster: &Roster,
        keyring: &Keyring,
        stopped: &BTreeSet<DeviceId>,
        (policy, contracts): (Policy, SpaceContracts),
    ) {
        let (roster, keyring, stopped) = (roster.clone(), keyring.clone(), stopped.clone());
        let clearance = cleared_for(&roster, &self.keys.device());
        let contracts = Arc::new(contracts);
        let published = Published { roster, keyring, stopped, clearance, policy, contracts };
        let published = Arc::new(published);
        let mut place = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let before = place.replace(Arc::clone(&published));
        drop(place);
        if let Some(before) = before {
            self.note_changes(&before, &published);
        }
    }

    pub(crate) fn published(&self) -> Result<Arc<Published>> {
        let place = self.published.read().unwrap_or_else(PoisonError::into_inner);
        place.clone().ok_or_else(|| Error::Internal("the space was not opened".into()))
    }
}

/// One space of a profile, for reading and for syncing. Cheap to clone; its calls block on the
/// disk.
#[derive(Clone)]
pub struct Space {
    pub(crate) shared: Arc<Shared>,
    /// What of it this handle shows.
    pub(crate) sight: Sight,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Space {
    /// Its name.
    pub fn name(&self) -> &SpaceName {
        &self.shared.name
    }

    /// Its id: the hash of its genesis entry.
    pub fn id(&self) -> SpaceId {
        self.shared.id
    }

    /// This device's id in it.
    pub fn device(&self) -> DeviceId {
        self.shared.keys.device()
    }

    /// The devices enrolled in it, as far as known here.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>> {
        let me = self.device();
        let published = self.shared.published()?;
        let shown = |info: DeviceInfo| {
            let clearance = self.shared.shown(info.clearance);
            DeviceInfo { clearance, ..info }
        };
        let all = published.roster.devices();
        Ok(all.map(|(id, device)| shown(DeviceInfo::of(id, device, &me))).collect())
    }

    /// The devices that were shut out of it, as far as known here.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn former_devices(&self) -> Result<Vec<DeviceInfo>> {
        let me = self.device();
        let published = self.shared.published()?;
        let all = published.roster.revoked();
        Ok(all.map(|(id, device)| DeviceInfo::of(id, device, &me)).collect())
    }

    /// The newest acts of membership that are known here: the entries that a next one would name.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn membership(&self) -> Result<Vec<EntryHash>> {
        Ok(self.shared.published()?.roster.heads())
    }

    /// This device's record in the roster.
    pub(crate) fn own_record(&self) -> Result<larder_log::roster::Device> {
        let (me, published) = (self.device(), self.shared.published()?);
        match (published.roster.device(&me), published.roster.known(&me)) {
            (Some(own), _) => Ok(own.clone()),
            (None, Some(_)) => Err(Error::ShutOut),
            (None, None) => Err(Error::NotYetEnrolled),
        }
    }

    /// What this device may do.
    ///
    /// # Errors
    /// [`Error::NotYetEnrolled`], [`Error::ShutOut`].
    pub fn own_role(&self) -> Result<Role> {
        Ok(self.own_record()?.role)
    }

    /// The highest band that this device may read, and that this handle shows.
    ///
    /// # Errors
    /// [`Error::Auditor`]; the storage's, if what it last wrote cannot be known.
    pub fn clearance(&self) -> Result<Band> {
        let clearance = self.shared.published()?.clearance.ok_or(Error::Auditor)?;
        Ok(self.shared.shown(clearance).min(self.sight.up_to()))
    }

    /// Fails if there is nothing here for this device to read.
    ///
    /// # Errors
    /// [`Error::Auditor`]; the storage's, if what it last wrote cannot be known.
    pub fn check_reads(&self) -> Result<()> {
        self.clearance().map(drop)
    }

    /// The roster's [fingerprint](larder_log::roster::Roster::fingerprint).
    ///
    /// # Errors
    /// The storage's, if what it last wrote cannot be known.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(self.shared.published()?.roster.fingerprint())
    }

    /// The device that uses this transport key, if it is enrolled.
    pub fn peer_device(&self, transport: &TransportId) -> Option<DeviceId> {
        let published = self.shared.published().ok()?;
        published.roster.by_transport(transport).map(|(id, _)| *id)
    }

    /// What the owner of the device with this transport key calls it.
    pub fn device_label(&self, transport: &TransportId) -> Option<String> {
        let published = self.shared.published().ok()?;
        published.roster.by_transport(transport).map(|(_, device)| device.label.clone())
    }

    /// `tell` is called whenever [`Space::state`] may say something else than before, on the thread
    /// that noticed: it must not block. The first call counts.
    pub fn on_state_change(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.shared.trouble.tell(tell);
    }

    /// A call of this space failed with `error`: if that shows damage, [`Space::state`] says so
    /// from now on.
    pub fn note_failure(&self, error: &Error) {
        self.shared.trouble.read_failed(error);
    }

    /// Closes the space's connections, once those in use are free; reading fails from then on.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn close(&self) -> Result<()> {
        self.session_over();
        Ok(self.shared.pool.close()?)
    }

    /// A session is over: what is kept in memory for the next part of a large document is let go
    /// of. Another session that hands it over makes it anew.
    pub fn session_over(&self) {
        self.shared.handing().let_go();
    }
}
