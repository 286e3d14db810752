//! How long documents are kept: what an owner or admin sets for a collection, or for all.

use std::collections::BTreeMap;

use larder_types::CollectionName;
use larder_types::limits::{RETENTION_MS_MAX, TRASH_MS};

use crate::act::check_version;
use crate::error::VoidReason;
use crate::section::Band;

/// How long documents of a collection are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Retention {
    /// Milliseconds from a document's last change until it goes into the trash; none: for ever. Up
    /// to [`RETENTION_MS_MAX`].
    #[n(0)]
    pub age_ms: Option<u64>,
    /// How many documents stay, those that were changed last, of each band by itself; none: all.
    #[n(1)]
    pub count: Option<u64>,
    /// Milliseconds from when a document comes into the trash until it is deleted. 0: there is no
    /// trash. Up to [`RETENTION_MS_MAX`].
    #[n(2)]
    pub trash_ms: u64,
}

impl Default for Retention {
    /// What counts where nobody has set anything: all is kept, and 30 days in the trash.
    fn default() -> Self {
        Self { age_ms: None, count: None, trash_ms: TRASH_MS }
    }
}

impl Retention {
    /// What keeps most of two.
    #[must_use]
    pub fn longer(self, other: Self) -> Self {
        let most = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
        Self {
            age_ms: most(self.age_ms, other.age_ms),
            count: most(self.count, other.count),
            trash_ms: self.trash_ms.max(other.trash_ms),
        }
    }

    /// Why it makes no sense, if it does not.
    pub fn wrong(&self) -> Option<&'static str> {
        if self.age_ms == Some(0) || self.count == Some(0) {
            return Some("nothing would be kept at all");
        }
        if self.age_ms.unwrap_or(1).max(self.trash_ms) > RETENTION_MS_MAX {
            return Some("longer than a hundred years");
        }
        // Which are the newest only the clocks of their authors tell.
        if self.count.is_some() && self.trash_ms == 0 {
            return Some("what goes because there are too many has to be kept in the trash first");
        }
        None
    }
}

/// Sets how long documents are kept. Of several for one collection and band that of the highest
/// revision counts, whatever anybody's clock says; of several of that, what keeps most.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct RetentionAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// One more than the highest that its author knew for this collection and band; the first is 1.
    #[n(1)]
    pub revision: u64,
    /// Which collection; none: all that nothing is set for.
    #[n(2)]
    pub collection: Option<CollectionName>,
    /// How long.
    #[n(3)]
    pub retention: Retention,
    /// Which band; none: all that nothing is set for in the collection.
    #[n(4)]
    pub band: Option<Band>,
}

impl RetentionAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        if self.band == Some(Band::Black) {
            return Err(VoidReason::Malformed("what is BLACK leaves no device".to_owned()));
        }
        match self.retention.wrong() {
            None => Ok(()),
            Some(why) => Err(VoidReason::Malformed(why.to_owned())),
        }
    }
}

/// What a set of acts comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retentions {
    set: BTreeMap<(Option<CollectionName>, Option<Band>), (u64, Retention)>,
    usual: Retention,
}

impl Retentions {
    /// Where nobody has set anything, this counts.
    pub fn with_usual(usual: Retention) -> Self {
        Self { set: BTreeMap::new(), usual }
    }

    /// Takes in an act that counts, in any order.
    pub fn take(&mut self, act: &RetentionAct) {
        let new = (act.revision, act.retention);
        let known = self.set.entry((act.collection.clone(), act.band)).or_insert(new);
        match act.revision.cmp(&known.0) {
            std::cmp::Ordering::Greater => *known = new,
            std::cmp::Ordering::Equal => known.1 = known.1.longer(act.retention),
            std::cmp::Ordering::Less => {}
        }
    }

    /// The revision of the next act for a collection and band.
    pub fn next_revision(&self, collection: Option<&CollectionName>, band: Option<Band>) -> u64 {
        let known = self.set.get(&(collection.cloned(), band));
        known.map_or(0, |(revision, _)| *revision).saturating_add(1)
    }

