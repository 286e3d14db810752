//! The last stage: vectors follow the words.
//!
//! An embedder may take milliseconds for a text, or for ever, so neither a transaction nor the
//! index of words waits for it: a lot of texts is taken out, embedded wherever the app likes, and
//! brought back. A vector is stored only if the words indexed are still those of its text. Until
//! then a changed document has none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use larder_search::{EmbedError, Embedder, SearchError, Text};
use larder_store::space::unindexed::{self, Content};
use larder_types::CollectionName;
use larder_types::limits::INDEX_BYTES_TARGET;
use rusqlite::Connection;

use crate::Result;
use crate::rows::text_of;
use crate::state::State as WriterState;
use crate::touched::parse;
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;

/// A document whose vector is to be made.
#[derive(Debug)]
struct Waiting {
    document: i64,
    collection: CollectionName,
    digest: [u8; 32],
}

/// Texts that wait for their vectors: those that wait longest.
#[derive(Debug)]
pub struct Unembedded {
    to: i64,
    waiting: Vec<Waiting>,
    texts: Vec<String>,
}

/// The same with their vectors.
#[derive(Debug)]
pub struct Embedded {
    to: i64,
    vectors: Vec<(Waiting, Option<Vec<f32>>)>,
}

impl Unembedded {
    /// Has all embedded in one call, or each by itself if that fails. A text that the embedder
    /// fails on, or panics on, alone has no vector: that is a matter of this device alone, and
    /// stops nothing.
    pub fn embed(self, embedder: &dyn Embedder) -> Embedded {
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let each = |text: &&str| embed(embedder, &[*text]).ok().and_then(|mut one| one.pop());
        let vectors: Vec<Option<Vec<f32>>> = match embed(embedder, &texts) {
            Ok(vectors) => vectors.into_iter().map(Some).collect(),
            Err(_) => texts.iter().map(each).collect(),
        };
        Embedded { to: self.to, vectors: self.waiting.into_iter().zip(vectors).collect() }
    }
}

fn embed(
    embedder: &dyn Embedder,
    texts: &[&str],
) -> std::result::Result<Vec<Vec<f32>>, EmbedError> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let tried = catch_unwind(AssertUnwindSafe(|| embedder.embed_batch(texts)));
    let vectors = tried.unwrap_or_else(|_| Err(EmbedError("it panicked".into())))?;
    if vectors.len() != texts.len() {
        let message = "it returned another number of vectors than it was given texts";
        return Err(EmbedError(message.into()));
    }
    Ok(vectors)
}

/// Whether a vector can be made of a text.
pub(crate) fn has_vector(embedder: &dyn Embedder, text: &Text) -> bool {
    embed(embedder, &[&embedded(text)]).is_ok()
}

/// What of a document is embedded.
fn embedded(Text { title, body }: &Text) -> String {
    format!("{title}\n{body}")
}

impl SpaceWriter {
    /// How many documents have their words indexed and wait for their vectors, or have gone while
    /// they did; one that changed meanwhile counts for each time.
    pub fn unembedded(&self) -> u64 {
        u64::try_from(self.state().queue.unembedded()).unwrap_or(0)
    }

    /// Up to `documents_max` documents that wait for their vectors, those that wait longest first;
    /// fewer after [`INDEX_BYTES_TARGET`] of text. They wait until [`SpaceWriter::store_vectors`].
    ///
    /// # Errors
    /// The storage's errors.
    pub fn next_unembedded(&mut self, documents_max: usize) -> Result<Unembedded> {
        let db = self.connection()?;
        let found = self.state().next_unembedded(&db, documents_max);
        self.db = Some(db);
        found
    }

    /// Stores vectors, and takes their documents out of those that wait.
    ///
    /// # Errors
    /// The storage's errors; all of them wait as before then.
    pub fn store_vectors(&mut self, embedded: &Embedded) -> Result<()> {
        let db = self.connection()?;
        self.write(db, |tx, state| state.store_vectors(tx, embedded))
    }

    /// Makes and stores the vectors of up to `documents_max` documents here and now. Returns
    /// how many still wait.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn embed(&mut self, documents_max: usize) -> Result<u64> {
        let embedder = self.embedder();
        let texts = self.next_unembedded(documents_max)?;
        self.store_vectors(&texts.embed(&*embedder))?;
        Ok(self.unembedded())
    }

    /// What makes vectors of texts.
    pub fn embedder(&self) -> Arc<dyn Embedder> {
        Arc::clone(&self.shared.embedder)
    }
}

impl WriterState {
    fn next_unembedded(&self, db: &Connection, documents_max: usize) -> Result<Unembedded> {
        let mut lot = Unembedded { to: 0, waiting: Vec::new(), texts: Vec::new() };
        let mut bytes = 0;
        for _ in 0..documents_max {
            if bytes >= INDEX_BYTES_TARGET {
                break;
            }
            let Some((place, document)) = unindexed::next_unembedded(db, lot.to)? else {
                lot.to = self.queue.embed_end;
                break;
            };
            lot.to = place;
            match unindexed::document(db, document).map_err(crate::Error::from) {
                Ok(Some(content)) => bytes += lot.push(db, content)?,
                Ok(None) => {}
                // The other documents do not wait for this one. Mended, it comes again.
                Err(error) if is_damage(&error) => self.shared.trouble.read_failed(&error),
                Err(error) => return Err(error),
            }
        }
        Ok(lot)
    }

    fn store_vectors(&mut self, db: &Connection, embedded: &Embedded) -> Result<()> {
        let id = self.shared.embedder.id();
        for (waiting, vector) in &embedded.vectors {
            let Waiting { document, collection, digest } = waiting;
            if larder_search::indexed(db, *document)? != Some(*digest) {
                continue;
            }
            let put = vector.as_ref().map(|vector| {
                larder_search::put_vector(db, id, *document, collection.as_str(), vector)
            });
            match put {
                Some(Ok(())) => {}
                Some(Err(e @ SearchError::Storage(_))) => return Err(e.into()),
                None | Some(Err(_)) => larder_search::remove_vector(db, id, *document)?,
            }
        }
        unindexed::remove_unembedded(db, embedded.to)?;
        self.queue.embedded_to(embedded.to);
        Ok(())
    }
}

impl Unembedded {
    /// Takes a document in, unless its words are to be indexed anew: then it comes again. Returns
    /// how many bytes of text that is.
    fn push(&mut self, db: &Connection, content: Content) -> Result<usize> {
        let Content { document, collection, json } = content;
        let Ok(value) = parse(&json) else { return Ok(0) };
        let text = text_of(&value);
        let digest = text.digest();
        let is_known = self.waiting.iter().any(|other| other.document == document);
        if is_known || larder_search::indexed(db, document)? != Some(digest) {
            return Ok(0);
        }
        let text = embedded(&text);
        let bytes = text.len();
        self.waiting.push(Waiting { document, collection, digest });
        self.texts.push(text);
        Ok(bytes)
    }
}
