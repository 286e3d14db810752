//! Laws that hold for any values and any order of arrival.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use larder_document::{Actor, Document, Heads, Object, Outcome, canonical};
use larder_types::{DeviceId, EntryHash, ObjectId, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

fn actor(device: usize) -> Actor {
    let device = DeviceId::new([u8::try_from(device).unwrap(); 32]);
    Actor::of(&device, &ObjectId::new([1; 16]), &EntryHash::new([2; 32]))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no word for it", |n| n.is_finite())
            .prop_map(Value::from),
        "[ab é🎈]{0,5}".prop_map(Value::from),
        "[ab\n]{0,12}".prop_map(Value::from),
        "(ab|\r|x ){90,120}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map("[abc/~]{0,1}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Object> {
    btree_map("[abcd]?", json(), 0..5).prop_map(|map| map.into_iter().collect())
}

/// An edit as a person makes it: most of the value stays.
#[derive(Debug, Clone)]
enum Edit {
    Set(usize, Value),
    Drop(usize),
    Add(String, Value),
    Replace(Object),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<usize>(), json()).prop_map(|(at, value)| Edit::Set(at, value)),
        2 => any::<usize>().prop_map(Edit::Drop),
        2 => ("[abcde]", json()).prop_map(|(key, value)| Edit::Add(key, value)),
        1 => object().prop_map(Edit::Replace),
    ]
}

/// Sets, drops or adds to the `at`th place of the value, counting all places at all depths.
fn edited(value: &Object, edit: &Edit) -> Object {
    fn walk(value: &mut Value, left: &mut usize, edit: &Edit) {
        if *left == 0 {
            match (edit, &mut *value) {
                (Edit::Set(_, Value::String(new)), Value::String(old)) => {
                    let middle = old.chars().count() / 2;
                    let front: String = old.chars().take(middle).collect();
                    let back: String = old.chars().skip(middle + 1).collect();
                    *old = front + new + &back;
                }
                (Edit::Set(_, new), Value::Array(items)) => items.insert(0, new.clone()),
                (Edit::Set(_, new), _) => *value = new.clone(),
                (_, Value::Array(items)) => drop(items.pop()),
                (_, Value::Object(map)) => map.clear(),
                (_, other) => *other = Value::Null,
            }
        }
        *left = left.wrapping_sub(1);
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, left, edit)),
            Value::Object(map) => map.values_mut().for_each(|value| walk(value, left, edit)),
            _ => {}
        }
    }
    let mut value = value.clone();
    match edit {
        Edit::Replace(new) => return new.clone(),
        Edit::Add(key, new) => drop(value.insert(key.clone(), new.clone())),
        Edit::Set(at, _) | Edit::Drop(at) => {
            let mut left = at % 12;
            value.values_mut().for_each(|value| walk(value, &mut left, edit));
        }
    }
    value
}

fn text(value: &Object) -> String {
    String::from_utf8(canonical(value)).unwrap()
}

