//! What a space's owners want of personal data in what is written in it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use larder_types::CollectionName;

use crate::act::check_version;
use crate::error::VoidReason;
use crate::metadata::personal;
use crate::section::Band;

/// What becomes of a document in which personal data of a kind are found; the stricter the greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[non_exhaustive]
pub enum ContractAction {
    /// It is written, and told.
    #[n(0)]
    Warn,
    /// It is made in this band, or the one that was asked for if that is higher, and that is told.
    /// A document that is there in a lower one is not edited.
    #[n(1)]
    Raise(#[n(0)] Band),
    /// What was found is taken out before it is written, and that is told.
    #[n(2)]
    Redact,
    /// Nothing of its unit is written.
    #[n(3)]
    Refuse,
}

/// Sets what becomes of one kind of personal data. Of several for one kind and collection that of
/// the highest revision counts, whatever anybody's clock says; of several of that, the strictest.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct ContractAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// One more than the highest that its author knew for this kind and collection; the first is 1.
    #[n(1)]
    pub revision: u64,
    /// Which collection; none: all that nothing is set for.
    #[n(2)]
    pub collection: Option<CollectionName>,
    /// Which kind: one bit of [`personal`].
    #[n(3)]
    pub personal: u8,
    /// What becomes of it; none: nothing is set any more.
    #[n(4)]
    pub action: Option<ContractAction>,
}

impl ContractAct {
    /// Why it makes no sense, if it does not.
    pub fn wrong(&self) -> Option<&'static str> {
        if !personal::ALL.contains(&self.personal) {
            return Some("it is of one kind");
        }
        match self.action {
            Some(ContractAction::Raise(Band::Green)) => Some("no band is lower than GREEN"),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        match self.wrong() {
            None => Ok(()),
            Some(why) => Err(VoidReason::Malformed(why.to_owned())),
        }
    }
}

/// What a set of acts comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceContracts {
    set: BTreeMap<(Option<CollectionName>, u8), (u64, Option<ContractAction>)>,
}

impl SpaceContracts {
    /// Takes in an act that counts, in any order.
    pub fn take(&mut self, act: &ContractAct) {
        let new = (act.revision, act.action);
        let known = self.set.entry((act.collection.clone(), act.personal)).or_insert(new);
        match act.revision.cmp(&known.0) {
            Ordering::Greater => *known = new,
            Ordering::Equal => known.1 = known.1.max(act.action),
            Ordering::Less => {}
        }
    }

    /// The revision of the next act for a kind in a collection.
    pub fn next_revision(&self, collection: Option<&CollectionName>, personal: u8) -> u64 {
        let known = self.set.get(&(collection.cloned(), personal));
        known.map_or(0, |(revision, _)| *revision).saturating_add(1)
    }

    /// What becomes of a kind in a collection: what is set for that, or for all.
    pub fn action(&self, collection: &CollectionName, personal: u8) -> Option<ContractAction> {
        if self.set.is_empty() {
            return None;
        }
        let of = |collection: Option<&CollectionName>| {
            self.set.get(&(collection.cloned(), personal)).and_then(|(_, action)| *action)
        };
        of(Some(collection)).or_else(|| of(None))
    }

    /// Whether something has what it finds in documents that leave no device.
    pub fn raises_to_black(&self) -> bool {
        self.set().any(|(.., action)| action == ContractAction::Raise(Band::Black))
    }

    /// What is set, with the collection that it is set for.
    pub fn set(&self) -> impl Iterator<Item = (Option<&CollectionName>, u8, ContractAction)> {
        self.set.iter().filter_map(|((collection, personal), (_, action))| {
            action.map(|action| (collection.as_ref(), *personal, action))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ContractAction::{Raise, Redact, Refuse, Warn};
    use super::*;

    fn act(revision: u64, collection: Option<&str>, action: Option<ContractAction>) -> ContractAct {
        let collection = collection.map(|name| name.parse().unwrap());
        ContractAct { v: 0, revision, collection, personal: personal::HEALTH, action }
    }

    #[test]
    fn the_highest_revision_counts_and_beside_it_the_strictest_in_any_order() {
        let raised = [Band::Amber, Band::Red, Band::Black].map(Raise);
        assert!([&[Warn], &raised[..], &[Redact, Refuse]].concat().is_sorted());
        let (notes, lists) = ("notes".parse().unwrap(), "lists".parse().unwrap());
        let acts = [
            act(1, Some("notes"), Some(Refuse)),
            act(2, Some("notes"), Some(Raise(Band::Amber))),
            act(2, Some("notes"), None),
            act(2, Some("notes"), Some(Warn)),
            act(1, None, Some(Redact)),
        ];
        for order in [[0_usize, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 3, 4, 1], [1, 3, 4, 0, 2]] {
            let mut all = SpaceContracts::default();
            for n in order {
                all.take(&acts[n]);
            }
            assert_eq!(all.action(&notes, personal::HEALTH), Some(Raise(Band::Amber)));
            assert_eq!(all.action(&lists, personal::HEALTH), Some(Redact));
            assert_eq!(all.action(&lists, personal::CONTACT), None);
            let (of, kind) = (Some(&notes), personal::HEALTH);
            assert_eq!((all.next_revision(of, kind), all.set().count()), (3, 2));
            // What was removed leaves what is set for all.
            all.take(&act(3, Some("notes"), None));
            assert_eq!((all.action(&notes, kind), all.set().count()), (Some(Redact), 1));
        }
    }

    #[test]
    fn what_makes_no_sense_is_void() {
        for wrong in [
            act(1, None, Some(Raise(Band::Green))),
            ContractAct { personal: 0, ..act(1, None, None) },
            ContractAct { personal: 3, ..act(1, None, None) },
            ContractAct { personal: 16, ..act(1, None, None) },
            ContractAct { v: 1, ..act(1, None, Some(Warn)) },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        for right in [Warn, Raise(Band::Red), Raise(Band::Black), Redact, Refuse] {
            assert!(act(1, Some("notes"), Some(right)).check().is_ok());
        }
    }
}
