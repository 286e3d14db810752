//! One installation's home: its keys, its spaces, the peers it knows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_crypto::password::Argon2Params;
use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, SealingPublic, Secret, TransportKey};
use larder_log::epoch::ControlSecret;
use larder_log::security::Scope;
use larder_pages::Held;
use larder_search::{Embedder, HashedNgrams};
use larder_store::migrate::{PROFILE, Run, SPACE};
use larder_store::profile::{self as table, Membership};
use larder_store::{Access as ConnAccess, Readers, StoreError};
use larder_types::limits::NAME_BYTES_MAX;
use larder_types::limits::PEER_ADDRESSES_MAX as ADDRESSES_MAX;
use larder_types::{MemberId, SpaceId, SpaceName, Timestamp, TransportId, hex};
use rusqlite::Connection;

use crate::blobs::ChunkBytes;
use crate::contract::Contracts;
use crate::dir::Dir;
use crate::embed;
use crate::files::{self, PARTIAL, SPACES};
use crate::home::Home;
use crate::key_file::{self, ProfileKey, Unlock};
use crate::keyring::{OwnKeys, SealingKeys, SpaceKeys};
use crate::mirror::Mirror;
use crate::pairing::Invitations;
use crate::prune::PrunePolicy;
use crate::rekey::file_purpose;
use crate::renew;
use crate::secrets::disk::Left;
use crate::security::Counts;
use crate::sight::Sight;
use crate::space::{Frozen, Shared};
use crate::storage::Storage;
use crate::supply::PartBytes;
use crate::vault::{self, Vault};
use crate::writer::End;
use crate::{Environment, Error, Result, Space, SpaceWriter};

/// How a profile is set up or opened.
#[derive(Clone, Default)]
pub struct ProfileOptions {
    /// Makes vectors of texts; [`HashedNgrams`] unless told.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// What a passphrase costs to try, for a new profile.
    pub passphrase_cost: Argon2Params,
    /// What to call this device, for a new profile; at most 128 bytes.
    pub label: Option<String>,
    /// How many reads of a space run at once.
    pub readers: Readers,
    /// Whether spaces prune by themselves.
    pub prunes: PrunePolicy,
    /// How much of a snapshot is handed over at once.
    pub part_bytes: PartBytes,
    /// How long the chunks are that blobs are cut into.
    pub chunk_bytes: ChunkBytes,
    /// What the app wants of personal data in what it writes.
    pub contracts: Contracts,
    /// Keeps everything in plain files: for the control run of a search for plaintext only.
    #[doc(hidden)]
    pub plain_control: bool,
}

impl ProfileOptions {
    fn check(&self) -> Result<()> {
        self.embedder.as_deref().map_or(Ok(()), embed::check)
    }
}

/// What an opened profile may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything. One process at a time.
    ReadWrite,
    /// Reading, searching and exporting. Not a byte is written; several processes may read.
    ReadOnly,
}

/// A device that this one has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its transport key.
    pub transport: TransportId,
    /// What it calls itself.
    pub label: String,
    /// Where it was found, the latest first.
    pub addresses: Vec<SocketAddr>,
    /// When it was last met.
    pub last_seen: Timestamp,
}

/// An open profile. Cheap to clone; its calls block on the disk.
#[derive(Clone)]
pub struct Profile {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Arc<dyn Environment>,
    pub(crate) storage: Storage,
    access: Access,
    /// Which database of the profile it is.
    pub(crate) generation: u32,
    /// What its passphrase costs to try.
    pub(crate) cost: Option<Argon2Params>,
    pub(crate) vault: Vault,
    transport: TransportKey,
    label: String,
    pub(crate) member: MemberId,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) readers: Readers,
    pub(crate) prunes: PrunePolicy,
    pub(crate) part_bytes: PartBytes,
    pub(crate) chunk_bytes: ChunkBytes,
    pub(crate) contracts: Contracts,
    db: Db,
    /// What the database's WAL may have of keys that went. Changes while `db` is locked.
    pub(crate) left: Left,
    pub(crate) invitations: Invitations,
    /// For the security log.
    pub(crate) counts: Counts,
    /// Held while the profile is open: one process at a time.
    pub(crate) lock: Mutex<Option<Held>>,
}

