use std::collections::{BTreeMap, BTreeSet, VecDeque};

use larder_log::Batch;
use larder_log::ack::Ack;
use larder_types::limits::{BATCH_BYTES_FIRST, BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX, LOGS_MAX};
use larder_types::{CloseCode, DeviceId, EpochId, SpaceId, Timestamp};

use crate::acks::AckLedger;
use crate::frame::{Acks, Frame, FrameError, Frontiers, shortened};

mod exchange;
mod held;
mod lacking;
mod messages;
mod opening;

pub use exchange::{Config, Event, Fork, Lack, Opens, Position, Reply, Request};
pub(crate) use held::map_bytes;
use lacking::Lacking;
use messages::Messages;
use opening::Opening;
pub use opening::held_digest;

/// One conversation with one peer about one space, once both know that they share it.
///
/// The world tells it by `handle_*`; after each of those, poll until nothing is left:
/// [`Session::poll_request`] (storage answers each with [`Session::handle_reply`]; requests may
/// run beside each other), [`Session::poll_transmit`], [`Session::poll_event`], and set a timer for
/// [`Session::poll_timeout`]. Before reading a frame from the peer ask [`Session::wants_frame`];
/// write what [`Session::poll_transmit`] gives from a task of its own and poll it again only when
/// that is written, so that batches are read as fast as they leave, and two devices that both have
/// much to say never wait for each other to read.
///
/// Memory: [`Session::bytes_held`], at worst [`Config::bytes_held_max`]. That is
/// [`Config::batches_in_flight_max`] batches received, two to be sent, and what was asked for, each
/// way; a few hundred bytes for each log and acknowledgement.
///
/// A session that ended anywhere leaves what was durable; the next one goes on from there.
#[derive(Debug)]
pub struct Session {
    config: Config,
    space: SpaceId,
    peer: Option<DeviceId>,
    random: u64,
    stage: Stage,
    requests: VecDeque<Request>,
    transmits: VecDeque<Outgoing>,
    events: VecDeque<Event>,

    /// Log sizes the peer is known to hold, or was sent.
    peer_has: BTreeMap<DeviceId, u64>,
    /// Log sizes the peer may know this device to hold: said, acknowledged, sent to or by it.
    told: BTreeMap<DeviceId, u64>,
    /// Log sizes that are durable here, as far as storage was asked.
    held: BTreeMap<DeviceId, u64>,
    epochs: Vec<EpochId>,
    /// Logs that are forked or refused: nothing more of them is taken in this session.
    stopped: BTreeSet<DeviceId>,
    opening: Opening,

    inbox: Inbox,
    outbox: Outbox,
    lacking: Lacking,
    acks: AckLedger,
    messages: Messages,
    /// The last count of handled batches that the peer was told.
    handled_told: u64,
    is_caught_up: bool,
    /// The peer closed, and reads nothing any more.
    is_deaf: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The peer closed; what it sent before is still applied.
    Draining {
        code: CloseCode,
        message: String,
    },
    Closed,
}

/// Batches on their way in.
#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Received>,
    /// The one that storage has.
    applying: Option<Applying>,
    received: u64,
    handled: u64,
    peer_caught_up: bool,
}

#[derive(Debug)]
struct Received {
    batch: Box<Batch>,
    bytes: usize,
}

#[derive(Debug)]
struct Applying {
    device: DeviceId,
    entries: usize,
    /// Of its frame.
    bytes: usize,
    /// Of memory.
    bytes_held: usize,
}

impl Inbox {
    fn in_flight(&self) -> usize {
        self.waiting.len() + usize::from(self.applying.is_some())
    }
}

