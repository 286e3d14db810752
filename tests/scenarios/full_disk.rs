//! A disk that is really full. Needs a small file system of its own, so it runs by command:
//!
//! ```text
//! mount -t tmpfs -o size=16m none DIR   # or an image with ext4, btrfs, …; 8 to 64 MiB
//! LARDER_SMALL_DISK=DIR cargo test --test scenarios -- --ignored full_disk --nocapture
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use larder::{ErrorKind, Options, Profile, Space, UnitOfWork};
use serde_json::json;

use crate::common::{household, key, kind};

const DOCUMENTS: usize = 20;

/// Twenty documents of about 8 KiB.
fn unit(name: &str) -> UnitOfWork {
    let mut unit = UnitOfWork::new();
    for n in 0..DOCUMENTS {
        let words: Vec<String> = (0..900).map(|word| format!("{}-{word}", word * n)).collect();
        let value = json!({"unit": name, "n": n, "text": words.join(" ")});
        unit.create("notes", &value).unwrap();
    }
    unit
}

/// Takes all the room there is.
fn fill(root: &Path) -> PathBuf {
    let path = root.join("ballast");
    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
        let _ = file.sync_data();
    }
    path
}

async fn units_of(space: &Space) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    let mut after = None;
    loop {
        let page = space.list(Some("notes"), after, 1000).await.unwrap();
        for document in page.documents {
            *counts.entry(document.value["unit"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            return counts.into_iter().collect();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a small file system: by the command in this file's head"]
async fn a_full_disk_is_told_reads_go_on_and_it_passes_by_itself() {
    let root = PathBuf::from(std::env::var_os("LARDER_SMALL_DISK").expect("LARDER_SMALL_DISK"));
    let (dir, ballast) = (root.join("profile"), root.join("ballast"));
    let _ = (fs::remove_dir_all(&dir), fs::remove_file(&ballast));

    fill(&root);
    let made = Profile::create(&dir, key(), Options::default()).await;
    assert!([ErrorKind::DiskFull, ErrorKind::Io].contains(&kind(made)));
    fs::remove_file(&ballast).unwrap();
    let open = Profile::open(&dir, key(), Options::default()).await;
    let profile = match open {
        Ok(profile) => profile,
        Err(_) => Profile::create(&dir, key(), Options::default()).await.unwrap(),
    };
    let space = profile.create_space(&household()).await.unwrap();
    space.commit(unit("first")).await.unwrap();

    let (mut committed, mut failed) = (vec!["first".to_owned()], Vec::new());
    for round in 0..6 {
        fill(&root);
        // The WAL may have room of its own for some units more.
        for n in 0.. {
            let name = format!("{round}-{n}");
            match space.commit(unit(&name)).await {
                Ok(receipt) => {
                    receipt.verify().unwrap();
                    committed.push(name);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
                    assert!(error.to_string().contains("no space"), "{error}");
                    failed.push(name);
                    break;
                }
            }
        }
        assert_eq!(kind(space.commit(unit("still")).await), ErrorKind::DiskFull);
        let found = units_of(&space).await;
        assert!(committed.iter().all(|name| found.contains(&(name.clone(), DOCUMENTS))));
        assert_eq!(found.len(), committed.len(), "nothing of what failed: {found:?}");
        profile.status().await.unwrap();
        space.digest().await.unwrap();

        fs::remove_file(&ballast).unwrap();
        let name = format!("{round}-after");
        space.commit(unit(&name)).await.unwrap();
        committed.push(name);
    }
    println!("{} units committed, {} failed", committed.len(), failed.len());

    // Closing needs room for the checkpoint: without it nothing is lost either.
    fill(&root);
    let _ = profile.close().await;
    let full = Profile::open(&dir, key(), Options::default()).await.unwrap();
    let found = units_of(&full.space(&household()).await.unwrap()).await;
    assert_eq!(found.len(), committed.len());
    drop(full);
    fs::remove_file(&ballast).unwrap();
    let profile = Profile::open(&dir, key(), Options::default()).await.unwrap();
    for checked in profile.check().await.unwrap() {
        assert!(checked.result.unwrap().is_whole());
    }
    let space = profile.space(&household()).await.unwrap();
    committed.sort();
    let expected: Vec<_> = committed.into_iter().map(|name| (name, DOCUMENTS)).collect();
    assert_eq!(units_of(&space).await, expected);
    profile.close().await.unwrap();
    fs::remove_dir_all(&dir).unwrap();
}
