//! An auditor's device: all receipts, and nothing that they are of. What is searched for is found
//! first on a reader's, with the same tools.

use larder_document::body;
use larder_log::act::{Act, ChangeAct};
use larder_log::{Batch, Header};
use larder_protocol::{BlobReply, BlobRequest, Frame, Keeps, Position, Reply, Request, Run, Want};
use larder_store::space::control;
use larder_types::{Hash, ObjectId, TransportId};
use serde_json::json;

use super::tests::{needles, write};
use super::*;
use crate::commit::Draft;
use crate::erase::canary_tests::{add_blob_in, count, image, index, profile};
use crate::prune::tests::Device;
use crate::secrets::stolen::Stolen;
use crate::{Answer, BlobAnswer, Reason, Role, Terms, UnitOfWork, Whose};

const AUDITOR: Terms = Terms { of: Whose::New, role: Role::Auditor, clearance: Band::Red };
const READER: Terms = Terms { of: Whose::New, role: Role::Reader, clearance: Band::Red };

/// A founder, a reader and an auditor, who have what was written in every band.
fn household(dirs: &[tempfile::TempDir]) -> [Device; 3] {
    let mut a = Device::found_by(profile(dirs[0].path(), 1));
    for (n, band) in (10..).zip(Band::SHARED) {
        let mut unit = UnitOfWork::new();
        unit.band(band);
        unit.put("notes", ObjectId::new([n; 16]), &json!({"body": "zqsecretword"})).unwrap();
        a.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    }
    let mut reader = a.invite_on(profile(dirs[1].path(), 2), READER);
    let mut auditor = a.invite_on(profile(dirs[2].path(), 3), AUDITOR);
    let blob = add_blob_in(&mut a, b"zqpicture of somebody", Some(Band::Amber));
    for n in 0..3 {
        write(&mut a, &format!("{}zqsecretword {n}\n", "some text\n".repeat(40)), &blob);
        reader.pull(&a);
        auditor.pull(&a);
    }
    [a, reader, auditor]
}

/// All that `of` sends to whoever has this transport key and asks for everything: each reply, as it
/// goes over the wire, and the batches among them.
fn sent(of: &mut Device, to: &TransportId) -> (Vec<Vec<u8>>, Vec<Batch>) {
    let (mut frames, mut batches) = (Vec::new(), Vec::new());
    // Each transaction by itself.
    let (mut after, bytes_target) = (Position::default(), 1);
    loop {
        let (have, epochs) = (std::collections::BTreeMap::new(), Vec::new());
        let request = Request::ReadBatch { after, have, epochs, bytes_target };
        let Answer::Reply(Reply::Batch { position, batch }) = of.space.answer(to, request) else {
            panic!()
        };
        let Some(batch) = batch else { break };
        frames.push(Frame::Batch(batch.clone()).encode());
        batches.push(*batch);
        after = position;
    }
    let whole = |batch: &Batch| Run { device: batch.device, first: 1, last: batch.size() };
    let runs: Vec<Run> = batches.iter().map(whole).collect();
    let want = Want { sections: runs.clone(), sealed: runs, ..Want::default() };
    let supply = of.space.supply(to, &want, &[]).unwrap();
    frames.push(Frame::Supply(Box::new(supply)).encode());
    let digests = of.writer.transact(|tx, _| Ok(table_of_chunks(tx))).unwrap();
    let ask = |request| match of.space.answer_blobs(to, request, true, &mut |_| true) {
        BlobAnswer::Reply(reply) => reply,
        other => panic!("{other:?}"),
    };
    let BlobReply::Held { digests: held } = ask(BlobRequest::ReadHeld { digests: digests.clone() })
    else {
        panic!()
    };
    frames.extend(held.iter().map(|digest| digest.as_bytes().to_vec()));
    let keeps = Keeps { chunks: digests.clone(), ..Keeps::default() };
    let BlobReply::Confirmed { keeps } = ask(BlobRequest::ReadDurable { keeps }) else { panic!() };
    frames.extend(keeps.chunks.iter().map(|digest| digest.as_bytes().to_vec()));
    for digest in digests {
        let BlobReply::Chunk { sealed } = ask(BlobRequest::ReadChunk { digest }) else { panic!() };
        frames.extend(sealed);
    }
    (frames, batches)
}

