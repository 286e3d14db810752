//! What is to happen, in the order of virtual time.

use std::collections::BTreeMap;

/// Events by the microsecond at which they are due; those of one moment in the order in which they
/// were added.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    events: BTreeMap<(u64, u64), E>,
    added: u64,
}

impl<E> Schedule<E> {
    pub(crate) fn new() -> Self {
        Self { events: BTreeMap::new(), added: 0 }
    }

    pub(crate) fn add(&mut self, at_us: u64, event: E) {
        self.events.insert((at_us, self.added), event);
        self.added += 1;
    }

    /// The next event, and when it is due.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at_us, _), event)| (at_us, event))
    }

    /// Drops what is not to happen any more.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        self.events.retain(|_, event| keep(event));
    }
}
