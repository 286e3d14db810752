//! Purge: every file of a profile is written anew under keys that never met the old ones, and the
//! old files and keys are gone. What is left of them on the medium opens with nothing that is kept.
//!
//! Invariants: no old key is ever sealed under a new one, and no new one under an old; one rename,
//! of `profile.key`, makes all of the new files count and none of the old ones. A purge that is cut
//! before has changed nothing, and says so until it is done. What was set aside goes as well, once
//! its space is whole again.

use std::path::Path;
use std::sync::Arc;

use larder_crypto::Secret;
use larder_log::security::{News, Scope};
use larder_pages::Copied;
use larder_store::Access as ConnAccess;
use larder_store::migrate::{PROFILE, Run, SPACE};
use larder_store::profile::{self as table, Membership};
use rusqlite::Connection;

use crate::carry;
use crate::dir::Dir;
use crate::home::Home;
use crate::key_file::{self, ProfileKey, Unlock};
use crate::pairing::joining_purpose;
use crate::profile::{Access, Inner, KEY_CREATED, PURGE_WISHED, Profile, ProfileOptions};
use crate::rekey::{close, file_purpose, furnish, step};
use crate::renew::renewed_purpose;
use crate::security::{KEY_FILE, SecurityKind};
use crate::steps::{STEP_PAGES, Step};
use crate::storage::Storage;
use crate::vault::{self, Vault};
use crate::{Environment, Error, Result, files, recovery};

/// How a purge goes on, in pages of 4 KiB of all files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeProgress {
    /// Pages in the new files.
    pub pages: u64,
    /// Pages that there are.
    pub pages_total: u64,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Spaces that are in new files.
    pub spaces: u64,
    /// Pages of 4 KiB that were written anew.
    pub pages: u64,
}

impl Profile {
    /// Writes everything of the profile in `dir`, which must not be open, anew under new keys, and
    /// removes the old files. `new` replaces what opens it; without, that stays the same. Needs as
    /// much room again as the profile has on disk.
    ///
    /// A copy of the old files that was made before still opens with what opened them then.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`Error::Invalid`] if what was set aside of a space may hold what is
    /// nowhere else; the storage's errors, a full disk among them. Until `profile.key` is
    /// replaced nothing is changed; if that fails, which of the two keys it holds is seen when the
    /// profile is opened next, and either is whole.
    pub fn purge(
        env: Arc<dyn Environment>,
        dir: &Path,
        unlock: &Unlock,
        new: Option<&Unlock>,
        progress: &mut dyn FnMut(PurgeProgress),
    ) -> Result<Purged> {
        let options = ProfileOptions::default();
        let profile = Self::open(env, dir, unlock, Access::ReadWrite, options)?;
        let purge = Purge::begin(&profile.inner)?;
        let purged = purge.run(new.unwrap_or(unlock), progress);
        let closed = profile.close();
        let purged = purged?;
        closed.map(|()| purged)
    }
}

struct Purge<'a> {
    inner: &'a Arc<Inner>,
    storage: &'a Storage,
    dir: &'a Dir,
    key: ProfileKey,
    vault: Vault,
    rows: Vec<table::Space>,
}

impl<'a> Purge<'a> {
    /// Draws the new profile key, and has the profile remember that a purge was begun.
    fn begin(inner: &'a Arc<Inner>) -> Result<Self> {
        let storage = &inner.storage;
        let generation = inner.generation.checked_add(1).filter(|_| storage.has_keys());
        let (Some(generation), Some(dir)) = (generation, storage.dir()) else {
            return Err(Error::Invalid("this profile cannot be purged".into()));
        };
        let now = inner.env.now();
        let rows = inner.write_db(|db| {
            table::set_setting(db, PURGE_WISHED, &now.0.to_be_bytes())?;
            Ok(table::spaces(db)?)
        })?;
        step(Step::PurgeWished)?;
        let key = Secret::random(&mut *inner.env.entropy());
        let vault = Vault::of_profile(&key);
        let key = ProfileKey { key, generation, cost: inner.cost };
        Ok(Self { inner, storage, dir, key, vault, rows })
    }

