//! Documents that go from one space to another.

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Waker};

use larder::{Band, ErrorKind, NewBlob, ObjectId, Space, SpaceName, UnitOfWork};
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
