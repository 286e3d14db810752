//! What somebody opens who takes a device's whole profile and has recorded all that was ever sent.

mod beneath;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::{Batch, SectionCommitment};
use larder_protocol::{Position, Reply, Request};
use larder_types::limits::BATCH_BYTES_TARGET;
use larder_types::{Entropy, ObjectId};
use serde_json::json;

use super::stolen::Stolen;
use super::*;
use crate::durability_tests::Counter;
use crate::keyring::Keyring;
use crate::prune::tests::Device;
use crate::state::load_keyring;
use crate::{Answer, Environment, Profile, ProfileOptions};

/// A clock that somebody sets, and bytes that a number decides.
struct Calendar {
    day: Arc<AtomicU64>,
    drawn: AtomicU64,
}

impl Calendar {
    fn new(day: &Arc<AtomicU64>, seed: u64) -> Arc<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let seed = (MADE.fetch_add(1, Ordering::Relaxed) << 48) | (seed << 40);
        Arc::new(Self { day: Arc::clone(day), drawn: AtomicU64::new(seed) })
    }
}

impl Environment for Calendar {
    fn now(&self) -> Timestamp {
        let moment = self.drawn.fetch_add(1, Ordering::Relaxed) % 1000;
        Timestamp(1_700_000_000_000 + self.day.load(Ordering::Relaxed) * DAY_MS + moment)
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Counter(self.drawn.fetch_add(1 << 20, Ordering::Relaxed)))
    }
}

/// A little more than a step may last.
const DAY_MS: u64 = STEP_MS_MAX + 1000;

/// Devices that sync, somebody who records all of it, and the day.
struct Household {
    day: Arc<AtomicU64>,
    devices: Vec<Device>,
    recorded: Vec<Batch>,
}

impl Household {
    fn of(count: u64) -> Self {
        Self::with(count, profile)
    }

    fn with(count: u64, mut profile: impl FnMut(&Arc<AtomicU64>, u64) -> Profile) -> Self {
        let day = Arc::new(AtomicU64::new(0));
        let founder = Device::found_by(profile(&day, 1));
        let others: Vec<_> = (2..=count).map(|seed| profile(&day, seed)).collect();
        Self::in_space_of(founder, others, day)
    }

    fn in_space_of(founder: Device, others: Vec<Profile>, day: Arc<AtomicU64>) -> Self {
        let mut devices = vec![founder];
        for profile in others {
            let new = devices[0].invite_as(profile);
            devices.push(new);
        }
        let mut household = Self { day, devices, recorded: Vec::new() };
        household.record_joining();
        household.sync(&(0..household.devices.len()).collect::<Vec<_>>());
        household
    }

    fn invite(&mut self, seed: u64) {
        let new = self.devices[0].invite_as(profile(&self.day, seed));
        self.devices.push(new);
    }

    fn put(&mut self, device: usize, n: u8) {
        self.devices[device].put(n, &json!({ "n": n, "by": device }));
    }

    /// Every one of these devices gets what the others have, and hears who holds what.
    fn sync(&mut self, among: &[usize]) {
        for _ in 0..among.len() {
            for (&to, &from) in among.iter().flat_map(|to| among.iter().map(move |from| (to, from)))
            {
                if to != from {
                    self.pull(to, from);
                }
            }
        }
    }

