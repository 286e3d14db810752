//! What apps asked for and were told, kept beside the engines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use larder_engine::{Object, Receipt, UnitOfWork};
use larder_log::Band;
use larder_types::{DeviceId, EntryHash, IdempotencyKey, ObjectId};

use crate::bands::Changes;
use crate::device::Slot;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) units: Vec<Unit>,
    pub(crate) documents: BTreeMap<ObjectId, Known>,
    /// Devices that were shut out, or may have been.
    pub(crate) shut_out: BTreeSet<DeviceId>,
    /// How many of the entries count of those that were, for sure.
    pub(crate) keeps: BTreeMap<DeviceId, u64>,
    /// The entries of the first device's log that say so.
    pub(crate) revoked_at: BTreeMap<DeviceId, u64>,
    pub(crate) clearances: Changes,
    /// Whether one of those may not have come to be.
    pub(crate) is_unsure_of_bands: bool,
    /// What is left of a document that parts were taken out of, with that document.
    pub(crate) redacted: BTreeMap<ObjectId, ObjectId>,
    tokens: u64,
}

/// A unit of work, and what its app was told of it.
pub(crate) struct Unit {
    pub(crate) slot: Slot,
    pub(crate) author: DeviceId,
    pub(crate) work: UnitOfWork,
    pub(crate) operations: Vec<Operation>,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) fate: Fate,
    /// Whether it is in the log of each of two copies, as two entries.
    pub(crate) is_twice: bool,
}

/// What an app was told.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// Nothing yet.
    Waiting,
    /// It is in the log, for good.
    Committed(Box<Committed>),
    /// It is not, and never will be.
    Refused,
    /// Neither: the device or its disk failed meanwhile.
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) seq: u64,
    pub(crate) entry: EntryHash,
    pub(crate) receipt: Receipt,
}

/// What a unit does to one document.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create {
        object: ObjectId,
        token: String,
        value: Object,
        is_shared: bool,
        /// A word that may be taken out of it.
        aside: Option<String>,
    },
    /// Adds a line with the token to its text, to the version that was `before`.
    Edit {
        object: ObjectId,
        token: String,
        before: Object,
        value: Object,
    },
    /// Puts a value whatever is there, and so may take lines away.
    Overwrite {
        object: ObjectId,
    },
    Delete {
        object: ObjectId,
    },
    /// A unit of its own: nothing of the document is to be left anywhere.
    Erase {
        object: ObjectId,
    },
    /// So is this: one part of the document goes, and the rest has another id.
    Redact {
        object: ObjectId,
    },
    /// Into the trash, or out of it.
    Trash {
        object: ObjectId,
        is_in: bool,
    },
}

/// Whether these operations of a unit erase a document, or a part of it: then there is one.
pub(crate) fn is_erasure(operations: &[Operation]) -> bool {
    matches!(operations, [Operation::Erase { .. } | Operation::Redact { .. }])
}

impl Operation {
    pub(crate) const fn object(&self) -> ObjectId {
        match self {
            Self::Create { object, .. }
            | Self::Edit { object, .. }
            | Self::Overwrite { object }
            | Self::Delete { object }
            | Self::Erase { object }
            | Self::Redact { object }
            | Self::Trash { object, .. } => *object,
        }
    }

    /// The text that its app had read before it.
    pub(crate) fn read(&self) -> Option<&str> {
        match self {
            Self::Edit { before, .. } => before.get("text")?.as_str(),
            _ => None,
        }
    }

    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::Create { token, .. } | Self::Edit { token, .. } => Some(token),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object().to_string();
        let object = &object[..6];
        match self {
            Self::Create { token, .. } => write!(f, "create {object} with {token}"),
            Self::Edit { token, .. } => write!(f, "edit {object} with {token}"),
            Self::Overwrite { .. } => write!(f, "overwrite {object}"),
            Self::Delete { .. } => write!(f, "delete {object}"),
            Self::Erase { .. } => write!(f, "erase {object}"),
            Self::Redact { .. } => write!(f, "redact {object}"),
            Self::Trash { is_in: true, .. } => write!(f, "trash {object}"),
            Self::Trash { .. } => write!(f, "take {object} out of the trash"),
        }
    }
}

/// What is known of one document's id.
#[derive(Default)]
pub(crate) struct Known {
    /// The band of the documents that were made under it.
    pub(crate) band: Option<Band>,
    /// Indexes of the units that touch it.
    pub(crate) units: Vec<usize>,
    /// Its value, as long as one device alone wrote it, one unit after the other.
    pub(crate) exact: Exact,
}

#[derive(Default)]
pub(crate) enum Exact {
    #[default]
    Unwritten,
    /// This device wrote this, and nobody else anything.
    By(DeviceId, Object),
    /// The same, and it is in the trash.
    Trashed(DeviceId, Object),
    /// Edits may have met.
    Lost,
}

impl Model {
    /// A line that occurs nowhere else, and a word of it.
    pub(crate) fn token(&mut self) -> String {
        self.tokens += 1;
        format!("q{}z", self.tokens)
    }

    pub(crate) fn add(&mut self, unit: Unit) -> usize {
        let index = self.units.len();
        for operation in &unit.operations {
            let known = self.documents.entry(operation.object()).or_default();
            if known.units.last() != Some(&index) {
                known.units.push(index);
            }
        }
        self.units.push(unit);
        index
    }

    /// The unit is in its author's log now. Whether it was before, by another receipt.
    pub(crate) fn committed(
        &mut self,
        index: usize,
        receipt: Receipt,
        entry: EntryHash,
        is_copied: bool,
    ) {
        let unit = &mut self.units[index];
        let seq = receipt.index + 1;
        if let Fate::Committed(before) = &unit.fate {
            assert!(
                is_copied || (before.seq, before.entry) == (seq, entry),
                "a unit with an idempotency key was committed twice"
            );
            unit.is_twice |= (before.seq, before.entry) != (seq, entry);
            return;
        }
        unit.fate = Fate::Committed(Box::new(Committed { seq, entry, receipt }));
        let (author, operations) = (unit.author, unit.operations.clone());
        for operation in operations {
            let known = self.documents.entry(operation.object()).or_default();
            known.exact = std::mem::take(&mut known.exact).after(&author, &operation);
        }
    }

    /// It may or may not be in the log.
    pub(crate) fn lost_sight_of(&mut self, index: usize) {
        let unit = &mut self.units[index];
        unit.fate = Fate::Unknown;
        for operation in &unit.operations {
            self.documents.entry(operation.object()).or_default().exact = Exact::Lost;
        }
    }

    /// Units that their author was told are committed.
    pub(crate) fn committed_units(&self) -> impl Iterator<Item = (&Unit, &Committed)> {
        self.units.iter().filter_map(|unit| match &unit.fate {
            Fate::Committed(committed) => Some((unit, &**committed)),
            _ => None,
        })
    }
}

impl Exact {
    fn after(self, author: &DeviceId, operation: &Operation) -> Self {
        match (self, operation) {
            (Self::Unwritten, Operation::Create { value, .. }) => Self::By(*author, value.clone()),
            (Self::By(by, known), Operation::Edit { before, value, .. })
                if by == *author && known == *before =>
            {
                Self::By(by, value.clone())
            }
            (Self::By(by, known), Operation::Trash { is_in: true, .. }) if by == *author => {
                Self::Trashed(by, known)
            }
            (Self::Trashed(by, known), Operation::Trash { is_in: false, .. }) if by == *author => {
                Self::By(by, known)
            }
            _ => Self::Lost,
        }
    }
}
