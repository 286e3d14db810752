//! An auditor's device: it holds what all devices hold, shows nothing of it, and is waited for by
//! nobody.

use larder_engine::{Band, ErasureStage, Mode, Reason, Role, Standing, Whose};

use super::bands::cleared;
use super::prune::{four_edited, meet, settle};
use super::*;

const AUDITOR: Terms = Terms { of: Whose::New, role: Role::Auditor, clearance: Band::Red };

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// A whole session between an auditor's device and another.
fn audit(auditor: &mut Device, other: &mut Device) {
    assert_eq!(auditor.wanted(), None);
    auditor.pull(other);
    other.pull(auditor);
    auditor.learn_acks(other);
    other.learn_acks(auditor);
    assert_eq!(auditor.have(), other.have());
    assert_eq!(auditor.wanted(), None);
}

fn acked(by: &Device, at: &Device, log: &Device) -> u64 {
    let Reply::Frontiers { acks, .. } = at.frontiers() else { unreachable!() };
    let pair = (by.space.device(), log.space.device());
    acks.iter().find(|ack| (ack.acker, ack.device) == pair).map_or(0, |ack| ack.size)
}

#[test]
fn an_auditor_holds_every_receipt_and_shows_nothing_that_they_are_of() {
    let dirs = dirs(5);
    let mut founder = Device::found(dirs[0].path(), 1);
    founder.put(object(1), &json!({"text": "zqcanary"}));
    let mut phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
    let mut auditor = founder.invite_on(dirs[2].path(), 3, AUDITOR);
    phone.put_in(Band::Amber, object(2), &json!({"text": "zqcanary"})).unwrap();
    founder.put_in(Band::Red, object(3), &json!({"text": "zqcanary"})).unwrap();
    meet(&mut founder, &mut phone);
    audit(&mut auditor, &mut founder);
    // Each sees the same devices, and the same entries.
    assert_eq!(auditor.space.fingerprint().unwrap(), founder.space.fingerprint().unwrap());
    let listed = |device: &Device| {
        let receipts = device.space.receipts(None, 1000).unwrap();
        receipts.into_iter().map(|it| (it.device, it.seq, it.entry)).collect::<Vec<_>>()
    };
    let entries = listed(&auditor);
    assert_eq!(entries, listed(&founder));
    for (device, seq, _) in &entries {
        auditor.space.receipt(device, *seq).unwrap().verify().unwrap();
    }
    // What outsiders verify is as much as what an owner exports.
    let [own, other] = [(&auditor, 3), (&founder, 4)].map(|(device, at)| {
        let export = dirs[at].path().join("export");
        let summary = device.space.export_receipts(&export, &mut |_, _| {}).unwrap();
        let verdict = larder_audit::verify(&export).unwrap();
        assert!(verdict.verified);
        let logs: Vec<_> =
            verdict.logs.iter().map(|log| (log.device.clone(), log.entries)).collect();
        (summary.entries, logs)
    });
    assert_eq!(own, other);
    assert_eq!(own.0, entries.len() as u64);

    let refused = |error: Error| assert!(matches!(error, Error::Auditor), "{error}");
    let space = auditor.space.clone();
    refused(space.document(&object(1)).unwrap_err());
    refused(space.list(None, None, 10).unwrap_err());
    refused(space.list_trash(None, None, 10).unwrap_err());
    refused(space.search(&Query::text("zqcanary")).unwrap_err());
    refused(space.history(&object(1)).unwrap_err());
    refused(space.blobs().unwrap_err());
    refused(space.clearance().unwrap_err());
    refused(space.source().unwrap().seal_message(vec![1]).unwrap_err());
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(9), &json!({"text": "by the auditor"})).unwrap();
    refused(auditor.commit(unit).unwrap_err());
    refused(auditor.writer.erase(object(1)).unwrap_err());
    refused(auditor.writer.redact(object(1), &[vec!["text".into()]]).unwrap_err());
    assert!(auditor.writer.revoke(&[phone.space.device()]).is_err());
    assert_eq!(auditor.have().get(&space.device()), None, "it has written nothing");
    auditor.sound();
    let status = space.status().unwrap();
    assert_eq!((status.state.mode, status.state.reasons), (Mode::ReadOnly, vec![Reason::Auditor]));
    assert_eq!((status.documents, status.waiting, status.lacking, status.pending), (0, 0, 0, 0));
    assert_eq!(status.entries, founder.space.status().unwrap().entries);
    // What is said to who is there is not sent to it.
    let hears = |of: &Device| founder.space.source().unwrap().may_hear(&of.profile.transport_id());
    assert_eq!([hears(&phone), hears(&auditor)], [true, false]);
    // The others know what it has by its own word.
    let of_founder = founder.space.status().unwrap();
    let known = of_founder.progress.iter().find(|it| it.device == space.device()).unwrap();
    assert_eq!((known.standing, known.up_to), (Standing::Receipts, None));
}

