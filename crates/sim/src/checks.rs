//! What must hold while everything goes on.

use std::collections::BTreeMap;
use std::ops::Range;

use larder_engine::{Answer, Checking, Error, StoreError, StoreErrorKind, UnitOfWork, Wanted};
use larder_log::ack::Ack;
use larder_log::{Band, Dep, ForkProof};
use larder_protocol::{Fork, Lack, LogHead, Reply, Request};
use larder_types::{CloseCode, DeviceId, ObjectId};

use crate::device::{Device, Running, Slot};
use crate::model::{Operation, Unit, is_erasure};
use crate::network::End;
use crate::world::World;

/// What each device holds of each log.
pub(crate) type Held = BTreeMap<DeviceId, BTreeMap<DeviceId, LogHead>>;

/// Receipts looked at when a device has started.
const RECEIPTS_MAX: usize = 12;

impl World {
    /// Whether the log may have two histories, or an end that was lost.
    pub(crate) fn is_copied(&self, log: &DeviceId) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|device| device.id == Some(*log) && device.was_copied)
            || self.villain.as_ref().is_some_and(|one| one.is_forked && one.id == *log)
    }

    /// Whether what the device wrote may count for nothing: it was shut out, or let in by one that
    /// was.
    pub(crate) fn is_doubtful(&self, log: &DeviceId) -> bool {
        if self.model.shut_out.is_empty() {
            return false;
        }
        let of = self.devices.iter().find(|device| device.id == Some(*log));
        let chain = std::iter::successors(of, |one| one.inviter.map(|slot| &self.devices[slot]));
        let mut ids = chain.filter_map(|device| device.id).chain([*log]);
        ids.any(|id| self.model.shut_out.contains(&id))
    }

    /// Whether such a device was shut out by the first one, and by nobody else or with nobody else,
    /// so that it is known which of its entries count.
    pub(crate) fn is_judged(&self, log: &DeviceId) -> bool {
        let of = self.devices.iter().find(|device| device.id == Some(*log));
        let chain = std::iter::successors(of, |one| one.inviter.map(|slot| &self.devices[slot]));
        let mut others = chain.skip(1).filter_map(|device| device.id);
        self.model.keeps.contains_key(log)
            && self.is_first_whole()
            && !self.is_copied(log)
            && !others.any(|id| self.model.shut_out.contains(&id))
    }

    /// Whether the first device has kept all that it wrote: else whom it shut out perhaps nobody
    /// has heard.
    pub(crate) fn is_first_whole(&self) -> bool {
        !self.devices[0].was_copied && !self.devices[0].is_rotten
    }

    fn is_doubtful_slot(&self, slot: Slot) -> bool {
        self.devices[slot].id.is_some_and(|id| self.is_doubtful(&id))
    }

    /// Whether such a device erased something.
    pub(crate) fn has_erased(&self, is_one: impl Fn(&DeviceId) -> bool) -> bool {
        let mut units = self.model.units.iter();
        units.any(|unit| is_erasure(&unit.operations) && is_one(&unit.author))
    }

    /// A deleted document never comes back.
    pub(crate) fn check_deleted(
        &mut self,
        slot: Slot,
        object: ObjectId,
        is_there: bool,
        is_deleted: bool,
    ) {
        // Of what is above its clearance it knows nothing any more, and what it deleted there may
        // count for nothing.
        let band = self.model.documents.get(&object).and_then(|known| known.band);
        if band > Some(Band::Green) && !self.model.clearances.is_empty() {
            return;
        }
        // Nor may what a device deletes that is shut out.
        let deletes = |unit: &Unit| {
            let mut operations = unit.operations.iter().filter(|it| it.object() == object);
            operations.any(|it| matches!(it, Operation::Delete { .. } | Operation::Erase { .. }))
        };
        let units = self.model.documents.get(&object).into_iter().flat_map(|known| &known.units);
        let mut units = units.map(|index| &self.model.units[*index]);
        if units.any(|unit| deletes(unit) && self.is_doubtful(&unit.author)) {
            return;
        }
        let device = &mut self.devices[slot];
        if is_deleted {
            device.buried.insert(object);
        }
        if device.buried.contains(&object) {
            assert!(!is_there && is_deleted, "document {object} came back on {slot}");
            self.report.count("check: tombstones");
        }
    }

    /// A device that has started still has what it said to have.
    pub(crate) fn check_started(&mut self, slot: Slot) {
        let device = &self.devices[slot];
        let (Some(id), true) = (device.id, device.is_honest()) else { return };
        let Some(space) = device.space().cloned() else { return };
        let is_own = |unit: &Unit| unit.author == id;
        let mut receipts = 0;
        let own: Vec<_> = self.model.committed_units().filter(|(unit, _)| is_own(unit)).collect();
        for (_, committed) in own.into_iter().rev().take(RECEIPTS_MAX) {
            match space.receipt(&id, committed.seq) {
                Ok(now) => assert_eq!(
                    now.header, committed.receipt.header,
                    "entry {} of {slot} is another than it was",
                    committed.seq
                ),
                Err(_) if device.is_rotten || device.fused.is_blown() => {}
                // What is shown of the own log is noted first.
                Err(Error::Store(error))
                    if device.is_full && error.kind() == StoreErrorKind::Full => {}
                Err(error) => panic!("{slot} lost its entry {}: {error}", committed.seq),
            }
            receipts += 1;
        }
        let held: Vec<(DeviceId, u64)> = device.held.iter().map(|(d, size)| (*d, *size)).collect();
        if let Some(heads) = self.frontier_now(slot).filter(|_| !device.is_rotten) {
            for (log, size) in held {
                let now = heads.get(&log).map_or(0, |head| head.size);
                assert!(now >= size, "{slot} acknowledged {size} entries of {log}, and has {now}");
            }
        }
        self.report.add("check: receipts after a start", receipts);
        self.notice_power(slot);
    }

    /// What was open before a suspension is closed for good, whatever is open now.
    pub(crate) fn check_asleep(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let Some(Running { space: Some((space, writer)), .. }) = &mut device.asleep else {
            return;
        };
        let object = ObjectId::new([9; 16]);
        let read = space.document(&object);
        let is_closed = matches!(&read, Err(Error::Store(StoreError::Closed) | Error::Auditor));
        assert!(is_closed, "{slot} was closed, and shows {read:?}");
        let mut work = UnitOfWork::new();
        work.delete(object);
        let written = writer.commit(&mut std::iter::once(work));
        assert!(written.iter().all(Result::is_err), "{slot} was closed, and wrote {written:?}");
        let answer = space.answer(&device.transport, Request::ReadFrontiers);
        let is_silent = matches!(&answer, Answer::Reply(Reply::Failed { .. }));
        assert!(is_silent, "{slot} was closed, and says {answer:?}");
        self.report.count("check: closed handles");
        // Whenever its app lets go of it.
        if self.dice.chance(40) {
            self.devices[slot].asleep = None;
        }
    }

    /// What is missing is not acknowledged, nor is anything after it.
    pub(crate) fn check_acks(&mut self, slot: Slot, reply: &Reply) {
        // Each time it takes as long as what is looked at.
        if !self.dice.chance(25) {
            return;
        }
        // What an erasure took that counts for nothing is wanted again, and was acknowledged.
        if self.has_erased(|author| self.is_doubtful(author)) {
            return;
        }
        let (Reply::Applied { acks, .. } | Reply::Supplied { acks, .. }) = reply else { return };
        let device = &self.devices[slot];
        let Some(space) = device.space().filter(|_| !device.is_rotten && !acks.is_empty()) else {
            return;
        };
        let sections = Lack::Sections(0);
        let Ok(Wanted { want: Some(want), .. }) = space.wanted(sections) else { return };
        for run in &want.sections {
            let beyond = |ack: &&Ack| ack.device == run.device && ack.size >= run.first;
            let said = acks.iter().find(beyond);
            assert!(said.is_none(), "{slot} acknowledges what it does not have: {run:?}, {said:?}");
            self.report.count("check: acknowledgements beside what is missing");
        }
    }

    /// Whoever is said to hold something, by an acknowledgement that was taken in, does.
    pub(crate) fn check_acks_taken(&mut self, slot: Slot, reply: &Reply) {
        let Reply::AcksStored { new } = reply else { return };
        for ack in new {
            if self.is_copied(&ack.device) {
                continue;
            }
            let mut devices = self.devices.iter();
            let acker = devices.find(|device| device.id == Some(ack.acker));
            let is_sure = |one: &&Device| one.is_honest() && one.is_up() && !one.is_rotten;
            let Some(acker) = acker.filter(is_sure) else { continue };
            // Most are known by what it answered; its storage is asked for the others.
            let said = acker.held.get(&ack.device).copied().unwrap_or(0);
            let held = if said < ack.size { self.frontier_now(acker.slot) } else { None };
            let held =
                held.map_or(ack.size, |heads| heads.get(&ack.device).map_or(0, |head| head.size));
            let (acker, Ack { device, size, .. }) = (acker.slot, ack);
            assert!(
                *size <= held,
                "{slot} takes it that {acker} holds {size} entries of {device}, which holds {held}"
            );
            self.report.count("check: acknowledgements taken in");
        }
    }

    /// What an entry builds on is here before it.
    pub(crate) fn check_deps(&mut self, slot: Slot, new: Range<u64>, deps: &[(u64, Dep)]) {
        let device = &self.devices[slot];
        if deps.is_empty() || device.is_rotten {
            return;
        }
        // Most are known by what it answered; its storage is asked for the others.
        let said = |dep: &Dep| device.held.get(&dep.device).is_some_and(|size| *size >= dep.seq);
        let is_due = |(seq, dep): &&(u64, Dep)| new.contains(&seq.saturating_sub(1)) && !said(dep);
        let due: Vec<_> = deps.iter().filter(is_due).collect();
        let held = if due.is_empty() { None } else { self.frontier_now(slot) };
        for (seq, dep) in due {
            let Some(heads) = &held else { return };
            // Of a log with two histories either may be meant.
            let here = heads.get(&dep.device).map_or(0, |head| head.size);
            let is_met = here >= dep.seq || self.is_copied(&dep.device);
            assert!(is_met, "{slot} took in entry {seq}, which builds on {dep:?}, and has {here}");
        }
        self.report.count("check: deps of entries taken in");
    }

    /// Nobody is said to hold more than it does.
    pub(crate) fn check_acks_kept(&mut self, slot: Slot, held: &Held) {
        let device = &self.devices[slot];
        let space = device.space().expect("it is up");
        let answer = space.answer(&device.transport, Request::ReadFrontiers);
        let Answer::Reply(Reply::Frontiers { acks, .. }) = answer else {
            panic!("{slot} does not know what it holds: {answer:?}")
        };
        let mut kept = 0;
        for ack in acks.iter().filter(|ack| !self.is_copied(&ack.device)) {
            let Some(heads) = held.get(&ack.acker) else { continue };
            let held = heads.get(&ack.device).map_or(0, |head| head.size);
            let Ack { acker, device, size, .. } = ack;
            assert!(*size <= held, "{slot} has it that {acker} holds {size} of {device}: {held}");
            kept += 1;
        }
        self.report.add("check: acknowledgements kept", kept);
    }

    /// What a device holds is what was signed, and all that follows from it.
    pub(crate) fn check_whole(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let mut checking = Checking::new(false);
        let writer = device.writer().expect("it is up");
        while !writer.check_step(&mut checking).expect("storage that works") {}
        let report = checking.report();
        let (findings, lacking) = (&report.findings, report.without_vector);
        assert!(findings.is_empty(), "a check of {slot} finds {findings:?}");
        assert_eq!(lacking, 0, "documents of {slot} are not found by likeness");
        self.report.count("check: whole devices");
    }

    /// Only logs of devices that were copied, or of a villain that told two, have two histories,
    /// and the proof stands alone.
    pub(crate) fn note_fork(&mut self, slot: Slot, fork: &Fork) {
        self.note(|| format!("{slot} finds two histories of {}", fork.device));
        assert!(self.is_copied(&fork.device), "{slot} accuses an honest device: {fork:?}");
        self.report.count("check: forks proven");
        let space = self.devices[slot].space().expect("it is in a session").id();
        let proven = ForkProof::check(&fork.evidence, &space);
        assert_eq!(proven, Some(fork.device), "a proof that proves nothing");
    }

    /// A log that is not taken any further: only for what a copy or a liar made of it.
    pub(crate) fn check_refusal(
        &mut self,
        end: End,
        slot: Slot,
        log: &DeviceId,
        code: CloseCode,
        message: &str,
    ) {
        self.report.count("session: logs refused");
        self.note_refused(end, code);
        let lies = self.links.get(&end.link).is_some_and(|link| link.lies);
        assert!(
            lies || self.devices[slot].was_copied
                || self.is_doubtful_slot(slot)
                || self.is_refused_for_copies(end, log, message),
            "{slot} refuses the log of {log}, and nobody did wrong: {code:?} {message}"
        );
        if let Some(conversation) = self.conversation_at(end) {
            conversation.refused.insert(*log);
        }
    }

    /// Whether a log is refused because it has two histories itself, or builds on one that has, or
    /// on one that was refused in this session.
    fn is_refused_for_copies(&mut self, end: End, log: &DeviceId, message: &str) -> bool {
        let refused = self.conversation_at(end).map(|conversation| conversation.refused.clone());
        let refused = refused.unwrap_or_default();
        let named = [vec![*log], self.named(message)].concat();
        if message.contains("not enrolled") && self.was_let_in_by_copy(log) {
            return true;
        }
        named.iter().any(|id| refused.contains(id) || self.is_copied(id))
    }

    /// Whether an enrolment on which the device's own rests may be in what a copy alone wrote.
    pub(crate) fn was_let_in_by_copy(&self, log: &DeviceId) -> bool {
        let of = self.devices.iter().find(|device| device.id == Some(*log));
        let chain = std::iter::successors(of, |one| one.inviter.map(|slot| &self.devices[slot]));
        chain.skip(1).any(|device| device.was_copied)
    }

    /// Whose logs a message names.
    fn named(&self, message: &str) -> Vec<DeviceId> {
        let ids = self.devices.iter().filter_map(|device| device.id);
        let ids = ids.chain(self.villain.as_ref().map(|villain| villain.id));
        ids.filter(|id| message.contains(&id.to_string())).collect()
    }

    /// Between honest devices a session ends because it is done, or because of a fault.
    pub(crate) fn check_close(
        &mut self,
        end: End,
        slot: Slot,
        code: CloseCode,
        message: &str,
        by_peer: bool,
    ) {
        let lies = self.links.get(&end.link).is_some_and(|link| link.lies);
        let peer = self.conversation_at(end).and_then(|conversation| conversation.peer);
        let mut both = [Some(slot), peer].into_iter().flatten();
        let is_of_copies =
            both.any(|one| self.devices[one].was_copied || self.is_doubtful_slot(one));
        if !by_peer && code != CloseCode::Storage {
            self.note_refused(end, code);
        }
        let is_ordinary = match code {
            // The device whose storage failed has been looked at.
            CloseCode::Done
            | CloseCode::ShuttingDown
            | CloseCode::TimedOut
            | CloseCode::Storage => true,
            CloseCode::Internal => false,
            _ => lies || is_of_copies,
        };
        assert!(
            is_ordinary,
            "the session of {slot} ended (by the peer: {by_peer}): {code:?} {message}"
        );
        self.report.count(match code {
            CloseCode::Done => "session: done",
            CloseCode::Storage => "session: storage failed",
            CloseCode::TimedOut => "session: timed out",
            _ => "session: refused",
        });
    }
}
