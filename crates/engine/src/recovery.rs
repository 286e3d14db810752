//! A space whose file cannot be read: set aside, and made anew from what can be read of it and from
//! other devices.
//!
//! Invariants: a file that is set aside gets another name and is removed by a purge alone, and not
//! before the space is whole again; this device appends nothing to its own log before it holds
//! again all that it is known to have signed. Otherwise the log would get a second history. Only a
//! space that never leaves this device goes on with what can be read: nobody else has the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_crypto::Secret;
use larder_log::blob::chunk_digest;
use larder_log::checkpoint::Checkpoint;
use larder_log::epoch::ControlSecret;
use larder_log::roster::Roster;
use larder_pages::Error as PagesError;
use larder_store::migrate::{Run, SPACE};
use larder_store::profile::{self as table, Membership};
use larder_store::space::transactions::{self, Walk};
use larder_store::space::{blobs, logs};
use larder_store::space::{control, set_value, value};
use larder_store::{Access as ConnAccess, StoreError};
use larder_types::{DeviceId, Hash, SpaceId, SpaceName, TransportId, canonical};
use minicbor::{Decode, Encode};
use rusqlite::Connection;

use crate::carry;
use crate::dir::Dir;
use crate::files;
use crate::keyring::OwnKeys;
use crate::profile::{Inner, Profile};
use crate::rekey::file_purpose;
use crate::security::SecurityKind;
use crate::space::{Frozen, Shared};
use crate::state::{CONTROL, State};
use crate::storage::wal_of;
use crate::trouble::is_damage;
use crate::vault::Vault;
use crate::writer::{SpaceWriter, goes_through};
use crate::{Error, Result};

/// A space that is being made anew.
#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Recovery {
    /// How much of the own log those hold that were spoken to since.
    #[n(0)]
    heard: BTreeMap<TransportId, u64>,
}

/// How far a space is that is being made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Entries of the own log that are known to have been signed.
    pub(crate) signed: u64,
    /// Those that are here.
    pub(crate) found: u64,
    /// Devices that have not told yet what they hold of it.
    pub(crate) waits_for: Vec<DeviceId>,
}

impl Recovery {
    fn load(db: &Connection) -> Result<Option<Self>> {
        let bytes = value(db, NAME)?.filter(|bytes| !bytes.is_empty());
        Ok(bytes.map(|bytes| canonical::decode(&bytes, BYTES_MAX)).transpose()?)
    }

    /// What is still to come, if anything is: of the own log, which was signed up to `signed` at
    /// least as the profile remembers, and is here up to `found`.
    pub(crate) fn progress(
        &self,
        signed: u64,
        found: u64,
        roster: &Roster,
        me: &DeviceId,
    ) -> Option<Progress> {
        let signed = self.heard.values().fold(signed, |signed, heard| signed.max(*heard));
        let own = roster.device(me).map(|own| own.keys.transport);
        if own.is_some() && found >= signed {
            return None;
        }
        // A joining that was cut left an enrolment of this very device under another id.
        let is_other = |transport: &TransportId| Some(*transport) != own;
        let silent = roster.devices().filter(|(id, device)| {
            let transport = &device.keys.transport;
            let may_tell = *id != me && is_other(transport) && device.role.may_read();
            may_tell && !self.heard.contains_key(transport)
        });
        Some(Progress { signed, found, waits_for: silent.map(|(id, _)| *id).collect() })
    }

    fn hear(&mut self, peer: &TransportId, size: u64) {
        let heard = self.heard.entry(*peer).or_default();
        *heard = size.max(*heard);
    }
}

impl Shared {
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovery().is_some()
    }

    /// Whether the own log may grow now.
    pub(crate) fn may_append(&self) -> bool {
        self.check_may_sign().is_ok() && !self.is_recovering()
    }

    /// Another device shows how much it holds of this one's log.
    pub(crate) fn hear(&self, peer: &TransportId, size: u64) {
        if let Some(recovery) = self.recovery().as_mut() {
            recovery.hear(peer, size);
        }
    }
}

/// A file that could not be read and has another name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is, in the profile's directory. None: it was not there any more.
    pub file: Option<String>,
    /// Entries that were read in it and taken over.
    pub entries: u64,
    /// Why it could not be used as it was.
    pub why: String,
}

