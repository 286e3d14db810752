use std::ffi::CString;
use std::sync::{Arc, Mutex};

use crate::code::Code;
use crate::database::{Database, Request, Shared};
use crate::format::Nonce;
use crate::locks::Level;
use crate::shm::{self, CHECKPOINT_SLOT, Held, RECOVER_SLOT, WRITE_SLOT};
use crate::sync::locked;
use crate::vfs::{OpenMode, Purpose};

/// One connection to a database: what its main file and its WAL both need to know.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) database: Arc<Database>,
    /// The database's full path.
    pub(crate) path: CString,
    pub(crate) mode: OpenMode,
    pub(crate) purpose: Purpose,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    level: Level,
    held: Held,
    written: Option<Written>,
}

/// The WAL frames that the open transaction has written.
#[derive(Clone, Copy)]
struct Written {
    first: u32,
    last: u32,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        database: Arc<Database>,
        path: CString,
        request: &Request,
    ) -> Self {
        let Request { mode, purpose, .. } = *request;
        Self { shared, database, path, mode, purpose, state: Mutex::default() }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.mode == OpenMode::ReadOnly
    }

    /// # Errors
    /// If it was opened for reading only, or by the process that this one was forked from.
    pub(crate) fn check_writable(&self) -> Result<(), Code> {
        if self.is_read_only() { Err(Code::READONLY) } else { self.shared.nonces.check_process() }
    }

    /// A nonce for one message of this database.
    pub(crate) fn nonce(&self) -> Result<Nonce, Code> {
        self.database.nonces.draw(&self.shared.nonces)
    }

    pub(crate) fn lock(&self, level: Level) -> Result<(), Code> {
        if self.is_read_only() && level > Level::Shared {
            return Err(Code::READONLY);
        }
        self.database.locks.lock(&mut locked(&self.state).level, level)
    }

    pub(crate) fn unlock(&self, level: Level) {
        self.database.locks.unlock(&mut locked(&self.state).level, level);
    }

    pub(crate) fn shm_map(&self, index: usize, extend: bool) -> Option<*mut std::ffi::c_void> {
        self.database.shm.map(&mut locked(&self.state).held, index, extend)
    }

    pub(crate) fn shm_lock(&self, request: shm::Request) -> Result<(), Code> {
        self.database.shm.lock(&mut locked(&self.state).held, request)
    }

    pub(crate) fn shm_unlock(&self, request: shm::Request) {
        let mut state = locked(&self.state);
        self.database.shm.unlock(&mut state.held, request);
        if request.exclusive && request.covers(WRITE_SLOT) {
            state.written = None;
        }
        if request.exclusive && request.covers(CHECKPOINT_SLOT) {
            self.database.synced.end_checkpoint();
        }
    }

    pub(crate) fn shm_detach(&self) {
        let mut state = locked(&self.state);
        self.database.shm.detach(&mut state.held);
        state.written = None;
    }

    /// Whether this connection is rebuilding the wal-index from the WAL: the one time when a
    /// frame may rightly be torn.
    pub(crate) fn is_recovering(&self) -> bool {
        locked(&self.state).held.is_exclusive(RECOVER_SLOT)
    }

    /// Whether the database is used with its WAL at the moment.
    pub(crate) fn uses_wal(&self) -> bool {
        locked(&self.state).held.is_attached()
    }

    /// Whether this connection is the one that may write to the WAL.
    pub(crate) fn is_writing(&self) -> bool {
        locked(&self.state).held.is_exclusive(WRITE_SLOT)
    }

    /// Whether the frame at `index` is the first of the open transaction.
    pub(crate) fn starts_transaction(&self, index: u32) -> bool {
        locked(&self.state).written.is_none_or(|written| written.first == index)
    }

    /// The first frame that the open transaction has written.
    pub(crate) fn first_written(&self) -> Option<u32> {
        locked(&self.state).written.map(|written| written.first)
    }

    /// The last frame that the open transaction has written.
    pub(crate) fn last_written(&self) -> Option<u32> {
        locked(&self.state).written.map(|written| written.last)
    }

    pub(crate) fn has_written(&self, index: u32) -> bool {
        let written = locked(&self.state).written;
        written.is_some_and(|written| (written.first..=written.last).contains(&index))
    }

    pub(crate) fn note_written(&self, index: u32) {
        let mut state = locked(&self.state);
        let written = state.written.get_or_insert(Written { first: index, last: index });
        written.last = written.last.max(index);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shm_detach();
        self.unlock(Level::None);
    }
}
