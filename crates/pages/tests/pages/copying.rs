//! Copies under another key, made while the source is written.

use std::path::Path;

use larder_crypto::hash::sha256;
use larder_pages::{Copied, Copying, Error, OpenMode, Vfs};
use rusqlite::Connection;

use crate::common::{KEY, create, dump, files, is_intact, key, vfs, wal_of};

const NEW_KEY: u8 = 8;

fn begin(vfs: &Vfs, db: &mut Connection, path: &Path) -> Copying {
    vfs.copy_of(db, path, &key(NEW_KEY)).unwrap()
}

/// Goes on until the copy is whole; answers with the number of steps.
fn complete(mut copying: Copying, db: &mut Connection, pages: u32) -> u32 {
    let mut steps = 0;
    loop {
        steps += 1;
        match copying.step(db, pages).unwrap() {
            Copied::Whole { pages } => {
                assert!(pages > 0);
                return steps;
            }
            Copied::Partly { pages, pages_total } => assert!(pages <= pages_total),
        }
    }
}

fn check(vfs: &Vfs, path: &Path, db: &Connection) {
    assert!(!wal_of(path).exists());
    let copy = vfs.open(path, &key(NEW_KEY), OpenMode::ReadWrite).unwrap();
    assert!(is_intact(&copy));
    assert_eq!(dump(&copy).unwrap(), dump(db).unwrap());
    copy.execute_batch("CREATE TABLE more (a); INSERT INTO more VALUES (1)").unwrap();
}

fn sample(vfs: &Vfs, path: &Path, rows: u32) -> Connection {
    let db = create(vfs, path);
    db.execute_batch(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); CREATE INDEX t_a ON t (a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
           INSERT INTO t SELECT i, hex(randomblob(300)) FROM n;"
    ))
    .unwrap();
    db
}

#[test]
fn a_copy_has_the_same_content_another_key_and_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    let vfs = vfs();
    let mut db = sample(&vfs, &old, 500);
    // What lay there is deleted, an unfinished copy for one.
    std::fs::write(&new, "left over").unwrap();
    std::fs::write(wal_of(&new), "left over").unwrap();
    let copying = begin(&vfs, &mut db, &new);
    assert!(complete(copying, &mut db, 16) > 10);
    check(&vfs, &new, &db);
    let opened = vfs.open(&new, &key(KEY), OpenMode::ReadWrite);
    assert!(matches!(opened, Err(Error::WrongKey { .. })), "{opened:?}");
    db.close().unwrap();
    let ids: Vec<_> = files(dir.path()).iter().map(|(_, bytes)| bytes[..16].to_vec()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_empty_database_can_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.db");
    let vfs = vfs();
    let mut db = create(&vfs, &dir.path().join("old.db"));
    let copying = begin(&vfs, &mut db, &new);
    assert_eq!(complete(copying, &mut db, 1), 1);
    check(&vfs, &new, &db);
}

/// One of many things that can happen to a source between two steps.
fn disturb(db: &mut Connection, choice: u8, n: u32) {
    let sql = match choice % 12 {
        0 => format!("INSERT INTO t (a) SELECT hex(randomblob(2500)) FROM t LIMIT {n}"),
        1 => format!("UPDATE t SET a = hex(randomblob(400)) WHERE id % 17 = {n} % 17"),
        2 => format!("DELETE FROM t WHERE id % 13 = {n} % 13"),
        3 => {
            format!("CREATE TABLE IF NOT EXISTS t{n} (a); INSERT INTO t{n} VALUES (zeroblob(9000))")
        }
        4 => "DROP INDEX IF EXISTS t_a".to_owned(),
        5 => "CREATE INDEX IF NOT EXISTS t_a ON t (a)".to_owned(),
        // Spills into the WAL, then is rolled back.
        6 => "BEGIN; UPDATE t SET a = hex(randomblob(900)); ROLLBACK".to_owned(),
        7 => {
            "BEGIN; UPDATE t SET a = 'x' WHERE id % 5 = 0; SAVEPOINT s;
              INSERT INTO t (a) SELECT hex(randomblob(2000)) FROM t LIMIT 60; ROLLBACK TO s; COMMIT"
                .to_owned()
        }
        8 => "VACUUM".to_owned(),
        9 => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
        10 => "PRAGMA incremental_vacuum".to_owned(),
        _ => "SELECT 1".to_owned(),
    };
    db.execute_batch(&sql).unwrap();
}

