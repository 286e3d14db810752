//! Whole devices on real files, exchanging batches without a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_docs_in_private_items,
    reason = "tests"
)]

mod adopted;
mod auditor;
mod bands;
mod beside;
mod blobs;
mod changes;
mod contract;
mod copies;
mod disk;
mod erase;
mod forks;
mod history;
mod kept;
mod large;
mod lifted;
mod members;
#[cfg(target_os = "linux")]
mod memory;
mod narrow;
mod peers;
mod policy;
mod prune;
mod quarantine;
mod recovery;
mod renew;
mod retention;
mod room;
mod security;
mod stages;
mod trash;
mod withheld;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_crypto::Secret;
use larder_crypto::password::Argon2Params;
use larder_engine::{
    Access, Answer, Base, Environment, Error, Found, Profile, ProfileOptions, Query, Receipt,
    Result, Space, SpaceWriter, Terms, UnitOfWork, Unlock,
};
use larder_protocol::{Position, Reply, Request};
use larder_types::{CloseCode, Entropy, IdempotencyKey, ObjectId, Timestamp, TransportId};
use serde_json::{Value, json};

/// A clock that moves by a millisecond at each look, and a generator of known bytes.
struct World {
    clock: AtomicU64,
    seed: AtomicU64,
}

struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            self.0 += 1;
            let hash = larder_crypto::hash::sha256(&[&self.0.to_be_bytes()]);
            chunk.copy_from_slice(&hash.as_bytes()[..chunk.len()]);
        }
    }
}

impl Environment for World {
    fn now(&self) -> Timestamp {
        let passed = self.clock.fetch_add(1, Ordering::Relaxed);
        Timestamp(1_700_000_000_000_u64.wrapping_add(passed))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Counter(self.seed.fetch_add(1 << 20, Ordering::Relaxed)))
    }
}

fn world(seed: u64) -> Arc<dyn Environment> {
    later_world(seed, 0)
}

/// A world whose clock is ahead of the others'.
fn later_world(seed: u64, ahead_ms: u64) -> Arc<dyn Environment> {
    Arc::new(World { clock: AtomicU64::new(ahead_ms), seed: AtomicU64::new(seed << 40) })
}

fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

fn options(label: &str) -> ProfileOptions {
    ProfileOptions { label: Some(label.into()), ..ProfileOptions::default() }
}

struct Device {
    profile: Profile,
    space: Space,
    writer: SpaceWriter,
}

impl Device {
    fn found(dir: &Path, seed: u64) -> Self {
        let profile = Profile::create(world(seed), dir, &unlock(), options("first")).unwrap();
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        Self { profile, space, writer }
    }

    /// A new device that this one invites.
    fn invite(&mut self, dir: &Path, seed: u64) -> Self {
        self.invite_in(dir, world(seed))
    }

    fn invite_in(&mut self, dir: &Path, world: Arc<dyn Environment>) -> Self {
        let mut other = self.admit_in(dir, world);
        other.pull(self);
        other
    }

    /// The same, and it was told nothing yet.
    fn admit_in(&mut self, dir: &Path, world: Arc<dyn Environment>) -> Self {
        let invitation = self.profile.invite(&self.space, Vec::new()).unwrap();
        self.admit_by(dir, world, invitation)
    }

    /// A new device that this one invites on these terms.
    fn invite_on(&mut self, dir: &Path, seed: u64, terms: Terms) -> Self {
        let invitation = self.profile.invite_on(&self.space, Vec::new(), terms).unwrap();
        let mut other = self.admit_by(dir, world(seed), invitation);
        other.pull(self);
        other
    }

