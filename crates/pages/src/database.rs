//! One database as all connections of this process see it, and the registry of those open.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;

use larder_crypto::Secret;
use rusqlite::ffi;

use crate::code::Code;
use crate::format::{self, DatabaseId, FRAME, PAGE, Page, Sealer, WAL_HEADER};
use crate::locks::FileLocks;
use crate::lower::{FileName, Filled, LowerFile, LowerVfs};
use crate::nonces::{DatabaseNonces, Nonces};
use crate::shm::Shm;
use crate::sync::locked;
use crate::unsynced::Unsynced;
use crate::vfs::{OpenMode, Purpose};

/// Pages and frames that are tried before a key is called wrong.
const PROBES_MAX: u64 = 16;

/// What all connections through one registered VFS share.
pub(crate) struct Shared {
    pub(crate) lower: LowerVfs,
    pub(crate) nonces: Nonces,
    /// Held while a database is opened, so that only one connection sets it up.
    pub(crate) opening: Mutex<()>,
    /// Whether new databases have `auto_vacuum=INCREMENTAL`.
    pub(crate) new_can_shrink: AtomicBool,
    requests: Mutex<HashMap<(CString, ThreadId), Arc<Request>>>,
    databases: Mutex<HashMap<CString, Weak<Database>>>,
}

/// The key for a path, there only while that path is being opened, for the thread that opens it.
pub(crate) struct Request {
    pub(crate) key: Secret<32>,
    pub(crate) mode: OpenMode,
    pub(crate) purpose: Purpose,
    /// The one name that `ATTACH` may use for it; `None` for a connection of its own.
    pub(crate) uri: Option<String>,
    pub(crate) fault: Mutex<Option<Fault>>,
}

impl Request {
    pub(crate) fn new(key: &Secret<32>, mode: OpenMode, purpose: Purpose) -> Self {
        Self { key: key.clone(), mode, purpose, uri: None, fault: Mutex::default() }
    }
}

/// Why a file could not be opened, in more words than SQLite's codes have.
#[derive(Debug)]
pub(crate) enum Fault {
    InUse,
    NotADatabase(&'static str),
    Corrupt(&'static str),
    NotWritable,
    WrongKey,
    /// The VFS below refused.
    Lower(Code),
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::Lower(code)
    }
}

/// A database that at least one connection of this process has open.
pub(crate) struct Database {
    pub(crate) sealer: Sealer,
    pub(crate) nonces: DatabaseNonces,
    pub(crate) shm: Shm,
    pub(crate) locks: FileLocks,
    /// Pages that the file has at least, each sealed, as this process wrote or saw it.
    pub(crate) pages_present: AtomicU32,
    /// Pages the file must have: what its own page 1 says. A page missing below is damage, one
    /// missing above was never written.
    pub(crate) pages_min: AtomicU32,
    /// The salts of the WAL as it is now, which each of its frames bears; 0 before it is known.
    pub(crate) wal_salts: AtomicU64,
    pub(crate) wal_unsynced: Unsynced,
    pub(crate) synced: Synced,
    guard: Mutex<Guard>,
}

/// What a sync of the main file that fails may lose for good: after it the next one may succeed
/// although nothing reached the disk (Linux takes what it could not write for written).
#[derive(Default)]
pub(crate) struct Synced(Mutex<Pages>);

/// Pages of the main file that were written and not synced.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pages {
    #[default]
    Nothing,
    /// What the checkpoint under way wrote. If it fails the next one writes all of it again.
    Rewritable,
    /// Also what nobody writes again: a checkpoint that a reader held back does not sync, and the
    /// next one begins behind it.
    Final,
    /// Some of that may be lost. The WAL still has it, until a checkpoint succeeds.
    Lost,
}

impl Synced {
    /// Something was written to the main file.
    pub(crate) fn note_written(&self, is_final: bool) {
        let mut pages = locked(&self.0);
        *pages = match *pages {
            Pages::Nothing | Pages::Rewritable if !is_final => Pages::Rewritable,
            Pages::Lost => Pages::Lost,
            _ => Pages::Final,
        };
    }

