//! Damage that is really done to the tables below, found and mended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_log::Payload;
use larder_protocol::{Lack, Reply, Request};
use larder_types::hex;
use serde_json::json;

use super::*;
use crate::durability_tests::{World, copy};
use crate::prune::tests::Device as Member;
use crate::{
    Access, Answer, ChangeKind, Mode, Profile, ProfileOptions, Pruning, Query, Reason, Secret,
    Space, UnitOfWork, Unlock,
};

pub(super) struct Device {
    _profile: Profile,
    pub(super) space: Space,
    pub(super) writer: SpaceWriter,
}

fn world() -> Arc<World> {
    Arc::new(World(AtomicU64::new(1)))
}

fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

fn object(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

impl Device {
    /// With documents that were created, edited and deleted.
    pub(super) fn full(dir: &Path) -> Self {
        let profile = Profile::create(world(), dir, &unlock(), ProfileOptions::default()).unwrap();
        let (space, writer) = profile.create_space(&"personal:me".parse().unwrap()).unwrap();
        let mut device = Self { _profile: profile, space, writer };
        for n in 1..=6 {
            device.put(n, &json!({"title": format!("number {n}"), "text": "salt\nand pepper"}));
        }
        for n in [2, 3] {
            device.put(n, &json!({"title": "changed", "text": "salt\nand vinegar"}));
        }
        for n in [3, 4] {
            device.commit(|unit| unit.delete(object(n)));
        }
        let vector = vec![1.0, 2.0];
        device.commit(|unit| unit.vector(object(1), vector));
        device.index();
        device
    }

    fn open(dir: &Path) -> Self {
        Self::try_open(dir).unwrap()
    }

    /// If its space opens.
    pub(super) fn try_open(dir: &Path) -> Option<Self> {
        let options = ProfileOptions::default();
        let profile = Profile::open(world(), dir, &unlock(), Access::ReadWrite, options).unwrap();
        let (space, writer) = profile.open_space(&"personal:me".parse().unwrap()).ok()?;
        Some(Self { _profile: profile, space, writer: writer.unwrap() })
    }

    /// More documents, each of some pages, and edits of half of them.
    pub(super) fn fill(&mut self, count: u8) {
        let text = |n: u8, seed: u64| format!("{n} {}", hex(&noise(usize::from(n) * 5, seed)));
        for n in 100..100 + count {
            self.put(n, &json!({"title": format!("filler {n}"), "text": text(n, n.into())}));
        }
        for n in (100..100 + count).step_by(2) {
            self.put(n, &json!({"title": format!("edited {n}"), "text": text(n, n.into())}));
        }
        self.index();
    }

    fn commit(&mut self, fill: impl FnOnce(&mut UnitOfWork)) {
        let mut unit = UnitOfWork::new();
        fill(&mut unit);
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    fn put(&mut self, n: u8, value: &serde_json::Value) {
        self.commit(|unit| unit.put("notes", object(n), value).unwrap());
    }

    fn index(&mut self) {
        while self.writer.index(8).unwrap() > 0 {}
        while self.writer.embed(8).unwrap() > 0 {}
    }

    pub(super) fn damage(&mut self, sql: &str) {
        assert!(damage(&mut self.writer, sql) > 0, "{sql} changed nothing");
    }

    fn check(&mut self, repair: bool) -> CheckReport {
        check(&mut self.writer, repair)
    }

    /// What an app can see.
    fn seen(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let found = |query| {
            let found = self.space.search(&query).unwrap().into_iter();
            found.map(|found| found.document.object).collect::<std::collections::BTreeSet<_>>()
        };
        let history = (1..=6).map(|n| self.space.history(&object(n)).unwrap().len());
        (
            self.space.digest().unwrap(),
            found(Query::text("vinegar")),
            found(Query::text("pepper")),
            found(Query::similar("number")),
            history.collect::<Vec<_>>(),
        )
    }
}

pub(super) fn damage(writer: &mut SpaceWriter, sql: &str) -> usize {
    let db = writer.connection().unwrap();
    let changed = writer.write(db, |tx, state| {
        state.cache.clear();
        Ok(tx.execute(sql, []).unwrap())
    });
    changed.unwrap()
}

pub(super) fn check(writer: &mut SpaceWriter, repair: bool) -> CheckReport {
    let mut checking = Checking::new(repair);
    while !writer.check_step(&mut checking).unwrap() {}
    checking.into_report()
}

/// Statements that damage what is made from the log, the part that is found to be damaged, and
/// whether readers see it.
const DERIVED: &[(&str, CheckedPart)] = &[
    ("UPDATE documents SET json = '{}' WHERE object = zeroblob(0) OR document = 1", DOCUMENT),
    ("UPDATE documents SET json = '{\"title\":\"changed\"}' WHERE document = 2", DOCUMENT),
    ("UPDATE documents SET json = '[1]' WHERE document = 2", DOCUMENT),
    ("UPDATE histories SET bytes = zeroblob(100)", DOCUMENT),
    (
        "UPDATE documents SET heads = x'80' WHERE document IN (SELECT document FROM histories)",
        DOCUMENT,
    ),
    ("UPDATE documents SET collection = 'other' WHERE document = 5", DOCUMENT),
    ("UPDATE documents SET generation = zeroblob(32) WHERE document = 1", DOCUMENT),
    ("UPDATE documents SET created_seq = 1 WHERE document = 5", DOCUMENT),
    (
        "UPDATE documents SET object = x'09090909090909090909090909090909' WHERE document = 5",
        DOCUMENT,
    ),
    ("DELETE FROM documents WHERE document = 1", DOCUMENT),
    ("DELETE FROM documents", DOCUMENT),
    ("DELETE FROM tombstones", DOCUMENT),
    ("UPDATE tombstones SET seq = 1 WHERE object = x'03030303030303030303030303030303'", DOCUMENT),
    (
        "INSERT INTO tombstones SELECT x'01010101010101010101010101010101', band, collection,
             clock_wall, clock_count, device, seq, idx FROM tombstones LIMIT 1",
        DOCUMENT,
    ),
    ("INSERT INTO copies VALUES (x'01010101010101010101010101010101', 0, zeroblob(16))", DOCUMENT),
    ("UPDATE sections SET object = zeroblob(16) WHERE kind = 2", SECTION),
    ("UPDATE sections SET kind = 2 WHERE kind = 3", SECTION),
    ("UPDATE acts SET body = x'80' WHERE act = 2", SECTION),
    ("DELETE FROM acts", SECTION),
    ("UPDATE sections SET clock_wall = 5 WHERE kind = 1", SECTION),
    ("DELETE FROM search_text_docsize WHERE id = 1", CheckedPart::Search),
    ("DELETE FROM search_text_data WHERE id > 10", CheckedPart::Search),
    ("DELETE FROM search_documents", CheckedPart::Search),
    ("UPDATE search_documents SET digest = zeroblob(32) WHERE document = 1", CheckedPart::Search),
    ("UPDATE entries SET hash = zeroblob(32) WHERE seq = 3", CheckedPart::Log),
    ("UPDATE entries SET nodes = zeroblob(length(nodes)) WHERE seq = 4", CheckedPart::Log),
    ("UPDATE entries SET nodes = x''", CheckedPart::Log),
    ("UPDATE entries SET position = 1 + position WHERE seq = 3", CheckedPart::Log),
    ("UPDATE entries SET section = 1 + section WHERE seq > 2", CheckedPart::Log),
    ("UPDATE entries SET sections = 0", CheckedPart::Log),
];
const DOCUMENT: CheckedPart = CheckedPart::Document;
const SECTION: CheckedPart = CheckedPart::Section;

#[test]
fn what_follows_from_the_log_is_found_to_be_wrong_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = Device::full(dir.path());
    let report = whole.check(false);
    assert_eq!(report.findings, [], "nothing is wrong yet");
    assert_eq!((report.objects, report.objects_not_judged), (6, 0));
    let seen = whole.seen();
    whole.writer.close().unwrap();
    drop(whole);
    for (sql, part) in DERIVED {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        let mut device = Device::open(broken.path());
        device.damage(sql);
        let report = device.check(false);
        assert!(report.findings.iter().any(|found| found.part == *part), "{sql}: {report:#?}");
        assert!(report.findings.iter().all(|f| f.outcome == Outcome::Mendable), "{sql}");
        let again = device.check(false);
        assert_eq!(again.findings, report.findings, "{sql}: a check alone changes nothing");

        let place = device.space.changes_end().unwrap();
        let mended = device.check(true);
        assert!(mended.is_whole() && !mended.findings.is_empty(), "{sql}: {mended:#?}");
        device.index();
        assert_eq!(device.check(false).findings, [], "{sql}");
        assert_eq!(device.seen(), seen, "{sql}");
        // What an app brought itself is in no log: it stays as long as its document's row did.
        let vectors = device.space.search(&Query::vector(vec![1.0, 2.0])).unwrap().len();
        assert_eq!(vectors, usize::from(!sql.starts_with("DELETE FROM documents")), "{sql}");
        if *part == DOCUMENT {
            let changes = device.space.changes(&place, 100).unwrap().changes;
            assert!(!changes.is_empty(), "{sql}: an app has to read again");
            assert!(changes.iter().all(|change| change.kind == ChangeKind::Reread));
        }
        // And it goes on from there.
        device.put(1, &json!({"title": "after"}));
        device.put(9, &json!({"title": "new"}));
        device.index();
        assert_eq!(device.check(false).findings, [], "{sql}");
    }
}

/// A device went on for months with half of its documents gone, and nobody ran a check.
#[test]
fn gross_damage_is_noticed_when_the_space_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = Device::full(dir.path());
    whole.writer.close().unwrap();
    drop(whole);
    let gross = [
        "DELETE FROM documents",
        "DELETE FROM documents; DELETE FROM tombstones",
        "UPDATE documents SET json = '[1]'",
        "UPDATE documents SET json = '{}'",
        "UPDATE histories SET bytes = zeroblob(100)",
        "UPDATE entries SET nodes = x''",
        "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)",
        "UPDATE transactions SET signature = zeroblob(64)",
    ];
    let mut noticed = 0;
    for sql in gross {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        let mut device = Device::open(broken.path());
        assert_eq!(device.space.state().unwrap().mode, Mode::Ready, "{sql}");
        let db = device.writer.connection().unwrap();
        let damaged = device.writer.write(db, |tx, _| Ok(tx.execute_batch(sql).is_ok()));
        if !damaged.unwrap_or(false) {
            continue;
        }
        drop(device);
        let device = Device::open(broken.path());
        let state = device.space.state().unwrap();
        let is_damage = |reason: &Reason| matches!(reason, Reason::Damaged { .. });
        let is_noticed = state.reasons.iter().any(is_damage);
        // Deletions stay: a space may well have nothing else. A tree is made again at once.
        let is_not_seen =
            ["DELETE FROM documents", "UPDATE entries SET nodes = x''"].contains(&sql);
        assert_eq!(is_noticed, !is_not_seen, "{sql}: {state:?}");
        noticed += usize::from(is_noticed);
    }
    assert!(noticed >= 5, "{noticed}");
}

