//! What a space's writer counts for its app's metrics.

use std::collections::BTreeMap;

use larder_store::space::sections;
use larder_types::DeviceId;

/// What a writer has counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Histories of documents that were found in memory.
    pub cache_hits: u64,
    /// Those that were not.
    pub cache_misses: u64,
    /// Sections of peers that were judged void, by why.
    pub void: BTreeMap<VoidCause, u64>,
    /// The same by author.
    pub(crate) refused: BTreeMap<(DeviceId, VoidCause), u64>,
    /// Documents that changes from peers left with more than one head: they were edited on two
    /// devices at the same time.
    pub merges: u64,
}

/// Why a section counts for nothing, here as everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VoidCause {
    /// It does not open, or is not what was committed to.
    Seal,
    /// An act that the roster does not allow.
    Act,
    /// Content of a device that might not write there.
    Role,
    /// Content of a band above its device's clearance there.
    Band,
    /// What it holds cannot be read as what it says it is.
    Form,
    /// It creates what its own entry has created.
    Twice,
    /// A change that its document cannot take.
    Change,
}

impl VoidCause {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Act => "act",
            Self::Role => "role",
            Self::Band => "band",
            Self::Form => "form",
            Self::Twice => "twice",
            Self::Change => "change",
        }
    }
}

impl Tally {
    pub(crate) fn void(&mut self, cause: VoidCause, author: DeviceId) -> sections::State {
        *self.void.entry(cause).or_default() += 1;
        *self.refused.entry((author, cause)).or_default() += 1;
        sections::State::Void
    }
}
