//! Whether the indexes hold what they should.

use rusqlite::{Connection, OptionalExtension, ffi};

use crate::text::indexed;
use crate::vectors::{Table, dimensions};
use crate::{SearchError, Text};

/// What the indexes hold of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether the words indexed are those of this text.
    pub words: bool,
    /// Whether it has a vector under this embedder.
    pub vector: bool,
}

/// Whether the index of words agrees with itself. Takes a transaction that writes, and changes
/// nothing.
///
/// # Errors
/// [`SearchError::Storage`] if it cannot be read.
pub fn is_sound(tx: &Connection) -> Result<bool, SearchError> {
    match tx.execute_batch("INSERT INTO search_text (search_text) VALUES ('integrity-check')") {
        Ok(()) => Ok(true),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code & 0xff == ffi::SQLITE_CORRUPT =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the indexes hold of a document with this text.
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::Storage`].
pub fn standing(
    connection: &Connection,
    embedder_id: &str,
    document: i64,
    text: &Text,
) -> Result<Standing, SearchError> {
    let is_there = |sql: &str| -> Result<bool, SearchError> {
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row([document], |_| Ok(())).optional()?.is_some())
    };
    let words = indexed(connection, document)? == Some(text.digest())
        && is_there("SELECT 1 FROM search_text_docsize WHERE id = ?")?;
    let Table(name) = Table::named(embedder_id)?;
    let vector = dimensions(connection, embedder_id)?.is_some()
        && is_there(&format!("SELECT 1 FROM {name} WHERE document = ?"))?;
    Ok(Standing { words, vector })
}

/// How many documents the index of words holds that are neither there nor waiting to be taken out.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn strays(connection: &Connection) -> Result<u64, SearchError> {
    let sql = "SELECT count(*) FROM search_documents s
               WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.document = s.document)
                   AND NOT EXISTS (SELECT 1 FROM unindexed u WHERE u.document = s.document)";
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
