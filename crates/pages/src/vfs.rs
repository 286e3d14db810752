use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use larder_crypto::Secret;
use larder_types::{Entropy, hex};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::code::Code;
use crate::database::{Fault, Request, Shared};
use crate::error::extended_code;
use crate::lower::{FileName, LowerVfs};
use crate::nonces::Nonces;
use crate::shim;
use crate::sync::locked;
use crate::{Error, Result};

/// A registered encrypting VFS: the way to every encrypted database of this process.
///
/// Cheap to clone. It stays registered for as long as a clone or a connection lives, and so must
/// the VFS below.
#[derive(Clone)]
pub struct Vfs {
    pub(crate) name: CString,
    pub(crate) shared: Arc<Shared>,
}

/// A [`Vfs`] that may be gone.
#[derive(Clone)]
pub struct WeakVfs {
    name: CString,
    shared: Weak<Shared>,
}

impl WeakVfs {
    /// The VFS, if a clone or a connection of it lives.
    pub fn upgrade(&self) -> Option<Vfs> {
        self.shared.upgrade().map(|shared| Vfs { name: self.name.clone(), shared })
    }
}

/// What [`Vfs::open`] may do to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read and write; create the database if there is none.
    Create,
    /// Read and write a database that exists.
    ReadWrite,
    /// Read only: not one byte on disk changes, not even beside the database. A WAL that another
    /// process left is read as well.
    ReadOnly,
}

impl OpenMode {
    /// The bits of [`OpenMode::access`].
    pub(crate) const ACCESS: c_int =
        ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;

    /// The same as SQLite's flags.
    pub(crate) fn access(self) -> c_int {
        match self {
            Self::Create => ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE,
            Self::ReadWrite => ffi::SQLITE_OPEN_READWRITE,
            Self::ReadOnly => ffi::SQLITE_OPEN_READONLY,
        }
    }
}

/// What a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Use,
    /// To be filled by a backup, into a file that is new.
    Copy,
    /// To be filled by `VACUUM INTO`, into a file that is new.
    Compact,
}

impl Vfs {
    /// Registers an encrypting VFS under `name`, over the VFS `lower` (`None`: the platform's own).
    ///
    /// `entropy` is asked for 512 bytes at a time, for nonces, database ids and SQLite's own
    /// randomness.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NoLowerVfs`], [`Error::Unnameable`].
    pub fn register(
        name: &str,
        lower: Option<&str>,
        entropy: Box<dyn Entropy + Send>,
    ) -> Result<Self> {
        let c_name = c_string(name)?;
        let c_lower = lower.map(c_string).transpose()?;
        let lower = LowerVfs::find(c_lower.as_deref())
            .ok_or_else(|| Error::NoLowerVfs { name: lower.unwrap_or("default").to_owned() })?;
        let shared = Arc::new(Shared::new(lower, Nonces::new(entropy)));
        match shim::register(&c_name, &shared) {
            Ok(true) => Ok(Self { name: c_name, shared }),
            Ok(false) => Err(Error::NameTaken { name: name.to_owned() }),
            Err(_) => Err(Error::Unnameable(name.to_owned())),
        }
    }

    /// Has new databases keep a note of what refers to which page (`auto_vacuum=INCREMENTAL`), so
    /// that their free pages can be given back. Later it is too late: SQLite sets up its pages by
    /// what the file says.
    #[must_use]
    pub fn with_incremental_vacuum(self) -> Self {
        self.shared.new_can_shrink.store(true, Ordering::Relaxed);
        self
    }

    /// The same for those who do not keep it registered.
    pub fn downgrade(&self) -> WeakVfs {
        WeakVfs { name: self.name.clone(), shared: Arc::downgrade(&self.shared) }
    }

    /// Opens the encrypted database at `path`.
    ///
    /// The connection has a WAL, `synchronous=FULL` (full syncs on Apple's systems), its temporary
    /// tables in memory, foreign keys on, `trusted_schema` off and `cell_size_check` on. What would
    /// put plaintext on disk is refused: other journal modes, temporary files, and `ATTACH` or
    /// `VACUUM INTO` of anything but memory ([`Vfs::attach`] and [`Vfs::vacuum_into`] are the way).
    /// An authorizer enforces the last; whoever sets another must refuse it too. A backup from here
    /// into a connection that was opened without encryption is an export in the clear.
    /// `synchronous=NORMAL` may be chosen afterwards: a loss of power then takes the last commits,
    /// as it does without encryption.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::NotADatabase`], [`Error::Corrupt`], [`Error::InUse`],
    /// [`Error::Missing`], [`Error::NotWritable`], [`Error::CannotOpen`], and those of the storage.
    pub fn open(&self, path: &Path, key: &Secret<32>, mode: OpenMode) -> Result<Connection> {
        self.open_for(path, key, mode, Purpose::Use)
    }

