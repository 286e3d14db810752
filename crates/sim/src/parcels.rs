//! Blob streams: beside each session one on which chunks are asked for, with the same faults.

use larder_engine::{BlobAnswer, BlobAt, NewChunk};
use larder_protocol::{BlobEvent, BlobFrame, BlobReply, BlobRequest, BlobSession};
use larder_types::limits::{BLOB_LACKED_MAX, BLOB_REQUESTS_MAX, IDLE_MS_MAX};
use larder_types::{CloseCode, Hash, TransportId};

use crate::blobs::CUT;
use crate::device::{Job, Slot};
use crate::inbox::{Got, Inbox, Packet};
use crate::network::End;
use crate::world::{Event, World};

/// The stream for blobs of a connection.
pub(crate) struct Parcels {
    ends: [Option<Stream>; 2],
    window: usize,
    /// Ends once both have everything.
    is_once: bool,
    lies: bool,
    /// If the villain is the other side: what it does.
    trick: Option<Trick>,
    dead_since_us: Option<u64>,
    is_cut: bool,
}

/// What one side has of it.
struct Stream {
    device: Slot,
    peer: TransportId,
    session: BlobSession,
    inbox: Inbox,
    /// The last of what is under way arrives then.
    last_us: u64,
    /// Storage takes up the last of what it was asked then: chunks are stored in order.
    asked_us: u64,
}

/// What may happen to one side.
pub(crate) enum Parcel {
    /// A packet reaches it.
    Arrives,
    /// It may have something to do.
    Pump,
    /// Storage takes up a request of its.
    Ask(Box<BlobRequest>),
    /// It notices that the connection is gone.
    Broken,
}

/// What the villain does on a blob stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// What it is asked for, as it is.
    Honest,
    /// Bytes that are not what was asked for.
    OtherBytes,
    /// Another chunk than was asked for.
    OtherChunk,
    /// It has nothing.
    Lacks,
    /// A chunk that nobody asked for.
    Unasked,
    /// It asks for more than it may.
    Greedy,
    /// It asks, and reads nothing of what it is sent.
    Deaf,
}

const TRICKS: &[(Trick, &str)] = &[
    (Trick::Honest, "villain: chunks as they are"),
    (Trick::OtherBytes, "villain: other bytes for a chunk"),
    (Trick::OtherBytes, "villain: other bytes for a chunk"),
    (Trick::OtherChunk, "villain: another chunk"),
    (Trick::Lacks, "villain: no chunk at all"),
    (Trick::Unasked, "villain: chunks that nobody asked for"),
    (Trick::Greedy, "villain: too many chunks at once"),
    (Trick::Deaf, "villain: chunks asked for and not read"),
];

impl World {
    /// Blobs go beside what this connection is for.
    pub(crate) fn open_parcels(&mut self, link: u64, both: [Slot; 2], is_once: bool, lies: bool) {
        // Of what a device may not read any more it asks on the same stream who has it.
        if !self.plan.has_blobs && self.plan.clearances == 0 {
            return;
        }
        let [from, to] = both;
        let stream = |me: Slot, peer: Slot| {
            let peer = self.devices[peer].transport;
            Some(Stream::new(me, peer, self.now_us))
        };
        let ends = [stream(from, to), stream(to, from)];
        let window = 1 + self.below(4);
        let (trick, dead_since_us, is_cut) = (None, None, false);
        let parcels = Parcels { ends, window, is_once, lies, trick, dead_since_us, is_cut };
        self.parcels.insert(link, parcels);
        for side in [0, 1] {
            self.pump_parcels(End { link, side });
        }
    }

