//! What a session says to storage and to the app.

use std::collections::BTreeMap;

use larder_log::ack::Ack;
use larder_log::snapshot::LeafKey;
use larder_log::{Batch, ProvenAct};
use larder_types::limits::{
    BATCHES_IN_FLIGHT_MAX, FRAME_BYTES_MAX, HANDSHAKE_MS_MAX, PUSH_COALESCE_MS, SUPPLY_MS_MAX,
};
use larder_types::{BlobId, CloseCode, DeviceId, EpochId};

use super::QUEUED_MAX;
use crate::{LogHead, Supply, Want};

/// Knobs, from [`larder_types::limits`] unless set otherwise.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Config {
    /// This device in the space.
    pub me: DeviceId,
    /// For how long new entries are gathered at most before they are pushed, in milliseconds.
    pub push_coalesce_ms: u64,
    /// Batches received and not yet durable. Each may be `frame_bytes_max` in memory.
    pub batches_in_flight_max: usize,
    /// The largest frame taken from the peer, in bytes.
    pub frame_bytes_max: usize,
    /// How long the peer may take to send its frontiers, in milliseconds.
    pub opening_ms_max: u64,
    /// For how long nothing may come of what the peer was asked for, in milliseconds.
    pub supply_ms_max: u64,
    /// What to begin with.
    pub opens: Opens,
}

impl Config {
    /// The most that [`Session::bytes_held`](crate::Session::bytes_held) may come to, whatever the
    /// peer does, in bytes: with the defaults at most
    /// [`SESSION_BYTES_MAX`](larder_types::limits::SESSION_BYTES_MAX).
    pub const fn bytes_held_max(&self) -> usize {
        // Batches that came and one supply, unpacked; then batches to be sent, and one supply.
        let come = 2 * (self.batches_in_flight_max + 1);
        let go = QUEUED_MAX + 1;
        (come + go) * self.frame_bytes_max + TABLES_BYTES_MAX
    }
}

/// Who holds what of which log, acknowledgements, messages, and frames of another kind than those
/// that are counted.
const TABLES_BYTES_MAX: usize = 24 << 20;

/// What a side begins with. One of two must not be [`Opens::Second`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opens {
    /// With all that it holds: an entry of the peer's may come with the answer.
    #[default]
    Whole,
    /// With a digest of what it holds, since the peer's may be the same ([`crate::held_digest`]).
    Brief,
    /// With nothing, until the peer has begun: the same, if the peer's is.
    Second,
}

impl Config {
    /// The defaults, for the device `me`.
    pub fn new(me: DeviceId) -> Self {
        Self {
            me,
            push_coalesce_ms: PUSH_COALESCE_MS,
            batches_in_flight_max: BATCHES_IN_FLIGHT_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            opening_ms_max: HANDSHAKE_MS_MAX,
            supply_ms_max: SUPPLY_MS_MAX,
            opens: Opens::default(),
        }
    }
}

/// A place in the order in which one device's storage applied transactions, its own and others'.
/// Means nothing to anyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub u64);

/// From where on it is looked for what is lacking: kind by kind, in this order. Means nothing to
/// anyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Leaves of a snapshot that comes in; once all are here, those without their content, behind
    /// this one.
    Leaves(Option<LeafKey>),
    /// Sections of entries, behind the one that storage gave this number.
    Sections(u64),
    /// Manifests of blobs, behind that of this one.
    Blobs(Option<BlobId>),
}

impl Default for Lack {
    fn default() -> Self {
        Self::Leaves(None)
    }
}

/// What a session asks of storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What is held? Answer: [`Reply::Frontiers`].
    ReadFrontiers,
    /// Do the peer's heads carry valid signatures, and agree with the logs held here? And does it
    /// know of logs that have two histories? Answer: [`Reply::Checked`].
    CheckFrontiers {
        /// The peer's heads.
        logs: Vec<LogHead>,
        /// What it says to be proofs.
        forks: Vec<Fork>,
    },
    /// The next transactions after this place, in the order in which they were applied here, that
    /// the peer lacks. Answer: [`Reply::Batch`].
    ReadBatch {
        /// Where the last one was found; [`Position`] zero is before the first.
        after: Position,
        /// Log sizes that the peer holds; a log not named here it has nothing of.
        have: BTreeMap<DeviceId, u64>,
        /// Epochs whose secrets the peer held at the start: sections of others go opened, if the
        /// peer is cleared for them.
        epochs: Vec<EpochId>,
        /// No further transaction is added to so many sealed bytes, or to more.
        bytes_target: usize,
    },
    /// Verify and store a batch. Answer: [`Reply::Applied`] once it is durable (also if it had
    /// been stored before), [`Reply::Refused`] or [`Reply::Forked`].
    Apply {
        /// What the peer sent; nothing in it is verified.
        batch: Box<Batch>,
        /// Whether more are waiting already: what this one does to documents can be done together
        /// with them. If not, everything is readable before the answer.
        more: bool,
    },
    /// Verify and store acknowledgements. Answer: [`Reply::AcksStored`].
    StoreAcks {
        /// What the peer sent; nothing in it is verified.
        acks: Vec<Ack>,
    },
    /// What is lacking here of entries that are here? Answer: [`Reply::Wanted`].
    ReadWants {
        /// From there on.
        from: Lack,
    },
    /// What is here of what the peer lacks? Answer: [`Reply::Supply`].
    ReadSupply {
        /// What the peer says it lacks.
        want: Box<Want>,
        /// As in [`Request::ReadBatch`].
        epochs: Vec<EpochId>,
    },
    /// Verify and store what was lacking. Answer: [`Reply::Supplied`] once it is durable, or
    /// [`Reply::Refused`].
    TakeSupply {
        /// What the peer sent; nothing in it is verified.
        supply: Box<Supply>,
    },
}