fn table_of_chunks(db: &Connection) -> Vec<Hash> {
    let mut statement = db.prepare("SELECT digest FROM chunks").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, [u8; 32]>(0)).unwrap();
    rows.map(|row| Hash::new(row.unwrap())).collect()
}

/// How many of the sections with content somebody opens who has this device's whole profile and all
/// that was sent to it, of those in `recorded`; and for how many the bytes are there at all.
fn opened_by(device: &Device, sent: &[Batch], recorded: &[Batch]) -> (usize, usize) {
    let mut thief = Stolen::of(&device.profile, &device.space).unwrap();
    let (mut opened, mut all) = (0, 0);
    for batch in sent.iter().chain(recorded) {
        for entry in &batch.entries {
            let header = Header::decode(&entry.header).unwrap();
            let sections = entry.commitments.iter().zip(&entry.payloads);
            for (index, (commitment, payload)) in (0..).zip(sections) {
                let Payload::Sealed(sealed) = payload else { continue };
                if let Some(act) = thief.epoch_act(&header, index, commitment, sealed) {
                    thief.take(&header, &act);
                }
                if commitment.class == Class::Data as u8 {
                    all += 1;
                    opened += usize::from(thief.opens(&header, index, commitment, sealed));
                }
            }
        }
    }
    (opened, all)
}

fn epochs_held(device: &mut Device) -> usize {
    let held = device.writer.transact(|tx, state| {
        let stored = crate::state::load_keyring(tx, &state.shared.home().vault)?;
        assert_eq!(stored.len(), state.keyring.len());
        let wrapped = control::epochs(tx)?;
        assert_eq!(wrapped.iter().filter(|epoch| epoch.wrapped.is_some()).count(), stored.len());
        Ok(stored.len())
    });
    held.unwrap()
}

#[test]
fn nothing_of_content_is_sent_to_an_auditor_or_found_beneath_and_no_secret() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [mut a, mut reader, mut auditor] = household(&dirs);
    for device in [&mut a, &mut reader, &mut auditor] {
        index(device);
    }
    let wanted = needles(&mut a);
    let kinds: std::collections::BTreeSet<_> = wanted.iter().map(|(what, _)| *what).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let [to_reader, to_auditor] =
        [&reader, &auditor].map(|to| sent(&mut a, &to.profile.transport_id()));
    // The control: what is sealed or opened, and chunks, go to a reader; and what it is sent and
    // has opens all that was recorded.
    let goes = |frames: &[Vec<u8>], of: &str| {
        let mut all = wanted.iter().filter(|(what, _)| *what == of);
        all.any(|(_, needle)| count(frames, needle) > 0)
    };
    for what in ["sealed", "manifest", "chunk"] {
        assert!(goes(&to_reader.0, what), "{what}: the control is not found");
    }
    let recorded = to_reader.1.clone();
    let (opened, all) = opened_by(&reader, &to_reader.1, &recorded);
    assert!(opened == all && all >= 4, "{opened} of {all}");
    assert!(epochs_held(&mut reader) > 0);
    for what in ["value", "sealed", "manifest", "history", "object"] {
        let image = image(dirs[1].path(), &reader);
        let found = wanted.iter().any(|(of, needle)| *of == what && count(&image, needle) > 0);
        assert!(found, "{what}: the control is not found");
    }

    let is_sent = |(_, needle): &&(&str, Vec<u8>)| count(&to_auditor.0, needle) > 0;
    let was: Vec<_> = wanted.iter().filter(is_sent).collect();
    assert!(was.is_empty(), "sent: {was:?}");
    for entry in to_auditor.1.iter().flat_map(|batch| &batch.entries) {
        for (commitment, payload) in entry.commitments.iter().zip(&entry.payloads) {
            let is_act = commitment.class == Class::Control as u8;
            assert_eq!(*payload != Payload::Missing, is_act);
        }
    }
    let image = image(dirs[2].path(), &auditor);
    let left: Vec<_> = wanted.iter().filter(|(_, needle)| count(&image, needle) > 0).collect();
    assert!(left.is_empty(), "{left:?}");
    // With all that the reader was sent, too.
    let (opened, all) = opened_by(&auditor, &to_auditor.1, &recorded);
    assert!(opened == 0 && all >= 4, "{opened} of {all}");
    assert_eq!(epochs_held(&mut auditor), 0);
    // It holds the same entries, and says so.
    let entries = [&a, &auditor].map(|device| device.space.status().unwrap().entries);
    assert_eq!(entries[0], entries[1]);
}

