//! The roster: who belongs to a space and what each may do, as a pure function of the set of acts.
//!
//! Acts may be taken in in any order: the same set of acts gives the same roster on every device.
//! `judge` says which of them count.

mod acts;
mod judge;
#[cfg(test)]
mod tests;
mod view;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use larder_crypto::hash::sha256;
use larder_types::{
    DeviceId, EntryHash, EpochId, MemberId, SpaceId, SpaceName, TransportId, canonical,
};

use crate::act::{Act, DeviceKeys, EpochAct, Genesis, Role};
use crate::error::VoidReason;
use crate::header::{Dep, Header};
use crate::labels;
use crate::section::Band;
use judge::{Judge, Judged, Placed};

pub use judge::{Lifted, Standing};

/// A device that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Whose it is.
    pub member: MemberId,
    /// Its name for people.
    pub label: String,
    /// What it may do; what it might last, if it was shut out.
    pub role: Role,
    /// The highest band it may read.
    pub clearance: Band,
    /// Its keys.
    pub keys: DeviceKeys,
    /// The entries that enrol it. A device's first entry names one of them, or a later entry of
    /// the same log, as its past. Empty for the founder.
    pub enrolled_by: Vec<Dep>,
    /// How many of its entries count, if it was shut out.
    pub keeps: Option<u64>,
    /// What it may do from which of its entries on; nothing from where it was shut out.
    pub standings: Vec<(u64, Option<Standing>)>,
    /// The lowest clearance that it was ever given, for however few of its entries, or none.
    pub lowest: Band,
}

impl Device {
    /// The highest band that it has been cleared for ever since it was enrolled: what it said
    /// before it was cleared for more says nothing of that.
    pub fn always_cleared(&self) -> Band {
        let all = self.standings.iter();
        let all = all.map(|(_, standing)| standing.map_or(Band::Green, |own| own.clearance));
        all.chain([self.lowest]).min().unwrap_or(Band::Green)
    }

    /// Whether it ever might have what is of a band.
    pub fn ever_read(&self, band: Band) -> bool {
        let standings = self.standings.iter().filter_map(|(_, standing)| *standing);
        standings.into_iter().any(|own| own.role.may_read() && own.clearance >= band)
    }

    /// What it may do at `seq` of its log.
    pub fn standing_at(&self, seq: u64) -> Option<Standing> {
        let at = self.standings.partition_point(|(from_seq, _)| *from_seq <= seq);
        at.checked_sub(1).and_then(|at| self.standings.get(at)).and_then(|(_, standing)| *standing)
    }
}

/// An opened epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The entry that opens it, in the opener's log.
    pub opened_by: Dep,
    /// The opener's clearance there. It drew the secrets of all bands.
    pub opener: Band,
    /// Who has its secrets, up to which band.
    pub recipients: BTreeMap<DeviceId, Band>,
    /// The epochs it replaces.
    pub supersedes: Vec<EpochId>,
}

/// Up to which band each device may write, from which of its entries on; none: not at all.
pub type Writing = BTreeMap<DeviceId, Vec<(u64, Option<Band>)>>;

/// The entries, from the first to the last, in which `old` and `new` differ. Who is in neither may
/// write nothing.
pub fn differing(
    old: Option<&Vec<(u64, Option<Band>)>>,
    new: Option<&Vec<(u64, Option<Band>)>>,
) -> Vec<(u64, u64)> {
    let [old, new] = [old, new].map(|all| all.map_or(&[][..], Vec::as_slice));
    let at = |all: &[(u64, Option<Band>)], seq: u64| {
        let end = all.partition_point(|(from_seq, _)| *from_seq <= seq);
        end.checked_sub(1).and_then(|at| all.get(at)).and_then(|(_, up_to)| *up_to)
    };
    let places: BTreeSet<u64> = old.iter().chain(new).map(|(from_seq, _)| *from_seq).collect();
    let ends = places.iter().skip(1).map(|next| next - 1).chain([u64::MAX]);
    let ranges = places.iter().copied().zip(ends);
    ranges.filter(|(from_seq, _)| at(old, *from_seq) != at(new, *from_seq)).collect()
}

/// Where an act stands: it is one element of the set that the roster is a function of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    entry: EntryHash,
    index: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PlacedEpoch {
    author: DeviceId,
    seq: u64,
    act: EpochAct,
}

