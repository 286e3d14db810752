//! Snapshots that say nothing of a band which a device is cleared for by now.

use larder_engine::{Pruning, Whose};
use larder_log::Band;
use larder_log::act::Role;

use super::bands::{cleared, household};
use super::prune::{meet, settle};
use super::*;

const OWNER: Terms = Terms { of: Whose::New, role: Role::Owner, clearance: Band::Amber };

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// Two edited documents of each band up to AMBER.
fn write_edited(device: &mut Device) {
    for (band, n) in [(Band::Green, 1), (Band::Green, 2), (Band::Amber, 11), (Band::Amber, 12)] {
        for text in ["first", "second"] {
            device.put_in(band, object(n), &json!({"n": n, "text": text})).unwrap();
        }
    }
}

fn texts(device: &Device) -> Vec<Option<Value>> {
    let text = |n| Some(device.space.document(&object(n)).ok()??.value["text"].clone());
    [1, 2, 11, 12].map(text).to_vec()
}

fn raise(by: &mut Device, device: &Device, clearance: Band) {
    by.writer.change_role(device.space.device(), Role::Writer, clearance).unwrap();
}

/// All have the same four documents, nothing is wanted, and pruning goes on.
fn go_on(devices: &mut [&mut Device]) {
    let all = vec![Some(json!("second")); 4];
    for device in devices.iter() {
        assert_eq!(device.wanted(), None);
        assert_eq!(texts(device), all);
    }
    let before: Vec<u64> = devices.iter().map(|device| device.pruned()).collect();
    for n in [1, 11] {
        devices[0].edit(object(n), |value| value["more"] = true.into());
        devices[0].edit(object(n), |value| value["more"] = false.into());
    }
    settle(devices);
    settle(devices);
    for (device, before) in devices.iter_mut().zip(before) {
        assert!(device.pruned() >= before + 4, "{} of {before}", device.pruned());
        device.sound();
    }
}

/// A household's first phone and its kitchen tablet had agreed on a snapshot, which the tablet
/// states for GREEN alone, and pruned. A laptop came later and got the rest from the phone; then
/// the phone was lost and shut out, and the tablet was cleared for AMBER. Nobody was left who had
/// stated that band: the tablet gave its sections up, though the laptop had the documents, a
/// newcomer refused the laptop's leaves, and nothing was agreed on any more.
#[test]
fn a_band_that_only_a_lost_device_had_stated_comes_from_who_holds_it() {
    let dirs = dirs(4);
    let mut phone = Device::found(dirs[0].path(), 1);
    let mut tablet = phone.invite_on(dirs[1].path(), 2, cleared(Band::Green));
    write_edited(&mut phone);
    settle(&mut [&mut phone, &mut tablet]);
    settle(&mut [&mut phone, &mut tablet]);
    assert!(phone.pruned() >= 8 && tablet.pruned() >= 4);
    let mut laptop = phone.invite_on(dirs[2].path(), 3, OWNER);
    laptop.fill(&phone);
    assert_eq!(laptop.wanted(), None);
    meet(&mut laptop, &mut tablet);

    laptop.writer.revoke(&[phone.space.device()]).unwrap();
    raise(&mut laptop, &tablet, Band::Amber);
    tablet.pull(&laptop);
    tablet.fill(&laptop);
    assert!(tablet.wanted().is_some(), "it is waited for, not given up");
    // Once it has nothing else to do, the laptop says what it holds, also where it prunes by hand.
    let mut stated = 0;
    while let Some(mut pruning) = laptop.writer.wants_pruning().unwrap() {
        while !laptop.writer.prune_step(&mut pruning).unwrap() {}
        stated += pruning.pruned().stated;
    }
    assert_eq!(stated, 1);
    meet(&mut tablet, &mut laptop);
    let mut newcomer = laptop.invite_on(dirs[3].path(), 4, cleared(Band::Amber));
    meet(&mut newcomer, &mut tablet);
    go_on(&mut [&mut laptop, &mut tablet, &mut newcomer]);
}

