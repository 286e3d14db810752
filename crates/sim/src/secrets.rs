//! Who has recorded all that was sent and comes by keys: devices that were shut out, which put
//! together what they have, and thieves of whole profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use larder_engine::{Access, Answer, DeviceInfo, Environment, Profile, Result, Stolen};
use larder_log::{Class, Header, Payload, SectionCommitment, entry_hash};
use larder_protocol::{LogHead, Reply, Request};
use larder_types::limits::STEP_MS_MAX;
use larder_types::{DeviceId, EntryHash, EpochId};

use crate::device::{Device, Slot, space_name, unlock};
use crate::disk::{Fused, PROFILE};
use crate::environment::DeviceWorld;
use crate::model::Model;
use crate::world::World;

/// What was recorded, and what was stolen while it went on.
#[derive(Default)]
pub(crate) struct Secrets {
    recorded: BTreeMap<EntryHash, Recorded>,
    /// Keys of devices as they were when they were shut out.
    hoards: Vec<Stolen>,
    /// What did not open to who had all of a device at an earlier time.
    closed: BTreeMap<Slot, BTreeSet<Place>>,
    /// Whether the days at the end pass, on which devices do all that they do by themselves.
    pub(crate) are_going: bool,
}

/// An entry that was sent, with what was ever sent sealed of its sections.
struct Recorded {
    header: Header,
    commitments: Vec<SectionCommitment>,
    sealed: Vec<Option<Vec<u8>>>,
}

/// A section of an entry.
type Place = (EntryHash, u32);

/// Entries that are recorded, at most: some runs have twice as many.
const RECORDED_MAX: usize = 4000;
/// Days that pass at the end of some runs: secrets go a step after the one that follows theirs.
const DAYS: usize = 5;

impl Secrets {
    fn take(&mut self, entry: EntryHash, payloads: &[Payload]) {
        let Some(known) = self.recorded.get_mut(&entry) else { return };
        for (place, payload) in known.sealed.iter_mut().zip(payloads) {
            if let (None, Payload::Sealed(sealed)) = (&place, payload) {
                *place = Some(sealed.clone());
            }
        }
    }

    /// The sections with content that travelled sealed, but for those of some logs.
    fn content(
        &self,
        is_left_out: impl Fn(&DeviceId) -> bool,
    ) -> Vec<(Place, &Header, &SectionCommitment, &[u8])> {
        let mut content = Vec::new();
        for (entry, known) in &self.recorded {
            if is_left_out(&known.header.device) {
                continue;
            }
            for ((commitment, sealed), index) in
                known.commitments.iter().zip(&known.sealed).zip(0..)
            {
                if let (true, Some(sealed)) = (commitment.class == Class::Data as u8, sealed) {
                    content.push(((*entry, index), &known.header, commitment, sealed.as_slice()));
                }
            }
        }
        content
    }

    /// Whether the act that opened the entry's epoch was recorded: it may come by another way, and
    /// only then to who records.
    fn has_envelopes(&self, header: &Header) -> bool {
        let opened_by = EntryHash::new(*header.epoch.as_bytes());
        let act = self.recorded.get(&opened_by);
        act.is_some_and(|act| act.sealed.iter().all(Option::is_some))
    }

    /// Tries the envelopes of all epochs that were recorded.
    fn open_envelopes(&self, thieves: &mut [Stolen]) {
        let Some(first) = thieves.first() else { return };
        let mut acts = Vec::new();
        for known in self.recorded.values() {
            for ((commitment, sealed), index) in
                known.commitments.iter().zip(&known.sealed).zip(0..)
            {
                let Some(sealed) = sealed else { continue };
                let act = first.epoch_act(&known.header, index, commitment, sealed);
                acts.extend(act.map(|act| (&known.header, act)));
            }
        }
        for (header, act) in &acts {
            for thief in &mut *thieves {
                thief.take(header, act);
            }
        }
    }

    /// From which entry of each log on its author knew of what the entry with this place says.
    /// Logs that are left out may have two histories.
    fn knows_from(
        &self,
        (by, seq): (DeviceId, u64),
        is_left_out: impl Fn(&DeviceId) -> bool,
    ) -> BTreeMap<DeviceId, u64> {
        let mut from = BTreeMap::from([(by, seq)]);
        loop {
            let before = from.clone();
            let headers = self.recorded.values().map(|known| &known.header);
            for header in headers.filter(|header| !is_left_out(&header.device)) {
                let names = |dep: &larder_log::Dep| {
                    from.get(&dep.device).is_some_and(|first| dep.seq >= *first)
                };
                if header.deps.iter().any(names) {
                    let first = from.entry(header.device).or_insert(header.seq);
                    *first = header.seq.min(*first);
                }
            }
            if from == before {
                return from;
            }
        }
    }
}

