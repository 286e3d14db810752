//! From a call that edits a document to the moment when another device reads it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use larder::{Options, Profile};
use larder_types::limits::PUSH_COALESCE_MS;
use serde_json::json;

use crate::fsyncs::{self, Spread};
use crate::workloads::{Metrics, metrics};
use crate::writes::{self, milliseconds, small_number};

pub(crate) async fn measure(dir: &Path, edits: u64) -> Result<Metrics> {
    let (here, space) = writes::create(&dir.join("here"), Options::default()).await?;
    let there = Profile::create(dir.join("there"), writes::unlock(), Options::default()).await?;
    here.listen(Some("127.0.0.1:0".parse()?)).await?;
    let invitation = here.invite(space.name()).await?.unattended();
    let mirror = there.join(&invitation.text).await?;
    for report in there.sync().await? {
        report.outcome?;
    }
    let follower = there.clone();
    tokio::spawn(async move { follower.follow().await });

    let (object, _) = space.create("live", &json!({ "count": 0 })).await?;
    let mut changed = mirror.changed();
    let mut times = Vec::new();
    for count in 0..=edits {
        let value = json!({ "count": count });
        let begun = Instant::now();
        space.put("live", object, &value).await?;
        while mirror.get(object).await?.as_ref() != Some(&value) {
            changed.changed().await.context("the other device closed")?;
        }
        // The first waits until the two are connected.
        if count > 0 {
            times.push(begun.elapsed());
        }
    }
    there.close().await?;
    here.close().await?;
    let (edit, fsync) = (Spread::of(times), fsyncs::time(dir)?);
    let (p95, fsync_p95) = (milliseconds(edit.p95), milliseconds(fsync.p95));
    Ok(metrics([
        ("p50_ms", milliseconds(edit.p50)),
        ("p95_ms", p95),
        ("fsync_p95_ms", fsync_p95),
        ("over_ms", p95 - small_number(PUSH_COALESCE_MS) - 2.0 * fsync_p95),
    ]))
}
