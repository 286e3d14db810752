//! What a set of acts comes to that holds the past of each of them, kept so that one more act costs
//! what it changes.
//!
//! An act that comes to a set is in the past of none that is there. So it changes there only:
//!
//! - what its cuts, or its member's being shut out, leave of a log: which of that log's acts stand
//!   before the cut;
//! - what it limits a device to: the standing, at each act by or about that device, becomes the
//!   lesser of what it was and of that;
//! - where it makes an owner, or is a recovery: which acts have force over that device at all
//!   where they were not known; everything by and about it is looked at again.
//!
//! If thereby an act begins to count or counts no more, those are looked at again, in order, that
//! know it and are by or about the same device as it is about. Nothing else rests on it.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use larder_types::MemberId;

use super::acts::{Acts, Noted};
use super::judge::{Change, Judge, Known, Node, Shield, Standing, of};
use crate::act::Role;
use crate::section::Band;

/// What has changed: by place in [`Judge::known`] and [`Judge::nodes`].
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    pub devices: BTreeSet<usize>,
    /// Acts that began to count, or do so no more, or are new.
    pub acts: BTreeSet<usize>,
}

impl News {
    pub(super) const fn new() -> Self {
        Self { devices: BTreeSet::new(), acts: BTreeSet::new() }
    }
}

/// Acts to be looked at again, and whether their author's and target's standings are others too.
type Again = BTreeMap<usize, bool>;

/// What some set of acts comes to. Of the numbers in it some are of acts, some of devices.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    acts: Acts,
    count: usize,
    newest: Option<usize>,
    /// Enrolments and changes that count.
    valid: Acts,
    /// By act, what its author was at its place if it was not cut, and what who it is about was, by
    /// what it knew.
    own: Noted<Option<Standing>>,
    target: Noted<Option<Standing>>,
    /// By device, no less than any of those of it.
    most: Noted<Option<Standing>>,
    /// How many entries of a device's log are left.
    cuts: Noted<Option<u64>>,
    /// Who was made an owner at any time.
    owners: Acts,
    /// The recoveries in it.
    recovered: Vec<usize>,
}

impl View {
    pub(super) const fn new() -> Self {
        Self {
            acts: Acts::new(),
            count: 0,
            newest: None,
            valid: Acts::new(),
            own: Noted::new(),
            target: Noted::new(),
            most: Noted::new(),
            cuts: Noted::new(),
            owners: Acts::new(),
            recovered: Vec::new(),
        }
    }

