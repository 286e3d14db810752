use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn chunk(n: u16) -> Vec<u8> {
    n.to_be_bytes().repeat(20)
}

fn digest(n: u16) -> Hash {
    chunk_digest(&chunk(n))
}

/// A side with storage in memory.
struct Peer {
    session: BlobSession,
    held: BTreeMap<Hash, Vec<u8>>,
    wanted: Vec<Hash>,
    events: Vec<BlobEvent>,
    /// Chunks sent, with repetitions.
    served: usize,
    /// What it keeps until somebody has it, and what somebody has of it.
    kept: Vec<Hash>,
    released: BTreeSet<Hash>,
}

impl Peer {
    fn new(held: impl IntoIterator<Item = u16>, wanted: impl IntoIterator<Item = u16>) -> Self {
        Self {
            session: BlobSession::new(),
            held: held.into_iter().map(|n| (digest(n), chunk(n))).collect(),
            wanted: wanted.into_iter().map(digest).collect(),
            events: Vec::new(),
            served: 0,
            kept: Vec::new(),
            released: BTreeSet::new(),
        }
    }

    fn reply(&mut self, request: BlobRequest) -> BlobReply {
        match request {
            BlobRequest::ReadWanted { from, limit } => {
                let from = usize::try_from(from.0).unwrap();
                let left = self.wanted.iter().enumerate().skip(from);
                let left: Vec<_> = left.filter(|(_, d)| !self.held.contains_key(d)).collect();
                let chunks: Vec<Hash> = left.iter().take(limit).map(|(_, d)| **d).collect();
                let next = left.get(limit);
                let next = next.map(|(at, _)| BlobPosition(i64::try_from(*at).unwrap(), 0));
                BlobReply::Wanted { chunks, next }
            }
            BlobRequest::ReadChunk { digest } => {
                let sealed = self.held.get(&digest).cloned();
                self.served += usize::from(sealed.is_some());
                BlobReply::Chunk { sealed }
            }
            BlobRequest::StoreChunk { digest, sealed } => {
                assert_eq!(chunk_digest(&sealed), digest);
                self.held.insert(digest, sealed);
                BlobReply::Stored
            }
            BlobRequest::ReadHeld { digests } => {
                let held = digests.into_iter().filter(|d| self.held.contains_key(d)).collect();
                BlobReply::Held { digests: held }
            }
            BlobRequest::ReadKept { from, limit } => {
                let from = usize::try_from(from.0).unwrap();
                let left = self.kept.iter().copied().enumerate().skip(from);
                let left = left.filter(|(_, digest)| !self.released.contains(digest));
                let page: Vec<(usize, Hash)> = left.take(limit).collect();
                let next = page.last();
                let next = next.map(|(at, _)| BlobPosition(i64::try_from(at + 1).unwrap(), 0));
                let chunks = page.into_iter().map(|(_, digest)| digest).collect();
                BlobReply::Kept { keeps: Keeps { chunks, ..Keeps::default() }, next }
            }
            BlobRequest::ReadDurable { mut keeps } => {
                keeps.chunks.retain(|digest| self.held.contains_key(digest));
                BlobReply::Confirmed { keeps }
            }
            BlobRequest::Release { keeps } => {
                self.released.extend(&keeps.chunks);
                BlobReply::Released
            }
        }
    }

    /// Storage answers, and nothing leaves.
    fn step_unread(&mut self) {
        while let Some(request) = self.session.poll_request() {
            let reply = self.reply(request);
            self.session.handle_reply(reply);
        }
        while self.session.poll_event().is_some() {}
    }

    /// Does all that can be done without the other side.
    fn step(&mut self) {
        while let Some(request) = self.session.poll_request() {
            let reply = self.reply(request);
            self.session.handle_reply(reply);
            assert!(self.session.asked.len() + self.session.storing.len() <= BLOB_REQUESTS_MAX);
        }
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }

    fn has_all(&self) -> bool {
        self.wanted.iter().all(|digest| self.held.contains_key(digest))
    }

    fn is_idle(&self) -> bool {
        self.events.last() == Some(&BlobEvent::Idle)
    }
}

/// Lets both talk until neither has anything to say, or until so many frames were delivered.
fn talk(a: &mut Peer, b: &mut Peer, frames_max: usize) -> usize {
    let mut frames = 0;
    loop {
        let before = frames;
        for turn in 0..2 {
            let (from, to) = if turn == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            from.step();
            if let Some(frame) = from.session.poll_transmit() {
                if frames == frames_max {
                    return frames;
                }
                frames += 1;
                assert!(frame.len() <= BLOB_FRAME_BYTES_MAX);
                to.session.handle_frame(&frame);
            }
            from.step();
            to.step();
        }
        if frames == before {
            return frames;
        }
    }
}

