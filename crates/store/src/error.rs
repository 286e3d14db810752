use rusqlite::{ErrorCode, ffi};

/// What went wrong with a database, sorted by blame: the storage, the schema, the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A part of the database could not be read.
    #[error("cannot read {part}: {}", advice(source))]
    Read {
        /// The table, or what else was read.
        part: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A part of the database could not be written. Roll the transaction back; nothing of it stays.
    #[error("cannot write {part}, and nothing of this write was kept: {}", advice(source))]
    Write {
        /// The table, or what else was written.
        part: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// An earlier error undid the whole transaction.
    #[error("the transaction was undone by an earlier error: begin it again")]
    RolledBack,
    /// A row that this program would not have written.
    #[error(
        "{part} is damaged: {what}; restore the database from a backup, or from another device"
    )]
    Damaged {
        /// The table.
        part: &'static str,
        /// What is wrong with the row.
        what: String,
    },
    /// The file is some other database.
    #[error(
        "this file is not a {database} database (application id {found:#010x}); check the path"
    )]
    Foreign {
        /// Which database was expected.
        database: &'static str,
        /// The application id in the file.
        found: u32,
    },
    /// The database was written by a newer version of this program.
    #[error(
        "the {database} database has schema {found}, this version knows up to {known}: \
         update the program; nothing was changed"
    )]
    Newer {
        /// Which database.
        database: &'static str,
        /// The schema in the file.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// The database was written by an older version and was opened for reading only.
    #[error(
        "the {database} database has schema {found}, and {known} is needed: \
         open it once for writing, which migrates it"
    )]
    Older {
        /// Which database.
        database: &'static str,
        /// The schema in the file.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// A migration differs from the one that was applied.
    #[error(
        "migration {number} of the {database} database is not the one that was applied to this \
         file: use the version of the program that wrote it, or restore a backup; \
         nothing was changed"
    )]
    Edited {
        /// Which database.
        database: &'static str,
        /// Which migration.
        number: u32,
    },
    /// The history of migrations misses one.
    #[error(
        "the {database} database misses migration {number} though a later one was applied: \
         restore a backup; nothing was changed"
    )]
    Gap {
        /// Which database.
        database: &'static str,
        /// The first one missing.
        number: u32,
    },
    /// A migration failed; its transaction was rolled back.
    #[error(
        "migration {number} of the {database} database failed and was undone: {}",
        advice(source)
    )]
    Migration {
        /// Which database.
        database: &'static str,
        /// Which migration.
        number: u32,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The backup before a migration failed, so nothing was migrated.
    #[error("the {database} database could not be backed up, so it was not migrated: {source}")]
    Backup {
        /// Which database.
        database: &'static str,
        /// What the caller's backup says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection could not be opened.
    #[error("cannot open the database: {source}")]
    Open {
        /// What the caller's opener says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// All readers are lent, and none came back in time.
    #[error(
        "all connections for reading are in use, and none was free within {wait:?}: end reads that \
         are no longer needed, or allow more"
    )]
    NoReader {
        /// How long one was waited for.
        wait: std::time::Duration,
    },
    /// The pool is closed.
    #[error("the database is closed: reopen it first")]
    Closed,
    /// An argument that no database can hold, or that contradicts what is there.
    #[error("cannot write {part}: {what}")]
    Misuse {
        /// The table.
        part: &'static str,
        /// What is wrong with the argument.
        what: String,
    },
}

/// What kind of failure a [`StoreError`] is, for the caller to act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another connection holds the lock: try again.
    Busy,
    /// No space left.
    Full,
    /// The content is damaged, or not a database.
    Corrupt,
    /// The operating system could not read or write.
    Io,
    /// A rule of the schema was broken, or the database holds something else already.
    Constraint,
    /// The schema is newer, older, edited or of something else.
    Schema,
    /// The caller's mistake.
    Misuse,
    /// Anything else.
    Internal,
}