    /// Deletes the database at `path` and its WAL, if they are there. It must not be open.
    ///
    /// # Errors
    /// [`Error::Unnameable`]; those of the storage.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let full = self.full_path(path)?;
        let name = FileName::of_database(&full)
            .map_err(|_| Error::Unnameable(path.display().to_string()))?;
        // The WAL first, and durably: what a crash leaves is the old database or none, not a WAL
        // alone.
        for file in [name.wal().as_c_str(), name.as_c_str()] {
            match self.shared.lower.delete(file, SYNC_DIRECTORY) {
                Ok(()) | Err(Code::NO_SUCH_FILE) => {}
                Err(code) => {
                    let code = ffi::Error::new(Code::of(Err(code)));
                    return Err(rusqlite::Error::SqliteFailure(code, None).into());
                }
            }
        }
        Ok(())
    }

    /// Makes the name of the database file at `path`, which is new and has no WAL, durable.
    ///
    /// SQLite leaves that to the first sync of a journal beside it: so one is made and deleted.
    pub(crate) fn sync_name(&self, path: &Path) -> Result<()> {
        let full = self.full_path(path)?;
        let sync = || -> std::result::Result<(), Code> {
            let wal = FileName::of_database(&full)?.wal();
            let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE | ffi::SQLITE_OPEN_WAL;
            self.shared.lower.open(wal, flags)?.0.sync(ffi::SQLITE_SYNC_FULL)?;
            let wal = FileName::of_database(&full)?.wal();
            self.shared.lower.delete(wal.as_c_str(), SYNC_DIRECTORY)
        };
        sync().map_err(|code| {
            let code = ffi::Error::new(Code::of(Err(code)));
            rusqlite::Error::SqliteFailure(code, None).into()
        })
    }

    fn full_path(&self, path: &Path) -> Result<CString> {
        let unnameable = |_| Error::Unnameable(path.display().to_string());
        self.shared.lower.full_path(&path_to_c(path)?).map_err(unnameable)
    }

    /// The full path of `path`, as SQLite has it and as Rust has it.
    pub(crate) fn find(&self, path: &Path, mode: OpenMode) -> Result<(CString, PathBuf)> {
        let full = self.full_path(path)?;
        let full_path = path_from_c(&full)?;
        let exists = self.shared.lower.access(&full, ffi::SQLITE_ACCESS_EXISTS);
        if mode != OpenMode::Create && exists == Ok(false) && !self.is_empty_file(&full) {
            return Err(Error::Missing { path: full_path });
        }
        Ok((full, full_path))
    }

    /// Whether there is a file, of which SQLite's own `xAccess` says that there is none: it takes
    /// an empty one for none.
    fn is_empty_file(&self, full: &CStr) -> bool {
        let flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        FileName::of_database(full).and_then(|name| self.shared.lower.open(name, flags)).is_ok()
    }

    pub(crate) fn open_for(
        &self,
        path: &Path,
        key: &Secret<32>,
        mode: OpenMode,
        purpose: Purpose,
    ) -> Result<Connection> {
        let (full, full_path) = self.find(path, mode)?;
        let _opening = locked(&self.shared.opening);
        let request = Arc::new(Request::new(key, mode, purpose));
        let announced = self.shared.announce(full, Arc::clone(&request));
        let opened = Connection::open_with_flags_and_vfs(
            &full_path,
            OpenFlags::from_bits_retain(mode.access()) | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            self.name.as_c_str(),
        );
        drop(announced);
        let fault = locked(&request.fault).take();
        let opened = opened.and_then(|connection| match purpose {
            Purpose::Copy => set_up_copy(connection),
            Purpose::Use | Purpose::Compact => set_up(connection, mode, &self.shared),
        });
        opened.map_err(|error| explain(fault.as_ref(), error, full_path))
    }
}

impl fmt::Debug for Vfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfs").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Opens the shared in-memory database `name`: all connections of this process with the same name
/// see the same content, and it is gone with the last of them. Nothing of it is ever on disk.
///
/// # Errors
/// Those of SQLite.
pub fn open_in_memory(name: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(
        format!("file:/larder-{}?vfs=memdb", hex(name.as_bytes())),
        flags,
    )?;
    connection.execute_batch(PRAGMAS)?;
    Ok(connection)
}

/// For `xDelete`: the deletion is durable before it returns.
const SYNC_DIRECTORY: c_int = 1;

const PRAGMAS: &str = "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;
    PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON;";

fn set_up(
    mut connection: Connection,
    mode: OpenMode,
    shared: &Arc<Shared>,
) -> rusqlite::Result<Connection> {
    // A database that turns out damaged is not checkpointed either.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(PRAGMAS)?;
    set_up_schema(&connection, "main", mode)?;
    if cfg!(target_vendor = "apple") {
        connection.execute_batch("PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON")?;
    }
    let shared = Arc::clone(shared);
    connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&shared, context)))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