    fn admit_by(
        &mut self,
        dir: &Path,
        world: Arc<dyn Environment>,
        invitation: larder_protocol::pairing::Invitation,
    ) -> Self {
        let profile = Profile::create(world, dir, &unlock(), options("other")).unwrap();
        let exporter = [9; 32];
        let mut joining = profile.begin_join(invitation).unwrap();
        let (agreed, admission) =
            profile.ask_within(&mut joining, &self.profile, &exporter).unwrap();
        self.writer.admit(admission.enrolment.clone()).unwrap();
        let reply = self.profile.welcome(&admission, &self.space).unwrap();
        let (space, writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
        Self { profile, space, writer }
    }

    /// Takes in all that `other` has and this one lacks; returns how many entries.
    fn pull(&mut self, other: &Self) -> u64 {
        self.pull_by(larder_types::limits::BATCH_BYTES_TARGET, other, &mut |_| {})
    }

    /// The same in batches of some bytes, with something done after each.
    fn pull_by(
        &mut self,
        bytes_target: usize,
        other: &Self,
        after_each: &mut dyn FnMut(&mut Self),
    ) -> u64 {
        let mut position = Position::default();
        let mut entries = 0;
        loop {
            let have = self.have();
            let request =
                Request::ReadBatch { after: position, have, epochs: self.epochs(), bytes_target };
            let me = self.profile.transport_id();
            let Reply::Batch { position: next, batch } = ask(&other.space, &me, request) else {
                unreachable!()
            };
            let Some(batch) = batch else { return entries };
            entries += self.writer.apply(*batch).unwrap().entries;
            position = next;
            after_each(self);
        }
    }

    fn frontiers(&self) -> Reply {
        let me = self.profile.transport_id();
        ask(&self.space, &me, Request::ReadFrontiers)
    }

    fn have(&self) -> BTreeMap<larder_types::DeviceId, u64> {
        let Reply::Frontiers { logs, .. } = self.frontiers() else { unreachable!() };
        logs.iter().map(|log| (log.device, log.size)).collect()
    }

    fn epochs(&self) -> Vec<larder_types::EpochId> {
        let Reply::Frontiers { epochs_held, .. } = self.frontiers() else { unreachable!() };
        epochs_held
    }

    fn commit(&mut self, unit: UnitOfWork) -> Result<Receipt> {
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
    }

    /// What a search finds once everything is indexed.
    fn search(&mut self, query: &Query) -> Vec<Found> {
        while let Some(mut mark) = self.space.awaits_index(query) {
            assert!(!self.writer.has_indexed(&mut mark));
            if self.writer.index(2).unwrap() == 0 {
                self.writer.embed(2).unwrap();
            }
        }
        self.space.search(query).unwrap()
    }

    fn put(&mut self, object: ObjectId, value: &Value) -> Receipt {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object, value).unwrap();
        self.commit(unit).unwrap()
    }

    fn value(&self, object: ObjectId) -> Value {
        Value::Object(self.space.document(&object).unwrap().unwrap().value)
    }
}

/// What the reading side alone answers.
fn ask(space: &Space, peer: &TransportId, request: Request) -> Reply {
    match space.answer(peer, request) {
        Answer::Reply(reply) if !matches!(reply, Reply::Failed { .. }) => reply,
        other => panic!("{other:?}"),
    }
}

fn object(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

fn sync(a: &mut Device, b: &mut Device) {
    a.pull(b);
    b.pull(a);
    assert_eq!(a.space.digest().unwrap(), b.space.digest().unwrap());
}

#[test]
fn edits_made_apart_merge_and_a_tombstone_wins() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let text = "The first line of the letter.\nThe second line.\nThe last line.";
    a.put(object(1), &json!({"title": "Letter", "text": text, "stars": 1, "kept": null}));
    a.put(object(2), &json!({"title": "Soup"}));
    let mut b = a.invite(two.path(), 2);
    assert_eq!(b.value(object(1)), a.value(object(1)), "a newcomer reads what is older than it");

    a.put(
        object(1),
        &json!({
            "title": "Letter",
            "text": text.replace("first", "very first"),
            "stars": 2,
            "kept": null
        }),
    );
    b.put(
        object(1),
        &json!({
            "title": "Letter",
            "text": text.replace("last", "very last"),
            "stars": 3,
            "kept": null
        }),
    );
    b.put(object(2), &json!({"title": "Soup of the day"}));
    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    a.commit(unit).unwrap();
    sync(&mut a, &mut b);

    let merged = a.value(object(1));
    let text = merged["text"].as_str().unwrap();
    assert!(text.contains("very first") && text.contains("very last"), "{text}");
    assert_eq!(merged["kept"], Value::Null);
    let conflicts = b.space.conflicts(&object(1)).unwrap();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].others.len(), 1);
    for device in [&mut a, &mut b] {
        assert!(device.space.document(&object(2)).unwrap().is_none());
        assert!(device.space.is_deleted(&object(2)).unwrap());
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(2), &json!({"title": "again"})).unwrap();
        assert!(matches!(device.commit(unit), Err(Error::Deleted(_))));
    }
}