/// The walk through this device's own transactions.
#[derive(Debug)]
struct Outbox {
    position: Position,
    walk: Walk,
    push_at: Option<Timestamp>,
    sent: u64,
    /// How many of them the peer said it has dealt with.
    peer_handled: u64,
    /// Of the next batch. Small at first: what a link brings before it breaks is kept by whole
    /// batches, and on a bad one a large batch might never arrive.
    bytes_target: usize,
    caught_up: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            position: Position::default(),
            walk: Walk::default(),
            push_at: None,
            sent: 0,
            peer_handled: 0,
            bytes_target: BATCH_BYTES_FIRST,
            caught_up: false,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Walk {
    /// At the end, until something is committed.
    #[default]
    Idle,
    /// There may be more behind the position.
    Due,
    /// Storage is reading.
    Reading {
        /// Something was committed since it began.
        is_stale: bool,
    },
}

#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Whose log, and how many entries.
    Batch(DeviceId, usize),
    Want,
    Supply,
    Other,
}

impl Outgoing {
    const fn is_batch(&self) -> bool {
        matches!(self.what, What::Batch(..))
    }
}

impl Session {
    /// A session about `space` with a peer that is `peer` there, if it is enrolled already. `seed`
    /// spreads the moments at which sessions push.
    pub fn new(config: Config, space: SpaceId, peer: Option<DeviceId>, seed: [u8; 32]) -> Self {
        let words = seed.as_chunks::<8>().0;
        let random = words.iter().fold(1, |sum, word| sum ^ u64::from_le_bytes(*word));
        Self {
            config,
            space,
            peer,
            // Never zero, where the generator would stay.
            random: random.max(1),
            stage: Stage::Open,
            requests: VecDeque::from([Request::ReadFrontiers]),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            peer_has: BTreeMap::new(),
            told: BTreeMap::new(),
            held: BTreeMap::new(),
            epochs: Vec::new(),
            stopped: BTreeSet::new(),
            opening: Opening::default(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            lacking: Lacking::default(),
            acks: AckLedger::default(),
            messages: Messages::default(),
            handled_told: 0,
            is_caught_up: false,
            is_deaf: false,
        }
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The peer's device in the space, if it was enrolled when the session began.
    pub fn peer(&self) -> Option<DeviceId> {
        self.peer
    }

    /// Whether the driver should read the peer's next frame. While this is false, storage is
    /// behind, and whatever the peer sends waits in the transport.
    pub fn wants_frame(&self) -> bool {
        self.stage == Stage::Open
            && self.inbox.in_flight() < self.config.batches_in_flight_max
            && !self.acks.is_full()
    }

    /// Whether [`Event::CaughtUp`] holds now.
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }

    /// How many entries the peer is known to hold that are not durable here, as far as this session
    /// knows, and how many of those that are durable here were not sent to it.
    pub fn left(&self) -> (u64, u64) {
        let lacks = |has: &BTreeMap<DeviceId, u64>, other: &BTreeMap<DeviceId, u64>| {
            let of = |(id, size): (&DeviceId, &u64)| {
                size.saturating_sub(other.get(id).copied().unwrap_or(0))
            };
            // A peer may say any size.
            has.iter().map(of).fold(0, u64::saturating_add)
        };
        (lacks(&self.peer_has, &self.held), lacks(&self.held, &self.peer_has))
    }

    /// Whether [`Event::Closed`] was reported.
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Whether it is known what the peer lacks.
    fn is_live(&self) -> bool {
        self.stage == Stage::Open && self.opening.sent && self.opening.checked
    }
}

/// The world tells it.
impl Session {
    /// The peer sent a frame.
    pub fn handle_frame(&mut self, now: Timestamp, bytes: &[u8]) {
        self.expire(now);
        if self.stage != Stage::Open {
            return;
        }
        if let Err(error) = self.take_frame(now, bytes) {
            self.end(error.code, &error.message, false);
        }
        self.proceed();
    }

    /// Storage answered a request.
    pub fn handle_reply(&mut self, now: Timestamp, reply: Reply) {
        if self.stage == Stage::Closed {
            return;
        }
        if let Err(error) = self.take_reply(now, reply) {
            self.end(error.code, &error.message, false);
        }
        self.proceed();
    }

    /// This device committed something in the space: written here, or applied from any peer.
    pub fn handle_local_commit(&mut self, now: Timestamp) {
        match self.outbox.walk {
            Walk::Reading { .. } => self.outbox.walk = Walk::Reading { is_stale: true },
            Walk::Idle if self.is_live() => self.schedule_push(now),
            Walk::Idle | Walk::Due => {}
        }
    }

