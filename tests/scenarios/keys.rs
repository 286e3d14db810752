//! New keys for what is on disk, while it is used and while it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder::limits::REKEY_AGE_MS;
use larder::{
    ErrorKind, Event, Options, Profile, Query, RekeyStatus, Secret, Timestamp, Unlock, Zeroizing,
};
use larder_engine::{Environment, ProfileOptions};
use larder_types::Entropy;

use crate::common::{
    Device, digests_equal, event, files, household, key, kind, new_profile, note, soon,
};

/// The last part of the names of the spaces' files.
fn spaces(device: &Device) -> Vec<String> {
    let files = files(&device.dir.path().join("spaces"));
    let names = files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap());
    names.filter(|name| !name.ends_with("-wal")).map(|name| name[64..].to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_written_read_and_synced_while_its_key_is_renewed() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    for i in 0..60 {
        let body = (0..1000).map(|n| (n * i).to_string()).collect::<Vec<_>>().join(" ");
        ana.create(note("Filler", &body)).await;
    }
    // A search has everything indexed, so that there is much to copy.
    assert!(!ana.space.search(Query::text("filler")).await.unwrap().is_empty());
    let space = ana.space.clone();
    let mut told = Vec::new();
    let renewal = space.rekey(|done, total| told.push((done, total)));
    let (renewed, ()) = tokio::join!(renewal, async {
        for i in 0..30 {
            let object = ana.create(note("Meanwhile", &i.to_string())).await;
            assert!(ana.space.document(object).await.unwrap().is_some());
        }
        ben.sync().await;
    });
    renewed.unwrap();
    assert!(told.len() > 1, "{told:?}");
    assert!(told.iter().all(|(done, total)| done <= total && total % 4096 == 0));
    assert_eq!(spaces(&ana), [".1.db"]);
    assert_eq!(ana.space.status().await.unwrap().rekey, RekeyStatus::None);
    ana.create(note("After", "")).await;
    ben.sync().await;
    digests_equal(&[&ana, &ben]).await;
    let ana = ana.restart().await;
    digests_equal(&[&ana, &ben]).await;
    ben.space.rekey(|_, _| {}).await.unwrap();
    ben.create(note("Under the new key", "")).await;
    ben.sync_with(&ana).await;
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_goes_on_when_nobody_waits_for_it() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Bread", "Flour")).await;
    let mut events = ana.profile.events();
    let space = ana.space.clone();
    // Polled once, so that it is asked for, and dropped.
    let renewal = space.rekey(|_, _| {});
    let _ = tokio::time::timeout(std::time::Duration::ZERO, renewal).await;
    event(&mut events, |event| matches!(event, Event::Rekeyed { .. })).await;
    let ana = ana.restart().await;
    assert_eq!(spaces(&ana), [".1.db"]);
    assert_eq!(ana.value(object).await, Some(note("Bread", "Flour")));
}

/// The system's randomness under another clock.
struct Earlier(AtomicU64);

struct Random;

impl Entropy for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }
}

