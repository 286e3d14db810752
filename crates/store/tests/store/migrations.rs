//! Migrations: embedded ones are those in the folder, reversible, and refused when they do not fit.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fixture::{append, device, dump, space};
use larder_log::Payload;
use larder_store::migrate::{Migration, PROFILE, Run, SPACE, Schema, history};
use larder_store::space::logs;
use larder_store::space::sections::{self, Place};
use larder_store::{ErrorKind, StoreError};
use larder_types::Timestamp;
use rusqlite::Connection;

const NOW: Timestamp = Timestamp(1_000);

const STEPS: [Migration; 3] = [
    Migration {
        number: 1,
        name: "one",
        up: "CREATE TABLE one (x TEXT) STRICT; INSERT INTO one VALUES ('kept')",
        down: "DROP TABLE one",
    },
    Migration {
        number: 2,
        name: "two",
        up: "CREATE TABLE two (x TEXT) STRICT",
        down: "DROP TABLE two",
    },
    Migration {
        number: 3,
        name: "three",
        up: "CREATE TABLE three (x TEXT) STRICT",
        down: "DROP TABLE three",
    },
];
const V1: Schema = schema(STEPS.split_at(1).0);
const V3: Schema = schema(&STEPS);

const fn schema(migrations: &'static [Migration]) -> Schema {
    Schema { database: "test", application_id: 7, migrations }
}

fn objects(conn: &Connection) -> Vec<(String, String)> {
    conn.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// The schema refuses the database, and leaves it as it was.
fn refuses(schema: &Schema, conn: &mut Connection) -> StoreError {
    let before = objects(conn);
    let read_only = schema.verify(conn).unwrap_err();
    let error = schema.migrate(conn, Run::at(NOW)).unwrap_err();
    assert_eq!(error.to_string(), read_only.to_string());
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert_eq!(objects(conn), before);
    error
}

#[test]
fn the_embedded_migrations_are_those_in_the_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    for schema in [SPACE, PROFILE] {
        let mut files: Vec<String> = std::fs::read_dir(root.join(schema.database))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut expected = Vec::new();
        for (number, migration) in (1..).zip(schema.migrations) {
            assert_eq!(migration.number, number);
            for (way, text) in [("down", migration.down), ("up", migration.up)] {
                let name = format!("{number:04}_{}.{way}.sql", migration.name);
                let path = root.join(schema.database).join(&name);
                assert_eq!(std::fs::read_to_string(path).unwrap(), text);
                expected.push(name);
            }
        }
        assert_eq!(files, expected);
    }
}

#[test]
fn up_down_up_gives_the_same_schema() {
    for schema in [SPACE, PROFILE] {
        let mut conn = Connection::open_in_memory().unwrap();
        let mut stages = vec![objects(&conn)];
        for number in 1..=schema.migrations.len() {
            let part = Schema { migrations: &schema.migrations[..number], ..schema };
            assert_eq!(part.migrate(&mut conn, Run::at(NOW)).unwrap(), 1);
            stages.push(objects(&conn));
        }
        for (version, stage) in (0..schema.version()).zip(&stages).rev() {
            schema.revert_to(&mut conn, version).unwrap();
            assert_eq!(&objects(&conn), stage, "down to {version}");
        }
        assert_eq!(schema.migrate(&mut conn, Run::at(NOW)).unwrap(), schema.version());
        assert_eq!(&objects(&conn), stages.last().unwrap());
        assert_eq!(schema.migrate(&mut conn, Run::at(NOW)).unwrap(), 0);
        schema.verify(&conn).unwrap();
    }
}

#[test]
fn a_document_keeps_its_history_on_the_way_down_and_up() {
    let mut conn = Connection::open_in_memory().unwrap();
    SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
    let document = "INSERT INTO documents VALUES
        (?1, randomblob(16), 'notes', zeroblob(32), 1, 1, 1, 0, 1, 1, 1, 0, x'80', '{}', NULL,
         0)";
    for number in 1..=3 {
        conn.execute(document, [number]).unwrap();
    }
    let part = "INSERT INTO histories VALUES (?1, ?2, ?3)";
    let parts = [(1, 0, vec![1_u8, 0xff, 0]), (1, 1, vec![0, 0xc3, 0x28]), (3, 0, vec![7])];
    for (number, part_number, bytes) in parts {
        conn.execute(part, rusqlite::params![number, part_number, bytes]).unwrap();
    }
    let read = |conn: &Connection, sql: &str| -> Vec<Option<Vec<u8>>> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let whole = [Some(vec![1, 0xff, 0, 0, 0xc3, 0x28]), None, Some(vec![7])];
    SPACE.revert_to(&mut conn, 9).unwrap();
    assert_eq!(read(&conn, "SELECT automerge FROM documents ORDER BY document"), whole);
    SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
    let histories = read(&conn, "SELECT bytes FROM histories ORDER BY document, part");
    assert_eq!(histories, [whole[0].clone(), whole[2].clone()]);
}

