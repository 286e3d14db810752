//! The one writer of a space: every transaction goes through [`SpaceWriter::transact`].

use std::sync::Arc;

use larder_log::merkle;
use larder_store::space::logs::{self, LogId, Tree};
use larder_store::{ErrorKind, Lent, StoreError};
use larder_types::Hash;
use larder_types::limits::BUSY_RETRIES_MAX;
use rusqlite::{Connection, Transaction};

use crate::carry;
use crate::contract::Noticed;
use crate::heal;
use crate::rekey::Renewal;
use crate::sight::Sight;
use crate::space::{Frozen, Shared, Space};
use crate::state::State;
use crate::tally::Tally;
use crate::trouble::is_damage;
use crate::{Error, Result};

/// Writes one space: units of its app, batches of its peers. There is one per space; its calls
/// block until what they did is durable.
pub struct SpaceWriter {
    pub(crate) shared: Arc<Shared>,
    /// None after a failure, until the log's end is read on a new connection.
    pub(crate) db: Option<Lent>,
    /// Ahead of the disk after a failure, until it is read anew.
    state: State,
    /// The own log's end as it is known to be on disk.
    durable: End,
    pub(crate) renewal: Renewal,
    /// Whether room in the file is being given back.
    pub(crate) shrinks: bool,
}

/// The size and root of the own log at some time. No root is known of a log that was never signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) size: u64,
    pub(crate) root: Option<Hash>,
}

impl End {
    /// Of a log that was never signed.
    pub(crate) const NONE: Self = Self { size: 0, root: None };

    fn of(state: &State) -> Self {
        Self { size: state.frontier.size(), root: Some(state.frontier.root()) }
    }
}

impl std::fmt::Debug for SpaceWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpaceWriter").field("space", &self.shared.name).finish_non_exhaustive()
    }
}

impl SpaceWriter {
    /// Takes the pool's writing connection and reads the log's end. `signed` is the last end that
    /// this device is known to have signed.
    pub(crate) fn open(shared: &Arc<Shared>, signed: End) -> Result<Self> {
        let mut db = shared.pool.writer()?;
        let mut state = State::load(&db, shared)?;
        match compare(&db, &state, signed) {
            // What was signed is there, and the tree over it can be made again.
            Err(error) if is_damage(&error) => {
                heal::mend_logs(&mut db, &state)?;
                state = State::load(&db, shared)?;
                match compare(&db, &state, signed) {
                    // No more of the tree can be made again. It ends in what was signed all the
                    // same; what is missing the space's state tells.
                    Err(error) if is_damage(&error) && End::of(&state) == signed => {}
                    compared => compared?,
                }
            }
            compared => compared?,
        }
        heal::glance(&db, &state);
        carry::notice(&db, shared)?;
        state.publish();
        shared.queue.publish(state.queue);
        let durable = End::of(&state);
        let renewal = Renewal::new(shared.home().row.rekey_wished_at.is_some());
        let (shared, db) = (Arc::clone(shared), Some(db));
        let mut writer = Self { shared, db, state, durable, renewal, shrinks: false };
        writer.settle_embedder();
        Ok(writer)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// What was counted since the last time that this was asked.
    pub fn counted(&mut self) -> Tally {
        let (cache_hits, cache_misses) = self.state.cache.uses();
        Tally { cache_hits, cache_misses, ..std::mem::take(&mut self.state.tally) }
    }

    /// What contracts have to tell of what was committed last, once.
    pub fn noticed(&mut self) -> Vec<Noticed> {
        std::mem::take(&mut self.state.noticed)
    }

    /// The reading side.
    pub fn space(&self) -> Space {
        Space { shared: Arc::clone(&self.shared), sight: Sight::default() }
    }

    /// Whether this device may write content now.
    ///
    /// # Errors
    /// What any writing would fail with: [`Error::MayNotWrite`], [`Error::ShutOut`],
    /// [`Error::NotYetEnrolled`], or why nothing is signed.
    pub fn check_may_write(&mut self) -> Result<()> {
        self.transact(|_, state| state.check_may_write())
    }

    /// Does `work` in one transaction: all of it is durable when this returns, or nothing is left.
    /// It sees the effects of everything that is durable: an entry names only those.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        let mut work = Some(work);
        loop {
            let done = self.transact_behind(|tx, state| {
                state.show(tx)?;
                state.tend_recovery(tx)?;
                let again = || Error::Internal("a transaction is done twice".into());
                work.take().ok_or_else(again)?(tx, state)
            });
            match done {
                Err(error) if work.is_some() && self.passes_over(&error) => {}
                done => return done,
            }
        }
    }

