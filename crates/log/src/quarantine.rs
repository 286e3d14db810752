//! Devices that stay away: an owner or admin sets one aside by a signed act, and the others wait
//! for it no more until it is back.
//!
//! A device is back when an entry of its log names the act that set it aside, or one behind it in
//! that log: then it has heard, and says nothing any more that does not know what happened
//! meanwhile. It keeps its rights all the while; its own edits count whenever they come.

use std::collections::{BTreeMap, BTreeSet};

use larder_types::limits::ACT_PARENTS_MAX;
use larder_types::{DeviceId, EntryHash};

use crate::act::{Role, check_version};
use crate::error::VoidReason;
use crate::header::Dep;
use crate::roster::Roster;

/// Sets a device aside, or takes that back.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct QuarantineAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// Which.
    #[n(1)]
    pub device: DeviceId,
    /// The entries with the acts that are taken back, in order; at most [`ACT_PARENTS_MAX`]. None:
    /// this one sets it aside.
    #[n(2)]
    pub lifted: Vec<EntryHash>,
}

impl QuarantineAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        if self.lifted.len() > ACT_PARENTS_MAX || !self.lifted.is_sorted_by(|a, b| a < b) {
            return Err(VoidReason::Malformed("acts not in order, each once, or too many".into()));
        }
        Ok(())
    }
}

/// What a set of such acts comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantines {
    /// The acts that set each device aside.
    set: BTreeMap<DeviceId, BTreeMap<EntryHash, Dep>>,
    lifted: BTreeSet<EntryHash>,
}

impl Quarantines {
    /// Takes in an act in this entry, in any order, if its author might set that device aside: an
    /// owner, or an admin if the device is no owner's. None sets itself aside.
    pub fn take(&mut self, roster: &Roster, by: Dep, act: &QuarantineAct) {
        let author = roster.known(&by.device).and_then(|author| author.standing_at(by.seq));
        let of_owner = roster.known(&act.device).is_none_or(|device| device.role == Role::Owner);
        let may = match author.map(|author| author.role) {
            _ if by.device == act.device => false,
            Some(Role::Owner) => true,
            Some(Role::Admin) => !of_owner,
            _ => false,
        };
        if !may {
            return;
        }
        if act.lifted.is_empty() {
            self.set.entry(act.device).or_default().insert(by.entry, by);
        } else {
            self.lifted.extend(&act.lifted);
        }
    }

    /// The acts that set a device aside, taken back or not.
    pub fn of(&self, device: &DeviceId) -> impl Iterator<Item = Dep> {
        self.set.get(device).into_iter().flat_map(BTreeMap::values).copied()
    }

    /// Devices that were set aside and may be still, with the acts that were not taken back.
    pub fn open(&self) -> impl Iterator<Item = (DeviceId, Vec<Dep>)> {
        self.set.iter().filter_map(|(device, acts)| {
            let open = acts.values().filter(|by| !self.lifted.contains(&by.entry));
            let open: Vec<Dep> = open.copied().collect();
            (!open.is_empty()).then_some((*device, open))
        })
    }
}
