//! What one peer can make a session keep in memory, by the session's own account and measured.

use allocation_counter::measure;
use larder_log::merkle::Frontier;
use larder_log::{Payload, ack::Ack};
use larder_protocol::{
    Acks, Config, Fill, Frame, Frontiers, Position, Reply, Request, Run, Session, Supply, Want,
};
use larder_types::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, SESSION_BYTES_MAX};
use larder_types::{CloseCode, DeviceId, EntryHash, EpochId, Hash, Timestamp};

use crate::world::{SPACE, ack_key, make_batch, signing_key};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A session whose peer has said that it holds nothing, and has read nothing since.
struct Held {
    session: Session,
    /// What storage was asked and has not answered.
    requests: Vec<Request>,
}

impl Held {
    fn new() -> Self {
        let me = signing_key(1).device_id();
        let peer = signing_key(2).device_id();
        let mut session = Session::new(Config::new(me), SPACE, Some(peer), [7; 32]);
        let held = session.poll_request();
        assert_eq!(held, Some(Request::ReadFrontiers));
        session.handle_reply(
            NOW,
            Reply::Frontiers { logs: vec![], epochs_held: vec![], acks: vec![], forks: vec![] },
        );
        assert!(session.poll_transmit().is_some());
        let epochs_held = (0..100).map(|n| EpochId::new([n; 32])).collect();
        let frontiers = Frontiers { space: SPACE, logs: vec![], epochs_held, forks: vec![] };
        session.handle_frame(NOW, &Frame::Frontiers(frontiers).encode());
        session.handle_reply(NOW, Reply::Checked { forks: vec![] });
        let mut new = Self { session, requests: Vec::new() };
        new.poll();
        new
    }

    fn poll(&mut self) {
        self.requests.extend(std::iter::from_fn(|| self.session.poll_request()));
        while self.session.poll_event().is_some() {}
    }

    fn hear(&mut self, frame: &Frame) {
        self.session.handle_frame(NOW, &frame.encode());
        self.poll();
    }

    /// Storage reads for the peer, and finds this.
    fn read(&mut self, reply: Reply) {
        self.requests.retain(|request| match &reply {
            Reply::Batch { .. } => !matches!(request, Request::ReadBatch { .. }),
            _ => !matches!(request, Request::ReadSupply { .. }),
        });
        self.session.handle_reply(NOW, reply);
        self.poll();
    }

    fn want(&mut self) {
        let run = Run { device: signing_key(1).device_id(), first: 1, last: 9 };
        self.hear(&Frame::Want(Want { sections: vec![run], ..Want::default() }));
    }
}

fn supply(bytes: usize) -> Reply {
    let payloads = vec![Payload::Sealed(vec![1; bytes])];
    let device = signing_key(1).device_id();
    let fill = Fill { device, seq: 1, entry: EntryHash::new([0; 32]), payloads };
    Reply::Supply { supply: Box::new(Supply { sections: vec![fill], ..Supply::default() }) }
}

// An answer to what a peer wants was queued, and the next question taken at once: a peer that asked
// again and again and read nothing had a device keep one answer of up to 20 MiB for each.
#[test]
fn who_asks_again_without_reading_the_answer_is_not_answered() {
    let mut held = Held::new();
    for _ in 0..100 {
        held.want();
        if held.session.is_closed() {
            break;
        }
        held.read(supply(4 << 20));
    }
    assert!(held.session.is_closed());
    assert!(held.session.bytes_held() < 6 << 20, "{}", held.session.bytes_held());
    let said: Vec<Frame> = std::iter::from_fn(|| held.session.poll_transmit())
        .map(|frame| Frame::decode(&frame, &SPACE).unwrap())
        .collect();
    let last = said.last();
    assert!(matches!(last, Some(Frame::Close { code: CloseCode::Unexpected, .. })), "{last:?}");
}

