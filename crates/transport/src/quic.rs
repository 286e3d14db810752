//! QUIC (RFC 9000) as a [`Link`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use larder_types::limits::RECEIVE_WINDOW_BYTES;
use larder_types::limits::SEND_WINDOW_BYTES;
use larder_types::limits::STREAM_WINDOW_BYTES;
use larder_types::limits::{IDLE_MS_MAX, KEEP_ALIVE_MS, SPACES_PER_CONNECTION_MAX};
use larder_types::{CloseCode, TransportId};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use crate::link::Halves;
use crate::{BoxFuture, Error, Link, Purpose, RecvHalf, Result, SendHalf};

/// What both ends of every connection keep to.
///
/// Worst case of memory for one connection: [`RECEIVE_WINDOW_BYTES`] received and not yet read,
/// and [`SEND_WINDOW_BYTES`] sent and not yet acknowledged, whatever the number of streams.
pub(crate) fn transport_config(incoming_unidirectional: u8) -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    // One for the greeting, and two per space: for its session and for its blobs.
    let streams = u32::try_from(1 + 2 * SPACES_PER_CONNECTION_MAX);
    config
        .max_concurrent_bidi_streams(streams.map_or(VarInt::MAX, VarInt::from_u32))
        .max_concurrent_uni_streams(incoming_unidirectional.into())
        .max_idle_timeout(u32::try_from(IDLE_MS_MAX).ok().map(|ms| VarInt::from_u32(ms).into()))
        .keep_alive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// One QUIC connection, both of whose ends are authenticated.
#[derive(Debug)]
pub(crate) struct QuicLink {
    connection: quinn::Connection,
    peer: TransportId,
    purpose: Purpose,
}

impl QuicLink {
    pub(crate) fn new(connection: quinn::Connection, peer: TransportId, purpose: Purpose) -> Self {
        Self { connection, peer, purpose }
    }
}

impl Link for QuicLink {
    fn peer(&self) -> TransportId {
        self.peer
    }

    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn remote_address(&self) -> Option<SocketAddr> {
        let address = self.connection.remote_address();
        // As everybody writes it, also where one socket is for both families (RFC 4291 §2.5.5.2).
        Some(match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
            IpAddr::V6(_) => address,
        })
    }

    fn exporter(&self, label: &str) -> Result<[u8; 32]> {
        let mut output = [0; 32];
        self.connection
            .export_keying_material(&mut output, label.as_bytes(), b"")
            .map_err(|_| Error::Tls("no keying material for this label".to_owned()))?;
        Ok(output)
    }

    fn open(&self) -> BoxFuture<'_, Result<Halves>> {
        Box::pin(async {
            let (send, recv) = self.connection.open_bi().await.map_err(ended)?;
            Ok(halves(send, recv))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Option<Halves>>> {
        Box::pin(async {
            match self.connection.accept_bi().await {
                Ok((send, recv)) => Ok(Some(halves(send, recv))),
                Err(error) => match ended(error) {
                    Error::LocallyClosed | Error::Closed { code: CloseCode::Done, .. } => Ok(None),
                    error => Err(error),
                },
            }
        })
    }

    fn close(&self, code: CloseCode, reason: &str) {
        close(&self.connection, code, reason);
    }
}

pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    connection.close(code.to_wire().into(), shortened(reason).as_bytes());
}

fn halves(send: quinn::SendStream, recv: quinn::RecvStream) -> Halves {
    (Box::new(QuicSend(send)), Box::new(QuicRecv(recv)))
}

struct QuicSend(quinn::SendStream);

impl SendHalf for QuicSend {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.0.write_all(bytes).await.map_err(|error| match error {
                WriteError::ConnectionLost(error) => ended(error),
                WriteError::ClosedStream => Error::LocallyClosed,
                WriteError::Stopped(_) | WriteError::ZeroRttRejected => {
                    Error::Cut { detail: "the other device stopped reading".to_owned() }
                }
            })
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            // Fails only if the stream was finished or reset before.
            let _ = self.0.finish();
            match self.0.stopped().await {
                // A peer that stopped reading had what it wanted of this stream.
                Ok(_) => Ok(()),
                Err(StoppedError::ConnectionLost(error)) => Err(ended(error)),
                Err(error) => Err(Error::Cut { detail: error.to_string() }),
            }
        })
    }

    fn abort(&mut self) {
        // Fails only if the stream was finished or reset before.
        let _ = self.0.reset(VarInt::from_u32(0));
    }

    fn yield_to_others(&mut self) {
        // Fails only if the stream was finished or reset before. Others have priority 0.
        let _ = self.0.set_priority(-1);
    }
}

struct QuicRecv(quinn::RecvStream);

impl RecvHalf for QuicRecv {
    fn read<'a>(&'a mut self, buffer: &'a mut Vec<u8>, max: usize) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            match self.0.read_chunk(max, true).await {
                Ok(Some(chunk)) => {
                    buffer.extend_from_slice(&chunk.bytes);
                    Ok(true)
                }
                Ok(None) => Ok(false),
                Err(ReadError::ConnectionLost(error)) => Err(ended(error)),
                Err(ReadError::ClosedStream) => Err(Error::LocallyClosed),
                Err(ReadError::Reset(_)) => {
                    Err(Error::Cut { detail: "the other device broke the stream off".to_owned() })
                }
                Err(error) => Err(Error::Cut { detail: error.to_string() }),
            }
        })
    }
}

/// How an established connection ended.
pub(crate) fn ended(error: ConnectionError) -> Error {
    match error {
        ConnectionError::ApplicationClosed(close) => Error::Closed {
            code: u16::try_from(close.error_code.into_inner())
                .map_or(CloseCode::Internal, CloseCode::from_wire),
            reason: shortened(&String::from_utf8_lossy(&close.reason)).to_owned(),
        },
        ConnectionError::TimedOut => Error::TimedOut,
        ConnectionError::LocallyClosed => Error::LocallyClosed,
        error => Error::Cut { detail: error.to_string() },
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Of the text beside a close code.
const REASON_BYTES_MAX: usize = 256;
