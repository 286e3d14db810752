//! What is redacted is nowhere, and nothing else is lost.

use larder_store::space::documents;
use serde_json::{Value, json};

use super::*;
use crate::durability_tests::World;
use crate::erase::canary_tests::{count, image, index, profile, synced};
use crate::erase::tests::{finish, supply, sync};
use crate::prune::tests::{Device, add_blob};
use crate::steps::{Step, hooked};
use crate::{ErasureInfo, UnitOfWork, Version};

const OBJECT: ObjectId = ObjectId::new([1; 16]);

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

fn put(device: &mut Device, object: ObjectId, value: &Value) {
    let mut unit = UnitOfWork::new();
    unit.put("notes", object, value).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
}

fn value(device: &Device, object: ObjectId) -> Value {
    Value::Object(device.space.document(&object).unwrap().expect("a document").value)
}

fn digests_agree(devices: &[Device]) {
    let digests: Vec<_> = devices.iter().map(|device| device.space.digest().unwrap()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

fn all_receipts(device: &Device) -> usize {
    let all = device.space.receipts(None, 1000).unwrap();
    for info in &all {
        device.space.receipt(&info.device, info.seq).unwrap().verify().unwrap();
    }
    all.len()
}

/// Ana takes the diagnosis out of Ella's note while Ben is away and edits the note, the diagnosis
/// too, and Cleo has that. Nothing of it is left on any disk, and Ben's other edit is in what is
/// left, once.
#[test]
fn what_was_redacted_is_nowhere_and_an_edit_made_beside_it_is_not_lost() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found_by(profile(dirs[0].path(), 1));
    let (b, c) = (a.invite_as(profile(dirs[1].path(), 2)), a.invite_as(profile(dirs[2].path(), 3)));
    let mut devices = vec![a, b, c];
    sync(&mut devices);
    let secret = "zqsecretword, and more of it\n".repeat(20);
    let body = "A first line.\nA second line.\nA third line.\n";
    let (gone, stays) = (add_blob(&mut devices[0], b"zqscan"), add_blob(&mut devices[0], b"photo"));
    let mut note = json!({
        "name": "Ella", "body": body, "photo": {"$blob": stays.to_string()},
        "health": {"diagnosis": secret, "scan": {"$blob": gone.to_string()}, "doctor": "Weiss"},
    });
    put(&mut devices[0], OBJECT, &note);
    sync(&mut devices);
    for (n, device) in devices.iter_mut().enumerate() {
        note["health"]["diagnosis"] = json!(format!("{secret}zqsecretword {n}"));
        put(device, OBJECT, &note);
        index(device);
    }
    sync(&mut devices);
    // Beside the redaction, not sent.
    let mut late = value(&devices[1], OBJECT);
    late["body"] = json!(body.replace("second line.", "second line, and Ben's."));
    late["health"]["doctor"] = json!("Schwarz");
    late["health"]["diagnosis"] = json!(format!("{secret}zqsecretword of Ben's"));
    put(&mut devices[1], OBJECT, &late);
    // Of another it is known: two make it again, each by itself.
    let [ben, cleo] = devices.get_disjoint_mut([1, 2]).unwrap();
    cleo.pull(ben);
    for (device, dir) in devices.iter_mut().zip(&dirs) {
        index(device);
        assert!(count(&image(dir.path(), device), b"zqsecretword") > 0, "the control is lost");
    }

    let paths = [path("health/diagnosis"), path("health/scan")];
    let done = devices[0].writer.redact(OBJECT, &paths).unwrap();
    done.created.verify().unwrap();
    done.erased.verify().unwrap();
    let new = done.object;
    let edited = {
        let mut edited = value(&devices[0], new);
        assert_eq!(edited["health"], json!({"doctor": "Weiss"}));
        edited["body"] = json!(body.replace("third", "3rd"));
        edited
    };
    put(&mut devices[0], new, &edited);
    sync(&mut devices);
    finish(&mut devices);

    let merged = body.replace("second line.", "second line, and Ben's.").replace("third", "3rd");
    for (device, dir) in devices.iter().zip(&dirs) {
        let found = value(device, new);
        assert_eq!(
            (&found["body"], &found["health"]),
            (&json!(merged), &json!({"doctor": "Schwarz"}))
        );
        let image = image(dir.path(), device);
        assert_eq!(count(&image, b"zqsecretword"), 0, "{:?}", dir.path());
        assert_eq!(count(&image, b"secretword"), 0, "{:?}", dir.path());
        assert_eq!(device.space.redacted_as(&OBJECT).unwrap(), Some(new));
        let [info] = &device.space.erasures().unwrap()[..] else { panic!() };
        assert!(info.is_done() && info.redacted_as == [new], "{info:?}");
        let [late] = &info.late[..] else { panic!("{info:?}") };
        assert_eq!((late.device, late.edits), (devices[1].space.device(), 1));
        let history = device.space.history(&new).unwrap();
        assert_eq!((history[0].kind, history[0].restored_from), ("redact", Some(OBJECT)));
        let first = device.space.value_at(&new, &Version::Heads(larder_document::Heads::FLAT));
        assert!(!format!("{first:?}").contains("secretword"));
        assert!(all_receipts(device) > 6);
    }
    let blobs =
        |device: &Device| (device.space.blob(&gone).unwrap(), device.space.blob(&stays).unwrap());
    let (scan, photo) = blobs(&devices[0]);
    assert!(scan.is_none() && photo.is_some());
    digests_agree(&devices);
}

/// The power fails before the end of the transaction, or behind it.
#[test]
fn a_cut_leaves_a_redaction_whole_or_none() {
    for cut in [None, Some(Step::Erasing)] {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut device = Device::found_by(profile(dir.path(), 1));
        put(&mut device, OBJECT, &json!({"a": "zqsecretword", "b": 1}));
        let fails = move |step| {
            if Some(step) == cut { Err(std::io::Error::other("no power")) } else { Ok(()) }
        };
        let (device, done) = hooked(fails, move || {
            let done = device.writer.redact(OBJECT, &[path("a")]);
            (device, done)
        });
        assert_eq!(done.is_ok(), cut.is_none());
        crate::durability_tests::copy(dir.path(), left.path());
        drop(device);
        let env = std::sync::Arc::new(World(std::sync::atomic::AtomicU64::new(9 << 40)));
        let unlock = crate::Unlock::Key(crate::Secret::new([7; 32]));
        let options = crate::ProfileOptions::default();
        let access = crate::Access::ReadWrite;
        let profile = crate::Profile::open(env, left.path(), &unlock, access, options).unwrap();
        let (space, _writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        let all = space.list(None, None, 10).unwrap().documents;
        let [only] = &all[..] else { panic!("{all:?}") };
        assert_eq!(only.object == OBJECT, cut.is_some());
        let expected =
            if cut.is_some() { json!({"a": "zqsecretword", "b": 1}) } else { json!({"b": 1}) };
        assert_eq!(Value::Object(only.value.clone()), expected);
        assert_eq!(space.erasures().unwrap().is_empty(), cut.is_some());
    }
}

/// Two devices take different parts out of one document while apart. In what the one left stood
/// what the other had taken out.
#[test]
fn what_either_of_two_took_out_is_in_neither_document() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = synced(&dirs);
    put(&mut devices[0], OBJECT, &json!({"x": "zqonesecret", "y": "zqothersecret", "z": 1}));
    sync(&mut devices);
    let one = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap().object;
    let other = devices[1].writer.redact(OBJECT, &[path("y")]).unwrap().object;
    for (device, needle) in devices.iter().zip([&b"zqothersecret"[..], b"zqonesecret"]) {
        let at = dirs[usize::from(needle == b"zqonesecret")].path();
        assert!(count(&image(at, device), needle) > 0, "the control is lost");
    }
    sync(&mut devices);
    finish(&mut devices);
    for (device, dir) in devices.iter().zip(&dirs) {
        let all = device.space.list(None, None, 10).unwrap().documents;
        let values: Vec<_> =
            all.iter().map(|document| Value::Object(document.value.clone())).collect();
        assert_eq!(values, [json!({"z": 1}), json!({"z": 1})], "both are there: no edit is lost");
        for needle in [&b"zqonesecret"[..], b"zqothersecret", b"onesecret", b"othersecret"] {
            assert_eq!(count(&image(dir.path(), device), needle), 0);
        }
        let erased = device.space.erasures().unwrap();
        assert!(erased.iter().all(ErasureInfo::is_done));
        let first = erased.iter().find(|info| info.object == OBJECT).unwrap();
        let mut both = vec![one, other];
        both.sort();
        assert_eq!(first.redacted_as, both);
    }
    digests_agree(&devices);
}

/// Two devices each took some two hundred parts out of one document while apart. Together that was
/// more than a document could stand for, so what the other had taken out stayed in both, and
/// nothing said so.
#[test]
fn many_parts_that_two_took_out_are_in_neither_document() {
    let whole: serde_json::Map<_, _> = (0..410).map(|n| (format!("part {n}"), json!(n))).collect();
    let mut devices = shared(&Value::Object(whole));
    let parts = |of: std::ops::Range<u32>| of.map(|n| path(&format!("part {n}"))).collect();
    let (one, other): (Vec<_>, Vec<_>) = (parts(0..200), parts(200..400));
    devices[0].writer.redact(OBJECT, &one).unwrap();
    let done = devices[1].writer.redact(OBJECT, &other).unwrap();
    let more = devices[1].writer.redact(done.object, &one[..100]);
    assert!(matches!(more, Err(Error::Invalid(_))), "there is room for what others take out");
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        let left = all(device);
        assert_eq!(left.len(), 2);
        for left in left {
            let names: Vec<_> = left.as_object().unwrap().keys().cloned().collect();
            assert_eq!(names, (400..410).map(|n| format!("part {n}")).collect::<Vec<_>>());
        }
    }
    digests_agree(&devices);
}

