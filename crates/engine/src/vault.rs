//! Secrets at rest: each is sealed under a key that only this crate holds, bound to its purpose.

use larder_crypto::aead::XAes;
use larder_crypto::{Secret, kdf};
use larder_types::{Entropy, SpaceId};

use crate::{Error, Result};

/// Seals secrets before they are put into a database that is itself encrypted under another key,
/// so that whoever holds a space's file and its at-rest key still opens no section.
#[derive(Clone)]
pub(crate) struct Vault(XAes);

impl Vault {
    /// The vault of the profile database.
    pub(crate) fn of_profile(profile_key: &Secret<32>) -> Self {
        Self(XAes::new(&kdf::hkdf_sha256(profile_key.expose(), &[], b"larder/profile-vault/v0")))
    }

    /// The vault of one space's database.
    pub(crate) fn of_space(profile_key: &Secret<32>, space: &SpaceId) -> Self {
        Self(XAes::new(&kdf::hkdf_sha256(
            profile_key.expose(),
            space.as_bytes(),
            b"larder/space-vault/v0",
        )))
    }

    /// Seals `secret`; only [`Vault::open`] with the same `purpose` opens it again.
    pub(crate) fn seal(&self, entropy: &mut dyn Entropy, purpose: &str, secret: &[u8]) -> Vec<u8> {
        self.0.seal(entropy, purpose.as_bytes(), secret)
    }

    /// Opens what [`Vault::seal`] returned.
    pub(crate) fn open<const N: usize>(&self, purpose: &str, sealed: &[u8]) -> Result<Secret<N>> {
        let corrupt = || Error::Corrupt(format!("the stored secret '{purpose}' does not open"));
        let plain = self.0.open(purpose.as_bytes(), sealed).map_err(|_| corrupt())?;
        let bytes: [u8; N] = plain.as_slice().try_into().map_err(|_| corrupt())?;
        Ok(Secret::new(bytes))
    }
}
