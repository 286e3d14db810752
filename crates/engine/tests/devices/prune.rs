//! Pruning: what all devices agree on goes, and nobody notices but by the room it took.

use larder_engine::{BlobInfo, Heads, Pruned, Reason, Task, Version, Wanted};
use larder_log::snapshot::{Content, Part};
use larder_protocol::{Lack, Supply, Want};
use proptest::prelude::*;

use super::*;

impl Device {
    pub(super) fn supply_of(&self, other: &Self, want: &Want) -> Supply {
        let request = Request::ReadSupply { want: Box::new(want.clone()), epochs: self.epochs() };
        match other.space.answer(&self.profile.transport_id(), request) {
            Answer::Reply(Reply::Supply { supply }) => *supply,
            // It could write leaves down, and has not.
            Answer::Write(Task::Supply { peer, want, epochs }) => {
                other.space.supply(&peer, &want, &epochs).unwrap()
            }
            answer => panic!("{answer:?}"),
        }
    }

    /// Asks `other` for what is lacking here, until nothing comes of it.
    pub(super) fn fill(&mut self, other: &Self) -> usize {
        let (mut bytes, mut from, mut has_progress) = (0, Lack::default(), false);
        loop {
            let Wanted { want, next } = self.space.wanted(from).unwrap();
            let mut want = want.unwrap_or_default();
            let mut has_more = false;
            while !want.is_empty() && !has_more {
                let supply = self.supply_of(other, &want);
                bytes += supply.snapshot.as_ref().map_or(0, Vec::len);
                let progress = self.writer.take_supply(&supply).unwrap().progress;
                has_progress |= progress;
                has_more = progress && (want.snapshot.is_some() || !want.blobs.is_empty());
                want.answer(&supply);
                (want.snapshot, want.blobs) = (None, Vec::new());
            }
            from = match next {
                _ if has_more => from,
                Some(next) => next,
                None if std::mem::take(&mut has_progress) => Lack::default(),
                None => return bytes,
            };
        }
    }

    /// The first page of what is lacking.
    pub(super) fn wanted(&self) -> Option<Want> {
        self.space.wanted(Lack::default()).unwrap().want
    }

    pub(super) fn learn_acks(&mut self, other: &Self) {
        let Reply::Frontiers { acks, .. } = other.frontiers() else { unreachable!() };
        self.writer.store_acks(&acks).unwrap();
    }

    pub(super) fn prune(&mut self, propose: bool) -> Pruned {
        let pruned = self.writer.prune(propose, &mut |_| {}).unwrap();
        // How large files are is another matter.
        Pruned { file_bytes_before: 0, file_bytes_after: 0, ..pruned }
    }

    pub(super) fn pruned(&self) -> u64 {
        self.space.status().unwrap().pruned
    }

    pub(super) fn edit(&mut self, object: ObjectId, change: impl FnOnce(&mut Value)) {
        let mut value = self.value(object);
        change(&mut value);
        self.put(object, &value);
    }

    pub(super) fn delete(&mut self, object: ObjectId) {
        let mut unit = UnitOfWork::new();
        unit.delete(object);
        self.commit(unit).unwrap();
    }
}

/// A whole session between two devices. Afterwards both show the same, or know what they lack: who
/// has not pruned yet has no leaves to hand over of what was pruned elsewhere until it was asked.
pub(super) fn meet(a: &mut Device, b: &mut Device) {
    a.pull(b);
    b.pull(a);
    a.fill(b);
    b.fill(a);
    a.learn_acks(b);
    b.learn_acks(a);
    a.asks(b);
    b.asks(a);
    if a.wanted().is_none() && b.wanted().is_none() {
        // Who is cleared for more shows more.
        let band = a.space.clearance().unwrap().min(b.space.clearance().unwrap());
        let digest = |device: &Device| device.space.digest_up_to(band).unwrap();
        assert_eq!(digest(a), digest(b));
    }
}

/// All meet all and prune, until nothing comes of it.
pub(super) fn settle(devices: &mut [&mut Device]) {
    for round in 0..4 {
        for one in 0..devices.len() {
            devices[one].prune(round == 0 && one == 0);
            for other in one + 1..devices.len() {
                let (left, right) = devices.split_at_mut(other);
                meet(left[one], right[0]);
            }
        }
    }
}