/// Reads a database for the first time, and gives an empty one its WAL.
pub(crate) fn set_up_schema(
    connection: &Connection,
    schema: &str,
    mode: OpenMode,
) -> rusqlite::Result<()> {
    // Reads page 1, and recovers the WAL that a crash left.
    connection.pragma_query_value(Some(schema), "schema_version", |row| row.get::<_, i64>(0))?;
    let mut journal: String =
        connection.pragma_query_value(Some(schema), "journal_mode", |row| row.get(0))?;
    if journal != "wal" && mode == OpenMode::Create {
        // The first write of an empty database has no WAL yet: it runs without a journal file.
        for mode in ["memory", "wal"] {
            journal = set_journal_mode(connection, schema, mode)?;
        }
    }
    if journal != "wal" {
        let reason = format!("the database has no WAL but journal_mode={journal}");
        let code = ffi::Error::new(ffi::SQLITE_ERROR);
        return Err(rusqlite::Error::SqliteFailure(code, Some(reason)));
    }
    connection.pragma_update(Some(schema), "synchronous", "FULL")
}

/// The statement answers before it commits, so whether it did is known only at its end.
fn set_journal_mode(connection: &Connection, schema: &str, mode: &str) -> rusqlite::Result<String> {
    let sql = format!("PRAGMA {}.journal_mode={mode}", quoted(schema));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut set = String::new();
    while let Some(row) = rows.next()? {
        set = row.get(0)?;
    }
    Ok(set)
}

/// A schema's name as SQL has it.
pub(crate) fn quoted(schema: &str) -> String {
    format!("\"{}\"", schema.replace('"', "\"\""))
}

/// Pages go straight into the file: a copy that a crash cuts is thrown away, so it needs no
/// journal; and it is large, so it should not be written twice.
fn set_up_copy(connection: Connection) -> rusqlite::Result<Connection> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(PRAGMAS)?;
    connection.execute_batch(&format!("PRAGMA cache_size={COPY_CACHE_PAGES}"))?;
    set_journal_mode(&connection, "main", "memory")?;
    connection.execute_batch("PRAGMA synchronous=FULL")?;
    if cfg!(target_vendor = "apple") {
        connection.execute_batch("PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON")?;
    }
    Ok(connection)
}

/// Small, as no page is read again, and what is in it is written at the end, in one go.
const COPY_CACHE_PAGES: u32 = 64;

/// Refuses to attach files by SQL alone: a name may be a URI that chooses another VFS, without
/// encryption. And what [`MainFile`](crate::main_file::MainFile) refuses of pragmas that hold for
/// the whole connection is not to be had by naming a schema that is not one of our files.
fn authorize(shared: &Shared, context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { filename: "" | ":memory:" } => Authorization::Allow,
        AuthAction::Attach { filename } if shared.is_attaching(filename) => Authorization::Allow,
        AuthAction::Attach { .. } | AuthAction::Unknown { code: ffi::SQLITE_ATTACH, .. } => {
            Authorization::Deny
        }
        AuthAction::Pragma { pragma_name, pragma_value: Some(_) }
            if context.database_name.is_some_and(|schema| schema != "main")
                && CONNECTION_WIDE.iter().any(|name| pragma_name.eq_ignore_ascii_case(name)) =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

const CONNECTION_WIDE: &[&str] = &[
    "checkpoint_fullfsync",
    "data_store_directory",
    "fullfsync",
    "temp_store",
    "temp_store_directory",
];

pub(crate) fn explain(fault: Option<&Fault>, error: rusqlite::Error, path: PathBuf) -> Error {
    match fault {
        Some(Fault::InUse) => Error::InUse { path },
        Some(Fault::NotADatabase(found)) => Error::NotADatabase { path, found },
        Some(Fault::Corrupt(damage)) => {
            Error::Corrupt { path: Some(path), damage: (*damage).to_owned() }
        }
        Some(Fault::NotWritable) => Error::NotWritable { path },
        Some(Fault::WrongKey) => Error::WrongKey { path },
        Some(Fault::Lower(_)) | None if extended_code(&error).is_some_and(is_cannot_open) => {
            Error::CannotOpen { path, source: error }
        }
        // A folder in which no WAL can be made.
        Some(Fault::Lower(_)) | None if extended_code(&error).is_some_and(is_read_only) => {
            Error::NotWritable { path }
        }
        Some(Fault::Lower(_)) | None => match Error::from(error) {
            Error::Corrupt { damage, .. } => Error::Corrupt { path: Some(path), damage },
            error => error,
        },
    }
}

fn is_read_only(code: c_int) -> bool {
    code & 0xff == ffi::SQLITE_READONLY
}

fn is_cannot_open(code: c_int) -> bool {
    code & 0xff == ffi::SQLITE_CANTOPEN
}

fn c_string(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::Unnameable(name.to_owned()))
}

#[cfg(unix)]
fn path_to_c(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Unnameable(path.display().to_string()))
}

#[cfg(not(unix))]
fn path_to_c(path: &Path) -> Result<CString> {
    path.to_str()
        .and_then(|path| CString::new(path).ok())
        .ok_or_else(|| Error::Unnameable(path.display().to_string()))
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn path_from_c(path: &std::ffi::CStr) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

#[cfg(not(unix))]
fn path_from_c(path: &std::ffi::CStr) -> Result<PathBuf> {
    let unnameable = || Error::Unnameable(path.to_string_lossy().into_owned());
    path.to_str().map(PathBuf::from).map_err(|_| unnameable())
}
