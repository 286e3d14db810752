//! What stays on its device, looked for everywhere else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_log::Batch;
use larder_protocol::{BlobPosition, BlobReply, Position};
use larder_types::limits::BATCH_BYTES_TARGET;
use larder_types::{DeviceId, ObjectId};
use serde_json::{Value, json};

use super::*;
use crate::durability_tests::World;
use crate::erase::canary_tests::{count, image, profile};
use crate::prune::tests::{Device, add_blob_in};
use crate::steps::{Step, hooked};
use crate::{
    Access, Document, NewBlob, Profile, ProfileOptions, Query, Receipt, Role, Secret, Task, Terms,
    UnitOfWork, Unlock, Whose,
};

fn black_in(dir: &Path, seed: u64) -> Device {
    let profile = profile(dir, seed);
    let (space, writer) = profile.create_space(&"black:diary".parse().unwrap()).unwrap();
    Device { profile, space, writer }
}

fn id(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

fn put(device: &mut Device, n: u8, band: Option<Band>, value: &Value) -> Result<Receipt> {
    let mut unit = UnitOfWork::new();
    if let Some(band) = band {
        unit.band(band);
    }
    unit.put("notes", id(n), value).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
}

fn document(device: &Device, n: u8) -> Document {
    device.space.document(&id(n)).unwrap().unwrap()
}

fn requests(device: &Device) -> Vec<Request> {
    let batch = || {
        Box::new(Batch {
            device: device.space.device(),
            first_seq: 9,
            entries: Vec::new(),
            signature: [0; 64],
        })
    };
    let have = std::iter::empty::<(DeviceId, u64)>().collect();
    let (after, epochs) = (Position::default(), Vec::new());
    vec![
        Request::ReadFrontiers,
        Request::CheckFrontiers { logs: Vec::new(), forks: Vec::new() },
        Request::ReadBatch { after, have, epochs, bytes_target: BATCH_BYTES_TARGET },
        Request::Apply { batch: batch(), more: false },
        Request::Apply { batch: batch(), more: true },
        Request::StoreAcks { acks: Vec::new() },
    ]
}

fn blob_requests(digest: Hash) -> Vec<BlobRequest> {
    let keeps = larder_protocol::Keeps { chunks: vec![digest], ..Default::default() };
    vec![
        BlobRequest::ReadWanted { from: BlobPosition::default(), limit: 9 },
        BlobRequest::ReadChunk { digest },
        BlobRequest::StoreChunk { digest, sealed: vec![1] },
        BlobRequest::ReadHeld { digests: vec![digest] },
        BlobRequest::ReadKept { from: BlobPosition::default(), limit: 9 },
        BlobRequest::ReadDurable { keeps: keeps.clone() },
        BlobRequest::Release { keeps },
    ]
}

/// Whoever asks: a stranger, a lying caller within, and a copy of the very profile, which has the
/// same keys. The control: a space of another kind answers that copy.
#[test]
fn a_space_that_stays_here_gives_nothing_to_whoever_asks() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut black = black_in(dirs[0].path(), 1);
    put(&mut black, 1, None, &json!({"title": "mine"})).unwrap();
    let (me, stranger) = (black.profile.transport_id(), TransportId::new([9; 32]));
    let other = Device::found_by(profile(dirs[1].path(), 2));
    let twin = other.profile.transport_id();
    let mut asked = 0;
    for (mine, open) in requests(&black).into_iter().zip(requests(&other)) {
        for peer in [me, stranger] {
            let answer = black.space.answer(&peer, mine.clone());
            assert_eq!(answer, Answer::Reply(not_shared()), "{mine:?}");
            asked += 1;
        }
        assert_ne!(other.space.answer(&twin, open), Answer::Reply(not_shared()));
    }
    assert_eq!(asked, 12);
    assert!(matches!(black.space.source(), Err(Error::StaysHere { .. })));
    assert!(other.space.source().is_ok());
    assert!(black.space.reading_peer(&me, &[]).unwrap().is_none());
    let digest = Hash::new([1; 32]);
    for request in blob_requests(digest) {
        let answer = black.space.answer_blobs(&me, request, true, &mut |_| true);
        assert!(matches!(answer, BlobAnswer::Reply(BlobReply::Failed { .. })), "{answer:?}");
    }
    // What a session would have had written is not taken in either.
    for task in [Task::StoreAcks(Vec::new()), Task::StopLogs(Vec::new())] {
        assert_eq!(black.writer.answer(task).reply, not_shared());
    }
}

