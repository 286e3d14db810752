//! The last stage: vectors follow the words.
//!
//! An embedder may take milliseconds for a text, or for ever, so neither a transaction nor the
//! index of words waits for it: a lot of texts is taken out, embedded wherever the app likes, and
//! brought back. A vector is stored only if the words indexed are still those of its text. Until
//! then a changed document has none.
//!
//! Invariant: whichever embedder made a vector, it is that of the text whose words are indexed. So
//! an app may bring another embedder, and the one before again: what has no vector of it gets one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use larder_search::{EmbedError, Embedder, SearchError, Text};
use larder_store::space::unindexed::{self, Content};
use larder_types::CollectionName;
use larder_types::limits::INDEX_BYTES_TARGET;
use rusqlite::Connection;

use crate::rows::{APP_VECTORS, text_of};
use crate::state::State as WriterState;
use crate::touched::parse;
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// A document whose vector is to be made.
#[derive(Debug)]
struct Waiting {
    document: i64,
    collection: CollectionName,
    digest: [u8; 32],
}

/// How far those that wait are dealt with.
#[derive(Debug, Clone, Copy, Default)]
struct Dealt {
    /// All up to this place.
    to: i64,
    /// The first that still waits at the next one, if some there are dealt with.
    rest: Option<(i64, i64)>,
}

/// Texts that wait for their vectors: those that wait longest.
#[derive(Debug, Default)]
pub struct Unembedded {
    dealt: Dealt,
    waiting: Vec<Waiting>,
    texts: Vec<String>,
    bytes: usize,
}

/// The same with their vectors.
#[derive(Debug)]
pub struct Embedded {
    dealt: Dealt,
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
        Embedded { dealt: self.dealt, vectors: self.waiting.into_iter().zip(vectors).collect() }
    }
}

/// Whether an app's embedder can be used.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check(embedder: &dyn Embedder) -> Result<()> {
    let id = embedder.id();
    if id.strip_prefix(APP_VECTORS).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
        return Err(Error::Invalid(format!(
            "an embedder may not be called '{id}': '{APP_VECTORS}' names the vectors that apps \
             bring themselves; give it another id"
        )));
    }
    larder_search::check_embedder(id, embedder.dimensions())
        .map_err(|error| Error::Invalid(error.to_string()))
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

    /// Begins to use the embedder that the app brought.
    pub(crate) fn settle_embedder(&mut self) {
        let id = self.shared.embedder.id();
        if self.state().embedder.as_deref() == Some(id) {
            return;
        }
        if self.state().queue.indexed() == 0 {
            // Written with the first transaction.
            self.state_mut().embedder = Some(id.to_owned());
            return;
        }
        // Where that fails, which the space's state tells, it is tried when it is opened again.
        let _ = self.record(|tx, state| state.change_embedder(tx));
    }

    /// What makes vectors of texts.
    pub fn embedder(&self) -> Arc<dyn Embedder> {
        Arc::clone(&self.shared.embedder)
    }
}

impl WriterState {
    /// Has the vectors of all documents made that have none of this embedder, if the app brought
    /// another one before. What other embedders made goes once these are there.
    pub(crate) fn change_embedder(&mut self, db: &Connection) -> Result<()> {
        self.embedder = Some(self.shared.embedder.id().to_owned());
        self.embed_from(db, 1, self.queue.indexed())
    }

    /// Has the vectors of those documents made that have none.
    pub(crate) fn embed_from(&mut self, db: &Connection, first: i64, last: i64) -> Result<()> {
        let place = self.queue.embed_end + 1;
        unindexed::add_unembedded(db, unindexed::Unembedded { place, first, last })?;
        self.queue.embed_end = place;
        Ok(())
    }

