//! Looks beneath: nothing of what is above a device's clearance is on its disk, in any form. What
//! is searched for is found first on the devices that are cleared for it.

use larder_log::act::{Act, EpochReason};
use larder_log::epoch::open_epoch_act;
use larder_protocol::{Position, Reply, Request};
use larder_types::limits::BATCH_BYTES_TARGET;
use serde_json::json;

use super::*;
use crate::commit::Draft;
use crate::erase::canary_tests::{add_blob_in, count, image, index, profile};
use crate::prune::tests::Device;
use crate::{Answer, Role, Terms, UnitOfWork, Whose};

const OBJECT: ObjectId = ObjectId::new([1; 16]);

pub(super) fn write(device: &mut Device, text: &str, blob: &larder_types::BlobId) {
    let mut unit = UnitOfWork::new();
    unit.band(Band::Amber);
    let value = json!({"title": "Zqcanary", "body": text, "photo": {"$blob": blob.to_string()}});
    unit.put("notes", OBJECT, &value).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
}

/// What each table of a device that is cleared has of it, as it stands there.
pub(super) fn needles(device: &mut Device) -> Vec<(&'static str, Vec<u8>)> {
    let mut needles = vec![("value", b"zqsecretword".to_vec()), ("word", b"secretword".to_vec())];
    let sqls = [
        ("sealed", "SELECT coalesce(sealed, opened) FROM sections WHERE object IS NOT NULL"),
        ("manifest", "SELECT coalesce(sealed, opened) FROM sections WHERE kind = 4"),
        ("history", "SELECT bytes FROM histories"),
        ("key", "SELECT key FROM blob_chunks"),
        ("name", "SELECT CAST(name AS BLOB) FROM blobs"),
        ("object", "SELECT object FROM documents"),
        ("chunk", "SELECT sealed FROM chunk_bytes"),
    ];
    let found = device.writer.transact(|tx, _| {
        let mut found = Vec::new();
        for (what, sql) in sqls {
            let mut statement = tx.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            for bytes in rows.map(|bytes| bytes.unwrap()) {
                found.push((what, bytes.into_iter().take(40).collect()));
            }
        }
        Ok(found)
    });
    needles.extend(found.unwrap());
    needles
}

#[test]
fn nothing_above_its_clearance_is_in_any_file_of_a_device() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let terms = |clearance| Terms { of: Whose::New, role: Role::Writer, clearance };
    let mut a = Device::found_by(profile(dirs[0].path(), 1));
    let mut amber = a.invite_on(profile(dirs[1].path(), 2), terms(Band::Amber));
    let mut green = a.invite_on(profile(dirs[2].path(), 3), terms(Band::Green));
    a.put(9, &json!({"title": "For all", "body": "zqcommonword"}));
    let blob = add_blob_in(&mut a, b"zqpicture of somebody", Some(Band::Amber));
    for n in 0..4 {
        write(&mut a, &format!("{}zqsecretword {n}\n", "some text\n".repeat(40)), &blob);
        amber.pull(&a);
        green.pull(&amber);
        green.pull(&a);
        green.put(8, &json!({"title": n, "body": "zqcommonword"}));
        a.pull(&green);
    }
    for device in [&mut a, &mut amber, &mut green] {
        index(device);
    }
    // The control: each of them is where it may be, as it stands there.
    let (of_a, of_amber) = (needles(&mut a), needles(&mut amber));
    for (device, dir, needles) in [(&a, &dirs[0], &of_a), (&amber, &dirs[1], &of_amber)] {
        let kinds: std::collections::BTreeSet<_> = needles.iter().map(|(what, _)| *what).collect();
        // Nobody has asked for the chunks.
        assert!(kinds.len() >= 8, "{kinds:?}");
        let image = image(dir.path(), device);
        for (what, needle) in needles {
            assert!(count(&image, needle) > 0, "{what}: the control is not found");
        }
    }
    let image = image(dirs[2].path(), &green);
    assert!(count(&image, b"zqcommonword") > 0, "the control is not found");
    // What it has of its own document and of the one for all is not what is looked for.
    let own: Vec<_> = needles(&mut green).into_iter().map(|(_, bytes)| bytes).collect();
    let above = of_a.iter().chain(&of_amber).filter(|(_, needle)| {
        !own.contains(needle) || needle.starts_with(b"zq") || needle.starts_with(b"secret")
    });
    let left: Vec<_> = above.filter(|(_, needle)| count(&image, needle) > 0).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A phone was cleared for less while another device was away. That one let somebody in meanwhile,
