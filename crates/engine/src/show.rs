//! The visible stage: what entries of peers do to documents, after they are durable.
//!
//! A batch that others follow at once is only stored at first; then the documents take in what all
//! of them did together, which is many times faster for one that was edited often. What is durable
//! and not in the documents yet is kept in memory, and found again in the database after a crash:
//! its sections are those behind the last one `shown`. Whether a section counts does not depend on
//! how they are grouped.

use std::mem;
use std::ops::RangeInclusive;

use larder_log::{Opened, kind};
use larder_store::space::sections::{self, Section, State};
use larder_types::limits::{GATHERED_BYTES_MAX, RETRIES_MAX};
use rusqlite::Connection;

use crate::effects::Effects;
use crate::keyring::Opening;
use crate::rows::Origin;
use crate::state::State as WriterState;
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
        if self.is_shown() {
            return Ok(false);
        }
        let db = self.connection()?;
        self.write(db, |tx, state| state.show(tx))?;
        Ok(true)
    }

    /// Whether everything that is durable is readable.
    pub fn is_shown(&self) -> bool {
        let pending = &self.state().pending;
        pending.is_empty() && !pending.retries
    }
}

impl WriterState {
    /// Brings the documents up to date with everything that is durable.
    pub(crate) fn show(&mut self, db: &Connection) -> Result<()> {
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
        loop {
            let limit = u32::try_from(RETRIES_MAX).unwrap_or(u32::MAX);
            let lot = sections::applied(db, DOCUMENT_KINDS, after, limit)?;
            let Some(last) = lot.last() else { break };
            after = last.section;
            for section in &lot {
                let Some((origin, opened)) = self.open_again(db, section)? else { continue };
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
        let state = self.take_document(db, origin, opened, None, effects)?;
        // It stands as applied.
        if state != State::Applied {
            sections::settle(db, origin.place(), state, None)?;
        }
        match effects.take_large() {
            Some(large) => self.write_effects(db, large),
            None => Ok(false),
        }
    }

    /// A section that was opened when it was stored. `None`: its bytes have been dropped since.
    fn open_again(&self, db: &Connection, section: &Section) -> Result<Option<(Origin, Opened)>> {
        let Some((entry, opening)) = self.open_stored(db, section)? else { return Ok(None) };
        let Opening::Opened(opened) = opening else {
            let message = "a section that was opened does not open again";
            return Err(Error::Corrupt(message.into()));
        };
        let origin = Origin::of_stored(db, section.place, entry, opened.metadata.clock)?;
        Ok(Some((origin, *opened)))
    }
}

/// What a section takes in memory besides its body.
const SECTION_BYTES: usize = 512;