pub(crate) type Db = Arc<Mutex<Option<Connection>>>;

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("label", &self.inner.label).finish_non_exhaustive()
    }
}

impl Profile {
    /// Whether `dir` holds a profile.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn exists(env: &dyn Environment, dir: &Path) -> Result<bool> {
        key_file::exists(&Dir::new(env, dir))
    }

    /// Makes a profile in `dir`, which is created if need be.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]; [`Error::Corrupt`] if there is a profile that lost its key;
    /// [`Error::Invalid`] if the label is none, or the embedder's id; [`Error::Io`] and the
    /// storage's errors.
    pub fn create(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        options: ProfileOptions,
    ) -> Result<Self> {
        options.check()?;
        check_label(options.label.as_deref())?;
        let dir = Dir::new(&*env, dir);
        files::check_vacant(&dir)?;
        dir.make(SPACES)?;
        let lock = dir.lock(Access::ReadWrite)?;
        // Another process may have made one meanwhile.
        files::check_vacant(&dir)?;
        let mut entropy = env.entropy();
        let key = Secret::random(&mut *entropy);
        let key = ProfileKey { key, generation: 0, cost: Some(options.passphrase_cost) };
        key_file::write(&dir, unlock, &key, &mut *entropy)?;
        let storage = if options.plain_control {
            Storage::Plain { dir }
        } else {
            Storage::disk(&*env, dir, false)?
        };
        Self::start(env, storage, Access::ReadWrite, &key, options, lock)
    }

    /// Opens the profile in `dir`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], [`Error::WrongPassphrase`] (nothing is touched),
    /// [`Error::Corrupt`], [`Error::Invalid`] if the embedder's id is none; the storage's errors.
    pub fn open(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        access: Access,
        options: ProfileOptions,
    ) -> Result<Self> {
        options.check()?;
        let dir = Dir::new(&*env, dir);
        if !key_file::exists(&dir)? {
            return Err(Error::NotFound(format!("there is no profile in {}", dir.path.display())));
        }
        let lock = dir.lock(access)?;
        let key = key_file::open(&dir, unlock)?;
        let file = files::profile_db(key.generation);
        let is_new = key.generation == 0 && !files::has_spaces(&dir)?;
        if !dir.exists(&file)? && (!is_new || access == Access::ReadOnly) {
            return Err(Error::Corrupt(format!(
                "{} is missing though the profile has spaces: restore it from a backup",
                dir.path_of(&file).display()
            )));
        }
        let storage = if options.plain_control {
            Storage::Plain { dir }
        } else {
            Storage::disk(&*env, dir, access == Access::ReadOnly)?
        };
        Self::start(env, storage, access, &key, options, lock)
    }

    /// A profile that leaves nothing on disk and is gone when it is dropped: for tests of apps.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the embedder's id is none; the storage's errors.
    pub fn in_memory(env: Arc<dyn Environment>, options: ProfileOptions) -> Result<Self> {
        options.check()?;
        let mut name = [0; 16];
        env.entropy().fill(&mut name);
        let storage = Storage::Memory { name: hex(&name) };
        let key = Secret::random(&mut *env.entropy());
        let key = ProfileKey { key, generation: 0, cost: None };
        Self::start(env, storage, Access::ReadWrite, &key, options, None)
    }

    fn start(
        env: Arc<dyn Environment>,
        storage: Storage,
        access: Access,
        profile_key: &ProfileKey,
        options: ProfileOptions,
        lock: Option<Held>,
    ) -> Result<Self> {
        let ProfileKey { key: profile_key, generation, cost } = profile_key;
        let key = vault::profile_db_key(profile_key);
        let vault = Vault::of_profile(profile_key);
        let writing = access == Access::ReadWrite;
        let conn_access = if writing { ConnAccess::Write } else { ConnAccess::Read };
        if writing && *generation == 0 {
            set_up(&storage, &key, &*env, &vault, options.label.as_deref())?;
        }
        let file = files::profile_db(*generation);
        let left = Left::new(writing && storage.may_have_wal(&file));
        let mut db = storage.open(&file, &key, *generation == 0, conn_access)?;
        let mut migrated = 0;
        if writing {
            migrated = PROFILE.migrate(&mut db, Run::at(env.now()))?;
            if table::key(&db, TRANSPORT)?.is_none() {
                initialise(&mut db, &*env, &vault, options.label.as_deref())?;
            }
            let rows = table::spaces(&db)?;
            files::finish_moves(&storage, &renew::asides(&db)?, &rows)?;
            // Left-overs take room and do no other harm: no reason not to open.
            let _ = files::sweep(&storage, *generation, &rows);
        } else {
            PROFILE.verify(&db)?;
        }
        let missing = || Error::Corrupt("the profile's own keys are missing".into());
        let wrapped = table::key(&db, TRANSPORT)?.ok_or_else(missing)?;
        let transport = TransportKey::from_secret(&vault.open(TRANSPORT, &wrapped)?);
        let label = table::setting(&db, LABEL)?.ok_or_else(missing)?;
        let member = table::setting(&db, MEMBER)?.ok_or_else(missing)?;
        let inner = Inner {
            env,
            storage,
            access,
            generation: *generation,
            cost: *cost,
            vault,
            transport,
            label: String::from_utf8_lossy(&label).into_owned(),
            member: MemberId::from_slice(&member).ok_or_else(missing)?,
            embedder: options.embedder.unwrap_or_else(|| Arc::new(HashedNgrams)),
            readers: options.readers,
            prunes: options.prunes,
            part_bytes: options.part_bytes,
            chunk_bytes: options.chunk_bytes,
            contracts: options.contracts,
            db: Arc::new(Mutex::new(Some(db))),
            left,
            invitations: Invitations::default(),
            counts: Counts::default(),
            lock: Mutex::new(lock),
        };
        if writing {
            inner.note_migration(Scope::Profile, &PROFILE, migrated);
            // What cannot be noted now is noted the next time.
            let _ = inner.compare_key_file();
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this device is called.
    pub fn label(&self) -> &str {
        &self.inner.label
    }

    /// The key that this device is known by to its peers.
    pub fn transport_key(&self) -> &TransportKey {
        &self.inner.transport
    }

    /// The public half of [`Profile::transport_key`].
    pub fn transport_id(&self) -> TransportId {
        self.inner.transport.public()
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.inner.access == Access::ReadOnly
    }

    /// Where it is on disk; none for a profile in memory.
    pub fn dir(&self) -> Option<&Path> {
        self.inner.storage.dir().map(|dir| dir.path.as_path())
    }

    /// The clock and randomness it was opened with.
    pub fn env(&self) -> &Arc<dyn Environment> {
        &self.inner.env
    }

    /// The embedder it was opened with.
    pub fn embedder(&self) -> &Arc<dyn Embedder> {
        &self.inner.embedder
    }

    /// Reads the profile's own database, not those of its spaces, and checks that nothing in it is
    /// damaged, the security log's chains included.
    ///
    /// # Errors
    /// As [`Space::check`].
    pub fn check(&self) -> Result<()> {
        self.inner.with_db(|db| Ok(larder_store::check(db)?))?;
        self.security().map(drop)
    }

    /// The names of its spaces, sorted.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn space_names(&self) -> Result<Vec<SpaceName>> {
        let spaces = self.inner.with_db(|db| Ok(table::spaces(db)?))?;
        let joined = spaces.into_iter().filter(|space| space.state == Membership::Joined);
        Ok(joined.map(|space| space.name).collect())
    }

    /// Opens a space. A profile that was opened for writing gets its writer too: there must be one
    /// only, so open a space once and keep it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the storage's errors.
    pub fn open_space(&self, name: &SpaceName) -> Result<(Space, Option<SpaceWriter>)> {
        let row = self.inner.with_db(|db| Ok(table::space_named(db, name)?))?;
        let Some(row) = row.filter(|row| row.state == Membership::Joined) else {
            let message =
                format!("there is no space '{name}' here: create it, or join it by invitation");
            return Err(Error::NotFound(message));
        };
        let keys = self.inner.own_keys(&row.space)?;
        let shared = self.inner.shared(&row, keys)?;
        if self.is_read_only() {
            SPACE.verify(&*shared.pool.reader()?)?;
            if self.inner.is_renewing(&row.space)? {
                shared.freeze(Frozen::Renewed);
            }
            let reader = shared.pool.reader()?;
            crate::state::publish(&reader, &shared)?;
            return Ok((Space { shared: Arc::clone(&shared), sight: Sight::default() }, None));
        }
        let steps = SPACE.migrate(&mut *shared.pool.writer()?, Run::at(self.inner.env.now()))?;
        self.inner.note_migration(Scope::Space(row.space), &SPACE, steps);
        let is_renewing = self.inner.is_renewing(&row.space)?;
        let goes_on = is_renewing && self.inner.goes_on_alone(&row.space)?;
        if is_renewing && !goes_on {
            shared.freeze(Frozen::Renewed);
        }
        // Nobody has what a copy may lack of what was signed.
        let signed = if goes_on { End::NONE } else { shared.mirror.end() };
        let mut writer = SpaceWriter::open(&shared, signed)?;
        if goes_on && !shared.is_frozen() {
            self.renew_alone(&row, &mut writer)?;
            drop((writer, shared));
            return self.open_space(name);
        }
        writer.sweep_staged()?;
        writer.end_leases()?;
        // What cannot be noted now is noted the next time.
        let control = shared.published()?.keyring.control().clone();
        let _ = self.inner.keep_control(&row.space, &control);
        if writer.is_recovering() && !shared.is_frozen() {
            writer.salvage()?;
        }
        if !shared.is_frozen() && writer.has_it_all_in_a_copy()? {
            writer.carry_over()?;
        }
        // A wish that cannot be kept now is one for the next time.
        let _ = writer.check_key_age();
        Ok((writer.space(), Some(writer)))
    }

    /// The UDP port that this profile listens on, 0 if none was chosen yet.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn listen_port(&self) -> Result<u16> {
        let port = self.inner.with_db(|db| Ok(table::setting(db, PORT)?))?;
        Ok(port.and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes))
    }

    /// Remembers the UDP port that this profile listens on.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn set_listen_port(&self, port: u16) -> Result<()> {
        self.inner.write_db(|db| Ok(table::set_setting(db, PORT, &port.to_be_bytes())?))
    }

    /// When the profile key was drawn, as this device's clock had it.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn key_created(&self) -> Result<Option<Timestamp>> {
        self.time_setting(KEY_CREATED)
    }

    /// Since when a purge is wished for that was begun and cut.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn purge_wished(&self) -> Result<Option<Timestamp>> {
        self.time_setting(PURGE_WISHED)
    }

    fn time_setting(&self, name: &str) -> Result<Option<Timestamp>> {
        let bytes = self.inner.with_db(|db| Ok(table::setting(db, name)?))?;
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        Ok(bytes.map(|bytes| Timestamp(u64::from_be_bytes(bytes))))
    }

    /// The devices that this one has met, the latest first.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn peers(&self) -> Result<Vec<Peer>> {
        let peers = self.inner.with_db(|db| Ok(table::peers(db)?))?;
        Ok(peers.into_iter().map(peer_of).collect())
    }

    /// Remembers where a device was met; its last few addresses are kept.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn remember_peer(
        &self,
        transport: TransportId,
        label: &str,
        address: SocketAddr,
    ) -> Result<()> {
        let now = self.inner.env.now();
        self.inner.write_db(|db| {
            let known = table::peer(db, &transport)?.map(|peer| peer.addresses).unwrap_or_default();
            let address = address.to_string();
            let others = known.into_iter().filter(|other| *other != address);
            let addresses = std::iter::once(address.clone()).chain(others).take(ADDRESSES_MAX);
            let (label, addresses) = (label.to_owned(), addresses.collect());
            Ok(table::put_peer(db, &table::Peer { transport, label, addresses, last_seen: now })?)
        })
    }

    /// Closes the profile's own database and lets the next process have the profile. Close its
    /// spaces first: each writer ([`SpaceWriter::close`]), then each space ([`Space::close`]).
    ///
    /// # Errors
    /// The storage's errors.
    pub fn close(&self) -> Result<()> {
        self.inner.write_counts(true);
        let closed = self.inner.close_db();
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}

