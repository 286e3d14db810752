//! Pruning, a step at a time: nobody who writes waits for longer than one of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use larder_log::act::Act;
use larder_log::roster::Roster;
use larder_log::snapshot::{LogEnd, SnapshotAct};
use larder_log::stability::Named;
use larder_log::{VERSION, kind, merkle};
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::sections::Droppable;
use larder_store::space::snapshots::{self, Key, Snapshot};
use larder_store::space::{control, sections};
use larder_types::limits::{PRUNE_SECTIONS_MAX, SNAPSHOT_STEP_LEAVES, SNAPSHOT_STEP_SECTIONS};
use larder_types::{DeviceId, Hash};
use rusqlite::Connection;

use super::{Statement, accepted, reads, statements, sum};
use crate::aside::{Exempt, asked_for, set_aside};
use crate::clearance::cleared_for;
use crate::model::Pruned;
use crate::named::named_up_to;
use crate::snapshot::{Computed, Computing, Erases, Step};
use crate::state::State as WriterState;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// A pruning under way: give it to [`SpaceWriter::prune_step`] until that is done. It may be let go
/// of at any time: another one goes on from what this one did.
#[derive(Debug)]
pub struct Pruning {
    stages: VecDeque<Stage>,
    goal: Option<Goal>,
    writing: Option<Writing>,
    /// Snapshots that this device does not find so: they are not computed again.
    tried: BTreeSet<Hash>,
    /// Entries that it has appended to the own log.
    appended: u64,
    /// Up to which entry of each log nothing is left to drop.
    dropped: BTreeMap<DeviceId, u64>,
    pruned: Pruned,
    /// No step does more than this of anything, if it is less than usual.
    step_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The snapshot that all devices agree on stands for what it covers.
    TakeOver,
    /// What others stated and this device finds the same it states as well.
    Agree,
    /// What this device holds of a band that no other one states any more it states.
    Affirm,
    /// The bytes go.
    Drop,
    /// Secrets go under which nobody seals any more.
    Forget,
    /// What nobody can hand over any more this device says that it lacks.
    Lack,
    /// A snapshot of all that is here.
    Propose,
    /// What became free in the file is given back to the disk.
    Shrink,
}

/// A snapshot that takes the place of the held one, as far as it is written.
#[derive(Debug)]
struct Writing {
    computed: Computed,
    base: Option<Hash>,
    /// The local number of what is written, and the last leaf of it.
    written: i64,
    after: Option<Key>,
}

/// A snapshot that is computed, and as what it was stated.
#[derive(Debug)]
struct Goal {
    computing: Computing,
    stated: Option<SnapshotAct>,
}

impl Pruning {
    /// Of what is agreed on goes first: what is gone is not to be gained by stating it once more.
    /// Then, with `proposes`, this device states what is here.
    pub fn new(proposes: bool) -> Self {
        use Stage::{Affirm, Agree, Drop, Forget, Lack, Propose, Shrink, TakeOver};
        let mut stages = vec![TakeOver, Lack, Agree, TakeOver, Affirm, Drop];
        if proposes {
            stages.extend([Propose, TakeOver, Affirm, Drop]);
        }
        stages.extend([Forget, Shrink]);
        Self::of(stages)
    }

    pub(super) fn of_nothing() -> Self {
        Self::of(Vec::new())
    }

    /// Of secrets too.
    pub(super) fn and_of_secrets(mut self) -> Self {
        if !self.stages.contains(&Stage::Forget) {
            self.stages.push_back(Stage::Forget);
        }
        self
    }

    /// Only writes the leaves down of what all devices agree on. Nothing goes, and nothing is said.
    pub fn writing_down() -> Self {
        Self::of(vec![Stage::TakeOver])
    }

    /// Only says what this device holds, where nobody else does any more.
    pub(super) fn affirming() -> Self {
        Self::of(vec![Stage::Affirm])
    }

    /// Only says what nobody can hand over any more.
    pub(super) fn saying_lacking() -> Self {
        Self::of(vec![Stage::Lack])
    }

