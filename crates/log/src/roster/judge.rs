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
//! All acts whose past is here are judged, in any order that respects it; others wait. What all of
//! them come to, and what the pasts of the last ones do, is kept, and goes on with each further
//! act (`view`): an act costs what it changes, not all that came before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use larder_types::{DeviceId, EntryHash, MemberId, SpaceId};

use super::acts::Acts;
use super::view::{News, View, Views};
use crate::act::{Act, ChangeAct, Cut, Enrolment, Role};
use crate::error::VoidReason;
use crate::section::Band;

mod lifted;

pub use lifted::Lifted;

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

    pub(super) fn greater(self, other: Self) -> Self {
        Self { role: self.role.greater(other.role), clearance: self.clearance.max(other.clearance) }
    }

    pub(super) fn lesser(self, other: Self) -> Self {
        Self { role: self.role.lesser(other.role), clearance: self.clearance.min(other.clearance) }
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
    pub(super) fn enrolment(&self) -> Option<&Enrolment> {
        match &self.act {
            Act::Genesis(act) => Some(&act.founder),
            Act::Enrolment(act) => Some(&act.enrolment),
            Act::Recovery(act) => Some(&act.enrolment),
            _ => None,
        }
    }

    /// The members that it shuts out.
    pub(super) fn members(&self) -> &[MemberId] {
        match &self.act {
            Act::Revocation(act) => &act.members,
            _ => &[],
        }
    }

    /// What it leaves of which logs.
    pub(super) fn cuts(&self) -> &[Cut] {
        match &self.act {
            Act::Revocation(act) => &act.cuts,
            Act::Recovery(act) => &act.cuts,
            _ => &[],
        }
    }

    /// The device whose role it sets, from which entry on, and to what.
    pub(super) fn change(&self) -> Option<(&DeviceId, u64, Standing)> {
        match &self.act {
            Act::Change(ChangeAct { device, from_seq, role, clearance, .. }) => {
                let standing = Standing { role: *role, clearance: (*clearance).min(Band::Red) };
                Some((device, *from_seq, standing))
            }
            _ => None,
        }
    }

    /// The device that this is about, if about one.
    fn about(&self) -> Option<&DeviceId> {
        let enrolled = self.enrolment().map(|enrolment| &enrolment.keys.signing);
        enrolled.or_else(|| self.change().map(|(device, _, _)| device))
    }
}

pub(super) fn of(enrolment: &Enrolment) -> Standing {
    Standing { role: enrolment.role, clearance: enrolment.clearance.min(Band::Red) }
}

/// An act that is here.
#[derive(Debug)]
pub(super) struct Node {
    pub entry: EntryHash,
    pub placed: Placed,
    /// Its author, and the device that it is about: places in [`Judge::known`].
    pub author: usize,
    pub target: Option<usize>,
    /// All that it names, and all that those name.
    pub past: Acts,
    /// Whether its past allows it.
    pub holds: Result<(), VoidReason>,
    /// Its author's role in its past.
    pub rank: Option<Role>,
    /// So many changes about the same device, the first that were taken in, are in its past.
    pub follows: usize,
    /// Whether its past has no such change, and no enrolment of that device that holds.
    pub is_first_change: bool,
    pub is_first: bool,
    /// If it holds and is a recovery, the one that it is or carries once more.
    pub recovery: Option<usize>,
    /// The recoveries in its past.
    pub aware: Vec<usize>,
}

impl Node {
    /// Whether its force may differ from one set of acts to another: it gives something, and not by
    /// a signature that is its own.
    pub(super) fn is_judged(&self) -> bool {
        matches!(self.placed.act, Act::Enrolment(_) | Act::Change(_))
    }
}

/// A change of a device's standing, as [`View::standing_uncut`] goes through them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub at: usize,
    pub from_seq: u64,
    pub standing: Standing,
    /// [`Node::follows`].
    pub follows: usize,
}

/// What was said of a device, and by it, in acts that hold; by place in [`Judge::nodes`], in order.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub id: DeviceId,
    pub enrolments: Vec<usize>,
    pub changes: Vec<Change>,
    /// The acts that name it among their cuts.
    pub cut_by: Vec<usize>,
    /// The enrolments and changes that it wrote.
    pub wrote: Vec<usize>,
}

