//! The VFS below ours, behind safe methods.
//!
//! Invariants: a [`LowerVfs`] points to a registered VFS, which SQLite never frees; a
//! [`LowerFile`] is open from its making to its drop and owns its memory and its name.
#![expect(unsafe_code, reason = "another VFS is reached through tables of C functions")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi;

use crate::code::Code;

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How many files this process has asked the operating system to sync, of databases and of their
/// write-ahead logs.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// A VFS that was registered before ours.
#[derive(Clone, Copy)]
pub(crate) struct LowerVfs(NonNull<ffi::sqlite3_vfs>);

// SAFETY: SQLite itself calls a registered VFS from every thread.
unsafe impl Send for LowerVfs {}
// SAFETY: as above.
unsafe impl Sync for LowerVfs {}

impl LowerVfs {
    /// The VFS of this name; the default one for `None`.
    pub(crate) fn find(name: Option<&CStr>) -> Option<Self> {
        // SAFETY: the name is null or ends in NUL, and SQLite only reads it during the call.
        let vfs = unsafe { ffi::sqlite3_vfs_find(name.map_or(std::ptr::null(), CStr::as_ptr)) };
        NonNull::new(vfs).map(Self)
    }

    fn table(&self) -> &ffi::sqlite3_vfs {
        // SAFETY: the type's invariant; nothing changes the fields read through this reference.
        unsafe { self.0.as_ref() }
    }

    /// Bytes of the longest path it takes.
    pub(crate) fn path_bytes_max(self) -> c_int {
        self.table().mxPathname
    }

    /// The absolute path of `path`, without symbolic links.
    pub(crate) fn full_path(&self, path: &CStr) -> Result<CString, Code> {
        let size = self.path_bytes_max().saturating_add(1);
        let mut out = vec![0_u8; usize::try_from(size).unwrap_or(0)];
        let function = self.table().xFullPathname.ok_or(Code::CANTOPEN)?;
        // SAFETY: `out` has `size` bytes; both pointers are valid for the call.
        let code =
            unsafe { function(self.0.as_ptr(), path.as_ptr(), size, out.as_mut_ptr().cast()) };
        if code != ffi::SQLITE_OK_SYMLINK {
            Code::check(code)?;
        }
        CStr::from_bytes_until_nul(&out).map(CStr::to_owned).map_err(|_| Code::CANTOPEN)
    }

    /// Asks about `path`: `SQLITE_ACCESS_EXISTS` and its like.
    pub(crate) fn access(&self, path: &CStr, flags: c_int) -> Result<bool, Code> {
        let function = self.table().xAccess.ok_or(Code::IOERR)?;
        let mut answer = 0;
        // SAFETY: the path ends in NUL; `answer` outlives the call.
        let code = unsafe { function(self.0.as_ptr(), path.as_ptr(), flags, &raw mut answer) };
        Code::check(code).map(|()| answer != 0)
    }

    pub(crate) fn delete(&self, path: &CStr, sync_directory: c_int) -> Result<(), Code> {
        let function = self.table().xDelete.ok_or(Code::IOERR)?;
        // SAFETY: the path ends in NUL.
        Code::check(unsafe { function(self.0.as_ptr(), path.as_ptr(), sync_directory) })
    }

    pub(crate) fn sleep(&self, microseconds: c_int) -> c_int {
        // SAFETY: only numbers are passed.
        self.table().xSleep.map_or(0, |f| unsafe { f(self.0.as_ptr(), microseconds) })
    }

    pub(crate) fn julian_day(&self) -> Result<f64, Code> {
        let function = self.table().xCurrentTime.ok_or(Code::IOERR)?;
        let mut day = 0.0;
        // SAFETY: `day` outlives the call.
        let code = unsafe { function(self.0.as_ptr(), &raw mut day) };
        Code::check(code).map(|()| day)
    }

    /// Opens a file under a name of our own; answers with the flags it was opened with.
    pub(crate) fn open(&self, name: FileName, flags: c_int) -> Result<(LowerFile, c_int), Code> {
        let pointer = name.pointer();
        // SAFETY: the name was made by SQLite for this use and lives as long as the file.
        let (mut file, flags) = unsafe { self.open_named_by_sqlite(pointer, flags) }?;
        file.name = Some(name);
        Ok((file, flags))
    }

