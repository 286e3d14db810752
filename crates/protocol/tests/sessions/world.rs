//! Devices with a store each, sessions between them, frames under way, and one clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use larder_crypto::hash::sha256;
use larder_crypto::{AckKey, AckPublic, DeviceSigningKey, Secret};
use larder_log::ack::Ack;
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::{self, Frontier};
use larder_log::{Batch, BatchEntry, EntryBuilder, Payload, SectionCommitment};
use larder_protocol::{
    Config, Event, Fork, Frame, LogHead, Opens, Position, Reply, Request, Session,
};
use larder_types::{CloseCode, DeviceId, EpochId, Hash, SpaceId, Timestamp};

pub(crate) const SPACE: SpaceId = SpaceId::new([0x5a; 32]);

pub(crate) fn signing_key(number: u8) -> DeviceSigningKey {
    DeviceSigningKey::from_secret(&Secret::new([number; 32]))
}

pub(crate) fn ack_key(number: u8) -> AckKey {
    AckKey::from_secret(&Secret::new([number + 100; 32]))
}

/// One log as a store holds it.
#[derive(Clone, Default)]
struct Log {
    frontier: Frontier,
    leaves: Vec<Hash>,
    signature: Option<[u8; 64]>,
}

/// A store: what an engine would answer, kept in vectors.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) number: u8,
    pub(crate) me: DeviceId,
    logs: BTreeMap<DeviceId, Log>,
    /// Transactions in the order they were applied here.
    pub(crate) applied: Vec<Batch>,
    pub(crate) acks: BTreeMap<(DeviceId, DeviceId), Ack>,
    ack_keys: BTreeMap<DeviceId, AckPublic>,
    /// Logs this store takes nothing of.
    pub(crate) refuses: BTreeSet<DeviceId>,
    /// Whether the next apply fails as a full disk would.
    pub(crate) is_full: bool,
    /// Applies of what was held already.
    pub(crate) repeated: usize,
}

