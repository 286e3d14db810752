//! The roster by its definitions alone: sets and recursion, nothing kept, nothing ordered.
//!
//! - `past(a)`: what an act names, and what those name.
//! - An act *holds* if what its past comes to permits it.
//! - In a set of acts, it is *valid* if it holds and what the set comes to, of it what the act
//!   knew, permits it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::{Act, Enrolment, Role};
use larder_log::{Band, roster::Standing};
use larder_types::{DeviceId, EntryHash, MemberId};

use super::world::World;

type Set = BTreeSet<usize>;

pub(crate) struct Model<'a> {
    world: &'a World,
    memo: RefCell<BTreeMap<(usize, Option<Set>), bool>>,
}

/// What a device comes to: its record's member and label, how many entries are kept, and its
/// standing at each of these places.
pub(crate) type Outcome =
    BTreeMap<DeviceId, (MemberId, String, Option<u64>, Vec<Option<Standing>>)>;

/// Acts that have no force, each with what has taken it.
pub(crate) type Lifted = BTreeSet<(EntryHash, BTreeSet<EntryHash>)>;

impl<'a> Model<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, memo: RefCell::default() }
    }

    pub(crate) fn outcome(&self, places: &[u64]) -> Outcome {
        let all: Set = (0..self.world.acts.len()).collect();
        let mut outcome = Outcome::new();
        for device in all.iter().filter_map(|at| self.enrolled(*at)).map(|e| e.keys.signing) {
            let Some(record) = self.record(&all, &all, &device) else { continue };
            let standings = places.iter().map(|seq| self.standing(&all, &all, &device, *seq));
            let kept = self.keeps(&all, &device);
            let record = (record.member, record.label.clone(), kept, standings.collect());
            outcome.insert(device, record);
        }
        outcome
    }

    fn act(&self, at: usize) -> &Act {
        &self.world.acts[at].act
    }

    fn author(&self, at: usize) -> DeviceId {
        self.world.acts[at].header.device
    }

    fn past(&self, at: usize) -> Set {
        let parents = match self.act(at) {
            Act::Enrolment(act) => &act.parents[..],
            Act::Change(act) => &act.parents,
            Act::Revocation(act) => &act.parents,
            Act::Recovery(act) => &act.parents,
            _ => &[],
        };
        let named =
            |parent| (0..self.world.acts.len()).find(|at| self.world.acts[*at].entry() == parent);
        let parents: Set = parents.iter().filter_map(|parent| named(*parent)).collect();
        parents.iter().flat_map(|parent| self.past(*parent)).chain(parents.clone()).collect()
    }

    fn enrolled(&self, at: usize) -> Option<&Enrolment> {
        match self.act(at) {
            Act::Genesis(act) => Some(&act.founder),
            Act::Enrolment(act) => Some(&act.enrolment),
            Act::Recovery(act) => Some(&act.enrolment),
            _ => None,
        }
    }

    fn holds(&self, at: usize) -> bool {
        if let Some(known) = self.memo.borrow().get(&(at, None)) {
            return *known;
        }
        let holds = self.permits(&self.past(at), at);
        self.memo.borrow_mut().insert((at, None), holds);
        holds
    }

    fn valid(&self, set: &Set, at: usize) -> bool {
        let key = (at, Some(set.clone()));
        if let Some(known) = self.memo.borrow().get(&key) {
            return *known;
        }
        let gives = !matches!(self.act(at), Act::Revocation(_));
        let valid = gives && self.holds(at) && self.permits(set, at);
        self.memo.borrow_mut().insert(key, valid);
        valid
    }

    /// The role that an act was written with.
    fn rank(&self, at: usize) -> Option<Role> {
        if matches!(self.act(at), Act::Genesis(_) | Act::Recovery(_)) {
            return Some(Role::Owner);
        }
        let (past, seq) = (self.past(at), self.world.acts[at].header.seq);
        self.standing(&past, &past, &self.author(at), seq).map(|standing| standing.role)
    }

    fn was_owner(&self, set: &Set, device: &DeviceId) -> bool {
        set.iter().filter(|at| self.holds(**at)).any(|at| match self.act(*at) {
            Act::Change(act) => act.role == Role::Owner && act.device == *device,
            _ => self
                .enrolled(*at)
                .is_some_and(|e| e.role == Role::Owner && e.keys.signing == *device),
        })
    }

    /// Whether the act has force over the device where these acts are minded.
    fn binds(&self, minded: &Set, at: usize, device: &DeviceId) -> bool {
        let is_admins = self.author(at) != *device && self.rank(at) == Some(Role::Admin);
        if is_admins && self.was_owner(minded, device) {
            return false;
        }
        let knows =
            |one: usize, of: usize| self.past(one).iter().any(|at| self.act(*at) == self.act(of));
        let is_recovery = matches!(self.act(at), Act::Recovery(_));
        !minded.iter().any(|other| {
            matches!(self.act(*other), Act::Recovery(act) if act.enrolment.keys.signing == *device)
                && self.holds(*other)
                && !knows(at, *other)
                && (!is_recovery || knows(*other, at))
        })
    }

    /// How many entries of the device's log an act would leave, among these.
    fn cut_by(&self, set: &Set, at: usize, device: &DeviceId) -> Option<u64> {
        let (cuts, members) = match self.act(at) {
            Act::Revocation(act) => (&act.cuts, &act.members[..]),
            Act::Recovery(act) => (&act.cuts, &[][..]),
            _ => return None,
        };
        if let Some(cut) = cuts.iter().find(|cut| cut.device == *device) {
            return Some(cut.keeps);
        }
        let enrols = |other: &usize| {
            let enrolled = self.enrolled(*other).filter(|e| e.keys.signing == *device);
            enrolled.filter(|_| self.holds(*other))
        };
        let is_of_member = set.iter().any(|other| {
            enrols(other).is_some_and(|e| members.contains(&e.member))
                && !self.past(*other).contains(&at)
        }) && set.iter().filter_map(enrols).all(|e| members.contains(&e.member));
        is_of_member.then_some(0)
    }

    fn keeps(&self, set: &Set, device: &DeviceId) -> Option<u64> {
        let cutting = set.iter().filter(|at| self.holds(**at) && self.binds(set, **at, device));
        cutting.filter_map(|at| self.cut_by(set, *at, device)).min()
    }

    /// The acts that hold and would shut the device out, or one by which it came in, each with
    /// those that by themselves would take its force.
    pub(crate) fn lifted(&self, device: &DeviceId) -> Lifted {
        let all: Set = (0..self.world.acts.len()).collect();
        let (mut found, mut seen) = (Lifted::new(), BTreeSet::new());
        let (mut of, mut seq) = (*device, u64::MAX);
        while seen.insert(of) {
            let takes = |at: &usize| match self.act(*at) {
                Act::Change(act) if act.device == of => {
                    act.from_seq <= seq && (of != *device || act.role == Role::Auditor)
                }
                _ => self.cut_by(&all, *at, &of).is_some_and(|keeps| keeps < seq),
            };
            for at in all.iter().filter(|at| self.holds(**at) && takes(at)) {
                let lifts = |other: &&usize| !self.binds(&Set::from([**other]), *at, &of);
                let by: BTreeSet<EntryHash> =
                    all.iter().filter(lifts).map(|other| self.world.acts[*other].entry()).collect();
                if !by.is_empty() {
                    found.insert((self.world.acts[*at].entry(), by));
                }
            }
            match self.record_at(&all, &all, &of) {
                Some(at) if matches!(self.act(at), Act::Enrolment(_)) => {
                    (of, seq) = (self.author(at), self.world.acts[at].header.seq);
                }
                _ => break,
            }
        }
        found
    }

    fn standing(&self, set: &Set, known: &Set, device: &DeviceId, seq: u64) -> Option<Standing> {
        if self.keeps(set, device).is_some_and(|keeps| keeps < seq) {
            return None;
        }
        self.uncut(set, known, device, seq)
    }

    fn uncut(&self, set: &Set, known: &Set, device: &DeviceId, seq: u64) -> Option<Standing> {
        let counts = |at: &usize| known.contains(at) && set.contains(at) && self.valid(set, *at);
        let enrolments: Vec<&Enrolment> = known
            .iter()
            .filter(|at| counts(at))
            .filter_map(|at| self.enrolled(*at))
            .filter(|e| e.keys.signing == *device)
            .collect();
        let base = Standing {
            role: enrolments.iter().map(|e| e.role).min()?,
            clearance: enrolments.iter().map(|e| e.clearance.min(Band::Red)).max()?,
        };
        let sets = |at: &usize| match self.act(*at) {
            Act::Change(act) if act.device == *device && act.from_seq <= seq => {
                Some(Standing { role: act.role, clearance: act.clearance.min(Band::Red) })
            }
            _ => None,
        };
        let changes: Vec<usize> = set
            .iter()
            .copied()
            .filter(|at| {
                // What an act knew has for it the force that it had for its author.
                let minded = if known.contains(at) { known } else { set };
                sets(at).is_some() && self.binds(minded, *at, device)
            })
            .collect();
        let given: Vec<usize> = changes.iter().copied().filter(|at| counts(at)).collect();
        let is_replaced = |at: &usize| given.iter().any(|later| self.past(*later).contains(at));
        let (newest, limits): (Vec<usize>, Vec<usize>) =
            changes.iter().filter(|at| !is_replaced(at)).partition(|at| given.contains(at));
        let limits = limits.into_iter().filter(|at| self.holds(*at));
        let start = if newest.is_empty() { vec![base] } else { Vec::new() };
        let all: Vec<Standing> =
            newest.iter().copied().chain(limits).filter_map(|at| sets(&at)).chain(start).collect();
        Some(Standing {
            role: all.iter().map(|s| s.role).max()?,
            clearance: all.iter().map(|s| s.clearance).min()?,
        })
    }

    fn record(&self, set: &Set, known: &Set, device: &DeviceId) -> Option<&Enrolment> {
        self.enrolled(self.record_at(set, known, device)?)
    }

    fn record_at(&self, set: &Set, known: &Set, device: &DeviceId) -> Option<usize> {
        let of_device: Vec<usize> = known
            .iter()
            .copied()
            .filter(|at| self.enrolled(*at).is_some_and(|e| e.keys.signing == *device))
            .filter(|at| self.valid(set, *at))
            .collect();
        let is_first = |at: &&usize| of_device.iter().all(|other| !self.past(**at).contains(other));
        let first =
            of_device.iter().filter(is_first).min_by_key(|at| self.world.acts[**at].entry());
        first.copied()
    }

    /// Whether what the set comes to gives the author the right, by what the act knew.
    fn permits(&self, set: &Set, at: usize) -> bool {
        let known = self.past(at);
        let author = self.author(at);
        match self.act(at) {
            Act::Genesis(_) => return true,
            Act::Recovery(act) => {
                let bytes = act.signed_bytes(&self.world.space);
                return self.world.recovery.public().verify(&bytes, &act.signature).is_ok();
            }
            _ => {}
        }
        let seq = self.world.acts[at].header.seq;
        let Some(own) = self.standing(set, &known, &author, seq) else { return false };
        let member = |device| self.record(set, &known, device).map(|record| record.member);
        let mine = member(&author);
        let rules = |role| match own.role {
            Role::Owner => true,
            Role::Admin => role != Role::Owner,
            _ => false,
        };
        let writes = matches!(own.role, Role::Owner | Role::Admin | Role::Writer);
        let now = |device| self.uncut(set, &known, device, u64::MAX);
        match self.act(at) {
            Act::Enrolment(act) => {
                let new = &act.enrolment;
                let is_own_device = writes && mine == Some(new.member) && new.role >= own.role;
                now(&new.keys.signing).is_none()
                    && (own.role == Role::Owner || new.clearance.min(Band::Red) <= own.clearance)
                    && (rules(new.role) || is_own_device)
            }
            Act::Change(act) => now(&act.device).is_some_and(|target| {
                let gives = own.role == Role::Owner
                    || act.clearance <= own.clearance
                    || act.clearance <= target.clearance;
                let steps_back = act.device == author
                    && act.role >= target.role
                    && act.clearance <= target.clearance;
                (rules(target.role) && rules(act.role) && gives) || steps_back
            }),
            Act::Revocation(act) => {
                let cut = act.cuts.iter().all(|cut| {
                    now(&cut.device).is_some_and(|target| {
                        let is_own =
                            writes && member(&cut.device) == mine && own.role <= target.role;
                        rules(target.role) || is_own || cut.device == author
                    })
                });
                let devices: BTreeSet<DeviceId> = (0..self.world.acts.len())
                    .filter_map(|at| self.enrolled(at))
                    .map(|e| e.keys.signing)
                    .collect();
                let of = |one: &MemberId| {
                    let devices = devices.iter().filter(|device| member(device) == Some(*one));
                    devices.filter_map(now).all(|target| rules(target.role))
                };
                cut && (act.members.is_empty() || rules(Role::Writer)) && act.members.iter().all(of)
            }
            _ => false,
        }
    }
}
