//! An enrolled device that keeps no rule: real keys, a log of its own, and no engine.
//!
//! It knows all that the simulator knows, so it sees what a peer holds before it lies to it. What
//! it signs is one history, of which parts are void; how it sends that is in `attacks`.

mod puppets;

use std::collections::{BTreeMap, BTreeSet};

use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, TransportKey};
use larder_document::{Actor, Document, Object, body};
use larder_engine::{Answer, Judgement, Space, Stolen};
use larder_log::act::{Act, DeviceKeys, Role};
use larder_log::checkpoint::Checkpoint;
use larder_log::epoch::{ControlSecret, EpochSecrets, receive_epoch};
use larder_log::merkle::Frontier;
use larder_log::{
    Address, Band, Batch, BatchEntry, Class, Dep, EntryBuilder, Header, Metadata, Opened, Payload,
    entry_hash, kind, open_section, seal_section,
};
use larder_pages::testing::Dice;
use larder_protocol::pairing::Asking;
use larder_protocol::{LogHead, Position, Reply, Request};
use larder_types::{
    Clock, CloseCode, DeviceId, Entropy, EntryHash, EpochId, ObjectId, SpaceId, Timestamp,
    TransportId,
};
use serde_json::{Value, json};

use crate::app::COMMON;
use crate::attacks::batches;
use crate::device::Slot;
use crate::pathology::{lost, spoilt};
use crate::world::World;

use puppets::Puppet;

pub(crate) struct Villain {
    /// What it may do: an act that it had no right to anyway would hide that it counts for another
    /// reason.
    role: Role,
    pub(crate) id: DeviceId,
    pub(crate) transport: TransportId,
    pub(crate) space: SpaceId,
    pub(crate) signing: DeviceSigningKey,
    pub(crate) ack: AckKey,
    sealing: SealingKey,
    control: ControlSecret,
    epoch: Option<(EpochId, EpochSecrets)>,
    /// Its one history.
    pub(crate) entries: Vec<BatchEntry>,
    /// After each entry; the first is the empty log's.
    pub(crate) frontiers: Vec<Frontier>,
    /// Documents that it made by the rules, with what they must be.
    documents: Vec<(ObjectId, EntryHash, Object)>,
    deleted: Vec<ObjectId>,
    /// Edits of these by the rules, one of each at most: in which entry, and what comes of it.
    edited: BTreeMap<ObjectId, (u64, Object)>,
    /// Each entry's epoch, and its section as it is handed to who has no secret of that.
    carried: Vec<(EpochId, Option<Vec<u8>>)>,
    /// What the sections that do not open seem to be, by entry.
    pretended: BTreeMap<u64, Vec<u8>>,
    /// Entries that it once sent without their bytes, or sealed to who has no secret for them:
    /// perhaps nobody can read them.
    pub(crate) withheld: BTreeSet<u64>,
    /// Whether it has told somebody another history.
    pub(crate) is_forked: bool,
    /// What only void sections made.
    void: Vec<ObjectId>,
    /// The acts of membership that it knew when it was let in.
    knows: Vec<EntryHash>,
    /// By entry: its section under the same metadata, with another document.
    pub(crate) falsified: BTreeMap<u64, Vec<u8>>,
    /// How much of each log it has looked through for acts.
    have_read: BTreeMap<DeviceId, u64>,
    /// Whom it lets in once it is shut out itself.
    puppets: Vec<Puppet>,
}

/// What a section of its log is.
#[derive(Debug, Clone, Copy)]
enum Section {
    Document,
    Deletion,
    /// Of the document at this place: a change that is lost, and one by the rules.
    LostChange(usize),
    Edit(usize),
    ChangeByAnother,
    SenselessChange,
    PathologicalChange,
    ActInData,
    SecondGenesis,
    EnrolmentWithoutRight,
    SealedOtherwise,
    CommittedOtherwise,
    UnknownKind,
    FarFuture,
    Puppet,
    Nothing,
}

