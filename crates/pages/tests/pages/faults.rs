//! An I/O error at every call below the shim: never a success that is none, never a loss of what
//! was committed.
#![expect(unsafe_code, reason = "a VFS is a table of C functions")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use larder_pages::{Error, OpenMode, Vfs};
use rusqlite::{Connection, ffi};

use crate::common::{KEY, copy, create, dump, is_intact, key, vfs, vfs_over};

/// Calls that still succeed.
static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);

/// A file of the platform's VFS behind methods that may fail; its own memory follows.
#[repr(C)]
struct Faulty {
    base: ffi::sqlite3_file,
    never_syncs: bool,
}

const OFFSET: usize = size_of::<Faulty>().next_multiple_of(16);

unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: the VFS asked for `OFFSET` bytes more than the platform's.
    unsafe { file.byte_add(OFFSET) }
}

macro_rules! pass {
    ($name:ident, $method:ident, $fault:expr, $($arg:ident: $type:ty),*) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($arg: $type),*) -> c_int {
            let fault: Option<c_int> = $fault;
            if let Some(code) = fault
                && LEFT.fetch_sub(1, Ordering::SeqCst) <= 0
            {
                return code;
            }
            // SAFETY: the arguments go on as they came.
            unsafe {
                let real = real(file);
                (*(*real).pMethods).$method.unwrap()(real, $($arg),*)
            }
        }
    };
}

pass!(close, xClose, None,);
pass!(read, xRead, Some(ffi::SQLITE_IOERR_READ), to: *mut c_void, n: c_int, at: i64);
pass!(write, xWrite, Some(ffi::SQLITE_FULL), from: *const c_void, n: c_int, at: i64);
pass!(truncate, xTruncate, Some(ffi::SQLITE_IOERR_TRUNCATE), size: i64);
pass!(sync_below, xSync, Some(ffi::SQLITE_IOERR_FSYNC), flags: c_int);
pass!(file_size, xFileSize, Some(ffi::SQLITE_IOERR_FSTAT), out: *mut i64);
pass!(lock, xLock, Some(ffi::SQLITE_IOERR_LOCK), level: c_int);
pass!(unlock, xUnlock, None, level: c_int);
pass!(check, xCheckReservedLock, None, out: *mut c_int);
pass!(control, xFileControl, None, operation: c_int, argument: *mut c_void);
pass!(sector_size, xSectorSize, None,);
pass!(characteristics, xDeviceCharacteristics, None,);

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: `open` made it; the arguments go on as they came.
    unsafe {
        if (*file.cast::<Faulty>()).never_syncs {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        sync_below(file, flags)
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite allots what the VFS asked for; the arguments go on as they came.
    unsafe {
        (*file).pMethods = std::ptr::null();
        if LEFT.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        let text = if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap() };
        (*file.cast::<Faulty>()).never_syncs = text.ends_with("never-syncs.db-wal");
        let below = ffi::sqlite3_vfs_find(std::ptr::null());
        let code = (*below).xOpen.unwrap()(below, name, real(file), flags, out);
        if code == ffi::SQLITE_OK {
            (*file).pMethods = &raw const METHODS;
        }
        code
    }
}

fn faulty() -> Vfs {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // SAFETY: a copy of a registered VFS with one function replaced; it is leaked.
        unsafe {
            let mut vfs = *ffi::sqlite3_vfs_find(std::ptr::null());
            vfs.zName = c"faulty".as_ptr();
            vfs.pNext = std::ptr::null_mut();
            vfs.szOsFile += c_int::try_from(OFFSET).unwrap();
            vfs.xOpen = Some(open);
            let code = ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
    vfs_over(Some("faulty"))
}

const STEPS: [&str; 5] = [
    "BEGIN; UPDATE t SET a = a || 'x'; SAVEPOINT s; DELETE FROM t WHERE id % 2; ROLLBACK TO s;
     UPDATE t SET a = 'y' || a WHERE id % 3 = 0; COMMIT",
    "PRAGMA wal_checkpoint(FULL)",
    "DELETE FROM t WHERE id % 4 = 0",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "INSERT INTO t VALUES (NULL, 'last')",
];

/// Takes the steps, calls `done` after each.
fn live(vfs: &Vfs, path: &Path, mut done: impl FnMut(&Connection)) -> Result<(), Error> {
    let db = vfs.open(path, &key(KEY), OpenMode::ReadWrite)?;
    db.execute_batch("PRAGMA cache_size=5")?;
    for sql in STEPS {
        db.execute_batch(sql)?;
        done(&db);
    }
    Ok(())
}

#[test]
fn an_error_at_any_call_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("a.db");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 15)";
    let db = create(&vfs(), &origin);
    db.execute_batch(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a);
         {rows} INSERT INTO t SELECT i, hex(randomblob(1000)) FROM n"
    ))
    .unwrap();
    let vfs = faulty();
    let mut states = vec![dump(&db).unwrap()];
    let path = copy(&origin, &dir.path().join("copy"));
    live(&vfs, &path, |db| states.push(dump(db).unwrap())).unwrap();

    let mut faults = 0;
    for calls in 0.. {
        let path = copy(&origin, &dir.path().join("copy"));
        let mut steps = 0;
        LEFT.store(calls, Ordering::SeqCst);
        let lived = live(&vfs, &path, |_| steps += 1);
        let all = LEFT.swap(i64::MAX, Ordering::SeqCst) > 0;
        let db = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
        assert!(is_intact(&db), "after {calls} calls: {lived:?}");
        // The step that failed may have been done in full, but no other, and none is lost.
        let found = dump(&db).unwrap();
        let possible = &states[steps..(steps + 2).min(states.len())];
        assert!(possible.contains(&found), "after {calls} calls and {steps} steps: {lived:?}");
        if all {
            lived.unwrap();
            break;
        }
        faults += 1;
    }
    assert!(faults > 100, "{faults} calls failed in turn");
}

/// A process was killed between writing a transaction and syncing it. What the next one finds, it
/// takes for committed and may send to a peer: a power failure must not take it away then.
#[test]
fn what_is_recovered_is_synced_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("never-syncs.db");
    let db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('written')").unwrap();
    let left = copy(&path, &dir.path().join("left"));
    let read = |vfs: &Vfs| {
        let db = vfs.open(&left, &key(KEY), OpenMode::ReadWrite)?;
        dump(&db).map_err(Error::from)
    };
    let refused = read(&faulty());
    assert!(refused.is_err(), "{refused:?}");
    let again = copy(&left, &dir.path().join("again"));
    let db = vfs().open(&again, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert!(dump(&db).unwrap().contains("written"));
}
