use larder_types::canonical;
use larder_types::limits::{DEPS_MAX, HEADER_BYTES_MAX, SECTIONS_MAX, STEP_MAX};
use larder_types::{DeviceId, EntryHash, EpochId, Hash, SpaceId};

use crate::error::HeaderError;
use crate::merkle;

/// The format's version, in every header and act.
pub const VERSION: u8 = 0;

/// An entry of another device's log that the author had applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Dep {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// The entry's place in it, from 1.
    #[n(1)]
    pub seq: u64,
    /// The entry's leaf hash.
    #[n(2)]
    pub entry: EntryHash,
}

/// What a log's leaf commits to: about 150 bytes, and 75 more for each dep.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Header {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// The space; 32 zero bytes in the genesis entry, whose hash is the space.
    #[n(1)]
    pub space: SpaceId,
    /// The author.
    #[n(2)]
    pub device: DeviceId,
    /// The place in the author's log, from 1; the leaf index is one less.
    #[n(3)]
    pub seq: u64,
    /// What the author had applied of other logs and not named before; by device, each once.
    #[n(4)]
    pub deps: Vec<Dep>,
    /// The epoch that DATA sections are sealed in; zero if there is none yet.
    #[n(5)]
    pub epoch: EpochId,
    /// The step of that epoch.
    #[n(6)]
    pub step: u32,
    /// How many sections there are.
    #[n(7)]
    pub n: u32,
    /// The root of the tree over the section commitments.
    #[n(8)]
    pub sections_root: Hash,
}

impl Header {
    /// The canonical encoding, which is what the leaf hash is of.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a header: one encoding, and one only, for each.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: Self = canonical::decode(bytes, HEADER_BYTES_MAX)?;
        header.check()?;
        Ok(header)
    }

    /// The leaf hash of the encoding.
    pub fn hash(&self) -> EntryHash {
        entry_hash(&self.encode())
    }

    /// Whether this is a space's first entry.
    pub fn is_genesis(&self) -> bool {
        self.space.is_zero()
    }

    /// The space that the entry belongs to: for the genesis entry, its own hash.
    pub fn space_id(&self) -> SpaceId {
        if self.is_genesis() { self.hash().into() } else { self.space }
    }

    /// What this header says of `device`'s log, if it names it.
    pub fn dep_on(&self, device: &DeviceId) -> Option<&Dep> {
        let at = self.deps.binary_search_by(|dep| dep.device.cmp(device)).ok()?;
        self.deps.get(at)
    }

    pub(crate) fn check(&self) -> Result<(), HeaderError> {
        if self.v != VERSION {
            return Err(HeaderError::Version(self.v));
        }
        if self.seq == 0 {
            return Err(HeaderError::Invalid("seq starts at 1"));
        }
        // Each step costs a receiver a derivation.
        if self.step > STEP_MAX {
            return Err(HeaderError::Invalid("more steps than an epoch has"));
        }
        if self.n as usize > SECTIONS_MAX {
            return Err(HeaderError::Invalid("too many sections"));
        }
        if self.n == 0 && self.sections_root != merkle::empty_root() {
            return Err(HeaderError::Invalid("a root over no sections"));
        }
        if self.deps.len() > DEPS_MAX {
            return Err(HeaderError::Invalid("too many deps"));
        }
        if !self.deps.is_sorted_by(|a, b| a.device < b.device) {
            return Err(HeaderError::Invalid("deps not in order of device, each once"));
        }
        if self.deps.iter().any(|dep| dep.seq == 0 || dep.device == self.device) {
            return Err(HeaderError::Invalid("a dep on the author's own log, or on no entry"));
        }
        let bare = self.seq == 1 && self.deps.is_empty() && self.epoch.is_zero() && self.step == 0;
        if self.is_genesis() && !bare {
            return Err(HeaderError::Invalid("a genesis entry that is not the first of all"));
        }
        Ok(())
    }
}

/// The leaf hash of a header's exact bytes.
pub fn entry_hash(header: &[u8]) -> EntryHash {
    merkle::leaf_hash(header).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_takes_long_to_derive_is_refused() {
        let header = |step| Header {
            v: VERSION,
            space: SpaceId::new([1; 32]),
            device: DeviceId::new([2; 32]),
            seq: 2,
            deps: Vec::new(),
            epoch: EpochId::new([3; 32]),
            step,
            n: 0,
            sections_root: merkle::empty_root(),
        };
        let read = |step| Header::decode(&header(step).encode());
        assert!(read(STEP_MAX).is_ok());
        assert!(matches!(read(STEP_MAX + 1), Err(HeaderError::Invalid(_))));
        assert!(read(u32::MAX).is_err());
    }
}
