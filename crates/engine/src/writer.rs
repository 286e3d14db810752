//! The one writer of a space: every transaction goes through [`SpaceWriter::transact`].

use std::sync::Arc;

use larder_store::{ErrorKind, Lent, StoreError};
use larder_types::limits::BUSY_RETRIES_MAX;
use rusqlite::Transaction;

use crate::space::{Shared, Space};
use crate::state::State;
use crate::{Error, Result};

/// Writes one space: units of its app, batches of its peers. There is one per space; its calls
/// block until what they did is durable.
pub struct SpaceWriter {
    pub(crate) shared: Arc<Shared>,
    /// None after a failure, until the log's end is read on a new connection.
    db: Option<Lent>,
    state: State,
    /// Set if this copy of the space must not sign any more.
    rolled_back: Option<(u64, u64)>,
}

impl std::fmt::Debug for SpaceWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpaceWriter").field("space", &self.shared.name).finish_non_exhaustive()
    }
}

impl SpaceWriter {
    /// Takes the pool's writing connection and reads the log's end. `signed` is the last entry
    /// that this device is known to have signed.
    pub(crate) fn open(shared: &Arc<Shared>, signed: u64) -> Result<Self> {
        let db = shared.pool.writer()?;
        let state = State::load(&db, shared)?;
        let found = state.frontier.size();
        let rolled_back = (signed > found).then_some((signed, found));
        shared.publish(&state.roster, &state.keyring);
        Ok(Self { shared: Arc::clone(shared), db: Some(db), state, rolled_back })
    }

    /// The reading side.
    pub fn space(&self) -> Space {
        Space { shared: Arc::clone(&self.shared) }
    }

    /// Does `work` in one transaction: all of it is durable when this returns, or nothing is left.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        if let Some((signed, found)) = self.rolled_back {
            return Err(Error::RolledBack { signed, found });
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => self.reopen()?,
        };
        match attempt(&mut db, &mut self.state, work) {
            Ok(done) => {
                self.db = Some(db);
                self.shared.publish(&self.state.roster, &self.state.keyring);
                let (size, root) = (self.state.frontier.size(), self.state.frontier.root());
                self.shared.mirror.note(&self.shared.id, size, &root);
                Ok(done)
            }
            // What is known in memory may be ahead of the disk now. After a failed COMMIT it is not
            // even known what reached it: a new connection reads the log's end before anything is
            // signed again.
            Err(e) => {
                db.discard();
                Err(e)
            }
        }
    }

    fn reopen(&mut self) -> Result<Lent> {
        let db = self.shared.pool.writer()?;
        self.state = State::load(&db, &self.shared)?;
        Ok(db)
    }

    /// A peer holds more of this device's log than this copy of it does: it is an old one, and
    /// must not sign any more.
    pub(crate) fn freeze(&mut self, signed: u64) {
        self.rolled_back.get_or_insert((signed, self.state.frontier.size()));
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Writes the WAL back into the file and ends writing.
    ///
    /// # Errors
    /// The storage's errors; what was committed before is safe all the same.
    pub fn close(&mut self) -> Result<()> {
        let (size, root) = (self.state.frontier.size(), self.state.frontier.root());
        self.shared.mirror.write(&self.shared.id, size, &root)?;
        if let (Some(db), Some(_)) = (self.db.take(), &self.shared.file) {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(|source| StoreError::Write { part: "checkpoint", source })?;
        }
        Ok(())
    }
}

fn attempt<T>(
    db: &mut Lent,
    state: &mut State,
    work: impl FnOnce(&mut Transaction<'_>, &mut State) -> Result<T>,
) -> Result<T> {
    let mut tries = 1;
    // Each try waits for the connection's own busy timeout.
    while let Err(e) = larder_store::begin(db).map(drop) {
        if e.kind() != ErrorKind::Busy || tries == BUSY_RETRIES_MAX {
            return Err(e.into());
        }
        tries += 1;
    }
    let mut tx = larder_store::begin(db)?;
    let done = work(&mut tx, state)?;
    state.save(&tx)?;
    larder_store::commit(tx)?;
    Ok(done)
}
