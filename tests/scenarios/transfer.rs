//! Documents that go from one space to another.

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Waker};

use larder::{Band, ErrorKind, NewBlob, ObjectId, Role, Space, SpaceName, UnitOfWork};
use serde_json::{Value, json};

use crate::common::{Device, kind, note, soon};

fn diary() -> SpaceName {
    "personal:diary".parse().unwrap()
}

async fn with_diary() -> (Device, Space) {
    let ana = Device::found("Ana").await;
    let diary = ana.profile.create_space(&diary()).await.unwrap();
    (ana, diary)
}

async fn add_photo(space: &Space, content: &'static [u8], band: Option<Band>) -> String {
    let about = NewBlob { media_type: "image/png".into(), name: Some("p.png".into()), band };
    space.add_blob(Cursor::new(content), about).await.unwrap().id.to_string()
}

async fn values(space: &Space) -> Vec<Value> {
    let all = space.list(None, None, 100).await.unwrap().documents;
    all.into_iter().map(|document| Value::Object(document.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_moved_with_its_blobs_and_both_receipts_have_one_correlation() {
    let (ana, diary) = with_diary().await;
    let photo = add_photo(&diary, b"a photo", None).await;
    let value = json!({"title": "Sunday", "pages": [{"$blob": photo}], "other": {"$blob": "x"}});
    let (object, _) = diary.create("pages", &value).await.unwrap();
    diary
        .put("pages", object, &json!({"title": "Monday", "pages": [{"$blob": photo}]}))
        .await
        .unwrap();

    let moved = diary.move_to(object, &ana.space, Some(Band::Green)).await.unwrap();
    let there = ana.space.document(moved.object).await.unwrap().unwrap();
    assert_eq!((there.band, there.collection.as_str()), (Band::Green, "pages"));
    assert_eq!(there.value["title"], "Monday");
    let new = there.value["pages"][0]["$blob"].as_str().unwrap();
    let blob = ana.space.blob(new.parse().unwrap()).await.unwrap();
    assert_eq!(blob.read(0..7).await.unwrap(), b"a photo");
    assert_eq!(ana.space.history(moved.object).await.unwrap().len(), 1, "without its history");
    let here = diary.document(object).await.unwrap().unwrap();
    assert!(here.trashed.is_some());
    for (space, receipt) in
        [(&ana.space, &moved.created), (&diary, moved.trashed.as_ref().unwrap())]
    {
        let same = space.receipt(receipt.device, receipt.seq).await.unwrap();
        assert_eq!(same.entry, receipt.entry);
        let history = space.history(if space.id() == diary.id() { object } else { moved.object });
        let last = history.await.unwrap().pop().unwrap();
        assert_eq!((last.seq, last.actor.as_deref()), (receipt.seq, Some("move")));
        assert_eq!(last.correlation, Some(moved.correlation));
    }
    // Once more it is told, and nothing is done.
    let again = diary.move_to(object, &ana.space, None).await.unwrap();
    assert!(again.was_there && again.object == moved.object);
    assert_eq!(again.created.entry, moved.created.entry);
    assert_eq!(again.trashed.unwrap().entry, moved.trashed.unwrap().entry);
    assert_eq!(values(&ana.space).await.len(), 1);
    assert_eq!(kind(diary.copy_to(object, &ana.space, None).await), ErrorKind::Trashed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_once_and_follows_until_it_is_edited() {
    let (ana, diary) = with_diary().await;
    let (object, _) = diary.create("pages", &note("one", "body")).await.unwrap();
    let copy = diary.copy_to(object, &ana.space, None).await.unwrap();
    // As sensitive as there: the diary's documents are AMBER.
    assert_eq!(ana.space.document(copy.object).await.unwrap().unwrap().band, Band::Amber);
    assert!(copy.trashed.is_none() && !copy.was_there);
    diary.put("pages", object, &note("two", "body")).await.unwrap();
    let again = diary.copy_to(object, &ana.space, None).await.unwrap();
    assert!(again.was_there && again.object == copy.object);
    assert_eq!(values(&ana.space).await, [note("two", "body")]);
    ana.space.put("pages", copy.object, &note("edited there", "body")).await.unwrap();
    assert!(diary.copy_to(object, &ana.space, None).await.unwrap().was_there);
    assert_eq!(values(&ana.space).await, [note("edited there", "body")]);
    diary.put("pages", object, &note("three", "body")).await.unwrap();
    assert_eq!(kind(diary.move_to(object, &ana.space, None).await), ErrorKind::Invalid);
    assert_eq!(values(&diary).await, [note("three", "body")], "it stays");
    assert_eq!(values(&ana.space).await, [note("edited there", "body")], "and so does that");
    // One that somebody did not want is made anew.
    ana.space.delete(copy.object).await.unwrap();
    let anew = diary.move_to(object, &ana.space, None).await.unwrap();
    assert_ne!(anew.object, copy.object);
    assert_eq!(values(&ana.space).await, [note("three", "body")]);

    let none = diary.copy_to(ObjectId::new([9; 16]), &ana.space, None).await;
    assert_eq!(kind(none), ErrorKind::NotFound);
    assert_eq!(kind(diary.copy_to(object, &diary, None).await), ErrorKind::Invalid);
}

/// Lets a call go on for so many turns, and drops it then, as a crash does. Whether it was done.
async fn cut_after(turns: usize, work: impl Future) -> bool {
    let mut work = pin!(work);
    for _ in 0..turns {
        let waker = Waker::noop();
        if work.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Cut at any point, the document is in one of the spaces at least. The same call again completes
/// it, and there is one copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_cut_anywhere_loses_nothing_and_is_completed_by_the_next() {
    let (mut between, mut turns) = (0, 0);
    loop {
        let (ana, diary) = with_diary().await;
        let photo = add_photo(&diary, b"a photo", None).await;
        let value = json!({"title": "Sunday", "photo": {"$blob": photo}});
        let (object, _) = diary.create("pages", &value).await.unwrap();
        let space = ana.space.clone();
        let is_done = cut_after(turns, diary.move_to(object, &space, None)).await;
        drop((diary, space));
        let ana = soon("closing", ana.restart()).await;
        let diary = ana.profile.space(&self::diary()).await.unwrap();
        let (here, there) = (values(&diary).await, values(&ana.space).await);
        assert!(here.len() + there.len() > 0 && here.len() <= 1 && there.len() <= 1);
        between += usize::from(here.len() + there.len() == 2);
        let moved = diary.move_to(object, &ana.space, None).await.unwrap();
        assert_eq!(values(&diary).await, Vec::<Value>::new());
        let there = values(&ana.space).await;
        assert_eq!((there.len(), &there[0]["title"]), (1, &json!("Sunday")));
        let new = there[0]["photo"]["$blob"].as_str().unwrap().parse().unwrap();
        assert_eq!(ana.space.blob(new).await.unwrap().read(0..7).await.unwrap(), b"a photo");
        assert_eq!(ana.space.history(moved.object).await.unwrap().len(), 1);
        if is_done {
            break;
        }
        turns = turns * 3 / 2 + 1;
    }
    println!("cut at up to {turns} turns, {between} times with the document in both spaces");
}

/// Somebody edits the document after it was copied, before it goes into the trash.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_the_copy_and_the_trash_is_taken_over_by_the_next_call() {
    let (ana, diary) = with_diary().await;
    let (object, _) = diary.create("pages", &note("one", "body")).await.unwrap();
    // As a move that was cut behind the copy.
    let copy = diary.copy_to(object, &ana.space, None).await.unwrap();
    let mut unit = UnitOfWork::new();
    unit.put("pages", object, &note("two", "body")).unwrap();
    diary.commit(unit).await.unwrap();
    let moved = diary.move_to(object, &ana.space, None).await.unwrap();
    assert_eq!(moved.object, copy.object);
    assert_eq!(values(&ana.space).await, [note("two", "body")]);
}

/// A move went on without a blob that this device knew nothing of, and without a word: the copy
/// named what is not there, and the file went with the trash.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_a_blob_that_is_not_known_here_is_not_moved() {
    let (ana, diary) = with_diary().await;
    // As if it had not arrived yet.
    let unknown = "5c".repeat(32);
    let value = json!({"title": "Sunday", "scan": {"$blob": unknown}});
    let (object, _) = diary.create("pages", &value).await.unwrap();
    assert_eq!(kind(diary.move_to(object, &ana.space, None).await), ErrorKind::NotHere);
    assert_eq!(values(&ana.space).await, Vec::<Value>::new());
    assert_eq!(values(&diary).await, std::slice::from_ref(&value), "it stays");
    let copy = diary.copy_to(object, &ana.space, None).await.unwrap();
    assert_eq!(copy.lacking.iter().map(ToString::to_string).collect::<Vec<_>>(), [unknown]);
    assert!(diary.copy_to(object, &ana.space, None).await.unwrap().was_there);
    assert_eq!(kind(diary.move_to(object, &ana.space, None).await), ErrorKind::NotHere);
    assert_eq!(values(&diary).await, [value], "it stays");
}

/// Somebody who is not cleared for a RED scan named it in a GREEN note. Moved by who is cleared, it
/// was as sensitive as the note where it came to.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_above_its_document_is_not_lowered_and_a_copy_keeps_its_band() {
    let (ana, diary) = with_diary().await;
    let scan = add_photo(&ana.space, b"a scan", Some(Band::Red)).await;
    let ben = ana.invite("Ben").await;
    let device = ben.space.devices().await.unwrap().into_iter().find(|it| it.me).unwrap();
    ana.space.change_role(device.device, Role::Writer, Band::Green).await.unwrap();
    ben.sync().await;
    let object = ben.create(json!({"title": "x-ray", "scan": {"$blob": scan}})).await;
    ben.sync().await;
    ana.sees(|space| async move { space.document(object).await.unwrap().is_some() }).await;
    for band in [None, Some(Band::Green)] {
        let lowered = ana.space.copy_to(object, &diary, band).await;
        assert_eq!(kind(lowered), ErrorKind::Invalid, "{band:?}");
    }
    assert!(diary.blobs().await.unwrap().is_empty());
    let copy = ana.space.copy_to(object, &diary, Some(Band::Red)).await.unwrap();
    let there = diary.document(copy.object).await.unwrap().unwrap();
    let band = diary.blobs().await.unwrap()[0].band;
    assert_eq!((there.band, band), (Band::Red, Band::Red));
    // Another band was taken as said, and not given.
    let other = ana.space.copy_to(object, &diary, Some(Band::Amber)).await;
    assert_eq!(kind(other), ErrorKind::Invalid);
    assert!(ana.space.copy_to(object, &diary, Some(Band::Red)).await.unwrap().was_there);
}

/// The same call again made another copy, whole, where somebody had redacted or erased the first.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_redacted_or_erased_of_a_copy_does_not_come_back_by_copying_again() {
    let (ana, diary) = with_diary().await;
    let (object, _) = diary.create("pages", &note("one", "asthma")).await.unwrap();
    let copy = diary.copy_to(object, &ana.space, None).await.unwrap();
    let left = ana.space.redact(copy.object, [vec!["body".to_owned()]]).await.unwrap();
    let again = diary.copy_to(object, &ana.space, None).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Invalid);
    assert!(again.to_string().contains(&left.object.to_string()), "{again}");
    assert_eq!(kind(diary.move_to(object, &ana.space, None).await), ErrorKind::Invalid);
    let there = values(&ana.space).await;
    assert!(there.len() == 1 && there[0].get("body").is_none(), "{there:?}");

    let (object, _) = diary.create("pages", &note("two", "secret")).await.unwrap();
    let copy = diary.copy_to(object, &ana.space, None).await.unwrap();
    ana.space.erase(copy.object).await.unwrap();
    assert_eq!(kind(diary.copy_to(object, &ana.space, None).await), ErrorKind::Invalid);
    assert_eq!(values(&ana.space).await, there);
}

/// Somebody copied a document, edited it and put it into the trash. Moving it was told as done,
/// with the old copy: the edit was in none, and gone with the trash.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_into_the_trash_by_hand_was_not_moved() {
    let (ana, diary) = with_diary().await;
    let (object, _) = diary.create("pages", &note("one", "body")).await.unwrap();
    diary.copy_to(object, &ana.space, None).await.unwrap();
    diary.put("pages", object, &note("two", "body")).await.unwrap();
    let mut unit = UnitOfWork::new();
    unit.trash(object);
    diary.commit(unit).await.unwrap();
    assert_eq!(kind(diary.move_to(object, &ana.space, None).await), ErrorKind::Trashed);
}

/// Each try left one more copy of what this device may not put into the trash.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_read_a_document_moves_nothing() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("one", "body")).await;
    let ben = ana.invite("Ben").await;
    let device = ben.space.devices().await.unwrap().into_iter().find(|it| it.me).unwrap();
    ana.space.change_role(device.device, Role::Reader, Band::Amber).await.unwrap();
    ben.sync().await;
    let diary = ben.profile.create_space(&diary()).await.unwrap();
    assert_eq!(kind(ben.space.move_to(object, &diary, None).await), ErrorKind::NotAllowed);
    assert_eq!(values(&diary).await, Vec::<Value>::new());
    ben.space.copy_to(object, &diary, None).await.unwrap();
}
