//! What devices do in a space where nobody says otherwise.

use larder_engine::{Band, POLICIES, Policy, PolicyChange, Role, Whose};
use larder_types::SpaceKind;

use super::prune::meet;
use super::*;

fn terms(of: Whose, role: Role) -> Terms {
    Terms { of, role, clearance: Band::Red }
}

fn set(device: &mut Device, change: PolicyChange) -> Result<Receipt> {
    device.writer.set_policy(change)
}

#[test]
fn each_kind_has_its_own_and_gives_no_more_than_those_for_fewer_people() {
    use SpaceKind::{Black, Extended, Personal, Selective, Shared};
    let kinds: Vec<_> = POLICIES.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Black, Personal, Selective, Shared, Extended]);
    for (kind, policy) in POLICIES {
        assert_eq!(Policy::of_kind(kind), policy);
        assert!(
            policy.kept.wrong().is_none() && policy.kept.age_ms.is_none(),
            "nothing goes by itself"
        );
    }
    assert!(POLICIES.is_sorted_by(|(_, a), (_, b)| a.clearance >= b.clearance));
    let expected =
        [("personal:a", Band::Amber), ("shared:a", Band::Green), ("black:a", Band::Black)];
    for (name, expected) in expected {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::create(world(1), dir.path(), &unlock(), options("first")).unwrap();
        let (space, writer) = profile.create_space(&name.parse().unwrap()).unwrap();
        let mut device = Device { profile, space, writer };
        device.put(object(1), &json!({"a": 1}));
        assert_eq!(device.space.document(&object(1)).unwrap().unwrap().band, expected);
    }
}

/// Three owners set it while apart, one of them as its role is taken: all devices come to the same.
#[test]
fn what_owners_set_holds_on_all_devices_in_any_order() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut c = a.invite(dirs[2].path(), 3);
    meet(&mut b, &mut c);
    let change = |invite, band, clearance| PolicyChange { invite, band, clearance };
    set(&mut a, change(Some(Role::Owner), Some(Band::Amber), None)).unwrap();
    set(&mut b, change(Some(Role::Admin), None, Some(Band::Green))).unwrap();
    set(&mut c, change(None, Some(Band::Green), Some(Band::Red))).unwrap();
    meet(&mut a, &mut b);
    meet(&mut b, &mut c);
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    for device in [&a, &b, &c] {
        let policy = device.space.policy().unwrap();
        let found = (policy.invite, policy.band, policy.clearance);
        assert_eq!(found, (Some(Role::Owner), Band::Amber, Band::Green), "what gives least away");
    }
    // New documents, and who is invited, go by it.
    b.put(object(7), &json!({"a": 1}));
    assert_eq!(b.space.document(&object(7)).unwrap().unwrap().band, Band::Amber);
    assert_eq!(Terms::usual_for(&b.space, Whose::New).unwrap().clearance, Band::Green);
    assert_eq!(Terms::usual_for(&b.space, Whose::Own).unwrap().clearance, Band::Red);
    // Who is an owner no more sets nothing any more, and what it had set beside that is void.
    let id = b.space.device();
    a.writer.change_role(id, Role::Admin, Band::Red).unwrap();
    set(&mut b, change(Some(Role::Admin), None, None)).unwrap();
    assert_eq!(b.space.policy().unwrap().invite, Some(Role::Admin));
    meet(&mut a, &mut b);
    meet(&mut b, &mut c);
    for device in [&a, &b, &c] {
        assert_eq!(device.space.policy().unwrap().invite, Some(Role::Owner));
    }
    let refused = set(&mut b, change(Some(Role::Admin), None, None)).unwrap_err();
    assert!(refused.to_string().contains("owner"), "{refused}");
    for wrong in [change(None, None, None), change(None, Some(Band::Black), None)] {
        assert!(matches!(set(&mut a, wrong), Err(Error::Invalid(_))));
    }
    // It is there when the space is opened again.
    let policy = a.space.policy().unwrap();
    drop(a);
    let env = world(9);
    let profile =
        Profile::open(env, dirs[0].path(), &unlock(), Access::ReadWrite, options("first")).unwrap();
    let (space, _writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    assert_eq!(space.policy().unwrap(), policy);
}

#[test]
fn an_admin_invites_other_members_where_owners_let_it_and_its_own_devices_anyway() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    a.writer.change_role(b.space.device(), Role::Admin, Band::Red).unwrap();
    meet(&mut a, &mut b);
    let invite =
        |b: &Device, of| b.profile.invite_on(&b.space, Vec::new(), terms(of, Role::Writer));
    assert!(invite(&b, Whose::New).is_ok(), "in a shared space");
    set(&mut a, PolicyChange { invite: Some(Role::Owner), ..PolicyChange::default() }).unwrap();
    meet(&mut a, &mut b);
    let refused = invite(&b, Whose::New).unwrap_err();
    assert!(refused.to_string().contains("larder space policy shared:test"), "{refused}");
    assert!(invite(&b, Whose::Own).is_ok());
    assert!(invite(&a, Whose::New).is_ok());
}