    pub(super) const fn acts(&self) -> &Acts {
        &self.acts
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Whether the enrolment or change counts.
    pub(super) fn counts(&self, at: usize) -> bool {
        self.valid.has(at)
    }

    /// How many entries of the device's log are left, if it is cut.
    pub(super) fn cut(&self, device: usize) -> Option<u64> {
        self.cuts.get(device)
    }

    pub(super) fn is_cut(&self, device: usize, seq: u64) -> bool {
        self.cut(device).is_some_and(|keeps| keeps < seq)
    }

    /// What keeps a device from others' force by all that is here.
    pub(super) fn shield(&self, judge: &Judge, device: usize) -> Shield {
        let is_its = |number: &&usize| {
            judge.recovered.get(**number).is_some_and(|recovered| recovered.device == device)
        };
        let recovered = self.recovered.iter().filter(is_its).copied().collect();
        Shield { was_owner: self.owners.has(device), recovered }
    }

    /// The same by what is in `past`.
    fn shield_in(&self, judge: &Judge, device: usize, known: &Known, past: &Acts) -> Shield {
        let Shield { was_owner, mut recovered } = self.shield(judge, device);
        recovered.retain(|number| {
            let recovered = judge.recovered.get(*number);
            recovered.is_some_and(|one| one.carried.iter().any(|at| past.has(*at)))
        });
        let makes_owner = |at: &usize| {
            let enrolment = judge.nodes.get(*at).and_then(|node| node.placed.enrolment());
            enrolment.is_some_and(|enrolment| enrolment.role == Role::Owner) && past.has(*at)
        };
        let is_raised =
            |change: &Change| change.standing.role == Role::Owner && past.has(change.at);
        let was_owner = was_owner
            && (known.enrolments.iter().any(makes_owner) || known.changes.iter().any(is_raised));
        Shield { was_owner, recovered }
    }

    /// What the device may do at `seq` of its log by what is in `past`, or what it might if its log
    /// were not cut. What is in `past` has the force that it had for who knew no more than that:
    /// what gave a device a role has it also once that is an owner, or recovered.
    pub(super) fn standing_uncut(
        &self,
        judge: &Judge,
        past: &Acts,
        device: usize,
        seq: u64,
    ) -> Option<Standing> {
        let known = judge.known.get(device)?;
        let counts = |at: usize| past.has(at) && self.valid.has(at);
        let base = Self::base(judge, &known.enrolments, counts)?;
        let shield = self.shield(judge, device);
        let known_shield = OnceCell::new();
        let has_force = |change: &Change| {
            let is_begun = change.from_seq <= seq && self.acts.has(change.at);
            // Mostly there is nothing to be minded.
            if !is_begun || !shield.was_owner && shield.recovered.is_empty() {
                return is_begun;
            }
            let of_past =
                || known_shield.get_or_init(|| self.shield_in(judge, device, known, past));
            let shield = if past.has(change.at) { of_past() } else { &shield };
            judge.nodes.get(change.at).is_some_and(|node| judge.binds(shield, node, device))
        };
        let (mut least, mut is_given, mut replaced) = (None::<Standing>, false, Acts::default());
        // What a later one that counts has in its past it replaces. A past has that of all in it,
        // so that of what is replaced adds nothing.
        let mut follows = 0;
        for (place, change) in (0..known.changes.len()).zip(&known.changes).rev() {
            if place < follows {
                break;
            }
            let (at, standing) = (change.at, change.standing);
            if replaced.has(at) || !has_force(change) {
                continue;
            }
            least = Some(least.map_or(standing, |least| least.lesser(standing)));
            if counts(at)
                && let Some(node) = judge.nodes.get(at)
            {
                is_given = true;
                follows = follows.max(node.follows);
                if follows < place && !node.is_first_change {
                    replaced.add_all(&node.past);
                }
            }
        }
        let base = Some(base).filter(|_| !is_given);
        base.into_iter().chain(least).reduce(Standing::lesser)
    }

    fn base(
        judge: &Judge,
        enrolments: &[usize],
        counts: impl Fn(usize) -> bool,
    ) -> Option<Standing> {
        let nodes =
            enrolments.iter().filter(|at| counts(**at)).filter_map(|at| judge.nodes.get(*at));
        nodes.filter_map(|node| node.placed.enrolment().map(of)).reduce(Standing::greater)
    }

    /// What the device may do, by all that is here, at each of these places of its log.
    pub(super) fn standings(
        &self,
        judge: &Judge,
        device: usize,
        places: &BTreeSet<u64>,
    ) -> Vec<(u64, Option<Standing>)> {
        let Some(known) = judge.known.get(device) else { return Vec::new() };
        let base = Self::base(judge, &known.enrolments, |at| self.valid.has(at));
        let shield = self.shield(judge, device);
        let has_force = |change: &&Change| {
            let node = judge.nodes.get(change.at).filter(|_| self.acts.has(change.at));
            node.is_some_and(|node| judge.binds(&shield, node, device))
        };
        let mut begun: Vec<&Change> = known.changes.iter().filter(has_force).collect();
        // Of those that begin at one place the last come first: mostly they replace all others.
        begun.sort_unstable_by_key(|change| (change.from_seq, Reverse(change.at)));
        let mut begun = begun.into_iter().peekable();
        let (mut left, mut replaced) = (Left::default(), Acts::default());
        let mut is_given = false;
        let mut standings = Vec::with_capacity(places.len());
        for seq in places {
            while let Some(change) = begun.next_if(|change| change.from_seq <= *seq) {
                let at = change.at;
                is_given |= self.valid.has(at);
                if replaced.has(at) {
                    continue;
                }
                let node = judge.nodes.get(at).filter(|_| self.valid.has(at));
                if let Some(node) = node.filter(|node| !node.is_first_change) {
                    for earlier in node.past.without(&replaced) {
                        left.remove(earlier);
                    }
                    replaced.add_all(&node.past);
                }
                left.add(at, change.standing);
            }
            let base = base.filter(|_| !is_given).into_iter();
            let least = base.chain(left.least()).reduce(Standing::lesser);
            standings.push((*seq, least.filter(|_| !self.is_cut(device, *seq))));
        }
        standings
    }

    /// What the act's author was at its place, if it was not cut, and who it is about.
    pub(super) fn asked(&self, judge: &Judge, node: &Node) -> [Option<Standing>; 2] {
        let own = self.standing_uncut(judge, &node.past, node.author, node.placed.seq);
        let target = node.target.filter(|_| node.is_judged());
        [own, target.and_then(|target| self.standing_uncut(judge, &node.past, target, u64::MAX))]
    }

    /// Takes in an act whose past is here.
    pub(super) fn add(&mut self, judge: &Judge, at: usize, news: &mut News) {
        let Some(node) = judge.nodes.get(at) else { return };
        self.acts.insert(at);
        self.count += 1;
        self.newest = self.newest.max(Some(at));
        if node.holds.is_err() {
            return;
        }
        news.acts.insert(at);
        let mut again = Again::new();
        if let Some(target) = node.target {
            news.devices.insert(target);
            self.raise(judge, node, target, news, &mut again);
        }
        for cut in node.placed.cuts() {
            if let Some(device) = judge.number_of(&cut.device)
                && judge.binds(&self.shield(judge, device), node, device)
                && self.cut(device).is_none_or(|keeps| cut.keeps < keeps)
            {
                self.set_cut(judge, device, Some(cut.keeps), news, &mut again);
            }
        }
        for member in node.placed.members() {
            for device in judge.of_member.get(member).into_iter().flatten() {
                if self.cut(*device) != Some(0) && self.shuts_out(judge, at, node, *device) {
                    self.set_cut(judge, *device, Some(0), news, &mut again);
                }
            }
        }
        if let Some(target) = node.target {
            self.limit(judge, at, node, target, &mut again);
            again.insert(at, true);
        }
        self.settle(judge, again, news);
    }

    /// What an act about a device changes in which acts have force over it.
    fn raise(
        &mut self,
        judge: &Judge,
        node: &Node,
        target: usize,
        news: &mut News,
        again: &mut Again,
    ) {
        let enrolled = node.placed.enrolment().map(|enrolment| enrolment.role);
        let role = enrolled.or_else(|| node.placed.change().map(|(.., standing)| standing.role));
        let is_raised = role == Some(Role::Owner) && !self.owners.has(target);
        if is_raised {
            self.owners.insert(target);
        }
        let recovery = node.recovery.filter(|number| !self.recovered.contains(number));
        self.recovered.extend(recovery);
        let has_other_force = is_raised || recovery.is_some();
        if has_other_force || enrolled.is_some() && !judge.shutting_out.is_empty() {
            let keeps = self.keeps(judge, target);
            self.set_cut(judge, target, keeps, news, again);
        }
        if has_other_force && let Some(known) = judge.known.get(target) {
            again.extend(self.by_and_about(judge, known, 0).map(|at| (at, true)));
        }
    }

    /// The enrolments and changes here, from a place on, that a device wrote or that are about it.
    fn by_and_about<'a>(
        &'a self,
        judge: &'a Judge,
        known: &'a Known,
        from: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let later = move |all: &'a [usize]| all.iter().rev().take_while(move |at| **at >= from);
        let changes = known.changes.iter().rev().map(|change| &change.at);
        let changes = changes.take_while(move |at| **at >= from);
        let all = later(&known.wrote).chain(later(&known.enrolments)).chain(changes);
        let is_judged = |at: &usize| judge.nodes.get(*at).is_some_and(|node| node.is_judged());
        all.copied().filter(move |at| self.acts.has(*at) && is_judged(at))
    }

