use std::path::Path;

use larder_crypto::Secret;
use larder_types::Entropy;
use rusqlite::Connection;

use crate::{Error, Result};

/// A registered encrypting VFS: the way to every encrypted database of this process.
///
/// Cheap to clone. It stays registered for the life of the process.
#[derive(Clone, Debug)]
pub struct Vfs;

/// What [`Vfs::open`] may do to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read and write; create the database if there is none.
    Create,
    /// Read and write a database that exists.
    ReadWrite,
    /// Read only: not one byte on disk changes, not even beside the database.
    ReadOnly,
}

impl Vfs {
    /// Registers an encrypting VFS under `name`, over the VFS `lower` (`None`: the platform's own).
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NoLowerVfs`], [`Error::Unnameable`].
    pub fn register(
        name: &str,
        _lower: Option<&str>,
        _entropy: Box<dyn Entropy + Send>,
    ) -> Result<Self> {
        Err(Error::Unnameable(name.to_owned()))
    }

    /// Opens the encrypted database at `path`.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::NotADatabase`], [`Error::Corrupt`], [`Error::InUse`],
    /// [`Error::Missing`], [`Error::NotWritable`], and those of the storage.
    pub fn open(&self, path: &Path, _key: &Secret<32>, _mode: OpenMode) -> Result<Connection> {
        Err(Error::Unnameable(path.display().to_string()))
    }
}

/// Opens the shared in-memory database `name`: nothing of it is ever on disk.
///
/// # Errors
/// Those of SQLite.
pub fn open_in_memory(name: &str) -> Result<Connection> {
    Err(Error::Unnameable(name.to_owned()))
}
