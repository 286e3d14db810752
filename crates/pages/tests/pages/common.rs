//! What the tests of this crate share.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use larder_crypto::Secret;
use larder_pages::testing::Disk;
use larder_pages::{OpenMode, Vfs};
use larder_types::Entropy;
use rusqlite::Connection;
use rusqlite::types::Value;

pub(crate) const KEY: u8 = 7;

struct Os;

impl Entropy for Os {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }
}

pub(crate) fn key(byte: u8) -> Secret<32> {
    Secret::new([byte; 32])
}

/// A VFS of its own for each test, so that they do not see each other's databases.
pub(crate) fn vfs() -> Vfs {
    vfs_over(None)
}

pub(crate) fn vfs_over(lower: Option<&str>) -> Vfs {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Vfs::register(&name, lower, Box::new(Os)).unwrap()
}

pub(crate) fn create(vfs: &Vfs, path: &Path) -> Connection {
    vfs.open(path, &key(KEY), OpenMode::Create).unwrap()
}

pub(crate) fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Copies a database and its WAL, as a crash would leave them, and answers with the copy's path.
pub(crate) fn copy(path: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    let copy = to.join(path.file_name().unwrap());
    std::fs::copy(path, &copy).unwrap();
    let _ = std::fs::remove_file(wal_of(&copy));
    if wal_of(path).exists() {
        std::fs::copy(wal_of(path), wal_of(&copy)).unwrap();
    }
    copy
}

/// All of a database's content as text: schema and rows in a fixed order.
pub(crate) fn dump(db: &Connection) -> rusqlite::Result<String> {
    let mut out = String::new();
    let mut schema = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY type, name")?;
    let tables: Vec<(String, Option<String>)> =
        schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (name, sql) in tables {
        writeln!(out, "{name}: {sql:?}").unwrap();
        if !sql.is_some_and(|sql| sql.starts_with("CREATE TABLE")) {
            continue;
        }
        let columns = db.prepare(&format!("SELECT * FROM \"{name}\""))?.column_count();
        let order: Vec<_> = (1..=columns).map(|column| column.to_string()).collect();
        let order = order.join(", ");
        let mut rows = db.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY {order}"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                write!(out, "{:?}|", row.get::<_, Value>(column)?).unwrap();
            }
            out.push('\n');
        }
    }
    Ok(out)
}

pub(crate) fn is_intact(db: &Connection) -> bool {
    let answer = db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    answer.is_ok_and(|answer| answer == "ok")
}

/// The files of `dir` and what is in them.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// A database without its process: the bytes of its file and its WAL.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) main: Vec<u8>,
    pub(crate) wal: Vec<u8>,
}

impl Image {
    pub(crate) fn of(path: &Path) -> Self {
        let wal = std::fs::read(wal_of(path)).unwrap_or_default();
        Self { main: std::fs::read(path).unwrap(), wal }
    }

    /// Puts it into an empty directory of its own.
    pub(crate) fn lay(&self, dir: &Path) -> PathBuf {
        let path = dir.join("image.db");
        std::fs::write(&path, &self.main).unwrap();
        if self.wal.is_empty() {
            let _ = std::fs::remove_file(wal_of(&path));
        } else {
            std::fs::write(wal_of(&path), &self.wal).unwrap();
        }
        path
    }

    /// Opens it in `dir` and answers with all its content.
    pub(crate) fn content(&self, dir: &Path, vfs: &Vfs, mode: OpenMode) -> Result<String, String> {
        let path = self.lay(dir);
        let db = vfs.open(&path, &key(KEY), mode).map_err(|error| error.to_string())?;
        let content = dump(&db).map_err(|error| error.to_string())?;
        if is_intact(&db) { Ok(content) } else { Err("not intact".to_owned()) }
    }
}

/// A disk in memory and a VFS over it.
pub(crate) fn on_disk(name: &str) -> (Disk, Vfs) {
    let disk = Disk::register(&format!("disk-{name}")).unwrap();
    let vfs = vfs_over(Some(disk.name()));
    (disk, vfs)
}