    /// How many entries of the device's log are left by all that is here.
    fn keeps(&self, judge: &Judge, device: usize) -> Option<u64> {
        let known = judge.known.get(device)?;
        let shield = self.shield(judge, device);
        let node = |at: &usize| judge.nodes.get(*at).filter(|_| self.acts.has(*at));
        let cutting = known.cut_by.iter().filter_map(node);
        let cutting =
            cutting.filter(|node| judge.binds(&shield, node, device)).filter_map(|node| {
                node.placed.cuts().iter().find(|cut| cut.device == known.id).map(|cut| cut.keeps)
            });
        let shutting = judge.shutting_out.iter();
        let shutting = shutting.filter_map(|at| Some((*at, node(at)?)));
        let shut_out = shutting.map(|(at, node)| self.shuts_out(judge, at, node, device));
        cutting.chain(shut_out.filter(|is_out| *is_out).map(|_| 0)).min()
    }

    fn shuts_out(&self, judge: &Judge, at: usize, node: &Node, device: usize) -> bool {
        self.names_member_of(judge, at, node, device)
            && judge.binds(&self.shield(judge, device), node, device)
    }

    /// Whether the act would shut the device out as one of a member's that its author did not know,
    /// or did not name. What is void says of nobody's device whose it is, nor does one enrolment
    /// against another.
    pub(super) fn names_member_of(
        &self,
        judge: &Judge,
        at: usize,
        node: &Node,
        device: usize,
    ) -> bool {
        let members: &[MemberId] = node.placed.members();
        let Some(known) = judge.known.get(device) else { return false };
        let enrolments = known.enrolments.iter().filter(|at| self.acts.has(**at));
        let enrolments = enrolments.filter_map(|at| judge.nodes.get(*at));
        let is_theirs = |other: &Node| {
            let enrolment = other.placed.enrolment();
            enrolment.is_some_and(|enrolment| members.binary_search(&enrolment.member).is_ok())
        };
        enrolments.clone().all(|other| is_theirs(other))
            && enrolments.clone().any(|other| !other.past.has(at))
            && node.placed.cuts().iter().all(|cut| cut.device != known.id)
    }

