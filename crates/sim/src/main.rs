//! Runs many seeds on all cores, or one with all that happened in it.

#![allow(clippy::expect_used, reason = "a tool for developers")]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder_sim::{Failure, Plan, Report, run};

const USAGE: &str = "\
usage: larder-sim [--seeds N] [--from S] [--threads N] [--honest | --calm]
       larder-sim --seed S [--trace] [--honest | --calm]

  --seeds N    run N seeds (100)
  --from S     the first of them (0)
  --threads N  on so many threads (all cores)
  --seconds N  a seed that takes longer has failed (600)
  --seed S     run this one
  --trace      and print what happened
  --honest     no device is malicious
  --calm       nothing goes wrong";

struct Arguments {
    seeds: u64,
    from: u64,
    threads: usize,
    seconds: u64,
    seed: Option<u64>,
    trace: bool,
    honest: bool,
    calm: bool,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut arguments = Self {
            seeds: 100,
            from: 0,
            threads: cores,
            seconds: 600,
            seed: None,
            trace: false,
            honest: false,
            calm: false,
        };
        while let Some(word) = words.next() {
            let mut number = || words.next()?.parse::<u64>().ok();
            match word.as_str() {
                "--seeds" => arguments.seeds = number()?,
                "--from" => arguments.from = number()?,
                "--threads" => arguments.threads = usize::try_from(number()?).ok()?.max(1),
                "--seconds" => arguments.seconds = number()?.max(1),
                "--seed" => arguments.seed = Some(number()?),
                "--trace" => arguments.trace = true,
                "--honest" => arguments.honest = true,
                "--calm" => arguments.calm = true,
                _ => return None,
            }
        }
        Some(arguments)
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::of_seed(seed);
        plan.has_villain &= !self.honest;
        if self.calm { plan.calm() } else { plan }
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // Where a checker found something is part of what it says.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("found at {place}");
        }
    }));
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let plan = arguments.plan(seed);
    println!("seed {seed}, commit {}\n{plan:#?}", commit());
    let begun = Instant::now();
    let watch = Watch::begin(arguments.seconds);
    let ran = watch.over(seed, || run(seed, plan, arguments.trace));
    let took = begun.elapsed();
    match ran {
        Ok(outcome) => {
            println!("{}trace {:016x}, {took:.2?}", outcome.report, outcome.trace_hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            failure.trace.iter().for_each(|line| println!("{line}"));
            print!("{}", failure.report);
            tell(seed, &failure);
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let total = Mutex::new(Report::default());
    let failed: Mutex<Option<(u64, Box<Failure>)>> = Mutex::new(None);
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    let watch = Watch::begin(arguments.seconds);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Those below one that failed are seen to their end: the first is to be told.
                    if seed >= end {
                        return;
                    }
                    match watch.over(seed, || run(seed, arguments.plan(seed), false)) {
                        Ok(outcome) => total.lock().expect("no panic").merge(&outcome.report),
                        Err(failure) => {
                            let mut first = failed.lock().expect("no panic");
                            eprintln!("seed {seed} failed: {}", failure.message);
                            if first.as_ref().is_none_or(|(known, _)| seed < *known) {
                                *first = Some((seed, failure));
                            }
                            next.store(end, Ordering::Relaxed);
                        }
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of(100) {
                        eprintln!("{done} seeds, {:.0?}", begun.elapsed());
                    }
                }
            });
        }
    });
    let done = done.into_inner();
    let took = begun.elapsed();
    let total = total.into_inner().expect("no panic");
    print!("{total}");
    let each = took.as_secs_f64() * 1000.0 / f64::from(u32::try_from(done.max(1)).unwrap_or(1));
    println!("{done} seeds from {} in {took:.1?}, one every {each:.0} ms", arguments.from);
    let missing = total.missing();
    if !missing.is_empty() {
        println!("NOT COVERED, it never came to: {}", missing.join(", "));
    }
    match failed.into_inner().expect("no panic") {
        None if done >= MANY && !arguments.calm && !arguments.honest && !missing.is_empty() => {
            eprintln!("in {done} seeds it never came to: {}", missing.join(", "));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
        Some((seed, failure)) => {
            tell(seed, &failure);
            ExitCode::FAILURE
        }
    }
}

/// Looks for seeds that do not come to their end: a call that waits for ever takes no step that
/// could be counted.
struct Watch(Arc<Mutex<BTreeMap<u64, Instant>>>);

impl Watch {
    fn begin(seconds: u64) -> Self {
        let running: Arc<Mutex<BTreeMap<u64, Instant>>> = Arc::default();
        let watched = Arc::clone(&running);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = watched.lock().expect("no panic");
                let late = running.iter().find(|(_, begun)| begun.elapsed().as_secs() >= seconds);
                if let Some((seed, _)) = late {
                    eprintln!("\nseed {seed} failed on commit {}:", commit());
                    eprintln!("it has not come to its end in {seconds} s");
                    eprintln!("run it again: larder-sim --seed {seed}, and look where it waits");
                    std::process::exit(1);
                }
            }
        });
        Self(running)
    }

    fn over<T>(&self, seed: u64, work: impl FnOnce() -> T) -> T {
        self.0.lock().expect("no panic").insert(seed, Instant::now());
        let done = work();
        self.0.lock().expect("no panic").remove(&seed);
        done
    }
}

/// In so many runs everything happens.
const MANY: u64 = 200;

fn tell(seed: u64, failure: &Failure) {
    eprintln!("\nseed {seed} failed on commit {}:\n{}", commit(), failure.message);
    eprintln!("run it again: larder-sim --seed {seed} --trace");
}

fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let known = git.ok().filter(|git| git.status.success());
    known.map_or("unknown".into(), |git| String::from_utf8_lossy(&git.stdout).trim().to_owned())
}
