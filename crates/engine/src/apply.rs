//! Batches from peers, the durable stage: verified, opened and stored in one transaction. What they
//! do to documents follows ([`crate::show`]), in the same transaction if nothing else waits.
//!
//! What fails a rule is void and never stops a log; what could not be judged without changing
//! between devices (a clock, a limit of this device) is no rule.

use std::borrow::Cow;

use larder_log::ack::Ack;
use larder_log::act::Act;
use larder_log::merkle::{self, Node};
use larder_log::{
    Batch, BatchEntry, BatchError, Class, Header, Payload, SectionCommitment, SectionError,
    VerifiedBatch, VerifiedEntry, VoidReason,
};
use larder_protocol::Fork;
use larder_store::space::logs::{self, Log, LogId, Tree};
use larder_store::space::sections::{self, About, NewSection, Place};
use larder_store::space::{control, entries, transactions};
use larder_types::limits::{LOGS_BRANCH_MAX, LOGS_MAX};
use larder_types::{CloseCode, DeviceId};
use rusqlite::Connection;

use crate::effects::{Effects, about};
use crate::keyring::{Keyring, Opening, Resealed};
use crate::rows::Origin;
use crate::show::DOCUMENT_KINDS;
use crate::state::State as WriterState;
use crate::tally::VoidCause;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

mod ahead;
#[cfg(test)]
mod room_tests;

use ahead::Ahead;

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
    /// Whether bytes of entries that are here are lacking now, or are not to be opened here, of
    /// this log or another.
    pub lacks: bool,
    /// The batch is of another history of the log than the one held here: the proof, by which the
    /// log is stopped now. Nothing of the batch is kept.
    pub fork: Option<Fork>,
}

impl Applied {
    fn nothing(device: DeviceId, size: u64, state: &WriterState) -> Self {
        let (acks, lacks) = (Vec::new(), state.wants());
        Self { device, size, entries: 0, acks, lacks, fork: None }
    }
}

impl SpaceWriter {
    /// Verifies a batch, stores it and makes it readable, all in one transaction, with what was
    /// only stored before. Returns once it is durable. Entries that are here already are passed
    /// over, if they are the same; if not, the log is stopped ([`Applied::fork`]).
    ///
    /// # Errors
    /// [`Error::Refused`] if the batch does not verify, does not follow, or its author is not
    /// enrolled; nothing of it is kept then. The storage's errors.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied> {
        self.take(batch, true)
    }

    /// The same without making it readable, for a batch that others follow at once: then documents
    /// take in the changes of all of them together. [`SpaceWriter::show`] does that, and every
    /// other transaction that needs it. Beyond `gathered_bytes_max` of bodies it is done here.
    ///
    /// # Errors
    /// As [`SpaceWriter::apply`].
    pub fn store(&mut self, batch: Batch) -> Result<Applied> {
        self.take(batch, false)
    }

    fn take(&mut self, mut batch: Batch, show: bool) -> Result<Applied> {
        if batch.device == self.shared.keys.device() && !self.shared.is_recovering() {
            return self.apply_own(batch);
        }
        loop {
            match self.transact_behind(|tx, state| state.take_batch(tx, &mut batch, show)) {
                Err(error) if self.passes_over(&error) => {}
                applied => return applied,
            }
        }
    }

    /// A peer sends this device's own entries: it has those, or it is an old copy of itself, or one
    /// of two. Only what this device has signed says so; anybody can make up the rest.
    fn apply_own(&mut self, batch: Batch) -> Result<Applied> {
        let (device, size) = (batch.device, batch.size());
        self.transact_behind(|tx, state| {
            let have = state.frontier.size();
            let log = logs::find_or_add(tx, &device)?;
            let fork = state.find_fork(tx, &log, &batch)?;
            if size <= have || fork.is_some() {
                return Ok(Applied { fork, ..Applied::nothing(device, have, state) });
            }
            let mut batch = batch;
            split_known(&mut batch, have);
            let verified = batch.verify(&state.shared.id, &state.frontier).map_err(|e| {
                let message = format!("entries in this device's own name: {e}");
                Error::refused(CloseCode::Gap, message)
            })?;
            state.shared.found_behind(size, &verified.after.root(), have)?;
            let message = "this device is an old copy of itself, and takes no more of its own log";
            Err(Error::refused(CloseCode::Forked, message))
        })
    }

    /// Keeps acknowledgements that verify, of enrolled devices' logs, and of the log held here as
    /// far as that goes; returns those that were new.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn store_acks(&mut self, acks: &[Ack]) -> Result<Vec<Ack>> {
        self.transact_behind(|tx, state| {
            let mut new = Vec::new();
            for ack in acks {
                let Some(acker) = state.roster.device(&ack.acker) else { continue };
                // Most come by several ways, and a signature costs more than a look.
                let is_sound = ack.space == state.shared.id && is_storable(ack);
                if !is_sound || !control::is_new_ack(tx, &row_of(ack))? {
                    continue;
                }
                let is_valid = ack.verify(&acker.keys.ack).is_ok() && is_of_log(tx, state, ack)?;
                if is_valid && control::put_ack(tx, &row_of(ack))? {
                    new.push(ack.clone());
                }
            }
            state.news.ack |= !new.is_empty();
            Ok(new)
        })
    }
}

