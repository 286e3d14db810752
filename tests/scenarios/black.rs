//! What never leaves its device, beside a household that syncs.

use std::io::Cursor;

use larder::{
    Band, ErrorKind, NewBlob, Profile, Query, Space, SpaceName, Terms, UnitOfWork, Whose,
};

use crate::common::{Device, event, files, household, key, kind, note};

const CANARY: &str = "zqblackword";

fn diary() -> SpaceName {
    "black:diary".parse().unwrap()
}

async fn with_diary(label: &str) -> (Device, Space) {
    let device = Device::found(label).await;
    let diary = device.profile.create_space(&diary()).await.unwrap();
    (device, diary)
}

async fn names(profile: &Profile) -> Vec<String> {
    let spaces = profile.spaces().await.unwrap();
    spaces.iter().map(|space| space.name().to_string()).collect()
}

/// Two devices of a household have each a diary of the same name. They sync, and neither learns of
/// the other's: not its words, not its name, not that there is one more space.
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_sync_learn_nothing_of_what_stays_on_the_other() {
    let (ana, hers) = with_diary("Ana").await;
    let ben = ana.invite("Ben").await;
    let his = ben.profile.create_space(&diary()).await.unwrap();
    let (page, _) = hers.create("pages", &note("Ana's", CANARY)).await.unwrap();
    his.create("pages", &note("Ben's", "his alone")).await.unwrap();
    ana.create(note("for all", "zqgreenword")).await;
    for report in ana.sync().await.into_iter().chain(ben.sync().await) {
        assert_eq!(report.space, household());
    }
    assert_eq!(ana.profile.sync_with(ben.address().await).await.unwrap().len(), 1);
    let found = ben.space.search(Query::text("zqgreenword")).await.unwrap();
    assert_eq!(found.len(), 1, "the control comes");
    for space in ben.profile.spaces().await.unwrap() {
        assert!(space.search(Query::text(CANARY)).await.unwrap().is_empty());
        assert!(space.document(page).await.unwrap().is_none());
    }
    assert_eq!(names(&ben.profile).await, ["black:diary", "shared:household"]);
    assert_eq!(his.list(None, None, 9).await.unwrap().documents.len(), 1);
    assert_eq!(hers.list(None, None, 9).await.unwrap().documents.len(), 1);
    let status = ana.profile.status().await.unwrap();
    let black: Vec<_> = status.spaces.iter().filter(|space| space.stays_here).collect();
    assert_eq!((black.len(), black[0].documents, black[0].devices.len()), (1, 1, 1));
    // What others are told of what happened here says nothing of it either.
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("household");
    ana.space.export_receipts(&export, |_, _| ()).await.unwrap();
    let told = |needle: &str| {
        let all = files(&export);
        all.iter().any(|(_, bytes)| bytes.windows(needle.len()).any(|it| it == needle.as_bytes()))
    };
    assert!(told(&ana.space.id().to_string()), "the control is there");
    for needle in [CANARY, "diary", &hers.id().to_string(), &hers.device().to_string()] {
        assert!(!told(needle), "{needle} is in the export of another space");
    }
    let export = dir.path().join("diary");
    hers.export_receipts(&export, |_, _| ()).await.unwrap();
    assert!(larder_audit::verify(&export).unwrap().verified, "it has receipts of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_would_have_it_leave_is_refused_and_says_why() {
    let (ana, diary) = with_diary("Ana").await;
    let (page, _) = diary.create("pages", &note("Sunday", CANARY)).await.unwrap();
    let name = diary.name();
    let not_allowed = ErrorKind::NotAllowed;
    assert_eq!(kind(ana.profile.invite(name).await), not_allowed);
    assert_eq!(kind(ana.profile.invite_by_code(name, None).await), not_allowed);
    let terms = Terms { of: Whose::New, ..Terms::default() };
    assert_eq!(kind(ana.profile.invite_on(name, terms).await), not_allowed);
    assert_eq!(kind(diary.broadcast(b"here".to_vec()).await), not_allowed);
    let lowered = diary.at_clearance(Band::Red);
    assert_eq!(kind(lowered.document(page).await), not_allowed);
    assert_eq!(kind(lowered.list(None, None, 9).await), not_allowed);
    assert_eq!(kind(lowered.create("pages", &note("x", "y")).await), not_allowed);
    let mut unit = UnitOfWork::new();
    unit.band(Band::Green);
    unit.create("pages", &note("x", "y")).unwrap();
    assert_eq!(kind(diary.commit(unit).await), not_allowed);
    // It goes to another space only if somebody says as what.
    assert_eq!(kind(diary.copy_to(page, &ana.space, None).await), ErrorKind::Invalid);
    assert_eq!(kind(diary.move_to(page, &ana.space, None).await), ErrorKind::Invalid);
    assert!(ana.space.list(None, None, 9).await.unwrap().documents.is_empty());
    let black = diary.copy_to(page, &ana.space, Some(Band::Black)).await.unwrap().object;
    assert_eq!(ana.space.document(black).await.unwrap().unwrap().band, Band::Black, "beside it");
    let shared = ana.space.at_clearance(Band::Red);
    assert!(shared.list(None, None, 9).await.unwrap().documents.is_empty());
    let moved = diary.move_to(page, &ana.space, Some(Band::Red)).await.unwrap();
    assert_eq!(ana.space.document(moved.object).await.unwrap().unwrap().band, Band::Red);
    // And whatever comes into it is BLACK there, with its files.
    let about = NewBlob { media_type: "image/png".into(), name: None, band: None };
    let photo = ana.space.add_blob(Cursor::new(b"a photo"), about).await.unwrap().id;
    let value = serde_json::json!({"photo": {"$blob": photo.to_string()}});
    let (letter, _) = ana.space.create("letters", &value).await.unwrap();
    let moved = ana.space.move_to(letter, &diary, None).await.unwrap();
    let there = diary.document(moved.object).await.unwrap().unwrap();
    assert_eq!(there.band, Band::Black);
    let photo = there.value["photo"]["$blob"].as_str().unwrap().parse().unwrap();
    assert_eq!(diary.blob(photo).await.unwrap().info().band, Band::Black);
    ana.profile.check().await.unwrap().into_iter().for_each(|checked| {
        assert!(checked.result.unwrap().findings.is_empty());
    });
}

/// Up to which band what is written, and how.
async fn put(space: &Space, band: Band, value: serde_json::Value) -> larder::ObjectId {
    let mut unit = UnitOfWork::new();
    unit.band(band);
    let object = unit.create("notes", &value).unwrap();
    space.commit(unit).await.unwrap();
    object
}

async fn titles(space: &Space) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = space.list(None, after, 1).await.unwrap();
        let title =
            |document: larder::Document| document.value["title"].as_str().unwrap().to_owned();
        all.extend(page.documents.into_iter().map(title));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// What is BLACK is written in the household, and read there with all else, on this device: each of
/// two has its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_black_is_in_the_space_that_it_was_written_in_on_its_device_alone() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let space = &ana.space;
    assert_eq!(names(&ana.profile).await, ["shared:household"], "nothing is made before");
    let open = put(space, Band::Green, note("open", "zqsoup for all")).await;
    let black = put(space, Band::Black, note("hers", "zqsoup for Ana")).await;
    put(&ben.space, Band::Black, note("his", "zqsoup for Ben")).await;
    assert_eq!(names(&ana.profile).await, ["black:shared:household", "shared:household"]);
    ana.sync().await;
    ben.sync().await;
    // Read together, page by page and in one.
    assert_eq!(titles(space).await, ["open", "hers"]);
    assert_eq!(titles(&ben.space).await, ["open", "his"]);
    for (limit, expected) in [(1, 1), (2, 2), (9, 2)] {
        assert_eq!(space.list(None, None, limit).await.unwrap().documents.len(), expected);
    }
    assert_eq!(space.document(black).await.unwrap().unwrap().band, Band::Black);
    assert!(ben.space.document(black).await.unwrap().is_none());
    for query in [Query::text("zqsoup"), Query::both("zqsoup"), Query::similar("zqsoup for Ana")] {
        let found = space.search(query).await.unwrap();
        let found: Vec<_> = found.iter().map(|found| found.document.object).collect();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&open) && found.contains(&black));
    }
    assert_eq!(space.search(Query::text("zqsoup").limit(1)).await.unwrap().len(), 1);
    // Edited, and all that is asked of one document.
    space.put("notes", black, &note("hers", "zqsoup, edited")).await.unwrap();
    let history = space.history(black).await.unwrap();
    assert_eq!(history.iter().map(|item| item.kind).collect::<Vec<_>>(), ["create", "change"]);
    let receipt = space.receipt(history[1].device, history[1].seq).await.unwrap();
    receipt.verify().unwrap();
    let flat = larder::Version::Heads(larder::Heads::FLAT);
    assert_eq!(
        space.value_at(black, flat.clone()).await.unwrap().unwrap()["body"],
        "zqsoup for Ana"
    );
    assert!(!space.diff(black, flat, larder::Version::Now).await.unwrap().is_empty());
    assert!(space.conflicts(black).await.unwrap().is_empty());
    // The trash, and what goes for ever.
    space.trash(black).await.unwrap();
    assert_eq!(titles(space).await, ["open"]);
    let trashed = space.list_trash(None, None, 9).await.unwrap().documents;
    assert_eq!(trashed.iter().map(|document| document.object).collect::<Vec<_>>(), [black]);
    space.undo_trash(black).await.unwrap();
    let (again, _) = space.restore(black, larder::Version::Now).await.unwrap();
    assert_eq!(space.document(again).await.unwrap().unwrap().band, Band::Black);
    space.delete(again).await.unwrap();
    assert!(space.is_deleted(again).await.unwrap());
    let left = space.redact(black, vec![vec!["body".to_owned()]]).await.unwrap().object;
    assert_eq!(space.redacted_as(black).await.unwrap(), Some(left));
    assert_eq!(space.document(left).await.unwrap().unwrap().band, Band::Black);
    space.erase(left).await.unwrap();
    assert!(space.is_erased(left).await.unwrap() && titles(space).await == ["open"]);
    assert_eq!(space.erasures().await.unwrap().len(), 2);
    // A handle that shows less knows nothing of it, whatever it asks.
    let hers = put(space, Band::Black, note("hers", CANARY)).await;
    for band in [Band::Green, Band::Red] {
        let lowered = space.at_clearance(band);
        assert_eq!(titles(&lowered).await, ["open"]);
        assert!(lowered.document(hers).await.unwrap().is_none());
        assert!(lowered.search(Query::text(CANARY)).await.unwrap().is_empty());
        assert!(!lowered.is_deleted(again).await.unwrap());
    }
    let ana = ana.restart().await;
    assert_eq!(titles(&ana.space).await, ["open", "hers"]);
    for device in [&ana, &ben] {
        for checked in device.profile.check().await.unwrap() {
            assert!(checked.result.unwrap().findings.is_empty());
        }
    }
}

