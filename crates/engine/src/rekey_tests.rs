//! Renewal of keys and purge, cut and failing at every step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_store::profile as table;
use larder_types::limits::REKEY_AGE_MS;
use larder_types::{Entropy, ObjectId, Timestamp};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::durability_tests::{Counter, copy};
use crate::steps::{Step, hooked};
use crate::{
    Access, Environment, Error, Profile, ProfileOptions, PurgeProgress, Receipt, Rekey,
    RekeyStatus, Result, Secret, Space, SpaceWriter, UnitOfWork, Unlock, vault,
};

/// A clock that stands where it is put.
struct World {
    now: AtomicU64,
    seed: AtomicU64,
}

impl Environment for World {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Counter(self.seed.fetch_add(1 << 20, Ordering::Relaxed)))
    }
}

const START: u64 = 1_700_000_000_000;

fn world(now: u64) -> Arc<World> {
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    let seed = SEEDS.fetch_add(1, Ordering::Relaxed) << 40;
    Arc::new(World { now: AtomicU64::new(now), seed: AtomicU64::new(seed) })
}

fn unlock(byte: u8) -> Unlock {
    Unlock::Key(Secret::new([byte; 32]))
}

struct Device {
    world: Arc<World>,
    profile: Profile,
    space: Space,
    writer: SpaceWriter,
}

impl Device {
    fn found(dir: &Path) -> Self {
        let world = world(START);
        let env = Arc::clone(&world) as Arc<dyn Environment>;
        let profile = Profile::create(env, dir, &unlock(7), ProfileOptions::default()).unwrap();
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        Self { world, profile, space, writer }
    }

    fn open(dir: &Path, now: u64) -> Self {
        Self::open_with(dir, now, 7).unwrap()
    }

    fn open_with(dir: &Path, now: u64, key: u8) -> Result<Self> {
        let world = world(now);
        let env = Arc::clone(&world) as Arc<dyn Environment>;
        let options = ProfileOptions::default();
        let profile = Profile::open(env, dir, &unlock(key), Access::ReadWrite, options)?;
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap())?;
        Ok(Self { world, profile, space, writer: writer.unwrap() })
    }

    fn close(mut self) {
        self.writer.close().unwrap();
        drop(self.writer);
        self.space.close().unwrap();
        self.profile.close().unwrap();
    }

    fn put(&mut self, n: u8) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        let text = larder_types::hex(&[n; 900]);
        unit.put("notes", ObjectId::new([n; 16]), &json!({"n": n, "text": text})).unwrap();
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
    }

    /// Enough content for a copy of several steps.
    fn fill(&mut self) {
        for part in 0..2_u8 {
            let mut unit = UnitOfWork::new();
            for n in 0..3_u8 {
                let mut entropy = Counter(u64::from(part) << 32 | u64::from(n) << 16);
                let mut bytes = vec![0; 5_000];
                entropy.fill(&mut bytes);
                let value = json!({"text": larder_types::hex(&bytes)});
                unit.create(&mut entropy, "bulk", &value).unwrap();
            }
            self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
        }
        while self.writer.index(8).unwrap() > 0 {}
    }

    fn row(&self) -> table::Home {
        let row = self.profile.inner.with_db(|db| Ok(table::space(db, &self.space.id())?));
        row.unwrap().unwrap().home
    }

    /// Steps until there is nothing to do; writes between the steps. Answers with the number of
    /// steps and what was written.
    fn rekey(&mut self, mut n: u8) -> Result<(u32, Vec<Receipt>)> {
        let (mut steps, mut receipts) = (0, Vec::new());
        while self.writer.wants_rekey() {
            steps += 1;
            if let Rekey::Copying { pages, pages_total } = self.writer.rekey_step()? {
                assert!(0 < pages && pages <= pages_total);
                receipts.push(self.put(n)?);
                n += 1;
            }
        }
        Ok((steps, receipts))
    }

    fn check(&self, receipts: &[Receipt], documents: impl Iterator<Item = u8>) {
        for n in documents {
            let document = self.space.document(&ObjectId::new([n; 16])).unwrap();
            assert_eq!(document.unwrap().value["n"], json!(n));
        }
        for receipt in receipts {
            let held = self.space.receipt(&self.space.device(), receipt.index + 1).unwrap();
            assert_eq!(held.header, receipt.header);
        }
    }
}

