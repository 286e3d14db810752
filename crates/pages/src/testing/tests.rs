use rusqlite::{Connection, ffi};

use super::disk::Handle;
use super::{Dice, Disk, Loss, Operation, Outcome};
use crate::Error;
use crate::code::Code;
use crate::files::{Files, Lock};
use crate::lower::Filled;

const CREATE: i32 = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;
const DATABASE: i32 = CREATE | ffi::SQLITE_OPEN_MAIN_DB;
const WAL: i32 = CREATE | ffi::SQLITE_OPEN_WAL;

fn disk() -> Disk {
    Disk::new().unwrap()
}

fn open(disk: &Disk, path: &str, flags: i32) -> Handle {
    disk.open(path.as_ref(), flags).unwrap()
}

#[test]
fn what_was_synced_stays_and_the_rest_is_lost_as_asked() {
    let disk = disk();
    disk.put("/a", &[1; 3000]);
    let mut file = open(&disk, "/a", DATABASE);
    file.write(&[2; 1000], 0).unwrap();
    file.sync().unwrap();
    file.write(&[3; 1000], 1000).unwrap();
    file.write(&[4; 1000], 2500).unwrap();
    let bytes =
        |parts: [u8; 7]| -> Vec<u8> { parts.iter().flat_map(|part| [*part; 500]).collect() };
    let all = bytes([2, 2, 3, 3, 1, 4, 4]);
    assert_eq!(disk.bytes("/a").unwrap(), all);
    let before = disk.snapshot();
    for (loss, left) in [
        (Loss::Nothing, all.clone()),
        (Loss::Everything, bytes([2, 2, 1, 1, 1, 1, 1])[..3000].to_vec()),
        (Loss::FirstWrite, bytes([2, 2, 1, 1, 1, 4, 4])),
        (Loss::AllWritesButLast, bytes([2, 2, 1, 1, 1, 4, 4])),
    ] {
        disk.restore(&before);
        disk.crash(loss);
        assert_eq!(disk.bytes("/a").unwrap(), left, "{loss:?}");
        disk.crash(Loss::Everything);
        assert_eq!(disk.bytes("/a").unwrap(), left, "what survived is durable");
    }
}

#[test]
fn chance_keeps_tears_and_drops_by_sectors_and_repeats_itself() {
    let disk = disk();
    disk.put("/a", &[1; 4096]);
    let file = open(&disk, "/a", DATABASE);
    file.write(&[2; 2048], 256).unwrap();
    file.truncate(3000).unwrap();
    file.write(&[3; 512], 4608).unwrap();
    let before = disk.snapshot();
    let after = |loss| {
        disk.restore(&before);
        disk.crash(loss);
        disk.bytes("/a").unwrap()
    };
    let mut seen = [0; 4];
    for seed in 0..300 {
        let left = after(Loss::Sectors(seed));
        assert_eq!(left, after(Loss::Sectors(seed)));
        assert_eq!(left[..256], [1; 256], "outside of the write");
        let written = &left[256..2304];
        let (first, rest) = written.split_at(256);
        for sector in std::iter::once(first).chain(rest.chunks(512)) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "{seed}: whole sectors");
            assert!((1..=2).contains(&sector[0]));
        }
        seen[0] += usize::from(written[0] == 1 && written[2047] == 2);
        seen[1] += usize::from(left.len() == 5120 && left[4608..] == [3; 512]);
        seen[2] += usize::from(left.len() == 5120 && left[4608..] != [3; 512]);
        seen[3] += usize::from(after(Loss::Torn(seed))[512..1024].windows(2).any(|w| w[0] != w[1]));
    }
    assert!(seen.iter().all(|times| *times > 5), "{seen:?}");
}

#[test]
fn a_name_is_durable_when_its_directory_was_synced() {
    let disk = disk();
    disk.put("/d/old-wal", b"old");
    let mut main = open(&disk, "/d/new", DATABASE);
    main.write(b"main", 0).unwrap();
    main.sync().unwrap();
    disk.delete("/d/old-wal".as_ref(), false).unwrap();
    let unsynced = disk.snapshot();
    disk.crash(Loss::Everything);
    assert_eq!(disk.bytes("/d/new"), None, "the sync of a database does not cover its name");
    assert_eq!(disk.bytes("/d/old-wal").unwrap(), b"old", "a deleted file is back");

    disk.restore(&unsynced);
    let mut wal = open(&disk, "/d/new-wal", WAL);
    wal.sync().unwrap();
    disk.crash(Loss::Everything);
    assert_eq!(disk.bytes("/d/new").unwrap(), b"main", "that of a new WAL covers all beside it");
    assert_eq!(disk.paths().len(), 2);

    disk.delete("/d/new-wal".as_ref(), true).unwrap();
    disk.crash(Loss::Everything);
    assert_eq!(disk.bytes("/d/new-wal"), None, "so does a deletion that asks for it");
    assert_eq!(disk.delete("/d/new-wal".as_ref(), false), Err(Code::DELETE_NOENT));
}

