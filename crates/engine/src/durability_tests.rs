//! What must hold after a failure, a crash, a lost file, and where a copy of a profile is used.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::BatchEntry;
use larder_log::act::Enrolment;
use larder_log::checkpoint::Checkpoint;
use larder_protocol::{Fork, LogHead, Position, Reply, Request};
use larder_store::space::{control, logs};
use larder_types::{Entropy, Hash, ObjectId, Timestamp, TransportId};
use serde_json::json;

use crate::{
    Access, Ack, Answer, Batch, Environment, Error, Profile, ProfileOptions, Receipt, Result,
    Secret, Space, SpaceWriter, Task, UnitOfWork, Unlock,
};

/// A clock that moves within a second, and bytes that a number decides.
pub(crate) struct World(pub(crate) AtomicU64);

pub(crate) struct Counter(pub(crate) u64);

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
        Timestamp(1_700_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed) % 1000)
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Counter(self.0.fetch_add(1 << 20, Ordering::Relaxed)))
    }
}

fn world(seed: u64) -> Arc<dyn Environment> {
    Arc::new(World(AtomicU64::new(seed << 40)))
}

fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

fn create(dir: &Path, label: &str) -> Result<Profile> {
    let options = ProfileOptions { label: Some(label.into()), ..ProfileOptions::default() };
    Profile::create(world(1), dir, &unlock(), options)
}

struct Device {
    profile: Profile,
    space: Space,
    writer: SpaceWriter,
}

impl Device {
    fn found(dir: &Path) -> Self {
        let profile = create(dir, "first").unwrap();
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        Self { profile, space, writer }
    }

    fn open(dir: &Path, seed: u64) -> Self {
        let options = ProfileOptions::default();
        let profile =
            Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options).unwrap();
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        Self { profile, space, writer: writer.unwrap() }
    }

    fn close(mut self) {
        self.writer.close().unwrap();
        drop(self.writer);
        self.space.close().unwrap();
        self.profile.close().unwrap();
    }

    fn put(&mut self, n: u8) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.put("notes", ObjectId::new([n; 16]), &json!({"n": n})).unwrap();
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
    }

    fn ask(&self, request: Request) -> Reply {
        match self.space.answer(&TransportId::new([1; 32]), request) {
            Answer::Reply(reply) => reply,
            Answer::Write(Task::StopLogs(forks)) => Reply::Checked { forks },
            Answer::Write(task) => panic!("{task:?}"),
        }
    }

    fn heads(&self) -> Vec<LogHead> {
        let Reply::Frontiers { logs, .. } = self.ask(Request::ReadFrontiers) else { panic!() };
        logs
    }

    fn forks(&self, heads: Vec<LogHead>) -> Vec<Fork> {
        let Reply::Checked { forks } =
            self.ask(Request::CheckFrontiers { logs: heads, forks: vec![] })
        else {
            panic!()
        };
        forks
    }

    fn is_stopped(&self) -> bool {
        let db = self.space.shared.pool.reader().unwrap();
        logs::find(&db, &self.space.device()).unwrap().unwrap().stopped.is_some()
    }

    fn judge(&self, keys: u8) -> Enrolment {
        let invitation = self.profile.invite(&self.space, Vec::new()).unwrap();
        let joiner = Profile::in_memory(world(u64::from(keys)), ProfileOptions::default()).unwrap();
        let mut joining = joiner.begin_join(invitation).unwrap();
        joiner.ask_within(&mut joining, &self.profile, &[9; 32]).unwrap().1.enrolment
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Two copies of one profile, closed.
fn twins() -> (tempfile::TempDir, tempfile::TempDir) {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut device = Device::found(one.path());
    device.put(1).unwrap();
    device.close();
    copy(one.path(), two.path());
    (one, two)
}

#[test]
fn a_transaction_that_fails_locks_nobody_out() {
    let foreign = "PRAGMA defer_foreign_keys = ON;
        INSERT INTO entries VALUES (999, 1, zeroblob(32), 999, 0, 0, x'', zeroblob(1))";
    for commits in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::found(dir.path());
        device.put(1).unwrap();
        let failed = device.writer.transact(|tx, state| {
            for _ in 0..3 {
                state.append(tx, &[], None, None)?;
            }
            state.sign(tx)?;
            if commits {
                // Breaks the COMMIT, and nothing before it.
                tx.execute_batch(foreign).unwrap();
                return Ok(());
            }
            Err(Error::Internal("on purpose".into()))
        });
        assert!(failed.is_err());
        device.close();
        let mut device = Device::open(dir.path(), 2);
        device.put(2).unwrap();
        assert_eq!(device.heads()[0].size, 3);
    }
}

