//! Batches from peers: verified, opened, applied and stored in one transaction.
//!
//! What fails a rule is void and never stops a log; what could not be judged without changing
//! between devices (a clock, a limit of this device) is no rule.

use std::collections::{BTreeMap, HashMap};

use larder_document::{Actor, Outcome, body};
use larder_log::ack::Ack;
use larder_log::act::Act;
use larder_log::{
    Batch, BatchEntry, Class, Header, Opened, Payload, VerifiedBatch, VerifiedEntry, kind,
};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::{self, About, NewSection, Place};
use larder_store::space::{control, entries, tombstones, transactions};
use larder_types::{CloseCode, DeviceId, EntryHash, ObjectId};
use rusqlite::Connection;

use crate::keyring::Opening;
use crate::rows::{Embed, Origin, write_new};
use crate::state::State as WriterState;
use crate::touched::{State, Stored, Touched};
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// What a batch came to.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Whose log it belongs to.
    pub device: DeviceId,
    /// How many entries of that log are durable here now.
    pub size: u64,
    /// How many of them are new.
    pub entries: u64,
    /// This device's acknowledgement of them.
    pub acks: Vec<Ack>,
}

/// A change to a document, gathered until the batch's end.
struct Change {
    object: ObjectId,
    generation: EntryHash,
    actor: Actor,
    bytes: Vec<u8>,
    place: Place,
}

/// What a batch does to documents.
#[derive(Default)]
struct Effects {
    touched: Touched,
    changes: Vec<Change>,
    /// The last section that touched each document.
    origins: HashMap<ObjectId, Origin>,
    embed: Vec<Embed>,
}

impl SpaceWriter {
    /// Verifies a batch, applies it and stores it, all in one transaction. Returns once it is
    /// durable. Entries that are here already are passed over.
    ///
    /// # Errors
    /// [`Error::Refused`] if the batch does not verify, does not follow, or its author is not
    /// enrolled; nothing of it is kept then. The storage's errors.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied> {
        let device = batch.device;
        if device == self.shared.keys.device() {
            return self.apply_own(&batch);
        }
        self.transact(|tx, state| {
            let log = logs::find_or_add(tx, &device)?;
            let have = log.frontier.size();
            if batch.size() <= have {
                return Ok(Applied { device, size: have, entries: 0, acks: Vec::new() });
            }
            if log.stopped.is_some() {
                return Err(Error::refused(CloseCode::Forked, "this log has two histories"));
            }
            let batch = without_known(batch, have);
            let verified = batch.verify(&state.shared.id, &log.frontier).map_err(|e| {
                Error::refused(CloseCode::BadBatch, format!("a batch of {device}: {e}"))
            })?;
            let ack = state.store(tx, log.log, &batch, &verified)?;
            let (size, entries) = (verified.after.size(), verified.entries.len() as u64);
            Ok(Applied { device, size, entries, acks: vec![ack] })
        })
    }

    /// A peer sends this device's own entries: it has those, or it is an old copy of itself.
    fn apply_own(&mut self, batch: &Batch) -> Result<Applied> {
        let (device, have) = (batch.device, self.state().frontier.size());
        if batch.size() <= have {
            return Ok(Applied { device, size: have, entries: 0, acks: Vec::new() });
        }
        self.freeze(batch.size());
        let message = "this device is an old copy of itself, and takes no more of its own log";
        Err(Error::refused(CloseCode::Forked, message))
    }

    /// Keeps acknowledgements that verify; returns those that were new.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn store_acks(&mut self, acks: &[Ack]) -> Result<Vec<Ack>> {
        self.transact(|tx, state| {
            let mut new = Vec::new();
            for ack in acks {
                let Some(acker) = state.roster.device(&ack.acker) else { continue };
                let valid = ack.space == state.shared.id && ack.verify(&acker.keys.ack).is_ok();
                if valid && control::put_ack(tx, &row_of(ack))? {
                    new.push(ack.clone());
                }
            }
            Ok(new)
        })
    }
}

fn row_of(ack: &Ack) -> control::Ack {
    let Ack { acker, device, size, root, time_s, signature, .. } = *ack;
    control::Ack { acker, device, size, root, time_s, signature }
}

/// A batch without the entries that are held already, up to `have`.
fn without_known(mut batch: Batch, have: u64) -> Batch {
    let known = have.saturating_add(1).saturating_sub(batch.first_seq);
    let known = usize::try_from(known).unwrap_or(usize::MAX).min(batch.entries.len());
    batch.entries.drain(..known);
    batch.first_seq = batch.first_seq.saturating_add(known as u64);
    batch
}

