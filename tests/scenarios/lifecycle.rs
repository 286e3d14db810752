//! What a phone asks of an app: to let go of everything, to come back, to end in time, to spare a
//! metered network.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder::{
    Error, ErrorKind, Event, NetworkPolicy, Options, Profile, Secret, UnitOfWork, Unlock,
};
use serde_json::json;

use crate::common::{Device, digests_equal, event, household, key, kind, loopback, note, soon};

#[tokio::test(flavor = "multi_thread")]
async fn closed_handles_fail_and_work_again_once_it_is_opened_anew() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let soup = ana.create(note("Soup", "lentils")).await;
    let (mut changed, mut events) = (ana.space.changed(), ana.profile.events());
    let wrong = || Unlock::Key(Secret::new([8; 32]));
    assert_eq!(kind(ana.profile.check_unlock(wrong()).await), ErrorKind::WrongPassphrase);
    ana.profile.check_unlock(key()).await.unwrap();
    ana.profile.close().await.unwrap();
    ana.profile.close().await.unwrap();
    assert!(matches!(ana.profile.check_unlock(key()).await, Err(Error::Closed)));

    assert!(matches!(ana.space.document(soup).await, Err(Error::Closed)));
    assert!(matches!(ana.space.create("notes", &json!({})).await, Err(Error::Closed)));
    assert!(matches!(ana.space.rekey(|_, _| ()).await, Err(Error::Closed)));
    assert!(matches!(ana.profile.space(&household()).await, Err(Error::Closed)));
    assert!(matches!(ana.profile.sync().await, Err(Error::Closed)));
    assert!(matches!(ana.profile.follow().await, Err(Error::Closed)));
    assert!(matches!(ana.profile.status().await, Err(Error::Closed)));
    assert_eq!(ana.profile.listening().await, None);
    assert_eq!((ana.profile.label().as_str(), ana.space.name()), ("Ana", &household()));

    // Another process may have it meanwhile.
    let other = Profile::open(ana.dir.path(), key(), Options::default()).await.unwrap();
    assert_eq!(kind(ana.profile.reopen(key()).await), ErrorKind::InUse);
    other.close().await.unwrap();
    assert_eq!(kind(ana.profile.reopen(wrong()).await), ErrorKind::WrongPassphrase);
    assert!(matches!(ana.space.document(soup).await, Err(Error::Closed)));

    ana.profile.reopen(key()).await.unwrap();
    ana.profile.reopen(key()).await.unwrap();
    assert_eq!(ana.value(soup).await.unwrap()["title"], "Soup");
    changed.mark_unchanged();
    let bread = ana.create(note("Bread", "rye")).await;
    soon("the tick", changed.changed()).await.unwrap();
    ana.profile.listen(loopback()).await.unwrap();
    ben.sync_with(&ana).await;
    event(&mut events, |event| matches!(event, Event::Sent { .. })).await;
    assert_eq!(ben.value(bread).await.unwrap()["title"], "Bread");
    digests_equal(&[&ana, &ben]).await;
}

