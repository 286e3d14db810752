//! Who makes itself asked alone, and who cannot.

use larder_log::Band;
use larder_log::act::{Cut, RevocationAct};
use larder_log::snapshot::BandTree;
use larder_types::Hash;
use serde_json::json;

use super::*;
use crate::prune::accepted;
use crate::prune::tests::{Device, profile};
use crate::{Terms, Whose};

/// Once the founder's phone was lost, a family was an owner's tablet and an admin's stolen phone.
/// The thief shut the tablet out from there, saying that he knew of nothing by which it was an
/// owner, and stated what nobody had written, of what had been before that. The phone had taken it
/// in, as its log shows, and so has everybody that has what it wrote then: nobody ever took the
/// tablet for shut out, and it is asked. What a phone says that had not heard of it is what it
/// might say as long as the tablet was no owner's.
#[test]
fn an_admin_that_says_not_to_know_an_owner_is_not_asked_alone() {
    for has_heard in [true, false] {
        let mut founder = Device::found(71);
        let terms = |role| Terms { of: Whose::New, role, clearance: Band::Red };
        let mut thief = founder.invite_on(profile(72), terms(Role::Admin));
        let mut tablet = founder.invite_on(profile(73), terms(Role::Writer));
        let (lost, owner) = (founder.space.device(), tablet.space.device());
        thief.pull(&founder);
        tablet.put(3, &json!({"n": 3}));
        thief.pull(&tablet);
        thief.put(1, &json!({"n": 1}));
        let frontier = thief.frontier();
        // By way of whom the tablet hears of it, which is not asked for what was before it came.
        let courier = founder.invite_on(profile(74), terms(Role::Writer));
        thief.pull(&founder);
        let parents = thief.writer.transact(|_, state| Ok(state.parents())).unwrap();
        founder.writer.change_role(owner, Role::Owner, Band::Red).unwrap();
        tablet.pull(&founder);
        if has_heard {
            thief.pull(&founder);
            thief.put(2, &json!({"n": 2}));
        }
        tablet.writer.revoke(&[lost]).unwrap();
        let cuts = vec![Cut { device: owner, keeps: 0 }];
        let revocation = RevocationAct { v: VERSION, parents, cuts, members: Vec::new() };
        let (leaves, root) = (1, Hash::new([1; 32]));
        let bands = vec![BandTree { band: Band::Green, leaves, root }];
        let forged = SnapshotAct { v: VERSION, frontier, bands };
        let said = thief.writer.transact(|tx, state| {
            state.append_act(tx, &Act::Revocation(revocation.clone()))?;
            state.append_act(tx, &Act::Snapshot(forged.clone()))?;
            state.sign(tx)
        });
        said.unwrap();
        tablet.pull_from(&thief, &courier.profile.transport_id(), |_| {});
        let agreed = tablet.writer.transact(|tx, state| {
            assert!(state.roster.device(&owner).is_some(), "the control: it has no force");
            assert!(state.roster.lifted().contains_key(&owner));
            accepted(tx, &state.roster, Some(Band::Red))
        });
        let expected = if has_heard { Vec::new() } else { vec![forged] };
        assert_eq!(agreed.unwrap(), expected, "{has_heard}");
    }
}

/// No entry names one of its own log: who set itself aside would never be back, and would say that
/// it is at every look.
#[test]
fn no_device_sets_itself_aside() {
    let mut founder = Device::found(75);
    let device = founder.space.device();
    let said = founder.writer.transact(|tx, state| {
        state.append_quarantine(tx, QuarantineAct { v: VERSION, device, lifted: Vec::new() })?;
        state.must_say_back(tx)
    });
    assert_eq!((said.unwrap(), founder.space.set_aside().unwrap()), (false, BTreeSet::new()));
}
