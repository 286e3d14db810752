//! Logs with two histories: found, proven, told to others.
//!
//! Of such a log a device keeps the history that it holds (docs/decisions/0015). What its device
//! says counts no more; what others took in before they knew goes on to spread: entries to those
//! that hold their beginning, enrolments to all.

use std::collections::HashMap;

use larder_log::act::Act;
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::Nodes;
use larder_log::{Batch, ForkProof, Header, ObjectProof, Payload, ProvenAct, kind, merkle};
use larder_protocol::{Fork, LogHead, Reply};
use larder_store::StoreError;
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::sections::{self, Place};
use larder_store::space::{control, transactions};
use larder_types::limits::{FORK_ACTS_BYTES_MAX, FORKS_PER_FRAME_MAX};
use larder_types::{DeviceId, Hash, SpaceId, TransportId};
use rusqlite::Connection;

use crate::Result;
use crate::keyring::Opening;
use crate::read::{receipt, snapshot};
use crate::space::{Frozen, Published, Space};
use crate::state::{State, past_bound};
use crate::writer::SpaceWriter;

/// What the peer's frontiers say of logs with two histories.
pub(crate) struct Checked {
    /// Nothing of these is synced in this session.
    pub(crate) forks: Vec<Fork>,
    /// Whether anything of it is to be kept first.
    pub(crate) is_news: bool,
}

impl Published {
    /// Whether what this peer hands on of logs with two histories counts: it is enrolled, and has
    /// one history itself.
    pub(crate) fn vouches(&self, peer: &TransportId) -> bool {
        let mut devices = self.roster.devices().filter(|(_, one)| one.keys.transport == *peer);
        devices.next().is_some_and(|(id, _)| !self.stopped.contains(id))
            && devices.all(|(id, _)| !self.stopped.contains(id))
    }
}

impl Space {
    /// Of more proofs than one frontier has room for, the next time others are told.
    pub(crate) fn read_frontiers(&self, peer: &TransportId) -> Result<Reply> {
        let before = self.shared.forks_told().get(peer).copied();
        let (reply, last) = self.frontiers(peer, before)?;
        let mut told = self.shared.forks_told();
        match last.filter(|_| self.may_read(peer).unwrap_or(false)) {
            Some(last) => drop(told.insert(*peer, last)),
            None => drop(told.remove(peer)),
        }
        Ok(reply)
    }

    /// What is held, and of proofs of two histories those behind `before`'s in a circle, as far as
    /// there is room; if there is not for all, up to whose.
    pub(crate) fn frontiers(
        &self,
        peer: &TransportId,
        before: Option<DeviceId>,
    ) -> Result<(Reply, Option<DeviceId>)> {
        let db = self.shared.pool.reader()?;
        // A commit in between would give a head without its signature.
        let db = snapshot(&db)?;
        let (mut heads, mut stopped) = (Vec::new(), Vec::new());
        for log in logs::every(&db)? {
            let last = transactions::last_of(&db, log.log)?;
            if let Some(last) = &last {
                self.shared.is_shown(&db, &log)?;
                heads.push(LogHead {
                    device: log.device,
                    size: log.frontier.size(),
                    root: log.frontier.root(),
                    signature: last.signature,
                });
            }
            if let Some(evidence) = log.stopped.clone() {
                stopped.push((log, last, evidence));
            }
        }
        stopped.sort_unstable_by_key(|(log, ..)| (Some(log.device) <= before, log.device));
        let (mut forks, mut last_told) = (Vec::new(), None);
        let (mut room, mut is_whole) = (FORK_ACTS_BYTES_MAX, true);
        for (log, last, evidence) in stopped {
            if forks.len() == FORKS_PER_FRAME_MAX {
                is_whole = false;
                break;
            }
            let mut acts = Vec::new();
            let mut fits = true;
            if let Some(last) = last {
                fits = self.own_acts(&db, &log, last.signature, peer, &mut room, &mut acts)?;
            }
            fits &= stray_acts(&db, &log, &mut room, &mut acts)?;
            is_whole &= fits;
            // The first has had all the room there is.
            if is_whole || forks.is_empty() {
                last_told = Some(log.device);
            }
            forks.push(Fork { device: log.device, evidence, acts });
        }
        let acks = control::acks(&db)?.into_iter().map(|ack| self.ack_of(&ack)).collect();
        let epochs_held = self.shared.published()?.epochs_held();
        let reply = Reply::Frontiers { logs: heads, epochs_held, acks, forks };
        Ok((reply, last_told.filter(|_| !is_whole)))
    }

