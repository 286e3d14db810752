//! What the malicious member does once it is shut out, as if it were not: it lets devices in that
//! are none, which write, and hands on what others wrote who were shut out.

use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, TransportKey};
use larder_document::body;
use larder_engine::Answer;
use larder_log::act::{Act, DeviceKeys, EnrolmentAct, Role};
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::Frontier;
use larder_log::{
    Band, Batch, BatchEntry, Class, Dep, EntryBuilder, Metadata, Opened, entry_hash, kind,
    seal_section,
};
use larder_pages::testing::Dice;
use larder_protocol::{Acks, Frame, Frontiers, LogHead, Position, Reply, Request};
use larder_types::{Clock, DeviceId, Entropy, ObjectId, Timestamp};

use super::{Villain, document};
use crate::device::Slot;
use crate::world::World;

/// A device that nobody with a right to it has let in, with its one entry.
pub(crate) struct Puppet {
    signing: DeviceSigningKey,
    keys: DeviceKeys,
    /// The document that it writes.
    object: ObjectId,
    written: Option<(BatchEntry, LogHead)>,
}

pub(super) const LABEL: &str = "a puppet";
/// Batches of who was shut out that are handed on at once.
const BATCHES_MAX: usize = 8;

impl Puppet {
    fn new(dice: &mut Dice) -> Self {
        let signing = DeviceSigningKey::generate(dice);
        let keys = DeviceKeys {
            suite: larder_crypto::SUITE,
            signing: signing.device_id(),
            ack: AckKey::generate(dice).public(),
            sealing: SealingKey::generate(dice).public(),
            transport: TransportKey::generate(dice).public(),
        };
        Self { signing, keys, object: ObjectId::random(dice), written: None }
    }

    fn id(&self) -> DeviceId {
        self.signing.device_id()
    }

    fn batch(&self) -> Option<(Batch, LogHead)> {
        let (entry, head) = self.written.clone()?;
        let signature = head.signature;
        Some((Batch { device: self.id(), first_seq: 1, entries: vec![entry], signature }, head))
    }
}

impl Villain {
    /// It goes on as if it had not been shut out: a device is let in, and writes.
    pub(super) fn plan_puppet(&mut self, dice: &mut Dice) {
        self.puppets.push(Puppet::new(dice));
    }

    /// The act that lets the last of them in, by what was known when it came itself.
    pub(super) fn puppets_enrolment(&self, dice: &mut Dice) -> Option<Act> {
        let keys = self.puppets.last()?.keys.clone();
        let enrolment = larder_log::act::Enrolment {
            v: larder_log::VERSION,
            member: larder_types::MemberId::random(dice),
            label: LABEL.into(),
            role: Role::Writer,
            clearance: Band::Red,
            keys,
        };
        Some(Act::Enrolment(EnrolmentAct { parents: self.knows.clone(), enrolment }))
    }

    /// The last of them writes a document, which builds on nothing but that it was let in.
    pub(super) fn puppet_writes(&mut self, dice: &mut Dice) {
        let (Some(enrolled), Some((epoch, secrets))) = (self.entries.last(), &self.epoch) else {
            return;
        };
        let seq = self.entries.len() as u64;
        let dep = Dep { device: self.id, seq, entry: entry_hash(&enrolled.header) };
        let Some(puppet) = self.puppets.last_mut() else { return };
        let (id, object) = (puppet.id(), puppet.object);
        let mut builder = EntryBuilder::new(self.space, id, 1, *epoch, 0).deps(vec![dep]);
        let metadata = Metadata {
            kind: kind::DOCUMENT_CREATE,
            collection: Some("notes".parse().expect("a name")),
            object: Some(object),
            generation: None,
            actor: None,
            correlation: None,
            clock: Clock { wall: Timestamp(1_700_000_000_000), count: 0 },
            personal: None,
        };
        let body = body::Create::new(&document(&object)).expect("a document").encode();
        let mut meta_salt = [0; 16];
        dice.fill(&mut meta_salt);
        let opened = Opened { meta_salt, metadata, body };
        let address = builder.address(Band::Green).expect("room");
        let secret = secrets.at(Band::Green, 0).expect("its own").secret().clone();
        let sealed = seal_section(dice, &address, &secret, Class::Data, &self.control, &opened);
        let (commitment, sealed) = sealed.expect("a section that fits");
        builder.push(commitment, sealed);
        let entry = builder.finish().expect("an entry that fits");
        let mut frontier = Frontier::new();
        frontier.append(entry.hash.into(), &mut |_| {});
        let (size, root) = (frontier.size(), frontier.root());
        let checkpoint = Checkpoint { space: self.space, device: id, size, root };
        let signature = checkpoint.sign(&puppet.signing);
        let head = LogHead { device: id, size, root, signature };
        puppet.written = Some((entry.into(), head));
    }

