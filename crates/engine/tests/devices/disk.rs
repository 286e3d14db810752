//! Whole profiles on a disk in memory, whose power fails during any call.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use larder_engine::{Argon2Params, Checking, Files, Reason, Rekey};
use larder_pages::testing::{Disk, Loss, Operation, Outcome, Snapshot};

use super::*;

pub(super) const HOME: &str = "/home/someone/larder";

/// The world of [`super::World`] with a disk of its own.
struct OnDisk {
    disk: Disk,
    clock: AtomicU64,
    seed: AtomicU64,
}

impl Environment for OnDisk {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.clock.fetch_add(1, Ordering::Relaxed))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Counter(self.seed.fetch_add(1 << 20, Ordering::Relaxed)))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.disk.clone())
    }
}

pub(super) fn on(disk: &Disk, seed: u64) -> Arc<dyn Environment> {
    let (clock, seed) = (AtomicU64::new(0), AtomicU64::new(seed << 40));
    Arc::new(OnDisk { disk: disk.clone(), clock, seed })
}

fn other_unlock() -> Unlock {
    Unlock::Key(Secret::new([8; 32]))
}

fn create(disk: &Disk, seed: u64) -> Result<Profile> {
    Profile::create(on(disk, seed), HOME.as_ref(), &unlock(), options("on disk"))
}

fn found(disk: &Disk, seed: u64) -> Device {
    let profile = create(disk, seed).unwrap();
    let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
    Device { profile, space, writer }
}

fn open_profile(disk: &Disk, unlock: &Unlock) -> Result<Profile> {
    let (env, options) = (on(disk, disk.calls()), ProfileOptions::default());
    Profile::open(env, HOME.as_ref(), unlock, Access::ReadWrite, options)
}

pub(super) fn open(disk: &Disk, unlock: &Unlock) -> Result<Device> {
    let profile = open_profile(disk, unlock)?;
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap())?;
    Ok(Device { profile, space, writer: writer.unwrap() })
}

impl Device {
    pub(super) fn close(mut self) -> Result<()> {
        let closed = self.writer.close();
        drop(self.writer);
        closed.and(self.space.close()).and(self.profile.close())
    }

    fn renew_key(&mut self) -> Result<()> {
        self.writer.wish_rekey()?;
        while !matches!(self.writer.rekey_step()?, Rekey::Done { .. }) {}
        Ok(())
    }

    pub(super) fn holds(&self, numbers: impl IntoIterator<Item = u8>) {
        for n in numbers {
            assert_eq!(self.value(object(n)), json!({ "n": n }));
        }
    }
}

fn put(device: &mut Device, n: u8) -> Result<Receipt> {
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(n), &json!({ "n": n }))?;
    device.commit(unit)
}

#[test]
fn nothing_of_a_profile_is_anywhere_but_on_its_disk() {
    let disks = [Disk::new().unwrap(), Disk::new().unwrap()];
    let mut first = found(&disks[0], 1);
    put(&mut first, 1).unwrap();
    let env = on(&disks[1], 2);
    let mut second = first.invite_in(HOME.as_ref(), env);
    put(&mut second, 2).unwrap();
    sync(&mut first, &mut second);
    first.renew_key().unwrap();
    put(&mut first, 3).unwrap();
    sync(&mut first, &mut second);
    first.close().unwrap();
    let env = on(&disks[0], 3);
    Profile::purge(env, HOME.as_ref(), &unlock(), Some(&other_unlock()), &mut |_| {}).unwrap();
    let again = open(&disks[0], &unlock());
    assert!(matches!(again, Err(Error::WrongPassphrase)), "{:?}", again.err());
    let mut first = open(&disks[0], &other_unlock()).unwrap();
    let locked = open(&disks[0], &other_unlock());
    assert!(matches!(locked, Err(Error::InUse(_))), "{:?}", locked.err());
    first.holds(1..=3);
    assert!(first.space.status().unwrap().file_bytes > 4096);
    sync(&mut first, &mut second);
    for (device, disk) in [first, second].into_iter().zip(&disks) {
        device.close().unwrap();
        let paths = disk.paths();
        assert!(paths.len() == 4 && paths.iter().all(|path| path.starts_with(HOME)), "{paths:?}");
    }
    assert!(!Path::new(HOME).exists());
}

