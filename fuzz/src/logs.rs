use std::fmt::Debug;

use larder_log::ack::Ack;
use larder_log::act::{Act, DeviceKeys, EnrolmentAct, EpochAct, Genesis};
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::Frontier;
use larder_log::roster::Roster;
use larder_log::snapshot::{Content, Item, Part};
use larder_log::{
    Address, Band, Batch, Dep, DisclosedField, Disclosure, Field, Header, Metadata, Opened,
    Payload, Receipt, SectionCommitment, kind, open_section, pack, unpack,
};
use larder_types::{Clock, CollectionName, DeviceId, SpaceName, canonical};
use minicbor::{Decode, Encode};

use crate::{World, part, parts};

const BYTES_MAX: usize = 1 << 20;

/// Canonical values: the first byte says of which type. What is read is written the same.
pub fn values(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which {
        0 => {
            if let Ok(header) = Header::decode(bytes) {
                assert_eq!(header.encode(), bytes);
                let _ = Roster::new(header.space_id()).is_authorised(&header);
            }
        }
        1 => same::<SectionCommitment>(bytes),
        2 => {
            if let Ok(opened) = Opened::decode(bytes) {
                assert_eq!(opened.encode(), bytes);
                let _ = opened.meta_commitment();
            }
            let _ = larder_log::unpack(bytes);
        }
        3 => same::<Genesis>(bytes),
        4 => same::<EnrolmentAct>(bytes),
        5 => same::<EpochAct>(bytes),
        6 => same::<DeviceKeys>(bytes),
        7 => same::<Dep>(bytes),
        8 => same::<Frontier>(bytes),
        9 => same::<Ack>(bytes),
        10 => same::<Metadata>(bytes),
        11 => same::<Clock>(bytes),
        12 => same::<Payload>(bytes),
        13 => same::<Vec<(u64, String)>>(bytes),
        14 => {
            let Ok(text) = str::from_utf8(bytes) else { return };
            if let Ok(name) = text.parse::<SpaceName>() {
                assert_eq!(name.to_string(), text);
            }
            if let Ok(name) = text.parse::<CollectionName>() {
                assert_eq!(name.to_string(), text);
            }
            if let Ok(id) = text.parse::<DeviceId>() {
                assert_eq!(id.to_string(), text.to_lowercase());
            }
        }
        15.. => {
            use kind::{ENROLMENT, EPOCH, ERASE, ERASED, GENESIS, SNAPSHOT};
            for kind in [GENESIS, ENROLMENT, EPOCH, SNAPSHOT, ERASE, ERASED] {
                if let Ok(Some(act)) = Act::from_body(kind, bytes) {
                    assert_eq!(act.to_body(), bytes);
                    judge(&act);
                }
            }
        }
    }
}

/// An act of whatever content, in an entry that may carry it: it counts or it is void.
fn judge(act: &Act) {
    let world = World::new();
    let mut roster = Roster::new(world.space);
    let founding = &world.entries[0].header;
    let _ = roster.apply(founding, 0, &world.acts[0]);
    let _ = roster.apply(&world.entries[1].header, 0, act);
    let _ = roster.apply(founding, 0, act);
    let _ = roster.epoch_for_writing(Band::Green, &|_| true);
    let _ = roster.cleared();
}

fn same<T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = canonical::decode::<T>(bytes, BYTES_MAX) {
        let again = canonical::encode(&value);
        assert_eq!(again, bytes);
        assert_eq!(canonical::decode::<T>(&again, BYTES_MAX).as_ref(), Ok(&value));
    }
}

