//! The life of a document: flat, edited, merged, and sent bad changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::needless_pass_by_value, reason = "json! literals read better by value")]

use larder_document::{
    Actor, Document, DocumentError, Heads, HeadsFold, Link, Object, Outcome, Storing, VoidReason,
};
use larder_types::{DeviceId, EntryHash, ObjectId, Timestamp};
use serde_json::json;

const NOW: Timestamp = Timestamp(1_795_226_735_042);

fn actor(device: u8) -> Actor {
    Actor::of(&DeviceId::new([device; 32]), &ObjectId::new([1; 16]), &EntryHash::new([2; 32]))
}

fn object(value: serde_json::Value) -> Object {
    value.as_object().unwrap().clone()
}

fn put(document: &mut Document, device: u8, value: serde_json::Value) -> Vec<u8> {
    document.put(actor(device), None, &object(value), NOW).unwrap().unwrap()
}

fn receive(document: &mut Document, device: u8, change: &[u8]) -> Outcome {
    document.apply(&[(actor(device), change)]).pop().unwrap()
}

/// Two devices edit `start` apart and exchange their edits; both must show the same afterwards.
fn merged(
    start: serde_json::Value,
    one: serde_json::Value,
    two: serde_json::Value,
) -> (serde_json::Value, Document) {
    let start = object(start);
    let (mut left, mut right) = (Document::flat(start.clone()), Document::flat(start));
    let (a, b) = (put(&mut left, 1, one), put(&mut right, 2, two));
    assert_eq!(receive(&mut left, 2, &b), Outcome::Applied);
    assert_eq!(receive(&mut right, 1, &a), Outcome::Applied);
    assert_eq!(left.heads(), right.heads());
    assert_eq!(left.value(), right.value());
    assert_eq!(left.conflicts(), right.conflicts());
    (left.value().unwrap().into(), left)
}

#[test]
fn first_edits_made_apart_share_a_root_and_merge() {
    let (value, document) = merged(
        json!({"title": "Soup", "serves": 4, "extra": {"unknown": [1, 1.0, null]}}),
        json!({"title": "Fish soup", "serves": 4, "extra": {"unknown": [1, 1.0, null]}}),
        json!({"title": "Soup", "serves": 6, "extra": {"unknown": [1, 1.0, null]}}),
    );
    let all = json!({"title": "Fish soup", "serves": 6, "extra": {"unknown": [1, 1.0, null]}});
    assert_eq!(value, all);
    assert!(document.conflicts().unwrap().is_empty());
}

#[test]
fn edits_of_different_places_in_a_text_both_survive() {
    let (value, _) = merged(
        json!({"body": "Milk\nEggs\nBread and butter\n"}),
        json!({"body": "Oat milk\nEggs\nBread and butter\n"}),
        json!({"body": "Milk\nEggs\nBread and salted butter\nTea\n"}),
    );
    assert_eq!(value, json!({"body": "Oat milk\nEggs\nBread and salted butter\nTea\n"}));
}

#[test]
fn edits_of_different_elements_of_a_list_survive() {
    let (value, _) = merged(
        json!({"items": [{"n": "a", "done": false}, {"n": "b", "done": false}, "c"]}),
        json!({"items": [{"n": "a", "done": true}, {"n": "b", "done": false}, "c"]}),
        json!({"items": ["new", {"n": "a", "done": false}, {"n": "b!", "done": false}]}),
    );
    assert_eq!(
        value,
        json!({"items": ["new", {"n": "a", "done": true}, {"n": "b!", "done": false}]})
    );
}

#[test]
fn the_losers_of_a_conflict_are_listed() {
    let (value, document) = merged(
        json!({"a/b": {"~": "start"}, "same": 1}),
        json!({"a/b": {"~": "one"}, "same": 2}),
        json!({"a/b": {"~": "two"}, "same": 2}),
    );
    let conflicts = document.conflicts().unwrap();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].path, "/a~1b/~0");
    assert_eq!(value.pointer("/a~1b/~0"), Some(&conflicts[0].shown));
    let mut both = vec![conflicts[0].shown.clone(), conflicts[0].others[0].clone()];
    both.sort_by_key(ToString::to_string);
    assert_eq!(both, [json!("one"), json!("two")]);

    let mut document = document;
    put(&mut document, 1, json!({"a/b": {"~": "settled"}, "same": 2}));
    assert!(document.conflicts().unwrap().is_empty());
}

