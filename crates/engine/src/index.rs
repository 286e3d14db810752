//! The index stage: words follow what transactions made of documents, and vectors follow the words
//! (`embed.rs`).
//!
//! New documents are numbered above all those that are indexed, and so are known without a word. A
//! transaction that changes or deletes one that is indexed puts it into a queue (`unindexed`), with
//! the text that the index has of it. Later transactions bring the index up to date and empty the
//! queue. So nothing is lost between the two, and the index does not hold up a commit. A document
//! that is gone is not found any more, whatever the indexes still hold.

use std::sync::atomic::{AtomicI64, Ordering};

use larder_search::SearchError;
use larder_store::ErrorKind;
use larder_store::space::unindexed::{self, Content, Unindexed};
use larder_types::limits::{INDEX_BYTES_TARGET, INDEX_DOCUMENTS_MAX};
use rusqlite::Connection;

use crate::model::Query;
use crate::rows::{APP_VECTORS, text_of};
use crate::space::Space;
use crate::state::State as WriterState;
use crate::touched::parse;
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// A moment in a space's life, for who wants to know when the indexes are as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexMark {
    place: i64,
    document: i64,
    vectors: Vectors,
}

/// Whether it is for vectors too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vectors {
    No,
    Yes,
    /// The words are there: the vectors that waited then end here.
    To(i64),
}

/// How far the indexes are, and how far they have to go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Queue {
    /// Places given out in the queue.
    end: i64,
    /// Places dealt with.
    done: i64,
    /// Numbers given out to documents.
    last: i64,
    /// Numbers dealt with: of those above, none is indexed.
    indexed: i64,
    /// Places given out among those that wait for their vectors.
    pub(crate) embed_end: i64,
    /// Places dealt with.
    embedded: i64,
}

/// [`Queue`] as of the last transaction, for readers.
#[derive(Debug, Default)]
pub(crate) struct PublishedQueue {
    end: AtomicI64,
    done: AtomicI64,
    last: AtomicI64,
    indexed: AtomicI64,
    embed_end: AtomicI64,
    embedded: AtomicI64,
}

impl Queue {
    pub(crate) fn load(db: &Connection) -> Result<Self> {
        let (first, end) = unindexed::ends(db)?.unwrap_or((1, 0));
        let (indexed, last) = unindexed::behind(db)?;
        let (embed_first, embed_end) = unindexed::unembedded_ends(db)?.unwrap_or((1, 0));
        Ok(Self {
            end,
            done: first - 1,
            last: last.max(indexed),
            indexed,
            embed_end,
            embedded: embed_first - 1,
        })
    }

    /// A document has this number now, above all those that were there.
    fn take(&mut self, document: i64) {
        // It may be that of one which is gone.
        self.indexed = self.indexed.min(document - 1);
        self.last = self.last.max(document);
    }

    /// How many wait, or have gone while they did.
    fn len(&self) -> i64 {
        self.end - self.done + self.last - self.indexed
    }

    /// How many wait for their vectors, or have gone while they did.
    pub(crate) fn unembedded(&self) -> i64 {
        self.embed_end - self.embedded
    }

    /// No vectors are to be made up to this place.
    pub(crate) fn embedded_to(&mut self, place: i64) {
        self.embedded = self.embedded.max(place);
    }

    /// The number of the last document that it was the turn of.
    pub(crate) fn indexed(&self) -> i64 {
        self.indexed
    }

    /// Whether the index of words is behind with this document.
    pub(crate) fn contains(&self, db: &Connection, document: i64) -> Result<bool> {
        Ok(document > self.indexed || unindexed::contains(db, document)?)
    }
}

impl PublishedQueue {
    pub(crate) fn publish(&self, queue: Queue) {
        // First: whoever sees that the words are there is to see what waits for its vector.
        self.embed_end.store(queue.embed_end, Ordering::Release);
        self.embedded.store(queue.embedded, Ordering::Release);
        self.done.store(queue.done, Ordering::Release);
        self.end.store(queue.end, Ordering::Release);
        self.indexed.store(queue.indexed, Ordering::Release);
        self.last.store(queue.last, Ordering::Release);
    }
}

