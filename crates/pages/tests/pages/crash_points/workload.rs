use std::path::Path;

use larder_pages::testing::{Dice, Disk};
use larder_pages::{Copied, OpenMode, Vfs};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::functions::FunctionFlags;

use super::recorder::{Point, Promise, Recorder};
use super::{digest, empty, open};
use crate::common::{KEY, key};

const MAIN: &str = "/d/main.db";
const COPY: &str = "/d/copy.db";
const NEXT: &str = "/d/next.db";
const COMPACT: &str = "/d/compact.db";
const COPY_KEY: u8 = 9;

/// One step of a life. After each it is known what the content is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Statements that together commit once or not at all.
    Sql(Vec<String>),
    Checkpoint(&'static str),
    Reopen,
    /// A second connection begins to read, and so holds checkpoints up, or ends.
    Reader(bool),
    /// Into a second encrypted database, so many pages at a time, with writes between.
    Backup(i32),
    /// A copy under another key, then the old file is removed.
    Rekey(u32),
    /// A copy without free pages under another key, removed at once.
    Compact,
}

/// A database on a disk, and the record of its life.
struct Life {
    vfs: Vfs,
    recorder: Recorder,
    path: &'static str,
    key: u8,
    settings: String,
    db: Option<Connection>,
    reader: Option<Connection>,
}

/// Lives through `steps` and answers with every point in which the power may fail.
pub(crate) fn record(
    disk: &Disk,
    vfs: &Vfs,
    settings: &str,
    steps: &[Step],
) -> Vec<(Point, Vec<Promise>)> {
    for path in disk.paths() {
        disk.remove(path);
    }
    let promises = vec![Promise { path: MAIN.into(), key: KEY, allowed: [empty()].into() }];
    let mut life = Life {
        vfs: vfs.clone(),
        recorder: Recorder::start(disk, promises),
        path: MAIN,
        key: KEY,
        settings: settings.to_owned(),
        db: None,
        reader: None,
    };
    life.open(OpenMode::Create);
    for step in steps {
        life.take(step);
    }
    life.reader = None;
    life.db = None;
    life.recorder.stop()
}

impl Life {
    fn db(&self) -> &Connection {
        self.db.as_ref().unwrap()
    }

    fn path(&self) -> &'static Path {
        Path::new(self.path)
    }

    fn open(&mut self, mode: OpenMode) {
        let db = open(&self.vfs, self.path(), self.key, mode).unwrap();
        db.execute_batch(&self.settings).unwrap();
        let noise = |context: &rusqlite::functions::Context<'_>| {
            let (seed, length) = (context.get::<i64>(0)?, context.get::<i64>(1)?);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            larder_types::Entropy::fill(&mut Dice::new(seed.cast_unsigned()), &mut bytes);
            Ok(bytes)
        };
        db.create_scalar_function("noise", 2, FunctionFlags::SQLITE_DETERMINISTIC, noise).unwrap();
        self.db = Some(db);
    }

    fn done(&mut self) {
        let content = digest(self.db()).unwrap();
        self.recorder.done(Path::new(self.path), content);
    }

    fn take(&mut self, step: &Step) {
        self.recorder.begin();
        match step {
            Step::Sql(statements) => {
                for sql in statements {
                    let done = self.db().execute_batch(sql);
                    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
            }
            Step::Checkpoint(mode) => {
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                self.db().query_row(&sql, [], |_| Ok(())).unwrap();
            }
            Step::Reopen => {
                self.reader = None;
                self.db = None;
                self.open(OpenMode::ReadWrite);
            }
            Step::Reader(true) => {
                let reader = open(&self.vfs, self.path(), self.key, OpenMode::ReadWrite).unwrap();
                reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").unwrap();
                self.reader = Some(reader);
            }
            Step::Reader(false) => self.reader = None,
            Step::Backup(pages) => self.back_up(*pages),
            Step::Rekey(pages) => self.rekey(*pages),
            Step::Compact => self.compact(),
        }
        self.done();
    }

    fn back_up(&mut self, pages: i32) {
        let path = Path::new(COPY);
        if !self.recorder.knows(path) {
            self.recorder.promise_new(path, COPY_KEY, empty());
        }
        let mut copy = open(&self.vfs, path, COPY_KEY, OpenMode::Create).unwrap();
        let db = self.db.take().unwrap();
        let backup = Backup::new(&db, &mut copy).unwrap();
        let mut writes = 0;
        while backup.step(pages).unwrap() != StepResult::Done {
            if writes < 2 {
                writes += 1;
                self.recorder.begin();
                db.execute_batch("INSERT INTO t (a, b) VALUES (77, noise(77, 600))").unwrap();
                self.recorder.done(Path::new(self.path), digest(&db).unwrap());
            }
        }
        drop(backup);
        self.recorder.done(path, digest(&copy).unwrap());
        assert_eq!(digest(&copy).unwrap(), digest(&db).unwrap());
        drop(copy);
        self.db = Some(db);
    }

    fn compact(&mut self) {
        let path = Path::new(COMPACT);
        self.recorder.void(path, COPY_KEY);
        self.vfs.vacuum_into(self.db(), path, &key(COPY_KEY)).unwrap();
        self.recorder.promise_new(path, COPY_KEY, digest(self.db()).unwrap());
        self.recorder.void(path, COPY_KEY);
        self.vfs.remove(path).unwrap();
        self.recorder.forget(path);
    }

    fn rekey(&mut self, pages: u32) {
        self.reader = None;
        let (old, new) = (self.path, if self.path == MAIN { NEXT } else { MAIN });
        let new_key = self.key + 1;
        self.recorder.void(Path::new(new), new_key);
        let mut db = self.db.take().unwrap();
        let mut copying = self.vfs.copy_of(&mut db, Path::new(new), &key(new_key)).unwrap();
        while matches!(copying.step(&mut db, pages).unwrap(), Copied::Partly { .. }) {}
        let content = digest(&db).unwrap();
        self.recorder.promise_new(Path::new(new), new_key, content);
        drop(db);
        self.recorder.void(Path::new(old), self.key);
        self.vfs.remove(Path::new(old)).unwrap();
        self.recorder.forget(Path::new(old));
        (self.path, self.key) = (new, new_key);
        self.open(OpenMode::ReadWrite);
    }
}