#[test]
fn an_edit_of_an_old_version_is_merged_with_what_came_since() {
    let mut document = Document::flat(object(json!({"a": 1, "b": 1, "text": "one\ntwo\n"})));
    let flat = document.heads();
    assert!(flat.is_flat());
    put(&mut document, 1, json!({"a": 2, "b": 1, "text": "ONE\ntwo\n"}));
    let read = document.heads();
    put(&mut document, 1, json!({"a": 3, "b": 1, "text": "ONE\ntwo\nthree\n"}));
    let late = object(json!({"a": 1, "b": 7, "text": "one\nTWO\n"}));
    let change = document.put(actor(1), Some(&flat), &late, NOW).unwrap().unwrap();
    let value = serde_json::Value::from(document.value().unwrap());
    assert_eq!(value, json!({"a": 3, "b": 7, "text": "ONE\nTWO\nthree\n"}));
    assert_eq!(document.value_at(&read).unwrap()["a"], json!(2));
    assert_eq!(document.value_at(&flat).unwrap()["a"], json!(1));

    // A receiver takes the strand for the device's own.
    let mut other = Document::flat(object(json!({"a": 1, "b": 1, "text": "one\ntwo\n"})));
    assert_eq!(receive(&mut other, 1, &change), Outcome::Applied);
    assert_eq!(other.value().unwrap(), late);
}

#[test]
fn nothing_is_written_where_nothing_differs() {
    let start = object(json!({"a": [1, {"b": "x\ny"}], "c": null}));
    let mut document = Document::flat(start.clone());
    assert_eq!(document.put(actor(1), None, &start, NOW), Ok(None));
    assert!(!document.has_history());
    put(&mut document, 1, json!({"a": [1, {"b": "x\nz"}], "c": null}));
    let now = document.value().unwrap();
    let saved = document.save();
    assert_eq!(document.put(actor(1), None, &now, NOW), Ok(None));
    assert_eq!(document.save(), saved);
    assert_eq!(document.put(actor(1), Some(&Heads::FLAT), &start, NOW), Ok(None));
}

#[test]
fn kinds_of_value_stay_what_they_were() {
    let start = json!({"int": 1, "float": 1.0, "big": u64::MAX, "low": i64::MIN, "tiny": 5e-324,
        "minus": -0.0, "null": null, "": {"": []}, "yes": true, "text": "ü\n", "list": [[[]], {}]});
    let mut document = Document::flat(object(start.clone()));
    let mut edited = start;
    edited["new"] = json!(2.0);
    put(&mut document, 1, edited.clone());
    let value = document.value().unwrap();
    let text = |v: &Object| String::from_utf8(larder_document::canonical(v)).unwrap();
    assert_eq!(text(&value), text(&object(edited)));
    let loaded = Document::load(Object::new(), document.save().as_deref()).unwrap();
    assert_eq!(text(&loaded.value().unwrap()), text(&value));
    assert_eq!(loaded.heads(), document.heads());
}

/// Saving all of a history for each edit made the ten-thousandth edit of a text cost ten times what
/// the first did.
#[test]
fn a_document_stored_part_by_part_is_the_same_and_rarely_stored_whole() {
    let text = |n: usize| json!({"text": format!("line {n}\n").repeat(20), "n": n});
    let mut document = Document::flat(object(text(0)));
    assert_eq!(document.store(), Storing::None);
    let mut other = document.clone();
    let (mut stored, mut wholes, mut mores) = (Vec::new(), 0, 0);
    for n in 1..400 {
        let change = put(&mut document, 1, text(n));
        assert_eq!(receive(&mut other, 1, &change), Outcome::Applied);
        if n % 3 == 0 {
            let change = put(&mut other, 2, text(1000 + n));
            assert_eq!(receive(&mut document, 2, &change), Outcome::Applied);
        }
        match document.store() {
            Storing::None => panic!("it has a history"),
            Storing::Whole(bytes) => {
                stored = bytes;
                wholes += 1;
            }
            Storing::More(bytes) => {
                stored.extend(bytes);
                mores += 1;
            }
        }
        assert_eq!(document.store(), Storing::More(Vec::new()));
        if n % 20 == 0 {
            let loaded = Document::load(Object::new(), Some(&stored)).unwrap();
            assert_eq!((loaded.value(), loaded.heads()), (document.value(), document.heads()));
            assert_eq!(loaded.save(), document.save());
            document = loaded;
        }
    }
    assert!(wholes > 1 && mores > 8 * wholes, "{wholes} {mores}");
}