const SECTIONS: &[(Section, &str)] = &[
    (Section::Document, "villain: documents"),
    (Section::Document, "villain: documents"),
    (Section::Deletion, "villain: deletions"),
    (Section::Edit(0), "villain: edits beside what is lost"),
    (Section::Edit(0), "villain: edits beside what is lost"),
    (Section::ChangeByAnother, "villain: changes with another's actor"),
    (Section::SenselessChange, "villain: senseless changes"),
    (Section::PathologicalChange, "villain: pathological changes"),
    (Section::PathologicalChange, "villain: pathological changes"),
    (Section::ActInData, "villain: acts in DATA sections"),
    (Section::SecondGenesis, "villain: second geneses"),
    (Section::EnrolmentWithoutRight, "villain: enrolments without the right"),
    (Section::SealedOtherwise, "villain: sections that do not open"),
    (Section::CommittedOtherwise, "villain: sections other than committed to"),
    (Section::UnknownKind, "villain: unknown kinds"),
    (Section::FarFuture, "villain: clocks of the far future"),
    (Section::Nothing, "villain: entries of nothing"),
];

impl World {
    /// A device is let in that is not what it says.
    pub(crate) fn let_villain_in(&mut self, founder: Slot) {
        let mut dice = Dice::new(self.dice.roll());
        let (signing, ack) = (DeviceSigningKey::generate(&mut dice), AckKey::generate(&mut dice));
        let (sealing, transport) =
            (SealingKey::generate(&mut dice), TransportKey::generate(&mut dice).public());
        let keys = DeviceKeys {
            suite: larder_crypto::SUITE,
            signing: signing.device_id(),
            ack: ack.public(),
            sealing: sealing.public(),
            transport,
        };
        let mut exporter = [0; 32];
        dice.fill(&mut exporter);
        let running = self.devices[founder].running.as_mut().expect("it runs");
        let (space, writer) = running.space.as_mut().expect("it has founded it");
        let invitation = running.profile.invite(space, Vec::new()).expect("it may write");
        let asking = Asking::new(&mut dice, &invitation.secret, &exporter, keys, "a friend");
        let asking = asking.expect("a label that fits");
        let request = asking.request().clone();
        let Judgement::Answer(candidate) = running.profile.judge(request, &exporter, &transport)
        else {
            panic!("a good request was refused");
        };
        let heard = asking.hear(&candidate.answer().encode()).expect("an answer to it");
        let ticket = candidate.reveals(&heard.reveal).expect("what it is committed to");
        let admission = running.profile.approve(&ticket).expect("an open invitation");
        let mut enrolment = admission.enrolment.clone();
        let role = if self.plan.villain_rules { Role::Admin } else { Role::Writer };
        enrolment.role = role;
        writer.admit(enrolment).expect("a disk that works");
        let reply = running.profile.welcome(&admission, space).expect("a welcome");
        let welcome = reply.open(&invitation.secret, &heard.agreed, &sealing).expect("for it");
        let mut villain = Villain {
            role,
            id: signing.device_id(),
            transport,
            space: welcome.space,
            signing,
            ack,
            sealing,
            control: ControlSecret::new(welcome.control.clone()),
            epoch: None,
            entries: Vec::new(),
            frontiers: vec![Frontier::new()],
            documents: Vec::new(),
            deleted: Vec::new(),
            edited: BTreeMap::new(),
            carried: Vec::new(),
            pretended: BTreeMap::new(),
            withheld: BTreeSet::new(),
            is_forked: false,
            void: Vec::new(),
            knows: space.membership().expect("a roster"),
            falsified: BTreeMap::new(),
            have_read: BTreeMap::new(),
            puppets: Vec::new(),
        };
        villain.learn_epochs(space);
        assert!(villain.epoch.is_some(), "an epoch is opened for who is let in");
        let space = space.clone();
        villain.grow(&mut dice, &space, Section::Document, DeviceId::new([0; 32]));
        self.villain = Some(villain);
    }

    /// It writes one more entry, of whatever.
    pub(crate) fn villain_writes(&mut self, villain: &mut Villain, space: &Space) {
        let at = self.below(SECTIONS.len() as u64);
        let (mut section, name) = SECTIONS[at];
        let honest: Vec<DeviceId> = self.devices.iter().filter_map(|device| device.id).collect();
        let other = self.pick(&honest).expect("a device");
        // An old secret serves it as well, and newcomers do not have that.
        if self.dice.chance(30) {
            villain.learn_epochs(space);
        }
        match if self.colludes(villain) { self.dice.below(3) } else { 2 } {
            0 => {
                self.report.count("villain: puppets let in");
                villain.plan_puppet(&mut self.dice);
                villain.grow(&mut self.dice, space, Section::Puppet, other);
                return villain.puppet_writes(&mut self.dice);
            }
            1 => section = Section::Document,
            _ => {}
        }
        if matches!(section, Section::Edit(_)) {
            let Some(at) = villain.editable() else { return };
            section = Section::Edit(at);
            // Devices take both in together, mostly, and one of them must not spoil the other.
            villain.grow(&mut self.dice, space, Section::LostChange(at), other);
        }
        self.report.count(name);
        self.note(|| {
            format!("the villain writes {section:?}: entry {}", villain.entries.len() + 1)
        });
        villain.grow(&mut self.dice, space, section, other);
    }

