use std::io;
use std::net::SocketAddr;

use larder_types::{CloseCode, TransportId};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no connection, or no longer one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The peer.
    /// Another key answered at the address than the one expected.
    #[error(
        "another device answered at {addr}: expected key {expected}, found {found}; \
         check the address, or pair again if that device was set up anew"
    )]
    WrongKey {
        /// Where.
        addr: SocketAddr,
        /// The key that was asked for.
        expected: TransportId,
        /// The key that answered.
        found: TransportId,
    },
    /// The peer does not know this device's key.
    #[error(
        "the device at {addr} does not know this device's key; join with an invitation first. If \
         it knew it once, this one was shut out, or that one was restored from an older copy: then \
         run `larder device renew` there, and let it in again from here"
    )]
    UnknownKey {
        /// Where.
        addr: SocketAddr,
    },
    /// The peer speaks another protocol, or another version of it.
    #[error(
        "the device at {addr} does not speak this version of the protocol; update the older one"
    )]
    Incompatible {
        /// Where.
        addr: SocketAddr,
        /// What went wrong in detail.
        detail: String,
    },
    /// The peer has no room for another connection.
    #[error("the device at {addr} has no room for another connection; try again later")]
    Busy {
        /// Where.
        addr: SocketAddr,
    },
    /// Nobody answered, or the address cannot be reached from here.
    #[error(
        "no answer from {addr}: {detail}; check that the other device is on, listening and in \
         the same network"
    )]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// What went wrong in detail.
        detail: String,
    },
    /// The peer fell silent on a connection that had been open.
    #[error("the connection timed out; sync again, it resumes where it stopped")]
    TimedOut,
    /// The peer closed the connection and said why.
    #[error("the other device closed the connection: {code}{}", detail(.reason))]
    Closed {
        /// The named reason.
        code: CloseCode,
        /// What the peer adds to it, at most 256 bytes; to be shown, never acted on.
        reason: String,
    },
    /// The stream or connection broke, or ended in the middle of a frame.
    #[error("the connection was cut: {detail}; sync again, it resumes where it stopped")]
    Cut {
        /// What went wrong in detail.
        detail: String,
    },
    /// A frame announced to be longer than the reader allows, or given to be sent so.
    #[error("a frame of {len} bytes where at most {max} are allowed")]
    FrameTooLarge {
        /// Its length in bytes.
        len: usize,
        /// What is allowed, in bytes.
        max: usize,
    },

    // The system.
    /// Devices on the local network cannot be looked for.
    #[error("cannot look for devices on the local network: {0}")]
    Discovery(String),
    /// The address to listen on is taken or not this machine's.
    #[error("cannot listen on {addr}: {source}; choose another address or port")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },

    // Misuse.
    /// This side closed the connection, stream or endpoint before.
    #[error("the connection was already closed on this side")]
    LocallyClosed,

    // Internal.
    /// The TLS library refused what this crate gave it.
    #[error("TLS could not be set up: {0}; this is a fault of the program")]
    Tls(String),
}

fn detail(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}
