use larder_crypto::{Envelope, SealingKey, SealingPublic, Secret, hpke_seal};
use larder_types::{DeviceId, Entropy, Hash, SpaceId, SpaceName, canonical};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{Agreed, INVITER, NAME, PAIRING_BYTES_MAX, WELCOME_LABEL, check_proof, equal, prove};
use crate::error::PairingError;
use crate::frame::shortened;

/// The inviter's last word.
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
    /// It was tried too often without success.
    Burned,
    /// A person said no.
    Declined,
    /// The short code is another one.
    WrongCode,
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
            Self::Burned => 7,
            Self::Declined => 8,
            Self::WrongCode => 9,
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
            7 => Self::Burned,
            8 => Self::Declined,
            9 => Self::WrongCode,
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
            Self::Burned => "it was tried too often without success; ask for a new one",
            Self::Declined => "the other device's owner did not approve; ask for a new one",
            Self::WrongCode => "the code is another one; after three wrong ones it is burned",
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
    /// The reply to what was `agreed`: for `recipient`, the joiner's sealing key.
    ///
    /// # Errors
    /// [`PairingError::BadKeys`] for a sealing key of small order.
    pub fn seal(
        &self,
        entropy: &mut dyn Entropy,
        secret: &Secret<16>,
        agreed: &Agreed,
        recipient: &SealingPublic,
    ) -> Result<PairReply, PairingError> {
        let plain = Zeroizing::new(canonical::encode(&WelcomeFields {
            space: self.space,
            name: self.name.clone(),
            control: *self.control.expose(),
            inviter: self.inviter,
        }));
        let envelope = hpke_seal(entropy, recipient, &info(agreed), b"", &plain)?;
        let proof =
            prove(secret, INVITER, &agreed.transcript, &[&envelope.enc, &envelope.ciphertext]);
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

    pub(super) fn into_error(self) -> PairingError {
        match self {
            Self::Refused { refusal, message } => PairingError::Refused { refusal, message },
            Self::Welcome { .. } => PairingError::OutOfBounds("a welcome out of turn"),
        }
    }

    /// Checks that the inviter has the invitation's secret and heard all that was said, opens the
    /// welcome with the joiner's sealing key, and checks that it is to the space of the answer.
    ///
    /// # Errors
    /// [`PairingError::Refused`] if the inviter says no; [`PairingError::WrongProof`];
    /// [`PairingError::DoesNotOpen`]; [`PairingError::OutOfBounds`] if it is to another space, or
    /// under another name, than the answer said.
    pub fn open(
        &self,
        secret: &Secret<16>,
        agreed: &Agreed,
        key: &SealingKey,
    ) -> Result<Welcome, PairingError> {
        let (proof, envelope) = match self {
            Self::Welcome { proof, envelope } => (proof, envelope),
            Self::Refused { .. } => return Err(self.clone().into_error()),
        };
        let sealed = [&envelope.enc[..], &envelope.ciphertext];
        check_proof(proof, &prove(secret, INVITER, &agreed.transcript, &sealed))?;
        let plain = key
            .open(&info(agreed), b"", &envelope.enc, &envelope.ciphertext)
            .map_err(|_| PairingError::DoesNotOpen)?;
        let fields: WelcomeFields = canonical::decode(&plain, PAIRING_BYTES_MAX)?;
        let name = prove(secret, NAME, &agreed.opening, &[fields.name.as_str().as_bytes()]);
        if fields.space != agreed.space || !equal(&name, &agreed.name) {
            return Err(PairingError::OutOfBounds("a welcome to another space than was named"));
        }
        Ok(Welcome {
            space: fields.space,
            name: fields.name.clone(),
            control: Secret::new(fields.control),
            inviter: fields.inviter,
        })
    }
}

fn info(agreed: &Agreed) -> Vec<u8> {
    let transcript: &Hash = &agreed.transcript;
    [WELCOME_LABEL, transcript.as_bytes()].concat()
}
