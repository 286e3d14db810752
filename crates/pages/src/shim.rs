//! The entry points that SQLite calls, and their registration.
//!
//! Invariants: a panic never crosses into C; a `File` whose methods are set holds one boxed
//! [`Handle`], which SQLite uses from one thread at a time and closes once.
#![expect(unsafe_code, reason = "SQLite calls a VFS through tables of C functions")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::ffi;

use crate::code::Code;
use crate::database::{Fault, Shared};
use crate::locks::Level;
use crate::lower::LowerFile;
use crate::main_file::MainFile;
use crate::registered::{Registered, owner_of};
use crate::session::Session;
use crate::shm;
use crate::sync::locked;
use crate::vfs::{OpenMode, Purpose};
use crate::wal_file::WalFile;

/// What SQLite knows of an open file of ours; it allots the memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

enum Handle {
    Main(MainFile),
    Wal(WalFile),
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
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
    xShmMap: Some(x_shm_map),
    xShmLock: Some(x_shm_lock),
    xShmBarrier: Some(x_shm_barrier),
    xShmUnmap: Some(x_shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

static REGISTERED: Registered<Shared> = Registered::none();

/// Registers a VFS over `shared` for as long as that lives; false if the name is taken.
pub(crate) fn register(name: &CStr, shared: &Arc<Shared>) -> Result<bool, Code> {
    let vfs = ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: c_int::try_from(size_of::<File>()).map_err(|_| Code::IOERR)?,
        mxPathname: shared.lower.path_bytes_max(),
        pNext: std::ptr::null_mut(),
        zName: std::ptr::null(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(x_open),
        xDelete: Some(x_delete),
        xAccess: Some(x_access),
        xFullPathname: Some(x_full_pathname),
        xDlOpen: Some(x_dl_open),
        xDlError: Some(x_dl_error),
        xDlSym: Some(x_dl_sym),
        xDlClose: Some(x_dl_close),
        xRandomness: Some(x_randomness),
        xSleep: Some(x_sleep),
        xCurrentTime: Some(x_current_time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    REGISTERED.register(name, shared, vfs)
}

/// Runs `body`; a panic becomes `panicked`.
fn fenced<T>(panicked: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(panicked)
}

/// Runs `body` on the handle behind `file`.
///
/// # Safety
/// `file` is an open file of ours that no other call uses at the moment.
unsafe fn with(
    file: *mut ffi::sqlite3_file,
    body: impl FnOnce(&mut Handle) -> Result<(), Code>,
) -> c_int {
    fenced(ffi::SQLITE_INTERNAL, || {
        // SAFETY: the caller's promise, and the module's invariant on `handle`.
        let handle = unsafe { (*file.cast::<File>()).handle.as_mut() };
        Code::of(handle.ok_or(Code::IOERR).and_then(body))
    })
}

/// What the VFS was registered with; none once nothing but SQLite knows of it.
///
/// # Safety
/// `vfs` was registered by [`register`].
unsafe fn shared_of(vfs: *mut ffi::sqlite3_vfs) -> Option<Arc<Shared>> {
    // SAFETY: the caller's promise.
    unsafe { owner_of(vfs) }
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
    fenced(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite passes the VFS it looked up.
        let Some(shared) = (unsafe { shared_of(vfs) }) else { return ffi::SQLITE_CANTOPEN };
        // SAFETY: the name is null or a `sqlite3_filename` that outlives the file.
        let opened = unsafe { open_handle(&shared, name, flags) };
        Code::of(opened.map(|(handle, opened_flags)| {
            // SAFETY: as above; `out_flags` is null or writable.
            unsafe {
                (*file).handle = Box::into_raw(Box::new(handle));
                (*file).base.pMethods = &raw const METHODS;
                if let Some(out) = out_flags.as_mut() {
                    *out = opened_flags;
                }
            }
        }))
    })
}

/// Opens a main database or its WAL. There is no other file: rollback journals, super-journals
/// and everything temporary are refused.
///
/// # Safety
/// `name` is null or a `sqlite3_filename` that outlives the handle.
unsafe fn open_handle(
    shared: &Arc<Shared>,
    name: *const c_char,
    flags: c_int,
) -> Result<(Handle, c_int), Code> {
    if name.is_null() {
        return Err(Code::CANTOPEN);
    }
    if flags & ffi::SQLITE_OPEN_WAL != 0 {
        // SAFETY: a WAL's name comes from the pager that has its database open.
        unsafe { open_wal(name, flags) }
    } else if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        // SAFETY: the caller's promise.
        unsafe { open_main(shared, name, flags) }
    } else {
        Err(Code::CANTOPEN)
    }
}

/// # Safety
/// `name` is a `sqlite3_filename` that outlives the handle.
unsafe fn open_main(
    shared: &Arc<Shared>,
    name: *const c_char,
    flags: c_int,
) -> Result<(Handle, c_int), Code> {
    // SAFETY: it ends in NUL.
    let path = unsafe { CStr::from_ptr(name) }.to_owned();
    let request = shared.request(&path).ok_or(Code::CANTOPEN)?;
    let open = || -> Result<(Handle, c_int), Fault> {
        // An attached database is opened as was asked for, whatever the connection was opened for.
        let flags = request.mode.access() | (flags & !OpenMode::ACCESS);
        // SAFETY: the caller's promise.
        let (mut file, mut opened) = unsafe { shared.lower.open_named_by_sqlite(name, flags) }?;
        let writes = request.mode != OpenMode::ReadOnly;
        if writes && opened & ffi::SQLITE_OPEN_READONLY != 0 {
            return Err(Fault::NotWritable);
        }
        if file.characteristics() & ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE == 0 {
            return Err(Fault::Lower(Code::CANTOPEN));
        }
        let database = shared.attach(&path, &mut file, &request)?;
        let session = Session::new(Arc::clone(shared), database, path.clone(), &request);
        if request.purpose == Purpose::Compact {
            // `VACUUM INTO` sets no journal mode: this makes SQLite keep its journal in memory.
            opened |= ffi::SQLITE_OPEN_MEMORY;
        }
        Ok((Handle::Main(MainFile::new(file, Arc::new(session))), opened))
    };
    open().map_err(|fault| match fault {
        Fault::Lower(code) => code,
        fault => {
            let code = if matches!(fault, Fault::InUse) { Code::BUSY } else { Code::CANTOPEN };
            *locked(&request.fault) = Some(fault);
            code
        }
    })
}

/// # Safety
/// `name` is the WAL's `sqlite3_filename` of a pager that has its database open.
unsafe fn open_wal(name: *const c_char, flags: c_int) -> Result<(Handle, c_int), Code> {
    // SAFETY: the caller's promise is what the function asks for.
    let database = unsafe { ffi::sqlite3_database_file_object(name) };
    // SAFETY: the pager's file is open, or has null methods.
    let methods = unsafe { database.as_ref() }.map(|file| file.pMethods);
    if methods != Some(&raw const METHODS) {
        return Err(Code::CANTOPEN);
    }
    // SAFETY: the methods are ours, so it is a `File` of ours; its thread is this one, and it is
    // in no other call.
    let session = match unsafe { (*database.cast::<File>()).handle.as_ref() } {
        Some(Handle::Main(main)) => Arc::clone(&main.session),
        _ => return Err(Code::CANTOPEN),
    };
    if session.is_read_only() {
        let opened = (flags & !ffi::SQLITE_OPEN_READWRITE) | ffi::SQLITE_OPEN_READONLY;
        return Ok((Handle::Wal(WalFile::new(None, session)), opened));
    }
    // SAFETY: the caller's promise.
    let (file, opened) = unsafe { session.shared.lower.open_named_by_sqlite(name, flags) }?;
    if opened & ffi::SQLITE_OPEN_READONLY != 0 {
        return Err(Code::CANTOPEN);
    }
    Ok((Handle::Wal(WalFile::new(Some(file), session)), opened))
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    fenced(ffi::SQLITE_INTERNAL, || {
        let file = file.cast::<File>();
        // SAFETY: SQLite closes an open file once and does not use it again.
        let handle = unsafe {
            (*file).base.pMethods = std::ptr::null();
            Box::from_raw(std::mem::replace(&mut (*file).handle, std::ptr::null_mut()))
        };
        match *handle {
            Handle::Main(main) => {
                let shared = Arc::clone(&main.session.shared);
                shared.release(main);
            }
            Handle::Wal(wal) => drop(wal),
        }
        ffi::SQLITE_OK
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
            let out = std::slice::from_raw_parts_mut(out.cast::<u8>(), amount);
            match handle {
                Handle::Main(main) => main.read(out, offset),
                Handle::Wal(wal) => wal.read(out, offset),
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
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), amount);
            match handle {
                Handle::Main(main) => main.write(bytes, offset),
                Handle::Wal(wal) => wal.write(bytes, offset),
            }
        })
    }
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            let size = u64::try_from(size).map_err(|_| Code::TRUNCATE)?;
            match handle {
                Handle::Main(main) => main.truncate(size),
                Handle::Wal(wal) => wal.truncate(size),
            }
        })
    }
}