    /// The villain opens such a stream to `to`.
    pub(crate) fn besiege_with_chunks(&mut self, to: Slot, villain: TransportId) {
        let at = self.below(TRICKS.len() as u64);
        let (trick, name) = TRICKS[at];
        let to = self.who_wants_chunks().unwrap_or(to);
        self.report.count(name);
        self.note(|| format!("the villain comes to {to} for blobs: {trick:?}"));
        let link = self.links_made;
        self.links_made += 1;
        let ends = [Some(Stream::new(to, villain, self.now_us)), None];
        let (trick, dead_since_us, is_cut) = (Some(trick), None, false);
        let parcels =
            Parcels { ends, window: 4, is_once: false, lies: true, trick, dead_since_us, is_cut };
        self.parcels.insert(link, parcels);
        let end = End { link, side: 0 };
        for frame in self.chunks_asked_by_villain(to, trick.expect("there")) {
            self.send_parcel(end, Packet::Frame(frame));
        }
        self.pump_parcels(end);
        let after_us = self.plan.latency_us * 4 + self.dice.below(5_000_000);
        self.later(after_us, Event::Cut { link });
    }

    /// The session beside it has brought what there was, or is over.
    pub(crate) fn parcels_settled(&mut self, end: End) {
        if let Some(stream) = self.stream_at(end) {
            stream.session.handle_settled();
            self.pump_parcels(end);
        }
    }

    /// The device may want something that it did not, or hold what it did not.
    pub(crate) fn parcels_changed(&mut self, slot: Slot) {
        for end in self.streams_of(slot) {
            if let Some(stream) = self.stream_at(end) {
                stream.session.handle_changed();
                stream.session.handle_kept();
                self.pump_parcels(end);
            }
        }
    }

    pub(crate) fn cut_parcels(&mut self, link: u64) {
        let Some(known) = self.parcels.get_mut(&link).filter(|known| !known.is_cut) else { return };
        known.is_cut = true;
        for stream in known.ends.iter_mut().flatten() {
            stream.inbox.cut(&mut self.dice);
        }
        for side in [0, 1] {
            let after_us = self.dice.below(2_000_000);
            self.later(after_us, Event::Parcel(End { link, side }, Parcel::Broken));
        }
    }

    fn drop_stream(&mut self, end: End) {
        let Some(known) = self.parcels.get_mut(&end.link) else { return };
        known.ends[end.side] = None;
        if known.ends.iter().all(Option::is_none) {
            self.parcels.remove(&end.link);
        }
    }

    /// The device's streams are gone without a word; the others notice later.
    pub(crate) fn drop_parcels_of(&mut self, slot: Slot) {
        for end in self.streams_of(slot) {
            let other = End { link: end.link, side: 1 - end.side };
            let after_us = self.dice.below(5_000_000);
            self.later(after_us, Event::Parcel(other, Parcel::Broken));
            self.drop_stream(end);
        }
    }

    pub(crate) fn streams_of(&self, slot: Slot) -> Vec<End> {
        let mut ends = Vec::new();
        for (link, known) in &self.parcels {
            for (side, stream) in known.ends.iter().enumerate() {
                if stream.as_ref().is_some_and(|stream| stream.device == slot) {
                    ends.push(End { link: *link, side });
                }
            }
        }
        ends
    }

    /// The device ends this stream in order.
    pub(crate) fn end_stream(&mut self, end: End, code: CloseCode) {
        if let Some(stream) = self.stream_at(end) {
            stream.session.close(code, "");
            self.pump_parcels(end);
        }
    }

    fn stream_at(&mut self, end: End) -> Option<&mut Stream> {
        self.parcels.get_mut(&end.link)?.ends[end.side].as_mut()
    }
}

impl Stream {
    fn new(device: Slot, peer: TransportId, now_us: u64) -> Self {
        Self {
            device,
            peer,
            session: BlobSession::new(),
            inbox: Inbox::new(),
            last_us: now_us,
            asked_us: now_us,
        }
    }
}

/// What happens to it.
impl World {
    pub(crate) fn parcel(&mut self, end: End, event: Parcel) {
        match event {
            Parcel::Arrives => self.parcel_arrives(end),
            Parcel::Pump => self.pump_parcels(end),
            Parcel::Ask(request) => self.ask_for_parcel(end, *request),
            Parcel::Broken => self.parcel_broken(end),
        }
    }

    fn parcel_broken(&mut self, end: End) {
        if self.stream_at(end).is_some_and(|stream| stream.inbox.break_off()) {
            self.report.count("fault: blobs cut within a frame");
        }
        self.drop_stream(end);
    }