/// One unit cannot be in two files, and no document goes from one to the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_black_as_a_whole_or_not_at_all() {
    let ana = Device::found("Ana").await;
    let space = &ana.space;
    let mixed = |black_first: bool| {
        let mut unit = UnitOfWork::new();
        unit.band(if black_first { Band::Black } else { Band::Green });
        unit.create("notes", &note("one", "")).unwrap();
        unit.band(if black_first { Band::Green } else { Band::Black });
        unit.create("notes", &note("two", "")).unwrap();
        unit
    };
    for first in [true, false] {
        assert_eq!(kind(space.commit(mixed(first)).await), ErrorKind::Invalid);
        assert_eq!(kind(space.commit_blocking(mixed(first))), ErrorKind::Invalid);
    }
    assert_eq!(names(&ana.profile).await, ["shared:household"], "nothing was made for it");
    let open = put(space, Band::Green, note("open", "")).await;
    let black = put(space, Band::Black, note("black", "")).await;
    let edit = |object, band| {
        let mut unit = UnitOfWork::new();
        if let Some(band) = band {
            unit.band(band);
        }
        unit.put("notes", object, &note("edited", "")).unwrap();
        space.commit(unit)
    };
    assert_eq!(kind(edit(open, Some(Band::Black)).await), ErrorKind::Invalid, "raised");
    assert_eq!(kind(edit(black, Some(Band::Green)).await), ErrorKind::NotAllowed, "lowered");
    let mut both = UnitOfWork::new();
    both.trash(open);
    both.trash(black);
    assert_eq!(kind(space.commit(both).await), ErrorKind::Invalid);
    assert_eq!(titles(space).await, ["open", "black"]);
    edit(black, None).await.unwrap();
    edit(black, Some(Band::Black)).await.unwrap();
    // A document and its file are both on this device alone, or both not.
    let about = |band| NewBlob { media_type: "image/png".into(), name: None, band: Some(band) };
    let photo = space.add_blob(Cursor::new(b"a photo"), about(Band::Green)).await.unwrap().id;
    let mut unit = UnitOfWork::new();
    unit.band(Band::Black);
    unit.create("notes", &serde_json::json!({"$blob": photo.to_string()})).unwrap();
    assert_eq!(kind(space.commit(unit).await), ErrorKind::Invalid);
    let photo = space.add_blob(Cursor::new(b"a photo"), about(Band::Black)).await.unwrap().id;
    let mut unit = UnitOfWork::new();
    unit.band(Band::Black);
    unit.create("notes", &serde_json::json!({"title": "photo", "$blob": photo.to_string()}))
        .unwrap();
    space.commit_blocking(unit).unwrap();
    assert_eq!(space.blob(photo).await.unwrap().info().band, Band::Black);
    assert_eq!(space.blob(photo).await.unwrap().read(0..7).await.unwrap(), b"a photo");
    assert_eq!(space.blobs().await.unwrap().len(), 2);
    // Made BLACK, or not any more: a copy, as something that is said.
    let raised = space.copy_to(open, space, Some(Band::Black)).await.unwrap().object;
    assert_eq!(space.document(raised).await.unwrap().unwrap().band, Band::Black);
    let other = ana.profile.create_space(&"personal:ana".parse().unwrap()).await.unwrap();
    assert_eq!(kind(space.copy_to(black, &other, None).await), ErrorKind::Invalid);
    let there = space.copy_to(black, &other, Some(Band::Red)).await.unwrap().object;
    assert_eq!(other.document(there).await.unwrap().unwrap().band, Band::Red);
}

