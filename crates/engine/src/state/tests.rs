//! How many acts one device may write.

use larder_log::Band;
use larder_log::VERSION;
use larder_log::act::{Act, ChangeAct, Role};
use larder_types::limits::{ACTS_DEVICE_KEPT, ACTS_DEVICE_MAX};

use crate::commit::Draft;
use crate::prune::tests::Device;

/// The one device of an owner had changed roles for years, by an app, until no act of it counted
/// any more: it could not shut out a stolen tablet, and not even let in the device that was to take
/// its place. The last of its acts are kept for that.
#[test]
fn a_device_can_still_let_in_its_successor_and_shut_out_a_thief() {
    let mut a = Device::found(1);
    let (b, c) = (a.invite(2), a.invite(3));
    let (device, thief) = (b.space.device(), c.space.device());
    let mut refused = None;
    for n in 0..ACTS_DEVICE_MAX {
        let role = if n % 2 == 0 { Role::Reader } else { Role::Writer };
        if let Err(error) = a.writer.change_role(device, role, Band::Red) {
            refused = Some((n, error.to_string()));
            break;
        }
    }
    let (written, error) = refused.unwrap();
    assert_eq!(written + 2, ACTS_DEVICE_MAX - ACTS_DEVICE_KEPT);
    assert!(error.contains("another device of an owner"), "{error}");
    a.writer.revoke(&[thief]).unwrap();
    let mut successor = a.invite(4);
    successor.writer.change_role(device, Role::Reader, Band::Red).unwrap();
    a.pull(&successor);
    let devices = a.space.devices().unwrap();
    assert_eq!(devices.len(), 3);
    assert!(devices.iter().any(|one| one.device == device && one.role == Role::Reader));
}

/// A stolen device of an owner wrote changes of roles by the thousand: each cost every other device
/// more than the one before, for ever, at every start too. Now those past a bound stand in nobody's
/// roster, and an honest device says so before it writes one.
#[test]
fn one_device_fills_nobodys_roster() {
    let mut a = Device::found(1);
    let (mut b, mut c) = (a.invite(2), a.invite(3));
    let device = b.space.device();
    let change = |state: &super::State, n: u64| {
        let role = if n.is_multiple_of(2) { Role::Reader } else { Role::Writer };
        let (parents, clearance) = (state.parents(), Band::Red);
        Act::Change(ChangeAct { parents, v: VERSION, device, from_seq: 99, role, clearance })
    };
    let written = a.writer.transact(|tx, state| {
        // Those by which the two were let in.
        let before = 2;
        for n in 0..ACTS_DEVICE_MAX - before {
            let act = change(state, n);
            state.append_act(tx, &act)?;
        }
        state.sign(tx)?;
        Ok(ACTS_DEVICE_MAX - before)
    });
    let last = if written.unwrap() % 2 == 1 { Role::Reader } else { Role::Writer };
    let role = |of: &Device| {
        of.space.devices().unwrap().iter().find(|one| one.device == device).unwrap().role
    };
    assert_eq!(role(&a), last);
    let refused = a.writer.change_role(device, Role::Admin, Band::Red).unwrap_err();
    assert!(refused.to_string().contains("another device of an owner"), "{refused}");
    // One that does not mind the bound.
    a.writer
        .transact(|tx, state| {
            let act = change(state, u64::from(last == Role::Writer) + 1);
            let draft = Draft::of_act(&act)?;
            state.append(tx, &[&draft], None, None)?;
            state.sign(tx)
        })
        .unwrap();
    for of in [&mut b, &mut c] {
        of.pull(&a);
        assert_eq!(role(of), last, "the last that counts");
        let roster = of.writer.state().roster.clone();
        of.writer.transact(|tx, state| state.reload_roster(tx)).unwrap();
        assert!(of.writer.state().roster == roster, "it is the same after a start");
    }
    c.put(1, &serde_json::json!({"n": 1}));
    b.pull(&c);
    assert_eq!(b.space.digest().unwrap(), c.space.digest().unwrap());
}
