//! What a sync of the main file that fails must not lose.

use std::path::Path;

use larder_pages::OpenMode;
use larder_pages::testing::{Disk, Loss, Operation, Outcome};
use rusqlite::{Connection, ffi};

use crate::common::{KEY, create, dump, is_intact, key, on_disk};

const PATH: &str = "/a.db";

fn checkpoint(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    db.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// The main file's syncs fail, and what they should have covered will never reach the disk.
fn forget_syncs_of_the_file(disk: &Disk) {
    disk.on_call(|call| match call.operation {
        Operation::Sync if call.path == Path::new(PATH) => Outcome::Forget(ffi::SQLITE_IOERR_FSYNC),
        _ => Outcome::Go,
    });
}

/// A checkpoint that a reader holds back writes pages and does not sync them, and the next one
/// begins behind them. If its sync failed, and one after it succeeded (so Linux behaves), the WAL
/// began anew although those pages were in no file: a power failure took what was committed.
#[test]
fn a_failed_sync_of_the_file_keeps_the_wal_until_all_was_written_again() {
    for closes in [false, true] {
        let (disk, vfs) = on_disk(&format!("forgotten-{closes}"));
        let path = Path::new(PATH);
        let open = || vfs.open(path, &key(KEY), OpenMode::ReadWrite).unwrap();
        let db = create(&vfs, path);
        db.execute_batch("CREATE TABLE a (x); CREATE TABLE b (x)").unwrap();
        checkpoint(&db).unwrap();
        let reader = open();
        db.execute_batch("INSERT INTO a VALUES ('one')").unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM a").unwrap();
        db.execute_batch("INSERT INTO b VALUES ('two')").unwrap();
        let (frames, done) = checkpoint(&db).unwrap();
        assert!(0 < done && done < frames, "the reader holds back {done} of {frames}");
        reader.execute_batch("COMMIT").unwrap();
        forget_syncs_of_the_file(&disk);
        checkpoint(&db).unwrap_err();
        disk.off_call();
        checkpoint(&db).unwrap_err();
        db.execute_batch("INSERT INTO b VALUES ('three')").unwrap();
        if closes {
            // Whoever comes next writes all that the WAL has, and may begin it anew.
            drop((db, reader));
            let db = open();
            let (frames, done) = checkpoint(&db).unwrap();
            assert_eq!(frames, done);
            db.execute_batch("INSERT INTO b VALUES ('four')").unwrap();
            disk.crash(Loss::Everything);
        } else {
            disk.crash(Loss::Everything);
            drop((db, reader));
        }
        let db = open();
        let content = dump(&db).unwrap();
        for word in ["one", "two", "three"] {
            assert!(content.contains(word), "{word} is lost: {content}");
        }
        assert!(is_intact(&db));
    }
}

/// A disk that fails for a while and then works again is no reason to open the database anew, as
/// long as a checkpoint that failed is made again as a whole.
#[test]
fn a_checkpoint_of_its_own_goes_on_after_failed_syncs() {
    let (disk, vfs) = on_disk("failed-for-a-while");
    let db = create(&vfs, PATH.as_ref());
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')").unwrap();
    forget_syncs_of_the_file(&disk);
    for _ in 0..3 {
        checkpoint(&db).unwrap_err();
    }
    disk.off_call();
    let (frames, done) = checkpoint(&db).unwrap();
    assert_eq!(frames, done);
    db.execute_batch("INSERT INTO t VALUES ('too')").unwrap();
    disk.crash(Loss::Everything);
    drop(db);
    let db = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
    let content = dump(&db).unwrap();
    assert!(content.contains("kept") && content.contains("too"), "{content}");
}

/// A commit under NORMAL is in no file yet when the sync of the next one fails, and then never will
/// be. The one after that is written behind the gap: its own sync proves nothing, unless the gap is
/// written again before it. (Once all later commits failed here until the database was opened anew;
/// other connections that kept it open made that for ever.)
#[test]
fn no_commit_is_called_durable_behind_one_that_a_failed_sync_lost() {
    for failures in 1..4 {
        let (disk, vfs) = on_disk(&format!("normal-then-full-{failures}"));
        let db = create(&vfs, PATH.as_ref());
        let reader = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
        db.execute_batch("CREATE TABLE t (a); CREATE TABLE u (a); PRAGMA synchronous=NORMAL")
            .unwrap();
        db.execute_batch("INSERT INTO t VALUES ('normal'); PRAGMA synchronous=FULL").unwrap();
        disk.on_call(|call| match call.operation {
            Operation::Sync => Outcome::Forget(ffi::SQLITE_IOERR_FSYNC),
            _ => Outcome::Go,
        });
        for _ in 0..failures {
            db.execute_batch("INSERT INTO u VALUES ('failed')").unwrap_err();
        }
        disk.off_call();
        assert!(dump(&reader).unwrap().contains("normal"), "reading goes on");
        db.execute_batch("INSERT INTO u VALUES ('behind')").unwrap();
        disk.crash(Loss::Everything);
        drop((db, reader));
        let db = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
        let content = dump(&db).unwrap();
        assert!(content.contains("normal") && content.contains("behind"), "{content}");
        assert!(!content.contains("failed"), "{content}");
    }
}

/// What a failed sync lost may be gone from the cache too, and read as what was there before. That
/// is not written again as if it were the commit.
#[test]
fn what_is_no_longer_there_to_be_written_again_is_no_commit() {
    let (disk, vfs) = on_disk("lost-and-gone");
    let db = create(&vfs, PATH.as_ref());
    db.execute_batch("CREATE TABLE t (a); PRAGMA synchronous=NORMAL").unwrap();
    let wal = format!("{PATH}-wal");
    let before = disk.bytes(&wal).unwrap().len();
    db.execute_batch("INSERT INTO t VALUES ('normal'); PRAGMA synchronous=FULL").unwrap();
    disk.on_call(move |call| match call.operation {
        Operation::Sync => Outcome::Forget(ffi::SQLITE_IOERR_FSYNC),
        _ => Outcome::Go,
    });
    db.execute_batch("INSERT INTO t VALUES ('failed')").unwrap_err();
    disk.off_call();
    disk.damage(&wal, before as u64, &[0; 4096]);
    for _ in 0..3 {
        db.execute_batch("INSERT INTO t VALUES ('behind')").unwrap_err();
    }
}
