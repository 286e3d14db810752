//! What the disk may still have of what was erased, and the word that it has nothing of it.
//!
//! The transaction that erases leaves zeros where something was (`PRAGMA secure_delete`), and no
//! page gets into the file with anything in the room that its tree does not use
//! (`docs/decisions/0024-erased-from-the-disk.md`). What is left is in the WAL, which is written
//! back and emptied, in words that wait to be taken out of their index, and in pages kept in
//! memory. Each step can be cut: what is open is noted in `erasures`, and done again.

use larder_log::VERSION;
use larder_log::act::Act;
use larder_log::erasure::{ErasedAct, Erasure};
use larder_store::space::erasures::{self, State as Stage};
use larder_types::limits::{ERASED_ACTS_MAX, INDEX_DOCUMENTS_MAX};
use rusqlite::Connection;

use crate::Result;
use crate::recovery::aside_purpose;
use crate::rekey::step;
use crate::renew::renewed_purpose;
use crate::state::State as WriterState;
use crate::steps::Step;
use crate::writer::SpaceWriter;

impl SpaceWriter {
    /// Whether [`SpaceWriter::finish_erasures`] has something to do.
    pub fn wants_erasing(&self) -> bool {
        self.state().erasing.is_open
    }

    /// Sees to it that the disk has nothing of what was erased any more, and says so to the other
    /// devices. Returns whether that is done: not while somebody reads from before, nor while the
    /// space's key is renewed, this device may write nothing or has not heard yet that it is one
    /// of the space's, or a damaged file of the space is kept, which only a purge removes. To be
    /// called once nothing is more urgent, for as long as [`SpaceWriter::wants_erasing`].
    ///
    /// # Errors
    /// The storage's errors; it is done the next time.
    pub fn finish_erasures(&mut self) -> Result<bool> {
        if !self.wants_erasing() {
            return Ok(true);
        }
        // A newcomer may hear of erasures before it hears that it belongs to the space.
        let is_nobody = self.state().roster.known(&self.state().device()).is_none();
        let may_say = self.shared.may_append() && !is_nobody;
        if self.wants_rekey() || !may_say || self.has_set_aside_file()? {
            return Ok(false);
        }
        if self.state().erasing.awaits() {
            // As it was found when the space was opened, it need not wait any more.
            self.transact(|_, _| Ok(()))?;
        }
        self.show()?;
        while self.index(INDEX_DOCUMENTS_MAX)? > 0 {}
        let db = self.connection()?;
        let open = erasures::open(&db, u32::try_from(ERASED_ACTS_MAX).unwrap_or(u32::MAX));
        self.db = Some(db);
        let mut open = open?;
        if !self.empty_wal()? {
            return Ok(false);
        }
        open.retain(|erasure| !self.state().erasing.keeps(&erasure.object));
        if open.is_empty() {
            return Ok(false);
        }
        step(Step::ErasedFromDisk)?;
        self.transact(|tx, state| state.report_erasures(tx, &open))?;
        Ok(!self.wants_erasing())
    }

    fn has_set_aside_file(&self) -> Result<bool> {
        let aside = aside_purpose(&self.shared.id, "");
        let keys = self.shared.profile.with_db(|db| Ok(larder_store::profile::keys(db)?))?;
        let renewed = renewed_purpose(&self.shared.id, "");
        let is_of_aside = |name: &str| name.starts_with(&aside) || name.starts_with(&renewed);
        Ok(keys.iter().any(|(name, _)| is_of_aside(name)))
    }
}

impl WriterState {
    fn report_erasures(&mut self, db: &Connection, open: &[erasures::Erasure]) -> Result<()> {
        // Something more may have come of one meanwhile: then it is open once more after this.
        for erasure in open {
            erasures::set_stage(db, erasure.erasure, Stage::Done)?;
        }
        let own = self.roster.device(&self.device());
        if own.is_some_and(|own| own.role.may_read()) && !open.is_empty() {
            let mut done: Vec<Erasure> = open
                .iter()
                .map(|erasure| Erasure { entry: erasure.entry, index: erasure.place.index })
                .collect();
            done.sort_unstable();
            done.dedup();
            self.append_act(db, &Act::Erased(ErasedAct { v: VERSION, done }))?;
            self.sign(db)?;
        }
        self.erasing.is_open = erasures::any_open(db)?;
        Ok(())
    }
}