/// What a part stands in counts in its stead, so that there is always a way to take out more.
#[test]
fn parts_within_one_that_goes_count_as_that_one() {
    let members: serde_json::Map<_, _> = (0..250).map(|n| (n.to_string(), json!(n))).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found_by(profile(dir.path(), 1));
    put(&mut device, OBJECT, &json!({"a": members, "a b": 1, "b": members}));
    let parts = |of: &str| (0..250).map(|n| path(&format!("{of}/{n}"))).collect::<Vec<_>>();
    let done = device.writer.redact(OBJECT, &parts("a")).unwrap();
    let full = device.writer.redact(done.object, &parts("b"));
    assert!(matches!(full, Err(Error::Invalid(_))));
    let done = device.writer.redact(done.object, &[path("a")]).unwrap();
    let done = device.writer.redact(done.object, &parts("b")).unwrap();
    assert_eq!(value(&device, done.object), json!({"a b": 1, "b": {}}));
}

/// A phone was away while a document was redacted twice: what it wrote meanwhile finds its way.
#[test]
fn an_edit_finds_its_way_over_several_redactions() {
    let mut a = Device::found(1);
    let b = a.invite(2);
    let mut devices = vec![a, b];
    sync(&mut devices);
    put(&mut devices[0], OBJECT, &json!({"x": "one", "y": ["two", "three"], "z": 1}));
    sync(&mut devices);
    put(&mut devices[1], OBJECT, &json!({"x": "one!", "y": ["two", "three", "four"], "z": 2}));
    let first = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap().object;
    let paths = [path("y/0")];
    let second = devices[0].writer.redact(first, &paths).unwrap().object;
    assert_eq!(value(&devices[0], second), json!({"y": ["three"], "z": 1}));
    sync(&mut devices);
    // What stands where in a list is another thing in another version: the list stays as it is.
    for device in &devices {
        assert_eq!(value(device, second), json!({"y": ["three"], "z": 2}));
        assert_eq!(device.space.redacted_as(&OBJECT).unwrap(), Some(second));
    }
    digests_agree(&devices);
}