impl WriterState {
    fn store(
        &mut self,
        db: &Connection,
        log: LogId,
        batch: &Batch,
        verified: &VerifiedBatch,
    ) -> Result<Ack> {
        let mut effects = Effects::default();
        for (entry, verified) in batch.entries.iter().zip(&verified.entries) {
            self.store_entry(db, log, entry, verified, &mut effects)?;
        }
        logs::advance(db, log, &verified.after, &verified.nodes)?;
        let last = verified.after.size();
        transactions::append(db, log, batch.first_seq, last, &batch.signature)?;
        if let Some(entry) = verified.entries.last() {
            self.grown(batch.device, last, entry.hash);
        }
        self.write_effects(db, effects)?;
        let time_s = self.shared.env.now().0 / 1000;
        let ack = Ack::sign(&verified.checkpoint, self.device(), &self.shared.keys.ack, time_s);
        control::put_ack(db, &row_of(&ack))?;
        Ok(ack)
    }

    fn store_entry(
        &mut self,
        db: &Connection,
        log: LogId,
        entry: &BatchEntry,
        verified: &VerifiedEntry,
        effects: &mut Effects,
    ) -> Result<()> {
        let header = &verified.header;
        check_deps(db, header)?;
        // The acts first: the entry that founds a space, or opens an epoch, is judged by them.
        let mut sections = Vec::with_capacity(entry.commitments.len());
        for (index, (commitment, payload)) in
            (0..).zip(entry.commitments.iter().zip(&entry.payloads))
        {
            let opening = match payload {
                Payload::Missing => None,
                Payload::Opened(bytes) => Some(match larder_log::unpack(bytes) {
                    Ok(opened) => Opening::Opened(Box::new(opened)),
                    Err(_) => Opening::Void,
                }),
                Payload::Sealed(sealed) => {
                    Some(self.keyring.open(header, index, commitment, sealed))
                }
            };
            let about = match &opening {
                Some(Opening::Opened(opened)) => Some(about(opened)),
                _ => None,
            };
            let state = match opening {
                None => sections::State::Missing,
                Some(Opening::NoSecret) => sections::State::Waiting,
                Some(Opening::Void) => sections::State::Void,
                Some(Opening::Opened(opened)) => {
                    let place = Place { log, seq: header.seq, index };
                    let class = commitment.class;
                    self.take(db, place, verified, class, *opened, effects)?
                }
            };
            sections.push(NewSection { commitment, payload, state, about });
        }
        self.roster.is_authorised(header).map_err(|reason| {
            let message = format!("entry {} of {}: {reason}", header.seq, header.device);
            Error::refused(CloseCode::BadBatch, message)
        })?;
        let (hash, header_bytes) = (&verified.hash, &entry.header);
        let new =
            entries::NewEntry { seq: header.seq, hash, header: header_bytes, sections: &sections };
        Ok(entries::insert(db, log, &new)?)
    }

    /// Takes in one opened section; says what it came to.
    fn take(
        &mut self,
        db: &Connection,
        place: Place,
        verified: &VerifiedEntry,
        class: u8,
        opened: Opened,
        effects: &mut Effects,
    ) -> Result<sections::State> {
        let header = &verified.header;
        let clock = opened.metadata.clock;
        self.clock = self.clock.observe(clock, self.shared.env.now());
        match Act::read(class, &opened) {
            Err(_) => return Ok(sections::State::Void),
            Ok(Some(act)) => {
                let applied = self.take_in(db, place.log, header, place.index, &act)?;
                let void = applied.is_err();
                return Ok(if void { sections::State::Void } else { sections::State::Applied });
            }
            Ok(None) => {}
        }
        if class != Class::Data as u8 {
            return Ok(sections::State::Kept);
        }
        let origin = Origin {
            log: place.log,
            device: header.device,
            seq: header.seq,
            index: place.index,
            entry: verified.hash,
            clock,
        };
        self.take_document(db, place, origin, opened, effects)
    }

