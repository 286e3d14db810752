use larder_types::limits::{
    BATCH_ENTRIES_MAX, BATCH_OPENED_BYTES_MAX, ENTRY_BYTES_MAX, SECTION_RATIO_MAX, SECTIONS_MAX,
};
use larder_types::{DeviceId, EntryHash, SpaceId};

use crate::checkpoint::Checkpoint;
use crate::error::{BatchError, SectionError};
use crate::header::{Header, entry_hash};
use crate::merkle::{Frontier, Node};
use crate::section::{SEALED_BYTES_MAX, SectionCommitment, open_carried, sections_root};

mod travel;

/// A section's bytes as they travel beside its commitment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Payload {
    /// Erased, pruned, or not for the receiver.
    #[n(0)]
    Missing,
    /// As the author sealed it.
    #[n(1)]
    Sealed(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Carried: an opened section, packed ([`crate::pack`]).
    #[n(2)]
    Opened(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEntry {
    /// The exact bytes of the header.
    pub header: Vec<u8>,
    /// One for each section.
    pub commitments: Vec<SectionCommitment>,
    /// One for each section.
    pub payloads: Vec<Payload>,
}

/// Entries of one device's log that follow each other, under one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The author.
    pub device: DeviceId,
    /// The first entry's seq.
    pub first_seq: u64,
    /// The entries, in order.
    pub entries: Vec<BatchEntry>,
    /// The author's signature of the checkpoint at the last of them.
    pub signature: [u8; 64],
}

/// A verified entry; its bytes are in the batch, at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry {
    /// The header.
    pub header: Header,
    /// Its leaf hash.
    pub hash: EntryHash,
}

/// What a verified batch adds to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBatch {
    /// One for each entry of the batch.
    pub entries: Vec<VerifiedEntry>,
    /// The log's frontier after the batch.
    pub after: Frontier,
    /// Every perfect subtree that the batch completes.
    pub nodes: Vec<Node>,
    /// The checkpoint that the batch's signature signs.
    pub checkpoint: Checkpoint,
}

impl VerifiedBatch {
    /// The same nodes entry by entry: those that each completes, from its leaf up.
    pub fn nodes_by_entry(&self) -> impl Iterator<Item = &[Node]> {
        self.nodes.chunk_by(|_, next| next.level > 0)
    }
}

impl Batch {
    /// How many entries the log has after the batch.
    pub fn size(&self) -> u64 {
        self.first_seq.saturating_sub(1).saturating_add(self.entries.len() as u64)
    }

    /// Checks everything that can be checked without a secret, cheapest first: what
    /// [`Batch::verify_log`] does, then every section's bytes ([`BatchEntry::verify_payloads`]).
    ///
    /// # Errors
    /// [`BatchError`]; nothing of the batch may then be stored.
    pub fn verify(&self, space: &SpaceId, before: &Frontier) -> Result<VerifiedBatch, BatchError> {
        let verified = self.verify_log(space, before)?;
        for (entry, seq) in self.entries.iter().zip(self.first_seq..) {
            entry.verify_payloads(seq)?;
        }
        Ok(verified)
    }

    /// Checks all but the sections' bytes: headers, order, tree, how much the sections may come to,
    /// and the checkpoint's signature. `before` is the frontier of the author's log as it is here.
    /// Whether the author is enrolled is the roster's to say.
    ///
    /// # Errors
    /// [`BatchError`]; nothing of the batch may then be stored.
    pub fn verify_log(
        &self,
        space: &SpaceId,
        before: &Frontier,
    ) -> Result<VerifiedBatch, BatchError> {
        if self.entries.is_empty() || self.entries.len() > BATCH_ENTRIES_MAX {
            return Err(BatchError::Count(self.entries.len()));
        }
        if self.first_seq.checked_sub(1) != Some(before.size()) {
            return Err(BatchError::NotNext { first: self.first_seq, have: before.size() });
        }
        let mut after = before.clone();
        let mut nodes = Vec::with_capacity(2 * self.entries.len());
        let mut entries = Vec::with_capacity(self.entries.len());
        let sealed = self.entries.iter().map(BatchEntry::sealed_bytes).fold(0, u64::saturating_add);
        if sealed.saturating_mul(SECTION_RATIO_MAX as u64) > BATCH_OPENED_BYTES_MAX as u64 {
            return Err(BatchError::TooLarge { len: sealed });
        }
        for (entry, seq) in self.entries.iter().zip(self.first_seq..) {
            let verified = self.verify_entry(space, entry, seq)?;
            after.append(verified.hash.into(), &mut |node| nodes.push(node));
            entries.push(verified);
        }
        let checkpoint = Checkpoint {
            space: *space,
            device: self.device,
            size: after.size(),
            root: after.root(),
        };
        checkpoint.verify(&self.signature).map_err(|_| BatchError::Signature)?;
        Ok(VerifiedBatch { entries, after, nodes, checkpoint })
    }

