//! Messages that are sealed and never stored: presence, cursors, a pointing finger.

use larder_crypto::aead::XAes;
use larder_crypto::kdf::hkdf_sha256;
use larder_types::limits::{MESSAGE_BYTES_MAX, STEP_MAX};
use larder_types::{DeviceId, Entropy, EpochId, SpaceId, canonical};
use minicbor::{Decode, Encode};

use crate::epoch::BandSecret;
use crate::labels;

/// Who sends a message, and under which secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The space.
    pub space: SpaceId,
    /// The sending device.
    pub device: DeviceId,
    /// The epoch whose secret seals it, of the lowest band.
    pub epoch: EpochId,
    /// At this step.
    pub step: u32,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Message {
    /// Drawn by the sending device when it opened the space.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub run: [u8; 8],
    /// Counts the messages of a run, from 1.
    #[n(1)]
    pub count: u64,
    /// What the app sends.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Sealed {
    #[n(0)]
    v: u8,
    #[n(1)]
    epoch: EpochId,
    #[n(2)]
    step: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

const VERSION: u8 = 0;
/// What goes around a body: run, count, nonce, tag, epoch, and what encodes them.
const AROUND_BYTES_MAX: usize = 128;

/// A sealed message at most.
pub const SEALED_MESSAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + AROUND_BYTES_MAX;

impl Sender {
    /// Of the device, by the epoch's secret: no two devices seal under one key.
    fn cipher(&self, secret: &BandSecret) -> XAes {
        let info = [labels::MESSAGE_KEY, self.space.as_bytes(), self.device.as_bytes()].concat();
        XAes::new(&hkdf_sha256(secret.secret().expose(), &[], &info))
    }

    fn associated(&self) -> Vec<u8> {
        let Self { space, device, epoch, step } = self;
        let step = step.to_be_bytes();
        [labels::MESSAGE_AD, space.as_bytes(), device.as_bytes(), epoch.as_bytes(), &step].concat()
    }
}

/// Seals a message under a random nonce.
pub fn seal_message(
    entropy: &mut dyn Entropy,
    sender: &Sender,
    secret: &BandSecret,
    message: &Message,
) -> Vec<u8> {
    let plain = zeroize::Zeroizing::new(canonical::encode(message));
    let ciphertext = sender.cipher(secret).seal(entropy, &sender.associated(), &plain);
    let Sender { epoch, step, .. } = *sender;
    canonical::encode(&Sealed { v: VERSION, epoch, step, ciphertext })
}

/// The epoch and the step that a sealed message names; `None` if it is no message of this version.
pub fn message_secret(bytes: &[u8]) -> Option<(EpochId, u32)> {
    let sealed: Sealed = canonical::decode(bytes, SEALED_MESSAGE_BYTES_MAX).ok()?;
    (sealed.v == VERSION && sealed.step <= STEP_MAX).then_some((sealed.epoch, sealed.step))
}

/// Opens a message that `sender` sealed; `None` if it did not.
pub fn open_message(sender: &Sender, secret: &BandSecret, bytes: &[u8]) -> Option<Message> {
    let sealed: Sealed = canonical::decode(bytes, SEALED_MESSAGE_BYTES_MAX).ok()?;
    if (sealed.v, sealed.epoch, sealed.step) != (VERSION, sender.epoch, sender.step) {
        return None;
    }
    let plain = sender.cipher(secret).open(&sender.associated(), &sealed.ciphertext).ok()?;
    let message: Message = canonical::decode(&plain, SEALED_MESSAGE_BYTES_MAX).ok()?;
    (message.body.len() <= MESSAGE_BYTES_MAX).then_some(message)
}

#[cfg(test)]
mod tests {
    use larder_crypto::Secret;

    use super::*;
    use crate::section::Band;

    struct Zero;

    impl Entropy for Zero {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn a_message_opens_for_its_sender_space_epoch_and_step_alone() {
        let (space, device) = (SpaceId::new([1; 32]), DeviceId::new([2; 32]));
        let sender = Sender { space, device, epoch: EpochId::new([3; 32]), step: 6 };
        let secret = BandSecret::new(Band::Green, 6, Secret::new([4; 32]));
        let message = Message { run: [5; 8], count: 7, body: vec![9; MESSAGE_BYTES_MAX] };
        let sealed = seal_message(&mut Zero, &sender, &secret, &message);
        assert!(sealed.len() <= SEALED_MESSAGE_BYTES_MAX);
        assert_eq!(message_secret(&sealed), Some((sender.epoch, 6)));
        assert_eq!(open_message(&sender, &secret, &sealed), Some(message));
        for other in [
            Sender { space: SpaceId::new([9; 32]), ..sender },
            Sender { device: DeviceId::new([9; 32]), ..sender },
            Sender { epoch: EpochId::new([9; 32]), ..sender },
            Sender { step: 7, ..sender },
        ] {
            assert_eq!(open_message(&other, &secret, &sealed), None);
        }
        let other = BandSecret::new(Band::Green, 6, Secret::new([8; 32]));
        assert_eq!(open_message(&sender, &other, &sealed), None);
        for at in [0, 2, 40, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open_message(&sender, &secret, &changed), None, "byte {at}");
        }
        let large = Message { run: [5; 8], count: 7, body: vec![9; MESSAGE_BYTES_MAX + 1] };
        let sealed = seal_message(&mut Zero, &sender, &secret, &large);
        assert_eq!(open_message(&sender, &secret, &sealed), None);
    }
}