/// and sealed its new epoch's secrets for the phone as before: the phone kept them, of every band.
#[test]
fn secrets_of_who_has_not_heard_of_a_lower_clearance_are_not_kept() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let terms = |role| Terms { of: Whose::New, role, clearance: Band::Red };
    let mut a = Device::found_by(profile(dirs[0].path(), 1));
    let mut away = a.invite_on(profile(dirs[1].path(), 2), terms(Role::Admin));
    let mut phone = a.invite_on(profile(dirs[2].path(), 3), terms(Role::Writer));
    away.pull(&a);
    let me = phone.space.device();
    let highest = |device: &mut Device| {
        let known = device.writer.transact(|tx, state| {
            let stored = crate::state::load_keyring(tx, &state.shared.home().vault)?;
            let highest = |keyring: &crate::keyring::Keyring| {
                let of = |(epoch, _)| {
                    keyring.secrets(&epoch).and_then(larder_log::epoch::EpochSecrets::highest)
                };
                keyring.first_steps().map(of).collect::<Vec<_>>()
            };
            assert_eq!(highest(&stored), highest(&state.keyring));
            Ok(highest(&stored))
        });
        known.unwrap()
    };
    assert!(highest(&mut phone).contains(&Some(Band::Red)), "the control");
    // What raises it comes in one transaction with the epoch that it opens.
    for band in [Band::Green, Band::Red, Band::Green] {
        a.writer.change_role(me, Role::Writer, band).unwrap();
        phone.pull(&a);
        assert_eq!(highest(&mut phone).into_iter().max(), Some(Some(band)));
    }
    let before = highest(&mut phone);
    drop(away.invite_on(profile(dirs[3].path(), 4), terms(Role::Writer)));
    phone.pull(&away);
    let after = highest(&mut phone);
    assert!(after.len() > before.len(), "the epoch has come");
    assert!(after.iter().all(|band| *band == Some(Band::Green)), "{after:?}");
    // Cleared for more again, it is among the recipients of that epoch as it should be, and cannot
    // write to it.
    a.pull(&away);
    a.writer.change_role(me, Role::Writer, Band::Red).unwrap();
    phone.pull(&a);
    let mut unit = UnitOfWork::new();
    unit.band(Band::Red);
    unit.put("notes", OBJECT, &json!({"title": "For few"})).unwrap();
    phone.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    a.pull(&phone);
    assert!(a.space.document(&OBJECT).unwrap().is_some());
}

// A document was edited after its words were indexed, so that the words before the edit waited
// beside it to be taken out of the index. Then the device's clearance was lowered, and the whole
// old text lay in that queue until somebody searched.
#[test]
fn what_waits_to_be_indexed_goes_with_a_clearance_too() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found_by(profile(dirs[0].path(), 1));
    let terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Amber };
    let mut tablet = a.invite_on(profile(dirs[1].path(), 2), terms);
    let blob = add_blob_in(&mut a, b"zqpicture of somebody", Some(Band::Amber));
    write(&mut a, "zqsecretword", &blob);
    tablet.pull(&a);
    index(&mut tablet);
    write(&mut a, "zqsecretword edited", &blob);
    tablet.pull(&a);
    let waiting = |device: &mut Device| {
        let sql = "SELECT count(*) FROM unindexed WHERE instr(indexed, 'zqsecretword') > 0";
        let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        device.writer.transact(|tx, _| Ok(tx.query_row(sql, [], count).unwrap())).unwrap()
    };
    assert_eq!(waiting(&mut tablet), 1, "the control is not found");
    let device = tablet.space.device();
    a.writer.change_role(device, Role::Writer, Band::Green).unwrap();
    tablet.pull(&a);
    assert_eq!(waiting(&mut tablet), 0);
    assert_eq!(tablet.writer.unindexed(), 0);
}

