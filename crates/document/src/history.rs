//! A document's history as a list of changes, for a device that gets it from another without the
//! entries that it came in.

use std::collections::{BTreeSet, HashMap, HashSet};

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
    /// Built upon.
    covered: BTreeSet<[u8; 32]>,
}

impl HeadsFold {
    /// Goes on from the heads of a set that holds the past of each of its changes.
    pub fn from_heads(heads: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self { heads: heads.into_iter().collect(), covered: BTreeSet::new() }
    }

    /// Adds a change, which may be among those that were added before. One that the heads it went
    /// on from build on counts as a head.
    pub fn add(&mut self, link: &Link) {
        for dep in &link.deps {
            self.heads.remove(dep);
            self.covered.insert(*dep);
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

/// `changes`, each behind those that it builds on, if they are what these heads build on, directly
/// or through others, themselves included: no more and no less, on the change `root`.
pub(crate) fn history_in_order<'a>(
    changes: &[&'a [u8]],
    root: [u8; 32],
    heads: &Heads,
) -> Option<Vec<&'a [u8]>> {
    let mut unreached = HashMap::new();
    for change in changes {
        let link = Link::of(change).ok()?;
        if link.deps.is_empty() || unreached.insert(link.hash, (*change, link.deps)).is_some() {
            return None;
        }
    }
    let mut reached = HashSet::from([root]);
    let mut order = Vec::with_capacity(changes.len());
    // What is on the way, each with what it builds on and is still to be gone through.
    let mut way: Vec<(&[u8], Vec<[u8; 32]>)> = Vec::new();
    for head in heads.iter() {
        let mut next = Some(*head);
        loop {
            if let Some(hash) = next.filter(|hash| reached.insert(*hash)) {
                way.push(unreached.remove(&hash)?);
            }
            let Some((change, deps)) = way.last_mut() else { break };
            next = deps.pop();
            if next.is_none() {
                order.push(*change);
                way.pop();
            }
        }
    }
    unreached.is_empty().then_some(order)
}
