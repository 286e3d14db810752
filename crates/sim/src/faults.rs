//! What goes wrong by itself: power, disks, clocks, connections, and people with old copies.

use larder_pages::testing::Loss;
use larder_types::limits::STEP_MS_MAX;
use larder_types::{CloseCode, DeviceId};

use crate::device::{Device, Job, Slot, Standing};
use crate::model::Fate;
use crate::world::{Event, World};

/// A fault that is to be made, or to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Newcomer,
    Cut,
    Partition,
    Healed {
        from: Slot,
        to: Slot,
    },
    Crash,
    Kill,
    Restart,
    Suspension,
    FullDisk,
    Freed {
        slot: Slot,
    },
    /// Nothing that a full disk made fail is under way any more.
    Recovered {
        slot: Slot,
    },
    ClockJump,
    Rot,
    Snapshot,
    Rollback,
    Copy,
    /// No fault either, but what was written late counts for nothing.
    Revocation,
    /// Nor is this.
    Clearance,
    Quarantine,
    /// No fault, but something that an app asks for rarely.
    Prune,
    Rekey,
    /// Nothing happens for a day.
    Night,
    /// Somebody takes all that a device has, and goes.
    Theft,
}

/// Devices whose disks stay as they are: of what all have lost nothing is left to be seen.
const WHOLE_MIN: usize = 2;
/// How many old states of a disk are kept.
const SNAPSHOTS_MAX: usize = 3;

impl World {
    /// Before each act of an app something may go wrong.
    pub(crate) fn tempt(&mut self) {
        let plan = &self.plan;
        let faults = [
            (Fault::Cut, plan.cuts),
            (Fault::Partition, plan.partitions),
            (Fault::Crash, plan.crashes),
            (Fault::Kill, plan.kills),
            (Fault::Restart, plan.restarts),
            (Fault::Suspension, plan.suspensions),
            (Fault::FullDisk, plan.full_disks),
            (Fault::ClockJump, plan.clock_jumps),
            (Fault::Rot, plan.rots),
            (Fault::Snapshot, if plan.rollbacks > 0 { 30 } else { 0 }),
            (Fault::Rollback, plan.rollbacks),
            (Fault::Copy, plan.copies),
            (Fault::Quarantine, plan.quarantines),
            (Fault::Prune, plan.prunes),
            (Fault::Rekey, plan.rekeys),
            (Fault::Clearance, plan.clearances),
        ];
        for (fault, rate) in faults {
            if self.dice.below(1000) < rate {
                let after_us = self.dice.below(self.plan.think_us);
                self.later(after_us, Event::Fault(fault));
            }
        }
        for (fault, rate) in [(Fault::Night, self.plan.nights), (Fault::Theft, self.plan.thefts)] {
            if rate > 0 && self.dice.below(1000) < rate {
                self.later(0, Event::Fault(fault));
            }
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Newcomer => {
                self.report.count("fault: newcomers");
                let slot = self.add_device();
                self.join(slot);
            }
            Fault::Revocation => self.shut_one_out(),
            Fault::Clearance => self.change_one_clearance(),
            Fault::Quarantine => self.set_one_aside(),
            Fault::Night => {
                self.report.count("fault: nights");
                self.note(|| "nothing happens for a day".to_owned());
                self.clock.skip_ms(STEP_MS_MAX + 1000);
            }
            Fault::Cut => {
                let links = self.links.keys().chain(self.parcels.keys()).copied();
                let links: Vec<u64> = links.collect();
                if let Some(link) = self.pick(&links) {
                    self.report.count("fault: cuts");
                    self.cut(link);
                }
            }
            Fault::Healed { from, to } => {
                self.dead.remove(&(from, to));
            }
            Fault::Freed { slot } => {
                self.devices[slot].fused.disk.set_budget(None);
                self.later(RECOVERY_US, Event::Fault(Fault::Recovered { slot }));
            }
            Fault::Recovered { slot } => self.devices[slot].is_full = false,
            fault => {
                let up = self.up();
                if let Some(slot) = self.pick(&up) {
                    self.fault_of(slot, fault);
                }
            }
        }
    }

