//! What a sync session asks of storage, answered from a read connection.

use std::sync::Arc;

use larder_log::ack::Ack;
use larder_log::{Band, Batch, BatchEntry, Class, Header, Payload};
use larder_protocol::{Position, Reply};
use larder_store::space::logs::LogId;
use larder_store::space::sections::Place;
use larder_store::space::transactions::Walk;
use larder_store::space::{control, logs, sections, transactions};
use larder_types::limits::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX};
use larder_types::{DeviceId, EpochId, TransportId};
use rusqlite::Connection;

use crate::clearance::cleared_for;
use crate::keyring::Opening;
use crate::space::{Published, Space};
use crate::{Error, Result};

impl Space {
    pub(crate) fn ack_of(&self, ack: &control::Ack) -> Ack {
        let control::Ack { acker, device, size, root, time_s, signature } = *ack;
        Ack { acker, space: self.id(), device, size, root, time_s, signature }
    }

    /// The next run of entries that the peer lacks: of one log, under one checkpoint, from one
    /// transaction or from several that follow each other here.
    pub(crate) fn read_batch(
        &self,
        peer: &TransportId,
        after: Position,
        have: impl Iterator<Item = (DeviceId, u64)>,
        epochs: &[EpochId],
        bytes_target: usize,
    ) -> Result<Reply> {
        let none = Reply::Batch { position: after, batch: None };
        let Some(peer) = self.member_peer(peer, epochs)? else { return Ok(none) };
        let db = self.shared.pool.reader()?;
        let mut walk = Walk::new(&db, have)?;
        walk.skip_to(i64::try_from(after.0).unwrap_or(i64::MAX));
        let Some((first, from_seq)) = walk.next(&db)? else { return Ok(none) };
        let mut batch = transactions::batch(&db, &first, from_seq)?;
        peer.open_for(&mut batch)?;
        let mut last = first;
        let mut bytes = bytes_of(&batch);
        while bytes < bytes_target {
            let Some((next, from)) = walk.next(&db)? else { break };
            let count = batch.entries.len() as u64 + (next.last_seq - next.first_seq) + 1;
            if next.log != last.log || from != last.last_seq + 1 || count > LIMIT {
                break;
            }
            let mut more = transactions::batch(&db, &next, from)?;
            peer.open_for(&mut more)?;
            bytes = bytes.saturating_add(bytes_of(&more));
            // One transaction fits into a frame; a small one before it might be too much.
            if bytes > GROUP_BYTES_MAX {
                break;
            }
            batch.entries.extend(more.entries);
            batch.signature = more.signature;
            last = next;
        }
        // It has grown no less by now than what was read before.
        if let Some(log) = logs::find(&db, &batch.device)? {
            self.shared.is_shown(&db, &log)?;
        }
        let position = Position(u64::try_from(last.position).unwrap_or_default());
        Ok(Reply::Batch { position, batch: Some(Box::new(batch)) })
    }

    /// Whether the device behind a transport key is enrolled and may read.
    pub(crate) fn may_read(&self, peer: &TransportId) -> Result<bool> {
        Ok(self.reading_peer(peer, &[])?.is_some())
    }

    /// The device behind a transport key, if it may read, and up to which band.
    pub(crate) fn reading_peer<'e>(
        &self,
        peer: &TransportId,
        epochs: &'e [EpochId],
    ) -> Result<Option<(Peer<'e>, Band)>> {
        let peer = self.member_peer(peer, epochs)?;
        Ok(peer.and_then(|peer| peer.clearance.map(|up_to| (peer, up_to))))
    }

    /// The device behind a transport key, an auditor's too. One that joined again after its first
    /// joining was cut short is enrolled twice: it counts as both.
    fn member_peer<'e>(
        &self,
        peer: &TransportId,
        epochs: &'e [EpochId],
    ) -> Result<Option<Peer<'e>>> {
        // Not even a copy of this profile, which has the same keys.
        if self.shared.stays_here() {
            return Ok(None);
        }
        let published = self.shared.published()?;
        let (mut devices, mut clearance) = (Vec::new(), Some(Band::Red));
        for (id, device) in published.roster.devices() {
            if device.keys.transport == *peer {
                devices.push(*id);
                clearance = clearance.min(cleared_for(&published.roster, id));
            }
        }
        let peer = Peer { published, devices, clearance, epochs, lacks: false };
        Ok((!peer.devices.is_empty()).then_some(peer))
    }
}

