//! Bytes that must never change without a change of version: what was written once opens for ever.
//!
//! `vectors/golden.json` was printed by `print_the_vectors` below; its notes and signatures were
//! checked with another implementation (Python's `cryptography` and `hashlib`), see the README
//! beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod fixture;

use std::collections::BTreeMap;

use fixture::Space;
use larder_crypto::Secret;
use larder_log::ack::{self, Ack};
use larder_log::checkpoint::{self, Checkpoint};
use larder_log::epoch::{BandSecret, ControlSecret};
use larder_log::{Address, Band, Field, Header, Opened, Receipt, SectionCommitment, open_section};
use larder_types::{EpochId, canonical, hex};

const ACK_TIME_S: u64 = 1_700_000_123;

fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// What follows from the fixture's seed, but for sealed bytes, which depend on the compressor.
fn derived() -> BTreeMap<&'static str, String> {
    let control = ControlSecret::new(Secret::new([0xc0; 32]));
    let band = BandSecret::new(Band::Red, 0, Secret::new([0xb0; 32]));
    let opened = opened();
    BTreeMap::from([
        ("control_commitment", control.commitment().to_string()),
        ("control_discovery", hex(control.discovery().expose())),
        ("control_section_secret", hex(control.section_secret().expose())),
        ("control_mask", hex(&[control.mask(&[0xa5; 16])])),
        ("band_commitment", band.commitment().to_string()),
        ("band_next_step", hex(band.next_step().secret().expose())),
        ("opened", hex(&opened.encode())),
        ("meta_commitment", opened.meta_commitment().to_string()),
        ("field_salt_1", {
            let shown = opened.disclose(&[Field::Kind], false);
            let larder_log::DisclosedField::Shown { salt, .. } = &shown.fields[0] else { panic!() };
            hex(salt)
        }),
    ])
}

fn opened() -> Opened {
    let mut metadata = fixture::metadata(larder_log::kind::DOCUMENT_CREATE);
    metadata.collection = Some("notes".parse().unwrap());
    metadata.actor = Some("someone".to_owned());
    Opened { meta_salt: [0x5a; 16], metadata, body: br#"{"title":"Bread"}"#.to_vec() }
}

fn address(header: &Header) -> Address {
    Address {
        space: header.space,
        device: header.device,
        seq: header.seq,
        index: 0,
        epoch: header.epoch,
        step: header.step,
        band: Band::Green,
    }
}

fn golden() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("vectors/golden.json")).unwrap()
}

#[test]
fn derived_values_are_what_they_were() {
    let golden = golden();
    for (name, value) in derived() {
        assert_eq!(golden[name], value, "{name}");
    }
}

#[test]
fn a_header_is_what_it_was() {
    let golden = golden();
    let header = Header::decode(&unhex(&golden["header"])).unwrap();
    assert_eq!(hex(&header.encode()), golden["header"]);
    assert_eq!(header.hash().to_string(), golden["entry_hash"]);
    assert_eq!(header.space.to_string(), golden["space"]);
    let genesis = Header::decode(&unhex(&golden["genesis_header"])).unwrap();
    assert_eq!(genesis.space_id().to_string(), golden["space"]);
}

#[test]
fn a_sealed_section_opens_as_it_did() {
    let golden = golden();
    let header = Header::decode(&unhex(&golden["header"])).unwrap();
    let commitment: SectionCommitment =
        canonical::decode(&unhex(&golden["section"]), 4096).unwrap();
    assert_eq!(commitment.leaf().to_string(), golden["section_leaf"]);
    assert_eq!(commitment.leaf(), header.sections_root, "the only section is the root");
    let secret = Secret::from_slice(&unhex(&golden["section_secret"])).unwrap();
    let sealed = unhex(&golden["sealed"]);
    let opened = open_section(&address(&header), &secret, &commitment, &sealed).unwrap();
    assert_eq!(opened.body, b"first note");
}

