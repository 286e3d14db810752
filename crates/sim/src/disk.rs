//! A device's disk, and when its power fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use larder_pages::testing::{Disk, Outcome};

/// Where each device has its profile, on a disk of its own.
pub(crate) const PROFILE: &str = "/profile";

/// A disk with a fuse: after a number of calls the power fails.
pub(crate) struct Fused {
    pub(crate) disk: Disk,
    fuse: Arc<Fuse>,
}

#[derive(Default)]
struct Fuse {
    /// Calls that are still made; none: it does not burn.
    left: Mutex<Option<u64>>,
    blown: AtomicBool,
}

impl Fused {
    /// A new disk, empty.
    pub(crate) fn new() -> Self {
        let disk = Disk::new().expect("SQLite takes as many VFSs as there are devices");
        let fuse = Arc::new(Fuse::default());
        let of_disk = Arc::clone(&fuse);
        disk.on_call(move |_| of_disk.call());
        Self { disk, fuse }
    }

    /// The power fails during the `calls`th call from now on.
    pub(crate) fn light(&self, calls: u64) {
        *self.fuse.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(calls);
    }

    /// The power will not fail of itself any more.
    pub(crate) fn put_out(&self) {
        *self.fuse.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.fuse.blown.store(false, Ordering::Relaxed);
    }

    /// Whether the power is off.
    pub(crate) fn is_blown(&self) -> bool {
        self.fuse.blown.load(Ordering::Relaxed)
    }

    /// The main database files of the spaces.
    pub(crate) fn space_files(&self) -> Vec<PathBuf> {
        let spaces = Path::new(PROFILE).join("spaces");
        let mut paths = self.disk.paths();
        let is_database = |path: &PathBuf| {
            path.parent() == Some(&spaces) && path.extension().is_some_and(|end| end == "db")
        };
        paths.retain(is_database);
        paths
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.disk.used()
    }
}

impl Fuse {
    fn call(&self) -> Outcome {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *left {
            Some(0) => {
                *left = None;
                self.blown.store(true, Ordering::Relaxed);
                Outcome::Crash
            }
            Some(calls) => {
                *calls -= 1;
                Outcome::Go
            }
            None => Outcome::Go,
        }
    }
}
