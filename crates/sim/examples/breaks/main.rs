//! Breaks the engine on purpose, one break at a time, and tells which ones simulated runs notice.
//!
//! `cargo run -p larder-sim --example breaks -- [--seeds N] [NAME…]`. Each row of [`ROWS`] is
//! applied to a copy of the crates in the temporary directory, which is built and run over N seeds
//! (30). Exits with 1 unless all that was asked for is as its row says: noticed, or not noticed
//! and why. A break that is not noticed is a fault or a checker that is missing; one that does not
//! apply, a row to bring up to date. Neither the sources nor anything else that is built is
//! touched: the copy has a target directory of its own (`mutants` in the usual one), which stays.
#![allow(clippy::expect_used, reason = "a tool for developers")]

mod rows;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use rows::{CRATES, ROWS, Row};

/// How long the seeds of one break may take.
const RUN_MAX: Duration = Duration::from_mins(15);

enum Outcome {
    /// With what a checker said.
    Noticed(String),
    NotNoticed,
    TooSlow,
    DoesNotApply(usize),
    DoesNotBuild(String),
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut seeds, mut wanted) = ("30".to_owned(), Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => seeds = words.next().expect("a number of seeds"),
            _ => wanted.push(word),
        }
    }
    let chosen = |row: &&Row| wanted.is_empty() || wanted.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = ROWS.iter().filter(chosen).collect();
    let copy = Workspace::copy().expect("the crates can be copied");
    copy.build().expect("the copy builds before any break");
    match copy.run(&seeds).expect("it can be run") {
        Outcome::NotNoticed => {}
        Outcome::Noticed(said) => panic!("seeds fail before any break: {said}"),
        _ => panic!("the seeds take too long before any break"),
    }
    println!("{seeds} seeds pass before any break");
    let mut unexpected = 0;
    for row in &rows {
        let outcome = copy.judge(row, &seeds).expect("the copy can be written");
        let is_expected = matches!(
            (&outcome, row.blind),
            (Outcome::Noticed(_), None) | (Outcome::NotNoticed, Some(_))
        );
        let told = match outcome {
            Outcome::Noticed(said) => format!("noticed: {said}"),
            Outcome::NotNoticed => "NOT NOTICED".to_owned(),
            Outcome::TooSlow => "NOT NOTICED before the time was up".to_owned(),
            Outcome::DoesNotApply(times) => format!("DOES NOT APPLY: found {times} times"),
            Outcome::DoesNotBuild(error) => format!("DOES NOT BUILD: {error}"),
        };
        println!("{:32} {told}", row.name);
        if let Some(why) = row.blind {
            println!("{:32} known to be blind: {why}", "");
        }
        unexpected += u32::from(!is_expected);
    }
    println!("{} breaks, {unexpected} otherwise than their rows say", rows.len());
    if rows.is_empty() || unexpected > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A workspace of what the simulator needs, in a directory that is removed at the end.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    fn copy() -> io::Result<Self> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let root = std::env::temp_dir().join(format!("larder-sim-mutants-{}", std::process::id()));
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| from.join("target")).join("mutants");
        let copy = Self { root, target };
        for name in &CRATES {
            copy_folder(&from.join("crates").join(name), &copy.root.join("crates").join(name))?;
        }
        copy_folder(&from.join("migrations"), &copy.root.join("migrations"))?;
        fs::copy(from.join("Cargo.lock"), copy.root.join("Cargo.lock"))?;
        let manifest = reduced(&fs::read_to_string(from.join("Cargo.toml"))?);
        fs::write(copy.root.join("Cargo.toml"), manifest)?;
        Ok(copy)
    }

    fn judge(&self, row: &Row, seeds: &str) -> io::Result<Outcome> {
        let path = self.root.join("crates").join(row.file);
        let original = fs::read_to_string(&path)?;
        let times = original.matches(row.find).count();
        if times != 1 {
            return Ok(Outcome::DoesNotApply(times));
        }
        fs::write(&path, original.replace(row.find, row.replace))?;
        let outcome = match self.build() {
            Ok(()) => self.run(seeds),
            Err(error) => Ok(Outcome::DoesNotBuild(error)),
        };
        fs::write(&path, original)?;
        outcome
    }

    fn build(&self) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).args([
            "build",
            "--offline",
            "--profile",
            "sim",
            "-p",
            "larder-sim",
        ]);
        let output = command.output().map_err(|e| e.to_string())?;
        let told = String::from_utf8_lossy(&output.stderr);
        let error = told.lines().find(|line| line.starts_with("error")).unwrap_or("unknown");
        if output.status.success() { Ok(()) } else { Err(error.to_owned()) }
    }

    /// The last of what is said is why: after it come only words on how to repeat it.
    fn run(&self, seeds: &str) -> io::Result<Outcome> {
        let said = self.root.join("said");
        let mut child = Command::new(self.target.join("sim/larder-sim"))
            .args(["--seeds", seeds])
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said)?)
            .spawn()?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if begun.elapsed() > RUN_MAX => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(Outcome::TooSlow);
                }
                None => thread::sleep(Duration::from_millis(100)),
            }
        };
        if status.success() {
            return Ok(Outcome::NotNoticed);
        }
        let said = fs::read_to_string(&said)?;
        let why = said.lines().find(|line| line.starts_with("seed ")).unwrap_or("it crashed");
        Ok(Outcome::Noticed(why.chars().take(WORDS_MAX).collect()))
    }
}

/// How much of a finding is told, in characters.
const WORDS_MAX: usize = 160;

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The root's manifest without its own package, for these crates alone.
fn reduced(manifest: &str) -> String {
    let members: Vec<String> = CRATES.iter().map(|name| format!("\"crates/{name}\"")).collect();
    let mut out = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n", members.join(", "));
    let mut is_kept = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            is_kept = section.starts_with("workspace.") || section.starts_with("profile.");
        }
        if is_kept {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