/// All orders of the devices' logs: each log in its own order.
fn interleavings(logs: &[Vec<Vec<u8>>]) -> Vec<Vec<(usize, Vec<u8>)>> {
    if logs.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for device in 0..logs.len() {
        if let Some((first, _)) = logs[device].split_first() {
            let mut rest = logs.to_vec();
            rest[device].remove(0);
            for mut order in interleavings(&rest) {
                order.insert(0, (device, first.clone()));
                all.push(order);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_value_put_is_the_value_got(start in object(), edits in vec(edit(), 1..6)) {
        let mut document = Document::flat(start.clone());
        let mut replica = Document::flat(start.clone());
        let mut now = start.clone();
        for edit in &edits {
            now = edited(&now, edit);
            let change = document.put(actor(1), None, &now, Timestamp(0)).unwrap();
            prop_assert_eq!(text(&document.value().unwrap()), text(&now));
            if let Some(change) = change {
                prop_assert_eq!(replica.apply(&[(actor(1), &change)]), [Outcome::Applied]);
            }
            prop_assert_eq!(replica.heads(), document.heads());
            prop_assert_eq!(text(&replica.value().unwrap()), text(&now));
        }
        let loaded = Document::load(start.clone(), document.save().as_deref()).unwrap();
        prop_assert_eq!(loaded.heads(), document.heads());
        prop_assert_eq!(text(&loaded.value().unwrap()), text(&now));
        prop_assert_eq!(text(&document.value_at(&Heads::FLAT).unwrap()), text(&start));
    }

    #[test]
    fn devices_agree_whatever_arrives_first(
        start in object(),
        edits in (vec(edit(), 1..4), vec(edit(), 1..3), vec(edit(), 0..2)),
    ) {
        let mut logs = Vec::new();
        for (device, edits) in [edits.0, edits.1, edits.2].iter().enumerate() {
            let mut document = Document::flat(start.clone());
            let mut log = Vec::new();
            for edit in edits {
                let new = edited(&document.value().unwrap(), edit);
                log.extend(document.put(actor(device), None, &new, Timestamp(0)).unwrap());
            }
            logs.push(log);
        }
        let mut seen: Option<Document> = None;
        for order in interleavings(&logs) {
            let mut one_by_one = Document::flat(start.clone());
            for (device, change) in &order {
                prop_assert_eq!(one_by_one.apply(&[(actor(*device), change)]), [Outcome::Applied]);
            }
            let mut at_once = Document::flat(start.clone());
            let all: Vec<_> = order.iter().map(|(d, c)| (actor(*d), c.as_slice())).collect();
            prop_assert!(at_once.apply(&all).iter().all(|outcome| *outcome == Outcome::Applied));
            for document in [one_by_one, at_once] {
                let first = seen.get_or_insert_with(|| document.clone());
                prop_assert_eq!(document.heads(), first.heads());
                prop_assert_eq!(text(&document.value().unwrap()), text(&first.value().unwrap()));
                prop_assert_eq!(document.conflicts(), first.conflicts());
            }
        }
        let seen = seen.unwrap();
        let loaded = Document::load(start, seen.save().as_deref()).unwrap();
        prop_assert_eq!(loaded.value(), seen.value());
    }

    /// Devices that exchange edits now and then, and edit versions that they read some time ago.
    #[test]
    fn devices_that_talk_agree(
        start in object(),
        steps in vec((0..3_usize, 0..4_usize, edit()), 1..12),
    ) {
        let mut devices = vec![Document::flat(start.clone()); 3];
        let mut read = vec![(Heads::FLAT, start.clone()); 3];
        let mut log: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut known = [0; 3];
        for (device, what, edit) in &steps {
            let document = &mut devices[*device];
            match what {
                0 => {
                    for (author, change) in &log[known[*device]..] {
                        let outcome = document.apply(&[(actor(*author), change)]).remove(0);
                        prop_assert!(matches!(outcome, Outcome::Applied | Outcome::Duplicate));
                    }
                    known[*device] = log.len();
                }
                1 => read[*device] = (document.heads(), document.value().unwrap()),
                _ => {
                    let (base, value) = &read[*device];
                    let new = edited(value, edit);
                    let put = document.put(actor(*device), Some(base), &new, Timestamp(0)).unwrap();
                    if let Some(change) = put {
                        log.push((*device, change));
                    }
                }
            }
        }
        for document in &mut devices {
            for (author, change) in &log {
                let outcome = document.apply(&[(actor(*author), change)]).remove(0);
                prop_assert!(matches!(outcome, Outcome::Applied | Outcome::Duplicate));
            }
        }
        for document in &devices[1..] {
            prop_assert_eq!(document.heads(), devices[0].heads());
            prop_assert_eq!(document.value(), devices[0].value());
            prop_assert_eq!(document.conflicts(), devices[0].conflicts());
        }
        if let Some(saved) = devices[2].save() {
            let loaded = Document::load(start, Some(&saved)).unwrap();
            prop_assert_eq!(loaded.value(), devices[0].value());
        }
    }
}

/// An honest change was once void on every device but its author's: its causal past was walked
/// through the latest changes of each device, and what only earlier ones of them led to was
/// missed.
#[test]
fn devices_that_all_edit_in_every_round_agree_after_each() {
    let lines = ["one", "two", "three"];
    let mut start = Object::new();
    start.insert("body".into(), Value::from(lines.join("\n-\n")));
    let mut devices: Vec<Document> = lines.map(|_| Document::flat(start.clone())).into();
    for round in 0..8 {
        let mut changes = Vec::new();
        for (number, device) in devices.iter_mut().enumerate() {
            let mut value = device.value().unwrap();
            let line = lines[number];
            let body = value["body"].as_str().unwrap().replace(line, &format!("{line} {round}"));
            value.insert("body".into(), Value::from(body));
            let change = device.put(actor(number), None, &value, Timestamp(round)).unwrap();
            changes.push((actor(number), change.unwrap()));
        }
        for device in &mut devices {
            for (actor, change) in &changes {
                let outcomes = device.apply(&[(*actor, change)]);
                assert!(matches!(outcomes[..], [Outcome::Applied | Outcome::Duplicate]), "{round}");
            }
        }
        let value = devices[0].value().unwrap();
        assert!(devices.iter().all(|device| device.value().unwrap() == value), "{round}");
    }
}
