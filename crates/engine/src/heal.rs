//! Checks a space against its log, and mends what follows from the log.
//!
//! The log is what was signed; all else can be made from it again. A check makes it again, object
//! by object, within a transaction that is taken back where it comes to the same, and where nothing
//! is to be mended. So a repair that is cut leaves each object as it was or mended.
//!
//! What is signed cannot be made: bytes of a section that are damaged are wanted from other devices
//! from then on, and a damaged header is said to be lost.

use larder_log::kind;
use larder_store::StoreError;
use larder_store::space::{logs, sections};
use larder_types::{DeviceId, ObjectId};
use rusqlite::Connection;
use serde::Serialize;

use crate::model::as_optional_text;
use crate::security::SecurityKind;
use crate::state::State as WriterState;
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

use self::lot::Lot;

mod blobs;
mod documents;
mod glance;
mod log;
mod lot;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod rot_tests;
mod search;
#[cfg(test)]
mod tests;

/// A check of a space under way: give it to [`SpaceWriter::check_step`] until that is done.
#[derive(Debug)]
pub struct Checking {
    pub(crate) repair: bool,
    stage: Stage,
    pub(crate) report: CheckReport,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Database,
    Logs(usize),
    Acts,
    Sections(i64),
    Documents(Option<ObjectId>),
    Strays(i64),
    Blobs(i64),
    Words,
    Indexed(i64, bool),
    Done,
}

impl Stage {
    /// What comes in its place if what was before is not as it should be.
    fn if_bad(self) -> Self {
        match self {
            Self::Indexed(0, _) => Self::Indexed(0, true),
            // The rest would be blamed for it; or all is made anew.
            _ => Self::Done,
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Entries whose place in the tree was checked.
    pub entries: u64,
    /// Sections whose bytes were compared with what their author committed to.
    pub sections: u64,
    /// Chunks of blobs whose bytes were compared with what their manifests say.
    pub chunks: u64,
    /// Objects that were made again from the log.
    pub objects: u64,
    /// Objects that could not be, since some of their sections cannot be opened here.
    pub objects_not_judged: u64,
    /// Documents without a vector of the embedder: it failed on them, or what it made is lost.
    /// After a repair it is given their texts again.
    pub without_vector: u64,
    /// What is wrong, and what was done about each.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// What [`Self::return_to`] takes back.
    fn mark(&self) -> (Self, usize) {
        (Self { findings: Vec::new(), ..*self }, self.findings.len())
    }

    fn return_to(&mut self, (counts, findings): (Self, usize)) {
        self.findings.truncate(findings);
        *self = Self { findings: std::mem::take(&mut self.findings), ..counts };
    }

    /// Whether nothing is wrong, or all that was is mended.
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.outcome == Outcome::Mended)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub part: CheckedPart,
    /// Whose log, if it is about one.
    #[serde(serialize_with = "as_optional_text")]
    pub device: Option<DeviceId>,
    /// Which entry of that log.
    pub seq: Option<u64>,
    /// Which object, if it is about one.
    #[serde(serialize_with = "as_optional_text")]
    pub object: Option<ObjectId>,
    /// What is wrong, for people.
    pub what: String,
    /// What was done about it.
    pub outcome: Outcome,
}

/// A part of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckedPart {
    /// The file: its pages, tables and indexes.
    Database,
    /// A log's headers, tree and checkpoints.
    Log,
    /// A section's bytes, or what is noted of it.
    Section,
    /// A document or a tombstone.
    Document,
    /// A chunk of a blob.
    Blob,
    /// The indexes of words and vectors.
    Search,
}

/// What was done about something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing: a repair can mend it.
    Mendable,
    /// Made again from the log.
    Mended,
    /// Nothing: a repair would ask other devices for it.
    Fetchable,
    /// Other devices are asked for it from now on.
    Wanted,
    /// It cannot be made again here, and nobody is asked for it: this copy of the space has to be
    /// replaced.
    Lost,
}

impl Checking {
    /// A check; with `repair`, what is wrong is mended where it can be.
    pub fn new(repair: bool) -> Self {
        Self { repair, stage: Stage::Database, report: CheckReport::default() }
    }

    /// What it came to so far.
    pub fn report(&self) -> &CheckReport {
        &self.report
    }

    /// What it came to.
    pub fn into_report(self) -> CheckReport {
        self.report
    }

    /// Whether what is wrong is mended where it can be.
    pub(crate) fn repairs(&self) -> bool {
        self.repair
    }

    fn lost(&mut self, part: CheckedPart, what: impl Into<String>) -> &mut Finding {
        let finding = self.found(part, what);
        finding.outcome = Outcome::Lost;
        finding
    }

    pub(crate) fn found(&mut self, part: CheckedPart, what: impl Into<String>) -> &mut Finding {
        let outcome = if self.repair { Outcome::Mended } else { Outcome::Mendable };
        let finding =
            Finding { part, device: None, seq: None, object: None, what: what.into(), outcome };
        self.report.findings.push(finding);
        // Never empty: it was just pushed.
        let last = self.report.findings.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "the index of what was just pushed")]
        &mut self.report.findings[last]
    }
}

