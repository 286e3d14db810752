use larder_types::{DeviceId, EntryHash, SpaceId};

use crate::{Error, Result};

/// Proof of a commit, which anyone can check without any key of the household's: the entry's
/// header, its place in its device's log, and the device's signature over that log. 1 to 2 KB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whose log the entry is in.
    pub device: DeviceId,
    /// Its number there, from 1.
    pub seq: u64,
    /// The hash of its header, which commits to every byte of it.
    pub entry: EntryHash,
    proof: larder_engine::Receipt,
}

impl Receipt {
    /// The space.
    pub fn space(&self) -> SpaceId {
        self.proof.checkpoint.space
    }

    /// How many entries the log had when this was made.
    pub fn size(&self) -> u64 {
        self.proof.checkpoint.size
    }

    /// Checks the proof and the signature, with what the receipt itself holds.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if any of it was altered.
    pub fn verify(&self) -> Result<()> {
        match self.proof.verify() {
            Ok(header) if header.device == self.device && header.seq == self.seq => Ok(()),
            Ok(_) => Err(corrupt("the receipt is of another entry")),
            Err(error) => Err(corrupt(&format!("the receipt does not verify: {error}"))),
        }
    }

    /// The receipt as text, in the format of C2SP tlog-proof, which other tools verify too.
    pub fn to_tlog_proof(&self) -> String {
        self.proof.to_tlog_proof()
    }
}

impl TryFrom<larder_engine::Receipt> for Receipt {
    type Error = Error;

    fn try_from(proof: larder_engine::Receipt) -> Result<Self> {
        let header = proof.entry().map_err(|error| corrupt(&error.to_string()))?;
        let entry = larder_engine::entry_hash(&proof.header);
        Ok(Self { device: header.device, seq: header.seq, entry, proof })
    }
}

fn corrupt(message: &str) -> Error {
    Error::Engine(larder_engine::Error::Corrupt(message.to_owned()))
}