#[test]
fn who_reads_the_answer_may_ask_again() {
    let mut held = Held::new();
    for _ in 0..3 {
        held.want();
        held.read(supply(1000));
        let said: Vec<_> = std::iter::from_fn(|| held.session.poll_transmit()).collect();
        assert!(matches!(Frame::decode(&said[0], &SPACE), Ok(Frame::Supply(_))));
    }
    assert!(!held.session.is_closed());
}

// Three bytes on the wire are a payload that is not there, and ten times as many in memory.
#[test]
fn a_supply_that_swells_in_memory_is_refused() {
    let mut held = Held::new();
    let run = Run { device: signing_key(2).device_id(), first: 1, last: 9000 };
    let want = Want { sections: vec![run], ..Want::default() };
    held.session.handle_reply(NOW, Reply::Batch { position: Position(0), batch: None });
    held.session.handle_reply(NOW, Reply::Wanted { want: Some(Box::new(want)), next: None });
    held.poll();
    while held.session.poll_transmit().is_some() {}
    let fill = |seq| {
        let payloads = vec![Payload::Missing; 4096];
        let device = signing_key(2).device_id();
        Fill { device, seq, entry: EntryHash::new([0; 32]), payloads }
    };
    let swollen = Supply { sections: (1..=400).map(fill).collect(), ..Supply::default() };
    let frame = Frame::Supply(Box::new(swollen)).encode();
    assert!(frame.len() < FRAME_BYTES_MAX);
    let during = measure(|| held.session.handle_frame(NOW, &frame));
    assert!(held.session.is_closed());
    assert!(during.bytes_current < 1 << 20, "{during:?}");
}

#[test]
fn what_a_session_says_to_keep_is_what_is_free_once_it_is_gone() {
    let mut held = Held::new();
    let empty = held.session.bytes_held();
    let mut after = Frontier::new();
    for _ in 0..3 {
        let batch = make_batch(2, &after, 700, 1000);
        after = batch.verify(&SPACE, &after).unwrap().after;
        held.hear(&Frame::Batch(Box::new(batch)));
    }
    assert!(!held.session.wants_frame(), "as much as it takes");
    let mut own = Frontier::new();
    for position in 1..=2 {
        let batch = make_batch(1, &own, 500, 1000);
        own = batch.verify(&SPACE, &own).unwrap().after;
        held.read(Reply::Batch { position: Position(position), batch: Some(Box::new(batch)) });
    }
    held.want();
    held.read(supply(1 << 20));
    let acks = |from: u64| {
        let acks = (from..from + 900).map(|n| {
            let mut device = [0; 32];
            device[..8].copy_from_slice(&n.to_le_bytes());
            let acker = signing_key(3).device_id();
            let (device, root) = (DeviceId::new(device), Hash::new([1; 32]));
            let space = SPACE;
            let signature = [ack_key(3).public().as_bytes()[0]; 64];
            Ack { acker, space, device, size: n + 1, root, time_s: 0, signature }
        });
        Frame::Acks(Acks { handled: 0, acks: acks.collect() })
    };
    held.hear(&acks(0));
    held.hear(&acks(900));
    for _ in 0..200 {
        held.session.handle_message(NOW, vec![1; MESSAGE_BYTES_MAX]);
    }
    assert!(!held.session.is_closed());
    let said = held.session.bytes_held();
    let Held { session, requests } = held;
    let gone = measure(|| drop((session, requests)));
    let freed = usize::try_from(-gone.bytes_current).unwrap();
    assert!(said >= freed * 95 / 100, "{said} bytes it says, and {freed} were free");
    assert!(said <= freed * 2, "{said} bytes it says, and {freed} were free");
    assert!(said > empty + (6 << 20), "{said} after {empty}");
}

#[test]
fn no_session_keeps_more_than_its_limit() {
    let config = Config::new(signing_key(1).device_id());
    assert!(config.bytes_held_max() <= SESSION_BYTES_MAX);
    assert!(config.bytes_held_max() > 2 * 3 * FRAME_BYTES_MAX);
}