#[test]
fn only_what_is_or_was_there_is_redacted() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::found_by(profile(dir.path(), 1));
    put(&mut device, OBJECT, &json!({"a": "one", "b": {"c": [1, 2, 3]}}));
    put(&mut device, OBJECT, &json!({"b": {"c": [1, 2, 3]}}));
    let error =
        |device: &mut Device, at: &str| device.writer.redact(OBJECT, &[path(at)]).unwrap_err();
    for unknown in ["x", "b/c/3", "b/x"] {
        let error = error(&mut device, unknown);
        assert!(matches!(error, Error::NotFound(_)), "{unknown}: {error}");
    }
    assert!(matches!(device.writer.redact(OBJECT, &[]), Err(Error::Invalid(_))));
    let none = device.writer.redact(ObjectId::new([9; 16]), &[path("a")]);
    assert!(matches!(none, Err(Error::NotFound(_))));
    let mut unit = UnitOfWork::new();
    unit.trash(OBJECT);
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    assert!(matches!(error(&mut device, "b"), Error::Trashed(_)));
    let mut unit = UnitOfWork::new();
    unit.undo_trash(OBJECT);
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    // A part that only an earlier version has, and several of one list.
    let paths = [path("a"), path("b/c/0"), path("b/c/2")];
    let done = device.writer.redact(OBJECT, &paths).unwrap();
    assert_eq!(value(&device, done.object), json!({"b": {"c": [2]}}));
    assert!(matches!(error(&mut device, "b"), Error::Deleted(_)));
    assert!(device.space.redacted_as(&done.object).unwrap().is_none());
}

