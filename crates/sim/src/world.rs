//! All devices, and what happens to them, one event after the other.

use std::collections::{BTreeMap, BTreeSet};

use larder_engine::{PartBytes, PrunePolicy};
use larder_log::Band;
use larder_pages::testing::Dice;
use larder_protocol::{Reply, Request};

use crate::black::Black;
use crate::blobs::{Blobs, CUT};
use crate::device::{Device, Job, Likes, Slot};
use crate::environment::Clock;
use crate::faults::Fault;
use crate::joining::Answered;
use crate::model::Model;
use crate::network::{End, Link};
use crate::parcels::{Parcel, Parcels};
use crate::plan::Plan;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::secrets::Secrets;
use crate::trace::Trace;
use crate::villain::Villain;

/// What may happen next.
pub(crate) enum Event {
    /// A packet reaches its side.
    Arrive { end: End },
    /// A side has something to do, or may have.
    Pump { end: End },
    /// Storage takes up a session's request.
    Ask { end: End, request: Box<Request> },
    /// Storage's answer reaches the session.
    Reply { end: End, reply: Box<Reply> },
    /// A session's timer.
    Timer { end: End, at_us: u64 },
    /// A side notices that its connection is gone.
    Broken { end: End },
    /// A connection is cut.
    Cut { link: u64 },
    /// A space's writer does what waits.
    Write { slot: Slot, life: u64 },
    /// It brings its indexes up to date, if there is nothing else to do.
    Index { slot: Slot, life: u64 },
    /// An app does something.
    App { slot: Slot },
    /// A device reaches for another.
    Dial { slot: Slot },
    /// A device asks to be let into the space.
    Join { slot: Slot },
    /// A device that asked hears the answer.
    Welcome { answered: Box<Answered> },
    /// A device that was off starts.
    Start { slot: Slot },
    /// Something goes wrong, or ends going wrong.
    Fault(Fault),
    /// Something about a stream for blobs.
    Parcel(End, Parcel),
    /// The villain comes to somebody.
    Villainy,
}

