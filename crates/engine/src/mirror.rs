use std::sync::{Mutex, PoisonError};

use larder_store::StoreError;
use larder_store::profile as table;
use larder_types::{Hash, SpaceId};

use crate::Result;
use crate::profile::Db;

/// The profile's memory of how far a space's own log was signed: a space file that is behind it was
/// rolled back. Written lazily; behind by a little is normal.
pub(crate) struct Mirror {
    db: Db,
    noted: Mutex<u64>,
}

const ENTRIES: u64 = 64;

impl Mirror {
    /// The mirror of a space's own log, which was noted up to `noted`.
    pub(crate) fn new(db: Db, noted: u64) -> Self {
        Self { db, noted: Mutex::new(noted) }
    }

    /// The own log has grown to `seq`. Written every [`ENTRIES`] entries; a failure to do so
    /// is no failure of the commit.
    pub(crate) fn note(&self, space: &SpaceId, seq: u64, root: &Hash) {
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if seq >= noted.saturating_add(ENTRIES) {
            let _ = self.write(space, seq, root);
        }
    }

    /// Writes it now, if it has grown.
    pub(crate) fn write(&self, space: &SpaceId, seq: u64, root: &Hash) -> Result<()> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if seq > *noted {
            let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
            table::set_mirror(db.as_ref().ok_or(StoreError::Closed)?, space, seq, root)?;
            *noted = seq;
        }
        Ok(())
    }
}
