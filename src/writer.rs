//! One thread per space that does all its writing, in the order in which it is asked.
//!
//! Units that wait together are committed together: one transaction, one checkpoint, one fsync,
//! and still an entry and a receipt for each. A caller that blocks does its commit itself while
//! nothing else is asked for ([`Writer::commit_blocking`]): no thread is waited for then.

mod desk;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use larder_engine::{
    CheckReport, Checking, Embedded, Enrolment, IndexMark, Pruned, Receipt, SpaceWriter, Task,
    UnitOfWork,
};
use larder_protocol::Reply;
use larder_types::limits::WRITE_QUEUE_MAX;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::desk::Desk;
use self::worker::{Pause, Worker};
use crate::metrics;
use crate::{Error, Event, Result};

type Answer<T> = oneshot::Sender<larder_engine::Result<T>>;
/// Who waits for something that takes long, and hears how far it is.
type Asked<T> = (watch::Sender<Pages>, Answer<T>);

enum Job {
    Commit(Box<UnitOfWork>, Answer<Receipt>),
    Session(Task, Answer<Reply>),
    Admit(Box<Enrolment>, Answer<Receipt>),
    Rekey(watch::Sender<Pages>, Answer<()>),
    Prune(watch::Sender<Pages>, Answer<Pruned>),
    Index(IndexMark, Answer<()>),
    /// Vectors that were made elsewhere.
    Embedded(Embedded),
    /// Anything else; true: other devices are to hear of it.
    With(Box<dyn FnOnce(&mut SpaceWriter) -> bool + Send>),
    Close(Answer<()>),
}

/// All that tick after every transaction that changed something.
#[derive(Clone)]
pub(crate) struct Ticks(pub(crate) Vec<watch::Sender<u64>>);

impl Ticks {
    fn tick(&self) {
        for one in &self.0 {
            one.send_modify(|count| *count += 1);
        }
    }
}

/// How many pages of 4 KiB are done, of how many.
pub(crate) type Pages = (u64, u64);

/// The way to a space's writer thread. When the last clone is gone, the thread finishes what it
/// was asked and ends.
#[derive(Clone)]
pub(crate) struct Writer {
    /// Dropped before the bell is: then the thread finds that nobody is left.
    jobs: mpsc::Sender<Job>,
    bell: Bell,
    desk: Arc<Desk>,
    /// False: what it worked with is lost.
    thread: Arc<Mutex<Option<JoinHandle<bool>>>>,
}

