use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString, c_int};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder_types::Timestamp;
use rusqlite::ffi;

use super::dice::Dice;
use super::locks::Locks;
use super::loss::Loss;
use super::media::{FileId, Media};
use super::table;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::lower::Filled;
use crate::sync::locked;

/// A disk in memory, registered as a SQLite VFS. Clones are the same disk.
#[derive(Clone)]
pub struct Disk(pub(super) Arc<Inner>);

pub(super) struct Inner {
    name: String,
    state: Mutex<State>,
    hook: Mutex<Hook>,
    calls: AtomicU64,
}

type Hook = Box<dyn FnMut(&Call<'_>) -> Outcome + Send>;

/// What a call does to a file or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Opens a file, and perhaps creates it.
    Open,
    /// Lets go of a handle. It happens even if the hook lets it fail.
    Close,
    /// Reads bytes.
    Read,
    /// Writes bytes.
    Write,
    /// Sets a size, which is the call's offset.
    Truncate,
    /// Makes a file durable.
    Sync,
    /// Asks for a size.
    Size,
    /// Raises a lock, to the level that is the call's length.
    Lock,
    /// Lowers a lock, to the level that is the call's length.
    Unlock,
    /// Takes a name away.
    Delete,
    /// Asks whether a name is there.
    Access,
    /// Gives a file the name that is the call's path.
    Rename,
    /// Asks for the names in a directory.
    List,
    /// Makes a directory.
    MakeDirectory,
    /// Makes the names in a directory durable.
    SyncDirectory,
}

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Counts from 0 over the life of the disk.
    pub index: u64,
    /// What it does.
    pub operation: Operation,
    /// The full path that is meant.
    pub path: &'a Path,
    /// Bytes from the start of the file, where that means something.
    pub offset: u64,
    /// Bytes, where that means something.
    pub length: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Go,
    /// It does nothing and answers with this result code of SQLite.
    Fail(c_int),
    /// A read finds this many bytes and no more; a write stores this many and finds the disk full.
    Short(usize),
    /// A sync answers with this result code, and what it should have made durable never will be,
    /// unless it is written again: it can be read until the power fails, and later syncs succeed.
    /// So Linux behaves. For other calls it is [`Outcome::Fail`].
    Forget(c_int),
    /// The power fails during the call: it may have happened, and nothing works until
    /// [`Disk::crash`].
    Crash,
}

/// All that a disk holds at one moment, what is not synced too. Shares its bytes with the disk.
#[derive(Clone)]
pub struct Snapshot(Media);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandleId(pub(super) u64);

/// An open file. It is of no more use once the disk has lost power.
pub(super) struct Handle {
    pub(super) disk: Disk,
    pub(super) path: PathBuf,
    file: FileId,
    id: HandleId,
    /// The first sync makes the names of the directory durable as well.
    syncs_directory: bool,
    deletes_on_close: bool,
    pub(super) keeps_wal: bool,
}

struct State {
    media: Media,
    locks: Locks,
    /// The handles that still work.
    handles: BTreeMap<HandleId, FileId>,
    handles_made: u64,
    is_off: bool,
    budget: Option<u64>,
    now_us: u64,
    chance: Dice,
}

impl Disk {
    /// An empty disk, registered as a VFS for as long as it, a clone or an open file lives.
    ///
    /// # Errors
    /// [`Error::Unnameable`], if SQLite takes no more.
    pub fn new() -> Result<Self> {
        (0_u64..)
            .find_map(|number| match Self::register(&format!("disk-{number}")) {
                Err(Error::NameTaken { .. }) => None,
                made => Some(made),
            })
            .unwrap_or_else(|| Err(Error::Unnameable("disk".to_owned())))
    }