    fn parcel_arrives(&mut self, end: End) {
        let now_us = self.now_us;
        let Some(known) = self.parcels.get(&end.link) else { return };
        let device = |side: usize| known.ends[side].as_ref().map(|stream| stream.device);
        let (Some(to), from) = (device(end.side), device(1 - end.side)) else { return };
        if from.is_some_and(|from| self.is_dead(from, to)) {
            let known = self.parcels.get_mut(&end.link).expect("there");
            let since_us = *known.dead_since_us.get_or_insert(now_us);
            if now_us - since_us > IDLE_MS_MAX * 1000 {
                self.cut_parcels(end.link);
            } else {
                self.later(250_000, Event::Parcel(end, Parcel::Arrives));
            }
            return;
        }
        self.parcels.get_mut(&end.link).expect("there").dead_since_us = None;
        let Some(stream) = self.stream_at(end) else { return };
        stream.inbox.arrive();
        self.pump_parcels(end);
    }

    /// Storage takes up a request.
    fn ask_for_parcel(&mut self, end: End, request: BlobRequest) {
        let Some(stream) = self.stream_at(end) else { return };
        let (slot, peer) = (stream.device, stream.peer);
        let Some(space) = self.devices[slot].space().cloned() else { return };
        let answer = space.answer_blobs(&peer, request, true, &mut |_| true);
        if self.notice_power(slot) {
            return;
        }
        match answer {
            BlobAnswer::Reply(reply) => self.parcel_reply(end, reply),
            BlobAnswer::Store(chunk) => self.enqueue(slot, Job::StoreChunk(end, Box::new(chunk))),
            BlobAnswer::Release(keeps) => {
                let Some(writer) = self.devices[slot].writer() else { return };
                let released = writer.release_kept(&peer, &keeps);
                if self.notice_power(slot) {
                    return;
                }
                self.report.add("clearance: kept until another had it", keeps.len() as u64);
                self.parcel_reply(
                    end,
                    match released {
                        Ok(()) => BlobReply::Released,
                        Err(error) => BlobReply::Failed { message: error.to_string() },
                    },
                );
            }
        }
    }

    fn parcel_reply(&mut self, end: End, reply: BlobReply) {
        let Some(stream) = self.stream_at(end) else { return };
        let slot = stream.device;
        if let BlobReply::Failed { message } = &reply {
            let message = message.clone();
            self.storage_failed(slot, &message);
        }
        if let Some(stream) = self.stream_at(end) {
            stream.session.handle_reply(reply);
            self.pump_parcels(end);
        }
    }

    /// The writer keeps a chunk that came.
    pub(crate) fn store_chunk(&mut self, slot: Slot, end: End, chunk: NewChunk) {
        let stored = self.devices[slot].writer().expect("it is open").store_chunks(&[chunk]);
        if self.notice_power(slot) {
            return;
        }
        match stored {
            Ok(new) => {
                self.report.add("blobs: chunks stored", new as u64);
                self.parcel_reply(end, BlobReply::Stored);
                if new > 0 {
                    self.parcels_changed(slot);
                }
            }
            Err(error) => self.parcel_reply(end, BlobReply::Failed { message: error.to_string() }),
        }
    }

    /// Does all that a stream wants done now.
    fn pump_parcels(&mut self, end: End) {
        loop {
            self.take_parcel_requests(end);
            self.take_parcel_events(end);
            self.transmit_parcels(end);
            let Some(known) = self.parcels.get(&end.link) else { return };
            let is_once = known.is_once;
            let Some(stream) = self.stream_at(end) else { return };
            if !stream.session.is_closed() && is_once && stream.session.is_idle() {
                stream.session.close(CloseCode::Done, "");
                continue;
            }
            if stream.session.is_closed() {
                break;
            }
            match stream.inbox.read() {
                Some(Got::Frame(frame)) => {
                    stream.session.handle_frame(&frame);
                    let other = End { link: end.link, side: 1 - end.side };
                    self.later(0, Event::Parcel(other, Parcel::Pump));
                }
                Some(Got::End) => {
                    self.drop_stream(end);
                    return;
                }
                None => break,
            }
        }
        self.check_parcel_memory(end);
        let Some(stream) = self.stream_at(end).filter(|stream| stream.session.is_closed()) else {
            return;
        };
        // Whatever is left goes out, whether or not the other side reads it.
        let left: Vec<_> = std::iter::from_fn(|| stream.session.poll_transmit()).collect();
        let other = End { link: end.link, side: 1 - end.side };
        for frame in left {
            self.send_parcel(other, Packet::Frame(frame));
        }
        self.send_parcel(other, Packet::End);
        self.drop_stream(end);
    }

