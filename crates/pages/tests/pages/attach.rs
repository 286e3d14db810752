//! Several databases on one connection, and compact copies.

use larder_pages::testing::Loss;
use larder_pages::{Error, OpenMode, open_in_memory};
use rusqlite::Connection;

use crate::common::{KEY, create, dump, files, is_intact, key, on_disk, vfs};
use crate::journals::opened_on;

const CANARY: &str = "canary in the second database";

fn fill(db: &Connection, schema: &str) {
    db.execute_batch(&format!(
        "CREATE TABLE {schema}.t (id INTEGER PRIMARY KEY, a, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
         INSERT INTO {schema}.t SELECT i, '{CANARY} ' || i, zeroblob(i * 9) FROM n;
         CREATE INDEX {schema}.i ON t (a)"
    ))
    .unwrap();
}

#[test]
fn an_attached_database_is_sealed_and_opens_alone_with_its_own_key() {
    let (disk, vfs) = on_disk("attached");
    let opened = opened_on(&disk);
    let db = create(&vfs, "/a.db".as_ref());
    let other = "/b %41'?#&=.db".as_ref();
    vfs.attach(&db, other, &key(9), OpenMode::Create, "an \"other\"").unwrap();
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    fill(&db, "\"an \"\"other\"\"\"");
    let mode = db.query_row("PRAGMA \"an \"\"other\"\"\".journal_mode", [], |row| row.get(0));
    assert_eq!(mode, Ok("wal".to_owned()));
    for path in disk.paths() {
        let (bytes, canary) = (disk.bytes(&path).unwrap(), CANARY.as_bytes());
        assert!(!bytes.windows(canary.len()).any(|part| part == canary), "{path:?}");
        assert!(!bytes.starts_with(b"SQLite"), "{path:?}");
    }
    db.execute_batch("DETACH \"an \"\"other\"\"\"").unwrap();
    drop(db);
    assert!(matches!(vfs.open(other, &key(KEY), OpenMode::ReadOnly), Err(Error::WrongKey { .. })));
    let alone = vfs.open(other, &key(9), OpenMode::ReadWrite).unwrap();
    assert!(is_intact(&alone) && dump(&alone).unwrap().contains(CANARY));
    let opened: Vec<_> = opened.lock().unwrap().iter().cloned().collect();
    assert_eq!(opened, ["/a.db", "/a.db-wal", "/b %41'?#&=.db", "/b %41'?#&=.db-wal"]);
}

#[test]
fn a_transaction_over_two_databases_commits_and_rolls_back_in_both() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let db = create(&vfs, &dir.path().join("a.db"));
    let path = dir.path().join("b.db");
    vfs.attach(&db, &path, &key(9), OpenMode::Create, "b").unwrap();
    db.execute_batch("PRAGMA cache_size=5; PRAGMA b.cache_size=5").unwrap();
    fill(&db, "main");
    db.execute_batch(
        "BEGIN; CREATE TABLE b.t AS SELECT * FROM main.t; DELETE FROM main.t WHERE id > 10;
         SAVEPOINT s; DELETE FROM b.t; ROLLBACK TO s; COMMIT;
         BEGIN; DELETE FROM main.t; DELETE FROM b.t; ROLLBACK",
    )
    .unwrap();
    let counts = "SELECT (SELECT count(*) FROM main.t), (SELECT count(*) FROM b.t)";
    let counts = db.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counts, Ok((10, 400)));

    // Another connection writes the same file meanwhile, and each sees the other's commits.
    let beside = vfs.open(&path, &key(9), OpenMode::ReadWrite).unwrap();
    beside.execute_batch("DELETE FROM t WHERE id > 100").unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM b.t", [], |row| row.get(0)), Ok(100));
    db.execute_batch("BEGIN; INSERT INTO b.t (a) VALUES (1)").unwrap();
    beside.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(beside.execute_batch("INSERT INTO t (a) VALUES (2)").is_err());
    db.execute_batch("COMMIT; VACUUM b").unwrap();
    assert!(is_intact(&beside) && is_intact(&db));
}