    /// This device has acknowledgements that are new: made by itself or taken in by another
    /// session of the space.
    pub fn handle_acks(&mut self, acks: Vec<Ack>) {
        if self.stage == Stage::Open {
            self.offer_acks(acks);
            self.proceed();
        }
    }

    /// The app has a message for the peer, sealed. It is not kept: it is dropped if the peer is not
    /// an enrolled device, has not been heard yet, or was sent too many.
    pub fn handle_message(&mut self, now: Timestamp, sealed: Vec<u8>) {
        if self.is_live() && self.peer.is_some() {
            self.messages.push(now, sealed);
        }
    }

    /// Part of a frame has arrived since this was said last. It need not be said but before
    /// [`Self::handle_timeout`].
    pub fn handle_arriving(&mut self) {
        self.lacking.note_movement();
    }

    /// The moment of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.expire(now);
        self.expire_asking(now);
        if self.outbox.push_at.is_some_and(|at| at <= now) {
            self.outbox.push_at = None;
            self.walk_on();
        }
        self.proceed();
    }

    /// Ends the session from this side. What was received and is not yet durable is dropped.
    pub fn close(&mut self, code: CloseCode, message: &str) {
        if self.stage != Stage::Closed {
            self.end(code, message, false);
        }
    }
}

/// It tells the world.
impl Session {
    /// What storage should do next.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.opening.transmits.pop_front() {
            return Some(frame);
        }
        // What frees the peer to go on goes ahead of batches.
        if let Some(frame) = self.progress_frame() {
            return Some(frame);
        }
        if let Some(sealed) = self.messages.pop() {
            return Some(Frame::Message(sealed).encode());
        }
        let outgoing = self.transmits.pop_front()?;
        if let What::Batch(device, entries) = outgoing.what {
            let bytes = outgoing.frame.len();
            self.lacking.note_movement();
            self.events.push_back(Event::Sent { device, entries, bytes });
            self.read_on();
        }
        Some(outgoing.frame)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], unless something else is handled first.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let times = [self.opening.by, self.outbox.push_at, self.lacking.by()];
        if self.stage == Stage::Open { times.into_iter().flatten().min() } else { None }
    }
}

/// Frames in.
impl Session {
    fn take_frame(&mut self, now: Timestamp, bytes: &[u8]) -> Result<(), FrameError> {
        if bytes.len() > self.config.frame_bytes_max {
            return Err(FrameError::new(CloseCode::LimitExceeded, "a frame too long"));
        }
        match Frame::decode(bytes, &self.space)? {
            Frame::Close { code, message } => {
                self.is_deaf = true;
                self.opening.transmits.clear();
                self.messages.clear();
                self.transmits.clear();
                self.stage = Stage::Draining { code, message };
                Ok(())
            }
            Frame::Frontiers(frontiers) => self.take_frontiers(frontiers),
            Frame::Digest(digest) => self.take_digest(digest),
            _ if !self.opening.received => {
                Err(FrameError::new(CloseCode::Unexpected, "a frame before the frontiers"))
            }
            // The peer cannot know what is lacking here.
            Frame::Batch(_) if !self.opening.sent => {
                Err(FrameError::new(CloseCode::Unexpected, "a batch before it was asked for"))
            }
            Frame::Batch(batch) => self.take_batch(batch, bytes.len()),
            Frame::Acks(acks) => self.take_acks(acks),
            Frame::Want(_) if !self.opening.sent => {
                Err(FrameError::new(CloseCode::Unexpected, "wanted before it was told anything"))
            }
            Frame::Want(want) => self.take_want(want),
            Frame::Supply(supply) => self.take_supply(supply),
            Frame::Message(sealed) => {
                // Of whom it is not known yet what it may say, nothing is passed on.
                if self.peer.is_some() && self.messages.admits(now) {
                    self.events.push_back(Event::Message(sealed));
                }
                Ok(())
            }
            Frame::CaughtUp if !self.inbox.peer_caught_up => {
                self.inbox.peer_caught_up = true;
                Ok(())
            }
            Frame::CaughtUp => {
                Err(FrameError::new(CloseCode::Unexpected, "caught up a second time"))
            }
        }
    }

