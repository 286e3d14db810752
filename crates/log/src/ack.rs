//! Acknowledgements: C2SP tlog-cosignatures, version 1 (Ed25519), by which one device states the
//! largest tree of another's log that it has stored and, where it is cleared, opened.

use larder_crypto::AckKey;
pub use larder_crypto::AckPublic;
use larder_types::{DeviceId, Hash, SpaceId};

use crate::checkpoint::Checkpoint;
use crate::error::NoteError;
use crate::note::{self, TYPE_COSIGNATURE, malformed};

/// One device's statement about one log.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Ack {
    /// Who states it.
    #[n(0)]
    pub acker: DeviceId,
    /// The space.
    #[n(1)]
    pub space: SpaceId,
    /// Whose log it is about.
    #[n(2)]
    pub device: DeviceId,
    /// The size of the tree that is held.
    #[n(3)]
    pub size: u64,
    /// Its root.
    #[n(4)]
    pub root: Hash,
    /// When, in seconds since 1970, as the acker's clock claimed.
    #[n(5)]
    pub time_s: u64,
    /// By the acker's acknowledgement key.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// The key name of a device's acknowledgements: `larder/ack/<device, hex>`.
pub fn key_name(acker: &DeviceId) -> String {
    format!("larder/ack/{acker}")
}

/// The verifier key of a device's acknowledgements, as public tools take it.
pub fn vkey(acker: &DeviceId, key: &AckPublic) -> String {
    note::vkey(&key_name(acker), TYPE_COSIGNATURE, key.as_bytes())
}

impl Ack {
    /// States that `acker` holds the tree of `checkpoint`.
    pub fn sign(checkpoint: &Checkpoint, acker: DeviceId, key: &AckKey, time_s: u64) -> Self {
        let Checkpoint { space, device, size, root } = *checkpoint;
        let signature = key.sign(&message(checkpoint, time_s));
        Self { acker, space, device, size, root, time_s, signature }
    }

    /// What is stated to be held.
    pub const fn checkpoint(&self) -> Checkpoint {
        Checkpoint { space: self.space, device: self.device, size: self.size, root: self.root }
    }

    /// Checks the signature with the acker's acknowledgement key, which its enrolment names.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn verify(&self, key: &AckPublic) -> Result<(), NoteError> {
        // The specification reserves times from 2⁶³ on.
        if i64::try_from(self.time_s).is_err() {
            return Err(NoteError::BadSignature);
        }
        key.verify(&message(&self.checkpoint(), self.time_s), &self.signature)
            .map_err(|_| NoteError::BadSignature)
    }

    /// The signature line, to be added to the signed note of the checkpoint.
    pub fn to_note_line(&self, key: &AckPublic) -> String {
        let name = key_name(&self.acker);
        let key_id = note::key_id(&name, TYPE_COSIGNATURE, key.as_bytes());
        let signature = [self.time_s.to_be_bytes().as_slice(), &self.signature].concat();
        note::signature_line(&name, key_id, &signature)
    }

    /// Reads a signature line (with or without its newline) about `checkpoint`. Does not verify.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] for a line that is no acknowledgement.
    pub fn parse_note_line(checkpoint: &Checkpoint, line: &str) -> Result<Self, NoteError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let refuse = || malformed(1, "not a line of an acknowledgement");
        let (name, _, bytes) = note::parse_signature_line(line).ok_or_else(refuse)?;
        let acker = name.strip_prefix("larder/ack/").and_then(|hex| hex.parse().ok());
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(refuse)?;
        let Checkpoint { space, device, size, root } = *checkpoint;
        Ok(Self {
            acker: acker.ok_or_else(refuse)?,
            space,
            device,
            size,
            root,
            time_s: u64::from_be_bytes(*time),
            signature: signature.try_into().map_err(|_| refuse())?,
        })
    }
}

fn message(checkpoint: &Checkpoint, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{}", checkpoint.body()).into_bytes()
}
