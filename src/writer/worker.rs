//! What a space's worker does: jobs in the order in which they were asked, and between and after
//! them what follows by itself.

use std::collections::VecDeque;
use std::thread::Thread;
use std::time::{Duration, Instant};

use larder_engine::{
    IndexMark, Noticed, Pruned, Pruning, Receipt, Rekey, Retained, SpaceWriter, UnitOfWork,
};
use larder_types::limits::{
    INDEX_BACKLOG_MAX, INDEX_DOCUMENTS_MAX, INDEX_IDLE_MS, SHOW_IDLE_MS, WRITE_QUEUE_MAX,
};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{broadcast, mpsc};

use super::{Answer, Asked, Job, Ticks};
use crate::{Event, metrics};

/// All that writing a space takes.
pub(super) struct Worker {
    writer: SpaceWriter,
    changed: Ticks,
    events: broadcast::Sender<Event>,
    queue: mpsc::Receiver<Job>,
    /// What was taken out of the queue.
    waiting: VecDeque<Job>,
    /// When it had something to do last.
    rests_since: Instant,
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
    /// Whether there is more to carry over from an old copy now.
    carries: bool,
    /// When it is looked next how large the WAL is.
    write_back_at: Instant,
    /// When blobs that nobody names are looked after next.
    tend_at: Instant,
    /// When showing is tried again, after it failed or had to set something aside.
    showing: Again,
    /// When indexing is.
    reindexing: Again,
    /// When the disk is seen to of what was erased, after somebody read from before.
    erasing: Again,
    /// The same of secrets that went.
    forgetting: Again,
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

/// When a worker goes on, if nothing is asked of it until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    At(Instant),
    Never,
}

/// Why a worker stops working.
pub(super) enum Pause {
    /// Nothing is to be done before this time; without one, before it is asked for.
    Until(Option<Instant>),
    /// The space is closed, or nobody is left to ask for anything.
    Ended,
}

impl Worker {
    pub(super) fn new(
        writer: SpaceWriter,
        changed: Ticks,
        events: broadcast::Sender<Event>,
        queue: mpsc::Receiver<Job>,
        jobs: mpsc::WeakSender<Job>,
    ) -> Self {
        Self {
            writer,
            changed,
            events,
            queue,
            waiting: VecDeque::new(),
            rests_since: Instant::now(),
            is_quiet: false,
            pruning: None,
            pruning_for: Vec::new(),
            pruning_next: Vec::new(),
            renewing: Vec::new(),
            searching: Vec::new(),
            embedding: Embedding { jobs, is_busy: false },
            indexing: Indexing::Later,
            carries: false,
            write_back_at: Instant::now() + WRITE_BACK_EVERY,
            tend_at: Instant::now() + TEND_EVERY,
            showing: Again::default(),
            reindexing: Again::default(),
            erasing: Again::default(),
            forgetting: Again::default(),
        }
    }

    /// What a space that was just opened begins with.
    pub(super) fn begin(&mut self) {
        // What cannot be done now is done when the space is opened next.
        self.tend_retention();
        let _ = self.writer.tend_blobs();
        let _ = self.writer.look_for_room();
    }

    /// Does what there is to be done. `thread`: the one that it is called on.
    pub(super) fn work(&mut self, thread: &Thread) -> Pause {
        loop {
            if self.waiting.is_empty() {
                match self.queue.try_recv() {
                    Ok(job) => {
                        if !matches!(job, Job::Embedded(_)) {
                            self.is_asked();
                        }
                        self.is_quiet = false;
                        self.waiting.push_back(job);
                    }
                    Err(TryRecvError::Empty) => match self.next() {
                        Next::Now => {}
                        Next::At(at) if at <= Instant::now() => self.while_idle(),
                        Next::At(at) => return Pause::Until(Some(at)),
                        Next::Never => return Pause::Until(None),
                    },
                    Err(TryRecvError::Disconnected) => {
                        // Nobody is left to be told of a failure; what was committed is safe
                        // without this.
                        let _ = self.writer.close();
                        return Pause::Ended;
                    }
                }
            }
            while self.waiting.len() < WRITE_QUEUE_MAX
                && let Ok(job) = self.queue.try_recv()
            {
                self.waiting.push_back(job);
            }
            metrics::waiting(self.waiting.len());
            if !self.step() {
                return Pause::Ended;
            }
            self.remind();
            self.tend();
            self.renew();
            self.carry();
            self.prune();
            self.shrink();
            self.index(thread);
            self.rests_since = Instant::now();
        }
    }

