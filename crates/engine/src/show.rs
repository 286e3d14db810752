//! The visible stage: what entries of peers do to documents, after they are durable.
//!
//! A batch that others follow at once is only stored at first; then the documents take in what all
//! of them did together, which is many times faster for one that was edited often. What is durable
//! and not in the documents yet is kept in memory, and found again in the database after a crash:
//! its sections are those behind the last one `shown`. Whether a section counts does not depend on
//! how they are grouped.
//!
//! Invariant: damage to one document holds up no other. Where showing fails on something damaged it
//! is done again with care: each document by itself, made again from the log if it can be, and else
//! set aside, its sections waiting. What stands on a page that cannot be read is passed over
//! ([`crate::unreadable`]).

use std::mem;
use std::ops::RangeInclusive;

use larder_log::{Opened, kind};
use larder_store::StoreError;
use larder_store::space::sections::{self, Section, State};
use larder_types::ObjectId;
use larder_types::limits::{GATHERED_BYTES_MAX, RETRIES_MAX};
use rusqlite::Connection;

use crate::effects::Effects;
use crate::heal;
use crate::keyring::Opening;
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::trouble::is_damage;
use crate::unreadable::Thing;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// The sections that make documents.
pub(crate) const DOCUMENT_KINDS: RangeInclusive<u16> =
    kind::DOCUMENT_CREATE..=kind::DOCUMENT_DELETE;

/// What is durable and not in the documents yet.
#[derive(Default)]
pub(crate) struct Pending {
    /// In causal order, if all of it is here.
    sections: Vec<(Origin, Opened)>,
    bytes: usize,
    /// Whether some of it is in the database alone.
    is_partial: bool,
    /// Whether what waits is to be tried again.
    pub(crate) retries: bool,
    shown: i64,
}

impl Pending {
    pub(crate) fn load(db: &Connection, shown: Option<i64>) -> Result<Self> {
        let shown = match shown {
            Some(shown) => shown,
            None => sections::last(db)?,
        };
        let is_partial = !sections::applied(db, DOCUMENT_KINDS, shown, 1)?.is_empty();
        Ok(Self { is_partial, shown, ..Self::default() })
    }

    /// What is in the database of it, to be tried anew.
    pub(crate) fn again(&self, db: &Connection) -> Result<Self> {
        Ok(Self { retries: true, ..Self::load(db, Some(self.shown))? })
    }

    pub(crate) fn push(&mut self, origin: Origin, opened: Opened) {
        self.bytes += opened.body.len() + SECTION_BYTES;
        self.sections.push((origin, opened));
    }

    /// Whether more may be added before it is dealt with.
    pub(crate) fn may_grow(&self) -> bool {
        self.bytes <= GATHERED_BYTES_MAX && !self.is_partial
    }

    fn is_empty(&self) -> bool {
        self.sections.is_empty() && !self.is_partial
    }

    /// The last section that is dealt with, and all before it.
    pub(crate) fn shown(&mut self, db: &Connection) -> Result<i64> {
        if self.is_empty() {
            self.shown = sections::last(db)?;
        }
        Ok(self.shown)
    }
}

impl SpaceWriter {
    /// Makes readable what is durable and is not readable yet. Returns whether there was anything.
    ///
    /// # Errors
    /// The storage's errors; what is durable stays so.
    pub fn show(&mut self) -> Result<bool> {
        while !self.is_shown() {
            match self.record(|tx, state| state.show(tx)) {
                Err(error) if self.passes_over(&error) => {}
                shown => return shown.map(|()| true),
            }
        }
        Ok(false)
    }

    /// Tries again what had to be set aside because something was damaged.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn show_set_aside(&mut self) -> Result<()> {
        self.state_mut().damage.unreadable.forget();
        loop {
            let shown = self.record(|tx, state| {
                state.pending.retries = true;
                state.retried = 0;
                state.damage.has_set_aside = false;
                state.show(tx)
            });
            match shown {
                Err(error) if self.passes_over(&error) => {}
                shown => return shown,
            }
        }
    }

    /// Whether something was set aside since the log's end was read.
    pub fn has_set_aside(&self) -> bool {
        self.state().damage.has_set_aside
    }

    /// Bytes of memory that what is durable and not readable takes: at most [`GATHERED_BYTES_MAX`]
    /// and the sections of one entry.
    pub fn bytes_gathered(&self) -> usize {
        self.state().pending.bytes
    }

    /// Whether everything that is durable is readable, as far as it is known: after a failure it
    /// is not.
    pub fn is_shown(&self) -> bool {
        let pending = &self.state().pending;
        self.db.is_some() && pending.is_empty() && !pending.retries
    }
}