    fn take_document(
        &mut self,
        db: &Connection,
        place: Place,
        origin: Origin,
        opened: Opened,
        effects: &mut Effects,
    ) -> Result<sections::State> {
        let metadata = opened.metadata;
        if !(kind::DOCUMENT_CREATE..=kind::DOCUMENT_DELETE).contains(&metadata.kind) {
            return Ok(sections::State::Kept);
        }
        let (Some(object), Some(collection)) = (metadata.object, metadata.collection) else {
            return Ok(sections::State::Void);
        };
        effects.origins.insert(object, origin);
        match metadata.kind {
            kind::DOCUMENT_CREATE => {
                let value = body::Create::decode(&opened.body).ok().and_then(|c| c.value().ok());
                let Some(value) = value else { return Ok(sections::State::Void) };
                match effects.touched.part(db, &mut self.cache, object)?.state {
                    State::Absent => {
                        // Written at once: changes of it in the same batch find it stored.
                        effects.touched.forget(&object);
                        write_new(db, &origin, &object, &collection, &value, &mut effects.embed)?;
                    }
                    State::Deleted | State::Removed { .. } => {}
                    State::New { .. } | State::Stored(_) => return Ok(sections::State::Void),
                }
            }
            kind::DOCUMENT_CHANGE => {
                let change = body::Change::decode(&opened.body).ok();
                let changes = change.as_ref().and_then(|change| change.changes().ok());
                let (Some(changes), Some(generation)) = (changes, metadata.generation) else {
                    return Ok(sections::State::Void);
                };
                let actor = Actor::of(&origin.device, &object, &generation);
                effects.changes.extend(changes.map(|bytes| {
                    let bytes = bytes.to_vec();
                    Change { object, generation, actor, bytes, place }
                }));
            }
            _ => {
                if body::Delete::decode(&opened.body).is_err() {
                    return Ok(sections::State::Void);
                }
                tombstones::put(db, &origin.tombstone(object, Some(collection.clone())))?;
                effects.touched.part(db, &mut self.cache, object)?.bury(collection);
            }
        }
        Ok(sections::State::Applied)
    }

    /// Applies the changes of the whole batch, all of one document together, and writes what
    /// became of the documents.
    fn write_effects(&mut self, db: &Connection, effects: Effects) -> Result<()> {
        let Effects { mut touched, changes, origins, mut embed } = effects;
        let mut by_object: BTreeMap<ObjectId, Vec<Change>> = BTreeMap::new();
        for change in changes {
            by_object.entry(change.object).or_default().push(change);
        }
        for (object, changes) in by_object {
            match &mut touched.part(db, &mut self.cache, object)?.state {
                State::Stored(stored) => apply_changes(db, stored, &changes)?,
                State::Deleted | State::Removed { .. } => {}
                State::Absent | State::New { .. } => {
                    for change in &changes {
                        sections::settle(db, change.place, sections::State::Waiting, None)?;
                    }
                }
            }
        }
        for (object, part) in touched.into_parts() {
            if let Some(origin) = origins.get(&object) {
                self.write_part(db, origin, object, part, &mut embed)?;
            }
        }
        self.write_embeddings(db, &embed)
    }
}

/// Every entry is applied after those that it names.
fn check_deps(db: &Connection, header: &Header) -> Result<()> {
    for dep in &header.deps {
        let held = match logs::find(db, &dep.device)? {
            Some(log) => entries::hash(db, log.log, dep.seq)?,
            None => None,
        };
        match held {
            Some(hash) if hash == dep.entry => {}
            Some(_) => {
                let message = format!(
                    "entry {} of {} builds on another history of {}",
                    header.seq, header.device, dep.device
                );
                return Err(Error::refused(CloseCode::Forked, message));
            }
            None => {
                let message = format!(
                    "entry {} of {} builds on entry {} of {}, which is not here",
                    header.seq, header.device, dep.seq, dep.device
                );
                return Err(Error::refused(CloseCode::Gap, message));
            }
        }
    }
    Ok(())
}

fn apply_changes(db: &Connection, stored: &mut Stored, changes: &[Change]) -> Result<()> {
    let (fitting, others): (Vec<&Change>, Vec<&Change>) =
        changes.iter().partition(|change| change.generation == stored.row.generation);
    for change in others {
        sections::settle(db, change.place, sections::State::Void, None)?;
    }
    let batch: Vec<(Actor, &[u8])> =
        fitting.iter().map(|change| (change.actor, change.bytes.as_slice())).collect();
    for (change, outcome) in fitting.iter().zip(stored.document.apply(&batch)) {
        match outcome {
            Outcome::Applied => stored.edited = true,
            Outcome::Duplicate => {}
            Outcome::Waiting => {
                sections::settle(db, change.place, sections::State::Waiting, None)?;
            }
            Outcome::Void(_) => sections::settle(db, change.place, sections::State::Void, None)?,
        }
    }
    Ok(())
}

fn about(opened: &Opened) -> About {
    let metadata = &opened.metadata;
    About { kind: metadata.kind, object: metadata.object, clock: metadata.clock }
}
