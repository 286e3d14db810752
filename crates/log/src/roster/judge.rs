//! Which acts of membership count, and what each device may do at each place of its log.
//!
//! Acts name the acts that their author knew, so they form a graph; what an author had the right to
//! do is judged by that past alone. Two kinds of force follow:
//!
//! - What takes something away (a revocation, a lesser role) *holds* if its past allows it,
//!   whatever happened beside it. Two devices that revoke each other are both shut out, and there
//!   is no circle to resolve: a past never contains the act itself.
//! - What gives something (an enrolment, a greater role) is *valid* if it holds, stands before
//!   the place where its author's log is cut, and what its author's authority rests on is valid
//!   too.
//!
//! All acts whose past is here are judged, in any order that respects it; others wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use larder_types::{DeviceId, EntryHash, MemberId, SpaceId};

use crate::act::{Act, ChangeAct, Cut, Enrolment, RevocationAct, Role};
use crate::error::VoidReason;
use crate::section::Band;

/// What a device may do at some place of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its role.
    pub role: Role,
    /// The highest band it may read.
    pub clearance: Band,
}

impl Standing {
    /// The highest band that it may write to; none if it may not write.
    pub fn writes_up_to(self) -> Option<Band> {
        self.role.may_write().then_some(self.clearance)
    }

    fn greater(self, other: Self) -> Self {
        Self { role: self.role.greater(other.role), clearance: self.clearance.max(other.clearance) }
    }

    fn lesser(self, other: Self) -> Self {
        Self { role: self.role.lesser(other.role), clearance: self.clearance.min(other.clearance) }
    }
}

/// A set of acts, by their places in [`Judge::nodes`].
#[derive(Debug, Clone, Default)]
struct Acts(Vec<u64>);

impl Acts {
    fn insert(&mut self, at: usize) {
        let word = at / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (at % 64);
        }
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }

    fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..).zip(&self.0).flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
    }
}

/// An act of membership where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub author: DeviceId,
    pub seq: u64,
    pub act: Act,
}

impl Placed {
    /// What it names as known; none if it is no act of membership.
    pub(super) fn parents(&self) -> Option<&[EntryHash]> {
        match &self.act {
            Act::Genesis(_) => Some(&[]),
            Act::Enrolment(act) => Some(&act.parents),
            Act::Change(act) => Some(&act.parents),
            Act::Revocation(act) => Some(&act.parents),
            Act::Recovery(act) => Some(&act.parents),
            Act::Epoch(_)
            | Act::Snapshot(_)
            | Act::Erase(_)
            | Act::Erased(_)
            | Act::SealingKey(_)
            | Act::Retention(_)
            | Act::Quarantine(_)
            | Act::Lack(_)
            | Act::Policy(_)
            | Act::Contract(_)
            | Act::Adoption(_) => None,
        }
    }

    /// The device it admits, and how.
    fn enrolment(&self) -> Option<&Enrolment> {
        match &self.act {
            Act::Genesis(act) => Some(&act.founder),
            Act::Enrolment(act) => Some(&act.enrolment),
            Act::Recovery(act) => Some(&act.enrolment),
            _ => None,
        }
    }

    /// What it leaves of which logs.
    fn cuts(&self) -> &[Cut] {
        match &self.act {
            Act::Revocation(act) => &act.cuts,
            Act::Recovery(act) => &act.cuts,
            _ => &[],
        }
    }

    /// The device whose role it sets, from which entry on, and to what.
    fn change(&self) -> Option<(&DeviceId, u64, Standing)> {
        match &self.act {
            Act::Change(ChangeAct { device, from_seq, role, clearance, .. }) => {
                let standing = Standing { role: *role, clearance: (*clearance).min(Band::Red) };
                Some((device, *from_seq, standing))
            }
            Act::Recovery(act) => Some((&act.enrolment.keys.signing, 0, of(&act.enrolment))),
            _ => None,
        }
    }

    /// The device that this is about, if about one.
    fn about(&self) -> Option<&DeviceId> {
        let enrolled = self.enrolment().map(|enrolment| &enrolment.keys.signing);
        enrolled.or_else(|| self.change().map(|(device, _, _)| device))
    }
}

fn of(enrolment: &Enrolment) -> Standing {
    Standing { role: enrolment.role, clearance: enrolment.clearance.min(Band::Red) }
}