#[test]
fn a_unit_is_all_or_nothing_and_others_in_its_transaction_stand() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let unit = |n: u8, fails: bool| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(n), &json!({"n": n})).unwrap();
        unit.put("notes", object(n + 100), &json!({"n": n})).unwrap();
        if fails {
            unit.delete(object(250));
        }
        unit
    };
    let units = [unit(1, false), unit(2, true), unit(3, false)];
    let results = a.writer.commit(&mut units.into_iter());
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(matches!(results[1], Err(Error::NotFound(_))));
    for (n, there) in [(1, true), (101, true), (2, false), (102, false), (3, true), (103, true)] {
        assert_eq!(a.space.document(&object(n)).unwrap().is_some(), there, "{n}");
    }
    for receipt in results.into_iter().flatten() {
        receipt.verify().unwrap();
    }
    assert_eq!(a.search(&Query::text("nothing")).len(), 0);
}

// A unit may fail when its entry was appended already, and then the tree that the receipts of the
// others are made from must not have a leaf of it.
#[test]
fn receipts_of_a_group_are_those_read_later_whichever_of_its_units_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let unit = |n: u8, dimensions: usize| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(n), &json!({"n": n})).unwrap();
        unit.vector(object(n), vec![1.0; dimensions]);
        unit
    };
    let mut n = 0;
    for fails in ["", "f", ".f", "f..f.", "..ff.f...", "ffff", ".....f"] {
        let dimensions = |mark| if mark == 'f' { 3 } else { 2 };
        let units: Vec<UnitOfWork> = std::iter::once('.')
            .chain(fails.chars())
            .map(|mark| {
                n += 1;
                unit(n, dimensions(mark))
            })
            .collect();
        let results = a.writer.commit(&mut units.into_iter());
        for (result, mark) in results.into_iter().zip(std::iter::once('.').chain(fails.chars())) {
            assert_eq!(result.is_err(), mark == 'f', "{result:?}");
            let Ok(receipt) = result else { continue };
            let header = receipt.verify().unwrap();
            assert_eq!(a.space.receipt(&header.device, header.seq).unwrap(), receipt);
        }
    }
}

#[test]
fn idempotency_expected_heads_and_collections_are_held_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let keyed = |title: &str| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(1), &json!({"title": title})).unwrap();
        unit.idempotency_key(IdempotencyKey::new([1; 16]));
        unit
    };
    let first = a.commit(keyed("one")).unwrap();
    let again = a.commit(keyed("one")).unwrap();
    assert_eq!((first.header, first.index), (again.header, again.index));
    assert!(matches!(a.commit(keyed("two")), Err(Error::IdempotencyKeyReused)));

    let read = a.space.document(&object(1)).unwrap().unwrap();
    a.put(object(1), &json!({"title": "other"}));
    let put = |base: Base| {
        let mut unit = UnitOfWork::new();
        unit.put_at("notes", object(1), &json!({"title": "mine", "new": true}), base).unwrap();
        unit
    };
    match a.commit(put(Base::Exactly(read.heads.clone()))) {
        Err(Error::Conflict { current, .. }) => assert_eq!(current["title"], "other"),
        other => panic!("{other:?}"),
    }
    a.commit(put(Base::Merge(read.heads))).unwrap();
    assert_eq!(a.value(object(1))["new"], true);
    let mut unit = UnitOfWork::new();
    unit.put("recipes", object(1), &json!({})).unwrap();
    assert!(matches!(a.commit(unit), Err(Error::Invalid(_))));
    assert!(matches!(a.commit(UnitOfWork::new()), Err(Error::Invalid(_))));
}

#[test]
fn a_profile_opens_again_with_all_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let digest = {
        let mut a = Device::found(dir.path(), 1);
        for n in 1..20 {
            a.put(object(n), &json!({"title": format!("note {n}")}));
            a.put(object(n), &json!({"title": format!("note {n} edited")}));
        }
        a.space.digest().unwrap()
    };
    let name = "shared:test".parse().unwrap();
    let wrong = Unlock::Key(Secret::new([8; 32]));
    let open = |unlock: &Unlock, access| {
        Profile::open(world(3), dir.path(), unlock, access, ProfileOptions::default())
    };
    assert!(matches!(open(&wrong, Access::ReadWrite), Err(Error::WrongPassphrase)));
    {
        let reading = open(&unlock(), Access::ReadOnly).unwrap();
        let (space, writer) = reading.open_space(&name).unwrap();
        assert!(writer.is_none());
        assert_eq!(space.digest().unwrap(), digest);
        assert!(matches!(open(&unlock(), Access::ReadWrite), Err(Error::InUse(_))));
    }
    let writing = open(&unlock(), Access::ReadWrite).unwrap();
    let (space, writer) = writing.open_space(&name).unwrap();
    assert_eq!(space.digest().unwrap(), digest);
    let mut writer = writer.unwrap();
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(200), &json!({"title": "after"})).unwrap();
    writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    writer.close().unwrap();
    drop((writer, space));
    writing.close().unwrap();
}