proptest! {
    #[test]
    fn each_gets_what_the_other_has_and_once(
        a_held: BTreeSet<u16>, b_held: BTreeSet<u16>,
        a_wanted: BTreeSet<u16>, b_wanted: BTreeSet<u16>,
    ) {
        let mut a = Peer::new(a_held.clone(), a_wanted.union(&b_held).copied());
        let mut b = Peer::new(b_held.clone(), b_wanted.union(&a_held).copied());
        a.session.handle_settled();
        b.session.handle_settled();
        talk(&mut a, &mut b, usize::MAX);
        prop_assert!(a.is_idle() && b.is_idle());
        prop_assert!(b_held.iter().all(|n| a.held.contains_key(&digest(*n))));
        prop_assert!(a_held.iter().all(|n| b.held.contains_key(&digest(*n))));
        prop_assert!(a.held.len() <= a_held.union(&b_held).count() + a_wanted.len());
        prop_assert_eq!(b.served, b_held.difference(&a_held).count());
        prop_assert_eq!(a.served, a_held.difference(&b_held).count());
    }

    #[test]
    fn cut_anywhere_nothing_is_sent_twice(count in 1..60_u16, cut in 0..100_usize) {
        let mut a = Peer::new(0..count, []);
        let mut b = Peer::new([], 0..count);
        talk(&mut a, &mut b, cut);
        let (stored, served) = (b.held.len(), a.served);
        // What was on its way is lost with the stream.
        prop_assert!(served <= stored + 1);
        a.session = BlobSession::new();
        b.session = BlobSession::new();
        talk(&mut a, &mut b, usize::MAX);
        prop_assert!(b.has_all());
        prop_assert_eq!(a.served, served + usize::from(count) - stored);
    }

    #[test]
    fn any_bytes_are_refused_or_read_back(bytes: Vec<u8>) {
        if let Ok(frame) = BlobFrame::decode(&bytes) {
            prop_assert_eq!(&frame.encode(), &bytes);
        }
        let mut peer = Peer::new([1], [2]);
        peer.session.handle_frame(&bytes);
        peer.step();
    }
}

#[test]
fn a_chunk_that_is_not_what_was_asked_for_ends_the_session_and_is_not_stored() {
    for wrong in [chunk(7), Vec::new(), [chunk(1), vec![0]].concat()] {
        let mut a = Peer::new([], [1]);
        a.step();
        let asked = BlobFrame::decode(&a.session.poll_transmit().unwrap()).unwrap();
        assert_eq!(asked, BlobFrame::Want(vec![digest(1)]));
        a.session.handle_frame(&BlobFrame::Chunk(wrong).encode());
        a.step();
        let last = a.events.last().unwrap();
        assert!(
            matches!(last, BlobEvent::Closed { code: CloseCode::BadChunk, by_peer: false, .. }),
            "{last:?}"
        );
        assert!(a.held.is_empty());
        let said = BlobFrame::decode(&a.session.poll_transmit().unwrap()).unwrap();
        assert!(matches!(said, BlobFrame::Close { code: CloseCode::BadChunk, .. }));
        assert_eq!(a.session.poll_transmit(), None);
    }
}

#[test]
fn what_has_no_place_is_refused_by_name() {
    let want = |from: u16, to: u16| BlobFrame::Want((from..to).map(digest).collect()).encode();
    let large = [&[2][..], &vec![0; BLOB_FRAME_BYTES_MAX]].concat();
    for (frames, code) in [
        (vec![BlobFrame::Chunk(chunk(1)).encode()], CloseCode::Unexpected),
        (vec![BlobFrame::Lacks.encode()], CloseCode::Unexpected),
        (vec![want(0, 5), want(5, 10)], CloseCode::LimitExceeded),
        (vec![want(0, 9)], CloseCode::Malformed),
        (vec![vec![1, 0x80]], CloseCode::LimitExceeded),
        (vec![large], CloseCode::LimitExceeded),
        (vec![Vec::new()], CloseCode::Malformed),
        (vec![vec![3, 0]], CloseCode::Malformed),
        (vec![vec![99]], CloseCode::Malformed),
    ] {
        let mut session = BlobSession::new();
        for frame in &frames {
            session.handle_frame(frame);
        }
        let closed = std::iter::from_fn(|| session.poll_event()).last().unwrap();
        let BlobEvent::Closed { code: found, by_peer: false, .. } = closed else { panic!() };
        assert_eq!(found, code, "{frames:?}");
    }
}

#[test]
fn what_a_peer_lacked_is_asked_for_again_once_it_has_it() {
    let mut a = Peer::new([], [1, 2]);
    let mut b = Peer::new([2], []);
    a.session.handle_settled();
    b.session.handle_settled();
    talk(&mut a, &mut b, usize::MAX);
    assert!(a.is_idle() && !a.has_all());
    assert!(a.events.contains(&BlobEvent::Lacked { digest: digest(1) }));
    a.session.handle_changed();
    assert_eq!(talk(&mut a, &mut b, usize::MAX), 0, "it is not asked for again without a reason");
    b.held.insert(digest(1), chunk(1));
    b.session.handle_changed();
    talk(&mut a, &mut b, usize::MAX);
    assert!(a.has_all() && a.is_idle());
}

