//! How often this process syncs a file, and how long that takes here.
//!
//! SQLite calls the C library's functions; those defined here stand before them, count, and ask the
//! system itself.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Syncs of this process so far.
pub(crate) fn count() -> u64 {
    SYNCS.load(Ordering::SeqCst)
}

fn counted(fd: i32, sync: fn(BorrowedFd<'_>) -> rustix::io::Result<()>) -> i32 {
    SYNCS.fetch_add(1, Ordering::SeqCst);
    #[expect(unsafe_code, reason = "the caller, SQLite or std, has the file open")]
    // SAFETY: the contract of fsync(2): `fd` is open for as long as the call lasts.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    match sync(file) {
        Ok(()) => 0,
        // What failed is not measured: it must not go on as if it had worked.
        Err(error) => panic!("fsync failed: {error}"),
    }
}

#[expect(unsafe_code, reason = "takes the C library's place")]
// SAFETY: the same signature and effect as fdatasync(2).
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: i32) -> i32 {
    counted(fd, |file| rustix::fs::fdatasync(file))
}

#[expect(unsafe_code, reason = "takes the C library's place")]
// SAFETY: the same signature and effect as fsync(2).
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: i32) -> i32 {
    counted(fd, |file| rustix::fs::fsync(file))
}

/// Median and 95th percentile of some times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
}

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at =
            |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        Self { p50: at(50), p95: at(95) }
    }
}

/// What writing 4 KiB to the end of a file in `dir` and syncing it takes.
pub(crate) fn time(dir: &Path) -> Result<Spread> {
    let path = dir.join("fsync");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(Spread::of(times))
}
