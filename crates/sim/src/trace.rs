//! What happened, as a hash that two runs of one seed must share, and as text for whoever looks
//! for the reason of a failure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many lines are kept.
const LINES_MAX: usize = 4000;

/// Clones are one trace: it outlives a run that breaks off.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Lines>>);

struct Lines {
    hasher: DefaultHasher,
    is_kept: bool,
    kept: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Self {
        let hasher = DefaultHasher::new();
        Self(Arc::new(Mutex::new(Lines { hasher, is_kept, kept: VecDeque::new() })))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened, which is part of what makes two runs the same.
    pub(crate) fn hash(&self, what: impl Hash) {
        what.hash(&mut self.lines().hasher);
    }

    /// Something happened, for people; `line` is made only if it is kept.
    pub(crate) fn note(&self, now_us: u64, line: impl FnOnce() -> String) {
        let mut lines = self.lines();
        now_us.hash(&mut lines.hasher);
        if lines.is_kept {
            let line = format!("{:>10}.{:03} {}", now_us / 1000, now_us % 1000, line());
            if lines.kept.len() == LINES_MAX {
                lines.kept.pop_front();
            }
            lines.kept.push_back(line);
        }
    }

    /// The hash so far.
    pub(crate) fn digest(&self) -> u64 {
        self.lines().hasher.finish()
    }

    /// The lines kept, oldest first.
    pub(crate) fn text(&self) -> Vec<String> {
        self.lines().kept.iter().cloned().collect()
    }
}