impl Store {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            number,
            me: signing_key(number).device_id(),
            logs: BTreeMap::new(),
            applied: Vec::new(),
            acks: BTreeMap::new(),
            ack_keys: (1..10).map(|n| (signing_key(n).device_id(), ack_key(n).public())).collect(),
            refuses: BTreeSet::new(),
            is_full: false,
            repeated: 0,
        }
    }

    /// One transaction of this store's own device.
    pub(crate) fn commit(&mut self, entries: usize, bytes: usize) {
        let log = self.logs.entry(self.me).or_default();
        let batch = make_batch(self.number, &log.frontier, entries, bytes);
        self.append(batch);
    }

    fn append(&mut self, batch: Batch) {
        let log = self.logs.entry(batch.device).or_default();
        let verified = batch.verify(&SPACE, &log.frontier).unwrap();
        log.leaves.extend(verified.entries.iter().map(|entry| Hash::from(entry.hash)));
        log.frontier = verified.after;
        log.signature = Some(batch.signature);
        self.applied.push(batch);
    }

    pub(crate) fn sizes(&self) -> BTreeMap<DeviceId, u64> {
        self.logs.iter().map(|(device, log)| (*device, log.frontier.size())).collect()
    }

    /// What must be equal once all is synced.
    pub(crate) fn frontier(&self) -> BTreeMap<DeviceId, (u64, Hash)> {
        let head = |log: &Log| (log.frontier.size(), log.frontier.root());
        self.logs.iter().map(|(device, log)| (*device, head(log))).collect()
    }

    pub(crate) fn heads(&self) -> Vec<LogHead> {
        self.logs
            .iter()
            .map(|(device, log)| LogHead {
                device: *device,
                size: log.frontier.size(),
                root: log.frontier.root(),
                signature: log.signature.unwrap(),
            })
            .collect()
    }

    pub(crate) fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::ReadFrontiers => Reply::Frontiers {
                logs: self.heads(),
                epochs_held: vec![EpochId::new([1; 32])],
                acks: self.acks.values().cloned().collect(),
                forks: Vec::new(),
            },
            Request::CheckFrontiers { logs, .. } => self.check(&logs),
            Request::ReadWants { .. } => Reply::Wanted { want: None, next: None },
            Request::ReadSupply { .. } => Reply::Supply { supply: Box::default() },
            Request::TakeSupply { .. } => Reply::Supplied { progress: false, acks: Vec::new() },
            Request::ReadBatch { after, have, .. } => self.read(after, &have),
            Request::Apply { batch, .. } => self.apply(*batch),
            Request::StoreAcks { acks } => {
                let new = acks.into_iter().filter(|ack| self.store_ack(ack)).collect();
                Reply::AcksStored { new }
            }
        }
    }

    fn check(&self, heads: &[LogHead]) -> Reply {
        let mut forks = Vec::new();
        for LogHead { device, size, root, signature } in heads {
            let checkpoint = Checkpoint { space: SPACE, device: *device, size: *size, root: *root };
            if checkpoint.verify(signature).is_err() {
                let message = "a head that its device did not sign".to_owned();
                return Reply::Refused { code: CloseCode::BadBatch, message, fatal: true };
            }
            let Some(log) = self.logs.get(device) else { continue };
            let ours = log.leaves.get(..*size as usize).map(merkle::root_of);
            if ours.is_some_and(|ours| ours != *root) {
                forks.push(Fork {
                    device: *device,
                    evidence: b"two roots".to_vec(),
                    acts: Vec::new(),
                });
            }
        }
        Reply::Checked { forks }
    }

    fn read(&self, after: Position, have: &BTreeMap<DeviceId, u64>) -> Reply {
        let start = after.0 as usize;
        let lacking = |batch: &Batch| have.get(&batch.device).copied().unwrap_or(0) < batch.size();
        match self.applied[start..].iter().position(lacking) {
            Some(offset) => Reply::Batch {
                position: Position((start + offset + 1) as u64),
                batch: Some(Box::new(self.applied[start + offset].clone())),
            },
            None => Reply::Batch { position: Position(self.applied.len() as u64), batch: None },
        }
    }

    fn apply(&mut self, batch: Batch) -> Reply {
        let device = batch.device;
        if self.is_full {
            return Reply::Failed { message: "the disk is full".to_owned() };
        }
        if self.refuses.contains(&device) {
            let message = "not a device of this space".to_owned();
            return Reply::Refused { code: CloseCode::BadBatch, message, fatal: false };
        }
        let log = self.logs.entry(device).or_default();
        if batch.size() <= log.frontier.size() {
            self.repeated += 1;
        } else {
            if let Err(error) = batch.verify(&SPACE, &log.frontier) {
                let message = error.to_string();
                return Reply::Refused { code: CloseCode::BadBatch, message, fatal: true };
            }
            self.append(batch);
        }
        let head = self.logs[&device].frontier.clone();
        let checkpoint = Checkpoint { space: SPACE, device, size: head.size(), root: head.root() };
        let ack = Ack::sign(&checkpoint, self.me, &ack_key(self.number), 1_700_000_000);
        // Nobody needs to be told that a device holds its own log.
        let news = device != self.me && self.store_ack(&ack);
        let acks = if news { vec![ack] } else { Vec::new() };
        Reply::Applied { device, size: head.size(), acks, lacks: false }
    }

    fn store_ack(&mut self, ack: &Ack) -> bool {
        let key = self.ack_keys.get(&ack.acker);
        if key.is_none_or(|key| ack.verify(key).is_err()) {
            return false;
        }
        let key = (ack.acker, ack.device);
        let news = self.acks.get(&key).is_none_or(|held| held.size < ack.size);
        if news {
            self.acks.insert(key, ack.clone());
        }
        news
    }
}

