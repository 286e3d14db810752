//! New keys for a profile that was copied or restored, in place.
//!
//! Whose log another copy may have gone on with must never be signed again. So the profile gets
//! another transport key, and in each of its spaces another device, which has to be let in like any
//! other; until then the space can be read. Once it is let in, the file that there was is set
//! aside, the space comes anew from those who have it, and what only that file has is carried over
//! into the new log ([`crate::carry`]).
//!
//! Invariants: nothing is signed with the old keys any more, but for a space that nobody else has,
//! or of which a person says so and has the words;
//! one transaction of the profile's database names the new file, the new keys and the file that is
//! set aside, so that a cut leaves the old or the new; no file goes.

use std::path::Path;
use std::sync::Arc;

use larder_crypto::hash::sha256;
use larder_crypto::{Secret, TransportKey};
use larder_log::VERSION;
use larder_log::act::{Enrolment, Role};
use larder_log::epoch::ControlSecret;
use larder_log::security::{News, Scope};
use larder_store::profile::{self as table, Membership};
use larder_types::{DeviceId, Hash, SpaceId, SpaceName, TransportId};
use rusqlite::Connection;

use crate::black::stays_here;
use crate::carry;
use crate::files;
use crate::found::prepare;
use crate::key_file::Unlock;
use crate::keyring::OwnKeys;
use crate::profile::{Access, Inner, Profile, ProfileOptions, TRANSPORT};
use crate::recovery::free_file;
use crate::rekey::{file_purpose, step};
use crate::security::SecurityKind;
use crate::sight::Sight;
use crate::space::Shared;
use crate::steps::Step;
use crate::writer::End;
use crate::{Environment, Error, Result, Space, SpaceWriter};

/// A profile that was given new keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Spaces that other devices belong to: one of them has to let this one in again.
    pub waiting: Vec<SpaceName>,
    /// Spaces that no other device belonged to when this copy was made. They wait as well, for a
    /// device that has joined since, or for a person's word that there is none
    /// ([`Profile::go_on_alone`]).
    pub alone: Vec<SpaceName>,
    /// Spaces that never leave their device: they go on, with what this copy has of them.
    pub here: Vec<SpaceName>,
}

impl Profile {
    /// Gives the profile in `dir`, which must not be open anywhere, new keys: for a copy of a
    /// profile, or one that was restored from an older copy, which would sign what the other one
    /// has signed otherwise. From then on it is a device of its own, which its spaces do not know:
    /// each can be read, and has to be joined by an invitation again ([`Profile::begin_join`]).
    /// What only this copy has is carried over then ([`SpaceWriter::carry_step`]).
    ///
    /// Done once more it changes the keys once more, and nothing that was not carried is lost.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`Error::Corrupt`] and the storage's if a space cannot be opened: all
    /// is as it was.
    pub fn renew(env: Arc<dyn Environment>, dir: &Path, unlock: &Unlock) -> Result<Renewed> {
        let options = ProfileOptions::default();
        let profile = Self::open(env, dir, unlock, Access::ReadWrite, options)?;
        let renewed = profile.renew_open();
        let closed = profile.close();
        let renewed = renewed?;
        closed.map(|()| renewed)
    }

    fn renew_open(&self) -> Result<Renewed> {
        let rows = self.inner.with_db(|db| Ok(table::spaces(db)?))?;
        let joined: Vec<_> =
            rows.into_iter().filter(|row| row.state == Membership::Joined).collect();
        let mut renewed = Renewed { waiting: Vec::new(), alone: Vec::new(), here: Vec::new() };
        let mut known = Vec::new();
        for row in &joined {
            // All are looked at before anything is changed.
            let (space, writer) = self.open_space(&row.name)?;
            let is_alone = self.is_alone(&space.shared)?;
            // Nobody can have joined it since.
            let goes_on = stays_here(&row.name) && self.check_may_go_on(&space.shared).is_ok();
            let list = match (goes_on, is_alone) {
                (true, _) => &mut renewed.here,
                (false, true) => &mut renewed.alone,
                (false, false) => &mut renewed.waiting,
            };
            list.push(row.name.clone());
            known.extend(self.enrolled_joinings(&space.shared)?);
            if let Some(mut writer) = writer {
                writer.close()?;
            }
            space.close()?;
        }
        let mut entropy = self.inner.env.entropy();
        let transport = TransportKey::generate(&mut *entropy);
        let wrapped = self.inner.seal(TRANSPORT, transport.to_secret().expose());
        let now = self.inner.env.now();
        self.inner.write_db(|db| {
            table::set_key(db, TRANSPORT, &wrapped)?;
            for row in &joined {
                table::set_setting(db, &mark(&row.space), &now.0.to_be_bytes())?;
                if renewed.here.contains(&row.name) {
                    table::set_setting(db, &alone_mark(&row.space), &[])?;
                } else {
                    table::remove_setting(db, &alone_mark(&row.space))?;
                }
            }
            // Keys that were made for invitations belong to the key that is replaced. Those that a
            // space knows by now tell which of its devices are this one.
            let is_known = |joining: &table::Joining| known.contains(&joining.id);
            for joining in table::joinings(db)?.iter().filter(|joining| !is_known(joining)) {
                table::remove_joining(db, &joining.id)?;
            }
            let news = News::new(SecurityKind::Rotated, None, "this device: all of its keys");
            // It gets new keys also where that cannot be noted.
            let _ = self.inner.append(db, self.inner.vault(), Scope::Profile, &news, 1, now);
            step(Step::Renewing)
        })?;
        step(Step::Renewed)?;
        Ok(renewed)
    }

