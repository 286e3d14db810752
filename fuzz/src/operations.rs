use std::path::Path;
use std::sync::OnceLock;

use larder_pages::testing::Disk;
use larder_pages::{OpenMode, Vfs};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::pages::{dump, key};
use crate::world::Counting;

const PATH: &str = "/operated.db";
const STEPS_MAX: usize = 40;

/// One of two databases that are to answer alike: plain SQLite, or the encrypting VFS over the
/// same kind of disk.
struct Side {
    disk: &'static Disk,
    vfs: Option<&'static Vfs>,
    db: Option<Connection>,
}

fn plain_disk() -> &'static Disk {
    static DISK: OnceLock<Disk> = OnceLock::new();
    DISK.get_or_init(|| Disk::register("fuzz-plain").expect("a name of its own"))
}

fn sealed_disk() -> &'static (Disk, Vfs) {
    static DISK: OnceLock<(Disk, Vfs)> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = Disk::register("fuzz-operated").expect("a name of its own");
        let entropy = Box::new(Counting(9));
        let vfs = Vfs::register("fuzz-shim", Some("fuzz-operated"), entropy).expect("another");
        (disk, vfs)
    })
}

impl Side {
    fn plain() -> Self {
        Self { disk: plain_disk(), vfs: None, db: None }
    }

    fn sealed() -> Self {
        let (disk, vfs) = sealed_disk();
        Self { disk, vfs: Some(vfs), db: None }
    }

    fn open(&mut self) {
        let db = match self.vfs {
            Some(vfs) => vfs.open(Path::new(PATH), &key(), OpenMode::Create).expect("it opens"),
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
                let db = Connection::open_with_flags_and_vfs(PATH, flags, c"fuzz-plain")
                    .expect("it opens");
                // The disk has no shared memory. The rest is as the encrypting VFS sets it.
                db.execute_batch(
                    "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;
                     PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA foreign_keys=ON;",
                )
                .expect("valid pragmas");
                db
            }
        };
        self.db = Some(db);
    }

    /// Closes it, with a checkpoint or without.
    fn close(&mut self, checkpoints: bool) {
        if let Some(db) = self.db.take() {
            let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !checkpoints);
        }
    }

    /// The process is killed: what it wrote is there, and the rest of it is not.
    fn kill(&mut self) {
        self.disk.kill();
        self.close(false);
    }

    /// Whether it succeeded, and with which rows.
    fn run(&self, sql: &str) -> Result<Vec<String>, i32> {
        let db = self.db.as_ref().expect("open");
        let code = |error: rusqlite::Error| match error {
            rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
            _ => -1,
        };
        // It answers with a row for each page, and plain pages hold a little more.
        if sql.starts_with("PRAGMA incremental_vacuum") {
            return db.execute_batch(sql).map(|()| Vec::new()).map_err(code);
        }
        let mut statement = db.prepare(sql).map_err(code)?;
        let mut rows = statement.query([]).map_err(code)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(code)? {
            out.push(format!("{:?}", row.get::<_, rusqlite::types::Value>(0)));
        }
        Ok(out)
    }

    fn check(&self) -> String {
        let db = self.db.as_ref().expect("open");
        let intact: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("integrity can be asked for");
        assert_eq!(intact, "ok");
        dump(db).expect("it can be read")
    }
}

/// The same operations on plain SQLite and on the encrypting VFS: the same answers and content.
///
/// The first byte chooses how the database is made; then each step is two bytes.
pub fn pages_ops(data: &[u8]) {
    let Some((setup, steps)) = data.split_first() else { return };
    let mut sides = [Side::plain(), Side::sealed()];
    for side in &mut sides {
        for path in side.disk.paths() {
            side.disk.remove(path);
        }
        side.open();
        for sql in setup_of(*setup) {
            side.run(&sql).expect("valid SQL");
        }
    }
    for (count, step) in steps.chunks_exact(2).take(STEPS_MAX).enumerate() {
        let [plain, sealed] = &mut sides;
        match step[0] % 32 {
            0 | 1 => each(&mut sides, |side| {
                side.close(step[0] == 0);
                side.open();
            }),
            2 => each(&mut sides, |side| {
                side.kill();
                side.open();
            }),
            3 => assert_eq!(plain.check(), sealed.check(), "content after step {count}"),
            operation => {
                let sql = sql_of(operation, usize::from(step[1]));
                assert_eq!(plain.run(&sql), sealed.run(&sql), "step {count}: {sql}");
            }
        }
    }
    for checkpoints in [false, true] {
        each(&mut sides, |side| {
            side.close(checkpoints);
            side.open();
        });
        let [plain, sealed] = &sides;
        assert_eq!(plain.check(), sealed.check(), "content after reopening");
    }
    each(&mut sides, |side| side.close(true));
}

