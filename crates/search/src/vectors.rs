use larder_types::limits::{SEARCH_RESULTS_MAX, VECTOR_DIMENSIONS_MAX};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::text::{collection_id, find_collection};
use crate::{Among, Hit, SearchError};

const EMBEDDER_ID_MAX: usize = 64;

/// Vectors in one blob of the index. A vector is written into its chunk's blob, so that a large one
/// (sqlite-vec's default is 1,024 rows, a megabyte and more) costs a long walk for each.
pub(crate) const CHUNK_ROWS: usize = 64;

/// Whether an embedder can be used: its id names a table, and there is room for its vectors.
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::TooManyDimensions`].
pub fn check_embedder(embedder_id: &str, dimensions: usize) -> Result<(), SearchError> {
    Table::named(embedder_id)?;
    if (1..=VECTOR_DIMENSIONS_MAX).contains(&dimensions) {
        return Ok(());
    }
    let embedder = embedder_id.to_owned();
    Err(SearchError::TooManyDimensions { embedder, given: dimensions })
}

/// Stores a document's vector, in place of the one it had under this embedder. Its length does not
/// matter, only its direction.
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::Dimensions`], [`SearchError::Vector`],
/// [`SearchError::Storage`].
pub fn put_vector(
    tx: &Connection,
    embedder_id: &str,
    document: i64,
    collection: &str,
    vector: &[f32],
) -> Result<(), SearchError> {
    let table = Table::named(embedder_id)?;
    let bytes = bytes_of(vector)?;
    match dimensions(tx, embedder_id)? {
        Some(expected) => fits(embedder_id, expected, vector.len())?,
        None => table.create(tx, embedder_id, vector.len())?,
    }
    let collection = collection_id(tx, collection)?;
    table.remove(tx, document)?;
    let Table(name) = table;
    let sql = format!("INSERT INTO {name} (document, collection, embedding) VALUES (?, ?, ?)");
    tx.prepare_cached(&sql)?.execute(params![document, collection, bytes])?;
    Ok(())
}

/// Removes a document's vector under one embedder, if it has one.
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::Storage`].
pub fn remove_vector(tx: &Connection, embedder_id: &str, document: i64) -> Result<(), SearchError> {
    let table = Table::named(embedder_id)?;
    match dimensions(tx, embedder_id)? {
        Some(_) => table.remove(tx, document),
        None => Ok(()),
    }
}

/// Removes a document's vectors under all embedders.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn remove_vectors(tx: &Connection, document: i64) -> Result<(), SearchError> {
    remove_vectors_but(tx, "", document)
}

/// Removes a document's vectors under all embedders but one.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn remove_vectors_but(
    tx: &Connection,
    embedder_id: &str,
    document: i64,
) -> Result<(), SearchError> {
    let mut statement = tx.prepare_cached("SELECT id FROM search_embedders WHERE id <> ?")?;
    let ids = statement.query_map([embedder_id], |row| row.get::<_, String>(0))?;
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    ids.iter().try_for_each(|id| Table::named(id)?.remove(tx, document))
}

/// Whether a document has a vector under an embedder.
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::Storage`].
pub fn has_vector(
    connection: &Connection,
    embedder_id: &str,
    document: i64,
) -> Result<bool, SearchError> {
    let table = Table::named(embedder_id)?;
    Ok(dimensions(connection, embedder_id)?.is_some() && table.holds(connection, document)?)
}

/// Removes what was stored under all embedders but some, or a part of it: at most `vectors_max`
/// vectors, rounded up to whole chunks. Nobody may be searching them. Returns whether that was all.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn remove_embedders_but(
    tx: &Connection,
    kept: &[&str],
    vectors_max: usize,
) -> Result<bool, SearchError> {
    let mut statement = tx.prepare_cached("SELECT id FROM search_embedders")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    let Some(id) = ids.iter().find(|id| !kept.contains(&id.as_str())) else { return Ok(true) };
    let table = Table::named(id)?;
    let chunks = vectors_max.div_ceil(CHUNK_ROWS);
    // Beneath sqlite-vec, which would go through them one by one.
    let vectors = table.part("vector_chunks00");
    let sql = format!(
        "DELETE FROM {vectors} WHERE rowid IN (SELECT rowid FROM {vectors} LIMIT {chunks})"
    );
    if tx.execute(&sql, [])? < chunks {
        let Table(name) = table;
        tx.execute_batch(&format!("DROP TABLE {name}"))?;
        tx.execute("DELETE FROM search_embedders WHERE id = ?", [id])?;
    }
    Ok(false)
}