    /// A device hears all of its log that it has not heard yet, as an honest one would send it.
    /// What is void there stops nothing behind it. Whether there was anything.
    pub(crate) fn hear_the_villain_out(&mut self) -> bool {
        let Some(villain) = self.villain.take() else { return false };
        let mut is_new = false;
        let is_heard = !villain.is_forked && !self.model.shut_out.contains(&villain.id);
        let listener = self.members().first().copied().filter(|_| is_heard);
        if let Some(slot) = listener
            && self.devices.iter().all(|device| device.is_honest() && !device.is_rotten)
        {
            let space = self.devices[slot].space().expect("it is up").clone();
            let answer = space.answer(&villain.transport, Request::ReadFrontiers);
            let Answer::Reply(Reply::Frontiers { logs, epochs_held, .. }) = answer else {
                panic!("{slot} does not know what it holds: {answer:?}")
            };
            let head = logs.iter().find(|head| head.device == villain.id);
            let known = head.map_or(0, |head| usize::try_from(head.size).expect("a few"));
            for batch in batches(&villain, known, &epochs_held) {
                let last = batch.first_seq + batch.entries.len() as u64 - 1;
                let request = Request::Apply { batch: Box::new(batch), more: false };
                let reply = match space.answer(&villain.transport, request) {
                    Answer::Write(task) => {
                        self.devices[slot].writer().expect("it is up").answer(task).reply
                    }
                    Answer::Reply(reply) => reply,
                };
                // It names what only a device had that is gone for good.
                if matches!(reply, Reply::Refused { code: CloseCode::Gap, .. }) {
                    break;
                }
                let is_taken = matches!(&reply, Reply::Applied { size, .. } if *size == last);
                is_new = true;
                assert!(is_taken, "{slot} does not take entry {last} of the villain: {reply:?}");
                self.report.count("check: the villain heard out");
            }
        }
        self.villain = Some(villain);
        is_new
    }

    /// What came of it: of its one history, or its own one if it told others as well, no more and
    /// no less than it signed; void where it has to be.
    pub(crate) fn check_villain(&mut self, slot: Slot) {
        let awaited = self.awaited(slot);
        let Some(villain) = self.villain.take() else { return };
        let heads = self.frontier(slot);
        let space = self.devices[slot].space().expect("it is up").clone();
        let size = heads.get(&villain.id).map_or(0, |head| head.size);
        let after = usize::try_from(size).ok().and_then(|size| villain.frontiers.get(size));
        let after = after.expect("no more than it has signed");
        let is_other = heads.get(&villain.id).is_some_and(|head| head.root != after.root());
        assert!(!is_other || villain.is_forked, "{slot} holds what the villain did not sign");
        // Then some of it counts for nothing.
        let is_out = self.model.shut_out.contains(&villain.id);
        let roster = space.devices().expect("a roster");
        assert!(roster.iter().all(|device| device.label != ROBBER), "{slot} let a robber in");
        // Of a log with two histories others may have the bytes, and not give them.
        let is_asked = |seq| villain.is_forked || awaited.contains(&(villain.id, seq));
        let made = |of: &EntryHash| {
            villain.entries.iter().position(|entry| entry_hash(&entry.header) == *of)
        };
        for (object, entry, value) in &villain.documents {
            // The last entry of its own may be another one.
            let is_held = made(entry).is_some_and(|at| (at as u64) + u64::from(is_other) < size);
            if villain.deleted.contains(object) || !is_held {
                continue;
            }
            let shown = space.document(object).expect("a document").map(|shown| shown.value);
            let seq = made(entry).map_or(0, |at| at as u64 + 1);
            // Bytes that it kept to itself, or that none of these can open, are asked for.
            let is_lacking = shown.is_none() && villain.withheld.contains(&seq);
            let edit = villain.edited.get(object);
            let edit = edit.filter(|(seq, _)| seq + u64::from(is_other) <= size);
            let is_shown = |value: &Object| shown.as_ref() == Some(value);
            let is_right = match edit {
                _ if is_lacking => is_asked(seq),
                Some((seq, edited)) => {
                    is_shown(edited)
                        || is_shown(value) && villain.withheld.contains(seq) && is_asked(*seq)
                }
                None => is_shown(value),
            };
            let is_right = is_right || is_out && (shown.is_none() || is_shown(value));
            assert!(is_right, "{slot} shows {object} of the villain's entry {seq} as {shown:?}");
        }
        for object in &villain.void {
            let shown = space.document(object).expect("an answer");
            assert!(shown.is_none(), "{slot} shows {object}, which a void section made");
        }
        self.check_late_villainy(slot, &villain);
        self.report.count("check: the villain's log");
        self.villain = Some(villain);
    }
}

