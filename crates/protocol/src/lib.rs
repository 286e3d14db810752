//! Sans-IO sync sessions: frames in, frames out.
//!
//! Invariants: nothing here is async, reads a clock, draws randomness or touches storage; time and
//! entropy are arguments, and what a session needs of storage it asks for with a [`Request`]. Bytes
//! from a peer never panic and are bounded before they are kept. `docs/format/wire.md` draws all
//! that is said here.
//!
//! A connection opens with a [`Greeting`], then carries one [`Session`] for each space in common.
//! [`pairing`] is what a device that is in no space yet says instead.

mod acks;
mod blobs;
mod error;
mod frame;
mod greeting;
mod invitation;
pub mod pairing;
mod session;

#[cfg(test)]
mod tests_common;

pub use blobs::{
    BLOB_FRAME_BYTES_MAX, BlobEvent, BlobFrame, BlobPosition, BlobReply, BlobRequest, BlobSession,
    Keeps,
};
pub use error::{GreetingError, InvitationError, PairingError};
pub use frame::{
    Acks, CLOSE_MESSAGE_BYTES_MAX, EPOCHS_MAX, Fill, Frame, FrameError, Frontiers, LogHead, Run,
    Supply, Want, WantedSnapshot,
};
pub use greeting::{
    Agreement, GREETING_BYTES_MAX, GREETING_EXPORTER, Greeting, Offered, Side, TAG_BYTES, Tag,
    VERSIONS, agree,
};
pub use invitation::{ADDRESSES_MAX, Invitation};
pub use session::{
    Config, Event, Fork, Lack, Opens, Position, Reply, Request, Session, held_digest,
};