// A migration went through all nodes for each entry: 100,000 entries were ten minutes and more.
#[test]
fn migrations_take_as_long_as_there_is_much_to_migrate() {
    let steps = |entries: usize| {
        let mut conn = space();
        for _ in 0..entries / 50 {
            append(&conn, &device(1), &vec![&[] as &[Payload]; 50]);
        }
        SPACE.revert_to(&mut conn, 1).unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&count);
        let tick = move || {
            counts.fetch_add(1, Ordering::Relaxed);
            false
        };
        // Each hundred instructions of SQLite's machine.
        conn.progress_handler(100, Some(tick)).unwrap();
        SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
        count.load(Ordering::Relaxed)
    };
    let (few, many) = (steps(500), steps(4000));
    assert!(many < few * 10, "{few} steps for 500 entries, {many} for 4,000");
}

#[test]
fn logs_keep_their_trees_and_transactions_on_the_way_down_and_up() {
    let mut conn = space();
    for length in [1_usize, 3, 1, 8, 20] {
        append(&conn, &device(1), &vec![&[] as &[Payload]; length]);
        append(&conn, &device(2), &[&[], &[]]);
    }
    let before = dump(&conn);
    SPACE.revert_to(&mut conn, 11).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    // 33 leaves: 16 + 8 + 4 + 2 + 1 inner nodes; 10 leaves: 5 + 2 + 1.
    assert_eq!(count("SELECT count(*) FROM nodes"), 31 + 8);
    assert_eq!(count("SELECT count(*) FROM nodes WHERE level = 5 AND idx = 0"), 1);
    assert_eq!(count("SELECT count(*) FROM transactions"), 10);
    SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
    assert_eq!(dump(&conn), before);
}

#[test]
fn entries_keep_their_sections_on_the_way_down_and_up() {
    let mut conn = space();
    let sealed = |byte: u8| Payload::Sealed(vec![byte; 40]);
    append(&conn, &device(1), &[&[sealed(1), sealed(2)], &[], &[sealed(3)]]);
    append(&conn, &device(2), &[&[], &[sealed(4), Payload::Missing, sealed(5)]]);
    let before = dump(&conn);
    SPACE.revert_to(&mut conn, 14).unwrap();
    let sql = "SELECT count(DISTINCT seq || '/' || idx || '/' || log) FROM sections";
    assert_eq!(conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 6);
    SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
    assert_eq!(dump(&conn), before);
    let log = logs::find(&conn, &device(2)).unwrap().unwrap().log;
    let payload = sections::payload(&conn, Place { log, seq: 2, index: 2 }).unwrap();
    assert_eq!(payload, sealed(5));
}