/// Changes are told of both, from a place on that is one for both, also after another start, and
/// also of what is BLACK since.
#[tokio::test(flavor = "multi_thread")]
async fn changes_tell_of_what_is_black_as_well() {
    use crate::common::soon;
    let ana = Device::found("Ana").await;
    let mut changes = ana.space.changes(larder::ChangesCursor::START);
    let next = async |changes: &mut larder::Changes| {
        let larder::Changed::Document(change) = soon("a change", changes.next()).await.unwrap()
        else {
            panic!("lost")
        };
        (change.object, change.kind)
    };
    let created = larder::ChangeKind::Created;
    let open = put(&ana.space, Band::Green, note("open", "")).await;
    assert_eq!(next(&mut changes).await, (open, created));
    let (told, black) =
        tokio::join!(next(&mut changes), put(&ana.space, Band::Black, note("black", "")));
    assert_eq!(told, (black, created), "it waits for either");
    let place = changes.cursor().to_string();
    let other = put(&ana.space, Band::Green, note("other", "")).await;
    let more = put(&ana.space, Band::Black, note("more", "")).await;
    assert_eq!(changes.behind(9).await.unwrap(), 2);
    let ana = ana.restart().await;
    let mut changes = ana.space.changes(place.parse().unwrap());
    assert_eq!(next(&mut changes).await, (other, created));
    assert_eq!(next(&mut changes).await, (more, created));
    let end = ana.space.changes_end().await.unwrap();
    assert_eq!(ana.space.changes(end).behind(9).await.unwrap(), 0);
    let mut lowered = ana.space.at_clearance(Band::Red).changes(larder::ChangesCursor::START);
    assert_eq!(next(&mut lowered).await, (open, created));
    assert_eq!(next(&mut lowered).await, (other, created));
    assert_eq!(lowered.behind(9).await.unwrap(), 0);
}