fn is_storable(ack: &Ack) -> bool {
    [ack.size, ack.time_s].into_iter().all(|number| i64::try_from(number).is_ok())
}

/// Whether an acknowledgement is of a log that there is, and of no other history of it than the one
/// held here. What it says of entries that are not here is its signer's word.
fn is_of_log(db: &Connection, state: &WriterState, ack: &Ack) -> Result<bool> {
    if state.roster.known(&ack.device).is_none() {
        return Ok(false);
    }
    match logs::find(db, &ack.device)? {
        Some(log) if ack.size <= log.frontier.size() => {
            Ok(merkle::root_at(&Tree::new(db, log.log), ack.size)? == ack.root)
        }
        _ => Ok(true),
    }
}

pub(crate) fn row_of(ack: &Ack) -> control::Ack {
    let Ack { acker, device, size, root, time_s, signature, .. } = *ack;
    control::Ack { acker, device, size, root, time_s, signature }
}

/// Takes those of a batch's entries out of it that are here already, up to `have`.
fn split_known(batch: &mut Batch, have: u64) -> Vec<BatchEntry> {
    let known = have.saturating_add(1).saturating_sub(batch.first_seq);
    let known = usize::try_from(known).unwrap_or(usize::MAX).min(batch.entries.len());
    let entries: Vec<BatchEntry> = batch.entries.drain(..known).collect();
    batch.first_seq = batch.first_seq.saturating_add(known as u64);
    entries
}

/// Undoes [`split_known`].
fn join_known(batch: &mut Batch, mut known: Vec<BatchEntry>) {
    batch.first_seq = batch.first_seq.saturating_sub(known.len() as u64);
    known.append(&mut batch.entries);
    batch.entries = known;
}

/// Why a batch is not taken that proves no other history of its log.
fn misfit(log: &Log, batch: &Batch, error: &BatchError) -> Error {
    let message = format!("a batch of {}: {error}", log.device);
    let code = match error {
        _ if log.stopped.is_some() => CloseCode::Forked,
        // An honest peer may hold another history, of which the beginning did not come with this:
        // it took these entries to follow what is here, by their number.
        BatchError::Signature if batch.first_seq > 1 => CloseCode::Gap,
        _ => CloseCode::BadBatch,
    };
    Error::refused(code, message)
}

/// An entry of a batch, as it came and as it was verified.
#[derive(Clone, Copy)]
struct Arriving<'b> {
    entry: &'b BatchEntry,
    verified: &'b VerifiedEntry,
    nodes: &'b [Node],
}

impl WriterState {
    fn take_batch(&mut self, db: &Connection, batch: &mut Batch, show: bool) -> Result<Applied> {
        let device = batch.device;
        let log = logs::find_or_add(db, &device)?;
        let have = log.frontier.size();
        if batch.size() <= have {
            let fork = self.find_fork(db, &log, batch)?;
            if show {
                self.show(db)?;
            }
            return Ok(Applied { fork, ..Applied::nothing(device, have, self) });
        }
        let known = split_known(batch, have);
        // What the sections hold is checked as each is opened.
        let verified = match batch.verify_log(&self.shared.id, &log.frontier) {
            Ok(verified) => verified,
            Err(error) => {
                join_known(batch, known);
                let fork = self.find_fork(db, &log, batch)?;
                if fork.is_none() {
                    return Err(misfit(&log, batch, &error));
                }
                return Ok(Applied { fork, ..Applied::nothing(device, have, self) });
            }
        };
        let acks = self.store(db, log.log, batch, &verified)?;
        if show || !self.pending.may_grow() {
            self.show(db)?;
        }
        // Not while more is known to follow, which may be of the own log.
        if show {
            self.tend_recovery(db)?;
        }
        let (size, entries) = (verified.after.size(), verified.entries.len() as u64);
        let bytes = batch.entries.iter().map(BatchEntry::sealed_bytes).sum();
        self.news.grew(entries, bytes);
        Ok(Applied { device, size, entries, acks, lacks: self.wants(), fork: None })
    }

