//! What an act of membership does to what was written: sections that count no more go from the
//! documents, and such as count by now come in.

use std::collections::{BTreeSet, HashSet};

use larder_document::body;
use larder_log::{Band, kind};
use larder_store::space::documents::Document as Row;
use larder_store::space::sections::{self, Section, State as SectionState};
use larder_store::space::tombstones::{self, Tombstone};
use larder_store::space::{changes, entries, snapshots};
use larder_types::ObjectId;
use rusqlite::Connection;

use crate::Result;
use crate::adoption::{Edit, Edits};
use crate::copies::{Creation, Found, locate};
use crate::heal;
use crate::keyring::Opening;
use crate::rows::Origin;
use crate::show::DOCUMENT_KINDS;
use crate::state::{Rejudged, State};
use crate::touched::Stored;

impl State {
    /// Makes the documents anew in which entries have a part whose authors by now may write in
    /// them, or may no longer, and adopts what own edits lack then. In the transaction that took in
    /// the act which says so.
    pub(crate) fn rejudge(&mut self, db: &Connection) -> Result<()> {
        loop {
            if !self.rejudged.is_empty() {
                self.rejudge_once(db)?;
            } else if !self.adopted.is_open || !self.may_adopt() {
                return Ok(());
            }
            self.adopt(db)?;
        }
    }

    fn rejudge_once(&mut self, db: &Connection) -> Result<()> {
        self.show(db)?;
        let mut objects: BTreeSet<ObjectId> = BTreeSet::new();
        let mut is_other = false;
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        for Rejudged { log, from_seq, to_seq } in std::mem::take(&mut self.rejudged) {
            self.rejudge_erasures(db, (log, from_seq, to_seq))?;
            for seq in from_seq..=to_seq {
                let all = sections::of_entry(db, log, seq)?;
                for section in &all {
                    if let Some(held) = &held {
                        self.note_back(db, section, held)?;
                    }
                    is_other |= self.rejudge_unread(db, section)?;
                }
                let about = all.iter().filter_map(|section| section.about);
                let documents = about.filter(|about| DOCUMENT_KINDS.contains(&about.kind));
                objects.extend(documents.filter_map(|about| about.object));
            }
        }
        self.load_missing(db)?;
        if is_other {
            self.acknowledge(db)?;
        }
        for object in objects {
            // It is made anew once it can be.
            let mended =
                self.carefully(|state| state.apart(db, |state| state.rejudge_object(db, object)))?;
            if let Err(error) = mended {
                self.set_aside(Some(object), &error);
            }
        }
        self.retry(db)
    }

    fn rejudge_object(&mut self, db: &Connection, object: ObjectId) -> Result<()> {
        if !heal::remake(db, self, object)? {
            return self.rejudge_apart(db, object);
        }
        Ok(())
    }

    /// Of what a snapshot stands for, or bytes are lost of, not all sections are here to be applied
    /// anew: what counts no more is taken out of the document, and what counts by now is tried
    /// again.
    fn rejudge_apart(&mut self, db: &Connection, object: ObjectId) -> Result<()> {
        for band in Band::SHARED {
            self.rejudge_deletions(db, &object, band)?;
        }
        let edits = Edits::read(db, self, &object)?;
        let mut creations: BTreeSet<Creation> = BTreeSet::new();
        let mut gone = HashSet::new();
        for edit in &edits.all {
            creations.extend(edit.creation);
            let counts = self.counts_at(&edit.origin);
            if !counts {
                gone.extend(edit.changes.iter().copied());
            }
            let state = match edit.state {
                SectionState::Applied | SectionState::Waiting if !counts => SectionState::Void,
                // It may be void for something else.
                SectionState::Void if counts && heal::is_admitted(db, self, &edit.origin)? => {
                    SectionState::Waiting
                }
                _ => continue,
            };
            sections::settle(db, edit.origin.place(), state, None)?;
            if let (false, Some(created)) = (counts, edit.creates) {
                self.take_away(db, object, created)?;
            }
        }
        // Another device may have written the same change (decision 0054).
        for edit in edits.all.iter().filter(|edit| self.counts_at(&edit.origin)) {
            for change in &edit.changes {
                gone.remove(change);
            }
        }
        for creation in creations {
            if let Found::At(row) = locate(db, &object, creation)? {
                self.take_out(db, *row, object, &gone, &edits)?;
            }
        }
        Ok(())
    }

