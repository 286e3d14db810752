//! Changes that an honest device never writes: whatever they are, no panic gets out, every device
//! decides alike, and what was accepted can be stored and loaded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::num::NonZeroU64;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Change, ObjType, ScalarValue};
use larder_document::{Actor, Document, Object, Outcome, VoidReason};
use larder_types::{DeviceId, EntryHash, ObjectId as Id, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest, Sha256};

type Received<'a> = (Actor, &'a [u8]);

fn actor(device: u8) -> Actor {
    Actor::of(&DeviceId::new([device; 32]), &Id::new([1; 16]), &EntryHash::new([2; 32]))
}

fn object(value: &serde_json::Value) -> Object {
    value.as_object().unwrap().clone()
}

fn start() -> Object {
    object(&json!({"map": {"a": 1, "b": {"c": null}}, "list": [1, [2], {"d": 3}, "four"],
        "text": "Milk\nEggs\n", "n": 1}))
}

/// An honest change of device 2, made apart from everything else.
fn concurrent() -> Vec<u8> {
    let mut document = Document::flat(start());
    let new = json!({"map": {"a": 2, "x": [1]}, "list": [0, 1, [2, 5], "four!"],
        "text": "Oat milk\nEggs\nTea\n", "n": 2});
    document.put(actor(2), None, &object(&new), Timestamp(0)).unwrap().unwrap()
}

/// Two honest changes of device 3, of which the second is to be forged.
fn honest() -> (Vec<u8>, Vec<u8>) {
    let mut document = Document::flat(start());
    let first = json!({"map": {"a": 5, "b": {"c": [1, "two"]}}, "list": [1, {"d": 4}, "five", 6],
        "text": "Milk\n12 eggs\n", "n": 1});
    let second = json!({"map": {"a": 6, "b": {"c": ["two", {"e": "f\n"}]}, "g": [[]]},
        "list": [1, {"d": 5, "h": true}, 6, "seven"], "text": "Milk, oats\n11 eggs\n", "n": 3});
    let [first, second] = [first, second]
        .map(|value| document.put(actor(3), None, &object(&value), Timestamp(0)).unwrap().unwrap());
    (first, second)
}

fn change(bytes: &[u8]) -> Change {
    Change::try_from(bytes).unwrap()
}