    fn store(
        &mut self,
        db: &Connection,
        log: LogId,
        batch: &Batch,
        verified: &VerifiedBatch,
    ) -> Result<Vec<Ack>> {
        let mut effects = Effects::default();
        let secrets = self.keyring.len();
        let mut next = transactions::next(db)?;
        std::thread::scope(|scope| {
            let mut ahead = Ahead::begin(scope, &self.keyring, log, batch, verified);
            let entries = batch.entries.iter().zip(&verified.entries);
            for ((entry, verified), nodes) in entries.zip(verified.nodes_by_entry()) {
                let arriving = Arriving { entry, verified, nodes };
                self.store_entry(db, (log, &mut next), arriving, &mut ahead, &mut effects)?;
                // However much one batch holds.
                if !self.pending.may_grow() {
                    self.show(db)?;
                }
                if self.keyring.len() > secrets {
                    ahead.stop();
                }
            }
            Ok::<_, Error>(())
        })?;
        if batch.first_seq == 1 {
            // There is room for another that the same devices name.
            for named in self.shared.vouched().values_mut() {
                named.remove(&batch.device);
            }
        }
        let last = verified.after.size();
        transactions::append(db, log, batch.first_seq, &verified.after, &batch.signature)?;
        let is_own = batch.device == self.device();
        if is_own {
            self.resume(&verified.after, verified.entries.iter().map(|entry| &entry.header));
        } else if let Some(entry) = verified.entries.last() {
            self.grown(batch.device, last, entry.hash);
        }
        self.news.secrets.heard();
        // What waited for a secret is tried again when documents are seen to.
        self.pending.retries |= self.keyring.len() > secrets;
        // An act may make count what is not here: that is not acknowledged.
        self.rejudge(db)?;
        let is_settled = self.settle_clearance(db)?;
        if (self.settle_erasures(db)? || is_settled) && !self.lacks() {
            return self.acknowledge(db);
        }
        if self.lacks() {
            // What was deleted in the meantime may have been all that was still wanted.
            self.show(db)?;
            if self.complete(db)? {
                self.retry_all(db)?;
                return self.acknowledge(db);
            }
        }
        // What is wanted is not held; nobody acknowledges what is its own.
        if is_own || self.missing.contains_key(&log) {
            return Ok(Vec::new());
        }
        let time_s = self.shared.env.now().0 / 1000;
        let ack = Ack::sign(&verified.checkpoint, self.device(), &self.shared.keys.ack, time_s);
        control::put_ack(db, &row_of(&ack))?;
        Ok(vec![ack])
    }

