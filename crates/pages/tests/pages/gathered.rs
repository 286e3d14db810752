//! Frames of a transaction are written to the WAL together.

use std::path::Path;
use std::sync::{Arc, Mutex};

use larder_pages::OpenMode;
use larder_pages::testing::{Disk, Loss, Operation, Outcome};
use rusqlite::{Connection, ffi};

use crate::common::{KEY, create, dump, is_intact, key, on_disk};

const PATH: &str = "/a.db";
const FRAME: usize = 24 + 4096;

fn is_wal(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "db-wal")
}

/// How long the writes to the WAL are that `work` makes.
fn writes(disk: &Disk, work: impl FnOnce()) -> Vec<usize> {
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let lengths = Arc::clone(&seen);
    disk.on_call(move |call| {
        if call.operation == Operation::Write && is_wal(call.path) {
            lengths.lock().unwrap().push(call.length);
        }
        Outcome::Go
    });
    work();
    disk.off_call();
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// Many pages, each of another table.
fn tables(db: &Connection, count: usize) {
    for table in 0..count {
        db.execute_batch(&format!("CREATE TABLE t{table} (a)")).unwrap();
    }
}

fn insert(count: usize, value: &str) -> String {
    let each = (0..count).map(|table| format!("INSERT INTO t{table} VALUES ('{value}');"));
    format!("BEGIN; {} COMMIT", each.collect::<String>())
}

/// A commit of ten pages took ten calls of the system, which is most of what the kernel did for it.
#[test]
fn the_pages_of_a_commit_are_one_write() {
    let (disk, vfs) = on_disk("one-write");
    let db = create(&vfs, PATH.as_ref());
    tables(&db, 150);
    let ten = writes(&disk, || db.execute_batch(&insert(10, "one")).unwrap());
    assert!(matches!(ten[..], [all] if all >= 10 * FRAME && all % FRAME == 0), "{ten:?}");
    let many = writes(&disk, || db.execute_batch(&insert(150, "many")).unwrap());
    let frames: usize = many.iter().map(|length| length / FRAME).sum();
    assert!(frames >= 150 && many.len() == frames.div_ceil(31), "{many:?}");
    disk.crash(Loss::Everything);
    drop(db);
    let db = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
    let found: i64 = db.query_row("SELECT count(*) FROM t149", [], |row| row.get(0)).unwrap();
    assert_eq!(found, 1);
    assert!(is_intact(&db));
}

/// Frames that a connection had gathered of a transaction that it took back must not be written
/// later: by then another connection has committed in their place.
#[test]
fn what_was_taken_back_is_not_written_over_what_another_committed() {
    let (_disk, vfs) = on_disk("taken-back");
    let db = create(&vfs, PATH.as_ref());
    tables(&db, 40);
    db.execute_batch(&insert(40, "first")).unwrap();
    let other = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
    // So small that pages go to the WAL before the commit.
    db.execute_batch("PRAGMA cache_size=5").unwrap();
    let taken_back = insert(40, "taken back").replace("COMMIT", "ROLLBACK");
    db.execute_batch(&taken_back).unwrap();
    other.execute_batch(&insert(40, "other")).unwrap();
    let expected = dump(&other).unwrap();
    assert_eq!(dump(&db).unwrap(), expected);
    db.execute_batch("INSERT INTO t0 VALUES ('last')").unwrap();
    assert!(expected.contains("other") && !expected.contains("taken back"));
    drop((db, other));
    let db = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
    assert!(is_intact(&db));
    let found = dump(&db).unwrap();
    assert!(found.contains("last") && found.matches("other").count() == 40, "{found}");
}

/// The disk is full when gathered frames are written. The commit fails, and nothing of it is there
/// afterwards; what comes next is committed whole.
#[test]
fn a_commit_whose_frames_could_not_be_written_leaves_nothing() {
    for nth in 0..3 {
        let (disk, vfs) = on_disk(&format!("could-not-{nth}"));
        let db = create(&vfs, PATH.as_ref());
        tables(&db, 150);
        let before = dump(&db).unwrap();
        let mut writes = 0;
        disk.on_call(move |call| {
            let is_write = call.operation == Operation::Write && is_wal(call.path);
            writes += usize::from(is_write);
            // Some of it is written.
            if is_write && writes > nth { Outcome::Short(FRAME / 2) } else { Outcome::Go }
        });
        let error = db.execute_batch(&insert(150, "lost")).unwrap_err();
        assert_eq!(error.sqlite_error().map(|error| error.extended_code), Some(ffi::SQLITE_FULL));
        disk.off_call();
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").unwrap();
        }
        assert_eq!(dump(&db).unwrap(), before);
        db.execute_batch(&insert(150, "kept")).unwrap();
        let expected = dump(&db).unwrap();
        disk.crash(Loss::Everything);
        drop(db);
        let db = vfs.open(PATH.as_ref(), &key(KEY), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&db).unwrap(), expected);
        assert!(is_intact(&db));
    }
}
