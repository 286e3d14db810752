//! The frames of a blob stream: one byte that says which kind, then what it holds.

use larder_log::blob::CHUNK_SEALED_BYTES_MAX;
use larder_types::limits::{BLOB_LACKED_MAX, BLOB_REQUESTS_MAX};
use larder_types::{CloseCode, Hash, canonical};

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
    /// Chunks that the sender may not read any more, and keeps until another device has them: which
    /// does the receiver hold? At most [`BLOB_LACKED_MAX`], and one such question at a time.
    Keeps(Vec<Hash>),
    /// Answers it: those that are durable there.
    Holds(Vec<Hash>),
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
            Self::Keeps(digests) => (KEEPS, canonical::encode(digests)),
            Self::Holds(digests) => (HOLDS, canonical::encode(digests)),
            Self::Idle => (IDLE, Vec::new()),
            Self::Close { code, message } => {
                (CLOSE, canonical::encode(&(*code, shortened(message).to_owned())))
            }
        };
        fields.insert(0, kind);
        fields
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
        let any_digests = |max: usize| {
            let bytes_max = 8 + max * DIGEST_BYTES;
            canonical::decode::<Vec<Hash>>(fields, bytes_max).map_err(|e| malformed(&e))
        };
        let digests = |max: usize| {
            let digests = any_digests(max)?;
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
            KEEPS => digests(BLOB_LACKED_MAX).map(Self::Keeps),
            HOLDS => any_digests(BLOB_LACKED_MAX).map(Self::Holds),
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