/// The acts of one space and what follows from them.
#[derive(Debug, Clone)]
pub struct Roster {
    space: SpaceId,
    genesis: Option<Genesis>,
    judge: Judge,
    /// Acts of membership that are here, and those that wait for what they name.
    known: BTreeSet<EntryHash>,
    waiting: BTreeMap<EntryHash, Placed>,
    /// By what is not here, those that wait for it first of all.
    wanted: BTreeMap<EntryHash, Vec<EntryHash>>,
    counting: BTreeSet<EntryHash>,
    epoch_acts: BTreeMap<Place, PlacedEpoch>,
    /// Who wrote those that are new.
    openers: BTreeSet<DeviceId>,
    devices: BTreeMap<DeviceId, Device>,
    revoked: BTreeMap<DeviceId, Device>,
    epochs: BTreeMap<EpochId, Epoch>,
    /// Once it was asked for since something changed.
    lifted: OnceLock<BTreeMap<DeviceId, Vec<Lifted>>>,
}

/// Two rosters are equal if the same acts gave the same result, in whatever order.
impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        let Self { space, genesis, known, waiting, counting, epoch_acts, .. } = self;
        let Self { devices, revoked, epochs, .. } = self;
        (space, genesis, known, waiting, counting)
            == (&other.space, &other.genesis, &other.known, &other.waiting, &other.counting)
            && (epoch_acts, devices, revoked, epochs)
                == (&other.epoch_acts, &other.devices, &other.revoked, &other.epochs)
    }
}

impl Eq for Roster {}

impl Roster {
    /// The empty roster of a space.
    pub const fn new(space: SpaceId) -> Self {
        Self {
            space,
            genesis: None,
            judge: Judge::new(space),
            known: BTreeSet::new(),
            waiting: BTreeMap::new(),
            wanted: BTreeMap::new(),
            counting: BTreeSet::new(),
            epoch_acts: BTreeMap::new(),
            openers: BTreeSet::new(),
            devices: BTreeMap::new(),
            revoked: BTreeMap::new(),
            epochs: BTreeMap::new(),
            lifted: OnceLock::new(),
        }
    }