    fn of(stages: Vec<Stage>) -> Self {
        Self {
            stages: stages.into(),
            goal: None,
            writing: None,
            tried: BTreeSet::new(),
            appended: 0,
            dropped: BTreeMap::new(),
            pruned: Pruned::default(),
            step_max: u32::MAX,
        }
    }

    /// In smaller steps than usual: of so many sections. Whoever looks for what may come between
    /// two of them has more of them.
    #[must_use]
    pub fn in_steps_of(mut self, sections: u32) -> Self {
        self.step_max = sections.max(1);
        self
    }

    /// What was done so far.
    pub fn pruned(&self) -> &Pruned {
        &self.pruned
    }

    /// Entries that it has appended to the own log so far: statements, and one that names what was
    /// agreed on.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The same without dropping anything.
    #[cfg(test)]
    pub(crate) fn without_dropping(mut self) -> Self {
        self.stages.retain(|stage| *stage != Stage::Drop);
        self
    }
}

/// Snapshots that are computed in order to find one to be taken over: each takes time in proportion
/// to the entries that it covers.
const TAKE_OVER_TRIES_MAX: usize = 3;

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
        let mut pruning = Pruning::new(propose);
        while !self.prune_step(&mut pruning)? {
            progress(pruning.pruned.sections);
        }
        Ok(pruning.pruned)
    }

    /// Takes one step of a pruning, in a transaction of its own: some
    /// [`SNAPSHOT_STEP_SECTIONS`] sections are looked at, or [`SNAPSHOT_STEP_LEAVES`] leaves of a
    /// snapshot counted, written or moved, or the bytes of [`PRUNE_SECTIONS_MAX`] sections dropped,
    /// or the file made shorter. Returns whether that was all. To be called between other work.
    ///
    /// # Errors
    /// The storage's errors. What was done before stays done, and this pruning is of no more use.
    pub fn prune_step(&mut self, pruning: &mut Pruning) -> Result<bool> {
        let Some(stage) = pruning.stages.front().copied() else { return Ok(true) };
        if pruning.pruned.file_bytes_before == 0 {
            pruning.pruned.file_bytes_before = self.look_for_room()?;
        }
        let is_done = match stage {
            Stage::Shrink => {
                self.shrink_step()?;
                !self.wants_shrink()
            }
            Stage::Affirm => self.transact(|tx, state| state.affirm(tx, pruning))?,
            Stage::Lack => self.transact(|tx, state| {
                let has_said = state.say_lacking(tx)?;
                pruning.appended += u64::from(has_said);
                Ok(!has_said)
            })?,
            Stage::Drop => self.transact(|tx, state| state.drop_some(tx, pruning))?,
            Stage::Forget => self.transact(|tx, state| {
                pruning.appended += u64::from(state.say_for_forgetting(tx)?);
                state.forget_some(tx, PRUNE_SECTIONS_MAX.min(pruning.step_max))
            })?,
            _ => self.transact(|tx, state| state.settle_step(tx, stage, pruning))?,
        };
        if is_done {
            pruning.stages.pop_front();
            pruning.pruned.file_bytes_after = self.look_for_room()?;
        }
        Ok(pruning.stages.is_empty())
    }
}

