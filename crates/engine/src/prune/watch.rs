//! When a space is pruned without anybody asking for it: once enough has become prunable.
//!
//! Nothing here goes by a clock. It is looked when a space is opened, when a statement of another
//! device comes, when an acknowledgement comes that something agreed on may wait for, and after
//! every so many entries or bytes.

use std::collections::BTreeSet;

use larder_store::space::sections::Droppable;
use larder_store::space::snapshots;
use larder_types::Hash;
use larder_types::limits::{PRUNE_BYTES_MIN, PRUNE_LEAF_BYTES, PRUNE_LOOK_ENTRIES};
use rusqlite::Connection;

use super::steps::{erasures, has_gain};
use super::{Pruning, Statement, accepted, reads, statements};
use crate::Result;
use crate::state::State as WriterState;
use crate::writer::SpaceWriter;

/// Whether spaces prune by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunePolicy {
    /// Only when somebody asks for it.
    ByHand,
    /// Once bodies could go that take so many bytes, [`PRUNE_LEAF_BYTES`] of each left aside.
    From {
        /// [`PRUNE_BYTES_MIN`] unless told otherwise.
        bytes: u64,
    },
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self::From { bytes: PRUNE_BYTES_MIN }
    }
}

/// What has come since it was looked last.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is news by itself")]
pub(crate) struct News {
    /// A device stated a snapshot, or it was never looked.
    pub(crate) statement: bool,
    /// An acknowledgement.
    pub(crate) ack: bool,
    /// A peer asked for leaves of what was agreed on, which are not written down.
    pub(crate) is_asked: bool,
    /// A device was shut out or has come: nobody may state any more what is held here.
    pub(crate) roster: bool,
    /// Something may be missing that nobody can hand over: it is to be said.
    pub(crate) lacks: bool,
    /// More or less of the snapshot that comes in may be agreed on by now.
    pub(crate) refits: bool,
    /// Of secrets that may go.
    pub(crate) secrets: OfSecrets,
    /// Entries, own ones too, and what their bodies take.
    entries: u64,
    bytes: u64,
    /// Whether what is agreed on is held by others for all that is known, and may go then.
    awaits_acks: bool,
    /// The agreed snapshot of which nothing is left to drop.
    pub(super) drained: Option<Hash>,
    /// Snapshots that others stated and this device finds otherwise, or not at all any more.
    pub(crate) differing: BTreeSet<Hash>,
}

/// What has come that secrets go by.
#[derive(Debug, Clone)]
pub(crate) struct OfSecrets {
    /// Anything, or it was never looked.
    pub(crate) is_new: bool,
    /// Whether some go once something is stable.
    awaits_stable: bool,
}

impl OfSecrets {
    /// Entries have come, by which something may have become stable.
    pub(crate) fn heard(&mut self) {
        self.is_new |= self.awaits_stable;
    }
}

impl Default for News {
    fn default() -> Self {
        Self {
            statement: true,
            ack: false,
            is_asked: false,
            roster: true,
            lacks: true,
            refits: true,
            secrets: OfSecrets { is_new: true, awaits_stable: false },
            entries: 0,
            bytes: 0,
            awaits_acks: false,
            drained: None,
            differing: BTreeSet::new(),
        }
    }
}

impl News {
    /// Entries have come.
    pub(crate) fn grew(&mut self, entries: u64, bytes: u64) {
        self.entries += entries;
        self.bytes += bytes;
    }

    fn is_of_secrets(&self) -> bool {
        self.secrets.is_new || (self.ack && self.secrets.awaits_stable)
    }

    fn is_due(&self, bytes_min: u64) -> bool {
        let grown = self.entries >= PRUNE_LOOK_ENTRIES || self.bytes >= bytes_min / 4;
        self.statement || (self.ack && self.awaits_acks) || grown
    }
}

impl SpaceWriter {
    /// Whether it is time for [`SpaceWriter::wants_pruning`]. Costs nothing.
    pub fn may_want_pruning(&self) -> bool {
        let news = &self.state().news;
        let is_due = match self.shared.profile.prunes {
            PrunePolicy::ByHand => false,
            PrunePolicy::From { bytes } => news.is_due(bytes),
        };
        let of_others = news.is_asked || news.roster || news.lacks;
        let is_due = is_due || of_others || news.is_of_secrets();
        self.shared.may_append() && is_due
    }

