//! What somebody opens who takes a device's whole profile and has recorded all that was ever sent.

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
        let day = Arc::new(AtomicU64::new(0));
        let mut devices = vec![Device::found_by(profile(&day, 1))];
        for seed in 2..=count {
            let new = devices[0].invite_as(profile(&day, seed));
            devices.push(new);
        }
        let mut household = Self { day, devices, recorded: Vec::new() };
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

    /// How many of the recorded sections with content somebody opens who has this device's files
    /// and what unlocks them, and how many there are.
    fn stolen(&self, device: usize) -> (usize, usize) {
        let Device { profile, space, .. } = &self.devices[device];
        let mut stolen = Stolen::of(profile, space).unwrap();
        let sections: Vec<_> = self.recorded.iter().flat_map(sealed).collect();
        for (header, index, commitment, sealed) in &sections {
            if let Some(act) = stolen.epoch_act(header, *index, commitment, sealed) {
                stolen.take(header, &act);
            }
        }
        let all = sections.iter().filter(|(_, _, it, _)| it.class == Class::Data as u8);
        let opens = |(header, index, commitment, sealed): &&(Header, u32, _, &[u8])| {
            stolen.opens(header, *index, commitment, sealed)
        };
        (all.clone().filter(opens).count(), all.count())
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
    static MADE: AtomicU64 = AtomicU64::new(0);
    let seed = (MADE.fetch_add(1, Ordering::Relaxed) << 48) | (seed << 40);
    let calendar = Calendar { day: Arc::clone(day), drawn: AtomicU64::new(seed) };
    let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
    Profile::in_memory(Arc::new(calendar), options).unwrap()
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