pub(crate) fn value_seeds(world: &World) -> Vec<Vec<u8>> {
    let tagged = |tag: u8, bytes: Vec<u8>| [vec![tag], bytes].concat();
    let entry = &world.entries[0];
    let mut frontier = Frontier::new();
    frontier.append(world.checkpoint(3).0.root, &mut |_| ());
    let dep = Dep { device: entry.header.device, seq: 1, entry: entry.hash };
    let (checkpoint, _) = world.checkpoint(3);
    let ack = Ack::sign(&checkpoint, entry.header.device, &world.ack, 1_700_000_000);
    let mut seeds = vec![
        tagged(0, entry.header_bytes.clone()),
        tagged(1, canonical::encode(&entry.commitments[0])),
        tagged(2, world.opened[2].encode()),
        tagged(6, canonical::encode(&world.keys)),
        tagged(7, canonical::encode(&dep)),
        tagged(8, canonical::encode(&frontier)),
        tagged(9, canonical::encode(&ack)),
        tagged(10, canonical::encode(&world.opened[2].metadata)),
        tagged(11, canonical::encode(&world.opened[2].metadata.clock)),
        tagged(12, canonical::encode(&Payload::Sealed(entry.sealed[0].clone()))),
        tagged(13, canonical::encode(&vec![(1_u64, "one".to_owned())])),
        tagged(14, b"shared:household".to_vec()),
        tagged(14, b"recipes".to_vec()),
        tagged(14, entry.header.device.to_string().into_bytes()),
    ];
    for act in &world.acts {
        let tag = match act {
            Act::Genesis(_) => 3,
            Act::Enrolment(_) => 4,
            Act::Change(_) | Act::Revocation(_) | Act::Recovery(_) => 15,
            Act::Epoch(_) => 5,
            Act::Snapshot(_)
            | Act::Erase(_)
            | Act::Erased(_)
            | Act::SealingKey(_)
            | Act::Retention(_)
            | Act::Quarantine(_)
            | Act::Lack(_)
            | Act::Policy(_)
            | Act::Contract(_)
            | Act::Adoption(_) => 15,
        };
        seeds.push(tagged(tag, act.to_body()));
        seeds.push(tagged(15, act.to_body()));
    }
    seeds
}

/// A batch of unknown origin, on an empty log and on one that has its first entry.
pub fn batch(data: &[u8]) {
    let world = World::new();
    let Ok(batch) = Batch::decode(data, &world.space) else { return };
    assert_eq!(batch.encode(), data);
    let mut before = Frontier::new();
    for entry in [None, world.entries.first()] {
        if let Some(entry) = entry {
            before.append(entry.hash.into(), &mut |_| ());
        }
        if let Ok(verified) = batch.verify(&world.space, &before) {
            assert_eq!(verified.after.size(), batch.size());
            assert_eq!(verified.entries.len(), batch.entries.len());
        }
    }
}

pub(crate) fn batch_seeds(world: &World) -> Vec<Vec<u8>> {
    let batch = world.batch();
    assert!(batch.verify(&world.space, &Frontier::new()).is_ok(), "the seed is not valid");
    let last = Batch { first_seq: 3, entries: batch.entries[2..].to_vec(), ..batch.clone() };
    let mut carried = last.clone();
    carried.entries[0].payloads = vec![Payload::Opened(pack(&world.opened[3]).unwrap())];
    vec![batch.encode(), last.encode(), carried.encode()]
}

/// The texts that outsiders read: checkpoints, acknowledgements, receipts.
pub fn notes(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok((checkpoint, signature)) = Checkpoint::parse_note(text) {
        let _ = checkpoint.verify(&signature);
        let again = checkpoint.to_note(&signature);
        assert_eq!(Checkpoint::parse_note(&again).unwrap(), (checkpoint, signature));
    }
    if let Ok(receipt) = Receipt::parse(text) {
        let again = Receipt::parse(&receipt.to_tlog_proof()).unwrap();
        assert_eq!(again, receipt);
        assert_eq!(again.verify().is_ok(), receipt.verify().is_ok());
    }
    let world = World::new();
    if let Ok(ack) = Ack::parse_note_line(&world.checkpoint(3).0, text) {
        let _ = ack.verify(&world.ack.public());
    }
}

