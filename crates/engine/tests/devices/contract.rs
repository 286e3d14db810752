//! What owners want of personal data, for every device of a space.

use larder_engine::ContractAction::{Raise, Redact, Refuse, Warn};
use larder_engine::PersonalKind::{Contact, Credentials, Health};
use larder_engine::{Band, Contract, Role};

use super::prune::meet;
use super::*;

/// Three owners set it while apart, one of them as its role is taken: all devices come to the same,
/// and what is beside each other is the strictest.
#[test]
fn contracts_of_owners_hold_on_all_devices_in_any_order() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut c = a.invite(dirs[2].path(), 3);
    meet(&mut b, &mut c);
    a.writer.set_contract(None, Health, Some(Raise(Band::Amber))).unwrap();
    b.writer.set_contract(None, Health, Some(Warn)).unwrap();
    c.writer.set_contract(None, Health, None).unwrap();
    a.writer.set_contract(Some("notes"), Health, Some(Raise(Band::Red))).unwrap();
    b.writer.set_contract(Some("notes"), Health, Some(Redact)).unwrap();
    b.writer.set_contract(Some("vault"), Credentials, Some(Warn)).unwrap();
    c.writer.set_contract(None, Credentials, Some(Refuse)).unwrap();
    meet(&mut a, &mut b);
    meet(&mut b, &mut c);
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    let contract = |collection: Option<&str>, kind, action| {
        let collection = collection.map(|name| name.parse().unwrap());
        Contract { collection, kind, action }
    };
    let expected = [
        contract(None, Health, Raise(Band::Amber)),
        contract(None, Credentials, Refuse),
        contract(Some("notes"), Health, Redact),
        contract(Some("vault"), Credentials, Warn),
    ];
    for device in [&a, &b, &c] {
        assert_eq!(device.space.contracts().unwrap(), expected);
    }
    // Who is an owner no more sets nothing any more, and what it had set beside that is void.
    let id = b.space.device();
    a.writer.change_role(id, Role::Admin, Band::Red).unwrap();
    b.writer.set_contract(None, Health, None).unwrap();
    assert_eq!(b.space.contracts().unwrap().len(), 3);
    meet(&mut a, &mut b);
    meet(&mut b, &mut c);
    for device in [&a, &b, &c] {
        assert_eq!(device.space.contracts().unwrap(), expected);
    }
    let refused = b.writer.set_contract(None, Contact, Some(Warn)).unwrap_err();
    assert!(refused.to_string().contains("owner"), "{refused}");
    let wrong = a.writer.set_contract(None, Contact, Some(Raise(Band::Green)));
    assert!(matches!(wrong, Err(Error::Invalid(_))));
    a.writer.set_contract(Some("notes"), Health, None).unwrap();
    assert_eq!(a.space.contracts().unwrap().len(), 3);
}
