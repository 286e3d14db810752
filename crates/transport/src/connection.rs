use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_types::limits::HANDSHAKE_MS_MAX;
use larder_types::{CloseCode, TransportId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::{Error, FrameStream, Link, Purpose, Result};

/// One authenticated connection with a peer. Clones are the same connection; dropping the last
/// one, with all its streams, closes it.
#[derive(Debug, Clone)]
pub struct Connection {
    link: Arc<dyn Link>,
    /// Until when the peer has to open its first stream, while it has not.
    first_stream_by: Arc<Mutex<Option<Instant>>>,
    /// The listener's place that this connection takes up.
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Connection {
    /// A connection over any transport.
    pub fn new(link: Arc<dyn Link>) -> Self {
        Self { link, first_stream_by: Arc::default(), _place: None }
    }

    pub(crate) fn accepted(link: Arc<dyn Link>, place: OwnedSemaphorePermit) -> Self {
        let deadline = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
        let first_stream_by = Arc::new(Mutex::new(Some(deadline)));
        Self { link, first_stream_by, _place: Some(Arc::new(place)) }
    }

    /// The transport key that the peer proved.
    pub fn peer(&self) -> TransportId {
        self.link.peer()
    }

    /// What the connection is for.
    pub fn purpose(&self) -> Purpose {
        self.link.purpose()
    }

    /// Where the peer is now; it may move. `None` for a connection in memory.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.link.remote_address()
    }

    /// 32 bytes that only the two ends of this connection can compute, different for every
    /// connection and label (TLS exporter, RFC 8446 §7.5).
    ///
    /// # Errors
    /// [`Error::Tls`] if the TLS library refuses.
    pub fn exporter(&self, label: &str) -> Result<[u8; 32]> {
        self.link.exporter(label)
    }

    /// Opens a stream. The peer learns of it with its first frame. Waits while as many are open
    /// as the peer allows.
    ///
    /// # Errors
    /// As the connection ended.
    pub async fn open_stream(&self) -> Result<FrameStream> {
        let (send, recv) = self.link.open().await?;
        Ok(FrameStream::new(send, recv))
    }

    /// The peer's next stream. `None`: the connection was closed, and nothing was wrong.
    ///
    /// On a connection that was accepted, the first one has to come within
    /// [`HANDSHAKE_MS_MAX`] of the handshake; else the connection is closed.
    ///
    /// # Errors
    /// As the connection ended.
    pub async fn accept_stream(&self) -> Result<Option<FrameStream>> {
        let deadline = *self.first_stream_by.lock().unwrap_or_else(PoisonError::into_inner);
        let halves = match deadline {
            None => self.link.accept().await?,
            Some(deadline) => match timeout_at(deadline, self.link.accept()).await {
                Ok(halves) => halves?,
                Err(_elapsed) => {
                    self.close(CloseCode::TimedOut, "no stream was opened");
                    return Err(Error::TimedOut);
                }
            },
        };
        *self.first_stream_by.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(halves.map(|(send, recv)| FrameStream::new(send, recv)))
    }

    /// Ends the connection at once and tells the peer why. What was not yet delivered is lost:
    /// finish streams first.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.link.close(code, reason);
    }
}
