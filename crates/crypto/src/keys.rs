use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use larder_types::{DeviceId, Entropy, TransportId};
use minicbor::bytes::ByteArray;
use rand_core::{Infallible, TryCryptoRng, TryRng};
use zeroize::Zeroizing;

use crate::Secret;
use crate::error::{BadKey, BadSignature, OpenError};
use crate::hash::sha256;

/// The suite that a format names where it carries keys: Ed25519, and HPKE with X-Wing (ML-KEM-768
/// and X25519), HKDF-SHA256 and AES-256-GCM. Others leave room for ML-DSA.
pub const SUITE: u16 = 2;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The key with these bytes, unchecked.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The key's bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&larder_types::hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes: ByteArray<32> = minicbor::Decode::decode(d, ctx)?;
                Ok(Self(*bytes))
            }
        }
    };
}

public_key!(
    /// The public half of an [`AckKey`].
    AckPublic
);
public_key!(
    /// The public half of a [`RecoveryKey`].
    RecoveryPublic
);

macro_rules! signing_key {
    ($(#[$doc:meta])* $name:ident, $public:ident -> $public_type:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// A fresh key.
            pub fn generate(entropy: &mut dyn Entropy) -> Self {
                Self::from_secret(&Secret::random(entropy))
            }

            /// The key with this seed (RFC 8032 §5.1.5).
            pub fn from_secret(seed: &Secret<32>) -> Self {
                Self(SigningKey::from_bytes(seed.expose()))
            }

            /// The seed, for storage under a wrapping key.
            pub fn to_secret(&self) -> Secret<32> {
                Secret::new(self.0.to_bytes())
            }

            /// The public half.
            pub fn $public(&self) -> $public_type {
                $public_type::new(self.0.verifying_key().to_bytes())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}, redacted)"), self.$public())
            }
        }
    };
}

signing_key!(
    /// A device's Ed25519 key in one space; its public half is the device's id there. Signs
    /// checkpoints, nothing else.
    DeviceSigningKey, device_id -> DeviceId
);
signing_key!(
    /// A device's Ed25519 key in one space for acknowledgements, nothing else.
    AckKey, public -> AckPublic
);
signing_key!(
    /// A space's Ed25519 key on paper, which gives the space back, and does nothing else.
    RecoveryKey, public -> RecoveryPublic
);
signing_key!(
    /// A profile's Ed25519 key for TLS, nothing else.
    TransportKey, public -> TransportId
);

impl DeviceSigningKey {
    /// Signs `message` (RFC 8032, deterministic).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl AckKey {
    /// Signs `message` (RFC 8032, deterministic).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl RecoveryKey {
    /// Signs `message` (RFC 8032, deterministic).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl RecoveryPublic {
    /// Verifies a signature strictly, as [`verify`] does.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        verify_bytes(&self.0, message, signature)
    }
}

impl TransportKey {
    /// The key as PKCS #8 (RFC 8410), as TLS libraries take it.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        // SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING seed } }
        const PREFIX: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let mut der = Zeroizing::new(Vec::with_capacity(PREFIX.len() + 32));
        der.extend_from_slice(&PREFIX);
        der.extend_from_slice(self.0.as_bytes());
        der
    }
}

impl AckPublic {
    /// Verifies a signature strictly, as [`verify`] does.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        verify_bytes(&self.0, message, signature)
    }

    /// Refuses what [`check_signing_key`] refuses.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn check(&self) -> Result<(), BadKey> {
        check_bytes(&self.0).map(drop)
    }
}

/// Verifies a device's signature: strictly, so that all verifiers agree (no small order, no
/// second encoding of anything).
///
/// # Errors
/// [`BadSignature`].
pub fn verify(device: &DeviceId, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
    verify_bytes(device.as_bytes(), message, signature)
}

/// Refuses a device id that is no canonical point of the curve, or one of small order (under
/// which some signatures verify for every message). Done at enrolment.
///
/// # Errors
/// [`BadKey`].
pub fn check_signing_key(device: &DeviceId) -> Result<(), BadKey> {
    check_bytes(device.as_bytes()).map(drop)
}

fn verify_bytes(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
    check_bytes(key)
        .map_err(|_| BadSignature)?
        .verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| BadSignature)
}

fn check_bytes(key: &[u8; 32]) -> Result<VerifyingKey, BadKey> {
    let point = VerifyingKey::from_bytes(key).map_err(|_| BadKey)?;
    if point.is_weak() || is_y_overlong(key) { Err(BadKey) } else { Ok(point) }
}