/// Entries of one section each, of `bytes` that nobody could open, after `before`.
pub(crate) fn make_batch(number: u8, before: &Frontier, entries: usize, bytes: usize) -> Batch {
    let key = signing_key(number);
    let device = key.device_id();
    let first_seq = before.size() + 1;
    let mut after = before.clone();
    let entries = (0..entries)
        .map(|offset| {
            let seq = first_seq + offset as u64;
            let sealed = vec![number ^ seq as u8; bytes];
            let commitment = SectionCommitment {
                class: 0,
                masked_band: 0,
                meta: Hash::new([0; 32]),
                sealed: sha256(&[b"larder/sealed/v0", &sealed]),
                len: bytes as u64,
                key_salt: [0; 16],
            };
            let mut builder = EntryBuilder::new(SPACE, device, seq, EpochId::new([1; 32]), 0);
            builder.push(commitment, sealed);
            let entry = builder.finish().unwrap();
            after.append(entry.hash.into(), &mut |_| {});
            BatchEntry {
                header: entry.header_bytes,
                commitments: entry.commitments,
                payloads: entry.sealed.into_iter().map(Payload::Sealed).collect(),
            }
        })
        .collect();
    let checkpoint = Checkpoint { space: SPACE, device, size: after.size(), root: after.root() };
    Batch { device, first_seq, entries, signature: checkpoint.sign(&key) }
}

/// One side of a session.
pub(crate) struct End {
    pub(crate) store: usize,
    pub(crate) session: Session,
    /// Frames on their way to this side.
    pub(crate) inbox: VecDeque<Vec<u8>>,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) events: Vec<Event>,
    /// What this side held when the session began: nothing of it may be sent to it.
    held: BTreeMap<DeviceId, u64>,
    /// Batches that were sent to this side.
    sent: BTreeSet<(DeviceId, u64)>,
}

impl End {
    pub(crate) fn new(stores: &[Store], store: usize, peer: usize, opens: Opens) -> Self {
        let mut config = Config::new(stores[store].me);
        config.opens = opens;
        let seed = [stores[store].number; 32];
        Self {
            store,
            session: Session::new(config, SPACE, Some(stores[peer].me), seed),
            inbox: VecDeque::new(),
            requests: VecDeque::new(),
            events: Vec::new(),
            held: stores[store].sizes(),
            sent: BTreeSet::new(),
        }
    }

    pub(crate) fn closed(&self) -> Option<(CloseCode, bool)> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { code, by_peer, .. } => Some((*code, *by_peer)),
            _ => None,
        })
    }

    pub(crate) fn caught_up(&self) -> bool {
        self.events.contains(&Event::CaughtUp)
    }
}

/// What can happen next, at one side of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver,
    Answer,
    Transmit,
}

pub(crate) struct World {
    pub(crate) stores: Vec<Store>,
    pub(crate) links: Vec<[End; 2]>,
    pub(crate) now: Timestamp,
    /// Frames delivered so far.
    pub(crate) delivered: usize,
    /// Bytes of frames sent so far, each with its length before it.
    pub(crate) wire_bytes: usize,
}

impl World {
    /// Devices, numbered from 1, and sessions between these pairs of indices.
    pub(crate) fn new(devices: u8, links: &[(usize, usize)]) -> Self {
        let stores = (1..=devices).map(Store::new).collect();
        let now = Timestamp(1_700_000_000_000);
        let mut world = Self { stores, links: Vec::new(), now, delivered: 0, wire_bytes: 0 };
        for (a, b) in links {
            world.connect(*a, *b);
        }
        world
    }