#[test]
fn what_cannot_be_attached_is_told_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let db = create(&vfs, &dir.path().join("a.db"));
    let (sealed, plain) = (dir.path().join("sealed.db"), dir.path().join("plain.db"));
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    create(&vfs, &sealed).execute_batch("CREATE TABLE t (a)").unwrap();
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let before = files(dir.path());
    let attach = |path, byte, mode| vfs.attach(&db, path, &key(byte), mode, "b");
    let missing = dir.path().join("missing.db");
    assert!(matches!(attach(&missing, 9, OpenMode::ReadWrite), Err(Error::Missing { .. })));
    assert!(matches!(attach(&sealed, 9, OpenMode::ReadWrite), Err(Error::WrongKey { .. })));
    assert!(matches!(attach(&plain, 9, OpenMode::Create), Err(Error::NotADatabase { .. })));
    db.execute_batch("BEGIN").unwrap();
    let error = attach(&sealed, KEY, OpenMode::ReadWrite).unwrap_err().to_string();
    assert!(error.contains("within a transaction"), "{error}");
    db.execute_batch("COMMIT").unwrap();
    let changed: Vec<_> = files(dir.path())
        .into_iter()
        .filter(|f| !before.contains(f))
        .map(|(name, _)| name)
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    let attached = "SELECT count(*) FROM pragma_database_list";
    assert_eq!(db.query_row(attached, [], |row| row.get(0)), Ok(1));

    attach(&sealed, KEY, OpenMode::ReadOnly).unwrap();
    let error = db.execute_batch("INSERT INTO b.t VALUES (1)").unwrap_err().to_string();
    assert!(error.contains("readonly"), "{error}");
    db.execute_batch("CREATE TABLE main.u AS SELECT * FROM b.t; DETACH b").unwrap();
}

/// The way that `attach` opens is for its own statement alone, not for SQL that knows a path.
#[test]
fn sql_alone_attaches_no_file_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let (vfs, path) = (vfs(), dir.path().join("b.db"));
    let db = create(&vfs, &dir.path().join("a.db"));
    for _ in 0..2 {
        let name: String = format!("{vfs:?}").split('"').nth(1).unwrap().to_owned();
        let path = path.display();
        for uri in [format!("{path}"), format!("file://{path}?vfs={name}&reserve=48")] {
            let error = db.execute_batch(&format!("ATTACH '{uri}' AS c")).unwrap_err().to_string();
            assert!(error.contains("authoriz"), "{error}");
            let into = format!("VACUUM INTO '{uri}'");
            let error = db.execute_batch(&into).unwrap_err().to_string();
            assert!(error.contains("authoriz"), "{error}");
        }
        if !dir.path().join("b.db").exists() {
            vfs.attach(&db, &dir.path().join("b.db"), &key(9), OpenMode::Create, "b").unwrap();
        }
    }
}

#[test]
fn a_connection_of_any_kind_attaches_only_what_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let plain = Connection::open(dir.path().join("plain")).unwrap();
    let memory = open_in_memory("attaching").unwrap();
    for (name, db) in [("of-plain.db", &plain), ("of-memory.db", &memory)] {
        let path = dir.path().join(name);
        vfs.attach(db, &path, &key(9), OpenMode::Create, "b").unwrap();
        fill(db, "b");
        db.execute_batch("DETACH b").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"canary"));
        assert!(is_intact(&vfs.open(&path, &key(9), OpenMode::ReadWrite).unwrap()));
    }
}

