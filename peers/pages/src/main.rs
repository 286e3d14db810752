//! Page encryption beside plain SQLite and `SQLCipher`: the same work on each, in one go.
//!
//! `peers/pages/run` builds one binary per SQLite library and starts `compare` of one of them.
//! That starts a process for each measurement, so that no cache and no heap outlives it, and
//! interleaves the sides, so that whatever else the machine does falls on all of them.

mod compare;
mod data;
mod fixtures;
mod report;
mod side;
mod stopwatch;
mod workloads;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::fixtures::Fixture;
use crate::side::{Opener, Side};
use crate::workloads::{Bench, Outcome, Size};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all sides and print how they compare.
    Compare(compare::Options),
    /// Make a database that workloads read (`compare` calls it).
    #[command(hide = true)]
    Make {
        fixture: Fixture,
        #[command(flatten)]
        place: Place,
    },
    /// Measure one workload on one side (`compare` calls it).
    #[command(hide = true)]
    Measure {
        workload: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct Place {
    #[arg(long)]
    side: Side,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    quick: bool,
}

impl Place {
    fn bench(&self) -> anyhow::Result<Bench> {
        let size = if self.quick { Size::QUICK } else { Size::FULL };
        Ok(Bench { opener: Opener::new(self.side)?, dir: self.dir.clone(), size })
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::compare(&options),
        Command::Make { fixture, place } => fixtures::make(fixture, &place.bench()?),
        Command::Measure { workload, place } => {
            let outcome: Outcome = workloads::measure(&workload, &place.bench()?)?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
    }
}
