//! Spaces that no other device had when a copy was made.

use super::*;

fn go_on(dir: &Path, seed: u64) -> Result<()> {
    Profile::go_on_alone(world(seed), dir, &unlock(), &name())
}

/// Opens it, carries over what there is, and closes it without care.
fn open_for_a_moment(dir: &Path, seed: u64) {
    let profile = Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x"));
    if let Ok((space, writer)) = profile.unwrap().open_space(&name()) {
        let mut writer = writer.unwrap();
        let _ = writer.carry_over();
        drop((writer, space));
    }
}

/// Most profiles have a space that nobody else has. With the profile's other keys nobody could be
/// invited to it any more: its one device was one that there is not. It goes on when its person
/// says so, wherever that is cut.
#[test]
fn a_space_that_nobody_else_has_goes_on_under_new_keys() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut alone = Device::found(dirs[0].path(), 1);
    alone.put(1, &json!({"title": "mine"}));
    let (was, transport) = (alone.space.device(), alone.profile.transport_id());
    alone.close();
    assert!(go_on(dirs[0].path(), 2).unwrap_err().to_string().contains("does not wait"));
    let renewed = renew(dirs[0].path(), 2).unwrap();
    assert_eq!((renewed.waiting, renewed.alone), (Vec::new(), vec![name()]));
    let mut cuts = 0;
    for at in 1.. {
        let tried = tempfile::tempdir().unwrap();
        let dir = tried.path();
        copy(dirs[0].path(), dir);
        let was_cut = cut_at(at, || {
            let _ = go_on(dir, 3);
            open_for_a_moment(dir, 4);
        });
        // Every other time keys are drawn once more, though some may be known to the space.
        if at % 2 == 0 {
            assert_eq!(renew(dir, 5).unwrap().alone, [name()], "cut at {at}");
        }
        let mut device = Device::open(dir, 6);
        if device.reasons().contains(&Reason::Renewed) {
            device.close();
            go_on(dir, 7).unwrap();
            device = Device::open(dir, 8);
        }
        let carried = device.writer.carry_over().unwrap().unwrap();
        assert_eq!((carried.is_done, carried.entries), (true, 0), "cut at {at}: {carried:?}");
        assert_ne!(device.space.device(), was);
        assert_ne!(device.profile.transport_id(), transport);
        assert_eq!(device.space.devices().unwrap().len(), 1, "the old ones are shut out: {at}");
        assert_eq!(device.value(1), Some(json!({"title": "mine"})));
        device.put(2, &json!({"title": "goes on"}));
        device.close();
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
    go_on(dirs[0].path(), 9).unwrap();
    let mut alone = Device::open(dirs[0].path(), 10);
    alone.writer.carry_over().unwrap();
    alone.put(2, &json!({"title": "goes on"}));
    let other = Profile::create(world(11), dirs[1].path(), &unlock(), options("other")).unwrap();
    let mut other = alone.invite(other, own()).unwrap();
    meet(&mut alone, &mut other);
    assert_eq!(other.value(2), Some(json!({"title": "goes on"})));
    alone.close();
    other.close();
}

