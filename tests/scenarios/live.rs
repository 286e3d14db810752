//! What an app hears while devices work.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::{
    ChangeKind, Changed, ChangesCursor, EmbedError, Embedder, ErrorKind, Event, Mode, Options,
    Profile, Query, Standing,
};
use tempfile::TempDir;

use crate::common::{Device, event, household, key, kind, loopback, note, soon};

async fn next(changes: &mut larder::Changes) -> larder::Change {
    match soon("a change", changes.next()).await.unwrap() {
        Changed::Document(change) => change,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_and_again_after_a_restart() {
    let ana = Device::found("Ana").await;
    let bread = ana.create(note("Bread", "Flour")).await;
    let ben = ana.invite("Ben").await;
    let mut changes = ben.space.changes(ChangesCursor::START);
    let first = next(&mut changes).await;
    assert_eq!((first.object, first.kind), (bread, ChangeKind::Created));
    assert!(!first.by.unwrap().local);

    let waiting = tokio::spawn(async move {
        let change = next(&mut changes).await;
        (change, changes)
    });
    let soup = ben.create(note("Soup", "Lentils")).await;
    let (second, mut changes) = waiting.await.unwrap();
    assert_eq!((second.object, second.by.unwrap().local), (soup, true));

    ana.put(bread, note("Bread", "Flour and salt")).await;
    ben.sync().await;
    let by = next(&mut changes).await.by.unwrap();
    let receipt = ben.space.receipt(by.device, by.seq).await.unwrap();
    assert_eq!(receipt.device, ana.space.device());

    // The app keeps its place and is away for a while.
    let place = changes.cursor().to_string();
    drop(changes);
    let ben = ben.restart().await;
    ben.put(soup, note("Soup", "Red lentils")).await;
    ana.create(note("Salad", "Leaves")).await;
    ben.sync().await;
    let mut changes = ben.space.changes(place.parse().unwrap());
    assert_eq!(changes.behind(100).await.unwrap(), 2);
    assert_eq!(next(&mut changes).await.object, soup);
    assert_eq!(next(&mut changes).await.kind, ChangeKind::Created);
    assert_eq!(changes.cursor(), ben.space.changes_end().await.unwrap());

    // Another device's place is not one here, and that is said once.
    let place = ana.space.changes_end().await.unwrap();
    let mut lost = ben.space.changes(place);
    assert_eq!(soon("being told", lost.next()).await.unwrap(), Changed::Lost);
    assert_eq!(lost.cursor(), ben.space.changes_end().await.unwrap());

    let waiting = tokio::spawn(async move { changes.next().await });
    ben.profile.close().await.unwrap();
    assert_eq!(kind(soon("the end", waiting).await.unwrap()), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_each_device_has_signed_for() {
    let ana = Device::found("Ana").await;
    ana.create(note("Bread", "Flour")).await;
    let ben = ana.invite("Ben").await;
    let of_ben = async || {
        let space = ana.profile.status().await.unwrap().spaces.remove(0);
        let ben = space.progress.into_iter().find(|device| device.label == "Ben").unwrap();
        (ben, space.entries)
    };
    // Once all are known to have the first, a device lets go of its old keys, in an entry of its
    // own: sooner or later than it is asked here.
    let synced = soon("a sync after which nothing was written", async {
        loop {
            ben.sync().await;
            let (synced, _) = of_ben().await;
            if synced.standing == Standing::Everything {
                break synced;
            }
        }
    })
    .await;
    assert_eq!(synced.pending, 0);
    assert!(synced.signed.is_some() && synced.last_seen.is_some());
    ana.create(note("Soup", "Lentils")).await;
    let (behind, entries) = of_ben().await;
    assert_eq!((behind.standing, behind.holds), (Standing::Behind, synced.holds));
    assert!(entries > synced.holds);
    assert_eq!(behind.pending, entries - synced.holds);
    assert_eq!(ana.space.state().await.unwrap().mode, Mode::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_who_is_there_and_no_disk() {
    let canary = "a cursor at line 4711 of the letter";
    // In plain files, so that what is stored can be found.
    let ana = plain("Ana").await;
    let space = ana.1.create_space(&household()).await.unwrap();
    let ana = Device { dir: ana.0, profile: ana.1, space };
    ana.profile.listen(loopback()).await.unwrap();
    ana.create(note("Bread", "a canary that is stored: crumb")).await;
    assert_eq!(ana.space.broadcast("nobody is there").await.unwrap(), 0);
    let ben = plain("Ben").await;
    let invitation = ana.profile.invite(&household()).await.unwrap().unattended();
    let space = soon("joining", ben.1.join(&invitation.text)).await.unwrap();
    let ben = Device { dir: ben.0, profile: ben.1, space };
    ben.sync().await;
    let (mut to_ana, mut to_ben) = (ana.space.messages(), ben.space.messages());

    let mut events = ben.profile.events();
    let following = ben.profile.clone();
    let following = tokio::spawn(async move { following.follow().await });
    event(&mut events, |event| matches!(event, Event::CaughtUp { .. })).await;
    let received = async {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                message = to_ben.recv() => return message.unwrap(),
                // Until the session is live on both sides, a message may find nobody.
                _ = again.tick() => drop(ana.space.broadcast(canary).await.unwrap()),
            }
        }
    };
    let message = soon("a message", received).await;
    assert_eq!((message.device, message.label.as_str()), (ana.space.device(), "Ana"));
    assert_eq!(message.body, canary.as_bytes());
    assert_eq!(ben.space.broadcast(canary).await.unwrap(), 1);
    let back = soon("an answer", to_ana.recv()).await.unwrap();
    assert_eq!((back.device, back.body), (ben.space.device(), canary.as_bytes().to_vec()));
    let large = vec![0; larder::limits::MESSAGE_BYTES_MAX + 1];
    assert_eq!(kind(ana.space.broadcast(large).await), ErrorKind::Invalid);
    following.abort();

    for device in [ana, ben] {
        device.profile.close().await.unwrap();
        let mut stored = Vec::new();
        read_all(device.dir.path(), &mut stored);
        let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("a canary that is stored: crumb"), "the search would find it");
        assert!(!holds(canary));
    }
}

async fn plain(label: &str) -> (TempDir, Profile) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().label(label).plain_control(true);
    let profile = Profile::create(dir.path(), key(), options).await.unwrap();
    (dir, profile)
}

fn read_all(dir: &Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, bytes);
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
}

/// Says that it was called, takes as long as the test wants, and panics over one text.
struct Slow {
    called: Sender<()>,
    gate: Mutex<Receiver<()>>,
}

impl Slow {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((called, calls), (go, gate)) = (channel(), channel());
        (Self { called, gate: Mutex::new(gate) }, calls, go)
    }
}

