//! Real QUIC over loopback: who gets in, what frames do, and what happens when a peer misbehaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    Pair, any_port, endpoint, impostor, key, knows, pair, raw_client, raw_client_with, raw_connect,
    raw_server,
};
use larder_transport::{Connection, Endpoint, Error, FrameStream, Purpose};
use larder_types::limits::CONNECTIONS_MAX;
use larder_types::{CloseCode, TransportId};
use rustls::crypto::aws_lc_rs::kx_group;

/// A stream that `first` opened and `second` accepted. A stream is only seen with its first
/// bytes, so a frame goes first.
async fn stream(first: &Connection, second: &Connection) -> (FrameStream, FrameStream) {
    let mut near = first.open_stream().await.unwrap();
    near.send(b"hello").await.unwrap();
    let mut far = second.accept_stream().await.unwrap().unwrap();
    assert_eq!(far.recv(16).await.unwrap().unwrap(), b"hello");
    (near, far)
}

#[tokio::test]
async fn two_devices_that_know_each_other_talk_both_ways() {
    let Pair { first, second, endpoints } = pair().await;
    assert_eq!(first.peer(), key(2).public());
    assert_eq!(second.peer(), key(1).public());
    assert_eq!(second.purpose(), Purpose::Sync);
    assert_eq!(first.remote_address(), Some(endpoints[1].local_addr().unwrap()));
    let (mut near, mut far) = stream(&first, &second).await;
    far.send(b"").await.unwrap();
    assert_eq!(near.recv(0).await.unwrap().unwrap(), b"");
    assert_eq!((near.bytes_sent(), far.bytes_received()), (9, 9));
    assert_eq!((far.bytes_sent(), near.bytes_received()), (4, 4));
    let ((), ended) = tokio::join!(async { near.finish().await.unwrap() }, far.recv(16));
    assert_eq!(ended.unwrap(), None);
    assert_eq!(far.recv(16).await.unwrap(), None, "and it stays ended");
    assert!(matches!(near.send(b"late").await, Err(Error::LocallyClosed)));
    first.close(CloseCode::Done, "");
    assert!(second.accept_stream().await.unwrap().is_none());
}

#[tokio::test]
async fn keying_material_is_shared_by_the_two_ends_and_by_nobody_else() {
    let (one, two) = (pair().await, pair().await);
    let ends = [&one.first, &one.second, &two.first, &two.second];
    let [a, b, c, d] = ends.map(|end| end.exporter("larder/test").unwrap());
    assert_eq!((a, c), (b, d));
    assert_ne!(a, c);
    assert_ne!(a, one.first.exporter("larder/other").unwrap());
}

#[tokio::test]
async fn a_device_that_is_not_known_is_refused_and_told_to_join() {
    let (one, two) = (endpoint(1, &[2]).await, endpoint(2, &[3]).await);
    let addr = two.local_addr().unwrap();
    let error = one.connect(addr, key(2).public(), Purpose::Sync).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKey { addr: at } if at == addr), "{error}");
    assert!(error.to_string().contains("join with an invitation"));
    // The listener goes on, and never showed that connection.
    let three = endpoint(3, &[2]).await;
    let (near, far) =
        tokio::join!(three.connect(addr, key(2).public(), Purpose::Sync), two.accept());
    near.unwrap();
    assert_eq!(far.unwrap().peer(), key(3).public());
}

#[tokio::test]
async fn a_key_that_a_space_knows_does_not_open_pairing_and_the_reverse() {
    let pairing_open = Arc::new(AtomicBool::new(false));
    let open = pairing_open.clone();
    let gate = Arc::new(move |peer: &TransportId, purpose| match purpose {
        Purpose::Sync => *peer == key(1).public(),
        Purpose::Pair => open.load(Ordering::SeqCst),
    });
    let two = Endpoint::bind(any_port(), &key(2), gate).await.unwrap();
    let addr = two.local_addr().unwrap();
    let (known, stranger) = (endpoint(1, &[]).await, endpoint(3, &[]).await);
    let expected = key(2).public();
    for (device, purpose) in [(&known, Purpose::Pair), (&stranger, Purpose::Pair)] {
        let error = device.connect(addr, expected, purpose).await.unwrap_err();
        assert!(matches!(error, Error::UnknownKey { .. }), "{error}");
    }
    pairing_open.store(true, Ordering::SeqCst);
    let (near, far) = tokio::join!(stranger.connect(addr, expected, Purpose::Pair), two.accept());
    near.unwrap();
    assert_eq!(far.unwrap().purpose(), Purpose::Pair);
    let error = stranger.connect(addr, expected, Purpose::Sync).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKey { .. }), "{error}");
}