#[derive(Debug, Clone)]
struct Node {
    entry: EntryHash,
    placed: Placed,
    /// All that it names, and all that those name.
    past: Acts,
    /// Whether its past allows it.
    holds: Result<(), VoidReason>,
    /// Its author's role in its past.
    rank: Option<Role>,
    /// Whether its past has all acts about the same device that were taken in before it.
    follows_all: bool,
}

/// The acts whose past is here.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    space: SpaceId,
    nodes: Vec<Node>,
    places: BTreeMap<EntryHash, usize>,
    /// The acts about each device.
    about: BTreeMap<DeviceId, Vec<usize>>,
    /// Those of them that admit it.
    enrolments: BTreeMap<DeviceId, Vec<usize>>,
    /// Those of these by which the recovery key does.
    recovered: BTreeMap<DeviceId, Vec<usize>>,
}

/// What some set of acts comes to.
struct View<'a> {
    acts: &'a Acts,
    /// Enrolments and changes that count.
    valid: Acts,
    /// How many entries of a log are left.
    cuts: BTreeMap<DeviceId, u64>,
    /// Who was made an owner at any time.
    owners: BTreeSet<DeviceId>,
    /// By device, what the changes about it that hold limit it to, from each on.
    limits: RefCell<BTreeMap<DeviceId, Rc<[Option<Standing>]>>>,
}

impl Judge {
    pub(super) const fn new(space: SpaceId) -> Self {
        Self {
            space,
            nodes: Vec::new(),
            places: BTreeMap::new(),
            about: BTreeMap::new(),
            enrolments: BTreeMap::new(),
            recovered: BTreeMap::new(),
        }
    }

    /// Whether the act's past is here.
    pub(super) fn may_take(&self, placed: &Placed) -> bool {
        let parents = placed.parents();
        parents.is_some_and(|all| all.iter().all(|one| self.places.contains_key(one)))
    }

    /// Takes in an act whose past is here.
    pub(super) fn take(&mut self, entry: EntryHash, placed: Placed) {
        if self.places.contains_key(&entry) {
            return;
        }
        let mut past = Acts::default();
        for parent in placed.parents().unwrap_or_default() {
            if let Some(at) = self.places.get(parent)
                && let Some(node) = self.nodes.get(*at)
            {
                past.add_all(&node.past);
                past.insert(*at);
            }
        }
        let (holds, rank) = {
            let view = self.view(&past);
            let rank = match &placed.act {
                Act::Genesis(_) | Act::Recovery(_) => Some(Role::Owner),
                _ => self.standing(&view, &past, &placed.author, placed.seq).map(|own| own.role),
            };
            (self.permits(&placed, &view, &past, self.nodes.len()), rank)
        };
        let at = self.nodes.len();
        let mut follows_all = true;
        if let Some(device) = placed.about() {
            let about = self.about.entry(*device).or_default();
            follows_all = about.iter().all(|earlier| past.has(*earlier));
            about.push(at);
            if placed.enrolment().is_some() {
                self.enrolments.entry(*device).or_default().push(at);
            }
            if matches!(placed.act, Act::Recovery(_)) {
                self.recovered.entry(*device).or_default().push(at);
            }
        }
        self.places.insert(entry, at);
        self.nodes.push(Node { entry, placed, past, holds, rank, follows_all });
    }

    /// What all acts come to.
    pub(super) fn conclude(&self) -> Verdict {
        let all = self.all();
        let view = self.view(&all);
        let mut devices = BTreeMap::new();
        for device in self.about.keys() {
            if let Some(judged) = self.judged(&view, &all, device) {
                devices.insert(*device, judged);
            }
        }
        let counts = |node: &Node, at| match node.placed.act {
            Act::Revocation(_) => node.holds.is_ok(),
            _ => view.valid.has(at),
        };
        let entries = self.nodes.iter().zip(0..);
        let counting =
            entries.filter(|(node, at)| counts(node, *at)).map(|(node, _)| node.entry).collect();
        Verdict { devices, counting }
    }

    /// Why an act that is here does not hold.
    pub(super) fn why_not(&self, entry: &EntryHash) -> Option<VoidReason> {
        let node = self.nodes.get(*self.places.get(entry)?)?;
        node.holds.clone().err()
    }

