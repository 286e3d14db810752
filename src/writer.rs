//! One thread per space that does all its writing, in the order in which it is asked.
//!
//! Units that wait together are committed together: one transaction, one checkpoint, one fsync,
//! and still an entry and a receipt for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use larder_engine::{Ack, Applied, Batch, Enrolment, Receipt, SpaceWriter, UnitOfWork};
use larder_protocol::Fork;
use larder_types::limits::WRITE_QUEUE_MAX;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, Result};

type Answer<T> = oneshot::Sender<larder_engine::Result<T>>;

enum Job {
    Commit(Box<UnitOfWork>, Answer<Receipt>),
    Apply(Box<Batch>, Answer<Applied>),
    Acks(Vec<Ack>, Answer<Vec<Ack>>),
    Admit(Box<Enrolment>, Answer<Receipt>),
    Stop(Vec<Fork>, Answer<()>),
    Close(Answer<()>),
}

/// The way to a space's writer thread. When the last clone is gone, the thread finishes what it
/// was asked and ends.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    /// Starts the thread; `changed` ticks after every transaction that changed something.
    pub(crate) fn start(writer: SpaceWriter, changed: watch::Sender<u64>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("larder-writer".into())
            .spawn(move || run(writer, queue, &changed))
            .map_err(|error| Error::Internal(format!("no thread for the space: {error}")))?;
        Ok(Self { jobs, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    pub(crate) async fn commit(&self, unit: UnitOfWork) -> Result<Receipt> {
        self.ask(|answer| Job::Commit(Box::new(unit), answer)).await
    }

    pub(crate) async fn apply(&self, batch: Box<Batch>) -> Result<Applied> {
        self.ask(|answer| Job::Apply(batch, answer)).await
    }

    pub(crate) async fn store_acks(&self, acks: Vec<Ack>) -> Result<Vec<Ack>> {
        self.ask(|answer| Job::Acks(acks, answer)).await
    }

    pub(crate) async fn admit(&self, enrolment: Enrolment) -> Result<Receipt> {
        self.ask(|answer| Job::Admit(Box::new(enrolment), answer)).await
    }

    /// Keeps evidence of forks.
    pub(crate) async fn stop_logs(&self, forks: Vec<Fork>) -> Result<()> {
        self.ask(|answer| Job::Stop(forks, answer)).await
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
            if !matches!(joined.await, Ok(Ok(()))) {
                return Err(Error::Internal("a space's writer broke down".to_owned()));
            }
        }
        closed
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T> {
        let (answer, wait) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| Error::Closed)?;
        Ok(wait.await.map_err(|_| Error::Closed)??)
    }
}

fn run(mut writer: SpaceWriter, mut queue: mpsc::Receiver<Job>, changed: &watch::Sender<u64>) {
    let mut waiting: VecDeque<Job> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match queue.blocking_recv() {
                Some(job) => waiting.push_back(job),
                None => break,
            }
        }
        while waiting.len() < WRITE_QUEUE_MAX
            && let Ok(job) = queue.try_recv()
        {
            waiting.push_back(job);
        }
        if !step(&mut writer, &mut waiting, changed) {
            return;
        }
    }
    // Nobody is left to be told of a failure; what was committed is safe without this.
    let _ = writer.close();
}

/// Does the first of the waiting jobs, and those behind it that can share its transaction.
/// False: the thread ends.
fn step(
    writer: &mut SpaceWriter,
    waiting: &mut VecDeque<Job>,
    changed: &watch::Sender<u64>,
) -> bool {
    // Told before the asker is: who sees its own answer finds the change counted.
    let tick = |really: bool| {
        if really {
            changed.send_modify(|count| *count += 1);
        }
    };
    // An asker that gave up no longer cares for the answer.
    match waiting.pop_front() {
        Some(Job::Commit(unit, answer)) => {
            let (answers, results) = commit_group(writer, *unit, answer, waiting);
            tick(results.iter().any(Result::is_ok));
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(result);
            }
        }
        Some(Job::Apply(batch, answer)) => {
            let result = writer.apply(*batch);
            tick(result.as_ref().is_ok_and(|applied| applied.entries > 0));
            let _ = answer.send(result);
        }
        Some(Job::Acks(acks, answer)) => {
            let _ = answer.send(writer.store_acks(&acks));
        }
        Some(Job::Admit(enrolment, answer)) => {
            let result = writer.admit(*enrolment);
            tick(result.is_ok());
            let _ = answer.send(result);
        }
        Some(Job::Stop(forks, answer)) => {
            let _ = answer.send(writer.stop_logs(&forks));
        }
        Some(Job::Close(answer)) => {
            let _ = answer.send(writer.close());
            return false;
        }
        None => {}
    }
    true
}

type Group = (Vec<Answer<Receipt>>, Vec<larder_engine::Result<Receipt>>);

fn commit_group(
    writer: &mut SpaceWriter,
    unit: UnitOfWork,
    answer: Answer<Receipt>,
    waiting: &mut VecDeque<Job>,
) -> Group {
    let mut answers = vec![answer];
    let mut first = Some(unit);
    let mut units = std::iter::from_fn(|| {
        if let Some(unit) = first.take() {
            return Some(unit);
        }
        match waiting.pop_front() {
            Some(Job::Commit(unit, answer)) => {
                answers.push(answer);
                Some(*unit)
            }
            other => {
                if let Some(other) = other {
                    waiting.push_front(other);
                }
                None
            }
        }
    });
    let results = writer.commit(&mut units);
    (answers, results)
}
