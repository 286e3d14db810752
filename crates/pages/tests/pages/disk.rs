//! What an onlooker finds on disk.

use std::path::Path;

use rusqlite::Connection;

use crate::common::{KEY, create, files, is_intact, key, on_disk, vfs};
use larder_pages::OpenMode;

const CANARY: &str = "canary-Zw3kQ9";

/// A life in which SQLite would use every kind of file: spills, savepoints, sorts, temporary
/// tables, an index build, a rollback, a vacuum.
fn live(db: &Connection) {
    db.execute_batch(&format!(
        "PRAGMA cache_size=5;
         CREATE TABLE {name} (id INTEGER PRIMARY KEY, text TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000)
           INSERT INTO {name} (text) SELECT i || ' {CANARY} ' || hex(randomblob(60)) FROM n;
         CREATE INDEX by_text ON {name} (text);
         CREATE TEMP TABLE held AS SELECT * FROM {name} ORDER BY text DESC;
         BEGIN; SAVEPOINT a; UPDATE {name} SET text = text || '{CANARY}'; ROLLBACK TO a;
         DELETE FROM {name} WHERE id % 3 = 0; COMMIT;
         BEGIN; DELETE FROM {name}; ROLLBACK;",
        name = "\"canary-Zw3kQ9 table\"",
    ))
    .unwrap();
    let sorted = "SELECT group_concat(text) FROM (SELECT text FROM held ORDER BY random())";
    db.query_row(sorted, [], |_| Ok(())).unwrap();
    db.execute_batch("VACUUM").unwrap();
    db.execute(r#"INSERT INTO "canary-Zw3kQ9 table" (text) VALUES (?1)"#, [CANARY]).unwrap();
}

fn canaries(dir: &Path) -> usize {
    let found = |bytes: &[u8]| {
        bytes.windows(CANARY.len()).filter(|window| *window == CANARY.as_bytes()).count()
    };
    files(dir).iter().map(|(name, bytes)| found(bytes) + found(name.as_bytes())).sum()
}

/// Bits per byte: 8 for random bytes.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = f64::from(u32::try_from(bytes.len()).unwrap());
    let parts = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / total);
    -parts.map(|part| part * part.log2()).sum::<f64>()
}

#[test]
fn nothing_of_the_content_is_in_any_file() {
    let (plain, sealed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let control = Connection::open(plain.path().join("a.db")).unwrap();
    control.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    live(&control);
    assert!(canaries(plain.path()) > 1000, "the search finds what is there");

    let db = create(&vfs(), &sealed.path().join("a.db"));
    live(&db);
    let with_wal = files(sealed.path());
    assert_eq!(with_wal.len(), 2, "a database and its WAL, nothing else");
    assert_eq!(canaries(sealed.path()), 0);
    for (name, bytes) in &with_wal {
        // Of 4 KiB even perfect randomness shows only 7.95.
        let expected = if bytes.len() > 100_000 { 7.99 } else { 7.93 };
        assert!(entropy(bytes) > expected, "{name}: {}", entropy(bytes));
    }
    assert!(is_intact(&db));
    drop(db);
    let closed = files(sealed.path());
    assert_eq!(closed.len(), 1);
    assert_eq!(canaries(sealed.path()), 0);
    assert!(entropy(&closed[0].1) > 7.99);
}

#[test]
fn no_page_is_written_twice_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE t (x)").unwrap();
    let content = |db: &Connection| {
        db.execute_batch("DELETE FROM t; INSERT INTO t VALUES (1)").unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        std::fs::read(&path).unwrap()
    };
    let (before, after) = (content(&db), content(&db));
    assert_eq!(before.len(), after.len());
    // Page 2 has the same rows, sealed anew.
    assert_ne!(before[4096..], after[4096..]);
    assert_eq!(before[..24], after[..24], "the id and the clear bytes stay");
}

/// A checkpoint that a reader holds back skips pages which were changed since, and leaves holes
/// that the file system fills with zeros. On the shim nothing on disk is zeros, so zeros are never
/// taken for a page.
#[test]
fn holes_are_filled_with_sealed_pages() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = |path: &Path, db: &Connection, reader: &Connection| {
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        db.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20)
             INSERT INTO t SELECT i, zeroblob(3000) FROM n",
        )
        .unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        db.execute_batch("UPDATE t SET a = 1 WHERE id IN (5, 6, 7)").unwrap();
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        let bytes = std::fs::read(path).unwrap();
        bytes.chunks(4096).filter(|page| page.iter().all(|byte| *byte == 0)).count()
    };
    let path = dir.path().join("plain.db");
    let plain = || Connection::open(&path).unwrap();
    let db = plain();
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    assert_eq!(zeros(&path, &db, &plain()), 3, "there are holes to fill");

    let path = dir.path().join("sealed.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(zeros(&path, &db, &reader), 0);
    assert!(is_intact(&db) && is_intact(&reader));
    reader.execute_batch("COMMIT").unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert!(is_intact(&db) && is_intact(&reader));
}

/// SQLite writes over frames that it spilled, and renews the checksums of those behind at the
/// commit. That once read the rest of the WAL for each of them: 12 million reads for 100,000 rows.
#[test]
fn a_transaction_that_spills_takes_calls_in_proportion_to_its_pages() {
    let (disk, vfs) = on_disk("spill");
    let db = create(&vfs, Path::new("/a.db"));
    db.execute_batch("PRAGMA cache_size=5; CREATE TABLE t (k INTEGER, a); CREATE INDEX i ON t (k)")
        .unwrap();
    let before = disk.calls();
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO t SELECT i * 7919 % 5003, zeroblob(500) FROM n",
    )
    .unwrap();
    let frames = disk.bytes("/a.db-wal").unwrap().len() / 4120;
    let calls = usize::try_from(disk.calls() - before).unwrap();
    assert!(frames > 500, "{frames} frames");
    assert!(calls < 10 * 5000, "{calls} calls for 5,000 rows on {frames} frames");
}
