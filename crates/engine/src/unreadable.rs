//! What stands on pages that cannot be read, and is passed over so that nothing else waits for it.
//!
//! SQLite undoes a transaction in which it meets such a page, and its savepoints with it. So what
//! was being looked at is noted, and the transaction is done again without it: its sections wait,
//! and the space's state names it.

use std::collections::BTreeSet;

use larder_types::ObjectId;

use crate::heal::is_unreadable;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// Something that is read by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A document, its history and what says where it is.
    Document(ObjectId),
    /// A section, by its number.
    Section(i64),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Document(object) => write!(f, "document {object}"),
            Self::Section(section) => write!(f, "section number {section}"),
        }
    }
}

/// What was met since the space was opened, or was checked or tried again.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    known: BTreeSet<Thing>,
    /// What the open transaction is at.
    at: Option<Thing>,
    /// It is not known what was met: the next transaction goes thing by thing.
    is_sought: bool,
    /// Transactions that were undone since the last that was not.
    undone: usize,
}

impl Unreadable {
    /// Says that this is looked at from now on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is known that it cannot be.
    pub(crate) fn enter(&mut self, thing: Thing) -> Result<()> {
        self.at = Some(thing);
        if self.known.contains(&thing) {
            return Err(Error::Corrupt(format!("{thing}: a page of it cannot be read")));
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.at = None;
    }

    pub(crate) fn contains(&self, thing: &Thing) -> bool {
        self.known.contains(thing)
    }

    /// Whether there is something to be passed over, or to be found.
    pub(crate) fn is_expected(&self) -> bool {
        self.is_sought || !self.known.is_empty()
    }

    /// All that is to be shown was, but for what is known.
    pub(crate) fn found_all(&mut self) {
        self.is_sought = false;
    }

    /// Everything is tried again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A transaction was committed.
    pub(crate) fn committed(&mut self) {
        self.undone = 0;
    }

    /// A transaction was undone. Whether the next one does better for it.
    fn learn(&mut self) -> bool {
        self.undone += 1;
        if self.undone > UNDONE_MAX {
            // Who tries again goes on from here.
            self.undone = 0;
            return false;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        match self.at.take() {
            Some(thing) => self.known.insert(thing),
            None => !std::mem::replace(&mut self.is_sought, true),
        }
    }
}

impl SpaceWriter {
    /// Whether a transaction that failed is to be done again, without what it failed on.
    pub(crate) fn passes_over(&mut self, error: &Error) -> bool {
        if !is_unreadable(error) {
            return false;
        }
        if let Some(thing) = self.state().damage.unreadable.at {
            self.shared.trouble.read_failed(&Error::Corrupt(format!("{thing}: {error}")));
        }
        self.state_mut().damage.unreadable.learn()
    }
}

/// Nobody waits for more transactions than this that come to nothing.
const UNDONE_MAX: usize = 256;

/// What is known takes 64 KiB of memory.
const KNOWN_MAX: usize = 2048;