impl Environment for Earlier {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Random)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_is_renewed_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    let earlier = Arc::new(Earlier(AtomicU64::new(now - REKEY_AGE_MS - 1000)));
    let unlock = Unlock::Key(Secret::new([7; 32]));
    let made =
        larder_engine::Profile::create(earlier, dir.path(), &unlock, ProfileOptions::default());
    let made = made.unwrap();
    let (space, mut writer) = made.create_space(&household()).unwrap();
    writer.close().unwrap();
    drop(writer);
    space.close().unwrap();
    made.close().unwrap();
    drop((space, made));

    let profile = Profile::open(dir.path(), key(), Options::default()).await.unwrap();
    let mut events = profile.events();
    let space = profile.space(&household()).await.unwrap();
    event(&mut events, |event| matches!(event, Event::Rekeyed { .. })).await;
    let status = space.status().await.unwrap();
    assert!(status.key_created.0 >= now);
    profile.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_is_refused_where_there_is_nothing_to_renew() {
    let memory = Profile::in_memory(Options::default()).await.unwrap();
    let space = memory.create_space(&household()).await.unwrap();
    assert_eq!(kind(space.rekey(|_, _| {}).await), ErrorKind::Invalid);

    let (dir, profile) = new_profile("Ana").await;
    profile.create_space(&household()).await.unwrap();
    profile.close().await.unwrap();
    drop(profile);
    let before = files(dir.path());
    let reader = Profile::open_read_only(dir.path(), key()).await.unwrap();
    let space = reader.space(&household()).await.unwrap();
    assert_eq!(kind(space.rekey(|_, _| {}).await), ErrorKind::ReadOnly);
    reader.close().await.unwrap();
    assert!(files(dir.path()) == before, "a file changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_profile_holds_the_same_and_syncs_on() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    ana.create(note("Bread", "Flour")).await;
    ben.sync().await;
    let used = Profile::purge(ana.dir.path(), key(), None, |_, _| {}).await;
    assert_eq!(kind(used), ErrorKind::InUse);
    ana.profile.close().await.unwrap();
    let Device { dir, profile, space } = ana;
    drop((profile, space));
    let before = files(dir.path());
    let wrong = Unlock::Key(Secret::new([8; 32]));
    let refused = Profile::purge(dir.path(), wrong, None, |_, _| {}).await;
    assert_eq!(kind(refused), ErrorKind::WrongPassphrase);
    assert!(files(dir.path()) == before, "a file changed");

    let new = Unlock::Passphrase(Zeroizing::new("another".to_owned()));
    let mut told = Vec::new();
    let purged =
        Profile::purge(dir.path(), key(), Some(new), |done, total| told.push((done, total)));
    let purged = soon("the purge", purged).await.unwrap();
    assert_eq!(purged.spaces, 1);
    assert_eq!(*told.last().unwrap(), (purged.pages * 4096, purged.pages * 4096));
    let opened = Profile::open(dir.path(), key(), Options::default()).await;
    assert_eq!(kind(opened), ErrorKind::Invalid);
    let passphrase = || Unlock::Passphrase(Zeroizing::new("another".to_owned()));
    let back = Profile::purge(dir.path(), passphrase(), Some(key()), |_, _| {});
    soon("the purge", back).await.unwrap();
    let ana = Device::reopen(dir).await;
    ana.create(note("Salt", "")).await;
    ben.sync_with(&ana).await;
    digests_equal(&[&ana, &ben]).await;
    let status = ana.profile.status().await.unwrap();
    assert!(status.key_created.is_some() && status.purge_wished.is_none());
    for (path, _) in files(ana.dir.path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_new = name.contains(".2.db") || name.starts_with("lock") || name == "profile.key";
        assert!(is_new, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_a_profile_is_changed_while_it_is_in_use() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Bread", "Flour")).await;
    let path = ana.dir.path().to_owned();
    let file = || std::fs::read(path.join("profile.key")).unwrap();
    let before = file();
    let new = || Unlock::Passphrase(Zeroizing::new("another".to_owned()));
    let wrong = ana.profile.change_unlock(Unlock::Key(Secret::new([8; 32])), new()).await;
    assert_eq!(kind(wrong), ErrorKind::WrongPassphrase);
    assert_eq!(kind(ana.profile.change_unlock(new(), key()).await), ErrorKind::Invalid);
    assert!(file() == before);
    ana.profile.change_unlock(key(), new()).await.unwrap();
    ana.create(note("Salt", "")).await;
    ana.profile.close().await.unwrap();
    assert_eq!(kind(ana.profile.change_unlock(new(), key()).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.profile.reopen(key()).await), ErrorKind::Invalid);
    ana.profile.reopen(new()).await.unwrap();
    assert_eq!(ana.value(object).await, Some(note("Bread", "Flour")));
    // Somebody put the key file of another profile there: it is not made this one's.
    let ben = Device::found("Ben").await;
    let own = file();
    std::fs::copy(ben.dir.path().join("profile.key"), path.join("profile.key")).unwrap();
    assert_eq!(kind(ana.profile.change_unlock(key(), new()).await), ErrorKind::Corrupt);
    std::fs::write(path.join("profile.key"), own).unwrap();
    ana.profile.change_unlock(new(), key()).await.unwrap();
    ana.restart().await;

    let memory = Profile::in_memory(Options::default()).await.unwrap();
    assert_eq!(kind(memory.change_unlock(key(), key()).await), ErrorKind::Invalid);
}
