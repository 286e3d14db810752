//! The power fails at every write and every sync of long and varied lives.
//!
//! A life runs once, over a disk that keeps a snapshot of each moment in which the power may fail:
//! before each sync, after each write, truncation, creation, deletion and sync, and after each
//! step that was reported done. Then, for each of them, what was not synced is lost by chance, and
//! the databases must open, be intact, read in full, have the content of the last step that was
//! done or of the one under way, and go on to work; the power fails again while they do.

mod check;
mod recorder;
mod workload;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use larder_pages::testing::{Dice, Disk};
use larder_pages::{OpenMode, Vfs};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::common::key;
use check::Bench;
use recorder::Kind;

/// Steps of a generated life.
const STEPS: u32 = 24;

pub(crate) fn open(
    vfs: &Vfs,
    path: &Path,
    key_byte: u8,
    mode: OpenMode,
) -> Result<Connection, larder_pages::Error> {
    vfs.open(path, &key(key_byte), mode)
}

/// A digest of the schema, every row in the order of the tables, and the user's version.
pub(crate) fn digest(db: &Connection) -> rusqlite::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    version.hash(&mut hasher);
    let mut tables = Vec::new();
    each_row(db, "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name", |row| {
        row.get_ref(1)?.as_str()?.hash(&mut hasher);
        row.get::<_, Option<String>>(2)?.hash(&mut hasher);
        if row.get_ref(0)?.as_str()? == "table" {
            tables.push(row.get::<_, String>(1)?);
        }
        Ok(())
    })?;
    for table in tables {
        each_row(db, &format!("SELECT rowid, * FROM \"{table}\""), |row| {
            for column in 0..row.as_ref().column_count() {
                match row.get_ref(column)? {
                    ValueRef::Null => 0.hash(&mut hasher),
                    ValueRef::Integer(integer) => (1, integer).hash(&mut hasher),
                    ValueRef::Real(real) => (2, real.to_bits()).hash(&mut hasher),
                    ValueRef::Text(bytes) => (3, bytes).hash(&mut hasher),
                    ValueRef::Blob(bytes) => (4, bytes).hash(&mut hasher),
                }
            }
            Ok(())
        })?;
    }
    Ok(hasher.finish())
}

fn each_row(
    db: &Connection,
    sql: &str,
    mut body: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        body(row)?;
    }
    Ok(())
}

/// The digest of a database in which there is nothing.
pub(crate) fn empty() -> u64 {
    digest(&Connection::open_in_memory().unwrap()).unwrap()
}

fn disk_and_vfs(name: &str) -> (Disk, Vfs) {
    let disk = Disk::register(&format!("{name}-disk")).unwrap();
    let entropy = Box::new(Dice::new(1));
    (disk.clone(), Vfs::register(&format!("{name}-vfs"), Some(disk.name()), entropy).unwrap())
}

/// Points by kind, and those of crashes during recovery.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<Kind, usize>,
    nested: usize,
}

impl Tally {
    fn points(&self) -> usize {
        self.kinds.values().sum()
    }

    fn add(&mut self, other: &Self) {
        self.nested += other.nested;
        for (kind, count) in &other.kinds {
            *self.kinds.entry(*kind).or_default() += count;
        }
    }

    fn told(&self) -> String {
        let mut told = format!("{} points", self.points());
        for (kind, count) in &self.kinds {
            write!(told, ", {kind:?} {count}").unwrap();
        }
        write!(told, "; during recovery {}", self.nested).unwrap();
        told
    }
}

/// Crashes the life of `seed` at each of its points, or at one alone.
fn crash_life(name: &str, seed: u64, only: Option<usize>, nested_percent: u64) -> Tally {
    let scripts = workload::scripted();
    let script = usize::try_from(seed).ok().and_then(|seed| scripts.get(seed));
    let (settings, steps) = match script {
        Some((settings, steps)) => ((*settings).to_owned(), steps.clone()),
        None => workload::generated(seed, STEPS),
    };
    let (disk, vfs) = disk_and_vfs(&format!("crash-{name}-{seed}"));
    let points = workload::record(&disk, &vfs, &settings, &steps);
    let mut bench = Bench::new(&format!("bench-{name}-{seed}"), nested_percent);
    let mut tally = Tally::default();
    for (number, (point, promises)) in points.iter().enumerate() {
        if only.is_none_or(|only| only == number) {
            let chance = Dice::new(seed ^ (number as u64) << 32).roll();
            if let Err(error) = bench.check(&point.media, promises, chance) {
                panic!(
                    "{error}, at {:?} of point {number}\n  replay: SEED={seed} POINT={number} \
                     cargo test --release -p larder-pages --test pages -- --ignored crash_points",
                    point.kind
                );
            }
            *tally.kinds.entry(point.kind).or_default() += 1;
        }
    }
    tally.nested = bench.nested;
    tally
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value:?}")))
}

#[test]
fn a_power_failure_at_any_point_loses_nothing_that_was_committed() {
    let lives = workload::scripted().len() as u64;
    let mut tally = Tally::default();
    for seed in 0..lives {
        tally.add(&crash_life("short", seed, None, 30));
    }
    assert!(tally.points() >= 1000, "{}", tally.told());
    assert!(tally.kinds.len() == 7, "{}", tally.told());
}

/// `POINTS` (10,000) points in lives from `SEED` (0) on, of which the first are scripted, by two
/// threads; or, with `POINT`, that one of `SEED` alone.
#[test]
#[ignore = "long"]
fn crash_points() {
    let (points, first) = (number("POINTS").unwrap_or(10_000), number("SEED").unwrap_or(0));
    if let Some(point) = number("POINT") {
        let told = crash_life("one", first, Some(usize::try_from(point).unwrap()), 100).told();
        println!("SEED={first} POINT={point}: {told}");
        return;
    }
    let next = std::sync::atomic::AtomicU64::new(first);
    let total = std::sync::Mutex::new(Tally::default());
    let work = || {
        while (total.lock().unwrap().points() as u64) < points {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let tally = crash_life("long", seed, None, 100);
            println!("SEED={seed}: {}", tally.told());
            total.lock().unwrap().add(&tally);
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let lives = next.into_inner() - first;
    println!("{lives} lives from SEED={first}: {}", total.into_inner().unwrap().told());
}