#[test]
fn a_killed_process_loses_its_locks_but_no_bytes() {
    let disk = disk();
    let file = open(&disk, "/a", DATABASE);
    file.write(b"cached", 0).unwrap();
    file.lock(ffi::SQLITE_LOCK_EXCLUSIVE).unwrap();
    let other = open(&disk, "/a", DATABASE);
    assert_eq!(other.lock(ffi::SQLITE_LOCK_SHARED), Err(Code::BUSY));
    disk.kill();
    assert_eq!(file.write(b"dead", 0), Err(Code::WRITE));
    assert_eq!(other.close(), Err(Code::CLOSE));
    assert_eq!(disk.bytes("/a").unwrap(), b"cached");
    open(&disk, "/a", DATABASE).lock(ffi::SQLITE_LOCK_EXCLUSIVE).unwrap();
    disk.crash(Loss::Everything);
    assert_eq!(disk.bytes("/a"), None);
}

#[test]
fn a_hook_fails_shortens_and_ends_calls() {
    let disk = disk();
    disk.put("/a", b"0123456789");
    let file = open(&disk, "/a", DATABASE);
    let from = disk.calls();
    disk.on_call(move |call| match (call.index - from, call.operation) {
        (0, Operation::Write) => Outcome::Fail(ffi::SQLITE_IOERR),
        (1, Operation::Write) => Outcome::Short(2),
        (2, Operation::Read) => Outcome::Short(4),
        (3, Operation::Write) => Outcome::Crash,
        other => panic!("{other:?} of {call:?}"),
    });
    assert_eq!(file.write(b"abcd", 0), Err(Code::IOERR));
    assert_eq!(file.write(b"abcd", 0), Err(Code::FULL));
    let mut out = [9; 6];
    assert_eq!(file.read(&mut out, 0), Ok(Filled::Short));
    assert_eq!(&out, b"ab23\0\0");
    assert_eq!(file.write(b"xy", 8), Err(Code::WRITE));
    assert_eq!(disk.open("/a".as_ref(), DATABASE).err(), Some(Code::CANTOPEN), "no power");
    disk.crash(Loss::Nothing);
    disk.off_call();
    assert_eq!(disk.bytes("/a").unwrap(), b"ab234567xy", "it may have happened");
    assert_eq!(file.read(&mut out, 0), Err(Code::READ));
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers() {
    let disk = disk();
    disk.put("/a", &[0; 100]);
    disk.set_budget(Some(150));
    let file = open(&disk, "/b", DATABASE);
    assert_eq!(file.write(&[1; 80], 0), Err(Code::FULL));
    assert_eq!(disk.bytes("/b").unwrap().len(), 50);
    file.write(&[2; 50], 0).unwrap();
    let whole = open(&disk, "/a", DATABASE);
    whole.write(&[3; 100], 0).unwrap();
    disk.delete("/a".as_ref(), false).unwrap();
    assert_eq!(file.write(&[4; 80], 0), Err(Code::FULL), "a handle still holds it");
    whole.close().unwrap();
    file.write(&[4; 80], 0).unwrap();
    disk.set_budget(None);
    file.write(&[5; 800], 0).unwrap();
}

/// A model in plain bytes beside it: reads see every write, and a sync loses none of them.
#[test]
fn content_follows_a_model() {
    let disk = disk();
    let mut dice = Dice::new(7);
    let mut model = Vec::new();
    let mut file = open(&disk, "/a", WAL);
    for _ in 0..2000 {
        let at = usize::try_from(dice.below(20_000)).unwrap();
        match dice.below(8) {
            0 => {
                file.truncate(at as u64).unwrap();
                model.resize(at, 0);
            }
            1 => {
                file.sync().unwrap();
                let before = disk.snapshot();
                disk.crash(Loss::Everything);
                assert_eq!(disk.bytes("/a").unwrap(), model);
                disk.restore(&before);
                file = open(&disk, "/a", WAL);
            }
            _ => {
                let bytes = vec![dice.roll().to_le_bytes()[0]; at % 5000];
                file.write(&bytes, at as u64).unwrap();
                if !bytes.is_empty() {
                    model.resize(model.len().max(at + bytes.len()), 0);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        assert_eq!(file.size(), Ok(model.len() as u64));
    }
    assert_eq!(disk.bytes("/a").unwrap(), model);
}

#[test]
fn a_name_serves_one_disk_after_another() {
    let first = Disk::register("one-after-another").unwrap();
    assert!(matches!(Disk::register("one-after-another"), Err(Error::NameTaken { .. })));
    let flags = rusqlite::OpenFlags::default();
    let open = || Connection::open_with_flags_and_vfs("/a.db", flags, "one-after-another");
    let database = open().unwrap();
    database.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(first);
    assert!(Disk::register("one-after-another").is_err(), "a file is open");
    database.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    drop(database);
    assert!(open().is_err(), "the disk is gone");
    let second = Disk::register("one-after-another").unwrap();
    assert!(second.paths().is_empty());
    open().unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
}

#[test]
fn what_stands_above_a_disk_goes_with_its_last_connection() {
    let disk = disk();
    let register = || crate::Vfs::register("comes-back", Some(disk.name()), Box::new(Dice::new(1)));
    let vfs = register().unwrap();
    let key = larder_crypto::Secret::new([1; 32]);
    let open = |vfs: &crate::Vfs| vfs.open("/a.db".as_ref(), &key, crate::OpenMode::Create);
    let database = open(&vfs).unwrap();
    let weak = vfs.downgrade();
    drop(vfs);
    assert!(weak.upgrade().is_some() && register().is_err());
    database.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    drop(database);
    assert!(weak.upgrade().is_none());
    let again = open(&register().unwrap()).unwrap();
    again.query_row("SELECT a FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
}

fn write(disk: &Disk, path: &str, bytes: &[u8]) {
    disk.write_new(path.as_ref(), bytes).unwrap();
}

#[test]
fn what_was_renamed_has_either_name_until_its_directory_is_synced() {
    let disk = disk();
    write(&disk, "/d/key", b"old");
    disk.sync_dir("/d".as_ref()).unwrap();
    write(&disk, "/d/new", b"new");
    disk.rename("/d/new".as_ref(), "/d/key".as_ref()).unwrap();
    assert_eq!(disk.bytes("/d/key").unwrap(), b"new");
    assert_eq!(disk.bytes("/d/new"), None);
    let unsynced = disk.snapshot();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        disk.restore(&unsynced);
        disk.crash(Loss::Sectors(seed));
        let key = disk.bytes("/d/key").unwrap();
        let new = disk.bytes("/d/new");
        assert!(key == b"new" && new.is_none() || key == b"old", "{key:?} {new:?}");
        seen.insert((key, new.is_some()));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    disk.restore(&unsynced);
    disk.sync_dir("/d".as_ref()).unwrap();
    disk.crash(Loss::Everything);
    assert_eq!(disk.bytes("/d/key").unwrap(), b"new");
    assert_eq!(disk.paths().len(), 1);
}

#[test]
fn a_lost_directory_takes_what_is_in_it() {
    let disk = disk();
    let missing = disk.write_new("/d/e/key".as_ref(), b"1").unwrap_err();
    assert_ne!(missing.kind(), std::io::ErrorKind::NotFound, "{missing}");
    assert_eq!(disk.make_dir("/d/e/f".as_ref()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    disk.make_dir("/d/e".as_ref()).unwrap();
    let again = disk.make_dir("/d/e".as_ref()).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    write(&disk, "/d/e/key", b"1");
    disk.sync_dir("/d/e".as_ref()).unwrap();
    assert_eq!(disk.list("/d/e".as_ref()).unwrap(), ["key"]);
    let unsynced = disk.snapshot();
    disk.crash(Loss::Everything);
    assert!(!disk.exists("/d/e".as_ref()).unwrap() && disk.bytes("/d/e/key").is_none());
    disk.restore(&unsynced);
    disk.sync_dir("/d".as_ref()).unwrap();
    disk.crash(Loss::Everything);
    assert_eq!(disk.read("/d/e/key".as_ref(), 9).unwrap(), b"1");
}

#[test]
fn a_lock_keeps_others_out_until_it_is_dropped_or_its_process_is_killed() {
    let disk = disk();
    let lock = |lock| disk.lock("/d/lock".as_ref(), lock);
    assert_eq!(lock(Lock::Shared).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let held = lock(Lock::Exclusive).unwrap();
    for other in [Lock::Exclusive, Lock::Shared] {
        assert_eq!(lock(other).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    drop(held);
    let readers = [lock(Lock::Shared).unwrap(), lock(Lock::Shared).unwrap()];
    assert_eq!(lock(Lock::Exclusive).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    disk.kill();
    let held = lock(Lock::Exclusive).unwrap();
    drop(readers);
    assert!(lock(Lock::Exclusive).is_err(), "a dead process's locks do not free another's");
    drop(held);
    lock(Lock::Exclusive).unwrap();
}
