//! Bytes that nobody has any more.
//!
//! A lost phone's entries may be known by way of a device that may not read them, and then nobody
//! can ever hand over what they hold. Each device says what it lacks of such, and what all lack
//! that ever might have it is void: it is waited for no more. Who has bytes says nothing, so
//! nothing is void that anybody in the space has.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::adoption::{Adopted, LackAct};
use larder_log::roster::{Device, Roster};
use larder_log::snapshot::SnapshotAct;
use larder_log::{Header, Payload, SectionCommitment, VERSION, kind};
use larder_store::space::sections::{self, Place, Section, State as Of};
use larder_store::space::{control, entries, logs, snapshots};
use larder_types::limits::ADOPTED_SECTIONS_MAX;
use larder_types::{Clock, DeviceId, EntryHash};
use rusqlite::Connection;

use crate::Result;
use crate::carry::Carrying;
use crate::prune::accepted;
use crate::rows::Origin;
use crate::space::Space;
use crate::state::State;

/// What was said to be lacking, or found after all: by place, of which entry and by whom, and where
/// in that one's log it said so last.
#[derive(Debug, Default)]
pub(crate) struct AllLacked(BTreeMap<(DeviceId, u64, u32), AllSaid>);

type AllSaid = BTreeMap<(EntryHash, DeviceId), Said>;

#[derive(Debug, Clone, Copy)]
struct Said {
    seq: u64,
    lacks: bool,
}

impl AllLacked {
    pub(crate) fn load(db: &Connection) -> Result<Self> {
        let mut all = Self::default();
        for stored in control::acts_of_kind(db, kind::LACK)? {
            if let Ok(Some(Act::Lack(act))) = Act::from_body(stored.kind, &stored.body) {
                let by = logs::by_number(db, stored.place.log)?.device;
                all.add((by, stored.place.seq), &act);
            }
        }
        Ok(all)
    }

    fn add(&mut self, (by, seq): (DeviceId, u64), act: &LackAct) {
        let lacks = act.found.is_none();
        for of in &act.lacked {
            let place = (of.device, of.seq, of.index);
            let said = self.0.entry(place).or_default();
            let known = said.entry((of.entry, by)).or_insert(Said { seq, lacks });
            if known.seq < seq {
                *known = Said { seq, lacks };
            }
        }
    }

    fn is_lost(&self, of: &Origin, roster: &Roster) -> bool {
        if !self.0.contains_key(&(of.device, of.seq, of.index)) {
            return false;
        }
        let mut might =
            roster.devices().filter(|(id, device)| **id == of.device || device.ever_read(of.band));
        might.all(|(id, _)| self.is_said(of, *id))
    }

    fn is_said(&self, of: &Origin, by: DeviceId) -> bool {
        let said = self.0.get(&(of.device, of.seq, of.index));
        said.and_then(|said| said.get(&(of.entry, by))).is_some_and(|said| said.lacks)
    }
}

impl Space {
    /// How many sections nobody in the space has any more.
    pub(crate) fn lost(&self, db: &Connection) -> Result<u64> {
        let published = self.shared.published()?;
        let all = AllLacked::load(db)?;
        let mut lost = 0;
        for (device, seq, index) in all.0.keys() {
            let Some(log) = logs::find(db, device)? else { continue };
            let place = Place { log: log.log, seq: *seq, index: *index };
            let section = sections::find(db, place)?;
            // What somebody adopted is none, and neither is what came after all.
            let void = section.filter(|section| matches!(section.state, Of::Void | Of::Hidden));
            let band = void.and_then(|section| published.keyring.band(&section.commitment));
            let (Some(band), Some(entry)) = (band, entries::hash(db, log.log, *seq)?) else {
                continue;
            };
            let of = Origin::of_stored(db, place, entry, (Clock::ZERO, band))?;
            lost += u64::from(all.is_lost(&of, &published.roster));
        }
        Ok(lost)
    }
}