    fn set_cut(
        &mut self,
        judge: &Judge,
        device: usize,
        keeps: Option<u64>,
        news: &mut News,
        again: &mut Again,
    ) {
        let before = self.cut(device);
        if keeps == before {
            return;
        }
        self.cuts.set(device, keeps);
        news.devices.insert(device);
        let [before, now] = [before, keeps].map(|keeps| keeps.unwrap_or(u64::MAX));
        for at in judge.known.get(device).into_iter().flat_map(|known| &known.wrote) {
            let seq = judge.nodes.get(*at).map_or(0, |node| node.placed.seq);
            if self.acts.has(*at) && seq > before.min(now) && seq <= before.max(now) {
                again.entry(*at).or_insert(false);
            }
        }
    }

    /// None of those here knows of the act: where it has force, it limits what they rest on.
    fn limit(&mut self, judge: &Judge, at: usize, node: &Node, target: usize, again: &mut Again) {
        let Some((_, from_seq, standing)) = node.placed.change() else { return };
        let Some(known) = judge.known.get(target) else { return };
        let lesser = |of: Option<Standing>| of.map(|of| of.lesser(standing));
        let is_less = |of: Option<Standing>| lesser(of) != of;
        if !is_less(self.most.get(target))
            || !judge.binds(&self.shield(judge, target), node, target)
        {
            return;
        }
        let mut most: Option<Standing> = None;
        let mut join = |of: Option<Standing>| {
            most = most.into_iter().chain(of).reduce(Standing::greater);
        };
        for by in known.wrote.iter().filter(|by| **by != at && self.acts.has(**by)) {
            let (own, seq) = (self.own.get(*by), judge.nodes.get(*by).map(|by| by.placed.seq));
            if seq >= Some(from_seq) && is_less(own) {
                self.own.set(*by, lesser(own));
                again.entry(*by).or_insert(false);
            }
            join(self.own.get(*by));
        }
        let changes = known.changes.iter().map(|change| &change.at);
        let about = known.enrolments.iter().chain(changes);
        for about in about.filter(|about| **about != at && self.acts.has(**about)) {
            let of = self.target.get(*about);
            if is_less(of) {
                self.target.set(*about, lesser(of));
                again.entry(*about).or_insert(false);
            }
            join(lesser(of));
        }
        self.most.set(target, most);
    }

    fn note_most(&mut self, device: usize, standing: Option<Standing>) {
        let most = self.most.get(device);
        let more = most.into_iter().chain(standing).reduce(Standing::greater);
        if more != most {
            self.most.set(device, more);
        }
    }

