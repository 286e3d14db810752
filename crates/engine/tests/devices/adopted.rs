//! Edits that build on what counts for nothing, of devices that cannot adopt it.

use larder_log::Band;
use larder_log::act::Role;

use super::bands::household;
use super::*;

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// A tablet wrote a letter that it was no longer cleared for, and a phone wrote on in it before it
/// heard of that. None of the others has the letter.
fn written_on_late(dirs: &[tempfile::TempDir]) -> (Device, [Device; 3]) {
    let (mut founder, [mut phone, mut tablet, laptop]) = household(dirs, [Band::Red; 3]);
    phone.pull(&founder);
    tablet.pull(&founder);
    founder.clears(tablet.space.device(), Role::Writer, Band::Green);
    tablet.put_in(Band::Red, object(1), &json!({"text": "one", "n": 1})).unwrap();
    phone.pull(&tablet);
    phone.put_in(Band::Red, object(1), &json!({"text": "one, two", "n": 2})).unwrap();
    (founder, [phone, tablet, laptop])
}

fn check(devices: [&mut Device; 2]) {
    for device in devices {
        assert_eq!(device.value(object(1)), json!({"text": "one, two", "n": 2}));
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
    assert!(founder.space.document(&object(1)).unwrap().is_none(), "the phone would adopt it");
    founder.clears(phone.space.device(), Role::Writer, Band::Green);
    phone.pull(&founder);
    assert!(phone.space.document(&object(1)).unwrap().is_none());
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
    assert_eq!(phone.value(object(1)), founder.value(object(1)));
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
