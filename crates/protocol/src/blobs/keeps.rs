//! What a device may not read any more and keeps until another one has it.

use larder_log::Band;
use larder_log::adoption::Adopted;
use larder_types::Hash;

/// Things that one device keeps until another has them, by what both know them by; or those of them
/// that the other holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Keeps {
    /// Sealed chunks of blobs, by their digests.
    #[n(0)]
    pub chunks: Vec<Hash>,
    /// Sections.
    #[n(1)]
    pub sections: Vec<Adopted>,
    /// All that a snapshot stands for, up to a band, by the snapshot's id.
    #[n(2)]
    pub snapshots: Vec<(Hash, Band)>,
}

impl Keeps {
    /// How many things they are.
    pub fn len(&self) -> usize {
        self.chunks.len() + self.sections.len() + self.snapshots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves those that are among `others`.
    pub(super) fn retain_of(&mut self, others: &Self) {
        self.chunks.retain(|chunk| others.chunks.contains(chunk));
        self.sections.retain(|section| others.sections.contains(section));
        self.snapshots.retain(|snapshot| others.snapshots.contains(snapshot));
    }
}

/// What one of them takes in CBOR, at most: a section.
pub(super) const BYTES_MAX: usize = 1 + 34 + 9 + 5 + 34;