    /// The roster that these acts come to, each with the header of its entry and its place there.
    pub fn of<'a>(
        space: SpaceId,
        acts: impl IntoIterator<Item = (&'a Header, u32, &'a Act)>,
    ) -> Self {
        let mut roster = Self::new(space);
        for (header, index, act) in acts {
            // What has no effect now may have one when other acts are here.
            let _ = roster.take(header, index, act);
        }
        roster.conclude();
        roster
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
    /// [`VoidReason`] why the act has no effect now. One that names acts which are not here is
    /// kept, and judged when they have arrived.
    pub fn apply(&mut self, header: &Header, index: u32, act: &Act) -> Result<(), VoidReason> {
        self.take(header, index, act)?;
        self.conclude();
        let entry = header.hash();
        match act {
            Act::Genesis(_) => Ok(()),
            Act::Epoch(_) | Act::Erase(_) | Act::Adoption(_) if self.writes_at(header) => Ok(()),
            Act::Snapshot(_) | Act::Erased(_) | Act::SealingKey(_) | Act::Lack(_)
                if self.reads_at(header) =>
            {
                Ok(())
            }
            Act::Retention(_) | Act::Quarantine(_) if self.administers_at(header) => Ok(()),
            Act::Policy(_) | Act::Contract(_) if self.owns_at(header) => Ok(()),
            Act::Epoch(_)
            | Act::Retention(_)
            | Act::Quarantine(_)
            | Act::Policy(_)
            | Act::Contract(_)
            | Act::Snapshot(_)
            | Act::Erase(_)
            | Act::Erased(_)
            | Act::SealingKey(_)
            | Act::Lack(_)
            | Act::Adoption(_) => Err(self.why_nothing(header)),
            _ if self.counting.contains(&entry) => Ok(()),
            _ if self.waiting.contains_key(&entry) => Err(VoidReason::Unjudged),
            _ => Err(self.judge.why_not(&entry).unwrap_or_else(|| self.why_nothing(header))),
        }
    }

    /// Whether the act in section `index` of this entry was taken in, as one of membership.
    pub fn knows(&self, entry: EntryHash, index: u32) -> bool {
        index == 0 && self.known.contains(&entry)
    }

    /// What an act of membership written now names as known; in order.
    pub fn heads(&self) -> Vec<EntryHash> {
        self.judge.heads()
    }

    /// All devices that belong to the space, in order of id.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.devices.iter()
    }

    /// The device with this id, if it belongs to the space.
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// What two people compare who want to be sure that they mean the same space and see the same
    /// devices in it: 30 digits over its id and over every device's id, keys, member, role and
    /// clearance. Nothing of what is written in the space is in it.
    pub fn fingerprint(&self) -> String {
        let devices: Vec<_> = self
            .devices()
            .map(|(id, device)| {
                (id, device.member, device.role, device.clearance, device.keys.clone())
            })
            .collect();
        let parts = [labels::FINGERPRINT, self.space().as_bytes(), &canonical::encode(&devices)];
        let digest = sha256(&parts);
        let groups = digest.as_bytes().chunks_exact(5).take(6).map(|chunk| {
            let number = chunk.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            format!("{:05}", number % 100_000)
        });
        groups.collect::<Vec<_>>().join(" ")
    }

    /// The devices that were shut out, in order of id.
    pub fn revoked(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.revoked.iter()
    }

    /// The device with this id, if it belongs to the space or ever did.
    pub fn known(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id).or_else(|| self.revoked.get(id))
    }

    /// Whether entries may be of the device: it belongs to the space or ever did, or was let in by
    /// one that did not know better.
    pub fn may_have_log(&self, id: &DeviceId) -> bool {
        self.known(id).is_some() || self.judge.enrolled_by(id).next().is_some()
    }

    /// Whether nobody let the device in: it founded the space, or recovered it, whoever else
    /// carries the act by which it did.
    pub fn is_founder(&self, id: &DeviceId) -> bool {
        let is_own = |by: &[Dep]| by.is_empty() || by.iter().any(|by| by.device == *id);
        self.known(id).is_some_and(|device| is_own(&device.enrolled_by))
    }

    /// By whom a device came in: of those that a founder let in, the one that let this one in, or
    /// let in one that did, and so on; the founder, for those that it let in itself. So whatever
    /// one device lets in, by however many others, is one branch.
    pub fn branch_of(&self, id: &DeviceId) -> DeviceId {
        let by = |of: &DeviceId| {
            if self.is_founder(of) {
                return None;
            }
            let known = self.known(of).and_then(|device| device.enrolled_by.first());
            known.map(|by| by.device).or_else(|| Some(self.judge.enrolled_by(of).min()?.0))
        };
        let (mut root, mut below, mut seen) = (*id, None, BTreeSet::from([*id]));
        while let Some(next) = by(&root).filter(|next| seen.insert(*next)) {
            below = (root != *id).then_some(root);
            root = next;
        }
        below.unwrap_or(root)
    }

    /// By device, the acts that hold, would shut it out or one by which it came in, and have no
    /// force over that: who knew nothing of what has taken their force took it for shut out.
    pub fn lifted(&self) -> &BTreeMap<DeviceId, Vec<Lifted>> {
        self.lifted.get_or_init(|| self.judge.lifted())
    }

    /// The device that uses this transport key, if enrolled.
    pub fn by_transport(&self, transport: &TransportId) -> Option<(&DeviceId, &Device)> {
        self.devices.iter().find(|(_, device)| device.keys.transport == *transport)
    }

    /// What each device may write from which entries on: to tell what another act has changed.
    pub fn writing(&self) -> Writing {
        let may = |standing: &Option<Standing>| standing.and_then(Standing::writes_up_to);
        let of = |(id, device): (&DeviceId, &Device)| {
            (*id, device.standings.iter().map(|(from, standing)| (*from, may(standing))).collect())
        };
        self.devices.iter().chain(&self.revoked).map(of).collect()
    }

    /// What the author of this entry may do in it.
    pub fn standing_at(&self, header: &Header) -> Option<Standing> {
        self.known(&header.device)?.standing_at(header.seq)
    }

    /// Whether the entry's author may add an entry at all: it is or was enrolled, and its first
    /// entry names its enrolment as its past. An enrolment is enough that counted as far as its own
    /// author knew: who had not heard either took such a device's entries in, and built on them.
    /// What it may write in it is another question: [`Roster::standing_at`].
    ///
    /// # Errors
    /// [`VoidReason::NotEnrolled`], [`VoidReason::EnrolmentNotSeen`].
    pub fn is_authorised(&self, header: &Header) -> Result<(), VoidReason> {
        let is_founder =
            self.known(&header.device).is_some_and(|device| device.enrolled_by.is_empty());
        if !self.may_have_log(&header.device) {
            return Err(VoidReason::NotEnrolled);
        }
        let has_seen = |enrolment: Dep| {
            header.dep_on(&enrolment.device).is_some_and(|dep| dep.seq >= enrolment.seq)
                || (enrolment.device == header.device && enrolment.entry == header.hash())
        };
        let mut enrolled_by = self.judge.enrolled_by(&header.device).map(dep);
        if header.seq > 1 || is_founder || enrolled_by.any(has_seen) {
            Ok(())
        } else {
            Err(VoidReason::EnrolmentNotSeen)
        }
    }

    /// The devices that content is sealed to, with the highest band each may read.
    pub fn cleared(&self) -> BTreeMap<DeviceId, Band> {
        let reads = |(id, device): (&DeviceId, &Device)| {
            device.role.may_read().then_some((*id, device.clearance))
        };
        self.devices.iter().filter_map(reads).collect()
    }

    /// All valid epochs, in order of id.
    pub fn epochs(&self) -> impl Iterator<Item = (&EpochId, &Epoch)> {
        self.epochs.iter()
    }

    /// One of them.
    pub fn epoch(&self, epoch: &EpochId) -> Option<&Epoch> {
        self.epochs.get(epoch)
    }

    /// The epochs that no other one supersedes.
    pub fn newest_epochs(&self) -> impl Iterator<Item = (&EpochId, &Epoch)> {
        let superseded: BTreeSet<&EpochId> =
            self.epochs.values().flat_map(|epoch| &epoch.supersedes).collect();
        self.epochs.iter().filter(move |(id, _)| !superseded.contains(id))
    }

    /// The epoch to write to: its recipients are exactly the devices that are cleared, no other
    /// epoch supersedes it, and `has_secrets` holds; of several one whose opener is cleared for the
    /// most, then the lowest id. None: open one. Who opened an epoch knows its secrets of every
    /// band, so a device that is cleared for `own` writes to none of one that is cleared for less.
    pub fn epoch_for_writing(
        &self,
        own: Band,
        has_secrets: &dyn Fn(&EpochId) -> bool,
    ) -> Option<EpochId> {
        let cleared = self.cleared();
        self.newest_epochs()
            .filter(|(_, epoch)| epoch.recipients == cleared)
            .filter(|(id, _)| has_secrets(id))
            .min_by_key(|(id, epoch)| (Reverse(epoch.opener), **id))
            .filter(|(_, epoch)| epoch.opener >= own)
            .map(|(id, _)| *id)
    }

    fn writes_at(&self, header: &Header) -> bool {
        self.standing_at(header).is_some_and(|own| own.role.may_write())
    }

    /// Whether the entry's author may set in it what counts for all.
    pub fn administers_at(&self, header: &Header) -> bool {
        let may = |own: Standing| matches!(own.role, Role::Owner | Role::Admin);
        self.standing_at(header).is_some_and(may)
    }

    /// Whether the entry's author might do there what owners do.
    pub fn owns_at(&self, header: &Header) -> bool {
        self.standing_at(header).is_some_and(|own| own.role == Role::Owner)
    }

    fn reads_at(&self, header: &Header) -> bool {
        self.standing_at(header).is_some_and(|own| own.role.may_read())
    }

    fn why_nothing(&self, header: &Header) -> VoidReason {
        match self.known(&header.device) {
            None => VoidReason::NotEnrolled,
            Some(device) if device.keeps.is_some_and(|keeps| keeps < header.seq) => {
                VoidReason::Revoked
            }
            Some(_) => VoidReason::Role,
        }
    }

    /// Adds the act to the set, without working out what follows.
    fn take(&mut self, header: &Header, index: u32, act: &Act) -> Result<(), VoidReason> {
        let entry = header.hash();
        let (author, seq) = (header.device, header.seq);
        match act {
            Act::Snapshot(_)
            | Act::Erase(_)
            | Act::Erased(_)
            | Act::SealingKey(_)
            | Act::Retention(_)
            | Act::Quarantine(_)
            | Act::Lack(_)
            | Act::Policy(_)
            | Act::Contract(_)
            | Act::Adoption(_) => return Ok(()),
            Act::Epoch(act) => {
                let placed = PlacedEpoch { author, seq, act: act.clone() };
                self.openers.insert(author);
                self.epoch_acts.insert(Place { entry, index }, placed);
                return Ok(());
            }
            Act::Genesis(genesis) => {
                let is_at_the_beginning =
                    header.is_genesis() && SpaceId::from(entry) == self.space && index == 0;
                if !is_at_the_beginning || genesis.founder.keys.signing != author {
                    return Err(VoidReason::NotGenesis);
                }
                self.genesis = Some(genesis.clone());
            }
            _ if index > 0 => return Err(VoidReason::NotFirst),
            _ => {}
        }
        if self.known.insert(entry) {
            self.waiting.insert(entry, Placed { author, seq, act: act.clone() });
            self.judge_ready(entry);
        }
        Ok(())
    }

    /// Judges the act, if all that it names is here, and those that waited for it.
    fn judge_ready(&mut self, entry: EntryHash) {
        let mut ready = vec![entry];
        while let Some(entry) = ready.pop() {
            let parents = self.waiting.get(&entry).and_then(Placed::parents);
            match parents.into_iter().flatten().find(|parent| !self.judge.has(parent)) {
                Some(missing) => self.wanted.entry(*missing).or_default().push(entry),
                None => {
                    if let Some(placed) = self.waiting.remove(&entry) {
                        self.judge.take(entry, placed);
                        ready.extend(self.wanted.remove(&entry).unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Works out devices and epochs from the acts alone, as far as something has changed.
    fn conclude(&mut self) {
        let verdict = self.judge.conclude();
        self.lifted = OnceLock::new();
        for (entry, counts) in verdict.counting {
            if counts {
                self.counting.insert(entry);
            } else {
                self.counting.remove(&entry);
            }
        }
        let mut openers = std::mem::take(&mut self.openers);
        for (id, judged) in verdict.devices {
            openers.insert(id);
            self.devices.remove(&id);
            self.revoked.remove(&id);
            let Some(device) = judged.map(device_of) else { continue };
            let is_out = device.keeps.is_some();
            let all = if is_out { &mut self.revoked } else { &mut self.devices };
            all.insert(id, device);
        }
        self.open_epochs(&openers);
    }

    /// Works out anew which of these devices' acts open epochs.
    fn open_epochs(&mut self, openers: &BTreeSet<DeviceId>) {
        let theirs =
            || self.epoch_acts.iter().filter(|(_, placed)| openers.contains(&placed.author));
        for (place, _) in theirs() {
            self.epochs.remove(&place.entry.into());
        }
        for (place, placed) in theirs() {
            let PlacedEpoch { author, seq, act } = placed;
            let opener = self.devices.get(author).or_else(|| self.revoked.get(author));
            let standing = opener.and_then(|opener| opener.standing_at(*seq));
            let Some(opener) = standing.and_then(Standing::writes_up_to) else { continue };
            // An entry opens one epoch; a second act in it has no name of its own.
            self.epochs.entry(place.entry.into()).or_insert_with(|| Epoch {
                opened_by: Dep { device: *author, seq: *seq, entry: place.entry },
                opener,
                recipients: act.envelopes.iter().map(|e| (e.recipient, e.band)).collect(),
                supersedes: act.supersedes.clone(),
            });
        }
    }
}

fn dep((device, seq, entry): (DeviceId, u64, EntryHash)) -> Dep {
    Dep { device, seq, entry }
}

fn device_of(judged: Judged) -> Device {
    let Judged { enrolment, enrolled_by, keeps, standings, last, lowest } = judged;
    let enrolled_by = enrolled_by.into_iter().map(dep).collect();
    Device {
        member: enrolment.member,
        label: enrolment.label,
        role: last.role,
        clearance: last.clearance,
        keys: enrolment.keys,
        enrolled_by,
        keeps,
        standings,
        lowest,
    }
}