#[test]
fn bytes_that_were_signed_are_not_made_up_but_wanted_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.space.digest().unwrap();
    device
        .damage("UPDATE sections SET sealed = zeroblob(length(sealed)) WHERE kind = 1 AND seq = 3");
    let found = device.check(false);
    assert_eq!(found.findings.len(), 1, "{found:#?}");
    assert_eq!(found.findings[0].outcome, Outcome::Fetchable);
    assert_eq!(found.findings[0].device, Some(device.space.device()));
    let mended = device.check(true);
    assert_eq!(mended.findings[0].outcome, Outcome::Wanted);
    assert!(!mended.is_whole());
    assert!(mended.objects_not_judged > 0);
    assert_eq!(device.space.digest().unwrap(), seen, "what was made of them stays");
    let state = device.space.state().unwrap();
    assert_eq!(
        (state.mode, state.reasons),
        (Mode::Degraded, vec![Reason::BytesMissing { sections: 1 }])
    );
}

/// Bytes of a creation were damaged, wanted, and came from another device. The document they
/// create was there, so they counted as a second creation, and it lost the first of its history.
#[test]
fn bytes_that_come_again_count_as_they_did_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.seen();
    let of_all = |device: &mut Device, work: &dyn Fn(&Connection, &mut WriterState, &[Payload])| {
        let db = device.writer.connection().unwrap();
        let done = device.writer.write(db, |tx, state| {
            let all = sections::page(tx, 0, 1000)?;
            let bytes: Vec<_> =
                all.iter().map(|section| sections::payload(tx, section.place).unwrap()).collect();
            work(tx, state, &bytes);
            Ok(bytes)
        });
        done.unwrap()
    };
    let bytes = of_all(&mut device, &|_, _, _| {});
    device.damage("UPDATE sections SET sealed = zeroblob(length(sealed))");
    assert!(device.check(true).findings.iter().all(|found| found.outcome == Outcome::Wanted));
    of_all(&mut device, &|tx, state, _| {
        let all = sections::page(tx, 0, 1000).unwrap();
        assert!(all.iter().all(|section| section.state == sections::State::Missing));
        // As what a peer supplies is filled in.
        for (section, payload) in all.iter().zip(&bytes) {
            sections::set_payload(tx, section.place, payload).unwrap();
            sections::settle(tx, section.place, sections::State::Waiting, None).unwrap();
        }
        state.retry(tx).unwrap();
    });
    let report = device.check(false);
    assert_eq!((report.findings, report.objects_not_judged), (vec![], 0));
    assert_eq!(device.seen(), seen);
    assert_eq!(device.space.state().unwrap().mode, Mode::Ready);
}

