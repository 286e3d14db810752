use std::path::{Path, PathBuf};

use larder_document::{DocumentError, Heads, Object};
use larder_log::Band;
use larder_log::act::Role;
use larder_types::limits::REMOVALS_UNASKED_MAX;
use larder_types::{BlobId, CloseCode, CollectionName, ObjectId, SpaceName};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, sorted by whose doing it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A peer sent something that its own log, the roster or a limit does not allow.
    #[error("the peer's data was refused ({code:?}): {message}")]
    Refused {
        /// The code the session is closed with.
        code: CloseCode,
        /// What was wrong with it.
        message: String,
    },

    /// A database failed; the part of the unit it happened in is named. Nothing of the unit is
    /// left.
    #[error(transparent)]
    Store(#[from] larder_store::StoreError),
    /// A database file could not be opened or read.
    #[error(transparent)]
    Pages(#[from] larder_pages::Error),
    /// The search indexes failed.
    #[error("the search index failed: {0}")]
    Search(#[from] larder_search::SearchError),
    /// What is stored contradicts itself.
    #[error("the stored data is damaged: {0}")]
    Corrupt(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the profile open.
    #[error(
        "the profile in {0} is in use by another process (a running `larder serve`, perhaps): \
         stop that one first"
    )]
    InUse(PathBuf),

    /// The passphrase or key does not open the profile. Nothing was touched.
    #[error("wrong passphrase or key: nothing was changed, try again")]
    WrongPassphrase,
    /// This device has joined, and its enrolment has not arrived yet.
    #[error(
        "nothing can be written before the first sync: sync with the device that sent the \
         invitation first"
    )]
    NotYetEnrolled,
    /// This device was shut out of the space.
    #[error(
        "this device was shut out of the space: what it holds can be read, but nothing is written \
         or synced any more. To come back, close it and run `larder device renew`: it gets new \
         keys, and has to be let in again"
    )]
    ShutOut,
    /// This device's role does not let it write.
    #[error("this device is {0} in the space, and may not write: an owner can change that")]
    MayNotWrite(Role),
    /// This device is an auditor's: it has nothing to show but receipts, and writes no content.
    #[error(
        "this device is an auditor in the space: it holds receipts, not content, and writes none"
    )]
    Auditor,
    /// This device's clearance does not let it write, or read, what is so sensitive.
    #[error(
        "this is {band}, and here one is cleared for {clearance} at most: an owner can change that"
    )]
    NotCleared {
        /// The band of what was to be done.
        band: Band,
        /// What the device, or the space as it was opened, is cleared for.
        clearance: Band,
    },
    /// The space was opened at a lower clearance, and this would show or do more.
    #[error(
        "the space was opened for {clearance} here, and this is not only about that: do it where \
         the space is opened without such a limit"
    )]
    Lowered {
        /// What it was opened for.
        clearance: Band,
    },
    /// The space is on this device alone, and this would have something of it leave, or come.
    #[error("{space} is BLACK, and nothing of it ever leaves this device: {what}")]
    StaysHere {
        /// The space.
        space: SpaceName,
        /// What is not done.
        what: &'static str,
    },
    /// An invitation cannot be used.
    #[error("{0}")]
    Invitation(String),
    /// The space's file is older than what this device has signed already.
    #[error(
        "this copy of the space is older than what this device has already signed (entry {signed}, \
         the file ends at {found}): it was restored from an old backup or copied. It can be read, \
         but not written. To go on, close it and run `larder device renew`: it gets new keys, is \
         let in again, and what only it has is carried over. A black: space goes on by `larder \
         device renew --alone SPACE`, without all else"
    )]
    RolledBack {
        /// The last entry known to have been signed.
        signed: u64,
        /// The last entry in the file.
        found: u64,
    },
    /// The space's file could not be read, and the space is being made anew.
    #[error(
        "the space's file could not be read and was set aside; the space is being made anew, and \
         of the {signed} entries that this device is known to have signed in it {found} are here. \
         It can be written once all are: sync with the other devices"
    )]
    Recovering {
        /// Entries known to have been signed.
        signed: u64,
        /// Entries here.
        found: u64,
    },
    /// The space's file has another history of this device than it has signed.
    #[error(
        "this device has signed other entries in this space than this copy holds: the profile or \
         the space's file was copied, and both copies were used. It can be read, but not written. \
         To go on, close it and run `larder device renew`: it gets new keys, is let in again, and \
         what only it has is carried over. A black: space goes on by `larder device renew --alone \
         SPACE`, without all else"
    )]
    OtherHistory,
    /// The profile was given new keys, by which the space does not know it yet.
    #[error(
        "this profile was given new keys, and the space does not know them yet. It can be read, \
         but not written. To go on, make an invitation on another device of the space and join it \
         here: what only this copy has is carried over then. If no other device has the space: \
         `larder device renew --alone SPACE`; if all others are lost, and there is a recovery kit, \
         with --recovery"
    )]
    Renewed,

    /// The call or its input does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// A value is not a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Chunks of a blob are not on this device.
    #[error(
        "{missing} of the chunks of blob {id} are not on this device yet: fetch it while a device \
         that has it is connected"
    )]
    BlobNotHere {
        /// Which blob.
        id: BlobId,
        /// How many of its chunks are missing.
        missing: u64,
    },
    /// Nothing is known of a blob that a document names.
    #[error(
        "nothing is known on this device of blob {0}, which the document names: it has not arrived \
         yet, or is above this device's clearance. Sync first, or do it on a device that has it"
    )]
    BlobNotKnown(BlobId),
    /// There is one already.
    #[error("{0}")]
    AlreadyExists(String),
    /// The document was deleted, which is for ever.
    #[error("document {0} was deleted; a deleted document never comes back, create a new one")]
    Deleted(ObjectId),
    /// The document is in the trash.
    #[error(
        "document {0} is in the trash: take it out first (larder restore), or delete it for ever"
    )]
    Trashed(ObjectId),
    /// More documents would go at once than anybody has been asked about.
    #[error(
        "this would remove {removed} documents at once, and more than {REMOVALS_UNASKED_MAX} only \
         go if you say so: nothing was removed; confirm it if you mean it"
    )]
    RemovesMany {
        /// How many.
        removed: usize,
    },
    /// What the document was then cannot be told any more.
    #[error(
        "the entries by which document {0} changed around then were pruned: read it as it was \
         after the last of them, or by a version's name"
    )]
    Pruned(ObjectId),
    /// The document changed since the caller read it.
    #[error("document {object} was changed since it was read: read it again and redo the edit")]
    Conflict {
        /// Which document.
        object: ObjectId,
        /// Its heads now.
        heads: Heads,
        /// Its value now.
        current: Box<Object>,
    },
    /// An idempotency key came back with other content.
    #[error("this idempotency key was used before for another unit: choose a fresh key")]
    IdempotencyKeyReused,
    /// A contract of the app's refuses what a document holds.
    #[error(
        "the contract of collection '{collection}' refuses {kinds}, and document {object} holds \
         some: take that out; nothing of the unit was written"
    )]
    Contract {
        /// Which document.
        object: ObjectId,
        /// Its collection.
        collection: CollectionName,
        /// What kinds of personal data, by name.
        kinds: String,
    },
    /// A contract has what a document would hold in documents of a higher band alone.
    #[error(
        "the contract of collection '{collection}' has {kinds} in documents of {band} or above, \
         and document {object} is {known}, which it stays: write it anew under another id, and \
         erase this one if it holds some; nothing of the unit was written"
    )]
    ContractBand {
        /// Which document.
        object: ObjectId,
        /// Its collection.
        collection: CollectionName,
        /// What kinds of personal data, by name.
        kinds: String,
        /// The document's band.
        known: Band,
        /// The lowest that the contract allows.
        band: Band,
    },
    /// A contract makes a document one of a band that this device is not cleared for.
    #[error(
        "the contract of collection '{collection}' has {kinds} in documents of {band} or above, \
         and here one is cleared for {clearance} at most: take that out, or write it on a device \
         that is cleared for it; nothing of the unit was written"
    )]
    ContractAbove {
        /// Which document.
        object: ObjectId,
        /// Its collection.
        collection: CollectionName,
        /// What kinds of personal data, by name.
        kinds: String,
        /// The lowest band that the contract allows.
        band: Band,
        /// What the device is cleared for.
        clearance: Band,
    },
    /// The profile was opened for reading only.
    #[error("the profile was opened read-only: open it for writing to do this")]
    ReadOnly,

    /// The transaction that this unit shared with others failed; nothing of it is left.
    #[error("the transaction failed, and nothing of it was kept: {0}")]
    Transaction(String),
    /// The renewal of a key that several waited for failed; one of them was told why.
    #[error("the key was not renewed, and everything is as it was: try again")]
    RekeyFailed,
    /// A state that should not be possible.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// Why a device of this role writes no content.
    pub(crate) const fn may_not_write(role: Role) -> Self {
        if role.may_read() { Self::MayNotWrite(role) } else { Self::Auditor }
    }

    pub(crate) fn refused(code: CloseCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }
}

impl From<larder_types::canonical::DecodeError> for Error {
    fn from(e: larder_types::canonical::DecodeError) -> Self {
        Self::Corrupt(e.to_string())
    }
}
