//! Edits that build on what counts for nothing, of devices that cannot adopt it.

use larder_log::Band;
use larder_log::act::Role;

use super::bands::household;
use super::prune::{four_edited, meet, settle};
use super::*;

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// A tablet wrote a letter, and in a list that was there, when it was no longer cleared for them,
/// and a phone wrote on in both before it heard of that. None of the others has the letter.
fn written_on_late(dirs: &[tempfile::TempDir]) -> (Device, [Device; 3]) {
    let (mut founder, [mut phone, mut tablet, laptop]) = household(dirs, [Band::Red; 3]);
    founder.put_in(Band::Red, object(8), &json!({"n": 0})).unwrap();
    phone.pull(&founder);
    tablet.pull(&founder);
    founder.clears(tablet.space.device(), Role::Writer, Band::Green);
    tablet.put_in(Band::Red, object(9), &json!({"text": "one", "n": 1})).unwrap();
    tablet.put_in(Band::Red, object(8), &json!({"n": 0, "list": ["milk"]})).unwrap();
    phone.pull(&tablet);
    phone.put_in(Band::Red, object(9), &json!({"text": "one, two", "n": 2})).unwrap();
    phone.put_in(Band::Red, object(8), &json!({"n": 0, "list": ["milk", "eggs"]})).unwrap();
    (founder, [phone, tablet, laptop])
}

fn check(devices: [&mut Device; 2]) {
    for device in devices {
        assert_eq!(device.value(object(9)), json!({"text": "one, two", "n": 2}));
        assert_eq!(device.value(object(8)), json!({"n": 0, "list": ["milk", "eggs"]}));
        assert_eq!(device.space.status().unwrap().waiting, 0);
        device.sound();
    }
}

/// The phone was cleared for less itself before it heard. Nobody else adopted the letter: it was
/// gone from all devices, what the phone wrote waited on them for ever, and nothing was pruned
/// (simulated seed 194).
#[test]
fn what_an_edit_rests_on_whose_author_is_cleared_for_less_is_adopted_by_others() {
    let dirs = dirs(4);
    let (mut founder, [mut phone, _, mut laptop]) = written_on_late(&dirs);
    founder.pull(&phone);
    assert!(founder.space.document(&object(9)).unwrap().is_none(), "the phone would adopt it");
    founder.clears(phone.space.device(), Role::Writer, Band::Green);
    phone.pull(&founder);
    assert!(phone.space.document(&object(9)).unwrap().is_none());
    laptop.pull(&founder);
    check([&mut founder, &mut laptop]);
}

/// The same of a phone that was cleared for all again before anybody had heard of what it wrote:
/// it has no letter to adopt by then, and nobody gives it what counts for nothing.
#[test]
fn and_whose_author_is_cleared_for_it_again() {
    let dirs = dirs(4);
    let (mut founder, [mut phone, _, mut laptop]) = written_on_late(&dirs);
    laptop.pull(&phone);
    let (device, role) = (phone.space.device(), Role::Writer);
    founder.clears(device, role, Band::Green);
    phone.pull(&founder);
    founder.clears(device, role, Band::Red);
    phone.pull(&founder);
    founder.pull(&laptop);
    phone.pull(&founder);
    phone.fill(&founder);
    laptop.pull(&founder);
    check([&mut founder, &mut laptop]);
    assert_eq!(phone.value(object(9)), founder.value(object(9)));
}

/// The phone fell into a lake, and was set aside. The laptop had the letter from it, and brings
/// it to the founder after that.
#[test]
fn what_an_edit_rests_on_whose_author_was_set_aside_is_adopted_by_others() {
    let dirs = dirs(4);
    let (mut founder, [phone, _, mut laptop]) = written_on_late(&dirs);
    laptop.pull(&phone);
    founder.writer.quarantine(phone.space.device()).unwrap();
    founder.pull(&laptop);
    laptop.pull(&founder);
    check([&mut founder, &mut laptop]);
}

/// The phone was set aside before anybody had the letter it had written on in, and comes back when
/// all others have pruned what the tablet wrote: for them that counted for nothing. What it then
/// adopts of that they ask it for, keep until they have agreed on it anew, and hand on.
#[test]
fn what_is_adopted_behind_a_snapshot_is_in_the_next_one() {
    let dirs = dirs(6);
    let (mut founder, [mut phone, mut tablet, mut laptop]) = written_on_late(&dirs);
    founder.writer.quarantine(phone.space.device()).unwrap();
    four_edited(&mut founder);
    laptop.pull(&tablet);
    for _ in 0..2 {
        settle(&mut [&mut founder, &mut tablet, &mut laptop]);
    }
    assert!(founder.pruned() > 0 && laptop.pruned() > 0, "the control");
    assert!(founder.space.document(&object(9)).unwrap().is_none());
    founder.put(object(2), &json!({"text": "meanwhile"}));
    // What it adopts it does once it has heard.
    phone.pull(&founder);
    meet(&mut founder, &mut phone);
    check([&mut founder, &mut phone]);
    meet(&mut founder, &mut laptop);
    check([&mut founder, &mut laptop]);
    let mut early = founder.admit_in(dirs[4].path(), world(8));
    laptop.pull(&founder);
    early.pull(&laptop);
    early.fill(&laptop);
    check([&mut early, &mut laptop]);
    let before = founder.pruned();
    four_edited(&mut founder);
    for _ in 0..2 {
        settle(&mut [&mut founder, &mut phone, &mut tablet, &mut laptop, &mut early]);
    }
    assert!(founder.pruned() > before, "the control");
    let mut late = founder.admit_in(dirs[5].path(), world(9));
    early.pull(&founder);
    late.pull(&early);
    late.fill(&early);
    check([&mut late, &mut early]);
}
