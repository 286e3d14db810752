//! A peer that has everything and hands over less: what it holds back comes from another.

use larder_log::{Class, Payload};

use super::peers::{batches, dirs};
use super::prune::{meet, pruned_around_a_blob};
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
    while let Some(mut want) = c.wanted().filter(|want| want.snapshot.is_some()) {
        want.blobs.clear();
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
