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

    /// The vault of one space's database, under the secret of its file.
    pub(crate) fn of_space(file_secret: &Secret<32>, space: &SpaceId) -> Self {
        Self(XAes::new(&derived(file_secret, space, b"larder/space-vault/v0")))
    }

    /// Seals `secret`; only [`Vault::open`] with the same `purpose` opens it again.
    pub(crate) fn seal(&self, entropy: &mut dyn Entropy, purpose: &str, secret: &[u8]) -> Vec<u8> {
        self.0.seal(entropy, purpose.as_bytes(), secret)
    }

    /// Seals under `to` what is sealed here for `purpose`.
    pub(crate) fn reseal(
        &self,
        to: &Self,
        entropy: &mut dyn Entropy,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let plain = self.0.open(purpose.as_bytes(), sealed);
        let plain = plain.map_err(|_| does_not_open(purpose))?;
        Ok(to.seal(entropy, purpose, &plain))
    }

    /// Opens what [`Vault::seal`] returned.
    pub(crate) fn open<const N: usize>(&self, purpose: &str, sealed: &[u8]) -> Result<Secret<N>> {
        let corrupt = |_| does_not_open(purpose);
        let plain = self.0.open(purpose.as_bytes(), sealed).map_err(corrupt)?;
        let bytes: [u8; N] = plain.as_slice().try_into().map_err(|_| does_not_open(purpose))?;
        Ok(Secret::new(bytes))
    }
}

fn does_not_open(purpose: &str) -> Error {
    Error::Corrupt(format!("the stored secret '{purpose}' does not open"))
}

/// The at-rest key of a profile's database.
pub(crate) fn profile_db_key(profile_key: &Secret<32>) -> Secret<32> {
    kdf::hkdf_sha256(profile_key.expose(), &[], b"larder/profile-db/v0")
}

/// The at-rest key of a space's file. It and the file's vault derive from one secret, which the
/// profile keeps: neither gives the other, and a new secret renews both.
pub(crate) fn space_db_key(file_secret: &Secret<32>, space: &SpaceId) -> Secret<32> {
    derived(file_secret, space, b"larder/space-db/v0")
}

fn derived(file_secret: &Secret<32>, space: &SpaceId, label: &[u8]) -> Secret<32> {
    kdf::hkdf_sha256(file_secret.expose(), space.as_bytes(), label)
}
