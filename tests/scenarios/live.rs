//! What an app hears while devices work.

use larder::{ChangeKind, Changed, ChangesCursor, ErrorKind, Mode, Standing};

use crate::common::{Device, kind, note, soon};

async fn next(changes: &mut larder::Changes) -> larder::Change {
    match soon("a change", changes.next()).await.unwrap() {
        Changed::Document(change) => change,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_and_again_after_a_restart() {
    let ana = Device::found("Ana").await;
    let bread = ana.create(note("Bread", "Flour")).await;
    let ben = ana.invite("Ben").await;
    let mut changes = ben.space.changes(ChangesCursor::START);
    let first = next(&mut changes).await;
    assert_eq!((first.object, first.kind), (bread, ChangeKind::Created));
    assert!(!first.by.unwrap().local);

    let waiting = tokio::spawn(async move {
        let change = next(&mut changes).await;
        (change, changes)
    });
    let soup = ben.create(note("Soup", "Lentils")).await;
    let (second, mut changes) = waiting.await.unwrap();
    assert_eq!((second.object, second.by.unwrap().local), (soup, true));

    ana.put(bread, note("Bread", "Flour and salt")).await;
    ben.sync().await;
    let by = next(&mut changes).await.by.unwrap();
    let receipt = ben.space.receipt(by.device, by.seq).await.unwrap();
    assert_eq!(receipt.device, ana.space.device());

    // The app keeps its place and is away for a while.
    let place = changes.cursor().to_string();
    drop(changes);
    let ben = ben.restart().await;
    ben.put(soup, note("Soup", "Red lentils")).await;
    ana.create(note("Salad", "Leaves")).await;
    ben.sync().await;
    let mut changes = ben.space.changes(place.parse().unwrap());
    assert_eq!(changes.behind(100).await.unwrap(), 2);
    assert_eq!(next(&mut changes).await.object, soup);
    assert_eq!(next(&mut changes).await.kind, ChangeKind::Created);
    assert_eq!(changes.cursor(), ben.space.changes_end().await.unwrap());

    // Another device's place is not one here, and that is said once.
    let place = ana.space.changes_end().await.unwrap();
    let mut lost = ben.space.changes(place);
    assert_eq!(soon("being told", lost.next()).await.unwrap(), Changed::Lost);
    assert_eq!(lost.cursor(), ben.space.changes_end().await.unwrap());

    let waiting = tokio::spawn(async move { changes.next().await });
    ben.profile.close().await.unwrap();
    assert_eq!(kind(soon("the end", waiting).await.unwrap()), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_each_device_has_signed_for() {
    let ana = Device::found("Ana").await;
    ana.create(note("Bread", "Flour")).await;
    let ben = ana.invite("Ben").await;
    let of_ben = async || {
        let status = ana.profile.status().await.unwrap();
        let progress = status.spaces[0].progress.clone();
        progress.into_iter().find(|device| device.label == "Ben").unwrap()
    };
    ben.sync().await;
    let synced = of_ben().await;
    assert_eq!((synced.standing, synced.pending), (Standing::Everything, 0));
    assert!(synced.signed.is_some() && synced.last_seen.is_some());
    ana.create(note("Soup", "Lentils")).await;
    let behind = of_ben().await;
    assert_eq!((behind.standing, behind.pending), (Standing::Behind, 1));
    assert_eq!(ana.space.state().await.unwrap().mode, Mode::Ready);
}
