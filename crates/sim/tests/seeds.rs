//! A few seeds, and the stories of those that found something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_sim::{Plan, Report, run};

/// Runs these seeds on all cores; the counts of all of them together.
fn run_all(seeds: std::ops::Range<u64>) -> Report {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed, Plan::of_seed(seed), false) {
                        Ok(outcome) => total.lock().unwrap().merge(&outcome.report),
                        Err(failure) => panic!(
                            "seed {seed}: {}\nrun it again: cargo run --profile sim -p larder-sim \
                             -- --seed {seed} --trace",
                            failure.message
                        ),
                    }
                }
            });
        }
    });
    total.into_inner().unwrap()
}

#[test]
fn nothing_breaks_whatever_goes_wrong() {
    println!("{}", run_all(0..SEEDS));
}

#[test]
fn a_seed_replays_exactly() {
    let go = |seed| run(seed, Plan::of_seed(7), false).unwrap();
    let one = go(7);
    assert_eq!(one, go(7));
    assert_ne!(one.trace_hash, go(8).trace_hash);
}

/// Unoptimised they take their time; `.ci/run` runs hundreds in another profile.
const SEEDS: u64 = 6;
