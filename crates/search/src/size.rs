//! How large the indexes are, without reading them.

use rusqlite::Connection;

use crate::SearchError;
use crate::vectors::{CHUNK_ROWS, Table};

/// What FTS5 aims at for a leaf of its own, by default.
const LEAF_BYTES: u64 = 4050;
const FLOAT_BYTES: u64 = 4;

/// About how much room the indexes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Bytes of the index of words.
    pub words: u64,
    /// Bytes of vectors, of all embedders.
    pub vectors: u64,
}

/// The sizes of the indexes, from what is kept about their pages and chunks.
///
/// # Errors
/// The database's errors.
pub fn sizes(conn: &Connection) -> Result<Sizes, SearchError> {
    // A segment's leaves are numbered from one on; the lowest bit says something else.
    let leaves: u32 = conn.query_row(
        "SELECT coalesce(sum(last >> 1), 0)
         FROM (SELECT max(pgno) AS last FROM search_text_idx GROUP BY segid)",
        [],
        |row| row.get(0),
    )?;
    let embedders: Vec<(String, u32)> = conn
        .prepare("SELECT id, dimensions FROM search_embedders")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut vectors = 0;
    for (id, dimensions) in embedders {
        let chunks = format!("SELECT count(*) FROM {}", Table::named(&id)?.part("chunks"));
        let chunks: u32 = conn.query_row(&chunks, [], |row| row.get(0))?;
        vectors += u64::from(chunks) * CHUNK_ROWS as u64 * u64::from(dimensions) * FLOAT_BYTES;
    }
    Ok(Sizes { words: u64::from(leaves) * LEAF_BYTES, vectors })
}
