//! Pruning: the devices of a space state what its entries came to, and once all have, the bytes of
//! those entries go.
//!
//! Invariants: bytes go only of sections that an accepted snapshot covers whose leaves are here, in
//! entries that are stable; headers, commitments, checkpoints and acts never go. Each step is one
//! transaction, and goes on where it was cut.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::roster::Roster;
use larder_log::snapshot::{LogEnd, SnapshotAct};
use larder_log::stability::{Named, held_by_all, stable};
use larder_log::{Header, kind, merkle};
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::sections::Droppable;
use larder_store::space::snapshots::{self, Snapshot};
use larder_store::space::{control, entries, sections};
use larder_types::limits::PRUNE_SECTIONS_MAX;
use larder_types::{DeviceId, Hash};
use rusqlite::Connection;

use crate::model::{PruneStatus, Pruned};
use crate::snapshot::{Computed, NotNow, compute};
use crate::space::Space;
use crate::state::State as WriterState;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

#[cfg(test)]
pub(crate) mod tests;

/// Snapshots that are computed in order to find one to be taken over: each takes time in proportion
/// to the entries that it covers.
const TAKE_OVER_TRIES_MAX: usize = 3;
/// Headers looked at between two looks at the database.
const PAGE: u64 = 1024;

impl SpaceWriter {
    /// Goes as far with pruning as can be gone now: states the snapshots that others have stated
    /// and this device finds the same; takes over the one that all devices agree on; drops the
    /// bytes that it stands for; and then, with `propose`, states one of all that is here, if there
    /// is something left to gain. `progress` is told how many sections were dropped so far.
    ///
    /// Devices that have nothing to say yet make it wait: sync with them, and call it there.
    ///
    /// # Errors
    /// The storage's errors. What was dropped before stays dropped.
    pub fn prune(&mut self, propose: bool, progress: &mut dyn FnMut(u64)) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        // What was agreed on goes first: what is gone is not to be gained by stating it once more.
        for proposes in [false, true] {
            if proposes && !propose {
                break;
            }
            pruned.stated += self.transact(|tx, state| state.settle_prune(tx, proposes))?;
            loop {
                let (dropped, bytes) = self.transact(|tx, state| state.drop_some(tx))?;
                if dropped == 0 {
                    break;
                }
                pruned.sections += dropped;
                pruned.bytes += bytes;
                progress(pruned.sections);
            }
        }
        Ok(pruned)
    }

    /// Appends an entry without sections, if the own log does not name yet all that is here: by it
    /// the other devices learn that this one has nothing else to say about that. Whether it did.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn heartbeat(&mut self) -> Result<bool> {
        self.transact(|tx, state| {
            let is_due = state.has_unnamed() && state.roster.device(&state.device()).is_some();
            if is_due {
                state.append(tx, &[], None, None)?;
                state.sign(tx)?;
            }
            Ok(is_due)
        })
    }
}

impl Space {
    /// How far the space could be pruned, and what that waits for. Takes time in proportion to the
    /// entries that could be.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn prune_status(&self) -> Result<PruneStatus> {
        let db = self.shared.pool.reader()?;
        let published = self.shared.published()?;
        let roster = &published.roster;
        let held = snapshots::in_state(&db, snapshots::State::Held)?;
        let statements = statements(&db)?;
        let of_own = |statement: &&Statement| statement.author == self.device();
        let newest = statements.iter().rev().find(of_own);
        let waits_for = newest.map_or_else(BTreeSet::new, |newest| {
            let id = newest.act.id();
            let stated = statements.iter().filter(|statement| statement.act.id() == id);
            let stated: BTreeSet<DeviceId> = stated.map(|statement| statement.author).collect();
            roster.asked_for(&newest.act).difference(&stated).copied().collect()
        });
        let stable = stable_ends(&db, roster, self.device(), &mut |_, _| Ok(()))?;
        let mut status = PruneStatus {
            covered: held.as_ref().map_or(0, |held| sum(&held.act)),
            stable: stable.values().sum(),
            waits_for: waits_for.into_iter().collect(),
            ..PruneStatus::default()
        };
        for log in logs::every(&db)? {
            let size = log.frontier.size();
            let Droppable { sections, bytes } = sections::droppable(&db, log.log, size)?;
            status.sections += sections;
            status.bytes += bytes;
        }
        Ok(status)
    }
}