    fn store_entry<'b>(
        &mut self,
        db: &Connection,
        (log, next): (LogId, &mut transactions::Next),
        Arriving { entry, verified, nodes }: Arriving<'b>,
        ahead: &mut Ahead<'b>,
        effects: &mut Effects,
    ) -> Result<()> {
        let header = &verified.header;
        self.check_deps(db, header)?;
        if !header.is_genesis() {
            self.check_author(header)?;
            if header.seq == 1 {
                self.check_room(db, &header.device)?;
            }
        }
        let count = entry.commitments.len();
        let mut taken: Vec<Option<Taken<'_>>> =
            std::iter::repeat_with(|| None).take(count).collect();
        let mut opens_epoch = false;
        // The acts first: an entry that opens an epoch holds nothing else.
        for acts in [true, false] {
            let all = (0..).zip(&entry.commitments).zip(&entry.payloads).zip(&mut taken);
            for (((index, commitment), payload), taken) in all {
                if (commitment.class == Class::Control as u8) != acts {
                    continue;
                }
                let section = Incoming { log, index, verified, commitment, payload };
                *taken = Some(if acts {
                    self.take_act(db, section, &mut opens_epoch)?
                } else if opens_epoch && commitment.class == Class::Data as u8 {
                    section.check_payload()?;
                    let payload = if self.keyring.is_for(commitment, self.clearance) {
                        Cow::Borrowed(payload)
                    } else {
                        Cow::Owned(Payload::Missing)
                    };
                    Taken {
                        payload,
                        state: self.tally.void(VoidCause::Act, header.device),
                        about: None,
                    }
                } else if !self.keyring.is_for(commitment, self.clearance) {
                    // Whoever sends it all the same has not heard yet.
                    let payload = Cow::Owned(Payload::Missing);
                    Taken { payload, state: sections::State::Hidden, about: None }
                } else {
                    let opened = ahead.take(header.seq, index);
                    self.take_content(db, section, opened, effects)?
                });
            }
        }
        // The founder is enrolled by its own first act.
        if header.is_genesis() {
            self.check_author(header)?;
        }
        let taken: Vec<Taken<'_>> = taken.into_iter().flatten().collect();
        let sections: Vec<NewSection<'_>> = entry
            .commitments
            .iter()
            .zip(&taken)
            .map(|(commitment, Taken { payload, state, about })| NewSection {
                commitment,
                payload,
                state: *state,
                about: *about,
            })
            .collect();
        let new = entries::NewEntry {
            seq: header.seq,
            hash: &verified.hash,
            header: &entry.header,
            nodes,
            sections: &sections,
        };
        entries::insert(db, log, next, &new)?;
        self.note_step(header);
        self.note_named(db, log, header)
    }

    fn check_deps(&self, db: &Connection, header: &Header) -> Result<()> {
        check_deps(db, header, |named| {
            let (roster, author) = (&self.roster, header.device);
            let branch = roster.branch_of(&author);
            // Whom the founder let in speaks for itself, and not for what it let in.
            let by = if roster.is_founder(&branch) { author } else { branch };
            let may_vouch = roster.standing_at(header).is_some() && roster.branch_of(named) != by;
            if !may_vouch || !roster.may_have_log(named) {
                return;
            }
            let mut vouched = self.shared.vouched();
            let of_branch = vouched.entry(by).or_default();
            if of_branch.len() < LOGS_BRANCH_MAX {
                of_branch.insert(*named);
            }
        })
    }

    /// Whether there is room for the log of a device of which nothing is here. Whoever may let
    /// devices in could fill all of it with puppets, and nothing would be synced any more: so of
    /// one branch there is a bounded number, and beyond it what entries of others name. Whom the
    /// founder let in is bounded once that counts no more.
    fn check_room(&self, db: &Connection, new: &DeviceId) -> Result<()> {
        let branch = self.roster.branch_of(new);
        let of_founder = self.roster.is_founder(&branch);
        let is_bounded = |device: &DeviceId| !of_founder || self.roster.known(device).is_none();
        let mut held = logs::every(db)?;
        held.retain(|log| log.frontier.size() > 0);
        let is_alike =
            |log: &&Log| is_bounded(&log.device) && self.roster.branch_of(&log.device) == branch;
        let is_room = !is_bounded(new)
            || held.iter().filter(is_alike).count() < LOGS_BRANCH_MAX
            || self.shared.vouched().values().any(|named| named.contains(new));
        if is_room && held.len() < LOGS_MAX {
            return Ok(());
        }
        let message = format!("the log of {new}: too many were let in by {branch}, and by those");
        Err(Error::refused(CloseCode::Gap, message))
    }

    fn check_author(&self, header: &Header) -> Result<()> {
        self.roster.is_authorised(header).map_err(|reason| {
            let message = format!("entry {} of {}: {reason}", header.seq, header.device);
            // Its enrolment may stand in a history that is not held here.
            let is_unknown = reason == VoidReason::NotEnrolled && !self.stopped.is_empty();
            let code = if is_unknown { CloseCode::Gap } else { CloseCode::BadBatch };
            Error::refused(code, message)
        })
    }

    fn take_act<'p>(
        &mut self,
        db: &Connection,
        section: Incoming<'_, 'p>,
        opens_epoch: &mut bool,
    ) -> Result<Taken<'p>> {
        let header = &section.verified.header;
        let opening = match section.payload {
            Payload::Sealed(sealed) => {
                section.check(sealed)?;
                self.keyring.open(header, section.index, section.commitment, sealed)
            }
            Payload::Opened(_) => return Err(section.refuse("an act comes as it was sealed")),
            Payload::Missing => return Err(section.refuse(MISSING)),
        };
        let payload = Cow::Borrowed(section.payload);
        let Opening::Opened(opened) = opening else {
            let state = self.tally.void(VoidCause::Seal, header.device);
            return Ok(Taken { payload, state, about: None });
        };
        let state = match Act::read(section.commitment.class, &opened) {
            Err(_) => self.tally.void(VoidCause::Form, header.device),
            Ok(None) => sections::State::Kept,
            Ok(Some(act)) => {
                *opens_epoch |= matches!(act, Act::Epoch(_));
                let applied = self.take_in(db, section.log, header, section.index, &act)?;
                match applied {
                    Ok(()) => sections::State::Applied,
                    Err(_) => self.tally.void(VoidCause::Act, header.device),
                }
            }
        };
        self.clock = self.clock.observe(opened.metadata.clock, self.shared.env.now());
        Ok(Taken { payload, state, about: Some(about(&opened)) })
    }

    fn take_content<'p>(
        &mut self,
        db: &Connection,
        section: Incoming<'_, 'p>,
        opened: Option<Result<Option<Content<'p>>>>,
        effects: &mut Effects,
    ) -> Result<Taken<'p>> {
        let header = &section.verified.header;
        let content = opened.unwrap_or_else(|| open_content(&self.keyring, section))?;
        let Some((payload, opening)) = content else {
            let state = self.miss(db, &section)?;
            return Ok(Taken { payload: Cow::Owned(Payload::Missing), state, about: None });
        };
        let opened = match opening {
            Opening::Opened(opened) => *opened,
            Opening::NoSecret => {
                let place = Place { log: section.log, seq: header.seq, index: section.index };
                let at = (place, header.device, section.verified.hash);
                // Nobody could tell whether it is of something that is erased: if it counts one
                // day, it is wanted then.
                if self.without_bytes(at, section.commitment) == sections::State::Void {
                    let (payload, state) = (Cow::Owned(Payload::Missing), sections::State::Void);
                    return Ok(Taken { payload, state, about: None });
                }
                self.unread = true;
                return Ok(Taken { payload, state: sections::State::Waiting, about: None });
            }
            Opening::Void => {
                let state = self.tally.void(VoidCause::Seal, header.device);
                return Ok(Taken { payload, state, about: None });
            }
        };
        let Incoming { log, index, verified, commitment, .. } = section;
        let (device, seq) = (verified.header.device, verified.header.seq);
        let about = about(&opened);
        self.clock = self.clock.observe(about.clock, self.shared.env.now());
        let Some(band) = self.keyring.band(commitment) else {
            return Err(Error::Internal("a section that opened has no band".into()));
        };
        let (entry, clock) = (verified.hash, about.clock);
        let origin = Origin { log, device, seq, index, entry, clock, band };
        let is_content = commitment.class == Class::Data as u8;
        if is_content && self.is_erased(db, about.object.as_ref(), band)? {
            self.meet_erased(db, Place { log, seq, index }, &opened)?;
            let (payload, state) = (Cow::Owned(Payload::Missing), sections::State::Erased);
            return Ok(Taken { payload, state, about: Some(about) });
        }
        let state = if Act::read(commitment.class, &opened).is_err() {
            self.tally.void(VoidCause::Form, device)
        } else if !is_content {
            sections::State::Kept
        } else if let Some(why) = self.why_not_of(&origin, about.kind) {
            self.adopted.is_open = true;
            self.tally.void(why, device)
        } else if effects.admits((log, seq, band), &opened.body) {
            if DOCUMENT_KINDS.contains(&about.kind) {
                self.pending.push(origin, opened);
                sections::State::Applied
            } else {
                self.take_document(db, origin, opened, None, effects)?
            }
        } else {
            self.tally.void(VoidCause::Form, device)
        };
        Ok(Taken { payload, state, about: Some(about) })
    }

    /// A section without its bytes: wanted, unless the snapshot that is held here stands for it.
    fn miss(&mut self, db: &Connection, section: &Incoming<'_, '_>) -> Result<sections::State> {
        let Header { device, seq, .. } = section.verified.header;
        let place = Place { log: section.log, seq, index: section.index };
        let at = (place, device, section.verified.hash);
        let state = self.wanted_or_not(db, at, section.commitment)?;
        if state == sections::State::Missing {
            self.missing.entry(section.log).or_insert(seq);
            self.news.lacks |= !self.has_its_author(&device, section.commitment);
        }
        Ok(state)
    }
}