const ROBBER: &str = "a robber";

impl Villain {
    /// Reads the acts of the space, for the newest epoch that it has the secrets of.
    fn learn_epochs(&mut self, space: &Space) {
        let mut after = Position::default();
        loop {
            let (have, epochs) = (self.have_read.clone(), Vec::new());
            let request = Request::ReadBatch { after, have, epochs, bytes_target: 1 << 20 };
            let Answer::Reply(Reply::Batch { position, batch: Some(batch) }) =
                space.answer(&self.transport, request)
            else {
                return;
            };
            after = position;
            self.have_read.insert(batch.device, batch.size());
            for entry in &batch.entries {
                self.read_acts(entry);
            }
        }
    }

    fn read_acts(&mut self, entry: &BatchEntry) {
        let Ok(header) = Header::decode(&entry.header) else { return };
        for ((commitment, payload), index) in entry.commitments.iter().zip(&entry.payloads).zip(0..)
        {
            let Payload::Sealed(sealed) = payload else { continue };
            if commitment.class != Class::Control as u8 {
                continue;
            }
            let Header { space, device, seq, epoch, step, .. } = header;
            let band = Band::Green;
            let address = Address { space, device, seq, index, epoch, step, band };
            let secret = self.control.section_secret();
            let Ok(opened) = open_section(&address, &secret, commitment, sealed) else { continue };
            let Ok(Some(Act::Epoch(act))) = Act::read(commitment.class, &opened) else { continue };
            let received = receive_epoch(&space, device, &act, self.id, &self.sealing);
            if let Ok(Some(secrets)) = received {
                self.epoch = Some((entry_hash(&entry.header).into(), secrets));
            }
        }
    }

    /// The ends of all logs that this device holds, as deps.
    fn deps(&self, space: &Space) -> Vec<Dep> {
        let request = Request::ReadFrontiers;
        let Answer::Reply(Reply::Frontiers { logs, .. }) = space.answer(&self.transport, request)
        else {
            return Vec::new();
        };
        let others = logs.into_iter().filter(|head| head.device != self.id);
        let dep = |head: LogHead| {
            let receipt = space.receipt(&head.device, head.size).ok()?;
            let entry = entry_hash(&receipt.header);
            Some(Dep { device: head.device, seq: head.size, entry })
        };
        others.filter_map(dep).collect()
    }