/// The names of all files below a directory.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            names.extend(files(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.insert(name);
        }
    }
    names
}

fn closed_files(profile_db: &str, space_db: &str) -> BTreeSet<String> {
    ["lock", "profile.key", profile_db, space_db].map(str::to_owned).into()
}

#[test]
fn a_space_gets_another_key_and_file_while_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.fill();
    let mut receipts = vec![device.put(1).unwrap()];
    assert_eq!(device.writer.rekey_step().unwrap(), Rekey::Idle);
    let old = device.row();
    let reader = device.space.shared.pool.reader().unwrap();
    device.world.now.store(START + 5, Ordering::Relaxed);
    device.writer.wish_rekey().unwrap();
    assert_eq!(device.space.status().unwrap().rekey, RekeyStatus::Wished);
    device.writer.rekey_step().unwrap();
    assert!(matches!(device.space.status().unwrap().rekey, RekeyStatus::Copying { .. }));
    let (steps, written) = device.rekey(2).unwrap();
    assert!(steps > 3, "{steps}");
    let last = 2 + u8::try_from(written.len()).unwrap();
    receipts.extend(written);

    let new = device.row();
    assert_ne!((&old.file, &old.wrapped_key), (&new.file, &new.wrapped_key));
    let status = device.space.status().unwrap();
    assert_eq!((status.key_created, status.rekey), (Timestamp(START + 5), RekeyStatus::None));
    receipts.push(device.put(last).unwrap());
    device.check(&receipts, 1..=last);
    // A reader that was there before goes on in the old file, which goes when it is done.
    assert!(dir.path().join(&old.file).exists());
    let documents = "SELECT count(*) FROM documents";
    let count = |db: &Connection| db.query_row(documents, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(count(&reader) < count(&device.space.shared.pool.reader().unwrap()));
    drop(reader);
    assert!(!dir.path().join(&old.file).exists());
    device.close();
    assert_eq!(files(dir.path()), closed_files("profile.db", &new.file));

    let mut device = Device::open(dir.path(), START + 10);
    device.check(&receipts, 1..=last);
    // Again, and what a row of another key sealed opens nothing.
    device.writer.wish_rekey().unwrap();
    device.rekey(100).unwrap();
    assert!(device.row().file.ends_with(".2.db"), "{}", device.row().file);
    device.close();
}

/// A profile's directory as a crash at some step would leave it.
struct Image {
    step: Step,
    dir: TempDir,
    documents: u8,
}

/// A hook that keeps an image of `dir` at each step, `documents` being what is committed then.
fn imaging(
    dir: PathBuf,
    images: Rc<RefCell<Vec<Image>>>,
    documents: Rc<Cell<u8>>,
) -> impl FnMut(Step) -> io::Result<()> {
    move |step| {
        let image = tempfile::tempdir()?;
        copy(&dir, image.path());
        images.borrow_mut().push(Image { step, dir: image, documents: documents.get() });
        Ok(())
    }
}

#[test]
fn a_crash_at_any_step_of_a_renewal_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.fill();
    let mut receipts = vec![device.put(1).unwrap()];
    let (images, documents) = (Rc::default(), Rc::new(Cell::new(1)));
    let hook = imaging(dir.path().to_owned(), Rc::clone(&images), Rc::clone(&documents));
    hooked(hook, || {
        device.writer.wish_rekey().unwrap();
        while device.writer.wants_rekey() {
            device.writer.rekey_step().unwrap();
            receipts.push(device.put(documents.get() + 1).unwrap());
            documents.set(documents.get() + 1);
        }
    });
    device.close();
    let images = images.take();
    println!("{} crashes", images.len());
    let seen: BTreeSet<Step> = images.iter().map(|image| image.step).collect();
    let all = [Step::Wished, Step::Begun, Step::Copied, Step::Whole, Step::Rewrapped];
    assert_eq!(seen, all.into_iter().chain([Step::Naming, Step::Named, Step::Moved]).collect());
    assert!(images.len() > 9);
    for Image { step, dir, documents } in images {
        let mut device = Device::open(dir.path(), START + 1);
        device.check(&receipts[..usize::from(documents)], 1..=documents);
        assert!(device.space.document(&ObjectId::new([documents + 1; 16])).unwrap().is_none());
        let is_moved = matches!(step, Step::Named | Step::Moved);
        assert_eq!(device.row().file.ends_with(".1.db"), is_moved, "{step:?}");
        // It goes on by itself.
        assert_eq!(device.writer.wants_rekey(), !is_moved, "{step:?}");
        let (_, written) = device.rekey(100).unwrap();
        device.check(&written, std::iter::empty());
        device.put(200).unwrap();
        let file = device.row().file;
        assert!(file.ends_with(".1.db"));
        device.close();
        assert_eq!(files(dir.path()), closed_files("profile.db", &file), "{step:?}");
    }
}

