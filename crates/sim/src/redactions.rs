//! Parts that are taken out of documents, and that what is erased is handed on by nobody.

use std::collections::{BTreeMap, BTreeSet};

use larder_types::{DeviceId, ObjectId};

use crate::agreement::{Content, Expected};
use crate::app::{ASIDE, is_shared_id};
use crate::device::Slot;
use crate::model::{Model, Operation, Unit};
use crate::world::World;

impl Model {
    /// Documents, each with what is left of it under other ids.
    pub(crate) fn families(&self) -> BTreeMap<ObjectId, Vec<ObjectId>> {
        let mut families: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
        for object in self.documents.keys() {
            let origin = |object: &ObjectId| self.redacted.get(object).copied();
            let first = std::iter::successors(Some(*object), origin).last().unwrap_or(*object);
            families.entry(first).or_default().push(*object);
        }
        families
    }
}

impl World {
    pub(crate) fn redact(&mut self, slot: Slot, unit: usize, object: ObjectId) {
        let paths = [vec![ASIDE.to_owned()]];
        let result = self.devices[slot].writer().expect("it is open").redact(object, &paths);
        let (is_ok, power_failed) = (result.is_ok(), self.devices[slot].fused.is_blown());
        if let Ok(redaction) = &result {
            redaction.created.verify().expect("a receipt that verifies");
            self.report.count("app: documents redacted");
            let band = self.model.documents.get(&object).and_then(|known| known.band);
            self.model.redacted.insert(redaction.object, object);
            self.model.documents.entry(redaction.object).or_default().band = band;
        }
        self.told(slot, unit, result.map(|redaction| redaction.erased), power_failed);
        if !self.notice_power(slot) && is_ok {
            self.committed(slot);
        }
    }

    /// Documents of which the rest may never come, as who redacted them has two histories.
    pub(crate) fn open_redactions(&self) -> BTreeSet<ObjectId> {
        let redacts = |unit: &Unit| {
            let mut operations = unit.operations.iter();
            operations.any(|it| matches!(it, Operation::Redact { .. }))
                && (self.is_copied(&unit.author) || self.is_doubtful(&unit.author))
        };
        let is_open = |family: &Vec<ObjectId>| {
            let units = family.iter().flat_map(|object| &self.model.documents[object].units);
            let mut units = units.map(|unit| &self.model.units[*unit]);
            units.any(redacts)
        };
        self.model.families().into_values().filter(is_open).flatten().collect()
    }

    /// Nobody hands on bytes of what was erased for sure.
    pub(crate) fn check_erased(&mut self, members: &BTreeSet<DeviceId>, content: &Content) {
        let is_sure =
            |unit: &Unit| !self.is_copied(&unit.author) && !self.is_doubtful(&unit.author);
        let is_gone = |(object, known): (&ObjectId, &crate::model::Known)| {
            let units = || known.units.iter().map(|unit| &self.model.units[*unit]);
            let erases = |unit: &Unit| match unit.operations[..] {
                [Operation::Erase { object: of } | Operation::Redact { object: of }] => {
                    of == *object && members.contains(&unit.author)
                }
                _ => false,
            };
            let is_held =
                |unit: &Unit| content.holds(unit) == Some(true) && !self.is_above(unit, known.band);
            known.band.is_none_or(|band| band <= content.clearance)
                && !is_shared_id(object)
                && units().all(is_sure)
                && units().any(|unit| erases(unit) && is_held(unit))
        };
        let gone = self.model.documents.iter().filter(|known| is_gone(*known));
        let gone: BTreeSet<ObjectId> = gone.map(|(object, _)| *object).collect();
        let stays = |unit: &Unit| {
            unit.operations.iter().filter(|operation| !gone.contains(&operation.object())).count()
        };
        let units = self.model.committed_units().filter(|(unit, _)| !unit.is_twice);
        let units = units.filter(|(unit, _)| stays(unit) < unit.operations.len());
        let units: BTreeMap<_, usize> =
            units.map(|(unit, one)| ((unit.author, one.entry), stays(unit))).collect();
        let slot = self.devices.iter().find(|device| device.id == Some(content.device()));
        let Some(slot) = slot.map(|device| device.slot).filter(|_| !units.is_empty()) else {
            return;
        };
        let mut seen = 0;
        self.each_handed_on(slot, |of, bytes| {
            let Some(stays) = units.get(&of) else { return };
            seen += 1;
            assert!(bytes <= *stays, "{slot} hands on bytes of {of:?}, which were erased");
        });
        self.report.add("check: entries of what was erased", seen);
    }
}

/// How many words were looked for.
#[derive(Default)]
pub(crate) struct Asides {
    pub(crate) gone: u64,
    pub(crate) kept: u64,
}

impl Asides {
    /// What was taken out of a document is nowhere; what was not is there.
    pub(crate) fn check(family: &[ObjectId], expected: &Expected<'_>, content: &Content) -> Self {
        let mut looked_at = Self::default();
        for (word, held) in &expected.asides {
            let found = content.asides.get(*word).copied().unwrap_or(0);
            if expected.is_redacted {
                assert_eq!(found, 0, "{word} was taken out of {family:?}, and is there");
                assert!(content.finds(word).is_empty(), "{word} was taken out, and is found");
                looked_at.gone += 1;
            } else if *held == Some(true) && expected.is_there_once() {
                assert_eq!(found, 1, "{word} of {family:?} is not there, and nobody took it out");
                looked_at.kept += 1;
            }
        }
        looked_at
    }
}
