use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::ffi;

use crate::code::Code;
use crate::format::{self, FRAME, FRAME_HEADER, Frame, PAGE, STARTS_TRANSACTION, WAL_HEADER};
use crate::lower::{FileName, Filled, LowerFile};
use crate::session::Session;
use crate::unused;

type FrameHeader = [u8; FRAME_HEADER];

/// The WAL of one connection.
///
/// Invariants: header and page of a frame reach the disk as one sealed message in one write; those
/// of a transaction have once its last one, which says that it is the last, is written; a
/// frame that does not authenticate is damage, unless it is the torn end that a crash left, which
/// only recovery meets.
pub(crate) struct WalFile {
    /// `None` while a read-only connection finds no WAL: it must not make one.
    lower: Option<LowerFile>,
    session: Arc<Session>,
    /// A frame header that waits for its page.
    waiting: Option<(u32, FrameHeader)>,
    gathered: Gathered,
    scratch: Box<Frame>,
}

/// Sealed frames, one behind the other, that the open transaction has written and that are still to
/// be written below, all in one call. Of one that ended without a commit they are of no use.
#[derive(Default)]
struct Gathered {
    first: u32,
    bytes: Vec<u8>,
}

/// 128 KB for each connection that writes much: SQLite's VFS for Unix takes no more than 131,071
/// bytes in a call.
const GATHERED_MAX: usize = 31;

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes.len() >= GATHERED_MAX * FRAME
    }

    fn contains(&self, index: u32) -> bool {
        (self.first..self.next()).contains(&index)
    }

    /// The frame that would follow.
    fn next(&self) -> u32 {
        let count = self.bytes.len() / FRAME;
        self.first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Whether the frame at `index` can be added.
    fn fits(&self, index: u32) -> bool {
        self.bytes.is_empty() || self.next() == index
    }

    fn add(&mut self, index: u32, frame: &Frame) {
        if self.bytes.is_empty() {
            self.first = index;
        }
        self.bytes.extend_from_slice(frame);
    }

    fn drop_last(&mut self) {
        self.bytes.truncate(self.bytes.len().saturating_sub(FRAME));
    }
}

/// What SQLite reads and writes in a WAL. Frames count from 1.
#[derive(Clone, Copy)]
enum Part {
    Header,
    HeaderSums,
    Frame(u32),
    FrameHeader(u32),
    FrameSums(u32),
    FramePage(u32),
}

impl Part {
    fn at(offset: u64, length: usize) -> Option<Self> {
        match (offset, length) {
            (0, WAL_HEADER) => return Some(Self::Header),
            (24, 8) => return Some(Self::HeaderSums),
            _ => {}
        }
        let offset = offset.checked_sub(WAL_HEADER as u64)?;
        let index = u32::try_from(offset / FRAME as u64 + 1).ok()?;
        match (offset % FRAME as u64, length) {
            (0, FRAME) => Some(Self::Frame(index)),
            (0, FRAME_HEADER) => Some(Self::FrameHeader(index)),
            (16, 8) => Some(Self::FrameSums(index)),
            (24, PAGE) => Some(Self::FramePage(index)),
            _ => None,
        }
    }
}

impl WalFile {
    pub(crate) fn new(lower: Option<LowerFile>, session: Arc<Session>) -> Self {
        let (gathered, scratch) = (Gathered::default(), Box::new([0; FRAME]));
        Self { lower, session, waiting: None, gathered, scratch }
    }

    /// Looks for the file below, if there is none yet.
    fn find_lower(&mut self) -> Result<(), Code> {
        if self.lower.is_none() {
            let name = FileName::of_database(&self.session.path)?.wal();
            let vfs = self.session.shared.lower;
            if vfs.access(name.as_c_str(), ffi::SQLITE_ACCESS_EXISTS)? {
                let flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_WAL;
                self.lower = Some(vfs.open(name, flags)?.0);
            }
        }
        Ok(())
    }

    /// The file below, to write.
    fn writable(&mut self) -> Result<&mut LowerFile, Code> {
        self.session.check_writable()?;
        self.lower.as_mut().ok_or(Code::WRITE)
    }