/// Wakes the thread: after each job, and when this is dropped.
#[derive(Clone)]
struct Bell(Thread);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl Writer {
    /// Starts the thread; `changed` ticks after every transaction that changed something, `events`
    /// takes what nobody asked for.
    pub(crate) fn start(
        writer: SpaceWriter,
        changed: Ticks,
        events: broadcast::Sender<Event>,
    ) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let worker = Worker::new(writer, changed, events, queue, jobs.downgrade());
        let desk = Arc::new(Desk::default());
        let shared = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("larder-writer".into())
            .spawn(move || run(Box::new(worker), &shared))
            .map_err(|error| Error::Internal(format!("no thread for the space: {error}")))?;
        let bell = Bell(thread.thread().clone());
        Ok(Self { jobs, bell, desk, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    pub(crate) async fn commit(&self, unit: UnitOfWork) -> Result<Receipt> {
        self.ask(|answer| Job::Commit(Box::new(unit), answer)).await
    }

    /// [`Writer::commit`] on the caller's own thread, if nothing else is being done or waits;
    /// otherwise the unit takes its place in the queue, and the thread is blocked meanwhile.
    pub(crate) fn commit_blocking(&self, unit: UnitOfWork) -> Result<Receipt> {
        // Whoever has a place in the queue comes first. No place is given back before the thread
        // has the worker, and it keeps that until all are empty.
        let is_idle = || self.jobs.capacity() == self.jobs.max_capacity();
        let taken = self.desk.take(&self.bell.0).filter(|_| is_idle());
        // It is put down again before anybody waits for who would take it next.
        let Some(taken) = taken else { return wait(self.commit(unit)) };
        let done = taken.with(|worker| worker.commit(unit)).flatten();
        Ok(done.ok_or(Error::Closed)??)
    }

    /// Writes what a session needs written.
    pub(crate) async fn answer(&self, task: Task) -> Result<Reply> {
        self.ask(|answer| Job::Session(task, answer)).await
    }

    pub(crate) async fn admit(&self, enrolment: Enrolment) -> Result<Receipt> {
        self.ask(|answer| Job::Admit(Box::new(enrolment), answer)).await
    }

    /// Renews the space's at-rest key between other work; `told` hears how far that has come.
    pub(crate) async fn rekey(&self, told: watch::Sender<Pages>) -> Result<()> {
        self.ask(|answer| Job::Rekey(told, answer)).await
    }

    /// Goes as far with pruning as can be gone, between other work; `told` hears how many sections
    /// were dropped.
    pub(crate) async fn prune(&self, told: watch::Sender<Pages>) -> Result<Pruned> {
        self.ask(|answer| Job::Prune(told, answer)).await
    }

    /// Brings the indexes as far as the mark says.
    pub(crate) async fn index(&self, mark: IndexMark) -> Result<()> {
        self.ask(|answer| Job::Index(mark, answer)).await
    }

    /// Does `work` in its turn.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SpaceWriter) -> larder_engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(false, work).await
    }

    /// Does `work` in its turn; `tells`: if it succeeds, other devices are to hear of it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tells: bool,
        work: impl FnOnce(&mut SpaceWriter) -> larder_engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask(|answer| {
            Job::With(Box::new(move |writer| {
                let result = work(writer);
                let changed = tells && result.is_ok();
                // Whoever gave up no longer cares for the answer.
                let _ = answer.send(result);
                changed
            }))
        })
        .await
    }

    /// Checks the space against its log, between other work.
    pub(crate) async fn check(&self, repair: bool) -> Result<CheckReport> {
        let mut checking = Checking::new(repair);
        loop {
            let step = move |writer: &mut SpaceWriter| {
                let mut checking = checking;
                let is_done = writer.check_step(&mut checking)?;
                Ok((checking, is_done))
            };
            let (stepped, is_done) = self.run(repair, step).await?;
            if is_done {
                return Ok(stepped.into_report());
            }
            checking = stepped;
        }
    }

    /// Finishes what was asked before, writes the WAL back and ends the thread.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = match self.ask(Job::Close).await {
            Err(Error::Closed) => Ok(()),
            result => result,
        };
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if !matches!(joined.await, Ok(Ok(true))) {
                return Err(Error::Internal("a space's writer broke down".to_owned()));
            }
        }
        closed
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T> {
        let (answer, wait) = oneshot::channel();
        let begun = Instant::now();
        self.jobs.send(job(answer)).await.map_err(|_| Error::Closed)?;
        metrics::placed(begun);
        self.bell.0.unpark();
        Ok(wait.await.map_err(|_| Error::Closed)??)
    }
}

/// What the thread does. False: a caller broke down with what it works with.
fn run(mut worker: Box<Worker>, desk: &Desk) -> bool {
    let thread = thread::current();
    worker.begin();
    loop {
        match worker.work(&thread) {
            Pause::Ended => return true,
            Pause::Until(looks) => desk.rest(worker, looks),
        }
        match desk.wait() {
            Some(back) => worker = back,
            None => return false,
        }
    }
}

/// Wakes the thread that waits.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until `work` is done, on threads of a runtime too, where tokio's own way of
/// waiting panics. `work` must not need this thread for anything else.
fn wait<T>(work: impl Future<Output = T>) -> T {
    // A task's share of its thread may be used up: it would be told to come back, and could not.
    let mut work = std::pin::pin!(tokio::task::unconstrained(work));
    let waker = Waker::from(Arc::new(Waiting(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests;
