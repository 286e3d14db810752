//! The same statements on plain SQLite and on the shim leave the same content.

use std::path::PathBuf;

use larder_pages::{OpenMode, Vfs};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::common::{KEY, create, dump, is_intact, key, vfs};

#[derive(Clone, Debug)]
enum Step {
    Sql(String),
    Checkpoint(&'static str),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let table = || prop::sample::select(vec!["t", "u"]);
    let sql = prop_oneof![
        6 => (table(), 1..60_i64, 1..3000_usize).prop_map(|(table, rows, size)| format!(
            "INSERT INTO {table} (a, b) WITH RECURSIVE n(i) AS
               (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
             SELECT i * 7919 % 1000, substr(replace(hex(zeroblob(2000)), '0', 'x' || i), 1, {size})
             FROM n"
        )),
        3 => (table(), 0..1000_i64).prop_map(|(table, a)| format!(
            "UPDATE {table} SET b = b || a, a = a + 1 WHERE a > {a}"
        )),
        3 => (table(), 1..5_i64, 0..5_i64).prop_map(|(table, every, at)| format!(
            "DELETE FROM {table} WHERE id % {every} = {at}"
        )),
        1 => table()
            .prop_map(|table| format!("CREATE INDEX IF NOT EXISTS i{table} ON {table} (b)")),
        1 => table().prop_map(|table| format!("DROP INDEX IF EXISTS i{table}")),
        1 => Just("VACUUM".to_owned()),
        2 => Just("BEGIN".to_owned()),
        2 => Just("SAVEPOINT s".to_owned()),
        2 => Just("ROLLBACK TO s".to_owned()),
        1 => Just("RELEASE s".to_owned()),
        2 => Just("COMMIT".to_owned()),
        1 => Just("ROLLBACK".to_owned()),
        1 => Just("CREATE TABLE IF NOT EXISTS v AS SELECT * FROM t".to_owned()),
        1 => Just("DROP TABLE IF EXISTS v".to_owned()),
        1 => Just("PRAGMA user_version = 3".to_owned()),
    ];
    let checkpoint = prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
    prop_oneof![
        12 => sql.prop_map(Step::Sql),
        1 => checkpoint.prop_map(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ]
}

struct Side {
    path: PathBuf,
    sealed: Option<Vfs>,
    db: Option<Connection>,
}

impl Side {
    fn new(path: PathBuf, sealed: Option<Vfs>) -> Self {
        let db = match &sealed {
            Some(vfs) => create(vfs, &path),
            None => Connection::open(&path).unwrap(),
        };
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
        db.execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b);
             CREATE TABLE u (id INTEGER PRIMARY KEY, a, b);",
        )
        .unwrap();
        let mut side = Self { path, sealed, db: Some(db) };
        side.configure();
        side
    }

    fn configure(&mut self) {
        let db = self.db.as_ref().unwrap();
        db.execute_batch("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=30").unwrap();
        if self.sealed.is_none() {
            db.execute_batch("PRAGMA synchronous=OFF").unwrap();
        }
    }

    fn take(&mut self, step: &Step) -> String {
        let db = self.db.as_ref().unwrap();
        match step {
            Step::Sql(sql) => {
                db.execute_batch(sql).map_or_else(|e| e.to_string(), |()| String::new())
            }
            Step::Checkpoint(mode) => {
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                db.query_row(&sql, [], |row| row.get::<_, i64>(0))
                    .map_or_else(|e| e.to_string(), |busy| busy.to_string())
            }
            Step::Reopen => {
                self.db = None;
                self.db = Some(match &self.sealed {
                    Some(vfs) => vfs.open(&self.path, &key(KEY), OpenMode::ReadWrite).unwrap(),
                    None => Connection::open(&self.path).unwrap(),
                });
                self.configure();
                String::new()
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn plain_and_sealed_agree(steps in prop::collection::vec(step(), 5..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut plain = Side::new(dir.path().join("plain.db"), None);
        let mut sealed = Side::new(dir.path().join("sealed.db"), Some(vfs()));
        for step in &steps {
            prop_assert_eq!(plain.take(step), sealed.take(step), "{:?}", step);
        }
        for side in [&mut plain, &mut sealed] {
            side.take(&Step::Sql("COMMIT".to_owned()));
        }
        for _ in 0..2 {
            let (a, b) = (plain.db.as_ref().unwrap(), sealed.db.as_ref().unwrap());
            prop_assert_eq!(dump(a).unwrap(), dump(b).unwrap());
            prop_assert!(is_intact(b));
            plain.take(&Step::Reopen);
            sealed.take(&Step::Reopen);
        }
    }
}
