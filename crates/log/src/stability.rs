//! Which entries are stable: nobody can turn up any more with an entry that did not know of them.
//!
//! An entry is stable when the log of every writing device has an entry with it in its causal past,
//! and every device holds those entries: whatever a writer still keeps to itself then comes after
//! it. What a device acknowledges of the logs it knows would not do: a phone that is offline may
//! hold entries that nobody has seen.
//!
//! Only what a log names itself counts here, not what those entries name in turn. An honest device
//! names all that it has applied, so nothing is lost by it; and of a log that names less, less is
//! stable.

use std::collections::{BTreeMap, BTreeSet};

use larder_types::DeviceId;
use minicbor::{Decode, Encode};

use crate::header::Header;

/// How far the first entries of one log name the others. Made from the headers, each looked at
/// once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Named {
    #[n(0)]
    size: u64,
    #[n(1)]
    ends: BTreeMap<DeviceId, u64>,
}

impl Named {
    /// Of a device that has written nothing yet: its first entry will name its enrolment, in entry
    /// `seq` of `enroller`, whose log names this up to there.
    #[must_use]
    pub fn of_newcomer(enroller: DeviceId, seq: u64, by_enroller: &Self) -> Self {
        let mut ends = by_enroller.ends.clone();
        ends.insert(enroller, seq);
        Self { size: 0, ends }
    }

    /// How many entries were looked at.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How far `device`'s log is named.
    pub fn of(&self, device: &DeviceId) -> u64 {
        self.ends.get(device).copied().unwrap_or(0)
    }

    /// Looks at the log's next entry. False, and nothing changes, if it is another one.
    pub fn take(&mut self, header: &Header) -> bool {
        let is_next = self.size.checked_add(1) == Some(header.seq);
        if is_next {
            self.size = header.seq;
            for dep in &header.deps {
                let end = self.ends.entry(dep.device).or_insert(0);
                *end = dep.seq.max(*end);
            }
        }
        is_next
    }
}

/// How many entries of `log` every device in `holders` has said to hold; a log's own device holds
/// all that it has signed. `u64::MAX` if there is nobody else.
pub fn held_by_all(
    log: &DeviceId,
    holders: &BTreeSet<DeviceId>,
    held: impl Fn(&DeviceId, &DeviceId) -> u64,
) -> u64 {
    let others = holders.iter().filter(|holder| *holder != log);
    others.map(|holder| held(holder, log)).min().unwrap_or(u64::MAX)
}

/// How far each log is stable. `writers` has every device that may write, with what its log names
/// up to the entry that all devices hold ([`held_by_all`]); `others` are the logs of devices that
/// may not write any more.
pub fn stable(
    writers: &BTreeMap<DeviceId, Named>,
    others: impl IntoIterator<Item = DeviceId>,
) -> BTreeMap<DeviceId, u64> {
    let of = |log: &DeviceId| {
        let named = writers
            .iter()
            .map(|(writer, named)| if writer == log { named.size() } else { named.of(log) });
        (*log, named.min().unwrap_or(0))
    };
    let others: Vec<DeviceId> = others.into_iter().collect();
    writers.keys().chain(&others).map(of).collect()
}

#[cfg(test)]
mod tests {
    use larder_types::{EntryHash, EpochId, SpaceId};
    use proptest::prelude::*;

    use super::*;
    use crate::header::{Dep, VERSION};
    use crate::merkle;

    const DEVICES: usize = 3;

    fn device(n: usize) -> DeviceId {
        DeviceId::new([u8::try_from(n).unwrap() + 1; 32])
    }

    fn header(author: usize, seq: u64, deps: Vec<(usize, u64)>) -> Header {
        let mut deps: Vec<Dep> = deps
            .into_iter()
            .map(|(of, seq)| Dep { device: device(of), seq, entry: EntryHash::new([0; 32]) })
            .collect();
        deps.sort_by_key(|dep| dep.device);
        Header {
            v: VERSION,
            space: SpaceId::new([1; 32]),
            device: device(author),
            seq,
            deps,
            epoch: EpochId::new([0; 32]),
            step: 0,
            n: 0,
            sections_root: merkle::empty_root(),
        }
    }

    fn place(seq: u64) -> usize {
        usize::try_from(seq).unwrap()
    }

    /// Devices that write, pull from each other, and see what the others acknowledge.
    #[derive(Default)]
    struct Model {
        logs: [Vec<Header>; DEVICES],
        /// What each device has applied of each log.
        has: [[u64; DEVICES]; DEVICES],
        named: [[u64; DEVICES]; DEVICES],
    }