/// Lives that were thought out, each with the settings it runs under.
pub(crate) fn scripted() -> Vec<(&'static str, Vec<Step>)> {
    let sql =
        |statements: &[&str]| Step::Sql(statements.iter().map(|sql| (*sql).to_owned()).collect());
    let schema = "BEGIN; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b);
        CREATE INDEX ta ON t (a); COMMIT";
    let fill = |rows: u32, size: u32| sql(&[&insert("t", rows, size, rows + size)]);
    let checkpoints = |mode| {
        let mut steps = vec![sql(&[schema])];
        for round in 0..4 {
            steps.extend([fill(6, 900 + round), sql(&["DELETE FROM t WHERE id % 3 = 0"])]);
            steps.push(Step::Checkpoint(mode));
            steps.push(sql(&["UPDATE t SET a = a + 1"]));
        }
        steps
    };
    let spilled = ["COMMIT", "ROLLBACK", "COMMIT"].map(|end| {
        sql(&[
            "BEGIN",
            &insert("t", 40, 900, 5),
            "SAVEPOINT s",
            "UPDATE t SET b = noise(id + 1, 700), a = a + 1",
            "ROLLBACK TO s",
            "UPDATE t SET a = a + 2 WHERE id % 2",
            "DELETE FROM t WHERE id % 4 = 1",
            end,
        ])
    });
    vec![
        ("PRAGMA wal_autocheckpoint=0", checkpoints("PASSIVE")),
        ("PRAGMA wal_autocheckpoint=0", checkpoints("FULL")),
        ("PRAGMA wal_autocheckpoint=0", checkpoints("RESTART")),
        ("PRAGMA wal_autocheckpoint=0", checkpoints("TRUNCATE")),
        ("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=20", {
            let mut steps = vec![sql(&[schema])];
            steps.extend(spilled);
            steps.push(Step::Reopen);
            steps.push(fill(3, 100));
            steps
        }),
        ("PRAGMA cache_size=5", {
            vec![
                sql(&[schema]),
                fill(30, 2000),
                sql(&["DELETE FROM t WHERE id % 2"]),
                sql(&["VACUUM"]),
                sql(&["PRAGMA auto_vacuum=INCREMENTAL", "VACUUM"]),
                fill(20, 3000),
                sql(&["DELETE FROM t WHERE id > 10"]),
                sql(&["PRAGMA incremental_vacuum(4)"]),
                Step::Checkpoint("FULL"),
                sql(&["PRAGMA incremental_vacuum"]),
                Step::Checkpoint("TRUNCATE"),
                fill(10, 5000),
                Step::Reopen,
            ]
        }),
        ("PRAGMA wal_autocheckpoint=8", {
            vec![
                sql(&[schema]),
                fill(20, 1000),
                Step::Backup(3),
                sql(&[
                    "BEGIN; ALTER TABLE t ADD COLUMN c DEFAULT 5; PRAGMA user_version=7; COMMIT",
                ]),
                Step::Backup(100),
                Step::Rekey(5),
                fill(3, 2000),
                Step::Compact,
                Step::Rekey(100),
                fill(3, 2000),
                Step::Reopen,
            ]
        }),
    ]
}