/// A hook that fails as a full disk does.
fn failing_at(failing: Step) -> impl FnMut(Step) -> io::Result<()> {
    move |step| if step == failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[test]
fn a_renewal_that_fails_at_any_step_leaves_the_space_as_it_was() {
    let failing = [Step::Begun, Step::Copied, Step::Whole, Step::Rewrapped, Step::Naming];
    for failing in failing.into_iter().chain([Step::Named]) {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::found(dir.path());
        device.fill();
        device.put(1).unwrap();
        let before = device.row();
        let full = failing_at(failing);
        device.writer.wish_rekey().unwrap();
        let failed = hooked(full, || device.rekey(10));
        assert!(matches!(failed, Err(Error::Io { .. })), "{failing:?}: {failed:?}");
        assert!(!device.writer.wants_rekey(), "{failing:?}: not tried again at once");
        assert_eq!(device.row().file, before.file, "{failing:?}");
        assert!(device.row().rekey_wished_at.is_some(), "{failing:?}: nor forgotten");
        assert!(!dir.path().join(before.file.replace(".db", ".1.db")).exists(), "{failing:?}");
        device.put(2).unwrap();
        device.check(&[], 1..=2);
        device.close();
        assert_eq!(files(dir.path()), closed_files("profile.db", &before.file), "{failing:?}");
        let mut device = Device::open(dir.path(), START);
        device.rekey(100).unwrap();
        device.check(&[], 1..=2);
        assert_ne!(device.row().file, before.file);
        device.close();
    }
}

/// The transaction that names the new file failed, and nobody can say whether it reached the disk:
/// what is written to the old file now may be lost.
#[test]
fn nothing_is_written_while_it_is_not_known_which_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.put(1).unwrap();
    let inner = Arc::clone(&device.profile.inner);
    let close = move |step| {
        if step == Step::Rewrapped {
            inner.close_db().unwrap();
        }
        Ok(())
    };
    device.writer.wish_rekey().unwrap();
    let failed = hooked(close, || device.rekey(10));
    assert!(failed.is_err());
    assert!(device.put(2).is_err());
    let spaces = |files: BTreeSet<String>| {
        files.iter().filter(|name| name.starts_with("spaces/") && !name.ends_with("-wal")).count()
    };
    assert_eq!(spaces(files(dir.path())), 2, "either may be the one");
    device.space.document(&ObjectId::new([1; 16])).unwrap().unwrap();
    let Device { profile, space, writer, .. } = device;
    drop((writer, space));
    profile.close().unwrap();
    drop(profile);
    let mut device = Device::open(dir.path(), START);
    assert_eq!(spaces(files(dir.path())), 1);
    device.check(&[], 1..=1);
    device.rekey(10).unwrap();
    device.put(2).unwrap();
    device.close();
}

#[test]
fn a_transaction_that_fails_meanwhile_has_the_copy_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.fill();
    device.writer.wish_rekey().unwrap();
    device.writer.rekey_step().unwrap();
    let failed: Result<()> = device.writer.transact(|tx, state| {
        state.append(tx, &[], None, None)?;
        Err(Error::Internal("on purpose".into()))
    });
    failed.unwrap_err();
    device.put(1).unwrap();
    device.rekey(2).unwrap();
    device.check(&[], 1..=2);
    assert!(device.row().file.ends_with(".1.db"));
    device.close();
}

