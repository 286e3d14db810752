//! Embedded migrations, each applied once, in order, in a transaction of its own.
//!
//! Invariants: what was applied is never applied again, and never to be edited: the SHA-256 of its
//! text is kept beside it and compared at every open. A database that is newer, edited, foreign or
//! has a gap is refused before anything is written to it.

use larder_types::{Timestamp, hex};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::error::{Part, StoreError};
use crate::sql::Uint;

const HISTORY: &str = "CREATE TABLE migrations (
    number      INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    applied_at  INTEGER NOT NULL,
    duration_us INTEGER NOT NULL
) STRICT";

/// One step of a schema, and the way back.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counts from 1 without gaps.
    pub number: u32,
    /// The file's name without its number.
    pub name: &'static str,
    /// The statements that take the step.
    pub up: &'static str,
    /// The statements that take it back. What the step added is lost.
    pub down: &'static str,
}

impl Migration {
    /// SHA-256 of the statements in both directions, in hex.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.up.len() as u64).to_be_bytes());
        hash.update(self.up);
        hash.update(self.down);
        hex(&hash.finalize())
    }
}

/// A database's schema: all its migrations.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// What kind of database it is, for messages.
    pub database: &'static str,
    /// SQLite's application id in the file's header: tells the kinds apart.
    pub application_id: u32,
    /// In order, numbered from 1.
    pub migrations: &'static [Migration],
}

macro_rules! migration {
    ($database:literal, $number:literal, $name:literal) => {
        migration!($database, "000", $number, $name)
    };
    ($database:literal, $zeros:literal, $number:literal, $name:literal) => {
        Migration {
            number: $number,
            name: $name,
            up: include_str!(migration!(@path $database, $zeros, $number, $name, "up")),
            down: include_str!(migration!(@path $database, $zeros, $number, $name, "down")),
        }
    };
    (@path $database:literal, $zeros:literal, $number:literal, $name:literal, $way:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"), "/../../migrations/", $database, "/", $zeros, $number, "_",
            $name, ".", $way, ".sql"
        )
    };
}

/// The schema of a space's database.
pub const SPACE: Schema = Schema {
    database: "space",
    application_id: 0x4c52_5350,
    migrations: &[
        migration!("space", 1, "initial"),
        migration!("space", 2, "search"),
        migration!("space", 3, "copies"),
        migration!("space", 4, "unindexed"),
        migration!("space", 5, "blobs"),
        migration!("space", 6, "late"),
        migration!("space", 7, "snapshots"),
        migration!("space", 8, "blob_leases"),
        migration!("space", 9, "stray_acts"),
        migration!("space", "00", 10, "histories"),
        migration!("space", "00", 11, "writer_state"),
        migration!("space", "00", 12, "entries_whole"),
        migration!("space", "00", 13, "unembedded"),
        migration!("space", "00", 14, "pieces"),
        migration!("space", "00", 15, "sections_placed"),
        migration!("space", "00", 16, "unembedded_rows"),
        migration!("space", "00", 17, "merge_words_later"),
        migration!("space", "00", 18, "erasures"),
        migration!("space", "00", 19, "trash"),
        migration!("space", "00", 20, "retention"),
        migration!("space", "00", 21, "trash_by_collection"),
        migration!("space", "00", 22, "bands"),
        migration!("space", "00", 23, "hidden_with_bytes"),
        migration!("space", "00", 24, "carry_ends"),
        migration!("space", "00", 25, "kept"),
        migration!("space", "00", 26, "named_at"),
    ],
};

/// The schema of the profile's database.
pub const PROFILE: Schema = Schema {
    database: "profile",
    application_id: 0x4c52_5046,
    migrations: &[
        migration!("profile", 1, "initial"),
        migration!("profile", 2, "keys"),
        migration!("profile", 3, "security"),
    ],
};

/// A migration that was applied to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// [`Migration::sha256`] as it was.
    pub sha256: String,
    /// When, as the caller claimed.
    pub applied_at: Timestamp,
    /// How long it took, by the caller's stopwatch. Microseconds.
    pub duration_us: u64,
}

