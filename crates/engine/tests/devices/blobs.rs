//! Files of any size beside the documents that name them.

use std::io::{Read, Seek, SeekFrom};

use larder_engine::{BlobAnswer, BlobAt, BlobInfo, BlobPolicy, NewBlob, NewManifest};
use larder_protocol::{BlobReply, BlobRequest};
use larder_types::BlobId;
use larder_types::limits::{BLOB_GRACE_MS, BLOB_LEASE_MS};
use proptest::prelude::*;

use super::*;

/// Bytes without any pattern, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Counter(seed << 40).fill(&mut bytes);
    bytes
}

fn named(name: &str) -> NewBlob {
    NewBlob { media_type: "application/octet-stream".into(), name: Some(name.into()), band: None }
}

/// Stages a blob, and how many chunks of it were new.
pub(crate) fn staged(device: &mut Device, content: &[u8], name: &str) -> (NewManifest, usize) {
    let mut adding = device.space.add_blob(content, named(name)).unwrap();
    let mut new = 0;
    loop {
        let part = adding.part().unwrap();
        if part.is_empty() {
            break;
        }
        new += part.len();
        device.writer.stage(&part).unwrap();
    }
    (adding.finish().unwrap(), new)
}

/// Adds a blob, and how many chunks of it were new.
pub(crate) fn add(device: &mut Device, content: &[u8], name: &str) -> (BlobInfo, usize) {
    let (manifest, new) = staged(device, content, name);
    (device.writer.commit_blob(&manifest).unwrap(), new)
}

pub(crate) fn read(device: &Device, id: &BlobId) -> Vec<u8> {
    let mut content = Vec::new();
    device.space.read_blob(id).unwrap().read_to_end(&mut content).unwrap();
    content
}

/// Takes chunks of `from` that `to` wants; returns how many.
pub(crate) fn fetch(to: &mut Device, from: &Device) -> usize {
    let mut taken = 0;
    for (_, digest) in to.space.wanted_chunks(BlobAt::default(), usize::MAX).unwrap() {
        let Some(sealed) = from.space.sealed_chunk(&digest).unwrap() else { continue };
        let chunk = to.space.open_received(digest, sealed).unwrap();
        taken += to.writer.store_chunks(&[chunk]).unwrap();
    }
    taken
}

fn name_it(device: &mut Device, n: u8, id: &BlobId) {
    device.put(object(n), &json!({"photo": {"$blob": id.to_string(), "alt": "A cat"}}));
}

#[test]
fn a_blob_is_what_was_added_from_end_to_end_and_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    for len in [0, 1, 128 << 10, (1 << 20) + 1, 5_000_000] {
        let content = noise(len as u64, len);
        let (info, _) = add(&mut a, &content, "a.bin");
        assert_eq!((info.size, info.missing, info.named), (len as u64, 0, false));
        assert_eq!(read(&a, &info.id), content);
        let mut reader = a.space.read_blob(&info.id).unwrap();
        let middle = len as u64 / 2;
        reader.seek(SeekFrom::Start(middle)).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, content[len / 2..]);
        reader.seek(SeekFrom::End(5)).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "behind the end there is nothing");
        let receipt = a.space.receipt(&info.by, info.seq).unwrap();
        receipt.verify().unwrap();
    }
    let refused = a.space.read_blob(&BlobId::new([0; 32])).unwrap_err();
    assert!(matches!(refused, Error::NotFound(_)));
    let no_type = NewBlob { media_type: String::new(), name: None, band: None };
    assert!(matches!(a.space.add_blob(&b""[..], no_type), Err(Error::Invalid(_))));
}

#[test]
fn a_changed_file_shares_what_did_not_change_and_the_same_file_is_the_same_blob() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let content = noise(1, 8 << 20);
    let (first, chunks) = add(&mut a, &content, "a.bin");
    assert!(chunks > 15, "{chunks} chunks");
    let (again, new) = add(&mut a, &content, "a.bin");
    assert_eq!((again, new), (first.clone(), 0));
    let (renamed, new) = add(&mut a, &content, "b.bin");
    assert!(renamed.id != first.id && new == 0);

    let inserted = [&b"!"[..], &content].concat();
    let (changed, new) = add(&mut a, &inserted, "a.bin");
    assert!(new <= 3, "{new} of {chunks} chunks are new after one byte more at the beginning");
    assert_eq!(read(&a, &changed.id), inserted);

    // The same on a device that received it.
    name_it(&mut a, 1, &first.id);
    let mut b = a.invite(two.path(), 2);
    fetch(&mut b, &a);
    let (_, new) = add(&mut b, &[&content, &b"!"[..]].concat(), "c.bin");
    assert!(new <= 2, "{new} chunks are new");
    let zeros = vec![0; 20 << 20];
    let (zero, new) = add(&mut b, &zeros, "zeros");
    assert_eq!((read(&b, &zero.id).len(), new), (zeros.len(), 1), "one chunk many times over");
}

