//! The end of a run: nothing goes wrong any more, and within a few rounds all devices agree.

use std::collections::{BTreeMap, BTreeSet};

use larder_engine::{Answer, ErasedBy, ErasureStage, Query, Wanted};
use larder_log::ForkProof;
use larder_protocol::{Fork, Lack, LogHead, Reply, Request};
use larder_types::limits::INDEX_DOCUMENTS_MAX;
use larder_types::{DeviceId, TransportId};

use crate::agreement::Content;
use crate::checks::Held;
use crate::device::{Device, Slot, Standing};
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
        let links: Vec<u64> = self.links.keys().chain(self.parcels.keys()).copied().collect();
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
            // A fuse that was lit and has not burnt down, or that nobody has looked at since.
            self.notice_power(slot);
            self.devices[slot].fused.put_out();
            self.devices[slot].is_full = false;
        }
        self.drain();
        self.look_for_rot();
        self.drain();
        for device in &self.devices {
            let is_up = device.is_up() || device.standing == Standing::Gone || device.id.is_none();
            assert!(is_up, "{} does not start", device.slot);
        }
        self.come_to_agree();
        if self.hear_the_villain_out() {
            self.come_to_agree();
        }
        if self.prune_at_the_end() {
            self.come_to_agree();
        }
        if self.let_days_pass() {
            self.come_to_agree();
        }
        for slot in self.up() {
            self.check_black(slot);
        }
        self.check_nothing_left();
        self.check_rosters();
        self.check_shut_out();
    }

    /// Lets everything that is under way end.
    pub(crate) fn drain(&mut self) {
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
        for round in 1..=up.len() {
            for slot in &up {
                self.finish_erasing(*slot);
            }
            for (at, from) in up.iter().enumerate() {
                for to in up.iter().skip(at + 1) {
                    self.speak(*from, *to);
                }
            }
            self.report.count("settle: rounds");
            let members = self.members();
            let difference = self.differences(&members).or_else(|| self.unproven(&members));
            let difference = difference.or_else(|| self.unerased(&members));
            let difference = difference.or_else(|| self.unfetched(&members));
            let difference = difference.or_else(|| self.unaudited(&members));
            // Of a log with two histories or that the malicious member wrote, not all is had.
            let may_be_left = round == up.len() && !self.is_clean();
            let difference =
                difference.or_else(|| self.unsupplied(&members).filter(|_| !may_be_left));
            let above =
                |world: &mut Self| members.iter().find_map(|slot| world.above_clearance(*slot));
            match difference.or_else(|| above(self)) {
                None => {
                    self.check_members(&members);
                    self.check_auditors();
                    return self.check_agreement(&members);
                }
                Some(difference) if round == up.len() => {
                    panic!("after {round} rounds: {difference}")
                }
                Some(difference) => {
                    self.note(|| format!("after round {round}: {difference}"));
                }
            }
        }
    }

    pub(crate) fn speak(&mut self, from: Slot, to: Slot) {
        if self.devices[from].transport == self.devices[to].transport {
            return;
        }
        // A device that was just let in knows nobody yet, and is the one that connects.
        let is_connected =
            self.connect(from, to, true).is_some() || self.connect(to, from, true).is_some();
        self.drain();
        assert!(self.links.is_empty(), "the session of {from} and {to} does not end");
        assert!(self.parcels.is_empty(), "the blobs of {from} and {to} do not end");
        // A log with two histories is not taken whole, and what it names comes another time.
        let is_whole = self.devices.iter().all(Device::is_honest) && self.model.shut_out.is_empty();
        if is_connected && is_whole && self.villain.is_none() {
            let left = self.unfetched(&[from, to]);
            assert_eq!(left, None, "after {from} and {to} have spoken");
            self.report.count("check: blobs of two that have spoken");
        }
    }

    /// Those that run, were never copied and not shut out, nor let in by one that was and that the
    /// others know to be.
    fn honest(&self) -> Vec<Slot> {
        let is_out =
            |device: &Device| device.id.is_some_and(|id| self.model.shut_out.contains(&id));
        let is_honest = |slot: &Slot| {
            let device = &self.devices[*slot];
            let is_let_in =
                |id| !self.is_doubtful(&id) || self.devices[0].is_up() && self.knows(0, *slot);
            device.is_honest()
                && !device.likes.audits
                && !is_out(device)
                && device.id.is_none_or(is_let_in)
        };
        self.up().into_iter().filter(is_honest).collect()
    }

    /// The honest devices, less those whose enrolment is known to nobody else any more because it
    /// was lost with a device that was copied or given up: the largest group that know each other.
    pub(crate) fn members(&mut self) -> Vec<Slot> {
        let honest = self.honest();
        let is_clean = self.model.shut_out.is_empty()
            && self.devices.iter().all(|device| device.is_honest() && !device.is_rotten);
        if is_clean {
            let all = self.devices.iter().filter(|device| !device.likes.audits).count();
            assert_eq!(honest.len(), all, "a device was never let in");
            return honest;
        }
        let mut largest: Vec<Slot> = Vec::new();
        let mut left = honest;
        while let Some(first) = left.pop() {
            let mut group = vec![first];
            let mut at = 0;
            while let Some(one) = group.get(at).copied() {
                let (found, others) = left
                    .into_iter()
                    .partition(|other| self.knows(one, *other) && self.knows(*other, one));
                left = others;
                group.extend::<Vec<Slot>>(found);
                at += 1;
            }
            // Of two that are as large the older one: a newcomer that only a copy has met is alone.
            if group.len() >= largest.len() {
                largest = group;
            }
        }
        largest.sort_unstable();
        largest
    }

    /// Who is known to the others knows them, but for those whom only a copy has let in.
    fn check_members(&self, members: &[Slot]) {
        for slot in self.honest() {
            let is_sure = |one: &&Slot| {
                self.devices[**one].id.is_some_and(|id| !self.was_let_in_by_copy(&id))
            };
            let known = members.iter().filter(is_sure).find(|one| self.knows(**one, slot));
            let is_alone = known.is_some() && !members.contains(&slot);
            assert!(!is_alone, "{slot} is known to {known:?}, and does not know the others");
        }
    }

    fn knows(&self, one: Slot, other: Slot) -> bool {
        let space = self.devices[one].space().expect("it is up");
        self.devices[other].id.is_some_and(|id| {
            space.devices().is_ok_and(|devices| devices.iter().any(|known| known.device == id))
        })
    }

    /// Of a log of which two devices hold two histories, both have a proof that stands alone. The
    /// first of which one has none.
    fn unproven(&mut self, members: &[Slot]) -> Option<String> {
        for (one, other) in pairs(members) {
            let heads = self.frontier(other).into_values().collect();
            let (space, transport) = self.space_and_peer(one, other);
            let request = Request::CheckFrontiers { logs: heads, forks: Vec::new() };
            let Answer::Reply(Reply::Checked { forks: found }) = space.answer(&transport, request)
            else {
                return Some(format!("{one} finds only now that a log of {other} is another"));
            };
            for fork in found {
                for slot in [one, other] {
                    let known = self.proofs(slot);
                    if !known.contains(&fork.device) {
                        return Some(format!("{slot} has no proof of two histories"));
                    }
                    self.report.count("check: forks known to both");
                }
            }
        }
        None
    }

    /// The first of the devices of which another has not heard that it has erased all that it was
    /// to. What is in a log with two histories not all are asked for.
    fn unerased(&mut self, members: &[Slot]) -> Option<String> {
        if self.devices.iter().any(|device| device.was_copied) {
            return None;
        }
        for one in members {
            let space = self.devices[*one].space().expect("it is up");
            let erasures = space.erasures().expect("what was erased");
            self.report.add("check: erasures heard of", erasures.len() as u64);
            let ids: Vec<_> = members.iter().filter_map(|slot| self.devices[*slot].id).collect();
            for erasure in &erasures {
                let open =
                    |by: &&ErasedBy| by.stage != ErasureStage::Done && ids.contains(&by.device);
                if let Some(by) = erasure.devices.iter().find(open) {
                    let (object, label) = (erasure.object, &by.label);
                    return Some(format!("{one} has not heard that {label} has erased {object}"));
                }
            }
        }
        None
    }

    /// Whether all devices are whole, and nobody was ever malicious or shut out.
    pub(crate) fn is_clean(&self) -> bool {
        self.devices.iter().all(|device| device.is_honest() && !device.is_rotten)
            && self.villain.is_none()
            && self.model.shut_out.is_empty()
    }

    /// The first of the devices that has not got a snapshot that it asks for.
    fn unsupplied(&self, members: &[Slot]) -> Option<String> {
        let asks = |slot: &&Slot| {
            let space = self.devices[**slot].space().expect("it is up");
            let wanted = space.wanted(Lack::default()).expect("what it lacks");
            wanted.want.is_some_and(|want| want.snapshot.is_some())
        };
        members.iter().find(asks).map(|slot| format!("{slot} asks for a snapshot"))
    }

    fn space_and_peer(&self, one: Slot, other: Slot) -> (larder_engine::Space, TransportId) {
        let space = self.devices[one].space().expect("it is up").clone();
        (space, self.devices[other].transport)
    }

    /// Whose logs the device can prove to have two histories.
    fn proofs(&self, slot: Slot) -> Vec<DeviceId> {
        let (space, transport) = self.space_and_peer(slot, slot);
        let answer = space.answer(&transport, Request::ReadFrontiers);
        let Answer::Reply(Reply::Frontiers { forks, .. }) = answer else {
            panic!("{slot} does not know what it holds: {answer:?}")
        };
        let check = |fork: Fork| {
            let proven = ForkProof::check(&fork.evidence, &space.id());
            assert_eq!(proven, Some(fork.device), "a proof that proves nothing");
            fork.device
        };
        forks.into_iter().map(check).collect()
    }

    /// What the device holds of each log.
    pub(crate) fn frontier(&self, slot: Slot) -> BTreeMap<DeviceId, LogHead> {
        self.frontier_now(slot).unwrap_or_else(|| panic!("{slot} does not know what it holds"))
    }

    /// The same; none if its power fails meanwhile, its file has changed by itself, or its disk is
    /// full: what a device tells of its own log it notes first.
    pub(crate) fn frontier_now(&self, slot: Slot) -> Option<BTreeMap<DeviceId, LogHead>> {
        let device = &self.devices[slot];
        match device.space()?.answer(&device.transport, Request::ReadFrontiers) {
            Answer::Reply(Reply::Frontiers { logs, .. }) => {
                Some(logs.into_iter().map(|head| (head.device, head)).collect())
            }
            _ if device.fused.is_blown() || device.is_rotten || device.is_full => None,
            other => panic!("{slot} does not know what it holds: {other:?}"),
        }
    }

    /// Entries that a device asks for bytes of, or cannot open, but for logs in dispute.
    pub(crate) fn awaited(&self, slot: Slot) -> BTreeSet<(DeviceId, u64)> {
        let space = self.devices[slot].space().expect("it is up");
        let (mut places, mut after) = (BTreeSet::new(), Some(Lack::default()));
        while let Some(from) = after {
            let Wanted { want, next } = space.wanted(from).expect("what it lacks");
            let want = want.into_iter().flat_map(|want| [want.sections, want.sealed]).flatten();
            for run in want.filter(|run| !self.is_copied(&run.device)) {
                // Who has the secret knows that it does not open, and cannot show it to others.
                let opens = |seq: &u64| {
                    let villain = self.villain.as_ref().filter(|one| one.id == run.device);
                    villain.is_none_or(|villain| villain.opens(*seq))
                };
                places.extend((run.first..=run.last).filter(opens).map(|seq| (run.device, seq)));
            }
            after = next;
        }
        places
    }

    /// The first section that a device asks for and another one does not, which is cleared for as
    /// much: it has it, and gives it to the others.
    fn ungiven(&self, members: &[Slot]) -> Option<String> {
        // What a copy erased is gone where its history is held, and asked for elsewhere.
        if self.has_erased(|author| self.is_copied(author)) {
            return None;
        }
        let lacks: Vec<_> = members.iter().map(|slot| (*slot, self.awaited(*slot))).collect();
        for ((slot, lacking), (other, others)) in
            lacks.iter().flat_map(|one| lacks.iter().map(move |other| (one, other)))
        {
            let may_give = self.clearance(*other) >= self.clearance(*slot);
            if let Some((log, seq)) = lacking.difference(others).next().filter(|_| may_give) {
                return Some(format!("{slot} asks for entry {seq} of {log}, and {other} has it"));
            }
        }
        None
    }

    /// The first thing about which two of the devices do not agree.
    fn differences(&self, members: &[Slot]) -> Option<String> {
        if let Some(ungiven) = self.ungiven(members) {
            return Some(ungiven);
        }
        let (first, others) = members.split_first()?;
        others.iter().find_map(|other| self.difference(*first, *other))
    }

    /// The first log of which two devices hold another one, or another end.
    pub(crate) fn difference(&self, first: Slot, other: Slot) -> Option<String> {
        let (known, theirs) = (self.frontier(first), self.frontier(other));
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
        None
    }

    fn check_agreement(&mut self, members: &[Slot]) {
        self.report.count("check: agreements");
        let mut groups: Vec<(BTreeMap<DeviceId, LogHead>, Content)> = Vec::new();
        let id = |slot: &Slot| self.devices[*slot].id.expect("it has joined");
        let held: Held = members.iter().map(|slot| (id(slot), self.frontier(*slot))).collect();
        let open = self.open_redactions();
        for slot in members {
            self.index_all(*slot);
            self.check_villain(*slot);
            self.check_blobs(*slot);
            self.check_acks_kept(*slot, &held);
            let frontier = self.frontier(*slot);
            let space = self.devices[*slot].space().expect("it is up");
            let content = Content::read(space, self.awaited(*slot));
            let alike = |(heads, _): &&(_, Content)| ends(heads) == ends(&frontier);
            let mut known = groups.iter().filter(alike).map(|(_, known)| known);
            if let Some(known) = known.find(|known| known.clearance == content.clearance) {
                known.compare(&content, *slot, &open);
                self.report.count("check: contents compared");
                continue;
            }
            for (_, known) in groups.iter().filter(alike) {
                known.compare_up_to(content.clearance, &content, *slot);
                self.report.count("check: contents compared up to a clearance");
            }
            groups.push((frontier, content));
        }
        for (frontier, content) in &groups {
            self.check_entries(members, frontier, content);
        }
        // As much as all of the above, for each.
        if let Some(slot) = self.pick(members) {
            self.check_whole(slot);
        }
    }
}

impl World {
    /// A search waits for the indexes, and then finds all that was committed before.
    fn index_all(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let awaited = device.space().expect("it is up").awaits_index(&Query::both(""));
        let Some(mut mark) = awaited else { return };
        let writer = device.writer().expect("it is up");
        while !writer.has_indexed(&mut mark) {
            if writer.index(INDEX_DOCUMENTS_MAX).expect("indexes that can be written") == 0 {
                writer.embed(INDEX_DOCUMENTS_MAX).expect("indexes that can be written");
            }
        }
    }
}

/// All pairs, in both orders.
fn pairs(slots: &[Slot]) -> Vec<(Slot, Slot)> {
    let with = |one: Slot| slots.iter().filter(move |other| **other != one).map(move |o| (one, *o));
    slots.iter().flat_map(|one| with(*one)).collect()
}

type Ends = Vec<(DeviceId, u64, larder_types::Hash)>;

fn ends(heads: &BTreeMap<DeviceId, LogHead>) -> Ends {
    heads.values().map(|head| (head.device, head.size, head.root)).collect()
}
