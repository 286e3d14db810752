//! No way leads to a file that is neither a database nor its WAL: each is refused, or what it needs
//! stays in memory. The disk below notes every file that is opened.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use larder_pages::testing::{Disk, Operation, Outcome};
use larder_pages::{OpenMode, Vfs};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, OpenFlags};

use crate::common::{KEY, is_intact, key, on_disk};

type Opened = Arc<Mutex<BTreeSet<String>>>;

/// The names of all files that are opened on `disk` from now on.
pub(crate) fn opened_on(disk: &Disk) -> Opened {
    let opened = Opened::default();
    let noted = Arc::clone(&opened);
    disk.on_call(move |call| {
        if call.operation == Operation::Open {
            noted.lock().unwrap().insert(call.path.display().to_string());
        }
        Outcome::Go
    });
    opened
}

fn names(opened: &Opened) -> Vec<String> {
    opened.lock().unwrap().iter().cloned().collect()
}

fn sealed(name: &str) -> (Disk, Vfs, Connection, Opened) {
    let (disk, vfs) = on_disk(name);
    let opened = opened_on(&disk);
    let db = vfs.open("/a.db".as_ref(), &key(KEY), OpenMode::Create).unwrap();
    vfs.attach(&db, "/b.db".as_ref(), &key(9), OpenMode::Create, "b").unwrap();
    db.execute_batch(FILL).unwrap();
    (disk, vfs, db, opened)
}

const FILL: &str = "PRAGMA cache_size=5; PRAGMA cache_spill=1;
    CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
      INSERT INTO t SELECT i, i * 7919 % 3001 || hex(zeroblob(150)), i % 10 FROM n;";

/// What SQLite would do with a journal or a temporary file, and does here without.
const IN_MEMORY: &[&str] = &[
    "PRAGMA threads=4",
    "SELECT a FROM t ORDER BY substr(a, 5), a DESC",
    "SELECT DISTINCT substr(a, 1, 9) FROM t UNION SELECT a FROM t EXCEPT SELECT b FROM t",
    "SELECT a, sum(b) OVER (PARTITION BY b ORDER BY a) FROM t GROUP BY a ORDER BY 2",
    "CREATE INDEX wide ON t (b, a)",
    "REINDEX",
    "WITH x AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM x JOIN x AS y USING (a)",
    "CREATE TEMP TABLE aside AS SELECT * FROM t ORDER BY a",
    "CREATE INDEX temp.aside_a ON aside (a)",
    "BEGIN; DELETE FROM aside; ROLLBACK",
    "CREATE TEMP TRIGGER tt AFTER DELETE ON main.t BEGIN UPDATE aside SET b = 0; END",
    "DELETE FROM t WHERE id < 5",
    "DROP TRIGGER tt",
    "CREATE TABLE u (a UNIQUE); CREATE TRIGGER g AFTER INSERT ON u BEGIN
       UPDATE t SET b = b + 1 WHERE id % 2; END",
    "BEGIN; SAVEPOINT a; UPDATE t SET a = a || 'x'; SAVEPOINT b; DELETE FROM t; ROLLBACK TO b;
     ROLLBACK TO a; COMMIT",
    "CREATE VIRTUAL TABLE f USING fts5(x)",
    "INSERT INTO f SELECT a || ' ' || b FROM t; INSERT INTO f SELECT 'w' || id FROM t",
    "INSERT INTO f(f) VALUES ('optimize'); INSERT INTO f(f) VALUES ('rebuild')",
    "INSERT INTO f(f, rank) VALUES ('merge', -500)",
    "ALTER TABLE t ADD COLUMN c; ALTER TABLE t DROP COLUMN c",
    "BEGIN; INSERT INTO u VALUES ('in both'); CREATE TABLE b.u AS SELECT * FROM t; COMMIT",
    "ATTACH '' AS unnamed; CREATE TABLE unnamed.x AS SELECT * FROM t; BEGIN;
     DELETE FROM unnamed.x; DELETE FROM b.u; INSERT INTO u VALUES (2); COMMIT; DETACH unnamed",
    "ATTACH ':memory:' AS m; PRAGMA m.journal_mode=DELETE; CREATE TABLE m.x AS SELECT * FROM t;
     BEGIN; DELETE FROM m.x; ROLLBACK; DETACH m",
    "PRAGMA temp.journal_mode=DELETE",
    "PRAGMA temp.locking_mode=EXCLUSIVE",
    "UPDATE aside SET a = a || 'y'",
    "PRAGMA auto_vacuum=INCREMENTAL",
    "VACUUM",
    "VACUUM b",
    "DELETE FROM t WHERE id % 3; PRAGMA incremental_vacuum",
    "ANALYZE; PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA page_size=8192; VACUUM",
    "PRAGMA mmap_size=1000000",
    "SELECT count(*) FROM t",
];

