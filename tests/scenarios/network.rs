//! Real connections over a bad network: delay, loss, reordering, narrow links, addresses that
//! change under a session, and cuts at any byte.
//!
//! The network is a relay of datagrams on this machine. A seed replays its choices, though not the
//! scheduler's.
//!
//! ```text
//! LARDER_ENTRIES=100000 LARDER_CUTS=100 \
//!     cargo test --release -p larder --test scenarios -- --ignored cut_many_times --nocapture
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::{Band, ErrorKind, Event, NewBlob, Options, PeerReport, TransportId, UnitOfWork};
use larder_protocol::pairing::Invitation as Offer;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::common::{Device, digests_equal, event, household, kind, new_profile, soon};

/// What a network does to each datagram, in either direction.
#[derive(Debug, Clone, Copy)]
struct Weather {
    delay: Duration,
    /// Up to so much more, which puts datagrams out of order.
    jitter: Duration,
    lost_of_1000: u64,
    bytes_per_second: Option<u64>,
}

const FINE: Weather = Weather {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    lost_of_1000: 0,
    bytes_per_second: None,
};
/// Datagrams that wait longer for a narrow link are dropped, as routers do.
const QUEUE_MAX: Duration = Duration::from_millis(300);

/// `SplitMix64` (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

/// What came of the datagrams.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    datagrams: u64,
    lost: u64,
    overtaken: u64,
    /// Bytes passed on to the client.
    to_client: u64,
    /// Datagrams that the server sent to the client's present address.
    at_this_address: u64,
}

/// Passes datagrams between one client and one server.
struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    target: SocketAddr,
}

struct Shared {
    front: Arc<UdpSocket>,
    back: Mutex<Arc<UdpSocket>>,
    client: Mutex<Option<SocketAddr>>,
    weather: Weather,
    random: Mutex<Random>,
    /// When each direction is free again, and when its latest datagram arrives.
    ways: [Mutex<(Instant, Instant)>; 2],
    tally: watch::Sender<Tally>,
    /// Every datagram, if they are kept.
    seen: Option<Mutex<Vec<Vec<u8>>>>,
}

#[derive(Clone, Copy)]
enum Way {
    ToServer = 0,
    ToClient = 1,
}

impl Shared {
    /// When a datagram arrives, unless it is lost.
    fn fate(&self, way: Way, length: usize) -> Option<Instant> {
        let Weather { delay, jitter, lost_of_1000, bytes_per_second } = self.weather;
        let mut random = self.random.lock().unwrap();
        let is_lost = random.below(1000) < lost_of_1000;
        let more = random.below(u64::try_from(jitter.as_micros()).unwrap() + 1);
        drop(random);
        let now = Instant::now();
        let mut times = self.ways[way as usize].lock().unwrap();
        let begin = times.0.max(now);
        if is_lost || begin > now + QUEUE_MAX {
            self.tally.send_modify(|tally| tally.lost += 1);
            return None;
        }
        if let Some(rate) = bytes_per_second {
            times.0 = begin + Duration::from_micros(length as u64 * 1_000_000 / rate);
        }
        let at = begin + delay + Duration::from_micros(more);
        let is_overtaking = at < times.1;
        times.1 = times.1.max(at);
        drop(times);
        self.tally.send_modify(|tally| {
            tally.datagrams += 1;
            tally.overtaken += u64::from(is_overtaking);
        });
        Some(at)
    }

    fn carry(self: &Arc<Self>, way: Way, datagram: Vec<u8>) {
        if let Some(seen) = &self.seen {
            seen.lock().unwrap().push(datagram.clone());
        }
        let Some(at) = self.fate(way, datagram.len()) else { return };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            // Whoever is gone does not read it.
            match way {
                Way::ToServer => {
                    let back = Arc::clone(&*shared.back.lock().unwrap());
                    let _ = back.send(&datagram).await;
                }
                Way::ToClient => {
                    let Some(client) = *shared.client.lock().unwrap() else { return };
                    let _ = shared.front.send_to(&datagram, client).await;
                    let length = datagram.len() as u64;
                    shared.tally.send_modify(|tally| {
                        tally.to_client += length;
                        tally.at_this_address += 1;
                    });
                }
            }
        });
    }
}

async fn facing(target: SocketAddr) -> Arc<UdpSocket> {
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    back.connect(target).await.unwrap();
    Arc::new(back)
}