/// Whoever sends it all the same, before the auditor's device has heard what it is or after.
#[test]
fn content_that_is_sent_to_an_auditor_all_the_same_is_not_kept() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let [mut a, ..] = household(&dirs);
    let late = a.invite_on(crate::prune::tests::profile(4), READER);
    let mut auditor = admitted(&mut a, profile(dirs[3].path(), 5));
    // As it goes to a reader that came later: opened, as that has no secrets.
    let (mut opened, mut seen) = (0, 0);
    for batch in sent(&mut a, &late.profile.transport_id()).1 {
        let payloads = batch.entries.iter().flat_map(|entry| &entry.payloads);
        opened += payloads.filter(|it| matches!(it, Payload::Opened(_))).count();
        auditor.writer.apply(batch).unwrap();
        seen = seen.max(auditor.space.status().unwrap().documents);
    }
    assert!(opened > 0 && seen > 0, "the control: it could not know");
    assert_eq!(of_content(&mut auditor), vec![0; 7]);

    for (n, is_opened) in [(20, false), (21, true)] {
        a.put(n, &json!({"body": "zqlateword"}));
        auditor.pull_from(&a, &late.profile.transport_id(), |batch| {
            let keyring = &a.space.shared.published().unwrap().keyring;
            for entry in batch.entries.iter_mut().filter(|_| is_opened) {
                let header = Header::decode(&entry.header).unwrap();
                let sections = entry.commitments.iter().zip(&mut entry.payloads);
                for (index, (commitment, payload)) in (0..).zip(sections) {
                    let Payload::Sealed(sealed) = &*payload else { panic!() };
                    let carried = keyring.carry(&header, index, commitment, sealed).unwrap();
                    *payload = Payload::Opened(carried);
                }
            }
            let payloads = batch.entries.iter().flat_map(|entry| &entry.payloads);
            assert!(payloads.clone().count() > 0);
            assert!(payloads.clone().all(|it| matches!(it, Payload::Opened(_)) == is_opened));
        });
        assert_eq!(of_content(&mut auditor), vec![0; 7]);
        assert_eq!(count(&image(dirs[3].path(), &auditor), b"zqlateword"), 0);
    }
    assert_eq!(auditor.space.state().unwrap().reasons, vec![Reason::Auditor]);
}