    fn expire(&mut self, now: Timestamp) {
        if self.stage == Stage::Open && self.opening.by.is_some_and(|by| by <= now) {
            let message = "the other device did not say what it holds";
            self.end(CloseCode::TimedOut, message, false);
        }
    }

    fn take_batch(&mut self, batch: Box<Batch>, bytes: usize) -> Result<(), FrameError> {
        let device = batch.device;
        let malformed = |text| Err(FrameError::new(CloseCode::Malformed, text));
        if batch.entries.is_empty() || batch.entries.len() > BATCH_ENTRIES_MAX {
            return malformed("a batch of no entries, or too many");
        }
        let Some(size) = size_after(&batch) else {
            return malformed("a batch with impossible sequence numbers");
        };
        self.check_unpacked(batch.bytes_held())?;
        self.inbox.received += 1;
        self.lacking.note_movement();
        if self.stopped.contains(&device) {
            self.inbox.handled += 1;
            return Ok(());
        }
        if !self.told.contains_key(&device) && self.told.len() >= LOGS_MAX {
            return Err(FrameError::new(CloseCode::LimitExceeded, "too many logs"));
        }
        let told = self.told.entry(device).or_insert(0);
        if batch.first_seq.checked_sub(1).is_none_or(|before| before > *told) {
            let message = format!("entry {} of {device} after {told}", batch.first_seq);
            return Err(FrameError::new(CloseCode::Gap, message));
        }
        // What came by another way meanwhile is looked at all the same: an honest peer could not
        // know, and it may be of another history of the log.
        *told = size.max(*told);
        raise(&mut self.peer_has, device, size);
        self.inbox.waiting.push_back(Received { batch, bytes });
        Ok(())
    }

    fn take_acks(&mut self, acks: Acks) -> Result<(), FrameError> {
        if acks.handled < self.outbox.peer_handled || acks.handled > self.outbox.sent {
            return Err(FrameError::new(CloseCode::Unexpected, "progress out of bounds"));
        }
        self.outbox.peer_handled = acks.handled;
        for ack in &acks.acks {
            // What the peer itself says it holds need not be sent. If it lies, it harms itself.
            if Some(ack.acker) == self.peer && self.peer_has.len() < 2 * LOGS_MAX {
                raise(&mut self.peer_has, ack.device, ack.size);
            }
        }
        self.acks.receive(&self.space, acks.acks)
    }
}

/// Replies in.
impl Session {
    fn take_reply(&mut self, now: Timestamp, reply: Reply) -> Result<(), FrameError> {
        match reply {
            Reply::Frontiers { logs, epochs_held, acks, forks } => {
                let frontiers = Frontiers { space: self.space, logs, epochs_held, forks };
                self.open(now, frontiers, acks)?;
            }
            Reply::Checked { forks } => {
                self.begin();
                for fork in forks {
                    self.stop_forked(fork);
                }
            }
            Reply::Batch { position, batch } => self.take_read(now, position, batch)?,
            Reply::Applied { device, size, acks, lacks } => {
                raise(&mut self.told, device, size);
                raise(&mut self.held, device, size);
                self.lacking.note(lacks);
                self.lacking.note_movement();
                if let Some(Applying { device, entries, bytes, .. }) = self.inbox.applying.take() {
                    self.inbox.handled += 1;
                    self.events.push_back(Event::Received { device, entries, bytes });
                }
                if !acks.is_empty() {
                    self.events.push_back(Event::Acks(acks.clone()));
                    self.offer_acks(acks);
                }
            }
            Reply::Refused { code, message, fatal: true } => {
                return Err(FrameError::new(code, message));
            }
            Reply::Refused { code, message, fatal: false } => {
                if let Some(Applying { device, .. }) = self.inbox.applying.take() {
                    self.inbox.handled += 1;
                    // What comes by another way is still sent: other entries may build on it.
                    self.stopped.insert(device);
                    self.events.push_back(Event::Refused { device, code, message });
                }
            }
            Reply::Forked(fork) => {
                if self.inbox.applying.take().is_some() {
                    self.inbox.handled += 1;
                }
                self.stop_forked(fork);
            }
            Reply::AcksStored { new } => {
                self.acks.stored();
                if !new.is_empty() {
                    self.events.push_back(Event::Acks(new));
                }
            }
            Reply::Wanted { .. } | Reply::Supply { .. } | Reply::Supplied { .. } => {
                self.take_lacking(now, reply);
            }
            Reply::Failed { message } => return Err(FrameError::new(CloseCode::Storage, message)),
        }
        Ok(())
    }

