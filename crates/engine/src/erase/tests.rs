//! What is erased is nowhere: on no device, in no order of events.

use larder_pages::testing::Dice;
use larder_protocol::Reply;
use larder_types::ObjectId;
use serde_json::{Value, json};

use super::*;
use crate::heal::Checking;
use crate::prune::tests::{Device, add_blob};
use crate::{Band, CheckReport, ErasureStage, Query, Role, UnitOfWork};

pub(super) const OBJECT: ObjectId = ObjectId::new([1; 16]);

fn canary(n: u32) -> Value {
    json!({"title": "Zqcanary", "body": format!("zqsecretword {n}")})
}

/// Everybody pulls from everybody, until nothing comes of it.
pub(crate) fn sync(devices: &mut [Device]) {
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
pub(crate) fn supply(to: &mut Device, from: &Device) {
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

pub(crate) fn finish(devices: &mut [Device]) {
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
            assert!(state.is_erased(tx, Some(&OBJECT), Band::Green)?);
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
            // It keeps nothing of it, before anybody else has heard of the erasure.
            assert_gone(a);
            assert_eq!(a.space.erasures().unwrap()[0].acts, 2);
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

/// A phone that was offline had edited a note many times when another device erased it. Whoever
/// took its edits in wrote an act for each of them, and read all acts of the note for each.
#[test]
fn edits_that_come_together_are_listed_together() {
    let mut devices = household();
    let other = ObjectId::new([2; 16]);
    devices[0].put(1, &canary(1));
    devices[0].put(2, &canary(1));
    sync(&mut devices);
    let edits = 40;
    for n in 0..edits {
        devices[2].put(1, &canary(n));
        devices[2].put(2, &canary(n));
    }
    devices[0].writer.erase(OBJECT).unwrap();
    devices[0].writer.erase(other).unwrap();
    let [a, c] = devices.get_disjoint_mut([0, 2]).unwrap();
    a.pull(c);
    let acts = |device: &Device| -> Vec<u64> {
        device.space.erasures().unwrap().iter().map(|info| info.acts).collect()
    };
    assert_eq!(acts(a), [2, 2], "of {edits} edits");
    a.writer
        .transact(|tx, _| {
            let acts = erasures::of_object(tx, &OBJECT)?;
            let listed = read_act(tx, &acts[1])?.unwrap().listed.len();
            assert_eq!(listed, usize::try_from(edits).unwrap());
            Ok(())
        })
        .unwrap();
    sync(&mut devices);
    finish(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        assert_eq!(acts(device), [2, 2]);
    }
    assert!(devices.iter().all(is_done));
}

/// Someone lists a section with a proof that shows nothing. Then nobody listed it with one that
/// does, and whoever came later waited for its bytes for ever.
#[test]
fn a_list_that_shows_nothing_keeps_nobody_from_listing() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    sync(&mut devices);
    devices[2].put(1, &canary(2));
    let mut listed =
        devices[2].writer.transact(|tx, state| state.to_list(tx, &OBJECT, Band::Red)).unwrap();
    assert_eq!(listed.len(), 2);
    for listed in &mut listed {
        listed.salt = [0; 32];
    }
    devices[1]
        .writer
        .transact(|tx, state| state.append_erasure(tx, OBJECT, listed, None).map(drop))
        .unwrap();
    sync(&mut devices);
    let late = devices[0].invite(9);
    devices.push(late);
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
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
            let listed = state.to_list(tx, &other, Band::Red)?;
            assert_eq!(listed.len(), 1);
            state.append_erasure(tx, OBJECT, listed, None).map(drop)
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

fn value(device: &Device) -> Option<Value> {
    device.space.document(&OBJECT).unwrap().map(|document| Value::Object(document.value))
}

/// A tablet that was made a reader, and does not know that yet, erases. It has no right to: nothing
/// goes anywhere, and it gets back what it dropped itself.
#[test]
fn an_erasure_without_the_right_to_it_destroys_nothing() {
    let mut devices = household();
    let photo = add_blob(&mut devices[0], b"zqpicture");
    devices[0].put(1, &json!({"photo": {"$blob": photo.to_string()}}));
    sync(&mut devices);
    devices[1].put(1, &json!({"photo": {"$blob": photo.to_string()}, "more": "of it"}));
    sync(&mut devices);
    let tablet = devices[2].space.device();
    devices[0].writer.change_role(tablet, Role::Reader, Band::Green).unwrap();
    devices[2].writer.erase(OBJECT).unwrap();
    assert!(devices[2].writer.finish_erasures().unwrap());
    assert!(value(&devices[2]).is_none() && devices[2].space.blob(&photo).unwrap().is_none());
    sync(&mut devices);
    for device in &mut devices {
        assert_eq!(value(device).unwrap()["more"], "of it");
        assert!(device.space.blob(&photo).unwrap().is_some());
        assert!(device.space.erasures().unwrap().is_empty());
        let report = check(device, false);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
    let refused = devices[2].writer.erase(OBJECT);
    assert!(matches!(refused, Err(Error::MayNotWrite(Role::Reader))));
    // Nobody is kept from editing it, or from erasing it with the right.
    devices[0].put(1, &json!({"more": "still"}));
    sync(&mut devices);
    assert!(devices.iter().all(|device| value(device).unwrap()["more"] == "still"));
    devices[1].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
    }
    // Who may only read says so as well.
    finish(&mut devices);
    assert!(devices.iter().all(is_done));
}

/// A stolen phone erases, and another device has done so when the owner shuts the phone out.
#[test]
fn what_a_stolen_phone_erased_comes_back_from_who_still_has_it() {
    for owner_heard in [false, true] {
        let mut devices = household();
        devices[0].put(1, &canary(1));
        sync(&mut devices);
        devices[1].put(1, &canary(2));
        sync(&mut devices);
        let phone = devices[2].space.device();
        let keeps = devices[2].space.status().unwrap();
        devices[2].writer.erase(OBJECT).unwrap();
        let [a, b, c] = devices.get_disjoint_mut([0, 1, 2]).unwrap();
        b.pull(c);
        assert_gone(b);
        if owner_heard {
            // Its own erasure stands then, or that of whoever has heard of it.
            a.pull(c);
        }
        a.writer.revoke(&[phone]).unwrap();
        devices.truncate(2);
        sync(&mut devices);
        assert!(keeps.entries > 0);
        for device in &mut devices {
            let report = check(device, false);
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            assert_eq!(value(device).is_some(), !owner_heard, "heard: {owner_heard}");
            if !owner_heard {
                assert_eq!(value(device).unwrap(), canary(2));
                device
                    .writer
                    .transact(|tx, _| {
                        assert_eq!(sections::pending(tx)?, (0, 0));
                        Ok(())
                    })
                    .unwrap();
            }
        }
    }
}

/// A stolen phone erased a letter, and listed an edit of it that the owner had not got yet; then
/// Ben erased the letter as well. The phone's act became void, and Ben's listed nothing, since
/// nothing was left there: the owner asked for that edit for ever.
#[test]
fn what_a_void_act_shows_of_an_object_that_others_erase_is_asked_of_nobody() {
    let mut devices = household();
    let tablet = devices[0].invite(8);
    devices.push(tablet);
    devices[0].put(1, &canary(1));
    sync(&mut devices);
    devices[3].put(1, &canary(2));
    sync(&mut devices[1..]);
    devices[2].writer.erase(OBJECT).unwrap();
    sync(&mut devices[1..]);
    devices[1].writer.erase(OBJECT).unwrap();
    let phone = devices[2].space.device();
    devices[0].writer.revoke(&[phone]).unwrap();
    devices.remove(2);
    sync(&mut devices);
    for device in &mut devices {
        assert_gone(device);
        let pending = device.writer.transact(|tx, _| Ok(sections::pending(tx)?));
        assert_eq!(pending.unwrap(), (0, 0), "bytes that nobody has are asked for");
        assert!(check(device, false).findings.is_empty());
    }
    finish(&mut devices);
    assert!(devices.iter().all(is_done));
}

/// A stolen phone edited a letter and erased it, and Ben's device obeyed. When the owner shut the
/// phone out Ben's device wanted all back that the act had listed, the phone's edit too, which
/// counts for nobody: it asked for that for ever.
#[test]
fn what_comes_back_is_what_counts() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    sync(&mut devices);
    devices[2].put(1, &canary(3));
    devices[2].writer.erase(OBJECT).unwrap();
    let phone = devices[2].space.device();
    let [a, b, c] = devices.get_disjoint_mut([0, 1, 2]).unwrap();
    b.pull(c);
    assert_gone(b);
    a.writer.revoke(&[phone]).unwrap();
    devices.truncate(2);
    sync(&mut devices);
    for device in &mut devices {
        assert_eq!(value(device), Some(canary(1)));
        let pending = device.writer.transact(|tx, _| Ok(sections::pending(tx)?));
        assert_eq!(pending.unwrap(), (0, 0), "what counts for nobody is asked for");
        assert!(check(device, false).findings.is_empty());
    }
}

#[test]
fn what_was_pruned_is_erased_and_a_newcomer_gets_none_of_it() {
    let mut devices = household();
    for n in 1..4 {
        devices[0].put(n, &canary(n.into()));
    }
    sync(&mut devices);
    devices[1].put(1, &canary(9));
    sync(&mut devices);
    prune(&mut devices);
    for device in &mut devices {
        let is_pruned = device.writer.transact(|tx, _| Ok(!sections::has_bytes(tx, &OBJECT)?));
        assert!(is_pruned.unwrap(), "the control is pruned");
    }
    devices[1].writer.erase(OBJECT).unwrap();
    // An edit made apart, of what the others have pruned.
    devices[2].put(1, &canary(10));
    sync(&mut devices);
    let late = devices[0].invite(8);
    devices.push(late);
    sync(&mut devices);
    finish(&mut devices);
    for device in &mut devices {
        assert!(value(device).is_none());
        assert_eq!(
            device.space.document(&ObjectId::new([2; 16])).unwrap().unwrap().value["body"],
            "zqsecretword 2"
        );
        device
            .writer
            .transact(|tx, state| {
                assert!(state.is_erased(tx, Some(&OBJECT), Band::Green)?);
                assert_eq!(sections::pending(tx)?, (0, 0));
                assert!(!sections::has_bytes(tx, &OBJECT)?);
                Ok(())
            })
            .unwrap();
        let report = check(device, false);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
    assert!(devices.iter().all(is_done));
    // The next snapshot is agreed on all the same, and has a tombstone in its place.
    devices[0].put(2, &canary(11));
    sync(&mut devices);
    let before: Vec<_> = devices.iter().map(covered).collect();
    prune(&mut devices);
    for (device, before) in devices.iter_mut().zip(before) {
        assert!(covered(device) > before, "no further snapshot was agreed on");
        device
            .writer
            .transact(|tx, _| {
                let held = snapshots::in_state(tx, snapshots::State::Held)?.unwrap();
                let mut leaves = Vec::new();
                snapshots::each_leaf(tx, &held, |kept| {
                    leaves.extend((kept.key.1 == OBJECT).then_some(kept));
                    Ok::<_, Error>(())
                })?;
                // It is erased in every band.
                assert!(leaves.iter().map(|leaf| leaf.key.0).eq(Band::SHARED));
                for leaf in leaves {
                    let larder_log::snapshot::Leaf::Tombstone(leaf) = leaf.read()? else {
                        panic!()
                    };
                    assert!(leaf.collection.is_none());
                }
                Ok(())
            })
            .unwrap();
    }
    let last = devices[1].invite(18);
    devices.push(last);
    sync(&mut devices);
    assert!(value(&devices[4]).is_none());
}

/// A stolen phone erases what all had pruned. Who had dropped it by that asked for nothing once
/// the phone was shut out: only the agreed snapshot had the document, and that counted as held.
#[test]
fn what_was_pruned_comes_back_when_its_erasure_counts_no_more() {
    for is_erased_anew in [false, true] {
        let mut devices = household();
        let photo = add_blob(&mut devices[0], b"zqpicture");
        devices[0].put(1, &json!({"photo": {"$blob": photo.to_string()}, "n": 0}));
        devices[0].put(2, &canary(2));
        sync(&mut devices);
        devices[1].put(1, &json!({"photo": {"$blob": photo.to_string()}, "n": 1}));
        sync(&mut devices);
        prune(&mut devices);
        // Beyond what is pruned.
        devices[1].put(1, &json!({"photo": {"$blob": photo.to_string()}, "n": 2}));
        sync(&mut devices);
        let before = devices[0].space.digest().unwrap();
        let phone = devices[2].space.device();
        devices[2].writer.erase(OBJECT).unwrap();
        let [a, b, c] = devices.get_disjoint_mut([0, 1, 2]).unwrap();
        a.pull(c);
        assert!(value(a).is_none() && a.space.blob(&photo).unwrap().is_none());
        b.writer.revoke(&[phone]).unwrap();
        a.pull(b);
        assert!(value(a).is_none(), "the control has it");
        let lacks = |device: &Device| {
            let reader = device.space.shared.pool.reader().unwrap();
            crate::supply::documents_lacking(&reader).unwrap()
        };
        assert_eq!(lacks(a), 1, "it is not asked for");
        // Nobody is told that it is here.
        a.writer.heartbeat().unwrap();
        a.writer.prune(true, &mut |_| {}).unwrap();
        if is_erased_anew {
            a.writer.erase(OBJECT).unwrap();
            assert_eq!(lacks(a), 0);
        }
        devices.truncate(2);
        sync(&mut devices);
        sync(&mut devices);
        for device in &mut devices {
            if is_erased_anew {
                assert_gone(device);
            } else {
                assert_eq!(value(device).unwrap()["n"], 2);
                assert!(device.space.blob(&photo).unwrap().is_some());
                assert_eq!(device.space.digest().unwrap(), before);
            }
            let nothing = larder_protocol::Lack::Leaves(None);
            assert_eq!(device.space.wanted(nothing).unwrap().want, None);
            let report = check(device, false);
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
        let covered_before = covered(&devices[0]);
        devices[0].put(2, &canary(3));
        sync(&mut devices);
        prune(&mut devices);
        assert!(covered(&devices[0]) > covered_before, "nothing is pruned any more");
        let late = devices[0].invite(9);
        devices.push(late);
        sync(&mut devices);
        assert_eq!(value(&devices[2]).is_some(), !is_erased_anew);
    }
}

fn covered(device: &Device) -> u64 {
    device.space.prune_status().unwrap().covered
}

/// Everybody states what is here, and prunes.
pub(super) fn prune(devices: &mut [Device]) {
    for _ in 0..6 {
        for device in devices.iter_mut() {
            device.writer.heartbeat().unwrap();
        }
        sync(devices);
        for device in devices.iter_mut() {
            device.writer.prune(true, &mut |_| {}).unwrap();
        }
        sync(devices);
    }
}

#[test]
fn a_repair_makes_nothing_of_what_was_erased() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    sync(&mut devices);
    devices[0].put(1, &canary(2));
    devices[0].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    let damage = |device: &mut Device, sql: &str| {
        let sql = sql.to_owned();
        device
            .writer
            .transact(|tx, _| {
                assert!(tx.execute(&sql, []).unwrap() > 0, "{sql}");
                Ok(())
            })
            .unwrap();
    };
    damage(&mut devices[1], "DELETE FROM tombstones");
    damage(&mut devices[2], "DELETE FROM erasures");
    damage(&mut devices[2], "UPDATE sections SET sealed = x'00' WHERE state = 6");
    for device in &mut devices[1..] {
        let report = check(device, true);
        assert!(!report.findings.is_empty() && report.is_whole(), "{:?}", report.findings);
        assert_gone(device);
    }
    sync(&mut devices);
    finish(&mut devices);
    for device in &mut devices {
        assert_gone(device);
    }
    assert!(devices.iter().all(is_done));
}

/// A device that cannot tell what a section is of: it has not been opened there.
#[test]
fn who_cannot_open_a_section_erases_what_is_shown_to_be_of_the_object() {
    let mut devices = household();
    devices[0].put(1, &canary(1));
    devices[0].put(2, &json!({"title": "stays"}));
    sync(&mut devices);
    let unopened = |device: &mut Device, object: ObjectId| {
        let sql = format!(
            "UPDATE sections SET state = 4, kind = NULL, object = NULL
            WHERE object = x'{object}'"
        );
        device
            .writer
            .transact(|tx, _| {
                assert_eq!(tx.execute(&sql, []).unwrap(), 1);
                Ok(())
            })
            .unwrap();
    };
    let held = |device: &mut Device| {
        device
            .writer
            .transact(|tx, _| {
                let sql = "SELECT count(*) FROM sections
                WHERE (state = 4 OR kind IS NULL) AND sealed IS NOT NULL";
                Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap())
            })
            .unwrap()
    };
    unopened(&mut devices[2], OBJECT);
    unopened(&mut devices[2], ObjectId::new([2; 16]));
    assert_eq!(held(&mut devices[2]), 2);
    devices[0].writer.erase(OBJECT).unwrap();
    sync(&mut devices);
    assert_eq!(held(&mut devices[2]), 1);
    let erased = |device: &mut Device| {
        device
            .writer
            .transact(|tx, _| {
                let all = sections::of_object(tx, &OBJECT)?;
                Ok(all.iter().map(|section| section.state).collect::<Vec<_>>())
            })
            .unwrap()
    };
    assert_eq!(erased(&mut devices[2]), [State::Erased]);
}

/// Three devices write, delete, erase, add blobs, prune and meet at random, and come to the same.
#[test]
fn whatever_happens_beside_an_erasure_all_come_to_the_same() {
    let (mut objects, mut further) = (0, 0);
    for seed in 0..SEEDS {
        let mut devices = household();
        let mut dice = Dice::new(seed);
        let below = |dice: &mut Dice, end| usize::try_from(dice.below(end)).unwrap();
        let mut blobs = Vec::new();
        for _ in 0..40 {
            let (at, other, n) =
                (below(&mut dice, 3), below(&mut dice, 3), 1 + below(&mut dice, 4));
            let object = ObjectId::new([u8::try_from(n).unwrap(); 16]);
            let device = &mut devices[at];
            let mut unit = UnitOfWork::new();
            match dice.below(12) {
                0..4 => {
                    let text = format!("zqsecretword {}\n", dice.below(1000));
                    let mut value = json!({"title": n, "text": text});
                    if let (true, Some(id)) = (dice.chance(40), blobs.last()) {
                        value["photo"] = json!({"$blob": format!("{id}")});
                    }
                    unit.put("notes", object, &value).unwrap();
                    let _ = device.writer.commit(&mut std::iter::once(unit));
                }
                4 => {
                    unit.delete(object);
                    let _ = device.writer.commit(&mut std::iter::once(unit));
                }
                5 => drop(device.writer.erase(object)),
                6 => blobs.push(add_blob(device, format!("{}", dice.below(1 << 40)).as_bytes())),
                7 => drop(device.writer.finish_erasures().unwrap()),
                8 => {
                    device.writer.heartbeat().unwrap();
                    device.writer.prune(true, &mut |_| {}).unwrap();
                }
                _ if at != other => {
                    let [one, other] = devices.get_disjoint_mut([at, other]).unwrap();
                    one.pull(other);
                    supply(one, other);
                }
                _ => {}
            }
        }
        sync(&mut devices);
        finish(&mut devices);
        sync(&mut devices);
        let erased: Vec<_> = devices[0].space.erasures().unwrap();
        objects += erased.len();
        further += erased.iter().filter(|info| info.acts > 1).count();
        let digest = devices[0].space.digest().unwrap();
        for device in &mut devices {
            assert_eq!(device.space.digest().unwrap(), digest, "seed {seed}");
            let report = check(device, false);
            assert!(report.findings.is_empty(), "seed {seed}: {:?}", report.findings);
            device
                .writer
                .transact(|tx, state| {
                    assert_eq!(sections::pending(tx)?, (0, 0), "seed {seed}");
                    for info in &erased {
                        assert!(
                            state.is_erased(tx, Some(&info.object), Band::Green)?,
                            "seed {seed}"
                        );
                        assert!(!sections::has_bytes(tx, &info.object)?, "seed {seed}");
                    }
                    Ok(())
                })
                .unwrap();
            assert!(is_done(device), "seed {seed}");
        }
    }
    println!("{SEEDS} seeds: {objects} objects erased, {further} of them by several acts");
    assert!(objects > further && further > 0);
}

const SEEDS: u64 = 12;