impl Model {
    /// The device that was shut out with which this one came, or that it is.
    fn root(&self, devices: &[Device], id: &DeviceId) -> Option<DeviceId> {
        let of = devices.iter().find(|device| device.id == Some(*id));
        let chain = std::iter::successors(of, |one| one.inviter.map(|slot| &devices[slot]));
        let mut ids = [*id].into_iter().chain(chain.filter_map(|device| device.id));
        ids.find(|id| self.shut_out.contains(id))
    }
}

/// Recording, and taking keys.
impl World {
    /// Somebody hears what storage gives a session to send.
    pub(crate) fn overhear(&mut self, reply: &Reply) {
        if !self.plan.records() {
            return;
        }
        match reply {
            Reply::Batch { batch: Some(batch), .. } => {
                for entry in &batch.entries {
                    let hash = entry_hash(&entry.header);
                    let recorded = &mut self.secrets.recorded;
                    let Ok(header) = Header::decode(&entry.header) else { continue };
                    if recorded.len() < RECORDED_MAX {
                        recorded.entry(hash).or_insert_with(|| Recorded {
                            header,
                            commitments: entry.commitments.clone(),
                            sealed: vec![None; entry.commitments.len()],
                        });
                    }
                    self.secrets.take(hash, &entry.payloads);
                }
            }
            Reply::Supply { supply } => {
                for fill in &supply.sections {
                    self.secrets.take(fill.entry, &fill.payloads);
                }
            }
            _ => {}
        }
    }

    /// Before a device is shut out it keeps what it has, whatever its engine lets go of later.
    pub(crate) fn keep_keys_of(&mut self, id: DeviceId) {
        let mut devices = self.devices.iter();
        let Some(device) = devices.find(|device| device.id == Some(id) && device.is_up()) else {
            return;
        };
        let (slot, stolen) = (device.slot, self.keys_of(device.slot));
        if !self.notice_power(slot) {
            self.secrets.hoards.extend(stolen);
        }
    }

    /// The keys that a device has that runs.
    fn keys_of(&self, slot: Slot) -> Option<Stolen> {
        let running = self.devices[slot].running.as_ref()?;
        Stolen::of(&running.profile, &running.space.as_ref()?.0).ok()
    }

    /// A device's files, with what unlocks them, are taken as they are now, and opened elsewhere.
    fn steal(&self, slot: Slot) -> Result<Stolen> {
        let device = &self.devices[slot];
        let fused = Fused::new();
        fused.disk.restore(&device.fused.disk.snapshot());
        let env: Arc<dyn Environment> = DeviceWorld::new(self.clock.clone(), 0, fused.disk.clone());
        let (options, access) = (device.likes.options(), Access::ReadWrite);
        let profile = Profile::open(env, Path::new(PROFILE), &unlock(), access, options)?;
        let (space, _writer) = profile.open_space(&space_name())?;
        let mut stolen = [Stolen::of(&profile, &space)?];
        self.secrets.open_envelopes(&mut stolen);
        let [stolen] = stolen;
        Ok(stolen)
    }

    /// Whether what the device sealed says nothing of what others may open.
    fn is_left_out(&self, author: &DeviceId) -> bool {
        let is_device = self.devices.iter().any(|device| device.id == Some(*author));
        !is_device || self.is_copied(author) || self.is_doubtful(author)
    }
}