fn two() -> Vec<Device> {
    let mut a = Device::found(1);
    let b = a.invite(2);
    let mut devices = vec![a, b];
    sync(&mut devices);
    devices
}

fn shared(value: &Value) -> Vec<Device> {
    let mut devices = two();
    put(&mut devices[0], OBJECT, value);
    sync(&mut devices);
    devices
}

fn commit(device: &mut Device, fill: impl FnOnce(&mut UnitOfWork)) {
    let mut unit = UnitOfWork::new();
    fill(&mut unit);
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
}

fn all(device: &Device) -> Vec<Value> {
    let all = device.space.list(None, None, 10).unwrap().documents;
    all.iter().map(|document| Value::Object(document.value.clone())).collect()
}

/// Ana took one field out of a letter; Ben, who had not heard of it, erased the letter, or deleted
/// it, or put it in the trash. The rest of it lived on, on every device.
#[test]
fn what_was_erased_deleted_or_trashed_beside_a_redaction_does_not_live_on() {
    for how in ["erase", "delete", "trash"] {
        let mut devices = shared(&json!({"x": "one", "y": 1}));
        let new = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap().object;
        let ben = &mut devices[1];
        match how {
            "erase" => drop(ben.writer.erase(OBJECT).unwrap()),
            "delete" => commit(ben, |unit| unit.delete(OBJECT)),
            _ => commit(ben, |unit| unit.trash(OBJECT)),
        }
        sync(&mut devices);
        finish(&mut devices);
        for device in &devices {
            assert!(all(device).is_empty(), "{how}");
            let erased = device.space.erasures().unwrap();
            assert_eq!(erased.iter().any(|info| info.object == new), how == "erase");
            assert!(erased.iter().all(ErasureInfo::is_done), "{how}: {erased:?}");
        }
        digests_agree(&devices);
    }
}

/// Ben erased a letter that he knew to be redacted, by its old id. That is no wish about the rest.
#[test]
fn who_erases_what_is_known_to_be_redacted_leaves_the_rest() {
    let mut devices = shared(&json!({"x": "one", "y": 1}));
    devices[0].writer.redact(OBJECT, &[path("x")]).unwrap();
    sync(&mut devices);
    devices[1].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    finish(&mut devices);
    assert!(devices.iter().all(|device| all(device) == [json!({"y": 1})]));
}

/// A hub that may not read a letter hands on the act that redacts it and not what is left of it.
/// Ben's device erased the letter at once, and what he had written in it was nowhere.
#[test]
fn an_edit_waits_for_what_is_left_of_its_document() {
    let mut devices = shared(&json!({"x": "one", "y": 1}));
    put(&mut devices[1], OBJECT, &json!({"x": "one", "y": 2}));
    let done = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap();
    let [ana, ben] = &mut devices[..] else { panic!() };
    pull_without(ben, ana, &done);
    assert_eq!(value(ben, OBJECT), json!({"x": "one", "y": 2}), "it is kept");
    assert!(!ben.writer.finish_erasures().unwrap());
    let [info] = &ben.space.erasures().unwrap()[..] else { panic!() };
    assert!(!info.is_done(), "and nobody is told that it went: {info:?}");
    supply(ben, ana);
    assert!(ben.space.document(&OBJECT).unwrap().is_none());
    assert_eq!(value(ben, done.object), json!({"y": 2}));
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        assert_eq!(all(device), [json!({"y": 2})]);
        assert!(device.space.erasures().unwrap().iter().all(ErasureInfo::is_done));
    }
    digests_agree(&devices);
}