/// Whether the y coordinate is written as y + p. The only other second encodings (x = 0 with a
/// sign) belong to points of small order.
fn is_y_overlong(key: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = key;
    *low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high | 0x80 == 0xff
}

/// A message sealed to a [`SealingPublic`] (RFC 9180, base mode, single shot).
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Envelope {
    /// The encapsulated key: 1,120 bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub enc: Vec<u8>,
    /// Ciphertext and tag.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

/// A device's X-Wing key in one space, to which secrets are sealed: what is sealed stays so as long
/// as one of ML-KEM-768 (FIPS 203) and X25519 (RFC 7748) holds
/// (draft-connolly-cfrg-xwing-kem, draft-ietf-hpke-pq).
#[derive(Clone)]
pub struct SealingKey {
    seed: Secret<32>,
    public: SealingPublic,
}

impl SealingKey {
    /// A fresh key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self::from_secret(&Secret::random(entropy))
    }

    /// The key with this seed, from which both of its parts are expanded where it is used.
    pub fn from_secret(seed: &Secret<32>) -> Self {
        let mut public = SealingPublic::new([0; SealingPublic::BYTES]);
        // Any 32 bytes are a seed.
        if let Ok(key) = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()) {
            XWing::sk_to_pk(&key).write_exact(&mut *public.0);
        }
        Self { seed: seed.clone(), public }
    }

    /// The key's seed, for storage under a wrapping key.
    pub fn to_secret(&self) -> Secret<32> {
        self.seed.clone()
    }

    /// The public half.
    pub fn public(&self) -> SealingPublic {
        self.public.clone()
    }

    /// Opens what [`hpke_seal`] made for this key.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        info: &[u8],
        aad: &[u8],
        enc: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = <XWing as Kem>::PrivateKey::from_bytes(self.seed.expose());
        let enc = <XWing as Kem>::EncappedKey::from_bytes(enc);
        let (Ok(key), Ok(enc)) = (key, enc) else { return Err(OpenError) };
        hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &key,
            &enc,
            info,
            ciphertext,
            aad,
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({:?}, redacted)", self.public)
    }
}

/// The public half of a [`SealingKey`]: 1,184 bytes of ML-KEM-768, then 32 of X25519.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SealingPublic(Box<[u8; SealingPublic::BYTES]>);

impl SealingPublic {
    /// How long it is.
    pub const BYTES: usize = 1216;

    /// The key with these bytes, unchecked.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Refuses what is no encapsulation key of ML-KEM-768 (FIPS 203 §7.2), and an X25519 point of
    /// small order, whose shared secret is zero for every key.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn check(&self) -> Result<(), BadKey> {
        <XWing as Kem>::PublicKey::from_bytes(&*self.0).map_err(|_| BadKey)?;
        let point = *self.0.last_chunk::<32>().ok_or(BadKey)?;
        // Clamped keys are multiples of the cofactor, so any one of them tells.
        let any = x25519_dalek::StaticSecret::from([1; 32]);
        let shared = any.diffie_hellman(&x25519_dalek::PublicKey::from(point));
        if shared.was_contributory() { Ok(()) } else { Err(BadKey) }
    }
}

impl fmt::Debug for SealingPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublic(with digest {})", sha256(&[&*self.0]))
    }
}

impl<C> minicbor::Encode<C> for SealingPublic {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&*self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for SealingPublic {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes: ByteArray<{ Self::BYTES }> = minicbor::Decode::decode(d, ctx)?;
        Ok(Self::new(*bytes))
    }
}

/// Seals `plain` to `recipient` in suite [`SUITE`].
///
/// # Errors
/// [`BadKey`] if the recipient's key is none.
pub fn hpke_seal(
    entropy: &mut dyn Entropy,
    recipient: &SealingPublic,
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Result<Envelope, BadKey> {
    let recipient =
        <XWing as Kem>::PublicKey::from_bytes(recipient.as_bytes()).map_err(|_| BadKey)?;
    let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &recipient,
        info,
        plain,
        aad,
        &mut EntropyRng(entropy),
    )
    .map_err(|_| BadKey)?;
    Ok(Envelope { enc: enc.to_bytes().to_vec(), ciphertext })
}

pub(crate) struct EntropyRng<'a>(pub(crate) &'a mut dyn Entropy);

