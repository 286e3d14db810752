//! Rot of a space's file, anywhere in it.

use std::fs;
use std::path::PathBuf;

use larder_engine::{Mode, Reason};

use super::blobs::{add, noise, read};
use super::*;

const PAGE: usize = 4096;

fn name() -> larder_types::SpaceName {
    "shared:test".parse().unwrap()
}

fn close(device: Device) {
    let Device { profile, space, mut writer } = device;
    writer.close().unwrap();
    drop(writer);
    space.close().unwrap();
    profile.close().unwrap();
}

fn profile(dir: &Path, seed: u64) -> Profile {
    Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x")).unwrap()
}

fn open(profile: Profile) -> Result<Device> {
    let (space, writer) = profile.open_space(&name())?;
    Ok(Device { profile, space, writer: writer.unwrap() })
}

fn space_file(dir: &Path) -> PathBuf {
    let names = fs::read_dir(dir.join("spaces")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|e| e == "db")).collect();
    files.sort();
    files.remove(0)
}

fn rot(file: &Path, page: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5);
    fs::write(file, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            fs::create_dir(to.join(&name)).unwrap();
            copy(&path, &to.join(&name));
        } else {
            fs::copy(&path, to.join(&name)).unwrap();
        }
    }
}

/// A copy of a device, begun anew after these pages of its space rotted, and how many entries were
/// read all the same; none if the space opens.
fn begin(from: &Path, rotten: &[usize]) -> Option<(tempfile::TempDir, Device, u64)> {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    for page in rotten {
        rot(&space_file(dir.path()), *page);
    }
    let profile = profile(dir.path(), 10);
    profile.open_space(&name()).err()?;
    let aside = profile.set_aside(&name()).ok()?;
    let device = open(profile).unwrap();
    Some((dir, device, aside.entries))
}

/// What `to` shows of its logs, `from` compares with its own: as a session begins.
fn hear(to: &Device, from: &Device) {
    let Reply::Frontiers { logs, forks, .. } = from.frontiers() else { unreachable!() };
    let peer = from.profile.transport_id();
    let answer = ask(&to.space, &peer, Request::CheckFrontiers { logs, forks });
    assert!(matches!(answer, Reply::Checked { forks } if forks.is_empty()), "a fork");
}

fn is_recovering(device: &Device) -> bool {
    let state = device.space.state().unwrap();
    let of = |reason: &Reason| matches!(reason, Reason::Recovering { .. });
    let is = state.reasons.iter().any(of);
    assert!(!is || state.mode == Mode::ReadOnly);
    is
}

/// A laptop's disk went bad where the space's file begins, and the profile refused to open it: the
/// person had to be invited anew, though the other device had everything.
#[test]
fn a_space_whose_file_cannot_be_read_is_made_anew_from_another_device() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    let mut b = a.invite(two.path(), 2);
    a.put(object(1), &json!({"title": "changed"}));
    b.put(object(2), &json!({"title": "second"}));
    sync(&mut a, &mut b);
    let digest = a.space.digest().unwrap();
    close(a);
    let file = space_file(one.path());
    let whole = fs::read(&file).unwrap();
    rot(&file, 0);
    let rotten = fs::read(&file).unwrap();

    let profile = profile(one.path(), 3);
    let error = profile.open_space(&name()).err().unwrap();
    let aside = profile.set_aside(&name()).unwrap();
    assert_eq!((aside.entries, &aside.why), (0, &error.to_string()));
    let aside = one.path().join(aside.file.unwrap());
    assert!(fs::read(&aside).unwrap() == rotten && rotten != whole, "it is kept as it was");
    assert!(matches!(profile.set_aside(&name()), Err(Error::Invalid(_))), "it can be read");
    let mut a = open(profile).unwrap();
    assert!(is_recovering(&a));
    let refused = {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(3), &json!({"title": "too early"})).unwrap();
        a.commit(unit).unwrap_err()
    };
    assert!(matches!(refused, Error::Recovering { .. } | Error::NotYetEnrolled), "{refused}");

    hear(&a, &b);
    a.pull(&b);
    assert_eq!(a.space.digest().unwrap(), digest);
    assert!(!is_recovering(&a), "{:?}", a.space.state());
    a.put(object(3), &json!({"title": "third"}));
    hear(&b, &a);
    sync(&mut a, &mut b);
    hear(&a, &b);
    // And after the next start.
    close(a);
    let mut a = open(self::profile(one.path(), 4)).unwrap();
    a.put(object(1), &json!({"title": "changed again"}));
    hear(&b, &a);
    sync(&mut a, &mut b);
    assert!(aside.exists());
    assert_eq!(b.space.state().unwrap().mode, Mode::Ready);
}

