//! The work, written once for all sides. The clock runs only within [`timed`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, ffi, params};
use serde::{Deserialize, Serialize};

use crate::data::{Rng, Rows, Words, vector};
use crate::fixtures::{
    Fixture, INDEX, INSERT, LONG, SHORT, TABLE, create_texts, empty_wal, insert_rows, insert_texts,
    texts,
};
use crate::side::{Opener, load_vectors};
use crate::stopwatch::{Cost, timed};

pub(crate) const DIMENSIONS: usize = 384;
/// SQLite's own default, in its notation: 2 MB.
const SMALL_CACHE: &str = "PRAGMA cache_size=-2000";
/// 16 MB, which Larder's writer has.
const WRITER_CACHE: &str = "PRAGMA cache_size=-16000";
/// 512 MB: more than any database that is to be warm.
const LARGE_CACHE: &str = "PRAGMA cache_size=-512000";

const ALL_ROWS: &str = "SELECT sum(k + length(body)) FROM t NOT INDEXED";
const FOUND_TEXTS: &str = "SELECT sum(rowid) FROM texts WHERE texts MATCH 'bababa'";

/// How the sides are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// By the time against plain.
    Ratio,
    /// By the milliseconds over plain.
    Difference,
}

pub(crate) struct Workload {
    /// As on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) compared: Compared,
    /// The most it should cost against plain: with aes-gcm, with aws-lc.
    pub(crate) aim: &'static str,
    pub(crate) fixture: Option<Fixture>,
    run: fn(&Bench) -> Result<Outcome>,
}

/// In an order that needs each fixture once.
pub(crate) const ALL: [Workload; 14] = [
    row("bulk", "bulk insert with a random index", "1.35 / 1.2", None, bulk),
    row("bulk-16", "the same with a 16 MB cache", "", None, bulk_in_cache),
    row("normal", "one-row transactions, NORMAL", "1.5 / 1.25", None, normal),
    row("full", "one-row transactions, FULL", "1.05", None, full),
    row("checkpoint", "checkpoint of 100 MB", "1.6 / 1.3", None, checkpoint),
    row("scan", "full scan, cold SQLite cache", "2.2 / 1.35", Some(Fixture::Rows), scan),
    row("points", "random point reads, 2 MB cache", "2 / 1.5", Some(Fixture::Rows), points),
    row("warm", "warm point reads", "1.05", Some(Fixture::Rows), warm_points),
    row("each", "warm point reads, a transaction each", "", Some(Fixture::Rows), each_point),
    row("fts-index", "FTS5 indexing", "", None, fts_index),
    row("fts-query", "FTS5 queries, 2 MB cache", "", Some(Fixture::Texts), fts_query),
    row("vec-warm", "vec0 scan, warm", "", Some(Fixture::Vectors), vec_warm),
    row("vec-cold", "vec0 scan, 2 MB cache", "", Some(Fixture::Vectors), vec_cold),
    Workload {
        compared: Compared::Difference,
        ..row("open", "open and first read, 1 GB file", "2 ms", Some(Fixture::Large), open)
    },
];

const fn row(
    name: &'static str,
    title: &'static str,
    aim: &'static str,
    fixture: Option<Fixture>,
    run: fn(&Bench) -> Result<Outcome>,
) -> Workload {
    Workload { name, title, compared: Compared::Ratio, aim, fixture, run }
}

/// How much work there is; the full size takes plain SQLite about half a second or more.
pub(crate) struct Size {
    pub(crate) table_rows: i64,
    pub(crate) large_rows: i64,
    pub(crate) texts: usize,
    pub(crate) vectors: i64,
    bulk_rows: i64,
    prefilled_rows: i64,
    normal_commits: usize,
    full_commits: usize,
    wal_rows: i64,
    scans: usize,
    reads: usize,
    warm_reads: usize,
    text_queries: usize,
    vector_queries: usize,
    opens: usize,
}

impl Size {
    pub(crate) const FULL: Self = Self {
        table_rows: 500_000,
        large_rows: 262_144,
        texts: 20_000,
        vectors: 100_000,
        bulk_rows: 200_000,
        prefilled_rows: 50_000,
        normal_commits: 20_000,
        full_commits: 2_000,
        wal_rows: 25_600,
        scans: 8,
        reads: 100_000,
        warm_reads: 500_000,
        text_queries: 300,
        vector_queries: 10,
        opens: 200,
    };

