//! SQLite's backup API, from every kind of database into every other.
//!
//! Into a sealed one only what has the reserve goes; out of one it goes anywhere that the app has
//! opened itself: a backup into a plain connection is an export in the clear.

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_pages::{OpenMode, Vfs, open_in_memory};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};

use crate::common::{dump, is_intact, key, vfs};

const CANARY: &str = "canary-backup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sealed(u8),
    Plain,
    /// Plain, with the bytes at the end of each page left free.
    PlainReserved,
    Memory,
}

const KINDS: [Kind; 5] =
    [Kind::Sealed(1), Kind::Sealed(2), Kind::Plain, Kind::PlainReserved, Kind::Memory];

struct House {
    dir: tempfile::TempDir,
    vfs: Vfs,
}

impl House {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), vfs: vfs() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str, kind: Kind) -> Connection {
        let path = self.path(name);
        let db = match kind {
            Kind::Sealed(byte) => self.vfs.open(&path, &key(byte), OpenMode::Create).unwrap(),
            Kind::Memory => Connection::open_in_memory().unwrap(),
            Kind::Plain => Connection::open(&path).unwrap(),
            Kind::PlainReserved => {
                if !path.exists() {
                    let target = format!("file:{}?reserve=48", path.display());
                    let empty = Connection::open_in_memory().unwrap();
                    empty.execute("VACUUM INTO ?1", [target]).unwrap();
                }
                Connection::open(&path).unwrap()
            }
        };
        db.execute_batch("PRAGMA cache_size=10").unwrap();
        db
    }
}

fn fill(db: &Connection, table: &str) {
    db.execute_batch(&format!(
        "CREATE TABLE {table} (id INTEGER PRIMARY KEY, a, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
           INSERT INTO {table} SELECT i, '{CANARY} ' || i, zeroblob(i * 7) FROM n;
         CREATE INDEX {table}_a ON {table} (a)"
    ))
    .unwrap();
}

fn copy_all(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    Backup::new(from, to)?.run_to_completion(7, Duration::ZERO, None)
}

/// Whether `path` or its WAL shows what is in it.
fn shows(path: &Path) -> bool {
    let shows = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes())
    };
    shows(path) || shows(&crate::common::wal_of(path))
}

#[test]
fn every_kind_into_every_other() {
    for from_kind in KINDS {
        for to_kind in KINDS {
            for content_before in [false, true] {
                let house = House::new();
                let case = format!("{from_kind:?} into {to_kind:?}, {content_before}");
                let from = house.open("from", from_kind);
                fill(&from, "t");
                let mut to = house.open("to", to_kind);
                if content_before {
                    fill(&to, "kept");
                    fill(&to, "kept_too");
                }
                let before = dump(&to).unwrap();
                let has_reserve = !matches!(from_kind, Kind::Plain | Kind::Memory);
                let refused = matches!(to_kind, Kind::Sealed(_)) && !has_reserve;
                let copied = copy_all(&from, &mut to);
                if refused {
                    let error = copied.expect_err(&case);
                    let code = error.sqlite_error().unwrap().extended_code;
                    assert_eq!(code, ffi::SQLITE_IOERR_WRITE, "{case}: {error}");
                } else {
                    copied.unwrap_or_else(|error| panic!("{case}: {error}"));
                }
                let expected = if refused { before } else { dump(&from).unwrap() };
                assert_eq!(dump(&to).unwrap(), expected, "{case}");
                to.execute_batch("CREATE TABLE later (a); INSERT INTO later VALUES (1)").unwrap();
                assert!(is_intact(&to), "{case}");
                if to_kind != Kind::Memory {
                    drop(to);
                    to = house.open("to", to_kind);
                    assert!(is_intact(&to), "{case}");
                    let later = to.query_row("SELECT a FROM later", [], |row| row.get(0));
                    assert_eq!(later, Ok(1), "{case}");
                    let clear = !matches!(to_kind, Kind::Sealed(_));
                    assert_eq!(shows(&house.path("to")), clear, "{case}");
                }
            }
        }
    }
}

