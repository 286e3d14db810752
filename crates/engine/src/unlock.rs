//! Another passphrase, or another key of the app, for a profile that is in use: its key file is
//! written anew, and nothing else.
//!
//! Invariant: one rename replaces the key file, so what opens the profile is the old or the new,
//! each whole. The profile key stays: an old copy of the file still opens with what opened it then,
//! and a purge is what helps against that.

use std::sync::PoisonError;

use larder_store::StoreError;
use larder_store::profile as table;

use crate::dir::Dir;
use crate::key_file::{self, ProfileKey, Unlock};
use crate::profile::{Profile, TRANSPORT};
use crate::vault::Vault;
use crate::{Error, Result};

impl Profile {
    /// Fails unless `unlock` opens the profile, which it does at the price of a guess. To be asked
    /// before it is closed by who cannot open it again otherwise.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`], [`Error::Invalid`] for a profile in memory, [`Error::Corrupt`]
    /// if the key file is of another profile.
    pub fn check_unlock(&self, unlock: &Unlock) -> Result<()> {
        self.key_by(self.key_dir()?, unlock).map(drop)
    }

    /// Seals the profile key under `new`, once `old` has opened it. The cost of a passphrase stays
    /// what it is. Takes as long as two guesses at one.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`] if it is not `old` that opens the profile, [`Error::ReadOnly`],
    /// [`Error::Invalid`] for a profile in memory, [`Error::Corrupt`] if the key file is of another
    /// profile: nothing is changed. [`Error::Io`]: either of the two may open it now.
    pub fn change_unlock(&self, old: &Unlock, new: &Unlock) -> Result<()> {
        let inner = &self.inner;
        if inner.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let dir = self.key_dir()?;
        // One at a time, and not while the next process may have the profile already.
        let lock = inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            return Err(StoreError::Closed.into());
        }
        let key = self.key_by(dir, old)?;
        key_file::write(dir, new, &key, &mut *inner.env.entropy())?;
        // What cannot be noted now is when the profile is opened next.
        let _ = inner.compare_key_file();
        Ok(())
    }

    fn key_dir(&self) -> Result<&Dir> {
        let none = || Error::Invalid("a profile in memory is not opened by anything".into());
        self.inner.storage.dir().ok_or_else(none)
    }

    /// What is in the key file, if it is the key that this profile was opened by.
    fn key_by(&self, dir: &Dir, unlock: &Unlock) -> Result<ProfileKey> {
        let inner = &self.inner;
        let key = key_file::open(dir, unlock)?;
        let wrapped = inner.with_db(|db| Ok(table::key(db, TRANSPORT)?))?;
        let opens = wrapped.is_some_and(|wrapped| {
            Vault::of_profile(&key.key).open::<32>(TRANSPORT, &wrapped).is_ok()
        });
        if key.generation != inner.generation || !opens {
            let message = "profile.key was replaced by that of another profile, or by an older one";
            return Err(Error::Corrupt(message.into()));
        }
        Ok(key)
    }
}
