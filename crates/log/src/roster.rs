//! The roster: who belongs to a space and what each may do, as a pure function of the set of acts.
//!
//! Acts may be applied in any order that respects causality (and are judged again as others
//! arrive): the same set of acts gives the same roster on every device.

use std::collections::{BTreeMap, BTreeSet};

use larder_types::{DeviceId, EntryHash, EpochId, MemberId, SpaceId, SpaceName, TransportId};

use crate::act::{Act, DeviceKeys, Enrolment, EpochAct, Genesis, Role};
use crate::error::VoidReason;
use crate::header::{Dep, Header};
use crate::section::Band;

/// An enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Whose it is.
    pub member: MemberId,
    /// Its name for people.
    pub label: String,
    /// What it may do.
    pub role: Role,
    /// The highest band it may read.
    pub clearance: Band,
    /// Its keys.
    pub keys: DeviceKeys,
    /// The entries that enrol it. A device's first entry names one of them, or a later entry of
    /// the same log, as its past. Empty for the founder.
    pub enrolled_by: Vec<Dep>,
}

/// An opened epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The entry that opens it, in the opener's log.
    pub opened_by: Dep,
    /// Who has its secrets, up to which band.
    pub recipients: BTreeMap<DeviceId, Band>,
    /// The epochs it replaces.
    pub supersedes: Vec<EpochId>,
}

/// Where an act stands: it is one element of the set that the roster is a function of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    entry: EntryHash,
    index: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed<T> {
    author: DeviceId,
    seq: u64,
    act: T,
}

/// The acts of one space and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    space: SpaceId,
    genesis: Option<Genesis>,
    enrolments: BTreeMap<Place, Placed<Enrolment>>,
    epoch_acts: BTreeMap<Place, Placed<EpochAct>>,
    devices: BTreeMap<DeviceId, Device>,
    epochs: BTreeMap<EpochId, Epoch>,
}

