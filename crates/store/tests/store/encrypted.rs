//! The pool and the schema over the encrypting VFS, on a real file.

use std::path::{Path, PathBuf};

use larder_crypto::Secret;
use larder_log::Payload;
use larder_pages::testing::Disk;
use larder_pages::{OpenMode, Vfs};
use larder_store::migrate::{Run, SPACE};
use larder_store::space::sections::State;
use larder_store::space::{self, logs, transactions};
use larder_store::{ErrorKind, Pool, StoreError, configure};
use larder_types::Entropy;

use crate::fixture::{NOW, append, batch, device};

/// Bytes that differ from each other; nothing here is worth protecting.
struct Counting(u64);

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

fn pool(vfs: &Vfs, path: PathBuf, key: u8) -> Pool {
    let vfs = vfs.clone();
    let key = Secret::new([key; 32]);
    Pool::new(Box::new(move |access| {
        let conn = vfs.open(&path, &key, OpenMode::Create).map_err(StoreError::open)?;
        configure(&conn, access)?;
        Ok(conn)
    }))
}

fn contains(path: &Path, needle: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_space_is_written_read_closed_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("space.db");
    let vfs = Vfs::register("store-tests", None, Box::new(Counting(7))).unwrap();
    let first = pool(&vfs, path.clone(), 1);
    let canary = b"the canary that must not be seen".as_slice();
    let batch = {
        let mut writer = first.writer().unwrap();
        assert_eq!(SPACE.migrate(&mut writer, Run::at(NOW)).unwrap(), SPACE.version());
        let tx = larder_store::begin(&mut writer).unwrap();
        let big = Payload::Sealed([vec![1; 3 << 20], canary.to_vec()].concat());
        let batch = append(&tx, &device(1), &[&[big], &[]]);
        let reader = first.reader().unwrap();
        SPACE.verify(&reader).unwrap();
        assert_eq!(space::status(&reader).unwrap().entries, 0, "a snapshot from before");
        larder_store::commit(tx).unwrap();
        assert_eq!(space::status(&reader).unwrap().entries, 2);
        batch
    };
    for reopened in [false, true] {
        if reopened {
            first.close().unwrap();
            assert!(matches!(first.reader(), Err(StoreError::Closed)));
            first.reopen();
        }
        let reader = first.reader().unwrap();
        let log = logs::find(&reader, &device(1)).unwrap().unwrap();
        let last = transactions::last_of(&reader, log.log).unwrap().unwrap();
        assert_eq!(transactions::batch(&reader, &last, 1).unwrap(), batch);
    }
    first.close().unwrap();
    assert!(!contains(&path, canary));

    let before = std::fs::read(&path).unwrap();
    let error = pool(&vfs, path.clone(), 2).writer().unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_flipped_bit_is_corruption_that_names_the_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("space.db");
    let vfs = Vfs::register("store-tests-flip", None, Box::new(Counting(8))).unwrap();
    let whole = pool(&vfs, path.clone(), 1);
    {
        let mut writer = whole.writer().unwrap();
        SPACE.migrate(&mut writer, Run::at(NOW)).unwrap();
        append(&writer, &device(1), &[&[Payload::Sealed(vec![1; 1 << 20])]]);
    }
    whole.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // Within the payload, which takes up nearly all of the file's last quarter.
    let middle = bytes.len() * 7 / 8;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    whole.reopen();
    let reader = whole.reader().unwrap();
    let log = logs::find(&reader, &device(1)).unwrap().unwrap();
    let last = transactions::last_of(&reader, log.log).unwrap().unwrap();
    let error = transactions::batch(&reader, &last, 1).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("sections"), ErrorKind::Corrupt), "{error}");
}

/// A disk that is full in the midst of a unit of work: a clear error, and no more than that.
#[test]
fn a_full_disk_fails_the_unit_and_nothing_else() {
    let disk = Disk::register("store-full").unwrap();
    let vfs = Vfs::register("store-tests-full", Some(disk.name()), Box::new(Counting(9))).unwrap();
    let pool = pool(&vfs, PathBuf::from("/space.db"), 1);
    let mut writer = pool.writer().unwrap();
    SPACE.migrate(&mut writer, Run::at(NOW)).unwrap();
    append(&writer, &device(1), &[&[Payload::Sealed(vec![1; 20_000])]]);
    drop(writer);
    let entries = || space::status(&pool.reader().unwrap()).unwrap().entries;
    let unit = |log: u8| -> Result<(), StoreError> {
        let mut writer = pool.writer()?;
        let tx = larder_store::begin(&mut writer)?;
        let sealed = Payload::Sealed(vec![log; 300_000]);
        let log = logs::find_or_add(&tx, &device(log))?;
        let (batch, verified) = batch(&log, &[std::slice::from_ref(&sealed)]);
        transactions::store(&tx, log.log, &batch, &verified, |_, payload| {
            (State::unopened(payload), None)
        })?;
        larder_store::commit(tx)
    };
    let mut failures = 0;
    for room in (0..).step_by(40_000) {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        pool.writer().unwrap().query_row(checkpoint, [], |_| Ok(())).unwrap();
        let used: usize = disk.paths().iter().map(|path| disk.bytes(path).unwrap().len()).sum();
        disk.set_budget(Some(used as u64 + room));
        let before = entries();
        let Err(error) = unit(2) else { break };
        failures += 1;
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.to_string().contains("free some"), "{error}");
        assert_eq!(entries(), before, "reads go on");
        assert_eq!(unit(3).unwrap_err().kind(), ErrorKind::Full);
        disk.set_budget(None);
        // The same connections, by themselves.
        append(&pool.writer().unwrap(), &device(1), &[&[Payload::Missing]]);
        assert_eq!(entries(), before + 1);
    }
    assert!(failures > 5, "{failures}");
    disk.set_budget(None);
    larder_store::check(&pool.reader().unwrap()).unwrap();
}