    /// Whether this peer may add to this log here. To one with two histories only those add who
    /// vouch for what they send; but as long as it is not seen here that they differ, what is
    /// lacking may well be what the log shares, enrolments of all others among it. The log's own
    /// device never adds: where the histories differ it can make up as it likes.
    pub(crate) fn may_extend(&self, peer: &TransportId, log: &DeviceId) -> Result<bool> {
        let published = self.shared.published()?;
        if !published.stopped.contains(log) || published.vouches(peer) {
            return Ok(true);
        }
        if published.roster.known(log).is_some_and(|device| device.keys.transport == *peer) {
            return Ok(false);
        }
        let Some(log) = logs::find(&*self.shared.pool.reader()?, log)? else { return Ok(true) };
        let differs_at = log.stopped.and_then(|proof| ForkProof::differs_at(&proof));
        Ok(differs_at.is_some_and(|size| log.frontier.size() < size))
    }

    /// The acts of membership in a log of which the peer may hold another history, newest first.
    /// Whether there is room for all.
    fn own_acts(
        &self,
        db: &Connection,
        log: &Log,
        signature: [u8; 64],
        peer: &TransportId,
        room: &mut usize,
        acts: &mut Vec<ProvenAct>,
    ) -> Result<bool> {
        let held_by_peer = self.held_by(db, log, peer)?;
        let checkpoint = self.checkpoint(log.device, &log.frontier);
        let all = control::acts_but(db, [kind::ERASE, kind::ERASED])?.into_iter().rev();
        // What counts nowhere is not to count for who holds the other history.
        let past_bound = past_bound(db)?;
        let is_shown = |act: &control::Act| {
            act.place.log == log.log
                && Act::MEMBERSHIP.contains(&act.kind)
                && !past_bound.contains(&act.place)
        };
        for act in all.filter(is_shown) {
            let Place { seq, index, .. } = act.place;
            let Payload::Sealed(sealed) = sections::payload(db, act.place)? else { continue };
            if seq <= held_by_peer {
                continue;
            }
            let mut receipt = receipt(db, &checkpoint, log.log, seq, signature)?;
            let sections = sections::of_entry(db, log.log, seq)?;
            let commitments: Vec<_> = sections.into_iter().map(|one| one.commitment).collect();
            receipt.object = ObjectProof::new(&commitments, index);
            let Some(act) = ProvenAct::new(receipt, sealed) else { continue };
            if !take_room(room, act.encode().len()) {
                return Ok(false);
            }
            acts.push(act);
        }
        Ok(true)
    }

    /// How much of the history held here the peer is known to hold.
    fn held_by(&self, db: &Connection, log: &Log, peer: &TransportId) -> Result<u64> {
        let Some(peer) = self.peer_device(peer) else { return Ok(0) };
        let acks = control::acks_of(db, &log.device)?;
        let Some(ack) = acks.into_iter().find(|ack| ack.acker == peer) else { return Ok(0) };
        let is_here = ack.size > 0 && ack.size <= log.frontier.size();
        let is_same = is_here && merkle::root_at(&Tree::new(db, log.log), ack.size)? == ack.root;
        Ok(if is_same { ack.size } else { 0 })
    }

