//! Rekeying and purging, killed with SIGKILL at any moment: everything is there, under the old keys
//! or the new ones, and nothing is left over.
//!
//! A few kills run with all other tests. Many, by one command:
//!
//! ```text
//! LARDER_KILLS=200 cargo test --release -p larder-cli --test cli key_kills -- --ignored
//! ```

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::home::{Home, Running, SPACE};
use crate::kills::{Documents, Random, documents, edit, fill, import, number, whole};

/// How the kills were spread.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Of these: while a space's file was being copied, or when it just had been.
    two_files: u64,
    /// While the new database of the profile was there beside the old one.
    two_profiles: u64,
    /// While an import wrote to a space whose key was being renewed.
    imports: u64,
    /// Commands that were done before they were killed.
    completed: u64,
    renewals: u64,
    purges: u64,
}

struct Loop {
    random: Random,
    tally: Tally,
    home: Home,
    documents: Documents,
    whole_run: Duration,
}

/// The files of spaces, and the databases of the profile.
fn files(home: &Home) -> (Vec<String>, Vec<String>) {
    let databases = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "db")).collect()
    };
    (databases(&home.profile().join("spaces")), databases(&home.profile()))
}

impl Loop {
    fn new(seed: u64, readings: u64) -> Self {
        println!("seed {seed}");
        let mut random = Random(seed);
        let home = Home::with_space("laptop");
        fill(&home, "folder", readings, &mut random);
        home.run(import(&home.path("folder"))).code(0);
        let begun = Instant::now();
        home.run(["rekey", SPACE]).code(0);
        home.run(["purge"]).code(0);
        let whole_run = begun.elapsed() / 2;
        let documents = documents(&home);
        Self { random, tally: Tally::default(), home, documents, whole_run }
    }

    fn run(&mut self, kills: u64) {
        while self.tally.kills < kills {
            match self.random.below(3) {
                0 => self.kill(&["rekey", SPACE]),
                1 => self.kill(&["purge"]),
                _ => self.import(),
            }
            self.check();
        }
        println!("{:?}", self.tally);
        assert!(self.tally.two_files > 0, "{:?}", self.tally);
    }

    /// Starts a command and kills it: at any time of its run, or soon after a new file is there.
    fn kill(&mut self, command: &[&str]) {
        let before = files(&self.home);
        let mut process = self.home.start(command);
        if self.random.below(2) == 0 {
            std::thread::sleep(self.random.within(self.whole_run));
        } else {
            let of_profile = command[0] == "purge" && self.random.below(2) == 0;
            let more = |(spaces, profiles): (Vec<String>, Vec<String>)| {
                if of_profile {
                    profiles.len() > before.1.len()
                } else {
                    spaces.len() > before.0.len()
                }
            };
            while !more(files(&self.home)) && process.lives() {
                std::thread::yield_now();
            }
            let soon = if of_profile { Duration::from_millis(20) } else { self.whole_run / 2 };
            std::thread::sleep(self.random.within(soon));
        }
        self.killed(process);
    }

    fn killed(&mut self, process: Running) {
        let ran = process.kill();
        if ran.code != -1 {
            assert_eq!(ran.code, 0, "{ran:?}");
            self.tally.completed += 1;
            return;
        }
        self.tally.kills += 1;
        let (spaces, profiles) = files(&self.home);
        self.tally.two_files += u64::from(spaces.len() > 1);
        self.tally.two_profiles += u64::from(profiles.len() > 1);
    }

    /// Has an import go on while the key is renewed, and kills both.
    fn import(&mut self) {
        // Killed as soon as its wish may be there; if it is not, it is an import like any other.
        let mut rekey = self.home.start(["rekey", SPACE]);
        while files(&self.home).0.len() < 2 && rekey.lives() {
            std::thread::yield_now();
        }
        self.killed(rekey);
        edit(&self.home, "folder", &mut self.random);
        let kills = self.tally.kills;
        let folder = self.home.path("folder");
        let mut process = self.home.start(import(&folder));
        let line = process.line();
        if line.is_some_and(|line| line["event"] == "committed") {
            std::thread::sleep(self.random.within(self.whole_run / 4));
        }
        self.killed(process);
        self.tally.imports += self.tally.kills - kills;
        self.home.run(import(&folder)).code(0);
        self.documents = documents(&self.home);
        let edited = self.documents.keys().filter(|path| path.contains("notes/new/")).count();
        assert_eq!(edited, 80);
    }

    fn check(&mut self) {
        whole(&self.home);
        assert!(documents(&self.home) == self.documents, "other documents than before");
        let names = Home::files(&self.home.profile());
        let (spaces, profiles) = files(&self.home);
        assert_eq!(
            (spaces.len(), profiles.len(), names.len()),
            (1, 1, 4),
            "{spaces:?} {profiles:?}"
        );
        let count = |name: &str| -> u64 {
            let number = name.rsplit('.').nth(1).and_then(|number| number.parse().ok());
            number.unwrap_or(0)
        };
        (self.tally.renewals, self.tally.purges) = (count(&spaces[0]), count(&profiles[0]));
    }
}

#[test]
fn a_few_kills_amid_new_keys_lose_nothing() {
    Loop::new(number("LARDER_SEED", 1), 300).run(5);
}

#[test]
#[ignore = "minutes: by the command in this file's head"]
fn many_kills_amid_new_keys_lose_nothing() {
    Loop::new(number("LARDER_SEED", 2), 2500).run(number("LARDER_KILLS", 200));
}