    fn grow(&mut self, dice: &mut Dice, space: &Space, section: Section, other: DeviceId) {
        let seq = self.entries.len() as u64 + 1;
        if let Section::Edit(at) = section {
            let (object, _, value) = &self.documents[at];
            self.edited.insert(*object, (seq, edited(value)));
        }
        let (epoch, secrets) = self.epoch.clone().expect("it was let in");
        // Now and then, so that it stands between others' entries.
        let deps = if seq == 1 || dice.chance(30) { self.deps(space) } else { Vec::new() };
        let mut builder =
            EntryBuilder::new(self.space, self.id, seq, epoch, 0).deps(self.new_deps(deps));
        let object = ObjectId::random(dice);
        let written = self.content(dice, section, object, other);
        let is_sound = !matches!(section, Section::SealedOtherwise | Section::CommittedOtherwise);
        let mut carried = None;
        if let Some((class, metadata, bytes)) = &written {
            let address = builder.address(Band::Green).expect("room");
            let mut salt = [0; 16];
            dice.fill(&mut salt);
            let opened =
                Opened { meta_salt: salt, metadata: metadata.clone(), body: bytes.clone() };
            let packed = larder_log::pack(&opened).expect("it compresses");
            if is_sound && *class == Class::Data {
                if metadata.kind == kind::DOCUMENT_CREATE {
                    let other = document(&ObjectId::random(dice));
                    let body = body::Create::new(&other).expect("a document").encode();
                    let falsified = larder_log::pack(&Opened { body, ..opened.clone() });
                    self.falsified.insert(seq, falsified.expect("it compresses"));
                }
                carried = Some(packed);
            } else if matches!(section, Section::SealedOtherwise) {
                self.pretended.insert(seq, packed);
            }
            let secret = match (section, class) {
                (Section::SealedOtherwise, _) => self.control.discovery(),
                (_, Class::Control) => self.control.section_secret(),
                (_, Class::Data) => secrets.at(Band::Green, 0).expect("its own").secret().clone(),
            };
            let sealed = seal_section(dice, &address, &secret, *class, &self.control, &opened);
            let (mut commitment, sealed) = sealed.expect("a section that fits");
            if matches!(section, Section::CommittedOtherwise) {
                commitment.meta = larder_types::Hash::new([7; 32]);
            }
            builder.push(commitment, sealed);
        }
        let entry = builder.finish().expect("an entry that fits");
        self.carried.push((epoch, carried));
        match section {
            Section::Document | Section::FarFuture => {
                let value = document(&object);
                self.documents.push((object, entry.hash, value));
            }
            Section::SealedOtherwise | Section::CommittedOtherwise | Section::UnknownKind => {
                self.void.push(object);
            }
            Section::Deletion => {
                self.deleted.extend(written.and_then(|(_, about, _)| about.object));
            }
            _ => {}
        }
        let mut frontier = self.frontiers.last().expect("the empty one").clone();
        frontier.append(entry.hash.into(), &mut |_| {});
        self.frontiers.push(frontier);
        self.entries.push(entry.into());
    }

    /// Each dep once, and only if it is further than what was named before.
    fn new_deps(&self, mut deps: Vec<Dep>) -> Vec<Dep> {
        let named = |device: &DeviceId| {
            let headers = self.entries.iter().filter_map(|e| Header::decode(&e.header).ok());
            headers.filter_map(|header| header.dep_on(device).map(|dep| dep.seq)).max()
        };
        deps.retain(|dep| named(&dep.device).is_none_or(|seq| seq < dep.seq));
        deps
    }