    /// Fills `out`, which is zeroed, from `offset`.
    pub(crate) fn read(&mut self, out: &mut [u8], offset: u64) -> Result<(), Code> {
        match Part::at(offset, out.len()).ok_or(Code::READ)? {
            Part::Header => self.read_header(out),
            Part::HeaderSums => self.read_below(out, offset),
            Part::Frame(index) => self.read_frame(index, out),
            Part::FrameHeader(index) => self.load_current(index).map(|_| self.copy_from(0, out)),
            Part::FrameSums(index) => self.load_current(index).map(|_| self.copy_from(16, out)),
            Part::FramePage(index) => {
                self.load_current(index).map(|_| self.copy_from(FRAME_HEADER, out))
            }
        }
    }

    /// A whole frame: recovery reads it, and a commit that renews checksums. SQLite ends the WAL
    /// at one that is none of its own: zeros, which name page 0, in place of one that does not
    /// authenticate; or one of an older WAL, that a lost write left there. Neither may hide what
    /// was durable behind it.
    fn read_frame(&mut self, index: u32, out: &mut [u8]) -> Result<(), Code> {
        let ends = match self.load(index) {
            Ok(_) => {
                self.copy_from(0, out);
                let known = self.session.database.wal_salts.load(Ordering::Acquire);
                salts_of(out) != known && !self.is_left_out(index)
            }
            Err(Code::DAMAGED) if self.session.is_recovering() => true,
            Err(code) => return Err(code),
        };
        if ends && self.is_durable(index)? { Err(Code::DAMAGED) } else { Ok(()) }
    }

    fn copy_from(&self, at: usize, out: &mut [u8]) {
        format::copy(out, self.scratch.get(at..).unwrap_or_default());
    }

    fn read_below(&mut self, out: &mut [u8], offset: u64) -> Result<(), Code> {
        self.flush()?;
        self.find_lower()?;
        read_whole(self.lower.as_mut(), out, offset)
    }

    /// The header is clear, and its checksum is SQLite's. SQLite takes a WAL with a damaged one for
    /// empty and deletes it, with all that is committed in it: right if a crash tore the header
    /// when the WAL began anew, since everything in it was in the database then, and only then.
    /// (SQLite reads the header in recovery alone, which may happen on closing too, and then
    /// without the locks that show it.)
    fn read_header(&mut self, out: &mut [u8]) -> Result<(), Code> {
        self.find_lower()?;
        let mut header = [0; WAL_HEADER];
        self.read_below(&mut header, 0)?;
        if format::is_wal_header(&header) {
            self.make_durable(&header)?;
            self.note_salts(&header);
        } else if !self.is_checkpointed()? {
            return Err(Code::DAMAGED);
        }
        format::copy(out, &header);
        Ok(())
    }

    /// What a killed process wrote and did not sync is in the operating system's cache only, and
    /// recovery takes it for committed: without this it could be sent to a peer and then be lost
    /// with the power. A sync alone is not enough: if one failed in that process, the next one may
    /// succeed though nothing reached the disk (Linux takes what it could not write for written).
    /// So what is not known to be synced is written once more, as it is, and then synced.
    fn make_durable(&mut self, header: &[u8; WAL_HEADER]) -> Result<(), Code> {
        if self.session.is_read_only() {
            // A medium that cannot be written need not be able to sync.
            let _ = self.sync(ffi::SQLITE_SYNC_FULL);
            return Ok(());
        }
        self.writable()?.write(header, 0)?;
        for index in self.last_start(header)?..=self.frames()? {
            if self.is_of(header, index)? {
                let Self { lower, scratch, .. } = self;
                let lower = lower.as_mut().ok_or(Code::WRITE)?;
                if lower.read(scratch.as_mut_slice(), offset_of(index))? == Filled::Whole {
                    lower.write(scratch.as_slice(), offset_of(index))?;
                }
            }
        }
        self.sync(ffi::SQLITE_SYNC_FULL)
    }

    /// The frame that the last transaction began with: those before it were synced. The first one
    /// if none can be told.
    fn last_start(&mut self, header: &[u8; WAL_HEADER]) -> Result<u32, Code> {
        for index in (1..=self.frames()?).rev() {
            let starts = |flags: u8| flags & STARTS_TRANSACTION != 0;
            if self.is_of(header, index)? && self.flags(index)?.is_some_and(starts) {
                return Ok(index);
            }
        }
        Ok(1)
    }

