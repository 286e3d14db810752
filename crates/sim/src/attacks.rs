//! How the villain speaks to an honest device: frames that no session would send.

use larder_log::ack::Ack;
use larder_log::{Batch, Payload, entry_hash};
use larder_protocol::{Acks, Fill, Frame, Frontiers, LogHead, Reply, Request, Run, Supply, Want};
use larder_types::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, WANTED_MAX};
use larder_types::{CloseCode, DeviceId, Entropy, EntryHash, EpochId, Hash};

use crate::device::Slot;
use crate::network::Siege;
use crate::villain::Villain;
use crate::world::{Event, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    AsItShould,
    ForgedHead,
    ForgedHeadOfAnother,
    OldHead,
    Fork,
    OutOfOrder,
    UnsignedBatch,
    OldSignature,
    AnothersLog,
    Withheld,
    Sealed,
    OpenedOtherwise,
    OtherContent,
    OtherBytes,
    Reordered,
    Gap,
    Garbage,
    Oversize,
    Bomb,
    FalseAcks,
    HandledNothing,
    Deaf,
    Chatter,
    Twice,
    Silent,
}

const ATTACKS: &[(Attack, &str)] = &[
    (Attack::AsItShould, "nothing wrong"),
    (Attack::AsItShould, "nothing wrong"),
    (Attack::AsItShould, "nothing wrong"),
    (Attack::ForgedHead, "forged checkpoints"),
    (Attack::ForgedHeadOfAnother, "forged checkpoints of others"),
    (Attack::OldHead, "old checkpoints"),
    (Attack::Fork, "forks"),
    (Attack::Fork, "forks"),
    (Attack::Fork, "forks"),
    (Attack::OutOfOrder, "batches before the frontiers"),
    (Attack::UnsignedBatch, "batches without a signature"),
    (Attack::OldSignature, "batches under an old checkpoint"),
    (Attack::AnothersLog, "entries in another's name"),
    (Attack::Withheld, "bytes withheld"),
    (Attack::Sealed, "sections sealed for who cannot open them"),
    (Attack::Sealed, "sections sealed for who cannot open them"),
    (Attack::OpenedOtherwise, "sections opened otherwise than sealed"),
    (Attack::OpenedOtherwise, "sections opened otherwise than sealed"),
    (Attack::OtherContent, "other content than committed to"),
    (Attack::OtherContent, "other content than committed to"),
    (Attack::OtherBytes, "other bytes than committed to"),
    (Attack::Reordered, "entries reordered"),
    (Attack::Gap, "entries left out"),
    (Attack::Garbage, "garbage"),
    (Attack::Oversize, "frames too large"),
    (Attack::Bomb, "decompression bombs"),
    (Attack::FalseAcks, "false acknowledgements"),
    (Attack::FalseAcks, "false acknowledgements"),
    (Attack::HandledNothing, "false progress"),
    (Attack::Deaf, "questions whose answers it does not read"),
    (Attack::Deaf, "questions whose answers it does not read"),
    (Attack::Chatter, "messages without end"),
    (Attack::Twice, "everything twice"),
    (Attack::Silent, "silence"),
];

impl World {
    /// The villain writes something, and lies to somebody.
    pub(crate) fn lie_to_somebody(&mut self) {
        let again_us = self.plan.think_us / 2 + self.dice.below(self.plan.think_us);
        self.later(again_us, Event::Villainy);
        let up = self.up();
        let (Some(from), Some(to)) = (self.pick(&up), self.pick(&up)) else { return };
        let Some(mut villain) = self.villain.take() else { return };
        if self.dice.chance(60)
            && let Some(space) = self.devices[from].space().cloned()
        {
            self.villain_writes(&mut villain, &space);
        }
        if self.plan.has_blobs && self.dice.chance(60) {
            self.besiege_with_chunks(to, villain.transport);
        }
        let at = self.below(ATTACKS.len() as u64);
        let (attack, name) = ATTACKS[at];
        let hands_on = self.plan.colludes && self.dice.chance(40);
        let handed_on = if hands_on { self.handed_on(&villain, to) } else { None };
        let (attack, name, frames) = match handed_on {
            Some(frames) => (Attack::AsItShould, "entries of who was shut out", Some(frames)),
            None => (attack, name, self.frames(&mut villain, to, attack)),
        };
        let (transport, id) = (villain.transport, villain.id);
        self.villain = Some(villain);
        // What it asked these devices may have cost their power.
        if self.notice_power(from) | self.notice_power(to) {
            return;
        }
        if let Some(mut frames) = frames {
            self.report.count(format!("villain: {name}"));
            self.note(|| format!("the villain comes to {to}: {attack:?}"));
            let first = if attack == Attack::OutOfOrder { frames.len() } else { 1 };
            let then = frames.split_off(first.min(frames.len()));
            let deaf = (attack == Attack::Deaf).then(|| then.last().cloned()).flatten();
            self.besiege(to, Siege { transport, id, name, refused: None, then, deaf }, frames);
        }
    }