/// What is looked at.
impl World {
    /// Devices that were shut out put together all that they have and have recorded: they open
    /// nothing that was sealed by who knew of it.
    pub(crate) fn check_shut_out(&mut self) {
        let first = &self.devices[0];
        if !self.is_first_whole() || self.model.revoked_at.is_empty() || !first.is_up() {
            return;
        }
        let by = first.id.expect("it has founded the space");
        let roster = first.space().expect("it is up").devices().expect("a roster");
        let mut gang = std::mem::take(&mut self.secrets.hoards);
        for device in self.devices.iter().filter(|device| device.is_up()) {
            let is_out = device.id.is_some_and(|id| {
                self.model.root(&self.devices, &id).is_some()
                    && roster.iter().all(|known| known.device != id)
            });
            gang.extend(self.keys_of(device.slot).filter(|_| is_out));
        }
        let villain = self.villain.as_ref().filter(|one| self.model.shut_out.contains(&one.id));
        gang.extend(villain.map(crate::villain::Villain::keys));
        self.secrets.open_envelopes(&mut gang);
        let is_left_out = |author: &DeviceId| self.is_left_out(author);
        let mut knows = BTreeMap::new();
        for (id, seq) in &self.model.revoked_at {
            knows.insert(*id, self.secrets.knows_from((by, *seq), is_left_out));
        }
        let root = |thief: &Stolen| self.model.root(&self.devices, &thief.device());
        let gang: Vec<(DeviceId, Stolen)> =
            gang.into_iter().filter_map(|thief| Some((root(&thief)?, thief))).collect();
        let (mut before, mut after) = (0, 0);
        for ((entry, index), header, commitment, sealed) in self.secrets.content(is_left_out) {
            let is_known = |id: &DeviceId| {
                let from = knows.get(id).and_then(|knows| knows.get(&header.device));
                from.is_some_and(|from| header.seq >= *from)
            };
            for (id, thief) in &gang {
                let opens = thief.opens(header, index, commitment, sealed);
                if is_known(id) {
                    let Header { seq, device, .. } = header;
                    assert!(
                        !opens,
                        "{} opens section {index} of entry {seq} of {device}, {entry}, which knew \
                         that {id} was shut out",
                        thief.device()
                    );
                    after += 1;
                } else if thief.holds(header) {
                    assert!(opens, "who holds the secrets of {entry} does not open it");
                    before += 1;
                }
            }
        }
        self.report.add("check: sections that who was shut out opens, of before", before);
        self.report.add("check: sections that who was shut out does not open", after);
    }

    /// Who holds the same acts has the same roster, whoever was shut out and wrote on.
    pub(crate) fn check_rosters(&mut self) {
        let mut known: Vec<(Vec<LogHead>, Slot, Vec<String>)> = Vec::new();
        for slot in self.members() {
            let heads: Vec<LogHead> = self.frontier(slot).into_values().collect();
            let devices = self.devices[slot].space().expect("it is up").devices();
            let told = |it: DeviceInfo| {
                let DeviceInfo { device, label, role, clearance, member, transport, .. } = it;
                format!("{device} {label} {role:?} {clearance:?} {member} {transport}")
            };
            let devices: Vec<String> = devices.expect("a roster").into_iter().map(told).collect();
            let same = |(ends, ..): &&(Vec<LogHead>, _, _)| {
                let of = |head: &LogHead| (head.device, head.size, head.root);
                ends.iter().map(of).eq(heads.iter().map(of))
            };
            if let Some((_, other, theirs)) = known.iter().find(same) {
                assert_eq!(&devices, theirs, "{slot} has another roster than {other}");
                self.report.count("check: rosters compared");
            } else {
                known.push((heads, slot, devices));
            }
        }
    }

    /// A device's whole profile is stolen. What did not open to an earlier thief opens to nobody.
    pub(crate) fn rob(&mut self, slot: Slot) {
        let device = &self.devices[slot];
        if !device.is_honest() || device.was_copied || device.is_rotten {
            return;
        }
        let stolen = match self.steal(slot) {
            Ok(stolen) => stolen,
            Err(error) => panic!("a copy of {slot} does not open: {error}"),
        };
        let (mut opened, mut closed) = (0, BTreeSet::new());
        for (place, header, commitment, sealed) in self.secrets.content(|id| self.is_left_out(id)) {
            if stolen.opens(header, place.1, commitment, sealed) {
                let before = self.secrets.closed.get(&slot);
                let was_closed = before.is_some_and(|before| before.contains(&place));
                assert!(!was_closed, "{place:?} of {slot} was closed for ever, and opens");
                opened += 1;
            } else if self.secrets.has_envelopes(header) {
                closed.insert(place);
            }
        }
        let audits = self.devices[slot].likes.audits;
        assert!(!audits || opened == 0, "{opened} sections open to who robs {slot}, an auditor's");
        self.report.add("check: auditors that are robbed", u64::from(audits));
        self.note(|| format!("{slot} is robbed: {opened} sections open, {} do not", closed.len()));
        self.report.add("check: sections that a thief opens", opened);
        self.report.add("check: sections that a thief does not open", closed.len() as u64);
        self.secrets.closed.insert(slot, closed);
    }