impl Profile {
    /// Sets a space's file aside that cannot be read, and begins the space anew: with all that can
    /// be read in that file, and for the rest with what other devices send. It is read-only until
    /// this device holds all again that it has signed. The space must not be open. An attempt that
    /// was cut is brought to its end.
    ///
    /// A space that never leaves this device goes on at once, with what can be read; as an empty
    /// one of its name, with an id of its own, if that is nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file can be read, or is not there ([`Profile::begin_anew`]);
    /// [`Error::NotFound`], [`Error::ReadOnly`]; [`Error::Corrupt`] if the profile does not have
    /// what it takes; the storage's errors.
    pub fn set_aside(&self, name: &SpaceName) -> Result<SetAside> {
        self.replace(name, false)
    }

    /// The same for a space whose file is gone for good. One that is only elsewhere for now, on a
    /// medium that is not mounted say, would count for nothing when it is back.
    ///
    /// # Errors
    /// As [`Profile::set_aside`]; [`Error::Invalid`] also if there is another file of the space.
    pub fn begin_anew(&self, name: &SpaceName) -> Result<SetAside> {
        self.replace(name, true)
    }

    fn replace(&self, name: &SpaceName, is_gone: bool) -> Result<SetAside> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let why = match self.open_space(name) {
            Ok(_) => {
                let message = format!("the file of '{name}' can be read: it is not set aside");
                return Err(Error::Invalid(message));
            }
            Err(error) if is_unreadable(&error) => error.to_string(),
            Err(error) => return Err(error),
        };
        let row = self.inner.with_db(|db| Ok(table::space_named(db, name)?))?;
        let row = row.ok_or_else(|| Error::NotFound(format!("there is no space '{name}' here")))?;
        let file = self.inner.replace(&row, is_gone)?;
        let (space, writer) = self.open_space(name)?;
        let mut writer = writer.ok_or(Error::ReadOnly)?;
        let held = logs::every(&*space.shared.pool.reader()?)?;
        let entries = held.iter().map(|log| log.frontier.size()).sum();
        writer.close()?;
        drop(writer);
        let did = if is_gone { "made anew" } else { "set aside and made anew" };
        space.shared.note(SecurityKind::Repaired, None, did);
        let is_lost = space.shared.stays_here() && space.shared.is_recovering();
        space.close()?;
        if is_lost {
            self.found_anew(&row.space, name, file.as_deref())?;
        }
        Ok(SetAside { file, entries, why })
    }
}

impl Profile {
    /// Founds a space once more of which not even the founding can be read.
    fn found_anew(&self, id: &SpaceId, name: &SpaceName, aside: Option<&str>) -> Result<()> {
        let row = self.inner.with_db(|db| Ok(table::space(db, id)?))?;
        if let Some(row) = row {
            self.inner.storage.remove(&row.home.file)?;
            self.inner.write_db(|db| Ok(table::remove_space(db, id)?))?;
        }
        let (space, mut writer) = self.create_space(name)?;
        if let Some(aside) = aside {
            writer.record(|tx, _| carry::note_unread(tx, aside, 1))?;
        }
        writer.close()?;
        drop(writer);
        space.close()
    }
}

impl Inner {
    /// What a space needs to be found among other devices again, if its file is lost.
    pub(crate) fn keep_control(&self, id: &SpaceId, control: &ControlSecret) -> Result<()> {
        let purpose = control_purpose(id);
        if self.with_db(|db| Ok(table::key(db, &purpose)?))?.is_some() {
            return Ok(());
        }
        let wrapped = self.seal(&purpose, control.secret().expose());
        self.write_db(|db| Ok(table::set_key(db, &purpose, &wrapped)?))
    }