#[test]
fn the_history_says_what_when_and_how_long() {
    let mut conn = Connection::open_in_memory().unwrap();
    assert_eq!(history(&conn).unwrap(), []);
    let ticks = Cell::new(0);
    let stopwatch = || ticks.replace(ticks.get() + 5);
    V3.migrate(&mut conn, Run::at(NOW).timed_by(stopwatch)).unwrap();
    let history = history(&conn).unwrap();
    assert_eq!(history.len(), 3);
    for (applied, step) in history.iter().zip(&STEPS) {
        assert_eq!((applied.number, applied.name.as_str()), (step.number, step.name));
        assert_eq!(applied.sha256, step.sha256());
        assert_eq!((applied.applied_at, applied.duration_us), (NOW, 5));
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let mut conn = Connection::open_in_memory().unwrap();
    V3.migrate(&mut conn, Run::at(NOW)).unwrap();
    assert!(matches!(refuses(&V1, &mut conn), StoreError::Newer { found: 3, known: 1, .. }));
}

#[test]
fn an_edited_migration_is_refused_whichever_way_was_edited() {
    const UP: [Migration; 2] = [STEPS[0], Migration { up: "SELECT 1", ..STEPS[1] }];
    const DOWN: [Migration; 2] = [STEPS[0], Migration { down: "SELECT 1", ..STEPS[1] }];
    const ORIGINAL: Schema = schema(STEPS.split_at(2).0);
    for edited in [schema(&UP), schema(&DOWN)] {
        let mut conn = Connection::open_in_memory().unwrap();
        ORIGINAL.migrate(&mut conn, Run::at(NOW)).unwrap();
        assert!(matches!(refuses(&edited, &mut conn), StoreError::Edited { number: 2, .. }));
    }
}

#[test]
fn a_gap_is_refused() {
    let mut conn = Connection::open_in_memory().unwrap();
    V3.migrate(&mut conn, Run::at(NOW)).unwrap();
    conn.execute("DELETE FROM migrations WHERE number = 2", []).unwrap();
    assert!(matches!(refuses(&V3, &mut conn), StoreError::Gap { number: 2, .. }));
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE somebody (elses TEXT)").unwrap();
    assert!(matches!(refuses(&SPACE, &mut conn), StoreError::Foreign { found: 0, .. }));

    let mut profile = Connection::open_in_memory().unwrap();
    PROFILE.migrate(&mut profile, Run::at(NOW)).unwrap();
    let found = PROFILE.application_id;
    match refuses(&SPACE, &mut profile) {
        StoreError::Foreign { database: "space", found: id } => assert_eq!(id, found),
        other => panic!("{other}"),
    }
}

#[test]
fn an_older_one_is_backed_up_first_and_a_new_one_is_not() {
    let mut conn = Connection::open_in_memory().unwrap();
    V1.migrate(&mut conn, Run::at(NOW).backing_up(|_| panic!("nothing to back up"))).unwrap();
    assert!(matches!(V3.verify(&conn), Err(StoreError::Older { found: 1, known: 3, .. })));

    let before = objects(&conn);
    let failing = Run::at(NOW).backing_up(|_| Err("no room for a backup".into()));
    let error = V3.migrate(&mut conn, failing).unwrap_err();
    assert!(matches!(&error, StoreError::Backup { .. }));
    assert!(error.to_string().contains("no room for a backup"));
    assert_eq!(objects(&conn), before);

    let backups = Cell::new(0);
    let backing_up = Run::at(NOW).backing_up(|conn| {
        backups.set(backups.get() + 1);
        let text: String = conn.query_row("SELECT x FROM one", [], |row| row.get(0))?;
        assert_eq!(text, "kept");
        assert_eq!(history(conn)?.len(), 1);
        Ok(())
    });
    assert_eq!(V3.migrate(&mut conn, backing_up).unwrap(), 2);
    assert_eq!(backups.get(), 1);
    V3.migrate(&mut conn, Run::at(NOW).backing_up(|_| panic!("nothing to do"))).unwrap();
}

#[test]
fn a_step_that_fails_leaves_nothing_and_the_steps_before_it_stay() {
    const BROKEN: [Migration; 3] = [
        STEPS[0],
        STEPS[1],
        Migration { up: "CREATE TABLE three (x TEXT); SELECT nonsense", ..STEPS[2] },
    ];
    let mut conn = Connection::open_in_memory().unwrap();
    V1.migrate(&mut conn, Run::at(NOW)).unwrap();
    let error = schema(&BROKEN).migrate(&mut conn, Run::at(NOW)).unwrap_err();
    assert!(matches!(error, StoreError::Migration { number: 3, .. }), "{error}");
    assert_eq!(history(&conn).unwrap().len(), 2);
    assert!(!objects(&conn).iter().any(|(name, _)| name == "three"));
    V3.migrate(&mut conn, Run::at(NOW)).unwrap();
}

/// Founding a space waited for the disk once for each migration there ever was. Now they are one
/// transaction, and a power failure leaves all of them or none.
#[test]
fn a_new_database_gets_all_steps_or_none() {
    const BROKEN: [Migration; 2] =
        [STEPS[0], Migration { up: "CREATE TABLE two (x TEXT); SELECT nonsense", ..STEPS[1] }];
    let mut conn = Connection::open_in_memory().unwrap();
    let error = schema(&BROKEN).migrate(&mut conn, Run::at(NOW)).unwrap_err();
    assert!(matches!(error, StoreError::Migration { number: 2, .. }), "{error}");
    assert_eq!(objects(&conn), []);
    let commits = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&commits);
    let count = move || {
        counts.fetch_add(1, Ordering::Relaxed);
        false
    };
    conn.commit_hook(Some(count)).unwrap();
    assert_eq!(V3.migrate(&mut conn, Run::at(NOW)).unwrap(), 3);
    assert_eq!(commits.load(Ordering::Relaxed), 1);
}