    /// What the puppets have written, to be said beside its own.
    pub(crate) fn of_puppets(&self) -> impl Iterator<Item = (Batch, LogHead)> {
        self.puppets.iter().filter_map(Puppet::batch)
    }
}

impl World {
    /// Whether the villain was shut out, for sure, and goes on with others who were.
    pub(super) fn colludes(&self, villain: &Villain) -> bool {
        self.plan.colludes && self.model.revoked_at.contains_key(&villain.id)
    }

    /// What a device that was shut out has and this one has not, as the villain hands it on.
    pub(crate) fn handed_on(&mut self, villain: &Villain, to: Slot) -> Option<Vec<Vec<u8>>> {
        let is_out = |slot: &Slot| {
            self.devices[*slot].id.is_some_and(|id| self.model.shut_out.contains(&id))
        };
        let out: Vec<Slot> =
            self.up().into_iter().filter(|slot| *slot != to && is_out(slot)).collect();
        let from = self.pick(&out)?;
        let heads = self.frontier_now(from)?;
        let held = self.frontier_now(to)?;
        let mut have = held.iter().map(|(id, head)| (*id, head.size)).collect();
        let peer = self.devices[to].transport;
        let space = self.devices[from].space()?.clone();
        let (mut batches, mut after) = (Vec::new(), Position::default());
        while batches.len() < BATCHES_MAX {
            let epochs = Vec::new();
            let request = Request::ReadBatch { after, have, epochs, bytes_target: 1 << 14 };
            let Answer::Reply(Reply::Batch { position, batch: Some(batch) }) =
                space.answer(&peer, request)
            else {
                break;
            };
            after = position;
            batches.push(batch);
            have = held.iter().map(|(id, head)| (*id, head.size)).collect();
            for batch in &batches {
                have.insert(batch.device, batch.size());
            }
        }
        if batches.is_empty() {
            return None;
        }
        let mut logs: Vec<LogHead> = heads.into_values().collect();
        logs.sort_unstable_by_key(|head| head.device);
        let (space, epochs_held) = (villain.space, Vec::new());
        let frontiers = Frontiers { space, logs, epochs_held, forks: Vec::new() };
        let mut frames = vec![Frame::Frontiers(frontiers).encode()];
        frames.extend(batches.into_iter().map(|batch| Frame::Batch(batch).encode()));
        frames.push(Frame::Acks(Acks { handled: 0, acks: Vec::new() }).encode());
        frames.push(Frame::CaughtUp.encode());
        Some(frames)
    }

    /// Nothing of a puppet counts, nor what the villain wrote once the first device had shut it
    /// out.
    pub(super) fn check_late_villainy(&mut self, slot: Slot, villain: &Villain) {
        let space = self.devices[slot].space().expect("it is up").clone();
        if !self.is_first_whole() {
            return;
        }
        for puppet in &villain.puppets {
            let is_known = space.devices().expect("a roster").iter().any(|it| it.label == LABEL);
            assert!(!is_known, "{slot} has let a puppet in");
            let shown = space.document(&puppet.object).expect("an answer");
            assert!(shown.is_none(), "{slot} shows what a puppet wrote");
            self.report.count("check: puppets");
        }
        let keeps = self.model.keeps.get(&villain.id).filter(|_| !villain.is_forked);
        let Some(keeps) = keeps.and_then(|keeps| usize::try_from(*keeps).ok()) else { return };
        let late = villain.entries.get(keeps..).unwrap_or_default();
        for entry in late.iter().map(|entry| entry_hash(&entry.header)) {
            let mut documents = villain.documents.iter();
            let Some((object, ..)) = documents.find(|(_, by, _)| *by == entry) else { continue };
            let shown = space.document(object).expect("an answer");
            assert!(shown.is_none(), "{slot} shows {object}, of after the villain was shut out");
            self.report.count("check: late documents of the villain");
        }
    }
}
