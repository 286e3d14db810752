//! After a run at whose end all agree: who is gone is set aside, what all hold is pruned, and a
//! device that comes then shows what the others show.

use std::collections::BTreeSet;

use larder_log::snapshot::SnapshotAct;
use larder_types::DeviceId;

use crate::device::{Job, Slot};
use crate::world::World;

/// Rounds in which a snapshot is stated, stated by all others, and acknowledged, and one to spare.
const ROUNDS: usize = 4;

impl World {
    /// Whether anything was done: then all have to agree once more.
    pub(crate) fn prune_at_the_end(&mut self) -> bool {
        if self.plan.prunes == 0 && self.plan.prunes_from.is_none() {
            return false;
        }
        let members = self.members();
        // Of its own enrolment one may have heard nothing.
        let known = members.iter().find(|slot| self.is_enrolled(**slot));
        let Some(first) = known.copied() else { return false };
        self.set_aside_who_is_gone(first, &members);
        for round in 0..ROUNDS {
            for slot in &members {
                // Where a section was waited for that nobody has, once that is known.
                let proposes = *slot == first && (round == 0 || !self.has_pruned(first));
                self.enqueue(*slot, Job::Prune(proposes));
                self.drain();
            }
            for (at, from) in members.iter().enumerate() {
                for to in members.iter().skip(at + 1) {
                    self.speak(*from, *to);
                }
            }
        }
        self.check_pruned(&members);
        self.let_in_at_the_end(first);
        true
    }

    /// Nobody waits for a device that will not come back.
    pub(crate) fn set_aside_who_is_gone(&mut self, by: Slot, members: &[Slot]) {
        let present: BTreeSet<DeviceId> =
            members.iter().filter_map(|slot| self.devices[*slot].id).collect();
        let space = self.devices[by].space().expect("it is up");
        let known = space.devices().expect("who belongs to the space");
        for id in known.into_iter().map(|it| it.device).filter(|id| !present.contains(id)) {
            self.enqueue(by, Job::SetAside(id));
        }
        self.drain();
    }

    fn has_pruned(&self, slot: Slot) -> bool {
        let status = self.devices[slot].space().map(larder_engine::Space::prune_status);
        status.is_some_and(|status| status.expect("how far it is pruned").covered > 0)
    }

    /// Where nobody is in the way, all have dropped what they agreed on and wait for nobody, and of
    /// two snapshots that were agreed on one includes the other.
    fn check_pruned(&mut self, members: &[Slot]) {
        let is_clean = self.is_clean();
        let present: BTreeSet<DeviceId> =
            members.iter().filter_map(|slot| self.devices[*slot].id).collect();
        for slot in members {
            let space = self.devices[*slot].space().expect("it is up");
            let status = space.prune_status().expect("how far it is pruned");
            self.report.add("check: devices that have pruned", u64::from(status.covered > 0));
            assert!(!is_clean || status.covered > 0, "{slot} has not pruned: {status:?}");
            // What one that is here has not stated by now it never will.
            let waits =
                status.sections > 0 && status.waits_for.iter().any(|id| present.contains(id));
            assert!(!is_clean || !waits, "{slot} waits for who does not state it: {status:?}");
            let agreed = space.agreed_snapshots().expect("what was agreed on");
            self.report.add("check: snapshots that were agreed on", agreed.len() as u64);
            for (at, one) in agreed.iter().enumerate() {
                let is_beside = |it: &&SnapshotAct| !one.includes(it) && !it.includes(one);
                let beside = agreed.iter().skip(at + 1).find(is_beside);
                assert!(
                    !is_clean || beside.is_none(),
                    "{slot}: {one:?} and {beside:?} are agreed on"
                );
            }
        }
    }

    /// Nothing goes of an entry that somebody who is waited for has not got.
    pub(crate) fn check_dropped(&mut self, slot: Slot) {
        if !self.is_clean() {
            return;
        }
        // Not where the power fails, or a disk is full, just then.
        let Ok((known, lacks)) = self.who_has_what_went(slot) else { return };
        assert_eq!(lacks, None, "{slot} drops what is not everywhere, and is to wait for that");
        self.report.add("check: what went is known to all", known);
    }

    /// How many of those that are waited for have all entries that the device's snapshot covers,
    /// and one that has not.
    fn who_has_what_went(&self, slot: Slot) -> larder_engine::Result<(u64, Option<Slot>)> {
        let space = self.devices[slot].space().expect("it is up");
        let held = space.held_snapshot()?.expect("it stands for what went");
        let progress = space.status()?.progress;
        let is_waited_for = |other: &Slot| {
            let waits = progress.iter().find(|one| Some(one.device) == self.devices[*other].id);
            *other != slot
                && !self.devices[*other].likes.audits
                && waits.is_some_and(|one| !one.set_aside)
        };
        let mut known = 0;
        for other in self.up().into_iter().filter(is_waited_for) {
            let theirs = self.devices[other].space().expect("it is up");
            // Who has not heard that it belongs to the space was let in behind all that.
            if !theirs.devices()?.iter().any(|it| it.device == theirs.device()) {
                continue;
            }
            if !theirs.has_entries_of(&held)? {
                return Ok((known, Some(other)));
            }
            known += 1;
        }
        Ok((known, None))
    }

    fn let_in_at_the_end(&mut self, inviter: Slot) {
        let slot = self.add_device();
        self.ask_to_join(slot, inviter);
        self.drain();
        assert!(self.devices[slot].id.is_some(), "{inviter} cannot let a device in");
        self.speak(slot, inviter);
    }
}
