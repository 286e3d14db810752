//! sqllogictest: scripts with their expected results, record by record on plain SQLite and on the
//! shim. Ours lie in `tests/sqllogictest`; SQLite's own or any others are run by
//! `SQLLOGICTEST=FOLDER cargo test --release -p larder-pages --test pages slt -- --nocapture`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use larder_pages::{OpenMode, load_vectors};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use sqllogictest::{
    Control, DB, DBOutput, DefaultColumnType as Type, MakeConnection, QueryExpect, Record,
    ResultMode, Runner,
};

use crate::common::{KEY, create, key, vfs};

type Types = Arc<Mutex<Vec<Type>>>;

#[test]
fn scripts_of_ours_hold_on_both() {
    let scripts = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sqllogictest"));
    assert!(scripts.len() >= 10, "{} scripts", scripts.len());
    for script in scripts {
        let run = run(&script).unwrap();
        assert!(run.differing.is_empty() && run.unmet.is_empty(), "{}: {run:#?}", script.display());
        assert!(run.records > 10, "{}: {} records", script.display(), run.records);
    }
}

#[test]
fn scripts_of_a_folder_do_the_same_on_both() {
    let Some(folder) = std::env::var_os("SQLLOGICTEST") else { return };
    let scripts = scripts(Path::new(&folder));
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Run::default()));
    let work = || {
        while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = run(script).unwrap_or_else(|error| Run {
                unreadable: vec![format!("{}: {error}", script.display())],
                ..Run::default()
            });
            total.lock().unwrap().add(run);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().unwrap().get()).for_each(|_| {
            scope.spawn(work);
        });
    });
    let total = total.into_inner().unwrap();
    println!("{} scripts, {} records", scripts.len(), total.records);
    for (what, list) in
        [("unreadable", &total.unreadable), ("not as written, on both", &total.unmet)]
    {
        println!("{what}: {}", list.len());
        list.iter().take(20).for_each(|line| println!("  {line}"));
    }
    assert!(total.records > 0 && total.differing.is_empty(), "{:#?}", total.differing);
}

/// What came of a script.
#[derive(Debug, Default)]
struct Run {
    records: usize,
    /// Records that ended differently on the two sides.
    differing: Vec<String>,
    /// Records that ended alike on both, but not as the script says.
    unmet: Vec<String>,
    unreadable: Vec<String>,
}

impl Run {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.differing.extend(other.differing);
        self.unmet.extend(other.unmet);
        self.unreadable.extend(other.unreadable);
    }
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "slt" || end == "test") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn run(script: &Path) -> Result<Run, Box<dyn Error>> {
    let text = plainer(&std::fs::read_to_string(script)?);
    let mut records = sqllogictest::parse_with_name(&text, script.to_string_lossy())?;
    let is_sqlites = script.extension().is_some_and(|end| end == "test");
    if is_sqlites {
        // SQLite's own scripts have one value a line, and a hash in place of more than eight.
        records.insert(0, Record::Control(Control::ResultMode(ResultMode::ValueWise)));
    }
    let dir = tempfile::tempdir()?;
    let types = Types::default();
    let (vfs, path) = (vfs(), dir.path().join("sealed.db"));
    // Kept, so that a script's connections share one database.
    let _kept = create(&vfs, &path);
    let mut sealed = side(&types, || vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap());
    let path = dir.path().join("plain.db");
    let mut plain = side(&types, || {
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY;
             PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON",
        )
        .unwrap();
        db
    });
    if is_sqlites {
        plain.with_hash_threshold(8);
        sealed.with_hash_threshold(8);
    }
    let mut run = Run::default();
    for record in records {
        match &record {
            Record::Halt { .. } => break,
            // A command for a shell is not ours to run.
            Record::System { .. } => continue,
            Record::Query { expected: QueryExpect::Results { types: named, .. }, .. } => {
                types.lock().unwrap().clone_from(named);
            }
            Record::Statement { .. } => types.lock().unwrap().clear(),
            _ => {}
        }
        run.records +=
            usize::from(matches!(record, Record::Query { .. } | Record::Statement { .. }));
        let (expected, found) = (plain.run(record.clone()), sealed.run(record));
        let (same, met) = (format!("{expected:?}") == format!("{found:?}"), expected.is_ok());
        let line = match (expected, found) {
            (_, Err(error)) | (Err(error), _) => error.to_string(),
            (Ok(expected), Ok(found)) => format!("{expected:?} against {found:?}"),
        };
        if !same {
            run.differing.push(line);
        } else if !met {
            run.unmet.push(line);
        }
    }
    Ok(run)
}

/// The script in the words of the runner, which knows neither comments at the end of a line nor a
/// condition on `halt`.
fn plainer(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let is_condition = line.starts_with("onlyif ") || line.starts_with("skipif ");
        let line = if is_condition || line.starts_with("hash-threshold") {
            line.split('#').next().unwrap_or(line)
        } else {
            line
        };
        if is_condition && lines.peek().is_some_and(|next| next.trim_end() == "halt") {
            if line.contains("sqlite") == line.starts_with("onlyif ") {
                break;
            }
            lines.next();
            continue;
        }
        writeln!(out, "{line}").unwrap();
    }
    out
}

fn side(
    types: &Types,
    open: impl Fn() -> Connection,
) -> Runner<Side, impl MakeConnection<Conn = Side>> {
    Runner::new(move || {
        let connection = open();
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        load_vectors(&connection).unwrap();
        let text = Connection::open_in_memory().unwrap();
        std::future::ready(Ok(Side { connection, text, types: Arc::clone(types) }))
    })
}

struct Side {
    connection: Connection,
    /// Makes text of numbers, as SQLite does.
    text: Connection,
    /// The column types of the record that runs.
    types: Types,
}

impl DB for Side {
    type Error = rusqlite::Error;
    type ColumnType = Type;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Type>, rusqlite::Error> {
        let types = self.types.lock().unwrap().clone();
        let (mut columns, mut lines) = (0, Vec::new());
        let mut batch = Batch::new(&self.connection, sql);
        while let Some(mut statement) = batch.next()? {
            columns = statement.column_count();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| {
                    let named = types.get(column).unwrap_or(&Type::Any);
                    self.shown(row.get_ref(column)?, named)
                });
                lines.push(values.collect::<Result<Vec<_>, _>>()?);
            }
        }
        if columns == 0 {
            return Ok(DBOutput::StatementComplete(self.connection.changes()));
        }
        Ok(DBOutput::Rows { types: vec![Type::Any; columns], rows: lines })
    }

    fn engine_name(&self) -> &'static str {
        "sqlite"
    }
}

impl Side {
    /// A value as a script has it: three decimals, `NULL`, `(empty)`, `@` for anything not ASCII.
    fn shown(&self, value: ValueRef<'_>, named: &Type) -> rusqlite::Result<String> {
        let sql = match named {
            _ if value == ValueRef::Null => return Ok("NULL".to_owned()),
            Type::Integer => "SELECT CAST(CAST(?1 AS INTEGER) AS TEXT)",
            Type::FloatingPoint => "SELECT format('%.3f', ?1)",
            Type::Text | Type::Any => match value {
                ValueRef::Text([]) | ValueRef::Blob([]) => return Ok("(empty)".to_owned()),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => return Ok(printable(bytes)),
                _ => "SELECT CAST(?1 AS TEXT)",
            },
        };
        let value: rusqlite::types::Value = value.try_into()?;
        self.text.prepare_cached(sql)?.query_row([value], |row| row.get(0))
    }
}

fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '@' };
    bytes.iter().map(shown).collect()
}
