//! Plain SQLite: the same records as rows, and the same texts as rows and in FTS5.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use peers_side::Record;
use rusqlite::{Connection, params};

use crate::fsyncs::Spread;
use crate::texts;
use crate::workloads::{Metrics, metrics};
use crate::writes::milliseconds;

/// As Larder has it: a WAL, synced at each commit.
pub(crate) fn open(path: &Path, synchronous: &str) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON;"
    ))?;
    Ok(db)
}

const RECORDS: &str = "CREATE TABLE records (
    id BLOB PRIMARY KEY, number INTEGER NOT NULL, title TEXT NOT NULL, author TEXT NOT NULL,
    created INTEGER NOT NULL, body TEXT NOT NULL) STRICT";

pub(crate) fn records(dir: &Path, records: u64, in_each: u64) -> Result<Metrics> {
    let mut db = open(&dir.join("plain.db"), "FULL")?;
    db.execute_batch(RECORDS)?;
    let begun = Instant::now();
    let mut number = 0;
    while number < records {
        let tx = db.transaction()?;
        for _ in 0..in_each.min(records - number) {
            let mut insert = tx.prepare_cached("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)")?;
            let Record { number: n, title, author, created, body } = Record::new(number);
            let id: [u8; 16] = random()?;
            let (n, created) = (i64::try_from(n)?, i64::try_from(created)?);
            insert.execute(params![id, n, title, author, created, body])?;
            number += 1;
        }
        tx.commit()?;
    }
    let ms = milliseconds(begun.elapsed());
    let found: i64 = db.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    ensure!(u64::try_from(found)? == records, "{found} of {records} records");
    Ok(metrics([("ms", ms)]))
}

pub(crate) fn small(dir: &Path) -> Result<Metrics> {
    let mut db = open(&dir.join("plain.db"), "FULL")?;
    db.execute_batch(
        "CREATE TABLE records (
             id BLOB PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL) STRICT",
    )?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let tx = db.transaction()?;
        for number in 0..1000 {
            let mut insert = tx.prepare_cached("INSERT INTO records VALUES (?, ?, ?)")?;
            insert.execute(params![random::<16>()?, number, "a small record"])?;
        }
        tx.commit()?;
        times.push(begun.elapsed());
    }
    Ok(metrics([("ms", milliseconds(Spread::of(times).p50))]))
}

/// The rows and the words in one transaction, as many files in each as Larder takes in one unit.
pub(crate) fn import(dir: &Path, folder: &Path) -> Result<Metrics> {
    let mut db = open(&dir.join("plain.db"), "FULL")?;
    db.execute_batch(
        "CREATE TABLE texts (
             number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, path TEXT NOT NULL UNIQUE,
             text TEXT NOT NULL) STRICT;
         CREATE VIRTUAL TABLE words USING fts5(
             path, text, content = '', tokenize = 'unicode61 remove_diacritics 2');",
    )?;
    let begun = Instant::now();
    for files in texts::units(folder)? {
        let tx = db.transaction()?;
        for path in files {
            let text = fs::read_to_string(folder.join(&path))?;
            tx.prepare_cached("INSERT INTO texts (id, path, text) VALUES (?, ?, ?)")?
                .execute(params![random::<16>()?, path, text])?;
            tx.prepare_cached("INSERT INTO words (rowid, path, text) VALUES (?, ?, ?)")?
                .execute(params![tx.last_insert_rowid(), path, text])?;
        }
        tx.commit()?;
    }
    let sql = "SELECT count(*) FROM words WHERE words MATCH ?";
    let found: i64 = db.query_row(sql, [texts::LAST_WORD], |row| row.get(0))?;
    let ms = milliseconds(begun.elapsed());
    ensure!(found == 1, "{found} texts have the last one's word");
    Ok(metrics([("ms", ms), ("committed_ms", ms)]))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    Ok(bytes)
}
