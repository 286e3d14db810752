//! What documents were, and who made them so.

use larder_engine::Version;
use larder_types::DeviceId;

use super::*;

fn kinds(device: &Device, id: ObjectId) -> Vec<(DeviceId, &'static str)> {
    let history = device.space.history(&id).unwrap();
    history.into_iter().map(|item| (item.device, item.kind)).collect()
}

#[test]
fn history_says_who_and_when_and_each_of_its_versions_can_be_read() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    a.put(object(1), &json!({"title": "Soup", "serves": 2}));
    let mut b = a.invite(two.path(), 2);
    let mut unit = UnitOfWork::new();
    unit.actor("bo");
    unit.put("notes", object(1), &json!({"title": "Soup", "serves": 4})).unwrap();
    let receipt = b.commit(unit).unwrap();
    a.put(object(1), &json!({"title": "Fish soup", "serves": 2}));
    sync(&mut a, &mut b);

    let history = a.space.history(&object(1)).unwrap();
    let by: Vec<_> = history.iter().map(|item| (item.label.as_deref(), item.kind)).collect();
    assert_eq!(
        by,
        [(Some("first"), "create"), (Some("first"), "change"), (Some("other"), "change")]
    );
    assert_eq!(history[2].actor.as_deref(), Some("bo"));
    assert_eq!((history[2].device, history[2].seq), (b.space.device(), receipt.index + 1));
    assert!(history.iter().all(|item| item.member.is_some() && !item.clock_ahead));
    let at = |n: usize| {
        let version = Version::Heads(history[n].version.clone().unwrap());
        Value::Object(a.space.value_at(&object(1), &version).unwrap().unwrap())
    };
    assert_eq!(at(0), json!({"title": "Soup", "serves": 2}));
    assert_eq!(at(1), json!({"title": "Fish soup", "serves": 2}));
    assert_eq!(at(2), json!({"title": "Soup", "serves": 4}), "b had not seen a's edit");

    let until = |n: usize| Version::Time(history[n].clock.wall);
    let value = |version: &Version| a.space.value_at(&object(1), version).unwrap();
    let before = Timestamp(history[0].clock.wall.0 - 1);
    assert_eq!(value(&Version::Time(before)), None);
    assert_eq!(value(&until(0)).unwrap()["serves"], 2);
    let last = history.iter().map(|item| item.clock.wall).max().unwrap();
    let now = value(&Version::Now).unwrap();
    assert_eq!(value(&Version::Time(last)).unwrap(), now);
    assert_eq!(Value::Object(now), json!({"title": "Fish soup", "serves": 4}));

    let flat = Version::Heads("flat".parse().unwrap());
    let diff = a.space.diff(&object(1), &flat, &Version::Now).unwrap();
    let paths: Vec<_> = diff.iter().map(|difference| difference.path.as_str()).collect();
    assert_eq!(paths, ["/serves", "/title"]);
    let never = Version::Heads("07".repeat(32).parse().unwrap());
    assert!(matches!(a.space.value_at(&object(1), &never), Err(Error::Document(_))));
    assert!(matches!(a.space.value_at(&object(9), &Version::Now), Err(Error::NotFound(_))));

    let mut unit = UnitOfWork::new();
    unit.delete(object(1));
    a.commit(unit).unwrap();
    assert_eq!(kinds(&a, object(1)).last().unwrap().1, "delete");
    assert!(matches!(a.space.value_at(&object(1), &flat), Err(Error::Deleted(_))));
    assert!(matches!(a.space.conflicts(&object(1)), Err(Error::Deleted(_))));
}

/// Two devices created one id while apart. The one that had to give way lives under a derived id,
/// and its history was empty there, while the other's showed the entries of both.
#[test]
fn each_of_two_creations_of_one_id_has_its_own_history() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let mut b = a.invite(two.path(), 2);
    for (device, name) in [(&mut a, "a"), (&mut b, "b")] {
        device.put(object(1), &json!({"by": name}));
        device.put(object(1), &json!({"by": name, "edited": true}));
    }
    sync(&mut a, &mut b);
    let all = a.space.list(None, None, 10).unwrap().documents;
    let copy = all.iter().map(|document| document.object).find(|id| *id != object(1)).unwrap();
    let devices = BTreeMap::from([("a", a.space.device()), ("b", b.space.device())]);
    for id in [object(1), copy] {
        let by = devices[a.value(id)["by"].as_str().unwrap()];
        for device in [&a, &b] {
            assert_eq!(kinds(device, id), [(by, "create"), (by, "change")]);
        }
    }
    let by = devices[a.value(copy)["by"].as_str().unwrap()];
    let mut unit = UnitOfWork::new();
    unit.delete(copy);
    b.commit(unit).unwrap();
    a.pull(&b);
    let deleted = [(by, "create"), (by, "change"), (b.space.device(), "delete")];
    assert_eq!(kinds(&a, copy), deleted);
    assert_eq!(kinds(&a, object(1)).len(), 2, "the other one is alive");
    let mut unit = UnitOfWork::new();
    unit.delete(object(1));
    a.commit(unit).unwrap();
    let both = kinds(&a, object(1));
    assert_eq!(both.len(), 5, "once it is deleted there is no telling them apart: {both:?}");
}

#[test]
fn a_claim_from_the_future_is_flagged() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let ahead = Arc::new(World { clock: AtomicU64::new(0), seed: AtomicU64::new(2 << 40) });
    let clock: Arc<dyn Environment> = Arc::<World>::clone(&ahead);
    let mut b = a.invite_in(two.path(), clock);
    ahead.clock.fetch_add(24 * 60 * 60 * 1000, Ordering::Relaxed);
    b.put(object(1), &json!({"title": "Tomorrow"}));
    a.pull(&b);
    assert!(a.space.history(&object(1)).unwrap()[0].clock_ahead);
    assert!(!b.space.history(&object(1)).unwrap()[0].clock_ahead);
}
