//! The indexes through the tables that a space really has, in real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use larder_search::{
    Among, Embedder, HashedNgrams, Hit, SearchError, Sizes, Text, clear, put_text, put_vector,
    query_text, query_vector, remove_embedders_but, remove_text, remove_vectors, sizes,
};
use proptest::prelude::*;
use rusqlite::Connection;

const UP: &str = include_str!("../../../migrations/space/0002_search.up.sql");
const DOWN: &str = include_str!("../../../migrations/space/0002_search.down.sql");

const CHECK: &str = "INSERT INTO search_text(search_text) VALUES ('integrity-check')";

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    larder_pages::load_vectors(&connection).unwrap();
    connection.pragma_update(None, "secure_delete", "ON").unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
}

fn memory() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    larder_pages::load_vectors(&connection).unwrap();
    connection.execute_batch(UP).unwrap();
    connection
}

fn text(title: &str, body: &str) -> Text {
    Text { title: title.to_owned(), body: body.to_owned() }
}

const ALL: Among<'_> = Among { collection: None, documents: None };

const fn of(collection: &str) -> Among<'_> {
    Among { collection: Some(collection), documents: None }
}

fn documents(hits: &[Hit]) -> Vec<i64> {
    hits.iter().map(|hit| hit.document).collect()
}

fn found(connection: &Connection, query: &str) -> Vec<i64> {
    documents(&query_text(connection, query, &ALL, 10).unwrap())
}

#[test]
fn words_are_found_whatever_their_case_and_diacritics() {
    let db = memory();
    put_text(&db, 1, "notes", None, &text("Receitas", "Sopa de peixe da avó")).unwrap();
    put_text(&db, 2, "notes", None, &text("Shopping", "Fish, soup bowls")).unwrap();
    put_text(&db, 3, "lists", None, &text("Fish", "nothing else")).unwrap();
    assert_eq!(found(&db, "AVO"), [1]);
    assert_eq!(found(&db, "sopa péixe"), [1]);
    assert_eq!(found(&db, "fish"), [3, 2], "the title weighs more");
    assert_eq!(found(&db, "fish bow"), [2], "all words, the last as a beginning");
    assert_eq!(found(&db, "fish bow "), [3, 2], "else any word");
    assert_eq!(found(&db, "xyzzy"), [0; 0]);
    let hits = query_text(&db, "fish", &of("lists"), 10).unwrap();
    assert_eq!(documents(&hits), [3]);
    assert!(hits[0].score > 0.0);
    assert!(query_text(&db, "fish", &of("unknown"), 10).unwrap().is_empty());
    assert_eq!(query_text(&db, "fish", &ALL, 1).unwrap().len(), 1);
    assert!(query_text(&db, "fish", &ALL, 0).unwrap().is_empty());
    // Those that are left out take nobody's place.
    let among = |documents| Among { documents: Some(documents), ..ALL };
    let hits = query_text(&db, "fish", &among("[1,2]"), 1).unwrap();
    assert_eq!(documents(&hits), [2]);
    assert_eq!(documents(&query_text(&db, "fish bow", &among("[3]"), 9).unwrap()), [3], "any word");
    assert!(query_text(&db, "fish", &among("[]"), 1).unwrap().is_empty());
}

#[test]
fn a_changed_or_removed_text_is_not_found_any_more() {
    let db = memory();
    let (old, new) = (text("Old", "apple"), text("New", "pear"));
    put_text(&db, 1, "notes", None, &old).unwrap();
    put_text(&db, 1, "notes", Some(&old), &new).unwrap();
    assert_eq!((found(&db, "apple"), found(&db, "pear")), (vec![], vec![1]));
    for result in [put_text(&db, 1, "notes", None, &old), remove_text(&db, 1, &old)] {
        assert!(matches!(result, Err(SearchError::OtherText { document: 1 })));
    }
    remove_text(&db, 1, &new).unwrap();
    assert_eq!(found(&db, "pear"), [0; 0]);
    assert!(remove_text(&db, 1, &new).is_err());
    put_text(&db, 1, "notes", None, &new).unwrap();
    clear(&db).unwrap();
    assert_eq!(found(&db, "pear"), [0; 0]);
    put_text(&db, 1, "notes", None, &new).unwrap();
    db.execute_batch(CHECK).unwrap();
}