#[test]
fn notes_are_what_they_were() {
    let golden = golden();
    let receipt = Receipt::parse(&golden["tlog_proof"]).unwrap();
    assert_eq!(receipt.to_tlog_proof(), golden["tlog_proof"]);
    assert_eq!(hex(&receipt.header), golden["header"]);
    receipt.verify().unwrap();
    let (checkpoint, signature) = Checkpoint::parse_note(&golden["checkpoint"]).unwrap();
    assert_eq!(checkpoint, receipt.checkpoint);
    assert_eq!(checkpoint.to_note(&signature), golden["checkpoint"]);
    assert_eq!(checkpoint::vkey(&checkpoint.space, &checkpoint.device), golden["vkey"]);
    let space = Space::new(1);
    let ack = Ack::parse_note_line(&checkpoint, &golden["ack"]).unwrap();
    let key = space.second.ack.public();
    assert_eq!((ack.acker, ack.time_s), (space.second.id(), ACK_TIME_S));
    ack.verify(&key).unwrap();
    assert_eq!(ack.to_note_line(&key), golden["ack"]);
    assert_eq!(ack::vkey(&ack.acker, &key), golden["ack_vkey"]);
    let cosigned = format!("{}{}", golden["checkpoint"], golden["ack"]);
    assert_eq!(Checkpoint::parse_note(&cosigned).unwrap(), (checkpoint, signature));
}

#[test]
fn an_acknowledgement_with_any_change_is_refused() {
    let space = Space::new(1);
    let checkpoint = space.founder.checkpoint(space.id);
    let key = space.second.ack.public();
    let good = Ack::sign(&checkpoint, space.second.id(), &space.second.ack, ACK_TIME_S);
    good.verify(&key).unwrap();
    let changed = [
        Ack { size: good.size + 1, ..good.clone() },
        Ack { time_s: good.time_s + 1, ..good.clone() },
        Ack { time_s: u64::MAX, ..good.clone() },
        Ack { root: larder_types::Hash::new([0; 32]), ..good.clone() },
        Ack { device: space.second.id(), ..good.clone() },
    ];
    for ack in changed {
        assert!(ack.verify(&key).is_err());
    }
    assert!(good.verify(&space.founder.ack.public()).is_err());
}

#[test]
#[ignore = "prints the vectors; for a new version of the format"]
fn print_the_vectors() {
    let space = Space::new(1);
    let entry = &space.founder.entries[1];
    let first_epoch = EpochId::from(space.founder.entries[0].hash);
    let acts = space.acts();
    let (header, _, larder_log::act::Act::Epoch(act)) = &acts[1] else { panic!() };
    let (id, key) = (space.founder.id(), &space.founder.sealing);
    let secrets = larder_log::epoch::receive_epoch(&header.space, id, act, id, key);
    let secret = secrets.unwrap().unwrap().at(Band::Green, 0).unwrap();
    let receipt = space.founder.receipt(space.id, 2);
    let ack = Ack::sign(&receipt.checkpoint, space.second.id(), &space.second.ack, ACK_TIME_S);
    let ack_key = space.second.ack.public();
    let mut all = derived();
    all.extend([
        ("space", space.id.to_string()),
        ("genesis_header", hex(&space.founder.entries[0].header_bytes)),
        ("header", hex(&entry.header_bytes)),
        ("entry_hash", entry.hash.to_string()),
        ("section", hex(&canonical::encode(&entry.commitments[0]))),
        ("section_leaf", entry.commitments[0].leaf().to_string()),
        ("section_secret", hex(secret.secret().expose())),
        ("sealed", hex(&entry.sealed[0])),
        ("tlog_proof", receipt.to_tlog_proof()),
        ("checkpoint", receipt.checkpoint.to_note(&receipt.signature)),
        ("vkey", checkpoint::vkey(&space.id, &id)),
        ("ack", ack.to_note_line(&ack_key)),
        ("ack_vkey", ack::vkey(&ack.acker, &ack_key)),
    ]);
    assert_eq!(entry.header.epoch, first_epoch);
    println!("{}", serde_json::to_string_pretty(&all).unwrap());
}

#[test]
fn the_page_on_the_format_shows_these_bytes() {
    let page = include_str!("../../../docs/format/log.md");
    let golden = golden();
    for name in ["checkpoint", "vkey", "ack", "ack_vkey", "tlog_proof"] {
        assert!(page.contains(&golden[name]), "docs/format/log.md shows another {name}");
    }
    assert!(page.replace('\n', "").contains(&golden["header"]));
}

#[test]
fn payloads_are_drawn_as_they_are() {
    use larder_log::Payload;
    for (payload, bytes) in [
        (Payload::Missing, "820080"),
        (Payload::Sealed(vec![7]), "8201814107"),
        (Payload::Opened(vec![7]), "8202814107"),
    ] {
        assert_eq!(hex(&canonical::encode(&payload)), bytes);
    }
}