#[test]
fn what_nobody_can_make_again_is_said_to_be_lost() {
    for sql in [
        "UPDATE entries SET header = zeroblob(200) WHERE seq = 3",
        "UPDATE transactions SET signature = zeroblob(64)",
        "UPDATE sections SET commitment =
             (SELECT commitment FROM sections WHERE seq = 2) WHERE seq = 3",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::full(dir.path());
        device.damage(sql);
        for repair in [false, true] {
            let report = device.check(repair);
            let lost = report.findings.iter().any(|found| found.outcome == Outcome::Lost);
            assert!(lost && !report.is_whole(), "{sql}: {report:#?}");
        }
    }
}

#[test]
fn a_repair_that_is_cut_anywhere_can_be_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = Device::full(dir.path());
    let seen = whole.seen();
    for sql in ["DELETE FROM documents", "DELETE FROM tombstones", "DELETE FROM search_documents"] {
        whole.damage(sql);
    }
    let mut cuts = 0;
    let mut checking = Checking::new(true);
    loop {
        let is_done = whole.writer.check_step(&mut checking).unwrap();
        // As a power cut leaves it: no writer was closed.
        let cut = tempfile::tempdir().unwrap();
        copy(dir.path(), cut.path());
        let mut device = Device::open(cut.path());
        device.check(true);
        device.index();
        assert_eq!(device.check(false).findings, []);
        assert_eq!(device.seen(), seen);
        cuts += 1;
        if is_done {
            break;
        }
    }
    assert!(cuts > 5, "{cuts}");
}

