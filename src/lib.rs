//! Larder: an encrypted local-first sync engine for apps.
//!
//! Each device keeps its own full copy of the spaces it belongs to, works offline, and merges when
//! devices meet. There is no server and no account. What is written is encrypted on disk, and every
//! commit returns a [`Receipt`] that an outsider can check without any key of the household's.
//!
//! A [`Profile`] is one installation's home: its keys and its spaces. A [`Space`] is what devices
//! share. Its documents are JSON objects in collections, written one by one or many at once in a
//! [`UnitOfWork`], found by words and by likeness ([`Space::search`]).
//!
//! ```
//! use larder::{Options, Profile, Query};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Note {
//!     title: String,
//!     body: String,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let profile = Profile::in_memory(Options::default()).await?; // or create, or open, in a folder
//! let space = profile.create_space(&"shared:household".parse()?).await?;
//!
//! let note = Note { title: "Bread".into(), body: "Flour, water, salt, patience".into() };
//! let (id, receipt) = space.create("notes", &note).await?;
//! receipt.verify()?; // so can anyone else: receipt.to_tlog_proof()
//!
//! assert_eq!(space.get::<Note>(id).await?, Some(note));
//! let found = space.search(Query::text("patience")).await?;
//! assert_eq!(found[0].document.object, id);
//! profile.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Other devices
//!
//! One device calls [`Profile::invite`] and hands the text to the other, which calls
//! [`Profile::begin_join`] with it. Both show the same six digits, and the first one approves
//! ([`Invitation::request`]). From then on [`Profile::sync`] makes one pass with every known
//! device, and [`Profile::listen`] with [`Profile::follow`] keeps them connected, so that
//! [`Space::changed`] ticks as soon as another device wrote something. Edits made apart are merged:
//! of different fields, of different places in a text (a string with a line break, or of more than
//! 200 characters), of lists. Where two devices set the same field, one value is shown and
//! [`Space::conflicts`] has the other. A deleted document stays deleted.
//!
//! # On a phone
//!
//! Before the system suspends the app: [`Profile::close`], which lets go of files, sockets and
//! keys, and afterwards [`Profile::reopen`], with the same handles. In what it grants in the
//! background: [`Profile::sync_until`]. When the network changes, or costs:
//! [`Profile::set_network`]. Between calls nothing wakes up: threads wait for work, and a
//! connection that is kept costs a packet every [`limits::KEEP_ALIVE_MS`].
//!
//! # Errors
//!
//! Every function returns [`Error`]: match on [`Error::kind`], show the message, which says what to
//! do.
//!
//! # What it needs
//!
//! A tokio runtime. Calls that touch the disk run on its blocking threads, writing on one thread
//! per space; [`Space::commit_blocking`] does it on the caller's. Limits on everything are in
//! [`limits`].
//!
//! Panics that unwind: some of what a hostile peer may send is found out by an assertion of a
//! library. So that the process's panic hook does not hear of it, Larder sets a hook around it, at
//! the first change that it applies, which is silent for such work alone. An app that has a hook
//! sets it before.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod black;
mod blobs;
mod changes;
mod clearance;
mod connections;
mod documents;
mod error;
mod event;
mod invitation;
mod metrics;
mod node;
mod options;
mod policy;
mod profile;
mod receipt;
mod recovery_kit;
mod redaction;
mod security;
mod space;
mod status;
mod subject;
mod system;
mod transfer;
mod unit;
mod writer;

pub use blobs::Blob;
pub use changes::{Changed, Changes};
pub use error::{Error, ErrorKind, Result};
pub use event::{BlobTraffic, Event, NetworkPolicy, PeerReport, SpaceReport};
pub use invitation::{CheckCode, Invitation, Joined, Joining, NotACheckCode, PairingRequest};
pub use options::Options;
pub use profile::Profile;
pub use receipt::Receipt;
pub use recovery_kit::RecoveryKit;
pub use redaction::Redaction;
pub use space::Space;
pub use status::{Checked, PeerStatus, Status, Unopened};
pub use transfer::Transferred;
pub use unit::UnitOfWork;

#[cfg(feature = "classify")]
pub use larder_classify::Patterns;
pub use larder_engine::{
    Argon2Params, Author, Band, Base, BlobInfo, BlobPolicy, BlobReader, BlobsStatus, Carried,
    Change, ChangeKind, ChangedLines, ChangesCursor, CheckReport, CheckedPart, Classifier,
    Collected, Conflict, Contract, ContractAction, Cursor, DeviceInfo, DeviceProgress, Difference,
    Document, EmbedError, Embedder, ErasedBy, ErasureInfo, ErasureStage, ExportSummary, Finding,
    Found, HashedNgrams, Heads, HistoryItem, Kept, LateEdits, LeftBehind, LogStatus, Message, Mode,
    NewBlob, Object, Outcome, POLICIES, Page, Personal, PersonalKind, Policy, PolicyChange,
    PruneStatus, Pruned, Purged, Query, Reason, ReceiptInfo, RekeyStatus, Renewed, Restorable,
    Retained, Retention, RetentionDue, Retentions, Role, Secret, SecurityCount, SecurityEvent,
    SecurityKind, SecurityLog, SecuritySummary, SetAside, SpaceState, SpaceStatus, Standing, Terms,
    Unlock, Version, Whose, WrittenBy, WrittenDocument, blobs_in, changed_lines,
};
pub use zeroize::Zeroizing;

pub use larder_types::{
    BlobId, Clock, CollectionName, CorrelationId, DeviceId, EntryHash, Hash, IdempotencyKey,
    MemberId, NameError, ObjectId, SpaceId, SpaceKind, SpaceName, TimeError, Timestamp,
    TransportId, limits,
};
