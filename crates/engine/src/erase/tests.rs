//! What is erased is nowhere: on no device, in no order of events.

use larder_protocol::Reply;
use larder_types::ObjectId;
use serde_json::{Value, json};

use super::*;
use crate::heal::Checking;
use crate::prune::tests::{Device, add_blob};
use crate::{CheckReport, ErasureStage, Query, UnitOfWork};

pub(super) const OBJECT: ObjectId = ObjectId::new([1; 16]);

fn canary(n: u32) -> Value {
    json!({"title": "Zqcanary", "body": format!("zqsecretword {n}")})
}

/// Everybody pulls from everybody, until nothing comes of it.
pub(super) fn sync(devices: &mut [Device]) {
    loop {
        let before: Vec<_> = devices.iter().map(|d| d.space.status().unwrap().entries).collect();
        for to in 0..devices.len() {
            for from in 0..devices.len() {
                if to != from {
                    let [one, other] = devices.get_disjoint_mut([to, from]).unwrap();
                    one.pull(other);
                    supply(one, other);
                    let peer = one.profile.transport_id();
                    let frontiers = other.space.read_frontiers(&peer).unwrap();
                    let Reply::Frontiers { acks, .. } = frontiers else { panic!() };
                    one.writer.store_acks(&acks).unwrap();
                }
            }
        }
        let after: Vec<_> = devices.iter().map(|d| d.space.status().unwrap().entries).collect();
        if before == after {
            return;
        }
    }
}

/// What is lacking is asked for once.
pub(super) fn supply(to: &mut Device, from: &Device) {
    use larder_protocol::Lack;
    let mut at = Lack::Leaves(None);
    loop {
        let wanted = to.space.wanted(at).unwrap();
        if let Some(want) = wanted.want {
            let supply = from.space.supply(&to.profile.transport_id(), &want, &[]).unwrap();
            to.writer.take_supply(&supply).unwrap();
        }
        let Some(next) = wanted.next else { return };
        at = next;
    }
}

fn household() -> Vec<Device> {
    let mut a = Device::found(1);
    let (b, c) = (a.invite(2), a.invite(3));
    let mut devices = vec![a, b, c];
    sync(&mut devices);
    devices
}

pub(super) fn finish(devices: &mut [Device]) {
    for device in devices.iter_mut() {
        assert!(device.writer.finish_erasures().unwrap());
    }
    sync(devices);
}

fn check(device: &mut Device, repair: bool) -> CheckReport {
    let mut checking = Checking::new(repair);
    while !device.writer.check_step(&mut checking).unwrap() {}
    checking.into_report()
}

/// Nothing of the object is in any table, and nobody waits for anything.
fn assert_gone(device: &mut Device) {
    let found = |query: &str| device.space.search(&Query::text(query)).unwrap().len();
    assert_eq!(found("zqsecretword"), 0);
    device
        .writer
        .transact(|tx, state| {
            assert_eq!(sections::pending(tx)?, (0, 0));
            assert!(state.is_erased(tx, Some(&OBJECT))?);
            for section in sections::of_object(tx, &OBJECT)? {
                assert_eq!(section.state, State::Erased);
                assert_eq!(sections::payload(tx, section.place)?, larder_log::Payload::Missing);
            }
            assert!(documents::find(tx, &OBJECT)?.is_none());
            Ok(())
        })
        .unwrap();
    let report = check(device, false);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

fn is_done(device: &Device) -> bool {
    device.space.erasures().unwrap().iter().all(ErasureInfo::is_done)
}

#[test]
fn all_devices_erase_and_say_so() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    devices[0].put(2, &json!({"title": "stays"}));
    sync(&mut devices);
    devices[1].put(1, &canary(2));
    sync(&mut devices);
    let receipt = devices[2].writer.erase(OBJECT).unwrap();
    assert_eq!(devices[2].writer.erase(OBJECT).unwrap().index, receipt.index);
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        let [info] = &device.space.erasures().unwrap()[..] else { panic!() };
        assert!(info.object == OBJECT && !info.is_done() && info.acts == 1);
        assert!(info.devices.iter().all(|by| by.stage != ErasureStage::NotHeard), "{info:?}");
        assert_eq!(info.devices.len(), 3);
    }
    finish(&mut devices);
    assert!(devices.iter().all(is_done));
    let digests: Vec<_> = devices.iter().map(|device| device.space.digest().unwrap()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    // Nobody creates it again, and nothing else went with it.
    let mut unit = UnitOfWork::new();
    unit.put("notes", OBJECT, &canary(3)).unwrap();
    let put = devices[0].writer.commit(&mut std::iter::once(unit)).pop().unwrap();
    assert!(matches!(put, Err(Error::Deleted(_))));
    assert!(devices.iter().all(|d| d.space.document(&ObjectId::new([2; 16])).unwrap().is_some()));
    let unknown = devices[0].writer.erase(ObjectId::new([9; 16]));
    assert!(matches!(unknown, Err(Error::NotFound(_))));
    // Who comes later gets none of it, and is asked for nothing.
    let late = devices[0].invite(7);
    devices.push(late);
    sync(&mut devices);
    assert_gone(&mut devices[3]);
    finish(&mut devices);
    assert!(devices.iter().all(is_done));
}