#[test]
fn what_a_cut_left_of_a_blob_is_swept_and_nothing_of_it_is_visible() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let content = noise(1, 6 << 20);
    let mut adding = a.space.add_blob(&content[..], named("cut.bin")).unwrap();
    let part = adding.part().unwrap();
    a.writer.stage(&part).unwrap();
    let digest = part[0].digest;
    assert!(a.space.sealed_chunk(&digest).unwrap().is_some());
    assert!(a.space.blobs().unwrap().is_empty());
    drop((adding, part));
    let Device { profile, space, writer } = a;
    drop((space, writer));
    profile.close().unwrap();
    drop(profile);
    let profile =
        Profile::open(world(5), dir.path(), &unlock(), Access::ReadWrite, options("x")).unwrap();
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    assert!(space.sealed_chunk(&digest).unwrap().is_none(), "it is swept");
    let mut a = Device { profile, space, writer: writer.unwrap() };
    let (info, _) = add(&mut a, &content, "cut.bin");
    assert_eq!(read(&a, &info.id), content);
}

#[test]
fn a_reader_that_fails_says_so_and_what_was_staged_can_be_taken_back() {
    struct Broken(u64);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 > 6 << 20 {
                return Err(std::io::Error::other("the stick was pulled out"));
            }
            self.0 += buffer.len() as u64;
            Counter(self.0).fill(buffer);
            Ok(buffer.len())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let mut adding = a.space.add_blob(Broken(0), named("x")).unwrap();
    let part = adding.part().unwrap();
    a.writer.stage(&part).unwrap();
    let error = loop {
        if let Err(error) = adding.part() {
            break error;
        }
    };
    assert!(error.to_string().contains("pulled out"), "{error}");
    a.writer.unstage(&adding.staged()).unwrap();
    assert!(a.space.sealed_chunk(&part[0].digest).unwrap().is_none());
}

#[test]
fn a_blob_goes_when_no_document_names_it_and_everyone_has_long_seen_that() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let content = noise(1, 2 << 20);
    let (kept, _) = add(&mut a, &content, "kept.bin");
    let (gone, _) = add(&mut a, &[&content[..], b"and more"].concat(), "gone.bin");
    name_it(&mut a, 1, &kept.id);
    name_it(&mut a, 2, &gone.id);
    let mut b = a.invite(two.path(), 2);
    let chunks = fetch(&mut b, &a);
    assert!(chunks > 3 && read(&b, &gone.id).len() == content.len() + 8);
    sync(&mut a, &mut b);

    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    a.commit(unit).unwrap();
    assert!(!a.space.blob(&gone.id).unwrap().unwrap().named);
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0, "b has not seen it");
    let still = a.space.blob(&gone.id).unwrap().unwrap();
    assert_eq!(still.missing, 0);

    // A person may ask for it at once; what a named blob shares stays.
    let collected = a.writer.collect_blobs().unwrap();
    assert!(collected.chunks >= 1 && collected.bytes > 0);
    let left = a.space.blob(&gone.id).unwrap().unwrap();
    assert_eq!(left.missing, collected.chunks);
    assert_eq!(read(&a, &kept.id), content);
    assert_eq!(a.writer.collect_blobs().unwrap().chunks, 0);
    assert_eq!(fetch(&mut a, &b), 0, "it is not wanted");

    // A document that comes later and names it: it is wanted again, and b has it.
    name_it(&mut b, 3, &gone.id);
    a.pull(&b);
    assert_eq!(a.space.blobs_status().unwrap().waiting, 1);
    assert_eq!(fetch(&mut a, &b) as u64, collected.chunks);
    assert_eq!(read(&a, &gone.id).len(), content.len() + 8);
}

/// The same device in a later run, when its clock shows so many milliseconds more.
pub(crate) fn reopen(device: Device, dir: &Path, seed: u64, ahead: u64) -> Device {
    let Device { profile, space, writer } = device;
    drop((space, writer));
    profile.close().unwrap();
    drop(profile);
    let world = later_world(seed, ahead);
    let profile = Profile::open(world, dir, &unlock(), Access::ReadWrite, options("x")).unwrap();
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    Device { profile, space, writer: writer.unwrap() }
}

/// An app left a reader of a film in a player's window and closed the profile, which is to leave no
/// key in memory. The reader held the whole space, keys included.
#[test]
fn a_reader_keeps_no_space_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let content = noise(1, 3 << 20);
    let (info, _) = add(&mut a, &content, "x.bin");
    let mut reader = a.space.read_blob(&info.id).unwrap();
    let first = reader.next_piece().unwrap().len();
    let Device { profile, space, writer } = a;
    drop((space, writer));
    profile.close().unwrap();
    drop(profile);
    let refused = reader.next_piece().unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)) && first > 0, "{refused:?}");
}

