//! Statements that no honest device makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::act::{Act, EnrolmentAct};
use larder_log::adoption::{Adopted, LackAct};
use larder_log::roster::Roster;
use larder_log::snapshot::{LogEnd, leaf_hash};
use larder_protocol::{Position, Reply, Request};
use larder_store::space::entries;
use larder_types::ObjectId;
use larder_types::limits::BATCH_BYTES_TARGET;
use serde_json::json;

use super::*;
use crate::durability_tests::World;
use crate::snapshot::{Computing, Step};
use crate::{Answer, Profile, ProfileOptions, Role, Terms, UnitOfWork, Whose};

pub(crate) struct Device {
    pub(crate) profile: Profile,
    pub(crate) space: Space,
    pub(crate) writer: SpaceWriter,
}

/// Adds a blob whole.
pub(crate) fn add_blob(device: &mut Device, content: &[u8]) -> larder_types::BlobId {
    add_blob_in(device, content, None)
}

pub(crate) fn add_blob_in(
    device: &mut Device,
    content: &[u8],
    band: Option<Band>,
) -> larder_types::BlobId {
    let new =
        crate::NewBlob { media_type: "image/png".into(), name: Some("zqname.png".into()), band };
    let mut adding = device.space.add_blob(content, new).unwrap();
    loop {
        let part = adding.part().unwrap();
        if part.is_empty() {
            break;
        }
        device.writer.stage(&part).unwrap();
    }
    device.writer.commit_blob(&adding.finish().unwrap()).unwrap().id
}

impl Device {
    pub(crate) fn found(seed: u64) -> Self {
        Self::found_by(profile(seed))
    }

    pub(crate) fn found_by(profile: Profile) -> Self {
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        Self { profile, space, writer }
    }

    pub(crate) fn invite(&mut self, seed: u64) -> Self {
        self.invite_as(profile(seed))
    }

    pub(crate) fn invite_as(&mut self, profile: Profile) -> Self {
        self.invite_on(profile, crate::Terms::default())
    }

