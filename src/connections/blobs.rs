//! Drives one blob stream: the state machine of `larder_protocol` between a stream and storage.
//!
//! Memory: what the state machine states, and one frame on its way in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{BlobAnswer, NewChunk};
use larder_protocol::{BLOB_FRAME_BYTES_MAX, BlobEvent, BlobReply, BlobRequest, BlobSession, Side};
use larder_transport::{FrameReceiver, FrameStream};
use larder_types::limits::IDLE_MS_MAX;
use larder_types::{CloseCode, Hash, TransportId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::session::{Sending, send_all};
use super::talk::Pass;
use crate::blobs::Turn;
use crate::error::blocking;
use crate::node::{Node, OpenSpace};
use crate::{Event, Result};

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
pub(super) async fn run(context: Context, mut stream: FrameStream) {
    stream.yield_to_others();
    let (node, space, peer) = (context.node.clone(), context.space.clone(), context.peer);
    let mut driver = Driver::new(context, stream);
    driver.drive().await;
    if let Some((code, message)) = driver.failed.take()
        && !node.is_stopped()
    {
        let message = format!("blobs are exchanged no further: {code} ({message})");
        let space = Some(space.reader.name().clone());
        node.tell(Event::SyncFailed { space, peer: Some(peer), message });
    }
    driver.finish().await;
}

struct Driver {
    context: Context,
    session: BlobSession,
    turn: Turn,
    changed: watch::Receiver<u64>,
    ticks: watch::Receiver<u64>,
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
    /// Since the last frame from the peer.
    heard: Instant,
    stored: (u64, u64),
    failed: Option<(CloseCode, String)>,
}

impl Driver {
    fn new(context: Context, stream: FrameStream) -> Self {
        let (sender, receiver) = stream.split();
        let (frames, queue) = mpsc::channel(1);
        let traffic = &context.space.blobs;
        // Subscribed before the session first reads what is wanted, so that nothing falls between.
        let (changed, ticks) = (context.space.changed.subscribe(), traffic.subscribe());
        let turn = traffic.turn(context.node.network.number());
        Self {
            context,
            session: BlobSession::new(),
            turn,
            changed,
            ticks,
            receiver,
            frames,
            sending: Sending(tokio::spawn(send_all(sender, queue))),
            reads: JoinSet::new(),
            arrived: VecDeque::new(),
            stores: JoinSet::new(),
            may_transmit: true,
            has_ended: false,
            is_settled: false,
            heard: Instant::now(),
            stored: (0, 0),
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
                        Some(frame) => place.send(frame),
                        None => self.may_transmit = false,
                    },
                    Err(_) => return,
                },
                frame = self.receiver.recv(BLOB_FRAME_BYTES_MAX), if !self.has_ended => {
                    self.heard = Instant::now();
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
                    self.session.handle_reply(reply.unwrap_or_else(failed));
                    self.may_transmit = true;
                }
                Some(stored) = self.stores.join_next() => {
                    let stored = stored.unwrap_or_else(|e| {
                        (0, Err(crate::Error::Internal(e.to_string())))
                    });
                    self.take_stored(stored);
                }
                // The senders are in `self.context.space`.
                Ok(()) = self.changed.changed() => self.look_again(),
                Ok(()) = self.ticks.changed() => self.look_again(),
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
                () = sleep_until(until.unwrap_or(self.heard)), if until.is_some() => {
                    self.session.close(CloseCode::Done, "");
                    self.may_transmit = true;
                }
                () = sleep_until(self.heard + STALLED), if is_waiting => {
                    self.session.close(CloseCode::TimedOut, "");
                    self.may_transmit = true;
                }
                () = &mut stopped, if !is_stopping => {
                    is_stopping = true;
                    self.session.close(CloseCode::ShuttingDown, "");
                    self.may_transmit = true;
                }
            }
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
            self.reads.spawn(async move {
                let reader = space.reader.clone();
                let answer = blocking(move || {
                    Ok(reader.answer_blobs(&peer, request, &mut |digest| claims.take(digest)))
                });
                match answer.await {
                    Ok(BlobAnswer::Reply(reply)) => reply,
                    Ok(BlobAnswer::Store(_)) => BlobReply::Stored,
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
        if self.session.is_resting() {
            self.rest();
        }
    }

    fn note(&mut self, event: BlobEvent) {
        match event {
            BlobEvent::Stored { digest, bytes } => {
                self.turn.release(&digest);
                self.stored.0 += 1;
                self.stored.1 += bytes as u64;
            }
            BlobEvent::Lacked { digest } => self.turn.release(&digest),
            BlobEvent::Idle => {
                if self.context.pass != Pass::Live {
                    self.session.close(CloseCode::Done, "");
                    self.may_transmit = true;
                }
            }
            BlobEvent::Closed { code, message, by_peer } => {
                let is_fine = matches!(code, CloseCode::Done | CloseCode::ShuttingDown);
                if !is_fine {
                    let by = if by_peer { "the other device" } else { "this device" };
                    self.failed = Some((code, format!("by {by}: {message}")));
                }
            }
        }
    }

    fn take_stored(&mut self, (count, result): (usize, Result<()>)) {
        match result {
            Ok(()) => {
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

    async fn finish(self) {
        let Self { mut receiver, frames, mut sending, .. } = self;
        drop(frames);
        let ended = async {
            let _ = (&mut sending.0).await;
            while matches!(receiver.recv(BLOB_FRAME_BYTES_MAX).await, Ok(Some(_))) {}
        };
        // A peer that does not follow is not waited for.
        let _ = timeout(FINISH_WAIT, ended).await;
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

/// Waits until the session about the log has brought everything, or if it has, until it is over.
async fn settled(settles: &mut watch::Receiver<bool>, is_settled: bool) {
    if is_settled {
        while settles.changed().await.is_ok() {}
    } else {
        // Fails only if the session is over.
        let _ = settles.wait_for(|settled| *settled).await;
    }
}

/// How long a peer may say nothing while one pass waits for it.
const STALLED: Duration = Duration::from_millis(IDLE_MS_MAX);
/// How long the peer may take to end its side.
const FINISH_WAIT: Duration = Duration::from_secs(5);
