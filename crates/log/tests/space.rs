//! A space from its genesis to a second device's first entry, as its parts are used together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod fixture;

use fixture::{Device, Seeded, Space};
use larder_log::act::{Act, EnrolmentAct, EpochReason};
use larder_log::epoch::{open_epoch_act, receive_epoch};
use larder_log::merkle::Frontier;
use larder_log::roster::Roster;
use larder_log::{
    Address, Band, Batch, BatchError, Class, Dep, DisclosedField, DisclosureError, Field, Header,
    ObjectProof, Opened, Payload, SectionCommitment, SectionError, VoidReason, kind, open_section,
    pack,
};
use larder_types::{DeviceId, EntryHash, EpochId, Hash, SpaceId};
use proptest::prelude::*;

#[test]
fn a_space_is_named_by_its_genesis_entry() {
    let space = Space::new(1);
    let genesis = &space.founder.entries[0];
    assert!(genesis.header.is_genesis());
    assert_eq!(genesis.header.space_id(), space.id);
    assert_eq!(SpaceId::from(genesis.hash), space.id);
    let mut founded_elsewhere = Roster::new(SpaceId::new([7; 32]));
    let (header, index, act) = &space.acts()[0];
    assert_eq!(founded_elsewhere.apply(header, *index, act), Err(VoidReason::NotGenesis));
}

#[test]
fn both_devices_receive_the_epoch_and_a_stranger_does_not() {
    let space = Space::new(1);
    let acts = space.acts();
    let (header, _, Act::Epoch(act)) = &acts[3] else { panic!("the second epoch") };
    let opener = space.founder.id();
    for device in [&space.founder, &space.second] {
        let secrets = receive_epoch(&header.space, opener, act, device.id(), &device.sealing);
        let green = secrets.unwrap().unwrap().at(Band::Green, 5).unwrap();
        let expected = space.secrets.at(Band::Green, 5).unwrap();
        assert_eq!(green.secret().expose(), expected.secret().expose());
    }
    let stranger = Device::new(&mut Seeded(9));
    let none = receive_epoch(&header.space, opener, act, stranger.id(), &stranger.sealing);
    assert!(none.unwrap().is_none());
    let wrong_key = receive_epoch(&header.space, opener, act, space.second.id(), &stranger.sealing);
    assert!(wrong_key.is_err());
    let mut lying = act.clone();
    lying.commitments[0].1 = Hash::new([0; 32]);
    let caught =
        receive_epoch(&header.space, opener, &lying, space.second.id(), &space.second.sealing);
    assert!(caught.is_err(), "the opener sealed another secret than it committed to");
}

#[test]
fn a_device_reads_its_band_and_those_below() {
    let devices: Vec<Device> = (0..3).map(|seed| Device::new(&mut Seeded(seed))).collect();
    let recipients: Vec<_> = devices
        .iter()
        .zip(Band::SHARED)
        .map(|(device, band)| (device.id(), device.sealing.public(), band))
        .collect();
    let space = SpaceId::new([1; 32]);
    let (act, _) = open_epoch_act(
        &mut Seeded(5),
        &space,
        devices[2].id(),
        &recipients,
        EpochReason::Age,
        Vec::new(),
    )
    .unwrap();
    for (device, clearance) in devices.iter().zip(Band::SHARED) {
        let secrets = receive_epoch(&space, devices[2].id(), &act, device.id(), &device.sealing);
        let secrets = secrets.unwrap().unwrap();
        for band in Band::SHARED {
            assert_eq!(secrets.at(band, 0).is_some(), band <= clearance);
        }
    }
}

#[test]
fn batches_verify_one_after_the_other() {
    let space = Space::new(1);
    let batch = space.founder.batch(space.id, 1);
    let verified = batch.verify(&space.id, &Frontier::new()).unwrap();
    assert_eq!(verified.after, space.founder.frontier);
    assert_eq!(verified.entries.len(), 3);
    assert_eq!(verified.nodes.len(), 4, "three leaves and one pair");
    let tail = space.founder.batch(space.id, 3);
    let mut two = Frontier::new();
    for entry in &verified.entries[..2] {
        two.append(entry.hash.into(), &mut |_| {});
    }
    assert!(tail.verify(&space.id, &two).is_ok());
    assert_eq!(
        tail.verify(&space.id, &Frontier::new()),
        Err(BatchError::NotNext { first: 3, have: 0 })
    );
    assert_eq!(tail.size(), 3);
}