    fn content(
        &self,
        dice: &mut Dice,
        section: Section,
        object: ObjectId,
        other: DeviceId,
    ) -> Option<(Class, Metadata, Vec<u8>)> {
        let clock = Clock { wall: Timestamp(1_700_000_000_000), count: 0 };
        let metadata = |kind: u16, object: ObjectId| Metadata {
            kind,
            collection: Some("notes".parse().expect("a name")),
            object: Some(object),
            generation: None,
            actor: None,
            correlation: None,
            clock,
            personal: None,
        };
        let create = || body::Create::new(&document(&object)).expect("a document").encode();
        let made = dice.below(self.documents.len() as u64);
        let own = self.documents.get(usize::try_from(made).unwrap_or(0));
        let change_of = |own: Option<&(ObjectId, EntryHash, Object)>, bytes: Vec<u8>| {
            let (object, generation, _) = own?;
            let metadata = Metadata {
                generation: Some(*generation),
                ..metadata(kind::DOCUMENT_CHANGE, *object)
            };
            Some((Class::Data, metadata, body::Change::new(vec![bytes]).encode()))
        };
        let change = |bytes| change_of(own, bytes);
        let act = |kind| Metadata { object: None, collection: None, ..metadata(kind, object) };
        let create_with = |metadata: Metadata| Some((Class::Data, metadata, create()));
        match section {
            Section::Document | Section::SealedOtherwise | Section::CommittedOtherwise => {
                create_with(metadata(kind::DOCUMENT_CREATE, object))
            }
            Section::FarFuture => create_with(Metadata {
                clock: Clock { wall: Timestamp(4_000_000_000_000), count: 7 },
                ..metadata(kind::DOCUMENT_CREATE, object)
            }),
            Section::UnknownKind => create_with(metadata(9, object)),
            Section::Deletion => {
                let (object, ..) = own?;
                let body = body::Delete::new().encode();
                Some((Class::Data, metadata(kind::DOCUMENT_DELETE, *object), body))
            }
            Section::LostChange(at) => {
                let own = self.documents.get(at);
                change_of(own, lost(&edit(own?, &self.id)))
            }
            Section::Edit(at) => {
                let own = self.documents.get(at);
                change_of(own, edit(own?, &self.id))
            }
            Section::ChangeByAnother => change(edit(own?, &other)),
            Section::PathologicalChange => change(spoilt(dice, &edit(own?, &self.id))),
            Section::SenselessChange => {
                let mut bytes = vec![0; 1 + usize::try_from(dice.below(200)).unwrap_or(0)];
                dice.fill(&mut bytes);
                if dice.chance(50) {
                    // The magic bytes of an Automerge chunk, and a length that is not there.
                    let start = [0x85, 0x6f, 0x4a, 0x83, 1, 2, 3, 4, 1, 0xff, 0xff, 0xff, 0x7f];
                    bytes.splice(0..0, start);
                }
                change(bytes)
            }
            Section::ActInData => {
                let body = self.enrolment(dice, self.role).to_body();
                Some((Class::Data, act(kind::ENROLMENT), body))
            }
            Section::EnrolmentWithoutRight => {
                let body = self.enrolment(dice, Role::Owner).to_body();
                Some((Class::Control, act(kind::ENROLMENT), body))
            }
            Section::Puppet => {
                let body = self.puppets_enrolment(dice)?.to_body();
                Some((Class::Control, act(kind::ENROLMENT), body))
            }
            Section::SecondGenesis => {
                let Act::Enrolment(robber) = self.enrolment(dice, Role::Owner) else {
                    return None;
                };
                let founder = robber.enrolment;
                let genesis = larder_log::act::Genesis {
                    v: larder_log::VERSION,
                    suite: larder_crypto::SUITE,
                    name: "shared:stolen".parse().expect("a name"),
                    founder,
                    recovery: None,
                    control_commitment: self.control.commitment(),
                    nonce: [1; 16],
                };
                let body = Act::Genesis(genesis).to_body();
                Some((Class::Control, act(kind::GENESIS), body))
            }
            Section::Nothing => None,
        }
    }

    /// A document that was neither edited nor deleted.
    fn editable(&self) -> Option<usize> {
        let is_new = |(object, ..): &(ObjectId, EntryHash, Object)| {
            !self.edited.contains_key(object) && !self.deleted.contains(object)
        };
        self.documents.iter().position(is_new)
    }

    /// An accomplice is to be let in.
    fn enrolment(&self, dice: &mut Dice, role: Role) -> Act {
        let keys = DeviceKeys {
            suite: larder_crypto::SUITE,
            signing: DeviceSigningKey::generate(dice).device_id(),
            ack: AckKey::generate(dice).public(),
            sealing: SealingKey::generate(dice).public(),
            transport: TransportKey::generate(dice).public(),
        };
        let enrolment = larder_log::act::Enrolment {
            v: larder_log::VERSION,
            member: larder_types::MemberId::random(dice),
            label: ROBBER.into(),
            role,
            clearance: Band::Red,
            keys,
        };
        let parents = self.knows.clone();
        Act::Enrolment(larder_log::act::EnrolmentAct { parents, enrolment })
    }

    /// An entry as a device with these secrets gets it. Whoever has no secret of its epoch gets it
    /// opened, as from honest devices, or would never read it.
    pub(crate) fn entry_for(&self, at: usize, epochs: &[EpochId]) -> BatchEntry {
        let mut entry = self.entries[at].clone();
        let (epoch, carried) = &self.carried[at];
        if !epochs.contains(epoch)
            && let (Some(packed), Some(payload)) = (carried, entry.payloads.first_mut())
        {
            *payload = Payload::Opened(packed.clone());
        }
        entry
    }