    /// To see that everything works; its figures mean nothing.
    pub(crate) const QUICK: Self = Self {
        table_rows: 5_000,
        large_rows: 1_000,
        texts: 200,
        vectors: 1_000,
        bulk_rows: 3_000,
        prefilled_rows: 1_000,
        normal_commits: 100,
        full_commits: 50,
        wal_rows: 500,
        scans: 1,
        reads: 500,
        warm_reads: 1_000,
        text_queries: 5,
        vector_queries: 2,
        opens: 5,
    };
}

/// Where and how much to measure.
pub(crate) struct Bench {
    pub(crate) opener: Opener,
    pub(crate) dir: PathBuf,
    pub(crate) size: Size,
}

impl Bench {
    /// A database that is not there yet, and its path.
    fn create(&self, name: &str) -> Result<(Connection, PathBuf)> {
        let path = self.dir.join(format!("{name}-{}.db", self.opener.side.name()));
        let db = self.opener.open(&path)?;
        db.execute_batch(SMALL_CACHE)?;
        Ok((db, path))
    }

    fn open(&self, fixture: Fixture, cache: &str) -> Result<Connection> {
        let db = self.opener.open(&fixture.path(&self.dir, self.opener.side))?;
        db.execute_batch(cache)?;
        if fixture == Fixture::Vectors {
            load_vectors(&db)?;
        }
        Ok(db)
    }

    /// What was measured of a database that only this workload has, which goes away.
    fn finish(&self, cost: Cost, db: Connection, path: &Path, query: &str) -> Result<Outcome> {
        let wal_bytes = file_bytes(&wal_of(path))?;
        empty_wal(&db)?;
        let answer = db.query_row(query, [], |row| row.get(0))?;
        let outcome = self.outcome(cost, answer, path, wal_bytes)?;
        drop(db);
        fs::remove_file(path)?;
        Ok(outcome)
    }

    /// What was measured of a database that others read as well.
    fn read(&self, cost: Cost, answer: i64, fixture: Fixture) -> Result<Outcome> {
        self.outcome(cost, answer, &fixture.path(&self.dir, self.opener.side), 0)
    }

    #[expect(clippy::unused_self, reason = "it belongs to the two above")]
    fn outcome(&self, cost: Cost, answer: i64, path: &Path, wal_bytes: u64) -> Result<Outcome> {
        Ok(Outcome::Measured(Measured {
            wall_ms: cost.wall.as_secs_f64() * 1e3,
            cpu_ms: cost.cpu.as_secs_f64() * 1e3,
            answer,
            database_bytes: file_bytes(path)?,
            wal_bytes,
            sqlite: rusqlite::version().to_owned(),
        }))
    }
}

/// How a measurement ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Measured(Measured),
    /// The side does not do this; SQLite's message.
    Refused(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) wall_ms: f64,
    pub(crate) cpu_ms: f64,
    /// What the queries found, folded into one number: the same on all sides.
    pub(crate) answer: i64,
    /// After a checkpoint.
    pub(crate) database_bytes: u64,
    /// At the end of the work, before a checkpoint; 0 if nothing was written.
    pub(crate) wal_bytes: u64,
    /// The version of the SQLite library.
    pub(crate) sqlite: String,
}

pub(crate) fn measure(name: &str, bench: &Bench) -> Result<Outcome> {
    let workload = ALL.iter().find(|workload| workload.name == name);
    (workload.with_context(|| format!("no workload {name}"))?.run)(bench)
}

fn bulk(bench: &Bench) -> Result<Outcome> {
    bulk_insert(bench, SMALL_CACHE)
}

fn bulk_in_cache(bench: &Bench) -> Result<Outcome> {
    bulk_insert(bench, WRITER_CACHE)
}

