//! Clock and randomness of one device.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use larder_engine::Environment;
use larder_pages::Files;
use larder_pages::testing::{Dice, Disk};
use larder_types::{Entropy, Timestamp};

/// 14 November 2023, when every run begins.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The time that all devices' clocks are off from.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    now_us: Arc<AtomicU64>,
    /// Time in which nothing happened.
    skipped_ms: Arc<AtomicU64>,
}

impl Clock {
    pub(crate) fn set_us(&self, now_us: u64) {
        self.now_us.store(now_us, Ordering::Relaxed);
    }

    /// So long nothing happens, anywhere.
    pub(crate) fn skip_ms(&self, ms: u64) {
        self.skipped_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        let now_us = self.now_us.load(Ordering::Relaxed);
        now_us / 1000 + self.skipped_ms.load(Ordering::Relaxed)
    }
}

/// What one device's engine takes from the world.
pub(crate) struct DeviceWorld {
    clock: Clock,
    /// How far the device's wall clock is ahead of the true time, in milliseconds.
    ahead_ms: AtomicI64,
    /// The latest that it ever showed, in milliseconds.
    latest_ms: AtomicU64,
    dice: Mutex<Dice>,
    disk: Disk,
}

impl DeviceWorld {
    pub(crate) fn new(clock: Clock, seed: u64, disk: Disk) -> Arc<Self> {
        Arc::new(Self {
            clock,
            ahead_ms: AtomicI64::new(0),
            latest_ms: AtomicU64::new(0),
            dice: Mutex::new(Dice::new(seed)),
            disk,
        })
    }

    pub(crate) fn latest(&self) -> Timestamp {
        Timestamp(self.latest_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_ahead_ms(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }
}

impl Environment for DeviceWorld {
    fn now(&self) -> Timestamp {
        let true_ms = EPOCH_MS + i64::try_from(self.clock.now_ms()).unwrap_or(0);
        let shown = true_ms.saturating_add(self.ahead_ms.load(Ordering::Relaxed));
        let shown_ms = u64::try_from(shown).unwrap_or(0);
        self.latest_ms.fetch_max(shown_ms, Ordering::Relaxed);
        Timestamp(shown_ms)
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(Dice::new(dice.roll()))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.disk.clone())
    }
}
