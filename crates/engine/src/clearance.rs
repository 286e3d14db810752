//! What this device is cleared for, and what becomes of what is here when that changes.
//!
//! Invariants: nothing of a band above [`State::clearance`] is here but headers, commitments and
//! acts, and what was here when it was lowered and no other device has said to hold (`kept`): no
//! secret, and nothing that anybody can read or find through this device. And no section is given
//! up because of a snapshot that says nothing of its band.

use larder_log::blob::Manifest;
use larder_log::merkle::Frontier;
use larder_log::roster::Roster;
use larder_log::snapshot::{SnapshotAct, leaf_hash};
use larder_log::{Band, Class, Payload, SectionCommitment, kind};
use larder_store::space::sections::{self, Place, Section, State as Of};
use larder_store::space::snapshots::{self, Snapshot, State as Stage};
use larder_store::space::{
    blobs, changes, control, copies, documents, entries, kept, logs, pieces, tombstones, units,
};
use larder_types::{Clock, DeviceId, EntryHash, EpochId, ObjectId};
use rusqlite::Connection;

use crate::erase::is_unread;
use crate::keyring::{Keyring, Opening};
use crate::prune::accepted;
use crate::rows::Origin;
use crate::state::State;
use crate::supply::is_whole;
use crate::{Error, Result};

/// What the roster clears a device for; nothing, if it is an auditor's. Whatever it says, there is
/// no more to read than RED.
pub(crate) fn cleared_for(roster: &Roster, device: &DeviceId) -> Option<Band> {
    let Some(known) = roster.known(device) else { return Some(Band::Red) };
    known.role.may_read().then(|| known.clearance.min(Band::Red))
}

/// Up to which band a device might write content in this entry of its log, if any.
pub(crate) fn writes_up_to(roster: &Roster, device: &DeviceId, seq: u64) -> Option<Band> {
    roster.known(device)?.standing_at(seq)?.writes_up_to()
}

impl State {
    /// What the roster clears this device for; for everything before it is known there, and what it
    /// had last if it was shut out.
    pub(crate) fn own_clearance(&self) -> Option<Band> {
        cleared_for(&self.roster, &self.device())
    }

    /// The highest band that this device may read.
    ///
    /// # Errors
    /// [`Error::Auditor`].
    pub(crate) fn reads_up_to(&self) -> Result<Band> {
        self.clearance.ok_or(Error::Auditor)
    }

    /// Whether content of a band may be here.
    ///
    /// # Errors
    /// [`Error::NotCleared`], [`Error::Auditor`].
    pub(crate) fn check_cleared(&self, band: Band) -> Result<()> {
        let clearance = self.reads_up_to()?;
        if band <= clearance { Ok(()) } else { Err(Error::NotCleared { band, clearance }) }
    }

    /// The highest band that anything of what is restored is known here in, or of what it was a
    /// copy of.
    pub(crate) fn band_of_restored(&self, db: &Connection, object: &ObjectId) -> Result<Band> {
        let mut highest = None;
        for id in copies::path(db, object)?.into_iter().chain([*object]) {
            let of_row = documents::find(db, &id)?.map(|row| row.band);
            let all = sections::of_object(db, &id)?;
            let bands = all.iter().filter_map(|section| self.keyring.band(&section.commitment));
            highest = bands.chain(of_row).max().max(highest);
        }
        highest.ok_or_else(|| Self::nothing_to_restore(object))
    }

    pub(crate) fn nothing_to_restore(object: &ObjectId) -> Error {
        Error::NotFound(format!("nothing is known of {object} that could be restored"))
    }

    /// What a section is of which there are no bytes: wanted, unless it is not for this device,
    /// counts for nothing whatever it says, or nobody has it.
    pub(crate) fn without_bytes(
        &self,
        (place, device, entry): (Place, DeviceId, EntryHash),
        commitment: &SectionCommitment,
    ) -> Of {
        let Place { log, seq, index } = place;
        let counts = |band: &Band| {
            let (clock, band) = (Clock::ZERO, *band);
            let of = Origin { log, device, seq, index, entry, clock, band };
            self.counts_at(&of) && !self.is_lost(&of)
        };
        match self.keyring.band(commitment) {
            _ if !self.keyring.is_for(commitment, self.clearance) => Of::Hidden,
            Some(band) if commitment.class == Class::Data as u8 && !counts(&band) => Of::Void,
            _ => Of::Missing,
        }
    }