impl SpaceWriter {
    /// Does some of a check: up to a few hundred objects. Returns whether that was all. Others may
    /// write between two steps.
    ///
    /// What is to be looked at is listed outside of the transaction, and one that is undone since a
    /// page cannot be read is done again for each thing by itself: so all else is checked, and
    /// mended, beside what is lost.
    ///
    /// # Errors
    /// The storage's errors; what was mended before stays so, and the check can begin anew.
    pub fn check_step(&mut self, checking: &mut Checking) -> Result<bool> {
        let stage = std::mem::replace(&mut checking.stage, Stage::Done);
        if stage == Stage::Database {
            self.state_mut().damage.unreadable.forget();
        }
        // Here, where what cannot be is passed over; the lots would be blamed for it.
        match self.show() {
            Err(error) if !is_unreadable(&error) => return Err(error),
            _ => {}
        }
        let listed = lot::list(&*self.shared.pool.reader()?, stage, checking)?;
        let is_bad = self.check_lot(checking, listed.lot)?;
        checking.stage = if is_bad { listed.then.if_bad() } else { listed.then };
        let is_done = checking.stage == Stage::Done;
        let mended = checking.report.findings.iter();
        let mended = mended.filter(|found| found.outcome == Outcome::Mended).count();
        if is_done && mended > 0 {
            self.shared.note(SecurityKind::Repaired, None, &format!("{mended} things mended"));
        }
        if is_done && checking.report.is_whole() {
            self.shared.trouble.is_whole();
        }
        Ok(is_done)
    }

    /// Looks at all of it in one transaction, and if that cannot be done, at each thing in it.
    fn check_lot(&mut self, checking: &mut Checking, lot: Lot) -> Result<bool> {
        let before = checking.report.mark();
        let damage = match self.try_lot(checking, &lot) {
            Err(error) if is_unreadable(&error) => error,
            done => return done,
        };
        checking.report.return_to(before);
        let mut is_bad = false;
        match lot.split() {
            Ok(lots) => {
                for lot in lots {
                    is_bad = self.check_lot(checking, lot)?;
                    if is_bad {
                        break;
                    }
                }
            }
            Err(lot) => lot.is_lost(checking, &damage),
        }
        Ok(is_bad)
    }

    fn try_lot(&mut self, checking: &mut Checking, lot: &Lot) -> Result<bool> {
        let db = self.connection()?;
        // What is durable and not in the documents yet is not lacking in them.
        self.write(db, |tx, state| {
            state.show(tx)?;
            match lot.check(tx, state, checking) {
                Ok(is_bad) => is_alive(tx).map(|()| is_bad),
                // sqlite-vec says no more than that it failed.
                Err(error @ Error::Search(_)) => is_alive(tx).and(Err(error)),
                Err(error) => Err(error),
            }
        })
    }
}

/// SQLite undoes a transaction in which a page cannot be read, whoever takes note of the error:
/// what is written then is written for good.
fn is_alive(db: &Connection) -> Result<()> {
    if db.is_autocommit() {
        return Err(Error::Corrupt("a page of the file cannot be read".into()));
    }
    Ok(())
}

pub(crate) fn is_unreadable(error: &Error) -> bool {
    is_damage(error) || matches!(error, Error::Store(StoreError::RolledBack))
}

/// Makes trees again from the headers of their logs, where those come to what was signed.
pub(crate) fn mend_logs(db: &mut Connection, state: &WriterState) -> Result<()> {
    let tx = larder_store::begin(db)?;
    let mut checking = Checking::new(true);
    for at in 0..logs::every(&tx)?.len() {
        log::check_log(&tx, state, &mut checking, at)?;
    }
    Ok(larder_store::commit(tx)?)
}

/// Looks at what can be seen at a glance, and has the space's state tell what is damaged.
pub(crate) fn glance(db: &Connection, state: &WriterState) {
    let error = match glance::glance(db, state) {
        Ok(None) => return,
        Ok(Some(what)) => Error::Corrupt(what),
        Err(error) => error,
    };
    state.shared.trouble.read_failed(&error);
}

/// Makes a document that turned out to be damaged again from the log. Whether that changed it.
pub(crate) fn mend(db: &Connection, state: &mut WriterState, object: ObjectId) -> Result<bool> {
    let mut checking = Checking::new(true);
    documents::check_one(db, state, &mut checking, object)?;
    Ok(!checking.report.findings.is_empty())
}

/// The same. Whether all that it is made of was here to be looked at: else it is as it was.
pub(crate) fn remake(db: &Connection, state: &mut WriterState, object: ObjectId) -> Result<bool> {
    let mut checking = Checking::new(true);
    documents::check_one(db, state, &mut checking, object)?;
    Ok(checking.report.objects_not_judged == 0)
}

pub(crate) use self::log::{forget, is_admitted};

/// The kinds of sections that make documents.
const DOCUMENTS: (u16, u16) = (kind::DOCUMENT_CREATE, kind::DOCUMENT_DELETE);

fn is_document(section: &sections::Section) -> bool {
    section.about.is_some_and(|about| (DOCUMENTS.0..=DOCUMENTS.1).contains(&about.kind))
}

/// Objects or sections in one transaction.
const STEP: u32 = 256;

/// Work that is taken back unless it says that it is to stay.
fn tried<T>(
    db: &Connection,
    state: &mut WriterState,
    work: impl FnOnce(&Connection, &mut WriterState) -> Result<(T, bool)>,
) -> Result<T> {
    let failed = |source| Error::Store(StoreError::Write { part: "transaction", source });
    let queue = state.queue;
    is_alive(db)?;
    db.execute_batch("SAVEPOINT tried").map_err(failed)?;
    let (done, stays) = work(db, state)?;
    is_alive(db)?;
    if !stays {
        db.execute_batch("ROLLBACK TO tried").map_err(failed)?;
        state.queue = queue;
    }
    db.execute_batch("RELEASE tried").map_err(failed)?;
    Ok(done)
}