/// Of a household a tablet's backup is left, and the words on paper. Nobody could let the tablet in
/// again, it was no owner to go on alone, and whoever had given it new keys could not use the words
/// there any more. Wherever that is cut it goes on, as an owner, with all that the backup has.
#[test]
fn a_writers_backup_and_the_words_give_a_space_back_when_all_devices_are_gone() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let (kit, other) = (Secret::new([77; 32]), Secret::new([78; 32]));
    let phone = Profile::create(world(1), dirs[0].path(), &unlock(), options("phone")).unwrap();
    let (space, writer) = phone.create_space_with(&name(), Some(&kit)).unwrap();
    let mut phone = Device { profile: phone, space, writer };
    phone.put(1, &json!({"title": "of the phone"}));
    let tablet = Profile::create(world(2), dirs[1].path(), &unlock(), options("tablet")).unwrap();
    let terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Red };
    let mut tablet = phone.invite(tablet, terms).unwrap();
    meet(&mut phone, &mut tablet);
    tablet.put(2, &json!({"title": "of the tablet", "more": 1}));
    tablet.put(2, &json!({"title": "of the tablet", "more": 2}));
    let gone = [phone.space.device(), tablet.space.device()];
    tablet.close();
    let backup = dirs[2].path();
    copy(dirs[1].path(), backup);
    // The tablet writes on, and is lost as well.
    let mut tablet = Device::open(dirs[1].path(), 3);
    tablet.put(3, &json!({"title": "not in the backup"}));
    for device in [phone, tablet] {
        device.close();
    }

    let renewed = renew(backup, 4).unwrap();
    assert_eq!((renewed.waiting, renewed.alone), (vec![name()], Vec::new()));
    let refused = go_on(backup, 5).unwrap_err().to_string();
    assert!(refused.contains("other devices") && refused.contains("--recovery"), "{refused}");
    let recover = |dir: &Path, seed, kit: &Secret<32>| {
        Profile::recover_alone(world(seed), dir, &unlock(), &name(), kit)
    };
    let refused = recover(backup, 6, &other).unwrap_err().to_string();
    assert!(refused.contains("another kit"), "{refused}");
    let mut waiting = Device::open(backup, 7);
    assert!(matches!(waiting.try_put(6, &json!({})), Err(Error::Renewed)));
    assert_eq!(waiting.space.devices().unwrap().len(), 2, "nobody was shut out by wrong words");
    waiting.close();
    let mut cuts = 0;
    for at in 1.. {
        let tried = tempfile::tempdir().unwrap();
        let dir = tried.path();
        copy(backup, dir);
        let was_cut = cut_at(at, || {
            let _ = recover(dir, 8, &kit);
            open_for_a_moment(dir, 9);
        });
        let mut tablet = Device::open(dir, 10);
        if tablet.reasons().contains(&Reason::Renewed) {
            tablet.close();
            recover(dir, 11, &kit).unwrap();
            tablet = Device::open(dir, 12);
        }
        let carried = tablet.writer.carry_over().unwrap().unwrap();
        assert!(carried.is_done && carried.left.is_empty(), "cut at {at}: {carried:?}");
        assert_eq!(tablet.space.own_role().unwrap(), Role::Owner);
        let devices = tablet.space.devices().unwrap();
        assert!(devices.len() == 1 && !gone.contains(&devices[0].device), "cut at {at}");
        tablet.put(4, &json!({"title": "goes on"}));
        if was_cut {
            cuts += 1;
            tablet.close();
            continue;
        }
        let new = Profile::create(world(13), dirs[3].path(), &unlock(), options("new")).unwrap();
        let mut new = tablet.invite(new, terms).unwrap();
        meet(&mut tablet, &mut new);
        new.put(5, &json!({"title": "of the new one"}));
        meet(&mut tablet, &mut new);
        for device in [&tablet, &new] {
            let titles = [1, 2, 4, 5].map(|n| device.value(n).unwrap()["title"].clone());
            assert_eq!(titles, ["of the phone", "of the tablet", "goes on", "of the new one"]);
            assert_eq!(device.value(2).unwrap()["more"], 2);
            assert_eq!(device.space.list(None, None, 100).unwrap().documents.len(), 4);
        }
        assert!(new.space.history(&object(2)).unwrap().len() > 1, "history came too");
        for device in [tablet, new] {
            device.close();
        }
        break;
    }
    assert!(cuts > 3, "{cuts}");
}