    pub(crate) fn end_checkpoint(&self) {
        let mut pages = locked(&self.0);
        if *pages == Pages::Rewritable {
            *pages = Pages::Final;
        }
    }

    /// Runs a sync of the main file.
    ///
    /// # Errors
    /// As `sync`. Always, once something may be lost: what is in the WAL must stay there, until the
    /// database is opened anew and all of it is written once more.
    pub(crate) fn sync(&self, sync: impl FnOnce() -> Result<(), Code>) -> Result<(), Code> {
        let mut pages = locked(&self.0);
        if *pages == Pages::Lost {
            return Err(Code::FSYNC);
        }
        let synced = sync();
        let is_lost = synced.is_err() && *pages == Pages::Final;
        *pages = if is_lost { Pages::Lost } else { Pages::Nothing };
        synced
    }
}

impl Shared {
    pub(crate) fn new(lower: LowerVfs, nonces: Nonces) -> Self {
        Self {
            lower,
            nonces,
            opening: Mutex::default(),
            new_can_shrink: AtomicBool::new(false),
            requests: Mutex::default(),
            databases: Mutex::default(),
        }
    }

    /// Lets `xOpen` on this thread find the key for `path` until the answer is dropped.
    pub(crate) fn announce(&self, path: CString, request: Arc<Request>) -> Announced<'_> {
        let place = (path, std::thread::current().id());
        locked(&self.requests).insert(place.clone(), request);
        Announced { shared: self, place }
    }

    pub(crate) fn request(&self, path: &CStr) -> Option<Arc<Request>> {
        locked(&self.requests).get(&(path.to_owned(), std::thread::current().id())).cloned()
    }

    /// Whether this thread is attaching a database by this name at the moment.
    pub(crate) fn is_attaching(&self, uri: &str) -> bool {
        let thread = std::thread::current().id();
        let requests = locked(&self.requests);
        let mut mine = requests.iter().filter(|((_, announcer), _)| *announcer == thread);
        mine.any(|(_, request)| request.uri.as_deref() == Some(uri))
    }

    /// The database at `path`, whose file is `file`: the one that is open already, or a new one
    /// once the key proved right. Changes no byte on disk.
    pub(crate) fn attach(
        &self,
        path: &CStr,
        file: &mut LowerFile,
        request: &Request,
    ) -> Result<Arc<Database>, Fault> {
        let name = FileName::of_database(path)?;
        let exclusive = request.mode != OpenMode::ReadOnly;
        let mut databases = locked(&self.databases);
        databases.retain(|_, database| database.strong_count() > 0);
        if let Some(database) = databases.get(path).and_then(Weak::upgrade) {
            if !database.sealer.has_key(&request.key) {
                return Err(Fault::WrongKey);
            }
            locked(&database.guard).ensure(exclusive)?;
            return Ok(database);
        }
        let guard = Guard::acquire(self.lower, name, exclusive)?;
        let found = Inspection { shared: self, path, file, request }.run()?;
        let database = Arc::new(Database {
            sealer: found.sealer,
            nonces: DatabaseNonces::default(),
            shm: Shm::default(),
            locks: FileLocks::default(),
            pages_present: AtomicU32::new(0),
            pages_min: AtomicU32::new(found.pages_min),
            wal_salts: AtomicU64::new(0),
            wal_unsynced: Unsynced::default(),
            synced: Synced::default(),
            guard: Mutex::new(guard),
        });
        databases.insert(path.to_owned(), Arc::downgrade(&database));
        Ok(database)
    }

    /// Drops `handle` while no other thread looks for its database: otherwise that thread could
    /// find the database gone and its lock still held.
    pub(crate) fn release<T>(&self, handle: T) {
        let _databases = locked(&self.databases);
        drop(handle);
    }
}