impl StoreError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Migration { source, .. } => kind_of(source),
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Edited { .. }
            | Self::Gap { .. } => ErrorKind::Schema,
            Self::Backup { .. } => ErrorKind::Io,
            Self::Open { source } => source
                .downcast_ref::<Self>()
                .map(Self::kind)
                .or_else(|| source.downcast_ref::<rusqlite::Error>().map(kind_of))
                .or_else(|| source.downcast_ref::<larder_pages::Error>().map(kind_of_pages))
                .unwrap_or(ErrorKind::Io),
            Self::NoReader { .. } => ErrorKind::Busy,
            Self::Closed | Self::RolledBack | Self::Misuse { .. } => ErrorKind::Misuse,
        }
    }

    /// The part of the database that the failure concerns, if it concerns one.
    pub fn part(&self) -> Option<&'static str> {
        match self {
            Self::Read { part, .. }
            | Self::Write { part, .. }
            | Self::Damaged { part, .. }
            | Self::Misuse { part, .. } => Some(part),
            _ => None,
        }
    }

    /// [`StoreError::Open`] around any error; for a pool's opener.
    pub fn open(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Open { source: source.into() }
    }

    pub(crate) fn damaged(part: &'static str, what: impl Into<String>) -> Self {
        Self::Damaged { part, what: what.into() }
    }
}

/// What kind of failure an error of SQLite is.
pub fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) | E::SqlInputError { error: failure, .. } => {
            // A page that does not authenticate.
            if failure.extended_code == ffi::SQLITE_IOERR_DATA {
                ErrorKind::Corrupt
            } else {
                kind_of_code(failure.code)
            }
        }
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => ErrorKind::Corrupt,
        E::InvalidPath(_) | E::ToSqlConversionFailure(_) => ErrorKind::Misuse,
        _ => ErrorKind::Internal,
    }
}

fn kind_of_pages(error: &larder_pages::Error) -> ErrorKind {
    use larder_pages::Error as E;
    match error {
        E::InUse { .. } | E::Busy(_) => ErrorKind::Busy,
        E::Full(_) => ErrorKind::Full,
        E::NotADatabase { .. } | E::Corrupt { .. } | E::WrongKey { .. } => ErrorKind::Corrupt,
        E::Missing { .. } | E::NotWritable { .. } | E::Io(_) => ErrorKind::Io,
        E::NoLowerVfs { .. } | E::NameTaken { .. } | E::Unnameable(_) => ErrorKind::Misuse,
        E::Sqlite(error) => kind_of(error),
        _ => ErrorKind::Internal,
    }
}

fn kind_of_code(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed => ErrorKind::Busy,
        ErrorCode::DiskFull => ErrorKind::Full,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Corrupt,
        ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::NoLargeFileSupport => ErrorKind::Io,
        ErrorCode::ConstraintViolation => ErrorKind::Constraint,
        ErrorCode::TooBig | ErrorCode::ApiMisuse | ErrorCode::TypeMismatch => ErrorKind::Misuse,
        _ => ErrorKind::Internal,
    }
}

fn advice(error: &rusqlite::Error) -> String {
    let what = match kind_of(error) {
        ErrorKind::Busy => "the database is in use elsewhere; try again",
        ErrorKind::Full => {
            "no space is left; free some and try again, what was committed before is safe"
        }
        ErrorKind::Corrupt => {
            "the file is damaged, or the key is not its key; \
             restore it from a backup or another device"
        }
        ErrorKind::Io => {
            "the file cannot be read or written; check the disk and the file's permissions"
        }
        ErrorKind::Constraint => "it contradicts what is stored already",
        _ => "the database refused it",
    };
    format!("{what} ({error})")
}

/// Names the part of the database in errors of SQLite.
pub(crate) trait Part<T> {
    fn reading(self, part: &'static str) -> Result<T, StoreError>;
    fn writing(self, part: &'static str) -> Result<T, StoreError>;
}

impl<T> Part<T> for rusqlite::Result<T> {
    fn reading(self, part: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Read { part, source })
    }

    fn writing(self, part: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Write { part, source })
    }
}