/// Somebody imports a folder with pictures, and tidies up in another window meanwhile: each picture
/// is stored before the note that shows it. Or `larder blob collect` runs by itself between one
/// command that adds a file and the next that names it.
#[test]
fn a_collection_by_hand_leaves_alone_what_was_added_lately_and_is_not_named_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let content = noise(1, 1 << 20);
    let (info, _) = add(&mut a, &content, "x.bin");
    let collected = a.writer.collect_blobs().unwrap();
    assert_eq!((collected.chunks, collected.fresh), (0, 1));
    assert_eq!(read(&a, &info.id), content);
    // Whatever the clock does meanwhile; and in the next run for a day.
    let mut a = reopen(a, dir.path(), 3, BLOB_LEASE_MS * 7);
    assert_eq!(a.writer.collect_blobs().unwrap().chunks, 0);
    let mut a = reopen(a, dir.path(), 4, BLOB_LEASE_MS * 8 - 60_000);
    assert_eq!(a.writer.collect_blobs().unwrap().chunks, 0);

    // Once it was named the lease is at its end.
    name_it(&mut a, 1, &info.id);
    assert_eq!(a.writer.collect_blobs().unwrap().fresh, 0);
    let mut unit = UnitOfWork::new();
    unit.delete(object(1));
    a.commit(unit).unwrap();
    let collected = a.writer.collect_blobs().unwrap();
    assert!(collected.chunks > 0 && collected.fresh == 0, "{collected:?}");

    // Added again, it is leased again, and what is abandoned goes in the end.
    let (again, new) = add(&mut a, &content, "x.bin");
    assert!(again.id == info.id || new > 0);
    assert_eq!(a.writer.collect_blobs().unwrap().chunks, 0);
    assert_eq!(read(&a, &again.id), content);
    let a = reopen(a, dir.path(), 5, BLOB_LEASE_MS * 8);
    let mut a = reopen(a, dir.path(), 6, BLOB_LEASE_MS * 10);
    assert!(a.writer.collect_blobs().unwrap().chunks > 0);
}

/// A file that shares its beginning with one that nobody names: while it is being added, the other
/// one is collected.
#[test]
fn what_is_being_added_does_not_build_on_what_may_be_collected() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let content = noise(1, 2 << 20);
    let (old, _) = add(&mut a, &content, "old.bin");
    name_it(&mut a, 1, &old.id);
    let mut unit = UnitOfWork::new();
    unit.delete(object(1));
    a.commit(unit).unwrap();
    let longer = [&content[..], b"and more"].concat();
    let mut adding = a.space.add_blob(&longer[..], named("new.bin")).unwrap();
    let part = adding.part().unwrap();
    a.writer.stage(&part).unwrap();
    assert!(a.writer.collect_blobs().unwrap().chunks > 0);
    assert!(adding.part().unwrap().is_empty());
    let info = a.writer.commit_blob(&adding.finish().unwrap()).unwrap();
    assert_eq!(read(&a, &info.id), longer);
}

fn acks(from: &Device, to: &mut Device) {
    let Reply::Frontiers { acks, .. } = from.frontiers() else { unreachable!() };
    to.writer.store_acks(&acks).unwrap();
}

/// Somebody throws a draft away with its picture, and a month later begins another with the same
/// picture: added again it is the same blob, long marked as nobody's. Before the new draft is
/// written the device restarts, and tidies up: the picture has to be there, on the only device that
/// has it.
#[test]
fn a_blob_that_is_added_again_has_its_grace_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let content = noise(1, 1 << 20);
    let (info, _) = add(&mut a, &content, "x.bin");
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    let b = a.invite(two.path(), 2);
    let later = 2 * BLOB_GRACE_MS;
    let (mut a, mut b) = (reopen(a, one.path(), 3, later), reopen(b, two.path(), 4, later));
    a.put(object(1), &json!({"a": 1}));
    b.pull(&a);
    acks(&b, &mut a);
    assert_eq!(add(&mut a, &content, "x.bin"), (info.clone(), 0));
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    assert_eq!(read(&a, &info.id), content);
}

/// A board without a battery begins each run in a year long past, until it has asked for the time.
/// A picture that is added just then must not be taken for one that nobody has named since.
#[test]
fn a_clock_that_fell_back_makes_no_blob_old() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let b = a.invite(two.path(), 2);
    let later = 2 * BLOB_GRACE_MS;
    let mut a = reopen(a, one.path(), 3, later);
    a.put(object(1), &json!({"a": 1}));
    let mut a = reopen(a, one.path(), 4, 0);
    let content = noise(1, 1 << 20);
    let (info, _) = add(&mut a, &content, "x.bin");
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    let mut a = reopen(a, one.path(), 5, later + 1000);
    let mut b = reopen(b, two.path(), 6, later + 1000);
    b.pull(&a);
    a.put(object(1), &json!({"a": 2}));
    b.pull(&a);
    acks(&b, &mut a);
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    assert_eq!(read(&a, &info.id), content);
}

