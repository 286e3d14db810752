//! Messages to devices that are there now: sealed, never stored. Nothing here touches the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use larder_log::Band;
use larder_log::message::{Message as Plain, Sender, message_secret, open_message, seal_message};
use larder_types::limits::MESSAGE_BYTES_MAX;
use larder_types::{DeviceId, TransportId};

use crate::space::Space;
use crate::{Error, Result};

/// A message from another device of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The device that sent it, as its connection proved.
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// What its app sent.
    pub body: Vec<u8>,
}

/// What was sent and heard since the space was opened.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    sent: Mutex<Option<([u8; 8], u64)>>,
    heard: Mutex<BTreeMap<DeviceId, Heard>>,
}

/// What was heard of a device.
#[derive(Debug, Default)]
struct Heard {
    /// The run that was heard last, and how far it had counted.
    run: [u8; 8],
    count: u64,
    /// Runs that ended with the beginning of another, the last [`RUNS_KEPT_MAX`].
    over: VecDeque<[u8; 8]>,
}

impl Heard {
    /// Whether this is neither again nor from before.
    fn takes(&mut self, run: [u8; 8], count: u64) -> bool {
        if self.over.contains(&run) || (self.run == run && count <= self.count) {
            return false;
        }
        if self.run != run && self.count > 0 {
            self.over.push_back(self.run);
            if self.over.len() > RUNS_KEPT_MAX {
                self.over.pop_front();
            }
        }
        (self.run, self.count) = (run, count);
        true
    }
}

const RUNS_KEPT_MAX: usize = 64;

impl Space {
    pub(crate) fn seal_message_of(&self, body: Vec<u8>) -> Result<Vec<u8>> {
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the message is {} bytes long, and may have {MESSAGE_BYTES_MAX}",
                body.len()
            )));
        }
        self.check_reads()?;
        let published = self.shared.published()?;
        let keyring = &published.keyring;
        let epoch = published.roster.epoch_for_writing(Band::Green, &|epoch| keyring.holds(epoch));
        let epoch = epoch.ok_or(Error::NotYetEnrolled)?;
        let secrets = keyring.secrets(&epoch).ok_or(Error::NotYetEnrolled)?;
        let step = secrets.last_step();
        let secret = secrets.at(Band::Green, step).ok_or(Error::NotYetEnrolled)?;
        let mut entropy = self.shared.env.entropy();
        let mut sent = self.shared.messages.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let (run, before) = sent.unwrap_or_else(|| {
            let mut run = [0; 8];
            entropy.fill(&mut run);
            (run, 0)
        });
        let count = before + 1;
        *sent = Some((run, count));
        drop(sent);
        let message = Plain { run, count, body };
        let sender = Sender { space: self.id(), device: self.device(), epoch, step };
        Ok(seal_message(&mut *entropy, &sender, &secret, &message))
    }

    pub(crate) fn open_message_of(&self, peer: &TransportId, sealed: &[u8]) -> Option<Message> {
        let published = self.shared.published().ok()?;
        let (epoch, step) = message_secret(sealed)?;
        let secret = published.keyring.secrets(&epoch)?.at(Band::Green, step)?;
        // One that joined again after its first joining was cut is enrolled twice.
        let devices = published.roster.devices().filter(|(_, d)| d.keys.transport == *peer);
        for (id, device) in devices {
            let sender = Sender { space: self.id(), device: *id, epoch, step };
            let Some(plain) = open_message(&sender, &secret, sealed) else { continue };
            let ledger = &self.shared.messages.heard;
            let mut heard = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            if !heard.entry(*id).or_default().takes(plain.run, plain.count) {
                return None;
            }
            return Some(Message { device: *id, label: device.label.clone(), body: plain.body });
        }
        None
    }
}
