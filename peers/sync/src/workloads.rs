//! What is measured, on which sides, and what is aimed at.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::writes::milliseconds;
use crate::{block_on, catch_up, idle, live, open_text, plain, raw, texts, transfer, writes};

/// Who does the work.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Larder,
    /// SQLite with the records as rows.
    Plain,
    /// SQLite with the very rows that Larder writes.
    Raw,
    IrohDocs,
    Samod,
    P2panda,
}

impl Side {
    pub(crate) const ALL: [Self; 6] =
        [Self::Larder, Self::Plain, Self::Raw, Self::IrohDocs, Self::Samod, Self::P2panda];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Plain => "plain",
            Self::Raw => "raw",
            Self::IrohDocs => "iroh-docs",
            Self::Samod => "samod",
            Self::P2panda => "p2panda",
        }
    }

    /// The program, if it is not this one.
    pub(crate) const fn program(self) -> Option<&'static str> {
        match self {
            Self::Larder | Self::Plain | Self::Raw => None,
            Self::IrohDocs => Some("peers-iroh-docs"),
            Self::Samod => Some("peers-samod"),
            Self::P2panda => Some("peers-p2panda"),
        }
    }

    /// What one has to know to compare it: what it does, and what it does not.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Larder => {
                "encrypts all files and every record, syncs each commit to disk, signs it and \
                 returns a receipt, merges concurrent edits, indexes words and vectors"
            }
            Self::Plain => {
                "SQLite in WAL mode, the records as rows of five columns: no encryption, no log, no \
                 signatures, no sync with others"
            }
            Self::Raw => {
                "SQLite in WAL mode, the rows that Larder writes, made before: no encryption of \
                 files, nothing signed, sealed, merged or indexed; search tables are left out"
            }
            Self::IrohDocs => {
                "0.101, persistent: commits lazily, so that what is readable may not be durable; \
                 plain files, encrypted on the wire only; entries signed; the last writer wins"
            }
            Self::Samod => {
                "0.16, files and TCP: no encryption, no signatures, no fsync; merges; must be \
                 handed the document ids"
            }
            Self::P2panda => {
                "0.7.1, SQLite: plain files, encrypted on the wire only; operations signed; merging \
                 is left to the app; buffers enlarged, for it drops operations as published"
            }
        }
    }
}

/// What one workload on one side came to, by name.
pub(crate) type Metrics = BTreeMap<String, f64>;

pub(crate) struct Workload {
    /// As on the command line.
    pub(crate) name: &'static str,
    pub(crate) sides: &'static [Side],
    /// Only if it is asked for.
    pub(crate) is_large: bool,
    run: fn(Side, &Bench) -> Result<Metrics>,
    pub(crate) lines: &'static [Line],
}

/// How Larder is compared with a side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Larder's figure over the side's.
    Ratio(Side),
    /// Larder's figure, by itself.
    Alone,
}

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) title: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) compared: Compared,
    pub(crate) aim: Option<f64>,
}

const fn ratio(title: &'static str, with: Side, aim: Option<f64>) -> Line {
    Line { title, metric: "ms", unit: "ms", compared: Compared::Ratio(with), aim }
}

const fn alone(
    title: &'static str,
    metric: &'static str,
    unit: &'static str,
    aim: Option<f64>,
) -> Line {
    Line { title, metric, unit, compared: Compared::Alone, aim }
}

const fn of(line: Line, metric: &'static str, unit: &'static str) -> Line {
    Line { metric, unit, ..line }
}

use Side::{IrohDocs, Larder, P2panda, Plain, Raw, Samod};