/// An entry that opens an epoch for these devices alone, with a RED document beside that, and one
/// with another document.
fn opens_epoch(thief: &mut Device, is_for: impl Fn(&DeviceId) -> bool) {
    let create = |n: u8| {
        let value = json!({"title": "Of a thief"});
        Draft {
            kind: kind::DOCUMENT_CREATE,
            class: Class::Data,
            collection: Some("notes".parse().unwrap()),
            object: Some(ObjectId::new([n; 16])),
            generation: None,
            body: larder_document::body::Create::new(value.as_object().unwrap()).unwrap().encode(),
            band: Band::Red,
            personal: None,
        }
    };
    let written = thief.writer.transact(|tx, state| {
        let cleared = state.roster.cleared().into_iter().filter(|(id, _)| is_for(id));
        let recipients: Vec<_> =
            cleared.filter_map(|(id, band)| Some((id, state.sealing_key(&id)?, band))).collect();
        let (space, me) = (state.shared.id, state.device());
        let newest = state.roster.newest_epochs().map(|(id, _)| *id).collect();
        let (act, _) = open_epoch_act(
            &mut *state.shared.env.entropy(),
            &space,
            me,
            &recipients,
            EpochReason::Age,
            newest,
        )
        .unwrap();
        let act = Act::Epoch(act);
        let appended = state.append(tx, &[&Draft::of_act(&act)?, &create(7)], None, None)?;
        let entry = entries::find(tx, state.log, appended.seq)?.unwrap();
        let header = larder_log::Header::decode(&entry.header).unwrap();
        state.take_in(tx, state.log, &header, 0, &act)?.unwrap();
        state.epoch = Some(EpochId::from(entry.hash));
        state.append(tx, &[&create(8)], None, None)?;
        state.sign(tx)
    });
    written.unwrap();
}

// Content in the entry that opens an epoch counts for nothing. On a device whose clearance had been
// lowered and was raised again it was shown all the same: what is above a clearance is no longer
// known to be void, and was asked for and read like all else.
#[test]
fn what_stands_beside_the_opening_of_an_epoch_stays_void_when_a_clearance_comes_back() {
    let mut a = Device::found(1);
    let terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Red };
    let mut phone = a.invite_on(crate::prune::tests::profile(2), terms);
    let mut thief = a.invite_on(crate::prune::tests::profile(3), terms);
    a.pull(&phone);
    thief.pull(&a);
    phone.pull(&a);
    opens_epoch(&mut thief, |_| true);
    let has =
        |device: &Device, n: u8| device.space.document(&ObjectId::new([n; 16])).unwrap().is_some();
    a.pull(&thief);
    phone.pull(&a);
    for device in [&a, &phone] {
        assert_eq!([7, 8].map(|n| has(device, n)), [false, true]);
    }
    let id = phone.space.device();
    for band in [Band::Green, Band::Red] {
        a.writer.change_role(id, Role::Writer, band).unwrap();
        phone.pull(&a);
        assert!(!has(&phone, 7));
    }
    crate::erase::tests::supply(&mut phone, &a);
    phone.writer.show().unwrap();
    assert_eq!([7, 8].map(|n| has(&phone, n)), [false, true]);
}

// A device that had been shut out wrote on in a document, under an epoch of its own. Another kept
// the bytes, which counted for nothing and which it could not open; when the document was erased
// it could not tell that they were of it, and handed them on (simulated seed 147).
#[test]
fn bytes_that_count_for_nothing_and_cannot_be_opened_are_not_kept() {
    for is_out in [false, true] {
        let mut a = Device::found(1);
        let mut thief = a.invite(2);
        a.pull(&thief);
        let id = thief.space.device();
        if is_out {
            a.writer.revoke(&[id]).unwrap();
        }
        opens_epoch(&mut thief, |of| *of == id);
        // Sealed, as who passes it on has it.
        let me = a.profile.transport_id();
        let frontiers = |of: &Device| match of.space.answer(&me, Request::ReadFrontiers) {
            Answer::Reply(Reply::Frontiers { logs, epochs_held, .. }) => (logs, epochs_held),
            answer => panic!("{answer:?}"),
        };
        let have = frontiers(&a).0.iter().map(|log| (log.device, log.size)).collect();
        let (epochs, bytes_target) = (frontiers(&thief).1, BATCH_BYTES_TARGET);
        let request = Request::ReadBatch { after: Position::default(), have, epochs, bytes_target };
        let answer = thief.space.answer(&me, request);
        let Answer::Reply(Reply::Batch { batch: Some(batch), .. }) = answer else { panic!() };
        a.writer.apply(*batch).unwrap();
        let kept = a.writer.transact(|tx, _| {
            let log = logs::find(tx, &id)?.unwrap();
            let all = sections::of_entry(tx, log.log, log.frontier.size())?;
            let [section] = &all[..] else { panic!("{all:?}") };
            Ok((section.state, sections::payload(tx, section.place)? != Payload::Missing))
        });
        let expected = if is_out { (Of::Void, false) } else { (Of::Waiting, true) };
        assert_eq!(kept.unwrap(), expected);
    }
}
