//! The frames of a session: one byte that says which kind, then its fields in canonical CBOR.

use std::collections::VecDeque;

use larder_log::ack::Ack;
use larder_log::message::SEALED_MESSAGE_BYTES_MAX;
use larder_log::snapshot::LeafKey;
use larder_log::{Band, Batch, BatchError, Payload};
pub(crate) use larder_types::limits::ACKS_PER_FRAME_MAX;
use larder_types::limits::{
    BATCH_ENTRIES_MAX, FORK_ACTS_BYTES_MAX, FORK_PROOF_BYTES_MAX, FORKS_PER_FRAME_MAX,
    FRAME_BYTES_MAX, LOGS_MAX, SECTIONS_MAX, WANTED_MAX,
};
pub use larder_types::limits::{CLOSE_MESSAGE_BYTES_MAX, EPOCHS_MAX};
use larder_types::{
    BlobId, CloseCode, DeviceId, EntryHash, EpochId, Hash, ObjectId, SpaceId, canonical,
};
use minicbor::{Decode, Encode};

use crate::session::Fork;

/// One message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// What its sender holds. The first frame, or behind a digest, and sent once.
    Frontiers(Frontiers),
    /// A digest of what its sender holds ([`crate::held_digest`]). The first frame, if it is sent.
    Digest(Hash),
    /// Entries that the receiver lacks.
    Batch(Box<Batch>),
    /// How far the receiver's batches are durable, and who holds what.
    Acks(Acks),
    /// What its sender lacks of entries that it has: bytes that were pruned or withheld. Answered
    /// by one [`Frame::Supply`].
    Want(Want),
    /// What its sender has of what the receiver wants.
    Supply(Box<Supply>),
    /// All that its sender had for the receiver when the session began has been sent. Sent once.
    CaughtUp,
    /// A message that is passed on to the app and never stored, sealed.
    Message(Vec<u8>),
    /// The session is over. The last frame.
    Close {
        /// Why.
        code: CloseCode,
        /// The same for people, at most [`CLOSE_MESSAGE_BYTES_MAX`].
        message: String,
    },
}

/// The head of one log as a device holds it: a checkpoint and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LogHead {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// Entries held, from the first on.
    #[n(1)]
    pub size: u64,
    /// Root of the tree of that size.
    #[n(2)]
    pub root: Hash,
    /// The log's device signed size and root.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// What a device holds of a space.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Frontiers {
    /// Which space.
    #[n(0)]
    pub space: SpaceId,
    /// Heads of the logs it holds anything of, ascending by device.
    #[n(1)]
    pub logs: Vec<LogHead>,
    /// Epochs whose secrets it holds, so that it can open what is sealed under them.
    #[n(2)]
    pub epochs_held: Vec<EpochId>,
    /// Logs that it has proofs for of having two histories, ascending by device.
    #[n(3)]
    pub forks: Vec<Fork>,
}

/// Progress and acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Acks {
    /// How many of the receiver's batches, in this session, are durable at the sender, or dealt
    /// with otherwise for good.
    #[n(0)]
    pub handled: u64,
    /// Acknowledgements that the receiver may not have, of any device.
    #[n(1)]
    pub acks: Vec<Ack>,
}

/// What a device lacks though it has the entries. Empty: nothing more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Want {
    /// Leaves of a snapshot that all devices agreed on.
    #[n(0)]
    pub snapshot: Option<WantedSnapshot>,
    /// Entries with sections whose bytes are missing, at most [`WANTED_MAX`] runs.
    #[n(1)]
    pub sections: Vec<Run>,
    /// Entries with sections that it has sealed, and wants opened, at most [`WANTED_MAX`] runs.
    #[n(2)]
    pub sealed: Vec<Run>,
    /// Blobs that documents name and whose manifests it has not, at most [`WANTED_MAX`].
    #[n(3)]
    pub blobs: Vec<BlobId>,
}

/// Which leaves of a snapshot are lacking.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct WantedSnapshot {
    /// The snapshot's name.
    #[n(0)]
    pub id: Hash,
    /// How many leaves are here, from the first on.
    #[n(1)]
    pub received: u64,
    /// The key of the last of them.
    #[n(2)]
    pub after: Option<LeafKey>,
    /// If all are here: those without their content, at most [`WANTED_MAX`], and how many pieces of
    /// it are here.
    #[n(3)]
    pub lacking: Vec<(Band, ObjectId, EntryHash, u64)>,
}

/// Entries of one log that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Run {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// The first.
    #[n(1)]
    pub first: u64,
    /// The last.
    #[n(2)]
    pub last: u64,
}

/// What a device has of what another wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Supply {
    /// A part of the snapshot (`larder_log::snapshot::Part`, packed), unless it has another.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub snapshot: Option<Vec<u8>>,
    /// Bytes of sections.
    #[n(1)]
    pub sections: Vec<Fill>,
    /// Entries that were to be handed opened. What is not, of those with a section that stays shut
    /// under a secret that is held there, opens for nobody.
    #[n(2)]
    pub void: Vec<Run>,
    /// The snapshot that was asked for, if its sender cannot compute it: it has dropped nothing
    /// that it stands for, and can be asked for that.
    #[n(3)]
    pub uncomputed: Option<Hash>,
}

