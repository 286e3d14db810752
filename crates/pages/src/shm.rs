//! The wal-index in the heap, in place of a `-shm` file.
//!
//! Invariant: a region stays where it is until the last connection has let go of all of them.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::code::Code;
use crate::sync::locked;

/// Bytes of one region, the size SQLite always asks for.
pub(crate) const REGION: usize = 32 * 1024;
/// Lock slots, and those that mean something to us.
const SLOTS: usize = 8;
pub(crate) const WRITE_SLOT: usize = 0;
pub(crate) const CHECKPOINT_SLOT: usize = 1;
pub(crate) const RECOVER_SLOT: usize = 2;

/// The wal-index of one database, shared by the connections of this process.
#[derive(Default)]
pub(crate) struct Shm(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    attached: usize,
    regions: Vec<Box<[AtomicU64]>>,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Default)]
struct Slot {
    shared: usize,
    exclusive: bool,
}

/// What one connection holds of it.
#[derive(Default)]
pub(crate) struct Held {
    attached: bool,
    shared: [bool; SLOTS],
    exclusive: [bool; SLOTS],
}

impl Held {
    pub(crate) fn is_attached(&self) -> bool {
        self.attached
    }

    pub(crate) fn is_exclusive(&self, slot: usize) -> bool {
        self.exclusive.get(slot).copied().unwrap_or(false)
    }
}

/// Which slots, and how.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) exclusive: bool,
}

impl Request {
    pub(crate) fn covers(&self, slot: usize) -> bool {
        (self.first..self.first.saturating_add(self.count)).contains(&slot)
    }
}

impl Shm {
    /// The address of region `index`; `None` if there is none yet and `extend` is false.
    pub(crate) fn map(&self, held: &mut Held, index: usize, extend: bool) -> Option<*mut c_void> {
        let mut inner = locked(&self.0);
        if !held.attached {
            held.attached = true;
            inner.attached += 1;
        }
        if extend {
            while inner.regions.len() <= index {
                inner.regions.push((0..REGION / 8).map(|_| AtomicU64::new(0)).collect());
            }
        }
        inner.regions.get(index).map(|region| region.as_ptr().cast_mut().cast())
    }

    /// Takes all slots of `request` or none.
    pub(crate) fn lock(&self, held: &mut Held, request: Request) -> Result<(), Code> {
        if !held.attached || request.first + request.count > SLOTS {
            return Err(Code::SHM);
        }
        let mut inner = locked(&self.0);
        let mine = || held.shared.iter().zip(&held.exclusive);
        let free = inner.slots.iter().zip(mine()).enumerate().all(|(i, (slot, (shared, mine)))| {
            let others_share = slot.shared > usize::from(*shared);
            !request.covers(i) || *mine || !(slot.exclusive || (request.exclusive && others_share))
        });
        if !free {
            return Err(Code::BUSY);
        }
        let mine = held.shared.iter_mut().zip(&mut held.exclusive);
        for (i, (slot, (shared, exclusive))) in inner.slots.iter_mut().zip(mine).enumerate() {
            if request.covers(i) && request.exclusive {
                slot.exclusive = true;
                *exclusive = true;
            } else if request.covers(i) && !*shared {
                slot.shared += 1;
                *shared = true;
            }
        }
        Ok(())
    }

    pub(crate) fn unlock(&self, held: &mut Held, request: Request) {
        let mut inner = locked(&self.0);
        let mine = held.shared.iter_mut().zip(&mut held.exclusive);
        for (i, (slot, (shared, exclusive))) in inner.slots.iter_mut().zip(mine).enumerate() {
            if request.covers(i) && request.exclusive && *exclusive {
                slot.exclusive = false;
                *exclusive = false;
            } else if request.covers(i) && !request.exclusive && *shared {
                slot.shared -= 1;
                *shared = false;
            }
        }
    }

    /// Lets go of everything. Without connections there is no index: the next one recovers it.
    pub(crate) fn detach(&self, held: &mut Held) {
        for exclusive in [false, true] {
            self.unlock(held, Request { first: 0, count: SLOTS, exclusive });
        }
        if std::mem::take(&mut held.attached) {
            let mut inner = locked(&self.0);
            inner.attached -= 1;
            if inner.attached == 0 {
                inner.regions.clear();
            }
        }
    }

    /// Orders memory accesses across connections.
    pub(crate) fn barrier(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        drop(locked(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(first: usize, count: usize, exclusive: bool) -> Request {
        Request { first, count, exclusive }
    }

    #[test]
    fn readers_share_a_slot_and_a_writer_has_it_alone() {
        let shm = Shm::default();
        let (mut a, mut b) = (Held::default(), Held::default());
        assert!(shm.map(&mut a, 0, false).is_none());
        assert_eq!(shm.lock(&mut b, slots(0, 1, true)), Err(Code::SHM));
        let address = shm.map(&mut a, 0, true).unwrap();
        assert_eq!(shm.map(&mut b, 0, false), Some(address));

        shm.lock(&mut a, slots(3, 1, false)).unwrap();
        shm.lock(&mut b, slots(3, 1, false)).unwrap();
        assert_eq!(shm.lock(&mut b, slots(1, 4, true)), Err(Code::BUSY));
        assert!(!b.is_exclusive(1), "all or none");
        shm.unlock(&mut a, slots(3, 1, false));
        shm.unlock(&mut b, slots(3, 1, false));
        shm.lock(&mut b, slots(1, 4, true)).unwrap();
        assert_eq!(shm.lock(&mut a, slots(4, 1, false)), Err(Code::BUSY));
        shm.detach(&mut b);
        shm.lock(&mut a, slots(4, 1, false)).unwrap();
        shm.detach(&mut a);
        assert!(shm.map(&mut a, 0, false).is_none(), "gone with its last connection");
    }
}
