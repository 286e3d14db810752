//! Units of work: all or nothing.

use larder::{Base, ErrorKind, IdempotencyKey, ObjectId, Query, UnitOfWork};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::{Device, kind, note};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Recipe {
    title: String,
    minutes: u32,
    steps: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_the_type_they_were() {
    let ana = Device::found("Ana").await;
    let bread = Recipe { title: "Bread".into(), minutes: 240, steps: vec!["Knead".into()] };
    let (object, receipt) = ana.space.create("recipes", &bread).await.unwrap();
    receipt.verify().unwrap();
    assert_eq!(receipt.device, ana.space.device());
    assert_eq!(ana.space.get::<Recipe>(object).await.unwrap(), Some(bread));
    assert_eq!(kind(ana.space.get::<Vec<u8>>(object).await), ErrorKind::Invalid);
    assert_eq!(ana.space.get::<Recipe>(ObjectId::new([9; 16])).await.unwrap(), None);
    assert_eq!(kind(ana.space.create("recipes", &[1, 2]).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.space.create("a b", &json!({})).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.space.commit(UnitOfWork::new()).await), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_operation_leaves_nothing_of_the_unit() {
    let ana = Device::found("Ana").await;
    let kept = ana.create(note("Kept", "as it was")).await;
    let gone = ana.create(note("Gone", "")).await;
    ana.space.delete(gone).await.unwrap();
    let before = ana.space.digest().await.unwrap();
    let size = ana.space.status().await.unwrap().entries;

    let mut unit = UnitOfWork::new();
    for number in 0..200 {
        unit.create("notes", &json!({ "number": number, "body": "sesame" })).unwrap();
    }
    unit.put("notes", kept, &note("Kept", "changed")).unwrap();
    unit.put("notes", gone, &note("Gone", "back?")).unwrap();
    assert_eq!(kind(ana.space.commit(unit).await), ErrorKind::Deleted);

    assert_eq!(ana.space.digest().await.unwrap(), before);
    assert_eq!(ana.space.status().await.unwrap().entries, size);
    assert!(ana.space.search(Query::text("sesame")).await.unwrap().is_empty());
    let ana = ana.restart().await;
    assert_eq!(ana.space.digest().await.unwrap(), before);
    // A closure that fails commits nothing either.
    let failed = ana
        .space
        .write(|unit| {
            unit.create("notes", &note("Half", "done"))?;
            unit.create("not a name", &note("Half", "done")).map(drop)
        })
        .await;
    assert_eq!(kind(failed), ErrorKind::Invalid);
    assert_eq!(ana.space.digest().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_commits_once() {
    let ana = Device::found("Ana").await;
    let key = IdempotencyKey::new([3; 16]);
    let object = ObjectId::new([4; 16]);
    let unit = |body: &str| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object, &note("Once", body)).unwrap();
        unit.idempotency_key(key);
        unit
    };
    let first = ana.space.commit(unit("a")).await.unwrap();
    ana.create(note("Other", "")).await;
    let again = ana.space.commit(unit("a")).await.unwrap();
    assert_eq!((again.seq, again.entry), (first.seq, first.entry));
    assert_eq!(kind(ana.space.commit(unit("b")).await), ErrorKind::Conflict);
    let ana = ana.restart().await;
    let after = ana.space.commit(unit("a")).await.unwrap();
    assert_eq!(after.entry, first.entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_an_older_version_is_merged_or_refused_as_asked() {
    let ana = Device::found("Ana").await;
    let object = ana.create(json!({ "a": 1, "b": 1 })).await;
    let read = ana.space.document(object).await.unwrap().unwrap();
    ana.put(object, json!({ "a": 2, "b": 1 })).await;

    let mut unit = UnitOfWork::new();
    let mine = json!({ "a": 1, "b": 2 });
    unit.put_at("notes", object, &mine, Base::Exactly(read.heads.clone())).unwrap();
    match ana.space.commit(unit).await {
        Err(larder::Error::Conflict { object: named, heads, current }) => {
            assert_eq!(named, object);
            assert_eq!(json!(*current), json!({ "a": 2, "b": 1 }));
            assert_ne!(heads, read.heads);
        }
        other => panic!("{other:?}"),
    }
    let mut unit = UnitOfWork::new();
    unit.put_at("notes", object, &mine, Base::Merge(read.heads)).unwrap();
    ana.space.commit(unit).await.unwrap();
    assert_eq!(ana.value(object).await.unwrap(), json!({ "a": 2, "b": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn units_from_many_tasks_each_get_a_receipt_of_their_own() {
    let ana = Device::found("Ana").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let space = ana.space.clone();
        tasks.spawn(async move { space.create("notes", &json!({ "number": number })).await });
    }
    let mut seqs = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (_, receipt) = done.unwrap().unwrap();
        receipt.verify().unwrap();
        seqs.push(receipt.seq);
    }
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 100);
    let mut listed = 0;
    let mut after = None;
    loop {
        let page = ana.space.list(Some("notes"), after, 7).await.unwrap();
        listed += page.documents.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_names_who_did_what() {
    let ana = Device::found("Ana").await;
    let mut unit = UnitOfWork::new();
    unit.actor("ana");
    let object = unit.create("notes", &note("Title", "")).unwrap();
    ana.space.commit(unit).await.unwrap();
    ana.put(object, note("Title", "text")).await;
    ana.space.delete(object).await.unwrap();
    let history = ana.space.history(object).await.unwrap();
    let told: Vec<_> = history.iter().map(|item| (item.kind, item.actor.as_deref())).collect();
    assert_eq!(told, [("create", Some("ana")), ("change", None), ("delete", None)]);
}
