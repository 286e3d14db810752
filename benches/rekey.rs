//! What the renewal of a space's key costs those who write meanwhile, and on disk:
//! `cargo bench --bench rekey`. `LARDER_DOCUMENTS` is how many documents there are, 20,000 unless
//! told.
#![allow(clippy::print_stdout, reason = "it is to be seen")]

use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Options, Profile, Secret, Space, UnitOfWork, Unlock};
use serde_json::json;

const MIB: f64 = 1024.0 * 1024.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let documents = std::env::var("LARDER_DOCUMENTS").map_or(Ok(20_000), |text| text.parse())?;
    // Not the temporary directory, which may be in memory, where fsync is free.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let key = || Unlock::Key(Secret::new([1; 32]));
    let profile = Profile::create(home.path(), key(), Options::default()).await?;
    let space = profile.create_space(&"shared:bench".parse()?).await?;
    fill(&space, documents).await?;
    let size = bytes_below(home.path());
    println!("{documents} documents of 4 KB, {:.0} MiB on disk", mib(size));
    for (what, writes) in [("nobody writing", false), ("one writer", true)] {
        let alone =
            if writes { Some(writes_during(&space, Duration::from_secs(2)).await?) } else { None };
        let renewal = renew(&space, home.path(), writes).await?;
        println!(
            "{what}: {:.2?}, at most {:.0} MiB more on disk",
            renewal.took,
            mib(renewal.peak - size)
        );
        if let Some(alone) = alone {
            print("  a record before", alone);
            print("  a record meanwhile", renewal.writes);
        }
    }
    profile.close().await?;
    drop((space, profile));
    let begun = Instant::now();
    let purged = Profile::purge(home.path(), key(), None, |_, _| {}).await?;
    println!("purge: {:.2?} for {} pages", begun.elapsed(), purged.pages);
    Ok(())
}

async fn fill(space: &Space, documents: u64) -> anyhow::Result<()> {
    let mut number = 0;
    while number < documents {
        let mut unit = UnitOfWork::new();
        for _ in 0..256.min(documents - number) {
            let words = (0..650).map(|n| format!("word{}", (n * 7919 + number * 104_729) % 50_000));
            let text = words.collect::<Vec<_>>().join(" ");
            unit.create("files", &json!({ "path": format!("{number}.md"), "text": text }))?;
            number += 1;
        }
        space.commit(unit).await?;
    }
    Ok(())
}

struct Renewal {
    took: Duration,
    /// Bytes on disk at most.
    peak: u64,
    writes: Vec<Duration>,
}

async fn renew(space: &Space, dir: &Path, writing: bool) -> anyhow::Result<Renewal> {
    let (mut peak, mut writes) = (0, Vec::new());
    let begun = Instant::now();
    let renewing = space.clone();
    let mut renewal = tokio::spawn(async move { renewing.rekey(|_, _| {}).await });
    let took = loop {
        peak = peak.max(bytes_below(dir));
        let idle = async {
            if writing {
                write(space).await.map(Some)
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(None)
            }
        };
        let one = tokio::select! {
            done = &mut renewal => {
                done??;
                break begun.elapsed();
            }
            one = idle => one?,
        };
        writes.extend(one);
    };
    Ok(Renewal { took, peak, writes })
}

async fn write(space: &Space) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    space.create("records", &json!({ "text": "a small record" })).await?;
    Ok(begun.elapsed())
}

async fn writes_during(space: &Space, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < time {
        times.push(write(space).await?);
    }
    Ok(times)
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    let (p50, p95) = (at(50), at(95));
    println!("{what:<20} p50 {p50:>8.2?}  p95 {p95:>8.2?}  most {most:>8.2?}  of {}", times.len());
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(of).sum()
}

#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
