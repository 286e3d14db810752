//! How many acts of a device count whose log has two histories.

use larder_log::VERSION;
use larder_log::act::{Act, ChangeAct};
use larder_types::limits::ACTS_DEVICE_MAX;

use super::*;
use crate::commit::Draft;

/// Shows what `from` holds, and what it knows of logs with two histories.
fn tell(from: &Device, to: &mut Device) {
    let (of, me) = (from.profile.transport_id(), to.profile.transport_id());
    let Answer::Reply(Reply::Frontiers { logs, forks, .. }) =
        from.space.answer(&me, Request::ReadFrontiers)
    else {
        panic!()
    };
    if let Answer::Write(task) = to.space.answer(&of, Request::CheckFrontiers { logs, forks }) {
        to.writer.answer(task);
    }
}

/// A stolen phone of an owner wrote more changes of roles than count, and another history beside
/// them. Who held the first history showed them all to who held the other, newest first, and there
/// they counted: the two took different devices for admins, for good.
#[test]
fn what_is_past_the_bound_in_one_history_does_not_count_for_who_holds_the_other() {
    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut others = Vec::new();
    for (n, label) in [(2, "tablet"), (3, "old")] {
        let dir = dirs[n].path();
        let seed = 10 + n as u64;
        let profile = Profile::create(world(seed), dir, &unlock(), options(label)).unwrap();
        others.push(laptop.invite(profile, own()).unwrap());
    }
    let (old, mut tablet) = (others.pop().unwrap(), others.pop().unwrap());
    let about = old.space.device();
    let mut phone = Device::open(dirs[1].path(), 20);
    for _ in 0..2 {
        meet(&mut laptop, &mut tablet);
        meet(&mut laptop, &mut phone);
    }
    phone.close();
    copy(dirs[1].path(), dirs[4].path());
    let mut stolen = Device::open(dirs[1].path(), 21);
    let written = ACTS_DEVICE_MAX + 8;
    stolen
        .writer
        .transact(|tx, state| {
            // As of one who knows nothing that came after: so each counts without those before it.
            let parents = state.parents();
            for n in 0..written {
                // Of changes of which none knows of another the least counts.
                let role = if n < ACTS_DEVICE_MAX { Role::Writer } else { Role::Reader };
                let (parents, clearance, device) = (parents.clone(), Band::Red, about);
                let act = ChangeAct { parents, v: VERSION, device, from_seq: 99, role, clearance };
                state.append(tx, &[&Draft::of_act(&Act::Change(act))?], None, None)?;
            }
            state.sign(tx)
        })
        .unwrap();
    laptop.hear(&stolen);
    let mut copied = Device::open(dirs[4].path(), 22);
    copied.put(30, &json!({"title": "another history"}));
    tablet.hear(&copied);
    for _ in 0..2 {
        tell(&tablet, &mut laptop);
        tell(&laptop, &mut tablet);
    }
    assert!(tablet.reasons().iter().any(|why| matches!(why, Reason::LogStopped { .. })));
    let role = |of: &Device| {
        let devices = of.space.devices().unwrap();
        devices.iter().find(|one| one.device == about).unwrap().role
    };
    assert_eq!(role(&laptop), Role::Writer, "by those that count");
    assert_eq!(role(&tablet), Role::Writer, "for who has heard of it, too");
    for device in [laptop, tablet, old, stolen, copied] {
        device.close();
    }
}
