//! Epoch secrets: made, sealed to devices, received, derived.

use larder_crypto::hash::{equal, hmac_sha256, sha256};
use larder_crypto::kdf::hkdf_sha256;
use larder_crypto::{SUITE, SealingKey, SealingPublic, Secret, hpke_seal};
use larder_types::{DeviceId, Entropy, EpochId, Hash, SpaceId};

use crate::act::{Envelope, EpochAct, EpochReason};
use crate::error::EpochError;
use crate::header::VERSION;
use crate::labels;
use crate::section::Band;

/// A space's control secret: opens the roster, finds peers, masks bands. Given at enrolment;
/// does not ratchet.
#[derive(Debug, Clone)]
pub struct ControlSecret(Secret<32>);

impl ControlSecret {
    /// A fresh secret, for a new space.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        Self(Secret::random(entropy))
    }

    /// The secret as it was stored or handed over.
    pub const fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The bytes, for storage under a wrapping key and for enrolment.
    pub const fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// What the genesis act commits to.
    pub fn commitment(&self) -> Hash {
        sha256(&[labels::CONTROL_COMMITMENT, self.0.expose()])
    }

    /// The secret that two devices prove to each other to find the spaces they share.
    pub fn discovery(&self) -> Secret<32> {
        hkdf_sha256(self.0.expose(), &[], labels::CONTROL_DISCOVERY)
    }

    /// What masks the band of the section with this key salt.
    pub fn mask(&self, key_salt: &[u8; 16]) -> u8 {
        let [mask, ..] = hmac_sha256(self.0.expose(), &[labels::CONTROL_MASK, key_salt]);
        mask
    }

    /// Where this space's blobs are cut into chunks: a seed for the chunker, so that the lengths of
    /// chunks say less of what they hold to who lacks the secret.
    pub fn blob_cut(&self) -> u64 {
        let secret = hkdf_sha256(self.0.expose(), &[], labels::BLOB_CUT);
        secret.expose().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// What CONTROL sections are sealed under.
    pub fn section_secret(&self) -> Secret<32> {
        hkdf_sha256(self.0.expose(), &[], labels::CONTROL_SECTION)
    }
}

/// The secret of one band at one step of an epoch.
#[derive(Debug, Clone)]
pub struct BandSecret {
    band: Band,
    step: u32,
    secret: Secret<32>,
}

impl BandSecret {
    /// The secret as it was stored.
    pub const fn new(band: Band, step: u32, secret: Secret<32>) -> Self {
        Self { band, step, secret }
    }

    /// The band.
    pub const fn band(&self) -> Band {
        self.band
    }

    /// The step, from 0.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// The secret that section keys of this band and step derive from.
    pub const fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// The secret of the next step. There is no way back.
    #[must_use]
    pub fn next_step(&self) -> Self {
        let secret = hkdf_sha256(self.secret.expose(), &[], labels::STEP);
        Self { band: self.band, step: self.step.saturating_add(1), secret }
    }

    /// The public commitment that the epoch act carries for step 0.
    pub fn commitment(&self) -> Hash {
        sha256(&[labels::BAND_COMMITMENT, &[self.band as u8], self.secret.expose()])
    }

    /// The next lower band's secret at step 0, from this band's at step 0.
    fn lower(&self) -> Option<Self> {
        let band = self.band.lower()?;
        let info = [labels::BAND_LOWER, &[band as u8]].concat();
        let secret = hkdf_sha256(self.secret.expose(), &[], &info);
        Some(Self { band, step: 0, secret })
    }
}

/// The secrets that one device has of one epoch: its highest band and those below.
#[derive(Debug, Clone)]
pub struct EpochSecrets {
    bands: Vec<BandSecret>,
}

impl EpochSecrets {
    /// The secrets as they were stored, in any order.
    pub const fn new(bands: Vec<BandSecret>) -> Self {
        Self { bands }
    }

    /// The highest band's secret and those of the bands below it, which derive from it.
    pub fn from_highest(highest: BandSecret) -> Self {
        let bands = std::iter::successors(Some(highest), BandSecret::lower).collect();
        Self { bands }
    }

    /// The highest band of which secrets are held.
    pub fn highest(&self) -> Option<Band> {
        self.bands.iter().map(BandSecret::band).max()
    }

    /// Lets go of the secrets of the bands above one. There is no way back.
    pub fn forget_above(&mut self, band: Band) {
        self.bands.retain(|secret| secret.band <= band);
    }

    /// All secrets held.
    pub fn bands(&self) -> &[BandSecret] {
        &self.bands
    }

    /// The lowest step that is held.
    pub fn first_step(&self) -> u32 {
        self.bands.iter().map(|secret| secret.step).min().unwrap_or(0)
    }

    /// The highest step that is at hand.
    pub fn last_step(&self) -> u32 {
        self.bands.iter().map(|secret| secret.step).max().unwrap_or(0)
    }