/// Takes in all that who redacted has, but for what is left of the document.
fn pull_without(to: &mut Device, from: &Device, redaction: &Redaction) {
    let (author, seq) = (from.space.device(), redaction.created.index + 1);
    to.pull_as(from, |batch| {
        let first = batch.first_seq;
        for (seq_of, entry) in (first..).zip(&mut batch.entries) {
            if batch.device == author && seq_of == seq {
                entry.payloads.fill(larder_log::Payload::Missing);
            }
        }
    });
}

/// Ben's device had stated what its entries came to, his late edit among them, and waited for the
/// others to state the same. So it took the edit for one that Ana had known, and let go of it with
/// the letter while what is left of that had not come.
#[test]
fn what_who_redacted_did_not_know_is_late_whatever_others_have_stated() {
    let mut devices = shared(&json!({"x": "one", "y": 1}));
    put(&mut devices[1], OBJECT, &json!({"x": "one", "y": 2}));
    let stated = devices[1].writer.prune(true, &mut |_| {}).unwrap().stated;
    assert_eq!(stated, 1);
    let done = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap();
    let [ana, ben] = &mut devices[..] else { panic!() };
    pull_without(ben, ana, &done);
    assert_eq!(value(ben, OBJECT), json!({"x": "one", "y": 2}), "it is kept");
    supply(ben, ana);
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        assert_eq!(all(device), [json!({"y": 2})]);
    }
    digests_agree(&devices);
}

/// Ana took one element out of a list while Ben took out another field, and had new elements in
/// that list. All of the list went out of his document, and with it what only he had.
#[test]
fn a_list_that_another_took_an_element_of_stays_where_it_is() {
    let mut devices = shared(&json!({"lines": ["a", "b", "c"], "x": "one", "z": 1}));
    put(&mut devices[1], OBJECT, &json!({"lines": ["a", "b", "c", "d"], "x": "one", "z": 1}));
    let ben = devices[1].writer.redact(OBJECT, &[path("x")]).unwrap().object;
    let ana = devices[0].writer.redact(OBJECT, &[path("lines/1"), path("z")]).unwrap().object;
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        let values = all(device);
        assert!(values.contains(&json!({"lines": ["a", "b", "c", "d"]})), "{values:?}");
        assert!(values.contains(&json!({"lines": ["a", "c"]})), "{values:?}");
        let erased = device.space.erasures().unwrap();
        let first = erased.iter().find(|info| info.object == OBJECT).unwrap();
        assert!(first.redacted_as.contains(&ana) && first.redacted_as.contains(&ben));
    }
    // A list that went as a whole goes.
    let mut devices = shared(&json!({"lines": ["a"], "x": "one", "z": 1}));
    devices[0].writer.redact(OBJECT, &[path("lines")]).unwrap();
    devices[1].writer.redact(OBJECT, &[path("x")]).unwrap();
    sync(&mut devices);
    assert_eq!(all(&devices[0]), [json!({"z": 1}), json!({"z": 1})]);
}

/// Ben redacted twice, Ana once. She heard of the first of his in one batch and of the second in
/// another, and what the second took out stayed in hers.
#[test]
fn a_second_redaction_is_heard_of_in_whatever_batch_it_comes() {
    let mut devices = shared(&json!({"p": "one", "q": "two", "r": "three", "s": 1}));
    devices[0].writer.redact(OBJECT, &[path("r")]).unwrap();
    let [ana, ben] = &mut devices[..] else { panic!() };
    let first = ben.writer.redact(OBJECT, &[path("p")]).unwrap().object;
    ana.pull(ben);
    ben.writer.redact(first, &[path("q")]).unwrap();
    ana.pull(ben);
    assert!(all(ana).contains(&json!({"s": 1})), "{:?}", all(ana));
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        assert_eq!(all(device), [json!({"s": 1}), json!({"s": 1})]);
    }
    digests_agree(&devices);
}

