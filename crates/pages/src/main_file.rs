use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::ffi;

use crate::code::Code;
use crate::format::{self, LOCK_PAGE, PAGE, Page};
use crate::lower::{Filled, LowerFile};
use crate::session::Session;
use crate::unused;
use crate::vfs::Purpose;

/// The main database file of one connection.
///
/// Invariants: only whole sealed pages are written, and none is skipped (but the lock page), so
/// that a page of zeros on disk is never content; none is written with anything in room that its
/// tree does not use.
pub(crate) struct MainFile {
    pub(crate) lower: LowerFile,
    pub(crate) session: Arc<Session>,
    scratch: Box<Page>,
    /// What `pages_min` becomes with the next sync.
    pages_min_next: Option<u32>,
}

impl MainFile {
    pub(crate) fn new(lower: LowerFile, session: Arc<Session>) -> Self {
        Self { lower, session, scratch: Box::new([0; PAGE]), pages_min_next: None }
    }

    /// Fills `out`, which is zeroed, from `offset`.
    pub(crate) fn read(&mut self, out: &mut [u8], offset: u64) -> Result<(), Code> {
        let (number, at) = page_at(offset).ok_or(Code::READ)?;
        if let (0, Ok(page)) = (at, <&mut Page>::try_from(&mut *out)) {
            return load(&mut self.lower, &self.session, number, page);
        }
        let header = (number, at, out.len()) == (1, 0, 100);
        let loaded = load(&mut self.lower, &self.session, number, &mut self.scratch);
        match loaded {
            // SQLite sizes its pages by these bytes before it looks at the WAL, so they must be
            // there for a database that is empty, or whose page 1 only the WAL has whole.
            Err(Code::SHORT_READ | Code::DAMAGED) if header => {
                let can_shrink = self.session.shared.new_can_shrink.load(Ordering::Relaxed);
                format::copy(out, &format::synthetic_header(can_shrink));
                Ok(())
            }
            Err(code) => Err(code),
            Ok(()) => {
                format::copy(out, self.scratch.get(at..at + out.len()).ok_or(Code::READ)?);
                Ok(())
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Code> {
        let (number, at) = page_at(offset).ok_or(Code::WRITE)?;
        let page = <&Page>::try_from(bytes).map_err(|_| Code::WRITE)?;
        if at != 0 || !format::is_sealable(number, page) {
            return Err(Code::WRITE);
        }
        if self.session.is_read_only() {
            return Err(Code::READONLY);
        }
        self.check_wal()?;
        self.fill_holes_before(number)?;
        if number == 1 {
            self.pages_min_next = Some(format::pages_in_header(page));
        }
        let is_final = self.session.purpose != Purpose::Use;
        let stored = self.store(number, page, is_final);
        // A part of a first page is no database, and nobody could make one in its place.
        if stored.is_err() && self.lower.size().is_ok_and(|size| size < PAGE as u64) {
            let _ = self.lower.truncate(0);
        }
        if stored.is_ok() {
            self.session.database.pages_present.fetch_max(number, Ordering::AcqRel);
        }
        stored
    }

    /// Content gets into a database that is in use through its WAL alone: a power failure amid a
    /// write in place would leave parts of pages. (A pragma that names no schema asks the main one
    /// of its connection, which need not be one of ours, and then changes the journal of all.)
    fn check_wal(&mut self) -> Result<(), Code> {
        let is_safe = self.session.purpose != Purpose::Use
            || self.session.uses_wal()
            || self.lower.size()? == 0;
        if is_safe { Ok(()) } else { Err(Code::WRITE) }
    }

    fn store(&mut self, number: u32, page: &Page, is_final: bool) -> Result<(), Code> {
        self.session.database.synced.note_written(is_final);
        *self.scratch = *page;
        let pages = self.session.database.pages_present.load(Ordering::Acquire);
        unused::clear(number, pages, &mut self.scratch);
        if number == 1 && self.session.purpose == Purpose::Compact {
            // Whoever opens it next finds a database with a WAL; SQLite never reads it back here.
            format::set_wal_versions(&mut self.scratch);
        }
        let nonce = self.session.nonce()?;
        self.session.database.sealer.seal_page(number, nonce, &mut self.scratch);
        if number == 1 && self.lower.size()? == 0 {
            // The id and the clear bytes come last, in one sector, so that a file whose creation
            // a crash cut short can be told from a damaged one.
            let mut blank = self.scratch.clone();
            format::blank(&mut blank);
            self.lower.write(blank.as_slice(), 0)?;
            self.lower.sync(ffi::SQLITE_SYNC_FULL)?;
        }
        self.lower.write(self.scratch.as_slice(), offset_of(number))
    }

    /// Writes sealed zeros where the file has no page yet, up to the one before `number`.
    fn fill_holes_before(&mut self, number: u32) -> Result<(), Code> {
        let known = self.session.database.pages_present.load(Ordering::Acquire);
        if number <= known.saturating_add(1) {
            return Ok(());
        }
        let pages = self.lower.size()? / PAGE as u64;
        let present = u32::try_from(pages).map_err(|_| Code::WRITE)?;
        for hole in present.saturating_add(1)..number {
            if hole != LOCK_PAGE {
                self.store(hole, &[0; PAGE], true)?;
            }
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, size: u64) -> Result<(), Code> {
        let (next, at) = page_at(size).ok_or(Code::TRUNCATE)?;
        if at != 0 {
            return Err(Code::TRUNCATE);
        }
        self.session.check_writable()?;
        self.check_wal()?;
        self.fill_holes_before(next)?;
        let Session { database, .. } = &*self.session;
        for known in [&database.pages_min, &database.pages_present] {
            known.fetch_min(next - 1, Ordering::AcqRel);
        }
        self.lower.truncate(size)
    }

    pub(crate) fn sync(&mut self, flags: c_int) -> Result<(), Code> {
        let Self { lower, session, .. } = self;
        session.database.synced.sync(|| lower.sync(flags))?;
        if let Some(pages) = self.pages_min_next.take() {
            self.session.database.set_pages_min(pages);
        }
        Ok(())
    }

    /// Why a pragma is refused, if it is.
    pub(crate) fn refusal(&mut self, pragma: &str, value: &str) -> Option<&'static str> {
        let value = value.to_ascii_lowercase();
        let one_of = |allowed: &[&str]| allowed.contains(&value.as_str());
        match pragma.to_ascii_lowercase().as_str() {
            // An empty database becomes one with a WAL by a first write that has no WAL yet.
            "journal_mode" if one_of(&["memory"]) && self.lower.size() == Ok(0) => None,
            "journal_mode" if !one_of(&["wal"]) => {
                Some("an encrypted database has a WAL: journal_mode cannot be changed")
            }
            "locking_mode" if !one_of(&["normal"]) => {
                Some("an encrypted database keeps locking_mode=NORMAL")
            }
            "synchronous" if !one_of(&["normal", "full", "extra", "1", "2", "3"]) => {
                Some("an encrypted database keeps synchronous=FULL, EXTRA or NORMAL")
            }
            "fullfsync" | "checkpoint_fullfsync" if !one_of(&["1", "on", "yes", "true"]) => {
                Some("an encrypted database keeps full syncs on")
            }
            "temp_store" if !one_of(&["memory", "2"]) => {
                Some("an encrypted database keeps temp_store=MEMORY")
            }
            "temp_store_directory" | "data_store_directory" => {
                Some("an encrypted database keeps no files but its own")
            }
            _ => None,
        }
    }
}

/// Brings page `number` into `page`, opened; zeros if that fails.
fn load(
    lower: &mut LowerFile,
    session: &Session,
    number: u32,
    page: &mut Page,
) -> Result<(), Code> {
    if number == LOCK_PAGE {
        page.fill(0);
        return Ok(());
    }
    let database = &session.database;
    let loaded = match lower.read(page, offset_of(number))? {
        Filled::Whole => database.sealer.open_page(number, page).map_err(|_| Code::DAMAGED),
        Filled::Short if number <= database.pages_min.load(Ordering::Acquire) => Err(Code::DAMAGED),
        Filled::Short => Err(Code::SHORT_READ),
    };
    if loaded.is_err() {
        page.fill(0);
    }
    loaded
}

/// The number of the page at `offset`, and how far into it that is.
fn page_at(offset: u64) -> Option<(u32, usize)> {
    let number = u32::try_from(offset / PAGE as u64 + 1).ok()?;
    let at = usize::try_from(offset % PAGE as u64).ok()?;
    Some((number, at))
}

fn offset_of(number: u32) -> u64 {
    (u64::from(number) - 1) * PAGE as u64
}