    /// Has a space go on that waits for this device to be let in again, because nobody else has it:
    /// a person says so, who knows that no device has joined since this copy was made. Were there
    /// one, it would have another history of the space, and the two would never hear of each other;
    /// then [`Profile::renew`] once more, and an invitation from there, bring what was written here
    /// over to it. The profile in `dir` must not be open anywhere.
    ///
    /// A space that never leaves this device, and whose file is not the one that was signed last,
    /// goes on by it as well, with what the file has and without new keys of the whole profile.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`Error::NotFound`]; [`Error::Invalid`] if the space does not wait for
    /// that, or other devices belong to it, or this one was no owner of it; the storage's errors.
    pub fn go_on_alone(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        name: &SpaceName,
    ) -> Result<()> {
        Self::go_on_in(env, dir, unlock, name, None)
    }

    /// The same of a space that other devices belong to, all of which are lost, whatever this one
    /// may do in it: by the words of its recovery kit. It is an owner then, and they are shut out.
    ///
    /// # Errors
    /// As [`Profile::go_on_alone`], but for the role and the others; [`Error::Invalid`] if the
    /// space has no recovery key, or another kit's. Nothing is written then.
    pub fn recover_alone(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        name: &SpaceName,
        kit: &Secret<32>,
    ) -> Result<()> {
        Self::go_on_in(env, dir, unlock, name, Some(kit))
    }

    fn go_on_in(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        name: &SpaceName,
        kit: Option<&Secret<32>>,
    ) -> Result<()> {
        let options = ProfileOptions::default();
        let profile = Self::open(env, dir, unlock, Access::ReadWrite, options)?;
        let done = profile.go_on(name, kit);
        let closed = profile.close();
        done.and(closed)
    }

    fn go_on(&self, name: &SpaceName, kit: Option<&Secret<32>>) -> Result<()> {
        let row = self.inner.with_db(|db| Ok(table::space_named(db, name)?))?;
        let row = row.ok_or_else(|| Error::NotFound(format!("there is no space '{name}' here")))?;
        let is_renewing = self.inner.is_renewing(&row.space)?;
        if !is_renewing && !stays_here(name) {
            return Err(Error::Invalid(format!(
                "'{name}' does not wait for this device to be let in: `larder device renew` gives \
                 a copied or restored profile new keys first"
            )));
        }
        let close = |(space, writer): (Space, Option<SpaceWriter>)| {
            writer.map_or(Ok(()), |mut writer| writer.close())?;
            space.close()
        };
        if let Some(kit) = kit.filter(|_| is_renewing) {
            // Once it was said that it goes on, this is where it does.
            close(self.open_space(name)?)?;
            if self.inner.is_renewing(&row.space)? {
                self.recover_by(&row, kit)?;
            }
        }
        let opened = self.open_space(name)?;
        let may = self.check_may_go_on(&opened.0.shared);
        let is_frozen = opened.0.shared.is_frozen();
        close(opened)?;
        may?;
        if !is_frozen {
            return Err(Error::Invalid(format!("'{name}' can be written: there is nothing to do")));
        }
        let now = self.inner.env.now();
        self.inner.write_db(|db| {
            if !is_renewing {
                table::set_setting(db, &mark(&row.space), &now.0.to_be_bytes())?;
            }
            table::set_setting(db, &alone_mark(&row.space), &[])?;
            step(Step::GoingOn)
        })?;
        close(self.open_space(name)?)
    }