/// The bytes of one entry's sections, as far as they are there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Fill {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// The entry.
    #[n(1)]
    pub seq: u64,
    /// Which of that number: the log may have two histories, and neither device know it yet.
    #[n(2)]
    pub entry: EntryHash,
    /// One for each section.
    #[n(3)]
    pub payloads: Vec<Payload>,
}

impl Want {
    /// Whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none()
            && self.sections.is_empty()
            && self.sealed.is_empty()
            && self.blobs.is_empty()
    }

    /// Takes out the runs that a supply has answered. It follows the order of what is wanted, and
    /// ends where it has no more room: what is behind the last entry in it was not looked for, and
    /// if none is in it, everything was.
    pub fn answer(&mut self, supply: &Supply) {
        let missing = self.sections.drain(..).map(|run| (run, false));
        let sealed = self.sealed.drain(..).map(|run| (run, true));
        let mut left: VecDeque<(Run, bool)> = missing.chain(sealed).collect();
        let mut ends_early = false;
        for Fill { device, seq, .. } in &supply.sections {
            let is_of = |(run, _): &(Run, bool)| {
                run.device == *device && (run.first..=run.last).contains(seq)
            };
            let Some(at) = left.iter().position(is_of) else { continue };
            left.drain(..at);
            ends_early = true;
            let Some((run, _)) = left.front_mut() else { break };
            match seq.checked_add(1).filter(|next| *next <= run.last) {
                Some(next) => run.first = next,
                None => drop(left.pop_front()),
            }
        }
        for (run, is_sealed) in left.into_iter().filter(|_| ends_early) {
            if is_sealed { self.sealed.push(run) } else { self.sections.push(run) }
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Close {
    #[n(0)]
    code: CloseCode,
    #[n(1)]
    message: String,
}

/// Why a frame is refused, as it is told to the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct FrameError {
    /// The named reason.
    pub code: CloseCode,
    /// In detail.
    pub message: String,
}

impl FrameError {
    pub(crate) fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn malformed(error: impl std::fmt::Display) -> Self {
        Self::new(CloseCode::Malformed, error.to_string())
    }
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, mut fields) = match self {
            Self::Frontiers(frontiers) => (FRONTIERS, canonical::encode(frontiers)),
            Self::Batch(batch) => (BATCH, Batch::encode(batch)),
            Self::Acks(acks) => (ACKS, canonical::encode(acks)),
            Self::Want(want) => (WANT, canonical::encode(want)),
            Self::Supply(supply) => (SUPPLY, canonical::encode(&**supply)),
            Self::CaughtUp => (CAUGHT_UP, Vec::new()),
            Self::Message(sealed) => (MESSAGE, sealed.clone()),
            Self::Digest(digest) => (DIGEST, digest.as_bytes().to_vec()),
            Self::Close { code, message } => {
                let message = shortened(message).to_owned();
                (CLOSE, canonical::encode(&Close { code: *code, message }))
            }
        };
        fields.insert(0, kind);
        fields
    }

    /// Reads one frame of a session about `space`, strictly and within all limits.
    ///
    /// # Errors
    /// [`FrameError`], with the code to close the session with.
    pub fn decode(bytes: &[u8], space: &SpaceId) -> Result<Self, FrameError> {
        let Some((kind, fields)) = bytes.split_first() else {
            return Err(FrameError::new(CloseCode::Malformed, "an empty frame"));
        };
        match *kind {
            FRONTIERS => decode_frontiers(fields).map(Self::Frontiers),
            BATCH => decode_batch(fields, space).map(|batch| Self::Batch(Box::new(batch))),
            ACKS => decode_acks(fields).map(Self::Acks),
            WANT => decode_want(fields).map(Self::Want),
            SUPPLY => decode_supply(fields).map(|supply| Self::Supply(Box::new(supply))),
            CAUGHT_UP if fields.is_empty() => Ok(Self::CaughtUp),
            CAUGHT_UP => Err(FrameError::new(CloseCode::Malformed, "bytes after the frame")),
            CLOSE => {
                let Close { code, message } =
                    canonical::decode(fields, SMALL_BYTES_MAX).map_err(FrameError::malformed)?;
                Ok(Self::Close { code, message: shortened(&message).to_owned() })
            }
            MESSAGE if fields.len() <= SEALED_MESSAGE_BYTES_MAX => {
                Ok(Self::Message(fields.to_vec()))
            }
            MESSAGE => Err(FrameError::new(CloseCode::LimitExceeded, "a message too long")),
            DIGEST => match fields.try_into() {
                Ok(digest) => Ok(Self::Digest(Hash::new(digest))),
                Err(_) => Err(FrameError::new(CloseCode::Malformed, "not a digest")),
            },
            kind => Err(FrameError::new(CloseCode::Unexpected, format!("frame of kind {kind}"))),
        }
    }
}