/// What a backup before a migration returns.
pub type BackedUp = Result<(), Box<dyn std::error::Error + Send + Sync>>;

type Backup<'a> = dyn FnMut(&Connection) -> BackedUp + 'a;

/// What migrating takes from outside: the time, a stopwatch, and a way to back up first.
pub struct Run<'a> {
    now: Timestamp,
    stopwatch_us: Box<dyn Fn() -> u64 + 'a>,
    back_up: Option<Box<Backup<'a>>>,
}

impl<'a> Run<'a> {
    /// A run at `now`, without a stopwatch (durations are recorded as 0) and without a backup.
    pub fn at(now: Timestamp) -> Self {
        Self { now, stopwatch_us: Box::new(|| 0), back_up: None }
    }

    /// Durations are differences of what `stopwatch_us` returns, in microseconds.
    #[must_use]
    pub fn timed_by(mut self, stopwatch_us: impl Fn() -> u64 + 'a) -> Self {
        self.stopwatch_us = Box::new(stopwatch_us);
        self
    }

    /// Calls `back_up` before the first step on a database that holds something already.
    #[must_use]
    pub fn backing_up(mut self, back_up: impl FnMut(&Connection) -> BackedUp + 'a) -> Self {
        self.back_up = Some(Box::new(back_up));
        self
    }
}

impl Schema {
    /// The number of the newest migration.
    pub fn version(&self) -> u32 {
        self.migrations.last().map_or(0, |migration| migration.number)
    }

    /// Brings a new or older database to this schema. Returns how many steps that took. On a new
    /// one they are one transaction, and wait once for the disk.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], [`StoreError::Newer`], [`StoreError::Edited`], [`StoreError::Gap`],
    /// [`StoreError::Backup`]: nothing was changed. [`StoreError::Migration`]: the steps before the
    /// failed one stay, but on a new database; the failed one left nothing. [`StoreError::Read`].
    pub fn migrate(&self, conn: &mut Connection, mut run: Run<'_>) -> Result<u32, StoreError> {
        let applied = self.check(conn)?;
        let done = applied.last().map_or(0, |last| last.number);
        if done > 0
            && done < self.version()
            && let Some(back_up) = &mut run.back_up
        {
            back_up(conn)
                .map_err(|source| StoreError::Backup { database: self.database, source })?;
        }
        let due = self.migrations.iter().filter(|migration| migration.number > done);
        let due: Vec<&Migration> = due.collect();
        let together = if done == 0 { due.len().max(1) } else { 1 };
        for steps in due.chunks(together) {
            self.step_up(conn, steps, &run)?;
        }
        Ok(u32::try_from(due.len()).unwrap_or(u32::MAX))
    }

    /// Checks that a database has exactly this schema; for connections that only read.
    ///
    /// # Errors
    /// As [`Schema::migrate`], and [`StoreError::Older`] where that would migrate.
    pub fn verify(&self, conn: &Connection) -> Result<(), StoreError> {
        let found = self.check(conn)?.last().map_or(0, |last| last.number);
        if found == self.version() {
            return Ok(());
        }
        Err(StoreError::Older { database: self.database, found, known: self.version() })
    }

    /// Takes migrations back until `version` is the newest. For tests and developers: what the
    /// steps had added is lost.
    ///
    /// # Errors
    /// As [`Schema::migrate`].
    pub fn revert_to(&self, conn: &mut Connection, version: u32) -> Result<(), StoreError> {
        let newest = self.check(conn)?.last().map_or(0, |last| last.number);
        let back = version.saturating_add(1)..=newest;
        for migration in self.migrations.iter().rev().filter(|m| back.contains(&m.number)) {
            step_down(conn, migration).map_err(|source| StoreError::Migration {
                database: self.database,
                number: migration.number,
                source,
            })?;
        }
        Ok(())
    }

