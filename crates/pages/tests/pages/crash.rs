//! What is left after a process is gone without a checkpoint.

use crate::common::{KEY, copy, create, dump, is_intact, key, vfs, wal_of};
use larder_pages::OpenMode;

/// A shim that put its tag into SQLite's own buffer lost all of these without an error: the
/// frame's checksum, taken before xWrite, no longer matched what came back.
#[test]
fn every_committed_transaction_survives_the_loss_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    for i in 0..50 {
        db.execute("INSERT INTO t (text) VALUES (?1)", [format!("row {i}").repeat(30)]).unwrap();
    }
    let left = copy(&path, &dir.path().join("copy"));
    let again = vfs().open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
    assert!(dump(&again).unwrap().contains("row 49"));
    assert!(is_intact(&again));
    drop(again);
    assert!(!wal_of(&left).exists(), "the last connection checkpoints");
    let again = vfs().open(&left, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
}

/// With a cache of five pages a transaction spills into the WAL, overwrites its own frames there
/// and rewrites their checksums at the commit.
#[test]
fn of_a_spilled_transaction_all_or_nothing_survives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300)";
    db.execute_batch(&format!(
        "PRAGMA cache_size=5; CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, n INTEGER);
         CREATE INDEX by_text ON t (text);
         {rows} INSERT INTO t SELECT i, hex(randomblob(200)), 0 FROM n"
    ))
    .unwrap();
    let mut committed = dump(&db).unwrap();
    for end in ["ROLLBACK", "COMMIT", "ROLLBACK", "COMMIT"] {
        db.execute_batch("BEGIN").unwrap();
        for round in 0..4 {
            db.execute_batch(&format!(
                "UPDATE t SET n = n + 1, text = hex(randomblob(200)) WHERE id % 2 = {round} % 2;
                 SAVEPOINT s; DELETE FROM t WHERE id % 5 = {round}; ROLLBACK TO s;
                 UPDATE t SET n = n + 10"
            ))
            .unwrap();
            let left = copy(&path, &dir.path().join("copy"));
            let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
            assert_eq!(dump(&again).unwrap(), committed, "before {end}, in round {round}");
        }
        db.execute_batch(end).unwrap();
        let now = dump(&db).unwrap();
        assert_eq!(now == committed, end == "ROLLBACK");
        committed = now;
        let left = copy(&path, &dir.path().join("copy"));
        let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&again).unwrap(), committed, "after {end}");
        assert!(is_intact(&again));
    }
}

/// A crash while the WAL starts over leaves frames of the one before behind the new ones.
#[test]
fn frames_of_the_wal_before_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    for i in 0..30 {
        db.execute("INSERT INTO t VALUES (?1)", [i]).unwrap();
    }
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    let long = std::fs::metadata(wal_of(&path)).unwrap().len();
    for i in 30..35 {
        db.execute("INSERT INTO t VALUES (?1)", [i]).unwrap();
        assert_eq!(std::fs::metadata(wal_of(&path)).unwrap().len(), long, "it starts over");
        let left = copy(&path, &dir.path().join("copy"));
        let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
    }
}

/// Frames that a killed process wrote, and that were recovered, are appended to and survive.
#[test]
fn a_recovered_wal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.db");
    let vfs = vfs();
    let mut db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    let mut path = path;
    let mut open = Vec::new();
    for i in 0..5 {
        db.execute("INSERT INTO t VALUES (?1)", [i]).unwrap();
        let left = copy(&path, &dir.path().join(i.to_string()));
        let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
        open.push(std::mem::replace(&mut db, again));
        path = left;
    }
    assert!(is_intact(&db));
}

/// More frames than one region of the wal-index holds.
#[test]
fn a_wal_of_many_thousand_frames_is_read_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 9000)";
    db.execute_batch(&format!(
        "PRAGMA wal_autocheckpoint=0; CREATE TABLE t (id INTEGER PRIMARY KEY, a);
         {rows} INSERT INTO t SELECT i, zeroblob(3500) FROM n; UPDATE t SET a = id WHERE id > 8990"
    ))
    .unwrap();
    assert!(std::fs::metadata(wal_of(&path)).unwrap().len() > 9000 * 4120);
    let sum = "SELECT count(*), sum(length(a)), sum(CASE WHEN id > 8990 THEN a END) FROM t";
    let sum = |db: &rusqlite::Connection| {
        db.query_row(sum, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .unwrap()
    };
    let expected = (9000, 8990 * 3500 + 40, (8991..=9000).sum());
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(sum(&reader), expected);
    let left = copy(&path, &dir.path().join("copy"));
    let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(sum(&again), expected);
}

/// A transaction that goes back to before its first frame begins the WAL once more, under new
/// salts, over frames of its own that bear the old ones.
#[test]
fn a_transaction_may_begin_the_wal_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    create(&vfs, &path).execute_batch("CREATE TABLE t (a, b)").unwrap();
    let db = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300)
        INSERT INTO t SELECT i, hex(randomblob(200)) FROM n";
    db.execute_batch(&format!(
        "PRAGMA cache_size=5; BEGIN; SAVEPOINT s; {rows}; ROLLBACK TO s;
         INSERT INTO t VALUES (1, 'kept'); {rows}; COMMIT"
    ))
    .unwrap();
    let left = copy(&path, &dir.path().join("copy"));
    let again = vfs.open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
    assert!(is_intact(&again) && dump(&again).unwrap().contains("kept"));
}