/// See [`Shared::announce`].
pub(crate) struct Announced<'a> {
    shared: &'a Shared,
    place: (CString, ThreadId),
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        locked(&self.shared.requests).remove(&self.place);
    }
}

impl Database {
    /// Learns how many pages the file has from now on, from a page 1 that was written and synced.
    pub(crate) fn set_pages_min(&self, pages: u32) {
        self.pages_min.store(pages, Ordering::Release);
    }
}

/// The operating system's lock on a database: exclusive for a process that may write.
///
/// The wal-index is in this process's heap, so a second process would read pages the first is
/// overwriting. The lock is taken through the VFS below, on a handle of its own.
pub(crate) struct Guard {
    file: LowerFile,
    exclusive: bool,
}

impl Guard {
    fn acquire(lower: LowerVfs, name: FileName, exclusive: bool) -> Result<Self, Fault> {
        let access = if exclusive { ffi::SQLITE_OPEN_READWRITE } else { ffi::SQLITE_OPEN_READONLY };
        let (mut file, opened) = lower.open(name, access | ffi::SQLITE_OPEN_MAIN_DB)?;
        if exclusive && opened & ffi::SQLITE_OPEN_READONLY != 0 {
            return Err(Fault::NotWritable);
        }
        let levels: &[c_int] = if exclusive {
            &[ffi::SQLITE_LOCK_SHARED, ffi::SQLITE_LOCK_RESERVED, ffi::SQLITE_LOCK_EXCLUSIVE]
        } else {
            &[ffi::SQLITE_LOCK_SHARED]
        };
        for level in levels {
            file.lock(*level)
                .map_err(|code| if code.is_busy() { Fault::InUse } else { Fault::Lower(code) })?;
        }
        Ok(Self { file, exclusive })
    }

    /// Makes sure that the lock is at least this strong, and that the file is still the one that
    /// its path names.
    ///
    /// The lock of a process that only reads is not raised: there would be a moment without one, or
    /// with two, and what its connections recovered from the WAL was not synced for a writer.
    fn ensure(&mut self, exclusive: bool) -> Result<(), Fault> {
        let mut moved = 0;
        let known = self.file.control(ffi::SQLITE_FCNTL_HAS_MOVED, &mut moved).is_ok();
        if known && moved != 0 {
            return Err(Fault::Corrupt("the file was moved or replaced while it was open"));
        }
        if exclusive && !self.exclusive { Err(Fault::InUse) } else { Ok(()) }
    }
}

struct Found {
    sealer: Sealer,
    pages_min: u32,
}

/// Looks at a file before SQLite does: what it is, and whether the key is its own.
struct Inspection<'a> {
    shared: &'a Shared,
    path: &'a CStr,
    file: &'a mut LowerFile,
    request: &'a Request,
}

