//! The real world, as the engine sees it.

use std::time::{SystemTime, UNIX_EPOCH};

use larder_engine::Environment;
use larder_types::{Entropy, Timestamp};

/// The operating system's clock and random generator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct System;

impl Environment for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(OsEntropy)
    }
}

pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Without random bytes no key and no nonce is safe: there is nothing to go on with.
        #[expect(
            clippy::expect_used,
            reason = "the operating system's generator does not fail once it has started"
        )]
        getrandom::fill(bytes).expect("the operating system's random generator failed");
    }
}

impl OsEntropy {
    pub(crate) fn bytes<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        Self.fill(&mut bytes);
        bytes
    }
}