pub(super) fn four_edited(device: &mut Device) {
    for n in 1..=4 {
        device.put(object(n), &json!({"n": n}));
        device.edit(object(n), |value| value["edited"] = true.into());
    }
}

/// A document that names a blob, and another, are what is left of a space. The blob, and what is in
/// it.
pub(super) fn pruned_around_a_blob(a: &mut Device, b: &mut Device) -> (BlobInfo, Vec<u8>) {
    let content = blobs::noise(1, 300_000);
    let (info, _) = blobs::add(a, &content, "a.bin");
    a.put(object(1), &json!({"photo": {"$blob": info.id.to_string()}}));
    meet(a, b);
    b.put(object(2), &json!({"b": 1}));
    meet(a, b);
    settle(&mut [&mut *a, b]);
    assert!(a.pruned() > 0, "nothing was pruned");
    (info, content)
}

#[test]
fn what_all_agree_on_goes_and_a_newcomer_gets_the_same_from_anybody() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let text = "A letter\nof several lines\nthat are edited.";
    for n in 1..=6 {
        a.put(object(n), &json!({"n": n, "text": text, "big": u64::MAX, "float": 1.0}));
    }
    meet(&mut a, &mut b);
    let early = a.space.document(&object(1)).unwrap().unwrap().heads;
    for n in 1..=4 {
        a.edit(object(n), |value| value["text"] = text.replace("letter", "note").into());
        b.edit(object(n), |value| value["n"] = (10 * n).into());
    }
    // The same id twice, and one of the copies deleted; a deletion that wins over an edit.
    a.put(object(7), &json!({"by": "a"}));
    b.put(object(7), &json!({"by": "b"}));
    a.delete(object(5));
    b.edit(object(5), |value| value["n"] = 0.into());
    meet(&mut a, &mut b);
    let copy = |device: &Device| {
        let all = device.space.list(None, None, 100).unwrap().documents;
        all.into_iter().map(|d| d.object).find(|id| (0..=9).all(|n| *id != object(n))).unwrap()
    };
    let copied = copy(&a);
    a.delete(copied);

    // Nothing goes before all have said the same, and know it of each other.
    assert_eq!(a.prune(true), Pruned { stated: 1, ..Pruned::default() });
    assert_eq!(a.space.prune_status().unwrap().waits_for, [b.space.device()]);
    assert_eq!(a.prune(true), Pruned::default(), "it waits for the other");
    meet(&mut a, &mut b);
    assert_eq!(a.prune(true), Pruned::default());
    assert_eq!(b.prune(true), Pruned { stated: 1, ..Pruned::default() });
    // An edit in the meantime changes nothing of what was stated.
    a.edit(object(2), |value| value["late"] = true.into());
    b.delete(object(6));
    meet(&mut a, &mut b);
    let before = a.space.digest().unwrap();
    let pruned = a.prune(false);
    assert!(pruned.sections >= 17 && pruned.bytes > 17 * 100, "{pruned:?}");
    assert_eq!(a.space.digest().unwrap(), before);
    meet(&mut a, &mut b);
    assert_eq!(b.prune(false).sections, pruned.sections);
    assert_eq!(a.prune(true).stated + b.prune(true).stated, 2, "and the next round begins");
    assert_eq!(a.pruned(), pruned.sections);

    // Receipts, histories and exports stand.
    let receipt = a.space.receipt(&b.space.device(), 2).unwrap();
    receipt.verify().unwrap();
    let history = a.space.history(&object(1)).unwrap();
    assert_eq!(history.len(), 3);
    assert!(history.iter().all(|item| item.pruned && item.actor.is_none()), "{history:?}");
    let export = dirs[3].path().join("export");
    a.space.export_receipts(&export, &mut |_, _| {}).unwrap();
    larder_audit::verify(&export).unwrap();

    // An edit of a version from long before merges as ever.
    let mut unit = UnitOfWork::new();
    let old = json!({"n": 1, "text": text.replace("edited", "changed"), "big": 0, "float": 1.0});
    unit.put_at("notes", object(1), &old, Base::Merge(early)).unwrap();
    a.commit(unit).unwrap();
    meet(&mut a, &mut b);
    let merged = b.value(object(1));
    assert!(merged["text"].as_str().unwrap().starts_with("A note"), "{merged}");
    assert!(merged["text"].as_str().unwrap().ends_with("changed."), "{merged}");

    // A newcomer gets documents instead of bodies, and is equal in everything.
    let mut c = b.invite(dirs[2].path(), 3);
    assert!(c.space.document(&object(1)).unwrap().is_none(), "nothing is shown before");
    let said = |device: &Device, of: &Device| {
        let Reply::Frontiers { acks, .. } = device.frontiers() else { unreachable!() };
        let me = device.space.device();
        let own = |ack: &larder_engine::Ack| ack.acker == me && ack.device == of.space.device();
        acks.into_iter().find(own).map_or(0, |ack| ack.size)
    };
    assert_eq!(said(&c, &a), 0, "what is missing is not acknowledged");
    c.fill(&b);
    assert_eq!(c.wanted(), None);
    assert_eq!(said(&c, &a), c.have()[&a.space.device()]);
    meet(&mut c, &mut a);
    for n in [1, 2, 3, 4, 7] {
        let of = |device: &Device| device.space.document(&object(n)).unwrap().unwrap();
        assert_eq!(of(&c).value, of(&a).value, "{n}");
        // Of what was created twice the newcomer knows one, whose first version is flat to it.
        if n != 7 {
            assert_eq!(of(&c).heads, of(&a).heads, "{n}");
        }
        let version = Version::Heads(of(&a).heads);
        assert_eq!(c.space.value_at(&object(n), &version).unwrap(), Some(of(&a).value), "{n}");
        assert_eq!(c.space.conflicts(&object(n)).unwrap(), a.space.conflicts(&object(n)).unwrap());
    }
    assert!(c.space.is_deleted(&object(5)).unwrap() && c.space.is_deleted(&object(6)).unwrap());
    assert_eq!(c.space.status().unwrap().waiting, 0);
    c.edit(object(3), |value| value["by"] = "c".into());
    c.delete(object(4));
    meet(&mut c, &mut b);
    meet(&mut a, &mut b);
    // All three prune what is there now.
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(a.pruned() > pruned.sections && c.pruned() == a.pruned());
}

