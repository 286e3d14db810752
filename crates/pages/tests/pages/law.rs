//! The same SQL on plain SQLite and on the shim has the same answers, and leaves the same pages.
//!
//! The plain side has a reserve of 48 bytes too, so that not even page counts differ. A seed is a
//! script (`grammar`). Which seeds run, and how many:
//! `SEEDS=0..5000 cargo test --release -p larder-pages --test pages law -- --nocapture`.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use larder_pages::{OpenMode, Vfs};
use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ffi};

use crate::common::{KEY, key, vfs};
use crate::grammar::{self, CONNECTIONS, Step};

/// What an answer contains if a step failed.
const ERROR: &str = "failed with";

#[test]
fn plain_and_sealed_agree() {
    let seeds = seeds(0..30);
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds.clone() {
        let (setup, steps) = grammar::script(seed);
        match compare(&setup, &steps) {
            Ok(errors) => refused += errors,
            Err(difference) => {
                let steps = shrunk(&setup, steps);
                panic!("seed {seed}: {difference}\nsetup: {setup:#?}\nleast: {steps:#?}");
            }
        }
        taken += steps.len();
    }
    println!("seeds {seeds:?}: {taken} steps, {refused} of them errors on both sides");
    assert!(refused * 2 < taken, "most steps are to do something");
}

/// What `SEEDS` says, `A..B`; `otherwise` without it.
fn seeds(otherwise: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("SEEDS") else { return otherwise };
    let (from, to) = asked.split_once("..").expect("SEEDS=A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs a script on both sides: how many steps failed on both, or the first difference.
fn compare(setup: &[String], steps: &[Step]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut plain = Side::new(dir.path().join("plain.db"), None);
    let mut sealed = Side::new(dir.path().join("sealed.db"), Some(vfs()));
    let mut errors = 0;
    let setup = setup.iter().map(|sql| Step::Sql(0, sql.clone()));
    for step in setup.chain(steps.iter().cloned()) {
        let (expected, found) = (plain.take(&step), sealed.take(&step));
        if expected != found {
            return Err(format!("{step:?}\nplain:  {expected}\nsealed: {found}"));
        }
        errors += usize::from(expected.contains(ERROR));
    }
    Ok(errors)
}

/// A shorter script that still differs: leaves out whatever it can.
fn shrunk(setup: &[String], mut steps: Vec<Step>) -> Vec<Step> {
    let mut length = steps.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + length).min(steps.len()));
            if compare(setup, &fewer).is_err() {
                steps = fewer;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    steps
}

struct Side {
    path: PathBuf,
    sealed: Option<Vfs>,
    connections: [Option<Connection>; CONNECTIONS],
}

impl Side {
    fn new(path: PathBuf, sealed: Option<Vfs>) -> Self {
        let mut side = Self { path, sealed, connections: [None, None] };
        for path in [side.path.clone(), side.other()] {
            if let Some(vfs) = &side.sealed {
                drop(vfs.open(&path, &key(KEY), OpenMode::Create).unwrap());
            } else {
                let empty = Connection::open_in_memory().unwrap();
                let target = format!("file:{}?reserve=48", path.display());
                empty.execute("VACUUM INTO ?1", [target]).unwrap();
                let db = Connection::open(&path).unwrap();
                db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
            }
        }
        (0..CONNECTIONS).for_each(|connection| side.open(connection));
        side
    }

    /// The database that is attached as `b`.
    fn other(&self) -> PathBuf {
        self.path.with_extension("other")
    }

    fn open(&mut self, connection: usize) {
        let db = if let Some(vfs) = &self.sealed {
            let db = vfs.open(&self.path, &key(KEY), OpenMode::ReadWrite).unwrap();
            vfs.attach(&db, &self.other(), &key(KEY), OpenMode::ReadWrite, "b").unwrap();
            db
        } else {
            let db = Connection::open(&self.path).unwrap();
            db.execute("ATTACH ?1 AS b", [self.other().display().to_string()]).unwrap();
            db.execute_batch(
                "PRAGMA synchronous=OFF; PRAGMA b.synchronous=OFF; PRAGMA temp_store=MEMORY;
                 PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON",
            )
            .unwrap();
            db
        };
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        db.execute_batch("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=30").unwrap();
        self.connections[connection] = Some(db);
    }

    /// Does it, and answers with everything that can be seen of it.
    fn take(&mut self, step: &Step) -> String {
        match step {
            Step::Sql(connection, sql) => run(self.db(*connection), sql),
            Step::Blob { connection, row, offset, write } => {
                blob(self.db(*connection), *row, *offset, *write)
                    .unwrap_or_else(|error| shown(&error))
            }
            Step::Reopen(connection) => {
                self.connections[*connection] = None;
                self.open(*connection);
                String::new()
            }
            Step::Leave => {
                for db in self.connections.iter_mut().filter_map(Option::take) {
                    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
                }
                (0..CONNECTIONS).for_each(|connection| self.open(connection));
                String::new()
            }
            Step::Pages(connection) => {
                let all = ["main", "b"].map(|schema| {
                    pages(self.db(*connection), schema).unwrap_or_else(|error| shown(&error))
                });
                all.join("; ")
            }
        }
    }

    fn db(&mut self, connection: usize) -> &mut Connection {
        self.connections[connection].as_mut().unwrap()
    }
}

fn run(db: &Connection, sql: &str) -> String {
    let mut out = String::new();
    if let Err(error) = rows(db, sql, &mut out) {
        out.push_str(&shown(&error));
    }
    out + &format!(
        "autocommit {}, changes {}, last {}",
        db.is_autocommit(),
        db.total_changes(),
        db.last_insert_rowid()
    )
}

fn rows(db: &Connection, sql: &str, out: &mut String) -> rusqlite::Result<()> {
    let mut batch = Batch::new(db, sql);
    while let Some(mut statement) = batch.next()? {
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Blob(bytes) => {
                        write!(out, "blob {} {:x}|", bytes.len(), digest(bytes)).unwrap();
                    }
                    other => write!(out, "{other:?}|").unwrap(),
                }
            }
            out.push('\n');
        }
    }
    Ok(())
}