/// Applies the changes in several orders and groupings; the last one's outcome and everything else
/// must not depend on that. Gives that outcome.
fn verdict(forged: &[u8]) -> Outcome {
    let (first, _) = honest();
    let concurrent = concurrent();
    let (one, two, bad) = ((actor(3), &first[..]), (actor(2), &concurrent[..]), (actor(3), forged));
    let orders: [&[&[Received<'_>]]; 5] = [
        &[&[one], &[bad], &[two]],
        &[&[one], &[two], &[bad]],
        &[&[two], &[one], &[bad]],
        &[&[two, one, bad]],
        &[&[one, bad, two]],
    ];
    let mut seen = Vec::new();
    for order in orders {
        let mut document = Document::flat(start());
        let mut outcome = None;
        for batch in order {
            for ((_, bytes), got) in batch.iter().zip(document.apply(batch)) {
                if *bytes == forged {
                    outcome = Some(got);
                } else {
                    assert_eq!(got, Outcome::Applied);
                }
            }
        }
        let loaded = Document::load(Object::new(), document.save().as_deref()).unwrap();
        assert_eq!(loaded.heads(), document.heads());
        assert_eq!(loaded.value(), document.value());
        // It must still be possible to write.
        let mut document = document;
        let mut new = document.value().unwrap();
        new.insert("after".to_owned(), json!("x\ny"));
        let after = document.put(actor(2), None, &new, Timestamp(0)).unwrap().unwrap();
        assert_eq!(document.value().unwrap(), new);
        let loaded = Document::load(Object::new(), document.save().as_deref()).unwrap();
        assert_eq!(loaded.value().unwrap(), new);
        seen.push((outcome.unwrap(), document.heads(), new, after));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
    seen.swap_remove(0).0
}

fn forged(forge: impl FnOnce(&mut automerge::ExpandedChange)) -> Vec<u8> {
    let mut expanded = change(&honest().1).decode();
    forge(&mut expanded);
    Change::from(expanded).raw_bytes().to_vec()
}

fn ids() -> Vec<OpId> {
    let (first, second) = honest();
    let mut ids = vec![OpId(1, ActorId::from([0; 16])), OpId(1 << 40, ActorId::from([0; 16]))];
    for bytes in [first, second, concurrent()] {
        let change = change(&bytes);
        let start = change.start_op().get();
        ids.extend(
            (start..=start + change.len() as u64).map(|n| OpId(n, change.actor_id().clone())),
        );
    }
    ids.extend((1..40).map(|n| OpId(n, ActorId::from([0; 16]))));
    ids.push(OpId(3, ActorId::from([9; 16])));
    ids
}

#[test]
fn unforged_it_is_applied() {
    assert_eq!(verdict(&honest().1), Outcome::Applied);
    assert_eq!(verdict(&forged(|_| {})), Outcome::Applied);
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    let void = |reason| Outcome::Void(reason);
    let put = |value| OpType::Put(value);
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("actor", forged(|c| c.actor_id = ActorId::from([7; 16])), void(VoidReason::WrongActor)),
        ("rootless", forged(|c| c.deps.clear()), void(VoidReason::Rootless)),
        ("gap", forged(|c| c.seq = 3), void(VoidReason::Numbering)),
        ("zero", forged(|c| c.seq = 0), void(VoidReason::SequenceTaken)),
        ("taken", forged(|c| c.seq = 1), void(VoidReason::SequenceTaken)),
        (
            "operations numbered as in the past",
            forged(|c| c.start_op = NonZeroU64::new(3).unwrap()),
            void(VoidReason::Numbering),
        ),
        (
            "operations numbered so that none can follow",
            forged(|c| c.start_op = NonZeroU64::new(u64::from(u32::MAX)).unwrap()),
            void(VoidReason::Numbering),
        ),
        (
            "unknown dependency",
            forged(|c| c.deps.push(automerge::ChangeHash([5; 32]))),
            Outcome::Waiting,
        ),
        (
            "bytes",
            forged(|c| c.operations[0].action = put(ScalarValue::Bytes(vec![1]))),
            void(VoidReason::NotJson),
        ),
        (
            "not a number",
            forged(|c| c.operations[0].action = put(ScalarValue::F64(f64::NAN))),
            void(VoidReason::NotJson),
        ),
        (
            "counter",
            forged(|c| c.operations[0].action = put(ScalarValue::counter(1))),
            void(VoidReason::NotJson),
        ),
        (
            "table",
            forged(|c| c.operations[0].action = OpType::Make(ObjType::Table)),
            void(VoidReason::NotJson),
        ),
        (
            "what a concurrent change made",
            forged(|c| {
                let other = change(&concurrent());
                let made = OpId(other.start_op().get(), other.actor_id().clone());
                c.operations[0].pred = vec![made].into();
            }),
            void(VoidReason::Reference),
        ),
        (
            "a map as a list",
            forged(|c| {
                let mut operations = c.operations.iter_mut();
                operations.find(|op| matches!(op.key, Key::Map(_))).unwrap().key = Key::head();
            }),
            void(VoidReason::Reference),
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(verdict(&bytes), expected, "{name}");
    }
    for (name, bytes) in [
        ("message", forged(|c| c.message = Some("hidden".to_owned()))),
        ("extra bytes", forged(|c| c.extra_bytes = vec![1, 2, 3])),
    ] {
        assert!(matches!(verdict(&bytes), Outcome::Void(VoidReason::Malformed(_))), "{name}");
    }
}

/// Twenty bytes that claim 2⁶⁰ operations, a key of a megabyte in each of a thousand, and a
/// megabyte of zeros in a kilobyte: refused before anything is inflated.
#[test]
fn bombs_are_refused_by_their_outside() {
    let column = |spec: u8, data: &[u8]| {
        let mut body = vec![0, 16];
        body.extend([3; 16]);
        body.extend([1, 1, 0, 0, 0, 1, spec]);
        body.extend(leb(data.len()));
        body.extend(data);
        chunk(1, &body)
    };
    let run = [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1]].concat();
    let read = |bytes: &[u8]| Document::flat(start()).apply(&[(actor(3), bytes)]).remove(0);
    let too_many = Outcome::Void(VoidReason::TooManyOperations);
    assert_eq!(read(&column(0x42, &run)), too_many, "a run of actions");
    assert_eq!(read(&column(0x42, &[&[0][..], &run[..9]].concat())), too_many, "a run of nulls");
    assert_eq!(read(&column(0x34, &run[..9])), too_many, "a run of booleans");
    assert_eq!(read(&column(0x70, &[&[1][..], &run[..9]].concat())), too_many, "predecessors");
    let key = vec![b'x'; 1 << 20];
    let keys = [&[0xe8, 0x07][..], &leb(key.len()), &key].concat();
    assert_eq!(read(&column(0x15, &keys)), Outcome::Void(VoidReason::TooLarge));
    let malformed = |bytes: &[u8]| matches!(read(bytes), Outcome::Void(VoidReason::Malformed(_)));
    assert!(malformed(&column(0x42 | 8, &[1, 2])), "a compressed column");
    let honest = change(&honest().1);
    assert!(malformed(&[honest.raw_bytes(), &[0]].concat()), "bytes behind it");
    let mut wrong = honest.raw_bytes().to_vec();
    wrong[4] ^= 1;
    assert!(malformed(&wrong), "a wrong checksum");
    let compressed = forged(|c| {
        let text = c.operations.iter_mut().find(|op| matches!(op.key, Key::Map(_))).unwrap();
        text.action = OpType::Put("x".repeat(2000).into());
    });
    let mut compressed = change(&compressed);
    assert_eq!(compressed.bytes()[8], 2, "this is compressed");
    assert!(malformed(&compressed.bytes()));
    assert!(!malformed(honest.raw_bytes()));
    assert_eq!(read(&vec![0; (8 << 20) + 1]), Outcome::Void(VoidReason::TooLarge));
}

fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(u8::try_from(n & 0x7f | 0x80).unwrap());
        n >>= 7;
    }
    bytes.push(u8::try_from(n).unwrap());
    bytes
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let framed = [&[kind][..], &leb(body.len()), body].concat();
    let sum = Sha256::digest(&framed);
    [&[0x85, 0x6f, 0x4a, 0x83], &sum[..4], &framed].concat()
}

