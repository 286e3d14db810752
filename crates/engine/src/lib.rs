//! One device, synchronous: commits documents, log, receipts and indexes together.
//!
//! A [`Profile`] is an installation's home. Each of its spaces has one [`SpaceWriter`], through
//! which everything is written, and any number of [`Space`] handles, which read.
//!
//! Invariants: one SQLite transaction holds a unit's entry, its sections, its documents, its
//! receipt and what is to be indexed of it; nothing is signed that is not made durable by the same
//! transaction, and nothing leaves this crate before it is; only this crate holds the secrets that
//! open sections; time and randomness come from the [`Environment`].

mod adoption;
mod answer;
mod apply;
mod aside;
mod black;
mod blobs;
mod carry;
mod changes;
mod clearance;
mod commit;
mod contract;
mod copies;
#[cfg(test)]
mod cost_tests;
mod dir;
#[cfg(test)]
mod durability_tests;
mod effects;
mod embed;
mod environment;
mod erase;
mod error;
mod export;
mod files;
mod forks;
mod found;
mod heal;
mod history;
mod home;
mod index;
mod kept;
mod key_file;
mod keyring;
mod lost;
mod members;
mod messages;
mod mirror;
mod model;
mod named;
mod pairing;
mod policy;
mod profile;
mod prune;
mod purge;
mod read;
mod recovery;
mod redact;
mod rejudge;
mod rekey;
#[cfg(test)]
mod rekey_tests;
mod renew;
mod retention;
mod retire;
mod rows;
mod secrets;
mod security;
mod show;
mod shrink;
mod sight;
mod snapshot;
mod space;
mod state;
mod status;
mod steps;
mod storage;
mod subject;
mod supply;
mod sync;
mod tally;
mod touched;
mod transfer;
mod trouble;
mod unit;
mod unlock;
mod unreadable;
mod vault;
mod writer;

pub use answer::{Answer, Answered, Task};
pub use apply::Applied;
pub use black::Source;
pub use blobs::{
    BlobAdding, BlobAnswer, BlobInfo, BlobPolicy, BlobReader, BlobsStatus, ChunkBytes, Collected,
    NewBlob, NewManifest, blobs_in,
};
pub use carry::{Carried, LeftBehind};
pub use changes::{Author, Change, ChangeKind, Changes, ChangesCursor};
pub use contract::{
    Classifier, Contract, ContractAction, Contracts, Noticed, Personal, PersonalKind,
};
pub use embed::{Embedded, Unembedded};
pub use environment::Environment;
pub use erase::{ErasedBy, ErasureInfo, ErasureStage, LateEdits};
pub use error::{Error, Result};
pub use heal::{CheckReport, CheckedPart, Checking, Finding, Outcome};
pub use index::IndexMark;
pub use key_file::Unlock;
pub use larder_crypto::Secret;
pub use larder_crypto::password::Argon2Params;
pub use larder_document::{
    ChangedLines, Conflict, Difference, DocumentError, Heads, Object, changed_lines,
};
pub use larder_log::Band;
pub use larder_log::ack::Ack;
pub use larder_log::act::Enrolment;
pub use larder_log::act::Role;
pub use larder_log::retention::{Retention, Retentions};
pub use larder_log::{Batch, Receipt, entry_hash};
pub use larder_pages::{Error as PagesError, Files, Held, Lock, SystemFiles, syncs};
pub use larder_search::{EmbedError, Embedder, HashedNgrams};
pub use larder_store::space::blobs::{At as BlobAt, NewChunk};
pub use larder_store::{ErrorKind as StoreErrorKind, StoreError};
pub use messages::Message;
pub use model::{
    Cursor, DeviceInfo, Document, ExportSummary, Found, HistoryItem, Kept, LogStatus, Page,
    PruneStatus, Pruned, Query, ReceiptInfo, RekeyStatus, Restorable, SpaceStatus, Version,
};
pub use pairing::{
    Admission, Candidate, CodeGuess, CodeInvitation, CodeJudgement, Joining, Judgement, Next,
    Terms, Ticket, Whose,
};
pub use policy::{POLICIES, Policy, PolicyChange};
pub use profile::{Access, Peer, Profile, ProfileOptions};
pub use prune::{PrunePolicy, Pruning};
pub use purge::{PurgeProgress, Purged};
pub use recovery::SetAside;
pub use redact::Redaction;
pub use rekey::Rekey;
pub use renew::Renewed;
pub use retention::{Retained, RetentionDue};
#[cfg(any(test, feature = "testing"))]
pub use secrets::stolen::Stolen;
pub use security::{SecurityCount, SecurityEvent, SecurityKind, SecurityLog, SecuritySummary};
pub use space::Space;
pub use status::{DeviceProgress, Mode, Reason, SpaceState, Standing};
pub use subject::{WrittenBy, WrittenDocument};
pub use supply::{PartBytes, Supplied, Wanted};
pub use tally::{Tally, VoidCause};
pub use transfer::{COPIED, MOVED, copy_id};
pub use unit::{Base, UnitOfWork};
pub use writer::SpaceWriter;
