//! Pairing by a few digits that a person carries in the head: a PAKE (`larder_crypto::pake`) makes
//! of them the secret that an invitation's text would hold, on one connection alone.

use std::fmt;
use std::str::FromStr;

use larder_crypto::Secret;
use larder_crypto::hash::hmac_sha256;
use larder_crypto::pake::{PAKE_BYTES, Pake, PakeSide};
use larder_types::{Entropy, TransportId, canonical};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{
    CODE_END_LABEL, CODE_SECRET_LABEL, INVITER, JOINER, PAIRING_BYTES_MAX, PairReply, VERSION,
};
use crate::error::PairingError;

/// Eight digits: `1234-5678`. `Display` shows them, `Debug` does not.
#[derive(Clone)]
pub struct ShortCode(Zeroizing<String>);

/// The text is no eight digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a short code is eight digits, as 1234-5678")]
pub struct NotAShortCode;

impl ShortCode {
    const COUNT: u32 = 100_000_000;

    /// Any one, each as likely as the others.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        let even = u32::MAX - u32::MAX % Self::COUNT;
        loop {
            let mut bytes = Zeroizing::new([0; 4]);
            entropy.fill(bytes.as_mut_slice());
            let number = u32::from_be_bytes(*bytes);
            if number < even {
                return Self(Zeroizing::new(format!("{:08}", number % Self::COUNT)));
            }
        }
    }
}

impl fmt::Display for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = self.0.split_at_checked(4).unwrap_or((&self.0, ""));
        write!(f, "{head}-{tail}")
    }
}

impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShortCode(redacted)")
    }
}

impl FromStr for ShortCode {
    type Err = NotAShortCode;

    /// Forgives blanks and dashes.
    fn from_str(text: &str) -> Result<Self, NotAShortCode> {
        if text.len() > 64 {
            return Err(NotAShortCode);
        }
        let mut digits = Zeroizing::new(String::with_capacity(text.len()));
        digits.extend(text.chars().filter(|c| !c.is_whitespace() && *c != '-'));
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAShortCode);
        }
        Ok(Self(digits))
    }
}

/// The joiner begins: a first frame in place of a [`super::PairRequest`], which follows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CodeStart {
    #[n(0)]
    version: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    said: [u8; PAKE_BYTES],
}

/// The inviter's share.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CodeAnswer {
    #[cbor(n(0), with = "minicbor::bytes")]
    said: [u8; PAKE_BYTES],
}

impl CodeStart {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`PairingError::Malformed`] or [`PairingError::OutOfBounds`].
    pub fn decode(frame: &[u8]) -> Result<Self, PairingError> {
        let start: Self = canonical::decode(frame, PAIRING_BYTES_MAX)?;
        if start.version != VERSION {
            return Err(PairingError::OutOfBounds("another version of pairing"));
        }
        Ok(start)
    }

    /// The inviter's answer, and the secret that the joiner has if it has the same code: its
    /// [`super::PairRequest`] proves that.
    ///
    /// # Errors
    /// [`PairingError::BadKeys`].
    pub fn answer(
        &self,
        entropy: &mut dyn Entropy,
        code: &ShortCode,
        ends: &Ends<'_>,
    ) -> Result<(CodeAnswer, Secret<16>), PairingError> {
        let (pake, said) = ends.start(entropy, PakeSide::Second, code);
        Ok((CodeAnswer { said }, ends.secret(pake, &self.said)?))
    }
}

impl CodeAnswer {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }
}

/// The two ends and their connection, in which a secret is good for anything.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// Keying material of the connection.
    pub exporter: &'a [u8; 32],
    /// The transport key that the joiner proved.
    pub joiner: &'a TransportId,
    /// The transport key that the inviter proved.
    pub inviter: &'a TransportId,
}

impl Ends<'_> {
    fn start(
        &self,
        entropy: &mut dyn Entropy,
        side: PakeSide,
        code: &ShortCode,
    ) -> (Pake, [u8; PAKE_BYTES]) {
        let name = |who: &[u8], key: &TransportId| {
            [CODE_END_LABEL, self.exporter, key.as_bytes(), who].concat()
        };
        let (joiner, inviter) = (name(JOINER, self.joiner), name(INVITER, self.inviter));
        Pake::start(entropy, side, code.0.as_bytes(), &joiner, &inviter)
    }

    fn secret(&self, pake: Pake, said: &[u8; PAKE_BYTES]) -> Result<Secret<16>, PairingError> {
        let key = pake.finish(said)?;
        let mac = Zeroizing::new(hmac_sha256(key.expose(), &[CODE_SECRET_LABEL, self.exporter]));
        let half = mac.first_chunk::<16>().copied().unwrap_or_default();
        Ok(Secret::new(half))
    }
}

/// The joiner's side of a [`ShortCode`], on one connection.
#[derive(Debug)]
pub struct Guess {
    pake: Pake,
    start: CodeStart,
}

impl Guess {
    /// Begins.
    pub fn new(entropy: &mut dyn Entropy, code: &ShortCode, ends: &Ends<'_>) -> Self {
        let (pake, said) = ends.start(entropy, PakeSide::First, code);
        Self { pake, start: CodeStart { version: VERSION, said } }
    }

    /// To be sent.
    pub const fn start(&self) -> &CodeStart {
        &self.start
    }

    /// Takes in the inviter's answer. The secret is the inviter's only if the code is: then that
    /// answers the [`super::PairRequest`] which is made with it.
    ///
    /// # Errors
    /// [`PairingError::Refused`], [`PairingError::Malformed`], [`PairingError::BadKeys`].
    pub fn secret(self, frame: &[u8], ends: &Ends<'_>) -> Result<Secret<16>, PairingError> {
        if let Ok(refused) = PairReply::decode(frame) {
            return Err(refused.into_error());
        }
        let answer: CodeAnswer = canonical::decode(frame, PAIRING_BYTES_MAX)?;
        ends.secret(self.pake, &answer.said)
    }
}