    /// Where both hold a log, the shorter must be the beginning of the longer. What the peer holds
    /// beyond this device's end is compared when it is received; of the own log, it shows that this
    /// copy is an old one. Proofs and acts that the peer has count if they are news.
    pub(crate) fn check_frontiers(
        &self,
        peer: &TransportId,
        heads: &[LogHead],
        told: Vec<Fork>,
    ) -> Result<Checked> {
        self.hear(peer, heads);
        let db = self.shared.pool.reader()?;
        let published = self.shared.published()?;
        let device = published.roster.by_transport(peer).map(|(id, _)| *id);
        let vouches =
            published.vouches(peer) && told.iter().all(|fork| Some(fork.device) != device);
        let mut checked = Checked { forks: Vec::new(), is_news: false };
        for mut fork in told {
            let is_known = published.stopped.contains(&fork.device) && !is_earlier(&db, &fork)?;
            fork.acts.retain(|act| {
                let (entry, index) = act.place();
                vouches && !published.roster.knows(entry, index)
            });
            // A newcomer knows nobody yet, and has to take in the log that says who is who.
            let is_of_space = published.roster.may_have_log(&fork.device);
            if !is_of_space || (is_known && fork.acts.is_empty()) {
                continue;
            }
            if ForkProof::check(&fork.evidence, &self.id()) == Some(fork.device) {
                checked.is_news = true;
                checked.forks.push(fork);
            }
        }
        for head in heads {
            if let Some(fork) = self.check_head(&db, head)? {
                checked.is_news |= !published.stopped.contains(&fork.device);
                checked.forks.push(fork);
            }
        }
        Ok(checked)
    }

    /// What a peer holds of the own log matters while that is being learnt back.
    fn hear(&self, peer: &TransportId, heads: &[LogHead]) {
        let of_own = |head: &&LogHead| {
            let LogHead { device, size, root, .. } = **head;
            let checkpoint = Checkpoint { space: self.id(), device, size, root };
            device == self.device() && checkpoint.verify(&head.signature).is_ok()
        };
        if let Some(carrying) = self.shared.carrying().as_mut() {
            let held = heads.iter().map(|head| (head.device, head.size)).collect();
            carrying.peers.insert(*peer, held);
        }
        if !self.shared.is_recovering() {
            return;
        }
        self.shared.hear(peer, heads.iter().find(of_own).map_or(0, |head| head.size));
    }

    fn check_head(&self, db: &Connection, head: &LogHead) -> Result<Option<Fork>> {
        let Some(log) = logs::find(db, &head.device)? else { return Ok(None) };
        let LogHead { device, size, root, .. } = *head;
        let theirs = Checkpoint { space: self.id(), device, size, root };
        let found = log.frontier.size();
        if size > found && device == self.device() {
            if !self.shared.is_recovering() && theirs.verify(&head.signature).is_ok() {
                self.shared.found_behind(size, &root, found)?;
            }
            return Ok(None);
        }
        let Some(last) = transactions::last_of(db, log.log)? else { return Ok(None) };
        let ours = self.checkpoint(log.device, &log.frontier);
        let (theirs, ours) = ((&theirs, &head.signature), (&ours, &last.signature));
        let proof = ForkProof::new(theirs, ours, &Tree::new(db, log.log))?;
        let proof = proof.filter(|_| theirs.0.verify(theirs.1).is_ok());
        Ok(proof.map(|proof| Fork { device, evidence: proof.encode(), acts: Vec::new() }))
    }
}

/// Enrolments that others have shown, newest first. Whether there is room for all.
fn stray_acts(
    db: &Connection,
    log: &Log,
    room: &mut usize,
    acts: &mut Vec<ProvenAct>,
) -> Result<bool> {
    for stray in control::stray_acts_of(db, log.log)?.into_iter().rev() {
        // A check says of one that cannot be read.
        let Some(act) = ProvenAct::decode(&stray.proof) else { continue };
        if !take_room(room, stray.proof.len()) {
            return Ok(false);
        }
        acts.push(act);
    }
    Ok(true)
}

/// Whether it is proven that a log's histories differ earlier than is known here.
fn is_earlier(db: &Connection, fork: &Fork) -> Result<bool> {
    let known = logs::find(db, &fork.device)?.and_then(|log| log.stopped);
    let known = known.as_deref().and_then(ForkProof::differs_at);
    let told = ForkProof::differs_at(&fork.evidence);
    Ok(known.is_none_or(|known| told.is_some_and(|told| told < known)))
}

