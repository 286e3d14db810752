//! Drives one session: the state machine of `larder_protocol` between a stream, storage and a
//! clock.
//!
//! Memory: what the state machine states, one frame on its way out, and one on its way in.

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Ack, Answer};
use larder_protocol::{Config, Event as SessionEvent, Fork, Opens, Reply, Request, Session};
use larder_transport::{FrameReceiver, FrameSender, FrameStream};
use larder_types::limits::FRAME_BYTES_MAX;
use larder_types::{CloseCode, Timestamp, TransportId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::talk::Pass;
use crate::error::blocking;
use crate::metrics;
use crate::node::{Node, OpenSpace};
use crate::system::OsEntropy;
use crate::{BlobTraffic, Error, Event, Result, SpaceReport, security};

/// Of one end of a session: with whom, how long it lasts, and what it begins with.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) peer: TransportId,
    pub(super) pass: Pass,
    pub(super) opens: Opens,
}

/// Runs a session about `space` to its end. Whatever the peer does, this ends with a report or an
/// error, and what was durable stays.
pub(super) async fn run(
    node: Arc<Node>,
    space: Arc<OpenSpace>,
    end: End,
    stream: FrameStream,
    settled: watch::Sender<bool>,
) -> Result<SpaceReport> {
    let (name, peer) = (space.reader.name().clone(), end.peer);
    let reader = space.reader.clone();
    let mut driver = Driver::new(Arc::clone(&node), space, end, stream, settled);
    let span = tracing::debug_span!("session", number = driver.number);
    let result = match driver.drive().instrument(span.clone()).await {
        Ok(()) => driver.finish().instrument(span).await,
        Err(error) => {
            metrics::session_ended("Cut", &peer, &driver.report);
            Err(error)
        }
    };
    reader.session_over();
    if let Err(error) = &result
        && !node.is_stopped()
    {
        let message = error.to_string();
        node.tell(Event::SyncFailed { space: Some(name), peer: Some(peer), message });
    }
    result
}

struct Driver {
    node: Arc<Node>,
    space: Arc<OpenSpace>,
    peer: TransportId,
    pass: Pass,
    /// Told once both sides have had everything; gone with this session.
    settled: watch::Sender<bool>,
    number: u64,
    session: Session,
    /// Sessions only measure durations: their zero is the moment they begin.
    begun: Instant,
    receiver: FrameReceiver,
    frames: mpsc::Sender<Vec<u8>>,
    sending: Sending,
    replies: JoinSet<Reply>,
    changed: watch::Receiver<u64>,
    acks: broadcast::Receiver<(u64, Vec<Ack>)>,
    /// What the app says to the devices that are there.
    messages: broadcast::Receiver<Arc<Vec<u8>>>,
    /// Bytes that had come when it was last looked.
    heard: u64,
    /// The state machine may have a frame to send.
    may_transmit: bool,
    has_ended: bool,
    closed: Option<Closed>,
    report: SpaceReport,
}

struct Closed {
    code: CloseCode,
    message: String,
    by_peer: bool,
}

