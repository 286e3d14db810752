//! Rot of real files, page by page: a check says what cannot be read, and mends all else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_protocol::{Position, Reply, Request};
use larder_store::space::{documents, unindexed};
use larder_types::ObjectId;
use serde_json::json;

use super::tests::Device;
use super::*;
use crate::durability_tests::{World, copy};
use crate::prune::tests::Device as Member;
use crate::{
    Access, Answer, Mode, Profile, ProfileOptions, PrunePolicy, Reason, Secret, UnitOfWork, Unlock,
};

const PAGE: usize = 4096;

fn space_file(dir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(dir.join("spaces")).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|end| end == "db")).unwrap()
}

/// Fills a page with what authenticates as nothing.
fn rot(dir: &Path, page: usize) {
    let file = space_file(dir);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5);
    std::fs::write(file, bytes).unwrap();
}

fn check(writer: &mut SpaceWriter, repair: bool) -> CheckReport {
    let mut checking = Checking::new(repair);
    while !writer.check_step(&mut checking).unwrap() {}
    checking.into_report()
}

fn count(report: &CheckReport, outcome: Outcome) -> usize {
    report.findings.iter().filter(|found| found.outcome == outcome).count()
}

/// What came of repairs, each with one rotten page.
#[derive(Debug, Default)]
struct Tally {
    pages: usize,
    closed: usize,
    unread: usize,
    all_else_mended: usize,
    mended: usize,
    mendable: usize,
}

impl Tally {
    /// What was mended in the end stood on another page than the rotten one, as most does.
    fn is_mostly_mended(&self) {
        assert!(self.unread > 10, "{self:?}");
        assert!(self.all_else_mended * 10 >= self.unread * 8, "{self:?}");
        assert!(self.mended * 10 >= self.mendable * 6, "{self:?}");
    }
}

fn rot_each(every: usize) -> Tally {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    device.fill(12);
    for sql in [
        "UPDATE documents SET json = '{}' WHERE document IN (1, 9)",
        "DELETE FROM tombstones",
        "UPDATE sections SET clock_wall = 5 WHERE kind = 1 AND section % 9 = 0",
    ] {
        device.damage(sql);
    }
    let damaged = count(&check(&mut device.writer, false), Outcome::Mendable);
    assert!(damaged > 5, "{damaged}");
    device.writer.close().unwrap();
    drop(device);
    let pages = std::fs::read(space_file(dir.path())).unwrap().len() / PAGE;
    let mut tally = Tally::default();
    for page in (0..pages).step_by(every) {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        rot(broken.path(), page);
        tally.pages += 1;
        let Some(mut device) = Device::try_open(broken.path()) else {
            tally.closed += 1;
            continue;
        };
        let report = check(&mut device.writer, true);
        let (mended, lost) = (count(&report, Outcome::Mended), count(&report, Outcome::Lost));
        let again = check(&mut device.writer, false);
        let of_tables = |found: &&Finding| found.part != CheckedPart::Database;
        let left = again.findings.iter().filter(of_tables);
        let left = left.filter(|found| found.outcome == Outcome::Mendable).count();
        tally.mended += mended;
        tally.mendable += damaged;
        tally.unread += usize::from(lost > 0);
        tally.all_else_mended += usize::from(lost > 0 && left == 0);
    }
    println!("{tally:?}");
    tally
}

/// One page that could not be read ended a check in the step that met it: with a repair, in the
/// first one, so that nothing else was mended; and it ended with an error where the page was one of
/// the index of words.
#[test]
fn rot_anywhere_ends_no_check_and_all_else_is_mended() {
    rot_each(2).is_mostly_mended();
}

/// After a repair all documents are to be indexed anew. Where a page of theirs could not be read,
/// none behind it ever was, and every search failed.
#[test]
fn documents_on_a_rotten_page_keep_no_other_out_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    device.fill(40);
    device.writer.reindex().unwrap();
    device.writer.close().unwrap();
    drop(device);
    let pages = std::fs::read(space_file(dir.path())).unwrap().len() / PAGE;
    let (mut tried, mut unread) = (0, 0);
    for page in 0..pages {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        rot(broken.path(), page);
        let Some(mut device) = Device::try_open(broken.path()) else { continue };
        let db = device.space.shared.pool.reader().unwrap();
        let documents = 1..=48;
        let read: Vec<_> = documents.map(|n| (n, unindexed::document(&db, n))).collect();
        let lost = read.iter().filter(|(_, document)| document.is_err()).count();
        drop(db);
        if lost == 0 {
            continue;
        }
        while device.writer.index(8).unwrap() > 0 {}
        let db = device.space.shared.pool.reader().unwrap();
        for (n, document) in &read {
            let is_there = matches!(document, Ok(Some(_)));
            let is_indexed = larder_search::indexed(&db, *n).unwrap().is_some();
            assert_eq!(is_indexed, is_there, "page {page}, document {n}");
        }
        (tried, unread) = (tried + 1, unread + lost);
    }
    println!("{tried} pages, {unread} documents");
    assert!(tried > 3 && unread > 10, "{tried} {unread}");
}