    /// Opens a file under the name that SQLite gave to our own `xOpen`.
    ///
    /// # Safety
    /// `name` is a `sqlite3_filename` that outlives the file.
    pub(crate) unsafe fn open_named_by_sqlite(
        &self,
        name: *const c_char,
        flags: c_int,
    ) -> Result<(LowerFile, c_int), Code> {
        let function = self.table().xOpen.ok_or(Code::CANTOPEN)?;
        let words = usize::try_from(self.table().szOsFile).unwrap_or(0).div_ceil(8);
        let file = LowerFile { memory: Memory::zeroed(words), name: None };
        let mut opened = 0;
        // SAFETY: the memory is zeroed, aligned and of the size the VFS asked for; the caller
        // vouches for the name. The drop of `file` closes it if the VFS set its methods, even on
        // an error, as SQLite demands.
        let code =
            unsafe { function(self.0.as_ptr(), name, file.pointer(), flags, &raw mut opened) };
        Code::check(code).map(|()| (file, opened))
    }
}

/// A name for a database or its WAL in the form that `xOpen` expects.
pub(crate) struct FileName {
    base: Arc<NameBlock>,
    is_wal: bool,
}

struct NameBlock(ffi::sqlite3_filename);

// SAFETY: the block is immutable between making and freeing.
unsafe impl Send for NameBlock {}
// SAFETY: as above.
unsafe impl Sync for NameBlock {}

impl FileName {
    /// The name of the database at this full path.
    pub(crate) fn of_database(path: &CStr) -> Result<Self, Code> {
        let with = |suffix: &str| {
            let mut name = path.to_bytes().to_vec();
            name.extend(suffix.bytes());
            CString::new(name).map_err(|_| Code::CANTOPEN)
        };
        let (journal, wal) = (with("-journal")?, with("-wal")?);
        // SAFETY: three strings that end in NUL, and no parameters; SQLite copies them.
        let block = unsafe {
            ffi::sqlite3_create_filename(
                path.as_ptr(),
                journal.as_ptr(),
                wal.as_ptr(),
                0,
                std::ptr::null_mut(),
            )
        };
        if block.is_null() {
            return Err(Code::IOERR);
        }
        Ok(Self { base: Arc::new(NameBlock(block)), is_wal: false })
    }

    /// The name of this database's WAL.
    pub(crate) fn wal(&self) -> Self {
        Self { base: Arc::clone(&self.base), is_wal: true }
    }

    /// The same as a plain string.
    pub(crate) fn as_c_str(&self) -> &CStr {
        // SAFETY: both pointers are strings that end in NUL and live as long as the block.
        unsafe { CStr::from_ptr(self.pointer()) }
    }

    fn pointer(&self) -> *const c_char {
        if self.is_wal {
            // SAFETY: the block was made by `sqlite3_create_filename`.
            unsafe { ffi::sqlite3_filename_wal(self.base.0) }
        } else {
            self.base.0
        }
    }
}

impl Drop for NameBlock {
    fn drop(&mut self) {
        // SAFETY: made by `sqlite3_create_filename`, freed once.
        unsafe { ffi::sqlite3_free_filename(self.0) }
    }
}

/// The memory of a `sqlite3_file`, at an address that never changes.
struct Memory(NonNull<[u64]>);

impl Memory {
    fn zeroed(words: usize) -> Self {
        Self(NonNull::from(Box::leak(vec![0_u64; words.max(1)].into_boxed_slice())))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it came from a box and is freed once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Whether a read found all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Whole,
    /// The file ends before.
    Short,
}

/// An open file of the VFS below.
pub(crate) struct LowerFile {
    memory: Memory,
    /// Outlives the file: a VFS may keep the pointer.
    name: Option<FileName>,
}

// SAFETY: a file may be used by one thread after another; `&mut` keeps them apart.
unsafe impl Send for LowerFile {}

impl LowerFile {
    fn pointer(&self) -> *mut ffi::sqlite3_file {
        self.memory.0.as_ptr().cast()
    }