    fn run(&self, unlock: &Unlock, progress: &mut dyn FnMut(PurgeProgress)) -> Result<Purged> {
        let written = self.write_anew(progress);
        if written.is_err() {
            // The new files count for nothing without a key file that names them.
            let _ = files::sweep(self.storage, self.inner.generation, &self.rows);
        }
        let (homes, pages) = written?;
        self.inner.close_db()?;
        // From here on it is the key file that says which files count, even after an error.
        key_file::write(self.dir, unlock, &self.key, &mut *self.inner.env.entropy())?;
        step(Step::KeyFileWritten)?;
        files::sweep(self.storage, self.key.generation, &homes)?;
        for file in files::all_set_aside(self.dir)? {
            self.dir.remove(&file)?;
        }
        step(Step::Removed)?;
        Ok(Purged { spaces: homes.len() as u64, pages })
    }

    /// Makes all new files; answers with the rows of the spaces in them, and how many pages.
    fn write_anew(
        &self,
        progress: &mut dyn FnMut(PurgeProgress),
    ) -> Result<(Vec<table::Space>, u64)> {
        let mut tally = Tally { before: 0, pages_total: 0, progress };
        for row in self.kept() {
            tally.pages_total += pages_of(self.storage, &row.home.file);
        }
        let mut homes = Vec::new();
        for row in self.kept() {
            homes.push(self.write_space(row, &mut tally)?);
        }
        self.write_profile(&homes, &mut tally)?;
        Ok((homes, tally.before))
    }

    /// The spaces that go along. What was set up and never finished is begun anew if need be.
    fn kept(&self) -> impl Iterator<Item = &table::Space> {
        self.rows.iter().filter(|row| row.state != Membership::Joining)
    }

    fn write_space(&self, row: &table::Space, tally: &mut Tally<'_>) -> Result<table::Space> {
        let (inner, id) = (self.inner, &row.space);
        let old = inner.home(row)?;
        let mut source = old.open(ConnAccess::Write)?;
        SPACE.migrate(&mut source, Run::at(inner.env.now()))?;
        let is_open = recovery::is_going_on(&source)? || carry::is_going_on(&source)?;
        let is_aside = !files::set_aside(self.dir, id)?.is_empty();
        if is_open && is_aside {
            return Err(Error::Invalid(format!(
                "the space '{}' is being made anew, and what was set aside of it may hold what no \
                 other device has: sync it first, or remove the files that have '{}' in their name",
                row.name,
                files::SET_ASIDE
            )));
        }
        // It may be that of a space that was made anew under another id.
        if let Some((file, what)) = carry::left_text(&source)?
            && (is_aside || self.dir.exists(&file)?)
        {
            return Err(Error::Invalid(format!("the space '{}': {what}", row.name)));
        }
        let mut entropy = inner.env.entropy();
        let secret = Secret::random(&mut *entropy);
        let home = table::Home {
            file: files::next_space_db(id, &row.home.file)?,
            wrapped_key: self.vault.seal(&mut *entropy, &file_purpose(id), secret.expose()),
            key_created_at: inner.env.now(),
            rekey_wished_at: None,
        };
        let new = Home::new(self.storage, id, home, &secret);
        let key = vault::space_db_key(&secret, id);
        self.copy(&mut source, &new.row.file, &key, tally)?;
        furnish(self.storage, &new, &old.vault, &source, &mut *entropy)?;
        step(Step::Rewrapped)?;
        close(source)?;
        Ok(table::Space { home: new.row, ..row.clone() })
    }