/// What a device has to say of bytes.
#[derive(Default)]
struct Unsaid {
    lacked: BTreeSet<Adopted>,
    /// Which it has said to lack.
    found: Vec<Section>,
}

impl State {
    /// Whether all devices of the space that ever might have a section's bytes have said that they
    /// lack them; its author too, whatever it may read. What one of them has adopted is not lost.
    pub(crate) fn is_lost(&self, of: &Origin) -> bool {
        self.lacked.is_lost(of, &self.roster) && !self.is_adopted_here(of)
    }

    pub(crate) fn take_lack(
        &mut self,
        db: &Connection,
        header: &Header,
        act: &LackAct,
    ) -> Result<()> {
        self.lacked.add((header.device, header.seq), act);
        for of in &act.lacked {
            self.note_rejudged_entry(db, &of.device, of.seq)?;
        }
        Ok(())
    }

    /// Another set of devices might have what was said to be lacking.
    pub(crate) fn note_lacked(&mut self, db: &Connection) -> Result<()> {
        let places: BTreeSet<_> =
            self.lacked.0.keys().map(|(device, seq, _)| (*device, *seq)).collect();
        for (device, seq) in places {
            self.note_rejudged_entry(db, &device, seq)?;
        }
        Ok(())
    }

    /// Says what this device lacks and has not said: of what its author cannot be asked for, and of
    /// what another has said so. And takes back what could not be when bytes came. Whether there
    /// was any.
    pub(crate) fn say_lacking(&mut self, db: &Connection) -> Result<bool> {
        let Unsaid { lacked, found } = self.to_say(db)?;
        self.note_found(db, &found)?;
        if lacked.is_empty() && self.must_say_back(db)? {
            self.append_nothing(db)?;
            return Ok(true);
        }
        let lacked: Vec<Adopted> = lacked.into_iter().take(ADOPTED_SECTIONS_MAX).collect();
        if lacked.is_empty() {
            return Ok(!found.is_empty());
        }
        self.append_act(db, &Act::Lack(LackAct { v: VERSION, lacked, found: None }))?;
        self.sign(db)?;
        Ok(true)
    }

    /// Whether there is anything of that to say.
    pub(crate) fn must_say_lacking(&self, db: &Connection) -> Result<bool> {
        let Unsaid { lacked, found } = self.to_say(db)?;
        Ok(!lacked.is_empty() || !found.is_empty() || self.must_say_back(db)?)
    }

    /// Whether what this device says of bytes counts now.
    fn may_say(&self) -> bool {
        let own = self.roster.device(&self.device());
        let next = own.and_then(|own| own.standing_at(self.frontier.size() + 1));
        // What is lacking may be in an old file.
        let is_sought = self.shared.carrying().as_ref().is_some_and(Carrying::may_have_bytes);
        !is_sought && self.shared.may_append() && next.is_some_and(|own| own.role.may_read())
    }

    fn to_say(&self, db: &Connection) -> Result<Unsaid> {
        let mut all = Unsaid::default();
        if !self.may_say() {
            return Ok(all);
        }
        all.lacked = self.not_to_come(db)?;
        for (device, seq, index) in self.lacked.0.keys() {
            let Some(log) = logs::find(db, device)? else { continue };
            let place = Place { log: log.log, seq: *seq, index: *index };
            if let Some(section) = sections::find(db, place)? {
                all.lacked.extend(self.unsaid(db, &section)?);
                if self.is_found(db, &section)? {
                    all.found.push(section);
                }
            }
        }
        Ok(all)
    }

    /// Whether this device has bytes that it has said to lack, and has not taken that back.
    fn is_found(&self, db: &Connection, section: &Section) -> Result<bool> {
        let Some(of) = self.origin_of(db, section)? else { return Ok(false) };
        let is_said = self.lacked.is_said(&of, self.device());
        Ok(is_said && sections::payload(db, section.place)? != Payload::Missing)
    }