pub(crate) fn note_seeds(world: &World) -> Vec<Vec<u8>> {
    let (checkpoint, signature) = world.checkpoint(3);
    let note = checkpoint.to_note(&signature);
    let device = world.signing.device_id();
    let ack = Ack::sign(&checkpoint, device, &world.ack, 1_700_000_000);
    let line = ack.to_note_line(&world.ack.public());
    let receipt = world.receipt(1);
    assert!(receipt.verify().is_ok(), "the seed is not valid");
    [note.clone(), line.clone(), note + &line, receipt.to_tlog_proof()]
        .map(String::into_bytes)
        .to_vec()
}

/// Sealed bytes under a known key, and what an export shows of a section.
pub fn sections(data: &[u8]) {
    let world = World::new();
    let mut rest = data;
    let (Some(commitment), Some(sealed)) = (part(&mut rest), part(&mut rest)) else { return };
    let Ok(commitment) = canonical::decode::<SectionCommitment>(commitment, BYTES_MAX) else {
        return;
    };
    let header = &world.entries[1].header;
    let address = Address {
        space: header.space,
        device: header.device,
        seq: header.seq,
        index: 0,
        epoch: header.epoch,
        step: 0,
        band: Band::Green,
    };
    if let Ok(opened) = open_section(&address, &world.secret(), &commitment, sealed) {
        assert!(opened.matches(&commitment));
    }
    let mut fields = Field::ALL.map(|_| DisclosedField::Hidden(commitment.meta));
    for field in &mut fields {
        if let Some((salt, value)) = part(&mut rest).and_then(<[u8]>::split_first_chunk) {
            *field = DisclosedField::Shown { salt: *salt, value: value.to_vec() };
        }
    }
    let body = part(&mut rest).and_then(<[u8]>::split_first_chunk);
    let body = body.map(|(salt, body)| (*salt, body.to_vec()));
    let _ = Disclosure { fields, body }.verify(&commitment);
    let _ = unpack(data);
    #[cfg(fuzzing)]
    {
        let _ = larder_log::open_padded(data);
    }
}

pub(crate) fn section_seeds(world: &World) -> Vec<Vec<u8>> {
    let entry = &world.entries[1];
    let shown = world.opened[2].disclose(&Field::ALL, true);
    let mut fields = Vec::new();
    for field in &shown.fields {
        if let DisclosedField::Shown { salt, value } = field {
            fields.push([&salt[..], value].concat());
        }
    }
    let (salt, body) = shown.body.expect("asked for");
    fields.push([&salt[..], &body].concat());
    let commitment = canonical::encode(&entry.commitments[0]);
    let mut all: Vec<&[u8]> = vec![&commitment, &entry.sealed[0]];
    all.extend(fields.iter().map(Vec::as_slice));
    vec![parts(&all), pack(&world.opened[2]).unwrap()]
}

/// A part of a snapshot, as it travels: within its limits, or an error.
pub fn snapshot_parts(data: &[u8]) {
    if let Ok(part) = Part::unpack(data) {
        let again = part.pack().expect("what was unpacked is packed");
        assert_eq!(Part::unpack(&again).ok(), Some(part));
    }
}

pub(crate) fn part_seeds() -> Vec<Vec<u8>> {
    let item = |content| Item { leaf: vec![7; 90], content };
    let document =
        Content::Document { at: 3, pieces: vec![b"{\"n\":1}".to_vec().into(), vec![1; 30].into()] };
    let snapshot = larder_types::Hash::new([3; 32]);
    let packed = |items: Vec<Item>, proof| Part { snapshot, items, proof }.pack();
    [
        packed(Vec::new(), Vec::new()),
        packed(vec![item(Content::Gone)], vec![snapshot; 3]),
        packed(vec![item(document.clone()), item(Content::Gone), item(document)], Vec::new()),
    ]
    .into_iter()
    .map(|packed| packed.expect("a part is packed"))
    .collect()
}