impl WriterState {
    /// Goes on with writing a snapshot that takes the place of another, or with computing what a
    /// stage needs computed. Whether nothing is left of it to do.
    fn settle_step(
        &mut self,
        db: &Connection,
        stage: Stage,
        pruning: &mut Pruning,
    ) -> Result<bool> {
        // An auditor's device has nothing that a snapshot could be of.
        let may = reads(&self.roster, &self.device());
        if !may || self.clearance.is_none() {
            return Ok(true);
        }
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let held = held.as_ref();
        let leaves = SNAPSHOT_STEP_LEAVES.min(pruning.step_max);
        if let Some(held) = held.filter(|held| held.over.is_some()) {
            snapshots::move_some(db, held, leaves)?;
            return Ok(false);
        }
        // Another would be said to stand for a document that is not here, or take the place of what
        // only this device can hand over.
        if crate::supply::depleted(db)?.is_some() || !snapshots::kept_for_others(db)?.is_empty() {
            return Ok(true);
        }
        let base = held.map(|held| held.id);
        let left = snapshots::in_state(db, snapshots::State::Written)?;
        // It went with a change of the clearance.
        let is_there = |writing: &Writing| {
            writing.base == base && left.as_ref().is_some_and(|it| it.snapshot == writing.written)
        };
        if let Some(writing) = pruning.writing.take().filter(is_there) {
            pruning.writing = write_some(db, held, writing, leaves)?;
            return Ok(false);
        }
        if let Some(left) = left {
            snapshots::remove_some(db, left.snapshot, leaves)?;
            return Ok(false);
        }
        let up_to = self.states_up_to(db, held)?;
        let goal = pruning.goal.take().filter(|goal| goal.computing.is_from(held, up_to));
        let goal = match goal {
            Some(goal) => Some(goal),
            None => self.goal(db, stage, held, &pruning.tried)?,
        };
        let Some(mut goal) = goal else { return Ok(true) };
        let looked_at = (SNAPSHOT_STEP_SECTIONS.min(pruning.step_max.into()), leaves);
        let erases = |device: &DeviceId, seq| self.writes_up_to(device, seq);
        let by = (&self.keyring, &erases as &Erases<'_>);
        let computed = match goal.computing.step(db, by, held, looked_at)? {
            Step::Partly => {
                pruning.goal = Some(goal);
                return Ok(false);
            }
            Step::Done(computed) => Some(computed),
            Step::NotNow => None,
            Step::Never => {
                self.news.differing.extend(goal.stated.as_ref().map(SnapshotAct::id));
                None
            }
        };
        let is_same = |computed: &Computed| {
            goal.stated.as_ref().is_some_and(|stated| stated.agrees(&computed.act))
        };
        let differs = computed.as_ref().is_some_and(|computed| !is_same(computed));
        let differing = goal.stated.as_ref().filter(|_| differs).map(SnapshotAct::id);
        self.news.differing.extend(differing);
        match (stage, computed) {
            (Stage::TakeOver, Some(computed)) if is_same(&computed) => {
                let written = snapshots::add(db, snapshots::State::Written, &computed.act)?;
                pruning.writing = Some(Writing { computed, base, written, after: None });
                return Ok(false);
            }
            (Stage::Agree, Some(computed)) if is_same(&computed) => {
                self.state_it(db, computed.act, pruning)?;
                return Ok(false);
            }
            (Stage::Propose, Some(computed)) => {
                self.state_it(db, computed.act, pruning)?;
                return Ok(true);
            }
            _ => {}
        }
        pruning.tried.extend(goal.stated.map(|stated| stated.id()));
        Ok(stage == Stage::Propose)
    }

    fn state_it(&mut self, db: &Connection, act: SnapshotAct, to: &mut Pruning) -> Result<()> {
        self.append_act(db, &Act::Snapshot(act))?;
        self.sign(db)?;
        to.pruned.stated += 1;
        to.appended += 1;
        Ok(())
    }

    /// What is to be computed next in a stage, if anything is.
    fn goal(
        &self,
        db: &Connection,
        stage: Stage,
        held: Option<&Snapshot>,
        tried: &BTreeSet<Hash>,
    ) -> Result<Option<Goal>> {
        let stated = match stage {
            Stage::TakeOver => self.to_take_over(db, held, tried)?,
            Stage::Agree => self.to_agree(db, held, tried)?,
            Stage::Propose => {
                let frontier = self.to_propose(db, held)?;
                let computing = frontier.map(|frontier| self.computing(db, frontier, held));
                return Ok(computing
                    .transpose()?
                    .map(|computing| Goal { computing, stated: None }));
            }
            Stage::Affirm | Stage::Drop | Stage::Lack | Stage::Forget | Stage::Shrink => None,
        };
        let Some(act) = stated else { return Ok(None) };
        let computing = self.computing(db, act.frontier.clone(), held)?;
        Ok(Some(Goal { computing, stated: Some(act) }))
    }

    fn computing(
        &self,
        db: &Connection,
        frontier: Vec<LogEnd>,
        held: Option<&Snapshot>,
    ) -> Result<Computing> {
        let act = SnapshotAct { v: VERSION, frontier, bands: Vec::new() };
        let mut later = Vec::new();
        if let Some(held) = held {
            let still = self.all_later(db, &act)?;
            later = self.all_later(db, &held.act)?;
            later.retain(|place| !still.contains(place));
        }
        Ok(Computing::new(act.frontier, held, self.states_up_to(db, held)?, later))
    }

    /// Of the snapshots that all devices agree on, the widest that this one may find the same; what
    /// it does not find so stops no other.
    pub(super) fn to_take_over(
        &self,
        db: &Connection,
        held: Option<&Snapshot>,
        tried: &BTreeSet<Hash>,
    ) -> Result<Option<SnapshotAct>> {
        let mut wider = accepted(db, &self.roster, self.clearance)?;
        wider.retain(|act| is_wider(act, held) && !self.news.differing.contains(&act.id()));
        wider.sort_by_cached_key(|act| (sum(act), act.id()));
        let widest = wider.into_iter().rev().take(TAKE_OVER_TRIES_MAX);
        Ok(widest.into_iter().find(|act| !tried.contains(&act.id())))
    }

    /// A snapshot that another device stated, and this one has not looked at.
    pub(super) fn to_agree(
        &self,
        db: &Connection,
        held: Option<&Snapshot>,
        tried: &BTreeSet<Hash>,
    ) -> Result<Option<SnapshotAct>> {
        let me = self.device();
        let accepted = accepted(db, &self.roster, self.clearance)?;
        let statements = statements(db, &self.roster)?;
        let own = statements.iter().filter(|statement| statement.author == me);
        let own: BTreeSet<Hash> = own.map(|statement| statement.act.id()).collect();
        let exempt = Exempt::read(db, &self.roster)?;
        let is_open = |act: &SnapshotAct| {
            let id = act.id();
            let is_asked =
                || asked_for(db, &self.roster, &exempt, act).map(|asked| asked.contains(&me));
            Ok::<_, Error>(
                !own.contains(&id)
                    && !tried.contains(&id)
                    && !self.news.differing.contains(&id)
                    && may_be_accepted(act, held, &accepted)
                    && is_asked()?
                    && !is_blocked(db, &self.roster, act, &statements)?,
            )
        };
        for Statement { act, .. } in &statements {
            if is_open(act)? {
                return Ok(Some(act.clone()));
            }
        }
        Ok(None)
    }

    /// Where a snapshot of all that is here ends, if bytes could go by it and this device has not
    /// stated one yet that waits for others.
    fn to_propose(&self, db: &Connection, held: Option<&Snapshot>) -> Result<Option<Vec<LogEnd>>> {
        let accepted = accepted(db, &self.roster, self.clearance)?;
        let statements = statements(db, &self.roster)?;
        let proposed = self.proposed(db, held, &accepted, &statements)?;
        let erasures = erasures(db)?;
        let is_own = |it: &&&Statement| it.author == self.device();
        if proposed.open.iter().filter(is_own).any(|it| self.is_waited_for(it, &erasures)) {
            return Ok(None);
        }
        let frontier = if proposed.is_contested() {
            Some(self.proposable(db)?)
        } else {
            self.gains(db, held, 0, Droppable { sections: 1, bytes: 1 })?
        };
        let Some(frontier) = frontier else { return Ok(None) };
        let act = SnapshotAct { v: VERSION, frontier, bands: Vec::new() };
        let is_open = may_be_accepted(&act, held, &accepted)
            && !is_blocked(db, &self.roster, &act, &statements)?;
        Ok(is_open.then_some(act.frontier))
    }

    /// Whether all who are asked for what was stated may yet state it. What this device finds
    /// otherwise, or nobody may compute any more, would be waited for for ever.
    pub(super) fn is_waited_for(&self, it: &Statement, erasures: &[(DeviceId, u64)]) -> bool {
        covers(&it.act, erasures) && !self.news.differing.contains(&it.act.id())
    }

    /// What was stated and is not agreed on.
    pub(super) fn proposed<'a>(
        &self,
        db: &Connection,
        held: Option<&Snapshot>,
        accepted: &[SnapshotAct],
        statements: &'a [Statement],
    ) -> Result<Proposed<'a>> {
        let mut proposed = Proposed { open: Vec::new(), blocked: Vec::new() };
        for it in statements.iter().filter(|it| may_be_accepted(&it.act, held, accepted)) {
            let is_blocked = is_blocked(db, &self.roster, &it.act, statements)?;
            if is_blocked { &mut proposed.blocked } else { &mut proposed.open }.push(it);
        }
        Ok(proposed)
    }

    /// Whether it is this device that proposes, by itself, what takes the place of those that block
    /// each other. One alone of those that are asked for it does, as nothing is agreed on without
    /// that one: were it all of them, what they propose would be beside each other again.
    pub(super) fn is_to_merge(&self, db: &Connection) -> Result<bool> {
        let act = SnapshotAct { v: VERSION, frontier: self.proposable(db)?, bands: Vec::new() };
        let asked = asked_for(db, &self.roster, &Exempt::read(db, &self.roster)?, &act)?;
        Ok(asked.first() == Some(&self.device()))
    }

    /// Where a snapshot of all that is here ends, if it stands for as much more than the one that
    /// is held; of each body `besides` bytes do not count.
    pub(super) fn gains(
        &self,
        db: &Connection,
        held: Option<&Snapshot>,
        besides: u64,
        mut much: Droppable,
    ) -> Result<Option<Vec<LogEnd>>> {
        let frontier = self.proposable(db)?;
        let gains = has_gain(db, held, &frontier, besides, &mut much)?;
        Ok(gains.then_some(frontier))
    }

    /// Where all logs end here; but below the enrolment of a device that nothing was heard of yet,
    /// so that it need not be waited for.
    pub(super) fn proposable(&self, db: &Connection) -> Result<Vec<LogEnd>> {
        let logs = logs::every(db)?;
        let acks = control::acks(db)?;
        let aside = set_aside(db, &self.roster)?;
        let mut caps: BTreeMap<DeviceId, u64> = BTreeMap::new();
        for (device, record) in self.roster.devices() {
            let has_spoken = *device == self.device()
                || acks.iter().any(|ack| ack.acker == *device)
                || logs.iter().any(|log| log.device == *device && log.frontier.size() > 0);
            if has_spoken || !record.role.may_read() || aside.contains(device) {
                continue;
            }
            for dep in &record.enrolled_by {
                // It may stand in a history that is not held here: then nobody knows what it knew.
                let is_held =
                    |log: &&Log| log.device == dep.device && log.frontier.size() >= dep.seq;
                let before = match logs.iter().find(is_held) {
                    Some(log) => named_up_to(db, log.log, dep.seq.saturating_sub(1))?,
                    None => Named::default(),
                };
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

    /// Whether what was agreed on waits for this device's own log to name it: one that has nothing
    /// to write would hold up all others.
    pub(super) fn must_name(&self, act: &SnapshotAct) -> bool {
        let me = self.device();
        let may_write = self.roster.device(&me).is_some_and(|own| own.role.may_write());
        let is_named = |end: &LogEnd| end.device == me || self.has_named(&end.device, end.size);
        may_write && self.shared.may_append() && !act.frontier.iter().all(is_named)
    }

    /// Whether this device holds of its snapshot what no device of the space has stated: those that
    /// did were shut out or set aside, or were never asked. Who comes later is given nothing on its
    /// word alone.
    pub(super) fn must_affirm(&self, db: &Connection) -> Result<bool> {
        if self.roster.device(&self.device()).is_none() || !self.shared.may_append() {
            return Ok(false);
        }
        let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else {
            return Ok(false);
        };
        Ok(!self.is_affirmed(db, &held)?)
    }

    fn is_affirmed(&self, db: &Connection, held: &Snapshot) -> Result<bool> {
        let aside = set_aside(db, &self.roster)?;
        let me = self.device();
        let is_it = |statement: &Statement| {
            let Statement { author, act, .. } = statement;
            // One that was cleared for less has it no longer, or not for long.
            let has =
                act.whole().is_none_or(|it| cleared_for(&self.roster, author) >= Some(it.band));
            act.bands.len() >= held.act.bands.len()
                && act.agrees(&held.act)
                && reads(&self.roster, author)
                && (*author == me || !aside.contains(author))
                && has
        };
        Ok(statements(db, &self.roster)?.iter().any(is_it))
    }

    /// States what is held here, if nobody else does. Without that nothing of it goes.
    fn affirm(&mut self, db: &Connection, pruning: &mut Pruning) -> Result<bool> {
        let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else { return Ok(true) };
        if self.must_affirm(db)? {
            self.state_it(db, held.act, pruning)?;
        } else if !self.is_affirmed(db, &held)? {
            pruning.stages.retain(|stage| *stage != Stage::Drop);
        }
        Ok(true)
    }

    /// Drops the bytes of some sections that may go. Whether none are left.
    fn drop_some(&mut self, db: &Connection, pruning: &mut Pruning) -> Result<bool> {
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        // It says nothing of the bands above its own, and those have bytes to lose.
        let Some(held) = held.filter(|held| !self.is_narrow(&held.act)) else { return Ok(true) };
        let ends = self.stable_ends(db)?;
        if !held.act.is_within(&ends) {
            if self.must_name(&held.act) {
                self.append_nothing(db)?;
                pruning.appended += 1;
            }
            return Ok(true);
        }
        let most = PRUNE_SECTIONS_MAX.min(pruning.step_max);
        let later = self.all_later(db, &held.act)?;
        for end in &held.act.frontier {
            let from = pruning.dropped.entry(end.device).or_insert(0);
            let log = logs::find(db, &end.device)?;
            let Some(log) = log.filter(|_| *from < end.size) else { continue };
            // Up to the next entry with a section that was adopted since.
            let is_next =
                |(device, seq, _): &&(DeviceId, u64, u32)| *device == end.device && seq > from;
            let later = later.iter().find(is_next).map(|(_, seq, _)| *seq);
            let last = later.map_or(end.size, |seq| seq - 1);
            let dropped = sections::drop_bytes(db, log.log, *from + 1, last, most)?;
            if dropped.sections > 0 {
                *from = dropped.last_seq - 1;
                pruning.pruned.sections += dropped.sections;
                pruning.pruned.bytes += dropped.bytes;
                return Ok(false);
            }
            *from = later.unwrap_or(end.size);
            if later.is_some() {
                return Ok(false);
            }
        }
        // What was adopted since stays until another snapshot stands for it.
        self.news.drained = Some(held.id);
        Ok(true)
    }
}

/// What was stated and is not agreed on.
pub(super) struct Proposed<'a> {
    pub(super) open: Vec<&'a Statement>,
    /// By what is beside it: it is never agreed on.
    blocked: Vec<&'a Statement>,
}

impl Proposed<'_> {
    /// Whether something blocked is still to be taken up into a snapshot that includes it.
    pub(super) fn is_contested(&self) -> bool {
        let is_taken_up = |it: &&Statement| self.open.iter().any(|o| o.act.includes(&it.act));
        self.blocked.iter().any(|it| !is_taken_up(it))
    }
}