#[test]
fn a_newcomer_after_the_pruning_has_the_blobs_that_documents_name() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let (info, content) = pruned_around_a_blob(&mut a, &mut b);
    let mut c = a.invite(dirs[2].path(), 3);
    c.fill(&a);
    assert!(c.space.blob(&info.id).unwrap().unwrap().named);
    blobs::fetch(&mut c, &a);
    assert_eq!(blobs::read(&c, &info.id), content);
}

/// Somebody pruned once a week by hand. Each time what all had agreed on the week before was still
/// there when the gain of another statement was looked at, so each time another one was made, with
/// nothing to gain, and all devices computed and signed it.
#[test]
fn what_is_agreed_on_goes_before_anything_else_is_stated() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    four_edited(&mut a);
    meet(&mut a, &mut b);
    assert_eq!(a.prune(true).stated, 1);
    meet(&mut a, &mut b);
    assert_eq!(b.prune(true).stated, 1);
    meet(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        device.writer.heartbeat().unwrap();
    }
    meet(&mut a, &mut b);
    let pruned = a.prune(true);
    assert_eq!((pruned.stated, pruned.sections), (0, 8), "{pruned:?}");
    assert_eq!(b.prune(true).stated, 0);
    assert_eq!(a.prune(true), Pruned::default());
}

/// The pieces of a document in a part.
pub(super) fn pieces(part: &mut Part, item: usize) -> &mut Vec<minicbor::bytes::ByteVec> {
    let Content::Document { pieces, .. } = &mut part.items[item].content else { panic!() };
    pieces
}

