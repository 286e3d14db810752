//! The end of a run: nothing goes wrong any more, and within a few rounds all devices agree.

use std::collections::BTreeMap;

use larder_engine::Answer;
use larder_protocol::{LogHead, Reply, Request};
use larder_types::DeviceId;
use larder_types::limits::INDEX_DOCUMENTS_MAX;

use crate::agreement::Content;
use crate::device::{Slot, Standing};
use crate::world::{Event, World};

/// Events within which everything under way must have ended.
const EVENTS_MAX: usize = 200_000;
/// How long devices that have not joined yet may try.
const JOINING_US: u64 = 120_000_000;

impl World {
    pub(crate) fn settle(&mut self) {
        self.note(|| "faults stop".to_owned());
        self.is_faulty = false;
        self.dead.clear();
        for device in &self.devices {
            device.fused.disk.set_budget(None);
            device.world.set_ahead_ms(0);
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            self.cut(link);
        }
        self.drop_events(|event| {
            !matches!(
                event,
                Event::App { .. } | Event::Dial { .. } | Event::Fault(_) | Event::Villainy
            )
        });
        self.drain();
        for slot in 0..self.devices.len() {
            // A fuse that was lit and has not burnt down.
            self.devices[slot].fused.put_out();
            self.devices[slot].is_full = false;
        }
        self.look_for_rot();
        self.drain();
        for device in &self.devices {
            let is_up = device.is_up() || device.standing == Standing::Gone || device.id.is_none();
            assert!(is_up, "{} does not start", device.slot);
        }
        self.come_to_agree();
    }

    /// Lets everything that is under way end.
    fn drain(&mut self) {
        let until_us = self.now_us + JOINING_US;
        for _ in 0..EVENTS_MAX {
            if self.now_us > until_us {
                self.drop_events(|event| !matches!(event, Event::Join { .. }));
            }
            if !self.step() {
                return;
            }
        }
        panic!("{EVENTS_MAX} events after the last fault something is still under way");
    }

    /// A device whose file has changed by itself knows, or nothing of it was in use.
    fn look_for_rot(&mut self) {
        for slot in 0..self.devices.len() {
            if !self.devices[slot].is_rotten {
                continue;
            }
            let Some(space) = self.devices[slot].space().cloned() else { continue };
            if let Err(error) = space.check() {
                self.note(|| format!("{slot} finds damage: {error}"));
                self.report.count("check: rot found");
                self.retire(slot);
            }
        }
    }

    /// In each round every device speaks once with every other; there are at most as many rounds as
    /// devices.
    fn come_to_agree(&mut self) {
        let up = self.up();
        let members = self.members();
        for round in 1..=members.len().max(1) {
            for (at, from) in up.iter().enumerate() {
                for to in up.iter().skip(at + 1) {
                    self.speak(*from, *to);
                }
            }
            self.report.count("settle: rounds");
            match self.differences(&members) {
                None => return self.check_agreement(&members),
                Some(difference) if round == members.len().max(1) => {
                    panic!("after {round} rounds: {difference}")
                }
                Some(difference) => {
                    self.note(|| format!("after round {round}: {difference}"));
                }
            }
        }
    }

    fn speak(&mut self, from: Slot, to: Slot) {
        if self.devices[from].transport == self.devices[to].transport {
            return;
        }
        // A device that was just let in knows nobody yet, and is the one that connects.
        if self.connect(from, to, true).is_none() {
            self.connect(to, from, true);
        }
        self.drain();
        assert!(self.links.is_empty(), "the session of {from} and {to} does not end");
    }

    /// The honest devices whose enrolment is not lost with a device that was copied.
    fn members(&mut self) -> Vec<Slot> {
        let honest: Vec<Slot> =
            self.up().into_iter().filter(|slot| self.devices[*slot].is_honest()).collect();
        let is_clean = self.devices.iter().all(|device| device.is_honest() && !device.is_rotten);
        if is_clean {
            assert_eq!(honest.len(), self.devices.len(), "a device was never let in");
            return honest;
        }
        // Who is known to most of the others.
        let is_known_to = |world: &Self, one: Slot, other: Slot| {
            let space = world.devices[one].space().expect("it is up");
            world.devices[other].id.is_some_and(|id| {
                space.devices().is_ok_and(|devices| devices.iter().any(|known| known.device == id))
            })
        };
        let fame =
            |other: &Slot| honest.iter().filter(|one| is_known_to(self, **one, *other)).count();
        let most = honest.iter().map(fame).max().unwrap_or(0);
        honest.iter().copied().filter(|slot| fame(slot) == most).collect()
    }

    /// What the device holds of each log.
    pub(crate) fn frontier(&self, slot: Slot) -> BTreeMap<DeviceId, LogHead> {
        self.frontier_now(slot).unwrap_or_else(|| panic!("{slot} does not know what it holds"))
    }

    /// The same; none if its power fails meanwhile, or its file has changed by itself.
    pub(crate) fn frontier_now(&self, slot: Slot) -> Option<BTreeMap<DeviceId, LogHead>> {
        let device = &self.devices[slot];
        match device.space()?.answer(&device.transport, Request::ReadFrontiers) {
            Answer::Reply(Reply::Frontiers { logs, .. }) => {
                Some(logs.into_iter().map(|head| (head.device, head)).collect())
            }
            _ if device.fused.is_blown() || device.is_rotten => None,
            other => panic!("{slot} does not know what it holds: {other:?}"),
        }
    }

    /// The first thing about which two of the devices do not agree.
    fn differences(&self, members: &[Slot]) -> Option<String> {
        let (first, others) = members.split_first()?;
        let known = self.frontier(*first);
        for other in others {
            let theirs = self.frontier(*other);
            for log in known.keys().chain(theirs.keys()).filter(|log| !self.is_copied(log)) {
                let end = |heads: &BTreeMap<DeviceId, LogHead>| {
                    heads.get(log).map(|head| (head.size, head.root))
                };
                let (one, two) = (end(&known), end(&theirs));
                if one != two {
                    let author = self.devices.iter().find(|device| device.id == Some(*log));
                    let author = author.map(|device| device.slot);
                    return Some(format!(
                        "of the log of {author:?} {first} holds {one:?} and {other} {two:?}"
                    ));
                }
            }
        }
        None
    }

    fn check_agreement(&mut self, members: &[Slot]) {
        self.report.count("check: agreements");
        let mut groups: Vec<(BTreeMap<DeviceId, LogHead>, Content)> = Vec::new();
        for slot in members {
            self.index_all(*slot);
            self.check_villain(*slot);
            let frontier = self.frontier(*slot);
            let content = Content::read(self.devices[*slot].space().expect("it is up"));
            let known = groups.iter().find(|(heads, _)| ends(heads) == ends(&frontier));
            if let Some((_, known)) = known {
                known.compare(&content, *slot);
                self.report.count("check: contents compared");
            } else {
                groups.push((frontier, content));
            }
        }
        for (frontier, content) in &groups {
            self.check_entries(members, frontier, content);
        }
    }
}

impl World {
    /// A search waits for the indexes, and then finds all that was committed before.
    fn index_all(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let Some(mark) = device.space().expect("it is up").awaits_index() else { return };
        let writer = device.writer().expect("it is up");
        while !writer.has_indexed(mark) {
            writer.index(INDEX_DOCUMENTS_MAX).expect("indexes that can be written");
        }
    }
}

type Ends = Vec<(DeviceId, u64, larder_types::Hash)>;

fn ends(heads: &BTreeMap<DeviceId, LogHead>) -> Ends {
    heads.values().map(|head| (head.device, head.size, head.root)).collect()
}
