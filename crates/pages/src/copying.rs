//! A copy of an open database into a new file under another key, made a few pages at a time.
//!
//! Invariants: the backup is stepped and ended only while its source connection is borrowed
//! exclusively; its target connection outlives it and does nothing else; one that is dropped
//! without having ended leaks both, and with them the source, which SQLite then refuses to close.
#![expect(unsafe_code, reason = "rusqlite's backup borrows its source for as long as it runs")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::c_int;
use std::fmt;
use std::path::Path;
use std::ptr::NonNull;

use larder_crypto::Secret;
use rusqlite::{Connection, ffi};

use crate::vfs::Purpose;
use crate::{Error, OpenMode, Result, Vfs};

/// A copy under way; see [`Vfs::copy_of`]. End it with [`Copying::step`] or [`Copying::abandon`].
pub struct Copying {
    /// None once it has ended.
    open: Option<Open>,
    /// The source's address, to recognise it by.
    source: *mut ffi::sqlite3,
}

struct Open {
    backup: NonNull<ffi::sqlite3_backup>,
    target: Connection,
}

// SAFETY: the pointers are followed only where the source is borrowed exclusively, so no other
// thread uses it, and the target belongs to this value alone.
unsafe impl Send for Copying {}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// There is more to do.
    Partly {
        /// Pages that are in the new file.
        pages: u64,
        /// Pages that the source had at the last step.
        pages_total: u64,
    },
    /// The new file is complete, synced and closed: it is what the source is now, and what is
    /// written to the source from here on is not in it.
    Whole {
        /// How many pages it has.
        pages: u64,
    },
}

impl Vfs {
    /// Begins a copy of the database that `source` has open into a new file at `path`, under `key`
    /// and a database id of its own. What was at `path` is deleted.
    ///
    /// What is written through `source` between steps goes into the copy as well. Readers are not
    /// disturbed. If another connection writes, the copy starts over by itself. Until it is whole,
    /// the new file is no database yet: after a crash delete it.
    ///
    /// # Errors
    /// As [`Vfs::open`].
    pub fn copy_of(
        &self,
        source: &mut Connection,
        path: &Path,
        key: &Secret<32>,
    ) -> Result<Copying> {
        self.remove(path)?;
        let target = self.open_for(path, key, OpenMode::Create, Purpose::Copy)?;
        self.sync_name(path)?;
        // SAFETY: both connections are alive and used by nobody else during the call.
        let (source, backup, code) = unsafe {
            let (from, to) = (source.handle(), target.handle());
            let backup = ffi::sqlite3_backup_init(to, c"main".as_ptr(), from, c"main".as_ptr());
            (from, backup, ffi::sqlite3_extended_errcode(to))
        };
        let backup = NonNull::new(backup).ok_or_else(|| failure(code))?;
        Ok(Copying { open: Some(Open { backup, target }), source })
    }
}

impl Copying {
    /// Copies up to `pages` more and syncs them. `source` is the connection it was begun with,
    /// outside a transaction.
    ///
    /// # Errors
    /// Those of the storage, [`Error::Full`] among them; nothing but [`Copying::abandon`] is of use
    /// then. [`Error::Foreign`] if `source` is another connection.
    pub fn step(&mut self, source: &mut Connection, pages: u32) -> Result<Copied> {
        let mine = self.is_source(source);
        let Some(open) = self.open.as_mut().filter(|_| mine) else { return Err(Error::Foreign) };
        let pages = c_int::try_from(pages).unwrap_or(c_int::MAX).max(1);
        // SAFETY: `open` is there, so the backup has not ended; its source is borrowed exclusively.
        let (code, left, total) = unsafe {
            let backup = open.backup.as_ptr();
            let code = ffi::sqlite3_backup_step(backup, pages);
            (code, ffi::sqlite3_backup_remaining(backup), ffi::sqlite3_backup_pagecount(backup))
        };
        let pages_total = u64::try_from(total).unwrap_or(0);
        match code {
            ffi::SQLITE_OK => {
                sync(&open.target)?;
                let left = u64::try_from(left).unwrap_or(0);
                Ok(Copied::Partly { pages: pages_total.saturating_sub(left), pages_total })
            }
            ffi::SQLITE_DONE => self.end(source).map(|()| Copied::Whole { pages: pages_total }),
            code => Err(failure(code)),
        }
    }

    /// Gives the copy up and closes its file, which is of no use then. Does nothing to a copy that
    /// is whole. If `source` is not the connection it was begun with, the copy's memory is leaked.
    pub fn abandon(mut self, source: &mut Connection) {
        // What a copy failed of was told by the step that failed.
        let _ = self.end(source);
    }

    fn is_source(&self, source: &mut Connection) -> bool {
        // SAFETY: the address is compared, not followed. While the backup lasts SQLite does not
        // free its source, so no other connection can be at that address.
        unsafe { source.handle() == self.source }
    }

    fn end(&mut self, source: &mut Connection) -> Result<()> {
        if !self.is_source(source) {
            return Err(Error::Foreign);
        }
        let Some(Open { backup, target }) = self.open.take() else { return Ok(()) };
        // SAFETY: it was there, so it has not ended yet; its source is borrowed exclusively, and
        // its target is closed after it.
        let code = unsafe { ffi::sqlite3_backup_finish(backup.as_ptr()) };
        let closed = target.close().map_err(|(_, error)| error);
        if code == ffi::SQLITE_OK { Ok(closed?) } else { Err(failure(code)) }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        // Without its source a backup cannot be ended, nor its target be closed before.
        std::mem::forget(self.open.take());
    }
}

impl fmt::Debug for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copying").field("has_ended", &self.open.is_none()).finish_non_exhaustive()
    }
}

/// Syncs what was written of the file so far, so that no step has to sync all of it.
fn sync(target: &Connection) -> Result<()> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the connection is alive; this operation writes one pointer to `file`, which is to an
    // open file for as long as the connection lives, and the thread is the connection's.
    let code = unsafe {
        ffi::sqlite3_file_control(
            target.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        );
        let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
        methods
            .and_then(|m| m.xSync)
            .map_or(ffi::SQLITE_IOERR, |f| f(file, ffi::SQLITE_SYNC_NORMAL))
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(failure(code)) }
}

fn failure(code: c_int) -> Error {
    Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}