impl Inner {
    fn lock_db(&self) -> MutexGuard<'_, Option<Connection>> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the profile's database.
    pub(crate) fn close_db(&self) -> Result<()> {
        let Some(db) = self.lock_db().take() else { return Ok(()) };
        let failed = |source| StoreError::Write { part: "connection", source };
        Ok(db.close().map_err(|(_, source)| failed(source))?)
    }

    /// Works with the connection to the profile's database.
    pub(crate) fn with_db_mut<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        work(self.lock_db().as_mut().ok_or(StoreError::Closed)?)
    }

    /// Reads the profile's database.
    pub(crate) fn with_db<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(self.lock_db().as_ref().ok_or(StoreError::Closed)?)
    }

    /// Writes the profile's database, in one transaction.
    pub(crate) fn write_db<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        if self.access == Access::ReadOnly {
            return Err(Error::ReadOnly);
        }
        let mut db = self.lock_db();
        let tx = larder_store::begin(db.as_mut().ok_or(StoreError::Closed)?)?;
        let done = work(&tx)?;
        larder_store::commit(tx)?;
        Ok(done)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// When each device that this one has spoken to was last seen.
    pub(crate) fn last_seen(&self) -> Result<HashMap<TransportId, Timestamp>> {
        let peers = self.with_db(|db| Ok(table::peers(db)?))?;
        Ok(peers.into_iter().map(|peer| (peer.transport, peer.last_seen)).collect())
    }

    /// Makes room for a space under this name: what an earlier attempt left is removed.
    pub(crate) fn make_room(&self, name: &SpaceName) -> Result<()> {
        let Some(row) = self.with_db(|db| Ok(table::space_named(db, name)?))? else {
            return Ok(());
        };
        if row.state != Membership::Joining {
            let message = format!("there is a space '{name}' in this profile already");
            return Err(Error::AlreadyExists(message));
        }
        self.storage.remove(&row.home.file)?;
        self.write_db(|db| Ok(table::remove_space(db, &row.space)?))
    }

    /// Records a space that is being set up, its file's key and this device's keys in it.
    pub(crate) fn add_space(
        &self,
        id: SpaceId,
        name: &SpaceName,
        keys: &OwnKeys,
    ) -> Result<table::Space> {
        let mut entropy = self.env.entropy();
        let secret: Secret<32> = Secret::random(&mut *entropy);
        let created_at = self.env.now();
        let home = table::Home {
            file: files::space_db(&id, 0),
            wrapped_key: self.vault.seal(&mut *entropy, &file_purpose(&id), secret.expose()),
            key_created_at: created_at,
            rekey_wished_at: None,
        };
        let row = table::Space {
            space: id,
            name: name.clone(),
            home,
            device: keys.device(),
            created_at,
            state: Membership::Joining,
            mirror_seq: 0,
            mirror_root: None,
        };
        self.write_db(|db| {
            for (name, secret) in keys.secrets() {
                let purpose = key_purpose(&id, name);
                let wrapped = self.vault.seal(&mut *entropy, &purpose, secret.expose());
                table::set_key(db, &purpose, &wrapped)?;
            }
            Ok(table::add_space(db, &row)?)
        })?;
        Ok(row)
    }

    /// The space is complete: from now on it counts.
    pub(crate) fn joined(&self, id: &SpaceId, control: &ControlSecret) -> Result<()> {
        self.keep_control(id, control)?;
        self.write_db(|db| Ok(table::set_membership(db, id, Membership::Joined)?))
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    pub(crate) fn own_keys(&self, id: &SpaceId) -> Result<OwnKeys> {
        let key = |name: &str| -> Result<Secret<32>> {
            let purpose = key_purpose(id, name);
            let wrapped = self.with_db(|db| Ok(table::key(db, &purpose)?))?;
            let missing = || Error::Corrupt(format!("the key '{purpose}' is missing"));
            self.vault.open(&purpose, &wrapped.ok_or_else(missing)?)
        };
        Ok(OwnKeys {
            signing: Box::new(DeviceSigningKey::from_secret(&key(SIGNING)?)),
            ack: Box::new(AckKey::from_secret(&key(ACK)?)),
            sealing: SealingKey::from_secret(&key(SEALING)?),
        })
    }

    /// What the writer and the readers of a space share.
    pub(crate) fn shared(
        self: &Arc<Self>,
        row: &table::Space,
        keys: OwnKeys,
    ) -> Result<Arc<Shared>> {
        let (home, next) = (self.home(row)?, self.sealing_next(&row.space)?);
        let keys = SpaceKeys::new(keys, next);
        Ok(Arc::new(Shared::new(Arc::clone(self), row, keys, home)))
    }

    pub(crate) fn sealing_next(&self, id: &SpaceId) -> Result<Option<SealingKey>> {
        let purpose = key_purpose(id, SEALING_NEXT);
        let wrapped = self.with_db(|db| Ok(table::key(db, &purpose)?))?;
        let opened = wrapped.map(|wrapped| self.vault.open(&purpose, &wrapped)).transpose()?;
        Ok(opened.map(|secret| SealingKey::from_secret(&secret)))
    }

    /// Another sealing key for a space, to be announced: durable, and among `keys`. The last one,
    /// if that was not announced.
    pub(crate) fn next_sealing(&self, id: &SpaceId, keys: &SealingKeys) -> Result<SealingPublic> {
        if let Some(next) = self.sealing_next(id)? {
            return Ok(next.public());
        }
        let mut entropy = self.env.entropy();
        let next = SealingKey::generate(&mut *entropy);
        let purpose = key_purpose(id, SEALING_NEXT);
        let wrapped = self.vault.seal(&mut *entropy, &purpose, next.to_secret().expose());
        self.write_db(|db| Ok(table::set_key(db, &purpose, &wrapped)?))?;
        let public = next.public();
        keys.with(|keys| keys.push(next));
        Ok(public)
    }

    /// Nothing is sealed any more to the sealing key before the last.
    pub(crate) fn drop_old_sealing(&self, id: &SpaceId, keys: &SealingKeys) -> Result<()> {
        let (old, next) = (key_purpose(id, SEALING), key_purpose(id, SEALING_NEXT));
        let Some(key) = self.sealing_next(id)? else {
            keys.with(|keys| drop(keys.drain(..keys.len().saturating_sub(1))));
            return Ok(());
        };
        let wrapped = self.vault.seal(&mut *self.env.entropy(), &old, key.to_secret().expose());
        self.write_db(|db| {
            self.left.note();
            table::set_key(db, &old, &wrapped)?;
            Ok(table::remove_key(db, &next)?)
        })?;
        keys.with(|keys| *keys = vec![key]);
        Ok(())
    }

    /// [`larder_store::empty_wal`], of the profile's database.
    pub(crate) fn empty_wal(&self) -> Result<bool> {
        self.with_db(|db| {
            let is_empty = larder_store::empty_wal(db)?;
            self.left.wal_emptied(is_empty);
            Ok(is_empty)
        })
    }

    /// Where a space's database is, and what opens it.
    pub(crate) fn home(&self, row: &table::Space) -> Result<Home> {
        let secret = self.vault.open(&file_purpose(&row.space), &row.home.wrapped_key)?;
        Ok(Home::new(&self.storage, &row.space, row.home.clone(), &secret))
    }

    pub(crate) fn mirror(&self, row: &table::Space) -> Mirror {
        let noted = End { size: row.mirror_seq, root: row.mirror_root };
        Mirror::new(Arc::clone(&self.db), noted)
    }

    /// Seals a secret of this profile's.
    pub(crate) fn seal(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        self.vault.seal(&mut *self.env.entropy(), purpose, secret)
    }

    /// Opens what [`Inner::seal`] returned.
    pub(crate) fn unseal<const N: usize>(&self, purpose: &str, sealed: &[u8]) -> Result<Secret<N>> {
        self.vault.open(purpose, sealed)
    }
}

