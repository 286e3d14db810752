use larder_types::limits::QUERY_WORDS_MAX;
use larder_types::limits::SEARCH_RESULTS_MAX;
use rusqlite::{Connection, OptionalExtension, named_params, params};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Among, Hit, SearchError};

const TITLE_KEYS: [&str; 3] = ["title", "name", "path"];
const TITLE_WEIGHT: f64 = 5.0;
const BODY_WEIGHT: f64 = 1.0;
const WORD_CHARS_MAX: usize = 64;

/// What of a document can be searched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// Weighs five times as much as the rest.
    pub title: String,
    /// Everything else.
    pub body: String,
}

impl Text {
    /// What is kept of it beside the index of words.
    pub fn digest(&self) -> [u8; 32] {
        let title_len = self.title.len() as u64;
        Sha256::new()
            .chain_update(title_len.to_le_bytes())
            .chain_update(&self.title)
            .chain_update(&self.body)
            .finalize()
            .into()
    }
}

/// The text of a document without a contract: `title`, `name` or `path`, whichever comes first and
/// is not empty, is the title; all other strings, at any depth, are the body, a line each.
pub fn text_of(value: &serde_json::Map<String, Value>) -> Text {
    let title_of =
        |key: &&str| value.get(*key).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
    let title_key = TITLE_KEYS.into_iter().find(title_of);
    let mut text = Text::default();
    for (key, value) in value {
        match value {
            Value::String(title) if Some(key.as_str()) == title_key => {
                title.clone_into(&mut text.title);
            }
            other => gather(other, &mut text.body),
        }
    }
    text
}

fn gather(value: &Value, body: &mut String) {
    match value {
        Value::String(string) if !string.is_empty() => {
            if !body.is_empty() {
                body.push('\n');
            }
            body.push_str(string);
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, body)),
        Value::Object(object) => object.values().for_each(|value| gather(value, body)),
        _ => {}
    }
}

/// Indexes a document's text, in place of `old` if it was indexed before.
///
/// # Errors
/// [`SearchError::OtherText`] if `old` is not what is indexed; [`SearchError::Storage`].
pub fn put_text(
    tx: &Connection,
    document: i64,
    collection: &str,
    old: Option<&Text>,
    new: &Text,
) -> Result<(), SearchError> {
    if let Some(old) = old {
        remove_text(tx, document, old)?;
    }
    let collection = collection_id(tx, collection)?;
    let inserted = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO search_documents (document, collection, digest)
             VALUES (?, ?, ?)",
        )?
        .execute(params![document, collection, new.digest()])?;
    if inserted == 0 {
        return Err(SearchError::OtherText { document });
    }
    tx.prepare_cached("INSERT INTO search_text (rowid, title, body) VALUES (?, ?, ?)")?
        .execute(params![document, new.title, new.body])?;
    Ok(())
}

/// Takes a document's text out of the index; `old` is what was put in last.
///
/// # Errors
/// [`SearchError::OtherText`] if it is not; [`SearchError::Storage`].
pub fn remove_text(tx: &Connection, document: i64, old: &Text) -> Result<(), SearchError> {
    if indexed(tx, document)? != Some(old.digest()) {
        return Err(SearchError::OtherText { document });
    }
    tx.prepare_cached(
        "INSERT INTO search_text (search_text, rowid, title, body) VALUES ('delete', ?, ?, ?)",
    )?
    .execute(params![document, old.title, old.body])?;
    tx.prepare_cached("DELETE FROM search_documents WHERE document = ?")?.execute([document])?;
    Ok(())
}

/// Empties the index of texts, so that it can be built anew.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn clear(tx: &Connection) -> Result<(), SearchError> {
    tx.execute_batch(
        "INSERT INTO search_text (search_text) VALUES ('delete-all');
         DELETE FROM search_documents;",
    )?;
    Ok(())
}

/// The documents that hold all words of `query`, best first (BM25, Robertson et al. 1994); if
/// there are none, those that hold any. Case and diacritics do not matter. The last word may be
/// the beginning of one, unless white space follows it. At most `limit`, and at most
/// [`SEARCH_RESULTS_MAX`].
///
/// # Errors
/// [`SearchError::Storage`]; never for what `query` says.
pub fn query_text(
    connection: &Connection,
    query: &str,
    among: &Among<'_>,
    limit: usize,
) -> Result<Vec<Hit>, SearchError> {
    let phrases = phrases(query);
    if phrases.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let hits = matches(connection, &phrases.join(" AND "), among, limit)?;
    if hits.is_empty() && phrases.len() > 1 {
        return matches(connection, &phrases.join(" OR "), among, limit);
    }
    Ok(hits)
}

