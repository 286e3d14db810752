//! `larder demo --measure`: small writes against this machine's fsync, and live edits.

use std::time::{Duration, Instant};

use anyhow::Context;
use larder::{ObjectId, UnitOfWork};
use serde_json::json;

use super::devices::{Devices, Stage};
use super::machine::{fsyncs, percentile};
use super::report::Report;
use crate::output::duration;

const BULK_RECORDS: u32 = 1000;
const BULK_RUNS: u32 = 5;
const SINGLE_RUNS: u32 = 200;
const LIVE_RUNS: u32 = 20;
const LIVE_WAIT_MAX: Duration = Duration::from_secs(10);
const COLLECTION: &str = "measured";

pub(crate) async fn run(
    devices: &Devices,
    stage: &Stage,
    report: &mut Report,
) -> anyhow::Result<()> {
    bulk(devices, report).await?;
    single(devices, stage, report).await?;
    live(devices, report).await
}

fn record(number: u32) -> serde_json::Value {
    json!({ "title": format!("Milk, {number} l"), "price_cents": 119 + number, "bought": false })
}

async fn bulk(devices: &Devices, report: &mut Report) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for _ in 0..BULK_RUNS {
        let begun = Instant::now();
        let mut unit = UnitOfWork::new();
        for number in 0..BULK_RECORDS {
            unit.create(COLLECTION, &record(number))?;
        }
        devices.first.space.commit(unit).await?;
        took.push(begun.elapsed());
    }
    let median = percentile(&mut took, 50);
    let text = duration(median);
    report.check(
        "records in one unit",
        true,
        format!("1,000 small records in one unit: {text}"),
    )?;
    report.figure("unit_of_1000_records_us", micros(median));
    report.figure_line("1,000 small records, one unit", text);
    Ok(())
}

async fn single(devices: &Devices, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for number in 0..SINGLE_RUNS {
        let begun = Instant::now();
        devices.first.space.create(COLLECTION, &record(number)).await?;
        took.push(begun.elapsed());
    }
    let dir = stage.dir().to_owned();
    let mut plain =
        tokio::task::spawn_blocking(move || fsyncs(&dir, SINGLE_RUNS as usize)).await??;
    let [p50, p95] = [50, 95].map(|percent| percentile(&mut took, percent));
    let [fsync50, fsync95] = [50, 95].map(|percent| percentile(&mut plain, percent));
    let text = format!(
        "p50 {}, p95 {} (this disk's fsync of 4 KiB: {}, {})",
        duration(p50),
        duration(p95),
        duration(fsync50),
        duration(fsync95)
    );
    report.check("units of one record", true, format!("one record, durable: {text}"))?;
    for (name, value) in [
        ("unit_of_one_p50_us", p50),
        ("unit_of_one_p95_us", p95),
        ("fsync_p50_us", fsync50),
        ("fsync_p95_us", fsync95),
    ] {
        report.figure(name, micros(value));
    }
    report.figure_line("one record, durable", text);
    Ok(())
}

/// From a write's return on the first device to the document's being there on the second.
async fn live(devices: &Devices, report: &mut Report) -> anyhow::Result<()> {
    let profile = devices.second.profile.clone();
    let follow = tokio::spawn(async move { profile.follow().await });
    // The first one waits until the devices are connected and even.
    visible(devices, 0).await?;
    let mut took = Vec::new();
    for number in 1..=LIVE_RUNS {
        took.push(visible(devices, number).await?);
    }
    follow.abort();
    let [p50, p95] = [50, 95].map(|percent| percentile(&mut took, percent));
    let text = format!("p50 {}, p95 {}", duration(p50), duration(p95));
    report.check("live edits", true, format!("a write is seen on the other device: {text}"))?;
    report.figure("live_edit_p50_us", micros(p50));
    report.figure("live_edit_p95_us", micros(p95));
    report.figure_line("live edit, write to visible", text);
    Ok(())
}

async fn visible(devices: &Devices, number: u32) -> anyhow::Result<Duration> {
    let mut changed = devices.second.space.changed();
    let (object, _) = devices.first.space.create(COLLECTION, &record(number)).await?;
    let begun = Instant::now();
    let seen = async {
        while !is_there(devices, object).await? {
            changed.changed().await.context("the second device was closed")?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIVE_WAIT_MAX, seen)
        .await
        .context("a live edit did not reach the other device in ten seconds")??;
    Ok(begun.elapsed())
}

async fn is_there(devices: &Devices, object: ObjectId) -> anyhow::Result<bool> {
    Ok(devices.second.space.document(object).await?.is_some())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
