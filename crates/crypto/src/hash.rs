//! SHA-256 (FIPS 180-4), HMAC (RFC 2104) and comparison in constant time.

use hmac::{Hmac, KeyInit, Mac};
use larder_types::Hash;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of the parts, one after the other. Nothing separates them: the caller's format must.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash::new(hasher.finalize().into())
}

/// HMAC-SHA-256 of the parts, one after the other, under a key of any length.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length will do")
}

/// Whether `a` and `b` are equal, in a time that depends on their lengths alone.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_concatenated() {
        let whole = sha256(&[b"abc"]);
        assert_eq!(
            whole.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "FIPS 180-4's example"
        );
        assert_eq!(sha256(&[b"a", b"", b"bc"]), whole);
        assert_eq!(hmac_sha256(b"k", &[b"a", b"bc"]), hmac_sha256(b"k", &[b"abc"]));
        assert_ne!(hmac_sha256(b"k", &[b"abc"]), hmac_sha256(b"K", &[b"abc"]));
    }

    #[test]
    fn comparison_compares() {
        assert!(equal(b"", b"") && equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab"));
    }
}
