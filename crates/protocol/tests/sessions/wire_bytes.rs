//! What goes over the wire, by the frames that are really sent: how many bytes beside what people
//! wrote, and how often who speaks has to wait for an answer.
//!
//! Counted is all of a connection's streams behind the handshake: each frame with the four bytes
//! of its length. QUIC's own is not.

use larder_crypto::Secret;
use larder_crypto::hash::sha256;
use larder_log::checkpoint::Checkpoint;
use larder_log::epoch::ControlSecret;
use larder_log::merkle::Frontier;
use larder_log::{Address, Band, Batch, Class, EntryBuilder, Metadata, Opened, kind, seal_section};
use larder_protocol::{
    BlobEvent, BlobReply, BlobRequest, BlobSession, Frame, Greeting, Keeps, Offered, Opens, Side,
    Tag, agree, held_digest,
};
use larder_types::{Clock, CloseCode, Entropy, EpochId, ObjectId, Timestamp};
use proptest::prelude::*;

use crate::world::{End, SPACE, Step, World, signing_key};

const BRIEF: [Opens; 2] = [Opens::Brief, Opens::Second];
const WHOLE: [Opens; 2] = [Opens::Whole, Opens::Second];

/// Bytes that do not compress.
struct Noise(u64);

impl Entropy for Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            self.0 += 1;
            let noise = sha256(&[&self.0.to_be_bytes()]);
            part.copy_from_slice(&noise.as_bytes()[..part.len()]);
        }
    }
}

/// Records as an app writes them, each an entry of its own, with bodies that do not compress.
fn records(count: u64, body_bytes: usize) -> Batch {
    let key = signing_key(1);
    let (device, epoch) = (key.device_id(), EpochId::new([1; 32]));
    let (mut noise, mut after, mut entries) = (Noise(body_bytes as u64), Frontier::new(), vec![]);
    for seq in 1000..1000 + count {
        let (mut meta_salt, mut object, mut body) = ([0; 16], [0; 16], vec![0; body_bytes]);
        noise.fill(&mut meta_salt);
        noise.fill(&mut object);
        noise.fill(&mut body);
        let metadata = Metadata {
            kind: kind::DOCUMENT_CREATE,
            collection: Some("records".parse().unwrap()),
            object: Some(ObjectId::new(object)),
            generation: None,
            actor: None,
            correlation: None,
            clock: Clock { wall: Timestamp(1_700_000_000_000 + seq), count: 1 },
            personal: None,
        };
        let opened = Opened { meta_salt, metadata, body };
        let band = Band::Green;
        let address = Address { space: SPACE, device, seq, index: 0, epoch, step: 0, band };
        let control = ControlSecret::new(Secret::new([8; 32]));
        let secret = Secret::new([7; 32]);
        let section =
            seal_section(&mut noise, &address, &secret, Class::Data, &control, &opened).unwrap();
        let mut builder = EntryBuilder::new(SPACE, device, seq, epoch, 0);
        builder.push(section.0, section.1);
        let entry = builder.finish().unwrap();
        after.append(entry.hash.into(), &mut |_| {});
        entries.push(entry.into());
    }
    let checkpoint = Checkpoint { space: SPACE, device, size: after.size(), root: after.root() };
    Batch { device, first_seq: 1000, entries, signature: checkpoint.sign(&key) }
}

fn framed(batch: Batch) -> usize {
    4 + Frame::Batch(Box::new(batch)).encode().len()
}

#[test]
fn an_entry_of_one_section_takes_at_most_250_bytes_beside_its_body() {
    let (mut most, mut lone) = (0, 0);
    // Padding depends on the length.
    for body in (440..=560).step_by(5) {
        most = most.max(framed(records(256, body)) / 256 - body);
        lone = lone.max(framed(records(1, body)) - body);
    }
    println!("500 B: {most} B beside the body in a batch of 256, {lone} B in one of its own");
    assert!(most <= 250 && lone <= 360);
    let ratio = |body: usize| framed(records(64, body)) as f64 / (64 * body) as f64;
    let worst = (3900..=4300).step_by(20).map(ratio).fold(0.0, f64::max);
    println!("4 KB: {worst:.3} of the body");
    assert!(worst <= 1.12);
}

/// Both sides of a blob stream of which nobody wants anything.
fn blob_bytes() -> usize {
    let mut sides = [BlobSession::new(), BlobSession::new()];
    let mut bytes = 0;
    sides.iter_mut().for_each(BlobSession::handle_settled);
    loop {
        let mut any = false;
        for side in [0, 1] {
            while let Some(request) = sides[side].poll_request() {
                sides[side].handle_reply(match request {
                    BlobRequest::ReadKept { .. } => {
                        BlobReply::Kept { keeps: Keeps::default(), next: None }
                    }
                    _ => BlobReply::Wanted { chunks: Vec::new(), next: None },
                });
            }
            while let Some(frame) = sides[side].poll_transmit() {
                bytes += 4 + frame.len();
                sides[1 - side].handle_frame(&frame);
                any = true;
            }
            while let Some(event) = sides[side].poll_event() {
                if event == BlobEvent::Idle {
                    sides[side].close(CloseCode::Done, "");
                    any = true;
                }
            }
        }
        if !any {
            assert!(sides.iter().all(BlobSession::is_closed));
            return bytes;
        }
    }
}