    /// Days on which all write and meet: what was recorded before opens to nobody then, whoever
    /// takes a whole device. Whether they passed: then all have to agree once more.
    pub(crate) fn let_days_pass(&mut self) -> bool {
        if !self.plan.days_pass {
            return false;
        }
        let members = self.members();
        let known = members.iter().find(|slot| self.is_enrolled(**slot)).copied();
        let Some(hub) = known.filter(|_| members.len() > 1) else { return false };
        self.set_aside_who_is_gone(hub, &members);
        self.meet(hub, &members);
        // An epoch that was opened only now has nothing that could be opened too long.
        self.pass_days(1, hub, &members);
        let content = self.secrets.content(|id| self.is_left_out(id));
        let before: BTreeSet<Place> = content.iter().map(|(place, ..)| *place).collect();
        let opened = self.opened_by_thieves(&members, &before);
        // The control, of many runs together: in one the secrets of all there is may have gone.
        self.report.add("check: sections that a thief opens before days pass", opened);
        self.pass_days(DAYS, hub, &members);
        let is_clean = self.is_clean();
        let opened = self.opened_by_thieves(&members, &before);
        assert!(!is_clean || opened == 0, "after {DAYS} days {opened} sections open to thieves");
        for slot in members.iter().filter(|_| is_clean) {
            let epochs = self.epochs_held(*slot);
            assert!(epochs < 2, "after {DAYS} days {slot} has secrets of {epochs} epochs");
            self.report.count("check: one epoch after days");
        }
        let gone = before.len() as u64 * members.len() as u64 - opened;
        self.report.add("check: sections that a thief does not open after days", gone);
        true
    }

    fn epochs_held(&self, slot: Slot) -> usize {
        let device = &self.devices[slot];
        let space = device.space().expect("it is up");
        match space.answer(&device.transport, Request::ReadFrontiers) {
            Answer::Reply(Reply::Frontiers { epochs_held, .. }) => epochs_held.len(),
            other => panic!("{slot} does not know what it holds: {other:?}"),
        }
    }

    /// On each of these days all of them write, and meet.
    fn pass_days(&mut self, days: usize, hub: Slot, members: &[Slot]) {
        self.secrets.are_going = true;
        for _ in 0..days {
            self.clock.skip_ms(STEP_MS_MAX + 1000);
            self.report.count("fault: days that pass");
            for slot in members {
                while self.devices[*slot].jobs.is_empty() {
                    self.work(*slot);
                }
                self.drain();
            }
            self.meet(hub, members);
        }
        self.secrets.are_going = false;
    }

    /// All of them meet one of them, and hear what the others had told that.
    fn meet(&mut self, hub: Slot, members: &[Slot]) {
        for _ in 0..2 {
            for slot in members.iter().filter(|slot| **slot != hub) {
                self.speak(*slot, hub);
            }
        }
    }

    /// How many of these sections open to who steals one of the devices, all of them counted.
    fn opened_by_thieves(&self, members: &[Slot], places: &BTreeSet<Place>) -> u64 {
        let mut all = 0;
        for slot in members {
            let stolen = self.steal(*slot).expect("a copy of a device that works opens");
            let mut opened: BTreeMap<(EpochId, u32), u64> = BTreeMap::new();
            for (place, header, commitment, sealed) in self.secrets.content(|_| false) {
                if places.contains(&place) && stolen.opens(header, place.1, commitment, sealed) {
                    *opened.entry((header.epoch, header.step)).or_default() += 1;
                }
            }
            all += opened.values().sum::<u64>();
            self.note(|| {
                let of = |((epoch, step), opened)| format!("{opened} of {epoch:.6} {step}");
                let opened: Vec<String> = opened.into_iter().map(of).collect();
                let space = self.devices[*slot].space().expect("it is up");
                let (devices, pruned) = (space.devices(), space.prune_status());
                let devices = devices.map_or(0, |devices| devices.len());
                let opened = opened.join(", ");
                format!("a thief of {slot} opens {opened}; {devices} devices, {pruned:?}")
            });
        }
        all
    }
}
