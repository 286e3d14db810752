//! Looks beneath: every page of a space's file and every frame of its WAL is opened with the
//! space's key, also what SQLite itself would not read any more, and searched for what is to be
//! gone. What is searched for is found there first.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_pages::testing::Forge;
use larder_protocol::{Reply, Request};
use larder_types::ObjectId;
use serde_json::json;

use super::tests::{OBJECT, finish, sync};
use super::*;
use crate::durability_tests::World;
pub(crate) use crate::prune::tests::add_blob_in;
use crate::prune::tests::{Device, add_blob};
use crate::steps::Step;
use crate::{
    Answer, Band, ErasureStage, Profile, ProfileOptions, Role, Secret, UnitOfWork, Unlock,
};

const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;
const WAL_HEADER: usize = 32;

/// Bytes that must be gone, by what they are of.
type Needles = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// Everything that the space's file and its WAL hold, decrypted: pages and frames, whole.
pub(crate) fn image(dir: &Path, device: &Device) -> Vec<Vec<u8>> {
    let home = device.space.shared.home();
    let (name, key) = home.beneath();
    image_of(dir, name, key)
}

/// The same of any database.
pub(crate) fn image_of(dir: &Path, name: &str, key: &Secret<32>) -> Vec<Vec<u8>> {
    let (parts, damaged) = readable_image_of(dir, name, key);
    assert_eq!(damaged, 0, "pages that do not open");
    parts
}

/// The same of a file that is damaged, and how many of its pages do not open.
fn readable_image_of(dir: &Path, name: &str, key: &Secret<32>) -> (Vec<Vec<u8>>, usize) {
    let main = fs::read(dir.join(name)).unwrap();
    let forge = Forge::new(key, main[..16].try_into().unwrap());
    let (mut parts, mut damaged) = (Vec::new(), 0);
    for (number, page) in (1..).zip(main.chunks(PAGE)) {
        match forge.open_page(number, page) {
            Some(page) => parts.push(page.to_vec()),
            None => damaged += 1,
        }
    }
    let wal = fs::read(dir.join(format!("{name}-wal"))).unwrap_or_default();
    for (index, frame) in (1..).zip(wal.get(WAL_HEADER..).unwrap_or_default().chunks(FRAME)) {
        parts.extend(forge.open_frame(index, frame).map(|(frame, _)| frame.to_vec()));
    }
    (parts, damaged)
}

pub(crate) fn count(image: &[Vec<u8>], needle: &[u8]) -> usize {
    let is_at = |part: &Vec<u8>| part.windows(needle.len()).any(|window| window == needle);
    image.iter().filter(|part| is_at(part)).count()
}

/// Some of what each table has of the object, as it stands there.
fn needles(device: &mut Device, blob: &BlobId) -> Needles {
    let blob = *blob;
    device
        .writer
        .transact(|tx, _| {
            let some = |sql: &str| -> Vec<Vec<u8>> {
                let mut statement = tx.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
                let mut some: Vec<Vec<u8>> = rows.map(|row| row.unwrap()).collect();
                for bytes in &mut some {
                    bytes.truncate(40);
                }
                some
            };
            let object = OBJECT.to_string();
            let of_blob = blob.to_string();
            let document = format!("(SELECT document FROM documents WHERE object = x'{object}')");
            let mut needles = Needles::new();
            needles.insert("value", vec![b"zqsecretword".to_vec()]);
            // A word's beginning is left out where the one before it has the same.
            needles.insert("word", vec![b"secretword".to_vec()]);
            let sql = format!("SELECT sealed FROM sections WHERE object = x'{object}'");
            needles.insert("sealed", some(&sql));
            let sql = format!("SELECT bytes FROM histories WHERE document = {document}");
            needles.insert("history", some(&sql));
            let sql = format!(
                "SELECT sealed FROM chunk_bytes WHERE chunk IN (SELECT chunk FROM blob_chunks
                     JOIN blobs USING (blob) WHERE id = x'{of_blob}')"
            );
            needles.insert("chunk", some(&sql));
            let sql = format!(
                "SELECT s.sealed FROM blobs b JOIN sections s USING (log, seq)
                 WHERE b.id = x'{of_blob}'"
            );
            needles.insert("manifest", some(&sql));
            let sql = format!(
                "SELECT key FROM blob_chunks JOIN blobs USING (blob) WHERE id = x'{of_blob}'"
            );
            needles.insert("key", some(&sql));
            needles.insert("name", vec![b"zqname.png".to_vec()]);
            let vector: Vec<u8> = VECTOR.iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
            needles.insert("vector", vec![vector]);
            Ok(needles)
        })
        .unwrap()
}