    fn write_profile(&self, homes: &[table::Space], tally: &mut Tally<'_>) -> Result<()> {
        let file = files::profile_db(self.key.generation);
        let key = vault::profile_db_key(&self.key.key);
        self.inner.with_db_mut(|db| self.copy(db, &file, &key, tally))?;
        step(Step::ProfileCopied)?;
        let mut db = self.storage.open(&file, &key, false, ConnAccess::Write)?;
        PROFILE.verify(&db)?;
        let tx = larder_store::begin(&mut db)?;
        self.reseal_profile(&tx, homes)?;
        larder_store::commit(tx)?;
        step(Step::ProfileRewrapped)?;
        close(db)?;
        self.storage.sync_names(&file)
    }

    /// Gives the new database of the profile the new homes, and seals all else under the new key.
    fn reseal_profile(&self, db: &Connection, homes: &[table::Space]) -> Result<()> {
        let entropy = &mut *self.inner.env.entropy();
        let mut reseal = |purpose: &str, wrapped: &[u8]| {
            self.inner.vault.reseal(&self.vault, entropy, purpose, wrapped)
        };
        let of_aside = |name: &str| {
            let mut rows = self.rows.iter();
            rows.any(|row| {
                name.starts_with(&recovery::aside_purpose(&row.space, ""))
                    || name.starts_with(&renewed_purpose(&row.space, ""))
            })
        };
        for (name, wrapped) in table::keys(db)? {
            if of_aside(&name) {
                table::remove_key(db, &name)?;
                continue;
            }
            table::set_key(db, &name, &reseal(&name, &wrapped)?)?;
        }
        for joining in table::joinings(db)? {
            let wrapped = reseal(&joining_purpose(&joining.id), &joining.wrapped)?;
            table::put_joining(db, &table::Joining { wrapped, ..joining })?;
        }
        for row in self.rows.iter().filter(|row| row.state == Membership::Joining) {
            table::remove_space(db, &row.space)?;
        }
        for row in homes {
            table::set_home(db, &row.space, &row.home)?;
        }
        table::remove_setting(db, PURGE_WISHED)?;
        // It is about to be another.
        table::remove_setting(db, KEY_FILE)?;
        let now = self.inner.env.now();
        let news = News::new(SecurityKind::Rotated, None, "purge: every key at rest");
        // A purge is done also where that cannot be noted.
        let _ = self.inner.append(db, &self.vault, Scope::Profile, &news, 1, now);
        Ok(table::set_setting(db, KEY_CREATED, &now.0.to_be_bytes())?)
    }

    fn copy(
        &self,
        source: &mut Connection,
        file: &str,
        key: &Secret<32>,
        tally: &mut Tally<'_>,
    ) -> Result<()> {
        let mut copying = self.storage.copy_of(source, file, key)?;
        let pages = loop {
            let copied = copying.step(source, STEP_PAGES).map_err(Error::from);
            match copied.and_then(|copied| step(Step::Copied).map(|()| copied)) {
                Ok(Copied::Partly { pages, .. }) => tally.tell(pages),
                Ok(Copied::Whole { pages }) => break pages,
                Err(e) => {
                    copying.abandon(source);
                    return Err(e);
                }
            }
        };
        tally.tell(pages);
        tally.before += pages;
        step(Step::Whole)
    }
}

struct Tally<'a> {
    /// Pages of the files that are complete.
    before: u64,
    pages_total: u64,
    progress: &'a mut dyn FnMut(PurgeProgress),
}

impl Tally<'_> {
    fn tell(&mut self, pages: u64) {
        let pages = self.before + pages;
        self.pages_total = self.pages_total.max(pages);
        (self.progress)(PurgeProgress { pages, pages_total: self.pages_total });
    }
}

/// About how many pages a file has; what is only in its WAL is counted when it is copied.
fn pages_of(storage: &Storage, file: &str) -> u64 {
    let bytes = storage.dir().and_then(|dir| dir.size(file).ok());
    bytes.map_or(0, |bytes| bytes / 4096)
}
