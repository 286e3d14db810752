//! What is said on a pairing connection, in four frames:
//!
//! | from | frame | says |
//! |---|---|---|
//! | joiner | [`PairRequest`] | its keys, and a **commitment** to a nonce |
//! | inviter | [`PairAnswer`] | a nonce of its own, and which space it is |
//! | joiner | [`PairReveal`] | the nonce that it is committed to |
//! | inviter | [`PairReply`] | once a person has approved: the welcome |
//!
//! Both nonces and all else that was said make the [`CheckCode`] that both ends show. The joiner is
//! bound to everything before it sees the inviter's nonce, and the inviter gives that before it
//! sees the joiner's: whoever stands between them has chosen all that is his before he can compute
//! either code, so his two codes agree by chance alone, one time in a million. Without the
//! commitment he would try a million nonces of his own until they do.
//!
//! Each side proves to the other that it has the invitation's secret, over a transcript that holds
//! keying material of this very connection and all that the request says: so no message is of use
//! on another connection, and no field can be changed on its way. The welcome is sealed to the
//! joiner's sealing key (HPKE, RFC 9180) under the whole transcript, and nothing is sealed or
//! signed before a person has approved. The joiner knows the inviter besides by its transport key,
//! which the invitation names and TLS proves.

use larder_crypto::check_signing_key;
use larder_crypto::hash::{equal, hmac_sha256, sha256};
use larder_crypto::{SUITE, Secret};
use larder_log::act::DeviceKeys;
pub use larder_types::limits::PAIRING_BYTES_MAX;
use larder_types::{Entropy, Hash, SpaceId, SpaceName, TransportId, canonical};
use minicbor::{Decode, Encode};

use crate::error::PairingError;

pub use crate::invitation::Invitation;
pub use check_code::{CheckCode, NotACheckCode};
pub use short_code::{CodeAnswer, CodeStart, Ends, Guess, NotAShortCode, ShortCode};
pub use welcome::{PairReply, Refusal, Welcome};

mod check_code;
mod short_code;
mod welcome;

/// The label of the keying material (TLS exporter) that a transcript takes.
pub const PAIRING_EXPORTER: &str = "EXPORTER-larder-pairing-v0";

/// A device's label is at most this long, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// What both ends said until the welcome, and the code that people compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    transcript: Hash,
    check_code: CheckCode,
    opening: Hash,
    /// Which space the answer named, and the name that goes with it: the welcome's are the same.
    space: SpaceId,
    name: [u8; 32],
}

impl Agreed {
    fn new(opening: &Hash, answer: &AnswerBody, nonce: &[u8; 32]) -> Self {
        let AnswerBody { space, name, .. } = *answer;
        let said = canonical::encode(answer);
        let transcript = sha256(&[AGREED_LABEL, opening.as_bytes(), nonce, &said]);
        let check_code = CheckCode::of(&transcript);
        Self { transcript, check_code, opening: *opening, space, name }
    }

    /// What both screens show.
    pub const fn check_code(&self) -> CheckCode {
        self.check_code
    }
}

/// The joiner asks to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PairRequest {
    #[n(0)]
    body: RequestBody,
    #[cbor(n(1), with = "minicbor::bytes")]
    proof: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct RequestBody {
    #[n(0)]
    version: u8,
    #[n(1)]
    keys: DeviceKeys,
    #[n(2)]
    label: String,
    #[n(3)]
    commitment: Hash,
}

impl PairRequest {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the frame; nothing in it is proven before [`Self::verify`].
    ///
    /// # Errors
    /// [`PairingError::Malformed`] or [`PairingError::OutOfBounds`].
    pub fn decode(frame: &[u8]) -> Result<Self, PairingError> {
        let request: Self = canonical::decode(frame, PAIRING_BYTES_MAX)?;
        if request.body.version != VERSION {
            return Err(PairingError::OutOfBounds("another version of pairing"));
        }
        check_label(&request.body.label)?;
        Ok(request)
    }