    /// The acts that hold and that no other such act has in its past, in order.
    pub(super) fn heads(&self) -> Vec<EntryHash> {
        let mut covered = Acts::default();
        for node in self.nodes.iter().filter(|node| node.holds.is_ok()) {
            covered.add_all(&node.past);
        }
        let held = self.nodes.iter().zip(0..).filter(|(node, _)| node.holds.is_ok());
        let heads = held.filter(|(_, at)| !covered.has(*at)).map(|(node, _)| node.entry);
        heads.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn all(&self) -> Acts {
        let mut all = Acts::default();
        for at in 0..self.nodes.len() {
            all.insert(at);
        }
        all
    }

    fn nodes<'s>(&'s self, acts: &'s Acts) -> impl Iterator<Item = (usize, &'s Node)> {
        acts.iter().filter_map(|at| Some((at, self.nodes.get(at)?)))
    }

    /// The acts about a device.
    fn about(&self, device: &DeviceId) -> impl Iterator<Item = (usize, &Node)> {
        let places = self.about.get(device).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|at| Some((*at, self.nodes.get(*at)?)))
    }

    /// Those of them by which the recovery key admits it.
    fn recovered(&self, device: &DeviceId) -> impl Iterator<Item = (usize, &Node)> {
        let places = self.recovered.get(device).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|at| Some((*at, self.nodes.get(*at)?)))
    }

    /// What these acts come to. They hold the past of each of them.
    fn view<'a>(&self, acts: &'a Acts) -> View<'a> {
        let (valid, limits) = (Acts::default(), RefCell::default());
        let mut view = View { acts, valid, cuts: BTreeMap::new(), owners: BTreeSet::new(), limits };
        for (_, node) in self.nodes(acts).filter(|(_, node)| node.holds.is_ok()) {
            let made = match (&node.placed.act, node.placed.enrolment()) {
                (Act::Change(act), _) => (act.role == Role::Owner).then_some(act.device),
                (_, Some(act)) => (act.role == Role::Owner).then_some(act.keys.signing),
                _ => None,
            };
            view.owners.extend(made);
        }
        for (at, node) in self.nodes(acts).filter(|(_, node)| node.holds.is_ok()) {
            self.cut(&mut view, at, node);
        }
        for (at, node) in self.nodes(acts) {
            let gives = node.placed.about().is_some() && node.holds.is_ok();
            if gives && self.permits(&node.placed, &view, &node.past, at).is_ok() {
                view.valid.insert(at);
            }
        }
        view
    }

    /// Cuts logs as the act says.
    fn cut(&self, view: &mut View<'_>, at: usize, node: &Node) {
        let mut cuts: Vec<Cut> = node.placed.cuts().to_vec();
        if let Act::Revocation(RevocationAct { members, .. }) = &node.placed.act
            && !members.is_empty()
        {
            // A member's devices that the author did not know, or did not name. What is void says
            // of nobody's device whose it is, nor does one enrolment against another.
            for (_, other) in self.nodes(view.acts).filter(|(_, other)| other.holds.is_ok()) {
                let Some(enrolment) = other.placed.enrolment() else { continue };
                let device = enrolment.keys.signing;
                let is_named = cuts.iter().any(|cut| cut.device == device);
                let is_later = other.past.has(at);
                let is_of_another = || {
                    let held = self
                        .about(&device)
                        .filter(|(at, node)| view.acts.has(*at) && node.holds.is_ok());
                    let mut enrolments = held.filter_map(|(_, node)| node.placed.enrolment());
                    enrolments.any(|enrolment| !members.contains(&enrolment.member))
                };
                let is_theirs = members.contains(&enrolment.member);
                if is_theirs && !is_named && !is_later && !is_of_another() {
                    cuts.push(Cut { device, keeps: 0 });
                }
            }
        }
        for cut in cuts {
            if self.binds(view, node, &cut.device) {
                let keeps = view.cuts.entry(cut.device).or_insert(cut.keeps);
                *keeps = cut.keeps.min(*keeps);
            }
        }
    }

    /// Whether an act that takes something away has force over the device. An admin has none over
    /// whoever was made an owner, also if the admin does not know of it; and nobody has over a
    /// device that the recovery key admitted without having seen that. Whoever carries the same act
    /// once more has nothing new from the key.
    fn binds(&self, view: &View<'_>, act: &Node, device: &DeviceId) -> bool {
        if act.placed.author == *device {
            return true;
        }
        let is_known = |node: &Node| {
            let mut known = self.about(device).filter(|(at, _)| act.past.has(*at));
            known.any(|(_, other)| other.placed.act == node.placed.act)
        };
        let is_recovered = |(at, node): (usize, &Node)| {
            node.holds.is_ok() && node.entry != act.entry && view.acts.has(at) && !is_known(node)
        };
        let is_recovery = matches!(act.placed.act, Act::Recovery(_));
        let overrules = act.rank != Some(Role::Admin) || !view.owners.contains(device);
        overrules && (is_recovery || !self.recovered(device).any(is_recovered))
    }

    /// What the device may do at `seq` of its log by what is in `known`, or what it might if its
    /// log were not cut.
    fn standing_uncut(
        &self,
        view: &View<'_>,
        known: &Acts,
        device: &DeviceId,
        seq: u64,
    ) -> Option<Standing> {
        let counts = |at: usize| known.has(at) && view.valid.has(at);
        let enrolled = self.about(device).filter(|(at, _)| counts(*at));
        let base = enrolled.filter_map(|(_, node)| node.placed.enrolment().map(of));
        let base = base.reduce(Standing::greater)?;
        let begun = self.about(device).filter_map(|(at, node)| {
            let (_, from_seq, standing) = node.placed.change()?;
            (from_seq <= seq).then_some((at, node, standing))
        });
        let binding =
            begun.filter(|(at, node, _)| view.acts.has(*at) && self.binds(view, node, device));
        let changes: Vec<_> = binding.collect();
        // What a later one that counts has in its past it replaces. A past has that of all in it,
        // so that of what is replaced adds nothing.
        let mut replaced = Acts::default();
        for (at, node, _) in changes.iter().rev().filter(|(at, ..)| counts(*at)) {
            if !replaced.has(*at) {
                replaced.add_all(&node.past);
            }
        }
        let newest = changes.iter().filter(|(at, ..)| counts(*at) && !replaced.has(*at));
        let given_now = newest.map(|(.., standing)| *standing).reduce(Standing::lesser);
        let limits = changes
            .iter()
            .filter(|(at, node, _)| node.holds.is_ok() && !counts(*at) && !replaced.has(*at));
        let limits = limits.map(|(.., standing)| *standing);
        Some(limits.fold(given_now.unwrap_or(base), Standing::lesser))
    }

    /// [`Judge::standing_uncut`] at the end of the device's log, for the act at `at`. Mostly each
    /// act about a device knows of those before it: then what the last of them says is enough, and
    /// what came later is worked out once for all.
    fn standing_now(
        &self,
        view: &View<'_>,
        known: &Acts,
        device: &DeviceId,
        at: usize,
    ) -> Option<Standing> {
        let slowly = || self.standing_uncut(view, known, device, u64::MAX);
        let places = self.about.get(device).map_or(&[][..], Vec::as_slice);
        let known_to = places.partition_point(|place| *place < at);
        let (earlier, _) = places.split_at_checked(known_to).unwrap_or_default();
        let Some(last) = earlier.last().and_then(|last| Some((*last, self.nodes.get(*last)?)))
        else {
            return slowly();
        };
        if !known.has(last.0) || !last.1.follows_all {
            return slowly();
        }
        let counts = |at: usize| known.has(at) && view.valid.has(at);
        let enrolments = self.enrolments.get(device).map_or(&[][..], Vec::as_slice);
        let enrolled = enrolments.iter().filter(|at| counts(**at));
        let base = enrolled.filter_map(|at| self.nodes.get(*at)?.placed.enrolment().map(of));
        let base = base.reduce(Standing::greater)?;
        let (mut given, mut limit) = (None, self.limit(view, device, known_to));
        for place in earlier.iter().rev() {
            let Some(node) = self.nodes.get(*place) else { return slowly() };
            let Some((_, _, standing)) = node.placed.change() else { continue };
            if !self.binds(view, node, device) {
                continue;
            }
            if counts(*place) {
                if !node.follows_all {
                    return slowly();
                }
                given = Some(standing);
                break;
            }
            if node.holds.is_ok() {
                limit = Some(limit.map_or(standing, |limit| limit.lesser(standing)));
            }
        }
        let now = given.unwrap_or(base);
        Some(limit.map_or(now, |limit| now.lesser(limit)))
    }

    /// What the changes about a device, from one of them on, limit it to.
    fn limit(&self, view: &View<'_>, device: &DeviceId, from: usize) -> Option<Standing> {
        if let Some(limits) = view.limits.borrow().get(device) {
            return limits.get(from).copied().flatten();
        }
        let places = self.about.get(device).map_or(&[][..], Vec::as_slice);
        let mut limits: Vec<Option<Standing>> = Vec::with_capacity(places.len());
        let mut limit: Option<Standing> = None;
        for place in places.iter().rev() {
            let node = self.nodes.get(*place).filter(|node| {
                view.acts.has(*place) && node.holds.is_ok() && self.binds(view, node, device)
            });
            if let Some((_, _, standing)) = node.and_then(|node| node.placed.change()) {
                limit = Some(limit.map_or(standing, |limit| limit.lesser(standing)));
            }
            limits.push(limit);
        }
        limits.reverse();
        let limits: Rc<[Option<Standing>]> = limits.into();
        let found = limits.get(from).copied().flatten();
        view.limits.borrow_mut().insert(*device, limits);
        found
    }

    fn standing(
        &self,
        view: &View<'_>,
        known: &Acts,
        device: &DeviceId,
        seq: u64,
    ) -> Option<Standing> {
        let is_cut = view.cuts.get(device).is_some_and(|keeps| *keeps < seq);
        if is_cut { None } else { self.standing_uncut(view, known, device, seq) }
    }

    /// Whether `view` gives the act's author the right to it, by what the author knew.
    fn permits(
        &self,
        placed: &Placed,
        view: &View<'_>,
        known: &Acts,
        at: usize,
    ) -> Result<(), VoidReason> {
        match &placed.act {
            Act::Genesis(_) => return Ok(()),
            Act::Recovery(act) => {
                let genesis = self.nodes.first().map(|node| &node.placed.act);
                let Some(Act::Genesis(genesis)) = genesis else { return Err(VoidReason::Role) };
                let key = genesis.recovery.as_ref().ok_or(VoidReason::NoRecovery)?;
                let verified = key.verify(&act.signed_bytes(&self.space), &act.signature);
                return verified.map_err(|_| VoidReason::NoRecovery);
            }
            _ => {}
        }
        let author = &placed.author;
        let Some(own) = self.standing(view, known, author, placed.seq) else {
            let is_cut = view.cuts.contains_key(author);
            return Err(if is_cut { VoidReason::Revoked } else { VoidReason::NotEnrolled });
        };
        let member = self.member(view, known, author);
        let now = |device: &DeviceId| self.standing_now(view, known, device, at);
        let may = match &placed.act {
            Act::Enrolment(act) => {
                let new = &act.enrolment;
                if now(&new.keys.signing).is_some() {
                    return Err(VoidReason::Enrolled);
                }
                let is_own = own.role.may_write() && member == Some(new.member);
                let may_read = own.role == Role::Owner || of(new).clearance <= own.clearance;
                may_read && (own.role.rules(new.role) || is_own && own.role <= new.role)
            }
            Act::Change(act) => {
                let Some(target) = now(&act.device) else { return Err(VoidReason::NotEnrolled) };
                let is_less = target.role <= act.role && act.clearance <= target.clearance;
                let may_read =
                    own.role == Role::Owner || act.clearance <= own.clearance.max(target.clearance);
                let rules = own.role.rules(target.role) && own.role.rules(act.role);
                rules && may_read || act.device == *author && is_less
            }
            Act::Revocation(act) => {
                let may_cut = |cut: &Cut| {
                    now(&cut.device).is_some_and(|target| {
                        let is_same = self.member(view, known, &cut.device) == member;
                        let is_own = own.role.may_write() && is_same && own.role <= target.role;
                        own.role.rules(target.role) || is_own || cut.device == *author
                    })
                };
                let devices = || self.about.keys();
                let may_shut_out = |one: &MemberId| {
                    own.role.rules(Role::Writer)
                        && devices()
                            .filter(|device| self.member(view, known, device) == Some(*one))
                            .filter_map(now)
                            .all(|target| own.role.rules(target.role))
                };
                act.cuts.iter().all(may_cut) && act.members.iter().all(may_shut_out)
            }
            _ => false,
        };
        if may { Ok(()) } else { Err(VoidReason::Role) }
    }

    /// Whose device it is, by its record.
    fn member(&self, view: &View<'_>, known: &Acts, device: &DeviceId) -> Option<MemberId> {
        self.record(view, known, device)?.placed.enrolment().map(|enrolment| enrolment.member)
    }

    /// The enrolment that a device's record is taken from: of those that count, one that knew of
    /// none of the others; there the lowest entry.
    fn record(&self, view: &View<'_>, known: &Acts, device: &DeviceId) -> Option<&Node> {
        let enrolments = || {
            let counting =
                self.about(device).filter(|(at, _)| known.has(*at) && view.valid.has(*at));
            counting.filter(|(_, node)| node.placed.enrolment().is_some())
        };
        let is_first = |node: &Node| !enrolments().any(|(at, _)| node.past.has(at));
        let all = enrolments().map(|(_, node)| node);
        all.filter(|node| is_first(node)).min_by_key(|node| node.entry)
    }

    /// The enrolments of a device that their pasts allow, whether they count or not.
    pub(super) fn enrolled_by(
        &self,
        device: &DeviceId,
    ) -> impl Iterator<Item = (DeviceId, u64, EntryHash)> {
        let enrolments = self.about(device).map(|(_, node)| node).filter(|node| {
            let is_genesis = matches!(node.placed.act, Act::Genesis(_));
            !is_genesis && node.holds.is_ok() && node.placed.enrolment().is_some()
        });
        enrolments.map(|node| (node.placed.author, node.placed.seq, node.entry))
    }

    fn judged(&self, view: &View<'_>, all: &Acts, device: &DeviceId) -> Option<Judged> {
        let enrolment = self.record(view, all, device)?.placed.enrolment()?.clone();
        let valid = self.about(device).filter(|(at, _)| view.valid.has(*at));
        let enrolled_by = valid
            .map(|(_, node)| node)
            .filter(|node| !matches!(node.placed.act, Act::Genesis(_)))
            .filter(|node| node.placed.enrolment().is_some())
            .map(|node| (node.placed.author, node.placed.seq, node.entry))
            .collect();
        let keeps = view.cuts.get(device).copied();
        let changes = self.about(device).filter_map(|(_, node)| node.placed.change());
        let places: BTreeSet<u64> = changes
            .map(|(_, from_seq, _)| from_seq.max(1))
            .chain([1])
            .chain(keeps.and_then(|keeps| keeps.checked_add(1)))
            .collect();
        let mut standings: Vec<(u64, Option<Standing>)> = Vec::new();
        for seq in places {
            let standing = self.standing(view, all, device, seq);
            if standings.last().is_none_or(|(_, last)| *last != standing) {
                standings.push((seq, standing));
            }
        }
        let last = self.standing_uncut(view, all, device, keeps.unwrap_or(u64::MAX))?;
        let held = self.about(device).filter(|(_, node)| node.holds.is_ok());
        let given = held.filter_map(|(_, node)| match node.placed.change() {
            Some((_, _, standing)) => Some(standing.clearance),
            None => node.placed.enrolment().map(|enrolment| of(enrolment).clearance),
        });
        let lowest = given.fold(last.clearance, Band::min);
        Some(Judged { enrolment, enrolled_by, keeps, standings, last, lowest })
    }
}

/// What all acts come to.
pub(super) struct Verdict {
    pub devices: BTreeMap<DeviceId, Judged>,
    /// The acts that have an effect.
    pub counting: BTreeSet<EntryHash>,
}

/// What the acts say of one device.
pub(super) struct Judged {
    pub enrolment: Enrolment,
    pub enrolled_by: BTreeSet<(DeviceId, u64, EntryHash)>,
    /// How many of its entries count, if it was shut out.
    pub keeps: Option<u64>,
    /// What it may do from which entry on.
    pub standings: Vec<(u64, Option<Standing>)>,
    /// What it may do, or could last.
    pub last: Standing,
    /// The lowest clearance that it was ever given.
    pub lowest: Band,
}
