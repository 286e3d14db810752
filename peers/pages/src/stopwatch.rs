//! Wall clock and processor time of a piece of work.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of this process, all threads.
    pub(crate) cpu: Duration,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// Runs `work` and tells what it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let (wall, cpu) = (Instant::now(), cpu_time()?);
    let result = work()?;
    let cost = Cost { wall: wall.elapsed(), cpu: cpu_time()?.saturating_sub(cpu) };
    Ok((result, cost))
}

fn cpu_time() -> Result<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).context("a time before zero")
}