#[test]
fn the_nearest_vectors_come_first_and_collections_keep_apart() {
    let db = memory();
    put_vector(&db, "m", 1, "notes", &[1.0, 0.0]).unwrap();
    put_vector(&db, "m", 2, "notes", &[1.0, 1.0]).unwrap();
    put_vector(&db, "m", 3, "lists", &[10.0, 0.1]).unwrap();
    put_vector(&db, "m", 4, "lists", &[0.0, 0.0]).unwrap();
    let near = |collection, limit| {
        query_vector(&db, "m", &[2.0, 0.0], &Among { collection, ..ALL }, limit).unwrap()
    };
    assert_eq!(documents(&near(None, 10)), [1, 3, 2]);
    assert!((near(None, 1)[0].score - 1.0).abs() < 1e-6);
    assert_eq!(documents(&near(Some("lists"), 10)), [3]);
    assert!(near(Some("unknown"), 10).is_empty());
    // Those that are left out take nobody's place.
    for (listed, collection, limit, expected) in [
        ("[2,3]", None, 1, vec![3]),
        ("[2]", None, 1, vec![2]),
        ("[2,3,4]", Some("notes"), 9, vec![2]),
        ("[]", None, 9, vec![]),
    ] {
        let among = Among { collection, documents: Some(listed) };
        let hits = query_vector(&db, "m", &[2.0, 0.0], &among, limit).unwrap();
        assert_eq!(documents(&hits), expected, "{listed}");
    }
    put_vector(&db, "m", 1, "lists", &[0.0, 1.0]).unwrap();
    assert_eq!(documents(&near(None, 10)), [3, 2, 1]);
    assert_eq!(documents(&near(Some("lists"), 10)), [3, 1]);
    put_vector(&db, "other", 1, "notes", &[1.0, 0.0, 0.0]).unwrap();
    remove_vectors(&db, 1).unwrap();
    assert_eq!(documents(&near(None, 10)), [3, 2]);
    assert!(query_vector(&db, "other", &[1.0, 0.0, 0.0], &ALL, 10).unwrap().is_empty());
    assert!(query_vector(&db, "never-used", &[1.0], &ALL, 10).unwrap().is_empty());
    assert!(query_vector(&db, "m", &[0.0, 0.0], &ALL, 10).unwrap().is_empty());
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let db = memory();
    put_vector(&db, "m", 1, "notes", &[1.0, 0.0]).unwrap();
    let other = put_vector(&db, "m", 2, "notes", &[1.0, 0.0, 0.0]);
    assert!(matches!(other, Err(SearchError::Dimensions { expected: 2, given: 3, .. })));
    assert!(matches!(
        query_vector(&db, "m", &[1.0], &ALL, 1),
        Err(SearchError::Dimensions { expected: 2, given: 1, .. })
    ));
    for bad in [vec![], vec![f32::NAN, 0.0], vec![f32::INFINITY, 0.0], vec![0.0; 4097]] {
        assert!(matches!(put_vector(&db, "m", 3, "notes", &bad), Err(SearchError::Vector)));
    }
    for bad in ["", "A", "a_b", "x\"; DROP TABLE search_text; --", &"a".repeat(65)] {
        assert!(matches!(put_vector(&db, bad, 3, "n", &[1.0]), Err(SearchError::EmbedderId(_))));
    }
}

#[test]
fn the_migration_goes_down_and_up_again() {
    let db = memory();
    put_vector(&db, "m", 1, "notes", &[1.0, 0.0]).unwrap();
    db.execute_batch(DOWN).unwrap();
    db.execute_batch(UP).unwrap();
    put_vector(&db, "m", 2, "notes", &[1.0, 0.0, 0.0]).unwrap();
    let hits = query_vector(&db, "m", &[1.0, 0.0, 0.0], &ALL, 10).unwrap();
    assert_eq!(documents(&hits), [2]);
}