#[test]
fn what_cannot_be_written_leaves_the_document_as_it_was() {
    let mut document = Document::flat(object(json!({"a": 1})));
    put(&mut document, 1, json!({"a": 2}));
    let (saved, heads) = (document.save(), document.heads());
    let many: Vec<u32> = (0..100_001).collect();
    let error = document.put(actor(1), None, &object(json!({"a": many})), NOW);
    assert!(matches!(error, Err(DocumentError::TooManyOperations { .. })), "{error:?}");
    let unknown = "11".repeat(32).parse::<Heads>().unwrap();
    let error = document.put(actor(1), Some(&unknown), &object(json!({"a": 3})), NOW);
    assert!(matches!(error, Err(DocumentError::UnknownHeads { .. })), "{error:?}");
    assert!(document.value_at(&unknown).is_err());
    assert_eq!((document.save(), document.heads()), (saved, heads));
    assert!(Document::load(Object::new(), Some(b"not Automerge")).is_err());
    assert!(Document::load(Object::new(), Some(b"")).is_err());
}

#[test]
fn a_text_rewritten_beyond_what_a_change_may_hold_is_kept_as_a_scalar() {
    let old = "a\n".repeat(40_000);
    let new = "xyz ".repeat(20_000) + "\n";
    let mut document = Document::flat(object(json!({"body": old})));
    put(&mut document, 1, json!({"body": new}));
    assert_eq!(document.value().unwrap()["body"], json!(new));
}

#[test]
fn a_change_counts_once_and_only_from_its_author_and_on_its_base() {
    let start = object(json!({"a": 1}));
    let mut left = Document::flat(start.clone());
    let first = put(&mut left, 1, json!({"a": 2}));
    let second = put(&mut left, 1, json!({"a": 3}));

    let mut right = Document::flat(start.clone());
    assert_eq!(receive(&mut right, 1, &second), Outcome::Waiting);
    assert_eq!(receive(&mut right, 2, &first), Outcome::Void(VoidReason::WrongActor));
    assert!(!right.has_history());
    let both = right.apply(&[(actor(1), &first), (actor(1), &first), (actor(1), &second)]);
    assert_eq!(both, [Outcome::Applied, Outcome::Duplicate, Outcome::Applied]);
    assert_eq!(receive(&mut right, 1, &second), Outcome::Duplicate);
    assert_eq!(right.value(), left.value());

    // A device restored from an old copy uses a number again.
    let mut restored = Document::flat(start.clone());
    let other = put(&mut restored, 1, json!({"a": "other"}));
    let taken = Outcome::Void(VoidReason::SequenceTaken);
    assert_eq!(receive(&mut right, 1, &other), taken);
    assert_eq!(right.value(), left.value());

    let mut foreign = Document::flat(object(json!({"a": "another document"})));
    assert_eq!(receive(&mut foreign, 1, &first), Outcome::Waiting);
}

#[test]
fn one_bad_change_does_not_take_the_others_with_it() {
    let start = object(json!({"a": 1, "b": 1}));
    let (mut one, mut two) = (Document::flat(start.clone()), Document::flat(start.clone()));
    let good =
        [put(&mut one, 1, json!({"a": 2, "b": 1})), put(&mut two, 2, json!({"a": 1, "b": 2}))];
    let mut receiver = Document::flat(start);
    let outcomes = receiver.apply(&[
        (actor(1), &good[0]),
        (actor(3), b"garbage"),
        (actor(3), &good[0]),
        (actor(2), &good[1]),
    ]);
    assert!(matches!(
        outcomes.as_slice(),
        [Outcome::Applied, Outcome::Void(_), Outcome::Void(_), Outcome::Applied]
    ));
    assert_eq!(serde_json::Value::from(receiver.value().unwrap()), json!({"a": 2, "b": 2}));
}