const VECTOR: [f32; 8] = [0.125, -3.5, 7.75, 1.5, -0.625, 9.0, 2.25, -4.125];

pub(crate) fn profile(dir: &Path, seed: u64) -> Profile {
    let env = Arc::new(World(AtomicU64::new(seed << 40)));
    let options = ProfileOptions { label: Some(format!("{seed}")), ..ProfileOptions::default() };
    Profile::create(env, dir, &Unlock::Key(Secret::new([7; 32])), options).unwrap()
}

/// Documents before, beside and behind the one that is to go, so that its rows stand among others,
/// and are moved about between pages.
fn crowd(device: &mut Device, round: u8) {
    let id = |n: u8| {
        let mut id = [n; 16];
        id[1] = round;
        ObjectId::new(id)
    };
    let (mut puts, mut deletions) = (UnitOfWork::new(), UnitOfWork::new());
    for n in 10..40_u8 {
        let words: Vec<_> = (0..u32::from(n) * 8).map(|w| format!("word{w} of{round}")).collect();
        puts.put("notes", id(n), &json!({"title": n, "body": words.join(" ")})).unwrap();
        if n % 3 == 0 {
            deletions.delete(id(n));
        }
    }
    for unit in [puts, deletions] {
        device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }
    index(device);
}

/// A founder and whom it let in, a device in each directory, that have synced.
pub(crate) fn synced(dirs: &[tempfile::TempDir]) -> Vec<Device> {
    let mut profiles = (1..).zip(dirs).map(|(seed, dir)| profile(dir.path(), seed));
    let mut devices = vec![Device::found_by(profiles.next().unwrap())];
    for profile in profiles {
        let other = devices[0].invite_as(profile);
        devices.push(other);
    }
    sync(&mut devices);
    devices
}

pub(crate) fn index(device: &mut Device) {
    while device.writer.index(64).unwrap() > 0 {}
    while device.writer.embed(64).unwrap() > 0 {}
}

fn write_of(device: &mut Device, text: &str, blob: Option<&BlobId>, n: u32) {
    let mut unit = UnitOfWork::new();
    let mut value = json!({"title": "Zqcanary", "n": n, "body": text});
    if let Some(blob) = blob {
        value["photo"] = json!({"$blob": blob.to_string()});
    }
    unit.put("notes", OBJECT, &value).unwrap();
    unit.vector(OBJECT, VECTOR.to_vec());
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
}