fn sum(act: &SnapshotAct) -> u64 {
    act.frontier.iter().map(|end| end.size).sum()
}

/// Who stated which snapshot.
pub(crate) struct Statement {
    pub(crate) author: DeviceId,
    pub(crate) act: SnapshotAct,
}

/// All statements, in the order in which they came.
pub(crate) fn statements(db: &Connection) -> Result<Vec<Statement>> {
    let devices: BTreeMap<_, _> =
        logs::every(db)?.into_iter().map(|log| (log.log, log.device)).collect();
    let mut statements = Vec::new();
    for stored in control::acts_of_kind(db, kind::SNAPSHOT)? {
        let author = devices.get(&stored.place.log).copied();
        if let (Some(author), Ok(Some(Act::Snapshot(act)))) =
            (author, Act::from_body(stored.kind, &stored.body))
        {
            statements.push(Statement { author, act });
        }
    }
    Ok(statements)
}

/// The snapshots that every device asked for has stated alike, and of which all entries are here.
pub(crate) fn accepted(db: &Connection, roster: &Roster) -> Result<Vec<SnapshotAct>> {
    let mut stated: BTreeMap<Hash, (SnapshotAct, BTreeSet<DeviceId>)> = BTreeMap::new();
    for Statement { author, act } in statements(db)? {
        stated.entry(act.id()).or_insert_with(|| (act, BTreeSet::new())).1.insert(author);
    }
    let mut accepted = Vec::new();
    for (act, authors) in stated.into_values() {
        let asked = roster.asked_for(&act);
        if !asked.is_empty() && asked.is_subset(&authors) && is_here(db, &act)? {
            accepted.push(act);
        }
    }
    Ok(accepted)
}

/// Of accepted snapshots the one that includes the most.
pub(crate) fn widest(accepted: Vec<SnapshotAct>) -> Option<SnapshotAct> {
    accepted.into_iter().max_by_key(|act| (sum(act), act.id()))
}