/// Transactions of 1,000 rows. Each touches most leaves of the index, which a cache of 2 MB does
/// not hold for long: SQLite writes pages to the WAL early, and again at the commit.
fn bulk_insert(bench: &Bench, cache: &str) -> Result<Outcome> {
    let (db, path) = bench.create("bulk")?;
    db.execute_batch(cache)?;
    db.execute_batch(TABLE)?;
    db.execute_batch(INDEX)?;
    let mut rows = Rows::new(11, SHORT);
    let ((), cost) = timed(|| insert_rows(&db, &mut rows, bench.size.bulk_rows, 1_000))?;
    bench.finish(cost, db, &path, ALL_ROWS)
}

fn normal(bench: &Bench) -> Result<Outcome> {
    commits(bench, "normal", bench.size.normal_commits)
}

fn full(bench: &Bench) -> Result<Outcome> {
    commits(bench, "full", bench.size.full_commits)
}

/// Transactions of one row into a table that has rows already, with SQLite's own checkpoints.
fn commits(bench: &Bench, synchronous: &str, count: usize) -> Result<Outcome> {
    let (db, path) = bench.create(synchronous)?;
    db.execute_batch(TABLE)?;
    db.execute_batch(INDEX)?;
    let mut rows = Rows::new(12, SHORT);
    insert_rows(&db, &mut rows, bench.size.prefilled_rows, 10_000)?;
    empty_wal(&db)?;
    if let Err(error) = db.pragma_update(None, "synchronous", synchronous) {
        drop(db);
        fs::remove_file(&path)?;
        return match error {
            rusqlite::Error::SqliteFailure(code, message)
                if code.extended_code == ffi::SQLITE_ERROR =>
            {
                Ok(Outcome::Refused(message.unwrap_or_default()))
            }
            other => Err(other.into()),
        };
    }
    let level: i64 = db.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    ensure!(level == if synchronous == "full" { 2 } else { 1 }, "synchronous={level}");
    let ((), cost) = timed(|| {
        let mut insert = db.prepare(INSERT)?;
        for _ in 0..count {
            insert.execute(rows.next())?;
        }
        Ok(())
    })?;
    bench.finish(cost, db, &path, ALL_ROWS)
}

fn checkpoint(bench: &Bench) -> Result<Outcome> {
    let (db, path) = bench.create("checkpoint")?;
    db.execute_batch("PRAGMA wal_autocheckpoint=0")?;
    db.execute_batch(TABLE)?;
    insert_rows(&db, &mut Rows::new(13, LONG), bench.size.wal_rows, 1_000)?;
    let wal_bytes = file_bytes(&wal_of(&path))?;
    let ((), cost) = timed(|| empty_wal(&db))?;
    let mut outcome = bench.finish(cost, db, &path, ALL_ROWS)?;
    if let Outcome::Measured(measured) = &mut outcome {
        measured.wal_bytes = wal_bytes;
    }
    Ok(outcome)
}

/// Each scan has a new connection; the system has the file in its cache.
fn scan(bench: &Bench) -> Result<Outcome> {
    let (mut total, mut answer) = (Cost::default(), 0);
    read_all(&bench.open(Fixture::Rows, SMALL_CACHE)?)?;
    for _ in 0..bench.size.scans {
        let db = bench.open(Fixture::Rows, SMALL_CACHE)?;
        let (found, cost) = timed(|| read_all(&db))?;
        answer = found;
        total += cost;
    }
    bench.read(total, answer, Fixture::Rows)
}

fn read_all(db: &Connection) -> Result<i64> {
    Ok(db.query_row(ALL_ROWS, [], |row| row.get(0))?)
}

fn points(bench: &Bench) -> Result<Outcome> {
    point_reads(bench, SMALL_CACHE, "BEGIN", bench.size.reads)
}

fn warm_points(bench: &Bench) -> Result<Outcome> {
    point_reads(bench, LARGE_CACHE, "BEGIN", bench.size.warm_reads)
}

/// With a transaction each, plain SQLite and `SQLCipher` pay for the locks of the file system,
/// and Larder, whose wal-index is in memory, does not.
fn each_point(bench: &Bench) -> Result<Outcome> {
    point_reads(bench, LARGE_CACHE, "", bench.size.warm_reads)
}

