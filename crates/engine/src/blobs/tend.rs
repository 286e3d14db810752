//! What no document names any more goes, once nobody can be about to name it.

use larder_store::space::blobs::{self as table, Due};
use larder_store::space::{control, logs};
use larder_types::Timestamp;
use larder_types::limits::{BLOB_GRACE_MS, BLOB_LEASE_MS};
use rusqlite::Connection;
use serde::Serialize;

use crate::Result;
use crate::state::State as WriterState;
use crate::writer::SpaceWriter;

/// What a collection removed from this device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Chunks.
    pub chunks: u64,
    /// Their sealed bytes.
    pub bytes: u64,
    /// Blobs left alone, though no document names them: they were added lately, and whoever added
    /// them has yet to name them.
    pub fresh: u64,
}

impl SpaceWriter {
    /// Removes chunks of blobs that no document names, if all other devices have long seen that
    /// none does. The façade does it whenever a space is opened.
    ///
    /// A device that is alone in its space never removes any by itself: there is no clock but its
    /// own to tell it that the time has come.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn tend_blobs(&mut self) -> Result<Collected> {
        self.collect_due(WriterState::due)
    }

    /// Removes from this device, now, all chunks of blobs that no document here names: because a
    /// person wants it. A document that still comes and names one brings it back, as long as some
    /// device has it. A blob that was added and never named is left alone while the process that
    /// added it has the space open, and for [`BLOB_LEASE_MS`] from the next opening on.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn collect_blobs(&mut self) -> Result<Collected> {
        self.collect_due(|state, _| {
            let now = state.shared.env.now().max(state.clock.wall);
            Ok(Some(Due { before: END_OF_TIME, at: i64::MAX, leased_until: now }))
        })
    }

    /// What an earlier process added and did not name is somebody's for a while still: a person may
    /// add in one command and name in the next.
    pub(crate) fn end_leases(&mut self) -> Result<()> {
        if !table::has_left_leases(&*self.shared.pool.reader()?)? {
            return Ok(());
        }
        self.record(|tx, state| {
            let now = state.shared.env.now().max(state.clock.wall).0;
            Ok(table::end_leases(tx, Timestamp(now.saturating_add(BLOB_LEASE_MS)))?)
        })
    }

    /// In transactions of bounded size.
    fn collect_due(
        &mut self,
        due: impl Fn(&WriterState, &Connection) -> Result<Option<Due>>,
    ) -> Result<Collected> {
        let mut collected = Collected::default();
        if !table::has_unnamed(&*self.shared.pool.reader()?)? {
            return Ok(collected);
        }
        let mut fresh = 0;
        loop {
            let (chunks, bytes) = self.record(|tx, state| {
                // Marks are taken back in the same transaction that looks at them. A clock that
                // fell back must not make a mark old at once.
                let now = state.shared.env.now().max(state.clock.wall);
                table::mark_unnamed(tx, now)?;
                fresh = table::leased(tx, now)?;
                match due(state, tx)? {
                    Some(due) => Ok(table::collect(tx, due, CHUNKS_AT_ONCE)?),
                    None => Ok((0, 0)),
                }
            })?;
            collected.fresh = fresh;
            collected.chunks += chunks;
            collected.bytes += bytes;
            if chunks == 0 {
                return Ok(collected);
            }
        }
    }
}

impl WriterState {
    /// What every other device that reads has acknowledged, and the time by the lower of the own
    /// clock and the latest that another one of those claims: one wrong clock must never remove
    /// anything.
    fn due(&self, db: &Connection) -> Result<Option<Due>> {
        let me = self.device();
        let acks = control::acks(db)?;
        let others: Vec<_> = self
            .roster
            .devices()
            .filter(|(id, device)| **id != me && device.role.may_read())
            .map(|(id, _)| *id)
            .collect();
        let witnesses = acks.iter().filter(|ack| others.contains(&ack.acker));
        let latest = witnesses.map(|ack| ack.time_s).max();
        let Some(latest) = latest else { return Ok(None) };
        let now = self.shared.env.now().0.min(latest.saturating_mul(1000));
        let before = Timestamp(now.saturating_sub(BLOB_GRACE_MS));
        let mut at = i64::MAX;
        for log in logs::every(db)? {
            // Whoever wrote a log holds it.
            for other in others.iter().filter(|other| **other != log.device) {
                let acked = |ack: &&control::Ack| ack.acker == *other && ack.device == log.device;
                let size = acks.iter().find(acked).map_or(0, |ack| ack.size);
                if let Some(position) = table::position_within(db, log.log, size)? {
                    at = at.min(position);
                }
            }
        }
        Ok(Some(Due { before, at, leased_until: END_OF_TIME }))
    }
}

const END_OF_TIME: Timestamp = Timestamp(i64::MAX.unsigned_abs());

/// A chunk is at most 1 MiB.
const CHUNKS_AT_ONCE: u32 = 32;