#[test]
fn a_compact_copy_is_sealed_and_whole_wherever_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let sealed = create(&vfs, &dir.path().join("sealed.db"));
    let plain = Connection::open(dir.path().join("plain")).unwrap();
    let memory = open_in_memory("compact").unwrap();
    for (name, db) in
        [("of-sealed.db", &sealed), ("of-plain.db", &plain), ("of-memory.db", &memory)]
    {
        fill(db, "main");
        db.execute_batch(
            "PRAGMA cache_size=5; PRAGMA user_version=7; DELETE FROM t WHERE id > 300;
             CREATE VIEW v AS SELECT a FROM t;
             CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT 1; END",
        )
        .unwrap();
        let path = dir.path().join(name);
        vfs.vacuum_into(db, &path, &key(9)).unwrap();
        let copy = vfs.open(&path, &key(9), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&copy).unwrap(), dump(db).unwrap(), "{name}");
        assert!(is_intact(&copy));
        let facts = "SELECT (SELECT user_version FROM pragma_user_version), \
                     (SELECT freelist_count FROM pragma_freelist_count)";
        let facts = copy.query_row(facts, [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(facts, Ok((7, 0)), "{name}");
        copy.execute_batch("DELETE FROM t WHERE id > 200; VACUUM").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"canary"));

        let error = vfs.vacuum_into(db, &path, &key(9)).unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
        let wrong = vfs.vacuum_into(db, &path, &key(8));
        assert!(matches!(wrong, Err(Error::WrongKey { .. })), "{wrong:?}");
        db.execute_batch("BEGIN").unwrap();
        assert!(vfs.vacuum_into(db, &dir.path().join("no.db"), &key(9)).is_err());
        db.execute_batch("COMMIT").unwrap();
        assert!(!dir.path().join("no.db").exists());
    }
    let found = files(dir.path());
    assert!(found.iter().all(|(name, _)| !name.contains("journal")));

    let other = Connection::open_in_memory().unwrap();
    other.execute_batch("PRAGMA page_size=1024; CREATE TABLE t (a)").unwrap();
    let error = vfs.vacuum_into(&other, &dir.path().join("small.db"), &key(9)).unwrap_err();
    assert!(error.to_string().contains("4096"), "{error}");
}

#[test]
fn a_compact_copy_survives_a_power_failure_once_it_is_told() {
    let (disk, vfs) = on_disk("compact-crash");
    let db = create(&vfs, "/a.db".as_ref());
    fill(&db, "main");
    let content = dump(&db).unwrap();
    vfs.vacuum_into(&db, "/copy.db".as_ref(), &key(9)).unwrap();
    disk.crash(Loss::Everything);
    drop(db);
    for (path, byte) in [("/copy.db", 9), ("/a.db", KEY)] {
        let db = vfs.open(path.as_ref(), &key(byte), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&db).unwrap(), content, "{path}");
        assert!(is_intact(&db));
    }
}

/// A pragma without a schema asks the main database of its connection, and changes the journal of
/// all. Attached to a connection in memory, a database was written in place, without any journal;
/// and without locks nothing tells where a transaction begins.
#[test]
fn no_pragma_of_another_connection_has_a_database_written_in_place() {
    let (disk, vfs) = on_disk("attached-to-memory");
    let path = "/a.db".as_ref();
    create(&vfs, path).execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')").unwrap();
    let attached = || {
        let db = open_in_memory("attached-to-memory").unwrap();
        vfs.attach(&db, path, &key(KEY), OpenMode::ReadWrite, "s").unwrap();
        db
    };
    let mut inserted = 0;
    for mode in ["memory", "off", "delete", "truncate", "persist"] {
        let (db, before) = (attached(), disk.bytes(path));
        // It answers before it commits: which of the two statements fails depends on when it ends.
        let changed = db.execute_batch(&format!("PRAGMA journal_mode={mode}"));
        let written = db.execute_batch("INSERT INTO s.t VALUES ('in the WAL')");
        inserted += usize::from(written.is_ok());
        assert!(disk.bytes(path) == before, "{mode}: {changed:?}, {written:?}");
        drop(db);
        attached().execute_batch("UPDATE s.t SET a = a").unwrap();
    }
    let db = attached();
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
    db.execute_batch("INSERT INTO s.t VALUES ('unlocked')").unwrap_err();
    drop(db);
    attached().execute_batch("INSERT INTO s.t VALUES ('locked')").unwrap();
    let content = dump(&create(&vfs, path)).unwrap();
    assert!(content.contains("\"kept\"") && content.contains("\"locked\""), "{content}");
    assert_eq!(content.matches("in the WAL").count(), inserted);
    assert!(!content.contains("unlocked"), "{content}");
}