/// What came by an auditor's device has no bytes: who may read asks somebody else, and acknowledges
/// nothing until then.
#[test]
fn what_came_by_an_auditor_comes_from_another() {
    let dirs = dirs(3);
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
    let mut auditor = founder.invite_on(dirs[2].path(), 3, AUDITOR);
    founder.put(object(1), &json!({"text": "for readers"}));
    auditor.pull(&founder);
    phone.pull(&auditor);
    phone.fill(&auditor);
    assert!(phone.space.document(&object(1)).unwrap().is_none());
    let size = founder.have()[&founder.space.device()];
    assert!(acked(&phone, &phone, &founder) < size);
    assert_eq!(acked(&auditor, &auditor, &founder), size);
    phone.fill(&founder);
    assert_eq!(phone.value(object(1)), json!({"text": "for readers"}));
    assert_eq!(acked(&phone, &phone, &founder), size);
}

/// Bytes go that all readers agree on, whether the auditor's device has ever been heard or not; it
/// states nothing, and what was pruned is no matter for it.
#[test]
fn an_auditor_holds_up_no_pruning_and_takes_no_part_in_it() {
    for has_come in [false, true] {
        let dirs = dirs(4);
        let mut founder = Device::found(dirs[0].path(), 1);
        let mut phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
        let invitation = founder.profile.invite_on(&founder.space, Vec::new(), AUDITOR).unwrap();
        let mut auditor = founder.admit_by(dirs[2].path(), world(3), invitation);
        four_edited(&mut founder);
        if has_come {
            audit(&mut auditor, &mut founder);
        }
        for _ in 0..2 {
            settle(&mut [&mut founder, &mut phone]);
        }
        let pruned = [&founder, &phone].map(Device::pruned);
        assert!(pruned.iter().all(|pruned| *pruned >= 8), "{pruned:?}");
        assert_eq!(founder.space.prune_status().unwrap().waits_for, []);
        let statements = auditor.prune(true).stated;
        audit(&mut auditor, &mut founder);
        assert!(auditor.writer.wants_pruning().unwrap().is_none());
        assert_eq!((statements, auditor.prune(true).stated), (0, 0));
        audit(&mut auditor, &mut phone);
        assert_eq!(auditor.have().get(&auditor.space.device()), None);
        auditor.sound();
        // Who comes later gets all from a reader, the auditor's word or not.
        let mut newcomer = founder.invite_on(dirs[3].path(), 4, cleared(Band::Red));
        let want = newcomer.wanted().unwrap();
        let supply = newcomer.supply_of(&founder, &want);
        assert!(supply.snapshot.is_some());
        assert_eq!(auditor.supply_of(&founder, &want), larder_protocol::Supply::default());
        // Nor does it take what it has not asked for.
        assert!(!auditor.writer.take_supply(&supply).unwrap().progress);
        newcomer.fill(&auditor);
        assert!(newcomer.space.document(&object(1)).unwrap().is_none());
        newcomer.fill(&founder);
        assert_eq!(newcomer.value(object(1)), founder.value(object(1)));
        audit(&mut auditor, &mut newcomer);
        for device in [&mut founder, &mut phone, &mut newcomer] {
            device.sound();
        }
    }
}

/// An erasure is confirmed once all that may read have said so. The auditor's device hears of it,
/// and says nothing.
#[test]
fn an_auditor_holds_up_no_erasure_and_confirms_none() {
    let dirs = dirs(3);
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
    let mut auditor = founder.invite_on(dirs[2].path(), 3, AUDITOR);
    founder.put(object(1), &json!({"text": "zqcanary"}));
    meet(&mut founder, &mut phone);
    audit(&mut auditor, &mut founder);
    founder.writer.erase(object(1)).unwrap();
    for _ in 0..2 {
        meet(&mut founder, &mut phone);
        for device in [&mut founder, &mut phone] {
            assert!(device.writer.finish_erasures().unwrap());
        }
    }
    audit(&mut auditor, &mut founder);
    assert!(auditor.writer.finish_erasures().unwrap());
    assert_eq!(auditor.have().get(&auditor.space.device()), None);
    for device in [&founder, &phone, &auditor] {
        let erasure = device.space.erasures().unwrap().remove(0);
        assert!(erasure.is_done());
        let said: Vec<_> = erasure.devices.iter().map(|by| (by.device, by.stage)).collect();
        assert_eq!(said.len(), 2);
        assert!(
            said.iter().all(|(by, stage)| {
                *by != auditor.space.device() && *stage == ErasureStage::Done
            })
        );
    }
    auditor.sound();
}