    /// The same for what needs no documents and writes no entry.
    pub(crate) fn transact_behind<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        self.shared.check_may_sign()?;
        let db = self.connection()?;
        if let Err(frozen) = self.shared.check_may_sign() {
            self.db = Some(db);
            return Err(frozen);
        }
        self.write(db, work)
    }

    /// [`SpaceWriter::transact`] for what signs nothing, and is done even if nothing is signed any
    /// more.
    pub(crate) fn record<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        let db = self.connection()?;
        self.write(db, work)
    }

    /// [`SpaceWriter::transact`] for what must be recorded even if nothing is signed any more.
    pub(crate) fn write<T>(
        &mut self,
        mut db: Lent,
        work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        self.state.before();
        match attempt(&mut db, &mut self.state, work) {
            Ok(done) => {
                self.db = Some(db);
                self.durable = End::of(&self.state);
                self.state.damage.unreadable.committed();
                self.shared.trouble.wrote();
                self.state.publish();
                self.shared.queue.publish(self.state.queue);
                self.state.end_recovery();
                self.shared.note_refused(std::mem::take(&mut self.state.tally.refused));
                if let (true, Some(root)) = (self.is_mirrored(), &self.durable.root) {
                    self.shared.mirror.note(&self.shared.id, self.durable.size, root);
                }
                Ok(done)
            }
            // What is known in memory may be ahead of the disk now. After a failed COMMIT it is not
            // even known what reached it: a new connection reads the log's end before anything is
            // signed again.
            Err(e) => {
                self.shared.trouble.write_failed(&e);
                self.state.undone();
                self.give_up_rekey(&mut db);
                db.discard();
                Err(e)
            }
        }
    }

    pub(crate) fn connection(&mut self) -> Result<Lent> {
        self.settle()?;
        if let Some(db) = self.db.take() {
            return Ok(db);
        }
        let db = self.shared.pool.writer()?;
        let mut state = State::load(&db, &self.shared)?;
        state.go_on_from(&mut self.state);
        self.state = state;
        compare(&db, &self.state, self.durable)?;
        Ok(db)
    }

    /// Writes the WAL back into the file if it has more than `bytes_max`, which SQLite does by
    /// itself unless that fails. Then the file is opened anew: once a sync of it has failed,
    /// nothing else helps. [`Space::state`] says so meanwhile.
    ///
    /// # Errors
    /// The storage's errors; what was committed is safe all the same.
    pub fn write_back(&mut self, bytes_max: u64) -> Result<()> {
        if self.shared.home().wal_bytes()? <= bytes_max || self.wants_rekey() {
            return Ok(());
        }
        let part = "checkpoint";
        self.writing_back(|db| {
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
                .map_err(|source| StoreError::Write { part, source })
        })
    }

    /// [`larder_store::empty_wal`], of the space.
    pub(crate) fn empty_wal(&mut self) -> Result<bool> {
        let is_empty = self.writing_back(larder_store::empty_wal)?;
        self.shared.left.wal_emptied(is_empty);
        Ok(is_empty)
    }

    /// Has `work` write the WAL back, and opens the file anew if that fails.
    fn writing_back<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> std::result::Result<T, StoreError>,
    ) -> Result<T> {
        let db = self.connection()?;
        match work(&db) {
            Ok(done) => {
                self.db = Some(db);
                self.shared.trouble.wrote_back(None);
                Ok(done)
            }
            Err(error) => {
                let what = std::error::Error::source(&error).map(ToString::to_string);
                let home = self.shared.home();
                let bytes = home.wal_bytes().unwrap_or_default();
                self.shared.trouble.wrote_back(Some((what.unwrap_or_default(), bytes)));
                db.discard();
                self.shared.pool.switch(home.opener(false));
                Err(error.into())
            }
        }
    }

    /// Whether the own log is known to go on from what was mirrored.
    fn is_mirrored(&self) -> bool {
        !self.shared.is_frozen() && !self.shared.is_recovering()
    }

    /// Writes the WAL back into the file and ends writing.
    ///
    /// # Errors
    /// The storage's errors; what was committed before is safe all the same.
    pub fn close(&mut self) -> Result<()> {
        // Not what a failed transaction left in memory, and not another history than was signed.
        let mirrored = match (self.is_mirrored(), &self.durable.root) {
            (true, Some(root)) => {
                self.shared.mirror.write(&self.shared.id, self.durable.size, root)
            }
            _ => Ok(()),
        };
        // Given back whatever fails: who closes the space waits for it.
        let Some(mut db) = self.db.take() else { return mirrored };
        self.give_up_rekey(&mut db);
        let mut written_back = Ok(());
        if self.shared.home().is_on_disk() {
            written_back = db
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(|source| StoreError::Write { part: "checkpoint", source }.into());
        }
        mirrored.and(written_back)
    }
}

impl Drop for SpaceWriter {
    fn drop(&mut self) {
        if let Some(mut db) = self.db.take() {
            self.give_up_rekey(&mut db);
        }
    }
}

/// Compares the own log as it was read with what this device is known to have signed of it: a copy
/// that is behind, or has another history, must not sign.
fn compare(db: &Connection, state: &State, signed: End) -> Result<()> {
    let found = state.frontier.size();
    // What it lacks is known to be lacking.
    if signed.size > found && state.shared.is_recovering() {
        return Ok(());
    }
    if signed.size > found {
        state.shared.freeze(Frozen::Behind { signed: signed.size, found });
        return Ok(());
    }
    if logs::by_number(db, state.log)?.stopped.is_some() || !goes_through(db, state.log, &signed)? {
        state.shared.freeze(Frozen::OtherHistory);
    }
    Ok(())
}

/// Whether a log, which is as long at least, has this root at this size.
pub(crate) fn goes_through(db: &Connection, log: LogId, end: &End) -> Result<bool> {
    Ok(match end.root {
        Some(root) => merkle::root_at(&Tree::new(db, log), end.size)? == root,
        None => true,
    })
}

fn attempt<T>(
    db: &mut Lent,
    state: &mut State,
    work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
) -> Result<T> {
    let mut tries = 1;
    // Each try waits for the connection's own busy timeout.
    let mut tx = loop {
        match larder_store::begin(db) {
            Ok(tx) => break tx,
            Err(e) if e.kind() != ErrorKind::Busy || tries == BUSY_RETRIES_MAX => {
                return Err(e.into());
            }
            Err(_) => tries += 1,
        }
    };
    state.begin(&tx);
    let done = work(&mut tx, state)?;
    state.rejudge(&tx)?;
    state.settle_clearance(&tx)?;
    state.forget_above(&tx)?;
    state.settle_erasures(&tx)?;
    state.settle_policy(&tx)?;
    state.save(&tx)?;
    larder_store::commit(tx)?;
    Ok(done)
}
