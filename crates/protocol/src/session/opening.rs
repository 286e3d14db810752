//! How a session begins: each side says what it holds, or, where both may hold the same, only a
//! digest of it.

use std::collections::{BTreeMap, VecDeque};

use larder_crypto::hash::sha256;
use larder_log::ack::Ack;
use larder_types::limits::{FORKS_PER_FRAME_MAX, LOGS_MAX};
use larder_types::{CloseCode, DeviceId, Hash, Timestamp, canonical};

use super::{Opens, Request, Session, raise};
use crate::frame::{EPOCHS_MAX, Frame, FrameError, Frontiers, LogHead};

/// How far the exchange of frontiers is.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "steps that are taken once, in many orders")]
pub(super) struct Opening {
    /// The frames, which go before everything else.
    pub(super) transmits: VecDeque<Vec<u8>>,
    /// Until when the peer has to say what it holds.
    pub(super) by: Option<Timestamp>,
    /// What this device holds, once storage has told, until the peer knows.
    ours: Option<Ours>,
    /// The peer's digest.
    theirs: Option<Hash>,
    digest_sent: bool,
    frontiers_received: bool,
    /// The peer knows, or will by what was sent, what this device holds.
    pub(super) sent: bool,
    /// It is known what the peer holds,
    pub(super) received: bool,
    /// and that it does not contradict what is held here.
    pub(super) checked: bool,
}

#[derive(Debug)]
struct Ours {
    frontiers: Frontiers,
    acks: Vec<Ack>,
    /// None if there is more to tell than that.
    digest: Option<Hash>,
}

impl Opening {
    /// Bytes of memory that it takes.
    pub(super) fn bytes_held(&self) -> usize {
        let frames = self.transmits.iter().map(Vec::capacity).sum::<usize>();
        frames + self.ours.as_ref().map_or(0, Ours::bytes_held)
    }
}

impl Ours {
    fn bytes_held(&self) -> usize {
        let Frontiers { logs, epochs_held, forks, .. } = &self.frontiers;
        logs.capacity() * size_of::<LogHead>()
            + epochs_held.capacity() * size_of::<larder_types::EpochId>()
            + forks.iter().map(|fork| fork.evidence.capacity() + 4096).sum::<usize>()
            + self.acks.capacity() * size_of::<Ack>()
    }
}

/// What two devices have in common if all entries and acknowledgements that they hold are the same.
/// It does not depend on their order.
pub fn held_digest(logs: &[LogHead], acks: &[Ack]) -> Hash {
    let mut logs: Vec<_> = logs.iter().map(|head| (head.device, head.size, head.root)).collect();
    let mut acks: Vec<_> = acks.iter().map(|ack| (ack.acker, ack.device, ack.size)).collect();
    logs.sort_unstable();
    acks.sort_unstable();
    sha256(&[DIGEST_LABEL, &canonical::encode(&(logs, acks))])
}

const DIGEST_LABEL: &[u8] = b"larder/held/v0";

impl Session {
    /// Storage has told what is held.
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        mut frontiers: Frontiers,
        acks: Vec<Ack>,
    ) -> Result<(), FrameError> {
        let Frontiers { logs, epochs_held, forks, .. } = &mut frontiers;
        if logs.len() > LOGS_MAX {
            return Err(FrameError::new(CloseCode::LimitExceeded, "the space has too many logs"));
        }
        logs.sort_unstable_by_key(|head| head.device);
        epochs_held.truncate(EPOCHS_MAX);
        forks.sort_unstable_by_key(|fork| fork.device);
        forks.truncate(FORKS_PER_FRAME_MAX);
        for head in &*logs {
            raise(&mut self.told, head.device, head.size);
            raise(&mut self.held, head.device, head.size);
        }
        if !self.opening.received {
            let by = now.0.saturating_add(self.config.opening_ms_max);
            self.opening.by = Some(Timestamp(by));
        }
        // Of a fork everybody is to hear.
        let digest = forks.is_empty().then(|| held_digest(logs, &acks));
        self.opening.ours = Some(Ours { frontiers, acks, digest });
        match self.config.opens {
            Opens::Whole => self.send_frontiers(),
            Opens::Brief => self.send_digest(),
            Opens::Second => {}
        }
        let is_brief = self.opening.digest_sent || self.config.opens == Opens::Second;
        if self.opening.frontiers_received || !is_brief {
            self.send_frontiers();
        }
        self.compare();
        Ok(())
    }

    /// The peer said all that it holds.
    pub(super) fn take_frontiers(&mut self, frontiers: Frontiers) -> Result<(), FrameError> {
        if frontiers.space != self.space {
            return Err(FrameError::new(CloseCode::NotShared, "frontiers of another space"));
        }
        if std::mem::replace(&mut self.opening.frontiers_received, true) {
            return Err(FrameError::new(CloseCode::Unexpected, "frontiers a second time"));
        }
        self.epochs = frontiers.epochs_held;
        // Its digest may have told already; then this crossed the answer.
        if !std::mem::replace(&mut self.opening.received, true) {
            self.opening.by = None;
            self.peer_has = sizes(&frontiers.logs);
            let Frontiers { logs, forks, .. } = frontiers;
            self.requests.push_back(Request::CheckFrontiers { logs, forks });
            self.send_frontiers();
        }
        Ok(())
    }

    /// The peer said a digest of what it holds.
    pub(super) fn take_digest(&mut self, digest: Hash) -> Result<(), FrameError> {
        if self.opening.theirs.is_some() || self.opening.received {
            return Err(FrameError::new(CloseCode::Unexpected, "a digest after its time"));
        }
        self.opening.theirs = Some(digest);
        self.compare();
        Ok(())
    }

    /// If both hold the same, both know all there is to know. If not, each says it all.
    fn compare(&mut self) {
        let Some(ours) = &self.opening.ours else { return };
        let Some(theirs) = self.opening.theirs else { return };
        if ours.digest != Some(theirs) {
            self.send_frontiers();
            return;
        }
        self.send_digest();
        let Some(Ours { frontiers, acks, .. }) = self.opening.ours.take() else { return };
        self.peer_has = sizes(&frontiers.logs);
        self.acks.assume(&acks);
        self.opening.by = None;
        (self.opening.sent, self.opening.received) = (true, true);
        self.begin();
    }

    fn send_digest(&mut self) {
        let Some(digest) = self.opening.ours.as_ref().and_then(|ours| ours.digest) else { return };
        if !self.opening.sent && !std::mem::replace(&mut self.opening.digest_sent, true) {
            self.opening.transmits.push_back(Frame::Digest(digest).encode());
        }
    }

    /// Says it all, unless that was done or the peer knows it.
    fn send_frontiers(&mut self) {
        // While storage has not told, that follows when it has.
        if self.opening.sent || self.opening.ours.is_none() {
            return;
        }
        let keeps = self.opening.theirs.is_none() && !self.opening.received;
        let Some(ours) = &mut self.opening.ours else { return };
        let acks = std::mem::take(&mut ours.acks);
        self.opening.sent = true;
        self.opening.transmits.push_back(Frame::Frontiers(ours.frontiers.clone()).encode());
        if !keeps {
            self.opening.ours = None;
        }
        self.go_live();
        self.offer_acks(acks);
    }

    /// What the peer lacks is known now.
    pub(super) fn begin(&mut self) {
        self.opening.checked = true;
        self.go_live();
    }
}

fn sizes(logs: &[LogHead]) -> BTreeMap<DeviceId, u64> {
    logs.iter().map(|head| (head.device, head.size)).collect()
}