// Bytes below an agreed snapshot are not missing when they are lost: nobody may have them, and to
// want them made the device ask for the snapshot that it holds, and refuse to sync when it came.
#[test]
fn damaged_bytes_that_a_snapshot_stands_for_are_dropped_and_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.seen();
    let mut pruning = Pruning::new(true).without_dropping();
    while !device.writer.prune_step(&mut pruning).unwrap() {}
    assert_eq!(pruning.pruned().stated, 1);
    device.damage("UPDATE sections SET sealed = zeroblob(300) WHERE kind = 1");
    let report = device.check(true);
    assert!(report.is_whole() && report.findings.len() == 6, "{report:#?}");
    assert_eq!(device.space.wanted(Lack::default()).unwrap().want, None);
    assert_eq!(device.check(false).findings, []);
    assert_eq!(device.seen(), seen);
}

impl Device {
    /// As if all that came after the creations had just been stored, and not been shown yet.
    fn unshow(&mut self) {
        let db = self.writer.connection().unwrap();
        let waits = self.writer.write(db, |tx, state| {
            let sql = "SELECT max(section) FROM sections WHERE kind = 1";
            let shown = tx.query_row(sql, [], |row| row.get(0)).unwrap();
            state.pending = crate::show::Pending::load(tx, Some(shown))?;
            Ok(())
        });
        waits.unwrap();
        assert!(!self.writer.is_shown());
    }
}