/// Whoever knows a BLACK document's id writes another one under it in the household. An edit of
/// hers must not end there.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_others_use_too_stays_that_of_the_black_document() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let object = put(&ana.space, Band::Black, note("hers", CANARY)).await;
    ben.put(object, note("a trap", "")).await;
    ben.sync().await;
    ana.sync().await;
    assert_eq!(ana.value(object).await.unwrap()["title"], "hers");
    ana.put(object, note("hers", "zqblackword, edited")).await;
    ana.sync().await;
    ben.sync().await;
    assert_eq!(ben.value(object).await, Some(note("a trap", "")));
    assert_eq!(titles(&ana.space).await, ["a trap", "hers"], "both are listed");
    let shared = ana.space.at_clearance(Band::Red);
    assert_eq!(shared.get::<serde_json::Value>(object).await.unwrap().unwrap()["title"], "a trap");
}

/// The companion's file, and bytes for it that nobody can read.
fn companion_file(device: &Device, id: larder::SpaceId) -> std::path::PathBuf {
    device.dir.path().join(format!("spaces/{id}.db"))
}

/// The disk of a laptop went bad where its BLACK notes are. Each read by id in the household failed
/// with it, though nothing of the household was damaged. Whoever looks for a document that is there
/// has it, who asks for what may be BLACK is told, and no edit ends in the wrong file meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_read_while_what_is_black_cannot_be() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let open = put(&ana.space, Band::Green, note("open", "zqsoup for all")).await;
    let value = serde_json::json!({"path": "soup.md", "title": "soup"});
    let soup = put(&ana.space, Band::Green, value).await;
    let gone = put(&ana.space, Band::Green, note("gone", "")).await;
    ana.space.delete(gone).await.unwrap();
    let black = put(&ana.space, Band::Black, note("hers", CANARY)).await;
    let receipt = ana.space.history(open).await.unwrap().remove(0);
    // Another one is under her document's id in the household.
    ben.put(black, note("a trap", "")).await;
    ben.sync().await;
    ana.sync().await;
    let companion = ana.space.name().companion().unwrap();
    let id = ana.profile.space(&companion).await.unwrap().id();
    let whole_state = ana.space.state().await.unwrap();
    assert!(whole_state.reasons.is_empty(), "{whole_state:?}");
    ana.profile.close().await.unwrap();
    let file = companion_file(&ana, id);
    let whole = std::fs::read(&file).unwrap();
    let garbage = b"not a database at all".repeat(1000);
    for damage in [Some(&garbage), None] {
        match damage {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        ana.profile.reopen(key()).await.unwrap();
        let space = &ana.space;
        let is_black = |error: larder::Error| {
            assert!(matches!(&error, larder::Error::Black { .. }), "{error:?}");
            assert!(error.to_string().contains("check --repair"), "{error}");
        };
        let mut events = ana.profile.events();
        assert_eq!(space.document(open).await.unwrap().unwrap().value["title"], "open");
        event(
            &mut events,
            |event| matches!(event, larder::Event::StateChanged { space } if *space == household()),
        )
        .await;
        assert_eq!(space.history(open).await.unwrap().len(), 1);
        assert!(space.is_deleted(gone).await.unwrap());
        assert!(space.receipt(receipt.device, receipt.seq).await.is_ok());
        assert_eq!(space.find("notes", "soup.md").await.unwrap()[0].object, soup);
        assert_eq!(space.search(Query::text("zqsoup")).await.unwrap().len(), 1);
        // What may be there alone is not said to be nowhere.
        let unknown = larder::ObjectId::new([9; 16]);
        is_black(space.document(unknown).await.unwrap_err());
        is_black(space.is_deleted(unknown).await.unwrap_err());
        is_black(space.find("notes", "hers.md").await.unwrap_err());
        is_black(space.search(Query::text(CANARY)).await.unwrap_err());
        is_black(space.receipt(larder::DeviceId::new([9; 32]), 1).await.unwrap_err());
        is_black(space.erasures().await.unwrap_err());
        // All that is here is listed, and then that there may be more.
        for limit in [1, 9] {
            let (mut listed, mut after) = (0, None);
            let told = loop {
                match space.list(None, after, limit).await {
                    Ok(page) => {
                        listed += page.documents.len();
                        after = Some(page.next.expect("that there may be more"));
                    }
                    Err(error) => break error,
                }
            };
            is_black(told);
            assert_eq!(listed, 3);
        }
        // Nothing ends in the household that may belong to what is BLACK.
        let mut edit = UnitOfWork::new();
        edit.put("notes", black, &note("hers", CANARY)).unwrap();
        is_black(space.commit(edit.clone()).await.unwrap_err());
        is_black(space.commit_blocking(edit).unwrap_err());
        is_black(space.erase(black).await.unwrap_err());
        let mut unit = UnitOfWork::new();
        unit.band(Band::Black);
        unit.create("notes", &note("hers", CANARY)).unwrap();
        is_black(space.commit(unit).await.unwrap_err());
        let (new, _) = space.create("notes", &note("new", "")).await.unwrap();
        let mut unit = UnitOfWork::new();
        unit.delete(new);
        assert!(space.commit(unit).await.is_err());
        space.at_clearance(Band::Red).delete(new).await.unwrap();
        // It says so.
        let state = space.state().await.unwrap();
        assert_eq!(state.mode, larder::Mode::Degraded);
        assert!(matches!(state.reasons[..], [larder::Reason::Black { .. }]), "{state:?}");
        let status = ana.profile.status().await.unwrap();
        assert_eq!(status.spaces[0].state, state);
        assert_eq!(status.unopened[0].name, companion);
        let lowered = space.at_clearance(Band::Red).state().await.unwrap();
        assert!(lowered.reasons.is_empty(), "{lowered:?}");
        // Changes go on.
        let mut changes = space.changes(larder::ChangesCursor::START);
        for _ in 0..space.changes(larder::ChangesCursor::START).behind(99).await.unwrap() {
            changes.next().await.unwrap();
        }
        ana.profile.close().await.unwrap();
    }
    // It is back: nothing was lost, and the state is as it was.
    std::fs::write(&file, &whole).unwrap();
    ana.profile.reopen(key()).await.unwrap();
    assert_eq!(ana.value(black).await.unwrap()["body"], CANARY);
    assert_eq!(ana.space.state().await.unwrap(), whole_state);
}

