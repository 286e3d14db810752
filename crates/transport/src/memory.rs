//! Connections within one process, for tests and simulations.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use larder_types::{CloseCode, TransportId};
use tokio::sync::{mpsc, watch};

use crate::link::Halves;
use crate::{BoxFuture, Connection, Error, Link, Purpose, RecvHalf, Result, SendHalf};

/// Two ends of one connection; the first belongs to the device `first`, and so on. `exporter`
/// stands for the keying material of TLS: give each pair one of its own.
///
/// Streams behave as over QUIC: bounded, in order, an end told apart from a break.
pub fn pair(
    first: TransportId,
    second: TransportId,
    purpose: Purpose,
    exporter: [u8; 32],
) -> (Connection, Connection) {
    let (to_second, from_first) = mpsc::channel(STREAMS_MAX);
    let (to_first, from_second) = mpsc::channel(STREAMS_MAX);
    let (state, _) = watch::channel(None);
    let state = Arc::new(state);
    let link = |me, peer, open, accept| MemoryLink {
        me,
        peer,
        purpose,
        exporter,
        open,
        accept: tokio::sync::Mutex::new(accept),
        state: state.clone(),
    };
    (
        Connection::new(Arc::new(link(first, second, to_second, from_second))),
        Connection::new(Arc::new(link(second, first, to_first, from_first))),
    )
}

/// Who closed the connection, and why.
type Closed = Option<(TransportId, CloseCode, String)>;

#[derive(Debug)]
struct MemoryLink {
    me: TransportId,
    peer: TransportId,
    purpose: Purpose,
    exporter: [u8; 32],
    open: mpsc::Sender<(MemorySend, MemoryRecv)>,
    accept: tokio::sync::Mutex<mpsc::Receiver<(MemorySend, MemoryRecv)>>,
    state: Arc<watch::Sender<Closed>>,
}

impl Link for MemoryLink {
    fn peer(&self) -> TransportId {
        self.peer
    }

    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn remote_address(&self) -> Option<SocketAddr> {
        None
    }

    fn exporter(&self, label: &str) -> Result<[u8; 32]> {
        Ok(larder_crypto::hash::hmac_sha256(&self.exporter, &[label.as_bytes()]))
    }

    fn open(&self) -> BoxFuture<'_, Result<Halves>> {
        Box::pin(async {
            let (outward, arriving) = mpsc::channel(CHUNKS_MAX);
            let (inward, returning) = mpsc::channel(CHUNKS_MAX);
            let half = |me, to, from| {
                (
                    MemorySend { to: Some(to), watch: Watch { me, state: self.state.subscribe() } },
                    MemoryRecv {
                        from,
                        rest: Mutex::default(),
                        watch: Watch { me, state: self.state.subscribe() },
                    },
                )
            };
            let mut watch = Watch { me: self.me, state: self.state.subscribe() };
            tokio::select! {
                biased;
                error = watch.closed() => return Err(error),
                sent = self.open.send(half(self.peer, inward, arriving)) => {
                    sent.map_err(|_| dropped())?;
                }
            }
            let (send, recv) = half(self.me, outward, returning);
            Ok((Box::new(send) as Box<dyn SendHalf>, Box::new(recv) as Box<dyn RecvHalf>))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Option<Halves>>> {
        Box::pin(async {
            let mut accept = self.accept.lock().await;
            let mut watch = Watch { me: self.me, state: self.state.subscribe() };
            tokio::select! {
                biased;
                error = watch.closed() => match error {
                    Error::LocallyClosed | Error::Closed { code: CloseCode::Done, .. } => Ok(None),
                    error => Err(error),
                },
                halves = accept.recv() => match halves {
                    Some((send, recv)) => Ok(Some((Box::new(send) as _, Box::new(recv) as _))),
                    None => Ok(None),
                },
            }
        })
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.state.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some((self.me, code, reason.to_owned()));
            }
            first
        });
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.close(CloseCode::Done, "");
    }
}

#[derive(Debug)]
struct Watch {
    me: TransportId,
    state: watch::Receiver<Closed>,
}

impl Watch {
    /// Resolves once the connection is closed.
    async fn closed(&mut self) -> Error {
        match self.state.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((by, _, _))) if *by == self.me => Error::LocallyClosed,
            Ok(Some((_, code, reason))) => Error::Closed { code: *code, reason: reason.clone() },
            Ok(None) | Err(_) => dropped(),
        }
    }
}

fn dropped() -> Error {
    Error::Cut { detail: "the other device is gone".to_owned() }
}

/// A chunk, or (empty) the end.
type Chunk = Vec<u8>;

#[derive(Debug)]
struct MemorySend {
    to: Option<mpsc::Sender<Chunk>>,
    watch: Watch,
}

impl MemorySend {
    async fn push(&mut self, chunk: Chunk) -> Result<()> {
        let to = self.to.as_ref().ok_or(Error::LocallyClosed)?;
        tokio::select! {
            biased;
            error = self.watch.closed() => Err(error),
            sent = to.send(chunk) => sent
                .map_err(|_| Error::Cut { detail: "the other device stopped reading".to_owned() }),
        }
    }
}

impl SendHalf for MemorySend {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            for chunk in bytes.chunks(CHUNK_BYTES) {
                self.push(chunk.to_vec()).await?;
            }
            Ok(())
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            // A peer that stopped reading had what it wanted of this stream.
            let ended = match self.push(Chunk::new()).await {
                Err(Error::Cut { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            };
            self.to = None;
            ended
        })
    }

    fn abort(&mut self) {
        self.to = None;
    }
}

#[derive(Debug)]
struct MemoryRecv {
    from: mpsc::Receiver<Chunk>,
    /// Of a chunk, what was not yet asked for; behind a lock only to be `Sync`.
    rest: Mutex<Chunk>,
    watch: Watch,
}

impl RecvHalf for MemoryRecv {
    fn read<'a>(&'a mut self, buffer: &'a mut Vec<u8>, max: usize) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let rest = self.rest.get_mut().unwrap_or_else(PoisonError::into_inner);
            if rest.is_empty() {
                tokio::select! {
                    biased;
                    // What was delivered before the close may still be read.
                    chunk = self.from.recv() => match chunk {
                        Some(chunk) if chunk.is_empty() => return Ok(false),
                        Some(chunk) => *rest = chunk,
                        None => return Err(Error::Cut {
                            detail: "the other device broke the stream off".to_owned(),
                        }),
                    },
                    error = self.watch.closed() => return Err(error),
                }
            }
            let taken = max.min(rest.len());
            buffer.extend(rest.drain(..taken));
            Ok(true)
        })
    }
}

const STREAMS_MAX: usize = 64;
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;