/// The phone was lost before it had said anything. So the tablet's word was all that was asked for,
/// and by it GREEN was pruned; of AMBER all bytes were on the laptop still, or its leaves if that
/// pruned first. The tablet is cleared for AMBER then: it must not take the snapshot of GREEN for
/// one of both, neither to drop by it nor to compute from it.
#[test]
fn a_snapshot_of_fewer_bands_is_neither_dropped_by_nor_computed_from() {
    for prunes_first in [false, true] {
        let dirs = dirs(4);
        let mut phone = Device::found(dirs[0].path(), 1);
        let mut tablet = phone.invite_on(dirs[1].path(), 2, cleared(Band::Green));
        write_edited(&mut phone);
        meet(&mut phone, &mut tablet);
        assert_eq!(tablet.prune(true).stated, 1);
        let mut laptop = phone.invite_on(dirs[2].path(), 3, OWNER);
        meet(&mut laptop, &mut tablet);
        laptop.writer.revoke(&[phone.space.device()]).unwrap();
        for _ in 0..3 {
            meet(&mut tablet, &mut laptop);
            tablet.prune(false);
            if prunes_first {
                laptop.prune(false);
            }
        }
        assert_eq!((tablet.pruned(), laptop.pruned()), (4, if prunes_first { 8 } else { 0 }));

        raise(&mut laptop, &tablet, Band::Amber);
        meet(&mut tablet, &mut laptop);
        assert_eq!(texts(&tablet), vec![Some(json!("second")); 4]);
        tablet.prune(false);
        let bodies = tablet.space.history(&object(11)).unwrap();
        assert_eq!(bodies.iter().all(|item| item.pruned), prunes_first, "{bodies:?}");
        // It hands over what it has.
        let mut newcomer = laptop.invite_on(dirs[3].path(), 4, cleared(Band::Amber));
        meet(&mut newcomer, &mut tablet);
        meet(&mut newcomer, &mut laptop);
        go_on(&mut [&mut laptop, &mut tablet, &mut newcomer]);
    }
}

/// A tablet was cleared for AMBER, and for RED before the leaves of AMBER had come. What it had
/// held of GREEN went with the snapshot that had begun to come in, and it had to be given that
/// again.
#[test]
fn a_second_raise_keeps_what_was_held() {
    let dirs = dirs(3);
    let mut phone = Device::found(dirs[0].path(), 1);
    let mut tablet = phone.invite_on(dirs[1].path(), 2, cleared(Band::Green));
    write_edited(&mut phone);
    phone.put_in(Band::Red, object(21), &json!({"text": "first"})).unwrap();
    phone.put_in(Band::Red, object(21), &json!({"text": "second"})).unwrap();
    settle(&mut [&mut phone, &mut tablet]);
    settle(&mut [&mut phone, &mut tablet]);
    for band in [Band::Amber, Band::Red] {
        raise(&mut phone, &tablet, band);
        tablet.pull(&phone);
    }
    let wanted = tablet.wanted().unwrap().snapshot.unwrap();
    assert_eq!(wanted.received, 2, "the two of GREEN are here");
    // And lowered again before they came: it is whole as it is.
    raise(&mut phone, &tablet, Band::Green);
    tablet.pull(&phone);
    assert_eq!(tablet.wanted(), None);
    raise(&mut phone, &tablet, Band::Red);
    meet(&mut tablet, &mut phone);
    assert_eq!(tablet.value(object(21)), json!({"text": "second"}));
    go_on(&mut [&mut phone, &mut tablet]);
}

