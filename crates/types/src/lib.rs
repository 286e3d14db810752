//! The words every other crate shares: ids, names, limits, time and the canonical encoding.
//!
//! Invariants: every id is a type of its own, so that two of them cannot be swapped by accident;
//! nothing here reads a clock or draws randomness ([`Entropy`] and [`Timestamp`] are handed in);
//! decoding is strict and bounded ([`canonical`]).

pub mod canonical;
mod close;
mod entropy;
mod hex;
mod id;
pub mod limits;
mod name;
mod time;

pub use close::CloseCode;
pub use entropy::Entropy;
pub use hex::{FromHexError, hex, unhex};
pub use id::{
    BlobId, CorrelationId, DeviceId, EntryHash, EpochId, Hash, IdempotencyKey, MemberId, ObjectId,
    SpaceId, TransportId,
};
pub use name::{CollectionName, NameError, SpaceKind, SpaceName};
pub use time::{Clock, TimeError, Timestamp};
