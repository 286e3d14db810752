//! The entry points of a [`Disk`] for SQLite.
//!
//! Invariants: a panic never crosses into C; a `File` whose methods are set holds one boxed
//! [`Handle`], which SQLite uses from one thread at a time and closes once.
#![expect(unsafe_code, reason = "SQLite calls a VFS through tables of C functions")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ffi;

use super::disk::{Disk, Handle, Inner};
use crate::code::Code;
use crate::lower::Filled;
use crate::registered::{Registered, owner_of};

#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

static REGISTERED: Registered<Inner> = Registered::none();

/// Registers a disk for as long as it lives; false if the name is taken.
pub(super) fn register(name: &CStr, disk: &Arc<Inner>) -> Result<bool, Code> {
    let vfs = ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: c_int::try_from(size_of::<File>()).map_err(|_| Code::IOERR)?,
        mxPathname: 512,
        pNext: std::ptr::null_mut(),
        zName: std::ptr::null(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(x_open),
        xDelete: Some(x_delete),
        xAccess: Some(x_access),
        xFullPathname: Some(x_full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(x_randomness),
        xSleep: Some(x_sleep),
        xCurrentTime: Some(x_current_time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    REGISTERED.register(name, disk, vfs)
}

/// Runs `body`; a panic becomes `SQLITE_INTERNAL`.
fn fenced(body: impl FnOnce() -> Result<(), Code>) -> c_int {
    catch_unwind(AssertUnwindSafe(|| Code::of(body()))).unwrap_or(ffi::SQLITE_INTERNAL)
}

/// Runs `body` on the handle behind `file`.
///
/// # Safety
/// `file` is an open file of ours that no other call uses at the moment.
unsafe fn with(
    file: *mut ffi::sqlite3_file,
    body: impl FnOnce(&mut Handle) -> Result<(), Code>,
) -> c_int {
    fenced(|| {
        // SAFETY: the caller's promise, and the module's invariant on `handle`.
        let handle = unsafe { (*file.cast::<File>()).handle.as_mut() };
        handle.ok_or(Code::IOERR).and_then(body)
    })
}

/// # Safety
/// `vfs` was registered by [`register`].
unsafe fn disk_of(vfs: *mut ffi::sqlite3_vfs) -> Result<Disk, Code> {
    // SAFETY: the caller's promise.
    unsafe { owner_of(vfs) }.map(Disk).ok_or(Code::CANTOPEN)
}

/// # Safety
/// `name` ends in NUL.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    PathBuf::from(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

unsafe extern "C" fn x_open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<File>();
    // SAFETY: SQLite allots `szOsFile` bytes for the file. Without methods it is not closed.
    unsafe { (*file).base.pMethods = std::ptr::null() };
    fenced(|| {
        if name.is_null() {
            return Err(Code::CANTOPEN);
        }
        // SAFETY: SQLite passes the VFS it looked up and a name that ends in NUL.
        let (disk, path) = unsafe { (disk_of(vfs), path_of(name)) };
        let handle = disk?.open(&path, flags)?;
        // SAFETY: as above; `out_flags` is null or writable.
        unsafe {
            (*file).handle = Box::into_raw(Box::new(handle));
            (*file).base.pMethods = &raw const METHODS;
            if let Some(out) = out_flags.as_mut() {
                *out = flags;
            }
        }
        Ok(())
    })
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    fenced(|| {
        let file = file.cast::<File>();
        // SAFETY: SQLite closes an open file once and does not use it again.
        let handle = unsafe {
            (*file).base.pMethods = std::ptr::null();
            Box::from_raw(std::mem::replace(&mut (*file).handle, std::ptr::null_mut()))
        };
        handle.close()
    })
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite passes an open file and a buffer of `amount` bytes, which is zeroed before
    // Rust looks at it.
    unsafe {
        with(file, |handle| {
            let amount = usize::try_from(amount).map_err(|_| Code::READ)?;
            let offset = u64::try_from(offset).map_err(|_| Code::READ)?;
            out.cast::<u8>().write_bytes(0, amount);
            match handle.read(std::slice::from_raw_parts_mut(out.cast(), amount), offset)? {
                Filled::Whole => Ok(()),
                Filled::Short => Err(Code::SHORT_READ),
            }
        })
    }
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite passes an open file and `amount` bytes, which stay as they are meanwhile.
    unsafe {
        with(file, |handle| {
            let amount = usize::try_from(amount).map_err(|_| Code::WRITE)?;
            let offset = u64::try_from(offset).map_err(|_| Code::WRITE)?;
            handle.write(std::slice::from_raw_parts(bytes.cast(), amount), offset)
        })
    }
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let size = u64::try_from(size).map_err(|_| Code::TRUNCATE);
    // SAFETY: SQLite passes an open file.
    unsafe { with(file, |handle| handle.truncate(size?)) }
}

unsafe extern "C" fn x_sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { with(file, Handle::sync) }
}

unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    unsafe {
        with(file, |handle| {
            *out = i64::try_from(handle.size()?).map_err(|_| Code::FSTAT)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { with(file, |handle| handle.lock(level)) }
}

unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { with(file, |handle| handle.unlock(level)) }
}

unsafe extern "C" fn x_check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    unsafe {
        with(file, |handle| {
            *out = c_int::from(handle.is_reserved());
            Ok(())
        })
    }
}

unsafe extern "C" fn x_file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and, for these two operations, one `int`.
    unsafe {
        with(file, |handle| {
            let value = argument.cast::<c_int>();
            match operation {
                ffi::SQLITE_FCNTL_HAS_MOVED => *value = c_int::from(handle.has_moved()),
                ffi::SQLITE_FCNTL_PERSIST_WAL if *value < 0 => {
                    *value = c_int::from(handle.keeps_wal);
                }
                ffi::SQLITE_FCNTL_PERSIST_WAL => handle.keeps_wal = *value != 0,
                _ => return Err(Code::NOTFOUND),
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn x_sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn x_device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn x_delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: SQLite passes the VFS it looked up, and a path that ends in NUL.
    fenced(|| unsafe { disk_of(vfs)?.delete(&path_of(name), sync_directory & 1 != 0) })
}

unsafe extern "C" fn x_access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the VFS it looked up, a path that ends in NUL, and a place for the
    // answer.
    fenced(|| unsafe {
        *out = c_int::from(disk_of(vfs)?.access(&path_of(name))?);
        Ok(())
    })
}

unsafe extern "C" fn x_full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    fenced(|| {
        // SAFETY: SQLite passes a path that ends in NUL.
        let path = Path::new("/").join(unsafe { path_of(name) });
        let path = path.to_string_lossy();
        if !usize::try_from(size).is_ok_and(|size| path.len() < size) {
            return Err(Code::CANTOPEN);
        }
        // SAFETY: `out` has `size` bytes, which is enough as just checked.
        unsafe {
            out.copy_from_nonoverlapping(path.as_ptr().cast(), path.len());
            *out.add(path.len()) = 0;
        }
        Ok(())
    })
}

unsafe extern "C" fn x_randomness(
    vfs: *mut ffi::sqlite3_vfs,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    let length = usize::try_from(size).unwrap_or(0);
    // SAFETY: `out` has `size` bytes, which are zeroed before Rust looks at them; the VFS is the
    // one SQLite looked up.
    let code = fenced(|| unsafe {
        out.cast::<u8>().write_bytes(0, length);
        disk_of(vfs)?.randomness(std::slice::from_raw_parts_mut(out.cast(), length));
        Ok(())
    });
    if code == ffi::SQLITE_OK { size } else { 0 }
}

unsafe extern "C" fn x_sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: SQLite passes the VFS it looked up.
    fenced(|| unsafe {
        disk_of(vfs)?.sleep(u64::try_from(microseconds).unwrap_or(0));
        Ok(())
    });
    microseconds
}

unsafe extern "C" fn x_current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes the VFS it looked up, and a place for the answer.
    fenced(|| unsafe {
        *out = disk_of(vfs)?.julian_day();
        Ok(())
    })
}