#[test]
fn a_rolled_back_space_is_read_but_not_written() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(dir.path(), 1);
    a.put(object(1), &json!({"n": 1}));
    a.writer.close().unwrap();
    let file = dir.path().join("spaces").join(format!("{}.db", a.space.id()));
    let kept = copy.path().join("old.db");
    std::fs::copy(&file, &kept).unwrap();
    a.put(object(2), &json!({"n": 2}));
    a.writer.close().unwrap();
    a.profile.close().unwrap();
    drop(a);

    std::fs::copy(&kept, &file).unwrap();
    let _ = std::fs::remove_file(file.with_extension("db-wal"));
    let options = ProfileOptions::default();
    let again = Profile::open(world(2), dir.path(), &unlock(), Access::ReadWrite, options).unwrap();
    let (space, writer) = again.open_space(&"shared:test".parse().unwrap()).unwrap();
    assert!(space.document(&object(1)).unwrap().is_some());
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(3), &json!({"n": 3})).unwrap();
    let result = writer.unwrap().commit(&mut std::iter::once(unit)).pop().unwrap();
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
}

#[test]
fn three_devices_meeting_in_every_order_end_equal() {
    let orders: [[(usize, usize); 3]; 6] = [
        [(0, 1), (1, 2), (0, 2)],
        [(0, 1), (0, 2), (1, 2)],
        [(1, 2), (0, 1), (0, 2)],
        [(1, 2), (0, 2), (0, 1)],
        [(0, 2), (0, 1), (1, 2)],
        [(0, 2), (1, 2), (0, 1)],
    ];
    for order in orders {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut a = Device::found(dirs[0].path(), 1);
        a.put(object(1), &json!({"list": ["milk"], "by": "a"}));
        let b = a.invite(dirs[1].path(), 2);
        let c = a.invite(dirs[2].path(), 3);
        let mut devices = [a, b, c];
        for (n, device) in (0_u8..).zip(&mut devices) {
            device.put(object(10 + n), &json!({"from": n}));
        }
        devices[0].put(object(1), &json!({"list": ["milk", "eggs"], "by": "a"}));
        devices[1].put(object(1), &json!({"list": ["bread", "milk"], "by": "b"}));
        for _ in 0..2 {
            for (i, j) in order {
                let (left, right) = devices.split_at_mut(j);
                left[i].pull(&right[0]);
                right[0].pull(&left[i]);
            }
        }
        let digests: Vec<_> = devices.iter().map(|d| d.space.digest().unwrap()).collect();
        assert_eq!(digests[0], digests[1], "{order:?}");
        assert_eq!(digests[1], digests[2], "{order:?}");
        // The next write opens an epoch for all three; all of them can read it.
        devices[2].put(object(30), &json!({"late": true}));
        let (left, right) = devices.split_at_mut(2);
        left[0].pull(&right[0]);
        assert_eq!(left[0].value(object(30)), json!({"late": true}));
    }
}

#[test]
fn an_invitation_works_once_and_again_for_the_same_device() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let invitation = a.profile.invite(&a.space, Vec::new()).unwrap();
    let join = |n: usize| {
        let profile =
            Profile::create(world(n as u64 + 1), dirs[n].path(), &unlock(), options("x")).unwrap();
        let joining = profile.begin_join(invitation.clone()).unwrap();
        (profile, joining)
    };
    let (b, mut joining) = join(1);
    // The first connection breaks after the enrolment; the second gets the same welcome.
    let (_, admission) = b.ask_within(&mut joining, &a.profile, &[1; 32]).unwrap();
    let first = a.writer.admit(admission.enrolment.clone()).unwrap();
    let (agreed, admission) = b.ask_within(&mut joining, &a.profile, &[2; 32]).unwrap();
    let second = a.writer.admit(admission.enrolment.clone()).unwrap();
    assert_eq!(first.index, second.index, "it is not enrolled twice");
    let reply = a.profile.welcome(&admission, &a.space).unwrap();
    b.finish_join(joining, &agreed, &reply).unwrap();

    let (c, mut joining) = join(2);
    let refused = c.ask_within(&mut joining, &a.profile, &[3; 32]).unwrap_err();
    assert!(refused.to_string().contains("used before"), "{refused}");
}