    /// What was applied to a database, which is a prefix of this schema's migrations.
    fn check(&self, conn: &Connection) -> Result<Vec<Applied>, StoreError> {
        let found = application_id(conn).reading("header")?;
        let expected = if has_history(conn).reading("migrations")? {
            self.application_id
        } else if is_empty(conn).reading("schema")? {
            0
        } else {
            return Err(StoreError::Foreign { database: self.database, found });
        };
        if found != expected {
            return Err(StoreError::Foreign { database: self.database, found });
        }
        let applied = history(conn)?;
        self.check_history(&applied)?;
        Ok(applied)
    }

    fn check_history(&self, applied: &[Applied]) -> Result<(), StoreError> {
        let database = self.database;
        let newest = applied.last().map_or(0, |last| last.number);
        if newest > self.version() {
            return Err(StoreError::Newer { database, found: newest, known: self.version() });
        }
        for (applied, known) in applied.iter().zip(self.migrations) {
            if applied.number != known.number {
                return Err(StoreError::Gap { database, number: known.number });
            }
            if applied.sha256 != known.sha256() {
                return Err(StoreError::Edited { database, number: known.number });
            }
        }
        Ok(())
    }

    /// Applies these as one.
    fn step_up(
        &self,
        conn: &mut Connection,
        steps: &[&Migration],
        run: &Run<'_>,
    ) -> Result<(), StoreError> {
        let of = |number| {
            let database = self.database;
            move |source| StoreError::Migration { database, number, source }
        };
        let first = steps.first().map_or(0, |step| step.number);
        let tx = Transaction::new(conn, TransactionBehavior::Immediate).map_err(of(first))?;
        for step in steps {
            self.apply(&tx, step, run).map_err(of(step.number))?;
        }
        tx.commit().map_err(of(first))
    }

    fn apply(&self, tx: &Connection, step: &Migration, run: &Run<'_>) -> rusqlite::Result<()> {
        let started = (run.stopwatch_us)();
        if !has_history(tx)? {
            tx.execute_batch(HISTORY)?;
            tx.pragma_update(None, "application_id", self.application_id)?;
        }
        tx.execute_batch(step.up)?;
        let duration_us = (run.stopwatch_us)().saturating_sub(started);
        let sql = "INSERT INTO migrations (number, name, sha256, applied_at, duration_us)
             VALUES (?1, ?2, ?3, ?4, ?5)";
        let (now, duration) = (Uint(run.now.0), Uint(duration_us));
        tx.prepare_cached(sql)?.execute(params![
            step.number,
            step.name,
            step.sha256(),
            now,
            duration
        ])?;
        Ok(())
    }
}

/// What was applied to a database so far, oldest first. Empty for a new one.
///
/// # Errors
/// [`StoreError::Read`].
pub fn history(conn: &Connection) -> Result<Vec<Applied>, StoreError> {
    if !has_history(conn).reading("migrations")? {
        return Ok(Vec::new());
    }
    let read = || {
        conn.prepare(
            "SELECT number, name, sha256, applied_at, duration_us FROM migrations ORDER BY number",
        )?
        .query_map([], |row| {
            Ok(Applied {
                number: row.get(0)?,
                name: row.get(1)?,
                sha256: row.get(2)?,
                applied_at: Timestamp(row.get::<_, Uint>(3)?.0),
                duration_us: row.get::<_, Uint>(4)?.0,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()
    };
    read().reading("migrations")
}

fn step_down(conn: &mut Connection, migration: &Migration) -> rusqlite::Result<()> {
    let tx = Transaction::new(conn, TransactionBehavior::Immediate)?;
    tx.execute_batch(migration.down)?;
    tx.execute("DELETE FROM migrations WHERE number = ?1", [migration.number])?;
    if migration.number == 1 {
        tx.execute_batch("DROP TABLE migrations; PRAGMA application_id = 0")?;
    }
    tx.commit()
}

fn application_id(conn: &Connection) -> rusqlite::Result<u32> {
    // A signed integer in SQLite's eyes.
    conn.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0)).map(i32::cast_unsigned)
}

fn has_history(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
        [],
        |_| Ok(()),
    )
    .optional()
    .map(|found| found.is_some())
}

fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map(|count| count == 0)
}