/// The handles said the key by which nobody knows it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_was_renewed_while_closed_is_known_by_its_new_key() {
    let ana = Device::found("Ana").await;
    let before = ana.profile.transport_id();
    let address = ana.profile.listen(loopback()).await.unwrap();
    ana.profile.close().await.unwrap();
    Profile::renew(ana.dir.path(), key()).await.unwrap();
    assert_eq!(ana.profile.transport_id(), before);
    ana.profile.reopen(key()).await.unwrap();
    let now = ana.profile.transport_id();
    assert_ne!(now, before);
    assert_eq!(ana.profile.status().await.unwrap().transport, now);
    assert_eq!(ana.profile.listen(Some(address)).await.unwrap(), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_in_memory_is_gone_once_it_is_closed() {
    let profile = Profile::in_memory(Options::default()).await.unwrap();
    profile.close().await.unwrap();
    assert_eq!(kind(profile.reopen(key()).await), ErrorKind::NotFound);
}

/// Suspension comes at any moment: what was reported as committed is there afterwards, and nothing
/// hangs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_reported_is_lost_however_often_it_is_suspended() {
    let ana = Device::found("Ana").await;
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (space, over) = (ana.space.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut written = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match space.create("notes", &json!({ "by": writer })).await {
                        Ok((object, _)) => written.push(object),
                        Err(Error::Closed) => tokio::task::yield_now().await,
                        // What is open ends under it.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
                    }
                    let read = space.list(None, None, 10).await;
                    assert!(read.is_ok() || kind(read) == ErrorKind::Invalid);
                }
                written
            })
        })
        .collect();
    ana.suspend_while_writing().await;
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        let written = soon("the writer", writer).await.unwrap();
        assert!(!written.is_empty());
        for object in written {
            assert!(ana.value(object).await.is_some(), "{object} is lost");
        }
    }
    ana.space.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_with_an_end_stops_and_goes_on_from_there() {
    let ana = Device::found("Ana").await;
    let ben = ana.admit("Ben").await;
    let body = "a line of a long note\n".repeat(40);
    for unit in 0..40 {
        let mut many = UnitOfWork::new();
        for number in 0..50 {
            let value = json!({ "unit": unit, "number": number, "body": body });
            many.create("notes", &value).unwrap();
        }
        ana.space.commit(many).await.unwrap();
    }
    let all = ana.space.status().await.unwrap().entries;
    let over = Instant::now();
    let reports = soon("the end", ben.profile.sync_until(over)).await.unwrap();
    assert_eq!(reports.len(), 1);
    assert!(!reports[0].is_complete());

    let (mut patience, mut passes, mut came) = (Duration::from_millis(5), 0, 0);
    let total = loop {
        let deadline = Instant::now() + patience;
        let reports = soon("the end", ben.profile.sync_until(deadline)).await.unwrap();
        let held = ben.space.status().await.unwrap().entries;
        passes += 1;
        if let Ok(spaces) = &reports[0].outcome {
            came += spaces.iter().map(|space| space.entries_in).sum::<u64>();
        }
        if reports[0].is_complete() {
            break held;
        }
        // What came before the end is kept, and it is known that there is more, unless all of it
        // had just come.
        if let Ok([space]) = reports[0].outcome.as_deref()
            && space.entries_in > 0
        {
            assert!(space.left_in + space.left_out > 0 || held >= all, "{held}: {space:?}");
        }
        patience += Duration::from_millis(5);
    };
    assert!(passes > 1, "one pass was enough: the end was never reached");
    assert!(came <= total, "{came} entries came, of {total}: some came twice");
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_takes_what_one_peer_has_to_the_others() {
    let ana = Device::found("Ana").await;
    let (ben, carol) = (ana.invite("Ben").await, ana.invite("Carol").await);
    // Carol has nothing new and hangs up long before all of Ben's has come.
    for unit in 0..10 {
        let mut many = UnitOfWork::new();
        for number in 0..100 {
            many.create("notes", &json!({ "unit": unit, "number": number })).unwrap();
        }
        ben.space.commit(many).await.unwrap();
    }
    let reports = ana.try_sync().await;
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(larder::PeerReport::is_complete), "{reports:?}");
    digests_equal(&[&ana, &ben, &carol]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metered_network_is_used_only_when_asked() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let mut events = ben.profile.events();
    let following = ben.profile.clone();
    let follow = tokio::spawn(async move { following.follow().await });
    event(&mut events, |event| matches!(event, Event::PeerConnected { .. })).await;

    ben.profile.set_network(NetworkPolicy::Metered);
    event(&mut events, |event| matches!(event, Event::PeerLost { .. })).await;
    let soup = ana.create(note("Soup", "lentils")).await;
    ben.sync_with(&ana).await;
    assert_eq!(ben.value(soup).await.unwrap()["title"], "Soup");
    event(&mut events, |event| matches!(event, Event::PeerLost { .. })).await;

    ben.profile.set_network(NetworkPolicy::Free);
    event(&mut events, |event| matches!(event, Event::PeerConnected { .. })).await;
    let bread = ana.create(note("Bread", "rye")).await;
    ben.sees(|space| async move { space.document(bread).await.unwrap().is_some() }).await;
    ben.profile.close().await.unwrap();
    follow.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_is_for_both_families() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("NOT CHECKED: this system has no IPv6");
        return;
    }
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let any = Some((Ipv6Addr::UNSPECIFIED, 0).into());
    let everywhere = ana.profile.listen(any).await.unwrap();
    ben.profile.listen(any).await.unwrap();
    for ip in ["::1", "127.0.0.1"] {
        let at = SocketAddr::new(ip.parse().unwrap(), everywhere.port());
        let object = ana.create(note("at", ip)).await;
        soon("the sync", ben.profile.sync_with(at)).await.unwrap();
        assert!(ben.value(object).await.is_some());
        let known = ben.profile.status().await.unwrap().peers;
        assert!(known[0].addresses.contains(&at), "{known:?}");
    }
}