impl Roster {
    /// The empty roster of a space.
    pub const fn new(space: SpaceId) -> Self {
        Self {
            space,
            genesis: None,
            enrolments: BTreeMap::new(),
            epoch_acts: BTreeMap::new(),
            devices: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    /// The space.
    pub const fn space(&self) -> &SpaceId {
        &self.space
    }

    /// The space's name, once the genesis act is applied.
    pub fn name(&self) -> Option<&SpaceName> {
        self.genesis.as_ref().map(|genesis| &genesis.name)
    }

    /// The genesis act, once applied.
    pub const fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// Takes in the act in section `index` of the entry with this header. The same act again
    /// changes nothing.
    ///
    /// # Errors
    /// [`VoidReason`] why the act has no effect now. One whose author is not enrolled yet is kept,
    /// and takes effect when the author's enrolment arrives.
    pub fn apply(&mut self, header: &Header, index: u32, act: &Act) -> Result<(), VoidReason> {
        let entry = header.hash();
        let place = Place { entry, index };
        let (author, seq) = (header.device, header.seq);
        match act {
            Act::Genesis(genesis) => {
                let at_the_beginning =
                    header.is_genesis() && SpaceId::from(entry) == self.space && index == 0;
                if !at_the_beginning || genesis.founder.keys.signing != author {
                    return Err(VoidReason::NotGenesis);
                }
                self.genesis = Some(genesis.clone());
                self.judge();
                Ok(())
            }
            Act::Enrolment(enrolment) => {
                let device = enrolment.keys.signing;
                self.enrolments.insert(place, Placed { author, seq, act: enrolment.clone() });
                self.judge();
                let role = self.role(&author)?;
                let counts = self
                    .devices
                    .get(&device)
                    .is_some_and(|device| device.enrolled_by.iter().any(|dep| dep.entry == entry));
                if counts || (role.may_enrol(enrolment.role) && self.devices.contains_key(&device))
                {
                    Ok(())
                } else {
                    Err(VoidReason::Role)
                }
            }
            Act::Epoch(epoch) => {
                self.epoch_acts.insert(place, Placed { author, seq, act: epoch.clone() });
                self.judge();
                if self.role(&author)?.may_write() { Ok(()) } else { Err(VoidReason::Role) }
            }
            // It says nothing of who belongs to the space.
            Act::Snapshot(_) => {
                if self.role(&author)?.may_read() {
                    Ok(())
                } else {
                    Err(VoidReason::Role)
                }
            }
        }
    }

    /// Whether the act in section `index` of this entry was taken in, as an enrolment.
    pub fn knows_enrolment(&self, entry: EntryHash, index: u32) -> bool {
        self.enrolments.contains_key(&Place { entry, index })
    }

    /// All enrolled devices, in order of id.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.devices.iter()
    }

    /// The device with this id, if enrolled.
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// The device that uses this transport key, if enrolled.
    pub fn by_transport(&self, transport: &TransportId) -> Option<(&DeviceId, &Device)> {
        self.devices.iter().find(|(_, device)| device.keys.transport == *transport)
    }

    /// Whether the entry's author may add an entry at all: it is enrolled, and its first entry
    /// names its enrolment as its past.
    ///
    /// # Errors
    /// [`VoidReason::NotEnrolled`], [`VoidReason::EnrolmentNotSeen`].
    pub fn is_authorised(&self, header: &Header) -> Result<(), VoidReason> {
        let device = self.devices.get(&header.device).ok_or(VoidReason::NotEnrolled)?;
        let is_founder = device.enrolled_by.is_empty();
        let has_seen = |enrolment: &Dep| {
            header.dep_on(&enrolment.device).is_some_and(|dep| dep.seq >= enrolment.seq)
        };
        if header.seq > 1 || is_founder || device.enrolled_by.iter().any(has_seen) {
            Ok(())
        } else {
            Err(VoidReason::EnrolmentNotSeen)
        }
    }

    /// The devices that content is sealed to, with the highest band each may read.
    pub fn cleared(&self) -> BTreeMap<DeviceId, Band> {
        let reads = |(id, device): (&DeviceId, &Device)| {
            device.role.may_read().then(|| (*id, device.clearance.min(Band::Red)))
        };
        self.devices.iter().filter_map(reads).collect()
    }

    /// All valid epochs, in order of id.
    pub fn epochs(&self) -> impl Iterator<Item = (&EpochId, &Epoch)> {
        self.epochs.iter()
    }

    /// The epoch to write to: its recipients are exactly the devices that are cleared, no other
    /// epoch supersedes it, and `has_secrets` holds; of several the lowest id. None: open one.
    pub fn epoch_for_writing(&self, has_secrets: &dyn Fn(&EpochId) -> bool) -> Option<EpochId> {
        let cleared = self.cleared();
        let superseded: BTreeSet<&EpochId> =
            self.epochs.values().flat_map(|epoch| &epoch.supersedes).collect();
        self.epochs
            .iter()
            .filter(|(id, epoch)| epoch.recipients == cleared && !superseded.contains(id))
            .map(|(id, _)| *id)
            .find(has_secrets)
    }

    fn role(&self, device: &DeviceId) -> Result<Role, VoidReason> {
        self.devices.get(device).map(|device| device.role).ok_or(VoidReason::NotEnrolled)
    }

    /// Works out devices and epochs from the acts alone.
    ///
    /// Devices are found in rounds, from the founder outwards; a device's record is fixed in the
    /// round that first reaches it, by the lowest entry hash there. So an enrolment cannot decide
    /// over those that its own authority rests on.
    fn judge(&mut self) {
        self.devices.clear();
        self.epochs.clear();
        let Some(genesis) = &self.genesis else { return };
        let founder = &genesis.founder;
        self.devices.insert(founder.keys.signing, device_of(founder));
        loop {
            let mut found = BTreeMap::new();
            for enrolment in self.enrolments.values() {
                let id = enrolment.act.keys.signing;
                if !self.devices.contains_key(&id) && self.may_enrol(enrolment) {
                    found.entry(id).or_insert_with(|| device_of(&enrolment.act));
                }
            }
            if found.is_empty() {
                break;
            }
            self.devices.append(&mut found);
        }
        let mut seen = Vec::new();
        for (place, enrolment) in &self.enrolments {
            let id = enrolment.act.keys.signing;
            if id != founder.keys.signing && self.may_enrol(enrolment) {
                let Placed { author, seq, .. } = *enrolment;
                seen.push((id, Dep { device: author, seq, entry: place.entry }));
            }
        }
        for (id, dep) in seen {
            if let Some(device) = self.devices.get_mut(&id) {
                device.enrolled_by.push(dep);
            }
        }
        self.judge_epochs();
    }

    fn judge_epochs(&mut self) {
        for (place, placed) in &self.epoch_acts {
            let Placed { author, seq, act } = placed;
            if !self.devices.get(author).is_some_and(|device| device.role.may_write()) {
                continue;
            }
            let epoch = Epoch {
                opened_by: Dep { device: *author, seq: *seq, entry: place.entry },
                recipients: act.envelopes.iter().map(|e| (e.recipient, e.band)).collect(),
                supersedes: act.supersedes.clone(),
            };
            // An entry opens one epoch; a second act in it has no name of its own.
            self.epochs.entry(place.entry.into()).or_insert(epoch);
        }
    }

    fn may_enrol(&self, enrolment: &Placed<Enrolment>) -> bool {
        self.devices
            .get(&enrolment.author)
            .is_some_and(|author| author.role.may_enrol(enrolment.act.role))
    }
}

fn device_of(enrolment: &Enrolment) -> Device {
    Device {
        member: enrolment.member,
        label: enrolment.label.clone(),
        role: enrolment.role,
        clearance: enrolment.clearance,
        keys: enrolment.keys.clone(),
        enrolled_by: Vec::new(),
    }
}
