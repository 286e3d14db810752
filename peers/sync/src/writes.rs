//! Larder's side of writing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use larder::{Options, Profile, Query, Receipt, Secret, Space, UnitOfWork, Unlock};
use larder_engine::Environment;
use larder_types::{Entropy, Timestamp};
use peers_side::Record;
use serde_json::json;

use crate::fsyncs::{self, Spread};
use crate::texts;
use crate::workloads::{Metrics, metrics};

pub(crate) const COLLECTION: &str = "records";

pub(crate) fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

pub(crate) async fn create(dir: &Path, options: Options) -> Result<(Profile, Space)> {
    let profile = Profile::create(dir.join("larder"), unlock(), options).await?;
    let space = profile.create_space(&"shared:bench".parse()?).await?;
    Ok((profile, space))
}

/// What [`create`] made.
pub(crate) async fn open(dir: &Path) -> Result<(Profile, Space)> {
    let profile = Profile::open(dir.join("larder"), unlock(), Options::default()).await?;
    let space = profile.space(&"shared:bench".parse()?).await?;
    Ok((profile, space))
}

/// Each record by a commit of its own, and each is waited for.
pub(crate) async fn one_by_one(dir: &Path, records: u64) -> Result<Metrics> {
    let (profile, space) = create(dir, Options::default()).await?;
    let mut times = Vec::new();
    let mut last: Option<Receipt> = None;
    let begun = Instant::now();
    for number in 0..records {
        let record = Record::new(number);
        let begun = Instant::now();
        let (_, receipt) = space.create(COLLECTION, &record).await?;
        times.push(begun.elapsed());
        last = Some(receipt);
    }
    let ms = milliseconds(begun.elapsed());
    one_by_one_took(dir, &profile, &space, (ms, times, last)).await
}

/// The same by an app that is not async.
pub(crate) fn one_by_one_blocking(dir: &Path, records: u64) -> Result<Metrics> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (profile, space) = runtime.block_on(create(dir, Options::default()))?;
    let mut times = Vec::new();
    let mut last: Option<Receipt> = None;
    let begun = Instant::now();
    for number in 0..records {
        let record = Record::new(number);
        let begun = Instant::now();
        let mut unit = UnitOfWork::new();
        unit.create(COLLECTION, &record)?;
        let receipt = space.commit_blocking(unit)?;
        times.push(begun.elapsed());
        last = Some(receipt);
    }
    let ms = milliseconds(begun.elapsed());
    runtime.block_on(one_by_one_took(dir, &profile, &space, (ms, times, last)))
}

async fn one_by_one_took(
    dir: &Path,
    profile: &Profile,
    space: &Space,
    (ms, times, last): (f64, Vec<Duration>, Option<Receipt>),
) -> Result<Metrics> {
    let records = times.len() as u64;
    last.context("no record")?.verify()?;
    check(space, records).await?;
    profile.close().await?;
    let (unit, fsync) = (Spread::of(times), fsyncs::time(dir)?);
    Ok(metrics([
        ("ms", ms),
        ("unit_p50_ms", milliseconds(unit.p50)),
        ("unit_p95_ms", milliseconds(unit.p95)),
        ("fsync_p50_ms", milliseconds(fsync.p50)),
        ("over_fsync_ms", milliseconds(unit.p50) - milliseconds(fsync.p50)),
    ]))
}

/// `in_each` records by each commit.
pub(crate) async fn in_units(dir: &Path, records: u64, in_each: u64) -> Result<Metrics> {
    let (profile, space) = create(dir, Options::default()).await?;
    let begun = Instant::now();
    let mut number = 0;
    while number < records {
        let mut unit = UnitOfWork::new();
        for _ in 0..in_each.min(records - number) {
            unit.create(COLLECTION, &Record::new(number))?;
            number += 1;
        }
        space.commit(unit).await?;
    }
    let ms = milliseconds(begun.elapsed());
    check(&space, records).await?;
    profile.close().await?;
    Ok(metrics([("ms", ms)]))
}

/// 1,000 units that are all handed in before the first is waited for.
pub(crate) async fn at_once(dir: &Path) -> Result<Metrics> {
    const UNITS: u64 = 1000;
    let (profile, space) = create(dir, Options::default()).await?;
    let before = fsyncs::count();
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..UNITS {
        let space = space.clone();
        tasks.push(tokio::spawn(
            async move { space.create(COLLECTION, &Record::new(number)).await },
        ));
    }
    let mut receipts = Vec::new();
    for task in tasks {
        receipts.push(task.await??.1);
    }
    let ms = milliseconds(begun.elapsed());
    let fsyncs = fsyncs::count() - before;
    // Each has an entry of its own, and a receipt that proves it.
    let mut seqs: Vec<u64> = receipts.iter().map(|receipt| receipt.seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    ensure!(seqs.len() as u64 == UNITS, "{} entries for {UNITS} units", seqs.len());
    receipts.iter().try_for_each(Receipt::verify)?;
    check(&space, UNITS).await?;
    profile.close().await?;
    ensure!(fsyncs > 0, "no fsync was counted");
    Ok(metrics([("fsyncs", small_number(fsyncs)), ("ms", ms)]))
}

/// 1,000 small records by one commit: the median of ten.
pub(crate) async fn small(dir: &Path) -> Result<Metrics> {
    let (profile, space) = create(dir, Options::default()).await?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let mut unit = UnitOfWork::new();
        for number in 0..1000 {
            unit.create(COLLECTION, &json!({ "number": number, "text": "a small record" }))?;
        }
        space.commit(unit).await?;
        times.push(begun.elapsed());
    }
    check(&space, 10_000).await?;
    profile.close().await?;
    Ok(metrics([("ms", milliseconds(Spread::of(times).p50))]))
}