    /// What the other side sends and does not read takes no more memory than it may.
    fn check_parcel_memory(&mut self, end: End) {
        let Some(stream) = self.stream_at(end) else { return };
        let (slot, held) = (stream.device, stream.session.bytes_held());
        // With chunks as small as they are cut here.
        let most = (BLOB_REQUESTS_MAX + 1) * 2 * CUT.max + 6 * BLOB_LACKED_MAX * size_of::<Hash>();
        assert!(held <= most, "a stream of blobs of {slot} keeps {held} bytes, and may {most}");
        self.report.count("check: memory of blob streams");
    }

    fn take_parcel_requests(&mut self, end: End) {
        while let Some(request) = self.stream_at(end).and_then(|one| one.session.poll_request()) {
            let after_us = self.dice.below(self.plan.storage_us);
            let now_us = self.now_us;
            let Some(stream) = self.stream_at(end) else { return };
            stream.asked_us = stream.asked_us.max(now_us + after_us);
            let after_us = stream.asked_us - now_us;
            self.later(after_us, Event::Parcel(end, Parcel::Ask(Box::new(request))));
        }
    }

    fn take_parcel_events(&mut self, end: End) {
        while let Some(event) = self.stream_at(end).and_then(|one| one.session.poll_event()) {
            let slot = self.stream_at(end).expect("there").device;
            match event {
                BlobEvent::Closed { code, message, by_peer } => {
                    self.note(|| format!("blobs {}: {slot} closes, {code:?} {message}", end.link));
                    let lies = self.parcels.get(&end.link).is_some_and(|known| known.lies);
                    let is_ordinary = matches!(
                        code,
                        CloseCode::Done | CloseCode::ShuttingDown | CloseCode::Storage
                    );
                    assert!(
                        is_ordinary || lies && code != CloseCode::Internal,
                        "the blobs of {slot} ended (by the peer: {by_peer}): {code:?} {message}"
                    );
                    self.report.count(match code {
                        CloseCode::Done => "blobs: streams done",
                        CloseCode::BadChunk => "blobs: streams refused for a chunk",
                        _ => "blobs: streams ended otherwise",
                    });
                }
                BlobEvent::Lacked { .. } => self.report.count("blobs: chunks not there"),
                BlobEvent::Holds { digests } => {
                    self.report.add("blobs: chunks there by now", digests.len() as u64);
                }
                BlobEvent::Stored { .. } | BlobEvent::Idle => {}
            }
        }
    }

    fn transmit_parcels(&mut self, end: End) {
        let other = End { link: end.link, side: 1 - end.side };
        loop {
            let Some(known) = self.parcels.get(&end.link) else { return };
            let to = known.ends[other.side].as_ref();
            let under_way = to.map_or(0, |to| to.inbox.under_way());
            let trick = known.trick;
            if under_way >= known.window || trick == Some(Trick::Deaf) {
                return;
            }
            let Some(stream) = self.stream_at(end) else { return };
            let Some(frame) = stream.session.poll_transmit() else { return };
            self.trace.hash(&frame);
            self.report.add("blobs: bytes", frame.len() as u64);
            if let Some(trick) = trick {
                for frame in self.villain_answers(trick, &frame) {
                    self.send_parcel(end, Packet::Frame(frame));
                }
            } else {
                self.send_parcel(other, Packet::Frame(frame));
            }
        }
    }

