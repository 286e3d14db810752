//! Another at-rest key for a space: its database is copied into a new file while it is used, and
//! one transaction of the profile's database names the new file and its key.
//!
//! Invariants: the profile names a whole file at any time, the old one or the new one; while it is
//! not known which of the two it names, nothing is written to either. A copy that is cut leaves
//! nothing that counts: it is begun anew, by itself, for as long as the profile has the wish.

use std::io;
use std::sync::Arc;

use larder_crypto::Secret;
use larder_log::security::{News, Scope};
use larder_pages::{Copied, Copying};
use larder_store::migrate::SPACE;
use larder_store::profile as table;
use larder_store::space::{control, logs};
use larder_store::{Access, Lent, StoreError};
use larder_types::limits::REKEY_AGE_MS;
use larder_types::{Entropy, SpaceId};
use rusqlite::Connection;

use crate::home::Home;
use crate::secrets::epoch_purpose;
use crate::security::SecurityKind;
use crate::state::load_keyring;
use crate::steps::{self, Step};
use crate::storage::Storage;
use crate::vault::{self, Vault};
use crate::{Error, Result, SpaceWriter, files};

/// How far the renewal of a space's at-rest key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rekey {
    /// None is wished for.
    Idle,
    /// Under way: pages copied, of those there are.
    Copying {
        /// Pages in the new file.
        pages: u64,
        /// Pages that the database has now.
        pages_total: u64,
    },
    /// The space is in its new file, under its new key.
    Done {
        /// Pages that were written.
        pages: u64,
    },
}

/// A copy that is being made.
pub(crate) struct Moving {
    copying: Copying,
    secret: Secret<32>,
    file: String,
}

/// What a writer knows of its space's renewal.
#[derive(Default)]
pub(crate) struct Renewal {
    wished: bool,
    moving: Option<Moving>,
    /// The last attempt failed: the next is made on demand, or when the space is opened again.
    failed: bool,
    /// A home that could not be made the space's, nor be ruled out to be it: nothing is written
    /// before the profile names the other one again.
    unsettled: Option<table::Home>,
}

impl Renewal {
    pub(crate) fn new(wished: bool) -> Self {
        Self { wished, ..Self::default() }
    }
}

impl SpaceWriter {
    /// Wishes for a new at-rest key. The wish is durable: it holds until the key is there, across
    /// restarts. [`SpaceWriter::rekey_step`] fulfils it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the profile keeps no encrypted files; the storage's errors.
    pub fn wish_rekey(&mut self) -> Result<()> {
        let profile = Arc::clone(&self.shared.profile);
        if !profile.storage.has_keys() {
            let message = "this profile keeps no encrypted files, so there is no key to renew";
            return Err(Error::Invalid(message.into()));
        }
        let now = self.shared.env.now();
        profile.write_db(|db| Ok(table::wish_rekey(db, &self.shared.id, now)?))?;
        (self.renewal.wished, self.renewal.failed) = (true, false);
        step(Step::Wished)
    }

