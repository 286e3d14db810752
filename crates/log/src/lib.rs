//! Entries, sections, Merkle logs, checkpoints, receipts, roster and epochs: pure functions and
//! values.
//!
//! Invariants: nothing here reads a clock, draws randomness of its own or does I/O; bytes from a
//! peer never panic and never allocate beyond a named limit; what is hashed or signed is the exact
//! canonical bytes; every label is in one table (`labels.rs`). `docs/format/log.md` draws the
//! bytes.

pub mod ack;
pub mod act;
pub mod adoption;
mod batch;
pub mod blob;
pub mod checkpoint;
pub mod contract;
mod entry;
pub mod epoch;
pub mod erasure;
mod error;
mod fork;
mod header;
mod labels;
pub mod merkle;
pub mod message;
mod metadata;
mod note;
pub mod policy;
pub mod quarantine;
mod receipt;
pub mod retention;
pub mod roster;
mod section;
pub mod security;
pub mod snapshot;
pub mod stability;

pub use batch::{Batch, BatchEntry, Payload, VerifiedBatch, VerifiedEntry};
pub use entry::{Entry, EntryBuilder};
pub use error::{
    BatchError, BlobError, DisclosureError, EntryError, EpochError, HeaderError, NoteError,
    SectionError, VoidReason,
};
pub use fork::{ForkProof, ProvenAct, ShownSection};
pub use header::{Dep, Header, VERSION, entry_hash};
pub use metadata::{
    DisclosedField, DisclosedMetadata, Disclosure, Field, Metadata, Opened, kind, personal,
};
pub use receipt::{ObjectProof, Receipt};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use section::open_padded;
pub use section::{
    Address, Band, Class, SEALED_BYTES_MAX, SectionCommitment, carry_section, open_carried,
    open_section, pack, reseal_section, seal_section, sections_root, unpack,
};