#[test]
fn nothing_of_what_was_erased_is_found_beneath() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = synced(&dirs);
    crowd(&mut devices[0], 0);
    let blob = add_blob(&mut devices[0], b"zqpicture of somebody");
    let text = "zqsecretword and more of it\n".repeat(30);
    write_of(&mut devices[0], &text, Some(&blob), 0);
    crowd(&mut devices[0], 1);
    sync(&mut devices);
    for n in 1..8 {
        let at = usize::try_from(n % 2).unwrap();
        let text = format!("{text}zqsecretword {n}\n");
        write_of(&mut devices[at], &text, Some(&blob), n);
        crowd(&mut devices[at], 2 + u8::try_from(n).unwrap());
        sync(&mut devices);
    }
    // An edit that is not sent before the object is erased elsewhere.
    write_of(&mut devices[2], "zqsecretword unsent", None, 99);
    let mut wanted = Vec::new();
    for (device, dir) in devices.iter_mut().zip(&dirs) {
        crowd(device, 50);
        index(device);
        let needles = needles(device, &blob);
        let image = image(dir.path(), device);
        for (what, all) in &needles {
            // Chunks were not asked for by the others.
            assert!(!all.is_empty() || *what == "chunk", "{what}: nothing to look for");
            let found = all.iter().filter(|needle| count(&image, needle) > 0).count();
            assert_eq!(found, all.len(), "{what}: the control is not found");
        }
        wanted.push(needles);
    }
    devices[0].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    finish(&mut devices);
    let mut left = Vec::new();
    for (device, dir) in devices.iter().zip(&dirs) {
        let image = image(dir.path(), device);
        for (what, all) in wanted.iter().flatten() {
            let found = all.iter().map(|needle| count(&image, needle)).sum::<usize>();
            left.extend((found > 0).then(|| format!("{what} {found} times in {:?}", dir.path())));
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}

/// The power fails after the act has had its effect and before the disk was seen to: the canary is
/// there still. It goes as soon as the space is opened again and there is time.
#[test]
fn what_a_cut_left_on_the_disk_goes_when_the_space_is_opened_again() {
    for cut in [Step::Erasing, Step::ErasedFromDisk] {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut device = Device::found_by(profile(dir.path(), 1));
        write_of(&mut device, &"zqsecretword\n".repeat(40), None, 1);
        crowd(&mut device, 0);
        let needle = b"zqsecretword";
        assert!(count(&image(dir.path(), &device), needle) > 0);
        let fails = move |step| {
            if step == cut { Err(std::io::Error::other("no power")) } else { Ok(()) }
        };
        let done = crate::steps::hooked(fails, move || {
            let erased = device.writer.erase(OBJECT).is_ok();
            let reported = device.writer.finish_erasures().is_ok_and(|done| done);
            (device, erased, reported)
        });
        let (device, erased, reported) = done;
        assert!(!reported || !erased, "{cut:?}");
        assert_eq!(erased, cut != Step::Erasing);
        crate::durability_tests::copy(dir.path(), left.path());
        drop(device);
        let env = Arc::new(World(AtomicU64::new(9 << 40)));
        let unlock = Unlock::Key(Secret::new([7; 32]));
        let options = ProfileOptions::default();
        let profile =
            Profile::open(env, left.path(), &unlock, crate::Access::ReadWrite, options).unwrap();
        let name = "shared:test".parse().unwrap();
        let (space, writer) = profile.open_space(&name).unwrap();
        let mut device = Device { profile, space, writer: writer.unwrap() };
        if !erased {
            assert!(device.space.document(&OBJECT).unwrap().is_some(), "nothing half-done");
            device.writer.erase(OBJECT).unwrap();
        }
        assert!(device.writer.wants_erasing());
        assert!(device.writer.finish_erasures().unwrap());
        assert_eq!(count(&image(left.path(), &device), needle), 0, "{cut:?}");
        assert_eq!(count(&image(left.path(), &device), b"secretword"), 0, "{cut:?}");
    }
}

/// Somebody reads the space as it was before, for a long time.
#[test]
fn nothing_is_reported_while_somebody_reads_from_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found_by(profile(dir.path(), 1));
    write_of(&mut device, "zqsecretword", None, 1);
    index(&mut device);
    let reader = device.space.shared.pool.reader().unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let seen = documents::find(&reader, &OBJECT).unwrap().unwrap();
    device.writer.erase(OBJECT).unwrap();
    assert!(!device.writer.finish_erasures().unwrap() && device.writer.wants_erasing());
    assert!(count(&image(dir.path(), &device), b"zqsecretword") > 0, "the control is not found");
    assert!(!device.space.erasures().unwrap()[0].is_done());
    // What it reads is as it was, and others write meanwhile.
    crowd(&mut device, 0);
    assert_eq!(documents::find(&reader, &OBJECT).unwrap().unwrap(), seen);
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    assert!(device.writer.finish_erasures().unwrap());
    assert_eq!(count(&image(dir.path(), &device), b"zqsecretword"), 0);
    assert!(device.space.erasures().unwrap()[0].is_done());
}

