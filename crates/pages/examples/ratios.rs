//! Prints how much longer the same work takes on sealed pages than on plain SQLite.
//!
//! `cargo run --release -p larder-pages --example ratios`
#![allow(clippy::unwrap_used, reason = "an example")]

use std::path::Path;
use std::time::Instant;

use larder_crypto::Secret;
use larder_pages::{OpenMode, Vfs};
use larder_types::Entropy;
use rusqlite::Connection;

const ROWS: i64 = 100_000;

struct Os;

impl Entropy for Os {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }
}

/// A name, and what to do with a connection whose cache is 2 MB.
type Work = (&'static str, fn(&Connection));

const WORK: [Work; 5] = [
    ("insert 100,000 rows in one transaction", |db| {
        db.execute_batch("BEGIN").unwrap();
        let mut insert = db.prepare("INSERT INTO t VALUES (?1, ?2)").unwrap();
        for i in 0..ROWS {
            insert.execute((i, format!("row {i} ").repeat(12))).unwrap();
        }
        drop(insert);
        db.execute_batch("COMMIT").unwrap();
    }),
    ("checkpoint", |db| {
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }),
    ("20,000 random point reads", |db| {
        let mut select = db.prepare("SELECT length(a) FROM t WHERE id = ?1").unwrap();
        for i in 0..20_000 {
            select.query_row([i * 7919 % ROWS], |row| row.get::<_, i64>(0)).unwrap();
        }
    }),
    ("five full scans", |db| {
        for _ in 0..5 {
            db.query_row("SELECT sum(length(a)) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        }
    }),
    ("500 single-row transactions, synced", |db| {
        for i in 0..500 {
            db.execute("UPDATE t SET a = a || 'x' WHERE id = ?1", [i * 197]).unwrap();
        }
    }),
];

fn run(db: &Connection) -> Vec<f64> {
    db.execute_batch(
        "PRAGMA cache_size=-2000; PRAGMA synchronous=FULL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)",
    )
    .unwrap();
    WORK.iter()
        .map(|(_, work)| {
            let start = Instant::now();
            work(db);
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect()
}

fn plain(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("plain.db")).unwrap();
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    db
}

fn main() {
    let dir = std::env::temp_dir().join(format!("larder-ratios-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let vfs = Vfs::register("ratios", None, Box::new(Os)).unwrap();
    let sealed = vfs.open(&dir.join("sealed.db"), &Secret::new([1; 32]), OpenMode::Create).unwrap();
    let (plain, sealed) = (run(&plain(&dir)), run(&sealed));
    println!("{:42} {:>10} {:>10} {:>6}", "", "plain ms", "sealed ms", "ratio");
    for ((name, _), (plain, sealed)) in WORK.iter().zip(plain.iter().zip(&sealed)) {
        println!("{name:42} {plain:10.1} {sealed:10.1} {:6.2}", sealed / plain);
    }
    std::fs::remove_dir_all(dir).unwrap();
}