    /// Another last entry than its own, and the end of a log that ends in that.
    pub(crate) fn fork(&mut self, dice: &mut Dice) -> (Batch, LogHead) {
        self.is_forked = true;
        let at = self.entries.len() - 1;
        let (epoch, _) = self.carried[at];
        let seq = at as u64 + 1;
        let mut builder = EntryBuilder::new(self.space, self.id, seq, epoch, 0);
        let object = ObjectId::random(dice);
        let address = builder.address(Band::Green).expect("room");
        let (class, metadata, body) =
            self.content(dice, Section::Document, object, self.id).expect("a document");
        let opened = Opened { meta_salt: [3; 16], metadata, body };
        let (_, secrets) = self.epoch.clone().expect("it was let in");
        let secret = secrets.at(Band::Green, 0).expect("its own").secret().clone();
        let sealed = seal_section(dice, &address, &secret, class, &self.control, &opened);
        let (commitment, sealed) = sealed.expect("a section that fits");
        builder.push(commitment, sealed);
        let entry = builder.finish().expect("an entry that fits");
        let mut frontier = self.frontiers[at].clone();
        frontier.append(entry.hash.into(), &mut |_| {});
        let (size, root) = (frontier.size(), frontier.root());
        let checkpoint = Checkpoint { space: self.space, device: self.id, size, root };
        let signature = checkpoint.sign(&self.signing);
        let batch =
            Batch { device: self.id, first_seq: seq, entries: vec![entry.into()], signature };
        (batch, LogHead { device: self.id, size, root, signature })
    }

    /// What it adds to what others have who were shut out.
    pub(crate) fn keys(&self) -> Stolen {
        Stolen::with_keys(self.id, &self.control, &self.sealing)
    }

    /// Whether the section of this entry is what it was committed to be.
    pub(crate) fn opens(&self, seq: u64) -> bool {
        let at = usize::try_from(seq - 1).expect("an entry");
        self.carried.get(at).is_some_and(|(_, packed)| packed.is_some())
    }

    /// The epochs of its log.
    pub(crate) fn epochs(&self) -> Vec<EpochId> {
        self.carried.iter().map(|(epoch, _)| *epoch).collect()
    }

    /// Hands sections over as what they seem to be, where the sealed ones do not open: only to who
    /// has the secret, and can tell. Whether there are any.
    pub(crate) fn open_otherwise(&self, batches: &mut [Batch], held: &[EpochId]) -> bool {
        replace(batches, &self.pretended, |seq, _| {
            let at = usize::try_from(seq - 1).expect("an entry");
            held.contains(&self.carried[at].0)
        })
    }

    /// Says something else of the sections that this device has no secret for. Whether there are
    /// any.
    pub(crate) fn falsify(&self, batches: &mut [Batch]) -> bool {
        replace(batches, &self.falsified, |_, payload| matches!(payload, Payload::Opened(_)))
    }

    /// The end of its log at a size, signed.
    pub(crate) fn head(&self, size: usize) -> LogHead {
        let checkpoint = self.checkpoint(size);
        let Checkpoint { device, size, root, .. } = checkpoint;
        LogHead { device, size, root, signature: checkpoint.sign(&self.signing) }
    }

    /// The checkpoint of its log at a size.
    pub(crate) fn checkpoint(&self, size: usize) -> Checkpoint {
        let frontier = &self.frontiers[size.min(self.entries.len())];
        let (size, root) = (frontier.size(), frontier.root());
        Checkpoint { space: self.space, device: self.id, size, root }
    }
}

/// Puts other opened sections, by entry, in the place of those that are chosen. Whether there are
/// any.
fn replace(
    batches: &mut [Batch],
    others: &BTreeMap<u64, Vec<u8>>,
    is_chosen: impl Fn(u64, &Payload) -> bool,
) -> bool {
    let mut some = false;
    for batch in batches {
        for (entry, seq) in batch.entries.iter_mut().zip(batch.first_seq..) {
            if let (Some(other), Some(payload)) = (others.get(&seq), entry.payloads.first_mut())
                && is_chosen(seq, payload)
            {
                *payload = Payload::Opened(other.clone());
                some = true;
            }
        }
    }
    some
}

/// A good change of a document by a device.
fn edit((object, generation, value): &(ObjectId, EntryHash, Object), by: &DeviceId) -> Vec<u8> {
    let mut document = Document::load(value.clone(), None).expect("flat");
    let forged = edited(value);
    let actor = Actor::of(by, object, generation);
    let bytes = document.put(actor, None, &forged, Timestamp(1_700_000_000_000));
    bytes.expect("an edit").expect("a change")
}

fn edited(value: &Object) -> Object {
    let mut edited = value.clone();
    edited.insert("title".into(), json!(format!("{COMMON}, and not what it was")));
    edited
}

fn document(object: &ObjectId) -> Object {
    let value = json!({ "title": format!("{COMMON} of {object}"), "text": "A friend's.\n" });
    let Value::Object(value) = value else { unreachable!("an object") };
    value
}