/// Whether all entries that a snapshot covers are here, in the history that it is of.
fn is_here(db: &Connection, act: &SnapshotAct) -> Result<bool> {
    for end in &act.frontier {
        let Some(log) = logs::find(db, &end.device)? else { return Ok(false) };
        if end.size > log.frontier.size()
            || merkle::root_at(&Tree::new(db, log.log), end.size)? != end.root
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How far each log is stable. What was looked at is handed to `keep`.
fn stable_ends(
    db: &Connection,
    roster: &Roster,
    me: DeviceId,
    keep: &mut dyn FnMut(&Log, &Named) -> Result<()>,
) -> Result<BTreeMap<DeviceId, u64>> {
    let logs: BTreeMap<DeviceId, Log> =
        logs::every(db)?.into_iter().map(|log| (log.device, log)).collect();
    let size_of = |device: &DeviceId| logs.get(device).map_or(0, |log| log.frontier.size());
    let acks: BTreeMap<(DeviceId, DeviceId), u64> =
        control::acks(db)?.into_iter().map(|ack| ((ack.acker, ack.device), ack.size)).collect();
    let has_spoken = |device: &DeviceId| {
        *device == me || size_of(device) > 0 || acks.keys().any(|(acker, _)| acker == device)
    };
    let reading = roster.devices().filter(|(_, device)| device.role.may_read());
    let holders: BTreeSet<DeviceId> =
        reading.map(|(id, _)| *id).filter(|id| has_spoken(id)).collect();
    let held = |holder: &DeviceId, log: &DeviceId| {
        if *holder == me { size_of(log) } else { acks.get(&(*holder, *log)).copied().unwrap_or(0) }
    };
    let mut writers = BTreeMap::new();
    for (device, record) in roster.devices().filter(|(_, device)| device.role.may_write()) {
        let named = match logs.get(device).filter(|_| has_spoken(device)) {
            Some(log) => {
                let end = held_by_all(device, &holders, held).min(log.frontier.size());
                let named = named_up_to(db, log, end)?;
                keep(log, &named)?;
                named
            }
            None => match record.enrolled_by.iter().find(|dep| dep.seq <= size_of(&dep.device)) {
                Some(dep) => match logs.get(&dep.device) {
                    Some(log) => {
                        let by = named_up_to(db, log, dep.seq)?;
                        Named::of_newcomer(dep.device, dep.seq, &by)
                    }
                    None => Named::default(),
                },
                None => Named::default(),
            },
        };
        writers.insert(*device, named);
    }
    Ok(stable(&writers))
}

/// What the first `end` entries of a log name of the others.
fn named_up_to(db: &Connection, log: &Log, end: u64) -> Result<Named> {
    let mut named = snapshots::named(db, log.log)?;
    // Less than was looked at before: a device has come that holds less.
    if named.size() > end {
        named = Named::default();
    }
    while named.size() < end {
        let first = named.size() + 1;
        for entry in entries::range(db, log.log, first, end.min(named.size() + PAGE))? {
            let header = Header::decode(&entry.header).ok();
            if !header.is_some_and(|header| named.take(&header)) {
                let message = format!("the header of entry {} cannot be read", entry.seq);
                return Err(Error::Corrupt(message));
            }
        }
        if named.size() + 1 == first {
            return Err(Error::Corrupt(format!("{} lacks entry {first}", log.device)));
        }
    }
    Ok(named)
}

impl WriterState {
    /// States what can be stated and takes over what is agreed on. Returns how much was stated.
    fn settle_prune(&mut self, db: &Connection, proposes: bool) -> Result<u64> {
        if self.roster.device(&self.device()).is_none() {
            return Ok(0);
        }
        self.take_over(db)?;
        let stated = if proposes { u64::from(self.propose(db)?) } else { self.agree(db)? };
        if stated > 0 {
            self.take_over(db)?;
            self.sign(db)?;
        }
        Ok(stated)
    }

    /// States the snapshots that other devices stated and this one finds the same. Returns how
    /// many.
    fn agree(&mut self, db: &Connection) -> Result<u64> {
        let me = self.device();
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let statements = statements(db)?;
        let mut done: BTreeSet<Hash> =
            statements.iter().filter(|s| s.author == me).map(|s| s.act.id()).collect();
        let mut count = 0;
        for Statement { author, act } in statements {
            let is_asked = self.roster.asked_for(&act).contains(&me);
            let is_newer =
                held.as_ref().is_none_or(|held| act.includes(&held.act) && act != held.act);
            if author == me || !is_asked || !is_newer || !done.insert(act.id()) {
                continue;
            }
            let computed = compute(db, &self.keyring, held.as_ref(), act.frontier.clone())?;
            if computed.is_ok_and(|computed| computed.act == act) {
                self.append_act(db, &Act::Snapshot(act))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// States a snapshot of all that is here, if bytes could go by it and this device has not
    /// stated one yet that waits for others.
    pub(crate) fn propose(&mut self, db: &Connection) -> Result<bool> {
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let held_entries = held.as_ref().map_or(0, |held| sum(&held.act));
        let me = self.device();
        let waits = statements(db)?
            .into_iter()
            .any(|statement| statement.author == me && sum(&statement.act) > held_entries);
        if waits {
            return Ok(false);
        }
        let frontier = self.proposable(db)?;
        let includes = held.as_ref().is_none_or(|held| {
            let size = |device: &DeviceId| {
                frontier.iter().find(|end| end.device == *device).map_or(0, |end| end.size)
            };
            held.act.frontier.iter().all(|end| end.size <= size(&end.device))
        });
        let mut gain = 0;
        for end in &frontier {
            if let Some(log) = logs::find(db, &end.device)? {
                // What is agreed on goes anyway, perhaps not yet.
                let agreed = held.as_ref().map_or(0, |held| held.act.size_of(&end.device));
                gain += sections::droppable(db, log.log, end.size)?.sections;
                gain -= sections::droppable(db, log.log, agreed.min(end.size))?.sections;
            }
        }
        if !includes || gain == 0 {
            return Ok(false);
        }
        match compute(db, &self.keyring, held.as_ref(), frontier)? {
            Ok(Computed { act, .. }) => {
                self.append_act(db, &Act::Snapshot(act))?;
                Ok(true)
            }
            Err(NotNow::NotHere | NotNow::NotCausal | NotNow::Unsettled | NotNow::Unclear) => {
                Ok(false)
            }
        }
    }

    /// Where all logs end here; but below the enrolment of a device that nothing was heard of yet,
    /// so that it need not be waited for.
    fn proposable(&self, db: &Connection) -> Result<Vec<LogEnd>> {
        let logs = logs::every(db)?;
        let acks = control::acks(db)?;
        let mut caps: BTreeMap<DeviceId, u64> = BTreeMap::new();
        for (device, record) in self.roster.devices() {
            let has_spoken = *device == self.device()
                || acks.iter().any(|ack| ack.acker == *device)
                || logs.iter().any(|log| log.device == *device && log.frontier.size() > 0);
            if has_spoken || !record.role.may_read() {
                continue;
            }
            for dep in &record.enrolled_by {
                let Some(log) = logs.iter().find(|log| log.device == dep.device) else { continue };
                let before = named_up_to(db, log, dep.seq.saturating_sub(1))?;
                for log in &logs {
                    let cap = if log.device == dep.device {
                        before.size()
                    } else {
                        before.of(&log.device)
                    };
                    let known = caps.entry(log.device).or_insert(cap);
                    *known = cap.min(*known);
                }
            }
        }
        let mut frontier = Vec::new();
        for log in logs {
            let cap = caps.get(&log.device).copied().unwrap_or(u64::MAX);
            let size = log.frontier.size().min(cap);
            if size > 0 && log.stopped.is_none() {
                let root = merkle::root_at(&Tree::new(db, log.log), size)?;
                frontier.push(LogEnd { device: log.device, size, root });
            }
        }
        frontier.sort_by_key(|end| end.device);
        Ok(frontier)
    }

    /// Puts the snapshot that all devices agree on in the place of the one before it, if this
    /// device computes the same.
    pub(crate) fn take_over(&mut self, db: &Connection) -> Result<bool> {
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let mut accepted = accepted(db, &self.roster)?;
        accepted.retain(|act| {
            held.as_ref().is_none_or(|held| act.includes(&held.act) && held.act != *act)
        });
        accepted.sort_by_cached_key(|act| (sum(act), act.id()));
        // The widest that this device finds the same; what it does not find so stops no other.
        let mut found = None;
        for act in accepted.into_iter().rev().take(TAKE_OVER_TRIES_MAX) {
            let computed = compute(db, &self.keyring, held.as_ref(), act.frontier.clone())?;
            if let Ok(computed) = computed
                && computed.act == act
            {
                found = Some((act, computed));
                break;
            }
        }
        let Some((act, computed)) = found else { return Ok(false) };
        if let Some(half) = snapshots::in_state(db, snapshots::State::Receiving)? {
            snapshots::remove(db, half.snapshot)?;
        }
        let snapshot = match held {
            Some(Snapshot { snapshot, .. }) => snapshot,
            None => snapshots::add(db, snapshots::State::Held, &act)?,
        };
        computed.delta.write(db, snapshot)?;
        snapshots::set(db, snapshot, snapshots::State::Held, &act, &computed.tree)?;
        Ok(true)
    }

    /// Drops the bytes of some sections that may go: how many, and how many bytes.
    fn drop_some(&mut self, db: &Connection) -> Result<(u64, u64)> {
        let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else {
            return Ok((0, 0));
        };
        let roster = &self.roster;
        let ends = stable_ends(db, roster, self.device(), &mut |log, named| {
            Ok(snapshots::set_named(db, log.log, named)?)
        })?;
        let stable = |end: &LogEnd| ends.get(&end.device).is_some_and(|size| *size >= end.size);
        if !held.act.frontier.iter().all(stable) {
            return Ok((0, 0));
        }
        for end in &held.act.frontier {
            let Some(log) = logs::find(db, &end.device)? else { continue };
            let before = sections::droppable(db, log.log, end.size)?;
            if before.sections > 0 {
                let dropped = sections::drop_bytes(db, log.log, end.size, PRUNE_SECTIONS_MAX)?;
                let after = sections::droppable(db, log.log, end.size)?;
                return Ok((dropped, before.bytes - after.bytes));
            }
        }
        Ok((0, 0))
    }
}
