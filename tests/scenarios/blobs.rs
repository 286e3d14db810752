//! Files beside documents, between devices over QUIC.

use std::io::{Cursor, Read};
use std::sync::Arc;

use larder::{
    BlobId, BlobInfo, BlobPolicy, ErrorKind, Event, NetworkPolicy, NewBlob, Profile, Timestamp,
};
use larder_engine::{Access, Environment, ProfileOptions};
use larder_protocol::{
    BlobFrame, GREETING_BYTES_MAX, GREETING_EXPORTER, Greeting, Offered, Side, TAG_BYTES, agree,
};
use larder_transport::{Endpoint, FrameStream};
use larder_types::Entropy;
use serde_json::json;

use crate::common::{Device, event, files, key, kind, loopback, soon};
use crate::cuts::Wire;

/// Bytes without any pattern, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

async fn add(device: &Device, content: Vec<u8>) -> BlobInfo {
    let about =
        NewBlob { media_type: "video/mp4".into(), name: Some("film.mp4".into()), band: None };
    device.space.add_blob(Cursor::new(content), about).await.unwrap()
}

/// Adds a blob and a document that names it.
async fn film(device: &Device, content: Vec<u8>) -> BlobId {
    let info = add(device, content).await;
    device.create(json!({"film": {"$blob": info.id.to_string()}})).await;
    info.id
}

async fn content(device: &Device, id: BlobId) -> Vec<u8> {
    device.space.blob(id).await.unwrap().write_to(Vec::new(), |_, _| {}).await.unwrap()
}

