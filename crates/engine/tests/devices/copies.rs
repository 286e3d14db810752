//! One id created on several devices.

use larder_engine::{Document, DocumentError, Heads, Version};
use proptest::prelude::*;

use super::*;

fn documents(device: &Device) -> Vec<Document> {
    device.space.list(None, None, 1000).unwrap().documents
}

fn delete(device: &mut Device, object: ObjectId) {
    let mut unit = UnitOfWork::new();
    unit.delete(object);
    device.commit(unit).unwrap();
}

/// Three devices that know each other.
fn three(dirs: &[tempfile::TempDir]) -> Vec<Device> {
    let mut a = Device::found(dirs[0].path(), 1);
    let b = a.invite(dirs[1].path(), 2);
    let c = a.invite(dirs[2].path(), 3);
    let mut devices = vec![a, b, c];
    exchange(&mut devices);
    devices
}

fn pull(devices: &mut [Device], to: usize, from: usize) {
    let mut taken: Vec<&mut Device> = devices.iter_mut().collect();
    let (low, high) = (to.min(from), to.max(from));
    let high_device = taken.remove(high);
    let low_device = taken.remove(low);
    if to < from {
        low_device.pull(high_device)
    } else {
        high_device.pull(low_device)
    };
}

fn exchange(devices: &mut [Device]) {
    for _ in 0..2 {
        for (to, from) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            pull(devices, to, from);
        }
    }
}

#[test]
fn both_of_two_creations_of_one_id_live_on_and_are_edited_apart() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = three(&dirs);
    let settings = object(1);
    for (n, device) in devices.iter_mut().enumerate().take(2) {
        device.put(settings, &json!({"by": n}));
        device.put(settings, &json!({"by": n, "edited": true}));
    }
    exchange(&mut devices);
    for device in &devices {
        let all = documents(device);
        assert_eq!(all.len(), 2);
        assert!(all.iter().any(|document| document.object == settings));
        assert!(all.iter().all(|document| document.value["edited"] == true));
    }
    let copy = documents(&devices[0]).iter().map(|d| d.object).find(|o| *o != settings).unwrap();
    let by = devices[0].value(copy)["by"].clone();
    for (n, device) in devices.iter_mut().enumerate() {
        let mut value = device.value(copy);
        value[format!("again {n}")] = json!(true);
        device.put(copy, &value);
    }
    exchange(&mut devices);
    for device in &devices {
        let value = device.value(copy);
        assert_eq!(value["by"], by);
        assert!((0..3).all(|n| value[format!("again {n}")] == true), "{value}");
        assert_eq!(device.space.digest().unwrap(), devices[0].space.digest().unwrap());
    }
    // Deleting the copy leaves the other; deleting the id leaves neither.
    delete(&mut devices[2], copy);
    exchange(&mut devices);
    assert!(devices.iter().all(|device| documents(device).len() == 1));
    assert!(devices.iter().all(|device| device.space.is_deleted(&copy).unwrap()));
    delete(&mut devices[1], settings);
    exchange(&mut devices);
    assert!(devices.iter().all(|device| documents(device).is_empty()));
}