    /// Looks at acts again, and at those that rest on what changes thereby.
    fn settle(&mut self, judge: &Judge, mut again: Again, news: &mut News) {
        while let Some((at, is_anew)) = again.pop_first() {
            let Some(node) = judge.nodes.get(at) else { continue };
            if is_anew {
                let [own, target] = self.asked(judge, node);
                self.own.set(at, own);
                self.target.set(at, target);
                self.note_most(node.author, own);
                if let Some(device) = node.target {
                    self.note_most(device, target);
                }
            }
            let counts = !node.is_judged()
                || judge.permits(self, node, self.own.get(at), self.target.get(at)).is_ok();
            if counts == self.valid.has(at) {
                continue;
            }
            if counts {
                self.valid.insert(at);
            } else {
                self.valid.remove(at);
            }
            news.acts.insert(at);
            let Some(target) = node.target else { continue };
            news.devices.insert(target);
            let Some(of_target) = judge.known.get(target) else { continue };
            let knows =
                |other: &usize| judge.nodes.get(*other).is_some_and(|node| node.past.has(at));
            let resting = self.by_and_about(judge, of_target, at + 1).filter(knows);
            again.extend(resting.map(|other| (other, true)));
        }
    }
}

/// Changes of a device's standing that no other one that counts replaces.
#[derive(Debug, Default)]
struct Left {
    changes: BTreeMap<usize, Standing>,
    roles: BTreeMap<Role, usize>,
    clearances: BTreeMap<Band, usize>,
}

impl Left {
    fn add(&mut self, at: usize, standing: Standing) {
        self.changes.insert(at, standing);
        *self.roles.entry(standing.role).or_default() += 1;
        *self.clearances.entry(standing.clearance).or_default() += 1;
    }

    fn remove(&mut self, at: usize) {
        let Some(standing) = self.changes.remove(&at) else { return };
        take_one(&mut self.roles, standing.role);
        take_one(&mut self.clearances, standing.clearance);
    }

    fn least(&self) -> Option<Standing> {
        let role = self.roles.keys().copied().reduce(Role::lesser)?;
        let clearance = *self.clearances.keys().min()?;
        Some(Standing { role, clearance })
    }
}

fn take_one<T: Ord>(counts: &mut BTreeMap<T, usize>, of: T) {
    if let Entry::Occupied(mut count) = counts.entry(of) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// What the pasts of the last acts come to, whose author did not know all that was here.
#[derive(Debug, Default)]
pub(super) struct Views {
    kept: Vec<Kept>,
    clock: u64,
    noted: usize,
}

#[derive(Debug)]
struct Kept {
    view: View,
    /// How many others began with it, and when the last did, or it was made.
    uses: u32,
    used: u64,
}

/// A copy begins with none: whoever only reads needs none.
impl Clone for Views {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// How many of them are kept, and after how many acts one of what all come to is.
const KEPT_MAX: usize = 96;
const NOTED_EVERY: usize = 64;

impl Views {
    pub(super) const fn new() -> Self {
        Self { kept: Vec::new(), clock: 0, noted: 0 }
    }

    /// Keeps what all acts come to, now and then: the next act may know no more than that.
    pub(super) fn note(&mut self, all: &View) {
        if all.count >= self.noted + NOTED_EVERY {
            self.noted = all.count;
            self.keep(all.clone());
        }
    }

    /// What a past comes to, going on from the kept one that has most of it.
    pub(super) fn of(&mut self, judge: &Judge, past: &Acts, count: usize) -> Option<&View> {
        let is_in = |kept: &Kept| {
            let has_newest = kept.view.newest.is_none_or(|newest| past.has(newest));
            has_newest && kept.view.count <= count && kept.view.acts.is_within(past)
        };
        self.clock += 1;
        let begun = self.kept.iter_mut().filter(|kept| is_in(kept));
        let begun = begun.max_by_key(|kept| kept.view.count);
        let mut view = begun.map_or_else(View::default, |kept| {
            kept.uses += 1;
            kept.used = self.clock;
            kept.view.clone()
        });
        let mut news = News::default();
        for at in past.without(&view.acts) {
            view.add(judge, at, &mut news);
        }
        self.keep(view);
        self.kept.last().map(|kept| &kept.view)
    }

    /// Where one has to go, it is one that another has gone on from, once and longest ago.
    fn keep(&mut self, view: View) {
        if self.kept.len() >= KEPT_MAX {
            let of = self.kept.iter().enumerate();
            let least = of.min_by_key(|(_, kept)| (kept.uses != 1, kept.used));
            if let Some(least) = least.map(|(at, _)| at) {
                self.kept.remove(least);
            }
        }
        self.kept.push(Kept { view, uses: 0, used: self.clock });
    }
}
