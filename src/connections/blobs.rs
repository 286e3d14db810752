//! Drives one blob stream: the state machine of `larder_protocol` between a stream and storage.
//!
//! Memory: what the state machine states, and one frame on its way in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{BlobAnswer, NewChunk};
use larder_protocol::{
    BLOB_FRAME_BYTES_MAX, BlobEvent, BlobReply, BlobRequest, BlobSession, Keeps, Side,
};
use larder_transport::{FrameReceiver, FrameStream};
use larder_types::limits::IDLE_MS_MAX;
use larder_types::{CloseCode, Hash, SpaceName, TransportId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::session::{Sending, send_all};
use super::talk::Pass;
use crate::blobs::{CLAIM_SILENT_MAX, Turn};
use crate::error::blocking;
use crate::node::{Node, OpenSpace};
use crate::{BlobTraffic, Event, NetworkPolicy, Result};

/// What a blob stream belongs to.
pub(super) struct Context {
    pub(super) node: Arc<Node>,
    pub(super) space: Arc<OpenSpace>,
    pub(super) peer: TransportId,
    pub(super) side: Side,
    pub(super) pass: Pass,
    /// True, or gone, once the session about the log has brought all that there was.
    pub(super) settles: watch::Receiver<bool>,
}

/// Exchanges chunks until both sides want nothing more (one pass), or until the stream ends.
/// Whatever the peer does, what was stored stays.
pub(super) async fn run(context: Context, mut stream: FrameStream) -> (SpaceName, BlobTraffic) {
    stream.yield_to_others();
    let (node, peer) = (context.node.clone(), context.peer);
    let space = context.space.reader.name().clone();
    let mut driver = Driver::new(context, stream);
    driver.drive().await;
    if let Some((code, message)) = driver.failed.take()
        && !node.is_stopped()
    {
        let message = format!("blobs are exchanged no further: {code} ({message})");
        let space = Some(space.clone());
        node.tell(Event::SyncFailed { space, peer: Some(peer), message });
    }
    let traffic = driver.finish().await;
    (space, traffic)
}

struct Driver {
    context: Context,
    session: BlobSession,
    turn: Turn,
    changed: watch::Receiver<u64>,
    ticks: watch::Receiver<u64>,
    policy: watch::Receiver<NetworkPolicy>,
    receiver: FrameReceiver,
    frames: mpsc::Sender<Vec<u8>>,
    sending: Sending,
    reads: JoinSet<BlobReply>,
    /// Arrived, and not yet handed to the writer.
    arrived: VecDeque<(Hash, Vec<u8>)>,
    stores: JoinSet<(usize, Result<()>)>,
    may_transmit: bool,
    has_ended: bool,
    is_settled: bool,
    /// When a chunk came or went last, or before there was any to be had a frame.
    moved: Instant,
    /// Bytes that had come when it was last looked, and when it is looked next.
    heard: u64,
    heard_at: Instant,
    /// Chunks sent, and after how many more it is looked whether they can have been of use.
    served: u64,
    served_max: u64,
    stored: (u64, u64),
    /// When the peer is asked anew what it has of what is kept until somebody has it.
    kept_at: Option<Instant>,
    traffic: BlobTraffic,
    failed: Option<(CloseCode, String)>,
}

impl Driver {
    fn new(context: Context, stream: FrameStream) -> Self {
        let (sender, receiver) = stream.split();
        let (frames, queue) = mpsc::channel(1);
        let traffic = &context.space.blobs;
        // Subscribed before the session first reads what is wanted, so that nothing falls between.
        let (changed, ticks) = (context.space.changed.subscribe(), traffic.subscribe());
        let policy = context.node.channels.policy.subscribe();
        let turn = traffic.turn(context.node.network.number());
        Self {
            context,
            session: BlobSession::new(),
            turn,
            changed,
            ticks,
            policy,
            receiver,
            frames,
            sending: Sending(tokio::spawn(send_all(sender, queue))),
            reads: JoinSet::new(),
            arrived: VecDeque::new(),
            stores: JoinSet::new(),
            may_transmit: true,
            has_ended: false,
            is_settled: false,
            moved: Instant::now(),
            heard: 0,
            heard_at: Instant::now(),
            served: 0,
            served_max: SERVED_MAX,
            stored: (0, 0),
            kept_at: None,
            traffic: BlobTraffic::default(),
            failed: None,
        }
    }

    async fn drive(&mut self) {
        let node = Arc::clone(&self.context.node);
        let mut stopped = std::pin::pin!(node.stopped());
        let mut is_stopping = false;
        let frames = self.frames.clone();
        loop {
            self.poll();
            if self.session.is_closed() && !self.may_transmit && self.stores.is_empty() {
                return;
            }
            // A live stream may be silent for as long as it likes: the connection is not.
            let waits = !self.is_settled || self.ends_with_log();
            let is_waiting = self.context.pass != Pass::Live && self.is_settled;
            let until = match self.context.pass {
                Pass::Until(until) if !self.session.is_closed() => Some(until),
                _ => None,
            };
            tokio::select! {
                place = frames.reserve(), if self.may_transmit => match place {
                    Ok(place) => match self.session.poll_transmit() {
                        Some(frame) => {
                            self.traffic.bytes_out += frame.len() as u64;
                            place.send(frame);
                        }
                        None => self.may_transmit = false,
                    },
                    Err(_) => return,
                },
                frame = self.receiver.recv(BLOB_FRAME_BYTES_MAX), if !self.has_ended => {
                    if !self.is_settled {
                        self.moved = Instant::now();
                    }
                    match frame {
                        Ok(Some(frame)) => self.session.handle_frame(&frame),
                        Err(larder_transport::Error::FrameTooLarge { len, .. }) => {
                            self.has_ended = true;
                            let message = format!("a frame of {len} bytes");
                            self.session.close(CloseCode::LimitExceeded, &message);
                        }
                        // With the connection, in order or not: the session about the log says.
                        Ok(None) | Err(_) => return,
                    }
                    self.may_transmit = true;
                }
                Some(reply) = self.reads.join_next() => {
                    let failed = |e: tokio::task::JoinError| {
                        BlobReply::Failed { message: e.to_string() }
                    };
                    let reply = reply.unwrap_or_else(failed);
                    if matches!(reply, BlobReply::Chunk { sealed: Some(_) }) {
                        self.serve().await;
                    }
                    self.session.handle_reply(reply);
                    self.may_transmit = true;
                }
                Some(stored) = self.stores.join_next() => {
                    let stored = stored.unwrap_or_else(|e| {
                        (0, Err(crate::Error::Internal(e.to_string())))
                    });
                    self.take_stored(stored);
                }
                // The senders are in `self.context.space`.
                Ok(()) = self.changed.changed() => {
                    self.kept_at.get_or_insert_with(|| Instant::now() + KEPT_EVERY);
                    self.look_again();
                }
                () = sleep_until(self.kept_at.unwrap_or(self.moved)), if self.kept_at.is_some() => {
                    self.kept_at = None;
                    self.session.handle_kept();
                    self.may_transmit = true;
                }
                Ok(()) = self.ticks.changed() => self.look_again(),
                Ok(()) = self.policy.changed() => self.look_again(),
                () = settled(&mut self.context.settles, self.is_settled), if waits => {
                    if self.is_settled {
                        // The session about the log is over, and with it what this one is for.
                        self.session.close(CloseCode::Done, "");
                    } else {
                        self.is_settled = true;
                        self.turn.look();
                        self.session.handle_settled();
                    }
                    self.may_transmit = true;
                }
                // What came until then is kept.
                () = sleep_until(until.unwrap_or(self.moved)), if until.is_some() => {
                    self.session.close(CloseCode::Done, "");
                    self.may_transmit = true;
                }
                () = sleep_until(self.moved + STALLED), if is_waiting => {
                    // Not the peer's fault where this side waits for another one.
                    let is_waiting = self.session.is_idle() && self.turn.is_waiting();
                    let code = if is_waiting { CloseCode::Done } else { CloseCode::TimedOut };
                    self.session.close(code, "");
                    self.may_transmit = true;
                }
                () = sleep_until(self.heard_at), if self.turn.has_open() => self.listen(),
                () = &mut stopped, if !is_stopping => {
                    is_stopping = true;
                    self.session.close(CloseCode::ShuttingDown, "");
                    self.may_transmit = true;
                }
            }
        }
    }

    /// A stream that hears something keeps what it asked for; one that waits for what another
    /// asked for looks whether that one has fallen silent.
    fn listen(&mut self) {
        let now = Instant::now();
        self.heard_at = now + CLAIM_SILENT_MAX / 2;
        let heard = self.receiver.bytes_received();
        if std::mem::replace(&mut self.heard, heard) != heard {
            self.turn.moved(now);
        }
        if self.turn.is_passed_over(now) {
            self.look_again();
        }
    }

    fn ends_with_log(&self) -> bool {
        let Context { side, pass, .. } = self.context;
        side == Side::Connector && pass == Pass::Live && !self.session.is_closed()
    }

    fn look_again(&mut self) {
        self.turn.look();
        self.session.handle_changed();
        self.may_transmit = true;
    }

    /// Takes what the state machine says.
    fn poll(&mut self) {
        while let Some(request) = self.session.poll_request() {
            if let BlobRequest::StoreChunk { digest, sealed } = request {
                self.arrived.push_back((digest, sealed));
                continue;
            }
            let (space, peer) = (Arc::clone(&self.context.space), self.context.peer);
            let claims = self.turn.claims();
            // On a network that costs, only what somebody asked for.
            let eager = *self.policy.borrow() == NetworkPolicy::Free;
            self.reads.spawn(async move {
                let reader = space.reader.clone();
                let answer = blocking(move || {
                    Ok(reader.answer_blobs(&peer, request, eager, &mut |digest| {
                        claims.take(digest, Instant::now())
                    }))
                });
                match answer.await {
                    Ok(BlobAnswer::Reply(reply)) => reply,
                    Ok(BlobAnswer::Store(_)) => BlobReply::Stored,
                    Ok(BlobAnswer::Release(keeps)) => release(&space, peer, keeps).await,
                    Err(error) => BlobReply::Failed { message: error.to_string() },
                }
            });
        }
        // One transaction at a time, of all that arrived meanwhile.
        if self.stores.is_empty() && !self.arrived.is_empty() {
            let chunks = std::mem::take(&mut self.arrived);
            let space = Arc::clone(&self.context.space);
            self.stores.spawn(async move { (chunks.len(), store(&space, chunks).await) });
        }
        while let Some(event) = self.session.poll_event() {
            self.note(event);
        }
        if !self.session.is_resting() || self.session.is_closed() {
            return;
        }
        self.rest();
        let is_done = self.context.pass != Pass::Live && self.session.is_idle();
        // What another stream asks for in vain may be here.
        if is_done && !self.turn.is_waiting() {
            self.session.close(CloseCode::Done, "");
            self.may_transmit = true;
        }
    }

    fn note(&mut self, event: BlobEvent) {
        match event {
            BlobEvent::Stored { digest, bytes } => {
                self.turn.release(&digest);
                self.traffic.chunks_in += 1;
                self.stored.0 += 1;
                self.stored.1 += bytes as u64;
            }
            BlobEvent::Lacked { digest } => self.turn.lacks(&digest),
            BlobEvent::Holds { digests } => self.turn.holds(&digests),
            // Asked for in `poll`.
            BlobEvent::Idle => {}
            BlobEvent::Closed { code, message, by_peer } => {
                let is_fine = matches!(code, CloseCode::Done | CloseCode::ShuttingDown);
                if !is_fine {
                    let by = if by_peer { "the other device" } else { "this device" };
                    self.failed = Some((code, format!("by {by}: {message}")));
                }
            }
        }
    }

    /// A chunk goes to the peer. In one pass it may have each a few times over, and no more: it
    /// would keep this device busy for as long as it likes.
    async fn serve(&mut self) {
        self.moved = Instant::now();
        self.served += 1;
        self.traffic.chunks_out += 1;
        if self.context.pass == Pass::Live || self.served <= self.served_max {
            return;
        }
        let reader = self.context.space.reader.clone();
        match blocking(move || reader.held_chunk_count()).await {
            Ok(held) if self.served <= SERVED_MAX.saturating_add(held.saturating_mul(2)) => {
                self.served_max = SERVED_MAX.saturating_add(held.saturating_mul(2));
            }
            Ok(_) => self.session.close(CloseCode::LimitExceeded, "the same chunks over and over"),
            Err(error) => self.session.close(CloseCode::Storage, &error.to_string()),
        }
    }

    fn take_stored(&mut self, (count, result): (usize, Result<()>)) {
        match result {
            Ok(()) => {
                self.moved = Instant::now();
                for _ in 0..count {
                    self.session.handle_reply(BlobReply::Stored);
                }
                self.context.space.blobs.arrived();
            }
            Err(error) => {
                self.session.handle_reply(BlobReply::Failed { message: error.to_string() });
            }
        }
        self.may_transmit = true;
    }

    /// Nothing more is wanted of this peer for now.
    fn rest(&mut self) {
        self.turn.rest();
        let (chunks, bytes) = std::mem::take(&mut self.stored);
        if chunks > 0 {
            let (space, peer) = (self.context.space.reader.name().clone(), self.context.peer);
            self.context.node.tell(Event::BlobsReceived { space, peer, chunks, bytes });
            // Others may have asked for it in vain.
            self.context.space.blobs.tick();
        }
    }

    async fn finish(self) -> BlobTraffic {
        let Self { mut receiver, frames, mut sending, mut traffic, .. } = self;
        drop(frames);
        let ended = async {
            let _ = (&mut sending.0).await;
            while matches!(receiver.recv(BLOB_FRAME_BYTES_MAX).await, Ok(Some(_))) {}
        };
        // A peer that does not follow is not waited for.
        let _ = timeout(FINISH_WAIT, ended).await;
        traffic.bytes_in = receiver.bytes_received();
        traffic
    }
}

async fn store(space: &Arc<OpenSpace>, chunks: VecDeque<(Hash, Vec<u8>)>) -> Result<()> {
    let reader = space.reader.clone();
    let opened: Vec<NewChunk> = blocking(move || {
        chunks.into_iter().map(|(digest, sealed)| reader.open_received(digest, sealed)).collect()
    })
    .await?;
    space.writer()?.with(move |writer| writer.store_chunks(&opened).map(drop)).await
}

/// Lets go of what was kept until another device had it: the peer has.
async fn release(space: &Arc<OpenSpace>, peer: TransportId, keeps: Keeps) -> BlobReply {
    let released = match space.writer() {
        Ok(writer) => writer.with(move |writer| writer.release_kept(&peer, &keeps)).await,
        Err(error) => Err(error),
    };
    match released {
        Ok(()) => BlobReply::Released,
        Err(error) => BlobReply::Failed { message: error.to_string() },
    }
}

/// Waits until the session about the log has brought everything, or if it has, until it is over.
async fn settled(settles: &mut watch::Receiver<bool>, is_settled: bool) {
    if is_settled {
        while settles.changed().await.is_ok() {}
    } else {
        // Fails only if the session is over.
        let _ = settles.wait_for(|settled| *settled).await;
    }
}

/// Chunks that a peer may have in one pass besides each of them twice.
const SERVED_MAX: u64 = 4096;
/// How long no chunk may come or go while one pass waits for the peer.
const STALLED: Duration = Duration::from_millis(IDLE_MS_MAX);
/// How long after a change the peer is asked about what is kept: it may be asked about much.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// How long the peer may take to end its side.
const FINISH_WAIT: Duration = Duration::from_secs(5);
