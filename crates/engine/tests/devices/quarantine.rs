//! A device stays away, and is set aside until it is back.

use larder_engine::{ErasureStage, Whose};
use larder_log::Band;
use larder_log::act::Role;

use super::bands::cleared;
use super::prune::{four_edited, meet, settle};
use super::*;

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// What a device does by itself while nothing is asked of it.
fn tend(device: &mut Device) {
    while let Some(mut pruning) = device.writer.wants_pruning().unwrap() {
        while !device.writer.prune_step(&mut pruning).unwrap() {}
    }
}

fn is_aside(of: &Device, device: larder_types::DeviceId) -> bool {
    let progress = of.space.status().unwrap().progress;
    progress.iter().find(|one| one.device == device).unwrap().set_aside
}

/// A tablet lay in a drawer for a year with edits that nobody had seen, and nothing was pruned all
/// the while, nor any secret forgotten. Set aside, it holds nothing up; and when it is back, what
/// it wrote is there with what the others did, and it is waited for again.
#[test]
fn a_tablet_in_a_drawer_holds_nothing_up_and_loses_nothing() {
    let dirs = dirs(5);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut tablet = a.invite(dirs[2].path(), 3);
    four_edited(&mut a);
    a.put(object(6), &json!({"text": "to be deleted"}));
    settle(&mut [&mut a, &mut b, &mut tablet]);
    settle(&mut [&mut a, &mut b, &mut tablet]);
    let before = a.pruned();
    assert!(before > 0, "the control");
    // In the drawer.
    tablet.edit(object(1), |value| value["tablet"] = "unsent".into());
    tablet.edit(object(1), |value| value["tablet"] = "unsent, twice".into());
    tablet.put(object(7), &json!({"text": "of the drawer"}));
    for n in 1..=4 {
        a.edit(object(n), |value| value["a"] = "meanwhile".into());
        a.edit(object(n), |value| value["a"] = "meanwhile, twice".into());
    }
    // Another epoch, whose secrets the tablet has not got yet.
    let mut third = a.invite(dirs[3].path(), 4);
    for _ in 0..2 {
        settle(&mut [&mut a, &mut b, &mut third]);
    }
    assert_eq!(a.pruned(), before, "it holds everything up");
    let aside = tablet.space.device();
    let epochs = a.epochs().len();
    a.writer.quarantine(aside).unwrap();
    let again = a.writer.quarantine(aside).unwrap_err();
    assert!(again.to_string().contains("set aside already"), "{again}");
    for _ in 0..2 {
        settle(&mut [&mut a, &mut b, &mut third]);
        [&mut a, &mut b, &mut third].into_iter().for_each(tend);
    }
    let pruned = a.pruned();
    assert!(pruned > before && b.pruned() > before, "{pruned}");
    assert!(a.epochs().len() < epochs, "secrets went that its unsent edits are sealed under");
    assert!([&a, &b, &third].iter().all(|of| is_aside(of, aside)));
    // It is back, by way of one that did not set it aside; and writes on before it has everything.
    tablet.pull(&b);
    tablet.edit(object(2), |value| value["tablet"] = "back".into());
    for _ in 0..2 {
        meet(&mut tablet, &mut b);
        meet(&mut b, &mut a);
        meet(&mut a, &mut third);
        meet(&mut tablet, &mut a);
        meet(&mut tablet, &mut third);
        tend(&mut tablet);
    }
    let both = json!({"n": 1, "edited": true, "a": "meanwhile, twice", "tablet": "unsent, twice"});
    for of in [&mut a, &mut b, &mut third, &mut tablet] {
        assert_eq!(of.value(object(1)), both);
        assert_eq!(of.value(object(2))["tablet"], json!("back"));
        assert_eq!(of.value(object(2))["a"], json!("meanwhile, twice"));
        assert_eq!(of.value(object(7)), json!({"text": "of the drawer"}));
        assert_eq!(of.wanted(), None);
        assert!(!is_aside(of, aside), "it is waited for again");
        of.sound();
    }
    // So it is: without it nothing goes, with it all does.
    for n in 1..=4 {
        a.edit(object(n), |value| value["a"] = "later".into());
    }
    let before = a.pruned();
    settle(&mut [&mut a, &mut b, &mut third]);
    settle(&mut [&mut a, &mut b, &mut third]);
    assert_eq!(a.pruned(), before);
    settle(&mut [&mut a, &mut b, &mut third, &mut tablet]);
    settle(&mut [&mut a, &mut b, &mut third, &mut tablet]);
    assert!(a.pruned() > before && tablet.pruned() > 0, "{before}");
    for of in [&mut a, &mut b, &mut third, &mut tablet] {
        of.sound();
    }
    // A newcomer gets all of it.
    let mut new = a.invite(dirs[4].path(), 5);
    meet(&mut new, &mut a);
    assert_eq!(new.value(object(1))["tablet"], json!("unsent, twice"));
}