/// A life by chance: its settings and steps.
pub(crate) fn generated(seed: u64, steps: u32) -> (String, Vec<Step>) {
    let mut dice = Dice::new(seed);
    let cache = [5, 5, 20, 200][pick(&mut dice, 4)];
    let checkpoint = [0, 4, 10, 30, 1000][pick(&mut dice, 5)];
    let settings = format!("PRAGMA cache_size={cache}; PRAGMA wal_autocheckpoint={checkpoint}");
    let mut life = Vec::new();
    if dice.chance(40) {
        life.push(Step::Sql(vec!["PRAGMA auto_vacuum=INCREMENTAL".into(), "VACUUM".into()]));
    }
    for name in ["t", "u"] {
        let sql = format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, a, b)");
        life.push(Step::Sql(vec![sql]));
    }
    let mut is_read = false;
    for _ in 0..steps {
        life.push(match dice.below(24) {
            0..=2 => {
                Step::Checkpoint(["PASSIVE", "FULL", "RESTART", "TRUNCATE"][pick(&mut dice, 4)])
            }
            3 => Step::Reopen,
            4 => Step::Sql(vec!["VACUUM".into()]),
            5 => Step::Sql(vec![format!("PRAGMA incremental_vacuum({})", dice.below(9))]),
            6 | 7 => {
                is_read = !is_read;
                Step::Reader(is_read)
            }
            8 => Step::Backup(1 + i32::try_from(dice.below(20)).unwrap()),
            9 => Step::Rekey(1 + u32::try_from(dice.below(20)).unwrap()),
            10 => Step::Compact,
            11..=15 => Step::Sql(vec![statement(&mut dice)]),
            _ => Step::Sql(transaction(&mut dice)),
        });
        // Full checkpoints wait for readers, and a file in use cannot be replaced.
        if let Some(
            Step::Checkpoint("FULL" | "RESTART" | "TRUNCATE") | Step::Reopen | Step::Rekey(_),
        ) = life.last()
            && std::mem::take(&mut is_read)
        {
            life.insert(life.len() - 1, Step::Reader(false));
        }
    }
    (settings, life)
}

fn pick(dice: &mut Dice, count: u64) -> usize {
    usize::try_from(dice.below(count)).unwrap()
}

fn transaction(dice: &mut Dice) -> Vec<String> {
    let mut statements = vec!["BEGIN".to_owned()];
    let mut depth = 0;
    for _ in 0..=dice.below(6) {
        match dice.below(6) {
            0 => {
                depth += 1;
                statements.push("SAVEPOINT s".into());
            }
            1 if depth > 0 => statements.push("ROLLBACK TO s".into()),
            2 if depth > 0 => {
                depth -= 1;
                statements.push("RELEASE s".into());
            }
            _ => statements.push(statement(dice)),
        }
    }
    statements.push(if dice.chance(70) { "COMMIT" } else { "ROLLBACK" }.into());
    statements
}

fn insert(table: &str, rows: u32, size: u32, seed: u32) -> String {
    format!(
        "INSERT INTO {table} (a, b) WITH RECURSIVE n(i) AS
           (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
         SELECT i * 7919 % 1000, noise(i + {seed}, {size}) FROM n"
    )
}

fn statement(dice: &mut Dice) -> String {
    let table = ["t", "u"][pick(dice, 2)];
    let chance = u32::try_from(dice.below(1000)).unwrap();
    match dice.below(14) {
        0..=2 => insert(table, 1 + chance % 12, 1 + chance % 700, chance),
        3 => insert(table, 1 + chance % 3, 3000 + chance * 12, chance),
        4 => format!("UPDATE {table} SET b = noise(id, length(b) / 2 + {chance}) WHERE id % 3 = 1"),
        5 => format!("UPDATE {table} SET a = a + 1 WHERE a > {chance}"),
        6 => format!("DELETE FROM {table} WHERE id % 4 = {}", chance % 4),
        7 => format!("DELETE FROM {table} WHERE id < (SELECT max(id) - 15 FROM {table})"),
        8 => format!("CREATE INDEX IF NOT EXISTS i{table} ON {table} (b)"),
        9 => format!("DROP INDEX IF EXISTS i{table}"),
        10 => "CREATE TABLE IF NOT EXISTS v AS SELECT * FROM t".into(),
        11 => "DROP TABLE IF EXISTS v".into(),
        12 => format!("PRAGMA user_version={chance}"),
        _ => {
            format!("REPLACE INTO {table} VALUES ({}, {chance}, noise({chance}, 90))", chance % 20)
        }
    }
}