const REFUSED: &[(&str, &str)] = &[
    ("PRAGMA journal_mode=DELETE", "has a WAL"),
    ("PRAGMA journal_mode=TRUNCATE", "has a WAL"),
    ("PRAGMA journal_mode=PERSIST", "has a WAL"),
    ("PRAGMA journal_mode=MEMORY", "has a WAL"),
    ("PRAGMA journal_mode=OFF", "has a WAL"),
    ("PRAGMA main.journal_mode=DELETE", "has a WAL"),
    ("PRAGMA b.journal_mode=PERSIST", "has a WAL"),
    ("SELECT * FROM pragma_journal_mode('delete')", "unknown database"),
    ("PRAGMA locking_mode=EXCLUSIVE", "locking_mode=NORMAL"),
    ("PRAGMA b.locking_mode=EXCLUSIVE", "locking_mode=NORMAL"),
    ("PRAGMA synchronous=0", "synchronous=FULL"),
    ("PRAGMA b.synchronous=OFF", "synchronous=FULL"),
    ("PRAGMA temp_store=FILE", "temp_store=MEMORY"),
    ("PRAGMA temp_store=DEFAULT", "temp_store=MEMORY"),
    ("PRAGMA temp_store=0", "temp_store=MEMORY"),
    ("PRAGMA b.temp_store=1", "authoriz"),
    ("PRAGMA temp.temp_store=FILE", "authoriz"),
    ("PRAGMA temp.fullfsync=OFF", "authoriz"),
    ("PRAGMA temp_store_directory='/elsewhere'", "no files but its own"),
    ("PRAGMA temp.temp_store_directory='/elsewhere'", "authoriz"),
    ("PRAGMA data_store_directory='/elsewhere'", "no files but its own"),
    ("ATTACH '/c.db' AS c", "authoriz"),
    ("ATTACH 'file:/c.db?vfs=unix' AS c", "authoriz"),
    ("ATTACH 'file:/a.db?nolock=1' AS c", "authoriz"),
    ("ATTACH 'file:/a.db?immutable=1&mode=ro' AS c", "authoriz"),
    ("ATTACH 'file:c?mode=memory&cache=shared' AS c", "authoriz"),
    ("ATTACH '/c' || '.db' AS c", "authoriz"),
    ("VACUUM INTO '/c.db'", "authoriz"),
    ("VACUUM b INTO 'file:/c.db?vfs=unix&reserve=0'", "authoriz"),
    ("SELECT load_extension('x')", "authoriz"),
    (
        "INSERT INTO t (id, a) SELECT id + 9000, CASE id WHEN 2500 THEN 'same' ELSE id || 'n' END
        FROM t UNION ALL SELECT 99999, '17n'",
        "UNIQUE",
    ),
    ("UPDATE t SET id = id + 1 WHERE id > 100", "UNIQUE"),
];

/// Runs every statement to its end.
fn run(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut batch = Batch::new(db, sql);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(())
}