// What is durable is shown before anything else is done. If a document that it changes was damaged
// that failed, and so did everything else that this device wrote, until somebody ran a repair.
#[test]
fn a_damaged_document_is_made_again_when_a_change_to_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.seen();
    device.damage("UPDATE histories SET bytes = zeroblob(100)");
    device.unshow();
    assert!(device.writer.show().unwrap());
    assert!(!device.writer.has_set_aside() && device.writer.is_shown());
    device.index();
    assert_eq!(device.seen(), seen);
    assert_eq!(device.check(false).findings, []);
}

// The same where the log cannot make the document again: its creation is damaged as well, and no
// other device is there to ask.
#[test]
fn a_document_that_cannot_be_made_again_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.space.digest().unwrap();
    let sound = device.space.document(&object(2)).unwrap().unwrap();
    for sql in [
        "CREATE TABLE sound AS SELECT document, part, bytes AS good FROM histories",
        "CREATE TABLE bytes AS SELECT section, sealed FROM sections",
    ] {
        let db = device.writer.connection().unwrap();
        let kept = device.writer.write(db, |tx, _| {
            tx.execute_batch(sql).unwrap();
            Ok(())
        });
        kept.unwrap();
    }
    device.damage("UPDATE histories SET bytes = zeroblob(100) WHERE document = 2");
    device.damage("UPDATE sections SET sealed = zeroblob(300) WHERE kind = 1 AND seq = 3");
    device.unshow();
    device.put(5, &json!({"title": "written"}));
    assert!(device.writer.is_shown() && device.writer.has_set_aside());
    let state = device.space.state().unwrap();
    assert_eq!(state.mode, Mode::Degraded);
    let id = object(2).to_string();
    let names_it = |reason: &Reason| match reason {
        Reason::Damaged { what } => what.contains(&id),
        _ => false,
    };
    assert!(state.reasons.iter().any(names_it), "{state:?}");
    assert!(state.reasons.contains(&Reason::Waiting { sections: 1 }), "{state:?}");
    assert_eq!(device.space.document(&object(2)).unwrap().unwrap().value, sound.value);
    // A try to edit it fails by itself, and beside it others are written.
    let units = [2, 6].map(|n| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(n), &json!({"title": "again"})).unwrap();
        unit
    });
    let results = device.writer.commit(&mut units.into_iter());
    assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
    // It was tried again, and could not be yet.
    device.writer.show_set_aside().unwrap();
    assert!(device.writer.has_set_aside());

    device.damage(
        "UPDATE histories SET bytes = s.good FROM sound s
                   WHERE (s.document, s.part) = (histories.document, histories.part)
                       AND s.document = 2",
    );
    device.writer.show_set_aside().unwrap();
    assert!(!device.writer.has_set_aside());
    device.damage(
        "UPDATE sections SET sealed = b.sealed FROM bytes b
                   WHERE b.section = sections.section AND sections.seq = 3",
    );
    for n in [5, 6] {
        device.put(n, &json!({"title": format!("number {n}"), "text": "salt\nand pepper"}));
    }
    device.index();
    let found = device.check(true);
    assert_eq!(found.findings, [], "nothing is lost");
    assert_eq!(device.space.document(&object(2)).unwrap().unwrap().heads, sound.heads);
    assert_eq!(device.space.digest().unwrap(), seen);
    assert_eq!(device.space.state().unwrap().mode, Mode::Ready);
}

// One value that cannot be read kept all others out of the index, and every search failed.
#[test]
fn a_document_that_cannot_be_read_keeps_no_other_out_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    device.put(5, &json!({"title": "turnip"}));
    device.put(6, &json!({"title": "turnip"}));
    device.damage("UPDATE documents SET json = '[1]' WHERE document = 5");
    device.index();
    let found = device.space.search(&Query::text("turnip")).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(device.space.state().unwrap().mode, Mode::Degraded);
    assert!(device.check(true).is_whole());
    device.index();
    assert_eq!(device.space.search(&Query::text("turnip")).unwrap().len(), 2);
    assert_eq!(device.check(false).findings, []);
    assert_eq!(device.space.state().unwrap().mode, Mode::Ready);
}

