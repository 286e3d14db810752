//! What somebody opens who has a device's keys, and has recorded what was sent. For tests: nothing
//! that users run has it.

use larder_crypto::SealingKey;
use larder_log::act::{Act, EpochAct};
use larder_log::epoch::{ControlSecret, EpochSecrets, receive_epoch};
use larder_log::{Class, Header, SectionCommitment};
use larder_store::profile as table;
use larder_types::{DeviceId, EpochId};

use crate::keyring::{Keyring, Opening};
use crate::state::load_keyring;
use crate::{Error, Profile, Result, Space};

/// The keys of one device in one space, in other hands.
pub struct Stolen {
    device: DeviceId,
    keyring: Keyring,
    sealing: Vec<SealingKey>,
}

impl Stolen {
    /// All that the files of a profile that is open hold of a space.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a space that the profile has not; the storage's errors.
    pub fn of(profile: &Profile, space: &Space) -> Result<Self> {
        let (inner, id) = (&profile.inner, space.id());
        let missing = || Error::NotFound(format!("the profile has no space {id}"));
        let row = inner.with_db(|db| Ok(table::space(db, &id)?))?.ok_or_else(missing)?;
        let home = inner.home(&row)?;
        let db = home.open(larder_store::Access::Read)?;
        let keyring = load_keyring(&db, &home.vault)?;
        let own = inner.own_keys(&id)?;
        let device = own.device();
        let sealing = std::iter::once(own.sealing).chain(inner.sealing_next(&id)?).collect();
        Ok(Self { device, keyring, sealing })
    }

    /// Of a device that keeps its keys elsewhere.
    pub fn with_keys(device: DeviceId, control: &ControlSecret, sealing: &SealingKey) -> Self {
        let sealing = vec![SealingKey::from_secret(&sealing.to_secret())];
        Self { device, keyring: Keyring::new(control.clone()), sealing }
    }

    /// Whose keys they are.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// The act of an epoch in a section that was recorded, if it is one.
    pub fn epoch_act(
        &self,
        header: &Header,
        index: u32,
        commitment: &SectionCommitment,
        sealed: &[u8],
    ) -> Option<EpochAct> {
        if commitment.class != Class::Control as u8 {
            return None;
        }
        let opening = self.keyring.open(header, index, commitment, sealed);
        let Opening::Opened(opened) = opening else { return None };
        match Act::read(commitment.class, &opened) {
            Ok(Some(Act::Epoch(act))) => Some(act),
            _ => None,
        }
    }

    /// Gets the secrets of an epoch from its envelope, if that opens: from the first step on.
    pub fn take(&mut self, header: &Header, act: &EpochAct) {
        let (space, me) = (&header.space, self.device);
        let open = |key| receive_epoch(space, header.device, act, me, key).ok().flatten();
        if let Some(secrets) = self.sealing.iter().find_map(open) {
            self.keyring.insert(EpochId::from(header.hash()), secrets);
        }
    }

    /// Whether the secret is held that an entry of this header has its content sealed under.
    pub fn holds(&self, header: &Header) -> bool {
        let first = self.keyring.secrets(&header.epoch).map(EpochSecrets::first_step);
        first.is_some_and(|first| first <= header.step)
    }

    /// Whether a section opens.
    pub fn opens(
        &self,
        header: &Header,
        index: u32,
        commitment: &SectionCommitment,
        sealed: &[u8],
    ) -> bool {
        matches!(self.keyring.open(header, index, commitment, sealed), Opening::Opened(_))
    }
}

impl std::fmt::Debug for Stolen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stolen").field("device", &self.device).finish_non_exhaustive()
    }
}