/// A computer set a phone aside and pruned alone; the phone came back, and had what the computer
/// had agreed on with nobody. Then the computer broke and was set aside itself: nobody was left
/// that what was pruned was asked of, so that it was agreed on no more, and who came then got
/// nothing of it (simulated seeds 467 and 532).
#[test]
fn what_who_is_set_aside_itself_agreed_on_alone_stays_agreed_on() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    four_edited(&mut a);
    a.writer.quarantine(b.space.device()).unwrap();
    for _ in 0..2 {
        a.prune(true);
    }
    assert!(a.pruned() > 0, "the control");
    for _ in 0..2 {
        meet(&mut b, &mut a);
        tend(&mut b);
    }
    assert_eq!(b.value(object(1)), json!({"n": 1, "edited": true}));
    b.writer.quarantine(a.space.device()).unwrap();
    tend(&mut b);
    let mut new = b.invite(dirs[2].path(), 3);
    meet(&mut new, &mut b);
    for n in 1..=4 {
        assert_eq!(new.value(object(n)), json!({"n": n, "edited": true}));
    }
    new.sound();
}

/// What was set aside by mistake is waited for again once that is taken back; by itself a device is
/// back with its next entry, also one that writes nothing.
#[test]
fn who_is_set_aside_is_waited_for_again_once_that_is_lifted_or_it_is_back() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut tablet = a.invite(dirs[2].path(), 3);
    four_edited(&mut a);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.pruned(), 0, "the control");
    let aside = tablet.space.device();
    a.writer.quarantine(aside).unwrap();
    b.pull(&a);
    assert!(is_aside(&a, aside) && is_aside(&b, aside));
    a.writer.lift_quarantine(aside).unwrap();
    assert!(!is_aside(&a, aside) && is_aside(&b, aside));
    let none = a.writer.lift_quarantine(aside).unwrap_err();
    assert!(none.to_string().contains("not set aside"), "{none}");
    settle(&mut [&mut a, &mut b]);
    assert!(!is_aside(&b, aside));
    assert_eq!((a.pruned(), b.pruned()), (0, 0));
    a.writer.quarantine(aside).unwrap();
    settle(&mut [&mut a, &mut b]);
    settle(&mut [&mut a, &mut b]);
    assert!(a.pruned() > 0);
    // It writes nothing, and has nothing to say but that it is back.
    meet(&mut tablet, &mut b);
    tend(&mut tablet);
    meet(&mut tablet, &mut a);
    assert!(!is_aside(&a, aside) && !is_aside(&tablet, aside));
    settle(&mut [&mut a, &mut b, &mut tablet]);
    [&mut a, &mut b, &mut tablet].into_iter().for_each(Device::sound);
}

