//! Sets of acts, and what is noted by act, whose copies share what they have in common: the pasts
//! of ten thousand acts that build on each other take little more room than the last of them.

use std::sync::Arc;

const CHUNK: usize = 64;
const WORD: usize = 64;

/// A value for each number, the default at first. Copies share all chunks that are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted<T>(Vec<Option<Arc<[T; CHUNK]>>>);

impl<T> Noted<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Default> Noted<T> {
    pub(super) fn get(&self, at: usize) -> T {
        step();
        let chunk = self.0.get(at / CHUNK).and_then(Option::as_ref);
        chunk.and_then(|chunk| chunk.get(at % CHUNK)).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, at: usize, value: T) {
        if self.0.len() <= at / CHUNK {
            self.0.resize(at / CHUNK + 1, None);
        }
        let Some(place) = self.0.get_mut(at / CHUNK) else { return };
        let chunk = place.get_or_insert_with(|| Arc::new([T::default(); CHUNK]));
        if let Some(slot) = Arc::make_mut(chunk).get_mut(at % CHUNK) {
            *slot = value;
        }
    }
}

/// A set of numbers: of acts, or of devices.
#[derive(Debug, Clone, Default)]
pub(super) struct Acts(Noted<u64>);

type Words = [u64; CHUNK];

impl Acts {
    pub(super) const fn new() -> Self {
        Self(Noted::new())
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0.get(at / WORD) >> (at % WORD) & 1 == 1
    }

    pub(super) fn insert(&mut self, at: usize) {
        self.0.set(at / WORD, self.0.get(at / WORD) | 1 << (at % WORD));
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.0.set(at / WORD, self.0.get(at / WORD) & !(1 << (at % WORD)));
    }

    pub(super) fn count(&self) -> usize {
        let words = self.0.0.iter().flatten().flat_map(|chunk| chunk.iter());
        words.map(|bits| bits.count_ones() as usize).sum()
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        let (own, others) = (&mut self.0.0, &other.0.0);
        if own.len() < others.len() {
            own.resize(others.len(), None);
        }
        for (own, other) in own.iter_mut().zip(others) {
            step();
            let Some(other) = other else { continue };
            match own {
                Some(own) if Arc::ptr_eq(own, other) || is_within(other, own) => {}
                Some(own) if !is_within(own, other) => {
                    for (bits, more) in Arc::make_mut(own).iter_mut().zip(other.iter()) {
                        *bits |= more;
                    }
                }
                // What has no more than the other shares it from now on.
                _ => *own = Some(Arc::clone(other)),
            }
        }
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        let others = other.0.0.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        self.0.0.iter().map(Option::as_ref).zip(others).all(|pair| {
            step();
            match pair {
                (None, _) => true,
                (Some(own), Some(other)) => Arc::ptr_eq(own, other) || is_within(own, other),
                (Some(own), None) => own.iter().all(|bits| *bits == 0),
            }
        })
    }

    /// What is in here and not in the other; in order.
    pub(super) fn without(&self, other: &Self) -> Vec<usize> {
        let others = other.0.0.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let mut found = Vec::new();
        for ((own, other), chunk) in self.0.0.iter().map(Option::as_ref).zip(others).zip(0..) {
            step();
            let Some(own) = own else { continue };
            if other.is_some_and(|other| Arc::ptr_eq(own, other)) {
                continue;
            }
            for (bits, word) in own.iter().zip(0..) {
                let theirs = other.and_then(|other| other.get(word)).copied().unwrap_or(0);
                let mut rest = bits & !theirs;
                while rest != 0 {
                    found.push((chunk * CHUNK + word) * WORD + rest.trailing_zeros() as usize);
                    rest &= rest - 1;
                }
            }
        }
        found
    }
}

fn is_within(one: &Words, other: &Words) -> bool {
    one.iter().zip(other).all(|(one, other)| one & !other == 0)
}

/// Whatever is gone through is looked up here: tests count it.
fn step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
thread_local! {
    pub(super) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
