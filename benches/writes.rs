//! What writing costs, beside what the machine's own fsync costs: `cargo bench --bench writes`.
#![allow(clippy::print_stdout, reason = "it is to be seen")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Options, Profile, Secret, Space, UnitOfWork, Unlock};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Not the temporary directory, which may be in memory, where fsync is free.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let key = || Unlock::Key(Secret::new([1; 32]));
    let here = Profile::create(home.path().join("a"), key(), Options::default()).await?;
    let there = Profile::create(home.path().join("b"), key(), Options::default()).await?;
    let name = "shared:bench".parse()?;
    let space = here.create_space(&name).await?;

    let fsync = fsyncs(home.path())?;
    fsync.print("fsync of 4 KiB");
    let unit = units(&space).await?;
    unit.print("unit of one record");
    let ratio = unit.p50.as_secs_f64() / fsync.p50.as_secs_f64();
    println!("{:<24} {ratio:.1} times the fsync", "");
    bulk(&space).await?.print("1,000 records, one unit");

    here.listen(Some("127.0.0.1:0".parse()?)).await?;
    let invitation = here.invite(&name).await?.unattended();
    let mirror = there.join(&invitation.text).await?;
    for report in there.sync().await? {
        report.outcome?;
    }
    let follower = there.clone();
    tokio::spawn(async move { follower.follow().await });
    live(&space, &mirror).await?.print("live edit, other device");
    there.close().await?;
    here.close().await?;
    Ok(())
}

struct Spread {
    p50: Duration,
    p95: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at =
            |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        Self { p50: at(50), p95: at(95) }
    }

    fn print(&self, what: &str) {
        println!("{what:<24} p50 {:>10.2?}  p95 {:>10.2?}", self.p50, self.p95);
    }
}

fn fsyncs(dir: &Path) -> anyhow::Result<Spread> {
    let mut file = File::create(dir.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(Spread::of(times))
}

async fn units(space: &Space) -> anyhow::Result<Spread> {
    let mut times = Vec::new();
    for number in 0..200 {
        let begun = Instant::now();
        space.create("records", &json!({ "number": number, "text": "a small record" })).await?;
        times.push(begun.elapsed());
    }
    Ok(Spread::of(times))
}

async fn bulk(space: &Space) -> anyhow::Result<Spread> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let mut unit = UnitOfWork::new();
        for number in 0..1000 {
            unit.create("bulk", &json!({ "number": number, "text": "a small record" }))?;
        }
        space.commit(unit).await?;
        times.push(begun.elapsed());
    }
    Ok(Spread::of(times))
}

/// From the moment `put` returns to the moment it can be read on the other device.
async fn live(here: &Space, there: &Space) -> anyhow::Result<Spread> {
    let (object, _) = here.create("live", &json!({ "count": 0 })).await?;
    let mut times = Vec::new();
    let mut changed = there.changed();
    for count in 1..=100 {
        let value = json!({ "count": count });
        here.put("live", object, &value).await?;
        let begun = Instant::now();
        while there.get(object).await?.as_ref() != Some(&value) {
            changed.changed().await?;
        }
        times.push(begun.elapsed());
    }
    Ok(Spread::of(times))
}