    fn next_unembedded(&self, db: &Connection, documents_max: usize) -> Result<Unembedded> {
        let mut lot = Unembedded::default();
        let mut looked = LOOKED_MAX;
        while let Some(mut row) = unindexed::next_unembedded(db, lot.dealt.to)? {
            while let Some(document) = unindexed::first_of(db, row)? {
                if lot.texts.len() == documents_max
                    || lot.bytes >= INDEX_BYTES_TARGET
                    || looked == 0
                {
                    lot.dealt.rest = Some((row.place, document));
                    return Ok(lot);
                }
                looked -= 1;
                match self.take_text(db, &mut lot, document) {
                    Ok(()) => {}
                    // The other documents do not wait for this one. Mended, it comes again.
                    Err(error) if is_damage(&error) => self.shared.trouble.read_failed(&error),
                    Err(error) => return Err(error),
                }
                row.first = document + 1;
            }
            lot.dealt.to = row.place;
        }
        lot.dealt.to = self.queue.embed_end;
        Ok(lot)
    }

    /// Takes a document in, unless it has its vector, or its words are to be indexed anew: then it
    /// comes again.
    fn take_text(&self, db: &Connection, lot: &mut Unembedded, document: i64) -> Result<()> {
        let is_known = lot.waiting.iter().any(|other| other.document == document);
        if is_known || larder_search::has_vector(db, self.shared.embedder.id(), document)? {
            return Ok(());
        }
        let Some(Content { collection, json, .. }) = unindexed::document(db, document)? else {
            return Ok(());
        };
        let Ok(value) = parse(&json) else { return Ok(()) };
        let text = text_of(&value);
        let digest = text.digest();
        if larder_search::indexed(db, document)? == Some(digest) {
            let text = embedded(&text);
            lot.bytes += text.len();
            lot.waiting.push(Waiting { document, collection, digest });
            lot.texts.push(text);
        }
        Ok(())
    }

    fn store_vectors(&mut self, db: &Connection, embedded: &Embedded) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let id = shared.embedder.id();
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
        let Dealt { to, rest } = embedded.dealt;
        unindexed::remove_unembedded(db, to)?;
        if let Some((place, first)) = rest {
            unindexed::shorten_unembedded(db, place, first)?;
        }
        self.queue.embedded_to(to);
        // What is left of others is removed with a lot in which nothing may be to be embedded.
        let is_more = self.queue.unembedded() == 0
            && !larder_search::remove_embedders_but(db, &[id, APP_VECTORS], REMOVED_MAX)?;
        if is_more { self.embed_from(db, 0, 0) } else { Ok(()) }
    }
}

