//! A profile of one's own, and the binary run on it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SPACE: &str = "shared:household";
static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) const PASSPHRASE: &str = "a passphrase for tests only";

/// A directory with a profile, a passphrase file and room for more.
pub(crate) struct Home {
    dir: TempDir,
}

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Stdout as JSON lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first JSON line with this event.
    pub(crate) fn event(&self, name: &str) -> Value {
        self.lines()
            .into_iter()
            .find(|line| line["event"] == name)
            .unwrap_or_else(|| panic!("no event {name}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn code(self, expect: i32) -> Self {
        assert_eq!(self.code, expect, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "stderr lacks {text:?}: {self:#?}");
        self
    }

    /// The same of stdout.
    pub(crate) fn tells(self, text: &str) -> Self {
        assert!(self.out.contains(text), "stdout lacks {text:?}: {self:#?}");
        self
    }
}

impl Home {
    /// A directory without a profile yet.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        Self { dir }
    }

    /// With a profile.
    pub(crate) fn new(label: &str) -> Self {
        let home = Self::empty();
        home.run(["init", "--label", label, "--passphrase-cost", "low"]).code(0);
        home
    }

    /// With a profile and the space.
    pub(crate) fn with_space(label: &str) -> Self {
        let home = Self::new(label);
        home.run(["space", "create", SPACE]).code(0);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn profile(&self) -> PathBuf {
        self.path("profile")
    }

    /// Writes a file below this home, and its folders.
    pub(crate) fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_under(&[], args)
    }

    fn command_under<S: AsRef<OsStr>>(
        &self,
        runner: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let line = [runner, &[env!("CARGO_BIN_EXE_larder")]].concat();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(args)
            .env("LARDER_HOME", self.profile())
            .arg("--passphrase-file")
            .arg(self.path("passphrase"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        ran(&mut self.command(args))
    }

    /// The same, with something on stdin.
    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        input: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        of(output)
    }

    /// A process that goes on, whose events are read as they come.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        self.spawn(&mut self.command(args))
    }

    /// The same, with a stdin to write to.
    pub(crate) fn start_typing<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Running {
        self.spawn(self.command(args).stdin(Stdio::piped()))
    }

    fn spawn(&self, command: &mut Command) -> Running {
        let errors = self.path(&format!("stderr-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut child = command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take();
        Running { child, lines, input, errors }
    }

    /// The same, run by another command.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_under(&self, runner: &[&str], args: &[&str]) -> Running {
        self.spawn(&mut self.command_under(runner, args))
    }

    /// Every file below a directory with its bytes, sorted.
    pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let name = entry.path().strip_prefix(dir).unwrap().to_str().unwrap();
                files.push((
                    name.replace(std::path::MAIN_SEPARATOR, "/"),
                    fs::read(entry.path()).unwrap(),
                ));
            }
        }
        files
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    of(command.output().unwrap())
}

fn of(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that still runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
    errors: PathBuf,
}

impl Running {
    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads lines until the event comes.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let Some(value) = self.line() else {
                let errors = fs::read_to_string(&self.errors).unwrap();
                panic!("the process ended before its event {name}: {errors}");
            };
            if value["event"] == name {
                return value;
            }
        }
    }

    /// The next line; none once the process has ended.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Types a line.
    pub(crate) fn types(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it was started with a stdin");
        writeln!(input, "{line}").unwrap();
    }

    /// Whether it has not ended yet.
    #[cfg(unix)]
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it, unless it has ended: no code of its runs any more. Answers with what it still said
    /// (its exit code is -1 if it was killed).
    pub(crate) fn kill(mut self) -> Ran {
        let _ = self.child.kill();
        self.finish()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", name, &id]).status();
        assert!(killed.unwrap().success());
    }

    /// Reads what is left and waits for the end.
    pub(crate) fn finish(mut self) -> Ran {
        let mut out = String::new();
        self.lines.read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        let err = fs::read_to_string(&self.errors).unwrap();
        Ran { code: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