    /// Checks that the sender has the invitation's secret, on this very connection, whose peer
    /// proved the transport key `peer`, and that its keys can be enrolled.
    ///
    /// # Errors
    /// [`PairingError::WrongProof`], so that another open invitation can be tried;
    /// [`PairingError::BadKeys`].
    pub fn verify(
        &self,
        secret: &Secret<16>,
        exporter: &[u8; 32],
        peer: &TransportId,
    ) -> Result<(), PairingError> {
        let opening = opening(&self.body, exporter);
        check_proof(&self.proof, &prove(secret, JOINER, &opening, &[]))?;
        let keys = &self.body.keys;
        if keys.suite != SUITE {
            return Err(PairingError::BadKeys("of another suite; update the older device"));
        }
        if keys.transport != *peer {
            return Err(PairingError::BadKeys("the transport key is not this connection's"));
        }
        check_signing_key(&keys.signing)?;
        keys.ack.check()?;
        keys.sealing.check()?;
        Ok(())
    }

    /// The joiner's keys.
    pub fn keys(&self) -> &DeviceKeys {
        &self.body.keys
    }

    /// What the joining device calls itself.
    pub fn label(&self) -> &str {
        &self.body.label
    }
}

/// The inviter's nonce, and which space it invites to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PairAnswer {
    #[n(0)]
    body: AnswerBody,
    #[cbor(n(1), with = "minicbor::bytes")]
    proof: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct AnswerBody {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; 32],
    #[n(1)]
    space: SpaceId,
    /// Tells a device that has a space of this name already, and nobody who would have to guess.
    #[cbor(n(2), with = "minicbor::bytes")]
    name: [u8; 32],
}

impl PairAnswer {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// The space; believed once [`Asking::hear`] has checked it.
    pub const fn space(&self) -> SpaceId {
        self.body.space
    }
}

/// The nonce that the joiner is committed to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PairReveal {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; 32],
}