    pub(crate) fn invite_on(&mut self, profile: Profile, terms: crate::Terms) -> Self {
        let invitation = self.profile.invite_on(&self.space, Vec::new(), terms).unwrap();
        let mut joining = profile.begin_join(invitation).unwrap();
        let (agreed, admission) =
            profile.ask_within(&mut joining, &self.profile, &[9; 32]).unwrap();
        self.writer.admit(admission.enrolment.clone()).unwrap();
        let reply = self.profile.welcome(&admission, &self.space).unwrap();
        let (space, writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
        let mut other = Self { profile, space, writer };
        other.pull(self);
        other
    }

    pub(crate) fn pull(&mut self, other: &Self) {
        self.pull_as(other, |_| {});
    }

    /// The same, with what somebody between them does to each batch.
    pub(crate) fn pull_as(&mut self, other: &Self, change: impl FnMut(&mut larder_log::Batch)) {
        self.pull_from(other, &self.profile.transport_id(), change);
    }

    /// The same of what goes to another device.
    pub(crate) fn pull_from(
        &mut self,
        other: &Self,
        me: &larder_types::TransportId,
        mut change: impl FnMut(&mut larder_log::Batch),
    ) {
        let mut after = Position::default();
        loop {
            let answer = self.space.answer(me, Request::ReadFrontiers);
            let Answer::Reply(Reply::Frontiers { logs, epochs_held, .. }) = answer else {
                panic!()
            };
            let have = logs.iter().map(|log| (log.device, log.size)).collect();
            let (epochs, bytes_target) = (epochs_held, BATCH_BYTES_TARGET);
            let request = Request::ReadBatch { after, have, epochs, bytes_target };
            let answer = other.space.answer(me, request);
            let Answer::Reply(Reply::Batch { position, batch }) = answer else { panic!() };
            let Some(mut batch) = batch else { return };
            change(&mut batch);
            self.writer.apply(*batch).unwrap();
            after = position;
        }
    }

    pub(crate) fn put(&mut self, n: u8, value: &serde_json::Value) {
        let mut unit = UnitOfWork::new();
        unit.put("notes", ObjectId::new([n; 16]), value).unwrap();
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    pub(crate) fn frontier(&mut self) -> Vec<LogEnd> {
        self.writer.transact(|tx, state| state.proposable(tx)).unwrap()
    }

    fn can_state(&mut self, frontier: Vec<LogEnd>) -> Result<bool> {
        self.writer.transact(|tx, state| {
            let mut computing =
                Computing::new(frontier, None, state.clearance.unwrap(), Vec::new());
            let erases = |device: &DeviceId, seq| state.writes_up_to(device, seq);
            let by = (&state.keyring, &erases as &crate::snapshot::Erases<'_>);
            loop {
                match computing.step(tx, by, None, (u64::MAX, u32::MAX))? {
                    Step::Partly => {}
                    step => return Ok(matches!(step, Step::Done(_))),
                }
            }
        })
    }

    /// The snapshot that is held, by name, once it was seen that its leaves are what was agreed on,
    /// whichever way they are read.
    fn held(&mut self) -> Option<Hash> {
        let held = self.writer.transact(|tx, _| {
            let Some(held) = snapshots::in_state(tx, snapshots::State::Held)? else {
                return Ok(None);
            };
            let (mut tree, mut all) = (merkle::Frontier::new(), Vec::new());
            snapshots::each_leaf(tx, &held, |kept| {
                tree.append(leaf_hash(&kept.leaf), &mut |_| {});
                all.push(kept);
                Ok::<_, Error>(())
            })?;
            let agreed = held.act.whole().unwrap();
            assert_eq!((tree.size(), tree.root()), (agreed.leaves, agreed.root));
            let mut paged: Vec<snapshots::Kept> = Vec::new();
            loop {
                let after = paged.last().map(|kept| kept.key);
                let page = snapshots::leaves(tx, &held, after.as_ref(), 2)?;
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, all);
            for kept in all {
                assert_eq!(snapshots::leaf(tx, &held, &kept.key)?, Some(kept));
            }
            Ok(Some(held.id))
        });
        held.unwrap()
    }

    fn roster(&mut self) -> Roster {
        self.writer.transact(|_, state| Ok(state.roster.clone())).unwrap()
    }

    fn says(&mut self, act: SnapshotAct) {
        let said = self.writer.transact(|tx, state| {
            state.append_act(tx, &Act::Snapshot(act))?;
            state.sign(tx)
        });
        said.unwrap();
    }
}

pub(crate) fn profile(seed: u64) -> Profile {
    profile_that(PrunePolicy::default(), seed)
}

fn profile_that(prunes: PrunePolicy, seed: u64) -> Profile {
    // Two of one seed in one process would be one profile.
    static MADE: AtomicU64 = AtomicU64::new(0);
    let seed = (MADE.fetch_add(1, Ordering::Relaxed) << 48) | (seed << 40);
    let label = Some("one".into());
    let options = ProfileOptions { label, prunes, ..ProfileOptions::default() };
    Profile::in_memory(Arc::new(World(AtomicU64::new(seed))), options).unwrap()
}

// A member proposed a frontier with one device's edits and without the log that their document was
// created in. All computed the same from it: nothing. So all stated it, the edits' bodies went, and
// a newcomer got the document without them.
#[test]
fn nobody_states_what_leaves_out_what_its_entries_build_on() {
    let mut a = Device::found(1);
    let mut b = a.invite(2);
    b.put(1, &json!({"n": 1}));
    a.pull(&b);
    a.put(1, &json!({"n": 2}));
    let whole = a.frontier();
    assert_eq!(whole.len(), 2);
    assert!(a.can_state(whole.clone()).unwrap());
    let me = a.space.device();
    let part: Vec<LogEnd> = whole.into_iter().filter(|end| end.device == me).collect();
    assert!(!a.can_state(part).unwrap());
}

// The founder stated a frontier that had its own log only up to before it enrolled the others, and
// all of theirs: then nobody but itself was asked, and a newcomer took its word for theirs.
#[test]
fn nobody_is_left_out_of_a_statement_about_its_own_entries() {
    let mut a = Device::found(3);
    let mut b = a.invite(4);
    b.put(1, &json!({"n": 1}));
    a.pull(&b);
    let me = a.space.device();
    let whole = a.frontier();
    let root =
        a.writer.transact(|tx, state| Ok(merkle::root_at(&Tree::new(tx, state.log), 1)?)).unwrap();
    let early =
        |end: &LogEnd| if end.device == me { LogEnd { size: 1, root, ..*end } } else { *end };
    let frontier: Vec<LogEnd> = whole.iter().map(early).collect();
    let bands = vec![larder_log::snapshot::BandTree {
        band: larder_log::Band::Green,
        leaves: 1,
        root: Hash::new([1; 32]),
    }];
    let act = SnapshotAct { v: larder_log::VERSION, frontier, bands };
    assert_eq!(a.roster().asked_for(&act).len(), 2);
    a.says(act);
    let roster = a.roster();
    let accepted = a.writer.transact(|tx, _| accepted(tx, &roster, Some(Band::Red))).unwrap();
    assert_eq!(accepted, []);
}

// All leaves of a snapshot were written in one transaction, for which whoever wrote waited.
/// A device was let in by an entry in the other history of a forked log, longer than the one held
/// here; nothing was heard of it yet. Looking for what could be pruned read past the end of the
/// log, and the space called itself damaged (simulated seed 60269).
#[test]
fn nothing_is_stated_beside_an_enrolment_in_a_history_that_is_not_held() {
    let mut a = Device::found(61);
    let mut b = a.invite(62);
    b.put(1, &json!({"n": 1}));
    a.pull(&b);
    assert!(!a.frontier().is_empty(), "without it there is something to state");
    let admission = {
        let stranger = profile(63);
        let invitation = b.profile.invite(&b.space, Vec::new()).unwrap();
        let mut joining = stranger.begin_join(invitation).unwrap();
        stranger.ask_within(&mut joining, &b.profile, &[9; 32]).unwrap().1
    };
    let state = a.writer.state_mut();
    let header = larder_log::Header {
        v: larder_log::VERSION,
        space: state.shared.id,
        device: b.space.device(),
        seq: 1_000,
        deps: Vec::new(),
        epoch: larder_types::EpochId::new([0; 32]),
        step: 0,
        n: 1,
        sections_root: Hash::new([1; 32]),
    };
    let parents = state.parents();
    let act = EnrolmentAct { parents, enrolment: admission.enrolment };
    let looks_again = a.writer.transact(|tx, state| {
        // Who is shown might have what others said to lack; so might whoever is read again.
        let (device, entry) = (state.device(), entries::hash(tx, state.log, 1)?.unwrap());
        let lacked = vec![Adopted { device, seq: 1, index: 0, entry }];
        state
            .append_act(tx, &Act::Lack(LackAct { v: larder_log::VERSION, lacked, found: None }))?;
        state.sign(tx)?;
        state.rejudged.clear();
        state.reload_roster(tx)?;
        let when_read = !std::mem::take(&mut state.rejudged).is_empty();
        state.take_shown(tx, &header, 0, &Act::Enrolment(act))?;
        Ok((when_read, !state.rejudged.is_empty()))
    });
    assert_eq!(looks_again.unwrap(), (true, true));
    assert_eq!(a.frontier(), []);
}

#[test]
fn a_snapshot_takes_the_place_of_another_leaf_by_leaf_and_no_half_of_one_is_seen() {
    let mut a = Device::found(5);
    for n in 1..=8 {
        a.put(n, &json!({ "n": n }));
    }
    a.writer.prune(true, &mut |_| {}).unwrap();
    let mut seen = vec![a.held().unwrap()];
    for round in 0..4_u8 {
        a.put(1, &json!({ "round": round }));
        a.put(20 + round, &json!({ "new": round }));
        let mut unit = UnitOfWork::new();
        unit.delete(ObjectId::new([2 + round; 16]));
        a.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
        // It may be let go of at any step; another goes on.
        let mut most = if round == 0 { usize::MAX } else { 2 };
        'prunings: loop {
            let mut pruning = Pruning::new(true).in_steps_of(1);
            for _ in 0..most {
                let is_done = a.writer.prune_step(&mut pruning).unwrap();
                let held = a.held().unwrap();
                if seen.last() != Some(&held) {
                    seen.push(held);
                }
                if is_done {
                    break 'prunings;
                }
            }
            most += 1;
        }
        assert_eq!(seen.len(), 2 + usize::from(round), "one after the other");
        let left = a.writer.transact(|tx, _| {
            let held = snapshots::in_state(tx, snapshots::State::Held)?.unwrap();
            Ok((held.over, snapshots::in_state(tx, snapshots::State::Written)?))
        });
        assert_eq!(left.unwrap(), (None, None));
    }
    assert_eq!(a.space.status().unwrap().pruned, 8 + 4 * 3);
}

const fn terms(role: Role, clearance: Band) -> Terms {
    Terms { of: Whose::New, role, clearance }
}

impl Device {
    fn put_amber(&mut self, n: u8, value: &serde_json::Value) {
        let mut unit = UnitOfWork::new();
        unit.band(Band::Amber);
        unit.put("notes", ObjectId::new([n; 16]), value).unwrap();
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    /// What it would state of all that is here, without stating it.
    fn computes(&mut self) -> SnapshotAct {
        let frontier = self.frontier();
        let computed = self.writer.transact(|tx, state| {
            let mut computing =
                Computing::new(frontier, None, state.clearance.unwrap(), Vec::new());
            let erases = |device: &DeviceId, seq| state.writes_up_to(device, seq);
            let by = (&state.keyring, &erases as &crate::snapshot::Erases<'_>);
            loop {
                if let Step::Done(computed) = computing.step(tx, by, None, (u64::MAX, u32::MAX))? {
                    return Ok(computed.act);
                }
            }
        });
        computed.unwrap()
    }

    fn accepts(&mut self) -> Vec<SnapshotAct> {
        let up_to = Band::Red;
        self.writer.transact(|tx, state| accepted(tx, &state.roster, Some(up_to))).unwrap()
    }

    /// Does what it finds to be done.
    fn look_after(&mut self) {
        while let Some(mut pruning) = self.writer.wants_pruning().unwrap() {
            while !self.writer.prune_step(&mut pruning).unwrap() {}
        }
    }

    fn prune(&mut self, proposes: bool) {
        self.writer.prune(proposes, &mut |_| {}).unwrap();
    }
}

/// The same with another root of AMBER.
fn lie(act: &SnapshotAct) -> SnapshotAct {
    let mut lie = act.up_to(Band::Amber);
    lie.bands[1].root = Hash::new([9; 32]);
    lie.bands[1].leaves += 1;
    lie
}

// A tablet that is cleared for GREEN stated the right root of GREEN, and one of AMBER that it had
// made up: it contradicted all others in what it may not read, and nothing was pruned any more.
#[test]
fn nobody_states_anything_of_a_band_above_its_clearance() {
    let mut a = Device::found(1);
    let mut tablet = a.invite_on(profile(2), terms(Role::Writer, Band::Green));
    a.put(1, &json!({"n": 1}));
    a.put_amber(2, &json!({"n": 2}));
    tablet.put(3, &json!({"n": 3}));
    a.pull(&tablet);
    let act = a.computes();
    assert_eq!(act.bands[1].leaves, 3);
    a.says(act.clone());
    tablet.pull(&a);
    tablet.says(lie(&act));
    a.pull(&tablet);
    assert_eq!(a.accepts(), std::slice::from_ref(&act));
    a.prune(false);
    assert_eq!(a.held(), Some(act.id()));
    assert_eq!(tablet.accepts(), [act]);
}

// A phone and a laptop were asked for a snapshot, and somebody's who had made up a root. Once that
// one was shut out, its word stood against the laptop's when the phone was lost too.
#[test]
fn the_word_of_who_was_shut_out_neither_counts_nor_stands_against_another() {
    let mut phone = Device::found(1);
    let mut liar = phone.invite_on(profile(2), terms(Role::Writer, Band::Amber));
    let mut tablet = phone.invite_on(profile(3), terms(Role::Writer, Band::Green));
    phone.put(1, &json!({"n": 1}));
    phone.put_amber(2, &json!({"n": 2}));
    for (device, n) in [(&mut liar, 3), (&mut tablet, 4)] {
        device.put(n, &json!({"n": n}));
        phone.pull(device);
    }
    let act = phone.computes();
    assert_eq!(act.bands[1].leaves, 4);
    phone.says(act.clone());
    liar.pull(&phone);
    liar.says(lie(&act));
    tablet.pull(&liar);
    tablet.pull(&phone);
    tablet.prune(false);
    phone.pull(&tablet);
    phone.pull(&liar);
    assert_eq!(phone.accepts(), [], "it is asked, and says otherwise");
    phone.writer.revoke(&[liar.space.device()]).unwrap();
    phone.prune(false);
    assert_eq!(phone.held(), Some(act.id()));

    let mut laptop = phone.invite_on(profile(4), terms(Role::Owner, Band::Amber));
    laptop.pull(&tablet);
    laptop.prune(false);
    assert_eq!(laptop.held(), Some(act.id()));
    laptop.writer.revoke(&[phone.space.device()]).unwrap();
    assert_eq!(
        laptop.accepts(),
        [act.up_to(Band::Green)],
        "two words against each other, and gone"
    );
    laptop.prune(false);
    assert_eq!(laptop.accepts(), [act.up_to(Band::Amber)]);
    tablet.pull(&laptop);
    assert_eq!(tablet.accepts(), [act.up_to(Band::Amber)]);
    // What one says that nobody asked stands against another's; what the first says is not
    // believed.
    let mut other = laptop.invite_on(profile(5), terms(Role::Writer, Band::Amber));
    other.says(lie(&act));
    tablet.pull(&other);
    tablet.pull(&laptop);
    assert_eq!(tablet.accepts(), [act.up_to(Band::Green)]);
    laptop.pull(&other);
    laptop.writer.revoke(&[other.space.device()]).unwrap();
    tablet.pull(&laptop);
    assert_eq!(tablet.accepts(), [act.up_to(Band::Amber)]);
}

// Somebody had stated what nobody finds the same, and was shut out for it. What it had said waited
// for others for ever, so that no device proposed anything by itself any more.
#[test]
fn what_one_stated_who_was_shut_out_is_not_waited_for() {
    let mut a = Device::found_by(profile_that(PrunePolicy::From { bytes: 1 }, 1));
    let mut liar = a.invite_on(profile(2), terms(Role::Writer, Band::Red));
    for n in 1..=8 {
        a.put(n, &json!({"text": "long ".repeat(9_000)}));
        a.put(n, &json!({"text": "short"}));
    }
    liar.pull(&a);
    liar.put(9, &json!({"n": 9}));
    let mut act = liar.computes();
    act.bands[0].root = Hash::new([9; 32]);
    liar.says(act);
    a.pull(&liar);
    a.writer.revoke(&[liar.space.device()]).unwrap();
    let mut stated = 0;
    while let Some(mut pruning) = a.writer.wants_pruning().unwrap() {
        while !a.writer.prune_step(&mut pruning).unwrap() {}
        stated += pruning.pruned().stated;
    }
    assert_eq!(stated, 1);
    assert!(a.held().is_some());
}

/// All had stated a snapshot, and before anybody had written it down a document that it covers was
/// erased: what that had come to nobody could tell any more. The snapshot was tried again at each
/// look, and no other one proposed: nothing was pruned any more, and a newcomer asked for it for
/// ever.
#[test]
fn a_snapshot_that_nobody_can_compute_any_more_stops_no_other() {
    let mut a = Device::found_by(profile_that(PrunePolicy::From { bytes: 1 }, 1));
    for n in 1..=8 {
        a.put(n, &json!({"text": "long ".repeat(9_000)}));
        a.put(n, &json!({"text": "short"}));
    }
    let act = a.computes();
    a.says(act);
    assert_eq!(a.accepts().len(), 1);
    a.writer.erase(ObjectId::new([1; 16])).unwrap();
    let mut stated = 0;
    for _ in 0..8 {
        let Some(mut pruning) = a.writer.wants_pruning().unwrap() else { break };
        while !a.writer.prune_step(&mut pruning).unwrap() {}
        stated += pruning.pruned().stated;
    }
    assert_eq!(stated, 1);
    assert!(a.held().is_some());
}

/// A band of a snapshot that one device alone stated, of those that were asked, was what that one
/// said, though others that held it said otherwise: by a lie it took what they had from whoever
/// came later. One contradicts one; two that agree are not contradicted by a third.
#[test]
fn one_that_states_a_band_alone_is_contradicted() {
    let mut a = Device::found(1);
    let (liar, second) = (a.invite(2), a.invite(3));
    let newcomer = a.invite(4);
    let roster = a.writer.state().roster.clone();
    let says = |author: &Device, up_to: Band, root: u8| {
        let tree = |band| {
            let of = if band == Band::Amber { root } else { 1 };
            let leaves = 1 + band as u64;
            larder_log::snapshot::BandTree { band, leaves, root: Hash::new([of; 32]) }
        };
        let bands = [Band::Green, Band::Amber].into_iter().filter(|band| *band <= up_to);
        let (v, frontier, bands) = (larder_log::VERSION, Vec::new(), bands.map(tree).collect());
        let author = author.space.device();
        Statement { author, seq: 1, act: SnapshotAct { v, frontier, bands } }
    };
    let asked = BTreeSet::from([a.space.device(), liar.space.device(), second.space.device()]);
    let bands = |second_up_to, newcomer_says: Option<u8>| {
        let mut all = vec![
            says(&a, Band::Green, 1),
            says(&liar, Band::Amber, 9),
            says(&second, second_up_to, 9),
        ];
        all.extend(newcomer_says.map(|root| says(&newcomer, Band::Amber, root)));
        agreed(&all, &roster, &asked, Band::Red).unwrap().bands.len()
    };
    assert_eq!(bands(Band::Green, None), 2, "nobody says otherwise");
    assert_eq!(bands(Band::Green, Some(9)), 2, "somebody says the same");
    assert_eq!(bands(Band::Green, Some(7)), 1, "of AMBER nothing is agreed on");
    assert_eq!(bands(Band::Amber, Some(7)), 2, "two outweigh who came later");
}

/// Two proposed at once, neither knowing of what the other had written, and each then stated what
/// the other had proposed. Both were agreed on; all dropped what the one stood for, and a newcomer
/// took the other, for which it was given no more than half of the documents (simulated seed 148).
#[test]
fn of_two_that_are_proposed_at_once_no_half_is_agreed_on() {
    let mut a = Device::found(1);
    let (mut b, mut c) = (a.invite(2), a.invite(3));
    let tell = |a: &mut Device, b: &mut Device, c: &mut Device| {
        for _ in 0..2 {
            a.pull(b);
            a.pull(c);
            b.pull(a);
            c.pull(a);
        }
    };
    c.put(1, &json!({"n": 1}));
    b.put(2, &json!({"n": 2}));
    tell(&mut a, &mut b, &mut c);
    for n in 3..=6 {
        a.put(n, &json!({"n": n}));
        b.put(n + 4, &json!({"n": n}));
    }
    a.prune(true);
    b.prune(true);
    tell(&mut a, &mut b, &mut c);
    for device in [&mut c, &mut a, &mut b] {
        device.prune(false);
    }
    tell(&mut a, &mut b, &mut c);
    for device in [&mut a, &mut b, &mut c] {
        let accepted = device.accepts();
        for one in &accepted {
            let is_along = |other: &SnapshotAct| one.includes(other) || other.includes(one);
            assert!(accepted.iter().all(is_along), "{accepted:?}");
        }
    }
    for proposes in [true, false] {
        a.prune(proposes);
        tell(&mut a, &mut b, &mut c);
        for device in [&mut b, &mut c] {
            device.prune(false);
        }
        tell(&mut a, &mut b, &mut c);
    }
    let held: Vec<_> = [&mut a, &mut b, &mut c].map(Device::held).into();
    assert!(held[0].is_some() && held.iter().all(|it| *it == held[0]), "{held:?}");
    let all = a.writer.transact(|tx, _| Ok(snapshots::in_state(tx, snapshots::State::Held)?));
    let act = all.unwrap().unwrap().act;
    assert!(act.size_of(&a.space.device()) >= 4 && act.size_of(&b.space.device()) >= 4);
}

/// Where one device cannot state anything for a while, the others proposed new ones beside each
/// other for ever, and all that heard of two proposed one that includes them, beside each other
/// again: hundreds of entries (simulated seed 283). Whichever of them that is, it is enough that it
/// comes back.
#[test]
fn nobody_proposes_again_and_again_beside_others() {
    let live = |devices: &mut Vec<Device>, rounds: u8, are_up: &dyn Fn(usize) -> bool| {
        for round in 0..rounds {
            for (n, device) in (0..).zip(devices.iter_mut()) {
                device.put(n, &json!({"text": "long ".repeat(2_000), "round": round}));
                if are_up(usize::from(n)) {
                    device.look_after();
                }
            }
            for at in 0..devices.len() {
                let mut one = devices.remove(at);
                for other in devices.iter() {
                    one.pull(other);
                }
                devices.insert(at, one);
            }
        }
        let all = devices[0].writer.transact(|tx, state| statements(tx, &state.roster));
        all.unwrap().len()
    };
    for silent in [0, 2] {
        let mut devices: Vec<Device> =
            vec![Device::found_by(profile_that(PrunePolicy::From { bytes: 1 }, 1))];
        for seed in 2..=4 {
            let profile = profile_that(PrunePolicy::From { bytes: 1 }, seed);
            let other = devices[0].invite_as(profile);
            devices.push(other);
        }
        devices.sort_by_key(|device| device.space.device());
        live(&mut devices, 1, &|_| false);
        let few = live(&mut devices, 4, &|n| n != silent);
        let many = live(&mut devices, 8, &|n| n != silent);
        assert_eq!(few, many, "without {silent}");
        assert!(many <= 8, "{many} without {silent}");
        let waits_for = devices[1].space.prune_status().unwrap().waits_for;
        assert_eq!(waits_for, [devices[silent].space.device()]);
        live(&mut devices, 4, &|_| true);
        let held: Vec<_> = devices.iter_mut().map(Device::held).collect();
        assert!(held.iter().all(Option::is_some), "{held:?} with {silent}");
    }
}

/// Each acknowledgement that came had all entries looked at that nothing was forgotten behind: with
/// a hundred thousand of them a device did nothing else.
#[test]
fn what_was_looked_at_is_not_looked_at_again() {
    let mut a = Device::found(1);
    for n in 0..200 {
        a.put(n, &json!({"n": n}));
    }
    let mut look = || {
        let (ends, steps) = crate::steps::counted(|| a.writer.transact(|tx, s| s.stable_ends(tx)));
        (ends.unwrap(), steps)
    };
    let ((first, steps), (second, again)) = (look(), look());
    assert_eq!(first, second);
    assert!(again < steps, "{steps}, then {again}");
}

/// Once a device had been set aside and was back, each look at who is waited for read all that it
/// had ever written: with a hundred thousand entries a device did nothing else.
#[test]
fn a_look_at_who_is_waited_for_reads_no_log_from_its_beginning() {
    let mut a = Device::found(1);
    let mut b = a.invite(2);
    let id = b.space.device();
    for n in 0..90 {
        b.put(n, &json!({"n": n}));
    }
    a.writer.quarantine(id).unwrap();
    b.pull(&a);
    let mut steps_after = |entries: u16| {
        for n in 0..entries {
            b.put(1, &json!({"n": n, "again": entries}));
        }
        a.pull(&b);
        let (aside, steps) = crate::steps::counted(|| a.space.set_aside());
        assert!(aside.unwrap().is_empty(), "it is back");
        a.writer
            .transact(|tx, _| {
                let log = logs::find(tx, &id)?.unwrap();
                let mut slow = Named::default();
                for entry in entries::range(tx, log.log, 1, log.frontier.size())? {
                    assert!(slow.take(&larder_log::Header::decode(&entry.header).unwrap()));
                    assert_eq!(named_up_to(tx, log.log, entry.seq)?, slow);
                }
                Ok(())
            })
            .unwrap();
        steps
    };
    let (few, many) = (steps_after(25), steps_after(400));
    assert!(many < 2 * few, "{few} steps, and {many} with ten times as many entries");
}

/// All had agreed on a snapshot that nobody could compute any more, since something was erased. A
/// tablet that had been cleared for less, and so had none of its bytes, asked for its leaves for
/// ever, though everybody had the bytes (simulated seed 160). With two of them it asked for the one
/// and the other in turn, each as soon as it was told that the other one could not be had (729).
#[test]
fn bytes_are_asked_for_of_who_cannot_compute_what_stands_for_them() {
    let withhold = |batch: &mut larder_log::Batch| {
        for entry in &mut batch.entries {
            for (commitment, payload) in entry.commitments.iter().zip(&mut entry.payloads) {
                if commitment.class == larder_log::Class::Data as u8 {
                    *payload = larder_log::Payload::Missing;
                }
            }
        }
    };
    let mut a = Device::found_by(profile_that(PrunePolicy::From { bytes: 1 }, 1));
    let mut tablet = a.invite(2);
    tablet.put(9, &json!({"n": 9}));
    a.pull(&tablet);
    for n in 1..=8 {
        a.put(n, &json!({"text": "long ".repeat(9_000)}));
        a.put(n, &json!({"text": "short"}));
    }
    for _ in 0..2 {
        let act = a.computes();
        a.says(act.clone());
        tablet.pull_as(&a, withhold);
        tablet.says(act);
        a.pull(&tablet);
    }
    a.writer.erase(ObjectId::new([1; 16])).unwrap();
    tablet.pull_as(&a, withhold);
    assert_eq!((a.accepts().len(), tablet.accepts().len()), (2, 2));
    let (me, it) = (tablet.profile.transport_id(), a.profile.transport_id());
    for _ in 0..4 {
        let want = tablet.space.wanted_of(&it, larder_protocol::Lack::default()).unwrap().want;
        let Some(want) = want.map(Box::new) else { break };
        let answer = a.space.answer(&me, Request::ReadSupply { want, epochs: Vec::new() });
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Write(task) => a.writer.answer(task).reply,
        };
        let Reply::Supply { supply } = reply else { panic!("{reply:?}") };
        let Answer::Write(task) = tablet.space.answer(&it, Request::TakeSupply { supply }) else {
            panic!()
        };
        tablet.writer.answer(task);
        a.look_after();
    }
    for n in 2..=8 {
        let of = |device: &Device| device.space.document(&ObjectId::new([n; 16])).unwrap();
        assert_eq!(of(&tablet).unwrap().value, of(&a).unwrap().value);
    }
}
