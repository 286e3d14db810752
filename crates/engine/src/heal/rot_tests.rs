//! Rot of real files, page by page: a check says what cannot be read, and mends all else.

use std::path::{Path, PathBuf};

use larder_store::space::unindexed;

use super::tests::Device;
use super::*;
use crate::durability_tests::copy;

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