impl Wire {
    async fn to(target: SocketAddr, weather: Weather, seed: u64) -> Self {
        Self::made(target, weather, seed, false).await
    }

    /// One that keeps what it passes on.
    async fn recording(target: SocketAddr) -> Self {
        Self::made(target, FINE, 0, true).await
    }

    /// How many of the datagrams so far hold these bytes.
    fn shows(&self, needle: &[u8]) -> usize {
        let seen = self.shared.seen.as_ref().unwrap().lock().unwrap();
        let holds = |datagram: &&Vec<u8>| datagram.windows(needle.len()).any(|it| it == needle);
        seen.iter().filter(holds).count()
    }

    async fn made(target: SocketAddr, weather: Weather, seed: u64, keeps: bool) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let back = facing(target).await;
        let start = || Mutex::new((Instant::now(), Instant::now()));
        let shared = Arc::new(Shared {
            front,
            back: Mutex::new(Arc::clone(&back)),
            client: Mutex::default(),
            weather,
            random: Mutex::new(Random(seed)),
            ways: [start(), start()],
            tally: watch::Sender::default(),
            seen: keeps.then(Mutex::default),
        });
        let wire = Self { address, shared, tasks: Mutex::default(), target };
        let inward = Arc::clone(&wire.shared);
        let task = tokio::spawn(async move {
            let mut datagram = vec![0; 65536];
            loop {
                let (length, from) = inward.front.recv_from(&mut datagram).await.unwrap();
                *inward.client.lock().unwrap() = Some(from);
                inward.carry(Way::ToServer, datagram[..length].to_vec());
            }
        });
        wire.tasks.lock().unwrap().extend([task, wire.listen(back)]);
        wire
    }

    fn listen(&self, back: Arc<UdpSocket>) -> JoinHandle<()> {
        let outward = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut datagram = vec![0; 65536];
            loop {
                let Ok(length) = back.recv(&mut datagram).await else { continue };
                outward.carry(Way::ToClient, datagram[..length].to_vec());
            }
        })
    }

    /// From now on the server sees the client at another address, and the one before is dead: as
    /// when a phone walks from Wi-Fi to a mobile network, or a router forgets.
    async fn move_client(&self) {
        let back = facing(self.target).await;
        *self.shared.back.lock().unwrap() = Arc::clone(&back);
        let mut tasks = self.tasks.lock().unwrap();
        tasks.pop().unwrap().abort();
        tasks.push(self.listen(back));
        drop(tasks);
        self.shared.tally.send_modify(|tally| tally.at_this_address = 0);
    }

    fn tally(&self) -> Tally {
        *self.shared.tally.borrow()
    }

    /// Resolves once so many bytes have reached the client.
    async fn passed(&self, bytes: u64) {
        let mut tally = self.shared.tally.subscribe();
        tally.wait_for(|tally| tally.to_client >= bytes).await.unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

/// Text that does not compress away.
fn text(random: &mut Random, bytes: usize) -> String {
    let words: Vec<_> = (0..bytes / 8).map(|_| format!("{:08x}", random.below(1 << 32))).collect();
    words.concat()
}

/// So many entries, each of one document of so many bytes. Few share a transaction, which is what a
/// sync carries whole or not at all.
async fn fill(device: &Device, entries: usize, bytes: usize, seed: u64) {
    let mut random = Random(seed);
    let mut tasks = JoinSet::new();
    for _ in 0..entries {
        if tasks.len() >= 16 {
            tasks.join_next().await.unwrap().unwrap();
        }
        let (space, body) = (device.space.clone(), text(&mut random, bytes));
        tasks.spawn(async move {
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
async fn delay_loss_and_disorder_cost_time_alone() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    fill(&ana, 150, 4000, 1).await;
    fill(&ben, 50, 4000, 2).await;
    let weather = Weather {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(20),
        lost_of_1000: 50,
        ..FINE
    };
    let wire = Wire::to(ana.address().await, weather, 7).await;
    let reports = soon("the sync", ben.profile.sync_with(wire.address)).await.unwrap();
    assert!(reports[0].caught_up, "{reports:?}");
    digests_equal(&[&ana, &ben]).await;
    let tally = wire.tally();
    assert!(tally.lost > 5 && tally.overtaken > 5, "the weather was fine: {tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_link_carries_a_large_sync_and_a_small_one_that_comes_in_between() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let weather =
        Weather { delay: Duration::from_millis(20), bytes_per_second: Some(1_000_000), ..FINE };
    fill(&ana, 200, 8000, 3).await;
    let wire = Wire::to(ana.address().await, weather, 8).await;
    let mut events = ana.profile.events();
    let syncing = ben.profile.clone();
    let address = wire.address;
    let syncing = tokio::spawn(async move { syncing.sync_with(address).await });
    event(&mut events, |event| matches!(event, Event::Sent { .. })).await;
    // Written while the link is full; it comes with what comes anyway, or after it.
    let late = ana.create(json!({ "late": true })).await;
    soon("the sync", syncing).await.unwrap().unwrap();
    ben.sync_with(&ana).await;
    assert!(ben.value(late).await.is_some());
    digests_equal(&[&ana, &ben]).await;
}

/// QUIC knows a connection by an id, not by an address (RFC 9000 §9).
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_when_the_address_changes() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let weather =
        Weather { delay: Duration::from_millis(10), bytes_per_second: Some(2_000_000), ..FINE };
    fill(&ana, 300, 8000, 4).await;
    let wire = Wire::to(ana.address().await, weather, 9).await;
    let mut events = ana.profile.events();
    let (profile, address) = (ben.profile.clone(), wire.address);
    let syncing = tokio::spawn(async move { profile.sync_with(address).await });
    for moved in 1..=3 {
        soon("half a megabyte", wire.passed(moved * 400_000)).await;
        wire.move_client().await;
    }
    let reports = soon("the sync", syncing).await.unwrap().unwrap();
    assert!(reports[0].caught_up, "{reports:?}");
    digests_equal(&[&ana, &ben]).await;
    assert!(wire.tally().at_this_address > 10, "the last address saw nothing");
    let connections = drained(&mut events, |event| matches!(event, Event::PeerConnected { .. }));
    assert_eq!(connections, 1, "the session was not the same one");
}

/// The inviter closed the connection as soon as its reply had arrived. What the joiner still said
/// then, which nobody needed, was lost with it, and whoever had been told that an invitation was
/// used was told that nobody had answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_reply_to_a_joiner_is_heard_whatever_comes_in_which_order() {
    let ana = Device::found("Ana").await;
    let weather =
        Weather { delay: Duration::from_millis(5), jitter: Duration::from_millis(60), ..FINE };
    let wire = Wire::to(ana.address().await, weather, 12).await;
    let through_wire = async || {
        let text = ana.profile.invite(&household()).await.unwrap().unattended().text;
        let mut offer: Offer = text.parse().unwrap();
        offer.addresses = vec![wire.address];
        offer.to_string()
    };
    let used = through_wire().await;
    let (_dir, ben) = new_profile("Ben").await;
    soon("joining", ben.join(&used)).await.unwrap();
    let (_dir, carol) = new_profile("Carol").await;
    for _ in 0..12 {
        assert_eq!(kind(soon("refusal", carol.join(&used)).await), ErrorKind::Invitation);
    }
    let known = ana.profile.status().await.unwrap().peers;
    assert_eq!(known.len(), 1, "who was refused is nobody to remember: {known:?}");
    for name in ["Carol", "Dora", "Elsa", "Fritz"] {
        let (_dir, other) = new_profile(name).await;
        soon("joining", other.join(&through_wire().await)).await.unwrap();
    }
    assert_eq!(ana.space.devices().await.unwrap().len(), 6);
    let tally = wire.tally();
    assert!(tally.overtaken > 5, "the weather was fine: {tally:?}");
}

/// Somebody in the same network records each datagram of two devices: pairing, a sync of documents
/// and a file in several bands, edits as they are made, and messages. No word, name or id of it is
/// there. The control: where a datagram carries the same words in the open, they are found.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_every_datagram_shows_no_word_of_what_was_written() {
    let ana = Device::found("zqanalabel").await;
    let wire = Wire::recording(ana.address().await).await;
    let text = ana.profile.invite(&household()).await.unwrap().unattended().text;
    let mut offer: Offer = text.parse().unwrap();
    offer.addresses = vec![wire.address];
    let ben = Device::join("zqbenlabel", Options::default(), &offer.to_string()).await;
    let put = async |band: Band, word: &str| {
        let mut unit = UnitOfWork::new();
        unit.band(band);
        unit.create("zqcollection", &json!({ "title": word, "body": word.repeat(40) })).unwrap();
        ana.space.commit(unit).await.unwrap();
    };
    for (band, word) in [(Band::Green, "zqgreenword"), (Band::Red, "zqredword")] {
        put(band, word).await;
    }
    put(Band::Black, "zqblackword").await;
    let content = (0..30_000).flat_map(|n| format!("zqphotoword {n} ").into_bytes());
    let content: Vec<u8> = content.collect();
    let about = NewBlob { media_type: "image/png".into(), name: Some("zqfile".into()), band: None };
    let reader = std::io::Cursor::new(content.clone());
    let photo = ana.space.add_blob(reader, about).await.unwrap().id;
    ana.create(json!({ "photo": { "$blob": photo.to_string() } })).await;
    soon("the sync", ben.profile.sync_with(wire.address)).await.unwrap();
    let photo = ben.space.blob(photo).await.unwrap();
    assert!(photo.write_to(Vec::new(), |_, _| {}).await.unwrap() == content);
    let mut events = ben.profile.events();
    let following = ben.profile.clone();
    let following = tokio::spawn(async move { following.follow().await });
    event(&mut events, |event| matches!(event, Event::CaughtUp { .. })).await;
    put(Band::Green, "zqliveword").await;
    ben.sees(|space| async move {
        let found = space.search(larder::Query::text("zqliveword")).await.unwrap();
        !found.is_empty()
    })
    .await;
    let mut messages = ben.space.messages();
    let received = async {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                message = messages.recv() => return message.unwrap(),
                // Until the session is live on both sides, a message may find nobody.
                _ = again.tick() => drop(ana.space.broadcast("zqmessage").await.unwrap()),
            }
        }
    };
    assert_eq!(soon("a message", received).await.body, b"zqmessage");
    following.abort();
    let black = ana.profile.space(&ana.space.name().companion().unwrap()).await.unwrap();
    let words = "zqgreenword zqredword zqblackword zqliveword zqphotoword zqmessage zqcollection \
                 zqfile zqanalabel zqbenlabel household";
    let mut needles: BTreeSet<Vec<u8>> =
        words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    for space in [&ana.space, &ben.space, &black] {
        needles.insert(space.id().as_bytes().to_vec());
        needles.insert(space.device().as_bytes().to_vec());
    }
    let tally = wire.tally();
    assert!(tally.datagrams > 300 && tally.to_client > 200_000, "all went through it: {tally:?}");
    for needle in &needles {
        assert_eq!(wire.shows(needle), 0, "{:?} is on the wire", String::from_utf8_lossy(needle));
    }
    // The same search finds each of them in datagrams that carry them in the open.
    let open = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for needle in &needles {
        let mut tally = wire.shared.tally.subscribe();
        open.send_to(&[b"in the open: ", &needle[..]].concat(), wire.address).await.unwrap();
        soon("it is found", tally.wait_for(|_| wire.shows(needle) == 1)).await.unwrap();
    }
}