    /// Gives a space's file another name, which is returned, and makes a new one. Each step can be
    /// cut: the next attempt goes on from there.
    fn replace(self: &Arc<Self>, row: &table::Space, is_gone: bool) -> Result<Option<String>> {
        let id = row.space;
        let Some(dir) = self.storage.dir() else {
            return Err(Error::Invalid("a space in memory has no file to be set aside".into()));
        };
        let purpose = control_purpose(&id);
        let control = self.with_db(|db| Ok(table::key(db, &purpose)?))?.ok_or_else(|| {
            let what = "the space's secret was in its file alone: be invited into a new profile";
            Error::Corrupt(what.into())
        })?;
        let control: Secret<32> = self.unseal(&purpose, &control)?;
        let keys = self.own_keys(&id)?;
        let aside = self.place_aside(dir, row, is_gone)?;
        let key = self.vault().open::<32>(&file_purpose(&id), &row.home.wrapped_key)?;
        let wrapped = self.seal(&aside_purpose(&id, &aside), key.expose());
        // With it the next attempt knows of this one.
        self.write_db(|db| Ok(table::set_key(db, &aside_purpose(&id, &aside), &wrapped)?))?;

        files::move_aside(&self.storage, dir, &row.home.file, &aside)?;
        let is_there = dir.exists(&aside)?;
        let old = is_there.then(|| self.open_aside(&id, &aside).ok()).flatten();
        if let Some((size, root)) = old.and_then(|(old, _)| end_in(&old, &keys, id)) {
            self.write_db(|db| Ok(table::set_mirror(db, &id, size, &root)?))?;
        }

        let mut entropy = self.env.entropy();
        let secret: Secret<32> = Secret::random(&mut *entropy);
        let home = table::Home {
            file: free_file(dir, row)?,
            wrapped_key: self.seal(&file_purpose(&id), secret.expose()),
            key_created_at: self.env.now(),
            rekey_wished_at: None,
        };
        let new = table::Space { home, state: Membership::Joining, ..row.clone() };
        self.make(&new, keys, &control)?;
        self.write_db(|db| Ok(table::set_home(db, &id, &new.home)?))?;
        Ok(is_there.then_some(aside))
    }

    /// A name for a file that is set aside, which none has; or the one that a cut attempt chose.
    pub(crate) fn place_aside(
        &self,
        dir: &Dir,
        row: &table::Space,
        is_gone: bool,
    ) -> Result<String> {
        let (id, file) = (&row.space, &row.home.file);
        let stem = format!("{file}{}", files::SET_ASIDE);
        if !dir.exists(file)? {
            let asides = self.asides(id)?;
            if let Some(begun) = asides.into_iter().rfind(|name| name.starts_with(&stem)) {
                return Ok(begun);
            }
            let other = files::databases(dir, id)?.into_iter().find(|other| other != file);
            if let Some(other) = other {
                return Err(Error::Invalid(format!(
                    "the profile names '{file}', which is not there, and '{other}' is: one of them \
                     is an old copy. Restore the two together"
                )));
            }
            if !is_gone {
                return Err(Error::Invalid(format!(
                    "'{file}' is not there: put it back, or begin the space anew without it"
                )));
            }
        }
        let mut number = 1;
        loop {
            let name = format!("{stem}{number}");
            if !dir.exists(&name)? && !dir.exists(&wal_of(&name))? {
                return Ok(name);
            }
            number += 1;
        }
    }

    /// The files of a space that were set aside, of which the keys are here.
    fn asides(&self, id: &SpaceId) -> Result<Vec<String>> {
        let keys = self.with_db(|db| Ok(table::keys(db)?))?;
        let prefix = aside_purpose(id, "");
        let names = keys.iter().filter_map(|(name, _)| name.strip_prefix(&prefix));
        Ok(names.map(str::to_owned).collect())
    }

    fn make(
        self: &Arc<Self>,
        row: &table::Space,
        keys: OwnKeys,
        control: &Secret<32>,
    ) -> Result<()> {
        let shared = self.shared(row, keys)?;
        {
            let mut db = shared.pool.writer()?;
            SPACE.migrate(&mut db, Run::at(self.env.now()))?;
            let mut entropy = self.env.entropy();
            let wrapped = shared.home().vault.seal(&mut *entropy, CONTROL, control.expose());
            let tx = larder_store::begin(&mut db)?;
            control::set_secret(&tx, CONTROL, &wrapped)?;
            set_value(&tx, NAME, &canonical::encode(&Recovery::default()))?;
            crate::changes::new_incarnation(&tx, &mut *entropy)?;
            larder_store::commit(tx)?;
        }
        shared.pool.close()?;
        self.storage.sync_names(&row.home.file)
    }

    /// Opens a file that was set aside, and what its secrets are sealed under.
    fn open_aside(&self, id: &SpaceId, file: &str) -> Result<(Connection, Vault)> {
        let purpose = aside_purpose(id, file);
        let wrapped = self.with_db(|db| Ok(table::key(db, &purpose)?))?;
        let missing = || Error::Corrupt("the key of the file set aside is missing".into());
        let secret: Secret<32> = self.unseal(&purpose, &wrapped.ok_or_else(missing)?)?;
        let key = crate::vault::space_db_key(&secret, id);
        let db = self.storage.open(file, &key, false, ConnAccess::Read)?;
        Ok((db, Vault::of_space(&secret, id)))
    }
}