/// What `to` lacks comes from `from`, until nothing comes of it any more.
fn fill(to: &mut Member, from: &Member) {
    let me = to.profile.transport_id();
    loop {
        let wanted = to.space.wanted(Lack::default()).unwrap();
        let Some(want) = wanted.want else { return };
        let Answer::Reply(Reply::Frontiers { epochs_held: epochs, .. }) =
            to.space.answer(&me, Request::ReadFrontiers)
        else {
            panic!()
        };
        let request = Request::ReadSupply { want: Box::new(want), epochs };
        let Answer::Reply(Reply::Supply { supply }) = from.space.answer(&me, request) else {
            panic!()
        };
        if !to.writer.take_supply(&supply).unwrap().progress {
            return;
        }
    }
}

// Bodies of entries went bad on one of two devices. A repair said of which entries, and that others
// were asked for them; but whether they really came nobody had looked at.
#[test]
fn what_a_repair_asks_for_another_device_supplies() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let profile = |n: usize| {
        let world = Arc::new(World(AtomicU64::new((n as u64 + 1) << 40)));
        Profile::create(world, dirs[n].path(), &unlock(), ProfileOptions::default()).unwrap()
    };
    let mut a = Member::found_by(profile(0));
    let mut b = a.invite_as(profile(1));
    for n in 1..=6 {
        a.put(n, &json!({ "title": format!("number {n}"), "text": "salt\nand pepper" }));
    }
    b.pull(&a);
    for n in [2, 3] {
        b.put(n, &json!({ "title": "changed", "text": "salt\nand vinegar" }));
    }
    a.pull(&b);
    let seen = a.space.digest().unwrap();
    assert_eq!(b.space.digest().unwrap(), seen);

    let lost =
        "UPDATE sections SET sealed = zeroblob(300) WHERE kind IN (1, 2) AND section % 2 = 0";
    let count = damage(&mut a.writer, lost);
    assert!(count > 2, "{count}");
    for (repair, outcome) in [(false, Outcome::Fetchable), (true, Outcome::Wanted)] {
        let report = check(&mut a.writer, repair);
        let bad = report.findings.iter().filter(|finding| finding.outcome == outcome);
        assert_eq!(bad.clone().count(), count, "{report:#?}");
        assert!(bad.clone().all(|finding| finding.part == SECTION && finding.seq.is_some()));
        assert!(!report.is_whole());
    }
    // Again nothing new: what is wanted is known.
    assert!(a.space.wanted(Lack::default()).unwrap().want.is_some());
    fill(&mut a, &b);
    assert_eq!(a.space.wanted(Lack::default()).unwrap().want, None);
    assert_eq!(a.space.digest().unwrap(), seen);
    assert_eq!(check(&mut a.writer, false).findings, []);
    // And what it has it can hand on: to a device that comes now.
    let c = a.invite(9);
    assert_eq!(c.space.digest().unwrap(), seen);
}

// A membership act was recorded wrongly: the device did not know of another that it had let in
// itself, and a check that compared everything with the log found nothing.
#[test]
fn an_act_that_is_recorded_wrongly_is_recorded_again_and_counts() {
    let mut a = Member::found(1);
    let b = a.invite(2);
    let enrolled = |a: &mut Member| {
        let device = b.space.device();
        a.writer.transact(|_, state| Ok(state.roster.device(&device).is_some())).unwrap()
    };
    assert!(enrolled(&mut a));
    damage(&mut a.writer, "DELETE FROM acts WHERE act > 2");
    a.writer.transact(|tx, state| state.reload_roster(tx)).unwrap();
    assert!(!enrolled(&mut a));
    assert!(check(&mut a.writer, true).is_whole());
    assert!(enrolled(&mut a));
    assert_eq!(check(&mut a.writer, false).findings, []);
}

