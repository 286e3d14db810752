//! One thread per space that does all its writing, in the order in which it is asked.
//!
//! Units that wait together are committed together: one transaction, one checkpoint, one fsync,
//! and still an entry and a receipt for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use larder_engine::{
    CheckReport, Checking, Embedded, Enrolment, IndexMark, Pruned, Pruning, Receipt, Rekey,
    SpaceWriter, Task, UnitOfWork,
};
use larder_protocol::Reply;
use larder_types::limits::{
    INDEX_BACKLOG_MAX, INDEX_DOCUMENTS_MAX, INDEX_IDLE_MS, SHOW_IDLE_MS, WRITE_QUEUE_MAX,
};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

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

/// How many pages of 4 KiB are done, of how many.
pub(crate) type Pages = (u64, u64);

/// The way to a space's writer thread. When the last clone is gone, the thread finishes what it
/// was asked and ends.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    /// Woken by each job: it may wait for one only so long.
    worker: Thread,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    /// Starts the thread; `changed` ticks after every transaction that changed something, `events`
    /// takes what nobody asked for.
    pub(crate) fn start(
        writer: SpaceWriter,
        changed: watch::Sender<u64>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let from_elsewhere = jobs.downgrade();
        let thread = std::thread::Builder::new()
            .name("larder-writer".into())
            .spawn(move || Worker::new(writer, changed, events, from_elsewhere).run(queue))
            .map_err(|error| Error::Internal(format!("no thread for the space: {error}")))?;
        Ok(Self {
            jobs,
            worker: thread.thread().clone(),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    pub(crate) async fn commit(&self, unit: UnitOfWork) -> Result<Receipt> {
        self.ask(|answer| Job::Commit(Box::new(unit), answer)).await
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
            if !matches!(joined.await, Ok(Ok(()))) {
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
        self.worker.unpark();
        Ok(wait.await.map_err(|_| Error::Closed)??)
    }
}

/// What the thread works with.
struct Worker {
    writer: SpaceWriter,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    waiting: VecDeque<Job>,
    /// Whether nothing was asked for a while.
    is_quiet: bool,
    /// A pruning under way.
    pruning: Option<Pruning>,
    /// Those who wait for it, and those who asked since it began: it goes once more for them.
    pruning_for: Vec<Asked<Pruned>>,
    pruning_next: Vec<Asked<Pruned>>,
    /// Those who wait for the renewal of the key.
    renewing: Vec<Asked<()>>,
    /// Those who wait for the indexes.
    searching: Vec<(IndexMark, Answer<()>)>,
    indexing: Indexing,
    embedding: Embedding,
    /// When it was looked last how large the WAL is.
    written_back: Instant,
    /// When blobs that nobody names were looked after last.
    tended: Instant,
    /// When showing is tried again, after it failed or had to set something aside.
    showing: Again,
    /// When indexing is.
    reindexing: Again,
}

/// When something that failed is tried again by itself: ever later, and only so many times. It goes
/// on from the beginning once it has worked.
#[derive(Default)]
struct Again {
    failures: u32,
    at: Option<Instant>,
}

impl Again {
    fn failed(&mut self) {
        let is_hopeless = self.failures >= RETRIES;
        self.at = (!is_hopeless).then(|| Instant::now() + RETRY_AFTER * 2_u32.pow(self.failures));
        self.failures = (self.failures + 1).min(RETRIES);
    }

    fn worked(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing has failed, or it is time to try it again.
    fn may_try(&self) -> bool {
        self.failures == 0 || self.at.is_some_and(|at| at <= Instant::now())
    }
}

/// SQLite writes a WAL back by itself once it has 4 MiB.
const WAL_BYTES_MAX: u64 = 32 << 20;
const WRITE_BACK_EVERY: Duration = Duration::from_mins(1);
const TEND_EVERY: Duration = Duration::from_hours(6);
const RETRIES: u32 = 8;
/// The last time is 43 minutes later.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// When documents that wait to be indexed are.
enum Indexing {
    /// Once there was nothing else to do for a while: who writes one unit after the other does not
    /// wait for an index between them, and many documents are indexed together in less time.
    Later,
    /// While there is nothing else to do.
    Now,
    /// When it is asked for, or after a while: it failed the last time.
    Failed,
}

impl Worker {
    fn new(
        writer: SpaceWriter,
        changed: watch::Sender<u64>,
        events: broadcast::Sender<Event>,
        jobs: mpsc::WeakSender<Job>,
    ) -> Self {
        Self {
            writer,
            changed,
            events,
            waiting: VecDeque::new(),
            is_quiet: false,
            pruning: None,
            pruning_for: Vec::new(),
            pruning_next: Vec::new(),
            renewing: Vec::new(),
            searching: Vec::new(),
            embedding: Embedding { jobs, is_busy: false },
            indexing: Indexing::Later,
            written_back: Instant::now(),
            tended: Instant::now(),
            showing: Again::default(),
            reindexing: Again::default(),
        }
    }

    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        // What cannot be done now is done when the space is opened next.
        let _ = self.writer.tend_blobs();
        let _ = self.writer.look_for_room();
        loop {
            if self.waiting.is_empty() {
                match self.next(&mut queue) {
                    Ok(job) => {
                        self.is_quiet = false;
                        if matches!(self.indexing, Indexing::Now)
                            && !matches!(job, Job::Embedded(_))
                        {
                            self.indexing = Indexing::Later;
                        }
                        self.waiting.push_back(job);
                    }
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break,
                }
            }
            while self.waiting.len() < WRITE_QUEUE_MAX
                && let Ok(job) = queue.try_recv()
            {
                self.waiting.push_back(job);
            }
            metrics::waiting(self.waiting.len());
            if !self.step() {
                return;
            }
            self.remind();
            self.tend();
            self.renew();
            self.prune();
            self.shrink();
            self.index();
        }
        // Nobody is left to be told of a failure; what was committed is safe without this.
        let _ = self.writer.close();
    }

    /// Waits for a job, unless there is something to do without one.
    fn next(&mut self, queue: &mut mpsc::Receiver<Job>) -> std::result::Result<Job, TryRecvError> {
        let is_behind = self.is_behind();
        if self.has_steps() || is_behind && !self.searching.is_empty() {
            return queue.try_recv();
        }
        let is_shown = self.writer.is_shown();
        let may_show = !is_shown && self.showing.may_try();
        let idle = match self.indexing {
            _ if may_show => Duration::from_millis(SHOW_IDLE_MS),
            Indexing::Later if is_behind => Duration::from_millis(INDEX_IDLE_MS),
            Indexing::Now if is_behind => return queue.try_recv(),
            _ if self.may_prune() && self.is_quiet => return queue.try_recv(),
            _ if self.may_prune() => Duration::from_millis(INDEX_IDLE_MS),
            _ => match [self.showing.at, self.reindexing.at].into_iter().flatten().min() {
                Some(at) => at.saturating_duration_since(Instant::now()),
                None => return queue.blocking_recv().ok_or(TryRecvError::Disconnected),
            },
        };
        let next = wait(queue, idle);
        if matches!(next, Err(TryRecvError::Empty)) {
            self.while_idle(may_show);
        }
        next
    }

    /// Nothing was asked for a while.
    fn while_idle(&mut self, may_show: bool) {
        let is_due = |again: &Again| again.at.is_some() && again.may_try();
        if may_show {
            // What it fails on now is seen to by the next transaction too, which says so.
            match self.writer.show() {
                Ok(_) => self.tell_visible(),
                Err(_) => self.showing.failed(),
            }
        } else if is_due(&self.showing) {
            match self.writer.show_set_aside() {
                Ok(()) if !self.writer.has_set_aside() => self.tell_visible(),
                _ => self.showing.failed(),
            }
        } else if is_due(&self.reindexing) {
            self.reindexing.at = None;
            self.indexing = Indexing::Now;
        } else if self.is_behind() && matches!(self.indexing, Indexing::Later) {
            self.indexing = Indexing::Now;
        } else {
            self.is_quiet = true;
        }
    }

    /// Now and then, among other work: whoever serves does not open its spaces for months.
    fn tend(&mut self) {
        if self.written_back.elapsed() >= WRITE_BACK_EVERY {
            self.written_back = Instant::now();
            // The space's state says what went wrong.
            let _ = self.writer.write_back(WAL_BYTES_MAX);
        }
        if self.tended.elapsed() >= TEND_EVERY {
            self.tended = Instant::now();
            // What cannot be done now is done the next time.
            let _ = self.writer.tend_blobs();
            let _ = self.writer.look_for_room();
        }
    }

    /// What was set aside is tried again after a while.
    fn remind(&mut self) {
        match (self.writer.is_shown(), self.writer.has_set_aside()) {
            (true, false) => self.showing.worked(),
            (_, true) if self.showing.failures == 0 => self.showing.failed(),
            _ => {}
        }
    }

    fn tell_visible(&self) {
        self.changed.send_modify(|count| *count += 1);
        let space = self.writer.space().name().clone();
        let _ = self.events.send(Event::Visible { space });
    }

    /// Does the first of the waiting jobs, and those behind it that can share its transaction.
    /// False: the thread ends.
    fn step(&mut self) -> bool {
        let Self { writer, changed, events, waiting, .. } = self;
        // Told before the asker is: who sees its own answer finds the change counted.
        let tick = |really: bool| {
            if really {
                changed.send_modify(|count| *count += 1);
            }
        };
        // An asker that gave up no longer cares for the answer.
        match waiting.pop_front() {
            Some(Job::Commit(unit, answer)) => {
                let begun = Instant::now();
                let span = tracing::debug_span!("commit");
                let (answers, results) =
                    span.in_scope(|| commit_group(writer, *unit, answer, waiting));
                metrics::committed(begun, results.len());
                metrics::counted(&writer.counted());
                tick(results.iter().any(Result::is_ok));
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
            }
            Some(Job::Session(task, answer)) => {
                let begun = Instant::now();
                let done = writer.answer(task);
                metrics::applied(begun);
                metrics::counted(&writer.counted());
                tick(done.entries > 0);
                if done.entries > 0 && writer.is_shown() {
                    let _ = events.send(Event::Visible { space: writer.space().name().clone() });
                }
                let _ = answer.send(Ok(done.reply));
            }
            Some(Job::Admit(enrolment, answer)) => {
                let result = writer.admit(*enrolment);
                tick(result.is_ok());
                let _ = answer.send(result);
            }
            Some(Job::Prune(told, answer)) => self.pruning_next.push((told, answer)),
            Some(Job::Rekey(told, answer)) => match writer.wish_rekey() {
                Ok(()) => self.renewing.push((told, answer)),
                Err(error) => drop(answer.send(Err(error))),
            },
            Some(Job::With(work)) => tick(work(writer)),
            Some(Job::Index(mark, answer)) => self.searching.push((mark, answer)),
            Some(Job::Embedded(embedded)) => {
                self.embedding.is_busy = false;
                if let Err(error) = writer.store_vectors(&embedded) {
                    self.index_failed(error);
                }
            }
            Some(Job::Close(answer)) => {
                index_rest(writer);
                let _ = answer.send(writer.close());
                return false;
            }
            None => {}
        }
        true
    }

    /// Whether there are words to be indexed, or vectors to be made that nobody makes yet.
    fn is_behind(&self) -> bool {
        let may_embed = self.writer.unembedded() > 0 && !self.embedding.is_busy;
        self.writer.unindexed() > 0 || may_embed
    }

    /// One step of indexing, if it is time for one, and the answers to those who waited for it.
    fn index(&mut self) {
        let is_due = match self.indexing {
            _ if !self.searching.is_empty() => true,
            Indexing::Failed => false,
            Indexing::Now => true,
            Indexing::Later => self.writer.unindexed() > INDEX_BACKLOG_MAX,
        };
        let stepped = if !is_due || !self.is_behind() {
            Ok(())
        } else if self.writer.unindexed() > 0 {
            self.index_words()
        } else {
            self.embedding.begin(&mut self.writer)
        };
        if let Err(error) = stepped {
            self.index_failed(error);
        }
        let writer = &self.writer;
        for (_, answer) in self.searching.extract_if(.., |(mark, _)| writer.has_indexed(mark)) {
            let _ = answer.send(Ok(()));
        }
    }

    fn index_words(&mut self) -> larder_engine::Result<()> {
        let begun = Instant::now();
        let indexed = self.writer.index(INDEX_DOCUMENTS_MAX);
        metrics::indexed(begun, self.writer.unindexed());
        indexed?;
        if self.writer.unindexed() == 0 {
            self.reindexing.worked();
            self.indexing = Indexing::Later;
            let space = self.writer.space().name().clone();
            let _ = self.events.send(Event::Indexed { space });
        }
        Ok(())
    }

    fn index_failed(&mut self, error: larder_engine::Error) {
        self.indexing = Indexing::Failed;
        self.reindexing.failed();
        fail_all(self.searching.drain(..).map(|(_, answer)| answer), error);
    }

    /// Whether something is under way that goes on between other work.
    fn has_steps(&self) -> bool {
        let prunes = !self.pruning_for.is_empty() || !self.pruning_next.is_empty();
        prunes || self.writer.wants_rekey() || self.writer.wants_shrink()
    }

    /// Whether pruning goes on, or may be worth it, once nothing else is asked for.
    fn may_prune(&self) -> bool {
        self.pruning.is_some() || self.writer.may_want_pruning()
    }

    /// One step of a pruning: of one that is asked for in its turn, of one that nobody asked for
    /// while there is nothing else to do.
    fn prune(&mut self) {
        if self.pruning_for.is_empty() && !self.pruning_next.is_empty() {
            self.pruning_for.append(&mut self.pruning_next);
            self.pruning = Some(Pruning::new(true));
        }
        if self.pruning_for.is_empty() {
            if !self.is_quiet || !self.waiting.is_empty() {
                return;
            }
            if self.pruning.is_none() {
                self.pruning = self.writer.wants_pruning().unwrap_or_default();
            }
        }
        let Some(pruning) = &mut self.pruning else { return };
        let appended = pruning.appended();
        let stepped = self.writer.prune_step(pruning);
        let pruned = *pruning.pruned();
        if pruning.appended() > appended {
            self.changed.send_modify(|count| *count += 1);
        }
        match stepped {
            Ok(false) => {
                for (told, _) in &self.pruning_for {
                    told.send_replace((pruned.sections, pruned.sections));
                }
            }
            Ok(true) => {
                self.pruning = None;
                if self.pruning_for.is_empty() && pruned.sections > 0 {
                    let space = self.writer.space().name().clone();
                    let (sections, bytes) = (pruned.sections, pruned.bytes);
                    let _ = self.events.send(Event::Pruned { space, sections, bytes });
                }
                for (_, answer) in self.pruning_for.drain(..) {
                    let _ = answer.send(Ok(pruned));
                }
            }
            Err(error) => {
                self.pruning = None;
                fail_all(self.pruning_for.drain(..).map(|(_, answer)| answer), error);
            }
        }
    }

    /// Gives room in the file back, if there is much.
    fn shrink(&mut self) {
        if self.pruning.is_none() && self.writer.wants_shrink() {
            // What fails now is tried after the next look.
            let _ = self.writer.shrink_step();
        }
    }

    /// One step of a renewal of the key, if one is wished for.
    fn renew(&mut self) {
        // A wish that cannot be recorded now is one for later.
        let _ = self.writer.check_key_age();
        if !self.writer.wants_rekey() {
            return;
        }
        let stepped = self.writer.rekey_step();
        let space = || self.writer.space().name().clone();
        match stepped {
            Ok(Rekey::Copying { pages, pages_total }) => {
                for (told, _) in &self.renewing {
                    told.send_replace((pages, pages_total));
                }
            }
            Ok(Rekey::Done { pages }) => {
                let _ = self.events.send(Event::Rekeyed { space: space() });
                for (told, answer) in self.renewing.drain(..) {
                    told.send_replace((pages, pages));
                    let _ = answer.send(Ok(()));
                }
            }
            Ok(Rekey::Idle) => {}
            Err(error) => {
                let message = error.to_string();
                let _ = self.events.send(Event::RekeyFailed { space: space(), message });
                let mut error = Some(error);
                for (_, answer) in self.renewing.drain(..) {
                    let failed = error.take().unwrap_or(larder_engine::Error::RekeyFailed);
                    let _ = answer.send(Err(failed));
                }
            }
        }
    }
}

/// The making of vectors, on a thread of its own: an embedder may be slow, or hang, and nothing
/// else waits for it.
struct Embedding {
    jobs: mpsc::WeakSender<Job>,
    is_busy: bool,
}

impl Embedding {
    /// Has vectors made of what waits for them longest.
    fn begin(&mut self, writer: &mut SpaceWriter) -> larder_engine::Result<()> {
        let (texts, embedder) = (writer.next_unembedded(INDEX_DOCUMENTS_MAX)?, writer.embedder());
        let (jobs, worker) = (self.jobs.clone(), std::thread::current());
        let work = move || {
            let made = texts.embed(&*embedder);
            // The space may have been closed meanwhile: it begins anew when it is opened.
            if let Some(jobs) = jobs.upgrade() {
                let _ = jobs.blocking_send(Job::Embedded(made));
                worker.unpark();
            }
        };
        let thread = std::thread::Builder::new().name("larder-embedder".into()).spawn(work);
        self.is_busy = thread.is_ok();
        thread.map(drop).map_err(|e| {
            larder_engine::Error::Transaction(format!("no thread for the embedder: {e}"))
        })
    }
}

/// Tells all of them of one error.
fn fail_all<T>(answers: impl Iterator<Item = Answer<T>>, error: larder_engine::Error) {
    let message = error.to_string();
    let mut error = Some(error);
    for answer in answers {
        let shared = || larder_engine::Error::Transaction(message.clone());
        let _ = answer.send(Err(error.take().unwrap_or_else(shared)));
    }
}

/// Indexes what waits, so that who opens the space for reading only finds it; no more than takes a
/// moment, so that closing does not take long after a long catch-up.
fn index_rest(writer: &mut SpaceWriter) {
    let mut left = 4 * INDEX_DOCUMENTS_MAX;
    while let Ok(dealt @ 1..) = writer.index(left.min(INDEX_DOCUMENTS_MAX)) {
        left -= dealt.min(left);
    }
}

/// Waits for a job, so long.
fn wait(queue: &mut mpsc::Receiver<Job>, idle: Duration) -> std::result::Result<Job, TryRecvError> {
    let until = Instant::now() + idle;
    loop {
        let next = queue.try_recv();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !matches!(next, Err(TryRecvError::Empty)) {
            return next;
        }
        std::thread::park_timeout(left);
    }
}

type Group = (Vec<Answer<Receipt>>, Vec<larder_engine::Result<Receipt>>);

fn commit_group(
    writer: &mut SpaceWriter,
    unit: UnitOfWork,
    answer: Answer<Receipt>,
    waiting: &mut VecDeque<Job>,
) -> Group {
    let mut answers = vec![answer];
    if !matches!(waiting.front(), Some(Job::Commit(..))) {
        // A unit that is known to be alone costs less.
        return (answers, writer.commit(&mut std::iter::once(unit)));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_ever_later_and_not_for_ever() {
        let mut again = Again::default();
        assert!(again.may_try());
        let mut last = Instant::now();
        for _ in 0..RETRIES {
            again.failed();
            let at = again.at.unwrap();
            assert!(at > last && !again.may_try());
            last = at;
        }
        again.failed();
        assert!(again.at.is_none() && !again.may_try());
        again.worked();
        assert!(again.may_try());
    }
}