/// A tablet that is cleared for GREEN was the only one that had taken a snapshot over, since the
/// others heard of an erasure first: they can compute it no more, and hold the one before, with the
/// bytes behind that. Then it was cleared for AMBER, of which nobody has leaves. It stated nothing
/// until it had them, so that nothing was agreed on any more, nor did it ever get them (simulated
/// seed 283).
#[test]
fn a_raised_device_whose_leaves_nobody_has_states_what_it_holds() {
    let dirs = dirs(3);
    let mut phone = Device::found(dirs[0].path(), 1);
    let mut laptop = phone.invite_on(dirs[1].path(), 2, OWNER);
    let mut tablet = phone.invite_on(dirs[2].path(), 3, cleared(Band::Green));
    let erased = object(13);
    write_edited(&mut phone);
    phone.put_in(Band::Amber, erased, &json!({"n": 13})).unwrap();
    for _ in 0..2 {
        settle(&mut [&mut phone, &mut laptop, &mut tablet]);
    }
    assert!(phone.pruned() >= 8 && laptop.pruned() == phone.pruned());
    let covered = |device: &Device| device.space.prune_status().unwrap().covered;
    let before = covered(&phone);
    for n in [1, 2, 11, 12] {
        phone.edit(object(n), |value| value["text"] = "third".into());
        laptop.edit(object(n), |value| value["text"] = "second".into());
        meet(&mut phone, &mut laptop);
        phone.edit(object(n), |value| value["text"] = "second".into());
    }
    phone.edit(erased, |value| value["n"] = 14.into());
    for other in [&mut laptop, &mut tablet] {
        meet(&mut phone, other);
    }
    assert_eq!(phone.prune(true).stated, 1);
    for other in [&mut laptop, &mut tablet] {
        meet(&mut phone, other);
        assert_eq!(other.prune(false).stated, 1);
    }
    meet(&mut laptop, &mut tablet);
    phone.writer.erase(erased).unwrap();
    laptop.pull(&phone);
    laptop.pull(&tablet);
    phone.pull(&laptop);
    for _ in 0..2 {
        for device in [&mut phone, &mut laptop, &mut tablet] {
            device.prune(false);
        }
    }
    let [of_phone, of_laptop, of_tablet] = [&phone, &laptop, &tablet].map(covered);
    assert!(of_tablet > before && (of_phone, of_laptop) == (before, before));

    raise(&mut phone, &tablet, Band::Amber);
    meet(&mut phone, &mut tablet);
    assert!(tablet.wanted().is_some(), "what nobody has leaves of");
    settle(&mut [&mut phone, &mut laptop, &mut tablet]);
    go_on(&mut [&mut phone, &mut laptop, &mut tablet]);
}

/// A newcomer had begun to take a snapshot in when the only device that had stated its highest band
/// was shut out. It waited for the rest of it, and showed nothing, for ever.
#[test]
fn what_comes_in_ends_where_nobody_states_it_any_more() {
    let dirs = dirs(4);
    let mut phone = Device::found(dirs[0].path(), 1);
    let mut laptop = phone.invite_on(dirs[1].path(), 2, OWNER);
    write_edited(&mut phone);
    phone.put_in(Band::Red, object(21), &json!({"text": "for few"})).unwrap();
    settle(&mut [&mut phone, &mut laptop]);
    settle(&mut [&mut phone, &mut laptop]);
    let mut newcomer = phone.invite_on(dirs[2].path(), 3, cleared(Band::Red));
    let supply = newcomer.supply_of(&phone, &newcomer.wanted().unwrap());
    assert!(newcomer.writer.take_supply(&supply).unwrap().progress);
    assert_eq!(newcomer.wanted().unwrap().snapshot.unwrap().received, 2, "a band at a time");
    laptop.pull(&phone);
    laptop.writer.revoke(&[phone.space.device()]).unwrap();
    meet(&mut newcomer, &mut laptop);
    assert_eq!(texts(&newcomer), vec![Some(json!("second")); 4]);
    assert!(newcomer.space.document(&object(21)).unwrap().is_none());
    let want = newcomer.wanted().unwrap();
    assert!(
        want.snapshot.is_none() && !want.sections.is_empty(),
        "its bytes, from whoever has them"
    );
}

