//! What this machine says of itself: memory, disk, fsync.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use walkdir::WalkDir;

/// Starts the peak of memory anew (Linux; elsewhere nothing happens).
pub(crate) fn reset_peak() {
    // proc(5): writing 5 resets the peak resident set size.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The process's peak resident memory, where the system tells.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes of all files below a directory.
pub(crate) fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in WalkDir::new(dir) {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(io::Error::other)?;
        if metadata.is_file() {
            total += metadata.len();
        }
    }
    Ok(total)
}

/// How long a write of 4 KiB takes until it is durable, on the file system of `dir`.
pub(crate) fn fsyncs(dir: &Path, times: usize) -> io::Result<Vec<Duration>> {
    let path = dir.join("fsync.probe");
    let mut file = File::create(&path)?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    drop(file);
    fs::remove_file(path)?;
    Ok(took)
}

/// The value below which `percent` of the sorted samples lie (nearest rank).
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    samples.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut samples: Vec<_> = (1..=20).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 50), Duration::from_millis(10));
        assert_eq!(percentile(&mut samples, 95), Duration::from_millis(19));
        assert_eq!(percentile(&mut samples[..1], 95), Duration::from_millis(1));
        assert_eq!(percentile(&mut [], 50), Duration::ZERO);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_known_on_linux() {
        assert!(peak_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fsyncs(dir.path(), 3).unwrap().len(), 3);
        assert_eq!(bytes_below(dir.path()).unwrap(), 0);
    }
}
