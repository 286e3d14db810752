//! Starts a process for each measurement, one side after the other, round after round.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::fsyncs::{self, Spread};
use crate::report;
use crate::workloads::{self, Metrics, Side, Workload};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Options {
    /// The folder of the other sides' programs.
    #[arg(long, hide = true)]
    binaries: PathBuf,
    /// An empty folder on a disk.
    #[arg(long, hide = true)]
    dir: PathBuf,
    /// An empty folder in memory.
    #[arg(long, hide = true)]
    memory: Option<PathBuf>,
    /// Tiny sizes and one round: to see that it works.
    #[arg(long)]
    quick: bool,
    /// How often each side does each workload [default: 3, with --quick 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these workloads, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Only these sides, with commas between them; larder is always there.
    #[arg(long, value_delimiter = ',')]
    sides: Vec<Side>,
    /// Also those that take long: 1,000,000 records.
    #[arg(long)]
    large: bool,
    /// Print each measurement as a line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    workloads::ALL.map(|workload| workload.name).into()
}

/// What one side did in the rounds of one workload.
pub(crate) type Rounds = Vec<Result<Metrics, String>>;

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
    /// Of writing 4 KiB to a file and syncing it, at the start and at the end.
    pub(crate) fsync: [Spread; 2],
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

pub(crate) fn compare(options: &Options) -> Result<()> {
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let start = (load(), fsyncs::time(&options.dir)?);
    let wanted = |workload: &&Workload| {
        let named = options.only.iter().any(|name| name == workload.name);
        named || (options.only.is_empty() && (options.large || !workload.is_large))
    };
    let rows: Vec<Row> = workloads::ALL
        .iter()
        .filter(wanted)
        .map(|workload| options.run(workload, rounds))
        .collect();
    let machine = Machine {
        cpu: cpu(),
        cores: std::thread::available_parallelism()?.get(),
        load: [start.0, load()],
        fsync: [start.1, fsyncs::time(&options.dir)?],
        rounds,
        quick: options.quick,
    };
    if !options.json {
        print!("{}", report::render(&machine, &rows, options.markdown));
    }
    let failures: Vec<String> = rows.iter().flat_map(report::failures).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

impl Options {
    fn has(&self, side: Side) -> bool {
        let wanted = self.sides.is_empty() || side == Side::Larder || self.sides.contains(&side);
        wanted && side.program().is_none_or(|program| self.binaries.join(program).exists())
    }

    /// All rounds of a workload. Every other round goes through the sides backwards.
    fn run(&self, workload: &'static Workload, rounds: usize) -> Row {
        let mut row = Row { workload, sides: BTreeMap::new() };
        for round in 0..rounds {
            let mut order: Vec<Side> =
                workload.sides.iter().copied().filter(|side| self.has(*side)).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for side in order {
                let outcome = self.measure(workload, side).map_err(|error| format!("{error:#}"));
                let (name, title) = (workload.name, side.name());
                match &outcome {
                    Ok(metrics) => eprintln!("{name:<15} {title:<10} {}", shown(metrics)),
                    Err(error) => eprintln!("{name:<15} {title:<10} FAILED: {error}"),
                }
                if self.json {
                    let outcome = outcome.clone();
                    println!(
                        "{}",
                        json!({
                            "workload": name, "side": title, "round": round, "outcome": outcome,
                        })
                    );
                }
                row.sides.entry(side).or_default().push(outcome);
            }
        }
        row
    }

    /// In a process and folders of its own.
    fn measure(&self, workload: &Workload, side: Side) -> Result<Metrics> {
        let at = |folder: &Path| folder.join(format!("{}-{}", workload.name, side.name()));
        let dir = at(&self.dir);
        let memory = self.memory.as_deref().map(at);
        for folder in memory.iter().chain([&dir]) {
            fs::create_dir_all(folder)?;
        }
        let mut process = Command::new(std::env::current_exe()?);
        process.arg("measure").arg(workload.name).arg("--side").arg(side.name());
        process.arg("--dir").arg(&dir).arg("--binaries").arg(&self.binaries);
        process.arg("--fixtures").arg(self.dir.join("fixtures"));
        if let Some(memory) = &memory {
            process.arg("--memory").arg(memory);
        }
        if self.quick {
            process.arg("--quick");
        }
        let output = process.stdin(Stdio::null()).output().context("cannot start a process")?;
        for folder in memory.iter().chain([&dir]) {
            fs::remove_dir_all(folder)?;
        }
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("it answered something else")
    }
}

fn shown(metrics: &Metrics) -> String {
    let shown: Vec<String> =
        metrics.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
    shown.join(", ")
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
