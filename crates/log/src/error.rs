use larder_types::canonical::DecodeError;

use crate::merkle::ProofError;

/// Why a header was refused. Its author's log stops there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not a canonical header.
    #[error("the header is not readable: {0}")]
    Decode(#[from] DecodeError),
    /// Made by another version of this program.
    #[error("the header has version {0}, this program reads version 0: update it")]
    Version(u8),
    /// It says something no header may say.
    #[error("the header is not valid: {0}")]
    Invalid(&'static str),
}

/// Why a section could not be sealed or opened. On opening: the section is void, its leaf stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SectionError {
    /// The sealed bytes are not those that the author committed to.
    #[error("the sealed bytes are not those that the entry commits to")]
    NotCommitted,
    /// They do not open with this secret at this place.
    #[error("the section does not open: it was altered, or the secret is another step's or band's")]
    DoesNotOpen,
    /// Padding, compression or encoding are not as the format says.
    #[error("the opened section is malformed: {0}")]
    Malformed(String),
    /// Metadata or body are not those that the author committed to.
    #[error("the opened section is not the one that the entry commits to")]
    Mismatch,
    /// The masked band is none.
    #[error("the section's band is unknown: {0}")]
    UnknownBand(u8),
    /// Too large to seal.
    #[error("the section has {len} bytes, at most {max} are allowed: split the object")]
    TooLarge {
        /// Its bytes when opened.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// Why a blob's manifest or chunk was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Not a canonical manifest.
    #[error("the manifest is not readable: {0}")]
    Decode(#[from] DecodeError),
    /// Made by a newer version of this program.
    #[error(
        "the blob is of version {v} and suite {suite}, which this program cannot read: update it"
    )]
    Newer {
        /// The manifest's version.
        v: u8,
        /// Its suite.
        suite: u16,
    },
    /// It says something no manifest may say.
    #[error("the manifest is not valid: {0}")]
    Invalid(&'static str),
    /// A sealed chunk does not open, or to something else than the manifest says.
    #[error("a chunk is not what the blob's manifest says")]
    DoesNotOpen,
}

/// Why an entry could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The header would not be accepted.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// All sealed sections together are too large.
    #[error("the entry has {len} sealed bytes, at most {max} are allowed: write less in one unit")]
    TooLarge {
        /// Its sealed bytes.
        len: u64,
        /// The limit.
        max: u64,
    },
}

/// Why a batch was refused. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not a canonical batch.
    #[error("the batch is not readable: {0}")]
    Decode(#[from] DecodeError),
    /// No entries, or too many, or too many sections in one of them.
    #[error("the batch has {0} entries or sections")]
    Count(usize),
    /// More sealed bytes than a batch may hold, and so perhaps too many to open.
    #[error("the batch holds {len} sealed bytes")]
    TooLarge {
        /// How many.
        len: u64,
    },
    /// It does not continue the log where it ends here.
    #[error("the batch starts at entry {first}, the log here ends at {have}")]
    NotNext {
        /// Its first entry.
        first: u64,
        /// How many entries are here.
        have: u64,
    },
    /// An entry's header is refused.
    #[error("entry {seq}: {source}")]
    Header {
        /// The entry.
        seq: u64,
        /// Why.
        source: HeaderError,
    },
    /// An entry is not what the batch or its own header says.
    #[error("entry {seq}: {reason}")]
    Entry {
        /// The entry.
        seq: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A section's bytes are not those that its commitment names.
    #[error("entry {seq}, section {index}: {source}")]
    Section {
        /// The entry.
        seq: u64,
        /// The section in it.
        index: usize,
        /// Why.
        source: SectionError,
    },
    /// The device did not sign this tree. With what it did sign, that may prove a fork.
    #[error("the checkpoint's signature does not verify for these entries")]
    Signature,
}

/// Why a note, checkpoint, acknowledgement or receipt was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not of the form that the specification gives.
    #[error("line {line}: {reason}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No line is signed by the key that the text names.
    #[error("no signature by the key that the text names")]
    NoSignature,
    /// The signature does not verify.
    #[error("the signature does not verify: the text was altered, or signed by another key")]
    BadSignature,
    /// The receipt's header is refused.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header belongs to another log or another place in it.
    #[error("the receipt's header is not of the entry that the receipt is about")]
    WrongEntry,
    /// The entry is not in the tree that the checkpoint signs.
    #[error("the inclusion proof does not hold: {0}")]
    Proof(#[from] ProofError),
}

/// Why a disclosure was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisclosureError {
    /// The fields are not those that the author committed to.
    #[error("the disclosed metadata is not what the entry commits to")]
    Meta,
    /// The body is not the one that the disclosed digest is of.
    #[error("the disclosed body is not what the entry commits to")]
    Body,
    /// A disclosed value cannot be read.
    #[error("the disclosed field '{field}' is malformed")]
    Malformed {
        /// Which field.
        field: &'static str,
    },
}

/// Why an epoch's secrets could not be made or received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// The envelope does not open with this device's sealing key.
    #[error("the epoch's envelope for this device does not open")]
    Envelope,
    /// The secret is not the one that the opener committed to.
    #[error("the epoch's secret is not the one its opener committed to")]
    Commitment,
    /// A recipient's sealing key is unusable.
    #[error("device {0} has a sealing key that nothing can be sealed to: enrol it anew")]
    Recipient(larder_types::DeviceId),
}

/// Why an entry, or an act in it, has no effect. Its leaf stays, the log goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoidReason {
    /// The act cannot be read, or is larger than acts may be.
    #[error("the act is malformed: {0}")]
    Malformed(String),
    /// An act in a section that is not CONTROL.
    #[error("a membership or epoch act outside of a CONTROL section")]
    NotControl,
    /// Sealed with a suite that this program does not know.
    #[error("the act uses suite {0}, which this program does not know: update it")]
    Suite(u16),
    /// A key that no honest device makes.
    #[error("the act names a key of small order or no key at all")]
    WeakKey,
    /// The author is not enrolled, as far as the acts seen so far tell.
    #[error("the author is not enrolled in this space")]
    NotEnrolled,
    /// The author's first entry does not name its enrolment as seen.
    #[error("the author's first entry does not name its own enrolment as its past")]
    EnrolmentNotSeen,
    /// The author's role does not allow this.
    #[error("the author's role does not allow this")]
    Role,
    /// The author was shut out, and its log is cut before this.
    #[error("the author was shut out of this space before this")]
    Revoked,
    /// It enrols a device that is enrolled already.
    #[error("the device is enrolled already: it keeps its keys, and its role can be changed")]
    Enrolled,
    /// It names acts of membership that are not here.
    #[error("it rests on acts of membership that are not here yet")]
    Unjudged,
    /// An act of membership that is not the first section of its entry.
    #[error("an act of membership that is not the first section of its entry")]
    NotFirst,
    /// One more act of membership than one device may write.
    #[error(
        "its device has written as many acts of membership as one may: another device of an owner \
         or an admin has to do this"
    )]
    TooMany,
    /// The space has no recovery key, or this is not signed by it.
    #[error("not signed by the space's recovery key")]
    NoRecovery,
    /// A genesis act that is not the first section of the space's genesis entry, or is not by its
    /// founder.
    #[error("a genesis act anywhere but at the beginning of its own space")]
    NotGenesis,
    /// An epoch opened in an entry that also holds data, or with recipients that cannot be.
    #[error("the epoch act is not valid: {0}")]
    Epoch(&'static str),
    /// A snapshot act in another form than the one it can have.
    #[error("the snapshot act is not valid: {0}")]
    Snapshot(&'static str),
}