/// A folder of texts, as `larder import` takes it in, until the last can be found by its words.
pub(crate) async fn import(dir: &Path, folder: &Path) -> Result<Metrics> {
    let (profile, space) = create(dir, Options::default()).await?;
    let begun = Instant::now();
    let mut committing = None;
    for files in texts::units(folder)? {
        let mut unit = UnitOfWork::new();
        for path in files {
            let text = std::fs::read_to_string(folder.join(&path))?;
            unit.create(COLLECTION, &json!({ "path": path, "format": "markdown", "text": text }))?;
        }
        // One is gathered while the one before is committed.
        let space = space.clone();
        let next = tokio::spawn(async move { space.commit(unit).await });
        if let Some(before) = committing.replace(next) {
            before.await??;
        }
    }
    if let Some(last) = committing {
        last.await??;
    }
    let committed = milliseconds(begun.elapsed());
    // A search waits for what was committed before it.
    let found = space.search(Query::text(texts::LAST_WORD)).await?;
    let ms = milliseconds(begun.elapsed());
    ensure!(found.len() == 1, "{} texts have the last one's word", found.len());
    profile.close().await?;
    Ok(metrics([("ms", ms), ("committed_ms", committed)]))
}

/// A text of 5,000 characters in which one takes the place of another, so that only its history
/// grows.
pub(crate) struct Edited(Vec<u8>);

impl Edited {
    const CHARS: usize = 5000;

    pub(crate) fn new() -> Self {
        Self(b"a quiet word ".iter().copied().cycle().take(Self::CHARS).collect())
    }

    /// Far from the last edit, and never the letter that is there.
    pub(crate) fn edit(&mut self, number: usize) {
        if let Some(letter) = self.0.get_mut(number * 7919 % Self::CHARS) {
            *letter =
                if letter.is_ascii_lowercase() && *letter < b'z' { *letter + 1 } else { b'a' };
        }
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        json!({ "text": String::from_utf8_lossy(&self.0) })
    }
}

/// One text edited again and again, a commit for each. And what it then takes to read it, beside
/// making it of its history.
pub(crate) async fn edits(dir: &Path, count: usize) -> Result<Metrics> {
    let (profile, space) = create(dir, Options::default()).await?;
    let mut text = Edited::new();
    let (object, _) = space.create(COLLECTION, &text.value()).await?;
    let mut times = Vec::new();
    for edit in 0..count {
        text.edit(edit);
        let begun = Instant::now();
        space.put(COLLECTION, object, &text.value()).await?;
        times.push(begun.elapsed());
    }
    let tenth = count / 10;
    let (first, last) = (times.get(..tenth), times.get(count - tenth..));
    let of = |part: Option<&[Duration]>| Spread::of(part.unwrap_or_default().to_vec());
    let (first, last) = (milliseconds(of(first).p50), milliseconds(of(last).p50));
    let mut reads = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let read: Option<serde_json::Value> = space.get(object).await?;
        reads.push(begun.elapsed());
        ensure!(read == Some(text.value()), "the text is another one");
    }
    profile.close().await?;
    Ok(metrics([
        ("ms", milliseconds(times.iter().sum())),
        ("first_ms", first),
        ("last_ms", last),
        ("growth", last / first),
        ("read_ms", milliseconds(Spread::of(reads).p50)),
    ]))
}

/// Units that wait together, handed to the engine in groups of one size after the other: the
/// façade's queue would make groups of whatever size the threads' timing gives.
pub(crate) fn in_groups(dir: &Path, records: u64, sizes: &[usize]) -> Result<Metrics> {
    let mut measured = Metrics::new();
    for size in sizes {
        let dir = dir.join(size.to_string());
        let engine = larder_engine::Profile::create(
            Arc::new(System),
            &dir,
            &unlock(),
            larder_engine::ProfileOptions::default(),
        )?;
        let (_space, mut writer) = engine.create_space(&"shared:bench".parse()?)?;
        let mut units = Vec::new();
        for number in 0..records {
            let mut unit = larder_engine::UnitOfWork::new();
            unit.create(&mut Random, COLLECTION, &Record::new(number))?;
            units.push(unit);
        }
        let mut units = units.into_iter().peekable();
        let begun = Instant::now();
        while units.peek().is_some() {
            let mut group = units.by_ref().take(*size).collect::<Vec<_>>().into_iter();
            let expected = group.len();
            let receipts = writer.commit(&mut group);
            ensure!(receipts.len() == expected, "a group of {expected} was split");
            for receipt in receipts {
                receipt?;
            }
        }
        measured.insert(format!("ms_{size}"), milliseconds(begun.elapsed()));
        writer.close()?;
    }
    Ok(measured)
}

async fn check(space: &Space, records: u64) -> Result<()> {
    let status = space.status().await?;
    ensure!(status.documents == records, "{} of {records} records", status.documents);
    Ok(())
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) const fn small_number(number: u64) -> f64 {
    number as f64
}

/// The operating system's clock and random generator.
pub(crate) struct System;

struct Random;

impl Environment for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Random)
    }
}

impl Entropy for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "it does not fail once it has started")]
        getrandom::fill(bytes).expect("the operating system's random generator failed");
    }
}