/// The same with an entry that no other device has: to write another in its place would give the
/// log two histories. The space can be read, and says why it cannot be written.
#[test]
fn what_was_signed_and_nobody_has_is_never_signed_otherwise() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let mut b = a.invite(two.path(), 2);
    b.put(object(2), &json!({"title": "second"}));
    sync(&mut a, &mut b);
    a.put(object(1), &json!({"title": "not sent"}));
    close(a);
    rot(&space_file(one.path()), 0);
    let profile = profile(one.path(), 3);
    profile.set_aside(&name()).unwrap();
    let mut a = open(profile).unwrap();
    hear(&a, &b);
    a.pull(&b);
    assert_eq!(a.value(object(2)), b.value(object(2)));
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(3), &json!({})).unwrap();
    assert!(matches!(a.commit(unit), Err(Error::Recovering { .. })));
    assert!(is_recovering(&a));
}

/// A laptop died while it ran, and its disk went bad. The phone it met first had missed the last
/// days; the tablet, enrolled in those days, had everything. Once the laptop had what the phone had
/// it wrote on, in the place of what the tablet held, and nobody took in anything of it ever again.
#[test]
fn what_left_before_a_crash_is_waited_for_whoever_is_met_first() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    let b = a.invite(dirs[1].path(), 2);
    a.put(object(2), &json!({"title": "second"}));
    let mut c = a.invite(dirs[2].path(), 3);
    a.put(object(1), &json!({"title": "changed"}));
    c.pull(&a);
    a.put(object(3), &json!({"title": "never sent"}));
    // Killed: the file is as it is, and nothing was closed.
    drop(a);
    rot(&space_file(dirs[0].path()), 0);

    let profile = profile(dirs[0].path(), 4);
    profile.set_aside(&name()).unwrap();
    let mut a = open(profile).unwrap();
    hear(&a, &b);
    a.pull(&b);
    assert!(is_recovering(&a), "the phone does not have all that left");
    let mut early = UnitOfWork::new();
    early.put("notes", object(4), &json!({})).unwrap();
    assert!(matches!(a.commit(early), Err(Error::Recovering { .. })));
    hear(&a, &c);
    a.pull(&c);
    assert!(!is_recovering(&a), "{:?}", a.space.state());
    assert_eq!(a.space.digest().unwrap(), c.space.digest().unwrap());
    a.put(object(3), &json!({"title": "third"}));
    hear(&c, &a);
    sync(&mut a, &mut c);
    hear(&a, &c);
    assert_eq!(c.space.state().unwrap().mode, Mode::Ready);
}