    /// A fault of one device that runs.
    fn fault_of(&mut self, slot: Slot, fault: Fault) {
        match fault {
            Fault::Partition => self.part(slot),
            Fault::Crash => {
                let calls = if self.dice.chance(50) { 40 } else { 800 };
                let calls = self.dice.below(calls);
                self.devices[slot].fused.light(calls);
            }
            Fault::Kill => {
                self.report.count("fault: kills");
                self.note(|| format!("{slot} is killed"));
                self.forget_queue(slot);
                self.devices[slot].kill();
                self.went_down(slot);
            }
            Fault::Restart => self.restart(slot),
            Fault::Suspension => self.begin_suspending(slot),
            // The end of one would be taken for the end of both.
            Fault::FullDisk if self.devices[slot].is_full => {}
            Fault::FullDisk => {
                let device = &mut self.devices[slot];
                let used = device.fused.used();
                device.is_full = true;
                let budget = used + self.dice.below(40_000);
                self.devices[slot].fused.disk.set_budget(Some(budget));
                self.report.count("fault: full disks");
                let after_us = self.dice.below(self.plan.think_us * 10);
                self.later(after_us, Event::Fault(Fault::Freed { slot }));
            }
            Fault::ClockJump => {
                let range_ms = [5_000, 3_600_000, 315_576_000_000][self.below(3)];
                let ahead_ms = i64::try_from(self.dice.below(2 * range_ms)).unwrap_or(0)
                    - i64::try_from(range_ms).unwrap_or(0);
                self.report.count("fault: clocks set");
                self.devices[slot].world.set_ahead_ms(ahead_ms);
            }
            Fault::Rot => self.rot(slot),
            Fault::Snapshot => {
                let snapshot = self.devices[slot].fused.disk.snapshot();
                let kept = &mut self.devices[slot].snapshots;
                kept.push(snapshot);
                if kept.len() > SNAPSHOTS_MAX {
                    kept.remove(0);
                }
            }
            Fault::Rollback => self.roll_back(slot),
            Fault::Copy => self.copy(slot),
            Fault::Prune => {
                self.enqueue(slot, Job::Prune(true));
                // The others are asked as well, each in its own time, or not at all.
                for other in self.up().into_iter().filter(|other| *other != slot) {
                    if self.dice.chance(70) {
                        self.enqueue(other, Job::Prune(false));
                    }
                }
            }
            Fault::Rekey => self.enqueue(slot, Job::Rekey),
            Fault::Theft => self.rob(slot),
            Fault::Newcomer
            | Fault::Night
            | Fault::Revocation
            | Fault::Clearance
            | Fault::Quarantine
            | Fault::Cut
            | Fault::Healed { .. }
            | Fault::Freed { .. }
            | Fault::Recovered { .. } => {}
        }
    }

    /// The first device shuts another one out, whatever that is doing; it goes on, and speaks with
    /// who has not heard.
    fn shut_one_out(&mut self) {
        let first = &self.devices[0];
        let Some(space) = first.space().filter(|_| first.is_honest() && !first.is_rotten) else {
            return;
        };
        let known = space.devices().unwrap_or_default();
        let is_out = |id: &DeviceId| self.is_doubtful(id);
        let others: Vec<DeviceId> =
            known.iter().map(|one| one.device).filter(|id| Some(*id) != first.id).collect();
        let left = |id: &&DeviceId| {
            let mut devices = self.devices.iter();
            let is_left = |one: &Device| one.is_honest() && !one.likes.audits;
            !is_out(id) && devices.any(|one| one.id == Some(**id) && is_left(one))
        };
        if others.iter().filter(left).count() < WHOLE_MIN {
            return;
        }
        let others: Vec<DeviceId> = others.into_iter().filter(|id| !is_out(id)).collect();
        let villain = self.villain.as_ref().filter(|_| self.plan.colludes).map(|one| one.id);
        let villain = villain.filter(|id| others.contains(id));
        if let Some(id) = villain.or_else(|| self.pick(&others)) {
            self.enqueue(0, Job::Revoke(id));
        }
    }

    /// The first device waits for another one no more until that is back, be it away or not.
    fn set_one_aside(&mut self) {
        let space = self.devices[0].space();
        let known = space.and_then(|space| space.devices().ok()).unwrap_or_default();
        let others: Vec<DeviceId> =
            known.iter().filter(|one| !one.me).map(|one| one.device).collect();
        if let Some(id) = self.pick(&others) {
            self.enqueue(0, Job::SetAside(id));
        }
    }