/// One damaged row of what a device was shown of another history kept a space from opening, for
/// good: nothing but that device's word for one enrolment hung on it.
#[test]
fn a_proof_that_cannot_be_read_is_void_and_keeps_no_space_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::full(dir.path());
    let seen = device.seen();
    device.damage("INSERT INTO stray_acts (log, proof, body) VALUES (1, x'00', x'00')");
    drop(device);
    let mut device = Device::open(dir.path());
    assert_eq!(device.seen(), seen);
    let stray = |report: &CheckReport| {
        let about = |finding: &&Finding| finding.what.contains("its other history");
        report.findings.iter().find(about).map(|finding| finding.outcome)
    };
    assert_eq!(stray(&device.check(false)), Some(Outcome::Fetchable));
    assert_eq!(stray(&device.check(true)), Some(Outcome::Wanted));
    assert!(device.check(false).findings.is_empty());
}

fn fetch(to: &mut Member, from: &Member) -> usize {
    let at = larder_store::space::blobs::At::default();
    let mut taken = 0;
    for (_, digest) in to.space.wanted_chunks(at, usize::MAX).unwrap() {
        let Some(sealed) = from.space.sealed_chunk(&digest).unwrap() else { continue };
        let chunk = to.space.open_received(digest, sealed).unwrap();
        taken += to.writer.store_chunks(&[chunk]).unwrap();
    }
    taken
}

/// A check read everything but the photos. Their damage showed when one was opened, years later,
/// when no other device had them any more; and who was sent such a chunk took the device for a
/// liar, and closed the stream.
#[test]
fn damaged_chunks_of_blobs_are_found_dropped_and_fetched_again() {
    let (mut a, content) = (Member::found(1), noise(3 << 20, 1));
    let id = crate::prune::tests::add_blob(&mut a, &content);
    a.put(1, &json!({"photo": {"$blob": id.to_string()}}));
    let mut b = a.invite(2);
    let chunks = fetch(&mut b, &a);
    assert!(chunks > 3);
    let read = |device: &Member| {
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut device.space.read_blob(&id).unwrap(), &mut read)
            .map(|_| read)
    };
    assert!(check(&mut a.writer, false).is_whole());
    for (eager_bytes_max, sql, count) in [
        (u64::MAX, "UPDATE chunk_bytes SET sealed = zeroblob(length(sealed)) WHERE chunk = 2", 1),
        (
            0,
            "UPDATE chunk_bytes SET sealed = CAST(sealed || x'00' AS BLOB) WHERE chunk IN (1, 3)",
            2,
        ),
        (u64::MAX, "DELETE FROM chunk_bytes WHERE chunk = 1", 1),
    ] {
        a.writer.set_blob_policy(crate::BlobPolicy { eager_bytes_max }).unwrap();
        damage(&mut a.writer, sql);
        let outcomes = |report: CheckReport| {
            assert_eq!(report.chunks, chunks as u64, "{sql}");
            report.findings.iter().map(|f| (f.part, f.outcome)).collect::<Vec<_>>()
        };
        let all = |outcome| vec![(CheckedPart::Blob, outcome); count];
        assert_eq!(outcomes(check(&mut a.writer, false)), all(Outcome::Fetchable), "{sql}");
        assert!(read(&a).is_err());
        assert_eq!(fetch(&mut a, &b), 0, "a check alone drops nothing");
        assert_eq!(outcomes(check(&mut a.writer, true)), all(Outcome::Wanted), "{sql}");
        assert_eq!(fetch(&mut a, &b), count, "{sql}");
        assert!(check(&mut a.writer, false).findings.is_empty(), "{sql}");
        assert_eq!(read(&a).unwrap(), content, "{sql}");
    }
    // What is damaged here is not had here by others either, and the state says why.
    damage(&mut a.writer, "UPDATE chunk_bytes SET sealed = zeroblob(9) WHERE chunk = 2");
    let mut late = a.invite(3);
    assert_eq!(fetch(&mut late, &a), chunks - 1);
    assert_eq!(a.space.state().unwrap().mode, Mode::Degraded);
    assert_eq!(fetch(&mut late, &b), 1);
}

/// Xorshift (Marsaglia, 2003): bytes that nothing makes smaller.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}
