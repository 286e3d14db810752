//! What peers send, and what they are sent.

use larder_engine::{Batch, EmbedError, Embedder};
use larder_log::{Class, Payload};

use super::*;

/// All batches that `from` has for a device that holds nothing.
pub(super) fn batches(
    from: &Device,
    peer: TransportId,
    epochs: &[larder_types::EpochId],
) -> Vec<Batch> {
    let (mut position, mut have) = (Position::default(), BTreeMap::new());
    let mut batches = Vec::new();
    loop {
        let (after, epochs) = (position, epochs.to_vec());
        let request = Request::ReadBatch {
            after,
            have: have.clone(),
            epochs,
            bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
        };
        let Reply::Batch { position: next, batch } = ask(&from.space, &peer, request) else {
            unreachable!()
        };
        let Some(batch) = batch else { return batches };
        have.insert(batch.device, batch.size());
        batches.push(*batch);
        position = next;
    }
}

pub(super) fn dirs(n: usize) -> Vec<tempfile::TempDir> {
    (0..n).map(|_| tempfile::tempdir().unwrap()).collect()
}

#[test]
fn nothing_is_sent_to_whom_the_roster_does_not_name() {
    let dirs = dirs(2);
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "Letter"}));
    let b = a.invite(dirs[1].path(), 2);
    assert!(!batches(&a, b.profile.transport_id(), &[]).is_empty());
    assert!(batches(&a, TransportId::new([9; 32]), &[]).is_empty());
    // A newcomer holds what it was given opened: that goes to nobody else either.
    assert!(batches(&b, TransportId::new([9; 32]), &[]).is_empty());
}

#[test]
fn what_comes_opened_is_kept_sealed_where_that_can_be_checked() {
    let dirs = dirs(3);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    a.put(object(1), &json!({"title": "Letter"}));
    let mut c = a.invite(dirs[2].path(), 3);
    let is_opened = |batches: &[Batch]| {
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        let payloads = entries.flat_map(|entry| &entry.payloads);
        payloads.filter(|payload| matches!(payload, Payload::Opened(_))).count()
    };
    // The newcomer was given the letter opened, and gives it to one that has the secret.
    assert!(is_opened(&batches(&c, b.profile.transport_id(), &b.epochs())) > 0);
    b.pull(&c);
    assert_eq!(b.value(object(1)), json!({"title": "Letter"}));
    let back = batches(&b, b.profile.transport_id(), &b.epochs());
    assert_eq!(is_opened(&back), 0);
    assert!(back.iter().any(|batch| {
        let sections = batch.entries.iter().flat_map(|entry| &entry.commitments);
        sections.into_iter().any(|section| section.class == Class::Data as u8)
    }));
    sync(&mut b, &mut c);
}

#[test]
fn a_device_that_joined_twice_reads_what_its_first_joining_was_sealed_for() {
    let dirs = dirs(2);
    let mut a = Device::found(dirs[0].path(), 1);
    let profile = Profile::create(world(2), dirs[1].path(), &unlock(), options("other")).unwrap();
    let exporter = [9; 32];
    let join = |a: &mut Device| {
        let invitation = a.profile.invite(&a.space, Vec::new()).unwrap();
        let mut joining = profile.begin_join(invitation).unwrap();
        let (agreed, admission) = profile.ask_within(&mut joining, &a.profile, &exporter).unwrap();
        a.writer.admit(admission.enrolment.clone()).unwrap();
        (admission, joining, agreed)
    };
    // The welcome is lost, and the device starts again with another invitation.
    drop(join(&mut a));
    a.put(object(1), &json!({"title": "Between"}));
    let (admission, joining, agreed) = join(&mut a);
    let reply = a.profile.welcome(&admission, &a.space).unwrap();
    let (space, writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
    assert_eq!(a.space.devices().unwrap().len(), 2, "no device remains that is nobody's");
    let mut b = Device { profile, space, writer };
    b.pull(&a);
    assert_eq!(b.value(object(1)), json!({"title": "Between"}));
    assert_eq!(b.space.status().unwrap().waiting, 0);
    sync(&mut a, &mut b);
}

#[test]
fn a_document_that_merges_beyond_the_limit_of_an_edit_is_read_edited_and_deleted() {
    let dirs = dirs(2);
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "Long"}));
    let mut b = a.invite(dirs[1].path(), 2);
    let long = "a long line of text ".repeat(30_000);
    a.put(object(1), &json!({"title": "Long", "a": long}));
    b.put(object(1), &json!({"title": "Long", "b": long}));
    sync(&mut a, &mut b);
    let merged = b.value(object(1));
    assert_eq!((&merged["a"], &merged["b"]), (&json!(long), &json!(long)));
    assert_eq!(b.search(&Query::text("long")).len(), 1);
    b.put(object(1), &json!({"title": "Short", "a": long}));
    sync(&mut a, &mut b);
    assert_eq!(a.value(object(1))["title"], "Short");

    a.put(object(2), &json!({"title": "Long"}));
    sync(&mut a, &mut b);
    a.put(object(2), &json!({"title": "Long", "a": long}));
    b.put(object(2), &json!({"title": "Long", "b": long}));
    sync(&mut a, &mut b);
    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    b.commit(unit).unwrap();
    sync(&mut a, &mut b);
    assert!(a.space.document(&object(2)).unwrap().is_none());
}

