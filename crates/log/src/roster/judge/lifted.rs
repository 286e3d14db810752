//! Acts that would shut a device out, and have no force over it.
//!
//! Such an act holds: whoever knew it and nothing of what has taken its force took the device for
//! shut out, and waited for it no more.

use std::collections::{BTreeMap, BTreeSet};

use larder_types::DeviceId;

use super::{Judge, Node, Shield};
use crate::act::Role;
use crate::header::Dep;

/// An act that holds, and would shut a device out, or one by which it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// Where it stands.
    pub act: Dep,
    /// What has taken its force, each of them alone.
    pub by: Vec<Dep>,
}

/// What such an act would do to the device that it names.
struct Over {
    /// How many of its entries it would leave as they are.
    keeps: u64,
    /// Whether it might read all the same, and be asked.
    may_read: bool,
    lifted: Lifted,
}

impl Judge {
    /// By device, the acts that are lifted from it, or from one by which it came in.
    pub(in super::super) fn lifted(&self) -> BTreeMap<DeviceId, Vec<Lifted>> {
        let over = (0..self.known.len()).map(|device| (device, self.lifted_over(device)));
        let over: BTreeMap<usize, Vec<Over>> = over.filter(|(_, all)| !all.is_empty()).collect();
        if over.is_empty() {
            return BTreeMap::new();
        }
        let from = |device| self.lifted_from(device, &over);
        let all = (0..).zip(&self.known).map(|(device, known)| (known.id, from(device)));
        all.filter(|(_, lifted)| !lifted.is_empty()).collect()
    }

    fn lifted_from(&self, device: usize, over: &BTreeMap<usize, Vec<Over>>) -> Vec<Lifted> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let (mut of, mut seq) = (device, u64::MAX);
        while seen.insert(of) {
            let takes = |act: &&Over| act.keeps < seq && (of != device || !act.may_read);
            let taking = over.get(&of).into_iter().flatten().filter(takes);
            found.extend(taking.map(|act| act.lifted.clone()));
            match self.record(&self.all, self.all.acts(), of) {
                Some(node) if node.is_judged() => (of, seq) = (node.author, node.placed.seq),
                _ => break,
            }
        }
        found
    }

    fn lifted_over(&self, device: usize) -> Vec<Over> {
        let shield = self.all.shield(self, device);
        let Some(known) = self.known.get(device) else { return Vec::new() };
        // Mostly nothing keeps a device from any act's force.
        if !shield.was_owner && shield.recovered.is_empty() {
            return Vec::new();
        }
        let cutting = known.cut_by.iter().filter_map(|at| {
            let cuts = self.nodes.get(*at)?.placed.cuts();
            let cut = cuts.iter().find(|cut| cut.device == known.id)?;
            Some((*at, cut.keeps, false))
        });
        let shutting = self.shutting_out.iter().filter_map(|at| {
            let node = self.nodes.get(*at)?;
            self.all.names_member_of(self, *at, node, device).then_some((*at, 0, false))
        });
        let changing = known.changes.iter().map(|change| {
            (change.at, change.from_seq.saturating_sub(1), change.standing.role.may_read())
        });
        let all = cutting.chain(shutting).chain(changing).filter_map(|(at, keeps, may_read)| {
            let node = self.nodes.get(at)?;
            let by = self.lifted_by(&shield, node, device);
            let lifted = Lifted { act: dep(node), by };
            (!lifted.by.is_empty()).then_some(Over { keeps, may_read, lifted })
        });
        all.collect()
    }

    /// What has taken an act's force over the device; nothing, if it has force ([`Judge::binds`]).
    fn lifted_by(&self, shield: &Shield, act: &Node, device: usize) -> Vec<Dep> {
        let over = shield.recovered.iter().filter(|number| self.is_over(**number, act));
        let recovered = over.filter_map(|number| self.recovered.get(*number));
        let mut by: BTreeSet<usize> = recovered.flat_map(|one| one.carried.clone()).collect();
        if let Some(known) = self.known.get(device).filter(|_| Self::is_admins(act, device)) {
            let makes_owner = |at: &&usize| {
                let node = self.nodes.get(**at);
                let enrolment = node.and_then(|node| node.placed.enrolment());
                enrolment.is_some_and(|enrolment| enrolment.role == Role::Owner)
            };
            by.extend(known.enrolments.iter().filter(makes_owner));
            let raised = known.changes.iter().filter(|one| one.standing.role == Role::Owner);
            by.extend(raised.map(|change| change.at));
        }
        by.into_iter().filter_map(|at| self.nodes.get(at)).map(|node| dep(node)).collect()
    }
}

fn dep(node: &Node) -> Dep {
    Dep { device: node.placed.author, seq: node.placed.seq, entry: node.entry }
}
