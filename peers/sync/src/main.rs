//! Writing and syncing beside plain SQLite and other systems: the same work on each, in one run.
//!
//! `peers/sync/run` builds this program and one for each other system, and starts `compare`. That
//! starts a process for each measurement, so that no cache and no heap outlives it, and
//! interleaves the sides, so that whatever else the machine does falls on all of them.

mod catch_up;
mod compare;
mod fsyncs;
mod idle;
mod larder_side;
mod live;
mod open_text;
mod plain;
mod raw;
mod report;
mod texts;
mod transfer;
mod workloads;
mod writes;

use clap::{Parser, Subcommand};

use crate::workloads::{Bench, Side};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure everything and print how it compares.
    Compare(compare::Options),
    /// Measure one workload on one side (`compare` calls it).
    #[command(hide = true)]
    Measure {
        workload: String,
        #[arg(long)]
        side: Side,
        #[command(flatten)]
        bench: Bench,
    },
    /// The devices beside which the one that is measured is idle (`measure` calls it).
    #[command(hide = true)]
    Neighbours {
        #[arg(long)]
        dir: std::path::PathBuf,
    },
    /// Larder as a side of the transfer.
    #[command(flatten)]
    Side(peers_side::Command),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::compare(&options),
        Command::Measure { workload, side, bench } => {
            peers_side::tell(&workloads::measure(&workload, side, &bench)?)
        }
        Command::Neighbours { dir } => block_on(idle::neighbours(&dir)),
        Command::Side(command) => block_on(larder_side::run(command)),
    }
}

/// Runs a future on a runtime like the one that an app has.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(future)
}