    /// Begins a session, both sides at once.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> usize {
        self.connect_as(a, b, [Opens::Whole, Opens::Whole])
    }

    /// Begins a session.
    pub(crate) fn connect_as(&mut self, a: usize, b: usize, opens: [Opens; 2]) -> usize {
        let end = |me, peer, opens| End::new(&self.stores, me, peer, opens);
        let ends = [end(a, b, opens[0]), end(b, a, opens[1])];
        self.links.push(ends);
        self.links.len() - 1
    }

    /// Cuts a session: what was on its way is lost, except that each side's storage may still
    /// finish what it was asked first.
    pub(crate) fn cut(&mut self, link: usize, finishes: bool) {
        for mut end in self.links.remove(link) {
            if let Some(request @ Request::Apply { .. }) = end.requests.pop_front()
                && finishes
            {
                self.stores[end.store].answer(request);
            }
        }
    }

    pub(crate) fn commit(&mut self, store: usize, entries: usize, bytes: usize) {
        self.stores[store].commit(entries, bytes);
        self.wake(store);
    }

    fn wake(&mut self, store: usize) {
        let now = self.now;
        for end in self.links.iter_mut().flatten().filter(|end| end.store == store) {
            end.session.handle_local_commit(now);
        }
    }

    /// Takes one step if it is possible now.
    pub(crate) fn step(&mut self, link: usize, side: usize, step: Step) -> bool {
        self.collect(link, side);
        let now = self.now;
        let taken = match step {
            Step::Deliver => {
                let end = &mut self.links[link][side];
                if !end.session.wants_frame() {
                    return false;
                }
                let Some(frame) = end.inbox.pop_front() else { return false };
                end.session.handle_frame(now, &frame);
                self.delivered += 1;
                true
            }
            Step::Answer => self.answer(link, side),
            Step::Transmit => self.transmit(link, side),
        };
        self.collect(link, side);
        taken
    }

    fn answer(&mut self, link: usize, side: usize) -> bool {
        let end = &mut self.links[link][side];
        let Some(request) = end.requests.pop_front() else { return false };
        let store = end.store;
        let applies = matches!(request, Request::Apply { .. });
        let reply = self.stores[store].answer(request);
        let is_applied = applies && matches!(reply, Reply::Applied { .. });
        self.links[link][side].session.handle_reply(self.now, reply);
        if is_applied {
            self.wake(store);
        }
        true
    }

    fn transmit(&mut self, link: usize, side: usize) -> bool {
        let [first, second] = &mut self.links[link];
        let (from, to) = if side == 0 { (first, second) } else { (second, first) };
        // The transport holds only so much.
        if to.inbox.len() >= 4 {
            return false;
        }
        let Some(frame) = from.session.poll_transmit() else { return false };
        if let Ok(Frame::Batch(batch)) = Frame::decode(&frame, &SPACE) {
            let held = to.held.get(&batch.device).copied().unwrap_or(0);
            assert!(batch.size() > held, "sent what was durable there before");
            assert!(to.sent.insert((batch.device, batch.first_seq)), "sent twice");
        }
        self.wire_bytes += 4 + frame.len();
        to.inbox.push_back(frame);
        true
    }

    /// Requests and events out of a session; acknowledgements on to its device's others.
    fn collect(&mut self, link: usize, side: usize) {
        let end = &mut self.links[link][side];
        while let Some(request) = end.session.poll_request() {
            end.requests.push_back(request);
        }
        let store = end.store;
        let mut onward = Vec::new();
        while let Some(event) = end.session.poll_event() {
            if let Event::Acks(acks) = &event {
                onward.extend(acks.clone());
            }
            end.events.push(event);
        }
        if onward.is_empty() {
            return;
        }
        for (other, ends) in self.links.iter_mut().enumerate() {
            for end in ends.iter_mut().filter(|end| other != link && end.store == store) {
                end.session.handle_acks(onward.clone());
            }
        }
    }

    /// Goes on until nothing is left to do but to wait for a timer, taking a step of each side in
    /// turn.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut any = false;
            for link in 0..self.links.len() {
                for side in 0..2 {
                    for step in [Step::Deliver, Step::Answer, Step::Transmit] {
                        any |= self.step(link, side, step);
                    }
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Goes on until nothing is left to do at all.
    pub(crate) fn finish(&mut self) {
        loop {
            self.settle();
            let ends = self.links.iter().flatten();
            let Some(next) = ends.filter_map(|end| end.session.poll_timeout()).min() else {
                return;
            };
            self.advance(next);
        }
    }

    pub(crate) fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        for end in self.links.iter_mut().flatten() {
            if end.session.poll_timeout().is_some_and(|at| at <= self.now) {
                end.session.handle_timeout(self.now);
            }
        }
    }

    pub(crate) fn assert_converged_between(&self, a: usize, b: usize) {
        assert_eq!(self.stores[a].frontier(), self.stores[b].frontier());
    }

    pub(crate) fn assert_converged(&self) {
        let expected: BTreeMap<_, _> = self
            .stores
            .iter()
            .filter_map(|store| store.frontier().remove_entry(&store.me))
            .collect();
        for store in &self.stores {
            assert_eq!(store.frontier(), expected, "device {}", store.number);
        }
    }
}
