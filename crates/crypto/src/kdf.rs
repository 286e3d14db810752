//! Key derivation: HKDF with SHA-256 (RFC 5869).

use hkdf::Hkdf;
use sha2::Sha256;

use crate::Secret;

/// 32 bytes derived from `ikm`; an empty `salt` is the salt of 32 zero bytes (RFC 5869 §2.2).
///
/// `info` starts with a label that names the purpose, so that no two purposes share a key.
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<32> {
    HkdfSha256::new(ikm, salt).expand(info)
}

/// [`hkdf_sha256`] in its two steps, for several values from the same `ikm` and `salt`.
#[derive(Clone)]
pub struct HkdfSha256(Hkdf<Sha256>);

impl HkdfSha256 {
    /// The first step, extract.
    pub fn new(ikm: &[u8], salt: &[u8]) -> Self {
        Self(Hkdf::new(Some(salt), ikm))
    }

    /// The second step, expand, to 32 bytes.
    pub fn expand(&self, info: &[u8]) -> Secret<32> {
        let mut okm = zeroize::Zeroizing::new([0; 32]);
        self.fill(info, &mut okm);
        Secret::new(*okm)
    }

    #[expect(clippy::expect_used, reason = "SHA-256 expands to up to 8160 bytes")]
    fn fill(&self, info: &[u8], okm: &mut [u8; 32]) {
        self.0.expand(info, okm).expect("32 bytes are never too many");
    }
}

impl std::fmt::Debug for HkdfSha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HkdfSha256(redacted)")
    }
}
