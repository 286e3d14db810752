//! Three devices, in every order.

use serde_json::json;

use crate::common::{Device, digests_equal};

/// Which device syncs with which, until all have everything.
const ORDERS: [[(usize, usize); 4]; 6] = [
    [(0, 1), (1, 2), (0, 1), (0, 2)],
    [(1, 0), (2, 0), (1, 0), (2, 1)],
    [(2, 1), (1, 0), (2, 0), (2, 1)],
    [(0, 2), (2, 1), (1, 0), (2, 0)],
    [(1, 2), (0, 2), (1, 0), (1, 2)],
    [(2, 0), (0, 1), (2, 1), (0, 2)],
];

#[tokio::test(flavor = "multi_thread")]
async fn three_devices_end_equal_in_every_order() {
    let ana = Device::found("Ana").await;
    let text = "one\ntwo\nthree\nfour\nfive\n";
    let shared = ana.create(json!({ "body": text, "stars": 0 })).await;
    let ben = ana.invite("Ben").await;
    let carol = ana.invite("Carol").await;
    ben.sync_with(&ana).await;
    let devices = [ana, ben, carol];
    for (round, order) in ORDERS.into_iter().enumerate() {
        let doomed = devices[round % 3].create(json!({ "round": round })).await;
        for (from, to) in order {
            devices[from].sync_with(&devices[to]).await;
        }
        // Each on its own: the same field, the same text, an edit against a delete.
        for (number, device) in devices.iter().enumerate() {
            let mut value = device.value(shared).await.unwrap();
            let body = value["body"].as_str().unwrap();
            let line = ["one", "three", "five"][number];
            value["body"] = json!(body.replace(line, &format!("{line} {round}")));
            value["stars"] = json!(10 * round + number);
            device.put(shared, value).await;
            device.create(json!({ "by": number, "round": round })).await;
        }
        devices[round % 3].space.delete(doomed).await.unwrap();
        devices[(round + 1) % 3].put(doomed, json!({ "round": "edited" })).await;
        for (from, to) in order {
            devices[from].sync_with(&devices[to]).await;
        }
        digests_equal(&[&devices[0], &devices[1], &devices[2]]).await;
        for device in &devices {
            assert!(device.space.is_deleted(doomed).await.unwrap());
        }
        let body = devices[0].value(shared).await.unwrap()["body"].to_string();
        for line in ["one", "three", "five"] {
            assert!(body.contains(&format!("{line} {round}")), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_reach_a_device_through_another() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let carol = ben.invite("Carol").await;
    // Ana has never spoken to Carol.
    let object = carol.create(json!({ "from": "Carol" })).await;
    carol.sync_with(&ben).await;
    ben.sync_with(&ana).await;
    assert!(ana.value(object).await.is_some());
    let back = ana.create(json!({ "from": "Ana" })).await;
    ben.sync_with(&ana).await;
    carol.sync_with(&ben).await;
    assert!(carol.value(back).await.is_some());
    digests_equal(&[&ana, &ben, &carol]).await;
    // Now that she is known to Ana, they can speak to each other, too.
    carol.sync_with(&ana).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_to_every_device_that_follows() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let carol = ana.invite("Carol").await;
    for device in [&ben, &carol] {
        let follower = device.profile.clone();
        tokio::spawn(async move { follower.follow().await });
    }
    let object = carol.create(json!({ "from": "Carol" })).await;
    ben.sees(|space| async move { space.document(object).await.unwrap().is_some() }).await;
}
