//! A peer that has everything and hands over less: what it holds back comes from another.

use larder_engine::{PrunePolicy, Wanted};
use larder_log::snapshot::{Content, Part};
use larder_log::{Class, Payload};
use larder_protocol::{Lack, Run, Supply, Want};

use super::peers::{batches, dirs};
use super::prune::{four_edited, meet, pruned_around_a_blob, settle};
use super::*;

/// A new device that got all that `from` has, with `alter` done to the bytes of each DATA section.
fn newcomer(
    from: &mut Device,
    (dir, seed): (&Path, u64),
    epochs: &[larder_types::EpochId],
    mut alter: impl FnMut(&mut Payload),
) -> Device {
    let mut new = from.admit_in(dir, world(seed));
    for mut batch in batches(from, new.profile.transport_id(), epochs) {
        for entry in &mut batch.entries {
            let sections = entry.commitments.iter().zip(&mut entry.payloads);
            for (_, payload) in sections.filter(|(section, _)| section.class == Class::Data as u8) {
                alter(payload);
            }
        }
        new.writer.apply(batch).unwrap();
    }
    new
}

impl Device {
    /// Asks `other` for what it has not written down, which it does once it has nothing else to do.
    fn ask_for(&self, other: &mut Self, want: &Want) -> Supply {
        let request = Request::ReadSupply { want: Box::new(want.clone()), epochs: self.epochs() };
        let answer = other.space.answer(&self.profile.transport_id(), request);
        let Answer::Write(task) = answer else { panic!("{answer:?}") };
        let Reply::Supply { supply } = other.writer.answer(task).reply else { unreachable!() };
        while let Some(mut pruning) = other.writer.wants_pruning().unwrap() {
            while !other.writer.prune_step(&mut pruning).unwrap() {}
        }
        *supply
    }
}

/// A newcomer was let in by a device that had pruned, and then met only one that had stated the
/// same and kept its bodies: that had everything, and could hand over nothing of it.
#[test]
fn who_has_not_pruned_yet_writes_the_leaves_down_for_a_newcomer_and_drops_nothing() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let by_hand = ProfileOptions { prunes: PrunePolicy::ByHand, ..options("by hand") };
    let profile = Profile::create(world(2), dirs[1].path(), &unlock(), by_hand).unwrap();
    let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
    let mut b = Device { profile, space, writer };
    let mut a = b.invite(dirs[0].path(), 1);
    four_edited(&mut b);
    a.pull(&b);
    a.put(object(5), &json!({"by": "a"}));
    meet(&mut a, &mut b);
    assert_eq!(b.prune(true).stated, 1);
    for _ in 0..3 {
        meet(&mut a, &mut b);
        a.prune(false);
        // It prunes by hand: all that goes by itself are secrets.
        while let Some(mut pruning) = b.writer.wants_pruning().unwrap() {
            while !b.writer.prune_step(&mut pruning).unwrap() {}
        }
    }
    assert!(a.pruned() > 0 && b.pruned() == 0);
    let mut c = a.invite(dirs[2].path(), 3);
    assert!(c.space.document(&object(1)).unwrap().is_none());
    c.pull(&b);
    b.pull(&c);
    let want = c.wanted().unwrap();
    // Who may not read is told nothing, and makes nobody work.
    let request = Request::ReadSupply { want: Box::new(want.clone()), epochs: Vec::new() };
    let nobody = TransportId::new([1; 32]);
    let Reply::Supply { supply } = ask(&b.space, &nobody, request) else { unreachable!() };
    assert_eq!(*supply, Supply::default());

    assert_eq!(c.ask_for(&mut b, &want).snapshot, None);
    assert_eq!(b.pruned(), 0);
    c.fill(&b);
    assert_eq!(c.wanted(), None);
    assert_eq!(c.space.digest().unwrap(), b.space.digest().unwrap());
    let bodies = b.space.history(&object(1)).unwrap();
    assert!(bodies.len() > 1);
    // It prunes as ever, once it is told to.
    b.learn_acks(&a);
    b.learn_acks(&c);
    meet(&mut a, &mut c);
    settle(&mut [&mut b, &mut a, &mut c]);
    assert!(b.pruned() > 0);
    assert_eq!(a.space.digest().unwrap(), b.space.digest().unwrap());
}