/// The body of a change, without the frame that its checksum is in.
fn body(change: &[u8]) -> &[u8] {
    let len = change[9..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
    &change[9 + len..]
}

#[derive(Debug, Clone)]
enum Forgery {
    Object(usize, usize),
    Element(usize, usize),
    Head(usize),
    Map(usize),
    Predecessor(usize, usize),
    Predecessors(usize, Vec<usize>),
    Insert(usize),
    Action(usize, usize),
    Swap(usize, usize),
    Remove(usize),
    Copy(usize),
}

fn forgery() -> impl Strategy<Value = Forgery> {
    let n = any::<usize>;
    prop_oneof![
        (n(), n()).prop_map(|(a, b)| Forgery::Object(a, b)),
        (n(), n()).prop_map(|(a, b)| Forgery::Element(a, b)),
        n().prop_map(Forgery::Head),
        n().prop_map(Forgery::Map),
        (n(), n()).prop_map(|(a, b)| Forgery::Predecessor(a, b)),
        (n(), vec(n(), 0..3)).prop_map(|(a, b)| Forgery::Predecessors(a, b)),
        n().prop_map(Forgery::Insert),
        (n(), n()).prop_map(|(a, b)| Forgery::Action(a, b)),
        (n(), n()).prop_map(|(a, b)| Forgery::Swap(a, b)),
        n().prop_map(Forgery::Remove),
        n().prop_map(Forgery::Copy),
    ]
}

fn forge(operations: &mut Vec<Op>, forgery: &Forgery, ids: &[OpId]) {
    let count = operations.len();
    if count == 0 {
        return;
    }
    let id = |n: &usize| ids[n % ids.len()].clone();
    match forgery {
        Forgery::Object(op, n) => operations[op % count].obj = ObjectId::Id(id(n)),
        Forgery::Element(op, n) => operations[op % count].key = Key::Seq(ElementId::Id(id(n))),
        Forgery::Head(op) => operations[op % count].key = Key::Seq(ElementId::Head),
        Forgery::Map(op) => {
            operations[op % count].obj = ObjectId::Root;
            operations[op % count].key = Key::Map("n".into());
        }
        Forgery::Predecessor(op, n) => operations[op % count].pred = vec![id(n)].into(),
        Forgery::Predecessors(op, all) => {
            operations[op % count].pred = all.iter().map(id).collect::<Vec<_>>().into();
        }
        Forgery::Insert(op) => operations[op % count].insert ^= true,
        Forgery::Action(op, n) => {
            let actions = [
                OpType::Delete,
                OpType::Make(ObjType::Map),
                OpType::Make(ObjType::List),
                OpType::Make(ObjType::Text),
                OpType::Put(ScalarValue::Str("many letters".into())),
                OpType::Put(ScalarValue::Str("".into())),
                OpType::Put(ScalarValue::Null),
            ];
            operations[op % count].action = actions[n % actions.len()].clone();
        }
        Forgery::Swap(a, b) => operations.swap(a % count, b % count),
        Forgery::Remove(op) => drop(operations.remove(op % count)),
        Forgery::Copy(op) => operations.push(operations[op % count].clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_device_decides_alike_on_forged_operations(forgeries in vec(forgery(), 1..4)) {
        let ids = ids();
        let forge_all = |operations: &mut Vec<Op>| {
            for one in &forgeries {
                forge(operations, one, &ids);
            }
        };
        let bytes = forged(|change| forge_all(&mut change.operations));
        let _ = verdict(&bytes);
    }

    #[test]
    fn every_device_decides_alike_on_forged_bytes(
        flips in vec((any::<usize>(), any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.1, any::<usize>()),
    ) {
        let (_, honest) = honest();
        let mut body = body(&honest).to_vec();
        for (at, to) in flips {
            let len = body.len();
            body[at % len] = to;
        }
        if let Some(cut) = cut {
            body.truncate(cut % body.len());
        }
        let _ = verdict(&chunk(1, &body));
    }

    #[test]
    fn stored_bytes_never_panic(flips in vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut document = Document::flat(start());
        let (first, second) = honest();
        let two = concurrent();
        let _ = document.apply(&[(actor(3), &first), (actor(2), &two), (actor(3), &second)]);
        let mut saved = document.save().unwrap();
        let len = saved.len();
        for (at, to) in flips {
            saved[at % len] = to;
        }
        let _ = Document::load(start(), Some(&saved));
        let framed = chunk(0, body(&saved));
        if let Ok(document) = Document::load(start(), Some(&framed)) {
            let _ = document.value();
            let _ = document.conflicts();
        }
    }
}