#[test]
fn nobody_can_feed_a_newcomer_other_documents_or_fewer() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    four_edited(&mut a);
    a.delete(object(4));
    meet(&mut a, &mut b);
    settle(&mut [&mut a, &mut b]);
    b.put(object(9), &json!({"tail": true}));
    let digest = b.space.digest().unwrap();
    let mut c = b.invite(dirs[2].path(), 3);
    a.pull(&b);
    let want = c.wanted().unwrap();
    let supply = c.supply_of(&b, &want);
    let good = Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap();
    assert_eq!(good.items.len(), 4);

    let mut bad: Vec<Part> = Vec::new();
    let mut change = |alter: &dyn Fn(&mut Part)| {
        let mut part = good.clone();
        alter(&mut part);
        bad.push(part);
    };
    change(&|part| part.items[0].leaf[40] ^= 1);
    change(&|part| part.items.swap(0, 1));
    change(&|part| part.items.truncate(2));
    change(&|part| drop(part.items.remove(1)));
    change(&|part| part.proof.push(larder_types::Hash::new([1; 32])));
    change(&|part| pieces(part, 0)[0] = br#"{"n":2}"#.to_vec().into());
    change(&|part| drop(pieces(part, 0).remove(0)));
    change(&|part| pieces(part, 0)[1] = pieces(&mut part.clone(), 1)[1].clone());
    change(&|part| part.items[3].content = part.items[0].content.clone());
    for part in bad {
        let supply = Supply { snapshot: Some(part.pack().unwrap()), ..Supply::default() };
        let refused = c.writer.take_supply(&supply);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{part:?}");
        assert_eq!(c.space.list(None, None, 9).unwrap().documents.len(), 1, "{part:?}");
    }
    let rubbish = Supply { snapshot: Some(vec![1, 2, 3]), ..Supply::default() };
    assert!(matches!(c.writer.take_supply(&rubbish), Err(Error::Refused { .. })));

    // One that says a document is gone is not believed either; another has it.
    let mut part = good.clone();
    part.items[2].content = Content::Gone;
    let supply = Supply { snapshot: Some(part.pack().unwrap()), ..Supply::default() };
    assert!(c.writer.take_supply(&supply).unwrap().progress);
    // One that says no more of a document than its first value has not said that that is all.
    part.items[2] = good.items[2].clone();
    pieces(&mut part, 2).truncate(1);
    part.items.drain(..2);
    part.items.truncate(1);
    part.proof.clear();
    let supply = Supply { snapshot: Some(part.pack().unwrap()), ..Supply::default() };
    assert!(c.writer.take_supply(&supply).unwrap().progress);
    assert_eq!(c.space.list(None, None, 9).unwrap().documents.len(), 3);
    // Nor does it keep the session busy with what is here already.
    assert!(!c.writer.take_supply(&supply).unwrap().progress);
    let part = good.clone();
    for content in [part.items[0].content.clone(), Content::Gone] {
        let mut again = part.clone();
        again.items.truncate(1);
        again.items[0].content = content;
        again.proof.clear();
        let supply = Supply { snapshot: Some(again.pack().unwrap()), ..Supply::default() };
        assert!(!c.writer.take_supply(&supply).unwrap().progress);
    }
    let want = c.wanted().expect("one document is still wanted");
    assert_eq!(want.snapshot.as_ref().unwrap().lacking.len(), 1);
    let state = c.space.state().unwrap();
    assert!(state.reasons.contains(&Reason::DocumentsMissing { documents: 1 }), "{state:?}");
    let Reply::Frontiers { acks, .. } = c.frontiers() else { unreachable!() };
    let me = c.space.device();
    assert!(acks.iter().all(|ack| ack.acker != me || ack.device != a.space.device()));
    c.fill(&a);
    assert_eq!(c.wanted(), None);
    assert_eq!(c.space.digest().unwrap(), digest);
    assert_eq!(c.space.state().unwrap().reasons, []);
}