    /// [`Self::new`] with a name of one's own.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::Unnameable`].
    pub fn register(name: &str) -> Result<Self> {
        let state = State {
            media: Media::default(),
            locks: Locks::default(),
            handles: BTreeMap::new(),
            handles_made: 0,
            is_off: false,
            budget: None,
            now_us: 0,
            chance: Dice::new(0),
        };
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            state: Mutex::new(state),
            hook: Mutex::new(Box::new(|_| Outcome::Go)),
            calls: AtomicU64::new(0),
        });
        let c_name = CString::new(name).map_err(|_| Error::Unnameable(name.to_owned()))?;
        match table::register(&c_name, &inner) {
            Ok(true) => Ok(Self(inner)),
            Ok(false) => Err(Error::NameTaken { name: name.to_owned() }),
            Err(_) => Err(Error::Unnameable(name.to_owned())),
        }
    }

    /// The name to give to [`Vfs::register`](crate::Vfs::register) as the VFS below.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The content of a file as calls see it; `None` if there is none.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = locked(&self.0.state);
        let file = state.media.find(path.as_ref())?;
        state.media.content(file).map(super::content::Content::to_vec)
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        locked(&self.0.state).media.used()
    }

    /// Puts a file there, in place of one that the path led to. It is durable at once.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        locked(&self.0.state).media.put(path.as_ref(), bytes);
    }

    /// Changes bytes of a file that is there, below those who have it open: bit rot. It is durable
    /// at once.
    pub fn damage(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) {
        locked(&self.0.state).media.damage(path.as_ref(), offset, bytes);
    }

    /// Takes a file away, durably and at once.
    pub fn remove(&self, path: impl AsRef<Path>) {
        locked(&self.0.state).media.take_away(path.as_ref());
    }

    /// The full paths of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = locked(&self.0.state);
        let files = state.media.names.iter().filter(|(_, id)| !state.media.is_directory(**id));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Asks `hook` before every call from now on, in place of the hook before.
    ///
    /// It may use this disk, but must not cause a call (no SQL): it would wait for itself.
    pub fn on_call(&self, hook: impl FnMut(&Call<'_>) -> Outcome + Send + 'static) {
        *locked(&self.0.hook) = Box::new(hook);
    }

    /// Lets every call go through again.
    pub fn off_call(&self) {
        self.on_call(|_| Outcome::Go);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// How many bytes all files together may have; a write beyond stores what fits and finds the
    /// disk full. `None`, as at the start, is no bound.
    pub fn set_budget(&self, bytes: Option<u64>) {
        locked(&self.0.state).budget = bytes;
    }

    /// What the clock says from now on: 1970 at the start. Only SQLite's sleeping moves it.
    pub fn set_time(&self, now: Timestamp) {
        locked(&self.0.state).now_us = now.0.saturating_mul(1000);
    }

    /// The process is killed, and the system lives: handles and locks are gone, and what was not
    /// synced is still to be seen, and still to be lost.
    pub fn kill(&self) {
        let mut state = locked(&self.0.state);
        state.drop_handles();
        state.media.forget_handles();
    }

    /// The power fails and comes back. Whatever was open answers errors from now on.
    pub fn crash(&self, loss: Loss) {
        let mut state = locked(&self.0.state);
        state.drop_handles();
        state.media.lose(loss);
        state.is_off = false;
    }

    /// All files and what of them is synced. Cheap: bytes are shared until they change.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(locked(&self.0.state).media.clone())
    }

    /// Becomes what a disk was, this one or another, as if its process had been killed then.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = locked(&self.0.state);
        state.drop_handles();
        state.media = snapshot.0.clone();
        state.media.forget_handles();
        state.is_off = false;
    }

    /// Asks the hook, and fails the call if it says so or the power is off.
    fn begin(
        &self,
        operation: Operation,
        path: &Path,
        (offset, length): (u64, usize),
        failure: Code,
    ) -> std::result::Result<Permit, Code> {
        if locked(&self.0.state).is_off {
            return Err(failure);
        }
        let index = self.0.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call { index, operation, path, offset, length };
        // Its lock ends here: what follows may be another thread's turn.
        let outcome = (locked(&self.0.hook))(&call);
        match outcome {
            Outcome::Go => Ok(Permit::default()),
            Outcome::Short(bytes) => Ok(Permit { short: Some(bytes), ..Permit::default() }),
            Outcome::Forget(code) if operation == Operation::Sync => {
                Ok(Permit { forgets: Code::check(code).err(), ..Permit::default() })
            }
            Outcome::Fail(code) | Outcome::Forget(code) => {
                Err(Code::check(code).err().unwrap_or(failure))
            }
            Outcome::Crash => Ok(Permit { ends: Some(failure), ..Permit::default() }),
        }
    }

    pub(super) fn open(&self, path: &Path, flags: c_int) -> std::result::Result<Handle, Code> {
        let permit = self.begin(Operation::Open, path, (0, 0), Code::CANTOPEN)?;
        let mut state = locked(&self.0.state);
        let known = state.media.find(path);
        let may_create = flags & ffi::SQLITE_OPEN_CREATE != 0;
        if known.is_some() && may_create && flags & ffi::SQLITE_OPEN_EXCLUSIVE != 0 {
            return Err(Code::CANTOPEN);
        }
        let file = match known {
            Some(file) if !state.media.is_directory(file) => file,
            None if may_create && state.media.has_directory_of(path) => state.media.create(path),
            _ => return Err(Code::CANTOPEN),
        };
        permit.end(&mut state)?;
        let id = HandleId(state.handles_made);
        state.handles_made += 1;
        state.handles.insert(id, file);
        state.media.note_opened(file);
        let logs =
            ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
        Ok(Handle {
            disk: self.clone(),
            path: path.to_owned(),
            file,
            id,
            syncs_directory: may_create && flags & logs != 0,
            deletes_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
            keeps_wal: false,
        })
    }

    pub(super) fn delete(
        &self,
        path: &Path,
        sync_directory: bool,
    ) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::Delete, path, (0, 0), Code::DELETE)?;
        let mut state = locked(&self.0.state);
        if !state.media.delete(path) {
            return Err(Code::DELETE_NOENT);
        }
        permit.end(&mut state)?;
        if sync_directory {
            state.media.sync_directory(path.parent());
        }
        Ok(())
    }

    pub(super) fn rename_file(&self, from: &Path, to: &Path) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::Rename, to, (0, 0), Code::IOERR)?;
        let mut state = locked(&self.0.state);
        if !state.media.rename(from, to) {
            return Err(Code::DELETE_NOENT);
        }
        permit.end(&mut state)
    }

    /// False if there is something already.
    pub(super) fn make_directory(&self, path: &Path) -> std::result::Result<bool, Code> {
        let permit = self.begin(Operation::MakeDirectory, path, (0, 0), Code::CANTOPEN)?;
        let mut state = locked(&self.0.state);
        if !state.media.has_directory_of(path) {
            return Err(Code::DELETE_NOENT);
        }
        let is_new = !state.media.is_there(path);
        if is_new {
            state.media.create_directory(path);
        }
        permit.end(&mut state).map(|()| is_new)
    }

    pub(super) fn sync_directory(&self, path: &Path) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::SyncDirectory, path, (0, 0), Code::FSYNC)?;
        let mut state = locked(&self.0.state);
        permit.end(&mut state)?;
        if !state.media.has_directory(path) {
            return Err(Code::DELETE_NOENT);
        }
        state.media.sync_directory(Some(path));
        Ok(())
    }

    pub(super) fn names_in(&self, path: &Path) -> std::result::Result<Vec<OsString>, Code> {
        let permit = self.begin(Operation::List, path, (0, 0), Code::READ)?;
        let mut state = locked(&self.0.state);
        permit.end(&mut state)?;
        if !state.media.has_directory(path) {
            return Err(Code::DELETE_NOENT);
        }
        let names = state.media.names.keys().filter(|name| name.parent() == Some(path));
        Ok(names.filter_map(|name| name.file_name()).map(OsStr::to_owned).collect())
    }

    /// As calls see it, without being one.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        locked(&self.0.state).media.is_there(path)
    }

    pub(super) fn access(&self, path: &Path) -> std::result::Result<bool, Code> {
        let permit = self.begin(Operation::Access, path, (0, 0), Code::ACCESS)?;
        let mut state = locked(&self.0.state);
        permit.end(&mut state)?;
        Ok(state.media.is_there(path))
    }

    pub(super) fn randomness(&self, out: &mut [u8]) {
        larder_types::Entropy::fill(&mut locked(&self.0.state).chance, out);
    }

    /// Moves the clock on, and takes no time.
    pub(super) fn sleep(&self, microseconds: u64) {
        let mut state = locked(&self.0.state);
        state.now_us = state.now_us.saturating_add(microseconds);
    }

    pub(super) fn julian_day(&self) -> f64 {
        const DAY_1970: f64 = 2_440_587.5;
        let ms = u32::try_from(locked(&self.0.state).now_us / 1000 % 86_400_000).unwrap_or(0);
        let days = u32::try_from(locked(&self.0.state).now_us / 86_400_000_000).unwrap_or(0);
        DAY_1970 + f64::from(days) + f64::from(ms) / 86_400_000.0
    }
}