// A disk failed once while the write-ahead log was written back, and no longer believed after that:
// no later attempt succeeded until the profile was closed, and the log grew for months meanwhile.
#[test]
fn a_failed_sync_of_the_file_is_told_and_gets_over_by_itself() {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    put(&mut device, 1).unwrap();
    let is_not_written_back = |device: &Device| {
        let reasons = device.space.state().unwrap().reasons;
        reasons.iter().any(|reason| matches!(reason, Reason::NotWrittenBack { .. }))
    };
    // Of SQLite: SQLITE_IOERR_FSYNC.
    disk.on_call(|call| {
        let is_main = call.path.extension().is_some_and(|end| end == "db");
        let fails = call.operation == Operation::Sync && is_main;
        if fails { Outcome::Forget(1034) } else { Outcome::Go }
    });
    assert!(device.writer.write_back(0).is_err());
    assert!(is_not_written_back(&device));
    put(&mut device, 2).unwrap();
    assert!(device.writer.write_back(0).is_err() && is_not_written_back(&device));
    disk.off_call();
    put(&mut device, 3).unwrap();
    device.holds(1..=3);
    device.writer.write_back(0).unwrap();
    assert!(!is_not_written_back(&device));
    put(&mut device, 4).unwrap();
    // Nothing of it depended on what the disk had forgotten.
    disk.crash(Loss::Everything);
    drop(device);
    open(&disk, &unlock()).unwrap().holds(1..=4);
}

/// The power fails during call after call of `work`, which begins on a disk like `before`; then
/// `check` looks at what each kind of loss leaves. It is told what `work` had come to.
pub(super) fn fail_everywhere<T>(
    before: &Snapshot,
    every: usize,
    mut work: impl FnMut(&Disk, &mut T),
    check: impl Fn(&Disk, &T),
) where
    T: Default,
{
    let disk = Disk::new().unwrap();
    disk.restore(before);
    let from = disk.calls();
    work(&disk, &mut T::default());
    let calls = disk.calls() - from;
    assert!(calls > 100, "{calls}");
    for point in (0..calls).step_by(every) {
        disk.restore(before);
        let fatal = disk.calls() + point;
        disk.on_call(move |call| if call.index < fatal { Outcome::Go } else { Outcome::Crash });
        let mut done = T::default();
        work(&disk, &mut done);
        disk.off_call();
        let left = disk.snapshot();
        let losses = [Loss::Everything, Loss::Nothing, Loss::Sectors(point), Loss::Torn(point + 1)];
        for loss in losses {
            disk.restore(&left);
            disk.crash(loss);
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                check(&disk, &done);
            }));
            assert!(checked.is_ok(), "call {point} of {calls}, {loss:?}");
        }
    }
    println!("the power failed at every {every}th of {calls} calls, with 4 losses each");
}