#[test]
fn an_old_copy_that_meets_a_peer_never_signs_again() {
    let (one, two) = twins();
    let mut original = Device::open(one.path(), 2);
    original.put(2).unwrap();
    let heads = original.heads();
    let size = heads[0].size;

    let mut old = Device::open(two.path(), 3);
    let forged = LogHead { signature: [1; 64], ..heads[0].clone() };
    assert!(old.forks(vec![forged]).is_empty());
    assert!(!old.space.shared.is_frozen(), "anybody can say that");
    assert!(old.forks(heads).is_empty());
    for _ in 0..2 {
        match old.put(3) {
            Err(Error::RolledBack { signed, found }) => {
                assert_eq!((signed, found), (size, size - 1));
            }
            other => panic!("{other:?}"),
        }
        old.close();
        old = Device::open(two.path(), 4);
    }
}

#[test]
fn two_copies_that_were_both_used_stop_signing() {
    let (one, two) = twins();
    let mut original = Device::open(one.path(), 2);
    original.put(2).unwrap();
    let mut other = Device::open(two.path(), 3);
    other.put(3).unwrap();
    let heads = original.heads();
    let forged = LogHead { signature: [1; 64], ..heads[0].clone() };
    assert!(other.forks(vec![forged]).is_empty());
    let evidence = b"a fork, believe me".to_vec();
    let junk = Fork { device: other.space.device(), evidence, acts: vec![] };
    other.writer.stop_logs(&[junk]).unwrap();
    other.put(4).unwrap();

    let forks = other.forks(heads);
    assert_eq!(forks.len(), 1);
    other.writer.stop_logs(&forks).unwrap();
    assert!(matches!(other.put(5), Err(Error::OtherHistory)));
    other.close();
    let mut other = Device::open(two.path(), 4);
    assert!(other.is_stopped());
    assert!(matches!(other.put(5), Err(Error::OtherHistory)));
    assert!(other.space.document(&ObjectId::new([3; 16])).unwrap().is_some());
}

#[test]
fn another_history_than_the_mirrors_is_not_written_on() {
    let (one, two) = twins();
    let mut device = Device::open(one.path(), 2);
    let file = Path::new("spaces").join(format!("{}.db", device.space.id()));
    device.put(2).unwrap();
    device.close();
    let mut other = Device::open(two.path(), 3);
    other.put(3).unwrap();
    other.close();
    fs::copy(two.path().join(&file), one.path().join(&file)).unwrap();
    for seed in [4, 5] {
        let mut device = Device::open(one.path(), seed);
        assert!(matches!(device.put(4), Err(Error::OtherHistory)));
        device.close();
    }
}

/// The file of a space and its WAL are put back as they were earlier; the profile is not.
#[test]
fn an_old_copy_of_a_space_behind_its_mirror_is_not_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.put(1).unwrap();
    let file = dir.path().join("spaces").join(format!("{}.db", device.space.id()));
    let wal = file.with_extension("db-wal");
    let older = [&file, &wal].map(|path| fs::read(path).unwrap());
    let size = device.heads()[0].size;
    device.put(2).unwrap();
    device.close();
    fs::write(&file, &older[0]).unwrap();
    fs::write(&wal, &older[1]).unwrap();
    for seed in [2, 3] {
        let mut device = Device::open(dir.path(), seed);
        assert_eq!(device.heads()[0].size, size, "the old copy can be read");
        match device.put(3) {
            Err(Error::RolledBack { signed, found }) => {
                assert_eq!((signed, found), (size + 1, size));
            }
            other => panic!("{other:?}"),
        }
        device.close();
    }
}

#[test]
fn a_junk_batch_of_the_own_log_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    let receipt = device.put(1).unwrap();
    let header = receipt.header;
    let entry = BatchEntry { header, commitments: Vec::new(), payloads: Vec::new() };
    let first_seq = device.heads()[0].size + 1;
    let (id, signature) = (device.space.device(), [0; 64]);
    let batch = Batch { device: id, first_seq, entries: vec![entry], signature };
    let refused = device.writer.apply(batch);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    device.put(2).unwrap();
}