    /// A pruning, if it is time for one. Where this space prunes by itself: if it has as much to
    /// gain as [`PrunePolicy`] says and no statement waits, if another device has stated what this
    /// one has not looked at, or if what was agreed on can go by now. Where it does not, one that
    /// writes down what was agreed on and drops nothing, if a peer has asked for it. Everywhere: if
    /// secrets can go under which nobody seals any more, or that waits for this device; if nobody
    /// else states any more what this device holds; and if something is missing that nobody can
    /// hand over, and this device has not said so.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn wants_pruning(&mut self) -> Result<Option<Pruning>> {
        if !self.may_want_pruning() {
            return Ok(None);
        }
        let prunes = self.shared.profile.prunes;
        // What cannot be looked at now is looked at when something else has come.
        let news = &mut self.state_mut().news;
        let is_of_secrets = news.is_of_secrets();
        let is_asked = std::mem::take(&mut news.is_asked);
        let bytes_min = match prunes {
            PrunePolicy::From { bytes } if is_asked || news.is_due(bytes) => Some(bytes),
            PrunePolicy::From { .. } | PrunePolicy::ByHand => None,
        };
        (news.ack, news.secrets.is_new) = (false, false);
        let mut pruning = (is_asked && prunes == PrunePolicy::ByHand).then(Pruning::writing_down);
        if let Some(bytes_min) = bytes_min {
            (news.statement, news.entries, news.bytes) = (false, 0, 0);
            let db = self.connection()?;
            let looked = self.state_mut().look(&db, bytes_min);
            self.db = Some(db);
            let Look { proposes, settles, awaits_acks, drained } = looked?;
            let news = &mut self.state_mut().news;
            (news.awaits_acks, news.drained) = (awaits_acks, drained);
            pruning = (proposes || settles).then(|| Pruning::new(proposes));
        }
        if std::mem::take(&mut self.state_mut().news.roster) && pruning.is_none() {
            let db = self.connection()?;
            let affirms = self.state().must_affirm(&db);
            self.db = Some(db);
            pruning = affirms?.then(Pruning::affirming);
        }
        if pruning.is_none() && std::mem::take(&mut self.state_mut().news.lacks) {
            let db = self.connection()?;
            let lacks = self.state().must_say_lacking(&db);
            self.db = Some(db);
            pruning = lacks?.then(Pruning::saying_lacking);
        }
        if is_of_secrets {
            let db = self.connection()?;
            let state = self.state_mut();
            state.news.secrets.awaits_stable = state.may_forget();
            let wants = state.wants_forgetting(&db);
            self.db = Some(db);
            if wants? {
                pruning = Some(pruning.unwrap_or_else(Pruning::of_nothing).and_of_secrets());
            }
        }
        Ok(pruning)
    }
}

#[derive(Default)]
struct Look {
    proposes: bool,
    settles: bool,
    awaits_acks: bool,
    drained: Option<Hash>,
}

impl WriterState {
    fn look(&mut self, db: &Connection, bytes_min: u64) -> Result<Look> {
        let mut look = Look::default();
        if !reads(&self.roster, &self.device()) {
            return Ok(look);
        }
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        let held = held.as_ref();
        let none = BTreeSet::new();
        look.settles = self.to_take_over(db, held, &none)?.is_some()
            || self.to_agree(db, held, &none)?.is_some();
        look.drained = self.news.drained.filter(|drained| held.is_some_and(|h| h.id == *drained));
        if let (Some(held), None) = (held, look.drained) {
            let mut any = Droppable { sections: 1, bytes: 1 };
            if has_gain(db, None, &held.act.frontier, 0, &mut any)? {
                let ends = self.stable_ends(db)?;
                look.awaits_acks = !held.act.is_within(&ends);
                look.settles |= !look.awaits_acks || self.must_name(&held.act);
            } else {
                look.drained = Some(held.id);
            }
        }
        // One at a time, whoever stated it.
        let accepted = accepted(db, &self.roster, self.clearance)?;
        let statements = statements(db, &self.roster)?;
        let proposed = self.proposed(db, held, &accepted, &statements)?;
        let erasures = erasures(db)?;
        let is_open =
            |it: &&Statement| reads(&self.roster, &it.author) && self.is_waited_for(it, &erasures);
        let is_contested = proposed.is_contested();
        let waits =
            look.settles || look.awaits_acks || proposed.open.into_iter().any(|it| is_open(&it));
        if !waits && is_contested {
            look.proposes = self.is_to_merge(db)?;
        } else if !waits {
            let much = Droppable { sections: u64::MAX, bytes: bytes_min };
            look.proposes = self.gains(db, held, PRUNE_LEAF_BYTES, much)?.is_some();
        }
        Ok(look)
    }
}