/// Someone who may only read held an edit that did not open there, of an object that was erased,
/// and said to have nothing of it any more. Once the edit opened it went from its table, but not
/// from the disk, and the word stood.
#[test]
fn what_opens_only_after_the_report_goes_from_the_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(1);
    let (mut b, mut c) = (a.invite(2), a.invite_as(profile(dir.path(), 3)));
    let tablet = c.space.device();
    a.writer.change_role(tablet, Role::Reader, Band::Green).unwrap();
    write_of(&mut a, "zqfirst", None, 1);
    b.pull(&a);
    write_of(&mut b, "zqsecretword", None, 2);
    c.pull(&b);
    let author = b.space.device();
    let needle = c
        .writer
        .transact(|tx, _| {
            let log = logs::find(tx, &author)?.unwrap();
            let all = sections::of_object(tx, &OBJECT)?.into_iter();
            let [section] = &all.filter(|s| s.place.log == log.log).collect::<Vec<_>>()[..] else {
                panic!()
            };
            let sql = "UPDATE sections SET state = 1, kind = NULL, object = NULL
                       WHERE section = ?1";
            tx.execute(sql, [section.section]).unwrap();
            let larder_log::Payload::Sealed(sealed) = sections::payload(tx, section.place)? else {
                panic!()
            };
            Ok(sealed[..40].to_vec())
        })
        .unwrap();
    // Who erases has not heard of that edit.
    a.writer.erase(OBJECT).unwrap();
    c.pull(&a);
    let is_done = |device: &Device| {
        let own = device.space.device();
        let info = device.space.erasures().unwrap().remove(0);
        info.devices.iter().any(|by| by.device == own && by.stage == ErasureStage::Done)
    };
    assert!(c.writer.finish_erasures().unwrap() && is_done(&c));
    assert!(count(&image(dir.path(), &c), &needle) > 0, "the control is not found");
    c.writer.transact(|tx, state| state.retry_all(tx)).unwrap();
    assert!(count(&image(dir.path(), &c), &needle) > 0, "the control is not found");
    assert!(c.writer.wants_erasing() && !is_done(&c));
    assert!(c.writer.finish_erasures().unwrap() && is_done(&c));
    assert_eq!(count(&image(dir.path(), &c), &needle), 0);
}

/// A laptop's disk had gone bad, and the file of its space was set aside with a letter in it. The
/// letter is erased: as long as that file is kept, the laptop does not say that it has nothing of
/// it. A purge takes the file.
#[test]
fn what_a_file_that_was_set_aside_has_is_not_said_to_be_gone_before_a_purge() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = synced(&dirs);
    write_of(&mut devices[0], &"zqsecretword\n".repeat(40), None, 1);
    sync(&mut devices);
    let (b, a) = (devices.pop().unwrap(), devices.pop().unwrap());
    let (laptop, (file, key)) = (a.space.device(), beneath(&a));
    close(a);
    let path = dirs[0].path().join(&file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..PAGE].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let damaged = open(dirs[0].path(), 3);
    let aside = damaged.set_aside(&"shared:test".parse().unwrap()).unwrap().file.unwrap();
    devices = vec![opened(damaged), b];
    let in_it = |aside: &str| {
        let (image, damaged) = readable_image_of(dirs[0].path(), aside, &key);
        assert_eq!(damaged, 1);
        count(&image, b"zqsecretword")
    };
    assert!(in_it(&aside) > 0, "the control is not found");

    // It learns back from the phone what it had signed, and then the phone erases the letter.
    let phone = devices[1].profile.transport_id();
    let Answer::Reply(Reply::Frontiers { logs, forks, .. }) =
        devices[1].space.answer(&phone, Request::ReadFrontiers)
    else {
        panic!()
    };
    devices[0].space.answer(&phone, Request::CheckFrontiers { logs, forks });
    sync(&mut devices);
    devices[1].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    let has_nothing = |device: &Device, dir: &Path| {
        let image = image(dir, device);
        ["zqsecretword", "secretword"].iter().all(|word| count(&image, word.as_bytes()) == 0)
    };
    let of_laptop = |device: &Device| {
        let [info] = &device.space.erasures().unwrap()[..] else { panic!() };
        info.devices.iter().find(|by| by.device == laptop).unwrap().stage
    };
    assert!(devices[1].writer.finish_erasures().unwrap());
    assert!(!devices[0].writer.finish_erasures().unwrap() && devices[0].writer.wants_erasing());
    sync(&mut devices);
    assert!(in_it(&aside) > 0, "the control is gone by itself");
    for device in &devices {
        assert_eq!(of_laptop(device), ErasureStage::Heard);
    }

    let (b, a) = (devices.pop().unwrap(), devices.pop().unwrap());
    close(a);
    let (env, unlock) = world(4);
    Profile::purge(env, dirs[0].path(), &unlock, None, &mut |_| {}).unwrap();
    assert!(!dirs[0].path().join(&aside).exists());
    devices = vec![opened(open(dirs[0].path(), 5)), b];
    assert!(devices[0].writer.wants_erasing());
    finish(&mut devices);
    for (device, dir) in devices.iter().zip(&dirs) {
        assert!(has_nothing(device, dir.path()));
        assert_eq!(of_laptop(device), ErasureStage::Done);
    }
}