    fn methods(&self) -> Option<&ffi::sqlite3_io_methods> {
        // SAFETY: the memory starts with a `sqlite3_file`; its table is null or static.
        unsafe { (*self.pointer()).pMethods.as_ref() }
    }

    pub(crate) fn read(&mut self, out: &mut [u8], offset: u64) -> Result<Filled, Code> {
        let function = self.methods().and_then(|m| m.xRead).ok_or(Code::READ)?;
        let (amount, offset) = span(out.len(), offset).ok_or(Code::READ)?;
        // SAFETY: `out` has `amount` bytes; the file is open.
        let code = unsafe { function(self.pointer(), out.as_mut_ptr().cast(), amount, offset) };
        match code {
            ffi::SQLITE_IOERR_SHORT_READ => Ok(Filled::Short),
            code => Code::check(code).map(|()| Filled::Whole),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Code> {
        let function = self.methods().and_then(|m| m.xWrite).ok_or(Code::WRITE)?;
        let (amount, offset) = span(bytes.len(), offset).ok_or(Code::WRITE)?;
        // SAFETY: `bytes` has `amount` bytes; the file is open.
        Code::check(unsafe { function(self.pointer(), bytes.as_ptr().cast(), amount, offset) })
    }

    pub(crate) fn truncate(&mut self, size: u64) -> Result<(), Code> {
        let function = self.methods().and_then(|m| m.xTruncate).ok_or(Code::TRUNCATE)?;
        let size = i64::try_from(size).map_err(|_| Code::TRUNCATE)?;
        // SAFETY: the file is open.
        Code::check(unsafe { function(self.pointer(), size) })
    }

    pub(crate) fn sync(&mut self, flags: c_int) -> Result<(), Code> {
        let function = self.methods().and_then(|m| m.xSync).ok_or(Code::IOERR)?;
        SYNCS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the file is open.
        Code::check(unsafe { function(self.pointer(), flags) })
    }

    /// Bytes in the file.
    pub(crate) fn size(&mut self) -> Result<u64, Code> {
        let function = self.methods().and_then(|m| m.xFileSize).ok_or(Code::IOERR)?;
        let mut size = 0;
        // SAFETY: `size` outlives the call; the file is open.
        Code::check(unsafe { function(self.pointer(), &raw mut size) })?;
        u64::try_from(size).map_err(|_| Code::IOERR)
    }

    /// Raises the operating system's lock to `SQLITE_LOCK_*`.
    pub(crate) fn lock(&mut self, level: c_int) -> Result<(), Code> {
        let function = self.methods().and_then(|m| m.xLock).ok_or(Code::IOERR)?;
        // SAFETY: the file is open.
        Code::check(unsafe { function(self.pointer(), level) })
    }

    /// A file control whose argument is one `int`.
    pub(crate) fn control(&mut self, operation: c_int, value: &mut c_int) -> Result<(), Code> {
        let function = self.methods().and_then(|m| m.xFileControl).ok_or(Code::NOTFOUND)?;
        let value: *mut c_int = value;
        // SAFETY: callers pass operations that read and write one `int`; it outlives the call.
        Code::check(unsafe { function(self.pointer(), operation, value.cast::<c_void>()) })
    }

    pub(crate) fn sector_size(&mut self) -> c_int {
        // SAFETY: the file is open.
        self.methods().and_then(|m| m.xSectorSize).map_or(0, |f| unsafe { f(self.pointer()) })
    }

    pub(crate) fn characteristics(&mut self) -> c_int {
        let function = self.methods().and_then(|m| m.xDeviceCharacteristics);
        // SAFETY: the file is open.
        function.map_or(0, |f| unsafe { f(self.pointer()) })
    }
}

impl Drop for LowerFile {
    fn drop(&mut self) {
        if let Some(close) = self.methods().and_then(|m| m.xClose) {
            // SAFETY: the methods are set, so it is open; it is not used again. Closing fails
            // only after everything was released.
            unsafe { close(self.pointer()) };
        }
    }
}

fn span(length: usize, offset: u64) -> Option<(c_int, i64)> {
    Some((c_int::try_from(length).ok()?, i64::try_from(offset).ok()?))
}