impl Embedder for Slow {
    fn id(&self) -> &'static str {
        "slow"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        assert!(!texts.iter().any(|text| text.contains("boo")), "boo");
        let _ = self.called.send(());
        let _ = self.gate.lock().unwrap().recv();
        Ok(texts.iter().map(|_| vec![1.0, 0.0]).collect())
    }
}

// An embedder used to run on the thread that writes: a model that took seconds for a lot of texts
// held up every commit, and a search for words waited for vectors.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_search_by_likeness_waits_for_the_embedder() {
    let (slow, calls, go) = Slow::new();
    let ana = Device::found_with("Ana", Options::default().embedder(Arc::new(slow))).await;
    let soup = ana.create(note("Soup", "Lentils")).await;
    let words = ana.space.search(Query::text("lentils"));
    assert_eq!(soon("the search", words).await.unwrap()[0].document.object, soup);
    let space = ana.space.clone();
    let near = tokio::spawn(async move { space.search(Query::similar("soup")).await });
    calls.recv_timeout(Duration::from_mins(1)).unwrap();
    for n in 0..3 {
        let bread = ana.create(note("Bread", &format!("rye{n}"))).await;
        let words = ana.space.search(Query::text(format!("rye{n}")));
        assert_eq!(soon("the search", words).await.unwrap()[0].document.object, bread);
    }
    assert!(!near.is_finished());
    // A panic is of no concern to anything but its text.
    ana.create(note("boo", "boo")).await;
    drop(go);
    assert!(!soon("the search", near).await.unwrap().unwrap().is_empty());
    let all = ana.space.search(Query::similar("soup").limit(10));
    assert_eq!(soon("the search", all).await.unwrap().len(), 4);
    ana.profile.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_hangs_does_not_keep_a_profile_from_closing() {
    let (slow, calls, go) = Slow::new();
    let ana = Device::found_with("Ana", Options::default().embedder(Arc::new(slow))).await;
    ana.create(note("Soup", "Lentils")).await;
    let space = ana.space.clone();
    let near = tokio::spawn(async move { space.search(Query::similar("soup")).await });
    calls.recv_timeout(Duration::from_mins(1)).unwrap();
    soon("closing", ana.profile.close()).await.unwrap();
    assert!(soon("the search", near).await.unwrap().is_err());
    drop(go);
    let ana = ana.restart().await;
    let near = ana.space.search(Query::similar("soup"));
    assert_eq!(soon("the search", near).await.unwrap().len(), 1);
}