/// A backup of the profile was put back that was older than the file of its space, which had got
/// another name by then. The space was begun anew, in the place of that file, and so for one that
/// was on a medium that was not mounted.
#[test]
fn a_file_that_is_not_there_is_not_replaced_unasked() {
    let one = tempfile::tempdir().unwrap();
    let mut a = Device::found(one.path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    close(a);
    let file = space_file(one.path());
    let other = file.with_extension("1.db");
    for moved in [other.clone(), one.path().join("elsewhere")] {
        fs::rename(&file, &moved).unwrap();
        let bytes = fs::read(&moved).unwrap();
        let profile = profile(one.path(), 2);
        assert!(matches!(profile.set_aside(&name()), Err(Error::Invalid(_))));
        if moved == other {
            assert!(matches!(profile.begin_anew(&name()), Err(Error::Invalid(_))));
        }
        profile.close().unwrap();
        assert!(fs::read(&moved).unwrap() == bytes);
        fs::rename(&moved, &file).unwrap();
        close(open(self::profile(one.path(), 3)).unwrap());
    }
    fs::remove_file(&file).unwrap();
    let profile = profile(one.path(), 4);
    let aside = profile.begin_anew(&name()).unwrap();
    assert_eq!((aside.file, aside.entries), (None, 0));
    assert!(is_recovering(&open(profile).unwrap()));
}

/// A file was set aside, and the one that was made in its place went bad before any other device
/// was met: what only the first had was out of reach.
#[test]
fn a_second_file_set_aside_does_not_hide_the_first() {
    let one = tempfile::tempdir().unwrap();
    let mut a = Device::found(one.path(), 1);
    (1..=4).for_each(|n| drop(a.put(object(n), &json!({"n": n}))));
    let all = a.space.digest().unwrap();
    close(a);
    let file = space_file(one.path());
    let whole = fs::read(&file).unwrap();
    let profile = profile(one.path(), 2);
    rot(&file, 0);
    profile.set_aside(&name()).unwrap();
    let mut first = file.clone().into_os_string();
    first.push(".set-aside-1");
    // What could not be read at first can be by now, say on another disk.
    fs::write(first, whole).unwrap();
    rot(&space_file(one.path()), 0);
    profile.set_aside(&name()).unwrap();
    let mut a = open(profile).unwrap();
    assert!(!is_recovering(&a), "{:?}", a.space.state());
    assert_eq!(a.space.digest().unwrap(), all);
    a.put(object(5), &json!({}));
}

/// A passphrase had been seen by somebody, and the profile was purged. A file that had been set
/// aside months before stayed, with the key that opens it.
#[test]
fn a_purge_takes_files_along_that_were_set_aside() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    let b = a.invite(two.path(), 2);
    close(a);
    let file = space_file(one.path());
    let whole = fs::read(&file).unwrap();
    rot(&file, 0);
    let profile = profile(one.path(), 3);
    let aside = one.path().join(profile.set_aside(&name()).unwrap().file.unwrap());
    profile.close().unwrap();
    let purge = || Profile::purge(world(4), one.path(), &unlock(), None, &mut |_| {});
    let refused = purge().unwrap_err();
    assert!(matches!(&refused, Error::Invalid(why) if why.contains("sync")), "{refused}");
    assert!(aside.exists(), "it may hold what nobody else has");

    let mut a = open(self::profile(one.path(), 5)).unwrap();
    hear(&a, &b);
    a.pull(&b);
    assert!(!is_recovering(&a));
    let digest = a.space.digest().unwrap();
    close(a);
    purge().unwrap();
    assert!(!aside.exists());
    let a = open(self::profile(one.path(), 6)).unwrap();
    assert_eq!(a.space.digest().unwrap(), digest);
    close(a);
    // A copy of it that was made before.
    fs::write(&aside, whole).unwrap();
    rot(&space_file(one.path()), 0);
    let profile = self::profile(one.path(), 7);
    assert_eq!(profile.set_aside(&name()).unwrap().entries, 0, "no key opens it");
}

/// A page rotted that held a part of one long letter, besides those that kept the file from being
/// opened. Nothing was read behind that letter: what had not been sent was given up.
#[test]
fn bytes_that_cannot_be_read_hold_up_nothing_behind_them() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let letter: String = noise(1, 20_000).iter().map(|byte| char::from(b' ' + byte % 90)).collect();
    a.put(object(1), &json!({ "letter": letter }));
    let b = a.invite(two.path(), 2);
    let photo = noise(2, 30_000);
    let (info, _) = add(&mut a, &photo, "cat.jpg");
    let id = info.id.to_string();
    a.put(object(2), &json!({"title": "not sent", "photo": {"$blob": id, "alt": "A cat"}}));
    let all = a.space.digest().unwrap();
    let held = a.have().into_values().sum::<u64>();
    close(a);
    let pages = fs::read(space_file(one.path())).unwrap().len() / PAGE;
    let closing =
        (0..pages).find(|page| begin(one.path(), &[*page]).is_some_and(|(_, _, n)| n == held));
    let closing = closing.expect("a page without which it does not open, and all can be read");
    let (_dir, device, _) = begin(one.path(), &[closing]).unwrap();
    assert_eq!(read(&device, &info.id), photo, "chunks come along");
    let mut lacking = 0;
    for page in (0..pages).filter(|page| *page != closing) {
        let Some((_dir, mut device, entries)) = begin(one.path(), &[closing, page]) else {
            continue;
        };
        let state = device.space.state().unwrap();
        let lacks = state.reasons.iter().any(|one| matches!(one, Reason::BytesMissing { .. }));
        if lacks && entries == held {
            device.fill(&b);
            assert_eq!(device.space.digest().unwrap(), all, "page {page}");
            lacking += 1;
        }
    }
    assert!(lacking >= 4, "{lacking} pages of the letter's five");
}

