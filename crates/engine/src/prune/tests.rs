//! Statements that no honest device makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::act::{Act, EnrolmentAct};
use larder_log::roster::Roster;
use larder_log::snapshot::{LogEnd, leaf_hash};
use larder_protocol::{Position, Reply, Request};
use larder_types::ObjectId;
use larder_types::limits::BATCH_BYTES_TARGET;
use serde_json::json;

use super::*;
use crate::durability_tests::World;
use crate::snapshot::{Computing, Step};
use crate::{Answer, Profile, ProfileOptions, UnitOfWork};

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
        let (me, mut after) = (self.profile.transport_id(), Position::default());
        loop {
            let answer = self.space.answer(&me, Request::ReadFrontiers);
            let Answer::Reply(Reply::Frontiers { logs, epochs_held, .. }) = answer else {
                panic!()
            };
            let have = logs.iter().map(|log| (log.device, log.size)).collect();
            let (epochs, bytes_target) = (epochs_held, BATCH_BYTES_TARGET);
            let request = Request::ReadBatch { after, have, epochs, bytes_target };
            let answer = other.space.answer(&me, request);
            let Answer::Reply(Reply::Batch { position, batch }) = answer else { panic!() };
            let Some(batch) = batch else { return };
            self.writer.apply(*batch).unwrap();
            after = position;
        }
    }

    pub(crate) fn put(&mut self, n: u8, value: &serde_json::Value) {
        let mut unit = UnitOfWork::new();
        unit.put("notes", ObjectId::new([n; 16]), value).unwrap();
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    fn frontier(&mut self) -> Vec<LogEnd> {
        self.writer.transact(|tx, state| state.proposable(tx)).unwrap()
    }

    fn can_state(&mut self, frontier: Vec<LogEnd>) -> Result<bool> {
        self.writer.transact(|tx, state| {
            let mut computing = Computing::new(frontier, None, state.clearance);
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
            let agreed = held.act.tree(larder_log::Band::Green).unwrap();
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

fn profile(seed: u64) -> Profile {
    // Two of one seed in one process would be one profile.
    static MADE: AtomicU64 = AtomicU64::new(0);
    let seed = (MADE.fetch_add(1, Ordering::Relaxed) << 48) | (seed << 40);
    let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
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
    let accepted = a.writer.transact(|tx, _| accepted(tx, &roster, Band::Red)).unwrap();
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
    a.writer.transact(|tx, state| state.take_shown(tx, &header, 0, &Act::Enrolment(act))).unwrap();
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