#[test]
fn a_key_is_renewed_by_age_and_a_wrong_clock_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    Device::found(dir.path()).close();
    let wished = |now| {
        let device = Device::open(dir.path(), now);
        let wants = device.writer.wants_rekey();
        device.close();
        wants
    };
    for now in [0, START - 1, START, START + REKEY_AGE_MS - 1] {
        assert!(!wished(now), "{now}");
    }
    // The wish is kept, whatever the clock says then.
    assert!(wished(START + REKEY_AGE_MS));
    assert!(wished(0));
    let far = START + 50 * REKEY_AGE_MS;
    let mut device = Device::open(dir.path(), far);
    device.rekey(1).unwrap();
    assert_eq!(device.row().key_created_at, Timestamp(far));
    device.writer.check_key_age().unwrap();
    assert!(!device.writer.wants_rekey());
    device.close();
    // Once, and not again when the clock is set right, nor for a clock at its very end.
    for now in [0, START, far, far + REKEY_AGE_MS - 1] {
        assert!(!wished(now), "{now}");
    }
    let mut device = Device::open(dir.path(), far);
    device.world.now.store(far + REKEY_AGE_MS, Ordering::Relaxed);
    device.writer.check_key_age().unwrap();
    assert!(device.writer.wants_rekey(), "of a space that stays open");
    device.close();
}

#[test]
fn only_a_profile_with_files_that_may_be_written_renews_keys() {
    let name = "shared:test".parse().unwrap();
    let memory = Profile::in_memory(world(START), ProfileOptions::default()).unwrap();
    let (_, mut writer) = memory.create_space(&name).unwrap();
    assert!(matches!(writer.wish_rekey(), Err(Error::Invalid(_))));
    assert!(!writer.wants_rekey());
    let dir = tempfile::tempdir().unwrap();
    Device::found(dir.path()).close();
    let options = ProfileOptions::default();
    let opened = Profile::open(world(0), dir.path(), &unlock(7), Access::ReadOnly, options);
    let (_, writer) = opened.unwrap().open_space(&name).unwrap();
    assert!(writer.is_none());
}

#[test]
fn files_that_no_row_names_are_removed_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::found(dir.path());
    let file = device.row().file;
    device.close();
    let stem = file.trim_end_matches(".db").to_owned();
    let other = format!("spaces/{}", larder_types::hex(&[5; 32]));
    let left = ["profile.1.db", "profile.1.db-wal", "profile.key.new"].map(str::to_owned);
    let left =
        left.into_iter().chain([".1.db", ".1.db-wal", ".7.db"].map(|end| stem.clone() + end));
    let kept = ["profile.db.bak", "profile.01.db", "notes.txt"].map(str::to_owned);
    let kept =
        kept.into_iter().chain([".db.old", ".x.db", ".1.db-journal"].map(|end| stem.clone() + end));
    let kept: Vec<_> = kept.chain([".db", ".1.db"].map(|end| other.clone() + end)).collect();
    let before = files(dir.path());
    for name in left.chain(kept.iter().cloned()) {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    // Not for a reader.
    let all = files(dir.path());
    let options = ProfileOptions::default();
    let reader = Profile::open(world(0), dir.path(), &unlock(7), Access::ReadOnly, options);
    reader.unwrap().close().unwrap();
    assert_eq!(files(dir.path()), all);
    Device::open(dir.path(), START).close();
    assert_eq!(files(dir.path()), before.union(&kept.into_iter().collect()).cloned().collect());

    // Where a space's own file is missing, nothing of it is removed.
    fs::rename(dir.path().join(&file), dir.path().join(format!("{stem}.3.db"))).unwrap();
    assert!(Device::open_with(dir.path(), START, 7).is_err());
    assert!(dir.path().join(format!("{stem}.3.db")).exists());
}

fn purge(dir: &Path, old: u8, new: Option<u8>) -> Result<Vec<PurgeProgress>> {
    let mut told = Vec::new();
    let new = new.map(unlock);
    let env = world(START + 9);
    Profile::purge(env, dir, &unlock(old), new.as_ref(), &mut |progress| told.push(progress))?;
    Ok(told)
}