    pub(crate) fn below(&mut self, below: u64) -> usize {
        usize::try_from(self.dice.below(below)).unwrap_or(0)
    }

    fn part(&mut self, slot: Slot) {
        let others: Vec<Slot> = (0..self.devices.len()).filter(|other| *other != slot).collect();
        let Some(other) = self.pick(&others) else { return };
        let both = self.dice.chance(60);
        self.report.count(if both { "fault: partitions" } else { "fault: one-way partitions" });
        let length_us = self.dice.below(self.plan.think_us * 50);
        for (from, to) in [(slot, other), (other, slot)].into_iter().take(1 + usize::from(both)) {
            self.dead.insert((from, to));
            self.later(length_us, Event::Fault(Fault::Healed { from, to }));
        }
    }

    fn restart(&mut self, slot: Slot) {
        self.report.count("fault: restarts");
        self.note(|| format!("{slot} is closed"));
        self.forget_queue(slot);
        let closed = self.devices[slot].close();
        if self.notice_power(slot) {
            return;
        }
        if let Err(error) = closed {
            self.storage_failed(slot, &error.to_string());
        }
        self.went_down(slot);
    }

    /// A phone is about to take the app's time away: it ends its sessions, has what waits done, and
    /// closes everything.
    fn begin_suspending(&mut self, slot: Slot) {
        self.report.count("fault: suspensions");
        self.note(|| format!("{slot} is about to be suspended"));
        for end in self.ends_of(slot) {
            self.end_session(end, CloseCode::ShuttingDown);
        }
        for end in self.streams_of(slot) {
            self.end_stream(end, CloseCode::ShuttingDown);
        }
        self.enqueue(slot, Job::Suspend);
    }

    pub(crate) fn suspend(&mut self, slot: Slot) {
        self.forget_queue(slot);
        let closed = self.devices[slot].suspend();
        if self.notice_power(slot) {
            return;
        }
        if let Err(error) = closed {
            self.storage_failed(slot, &error.to_string());
        } else if self.dice.chance(30) {
            self.report.count("fault: power failures while suspended");
            let loss = Loss::Sectors(self.dice.roll());
            self.devices[slot].lose_power(loss);
        }
        self.check_asleep(slot);
        self.went_down(slot);
    }

    /// Bits change in a space's file or in its WAL, while nobody looks.
    fn rot(&mut self, slot: Slot) {
        let is_whole = |device: &&Device| device.is_up() && !device.is_rotten;
        let whole = self.devices.iter().filter(is_whole).count();
        if whole <= WHOLE_MIN && !self.devices[slot].is_rotten {
            return;
        }
        self.forget_queue(slot);
        let is_wal = self.dice.chance(30);
        let device = &mut self.devices[slot];
        device.kill();
        for mut path in device.fused.space_files() {
            if is_wal {
                path.as_mut_os_string().push("-wal");
            }
            let Some(mut bytes) = device.fused.disk.bytes(&path).filter(|b| !b.is_empty()) else {
                continue;
            };
            let at = usize::try_from(self.dice.below(bytes.len() as u64)).unwrap_or(0);
            bytes[at] ^= 1 << self.dice.below(8);
            device.fused.disk.put(&path, &bytes);
            device.is_rotten = true;
            if is_wal && device.is_honest() {
                // Damage at its end looks like a write that was cut: an earlier state.
                device.note_copied();
                device.buried.clear();
                device.held.clear();
            }
        }
        self.report.count(if is_wal { "fault: rots of a WAL" } else { "fault: rots" });
        self.note(|| format!("a bit of {slot} changes"));
        self.went_down(slot);
    }

    /// The device comes back as it was: what it wrote since is gone from it.
    fn roll_back(&mut self, slot: Slot) {
        if self.devices[slot].snapshots.is_empty() || self.devices[slot].is_rotten {
            return;
        }
        let at = self.below(self.devices[slot].snapshots.len() as u64);
        self.report.count("fault: devices restored from an old copy");
        self.note(|| format!("{slot} is restored from an old copy"));
        self.forget_queue(slot);
        let device = &mut self.devices[slot];
        device.kill();
        let snapshot = device.snapshots.remove(at);
        device.snapshots.clear();
        device.fused.disk.restore(&snapshot);
        device.note_copied();
        device.buried.clear();
        device.held.clear();
        self.went_down(slot);
    }