/// Two imports made documents of one id, and Ana redacted hers before she had Ben's. His went with
/// it, and nothing told of it.
#[test]
fn a_document_that_another_made_under_the_same_id_is_written_anew() {
    let mut devices = two();
    put(&mut devices[0], OBJECT, &json!({"x": "one", "y": 1}));
    put(&mut devices[1], OBJECT, &json!({"of": "Ben"}));
    put(&mut devices[1], OBJECT, &json!({"of": "Ben", "more": 2}));
    devices[0].writer.redact(OBJECT, &[path("x")]).unwrap();
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        let values = all(device);
        assert_eq!(values.len(), 2, "{values:?}");
        assert!(values.contains(&json!({"of": "Ben", "more": 2})), "{values:?}");
        assert!(values.contains(&json!({"y": 1})), "{values:?}");
        let erased = device.space.erasures().unwrap();
        let first = erased.iter().find(|info| info.object == OBJECT).unwrap();
        assert_eq!(first.late[0].edits, 2, "its creation counts: {first:?}");
    }
    digests_agree(&devices);
}

/// What was left lay in the trash when Ben's late edit came: it was lost, and taken out of the
/// trash the document lacked it. And a redaction in the trash that the other's had to be taken out
/// of came back from there by itself.
#[test]
fn the_trash_holds_what_comes_to_a_document_in_it() {
    let mut devices = shared(&json!({"x": "one", "y": 1}));
    put(&mut devices[1], OBJECT, &json!({"x": "one", "y": 2}));
    let new = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap().object;
    commit(&mut devices[0], |unit| unit.trash(new));
    sync(&mut devices);
    assert!(devices.iter().all(|device| all(device).is_empty()));
    commit(&mut devices[0], |unit| unit.undo_trash(new));
    sync(&mut devices);
    assert!(devices.iter().all(|device| all(device) == [json!({"y": 2})]));

    let mut devices = shared(&json!({"x": "one", "y": "two", "z": 1}));
    let new = devices[0].writer.redact(OBJECT, &[path("x")]).unwrap().object;
    commit(&mut devices[0], |unit| unit.trash(new));
    devices[1].writer.redact(OBJECT, &[path("y")]).unwrap();
    sync(&mut devices);
    for device in &devices {
        assert_eq!(all(device), [json!({"z": 1})], "Ben's alone is out of the trash");
    }
    digests_agree(&devices);
}

/// One element of a list was named twice, or with a zero before its place: the next one went too,
/// for ever. So did another if one came before it between reading and redacting.
#[test]
fn one_element_of_a_list_goes_for_one_that_is_named() {
    let mut devices = shared(&json!({"lines": [0, 1, 2, 3, 4]}));
    let read = devices[0].space.document(&OBJECT).unwrap().unwrap().heads;
    let paths = [path("lines/2"), path("lines/02"), path("lines/2")];
    put(&mut devices[1], OBJECT, &json!({"lines": [9, 0, 1, 2, 3, 4]}));
    sync(&mut devices);
    let refused = devices[0].writer.redact_exactly(OBJECT, &read, &paths);
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    let now = devices[0].space.document(&OBJECT).unwrap().unwrap().heads;
    let done = devices[0].writer.redact_exactly(OBJECT, &now, &paths).unwrap();
    assert_eq!(value(&devices[0], done.object), json!({"lines": [9, 0, 2, 3, 4]}));
}

/// Ben's copy of a letter was damaged when the act came that redacts it: what came with the act
/// failed, each time anew, and no other document got to his device.
#[test]
fn a_damaged_document_stays_and_holds_up_no_other() {
    let mut devices = shared(&json!({"x": "one", "y": 1}));
    put(&mut devices[1], OBJECT, &json!({"x": "one", "y": 2}));
    let damage = |tx: &mut rusqlite::Transaction<'_>, _: &mut WriterState| {
        assert_eq!(tx.execute("UPDATE histories SET bytes = zeroblob(100)", []).unwrap(), 1);
        Ok(())
    };
    devices[1].writer.transact(damage).unwrap();
    devices[0].writer.redact(OBJECT, &[path("x")]).unwrap();
    let other = ObjectId::new([2; 16]);
    put(&mut devices[0], other, &json!({"n": 1}));
    let [ana, ben] = &mut devices[..] else { panic!() };
    ben.pull(ana);
    assert_eq!(value(ben, other), json!({"n": 1}));
    assert_eq!(value(ben, OBJECT), json!({"x": "one", "y": 2}), "what he wrote is not lost");
    assert!(!ben.writer.finish_erasures().unwrap() && ben.writer.has_set_aside());
}