pub(crate) const ALL: [Workload; 18] = [
    row(
        "units",
        &[Larder, Plain, Raw],
        units,
        &[
            ratio("records of 500 B, a unit each, FULL", Plain, Some(2.0)),
            ratio("the same, beside its own rows", Raw, None),
            alone("one commit with receipt, over an fsync: p50", "over_fsync_ms", "ms", Some(1.0)),
        ],
    ),
    row(
        "units-unsynced",
        &[Larder, Raw],
        units_unsynced,
        &[ratio("the same where a sync costs nothing, raw NORMAL", Raw, Some(3.0))],
    ),
    row(
        "units-blocking",
        &[Larder, Plain, Raw],
        units_blocking,
        &[
            ratio("units by the call that blocks, FULL", Plain, Some(2.0)),
            ratio("the same, beside its own rows", Raw, None),
            alone("one commit with receipt, over an fsync: p50", "over_fsync_ms", "ms", Some(1.0)),
        ],
    ),
    row(
        "units-unsynced-blocking",
        &[Larder, Raw],
        units_unsynced_blocking,
        &[ratio("the same where a sync costs nothing, raw NORMAL", Raw, Some(3.0))],
    ),
    row(
        "groups",
        &[Larder, Raw],
        groups,
        &[
            of(ratio("units in groups of 16", Raw, Some(1.6)), "ms_16", "ms"),
            of(ratio("units in groups of 64", Raw, Some(1.6)), "ms_64", "ms"),
            of(ratio("units in groups of 256", Raw, Some(1.6)), "ms_256", "ms"),
        ],
    ),
    row(
        "bulk",
        &[Larder, Plain],
        bulk,
        &[
            alone("records of 500 B, in units of 1,000", "ms", "ms", Some(600.0)),
            ratio("the same, beside rows", Plain, None),
        ],
    ),
    row(
        "waiting",
        &[Larder],
        waiting,
        &[
            alone("fsyncs of 1,000 units waiting at once", "fsyncs", "fsyncs", Some(50.0)),
            alone("the same: time until the last receipt", "ms", "ms", None),
        ],
    ),
    row(
        "small",
        &[Larder, Plain],
        small,
        &[
            alone("1,000 small records in one unit", "ms", "ms", Some(50.0)),
            ratio("the same, beside rows", Plain, None),
        ],
    ),
    row(
        "edits",
        &[Larder],
        edits,
        &[
            alone("10,000 edits of a text of 5,000 characters, a unit each", "ms", "ms", None),
            alone("the last 1,000 beside the first 1,000: p50", "growth", "×", Some(1.5)),
            alone("reading it then: p50", "read_ms", "ms", None),
        ],
    ),
    row(
        "open-text",
        &[Larder, Plain],
        open_text,
        &[
            ratio("reading a text of 260,000 edits, beside Automerge's loading", Plain, Some(0.1)),
            of(ratio("the same, the profile's opening included", Plain, None), "opened_ms", "ms"),
        ],
    ),
    row(
        "import",
        &[Larder, Plain],
        import,
        &[ratio("Markdown files, beside rows and FTS5", Plain, Some(2.0))],
    ),
    row(
        "live",
        &[Larder],
        live,
        &[
            alone("live edit to visible elsewhere: p50", "p50_ms", "ms", None),
            alone("the same: p95", "p95_ms", "ms", None),
            alone("p95 over 20 ms of gathering and 2 fsyncs (p95)", "over_ms", "ms", Some(5.0)),
        ],
    ),
    row(
        "idle",
        &[Larder],
        idle,
        &[
            alone("idle, 10 spaces, 3 peers: wakeups a minute", "wakeups", "", None),
            alone("the same: at how many moments, a minute and peer", "bursts", "", Some(12.0)),
        ],
    ),
    row(
        "catch-up",
        &[Larder, Plain],
        catch_up,
        &[
            of(ratio("entries of 500 B taken in: durable", Plain, Some(2.0)), "durable_ms", "ms"),
            of(ratio("the same: readable", Plain, Some(5.0)), "visible_ms", "ms"),
            // 0.8 of the rate of plain FTS5.
            of(ratio("the same: then words indexed", Plain, Some(1.25)), "indexed_ms", "ms"),
            alone("the same: then vectors", "vectors_ms", "ms", None),
            of(ratio("processor time: durable", Plain, None), "durable_cpu_ms", "ms"),
            of(ratio("the same: readable", Plain, None), "visible_cpu_ms", "ms"),
            of(ratio("the same: then words indexed", Plain, None), "indexed_cpu_ms", "ms"),
            alone("the same: then vectors", "vectors_cpu_ms", "ms", None),
        ],
    ),
    row(
        "catch-up-edits",
        &[Larder],
        catch_up_edits,
        &[
            alone("10,000 edits of one text taken in: durable", "durable_ms", "ms", None),
            alone("the same: readable", "visible_ms", "ms", None),
            alone("each, beside one of 1,000", "growth", "×", Some(1.5)),
        ],
    ),
    row("transfer", &[Larder, IrohDocs, Samod, P2panda], transfer, TRANSFER),
    row("transfer-100k", &[Larder, IrohDocs], transfer_100k, TRANSFER),
    Workload { is_large: true, ..row("transfer-1m", &[Larder], transfer_1m, TRANSFER) },
];

const TRANSFER: &[Line] = &[
    ratio("to a fresh device: time, beside iroh-docs", IrohDocs, Some(0.4)),
    of(ratio("bytes on the wire, beside iroh-docs", IrohDocs, Some(1.0)), "wire_mib", "MiB"),
    of(ratio("memory of both ends, beside iroh-docs", IrohDocs, Some(1.0)), "peak_mib", "MiB"),
    ratio("time, beside samod", Samod, None),
    of(ratio("bytes on the wire, beside samod", Samod, None), "wire_mib", "MiB"),
    of(ratio("memory of both ends, beside samod", Samod, None), "peak_mib", "MiB"),
    ratio("time, beside p2panda", P2panda, None),
    of(ratio("bytes on the wire, beside p2panda", P2panda, None), "wire_mib", "MiB"),
    of(ratio("memory of both ends, beside p2panda", P2panda, None), "peak_mib", "MiB"),
    alone("time per 10,000 records", "ms_per_10k", "ms", None),
];

const fn row(
    name: &'static str,
    sides: &'static [Side],
    run: fn(Side, &Bench) -> Result<Metrics>,
    lines: &'static [Line],
) -> Workload {
    Workload { name, sides, is_large: false, run, lines }
}

