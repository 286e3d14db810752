//! Bytes that nobody has any more.
//!
//! A lost phone's entries may be known by way of a device that may not read them, and then nobody
//! can ever hand over what they hold. Each device says what it lacks of such, and what all lack
//! that ever might have it is void: it is waited for no more. Who has bytes says nothing, so
//! nothing is void that anybody in the space has.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::adoption::{Adopted, AdoptionAct, LackAct};
use larder_log::roster::Device;
use larder_log::snapshot::SnapshotAct;
use larder_log::{Payload, SectionCommitment, VERSION, kind};
use larder_store::space::sections::{self, Place, Section, State as Of};
use larder_store::space::{control, entries, logs, snapshots};
use larder_types::limits::ADOPTED_SECTIONS_MAX;
use larder_types::{Clock, DeviceId, EntryHash};
use rusqlite::Connection;

use crate::Result;
use crate::clearance::stands_for;
use crate::prune::accepted;
use crate::rows::Origin;
use crate::state::State;

/// What was said to be lacking: by place, of which entry, and by whom.
#[derive(Debug, Default)]
pub(crate) struct AllLacked(BTreeMap<(DeviceId, u64, u32), BTreeSet<(EntryHash, DeviceId)>>);

impl AllLacked {
    pub(crate) fn load(db: &Connection) -> Result<Self> {
        let mut all = Self::default();
        for stored in control::acts_of_kind(db, kind::LACK)? {
            if let Ok(Some(Act::Lack(act))) = Act::from_body(stored.kind, &stored.body) {
                all.add(logs::by_number(db, stored.place.log)?.device, &act);
            }
        }
        Ok(all)
    }

    fn add(&mut self, by: DeviceId, act: &LackAct) {
        for of in &act.lacked {
            let place = (of.device, of.seq, of.index);
            self.0.entry(place).or_default().insert((of.entry, by));
        }
    }

    fn is_said(&self, of: &Origin, by: DeviceId) -> bool {
        let said = self.0.get(&(of.device, of.seq, of.index));
        said.is_some_and(|said| said.contains(&(of.entry, by)))
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
        if !self.lacked.0.contains_key(&(of.device, of.seq, of.index)) {
            return false;
        }
        let mut might = self
            .roster
            .devices()
            .filter(|(id, device)| **id == of.device || device.ever_read(of.band));
        might.all(|(id, _)| self.lacked.is_said(of, *id)) && !self.is_adopted_here(of)
    }

    pub(crate) fn take_lack(&mut self, db: &Connection, by: DeviceId, act: &LackAct) -> Result<()> {
        self.lacked.add(by, act);
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
        let lacked: Vec<Adopted> = lacked.into_iter().take(ADOPTED_SECTIONS_MAX).collect();
        if lacked.is_empty() {
            return Ok(!found.is_empty());
        }
        self.append_act(db, &Act::Lack(LackAct { v: VERSION, lacked }))?;
        self.sign(db)?;
        Ok(true)
    }

    /// Whether there is anything of that to say.
    pub(crate) fn must_say_lacking(&self, db: &Connection) -> Result<bool> {
        let Unsaid { lacked, found } = self.to_say(db)?;
        Ok(!lacked.is_empty() || !found.is_empty())
    }

    /// Nothing for who could not take it back: that waits, and nothing is given up.
    fn to_say(&self, db: &Connection) -> Result<Unsaid> {
        let mut all = Unsaid::default();
        if !self.may_adopt() || self.roster.device(&self.device()).is_none() {
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
        let is_open = self.lacked.is_said(&of, self.device()) && !self.is_adopted_here(&of);
        // Only what might be of its author's band is: else this would be said for ever.
        let may = self.writes_up_to(&self.device(), self.frontier.size() + 1) >= Some(of.band);
        Ok(is_open && may && sections::payload(db, section.place)? != Payload::Missing)
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
                    let at = (&log.device, section.place.seq);
                    let of = &section.commitment;
                    let comes = |act| stands_for(act, &self.keyring, at, of);
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
        Ok(is_it.then_some(Adopted { device, seq, index, entry }))
    }

    fn origin_of(&self, db: &Connection, section: &Section) -> Result<Option<Origin>> {
        let Some(band) = self.keyring.band(&section.commitment) else { return Ok(None) };
        let Some(entry) = entries::hash(db, section.place.log, section.place.seq)? else {
            return Ok(None);
        };
        Origin::of_stored(db, section.place, entry, (Clock::ZERO, band)).map(Some)
    }

    /// Bytes have come: by adopting what this device has said to lack of them it takes that back.
    pub(crate) fn note_found(&mut self, db: &Connection, found: &[Section]) -> Result<()> {
        let mut adopted = BTreeSet::new();
        for section in found.iter().filter(|_| !self.lacked.0.is_empty()) {
            let Some(of) = self.origin_of(db, section)? else { continue };
            if self.lacked.is_said(&of, self.device()) && !self.is_adopted_here(&of) {
                let Origin { device, seq, index, entry, .. } = of;
                adopted.insert(Adopted { device, seq, index, entry });
            }
        }
        if adopted.is_empty() || !self.may_adopt() {
            return Ok(());
        }
        let adopted: Vec<_> = adopted.into_iter().collect();
        for lot in adopted.chunks(ADOPTED_SECTIONS_MAX) {
            let act = AdoptionAct { v: VERSION, adopted: lot.to_vec() };
            self.append_act(db, &Act::Adoption(act))?;
        }
        self.sign(db)
    }
}

const PAGE: u32 = 256;
