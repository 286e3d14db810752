//! What is said on a pairing connection: one request, one reply.
//!
//! Each side proves to the other that it has the invitation's secret, over a transcript that holds
//! keying material of this very connection and all that the request says: so neither message is
//! of use on another connection, and no field can be changed on its way. The welcome is sealed to
//! the joiner's sealing key (HPKE, RFC 9180) under the same transcript. The joiner knows the
//! inviter besides by its transport key, which the invitation names and TLS proves.

use larder_crypto::check_signing_key;
use larder_crypto::hash::{equal, hmac_sha256, sha256};
use larder_crypto::{Envelope, SUITE, SealingKey, SealingPublic, Secret, hpke_seal};
use larder_log::act::DeviceKeys;
pub use larder_types::limits::PAIRING_BYTES_MAX;
use larder_types::{DeviceId, Entropy, Hash, MemberId, SpaceId, SpaceName, TransportId, canonical};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::error::PairingError;
use crate::frame::shortened;

pub use crate::invitation::Invitation;

/// The label of the keying material (TLS exporter) that a [`Transcript`] takes.
pub const PAIRING_EXPORTER: &str = "EXPORTER-larder-pairing-v0";

/// A device's label is at most this long, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// What a request and the connection it came on say, as a hash that both sides compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript(Hash);

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
    member: Option<MemberId>,
}

impl PairRequest {
    /// A request on the connection with this keying material, by a device with these keys that
    /// calls itself `label`, for a new member or an existing one.
    ///
    /// # Errors
    /// [`PairingError::OutOfBounds`] for a label beyond [`LABEL_BYTES_MAX`].
    pub fn new(
        secret: &Secret<16>,
        exporter: &[u8; 32],
        keys: DeviceKeys,
        label: &str,
        member: Option<MemberId>,
    ) -> Result<Self, PairingError> {
        let body = RequestBody { version: VERSION, keys, label: label.to_owned(), member };
        check_label(label)?;
        let proof = prove(secret, JOINER, &transcript(&body, exporter), &[]);
        Ok(Self { body, proof })
    }

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

    /// What the request and the connection say.
    pub fn transcript(&self, exporter: &[u8; 32]) -> Transcript {
        transcript(&self.body, exporter)
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
    ) -> Result<Transcript, PairingError> {
        let transcript = self.transcript(exporter);
        check_proof(&self.proof, &prove(secret, JOINER, &transcript, &[]))?;
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
        Ok(transcript)
    }

    /// The joiner's keys.
    pub fn keys(&self) -> &DeviceKeys {
        &self.body.keys
    }

    /// What the joining device calls itself.
    pub fn label(&self) -> &str {
        &self.body.label
    }

    /// The member whose device it says it is; `None` for a new one.
    pub fn member(&self) -> Option<MemberId> {
        self.body.member
    }
}

/// The inviter's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PairReply {
    /// The joiner is enrolled.
    #[n(0)]
    Welcome {
        /// The inviter has the invitation's secret.
        #[cbor(n(0), with = "minicbor::bytes")]
        proof: [u8; 32],
        /// A [`Welcome`], sealed.
        #[n(1)]
        envelope: Envelope,
    },
    /// It is not.
    #[n(1)]
    Refused {
        /// Why.
        #[n(0)]
        refusal: Refusal,
        /// The same for people.
        #[n(1)]
        message: String,
    },
}

/// Why an inviter says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The invitation was used before.
    Used,
    /// It is too old.
    Expired,
    /// No open invitation has the secret that the request proves.
    Unknown,
    /// The inviter cannot enrol anybody now.
    Busy,
    /// The inviter's own storage or rights failed it.
    Failed,
    /// The request's keys or version cannot be used.
    Unusable,
    /// A reason of a newer version.
    Other(u16),
}

impl Refusal {
    /// The integer on the wire.
    pub const fn to_wire(self) -> u16 {
        match self {
            Self::Used => 1,
            Self::Expired => 2,
            Self::Unknown => 3,
            Self::Busy => 4,
            Self::Failed => 5,
            Self::Unusable => 6,
            Self::Other(value) => value,
        }
    }

    /// Reads the integer on the wire.
    pub const fn from_wire(value: u16) -> Self {
        match value {
            1 => Self::Used,
            2 => Self::Expired,
            3 => Self::Unknown,
            4 => Self::Busy,
            5 => Self::Failed,
            6 => Self::Unusable,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Used => "it was used before; ask for a new one",
            Self::Expired => "it has expired; ask for a new one",
            Self::Unknown => "the other device does not know it; ask for a new one",
            Self::Busy => "the other device is busy; try again",
            Self::Failed => "the other device could not enrol this one; look at its messages",
            Self::Unusable => "this device's request cannot be used; update the older device",
            Self::Other(_) => "for a reason of a newer version; update this device",
        })
    }
}