    /// What it says to this device; none if there is nothing to say in this way.
    fn frames(&mut self, villain: &mut Villain, to: Slot, attack: Attack) -> Option<Vec<Vec<u8>>> {
        let space = self.devices[to].space()?.clone();
        let request = Request::ReadFrontiers;
        let larder_engine::Answer::Reply(Reply::Frontiers { mut logs, epochs_held, .. }) =
            space.answer(&villain.transport, request)
        else {
            return None;
        };
        logs.sort_unstable_by_key(|head| head.device);
        let known = logs.iter().find(|head| head.device == villain.id).map_or(0, |head| head.size);
        let known = usize::try_from(known).ok()?;
        logs.retain(|head| head.device != villain.id);
        let mut speech = Speech {
            known,
            own: villain.head(villain.entries.len()),
            others: logs,
            batches: batches(villain, known, &epochs_held),
            extra: Vec::new(),
            acks: Acks { handled: 0, acks: Vec::new() },
        };
        if self.devices[to].likes.audits {
            // An auditor's device keeps the headers alone.
            villain.withheld.extend(known as u64 + 1..=villain.entries.len() as u64);
        }
        if attack == Attack::Sealed {
            // As if every secret were there.
            let all = villain.epochs();
            if all.iter().all(|epoch| epochs_held.contains(epoch)) {
                return None;
            }
            speech.batches = batches(villain, known, &all);
            let sealed = (known..all.len()).filter(|at| !epochs_held.contains(&all[*at]));
            villain.withheld.extend(sealed.map(|at| at as u64 + 1));
        }
        if attack == Attack::OpenedOtherwise
            && !villain.open_otherwise(&mut speech.batches, &epochs_held)
        {
            return None;
        }
        if attack == Attack::OtherContent && !villain.falsify(&mut speech.batches) {
            return None;
        }
        if is_of_batches(attack) {
            spoil(&mut speech, villain, attack)?;
        } else {
            self.twist(&mut speech, villain, attack)?;
        }
        // Beside whatever else it does: it takes few words.
        if attack != Attack::FalseAcks && self.dice.chance(25) {
            self.report.count("villain: false acknowledgements beside");
            speech.acks.acks = self.false_acks(villain, &speech.others);
        }
        let Speech { own, others: mut logs, batches, extra, acks, .. } = speech;
        let asked_of = logs.clone();
        logs.push(own);
        let of_puppets = villain.of_puppets().filter(|_| attack == Attack::AsItShould);
        let (puppets, heads): (Vec<_>, Vec<_>) = of_puppets.unzip();
        logs.extend(heads);
        logs.sort_unstable_by_key(|head| head.device);
        let frontiers =
            Frame::Frontiers(Frontiers { space: villain.space, logs, epochs_held, forks: vec![] })
                .encode();
        let mut frames = vec![frontiers];
        frames.extend(
            batches.into_iter().chain(puppets).map(|batch| Frame::Batch(Box::new(batch)).encode()),
        );
        frames.extend(extra);
        frames.push(Frame::Acks(acks).encode());
        frames.push(Frame::CaughtUp.encode());
        match attack {
            Attack::OutOfOrder => frames.rotate_left(1),
            Attack::Twice => frames.extend(frames.clone()),
            Attack::Silent => frames.truncate(self.below(2)),
            Attack::Deaf => frames.push(want_all(&asked_of)),
            _ => {}
        }
        if attack != Attack::Deaf && self.dice.chance(50) {
            let message = "x".repeat(self.below(2000));
            frames.push(Frame::Close { code: CloseCode::Done, message }.encode());
        }
        Some(frames)
    }

