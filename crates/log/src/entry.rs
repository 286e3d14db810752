use larder_types::limits::ENTRY_BYTES_MAX;
use larder_types::{DeviceId, EntryHash, EpochId, SpaceId};

use crate::batch::{BatchEntry, Payload};
use crate::error::{EntryError, HeaderError};
use crate::header::{Dep, Header, VERSION, entry_hash};
use crate::section::{Address, Band, SectionCommitment, sections_root};

/// Collects what an entry is made of. Sections are sealed for [`Self::address`], one after the
/// other.
#[derive(Debug, Clone)]
pub struct EntryBuilder {
    space: SpaceId,
    device: DeviceId,
    seq: u64,
    deps: Vec<Dep>,
    epoch: EpochId,
    step: u32,
    sections: Vec<(SectionCommitment, Vec<u8>)>,
}

/// A finished entry of this device's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The header.
    pub header: Header,
    /// Its exact bytes.
    pub header_bytes: Vec<u8>,
    /// Its leaf hash.
    pub hash: EntryHash,
    /// The sections' public halves.
    pub commitments: Vec<SectionCommitment>,
    /// The sections' sealed bytes.
    pub sealed: Vec<Vec<u8>>,
}

impl EntryBuilder {
    /// The start of entry `seq`, sealed in `epoch` at `step`. For a genesis entry `space` and
    /// `epoch` are zero.
    pub const fn new(
        space: SpaceId,
        device: DeviceId,
        seq: u64,
        epoch: EpochId,
        step: u32,
    ) -> Self {
        Self { space, device, seq, deps: Vec::new(), epoch, step, sections: Vec::new() }
    }

    /// What the device has applied of other logs and not named before, in any order.
    #[must_use]
    pub fn deps(mut self, mut deps: Vec<Dep>) -> Self {
        deps.sort_by_key(|dep| dep.device);
        self.deps = deps;
        self
    }

    /// Where the next section will stand.
    ///
    /// # Errors
    /// [`EntryError::Header`] if there are too many already.
    pub fn address(&self, band: Band) -> Result<Address, EntryError> {
        let index = u32::try_from(self.sections.len())
            .map_err(|_| HeaderError::Invalid("too many sections"))?;
        let Self { space, device, seq, epoch, step, .. } = *self;
        Ok(Address { space, device, seq, index, epoch, step, band })
    }

    /// Adds what [`crate::seal_section`] made for the last [`Self::address`].
    pub fn push(&mut self, commitment: SectionCommitment, sealed: Vec<u8>) {
        self.sections.push((commitment, sealed));
    }

    /// How many sealed bytes there are so far.
    pub fn sealed_bytes(&self) -> u64 {
        self.sections.iter().map(|(commitment, _)| commitment.len).sum()
    }

    /// The entry.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn finish(self) -> Result<Entry, EntryError> {
        let len = self.sealed_bytes();
        if len > ENTRY_BYTES_MAX as u64 {
            return Err(EntryError::TooLarge { len, max: ENTRY_BYTES_MAX as u64 });
        }
        let (commitments, sealed): (Vec<_>, Vec<_>) = self.sections.into_iter().unzip();
        let header = Header {
            v: VERSION,
            space: self.space,
            device: self.device,
            seq: self.seq,
            deps: self.deps,
            epoch: self.epoch,
            step: self.step,
            n: u32::try_from(commitments.len())
                .map_err(|_| HeaderError::Invalid("too many sections"))?,
            sections_root: sections_root(&commitments),
        };
        header.check()?;
        let header_bytes = header.encode();
        let hash = entry_hash(&header_bytes);
        Ok(Entry { header, header_bytes, hash, commitments, sealed })
    }
}

impl From<Entry> for BatchEntry {
    fn from(entry: Entry) -> Self {
        Self {
            header: entry.header_bytes,
            commitments: entry.commitments,
            payloads: entry.sealed.into_iter().map(Payload::Sealed).collect(),
        }
    }
}