#[test]
fn an_edit_that_was_offline_goes_too_whichever_comes_first() {
    for offline_sends_first in [true, false] {
        let mut devices = household();
        devices[0].put(1, &canary(1));
        sync(&mut devices);
        // Unsent on one device, and already on its way on another.
        devices[2].put(1, &canary(2));
        devices[1].put(1, &canary(3));
        devices[0].writer.erase(OBJECT).unwrap();
        let [a, b, c] = devices.get_disjoint_mut([0, 1, 2]).unwrap();
        if offline_sends_first {
            b.pull(c);
            a.pull(c);
            a.pull(b);
        } else {
            c.pull(a);
            b.pull(a);
        }
        sync(&mut devices);
        for device in &mut devices {
            assert_gone(device);
        }
        finish(&mut devices);
        assert!(devices.iter().all(is_done));
        let acts = devices[0].space.erasures().unwrap()[0].acts;
        assert!((2..=4).contains(&acts), "{acts} acts");
        let late = devices[1].invite(9);
        devices.push(late);
        sync(&mut devices);
        assert_gone(&mut devices[3]);
    }
}

#[test]
fn a_deleted_object_is_erased_too_and_its_blobs_with_it() {
    let mut devices = household();
    let photo = add_blob(&mut devices[0], b"zqpicture of nobody");
    let shared = add_blob(&mut devices[0], b"zqpicture of two");
    let name = |id: &BlobId| json!({"$blob": id.to_string()});
    devices[0].put(1, &json!({"photo": name(&photo), "other": name(&shared)}));
    devices[0].put(2, &json!({"other": name(&shared)}));
    sync(&mut devices);
    // Only an older version names it.
    devices[1].put(1, &json!({"title": "without"}));
    sync(&mut devices);
    let mut unit = UnitOfWork::new();
    unit.delete(OBJECT);
    devices[1].writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    sync(&mut devices);
    assert!(devices[2].space.blob(&photo).unwrap().is_some());
    devices[2].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        assert!(device.space.blob(&photo).unwrap().is_none());
        assert!(device.space.blob(&shared).unwrap().is_some());
    }
    // Who comes later is asked for no manifest that nobody has.
    let late = devices[0].invite(9);
    devices.push(late);
    sync(&mut devices);
    assert_gone(&mut devices[3]);
    assert!(devices[3].space.blob(&photo).unwrap().is_none());
    assert!(devices[3].space.blob(&shared).unwrap().is_some());
}

#[test]
fn a_list_takes_nothing_but_what_is_of_its_object() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    devices[0].put(2, &json!({"title": "stays"}));
    sync(&mut devices);
    let other = ObjectId::new([2; 16]);
    // A device that lists another object's section, with the best proof that there is.
    devices[1]
        .writer
        .transact(|tx, state| {
            let listed = state.to_list(tx, &other)?;
            assert_eq!(listed.len(), 1);
            state.append_erasure(tx, OBJECT, listed).map(drop)
        })
        .unwrap();
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        assert!(device.space.document(&other).unwrap().is_some());
        device
            .writer
            .transact(|tx, _| {
                let [section] = &sections::of_object(tx, &other)?[..] else { panic!() };
                assert_eq!(section.state, State::Applied);
                assert!(sections::has_bytes(tx, &other)?);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_blob_that_another_document_names_stays_where_it_is_named() {
    let mut devices = household();
    let shared = add_blob(&mut devices[0], b"zqpicture");
    let name = json!({"photo": {"$blob": shared.to_string()}});
    devices[0].put(1, &name);
    sync(&mut devices);
    // Named by another document on a device that is apart.
    devices[2].put(2, &name);
    devices[0].writer.erase(OBJECT).unwrap();
    let [a, b] = devices.get_disjoint_mut([0, 1]).unwrap();
    b.pull(a);
    assert!(b.space.blob(&shared).unwrap().is_none());
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        assert!(device.space.blob(&shared).unwrap().is_some());
    }
}
