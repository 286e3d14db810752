//! The records of one device to another, each side by processes of its own.
//!
//! What goes over the wire is counted by the system, on the loopback interface: `run` gives the
//! comparison a network of its own where it may, so that nothing else is on it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use peers_side::{Fetched, Offer, Served};

use crate::workloads::{Bench, Metrics, Side, metrics};
use crate::writes::small_number;

pub(crate) fn measure(side: Side, bench: &Bench, records: u64) -> Result<Metrics> {
    let program = match side.program() {
        Some(name) => bench.binaries.join(name),
        None => std::env::current_exe()?,
    };
    let run = |command: &str, dir: &Path| {
        let mut process = Command::new(&program);
        process.arg(command).arg("--dir").arg(dir).arg("--records").arg(records.to_string());
        process
    };

    let written = written(side, bench, records, &run)?;
    let (here, there) = (bench.dir.join("here"), bench.dir.join("there"));
    copy(&written, &here)?;
    fs::create_dir_all(&there)?;

    let before = loopback_bytes()?;
    let mut serving = Serving::start(&mut run("serve", &here))?;
    let offer: Offer = serde_json::from_str(&serving.line()?)?;
    let output = run("fetch", &there)
        .arg("--offer")
        .arg(offer.offer)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{} did not fetch: {}", side.name(), output.status);
    let wire = loopback_bytes()? - before;
    let fetched: Fetched = serde_json::from_str(last_line(&output.stdout)?)?;
    let served = serving.end()?;

    Ok(metrics([
        ("ms", fetched.ms),
        ("ms_per_10k", fetched.ms * 10_000.0 / small_number(records)),
        ("cpu_ms", fetched.cpu_ms),
        ("wire_mib", small_number(wire) / 1_048_576.0),
        ("peak_mib", small_number(served.peak_kib + fetched.peak_kib) / 1024.0),
        ("peak_fetch_mib", small_number(fetched.peak_kib) / 1024.0),
    ]))
}

/// The folder of a device that has written the records. Made once for all rounds.
fn written(
    side: Side,
    bench: &Bench,
    records: u64,
    run: &dyn Fn(&str, &Path) -> Command,
) -> Result<PathBuf> {
    let dir = bench.fixtures.join(format!("{}-{records}", side.name()));
    if !dir.exists() {
        let making = dir.with_extension("making");
        fs::create_dir_all(&making)?;
        let status = run("write", &making).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{} did not write: {status}", side.name());
        fs::rename(making, &dir)?;
    }
    Ok(dir)
}

/// A folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Bytes that the loopback interface received so far, with the headers of IP and UDP or TCP.
fn loopback_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next());
    bytes.and_then(|bytes| bytes.parse().ok()).context("the system does not count bytes")
}

fn last_line(output: &[u8]) -> Result<&str> {
    std::str::from_utf8(output)?.lines().last().context("it printed nothing")
}

/// A process that serves until its standard input ends. Dropped, it is killed.
struct Serving {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Serving {
    fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().context("no pipe")?);
        Ok(Self { process, lines })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("the serving side ended: {}", self.process.wait()?);
        }
        Ok(line)
    }

    fn end(mut self) -> Result<Served> {
        drop(self.process.stdin.take());
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the serving side failed: {status}");
        Ok(serde_json::from_str(last_line(&rest)?)?)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
