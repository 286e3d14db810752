//! Authenticated encryption: [`XAes`] where nonces are random, [`seal_section`] where each key
//! is used once.

mod gcm;
mod xaes;

use larder_types::limits::SECTION_CHUNK_BYTES;
use zeroize::Zeroizing;

use self::gcm::Gcm;
pub use self::xaes::{NONCE_PREFIX_BYTES, XAes};
use crate::Secret;
pub use crate::error::OpenError;

/// Bytes of a nonce of [`XAes`].
pub const NONCE_BYTES: usize = 24;
/// Bytes of an authentication tag.
pub const TAG_BYTES: usize = 16;

/// Seals `plain` under a key that is used this once: AES-256-GCM over chunks of
/// [`SECTION_CHUNK_BYTES`], each followed by its tag.
///
/// The nonce of a chunk is `0⁷ ‖ index (u32, big-endian) ‖ 1 if more chunks follow, else 0`, so
/// chunks cannot be reordered, dropped or cut off at the end (STREAM: Hoang, Reyhanitabar,
/// Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance",
/// 2015). An empty `plain` is one empty chunk; otherwise no chunk is empty.
pub fn seal_section(key: &Secret<32>, ad: &[u8], plain: &[u8]) -> Vec<u8> {
    let cipher = Gcm::new(key.expose());
    let count = plain.len().div_ceil(SECTION_CHUNK_BYTES).max(1);
    let mut sealed = Vec::with_capacity(plain.len() + count * TAG_BYTES);
    let mut rest = plain;
    for index in 0..count {
        let (chunk, after) = rest.split_at(rest.len().min(SECTION_CHUNK_BYTES));
        rest = after;
        let start = sealed.len();
        sealed.extend_from_slice(chunk);
        let (_, buffer) = sealed.split_at_mut(start);
        let nonce = chunk_nonce(index, index + 1 < count);
        let tag = cipher.seal(&nonce, ad, buffer);
        sealed.extend_from_slice(&tag);
    }
    sealed
}

/// Opens what [`seal_section`] made, if it holds at most `plain_max` bytes.
///
/// # Errors
/// [`OpenError`], also for bytes that [`seal_section`] cannot have made.
pub fn open_section(
    key: &Secret<32>,
    ad: &[u8],
    sealed: &[u8],
    plain_max: usize,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let cipher = Gcm::new(key.expose());
    let pieces = sealed.chunks(SECTION_CHUNK_BYTES + TAG_BYTES);
    let count = pieces.len();
    let plain_len = sealed.len().checked_sub(count * TAG_BYTES).ok_or(OpenError)?;
    if count == 0 || plain_len > plain_max {
        return Err(OpenError);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(plain_len));
    for (index, piece) in pieces.enumerate() {
        let (ciphertext, tag) = piece.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
        if ciphertext.is_empty() && count > 1 {
            return Err(OpenError);
        }
        let start = plain.len();
        plain.extend_from_slice(ciphertext);
        let (_, buffer) = plain.split_at_mut(start);
        let nonce = chunk_nonce(index, index + 1 < count);
        cipher.open(&nonce, ad, buffer, tag)?;
    }
    Ok(plain)
}

fn chunk_nonce(index: usize, more: bool) -> [u8; 12] {
    #[expect(clippy::expect_used, reason = "2^32 chunks are 4 PiB, more than memory holds")]
    let index = u32::try_from(index).expect("fewer than 2^32 chunks");
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(7).zip(index.to_be_bytes()) {
        *to = from;
    }
    if let Some(last) = nonce.last_mut() {
        *last = u8::from(more);
    }
    nonce
}

#[cfg(test)]
mod tests {
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::{AeadInOut, KeyInit};
    use larder_types::Entropy;
    use proptest::prelude::*;

    use super::*;

    struct Counter(u8);
    impl Entropy for Counter {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    #[test]
    fn a_cipher_can_be_shared_between_threads() {
        fn check<T: Send + Sync + Clone>() {}
        check::<XAes>();
        check::<Secret<32>>();
    }

    proptest! {
        #[test]
        fn opening_undoes_sealing_and_any_flipped_bit_is_refused(
            plain: Vec<u8>, ad: Vec<u8>, key: [u8; 32], at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let cipher = XAes::new(&Secret::new(key));
            let mut sealed = cipher.seal(&mut Counter(key[0]), &ad, &plain);
            prop_assert_eq!(&*cipher.open(&ad, &sealed).unwrap(), &plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(cipher.open(&ad, &sealed), Err(OpenError));
        }

        #[test]
        fn short_inputs_are_refused(sealed in prop::collection::vec(any::<u8>(), 0..64)) {
            let key = Secret::new([1; 32]);
            prop_assert!(XAes::new(&key).open(b"", &sealed).is_err());
            prop_assert!(open_section(&key, b"", &sealed, 1 << 20).is_err());
        }
    }

    #[test]
    fn sections_open_at_every_length_around_a_chunk_and_only_whole() {
        const C: usize = SECTION_CHUNK_BYTES;
        let key = Secret::new([7; 32]);
        for len in [0, 1, C - 1, C, C + 1, 2 * C, 2 * C + 5] {
            let plain: Vec<u8> = (0..251).cycle().take(len).collect();
            let sealed = seal_section(&key, b"ad", &plain);
            assert_eq!(sealed.len(), len + len.div_ceil(C).max(1) * TAG_BYTES);
            assert_eq!(*open_section(&key, b"ad", &sealed, len).unwrap(), plain);
            assert!(len == 0 || open_section(&key, b"ad", &sealed, len - 1).is_err());
            assert!(open_section(&key, b"other", &sealed, len).is_err());
            assert!(open_section(&Secret::new([8; 32]), b"ad", &sealed, len).is_err());
            if len > C {
                let (first, rest) = sealed.split_at(C + TAG_BYTES);
                assert!(open_section(&key, b"ad", first, len).is_err(), "cut at a chunk");
                let swapped = [rest, first].concat();
                assert!(open_section(&key, b"ad", &swapped, len).is_err(), "reordered");
            }
        }
    }

    #[test]
    fn one_chunk_is_plain_aes_gcm_with_a_zero_nonce() {
        let key = Secret::new([7; 32]);
        let mut buffer = b"hello".to_vec();
        let tag = Aes256Gcm::new(key.expose().into())
            .encrypt_inout_detached(&[0; 12].into(), b"ad", buffer.as_mut_slice().into())
            .unwrap();
        buffer.extend_from_slice(&tag);
        assert_eq!(seal_section(&key, b"ad", b"hello"), buffer);
    }
}