/// The proof that a batch is of another history than the one of its log that is here.
fn prove_fork(
    db: &Connection,
    space: &SpaceId,
    log: &Log,
    batch: &Batch,
) -> Result<Option<ForkProof>> {
    let (have, before) = (log.frontier.size(), batch.first_seq.saturating_sub(1));
    let Some(last) = transactions::last_of(db, log.log)?.filter(|_| before < have) else {
        return Ok(None);
    };
    // Mostly what comes a second time is what came the first time.
    let same = transactions::covering(db, log.log, batch.size())?;
    if same.is_some_and(|same| (same.last_seq, same.signature) == (batch.size(), batch.signature)) {
        return Ok(None);
    }
    let tree = Tree::new(db, log.log);
    let Ok(verified) = batch.verify_log(space, &merkle::frontier_at(&tree, before)?) else {
        return Ok(None);
    };
    let (device, root) = (log.device, log.frontier.root());
    let ours = (&Checkpoint { space: *space, device, size: have, root }, &last.signature);
    let theirs = (&verified.checkpoint, &batch.signature);
    if theirs.0.size <= have {
        return Ok(ForkProof::new(theirs, ours, &tree)?);
    }
    let nodes = verified.nodes.iter().map(|node| ((node.level, node.index), node.hash)).collect();
    Ok(ForkProof::new(ours, theirs, &Grown { tree, nodes })?)
}

/// A log's tree as it is here up to where a batch begins, and from there on as the batch has it.
struct Grown<'c> {
    tree: Tree<'c>,
    nodes: HashMap<(u8, u64), Hash>,
}

impl Nodes for Grown<'_> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> std::result::Result<Hash, StoreError> {
        match self.nodes.get(&(level, index)) {
            Some(hash) => Ok(*hash),
            None => self.tree.node(level, index),
        }
    }
}

fn take_room(room: &mut usize, bytes: usize) -> bool {
    let left = room.checked_sub(bytes);
    *room = left.unwrap_or(*room);
    left.is_some()
}

impl SpaceWriter {
    /// Stops the logs of enrolled devices that a session found to have two histories, for good, and
    /// keeps the proof, for the other devices. If this device's own is among them, it signs nothing
    /// more. Takes in the enrolments that stand in the histories that are not held here. What is no
    /// proof is passed over.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn stop_logs(&mut self, forks: &[Fork]) -> Result<()> {
        self.record(|tx, state| {
            for fork in forks {
                state.stop_log(tx, fork)?;
            }
            Ok(())
        })
    }
}

impl State {
    /// If a batch is of another history of its log than the one that is here, stops the log. A
    /// batch may begin anywhere in what is here; of one whose histories differ before it nothing
    /// can be shown.
    pub(crate) fn find_fork(
        &mut self,
        db: &Connection,
        log: &Log,
        batch: &Batch,
    ) -> Result<Option<Fork>> {
        let Some(proof) = prove_fork(db, &self.shared.id, log, batch)? else { return Ok(None) };
        let fork = Fork { device: log.device, evidence: proof.encode(), acts: Vec::new() };
        self.stop_log(db, &fork)?;
        Ok(Some(fork).filter(|fork| self.stopped.contains(&fork.device)))
    }

    fn stop_log(&mut self, db: &Connection, fork: &Fork) -> Result<()> {
        let device = ForkProof::check(&fork.evidence, &self.shared.id);
        let Some(device) = device.filter(|device| *device == fork.device) else { return Ok(()) };
        if !self.roster.may_have_log(&device) {
            return Ok(());
        }
        // Of a log that nothing is held of as well: entries that name it shall not wait.
        let log = logs::find_or_add(db, &device)?;
        if log.log == self.log {
            self.shared.freeze(Frozen::OtherHistory);
        }
        // Of several proofs the one counts that leaves the least to what both may share.
        if is_earlier(db, fork)? {
            logs::stop(db, log.log, &fork.evidence)?;
        }
        self.note_stopped(device);
        for act in &fork.acts {
            self.take_stray(db, &log, act)?;
        }
        Ok(())
    }

