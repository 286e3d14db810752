//! Where databases are: encrypted files, or memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use larder_crypto::Secret;
use larder_pages::{Copying, OpenMode, Vfs, WeakVfs};
use larder_store::{Access, StoreError};
use rusqlite::Connection;

use crate::dir::Dir;
use crate::{Environment, Error, Result};

/// How a profile's databases are kept.
#[derive(Clone)]
pub(crate) enum Storage {
    /// Encrypted files in a directory.
    Disk { vfs: Vfs, dir: Dir, read_only: bool },
    /// Plain files, for the control run of a search for plaintext and nothing else.
    Plain { dir: Dir },
    /// Nothing on disk.
    Memory { name: String },
}

impl Storage {
    /// Encrypted files in `dir`.
    pub(crate) fn disk(env: &dyn Environment, dir: Dir, read_only: bool) -> Result<Self> {
        Ok(Self::Disk { vfs: vfs(env, &dir)?, dir, read_only })
    }

    /// Where its files are; none for what is in memory.
    pub(crate) fn dir(&self) -> Option<&Dir> {
        match self {
            Self::Disk { dir, .. } | Self::Plain { dir } => Some(dir),
            Self::Memory { .. } => None,
        }
    }

    /// Opens one of its databases, ready for [`larder_store`] and [`larder_search`].
    pub(crate) fn open(
        &self,
        file: &str,
        key: &Secret<32>,
        create: bool,
        access: Access,
    ) -> Result<Connection> {
        let conn = match self {
            Self::Disk { vfs, dir, read_only } => {
                let mode = match (create, *read_only) {
                    (true, false) => OpenMode::Create,
                    (false, false) => OpenMode::ReadWrite,
                    (_, true) => OpenMode::ReadOnly,
                };
                vfs.open(&dir.path_of(file), key, mode)?
            }
            Self::Plain { dir } => {
                let conn = Connection::open(dir.path_of(file)).map_err(StoreError::open)?;
                conn.pragma_update(None, "journal_mode", "wal").map_err(StoreError::open)?;
                conn
            }
            Self::Memory { name } => larder_pages::open_in_memory(&format!("{name}/{file}"))?,
        };
        larder_store::configure(&conn, access)?;
        larder_pages::load_vectors(&conn).map_err(StoreError::open)?;
        Ok(conn)
    }

    /// Begins a copy of the database that `source` has open into a new file of its own.
    pub(crate) fn copy_of(
        &self,
        source: &mut Connection,
        file: &str,
        key: &Secret<32>,
    ) -> Result<Copying> {
        match self {
            Self::Disk { vfs, dir, read_only: false } => {
                Ok(vfs.copy_of(source, &dir.path_of(file), key)?)
            }
            Self::Disk { .. } => Err(Error::ReadOnly),
            Self::Plain { .. } | Self::Memory { .. } => Err(Error::Invalid(
                "this profile keeps no encrypted files, so there is no key to renew".into(),
            )),
        }
    }

    /// Makes the names of the files in the directory of `file` durable.
    pub(crate) fn sync_names(&self, file: &str) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        dir.sync_names(file.rsplit_once('/').map_or("", |(parent, _)| parent))
    }

    /// Removes one of its databases, if it is there.
    pub(crate) fn remove(&self, file: &str) -> Result<()> {
        match self {
            Self::Disk { read_only: true, .. } => Err(Error::ReadOnly),
            Self::Disk { vfs, dir, .. } => Ok(vfs.remove(&dir.path_of(file))?),
            Self::Plain { dir } => {
                dir.remove(&wal_of(file))?;
                dir.remove(file)
            }
            Self::Memory { .. } => Ok(()),
        }
    }

    /// Bytes that one of its databases takes on disk, with its WAL.
    pub(crate) fn bytes_of(&self, file: &str) -> Result<Option<u64>> {
        let Some(dir) = self.dir() else { return Ok(None) };
        Ok(Some(dir.size(file)? + dir.size(&wal_of(file))?))
    }

    /// Bytes of the WAL of one of its databases; 0 in memory.
    pub(crate) fn wal_bytes_of(&self, file: &str) -> Result<u64> {
        self.dir().map_or(Ok(0), |dir| dir.size(&wal_of(file)))
    }

    /// Whether the WAL of one of its databases has anything, as far as is known: a process that
    /// ends in order leaves none.
    pub(crate) fn may_have_wal(&self, file: &str) -> bool {
        !matches!(self.wal_bytes_of(file), Ok(0))
    }

    /// Whether its files are encrypted, so that it has keys to renew.
    pub(crate) fn has_keys(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

pub(crate) fn wal_of(file: &str) -> String {
    format!("{file}-wal")
}

/// The encrypting VFS above the one of the disk: one for all profiles of this process that are on
/// the same, and gone with the last of them.
fn vfs(env: &dyn Environment, dir: &Dir) -> Result<Vfs> {
    static REGISTERED: Mutex<BTreeMap<String, WeakVfs>> = Mutex::new(BTreeMap::new());
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let lower = dir.files.vfs();
    let name = format!("larder-{}", lower.unwrap_or("default"));
    if let Some(vfs) = registered.get(&name).and_then(WeakVfs::upgrade) {
        return Ok(vfs);
    }
    let vfs = Vfs::register(&name, lower, env.entropy())?.with_incremental_vacuum();
    registered.insert(name, vfs.downgrade());
    Ok(vfs)
}