/// Only a page of the BLACK file is damaged: what is on it fails, and nothing of the household.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_of_what_is_black_harms_no_other_read() {
    let ana = Device::found("Ana").await;
    let open = put(&ana.space, Band::Green, note("open", "zqsoup for all")).await;
    let mut black = Vec::new();
    for n in 0..200 {
        black.push(put(&ana.space, Band::Black, note("hers", &"x".repeat(900 + n))).await);
    }
    let companion = ana.space.name().companion().unwrap();
    let id = ana.profile.space(&companion).await.unwrap().id();
    ana.profile.close().await.unwrap();
    let file = companion_file(&ana, id);
    let whole = std::fs::read(&file).unwrap();
    let pages = whole.len() / 4096;
    let mut met = 0;
    // Whichever page it is: every seventh of them, not the first.
    for page in (1..pages).step_by(7) {
        let mut bytes = whole.clone();
        bytes[page * 4096 + 100] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        ana.profile.reopen(key()).await.unwrap();
        assert_eq!(ana.value(open).await.unwrap()["title"], "open", "page {page}");
        let mut failed = None;
        for object in &black {
            failed = failed.or(ana.space.document(*object).await.err());
        }
        if let Some(error) = failed {
            met += 1;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error:?}");
            let state = ana.space.state().await.unwrap();
            assert_eq!(state.mode, larder::Mode::Degraded, "page {page}");
            assert!(!state.reasons.is_empty());
        }
        assert_eq!(ana.value(open).await.unwrap()["title"], "open", "page {page}");
        ana.profile.close().await.unwrap();
    }
    assert!(met > 5, "{met} of {pages} pages");
}