    /// What it says beside its batches is not so.
    fn twist(&mut self, speech: &mut Speech, villain: &mut Villain, attack: Attack) -> Option<()> {
        match attack {
            Attack::ForgedHead => {
                speech.own.size += 1 + self.dice.below(5);
                speech.own.root = self.random_hash();
            }
            Attack::ForgedHeadOfAnother => {
                let at = self.below(speech.others.len() as u64);
                let forged = speech.others.get_mut(at)?;
                forged.size += 1;
                forged.root = self.random_hash();
                forged.signature = speech.own.signature;
            }
            Attack::OldHead => {
                let size = 1 + self.below(villain.entries.len() as u64);
                speech.own = villain.head(size);
                speech.batches.clear();
            }
            // To who has all but the last entry, or that as well.
            Attack::Fork => {
                if !self.plan.villain_forks || speech.known + 1 < villain.entries.len() {
                    return None;
                }
                let (batch, head) = villain.fork(&mut self.dice);
                (speech.batches, speech.own) = (vec![batch], head);
            }
            Attack::AnothersLog => {
                let at = self.below(speech.others.len() as u64);
                let victim = speech.others.get(at)?;
                let batch = speech.batches.first_mut()?;
                (batch.device, batch.first_seq) = (victim.device, victim.size + 1);
            }
            Attack::Garbage => {
                for _ in 0..3 {
                    let mut bytes = vec![0; self.below(600)];
                    self.dice.fill(&mut bytes);
                    if let Some(kind) = bytes.first_mut() {
                        *kind %= 8;
                    }
                    speech.extra.push(bytes);
                }
            }
            Attack::Chatter => {
                let message = Frame::Message(vec![1; MESSAGE_BYTES_MAX]).encode();
                speech.extra = vec![message; 300];
            }
            Attack::Oversize => speech.extra.push(vec![2; FRAME_BYTES_MAX + 1]),
            Attack::FalseAcks => speech.acks.acks = self.false_acks(villain, &speech.others),
            Attack::HandledNothing => speech.acks.handled = u64::MAX,
            _ => {}
        }
        Some(())
    }

    /// The villain is asked for what it withheld, or for what others have not: now and then it
    /// supplies that, with something else in it.
    pub(crate) fn supply_falsely(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let villain = self.villain.as_ref()?;
        let Ok(Frame::Want(want)) = Frame::decode(frame, &villain.space) else { return None };
        if !self.dice.chance(50) {
            return None;
        }
        let missing = want.sections.iter().map(|run| (run, false));
        let sealed = want.sealed.iter().map(|run| (run, true));
        let supplied = |(run, is_sealed): (&Run, bool)| {
            let Run { device, first: seq, .. } = *run;
            let other = villain.falsified.get(&seq).filter(|_| device == villain.id);
            let payload = match other {
                Some(other) if is_sealed || seq % 2 == 0 => Payload::Opened(other.clone()),
                _ => Payload::Sealed(vec![7; 256]),
            };
            let entry = self.entry_of(villain, &device, seq);
            Fill { device, seq, entry, payloads: vec![payload] }
        };
        let sections: Vec<Fill> = missing.chain(sealed).map(supplied).collect();
        if sections.is_empty() {
            return None;
        }
        // And much opens for nobody, it says.
        let device = villain.id;
        let many = if self.dice.chance(50) { 3 * WANTED_MAX as u64 } else { 0 };
        let from = 1_000_000 + self.dice.below(1 << 40);
        let void = (from..from + many).map(|seq| Run { device, first: seq, last: seq }).collect();
        self.report.count("villain: false supplies");
        Some(Frame::Supply(Box::new(Supply { sections, void, ..Supply::default() })).encode())
    }

    /// Where it does not know, nobody takes what it supplies for what was asked for.
    fn entry_of(&self, villain: &Villain, device: &DeviceId, seq: u64) -> EntryHash {
        if *device == villain.id {
            let mut own = villain.entries.iter().zip(1..);
            let own = own.find(|(_, at)| *at == seq).map(|(entry, _)| entry_hash(&entry.header));
            return own.unwrap_or(EntryHash::new([0; 32]));
        }
        let mut committed = self.model.committed_units();
        let found = committed.find(|(unit, one)| unit.author == *device && one.seq == seq);
        found.map_or(EntryHash::new([0; 32]), |(_, one)| one.entry)
    }

