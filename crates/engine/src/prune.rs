//! Pruning: the devices of a space state what its entries came to, and once all have, the bytes of
//! those entries go.
//!
//! Invariants: bytes go only of sections that an accepted snapshot covers whose leaves are here, in
//! entries that are stable; headers, commitments, checkpoints and acts never go. Each step is one
//! short transaction, and what is cut goes on where it was.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::roster::{Device, Roster};
use larder_log::snapshot::{BandTree, SnapshotAct};
use larder_log::stability::{Named, held_by_all, stable};
use larder_log::{Band, kind, merkle};
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::sections::Droppable;
use larder_store::space::snapshots;
use larder_store::space::{control, sections};
use larder_types::{DeviceId, Hash};
use rusqlite::Connection;

use crate::aside::{Exempt, asked_for, set_aside};
use crate::model::PruneStatus;
use crate::named::{LookedAt, go_on, named_up_to};
use crate::space::Space;
use crate::state::State as WriterState;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

pub use self::steps::Pruning;
use self::steps::{is_blocked, is_wider};
pub(crate) use self::watch::News;
pub use self::watch::PrunePolicy;

impl SpaceWriter {
    /// Appends an entry without sections, if the own log does not name yet all that is here: by it
    /// the other devices learn that this one has nothing else to say about that. Whether it did.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn heartbeat(&mut self) -> Result<bool> {
        self.transact(|tx, state| {
            let is_due = state.has_unnamed() && state.roster.device(&state.device()).is_some();
            if is_due {
                state.append_nothing(tx)?;
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
        let statements = statements(&db, roster)?;
        let of_own = |statement: &&Statement| statement.author == self.device();
        // One that does not include what is held will not be agreed on any more.
        let is_open = |newest: &&Statement| is_wider(&newest.act, held.as_ref());
        let newest = statements.iter().rev().find(of_own).filter(is_open);
        let waits_for = newest.map_or(Ok(BTreeSet::new()), |newest| {
            let id = newest.act.id();
            let stated = statements.iter().filter(|statement| statement.act.id() == id);
            let stated: BTreeSet<DeviceId> = stated.map(|statement| statement.author).collect();
            let asked = asked_for(&db, roster, &Exempt::read(&db, roster)?, &newest.act)?;
            if is_blocked(&db, roster, &newest.act, &statements)? {
                // By itself only that one proposes what takes its place; by hand anyone may.
                let is_by_hand = self.shared.profile.prunes == PrunePolicy::ByHand;
                let one = asked.first().filter(|it| !is_by_hand && **it != self.device());
                return Ok(one.into_iter().copied().collect());
            }
            Ok::<_, Error>(asked.difference(&stated).copied().collect())
        })?;
        let stable = stable_ends(&db, roster, self.device(), &mut LookedAt::new())?;
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

#[cfg(any(test, feature = "testing"))]
impl Space {
    /// All snapshots that were agreed on, those too in whose place others are by now.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn agreed_snapshots(&self) -> Result<Vec<SnapshotAct>> {
        let db = self.shared.pool.reader()?;
        let published = self.shared.published()?;
        accepted(&db, &published.roster, published.clearance)
    }

    /// The snapshot that stands for what was dropped here.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn held_snapshot(&self) -> Result<Option<SnapshotAct>> {
        let held = snapshots::in_state(&*self.shared.pool.reader()?, snapshots::State::Held)?;
        Ok(held.map(|held| held.act))
    }

    /// Whether all entries that a snapshot covers are here, with or without their bytes.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn has_entries_of(&self, act: &SnapshotAct) -> Result<bool> {
        is_here(&*self.shared.pool.reader()?, act)
    }
}

fn sum(act: &SnapshotAct) -> u64 {
    act.frontier.iter().map(|end| end.size).sum()
}

/// Who stated which snapshot.
pub(crate) struct Statement {
    pub(crate) author: DeviceId,
    /// In which entry of its log.
    pub(crate) seq: u64,
    pub(crate) act: SnapshotAct,
}

/// All statements that count, in the order in which they came: of whoever might read there, and as
/// far as it was cleared there. What it says of the bands above is not its to say.
pub(crate) fn statements(db: &Connection, roster: &Roster) -> Result<Vec<Statement>> {
    let devices: BTreeMap<_, _> =
        logs::every(db)?.into_iter().map(|log| (log.log, log.device)).collect();
    let mut statements = Vec::new();
    for stored in control::acts_of_kind(db, kind::SNAPSHOT)? {
        let Some(author) = devices.get(&stored.place.log).copied() else { continue };
        let standing = roster.known(&author).and_then(|it| it.standing_at(stored.place.seq));
        let Some(standing) = standing.filter(|standing| standing.role.may_read()) else {
            continue;
        };
        if let Ok(Some(Act::Snapshot(act))) = Act::from_body(stored.kind, &stored.body) {
            let (seq, act) = (stored.place.seq, act.up_to(standing.clearance));
            statements.push(Statement { author, seq, act });
        }
    }
    Ok(statements)
}

/// Whether the device belongs to the space and may read.
fn reads(roster: &Roster, device: &DeviceId) -> bool {
    roster.device(device).is_some_and(|device| device.role.may_read())
}

/// The snapshots that every device asked for has stated alike, and of which all entries are here,
/// each up to the band that one is cleared for, as far as it is agreed on ([`agreed`]). For an
/// auditor's device there is none: it has nothing that one could stand for.
pub(crate) fn accepted(
    db: &Connection,
    roster: &Roster,
    clearance: Option<Band>,
) -> Result<Vec<SnapshotAct>> {
    let Some(clearance) = clearance else { return Ok(Vec::new()) };
    let mut stated: BTreeMap<Hash, Vec<Statement>> = BTreeMap::new();
    for statement in statements(db, roster)? {
        stated.entry(statement.act.id()).or_default().push(statement);
    }
    let (mut accepted, exempt) = (Vec::new(), Exempt::read(db, roster)?);
    for statements in stated.into_values() {
        let Some(first) = statements.first() else { continue };
        let mut asked = asked_for(db, roster, &exempt, &first.act)?;
        let authors: BTreeSet<DeviceId> =
            statements.iter().map(|statement| statement.author).collect();
        if asked.is_empty() {
            // Who agreed on it has been set aside since, and somebody who is here holds it.
            let aside = set_aside(db, roster)?;
            let is_here = |by: &DeviceId| reads(roster, by) && !aside.contains(by);
            let all: BTreeSet<DeviceId> = roster.asked_for(&first.act).into_iter().collect();
            if authors.iter().any(is_here) {
                asked = all.intersection(&authors).copied().collect();
            }
        }
        if asked.is_empty() || !asked.is_subset(&authors) || !is_here(db, &first.act)? {
            continue;
        }
        accepted.extend(agreed(&statements, roster, &asked, clearance));
    }
    Ok(accepted)
}

/// What the statements of one snapshot come to, band by band: what those devices say that are asked
/// for it, and of a band that none of them states what the others say that belong to the space now,
/// as they hold it; one of them alone, and those others, have to say the same. Of a band on which
/// those differ nothing is agreed on, nor of the bands above.
/// None: those that are asked for differ. The word of who was shut out counts for nothing: of what
/// it alone knew nobody has anything to hand over.
fn agreed(
    statements: &[Statement],
    roster: &Roster,
    asked: &BTreeSet<DeviceId>,
    clearance: Band,
) -> Option<SnapshotAct> {
    let (of_asked, others): (Vec<_>, Vec<_>) = statements
        .iter()
        .filter(|statement| reads(roster, &statement.author))
        .partition(|statement| asked.contains(&statement.author));
    let trees = |of: &[&Statement], band| {
        let trees = of.iter().filter_map(|statement| statement.act.tree(band).copied());
        trees.collect::<Vec<_>>()
    };
    let mut agreed = of_asked.first()?.act.up_to(Band::Green);
    agreed.bands.clear();
    let mut is_open = true;
    for band in Band::SHARED.into_iter().filter(|band| *band <= clearance) {
        let said = trees(&of_asked, band);
        if said.iter().any(|tree| Some(tree) != said.first()) {
            return None;
        }
        // One alone is contradicted by whoever else belongs to the space and says otherwise.
        let said = if said.len() < 2 { [said, trees(&others, band)].concat() } else { said };
        let is_one = said.iter().all(|tree| Some(tree) == said.first());
        let goes_on = |tree: &&BandTree| {
            agreed.whole().is_none_or(|below| {
                tree.leaves > below.leaves || (tree.leaves, tree.root) == (below.leaves, below.root)
            })
        };
        match said.first().filter(|_| is_open && is_one).filter(goes_on) {
            Some(tree) => agreed.bands.push(*tree),
            None => is_open = false,
        }
    }
    Some(agreed)
}

/// Of accepted snapshots the one that includes the most.
pub(crate) fn widest(accepted: Vec<SnapshotAct>) -> Option<SnapshotAct> {
    accepted.into_iter().max_by_key(|act| (sum(act), act.id()))
}

/// Whether all entries that a snapshot covers are here, in the history that it is of.
pub(crate) fn is_here(db: &Connection, act: &SnapshotAct) -> Result<bool> {
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

/// How far each log is stable, without waiting for who is set aside. It goes on from what was
/// looked at before: entries are many, and this is asked at each acknowledgement.
pub(crate) fn stable_ends(
    db: &Connection,
    roster: &Roster,
    me: DeviceId,
    looked_at: &mut LookedAt,
) -> Result<BTreeMap<DeviceId, u64>> {
    let logs: BTreeMap<DeviceId, Log> =
        logs::every(db)?.into_iter().map(|log| (log.device, log)).collect();
    let size_of = |device: &DeviceId| logs.get(device).map_or(0, |log| log.frontier.size());
    let acks: BTreeMap<(DeviceId, DeviceId), u64> =
        control::acks(db)?.into_iter().map(|ack| ((ack.acker, ack.device), ack.size)).collect();
    let has_spoken = |device: &DeviceId| {
        *device == me || size_of(device) > 0 || acks.keys().any(|(acker, _)| acker == device)
    };
    let aside = set_aside(db, roster)?;
    let reading = roster.devices().filter(|(_, device)| device.role.may_read());
    let holders: BTreeSet<DeviceId> =
        reading.map(|(id, _)| *id).filter(|id| has_spoken(id) && !aside.contains(id)).collect();
    let held = |holder: &DeviceId, log: &DeviceId| {
        if *holder == me { size_of(log) } else { acks.get(&(*holder, *log)).copied().unwrap_or(0) }
    };
    let mut writers = BTreeMap::new();
    let may_write =
        |(id, device): &(&DeviceId, &Device)| device.role.may_write() && !aside.contains(id);
    for (device, record) in roster.devices().filter(may_write) {
        let named = match logs.get(device).filter(|_| has_spoken(device)) {
            Some(log) => {
                let end = held_by_all(device, &holders, held).min(log.frontier.size());
                let named = match looked_at.remove(&log.log) {
                    Some(named) => go_on(db, log.log, end, named)?,
                    None => named_up_to(db, log.log, end)?,
                };
                looked_at.insert(log.log, named.clone());
                named
            }
            None => match record.enrolled_by.iter().find(|dep| dep.seq <= size_of(&dep.device)) {
                Some(dep) => match logs.get(&dep.device) {
                    Some(log) => {
                        let by = named_up_to(db, log.log, dep.seq)?;
                        Named::of_newcomer(dep.device, dep.seq, &by)
                    }
                    None => Named::default(),
                },
                None => Named::default(),
            },
        };
        writers.insert(*device, named);
    }
    let others =
        logs.keys().filter(|log| !writers.contains_key(log) && roster.known(log).is_some());
    Ok(stable(&writers, others.copied()))
}

impl WriterState {
    /// [`stable_ends`], as this device has looked at them so far.
    pub(crate) fn stable_ends(&mut self, db: &Connection) -> Result<BTreeMap<DeviceId, u64>> {
        let me = self.device();
        stable_ends(db, &self.roster, me, &mut self.looked_at)
    }
}