#[test]
fn an_own_batch_that_is_ahead_shows_an_old_copy() {
    let (one, two) = twins();
    let mut original = Device::open(one.path(), 2);
    let have = original.heads().iter().map(|head| (head.device, head.size)).collect();
    original.put(2).unwrap();
    let request = Request::ReadBatch {
        after: Position::default(),
        have,
        epochs: Vec::new(),
        bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
    };
    let peer = original.profile.transport_id();
    let reply = original.space.answer(&peer, request);
    let Answer::Reply(Reply::Batch { batch: Some(batch), .. }) = reply else { panic!("{reply:?}") };
    let mut old = Device::open(two.path(), 3);
    old.writer.apply(*batch).unwrap_err();
    assert!(matches!(old.put(3), Err(Error::RolledBack { .. })));
}

#[test]
fn a_profile_that_lost_its_key_file_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    Device::found(dir.path()).close();
    let again = create(dir.path(), "again");
    assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
    let key = dir.path().join("profile.key");
    fs::rename(&key, dir.path().join("elsewhere")).unwrap();
    for lost in ["", "profile.db"] {
        if !lost.is_empty() {
            fs::remove_file(dir.path().join(lost)).unwrap();
        }
        let again = create(dir.path(), "again");
        assert!(matches!(again, Err(Error::Corrupt(_))), "{again:?}");
        assert!(!key.exists());
    }
}

#[test]
fn a_label_that_is_refused_leaves_no_profile() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("some/where");
    for label in ["", "line\nbreak", &"x".repeat(200)] {
        assert!(matches!(create(&deep, label), Err(Error::Invalid(_))));
        assert!(!deep.exists());
    }
    create(&deep, "fine").unwrap();
}

#[test]
fn what_a_crash_left_of_a_new_profile_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "first").unwrap().close().unwrap();
    let (made, partial) = (dir.path().join("profile.db"), dir.path().join("profile-new.db"));
    let bytes = fs::read(&made).unwrap();
    fs::remove_file(&made).unwrap();
    // In the middle of its first page.
    fs::write(&partial, &bytes[..1000]).unwrap();
    let options = ProfileOptions { label: Some("again".into()), ..ProfileOptions::default() };
    let profile =
        Profile::open(world(2), dir.path(), &unlock(), Access::ReadWrite, options).unwrap();
    assert_eq!(profile.label(), "again");
    assert!(made.exists() && !partial.exists());
}

#[test]
fn an_enrolled_device_is_not_welcomed_with_other_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    let enrolment = device.judge(2);
    device.writer.admit(enrolment.clone()).unwrap();
    device.writer.admit(enrolment.clone()).unwrap();
    let mut other = device.judge(3);
    other.keys.signing = enrolment.keys.signing;
    let refused = device.writer.admit(other);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[test]
fn acknowledgements_of_another_history_or_of_nobodys_log_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.put(1).unwrap();
    let (me, space) = (device.space.device(), device.space.id());
    let head = device.heads()[0].clone();
    let of = |device, size, root, time_s: u64| (Checkpoint { space, device, size, root }, time_s);
    let nobody = larder_crypto::DeviceSigningKey::generate(&mut Counter(99)).device_id();
    let junk = Hash::new([3; 32]);
    let cases = [
        (of(me, head.size, junk, 1), 0),
        (of(me, 1, junk, 1), 0),
        (of(nobody, 5, junk, 1), 0),
        (of(me, u64::MAX, junk, 1), 0),
        (of(me, 9, junk, u64::MAX), 0),
        (of(me, head.size, head.root, 1), 1),
    ];
    for ((checkpoint, time_s), kept) in cases {
        let ack = Ack::sign(&checkpoint, me, &device.space.shared.keys.ack, time_s);
        let new = device.writer.store_acks(&[ack]).unwrap();
        assert_eq!(new.len(), kept, "{checkpoint:?}");
    }
    let db = device.space.shared.pool.reader().unwrap();
    assert_eq!(control::acks(&db).unwrap().len(), 1);
}
