use std::ffi::c_int;

use rusqlite::ffi;

/// A result code of SQLite other than `SQLITE_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(c_int);

impl Code {
    pub(crate) const BUSY: Self = Self(ffi::SQLITE_BUSY);
    pub(crate) const CANTOPEN: Self = Self(ffi::SQLITE_CANTOPEN);
    /// A page or frame is not what was written.
    pub(crate) const DAMAGED: Self = Self(ffi::SQLITE_IOERR_DATA);
    pub(crate) const FSYNC: Self = Self(ffi::SQLITE_IOERR_FSYNC);
    pub(crate) const IOERR: Self = Self(ffi::SQLITE_IOERR);
    pub(crate) const NO_SUCH_FILE: Self = Self(ffi::SQLITE_IOERR_DELETE_NOENT);
    pub(crate) const NOTFOUND: Self = Self(ffi::SQLITE_NOTFOUND);
    pub(crate) const READ: Self = Self(ffi::SQLITE_IOERR_READ);
    pub(crate) const READONLY: Self = Self(ffi::SQLITE_READONLY);
    pub(crate) const REFUSED: Self = Self(ffi::SQLITE_ERROR);
    pub(crate) const SHM: Self = Self(ffi::SQLITE_IOERR_SHMLOCK);
    pub(crate) const SHORT_READ: Self = Self(ffi::SQLITE_IOERR_SHORT_READ);
    pub(crate) const TRUNCATE: Self = Self(ffi::SQLITE_IOERR_TRUNCATE);
    pub(crate) const WRITE: Self = Self(ffi::SQLITE_IOERR_WRITE);

    /// `Ok` for `SQLITE_OK`.
    pub(crate) fn check(code: c_int) -> Result<(), Self> {
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(Self(code)) }
    }

    /// The code behind a result, as SQLite wants it.
    pub(crate) fn of(result: Result<(), Self>) -> c_int {
        result.map_or_else(|code| code.0, |()| ffi::SQLITE_OK)
    }

    pub(crate) fn is_busy(self) -> bool {
        self.0 & 0xff == ffi::SQLITE_BUSY
    }
}

/// What only the disk in memory answers by itself.
#[cfg(feature = "testing")]
impl Code {
    pub(crate) const ACCESS: Self = Self(ffi::SQLITE_IOERR_ACCESS);
    pub(crate) const CLOSE: Self = Self(ffi::SQLITE_IOERR_CLOSE);
    pub(crate) const DELETE: Self = Self(ffi::SQLITE_IOERR_DELETE);
    pub(crate) const DELETE_NOENT: Self = Self(ffi::SQLITE_IOERR_DELETE_NOENT);
    pub(crate) const FSTAT: Self = Self(ffi::SQLITE_IOERR_FSTAT);
    pub(crate) const FULL: Self = Self(ffi::SQLITE_FULL);
    pub(crate) const LOCK: Self = Self(ffi::SQLITE_IOERR_LOCK);
    pub(crate) const UNLOCK: Self = Self(ffi::SQLITE_IOERR_UNLOCK);
}
