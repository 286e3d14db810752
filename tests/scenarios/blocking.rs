//! Commits on the caller's own thread, beside others that wait in the queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use larder::{Error, Event, ObjectId, Query, Receipt, Space, UnitOfWork};
use serde_json::json;

use crate::common::{Device, event, key, note, soon};

fn create(space: &Space, by: usize) -> Result<(ObjectId, Receipt), Error> {
    let mut unit = UnitOfWork::new();
    let object = unit.create("notes", &json!({ "by": by, "body": "sesame" }))?;
    Ok((object, space.commit_blocking(unit)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_many_threads_and_tasks_each_get_a_receipt_of_their_own() {
    const THREADS: usize = 4;
    const UNITS: usize = 50;
    let ana = Device::found("Ana").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..THREADS * UNITS {
        let space = ana.space.clone();
        tasks.spawn(async move { space.create("notes", &note("Async", "")).await.unwrap().1 });
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|by| {
            let space = ana.space.clone();
            thread::spawn(move || -> Vec<Receipt> {
                (0..UNITS).map(|_| create(&space, by).unwrap().1).collect()
            })
        })
        .collect();
    let mut receipts = tasks.join_all().await;
    for done in threads {
        let done = tokio::task::spawn_blocking(|| done.join().unwrap()).await.unwrap();
        assert!(done.is_sorted_by(|a, b| a.seq < b.seq), "in the order of its thread");
        receipts.extend(done);
    }
    for receipt in &receipts {
        receipt.verify().unwrap();
    }
    let seqs: BTreeSet<u64> = receipts.iter().map(|receipt| receipt.seq).collect();
    assert_eq!(seqs.len(), 2 * THREADS * UNITS);
    assert_eq!(ana.space.status().await.unwrap().documents, 2 * (THREADS * UNITS) as u64);
    assert!(ana.space.check().await.unwrap().findings.is_empty());
}

/// What follows from a commit follows by itself: a tick, the index, and what other devices get.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_indexed_and_synced_without_being_asked() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let follower = ana.profile.clone();
    tokio::spawn(async move { follower.follow().await });
    let (mut changed, mut events) = (ana.space.changed(), ana.profile.events());
    let (mut arrived, space) = (ben.profile.events(), ana.space.clone());
    changed.mark_unchanged();
    let (object, receipt) =
        tokio::task::spawn_blocking(move || create(&space, 0).unwrap()).await.unwrap();
    assert!(changed.has_changed().unwrap());
    assert_eq!(receipt.seq, ana.space.receipt(receipt.device, receipt.seq).await.unwrap().seq);
    event(&mut events, |event| matches!(event, Event::Indexed { .. })).await;
    event(&mut arrived, |event| matches!(event, Event::Indexed { .. })).await;
    assert_eq!(ben.value(object).await.unwrap()["by"], 0);
    let found = ben.space.search(Query::text("sesame")).await.unwrap();
    assert_eq!(found[0].document.object, object);
}

/// A unit is either committed and said to be, or it is not and fails: whenever the space is closed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_while_it_is_closed_and_opened() {
    let ana = Device::found("Ana").await;
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|by| {
            let (space, over) = (ana.space.clone(), Arc::clone(&over));
            thread::spawn(move || {
                let mut written = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match create(&space, by) {
                        Ok((object, _)) => written.push(object),
                        Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                    }
                }
                written
            })
        })
        .collect();
    ana.suspend_while_writing().await;
    over.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        let joined = tokio::task::spawn_blocking(|| writer.join().unwrap());
        written.extend(soon("the writer", joined).await.unwrap());
    }
    let documents = ana.space.list(None, None, written.len() + 1).await.unwrap().documents;
    let there: BTreeSet<ObjectId> = documents.iter().map(|document| document.object).collect();
    assert_eq!(there, written.iter().copied().collect());
    ana.profile.close().await.unwrap();
    assert!(matches!(create(&ana.space, 9), Err(Error::Closed)));
}

/// A thread of a runtime may block, if it must: also the only one, also while tasks of the same
/// runtime wait in the queue, and also when the space has to be opened first.
#[tokio::test]
async fn the_only_thread_of_a_runtime_may_block() {
    let ana = Device::found("Ana").await;
    ana.profile.close().await.unwrap();
    ana.profile.reopen(key()).await.unwrap();
    create(&ana.space, 0).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let space = ana.space.clone();
        tasks.spawn(async move { space.create("notes", &note("Async", "")).await.unwrap().1.seq });
    }
    tokio::task::yield_now().await;
    let blocking: Vec<u64> = (0..300).map(|by| create(&ana.space, by).unwrap().1.seq).collect();
    let seqs = tasks.join_all().await;
    let before = seqs.iter().filter(|seq| **seq < blocking[0]).count();
    assert!(before > 0, "what was asked before is done before");
    assert_eq!(ana.space.status().await.unwrap().documents, 601);
}