#[test]
fn search_finds_by_word_by_nearness_and_by_the_apps_vectors() {
    let profile = Profile::in_memory(
        world(1),
        ProfileOptions { passphrase_cost: Argon2Params::default(), ..options("memory") },
    )
    .unwrap();
    let (space, writer) = profile.create_space(&"personal:me".parse().unwrap()).unwrap();
    let mut device = Device { profile, space, writer };
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(1), &json!({"title": "Zucchini bread", "text": "with nuts"})).unwrap();
    unit.put("notes", object(2), &json!({"title": "The boiler", "text": "serviced in May"}))
        .unwrap();
    unit.vector(object(2), vec![0.0, 1.0]);
    unit.vector(object(1), vec![1.0, 0.0]);
    device.commit(unit).unwrap();
    let mut first = |query: Query| device.search(&query)[0].document.object;
    assert_eq!(first(Query::text("boil")), object(2));
    assert_eq!(first(Query::similar("zuchini bred")), object(1));
    assert_eq!(first(Query::both("zucchini")), object(1));
    assert_eq!(first(Query::vector(vec![0.1, 0.9])), object(2));
    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    device.commit(unit).unwrap();
    for query in [Query::text("boiler"), Query::vector(vec![0.0, 1.0])] {
        let found = device.space.search(&query).unwrap();
        assert!(found.iter().all(|found| found.document.object == object(1)), "not indexed yet");
    }
    assert!(device.search(&Query::text("boiler")).is_empty());
    assert_eq!(device.search(&Query::vector(vec![0.0, 1.0])).len(), 1);
}

#[test]
fn an_export_is_verified_without_any_key_and_shows_no_content() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "A secret letter"}));
    let mut b = a.invite(dirs[1].path(), 2);
    b.put(object(2), &json!({"title": "Another secret"}));
    let mut unit = UnitOfWork::new();
    unit.delete(object(1));
    b.commit(unit).unwrap();
    sync(&mut a, &mut b);

    let export = dirs[2].path().join("export");
    let mut told = Vec::new();
    let summary = a.space.export_receipts(&export, &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!(told.last(), Some(&(summary.entries, summary.entries)));
    assert_eq!(summary.logs, 2);
    let again = a.space.export_receipts(&export, &mut |_, _| {});
    assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
    let verdict = larder_audit::verify(&export).unwrap();
    assert_eq!(verdict.logs.len(), 2);

    let mut files = Vec::new();
    for entry in std::fs::read_dir(export.join("logs")).unwrap() {
        for file in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "{}", file.display());
    }
    let victim = files.iter().find(|file| file.ends_with("2.tlog-proof")).unwrap();
    let text = std::fs::read_to_string(victim).unwrap();
    std::fs::write(victim, text.replacen("index 1", "index 0", 1)).unwrap();
    larder_audit::verify(&export).unwrap_err();
}

#[test]
fn an_invitation_expires_on_both_sides() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let eleven_minutes = 11 * 60 * 1000;
    let late =
        Profile::create(later_world(2, eleven_minutes), dirs[1].path(), &unlock(), options("late"))
            .unwrap();
    let a = Device::found(dirs[0].path(), 1);
    let invitation = a.profile.invite(&a.space, Vec::new()).unwrap();
    match late.begin_join(invitation.clone()) {
        Err(Error::Invitation(message)) => assert!(message.contains("expired"), "{message}"),
        other => panic!("{other:?}"),
    }
    // A joiner whose clock is slow still asks; the inviter's own clock decides.
    let slow = Profile::create(world(3), dirs[2].path(), &unlock(), options("slow")).unwrap();
    let clock = Arc::new(World { clock: AtomicU64::new(0), seed: AtomicU64::new(4 << 40) });
    let env: Arc<dyn Environment> = clock.clone();
    let inviter = Profile::in_memory(env, options("x")).unwrap();
    let (space, _writer) = inviter.create_space(&"shared:test".parse().unwrap()).unwrap();
    let mut invitation = inviter.invite(&space, Vec::new()).unwrap();
    let peer = slow.transport_id();
    assert!(inviter.invitation_open(&peer));
    invitation.expires = Timestamp(u64::MAX);
    let mut joining = slow.begin_join(invitation).unwrap();
    let exporter = [5; 32];
    clock.clock.fetch_add(eleven_minutes, Ordering::Relaxed);
    let refused = slow.ask_within(&mut joining, &inviter, &exporter).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    // Nobody is even let in to ask, and the secret is forgotten.
    assert!(!inviter.invitation_open(&peer));
    let refused = slow.ask_within(&mut joining, &inviter, &exporter).unwrap_err();
    assert!(refused.to_string().contains("does not know it"), "{refused}");
}