/// The task that writes frames: a frame half written must be written to its end, while the session
/// goes on reading.
pub(super) struct Sending(pub(super) JoinHandle<(u64, larder_transport::Result<()>)>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn send_all(
    mut sender: FrameSender,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> (u64, larder_transport::Result<()>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = sender.send(&frame).await {
            return (sender.bytes_sent(), Err(error));
        }
    }
    let finished = sender.finish().await;
    (sender.bytes_sent(), finished)
}

impl Driver {
    fn new(
        node: Arc<Node>,
        space: Arc<OpenSpace>,
        end: End,
        stream: FrameStream,
        settled: watch::Sender<bool>,
    ) -> Self {
        let End { peer, pass, opens } = end;
        let (sender, receiver) = stream.split();
        let (frames, queue) = mpsc::channel(1);
        // Subscribed before the session first reads what is held, so that nothing falls between.
        let (changed, acks) = (space.changed.subscribe(), space.acks.subscribe());
        let messages = space.said.subscribe();
        let reader = &space.reader;
        let mut config = Config::new(reader.device());
        config.opens = opens;
        let session =
            Session::new(config, reader.id(), reader.peer_device(&peer), OsEntropy::bytes());
        let report = SpaceReport {
            space: reader.name().clone(),
            entries_in: 0,
            entries_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            caught_up: false,
            left_in: 0,
            left_out: 0,
            blobs: BlobTraffic::default(),
        };
        Self {
            number: node.network.number(),
            node,
            space,
            peer,
            pass,
            settled,
            session,
            begun: Instant::now(),
            receiver,
            frames,
            sending: Sending(tokio::spawn(send_all(sender, queue))),
            replies: JoinSet::new(),
            changed,
            acks,
            messages,
            heard: 0,
            may_transmit: true,
            has_ended: false,
            closed: None,
            report,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Until the session is closed, by either side, and has nothing left to say.
    async fn drive(&mut self) -> Result<()> {
        let node = Arc::clone(&self.node);
        let mut stopped = std::pin::pin!(node.stopped());
        let mut is_stopping = false;
        let until = match self.pass {
            Pass::Until(until) => Some(until),
            Pass::Once | Pass::Live => None,
        };
        loop {
            self.poll();
            if self.closed.is_some() && !self.may_transmit {
                return Ok(());
            }
            let deadline = self.deadline();
            tokio::select! {
                place = self.frames.reserve(), if self.may_transmit => match place {
                    Ok(place) => match self.session.poll_transmit() {
                        Some(frame) => place.send(frame),
                        None => self.may_transmit = false,
                    },
                    // The peer reads no more: what it said before may tell why.
                    Err(_) => break,
                },
                frame = self.receiver.recv(FRAME_BYTES_MAX), if self.reads() => match frame {
                    Ok(Some(frame)) => {
                        let now = self.now();
                        self.session.handle_frame(now, &frame);
                        self.may_transmit = true;
                    }
                    Ok(None) => {
                        self.has_ended = true;
                        if !self.session.is_closed() {
                            return Err(super::talk::gone());
                        }
                    }
                    Err(larder_transport::Error::FrameTooLarge { len, .. }) => {
                        self.has_ended = true;
                        let message = format!("a frame of {len} bytes");
                        self.session.close(CloseCode::LimitExceeded, &message);
                        self.may_transmit = true;
                    }
                    Err(error) => return Err(error.into()),
                },
                Some(reply) = self.replies.join_next() => {
                    let now = self.now();
                    let reply = reply.unwrap_or_else(|e| Reply::Failed { message: e.to_string() });
                    self.share_acks(&reply);
                    self.session.handle_reply(now, reply);
                    self.may_transmit = true;
                }
                // The sender is in `self.space`.
                Ok(()) = self.changed.changed() => {
                    self.session.handle_local_commit(self.now());
                    self.may_transmit = true;
                }
                news = self.acks.recv() => match news {
                    Ok((from, acks)) if from != self.number => {
                        self.session.handle_acks(acks);
                        self.may_transmit = true;
                    }
                    // What is missed goes out with the next session.
                    Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => {}
                },
                // What a slow session misses is gone, as with all that is not stored.
                Ok(sealed) = self.messages.recv() => {
                    let source = self.space.reader.source();
                    if source.is_ok_and(|source| source.may_hear(&self.peer)) {
                        self.session.handle_message(self.now(), sealed.to_vec());
                        self.may_transmit = true;
                    }
                }
                () = sleep_until(deadline.unwrap_or(self.begun)), if deadline.is_some() => {
                    let heard = self.receiver.bytes_received();
                    if self.receiver.bytes_partial() > 0 && heard > self.heard {
                        self.session.handle_arriving();
                    }
                    self.heard = heard;
                    self.session.handle_timeout(self.now());
                    self.may_transmit = true;
                }
                () = sleep_until(until.unwrap_or(self.begun)),
                    if until.is_some() && !is_stopping =>
                {
                    is_stopping = true;
                    self.session.close(CloseCode::Done, "");
                    self.may_transmit = true;
                }
                () = &mut stopped, if !is_stopping => {
                    is_stopping = true;
                    self.session.close(CloseCode::ShuttingDown, "");
                    self.may_transmit = true;
                }
            }
        }
        self.broken().await
    }

    fn reads(&self) -> bool {
        !self.has_ended && self.session.wants_frame()
    }

    fn deadline(&self) -> Option<Instant> {
        let at = self.session.poll_timeout()?;
        // Rounded up, or a timer that fires within the same millisecond would be too early.
        Some(self.begun + Duration::from_millis(at.0.saturating_add(1)))
    }

    /// Takes what the state machine says.
    fn poll(&mut self) {
        while let Some(request) = self.session.poll_request() {
            let (space, peer) = (Arc::clone(&self.space), self.peer);
            self.replies.spawn(answer(space, peer, request));
        }
        while let Some(event) = self.session.poll_event() {
            self.note(event);
        }
    }

    fn note(&mut self, event: SessionEvent) {
        let (space, peer) = (self.space.reader.name().clone(), self.peer);
        match event {
            SessionEvent::CaughtUp => {
                if !std::mem::replace(&mut self.report.caught_up, true) {
                    metrics::caught_up(self.begun);
                }
                self.settled.send_replace(true);
                self.node.tell(Event::CaughtUp { space, peer });
                if self.pass != Pass::Live {
                    self.session.close(CloseCode::Done, "");
                    self.may_transmit = true;
                    // What closing says is taken up at once.
                    self.poll();
                }
            }
            SessionEvent::Received { entries, .. } => {
                let entries = entries as u64;
                self.report.entries_in += entries;
                self.node.tell(Event::Received { space, peer, entries });
            }
            SessionEvent::Sent { entries, .. } => {
                let entries = entries as u64;
                self.report.entries_out += entries;
                self.node.tell(Event::Sent { space, peer, entries });
            }
            SessionEvent::Forked(Fork { device, .. }) => {
                self.node.tell(Event::Forked { space, device });
            }
            SessionEvent::Refused { device, code, message } => {
                security::session_ended(&self.node, &self.space.reader, &peer, code);
                let message = format!("the log of {device} goes no further: {code} ({message})");
                self.node.tell(Event::SyncFailed { space: Some(space), peer: Some(peer), message });
            }
            SessionEvent::Message(sealed) => {
                let source = self.space.reader.source().ok();
                if let Some(message) = source.and_then(|it| it.open_message(&peer, &sealed)) {
                    // Fails only if nobody listens.
                    let _ = self.space.heard.send(message);
                }
            }
            SessionEvent::Acks(_) => {}
            SessionEvent::Closed { code, message, by_peer } => {
                self.closed.get_or_insert(Closed { code, message, by_peer });
            }
        }
    }

    /// What this device just acknowledged or learnt goes to the space's other sessions.
    fn share_acks(&self, reply: &Reply) {
        let (Reply::Applied { acks, .. }
        | Reply::Supplied { acks, .. }
        | Reply::AcksStored { new: acks }) = reply
        else {
            return;
        };
        if !acks.is_empty() {
            // Fails only if there is no session, and this is one.
            let _ = self.space.acks.send((self.number, acks.clone()));
        }
    }

    /// Writing failed: says why.
    async fn broken(&mut self) -> Result<()> {
        match (&mut self.sending.0).await {
            Ok((_, Err(error))) => Err(error.into()),
            Ok((_, Ok(()))) => Err(super::talk::gone()),
            Err(error) => Err(Error::Internal(error.to_string())),
        }
    }

    /// Ends the stream in order.
    async fn finish(self) -> Result<SpaceReport> {
        let Self {
            mut receiver,
            frames,
            mut sending,
            mut report,
            closed,
            session,
            pass,
            peer,
            node,
            space,
            ..
        } = self;
        report.caught_up = session.is_caught_up();
        (report.left_in, report.left_out) = session.left();
        drop(frames);
        let closed = closed.unwrap_or(Closed {
            code: CloseCode::Internal,
            message: "the session ended without a reason".to_owned(),
            by_peer: false,
        });
        let wait = if matches!(pass, Pass::Until(_)) { FINISH_WAIT_SHORT } else { FINISH_WAIT };
        let ended = timeout(wait, async {
            let sent = (&mut sending.0).await;
            // The side that closes waits for the other's end: then both have everything, and the
            // connection can be closed.
            if !closed.by_peer {
                while matches!(receiver.recv(FRAME_BYTES_MAX).await, Ok(Some(_))) {}
            }
            sent
        });
        if let Ok(Ok((bytes, _))) = ended.await {
            report.bytes_out = bytes;
        }
        report.bytes_in = receiver.bytes_received();
        let Closed { code, message, by_peer } = closed;
        metrics::session_closed(code, &peer, &report);
        if !by_peer {
            security::session_ended(&node, &space.reader, &peer, code);
        }
        match code {
            CloseCode::Done => Ok(report),
            // This profile is being closed: that is nobody's failure.
            CloseCode::ShuttingDown if !by_peer => Err(Error::Closed),
            code => Err(Error::Session { space: report.space, code, message, by_peer }),
        }
    }
}

/// Asks storage.
async fn answer(space: Arc<OpenSpace>, peer: TransportId, request: Request) -> Reply {
    let result = async {
        let writes = matches!(
            request,
            Request::Apply { .. } | Request::StoreAcks { .. } | Request::TakeSupply { .. }
        );
        let reader = space.reader.clone();
        let read = move || Ok(reader.answer(&peer, request));
        let answer = if writes { read()? } else { blocking(read).await? };
        match answer {
            Answer::Reply(reply) => Ok(reply),
            Answer::Write(task) => space.writer()?.answer(task).await,
        }
    };
    result.await.unwrap_or_else(|error: Error| Reply::Failed { message: error.to_string() })
}

/// How long the peer may take to end its side.
const FINISH_WAIT: Duration = Duration::from_secs(5);
/// The same where this device's own time is short.
const FINISH_WAIT_SHORT: Duration = Duration::from_millis(500);