/// Makes the profile's database under another name first: a crash leaves all of it or nothing, and
/// what it left is made anew.
fn set_up(
    storage: &Storage,
    key: &Secret<32>,
    env: &dyn Environment,
    vault: &Vault,
    label: Option<&str>,
) -> Result<()> {
    let Some(dir) = storage.dir() else { return Ok(()) };
    let target = files::profile_db(0);
    if dir.exists(&target)? {
        return Ok(());
    }
    storage.remove(PARTIAL)?;
    let mut db = storage.open(PARTIAL, key, true, ConnAccess::Write)?;
    PROFILE.migrate(&mut db, Run::at(env.now()))?;
    initialise(&mut db, env, vault, label)?;
    let written = |source| StoreError::Write { part: "connection", source };
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(written)?;
    db.close().map_err(|(_, source)| written(source))?;
    dir.rename(PARTIAL, &target)?;
    dir.sync_names("")
}

fn check_label(label: Option<&str>) -> Result<()> {
    let is_fine = |label: &str| {
        !label.is_empty() && label.len() <= NAME_BYTES_MAX && !label.chars().any(char::is_control)
    };
    if label.is_none_or(is_fine) {
        return Ok(());
    }
    let message = format!("a device's label is 1 to {NAME_BYTES_MAX} bytes of printable text");
    Err(Error::Invalid(message))
}

