//! A space that was opened at a lower clearance than the device has: what is above that is not
//! there.
//!
//! Invariant: what such a handle answers is what it would answer if no document, deletion, blob or
//! section above its clearance had ever been written, but for what stands in headers, which devices
//! of that clearance have too.

use larder_log::Band;
use larder_store::space::documents::{self, Document};
use larder_store::space::sections::{self, Section};
use larder_store::space::tombstones;
use larder_types::ObjectId;
use rusqlite::Connection;

use crate::copies::is_deleted;
use crate::space::{Published, Shared, Space};
use crate::{Error, Result, UnitOfWork};

/// Up to which band something is seen; whatever is here, unless told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sight(Option<Band>);

impl Sight {
    /// The highest band that is seen.
    pub(crate) fn up_to(self) -> Band {
        self.0.unwrap_or(Band::Black)
    }

    /// Whether all that is here is seen.
    pub(crate) const fn is_whole(self) -> bool {
        self.0.is_none()
    }

    /// Fails if nothing of this space is seen.
    ///
    /// # Errors
    /// [`Error::Lowered`].
    pub(crate) fn check(self, shared: &Shared) -> Result<()> {
        let clearance = self.up_to();
        if shared.stays_here() && clearance < Band::Black {
            return Err(Error::Lowered { clearance });
        }
        Ok(())
    }

    pub(crate) fn sees(self, band: Band) -> bool {
        band <= self.up_to()
    }

    /// The document that lives under an id.
    pub(crate) fn row(self, db: &Connection, object: &ObjectId) -> Result<Option<Document>> {
        Ok(documents::find(db, object)?.filter(|row| self.sees(row.band)))
    }

    /// Whether an object is known to be deleted. What lives may have been deleted below its band.
    pub(crate) fn is_deleted(self, db: &Connection, object: &ObjectId) -> Result<bool> {
        if documents::find(db, object)?.is_some() {
            return Ok(false);
        }
        if self.is_whole() {
            return is_deleted(db, object);
        }
        let of_object = tombstones::of_object(db, object)?;
        Ok(of_object.iter().any(|tombstone| self.sees(tombstone.band)))
    }

    /// Whether an id is that of something which is not seen.
    pub(crate) fn hides(self, db: &Connection, object: &ObjectId) -> Result<bool> {
        if self.is_whole() {
            return Ok(false);
        }
        Ok(match documents::find(db, object)? {
            Some(row) => !self.sees(row.band),
            None => is_deleted(db, object)? && !self.is_deleted(db, object)?,
        })
    }

    /// Whether a section of content is seen.
    pub(crate) fn sees_section(self, published: &Published, section: &Section) -> bool {
        let band = || published.keyring.band(&section.commitment);
        self.is_whole() || band().is_some_and(|band| self.sees(band))
    }

    /// Whether anything that is seen was ever written of an object.
    pub(crate) fn knows(
        self,
        db: &Connection,
        published: &Published,
        object: &ObjectId,
    ) -> Result<bool> {
        if self.is_whole() || self.row(db, object)?.is_some() {
            return Ok(true);
        }
        let all = sections::of_object(db, object)?;
        Ok(all.iter().any(|section| self.sees_section(published, section)))
    }
}

impl Space {
    /// The same space as a device sees it that is cleared for `band`, or for what this handle sees
    /// if that is less: for an app that is used by somebody who may not read everything here.
    ///
    /// # Errors
    /// [`Error::Lowered`] for less than BLACK in a space that stays here: nothing is there then.
    pub fn at_clearance(&self, band: Band) -> Result<Self> {
        let sight = Sight(Some(self.sight.up_to().min(band)));
        sight.check(&self.shared)?;
        Ok(Self { sight, ..self.clone() })
    }

    /// Fails unless this handle sees all that is here.
    ///
    /// # Errors
    /// [`Error::Lowered`].
    pub fn check_whole(&self) -> Result<()> {
        match self.sight.0 {
            None => Ok(()),
            Some(clearance) => Err(Error::Lowered { clearance }),
        }
    }
}

impl UnitOfWork {
    /// What is above this band is not there for the unit, and it writes nothing above it. It can be
    /// lowered only.
    pub fn at_clearance(&mut self, band: Band) {
        self.sight = Sight(Some(self.sight.up_to().min(band)));
    }
}
