//! What a profile's database keeps.

use larder_store::migrate::{PROFILE, Run};
use larder_store::profile::{self, Home, Joining, Membership, Peer, Space};
use larder_store::{ErrorKind, StoreError};
use larder_types::{DeviceId, Hash, SpaceId, Timestamp, TransportId};
use rusqlite::Connection;

fn database() -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    PROFILE.migrate(&mut conn, Run::at(Timestamp(1))).unwrap();
    conn
}

fn space(n: u8) -> Space {
    Space {
        space: SpaceId::new([n; 32]),
        name: format!("shared:s{n}").parse().unwrap(),
        home: Home {
            file: format!("{n}.db"),
            wrapped_key: vec![n; 72],
            key_created_at: Timestamp(7),
            rekey_wished_at: None,
        },
        device: DeviceId::new([n; 32]),
        created_at: Timestamp(7),
        state: Membership::Joining,
        mirror_seq: 0,
        mirror_root: None,
    }
}

#[test]
fn settings_and_keys_are_replaced() {
    let conn = database();
    assert_eq!(profile::setting(&conn, "port").unwrap(), None);
    assert_eq!(profile::key(&conn, "transport").unwrap(), None);
    for value in [b"1".as_slice(), b"2"] {
        profile::set_setting(&conn, "port", value).unwrap();
        profile::set_key(&conn, "transport", value).unwrap();
        assert_eq!(profile::setting(&conn, "port").unwrap().unwrap(), value);
        assert_eq!(profile::key(&conn, "transport").unwrap().unwrap(), value);
    }
}

#[test]
fn a_wish_for_another_key_stays_until_the_key_is_there() {
    let conn = database();
    profile::add_space(&conn, &space(1)).unwrap();
    profile::add_space(&conn, &space(2)).unwrap();
    let home = |n: u8| profile::space(&conn, &SpaceId::new([n; 32])).unwrap().unwrap().home;
    for at in [20, 30] {
        profile::wish_rekey(&conn, &SpaceId::new([1; 32]), Timestamp(at)).unwrap();
        assert_eq!(home(1).rekey_wished_at, Some(Timestamp(20)), "the first wish counts");
    }
    let new = Home {
        file: "1.1.db".into(),
        wrapped_key: vec![9; 72],
        key_created_at: Timestamp(40),
        rekey_wished_at: None,
    };
    profile::set_home(&conn, &SpaceId::new([1; 32]), &new).unwrap();
    assert_eq!((home(1), home(2)), (new.clone(), space(2).home));
    let taken = profile::set_home(&conn, &SpaceId::new([2; 32]), &new).unwrap_err();
    assert_eq!((taken.part(), taken.kind()), (Some("spaces"), ErrorKind::Constraint));
}

#[test]
fn spaces_are_found_by_id_and_name_and_are_unique_in_both() {
    let conn = database();
    let (a, mut b) = (space(1), space(2));
    profile::add_space(&conn, &b).unwrap();
    profile::add_space(&conn, &a).unwrap();
    assert_eq!(profile::spaces(&conn).unwrap(), [a.clone(), b.clone()]);
    let clashes = [
        Space { space: a.space, ..space(3) },
        Space { name: a.name.clone(), ..space(3) },
        Space { home: a.home.clone(), ..space(3) },
    ];
    for clash in clashes {
        let error = profile::add_space(&conn, &clash).unwrap_err();
        assert_eq!((error.part(), error.kind()), (Some("spaces"), ErrorKind::Constraint));
    }
    for state in [Membership::Joined, Membership::Left, Membership::Joining] {
        profile::set_membership(&conn, &b.space, state).unwrap();
        b.state = state;
        assert_eq!(profile::space_named(&conn, &b.name).unwrap(), Some(b.clone()));
    }
    profile::remove_space(&conn, &b.space).unwrap();
    assert_eq!(profile::space(&conn, &b.space).unwrap(), None);
    assert_eq!(profile::space(&conn, &a.space).unwrap(), Some(a));
}

#[test]
fn a_mirror_never_goes_back() {
    let conn = database();
    profile::add_space(&conn, &space(1)).unwrap();
    let id = SpaceId::new([1; 32]);
    for (seq, expected) in [(5, 5), (3, 5), (5, 5), (6, 6)] {
        profile::set_mirror(&conn, &id, seq, &Hash::new([seq as u8; 32])).unwrap();
        let found = profile::space(&conn, &id).unwrap().unwrap();
        assert_eq!(found.mirror_seq, expected);
        assert_eq!(found.mirror_root, Some(Hash::new([expected as u8; 32])));
    }
}

#[test]
fn peers_are_kept_with_their_addresses_last_seen_first() {
    let conn = database();
    let peer = |n: u8, addresses: &[&str], seen| Peer {
        transport: TransportId::new([n; 32]),
        label: format!("device {n}"),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        last_seen: Timestamp(seen),
    };
    let (a, b) = (peer(1, &[], 5), peer(2, &["127.0.0.1:1", "[::1]:2"], 6));
    profile::put_peer(&conn, &a).unwrap();
    profile::put_peer(&conn, &b).unwrap();
    assert_eq!(profile::peers(&conn).unwrap(), [b.clone(), a]);
    let a = peer(1, &["x:1"], 9);
    profile::put_peer(&conn, &a).unwrap();
    assert_eq!(profile::peer(&conn, &a.transport).unwrap(), Some(a.clone()));
    assert_eq!(profile::peers(&conn).unwrap(), [a, b]);
    let error = profile::put_peer(&conn, &peer(3, &["x:1\ny:2"], 1)).unwrap_err();
    assert!(matches!(error, StoreError::Misuse { part: "peers", .. }));
}

#[test]
fn a_join_that_was_cut_can_go_on() {
    let conn = database();
    let mut joining = Joining {
        id: Hash::new([1; 32]),
        space: SpaceId::new([2; 32]),
        wrapped: b"keys".to_vec(),
        started_at: Timestamp(5),
    };
    profile::put_joining(&conn, &joining).unwrap();
    joining.wrapped = b"keys and welcome".to_vec();
    profile::put_joining(&conn, &joining).unwrap();
    assert_eq!(profile::joining(&conn, &joining.id).unwrap(), Some(joining.clone()));
    assert_eq!(profile::joinings(&conn).unwrap(), [joining.clone()]);
    profile::remove_joining(&conn, &joining.id).unwrap();
    assert_eq!(profile::joining(&conn, &joining.id).unwrap(), None);
}