    /// Makes the device an owner that the space knows this one as, and shuts out all others: with
    /// its old keys, which sign nothing that anybody else will hear of.
    fn recover_by(&self, row: &table::Space, kit: &Secret<32>) -> Result<()> {
        let shared = self.inner.shared(row, self.inner.own_keys(&row.space)?)?;
        // Nobody has what a copy may lack of what was signed.
        let mut writer = SpaceWriter::open(&shared, End::NONE)?;
        if writer.is_recovering() {
            return Err(not_whole(&row.name));
        }
        let own = self.own_devices(&shared)?;
        let published = shared.published()?;
        let others = published.roster.devices().map(|(device, _)| *device);
        let others: Vec<DeviceId> = others.filter(|device| !own.contains(device)).collect();
        writer.recover(kit, &others)?;
        writer.close()?;
        drop(writer);
        Ok(shared.pool.close()?)
    }

    fn check_may_go_on(&self, shared: &Arc<Shared>) -> Result<()> {
        let space = Space { shared: Arc::clone(shared), sight: Sight::default() };
        let name = space.name();
        if !self.is_alone(shared)? {
            let me = space.device();
            let devices = space.devices()?;
            let others = devices.iter().filter(|device| device.device != me);
            let others: Vec<&str> = others.map(|device| device.label.as_str()).collect();
            return Err(Error::Invalid(format!(
                "other devices belong to '{name}' ({}): one of them lets this one in. Make an \
                 invitation there, and join it here; if all of them are lost, the words of the \
                 space's recovery kit will do: `larder device renew --alone {name} --recovery`",
                others.join(", ")
            )));
        }
        if space.own_role()? != Role::Owner || shared.is_recovering() {
            return Err(not_whole(name));
        }
        Ok(())
    }

    /// Whether nobody but this device belongs to a space, by its old keys or those that it is to
    /// have.
    pub(crate) fn is_alone(&self, shared: &Shared) -> Result<bool> {
        let (published, me) = (shared.published()?, shared.keys.device());
        let own = self.own_devices(shared)?;
        let mut all = published.roster.devices();
        Ok(published.roster.device(&me).is_some() && all.all(|(device, _)| own.contains(device)))
    }

    /// This device by its old keys, and by those that it is to have.
    fn own_devices(&self, shared: &Shared) -> Result<Vec<DeviceId>> {
        let mut own = vec![shared.keys.device()];
        for joining in self.joinings_of(&shared.id)? {
            own.push(self.joining_keys(joining.id, joining.space)?.device());
        }
        Ok(own)
    }

    fn joinings_of(&self, id: &SpaceId) -> Result<Vec<table::Joining>> {
        let all = self.inner.with_db(|db| Ok(table::joinings(db)?))?;
        Ok(all.into_iter().filter(|joining| joining.space == *id).collect())
    }

    /// Keys kept for joining a space that the space knows, as its file has it.
    fn enrolled_joinings(&self, shared: &Shared) -> Result<Vec<Hash>> {
        let published = shared.published()?;
        let mut enrolled = Vec::new();
        for joining in self.joinings_of(&shared.id)? {
            let device = self.joining_keys(joining.id, joining.space)?.device();
            if published.roster.device(&device).is_some() {
                enrolled.push(joining.id);
            }
        }
        Ok(enrolled)
    }

    /// A space that waits for new keys, and that goes on alone: it gets them now.
    pub(crate) fn renew_alone(&self, row: &table::Space, writer: &mut SpaceWriter) -> Result<()> {
        let (space, id) = (writer.space(), alone_id(&row.space, &self.transport_id()));
        let own = space.own_record()?;
        let keys = self.joining_keys(id, row.space)?;
        let enrolment = Enrolment {
            v: VERSION,
            member: own.member,
            label: own.label.clone(),
            role: own.role,
            clearance: own.clearance,
            keys: keys.public(self.transport_id()),
        };
        writer.admit_device(enrolment)?;
        // Of an attempt that was cut before other keys were drawn.
        let (me, new) = (space.device(), keys.device());
        let devices = space.devices()?.into_iter().map(|device| device.device);
        let strays: Vec<_> = devices.filter(|device| ![me, new].contains(device)).collect();
        if !strays.is_empty() {
            writer.revoke(&strays)?;
        }
        step(Step::RenewedAlone)?;
        let control = space.shared.published()?.keyring.control().clone();
        writer.close()?;
        space.close()?;
        self.renew_space(row, keys, &control, true)?;
        self.forget_joining(&id)
    }

