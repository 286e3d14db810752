//! Connections that are cut at any moment: what was durable stays, the next sync goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::{Event, UnitOfWork};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::common::{Device, digests_equal, event, soon};

const DOCUMENTS: usize = 60;

/// Passes datagrams on until so many went through, then is silent for ever.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    pub(crate) cut: Arc<Notify>,
}

impl Wire {
    pub(crate) async fn to(target: SocketAddr, datagrams_max: usize) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        back.connect(target).await.unwrap();
        let address = front.local_addr().unwrap();
        let (cut, left) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(datagrams_max)));
        let client = Arc::new(std::sync::Mutex::new(None));
        let told = Arc::clone(&cut);
        let spend = move |left: &AtomicUsize| {
            let spent =
                left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if spent.is_err() {
                told.notify_one();
            }
            spent.is_ok()
        };
        let spend = Arc::new(spend);
        let (inward, outward) = ((front.clone(), back.clone()), (front, back));
        let (client_in, left_in, spend_in) = (client.clone(), left.clone(), spend.clone());
        tokio::spawn(async move {
            let mut datagram = vec![0; 65536];
            loop {
                let (length, from) = inward.0.recv_from(&mut datagram).await.unwrap();
                *client_in.lock().unwrap() = Some(from);
                if !spend_in(&left_in) {
                    return;
                }
                // Whoever is gone does not read it.
                let _ = inward.1.send(&datagram[..length]).await;
            }
        });
        tokio::spawn(async move {
            let mut datagram = vec![0; 65536];
            loop {
                let Ok(length) = outward.1.recv(&mut datagram).await else { continue };
                let Some(to) = *client.lock().unwrap() else { continue };
                if !spend(&left) {
                    return;
                }
                let _ = outward.0.send_to(&datagram[..length], to).await;
            }
        });
        Self { address, cut }
    }
}

/// Text that does not compress away.
pub(crate) fn text(seed: usize, words: usize) -> String {
    let mut state = u32::try_from(seed).unwrap();
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{state:08x}")
    };
    (0..words).map(|_| next()).collect()
}

async fn fill(device: &Device, round: usize, words: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..DOCUMENTS {
        let space = device.space.clone();
        tasks.spawn(async move {
            let body = text(round * DOCUMENTS + number, words);
            let mut unit = UnitOfWork::new();
            unit.create("notes", &json!({ "body": body })).unwrap();
            space.commit(unit).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_anywhere_loses_nothing() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    for (round, datagrams) in [2, 5, 9, 14, 20, 40, 80].into_iter().enumerate() {
        // In both directions.
        fill(if round % 2 == 0 { &ana } else { &ben }, round, 500).await;
        let before = ben.space.status().await.unwrap().entries;
        let wire = Wire::to(ana.address().await, datagrams).await;
        let (profile, address) = (ben.profile.clone(), wire.address);
        let syncing = tokio::spawn(async move { profile.sync_with(address).await });
        soon("the cut", wire.cut.notified()).await;
        syncing.abort();
        let _ = syncing.await;
        assert!(ben.space.status().await.unwrap().entries >= before);
    }
    ben.sync_with(&ana).await;
    digests_equal(&[&ana, &ben]).await;
    // Seven rounds, and what founding and enrolling made.
    let (here, there) = (ana.space.status().await.unwrap(), ben.space.status().await.unwrap());
    assert_eq!(here.documents, 7 * DOCUMENTS as u64);
    assert_eq!((here.lacking, there.lacking), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_resumes_where_it_was_cut() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    for round in 0..5 {
        fill(&ana, round, 5000).await;
    }
    // Five megabytes and more, in batches of one.
    let mut events = ben.profile.events();
    let (profile, address) = (ben.profile.clone(), ana.address().await);
    let syncing = tokio::spawn(async move { profile.sync_with(address).await });
    event(&mut events, |event| matches!(event, Event::Received { .. })).await;
    syncing.abort();
    let _ = syncing.await;
    // What is under way at the writer is finished by the next to ask it.
    ben.create(json!({ "mine": true })).await;
    let held = ben.space.status().await.unwrap().entries;
    let all = ana.space.status().await.unwrap().entries;
    let reports = ben.sync_with(&ana).await;
    let came = ben.space.status().await.unwrap().entries - held;
    assert!(reports[0].entries_in <= came, "{reports:?}: {came} were new");
    assert!(held > 4 && held < all, "{held} of {all}: the cut tested nothing");
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_closes_amid_a_sync_tells_the_other_and_both_go_on_later() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    for round in 0..5 {
        fill(&ana, round, 5000).await;
    }
    let mut events = ben.profile.events();
    let (profile, address) = (ben.profile.clone(), ana.address().await);
    let syncing = tokio::spawn(async move { profile.sync_with(address).await });
    event(&mut events, |event| matches!(event, Event::Received { .. })).await;
    let ana = soon("the restart", ana.restart()).await;
    // It was told, or had just everything.
    if let Err(error) = soon("the end", syncing).await.unwrap() {
        assert_eq!(error.kind(), larder::ErrorKind::Unreachable, "{error}");
    }
    ben.sync_with(&ana).await;
    digests_equal(&[&ana, &ben]).await;
}