// A simulated villain sent its own entries in the name of the device that it spoke to. The device
// told its app that it was an old copy of itself, which it had not signed a word for.
#[test]
fn what_a_peer_makes_up_of_the_devices_own_log_makes_it_no_old_copy() {
    let dirs = dirs(2);
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    b.put(object(1), &json!({"title": "Letter"}));
    let theirs = batches(&b, a.profile.transport_id(), &a.epochs());
    let mut forged = theirs.into_iter().rfind(|batch| batch.device == b.space.device()).unwrap();
    forged.device = a.space.device();
    forged.first_seq = a.have()[&a.space.device()] + 1;
    let reply = a.writer.answer(larder_engine::Task::Apply(Box::new(forged))).reply;
    let Reply::Refused { code, fatal: false, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(code, larder_types::CloseCode::Gap);
    a.put(object(2), &json!({"title": "Answer"}));
    sync(&mut a, &mut b);
}

/// Fails on texts that speak of it.
struct Moody;

impl Embedder for Moody {
    fn id(&self) -> &'static str {
        "moody"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn embed_batch(&self, texts: &[&str]) -> std::result::Result<Vec<Vec<f32>>, EmbedError> {
        if texts.iter().any(|text| text.contains("moody")) {
            return Err(EmbedError("not that".into()));
        }
        Ok(texts.iter().map(|_| vec![1.0, 0.0]).collect())
    }
}

#[test]
fn an_embedder_that_fails_on_a_peers_text_and_a_document_deleted_at_once_leave_no_vector() {
    let dirs = dirs(2);
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "a moody text"}));
    a.put(object(2), &json!({"title": "a calm text"}));
    a.put(object(3), &json!({"title": "gone"}));
    let mut unit = UnitOfWork::new();
    unit.delete(object(3));
    a.commit(unit).unwrap();
    let invitation = a.profile.invite(&a.space, Vec::new()).unwrap();
    let options = ProfileOptions { embedder: Some(Arc::new(Moody)), ..options("moody") };
    let profile = Profile::create(world(2), dirs[1].path(), &unlock(), options).unwrap();
    let mut joining = profile.begin_join(invitation).unwrap();
    let (agreed, admission) = profile.ask_within(&mut joining, &a.profile, &[9; 32]).unwrap();
    a.writer.admit(admission.enrolment.clone()).unwrap();
    let reply = a.profile.welcome(&admission, &a.space).unwrap();
    let (space, writer) = profile.finish_join(joining, &agreed, &reply).unwrap();
    let mut b = Device { profile, space, writer };
    b.pull(&a);
    assert_eq!(b.value(object(1))["title"], "a moody text");
    let near = b.search(&Query::similar("anything"));
    assert_eq!(near.len(), 1);
    assert_eq!(near[0].document.object, object(2));
    // A text that it fails on loses the vector of the text before.
    a.put(object(2), &json!({"title": "a moody text as well"}));
    b.pull(&a);
    assert!(b.search(&Query::similar("anything")).is_empty());
    b.put(object(4), &json!({"title": "moody"}));
    assert_eq!(b.search(&Query::text("moody")).len(), 3, "its own app is not held up by it");
}
