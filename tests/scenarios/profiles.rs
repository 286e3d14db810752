//! Opening, closing, and what must not happen meanwhile.

use std::sync::Arc;

use larder::{
    Argon2Params, EmbedError, Embedder, ErrorKind, Options, Profile, Query, Space, Unlock,
    Zeroizing,
};
use serde_json::{Value, json};

use crate::common::{
    Device, digests_equal, files, household, key, kind, loopback, new_profile, note, soon,
};

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Zeroizing::new(text.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_and_opening_keeps_everything() {
    let ana = Device::found("Ana").await;
    let bread = ana.create(note("Bread", "Flour")).await;
    let gone = ana.create(note("Gone", "")).await;
    ana.put(bread, note("Bread", "Flour and water")).await;
    ana.space.delete(gone).await.unwrap();
    let (digest, id) = (ana.space.digest().await.unwrap(), ana.space.id());
    let transport = ana.profile.transport_id();
    let ana = ana.restart().await;
    assert_eq!(ana.space.digest().await.unwrap(), digest);
    assert_eq!((ana.space.id(), ana.profile.transport_id()), (id, transport));
    assert_eq!(ana.profile.label(), "Ana");
    assert_eq!(ana.value(bread).await, Some(note("Bread", "Flour and water")));
    assert!(ana.space.is_deleted(gone).await.unwrap());
    assert_eq!(ana.space.search(Query::text("water")).await.unwrap().len(), 1);
    ana.put(bread, note("Bread", "and salt")).await;
}

/// Its vectors would have been taken for those that the app brings itself.
struct NamedApp;

impl Embedder for NamedApp {
    fn id(&self) -> &'static str {
        "app"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|_| vec![1.0, 0.0]).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_with_the_name_of_the_apps_own_vectors_is_refused() {
    let options = || Options::default().embedder(Arc::new(NamedApp));
    let refused = Profile::in_memory(options()).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("give it another id"), "{refused}");
    let ana = Device::found("Ana").await;
    ana.profile.close().await.unwrap();
    let opened = Profile::open(ana.dir.path(), key(), options()).await;
    assert_eq!(kind(opened.map(drop)), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_without_closing_keeps_what_was_committed() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let follower = ben.profile.clone();
    let following = tokio::spawn(async move { follower.follow().await });
    let object = ana.create(note("Kept", "")).await;
    ben.sees(|space| async move { space.document(object).await.unwrap().is_some() }).await;
    following.abort();
    let digest = ana.space.digest().await.unwrap();
    for device in [ana, ben] {
        let Device { dir, profile, space } = device;
        drop((profile, space));
        let device = soon("opening again", Device::reopen(dir)).await;
        assert_eq!(device.space.digest().await.unwrap(), digest);
        device.create(note("And on", "")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_a_closed_profile_say_so_and_hold_nothing() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let object = ana.create(note("Before", "")).await;
    soon("closing", ana.profile.close()).await.unwrap();
    soon("closing again", ana.profile.close()).await.unwrap();
    assert_eq!(kind(ana.space.create("notes", &json!({})).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.space.get::<Value>(object).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.profile.sync().await), ErrorKind::Invalid);
    assert_eq!(kind(ana.profile.listen(loopback()).await), ErrorKind::Invalid);
    assert_eq!(kind(ana.profile.create_space(&household()).await), ErrorKind::Invalid);
    // The old handles are still there.
    let again = Profile::open(ana.dir.path(), key(), Options::default()).await.unwrap();
    let space = again.space(&household()).await.unwrap();
    assert!(space.document(object).await.unwrap().is_some());
    drop(ben);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_passphrase_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cost = Argon2Params { memory_kib: 8 * 1024, passes: 1, lanes: 1 };
    let options = Options::default().passphrase_cost(cost);
    let profile = Profile::create(dir.path(), passphrase("right"), options.clone()).await.unwrap();
    let space = profile.create_space(&household()).await.unwrap();
    space.create("notes", &note("Secret", "words")).await.unwrap();
    profile.close().await.unwrap();
    drop((profile, space));

    let before = files(dir.path());
    for wrong in ["wrong", "", "right ", "Right"] {
        let opened = Profile::open(dir.path(), passphrase(wrong), Options::default()).await;
        assert_eq!(kind(opened), ErrorKind::WrongPassphrase);
        let opened = Profile::open_read_only(dir.path(), passphrase(wrong)).await;
        assert_eq!(kind(opened), ErrorKind::WrongPassphrase);
    }
    let opened = Profile::open(dir.path(), key(), Options::default()).await;
    assert_eq!(kind(opened), ErrorKind::Invalid);
    assert!(files(dir.path()) == before, "a file changed");
    let created = Profile::create(dir.path(), passphrase("new"), options).await;
    assert_eq!(kind(created), ErrorKind::AlreadyExists);
    assert!(files(dir.path()) == before, "a file changed");
    Profile::open(dir.path(), passphrase("right"), Options::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_owner_at_a_time() {
    let (dir, profile) = new_profile("Ana").await;
    assert!(Profile::exists(dir.path()));
    let second = Profile::open(dir.path(), key(), Options::default()).await;
    assert_eq!(kind(second), ErrorKind::InUse);
    profile.close().await.unwrap();
    Profile::open(dir.path(), key(), Options::default()).await.unwrap();

    let empty = tempfile::tempdir().unwrap();
    assert!(!Profile::exists(empty.path()));
    let none = Profile::open(empty.path(), key(), Options::default()).await;
    assert_eq!(kind(none), ErrorKind::NotFound);
    assert!(files(empty.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_profile_reads_and_changes_nothing() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Bread", "Flour")).await;
    ana.profile.close().await.unwrap();
    let Device { dir, profile, space } = ana;
    drop((profile, space));
    let before = files(dir.path());
    let profile = Profile::open_read_only(dir.path(), key()).await.unwrap();
    assert!(profile.is_read_only());
    let space = profile.space(&household()).await.unwrap();
    assert_eq!(space.get(object).await.unwrap(), Some(note("Bread", "Flour")));
    assert_eq!(space.search(Query::both("flour")).await.unwrap().len(), 1);
    assert_eq!(profile.spaces().await.unwrap().len(), 1);
    assert_eq!(kind(space.delete(object).await), ErrorKind::ReadOnly);
    assert_eq!(kind(profile.invite(&household()).await), ErrorKind::ReadOnly);
    assert_eq!(kind(profile.sync().await), ErrorKind::ReadOnly);
    assert_eq!(kind(profile.listen(loopback()).await), ErrorKind::ReadOnly);
    let other = "shared:other".parse().unwrap();
    assert_eq!(kind(profile.create_space(&other).await), ErrorKind::ReadOnly);
    profile.close().await.unwrap();
    assert!(files(dir.path()) == before, "a file changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_of_one_profile_are_apart() {
    let (_dir, profile) = new_profile("Ana").await;
    let [one, two] = ["shared:one", "personal:two"].map(|name| name.parse().unwrap());
    let first: Space = profile.create_space(&one).await.unwrap();
    let second = profile.create_space(&two).await.unwrap();
    assert_eq!(kind(profile.create_space(&one).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(profile.space(&household()).await), ErrorKind::NotFound);
    let (object, _) = first.create("notes", &note("Mine", "")).await.unwrap();
    assert!(second.document(object).await.unwrap().is_none());
    assert_ne!(first.device(), second.device());
    let names: Vec<_> =
        profile.spaces().await.unwrap().iter().map(|space| space.name().clone()).collect();
    assert_eq!(names, [two, one]);
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_in_memory_can_do_all_that_others_can() {
    let ana = Profile::in_memory(Options::default().label("Ana")).await.unwrap();
    let ben = Profile::in_memory(Options::default().label("Ben")).await.unwrap();
    let space = ana.create_space(&household()).await.unwrap();
    let (object, _) = space.create("notes", &note("Bread", "Flour")).await.unwrap();
    ana.listen(loopback()).await.unwrap();
    let invitation = ana.invite(&household()).await.unwrap().unattended();
    let joined = ben.join(&invitation.text).await.unwrap();
    for report in soon("the sync", ben.sync()).await.unwrap() {
        report.outcome.unwrap();
    }
    assert_eq!(joined.get(object).await.unwrap(), Some(note("Bread", "Flour")));
    assert_eq!(joined.search(Query::similar("bread")).await.unwrap().len(), 1);
    assert_eq!(joined.digest().await.unwrap(), space.digest().await.unwrap());
    ana.close().await.unwrap();
    ben.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_space_is_named_and_touches_no_other() {
    let ana = Device::found("Ana").await;
    ana.create(note("Bread", "Flour")).await;
    let other = "shared:other".parse().unwrap();
    let second = ana.profile.create_space(&other).await.unwrap();
    let (object, _) = second.create("notes", &note("Safe", "")).await.unwrap();
    let id = ana.space.id();
    ana.profile.close().await.unwrap();
    let file = ana.dir.path().join(format!("spaces/{id}.db"));
    let whole = std::fs::read(&file).unwrap();
    for damage in 0..3 {
        let mut bytes = whole.clone();
        match damage {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes = b"not a database at all".repeat(1000),
            _ => bytes.iter_mut().skip(20).step_by(100).for_each(|byte| *byte ^= 1),
        }
        std::fs::write(&file, &bytes).unwrap();
        let profile = Profile::open(ana.dir.path(), key(), Options::default()).await.unwrap();
        let error = profile.space(&household()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error:?}");
        let space = profile.space(&other).await.unwrap();
        assert!(space.document(object).await.unwrap().is_some());
        profile.close().await.unwrap();
        assert!(std::fs::read(&file).unwrap() == bytes, "the damaged file was changed");
    }
    std::fs::write(&file, &whole).unwrap();
    let profile = Profile::open(ana.dir.path(), key(), Options::default()).await.unwrap();
    assert_eq!(profile.spaces().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_nowhere_in_the_files() {
    let word = "Sauerteigbrotrezept";
    let ana = Device::found("Zweigstelle").await;
    ana.create(note(word, word)).await;
    let ben = ana.invite("Ben").await;
    digests_equal(&[&ana, &ben]).await;
    let holds = |dir: &std::path::Path, word: &str| {
        let word = word.as_bytes();
        files(dir).iter().any(|(_, bytes)| bytes.windows(word.len()).any(|window| window == word))
    };
    // Open, with its WAL, and closed.
    for device in [&ana, &ben] {
        assert!(!holds(device.dir.path(), word));
    }
    for device in [&ana, &ben] {
        device.profile.close().await.unwrap();
        assert!(!holds(device.dir.path(), word));
        assert!(!holds(device.dir.path(), "Zweigstelle"));
    }
    // The same search finds it where nothing is encrypted.
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().plain_control(true);
    let plain = Profile::create(dir.path(), key(), options).await.unwrap();
    let space = plain.create_space(&household()).await.unwrap();
    space.create("notes", &note(word, word)).await.unwrap();
    assert!(holds(dir.path(), word));
}