impl Space {
    /// The state that the indexes still have to reach for this query to find all that is committed
    /// now; `None` if they have. Of a space that is opened for reading only it is not known, and
    /// `None`.
    pub fn awaits_index(&self, query: &Query) -> Option<IndexMark> {
        let queue = &self.shared.queue;
        let place = queue.end.load(Ordering::Acquire);
        let document = queue.last.load(Ordering::Acquire);
        let lacks_words = queue.done.load(Ordering::Acquire) < place
            || queue.indexed.load(Ordering::Acquire) < document;
        let lacks_vectors =
            queue.embedded.load(Ordering::Acquire) < queue.embed_end.load(Ordering::Acquire);
        let (vectors, waits) = match (&query.similar, &query.text) {
            (Some(_), _) => (Vectors::Yes, lacks_words || lacks_vectors),
            (None, Some(_)) => (Vectors::No, lacks_words),
            (None, None) => (Vectors::No, false),
        };
        waits.then_some(IndexMark { place, document, vectors })
    }
}

impl SpaceWriter {
    /// Brings the index of words up to date with up to `documents_max` documents that wait for it,
    /// those that wait longest first, in one transaction; after [`INDEX_BYTES_TARGET`] of text it
    /// leaves the others for the next. Returns how many documents were dealt with: none if none
    /// waits. Their vectors are still to be made then ([`SpaceWriter::embed`]).
    ///
    /// # Errors
    /// The storage's errors; everything waits as before then.
    pub fn index(&mut self, documents_max: usize) -> Result<usize> {
        let db = self.connection()?;
        match self.write(db, |tx, state| state.index(tx, documents_max)) {
            Err(error) if is_damage(&error) => {}
            done => return done,
        }
        // A page that cannot be read ends the transaction: what stands there is passed over before.
        let db = self.connection()?;
        let readable = self.state_mut().readable(&db, documents_max);
        match readable {
            Ok(readable) => self.write(db, |tx, state| state.index(tx, readable)),
            Err(error) => {
                self.db = Some(db);
                Err(error)
            }
        }
    }

    /// How many documents wait for their words to be indexed, or have gone while they did.
    pub fn unindexed(&self) -> u64 {
        u64::try_from(self.state().queue.len()).unwrap_or(0)
    }

    /// Whether the indexes hold all that was committed when the mark was taken. Once the words are
    /// there it is noted in the mark which vectors it still waits for.
    pub fn has_indexed(&self, mark: &mut IndexMark) -> bool {
        let Queue { end, done, last, indexed, embed_end, embedded } = self.state().queue;
        if done < mark.place.min(end) || indexed < mark.document.min(last) {
            return false;
        }
        let to = match mark.vectors {
            Vectors::No => return true,
            Vectors::Yes => embed_end,
            Vectors::To(to) => to,
        };
        mark.vectors = Vectors::To(to);
        embedded >= to.min(embed_end)
    }

    /// Empties the index of words and queues every document to be indexed anew.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn reindex(&mut self) -> Result<()> {
        let db = self.connection()?;
        self.write(db, |tx, state| state.reindex(tx))
    }
}

/// What is to be indexed next.
struct Next {
    waiting: Unindexed,
    /// What there is of it; `None` if that has not been read yet.
    content: Option<Content>,
}

/// What became of a document's words.
struct Indexed {
    /// How many bytes were taken in.
    bytes: usize,
    /// They are others than before: its vector is still to be made.
    is_other: bool,
}

impl WriterState {
    /// Has a new document indexed.
    pub(crate) fn index_new(&mut self, document: i64) {
        self.queue.take(document);
    }

    /// Has a document indexed anew that had this JSON before it was changed.
    pub(crate) fn index_changed(
        &mut self,
        db: &Connection,
        document: i64,
        before: &str,
    ) -> Result<()> {
        // Else it is indexed as it is when its turn comes.
        if document <= self.queue.indexed {
            self.enqueue(db, document, Some(before))
        } else {
            Ok(())
        }
    }

