//! Messages that are passed on and never stored: bounded in number, both ways.

use std::collections::VecDeque;

use larder_types::Timestamp;
use larder_types::limits::{MESSAGES_PER_SECOND_MAX, MESSAGES_QUEUED_MAX};

/// Messages on their way out, and how many may pass.
///
/// Memory: [`MESSAGES_QUEUED_MAX`] sealed messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    waiting: VecDeque<Vec<u8>>,
    sent: Bucket,
    received: Bucket,
}

impl Messages {
    /// Has a message sent; of too many the oldest goes.
    pub(super) fn push(&mut self, now: Timestamp, sealed: Vec<u8>) {
        if !self.sent.takes(now) {
            return;
        }
        if self.waiting.len() == MESSAGES_QUEUED_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(sealed);
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes_held(&self) -> usize {
        let behind = self.waiting.iter().map(Vec::capacity).sum::<usize>();
        self.waiting.capacity() * size_of::<Vec<u8>>() + behind
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Whether one more of the peer's may pass now.
    pub(super) fn admits(&mut self, now: Timestamp) -> bool {
        self.received.takes(now)
    }
}

/// A second's worth of messages, filled evenly.
#[derive(Debug, Default)]
struct Bucket {
    /// Thousandths of messages that were let through and are not made up for.
    owed: u64,
    /// When it was last looked at, in milliseconds.
    at: u64,
}

impl Bucket {
    fn takes(&mut self, now: Timestamp) -> bool {
        let passed = now.0.saturating_sub(self.at);
        self.at = self.at.max(now.0);
        self.owed = self.owed.saturating_sub(passed.saturating_mul(MESSAGES_PER_SECOND_MAX));
        let is_free = self.owed.saturating_add(1000) <= 1000 * MESSAGES_PER_SECOND_MAX;
        if is_free {
            self.owed += 1000;
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_second_holds_pass_at_once_and_then_as_time_passes() {
        let mut messages = Messages::default();
        let admitted = |messages: &mut Messages, at| {
            (0..10 * MESSAGES_PER_SECOND_MAX).filter(|_| messages.admits(Timestamp(at))).count()
        };
        let most = usize::try_from(MESSAGES_PER_SECOND_MAX).unwrap();
        assert_eq!(admitted(&mut messages, 5), most);
        assert_eq!(admitted(&mut messages, 5), 0);
        assert_eq!(admitted(&mut messages, 505), most / 2);
        assert_eq!(admitted(&mut messages, 100), 0, "a clock that runs back gives nothing");
        assert_eq!(admitted(&mut messages, 1_000_000), most);
    }

    #[test]
    fn of_too_many_that_wait_the_oldest_go() {
        let mut messages = Messages::default();
        for n in 0..=MESSAGES_QUEUED_MAX {
            messages.push(Timestamp(1000 * n as u64), vec![u8::try_from(n).unwrap()]);
        }
        assert_eq!(messages.pop(), Some(vec![1]));
    }
}