#[test]
fn bytes_that_were_withheld_are_wanted_until_somebody_has_them() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut c = a.invite(dirs[2].path(), 3);
    b.pull(&a);
    a.put(object(1), &json!({"n": 1}));
    a.put(object(2), &json!({"n": 2}));
    a.edit(object(1), |value| value["n"] = 3.into());
    // A supplier that leaves out the first body, and one that would leave out an act.
    let request = Request::ReadBatch {
        after: Position::default(),
        have: b.have(),
        epochs: b.epochs(),
        bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
    };
    let Reply::Batch { batch: Some(batch), .. } = ask(&a.space, &b.profile.transport_id(), request)
    else {
        panic!()
    };
    let mut lacking = batch.clone();
    lacking.entries[0].payloads[0] = larder_log::Payload::Missing;
    let applied = b.writer.apply(*lacking).unwrap();
    assert!(applied.lacks && applied.acks.is_empty());
    assert!(b.space.document(&object(1)).unwrap().is_none());
    assert_eq!(b.value(object(2)), json!({"n": 2}), "what does not build on it is shown");
    assert_eq!(b.prune(true), Pruned::default(), "it cannot say what it all comes to");

    // Who has not got it either cannot help; nor do other bytes.
    let want = b.wanted().unwrap();
    assert!(want.snapshot.is_none() && want.sections.len() == 1, "{want:?}");
    assert!(b.supply_of(&c, &want).sections.is_empty());
    c.pull(&b);
    assert!(c.space.document(&object(1)).unwrap().is_none(), "and is not told otherwise");
    let mut forged = b.supply_of(&a, &want);
    assert_eq!(forged.sections.len(), 1);
    let good = forged.clone();
    if let larder_log::Payload::Sealed(bytes) = &mut forged.sections[0].payloads[0] {
        bytes[0] ^= 1;
    }
    assert!(matches!(b.writer.take_supply(&forged), Err(Error::Refused { .. })));
    let supplied = b.writer.take_supply(&good).unwrap();
    assert!(supplied.progress && supplied.acks.len() == 1);
    assert_eq!(b.value(object(1)), json!({"n": 3}));
    meet(&mut b, &mut c);
    meet(&mut a, &mut c);

    let mut act = batch;
    let first = act.entries.first_mut().unwrap();
    first.commitments[0].class = 1;
    assert!(b.writer.apply(*act).is_ok(), "known entries are passed over");
    let request = Request::ReadBatch {
        after: Position::default(),
        have: BTreeMap::new(),
        epochs: Vec::new(),
        bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
    };
    let Reply::Batch { batch: Some(mut genesis), .. } =
        ask(&a.space, &b.profile.transport_id(), request)
    else {
        panic!()
    };
    genesis.entries[0].payloads[0] = larder_log::Payload::Missing;
    let profile = Profile::create(world(9), dirs[3].path(), &unlock(), options("new")).unwrap();
    let invitation = a.profile.invite(&a.space, Vec::new()).unwrap();
    let mut joining = profile.begin_join(invitation).unwrap();
    let (agreed, admission) = profile.ask_within(&mut joining, &a.profile, &[1; 32]).unwrap();
    a.writer.admit(admission.enrolment.clone()).unwrap();
    let reply = a.profile.welcome(&admission, &a.space).unwrap();
    let (_, mut writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
    assert!(matches!(writer.apply(*genesis), Err(Error::Refused { .. })));
}

#[test]
fn a_device_that_comes_back_after_the_pruning_loses_no_edit_and_meets_none_lost() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut phone = a.invite(dirs[2].path(), 3);
    let text = "One line.\nAnother line.\nThe last line.";
    for n in 1..=3 {
        a.put(object(n), &json!({"text": text, "n": 0}));
    }
    meet(&mut a, &mut b);
    meet(&mut a, &mut phone);
    let seen = phone.space.document(&object(1)).unwrap().unwrap().heads;
    assert_eq!(seen, Heads::FLAT);
    // The phone goes before it has said anything: nothing can go without it.
    phone.edit(object(1), |value| value["text"] = text.replace("last", "very last").into());
    b.edit(object(1), |value| value["n"] = 1.into());
    meet(&mut a, &mut b);
    a.prune(true);
    for _ in 0..3 {
        meet(&mut a, &mut b);
        assert_eq!((a.prune(true).sections, b.prune(true).sections), (0, 0));
    }
    // It comes by for a moment, says so, and is gone again, with more edits that nobody has.
    meet(&mut a, &mut phone);
    assert_eq!(phone.prune(false).stated, 1);
    meet(&mut a, &mut phone);
    phone.edit(object(1), |value| value["n"] = 7.into());
    phone.edit(object(2), |value| value["text"] = text.replace("One", "First").into());
    phone.put(object(20), &json!({"from": "the phone"}));
    phone.edit(object(3), |value| value["n"] = 9.into());
    b.edit(object(2), |value| value["text"] = text.replace("Another", "A second").into());
    b.delete(object(3));
    for _ in 0..3 {
        meet(&mut a, &mut b);
        a.prune(false);
        b.prune(false);
    }
    assert!(a.pruned() > 0 && b.pruned() > 0);
    // Back again: its edits build on what the others pruned.
    meet(&mut b, &mut phone);
    meet(&mut a, &mut b);
    for device in [&a, &b, &phone] {
        let first = device.value(object(1));
        assert!(first["text"].as_str().unwrap().ends_with("very last line."), "{first}");
        assert_eq!(first["n"], 7);
        let second = device.value(object(2));
        assert_eq!(second["text"], "First line.\nA second line.\nThe last line.");
        assert!(device.space.is_deleted(&object(3)).unwrap());
        assert_eq!(device.value(object(20)), json!({"from": "the phone"}));
    }
    settle(&mut [&mut a, &mut b, &mut phone]);
    assert_eq!(a.pruned(), phone.pruned());
}

