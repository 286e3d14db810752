//! What counts again behind a snapshot that was computed when it did not.

use larder_log::adoption::Adopted;
use larder_log::snapshot::Leaf;
use larder_log::{Band, Class, Opened, kind};
use larder_store::space::sections::{Place, Section, State as SectionState};
use larder_store::space::snapshots::{self, Snapshot};
use larder_store::space::{entries, logs};
use larder_types::{EntryHash, ObjectId};
use rusqlite::Connection;

use super::links;
use crate::Result;
use crate::clearance::stands_for;
use crate::copies::{Found, locate};
use crate::keyring::Opening;
use crate::snapshot::tombstone_key;
use crate::state::State;
use crate::touched::load;

impl State {
    /// Notes a section, not judged anew yet, that counts by now, that the snapshot which is held
    /// covers, and of which that says nothing: to be adopted, so that all know.
    pub(crate) fn note_back(
        &mut self,
        db: &Connection,
        section: &Section,
        held: &Snapshot,
    ) -> Result<()> {
        let Place { log, seq, index } = section.place;
        let commitment = &section.commitment;
        let is_void = section.state == SectionState::Void && commitment.class == Class::Data as u8;
        let Some(band) = self.keyring.band(commitment).filter(|_| is_void) else { return Ok(()) };
        let device = logs::by_number(db, log)?.device;
        let is_covered = stands_for(&held.act, &self.keyring, (&device, seq), commitment);
        if !is_covered || self.writes_up_to(&device, seq) < Some(band) {
            return Ok(());
        }
        // Who has no bytes of it has nothing that could be lost.
        let Some(entry) = entries::hash(db, log, seq)? else { return Ok(()) };
        if let Some((_, Opening::Opened(opened))) = self.open_stored(db, section)?
            && !is_said(db, held, (band, entry), &opened)?
        {
            self.adopted.back.insert(Adopted { device, seq, index, entry });
        }
        Ok(())
    }
}

/// Whether the leaves of a snapshot have what a section says, or may have it.
fn is_said(
    db: &Connection,
    held: &Snapshot,
    (band, entry): (Band, EntryHash),
    opened: &Opened,
) -> Result<bool> {
    let metadata = &opened.metadata;
    let Some(object) = metadata.object else { return Ok(true) };
    if snapshots::leaf(db, held, &tombstone_key(band, object))?.is_some() {
        return Ok(true);
    }
    match (metadata.kind, metadata.generation) {
        (kind::DOCUMENT_CREATE, _) => {
            Ok(snapshots::leaf(db, held, &(band, object, entry))?.is_some())
        }
        (kind::DOCUMENT_CHANGE, Some(generation)) => {
            has_changes(db, held, (band, object, generation), opened)
        }
        (kind::DOCUMENT_DELETE, _) => Ok(false),
        _ => Ok(true),
    }
}

/// Whether a document's leaf has the changes in its past. A history that has all heads of the leaf
/// has their past as well.
fn has_changes(
    db: &Connection,
    held: &Snapshot,
    (band, object, generation): (Band, ObjectId, EntryHash),
    opened: &Opened,
) -> Result<bool> {
    let leaf = snapshots::leaf(db, held, &(band, object, generation))?;
    let Some(Leaf::Document(leaf)) = leaf.map(|leaf| leaf.read()).transpose()? else {
        return Ok(false);
    };
    let Found::At(row) = locate(db, &object, (band, generation))? else { return Ok(true) };
    let document = load(db, &row)?;
    if !leaf.heads.iter().all(|head| document.has_change(head.as_bytes())) {
        return Ok(true);
    }
    Ok(links(opened).iter().all(|link| document.has_change(&link.hash)))
}