/// The words of a query, each quoted. What holds no letter or digit is no word to the index.
fn phrases(query: &str) -> Vec<String> {
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let mut words: Vec<String> = words(query)
        .map(|word| {
            let word: String = word.chars().take(WORD_CHARS_MAX).collect();
            format!("\"{}\"", word.replace('"', " "))
        })
        .collect();
    let is_open = query.chars().next_back().is_some_and(|last| !is_gap(last) && last != '"');
    if let Some(last) = words.last_mut().filter(|word| is_open && word.chars().count() > 3) {
        last.push('*');
    }
    words
}

/// The words of what a person typed.
pub(crate) fn words(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| c.is_whitespace() || c.is_control() || c == '"')
        .filter(|word| word.contains(char::is_alphanumeric))
        .take(QUERY_WORDS_MAX)
}

fn matches(
    connection: &Connection,
    expression: &str,
    among: &Among<'_>,
    limit: usize,
) -> Result<Vec<Hit>, SearchError> {
    let sql = format!(
        "SELECT search_text.rowid, bm25(search_text, {TITLE_WEIGHT:.1}, {BODY_WEIGHT:.1}) AS cost
         FROM search_text JOIN search_documents ON document = search_text.rowid
         WHERE search_text MATCH :expression AND (:collection IS NULL OR collection =
             (SELECT id FROM search_collections WHERE name = :collection))
             AND (:documents IS NULL OR document IN (SELECT value FROM json_each(:documents)))
         ORDER BY cost, document LIMIT :limit"
    );
    let limit = i64::try_from(limit.min(SEARCH_RESULTS_MAX)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":expression": expression, ":collection": among.collection,
        ":documents": among.documents, ":limit": limit,
    };
    let hits = statement.query_map(parameters, |row| {
        let cost: f64 = row.get(1)?;
        Ok(Hit { document: row.get(0)?, score: -cost })
    })?;
    Ok(hits.collect::<Result<_, _>>()?)
}

/// The number of a collection's name, given out at its first use.
pub(crate) fn collection_id(tx: &Connection, name: &str) -> Result<i64, SearchError> {
    let known = find_collection(tx, name)?;
    if let Some(id) = known {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO search_collections (name) VALUES (?)")?.execute([name])?;
    Ok(tx.last_insert_rowid())
}

pub(crate) fn find_collection(
    connection: &Connection,
    name: &str,
) -> Result<Option<i64>, SearchError> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM search_collections WHERE name = ?")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The digest of the text that is indexed of a document.
///
/// # Errors
/// [`SearchError::Storage`].
pub fn indexed(tx: &Connection, document: i64) -> Result<Option<[u8; 32]>, SearchError> {
    let mut statement =
        tx.prepare_cached("SELECT digest FROM search_documents WHERE document = ?")?;
    Ok(statement.query_row([document], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> (String, String) {
        let text = text_of(value.as_object().unwrap());
        (text.title, text.body)
    }

    #[test]
    fn the_first_of_title_name_and_path_is_the_title() {
        let of = |title: &str, body: &str| (title.to_owned(), body.to_owned());
        assert_eq!(
            text(&json!({"name": "n", "title": "t", "x": {"y": ["z", 1]}})),
            of("t", "n\nz")
        );
        assert_eq!(text(&json!({"path": "a/b.md", "title": "", "body": "c"})), of("a/b.md", "c"));
        assert_eq!(text(&json!({"title": 7, "name": ["n"]})), of("", "n"));
        assert_eq!(text(&json!({})), of("", ""));
    }

    #[test]
    fn queries_are_quoted_word_by_word() {
        assert_eq!(phrases("fish soup"), ["\"fish\"", "\"soup\"*"]);
        assert_eq!(phrases("fish soup "), ["\"fish\"", "\"soup\""]);
        assert_eq!(
            phrases("a\"b OR -c* ^d NEAR(\0e"),
            ["\"a\"", "\"b\"", "\"OR\"", "\"-c*\"", "\"^d\"", "\"NEAR(\"", "\"e\""]
        );
        assert!(phrases(" - \" ** \0 ").is_empty());
        assert_eq!(phrases(&"w ".repeat(1000)).len(), QUERY_WORDS_MAX);
    }
}