impl TryRng for EntropyRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for EntropyRng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(5).wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    #[test]
    fn keys_survive_storage_and_print_no_secret() {
        let device = DeviceSigningKey::generate(&mut Fixed(1));
        let again = DeviceSigningKey::from_secret(&device.to_secret());
        assert_eq!(again.device_id(), device.device_id());
        let sealing = SealingKey::generate(&mut Fixed(2));
        assert_eq!(SealingKey::from_secret(&sealing.to_secret()).public(), sealing.public());
        for (text, secret) in [
            (format!("{device:?}"), device.to_secret()),
            (format!("{sealing:?}"), sealing.to_secret()),
        ] {
            assert!(text.contains("redacted"));
            assert!(!text.contains(&larder_types::hex(secret.expose())));
        }
    }

    #[test]
    fn a_signature_verifies_for_its_key_and_text_alone() {
        let key = DeviceSigningKey::generate(&mut Fixed(1));
        let signature = key.sign(b"text");
        assert_eq!(verify(&key.device_id(), b"text", &signature), Ok(()));
        assert_eq!(verify(&key.device_id(), b"Text", &signature), Err(BadSignature));
        let other = DeviceSigningKey::generate(&mut Fixed(2));
        assert_eq!(verify(&other.device_id(), b"text", &signature), Err(BadSignature));
        for at in 0..64 {
            let mut flipped = signature;
            flipped[at] ^= 1;
            assert_eq!(verify(&key.device_id(), b"text", &flipped), Err(BadSignature));
        }
    }

    #[test]
    fn keys_that_sign_everything_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(check_signing_key(&DeviceId::new(identity)), Err(BadKey));
        assert_eq!(check_signing_key(&DeviceId::new([0; 32])), Err(BadKey));
        assert_eq!(AckPublic::new(identity).check(), Err(BadKey));
        // y = 3 lies on the curve; 3 + p is its second encoding.
        let mut three = [0; 32];
        three[0] = 3;
        let mut overlong = [0xff; 32];
        overlong[0] = 0xf0;
        overlong[31] = 0x7f;
        assert_eq!(check_signing_key(&DeviceId::new(three)), Ok(()));
        assert_eq!(check_signing_key(&DeviceId::new(overlong)), Err(BadKey));
        let key = DeviceSigningKey::generate(&mut Fixed(1));
        assert_eq!(check_signing_key(&key.device_id()), Ok(()));
    }

    #[test]
    fn an_envelope_opens_for_its_recipient_info_and_data_alone() {
        let key = SealingKey::generate(&mut Fixed(1));
        let sealed = hpke_seal(&mut Fixed(9), &key.public(), b"info", b"aad", b"plain").unwrap();
        let open = |key: &SealingKey, info: &[u8], aad: &[u8], sealed: &Envelope| {
            key.open(info, aad, &sealed.enc, &sealed.ciphertext).map(|plain| plain.to_vec())
        };
        assert_eq!(open(&key, b"info", b"aad", &sealed).unwrap(), b"plain");
        assert!(open(&key, b"Info", b"aad", &sealed).is_err());
        assert!(open(&key, b"info", b"Aad", &sealed).is_err());
        assert!(open(&SealingKey::generate(&mut Fixed(2)), b"info", b"aad", &sealed).is_err());
        let mut flipped = sealed.clone();
        flipped.ciphertext[0] ^= 1;
        assert!(open(&key, b"info", b"aad", &flipped).is_err());
        for enc in [vec![], vec![0; 32], vec![0; sealed.enc.len()], sealed.enc[1..].to_vec()] {
            let other = Envelope { enc, ..sealed.clone() };
            assert!(open(&key, b"info", b"aad", &other).is_err());
        }
    }

    #[test]
    fn a_sealing_key_has_two_parts_that_are_sound() {
        let good = SealingKey::generate(&mut Fixed(1)).public();
        assert_eq!(good.check(), Ok(()));
        let mut small_order = *good.as_bytes();
        small_order[SealingPublic::BYTES - 32..].fill(0);
        assert_eq!(SealingPublic::new(small_order).check(), Err(BadKey));
        // Coefficients that are not below the modulus.
        let mut unreduced = *good.as_bytes();
        unreduced[..3].fill(0xff);
        let unreduced = SealingPublic::new(unreduced);
        assert_eq!(unreduced.check(), Err(BadKey));
        assert_eq!(hpke_seal(&mut Fixed(9), &unreduced, b"", b"", b"plain"), Err(BadKey));
    }

    #[test]
    fn a_transport_key_is_pkcs8() {
        let key = TransportKey::from_secret(&Secret::new([0x11; 32]));
        let der = key.to_pkcs8_der();
        assert_eq!(der.len(), 48);
        assert_eq!(der[16..], [0x11; 32]);
    }
}
