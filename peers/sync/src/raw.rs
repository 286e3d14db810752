//! The rows that Larder writes, written raw: what is left of its work without keys, hashes,
//! signatures and documents.
//!
//! The rows are taken from a space that Larder wrote without encryption at rest. Each unit's part
//! is as large a part of every table's rows; the row that each transaction changes (the end of the
//! log, with the writer's clock) is written with each. Search tables are left out on this side.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use larder::Options;
use peers_side::Record;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::workloads::{Bench, Metrics};
use crate::writes::{self, milliseconds};
use crate::{block_on, plain};

pub(crate) struct Table {
    name: String,
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// Rows of a space's file.
pub(crate) struct Rows {
    /// Tables and indexes.
    schema: Vec<String>,
    tables: Vec<Table>,
    /// What each transaction changes.
    log: Vec<Value>,
}

pub(crate) fn in_groups(
    bench: &Bench,
    dir: &Path,
    sizes: &[usize],
    synchronous: &str,
) -> Result<Metrics> {
    let mut measured = Metrics::new();
    for size in sizes {
        let rows = Rows::read(&fixture(bench)?, bench.records())?;
        let mut db = plain::open(&dir.join(format!("raw-{size}.db")), synchronous)?;
        let ms = rows.insert(&mut db, bench.records(), *size)?;
        let name = if sizes.len() == 1 { "ms".to_owned() } else { format!("ms_{size}") };
        measured.insert(name, ms);
    }
    Ok(measured)
}

/// A space's file without encryption, with every record in a unit of its own.
fn fixture(bench: &Bench) -> Result<PathBuf> {
    let dir = bench.fixtures.join("raw");
    if !dir.exists() {
        let making = bench.fixtures.join("raw-making");
        std::fs::create_dir_all(&making)?;
        block_on(async {
            let (profile, space) =
                writes::create(&making, Options::default().plain_control(true)).await?;
            for number in 0..bench.records() {
                space.create(writes::COLLECTION, &Record::new(number)).await?;
            }
            Ok(profile.close().await?)
        })?;
        std::fs::rename(making, &dir)?;
    }
    Rows::file_in(&dir.join("larder"))
}

impl Rows {
    /// The file of the space that a profile has.
    pub(crate) fn file_in(profile: &Path) -> Result<PathBuf> {
        let mut spaces = std::fs::read_dir(profile.join("spaces"))?;
        let file = spaces.find_map(|file| {
            let path = file.ok()?.path();
            (path.extension()? == "db").then_some(path)
        });
        file.context("the profile has no space's file")
    }

    /// All rows of some tables.
    pub(crate) fn of_tables(path: &Path, tables: &[&str]) -> Result<Self> {
        let mut rows = Self::read(path, 0)?;
        rows.tables.retain(|table| tables.contains(&table.name.as_str()));
        ensure!(rows.tables.len() == tables.len(), "the tables of a space have other names now");
        Ok(rows)
    }

    /// Writes them by themselves, with the indexes that Larder has. Returns milliseconds.
    pub(crate) fn insert(&self, db: &mut Connection, records: u64, in_each: usize) -> Result<f64> {
        db.execute_batch("PRAGMA secure_delete = ON")?;
        for sql in &self.schema {
            db.execute_batch(sql).with_context(|| sql.clone())?;
        }
        self.write(db, records, in_each)
    }

    fn read(path: &Path, records: u64) -> Result<Self> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let schema = "SELECT sql FROM sqlite_master
            WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND tbl_name NOT LIKE 'search_%'
            ORDER BY rootpage = 0, type = 'index'";
        let schema = db
            .prepare(schema)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        let names = "SELECT name FROM pragma_table_list
            WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'
              AND name NOT LIKE 'search_%' ORDER BY name = 'sections' DESC, name";
        let names = db
            .prepare(names)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        let mut tables = Vec::new();
        for name in &names {
            let table = Table::read(&db, name)?;
            // What does not grow with the records is not written with each of them.
            if records == 0 || table.rows.len() as u64 >= records / 2 {
                tables.push(table);
            }
        }
        ensure!(tables.len() >= 3, "the tables of a space have other names now");
        let one = |sql: &str| {
            db.query_row(sql, [], |row| {
                (0..row.as_ref().column_count()).map(|at| row.get(at)).collect()
            })
        };
        let log = one("SELECT size, frontier, writer, log FROM logs")?;
        Ok(Self { schema, tables, log })
    }

    /// Returns milliseconds.
    fn write(&self, db: &mut Connection, records: u64, in_each: usize) -> Result<f64> {
        let units = usize::try_from(records)?;
        db.pragma_update(None, "foreign_keys", false)?;
        db.execute(
            "INSERT INTO logs (size, frontier, writer, log, device)
                VALUES (?, ?, ?, ?, randomblob(32))",
            params_from_iter(&self.log),
        )?;
        let begun = Instant::now();
        let mut done = 0;
        while done < units {
            let next = units.min(done + in_each);
            let tx = db.transaction()?;
            for table in &self.tables {
                let part = |unit: usize| table.rows.len() * unit / units;
                let mut insert = tx.prepare_cached(&table.insert)?;
                for row in table.rows.get(part(done)..part(next)).unwrap_or_default() {
                    insert.execute(params_from_iter(row))?;
                }
            }
            tx.prepare_cached("UPDATE logs SET size = ?, frontier = ?, writer = ? WHERE log = ?")?
                .execute(params_from_iter(&self.log))?;
            tx.commit()?;
            done = next;
        }
        Ok(milliseconds(begun.elapsed()))
    }
}

impl Table {
    fn read(db: &Connection, name: &str) -> Result<Self> {
        // Columns that are computed cannot be inserted.
        let columns = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid";
        let columns = db
            .prepare(columns)?
            .query_map([name], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        let list = columns.join(", ");
        let marks = vec!["?"; columns.len()].join(", ");
        // In the order of the key, which is that of time in every table that grows.
        let mut statement = db.prepare(&format!("SELECT {list} FROM {name}"))?;
        let rows = statement
            .query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect())?
            .collect::<rusqlite::Result<Vec<Vec<Value>>>>()?;
        let insert = format!("INSERT INTO {name} ({list}) VALUES ({marks})");
        Ok(Self { name: name.to_owned(), insert, rows })
    }
}
