//! What never leaves its device, beside a household that syncs.

use std::io::Cursor;

use larder::{
    Band, ErrorKind, NewBlob, Profile, Query, Space, SpaceName, Terms, UnitOfWork, Whose,
};

use crate::common::{Device, files, household, kind, note};

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
    let black = diary.copy_to(page, &ana.space, Some(Band::Black)).await;
    assert_eq!(kind(black), ErrorKind::Invalid);
    assert!(ana.space.list(None, None, 9).await.unwrap().documents.is_empty());
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