/// What the source's own connection writes goes into the copy; what another writes makes the copy
/// begin anew.
#[test]
fn a_source_that_is_written_meanwhile_is_copied_as_it_is_in_the_end() {
    for (to_kind, by_another) in [
        (Kind::Sealed(2), false),
        (Kind::Sealed(2), true),
        (Kind::Memory, true),
        (Kind::Plain, true),
    ] {
        let house = House::new();
        let from = house.open("from", Kind::Sealed(1));
        fill(&from, "t");
        let writer = by_another.then(|| house.open("from", Kind::Sealed(1)));
        let mut to = house.open("to", to_kind);
        let backup = Backup::new(&from, &mut to).unwrap();
        let mut steps = 0;
        loop {
            if backup.step(5).unwrap() == StepResult::Done {
                break;
            }
            steps += 1;
            if steps < 12 {
                let writer = writer.as_ref().unwrap_or(&from);
                let sql = format!(
                    "UPDATE t SET a = a || '-{steps}' WHERE id % 12 = {steps};
                     DELETE FROM t WHERE id = {steps} * 5;
                     INSERT INTO t (b) VALUES (zeroblob(20000))"
                );
                writer.execute_batch(&sql).unwrap();
            }
        }
        drop(backup);
        assert!(steps >= 12, "{steps} steps");
        assert_eq!(dump(&to).unwrap(), dump(&from).unwrap(), "{to_kind:?} {by_another}");
        assert!(is_intact(&to));
    }
}

#[test]
fn an_abandoned_backup_leaves_what_was_there() {
    for to_kind in [Kind::Sealed(2), Kind::Sealed(1), Kind::Memory] {
        let house = House::new();
        let from = house.open("from", Kind::Sealed(1));
        fill(&from, "t");
        let mut to = house.open("to", to_kind);
        fill(&to, "kept");
        let before = dump(&to).unwrap();
        let beside = house.open("to", to_kind);
        for steps in [1, 3, 9] {
            let backup = Backup::new(&from, &mut to).unwrap();
            for _ in 0..steps {
                assert_eq!(backup.step(4).unwrap(), StepResult::More);
            }
            if to_kind != Kind::Memory {
                assert_eq!(
                    dump(&beside).unwrap(),
                    before,
                    "{to_kind:?}: readers see nothing of it"
                );
            }
            drop(backup);
            assert_eq!(dump(&to).unwrap(), before, "{to_kind:?} after {steps} steps");
            assert!(is_intact(&to));
        }
        to.execute_batch("INSERT INTO kept (a) VALUES ('later')").unwrap();
        copy_all(&from, &mut to).unwrap();
        assert_eq!(dump(&to).unwrap(), dump(&from).unwrap());
    }
}

/// SQLite's shared memory has no WAL, and takes a copy that says it has one for a file that it
/// cannot open, of a plain database as of a sealed one. `:memory:` reads both.
#[test]
fn shared_memory_does_not_read_a_copy_that_had_a_wal() {
    let house = House::new();
    let plain = house.open("plain", Kind::Plain);
    plain.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    for (name, from) in [("a", &plain), ("b", &house.open("sealed", Kind::Sealed(1)))] {
        fill(from, "t");
        let mut shared = open_in_memory(name).unwrap();
        copy_all(from, &mut shared).unwrap();
        let error = dump(&shared).unwrap_err().sqlite_error().unwrap().extended_code;
        assert_eq!(error, ffi::SQLITE_CANTOPEN);
        let mut alone = Connection::open_in_memory().unwrap();
        copy_all(from, &mut alone).unwrap();
        assert_eq!(dump(&alone).unwrap(), dump(from).unwrap());
    }
}

/// What a backup cannot do for a database without the reserve, `vacuum_into` does.
#[test]
fn a_plain_database_is_brought_in_by_a_compact_copy() {
    let house = House::new();
    for (name, kind) in [("plain", Kind::Plain), ("memory", Kind::Memory)] {
        let from = house.open(name, kind);
        fill(&from, "t");
        let path = house.path(&format!("of-{name}"));
        house.vfs.vacuum_into(&from, &path, &key(3)).unwrap();
        let to = house.vfs.open(&path, &key(3), OpenMode::ReadWrite).unwrap();
        assert_eq!(dump(&to).unwrap(), dump(&from).unwrap());
        assert!(is_intact(&to) && !shows(&path));
    }
}
