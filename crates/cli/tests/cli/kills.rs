//! Processes that are killed with SIGKILL at any moment: what they reported is there, nothing is
//! damaged or left over, and the same command again completes the work.
//!
//! A few kills run with all other tests. Many, by one command; a seed replays the choices, though
//! not the scheduler's:
//!
//! ```text
//! LARDER_KILLS=200 cargo test -p larder-cli --test cli -- --ignored kills --nocapture
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::{Home, Ran, Running, SPACE};

/// Each document by the path it came from.
pub(crate) type Documents = BTreeMap<String, Value>;

/// `SplitMix64` (Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    pub(crate) fn within(&mut self, time: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(time.as_micros()).unwrap()))
    }
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start.
    Elapsed(Duration),
    /// So long after it said that so many units are durable.
    Committed(u64, Duration),
    /// So long after the space's WAL grew beyond so many bytes.
    Grown(u64, Duration),
}

impl Moment {
    fn draw(random: &mut Random, whole_run: Duration) -> Self {
        let soon = random.within(Duration::from_millis(40));
        match random.below(4) {
            0 => Self::Elapsed(random.within(whole_run / 8)),
            1 => Self::Elapsed(random.within(whole_run * 3 / 4)),
            2 => Self::Committed(random.below(3) + 1, soon),
            _ => Self::Grown(random.below(1 << 20), soon / 8),
        }
    }

    /// Waits for it; answers with what the process said meanwhile.
    fn wait(self, process: &mut Running, wal: &Path) -> Vec<Value> {
        let mut said = Vec::new();
        let rest = match self {
            Self::Elapsed(time) => time,
            Self::Committed(units, rest) => {
                let mut left = units;
                while left > 0 {
                    let Some(line) = process.line() else { break };
                    left -= u64::from(line["event"] == "committed");
                    said.push(line);
                }
                rest
            }
            Self::Grown(bytes, rest) => {
                let grown = || fs::metadata(wal).is_ok_and(|wal| wal.len() > bytes);
                while !grown() && process.lives() {
                    std::thread::yield_now();
                }
                rest
            }
        };
        std::thread::sleep(rest);
        said
    }
}

/// How the kills were spread.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Of these: before anything was committed by the process.
    early: u64,
    /// After a unit was reported.
    late: u64,
    /// While a database was being made.
    making: u64,
    /// While two devices synced.
    syncing: u64,
    /// Found with a WAL to recover.
    recovered: u64,
    exports: u64,
    imports_completed: u64,
}

struct Loop {
    random: Random,
    tally: Tally,
    kills_max: u64,
    /// Lines of the longest list in the folder: what makes it large or small.
    readings: u64,
    /// The folder before and after edits, and what an undisturbed import makes of each.
    folders: [(PathBuf, Documents); 2],
    whole_run: Duration,
    source: Home,
}

