//! The frames of a blob stream: one byte that says which kind, then what it holds.

use larder_log::blob::CHUNK_SEALED_BYTES_MAX;
use larder_types::limits::{BLOB_LACKED_MAX, BLOB_REQUESTS_MAX, KEEPS_MAX};
use larder_types::{CloseCode, Hash, canonical};

use super::keeps::{self, Keeps};
use crate::frame::{FrameError, shortened};

/// One message of a blob stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobFrame {
    /// Asks for chunks by digest. At most [`BLOB_REQUESTS_MAX`] may be unanswered.
    Want(Vec<Hash>),
    /// Answers the oldest request: the sealed bytes.
    Chunk(Vec<u8>),
    /// Answers the oldest request: it is not held.
    Lacks,
    /// Chunks that were asked for in vain and are held now; at most [`BLOB_LACKED_MAX`].
    Have(Vec<Hash>),
    /// What the sender may not read any more, and keeps until another device has it: which of it
    /// does the receiver hold? At most [`KEEPS_MAX`], and one such question at a time. Of nothing:
    /// there is no more to ask.
    Keeps(Keeps),
    /// Answers it: those that are durable there.
    Holds(Keeps),
    /// The sender wants nothing more of what the receiver has.
    Idle,
    /// The session is over. The last frame.
    Close {
        /// Why.
        code: CloseCode,
        /// The same for people.
        message: String,
    },
}

impl BlobFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, mut fields) = match self {
            Self::Want(digests) => (WANT, canonical::encode(digests)),
            Self::Chunk(sealed) => (CHUNK, sealed.clone()),
            Self::Lacks => (LACKS, Vec::new()),
            Self::Have(digests) => (HAVE, canonical::encode(digests)),
            Self::Keeps(keeps) => (KEEPS, canonical::encode(keeps)),
            Self::Holds(keeps) => (HOLDS, canonical::encode(keeps)),
            Self::Idle => (IDLE, Vec::new()),
            Self::Close { code, message } => {
                (CLOSE, canonical::encode(&(*code, shortened(message).to_owned())))
            }
        };
        fields.insert(0, kind);
        fields
    }

    /// Whether these are the bytes of [`BlobFrame::Holds`].
    pub(super) fn is_answer(bytes: &[u8]) -> bool {
        bytes.first() == Some(&HOLDS)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`FrameError`] with the code to close with.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let malformed = |error: &dyn std::fmt::Display| {
            FrameError::new(CloseCode::Malformed, error.to_string())
        };
        let Some((kind, fields)) = bytes.split_first() else {
            return Err(malformed(&"an empty frame"));
        };
        let keeps = || {
            let bytes_max = 16 + KEEPS_MAX * keeps::BYTES_MAX;
            let keeps: Keeps = canonical::decode(fields, bytes_max).map_err(|e| malformed(&e))?;
            if keeps.len() > KEEPS_MAX {
                return Err(FrameError::new(CloseCode::LimitExceeded, "too much that is kept"));
            }
            Ok(keeps)
        };
        let digests = |max: usize| {
            let bytes_max = 8 + max * DIGEST_BYTES;
            let digests: Vec<Hash> =
                canonical::decode(fields, bytes_max).map_err(|e| malformed(&e))?;
            if digests.is_empty() || digests.len() > max {
                return Err(FrameError::new(CloseCode::LimitExceeded, "none or too many chunks"));
            }
            Ok(digests)
        };
        let empty = |frame: Self| match fields {
            [] => Ok(frame),
            _ => Err(malformed(&"bytes behind the frame")),
        };
        match *kind {
            WANT => digests(BLOB_REQUESTS_MAX).map(Self::Want),
            CHUNK if fields.len() > CHUNK_SEALED_BYTES_MAX => {
                Err(FrameError::new(CloseCode::LimitExceeded, "a chunk is too large"))
            }
            CHUNK => Ok(Self::Chunk(fields.to_vec())),
            LACKS => empty(Self::Lacks),
            HAVE => digests(BLOB_LACKED_MAX).map(Self::Have),
            KEEPS => keeps().map(Self::Keeps),
            HOLDS => keeps().map(Self::Holds),
            IDLE => empty(Self::Idle),
            CLOSE => {
                let (code, message): (CloseCode, String) =
                    canonical::decode(fields, CLOSE_BYTES_MAX).map_err(|e| malformed(&e))?;
                Ok(Self::Close { code, message: shortened(&message).to_owned() })
            }
            kind => Err(malformed(&format_args!("no frame of a blob stream is of kind {kind}"))),
        }
    }
}

/// The most bytes that a frame of a blob stream has: one chunk.
pub const BLOB_FRAME_BYTES_MAX: usize = 1 + CHUNK_SEALED_BYTES_MAX;

const WANT: u8 = 1;
const CHUNK: u8 = 2;
const LACKS: u8 = 3;
const HAVE: u8 = 4;
const IDLE: u8 = 5;
const CLOSE: u8 = 6;
const KEEPS: u8 = 7;
const HOLDS: u8 = 8;

/// A digest in CBOR.
const DIGEST_BYTES: usize = 34;
const CLOSE_BYTES_MAX: usize = 1 << 10;

const _: () = assert!(8 + BLOB_LACKED_MAX * DIGEST_BYTES < BLOB_FRAME_BYTES_MAX);
const _: () = assert!(16 + KEEPS_MAX * keeps::BYTES_MAX < BLOB_FRAME_BYTES_MAX);
