//! The secrets of one space that open and seal its sections. Nothing outside this crate holds them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, Secret};
use larder_log::act::DeviceKeys;
use larder_log::epoch::{ControlSecret, EpochSecrets};
use larder_log::{Address, Band, Class, EntryBuilder, Header, Opened, SectionCommitment};
use larder_types::{DeviceId, Entropy, EpochId, TransportId};

use crate::{Error, Result};

/// One device's own keys in one space.
/// Those that are no vectors stay in one place: what is moved leaves a copy of itself behind.
pub(crate) struct OwnKeys {
    pub(crate) signing: Box<DeviceSigningKey>,
    pub(crate) ack: Box<AckKey>,
    pub(crate) sealing: SealingKey,
}

impl OwnKeys {
    pub(crate) fn generate(entropy: &mut dyn Entropy) -> Self {
        Self {
            signing: Box::new(DeviceSigningKey::generate(entropy)),
            ack: Box::new(AckKey::generate(entropy)),
            sealing: SealingKey::generate(entropy),
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.signing.device_id()
    }

    pub(crate) fn public(&self, transport: TransportId) -> DeviceKeys {
        DeviceKeys {
            suite: larder_crypto::SUITE,
            signing: self.signing.device_id(),
            ack: self.ack.public(),
            sealing: self.sealing.public(),
            transport,
        }
    }
}

/// The same in a space that is in use, where the sealing key is replaced now and then.
pub(crate) struct SpaceKeys {
    pub(crate) signing: Box<DeviceSigningKey>,
    pub(crate) ack: Box<AckKey>,
    pub(crate) sealing: SealingKeys,
}

impl SpaceKeys {
    pub(crate) fn new(keys: OwnKeys, next: Option<SealingKey>) -> Self {
        let OwnKeys { signing, ack, sealing } = keys;
        let all = std::iter::once(sealing).chain(next).collect();
        Self { signing, ack, sealing: SealingKeys(Mutex::new(all)) }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.signing.device_id()
    }
}

/// The sealing keys that others may still seal to, the newest last: one, or two.
pub(crate) struct SealingKeys(Mutex<Vec<SealingKey>>);

impl SealingKeys {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Vec<SealingKey>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an attempt to open a section came to.
pub(crate) enum Opening {
    Opened(Box<Opened>),
    /// The secret it is sealed under is not known here (yet).
    NoSecret,
    /// It does not open, or does not match its commitments: void on every device.
    Void,
}

/// What sealing a section again came to.
pub(crate) enum Resealed {
    /// The bytes that its author committed to.
    Same(Vec<u8>),
    /// Other bytes than those.
    Other,
    /// The secret it is sealed under is not known here.
    NoSecret,
}

/// The control secret and the content secrets of the epochs this device was given.
#[derive(Clone)]
pub(crate) struct Keyring {
    control: ControlSecret,
    epochs: BTreeMap<EpochId, EpochSecrets>,
}

impl Keyring {
    pub(crate) fn new(control: ControlSecret) -> Self {
        Self { control, epochs: BTreeMap::new() }
    }

    pub(crate) fn control(&self) -> &ControlSecret {
        &self.control
    }

    pub(crate) fn insert(&mut self, epoch: EpochId, secrets: EpochSecrets) {
        self.epochs.insert(epoch, secrets);
    }

    pub(crate) fn remove(&mut self, epoch: &EpochId) {
        self.epochs.remove(epoch);
    }

    /// Keeps the secrets of a step at hand.
    pub(crate) fn remember(&mut self, epoch: &EpochId, step: u32) {
        if let Some(secrets) = self.epochs.get_mut(epoch) {
            secrets.remember(step);
        }
    }

    pub(crate) fn forget_before(&mut self, epoch: &EpochId, step: u32) {
        if let Some(secrets) = self.epochs.get_mut(epoch) {
            secrets.forget_before(step);
        }
    }

    /// The first step of each epoch that is held.
    pub(crate) fn first_steps(&self) -> impl Iterator<Item = (EpochId, u32)> {
        self.epochs.iter().map(|(epoch, secrets)| (*epoch, secrets.first_step()))
    }

    pub(crate) fn holds(&self, epoch: &EpochId) -> bool {
        self.epochs.contains_key(epoch)
    }

    pub(crate) fn secrets(&self, epoch: &EpochId) -> Option<&EpochSecrets> {
        self.epochs.get(epoch)
    }