/// A laptop was copied, and the copy wrote in its name. When the laptop's file could not be read
/// any more, but for where its log ended, it got the copy's entries back for its own, noticed that
/// they were others, and had forgotten that after a restart.
#[test]
fn another_history_than_the_lost_files_is_not_written_on_after_a_restart_either() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    let mut b = a.invite(dirs[1].path(), 2);
    close(a);
    copy(dirs[0].path(), dirs[2].path());
    let mut twin = open(profile(dirs[2].path(), 3)).unwrap();
    twin.put(object(2), &json!({"title": "of the copy"}));
    b.pull(&twin);
    let mut a = open(profile(dirs[0].path(), 4)).unwrap();
    a.put(object(3), &json!({"title": "of the laptop"}));
    let held = a.space.receipts(None, 99).unwrap().len() as u64 - 1;
    drop(a);
    let pages = fs::read(space_file(dirs[0].path())).unwrap().len() / PAGE;
    let closing =
        (0..pages).find(|page| begin(dirs[0].path(), &[*page]).is_some_and(|(_, _, n)| n > held));
    let closing = closing.expect("a page without which it does not open, and all can be read");
    let mut others = 0;
    for page in (0..pages).filter(|page| *page != closing) {
        let Some((dir, mut a, entries)) = begin(dirs[0].path(), &[closing, page]) else { continue };
        if entries > held {
            continue;
        }
        hear(&a, &b);
        a.pull(&b);
        if !a.space.state().unwrap().reasons.contains(&Reason::OtherHistory) {
            continue;
        }
        close(a);
        let mut a = open(profile(dir.path(), 11)).unwrap();
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(4), &json!({})).unwrap();
        assert!(matches!(a.commit(unit), Err(Error::OtherHistory)), "page {page}");
        others += 1;
    }
    assert!(others > 0);
}

/// A device that only ever read had nothing to learn back, and stayed read-only for ever.
#[test]
fn a_device_that_never_wrote_has_nothing_to_wait_for() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    a.put(object(1), &json!({"title": "first"}));
    let b = a.invite(two.path(), 2);
    close(b);
    rot(&space_file(two.path()), 0);
    let profile = profile(two.path(), 3);
    profile.set_aside(&name()).unwrap();
    let mut b = open(profile).unwrap();
    hear(&b, &a);
    b.pull(&a);
    assert!(!is_recovering(&b), "{:?}", b.space.state());
    b.put(object(2), &json!({"title": "second"}));
    hear(&a, &b);
    sync(&mut a, &mut b);
}