/// Events of one run; most take some ten thousand.
const STEPS_MAX: u64 = 1_000_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) clock: Clock,
    pub(crate) now_us: u64,
    steps: u64,
    schedule: Schedule<Event>,
    pub(crate) devices: Vec<Device>,
    pub(crate) villain: Option<Villain>,
    pub(crate) links: BTreeMap<u64, Link>,
    /// The streams for blobs beside them.
    pub(crate) parcels: BTreeMap<u64, Parcels>,
    pub(crate) links_made: u64,
    /// Directions in which nothing arrives.
    pub(crate) dead: BTreeSet<(Slot, Slot)>,
    /// Frames of earlier sessions.
    pub(crate) heard: Vec<Vec<u8>>,
    /// Whether faults are made now.
    pub(crate) is_faulty: bool,
    pub(crate) model: Model,
    pub(crate) blobs: Blobs,
    pub(crate) black: Black,
    pub(crate) secrets: Secrets,
    pub(crate) report: Report,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, trace: Trace) -> Self {
        Self {
            plan,
            dice: Dice::new(seed),
            clock: Clock::default(),
            now_us: 0,
            steps: 0,
            schedule: Schedule::new(),
            devices: Vec::new(),
            villain: None,
            links: BTreeMap::new(),
            parcels: BTreeMap::new(),
            links_made: 0,
            dead: BTreeSet::new(),
            heard: Vec::new(),
            is_faulty: false,
            model: Model::default(),
            blobs: Blobs::default(),
            black: Black::default(),
            secrets: Secrets::default(),
            report: Report::default(),
            trace,
        }
    }

    /// The whole run: the space is founded, everybody works while things go wrong, then they are
    /// left in peace and must agree.
    pub(crate) fn run(&mut self) {
        self.found();
        self.is_faulty = true;
        for slot in 0..self.devices.len() {
            self.begin_life(slot);
        }
        if self.villain.is_some() {
            self.later(self.plan.think_us, Event::Villainy);
        }
        for _ in 0..self.plan.joins {
            let after_us = self.dice.below(self.plan.think_us * 40);
            self.later(after_us, Event::Fault(Fault::Newcomer));
        }
        for _ in 0..self.plan.revocations {
            let thoughts = if self.plan.colludes { 4 } else { 40 };
            let after_us = self.dice.below(self.plan.think_us * thoughts);
            self.later(after_us, Event::Fault(Fault::Revocation));
        }
        while self.model.units.len() < self.plan.units && self.step() {}
        self.settle();
    }

    /// An app and a network begin to use the device.
    pub(crate) fn begin_life(&mut self, slot: Slot) {
        let (think_us, dial_us) = (self.plan.think_us, self.plan.dial_us);
        let (app, dial) = (self.dice.below(think_us), self.dice.below(dial_us));
        self.later(app, Event::App { slot });
        self.later(dial, Event::Dial { slot });
        let audits = self.devices[slot].likes.audits;
        if self.plan.has_blobs && self.devices[slot].is_up() && !audits {
            self.enqueue(slot, Job::BlobPolicy);
        }
    }

    pub(crate) fn later(&mut self, after_us: u64, event: Event) {
        self.schedule.add(self.now_us + after_us, event);
    }

    pub(crate) fn drop_events(&mut self, keep: impl FnMut(&Event) -> bool) {
        self.schedule.retain(keep);
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.trace.note(self.now_us, line);
    }

    /// A new device that is in no space yet.
    pub(crate) fn add_device(&mut self) -> Slot {
        let slot = self.devices.len();
        let seed = self.dice.roll();
        let prunes = self.plan.prunes_from;
        let prunes = prunes.map_or(PrunePolicy::ByHand, |bytes| PrunePolicy::From { bytes });
        let blob_bytes_max = match self.dice.below(4) {
            0 => 0,
            1 => 2000,
            _ => u64::MAX,
        };
        let part_bytes = PartBytes(self.plan.part_bytes);
        // The founder is cleared for everything.
        let clearance = if self.plan.has_bands && slot > 0 {
            [Band::Red, Band::Red, Band::Amber, Band::Green][self.below(4)]
        } else {
            Band::Red
        };
        let audits = self.plan.has_auditor && slot == self.plan.devices;
        let likes =
            Likes { prunes, part_bytes, chunk_bytes: CUT, blob_bytes_max, clearance, audits };
        self.devices.push(Device::new(slot, &self.clock, seed, likes));
        slot
    }

    /// The next event happens. False: there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at_us, event)) = self.schedule.pop() else { return false };
        self.steps += 1;
        assert!(self.steps <= STEPS_MAX, "after {STEPS_MAX} events the run is not at its end");
        self.report.count("run: events");
        self.now_us = at_us.max(self.now_us);
        self.clock.set_us(self.now_us);
        self.trace.hash(at_us);
        match event {
            Event::Arrive { end } => self.arrive(end),
            Event::Pump { end } => self.pump(end),
            Event::Ask { end, request } => self.ask(end, *request),
            Event::Reply { end, reply } => self.reply(end, *reply),
            Event::Timer { end, at_us } => self.timer(end, at_us),
            Event::Broken { end } => self.broken(end),
            Event::Cut { link } => self.cut(link),
            Event::Write { slot, life } => self.write(slot, life),
            Event::Index { slot, life } => self.index(slot, life),
            Event::App { slot } => self.act(slot),
            Event::Dial { slot } => self.dial(slot),
            Event::Join { slot } => self.join(slot),
            Event::Welcome { answered } => self.welcome(*answered),
            Event::Start { slot } => self.start(slot),
            Event::Fault(fault) => self.fault(fault),
            Event::Villainy => self.lie_to_somebody(),
            Event::Parcel(end, event) => self.parcel(end, event),
        }
        true
    }

    /// One of `things`, none if there is none.
    pub(crate) fn pick<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let at = self.dice.below(things.len() as u64);
        things.get(usize::try_from(at).ok()?).copied()
    }

    /// Devices that have joined and run.
    pub(crate) fn up(&self) -> Vec<Slot> {
        self.devices.iter().filter(|device| device.is_up()).map(|device| device.slot).collect()
    }

    /// Whether nothing arrives from one at the other.
    pub(crate) fn is_dead(&self, from: Slot, to: Slot) -> bool {
        self.dead.contains(&(from, to))
    }

    fn dial(&mut self, slot: Slot) {
        let dial_us = self.plan.dial_us;
        let again_us = dial_us / 2 + self.dice.below(dial_us);
        self.later(again_us, Event::Dial { slot });
        if !self.devices[slot].is_up() {
            return;
        }
        let others: Vec<Slot> = self.up().into_iter().filter(|other| *other != slot).collect();
        if let Some(other) = self.pick(&others)
            && !self.are_connected(slot, other)
        {
            let is_once = self.dice.chance(self.plan.once_percent);
            self.connect(slot, other, is_once);
        }
    }
}
