#![expect(unsafe_code, reason = "sqlite-vec is C; its entry point takes the raw connection")]

use std::ffi::{c_char, c_int};

use rusqlite::{Connection, ffi};

type EntryPoint = unsafe extern "C" fn(
    *mut ffi::sqlite3,
    *mut *mut c_char,
    *const ffi::sqlite3_api_routines,
) -> c_int;

/// Registers the `vec0` virtual table and its functions (sqlite-vec) on this connection alone.
///
/// `sqlite3_auto_extension` would reach every connection of the process, the host app's too.
///
/// # Errors
/// SQLite's, if it is out of memory or the connection cannot take functions.
pub fn load_vectors(connection: &Connection) -> rusqlite::Result<()> {
    let mut message: *mut c_char = std::ptr::null_mut();
    // SAFETY: sqlite-vec is built with SQLITE_CORE against the SQLite that rusqlite links, so it
    // has the signature of an extension's entry point (its crate declares it without one) and
    // never touches the API table. `message` outlives the call; what is put there is SQLite's to
    // free, and freeing null does nothing.
    let code = unsafe {
        let init =
            std::mem::transmute::<*const (), EntryPoint>(sqlite_vec::sqlite3_vec_init as *const ());
        let code = init(connection.handle(), &raw mut message, std::ptr::null());
        ffi::sqlite3_free(message.cast());
        code
    };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(code),
            Some("sqlite-vec could not be registered".to_owned()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_there_on_the_connection_asked_for_and_on_no_other() {
        let with = Connection::open_in_memory().unwrap();
        load_vectors(&with).unwrap();
        load_vectors(&with).unwrap();
        let version: String = with.query_row("SELECT vec_version()", [], |r| r.get(0)).unwrap();
        assert!(version.starts_with('v'));
        let without = Connection::open_in_memory().unwrap();
        assert!(without.query_row("SELECT vec_version()", [], |_| Ok(())).is_err());
    }
}