/// An auditor's device that has been told nothing yet.
fn admitted(by: &mut Device, profile: crate::Profile) -> Device {
    let invitation = by.profile.invite_on(&by.space, Vec::new(), AUDITOR).unwrap();
    let mut joining = profile.begin_join(invitation).unwrap();
    let (agreed, admission) = profile.ask_within(&mut joining, &by.profile, &[9; 32]).unwrap();
    by.writer.admit(admission.enrolment.clone()).unwrap();
    let reply = by.profile.welcome(&admission, &by.space).unwrap();
    let (space, writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
    Device { profile, space, writer }
}

/// What the tables have that would be of content, or of what it is about.
fn of_content(device: &mut Device) -> Vec<i64> {
    let sqls = [
        "SELECT count(*) FROM sections WHERE coalesce(kind, 0) < 16
            AND (sealed IS NOT NULL OR opened IS NOT NULL OR object IS NOT NULL)",
        "SELECT count(*) FROM documents",
        "SELECT count(*) FROM histories",
        "SELECT count(*) FROM blobs",
        "SELECT count(*) FROM chunks",
        "SELECT count(*) FROM snapshots",
        "SELECT count(*) FROM unindexed",
    ];
    let found = device.writer.transact(|tx, _| {
        let count = |sql: &&str| tx.query_row(sql, [], |row| row.get(0)).unwrap();
        Ok(sqls.iter().map(count).collect())
    });
    found.unwrap()
}

/// A thief who has an auditor's device, and a reader's secrets from elsewhere, writes in its name.
#[test]
fn what_an_auditor_writes_counts_for_nothing() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [mut a, mut reader, mut auditor] = household(&dirs);
    let terms = Terms { role: Role::Writer, ..READER };
    let mut writer = a.invite_on(crate::prune::tests::profile(4), terms);
    auditor.pull(&a);
    reader.pull(&a);
    let (epoch, secrets) = a
        .writer
        .transact(|_, state| {
            let epoch = state.epoch.unwrap();
            Ok((epoch, state.keyring.secrets(&epoch).unwrap().clone()))
        })
        .unwrap();
    for (device, n, counts) in [(&mut writer, 30, true), (&mut auditor, 31, false)] {
        let object = ObjectId::new([n; 16]);
        let value = json!({"body": "by a thief"});
        let body = body::Create::new(value.as_object().unwrap()).unwrap().encode();
        let draft = Draft {
            kind: kind::DOCUMENT_CREATE,
            class: Class::Data,
            collection: Some("notes".parse().unwrap()),
            object: Some(object),
            generation: None,
            body,
            band: Band::Green,
            personal: None,
        };
        let written = device.writer.transact(|tx, state| {
            state.keyring.insert(epoch, secrets.clone());
            state.epoch = Some(epoch);
            state.append(tx, &[&draft], None, None)?;
            state.sign(tx)
        });
        written.unwrap();
        let by = device.space.device();
        a.pull(device);
        reader.pull(&a);
        for of in [&a, &reader] {
            assert_eq!(of.space.document(&object).unwrap().is_some(), counts, "{n}");
            let receipts = of.space.receipts(None, 1000).unwrap();
            let last = receipts.iter().rfind(|receipt| receipt.device == by).unwrap();
            assert_eq!(last.void.is_empty(), counts, "{:?}", last.void);
            assert!(of.space.state().unwrap().reasons.is_empty());
        }
    }
}

/// No device here makes another one an auditor's that was none, or takes that back; another program
/// may. It shows nothing any more, and what nobody else has is not lost with that.
#[test]
fn a_device_that_an_act_makes_an_auditor_shows_nothing_and_hands_over_what_only_it_has() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [mut a, ..] = household(&dirs);
    let terms = Terms { role: Role::Writer, ..READER };
    let mut phone = a.invite_on(crate::prune::tests::profile(4), terms);
    let id = phone.space.device();
    let object = |n: u8| ObjectId::new([n; 16]);
    phone.put(20, &json!({"body": "not sent yet"}));
    let change = |a: &mut Device, role, from_seq| {
        let changed = a.writer.transact(|tx, state| {
            let (v, parents, clearance) = (larder_log::VERSION, state.parents(), Band::Red);
            let act = ChangeAct { parents, v, device: id, from_seq, role, clearance };
            state.append_act(tx, &Act::Change(act))?;
            state.sign(tx)
        });
        changed.unwrap();
    };
    let has = |device: &Device, n| device.space.document(&object(n)).unwrap().is_some();
    assert!(has(&phone, 1) && has(&phone, 20) && !has(&a, 20));
    change(&mut a, Role::Auditor, 10);
    phone.pull(&a);
    assert!(matches!(phone.space.document(&object(20)), Err(Error::Auditor)));
    assert_eq!(phone.space.state().unwrap().reasons, vec![Reason::Auditor]);
    assert_eq!(epochs_held(&mut phone), 0);
    let found = of_content(&mut phone);
    assert_eq!(found[1..4], [0; 3], "{found:?}");
    a.pull(&phone);
    assert!(has(&a, 20));
    change(&mut a, Role::Writer, 10);
    phone.pull(&a);
    assert!(has(&phone, 1) && has(&phone, 20));
    phone.put(21, &json!({"body": "goes on"}));
    a.pull(&phone);
    assert!(has(&a, 21));
}