fn member_options() -> (Arc<World>, Unlock, ProfileOptions) {
    let world = Arc::new(World(AtomicU64::new(3 << 40)));
    (world, Unlock::Key(Secret::new([7; 32])), ProfileOptions::default())
}

fn reopen(dir: &Path) -> Option<Member> {
    let (world, unlock, options) = member_options();
    let profile = Profile::open(world, dir, &unlock, Access::ReadWrite, options).unwrap();
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).ok()?;
    Some(Member { profile, space, writer: writer? })
}

fn filler(n: u8, what: &str) -> serde_json::Value {
    let line = format!("{what} {n} ");
    json!({"title": what, "text": line.repeat(usize::from(n) * 3), "n": n})
}

/// Stores what `from` has, as a batch that others follow, and shows it.
fn take(to: &mut Member, from: &Member) -> crate::Result<()> {
    let me = to.profile.transport_id();
    let mut after = Position::default();
    loop {
        let answer = to.space.answer(&me, Request::ReadFrontiers);
        let Answer::Reply(Reply::Frontiers { logs, epochs_held: epochs, .. }) = answer else {
            return Err(Error::Corrupt(format!("{answer:?}")));
        };
        let have = logs.iter().map(|log| (log.device, log.size)).collect();
        let request = Request::ReadBatch { after, have, epochs, bytes_target: 64 << 10 };
        let answer = from.space.answer(&me, request);
        let Answer::Reply(Reply::Batch { position, batch: Some(batch) }) = answer else { break };
        to.writer.store(*batch)?;
        after = position;
    }
    to.writer.show().map(drop)
}

/// Whether all of a document can be read.
fn is_readable(device: &Member, n: u8) -> bool {
    let db = device.space.shared.pool.reader().unwrap();
    let row = documents::find(&db, &ObjectId::new([n; 16]));
    row.is_ok_and(|row| row.is_some_and(|row| documents::history(&db, row.document).is_ok()))
}

fn value(device: &Member, n: u8) -> Option<serde_json::Value> {
    let document = device.space.document(&ObjectId::new([n; 16])).ok()??;
    Some(serde_json::Value::Object(document.value))
}

/// What came of a peer's changes to all documents, with one rotten page.
#[derive(Debug, Default)]
struct Passed {
    /// Pages that hold something of a document which changed.
    pages: usize,
    shown: usize,
    held: usize,
    /// Of those, such as could be read: a row that grows may need the page beside its own.
    held_readable: usize,
    /// Edits made here.
    refused: usize,
}

const DOCUMENTS: u8 = 24;

impl Passed {
    /// On a device of which a page went bad, before it takes in what `from` wrote.
    fn look(&mut self, dir: &Path, from: &Member, good: &[u8]) {
        let Some(mut device) = reopen(dir) else { return };
        let readable: Vec<bool> = (1..=DOCUMENTS).map(|n| is_readable(&device, n)).collect();
        if readable.iter().all(|is| *is) {
            return;
        }
        self.pages += 1;
        take(&mut device, from).unwrap();
        let is_new = |device: &Member, n| value(device, n).is_some_and(|v| v["title"] == "third");
        let held =
            |device: &Member| (1..=DOCUMENTS).filter(|n| !is_new(device, *n)).collect::<Vec<u8>>();
        let lacking = held(&device);
        self.shown += usize::from(DOCUMENTS) - lacking.len();
        self.held += lacking.len();
        let could_be_read = |n: &&u8| readable[usize::from(**n) - 1];
        self.held_readable += lacking.iter().filter(could_be_read).count();
        // Others are edited, also in one transaction with those that cannot be.
        let units = (1..=DOCUMENTS).map(|n| {
            let mut unit = UnitOfWork::new();
            unit.put("notes", ObjectId::new([n; 16]), &filler(n, "fourth")).unwrap();
            unit
        });
        let results = device.writer.commit(&mut units.collect::<Vec<_>>().into_iter());
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.refused += failed;
        if lacking.is_empty() {
            return;
        }
        let state = device.space.state().unwrap();
        let names = |reason: &Reason| match reason {
            Reason::Damaged { what } => what.contains("document "),
            _ => false,
        };
        assert!(state.mode == Mode::Degraded && state.reasons.iter().any(names), "{state:?}");
        let mut waits = |reason: &Reason| matches!(reason, Reason::Waiting { .. });
        assert!(state.reasons.iter().any(&mut waits), "{state:?}");
        // A repair says which are lost in this file, and takes nothing from what waits for them.
        let report = check(&mut device.writer, true);
        assert!(count(&report, Outcome::Lost) > 0, "{report:?}");
        // Nothing of it is lost: it is there as soon as the page is.
        device.writer.close().unwrap();
        drop(device);
        restore(dir, good);
        let mut device = reopen(dir).unwrap();
        device.writer.show_set_aside().unwrap();
        assert!(!device.writer.has_set_aside());
        let state = device.space.state().unwrap();
        assert!(!state.reasons.iter().any(&mut waits), "{state:?}");
        for n in lacking {
            let now = value(&device, n).unwrap();
            assert!(now["title"] == "third" || now["title"] == "fourth", "{n}");
        }
    }
}