/// Rot in each page of the file by itself. Wherever it is, the space opens, or is made anew from
/// what can be read of it and from the other device; what is written then gives no second history,
/// and where the log can be read nothing is lost that was not sent.
#[test]
fn wherever_rot_is_the_space_comes_back_and_its_log_does_not_fork() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    for n in 1..=4 {
        a.put(object(n), &json!({"title": "first", "n": n}));
    }
    let mut b = a.invite(two.path(), 2);
    b.put(object(2), &json!({"title": "second"}));
    sync(&mut a, &mut b);
    a.put(object(1), &json!({"title": "not sent"}));
    a.put(object(9), &json!({"title": "not sent"}));
    let all = a.space.digest().unwrap();
    close(a);
    close(b);
    let pages = fs::read(space_file(one.path())).unwrap().len() / PAGE;
    let (mut anew, mut whole, mut waiting) = (0, 0, 0);
    for page in 0..pages {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        copy(one.path(), dirs[0].path());
        copy(two.path(), dirs[1].path());
        rot(&space_file(dirs[0].path()), page);
        let profile = profile(dirs[0].path(), 10);
        let Err(error) = profile.open_space(&name()) else { continue };
        let aside = profile.set_aside(&name());
        let aside = aside.unwrap_or_else(|e| panic!("page {page}: {e}, after {error}"));
        anew += 1;
        let mut a = open(profile).unwrap();
        let mut b = open(self::profile(dirs[1].path(), 11)).unwrap();
        hear(&a, &b);
        a.pull(&b);
        a.writer.salvage().unwrap();
        if is_recovering(&a) {
            waiting += 1;
            continue;
        }
        assert!(aside.entries > 0);
        whole += 1;
        assert_eq!(a.space.digest().unwrap(), all, "page {page}");
        a.put(object(3), &json!({"title": "after"}));
        hear(&b, &a);
        sync(&mut a, &mut b);
        hear(&a, &b);
    }
    println!("{pages} pages: {anew} times made anew, {whole} whole, {waiting} read-only");
    assert!(anew > 2 && whole > 0, "{anew} {whole} {waiting}");
}

/// Most of a file is photos, and so is most of what rots. Where their pages cannot be read a check
/// says which blob it is, and goes on.
#[test]
fn rot_in_a_photo_is_said_to_be_there_and_ends_no_check() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let (blob, chunks) = add(&mut a, &noise(1, 2 << 20), "photo");
    a.put(object(1), &json!({"photo": {"$blob": blob.id.to_string()}}));
    close(a);
    let file = space_file(dir.path());
    let pages = fs::read(&file).unwrap().len() / PAGE;
    rot(&file, pages * 3 / 4);
    let mut a = open(profile(dir.path(), 2)).unwrap();
    for repair in [false, true] {
        let mut checking = larder_engine::Checking::new(repair);
        while !a.writer.check_step(&mut checking).unwrap() {}
        let report = checking.into_report();
        let of_blob = |finding: &&larder_engine::Finding| {
            finding.part == larder_engine::CheckedPart::Blob
                && finding.what.contains(&blob.id.to_string())
        };
        let found: Vec<_> = report.findings.iter().filter(of_blob).collect();
        assert_eq!(found.len(), 1, "{report:?}");
        assert_eq!(found[0].outcome, larder_engine::Outcome::Lost);
        assert_eq!(report.chunks, chunks as u64);
        assert!(!report.is_whole());
    }
    assert_eq!(a.value(object(1)), json!({"photo": {"$blob": blob.id.to_string()}}));
}

/// The key that an epoch came under goes once all devices have gone on to another. A file whose
/// tables could be read no more was set aside; its entries were taken over, and nobody opened what
/// they said since: the epoch's secret stood in that file alone.
#[test]
fn what_no_other_device_has_opens_again_though_the_keys_of_its_time_are_gone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut laptop = Device::found(one.path(), 1);
    let mut phone = laptop.invite(two.path(), 2);
    for n in 0..4 {
        laptop.put(object(n), &json!({"title": "laptop"}));
        phone.put(object(n + 10), &json!({"title": "phone"}));
        super::prune::settle(&mut [&mut laptop, &mut phone]);
    }
    // The phone is never seen again.
    laptop.put(object(30), &json!({"title": "since"}));
    let entries = laptop.space.status().unwrap().entries;
    close(laptop);
    let pages = fs::metadata(space_file(one.path())).unwrap().len() / PAGE as u64;
    let (mut whole, mut opened) = (0, 0);
    for page in 1..usize::try_from(pages).unwrap() {
        let Some((_dir, device, held)) = begin(one.path(), &[page]) else { continue };
        if held == entries {
            whole += 1;
            opened += u32::from(device.space.document(&object(30)).unwrap().is_some());
        }
    }
    // But where it is the page with its own bytes, with the secret, or with the act of its epoch.
    assert!(opened > 5 && opened + 3 >= whole, "{opened} of {whole} files of {pages} pages");
}

