use std::collections::BTreeSet;

use larder_log::Batch;
use larder_log::ack::Ack;
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::Frontier;
use larder_log::message::SEALED_MESSAGE_BYTES_MAX;
use larder_protocol::{
    Acks, Config, Event, Fill, Frame, Frontiers, Lack, LogHead, Reply, Request, Run, Session,
    Supply, Want,
};
use larder_types::limits::{FRAME_BYTES_MAX, LOGS_MAX, MESSAGES_PER_SECOND_MAX, SECTIONS_MAX};
use larder_types::{CloseCode, DeviceId, EntryHash, EpochId, Hash, SpaceId, Timestamp};
use proptest::prelude::*;

use crate::world::{SPACE, Store, ack_key, make_batch, signing_key};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Device 1, whose store answers at once, and a peer, device 2, that says what it likes.
struct Victim {
    store: Store,
    session: Session,
    events: Vec<Event>,
    said: Vec<Frame>,
}

impl Victim {
    fn new() -> Self {
        let store = Store::new(1);
        let peer = signing_key(2).device_id();
        let session = Session::new(Config::new(store.me), SPACE, Some(peer), [7; 32]);
        let mut victim = Self { store, session, events: Vec::new(), said: Vec::new() };
        victim.pump();
        victim
    }

    fn opened() -> Self {
        let mut victim = Self::new();
        victim.hear(&frontiers(&[]));
        victim
    }

    fn hear(&mut self, frame: &Frame) -> &mut Self {
        self.hear_bytes(&frame.encode())
    }

    fn hear_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if self.session.wants_frame() {
            self.session.handle_frame(NOW, bytes);
        }
        self.pump();
        self
    }

    fn pump(&mut self) {
        while let Some(request) = self.session.poll_request() {
            let reply = self.store.answer(request);
            self.session.handle_reply(NOW, reply);
        }
        while let Some(frame) = self.session.poll_transmit() {
            assert!(frame.len() <= FRAME_BYTES_MAX);
            self.said.push(Frame::decode(&frame, &SPACE).unwrap());
        }
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }

    /// The code the victim closed with, which the peer was told and which the app was told.
    fn closed(&self) -> Option<CloseCode> {
        let event = self.events.iter().find_map(|event| match event {
            Event::Closed { code, by_peer: false, .. } => Some(*code),
            _ => None,
        });
        let last = match self.said.last() {
            Some(Frame::Close { code, .. }) => Some(*code),
            _ => None,
        };
        assert_eq!(event, last);
        event
    }
}

// A peer held back bytes, so that there was something to ask the next one for. Storage had looked
// at that one's frontiers before it had read this device's own, and the question went out before
// them: the other device closed the session.
#[test]
fn nothing_is_asked_for_before_the_frontiers_are_sent() {
    let mut store = Store::new(1);
    let peer = signing_key(2).device_id();
    let mut session = Session::new(Config::new(store.me), SPACE, Some(peer), [7; 32]);
    let own = session.poll_request().unwrap();
    assert_eq!(own, Request::ReadFrontiers);
    session.handle_frame(NOW, &frontiers(&[]).encode());
    let run = Run { device: peer, first: 1, last: 1 };
    let want = Want { sections: vec![run], ..Want::default() };
    let mut answer = |session: &mut Session, request| {
        let reply = match request {
            Request::ReadWants { .. } => {
                Reply::Wanted { want: Some(Box::new(want.clone())), next: None }
            }
            request => store.answer(request),
        };
        session.handle_reply(NOW, reply);
    };
    // What was asked last is answered first.
    while let Some(request) = session.poll_request() {
        answer(&mut session, request);
    }
    answer(&mut session, own);
    while let Some(request) = session.poll_request() {
        answer(&mut session, request);
    }
    let said: Vec<Frame> = std::iter::from_fn(|| session.poll_transmit())
        .map(|frame| Frame::decode(&frame, &SPACE).unwrap())
        .collect();
    assert!(matches!(said[0], Frame::Frontiers(_)), "{said:?}");
    assert!(said.contains(&Frame::Want(want)), "{said:?}");
}