#[test]
fn receiving_goes_on_where_it_was_cut_and_what_was_deleted_since_is_not_waited_for() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    // Several parts of a megabyte; random, so that they do not pack.
    let mut noise = Counter(1 << 50);
    for n in 0..24 {
        let mut bytes = vec![0; 80_000];
        noise.fill(&mut bytes);
        let text = |bytes: &[u8]| -> String {
            bytes.iter().map(|byte| char::from(b'!' + byte % 90)).collect()
        };
        let lines: Vec<String> = bytes.chunks(160).map(text).collect();
        a.put(object(n), &json!({"lines": lines}));
        a.edit(object(n), |value| value["n"] = n.into());
    }
    meet(&mut a, &mut b);
    settle(&mut [&mut a, &mut b]);
    let agreed = a.pruned();
    assert!(agreed >= 48);
    a.delete(object(3));
    let mut c = a.invite(dirs[2].path(), 3);
    let name = "shared:test".parse().unwrap();
    let mut parts = 0;
    while let Some(want) = c.wanted() {
        let supply = c.supply_of(&a, &want);
        assert!(c.writer.take_supply(&supply).unwrap().progress);
        parts += 1;
        // Cut: nothing is closed in order.
        let Device { profile, space, writer } = c;
        drop((writer, space));
        drop(profile);
        let profile = Profile::open(
            world(40 + parts),
            dirs[2].path(),
            &unlock(),
            Access::ReadWrite,
            options("other"),
        )
        .unwrap();
        let (space, writer) = profile.open_space(&name).unwrap();
        c = Device { profile, space, writer: writer.unwrap() };
    }
    assert!(parts >= 2, "{parts}");
    assert_eq!(c.space.digest().unwrap(), a.space.digest().unwrap());
    assert!(c.space.is_deleted(&object(3)).unwrap());
    meet(&mut b, &mut c);
}