    /// Gives a space other keys, and a new file, in which there is nothing yet; the one that there
    /// was is set aside. The space must not be open.
    pub(crate) fn renew_space(
        &self,
        row: &table::Space,
        keys: OwnKeys,
        control: &ControlSecret,
        is_alone: bool,
    ) -> Result<()> {
        let (inner, id) = (&self.inner, &row.space);
        let Some(dir) = inner.storage.dir() else {
            return Err(Error::Invalid("a profile in memory has no copies".into()));
        };
        let aside = inner.place_aside(dir, row, false)?;
        let key: Secret<32> = inner.vault().open(&file_purpose(id), &row.home.wrapped_key)?;
        let wrapped_aside = inner.seal(&renewed_purpose(id, &aside), key.expose());
        let mut secret_entropy = inner.env.entropy();
        let secret: Secret<32> = Secret::random(&mut *secret_entropy);
        let home = table::Home {
            file: free_file(dir, row)?,
            wrapped_key: inner.seal(&file_purpose(id), secret.expose()),
            key_created_at: inner.env.now(),
            rekey_wished_at: None,
        };
        let device = keys.device();
        let (mirror_seq, mirror_root) = (0, None);
        let new = table::Space { home, device, mirror_seq, mirror_root, ..row.clone() };
        let wrapped_keys: Vec<(String, Vec<u8>)> = keys
            .secrets()
            .into_iter()
            .map(|(name, secret)| (crate::profile::key_purpose(id, name), secret))
            .map(|(purpose, secret)| (purpose.clone(), inner.seal(&purpose, secret.expose())))
            .collect();
        let old = inner.home(row)?.open(larder_store::Access::Read)?;
        let making = table::Space { state: Membership::Joining, ..new.clone() };
        let shared = inner.shared(&making, keys)?;
        let mut writer = prepare(self, &shared, control)?;
        let source = carry::Source::new(aside.clone(), row.device, is_alone, &old)?;
        writer.transact(|tx, _| carry::begin(tx, source, &old))?;
        drop(old);
        writer.close()?;
        drop(writer);
        shared.pool.close()?;
        inner.storage.sync_names(&new.home.file)?;
        step(Step::RenewedMade)?;
        inner.write_db(|db| {
            table::set_key(db, &renewed_purpose(id, &aside), &wrapped_aside)?;
            for (purpose, wrapped) in &wrapped_keys {
                table::set_key(db, purpose, wrapped)?;
            }
            table::remove_key(db, &crate::profile::key_purpose(id, crate::profile::SEALING_NEXT))?;
            table::renew_space(db, &new)?;
            table::remove_setting(db, &mark(id))?;
            table::remove_setting(db, &alone_mark(id))?;
            step(Step::RenewedNaming)
        })?;
        step(Step::RenewedNamed)?;
        files::move_aside(&inner.storage, dir, &row.home.file, &aside)?;
        step(Step::RenewedMoved)
    }
}

impl Inner {
    /// Whether a space waits for this device to be let in again.
    pub(crate) fn is_renewing(&self, id: &SpaceId) -> Result<bool> {
        self.with_db(|db| Ok(table::setting(db, &mark(id))?.is_some()))
    }

    /// Whether a person said that nobody else has it.
    pub(crate) fn goes_on_alone(&self, id: &SpaceId) -> Result<bool> {
        self.with_db(|db| Ok(table::setting(db, &alone_mark(id))?.is_some()))
    }
}

/// The files that were set aside for new keys, as the profile's database names them.
pub(crate) fn asides(db: &Connection) -> Result<Vec<String>> {
    let keys = table::keys(db)?;
    let names = keys.iter().filter_map(|(name, _)| Some(name.split_once(RENEWED)?.1.to_owned()));
    Ok(names.collect())
}

/// What the key of a file is called that was set aside for new keys; without its name, how all of
/// them begin.
pub(crate) fn renewed_purpose(id: &SpaceId, file: &str) -> String {
    format!("{id}{RENEWED}{file}")
}

fn not_whole(name: &SpaceName) -> Error {
    Error::Invalid(format!(
        "this copy of '{name}' is not whole, or of a device that was no owner: it can be read and \
         exported, and a device that has the space can let this one in"
    ))
}

fn mark(id: &SpaceId) -> String {
    format!("renewing {id}")
}

fn alone_mark(id: &SpaceId) -> String {
    format!("alone {id}")
}

/// Under which the keys are kept until the space knows them, which are of one transport key.
pub(crate) fn alone_id(id: &SpaceId, transport: &TransportId) -> Hash {
    sha256(&[b"larder/renewed-alone/v0", id.as_bytes(), transport.as_bytes()])
}

/// Opens the reading side and the writer of a space that waits for this device to be let in.
pub(crate) fn opened_alone(profile: &Profile, name: &SpaceName) -> Result<(Space, SpaceWriter)> {
    let (space, writer) = profile.open_space(name)?;
    let missing = || Error::Internal("a space that was renewed opens for reading only".into());
    Ok((space, writer.ok_or_else(missing)?))
}

const RENEWED: &str = "/renewed/";

#[cfg(test)]
mod tests;
