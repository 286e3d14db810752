//! What the disk may still have of secrets and sealing keys that were let go of.
//!
//! The transaction that lets go leaves zeros where they were, as one that erases does
//! (`docs/decisions/0024-erased-from-the-disk.md`). What is left is in the WALs of the space and of
//! the profile, which are written back and emptied. That this is open is not noted on the disk: who
//! was cut finds a WAL that has something, and empties that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::writer::SpaceWriter;

/// Whether a database's WAL may have what was let go of.
pub(crate) struct Left(AtomicBool);

impl Left {
    /// Of a database that is opened: whether its WAL may have anything.
    pub(crate) fn new(may_have_wal: bool) -> Self {
        Self(AtomicBool::new(may_have_wal))
    }

    /// Something is let go of.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wal_emptied(&self, is_empty: bool) {
        self.0.fetch_and(!is_empty, Ordering::Relaxed);
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl SpaceWriter {
    /// Whether the disk may still have secrets that this device has let go of, or sealing keys.
    pub fn leaves_secrets(&self) -> bool {
        self.shared.left.is_any() || self.shared.profile.left.is_any()
    }

    /// Sees to it that the disk has nothing of secrets and sealing keys any more that this device
    /// has let go of. Returns whether that is done: not while somebody reads from before, nor while
    /// the space's key is renewed. To be called once nothing is more urgent, for as long as
    /// [`SpaceWriter::leaves_secrets`].
    ///
    /// # Errors
    /// The storage's errors; it is done the next time.
    pub fn finish_forgetting(&mut self) -> Result<bool> {
        let profile = Arc::clone(&self.shared.profile);
        let of_profile = profile.left.is_any().then(|| profile.empty_wal()).transpose();
        if self.shared.left.is_any() && !self.wants_rekey() {
            self.empty_wal()?;
        }
        of_profile?;
        Ok(!self.leaves_secrets())
    }
}