/// The same of the file that a copy of a profile had before it got keys of its own.
#[test]
fn what_the_old_file_of_a_renewed_profile_has_is_not_said_to_be_gone_before_a_purge() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found_by(profile(dir.path(), 1));
    write_of(&mut device, &"zqsecretword\n".repeat(40), None, 1);
    let (file, key) = beneath(&device);
    close(device);
    let name = "shared:test".parse().unwrap();
    let renew = |(env, unlock): (Arc<World>, Unlock)| Profile::renew(env, dir.path(), &unlock);
    renew(world(2)).unwrap();
    let (env, unlock) = world(3);
    Profile::go_on_alone(env, dir.path(), &unlock, &name).unwrap();
    let mut device = opened(open(dir.path(), 4));
    assert!(device.writer.carry_over().unwrap().unwrap().is_done);
    let (now, _) = beneath(&device);
    let aside = |path: std::path::PathBuf| {
        let path = path.strip_prefix(dir.path()).unwrap().to_str().unwrap().replace('\\', "/");
        (path.starts_with(&file) && path != now && !path.ends_with("-wal")).then_some(path)
    };
    let files = fs::read_dir(dir.path().join(&file).parent().unwrap()).unwrap();
    let files: Vec<_> = files.filter_map(|entry| aside(entry.unwrap().path())).collect();
    let [old] = &files[..] else { panic!("{files:?}") };
    device.writer.erase(OBJECT).unwrap();
    assert!(!device.writer.finish_erasures().unwrap() && device.writer.wants_erasing());
    assert!(!device.space.erasures().unwrap()[0].is_done());
    assert!(count(&image_of(dir.path(), old, &key), b"zqsecretword") > 0, "the control is lost");

    close(device);
    let (env, unlock) = world(5);
    Profile::purge(env, dir.path(), &unlock, None, &mut |_| {}).unwrap();
    assert!(!dir.path().join(old).exists());
    let mut device = opened(open(dir.path(), 6));
    assert!(device.writer.finish_erasures().unwrap());
    assert!(device.space.erasures().unwrap()[0].is_done());
    assert_eq!(count(&image(dir.path(), &device), b"zqsecretword"), 0);
}

/// The file of a device's space, and what opens it.
fn beneath(device: &Device) -> (String, Secret<32>) {
    let home = device.space.shared.home();
    let (file, key) = home.beneath();
    (file.to_owned(), Secret::new(*key.expose()))
}

fn world(seed: u64) -> (Arc<World>, Unlock) {
    (Arc::new(World(AtomicU64::new(seed << 40))), Unlock::Key(Secret::new([7; 32])))
}

fn open(dir: &Path, seed: u64) -> Profile {
    let (env, unlock) = world(seed);
    let options = ProfileOptions::default();
    Profile::open(env, dir, &unlock, crate::Access::ReadWrite, options).unwrap()
}

fn opened(profile: Profile) -> Device {
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    Device { profile, space, writer: writer.unwrap() }
}

fn close(device: Device) {
    let Device { profile, space, mut writer } = device;
    writer.close().unwrap();
    drop(writer);
    space.close().unwrap();
    profile.close().unwrap();
}