/// Where and how much to measure.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// An empty folder.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// What workloads read; made once.
    #[arg(long)]
    pub(crate) fixtures: PathBuf,
    /// The programs of the other sides.
    #[arg(long)]
    pub(crate) binaries: PathBuf,
    /// A folder in memory, where a sync costs nothing.
    #[arg(long)]
    pub(crate) memory: Option<PathBuf>,
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Bench {
    pub(crate) const fn records(&self) -> u64 {
        if self.quick { 200 } else { 10_000 }
    }

    pub(crate) const fn texts(&self) -> u64 {
        if self.quick { 200 } else { 20_000 }
    }
}

pub(crate) fn measure(workload: &str, side: Side, bench: &Bench) -> Result<Metrics> {
    let workload =
        ALL.iter().find(|w| w.name == workload).with_context(|| format!("no {workload}"))?;
    fs::create_dir_all(&bench.dir)?;
    let mut measured = (workload.run)(side, bench)?;
    // Of this process as a whole, to tell work from waiting where other work ran beside it.
    measured.entry("cpu_ms".to_owned()).or_insert(milliseconds(peers_side::cpu()));
    Ok(measured)
}

/// What `metrics` are, by name.
pub(crate) fn metrics<const N: usize>(metrics: [(&str, f64); N]) -> Metrics {
    metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn units(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => block_on(writes::one_by_one(&bench.dir, bench.records())),
        Raw => raw::in_groups(bench, &bench.dir, &[1], "FULL"),
        _ => plain::records(&bench.dir, bench.records(), 1),
    }
}

fn units_unsynced(side: Side, bench: &Bench) -> Result<Metrics> {
    let memory = bench.memory.as_ref().context("there is no file system in memory")?;
    match side {
        Larder => block_on(writes::one_by_one(memory, bench.records())),
        _ => raw::in_groups(bench, memory, &[1], "NORMAL"),
    }
}

fn units_blocking(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => writes::one_by_one_blocking(&bench.dir, bench.records()),
        side => units(side, bench),
    }
}

fn units_unsynced_blocking(side: Side, bench: &Bench) -> Result<Metrics> {
    let memory = bench.memory.as_ref().context("there is no file system in memory")?;
    match side {
        Larder => writes::one_by_one_blocking(memory, bench.records()),
        side => units_unsynced(side, bench),
    }
}

const GROUPS: [usize; 3] = [16, 64, 256];

fn groups(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => writes::in_groups(&bench.dir, bench.records(), &GROUPS),
        _ => raw::in_groups(bench, &bench.dir, &GROUPS, "FULL"),
    }
}

fn bulk(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => block_on(writes::in_units(&bench.dir, bench.records(), 1000)),
        _ => plain::records(&bench.dir, bench.records(), 1000),
    }
}

fn waiting(_: Side, bench: &Bench) -> Result<Metrics> {
    block_on(writes::at_once(&bench.dir))
}

fn small(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => block_on(writes::small(&bench.dir)),
        _ => plain::small(&bench.dir),
    }
}

fn edits(_: Side, bench: &Bench) -> Result<Metrics> {
    block_on(writes::edits(&bench.dir, if bench.quick { 200 } else { 10_000 }))
}

fn import(side: Side, bench: &Bench) -> Result<Metrics> {
    let folder = texts::folder(bench)?;
    match side {
        Larder => block_on(writes::import(&bench.dir, &folder)),
        _ => plain::import(&bench.dir, &folder),
    }
}

fn open_text(side: Side, bench: &Bench) -> Result<Metrics> {
    let edits = if bench.quick { 2000 } else { 260_000 };
    match side {
        Larder => open_text::larder(bench, edits),
        _ => open_text::automerge(bench, edits),
    }
}

fn catch_up(side: Side, bench: &Bench) -> Result<Metrics> {
    match side {
        Larder => catch_up::larder(bench, 10 * bench.records()),
        _ => catch_up::plain(bench, 10 * bench.records()),
    }
}

fn catch_up_edits(_: Side, bench: &Bench) -> Result<Metrics> {
    catch_up::edits(bench, if bench.quick { 500 } else { 10_000 })
}

fn live(_: Side, bench: &Bench) -> Result<Metrics> {
    block_on(live::measure(&bench.dir, if bench.quick { 10 } else { 200 }))
}

fn idle(_: Side, bench: &Bench) -> Result<Metrics> {
    block_on(idle::measure(&bench.dir, if bench.quick { 2 } else { 30 }))
}

fn transfer(side: Side, bench: &Bench) -> Result<Metrics> {
    transfer::measure(side, bench, bench.records())
}

fn transfer_100k(side: Side, bench: &Bench) -> Result<Metrics> {
    transfer::measure(side, bench, 10 * bench.records())
}

fn transfer_1m(side: Side, bench: &Bench) -> Result<Metrics> {
    transfer::measure(side, bench, 100 * bench.records())
}
