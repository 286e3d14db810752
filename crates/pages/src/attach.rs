//! `ATTACH` and `VACUUM INTO` of encrypted databases.
//!
//! Both take a file's name from SQL, which can carry no key, and can choose a VFS that does not
//! encrypt. So the name is made here, with our VFS in it, and the authorizer lets exactly that name
//! pass, on this thread, while the call runs; SQL alone is refused either.

use std::ffi::CStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_crypto::Secret;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::database::Request;
use crate::format::{PAGE, RESERVED};
use crate::sync::locked;
use crate::vfs::{Purpose, explain, quoted, set_up_schema};
use crate::{Error, OpenMode, Result, Vfs};

impl Vfs {
    /// Attaches the encrypted database at `path` to `connection`, under the name `schema`. `DETACH`
    /// is SQLite's own.
    ///
    /// A transaction over several databases with a WAL commits in each of them on its own: after a
    /// power failure it may be in one and not in the other.
    ///
    /// # Errors
    /// As [`Vfs::open`]. [`Error::Sqlite`] within a transaction, for a name that is taken, and for
    /// more databases than SQLite attaches (10).
    pub fn attach(
        &self,
        connection: &Connection,
        path: &Path,
        key: &Secret<32>,
        mode: OpenMode,
        schema: &str,
    ) -> Result<()> {
        if !connection.is_autocommit() {
            return Err(refused("a database cannot be attached within a transaction"));
        }
        let _opening = locked(&self.shared.opening);
        let quoted = quoted(schema);
        let sql = |uri: &str| format!("ATTACH '{uri}' AS {quoted}");
        let full_path = self.announced(connection, path, key, (mode, Purpose::Use), sql)?;
        let closing = connection.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)?;
        // A database that turns out damaged is not checkpointed either.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let ready = set_up_schema(connection, schema, mode).or_else(|error| {
            connection.execute_batch(&format!("DETACH {quoted}"))?;
            Err(error)
        });
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, closing)?;
        ready.map_err(|error| explain(None, error, full_path))
    }

    /// Writes what `connection` has as `main` into a new file at `path`, under `key` and a database
    /// id of its own, without its free pages (`VACUUM INTO`).
    ///
    /// It needs no more memory than the page cache, where a `VACUUM` in place holds a copy of the
    /// whole database. `connection` may also be one to memory, or one without encryption, as long
    /// as its pages have 4096 bytes. After an error the new file is of no use.
    ///
    /// # Errors
    /// As [`Vfs::open`]. [`Error::Sqlite`] within a transaction, and if there is a database at
    /// `path`.
    pub fn vacuum_into(
        &self,
        connection: &Connection,
        path: &Path,
        key: &Secret<32>,
    ) -> Result<()> {
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        if usize::try_from(page_bytes) != Ok(PAGE) {
            return Err(refused("only a database with pages of 4096 bytes can be sealed"));
        }
        let sql = |uri: &str| format!("VACUUM main INTO '{uri}'");
        let full =
            self.announced(connection, path, key, (OpenMode::Create, Purpose::Compact), sql)?;
        // The file's name becomes durable with the first sync of a WAL beside it.
        let made = self.open(&full, key, OpenMode::ReadWrite)?;
        let version: i32 = made.pragma_query_value(None, "user_version", |row| row.get(0))?;
        made.pragma_update(None, "user_version", version)?;
        made.close().map_err(|(_, error)| error.into())
    }

    /// Runs the statement that `sql` makes of a URI for `path`, with the key at hand for it.
    fn announced(
        &self,
        connection: &Connection,
        path: &Path,
        key: &Secret<32>,
        (mode, purpose): (OpenMode, Purpose),
        sql: impl Fn(&str) -> String,
    ) -> Result<PathBuf> {
        let sees_uris: bool =
            connection
                .query_row("SELECT sqlite_compileoption_used('USE_URI')", [], |row| row.get(0))?;
        if !sees_uris {
            return Err(refused("this SQLite was built without URI file names"));
        }
        let (full, full_path) = self.find(path, mode)?;
        let uri = uri(&full, &self.name);
        let mut request = Request::new(key, mode, purpose);
        request.uri = Some(uri.clone());
        let request = Arc::new(request);
        let announced = self.shared.announce(full, Arc::clone(&request));
        let done = connection.execute_batch(&sql(&uri));
        drop(announced);
        let fault = locked(&request.fault).take();
        match done {
            Ok(()) => Ok(full_path),
            Err(error) => Err(explain(fault.as_ref(), error, full_path)),
        }
    }
}

/// The name of the file at `path` in the VFS `vfs`, and in no other; `reserve` is for `VACUUM INTO`
/// from a database that has none.
fn uri(path: &CStr, vfs: &CStr) -> String {
    let mut out = "file:///".to_owned();
    percent_encode(path.to_bytes().strip_prefix(b"/").unwrap_or(path.to_bytes()), &mut out);
    out.push_str("?vfs=");
    percent_encode(vfs.to_bytes(), &mut out);
    let _ = write!(out, "&reserve={RESERVED}");
    out
}

fn percent_encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                write!(out, "{}", char::from(*byte))
            }
            _ => write!(out, "%{byte:02X}"),
        };
    }
}

fn refused(reason: &str) -> Error {
    let code = ffi::Error::new(ffi::SQLITE_ERROR);
    Error::Sqlite(rusqlite::Error::SqliteFailure(code, Some(reason.to_owned())))
}