#[test]
fn a_receiver_may_get_sections_opened_or_not_at_all() {
    let mut space = Space::new(1);
    let opened = space.opened(kind::DOCUMENT_CREATE, b"carried".to_vec());
    let mut batch = space.founder.batch(space.id, 1);
    batch.entries[0].payloads[0] = Payload::Missing;
    assert!(batch.verify(&space.id, &Frontier::new()).is_ok());
    batch.entries[1].payloads[0] = Payload::Opened(pack(&opened).unwrap());
    assert_eq!(
        batch.verify(&space.id, &Frontier::new()),
        Err(BatchError::Section { seq: 2, index: 0, source: SectionError::Mismatch })
    );
    batch.entries[1].payloads[0] = Payload::Opened(pack(&first_note(&space)).unwrap());
    assert!(batch.verify(&space.id, &Frontier::new()).is_ok());
}

#[test]
fn a_batch_that_might_hold_too_much_opened_is_refused_before_anything_is() {
    let mut space = Space::new(1);
    let opened = space.opened(kind::DOCUMENT_CREATE, b"small".to_vec());
    // Each within the limits of a section and of an entry: 32 MiB sealed, by its commitments, and
    // next to nothing as it travels.
    let claims =
        SectionCommitment { len: 8 << 20, ..space.founder.entries[1].commitments[0].clone() };
    let mut batch = space.founder.batch(space.id, 1);
    let carried = Payload::Opened(pack(&opened).unwrap());
    for _ in 0..4 {
        let mut entry = batch.entries[1].clone();
        entry.commitments = vec![claims.clone()];
        entry.payloads = vec![carried.clone()];
        batch.entries.push(entry);
    }
    let refused = batch.verify_log(&space.id, &Frontier::new());
    assert!(matches!(refused, Err(BatchError::TooLarge { len }) if len > 32 << 20), "{refused:?}");
    // What was pruned counts for nothing.
    for entry in &mut batch.entries[3..] {
        entry.payloads = vec![Payload::Missing];
    }
    let refused = batch.verify_log(&space.id, &Frontier::new());
    assert!(matches!(refused, Err(BatchError::Entry { seq: 4, .. })), "{refused:?}");
}

#[test]
fn a_batch_travels_in_one_form_alone() {
    let space = Space::new(1);
    let mut batch = space.founder.batch(space.id, 1);
    batch.entries[2].payloads[0] = Payload::Missing;
    let bytes = batch.encode();
    assert_eq!(Batch::decode(&bytes, &space.id).unwrap(), batch);
    // To who thinks of another space it is another batch, which nobody signed.
    let other = SpaceId::new([7; 32]);
    let read = Batch::decode(&bytes, &other).unwrap();
    assert!(read.verify(&other, &Frontier::new()).is_err());
    assert!(Batch::decode(&bytes[..bytes.len() - 1], &space.id).is_err());
    assert!(Batch::decode(&[&bytes[..], &[0]].concat(), &space.id).is_err());
    // What follows from the rest is not there: headers, and of what is sealed digests and lengths.
    let sections: u64 = batch.entries.iter().map(|entry| entry.commitments.len() as u64).sum();
    let sealed: u64 = batch.entries.iter().map(larder_log::BatchEntry::sealed_bytes).sum();
    let bound = sealed + 115 + 2 * 36 + 3 * 6 + sections * 62 + 40;
    assert!(
        bytes.len() as u64 <= bound,
        "{} of {bound}: {sections} sections of {sealed}",
        bytes.len()
    );
}

fn first_note(space: &Space) -> Opened {
    let entry = &space.founder.entries[1];
    let acts = space.acts();
    let (header, _, Act::Epoch(act)) = &acts[1] else { panic!("the first epoch") };
    let secrets = receive_epoch(
        &header.space,
        space.founder.id(),
        act,
        space.founder.id(),
        &space.founder.sealing,
    );
    let address = Address {
        space: space.id,
        device: space.founder.id(),
        seq: 2,
        index: 0,
        epoch: EpochId::from(space.founder.entries[0].hash),
        step: 0,
        band: Band::Green,
    };
    let secret = secrets.unwrap().unwrap().at(Band::Green, 0).unwrap();
    open_section(&address, secret.secret(), &entry.commitments[0], &entry.sealed[0]).unwrap()
}

