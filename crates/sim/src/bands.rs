//! What devices are cleared for: the first one raises and lowers it while everything goes on, and
//! nothing above it is shown or handed on.

use std::collections::BTreeMap;

use larder_engine::{Answer, DeviceInfo, Error, Space};
use larder_log::act::Role;
use larder_log::{Band, Class, Payload, entry_hash};
use larder_protocol::{Position, Reply, Request};
use larder_types::{DeviceId, EntryHash};

use crate::device::{Job, Slot};
use crate::model::{Fate, Operation, Unit};
use crate::world::World;

/// Another clearance for a device, from its entry with this number on.
pub(crate) type Changes = BTreeMap<DeviceId, Vec<(u64, Band)>>;

/// Which band the device is cleared for, as far as it knows.
pub(crate) fn clearance_in(space: &Space) -> Band {
    let devices = space.devices().unwrap_or_default();
    devices.into_iter().find(|device| device.me).map_or(Band::Red, |own| own.clearance)
}

impl World {
    pub(crate) fn clearance(&self, slot: Slot) -> Band {
        self.devices[slot].space().map_or(Band::Red, clearance_in)
    }

    /// The first device clears another one for more or less than before, whatever that is doing.
    pub(crate) fn change_one_clearance(&mut self) {
        let Some(space) = self.devices[0].space() else { return };
        let known = space.devices().unwrap_or_default();
        let is_own = |id: &DeviceId| self.devices.iter().any(|device| device.id == Some(*id));
        let is_other = |one: &&DeviceInfo| !one.me && one.role != Role::Auditor;
        let others = known.iter().filter(is_other).filter(|one| is_own(&one.device));
        let others: Vec<_> = others.map(|one| (one.device, one.role, one.clearance)).collect();
        let Some((id, role, before)) = self.pick(&others) else { return };
        let band = Band::SHARED[self.below(3)];
        if band != before {
            self.enqueue(0, Job::Clear(id, role, band));
        }
    }

    pub(crate) fn clear(&mut self, slot: Slot, id: DeviceId, role: Role, band: Band) {
        let Some(heads) = self.frontier_now(slot) else { return };
        let from_seq = heads.get(&id).map_or(1, |head| head.size + 1);
        let space = self.devices[slot].space().expect("it is open");
        let of = space.devices().unwrap_or_default().into_iter().find(|one| one.device == id);
        let before = of.map_or(Band::Red, |one| one.clearance);
        let writer = self.devices[slot].writer().expect("it is open");
        let changed = writer.change_role(id, role, band);
        if !matches!(changed, Err(Error::NotFound(_) | Error::Invalid(_))) {
            // Of what failed nobody knows.
            let lower = if changed.is_ok() { band } else { before.min(band) };
            self.model.clearances.entry(id).or_default().push((from_seq, lower));
            self.model.is_unsure_of_bands |= changed.is_err();
        }
        if self.notice_power(slot) {
            return;
        }
        match changed {
            Ok(_) => {
                self.note(|| format!("{slot} clears {id} for {band:?}"));
                let is_raised = before < band;
                self.report.count(if is_raised {
                    "fault: clearances raised"
                } else {
                    "fault: clearances lowered"
                });
                self.committed(slot);
            }
            Err(error) => {
                self.note(|| format!("{slot} does not clear {id}: {error}"));
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    /// Whether a unit wrote in this band where its author was not cleared for it any more, or not
    /// yet.
    pub(crate) fn is_above(&self, unit: &Unit, band: Option<Band>) -> bool {
        let Fate::Committed(committed) = &unit.fate else { return false };
        let changes = self.model.clearances.get(&unit.author).into_iter().flatten();
        let last = changes.rev().find(|(from_seq, _)| *from_seq <= committed.seq);
        last.is_some_and(|(_, clearance)| band > Some(*clearance))
    }

    pub(crate) fn was_lowered(&self, author: &DeviceId) -> bool {
        self.model.clearances.contains_key(author)
    }

    fn band_of(&self, operation: &Operation) -> Option<Band> {
        self.model.documents[&operation.object()].band
    }

    /// What a device with a lower clearance could give to anybody has no byte above it, but what
    /// counts for nothing, which nobody else has asked for. What it gives all the same.
    pub(crate) fn above_clearance(&mut self, slot: Slot) -> Option<String> {
        let clearance = self.clearance(slot);
        if clearance == Band::Red {
            return None;
        }
        let may_be_here = |unit: &Unit, it: &Operation| {
            let band = self.band_of(it);
            band <= Some(clearance) || self.is_above(unit, band)
        };
        let here = |unit: &Unit| unit.operations.iter().filter(|it| may_be_here(unit, it)).count();
        let units = self.model.committed_units();
        let units = units.filter(|(unit, _)| here(unit) < unit.operations.len());
        let units = units.map(|(unit, one)| ((unit.author, one.entry), here(unit)));
        let units: BTreeMap<_, usize> = units.collect();
        let (mut seen, mut found) = (0, None);
        self.each_handed_on(slot, |of, bytes| {
            let Some(here) = units.get(&of) else { return };
            seen += 1;
            if bytes > *here {
                found = Some(format!("{slot} has bytes of {of:?} above {clearance:?}"));
            }
        });
        self.report.add("check: entries above a clearance", seen);
        found
    }

    /// Shows `look` each entry that the device would give to the first one, which may read all, and
    /// of how many sections with content it has the bytes.
    pub(crate) fn each_handed_on(
        &self,
        slot: Slot,
        mut look: impl FnMut((DeviceId, EntryHash), usize),
    ) {
        let (space, to) = (self.devices[slot].space().expect("it is up"), &self.devices[0]);
        let (mut after, mut have) = (Position::default(), BTreeMap::new());
        loop {
            let (epochs, bytes_target) = (Vec::new(), 1 << 20);
            let request = Request::ReadBatch { after, have: have.clone(), epochs, bytes_target };
            let answer = space.answer(&to.transport, request);
            let Answer::Reply(Reply::Batch { position, batch }) = answer else {
                panic!("{slot} does not hand on what it holds: {answer:?}")
            };
            let Some(batch) = batch else { return };
            (after, _) = (position, have.insert(batch.device, batch.size()));
            for entry in &batch.entries {
                let all = entry.commitments.iter().zip(&entry.payloads);
                let here = all.filter(|(commitment, payload)| {
                    commitment.class == Class::Data as u8 && **payload != Payload::Missing
                });
                look((batch.device, entry_hash(&entry.header)), here.count());
            }
        }
    }
}