#[tokio::test]
async fn another_device_at_the_address_is_named() {
    let (one, two) = (endpoint(1, &[2]).await, endpoint(2, &[1]).await);
    let addr = two.local_addr().unwrap();
    match one.connect(addr, key(9).public(), Purpose::Sync).await.unwrap_err() {
        Error::WrongKey { expected, found, .. } => {
            assert_eq!((expected, found), (key(9).public(), key(2).public()));
        }
        error => panic!("{error}"),
    }
}

/// Whoever was on a network once with the household's laptop has seen its public key, and can say
/// on any network that the laptop is where he is. If that were believed, devices would remember his
/// places in the room of the laptop's, and no longer find it after he is gone.
#[tokio::test]
async fn a_key_that_is_only_shown_is_nobodys() {
    let alpn = Purpose::Sync.alpn();
    let (one, two) = (endpoint(1, &[2]).await, endpoint(2, &[1]).await);
    assert_eq!(one.key_at(two.local_addr().unwrap()).await.unwrap(), key(2).public());
    let false_one = impostor(&key(2), &key(3), alpn);
    let addr = false_one.local_addr().unwrap();
    let accepting = tokio::spawn(async move { false_one.accept().await.unwrap().await });
    let error = one.key_at(addr).await.unwrap_err();
    assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    let shown = accepting.await.unwrap().map(|connection| connection.peer_identity().is_some());
    assert!(shown.is_err(), "and this device's key was not shown");
    for expected in [2, 9] {
        let false_one = impostor(&key(2), &key(3), alpn);
        let addr = false_one.local_addr().unwrap();
        let _accepting = tokio::spawn(async move { false_one.accept().await.unwrap().await });
        let error = one.connect(addr, key(expected).public(), Purpose::Sync).await.unwrap_err();
        assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_is_incompatible() {
    let server = raw_server(&key(2), b"larder/9");
    let addr = server.local_addr().unwrap();
    let accepting = tokio::spawn(async move { server.accept().await.unwrap().await });
    let one = endpoint(1, &[2]).await;
    let error = one.connect(addr, key(2).public(), Purpose::Sync).await.unwrap_err();
    assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    assert!(accepting.await.unwrap().is_err());

    let client = raw_client(&key(2), b"larder/9");
    let addr = one.local_addr().unwrap();
    assert!(client.connect(addr, "anyone").unwrap().await.is_err());
}

/// What is recorded today must stay closed to whoever breaks X25519 in twenty years.
#[tokio::test]
async fn a_key_exchange_without_ml_kem_is_none() {
    let one = endpoint(1, &[2]).await;
    let addr = one.local_addr().unwrap();
    let accepting = tokio::spawn(async move { one.accept().await.map(|peer| (one, peer)) });
    let connect = async |group| {
        let client = raw_client_with(&key(2), Purpose::Sync.alpn(), vec![group]);
        let connection = client.connect(addr, "anyone").unwrap().await.ok()?;
        Some((client, connection))
    };
    assert!(connect(kx_group::X25519).await.is_none());
    let _connected = connect(kx_group::X25519MLKEM768).await.unwrap();
    accepting.await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let one = endpoint(1, &[]).await;
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    let addr = silent.local_addr().unwrap();
    // With nothing else to do, a paused clock jumps to the next timer.
    tokio::time::pause();
    let error = one.connect(addr, key(2).public(), Purpose::Sync).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_address_that_is_taken_cannot_be_listened_on() {
    let one = endpoint(1, &[]).await;
    let addr = one.local_addr().unwrap();
    let error = Endpoint::bind(addr, &key(2), knows(&[])).await.unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
}

/// A profile that was closed and opened anew could not listen where it had listened: its socket was
/// there for three seconds more if a device was being connected to that did not answer, and for a
/// moment in any case.
#[tokio::test]
async fn an_endpoint_that_was_closed_leaves_its_address_to_the_next() {
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    let there = silent.local_addr().unwrap();
    let mut one = endpoint(1, &[2]).await;
    let addr = one.local_addr().unwrap();
    for _ in 0..3 {
        let connecting = Arc::new(one);
        let (near, peer) = (Arc::clone(&connecting), key(2).public());
        let attempt =
            tokio::spawn(async move { near.connect(there, peer, Purpose::Sync).await.map(drop) });
        // It has said something.
        let mut first_byte = [0; 1];
        let asked = silent.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || asked.recv_from(&mut first_byte));
        assert_eq!(heard.await.unwrap().unwrap().1, addr);
        connecting.close().await;
        assert!(attempt.await.unwrap().is_err());
        one = Endpoint::bind(addr, &key(1), knows(&[2])).await.unwrap();
    }
}

#[tokio::test]
async fn a_frame_longer_than_allowed_is_refused_before_it_is_read() {
    let Pair { first, second, endpoints } = pair().await;
    let (mut near, mut far) = stream(&first, &second).await;
    near.send(&[7; 100]).await.unwrap();
    let error = far.recv(99).await.unwrap_err();
    assert!(matches!(error, Error::FrameTooLarge { len: 100, max: 99 }), "{error}");

    // A peer that announces 4 GiB gets no memory for it.
    let (_client, raw) = raw_connect(1, &endpoints[1]).await;
    let second = endpoints[1].accept().await.unwrap();
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    let mut far = second.accept_stream().await.unwrap().unwrap();
    let error = far.recv(20 << 20).await.unwrap_err();
    assert!(matches!(error, Error::FrameTooLarge { len: 0xffff_ffff, .. }), "{error}");
}

#[tokio::test]
async fn a_frame_of_20_megabytes_arrives_whole() {
    let Pair { first, second, endpoints: _endpoints } = pair().await;
    let (mut near, mut far) = stream(&first, &second).await;
    let frame: Vec<u8> =
        (0..20 << 20).map(|index: u32| (index.wrapping_mul(31) >> 3) as u8).collect();
    let sent = frame.clone();
    let sending = tokio::spawn(async move {
        near.send(&sent).await.unwrap();
        near
    });
    assert!(far.recv(20 << 20).await.unwrap().unwrap() == frame);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_receive_that_was_dropped_halfway_goes_on_where_it_was() {
    let Pair { first: _first, second: _second, endpoints } = pair().await;
    let (_client, raw) = raw_connect(1, &endpoints[1]).await;
    let second = endpoints[1].accept().await.unwrap();
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    let frame = [&[0, 0, 0, 6][..], b"frames"].concat();
    let mut far = None;
    for byte in &frame[..9] {
        send.write_all(&[*byte]).await.unwrap();
        let far = match &mut far {
            Some(far) => far,
            None => far.insert(second.accept_stream().await.unwrap().unwrap()),
        };
        let before = far.bytes_received();
        while far.bytes_received() == before {
            tokio::select! {
                biased;
                frame = far.recv(16) => panic!("{frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    send.write_all(&frame[9..]).await.unwrap();
    assert_eq!(far.unwrap().recv(16).await.unwrap().unwrap(), b"frames");
}

/// A buffer for a frame grew as it pleased: at its end it could be twice as long as the longest
/// frame there may be.
#[tokio::test]
async fn a_frame_takes_as_much_memory_as_has_come_twice_at_most_and_never_more_than_it_is_long() {
    const MAX: usize = 5 << 20;
    let Pair { first: _first, second: _second, endpoints } = pair().await;
    let (_client, raw) = raw_connect(1, &endpoints[1]).await;
    let second = endpoints[1].accept().await.unwrap();
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&u32::try_from(MAX).unwrap().to_be_bytes()).await.unwrap();
    let (_sender, mut far) = second.accept_stream().await.unwrap().unwrap().split();
    let part = vec![7; 100_000];
    let mut gone = 0;
    while gone < MAX {
        let part = &part[..part.len().min(MAX - gone)];
        gone += part.len();
        let writing = send.write_all(part);
        tokio::pin!(writing);
        let mut is_written = false;
        while far.bytes_received() < 4 + gone as u64 {
            tokio::select! {
                biased;
                written = &mut writing, if !is_written => { written.unwrap(); is_written = true; }
                frame = far.recv(MAX) => {
                    assert_eq!((frame.unwrap().unwrap().len(), gone), (MAX, MAX));
                    return;
                }
                () = tokio::task::yield_now() => {}
            }
            let (has, held) = (far.bytes_partial(), far.bytes_held());
            assert!(held <= (2 * has).max(256 << 10) + (256 << 10), "{held} for {has}");
            assert!(held <= MAX + 64, "{held}");
        }
    }
    panic!("it came whole and was not handed over");
}

#[tokio::test]
async fn many_streams_run_beside_each_other() {
    let Pair { first, second, endpoints: _endpoints } = pair().await;
    let answering = tokio::spawn(async move {
        let mut tasks = Vec::new();
        for _ in 0..200 {
            let mut far = second.accept_stream().await.unwrap().unwrap();
            tasks.push(tokio::spawn(async move {
                let frame = far.recv(1 << 20).await.unwrap().unwrap();
                far.send(&frame).await.unwrap();
                far.finish().await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    // More than may be open at once: the rest wait their turn.
    let asking: Vec<_> = (0..200_u32)
        .map(|number| {
            let first = first.clone();
            tokio::spawn(async move {
                let mut near = first.open_stream().await.unwrap();
                let frame = number.to_be_bytes().repeat(1 + number as usize * 10);
                near.send(&frame).await.unwrap();
                assert_eq!(near.recv(1 << 20).await.unwrap().unwrap(), frame);
                near.finish().await.unwrap();
            })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }
    answering.await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let Pair { first, second, endpoints } = pair().await;
    let (mut near, mut far) = stream(&first, &second).await;
    let vandal = std::net::UdpSocket::bind(any_port()).unwrap();
    let mut state = 1_u32;
    for round in 0..2000_usize {
        let mut datagram = vec![0; round % 1400 + 1];
        for byte in &mut datagram {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        // Some look like the long header of a QUIC v1 packet.
        if round % 3 == 0 && datagram.len() > 6 {
            datagram[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
        }
        vandal.send_to(&datagram, endpoints[1].local_addr().unwrap()).unwrap();
        vandal.send_to(&datagram, endpoints[0].local_addr().unwrap()).unwrap();
        if round % 50 == 0 {
            near.send(&datagram).await.unwrap();
            assert_eq!(far.recv(1400).await.unwrap().unwrap(), datagram);
        }
    }
    let (mut near, _far) = stream(&first, &second).await;
    near.send(b"still here").await.unwrap();
}

#[tokio::test]
async fn a_stream_cut_within_a_frame_is_an_error_and_not_an_end() {
    let two = endpoint(2, &[1]).await;
    for how in 0..3 {
        let (client, raw) = raw_connect(1, &two).await;
        let second = two.accept().await.unwrap();
        let (mut send, _recv) = raw.open_bi().await.unwrap();
        send.write_all(&[0, 0, 0, 10, b'h', b'a', b'l', b'f']).await.unwrap();
        let mut far = second.accept_stream().await.unwrap().unwrap();
        match how {
            0 => send.finish().unwrap(),
            1 => send.reset(0_u32.into()).unwrap(),
            _ => client.close(0_u32.into(), b""),
        }
        let error = far.recv(100).await.unwrap_err();
        match how {
            2 => assert!(matches!(error, Error::Closed { code: CloseCode::Done, .. }), "{error}"),
            _ => assert!(matches!(error, Error::Cut { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_sender_that_is_dropped_without_finishing_is_no_end() {
    let Pair { first, second, endpoints: _endpoints } = pair().await;
    let (near, mut far) = stream(&first, &second).await;
    drop(near);
    assert!(matches!(far.recv(16).await, Err(Error::Cut { .. })));
}

#[tokio::test]
async fn a_peer_that_vanishes_is_given_up() {
    let two = endpoint(2, &[1]).await;
    let addr = two.local_addr().unwrap();
    // Device 1 lives in a runtime that dies without a word.
    let (connected, ready) = tokio::sync::oneshot::channel();
    let (die, dying) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let held = runtime.block_on(async {
            let one = endpoint(1, &[2]).await;
            let first = one.connect(addr, key(2).public(), Purpose::Sync).await.unwrap();
            let mut near = first.open_stream().await.unwrap();
            near.send(b"hello").await.unwrap();
            (one, first, near)
        });
        connected.send(()).unwrap();
        dying.recv().unwrap();
        runtime.shutdown_background();
        std::mem::forget(held);
    });
    let second = two.accept().await.unwrap();
    let mut far = second.accept_stream().await.unwrap().unwrap();
    assert_eq!(far.recv(16).await.unwrap().unwrap(), b"hello");
    ready.await.unwrap();
    die.send(()).unwrap();
    thread.join().unwrap();
    tokio::time::pause();
    assert!(matches!(far.recv(16).await, Err(Error::TimedOut)));
}

#[tokio::test]
async fn a_peer_that_opens_no_stream_is_closed() {
    let Pair { first, second, endpoints: _endpoints } = pair().await;
    tokio::time::pause();
    assert!(matches!(second.accept_stream().await, Err(Error::TimedOut)));
    tokio::time::resume();
    let error = first.accept_stream().await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: CloseCode::TimedOut, .. }), "{error}");
}

#[tokio::test]
async fn a_closed_connection_says_why() {
    let Pair { first, second, endpoints } = pair().await;
    let (_near, mut far) = stream(&first, &second).await;
    first.close(CloseCode::Malformed, &"é".repeat(1000));
    match far.recv(16).await.unwrap_err() {
        Error::Closed { code: CloseCode::Malformed, reason } => {
            assert_eq!(reason, "é".repeat(128));
        }
        error => panic!("{error}"),
    }
    let Pair { first, endpoints: others, second: _second } = pair().await;
    others[1].close().await;
    let error = first.accept_stream().await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: CloseCode::ShuttingDown, .. }), "{error}");
    assert!(others[1].accept().await.is_none());
    drop(endpoints);
}

#[tokio::test]
async fn a_peer_that_moves_to_another_address_keeps_its_connection() {
    let two = endpoint(2, &[1]).await;
    let (client, raw) = raw_connect(1, &two).await;
    let second = two.accept().await.unwrap();
    let before = second.remote_address();
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(b"\0\0\0\x01a").await.unwrap();
    let mut far = second.accept_stream().await.unwrap().unwrap();
    assert_eq!(far.recv(1).await.unwrap().unwrap(), b"a");
    client.rebind(std::net::UdpSocket::bind(any_port()).unwrap()).unwrap();
    send.write_all(b"\0\0\0\x01b").await.unwrap();
    assert_eq!(far.recv(1).await.unwrap().unwrap(), b"b");
    assert_ne!(second.remote_address(), before);
}

#[tokio::test]
async fn beyond_the_last_place_a_device_is_busy_until_one_is_free() {
    let two = endpoint(2, &[1]).await;
    let addr = two.local_addr().unwrap();
    let one = endpoint(1, &[]).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let (near, far) =
            tokio::join!(one.connect(addr, key(2).public(), Purpose::Sync), two.accept());
        held.push((near.unwrap(), far.unwrap()));
    }
    let error = one.connect(addr, key(2).public(), Purpose::Sync).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    held.pop();
    let (near, far) = tokio::join!(one.connect(addr, key(2).public(), Purpose::Sync), two.accept());
    near.unwrap();
    far.unwrap();
}

#[tokio::test]
async fn a_connection_in_memory_behaves_alike() {
    let (first, second) =
        larder_transport::memory::pair(key(1).public(), key(2).public(), Purpose::Sync, [3; 32]);
    assert_eq!((first.peer(), second.peer()), (key(2).public(), key(1).public()));
    assert_eq!(first.exporter("a").unwrap(), second.exporter("a").unwrap());
    assert_ne!(first.exporter("a").unwrap(), first.exporter("b").unwrap());
    let (mut near, mut far) = stream(&first, &second).await;
    let frame = vec![7; 3 << 20];
    let (sent, received) = tokio::join!(near.send(&frame), far.recv(3 << 20));
    sent.unwrap();
    assert!(received.unwrap().unwrap() == frame);
    assert_eq!(near.bytes_sent(), far.bytes_received());
    near.finish().await.unwrap();
    assert_eq!(far.recv(16).await.unwrap(), None);
    drop(near);
    let (near, mut far) = stream(&second, &first).await;
    drop(near);
    assert!(matches!(far.recv(16).await, Err(Error::Cut { .. })));
    let (_near, mut far) = stream(&first, &second).await;
    first.close(CloseCode::Busy, "later");
    let error = far.recv(16).await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: CloseCode::Busy, .. }), "{error}");
    assert!(matches!(first.open_stream().await, Err(Error::LocallyClosed)));
    let (first, second) =
        larder_transport::memory::pair(key(1).public(), key(2).public(), Purpose::Sync, [3; 32]);
    drop(first);
    assert!(second.accept_stream().await.unwrap().is_none());
}