type Change = fn(&mut Batch, &Space);

#[test]
fn a_batch_with_any_part_exchanged_is_refused() {
    let space = Space::new(1);
    let good = space.founder.batch(space.id, 1);
    let changes: [(&str, Change); 9] = [
        ("no entries", |batch, _| batch.entries.clear()),
        ("signature", |batch, _| batch.signature[5] ^= 1),
        ("device", |batch, space| batch.device = space.second.id()),
        ("order", |batch, _| batch.entries.swap(1, 2)),
        ("last entry missing", |batch, _| drop(batch.entries.pop())),
        ("sealed bytes", |batch, _| {
            let Payload::Sealed(sealed) = &mut batch.entries[1].payloads[0] else { panic!() };
            sealed[3] ^= 1;
        }),
        ("payload missing", |batch, _| drop(batch.entries[0].payloads.pop())),
        ("commitment", |batch, _| batch.entries[0].commitments[0].len += 1),
        ("header", |batch, _| *batch.entries[0].header.last_mut().unwrap() ^= 1),
    ];
    for (what, change) in changes {
        let mut batch = good.clone();
        change(&mut batch, &space);
        assert!(batch.verify(&space.id, &Frontier::new()).is_err(), "{what}");
    }
    let other_space = SpaceId::new([7; 32]);
    assert!(good.verify(&other_space, &Frontier::new()).is_err());
}

#[test]
fn receipts_verify_alone_and_only_whole() {
    let space = Space::new(1);
    for seq in 1..=3 {
        let receipt = space.founder.receipt(space.id, seq);
        let text = receipt.to_tlog_proof();
        let again = larder_log::Receipt::parse(&text).unwrap();
        assert_eq!(again, receipt);
        assert_eq!(again.verify().unwrap().seq, seq);
        for (at, _) in text.char_indices() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let outcome = larder_log::Receipt::parse(&changed).map(|receipt| receipt.verify());
            assert!(!matches!(outcome, Ok(Ok(_))), "byte {at} of\n{text}");
        }
    }
    let mut moved = space.founder.receipt(space.id, 2);
    moved.index = 0;
    assert!(moved.verify().is_err());
    let mut foreign = space.founder.receipt(space.id, 2);
    foreign.checkpoint.device = space.second.id();
    assert!(foreign.verify().is_err());
}

#[test]
fn a_receipt_for_one_object_names_its_section() {
    let space = Space::new(1);
    let entry = &space.founder.entries[2];
    let mut receipt = space.founder.receipt(space.id, 3);
    for index in 0..2 {
        receipt.object = ObjectProof::new(&entry.commitments, index);
        assert!(receipt.verify().is_ok());
        let mut wrong = receipt.clone();
        wrong.object.as_mut().unwrap().index = 1 - index;
        assert!(wrong.verify().is_err());
    }
    assert!(ObjectProof::new(&entry.commitments, 2).is_none());
}

#[test]
fn any_field_can_be_disclosed_and_the_others_stay_hidden() {
    let space = Space::new(1);
    let opened = first_note(&space);
    let commitment = &space.founder.entries[1].commitments[0];
    assert!(opened.matches(commitment));
    let disclosure = opened.disclose(&[Field::Kind, Field::Collection], false);
    let shown = disclosure.verify(commitment).unwrap();
    assert_eq!(shown.kind, Some(kind::DOCUMENT_CREATE));
    assert_eq!(shown.collection, Some(Some("notes".parse().unwrap())));
    assert_eq!((shown.clock, shown.actor, shown.body), (None, None, None));
    let whole = opened.disclose(&[], true).verify(commitment).unwrap();
    assert_eq!(whole.body.as_deref(), Some(&b"first note"[..]));

    let mut lie = disclosure.clone();
    let DisclosedField::Shown { value, .. } = &mut lie.fields[0] else { panic!() };
    value[0] ^= 1;
    assert_eq!(lie.verify(commitment), Err(DisclosureError::Meta));
    let mut unbound = disclosure;
    unbound.body = opened.disclose(&[], true).body;
    assert_eq!(unbound.verify(commitment), Err(DisclosureError::Body));
    let mut other_body = opened.disclose(&[], true);
    other_body.body.as_mut().unwrap().1 = b"First note".to_vec();
    assert_eq!(other_body.verify(commitment), Err(DisclosureError::Body));
}