impl Known {
    /// How many of the changes, from the first on, are in this past without a gap; and whether none
    /// is in it at all.
    fn follows(&self, past: &Acts) -> (usize, bool) {
        let places = (0..self.changes.len()).zip(&self.changes);
        let Some((place, last)) = places.rev().find(|(_, change)| past.has(change.at)) else {
            return (0, true);
        };
        let begun = if last.follows == place { place + 1 } else { last.follows };
        let rest = self.changes.iter().skip(begun);
        (begun + rest.take_while(|change| past.has(change.at)).count(), false)
    }
}

/// What the recovery key signed once, and the acts that carry it.
#[derive(Debug, Clone)]
pub(super) struct Recovered {
    pub device: usize,
    pub carried: Vec<usize>,
    /// As [`Node::aware`], the same wherever it is carried.
    pub aware: Vec<usize>,
}

/// What has kept a device from others' force, by some set of acts.
#[derive(Debug, Default)]
pub(super) struct Shield {
    /// Whether it was made an owner at any time.
    pub was_owner: bool,
    /// The recoveries that admitted it.
    pub recovered: Vec<usize>,
}

/// The acts whose past is here.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    space: SpaceId,
    pub(super) nodes: Vec<Arc<Node>>,
    places: BTreeMap<EntryHash, usize>,
    pub(super) known: Vec<Arc<Known>>,
    numbers: BTreeMap<DeviceId, usize>,
    pub(super) recovered: Vec<Recovered>,
    /// The acts that hold and shut out members, and the devices of a member by what holds.
    pub(super) shutting_out: Vec<usize>,
    pub(super) of_member: BTreeMap<MemberId, BTreeSet<usize>>,
    /// What all of them come to, and what has changed in it.
    all: View,
    news: News,
    views: Views,
}

impl Judge {
    pub(super) const fn new(space: SpaceId) -> Self {
        Self {
            space,
            nodes: Vec::new(),
            places: BTreeMap::new(),
            known: Vec::new(),
            numbers: BTreeMap::new(),
            recovered: Vec::new(),
            shutting_out: Vec::new(),
            of_member: BTreeMap::new(),
            all: View::new(),
            news: News::new(),
            views: Views::new(),
        }
    }

    /// Whether the act is here.
    pub(super) fn has(&self, entry: &EntryHash) -> bool {
        self.places.contains_key(entry)
    }