    fn take_read(
        &mut self,
        now: Timestamp,
        position: Position,
        batch: Option<Box<Batch>>,
    ) -> Result<(), FrameError> {
        let was_stale = self.outbox.walk == Walk::Reading { is_stale: true };
        self.outbox.position = position;
        self.outbox.walk = if batch.is_some() { Walk::Due } else { Walk::Idle };
        let Some(batch) = batch else {
            if !self.outbox.caught_up && self.stage == Stage::Open {
                self.outbox.caught_up = true;
                if !self.lacking.hold_caught_up() {
                    let frame = Frame::CaughtUp.encode();
                    self.send(What::Other, frame);
                }
            }
            if was_stale {
                self.schedule_push(now);
            }
            return Ok(());
        };
        let device = batch.device;
        let size = size_after(&batch);
        // The peer may have got it elsewhere while storage read it.
        let known = self.peer_has.get(&device).copied();
        let is_known = size <= known;
        // Nor does it lack what it wrote itself, beyond what its frontiers showed.
        let is_own = Some(device) == self.peer && self.outbox.caught_up;
        if is_known || is_own || self.stage != Stage::Open {
            return Ok(());
        }
        raise(&mut self.peer_has, device, size.unwrap_or(0));
        // And by it the peer learns that it is held here.
        raise(&mut self.told, device, size.unwrap_or(0));
        raise(&mut self.held, device, size.unwrap_or(0));
        let entries = batch.entries.len();
        let frame = Frame::Batch(batch).encode();
        if frame.len() > self.config.frame_bytes_max {
            let message = format!("a transaction of {device} does not fit into a frame");
            return Err(FrameError::new(CloseCode::Internal, message));
        }
        self.outbox.sent += 1;
        self.outbox.bytes_target = (2 * self.outbox.bytes_target).min(BATCH_BYTES_TARGET);
        self.send(What::Batch(device, entries), frame);
        Ok(())
    }
}

/// What follows from what was handled.
impl Session {
    fn proceed(&mut self) {
        if self.stage == Stage::Closed {
            return;
        }
        self.read_on();
        if self.opening.checked && self.inbox.applying.is_none() {
            self.apply_next();
        }
        if let Some(acks) = self.acks.take_incoming() {
            self.requests.push_back(Request::StoreAcks { acks });
        }
        self.ask_on();
        self.note_caught_up();
        let drained = self.inbox.in_flight() == 0 && self.acks.is_settled();
        if let Stage::Draining { code, message } = &self.stage
            && drained
        {
            let (code, message) = (*code, message.clone());
            self.end(code, &message, true);
        }
    }

    /// Storage answered one of the two questions at the beginning. Once it has answered both, in
    /// whichever order, there is something to say.
    fn go_live(&mut self) {
        if self.is_live() {
            self.walk_on();
            self.look_for_lacking();
        }
    }

    fn walk_on(&mut self) {
        if self.is_live() && self.outbox.walk == Walk::Idle {
            self.outbox.walk = Walk::Due;
        }
    }

    fn read_on(&mut self) {
        let queued = self.transmits.iter().filter(|outgoing| outgoing.is_batch()).count();
        if self.is_live() && self.outbox.walk == Walk::Due && queued < QUEUED_MAX {
            self.outbox.walk = Walk::Reading { is_stale: false };
            self.requests.push_back(Request::ReadBatch {
                after: self.outbox.position,
                have: self.peer_has.clone(),
                epochs: self.epochs.clone(),
                bytes_target: self.outbox.bytes_target,
            });
        }
    }

