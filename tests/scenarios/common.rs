//! Devices of a household on this machine.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use larder::{
    Error, ErrorKind, Event, ObjectId, Options, PeerReport, Profile, Secret, Space, SpaceName,
    SpaceReport, Unlock,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast;

/// Far longer than anything here takes, so that a hang fails instead of hanging.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("{what} did not happen"))
}

pub(crate) fn household() -> SpaceName {
    "shared:household".parse().unwrap()
}

pub(crate) fn key() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

#[expect(clippy::unnecessary_wraps, reason = "as `listen` takes it")]
pub(crate) fn loopback() -> Option<SocketAddr> {
    Some("127.0.0.1:0".parse().unwrap())
}

/// A profile on disk, and its one space.
pub(crate) struct Device {
    pub(crate) dir: TempDir,
    pub(crate) profile: Profile,
    pub(crate) space: Space,
}

impl Device {
    /// The household's first device, which listens.
    pub(crate) async fn found(label: &str) -> Self {
        Self::found_with(label, Options::default()).await
    }

    pub(crate) async fn found_with(label: &str, options: Options) -> Self {
        let (dir, profile) = profile_with(label, options).await;
        profile.listen(loopback()).await.unwrap();
        let space = profile.create_space(&household()).await.unwrap();
        Self { dir, profile, space }
    }

    /// Closes it and opens it again, several times; something is written in each of the times
    /// between.
    pub(crate) async fn suspend_while_writing(&self) {
        let mut changed = self.space.changed();
        for _ in 0..5 {
            changed.mark_unchanged();
            soon("a commit", changed.changed()).await.unwrap();
            soon("closing", self.profile.close()).await.unwrap();
            soon("opening", self.profile.reopen(key())).await.unwrap();
        }
    }

    /// One more device, invited by this one; it listens, and has what this one has.
    pub(crate) async fn invite(&self, label: &str) -> Self {
        let other = self.admit(label).await;
        other.profile.listen(loopback()).await.unwrap();
        other.sync().await;
        other
    }

    /// One more device, which has not synced yet.
    pub(crate) async fn admit(&self, label: &str) -> Self {
        self.admit_with(label, Options::default()).await
    }

    pub(crate) async fn admit_with(&self, label: &str, options: Options) -> Self {
        let invitation = self.profile.invite(&household()).await.unwrap().unattended();
        Self::join(label, options, &invitation.text).await
    }

    /// A device that was invited, which has not synced yet.
    pub(crate) async fn join(label: &str, options: Options, invitation: &str) -> Self {
        let (dir, profile) = profile_with(label, options).await;
        let space = soon("joining", profile.join(invitation)).await.unwrap();
        Self { dir, profile, space }
    }

    /// One pass with every peer, all of which must be there.
    pub(crate) async fn sync(&self) -> Vec<SpaceReport> {
        let reports = self.try_sync().await;
        assert!(!reports.is_empty(), "nobody to sync with");
        reports.into_iter().flat_map(|report| report.outcome.unwrap()).collect()
    }

    pub(crate) async fn try_sync(&self) -> Vec<PeerReport> {
        soon("the sync", self.profile.sync()).await.unwrap()
    }

    pub(crate) async fn address(&self) -> SocketAddr {
        self.profile.status().await.unwrap().listening.unwrap()
    }

    /// Syncs with one device alone.
    pub(crate) async fn sync_with(&self, other: &Self) -> Vec<SpaceReport> {
        let address = other.address().await;
        soon("the sync", self.profile.sync_with(address)).await.unwrap()
    }

    pub(crate) async fn create(&self, value: Value) -> ObjectId {
        self.space.create("notes", &value).await.unwrap().0
    }

    pub(crate) async fn put(&self, object: ObjectId, value: Value) {
        self.space.put("notes", object, &value).await.unwrap();
    }

    pub(crate) async fn value(&self, object: ObjectId) -> Option<Value> {
        self.space.get(object).await.unwrap()
    }

    /// Closes the profile and opens it again.
    pub(crate) async fn restart(self) -> Self {
        self.profile.close().await.unwrap();
        let Self { dir, profile, space } = self;
        drop((profile, space));
        Self::reopen(dir).await
    }

    pub(crate) async fn reopen(dir: TempDir) -> Self {
        let profile = Profile::open(dir.path(), key(), Options::default()).await.unwrap();
        profile.listen(loopback()).await.unwrap();
        let space = profile.space(&household()).await.unwrap();
        Self { dir, profile, space }
    }

    /// Resolves once this device's space is such that `holds`.
    pub(crate) async fn sees<F: Future<Output = bool>>(&self, holds: impl Fn(Space) -> F) {
        let mut changed = self.space.changed();
        soon("what is waited for", async {
            while !holds(self.space.clone()).await {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }
}

pub(crate) async fn new_profile(label: &str) -> (TempDir, Profile) {
    profile_with(label, Options::default()).await
}

async fn profile_with(label: &str, options: Options) -> (TempDir, Profile) {
    let dir = tempfile::tempdir().unwrap();
    let options = options.label(label);
    let profile = Profile::create(dir.path(), key(), options).await.unwrap();
    (dir, profile)
}

pub(crate) async fn digests_equal(devices: &[&Device]) {
    let mut digests = Vec::new();
    for device in devices {
        digests.push(device.space.digest().await.unwrap());
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

pub(crate) fn kind<T>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => {
            // Shown if the test fails: the kind alone does not say why.
            eprintln!("{:?}: {error}", error.kind());
            error.kind()
        }
    }
}

pub(crate) async fn event(
    events: &mut broadcast::Receiver<Event>,
    wanted: impl Fn(&Event) -> bool,
) -> Event {
    soon("the event", async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

pub(crate) fn note(title: &str, body: &str) -> Value {
    json!({ "title": title, "body": body })
}

/// Every file below a directory with its bytes, in the order of their paths.
pub(crate) fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