    /// Wishes for a new at-rest key if this one is older than
    /// [`REKEY_AGE_MS`](larder_types::limits::REKEY_AGE_MS), by the clock as it is now. A key from
    /// the future counts as new.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn check_key_age(&mut self) -> Result<()> {
        let created = self.shared.home().row.key_created_at;
        let is_old = self.shared.env.now().saturating_since_ms(created) >= REKEY_AGE_MS;
        if is_old && !self.renewal.wished && self.shared.profile.storage.has_keys() {
            self.wish_rekey()?;
        }
        Ok(())
    }

    /// Whether [`SpaceWriter::rekey_step`] has something to do.
    pub fn wants_rekey(&self) -> bool {
        self.renewal.wished && !self.renewal.failed
    }

    /// Takes one step of the renewal that is wished for: copies
    /// [`REKEY_STEP_PAGES`](larder_types::limits::REKEY_STEP_PAGES) pages, or, once all are there,
    /// moves the space into the new file. To be called between other work for as long as
    /// [`SpaceWriter::wants_rekey`].
    ///
    /// # Errors
    /// The storage's errors, a full disk among them. The attempt is given up then, the new file
    /// removed, and the space stays where it is under the key that it has; the wish stays too.
    pub fn rekey_step(&mut self) -> Result<Rekey> {
        if !self.wants_rekey() {
            return Ok(Rekey::Idle);
        }
        let mut db = self.connection()?;
        let progress = match self.try_step(&mut db) {
            Ok(done @ Rekey::Done { .. }) => {
                // The old file goes with its last connection. Its WAL has nothing that is needed.
                let no_checkpoint = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
                let _ = db.set_db_config(no_checkpoint, true);
                db.discard();
                Ok(done)
            }
            Ok(progress) => {
                self.db = Some(db);
                Ok(progress)
            }
            Err(e) => {
                self.renewal.failed = true;
                self.give_up_rekey(&mut db);
                self.db = Some(db);
                Err(e)
            }
        };
        self.shared.set_rekey(progress.as_ref().copied().unwrap_or(Rekey::Idle));
        progress
    }

    fn try_step(&mut self, db: &mut Lent) -> Result<Rekey> {
        if self.renewal.moving.is_none() {
            self.renewal.moving = Some(self.begin(db)?);
            step(Step::Begun)?;
        }
        let Some(moving) = &mut self.renewal.moving else { return Ok(Rekey::Idle) };
        match moving.copying.step(db, steps::STEP_PAGES)? {
            Copied::Partly { pages, pages_total } => {
                step(Step::Copied)?;
                Ok(Rekey::Copying { pages, pages_total })
            }
            Copied::Whole { pages } => {
                step(Step::Whole)?;
                self.move_in(db)?;
                Ok(Rekey::Done { pages })
            }
        }
    }

    fn begin(&self, db: &mut Lent) -> Result<Moving> {
        let (id, profile) = (self.shared.id, &self.shared.profile);
        let secret = Secret::random(&mut *self.shared.env.entropy());
        let file = files::next_space_db(&id, &self.shared.home().row.file)?;
        let key = vault::space_db_key(&secret, &id);
        let copying = profile.storage.copy_of(db, &file, &key)?;
        Ok(Moving { copying, secret, file })
    }

    /// Makes the new file, which is whole, the space's.
    fn move_in(&mut self, db: &mut Lent) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (id, profile, old) = (shared.id, &shared.profile, shared.home());
        let Some(Moving { secret, file, .. }) = &self.renewal.moving else { return Ok(()) };
        let row = table::Home {
            file: file.clone(),
            wrapped_key: profile.seal(&file_purpose(&id), secret.expose()),
            key_created_at: shared.env.now(),
            rekey_wished_at: None,
        };
        let new = Home::new(&profile.storage, &id, row, secret);
        furnish(&profile.storage, &new, &old.vault, db, &mut *shared.env.entropy())?;
        step(Step::Rewrapped)?;
        let named = profile.write_db(|db| {
            table::set_home(db, &id, &new.row)?;
            let news = News::new(SecurityKind::Rotated, None, "key at rest");
            let (scope, now) = (Scope::Space(id), shared.env.now());
            // A key is renewed also where that cannot be noted.
            let _ = profile.append(db, &profile.vault, scope, &news, 1, now);
            step(Step::Naming)
        });
        if let Err(e) = named.and_then(|()| step(Step::Named)) {
            // Whether a failed commit reached the disk is not known.
            self.renewal.unsettled = Some(new.row);
            let _ = self.settle();
            return Err(e);
        }
        self.renewal = Renewal::default();
        shared.move_to(new);
        step(Step::Moved)
    }

    /// Has the profile name the file that is in use, if it is not known to.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let Some(other) = &self.renewal.unsettled else { return Ok(()) };
        let (id, profile) = (self.shared.id, &self.shared.profile);
        let mut row = self.shared.home().row.clone();
        row.rekey_wished_at = Some(self.shared.env.now());
        profile.write_db(|db| Ok(table::set_home(db, &id, &row)?))?;
        // Only now nothing can name it any more.
        let removed = profile.storage.remove(&other.file);
        self.renewal.unsettled = None;
        removed
    }

    /// Ends the copy under way, if there is one, before its connection goes; removes its file.
    pub(crate) fn give_up_rekey(&mut self, db: &mut Connection) {
        let Some(moving) = self.renewal.moving.take() else { return };
        moving.copying.abandon(db);
        if self.renewal.unsettled.is_none() {
            // What cannot be removed now is removed when the profile is opened next.
            let _ = self.shared.profile.storage.remove(&moving.file);
        }
        self.shared.set_rekey(Rekey::Idle);
    }
}

/// Makes a copy of a space's database, which is whole, a space's home of its own: what is sealed in
/// it is sealed under its own vault, and everything of it is durable. `source` is what was copied.
pub(crate) fn furnish(
    storage: &Storage,
    home: &Home,
    from: &Vault,
    source: &Connection,
    entropy: &mut dyn Entropy,
) -> Result<()> {
    let mut db = home.open(Access::Write)?;
    SPACE.verify(&db)?;
    let tx = larder_store::begin(&mut db)?;
    reseal_space(&tx, from, &home.vault, entropy)?;
    larder_store::commit(tx)?;
    load_keyring(&db, &home.vault)?;
    if logs::every(&db)? != logs::every(source)? {
        return Err(Error::Internal("a copy of a space is not like the space".into()));
    }
    close(db)?;
    storage.sync_names(&home.row.file)
}

fn reseal_space(
    db: &Connection,
    from: &Vault,
    to: &Vault,
    entropy: &mut dyn Entropy,
) -> Result<()> {
    for (name, wrapped) in control::secrets(db)? {
        control::set_secret(db, &name, &from.reseal(to, entropy, &name, &wrapped)?)?;
    }
    for epoch in control::epochs(db)? {
        let Some(wrapped) = &epoch.wrapped else { continue };
        let wrapped = from.reseal(to, entropy, &epoch_purpose(&epoch.epoch), wrapped)?;
        control::set_epoch_secrets(db, &epoch.epoch, Some(&wrapped))?;
    }
    Ok(())
}

/// Writes a database's WAL back and closes it.
pub(crate) fn close(db: Connection) -> Result<()> {
    let written = |source| StoreError::Write { part: "checkpoint", source };
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(written)?;
    Ok(db.close().map_err(|(_, source)| written(source))?)
}

pub(crate) fn file_purpose(id: &SpaceId) -> String {
    format!("file/{id}")
}

/// [`steps::reached`], failing with an error of this crate.
pub(crate) fn step(step: Step) -> Result<()> {
    steps::reached(step).map_err(|source: io::Error| Error::Io { path: "a test".into(), source })
}
