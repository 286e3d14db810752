//! Authenticated framed streams over QUIC.
//!
//! Invariants: both ends of a [`Connection`] have proven an Ed25519 transport key (RFC 7250 raw
//! public keys under TLS 1.3, RFC 8446) before a byte of a stream is read; whoever connects says
//! which key it expects, whoever accepts asks its [`Gate`]; there is no 0-RTT and no resumption,
//! so nothing can be replayed; a frame's length is checked before memory is given to it.
//!
//! Deliberately absent: any idea of spaces, sessions or what a frame holds. That is the crate
//! `protocol`'s, and the façade joins the two.

mod connection;
mod discovery;
mod endpoint;
mod error;
mod link;
pub mod memory;
mod quic;
mod stream;
mod unbound;
mod verify;

pub use connection::Connection;
pub use discovery::Discovery;
pub use endpoint::Endpoint;
pub use error::{Error, Result};
pub use link::{BoxFuture, Halves, Link, RecvHalf, SendHalf};
pub use stream::{FrameReceiver, FrameSender, FrameStream};

use larder_types::TransportId;

/// What a connection is for. Each purpose has an ALPN of its own (RFC 7301), so that neither can
/// be mistaken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Sync between devices that know each other's keys: `larder/1`.
    Sync,
    /// Pairing with a device whose key is not known yet: `larder-pair/1`.
    Pair,
}

impl Purpose {
    pub(crate) const ALL: [Self; 2] = [Self::Sync, Self::Pair];

    /// The protocol's name in ALPN.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Sync => b"larder/1",
            Self::Pair => b"larder-pair/1",
        }
    }

    pub(crate) fn of_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.alpn() == alpn)
    }
}

/// Who may connect to this device, asked during each handshake and so at any moment, from any
/// thread; it must not block.
pub trait Gate: Send + Sync {
    /// Whether `peer`, which has proven that it holds its key, may connect for `purpose`.
    ///
    /// For [`Purpose::Sync`]: known keys only. For [`Purpose::Pair`]: any key, while an
    /// invitation is open.
    fn admits(&self, peer: &TransportId, purpose: Purpose) -> bool;

    /// A connection was refused whose maker showed this key. It need not be that device: who is
    /// turned away does not come as far as proving it.
    fn refused(&self, shown: &TransportId) {
        let _ = shown;
    }
}

impl<F: Fn(&TransportId, Purpose) -> bool + Send + Sync> Gate for F {
    fn admits(&self, peer: &TransportId, purpose: Purpose) -> bool {
        self(peer, purpose)
    }
}