/// An index of nothing, and one of many documents: not far from what reading it all would tell.
#[test]
fn sizes_are_about_what_is_stored() {
    let db = memory();
    assert_eq!(sizes(&db).unwrap(), Sizes::default());
    for document in 1..=2_000_u16 {
        let text = text("a title", &format!("word{document} and some words of all"));
        let at = i64::from(document);
        put_text(&db, at, "notes", None, &text).unwrap();
        put_vector(&db, "some-words", at, "notes", &[0.5, f32::from(document), 1.0]).unwrap();
    }
    let sizes = sizes(&db).unwrap();
    let sum = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    let words = sum("SELECT sum(length(block)) FROM search_text_data WHERE id > 10");
    let vectors = sum("SELECT sum(length(vectors)) FROM search_vectors_some_words_vector_chunks00");
    let near = |told: u64, is: u32| (u64::from(is) / 2..2 * u64::from(is)).contains(&told);
    assert!(near(sizes.words, words), "{} of {words}", sizes.words);
    assert!(near(sizes.vectors, vectors), "{} of {vectors}", sizes.vectors);
}

#[test]
fn a_rolled_back_transaction_leaves_no_trace() {
    let mut db = memory();
    let tx = db.transaction().unwrap();
    put_text(&tx, 1, "notes", None, &text("", "apple")).unwrap();
    put_vector(&tx, "m", 1, "notes", &[1.0, 0.0]).unwrap();
    drop(tx);
    assert_eq!(found(&db, "apple"), [0; 0]);
    put_text(&db, 1, "notes", None, &text("", "apple")).unwrap();
    put_vector(&db, "m", 1, "notes", &[1.0, 0.0, 0.0]).unwrap();
}

/// The bytes of the main file after everything in the log has gone there.
fn image(db: &Connection, path: &Path) -> Vec<u8> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    std::fs::read(path).unwrap()
}

fn holds(image: &[u8], needle: &[u8]) -> bool {
    image.windows(needle.len()).any(|window| window == needle)
}

/// Deleting must not leave the words or the vector in the file, or erasure would be a promise
/// that a look at the decrypted pages breaks. Other documents stand before and after, so that the
/// index has pages that stay.
#[test]
fn nothing_of_a_removed_document_stays_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("space.db");
    let db = open(&path);
    db.execute_batch(UP).unwrap();
    // Words that share a beginning with their neighbours would not stand in the index in full.
    let secret = text("qzcanarytitle", "kxsecretbody and common words");
    let vector: Vec<f32> = (0..64_u8).map(|i| 0.1234 + f32::from(i)).collect();
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    // A vector may lie across two pages, so look for its parts.
    let parts = |image: &[u8]| bytes.chunks(16).filter(|part| holds(image, part)).count();
    for n in 0..300 {
        let body = format!("common words and number {n}, {}", n * 7919);
        if n == 150 {
            put_text(&db, 1000, "notes", None, &secret).unwrap();
            put_vector(&db, "m", 1000, "notes", &vector).unwrap();
        }
        put_text(&db, n, "notes", None, &text("common", &body)).unwrap();
        put_vector(&db, "m", n, "notes", &[0.5; 64]).unwrap();
    }
    let before = image(&db, &path);
    assert!(holds(&before, b"canarytitle"), "looking for it must be able to succeed");
    assert!(holds(&before, b"secretbody"));
    assert!(parts(&before) >= 15);
    remove_text(&db, 1000, &secret).unwrap();
    remove_vectors(&db, 1000).unwrap();
    let after = image(&db, &path);
    assert!(!holds(&after, b"canarytitle") && !holds(&after, b"secretbody"));
    assert_eq!(parts(&after), 0);
    assert_eq!(found(&db, "number 299"), [299]);
}

