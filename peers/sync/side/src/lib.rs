//! What every side of the transfer shares: the records, the command line, and what is measured.
//!
//! A side is a program with three commands, run one after the other in processes of their own:
//!
//! - `write` makes the records, each by a commit of its own, and ends.
//! - `serve` opens what `write` made, prints an [`Offer`] and answers until its standard input
//!   ends; then it prints [`Served`].
//! - `fetch` starts from nothing, uses the offer, and prints [`Fetched`] once every record is
//!   there and was compared with what was written.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A side that hears nothing from the other for so long will not come to an end any more.
pub const SILENCE: Duration = Duration::from_mins(1);

/// The command line of a side.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make the records.
    Write {
        /// Where.
        #[arg(long)]
        dir: PathBuf,
        /// How many.
        #[arg(long)]
        records: u64,
    },
    /// Offer them to another process.
    Serve {
        /// Where they were made.
        #[arg(long)]
        dir: PathBuf,
        /// How many there are.
        #[arg(long)]
        records: u64,
    },
    /// Fetch them from that process.
    Fetch {
        /// Where to.
        #[arg(long)]
        dir: PathBuf,
        /// How many there are.
        #[arg(long)]
        records: u64,
        /// What the other process printed.
        #[arg(long)]
        offer: String,
    },
}

/// The one argument of a side's program.
#[derive(clap::Parser)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `serve` prints first: all that `fetch` needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Offer {
    /// A ticket, an address, an invitation.
    pub offer: String,
}

/// What `serve` prints in the end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Served {
    /// The most memory that the process had resident, in KiB.
    pub peak_kib: u64,
}

/// What `fetch` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// From before the offer was looked at until all records could be read.
    pub ms: f64,
    /// Of that, processor time of this process.
    pub cpu_ms: f64,
    /// The most memory that the process had resident until then, in KiB.
    pub peak_kib: u64,
}

/// Runs from the moment when a side begins to fetch.
pub struct Stopwatch {
    begun: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu() }
    }

    /// Every record can be read now.
    ///
    /// # Errors
    /// The process's memory cannot be read.
    pub fn stop(self) -> Result<Fetched> {
        let ms = self.begun.elapsed().as_secs_f64() * 1e3;
        let cpu_ms = (cpu().saturating_sub(self.cpu)).as_secs_f64() * 1e3;
        Ok(Fetched { ms, cpu_ms, peak_kib: peak_kib()? })
    }
}

/// User and system time of this process so far.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn first_number(text: &str) -> Result<u64> {
    let number = text.split_whitespace().next().context("an empty line of the system's")?;
    Ok(number.parse()?)
}

/// The most memory that this process had resident so far, in KiB.
///
/// # Errors
/// It cannot be read.
pub fn peak_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    first_number(line.context("the system does not tell this process's memory")?)
}

/// Prints one line for the process that started this one.
///
/// # Errors
/// It is gone.
pub fn tell(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// Blocks until standard input ends.
pub fn until_told() {
    // An error ends it as well.
    for _ in std::io::stdin().lock().lines().map_while(Result::ok) {}
}

/// A record of five fields, 500 bytes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which one, from 0.
    pub number: u64,
    /// A few words.
    pub title: String,
    /// One of a hundred names.
    pub author: String,
    /// Seconds.
    pub created: u64,
    /// Words up to the record's length.
    pub body: String,
}

/// The length of a record as JSON.
pub const RECORD_BYTES: usize = 500;
const NUMBER_DIGITS: u64 = 1_000_000;
const CREATED: u64 = 1_700_000_000;

impl Record {
    /// Record `number`: always the same.
    pub fn new(number: u64) -> Self {
        let mut words = Words(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut record = Self {
            // As many digits in each.
            number: NUMBER_DIGITS + number,
            title: words.text(30),
            author: format!("author {:03}", words.next() % 100),
            created: CREATED + number,
            body: String::new(),
        };
        let rest = RECORD_BYTES.saturating_sub(record.to_json().len());
        record.body = words.text(rest);
        record
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: numbers and strings always serialise.
    pub fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "numbers and strings always serialise")]
        serde_json::to_vec(self).expect("a record")
    }
}

/// Words like those of a language: a few are common and most are rare.
struct Words(u64);

impl Words {
    /// `SplitMix64` (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Exactly `len` bytes.
    fn text(&mut self, len: usize) -> String {
        let mut text = String::with_capacity(len + 16);
        while text.len() < len {
            // Squared: small numbers are likelier.
            let roll = self.next() % 10_000;
            Self::word(&mut text, roll * roll / 10_000);
            text.push(' ');
        }
        text.truncate(len);
        text
    }

    fn word(text: &mut String, mut number: u64) {
        const SYLLABLES: [&str; 20] = [
            "ba", "cor", "de", "fin", "gu", "hal", "in", "jo", "kel", "lum", "mi", "nor", "o",
            "pra", "qui", "ros", "sa", "tem", "ul", "ver",
        ];
        loop {
            let syllable = usize::try_from(number % 20).ok().and_then(|at| SYLLABLES.get(at));
            text.push_str(syllable.copied().unwrap_or_default());
            number /= 20;
            if number == 0 {
                return;
            }
        }
    }
}

/// Takes note of the records that arrived.
pub struct Arrived {
    missing: u64,
    seen: Vec<bool>,
}

impl Arrived {
    /// None of `records` did yet.
    pub fn new(records: u64) -> Self {
        let seen = vec![false; usize::try_from(records).unwrap_or(usize::MAX)];
        Self { missing: records, seen }
    }

    /// One did.
    ///
    /// # Errors
    /// It is not as it was written.
    pub fn take(&mut self, record: &Record) -> Result<()> {
        let number = record.number.checked_sub(NUMBER_DIGITS).context("not a record's number")?;
        ensure!(*record == Record::new(number), "record {number} is not as it was written");
        let seen = usize::try_from(number).ok().and_then(|at| self.seen.get_mut(at));
        match seen {
            Some(seen) if !*seen => {
                *seen = true;
                self.missing -= 1;
                Ok(())
            }
            Some(_) => bail!("record {number} came twice"),
            None => bail!("there is no record {number}"),
        }
    }

    /// One did, as JSON.
    ///
    /// # Errors
    /// It is not as it was written.
    pub fn take_json(&mut self, json: &[u8]) -> Result<()> {
        self.take(&serde_json::from_slice(json).context("a record that does not parse")?)
    }

    /// All did.
    ///
    /// # Errors
    /// Some are missing.
    pub fn check(&self) -> Result<()> {
        ensure!(self.missing == 0, "{} of {} records are missing", self.missing, self.seen.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_record_has_the_same_length_and_other_content() {
        for number in [0, 1, 9_999, 999_999] {
            assert_eq!(Record::new(number).to_json().len(), RECORD_BYTES);
        }
        assert_ne!(Record::new(1).body, Record::new(2).body);
    }

    #[test]
    fn a_record_that_is_missing_or_altered_is_noticed() {
        let mut arrived = Arrived::new(2);
        arrived.take_json(&Record::new(1).to_json()).unwrap();
        assert!(arrived.check().is_err());
        assert!(arrived.take(&Record::new(1)).is_err());
        assert!(arrived.take(&Record { created: 0, ..Record::new(0) }).is_err());
        arrived.take(&Record::new(0)).unwrap();
        arrived.check().unwrap();
    }
}