    /// Commits a unit outside the queue, in which nothing waits. What follows from it is left to
    /// the thread.
    pub(super) fn commit(&mut self, unit: UnitOfWork) -> Option<larder_engine::Result<Receipt>> {
        self.is_asked();
        self.is_quiet = false;
        let begun = Instant::now();
        let commit = || self.writer.commit(&mut std::iter::once(unit));
        let results = tracing::debug_span!("commit").in_scope(commit);
        self.committed(begun, &results);
        self.remind();
        self.rests_since = Instant::now();
        results.into_iter().next()
    }

    /// Told before the asker is: who sees its own answer finds the change counted.
    fn committed(&mut self, begun: Instant, results: &[larder_engine::Result<Receipt>]) {
        metrics::committed(begun, results.len());
        metrics::counted(&self.writer.counted());
        for noticed in self.writer.noticed() {
            let Noticed { object, collection, kinds, redacted, raised } = noticed;
            let space = self.writer.space().name().clone();
            let told = Event::Personal { space, object, collection, kinds, redacted, raised };
            // Fails only if nobody listens.
            let _ = self.events.send(told);
        }
        if results.iter().any(Result::is_ok) {
            self.changed.tick();
        }
    }

    /// Indexing waits again until nothing is asked for.
    fn is_asked(&mut self) {
        if matches!(self.indexing, Indexing::Now) {
            self.indexing = Indexing::Later;
        }
    }

    /// When it goes on, if nothing is asked of it until then.
    pub(super) fn next(&self) -> Next {
        let after = |ms| Next::At(self.rests_since + Duration::from_millis(ms));
        let is_behind = self.is_behind();
        let is_searched = is_behind && !self.searching.is_empty();
        if self.has_steps() || is_searched || self.is_backlog_long() || self.is_tending_due() {
            return Next::Now;
        }
        match self.indexing {
            _ if self.may_show() => after(SHOW_IDLE_MS),
            Indexing::Later if is_behind => after(INDEX_IDLE_MS),
            Indexing::Now if is_behind => Next::Now,
            _ if self.may_erase() || self.may_forget() => after(INDEX_IDLE_MS),
            _ if self.may_prune() && self.is_quiet => Next::Now,
            _ if self.may_prune() => after(INDEX_IDLE_MS),
            _ => {
                let Self { showing, reindexing, erasing, forgetting, .. } = self;
                let again = [showing.at, reindexing.at, erasing.at, forgetting.at];
                again.into_iter().flatten().min().map_or(Next::Never, Next::At)
            }
        }
    }

    /// Whether what is durable could be made readable.
    fn may_show(&self) -> bool {
        !self.writer.is_shown() && self.showing.may_try()
    }

    /// Whether the disk could be seen to of what was erased.
    fn may_erase(&self) -> bool {
        self.writer.wants_erasing() && self.erasing.may_try()
    }

    /// Whether the disk could be seen to of secrets that went.
    fn may_forget(&self) -> bool {
        self.writer.leaves_secrets() && self.forgetting.may_try()
    }

    /// Nothing was asked for a while.
    fn while_idle(&mut self) {
        let is_due = |again: &Again| again.at.is_some() && again.may_try();
        if self.may_show() {
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
        } else if self.may_erase() {
            match self.writer.finish_erasures() {
                Ok(true) => {
                    self.erasing.worked();
                    self.changed.tick();
                }
                _ => self.erasing.failed(),
            }
        } else if self.may_forget() {
            match self.writer.finish_forgetting() {
                Ok(true) => self.forgetting.worked(),
                _ => self.forgetting.failed(),
            }
        } else {
            self.is_quiet = true;
        }
    }