    fn apply_next(&mut self) {
        while let Some(Received { batch, bytes }) = self.inbox.waiting.pop_front() {
            let device = batch.device;
            if self.stopped.contains(&device) {
                self.inbox.handled += 1;
                continue;
            }
            let (entries, bytes_held) = (batch.entries.len(), batch.bytes_held());
            self.inbox.applying = Some(Applying { device, entries, bytes, bytes_held });
            let more = !self.inbox.waiting.is_empty();
            self.requests.push_back(Request::Apply { batch, more });
            return;
        }
    }

    fn note_caught_up(&mut self) {
        let now = self.outbox.caught_up
            && self.inbox.peer_caught_up
            && self.outbox.sent == self.outbox.peer_handled
            && self.inbox.received == self.inbox.handled
            && self.acks.is_settled()
            && !self.lacking.is_open();
        if now && !self.is_caught_up {
            self.events.push_back(Event::CaughtUp);
        }
        self.is_caught_up = now;
    }

    /// Progress and acknowledgements, if the peer lacks any.
    fn progress_frame(&mut self) -> Option<Vec<u8>> {
        let held_back = u64::from(self.lacking.holds_back());
        let handled = self.inbox.handled.saturating_sub(held_back).max(self.handled_told);
        let news = self.acks.has_outgoing() || self.handled_told < handled;
        if !self.opening.sent || self.is_deaf || !news {
            return None;
        }
        self.handled_told = handled;
        let acks = Acks { handled, acks: self.acks.take_outgoing() };
        Some(Frame::Acks(acks).encode())
    }

    fn offer_acks(&mut self, acks: Vec<Ack>) {
        for ack in acks.iter().filter(|ack| ack.acker == self.config.me) {
            raise(&mut self.told, ack.device, ack.size);
        }
        self.acks.offer(acks);
    }

    fn send(&mut self, what: What, mut frame: Vec<u8>) {
        // It was made without knowing how long it would become.
        frame.shrink_to_fit();
        self.transmits.push_back(Outgoing { frame, what });
    }

    /// Whether this has yet to be taken by the transport.
    fn is_queued(&self, what: What) -> bool {
        self.transmits.iter().any(|outgoing| outgoing.what == what)
    }

    fn schedule_push(&mut self, now: Timestamp) {
        if self.outbox.push_at.is_none() {
            // xorshift64 (Marsaglia 2003). Sessions that hear of one commit together push a
            // little apart, so that the first can spare the others the trouble.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let most = self.config.push_coalesce_ms;
            let wait = most / 2 + self.random % (most - most / 2 + 1);
            self.outbox.push_at = Some(Timestamp(now.0.saturating_add(wait)));
        }
    }

    /// Nothing of this log is sent or taken any more.
    fn stop_forked(&mut self, fork: Fork) {
        self.peer_has.insert(fork.device, u64::MAX);
        if self.stopped.insert(fork.device) {
            self.events.push_back(Event::Forked(fork));
        }
    }

    fn end(&mut self, code: CloseCode, message: &str, by_peer: bool) {
        let message = shortened(message).to_owned();
        self.stage = Stage::Closed;
        self.requests.clear();
        self.messages.clear();
        self.inbox.waiting.clear();
        self.transmits.retain(|outgoing| !outgoing.is_batch());
        if self.is_deaf {
            self.transmits.clear();
        } else {
            let frame = Frame::Close { code, message: message.clone() }.encode();
            self.send(What::Other, frame);
        }
        self.events.push_back(Event::Closed { code, message, by_peer });
    }
}

/// The size of the batch's log once it is applied. `None`: beyond all numbers.
fn size_after(batch: &Batch) -> Option<u64> {
    let entries = u64::try_from(batch.entries.len()).ok()?;
    batch.first_seq.checked_sub(1)?.checked_add(entries)
}

fn raise(sizes: &mut BTreeMap<DeviceId, u64>, device: DeviceId, size: u64) {
    let known = sizes.entry(device).or_insert(0);
    *known = size.max(*known);
}

/// Batches read and not yet taken by the transport.
const QUEUED_MAX: usize = 2;