impl SpaceWriter {
    /// Whether this space is being made anew.
    pub fn is_recovering(&self) -> bool {
        self.shared.is_recovering()
    }

    /// Takes over what can be read in the file that was set aside, and is not here yet. Returns how
    /// many entries that were.
    ///
    /// # Errors
    /// The storage's errors, as far as they are not about the file that was set aside.
    pub fn salvage(&mut self) -> Result<u64> {
        if !self.is_recovering() {
            return Ok(0);
        }
        let profile = Arc::clone(&self.shared.profile);
        let mut entries = 0;
        let files = profile.asides(&self.shared.id)?;
        let asides = files.iter().filter_map(|file| profile.open_aside(&self.shared.id, file).ok());
        let asides: Vec<_> = asides.collect();
        for (aside, vault) in &asides {
            self.take_secrets(aside, vault)?;
        }
        for (aside, _) in &asides {
            entries += self.take_over(aside)?;
        }
        // Which blobs are wanted depends on the documents.
        self.show()?;
        for (aside, _) in &asides {
            self.take_chunks(aside)?;
        }
        if self.shared.stays_here() {
            let signed = self.shared.mirror.end().size;
            self.transact(|tx, state| match (files.last(), state.frontier.size()) {
                (Some(file), found) if found < signed => carry::note_unread(tx, file, found + 1),
                _ => Ok(()),
            })?;
            self.shared.mirror.forget(&self.shared.id)?;
        }
        // Looks whether the own log is whole by now.
        self.transact(|_, _| Ok(()))?;
        Ok(entries)
    }

    /// Takes over the secrets of epochs: the keys that they once came under are gone.
    pub(crate) fn take_secrets(&mut self, aside: &Connection, vault: &Vault) -> Result<()> {
        let Ok(epochs) = control::epochs(aside) else { return Ok(()) };
        self.transact(|tx, state| {
            for epoch in &epochs {
                state.salvage_secrets(tx, epoch, vault)?;
            }
            Ok(())
        })
    }

    fn take_over(&mut self, aside: &Connection) -> Result<u64> {
        self.take_over_up_to(aside, None)
    }