/// No way leads anybody else in: not an invitation of either kind, nor an enrolment that some
/// caller made itself, nor a kit, nor another role.
#[test]
fn nobody_is_let_into_a_space_that_stays_here() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut black = black_in(dirs[0].path(), 1);
    let stays = |result: Result<()>| assert!(matches!(result, Err(Error::StaysHere { .. })));
    let Device { profile: ana, space, .. } = &black;
    stays(ana.invite(space, Vec::new()).map(drop));
    stays(ana.invite_by_code(space, None).map(drop));
    for of in [Whose::Own, Whose::New] {
        let terms = Terms { of, role: Role::Reader, clearance: Band::Green };
        stays(ana.invite_on(space, Vec::new(), terms).map(drop));
    }
    let other = profile(dirs[1].path(), 2);
    let keys = crate::keyring::OwnKeys::generate(&mut *other.env().entropy());
    let enrolment = other.enrolment(keys.public(other.transport_id()), "other");
    stays(black.writer.admit(enrolment).map(drop));
    let me = black.space.device();
    stays(black.writer.change_role(me, Role::Owner, Band::Green).map(drop));
    assert!(black.writer.revoke(&[me]).is_err(), "its one device cannot leave it");
    let kit = crate::Secret::new([3; 32]);
    let of_kit = black.profile.create_space_with(&"black:kit".parse().unwrap(), Some(&kit));
    stays(of_kit.map(drop));
    assert_eq!(black.space.devices().unwrap().len(), 1);
    assert_eq!(black.space.policy().unwrap().invite, None);
}

/// What is in it is BLACK and of no other band; elsewhere nothing is BLACK.
#[test]
fn all_that_is_in_a_space_that_stays_here_is_black() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut black = black_in(dirs[0].path(), 1);
    put(&mut black, 1, None, &json!({"title": "unasked"})).unwrap();
    put(&mut black, 2, Some(Band::Black), &json!({"title": "asked"})).unwrap();
    put(&mut black, 1, Some(Band::Black), &json!({"title": "edited"})).unwrap();
    for band in Band::SHARED {
        let refused = put(&mut black, 3, Some(band), &json!({"title": "lower"}));
        assert!(matches!(refused, Err(Error::StaysHere { .. })), "{band}");
        let about = NewBlob { media_type: "a/b".into(), name: None, band: Some(band) };
        let refused = black.space.add_blob(&b"x"[..], about).map(drop);
        assert!(matches!(refused, Err(Error::StaysHere { .. })), "{band}");
    }
    let blob = add_blob_in(&mut black, b"picture", Some(Band::Black));
    put(&mut black, 4, None, &json!({"photo": {"$blob": blob.to_string()}})).unwrap();
    assert_eq!([1, 2, 4].map(|n| document(&black, n).band), [Band::Black; 3]);
    assert_eq!(black.space.blob(&blob).unwrap().unwrap().band, Band::Black);
    assert_eq!(black.space.clearance().unwrap(), Band::Black);
    let found = black.space.search(&Query::text("asked")).unwrap();
    assert!(found.iter().all(|found| found.document.band == Band::Black));
    // For a handle that shows less nothing of it is there, and it writes nothing in it.
    for band in Band::SHARED {
        assert!(matches!(black.space.at_clearance(band), Err(Error::Lowered { .. })), "{band}");
        let mut unit = UnitOfWork::new();
        unit.at_clearance(band);
        unit.put("notes", id(5), &json!({})).unwrap();
        let refused = black.writer.commit(&mut std::iter::once(unit)).pop().unwrap();
        assert!(matches!(refused, Err(Error::Lowered { .. })), "{band}");
    }
    assert!(black.space.at_clearance(Band::Black).unwrap().document(&id(1)).unwrap().is_some());
    let mut open = Device::found_by(profile(dirs[1].path(), 2));
    let refused = put(&mut open, 1, Some(Band::Black), &json!({}));
    assert!(matches!(refused, Err(Error::NotCleared { band: Band::Black, .. })), "{refused:?}");
}