/// On Monday a laptop was backed up, on Tuesday a phone joined, on Wednesday the laptop's disk
/// died. The backup knew of no phone: renewed, it signed with its old key that the space went on,
/// which made two spaces of one, and no invitation from the phone could be taken up any more.
#[test]
fn a_backup_from_before_the_second_device_came_signs_nothing_by_itself_and_is_let_in() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let backup = dirs[2].path();
    let (mut phone, was, size) = joined_after_the_backup(&dirs);
    let renewed = renew(backup, 4).unwrap();
    assert_eq!((renewed.waiting, renewed.alone), (Vec::new(), vec![name()]));
    let mut laptop = Device::open(backup, 5);
    assert!(matches!(laptop.try_put(6, &json!({})), Err(Error::Renewed)));
    let Reply::Frontiers { logs, .. } = laptop.frontiers() else { panic!() };
    assert_eq!(logs.iter().map(|log| (log.device, log.size)).collect::<Vec<_>>(), [(was, size)]);
    laptop.close();
    let mut laptop = joined_again(&mut phone, backup, 6);
    meet(&mut phone, &mut laptop);
    laptop.writer.show().unwrap();
    let carried = laptop.writer.carry_over().unwrap().unwrap();
    assert_eq!((carried.is_done, carried.entries), (true, 0), "{carried:?}");
    laptop.put(7, &json!({"title": "of the laptop again"}));
    meet(&mut phone, &mut laptop);
    for device in [&phone, &laptop] {
        let notes = device.space.list(None, None, 100).unwrap().documents;
        assert_eq!(notes.len(), 4, "nothing is there twice");
        assert_eq!(device.value(3).unwrap()["title"], "of the phone");
        assert!(device.reasons().is_empty(), "{:?}", device.reasons());
    }
    phone.close();
    laptop.close();
}

/// A laptop that is backed up, and a phone that joins and writes after that.
fn joined_after_the_backup(dirs: &[tempfile::TempDir]) -> (Device, DeviceId, u64) {
    let mut laptop = Device::found(dirs[0].path(), 1);
    laptop.put(1, &json!({"title": "letter", "text": "one\n"}));
    let was = laptop.space.device();
    let Reply::Frontiers { logs, .. } = laptop.frontiers() else { panic!() };
    laptop.close();
    copy(dirs[0].path(), dirs[2].path());
    let mut laptop = Device::open(dirs[0].path(), 2);
    let phone = Profile::create(world(3), dirs[1].path(), &unlock(), options("phone")).unwrap();
    let mut phone = laptop.invite(phone, own()).unwrap();
    laptop.put(2, &json!({"title": "on Tuesday"}));
    meet(&mut laptop, &mut phone);
    phone.put(3, &json!({"title": "of the phone"}));
    laptop.close();
    (phone, was, logs[0].size)
}

/// The person said that no other device had the space, and had forgotten the phone. What was
/// written on each of the two meanwhile is to come together once they notice.
#[test]
fn who_said_wrongly_that_nobody_else_has_a_space_loses_nothing() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let backup = dirs[2].path();
    let (mut phone, ..) = joined_after_the_backup(&dirs);
    phone.put(1, &json!({"title": "letter", "text": "one\ntwo, on the phone\n"}));
    renew(backup, 4).unwrap();
    go_on(backup, 5).unwrap();
    let mut laptop = Device::open(backup, 6);
    assert!(laptop.writer.carry_over().unwrap().unwrap().is_done);
    laptop.put(1, &json!({"title": "letter, on the laptop", "text": "one\n"}));
    laptop.put(5, &json!({"title": "alone on the laptop"}));
    let before = laptop.space.device();
    laptop.close();
    assert_eq!(renew(backup, 7).unwrap().alone, [name()]);
    let mut laptop = joined_again(&mut phone, backup, 8);
    assert_ne!(laptop.space.device(), before);
    meet(&mut phone, &mut laptop);
    laptop.writer.show().unwrap();
    let carried = laptop.writer.carry_over().unwrap().unwrap();
    assert!(carried.is_done && carried.created == 1 && carried.edited == 1, "{carried:?}");
    meet(&mut phone, &mut laptop);
    for device in [&phone, &laptop] {
        let letter = json!({"title": "letter, on the laptop", "text": "one\ntwo, on the phone\n"});
        assert_eq!(device.value(1), Some(letter));
        assert_eq!(device.value(5), Some(json!({"title": "alone on the laptop"})));
        let notes = device.space.list(None, None, 100).unwrap().documents;
        assert_eq!(notes.len(), 4, "nothing is there twice");
    }
    assert_eq!(phone.space.digest().unwrap(), laptop.space.digest().unwrap());
    phone.close();
    laptop.close();
}
