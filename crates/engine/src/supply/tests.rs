//! Sections that open for nobody, which no honest device makes.

use std::sync::Arc;

use larder_log::checkpoint::Checkpoint;
use larder_log::{Band, Batch, BatchEntry, Class, EntryBuilder, Metadata, Opened, kind, merkle};
use larder_protocol::{Lack, Reply, Request};
use larder_store::space::logs::Tree;
use larder_types::{Clock, Entropy};

use super::*;
use crate::Answer;
use crate::prune::tests::Device;

/// An entry of a device's with a section that is sealed under no secret of any epoch.
fn garbage(by: &mut Device) -> Batch {
    let of = |_: &WriterState| larder_crypto::Secret::new([3; 32]);
    entry_of(by, of, kind::DOCUMENT_CREATE, &[1])
}

/// An entry of a device's that names nothing, with one section, sealed under this secret.
fn entry_of(
    by: &mut Device,
    secret: impl Fn(&WriterState) -> larder_crypto::Secret<32>,
    kind: u16,
    body: &[u8],
) -> Batch {
    let shared = Arc::clone(&by.space.shared);
    by.writer
        .transact(|tx, state| {
            let (keys, size) = (&shared.keys, state.frontier.size());
            let (device, epoch) = (keys.device(), state.epoch.unwrap());
            let mut builder = EntryBuilder::new(shared.id, device, size + 1, epoch, 0);
            let metadata = Metadata {
                kind,
                collection: Some("notes".parse().unwrap()),
                object: Some(larder_types::ObjectId::new([9; 16])),
                generation: Some(larder_types::EntryHash::new([9; 32])),
                actor: None,
                correlation: None,
                clock: Clock::ZERO,
                personal: None,
            };
            let opened = Opened { meta_salt: [1; 16], metadata, body: body.to_vec() };
            let mut entropy: Box<dyn Entropy> = shared.env.entropy();
            let (control, secret) = (state.keyring.control(), secret(state));
            let address = builder.address(Band::Green).unwrap();
            let (class, sealed) = (Class::Data, &mut *entropy);
            let (commitment, sealed) =
                larder_log::seal_section(sealed, &address, &secret, class, control, &opened)
                    .unwrap();
            builder.push(commitment, sealed);
            let entry = builder.finish().unwrap();
            let mut after = merkle::frontier_at(&Tree::new(tx, state.log), size)?;
            after.append(entry.hash.into(), &mut |_| {});
            let (size, root) = (after.size(), after.root());
            let checkpoint = Checkpoint { space: shared.id, device, size, root };
            let entries = vec![BatchEntry {
                header: entry.header_bytes,
                commitments: entry.commitments,
                payloads: entry.sealed.into_iter().map(Payload::Sealed).collect(),
            }];
            let signature = checkpoint.sign(&keys.signing);
            Ok(Batch { device, first_seq: size, entries, signature })
        })
        .unwrap()
}

fn wanted(device: &Device, of: &Device) -> Option<Want> {
    let from = Lack::Sections(0);
    let answer = device.space.answer(&of.profile.transport_id(), Request::ReadWants { from });
    let Answer::Reply(Reply::Wanted { want, .. }) = answer else { panic!() };
    want.map(|want| *want)
}

/// Asks a peer for what is lacking, as a session does; whether anything came of it.
fn ask(device: &mut Device, of: &Device, want: Want) -> bool {
    let epochs = device.space.shared.published().unwrap().epochs_held();
    let request = Request::ReadSupply { want: Box::new(want), epochs };
    let me = device.profile.transport_id();
    let Answer::Reply(Reply::Supply { supply }) = of.space.answer(&me, request) else { panic!() };
    let request = Request::TakeSupply { supply };
    let Answer::Write(task) = device.space.answer(&of.profile.transport_id(), request) else {
        panic!()
    };
    let Reply::Supplied { progress, .. } = device.writer.answer(task).reply else { panic!() };
    progress
}

/// A member sealed a section so that it opens for nobody. Whoever was let in later and lacked the
/// epoch's secret could not know, and asked every device for it in every session, for ever.
#[test]
fn what_opens_for_nobody_is_asked_of_each_device_once() {
    let mut a = Device::found(1);
    let mut author = a.invite(2);
    author.put(8, &serde_json::json!({"n": 8}));
    a.pull(&author);
    let mut b = a.invite(3);
    author.pull(&a);
    let batch = garbage(&mut author);
    for device in [&mut a, &mut b] {
        device.writer.apply(batch.clone()).unwrap();
        assert_eq!(wanted(device, &author), None, "it is void where the secret is");
    }
    a.put(1, &serde_json::json!({"n": 1}));
    b.pull(&a);
    let mut late = a.invite(4);
    b.pull(&a);
    let mut later = b.invite(5);
    a.pull(&b);
    late.pull(&b);
    later.pull(&a);
    let sealed = |want: Option<Want>| want.map(|want| want.sealed);
    let run = Run { device: batch.device, first: batch.first_seq, last: batch.first_seq };
    for of in [&a, &b] {
        let want = wanted(&late, of).expect("not known yet");
        assert_eq!(want.sealed, [run]);
        assert!(!ask(&mut late, of, want));
        assert_eq!(wanted(&late, of), None);
    }
    // Who does not know says nothing, and may get to know.
    let want = wanted(&late, &later).unwrap();
    assert!(!ask(&mut late, &later, want));
    assert_eq!(sealed(wanted(&late, &later)), Some(vec![run]));
}

/// A member wrote in an epoch that another device had not heard of yet, and did not name the entry
/// that opens it: an edit of a document that nobody has. When the secret came, the edit was opened
/// and went on waiting, and still counted as one to be opened: the device asked for it for ever
/// (simulated devices, seeds 140,070, 81,539 and 60,441).
#[test]
fn what_opens_late_and_waits_is_not_asked_for_again() {
    let mut a = Device::found(1);
    let mut author = a.invite(2);
    author.put(8, &serde_json::json!({"n": 8}));
    a.pull(&author);
    let mut b = a.invite(3);
    drop(a.invite(4));
    author.pull(&a);
    let of_epoch = |state: &WriterState| {
        let secrets = state.keyring.secrets(&state.epoch.unwrap()).unwrap();
        secrets.at(Band::Green, 0).unwrap().secret().clone()
    };
    let edit = larder_document::body::Change::new(vec![vec![1]]).encode();
    let batch = entry_of(&mut author, of_epoch, kind::DOCUMENT_CHANGE, &edit);
    for device in [&mut a, &mut b] {
        device.writer.apply(batch.clone()).unwrap();
    }
    let run = Run { device: batch.device, first: batch.first_seq, last: batch.first_seq };
    assert_eq!(wanted(&b, &author).map(|want| want.sealed), Some(vec![run]));
    b.pull(&a);
    for device in [&a, &b] {
        assert_eq!(device.space.status().unwrap().waiting, 1);
        assert_eq!(wanted(device, &author), None);
    }
}
