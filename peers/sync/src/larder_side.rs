//! Larder as a side of the transfer.

use std::path::Path;

use anyhow::{Context as _, Result};
use larder::{Options, Profile, Space};
use peers_side::{Arrived, Command, Offer, Record, Served, Stopwatch, peak_kib, tell, until_told};

use crate::writes::{self, unlock};

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Write { dir, records } => write(&dir, records).await,
        Command::Serve { dir, .. } => serve(&dir).await,
        Command::Fetch { dir, records, offer } => fetch(&dir, records, &offer).await,
    }
}

/// What is measured is a log that goes over, not documents in place of it.
fn options() -> Options {
    Options::default().prune_by_hand()
}

async fn write(dir: &Path, records: u64) -> Result<()> {
    let (profile, space) = writes::create(dir, options()).await?;
    for number in 0..records {
        space.create(writes::COLLECTION, &Record::new(number)).await?;
    }
    Ok(profile.close().await?)
}

async fn serve(dir: &Path) -> Result<()> {
    let profile = Profile::open(dir.join("larder"), unlock(), options()).await?;
    profile.listen(Some("127.0.0.1:0".parse()?)).await?;
    let invitation = profile.invite(&"shared:bench".parse()?).await?.unattended();
    tell(&Offer { offer: String::clone(&invitation.text) })?;
    tokio::task::spawn_blocking(until_told).await?;
    profile.close().await?;
    tell(&Served { peak_kib: peak_kib()? })
}

async fn fetch(dir: &Path, records: u64, offer: &str) -> Result<()> {
    let profile = Profile::create(dir.join("larder"), unlock(), options()).await?;
    let stopwatch = Stopwatch::start();
    let space = profile.join(offer).await?;
    let mut changed = space.changed();
    for report in profile.sync().await? {
        report.outcome?;
    }
    while space.status().await?.documents < records {
        changed.changed().await.context("the profile was closed")?;
    }
    let fetched = stopwatch.stop()?;
    check(&space, records).await?;
    profile.close().await?;
    tell(&fetched)
}

async fn check(space: &Space, records: u64) -> Result<()> {
    let (mut arrived, mut after) = (Arrived::new(records), None);
    loop {
        let page = space.list(Some(writes::COLLECTION), after, 1000).await?;
        for document in page.documents {
            arrived.take(&serde_json::from_value(document.value.into())?)?;
        }
        after = page.next;
        if after.is_none() {
            return arrived.check();
        }
    }
}