#[test]
fn the_roster_admits_who_was_enrolled_and_has_seen_it() {
    let space = Space::new(1);
    let roster = space.roster();
    assert_eq!(roster.name().unwrap().as_str(), "shared:household");
    assert_eq!(roster.devices().count(), 2);
    for entry in space.founder.entries.iter().chain(&space.second.entries) {
        assert_eq!(roster.is_authorised(&entry.header), Ok(()));
    }
    let transport = space.second.transport.public();
    assert_eq!(roster.by_transport(&transport).unwrap().0, &space.second.id());

    let first = &space.second.entries[0].header;
    let unaware = Header { deps: Vec::new(), ..first.clone() };
    assert_eq!(roster.is_authorised(&unaware), Err(VoidReason::EnrolmentNotSeen));
    let earlier = Dep { seq: 2, ..first.deps[0] };
    let too_early = Header { deps: vec![earlier], ..first.clone() };
    assert_eq!(roster.is_authorised(&too_early), Err(VoidReason::EnrolmentNotSeen));
    let stranger = Header { device: DeviceId::new([9; 32]), ..first.clone() };
    assert_eq!(roster.is_authorised(&stranger), Err(VoidReason::NotEnrolled));
}

#[test]
fn one_writes_to_the_epoch_that_exactly_the_cleared_devices_can_read() {
    let space = Space::new(1);
    let mut roster = Roster::new(space.id);
    let acts = space.acts();
    for (header, index, act) in &acts[..2] {
        roster.apply(header, *index, act).unwrap();
    }
    let first = EpochId::from(space.founder.entries[0].hash);
    assert_eq!(roster.epoch_for_writing(Band::Green, &|_| true), Some(first));
    let (header, index, enrolment) = &acts[2];
    roster.apply(header, *index, enrolment).unwrap();
    assert_eq!(
        roster.epoch_for_writing(Band::Green, &|_| true),
        None,
        "the second device lacks its secrets"
    );
    let (header, index, epoch) = &acts[3];
    roster.apply(header, *index, epoch).unwrap();
    assert_eq!(roster.epoch_for_writing(Band::Green, &|_| true), Some(space.epoch));
    assert_eq!(roster.epoch_for_writing(Band::Green, &|_| false), None, "without its secrets, no");
}

#[test]
fn acts_outside_of_control_sections_are_void() {
    let mut space = Space::new(1);
    let enrolment = enrols(space.second.enrolment("x"));
    let opened = space.opened(kind::ENROLMENT, enrolment.to_body());
    assert_eq!(Act::read(Class::Data as u8, &opened), Err(VoidReason::NotControl));
    assert_eq!(Act::read(Class::Control as u8, &opened), Ok(Some(enrolment)));
    let note = space.opened(kind::DOCUMENT_CREATE, Vec::new());
    assert_eq!(Act::read(Class::Data as u8, &note), Ok(None));
}

#[test]
fn an_enrolment_with_a_weak_key_or_an_unknown_suite_is_void() {
    let space = Space::new(1);
    let good = space.second.enrolment("x");
    let check = |change: fn(&mut larder_log::act::Enrolment)| {
        let mut enrolment = good.clone();
        change(&mut enrolment);
        Act::from_body(kind::ENROLMENT, &enrols(enrolment).to_body()).unwrap_err()
    };
    assert_eq!(check(|e| e.keys.suite = 1), VoidReason::Suite(1));
    assert_eq!(check(|e| e.keys.signing = DeviceId::new([0; 32])), VoidReason::WeakKey);
    let zero_ack = larder_crypto::AckPublic::new([0; 32]);
    let mut weak = good.clone();
    weak.keys.ack = zero_ack;
    let body = enrols(weak).to_body();
    assert_eq!(Act::from_body(kind::ENROLMENT, &body), Err(VoidReason::WeakKey));
    let mut weak = good.clone();
    weak.keys.sealing = larder_crypto::SealingPublic::new([0; 1216]);
    let body = enrols(weak).to_body();
    assert_eq!(Act::from_body(kind::ENROLMENT, &body), Err(VoidReason::WeakKey));
    assert!(matches!(check(|e| e.label = "x".repeat(129)), VoidReason::Malformed(_)));
    assert!(matches!(check(|e| e.v = 1), VoidReason::Malformed(_)));
}