/// A thief had an admin's phone, and set all other devices aside, so that an erasure would look as
/// if everybody had confirmed it and what all had to agree on were his to say. An owner's devices
/// are not his to set aside, who is set aside has confirmed nothing; and a writer sets nobody
/// aside.
#[test]
fn setting_aside_hides_no_missing_confirmation_and_an_admin_sets_no_owner_aside() {
    let dirs = dirs(4);
    let mut a = Device::found(dirs[0].path(), 1);
    let terms = |role| Terms { of: Whose::New, role, clearance: Band::Red };
    let mut admin = a.invite_on(dirs[1].path(), 2, terms(Role::Admin));
    let mut tablet = a.invite_on(dirs[2].path(), 3, terms(Role::Writer));
    a.put(object(1), &json!({"text": "a secret"}));
    for one in [&mut admin, &mut tablet] {
        one.pull(&a);
    }
    let (owner, aside) = (a.space.device(), tablet.space.device());
    for (device, why) in [(owner, "an owner has to"), (admin.space.device(), "this device is here")]
    {
        let refused = admin.writer.quarantine(device).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let refused = tablet.writer.quarantine(admin.space.device()).unwrap_err();
    assert!(refused.to_string().contains("does not allow"), "{refused}");
    admin.writer.quarantine(aside).unwrap();
    a.pull(&admin);
    a.writer.erase(object(1)).unwrap();
    admin.pull(&a);
    for one in [&mut a, &mut admin] {
        one.writer.finish_erasures().unwrap();
    }
    a.pull(&admin);
    a.learn_acks(&admin);
    let info = &a.space.erasures().unwrap()[0];
    let stage = |info: &larder_engine::ErasureInfo, device| {
        info.devices.iter().find(|by| by.device == device).unwrap().stage
    };
    assert_eq!(stage(info, admin.space.device()), ErasureStage::Done);
    assert_eq!(stage(info, aside), ErasureStage::SetAside);
    assert!(!info.is_done(), "{info:?}");
    // It confirms when it is back.
    tablet.pull(&a);
    tablet.writer.finish_erasures().unwrap();
    a.pull(&tablet);
    assert!(a.space.erasures().unwrap()[0].is_done());
}

/// A tablet was set aside with a letter that nobody had seen, and cleared for less. What it kept of
/// the letter for others was sealed, and they had forgotten the secret by then, as they waited for
/// it no more: nobody could open it.
#[test]
fn what_a_lowered_tablet_kept_opens_though_all_others_have_forgotten_its_secret() {
    let dirs = dirs(5);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut tablet = a.invite(dirs[2].path(), 3);
    let mut courier = a.invite_on(dirs[4].path(), 5, cleared(Band::Green));
    four_edited(&mut a);
    settle(&mut [&mut a, &mut b, &mut tablet, &mut courier]);
    let letter = json!({"text": "of the drawer"});
    tablet.put_in(Band::Red, object(7), &letter).unwrap();
    // It is known to be there, by way of one that may not read it.
    courier.pull(&tablet);
    a.pull(&courier);
    let aside = tablet.space.device();
    a.writer.quarantine(aside).unwrap();
    let mut third = a.invite(dirs[3].path(), 4);
    let epochs = a.epochs().len();
    for _ in 0..3 {
        settle(&mut [&mut a, &mut b, &mut third, &mut courier]);
        [&mut a, &mut b, &mut third, &mut courier].into_iter().for_each(tend);
    }
    assert!(a.epochs().len() < epochs, "the control: they have forgotten");
    a.clears(aside, Role::Writer, Band::Green);
    for _ in 0..2 {
        meet(&mut tablet, &mut a);
        meet(&mut b, &mut a);
    }
    let listed = tablet.space.list(None, None, 1000).unwrap().documents;
    assert!(listed.iter().all(|one| one.object != object(7)), "it is cleared for less");
    for of in [&mut a, &mut b] {
        assert_eq!(of.value(object(7)), letter);
        assert_eq!(of.wanted(), None);
    }
}

/// A tablet stated a snapshot, was set aside before anybody heard of it, and took over what the
/// others agreed on, which includes it. It said for ever that it waited for them (simulated seed
/// 291).
#[test]
fn a_tablet_waits_for_nobody_to_state_what_a_later_snapshot_includes() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut tablet = a.invite(dirs[2].path(), 3);
    four_edited(&mut a);
    meet(&mut a, &mut b);
    meet(&mut a, &mut tablet);
    assert_eq!(tablet.prune(true).stated, 1);
    let waits = |of: &Device| of.space.prune_status().unwrap().waits_for;
    assert!(waits(&tablet).contains(&b.space.device()), "the control");
    a.edit(object(1), |value| value["a"] = "meanwhile".into());
    a.writer.quarantine(tablet.space.device()).unwrap();
    for _ in 0..2 {
        settle(&mut [&mut a, &mut b]);
    }
    assert!(a.pruned() > 0, "the control: without it");
    meet(&mut tablet, &mut a);
    tablet.prune(false);
    assert!(tablet.space.prune_status().unwrap().covered > 0);
    assert_eq!(waits(&tablet), []);
}

/// A tablet that had been set aside had begun to take a snapshot in when it took over an earlier
/// one, that it had stated itself. It let go of what had come, and what it had asked for already
/// seemed to begin in the middle: it accused an honest peer of leaves that were not agreed on
/// (simulated seed 437).
#[test]
fn what_comes_in_goes_on_where_an_earlier_snapshot_is_taken_over() {
    let dirs = dirs(3);
    let few = ProfileOptions { part_bytes: larder_engine::PartBytes(32), ..options("first") };
    let profile = Profile::create(world(1), dirs[0].path(), &unlock(), few).unwrap();
    let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
    let mut a = Device { profile, space, writer };
    let mut b = a.invite(dirs[1].path(), 2);
    let mut tablet = a.invite(dirs[2].path(), 3);
    four_edited(&mut a);
    meet(&mut a, &mut b);
    meet(&mut a, &mut tablet);
    assert_eq!(tablet.prune(true).stated, 1);
    meet(&mut a, &mut tablet);
    assert_eq!(a.prune(false).stated, 1);
    meet(&mut a, &mut b);
    assert_eq!(b.prune(false).stated, 1);
    a.pull(&b);
    a.writer.quarantine(tablet.space.device()).unwrap();
    four_edited(&mut a);
    for _ in 0..2 {
        settle(&mut [&mut a, &mut b]);
    }
    assert!(a.pruned() > 8, "the control: without it");

    tablet.pull(&a);
    let want = tablet.wanted().unwrap();
    tablet.writer.take_supply(&tablet.supply_of(&a, &want)).unwrap();
    let want = tablet.wanted().unwrap();
    assert_eq!(want.snapshot.as_ref().unwrap().received, 1);
    let late = tablet.supply_of(&a, &want);
    tablet.prune(false);
    assert!(tablet.space.prune_status().unwrap().covered > 0, "it took the earlier one over");
    tablet.writer.take_supply(&late).unwrap();
    assert_eq!(tablet.wanted().unwrap().snapshot.unwrap().received, 2);
    meet(&mut tablet, &mut a);
    assert_eq!(tablet.wanted(), None);
}