#[test]
fn deleting_an_id_deletes_its_copies_and_edits_of_them_come_too_late() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = three(&dirs);
    devices[0].put(object(1), &json!({"by": 0}));
    devices[1].put(object(1), &json!({"by": 1}));
    exchange(&mut devices);
    let copy = documents(&devices[0]).iter().map(|d| d.object).find(|o| *o != object(1)).unwrap();
    delete(&mut devices[0], object(1));
    devices[1].put(copy, &json!({"by": "late"}));
    let mut unit = UnitOfWork::new();
    unit.put("notes", copy, &json!({"by": "gone"})).unwrap();
    assert!(matches!(devices[0].commit(unit), Err(Error::Deleted(_))));
    exchange(&mut devices);
    for device in &mut devices {
        assert!(documents(device).is_empty());
        assert!(device.space.is_deleted(&copy).unwrap());
        assert!(device.search(&Query::text("late")).is_empty());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put { device: usize, object: u8 },
    Edit { device: usize, pick: prop::sample::Index },
    Delete { device: usize, pick: prop::sample::Index },
    Pull { to: usize, from: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let device = || 0..3_usize;
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (device(), 1..4_u8).prop_map(|(device, object)| Step::Put { device, object }),
        3 => (device(), index()).prop_map(|(device, pick)| Step::Edit { device, pick }),
        1 => (device(), index()).prop_map(|(device, pick)| Step::Delete { device, pick }),
        3 => (device(), 1..3_usize).prop_map(|(to, by)| Step::Pull { to, from: (to + by) % 3 }),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(32)
    })]

    #[test]
    fn devices_that_create_edit_and_delete_the_same_ids_end_equal(steps in steps()) {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut devices = three(&dirs);
        let (mut created, mut deleted) = (0, false);
        let mut edits = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { device, object: id } => {
                    let device = &mut devices[device];
                    let known = device.space.document(&object(id)).unwrap();
                    if known.is_none() && !device.space.is_deleted(&object(id)).unwrap() {
                        device.put(object(id), &json!({"made": n, "text": "first\nsecond"}));
                        created += 1;
                    }
                }
                Step::Edit { device, pick } => {
                    let all = documents(&devices[device]);
                    if !all.is_empty() {
                        let document = pick.get(&all);
                        let mut value = Value::Object(document.value.clone());
                        let edit = format!("edit {n}");
                        value[&edit] = json!(true);
                        devices[device].put(document.object, &value);
                        edits.push(edit);
                    }
                }
                Step::Delete { device, pick } => {
                    let all = documents(&devices[device]);
                    if !all.is_empty() {
                        delete(&mut devices[device], pick.get(&all).object);
                        deleted = true;
                    }
                }
                Step::Pull { to, from } => pull(&mut devices, to, from),
            }
        }
        exchange(&mut devices);
        for device in &mut devices {
            let mut checking = larder_engine::Checking::new(false);
            while !device.writer.check_step(&mut checking).unwrap() {}
            let report = checking.into_report();
            prop_assert_eq!(&report.findings, &[]);
            prop_assert_eq!(report.objects_not_judged, 0);
        }
        let digests: Vec<_> = devices.iter().map(|d| d.space.digest().unwrap()).collect();
        prop_assert_eq!(digests[0], digests[1]);
        prop_assert_eq!(digests[1], digests[2]);
        for device in &mut devices {
            prop_assert_eq!(device.space.status().unwrap().waiting, 0);
            let all = documents(device);
            if !deleted {
                prop_assert_eq!(all.len(), created);
                for edit in &edits {
                    let holds = all.iter().filter(|document| document.value.contains_key(edit));
                    prop_assert_eq!(holds.count(), 1, "{}", edit);
                }
            }
            for document in &all {
                let found = device.search(&Query::text("second"));
                prop_assert!(found.iter().any(|f| f.document.object == document.object));
            }
        }
    }
}

/// A simulated run: two devices created one id. An app had read one of the two documents, which
/// nobody had edited yet, and edited it; by then the other had arrived and had the id. Both
/// versions were called `flat`, so the edit went into the other document and replaced all that its
/// author had written.
#[test]
fn an_edit_of_what_had_an_id_before_is_not_made_to_what_has_it_now() {
    for exactly in [false, true] {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut devices = three(&dirs);
        let id = object(1);
        let mut bases = Vec::new();
        for (n, device) in devices.iter_mut().enumerate().take(2) {
            device.put(id, &json!({"by": n, "letter": "Dear all\nhello\n"}));
            bases.push(device.space.document(&id).unwrap().unwrap().heads);
        }
        exchange(&mut devices);
        let winner = devices[0].value(id)["by"].clone();
        let edit = |device: &mut Device, heads: Heads, value: &Value| {
            let base = if exactly { Base::Exactly(heads) } else { Base::Merge(heads) };
            let mut unit = UnitOfWork::new();
            unit.put_at("notes", id, value, base).unwrap();
            device.commit(unit)
        };
        for (n, base) in bases.into_iter().enumerate() {
            let refused = edit(&mut devices[n], base, &json!({"by": n, "letter": "Mine\n"}));
            let Err(Error::Document(DocumentError::UnknownHeads { .. })) = refused else {
                panic!("{refused:?}")
            };
        }
        assert_eq!(devices[0].value(id)["letter"], "Dear all\nhello\n");
        // Whoever reads it again knows what is edited.
        let now = devices[1].space.document(&id).unwrap().unwrap();
        let mut value = now.value.clone();
        value.insert("seen".into(), true.into());
        assert_eq!(
            devices[1].space.value_at(&id, &Version::Heads(now.heads.clone())).unwrap(),
            Some(now.value)
        );
        edit(&mut devices[1], now.heads, &Value::Object(value)).unwrap();
        exchange(&mut devices);
        let all = documents(&devices[2]);
        assert_eq!(all.len(), 2);
        assert_eq!(devices[2].value(id)["by"], winner);
        assert_eq!(devices[2].value(id)["seen"], true);
    }
}