/// A phone took a part out of a letter after it had been shut out. Ben's device, which had not
/// heard of that, erased the letter, met an edit of Dora's in it, and listed that too. Once all had
/// heard, what the phone had left was void and Ben's erasure was not: the rest of the letter was
/// nowhere, and Dora's device waited for it for ever and never said that it has erased.
#[test]
fn what_a_device_that_was_shut_out_left_stays_if_another_one_erased_by_it() {
    let mut a = Device::found(1);
    let others = [2, 3, 4].map(|seed| a.invite(seed));
    let mut devices: Vec<_> = std::iter::once(a).chain(others).collect();
    sync(&mut devices);
    put(&mut devices[0], OBJECT, &json!({"x": "one", "y": 1}));
    sync(&mut devices);
    let [ana, ben, phone, dora] = &mut devices[..] else { panic!() };
    ana.writer.revoke(&[phone.space.device()]).unwrap();
    put(dora, OBJECT, &json!({"x": "one", "y": 1, "z": 2}));
    let left = phone.writer.redact(OBJECT, &[path("x")]).unwrap().object;
    ben.pull(phone);
    ben.pull(dora);
    assert_eq!(value(ben, left), json!({"y": 1}));
    assert_eq!(ben.space.erasures().unwrap()[0].acts, 2, "he lists what the phone did not know");
    dora.pull(ana);
    devices.remove(2);
    sync(&mut devices);
    finish(&mut devices);
    for device in &devices {
        assert_eq!(all(device), [json!({"y": 1, "z": 2})]);
        assert!(device.space.erasures().unwrap().iter().all(ErasureInfo::is_done));
    }
    digests_agree(&devices);
}

/// A change that two devices made again stood below a snapshot in the log of the one, and in that
/// of the other, which was set aside then, above it. In the next snapshot it was one that nothing
/// builds on: whoever computed that from the beginning came to another.
#[test]
fn a_snapshot_knows_a_change_that_was_made_again_twice() {
    let mut a = Device::found(1);
    let (b, c) = (a.invite(2), a.invite(3));
    let mut devices = vec![a, b, c];
    sync(&mut devices);
    put(&mut devices[0], OBJECT, &json!({"x": "one", "n": 1}));
    sync(&mut devices);
    put(&mut devices[1], OBJECT, &json!({"x": "one", "n": 2}));
    let [a, b, c] = devices.get_disjoint_mut([0, 1, 2]).unwrap();
    c.pull(b);
    let left = a.writer.redact(OBJECT, &[path("x")]).unwrap().object;
    b.pull(a);
    c.pull(a);
    a.writer.quarantine(c.space.device()).unwrap();
    a.pull(b);
    put(a, left, &json!({"n": 3}));
    let leaf = |device: &mut Device| {
        let read = device.writer.transact(|tx, _| {
            let row = documents::find(tx, &left)?.unwrap();
            crate::history::leaf(tx, &row)
        });
        read.unwrap()
    };
    let prune = |devices: &mut [Device]| {
        for round in 0..6 {
            sync(devices);
            for (n, device) in devices.iter_mut().enumerate() {
                device.writer.prune((round, n) == (0, 0), &mut |_| {}).unwrap();
            }
        }
    };
    prune(&mut devices[..2]);
    let first = leaf(&mut devices[0]).expect("it is pruned");
    put(&mut devices[0], ObjectId::new([8; 16]), &json!({"later": 1}));
    sync(&mut devices);
    put(&mut devices[2], left, &json!({"n": 4}));
    prune(&mut devices);
    let second = leaf(&mut devices[0]).expect("it is pruned");
    assert!(first.heads.len() == 1 && second.heads != first.heads);
    assert_eq!(second.heads.len(), 1);
    for device in &devices {
        assert_eq!(value(device, left), json!({"n": 4}));
    }
}