async fn missing(device: &Device, id: BlobId) -> u64 {
    device.space.blob(id).await.unwrap().info().missing
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pass_brings_blobs_both_ways() {
    let ana = Device::found("Ana").await;
    let early = film(&ana, noise(1, 3_000_000)).await;
    let ben = ana.invite("Ben").await;
    assert_eq!(content(&ben, early).await, noise(1, 3_000_000), "with the first sync");
    let (one, two) = (film(&ana, noise(2, 700_000)).await, film(&ben, noise(3, 900_000)).await);
    let unnamed = add(&ana, noise(4, 1000)).await.id;
    ben.sync_with(&ana).await;
    assert_eq!(content(&ben, one).await, noise(2, 700_000));
    assert_eq!(content(&ana, two).await, noise(3, 900_000));
    assert_eq!(missing(&ben, unnamed).await, 1, "nobody named it");
    let status = ben.space.status().await.unwrap().blobs;
    assert_eq!((status.blobs, status.waiting, status.partial), (4, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_device_fetches_a_part_of_a_second_later_what_it_is_asked_for() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ben.space.set_blob_policy(BlobPolicy { eager_bytes_max: 1000 }).await.unwrap();
    let id = film(&ana, noise(1, 2_000_000)).await;
    let small = film(&ana, noise(2, 1000)).await;
    ben.sync_with(&ana).await;
    assert_eq!(content(&ben, small).await, noise(2, 1000));
    let mut blob = ben.space.blob(id).await.unwrap();
    assert_eq!(kind(blob.write_to(Vec::new(), |_, _| {}).await), ErrorKind::NotHere);
    assert_eq!(kind(blob.read(0..10).await), ErrorKind::NotHere);
    assert_eq!(kind(blob.fetch(|_, _| {}).await), ErrorKind::NotHere, "nobody is connected");

    let mut events = ben.profile.events();
    let following = tokio::spawn({
        let profile = ben.profile.clone();
        async move { profile.follow().await }
    });
    // It was asked for before: now it comes by itself.
    event(&mut events, |event| matches!(event, Event::BlobsReceived { .. })).await;
    assert_eq!(missing(&ben, id).await, 0);
    // And what is asked for while connected.
    let other = film(&ana, noise(3, 1_500_000)).await;
    ben.sees(|space| async move { space.blob(other).await.is_ok() }).await;
    let mut blob = ben.space.blob(other).await.unwrap();
    let mut told = Vec::new();
    soon("the fetch", blob.fetch(|done, all| told.push((done, all)))).await.unwrap();
    let chunks = told[0].1;
    assert!(chunks > 2 && told.last() == Some(&(chunks, chunks)), "{told:?}");
    assert_eq!(
        blob.read(1_000_000..1_000_100).await.unwrap(),
        noise(3, 1_500_000)[1_000_000..][..100]
    );
    assert_eq!(blob.read(1_499_990..1_600_000).await.unwrap(), noise(3, 1_500_000)[1_499_990..]);
    let mut read = Vec::new();
    let mut reader = blob.reader().await.unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, noise(3, 1_500_000));
    let none = ben.space.blob(BlobId::new([7; 32])).await;
    assert_eq!(kind(none), ErrorKind::NotFound);

    // Nobody who is connected has it.
    let gone = add(&ana, noise(5, 1_000_000)).await.id;
    let value = json!({"film": {"$blob": gone.to_string()}});
    let object = ana.create(value).await;
    ana.space.delete(object).await.unwrap();
    ben.sees(|space| async move { space.blob(gone).await.is_ok() }).await;
    assert!(ana.space.collect_blobs().await.unwrap().chunks > 0);
    let mut blob = ben.space.blob(gone).await.unwrap();
    assert_eq!(kind(soon("the answer", blob.fetch(|_, _| {})).await), ErrorKind::NotHere);
    // Until it has it again.
    add(&ana, noise(5, 1_000_000)).await;
    ben.profile.close().await.unwrap();
    soon("the end", following).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_cut_anywhere_goes_on_with_what_is_missing() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let id = film(&ana, noise(1, 6_000_000)).await;
    let all = add(&ana, noise(1, 6_000_000)).await;
    assert_eq!(all.id, id, "the same content is the same blob");
    let mut left = Vec::new();
    for datagrams in [150, 400, 900, 1500] {
        let wire = Wire::to(ana.address().await, datagrams).await;
        let (profile, address) = (ben.profile.clone(), wire.address);
        let syncing = tokio::spawn(async move { profile.sync_with(address).await });
        soon("the cut", wire.cut.notified()).await;
        syncing.abort();
        let _ = syncing.await;
        // What is under way at the writer is finished by the next to ask it.
        ben.create(json!({"mine": datagrams})).await;
        if let Ok(blob) = ben.space.blob(id).await {
            left.push(blob.info().missing);
        }
    }
    assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
    assert!(left.iter().any(|left| *left > 0 && *left < 24), "the cuts tested nothing: {left:?}");
    let held = missing(&ben, id).await;
    let mut events = ben.profile.events();
    ben.sync_with(&ana).await;
    assert_eq!(content(&ben, id).await, noise(1, 6_000_000));
    if held > 0 {
        let received = |event: &Event| matches!(event, Event::BlobsReceived { .. });
        let Event::BlobsReceived { chunks, .. } = event(&mut events, received).await else {
            unreachable!()
        };
        // One that was under way may have come after it was counted.
        assert!(chunks <= held, "{chunks} came, and {held} were missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopping_list_passes_a_video() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ben.space.set_blob_policy(BlobPolicy { eager_bytes_max: u64::MAX }).await.unwrap();
    let following = tokio::spawn({
        let profile = ben.profile.clone();
        async move { profile.follow().await }
    });
    let mut events = ben.profile.events();
    event(&mut events, |event| matches!(event, Event::CaughtUp { .. })).await;
    let id = film(&ana, noise(1, 40_000_000)).await;
    ben.sees(|space| async move { space.blob(id).await.is_ok() }).await;
    let list = ana.create(json!({"list": ["milk"]})).await;
    ben.sees(|space| async move { space.document(list).await.unwrap().is_some() }).await;
    let left = missing(&ben, id).await;
    assert!(left > 0, "the video was there first, so this says nothing");
    let mut blob = ben.space.blob(id).await.unwrap();
    soon("the video", blob.fetch(|_, _| {})).await.unwrap();
    assert!(content(&ben, id).await == noise(1, 40_000_000));
    ben.profile.close().await.unwrap();
    soon("the end", following).await.unwrap().unwrap();
}

/// The content of a blob is nowhere in the files of a device that added or received it, nor are
/// its name and type; the same search finds a file that holds it, and a name where nothing is
/// encrypted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_blob_holds_is_nowhere_in_the_files() {
    let word = b"Sauerteigbrotrezept";
    let mut secret = noise(1, 400_000);
    for at in [0, 100_000, 399_000] {
        secret[at..at + word.len()].copy_from_slice(word);
    }
    let holds = |dir: &std::path::Path, words: &[u8]| {
        let held = |bytes: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        files(dir).iter().any(|(_, bytes)| held(bytes))
    };
    let ana = Device::found("Ana").await;
    let id = film(&ana, secret.clone()).await;
    let ben = ana.invite("Ben").await;
    assert!(content(&ben, id).await == secret);
    for device in [&ana, &ben] {
        // Open, with its write-ahead log, and closed.
        for _ in 0..2 {
            for words in [&word[..], &secret[200_000..200_016], b"film.mp4", b"video/mp4"] {
                assert!(!holds(device.dir.path(), words));
            }
            device.profile.close().await.unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("control"), &secret).unwrap();
    assert!(holds(dir.path(), word) && holds(dir.path(), &secret[200_000..200_016]));
    let options = larder::Options::default().plain_control(true);
    let plain = Profile::create(dir.path(), key(), options).await.unwrap();
    let space = plain.create_space(&crate::common::household()).await.unwrap();
    let about =
        NewBlob { media_type: "video/mp4".into(), name: Some("film.mp4".into()), band: None };
    assert!(!holds(dir.path(), b"film.mp4"));
    space.add_blob(Cursor::new(secret), about).await.unwrap();
    assert!(holds(dir.path(), b"film.mp4") && holds(dir.path(), b"video/mp4"));
}

struct World;

struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Environment for World {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Zeros)
    }
}

/// Answers the first request for chunks with others.
async fn lie(endpoint: Endpoint, engine: larder_engine::Profile) -> BlobFrame {
    let connection = endpoint.accept().await.unwrap();
    let (space, _) = engine.open_space(&crate::common::household()).unwrap();
    let held = space.source().unwrap().held_digest(&connection.peer()).unwrap();
    let discovery = space.source().unwrap().discovery().unwrap();
    let spaces = [Offered { space: space.id(), discovery, held }];
    let exporter = connection.exporter(GREETING_EXPORTER).unwrap();
    let mut stream = connection.open_stream().await.unwrap();
    let ours = Greeting::new(&mut Zeros, &exporter, Side::Acceptor, &spaces).unwrap();
    stream.send(&ours.encode()).await.unwrap();
    let theirs = stream.recv(GREETING_BYTES_MAX).await.unwrap().unwrap();
    stream.finish().await.unwrap();
    let theirs = Greeting::decode(&theirs).unwrap();
    assert_eq!(agree(&theirs, &exporter, Side::Acceptor, &spaces).unwrap().spaces.len(), 1);
    let mut log: Option<FrameStream> = None;
    loop {
        let mut stream = connection.accept_stream().await.unwrap().unwrap();
        let tag = stream.recv(TAG_BYTES + 1).await.unwrap().unwrap();
        if tag.len() == TAG_BYTES {
            log = Some(stream);
            continue;
        }
        let frame = stream.recv(1 << 20).await.unwrap().unwrap();
        let BlobFrame::Want(digests) = BlobFrame::decode(&frame).unwrap() else { panic!() };
        let sealed = space.sealed_chunk(&digests[0]).unwrap().unwrap();
        let mut bent = sealed.clone();
        bent[1000] ^= 1;
        stream.send(&BlobFrame::Chunk(bent).encode()).await.unwrap();
        let said = loop {
            let frame = stream.recv(1 << 20).await.unwrap().unwrap();
            if let close @ BlobFrame::Close { .. } = BlobFrame::decode(&frame).unwrap() {
                break close;
            }
        };
        drop((stream, log.take()));
        connection.close(larder_types::CloseCode::Done, "");
        endpoint.close().await;
        return said;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_a_peer_bent_is_refused_by_name_and_not_kept() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ben.space.set_blob_policy(BlobPolicy { eager_bytes_max: 0 }).await.unwrap();
    let id = film(&ana, noise(1, 300_000)).await;
    ben.sync_with(&ana).await;
    ben.space.set_blob_policy(BlobPolicy::default()).await.unwrap();
    let wanted = missing(&ben, id).await;
    assert!(wanted > 0);

    // Ana's profile, in the hands of somebody else.
    let Device { dir, profile, space } = ana;
    profile.close().await.unwrap();
    drop((profile, space));
    let world: Arc<dyn Environment> = Arc::new(World);
    let options = ProfileOptions::default();
    let engine =
        larder_engine::Profile::open(world, dir.path(), &key(), Access::ReadWrite, options)
            .unwrap();
    let gate = Arc::new(|_: &larder::TransportId, _| true);
    let endpoint = Endpoint::bind(loopback().unwrap(), engine.transport_key(), gate).await.unwrap();
    let address = endpoint.local_addr().unwrap();
    let lying = tokio::spawn(lie(endpoint, engine));
    let mut events = ben.profile.events();
    let synced = soon("the sync", ben.profile.sync_with(address)).await;
    assert!(synced.is_err());
    let BlobFrame::Close { code, .. } = soon("the lie", lying).await.unwrap() else { panic!() };
    assert_eq!(code, larder_types::CloseCode::BadChunk);
    let told = event(&mut events, |event| match event {
        Event::SyncFailed { message, .. } => message.contains("chunk refused"),
        _ => false,
    });
    told.await;
    assert_eq!(missing(&ben, id).await, wanted, "nothing of it is kept");

    let profile = Profile::open(dir.path(), key(), larder::Options::default()).await.unwrap();
    profile.listen(loopback()).await.unwrap();
    let space = profile.space(&crate::common::household()).await.unwrap();
    let ana = Device { dir, profile, space };
    ben.sync_with(&ana).await;
    assert_eq!(content(&ben, id).await, noise(1, 300_000), "from an honest one it is taken");
}

/// A phone is connected to two devices. One of them has no photos, the other one has all of them:
/// which of the two is asked first must not matter, and a network that costs is spared.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_peer_lacks_another_one_is_asked_for_and_what_it_costs_is_told() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ben.space.set_blob_policy(BlobPolicy { eager_bytes_max: 0 }).await.unwrap();
    let cem = ana.invite("Cem").await;
    cem.sync_with(&ana).await;
    let id = film(&ana, noise(1, 4_000_000)).await;
    ben.sync_with(&ana).await;
    assert!(missing(&ben, id).await > 8);
    cem.sync_with(&ben).await;
    assert!(missing(&cem, id).await > 8, "the document has come, and nothing of the film");

    cem.profile.set_network(NetworkPolicy::Metered);
    let reports = cem.sync_with(&ana).await;
    assert_eq!((missing(&cem, id).await > 8, reports[0].blobs.chunks_in), (true, 0));
    cem.profile.set_network(NetworkPolicy::Free);
    let reports = cem.sync().await;
    assert_eq!(missing(&cem, id).await, 0);
    let chunks: u64 = reports.iter().map(|report| report.blobs.chunks_in).sum();
    let bytes: u64 = reports.iter().map(|report| report.blobs.bytes_in).sum();
    assert!(chunks > 8 && bytes > 4_000_000, "{chunks} chunks, {bytes} bytes");
    assert_eq!(content(&cem, id).await, noise(1, 4_000_000));
}
