//! Checkpoints: a device's signature over its log's size and root, as C2SP tlog-checkpoint in a
//! C2SP signed-note of one Ed25519 signature.

use data_encoding::BASE64;
use larder_crypto::{DeviceSigningKey, verify};
use larder_types::{DeviceId, Hash, SpaceId};

use crate::error::NoteError;
use crate::note::{self, TYPE_ED25519, malformed};

/// The origin and key name of a log: `larder/<space, hex>/<device, hex>`.
pub fn origin(space: &SpaceId, device: &DeviceId) -> String {
    format!("larder/{space}/{device}")
}

/// The verifier key of a log, as public tools take it.
pub fn vkey(space: &SpaceId, device: &DeviceId) -> String {
    note::vkey(&origin(space, device), TYPE_ED25519, device.as_bytes())
}

/// A log's size and root, to be signed once for each transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The space.
    pub space: SpaceId,
    /// Whose log.
    pub device: DeviceId,
    /// How many entries the log has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed: origin, size, root.
    pub fn body(&self) -> String {
        let origin = origin(&self.space, &self.device);
        format!("{origin}\n{}\n{}\n", self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// Signs the checkpoint with the log's own key. A device never signs two checkpoints of one
    /// log that contradict each other.
    pub fn sign(&self, key: &DeviceSigningKey) -> [u8; 64] {
        key.sign(self.body().as_bytes())
    }

    /// Checks the device's signature.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn verify(&self, signature: &[u8; 64]) -> Result<(), NoteError> {
        verify(&self.device, self.body().as_bytes(), signature).map_err(|_| NoteError::BadSignature)
    }

    /// The signed note.
    pub fn to_note(&self, signature: &[u8; 64]) -> String {
        let name = origin(&self.space, &self.device);
        let key_id = note::key_id(&name, TYPE_ED25519, self.device.as_bytes());
        format!("{}\n{}", self.body(), note::signature_line(&name, key_id, signature))
    }

    /// Reads a signed note: the checkpoint, and the signature by the key that its origin names.
    /// Lines by other keys are ignored, as the specification says. Does not verify.
    ///
    /// # Errors
    /// [`NoteError::Malformed`], [`NoteError::NoSignature`].
    pub fn parse_note(text: &str) -> Result<(Self, [u8; 64]), NoteError> {
        Self::parse_note_at(text, 1)
    }

    /// As [`Self::parse_note`], of a text that starts on this line of its file.
    pub(crate) fn parse_note_at(text: &str, first: usize) -> Result<(Self, [u8; 64]), NoteError> {
        if text.len() > note::NOTE_BYTES_MAX {
            return Err(malformed(first, "the note is too long"));
        }
        if !text.ends_with('\n') {
            return Err(malformed(first, "the note does not end in a newline"));
        }
        let mut lines = text.split_terminator('\n');
        let mut next = |at, reason| lines.next().ok_or(malformed(first + at, reason));
        let origin = next(0, "no origin")?;
        let (space, device) = parse_origin(origin)
            .ok_or(malformed(first, "the origin is not larder/<space>/<device>"))?;
        let size = note::parse_decimal(next(1, "no size")?)
            .ok_or(malformed(first + 1, "the size is not a decimal number"))?;
        let root = parse_hash(next(2, "no root")?)
            .ok_or(malformed(first + 2, "the root is not a hash in base64"))?;
        if !next(3, "no blank line before the signatures")?.is_empty() {
            return Err(malformed(first + 3, "an extension line, which our logs never have"));
        }
        let checkpoint = Self { space, device, size, root };
        let key_id = note::key_id(origin, TYPE_ED25519, device.as_bytes());
        let mut found = None;
        for (at, line) in lines.enumerate() {
            let (name, id, signature) = note::parse_signature_line(line)
                .ok_or(malformed(first + 4 + at, "not a signature line"))?;
            if name == origin && id == key_id && found.is_none() {
                let signature = signature
                    .try_into()
                    .map_err(|_| malformed(first + 4 + at, "not an Ed25519 signature"))?;
                found = Some(signature);
            }
        }
        Ok((checkpoint, found.ok_or(NoteError::NoSignature)?))
    }
}

/// The space and device that an origin names.
pub(crate) fn parse_origin(origin: &str) -> Option<(SpaceId, DeviceId)> {
    let (space, device) = origin.strip_prefix("larder/")?.split_once('/')?;
    Some((space.parse().ok()?, device.parse().ok()?))
}

/// A hash in base64, in its one encoding.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    Hash::from_slice(&BASE64.decode(text.as_bytes()).ok()?)
}