#[test]
fn what_is_written_meanwhile_is_in_the_copy() {
    let vfs = vfs();
    for seed in 0..6_u8 {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new.db");
        let mut db = sample(&vfs, &dir.path().join("old.db"), 400);
        db.execute_batch("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=50").unwrap();
        let choices = (0..2_u32).flat_map(|i| *sha256(&[&[seed], &i.to_be_bytes()]).as_bytes());
        let mut copying = begin(&vfs, &mut db, &new);
        for (n, choice) in (0..40).zip(choices) {
            let step = copying.step(&mut db, 1 + u32::from(choice) / 40).unwrap();
            let is_partly = matches!(step, Copied::Partly { .. });
            assert!(is_partly, "seed {seed}: too few disturbances");
            disturb(&mut db, choice, n);
        }
        complete(copying, &mut db, 1000);
        check(&vfs, &new, &db);
    }
}

#[test]
fn another_connection_may_write_read_and_checkpoint_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    let vfs = vfs();
    let mut db = sample(&vfs, &old, 300);
    let other = vfs.open(&old, &key(KEY), OpenMode::ReadWrite).unwrap();
    let reading = other.unchecked_transaction().unwrap();
    let before = dump(&reading).unwrap();
    let mut copying = begin(&vfs, &mut db, &new);
    for i in 0..5 {
        copying.step(&mut db, 8).unwrap();
        db.execute("UPDATE t SET a = ?1 WHERE id = 3", [i]).unwrap();
        assert_eq!(dump(&reading).unwrap(), before, "a reader was disturbed");
    }
    drop(reading);
    other.execute_batch("DELETE FROM t WHERE id % 3 = 0").unwrap();
    copying.step(&mut db, 8).unwrap();
    other.execute_batch("INSERT INTO t (a) VALUES ('b')").unwrap();
    complete(copying, &mut db, 8);
    check(&vfs, &new, &db);
}

#[test]
fn a_copy_can_be_given_up_and_does_not_keep_its_source_open() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    let vfs = vfs();
    let mut db = sample(&vfs, &old, 300);
    for steps in 0..3 {
        let mut copying = begin(&vfs, &mut db, &new);
        for _ in 0..steps {
            copying.step(&mut db, 8).unwrap();
        }
        copying.abandon(&mut db);
        vfs.remove(&new).unwrap();
        assert!(!new.exists());
    }
    vfs.remove(&new).unwrap();
    db.execute_batch("DELETE FROM t WHERE id > 10").unwrap();
    db.close().unwrap();
    let mut db = vfs.open(&old, &key(KEY), OpenMode::ReadWrite).unwrap();
    let copying = begin(&vfs, &mut db, &new);
    complete(copying, &mut db, 8);
    check(&vfs, &new, &db);
}

#[test]
fn a_copy_goes_on_with_its_own_source_only() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    let vfs = vfs();
    let mut db = sample(&vfs, &old, 50);
    let mut other = vfs.open(&old, &key(KEY), OpenMode::ReadWrite).unwrap();
    let mut copying = begin(&vfs, &mut db, &new);
    assert!(matches!(copying.step(&mut other, 8), Err(Error::Foreign)));
    assert!(matches!(copying.step(&mut db, 8), Ok(Copied::Partly { .. })));
    // Dropped, it is leaked: the source stays open in SQLite, and can be used until then.
    drop(copying);
    db.execute_batch("UPDATE t SET a = 'y'").unwrap();
    assert!(db.close().is_err());
    other.execute_batch("UPDATE t SET a = 'z'").unwrap();
}