// A peer handed a newcomer sections as they were sealed, of an epoch from before it came. They were
// kept and waited for a secret that never comes, and nobody was asked for them: two devices had the
// same entries and showed other documents.
#[test]
fn what_comes_sealed_to_who_has_no_secret_for_it_is_asked_for_again() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    for n in 1..=3 {
        a.put(object(n), &json!({"n": n}));
    }
    // As if the newcomer had said to hold all secrets.
    let epochs = a.epochs();
    let mut b = newcomer(&mut a, (dirs[1].path(), 2), &epochs, |payload| {
        assert!(matches!(payload, Payload::Sealed(_)));
    });
    assert_eq!(b.have(), a.have());
    assert!(b.space.document(&object(1)).unwrap().is_none());
    assert_eq!(b.space.status().unwrap().waiting, 3);
    let want = b.wanted().expect("it is to be opened by who can");
    assert_eq!((want.sections.len(), want.sealed.len()), (0, 1), "{want:?}");
    // Who cannot either has nothing of it.
    let none = b.supply_of(&b, &want);
    assert_eq!(none.sections, []);
    b.fill(&a);
    assert_eq!(b.wanted(), None);
    assert_eq!(b.value(object(3)), json!({"n": 3}));
    meet(&mut a, &mut b);
    // And goes on from there, to one that came later.
    let mut c = a.admit_in(dirs[2].path(), world(3));
    b.pull(&a);
    c.pull(&b);
    assert_eq!(c.value(object(2)), json!({"n": 2}));
}

// What a thief wrote came to a newcomer sealed, under a secret that is gone. It counts for nothing,
// and was waited for, for ever, all the same: nothing was pruned any more (simulated seed 162).
#[test]
fn what_comes_sealed_and_counts_for_nothing_is_waited_for_by_nobody() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut thief = a.invite(dirs[1].path(), 2);
    thief.put(object(1), &json!({"n": 1}));
    a.pull(&thief);
    let in_time = a.have()[&thief.space.device()];
    thief.put(object(2), &json!({"n": 2}));
    a.writer.revoke(&[thief.space.device()]).unwrap();
    a.pull(&thief);
    let epochs = a.epochs();
    let mut sealed = 0;
    let b = newcomer(&mut a, (dirs[2].path(), 3), &epochs, |payload| {
        sealed += u64::from(matches!(payload, Payload::Sealed(_)));
    });
    assert_eq!((b.have(), sealed), (a.have(), 2));
    let of = thief.space.device();
    let want = b.wanted().expect("what the thief wrote in time is to be opened by who can");
    let in_time = Run { device: of, first: in_time, last: in_time };
    assert_eq!((want.sections, want.sealed), (vec![], vec![in_time]));
    assert_eq!(b.space.status().unwrap().waiting, 1);
}

// The same, where the newcomer hears of the theft last.
#[test]
fn what_came_sealed_is_waited_for_no_more_once_it_counts_for_nothing() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut thief = a.invite(dirs[1].path(), 2);
    a.pull(&thief);
    thief.put(object(1), &json!({"n": 1}));
    let mut b = a.admit_in(dirs[2].path(), world(3));
    b.pull(&a);
    thief.pull(&a);
    let all = thief.epochs();
    for batch in batches(&thief, b.profile.transport_id(), &all) {
        b.writer.apply(batch).unwrap();
    }
    assert_eq!(b.space.status().unwrap().waiting, 1, "the control");
    a.writer.revoke(&[thief.space.device()]).unwrap();
    b.pull(&a);
    assert_eq!(b.space.status().unwrap().waiting, 0);
    assert_eq!(b.wanted(), None);
}

// Below a snapshot nothing was asked for any more, though a snapshot stands for documents alone. A
// newcomer whose first peer held back a blob's manifest never learnt of the blob.
#[test]
fn manifests_that_the_first_peer_held_back_are_asked_for_below_a_snapshot() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let (info, content) = pruned_around_a_blob(&mut a, &mut b);
    let mut c = newcomer(&mut a, (dirs[2].path(), 3), &[], |payload| *payload = Payload::Missing);
    c.pull(&a);
    // The snapshot comes from the same peer.
    while let Some(want) = c.wanted().filter(|want| want.snapshot.is_some()) {
        let supply = c.supply_of(&a, &want);
        assert!(c.writer.take_supply(&supply).unwrap().progress);
    }
    assert_eq!(c.value(object(2)), json!({"b": 1}));
    assert_eq!(c.space.blob(&info.id).unwrap(), None);
    let want = c.wanted().expect("a document names it");
    assert_eq!(want.blobs, [info.id]);
    assert_eq!(c.supply_of(&c, &want).sections, []);
    b.pull(&a);
    c.fill(&b);
    assert_eq!(c.wanted(), None);
    blobs::fetch(&mut c, &a);
    assert_eq!(blobs::read(&c, &info.id), content);
    meet(&mut c, &mut a);
}