unsafe extern "C" fn x_sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| match handle {
            Handle::Main(main) => main.sync(flags),
            Handle::Wal(wal) => wal.sync(flags),
        })
    }
}

unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    unsafe {
        with(file, |handle| {
            let size = match handle {
                Handle::Main(main) => main.lower.size(),
                Handle::Wal(wal) => wal.size(),
            }?;
            *out = i64::try_from(size).map_err(|_| Code::IOERR)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            let level = match level {
                ffi::SQLITE_LOCK_NONE => Level::None,
                ffi::SQLITE_LOCK_SHARED => Level::Shared,
                ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
                _ => Level::Exclusive,
            };
            session(handle)?.lock(level)
        })
    }
}

unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            let shared = level == ffi::SQLITE_LOCK_SHARED;
            session(handle)?.unlock(if shared { Level::Shared } else { Level::None });
            Ok(())
        })
    }
}

unsafe extern "C" fn x_check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    unsafe {
        with(file, |handle| {
            *out = c_int::from(session(handle)?.database.locks.is_reserved());
            Ok(())
        })
    }
}

/// The session of a main file; nothing else is locked.
fn session(handle: &mut Handle) -> Result<&Arc<Session>, Code> {
    match handle {
        Handle::Main(main) => Ok(&main.session),
        Handle::Wal(_) => Err(Code::IOERR),
    }
}