/// What both sides say before their session, and what the connector opens it with.
fn greet(world: &World, a: usize, b: usize) -> (usize, Opens) {
    let offered = |store: usize| {
        let store = &world.stores[store];
        let acks: Vec<_> = store.acks.values().cloned().collect();
        let held = held_digest(&store.heads(), &acks);
        [Offered { space: SPACE, discovery: Secret::new([6; 32]), held }]
    };
    let exporter = [9; 32];
    let say = |side, store| {
        Greeting::new(&mut Noise(store as u64), &exporter, side, &offered(store)).unwrap().encode()
    };
    let (first, second) = (say(Side::Acceptor, b), say(Side::Connector, a));
    let heard = Greeting::decode(&first).unwrap();
    let agreement = agree(&heard, &exporter, Side::Connector, &offered(a)).unwrap();
    let tag: &Tag = &agreement.spaces[0].1;
    // And each space's two streams begin with its tag.
    let tags = (4 + tag.as_bytes().len()) + (4 + tag.as_bytes().len() + 1);
    let opens = if agreement.same.is_empty() { Opens::Whole } else { Opens::Brief };
    (4 + first.len() + 4 + second.len() + tags, opens)
}

/// One pass over a connection between two devices, and the bytes of it.
fn one_pass(world: &mut World, a: usize, b: usize) -> (usize, Opens) {
    let (greeting, opens) = greet(world, a, b);
    let before = world.wire_bytes;
    let link = world.connect_as(a, b, [opens, Opens::Second]);
    world.finish();
    assert!(world.links[link].iter().all(End::caught_up));
    for end in &mut world.links[link] {
        end.session.close(CloseCode::Done, "");
    }
    world.finish();
    world.links.remove(link);
    (greeting + world.wire_bytes - before + blob_bytes(), opens)
}

#[test]
fn eight_devices_that_are_in_sync_find_it_out_in_400_bytes() {
    let mut world = World::new(8, &[]);
    for store in 0..8 {
        world.commit(store, 3, 100);
    }
    let mut last = 0;
    // Until entries, and then what everybody says of them, are everywhere.
    for _ in 0..3 {
        for a in 0..8 {
            for b in 0..a {
                last = one_pass(&mut world, a, b).0;
            }
        }
    }
    world.assert_converged();
    println!("{last} B");
    for (a, b) in [(0, 1), (7, 3), (2, 6)] {
        let (bytes, opens) = one_pass(&mut world, a, b);
        assert_eq!((opens, bytes <= 400), (Opens::Brief, true), "{bytes} bytes");
    }
    // Something new, and all is said again.
    world.commit(3, 1, 10);
    assert_eq!(one_pass(&mut world, 3, 0).1, Opens::Whole);
    world.assert_converged_between(3, 0);
}

/// How many times the direction turns until the first entry arrives, the connector speaking first.
fn turns_to_first_entry(world: &mut World, link: usize) -> usize {
    for turn in 1..20 {
        let side = 1 - turn % 2;
        // All that this side can say without hearing more.
        while [Step::Deliver, Step::Answer].iter().any(|step| world.step(link, side, *step)) {}
        while world.step(link, side, Step::Transmit)
            || world.step(link, side, Step::Answer)
            || world.step(link, side, Step::Deliver)
        {}
        let carries = |frame: &Vec<u8>| matches!(Frame::decode(frame, &SPACE), Ok(Frame::Batch(_)));
        if world.links[link][1 - side].inbox.iter().any(carries) {
            return turn;
        }
    }
    panic!("no entry comes");
}

#[test]
fn the_first_entry_comes_one_round_trip_after_the_handshake() {
    for writer in [0, 1] {
        let mut world = World::new(2, &[]);
        world.commit(writer, 5, 100);
        // The acceptor's greeting comes with the end of the handshake; the connector's goes out
        // together with all that it opens with.
        let (_, opens) = greet(&world, 0, 1);
        assert_eq!(opens, Opens::Whole);
        let link = world.connect_as(0, 1, WHOLE);
        // One round trip, and on the connector's own way one half more.
        let turns = turns_to_first_entry(&mut world, link);
        assert_eq!(turns, if writer == 1 { 2 } else { 3 });
        world.finish();
        world.assert_converged();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever each side begins with, in whatever order things happen.
    #[test]
    fn however_sessions_begin_both_come_to_hold_the_same(
        opens in prop::sample::select(vec![
            BRIEF, WHOLE, [Opens::Whole; 2], [Opens::Brief; 2], [Opens::Brief, Opens::Whole],
        ]),
        are_same: bool,
        swapped: bool,
        steps in prop::collection::vec((0..2_usize, 0..3_usize), 0..60),
        commit_at in 0..60_usize,
    ) {
        let mut world = World::new(2, &[]);
        world.commit(0, 2, 50);
        world.commit(1, 1, 50);
        if are_same {
            for _ in 0..2 {
                world.connect(0, 1);
                world.finish();
                world.cut(0, true);
            }
        }
        let opens = if swapped { [opens[1], opens[0]] } else { opens };
        let link = world.connect_as(0, 1, opens);
        for (n, (side, step)) in steps.into_iter().enumerate() {
            if n == commit_at {
                world.commit(side, 1, 10);
            }
            world.step(link, side, [Step::Deliver, Step::Answer, Step::Transmit][step]);
        }
        world.finish();
        world.assert_converged();
        for end in &world.links[link] {
            prop_assert!(end.caught_up(), "{:?}", end.events);
            prop_assert_eq!(end.closed(), None);
        }
    }
}