    /// The epochs of which all secrets up to a band are held that were ever sealed under.
    pub(crate) fn held(&self, up_to: Option<Band>) -> Vec<EpochId> {
        let is_whole = |(_, secrets): &(&EpochId, &EpochSecrets)| {
            secrets.first_step() == 0 && secrets.highest() >= up_to.min(Some(Band::Red))
        };
        self.epochs.iter().filter(is_whole).map(|(epoch, _)| *epoch).collect()
    }

    /// Lets go of the secrets of the bands above one, or of all. The epochs that lost some.
    pub(crate) fn forget_above(&mut self, band: Option<Band>) -> Vec<EpochId> {
        let Some(band) = band else {
            return std::mem::take(&mut self.epochs).into_keys().collect();
        };
        let mut lost = Vec::new();
        for (epoch, secrets) in &mut self.epochs {
            if secrets.highest() > Some(band) {
                secrets.forget_above(band);
                lost.push(*epoch);
            }
        }
        lost
    }

    /// A section's band, if it has one.
    pub(crate) fn band(&self, commitment: &SectionCommitment) -> Option<Band> {
        commitment.band(&self.control).ok()
    }

    /// Whether who is cleared up to `clearance`, or an auditor, may have the bytes of this section.
    /// Acts are for everybody, and of what has no band nothing opens for anybody.
    pub(crate) fn is_for(&self, commitment: &SectionCommitment, clearance: Option<Band>) -> bool {
        let reads = |up_to| self.band(commitment).is_none_or(|band| band <= up_to);
        commitment.class == Class::Control as u8 || clearance.is_some_and(reads)
    }

    pub(crate) fn len(&self) -> usize {
        self.epochs.len()
    }

    fn secret(&self, class: u8, epoch: &EpochId, step: u32, band: Band) -> Option<Secret<32>> {
        if class == Class::Control as u8 {
            return Some(self.control.section_secret());
        }
        let secret = self.epochs.get(epoch)?.at(band, step)?;
        Some(secret.secret().clone())
    }

    /// Seals `opened` as the next section of the entry under way.
    pub(crate) fn seal(
        &self,
        entropy: &mut dyn Entropy,
        builder: &mut EntryBuilder,
        (class, band): (Class, Band),
        opened: &Opened,
    ) -> Result<()> {
        let refuse = |e: &dyn std::fmt::Display| Error::Invalid(format!("{e}: split the unit"));
        let address = builder.address(band).map_err(|e| refuse(&e))?;
        let secret = self
            .secret(class as u8, &address.epoch, address.step, address.band)
            .ok_or_else(|| Error::Internal("sealing to an epoch without its secret".into()))?;
        let (commitment, sealed) =
            larder_log::seal_section(entropy, &address, &secret, class, &self.control, opened)
                .map_err(|e| refuse(&e))?;
        builder.push(commitment, sealed);
        Ok(())
    }

    /// Opens section `index` of the entry with `header`.
    pub(crate) fn open(
        &self,
        header: &Header,
        index: u32,
        commitment: &SectionCommitment,
        sealed: &[u8],
    ) -> Opening {
        let Ok(band) = commitment.band(&self.control) else { return Opening::Void };
        let address = address(header, index, band);
        let Some(secret) = self.secret(commitment.class, &header.epoch, header.step, band) else {
            return Opening::NoSecret;
        };
        match larder_log::open_section(&address, &secret, commitment, sealed) {
            Ok(opened) => Opening::Opened(Box::new(opened)),
            Err(_) => Opening::Void,
        }
    }

    /// The section as it is carried to who has no secret for it. `None`: it does not open here, or
    /// is void.
    pub(crate) fn carry(
        &self,
        header: &Header,
        index: u32,
        commitment: &SectionCommitment,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let band = commitment.band(&self.control).ok()?;
        let secret = self.secret(commitment.class, &header.epoch, header.step, band)?;
        let address = address(header, index, band);
        larder_log::carry_section(&address, &secret, commitment, sealed).ok()
    }

    /// Seals a section of another device again, to see whether it is what was sealed.
    pub(crate) fn reseal(
        &self,
        header: &Header,
        index: u32,
        commitment: &SectionCommitment,
        opened: &Opened,
    ) -> Resealed {
        let Ok(band) = commitment.band(&self.control) else { return Resealed::Other };
        let Some(secret) = self.secret(commitment.class, &header.epoch, header.step, band) else {
            return Resealed::NoSecret;
        };
        let address = address(header, index, band);
        match larder_log::reseal_section(&address, &secret, commitment, opened) {
            Some(sealed) => Resealed::Same(sealed),
            None => Resealed::Other,
        }
    }
}

const fn address(header: &Header, index: u32, band: Band) -> Address {
    let Header { space, device, seq, epoch, step, .. } = *header;
    Address { space, device, seq, index, epoch, step, band }
}
