//! What is BLACK: documents in a space of their device's own, which nothing of ever leaves it.

use std::collections::BTreeMap;

use larder_engine::{Answer, Error, Space, UnitOfWork};
use larder_protocol::{Reply, Request};
use larder_types::{DeviceId, ObjectId, SpaceId, SpaceName};
use serde_json::json;

use crate::device::{Device, Job, Running, Slot};
use crate::world::World;

/// What apps wrote that is to stay, and what of it must be found nowhere else.
#[derive(Default)]
pub(crate) struct Black {
    documents: BTreeMap<Slot, Vec<(ObjectId, String, Fate)>>,
    /// The ids of these spaces, and of the devices in them.
    ids: BTreeMap<(SpaceId, DeviceId), Slot>,
}

/// What the app was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Refused,
    Unknown,
}

pub(crate) fn black_name() -> SpaceName {
    "black:shared:household".parse().expect("a name")
}

impl World {
    /// The app writes something that is to stay on its device.
    pub(crate) fn write_something_black(&mut self, slot: Slot) {
        if self.plan.black_percent > 0 && self.dice.chance(self.plan.black_percent) {
            self.enqueue(slot, Job::Black);
        }
    }

    /// It is written, and its space made if there is none.
    pub(crate) fn write_black(&mut self, slot: Slot) {
        let object = ObjectId::random(&mut self.dice);
        let token = self.model.token();
        let mut work = UnitOfWork::new();
        work.put("notes", object, &json!({ "text": token })).expect("an object");
        let running = self.devices[slot].running.as_mut().expect("it is up");
        if running.black.is_none() {
            match running.profile.create_space(&black_name()) {
                Ok(made) => {
                    let (space, device) = (made.0.id(), made.0.device());
                    running.black = Some(made);
                    self.report.count("app: black spaces made");
                    self.black.ids.insert((space, device), slot);
                }
                Err(error) => {
                    if !self.notice_power(slot) {
                        let _ = self.fate(slot, &error, false);
                    }
                    return;
                }
            }
        }
        let running = self.devices[slot].running.as_mut().expect("it is up");
        let (_, writer) = running.black.as_mut().expect("it was made");
        let done = writer.commit(&mut std::iter::once(work)).pop().expect("one outcome");
        let fate = match &done {
            Ok(receipt) => {
                receipt.verify().expect("a receipt that verifies");
                self.report.count("app: black documents");
                Fate::Committed
            }
            Err(error) => {
                let power_failed = self.devices[slot].fused.is_blown();
                match self.fate(slot, error, power_failed) {
                    crate::model::Fate::Refused => Fate::Refused,
                    _ => Fate::Unknown,
                }
            }
        };
        self.black.documents.entry(slot).or_default().push((object, token, fate));
        self.notice_power(slot);
    }

    /// What was committed is there, and what was not is not.
    pub(crate) fn check_black(&mut self, slot: Slot) {
        let device = &self.devices[slot];
        if device.was_copied || device.is_rotten || !device.is_honest() {
            return;
        }
        let Some(documents) = self.black.documents.get(&slot) else { return };
        // Its power may have failed since it was started.
        let Some(running) = &device.running else { return };
        let black = running.black.as_ref();
        let mut looked_at = 0;
        for (object, token, fate) in documents {
            let shown = black.map(|(space, _)| space.document(object)).transpose();
            let shown = match shown {
                Ok(shown) => shown.flatten(),
                Err(_) if device.fused.is_blown() => break,
                Err(error) => panic!("{slot} does not show what is BLACK: {error}"),
            };
            let is_there = shown.is_some_and(|shown| shown.value["text"] == json!(token));
            let is_right = match fate {
                Fate::Committed => is_there,
                Fate::Refused => !is_there,
                Fate::Unknown => true,
            };
            assert!(is_right, "BLACK {object} of {slot}, {fate:?}: there is {is_there}");
            looked_at += 1;
        }
        self.report.add("check: black documents", looked_at);
        self.notice_power(slot);
    }

    /// No frame names such a space, nor who writes in it.
    pub(crate) fn check_frame(&mut self, frame: &[u8]) {
        if self.black.ids.is_empty() {
            return;
        }
        for ((space, device), slot) in &self.black.ids {
            let names = |id: &[u8; 32]| has(frame, id);
            let is_named = names(space.as_bytes()) || names(device.as_bytes());
            assert!(!is_named, "a frame names the BLACK space of {slot}");
        }
        // The same look finds who writes in the other space.
        let mut ids = self.devices.iter().filter_map(|device| device.id);
        let others = ids.any(|id| has(frame, id.as_bytes()));
        self.report.add("check: frames that name devices of the household", u64::from(others));
    }

    /// Whoever asks, nothing is to be had, and no other device has heard of it.
    pub(crate) fn check_nothing_left(&mut self) {
        for device in &self.devices {
            let black = device.running.as_ref().and_then(|running| running.black.as_ref());
            let (Some((black, _)), Some(household)) = (black, device.space()) else { continue };
            assert!(black.source().is_err(), "{} offers what is BLACK", device.slot);
            assert!(household.source().is_ok(), "{} offers nothing", device.slot);
            for peer in &self.devices {
                let is_answered = |space: &Space| {
                    let answer = space.answer(&peer.transport, Request::ReadFrontiers);
                    matches!(answer, Answer::Reply(Reply::Frontiers { .. }))
                };
                let (me, other) = (device.slot, peer.slot);
                assert!(!is_answered(black), "{me} tells {other} what is BLACK");
                if me == other {
                    assert!(is_answered(household), "{me} tells nothing of anything");
                }
            }
            self.report.count("check: black spaces that tell nothing");
        }
        for ((space, author), slot) in &self.black.ids {
            let is_other = |one: &&Device| one.slot != *slot && !one.was_copied;
            for other in self.devices.iter().filter(is_other) {
                let name = space.to_string();
                let mut paths = other.fused.disk.paths().into_iter();
                let is_there = paths.any(|path| path.to_string_lossy().contains(&name));
                assert!(!is_there, "{} has a file of the BLACK space of {slot}", other.slot);
                let Some(household) = other.space() else { continue };
                let logs = self.frontier(other.slot);
                assert!(!logs.contains_key(author), "{} has a BLACK log", other.slot);
                for (object, ..) in self.black.documents.get(slot).into_iter().flatten() {
                    let shown = household.document(object);
                    let is_none = matches!(shown, Ok(None) | Err(Error::Auditor));
                    assert!(is_none, "{} shows what is BLACK: {shown:?}", other.slot);
                }
                self.report.count("check: devices without what is BLACK elsewhere");
            }
        }
    }
}

impl Running {
    /// Opens the space that stays here, if it was made.
    pub(crate) fn open_black(&mut self) -> larder_engine::Result<()> {
        self.black = match self.profile.open_space(&black_name()) {
            Ok((space, writer)) => writer.map(|writer| (space, writer)),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

fn has(frame: &[u8], id: &[u8; 32]) -> bool {
    frame.windows(id.len()).any(|bytes| bytes == id)
}
