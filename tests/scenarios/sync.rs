//! Two devices, apart and together.

use larder::{Event, UnitOfWork};
use serde_json::json;

use crate::common::{Device, digests_equal, event, kind, note, soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_device_gets_everything_and_sends_back() {
    let ana = Device::found("Ana").await;
    let bread = ana.create(note("Bread", "Flour, water, salt")).await;
    let ben = ana.invite("Ben").await;
    assert_eq!(ben.value(bread).await, Some(note("Bread", "Flour, water, salt")));
    let before = [holds(&ben, "Ana").await, holds(&ana, "Ben").await];
    let soup = ben.create(note("Soup", "Lentils")).await;
    let reports = ben.sync().await;
    assert_eq!(reports.len(), 1);
    let after = [holds(&ben, "Ana").await, holds(&ana, "Ben").await];
    assert!(after[1] > before[1]);
    assert_eq!(
        [reports[0].entries_in, reports[0].entries_out],
        [after[0] - before[0], after[1] - before[1]]
    );
    assert!(reports[0].bytes_out > 100 && reports[0].bytes_in > 0);
    assert_eq!(ana.value(soup).await, Some(note("Soup", "Lentils")));
    digests_equal(&[&ana, &ben]).await;

    let devices = ben.space.devices().await.unwrap();
    let labels: Vec<_> = devices.iter().map(|device| device.label.as_str()).collect();
    assert!(labels.contains(&"Ana") && labels.contains(&"Ben"), "{labels:?}");
    let status = ben.profile.status().await.unwrap();
    assert_eq!(status.peers[0].label, "Ana");
    // What Ana holds of Ben's log, Ben knows by her signature.
    let mine = status.spaces[0].logs.iter().find(|log| log.label == "Ben").unwrap();
    assert_eq!(mine.acknowledged, [("Ana".to_owned(), mine.size)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_twice() {
    let ana = Device::found("Ana").await;
    ana.create(note("Bread", "Flour")).await;
    let ben = ana.invite("Ben").await;
    // Devices announce new sealing keys when it suits them, so there may be something to send.
    for _ in 0..3 {
        let before = [holds(&ben, "Ana").await, holds(&ana, "Ben").await];
        let reports = ben.sync().await;
        let after = [holds(&ben, "Ana").await, holds(&ana, "Ben").await];
        assert_eq!(
            [reports[0].entries_in, reports[0].entries_out],
            [after[0] - before[0], after[1] - before[1]]
        );
    }
}

/// How many entries of a device's log another one holds.
async fn holds(device: &Device, label: &str) -> u64 {
    let status = device.profile.status().await.unwrap();
    let log = status.spaces[0].logs.iter().find(|log| log.label == label);
    log.map_or(0, |log| log.size)
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_different_fields_and_places_all_survive() {
    let ana = Device::found("Ana").await;
    let text = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten";
    let object = ana.create(json!({ "title": "List", "body": text, "stars": 1 })).await;
    let ben = ana.invite("Ben").await;
    let first = text.replace("two", "TWO and a half");
    ana.put(object, json!({ "title": "List", "body": first, "stars": 5 })).await;
    let second = text.replace("nine", "NINE");
    ben.put(object, json!({ "title": "Shopping", "body": second, "stars": 1 })).await;
    ben.sync().await;
    digests_equal(&[&ana, &ben]).await;
    let merged = ana.value(object).await.unwrap();
    let body = text.replace("two", "TWO and a half").replace("nine", "NINE");
    assert_eq!(merged, json!({ "title": "Shopping", "body": body, "stars": 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_field_keeps_one_value_and_remembers_the_other() {
    let ana = Device::found("Ana").await;
    let object = ana.create(json!({ "stars": 1 })).await;
    let ben = ana.invite("Ben").await;
    ana.put(object, json!({ "stars": 2 })).await;
    ben.put(object, json!({ "stars": 3 })).await;
    ana.sync().await;
    digests_equal(&[&ana, &ben]).await;
    let conflicts = ben.space.conflicts(object).await.unwrap();
    assert_eq!(conflicts.len(), 1);
    let shown = ana.value(object).await.unwrap()["stars"].clone();
    assert_eq!(conflicts[0].shown, shown);
    let mut both = conflicts[0].others.clone();
    both.push(shown);
    both.sort_by_key(serde_json::Value::as_i64);
    assert_eq!(both, [json!(2), json!(3)]);
    // Writing the field settles it, for both.
    ben.put(object, json!({ "stars": 4 })).await;
    ben.sync().await;
    assert!(ana.space.conflicts(object).await.unwrap().is_empty());
    assert_eq!(ana.value(object).await.unwrap(), json!({ "stars": 4 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_wins_over_an_edit_and_the_document_never_comes_back() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Old", "words")).await;
    let ben = ana.invite("Ben").await;
    ana.space.delete(object).await.unwrap();
    ben.put(object, note("Old", "new words")).await;
    ben.put(object, note("Old", "newer words")).await;
    ben.sync().await;
    for device in [&ana, &ben] {
        assert_eq!(device.value(object).await, None);
        assert!(device.space.is_deleted(object).await.unwrap());
        let put = device.space.put("notes", object, &note("Old", "again")).await;
        assert_eq!(kind(put), larder::ErrorKind::Deleted);
    }
    let (ana, ben) = (ana.restart().await, ben.restart().await);
    ben.sync_with(&ana).await;
    assert!(ana.space.is_deleted(object).await.unwrap());
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_pushed_to_a_device_that_follows() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let mut events = ben.profile.events();
    let follower = ben.profile.clone();
    let following = tokio::spawn(async move { follower.follow().await });
    event(&mut events, |event| matches!(event, Event::CaughtUp { .. })).await;
    let mut stages = ben.profile.events();
    let object = ana.create(note("Live", "from Ana")).await;
    let [mut received, mut visible, mut indexed] = [false; 3];
    while !(received && visible && indexed) {
        match event(&mut stages, |_| true).await {
            Event::Received { entries, .. } => received |= entries == 1,
            Event::Visible { .. } => visible = true,
            Event::Indexed { .. } => indexed = visible,
            _ => {}
        }
    }
    ben.sees(|space| async move { space.document(object).await.unwrap().is_some() }).await;
    let back = ben.create(note("Live", "from Ben")).await;
    ana.sees(|space| async move { space.document(back).await.unwrap().is_some() }).await;
    let received = event(&mut events, |event| matches!(event, Event::Received { .. })).await;
    assert!(matches!(received, Event::Received { entries: 1, .. }), "{received:?}");
    ben.profile.close().await.unwrap();
    soon("the end of following", following).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_follow_each_other_find_each_other_again() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    for device in [&ana, &ben] {
        let follower = device.profile.clone();
        tokio::spawn(async move { follower.follow().await });
    }
    let object = ana.create(note("One", "")).await;
    ben.sees(|space| async move { space.document(object).await.unwrap().is_some() }).await;
    // Ben is away for a while, and back at another port.
    let dir = {
        let Device { dir, profile, space } = ben;
        profile.close().await.unwrap();
        drop(space);
        dir
    };
    let while_away = ana.create(note("Two", "")).await;
    let ben = Device::reopen(dir).await;
    let follower = ben.profile.clone();
    tokio::spawn(async move { follower.follow().await });
    ben.sees(|space| async move { space.document(while_away).await.unwrap().is_some() }).await;
    let back = ben.create(note("Three", "")).await;
    ana.sees(|space| async move { space.document(back).await.unwrap().is_some() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_over_many_documents_arrives_whole() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let mut unit = UnitOfWork::new();
    let objects: Vec<_> = (0..300)
        .map(|number| unit.create("notes", &json!({ "number": number })).unwrap())
        .collect();
    let receipt = ana.space.commit(unit).await.unwrap();
    let reports = ben.sync().await;
    assert_eq!(reports[0].entries_in, 1);
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(ben.value(*object).await.unwrap(), json!({ "number": number }));
    }
    // The receipt can be had on either device.
    let there = ben.space.receipt(receipt.device, receipt.seq).await.unwrap();
    there.verify().unwrap();
    assert_eq!(there.entry, receipt.entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_trash_is_there_on_every_device_and_comes_back_on_every_device() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Old", "lentils")).await;
    let ben = ana.invite("Ben").await;
    ana.space.trash(object).await.unwrap();
    ben.put(object, note("Old", "lentils and leek")).await;
    ben.sync().await;
    for device in [&ana, &ben] {
        assert_eq!(device.space.list(None, None, 10).await.unwrap().documents, []);
        let trashed = device.space.list_trash(None, None, 10).await.unwrap().documents;
        assert_eq!(trashed.len(), 1);
        assert_eq!(trashed[0].value["body"], "lentils and leek");
        let query = larder::Query::text("lentils");
        assert_eq!(device.space.search(query).await.unwrap().len(), 0);
        let put = device.space.put("notes", object, &note("Old", "again")).await;
        assert_eq!(kind(put), larder::ErrorKind::Trashed);
    }
    let (ana, ben) = (ana.restart().await, ben.restart().await);
    ben.space.undo_trash(object).await.unwrap();
    ben.sync_with(&ana).await;
    assert_eq!(ana.value(object).await.unwrap()["body"], "lentils and leek");
    ana.space.delete(object).await.unwrap();
    ben.sync_with(&ana).await;
    let (new, _) = ben.space.restore(object, larder::Version::Now).await.unwrap();
    ben.sync_with(&ana).await;
    assert_eq!(ana.value(new).await.unwrap()["body"], "lentils and leek");
    assert_eq!(ana.space.history(new).await.unwrap()[0].restored_from, Some(object));
    assert!(ana.space.is_deleted(object).await.unwrap());
    digests_equal(&[&ana, &ben]).await;
}
