//! How far the edits of each document of an old file were made again.

use larder_document::Heads;
use larder_log::Band;
use larder_store::space::carry_ends;
use larder_types::{EntryHash, ObjectId, canonical};
use rusqlite::Connection;

use super::Source;
use crate::Result;

/// A document as the old file has it: the id that it was created under, its band and its creation.
pub(super) type Of = (ObjectId, Band, EntryHash);

/// How far it is.
pub(super) struct End {
    /// Where it is now. None: it is gone.
    pub(super) at: Option<ObjectId>,
    /// The last change that was made again; empty before the first.
    pub(super) old: Vec<u8>,
    /// The version that this came to here.
    pub(super) new: Heads,
}

impl End {
    pub(super) fn begin(at: Option<ObjectId>) -> Self {
        Self { at, old: Vec::new(), new: Heads::FLAT }
    }
}

impl Source {
    fn key(&self, (object, band, generation): Of) -> carry_ends::Of<'_> {
        carry_ends::Of { file: &self.file, object, band: band as u8, generation }
    }

    pub(super) fn end(&self, db: &Connection, of: Of) -> Result<Option<End>> {
        let Some(stored) = carry_ends::find(db, &self.key(of))? else { return Ok(None) };
        let carry_ends::End { at, old, new } = stored;
        let new = canonical::decode(&new, new.len())?;
        Ok(Some(End { at, old, new }))
    }

    pub(super) fn set_end(&self, db: &Connection, of: Of, end: &End) -> Result<()> {
        let End { at, old, new } = end;
        let stored = carry_ends::End { at: *at, old: old.clone(), new: canonical::encode(new) };
        Ok(carry_ends::set(db, &self.key(of), &stored)?)
    }
}
