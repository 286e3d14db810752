use std::sync::Once;

use larder_document::body::{Change, Create};
use larder_document::{Actor, Document, Heads, Object, Outcome, canonical, check, parse};
use larder_types::{DeviceId, EntryHash, ObjectId, Timestamp};
use sha2::{Digest, Sha256};

use crate::{part, parts};

/// A document's value as JSON.
pub fn json(data: &[u8]) {
    if let Ok(value) = parse(data) {
        let written = canonical(&value);
        let again = parse(&written).expect("what was written is read");
        assert_eq!(canonical(&again), written);
        let _ = check(&value);
        let mut document = Document::flat(value.clone());
        // The first edit derives an Automerge history of the value.
        let _ = document.put(actor(1), None, &Object::new(), Timestamp(0));
        assert!(document.value().is_ok());
    }
    let _ = Create::decode(data).map(|create| create.value());
    let _ = Change::decode(data);
    if let Ok(text) = str::from_utf8(data) {
        let _ = text.parse::<Heads>();
    }
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let value = sample();
    vec![
        serde_json::to_vec(&value).unwrap(),
        br#"{"a":[1,-2,3.5,null,true,{"b":"\u00e9\ud83e\udd94"}],"":1e300,"n":18446744073709551615}"#
            .to_vec(),
        Create::new(&value).unwrap().encode(),
        Change::new(vec![vec![1, 2, 3]]).encode(),
    ]
}

/// Changes of another device's, each a part of the input: the contents of an Automerge change
/// chunk, to which its frame and checksum are added here. The first byte of a part says whose
/// it claims to be. However senseless, they count or are void; the document stays readable, and
/// is the same after it was saved and loaded.
pub fn history(data: &[u8]) {
    static QUIET: Once = Once::new();
    // Automerge asserts on some senseless changes, which the crate contains: the fuzzer's hook
    // must not abort before that. A panic that gets out of here still does.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| ())));

    let mut rest = data;
    let mut changes = Vec::new();
    while let Some((who, contents)) = part(&mut rest).and_then(<[u8]>::split_first) {
        changes.push((actor(*who), chunk(contents)));
        if changes.len() == 16 {
            break;
        }
    }
    let offered: Vec<_> = changes.iter().map(|(actor, bytes)| (*actor, bytes.as_slice())).collect();
    let mut together = Document::flat(sample());
    let outcomes = together.apply(&offered);
    assert_eq!(outcomes.len(), offered.len());
    let value = together.value().expect("a document stays readable");
    together.conflicts().expect("and so do its conflicts");

    let mut single = Document::flat(sample());
    for (one, outcome) in offered.iter().zip(&outcomes) {
        let alone = single.apply(std::slice::from_ref(one));
        assert_eq!(alone[0] == Outcome::Applied, *outcome == Outcome::Applied, "{alone:?}");
    }
    assert_eq!(single.value().expect("readable"), value, "order of applying does not matter");

    let saved = together.save();
    let loaded = Document::load(sample(), saved.as_deref()).expect("what was saved is loaded");
    assert_eq!(loaded.value().expect("readable"), value);
    assert_eq!(loaded.heads(), together.heads());
    let _ = Document::load(sample(), Some(data)).map(|document| document.value());
}

pub(crate) fn history_seeds() -> Vec<Vec<u8>> {
    let mut document = Document::flat(sample());
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    let edits: [fn(&mut Object); 4] = [
        |value| drop(value.insert("title".to_owned(), "Bertha, again".into())),
        |value| drop(value.insert("tags".to_owned(), vec!["new", "boiler"].into())),
        |value| drop(value.insert("text".to_owned(), "She leaks.\nAgain.\nEvery day.\n".into())),
        |value| drop(value.remove("tags")),
    ];
    let base = document.heads();
    for (who, edit) in (1_u8..).zip(edits) {
        let mut value = document.value().unwrap();
        edit(&mut value);
        let from = (who % 2 == 0).then_some(&base);
        let change = document.put(actor(who), from, &value, Timestamp(1)).unwrap().unwrap();
        let contents = [&[who], contents(&change)].concat();
        seeds.push(parts(&[&contents]));
        all.push(contents);
    }
    seeds.push(parts(&all.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    seeds.push(document.save().unwrap());
    let before = document.value().unwrap();
    let mut replayed = Document::flat(sample());
    for contents in &all {
        let outcome = replayed.apply(&[(actor(contents[0]), &chunk(&contents[1..]))]);
        assert_eq!(outcome, [Outcome::Applied], "the seed is not valid");
    }
    assert_eq!(replayed.value().unwrap(), before);
    seeds
}

fn sample() -> Object {
    let text = "She leaks.\nEvery day.\n";
    let value = serde_json::json!({
        "title": "Bertha", "bar": 1.5, "year": 2011, "tags": ["boiler"], "text": text, "in": {"a": 1}
    });
    value.as_object().unwrap().clone()
}

fn actor(who: u8) -> Actor {
    let device = DeviceId::new([who % 4; 32]);
    Actor::of(&device, &ObjectId::new([1; 16]), &EntryHash::new([2; 32]))
}

/// An Automerge chunk: magic, the first four bytes of a hash, type, length, contents.
fn chunk(contents: &[u8]) -> Vec<u8> {
    let mut hashed = vec![1];
    let mut len = contents.len();
    while len >= 0x80 {
        hashed.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    hashed.push(len as u8);
    hashed.extend_from_slice(contents);
    let digest = Sha256::digest(&hashed);
    [&[0x85, 0x6f, 0x4a, 0x83], &digest[..4], &hashed].concat()
}

/// The other way round.
fn contents(chunk: &[u8]) -> &[u8] {
    let after_type = &chunk[9..];
    let len = after_type.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    &after_type[len..]
}
