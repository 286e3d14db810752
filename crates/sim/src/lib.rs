//! Many devices in one thread, on a seeded clock, network and disk.
//!
//! Everything above the disk is what users run: `engine`, `protocol`, `store`, `pages`. A seed
//! decides what is written, when what arrives and what goes wrong; the same seed makes the same
//! run. While it goes on and when it has ended, checkers look for what must never be
//! (`docs/VERIFICATION.md` lists faults and checkers).
//!
//! Invariant: nothing here draws randomness, reads a clock or starts a thread. Whatever happens is
//! an event of one schedule, and each event is one call into one device's engine or session.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation is a finding, and ends the run"
)]

mod agreement;
mod app;
mod attacks;
mod auditors;
mod autopsy;
mod bands;
mod black;
mod blobs;
mod checks;
mod device;
mod disk;
mod environment;
mod faults;
mod inbox;
mod joining;
mod messages;
mod model;
mod network;
mod parcels;
mod pathology;
mod plan;
mod pruned;
mod redactions;
mod report;
mod schedule;
mod secrets;
mod settle;
mod storage;
mod trace;
mod villain;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::Plan;
pub use report::Report;

use trace::Trace;
use world::World;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What happened, counted.
    pub report: Report,
    /// A hash over all that happened: two runs of one seed have the same.
    pub trace_hash: u64,
}

/// A run that found something.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What should not be.
    pub message: String,
    /// What happened before, if it was kept.
    pub trace: Vec<String>,
    /// What had happened by then, counted.
    pub report: Report,
}

/// Runs what `plan` makes of a seed. `keeps_trace`: what happens is kept as text.
///
/// # Errors
/// [`Failure`] if a checker found something, or anything below panicked.
pub fn run(seed: u64, plan: Plan, keeps_trace: bool) -> Result<Outcome, Box<Failure>> {
    let trace = Trace::new(keeps_trace);
    let mut world = World::new(seed, plan, trace.clone());
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let report = std::mem::take(&mut world.report);
    match ran {
        Ok(()) => Ok(Outcome { report, trace_hash: trace.digest() }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let message = text.unwrap_or("a panic without words").to_owned();
            let mut trace = trace.text();
            if keeps_trace {
                let told = catch_unwind(AssertUnwindSafe(|| world.autopsy(&message)));
                trace.extend(told.unwrap_or_default());
            }
            Err(Box::new(Failure { message, trace, report }))
        }
    }
}
