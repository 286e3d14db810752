use std::ffi::c_int;
use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a database could not be opened or set up.
///
/// Errors of later statements come from SQLite itself; [`Error::from`] sorts them the same way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Storage.
    /// There is no file at this path, and the mode does not create one.
    #[error("there is no database at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another process has this database open, or this one has it open for reading only and it was
    /// to be opened for writing.
    #[error(
        "{path} is in use by another process, or open for reading only in this one: \
         close that one first"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// Another connection of this process held a lock for longer than the busy timeout.
    #[error("the database is busy: try again")]
    Busy(#[source] rusqlite::Error),
    /// The disk is full.
    #[error("the disk is full: make room and try again")]
    Full(#[source] rusqlite::Error),
    /// The file was not written by this crate. Nothing of it was changed.
    #[error("{path} is not an encrypted Larder database ({found}); it was left as it is")]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        found: &'static str,
    },
    /// The key fits, but some of the file's bytes were altered or lost.
    #[error(
        "{} is damaged ({damage}): restore it from a backup or sync it anew",
        named(path.as_deref())
    )]
    Corrupt {
        /// The database; `None` if the error came from a statement.
        path: Option<PathBuf>,
        /// What does not hold.
        damage: String,
    },
    /// The file or its folder can be read but not written.
    #[error("{path} cannot be written: open it read-only, or let it and its folder be written")]
    NotWritable {
        /// The database.
        path: PathBuf,
    },
    /// The operating system did not open the file.
    #[error("{path} cannot be opened: check that its folder exists and may be written")]
    CannotOpen {
        /// The database.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The operating system refused a read, a write or a lock.
    #[error("reading or writing the database failed: {0}")]
    Io(#[source] rusqlite::Error),

    // Authority.
    /// Not one of the first pages, nor of the first frames of its WAL, opens with this key: it is
    /// another's key, or all of them are damaged. Nothing of the file was changed.
    #[error("the key does not open {path}, or its beginning is damaged; it was left as it is")]
    WrongKey {
        /// The database.
        path: PathBuf,
    },

    // Misuse.
    /// No VFS of this name is registered to stand on.
    #[error("there is no SQLite VFS named {name:?} to stand on")]
    NoLowerVfs {
        /// The name asked for.
        name: String,
    },
    /// A VFS of this name exists already in this process.
    #[error("a SQLite VFS named {name:?} is registered already: choose another name")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// A name or path holds a NUL byte, or is too long for the operating system.
    #[error("this name or path cannot be given to SQLite: {0:?}")]
    Unnameable(String),

    /// A copy was to go on with another connection than it was begun with.
    #[error("this connection is not the one that the copy was begun with")]
    Foreign,

    // Internal.
    /// SQLite answered something unforeseen.
    #[error("SQLite: {0}")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = extended_code(&error) else { return Self::Sqlite(error) };
        match (code, code & 0xff) {
            (ffi::SQLITE_IOERR_DATA, _) | (_, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => {
                Self::Corrupt { path: None, damage: error.to_string() }
            }
            (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => Self::Busy(error),
            (_, ffi::SQLITE_FULL) => Self::Full(error),
            (_, ffi::SQLITE_IOERR) => Self::Io(error),
            _ => Self::Sqlite(error),
        }
    }
}

fn named(path: Option<&Path>) -> String {
    path.map_or_else(|| "the database".to_owned(), |path| path.display().to_string())
}

/// SQLite's extended result code behind `error`, if there is one.
pub(crate) fn extended_code(error: &rusqlite::Error) -> Option<c_int> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
        _ => None,
    }
}