/// What was recorded of a session: every batch, with the bytes of each section.
fn record(to: &mut Device, from: &Device) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    to.pull_as(from, |batch| {
        bytes.push(batch.device.as_bytes().to_vec());
        for entry in &batch.entries {
            bytes.push(entry.header.clone());
            bytes.extend(entry.payloads.iter().map(|payload| format!("{payload:?}").into_bytes()));
            bytes.push(format!("{:?}", entry.commitments).into_bytes());
        }
    });
    bytes
}

/// The same sentence is written BLACK in one space and GREEN in another of the same device. What
/// the GREEN one leaves in peers and on its way is found there; of the BLACK one not even the
/// name of its space, its log or its sections.
#[test]
fn nothing_black_is_found_beyond_its_own_file() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let ana = profile(dirs[0].path(), 1);
    let mut shared = Device::found_by(ana.clone());
    let mut ben = shared.invite_as(profile(dirs[1].path(), 2));
    let (space, writer) = ana.create_space(&"black:diary".parse().unwrap()).unwrap();
    let mut black = Device { profile: ana, space, writer };
    let secret = json!({"title": "zqblackword is what nobody else may read"});
    let known = json!({"title": "zqgreenword is what everybody may read"});
    put(&mut black, 1, None, &secret).unwrap();
    put(&mut shared, 2, Some(Band::Green), &known).unwrap();
    add_blob_in(&mut black, b"zqblackword in a picture", None);
    let mut wire = record(&mut ben, &shared);
    put(&mut black, 1, None, &json!({"title": "zqblackword, edited"})).unwrap();
    put(&mut shared, 2, None, &json!({"title": "zqgreenword, edited"})).unwrap();
    wire.extend(record(&mut ben, &shared));
    add_blob_in(&mut shared, b"zqgreenword in a picture", Some(Band::Green));
    let chunks = |device: &mut Device| -> Vec<Vec<u8>> {
        let rows = device.writer.transact(|tx, _| {
            let mut statement = tx.prepare("SELECT digest FROM chunks").unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            Ok(rows.map(|row| row.unwrap()).collect::<Vec<_>>())
        });
        rows.unwrap()
    };
    // And all else that a session says, of either, to whoever asks for it.
    let peer = ben.profile.transport_id();
    let digests = [chunks(&mut black), chunks(&mut shared)].concat();
    for device in [&black, &shared] {
        for request in requests(device) {
            if let Answer::Reply(reply) = device.space.answer(&peer, request) {
                wire.push(format!("{reply:?}").into_bytes());
            }
        }
        for digest in &digests {
            let digest = Hash::new(digest.as_slice().try_into().unwrap());
            for request in blob_requests(digest) {
                let answer = device.space.answer_blobs(&peer, request, true, &mut |_| true);
                if let BlobAnswer::Reply(reply) = answer {
                    wire.push(format!("{reply:?}").into_bytes());
                }
            }
        }
    }
    let said = shared.space.source().unwrap().seal_message(b"zqgreenword".to_vec()).unwrap();
    assert!(black.space.source().is_err(), "nothing is said in it");
    wire.push(said);
    assert_eq!(count(&wire, b"zqgreenword"), 0, "not even that is in the open");

    let bodies = |device: &mut Device| -> Vec<Vec<u8>> {
        let rows = device.writer.transact(|tx, _| {
            let sql = "SELECT sealed FROM sections WHERE sealed IS NOT NULL AND object IS NOT NULL";
            let mut statement = tx.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            Ok(rows.map(|row| row.unwrap()).collect::<Vec<_>>())
        });
        rows.unwrap().into_iter().map(|bytes| bytes[..40.min(bytes.len())].to_vec()).collect()
    };
    let sealed_chunks = |device: &mut Device| -> Vec<Vec<u8>> {
        let rows = device.writer.transact(|tx, _| {
            let mut statement =
                tx.prepare("SELECT substr(sealed, 1, 40) FROM chunk_bytes").unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            Ok(rows.map(|row| row.unwrap()).collect::<Vec<_>>())
        });
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 1);
        rows
    };
    let own = |device: &mut Device| {
        let mut needles = bodies(device);
        assert!(needles.len() >= 2);
        needles.push(device.space.id().as_bytes().to_vec());
        needles.push(device.space.device().as_bytes().to_vec());
        needles.extend(sealed_chunks(device));
        needles
    };
    let (of_black, of_shared) = (own(&mut black), own(&mut shared));
    let word = |word: &str| vec![word.as_bytes().to_vec()];
    let as_list = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec();
    let is_told = |needle: &[u8]| count(&wire, needle) + count(&wire, &as_list(needle)) > 0;
    assert!(of_shared.iter().all(|needle| is_told(needle)), "the control is not on the wire");
    assert!(!of_black.iter().any(|needle| is_told(needle)), "something BLACK is on the wire");

    let beneath = |dir: &Path, device: &Device, needles: &[Vec<u8>]| -> usize {
        let image = image(dir, device);
        needles.iter().map(|needle| count(&image, needle)).sum()
    };
    let [a, b] = [dirs[0].path(), dirs[1].path()];
    assert!(beneath(a, &black, &word("zqblackword")) > 0, "where it may be it is found");
    assert!(beneath(a, &black, &of_black) > 0);
    for (dir, device) in [(a, &shared), (b, &ben)] {
        assert!(beneath(dir, device, &word("zqgreenword")) > 0, "the control is not found");
        assert_eq!(beneath(dir, device, &word("zqblackword")), 0);
        assert_eq!(beneath(dir, device, &of_black), 0);
        assert_eq!(beneath(dir, device, &word("diary")), 0);
    }
}

