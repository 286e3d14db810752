//! Starts a process for each measurement, one side after the other, round after round.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::fixtures::Fixture;
use crate::report;
use crate::side::Side;
use crate::workloads::{self, Outcome, Workload};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder of the binaries, one for each library.
    #[arg(long, hide = true)]
    binaries: PathBuf,
    /// An empty folder for databases, of up to 4 GB.
    #[arg(long, hide = true)]
    dir: PathBuf,
    /// Tiny sizes and one round: to see that it works.
    #[arg(long)]
    quick: bool,
    /// How often each side does each workload [default: 5, with --quick 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these workloads, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Only these sides, with commas between them; plain is always there.
    #[arg(long, value_delimiter = ',')]
    sides: Vec<Side>,
    /// Print each measurement as a line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Print the tables as Markdown.
    #[arg(long)]
    markdown: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    workloads::ALL.map(|workload| workload.name).into()
}

/// What one side did in the rounds of one workload.
pub(crate) type Rounds = Vec<Result<Outcome, String>>;

/// A workload with its measurements; a side that this run does not have is not there.
pub(crate) struct Row {
    pub(crate) workload: &'static Workload,
    pub(crate) sides: BTreeMap<Side, Rounds>,
}

/// What a figure needs beside it.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Runnable tasks in the last minute, at the start and at the end.
    pub(crate) load: [String; 2],
    /// Median of writing 4 KiB to a file and syncing it, at the start and at the end.
    pub(crate) fsync: [Duration; 2],
    pub(crate) rounds: usize,
}

pub(crate) fn compare(options: &Options) -> Result<()> {
    let sides: Vec<Side> = Side::ALL.into_iter().filter(|side| options.has(*side)).collect();
    ensure!(sides.contains(&Side::Plain), "there is no binary for plain SQLite");
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 5 });
    let start = (load(), fsync_p50(options)?);

    let (mut rows, mut made) = (Vec::new(), None);
    for workload in workloads::ALL.iter().filter(|workload| options.wants(workload)) {
        if made != workload.fixture {
            options.replace_fixture(made, workload.fixture, &sides)?;
            made = workload.fixture;
        }
        rows.push(run(options, workload, &sides, rounds));
    }

    let machine = Machine {
        cpu: cpu(),
        cores: std::thread::available_parallelism()?.get(),
        load: [start.0, load()],
        fsync: [start.1, fsync_p50(options)?],
        rounds,
    };
    if !options.json {
        print!("{}", report::render(&machine, &rows, options.markdown));
    }
    let failures = report::failures(&rows);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// All rounds of a workload. Every other round goes through the sides backwards.
fn run(options: &Options, workload: &'static Workload, sides: &[Side], rounds: usize) -> Row {
    let mut row = Row { workload, sides: BTreeMap::new() };
    for round in 0..rounds {
        let mut order = sides.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let outcome = options.measure(side, workload).map_err(|error| format!("{error:#}"));
            let (name, title) = (workload.name, side.name());
            match &outcome {
                Ok(Outcome::Measured(m)) => {
                    eprintln!("{name:<10} {title:<13} {:9.2} ms, CPU {:.2}", m.wall_ms, m.cpu_ms);
                }
                Ok(Outcome::Refused(why)) => eprintln!("{name:<10} {title:<13} refused: {why}"),
                Err(error) => eprintln!("{name:<10} {title:<13} FAILED: {error}"),
            }
            if options.json {
                let line = json!({
                    "workload": name, "side": title, "round": round, "outcome": outcome,
                });
                println!("{line}");
            }
            row.sides.entry(side).or_default().push(outcome);
        }
    }
    row
}

impl Options {
    fn has(&self, side: Side) -> bool {
        let wanted = self.sides.is_empty() || side == Side::Plain || self.sides.contains(&side);
        wanted && self.binary(side).exists()
    }

    fn wants(&self, workload: &Workload) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
    }

    fn binary(&self, side: Side) -> PathBuf {
        self.binaries.join(side.binary())
    }

    /// Removes the databases that are no longer read, and makes those that are read next.
    fn replace_fixture(
        &self,
        old: Option<Fixture>,
        new: Option<Fixture>,
        sides: &[Side],
    ) -> Result<()> {
        for side in sides {
            if let Some(old) = old {
                // Two sides may have the same file.
                let _ = fs::remove_file(old.path(&self.dir, *side));
            }
        }
        let Some(new) = new else { return Ok(()) };
        for side in sides.iter().filter(|side| !new.path(&self.dir, **side).exists()) {
            self.start(*side, &["make", new.name()])?;
        }
        Ok(())
    }

    fn measure(&self, side: Side, workload: &Workload) -> Result<Outcome> {
        let line = self.start(side, &["measure", workload.name])?;
        serde_json::from_str(&line).with_context(|| format!("{side:?} answered {line:?}"))
    }

    /// Runs a command in a process of its own and returns what it printed.
    fn start(&self, side: Side, command: &[&str]) -> Result<String> {
        let mut process = Command::new(self.binary(side));
        process.args(command).arg("--side").arg(side.name()).arg("--dir").arg(&self.dir);
        if self.quick {
            process.arg("--quick");
        }
        let output = process.stdin(Stdio::null()).output().context("cannot start a process")?;
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn fsync_p50(options: &Options) -> Result<Duration> {
    let path = options.dir.join("fsync");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        times.push(start.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let flags = value("flags").or_else(|| value("Features")).unwrap_or_default();
    let ciphers = ["aes", "vaes", "pclmulqdq", "vpclmulqdq", "pmull"];
    let ciphers: Vec<&str> =
        flags.split_whitespace().filter(|flag| ciphers.contains(flag)).collect();
    format!("{model} ({})", ciphers.join(", "))
}