fn tail_of(document: &Document, heads: &Heads) -> Vec<Vec<u8>> {
    document.changes_to(heads).unwrap()
}

fn slices(changes: &[Vec<u8>]) -> Vec<&[u8]> {
    changes.iter().map(Vec::as_slice).collect()
}

#[test]
fn a_history_is_handed_over_whole_up_to_any_version_or_not_at_all() {
    let first = object(json!({"title": "Letter", "n": 1, "big": u64::MAX, "float": 1.0}));
    let mut left = Document::flat(first.clone());
    put(&mut left, 1, json!({"title": "Letter", "n": 2, "big": 1, "float": 1.0}));
    let early = left.heads();
    let mut right = left.clone();
    let one = put(&mut left, 1, json!({"title": "A letter", "n": 2, "big": 1, "float": 2.0}));
    let two = put(&mut right, 2, json!({"title": "Letter", "n": 3, "big": 1, "float": 1.0}));
    assert_eq!(receive(&mut left, 2, &two), Outcome::Applied);
    assert_eq!(left.value_at(&Heads::FLAT).unwrap(), first, "the first value is not lost");

    // Heads as they follow from the changes alone, in any order.
    let all = tail_of(&left, &left.heads());
    assert_eq!(all.len(), 3);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut fold = HeadsFold::default();
        for n in order {
            fold.add(&Link::of(&all[n]).unwrap());
        }
        assert_eq!(Heads::from_hashes(fold.heads()), left.heads());
    }
    let mut fold = HeadsFold::from_heads(early.iter().copied());
    for change in [&one, &two] {
        fold.add(&Link::of(change).unwrap());
    }
    assert_eq!(Heads::from_hashes(fold.heads()), left.heads());

    let mut other = Document::flat(first.clone());
    assert!(other.take_history(&slices(&tail_of(&left, &early)), &early));
    assert_eq!((other.heads(), other.value()), (early.clone(), left.value_at(&early)));
    assert!(other.take_history(&slices(&all), &left.heads()), "what it has does no harm");
    assert_eq!((other.heads(), other.value()), (left.heads(), left.value()));

    let mut strange = Document::flat(object(json!({"another": "value"})));
    assert!(!strange.take_history(&slices(&all), &left.heads()));
    let mut other = Document::flat(first);
    assert!(!other.take_history(&slices(&all[1..]), &left.heads()), "one is missing");
    assert!(!other.take_history(&slices(&all), &early), "one too many");
    assert!(!other.take_history(&slices(&all[..1]), &left.heads()));
    assert!(!other.take_history(&slices(&[all.clone(), all.clone()].concat()), &left.heads()));
    assert!(!other.take_history(&[&[1, 2, 3]], &early));
    assert!(!other.has_history() && other.take_history(&[], &Heads::FLAT));
    assert!(other.changes_to(&early).is_none());
}

// What bounds a history is how Automerge packs it: this puts the figures down that decision 0019
// tells.
#[test]
#[ignore = "measures"]
fn how_large_histories_are() {
    let words: Vec<String> = (0..2_000).map(|n| format!("word{}", n * n % 997)).collect();
    let text = words.join(" ");
    let mut document = Document::flat(object(json!({ "text": text })));
    let mut now = text.clone();
    let mut raw = 0;
    for edit in 0..10_000_usize {
        let at = (edit * 7919) % now.len();
        if edit % 4 == 3 {
            now.remove(at);
        } else {
            now.insert(at, 'x');
        }
        raw += put(&mut document, 1, json!({ "text": now })).len();
    }
    let saved = document.save().unwrap().len();
    println!(
        "10,000 edits of a text of {} bytes: {saved} bytes saved, {raw} in changes",
        now.len()
    );
    let mut document = Document::flat(object(json!({ "title": "Soup", "count": 0 })));
    let mut raw = 0;
    for edit in 1..=1_000 {
        raw += put(&mut document, 1, json!({ "title": "Soup", "count": edit })).len();
    }
    let saved = document.save().unwrap().len();
    println!("1,000 edits of one field of a record: {saved} bytes saved, {raw} in changes");
}