    /// Keeps the secrets of `step` at hand, so that using them costs no derivation.
    pub fn remember(&mut self, step: u32) {
        for band in Band::SHARED {
            let is_held = |secret: &BandSecret| secret.band == band && secret.step == step;
            if !self.bands.iter().any(is_held) {
                self.bands.extend(self.at(band, step));
            }
        }
    }

    /// Lets go of the secrets of the steps before `step`. There is no way back.
    pub fn forget_before(&mut self, step: u32) {
        self.remember(step);
        self.bands.retain(|secret| secret.step >= step);
    }

    /// The secret of `band` at `step`, if this device is cleared for it and still has that step
    /// or an earlier one. Costs one derivation for each step in between.
    pub fn at(&self, band: Band, step: u32) -> Option<BandSecret> {
        let mut secret = self
            .bands
            .iter()
            .filter(|secret| secret.band == band && secret.step <= step)
            .max_by_key(|secret| secret.step)?
            .clone();
        while secret.step < step {
            secret = secret.next_step();
        }
        Some(secret)
    }
}

/// Opens an epoch for `recipients`, each cleared up to its band (BLACK counts as RED: what is
/// BLACK is never sealed). `space` is the header's, so zero in a genesis entry. The opener gets
/// the secrets of every band; it keeps those that it is cleared for, and must itself be among the
/// recipients.
///
/// # Errors
/// [`EpochError::Recipient`] for a sealing key of small order.
pub fn open_epoch_act(
    entropy: &mut dyn Entropy,
    space: &SpaceId,
    opener: DeviceId,
    recipients: &[(DeviceId, SealingPublic, Band)],
    reason: EpochReason,
    supersedes: Vec<EpochId>,
) -> Result<(EpochAct, EpochSecrets), EpochError> {
    let red = BandSecret::new(Band::Red, 0, Secret::random(entropy));
    let secrets = EpochSecrets::from_highest(red);
    let mut envelopes = Vec::with_capacity(recipients.len());
    for (recipient, key, clearance) in recipients {
        let band = (*clearance).min(Band::Red);
        let unusable = || EpochError::Recipient(*recipient);
        let secret = secrets.at(band, 0).ok_or_else(unusable)?;
        let info = envelope_info(space, &opener, recipient, band);
        let sealed =
            hpke_seal(entropy, key, &info, &[], secret.secret.expose()).map_err(|_| unusable())?;
        envelopes.push(Envelope {
            recipient: *recipient,
            band,
            enc: sealed.enc,
            ciphertext: sealed.ciphertext,
        });
    }
    envelopes.sort_by_key(|envelope| envelope.recipient);
    let mut commitments: Vec<(Band, Hash)> =
        secrets.bands.iter().map(|secret| (secret.band, secret.commitment())).collect();
    commitments.sort_by_key(|(band, _)| *band);
    let mut supersedes = supersedes;
    supersedes.sort_unstable();
    supersedes.dedup();
    let act = EpochAct { v: VERSION, suite: SUITE, reason, supersedes, commitments, envelopes };
    Ok((act, secrets))
}

/// The secrets that an epoch act holds for the device `me`; none if it has no envelope for it.
/// `space` is the space of the opening entry's header.
///
/// # Errors
/// [`EpochError::Envelope`]; [`EpochError::Commitment`] if the opener sealed something else than
/// it committed to.
pub fn receive_epoch(
    space: &SpaceId,
    opener: DeviceId,
    act: &EpochAct,
    me: DeviceId,
    key: &SealingKey,
) -> Result<Option<EpochSecrets>, EpochError> {
    let Some(envelope) = act.envelopes.iter().find(|envelope| envelope.recipient == me) else {
        return Ok(None);
    };
    let info = envelope_info(space, &opener, &me, envelope.band);
    let plain = key
        .open(&info, &[], &envelope.enc, &envelope.ciphertext)
        .map_err(|_| EpochError::Envelope)?;
    let secret = Secret::from_slice(&plain).ok_or(EpochError::Envelope)?;
    let secrets = EpochSecrets::from_highest(BandSecret::new(envelope.band, 0, secret));
    let all_committed = secrets.bands.iter().all(|secret| {
        act.commitments.iter().any(|(band, commitment)| {
            *band == secret.band && equal(commitment.as_bytes(), secret.commitment().as_bytes())
        })
    });
    if all_committed { Ok(Some(secrets)) } else { Err(EpochError::Commitment) }
}

fn envelope_info(space: &SpaceId, opener: &DeviceId, recipient: &DeviceId, band: Band) -> Vec<u8> {
    [
        labels::EPOCH_ENVELOPE,
        space.as_bytes(),
        opener.as_bytes(),
        recipient.as_bytes(),
        &[band as u8],
    ]
    .concat()
}