    /// Now and then, among other work: whoever serves does not open its spaces for months.
    fn tend(&mut self) {
        let now = Instant::now();
        if self.write_back_at <= now {
            self.write_back_at = now + WRITE_BACK_EVERY;
            // The space's state says what went wrong.
            let _ = self.writer.write_back(WAL_BYTES_MAX);
        }
        if self.tend_at <= now {
            self.tend_at = now + TEND_EVERY;
            // Whoever read from before for as long as they were tried may be done by now.
            self.erasing.worked();
            self.forgetting.worked();
            // What cannot be done now is done the next time.
            self.tend_retention();
            let _ = self.writer.tend_blobs();
            let _ = self.writer.look_for_room();
        }
    }

    fn tend_retention(&mut self) {
        let Ok(Retained { trashed, deleted, .. }) = self.writer.tend_retention() else { return };
        if trashed + deleted > 0 {
            self.changed.tick();
            let space = self.writer.space().name().clone();
            let _ = self.events.send(Event::Retained { space, trashed, deleted });
        }
    }

    fn is_tending_due(&self) -> bool {
        self.write_back_at.min(self.tend_at) <= Instant::now()
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
        self.changed.tick();
        let space = self.writer.space().name().clone();
        let _ = self.events.send(Event::Visible { space });
    }

    /// Does the first of the waiting jobs, and those behind it that can share its transaction.
    /// False: the thread ends.
    fn step(&mut self) -> bool {
        let Self { writer, changed, events, waiting, .. } = self;
        let tick = |really: bool| {
            if really {
                changed.tick();
            }
        };
        // An asker that gave up no longer cares for the answer.
        match waiting.pop_front() {
            Some(Job::Commit(unit, answer)) => {
                let begun = Instant::now();
                let span = tracing::debug_span!("commit");
                let (answers, results) =
                    span.in_scope(|| commit_group(writer, *unit, answer, waiting));
                self.committed(begun, &results);
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
                // Else it is done when the space is opened next.
                let _ = writer.finish_erasures();
                let _ = writer.finish_forgetting();
                let _ = answer.send(writer.close());
                return false;
            }
            None => {}
        }
        true
    }

    /// Whether so many documents wait to be indexed that it goes between other work.
    fn is_backlog_long(&self) -> bool {
        matches!(self.indexing, Indexing::Later) && self.writer.unindexed() > INDEX_BACKLOG_MAX
    }

    /// Whether there are words to be indexed, or vectors to be made that nobody makes yet.
    fn is_behind(&self) -> bool {
        let may_embed = self.writer.unembedded() > 0 && !self.embedding.is_busy;
        self.writer.unindexed() > 0 || may_embed
    }

    /// One step of indexing, if it is time for one, and the answers to those who waited for it.
    fn index(&mut self, thread: &Thread) {
        let is_now = matches!(self.indexing, Indexing::Now) || !self.searching.is_empty();
        let is_due = is_now || self.is_backlog_long();
        let stepped = if !is_due || !self.is_behind() {
            Ok(())
        } else if self.writer.unindexed() > 0 {
            self.index_words()
        } else {
            self.embedding.begin(&mut self.writer, thread)
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
        prunes || self.carries || self.writer.wants_rekey() || self.writer.wants_shrink()
    }

    /// One step of carrying over what only an old copy has, once all is here that another has.
    fn carry(&mut self) {
        if !self.writer.has_old_copy() {
            return;
        }
        // What fails now is tried again after the next job.
        let is_over = self.writer.carry_step().unwrap_or(true);
        self.carries = !is_over;
        if !is_over {
            self.changed.tick();
        }
        if !self.writer.has_old_copy() {
            let space = self.writer.space().name().clone();
            let _ = self.events.send(Event::Carried { space });
        }
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
            self.changed.tick();
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
    fn begin(&mut self, writer: &mut SpaceWriter, thread: &Thread) -> larder_engine::Result<()> {
        let (texts, embedder) = (writer.next_unembedded(INDEX_DOCUMENTS_MAX)?, writer.embedder());
        let (jobs, thread) = (self.jobs.clone(), thread.clone());
        let work = move || {
            let made = texts.embed(&*embedder);
            // The space may have been closed meanwhile: it begins anew when it is opened.
            if let Some(jobs) = jobs.upgrade() {
                let _ = jobs.blocking_send(Job::Embedded(made));
                // Not before this: it may be the last who could ask for anything.
                drop(jobs);
                thread.unpark();
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