#[test]
fn nobody_is_idle_before_the_log_is_settled() {
    let mut a = Peer::new([], [1]);
    let mut b = Peer::new([1], []);
    talk(&mut a, &mut b, usize::MAX);
    assert!(a.has_all() && !a.is_idle() && !b.is_idle());
    a.session.handle_settled();
    talk(&mut a, &mut b, usize::MAX);
    assert!(!a.is_idle(), "the other may still learn what it wants");
    b.wanted.push(digest(1));
    b.session.handle_settled();
    talk(&mut a, &mut b, usize::MAX);
    assert!(a.is_idle() && b.is_idle());
}

#[test]
fn storage_that_fails_ends_the_session() {
    let mut session = BlobSession::new();
    session.handle_reply(BlobReply::Failed { message: "full".into() });
    let Some(BlobEvent::Closed { code: CloseCode::Storage, .. }) = session.poll_event() else {
        panic!()
    };
}

// A peer answered each question with "not held" and read none of them: the next questions, one for
// every eight chunks that were wanted, piled up, and a large blob made megabytes of them.
#[test]
fn who_reads_no_question_is_not_asked_on_and_on() {
    let mut peer = Peer::new([], 0..4000);
    peer.step_unread();
    for _ in 0..4000 {
        peer.session.handle_frame(&BlobFrame::Lacks.encode());
        peer.step_unread();
        assert!(peer.session.frames.len() <= 1, "{}", peer.session.frames.len());
    }
    assert!(peer.session.is_closed(), "it answered what it was not asked");
    let mut patient = Peer::new([], 0..4000);
    patient.step_unread();
    for _ in 0..4000 {
        while patient.session.poll_transmit().is_some() {}
        patient.session.handle_frame(&BlobFrame::Lacks.encode());
        patient.step_unread();
    }
    assert!(!patient.session.is_closed());
    assert_eq!(patient.session.lacking.len(), 4000);
}

/// What a side keeps for others it lets go of once the other side holds it: what that wanted, and
/// what it had already; but of nothing that it does not hold, whatever it says about other chunks.
#[test]
fn what_is_kept_for_others_is_let_go_once_the_peer_has_it() {
    let all: Vec<u16> = (0..600).collect();
    let mut keeper = Peer::new(all.iter().copied(), []);
    keeper.kept = all.iter().map(|n| digest(*n)).collect();
    let mut other = Peer::new((0..200).chain(900..905), 300..550);
    keeper.session.handle_settled();
    other.session.handle_settled();
    talk(&mut keeper, &mut other, usize::MAX);
    assert!(keeper.is_idle() && other.is_idle());
    let has: BTreeSet<Hash> = (0..200).chain(300..550).map(digest).collect();
    assert_eq!(keeper.released, has);
    // Unasked, or of what it was not asked about, its word is none.
    let unasked = Keeps { chunks: vec![digest(250)], ..Keeps::default() };
    keeper.session.handle_frame(&BlobFrame::Holds(unasked).encode());
    assert!(keeper.session.is_closed() && keeper.released == has);
}

/// A side that learned late what it may not read any more asked about it when the other one had
/// closed, being idle: both were, before the question. And what came into being after the first
/// question was asked about in another session only.
#[test]
fn nobody_is_idle_before_all_that_is_kept_was_asked_about() {
    for is_late in [true, false] {
        let mut keeper = Peer::new(0..3, []);
        let mut other = Peer::new(0..3, []);
        other.session.handle_settled();
        talk(&mut keeper, &mut other, usize::MAX);
        keeper.kept = (0..2).map(digest).collect();
        keeper.session.handle_settled();
        // What the keeper says goes first, and the other may close once it is idle.
        while !other.is_idle() {
            keeper.step();
            other.step();
            if let Some(frame) = keeper.session.poll_transmit() {
                other.session.handle_frame(&frame);
            } else if let Some(frame) = other.session.poll_transmit() {
                keeper.session.handle_frame(&frame);
            }
        }
        assert_eq!(keeper.released.len(), 2);
        if is_late {
            keeper.kept = vec![digest(2)];
            keeper.session.handle_kept();
            talk(&mut keeper, &mut other, usize::MAX);
            assert_eq!(keeper.released.len(), 3);
        }
    }
}

/// Who asks again and again about what it keeps, and reads no answer, has nothing pile up.
#[test]
fn a_peer_that_reads_no_answer_is_asked_to_go() {
    let mut patient = Peer::new(0..3, []);
    let keeps = Keeps { chunks: vec![digest(1)], ..Keeps::default() };
    patient.session.handle_frame(&BlobFrame::Keeps(keeps.clone()).encode());
    patient.step_unread();
    assert!(!patient.session.is_closed());
    patient.session.handle_frame(&BlobFrame::Keeps(keeps).encode());
    assert!(patient.session.is_closed());
}