fn each(sides: &mut [Side; 2], act: impl Fn(&mut Side)) {
    sides.iter_mut().for_each(act);
}

fn setup_of(choice: u8) -> Vec<String> {
    let vacuum = ["NONE", "FULL", "INCREMENTAL", "NONE"][usize::from(choice & 3)];
    let cache = [2000, 5][usize::from(choice >> 2 & 1)];
    let mut setup = vec![format!("PRAGMA cache_size={cache}")];
    if vacuum != "NONE" {
        setup.extend([format!("PRAGMA auto_vacuum={vacuum}"), "VACUUM".to_owned()]);
    }
    setup.push("CREATE TABLE t (id INTEGER PRIMARY KEY, a)".to_owned());
    if choice & 8 != 0 {
        setup.push("CREATE INDEX i ON t (a)".to_owned());
    }
    if choice & 16 != 0 {
        setup.push("PRAGMA wal_autocheckpoint=3".to_owned());
    }
    setup
}

fn sql_of(operation: u8, n: usize) -> String {
    let rows = n % 30 + 1;
    let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][n % 4];
    match operation {
        4..=8 => format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
             INSERT INTO t (a) SELECT printf('%.*c', {n} * i % 2000, char(97 + i % 26)) FROM n"
        ),
        9 => format!("INSERT INTO t (a) VALUES (zeroblob({}))", n * 400),
        10 | 11 => format!("UPDATE t SET a = a || id WHERE id % {rows} = 0"),
        12 => format!("UPDATE t SET a = printf('%.*c', {}, 'y') WHERE id % 7 = {}", n * 30, n % 7),
        13 | 14 => format!("DELETE FROM t WHERE id % {} = 0", n % 9 + 1),
        15 => "BEGIN".to_owned(),
        16 => "BEGIN IMMEDIATE".to_owned(),
        17 | 18 => "COMMIT".to_owned(),
        19 => "ROLLBACK".to_owned(),
        20 | 21 => format!("SAVEPOINT s{}", n % 3),
        22 => format!("ROLLBACK TO s{}", n % 3),
        23 => format!("RELEASE s{}", n % 3),
        24 => format!("PRAGMA wal_checkpoint({mode})"),
        25 => format!("PRAGMA cache_size={}", [2, 5, 50, 2000][n % 4]),
        26 => format!("CREATE TABLE IF NOT EXISTS x{} AS SELECT a FROM t", n % 4),
        27 => format!("DROP TABLE IF EXISTS x{}", n % 4),
        28 => "VACUUM".to_owned(),
        29 => format!("PRAGMA incremental_vacuum({})", n % 20),
        30 => "SELECT count(*) || total(length(a)) FROM t ORDER BY a".to_owned(),
        _ => "SELECT total(id) FROM t WHERE a > 'm'".to_owned(),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let steps = |setup: u8, steps: &[u8]| {
        let step = |(at, step): (usize, &u8)| [*step, (at * 37 % 256) as u8];
        [vec![setup], steps.iter().enumerate().flat_map(step).collect()].concat()
    };
    vec![
        steps(0, &[4, 5, 24, 13, 28, 3, 1, 6, 2, 3]),
        steps(4, &[15, 4, 5, 20, 6, 10, 22, 7, 23, 17, 3, 2, 3, 24]),
        steps(13, &[4, 9, 15, 10, 20, 12, 22, 19, 2, 24, 13, 3, 0, 3]),
        steps(22, &[4, 6, 8, 14, 29, 24, 15, 4, 28, 17, 29, 1, 3, 31]),
        steps(17, &[4, 26, 16, 13, 27, 22, 21, 26, 18, 2, 30, 24, 24, 28, 3]),
        steps(30, &[5, 5, 5, 15, 11, 11, 20, 13, 23, 25, 12, 19, 12, 24, 2, 31]),
    ]
}
