//! A profile that was copied, and both copies used.

use std::fs;
use std::path::Path;

use larder::ErrorKind;

use crate::common::{Device, kind, note};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_that_meets_a_peer_second_never_writes_again() {
    let first = Device::found("first").await;
    let second = first.invite("second").await;
    let Device { dir, profile, space } = first;
    profile.close().await.unwrap();
    drop((profile, space));
    let elsewhere = tempfile::tempdir().unwrap();
    copy(dir.path(), elsewhere.path());

    let original = Device::reopen(dir).await;
    let known = original.create(note("of the original", "")).await;
    original.sync_with(&second).await;
    original.profile.close().await.unwrap();
    let copied = Device::reopen(elsewhere).await;
    copied.create(note("of the copy", "")).await;
    // How this session ends is not the point.
    let _ = copied.profile.sync_with(second.address().await).await;
    let refused = copied.space.create("notes", &note("more", "")).await;
    assert_eq!(kind(refused), ErrorKind::ReadOnly);
    let copied = copied.restart().await;
    let refused = copied.space.create("notes", &note("more", "")).await;
    assert_eq!(kind(refused), ErrorKind::ReadOnly);

    let second = second.restart().await;
    assert!(second.value(known).await.is_some());
    second.create(note("of the second", "")).await;
}