/// Storage's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::ReadFrontiers`].
    Frontiers {
        /// Head of each log of which anything is held; in any order.
        logs: Vec<LogHead>,
        /// Epochs whose secrets are held; the first [`crate::EPOCHS_MAX`] are told the peer.
        epochs_held: Vec<EpochId>,
        /// Every acknowledgement held, the largest of each device for each log.
        acks: Vec<Ack>,
        /// Proofs of forks; as many are told the peer as
        /// [`FORKS_PER_FRAME_MAX`](larder_types::limits::FORKS_PER_FRAME_MAX) allows.
        forks: Vec<Fork>,
    },
    /// To [`Request::CheckFrontiers`].
    Checked {
        /// Logs of which the peer holds another history, or has a proof that there are two.
        forks: Vec<Fork>,
    },
    /// To [`Request::ReadBatch`].
    Batch {
        /// Where to read on from.
        position: Position,
        /// `None`: there is nothing more now.
        batch: Option<Box<Batch>>,
    },
    /// To [`Request::Apply`].
    Applied {
        /// Whose log.
        device: DeviceId,
        /// Its size, durably, now.
        size: u64,
        /// What this device acknowledges by that.
        acks: Vec<Ack>,
        /// Whether bytes of entries that are here are lacking now.
        lacks: bool,
    },
    /// To [`Request::ReadWants`].
    Wanted {
        /// `None`: nothing. Of one kind.
        want: Option<Box<Want>>,
        /// Where to read on; none if there is nothing behind it.
        next: Option<Lack>,
    },
    /// To [`Request::ReadSupply`].
    Supply {
        /// Empty if there is nothing of it here.
        supply: Box<Supply>,
    },
    /// To [`Request::TakeSupply`].
    Supplied {
        /// Whether anything of it was new.
        progress: bool,
        /// What this device acknowledges by that.
        acks: Vec<Ack>,
    },
    /// To [`Request::Apply`]: no. To any other request: the peer sent what no honest one would.
    Refused {
        /// The code that says why.
        code: CloseCode,
        /// The same for people.
        message: String,
        /// Whether the session ends. If not, only this log is taken no further in this session.
        fatal: bool,
    },
    /// To [`Request::Apply`]: the batch is of another history of its log.
    Forked(Fork),
    /// To [`Request::StoreAcks`].
    AcksStored {
        /// Those that were valid and not held before.
        new: Vec<Ack>,
    },
    /// To any request: storage could not be read or written.
    Failed {
        /// What happened, for people.
        message: String,
    },
}

/// Two histories of one log, and what of them does not travel with the log.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Fork {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// The proof ([`larder_log::ForkProof`]).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub evidence: Vec<u8>,
    /// Enrolments in the history that is held, and those shown by others. All that a peer is told
    /// take at most [`FORK_ACTS_BYTES_MAX`](larder_types::limits::FORK_ACTS_BYTES_MAX).
    #[n(2)]
    pub acts: Vec<ProvenAct>,
}

/// What an app may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Each side durably holds all that the other had when the session began, and all that was
    /// pushed since. Comes again after each push.
    CaughtUp,
    /// A batch of the peer's is durable here.
    Received {
        /// Whose log it extends.
        device: DeviceId,
        /// Entries in it.
        entries: usize,
        /// Bytes of its frame.
        bytes: usize,
    },
    /// A batch was handed to the transport.
    Sent {
        /// Whose log it is of.
        device: DeviceId,
        /// Entries in it.
        entries: usize,
        /// Bytes of its frame.
        bytes: usize,
    },
    /// Acknowledgements that are new to this device: hand them to its other sessions of the space
    /// ([`crate::Session::handle_acks`]).
    Acks(Vec<Ack>),
    /// The peer sent a message that is not stored: open it as one of the peer's device, and of no
    /// other.
    Message(Vec<u8>),
    /// A log was found to have two histories; nothing of it is synced in this session any more.
    Forked(Fork),
    /// A log is not taken any further in this session, for a reason that does not end it.
    Refused {
        /// Whose log.
        device: DeviceId,
        /// Why.
        code: CloseCode,
        /// The same for people.
        message: String,
    },
    /// The session is over. Transmit what is left, then end the stream.
    Closed {
        /// Why.
        code: CloseCode,
        /// The same for people.
        message: String,
        /// Whether the peer closed it.
        by_peer: bool,
    },
}