impl<C> Encode<C> for Refusal {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.to_wire())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Refusal {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from_wire)
    }
}

/// What a joiner needs to begin its first session.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The space it is in now.
    pub space: SpaceId,
    /// What the space is called.
    pub name: SpaceName,
    /// The space's control secret.
    pub control: Secret<32>,
    /// The inviter's device in that space.
    pub inviter: DeviceId,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WelcomeFields {
    #[n(0)]
    space: SpaceId,
    #[n(1)]
    name: SpaceName,
    #[cbor(n(2), with = "minicbor::bytes")]
    control: [u8; 32],
    #[n(3)]
    inviter: DeviceId,
}

impl Drop for WelcomeFields {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.control);
    }
}

impl Welcome {
    /// The reply to the request that `transcript` is of: for `recipient`, its sealing key.
    ///
    /// # Errors
    /// [`PairingError::BadKeys`] for a sealing key of small order.
    pub fn seal(
        &self,
        entropy: &mut dyn Entropy,
        secret: &Secret<16>,
        transcript: &Transcript,
        recipient: &SealingPublic,
    ) -> Result<PairReply, PairingError> {
        let plain = Zeroizing::new(canonical::encode(&WelcomeFields {
            space: self.space,
            name: self.name.clone(),
            control: *self.control.expose(),
            inviter: self.inviter,
        }));
        let envelope = hpke_seal(entropy, recipient, &info(transcript), b"", &plain)?;
        let proof = prove(secret, INVITER, transcript, &[&envelope.enc, &envelope.ciphertext]);
        Ok(PairReply::Welcome { proof, envelope })
    }
}

impl PairReply {
    /// A refusal.
    pub fn refused(refusal: Refusal, message: &str) -> Self {
        Self::Refused { refusal, message: shortened(message).to_owned() }
    }

    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`PairingError::Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, PairingError> {
        let reply = canonical::decode(frame, PAIRING_BYTES_MAX)?;
        Ok(match reply {
            Self::Refused { refusal, message } => Self::refused(refusal, &message),
            welcome @ Self::Welcome { .. } => welcome,
        })
    }

    /// Checks that the inviter has the invitation's secret and answers this very request, and
    /// opens the welcome with the joiner's sealing key.
    ///
    /// # Errors
    /// [`PairingError::Refused`] if the inviter says no; [`PairingError::WrongProof`];
    /// [`PairingError::DoesNotOpen`].
    pub fn open(
        &self,
        secret: &Secret<16>,
        transcript: &Transcript,
        key: &SealingKey,
    ) -> Result<Welcome, PairingError> {
        let (proof, envelope) = match self {
            Self::Welcome { proof, envelope } => (proof, envelope),
            Self::Refused { refusal, message } => {
                return Err(PairingError::Refused { refusal: *refusal, message: message.clone() });
            }
        };
        let sealed = [&envelope.enc[..], &envelope.ciphertext];
        check_proof(proof, &prove(secret, INVITER, transcript, &sealed))?;
        let plain = key
            .open(&info(transcript), b"", &envelope.enc, &envelope.ciphertext)
            .map_err(|_| PairingError::DoesNotOpen)?;
        let fields: WelcomeFields = canonical::decode(&plain, PAIRING_BYTES_MAX)?;
        Ok(Welcome {
            space: fields.space,
            name: fields.name.clone(),
            control: Secret::new(fields.control),
            inviter: fields.inviter,
        })
    }
}

fn transcript(body: &RequestBody, exporter: &[u8; 32]) -> Transcript {
    Transcript(sha256(&[TRANSCRIPT_LABEL, exporter, &canonical::encode(body)]))
}

fn prove(secret: &Secret<16>, who: &[u8], transcript: &Transcript, sealed: &[&[u8]]) -> [u8; 32] {
    let sealed = sha256(sealed);
    let parts = [PROOF_LABEL, who, transcript.0.as_bytes(), sealed.as_bytes()];
    hmac_sha256(secret.expose(), &parts)
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

fn info(transcript: &Transcript) -> Vec<u8> {
    [WELCOME_LABEL, transcript.0.as_bytes()].concat()
}

const VERSION: u8 = 0;
const TRANSCRIPT_LABEL: &[u8] = b"larder/pair-transcript/v0";
const PROOF_LABEL: &[u8] = b"larder/pair-proof/v0";
const WELCOME_LABEL: &[u8] = b"larder/pair-welcome/v0";
const JOINER: &[u8] = b"joiner";
const INVITER: &[u8] = b"inviter";

#[cfg(test)]
mod tests;