#[test]
fn a_purge_keeps_everything_under_new_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.fill();
    let receipts = [device.put(1).unwrap(), device.put(2).unwrap()];
    let (transport, digest) = (device.profile.transport_id(), device.space.digest().unwrap());
    let invitation = device.profile.invite(&device.space, Vec::new()).unwrap();
    let joiner_dir = tempfile::tempdir().unwrap();
    let joiner = Device::found(joiner_dir.path());
    let joining = joiner.profile.begin_join(invitation.clone()).unwrap();
    let keys = joining.public();
    joiner.close();
    device.close();

    let told = purge(dir.path(), 7, None).unwrap();
    assert!(told.len() > 4);
    assert!(told.windows(2).all(|pair| pair[0].pages <= pair[1].pages));
    let last = told.last().unwrap();
    assert!(last.pages == last.pages_total && last.pages > 50, "{last:?}");
    let device = Device::open(dir.path(), START);
    device.check(&receipts, 1..=2);
    assert_eq!(device.space.digest().unwrap(), digest);
    assert_eq!(device.profile.transport_id(), transport);
    assert_eq!(device.profile.key_created().unwrap(), Some(Timestamp(START + 9)));
    assert_eq!(device.profile.purge_wished().unwrap(), None);
    let row = device.row();
    assert_eq!(row.key_created_at, Timestamp(START + 9));
    device.close();
    assert_eq!(files(dir.path()), closed_files("profile.1.db", &row.file));

    // An offer that was taken up goes on with the same keys, and a new passphrase replaces the old.
    purge(joiner_dir.path(), 7, Some(8)).unwrap();
    let wrong = Device::open_with(joiner_dir.path(), START, 7).err();
    assert!(matches!(wrong, Some(Error::WrongPassphrase)), "{wrong:?}");
    let joiner = Device::open_with(joiner_dir.path(), START, 8).unwrap();
    let joining = joiner.profile.begin_join(invitation).unwrap();
    assert_eq!(joining.public(), keys);
    joiner.close();
    assert!(matches!(purge(dir.path(), 9, None), Err(Error::WrongPassphrase)));
    for generation in 2..4 {
        purge(dir.path(), 7, None).unwrap();
        assert!(dir.path().join(format!("profile.{generation}.db")).exists());
    }
    Device::open(dir.path(), START).close();
}

#[test]
fn a_crash_at_any_step_of_a_purge_leaves_all_of_the_old_or_all_of_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found(dir.path());
    device.fill();
    let receipts = [device.put(1).unwrap()];
    let old_file = device.row().file;
    device.close();
    let (images, documents) = (Rc::default(), Rc::new(Cell::new(1)));
    let hook = imaging(dir.path().to_owned(), Rc::clone(&images), documents);
    hooked(hook, || purge(dir.path(), 7, Some(8))).unwrap();
    let images = images.take();
    println!("{} crashes", images.len());
    let seen: BTreeSet<Step> = images.iter().map(|image| image.step).collect();
    for step in [
        Step::PurgeWished,
        Step::Copied,
        Step::Whole,
        Step::Rewrapped,
        Step::ProfileCopied,
        Step::ProfileRewrapped,
        Step::KeyFileNamed,
        Step::KeyFileWritten,
        Step::Removed,
    ] {
        assert!(seen.contains(&step), "{step:?}");
    }
    for Image { step, dir, .. } in images {
        let is_new = step >= Step::KeyFileNamed;
        let (right, wrong) = if is_new { (8, 7) } else { (7, 8) };
        let refused = Device::open_with(dir.path(), START, wrong).err();
        assert!(matches!(refused, Some(Error::WrongPassphrase)), "{step:?}: {refused:?}");
        let mut device = Device::open_with(dir.path(), START, right).unwrap();
        device.check(&receipts, 1..=1);
        assert_eq!(device.profile.purge_wished().unwrap().is_some(), !is_new, "{step:?}");
        device.put(2).unwrap();
        device.close();
        let new_file = old_file.replace(".db", ".1.db");
        let (profile_db, space_db) =
            if is_new { ("profile.1.db", &new_file) } else { ("profile.db", &old_file) };
        let expected = closed_files(profile_db, space_db);
        assert_eq!(files(dir.path()), expected, "{step:?}");
        purge(dir.path(), right, Some(9)).unwrap();
        let device = Device::open_with(dir.path(), START, 9).unwrap();
        device.check(&receipts, 1..=2);
        assert_eq!(device.profile.purge_wished().unwrap(), None);
        device.close();
    }
}

#[test]
fn a_purge_that_fails_has_changed_nothing_and_can_be_had_again() {
    for failing in [Step::Copied, Step::Whole, Step::Rewrapped, Step::ProfileRewrapped] {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::found(dir.path());
        device.fill();
        device.put(1).unwrap();
        let old_file = device.row().file;
        device.close();
        let full = failing_at(failing);
        let failed = hooked(full, || purge(dir.path(), 7, Some(8)));
        assert!(matches!(failed, Err(Error::Io { .. })), "{failing:?}: {failed:?}");
        assert_eq!(files(dir.path()), closed_files("profile.db", &old_file), "{failing:?}");
        let device = Device::open(dir.path(), START);
        device.check(&[], 1..=1);
        assert!(device.profile.purge_wished().unwrap().is_some());
        device.close();
        purge(dir.path(), 7, None).unwrap();
        Device::open(dir.path(), START).check(&[], 1..=1);
    }
}

