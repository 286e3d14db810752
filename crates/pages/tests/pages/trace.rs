//! A VFS over the platform's own that notes which files are opened. It stands below ours.
#![expect(unsafe_code, reason = "a VFS is a table of C functions")]

use std::ffi::{CStr, c_char, c_int};
use std::sync::{Mutex, OnceLock};

use rusqlite::ffi;

static OPENED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Its name, registered on first use.
pub(crate) fn name() -> &'static str {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // SAFETY: a copy of a registered VFS with one function replaced; it is leaked.
        unsafe {
            let mut vfs = *ffi::sqlite3_vfs_find(std::ptr::null());
            vfs.zName = c"traced".as_ptr();
            vfs.pNext = std::ptr::null_mut();
            vfs.xOpen = Some(open);
            let code = ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
    "traced"
}

/// The names of all files opened whose path contains `part`; `?` for those without a name.
pub(crate) fn opened(part: &str) -> Vec<String> {
    let opened = OPENED.lock().unwrap();
    opened.iter().filter(|name| name.contains(part) || *name == "?").cloned().collect()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments go on as they came; a name that is not null ends in NUL.
    unsafe {
        let text = if name.is_null() { c"?" } else { CStr::from_ptr(name) };
        OPENED.lock().unwrap().push(text.to_string_lossy().into_owned());
        let below = ffi::sqlite3_vfs_find(std::ptr::null());
        assert!(below != vfs, "the platform's VFS stays the default");
        (*below).xOpen.unwrap()(below, name, file, flags, out)
    }
}