/// The power goes while a space is made for the first BLACK document. What was half made does not
/// count and is in nobody's way: the same write again makes it whole.
#[test]
fn a_space_that_was_half_made_is_made_anew() {
    for at in [Step::Founding, Step::Founded] {
        let dir = tempfile::tempdir().unwrap();
        let ana = profile(dir.path(), 1);
        let name = "black:shared:test".parse().unwrap();
        let power = move |step| match step {
            step if step == at => Err(std::io::Error::other("the power went")),
            _ => Ok(()),
        };
        assert!(hooked(power, || ana.create_space(&name)).is_err(), "{at:?}");
        ana.close().unwrap();
        drop(ana);
        let env = Arc::new(World(AtomicU64::new(5 << 40)));
        let unlock = Unlock::Key(Secret::new([7; 32]));
        let options = ProfileOptions::default();
        let ana = Profile::open(env, dir.path(), &unlock, Access::ReadWrite, options).unwrap();
        assert!(ana.space_names().unwrap().is_empty(), "{at:?}");
        let (space, writer) = ana.create_space(&name).unwrap();
        let mut black = Device { profile: ana, space, writer };
        put(&mut black, 1, Some(Band::Black), &json!({"title": "whole"})).unwrap();
        let files = std::fs::read_dir(dir.path().join("spaces")).unwrap();
        let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(files.filter(|name| !name.contains(".db-")).count(), 1, "{at:?}");
    }
}