fn drained(events: &mut broadcast::Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> usize {
    std::iter::from_fn(|| events.try_recv().ok()).filter(wanted).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_with_an_end_over_a_slow_link_goes_on_from_there() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ana.profile.listen(Some("127.0.0.1:0".parse().unwrap())).await.unwrap();
    fill(&ana, 300, 8000, 5).await;
    let weather =
        Weather { delay: Duration::from_millis(50), bytes_per_second: Some(1_000_000), ..FINE };
    // Ben knows Ana's own address, too, where she is no longer.
    let target = ana.address().await;
    let wire = Wire::to(target, weather, 10).await;
    let mut held = ben.space.status().await.unwrap().entries;
    let (profile, address) = (ben.profile.clone(), wire.address);
    let cut = tokio::spawn(async move { profile.sync_with(address).await });
    soon("a part", wire.passed(1_200_000)).await;
    cut.abort();
    let _ = cut.await;
    let mut passes = 0;
    loop {
        let deadline = std::time::Instant::now() + Duration::from_secs(1);
        let reports = soon("the end", ben.profile.sync_until(deadline)).await.unwrap();
        let now = ben.space.status().await.unwrap().entries;
        assert!(now >= held);
        held = now;
        passes += 1;
        if reports.iter().all(PeerReport::is_complete) {
            break;
        }
        assert!(passes < 60, "it does not come to an end");
    }
    digests_equal(&[&ana, &ben]).await;
}

/// What cutting a sync again and again came to.
#[derive(Debug, Default)]
struct Cuts {
    sessions: u64,
    /// Entries that one side sent, over all sessions.
    sent: u64,
    to_client: u64,
}

/// Entries by which the devices that send announce their keys meanwhile.
const KEYS: u64 = 6;

/// What a device holds of others. In its own log it names what came, every so many entries.
async fn of_others(device: &Device) -> u64 {
    let id = device.space.device();
    let mut own = 0;
    loop {
        let page = device.space.receipts(Some((id, own)), 1000).await.unwrap();
        let more = page.iter().filter(|receipt| receipt.device == id).count() as u64;
        if more == 0 {
            return device.space.status().await.unwrap().entries - own;
        }
        own += more;
    }
}

/// Cuts a sync at random bytes, so many times; each session must begin behind what is durable.
///
/// It was found by this: every session began with a batch of a megabyte, and one that was cut
/// before all of that had come left nothing, however often it was begun.
async fn cut_and_resume(entries: usize, body_bytes: usize, cuts: u64, seed: u64) {
    let ana = Device::found("Ana").await;
    let (ben, carol) = (ana.admit("Ben").await, ana.admit("Carol").await);
    fill(&ana, entries, body_bytes, seed).await;
    let all = ana.space.status().await.unwrap().entries;
    // What it costs in one go.
    let whole = carol.sync_with(&ana).await;
    let bytes = whole[0].bytes_in;

    let mut random = Random(seed);
    let mut events = ana.profile.events();
    let mut tally = Cuts::default();
    for cut in 0..cuts {
        let held = of_others(&ben).await;
        let wire = Wire::to(ana.address().await, FINE, seed + cut).await;
        let (profile, address) = (ben.profile.clone(), wire.address);
        let mut syncing = tokio::spawn(async move { profile.sync_with(address).await });
        // Behind the handshake: of a session that never began nobody hears that it ended.
        let point = 20_000 + random.below(2 * bytes / (cuts + 1));
        let is_over = soon("the cut", async {
            tokio::select! {
                () = wire.passed(point) => false,
                _ = &mut syncing => true,
            }
        });
        if !is_over.await {
            syncing.abort();
            let _ = syncing.await;
        }
        let sent = sent_until_lost(&mut events, ben.profile.transport_id()).await;
        let due = all - held + KEYS;
        assert!(sent <= due, "{sent} of {all} entries were sent to one who held {held}");
        tally.sessions += 1;
        tally.sent += sent;
        tally.to_client += wire.tally().to_client;
    }
    let held = of_others(&ben).await;
    let rest = ben.sync_with(&ana).await;
    let due = all - held + KEYS;
    assert!(rest[0].entries_in <= due, "{rest:?} to one who held {held} of {all}");
    // By bytes as well: in proportion to what was lacking, with room for the frames around it.
    let due = u128::from(bytes) * u128::from(all - held) / u128::from(all);
    assert!(u128::from(rest[0].bytes_in) <= due * 11 / 10 + 65_536, "{rest:?}, {due} bytes due");
    digests_equal(&[&ana, &ben]).await;
    // How much of what came was durable when it was cut is the machine's load to say.
    assert!(held > all / 50, "the cuts tested nothing: {held} of {all} before the last session");
    println!(
        "{cuts} cuts (seed {seed}): {all} entries of {bytes} bytes; before the last session {held} \
         were durable, after {} sessions that sent {} entries in {} bytes of datagrams; the last \
         took {} entries in {} bytes",
        tally.sessions, tally.sent, tally.to_client, rest[0].entries_in, rest[0].bytes_in
    );
}

/// Entries sent to a peer in one session, up to its end.
async fn sent_until_lost(events: &mut broadcast::Receiver<Event>, to: TransportId) -> u64 {
    let mut sent = 0;
    soon("the end of the session", async {
        loop {
            match events.recv().await.unwrap() {
                Event::Sent { peer, entries, .. } if peer == to => sent += entries,
                Event::PeerLost { peer, .. } if peer == to => return sent,
                _ => {}
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_cut_at_random_bytes_resumes_behind_what_is_durable() {
    Box::pin(cut_and_resume(800, 8000, 6, 11)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: see the head of this file"]
async fn a_large_sync_cut_many_times_resumes_behind_what_is_durable() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let entries = usize::try_from(number("LARDER_ENTRIES", 100_000)).unwrap();
    let (cuts, seed) = (number("LARDER_CUTS", 100), number("LARDER_SEED", 1));
    Box::pin(cut_and_resume(entries, 500, cuts, seed)).await;
}
