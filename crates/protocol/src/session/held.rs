//! What a session keeps in memory because of what its peer sends, or does not read.
//!
//! Invariant: it never comes to more than [`Config::bytes_held_max`](super::Config).

use std::collections::BTreeMap;

use larder_types::CloseCode;

use super::{Outgoing, Session};
use crate::frame::{FrameError, Supply, Want};

impl Session {
    /// Bytes of memory that this session keeps: what came and is not durable, with storage or not
    /// yet; what waits to be sent; and what is known of the peer.
    pub fn bytes_held(&self) -> usize {
        let applying = self.inbox.applying.as_ref().map_or(0, |applying| applying.bytes_held);
        let waiting = self.inbox.waiting.iter().map(|received| received.batch.bytes_held());
        let going = self.transmits.iter().map(|going| going.frame.capacity());
        let maps = [&self.peer_has, &self.told, &self.held];
        applying
            + waiting.sum::<usize>()
            + going.sum::<usize>()
            + self.transmits.capacity() * size_of::<Outgoing>()
            + maps.into_iter().map(map_bytes).sum::<usize>()
            + self.epochs.capacity() * size_of::<larder_types::EpochId>()
            + self.stopped.len() * 2 * size_of::<larder_types::DeviceId>()
            + self.opening.bytes_held()
            + self.lacking.bytes_held()
            + self.acks.bytes_held()
            + self.messages.bytes_held()
    }

    /// What small sections come to in memory has a bound of its own, which what an honest peer
    /// sends is far below.
    pub(super) fn check_unpacked(&self, bytes: usize) -> Result<(), FrameError> {
        if bytes > 2 * self.config.frame_bytes_max {
            let message = "a frame that takes too much memory";
            return Err(FrameError::new(CloseCode::LimitExceeded, message));
        }
        Ok(())
    }
}

/// Nodes of a tree are half full at worst, and there is something around what they hold.
pub(crate) fn map_bytes<K, V>(map: &BTreeMap<K, V>) -> usize {
    map.len() * (2 * size_of::<(K, V)>() + 16)
}

impl Want {
    pub(crate) fn bytes_held(&self) -> usize {
        let lacking = self.snapshot.as_ref().map_or(0, |wanted| wanted.lacking.capacity() * 56);
        let runs = self.sections.capacity() + self.sealed.capacity();
        lacking + runs * size_of::<crate::Run>() + self.blobs.capacity() * 32
    }
}

impl Supply {
    pub(crate) fn bytes_held(&self) -> usize {
        let fill = |fill: &crate::Fill| {
            let behind = fill.payloads.iter().map(larder_log::Payload::bytes_held);
            fill.payloads.capacity() * size_of::<larder_log::Payload>() + behind.sum::<usize>()
        };
        self.snapshot.as_ref().map_or(0, Vec::capacity)
            + self.sections.capacity() * size_of::<crate::Fill>()
            + self.sections.iter().map(fill).sum::<usize>()
            + self.void.capacity() * size_of::<crate::Run>()
    }
}
