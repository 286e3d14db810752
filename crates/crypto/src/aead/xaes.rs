use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::KeyInit;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use larder_types::Entropy;
use zeroize::Zeroizing;

use super::gcm::Gcm;
use super::{NONCE_BYTES, OpenError, TAG_BYTES};
use crate::Secret;

/// Bytes at the start of a nonce that choose the AES-256-GCM key; the rest are its nonce.
pub const NONCE_PREFIX_BYTES: usize = 12;

/// Derived ciphers that are kept at hand, each about 1 KiB at most.
const DERIVED_MAX: usize = 32;

type Prefix = [u8; NONCE_PREFIX_BYTES];
type Block = [u8; 16];

/// XAES-256-GCM (C2SP): AES-256-GCM with nonces of 24 bytes, long enough to be drawn at random.
///
/// The first half of a nonce derives a key, the second half is the nonce under it. The 32 keys
/// used last are remembered, so that messages whose nonces begin alike cost no derivation. A
/// clone shares them; with the last clone all are wiped.
#[derive(Clone)]
pub struct XAes(Arc<Inner>);

struct Inner {
    aes: Aes256Enc,
    k1: Zeroizing<Block>,
    /// The one used last comes first.
    derived: Mutex<Vec<(Prefix, Arc<Gcm>)>>,
}

impl XAes {
    /// The cipher under `key`.
    pub fn new(key: &Secret<32>) -> Self {
        Self(Arc::new(Inner::new(key)))
    }

    /// Encrypts `buffer` in place and returns the tag. A nonce must never serve twice.
    pub fn seal_detached(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        buffer: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let (prefix, rest) = halves(nonce);
        self.0.cipher_for(prefix).seal(rest, ad, buffer)
    }

    /// Decrypts `buffer` in place.
    ///
    /// # Errors
    /// [`OpenError`]; what is then in `buffer` is not plaintext.
    pub fn open_detached(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), OpenError> {
        let (prefix, rest) = halves(nonce);
        self.0.cipher_for(prefix).open(rest, ad, buffer, tag)
    }

    /// nonce ‖ ciphertext ‖ tag of `plain`, under a random nonce.
    pub fn seal(&self, entropy: &mut dyn Entropy, ad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, buffer) = sealed.split_at_mut(NONCE_BYTES);
        let tag = self.seal_detached(&nonce, ad, buffer);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`OpenError`], also for bytes too short to be a sealed message.
    pub fn open(&self, ad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        self.open_detached(nonce, ad, &mut buffer, tag)?;
        Ok(buffer)
    }
}

impl Inner {
    /// Steps 1 and 2 of the specification: K1 is the double of AES(0) in GF(2¹²⁸), as in CMAC.
    fn new(key: &Secret<32>) -> Self {
        let aes = Aes256Enc::new(key.expose().into());
        let mut zero = Zeroizing::new(Block::default());
        aes.encrypt_block((&mut *zero).into());
        let l = Zeroizing::new(u128::from_be_bytes(*zero));
        let k1 = Zeroizing::new(((*l << 1) ^ ((*l >> 127) * 0x87)).to_be_bytes());
        Self { aes, k1, derived: Mutex::default() }
    }

    fn cipher_for(&self, prefix: &Prefix) -> Arc<Gcm> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = derived.iter().position(|(known, _)| known == prefix) {
            if let Some(used) = derived.get_mut(..=at) {
                used.rotate_right(1);
            }
        } else {
            derived.truncate(DERIVED_MAX - 1);
            derived.insert(0, (*prefix, self.derive(prefix)));
        }
        #[expect(clippy::expect_used, reason = "it was put there just now")]
        let (_, cipher) = derived.first().expect("there is one at least");
        Arc::clone(cipher)
    }

    /// Steps 3 to 5 of the specification: the key for all nonces that begin with `prefix`.
    fn derive(&self, prefix: &Prefix) -> Arc<Gcm> {
        let mut key = Zeroizing::new([0; 32]);
        for (counter, half) in (1..).zip(key.as_chunks_mut::<16>().0) {
            let message = [0, counter, b'X', 0].into_iter().chain(*prefix);
            half.iter_mut().zip(message.zip(*self.k1)).for_each(|(to, (m, k))| *to = m ^ k);
            self.aes.encrypt_block(half.into());
        }
        Arc::new(Gcm::new(&key))
    }
}

impl Drop for Inner {
    /// Keys were expanded on the stack, and moved from there.
    fn drop(&mut self) {
        crate::wipe_stack();
    }
}

fn halves(nonce: &[u8; NONCE_BYTES]) -> (&Prefix, &[u8; 12]) {
    #[expect(clippy::expect_used, reason = "both halves have 12 of 24 bytes")]
    nonce.split_first_chunk().and_then(|(a, b)| Some((a, b.try_into().ok()?))).expect("halves")
}

#[cfg(test)]
mod tests {
    use xaes_256_gcm::Xaes256Gcm;
    use xaes_256_gcm::aead::AeadInOut;

    use super::*;

    #[test]
    fn it_agrees_with_another_implementation_while_prefixes_come_and_go() {
        let key = [3; 32];
        let (ours, other) = (XAes::new(&Secret::new(key)), Xaes256Gcm::new(&key.into()));
        let mut used = std::collections::BTreeSet::new();
        for round in 0..4_u8 {
            for i in 0..100_u8 {
                let mut nonce = [i.wrapping_mul(i) % 50; NONCE_BYTES];
                nonce[NONCE_PREFIX_BYTES..].fill(round.wrapping_mul(100).wrapping_add(i));
                used.insert(nonce[0]);
                let mut plain = vec![i; usize::from(i) * 41];
                let (mut a, mut b) = (plain.clone(), plain.clone());
                let tag = ours.seal_detached(&nonce, b"ad", &mut a);
                let expected =
                    other.encrypt_inout_detached(&nonce.into(), b"ad", b.as_mut_slice().into());
                assert_eq!((&a, tag), (&b, expected.unwrap().into()));
                ours.open_detached(&nonce, b"ad", &mut a, &tag).unwrap();
                assert_eq!(a, plain);
                plain.clear();
            }
        }
        assert!(used.len() > 20, "{}", used.len());
    }

    #[test]
    fn it_remembers_no_more_than_it_says_and_forgets_the_oldest() {
        let cipher = XAes::new(&Secret::new([3; 32]));
        let known = |cipher: &XAes| -> Vec<u8> {
            cipher.0.derived.lock().unwrap().iter().map(|(prefix, _)| prefix[0]).collect()
        };
        for i in 0..40 {
            cipher.seal_detached(&[i; NONCE_BYTES], b"", &mut []);
            cipher.seal_detached(&[0; NONCE_BYTES], b"", &mut []);
        }
        let mut expected = vec![0];
        expected.extend((9..40).rev());
        assert_eq!(known(&cipher.clone()), expected);
        assert_eq!(expected.len(), DERIVED_MAX);
    }
}