    /// Has a document taken out of the indexes that had this JSON and is gone.
    pub(crate) fn index_removed(
        &mut self,
        db: &Connection,
        document: i64,
        before: &str,
    ) -> Result<()> {
        // Also one whose words are not in: its number is not given out as long as it is here, and
        // the app may have brought it a vector.
        let before = (document <= self.queue.indexed).then_some(before);
        self.enqueue(db, document, before)
    }

    fn enqueue(&mut self, db: &Connection, document: i64, indexed: Option<&str>) -> Result<()> {
        let place = self.queue.end + 1;
        if unindexed::add(db, place, document, indexed)? {
            self.queue.end = place;
        }
        Ok(())
    }

    /// Those in the queue first, then those whose words were never in.
    fn next_unindexed(&self, db: &Connection, place: i64, above: i64) -> Result<Option<Next>> {
        if place < self.queue.end
            && let Some(waiting) = unindexed::next(db, place)?
        {
            return Ok(Some(Next { waiting, content: None }));
        }
        let (document, content) = match unindexed::next_document(db, above) {
            Ok(Some(content)) => (content.document, Some(content)),
            Ok(None) => return Ok(None),
            // SQLite undid the transaction: what is written now would stand by itself.
            Err(error) if db.is_autocommit() => return Err(error.into()),
            // Number by number, so that the others do not wait for what is damaged.
            Err(error) if error.kind() == ErrorKind::Corrupt && above < self.queue.last => {
                (above + 1, None)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Next { waiting: Unindexed { place, document, indexed: None }, content }))
    }

    /// How many of those that are next can be read, up to the first that cannot, at most
    /// `documents_max`.
    /// Those that cannot and come before have had their turn. Not for within a transaction.
    fn readable(&mut self, db: &Connection, documents_max: usize) -> Result<usize> {
        let (mut place, mut above, mut count) = (self.queue.done, self.queue.indexed, 0);
        while count < documents_max {
            let waiting = if place < self.queue.end { unindexed::next(db, place)? } else { None };
            let read = match &waiting {
                Some(waiting) => unindexed::document(db, waiting.document),
                None => unindexed::next_document(db, above),
            };
            let may_pass = waiting.is_some() || above < self.queue.last;
            let is_bad = match &read {
                Ok(None) if waiting.is_none() => break,
                Err(error) => error.kind() == ErrorKind::Corrupt && may_pass,
                Ok(_) => false,
            };
            if is_bad && count > 0 {
                break;
            }
            let read = if is_bad { None } else { read? };
            match waiting {
                Some(waiting) => place = waiting.place,
                None => above = read.map_or(above + 1, |read| read.document),
            }
            if is_bad {
                (self.queue.done, self.queue.indexed) = (place, above);
            } else {
                count += 1;
            }
        }
        Ok(count)
    }

    fn index(&mut self, db: &Connection, documents_max: usize) -> Result<usize> {
        let (mut place, mut above) = (self.queue.done, self.queue.indexed);
        let (mut dealt, mut bytes) = (0, 0);
        // New documents, which wait for their vectors together.
        let mut new: Option<(i64, i64)> = None;
        while dealt < documents_max && bytes < INDEX_BYTES_TARGET {
            let Some(next) = self.next_unindexed(db, place, above)? else {
                above = self.queue.last;
                break;
            };
            dealt += 1;
            let Unindexed { place: at, document, .. } = next.waiting;
            let is_new = at == place;
            if is_new {
                above = document;
            } else {
                place = at;
                // Mended: it has its number again, and its turn is still to come.
                if document > above && unindexed::document(db, document)?.is_some() {
                    continue;
                }
            }
            bytes += match index_words(db, next) {
                Ok(Indexed { bytes, is_other }) => {
                    if is_other && is_new {
                        new = Some((new.map_or(document, |(first, _)| first), document));
                    } else if is_other {
                        self.embed_from(db, document, document)?;
                    }
                    bytes
                }
                Err(error) if db.is_autocommit() => return Err(error),
                Err(Error::Search(SearchError::OtherText { .. })) => {
                    self.reindex(db)?;
                    return Ok(dealt);
                }
                // Once only: where it fails again, it is not the index that is damaged.
                Err(Error::Search(error)) if error.is_damage() && !self.damage.has_reindexed => {
                    self.damage.has_reindexed = true;
                    self.reindex(db)?;
                    return Ok(dealt);
                }
                // The other documents do not wait for this one. Mended, it comes into the queue.
                Err(error) if is_damage(&error) => {
                    self.shared.trouble.read_failed(&error);
                    0
                }
                Err(e) => return Err(e),
            };
        }
        if let Some((first, last)) = new {
            self.embed_from(db, first, last)?;
        }
        unindexed::remove_to(db, place)?;
        let Queue { end, .. } = self.queue;
        self.queue.done = unindexed::ends(db)?.map_or(end, |(first, _)| first - 1);
        self.queue.indexed = above;
        Ok(dealt)
    }