/// Who is sent a batch.
pub(crate) struct Peer<'e> {
    published: Arc<Published>,
    devices: Vec<DeviceId>,
    /// The highest band that it may read; none if it is an auditor's.
    clearance: Option<Band>,
    /// The epochs whose secrets it says it has.
    epochs: &'e [EpochId],
    /// Whether it may have been given others for which it holds no secret all the same.
    lacks: bool,
}

impl Peer<'_> {
    /// Whether it is this device, by one of its enrolments.
    pub(crate) fn is(&self, device: &DeviceId) -> bool {
        self.devices.contains(device)
    }

    /// Whether its log has two histories.
    pub(crate) fn is_forked(&self) -> bool {
        self.devices.iter().any(|device| self.published.stopped.contains(device))
    }

    /// Whether it has this epoch's secrets up to its clearance, or gets them with the act that
    /// opens the epoch. An act in a log with two histories may never reach it.
    fn has(&self, epoch: &EpochId) -> bool {
        let Published { roster, stopped, .. } = &*self.published;
        let named = roster.epochs().find(|(id, _)| *id == epoch);
        self.epochs.contains(epoch)
            || !self.lacks
                && named.is_some_and(|(_, epoch)| {
                    !stopped.contains(&epoch.opened_by.device)
                        && self.devices.iter().all(|device| {
                            epoch
                                .recipients
                                .get(device)
                                .is_some_and(|up_to| Some(*up_to) >= self.clearance)
                        })
                })
    }

    /// It asks for what is lacking there: only the secrets that it named count.
    pub(crate) fn lacking(self) -> Self {
        Self { lacks: true, ..self }
    }

    /// Whether a section of entry `seq` stays shut though its secret is here, or was.
    pub(crate) fn is_void(
        &self,
        db: &Connection,
        log: LogId,
        seq: u64,
        entry: &BatchEntry,
    ) -> Result<bool> {
        let header = Header::decode(&entry.header)
            .map_err(|e| Error::Corrupt(format!("the header of an entry: {e}")))?;
        let keyring = &self.published.keyring;
        for (index, (commitment, payload)) in
            (0..).zip(entry.commitments.iter().zip(&entry.payloads))
        {
            let Payload::Sealed(sealed) = payload else { continue };
            if commitment.class != Class::Data as u8 {
                continue;
            }
            let is_void = match keyring.open(&header, index, commitment, sealed) {
                Opening::Opened(_) => false,
                Opening::Void => true,
                Opening::NoSecret => {
                    let section = sections::find(db, Place { log, seq, index })?;
                    section.is_some_and(|section| section.state == sections::State::Void)
                }
            };
            if is_void {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the sections that it has no secret for, and leaves out those above its clearance.
    pub(crate) fn open_for(&self, batch: &mut Batch) -> Result<()> {
        let mut known = None;
        for (entry, seq) in batch.entries.iter_mut().zip(batch.first_seq..) {
            let header = Header::decode(&entry.header)
                .map_err(|e| Error::Corrupt(format!("entry {seq} of {}: {e}", batch.device)))?;
            let has = match known {
                Some((epoch, has)) if epoch == header.epoch => has,
                _ => self.has(&header.epoch),
            };
            known = Some((header.epoch, has));
            let keyring = &self.published.keyring;
            for (index, (commitment, payload)) in
                (0..).zip(entry.commitments.iter().zip(&mut entry.payloads))
            {
                if !keyring.is_for(commitment, self.clearance) {
                    *payload = Payload::Missing;
                }
                let Payload::Sealed(sealed) = &*payload else { continue };
                if has || commitment.class != Class::Data as u8 {
                    continue;
                }
                if let Some(carried) = keyring.carry(&header, index, commitment, sealed) {
                    *payload = Payload::Opened(carried);
                }
            }
        }
        Ok(())
    }
}

/// About what a batch takes in a frame, if its sections go sealed: so much they may take in memory.
fn bytes_of(batch: &Batch) -> usize {
    let entry = |entry: &BatchEntry| {
        let sealed = usize::try_from(entry.sealed_bytes()).unwrap_or(usize::MAX);
        sealed.saturating_add(entry.header.len() + entry.payloads.len() * COMMITMENT_BYTES)
    };
    batch.entries.iter().map(entry).fold(0, usize::saturating_add)
}

/// A section's commitment, with what encodes it and its bytes.
const COMMITMENT_BYTES: usize = 128;
const GROUP_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;
const LIMIT: u64 = BATCH_ENTRIES_MAX as u64;