    fn verify_entry(
        &self,
        space: &SpaceId,
        entry: &BatchEntry,
        seq: u64,
    ) -> Result<VerifiedEntry, BatchError> {
        let refuse = |reason| Err(BatchError::Entry { seq, reason });
        let header =
            Header::decode(&entry.header).map_err(|source| BatchError::Header { seq, source })?;
        let hash = entry_hash(&entry.header);
        if header.device != self.device || header.seq != seq {
            return refuse("the header is of another log or another place in it");
        }
        let actual_space = if header.is_genesis() { hash.into() } else { header.space };
        if actual_space != *space {
            return refuse("the header is of another space");
        }
        let n = header.n as usize;
        if n > SECTIONS_MAX || entry.commitments.len() != n || entry.payloads.len() != n {
            return refuse("not as many sections as the header says");
        }
        let too_large = |commitment: &SectionCommitment| commitment.len > SEALED_BYTES_MAX as u64;
        if entry.commitments.iter().any(too_large) {
            return refuse("a section larger than sections may be");
        }
        let total: u64 = entry.commitments.iter().map(|commitment| commitment.len).sum();
        if total > ENTRY_BYTES_MAX as u64 {
            return refuse("larger than entries may be");
        }
        if sections_root(&entry.commitments) != header.sections_root {
            return refuse("the sections are not those that the header commits to");
        }
        Ok(VerifiedEntry { header, hash })
    }
}

impl Payload {
    /// Bytes of memory behind it.
    pub fn bytes_held(&self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Sealed(bytes) | Self::Opened(bytes) => bytes.capacity(),
        }
    }
}

impl Batch {
    /// Bytes of memory behind it: what small sections take is many times their bytes on the wire.
    pub fn bytes_held(&self) -> usize {
        let entries = self.entries.iter().map(BatchEntry::bytes_held).sum::<usize>();
        self.entries.capacity() * size_of::<BatchEntry>() + entries
    }
}

impl BatchEntry {
    fn bytes_held(&self) -> usize {
        self.header.capacity()
            + self.commitments.capacity() * size_of::<SectionCommitment>()
            + self.payloads.capacity() * size_of::<Payload>()
            + self.payloads.iter().map(Payload::bytes_held).sum::<usize>()
    }

    /// What the sections that are here take sealed, in whatever form they come.
    pub fn sealed_bytes(&self) -> u64 {
        let sections = self.commitments.iter().zip(&self.payloads);
        let held = sections.filter(|(_, payload)| **payload != Payload::Missing);
        held.map(|(commitment, _)| commitment.len).fold(0, u64::saturating_add)
    }

    /// Checks that the sections' bytes, as far as they are here, are those committed to. `seq` is
    /// for the error.
    ///
    /// # Errors
    /// [`BatchError::Section`].
    pub fn verify_payloads(&self, seq: u64) -> Result<(), BatchError> {
        for (index, (commitment, payload)) in
            self.commitments.iter().zip(&self.payloads).enumerate()
        {
            let refuse = |source| BatchError::Section { seq, index, source };
            match payload {
                Payload::Missing => {}
                Payload::Sealed(sealed) if commitment.is_of(sealed) => {}
                Payload::Sealed(_) => return Err(refuse(SectionError::NotCommitted)),
                Payload::Opened(bytes) => {
                    open_carried(commitment, bytes).map_err(refuse)?;
                }
            }
        }
        Ok(())
    }
}
