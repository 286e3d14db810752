//! Databases that several workloads read: made once per run and format, then left alone.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::data::{Rng, Rows, Words, vector};
use crate::side::{Side, load_vectors};
use crate::workloads::{Bench, DIMENSIONS};

/// Bytes of a row's body, where rows are short.
pub(crate) const SHORT: usize = 200;
/// Bytes of a row's body, where there is one row to a page.
pub(crate) const LONG: usize = 3500;
pub(crate) const TABLE: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER NOT NULL, body BLOB NOT NULL);";
pub(crate) const INDEX: &str = "CREATE INDEX t_k ON t (k);";
pub(crate) const INSERT: &str = "INSERT INTO t (k, body) VALUES (?1, ?2)";
const TEXTS: &str = "CREATE VIRTUAL TABLE texts USING fts5(body);";
/// sqlite-vec's other settings are its defaults; chunks of 64 are what Larder's search makes.
const VECTORS: &str = "CREATE VIRTUAL TABLE vectors USING vec0(
    id INTEGER PRIMARY KEY, embedding FLOAT[384] distance_metric=cosine, chunk_size=64);";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fixture {
    /// Short rows with an index, more than 100 MB.
    Rows,
    /// Long rows, 1 GB.
    Large,
    /// A full-text index.
    Texts,
    /// Vectors of 384 dimensions.
    Vectors,
}

impl Fixture {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Large => "large",
            Self::Texts => "texts",
            Self::Vectors => "vectors",
        }
    }

    pub(crate) fn path(self, dir: &Path, side: Side) -> PathBuf {
        dir.join(format!("{}-{}.db", self.name(), side.format()))
    }
}

pub(crate) fn make(fixture: Fixture, bench: &Bench) -> Result<()> {
    let size = &bench.size;
    let db = bench.opener.open(&fixture.path(&bench.dir, bench.opener.side))?;
    match fixture {
        Fixture::Rows => {
            db.execute_batch(TABLE)?;
            insert_rows(&db, &mut Rows::new(1, SHORT), size.table_rows, 10_000)?;
            db.execute_batch(INDEX)?;
        }
        Fixture::Large => {
            db.execute_batch(TABLE)?;
            insert_rows(&db, &mut Rows::new(2, LONG), size.large_rows, 5_000)?;
        }
        Fixture::Texts => {
            db.execute_batch(TEXTS)?;
            insert_texts(&db, &texts(size.texts))?;
        }
        Fixture::Vectors => {
            load_vectors(&db)?;
            db.execute_batch(VECTORS)?;
            insert_vectors(&db, size.vectors)?;
        }
    }
    empty_wal(&db)
}

/// Inserts `count` rows in transactions of `together`.
pub(crate) fn insert_rows(
    db: &Connection,
    rows: &mut Rows,
    count: i64,
    together: i64,
) -> Result<()> {
    let mut insert = db.prepare(INSERT)?;
    let mut left = count;
    while left > 0 {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..together.min(left) {
            insert.execute(rows.next())?;
        }
        db.execute_batch("COMMIT")?;
        left -= together;
    }
    Ok(())
}

pub(crate) fn texts(count: usize) -> Vec<String> {
    let mut words = Words::new(3);
    (0..count).map(|_| words.text(150)).collect()
}

pub(crate) fn create_texts(db: &Connection) -> Result<()> {
    Ok(db.execute_batch(TEXTS)?)
}

pub(crate) fn insert_texts(db: &Connection, texts: &[String]) -> Result<()> {
    let mut insert = db.prepare("INSERT INTO texts (body) VALUES (?1)")?;
    for together in texts.chunks(100) {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for text in together {
            insert.execute([text])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

fn insert_vectors(db: &Connection, count: i64) -> Result<()> {
    db.execute_batch("PRAGMA cache_size=-16000")?;
    let mut rng = Rng::new(4);
    let mut insert = db.prepare("INSERT INTO vectors (id, embedding) VALUES (?1, ?2)")?;
    let ids: Vec<i64> = (1..=count).collect();
    for together in ids.chunks(1_000) {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for id in together {
            insert.execute(params![id, vector(&mut rng, DIMENSIONS)])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

/// Brings all of the WAL into the database, and leaves it empty.
pub(crate) fn empty_wal(db: &Connection) -> Result<()> {
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    anyhow::ensure!(busy == 0, "the checkpoint did not finish");
    Ok(())
}