/// The bytes of a section that are kept, and what they open to.
type Content<'p> = (Cow<'p, Payload>, Opening);

/// Opens a section that is no act. One that came opened is sealed again where that is
/// possible: its author may have sealed something else than it committed to, and then it is
/// void for those who got it sealed. Who handed it on may not have been able to tell, so that
/// it counts as not sent. None: its bytes are not here.
fn open_content<'p>(keyring: &Keyring, section: Incoming<'_, 'p>) -> Result<Option<Content<'p>>> {
    let Incoming { index, verified, commitment, payload, .. } = section;
    let header = &verified.header;
    match payload {
        Payload::Missing => Ok(None),
        Payload::Sealed(sealed) => {
            section.check(sealed)?;
            let opening = keyring.open(header, index, commitment, sealed);
            Ok(Some((Cow::Borrowed(payload), opening)))
        }
        Payload::Opened(bytes) => {
            let opened = larder_log::open_carried(commitment, bytes)
                .map_err(|e| section.refuse(&e.to_string()))?;
            let resealed = keyring.reseal(header, index, commitment, &opened);
            let opening = Opening::Opened(Box::new(opened));
            Ok(match resealed {
                Resealed::Same(sealed) => Some((Cow::Owned(Payload::Sealed(sealed)), opening)),
                Resealed::NoSecret => Some((Cow::Borrowed(payload), opening)),
                Resealed::Other => None,
            })
        }
    }
}