/// One device's part in what follows: edits, and puts into the trash or takes out, at the same time
/// as the other.
fn at_once(
    start: &Document,
    one: impl FnOnce(&mut Document) -> Vec<u8>,
    two: impl FnOnce(&mut Document) -> Vec<u8>,
) -> Document {
    let (mut left, mut right) = (start.clone(), start.clone());
    let (a, b) = (one(&mut left), two(&mut right));
    assert_eq!(receive(&mut left, 2, &b), Outcome::Applied);
    assert_eq!(receive(&mut right, 1, &a), Outcome::Applied);
    assert_eq!((left.heads(), left.value()), (right.heads(), right.value()));
    assert_eq!(left.trashed(), right.trashed());
    assert!(left.conflicts().unwrap().is_empty(), "nobody's value differs");
    left
}

fn trash(device: u8, is_in: bool) -> impl Fn(&mut Document) -> Vec<u8> {
    move |document| {
        let time = Timestamp(NOW.0 + u64::from(device));
        document.put_in_trash(actor(device), is_in, time).unwrap().unwrap()
    }
}

#[test]
fn who_takes_a_document_out_of_the_trash_wins_over_who_puts_it_there() {
    let soup = json!({"title": "Soup"});
    let flat = Document::flat(object(soup.clone()));
    assert_eq!(flat.trashed(), Ok(None));
    // On both at once: it is there, and taking it out once takes it out.
    let mut both = at_once(&flat, trash(1, true), trash(2, true));
    assert_eq!(both.trashed(), Ok(Some(Timestamp(NOW.0 + 2))));
    assert_eq!(both.value().unwrap(), object(soup.clone()), "its value is what it was");
    let (before, heads) = (both.clone(), both.heads());
    let change = trash(1, false)(&mut both);
    assert_eq!(larder_document::trash_of(&change), Some(false));
    assert_eq!((both.trashed(), both.value_at(&heads)), (Ok(None), Ok(object(soup.clone()))));
    assert_eq!(both.put_in_trash(actor(1), false, NOW), Ok(None));
    // An edit beside it is in it.
    let edited = json!({"title": "Fish soup"});
    let edit = |document: &mut Document| put(document, 2, edited.clone());
    let beside = at_once(&flat, trash(1, true), edit);
    assert_eq!((beside.trashed().unwrap().is_some(), beside.value()), (true, Ok(object(edited))));
    // It was there; one takes it out, another, who had it out before as well, puts it back.
    let again = |document: &mut Document| {
        let mut changes = vec![trash(2, false)(document)];
        changes.push(trash(2, true)(document));
        assert_eq!(larder_document::trash_of(&changes[1]), Some(true));
        changes
    };
    let (mut left, mut right) = (before.clone(), before);
    let (out, back) = (trash(1, false)(&mut left), again(&mut right));
    for change in &back {
        assert_eq!(receive(&mut left, 2, change), Outcome::Applied);
    }
    assert_eq!(receive(&mut right, 1, &out), Outcome::Applied);
    assert_eq!((left.trashed(), right.trashed()), (Ok(None), Ok(None)));
    assert_eq!(left.heads(), right.heads());
    // Who saw both decides anew.
    trash(1, true)(&mut left);
    assert!(left.trashed().unwrap().is_some());
}

#[test]
fn an_edit_leaves_the_trash_alone_and_no_value_names_it() {
    let mut document = Document::flat(object(json!({"title": "Soup", "$blob": 1})));
    let change = trash(1, true)(&mut document);
    let read = Document::load(Object::new(), document.save().as_deref()).unwrap();
    assert_eq!(read.trashed(), Ok(Some(Timestamp(NOW.0 + 1))));
    let change_too = put(&mut document, 1, json!({"inner": {"$trash": 5}}));
    assert_eq!(larder_document::trash_of(&change_too), None);
    assert!(document.trashed().unwrap().is_some(), "{change:?}");
    assert_eq!(document.value().unwrap(), object(json!({"inner": {"$trash": 5}})));
    let named = object(json!({"$trash": 5}));
    assert_eq!(document.put(actor(1), None, &named, NOW), Err(DocumentError::Reserved));
    assert_eq!(larder_document::check(&named), Err(DocumentError::Reserved));
    assert_eq!(larder_document::parse(b"{\"$trash\":5}"), Err(DocumentError::Reserved));
}
