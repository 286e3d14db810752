use std::collections::BTreeMap;

use larder_log::ack::Ack;
use larder_types::limits::ACKS_TRACKED_MAX as TRACKED_MAX;
use larder_types::{CloseCode, DeviceId, SpaceId};

use crate::frame::{ACKS_PER_FRAME_MAX, FrameError};
use crate::session::map_bytes;

/// Which acknowledgements have gone which way in one session.
///
/// Each is about one log by one device and only ever grows, so only the largest matters. Memory:
/// [`TRACKED_MAX`] of about 300 bytes each at worst, in each direction.
#[derive(Debug, Default)]
pub(crate) struct AckLedger {
    /// The largest that the peer said.
    said: BTreeMap<Key, u64>,
    /// The largest that was said to the peer, or waits to be.
    told: BTreeMap<Key, u64>,
    outgoing: BTreeMap<Key, Ack>,
    /// Of those that the peer said, what storage has not seen.
    incoming: BTreeMap<Key, Ack>,
    /// How many storage has.
    storing: usize,
}

type Key = (DeviceId, DeviceId);

impl AckLedger {
    /// Acknowledgements this device has: those that the peer may lack go out to it.
    pub(crate) fn offer(&mut self, acks: impl IntoIterator<Item = Ack>) {
        for ack in acks {
            let key = (ack.acker, ack.device);
            let known = |map: &BTreeMap<Key, u64>| map.get(&key).is_some_and(|n| *n >= ack.size);
            if known(&self.said) || known(&self.told) {
                continue;
            }
            // Beyond the bound they wait for the next session.
            if self.told.len() < TRACKED_MAX || self.told.contains_key(&key) {
                self.told.insert(key, ack.size);
                self.outgoing.insert(key, ack);
            }
        }
    }

    /// The peer has these as well.
    pub(crate) fn assume(&mut self, acks: &[Ack]) {
        for ack in acks {
            let key = (ack.acker, ack.device);
            if self.said.len() < TRACKED_MAX {
                let said = self.said.entry(key).or_default();
                *said = ack.size.max(*said);
                // An earlier one that was offered before would be one that goes back.
                if self.outgoing.get(&key).is_some_and(|waiting| waiting.size <= *said) {
                    self.outgoing.remove(&key);
                }
            }
        }
    }

    /// Acknowledgements the peer sent.
    pub(crate) fn receive(&mut self, space: &SpaceId, acks: Vec<Ack>) -> Result<(), FrameError> {
        for ack in acks {
            if ack.space != *space {
                return Err(refused("of another space"));
            }
            let key = (ack.acker, ack.device);
            match self.said.get(&key) {
                Some(before) if *before > ack.size => return Err(refused("of an earlier size")),
                Some(before) if *before == ack.size => continue,
                None if self.said.len() >= TRACKED_MAX => {
                    let message = "too many acknowledgements";
                    return Err(FrameError::new(CloseCode::LimitExceeded, message));
                }
                Some(_) | None => {}
            }
            self.said.insert(key, ack.size);
            if self.outgoing.get(&key).is_some_and(|waiting| waiting.size <= ack.size) {
                self.outgoing.remove(&key);
            }
            if self.told.get(&key).is_none_or(|told| *told < ack.size) {
                self.incoming.insert(key, ack);
            }
        }
        Ok(())
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What fits into one frame.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Ack> {
        let mut taken = Vec::new();
        while taken.len() < ACKS_PER_FRAME_MAX {
            let Some((_, ack)) = self.outgoing.pop_first() else { break };
            taken.push(ack);
        }
        taken
    }

    /// What to store next, if nothing is being stored.
    pub(crate) fn take_incoming(&mut self) -> Option<Vec<Ack>> {
        if self.storing > 0 || self.incoming.is_empty() {
            return None;
        }
        self.storing = self.incoming.len();
        Some(std::mem::take(&mut self.incoming).into_values().collect())
    }

    /// Storage is through with what [`Self::take_incoming`] gave.
    pub(crate) fn stored(&mut self) {
        self.storing = 0;
    }

    /// Whether nothing the peer sent waits for storage.
    pub(crate) fn is_settled(&self) -> bool {
        self.storing == 0 && self.incoming.is_empty()
    }

    /// Bytes of memory that it takes, what storage has included.
    pub(crate) fn bytes_held(&self) -> usize {
        [&self.said, &self.told].into_iter().map(map_bytes).sum::<usize>()
            + [&self.outgoing, &self.incoming].into_iter().map(map_bytes).sum::<usize>()
            + self.storing * size_of::<Ack>()
    }

    /// Whether as much waits for storage as may.
    pub(crate) fn is_full(&self) -> bool {
        self.incoming.len() >= ACKS_PER_FRAME_MAX
    }
}

fn refused(message: &str) -> FrameError {
    FrameError::new(CloseCode::BadAck, format!("an acknowledgement {message}"))
}

#[cfg(test)]
mod tests {
    use larder_types::Hash;

    use super::*;

    const SPACE: SpaceId = SpaceId::new([1; 32]);

    fn ack(size: u64) -> Ack {
        Ack {
            space: SPACE,
            acker: DeviceId::new([3; 32]),
            device: DeviceId::new([2; 32]),
            size,
            root: Hash::new([0; 32]),
            time_s: 0,
            signature: [0; 64],
        }
    }

    /// A session heard of an acknowledgement of another one's while storage was looking for all
    /// that is held, in which there was a later one already. Both sides found that they held the
    /// same; then the earlier one was sent, and the other side ended the session for it.
    #[test]
    fn an_earlier_one_than_both_are_known_to_hold_is_not_sent() {
        let (mut ours, mut theirs) = (AckLedger::default(), AckLedger::default());
        ours.offer([ack(1)]);
        for ledger in [&mut ours, &mut theirs] {
            ledger.assume(&[ack(2)]);
        }
        theirs.receive(&SPACE, ours.take_outgoing()).unwrap();
        ours.offer([ack(3)]);
        assert_eq!(ours.take_outgoing(), [ack(3)]);
    }

    /// While storage was at the last acknowledgements, a peer that caught up said a hundred more of
    /// one log, and each had its signature verified, though the last of them says all.
    #[test]
    fn only_the_largest_of_those_that_wait_is_stored() {
        let mut ledger = AckLedger::default();
        for size in 1..=100 {
            ledger.receive(&SPACE, vec![ack(size)]).unwrap();
        }
        assert_eq!(ledger.take_incoming(), Some(vec![ack(100)]));
        assert_eq!(ledger.take_incoming(), None);
    }
}
