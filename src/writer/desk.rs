//! Where a space's worker stands while nobody works with it.
//!
//! Whoever wants something done takes the worker, does it, and puts the worker back: the writer's
//! thread for all that was queued and for what comes after, and a caller for one commit of its own.
//! It is out of its place meanwhile. So it is used by one of them at a time, and one that somebody
//! panicked with is dropped where that happened: nobody goes on with half a state.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

use super::worker::{Next, Worker};

/// The writer's thread is let work before any caller once it wants to: it has parked itself, or
/// does so next, and is unparked when the worker is back.
#[derive(Default)]
pub(super) struct Desk(Mutex<Place>);

#[derive(Default)]
struct Place {
    /// None while somebody has it, and once it is gone.
    worker: Option<Box<Worker>>,
    /// A caller panicked with it.
    is_lost: bool,
    /// The thread is to have it next.
    is_awaited: bool,
    /// When the thread looks after it by itself.
    looks: Option<Instant>,
    /// How often a caller had the thread look earlier.
    #[cfg(test)]
    roused: u32,
}

/// The worker in a caller's hands.
pub(super) struct Taken<'a> {
    desk: &'a Desk,
    thread: &'a Thread,
    /// None once it was put back.
    worker: Option<Box<Worker>>,
}

/// The thread's side.
impl Desk {
    /// Waits until the worker is there and takes it. None: it is lost.
    pub(super) fn wait(&self) -> Option<Box<Worker>> {
        loop {
            {
                let mut place = self.place();
                place.is_awaited = true;
                if place.is_lost || place.worker.is_some() {
                    place.is_awaited = false;
                    return place.worker.take();
                }
            }
            thread::park();
        }
    }

    /// Puts the worker down until `looks`, until there is a job, or until a caller leaves something
    /// to be done earlier.
    pub(super) fn rest(&self, worker: Box<Worker>, looks: Option<Instant>) {
        {
            let mut place = self.place();
            place.worker = Some(worker);
            place.looks = looks;
        }
        match looks.map(|at| at.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => {}
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// A caller's side.
impl Desk {
    /// The worker, unless it is at work or the thread wants it.
    pub(super) fn take<'a>(&'a self, thread: &'a Thread) -> Option<Taken<'a>> {
        let mut place = self.place();
        let worker = if place.is_awaited { None } else { place.worker.take() };
        worker.map(|worker| Taken { desk: self, thread, worker: Some(worker) })
    }

    /// Whether the worker stands here.
    #[cfg(test)]
    pub(super) fn has_worker(&self) -> bool {
        self.place().worker.is_some()
    }

    /// Whether it does, and the thread looks after it no more.
    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        let place = self.place();
        place.worker.is_some() && place.looks.is_none()
    }

    /// How often a caller had the thread look earlier than it would have by itself.
    #[cfg(test)]
    pub(super) fn roused(&self) -> u32 {
        self.place().roused
    }

    /// Whether the thread is to have the worker next.
    #[cfg(test)]
    pub(super) fn is_awaited(&self) -> bool {
        self.place().is_awaited
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// Does something with the worker, and puts it back.
    pub(super) fn with<T>(mut self, work: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let mut worker = self.worker.take()?;
        // Without a worker it is lost: so it is if this panics, which drops the worker.
        let done = work(&mut worker);
        self.worker = Some(worker);
        Some(done)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let next = self.worker.as_ref().map(|worker| worker.next());
        let mut place = self.desk.place();
        let is_early = match next {
            None => {
                place.is_lost = true;
                true
            }
            Some(Next::Now) => {
                place.is_awaited = true;
                true
            }
            Some(Next::At(at)) if place.looks.is_none_or(|looks| at < looks) => {
                place.looks = Some(at);
                true
            }
            Some(Next::At(_) | Next::Never) => false,
        };
        place.worker = self.worker.take();
        #[cfg(test)]
        {
            place.roused += u32::from(is_early);
        }
        let is_wanted = is_early || place.is_awaited;
        drop(place);
        if is_wanted {
            self.thread.unpark();
        }
    }
}
