//! Devices that stay away, and are not waited for until they are back.
//!
//! What a device that is set aside has not confirmed it has not confirmed: it is left out of what
//! is waited for before bytes and secrets go, and nowhere taken for one that has said something.
//! Nor is one asked for what was agreed on while it was shut out, as far as those knew who did.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::quarantine::{QuarantineAct, Quarantines};
use larder_log::roster::{Lifted, Roster};
use larder_log::snapshot::SnapshotAct;
use larder_log::{Dep, Receipt, VERSION, kind};
use larder_store::space::{control, entries, logs};
use larder_types::DeviceId;
use larder_types::limits::ACT_PARENTS_MAX;
use rusqlite::Connection;

use crate::named::named_up_to;
use crate::space::Space;
use crate::state::State;
use crate::writer::SpaceWriter;
use crate::{Error, Result, Role};

/// What the acts that are here say.
pub(crate) fn quarantines(db: &Connection, roster: &Roster) -> Result<Quarantines> {
    let mut all = Quarantines::default();
    for stored in control::acts_of_kind(db, kind::QUARANTINE)? {
        let (log, seq) = (stored.place.log, stored.place.seq);
        let entry = entries::hash(db, log, seq)?;
        let act = Act::from_body(stored.kind, &stored.body);
        if let (Some(entry), Ok(Some(Act::Quarantine(act)))) = (entry, act) {
            let device = logs::by_number(db, log)?.device;
            all.take(roster, Dep { device, seq, entry }, &act);
        }
    }
    Ok(all)
}

/// Whether a device's first entries name one with which it was set aside.
fn names(db: &Connection, device: &DeviceId, end: u64, by: &Dep) -> Result<bool> {
    let Some(log) = logs::find(db, device)? else { return Ok(false) };
    let end = end.min(log.frontier.size());
    let named = named_up_to(db, log.log, end)?;
    Ok(named.of(&by.device) >= by.seq)
}

/// The devices that are not waited for.
pub(crate) fn set_aside(db: &Connection, roster: &Roster) -> Result<BTreeSet<DeviceId>> {
    let mut aside = BTreeSet::new();
    for (device, acts) in quarantines(db, roster)?.open() {
        for by in acts {
            if !names(db, &device, u64::MAX, &by)? {
                aside.insert(device);
            }
        }
    }
    Ok(aside)
}

/// What keeps devices from being asked for snapshots.
pub(crate) struct Exempt {
    quarantines: Quarantines,
    /// For each act that would have shut a device out, what has taken its force.
    lifted: BTreeMap<DeviceId, Vec<Vec<Dep>>>,
}

impl Exempt {
    pub(crate) fn read(db: &Connection, roster: &Roster) -> Result<Self> {
        let mut lifted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (device, all) in roster.lifted() {
            for one in all {
                if was_in_force(db, one)? {
                    lifted.entry(*device).or_default().push(one.by.clone());
                }
            }
        }
        Ok(Self { quarantines: quarantines(db, roster)?, lifted })
    }
}

