//! Looks beneath, as for erasures: of what was let go of nothing is in the decrypted image of the
//! space's file, of the profile's, and of their WALs.

use std::collections::BTreeSet;
use std::path::Path;

use larder_store::profile as table;

use super::*;
use crate::dir::Dir;
use crate::erase::canary_tests::{count, image_of};
use crate::profile::key_purpose;
use crate::{Access, Unlock, files, key_file, vault};

fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

fn on_disk(dir: &Path, day: &Arc<AtomicU64>, seed: u64) -> Profile {
    let options = ProfileOptions { label: Some("one".into()), ..ProfileOptions::default() };
    Profile::create(Calendar::new(day, seed), dir, &unlock(), options).unwrap()
}

/// Who has the profile's directory and what unlocks it sees these bytes.
fn image(dir: &Path, device: &Device) -> Vec<Vec<u8>> {
    let key = key_file::open(&Dir::new(&**device.profile.env(), dir), &unlock()).unwrap();
    let (of_profile, key) = (files::profile_db(0), vault::profile_db_key(&key.key));
    let mut image = crate::erase::canary_tests::image(dir, device);
    image.extend(image_of(dir, &of_profile, &key));
    image
}

/// What opens sealed sections, as it is kept: the secrets of epochs, and the sealing key.
#[derive(Default)]
struct Kept {
    secrets: BTreeSet<Vec<u8>>,
    sealing: BTreeSet<Vec<u8>>,
}

impl Kept {
    fn of(device: &Device) -> Self {
        let epochs = control::epochs(&device.space.shared.pool.reader().unwrap()).unwrap();
        let keys = device.profile.inner.with_db(|db| Ok(table::keys(db)?)).unwrap();
        let purpose = key_purpose(&device.space.id(), "sealing");
        let sealing = keys.into_iter().filter(|(name, _)| name.starts_with(&purpose));
        Self {
            secrets: epochs.into_iter().filter_map(|epoch| epoch.wrapped).collect(),
            sealing: sealing.map(|(_, wrapped)| wrapped).collect(),
        }
    }

    fn add(&mut self, other: Self) {
        self.secrets.extend(other.secrets);
        self.sealing.extend(other.sealing);
    }

    fn without(self, now: &Self) -> Self {
        let less = |all: BTreeSet<_>, now: &BTreeSet<_>| all.difference(now).cloned().collect();
        Self {
            secrets: less(self.secrets, &now.secrets),
            sealing: less(self.sealing, &now.sealing),
        }
    }

    fn found_in(&self, image: &[Vec<u8>]) -> (usize, usize) {
        let found = |all: &BTreeSet<Vec<u8>>| all.iter().filter(|it| count(image, it) > 0).count();
        (found(&self.secrets), found(&self.sealing))
    }

    fn counted(&self) -> (usize, usize) {
        (self.secrets.len(), self.sealing.len())
    }
}

/// Two devices on disk that have let go of secrets and of their first sealing keys, and what those
/// were.
fn forgetful(dirs: &[tempfile::TempDir]) -> (Household, Vec<Kept>) {
    let path = |seed: u64| dirs[usize::try_from(seed).unwrap() - 1].path();
    let mut household = Household::with(2, |day, seed| on_disk(path(seed), day, seed));
    let mut gone: Vec<Kept> = household.devices.iter().map(Kept::of).collect();
    for _ in 0..4 {
        household.live(1, &[0, 1]);
        for (device, gone) in household.devices.iter().zip(&mut gone) {
            gone.add(Kept::of(device));
        }
    }
    for ((device, gone), dir) in household.devices.iter().zip(&mut gone).zip(dirs) {
        let now = Kept::of(device);
        *gone = std::mem::take(gone).without(&now);
        assert!(gone.secrets.len() >= 2 && !gone.sealing.is_empty(), "{:?}", gone.counted());
        let image = image(dir.path(), device);
        assert_eq!(now.found_in(&image), now.counted(), "what it keeps is found");
        assert_eq!(gone.found_in(&image), gone.counted(), "the control is not found");
    }
    (household, gone)
}

fn dirs() -> [tempfile::TempDir; 2] {
    [(); 2].map(|()| tempfile::tempdir().unwrap())
}

/// A thief had everything that was ever sent and the files of a profile. Secrets and sealing keys
/// that the device had let go of for weeks stood in frames of the write-ahead logs.
#[test]
fn nothing_that_was_let_go_of_is_found_beneath() {
    let dirs = dirs();
    let (mut household, gone) = forgetful(&dirs);
    for round in 0..2 {
        for ((device, gone), dir) in household.devices.iter_mut().zip(&gone).zip(&dirs) {
            assert!(device.writer.leaves_secrets());
            assert!(device.writer.finish_forgetting().unwrap());
            assert!(!device.writer.leaves_secrets());
            let (now, image) = (Kept::of(device), image(dir.path(), device));
            assert_eq!(now.found_in(&image), now.counted(), "what it keeps is found");
            assert_eq!(gone.found_in(&image), (0, 0), "of {:?}, {round}", gone.counted());
        }
        // Pages that were kept in memory bring nothing of it back.
        household.live(1, &[0, 1]);
    }
}

/// Without power for the rest: it is made up for when the space is opened again, and not asked of a
/// profile that was closed in order.
#[test]
fn what_a_cut_left_of_it_goes_when_the_space_is_opened_again() {
    let dirs = dirs();
    let (household, gone) = forgetful(&dirs);
    let left = tempfile::tempdir().unwrap();
    crate::durability_tests::copy(dirs[0].path(), left.path());
    let open = || {
        let (env, options) = (Calendar::new(&household.day, 9), ProfileOptions::default());
        let opened = Profile::open(env, left.path(), &unlock(), Access::ReadWrite, options);
        let profile = opened.unwrap();
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        Device { profile, space, writer: writer.unwrap() }
    };
    let mut device = open();
    let image_now = image(left.path(), &device);
    assert_eq!(gone[0].found_in(&image_now), gone[0].counted(), "the control is not found");
    assert!(device.writer.leaves_secrets() && device.writer.finish_forgetting().unwrap());
    assert_eq!(gone[0].found_in(&image(left.path(), &device)), (0, 0));
    let Device { profile, space, mut writer } = device;
    writer.close().unwrap();
    drop(writer);
    space.close().unwrap();
    profile.close().unwrap();
    drop((profile, space));
    let device = open();
    assert!(!device.writer.leaves_secrets());
    assert_eq!(gone[0].found_in(&image(left.path(), &device)), (0, 0));
}

/// Somebody reads the space as it was before, for a long time.
#[test]
fn it_is_not_said_to_be_done_while_somebody_reads_from_before() {
    let dirs = dirs();
    let (mut household, gone) = forgetful(&dirs);
    let reader = household.devices[0].space.shared.pool.reader().unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let read = |db: &Connection| sections::page(db, 0, 1).unwrap().len();
    assert_eq!(read(&reader), 1);
    household.put(0, 99);
    let device = &mut household.devices[0];
    assert!(!device.writer.finish_forgetting().unwrap() && device.writer.leaves_secrets());
    let (secrets, sealing) = gone[0].found_in(&image(dirs[0].path(), device));
    assert!(secrets > 0, "the control is not found");
    assert_eq!(sealing, 0, "the profile's waits for nobody");
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    assert!(device.writer.finish_forgetting().unwrap() && !device.writer.leaves_secrets());
    assert_eq!(gone[0].found_in(&image(dirs[0].path(), device)), (0, 0));
}