/// The hook's leave to make a call.
#[derive(Default)]
struct Permit {
    short: Option<usize>,
    forgets: Option<Code>,
    /// The power fails once the call is made, which answers this.
    ends: Option<Code>,
}

impl Permit {
    fn end(self, state: &mut State) -> std::result::Result<(), Code> {
        match self.ends {
            Some(failure) => {
                state.drop_handles();
                state.is_off = true;
                Err(failure)
            }
            None => Ok(()),
        }
    }
}

impl State {
    fn drop_handles(&mut self) {
        self.handles.clear();
        self.locks = Locks::default();
    }
}

impl Handle {
    /// [`Disk::begin`] for a handle that must still work.
    fn begin(
        &self,
        operation: Operation,
        span: (u64, usize),
        failure: Code,
    ) -> std::result::Result<Permit, Code> {
        if !locked(&self.disk.0.state).handles.contains_key(&self.id) {
            return Err(failure);
        }
        self.disk.begin(operation, &self.path, span, failure)
    }

    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> std::result::Result<Filled, Code> {
        let permit = self.begin(Operation::Read, (offset, out.len()), Code::READ)?;
        let length = permit.short.unwrap_or(out.len()).min(out.len());
        let mut state = locked(&self.disk.0.state);
        permit.end(&mut state)?;
        let (wanted, rest) = out.split_at_mut(length);
        rest.fill(0);
        let content = state.media.content(self.file).ok_or(Code::READ)?;
        let whole = content.read(offset, wanted) == length && rest.is_empty();
        Ok(if whole { Filled::Whole } else { Filled::Short })
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::Write, (offset, bytes.len()), Code::WRITE)?;
        let mut state = locked(&self.disk.0.state);
        let length = state.media.content(self.file).ok_or(Code::WRITE)?.length();
        let room = state.budget.map_or(u64::MAX, |budget| {
            let free = budget.saturating_sub(state.media.used());
            length.saturating_add(free).saturating_sub(offset)
        });
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let stored = bytes.len().min(room).min(permit.short.unwrap_or(usize::MAX));
        let fits = stored == bytes.len();
        state.media.write(self.file, offset, bytes.get(..stored).unwrap_or(bytes));
        permit.end(&mut state)?;
        if fits { Ok(()) } else { Err(Code::FULL) }
    }

    pub(super) fn truncate(&self, length: u64) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::Truncate, (length, 0), Code::TRUNCATE)?;
        let mut state = locked(&self.disk.0.state);
        state.media.resize(self.file, length);
        permit.end(&mut state)
    }

    pub(super) fn sync(&mut self) -> std::result::Result<(), Code> {
        let permit = self.begin(Operation::Sync, (0, 0), Code::FSYNC)?;
        let mut state = locked(&self.disk.0.state);
        if let Some(code) = permit.forgets {
            state.media.forget(self.file);
            return Err(code);
        }
        permit.end(&mut state)?;
        state.media.sync(self.file);
        if std::mem::take(&mut self.syncs_directory) {
            state.media.sync_directory(self.path.parent());
        }
        Ok(())
    }

    pub(super) fn size(&self) -> std::result::Result<u64, Code> {
        let permit = self.begin(Operation::Size, (0, 0), Code::FSTAT)?;
        let mut state = locked(&self.disk.0.state);
        permit.end(&mut state)?;
        state.media.content(self.file).map(super::content::Content::length).ok_or(Code::FSTAT)
    }

    pub(super) fn lock(&self, level: c_int) -> std::result::Result<(), Code> {
        let span = (0, usize::try_from(level).unwrap_or(0));
        let permit = self.begin(Operation::Lock, span, Code::LOCK)?;
        let mut state = locked(&self.disk.0.state);
        permit.end(&mut state)?;
        state.locks.lock(self.file, self.id, level)
    }

    pub(super) fn unlock(&self, level: c_int) -> std::result::Result<(), Code> {
        let span = (0, usize::try_from(level).unwrap_or(0));
        let permit = self.begin(Operation::Unlock, span, Code::UNLOCK)?;
        let mut state = locked(&self.disk.0.state);
        permit.end(&mut state)?;
        state.locks.unlock(self.file, self.id, level);
        Ok(())
    }

    pub(super) fn is_reserved(&self) -> bool {
        locked(&self.disk.0.state).locks.is_reserved(self.file)
    }

    /// Whether the path leads elsewhere by now.
    pub(super) fn has_moved(&self) -> bool {
        locked(&self.disk.0.state).media.find(&self.path) != Some(self.file)
    }

    pub(super) fn close(self) -> std::result::Result<(), Code> {
        let asked = self.begin(Operation::Close, (0, 0), Code::CLOSE);
        let mut state = locked(&self.disk.0.state);
        state.locks.unlock(self.file, self.id, ffi::SQLITE_LOCK_NONE);
        if state.handles.remove(&self.id).is_some() {
            if self.deletes_on_close {
                state.media.delete(&self.path);
            }
            state.media.note_closed(self.file);
        }
        asked?.end(&mut state)
    }
}