fn initialise(
    db: &mut Connection,
    env: &dyn Environment,
    vault: &Vault,
    label: Option<&str>,
) -> Result<()> {
    check_label(label)?;
    let label = label.unwrap_or("device");
    let mut entropy = env.entropy();
    let transport = TransportKey::generate(&mut *entropy);
    let wrapped = vault.seal(&mut *entropy, TRANSPORT, transport.to_secret().expose());
    let member = MemberId::random(&mut *entropy);
    let tx = larder_store::begin(db)?;
    table::set_setting(&tx, LABEL, label.as_bytes())?;
    table::set_setting(&tx, MEMBER, member.as_bytes())?;
    table::set_setting(&tx, KEY_CREATED, &env.now().0.to_be_bytes())?;
    table::set_key(&tx, TRANSPORT, &wrapped)?;
    larder_store::commit(tx)?;
    Ok(())
}

fn peer_of(peer: table::Peer) -> Peer {
    let addresses = peer.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let table::Peer { transport, label, last_seen, .. } = peer;
    Peer { transport, label, addresses, last_seen }
}

impl OwnKeys {
    /// Its secrets by name, as they are kept.
    pub(crate) fn secrets(&self) -> HashMap<&'static str, Secret<32>> {
        HashMap::from([
            (SIGNING, self.signing.to_secret()),
            (ACK, self.ack.to_secret()),
            (SEALING, self.sealing.to_secret()),
        ])
    }
}

pub(crate) fn key_purpose(id: &SpaceId, name: &str) -> String {
    format!("{id}/{name}")
}

pub(crate) const TRANSPORT: &str = "transport";
/// When the profile key was drawn.
pub(crate) const KEY_CREATED: &str = "key created";
/// Since when a purge is wished for that is not done.
pub(crate) const PURGE_WISHED: &str = "purge wished";
const LABEL: &str = "label";
const MEMBER: &str = "member";
const PORT: &str = "port";
pub(crate) const SIGNING: &str = "signing";
const ACK: &str = "ack";
const SEALING: &str = "sealing";
pub(crate) const SEALING_NEXT: &str = "sealing/next";