fn blob(db: &Connection, row: i64, offset: usize, write: Option<u8>) -> rusqlite::Result<String> {
    let mut blob = db.blob_open("main", "item", "d", row, write.is_none())?;
    let mut bytes = vec![write.unwrap_or(0); blob.len().saturating_sub(offset).min(6000)];
    if write.is_some() {
        blob.write_at(&bytes, offset)?;
    } else {
        blob.read_at_exact(&mut bytes, offset)?;
    }
    let first = (blob.len(), digest(&bytes));
    blob.reopen(row + 1)?;
    let mut next = vec![0; blob.len().min(6000)];
    blob.read_at_exact(&mut next, 0)?;
    Ok(format!("{first:x?} {} {:x}", blob.len(), digest(&next)))
}

/// A digest of each page, without the three numbers of page 1 that count how often the file and
/// its schema were changed: the two sides come to be in different ways. Room that no tree uses does
/// not count: sealed pages have nothing there.
fn pages(db: &mut Connection, schema: &str) -> rusqlite::Result<String> {
    let mut pages = db.serialize(schema)?.to_vec();
    for counter in [24..28, 40..44, 92..96] {
        pages[counter].fill(0);
    }
    let count = u32::try_from(pages.len() / 4096).unwrap();
    for (number, page) in (1..).zip(pages.chunks_mut(4096)) {
        larder_pages::testing::clear_unused(number, count, page.try_into().unwrap());
    }
    let digests: Vec<_> = pages.chunks(4096).map(digest).collect();
    Ok(format!("{digests:x?}"))
}

fn shown(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(ffi::Error { extended_code, .. }, message) => {
            format!("{ERROR} {extended_code} {message:?} ")
        }
        other => format!("{ERROR} {other:?} "),
    }
}

/// FNV-1a: to tell bytes apart, not against anybody.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
