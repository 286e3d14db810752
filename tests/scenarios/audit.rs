//! Receipts, for an outsider.

use std::fs;

use larder::{ErrorKind, UnitOfWork};
use serde_json::json;

use crate::common::{Device, files, kind, note};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_and_holds_no_content() {
    let ana = Device::found("Ana").await;
    let word = "Sauerteigbrotrezept";
    let object = ana.create(note(word, word)).await;
    let ben = ana.invite("Ben").await;
    ben.put(object, note(word, "changed")).await;
    let mut unit = UnitOfWork::new();
    for number in 0..50 {
        unit.create("notes", &json!({ "number": number, "word": word })).unwrap();
    }
    ben.space.commit(unit).await.unwrap();
    ben.space.delete(object).await.unwrap();
    ben.sync().await;

    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("receipts");
    let mut told = Vec::new();
    let progress = |done, total| told.push((done, total));
    let summary = ana.space.export_receipts(&export, progress).await.unwrap();
    assert_eq!(summary.entries, ana.space.status().await.unwrap().entries);
    assert_eq!(summary.logs, 2);
    assert_eq!(told.last(), Some(&(summary.entries, summary.entries)));
    let verdict = larder_audit::verify(&export).unwrap();
    assert!(verdict.verified);
    assert_eq!(verdict.logs.iter().map(|log| log.entries).sum::<u64>(), summary.entries);
    assert_eq!(verdict.logs.iter().map(|log| log.deletions).sum::<u64>(), 1);
    assert!(verdict.logs.iter().all(|log| !log.acknowledgements.is_empty()), "{verdict}");
    for (path, bytes) in files(&export) {
        let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!found, "{} holds content", path.display());
    }
    let again = ana.space.export_receipts(&export, |_, _| ()).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_export_is_refuted_whichever_file_it_is() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Bread", "Flour")).await;
    ana.put(object, note("Bread", "Flour and water")).await;
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("receipts");
    ana.space.export_receipts(&export, |_, _| ()).await.unwrap();
    larder_audit::verify(&export).unwrap();
    let mut altered = 0;
    for (path, bytes) in files(&export) {
        // Text that is signed or hashed; not what an export only says about itself.
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains("manifest") || name.contains("README") || bytes.len() < 40 {
            continue;
        }
        let mut other = bytes.clone();
        let middle = other.len() / 2;
        other[middle] = if other[middle] == b'A' { b'B' } else { b'A' };
        fs::write(&path, other).unwrap();
        assert!(larder_audit::verify(&export).is_err(), "{} was altered", path.display());
        fs::remove_file(&path).unwrap();
        assert!(larder_audit::verify(&export).is_err(), "{} is missing", path.display());
        fs::write(&path, bytes).unwrap();
        altered += 1;
    }
    assert!(altered >= 4, "{altered} files only");
    larder_audit::verify(&export).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_receipt_verifies_on_every_device() {
    let ana = Device::found("Ana").await;
    for number in 0..20 {
        ana.create(json!({ "number": number })).await;
    }
    let ben = ana.invite("Ben").await;
    ben.create(json!({ "by": "Ben" })).await;
    let mut after = None;
    let mut seen = 0;
    loop {
        let page = ben.space.receipts(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.device, last.seq));
        for info in &page {
            let receipt = ben.space.receipt(info.device, info.seq).await.unwrap();
            receipt.verify().unwrap();
            assert_eq!((receipt.entry, receipt.space()), (info.entry, ben.space.id()));
            let text = receipt.to_tlog_proof();
            assert!(text.starts_with("c2sp.org/tlog-proof@v1\n"), "{text}");
            seen += 1;
        }
    }
    assert_eq!(seen, ben.space.status().await.unwrap().entries);
    let missing = ben.space.receipt(ben.space.device(), 1000).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}