#[derive(Debug, Clone)]
enum Act {
    Put(usize, u8, u8),
    Edit(usize, u8, u8),
    Delete(usize, u8),
    Meet(usize, usize),
    Prune(usize, bool),
    Join(usize),
    Beat(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let device = 0..4_usize;
    let act = prop_oneof![
        2 => (device.clone(), 1..5_u8, any::<u8>()).prop_map(|(d, o, v)| Act::Put(d, o, v)),
        6 => (device.clone(), 1..5_u8, any::<u8>()).prop_map(|(d, o, v)| Act::Edit(d, o, v)),
        1 => (device.clone(), 1..5_u8).prop_map(|(d, o)| Act::Delete(d, o)),
        6 => (device.clone(), device.clone()).prop_map(|(a, b)| Act::Meet(a, b)),
        5 => (device.clone(), any::<bool>()).prop_map(|(d, p)| Act::Prune(d, p)),
        1 => device.clone().prop_map(Act::Join),
        1 => device.prop_map(Act::Beat),
    ];
    prop::collection::vec(act, 10..45)
}

/// Plays a history; at its end all have met, have pruned all there is, and one more has come.
fn play(acts: &[Act]) -> Vec<larder_types::Hash> {
    let mut dirs = vec![tempfile::tempdir().unwrap()];
    let mut devices = vec![Device::found(dirs[0].path(), 1)];
    for act in acts {
        let count = devices.len();
        match *act {
            Act::Put(d, o, v) => {
                let mut unit = UnitOfWork::new();
                let value = json!({"v": v, "text": format!("line\n{v}"), "deep": {"list": [v]}});
                unit.put("notes", object(o), &value).unwrap();
                let _ = devices[d % count].commit(unit);
            }
            Act::Edit(d, o, v) => {
                let device = &mut devices[d % count];
                let Some(read) = device.space.document(&object(o)).unwrap() else { continue };
                let mut value = Value::Object(read.value);
                value["v"] = v.into();
                value["text"] = format!("{}{v}", value["text"].as_str().unwrap()).into();
                device.put(object(o), &value);
            }
            Act::Delete(d, o) => {
                let mut unit = UnitOfWork::new();
                unit.delete(object(o));
                let _ = devices[d % count].commit(unit);
            }
            Act::Meet(a, b) if a % count != b % count => {
                let (a, b) = ((a % count).min(b % count), (a % count).max(b % count));
                let (left, right) = devices.split_at_mut(b);
                let (a, b) = (&mut left[a], &mut right[0]);
                a.pull(b);
                b.pull(a);
                a.fill(b);
                b.fill(a);
                a.learn_acks(b);
                b.learn_acks(a);
            }
            Act::Prune(d, propose) => {
                let device = &mut devices[d % count];
                let before = device.space.digest().unwrap();
                device.prune(propose);
                assert_eq!(device.space.digest().unwrap(), before);
            }
            Act::Join(d) if count < 4 => {
                let dir = tempfile::tempdir().unwrap();
                let seed = count as u64 + 1;
                let other = devices[d % count].invite(dir.path(), seed);
                dirs.push(dir);
                devices.push(other);
            }
            Act::Meet(..) | Act::Join(_) => {}
            Act::Beat(d) => {
                devices[d % count].writer.heartbeat().unwrap();
            }
        }
    }
    devices[0].put(object(99), &json!({"at": "the end"}));
    let mut all: Vec<&mut Device> = devices.iter_mut().collect();
    // Once for what was stated and came to nothing, once for all that is there.
    settle(&mut all);
    settle(&mut all);
    let dir = tempfile::tempdir().unwrap();
    let mut newcomer = devices[0].invite(dir.path(), 9);
    newcomer.fill(&devices[0]);
    dirs.push(dir);
    devices.push(newcomer);
    for device in &devices {
        assert_eq!(device.wanted(), None);
        let status = device.space.status().unwrap();
        assert_eq!(status.waiting, 0);
        assert!(status.pruned > 0);
        for log in status.logs {
            for seq in 1..=log.size {
                device.space.receipt(&log.device, seq).unwrap().verify().unwrap();
            }
        }
    }
    devices.iter().map(|device| device.space.digest().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_pruned_the_documents_are_what_they_would_be(acts in acts()) {
        let digests = play(&acts);
        prop_assert!(digests.iter().all(|digest| *digest == digests[0]), "{:?}", digests);
    }
}

/// Edits of 50 documents: 1,000, or as many as `LARDER_LONG` says.
#[test]
fn what_stays_is_bounded_by_what_is_there() {
    let edits: u32 = std::env::var("LARDER_LONG").map_or(1_000, |edits| edits.parse().unwrap());
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    for n in 0..50 {
        let text = format!("Document {n}. {}", "Some words of a note. ".repeat(20));
        a.put(object(n), &json!({"n": 0, "title": format!("note {n}"), "text": text}));
    }
    let mut units = (0..edits).map(|edit| {
        let mut unit = UnitOfWork::new();
        let n = u8::try_from(edit % 50).unwrap();
        let text = format!("Document {n}. {}", "Some words of a note. ".repeat(20));
        let value = json!({"n": edit + 1, "title": format!("note {edit}"), "text": text});
        unit.put("notes", object(n), &value).unwrap();
        unit
    });
    while units.len() > 0 {
        for result in a.writer.commit(&mut units) {
            result.unwrap();
        }
    }
    meet(&mut a, &mut b);
    let before = a.space.prune_status().unwrap();
    settle(&mut [&mut a, &mut b]);
    let after = a.space.prune_status().unwrap();
    assert!(before.bytes > u64::from(edits) * 200);
    assert!(after.bytes == 0, "{after:?}");
    let mut c = a.invite(dirs[2].path(), 3);
    let handed = c.fill(&a);
    assert_eq!(c.space.digest().unwrap(), a.space.digest().unwrap());
    println!(
        "{edits} edits: bodies {} -> {} bytes, snapshot {handed} bytes, file {} bytes",
        before.bytes,
        after.bytes,
        a.space.status().unwrap().file_bytes
    );
    assert!((handed as u64) < before.bytes / 2, "{handed} of {}", before.bytes);
}

// A check makes each object again from its sections. Of what a newcomer was handed as a snapshot
// there are no sections that it could open: a repair took such documents away, once they had been
// edited, and forgot that others were deleted.
#[test]
fn a_repair_leaves_alone_what_came_as_a_snapshot() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    for n in 1..=4 {
        a.put(object(n), &json!({"n": n}));
    }
    b.put(object(5), &json!({"n": 5}));
    meet(&mut a, &mut b);
    a.delete(object(4));
    a.prune(true);
    // Not in what is agreed on: it was written by one who had not seen the deletion.
    b.edit(object(4), |value| value["late"] = true.into());
    settle(&mut [&mut a, &mut b]);
    assert!(a.pruned() > 0 && b.pruned() > 0);
    a.edit(object(1), |value| value["late"] = true.into());
    let mut c = a.invite(dirs[2].path(), 3);
    // Half of it here is no reason to take it away either.
    let check = |device: &mut Device| {
        let mut checking = larder_engine::Checking::new(true);
        while !device.writer.check_step(&mut checking).unwrap() {}
        let report = checking.into_report();
        assert!(report.findings.is_empty(), "{report:?}");
    };
    check(&mut c);
    c.fill(&a);
    check(&mut c);
    for device in [&a, &c] {
        assert_eq!(device.value(object(1)), json!({"n": 1, "late": true}));
        assert!(device.space.is_deleted(&object(4)).unwrap());
    }
    check(&mut b);
    meet(&mut b, &mut c);
    meet(&mut a, &mut c);
}

/// A device that joined late had nothing to write, and so its log never named what all had agreed
/// on: nobody dropped anything, for ever.
#[test]
fn who_has_nothing_to_write_holds_up_no_pruning() {
    use Act::{Join, Meet, Prune, Put};
    let before = [Join(0), Put(0, 1, 0), Meet(0, 1), Join(2), Meet(0, 2), Prune(1, false)];
    let after = [Join(2), Prune(0, false), Meet(2, 1)];
    let digests = play(&[&before[..], &after].concat());
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

/// Two devices had stated snapshots neither of which included the other, and each half of the
/// household took another one over. Who had stated the wider one waited for it ever after.
#[test]
fn two_snapshots_of_which_neither_includes_the_other_hold_up_no_third() {
    use Act::{Edit, Join, Meet, Prune, Put};
    let before = [Join(0), Put(1, 1, 110), Meet(1, 0), Edit(1, 1, 118), Join(1)];
    let after = [Prune(1, true), Prune(2, true), Edit(0, 1, 180), Put(0, 1, 132), Edit(1, 2, 111)];
    let digests = play(&[before, after].concat());
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

/// A document was erased after a device had stated a snapshot and before another one had computed
/// it: what the document had come to that one could not tell any more, and so stated nothing. Who
/// had stated it waited for that, and nothing was pruned again.
#[test]
fn what_is_erased_before_all_have_stated_a_snapshot_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(&dir.path().join("a"), 1);
    let mut b = a.invite(&dir.path().join("b"), 2);
    let ids: Vec<_> = (1..=4).map(|n| ObjectId::new([n; 16])).collect();
    for id in &ids {
        a.put(*id, &json!({"text": "first"}));
        a.edit(*id, |value| value["text"] = "second".into());
    }
    b.pull(&a);
    b.prune(false);
    a.pull(&b);
    assert_eq!(a.prune(true).stated, 1);
    a.writer.erase(ids[0]).unwrap();
    b.pull(&a);
    assert_eq!(b.prune(false).stated, 0, "it cannot be computed any more");
    a.pull(&b);
    assert_eq!(a.prune(true).stated, 1, "another one, which covers what was erased");
    assert_eq!(a.prune(true).stated, 0, "which is waited for");
    for _ in 0..2 {
        b.pull(&a);
        b.learn_acks(&a);
        b.prune(false);
        a.pull(&b);
        a.learn_acks(&b);
        a.prune(false);
    }
    assert!(a.pruned() > 0 && b.pruned() > 0);
}
