//! Devices that were shut out by an act that has no force any more.

use larder_engine::{Terms, Whose};
use larder_log::Band;
use larder_log::act::Role;

use super::prune::{four_edited, settle};
use super::*;

fn dirs() -> Vec<tempfile::TempDir> {
    (0..6).map(|_| tempfile::tempdir().unwrap()).collect()
}

fn terms(role: Role) -> Terms {
    Terms { of: Whose::New, role, clearance: Band::Red }
}

const LETTER: u8 = 9;

fn write_a_letter(by: &mut Device) {
    for n in 1..=2 {
        by.put(object(LETTER), &json!({"text": "a letter", "n": n}));
    }
}

/// What the laptop writes while another device is shut out, and drops once all agree on it that
/// know no better.
fn goes_on_without(laptop: &mut Device, other: &mut Device) {
    assert!(laptop.space.document(&object(LETTER)).unwrap().is_none(), "the control");
    let before = laptop.pruned();
    for n in 5..=8 {
        laptop.put(object(n), &json!({"by": "the laptop"}));
        laptop.edit(object(n), |value| value["laptop"] = n.into());
    }
    for _ in 0..3 {
        settle(&mut [&mut *other, &mut *laptop]);
    }
    assert!(laptop.pruned() >= before + 8, "the control");
}

/// All that belong to the space agree on something again, and show the same, as does who comes now.
fn all_agree_again(laptop: &mut Device, others: &mut [&mut Device], dir: &Path) {
    let before = laptop.pruned();
    for n in 1..=4 {
        laptop.edit(object(n), |value| value["more"] = n.into());
    }
    for _ in 0..2 {
        let mut all: Vec<&mut Device> = others.iter_mut().map(|other| &mut **other).collect();
        all.push(laptop);
        settle(&mut all);
    }
    assert!(laptop.pruned() > before, "nothing is agreed on any more");
    let mut late = others[0].admit_in(dir, world(9));
    laptop.pull(others[0]);
    late.pull(laptop);
    late.fill(laptop);
    let digest = laptop.space.digest().unwrap();
    for device in others.iter_mut().map(|other| &mut **other).chain([laptop, &mut late]) {
        assert_eq!(device.value(object(LETTER)), json!({"text": "a letter", "n": 2}));
        assert_eq!(device.value(object(8)), json!({"by": "the laptop", "laptop": 8}));
        let waiting = device.space.status().unwrap().waiting;
        assert_eq!((device.space.digest().unwrap(), waiting), (digest, 0));
        device.sound();
    }
}

/// An admin shut a tablet out that the founder had made an owner meanwhile: no admin shuts an owner
/// out. But the founder's phone broke and was set aside before anybody else had heard of that, and
/// the others had agreed without the tablet and dropped bytes. It was asked to agree on what it had
/// no bytes of, for ever: nothing was pruned any more, and it never got what was gone.
#[test]
fn what_was_agreed_on_while_an_admin_had_shut_a_new_owner_out_reaches_it() {
    for has_heard in [false, true] {
        let dirs = dirs();
        let mut founder = Device::found(dirs[0].path(), 1);
        let mut owner = founder.invite_on(dirs[1].path(), 2, terms(Role::Owner));
        let mut laptop = founder.invite_on(dirs[2].path(), 3, terms(Role::Admin));
        let mut tablet = founder.invite_on(dirs[3].path(), 4, terms(Role::Writer));
        four_edited(&mut founder);
        settle(&mut [&mut founder, &mut owner, &mut laptop, &mut tablet]);
        let (broken, raised) = (founder.space.device(), tablet.space.device());
        write_a_letter(&mut tablet);
        owner.pull(&tablet);
        laptop.writer.revoke(&[raised]).unwrap();
        if has_heard {
            // From somebody else.
            let to = owner.profile.transport_id();
            let all = super::peers::batches(&laptop, to, &tablet.epochs());
            let has = tablet.have();
            for batch in all.into_iter().filter(|it| it.size() > has[&it.device]) {
                tablet.writer.apply(batch).unwrap();
            }
            assert!(tablet.space.own_role().is_err(), "the control");
        }
        founder.writer.change_role(raised, Role::Owner, Band::Red).unwrap();
        tablet.pull(&founder);
        owner.writer.quarantine(broken).unwrap();
        owner.pull(&laptop);
        laptop.pull(&owner);
        goes_on_without(&mut laptop, &mut owner);
        laptop.pull(&tablet);
        owner.pull(&laptop);
        assert_eq!(tablet.space.own_role().unwrap(), Role::Owner);
        let is_raised = |it: &larder_engine::DeviceInfo| it.device == raised;
        assert!(laptop.space.devices().unwrap().iter().any(is_raised));
        all_agree_again(&mut laptop, &mut [&mut tablet, &mut owner], dirs[4].path());
    }
}

/// A thief had shut the tablet out, from the owner's phone, as far as it had heard of it: so that
/// the watch, which the tablet had let in since, belonged to the space no more, until the words
/// gave it back to the tablet. The tablet was not asked for what had been agreed on meanwhile, and
/// the watch was, for ever.
#[test]
fn what_was_agreed_on_while_who_let_a_device_in_was_shut_out_reaches_it() {
    let dirs = dirs();
    let kit = Secret::new([77; 32]);
    let mut phone = super::members::founded_with(dirs[0].path(), &kit);
    let mut tablet = phone.invite_on(dirs[1].path(), 2, terms(Role::Admin));
    let mut laptop = phone.invite_on(dirs[2].path(), 3, terms(Role::Writer));
    four_edited(&mut phone);
    settle(&mut [&mut phone, &mut tablet, &mut laptop]);
    let (thief, own) = (phone.space.device(), tablet.space.device());
    let mut watch = tablet.invite_on(dirs[3].path(), 4, terms(Role::Reader));
    write_a_letter(&mut tablet);
    laptop.pull(&tablet);
    phone.writer.revoke(&[own]).unwrap();
    laptop.pull(&phone);
    goes_on_without(&mut laptop, &mut phone);
    tablet.writer.recover(&kit, &[thief]).unwrap();
    laptop.pull(&tablet);
    tablet.pull(&laptop);
    watch.pull(&tablet);
    all_agree_again(&mut laptop, &mut [&mut tablet, &mut watch], dirs[4].path());
}