/// The documents whose vectors under this embedder point most nearly the same way, best first;
/// every vector is compared. The score is the cosine of the angle. None, if nothing was stored
/// under this embedder. At most `limit`, and at most [`SEARCH_RESULTS_MAX`].
///
/// # Errors
/// [`SearchError::EmbedderId`], [`SearchError::Dimensions`], [`SearchError::Vector`],
/// [`SearchError::Storage`].
pub fn query_vector(
    connection: &Connection,
    embedder_id: &str,
    vector: &[f32],
    among: &Among<'_>,
    limit: usize,
) -> Result<Vec<Hit>, SearchError> {
    let Table(name) = Table::named(embedder_id)?;
    let bytes = bytes_of(vector)?;
    let Some(expected) = dimensions(connection, embedder_id)? else { return Ok(Vec::new()) };
    fits(embedder_id, expected, vector.len())?;
    let limit = i64::try_from(limit.min(SEARCH_RESULTS_MAX)).unwrap_or(i64::MAX);
    if limit == 0 || vector.iter().all(|x| *x == 0.0) {
        return Ok(Vec::new());
    }
    let hit = |row: &rusqlite::Row<'_>| {
        // Null where a stored vector has no direction.
        let distance: Option<f64> = row.get(1)?;
        Ok((row.get(0)?, distance))
    };
    let mut sql =
        format!("SELECT document, distance FROM {name} WHERE embedding MATCH ? AND k = ?");
    let mut parameters: Vec<Value> = vec![bytes.into(), limit.into()];
    if let Some(collection) = among.collection {
        let Some(collection) = find_collection(connection, collection)? else {
            return Ok(Vec::new());
        };
        sql.push_str(" AND collection = ?");
        parameters.push(collection.into());
    }
    if let Some(documents) = among.documents {
        sql.push_str(" AND document IN (SELECT value FROM json_each(?))");
        parameters.push(documents.to_owned().into());
    }
    let rows: Vec<(i64, Option<f64>)> = connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(parameters), hit)?
        .collect::<Result<_, _>>()?;
    let found = |(document, distance): (i64, Option<f64>)| {
        distance.filter(|d| d.is_finite()).map(|d| Hit { document, score: 1.0 - d })
    };
    Ok(rows.into_iter().filter_map(found).collect())
}

/// The quoted name of an embedder's table.
pub(crate) struct Table(pub(crate) String);

impl Table {
    pub(crate) fn named(embedder_id: &str) -> Result<Self, SearchError> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=EMBEDDER_ID_MAX).contains(&embedder_id.len()) && embedder_id.chars().all(is_allowed)
        {
            Ok(Self(format!("\"search_vectors_{}\"", embedder_id.replace('-', "_"))))
        } else {
            Err(SearchError::EmbedderId(embedder_id.to_owned()))
        }
    }

    /// The quoted name of one of the tables that vec0 keeps it in.
    pub(crate) fn part(&self, part: &str) -> String {
        format!("\"{}_{part}\"", self.0.trim_matches('"'))
    }

    fn create(
        &self,
        tx: &Connection,
        embedder_id: &str,
        dimensions: usize,
    ) -> Result<(), SearchError> {
        let Self(name) = self;
        // One may have been left by a migration down and up again.
        tx.execute_batch(&format!(
            "DROP TABLE IF EXISTS {name};
             CREATE VIRTUAL TABLE {name} USING vec0(
                 document INTEGER PRIMARY KEY,
                 collection INTEGER,
                 embedding FLOAT[{dimensions}] distance_metric=cosine,
                 chunk_size={CHUNK_ROWS}
             );"
        ))?;
        tx.prepare_cached("INSERT INTO search_embedders (id, dimensions) VALUES (?, ?)")?
            .execute(params![embedder_id, i64::try_from(dimensions).unwrap_or(i64::MAX)])?;
        Ok(())
    }

    /// sqlite-vec overwrites with zeros what it deletes (a test looks).
    fn remove(&self, tx: &Connection, document: i64) -> Result<(), SearchError> {
        let Self(name) = self;
        if !self.holds(tx, document)? {
            return Ok(());
        }
        tx.prepare_cached(&format!("DELETE FROM {name} WHERE document = ?"))?
            .execute([document])?;
        Ok(())
    }
}

impl Table {
    /// Whether there is a vector of a document. Asked of the table beneath: of sqlite-vec itself it
    /// takes as long as to store one.
    pub(crate) fn holds(
        &self,
        connection: &Connection,
        document: i64,
    ) -> Result<bool, SearchError> {
        let Self(name) = self;
        let sql = format!("SELECT 1 FROM {}_rowids\" WHERE rowid = ?", name.trim_end_matches('"'));
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_row([document], |_| Ok(())).optional()?.is_some())
    }
}

pub(crate) fn dimensions(
    connection: &Connection,
    embedder_id: &str,
) -> Result<Option<usize>, SearchError> {
    let mut statement =
        connection.prepare_cached("SELECT dimensions FROM search_embedders WHERE id = ?")?;
    let stored: Option<i64> = statement.query_row([embedder_id], |row| row.get(0)).optional()?;
    Ok(stored.map(|n| usize::try_from(n).unwrap_or(0)))
}

fn fits(embedder: &str, expected: usize, given: usize) -> Result<(), SearchError> {
    if expected == given {
        Ok(())
    } else {
        Err(SearchError::Dimensions { embedder: embedder.to_owned(), expected, given })
    }
}

fn bytes_of(vector: &[f32]) -> Result<Vec<u8>, SearchError> {
    let is_sound = (1..=VECTOR_DIMENSIONS_MAX).contains(&vector.len());
    if is_sound && vector.iter().all(|x| x.is_finite()) {
        Ok(vector.iter().flat_map(|x| x.to_le_bytes()).collect())
    } else {
        Err(SearchError::Vector)
    }
}