    fn random_hash(&mut self) -> Hash {
        let mut bytes = [0; 32];
        self.dice.fill(&mut bytes);
        Hash::new(bytes)
    }

    /// It says to hold what it does not, and what nobody ever wrote.
    fn false_acks(&mut self, villain: &Villain, honest: &[LogHead]) -> Vec<Ack> {
        let mut acks = Vec::new();
        for head in honest {
            let mut checkpoint = villain.checkpoint(0);
            checkpoint.device = head.device;
            (checkpoint.size, checkpoint.root) = match self.dice.below(3) {
                0 => (head.size, head.root),
                1 => (head.size, self.random_hash()),
                _ => (head.size + self.dice.below(1000), self.random_hash()),
            };
            let mut ack = Ack::sign(&checkpoint, villain.id, &villain.ack, 1_700_000_000);
            match self.dice.below(6) {
                0..=2 => ack.acker = honest[self.below(honest.len() as u64)].device,
                3 => ack.signature = [3; 64],
                4 => ack.device = DeviceId::new([5; 32]),
                _ => {}
            }
            acks.push(ack);
        }
        acks
    }
}

/// Asks for all of these logs, and as often as one question may: the answer is as large as there is
/// to be had.
fn want_all(logs: &[LogHead]) -> Vec<u8> {
    let run = |head: &LogHead| Run { device: head.device, first: 1, last: head.size };
    let runs = logs.iter().filter(|head| head.size > 0).map(run);
    let sections = runs.cycle().take(if logs.is_empty() { 0 } else { WANTED_MAX }).collect();
    Frame::Want(Want { sections, ..Want::default() }).encode()
}

/// What it is about to say: so far nothing is wrong with it.
struct Speech {
    /// Entries of its log that the other side holds.
    known: usize,
    own: LogHead,
    others: Vec<LogHead>,
    batches: Vec<Batch>,
    extra: Vec<Vec<u8>>,
    acks: Acks,
}

fn is_of_batches(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::UnsignedBatch
            | Attack::OldSignature
            | Attack::Withheld
            | Attack::OtherBytes
            | Attack::Bomb
            | Attack::Reordered
            | Attack::Gap
    )
}

/// The first of its batches is not what its checkpoint says.
fn spoil(speech: &mut Speech, villain: &mut Villain, attack: Attack) -> Option<()> {
    let batch = speech.batches.first_mut()?;
    match attack {
        Attack::UnsignedBatch => batch.signature = [0; 64],
        Attack::OldSignature => {
            batch.signature = villain.checkpoint(speech.known).sign(&villain.signing);
        }
        Attack::Reordered if batch.entries.len() > 1 => batch.entries.swap(0, 1),
        Attack::Reordered => return None,
        Attack::Gap => {
            batch.first_seq += 1;
            batch.entries.remove(0);
            if batch.entries.is_empty() {
                return None;
            }
        }
        _ => {
            let payload = batch.entries.first_mut()?.payloads.first_mut()?;
            match (attack, payload) {
                (Attack::Withheld, payload) => {
                    *payload = Payload::Missing;
                    villain.withheld.insert(speech.known as u64 + 1);
                }
                (Attack::Bomb, payload) => *payload = Payload::Opened(bomb()),
                (_, Payload::Sealed(sealed)) => *sealed.first_mut()? ^= 1,
                _ => return None,
            }
        }
    }
    Some(())
}

/// What the peer lacks of its log: a transaction of several entries, then one of each.
pub(crate) fn batches(villain: &Villain, known: usize, epochs: &[EpochId]) -> Vec<Batch> {
    let all = villain.entries.len();
    let mut batches = Vec::new();
    let mut first = known;
    while first < all {
        let last = if first == known { (known + 3).min(all) } else { first + 1 };
        batches.push(Batch {
            device: villain.id,
            first_seq: first as u64 + 1,
            entries: (first..last).map(|at| villain.entry_for(at, epochs)).collect(),
            signature: villain.checkpoint(last).sign(&villain.signing),
        });
        first = last;
    }
    batches
}

/// A zstd frame (RFC 8878) of 33 KB that holds one gibibyte: 8,192 blocks that repeat one byte.
fn bomb() -> Vec<u8> {
    // Magic; a descriptor without sizes; a window of 2 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for block in 1..=8192_u32 {
        let is_last = u32::from(block == 8192);
        let header = (128 << 10) << 3 | 1 << 1 | is_last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}