/// Someone who is not of the space keeps a stream open, and asks for a chunk whose digest he has
/// from elsewhere: he is not told that it is held, neither now nor once it comes.
#[test]
fn a_stranger_learns_of_no_chunk_whether_it_is_held() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let (info, _) = add(&mut a, &noise(1, 1000), "x.bin");
    name_it(&mut a, 1, &info.id);
    let b = a.invite(two.path(), 2);
    let digests: Vec<_> =
        b.space.wanted_chunks(BlobAt::default(), 9).unwrap().into_iter().map(|(_, d)| d).collect();
    assert_eq!(digests.len(), 1);
    let held = |peer| {
        let request = BlobRequest::ReadHeld { digests: digests.clone() };
        match a.space.answer_blobs(&peer, request, true, &mut |_| true) {
            BlobAnswer::Reply(BlobReply::Held { digests }) => digests.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(held(b.profile.transport_id()), 1);
    assert_eq!(held(TransportId::new([7; 32])), 0);
}

#[test]
fn collecting_by_itself_waits_for_the_grace_of_two_clocks_and_for_every_device() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let (info, _) = add(&mut a, &noise(1, 1 << 20), "x.bin");
    let chunks = a.writer.tend_blobs().unwrap().chunks;
    assert_eq!(chunks, 0, "alone, there is no second clock");
    let b = a.invite(two.path(), 2);
    acks(&b, &mut a);
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    // Only this device's clock says that a month has passed.
    let later = 2 * BLOB_GRACE_MS;
    let mut a = reopen(a, one.path(), 3, later);
    assert_eq!(a.writer.tend_blobs().unwrap().chunks, 0);
    // The other one's as well, but it has not seen what was written last.
    let mut b = reopen(b, two.path(), 4, later);
    a.put(object(1), &json!({"a": 1}));
    b.pull(&a);
    a.put(object(1), &json!({"a": 2}));
    acks(&b, &mut a);
    let due = a.writer.tend_blobs().unwrap();
    assert!(due.chunks > 0, "what was marked before that was seen by all");
    assert!(a.space.blob(&info.id).unwrap().unwrap().missing > 0);
}

#[test]
fn a_lazy_device_fetches_what_it_is_asked_to() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let (large, _) = add(&mut a, &noise(1, 2 << 20), "large.bin");
    let (small, _) = add(&mut a, &noise(2, 1000), "small.bin");
    name_it(&mut a, 1, &large.id);
    name_it(&mut a, 2, &small.id);
    let mut b = a.invite(two.path(), 2);
    b.writer.set_blob_policy(BlobPolicy { eager_bytes_max: 1000 }).unwrap();
    assert_eq!(b.space.blobs_status().unwrap().waiting, 1);
    fetch(&mut b, &a);
    assert_eq!(read(&b, &small.id), noise(2, 1000));
    let error = b.space.read_blob(&large.id).unwrap_err();
    assert!(matches!(error, Error::BlobNotHere { missing, .. } if missing == large_chunks(&a)));
    b.writer.want_blob(&large.id).unwrap();
    fetch(&mut b, &a);
    assert_eq!(read(&b, &large.id), noise(1, 2 << 20));
}

fn large_chunks(a: &Device) -> u64 {
    let large = a.space.blobs().unwrap().remove(0);
    let mut reader = a.space.read_blob(&large.id).unwrap();
    let mut chunks = 0;
    while !reader.next_piece().unwrap().is_empty() {
        chunks += 1;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn ids_in_a_document_are_found_wherever_they_stand(
        ids in prop::collection::btree_set(any::<[u8; 32]>(), 0..4), depth in 0..5_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut a = Device::found(dir.path(), 1);
        let mut all = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let (info, _) = add(&mut a, id, &n.to_string());
            all.push(info.id);
        }
        let mut value = json!({"list": all.iter().map(|id| json!({"$blob": id.to_string()}))
            .collect::<Vec<_>>(), "none": {"$blob": "ABC"}, "$blob": 7});
        for _ in 0..depth {
            value = json!({"deep": [value, {"$blob": null}]});
        }
        a.put(object(1), &value);
        let are_named = |a: &Device, named: bool| {
            a.space.blobs().unwrap().iter().all(|blob| blob.named == named)
        };
        prop_assert!(are_named(&a, true));
        a.put(object(1), &json!({"other": 1}));
        prop_assert!(are_named(&a, false) || all.is_empty());
        a.put(object(1), &value);
        prop_assert!(are_named(&a, true));
    }
}
