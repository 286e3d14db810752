//! A document's history as a list of changes, for a device that gets it from another without the
//! entries that it came in.

use std::collections::{BTreeMap, BTreeSet};

use crate::{DocumentError, Heads, chunk};

/// A change's place in a history: its hash, and the hashes of those that it builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its hash.
    pub hash: [u8; 32],
    /// What it names as its past.
    pub deps: Vec<[u8; 32]>,
}

impl Link {
    /// Reads it from a change's bytes. What else the change holds is bounded and not judged.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] for what is no change that could count.
    pub fn of(change: &[u8]) -> Result<Self, DocumentError> {
        let (hash, deps) =
            chunk::link(change).map_err(|e| DocumentError::Corrupt(e.to_string()))?;
        Ok(Self { hash, deps })
    }
}

/// The heads of a growing set of changes, whatever order they come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadsFold {
    heads: BTreeSet<[u8; 32]>,
    /// Built upon, and not a head when that was seen.
    covered: BTreeSet<[u8; 32]>,
}

impl HeadsFold {
    /// Goes on from the heads of a set that holds the past of each of its changes.
    pub fn from_heads(heads: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self { heads: heads.into_iter().collect(), covered: BTreeSet::new() }
    }

    /// Adds a change that is not in the set.
    pub fn add(&mut self, link: &Link) {
        for dep in &link.deps {
            if !self.heads.remove(dep) {
                self.covered.insert(*dep);
            }
        }
        if !self.covered.contains(&link.hash) {
            self.heads.insert(link.hash);
        }
    }

    /// The changes that no other builds on, in order.
    pub fn heads(&self) -> impl Iterator<Item = [u8; 32]> {
        self.heads.iter().copied()
    }
}

/// Whether `changes` are what these heads build on, directly or through others, themselves
/// included: no more and no less, on the change `root`.
///
/// # Errors
/// [`DocumentError::Corrupt`] for what is no change that could count.
pub(crate) fn is_history_of(
    changes: &[&[u8]],
    root: [u8; 32],
    heads: &Heads,
) -> Result<bool, DocumentError> {
    let mut unreached = BTreeMap::new();
    for change in changes {
        let link = Link::of(change)?;
        if link.deps.is_empty() || unreached.insert(link.hash, link.deps).is_some() {
            return Ok(false);
        }
    }
    let mut reached = BTreeSet::from([root]);
    let mut open: Vec<[u8; 32]> = heads.iter().copied().collect();
    while let Some(hash) = open.pop() {
        if let Some(deps) = unreached.remove(&hash) {
            reached.insert(hash);
            open.extend(deps);
        } else if !reached.contains(&hash) {
            return Ok(false);
        }
    }
    Ok(unreached.is_empty())
}