/// A section of a batch.
#[derive(Clone, Copy)]
struct Incoming<'b, 'p> {
    log: LogId,
    index: u32,
    verified: &'b VerifiedEntry,
    commitment: &'b SectionCommitment,
    payload: &'p Payload,
}

impl Incoming<'_, '_> {
    /// Whether these are the bytes that the section's author committed to.
    fn check(&self, sealed: &[u8]) -> Result<()> {
        if self.commitment.is_of(sealed) {
            return Ok(());
        }
        Err(self.refuse(&SectionError::NotCommitted.to_string()))
    }

    /// The same for a section that is not opened.
    fn check_payload(&self) -> Result<()> {
        match self.payload {
            Payload::Missing => Ok(()),
            Payload::Sealed(sealed) => self.check(sealed),
            Payload::Opened(bytes) => larder_log::open_carried(self.commitment, bytes)
                .map(drop)
                .map_err(|e| self.refuse(&e.to_string())),
        }
    }

    fn refuse(&self, reason: &str) -> Error {
        let Header { device, seq, .. } = &self.verified.header;
        let message = format!("section {} of entry {seq} of {device}: {reason}", self.index);
        Error::refused(CloseCode::BadBatch, message)
    }
}

/// What a section came to.
struct Taken<'p> {
    payload: Cow<'p, Payload>,
    state: sections::State,
    about: Option<About>,
}

// Who lacks an act cannot judge what comes after it.
const MISSING: &str = "the bytes of an act are missing";

/// Every entry is applied after those that it names. What it names of a log with two histories
/// counts as met: its author may hold the other one, and does not lie for that.
fn check_deps(db: &Connection, header: &Header, vouch: impl Fn(&DeviceId)) -> Result<()> {
    for dep in &header.deps {
        let held = match logs::find(db, &dep.device)? {
            Some(log) if log.stopped.is_some() => continue,
            Some(log) if dep.seq <= log.frontier.size() => entries::hash(db, log.log, dep.seq)?,
            _ => None,
        };
        match held {
            Some(hash) if hash == dep.entry => {}
            Some(_) => {
                let message = format!(
                    "entry {} of {} builds on another history of {}",
                    header.seq, header.device, dep.device
                );
                // Of two that are honest one has a proof by now, and tells the other.
                return Err(Error::refused(CloseCode::Gap, message));
            }
            None => {
                vouch(&dep.device);
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