/// Whether one that is asked for a snapshot has stated another of which neither includes the
/// other, and not this one. It never will: were both agreed on, some would drop what is behind
/// the end of the one, others what is behind that of the other, and who comes then would be
/// given half of either.
pub(super) fn is_blocked(
    db: &Connection,
    roster: &Roster,
    act: &SnapshotAct,
    statements: &[Statement],
) -> Result<bool> {
    let id = act.id();
    let has_it = |it: &&Statement| it.act.id() == id;
    let have: BTreeSet<DeviceId> = statements.iter().filter(has_it).map(|it| it.author).collect();
    let is_beside = |it: &&Statement| {
        !have.contains(&it.author) && !act.includes(&it.act) && !it.act.includes(act)
    };
    let mut beside = statements.iter().filter(is_beside).peekable();
    if beside.peek().is_none() {
        return Ok(false);
    }
    let asked = asked_for(db, roster, &Exempt::read(db, roster)?, act)?;
    Ok(beside.any(|it| asked.contains(&it.author)))
}

/// Whether a snapshot covers more than the one that is held.
pub(super) fn is_wider(act: &SnapshotAct, held: Option<&Snapshot>) -> bool {
    held.is_none_or(|held| is_wider_than(act, &held.act))
}

fn is_wider_than(act: &SnapshotAct, other: &SnapshotAct) -> bool {
    act.includes(other) && act.id() != other.id()
}