#[test]
fn what_sqlite_writes_aside_stays_in_memory() {
    let (_disk, _vfs, db, opened) = sealed("aside");
    for sql in IN_MEMORY {
        run(&db, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let facts: (i64, String) = db
        .query_row(
            "SELECT page_size, journal_mode FROM pragma_page_size, pragma_journal_mode",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(facts, (4096, "wal".to_owned()));
    assert!(is_intact(&db));
    assert_eq!(names(&opened), ["/a.db", "/a.db-wal", "/b.db", "/b.db-wal"]);
}

#[test]
fn what_would_leave_memory_is_refused_with_a_reason() {
    let (disk, _vfs, db, opened) = sealed("refused");
    for (sql, reason) in REFUSED {
        let error = run(&db, sql).expect_err(sql).to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
    assert!(is_intact(&db));
    let four = ["/a.db", "/a.db-wal", "/b.db", "/b.db-wal"];
    assert_eq!(names(&opened), four);
    let there: Vec<_> = disk.paths().iter().map(|path| path.display().to_string()).collect();
    assert_eq!(there, four);
}

/// SQLite turns a database into bytes in memory. To put bytes in a database's place it attaches
/// them, which is refused.
#[test]
fn a_database_becomes_bytes_but_bytes_do_not_take_its_place() {
    let (_disk, _vfs, mut db, opened) = sealed("bytes");
    let before = names(&opened);
    let bytes = db.serialize("main").unwrap().to_vec();
    for schema in ["main", "b", "temp"] {
        let put = db.deserialize_read_exact(schema, bytes.as_slice(), bytes.len(), false);
        assert!(put.is_err(), "{schema}");
    }
    run(&db, "BEGIN; UPDATE t SET b = 7; ROLLBACK; UPDATE t SET b = 8").unwrap();
    assert_eq!(names(&opened), before);
    assert!(is_intact(&db));
}

/// A path is never a URI, whatever it looks like.
#[test]
fn parameters_in_a_path_are_part_of_its_name() {
    let (disk, vfs) = on_disk("parameters");
    let opened = opened_on(&disk);
    let path = "file:/x.db?vfs=unix&nolock=1&immutable=1&psow=0&mode=memory";
    let db = vfs.open(path.as_ref(), &key(KEY), OpenMode::Create).unwrap();
    let other = "/y.db?mode=memory&nolock=1&psow=0";
    vfs.attach(&db, other.as_ref(), &key(9), OpenMode::Create, "b").unwrap();
    run(&db, FILL).unwrap();
    vfs.vacuum_into(&db, "/z.db?reserve=0&vfs=unix".as_ref(), &key(9)).unwrap();
    drop(db);
    let expected = [&format!("/{path}"), other, "/z.db?reserve=0&vfs=unix"];
    let there: Vec<_> = disk.paths().iter().map(|path| path.display().to_string()).collect();
    assert_eq!(there.len(), 3, "{there:?}");
    for path in expected {
        assert!(there.contains(&path.to_owned()), "{path} in {there:?}");
        let bytes = disk.bytes(path).unwrap();
        assert!(bytes.len() >= 4096 && bytes.len() % 4096 == 0);
        assert!(!bytes.windows(12).any(|part| part == b"CREATE TABLE"));
    }
    for name in names(&opened) {
        assert!(expected.iter().any(|path| name.trim_end_matches("-wal") == *path), "{name}");
    }
}

/// The noting itself: plain SQLite over the same disk does open journals, and asks for files
/// without a name.
#[test]
fn without_the_shim_there_are_journals() {
    let (disk, _vfs) = on_disk("journals-control");
    let opened = opened_on(&disk);
    let name = disk.name();
    let db = Connection::open_with_flags_and_vfs("/p.db", OpenFlags::default(), name).unwrap();
    run(&db, FILL).unwrap();
    assert_eq!(names(&opened), ["/p.db", "/p.db-journal"]);
    run(&db, "PRAGMA temp_store=FILE; PRAGMA temp.cache_size=2").unwrap();
    let error = run(&db, "CREATE TEMP TABLE aside AS SELECT * FROM t ORDER BY a").unwrap_err();
    assert!(error.to_string().contains("unable to open"), "{error}");
}