fn text(random: &mut Random, lines: u64) -> String {
    let words = ["soup", "Kühlschrank", "lentils", "garden", "Mila", "compost", "receipt", "日記"];
    let mut text = String::new();
    for _ in 0..lines {
        for _ in 0..9 {
            let word = words[usize::try_from(random.below(words.len() as u64)).unwrap()];
            write!(text, "{word} {} ", random.below(500)).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Notes, records and lists of lines.
pub(crate) fn fill(home: &Home, folder: &str, readings: u64, random: &mut Random) {
    for n in 0..220 {
        let kind = ["md", "txt"][n % 2];
        let lines = random.below(14) + 1;
        home.file(&format!("{folder}/notes/{}/{n}.{kind}", n % 7), text(random, lines));
    }
    for n in 0..60 {
        let record = serde_json::json!({"n": n, "name": text(random, 1), "tags": ["a", "b"]});
        home.file(&format!("{folder}/records/{n}.json"), record.to_string());
    }
    let line = |n: u64| format!("{{\"n\":{n},\"litres\":{}.5}}\n", n * 7 % 31);
    home.file(&format!("{folder}/meter.jsonl"), (0..readings).map(line).collect::<String>());
    home.file(&format!("{folder}/long.txt"), text(random, readings));
}

/// Changes, adds; removes nothing.
pub(crate) fn edit(home: &Home, folder: &str, random: &mut Random) {
    for n in (0..220).step_by(2) {
        let path = home.path(&format!("{folder}/notes/{}/{n}.md", n % 7));
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{}\n{before}", text(random, 1))).unwrap();
    }
    for n in 220..300 {
        home.file(&format!("{folder}/notes/new/{n}.md"), text(random, 3));
    }
}

pub(crate) fn import(folder: &Path) -> [&Path; 3] {
    [Path::new("import"), Path::new(SPACE), folder]
}

pub(crate) fn documents(home: &Home) -> Documents {
    let listed = home.run(["list", SPACE, "--json", "--values"]).code(0).lines();
    let all = listed.len();
    let by_path: Documents = listed
        .into_iter()
        .map(|line| (line["title"].as_str().unwrap().to_owned(), line["value"].clone()))
        .collect();
    assert_eq!(by_path.len(), all, "a document was made twice");
    by_path
}

/// The WAL of the only space.
fn wal(home: &Home) -> PathBuf {
    let spaces = fs::read_dir(home.profile().join("spaces"));
    let file = spaces.into_iter().flatten().map(|entry| entry.unwrap().path());
    let database = file.filter(|path| path.extension().is_some_and(|end| end == "db")).last();
    database.map_or_else(|| home.path("none"), |path| path.with_extension("db-wal"))
}

impl Loop {
    fn new(seed: u64, kills_max: u64, readings: u64) -> Self {
        println!("seed {seed}");
        let mut random = Random(seed);
        let source = Home::empty();
        let mut whole_run = Duration::MAX;
        let folders = ["before", "after"].map(|name| {
            fill(&source, name, readings, &mut Random(seed));
            if name == "after" {
                edit(&source, name, &mut random);
            }
            let undisturbed = Home::with_space("undisturbed");
            let folder = source.path(name);
            let begun = Instant::now();
            undisturbed.run(import(&folder)).code(0);
            whole_run = whole_run.min(begun.elapsed());
            let documents = documents(&undisturbed);
            assert!(documents.len() > 300);
            (folder, documents)
        });
        Self { random, tally: Tally::default(), kills_max, readings, folders, whole_run, source }
    }

    fn is_done(&self) -> bool {
        self.tally.kills >= self.kills_max
    }

    fn run(&mut self) {
        while !self.is_done() {
            let home = self.made();
            for version in 0..2 {
                if !self.is_done() {
                    self.imported(&home, version);
                }
            }
            if !self.is_done() {
                self.synced(&home);
            }
        }
        println!("{:?}", self.tally);
        assert!(self.tally.recovered > 0 && self.tally.late > 0, "{:?}", self.tally);
    }

    /// Starts a command and kills it; answers with what it said, and whether it was killed.
    fn killed(&mut self, home: &Home, process: Running, moment: Moment) -> (Vec<Value>, bool) {
        let mut process = process;
        let mut said = moment.wait(&mut process, &wal(home));
        let ran = process.kill();
        assert!([-1, 0].contains(&ran.code), "{moment:?}: {ran:#?}");
        let is_killed = ran.code == -1;
        // The last line may be cut.
        said.extend(ran.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
        self.tally.kills += u64::from(is_killed);
        let grown = fs::metadata(wal(home)).is_ok_and(|wal| wal.len() > 0);
        self.tally.recovered += u64::from(is_killed && grown);
        (said, is_killed)
    }

    /// A profile with a space; the processes that made both were killed first.
    fn made(&mut self) -> Home {
        let home = Home::empty();
        let init = ["init", "--label", "laptop", "--passphrase-cost", "low"];
        let has_key = |home: &Home| home.profile().join("profile.key").exists();
        self.making(&home, &init, has_key);
        home.run(["status"]).code(0);
        let has_space =
            |home: &Home| !home.run(["space", "list", "--json"]).code(0).lines().is_empty();
        self.making(&home, &["space", "create", SPACE], has_space);
        no_strays(&home);
        home
    }

    /// Runs a command that makes something: killed once or twice, then to its end.
    fn making(&mut self, home: &Home, command: &[&str], is_made: impl Fn(&Home) -> bool) {
        for _ in 0..=self.random.below(self.kills_max / 50 + 1) {
            if is_made(home) || self.is_done() {
                break;
            }
            let moment = Moment::Elapsed(self.random.within(MAKING_MAX));
            let process = home.start(command);
            self.tally.making += u64::from(self.killed(home, process, moment).1);
            whole(home);
        }
        if !is_made(home) {
            home.run(command).code(0);
        }
    }

    /// Imports a version of the folder, killed over and over, until one run gets to its end.
    fn imported(&mut self, home: &Home, version: usize) {
        let (folder, expected) = self.folders[version].clone();
        loop {
            if self.is_done() {
                home.run(import(&folder)).code(0);
                break;
            }
            let moment = Moment::draw(&mut self.random, self.whole_run);
            let process = home.start(import(&folder));
            let (said, is_killed) = self.killed(home, process, moment);
            let units = said.iter().filter(|line| line["event"] == "committed").count();
            if is_killed && units == 0 {
                self.tally.early += 1;
            } else if is_killed {
                self.tally.late += 1;
            }
            self.check(home, version, &said);
            if !is_killed {
                break;
            }
        }
        self.tally.imports_completed += 1;
        assert!(documents(home) == expected, "not what an undisturbed import makes");
        self.audited(home);
        no_strays(home);
    }

    /// After a kill: whole, nothing reported is missing, nothing is there that is in no folder.
    fn check(&mut self, home: &Home, version: usize, said: &[Value]) {
        whole(home);
        let held = home.run(["receipts", SPACE, "--json"]).code(0).lines();
        for unit in said.iter().filter(|line| line["event"] == "committed") {
            let same = |held: &&Value| held["seq"] == unit["seq"] && held["entry"] == unit["entry"];
            let held = held.iter().find(same);
            assert!(held.is_some_and(|held| held["sections"] == unit["documents"]), "lost: {unit}");
        }
        let found = documents(home);
        let versions = &self.folders[..=version];
        for (path, value) in &found {
            let known = versions.iter().any(|(_, of)| of.get(path) == Some(value));
            assert!(known, "{path} is as in no version of the folder: {value}");
        }
        let (_, before) = &self.folders[0];
        assert!(version == 0 || before.keys().all(|path| found.contains_key(path)), "lost");
        if self.random.below(4) == 0 {
            self.audited(home);
        }
    }

    /// The log verifies for somebody without any key.
    fn audited(&mut self, home: &Home) {
        self.tally.exports += 1;
        let out = home.path(&format!("receipts-{}", self.tally.exports));
        let out = out.to_str().unwrap();
        home.run(["receipts", SPACE, "--export", out]).code(0);
        home.run(["audit", "verify", out]).code(0);
        fs::remove_dir_all(out).unwrap();
    }

    /// A second device takes everything from `first`; now one, now the other is killed.
    fn synced(&mut self, first: &Home) {
        let second = Home::new("tablet");
        let mut inviting =
            first.start(["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]);
        let text = inviting.event("invitation")["text"].as_str().unwrap().to_owned();
        let joining = second.start(["join", &text]);
        let moment = Moment::Grown(1, self.random.within(Duration::from_millis(30)));
        self.tally.syncing += u64::from(self.killed(&second, joining, moment).1);
        whole(&second);
        second.run(["join", &text]);
        drop(inviting);
        if second.run(["space", "list", "--json"]).code(0).lines().is_empty() {
            // Killed before it was enrolled, and the invitation went with its process.
            return;
        }
        self.edit_everything(first);
        loop {
            let mut serving = first.start(["serve", "--listen", "127.0.0.1:0"]);
            let address = serving.event("listening")["address"].as_str().unwrap().to_owned();
            let sync = ["sync", "--with", &address];
            let moment = Moment::Grown(self.random.below(200_000), self.random.within(SYNC_MAX));
            if self.is_done() {
                second.run(sync).code(0);
                drop(serving);
            } else if self.random.below(2) == 0 {
                let process = second.start(sync);
                self.tally.syncing += u64::from(self.killed(&second, process, moment).1);
                drop(serving);
                whole(&second);
            } else {
                let mut process = second.start(sync);
                moment.wait(&mut process, &wal(&second));
                let ran: Ran = serving.kill();
                assert_eq!(ran.code, -1, "{ran:#?}");
                self.tally.kills += 1;
                self.tally.syncing += 1;
                let ended = process.finish();
                assert!([0, 8].contains(&ended.code), "{ended:#?}");
                whole(first);
            }
            if documents(&second) == documents(first) {
                break;
            }
        }
        for home in [first, &second] {
            self.audited(home);
            no_strays(home);
        }
    }

    /// Something new for the other device to take.
    fn edit_everything(&mut self, home: &Home) {
        fill(&self.source, "other", self.readings, &mut self.random);
        home.run(import(&self.source.path("other"))).code(0);
    }
}

/// About what a command takes that makes a profile or a space.
const MAKING_MAX: Duration = Duration::from_millis(40);
const SYNC_MAX: Duration = Duration::from_millis(60);

/// Everything opens, every page authenticates, tables and indexes agree.
pub(crate) fn whole(home: &Home) {
    if home.profile().join("profile.key").exists() {
        home.run(["check"]).code(0);
    }
}

/// A profile that was closed holds these files and no others.
fn no_strays(home: &Home) {
    let names: Vec<String> = Home::files(&home.profile()).into_iter().map(|file| file.0).collect();
    let space = names.iter().find(|name| name.starts_with("spaces/")).cloned().unwrap_or_default();
    assert!(!space.is_empty(), "{names:?}");
    assert_eq!(names, ["lock", "profile.db", "profile.key", &space]);
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn a_few_kills_at_any_moment_lose_nothing() {
    Loop::new(number("LARDER_SEED", 1), 8, 600).run();
}

#[test]
#[ignore = "minutes: by the command in this file's head"]
fn many_kills_at_any_moment_lose_nothing() {
    Loop::new(number("LARDER_SEED", 2), number("LARDER_KILLS", 200), 2500).run();
}