    /// How long documents of this collection and band are kept: what is set for both; else for the
    /// collection; else for the band; else for all. None stands for those that nothing is set for.
    pub fn of(&self, collection: Option<&CollectionName>, band: Option<Band>) -> Retention {
        let set = |collection: Option<&CollectionName>, band| {
            self.set.get(&(collection.cloned(), band)).map(|(_, retention)| *retention)
        };
        let of_collection = set(collection, band).or_else(|| set(collection, None));
        of_collection.or_else(|| set(None, band)).or_else(|| set(None, None)).unwrap_or(self.usual)
    }

    /// How long documents are kept that nothing is set for.
    pub fn of_others(&self) -> Retention {
        self.of(None, None)
    }

    /// What is set for single collections or bands.
    pub fn set(&self) -> impl Iterator<Item = (Option<&CollectionName>, Option<Band>, Retention)> {
        let set = self.set.iter().filter(|(of, _)| **of != (None, None));
        set.map(|((collection, band), (_, kept))| (collection.as_ref(), *band, *kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(revision: u64, age_ms: Option<u64>, trash_ms: u64) -> RetentionAct {
        let retention = Retention { age_ms, count: None, trash_ms };
        let collection = Some("notes".parse().unwrap());
        RetentionAct { v: 0, revision, collection, retention, band: None }
    }

    #[test]
    fn the_highest_revision_counts_and_beside_it_what_keeps_most_in_any_order() {
        let acts = [act(1, Some(1), 1), act(2, Some(5), 0), act(2, Some(9), 3), act(2, None, 2)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut all = Retentions::default();
            for n in order {
                all.take(&acts[n]);
            }
            let notes = "notes".parse().unwrap();
            assert_eq!(
                all.of(Some(&notes), Some(Band::Red)),
                Retention { age_ms: None, count: None, trash_ms: 3 }
            );
            assert_eq!(all.next_revision(Some(&notes), None), 3);
            let lists = "lists".parse().unwrap();
            assert_eq!(all.of(Some(&lists), Some(Band::Green)), Retention::default());
        }
    }

    #[test]
    fn what_is_set_for_less_counts_before_what_is_set_for_more() {
        let (notes, lists) = ("notes".parse().unwrap(), "lists".parse().unwrap());
        let mut all = Retentions::default();
        let mut set = |collection: Option<&CollectionName>, band, age| {
            let revision = all.next_revision(collection, band);
            let collection = collection.cloned();
            all.take(&RetentionAct { collection, band, ..act(revision, Some(age), 1) });
            let age = |collection, band| all.of(Some(collection), Some(band)).age_ms;
            let ages = [&notes, &lists].map(|it| [Band::Green, Band::Red].map(|b| age(it, b)));
            (ages.as_flattened().to_vec(), all.of_others().age_ms, all.set().count())
        };
        let ages = |ages: [u64; 4]| ages.map(|age| Some(age).filter(|age| *age > 0)).to_vec();
        assert_eq!(set(None, Some(Band::Red), 1), (ages([0, 1, 0, 1]), None, 1));
        assert_eq!(set(None, None, 2), (ages([2, 1, 2, 1]), Some(2), 1));
        assert_eq!(set(Some(&notes), None, 3), (ages([3, 3, 2, 1]), Some(2), 2));
        assert_eq!(set(Some(&notes), Some(Band::Red), 4), (ages([3, 4, 2, 1]), Some(2), 3));
        assert_eq!(set(Some(&notes), Some(Band::Red), 5), (ages([3, 5, 2, 1]), Some(2), 3));
    }

    #[test]
    fn what_makes_no_sense_is_void() {
        for (age_ms, count, trash_ms) in
            [(Some(0), None, 1), (None, Some(0), 1), (None, Some(5), 0), (None, None, u64::MAX)]
        {
            let wrong = Retention { age_ms, count, trash_ms };
            let retention = wrong;
            let act = RetentionAct { v: 0, revision: 1, collection: None, retention, band: None };
            assert!(act.check().is_err(), "{wrong:?}");
        }
        assert!(act(1, Some(1), 0).check().is_ok());
        assert!(RetentionAct { v: 1, ..act(1, None, 1) }.check().is_err());
        let black = RetentionAct { band: Some(Band::Black), ..act(1, None, 1) };
        assert!(black.check().is_err());
    }
}