/// Puts a page back that was rotten, if it still is.
fn restore(dir: &Path, good: &[u8]) {
    let file = space_file(dir);
    let mut bytes = std::fs::read(&file).unwrap();
    for (page, good) in bytes.chunks_mut(PAGE).zip(good.chunks(PAGE)) {
        if page.iter().all(|byte| *byte == 0xa5) {
            page.copy_from_slice(good);
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// A peer changed a document of which a page could not be read any more. SQLite undoes the
/// transaction in which it meets one, so that showing the change failed, again and again, and with
/// it everything else that this device would have written or taken in.
#[test]
fn changes_of_a_document_on_a_rotten_page_hold_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (world, unlock, options) = member_options();
    let mut a = Member::found_by(Profile::create(world, dir.path(), &unlock, options).unwrap());
    let mut b = a.invite(9);
    for title in ["first", "second"] {
        for n in 1..=DOCUMENTS {
            a.put(n, &filler(n, title));
        }
    }
    b.pull(&a);
    for n in 1..=DOCUMENTS {
        b.put(n, &filler(n, "third"));
    }
    a.writer.close().unwrap();
    drop(a);
    let good = std::fs::read(space_file(dir.path())).unwrap();
    let mut passed = Passed::default();
    for page in (0..good.len() / PAGE).step_by(2) {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        rot(broken.path(), page);
        passed.look(broken.path(), &b, &good);
    }
    println!("{passed:?}");
    assert!(passed.pages > 5 && passed.shown > 50 && passed.held > 10, "{passed:?}");
    assert!(passed.held_readable * 2 <= passed.held, "{passed:?}");
    assert!(passed.refused < passed.pages * usize::from(DOCUMENTS), "{passed:?}");
}

/// A pruning that met a rotten page was begun again at once, for ever: on a phone, until its
/// battery was empty. What it has looked at was forgotten with the transaction that failed.
#[test]
fn a_pruning_that_a_rotten_page_ends_is_not_begun_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let prunes = PrunePolicy::From { bytes: 64 };
    let options = || ProfileOptions { prunes, ..ProfileOptions::default() };
    let (world, unlock, _) = member_options();
    let mut a = Member::found_by(Profile::create(world, dir.path(), &unlock, options()).unwrap());
    for title in ["first", "second"] {
        for n in 1..=DOCUMENTS {
            a.put(n, &filler(n, title));
        }
    }
    a.writer.close().unwrap();
    drop(a);
    let pages = std::fs::read(space_file(dir.path())).unwrap().len() / PAGE;
    let mut failed = 0;
    for page in (0..pages).step_by(2) {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        rot(broken.path(), page);
        let (world, unlock, _) = member_options();
        let profile =
            Profile::open(world, broken.path(), &unlock, Access::ReadWrite, options()).unwrap();
        let Ok((_space, writer)) = profile.open_space(&"shared:test".parse().unwrap()) else {
            continue;
        };
        let mut writer = writer.unwrap();
        let mut begun = 0;
        while let Ok(Some(mut pruning)) = writer.wants_pruning() {
            begun += 1;
            assert!(begun < 3, "page {page}");
            let done = loop {
                match writer.prune_step(&mut pruning) {
                    Ok(false) => {}
                    done => break done,
                }
            };
            failed += usize::from(done.is_err());
        }
    }
    assert!(failed > 3, "{failed}");
}
