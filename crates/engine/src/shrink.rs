//! Gives room that is free in a space's file back to the disk, a few pages at a time.
//!
//! Each step is one transaction, so whatever cuts it leaves the file whole, and somewhat shorter.

use larder_store::Room;
use larder_types::limits::{SHRINK_FREE_BYTES_MIN, SHRINK_FREE_PERCENT, SHRINK_STEP_PAGES};

use crate::writer::SpaceWriter;
use crate::{Error, Result};

impl SpaceWriter {
    /// Looks whether so much of the file is free that [`SpaceWriter::shrink_step`] should give it
    /// back: [`SHRINK_FREE_PERCENT`] of it, and [`SHRINK_FREE_BYTES_MIN`]. Returns the file's
    /// bytes, as they are once the WAL is written back.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn look_for_room(&mut self) -> Result<u64> {
        let db = self.connection()?;
        let found = larder_store::room(&db);
        self.db = Some(db);
        let Room { bytes, free, can_shrink } = found?;
        let is_much = free >= SHRINK_FREE_BYTES_MIN && free * 100 >= bytes * SHRINK_FREE_PERCENT;
        self.shrinks = can_shrink && is_much;
        Ok(bytes)
    }

    /// Whether [`SpaceWriter::shrink_step`] has something to do.
    pub fn wants_shrink(&self) -> bool {
        // A copy that is being made would have to begin anew.
        self.shrinks && !self.wants_rekey()
    }

    /// Moves some pages from the end of the file into free ones, and cuts it there. To be called
    /// between other work for as long as [`SpaceWriter::wants_shrink`].
    ///
    /// # Errors
    /// The storage's errors, a full disk among them: it is not tried again before the next look.
    pub fn shrink_step(&mut self) -> Result<()> {
        if !self.wants_shrink() {
            return Ok(());
        }
        self.shrinks = false;
        let left = self.record(|tx, _| {
            larder_store::give_back(tx, SHRINK_STEP_PAGES)?;
            Ok(larder_store::room(tx)?.free)
        })?;
        self.shrinks = left > 0;
        if self.shrinks {
            return Ok(());
        }
        let db = self.connection()?;
        // A reader may hold it back; then the next one that SQLite makes by itself does it.
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        let done = db.query_row(checkpoint, [], |_| Ok(()));
        self.db = Some(db);
        done.map_err(|source| {
            Error::from(larder_store::StoreError::Write { part: "checkpoint", source })
        })
    }
}