fn decode_frontiers(fields: &[u8]) -> Result<Frontiers, FrameError> {
    let frontiers: Frontiers =
        canonical::decode(fields, FRONTIERS_BYTES_MAX).map_err(FrameError::malformed)?;
    if frontiers.logs.len() > LOGS_MAX {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too many logs"));
    }
    if frontiers.epochs_held.len() > EPOCHS_MAX {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too many epochs"));
    }
    if frontiers.forks.len() > FORKS_PER_FRAME_MAX {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too many forks"));
    }
    if !frontiers.forks.is_sorted_by(|a, b| a.device < b.device) {
        return Err(FrameError::new(CloseCode::Malformed, "forks out of order"));
    }
    if !frontiers.logs.is_sorted_by(|a, b| a.device < b.device) {
        return Err(FrameError::new(CloseCode::Malformed, "logs out of order"));
    }
    Ok(frontiers)
}

fn decode_batch(fields: &[u8], space: &SpaceId) -> Result<Batch, FrameError> {
    Batch::decode(fields, space).map_err(|error| match error {
        BatchError::Count(_) => FrameError::new(CloseCode::LimitExceeded, error.to_string()),
        error => FrameError::malformed(error),
    })
}

fn decode_acks(fields: &[u8]) -> Result<Acks, FrameError> {
    let acks: Acks = canonical::decode(fields, ACKS_BYTES_MAX).map_err(FrameError::malformed)?;
    if acks.acks.len() > ACKS_PER_FRAME_MAX {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too many acknowledgements"));
    }
    Ok(acks)
}

fn decode_want(fields: &[u8]) -> Result<Want, FrameError> {
    let want: Want = canonical::decode(fields, WANT_BYTES_MAX).map_err(FrameError::malformed)?;
    let lacking = want.snapshot.as_ref().map_or(0, |snapshot| snapshot.lacking.len());
    let lists = [lacking, want.sections.len(), want.sealed.len(), want.blobs.len()];
    if lists.iter().any(|len| *len > WANTED_MAX) {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too much wanted at once"));
    }
    let mut runs = want.sections.iter().chain(&want.sealed);
    if runs.any(|run| run.first == 0 || run.last < run.first) {
        return Err(FrameError::new(CloseCode::Malformed, "a run of no entries"));
    }
    Ok(want)
}

fn decode_supply(fields: &[u8]) -> Result<Supply, FrameError> {
    if !supply_counts(fields).map_err(FrameError::malformed)? {
        return Err(FrameError::new(CloseCode::LimitExceeded, "too many entries or sections"));
    }
    canonical::decode(fields, FRAME_BYTES_MAX).map_err(FrameError::malformed)
}

/// Looked at first because an empty payload of three bytes becomes many times as large in memory.
fn supply_counts(fields: &[u8]) -> Result<bool, minicbor::decode::Error> {
    let within = |count: Option<u64>, max: usize| {
        count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= max)
    };
    let mut decoder = minicbor::Decoder::new(fields);
    decoder.array()?;
    decoder.skip()?;
    let Some(entries) = within(decoder.array()?, BATCH_ENTRIES_MAX) else { return Ok(false) };
    // Empty payloads take more room in memory than here.
    let mut left = fields.len() / 2;
    for _ in 0..entries {
        decoder.array()?;
        decoder.bytes()?;
        decoder.u64()?;
        decoder.bytes()?;
        let Some(sections) = within(decoder.array()?, SECTIONS_MAX.min(left)) else {
            return Ok(false);
        };
        left -= sections;
        for _ in 0..sections {
            decoder.skip()?;
        }
    }
    Ok(within(decoder.array()?, VOID_RUNS_MAX).is_some())
}

/// As many as the entries that an answer looks at may come to.
const VOID_RUNS_MAX: usize = 3 * WANTED_MAX;

pub(crate) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(CLOSE_MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

const FRONTIERS: u8 = 1;
const BATCH: u8 = 2;
const ACKS: u8 = 3;
const CAUGHT_UP: u8 = 4;
const CLOSE: u8 = 5;
const WANT: u8 = 6;
const SUPPLY: u8 = 7;
const MESSAGE: u8 = 8;
const DIGEST: u8 = 9;

const SMALL_BYTES_MAX: usize = 1 << 10;
/// A head is at most 150 bytes and an epoch 34; beside a fork's proof and acts there are at most
/// 48.
const FRONTIERS_BYTES_MAX: usize = 256
    + LOGS_MAX * 150
    + EPOCHS_MAX * 34
    + FORKS_PER_FRAME_MAX * (FORK_PROOF_BYTES_MAX + 48)
    + FORK_ACTS_BYTES_MAX;
/// A run is at most 55 bytes, a key with a number 63 and a blob 34.
const WANT_BYTES_MAX: usize = 256 + WANTED_MAX * 200;
/// An acknowledgement is at most 256 bytes.
const ACKS_BYTES_MAX: usize = 32 + ACKS_PER_FRAME_MAX * 256;

const _: () = assert!(FRONTIERS_BYTES_MAX < FRAME_BYTES_MAX && ACKS_BYTES_MAX < FRAME_BYTES_MAX);