    /// The same, but of the log of one device no more than transactions that end there.
    pub(crate) fn take_over_up_to(
        &mut self,
        aside: &Connection,
        bound: Option<(DeviceId, u64)>,
    ) -> Result<u64> {
        let have = {
            let db = self.shared.pool.reader()?;
            let every = logs::every(&db)?.into_iter();
            every.map(|log| (log.device, log.frontier.size())).collect::<Vec<_>>()
        };
        let bound =
            bound.and_then(|(device, up_to)| Some((logs::find(aside, &device).ok()??.log, up_to)));
        let Ok(mut walk) = Walk::new(aside, have) else { return Ok(0) };
        let mut entries = 0;
        // What comes behind something damaged may be of another log.
        while let Ok(Some((transaction, from))) = walk.next(aside) {
            if bound
                .is_some_and(|(log, up_to)| log == transaction.log && transaction.last_seq > up_to)
            {
                continue;
            }
            let Ok(batch) = transactions::batch(aside, &transaction, from)
                .or_else(|_| transactions::readable_batch(aside, &transaction, from))
            else {
                continue;
            };
            match self.store(batch) {
                Ok(applied) => entries += applied.entries,
                Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

impl SpaceWriter {
    /// Takes over the chunks that are wanted here, as far as they can be read. How many of those
    /// that are there cannot be.
    pub(crate) fn take_chunks(&mut self, aside: &Connection) -> Result<u64> {
        let (mut from, mut unread) = (blobs::At::default(), 0);
        loop {
            let found = {
                let db = self.shared.pool.reader()?;
                // However large: it costs nobody anything.
                blobs::wanted(&db, u64::MAX, from, CHUNKS_PAGE)?
            };
            let Some((end, _)) = found.last() else { return Ok(unread) };
            from = *end;
            let (mut chunks, mut bytes) = (Vec::new(), 0);
            for (_, digest) in found {
                let sealed = match blobs::sealed(aside, &digest) {
                    Ok(None) => continue,
                    Ok(Some(sealed)) if chunk_digest(&sealed) == digest => sealed,
                    Ok(Some(_)) | Err(_) => {
                        unread += 1;
                        continue;
                    }
                };
                bytes += sealed.len();
                chunks.push(self.space().open_received(digest, sealed)?);
                if bytes > CHUNKS_BYTES_TARGET {
                    self.store_chunks(&std::mem::take(&mut chunks))?;
                    bytes = 0;
                }
            }
            self.store_chunks(&chunks)?;
        }
    }
}

impl State {
    pub(crate) fn load_recovery(db: &Connection, shared: &Shared) -> Result<()> {
        let mut stored = Recovery::load(db)?;
        let mut known = shared.recovery();
        if let (Some(stored), Some(known)) = (&mut stored, known.take()) {
            known.heard.iter().for_each(|(peer, size)| stored.hear(peer, *size));
        }
        *known = stored;
        Ok(())
    }

    /// Notes who was heard of, and whether all is here now that this device has signed.
    pub(crate) fn tend_recovery(&mut self, db: &Connection) -> Result<()> {
        let Some(recovery) = self.shared.recovery().clone() else { return Ok(()) };
        if self.to_recover(&recovery).is_some() {
            return Ok(set_value(db, NAME, &canonical::encode(&recovery))?);
        }
        if !goes_through(db, self.log, &self.shared.mirror.end())? {
            self.shared.freeze(Frozen::OtherHistory);
        }
        set_value(db, NAME, &[])?;
        self.has_recovered = true;
        Ok(())
    }

    /// What the last transaction found is durable now.
    pub(crate) fn end_recovery(&mut self) {
        if std::mem::take(&mut self.has_recovered) {
            *self.shared.recovery() = None;
            self.shared.trouble.changed();
        }
    }

    /// Nothing is appended to the own log before all of it is here.
    pub(crate) fn check_recovered(&self) -> Result<()> {
        let recovery = self.shared.recovery().clone();
        match recovery.and_then(|recovery| self.to_recover(&recovery)) {
            Some(Progress { signed, found, .. }) => Err(Error::Recovering { signed, found }),
            None => Ok(()),
        }
    }

    fn to_recover(&self, recovery: &Recovery) -> Option<Progress> {
        let (signed, found) = (self.shared.mirror.end().size, self.frontier.size());
        recovery.progress(signed, found, &self.roster, &self.device())
    }
}

/// The end of the own log in a file, if that much can be read in it.
fn end_in(db: &Connection, keys: &OwnKeys, space: SpaceId) -> Option<(u64, Hash)> {
    let device = keys.device();
    let log = logs::find(db, &device).ok()??;
    let (size, root) = (log.frontier.size(), log.frontier.root());
    let last = transactions::last_of(db, log.log).ok()??;
    let checkpoint = Checkpoint { space, device, size, root };
    let is_signed = last.last_seq == size && checkpoint.verify(&last.signature).is_ok();
    is_signed.then_some((size, root))
}

/// The first name for a space's next database that nothing has.
pub(crate) fn free_file(dir: &Dir, row: &table::Space) -> Result<String> {
    let mut file = files::next_space_db(&row.space, &row.home.file)?;
    while dir.exists(&file)? || dir.exists(&wal_of(&file))? {
        file = files::next_space_db(&row.space, &file)?;
    }
    Ok(file)
}

/// Whether an error says that a file is damaged, or gone.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    let is_gone = match error {
        Error::Pages(PagesError::Missing { .. }) => true,
        Error::Store(StoreError::Open { source }) => source
            .downcast_ref::<Error>()
            .is_some_and(|error| matches!(error, Error::Pages(PagesError::Missing { .. }))),
        _ => false,
    };
    is_gone || is_damage(error)
}

/// Whether the space in this database is being made anew.
pub(crate) fn is_going_on(db: &Connection) -> Result<bool> {
    Ok(Recovery::load(db)?.is_some())
}

fn control_purpose(id: &SpaceId) -> String {
    format!("{id}/control")
}

/// What the key of a file that was set aside is called; without its name, how all of them begin.
pub(crate) fn aside_purpose(id: &SpaceId, file: &str) -> String {
    format!("{id}/set aside/{file}")
}

/// Names of chunks looked for at once.
const CHUNKS_PAGE: usize = 256;
/// Bytes of chunks taken over in one transaction, about.
const CHUNKS_BYTES_TARGET: usize = 4 << 20;
const NAME: &str = "recovery";
const BYTES_MAX: usize = 1 << 20;
