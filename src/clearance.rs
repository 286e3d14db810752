//! A handle of a space that shows less than the device may read.
//!
//! Invariant: a method of [`Space`] is refused on such a handle unless it reads by `read_seen` or
//! `seen`, or writes a unit by `unit_seen`: what nobody thought of shows nothing.

use std::sync::Arc;

use larder_engine::Band;

use crate::error::blocking;
use crate::metrics::Reading;
use crate::node::OpenSpace;
use crate::{Result, Space, UnitOfWork};

impl Space {
    /// The same space, for an app on a device that several people use: as a device sees it that is
    /// cleared for `band`, or for what this handle shows if that is less. Documents, deletions and
    /// blobs above it are not there: no reading, search, history, change, count or error tells of
    /// them, and what would be written above it is refused. An id that one of them has cannot be
    /// used. What concerns the space as a whole (devices, roles, erasure, retention, keys, exports
    /// of receipts, checks) is refused with
    /// [`ErrorKind::NotAllowed`](crate::ErrorKind::NotAllowed). There is no way back from such a
    /// handle to more.
    ///
    /// It is a matter of this process: its memory, and this [`Profile`](crate::Profile) with its
    /// events and its status, have all that the device may read. That something is written, at
    /// what time, and how much takes how long, can be seen, as devices of that clearance see it.
    #[must_use]
    pub fn at_clearance(&self, band: Band) -> Self {
        let clearance = Some(self.clearance.map_or(band, |known| known.min(band)));
        let mut lowered = self.clone();
        lowered.clearance = clearance;
        lowered
    }

    /// Of what this handle shows.
    pub(crate) async fn read_seen<T: Send + 'static>(
        &self,
        work: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.seen().await?;
        let _reading = Reading::begin();
        blocking(move || work(&reader).inspect_err(|error| reader.note_failure(error))).await
    }

    /// The same of what is no matter for a handle that shows less than all.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_whole()?;
        self.read_seen(work).await
    }

    /// The reading side, which shows what this handle shows.
    pub(crate) async fn seen(&self) -> Result<larder_engine::Space> {
        let reader = self.open_seen().await?.reader.clone();
        Ok(match self.clearance {
            Some(band) => reader.at_clearance(band)?,
            None => reader,
        })
    }

    /// What is open of it now: another one after the profile was opened anew. For what is no matter
    /// for a handle that shows less than all.
    pub(crate) async fn open(&self) -> Result<Arc<OpenSpace>> {
        self.check_whole()?;
        self.open_seen().await
    }

    /// The same for what such a handle does: whoever calls this keeps to what it shows.
    pub(crate) async fn open_seen(&self) -> Result<Arc<OpenSpace>> {
        self.handles.node()?.space(self.name()).await
    }

    fn check_whole(&self) -> Result<()> {
        match self.clearance {
            None => Ok(()),
            Some(clearance) => Err(larder_engine::Error::Lowered { clearance }.into()),
        }
    }

    /// A unit that sees what this handle shows.
    pub(crate) fn unit_seen(&self, unit: UnitOfWork) -> larder_engine::UnitOfWork {
        let mut unit = unit.into_engine();
        if let Some(band) = self.clearance {
            unit.at_clearance(band);
        }
        unit
    }
}