impl Inspection<'_> {
    fn run(&mut self) -> Result<Found, Fault> {
        let size = self.file.size()?;
        if size == 0 {
            return self.empty();
        }
        let mut page: Box<Page> = Box::new([0; PAGE]);
        let filled = self.file.read(page.as_mut_slice(), 0)?;
        if filled == Filled::Short && size >= PAGE as u64 {
            return Err(Fault::Lower(Code::READ));
        }
        if page.starts_with(format::MAGIC) {
            return Err(Fault::NotADatabase("a SQLite database without encryption"));
        }
        if format::is_unfinished(&page, size) {
            return self.start_over();
        }
        if size < PAGE as u64 {
            return Err(Fault::NotADatabase("too short for a single page"));
        }
        if !format::has_clear_bytes(&page) {
            return Err(Fault::NotADatabase("its header is another or damaged"));
        }
        let id: DatabaseId = format::bytes(page.as_slice(), 0);
        let sealer = Sealer::new(&self.request.key, id);
        let as_found = page.clone();
        if sealer.open_page(1, &mut page).is_ok() {
            if size == PAGE as u64 {
                self.make_durable(&as_found)?;
            }
            let pages_min = format::pages_in_header(&page);
            // A crash amid a checkpoint may leave the file short, but then there is a WAL.
            if size < u64::from(pages_min) * PAGE as u64 && !self.has_wal()? {
                return Err(Fault::Corrupt("its end is missing"));
            }
            return Ok(Found { sealer, pages_min });
        }
        // Page 1 may be torn by a crash amid a checkpoint; then the WAL has it whole.
        if self.wal_opens(&sealer)? {
            return Ok(Found { sealer, pages_min: 0 });
        }
        if self.another_page_opens(&sealer, size)? {
            return Err(Fault::Corrupt("its first page does not authenticate"));
        }
        Err(Fault::WrongKey)
    }

    /// The first page is written once without a WAL. If the process ended before that was synced,
    /// or the sync failed, nothing would sync it before the first checkpoint: after a power failure
    /// there would be a WAL with all that was committed, and no database that it belongs to.
    fn make_durable(&mut self, first: &Page) -> Result<(), Code> {
        if self.request.mode == OpenMode::ReadOnly {
            return Ok(());
        }
        self.file.write(first, 0)?;
        self.file.sync(ffi::SQLITE_SYNC_FULL)
    }

    /// The file's creation was cut short, so nothing was ever committed to it.
    fn start_over(&mut self) -> Result<Found, Fault> {
        let found = self.empty()?;
        self.file.truncate(0)?;
        self.file.sync(ffi::SQLITE_SYNC_FULL)?;
        Ok(found)
    }

    fn empty(&self) -> Result<Found, Fault> {
        if self.request.mode != OpenMode::Create {
            return Err(Fault::NotADatabase("an empty file"));
        }
        // The sync of its header made the file's own name durable: a WAL with frames had a
        // database. One without may outlive the name of a file that was never committed to.
        if self.has_frames()? {
            return Err(Fault::Corrupt("it is empty, yet there is a WAL beside it"));
        }
        let mut id: DatabaseId = self.shared.nonces.draw()?;
        format::mark(&mut id);
        Ok(Found { sealer: Sealer::new(&self.request.key, id), pages_min: 0 })
    }

    fn has_wal(&self) -> Result<bool, Code> {
        let name = FileName::of_database(self.path)?.wal();
        self.shared.lower.access(name.as_c_str(), ffi::SQLITE_ACCESS_EXISTS)
    }

    fn wal(&self) -> Result<Option<LowerFile>, Code> {
        if !self.has_wal()? {
            return Ok(None);
        }
        let name = FileName::of_database(self.path)?.wal();
        let flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_WAL;
        self.shared.lower.open(name, flags).map(|(wal, _)| Some(wal))
    }

    /// Whether there is room for a frame in the WAL.
    fn has_frames(&self) -> Result<bool, Code> {
        let size = self.wal()?.map_or(Ok(0), |mut wal| wal.size())?;
        Ok(size >= (WAL_HEADER + FRAME) as u64)
    }

    fn wal_opens(&self, sealer: &Sealer) -> Result<bool, Code> {
        let Some(mut wal) = self.wal()? else { return Ok(false) };
        let mut frame = Box::new([0; FRAME]);
        for index in 1..=PROBES_MAX {
            let offset = WAL_HEADER as u64 + (index - 1) * FRAME as u64;
            if wal.read(frame.as_mut_slice(), offset)? == Filled::Short {
                break;
            }
            let index = u32::try_from(index).map_err(|_| Code::READ)?;
            if sealer.open_frame(index, &mut frame).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn another_page_opens(&mut self, sealer: &Sealer, size: u64) -> Result<bool, Code> {
        let mut page: Box<Page> = Box::new([0; PAGE]);
        for number in 2..=(size / PAGE as u64).min(PROBES_MAX) {
            self.file.read(page.as_mut_slice(), (number - 1) * PAGE as u64)?;
            let number = u32::try_from(number).map_err(|_| Code::READ)?;
            if sealer.open_page(number, &mut page).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