    fn take_stray(&mut self, db: &Connection, log: &Log, proven: &ProvenAct) -> Result<()> {
        let (entry, index) = proven.place();
        if self.roster.knows(entry, index) {
            return Ok(());
        }
        let Some((header, act)) = self.shown_act(log, proven) else { return Ok(()) };
        let (proof, body) = (proven.encode(), act.to_body());
        // No more than can be told of in one frontier.
        let kept = control::stray_acts_bytes(db, log.log)?;
        if kept.saturating_add(proof.len()) > FORK_ACTS_BYTES_MAX {
            return Ok(());
        }
        control::add_stray_act(db, &control::StrayAct { log: log.log, proof, body })?;
        self.take_shown(db, &header, index, &act)
    }

    /// The act of membership in the other history of a log that a proof shows, if it does.
    fn shown_act(&self, log: &Log, proven: &ProvenAct) -> Option<(Header, Act)> {
        let shown = proven.check(&self.shared.id)?;
        let opening = self.keyring.open(&shown.header, shown.index, shown.commitment, shown.sealed);
        let Opening::Opened(opened) = opening else { return None };
        let act = Act::read(shown.commitment.class, &opened).ok()??;
        let is_of_log = shown.header.device == log.device && Act::MEMBERSHIP.contains(&act.kind());
        is_of_log.then_some((shown.header, act))
    }

    /// Whether what is recorded of an enrolment in the other history of a log is what its proof
    /// shows.
    pub(crate) fn is_shown(&self, log: &Log, stray: &control::StrayAct) -> bool {
        let proven = ProvenAct::decode(&stray.proof);
        let shown = proven.and_then(|proven| self.shown_act(log, &proven));
        shown.is_some_and(|(_, act)| act.to_body() == stray.body)
    }
}

#[cfg(test)]
mod tests {
    use larder_types::canonical;

    use super::*;
    use crate::prune::tests::Device;

    /// A device with its real key signs two trees of a size that no log will ever have. As long as
    /// a log is smaller than what is proven, others hand on what both may share: with this
    /// proof in place, the device itself went on adding, one history here and another there.
    #[test]
    fn a_made_up_proof_lets_nobody_go_on_with_its_log() {
        let mut a = Device::found(1);
        let mut b = a.invite(2);
        b.put(1, &serde_json::json!({"n": 1}));
        a.pull(&b);
        let keys = &b.writer.state().shared.keys;
        let (me, name) = (b.profile.transport_id(), b.space.device());
        let sign = |size, root: [u8; 32]| {
            let root = larder_types::Hash::new(root);
            let checkpoint = Checkpoint { space: b.space.id(), device: name, size, root };
            checkpoint.to_note(&checkpoint.sign(&keys.signing))
        };
        let proof = |size| {
            let root = larder_types::Hash::new([2; 32]);
            let notes = (sign(size, [1; 32]), sign(size, [2; 32]));
            canonical::encode(&(notes.0, notes.1, root, Vec::<larder_types::Hash>::new()))
        };
        let tell = |a: &mut Device, size| {
            let fork = Fork { device: name, evidence: proof(size), acts: Vec::new() };
            let checked = a.space.check_frontiers(&me, &[], vec![fork]).unwrap();
            a.writer.stop_logs(&checked.forks).unwrap();
            checked.is_news
        };
        assert!(a.space.may_extend(&me, &name).unwrap());
        assert!(tell(&mut a, 1 << 40));
        assert!(!a.space.may_extend(&me, &name).unwrap());
        // Who is nobody here may bring what is shared, until it is proven how little it is.
        let stranger = TransportId::new([9; 32]);
        assert!(a.space.may_extend(&stranger, &name).unwrap());
        assert!(tell(&mut a, 1));
        assert!(!tell(&mut a, 1) && !tell(&mut a, 2));
        assert!(!a.space.may_extend(&stranger, &name).unwrap());
    }
}
