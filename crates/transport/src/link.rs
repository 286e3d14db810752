use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use larder_types::{CloseCode, TransportId};

use crate::{Purpose, Result};

/// A future on the heap, as methods of a trait object return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a [`crate::Connection`] needs of a transport: an authenticated peer, keying material both
/// ends share, and ordered byte streams. QUIC is one, [`crate::memory`] another.
pub trait Link: Send + Sync + fmt::Debug {
    /// The key the peer proved.
    fn peer(&self) -> TransportId;

    /// What the connection is for.
    fn purpose(&self) -> Purpose;

    /// Where the peer is now, if the transport has addresses.
    fn remote_address(&self) -> Option<SocketAddr>;

    /// 32 bytes that only the two ends of this connection can compute, by label (RFC 8446 §7.5).
    ///
    /// # Errors
    /// [`crate::Error::Tls`] if the transport cannot.
    fn exporter(&self, label: &str) -> Result<[u8; 32]>;

    /// Opens a stream to the peer; waits while as many are open as the peer allows.
    fn open(&self) -> BoxFuture<'_, Result<Halves>>;

    /// Waits for the peer's next stream. `None`: closed without fault.
    fn accept(&self) -> BoxFuture<'_, Result<Option<Halves>>>;

    /// Ends the connection at once, telling the peer why.
    fn close(&self, code: CloseCode, reason: &str);
}

/// Both halves of one stream.
pub type Halves = (Box<dyn SendHalf>, Box<dyn RecvHalf>);

/// The sending half of a byte stream.
pub trait SendHalf: Send {
    /// Writes all of `bytes`, waiting while the peer takes none.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Ends the stream, and waits until the peer has it all.
    fn finish(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Breaks the stream off: the peer sees an error, not an end.
    fn abort(&mut self);

    /// Yields to the connection's other streams, where the transport can: what they have to send
    /// goes first.
    fn yield_to_others(&mut self) {}
}

/// The receiving half of a byte stream.
pub trait RecvHalf: Send {
    /// Appends 1 to `max` bytes to `buffer` and returns true, or false at the end of the stream.
    /// Dropping the future loses nothing.
    fn read<'a>(&'a mut self, buffer: &'a mut Vec<u8>, max: usize) -> BoxFuture<'a, Result<bool>>;
}