    /// What the founder sent to those whom it let in, its first epochs' envelopes among it.
    fn record_joining(&mut self) {
        let [founder, joined, ..] = self.devices.as_slice() else { panic!() };
        let (me, mut after) = (joined.profile.transport_id(), Position::default());
        loop {
            let (have, epochs) = (BTreeMap::new(), Vec::new());
            let bytes_target = BATCH_BYTES_TARGET;
            let request = Request::ReadBatch { after, have, epochs, bytes_target };
            let answer = founder.space.answer(&me, request);
            let Answer::Reply(Reply::Batch { position, batch }) = answer else { panic!() };
            let Some(batch) = batch else { return };
            self.recorded.push(*batch);
            after = position;
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        let me = self.devices[to].profile.transport_id();
        let mut after = Position::default();
        loop {
            let answer = self.devices[to].space.answer(&me, Request::ReadFrontiers);
            let Answer::Reply(Reply::Frontiers { logs, epochs_held: epochs, .. }) = answer else {
                panic!()
            };
            let have = logs.iter().map(|log| (log.device, log.size)).collect();
            let bytes_target = BATCH_BYTES_TARGET;
            let request = Request::ReadBatch { after, have, epochs, bytes_target };
            let Answer::Reply(Reply::Batch { position, batch }) =
                self.devices[from].space.answer(&me, request)
            else {
                panic!()
            };
            let Some(batch) = batch else { break };
            self.recorded.push((*batch).clone());
            self.devices[to].writer.apply(*batch).unwrap();
            after = position;
        }
        let answer = self.devices[from].space.answer(&me, Request::ReadFrontiers);
        let Answer::Reply(Reply::Frontiers { acks, .. }) = answer else { panic!() };
        self.devices[to].writer.store_acks(&acks).unwrap();
    }

    /// What each device does while nothing is asked of it.
    fn tend(&mut self, among: &[usize]) {
        for device in among {
            let writer = &mut self.devices[*device].writer;
            while let Some(mut pruning) = writer.wants_pruning().unwrap() {
                while !writer.prune_step(&mut pruning).unwrap() {}
            }
        }
    }

    /// Days on which these devices write, sync and tend.
    fn live(&mut self, days: u64, among: &[usize]) {
        for _ in 0..days {
            let day = self.day.fetch_add(1, Ordering::Relaxed) + 1;
            for device in among {
                self.put(*device, u8::try_from(day % 100).unwrap());
            }
            for _ in 0..3 {
                self.sync(among);
                self.tend(among);
            }
        }
    }

    /// This device's files, and what unlocks them, in other hands.
    fn steal(&self, device: usize) -> Stolen {
        let Device { profile, space, .. } = &self.devices[device];
        Stolen::of(profile, space).unwrap()
    }

    /// How many of the recorded sections with content somebody opens who has this device's files
    /// and what unlocks them, and how many there are.
    fn stolen(&self, device: usize) -> (usize, usize) {
        self.opened_by(&mut self.steal(device), |_| true)
    }

    /// The same for who has these keys, of the sections of some entries.
    fn opened_by(&self, thief: &mut Stolen, of: impl Fn(&Header) -> bool) -> (usize, usize) {
        let sections: Vec<_> = self.recorded.iter().flat_map(sealed).collect();
        for (header, index, commitment, sealed) in &sections {
            if let Some(act) = thief.epoch_act(header, *index, commitment, sealed) {
                thief.take(header, &act);
            }
        }
        let is_meant = |(header, _, it, _): &&(Header, _, SectionCommitment, _)| {
            it.class == Class::Data as u8 && of(header)
        };
        let all = sections.iter().filter(is_meant);
        let opens = |(header, index, commitment, sealed): &&(Header, u32, _, &[u8])| {
            thief.opens(header, *index, commitment, sealed)
        };
        (all.clone().filter(opens).count(), all.count())
    }

    /// How long this device's log is.
    fn size(&self, device: usize) -> u64 {
        self.devices[device].writer.state().frontier.size()
    }
}

/// The sections of a batch that travel sealed.
fn sealed(batch: &Batch) -> Vec<(Header, u32, SectionCommitment, &[u8])> {
    let mut found = Vec::new();
    for entry in &batch.entries {
        let header = Header::decode(&entry.header).unwrap();
        for ((commitment, payload), index) in entry.commitments.iter().zip(&entry.payloads).zip(0..)
        {
            if let Payload::Sealed(sealed) = payload {
                found.push((header.clone(), index, commitment.clone(), sealed.as_slice()));
            }
        }
    }
    found
}

fn profile(day: &Arc<AtomicU64>, seed: u64) -> Profile {
    let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
    Profile::in_memory(Calendar::new(day, seed), options).unwrap()
}

fn object(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

#[test]
fn a_stolen_profile_opens_nothing_that_was_recorded_before_its_secrets_went() {
    let all = [0, 1, 2];
    let mut household = Household::of(3);
    for device in all {
        household.put(device, 200);
    }
    household.sync(&all);
    // Who takes a profile before that opens all of it, with the same tool.
    for device in all {
        let (opened, recorded) = household.stolen(device);
        assert!(recorded >= 6 && opened == recorded, "{opened} of {recorded}");
    }
    household.live(4, &all);
    let before = household.recorded.len();
    for device in all {
        let old = household.recorded.split_off(before);
        let (opened, recorded) = household.stolen(device);
        household.recorded.extend(old);
        let last = household.recorded.len();
        assert!(opened < recorded, "{opened} of {recorded} of {last}");
    }
    // Two days later nothing of what was recorded until now is open to anybody.
    household.live(2, &all);
    let later = household.recorded.split_off(before);
    for device in all {
        let (opened, recorded) = household.stolen(device);
        assert_eq!(opened, 0, "of {recorded}, device {device}");
    }
    // And the households' devices read and sync on.
    household.recorded.extend(later);
    household.live(1, &all);
    for device in &household.devices {
        let found = device.space.document(&object(200)).unwrap().unwrap();
        assert_eq!(found.value["n"], json!(200));
    }
}

#[test]
fn a_phone_that_was_away_with_unsent_entries_loses_none_of_them() {
    let mut household = Household::of(3);
    household.put(2, 201);
    household.live(3, &[0, 1]);
    // As long as it may have something to say, what it may have sealed with stays.
    let (opened, recorded) = household.stolen(0);
    assert_eq!(opened, recorded);
    household.put(2, 202);
    household.live(4, &[0, 1, 2]);
    for device in &household.devices {
        for n in [201, 202] {
            assert_eq!(device.space.document(&object(n)).unwrap().unwrap().value["by"], json!(2));
        }
    }
    let (opened, recorded) = household.stolen(0);
    assert!(opened < recorded, "{opened} of {recorded}");
}

/// An auditor's device has no secrets, seals nothing, and is not waited for, whether it comes or
/// not.
#[test]
fn an_auditor_that_stays_away_holds_up_no_forgetting() {
    let mut household = Household::of(2);
    let terms = crate::Terms { role: crate::Role::Auditor, ..crate::Terms::default() };
    let new = household.devices[0].invite_on(profile(&household.day, 9), terms);
    household.devices.push(new);
    household.put(0, 204);
    // It was there, and has said what it holds.
    household.sync(&[0, 1, 2]);
    let (opened, recorded) = household.stolen(0);
    assert!(recorded > 0 && opened == recorded, "{opened} of {recorded}");
    household.live(4, &[0, 1]);
    let before = household.recorded.len();
    household.live(2, &[0, 1]);
    let later = household.recorded.split_off(before);
    for device in [0, 1, 2] {
        assert_eq!(household.stolen(device).0, 0, "device {device}");
    }
    household.recorded.extend(later);
    household.sync(&[0, 2]);
    household.tend(&[0, 1, 2]);
    assert_eq!(household.size(2), 0, "it has nothing to say");
    assert_eq!(household.stolen(2).0, 0);
}

#[test]
fn a_newcomer_gets_what_was_sealed_under_secrets_that_nobody_has_any_more() {
    let mut household = Household::of(2);
    household.put(0, 203);
    household.live(4, &[0, 1]);
    household.invite(9);
    household.live(1, &[0, 1, 2]);
    for n in [203, 1, 2, 3, 4] {
        let of = |device: usize| {
            let found = household.devices[device].space.document(&object(n)).unwrap();
            format!("{:?}", found.unwrap().value)
        };
        assert_eq!(of(2), of(0), "document {n}");
    }
}

#[test]
fn an_epoch_that_has_lasted_long_is_followed_by_another() {
    let mut household = Household::of(2);
    let first = household.devices[0].writer.state().epoch;
    household.live(u64::from(EPOCH_STEPS) + 4, &[0, 1]);
    let epochs: Vec<_> = household.devices.iter().map(|d| d.writer.state().epoch).collect();
    assert_ne!(epochs[0], first);
    assert_eq!(epochs[0], epochs[1]);
    for device in &household.devices {
        assert!(!device.writer.state().keyring.holds(&first.unwrap()), "it is forgotten");
    }
}

#[test]
fn secrets_that_were_kept_are_those_that_are_read_again() {
    let mut household = Household::of(2);
    household.live(3, &[0, 1]);
    let Device { space, writer, .. } = &mut household.devices[0];
    let vault = &space.shared.home().vault;
    let (kept, read) =
        writer.transact(|tx, state| Ok((state.keyring.clone(), load_keyring(tx, vault)?))).unwrap();
    let steps: Vec<_> = kept.first_steps().collect();
    assert!(steps.iter().any(|(_, step)| *step > 0), "{steps:?}");
    assert_eq!(steps, read.first_steps().collect::<Vec<_>>());
    for (epoch, first) in steps {
        let secret = |keyring: &Keyring, band| {
            keyring.secrets(&epoch).unwrap().at(band, first + 3).unwrap().commitment()
        };
        for band in Band::SHARED {
            assert_eq!(secret(&kept, band), secret(&read, band), "{band:?}");
        }
    }
}

/// A device was cleared for less while another one, which had not heard of it, opened an epoch for
/// all as they had been. That one was written to by nobody and superseded by none: its secrets, and
/// what was sealed under them, stayed open to thieves until the next epoch (simulated seed 123).
#[test]
fn an_epoch_that_was_opened_beside_a_lowering_goes_as_well() {
    let all = [0, 1, 2];
    let mut household = Household::of(3);
    household.live(1, &all);
    let lowered = household.devices[2].space.device();
    household.devices[0].writer.change_role(lowered, crate::Role::Writer, Band::Green).unwrap();
    household.put(0, 204);
    let open = |state: &mut State, tx: &Connection| {
        state.epoch = None;
        state.ensure_epoch(tx)?;
        state.sign(tx)?;
        Ok(state.epoch.unwrap())
    };
    let beside = household.devices[1].writer.transact(|tx, state| open(state, tx)).unwrap();
    household.put(1, 205);
    household.live(4, &all);
    for device in &household.devices {
        let state = device.writer.state();
        assert_ne!(state.epoch, Some(beside));
        assert!(!state.keyring.holds(&beside), "{} has its secrets", device.space.device());
    }
    for n in [204, 205] {
        assert!(household.devices[2].space.document(&object(n)).unwrap().is_some());
    }
}

/// A device's whole state is taken, and then it is shut out. Whoever has that and a recording of
/// everything opens what was sealed before, and by who had not heard; of the rest nothing.
#[test]
fn who_took_a_device_before_it_was_shut_out_opens_nothing_that_was_sealed_after() {
    let all = [0, 1, 2];
    let mut household = Household::of(3);
    for device in all {
        household.put(device, 206);
    }
    household.sync(&all);
    let mut thief = household.steal(2);
    let lost = household.devices[2].space.device();
    household.devices[0].writer.revoke(&[lost]).unwrap();
    household.put(1, 207);
    // From which entry on each knows of it.
    let mut knows = vec![household.size(0)];
    household.pull(1, 0);
    knows.push(household.size(1) + 1);
    household.live(3, &[0, 1]);
    let ids: Vec<_> = household.devices.iter().map(|device| device.space.device()).collect();
    let knew = |header: &Header| {
        ids.iter().zip(&knows).any(|(id, from)| header.device == *id && header.seq >= *from)
    };
    let (opened, before) = household.opened_by(&mut thief, |header| !knew(header));
    assert!(before > 4 && opened == before, "the control: {opened} of {before}");
    let is_unaware = |header: &Header| header.device == ids[1] && header.seq + 1 == knows[1];
    let (opened, unaware) = household.opened_by(&mut thief, is_unaware);
    assert!(unaware > 0 && opened == unaware, "the control: {opened} of {unaware}");
    let (opened, after) = household.opened_by(&mut thief, knew);
    assert!(after > 4 && opened == 0, "{opened} of {after}");
    // It does open, to who was not shut out and has not let go of it yet.
    let (opened, _) = household.opened_by(&mut household.steal(0), knew);
    assert!(opened > 0, "the control: none of {after}");
}

/// Two spaces of the same two profiles. Who has all of one of them, and has recorded both, opens
/// everything of that one and nothing of the other: not even with the other's control secret, which
/// its envelopes are read with, and under its devices' names.
#[test]
fn what_is_stolen_of_one_space_opens_nothing_of_another() {
    let mut one = Household::of(2);
    let profiles: Vec<_> = one.devices.iter().map(|device| device.profile.clone()).collect();
    let (space, writer) = profiles[0].create_space(&"shared:other".parse().unwrap()).unwrap();
    let founder = Device { profile: profiles[0].clone(), space, writer };
    let mut other =
        Household::in_space_of(founder, vec![profiles[1].clone()], Arc::clone(&one.day));
    for household in [&mut one, &mut other] {
        (0..2).for_each(|device| household.put(device, 208));
        household.sync(&[0, 1]);
    }
    let keys = |household: &Household, device: usize| {
        let Device { profile, space, .. } = &household.devices[device];
        profile.inner.own_keys(&space.id()).unwrap()
    };
    for (stolen, closed) in [(&one, &other), (&other, &one)] {
        for device in 0..2 {
            let (opened, recorded) = stolen.stolen(device);
            assert!(recorded >= 2 && opened == recorded, "{opened} of {recorded}");
            let (opened, _) = closed.opened_by(&mut stolen.steal(device), |_| true);
            assert_eq!(opened, 0);
            let name = keys(closed, device).device();
            let state = closed.devices[device].writer.state();
            let opened_with = |sealing: &SealingKey| {
                let mut thief = Stolen::with_keys(name, state.keyring.control(), sealing);
                closed.opened_by(&mut thief, |_| true)
            };
            let (opened, recorded) = opened_with(&keys(closed, device).sealing);
            assert_eq!(opened, recorded, "the control");
            assert_eq!(opened_with(&keys(stolen, device).sealing).0, 0);
        }
    }
}