    fn send_parcel(&mut self, to: End, packet: Packet) {
        let Some(known) = self.parcels.get(&to.link).filter(|known| !known.is_cut) else { return };
        let lies = known.lies && known.trick.is_none();
        let after_us = self.dice.below(self.plan.latency_us);
        let choice = if lies { self.dice.below(30) } else { 30 };
        let bit = self.dice.below(1 << 20);
        let now_us = self.now_us;
        let Some(stream) = self.stream_at(to) else { return };
        let at_us = (now_us + after_us).max(stream.last_us);
        stream.last_us = at_us;
        let mut count = 1;
        match (choice, packet) {
            (0, Packet::Frame(mut frame)) => {
                let bit = usize::try_from(bit).unwrap_or(0) % (8 * frame.len().max(1));
                if let Some(byte) = frame.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                stream.inbox.push(Packet::Frame(frame));
            }
            (1, Packet::Frame(frame)) => {
                stream.inbox.push(Packet::Frame(frame.clone()));
                stream.inbox.push(Packet::Frame(frame));
                count = 2;
            }
            (2, Packet::Frame(_)) => count = 0,
            (3, packet) => stream.inbox.push_first(packet),
            (_, packet) => stream.inbox.push(packet),
        }
        if choice < 4 {
            self.report.count("fault: frames of blobs changed, repeated, dropped or reordered");
        }
        for _ in 0..count {
            self.later(at_us - now_us, Event::Parcel(to, Parcel::Arrives));
        }
    }
}

/// The villain's side.
impl World {
    /// It comes to who will ask it for something.
    fn who_wants_chunks(&mut self) -> Option<Slot> {
        let wants = |slot: &Slot| {
            let space = self.devices[*slot].space()?;
            let wanted = space.wanted_chunks(BlobAt::default(), 1).ok()?;
            (!wanted.is_empty()).then_some(*slot)
        };
        let up = self.up();
        let wanting: Vec<Slot> = up.iter().filter_map(wants).collect();
        for slot in up {
            self.notice_power(slot);
        }
        let wanting: Vec<Slot> =
            wanting.into_iter().filter(|slot| self.devices[*slot].is_up()).collect();
        self.pick(&wanting)
    }

    /// Chunks that somebody holds.
    fn some_chunks(&self, digests: &[Hash]) -> Vec<Option<Vec<u8>>> {
        let spaces: Vec<_> = self.devices.iter().filter_map(|device| device.space()).collect();
        let find = |digest| spaces.iter().find_map(|space| space.sealed_chunk(digest).ok()?);
        digests.iter().map(find).collect()
    }

    fn chunks_asked_by_villain(&self, to: Slot, trick: Trick) -> Vec<Vec<u8>> {
        let Some(space) = self.devices[to].space() else { return Vec::new() };
        let held = self.blobs.digests_held(space, BLOB_REQUESTS_MAX);
        match trick {
            Trick::Greedy => vec![BlobFrame::Want(vec![Hash::new([7; 32]); 8]).encode(); 2],
            Trick::Unasked => vec![BlobFrame::Chunk(vec![5; 700]).encode()],
            Trick::Deaf if !held.is_empty() => vec![BlobFrame::Want(held).encode()],
            _ => Vec::new(),
        }
    }

    fn villain_answers(&mut self, trick: Trick, frame: &[u8]) -> Vec<Vec<u8>> {
        let Ok(BlobFrame::Want(digests)) = BlobFrame::decode(frame) else { return Vec::new() };
        let mut chunks = self.some_chunks(&digests);
        match trick {
            Trick::Lacks => chunks.fill(None),
            Trick::OtherBytes => chunks.iter_mut().flatten().for_each(|sealed| sealed[0] ^= 1),
            Trick::OtherChunk => chunks.reverse(),
            _ => {}
        }
        self.report.add("villain: chunks sent", chunks.iter().flatten().count() as u64);
        let frame = |chunk: Option<Vec<u8>>| chunk.map_or(BlobFrame::Lacks, BlobFrame::Chunk);
        chunks.into_iter().map(|chunk| frame(chunk).encode()).collect()
    }
}