    /// Takes out of the indexes at once what is gone: it waits beside what it said.
    pub(crate) fn index_gone(&mut self, db: &Connection) -> Result<()> {
        while self.queue.done < self.queue.end && self.index(db, INDEX_DOCUMENTS_MAX)? > 0 {}
        Ok(())
    }

    pub(crate) fn reindex(&mut self, db: &Connection) -> Result<()> {
        larder_search::clear(db)?;
        unindexed::forget_words(db)?;
        let Queue { end, last, embed_end, .. } = self.queue;
        unindexed::remove_unembedded(db, embed_end)?;
        let done = unindexed::ends(db)?.map_or(end, |(first, _)| first - 1);
        self.queue = Queue { end, done, last, indexed: 0, embed_end, embedded: embed_end };
        Ok(())
    }
}

fn index_words(db: &Connection, next: Next) -> Result<Indexed> {
    let Next { waiting: Unindexed { document, indexed, .. }, content } = next;
    let old = match &indexed {
        Some(json) => Some(text_of(&parse(json)?)),
        None => None,
    };
    let mut bytes = indexed.as_ref().map_or(0, String::len);
    let content = match content {
        Some(content) => Some(content),
        None => unindexed::document(db, document)?,
    };
    let Some(Content { collection, json, .. }) = content else {
        if let Some(old) = &old {
            larder_search::remove_text(db, document, old)?;
        }
        larder_search::remove_vectors(db, document)?;
        return Ok(Indexed { bytes, is_other: false });
    };
    bytes += json.len();
    let text = text_of(&parse(&json)?);
    let is_other = old.as_ref() != Some(&text);
    if is_other {
        larder_search::put_text(db, document, collection.as_str(), old.as_ref(), &text)?;
        larder_search::remove_vectors_but(db, APP_VECTORS, document)?;
    }
    Ok(Indexed { bytes, is_other })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use larder_search::{Among, query_text};
    use larder_types::ObjectId;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::durability_tests::World;
    use crate::{Profile, ProfileOptions, Query, UnitOfWork};

    const WORDS: [&str; 4] = ["apple", "pear", "plum", "fig"];
    const OBJECTS: u8 = 5;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, usize),
        Delete(u8),
        Index(usize),
        /// What is known in memory is read anew.
        Reopen,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..OBJECTS, 0..WORDS.len()).prop_map(|(object, word)| Step::Put(object, word)),
            (0..OBJECTS).prop_map(Step::Delete),
            (1..4_usize).prop_map(Step::Index),
            Just(Step::Reopen),
        ];
        proptest::collection::vec(step, 1..40)
    }

    fn space() -> (Space, SpaceWriter) {
        // Profiles in memory that draw the same name are the same one.
        static WORLDS: AtomicU64 = AtomicU64::new(1);
        let seed = WORLDS.fetch_add(1 << 40, Ordering::Relaxed);
        let world = Arc::new(World(AtomicU64::new(seed)));
        let profile = Profile::in_memory(world, ProfileOptions::default()).unwrap();
        profile.create_space(&"personal:me".parse().unwrap()).unwrap()
    }

    fn commit(writer: &mut SpaceWriter, fill: impl FnOnce(&mut UnitOfWork)) {
        let mut unit = UnitOfWork::new();
        fill(&mut unit);
        writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    fn put(writer: &mut SpaceWriter, object: ObjectId, text: &str) {
        commit(writer, |unit| {
            unit.put("notes", object, &json!({"text": text})).unwrap();
        });
    }

    /// Rows in the index of words, which is sound in itself.
    fn rows(writer: &mut SpaceWriter) -> usize {
        let db = writer.connection().unwrap();
        let count = writer.write(db, |tx, _| {
            let check = "INSERT INTO search_text (search_text) VALUES ('integrity-check')";
            tx.execute_batch(check).unwrap();
            let count = "SELECT count(*) FROM search_documents";
            Ok(tx.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap())
        });
        usize::try_from(count.unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_indexes_follow_whatever_is_written_between(steps in steps()) {
            let (space, mut writer) = space();
            let mut now = std::collections::BTreeMap::new();
            let mut fresh = 0;
            for step in steps {
                match step {
                    Step::Put(n, word) => {
                        let next = || { fresh += 1; (ObjectId::new([fresh; 16]), word) };
                        let (object, last) = now.entry(n).or_insert_with(next);
                        put(&mut writer, *object, WORDS[word]);
                        *last = word;
                    }
                    Step::Delete(n) => if let Some((object, _)) = now.remove(&n) {
                        commit(&mut writer, |unit| { unit.delete(object); });
                    },
                    Step::Reopen => {
                        let db = writer.connection().unwrap();
                        let read = writer.write(db, |tx, state| {
                            state.queue = Queue::load(tx)?;
                            Ok(())
                        });
                        read.unwrap();
                    }
                    Step::Index(count) => {
                        let before = rows(&mut writer);
                        let dealt = writer.index(count).unwrap();
                        prop_assert!(rows(&mut writer) + dealt >= before, "it was built anew");
                    }
                }
                for word in WORDS {
                    for found in space.search(&Query::text(word)).unwrap() {
                        let object = found.document.object;
                        prop_assert!(now.values().any(|(live, _)| *live == object));
                    }
                }
            }
            while writer.index(2).unwrap() > 0 {}
            while writer.embed(2).unwrap() > 0 {}
            prop_assert!(space.awaits_index(&Query::both("")).is_none() && writer.unindexed() == 0);
            prop_assert_eq!(rows(&mut writer), now.len());
            prop_assert_eq!(space.status().unwrap().unindexed, 0);
            for (n, word) in WORDS.iter().enumerate() {
                let db = space.shared.pool.reader().unwrap();
                let hits = query_text(&db, word, &Among::default(), 100).unwrap();
                prop_assert_eq!(hits.len(), now.values().filter(|(_, last)| *last == n).count());
                let found = space.search(&Query::similar(*word)).unwrap();
                prop_assert_eq!(found.len(), now.len());
            }
        }
    }

    #[test]
    fn an_index_that_holds_another_text_is_built_anew() {
        let (space, mut writer) = space();
        for n in 0..3 {
            put(&mut writer, ObjectId::new([n; 16]), WORDS[usize::from(n)]);
        }
        while writer.index(2).unwrap() > 0 {}
        let damage = "UPDATE search_documents SET digest = zeroblob(32)";
        let db = writer.connection().unwrap();
        let damaged = writer.write(db, |tx, _| {
            tx.execute_batch(damage).unwrap();
            Ok(())
        });
        damaged.unwrap();
        put(&mut writer, ObjectId::new([0; 16]), "fig");
        while writer.index(2).unwrap() > 0 {}
        assert_eq!(rows(&mut writer), 3);
        let found = |word| space.search(&Query::text(word)).unwrap().len();
        assert_eq!(WORDS.map(found), [0, 1, 1, 1]);
    }
}