// Of what was missing the first 256 sections were asked for, and the same again until they came:
// what nobody has kept a device from all that lay behind it.
#[test]
fn what_nobody_has_keeps_nobody_from_the_rest() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    for n in 0..300_u16 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        a.put(ObjectId::new(id), &json!({"n": n}));
    }
    let last = ObjectId::new({
        let mut id = [0; 16];
        id[..2].copy_from_slice(&299_u16.to_be_bytes());
        id
    });
    let withheld = |is_last_too: bool| {
        let mut count = 0;
        move |payload: &mut Payload| {
            count += 1;
            if is_last_too || count < 300 {
                *payload = Payload::Missing;
            }
        }
    };
    let mut b = newcomer(&mut a, (dirs[1].path(), 2), &[], withheld(false));
    assert_eq!(b.value(last)["n"], 299);
    let mut c = newcomer(&mut a, (dirs[2].path(), 3), &[], withheld(true));
    assert!(c.space.document(&last).unwrap().is_none());
    b.pull(&a);
    c.fill(&b);
    assert_eq!(c.value(last)["n"], 299);
    c.fill(&a);
    assert_eq!(c.wanted(), None);
}

// A peer had the large half of an entry and lacked the small one, as did this device. It filled its
// answer with the large half each time it was asked; nothing came of it, and the other entries of
// the page were never asked for.
#[test]
fn what_is_of_no_use_and_large_keeps_nobody_from_the_rest() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut unit = UnitOfWork::new();
    unit.put("note", object(1), &json!({"small": 1})).unwrap();
    for n in 2..=3 {
        let noise: String = blobs::noise(u64::from(n), 900_000)
            .iter()
            .map(|byte| char::from(b'0' + byte % 64))
            .collect();
        unit.put("note", object(n), &json!({"large": noise})).unwrap();
    }
    a.commit(unit).unwrap();
    a.put(object(4), &json!({"n": 4}));
    let withhold = |which: [bool; 4]| {
        let mut which = which.into_iter();
        move |payload: &mut Payload| {
            if which.next().unwrap() {
                *payload = Payload::Missing;
            }
        }
    };
    let one = withhold([true, false, false, false]);
    let mut b = newcomer(&mut a, (dirs[1].path(), 2), &[], one);
    let both = withhold([true, false, false, true]);
    let mut c = newcomer(&mut a, (dirs[2].path(), 3), &[], both);
    b.pull(&a);
    c.fill(&b);
    assert_eq!(c.value(object(4)), json!({"n": 4}));
    c.fill(&a);
    assert_eq!(c.wanted(), None);
    assert_eq!(c.value(object(1)), json!({"small": 1}));
}

// Of leaves whose documents nobody had handed over, and of blobs whose manifests, the first 256
// were asked for again and again, whoever was asked: what nobody has any more kept a newcomer from
// the others for ever.
#[test]
fn documents_and_manifests_that_nobody_has_keep_nobody_from_the_rest() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut unit = UnitOfWork::new();
    for n in 0..300_u32 {
        let mut id = [0; 32];
        id[28..].copy_from_slice(&n.to_be_bytes());
        let nobody_has = larder_types::BlobId::new(id).to_string();
        let mut id = [1; 16];
        id[12..].copy_from_slice(&n.to_be_bytes());
        let value = json!({"photo": {"$blob": nobody_has}});
        unit.put("note", ObjectId::new(id), &value).unwrap();
    }
    a.commit(unit).unwrap();
    let (info, _) = pruned_around_a_blob(&mut a, &mut b);
    settle(&mut [&mut a, &mut b]);
    let mut c = newcomer(&mut a, (dirs[2].path(), 3), &[], |payload| *payload = Payload::Missing);
    c.pull(&a);
    let supply = c.supply_of(&a, &c.wanted().unwrap());
    let mut part = Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap();
    for item in &mut part.items {
        item.content = Content::Gone;
    }
    let part = Supply { snapshot: Some(part.pack().unwrap()), ..Supply::default() };
    c.writer.take_supply(&part).unwrap();
    let Wanted { want, next } = c.space.wanted(Lack::default()).unwrap();
    let lacking = |want: Option<larder_protocol::Want>| want.unwrap().snapshot.unwrap().lacking;
    let first = lacking(want);
    let rest = lacking(c.space.wanted(next.unwrap()).unwrap().want);
    assert_eq!((first.len(), rest.len()), (256, 302 - 256));
    assert!(first.last() < rest.first());

    c.fill(&a);
    assert_eq!(c.value(object(2)), json!({"b": 1}));
    assert!(c.space.blob(&info.id).unwrap().is_some(), "behind 300 that nobody has");
}