    impl Model {
        fn write(&mut self, author: usize, forgets: bool) {
            let seq = self.logs[author].len() as u64 + 1;
            let mut deps = Vec::new();
            for of in (0..DEVICES).filter(|of| *of != author && !forgets) {
                if self.has[author][of] > self.named[author][of] {
                    self.named[author][of] = self.has[author][of];
                    deps.push((of, self.has[author][of]));
                }
            }
            self.logs[author].push(header(author, seq, deps));
            self.has[author][author] = seq;
        }

        /// In a causal order a device holds the past of what it holds; all of it is enough here.
        fn pull(&mut self, to: usize, from: usize) {
            for of in 0..DEVICES {
                self.has[to][of] = self.has[to][of].max(self.has[from][of]);
            }
        }

        /// The entries in the causal past of an entry, itself included, by log.
        fn past(&self, author: usize, seq: u64) -> [u64; DEVICES] {
            let mut past = [0; DEVICES];
            let mut open = vec![(author, seq)];
            while let Some((of, seq)) = open.pop() {
                let before = past[of];
                past[of] = before.max(seq);
                for header in self.logs[of].get(place(before)..place(seq)).unwrap_or(&[]) {
                    let index = |dep: &Dep| (dep.device.as_bytes()[0] - 1) as usize;
                    open.extend(header.deps.iter().map(|dep| (index(dep), dep.seq)));
                }
            }
            past
        }

        fn is_stable(&self, of: usize, seq: u64) -> bool {
            (0..DEVICES).all(|writer| {
                (1..=self.logs[writer].len() as u64).any(|at| {
                    self.past(writer, at)[of] >= seq
                        && (0..DEVICES).all(|holder| self.has[holder][writer] >= at)
                })
            })
        }

        fn computed(&self) -> BTreeMap<DeviceId, u64> {
            let holders: BTreeSet<DeviceId> = (0..DEVICES).map(device).collect();
            let index = |device: &DeviceId| (device.as_bytes()[0] - 1) as usize;
            let writers = (0..DEVICES).map(|writer| {
                let held = held_by_all(&device(writer), &holders, |holder, log| {
                    self.has[index(holder)][index(log)]
                });
                let mut named = Named::default();
                for header in self.logs[writer].iter().take(place(held)) {
                    assert!(named.take(header));
                }
                (device(writer), named)
            });
            stable(&writers.collect(), [])
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(bool, usize, usize)>> {
        prop::collection::vec((any::<bool>(), 0..DEVICES, 0..DEVICES), 0..40)
    }

    proptest! {
        #[test]
        fn what_is_computed_is_what_is_defined(steps in steps()) {
            let mut model = Model::default();
            for (writes, one, other) in steps {
                if writes { model.write(one, false) } else { model.pull(one, other) }
            }
            let computed = model.computed();
            for of in 0..DEVICES {
                for seq in 1..=model.logs[of].len() as u64 {
                    prop_assert_eq!(computed[&device(of)] >= seq, model.is_stable(of, seq));
                }
            }
        }

        #[test]
        fn logs_that_name_too_little_make_nothing_stable_that_is_not(
            steps in steps(),
            forgetful in 0..DEVICES,
        ) {
            let mut model = Model::default();
            for (writes, one, other) in steps {
                if writes { model.write(one, one == forgetful) } else { model.pull(one, other) }
            }
            for (of, stable) in model.computed().values().enumerate() {
                prop_assert!((1..=*stable).all(|seq| model.is_stable(of, seq)));
            }
        }
    }

    #[test]
    fn a_device_that_has_written_nothing_comes_after_its_enrolment() {
        let mut enroller = Named::default();
        assert!(enroller.take(&header(0, 1, vec![])));
        assert!(enroller.take(&header(0, 2, vec![(1, 5)])));
        assert!(!enroller.take(&header(0, 4, vec![])), "an entry is missing");
        let newcomer = Named::of_newcomer(device(0), 2, &enroller);
        let mut writer = Named::default();
        assert!(writer.take(&header(1, 1, vec![(0, 2)])));
        let writers =
            [(device(0), enroller), (device(1), writer), (device(2), newcomer)].into_iter();
        let stable = stable(&writers.collect(), []);
        assert_eq!((stable[&device(0)], stable[&device(1)]), (2, 1));
        assert_eq!(stable[&device(2)], 0);
    }

    #[test]
    fn a_device_alone_waits_for_nobody() {
        let alone = BTreeSet::from([device(0)]);
        assert_eq!(held_by_all(&device(0), &alone, |_, _| 0), u64::MAX);
    }
}