unsafe extern "C" fn x_file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and the argument that goes with the operation.
    unsafe {
        with(file, |handle| match (operation, handle) {
            // The holes that these would leave could not be told from damage.
            (ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE, _) => Ok(()),
            (ffi::SQLITE_FCNTL_PRAGMA, Handle::Main(main)) => pragma(main, argument.cast()),
            (ffi::SQLITE_FCNTL_PERSIST_WAL | ffi::SQLITE_FCNTL_HAS_MOVED, Handle::Main(main)) => {
                let value = argument.cast::<c_int>().as_mut().ok_or(Code::NOTFOUND)?;
                main.lower.control(operation, value)
            }
            _ => Err(Code::NOTFOUND),
        })
    }
}

/// Judges a pragma: "not found" lets SQLite run it.
///
/// # Safety
/// `words` is what `SQLITE_FCNTL_PRAGMA` passes: a place for a message, the name, the value.
unsafe fn pragma(main: &mut MainFile, words: *mut *mut c_char) -> Result<(), Code> {
    // SAFETY: the caller's promise; a pragma without a value has null there.
    let (name, value) = unsafe {
        let value = *words.add(2);
        if value.is_null() {
            return Err(Code::NOTFOUND);
        }
        (CStr::from_ptr(*words.add(1)).to_string_lossy(), CStr::from_ptr(value).to_string_lossy())
    };
    let Some(reason) = main.refusal(&name, &value) else { return Err(Code::NOTFOUND) };
    let reason = CString::new(reason).map_err(|_| Code::REFUSED)?;
    // SAFETY: SQLite frees the message, which must come from its own allocator.
    unsafe { *words = ffi::sqlite3_mprintf(c"%s".as_ptr(), reason.as_ptr()) };
    Err(Code::REFUSED)
}

unsafe extern "C" fn x_sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    let mut size = 0;
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            size = below(handle).map_or(0, LowerFile::sector_size);
            Ok(())
        })
    };
    size
}

unsafe extern "C" fn x_device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // What promises atomic or partial access does not hold for sealed pages.
    const KEPT: c_int = ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
        | ffi::SQLITE_IOCAP_SEQUENTIAL
        | ffi::SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;
    let mut characteristics = 0;
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            characteristics = below(handle).map_or(0, LowerFile::characteristics) & KEPT;
            Ok(())
        })
    };
    characteristics
}

fn below(handle: &mut Handle) -> Option<&mut LowerFile> {
    match handle {
        Handle::Main(main) => Some(&mut main.lower),
        Handle::Wal(wal) => wal.below(),
    }
}

unsafe extern "C" fn x_shm_map(
    file: *mut ffi::sqlite3_file,
    index: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer. The region stays where it
    // is until this connection unmaps it, and its words are atomics, which may change at will.
    unsafe {
        with(file, |handle| {
            *out = std::ptr::null_mut();
            if usize::try_from(size) != Ok(shm::REGION) {
                return Err(Code::SHM);
            }
            let index = usize::try_from(index).map_err(|_| Code::SHM)?;
            if let Some(region) = session(handle)?.shm_map(index, extend != 0) {
                *out = region;
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn x_shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            let request = shm::Request {
                first: usize::try_from(first).map_err(|_| Code::SHM)?,
                count: usize::try_from(count).map_err(|_| Code::SHM)?,
                exclusive: flags & ffi::SQLITE_SHM_EXCLUSIVE != 0,
            };
            if flags & ffi::SQLITE_SHM_LOCK != 0 {
                session(handle)?.shm_lock(request)
            } else {
                session(handle)?.shm_unlock(request);
                Ok(())
            }
        })
    }
}

unsafe extern "C" fn x_shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: SQLite passes an open file.
    unsafe {
        with(file, |handle| {
            session(handle)?.database.shm.barrier();
            Ok(())
        })
    };
}

