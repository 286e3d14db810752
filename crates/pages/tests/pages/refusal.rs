//! What is refused, and that nothing happens then.

use std::time::Duration;

use larder_pages::{Error, OpenMode, Vfs, open_in_memory};
use rusqlite::Connection;
use rusqlite::backup::Backup;

use crate::common::{KEY, copy, create, dump, files, is_intact, key, vfs};

#[test]
fn a_wrong_key_is_told_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    let with_wal = copy(&path, &dir.path().join("with-wal"));
    assert!(matches!(vfs.open(&path, &key(8), OpenMode::ReadWrite), Err(Error::WrongKey { .. })));
    assert!(vfs.open(&path, &key(KEY), OpenMode::ReadWrite).is_ok());
    let content = dump(&db).unwrap();
    drop(db);
    for path in [path, with_wal] {
        let before = files(path.parent().unwrap());
        for mode in [OpenMode::Create, OpenMode::ReadWrite, OpenMode::ReadOnly] {
            let error = vfs.open(&path, &key(8), mode).unwrap_err();
            assert!(matches!(error, Error::WrongKey { .. }), "{error}");
            assert_eq!(files(path.parent().unwrap()), before);
        }
        let db = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&db).unwrap(), content);
    }
}

#[test]
fn a_missing_database_is_not_created_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    for mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        assert!(matches!(vfs().open(&path, &key(KEY), mode), Err(Error::Missing { .. })));
    }
    assert!(files(dir.path()).is_empty());
    for path in [dir.path().join("no folder/a.db"), dir.path().to_owned()] {
        let error = vfs().open(&path, &key(KEY), OpenMode::Create).unwrap_err();
        assert!(matches!(error, Error::CannotOpen { .. }), "{error}");
    }
}

struct Zeros;

impl larder_types::Entropy for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

#[test]
fn without_a_key_there_is_no_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = Vfs::register("keyless", None, Box::new(Zeros)).unwrap();
    drop(create(&vfs, &path));
    let flags = rusqlite::OpenFlags::default();
    assert!(Connection::open_with_flags_and_vfs(&path, flags, c"keyless").is_err());
    let uri = format!("file:{}?vfs=keyless&key=07070707", path.display());
    assert!(Connection::open(uri).is_err());
    assert!(matches!(
        Vfs::register("keyless", None, Box::new(Zeros)),
        Err(Error::NameTaken { .. })
    ));
    assert!(matches!(
        Vfs::register("other", Some("none such"), Box::new(Zeros)),
        Err(Error::NoLowerVfs { .. })
    ));
}

#[test]
fn no_statement_writes_content_to_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    let out = dir.path().join("out.db").display().to_string();
    for name in [out.clone(), format!("file:{out}"), format!("file:{out}?vfs=unix")] {
        for sql in ["ATTACH ?1 AS b", "VACUUM INTO ?1"] {
            assert!(db.execute(sql, [&name]).is_err(), "{sql} {name}");
            let literal = sql.replace("?1", &format!("'{name}'"));
            assert!(db.execute(&literal, []).is_err(), "{literal}");
        }
    }
    for pragma in [
        "journal_mode=DELETE",
        "journal_mode=TRUNCATE",
        "journal_mode=OFF",
        "locking_mode=EXCLUSIVE",
        "synchronous=OFF",
        "temp_store=FILE",
        "temp_store_directory='/tmp'",
    ] {
        let error = db.execute_batch(&format!("PRAGMA {pragma}")).unwrap_err().to_string();
        assert!(error.contains("an encrypted database"), "{pragma}: {error}");
    }
    db.execute_batch("PRAGMA synchronous=EXTRA; PRAGMA journal_mode=wal").unwrap();
    let names: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.db", "a.db-wal"]);
    db.execute_batch("ATTACH ':memory:' AS m; CREATE TABLE m.t AS SELECT * FROM main.t").unwrap();
}

#[test]
fn a_copy_goes_under_another_key_by_backup() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let db = create(&vfs, &dir.path().join("a.db"));
    db.execute_batch("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, zeroblob(9000))").unwrap();
    let to = dir.path().join("copy.db");
    let mut copy = vfs.open(&to, &key(9), OpenMode::Create).unwrap();
    Backup::new(&db, &mut copy).unwrap().run_to_completion(3, Duration::default(), None).unwrap();
    drop(copy);
    assert!(matches!(vfs.open(&to, &key(KEY), OpenMode::ReadOnly), Err(Error::WrongKey { .. })));
    let copy = vfs.open(&to, &key(9), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&copy).unwrap(), dump(&db).unwrap());
    assert!(is_intact(&copy));
}

/// Its pages use the bytes where ours have nonce and tag; SQLite alone would copy them in and
/// report success.
#[test]
fn a_backup_from_a_database_without_reserve_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE kept (a); INSERT INTO kept VALUES (1)").unwrap();
    let before = dump(&db).unwrap();
    let plain = Connection::open_in_memory().unwrap();
    plain.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(9000))").unwrap();
    let copied = Backup::new(&plain, &mut db)
        .and_then(|backup| backup.run_to_completion(100, Duration::default(), None));
    assert!(copied.is_err());
    drop(db);
    let db = vfs().open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&db).unwrap(), before);
    assert!(is_intact(&db));
}

#[test]
fn a_journal_beside_a_database_is_not_played_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    drop(create(&vfs, &path));
    let journal = dir.path().join("a.db-journal");
    std::fs::write(&journal, [0xd9, 0xd5, 0x05, 0xf9].repeat(2000)).unwrap();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(is_intact(&db));
    assert_eq!(std::fs::read(journal).unwrap().len(), 8000);
}

#[test]
fn memory_is_shared_by_name_and_gone_with_its_last_connection() {
    let (a, b) = (open_in_memory("näme/?&%").unwrap(), open_in_memory("näme/?&%").unwrap());
    a.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(dump(&a).unwrap(), dump(&b).unwrap());
    assert!(dump(&open_in_memory("other").unwrap()).unwrap().is_empty());
    drop((a, b));
    assert!(dump(&open_in_memory("näme/?&%").unwrap()).unwrap().is_empty());
}