/// The disk of a laptop went bad under a BLACK diary, which nobody else has. Set aside and made
/// anew it stayed read-only for ever, waiting for entries that no device can send: it goes on with
/// what can be read, whichever page is rotten, and says what is in the old file alone.
#[test]
fn a_space_that_stays_here_goes_on_with_what_can_be_read() {
    let diary: larder_types::SpaceName = "black:diary".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let opened = |profile: Profile| -> Result<Device> {
        let (space, writer) = profile.open_space(&diary)?;
        Ok(Device { profile, space, writer: writer.unwrap() })
    };
    let made = Profile::create(world(1), dir.path(), &unlock(), options("x")).unwrap();
    let (space, writer) = made.create_space(&diary).unwrap();
    let mut whole = Device { profile: made, space, writer };
    let value = |n: u8| json!({"title": format!("day {n}"), "body": "z".repeat(700)});
    for n in 1..=80 {
        whole.put(object(n), &value(n));
    }
    let id = whole.space.id();
    close(whole);
    let pages = fs::read(space_file(dir.path())).unwrap().len() / PAGE;
    let (mut aside, mut partly, mut empty) = (0, 0, 0);
    let mut sets: Vec<Vec<usize>> = (0..pages).step_by(3).map(|page| vec![page]).collect();
    let mut pairs = Some((0..pages).step_by(7));
    while let Some(page) = sets.pop() {
        let tried = tempfile::tempdir().unwrap();
        copy(dir.path(), tried.path());
        for one in &page {
            rot(&space_file(tried.path()), *one);
        }
        let found = profile(tried.path(), 10);
        if found.open_space(&diary).is_ok() {
            found.close().unwrap();
            continue;
        }
        aside += 1;
        let set = found.set_aside(&diary).unwrap();
        assert_eq!(found.space_names().unwrap()[..], *std::slice::from_ref(&diary));
        let mut here = opened(found).unwrap();
        let state = here.space.state().unwrap();
        assert_ne!(state.mode, Mode::ReadOnly, "page {page:?}: {state:?}");
        let mut shown = 0;
        for n in 1..=80 {
            if let Some(document) = here.space.document(&object(n)).unwrap() {
                assert_eq!(serde_json::Value::Object(document.value), value(n), "page {page:?}");
                shown += 1;
            }
        }
        // With one that keeps it from being opened and nothing else, another one besides.
        if shown == 80
            && let Some(others) = pairs.take()
        {
            sets.extend(others.map(|other| vec![page[0], other]));
        }
        if shown == 0 {
            empty += 1;
            assert_ne!(here.space.id(), id, "page {page:?}: it is another one");
        } else if shown < 80 {
            partly += 1;
        }
        if shown < 80 {
            let left = here.space.carried().unwrap().unwrap().left;
            assert_eq!(Some(&left[0].file), set.file.as_ref(), "page {page:?}");
        }
        here.put(object(100), &value(100));
        close(here);
        // And after the next start.
        let mut here = opened(profile(tried.path(), 11)).unwrap();
        here.put(object(101), &value(101));
        assert!(here.space.document(&object(100)).unwrap().is_some(), "page {page:?}");
        let mut checking = larder_engine::Checking::new(false);
        while !here.writer.check_step(&mut checking).unwrap() {}
        let findings = checking.into_report().findings;
        assert!(findings.is_empty(), "page {page:?}: {findings:?}");
        close(here);
        let purged = |leave: bool| {
            let opened = opened(profile(tried.path(), 12)).unwrap();
            let mut opened = opened;
            if leave {
                opened.writer.leave_behind().unwrap();
            }
            close(opened);
            Profile::purge(world(13), tried.path(), &unlock(), None, &mut |_| ())
        };
        if shown < 80 {
            assert!(
                matches!(purged(false), Err(Error::Invalid(_))),
                "page {page:?}: it is there alone"
            );
        }
        purged(true).unwrap();
        assert!(!tried.path().join(set.file.unwrap()).exists(), "page {page:?}");
    }
    assert!(
        aside > 0 && empty > 0 && partly > 0,
        "{aside} set aside, {partly} in part, {empty} empty"
    );
}
