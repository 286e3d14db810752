use std::sync::{Mutex, PoisonError};

use larder_store::StoreError;
use larder_store::profile as table;
use larder_types::{Hash, SpaceId};

use crate::Result;
use crate::profile::Db;
use crate::writer::End;

/// The profile's memory of how far a space's own log was signed: a space file that is behind it was
/// rolled back. Behind by a little is normal for what is on this device alone; for what another
/// may hold it is exact.
pub(crate) struct Mirror {
    db: Db,
    noted: Mutex<End>,
}

const ENTRIES: u64 = 64;

impl Mirror {
    /// The mirror of a space's own log, which was noted up to `noted`.
    pub(crate) fn new(db: Db, noted: End) -> Self {
        Self { db, noted: Mutex::new(noted) }
    }

    /// How far the profile remembers it.
    pub(crate) fn end(&self) -> End {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The own log has grown to `seq`. Written every [`ENTRIES`] entries; a failure to do so
    /// is no failure of the commit.
    pub(crate) fn note(&self, space: &SpaceId, seq: u64, root: &Hash) {
        // While somebody else writes it, a commit does not wait for that.
        let Ok(noted) = self.noted.try_lock().map(|noted| noted.size) else { return };
        if seq >= noted.saturating_add(ENTRIES) {
            let _ = self.write(space, seq, root);
        }
    }

    /// What is known of it beyond what is here is nowhere, and is not waited for.
    pub(crate) fn forget(&self, space: &SpaceId) -> Result<()> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        table::forget_mirror(db.as_ref().ok_or(StoreError::Closed)?, space)?;
        *noted = End::NONE;
        Ok(())
    }

    /// Writes it now, durably, if it has grown.
    pub(crate) fn write(&self, space: &SpaceId, seq: u64, root: &Hash) -> Result<()> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if seq > noted.size {
            let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
            table::set_mirror(db.as_ref().ok_or(StoreError::Closed)?, space, seq, root)?;
            *noted = End { size: seq, root: Some(*root) };
        }
        Ok(())
    }
}