    /// Whether the author of a section belongs to the space and has it for certain.
    pub(crate) fn has_its_author(&self, device: &DeviceId, of: &SectionCommitment) -> bool {
        let always = self.roster.device(device).map(Device::always_cleared);
        always.is_some() && always >= self.keyring.band(of)
    }

    /// What is missing here that its author does not hold for certain and no snapshot stands for;
    /// as much of it as one act names.
    fn not_to_come(&self, db: &Connection) -> Result<BTreeSet<Adopted>> {
        let mut found = BTreeSet::new();
        if !self.lacks() {
            return Ok(found);
        }
        let coming = self.coming(db)?;
        for log in logs::every(db)?.iter().filter(|log| self.missing.contains_key(&log.log)) {
            let mut after = 0;
            while found.len() < ADOPTED_SECTIONS_MAX {
                let page = sections::missing(db, log.log, log.frontier.size(), after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.section;
                for section in page {
                    let at = (log.device, section.place.seq, section.place.index);
                    let of = &section.commitment;
                    let comes = |act| self.stands(act, at, of);
                    let is_held = log.log != self.log && self.has_its_author(&log.device, of);
                    if !is_held && !coming.iter().any(comes) {
                        found.extend(self.unsaid(db, &section)?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Snapshots that may still come in.
    fn coming(&self, db: &Connection) -> Result<Vec<SnapshotAct>> {
        let half = snapshots::in_state(db, snapshots::State::Receiving)?.map(|half| half.act);
        let mut all = accepted(db, &self.roster, self.clearance)?;
        all.extend(half);
        Ok(all)
    }

    /// A section that this device lacks, if it might have it and has not said so.
    fn unsaid(&self, db: &Connection, section: &Section) -> Result<Option<Adopted>> {
        let Place { seq, index, .. } = section.place;
        let Some(of) = self.origin_of(db, section)? else { return Ok(None) };
        let me = self.device();
        let might = self.roster.device(&me).is_some_and(|own| own.ever_read(of.band));
        let has_none = matches!(section.state, Of::Missing | Of::Void | Of::Hidden)
            && sections::payload(db, section.place)? == Payload::Missing;
        let is_new = !self.lacked.is_said(&of, me);
        let (device, entry) = (of.device, of.entry);
        let is_it = is_new && has_none && (might || device == me);
        // It says nothing of what it can hand over another way.
        let is_it = is_it && !self.keeps_leaf_of(db, (&device, seq), &section.commitment)?;
        Ok(is_it.then_some(Adopted { device, seq, index, entry }))
    }

    fn origin_of(&self, db: &Connection, section: &Section) -> Result<Option<Origin>> {
        let Some(band) = self.keyring.band(&section.commitment) else { return Ok(None) };
        let Some(entry) = entries::hash(db, section.place.log, section.place.seq)? else {
            return Ok(None);
        };
        Origin::of_stored(db, section.place, entry, (Clock::ZERO, band)).map(Some)
    }

    /// Bytes have come: what this device has said to lack of them it takes back, now or when it
    /// can.
    pub(crate) fn note_found(&mut self, db: &Connection, found: &[Section]) -> Result<()> {
        let mut named = BTreeSet::new();
        for section in found.iter().filter(|_| !self.lacked.0.is_empty()) {
            let Some(of) = self.origin_of(db, section)? else { continue };
            if self.lacked.is_said(&of, self.device()) {
                let Origin { device, seq, index, entry, .. } = of;
                named.insert(Adopted { device, seq, index, entry });
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        if !self.may_say() {
            self.news.lacks = true;
            return Ok(());
        }
        let named: Vec<_> = named.into_iter().collect();
        for lot in named.chunks(ADOPTED_SECTIONS_MAX) {
            let act = LackAct { v: VERSION, lacked: lot.to_vec(), found: Some(true) };
            self.append_act(db, &Act::Lack(act))?;
        }
        self.sign(db)
    }
}

const PAGE: u32 = 256;