/// Documents that are looked at for a lot: most of them may have their vectors.
const LOOKED_MAX: usize = 4096;
/// Vectors of other embedders that go in one transaction.
const REMOVED_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    use larder_types::ObjectId;
    use larder_types::limits::VECTOR_DIMENSIONS_MAX;
    use serde_json::json;

    use super::*;
    use crate::durability_tests::World;
    use crate::heal::Checking;
    use crate::{
        Access, CheckReport, Profile, ProfileOptions, Query, Secret, Space, UnitOfWork, Unlock,
    };

    /// Counts the texts that it is given.
    struct Counting {
        id: &'static str,
        dimensions: usize,
        given: AtomicUsize,
        fails: AtomicBool,
    }

    impl Counting {
        fn new(id: &'static str, dimensions: usize) -> Arc<Self> {
            let (given, fails) = (AtomicUsize::new(0), AtomicBool::new(false));
            Arc::new(Self { id, dimensions, given, fails })
        }

        fn given(&self) -> usize {
            self.given.swap(0, Ordering::Relaxed)
        }
    }

    impl Embedder for Counting {
        fn id(&self) -> &str {
            self.id
        }

        fn dimensions(&self) -> usize {
            self.dimensions
        }

        fn embed_batch(&self, texts: &[&str]) -> std::result::Result<Vec<Vec<f32>>, EmbedError> {
            self.given.fetch_add(texts.len(), Ordering::Relaxed);
            if self.fails.load(Ordering::Relaxed) {
                return Err(EmbedError("the model is not there".into()));
            }
            let vector = |text: &&str| {
                let lengths = (1..=self.dimensions).map(|n| text.len() % (n + 7));
                lengths.map(|n| u16::try_from(n + 1).unwrap().into()).collect()
            };
            Ok(texts.iter().map(vector).collect())
        }
    }

    fn unlock() -> Unlock {
        Unlock::Key(Secret::new([7; 32]))
    }

    fn opened(dir: &Path, embedder: &Arc<Counting>) -> (Space, SpaceWriter) {
        let world = Arc::new(World(AtomicU64::new(1)));
        let unlock = unlock();
        let options =
            ProfileOptions { embedder: Some(embedder.clone()), ..ProfileOptions::default() };
        let name = "personal:me".parse().unwrap();
        if dir.read_dir().unwrap().next().is_none() {
            let profile = Profile::create(world, dir, &unlock, options).unwrap();
            return profile.create_space(&name).unwrap();
        }
        let profile = Profile::open(world, dir, &unlock, Access::ReadWrite, options).unwrap();
        let (space, writer) = profile.open_space(&name).unwrap();
        (space, writer.unwrap())
    }

    fn commit(writer: &mut SpaceWriter, fill: impl FnOnce(&mut UnitOfWork)) {
        let mut unit = UnitOfWork::new();
        fill(&mut unit);
        writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }

    fn put(writer: &mut SpaceWriter, n: u8, text: &str) {
        let object = ObjectId::new([n; 16]);
        commit(writer, |unit| unit.put("notes", object, &json!({ "text": text })).unwrap());
    }

    fn index(writer: &mut SpaceWriter) {
        while writer.index(8).unwrap() > 0 {}
    }

    fn embed_all(writer: &mut SpaceWriter) {
        while writer.embed(2).unwrap() > 0 {}
    }

    fn alike(space: &Space) -> BTreeSet<u8> {
        assert!(space.awaits_index(&Query::similar("soup")).is_none());
        let query = Query { limit: 100, ..Query::similar("soup") };
        let found = space.search(&query).unwrap().into_iter();
        found.map(|found| found.document.object.as_bytes()[0]).collect()
    }

    fn embedders(writer: &mut SpaceWriter) -> Vec<String> {
        let read = |tx: &mut rusqlite::Transaction<'_>, _: &mut WriterState| {
            let mut statement = tx.prepare("SELECT id FROM search_embedders ORDER BY id").unwrap();
            let ids = statement.query_map([], |row| row.get(0)).unwrap();
            Ok(ids.map(|id| id.unwrap()).collect())
        };
        writer.record(read).unwrap()
    }

    fn check(writer: &mut SpaceWriter, repair: bool) -> CheckReport {
        let mut checking = Checking::new(repair);
        while !writer.check_step(&mut checking).unwrap() {}
        checking.into_report()
    }

    /// Whatever an embedder was called, it was found out where its first vector was to be stored,
    /// after everything else: none ever was. And one called `app` took its vectors, and those that
    /// the app brought, for the same.
    #[test]
    fn an_embedder_that_cannot_be_used_is_refused_before_anything_is_touched() {
        let long = "m".repeat(65);
        for (id, dimensions) in [
            ("", 3),
            ("Model", 3),
            ("a model", 3),
            ("model_1", 3),
            ("modèle", 3),
            (&long, 3),
            ("app", 3),
            ("app-rowids", 3),
            ("model", 0),
            ("model", VECTOR_DIMENSIONS_MAX + 1),
        ] {
            let id: &'static str = id.to_owned().leak();
            let embedder: Arc<dyn Embedder> = Counting::new(id, dimensions);
            let options =
                || ProfileOptions { embedder: Some(embedder.clone()), ..Default::default() };
            let world = || Arc::new(World(AtomicU64::new(1)));
            let dir = tempfile::tempdir().unwrap();
            let made = Profile::create(world(), dir.path(), &unlock(), options()).map(drop);
            assert!(matches!(made, Err(Error::Invalid(_))), "{id}: {made:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            assert!(Profile::in_memory(world(), options()).is_err(), "{id}");
            let access = Access::ReadWrite;
            Profile::create(world(), dir.path(), &unlock(), ProfileOptions::default()).unwrap();
            let opened = Profile::open(world(), dir.path(), &unlock(), access, options());
            assert!(matches!(opened.map(drop), Err(Error::Invalid(_))), "{id}");
        }
        for id in ["application", "model-1", "0"] {
            super::check(&*Counting::new(id, VECTOR_DIMENSIONS_MAX)).unwrap();
        }
    }

    /// An app came with a better model, and a search by likeness found nothing any more but what
    /// was written since, until somebody ran a repair.
    #[test]
    fn another_embedder_is_given_all_texts_and_the_vectors_of_the_one_before_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Counting::new("one", 3), Counting::new("two", 300));
        let (space, mut writer) = opened(dir.path(), &one);
        for n in 1..=9 {
            put(&mut writer, n, &"soup ".repeat(n.into()));
        }
        let own = ObjectId::new([3; 16]);
        commit(&mut writer, |unit| unit.vector(own, vec![1.0, 2.0]));
        index(&mut writer);
        embed_all(&mut writer);
        assert_eq!((one.given(), alike(&space)), (9, (1..=9).collect()));
        drop((space, writer));

        // Some are made; some change or go meanwhile; and it ends in the middle.
        let (space, mut writer) = opened(dir.path(), &two);
        assert!(space.awaits_index(&Query::similar("soup")).is_some());
        assert!(space.awaits_index(&Query::text("soup")).is_none());
        assert!(writer.embed(2).unwrap() > 0);
        put(&mut writer, 1, "stew");
        put(&mut writer, 8, "stew");
        put(&mut writer, 10, "stew");
        commit(&mut writer, |unit| unit.delete(ObjectId::new([9; 16])));
        index(&mut writer);
        assert_eq!(embedders(&mut writer), ["app", "one", "two"]);
        drop((space, writer));
        let (space, mut writer) = opened(dir.path(), &two);
        embed_all(&mut writer);
        assert_eq!(two.given(), 10, "what changed behind it twice, and all others once");
        assert_eq!(alike(&space), [1, 2, 3, 4, 5, 6, 7, 8, 10].into());
        assert_eq!(embedders(&mut writer), ["app", "two"]);
        let of_the_app = space.search(&Query::vector(vec![1.0, 2.0])).unwrap();
        assert_eq!(of_the_app.len(), 1);
        drop((space, writer));
        two.given();

        // Nothing is to be done when it comes again.
        let (space, mut writer) = opened(dir.path(), &two);
        assert!(space.awaits_index(&Query::similar("soup")).is_none());
        assert_eq!(writer.embed(2).unwrap(), 0);
        drop((space, writer));

        // The first one again, and not for long: what changed then is all that the second lacks.
        one.given();
        let (space, mut writer) = opened(dir.path(), &one);
        assert!(writer.embed(2).unwrap() > 0);
        put(&mut writer, 4, "broth");
        index(&mut writer);
        drop((space, writer));
        assert_eq!((one.given(), two.given()), (2, 0));
        let (space, mut writer) = opened(dir.path(), &two);
        embed_all(&mut writer);
        assert_eq!((two.given(), alike(&space).len()), (1, 9));
        assert_eq!(embedders(&mut writer), ["app", "two"]);
        let report = check(&mut writer, false);
        assert_eq!((report.findings.len(), report.without_vector), (0, 0));
    }

    /// A check called the embedder for each document without a vector, on the thread that writes: a
    /// slow model held up all commits, and one that was not there for an hour was asked for nothing
    /// of that hour again.
    #[test]
    fn a_check_calls_no_embedder_and_a_repair_has_it_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let one = Counting::new("one", 3);
        let (space, mut writer) = opened(dir.path(), &one);
        put(&mut writer, 1, "soup");
        index(&mut writer);
        embed_all(&mut writer);
        one.fails.store(true, Ordering::Relaxed);
        for n in 2..=5 {
            put(&mut writer, n, "stew");
        }
        index(&mut writer);
        embed_all(&mut writer);
        one.fails.store(false, Ordering::Relaxed);
        let lost = "DELETE FROM search_vectors_one WHERE document = 1";
        writer.record(|tx, _| Ok(tx.execute(lost, []).unwrap())).unwrap();
        assert_eq!(alike(&space), BTreeSet::new());
        one.given();
        for repair in [false, true] {
            let report = check(&mut writer, repair);
            assert!(report.is_whole() && report.findings.is_empty(), "{report:?}");
            assert_eq!((report.without_vector, one.given()), (5, 0));
        }
        assert_eq!(check(&mut writer, true).without_vector, 0, "they are awaited");
        embed_all(&mut writer);
        assert_eq!(one.given(), 5);
        assert_eq!(alike(&space), (1..=5).collect());
        assert_eq!(check(&mut writer, false).without_vector, 0);
    }
}