    /// The whole profile is copied to another machine, and both are used.
    fn copy(&mut self, slot: Slot) {
        if self.devices[slot].is_rotten {
            return;
        }
        self.report.count("fault: profiles copied");
        let twin = self.devices.len();
        self.note(|| format!("{slot} is copied, as {twin}"));
        let snapshot = self.devices[slot].fused.disk.snapshot();
        let seed = self.dice.roll();
        let likes = self.devices[slot].likes;
        let mut device = Device::new(twin, &self.clock, seed, likes);
        device.kill();
        device.fused.disk.restore(&snapshot);
        (device.id, device.transport) = (self.devices[slot].id, self.devices[slot].transport);
        device.inviter = self.devices[slot].inviter;
        device.note_copied();
        self.devices[slot].note_copied();
        self.devices.push(device);
        self.later(0, Event::Start { slot: twin });
        self.begin_life(twin);
    }
}

/// Going down and coming back.
impl World {
    /// Whether the power of the device failed during what it just did; if so, it is off now.
    pub(crate) fn notice_power(&mut self, slot: Slot) -> bool {
        if !self.devices[slot].fused.is_blown() {
            return false;
        }
        let seed = self.dice.roll();
        let loss = match self.dice.below(8) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            2 => Loss::AllWritesButLast,
            3 => Loss::FirstWrite,
            4 | 5 => Loss::Torn(seed),
            _ => Loss::Sectors(seed),
        };
        self.report.count("fault: power failures");
        self.note(|| format!("the power of {slot} fails, {loss:?}"));
        self.forget_queue(slot);
        self.devices[slot].lose_power(loss);
        self.went_down(slot);
        true
    }

    /// What waited for the writer will not be done.
    fn forget_queue(&mut self, slot: Slot) {
        for job in std::mem::take(&mut self.devices[slot].jobs) {
            if let Job::Unit(unit) | Job::Erase(unit) = job
                && matches!(self.model.units[unit].fate, Fate::Waiting)
            {
                self.model.units[unit].fate = Fate::Refused;
            }
        }
    }

    fn went_down(&mut self, slot: Slot) {
        self.drop_links_of(slot);
        let after_us = self.dice.below(self.plan.think_us * 20);
        self.later(after_us, Event::Start { slot });
    }

    /// The device is used no more; another takes its place.
    pub(crate) fn retire(&mut self, slot: Slot) {
        if self.devices[slot].standing == Standing::Gone {
            return;
        }
        self.note(|| format!("{slot} is given up"));
        self.forget_queue(slot);
        self.devices[slot].kill();
        self.devices[slot].standing = Standing::Gone;
        self.drop_links_of(slot);
        let new = self.add_device();
        self.later(0, Event::Join { slot: new });
    }

    /// A device that was off starts.
    pub(crate) fn start(&mut self, slot: Slot) {
        let crashes = self.is_faulty && self.plan.crashes > 0 && self.dice.chance(15);
        let calls = self.dice.below(300);
        let device = &mut self.devices[slot];
        if device.running.is_some() || device.standing == Standing::Gone {
            return;
        }
        if crashes {
            device.fused.light(calls);
        }
        let opened = device.open();
        if self.notice_power(slot) {
            return;
        }
        match opened {
            Ok(()) => {
                self.note(|| format!("{slot} starts"));
                self.report.count("fault: starts");
                self.devices[slot].starts_failed = 0;
                self.check_started(slot);
                self.check_black(slot);
                self.check_asleep(slot);
                self.index_later(slot);
            }
            Err(error) => {
                self.note(|| format!("{slot} does not start: {error}"));
                self.storage_failed(slot, &error.to_string());
                let device = &mut self.devices[slot];
                device.starts_failed += 1;
                let tries = device.starts_failed;
                assert!(tries < STARTS_FAILED_MAX, "{slot} does not start: {error}");
                // A disk that was full may have room later.
                self.later(1_000_000, Event::Start { slot });
            }
        }
    }
}

/// Starts in a row that fail before somebody should look why.
const STARTS_FAILED_MAX: u32 = 1000;
/// How long failures of a full disk may still be on their way.
const RECOVERY_US: u64 = 20_000_000;