// Wants were the first 256 that there were: if nobody had those, the others were never asked for.
#[test]
fn what_the_peer_has_not_holds_up_nothing_behind_it() {
    let mut left = BTreeSet::from([1, 3]);
    // Of the second page nothing is lacking, and the peer has the third.
    let asked = asked_for(&mut left, 1, |seq| (seq == 3).then_some(seq));
    // Once something has come there may be more to ask for, so the walk begins again.
    assert_eq!(asked, [1, 3, 1]);
    assert_eq!(left, BTreeSet::from([1]));
}

// An answer ends where it is full. If nothing in it was of use, the page was taken to be done with,
// and what the answer had no room for was not asked for again.
#[test]
fn an_answer_that_is_of_no_use_holds_up_nothing_behind_it() {
    let mut left: BTreeSet<u64> = (1..=8).collect();
    // Of a page of four it sends one entry. The even ones it can only send in vain.
    let asked = asked_for(&mut left, 4, |seq| Some(if seq == 6 { 7 } else { seq }));
    // What was skipped in the order was looked for as well.
    assert_eq!(asked[..7], [1, 2, 3, 4, 5, 6, 8], "{asked:?}");
    assert_eq!(left, BTreeSet::from([2, 4, 6, 8]));
}

/// What a session asks for, by the first entry of each question, while storage has pages of `each`
/// entries, of which those `left` are lacking. The peer answers with one; only odd ones are of use.
fn asked_for(
    left: &mut BTreeSet<u64>,
    each: u64,
    mut has: impl FnMut(u64) -> Option<u64>,
) -> Vec<u64> {
    let mut store = Store::new(1);
    let peer = signing_key(2).device_id();
    let mut session = Session::new(Config::new(store.me), SPACE, Some(peer), [7; 32]);
    session.handle_frame(NOW, &frontiers(&[]).encode());
    let mut asked = Vec::new();
    loop {
        while let Some(request) = session.poll_request() {
            let reply = match request {
                Request::ReadWants { from: Lack::Sections(after) } => {
                    let run = |seq: &u64| Run { device: peer, first: *seq, last: *seq };
                    let next = after + each;
                    let sections = left.range(after + 1..=next).map(run).collect();
                    Reply::Wanted {
                        want: Some(Box::new(Want { sections, ..Want::default() })),
                        next: (next < 8).then_some(Lack::Sections(next)),
                    }
                }
                Request::ReadWants { .. } => {
                    Reply::Wanted { want: None, next: Some(Lack::Sections(0)) }
                }
                Request::TakeSupply { supply } => {
                    let useful = |fill: &&Fill| fill.seq % 2 == 1 && left.remove(&fill.seq);
                    let progress = supply.sections.iter().filter(useful).count() > 0;
                    Reply::Supplied { progress, acks: Vec::new() }
                }
                request => store.answer(request),
            };
            session.handle_reply(NOW, reply);
        }
        let Some(frame) = session.poll_transmit() else { return asked };
        if let Frame::Want(want) = Frame::decode(&frame, &SPACE).unwrap() {
            let seq = want.sections[0].first;
            asked.push(seq);
            let fill = |seq| Fill {
                device: peer,
                seq,
                entry: EntryHash::new([0; 32]),
                payloads: Vec::new(),
            };
            let sections = has(seq).map(fill).into_iter().collect();
            let supply = Supply { sections, ..Supply::default() };
            session.handle_frame(NOW, &Frame::Supply(Box::new(supply)).encode());
        }
    }
}