/// Whether all devices may still state a snapshot: who holds one that it does not include will not.
pub(super) fn may_be_accepted(
    act: &SnapshotAct,
    held: Option<&Snapshot>,
    accepted: &[SnapshotAct],
) -> bool {
    is_wider(act, held) && accepted.iter().all(|accepted| act.includes(accepted))
}

/// How far something was erased in each log.
pub(super) fn erasures(db: &Connection) -> Result<Vec<(DeviceId, u64)>> {
    let logs: BTreeMap<_, DeviceId> =
        logs::every(db)?.into_iter().map(|log| (log.log, log.device)).collect();
    let last = control::last_of_kind(db, kind::ERASE)?;
    let end = |(log, seq)| logs.get(&log).map(|device| (*device, seq));
    Ok(last.into_iter().filter_map(end).collect())
}

/// Whether a snapshot covers all that was erased. Of what was erased behind it, who has not
/// computed it before cannot tell any more what that came to, and would be waited for for ever.
pub(super) fn covers(act: &SnapshotAct, erasures: &[(DeviceId, u64)]) -> bool {
    erasures.iter().all(|(device, seq)| *seq <= act.size_of(device))
}

/// Whether a snapshot that ends there stands for as much more than the one that is held; of each
/// body `besides` bytes do not count.
pub(super) fn has_gain(
    db: &Connection,
    held: Option<&Snapshot>,
    frontier: &[LogEnd],
    besides: u64,
    much: &mut Droppable,
) -> Result<bool> {
    let size = |device: &DeviceId| {
        frontier.iter().find(|end| end.device == *device).map_or(0, |end| end.size)
    };
    let includes =
        held.is_none_or(|held| held.act.frontier.iter().all(|end| end.size <= size(&end.device)));
    if !includes {
        return Ok(false);
    }
    for end in frontier {
        let Some(log) = logs::find(db, &end.device)? else { continue };
        let agreed = held.map_or(0, |held| held.act.size_of(&end.device));
        if sections::has_droppable(db, log.log, agreed, end.size, besides, much)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Goes on with what a snapshot that all devices agree on, and that this one computed, has
/// otherwise than the held one. Once that is whole, it takes the place of the held one.
fn write_some(
    db: &Connection,
    held: Option<&Snapshot>,
    writing: Writing,
    leaves: u32,
) -> Result<Option<Writing>> {
    let Writing { computed, base, written, after } = writing;
    let after = computed.delta.write(db, written, after, leaves)?;
    if after.is_some() {
        return Ok(Some(Writing { computed, base, written, after }));
    }
    // What includes this one goes on coming in.
    let half = snapshots::in_state(db, snapshots::State::Receiving)?;
    if let Some(half) = half.filter(|half| !is_wider_than(&half.act, &computed.act)) {
        snapshots::remove(db, &half)?;
    }
    snapshots::take_over(db, written, held, &computed.act, &computed.tree)?;
    Ok(None)
}
