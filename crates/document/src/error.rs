use larder_types::limits::{
    CHANGE_BYTES_MAX, CHANGE_OPERATIONS_MAX, DOCUMENT_AUTOMERGE_BYTES_MAX, DOCUMENT_DEPTH_MAX,
    DOCUMENT_JSON_BYTES_MAX,
};

/// Why a document could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A body that is not JSON, or not an object.
    #[error("a document's value is one JSON object: {0}")]
    NotAnObject(String),
    /// A body of a newer format, or derived by rules this version does not know.
    #[error(
        "written by a newer version (format {version}, derivation {derivation}): update to read it"
    )]
    Newer {
        /// Of the body.
        version: u8,
        /// Of the root change.
        derivation: u16,
    },
    /// Stored bytes that Automerge does not take for a history.
    #[error("a document's stored history does not load; rebuild it from the log: {0}")]
    Corrupt(String),
    /// More JSON than a document may have.
    #[error(
        "a document of {bytes} bytes of JSON, where at most {DOCUMENT_JSON_BYTES_MAX} are allowed; \
         keep large content in a blob"
    )]
    TooLarge {
        /// How much it was.
        bytes: usize,
    },
    /// A member that no value may have.
    #[error("the member `$trash` says whether a document is in the trash: give yours another name")]
    Reserved,
    /// Arrays and objects nested too deeply.
    #[error("a document is nested at most {DOCUMENT_DEPTH_MAX} levels deep; flatten it")]
    TooDeep,
    /// One edit of too many parts.
    #[error(
        "one edit of {operations} operations, where at most {CHANGE_OPERATIONS_MAX} are allowed; \
         make it in several steps, or keep bulk data in a blob"
    )]
    TooManyOperations {
        /// How many it came to.
        operations: usize,
    },
    /// One edit of too many bytes.
    #[error(
        "one edit of {bytes} bytes, where at most {CHANGE_BYTES_MAX} are allowed; \
         make it in several steps"
    )]
    ChangeTooLarge {
        /// How many it came to.
        bytes: usize,
    },
    /// A history that has grown too long.
    #[error(
        "a document's history would take {bytes} bytes, where at most \
         {DOCUMENT_AUTOMERGE_BYTES_MAX} are allowed; copy its value into a new document"
    )]
    HistoryTooLarge {
        /// How many it would have taken.
        bytes: usize,
    },
    /// Heads that this document never had.
    #[error("no such version of this document here: {heads}; sync, or read it again")]
    UnknownHeads {
        /// What was asked for.
        heads: String,
    },
    /// Automerge failed where it cannot.
    #[error("the document could not be edited, which is a defect of this software: {0}")]
    Internal(String),
}
