//! VFSs registered with SQLite, each under its name for one owner after another.
//!
//! Invariant: SQLite and its connections keep pointers to a VFS for as long as they like, so none
//! is ever freed. What one leads to is looked up at every call, and is gone with its last owner;
//! then the name can be had again. So names, not owners, take memory for good.
#![expect(unsafe_code, reason = "SQLite knows a VFS by a pointer")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, Weak};

use rusqlite::ffi;

use crate::code::Code;
use crate::sync::locked;

/// The VFSs of one kind.
pub(crate) struct Registered<T: 'static>(Mutex<Option<HashMap<&'static CStr, &'static Place<T>>>>);

/// What `pAppData` points to.
pub(crate) struct Place<T> {
    path_bytes_max: i32,
    owner: Mutex<Weak<T>>,
}

impl<T: Send + Sync> Registered<T> {
    pub(crate) const fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Has the VFS `name` lead to `owner` for as long as that lives; false if it leads elsewhere.
    /// Of `table` the name and `pAppData` are set here.
    pub(crate) fn register(
        &self,
        name: &CStr,
        owner: &Arc<T>,
        table: ffi::sqlite3_vfs,
    ) -> Result<bool, Code> {
        let mut places = locked(&self.0);
        let places = places.get_or_insert_default();
        if let Some(place) = places.get(name) {
            let mut current = locked(&place.owner);
            let is_free = current.strong_count() == 0 && place.path_bytes_max == table.mxPathname;
            if is_free {
                *current = Arc::downgrade(owner);
            }
            return Ok(is_free);
        }
        // SAFETY: the name ends in NUL and is read during the call only.
        if !unsafe { ffi::sqlite3_vfs_find(name.as_ptr()) }.is_null() {
            return Ok(false);
        }
        let name: &'static CStr = Box::leak(CString::from(name).into_boxed_c_str());
        let place: &'static Place<T> = Box::leak(Box::new(Place {
            path_bytes_max: table.mxPathname,
            owner: Mutex::new(Arc::downgrade(owner)),
        }));
        let vfs = ffi::sqlite3_vfs {
            zName: name.as_ptr(),
            pAppData: std::ptr::from_ref(place).cast_mut().cast(),
            ..table
        };
        // SAFETY: it and everything it points to lives for ever.
        Code::check(unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) })?;
        places.insert(name, place);
        Ok(true)
    }
}

/// What the VFS leads to; none if that is gone.
///
/// # Safety
/// `vfs` was registered by a [`Registered`] of the same `T`.
pub(crate) unsafe fn owner_of<T>(vfs: *mut ffi::sqlite3_vfs) -> Option<Arc<T>> {
    // SAFETY: the caller's promise; a place is never freed, and only its mutex is changed.
    let place = unsafe { &*(*vfs).pAppData.cast::<Place<T>>() };
    locked(&place.owner).upgrade()
}
