use std::net::SocketAddr;

use larder_engine::{Band, PersonalKind};
use larder_types::{CollectionName, DeviceId, ObjectId, SpaceName, TransportId};

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
    /// All entries of peers that are durable here can be read. Comes once for one
    /// [`Event::Received`] or several, and may come before the last of them is told: a session
    /// tells that it received something, the space's writer that it can be read.
    Visible {
        /// The space.
        space: SpaceName,
    },
    /// The words of everything that can be read are indexed; vectors may follow. Comes after each
    /// commit and each [`Event::Visible`], or several of them, once there was nothing more urgent
    /// to do.
    Indexed {
        /// The space.
        space: SpaceName,
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
    /// Chunks of blobs came from a peer and are durable here.
    BlobsReceived {
        /// The space.
        space: SpaceName,
        /// Whom they came from.
        peer: TransportId,
        /// How many.
        chunks: u64,
        /// Their sealed bytes.
        bytes: u64,
    },
    /// This device and a peer durably hold the same entries of a space, and each can read what it
    /// took from the other. Comes again after each push. Whether a device has indexed them is not
    /// part of it: [`Event::Indexed`] says that, and a search waits for it.
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
    /// Whether a space can be read and written, or why not, may have changed: ask
    /// [`Space::state`](crate::Space::state).
    StateChanged {
        /// The space.
        space: SpaceName,
    },
    /// Something was written into the security log: a device came or was shut out, a session or
    /// something written was refused, keys were renewed. Ask
    /// [`Profile::security_log`](crate::Profile::security_log).
    Security,
    /// All that only an old copy of the space had is in this device's log:
    /// [`Space::carried`](crate::Space::carried) says what that was.
    Carried {
        /// The space.
        space: SpaceName,
    },
    /// Bodies were dropped whose outcome all devices agree on, without anybody asking for it.
    Pruned {
        /// The space.
        space: SpaceName,
        /// How many.
        sections: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The time of documents was over, by the clocks of two devices.
    Retained {
        /// The space.
        space: SpaceName,
        /// How many went into the trash.
        trashed: u64,
        /// How many were deleted for ever.
        deleted: u64,
    },
    /// Personal data were found in a document that was written, under a contract
    /// ([`Options::contract`](crate::Options::contract)).
    Personal {
        /// The space.
        space: SpaceName,
        /// The document.
        object: ObjectId,
        /// Its collection.
        collection: CollectionName,
        /// What kinds were found.
        kinds: Vec<PersonalKind>,
        /// Those of them that were taken out before it was written.
        redacted: Vec<PersonalKind>,
        /// The band that the document is of at least because of them, if a contract says so.
        raised: Option<Band>,
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

/// What the network that a device is on may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkPolicy {
    /// Everything.
    #[default]
    Free,
    /// Only what is asked for: [`Profile::sync`](crate::Profile::sync) and the like, invitations
    /// and joining, blobs that were asked for one by one.
    /// [`Profile::follow`](crate::Profile::follow) holds no connections and
    /// [`Profile::discover`](crate::Profile::discover) asks nobody until the network is free again.
    Metered,
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

impl PeerReport {
    /// Whether this device and the peer hold the same of every space in common.
    pub fn is_complete(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|spaces| spaces.iter().all(|space| space.caught_up))
    }
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
    /// Whether both durably held the same when it ended.
    pub caught_up: bool,
    /// Entries that the peer was known to hold and this device was not yet.
    pub left_in: u64,
    /// Entries that this device held and had not yet sent.
    pub left_out: u64,
    /// What went over the stream for blobs beside it.
    pub blobs: BlobTraffic,
}

/// What one stream for blobs moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobTraffic {
    /// Chunks received and durable here.
    pub chunks_in: u64,
    /// Chunks sent.
    pub chunks_out: u64,
    /// Bytes received on the stream.
    pub bytes_in: u64,
    /// Bytes sent on it.
    pub bytes_out: u64,
}

impl BlobTraffic {
    pub(crate) fn add(&mut self, later: &Self) {
        self.chunks_in += later.chunks_in;
        self.chunks_out += later.chunks_out;
        self.bytes_in += later.bytes_in;
        self.bytes_out += later.bytes_out;
    }
}

impl SpaceReport {
    /// Takes in what a later session about the same space moved.
    pub(crate) fn add(&mut self, later: &Self) {
        self.entries_in += later.entries_in;
        self.entries_out += later.entries_out;
        self.bytes_in += later.bytes_in;
        self.bytes_out += later.bytes_out;
        self.blobs.add(&later.blobs);
        (self.caught_up, self.left_in, self.left_out) =
            (later.caught_up, later.left_in, later.left_out);
    }
}