    /// A document whose creation counts no more goes, and what had to give way to it comes back.
    fn take_away(&mut self, db: &Connection, root: ObjectId, created: Creation) -> Result<()> {
        if let Found::At(row) = locate(db, &root, created)? {
            changes::add_late(db, &row.object, None)?;
            self.remove_row(db, &row)?;
            self.refill(db, row.object)?;
        }
        Ok(())
    }

    /// Takes changes out of a document, and what builds on them, which waits from then on.
    fn take_out(
        &mut self,
        db: &Connection,
        row: Row,
        root: ObjectId,
        gone: &HashSet<[u8; 32]>,
        edits: &Edits,
    ) -> Result<()> {
        let (object, updated) = (row.object, row.updated);
        let mut stored = Stored::read(db, &mut self.cache, row, root)?;
        let went = stored.document.take_out(gone)?;
        if !went.is_empty() {
            self.write_edited(db, updated, &mut stored)?;
        }
        self.cache.insert(object, stored.document);
        if went.is_empty() {
            return Ok(());
        }
        changes::add_late(db, &object, None)?;
        let waits = |edit: &&Edit| {
            self.counts_at(&edit.origin) && edit.changes.iter().any(|change| went.contains(change))
        };
        for edit in edits.all.iter().filter(waits) {
            sections::settle(db, edit.origin.place(), SectionState::Waiting, None)?;
        }
        Ok(())
    }

    /// A deletion that counts no more is taken back, as far as somebody still has what it deleted.
    fn rejudge_deletions(&mut self, db: &Connection, object: &ObjectId, band: Band) -> Result<()> {
        let of_band = |all: Vec<Tombstone>| all.into_iter().find(|found| found.band == band);
        let found = of_band(tombstones::of_object(db, object)?);
        let mut deletion: Option<(Origin, Section)> = None;
        let mut is_void = false;
        for section in sections::of_object(db, object)? {
            let Some(about) = section.about.filter(|it| it.kind == kind::DOCUMENT_DELETE) else {
                continue;
            };
            if self.band_of(&section)? != band {
                continue;
            }
            let Some(entry) = entries::hash(db, section.place.log, section.place.seq)? else {
                continue;
            };
            let origin = Origin::of_stored(db, section.place, entry, (about.clock, band))?;
            let counts = self.counts_at(&origin);
            let state = if counts { SectionState::Applied } else { SectionState::Void };
            let is_judged = matches!(
                section.state,
                SectionState::Applied | SectionState::Void | SectionState::Waiting
            );
            if !is_judged {
                continue;
            }
            if state != section.state {
                sections::settle(db, section.place, state, None)?;
            }
            if counts {
                deletion = deletion.or(Some((origin, section)));
            } else {
                let place = |found: &Tombstone| (found.device, found.seq, found.index);
                is_void |= found
                    .as_ref()
                    .is_some_and(|found| place(found) == (origin.device, origin.seq, origin.index));
            }
        }
        if found.is_some() && !is_void {
            return Ok(());
        }
        if let Some((origin, section)) = deletion {
            let Some((_, Opening::Opened(opened))) = self.open_stored(db, &section)? else {
                return Ok(());
            };
            let Some(collection) = opened.metadata.collection else { return Ok(()) };
            if body::Delete::decode(&opened.body).is_ok() {
                tombstones::forget_in(db, object, band)?;
                return self.bury(db, &origin.tombstone(*object, Some(collection)));
            }
        }
        if !is_void {
            return Ok(());
        }
        tombstones::forget_in(db, object, band)?;
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let receiving = snapshots::in_state(db, snapshots::State::Receiving)?;
        for snapshot in held.into_iter().chain(receiving) {
            snapshots::want_again(db, &snapshot, object, band)?;
        }
        // What came after the snapshot is applied once the document is here again.
        for edit in Edits::read(db, self, object)?.all {
            let is_change = edit.creation.is_some() && edit.state == SectionState::Applied;
            if is_change && edit.origin.band == band && self.counts_at(&edit.origin) {
                sections::settle(db, edit.origin.place(), SectionState::Waiting, None)?;
            }
        }
        changes::add_late(db, object, None)?;
        Ok(())
    }
}