/// The power failed while a space's file was set aside that could not be opened any more. What had
/// been committed last was in its WAL alone, which kept its old name, and was swept.
#[test]
fn a_crash_while_a_file_is_set_aside_loses_nothing_of_it() {
    let name = "shared:test".parse().unwrap();
    let disk = Disk::new().unwrap();
    found(&disk, 1).close().unwrap();
    let mut device = open(&disk, &unlock()).unwrap();
    (1..=3).for_each(|n| drop(put(&mut device, n).unwrap()));
    let files = || {
        let paths = disk.paths().into_iter();
        let of_space = paths.filter(|path| path.parent().unwrap().ends_with("spaces"));
        of_space.map(|path| (path.clone(), disk.bytes(&path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = disk.snapshot();
    drop(device);
    disk.restore(&before);
    disk.crash(Loss::Nothing);
    let file = files().into_keys().next().unwrap();
    disk.damage(&file, 0, &[0xa5; 4096]);
    let (before, kept) = (disk.snapshot(), files().into_values().collect::<Vec<_>>());
    assert!(kept.len() == 2 && kept[1].len() > 4096, "a database and its WAL");
    let mut points = 0;
    for (point, loss) in (0..).flat_map(|n| [(n, Loss::Everything), (n, Loss::Nothing)]) {
        disk.restore(&before);
        let (mut left, is_cut) = (point, Arc::new(AtomicBool::new(false)));
        let cuts = Arc::clone(&is_cut);
        disk.on_call(move |call| {
            use Operation::{Delete, Rename, Sync, SyncDirectory};
            if matches!(call.operation, Delete | Rename | Sync | SyncDirectory) {
                cuts.fetch_or(left == 0, Ordering::Relaxed);
                left = u64::saturating_sub(left, 1);
            }
            if cuts.load(Ordering::Relaxed) { Outcome::Crash } else { Outcome::Go }
        });
        if let Ok(profile) = open_profile(&disk, &unlock()) {
            let _ = profile.set_aside(&name).and_then(|_| profile.close());
        }
        disk.off_call();
        if !is_cut.load(Ordering::Relaxed) {
            break;
        }
        disk.crash(loss);
        let profile = open_profile(&disk, &unlock()).unwrap();
        if profile.open_space(&name).is_err() {
            profile.set_aside(&name).unwrap_or_else(|e| panic!("call {point}, {loss:?}: {e}"));
        }
        profile.close().unwrap();
        drop(open(&disk, &unlock()).unwrap());
        let aside = |(path, bytes): (PathBuf, _)| {
            path.to_str().unwrap().contains("set-aside").then_some(bytes)
        };
        let aside: Vec<_> = files().into_iter().filter_map(aside).collect();
        assert!(aside == kept, "call {point}, {loss:?}: {:?}", disk.paths());
        points += 1;
    }
    assert!(points > 20, "{points}");
}

fn crash_while_creating(every: usize) {
    let empty = Disk::new().unwrap().snapshot();
    let work = |disk: &Disk, made: &mut Option<TransportId>| {
        let Ok(profile) = create(disk, 1) else { return };
        *made = Some(profile.transport_id());
        let _ = profile.close();
    };
    fail_everywhere(&empty, every, work, |disk, made: &Option<TransportId>| {
        let profile = match open_profile(disk, &unlock()) {
            Ok(profile) => profile,
            Err(Error::NotFound(_)) if made.is_none() => create(disk, 2).unwrap(),
            Err(error) => panic!("{error:?}"),
        };
        assert!(made.is_none_or(|made| made == profile.transport_id()));
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        let mut device = Device { profile, space, writer };
        put(&mut device, 1).unwrap();
        disk.crash(Loss::Everything);
        drop(device);
        open(disk, &unlock()).unwrap().holds([1]);
    });
}

/// A space of a few documents, closed.
pub(super) fn used() -> Snapshot {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    (1..=3).for_each(|n| drop(put(&mut device, n).unwrap()));
    device.close().unwrap();
    disk.snapshot()
}

fn crash_while_founding(every: usize) {
    let disk = Disk::new().unwrap();
    create(&disk, 1).unwrap().close().unwrap();
    let work = |disk: &Disk, written: &mut Option<Receipt>| {
        let Ok(profile) = open_profile(disk, &unlock()) else { return };
        let Ok((space, writer)) = profile.create_space(&"shared:test".parse().unwrap()) else {
            return;
        };
        let mut device = Device { profile, space, writer };
        *written = put(&mut device, 1).ok();
        let _ = device.close();
    };
    fail_everywhere(&disk.snapshot(), every, work, |disk, written: &Option<Receipt>| {
        match open(disk, &unlock()) {
            Ok(mut device) => {
                if let Some(receipt) = written {
                    device.holds([1]);
                    let seq = device.space.receipts(None, 9).unwrap().last().unwrap().seq;
                    assert_eq!(
                        device.space.receipt(&device.space.device(), seq).unwrap(),
                        *receipt
                    );
                }
                put(&mut device, 2).unwrap();
            }
            Err(Error::NotFound(_)) if written.is_none() => {
                let profile = open_profile(disk, &unlock()).unwrap();
                profile.create_space(&"shared:test".parse().unwrap()).unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    });
}

fn crash_while_passphrase_changes(every: usize) {
    let passphrase = |text: &str| Unlock::Passphrase(text.to_owned().into());
    let (old, new) = (passphrase("soup"), passphrase("bread"));
    let disk = Disk::new().unwrap();
    let cost = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };
    let made = ProfileOptions { passphrase_cost: cost, ..options("on disk") };
    let profile = Profile::create(on(&disk, 1), HOME.as_ref(), &old, made).unwrap();
    let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
    let mut device = Device { profile, space, writer };
    put(&mut device, 1).unwrap();
    device.close().unwrap();
    let work = |disk: &Disk, (changed, written): &mut (bool, bool)| {
        let Ok(mut device) = open(disk, &old) else { return };
        *changed = device.profile.change_unlock(&old, &new).is_ok();
        *written = put(&mut device, 2).is_ok();
        let _ = device.close();
    };
    let both = Cell::new([false; 2]);
    fail_everywhere(&disk.snapshot(), every, work, |disk, (changed, written)| {
        let by_new = match open(disk, &new) {
            Err(Error::WrongPassphrase) => None,
            opened => Some(opened.unwrap()),
        };
        assert!(by_new.is_some() || !changed, "what was answered for was lost");
        let is_new = usize::from(by_new.is_some());
        both.set([both.get()[0] || is_new == 0, both.get()[1] || is_new == 1]);
        let device = by_new.unwrap_or_else(|| open(disk, &old).unwrap());
        device.holds(1..=1 + u8::from(*written));
        device.close().unwrap();
        let other = open_profile(disk, [&new, &old][is_new]);
        assert!(matches!(other, Err(Error::WrongPassphrase)), "{:?}", other.err());
    });
    assert_eq!(both.get(), [true; 2], "both were seen");
}

#[test]
fn a_power_cut_leaves_the_old_passphrase_or_the_new() {
    crash_while_passphrase_changes(1);
}

fn crash_while_renewing(every: usize) {
    let work = |disk: &Disk, written: &mut Vec<u8>| {
        let Ok(mut device) = open(disk, &unlock()) else { return };
        let mut next = 10;
        let mut write = |device: &mut Device| {
            if put(device, next).is_ok() {
                written.push(next);
                next += 1;
            }
        };
        if device.writer.wish_rekey().is_err() {
            return;
        }
        loop {
            write(&mut device);
            match device.writer.rekey_step() {
                Ok(Rekey::Copying { .. }) => {}
                Ok(_) => break,
                Err(_) => return,
            }
        }
        write(&mut device);
        let _ = device.close();
    };
    fail_everywhere(&used(), every, work, |disk, written: &Vec<u8>| {
        let mut device = open(disk, &unlock()).unwrap();
        device.holds((1..=3).chain(written.iter().copied()));
        put(&mut device, 200).unwrap();
        device.renew_key().unwrap();
        device.holds((1..=3).chain(written.iter().copied()).chain([200]));
        device.close().unwrap();
        assert_eq!(disk.paths().len(), 4, "{:?}", disk.paths());
    });
}

/// The same with much room in its file.
fn roomy() -> Snapshot {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    for n in 10..=19 {
        device.put(object(n), &room::letter(n.into()));
    }
    for n in 10..=19 {
        let mut unit = UnitOfWork::new();
        unit.delete(object(n));
        device.commit(unit).unwrap();
    }
    (1..=3).for_each(|n| drop(put(&mut device, n).unwrap()));
    device.writer.look_for_room().unwrap();
    assert!(device.writer.wants_shrink());
    device.close().unwrap();
    disk.snapshot()
}

fn crash_while_shrinking(every: usize) {
    let work = |disk: &Disk, written: &mut Vec<u8>| {
        let Ok(mut device) = open(disk, &unlock()) else { return };
        if device.writer.look_for_room().is_err() {
            return;
        }
        let mut next = 20;
        while device.writer.wants_shrink() {
            if device.writer.shrink_step().is_err() {
                return;
            }
            if put(&mut device, next).is_ok() {
                written.push(next);
                next += 1;
            }
        }
        let _ = device.close();
    };
    fail_everywhere(&roomy(), every, work, |disk, written: &Vec<u8>| {
        let mut device = open(disk, &unlock()).unwrap();
        device.holds((1..=3).chain(written.iter().copied()));
        device.writer.look_for_room().unwrap();
        while device.writer.wants_shrink() {
            device.writer.shrink_step().unwrap();
        }
        put(&mut device, 200).unwrap();
        let mut checking = Checking::new(false);
        while !device.writer.check_step(&mut checking).unwrap() {}
        assert_eq!(checking.into_report().findings, []);
        device.close().unwrap();
    });
}

fn crash_while_purging(every: usize) {
    let work = |disk: &Disk, purged: &mut bool| {
        let (env, new) = (on(disk, 5), other_unlock());
        *purged = Profile::purge(env, HOME.as_ref(), &unlock(), Some(&new), &mut |_| {}).is_ok();
    };
    fail_everywhere(&used(), every, work, |disk, purged: &bool| {
        let (old, new) = (open(disk, &unlock()), open(disk, &other_unlock()));
        let mut device = match (old, new) {
            (Ok(device), Err(Error::InUse(_))) if !purged => device,
            (Err(Error::WrongPassphrase), Ok(device)) => device,
            (old, new) => panic!("{:?} {:?}", old.err(), new.err()),
        };
        device.holds(1..=3);
        device.profile.check().unwrap();
        put(&mut device, 200).unwrap();
        device.close().unwrap();
        assert_eq!(disk.paths().len(), 4, "{:?}", disk.paths());
    });
}

#[test]
fn a_crash_while_a_profile_is_made_leaves_it_or_room_for_another() {
    crash_while_creating(13);
}

#[test]
fn a_crash_while_a_space_is_made_leaves_it_or_room_for_another() {
    crash_while_founding(23);
}

#[test]
fn a_crash_while_a_key_is_renewed_loses_nothing() {
    crash_while_renewing(29);
}

#[test]
fn a_crash_while_a_file_gets_shorter_loses_nothing() {
    crash_while_shrinking(811);
}

#[test]
fn a_crash_during_a_purge_leaves_the_old_files_or_the_new() {
    crash_while_purging(41);
}

#[test]
#[ignore = "takes minutes"]
fn a_crash_at_any_call_leaves_a_whole_profile() {
    crash_while_creating(1);
    crash_while_founding(1);
    crash_while_renewing(1);
    crash_while_shrinking(41);
    crash_while_purging(1);
}

/// A sync fails and loses what it should have made durable, and the one after it reports success,
/// as on Linux. Later commits would stand behind the gap, so pages failed every sync of that WAL
/// until the database was opened anew; but a pool replaces the writer's connection alone, and the
/// readers beside it keep the database open: the space could not be written until its app started
/// again. Now the next transaction writes again what was lost.
#[test]
fn a_writer_goes_on_after_a_sync_that_lost_committed_frames() {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    put(&mut device, 1).unwrap();
    device.holds([1]);
    for n in 2..20 {
        disk.on_call(|call| match call.operation {
            Operation::Sync => Outcome::Forget(rusqlite::ffi::SQLITE_IOERR_FSYNC),
            _ => Outcome::Go,
        });
        for _ in 0..=n % 3 {
            assert!(put(&mut device, n).is_err());
        }
        disk.off_call();
        put(&mut device, 100 + n).unwrap();
        device.holds([100 + n]);
    }
    let left = disk.snapshot();
    drop(device);
    for loss in [Loss::Everything, Loss::Sectors(1), Loss::Torn(2), Loss::AllWritesButLast] {
        disk.restore(&left);
        disk.crash(loss);
        let mut device = open(&disk, &unlock()).unwrap();
        device.holds((102..120).chain([1]));
        assert_eq!(device.space.document(&object(2)).unwrap(), None);
        put(&mut device, 200).unwrap();
        device.close().unwrap();
    }
}

/// A simulated run came to no end: the disk was full when an app closed its space in order. The
/// writer could not note how far it had signed, kept its connection, and whoever then closed the
/// space waited for that connection for ever.
#[test]
fn a_space_closes_on_a_full_disk() {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    put(&mut device, 1).unwrap();
    disk.set_budget(Some(0));
    let (done, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Device { profile, space, mut writer } = device;
        let first = writer.close();
        let all = (first, space.close(), profile.close());
        done.send(all).unwrap();
    });
    let (writer, space, _) = closed.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
    assert!(matches!(writer, Err(Error::Store(_))), "{writer:?}");
    space.unwrap();
    disk.set_budget(None);
    let device = open(&disk, &unlock()).unwrap();
    device.holds([1]);
}

/// Bytes of the WALs that are there.
fn wal_bytes(disk: &Disk) -> usize {
    let wals = disk.paths().into_iter().filter(|path| path.to_str().unwrap().ends_with("-wal"));
    wals.map(|path| disk.bytes(&path).unwrap().len()).sum()
}

/// A profile whose process was killed: its WALs have what a device had let go of.
fn killed() -> Snapshot {
    let disk = Disk::new().unwrap();
    let mut device = found(&disk, 1);
    (1..=3).for_each(|n| drop(put(&mut device, n).unwrap()));
    disk.kill();
    disk.snapshot()
}

#[test]
fn what_secrets_leave_behind_waits_for_a_disk_that_takes_it() {
    let disk = Disk::new().unwrap();
    disk.restore(&killed());
    let mut device = open(&disk, &unlock()).unwrap();
    assert!(wal_bytes(&disk) > 0 && device.writer.leaves_secrets());
    disk.set_budget(Some(0));
    let failed = device.writer.finish_forgetting().unwrap_err();
    assert!(matches!(failed, Error::Store(_)), "{failed:?}");
    assert!(wal_bytes(&disk) > 0 && device.writer.leaves_secrets());
    disk.set_budget(None);
    // Of SQLite: SQLITE_IOERR_FSYNC. After that nothing helps but to open the file anew.
    disk.on_call(|call| {
        let is_main = call.path.parent().is_some_and(|dir| dir.ends_with("spaces"))
            && call.path.extension().is_some_and(|end| end == "db");
        let fails = call.operation == Operation::Sync && is_main;
        if fails { Outcome::Forget(1034) } else { Outcome::Go }
    });
    device.writer.finish_forgetting().unwrap_err();
    assert!(device.writer.leaves_secrets());
    disk.off_call();
    assert!(device.writer.finish_forgetting().unwrap() && !device.writer.leaves_secrets());
    assert_eq!(wal_bytes(&disk), 0);
    put(&mut device, 4).unwrap();
    assert!(!device.writer.leaves_secrets(), "a commit leaves none");
    device.holds(1..=4);
}

#[test]
fn a_crash_while_the_wals_are_emptied_leaves_them_empty_or_to_be_emptied() {
    let work = |disk: &Disk, (): &mut ()| {
        let Ok(mut device) = open(disk, &unlock()) else { return };
        let _ = device.writer.finish_forgetting();
    };
    fail_everywhere(&killed(), 7, work, |disk, ()| {
        let left = wal_bytes(disk);
        let mut device = open(disk, &unlock()).unwrap();
        assert!(left == 0 || device.writer.leaves_secrets(), "{left} bytes that nobody sees to");
        assert!(device.writer.finish_forgetting().unwrap() && !device.writer.leaves_secrets());
        device.holds(1..=3);
        put(&mut device, 4).unwrap();
        device.close().unwrap();
        assert_eq!(wal_bytes(disk), 0);
    });
}

/// SQLite does not sync that it has cut a WAL short: until something is written after that, a power
/// failure brings the old frames back.
#[test]
fn frames_that_a_power_failure_brings_back_go_once_more() {
    let disk = Disk::new().unwrap();
    disk.restore(&killed());
    let before = wal_bytes(&disk);
    let mut device = open(&disk, &unlock()).unwrap();
    assert!(device.writer.finish_forgetting().unwrap());
    assert_eq!(wal_bytes(&disk), 0);
    disk.crash(Loss::Everything);
    let left = disk.snapshot();
    drop(device);
    disk.restore(&left);
    assert_eq!(wal_bytes(&disk), before, "they are not back, and this test tells nothing");
    let mut device = open(&disk, &unlock()).unwrap();
    assert!(device.writer.leaves_secrets() && device.writer.finish_forgetting().unwrap());
    assert_eq!(wal_bytes(&disk), 0);
    device.holds(1..=3);
}
