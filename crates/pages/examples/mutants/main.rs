//! Breaks the page layer on purpose, one break at a time, and shows that its tests notice each.
//!
//! `cargo run -p larder-pages --example mutants [NAME…]`. Each row of [`ROWS`] is applied to a copy
//! of the crate in the temporary directory; the tests that it names run first, and all of them if
//! those pass. Exits with 1 unless every break that was asked for is caught. A break that survives
//! is a test that is missing; one that does not apply, a row to bring up to date.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a tool for developers")]

mod rows;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, io};

use rows::{ROWS, Row};

/// How long tests may take: a break that makes them hang is caught too.
const TESTS_MAX: Duration = Duration::from_mins(15);

/// The crates that the tests of the page layer are built from.
const CRATES: [&str; 3] = ["types", "crypto", "pages"];

enum Outcome {
    Caught(&'static str),
    Survived,
    DoesNotApply(usize),
    DoesNotBuild,
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |row: &&Row| wanted.is_empty() || wanted.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = ROWS.iter().filter(chosen).collect();
    let copy = Workspace::copy().expect("the crates can be copied");
    assert!(!copy.build().is_empty(), "the copy does not build before any break");
    let mut missed = Vec::new();
    for row in &rows {
        let outcome = copy.judge(row).expect("the copy can be written");
        let told = match outcome {
            Outcome::Caught(how) => format!("caught {how}"),
            Outcome::Survived => "SURVIVED".to_owned(),
            Outcome::DoesNotApply(times) => format!("DOES NOT APPLY: found {times} times"),
            Outcome::DoesNotBuild => "DOES NOT BUILD".to_owned(),
        };
        println!("{:34} {told}", row.name);
        if !matches!(outcome, Outcome::Caught(_)) {
            missed.push(row.name);
        }
    }
    println!("{} of {} breaks caught", rows.len() - missed.len(), rows.len());
    if rows.is_empty() || !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A workspace of the page layer alone, in a directory that is removed at the end.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    fn copy() -> io::Result<Self> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let root = std::env::temp_dir().join(format!("larder-mutants-{}", std::process::id()));
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let copy = Self { root, target: target.unwrap_or_else(|| from.join("target")) };
        for name in CRATES {
            copy_folder(&from.join("crates").join(name), &copy.root.join("crates").join(name))?;
        }
        fs::copy(from.join("Cargo.lock"), copy.root.join("Cargo.lock"))?;
        fs::write(
            copy.root.join("Cargo.toml"),
            reduced(&fs::read_to_string(from.join("Cargo.toml"))?),
        )?;
        Ok(copy)
    }

    fn judge(&self, row: &Row) -> io::Result<Outcome> {
        let path = self.root.join("crates").join(row.file);
        let original = fs::read_to_string(&path)?;
        let times = original.matches(row.find).count();
        if times != 1 {
            return Ok(Outcome::DoesNotApply(times));
        }
        fs::write(&path, original.replace(row.find, row.replace))?;
        let binaries = self.build();
        let outcome = if binaries.is_empty() {
            Outcome::DoesNotBuild
        } else if !self.passes(&binaries, row.tests) {
            Outcome::Caught("by the tests it names")
        } else if !self.passes(&binaries, &[]) {
            Outcome::Caught("by other tests")
        } else {
            Outcome::Survived
        };
        fs::write(&path, original)?;
        Ok(outcome)
    }

    /// The test binaries; none if it does not build.
    fn build(&self) -> Vec<PathBuf> {
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .args(["test", "--offline", "-p", "larder-pages", "--lib", "--test", "pages"])
            .arg("--no-run");
        let Ok(output) = command.output() else { return Vec::new() };
        if !output.status.success() {
            return Vec::new();
        }
        // "  Executable tests/pages/main.rs (/…/pages-0123)"
        let told = String::from_utf8_lossy(&output.stderr);
        let paths = told.lines().filter(|line| line.trim_start().starts_with("Executable"));
        let path = |line: &str| line.rsplit_once('(')?.1.strip_suffix(')').map(PathBuf::from);
        paths.filter_map(path).collect()
    }

    /// Whether no test fails whose name has one of these parts. The first that does ends them all.
    fn passes(&self, binaries: &[PathBuf], tests: &[&str]) -> bool {
        binaries.iter().all(|binary| {
            let mut command = Command::new(binary);
            command.args(tests).args(["--test-threads", "2"]).env("RUST_BACKTRACE", "0");
            command.current_dir(self.root.join("crates/pages"));
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else { return false };
            let output = child.stdout.take().expect("it is piped");
            let (failed, wait) = mpsc::channel();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(output).lines().map_while(Result::ok);
                let _ = failed.send(lines.any(|line| line.ends_with("FAILED")));
            });
            let has_passed = wait.recv_timeout(TESTS_MAX) == Ok(false);
            if !has_passed {
                let _ = child.kill();
            }
            child.wait().is_ok_and(|status| status.success()) && has_passed
        })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The root's manifest without its own package, for our crates alone. What is built anew for each
/// break is not optimised.
fn reduced(manifest: &str) -> String {
    let members = CRATES.map(|name| format!("\"crates/{name}\"")).join(", ");
    let mut out = format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n");
    let mut is_kept = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            is_kept = section.starts_with("workspace.")
                || section.starts_with("profile.") && !section.ends_with("larder-pages]");
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
