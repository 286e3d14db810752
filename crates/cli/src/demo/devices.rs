//! The stage, and the two devices on it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use larder::{Cursor, Options, Profile, Space, SpaceName, SpaceReport, Unlock};
use zeroize::Zeroizing;

use super::report::Report;
use crate::exit::{Exit, Failure};
use crate::output::{Output, bytes, counted};

pub(crate) const FIRST: &str = "laptop";
pub(crate) const SECOND: &str = "kitchen tablet";
pub(crate) const SPACE: &str = "shared:household";

const PAGE_DOCUMENTS: usize = 256;

/// A directory for everything the demo writes; temporary unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: PathBuf,
    passphrase: Zeroizing<String>,
    _temporary: Option<tempfile::TempDir>,
}

impl Stage {
    pub(crate) fn set(keep: Option<&Path>) -> anyhow::Result<Self> {
        let passphrase = random_passphrase()?;
        let Some(dir) = keep else {
            let temporary = tempfile::Builder::new().prefix("larder-demo-").tempdir()?;
            let dir = temporary.path().to_owned();
            return Ok(Self { dir, passphrase, _temporary: Some(temporary) });
        };
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            let message = format!("{} is there and not empty: name a new directory", dir.display());
            return Err(Failure::error(Exit::Usage, message));
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("passphrase.txt"), format!("{}\n", *passphrase))?;
        Ok(Self { dir: dir.to_owned(), passphrase, _temporary: None })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn unlock(&self) -> Unlock {
        Unlock::Passphrase(self.passphrase.clone())
    }
}

fn random_passphrase() -> anyhow::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0_u8; 20]);
    getrandom::fill(random.as_mut())
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes ({error})"))?;
    Ok(Zeroizing::new(data_encoding::BASE32_NOPAD.encode(random.as_ref()).to_lowercase()))
}

/// One device: a profile, and its side of the space.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) profile: Profile,
    pub(crate) space: Space,
    dir: PathBuf,
}

impl Device {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) async fn documents(&self) -> anyhow::Result<u64> {
        let mut documents = 0;
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.space.list(None, after, PAGE_DOCUMENTS).await?;
            documents += page.documents.len() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(documents);
            }
        }
    }
}

/// Both devices; before [`Alone::join`] the second is in no space.
pub(crate) struct Devices {
    pub(crate) first: Device,
    pub(crate) second: Device,
}

/// The first device with its space, the second without.
pub(crate) struct Alone {
    pub(crate) first: Device,
    second: Profile,
    second_dir: PathBuf,
}

impl Alone {
    pub(crate) async fn create(stage: &Stage, report: &mut Report) -> anyhow::Result<Self> {
        let [first_dir, second_dir] = ["laptop", "tablet"].map(|name| stage.dir().join(name));
        let first =
            Profile::create(&first_dir, stage.unlock(), Options::default().label(FIRST)).await?;
        let second =
            Profile::create(&second_dir, stage.unlock(), Options::default().label(SECOND)).await?;
        let space = first.create_space(&space_name()?).await?;
        report.check("profiles", true, format!("two profiles, and {SPACE} on the {FIRST}"))?;
        Ok(Self { first: Device { profile: first, space, dir: first_dir }, second, second_dir })
    }

    /// The second device joins by an invitation, over QUIC on the loopback interface.
    pub(crate) async fn join(self, report: &mut Report) -> anyhow::Result<Devices> {
        let profile = &self.first.profile;
        profile.listen(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?;
        let mut invitation = profile.invite(&space_name()?).await?;
        let text = invitation.text.clone();
        let asking = async {
            let joining = self.second.begin_join(&text).await?;
            let shown = joining.check_code();
            Ok((shown, joining.approved().await?))
        };
        let approving = async {
            let request = invitation.request().await?;
            Ok::<_, larder::Error>((request.check_code, request.approve().await?))
        };
        let ((there, space), (here, joined)) = tokio::try_join!(asking, approving)?;
        let ok = space.id() == self.first.space.id() && joined.label == SECOND && here == there;
        let detail = format!(
            "the {} joined by an invitation of {} characters; both showed {here}",
            joined.label,
            text.len()
        );
        report.check("join", ok, detail)?;
        let other = Profile::in_memory(Options::default()).await?;
        let refused = other.join(&text).await.is_err();
        report.check("invitation", refused, "the same invitation admits nobody else")?;
        let second = Device { profile: self.second, space, dir: self.second_dir };
        Ok(Devices { first: self.first, second })
    }
}

impl Devices {
    pub(crate) async fn sync(
        &self,
        report: &mut Report,
        name: &'static str,
    ) -> anyhow::Result<(Vec<SpaceReport>, Duration)> {
        let bar = Output::own(false).progress(None, "syncing");
        bar.enable_steady_tick(Duration::from_millis(100));
        let begun = Instant::now();
        let peers = self.second.profile.sync().await;
        bar.finish_and_clear();
        let took = begun.elapsed();
        let mut spaces = Vec::new();
        let mut failures = Vec::new();
        for peer in peers? {
            match peer.outcome {
                Ok(reports) => spaces.extend(reports),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let sum = |of: fn(&SpaceReport) -> u64| spaces.iter().map(of).sum::<u64>();
        let mut text = format!(
            "the {SECOND} took {} ({}) and gave {} ({})",
            counted(sum(|r| r.entries_in), "entry", "entries"),
            bytes(sum(|r| r.bytes_in)),
            counted(sum(|r| r.entries_out), "entry", "entries"),
            bytes(sum(|r| r.bytes_out)),
        );
        if !failures.is_empty() {
            text = failures.join("; ");
        }
        report.check(name, failures.is_empty() && !spaces.is_empty(), text)?;
        Ok((spaces, took))
    }

    /// Both hold the same documents and tombstones.
    pub(crate) async fn check_equal(&self, report: &mut Report) -> anyhow::Result<()> {
        let (first, second) = tokio::join!(self.first.space.digest(), self.second.space.digest());
        let (first, second) = (first?.to_string(), second?.to_string());
        let digest: String = first.chars().take(16).collect();
        let text = if first == second {
            format!("both hold the same content: digest {digest}…")
        } else {
            format!("the digests differ: {first} and {second}")
        };
        report.check("equal digests", first == second, text)?;
        Ok(())
    }

    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        self.second.profile.close().await?;
        self.first.profile.close().await?;
        Ok(())
    }
}

pub(crate) fn space_name() -> anyhow::Result<SpaceName> {
    Ok(SPACE.parse()?)
}