    /// Takes in an act whose past is here.
    pub(super) fn take(&mut self, entry: EntryHash, placed: Placed) {
        if self.has(&entry) {
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
        let author = self.number(placed.author);
        let target = placed.about().copied().map(|device| self.number(device));
        let known = target.and_then(|target| self.known.get(target)).map(Arc::as_ref);
        let (follows, is_first_change) = known.map_or((0, true), |known| known.follows(&past));
        let is_first = known.is_none_or(|known| !known.enrolments.iter().any(|at| past.has(*at)));
        let has_seen = |one: &Recovered| one.carried.iter().any(|at| past.has(*at));
        let aware = (0..).zip(&self.recovered).filter(|(_, one)| has_seen(one));
        let aware = aware.map(|(number, _)| number).collect();
        let (holds, rank, recovery) = (Err(VoidReason::Unjudged), None, None);
        let mut node = Node {
            entry,
            placed,
            author,
            target,
            past,
            holds,
            rank,
            follows,
            is_first_change,
            is_first,
            recovery,
            aware,
        };
        (node.holds, node.rank) = self.judge(&node);
        let at = self.nodes.len();
        self.places.insert(entry, at);
        if node.holds.is_ok() {
            self.list(at, &mut node);
        }
        self.nodes.push(Arc::new(node));
        let (mut all, mut news) = (std::mem::take(&mut self.all), std::mem::take(&mut self.news));
        all.add(self, at, &mut news);
        (self.all, self.news) = (all, news);
    }

    /// Whether the act's past allows it, and its author's role there.
    fn judge(&mut self, node: &Node) -> (Result<(), VoidReason>, Option<Role>) {
        let count = node.past.count();
        let mut views = std::mem::take(&mut self.views);
        let view = if count == self.all.count() {
            views.note(&self.all);
            Some(&self.all)
        } else {
            views.of(self, &node.past, count)
        };
        let judged = view.map(|view| {
            let [own, target] = view.asked(self, node);
            let rank = match &node.placed.act {
                Act::Genesis(_) | Act::Recovery(_) => Some(Role::Owner),
                _ if view.is_cut(node.author, node.placed.seq) => None,
                _ => own.map(|own| own.role),
            };
            (self.permits(view, node, own, target), rank)
        });
        let judged = judged.unwrap_or((Err(VoidReason::Unjudged), None));
        self.views = views;
        judged
    }

    fn number(&mut self, device: DeviceId) -> usize {
        *self.numbers.entry(device).or_insert_with(|| {
            let [enrolments, cut_by, wrote] = [const { Vec::new() }; 3];
            let changes = Vec::new();
            self.known.push(Arc::new(Known { id: device, enrolments, changes, cut_by, wrote }));
            self.known.len() - 1
        })
    }

    pub(super) fn number_of(&self, device: &DeviceId) -> Option<usize> {
        self.numbers.get(device).copied()
    }

    /// Lists an act that holds under the devices that it is by and about.
    fn list(&mut self, at: usize, node: &mut Node) {
        if let Some(enrolment) = node.placed.enrolment()
            && let Some(target) = node.target
        {
            self.of_member.entry(enrolment.member).or_default().insert(target);
            self.change_known(target, |known| known.enrolments.push(at));
        }
        if let Some((_, from_seq, standing)) = node.placed.change()
            && let Some(target) = node.target
        {
            let change = Change { at, from_seq, standing, follows: node.follows };
            self.change_known(target, |known| known.changes.push(change));
        }
        if node.is_judged() {
            self.change_known(node.author, |known| known.wrote.push(at));
        }
        for cut in node.placed.cuts() {
            let device = self.number(cut.device);
            self.change_known(device, |known| known.cut_by.push(at));
        }
        if !node.placed.members().is_empty() {
            self.shutting_out.push(at);
        }
        if let (Act::Recovery(_), Some(device)) = (&node.placed.act, node.target) {
            let nodes = &self.nodes;
            let is_same =
                |at: &usize| nodes.get(*at).map(|n| &n.placed.act) == Some(&node.placed.act);
            let same =
                self.recovered.iter().position(|one| one.carried.first().is_some_and(is_same));
            let number = same.unwrap_or(self.recovered.len());
            if same.is_none() {
                let aware = node.aware.clone();
                self.recovered.push(Recovered { device, carried: Vec::new(), aware });
            }
            if let Some(one) = self.recovered.get_mut(number) {
                one.carried.push(at);
            }
            node.recovery = Some(number);
        }
    }

    fn change_known(&mut self, device: usize, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known.get_mut(device) {
            change(Arc::make_mut(known));
        }
    }

    /// What has changed, since this was asked last, in what all acts come to.
    pub(super) fn conclude(&mut self) -> Verdict {
        let news = std::mem::take(&mut self.news);
        let known =
            news.devices.iter().filter_map(|device| Some((*device, self.known.get(*device)?)));
        let devices = known.map(|(device, known)| (known.id, self.judged(device))).collect();
        let counts = |at: usize| self.nodes.get(at).map(|node| (node.entry, self.counts(at, node)));
        let counting = news.acts.into_iter().filter_map(counts).collect();
        Verdict { devices, counting }
    }

    fn counts(&self, at: usize, node: &Node) -> bool {
        match node.placed.act {
            Act::Revocation(_) => node.holds.is_ok(),
            _ => self.all.counts(at),
        }
    }

    /// Why an act that is here does not hold.
    pub(super) fn why_not(&self, entry: &EntryHash) -> Option<VoidReason> {
        let node = self.nodes.get(*self.places.get(entry)?)?;
        node.holds.clone().err()
    }

    /// The acts that hold and that no other such act has in its past, in order.
    pub(super) fn heads(&self) -> Vec<EntryHash> {
        let (mut covered, mut heads) = (Acts::default(), BTreeSet::new());
        for (at, node) in (0..self.nodes.len()).zip(&self.nodes).rev() {
            // What is covered has its past covered too.
            if node.holds.is_ok() && !covered.has(at) {
                heads.insert(node.entry);
                covered.add_all(&node.past);
            }
        }
        heads.into_iter().collect()
    }

    /// Whether an act has force over the device. An admin's has none over whoever was made an
    /// owner, also if the admin does not know of it; and none has over a device that the recovery
    /// key admitted without having seen that, not the device's own either: but for another recovery
    /// that was not seen there. Whoever carries the same act once more has nothing new from the
    /// key.
    pub(super) fn binds(&self, shield: &Shield, act: &Node, device: usize) -> bool {
        let is_safe = Self::is_admins(act, device) && shield.was_owner
            || shield.recovered.iter().any(|number| self.is_over(*number, act));
        !is_safe
    }

    /// Whether the act is an admin's about another device.
    fn is_admins(act: &Node, device: usize) -> bool {
        act.author != device && act.rank == Some(Role::Admin)
    }

    /// Whether a recovery keeps what it admitted from the act's force.
    fn is_over(&self, number: usize, act: &Node) -> bool {
        let has_seen =
            |other: usize| self.recovered.get(number).is_some_and(|one| one.aware.contains(&other));
        !act.aware.contains(&number) && act.recovery.is_none_or(has_seen)
    }

    /// Whether `view` gives the act's author the right to it, by what the author knew: that it was
    /// `own` itself, if it is not cut, and who the act is about was `target`.
    pub(super) fn permits(
        &self,
        view: &View,
        node: &Node,
        own: Option<Standing>,
        target: Option<Standing>,
    ) -> Result<(), VoidReason> {
        match &node.placed.act {
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
        let (author, past) = (node.author, &node.past);
        let own = own.filter(|_| !view.is_cut(author, node.placed.seq));
        let Some(own) = own else {
            let is_cut = view.cut(author).is_some();
            return Err(if is_cut { VoidReason::Revoked } else { VoidReason::NotEnrolled });
        };
        let may = match &node.placed.act {
            Act::Enrolment(act) => {
                let new = &act.enrolment;
                if target.is_some() {
                    return Err(VoidReason::Enrolled);
                }
                let is_own =
                    own.role.may_write() && self.member(view, past, author) == Some(new.member);
                let may_read = own.role == Role::Owner || of(new).clearance <= own.clearance;
                may_read && (own.role.rules(new.role) || is_own && own.role <= new.role)
            }
            Act::Change(act) => {
                let Some(target) = target else { return Err(VoidReason::NotEnrolled) };
                let is_less = target.role <= act.role && act.clearance <= target.clearance;
                let may_read =
                    own.role == Role::Owner || act.clearance <= own.clearance.max(target.clearance);
                let rules = own.role.rules(target.role) && own.role.rules(act.role);
                rules && may_read || node.target == Some(author) && is_less
            }
            Act::Revocation(act) => {
                let may_cut = |cut: &Cut| self.may_cut(view, node, own, cut);
                let may_shut_out = |member: &MemberId| self.may_shut_out(view, node, own, member);
                act.cuts.iter().all(may_cut) && act.members.iter().all(may_shut_out)
            }
            _ => false,
        };
        if may { Ok(()) } else { Err(VoidReason::Role) }
    }

    fn may_cut(&self, view: &View, node: &Node, own: Standing, cut: &Cut) -> bool {
        let Some(device) = self.number_of(&cut.device) else { return false };
        view.standing_uncut(self, &node.past, device, u64::MAX).is_some_and(|target| {
            let member = |device| self.member(view, &node.past, device);
            let is_same = || member(device) == member(node.author);
            let is_own = own.role.may_write() && own.role <= target.role && is_same();
            own.role.rules(target.role) || is_own || device == node.author
        })
    }

    fn may_shut_out(&self, view: &View, node: &Node, own: Standing, member: &MemberId) -> bool {
        let devices = self.of_member.get(member).into_iter().flatten();
        let mut theirs =
            devices.filter(|device| self.member(view, &node.past, **device) == Some(*member));
        own.role.rules(Role::Writer)
            && theirs.all(|device| {
                let target = view.standing_uncut(self, &node.past, *device, u64::MAX);
                target.is_none_or(|target| own.role.rules(target.role))
            })
    }

    /// Whose device it is, by its record.
    fn member(&self, view: &View, past: &Acts, device: usize) -> Option<MemberId> {
        self.record(view, past, device)?.placed.enrolment().map(|enrolment| enrolment.member)
    }

    /// The enrolment that a device's record is taken from: of those that count, one that knew of
    /// none of the others; there the lowest entry.
    fn record(&self, view: &View, past: &Acts, device: usize) -> Option<&Node> {
        let known = self.known.get(device)?;
        let counting: Vec<(usize, &Node)> = known
            .enrolments
            .iter()
            .filter(|at| past.has(**at) && view.counts(**at))
            .filter_map(|at| Some((*at, self.nodes.get(*at)?.as_ref())))
            .collect();
        let is_first =
            |node: &Node| node.is_first || !counting.iter().any(|(at, _)| node.past.has(*at));
        let first = counting.iter().map(|(_, node)| *node).filter(|node| is_first(node));
        first.min_by_key(|node| node.entry)
    }

    /// The enrolments of a device that their pasts allow, whether they count or not.
    pub(super) fn enrolled_by(
        &self,
        device: &DeviceId,
    ) -> impl Iterator<Item = (DeviceId, u64, EntryHash)> {
        let known = self.number_of(device).and_then(|device| self.known.get(device));
        let places = known.map_or(&[][..], |known| &known.enrolments);
        places.iter().filter_map(|at| self.letting_in(*at))
    }

    /// Who wrote an enrolment, and where; nobody the genesis.
    fn letting_in(&self, at: usize) -> Option<(DeviceId, u64, EntryHash)> {
        let node = self.nodes.get(at)?;
        let is_genesis = matches!(node.placed.act, Act::Genesis(_));
        (!is_genesis).then_some((node.placed.author, node.placed.seq, node.entry))
    }

    fn judged(&self, device: usize) -> Option<Judged> {
        let (view, known) = (&self.all, self.known.get(device)?);
        let enrolment = self.record(view, view.acts(), device)?.placed.enrolment()?.clone();
        let valid = known.enrolments.iter().filter(|at| view.counts(**at));
        let enrolled_by = valid.filter_map(|at| self.letting_in(*at)).collect();
        let keeps = view.cut(device);
        let places: BTreeSet<u64> = known
            .changes
            .iter()
            .map(|change| change.from_seq.max(1))
            .chain([1])
            .chain(keeps.and_then(|keeps| keeps.checked_add(1)))
            .collect();
        let mut standings: Vec<(u64, Option<Standing>)> = Vec::new();
        for (seq, standing) in view.standings(self, device, &places) {
            if standings.last().is_none_or(|(_, last)| *last != standing) {
                standings.push((seq, standing));
            }
        }
        let last = view.standing_uncut(self, view.acts(), device, keeps.unwrap_or(u64::MAX))?;
        let enrolled = known.enrolments.iter().filter_map(|at| self.nodes.get(*at));
        let enrolled = enrolled.filter_map(|node| node.placed.enrolment());
        let given = enrolled.map(|enrolment| of(enrolment).clearance);
        let given = given.chain(known.changes.iter().map(|change| change.standing.clearance));
        let lowest = given.fold(last.clearance, Band::min);
        Some(Judged { enrolment, enrolled_by, keeps, standings, last, lowest })
    }
}

/// What has changed in what all acts come to.
pub(super) struct Verdict {
    /// The devices of which something else is said now; none, of one that was never let in.
    pub devices: Vec<(DeviceId, Option<Judged>)>,
    /// The acts that have an effect now, or none any more.
    pub counting: Vec<(EntryHash, bool)>,
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
