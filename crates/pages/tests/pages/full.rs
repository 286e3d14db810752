//! A disk that fills up: writes fail clearly, reads go on, and it passes by itself.

use std::path::Path;

use larder_pages::testing::{Disk, Loss};
use larder_pages::{Error, OpenMode};
use rusqlite::{Connection, ErrorCode};

use crate::common::{KEY, create, dump, is_intact, key, vfs_over};

const PATH: &str = "/a.db";

fn used(disk: &Disk) -> u64 {
    disk.paths().iter().map(|path| disk.bytes(path).unwrap().len() as u64).sum()
}

fn grow(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20)
         INSERT INTO t SELECT NULL, hex(randomblob(1500)) FROM n",
    )
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Room for the first byte of a transaction, for the first page, … for all of it.
#[test]
fn a_transaction_that_does_not_fit_leaves_the_connection_as_it_was() {
    let disk = Disk::register("full-commit").unwrap();
    let vfs = vfs_over(Some(disk.name()));
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("PRAGMA cache_size=5; CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    grow(&db).unwrap();
    let reader = vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadOnly).unwrap();
    let mut failures = 0;
    for room in (0..).step_by(2000) {
        // Once the WAL has been that long it needs no more room.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let before = dump(&db).unwrap();
        disk.set_budget(Some(used(&disk) + room));
        let grown = grow(&db);
        let Err(error) = grown else { break };
        failures += 1;
        assert!(is_full(&error), "{error}");
        assert!(matches!(Error::from(error), Error::Full(_)));
        assert!(db.is_autocommit());
        for db in [&db, &reader] {
            assert_eq!(dump(db).unwrap(), before);
        }
        assert!(is_full(&grow(&db).unwrap_err()), "still");
        disk.set_budget(None);
        db.execute("INSERT INTO t VALUES (NULL, 'room again')", []).unwrap();
        assert_eq!(dump(&reader).unwrap(), dump(&db).unwrap());
        assert!(is_intact(&db));
    }
    assert!(failures > 5, "{failures}");
}

/// The WAL fits, the database does not: what is committed stays in the WAL, and is read from there.
#[test]
fn a_checkpoint_that_does_not_fit_is_made_later() {
    let disk = Disk::register("full-checkpoint").unwrap();
    let vfs = vfs_over(Some(disk.name()));
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    let checkpoint = |db: &Connection| {
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
    };
    checkpoint(&db).unwrap();
    grow(&db).unwrap();
    let committed = dump(&db).unwrap();
    disk.set_budget(Some(used(&disk) + 10_000));
    assert!(is_full(&checkpoint(&db).unwrap_err()));
    assert_eq!(dump(&db).unwrap(), committed);
    drop(db);
    assert!(disk.bytes("/a.db-wal").is_some(), "it is still needed");

    // Recovered, read, killed and recovered again with no room at all.
    disk.set_budget(Some(0));
    for loss in [Loss::Nothing, Loss::Everything] {
        let db = vfs_over(Some(disk.name())).open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite);
        let db = db.unwrap();
        assert_eq!(dump(&db).unwrap(), committed);
        assert!(is_full(&grow(&db).unwrap_err()));
        disk.crash(loss);
    }
    disk.set_budget(None);
    let vfs = vfs_over(Some(disk.name()));
    let db = vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&db).unwrap(), committed);
    assert_eq!(checkpoint(&db), Ok(0));
    assert!(is_intact(&db));
}

/// A database that did not fit was left as a part of its first page, and could be neither opened
/// nor made again.
#[test]
fn a_database_that_did_not_fit_is_made_once_there_is_room() {
    for room in [0, 100, 3000, 5000] {
        let disk = Disk::register(&format!("full-create-{room}")).unwrap();
        let vfs = vfs_over(Some(disk.name()));
        disk.set_budget(Some(room));
        let made = vfs.open(Path::new(PATH), &key(KEY), OpenMode::Create);
        let written = made.and_then(|db| Ok(db.execute_batch("CREATE TABLE t (a)")?));
        assert!(matches!(written, Err(Error::Full(_))), "{room}: {written:?}");
        disk.set_budget(None);
        let db = vfs.open(Path::new(PATH), &key(KEY), OpenMode::Create).unwrap();
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(is_intact(&db));
    }
}