// A peer took the question for what was lacking and never answered. It stayed connected and said
// this and that; the session was never caught up and never over, and who waited for it waited on.
#[test]
fn a_peer_that_never_answers_is_not_waited_for_without_end() {
    let mut store = Store::new(1);
    let peer = signing_key(2).device_id();
    let config = Config::new(store.me);
    let mut session = Session::new(config, SPACE, Some(peer), [7; 32]);
    let run = Run { device: peer, first: 1, last: 1 };
    session.handle_frame(NOW, &frontiers(&[]).encode());
    while let Some(request) = session.poll_request() {
        let reply = match request {
            Request::ReadWants { .. } => {
                let want = Want { sections: vec![run], ..Want::default() };
                Reply::Wanted { want: Some(Box::new(want)), next: None }
            }
            request => store.answer(request),
        };
        session.handle_reply(NOW, reply);
    }
    while session.poll_transmit().is_some() {}
    let at = |n: u64| Timestamp(NOW.0 + n * config.supply_ms_max);
    assert_eq!(session.poll_timeout(), Some(at(1)));
    // Its batches and what comes of an answer in pieces show that it is at work.
    session.handle_frame(NOW, &Frame::Batch(Box::new(batches()[0].clone())).encode());
    session.handle_timeout(at(1));
    assert_eq!(session.poll_timeout(), Some(at(2)));
    session.handle_arriving();
    session.handle_timeout(at(2));
    assert_eq!(session.poll_timeout(), Some(at(3)));
    // Talk does not.
    session.handle_frame(at(2), &Frame::Message(vec![1; 100]).encode());
    session.handle_frame(at(2), &Frame::CaughtUp.encode());
    session.handle_timeout(at(3));
    let events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
    let Some(Event::Closed { code, by_peer: false, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(*code, CloseCode::TimedOut);
}

fn frontiers(logs: &[LogHead]) -> Frame {
    let epochs_held = Vec::new();
    Frame::Frontiers(Frontiers { space: SPACE, logs: logs.to_vec(), epochs_held, forks: vec![] })
}

fn head(number: u8, size: u64) -> LogHead {
    let (device, root) = (signing_key(number).device_id(), Hash::new([1; 32]));
    let checkpoint = Checkpoint { space: SPACE, device, size, root };
    LogHead { device, size, root, signature: checkpoint.sign(&signing_key(number)) }
}

/// Two batches of device 2, one after the other.
fn batches() -> [Batch; 2] {
    let first = make_batch(2, &Frontier::default(), 2, 30);
    let after = first.verify(&SPACE, &Frontier::default()).unwrap().after;
    [first, make_batch(2, &after, 1, 30)]
}

fn batch(batch: &Batch) -> Frame {
    Frame::Batch(Box::new(batch.clone()))
}

fn ack(space: SpaceId, size: u64) -> Ack {
    let device = signing_key(3).device_id();
    let checkpoint = Checkpoint { space, device, size, root: Hash::new([1; 32]) };
    Ack::sign(&checkpoint, signing_key(2).device_id(), &ack_key(2), 1)
}

fn acks(handled: u64, acks: &[Ack]) -> Frame {
    Frame::Acks(Acks { handled, acks: acks.to_vec() })
}

#[test]
fn an_honest_peer_is_not_closed() {
    let [first, second] = batches();
    let mut victim = Victim::opened();
    victim.hear(&batch(&first)).hear(&batch(&second)).hear(&Frame::CaughtUp);
    victim.hear(&acks(0, &[ack(SPACE, 3)])).hear(&acks(0, &[ack(SPACE, 3), ack(SPACE, 4)]));
    assert_eq!(victim.closed(), None);
    assert_eq!(victim.store.sizes()[&first.device], 3);
    // Twice the same is of no harm, and storage sees that it is the same.
    victim.hear(&batch(&first)).hear(&batch(&second));
    assert_eq!(victim.closed(), None);
    assert_eq!((victim.store.applied.len(), victim.store.repeated), (2, 2));
    assert!(matches!(victim.said.last(), Some(Frame::Acks(Acks { handled: 4, .. }))));
    victim.hear(&Frame::Close { code: CloseCode::Done, message: String::new() });
    let closed = Event::Closed { code: CloseCode::Done, message: String::new(), by_peer: true };
    assert_eq!(victim.events.last(), Some(&closed));
}

#[test]
fn what_no_honest_peer_says_ends_the_session_with_a_named_code() {
    let [first, second] = batches();
    let changed = |change: &dyn Fn(&mut Batch)| {
        let mut changed = first.clone();
        change(&mut changed);
        batch(&changed)
    };
    let device = |n: usize| DeviceId::new(std::array::from_fn(|i| (n >> (8 * (i % 2))) as u8));
    let blank = LogHead { size: 1, ..head(2, 1) };
    let cases: &[(&str, CloseCode, Vec<Frame>)] = &[
        ("a gap", CloseCode::Gap, vec![batch(&second)]),
        ("far ahead", CloseCode::Gap, vec![changed(&|b| b.first_seq = u64::MAX - 5)]),
        ("beyond numbers", CloseCode::Malformed, vec![changed(&|b| b.first_seq = u64::MAX)]),
        ("before the first", CloseCode::Malformed, vec![changed(&|b| b.first_seq = 0)]),
        ("no entries", CloseCode::Malformed, vec![changed(&|b| b.entries.clear())]),
        ("a wrong signature", CloseCode::BadBatch, vec![changed(&|b| b.signature[0] ^= 1)]),
        ("another's name", CloseCode::BadBatch, vec![changed(&|b| b.device = device(9))]),
        ("frontiers again", CloseCode::Unexpected, vec![frontiers(&[])]),
        ("caught up again", CloseCode::Unexpected, vec![Frame::CaughtUp, Frame::CaughtUp]),
        ("progress without cause", CloseCode::Unexpected, vec![acks(1, &[])]),
        (
            "an ack taken back",
            CloseCode::BadAck,
            vec![acks(0, &[ack(SPACE, 4)]), acks(0, &[ack(SPACE, 3)])],
        ),
        ("another space's ack", CloseCode::BadAck, vec![acks(0, &[ack(SpaceId::new([1; 32]), 4)])]),
        ("too many acks", CloseCode::LimitExceeded, vec![acks(0, &vec![ack(SPACE, 1); 1025])]),
    ];
    for (name, code, frames) in cases {
        let mut victim = Victim::opened();
        for frame in frames {
            victim.hear(frame);
        }
        assert_eq!(victim.closed(), Some(*code), "{name}");
        assert_eq!(victim.store.applied.len(), 0, "{name}");
        // And nothing wakes it again.
        let said = victim.said.len();
        victim.hear(&batch(&first));
        victim.session.handle_local_commit(NOW);
        victim.session.handle_timeout(Timestamp(u64::MAX));
        victim.pump();
        assert_eq!(victim.said.len(), said, "{name}");
    }

    let frontiers_of = |space, logs: Vec<LogHead>, epochs| {
        let epochs_held = vec![EpochId::new([1; 32]); epochs];
        Frame::Frontiers(Frontiers { space, logs, epochs_held, forks: vec![] })
    };
    let mut two = [head(2, 1), head(3, 1)];
    two.sort_by_key(|head| std::cmp::Reverse(head.device));
    let many: Vec<_> =
        (0..=LOGS_MAX).map(|n| LogHead { device: device(n), ..blank.clone() }).collect();
    let mut many = many;
    many.sort_by_key(|head| head.device);
    for (name, code, opening) in [
        ("a batch first", CloseCode::Unexpected, batch(&first)),
        ("caught up first", CloseCode::Unexpected, Frame::CaughtUp),
        ("another space", CloseCode::NotShared, frontiers_of(SpaceId::new([1; 32]), vec![], 0)),
        ("out of order", CloseCode::Malformed, frontiers_of(SPACE, two.to_vec(), 0)),
        ("too many logs", CloseCode::LimitExceeded, frontiers_of(SPACE, many, 0)),
        ("too many epochs", CloseCode::LimitExceeded, frontiers_of(SPACE, vec![], 4097)),
        ("an unsigned head", CloseCode::BadBatch, {
            frontiers_of(SPACE, vec![LogHead { size: 5, ..head(2, 1) }], 0)
        }),
    ] {
        let mut victim = Victim::new();
        victim.hear(&opening);
        assert_eq!(victim.closed(), Some(code), "{name}");
    }
}

#[test]
fn bytes_that_are_no_frame_end_the_session() {
    for (bytes, code) in [
        (&[][..], CloseCode::Malformed),
        (&[0][..], CloseCode::Unexpected),
        (&[99, 1, 2][..], CloseCode::Unexpected),
        (&[1][..], CloseCode::Malformed),
        (&[4, 0][..], CloseCode::Malformed),
        (&[2, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], CloseCode::Malformed),
        (&vec![1; FRAME_BYTES_MAX + 1][..], CloseCode::LimitExceeded),
    ] {
        let mut victim = Victim::opened();
        victim.hear_bytes(bytes);
        assert_eq!(victim.closed(), Some(code), "{:?}", &bytes[..bytes.len().min(10)]);
    }
}

#[test]
fn a_batch_that_would_swell_in_memory_is_refused_before_it_is_read() {
    let [first, _] = batches();
    let encoded = batch(&first).encode();
    let mut wide = first.clone();
    let entry = &mut wide.entries[0];
    let missing = larder_log::Payload::Missing;
    entry.commitments = vec![entry.commitments[0].clone(); SECTIONS_MAX + 1];
    entry.payloads = vec![missing; SECTIONS_MAX + 1];
    let mut many = first.clone();
    many.entries = vec![many.entries[0].clone(); 5000];
    for hostile in [wide, many] {
        let mut victim = Victim::opened();
        victim.hear(&batch(&hostile));
        assert_eq!(victim.closed(), Some(CloseCode::LimitExceeded));
    }
    assert!(Frame::decode(&encoded, &SPACE).is_ok());
}

#[test]
fn logs_without_end_are_refused() {
    let mut victim = Victim::opened();
    let [template, _] = batches();
    // None of them is taken, so that only the session counts them.
    for n in 0..=LOGS_MAX {
        let device = DeviceId::new(std::array::from_fn(|i| (n >> (8 * (i % 2))) as u8));
        victim.store.refuses.insert(device);
        victim.hear(&batch(&Batch { device, ..template.clone() }));
    }
    assert_eq!(victim.closed(), Some(CloseCode::LimitExceeded));
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let [first, second] = batches();
    let honest = vec![
        frontiers(&[head(2, 3)]).encode(),
        batch(&first).encode(),
        batch(&second).encode(),
        acks(0, &[ack(SPACE, 3)]).encode(),
        Frame::CaughtUp.encode(),
        Frame::Close { code: CloseCode::Done, message: "bye".to_owned() }.encode(),
    ];
    let changed = (prop::sample::select(honest.clone()), any::<prop::sample::Index>(), any::<u8>())
        .prop_map(|(mut frame, at, byte)| {
            let at = at.index(frame.len());
            frame[at] = byte;
            frame
        });
    let noise =
        (0..7_u8, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, mut rest)| {
            rest.insert(0, kind);
            rest
        });
    prop_oneof![3 => prop::sample::select(honest), 2 => changed, 1 => noise]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_peer_that_says_anything_at_all_is_survived(
        said in prop::collection::vec(frames(), 0..12),
    ) {
        let mut victim = Victim::new();
        for frame in said {
            victim.hear_bytes(&frame);
        }
        // Only what verifies was stored, and answers stay in proportion.
        prop_assert!(victim.store.applied.len() <= 2);
        prop_assert!(victim.said.len() <= 20);
        let closes = victim.events.iter().filter(|e| matches!(e, Event::Closed { .. })).count();
        prop_assert!(closes <= 1);
        prop_assert_eq!(closes == 1, victim.session.is_closed());
    }

    #[test]
    fn decoding_undoes_encoding(frame in frames()) {
        if let Ok(decoded) = Frame::decode(&frame, &SPACE) {
            prop_assert_eq!(decoded.encode(), frame);
        }
    }
}

#[test]
fn messages_are_bounded_in_length_and_number_and_come_from_enrolled_devices_alone() {
    let message = Frame::Message(vec![7; 100]);
    let heard = |victim: &Victim| {
        victim.events.iter().filter(|event| matches!(event, Event::Message(_))).count()
    };
    let mut victim = Victim::opened();
    for _ in 0..1000 {
        victim.hear(&message);
    }
    assert_eq!(heard(&victim) as u64, MESSAGES_PER_SECOND_MAX);
    assert_eq!(victim.closed(), None, "what was gathered on the way is no offence");

    let mut victim = Victim::opened();
    victim.hear(&Frame::Message(vec![7; SEALED_MESSAGE_BYTES_MAX + 1]));
    assert_eq!(victim.closed(), Some(CloseCode::LimitExceeded));
    let mut victim = Victim::new();
    victim.hear(&message);
    assert_eq!(victim.closed(), Some(CloseCode::Unexpected), "before the frontiers");

    let mut victim = Victim::new();
    victim.session = Session::new(Config::new(victim.store.me), SPACE, None, [7; 32]);
    victim.pump();
    victim.hear(&frontiers(&[])).hear(&message);
    assert_eq!((heard(&victim), victim.closed()), (0, None), "a stranger is not listened to");
    victim.said.clear();
    victim.session.handle_message(NOW, vec![7; 100]);
    victim.pump();
    assert_eq!(victim.said, [], "nor spoken to");
}
