use larder_types::limits::VECTOR_DIMENSIONS_MAX;

/// Why an index could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The database said no: busy, full, corrupt, or without this crate's tables.
    #[error("the search index could not be used: {0}")]
    Storage(#[from] rusqlite::Error),
    /// The text to take out is not the one that was put in.
    #[error("document {document} was indexed with another text; clear the index and build it anew")]
    OtherText {
        /// The document's row number.
        document: i64,
    },
    /// An embedder's name that cannot be part of a table's.
    #[error("an embedder's id is 1 to 64 of a-z, 0-9 and '-', not '{0}'")]
    EmbedderId(String),
    /// An embedder whose vectors cannot be stored.
    #[error(
        "embedder '{embedder}' makes vectors of {given} numbers, and they may have 1 to \
         {VECTOR_DIMENSIONS_MAX}"
    )]
    TooManyDimensions {
        /// The embedder's id.
        embedder: String,
        /// What it says its vectors have.
        given: usize,
    },
    /// A vector that does not fit those stored under the same embedder.
    #[error(
        "embedder '{embedder}' is in use with {expected} dimensions, not {given}; \
         give the other model an id of its own"
    )]
    Dimensions {
        /// The embedder's id.
        embedder: String,
        /// What its stored vectors have.
        expected: usize,
        /// What this one has.
        given: usize,
    },
    /// A vector with no dimensions, too many, or with numbers that are not finite.
    #[error("a vector has 1 to {} finite numbers", larder_types::limits::VECTOR_DIMENSIONS_MAX)]
    Vector,
}

impl SearchError {
    /// Whether it says that the index is damaged.
    pub fn is_damage(&self) -> bool {
        let Self::Storage(rusqlite::Error::SqliteFailure(error, _)) = self else { return false };
        // The latter is a page that does not authenticate.
        error.code == rusqlite::ErrorCode::DatabaseCorrupt
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_DATA
    }
}