    /// The flags of the frame at `index`, if it authenticates.
    fn flags(&mut self, index: u32) -> Result<Option<u8>, Code> {
        match self.load(index) {
            Ok(flags) => Ok(Some(flags)),
            Err(Code::DAMAGED) => Ok(None),
            // What cannot be read now may be whole.
            Err(code) => Err(code),
        }
    }

    /// Whether the frame at `index` says that it is of the WAL with this header.
    fn is_of(&mut self, header: &[u8; WAL_HEADER], index: u32) -> Result<bool, Code> {
        let mut frame = [0; 16];
        self.read_below(&mut frame, offset_of(index))?;
        Ok(frame[8..] == header[16..24])
    }

    /// Whether the database has all that was committed in the WAL, whose header is of no use.
    fn is_checkpointed(&mut self) -> Result<bool, Code> {
        let mut written: Vec<(u32, u32)> = Vec::new();
        let (mut committed, mut pages) = (0, 0);
        let (mut salts, mut is_broken) = (None, false);
        for index in 1..=self.frames()? {
            let Some(flags) = self.flags(index)? else {
                is_broken = true;
                continue;
            };
            let frame = self.scratch.as_slice();
            // The first frame tells which of them are of one WAL.
            if is_broken && salts.is_none() {
                return Ok(false);
            }
            let found = format::bytes::<8>(frame, 8);
            if *salts.get_or_insert(found) != found {
                continue;
            }
            if is_broken {
                // One that starts a transaction says that all before it was committed.
                if flags & STARTS_TRANSACTION != 0 {
                    return Ok(false);
                }
                continue;
            }
            written.push((page_number(frame), index));
            let pages_at_commit = u32::from_be_bytes(format::bytes(frame, 4));
            if pages_at_commit != 0 {
                pages = pages_at_commit;
                committed = written.len();
            }
        }
        written.truncate(committed);
        written.retain(|(page, _)| *page <= pages);
        if written.is_empty() {
            return Ok(true);
        }
        let vfs = self.session.shared.lower;
        let flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        let (mut main, _) = vfs.open(FileName::of_database(&self.session.path)?, flags)?;
        let mut page = Box::new([0; PAGE]);
        let newest: HashMap<u32, u32> = written.into_iter().collect();
        for (number, index) in newest {
            self.load(index)?;
            // Who has the key may have sealed a frame for page 0.
            let Some(before) = u64::from(number).checked_sub(1) else { return Ok(false) };
            let offset = before * PAGE as u64;
            let is_there = main.read(page.as_mut_slice(), offset)? == Filled::Whole
                && self.session.database.sealer.open_page(number, &mut page).is_ok();
            // On its way into the file a page loses what its tree does not use.
            unused::clear(number, pages, &mut page);
            let in_frame = self.scratch.last_chunk_mut().ok_or(Code::READ)?;
            unused::clear(number, pages, in_frame);
            if !is_there || *in_frame != *page {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whole frames in the file.
    fn frames(&mut self) -> Result<u32, Code> {
        let size = self.size()?.saturating_sub(WAL_HEADER as u64);
        u32::try_from(size / FRAME as u64).map_err(|_| Code::READ)
    }

    /// Brings a frame into `scratch`, opened, and answers with its flags.
    fn load(&mut self, index: u32) -> Result<u8, Code> {
        if self.gathered.contains(index) {
            self.flush()?;
        }
        self.find_lower()?;
        let Self { lower, session, scratch, .. } = self;
        read_whole(lower.as_mut(), scratch.as_mut_slice(), offset_of(index))?;
        session.database.sealer.open_frame(index, scratch).map_err(|_| Code::DAMAGED)
    }

    /// [`Self::load`] for a frame that SQLite knows to be of the WAL as it is now: one of the WAL
    /// before at the same place authenticates too. (A transaction that writes over its own frames
    /// leaves the salts of those behind out until it commits.)
    fn load_current(&mut self, index: u32) -> Result<u8, Code> {
        let flags = self.load(index)?;
        let salts = salts_of(self.scratch.as_slice());
        let known = self.session.database.wal_salts.load(Ordering::Acquire);
        let is_current = known == 0 || known == salts || self.is_left_out(index);
        if is_current { Ok(flags) } else { Err(Code::DAMAGED) }
    }

    /// Whether the loaded frame is one that the open transaction wrote without salts.
    fn is_left_out(&self, index: u32) -> bool {
        salts_of(self.scratch.as_slice()) == 0 && self.session.has_written(index)
    }

    fn note_salts(&self, header: &[u8; WAL_HEADER]) {
        let salts = u64::from_be_bytes(format::bytes(header, 16));
        self.session.database.wal_salts.store(salts, Ordering::Release);
    }

    /// Whether the frame at `index`, which does not authenticate, was committed and synced: then
    /// losing it is damage, and not the torn end of a WAL. It was if a frame behind it began a
    /// transaction of the same WAL, since all before that one was synced first.
    fn is_durable(&mut self, index: u32) -> Result<bool, Code> {
        let mut header = [0; WAL_HEADER];
        self.read_below(&mut header, 0)?;
        Ok(self.last_start(&header)? > index)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Code> {
        if self.session.is_read_only() {
            return Err(Code::READONLY);
        }
        // Under locking_mode=EXCLUSIVE no lock would tell where a transaction begins.
        if !self.session.is_writing() {
            return Err(Code::WRITE);
        }
        match Part::at(offset, bytes.len()).ok_or(Code::WRITE)? {
            Part::Header => {
                let header = <&[u8; WAL_HEADER]>::try_from(bytes).map_err(|_| Code::WRITE)?;
                if !format::is_wal_header(header) {
                    return Err(Code::WRITE);
                }
                self.waiting = None;
                self.flush()?;
                self.writable()?.write(bytes, 0)?;
                self.session.database.wal_unsynced.begin();
                self.note_salts(header);
                Ok(())
            }
            Part::FrameHeader(index) => {
                let header = FrameHeader::try_from(bytes).map_err(|_| Code::WRITE)?;
                if self.session.has_written(index) {
                    // New checksums for a frame of this transaction; no page will follow. (Or one
                    // will, after a rollback to a savepoint: then it replaces this one's.)
                    self.reseal(index, 0, &header)
                } else {
                    self.waiting = Some((index, header));
                    Ok(())
                }
            }
            Part::FramePage(index) => match self.waiting.take() {
                Some((waiting, header)) if waiting == index => self.append(index, &header, bytes),
                Some(_) => Err(Code::WRITE),
                None => self.reseal(index, FRAME_HEADER, bytes),
            },
            _ => Err(Code::WRITE),
        }
    }

    fn append(&mut self, index: u32, header: &FrameHeader, page: &[u8]) -> Result<(), Code> {
        if !format::is_sealable(page_number(header), page) {
            return Err(Code::WRITE);
        }
        let starts = self.session.starts_transaction(index)
            && self.session.database.wal_unsynced.is_synced_before(index);
        if self.session.first_written().is_none() || !self.gathered.fits(index) {
            self.flush()?;
        }
        replace(&mut self.scratch, 0, header);
        replace(&mut self.scratch, FRAME_HEADER, page);
        self.seal(index, if starts { STARTS_TRANSACTION } else { 0 })?;
        self.gathered.add(index, &self.scratch);
        let is_last = format::bytes::<4>(header, 4) != [0; 4];
        if (is_last || self.gathered.is_full())
            && let Err(code) = self.write_gathered()
        {
            // SQLite knows that this one is not written. Those before it are.
            self.gathered.drop_last();
            return Err(code);
        }
        self.session.note_written(index);
        Ok(())
    }

    /// Has what was gathered below before that is looked at or changed. What a transaction gathered
    /// that was taken back never gets there: others may have written in its place since.
    fn flush(&mut self) -> Result<(), Code> {
        if self.session.first_written().is_none() {
            self.gathered.bytes.clear();
        }
        self.write_gathered()
    }

    fn write_gathered(&mut self) -> Result<(), Code> {
        let Self { lower, session, gathered, .. } = self;
        if gathered.bytes.is_empty() {
            return Ok(());
        }
        session.database.wal_unsynced.note_write(gathered.first);
        let lower = lower.as_mut().ok_or(Code::WRITE)?;
        lower.write(&gathered.bytes, offset_of(gathered.first))?;
        gathered.bytes.clear();
        Ok(())
    }

    /// Changes a frame that this transaction wrote, under a fresh nonce. (It may bear other salts
    /// than the WAL: after a rollback to a savepoint a new WAL begins once more, with new ones.)
    fn reseal(&mut self, index: u32, at: usize, bytes: &[u8]) -> Result<(), Code> {
        let flags = self.load(index)?;
        if at != 0 && !format::is_sealable(page_number(self.scratch.as_slice()), bytes) {
            return Err(Code::WRITE);
        }
        replace(&mut self.scratch, at, bytes);
        self.seal(index, flags)?;
        self.session.database.wal_unsynced.note_write(index);
        let Self { lower, scratch, .. } = self;
        lower.as_mut().ok_or(Code::WRITE)?.write(scratch.as_slice(), offset_of(index))
    }

    /// Seals the frame in `scratch` under a fresh nonce.
    fn seal(&mut self, index: u32, flags: u8) -> Result<(), Code> {
        let nonce = self.session.nonce()?;
        self.session.database.sealer.seal_frame(index, flags, nonce, &mut self.scratch);
        Ok(())
    }

    pub(crate) fn truncate(&mut self, size: u64) -> Result<(), Code> {
        self.waiting = None;
        self.flush()?;
        self.writable()?.truncate(size)
    }

    pub(crate) fn sync(&mut self, flags: c_int) -> Result<(), Code> {
        if self.waiting.is_some() {
            return Err(Code::WRITE);
        }
        self.flush()?;
        if self.session.is_writing() {
            self.write_lost_again()?;
        }
        let Self { lower, session, .. } = self;
        let Some(lower) = lower else { return Ok(()) };
        session.database.wal_unsynced.sync(session.first_written(), || lower.sync(flags))
    }

    /// A sync that failed may have lost frames of committed transactions, which SQLite does not
    /// write again and the next sync would not cover: so they are written again before it. Only
    /// the one writer does so, as nobody else adds frames meanwhile.
    fn write_lost_again(&mut self) -> Result<(), Code> {
        let database = Arc::clone(&self.session.database);
        let (Some(from), Some(last)) =
            (database.wal_unsynced.failed_from(), self.session.last_written())
        else {
            return Ok(());
        };
        for index in from..=last {
            self.load_current(index)?;
            let Self { lower, scratch, .. } = self;
            let lower = lower.as_mut().ok_or(Code::WRITE)?;
            match lower.read(scratch.as_mut_slice(), offset_of(index))? {
                Filled::Whole => lower.write(scratch.as_slice(), offset_of(index))?,
                Filled::Short => return Err(Code::SHORT_READ),
            }
        }
        database.wal_unsynced.note_written_again();
        Ok(())
    }

    pub(crate) fn size(&mut self) -> Result<u64, Code> {
        self.flush()?;
        self.find_lower()?;
        self.lower.as_mut().map_or(Ok(0), LowerFile::size)
    }

    pub(crate) fn below(&mut self) -> Option<&mut LowerFile> {
        self.lower.as_mut()
    }
}

fn read_whole(lower: Option<&mut LowerFile>, out: &mut [u8], offset: u64) -> Result<(), Code> {
    match lower.map_or(Ok(Filled::Short), |lower| lower.read(out, offset))? {
        Filled::Whole => Ok(()),
        Filled::Short => {
            out.fill(0);
            Err(Code::SHORT_READ)
        }
    }
}

fn offset_of(index: u32) -> u64 {
    WAL_HEADER as u64 + (u64::from(index) - 1) * FRAME as u64
}

fn page_number(header: &[u8]) -> u32 {
    u32::from_be_bytes(format::bytes(header, 0))
}

fn salts_of(frame: &[u8]) -> u64 {
    u64::from_be_bytes(format::bytes(frame, 8))
}

fn replace(frame: &mut Frame, at: usize, bytes: &[u8]) {
    format::copy(frame.get_mut(at..).unwrap_or_default(), bytes);
}