/// Chunks that nobody names go once two clocks say that their time is over. An auditor's clock is
/// none: it may be wrong, or lie, on a device that nobody trusts with content.
#[test]
fn an_auditors_clock_removes_nothing() {
    let dirs = dirs(2);
    let mut founder = Device::found(dirs[0].path(), 1);
    let later = 2 * larder_types::limits::BLOB_GRACE_MS;
    let (info, _) = blobs::add(&mut founder, &blobs::noise(1, 1 << 20), "x.bin");
    let auditor = founder.invite_on(dirs[1].path(), 2, AUDITOR);
    let mut auditor = blobs::reopen(auditor, dirs[1].path(), 4, later);
    assert_eq!(founder.writer.tend_blobs().unwrap().chunks, 0);
    let mut founder = blobs::reopen(founder, dirs[0].path(), 3, later);
    for n in 0..2 {
        founder.put(object(1), &json!({"n": n}));
        audit(&mut auditor, &mut founder);
        assert_eq!(founder.writer.tend_blobs().unwrap().chunks, 0);
    }
    assert_eq!(founder.space.blob(&info.id).unwrap().unwrap().missing, 0);
}

#[test]
fn nobody_becomes_an_auditor_or_stops_being_one() {
    let dirs = dirs(3);
    let mut founder = Device::found(dirs[0].path(), 1);
    let phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
    let auditor = founder.invite_on(dirs[2].path(), 3, AUDITOR);
    let before = founder.have();
    let [own, other, audits] = [&founder, &phone, &auditor].map(|one| one.space.device());
    for (device, role) in [
        (other, Role::Auditor),
        (own, Role::Auditor),
        (audits, Role::Reader),
        (audits, Role::Owner),
        (audits, Role::Auditor),
    ] {
        let refused = founder.writer.change_role(device, role, Band::Green).unwrap_err();
        assert!(matches!(&refused, Error::Invalid(why) if why.contains("anew")), "{refused}");
    }
    assert_eq!(founder.have(), before);
    let of_auditor = founder.space.devices().unwrap();
    let of_auditor = of_auditor.iter().find(|it| it.device == audits).unwrap();
    assert_eq!((of_auditor.role, of_auditor.clearance), (Role::Auditor, Band::Green));
    founder.writer.revoke(&[audits]).unwrap();
    assert_eq!(founder.space.devices().unwrap().len(), 2);
}

/// Whoever has the words of the recovery kit is an owner by them, on an auditor's device as on any:
/// then it gets what it was never sent.
#[test]
fn an_auditor_that_recovers_the_space_gets_all_of_it() {
    let dirs = dirs(3);
    let kit = larder_crypto::Secret::new([77; 32]);
    let mut founder = members::founded_with(dirs[0].path(), &kit);
    let mut phone = founder.invite_on(dirs[1].path(), 2, cleared(Band::Red));
    founder.put(object(1), &json!({"text": "before"}));
    let mut auditor = founder.invite_on(dirs[2].path(), 3, AUDITOR);
    founder.put_in(Band::Red, object(2), &json!({"text": "since"})).unwrap();
    meet(&mut founder, &mut phone);
    audit(&mut auditor, &mut founder);
    let lost = founder.space.device();
    drop(founder);
    auditor.writer.recover(&kit, &[lost]).unwrap();
    assert_eq!(auditor.space.own_role().unwrap(), Role::Owner);
    auditor.put(object(3), &json!({"text": "after"}));
    meet(&mut auditor, &mut phone);
    meet(&mut auditor, &mut phone);
    for device in [&mut auditor, &mut phone] {
        for (n, text) in [(1, "before"), (2, "since"), (3, "after")] {
            assert_eq!(device.value(object(n)), json!({"text": text}));
        }
        assert_eq!(device.space.state().unwrap().reasons, []);
        device.sound();
    }
}