/// Whether an act that has no force may have had it for anybody: its author's log names nothing of
/// what has taken it. Else nobody has the one without the other, whatever the author said. No
/// snapshot ever covers what stands in no log that is held.
fn was_in_force(db: &Connection, Lifted { act, by }: &Lifted) -> Result<bool> {
    let Some(log) = logs::find(db, &act.device)?.filter(|log| act.seq <= log.frontier.size())
    else {
        return Ok(false);
    };
    let named = named_up_to(db, log.log, act.seq)?;
    for dep in [act].into_iter().chain(by) {
        let up_to = if dep.device == act.device { act.seq } else { named.of(&dep.device) };
        let log = logs::find(db, &dep.device)?;
        let hash = log.map(|log| entries::hash(db, log.log, dep.seq)).transpose()?.flatten();
        if hash != Some(dep.entry) || (dep != act && dep.seq <= up_to) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The devices that have to state a snapshot for it to be accepted ([`Roster::asked_for`]): what
/// was agreed on without one stays agreed on. One that was set aside has to only if the snapshot
/// covers an entry by which it was back; one that was shut out by an act which has no force any
/// more, only if it covers what has taken that.
pub(crate) fn asked_for(
    db: &Connection,
    roster: &Roster,
    exempt: &Exempt,
    act: &SnapshotAct,
) -> Result<BTreeSet<DeviceId>> {
    let covers = |by: &Dep| act.size_of(&by.device) >= by.seq;
    let mut asked = BTreeSet::new();
    for device in roster.asked_for(act) {
        let mut lifted = exempt.lifted.get(&device).into_iter().flatten();
        let mut is_asked = lifted.all(|by| by.iter().any(covers));
        for by in exempt.quarantines.of(&device) {
            is_asked &= names(db, &device, act.size_of(&device), &by)?;
        }
        if is_asked {
            asked.insert(device);
        }
    }
    Ok(asked)
}

impl Space {
    /// The devices that were set aside and are not back, as far as known here: nothing waits for
    /// them.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn set_aside(&self) -> Result<BTreeSet<DeviceId>> {
        let db = self.shared.pool.reader()?;
        set_aside(&db, &self.shared.published()?.roster)
    }
}

impl SpaceWriter {
    /// Sets a device aside that stays away: what all others agree on is pruned, and secrets are
    /// forgotten, without waiting for it. It keeps its rights; what it wrote meanwhile counts when
    /// it comes. It is waited for again once it is back and has said so by an entry, by itself, or
    /// once this is taken back.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a device that does not belong to the space; [`Error::Invalid`] for
    /// this one, one that is set aside already, or if this device may not; the storage's.
    pub fn quarantine(&mut self, device: DeviceId) -> Result<Receipt> {
        self.transact(|tx, state| {
            state.check_belongs(&device)?;
            if device == state.device() {
                let message = "this device is here: one that stays away is set aside by another";
                return Err(Error::Invalid(message.into()));
            }
            if set_aside(tx, &state.roster)?.contains(&device) {
                return Err(Error::Invalid(format!("the device {device} is set aside already")));
            }
            state.append_quarantine(tx, QuarantineAct { v: VERSION, device, lifted: Vec::new() })
        })
    }

    /// Waits again for a device that was set aside, before it is back.
    ///
    /// # Errors
    /// As [`SpaceWriter::quarantine`]; [`Error::Invalid`] for one that is not set aside.
    pub fn lift_quarantine(&mut self, device: DeviceId) -> Result<Receipt> {
        self.transact(|tx, state| {
            state.check_belongs(&device)?;
            let all = quarantines(tx, &state.roster)?;
            let open = all.open().find(|(aside, _)| *aside == device);
            let mut lifted: Vec<_> =
                open.into_iter().flat_map(|(_, acts)| acts).map(|by| by.entry).collect();
            if lifted.is_empty() {
                return Err(Error::Invalid(format!("the device {device} is not set aside")));
            }
            lifted.sort_unstable();
            lifted.truncate(ACT_PARENTS_MAX);
            state.append_quarantine(tx, QuarantineAct { v: VERSION, device, lifted })
        })
    }
}

impl State {
    pub(crate) fn append_quarantine(
        &mut self,
        db: &Connection,
        act: QuarantineAct,
    ) -> Result<Receipt> {
        let role = |device: &DeviceId| self.roster.device(device).map(|device| device.role);
        if role(&self.device()) == Some(Role::Admin) && role(&act.device) == Some(Role::Owner) {
            let message = "an admin sets no owner's device aside: an owner has to do this";
            return Err(Error::Invalid(message.into()));
        }
        let appended = self.append_act(db, &Act::Quarantine(act))?;
        self.sign(db)?;
        self.receipt(db, appended.seq)
    }

    /// Whether this device was set aside, has all that it heard of by now, and has not said that
    /// it is back.
    pub(crate) fn must_say_back(&self, db: &Connection) -> Result<bool> {
        let me = self.device();
        if self.lacks() || !self.shared.may_append() || self.roster.device(&me).is_none() {
            return Ok(false);
        }
        let all = quarantines(db, &self.roster)?;
        Ok(all.of(&me).any(|by| !self.has_named(&by.device, by.seq)))
    }
}

#[cfg(test)]
mod tests;