/// A tablet took a part out of a letter, and was cleared for less before it had said that the
/// letter is gone from its disk. What was left went with its clearance; after a restart it took
/// that for what is yet to come, and never said so.
#[test]
fn who_redacted_and_is_cleared_for_less_says_that_it_has_erased() {
    let dirs = dirs(2);
    let (mut founder, [mut tablet]) = household(&dirs, [Band::Red]);
    founder.put_in(Band::Amber, object(1), &json!({"a": "a diagnosis", "b": 1})).unwrap();
    meet(&mut tablet, &mut founder);
    let left = tablet.writer.redact(object(1), &[vec!["a".to_owned()]]).unwrap().object;
    meet(&mut tablet, &mut founder);
    founder.writer.change_role(tablet.space.device(), Role::Writer, Band::Green).unwrap();
    meet(&mut tablet, &mut founder);
    let mut tablet = tablet.reopen(dirs[1].path());
    // What comes next is what it looks again by.
    founder.put_in(Band::Green, object(2), &json!({"n": 2})).unwrap();
    meet(&mut tablet, &mut founder);
    for device in [&mut founder, &mut tablet] {
        device.writer.finish_erasures().unwrap();
    }
    meet(&mut tablet, &mut founder);
    assert!(tablet.space.document(&left).unwrap().is_none());
    assert_eq!(founder.value(left), json!({"b": 1}));
    let [info] = &founder.space.erasures().unwrap()[..] else { panic!() };
    assert!(info.is_done(), "{info:?}");
}

/// A tablet took a part out of an AMBER letter while it was cleared for less. What it left counted
/// for nothing, and its erasure reached GREEN alone: the letter stayed. But the phone, which had
/// an edit of its own in it, waited for what was left, and never said that it has erased.
#[test]
fn nobody_waits_for_what_is_left_of_a_document_that_an_erasure_does_not_reach() {
    let dirs = dirs(2);
    let (mut founder, [mut tablet]) = household(&dirs, [Band::Red]);
    founder.put_in(Band::Amber, object(1), &json!({"a": "a diagnosis", "b": 1})).unwrap();
    meet(&mut tablet, &mut founder);
    tablet.writer.redact(object(1), &[vec!["a".to_owned()]]).unwrap();
    founder.edit(object(1), |value| value["b"] = 2.into());
    founder.writer.change_role(tablet.space.device(), Role::Writer, Band::Green).unwrap();
    meet(&mut tablet, &mut founder);
    meet(&mut tablet, &mut founder);
    let mut founder = founder.reopen(dirs[0].path());
    for device in [&mut founder, &mut tablet] {
        device.writer.finish_erasures().unwrap();
    }
    meet(&mut tablet, &mut founder);
    assert_eq!(founder.value(object(1)), json!({"a": "a diagnosis", "b": 2}));
    let [info] = &founder.space.erasures().unwrap()[..] else { panic!() };
    assert!(info.is_done(), "{info:?}");
}

/// A tablet was cleared for less and erased an AMBER letter all the same: that reached GREEN alone,
/// and the letter stayed. From then on it was taken for erased where it is looked at again what
/// counts: an edit that a laptop made after it was cleared for less in its turn stayed in the
/// letter where it had come before that was known, and nowhere else.
#[test]
fn a_document_above_an_erasure_is_judged_again_like_any_other() {
    let dirs = dirs(4);
    let (mut founder, others) = household(&dirs, [Band::Red, Band::Amber, Band::Amber]);
    let [mut tablet, mut laptop, mut phone] = others;
    founder.put_in(Band::Amber, object(1), &json!({"a": 1})).unwrap();
    for device in [&mut tablet, &mut laptop, &mut phone] {
        meet(device, &mut founder);
    }
    raise(&mut founder, &tablet, Band::Green);
    tablet.writer.erase(object(1)).unwrap();
    meet(&mut tablet, &mut founder);
    meet(&mut phone, &mut founder);
    assert_eq!(phone.value(object(1)), json!({"a": 1}));

    laptop.edit(object(1), |value| value["late"] = true.into());
    meet(&mut phone, &mut laptop);
    assert_eq!(phone.value(object(1)), json!({"a": 1, "late": true}));
    raise(&mut founder, &laptop, Band::Green);
    meet(&mut phone, &mut founder);
    meet(&mut laptop, &mut founder);
    for device in [&mut founder, &mut phone] {
        assert_eq!(device.value(object(1)), json!({"a": 1}));
        device.sound();
    }
}

