//! What a space's owners set for it: who invites, how sensitive new documents are, and what whoever
//! is invited is cleared for.

use std::cmp::Ordering;

use crate::act::{Role, check_version};
use crate::error::VoidReason;
use crate::section::Band;

/// Sets some of it. Of several acts that set one thing that of the highest revision counts,
/// whatever anybody's clock says; of several of that, what gives least away.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct PolicyAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// One more than the highest that its author knew; the first is 1.
    #[n(1)]
    pub revision: u64,
    /// The least that somebody has to be to invite others: owner or admin.
    #[n(2)]
    pub invite: Option<Role>,
    /// The band of new documents.
    #[n(3)]
    pub band: Option<Band>,
    /// What a new member's device is cleared for.
    #[n(4)]
    pub clearance: Option<Band>,
}

impl PolicyAct {
    /// Why it makes no sense, if it does not.
    pub fn wrong(&self) -> Option<&'static str> {
        if self.invite.is_some_and(|role| !matches!(role, Role::Owner | Role::Admin)) {
            return Some("only owners, or owners and admins, can admit somebody");
        }
        if self.band.max(self.clearance) == Some(Band::Black) {
            return Some("what is BLACK leaves no device");
        }
        if (self.invite, self.band, self.clearance) == (None, None, None) {
            return Some("it sets nothing");
        }
        None
    }

    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        match self.wrong() {
            None => Ok(()),
            Some(why) => Err(VoidReason::Malformed(why.to_owned())),
        }
    }
}

/// What a set of acts comes to: each thing with the revision that set it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policies {
    invite: Option<(u64, Role)>,
    band: Option<(u64, Band)>,
    clearance: Option<(u64, Band)>,
}

impl Policies {
    /// Takes in an act that counts, in any order.
    pub fn take(&mut self, act: &PolicyAct) {
        set(&mut self.invite, act.revision, act.invite, Role::greater);
        set(&mut self.band, act.revision, act.band, Band::max);
        set(&mut self.clearance, act.revision, act.clearance, Band::min);
    }

    /// The revision of the next act.
    pub fn next_revision(&self) -> u64 {
        let bands = [self.band, self.clearance].into_iter().flatten().map(|(revision, _)| revision);
        let all = bands.chain(self.invite.map(|(revision, _)| revision));
        all.max().unwrap_or(0).saturating_add(1)
    }

    /// The least that somebody has to be to invite others, if it is set.
    pub fn invite(&self) -> Option<Role> {
        self.invite.map(|(_, role)| role)
    }

    /// The band of new documents, if it is set.
    pub fn band(&self) -> Option<Band> {
        self.band.map(|(_, band)| band)
    }

    /// What a new member's device is cleared for, if it is set.
    pub fn clearance(&self) -> Option<Band> {
        self.clearance.map(|(_, band)| band)
    }
}

fn set<T: Copy>(
    known: &mut Option<(u64, T)>,
    revision: u64,
    new: Option<T>,
    least: impl FnOnce(T, T) -> T,
) {
    let Some(new) = new else { return };
    *known = Some(match *known {
        None => (revision, new),
        Some((before, value)) => match revision.cmp(&before) {
            Ordering::Greater => (revision, new),
            Ordering::Equal => (revision, least(value, new)),
            Ordering::Less => (before, value),
        },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_revision_counts_and_beside_it_what_gives_least_away_in_any_order() {
        let act = |revision, invite, band, clearance| PolicyAct {
            v: 0,
            revision,
            invite,
            band,
            clearance,
        };
        let acts = [
            act(1, Some(Role::Owner), Some(Band::Red), None),
            act(2, Some(Role::Admin), Some(Band::Green), Some(Band::Red)),
            act(2, None, Some(Band::Amber), Some(Band::Green)),
            act(2, Some(Role::Owner), None, Some(Band::Amber)),
        ];
        for order in [[0_usize, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut all = Policies::default();
            assert_eq!(all.next_revision(), 1);
            for n in order {
                all.take(&acts[n]);
            }
            let found = (all.invite(), all.band(), all.clearance(), all.next_revision());
            assert_eq!(found, (Some(Role::Owner), Some(Band::Amber), Some(Band::Green), 3));
        }
    }

    #[test]
    fn what_makes_no_sense_is_void() {
        let act =
            |invite, band, clearance| PolicyAct { v: 0, revision: 1, invite, band, clearance };
        for wrong in [
            act(None, None, None),
            act(Some(Role::Reader), None, None),
            act(Some(Role::Writer), None, None),
            act(None, Some(Band::Black), None),
            act(None, None, Some(Band::Black)),
            PolicyAct { v: 1, ..act(Some(Role::Owner), None, None) },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert!(act(Some(Role::Admin), Some(Band::Red), Some(Band::Green)).check().is_ok());
    }
}