    pub(crate) fn without_bytes_here(&self, db: &Connection, section: &Section) -> Result<Of> {
        let place = section.place;
        let device = logs::by_number(db, place.log)?.device;
        let entry = entries::hash(db, place.log, place.seq)?;
        let entry = entry.ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
        self.wanted_or_not(db, (place, device, entry), &section.commitment)
    }

    /// The same, but that nothing is wanted that the snapshot stands for that is held here.
    pub(crate) fn wanted_or_not(
        &self,
        db: &Connection,
        (place, device, entry): (Place, DeviceId, EntryHash),
        commitment: &SectionCommitment,
    ) -> Result<Of> {
        let state = self.without_bytes((place, device, entry), commitment);
        if state != Of::Missing {
            return Ok(state);
        }
        // What stands beside the opening of an epoch counts for nothing.
        let is_data = commitment.class == Class::Data as u8;
        if is_data && control::epoch(db, &EpochId::from(entry))?.is_some() {
            return Ok(Of::Void);
        }
        let at = (device, place.seq, place.index);
        let held = snapshots::in_state(db, Stage::Held)?;
        let is_said = held.is_some_and(|held| self.stands(&held.act, at, commitment));
        Ok(if is_said { Of::Excused } else { Of::Missing })
    }

    /// Judges again a section that this device has not read, after its author's standing there has
    /// changed, or what others have. Whether it is another now.
    pub(crate) fn rejudge_unread(&mut self, db: &Connection, section: &Section) -> Result<bool> {
        if matches!(section.state, Of::Missing | Of::Void | Of::Waiting | Of::Excused)
            && is_unread(section)
        {
            let has_bytes = sections::payload(db, section.place)? != Payload::Missing;
            // An act is judged with the roster.
            if has_bytes && section.commitment.class != Class::Data as u8 {
                return Ok(false);
            }
            let now = self.unread_here(db, section, has_bytes)?;
            let stays = match section.state {
                // What waits for a secret goes on, unless it is of no use any more.
                Of::Waiting => now != Of::Void,
                // What was pruned comes back only if it was adopted since.
                Of::Excused => now != Of::Missing,
                _ => false,
            };
            if now != section.state && !stays {
                sections::settle(db, section.place, now, None)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a section is that this device has not read.
    fn unread_here(&self, db: &Connection, section: &Section, has_bytes: bool) -> Result<Of> {
        Ok(match self.without_bytes_here(db, section)? {
            Of::Missing | Of::Excused if has_bytes => Of::Waiting,
            now => now,
        })
    }

    /// If the roster clears this device for another band than before: lets go of what is above it,
    /// or wants what is not any more. Whether it did.
    pub(crate) fn settle_clearance(&mut self, db: &Connection) -> Result<bool> {
        let (old, new) = (self.clearance, self.own_clearance());
        if old == new {
            return Ok(false);
        }
        // What is durable is in the tables first, and in nothing else.
        self.show(db)?;
        self.clearance = new;
        if new < old {
            self.lower(db)?;
        } else {
            self.raise(db)?;
        }
        self.complete(db)?;
        if new > old {
            self.take_back(db)?;
        }
        self.load_missing(db)?;
        self.cache.clear();
        self.choose_epoch();
        self.unpublish();
        Ok(true)
    }

    fn lower(&mut self, db: &Connection) -> Result<()> {
        let clearance = self.clearance;
        if self.has_ever_read() {
            self.keep_documents(db)?;
        }
        loop {
            let page = documents::above(db, clearance, PAGE)?;
            if page.is_empty() {
                break;
            }
            for row in page {
                self.remove_row(db, &row)?;
                copies::set_path(db, &row.object, &[])?;
                changes::add_late(db, &row.object, None)?;
            }
        }
        self.index_gone(db)?;
        tombstones::forget_above(db, clearance)?;
        pieces::remove_above(db, clearance)?;
        self.each_section(db, |state, section| {
            let is_here = !matches!(section.state, Of::Hidden | Of::Erased);
            if is_here && !state.keyring.is_for(&section.commitment, clearance) {
                state.hide(db, section)?;
            }
            Ok(())
        })?;
        if let Some(written) = snapshots::in_state(db, Stage::Written)? {
            snapshots::remove(db, &written)?;
        }
        for stage in [Stage::Held, Stage::Receiving] {
            match (whole(db, stage)?, clearance) {
                (Some(of), Some(up_to)) => cut(db, &of, up_to)?,
                (Some(of), None) => snapshots::remove(db, &of)?,
                (None, _) => {}
            }
        }
        self.forget_above(db)
    }

    /// Whether this device might read anything before its clearance was lowered. What an auditor's
    /// device is sent all the same before it hears what it is, it keeps for nobody.
    fn has_ever_read(&self) -> bool {
        self.roster.known(&self.device()).is_some_and(|own| own.ever_read(Band::Green))
    }

    /// Hides a section, and the blob that it describes. Their bytes stay until another device has
    /// them ([`State::to_keep`]).
    fn hide(&mut self, db: &Connection, section: &Section) -> Result<()> {
        if section.about.is_some_and(|about| about.kind == kind::BLOB)
            && let Some((_, Opening::Opened(opened))) = self.open_stored(db, section)?
        {
            let id = Manifest::id(&opened.body);
            if blobs::find(db, &id)?.is_some_and(|blob| Some(blob.band) > self.clearance) {
                if self.has_ever_read() {
                    kept::keep_chunks(db, section.section, &id)?;
                }
                blobs::remove(db, &id)?;
            }
        }
        let place = section.place;
        units::forget_content(db, Some(place.log).filter(|log| *log != self.log), place.seq)?;
        let payload = match sections::payload(db, section.place)? {
            bytes if self.has_ever_read() => self.to_keep(db, section, bytes)?,
            _ => Payload::Missing,
        };
        Ok(sections::hide(db, section, &payload)?)
    }

    fn raise(&mut self, db: &Connection) -> Result<()> {
        // It has no leaves of the bands that are for this device by now.
        if let Some(written) = snapshots::in_state(db, Stage::Written)? {
            snapshots::remove(db, &written)?;
        }
        let clearance = self.clearance;
        self.each_section(db, |state, section| {
            let is_hidden = section.state == Of::Hidden;
            if is_hidden && state.keyring.is_for(&section.commitment, clearance) {
                let has_bytes = sections::payload(db, section.place)? != Payload::Missing;
                let now = state.unread_here(db, section, has_bytes)?;
                sections::settle(db, section.place, now, None)?;
            }
            Ok(())
        })?;
        self.pending.retries = true;
        self.news.refits = true;
        self.load_missing(db)
    }

    /// Whether a snapshot says nothing of some band that is for this device: its bytes have to be
    /// here, or leaves of it to come.
    pub(crate) fn is_narrow(&self, act: &SnapshotAct) -> bool {
        is_narrow(act, self.clearance)
    }

    /// Up to which band this device may state snapshots, from the one that it holds: no further
    /// than that goes, where bytes below it are still to come. Else nothing would be agreed on
    /// before somebody has handed those over, and it may be that nobody can.
    pub(crate) fn states_up_to(&self, db: &Connection, held: Option<&Snapshot>) -> Result<Band> {
        let clearance = self.reads_up_to()?;
        let narrow = held.filter(|held| self.is_narrow(&held.act));
        let Some((act, tree)) = narrow.and_then(|held| Some((&held.act, held.act.whole()?))) else {
            return Ok(clearance);
        };
        Ok(if self.lacks_below(db, act)? { tree.band } else { clearance })
    }

    /// Puts the snapshot that comes in as it is agreed on now: of more bands if more was stated,
    /// and of fewer if nobody is left who states them. And the one that is held, if those that it
    /// says nothing of have no leaves.
    pub(crate) fn refit(&mut self, db: &Connection) -> Result<()> {
        let Some(half) = snapshots::in_state(db, Stage::Receiving)? else {
            if self.lacks()
                && let Some(of) = widened(db, &self.roster, self.clearance)?.filter(is_whole)
                && self.lacks_below(db, &of.act)?
            {
                widen(db, &of)?;
            }
            return Ok(());
        };
        if !std::mem::take(&mut self.news.refits) {
            return Ok(());
        }
        let agreed = accepted(db, &self.roster, self.clearance)?;
        let Some(act) = agreed.into_iter().find(|act| act.id() == half.id) else { return Ok(()) };
        let (now, before) = (act.bands.len(), half.act.bands.len());
        if now > before && act.agrees(&half.act) {
            snapshots::set(db, half.snapshot, Stage::Receiving, &act, &half.received)?;
        } else if now < before
            && let Some(up_to) = act.whole()
        {
            cut(db, &half, up_to.band)?;
        }
        Ok(())
    }

    /// Whether bytes are missing of entries that a snapshot covers.
    fn lacks_below(&self, db: &Connection, act: &SnapshotAct) -> Result<bool> {
        for (log, seq) in &self.missing {
            if *seq <= act.size_of(&logs::by_number(db, *log)?.device) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a snapshot stands for a section as it counts now.
    pub(crate) fn stands(
        &self,
        act: &SnapshotAct,
        (device, seq, index): (DeviceId, u64, u32),
        commitment: &SectionCommitment,
    ) -> bool {
        stands_for(act, &self.keyring, (&device, seq), commitment)
            && self
                .keyring
                .band(commitment)
                .is_none_or(|band| !self.is_later(act, (device, seq, index), band))
    }

    /// Wants no more the bytes that a snapshot stands for.
    pub(crate) fn excuse(&self, db: &Connection, act: &SnapshotAct) -> Result<()> {
        for end in &act.frontier {
            let Some(log) = logs::find(db, &end.device)? else { continue };
            if !self.is_narrow(act) && self.all_later(db, act)?.is_empty() {
                sections::excuse(db, log.log, end.size)?;
                continue;
            }
            let mut after = 0;
            loop {
                let page = sections::missing(db, log.log, end.size, after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.section;
                for section in &page {
                    let at = (end.device, section.place.seq, section.place.index);
                    if self.stands(act, at, &section.commitment) {
                        sections::settle(db, section.place, Of::Excused, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn each_section(
        &mut self,
        db: &Connection,
        mut visit: impl FnMut(&mut Self, &Section) -> Result<()>,
    ) -> Result<()> {
        let mut after = 0;
        loop {
            let page = sections::page(db, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.section;
            for section in &page {
                visit(self, section)?;
            }
        }
    }
}

/// Whether a snapshot stands for a section: it covers its entry and says what its band came to.
/// What has no band opens for nobody.
pub(crate) fn stands_for(
    act: &SnapshotAct,
    keyring: &Keyring,
    (device, seq): (&DeviceId, u64),
    commitment: &SectionCommitment,
) -> bool {
    seq <= act.size_of(device)
        && act.whole().is_some_and(|tree| keyring.is_for(commitment, Some(tree.band)))
}

fn is_narrow(act: &SnapshotAct, clearance: Option<Band>) -> bool {
    act.whole().is_none_or(|tree| Some(tree.band) < clearance.min(Some(Band::Red)))
}

/// The held snapshot as it is agreed on now, if that is of more bands that are for this device.
pub(crate) fn widened(
    db: &Connection,
    roster: &Roster,
    clearance: Option<Band>,
) -> Result<Option<Snapshot>> {
    let held = snapshots::in_state(db, Stage::Held)?;
    let Some(held) = held.filter(|held| is_narrow(&held.act, clearance)) else { return Ok(None) };
    let is_wider = |act: &SnapshotAct| {
        act.id() == held.id && act.bands.len() > held.act.bands.len() && act.agrees(&held.act)
    };
    let act = accepted(db, roster, clearance)?.into_iter().find(is_wider);
    Ok(act.map(|act| Snapshot { act, ..held }))
}

/// The held snapshot comes in again from where its leaves end, of more bands.
pub(crate) fn widen(db: &Connection, to: &Snapshot) -> Result<()> {
    let Some(held) = whole(db, Stage::Held)? else { return Ok(()) };
    Ok(snapshots::set(db, held.snapshot, Stage::Receiving, &to.act, &held.received)?)
}

/// Cuts the leaves above a band off a snapshot's end.
fn cut(db: &Connection, of: &Snapshot, band: Band) -> Result<()> {
    snapshots::remove_above(db, of.snapshot, band)?;
    let mut tree = Frontier::new();
    snapshots::each_leaf(db, of, |kept| {
        tree.append(leaf_hash(&kept.leaf), &mut |_| {});
        Ok::<_, Error>(())
    })?;
    let act = of.act.up_to(band);
    Ok(snapshots::set(db, of.snapshot, of.state, &act, &tree)?)
}

/// A snapshot with all of its leaves among each other.
pub(crate) fn whole(db: &Connection, stage: Stage) -> Result<Option<Snapshot>> {
    while let Some(of) = snapshots::in_state(db, stage)? {
        if of.over.is_none() {
            return Ok(Some(of));
        }
        snapshots::move_some(db, &of, PAGE)?;
    }
    Ok(None)
}

/// Rows that are in memory at once.
const PAGE: u32 = 256;

#[cfg(test)]
mod auditors;
#[cfg(test)]
mod tests;
