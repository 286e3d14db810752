//! Several connections, several threads, several processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_pages::{Error, OpenMode};

use crate::common::{Image, KEY, copy, create, dump, files, is_intact, key, vfs, wal_of};

const CHILD: &str = "LARDER_PAGES_TEST_CHILD";
const CHILD_PATH: &str = "LARDER_PAGES_TEST_CHILD_PATH";

/// The other process of the tests below: opens what it is told to and says how that went.
#[test]
fn child() {
    let Ok(mode) = std::env::var(CHILD) else { return };
    let path = std::env::var_os(CHILD_PATH).unwrap();
    let path = Path::new(&path);
    if mode == "write-on" {
        return write_on(path);
    }
    let mode = if mode == "read" { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
    match vfs().open(path, &key(KEY), mode) {
        Ok(db) => println!("child: opened {}", dump(&db).is_ok()),
        Err(Error::InUse { .. }) => println!("child: in use"),
        Err(error) => println!("child: {error}"),
    }
}

/// Commits, and says so after each commit, until it is killed.
fn write_on(path: &Path) {
    let db = vfs().open(path, &key(KEY), OpenMode::ReadWrite).unwrap();
    db.execute_batch("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=40").unwrap();
    for i in db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap().. {
        db.execute("INSERT INTO t VALUES (?1, hex(randomblob(3000)))", [i]).unwrap();
        println!("committed {i}");
    }
}

fn order(mode: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["sharing::child", "--exact", "--nocapture"])
        .env(CHILD, mode)
        .env(CHILD_PATH, path);
    command
}

#[test]
fn a_killed_process_loses_nothing_that_it_said_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    create(&vfs, &path).execute_batch("CREATE TABLE t (i, a)").unwrap();
    let mut committed = 0;
    for round in 1..=5_i64 {
        let mut child = order("write-on", &path).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        while committed < round * 17 {
            let line = said.next().unwrap().unwrap();
            if let Some((_, i)) = line.split_once("committed ") {
                committed = i.parse::<i64>().unwrap() + 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let db = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
        let found = db.query_row("SELECT count(*), max(i) + 1 FROM t", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        let (count, next) = found.unwrap();
        assert!(count == next && count >= committed, "{count} of {committed}");
        assert!(is_intact(&db));
        committed = count;
    }
}

/// What another process says when it opens the database to `read` or to `write`.
pub(crate) fn in_another_process(mode: &str, path: &Path) -> String {
    let output = order(mode, path).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (_, said) = output.split_once("child: ").unwrap_or_else(|| panic!("{output}"));
    said.lines().next().unwrap().to_owned()
}

#[test]
fn a_second_process_is_told_that_the_database_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    assert_eq!(in_another_process("write", &path), "in use");
    assert_eq!(in_another_process("read", &path), "in use");
    // One connection of several closing must not give the lock away.
    drop(vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap());
    assert_eq!(in_another_process("write", &path), "in use");
    drop(db);
    assert_eq!(in_another_process("write", &path), "opened true");

    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(in_another_process("read", &path), "opened true");
    assert_eq!(in_another_process("write", &path), "in use");
    drop(reader);

    let writer = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(in_another_process("read", &path), "in use");
    writer.execute("INSERT INTO t VALUES (1)", []).unwrap();
    assert_eq!(dump(&reader).unwrap(), dump(&writer).unwrap());
}

#[test]
fn another_vfs_of_the_same_process_is_kept_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let _db = create(&vfs(), &path);
    let opened = vfs().open(&path, &key(KEY), OpenMode::ReadWrite);
    assert!(matches!(opened, Err(Error::InUse { .. })));
}

#[test]
fn readers_see_whole_transactions_while_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, padding TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200)
           INSERT INTO account SELECT i, 100, hex(randomblob(100)) FROM n;
         PRAGMA wal_autocheckpoint=20;",
    )
    .unwrap();
    let (start, done) = (Barrier::new(4), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let db = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
                db.execute_batch("PRAGMA cache_size=10").unwrap();
                start.wait();
                let mut rounds = 0;
                while !done.load(Ordering::Acquire) || rounds == 0 {
                    let sum = "SELECT sum(amount), count(padding) FROM account";
                    let sum = db.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?)));
                    assert_eq!(sum, Ok((20_000, 200)));
                    rounds += 1;
                }
            });
        }
        start.wait();
        for i in 0..300 {
            db.execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 UPDATE account SET amount = amount - 7 WHERE id = 1 + {i} % 200;
                 UPDATE account SET amount = amount + 7, padding = hex(randomblob(100))
                   WHERE id = 1 + (7 * {i} + 3) % 200;
                 COMMIT"
            ))
            .unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(is_intact(&db));
}

#[test]
fn writers_of_several_threads_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    create(&vfs, &path).execute_batch("CREATE TABLE t (a)").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (vfs, path) = (&vfs, &path);
            scope.spawn(move || {
                for i in 0..10 {
                    let db = vfs.open(path, &key(KEY), OpenMode::ReadWrite).unwrap();
                    db.execute("INSERT INTO t VALUES (?1)", [thread * 100 + i]).unwrap();
                }
            });
        }
    });
    let db = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    let count = db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(count, Ok(40));
    assert!(is_intact(&db));
}

/// Read-only means that not a byte changes, though the WAL was never checkpointed.
#[test]
fn reading_only_needs_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    let left = copy(&path, &dir.path().join("left"));
    assert!(wal_of(&left).exists());
    let before = files(left.parent().unwrap());
    {
        let reader = vfs.open(&left, &key(KEY), OpenMode::ReadOnly).unwrap();
        assert_eq!(dump(&reader).unwrap(), dump(&db).unwrap());
        assert!(is_intact(&reader));
        assert!(reader.execute("INSERT INTO t VALUES (2)", []).is_err());
        let checkpoint = reader.query_row("PRAGMA wal_checkpoint", [], |row| row.get::<_, i64>(0));
        assert!(checkpoint.is_err() || checkpoint == Ok(1));
    }
    assert_eq!(files(left.parent().unwrap()), before);

    // Without a WAL it makes none.
    drop(vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap());
    let before = files(left.parent().unwrap());
    assert_eq!(before.len(), 1);
    let reader = vfs.open(&left, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(dump(&reader).unwrap(), dump(&db).unwrap());
    assert_eq!(files(left.parent().unwrap()), before);
}

/// To write, the lock of a process that reads had to be given up and taken anew: between the two
/// anybody could write, and what the readers had recovered was never synced.
#[test]
fn a_database_that_is_open_for_reading_is_not_opened_for_writing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    create(&vfs, &path).execute_batch("CREATE TABLE t (a)").unwrap();
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    for mode in [OpenMode::ReadWrite, OpenMode::Create] {
        let refused = vfs.open(&path, &key(KEY), mode);
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    }
    assert_eq!(in_another_process("read", &path), "opened true");
    drop(reader);
    // The other way round they share it, and readers follow the writer.
    let writer = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    writer.execute("INSERT INTO t VALUES (3)", []).unwrap();
    assert_eq!(dump(&reader).unwrap(), dump(&writer).unwrap());
    drop(writer);
    let writer = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
    writer.execute("INSERT INTO t VALUES (4)", []).unwrap();
    assert_eq!(dump(&reader).unwrap(), dump(&writer).unwrap());
    assert!(Image::of(&path).wal.len() > 4096);
}