/// The same with a replaced text and vector.
#[test]
fn nothing_of_a_replaced_document_stays_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("space.db");
    let db = open(&path);
    db.execute_batch(UP).unwrap();
    let (old, new) = (text("", "qzcanarybody"), text("", "harmless"));
    put_text(&db, 1, "notes", None, &old).unwrap();
    put_vector(&db, "m", 1, "notes", &[0.123_456; 8]).unwrap();
    let needle = 0.123_456_f32.to_le_bytes();
    let before = image(&db, &path);
    assert!(holds(&before, b"canarybody") && holds(&before, &needle));
    put_text(&db, 1, "notes", Some(&old), &new).unwrap();
    put_vector(&db, "m", 1, "notes", &[0.5; 8]).unwrap();
    let after = image(&db, &path);
    assert!(!holds(&after, b"canarybody") && !holds(&after, &needle));
}

/// What an embedder made of a text tells much of the text. It went from the index only, document by
/// document, while nothing took away what a model had made that the app has no longer.
#[test]
fn nothing_of_an_embedder_that_is_removed_stays_in_the_file_and_it_goes_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("space.db");
    let mut db = open(&path);
    db.execute_batch(UP).unwrap();
    for n in 0..300_u16 {
        put_vector(&db, "old", n.into(), "notes", &[0.123_456, f32::from(n)]).unwrap();
        for kept in ["app", "new"] {
            put_vector(&db, kept, n.into(), "notes", &[0.5, f32::from(n)]).unwrap();
        }
    }
    let needle = 0.123_456_f32.to_le_bytes();
    let count = |image: &[u8]| image.windows(4).filter(|window| *window == needle).count();
    let mut left = count(&image(&db, &path));
    assert!(left >= 300);
    let mut steps = 0;
    loop {
        let tx = db.transaction().unwrap();
        let is_all = remove_embedders_but(&tx, &["new", "app"], 100).unwrap();
        tx.commit().unwrap();
        if is_all {
            break;
        }
        steps += 1;
        let now = count(&image(&db, &path));
        assert!(left - now <= 128, "{left} {now}: two chunks at most");
        left = now;
    }
    assert_eq!((left, steps), (0, 3));
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'search_vectors_old%'";
    assert_eq!(db.query_row(tables, [], |row| row.get::<_, u32>(0)).unwrap(), 0);
    for kept in ["app", "new"] {
        assert_eq!(query_vector(&db, kept, &[0.5, 7.0], &ALL, 400).unwrap().len(), 300);
    }
}

#[test]
fn misspelt_words_are_found_by_their_vectors() {
    let db = memory();
    let texts = ["Tomato sauce", "Car insurance", "Birthday list"];
    let vectors = HashedNgrams.embed_batch(&texts).unwrap();
    for (document, vector) in (1..).zip(&vectors) {
        put_vector(&db, HashedNgrams.id(), document, "notes", vector).unwrap();
    }
    let query = HashedNgrams.embed_batch(&["tomatos"]).unwrap();
    let hits = query_vector(&db, HashedNgrams.id(), &query[0], &ALL, 3).unwrap();
    assert_eq!(hits[0].document, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_query_is_a_syntax_error(query in "(\\PC|[\"*^(){}+:\\-\0\n]|AND|OR|NOT|NEAR| |a){0,40}") {
        let db = memory();
        put_text(&db, 1, "notes", None, &text("a", "a AND OR NOT NEAR near and or not")).unwrap();
        query_text(&db, &query, &ALL, 10).unwrap();
        larder_search::snippet(&text("a", &query), &query);
    }

    #[test]
    fn any_text_can_be_put_and_removed(title: String, body: String, again: String) {
        let db = memory();
        let (old, new) = (text(&title, &body), text(&again, &body));
        put_text(&db, 1, "notes", None, &old).unwrap();
        put_text(&db, 1, "notes", Some(&old), &new).unwrap();
        remove_text(&db, 1, &new).unwrap();
        db.execute_batch(CHECK).unwrap();
        let rows: i64 =
            db.query_row("SELECT count(*) FROM search_text_docsize", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(rows, 0);
    }
}
