//! A device that is an auditor's: it has every entry, and nothing of what they are about.

use larder_engine::{Error, Query};

use crate::device::Slot;
use crate::world::World;

impl World {
    /// The auditors' devices that run.
    fn auditors(&self) -> Vec<Slot> {
        self.up().into_iter().filter(|slot| self.devices[*slot].likes.audits).collect()
    }

    /// The first auditor's device that has not got what the others have.
    pub(crate) fn unaudited(&self, members: &[Slot]) -> Option<String> {
        let first = members.first().filter(|_| self.is_clean())?;
        self.auditors().into_iter().find_map(|slot| self.difference(*first, slot))
    }

    /// It shows nothing, hands on headers alone, and has a receipt that stands of each log.
    pub(crate) fn check_auditors(&mut self) {
        for slot in self.auditors() {
            let space = self.devices[slot].space().expect("it is up").clone();
            if !self.is_enrolled(slot) {
                continue;
            }
            let is_refused = [
                space.list(None, None, 1).map(drop),
                space.list_trash(None, None, 1).map(drop),
                space.search(&Query::text(crate::app::COMMON)).map(drop),
            ];
            for answer in is_refused {
                assert!(matches!(answer, Err(Error::Auditor)), "{slot} shows: {answer:?}");
            }
            let mut entries = 0;
            self.each_handed_on(slot, |of, bytes| {
                assert_eq!(bytes, 0, "{slot}, an auditor's, has bytes of {of:?}");
                entries += 1;
            });
            self.report.add("check: entries of auditors", entries);
            for head in self.frontier(slot).into_values() {
                let receipt = space.receipt(&head.device, head.size).expect("an entry held");
                receipt.verify().expect("an entry under a checkpoint");
                self.report.count("check: receipts of auditors");
            }
        }
    }
}