/// All of a database as SQLite sees it, free pages and slack too.
fn plain_image(db: &Connection) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.db");
    let mut plain = Connection::open(&path).unwrap();
    let backup = rusqlite::backup::Backup::new(db, &mut plain).unwrap();
    assert_eq!(backup.step(-1).unwrap(), rusqlite::backup::StepResult::Done);
    drop(backup);
    plain.close().unwrap();
    fs::read(path).unwrap()
}

fn holds(image: &[u8], bytes: &[u8]) -> bool {
    image.windows(bytes.len()).any(|window| window == bytes)
}

/// The keys of a profile and what wraps them, and the plain images of its databases.
fn keys_and_images(device: &Device) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (inner, id) = (&device.profile.inner, device.space.id());
    let row = device.row();
    let purpose = crate::rekey::file_purpose(&id);
    let secret: Secret<32> = inner.vault.open(&purpose, &row.wrapped_key).unwrap();
    let mut keys = vec![secret.expose().to_vec()];
    keys.push(vault::space_db_key(&secret, &id).expose().to_vec());
    keys.push(row.wrapped_key);
    let space = device.space.shared.pool.reader().unwrap();
    let wrapped = larder_store::space::control::secrets(&space).unwrap();
    keys.extend(wrapped.into_iter().map(|(_, wrapped)| wrapped));
    keys.extend(inner.with_db(|db| Ok(table::keys(db)?)).unwrap().into_iter().map(|key| key.1));
    let profile = inner.with_db(|db| Ok(plain_image(db))).unwrap();
    (keys, vec![profile, plain_image(&space)])
}

#[test]
fn after_a_purge_no_new_key_opens_an_old_file_and_no_old_key_is_anywhere() {
    let (dir, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut device = Device::found(dir.path());
    device.put(1).unwrap();
    let file = device.row().file;
    let (old_keys, old_images) = keys_and_images(&device);
    // What is looked for can be found: wrapped keys lie in the rows.
    assert!(old_keys.len() > 6);
    assert!(holds(&old_images[0], &old_keys[2]) && holds(&old_images[1], &old_keys[3]));
    device.close();
    copy(dir.path(), before.path());
    purge(dir.path(), 7, Some(8)).unwrap();

    let device = Device::open_with(dir.path(), START, 8).unwrap();
    let new_file = device.row().file;
    let (new_keys, new_images) = keys_and_images(&device);
    assert!(holds(&new_images[0], &new_keys[2]) && holds(&new_images[1], &new_keys[3]));
    for key in &old_keys {
        assert!(!new_images.iter().any(|image| holds(image, key)));
        assert!(!new_keys.contains(key));
    }
    device.close();
    // An old space file in the place of the new one.
    let mixed = tempfile::tempdir().unwrap();
    copy(dir.path(), mixed.path());
    fs::copy(before.path().join(&file), mixed.path().join(&new_file)).unwrap();
    let refused = Device::open_with(mixed.path(), START, 8).err().unwrap().to_string();
    assert!(refused.contains("the key does not open"), "{refused}");
    // The old database of the profile in the place of the new one.
    copy(dir.path(), mixed.path());
    fs::copy(before.path().join("profile.db"), mixed.path().join("profile.1.db")).unwrap();
    let refused = Device::open_with(mixed.path(), START, 8).err().unwrap().to_string();
    assert!(refused.contains("the key does not open"), "{refused}");
    // The new key file made to name the old database.
    let swapped = tempfile::tempdir().unwrap();
    copy(before.path(), swapped.path());
    fs::copy(dir.path().join("profile.key"), swapped.path().join("profile.key")).unwrap();
    assert!(matches!(Device::open_with(swapped.path(), START, 8), Err(Error::Corrupt(_))));
    // What remains: a whole old copy opens with what opened it then.
    let old = Device::open_with(before.path(), START, 7).unwrap();
    old.check(&[], 1..=1);
    old.close();
}