impl PairReveal {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`PairingError::Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, PairingError> {
        Ok(canonical::decode(frame, PAIRING_BYTES_MAX)?)
    }
}

/// The joiner's side, between its request and the inviter's answer.
#[derive(Debug)]
pub struct Asking {
    request: PairRequest,
    opening: Hash,
    secret: Secret<16>,
    nonce: Secret<32>,
}

/// What the joiner heard in answer, and says to it.
#[derive(Debug)]
pub struct Heard {
    /// For the welcome, and to be shown.
    pub agreed: Agreed,
    /// To be sent.
    pub reveal: PairReveal,
    /// The space.
    pub space: SpaceId,
    name: [u8; 32],
    opening: Hash,
    secret: Secret<16>,
}

impl Asking {
    /// A request on the connection with this keying material, by a device with these keys that
    /// calls itself `label`.
    ///
    /// # Errors
    /// [`PairingError::OutOfBounds`] for a label beyond [`LABEL_BYTES_MAX`].
    pub fn new(
        entropy: &mut dyn Entropy,
        secret: &Secret<16>,
        exporter: &[u8; 32],
        keys: DeviceKeys,
        label: &str,
    ) -> Result<Self, PairingError> {
        check_label(label)?;
        let nonce: Secret<32> = Secret::random(entropy);
        let commitment = commitment(nonce.expose());
        let body = RequestBody { version: VERSION, keys, label: label.to_owned(), commitment };
        let opening = opening(&body, exporter);
        let proof = prove(secret, JOINER, &opening, &[]);
        let request = PairRequest { body, proof };
        Ok(Self { request, opening, secret: secret.clone(), nonce })
    }

    /// To be sent.
    pub const fn request(&self) -> &PairRequest {
        &self.request
    }

    /// Takes in the inviter's answer: checks that it has the invitation's secret and answers this
    /// very request. Only then the nonce is given away.
    ///
    /// # Errors
    /// [`PairingError::Refused`] if the inviter says no; [`PairingError::Malformed`];
    /// [`PairingError::WrongProof`]; [`PairingError::OutOfBounds`] for a space of zeros, which
    /// stands for none.
    pub fn hear(self, frame: &[u8]) -> Result<Heard, PairingError> {
        if let Ok(refused) = PairReply::decode(frame) {
            return Err(refused.into_error());
        }
        let answer: PairAnswer = canonical::decode(frame, PAIRING_BYTES_MAX)?;
        let said = canonical::encode(&answer.body);
        check_proof(&answer.proof, &prove(&self.secret, ANSWER, &self.opening, &[&said]))?;
        if answer.body.space == SpaceId::new([0; 32]) {
            return Err(PairingError::OutOfBounds("a space of zeros"));
        }
        let nonce = *self.nonce.expose();
        Ok(Heard {
            agreed: Agreed::new(&self.opening, &answer.body, &nonce),
            reveal: PairReveal { nonce },
            space: answer.body.space,
            name: answer.body.name,
            opening: self.opening,
            secret: self.secret,
        })
    }
}

impl Heard {
    /// Whether the inviter's space has this name.
    pub fn is_named(&self, name: &SpaceName) -> bool {
        equal(&self.name, &prove(&self.secret, NAME, &self.opening, &[name.as_str().as_bytes()]))
    }
}

/// The inviter's side, between its answer and what the joiner reveals.
#[derive(Debug)]
pub struct Answering {
    request: PairRequest,
    opening: Hash,
    answer: PairAnswer,
}

impl Answering {
    /// Answers a request that [`PairRequest::verify`] found good.
    pub fn new(
        entropy: &mut dyn Entropy,
        secret: &Secret<16>,
        exporter: &[u8; 32],
        request: PairRequest,
        space: SpaceId,
        name: &SpaceName,
    ) -> Self {
        let opening = opening(&request.body, exporter);
        let mut nonce = [0; 32];
        entropy.fill(&mut nonce);
        let name = prove(secret, NAME, &opening, &[name.as_str().as_bytes()]);
        let body = AnswerBody { nonce, space, name };
        let proof = prove(secret, ANSWER, &opening, &[&canonical::encode(&body)]);
        Self { request, opening, answer: PairAnswer { body, proof } }
    }

    /// What was asked.
    pub const fn request(&self) -> &PairRequest {
        &self.request
    }

    /// To be sent.
    pub const fn answer(&self) -> &PairAnswer {
        &self.answer
    }

    /// Takes in what the joiner reveals.
    ///
    /// # Errors
    /// [`PairingError::WrongReveal`] if it is not what the joiner was committed to.
    pub fn revealed(&self, reveal: &PairReveal) -> Result<Agreed, PairingError> {
        let right = self.request.body.commitment;
        if !equal(commitment(&reveal.nonce).as_bytes(), right.as_bytes()) {
            return Err(PairingError::WrongReveal);
        }
        Ok(Agreed::new(&self.opening, &self.answer.body, &reveal.nonce))
    }
}

fn opening(body: &RequestBody, exporter: &[u8; 32]) -> Hash {
    sha256(&[TRANSCRIPT_LABEL, exporter, &canonical::encode(body)])
}

fn commitment(nonce: &[u8; 32]) -> Hash {
    sha256(&[COMMITMENT_LABEL, nonce])
}

fn prove(secret: &Secret<16>, who: &[u8], transcript: &Hash, said: &[&[u8]]) -> [u8; 32] {
    let said = sha256(said);
    hmac_sha256(secret.expose(), &[PROOF_LABEL, who, transcript.as_bytes(), said.as_bytes()])
}

fn check_proof(given: &[u8; 32], right: &[u8; 32]) -> Result<(), PairingError> {
    if equal(given, right) { Ok(()) } else { Err(PairingError::WrongProof) }
}

fn check_label(label: &str) -> Result<(), PairingError> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        return Err(PairingError::OutOfBounds("a label is 1 to 128 bytes of printable text"));
    }
    Ok(())
}

const VERSION: u8 = 0;
const TRANSCRIPT_LABEL: &[u8] = b"larder/pair-transcript/v0";
const COMMITMENT_LABEL: &[u8] = b"larder/pair-commitment/v0";
const AGREED_LABEL: &[u8] = b"larder/pair-agreed/v0";
const CODE_LABEL: &[u8] = b"larder/pair-code/v0";
const PROOF_LABEL: &[u8] = b"larder/pair-proof/v0";
const WELCOME_LABEL: &[u8] = b"larder/pair-welcome/v0";
const CODE_END_LABEL: &[u8] = b"larder/pair-end/v0";
const CODE_SECRET_LABEL: &[u8] = b"larder/pair-short/v0";
const JOINER: &[u8] = b"joiner";
const ANSWER: &[u8] = b"answer";
const NAME: &[u8] = b"name";
const INVITER: &[u8] = b"inviter";

#[cfg(test)]
mod tests;