impl WriterState {
    /// Brings the documents up to date with everything that is durable.
    pub(crate) fn show(&mut self, db: &Connection) -> Result<()> {
        if self.pending.is_empty() && !self.pending.retries {
            return Ok(());
        }
        let queue = self.queue;
        begin(db)?;
        let is_expected = self.damage.unreadable.is_expected();
        let shown = if is_expected { self.show_carefully(db) } else { self.show_all(db) };
        match shown {
            Err(error) if is_bad(&error) && !db.is_autocommit() && !is_expected => {
                undo(db)?;
                self.pending = self.pending.again(db)?;
                self.queue = queue;
                self.cache.clear();
                self.show_carefully(db)?;
            }
            shown => shown?,
        }
        end(db)
    }

    fn show_carefully(&mut self, db: &Connection) -> Result<()> {
        let before = mem::replace(&mut self.damage.is_careful, true);
        let shown = self.show_all(db);
        self.damage.is_careful = before;
        shown?;
        self.damage.unreadable.found_all();
        self.load_missing(db)
    }

    /// Does what passes over whatever is known to stand on pages that cannot be read.
    pub(crate) fn carefully<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.damage.is_careful;
        self.damage.is_careful |= self.damage.unreadable.is_expected();
        let done = work(self);
        self.damage.is_careful = before;
        done
    }

    fn show_all(&mut self, db: &Connection) -> Result<()> {
        let mut progress = mem::take(&mut self.pending.retries);
        if self.pending.is_partial {
            progress |= self.show_stored(db)?;
        } else {
            let sections = mem::take(&mut self.pending.sections);
            let mut effects = Effects::default();
            for (origin, opened) in sections {
                progress |= self.show_one(db, origin, opened, &mut effects)?;
            }
            progress |= self.write_effects(db, effects)?;
        }
        self.pending.bytes = 0;
        if progress {
            self.retry(db)?;
        }
        Ok(())
    }

    /// The same from the database.
    fn show_stored(&mut self, db: &Connection) -> Result<bool> {
        let mut progress = false;
        let mut effects = Effects::default();
        let mut after = self.pending.shown;
        let end = sections::last(db)?;
        while after < end {
            let limit = u32::try_from(RETRIES_MAX).unwrap_or(u32::MAX);
            let lot = if self.damage.is_careful {
                after += 1;
                let is_shown = |section: &Section| {
                    let kind = section.about.map(|about| about.kind);
                    section.state == State::Applied
                        && kind.is_some_and(|kind| DOCUMENT_KINDS.contains(&kind))
                };
                self.section(db, after)?.filter(is_shown).into_iter().collect()
            } else {
                let lot = sections::applied(db, DOCUMENT_KINDS, after, limit)?;
                after = lot.last().map_or(end, |last| last.section);
                lot
            };
            for section in &lot {
                let Some((origin, opened)) = self.open_or_forget(db, section)? else { continue };
                progress |= self.show_one(db, origin, opened, &mut effects)?;
            }
        }
        progress |= self.write_effects(db, effects)?;
        self.pending.sections = Vec::new();
        self.pending.is_partial = false;
        Ok(progress)
    }

    fn show_one(
        &mut self,
        db: &Connection,
        origin: Origin,
        opened: Opened,
        effects: &mut Effects,
    ) -> Result<bool> {
        let object = opened.metadata.object;
        let taken =
            self.apart(db, |state| state.take_document(db, origin, opened, None, effects))?;
        let state = taken.unwrap_or_else(|error| {
            self.set_aside(object, &error);
            State::Waiting
        });
        // It stands as applied.
        if state != State::Applied {
            sections::settle(db, origin.place(), state, None)?;
        }
        match effects.take_large() {
            Some(large) => self.write_effects(db, large),
            None => Ok(false),
        }
    }

    /// Does what concerns one document. In careful showing the inner error says on what damage it
    /// failed, and then it is as if nothing had been done.
    pub(crate) fn apart<T>(
        &mut self,
        db: &Connection,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Result<T>> {
        if !self.damage.is_careful {
            return work(self).map(Ok);
        }
        let queue = self.queue;
        begin(db)?;
        let done = work(self);
        match done {
            Ok(done) => {
                self.damage.unreadable.leave();
                end(db)?;
                Ok(Ok(done))
            }
            Err(error) if is_bad(&error) && !db.is_autocommit() => {
                self.damage.unreadable.leave();
                undo(db)?;
                end(db)?;
                self.queue = queue;
                self.cache.clear();
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a document again that turned out to be damaged, from all that is durable. Whether that
    /// changed it.
    pub(crate) fn mend(&mut self, db: &Connection, object: ObjectId) -> Result<bool> {
        let is_unreadable = self.damage.unreadable.contains(&Thing::Document(object));
        if is_unreadable || !mem::take(&mut self.damage.is_careful) {
            return Ok(false);
        }
        let queue = self.queue;
        begin(db)?;
        let mended = heal::mend(db, self, object);
        if db.is_autocommit() {
            self.damage.is_careful = true;
            return mended;
        }
        self.damage.unreadable.leave();
        let is_mended = matches!(mended, Ok(true));
        if !is_mended {
            undo(db)?;
            self.queue = queue;
            self.cache.clear();
        }
        end(db)?;
        self.damage.is_careful = true;
        match mended {
            Err(error) if !is_bad(&error) => Err(error),
            _ => Ok(is_mended),
        }
    }

    /// What is damaged is said to be so, and tried again later.
    pub(crate) fn set_aside(&mut self, object: Option<ObjectId>, error: &Error) {
        self.damage.has_set_aside = true;
        let what = match error {
            Error::Corrupt(what) => what.clone(),
            error => error.to_string(),
        };
        let what = match object {
            Some(object) if !what.contains(&object.to_string()) => {
                format!("document {object}: {what}")
            }
            _ => what,
        };
        self.shared.trouble.read_failed(&Error::Corrupt(what));
    }

    /// A section by its number, unless it cannot be read.
    pub(crate) fn section(&mut self, db: &Connection, number: i64) -> Result<Option<Section>> {
        let thing = Thing::Section(number);
        if let Err(error) = self.damage.unreadable.enter(thing) {
            self.set_aside(None, &error);
            return Ok(None);
        }
        Ok(sections::numbered(db, number)?)
    }

    /// Bytes that are damaged are wanted from other devices from now on.
    fn open_or_forget(
        &mut self,
        db: &Connection,
        section: &Section,
    ) -> Result<Option<(Origin, Opened)>> {
        match self.open_again(db, section) {
            Err(error) if self.damage.is_careful && is_damage(&error) && !db.is_autocommit() => {
                if let Err(error) = self.apart(db, |state| heal::forget(db, state, section))? {
                    self.set_aside(section.about.and_then(|about| about.object), &error);
                }
                Ok(None)
            }
            opened => opened,
        }
    }

    /// A section that was opened when it was stored. `None`: its bytes have been dropped since.
    fn open_again(&self, db: &Connection, section: &Section) -> Result<Option<(Origin, Opened)>> {
        let Some((entry, opening)) = self.open_stored(db, section)? else { return Ok(None) };
        let Opening::Opened(opened) = opening else {
            let message = "a section that was opened does not open again";
            return Err(Error::Corrupt(message.into()));
        };
        let of = (opened.metadata.clock, self.band_of(section)?);
        let origin = Origin::of_stored(db, section.place, entry, of)?;
        Ok(Some((origin, *opened)))
    }
}

/// Whether an error says that something stored is damaged, as far as it can be told from one of the
/// database as a whole.
pub(crate) fn is_bad(error: &Error) -> bool {
    is_damage(error) || matches!(error, Error::Document(_))
}

fn run(db: &Connection, sql: &str) -> Result<()> {
    let failed = |source| Error::Store(StoreError::Write { part: "transaction", source });
    db.execute_batch(sql).map_err(failed)
}

fn begin(db: &Connection) -> Result<()> {
    run(db, "SAVEPOINT shown")
}

fn undo(db: &Connection) -> Result<()> {
    run(db, "ROLLBACK TO shown")
}

fn end(db: &Connection) -> Result<()> {
    run(db, "RELEASE shown")
}

/// What a section takes in memory besides its body.
const SECTION_BYTES: usize = 512;
