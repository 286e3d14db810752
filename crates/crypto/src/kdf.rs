//! Key derivation: HKDF with SHA-256 (RFC 5869).

use hkdf::Hkdf;
use sha2::Sha256;

use crate::Secret;

/// 32 bytes derived from `ikm`; an empty `salt` is the salt of 32 zero bytes (RFC 5869 §2.2).
///
/// `info` starts with a label that names the purpose, so that no two purposes share a key.
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<32> {
    let mut okm = zeroize::Zeroizing::new([0; 32]);
    expand(ikm, salt, info, &mut okm);
    Secret::new(*okm)
}

#[expect(clippy::expect_used, reason = "32 bytes are within the 8160 that SHA-256 can expand to")]
fn expand(ikm: &[u8], salt: &[u8], info: &[u8], okm: &mut [u8; 32]) {
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, okm).expect("32 bytes are never too many");
}