fn enrols(enrolment: larder_log::act::Enrolment) -> Act {
    Act::Enrolment(EnrolmentAct { parents: vec![EntryHash::new([1; 32])], enrolment })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn headers_have_one_encoding(
        space: [u8; 32], device: [u8; 32], seq in 1..u64::MAX, epoch: [u8; 32],
        step in 0..=larder_types::limits::STEP_MAX,
        deps in prop::collection::btree_map(
            any::<[u8; 32]>(),
            (1..u64::MAX, any::<[u8; 32]>()),
            0..5,
        ),
        root: [u8; 32], n in 1..4096_u32, at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let header = Header {
            v: 0,
            space: SpaceId::new(space),
            device: DeviceId::new(device),
            seq,
            deps: deps
                .into_iter()
                .filter(|(dep, _)| *dep != device)
                .map(|(dep, (seq, entry))| Dep {
                    device: DeviceId::new(dep),
                    seq,
                    entry: EntryHash::new(entry),
                })
                .collect(),
            epoch: EpochId::new(epoch),
            step,
            n,
            sections_root: Hash::new(root),
        };
        prop_assume!(!header.is_genesis());
        let mut bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Ok(header.clone()));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(Header::decode(&bytes), Ok(header));
    }

    #[test]
    fn decoders_never_panic(bytes: Vec<u8>, text: String) {
        let _ = Header::decode(&bytes);
        let _ = Batch::decode(&bytes, &SpaceId::new([7; 32]));
        let _ = Opened::decode(&bytes);
        for kind in [kind::GENESIS, kind::ENROLMENT, kind::EPOCH, 99] {
            let _ = Act::from_body(kind, &bytes);
        }
        let _ = larder_log::Receipt::parse(&text);
        let _ = larder_log::checkpoint::Checkpoint::parse_note(&text);
    }

    #[test]
    fn a_batch_decodes_to_itself_and_no_flipped_bit_passes(
        at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let space = Space::new(1);
        let batch = space.founder.batch(space.id, 1);
        let mut bytes = batch.encode();
        prop_assert_eq!(Batch::decode(&bytes, &space.id).unwrap(), batch);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = Batch::decode(&bytes, &space.id) {
            prop_assert!(changed.verify(&space.id, &Frontier::new()).is_err());
        }
    }
}

#[test]
fn headers_that_say_what_none_may_say_are_refused() {
    let space = Space::new(1);
    let good = space.second.entries[0].header.clone();
    let dep = good.deps[0];
    let lower = Dep { device: DeviceId::new([0; 32]), ..dep };
    let changes: [(&str, Header); 9] = [
        ("version", Header { v: 1, ..good.clone() }),
        ("seq 0", Header { seq: 0, ..good.clone() }),
        (
            "dep on itself",
            Header { deps: vec![Dep { device: good.device, ..dep }], ..good.clone() },
        ),
        ("dep on entry 0", Header { deps: vec![Dep { seq: 0, ..dep }], ..good.clone() }),
        ("dep twice", Header { deps: vec![dep, dep], ..good.clone() }),
        ("deps out of order", Header { deps: vec![dep, lower], ..good.clone() }),
        ("too many sections", Header { n: 4097, ..good.clone() }),
        ("root over nothing", Header { n: 0, ..good.clone() }),
        ("genesis with deps", Header { space: SpaceId::new([0; 32]), ..good.clone() }),
    ];
    for (what, header) in changes {
        assert!(Header::decode(&header.encode()).is_err(), "{what}");
    }
    assert_eq!(Header::decode(&good.encode()), Ok(good));
}
