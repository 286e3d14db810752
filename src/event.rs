use std::net::SocketAddr;

use larder_types::{DeviceId, SpaceName, TransportId};

use crate::Error;

/// Something that happened between this device and others, or in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection with a device of a shared space is up, in either direction.
    PeerConnected {
        /// Its transport key.
        peer: TransportId,
        /// What its owner calls it; empty before the first sync.
        label: String,
    },
    /// It is down again, in order or not.
    PeerLost {
        /// Its transport key.
        peer: TransportId,
        /// What its owner calls it.
        label: String,
    },
    /// Entries of a peer are durable here.
    Received {
        /// The space.
        space: SpaceName,
        /// Whom they came from.
        peer: TransportId,
        /// How many.
        entries: u64,
    },
    /// Entries were sent to a peer.
    Sent {
        /// The space.
        space: SpaceName,
        /// Whom they went to.
        peer: TransportId,
        /// How many.
        entries: u64,
    },
    /// This device and a peer durably hold the same entries of a space. Comes again after each
    /// push.
    CaughtUp {
        /// The space.
        space: SpaceName,
        /// With whom.
        peer: TransportId,
    },
    /// A device used an invitation of this one.
    Joined {
        /// The space.
        space: SpaceName,
        /// The new device.
        device: DeviceId,
        /// What its owner calls it.
        label: String,
    },
    /// A device's log was found to have two histories; it is taken no further.
    Forked {
        /// The space.
        space: SpaceName,
        /// Whose log.
        device: DeviceId,
    },
    /// A session, or one log within it, ended early. What is durable stays; the next session goes
    /// on from there.
    SyncFailed {
        /// The space, if it is about one.
        space: Option<SpaceName>,
        /// With whom, if it is known.
        peer: Option<TransportId>,
        /// Why.
        message: String,
    },
    /// A space is under a new at-rest key, in a new file.
    Rekeyed {
        /// The space.
        space: SpaceName,
    },
    /// The renewal of a space's at-rest key was given up. The space is as it was, and it is tried
    /// again when the space is opened next.
    RekeyFailed {
        /// The space.
        space: SpaceName,
        /// Why.
        message: String,
    },
}

/// What one pass with one peer came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct PeerReport {
    /// The peer's transport key.
    pub peer: TransportId,
    /// What its owner calls it.
    pub label: String,
    /// Where it answered.
    pub address: Option<SocketAddr>,
    /// A report for each space in common, or why there is none.
    pub outcome: Result<Vec<SpaceReport>, Error>,
}

/// What one session about one space moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceReport {
    /// The space.
    pub space: SpaceName,
    /// Entries received and durable here.
    pub entries_in: u64,
    /// Entries sent.
    pub entries_out: u64,
    /// Bytes received on the session's stream.
    pub bytes_in: u64,
    /// Bytes sent on it.
    pub bytes_out: u64,
}