unsafe extern "C" fn x_shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: SQLite passes an open file and forgets the addresses it got.
    unsafe {
        with(file, |handle| {
            session(handle)?.shm_detach();
            Ok(())
        })
    }
}

unsafe extern "C" fn x_delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    fenced(ffi::SQLITE_IOERR_DELETE, || {
        // SAFETY: SQLite passes the VFS it looked up, and a path that ends in NUL.
        let (shared, name) = unsafe { (shared_of(vfs), CStr::from_ptr(name)) };
        let Some(shared) = shared else { return ffi::SQLITE_IOERR_DELETE };
        if name.to_bytes().ends_with(b"-wal") {
            let ours = shared.nonces.check_process();
            Code::of(ours.and_then(|()| shared.lower.delete(name, sync_directory)))
        } else {
            ffi::SQLITE_IOERR_DELETE
        }
    })
}

unsafe extern "C" fn x_access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    fenced(ffi::SQLITE_IOERR_ACCESS, || {
        // SAFETY: SQLite passes the VFS it looked up, and a path that ends in NUL.
        let (shared, name) = unsafe { (shared_of(vfs), CStr::from_ptr(name)) };
        let Some(shared) = shared else { return ffi::SQLITE_IOERR_ACCESS };
        // A journal beside a database is never one of ours, and must not be played back.
        let is_journal = name.to_bytes().ends_with(b"-journal");
        let answer = if is_journal { Ok(false) } else { shared.lower.access(name, flags) };
        Code::of(answer.map(|yes| {
            // SAFETY: a place for the answer.
            unsafe { *out = c_int::from(yes) };
        }))
    })
}

unsafe extern "C" fn x_full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    fenced(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite passes the VFS it looked up, and a path that ends in NUL.
        let (shared, name) = unsafe { (shared_of(vfs), CStr::from_ptr(name)) };
        let Some(shared) = shared else { return ffi::SQLITE_CANTOPEN };
        Code::of(shared.lower.full_path(name).and_then(|path| {
            let path = path.as_bytes_with_nul();
            if !usize::try_from(size).is_ok_and(|size| path.len() <= size) {
                return Err(Code::CANTOPEN);
            }
            // SAFETY: `out` has `size` bytes, which is enough as just checked.
            unsafe { out.copy_from_nonoverlapping(path.as_ptr().cast(), path.len()) };
            Ok(())
        }))
    })
}

unsafe extern "C" fn x_dl_open(_: *mut ffi::sqlite3_vfs, _: *const c_char) -> *mut c_void {
    std::ptr::null_mut()
}

unsafe extern "C" fn x_dl_error(_: *mut ffi::sqlite3_vfs, size: c_int, out: *mut c_char) {
    if size > 0 {
        // SAFETY: `out` has `size` bytes.
        unsafe { *out = 0 };
    }
}

unsafe extern "C" fn x_dl_sym(
    _: *mut ffi::sqlite3_vfs,
    _: *mut c_void,
    _: *const c_char,
) -> Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char)> {
    None
}

unsafe extern "C" fn x_dl_close(_: *mut ffi::sqlite3_vfs, _: *mut c_void) {}

unsafe extern "C" fn x_randomness(
    vfs: *mut ffi::sqlite3_vfs,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    fenced(0, || {
        let Ok(length) = usize::try_from(size) else { return 0 };
        // SAFETY: `out` has `size` bytes, which are zeroed before Rust looks at them; the VFS is
        // the one SQLite looked up.
        let (shared, bytes) = unsafe {
            out.cast::<u8>().write_bytes(0, length);
            (shared_of(vfs), std::slice::from_raw_parts_mut(out.cast::<u8>(), length))
        };
        let filled = shared.map(|shared| shared.nonces.fill(bytes));
        if matches!(filled, Some(Ok(()))) { size } else { 0 }
    })
}

unsafe extern "C" fn x_sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: SQLite passes the VFS it looked up.
    let shared = unsafe { shared_of(vfs) };
    fenced(0, || shared.map_or(0, |shared| shared.lower.sleep(microseconds)))
}

unsafe extern "C" fn x_current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    fenced(ffi::SQLITE_IOERR, || {
        // SAFETY: SQLite passes the VFS it looked up.
        let shared = unsafe { shared_of(vfs) };
        let day = shared.ok_or(Code::IOERR).and_then(|shared| shared.lower.julian_day());
        Code::of(day.map(|day| {
            // SAFETY: a place for the answer.
            unsafe { *out = day };
        }))
    })
}