/// A tablet was writing down a snapshot that all had agreed on when it heard that it is cleared for
/// less. What it had written went with that, and the pruning went on writing into it: storage
/// failed, and the space called itself broken.
#[test]
fn a_clearance_that_changes_amid_the_writing_of_a_snapshot_begins_it_anew() {
    for steps in (1..).step_by(3) {
        let dirs = dirs(2);
        let (mut founder, [mut tablet]) = household(&dirs, [Band::Amber]);
        write_edited(&mut founder);
        meet(&mut tablet, &mut founder);
        assert_eq!(founder.prune(true).stated, 1);
        meet(&mut tablet, &mut founder);
        raise(&mut founder, &tablet, Band::Green);
        let mut pruning = Pruning::new(false).in_steps_of(1);
        let mut is_done = false;
        for _ in 0..steps {
            is_done = is_done || tablet.writer.prune_step(&mut pruning).unwrap();
        }
        meet(&mut tablet, &mut founder);
        let was_done = is_done;
        while !is_done {
            is_done = tablet.writer.prune_step(&mut pruning).unwrap();
        }
        settle(&mut [&mut founder, &mut tablet]);
        tablet.sound();
        if was_done {
            return;
        }
    }
}

/// A tablet erased a note and listed its bytes, and the phone that had written it obeyed and erased
/// it too, with nothing left to list. The tablet had been cleared for less before, which neither
/// knew: so its list came to nothing, and the founder asked for ever for bytes that were gone.
#[test]
fn what_is_shown_by_who_may_not_erase_it_is_asked_of_nobody_once_others_erase_it() {
    let dirs = dirs(3);
    let (mut founder, [mut phone, mut tablet]) = household(&dirs, [Band::Red, Band::Red]);
    phone.pull(&founder);
    phone.put_in(Band::Amber, object(1), &json!({"text": "for some"})).unwrap();
    tablet.pull(&phone);
    founder.clears(tablet.space.device(), Role::Writer, Band::Green);
    tablet.writer.erase(object(1)).unwrap();
    phone.pull(&tablet);
    phone.writer.erase(object(1)).unwrap();
    founder.pull(&phone);
    for _ in 0..2 {
        meet(&mut founder, &mut phone);
        meet(&mut founder, &mut tablet);
        meet(&mut phone, &mut tablet);
    }
    for device in [&mut founder, &mut phone, &mut tablet] {
        assert!(device.space.document(&object(1)).unwrap().is_none());
        assert_eq!(device.wanted(), None, "bytes that nobody has are asked for");
        assert_eq!(device.space.erasures().unwrap()[0].up_to, Band::Red);
        device.sound();
    }
}

/// A phone built on an edit of a tablet that was cleared for less by then, and adopted it. A laptop
/// that was cleared for more meanwhile had both edits before it had the document: there the
/// tablet's stayed void though it counted by now, and the phone's waited for it for ever.
#[test]
fn what_is_adopted_before_its_document_has_come_counts_once_that_is_here() {
    let dirs = dirs(4);
    let bands = [Band::Red, Band::Red, Band::Green];
    let (mut founder, [mut phone, mut tablet, mut laptop]) = household(&dirs, bands);
    founder.put_in(Band::Red, object(1), &json!({"text": "one", "n": 1})).unwrap();
    for device in [&mut phone, &mut tablet, &mut laptop] {
        device.pull(&founder);
    }
    tablet.put_in(Band::Red, object(1), &json!({"text": "one, two", "n": 2})).unwrap();
    founder.clears(tablet.space.device(), Role::Writer, Band::Green);
    phone.pull(&tablet);
    phone.put_in(Band::Red, object(1), &json!({"text": "one, two, three", "n": 3})).unwrap();
    founder.clears(laptop.space.device(), Role::Writer, Band::Red);
    laptop.pull(&founder);
    phone.pull(&founder);
    laptop.pull(&phone);
    assert!(laptop.space.document(&object(1)).unwrap().is_none());
    laptop.fill(&founder);
    assert_eq!(phone.value(object(1)), json!({"text": "one, two, three", "n": 3}));
    assert_eq!(laptop.value(object(1)), phone.value(object(1)));
    laptop.sound();
}
