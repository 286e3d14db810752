//! The security log: what a household sees of what was refused.

use std::fs;

use larder::SecurityKind::{Enrolled, Exported, Revoked, Rotated, UnlockChanged};
use larder::{
    Band, ErrorKind, Event, Options, Profile, Role, Secret, SecurityEvent, SecurityKind,
    UnitOfWork, Unlock,
};

use crate::common::{Device, event, files, household, key, kind, new_profile, note, soon};

async fn events(device: &Device) -> Vec<SecurityEvent> {
    device.profile.security_log().await.unwrap().events
}

async fn kinds(device: &Device) -> Vec<SecurityKind> {
    events(device).await.into_iter().map(|event| event.kind).collect()
}

/// How often a device was turned away, by what was said of it.
async fn refusals(device: &Device) -> Vec<(String, bool, u64)> {
    let counts = device.profile.security_log().await.unwrap().counts.into_iter();
    let refused = counts.filter(|count| count.kind == SecurityKind::SessionRefused);
    refused.map(|count| (count.detail, count.device.is_some(), count.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_devices_that_were_shut_out_are_counted_and_do_not_fill_the_log() {
    let ana = Device::found("Ana").await;
    let (ben, cem) = (ana.invite("Ben").await, ana.invite("Cem").await);
    let address = ana.address().await;
    // Somebody comes again and again with an invitation that was withdrawn.
    let (_dir, stranger) = new_profile("Mallory").await;
    let invitation = ana.profile.invite(&household()).await.unwrap();
    let text = invitation.text.clone();
    invitation.withdraw();
    for _ in 0..20 {
        let refused = soon("the refusal", stranger.join(&text)).await;
        assert_eq!(kind(refused), ErrorKind::Invitation);
    }
    let refused = refusals(&ana).await;
    let [(what, false, 20)] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(what, "its key is not known here");
    let all = events(&ana).await.into_iter();
    let written = all.filter(|event| event.kind == SecurityKind::SessionRefused);
    // Written beside what goes on: more may have been counted by then.
    let powers: Vec<u32> = written.map(|event| event.count.ilog2()).collect();
    assert!(powers[0] == 0 && powers.is_sorted_by(|a, b| a < b) && powers.len() <= 5, "{powers:?}");

    ana.space.revoke([ben.space.device()]).await.unwrap();
    // An app elsewhere is told, and needs not ask again and again.
    let mut told = cem.profile.events();
    cem.sync_with(&ana).await;
    event(&mut told, |event| matches!(event, Event::Security)).await;
    assert!(kinds(&cem).await.contains(&Revoked));
    for _ in 0..9 {
        assert!(soon("the refusal", ben.profile.sync_with(address)).await.is_err());
    }
    let mut refused = refusals(&ana).await;
    refused.retain(|(_, is_known, _)| *is_known);
    let [(what, true, 9)] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(what.contains("shut out"), "{what}");
    let of_ben = events(&ana).await.into_iter();
    let of_ben = of_ben.filter(|event| event.kind == SecurityKind::SessionRefused);
    let of_ben = of_ben.filter(|event| event.space.is_some());
    let counts: Vec<_> = of_ben.map(|event| (event.device, event.count)).collect();
    assert!(counts.len() <= 4 && counts[0] == (Some(ben.space.device()), 1), "{counts:?}");
    // What was counted outlives the profile's being closed.
    let ana = ana.restart().await;
    let counts: Vec<u64> = refusals(&ana).await.into_iter().map(|refused| refused.2).collect();
    assert_eq!(counts, [20, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_to_a_profile_is_in_its_log_and_in_what_is_exported() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ana.create(note("Sauerteig", "geheim")).await;
    ana.profile.security_seen().await.unwrap();
    let mut told = ana.profile.events();
    ana.space.rekey(|_, _| {}).await.unwrap();
    event(&mut told, |event| matches!(event, Event::Security)).await;
    ana.space.note_export("documents").await.unwrap();
    ana.profile.change_unlock(key(), Unlock::Key(Secret::new([8; 32]))).await.unwrap();
    ana.profile.change_unlock(Unlock::Key(Secret::new([8; 32])), key()).await.unwrap();
    ana.space.revoke([ben.space.device()]).await.unwrap();
    let status = ana.profile.status().await.unwrap().security;
    assert_eq!((status.new, status.latest.len(), &status.damaged), (6, 5, &None));
    let kinds = kinds(&ana).await;
    assert!(kinds.contains(&Enrolled), "{kinds:?}");
    let last = [Rotated, Exported, UnlockChanged, UnlockChanged];
    assert_eq!(kinds[kinds.len() - 6..kinds.len() - 2], last);
    assert!(kinds[kinds.len() - 2..].contains(&Revoked), "{kinds:?}");
    assert!(kinds[kinds.len() - 2..].contains(&Rotated), "{kinds:?}");

    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("receipts");
    ana.space.export_receipts(&export, |_, _| ()).await.unwrap();
    let verdict = larder_audit::verify(&export).unwrap();
    let security = verdict.security.as_ref().unwrap();
    assert_eq!(security.device, ana.space.device().to_string());
    let count = |kind: &str| security.kinds.get(kind).copied().unwrap_or(0);
    assert_eq!((count("exported"), count("revoked"), count("enrolled")), (2, 1, 1));
    // The profile's own are not the space's: a passphrase is nobody else's matter.
    assert_eq!(count("unlock-changed"), 0);
    assert!(verdict.to_string().contains("1 × revoked"), "{verdict}");

    let path = export.join("security.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let all: Vec<&str> = lines.lines().collect();
    let refused = |text: String| {
        fs::write(&path, text).unwrap();
        larder_audit::verify(&export).unwrap_err().to_string()
    };
    for n in 0..all.len() {
        let without: Vec<&str> =
            all.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, line)| *line).collect();
        // The end may be missing: an export never shows that there is no more.
        if n > 0 && n + 1 < all.len() {
            let error = refused(without.join("\n") + "\n");
            assert!(error.contains("does not follow"), "{error}");
        }
    }
    for (from, to) in [("\"revoked\"", "\"enrolled\""), ("\"count\":1", "\"count\":2")] {
        let error = refused(lines.replacen(from, to, 1));
        assert!(error.contains("security.jsonl") && error.contains("signature"), "{error}");
    }
    assert!(refused(lines.replacen("\"revoked\"", "\"forgiven\"", 1)).contains("kind"));
    fs::write(&path, &lines).unwrap();
    larder_audit::verify(&export).unwrap();
    // Somebody else's log in its place.
    let other = dir.path().join("other");
    ben.space.export_receipts(&other, |_, _| ()).await.unwrap();
    fs::copy(other.join("security.jsonl"), &path).unwrap();
    assert!(larder_audit::verify(&export).is_err());
    for (path, bytes) in files(&export) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("geheim") && !text.contains("Sauerteig"), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_only_read_notes_nothing() {
    let ana = Device::found("Ana").await;
    ana.profile.close().await.unwrap();
    let Device { dir, profile, space } = ana;
    drop((profile, space));
    let before = files(dir.path());
    let reader = Profile::open_read_only(dir.path(), key()).await.unwrap();
    let space = reader.space(&household()).await.unwrap();
    space.note_export("documents").await.unwrap();
    assert_eq!(reader.security_log().await.unwrap().events, []);
    assert_eq!(kind(reader.security_seen().await), ErrorKind::ReadOnly);
    reader.close().await.unwrap();
    assert!(files(dir.path()) == before, "a file changed");
    let memory = Profile::in_memory(Options::default()).await.unwrap();
    memory.create_space(&household()).await.unwrap().note_export("documents").await.unwrap();
    assert_eq!(memory.security_log().await.unwrap().events.len(), 1);
}

/// Whoever may only read was told of an internal error, and to report it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_may_not_do_is_no_fault_of_the_program() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let device = ben.space.device();
    ana.space.change_role(device, Role::Reader, Band::Green).await.unwrap();
    ana.sync().await;
    assert_eq!(kind(ben.space.create("notes", &note("a", "b")).await), ErrorKind::NotAllowed);
    ana.space.change_role(device, Role::Writer, Band::Green).await.unwrap();
    ana.sync().await;
    let mut unit = UnitOfWork::new();
    unit.band(Band::Amber);
    unit.create("notes", &note("a", "b")).unwrap();
    assert_eq!(kind(ben.space.commit(unit).await), ErrorKind::NotAllowed);
}