fn point_reads(bench: &Bench, cache: &str, before: &str, count: usize) -> Result<Outcome> {
    let db = bench.open(Fixture::Rows, cache)?;
    read_all(&db)?;
    let (answer, cost) = timed(|| {
        db.execute_batch(before)?;
        let mut rng = Rng::new(21);
        let mut select = db.prepare("SELECT k + length(body) FROM t WHERE id = ?1")?;
        let mut answer = 0;
        for _ in 0..count {
            let id = 1 + rng.below(bench.size.table_rows);
            answer += select.query_row([id], |row| row.get::<_, i64>(0))?;
        }
        Ok(answer)
    })?;
    bench.read(cost, answer, Fixture::Rows)
}

fn fts_index(bench: &Bench) -> Result<Outcome> {
    let (db, path) = bench.create("fts-index")?;
    create_texts(&db)?;
    let texts = texts(bench.size.texts);
    let ((), cost) = timed(|| insert_texts(&db, &texts))?;
    bench.finish(cost, db, &path, FOUND_TEXTS)
}

/// Of each query the twenty best: two words that must both be there, or one.
fn fts_query(bench: &Bench) -> Result<Outcome> {
    let db = bench.open(Fixture::Texts, SMALL_CACHE)?;
    let mut words = Words::new(31);
    let mut queries: Vec<String> = (0..bench.size.text_queries).map(|_| words.text(2)).collect();
    queries.extend((0..bench.size.text_queries).map(|_| words.word()));
    let (answer, cost) = timed(|| {
        let sql = "SELECT rowid FROM texts WHERE texts MATCH ?1 ORDER BY rank LIMIT 20";
        let mut select = db.prepare(sql)?;
        let mut answer = 0;
        for query in &queries {
            for id in select.query_map([query], |row| row.get::<_, i64>(0))? {
                answer += id?;
            }
        }
        Ok(answer)
    })?;
    bench.read(cost, answer, Fixture::Texts)
}

fn vec_warm(bench: &Bench) -> Result<Outcome> {
    let db = bench.open(Fixture::Vectors, LARGE_CACHE)?;
    nearest(bench, &db, 1)?;
    let (answer, cost) = timed(|| nearest(bench, &db, bench.size.vector_queries))?;
    bench.read(cost, answer, Fixture::Vectors)
}

fn vec_cold(bench: &Bench) -> Result<Outcome> {
    let db = bench.open(Fixture::Vectors, SMALL_CACHE)?;
    nearest(bench, &db, 1)?;
    let (answer, cost) = timed(|| nearest(bench, &db, bench.size.vector_queries))?;
    bench.read(cost, answer, Fixture::Vectors)
}

fn nearest(bench: &Bench, db: &Connection, count: usize) -> Result<i64> {
    let mut rng = Rng::new(41);
    let sql = "SELECT id FROM vectors WHERE embedding MATCH ?1 AND k = 10";
    let mut select = db.prepare(sql)?;
    let mut answer = 0;
    for _ in 0..count {
        let wanted = vector(&mut rng, DIMENSIONS);
        for id in select.query_map(params![wanted], |row| row.get::<_, i64>(0))? {
            answer += id?;
        }
    }
    ensure!(answer > 0, "{} vectors and none is near", bench.size.vectors);
    Ok(answer)
}

/// The median of many: one opening, with its pragmas, and the read of one row.
fn open(bench: &Bench) -> Result<Outcome> {
    let path = Fixture::Large.path(&bench.dir, bench.opener.side);
    let mut rng = Rng::new(51);
    let (mut costs, mut answer) = (Vec::new(), 0);
    for _ in 0..bench.size.opens {
        let id = 1 + rng.below(bench.size.large_rows);
        let ((db, found), cost) = timed(|| {
            let db = bench.opener.open(&path)?;
            let found: i64 = db.query_row("SELECT k FROM t WHERE id = ?1", [id], |r| r.get(0))?;
            Ok((db, found))
        })?;
        drop(db);
        answer += found;
        costs.push(cost);
    }
    let median = Cost {
        wall: median(costs.iter().map(|cost| cost.wall)),
        cpu: median(costs.iter().map(|cost| cost.cpu)),
    };
    bench.read(median, answer, Fixture::Large)
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn file_bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}
