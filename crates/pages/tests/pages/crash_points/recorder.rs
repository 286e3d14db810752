use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use larder_pages::testing::{Call, Disk, Operation, Outcome, Snapshot};

/// What must be found at a path after a crash.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) path: PathBuf,
    pub(crate) key: u8,
    /// Digests of the contents that are right; none if the file is no database yet, or none any
    /// more: then it may be refused, but it must be possible to start over.
    pub(crate) allowed: BTreeSet<u64>,
}

/// A moment in which the power may fail.
pub(crate) struct Point {
    pub(crate) kind: Kind,
    pub(crate) media: Snapshot,
    phase: usize,
}

/// What was going on, or was the last that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Create,
    Write,
    Truncate,
    Delete,
    /// During a sync: nothing that it covers is sure.
    Sync,
    Synced,
    /// After a step was reported done.
    Done,
}

/// Takes a snapshot at every change and every sync of a disk, and knows what each one owes.
pub(crate) struct Recorder {
    disk: Disk,
    tape: Arc<Mutex<Tape>>,
    /// The promises of each phase; a phase ends when a step begins or is done.
    phases: Vec<Vec<Promise>>,
}

struct Tape {
    points: Vec<Point>,
    last: Option<Kind>,
    phase: usize,
}

impl Tape {
    fn note(&mut self, kind: Kind, disk: &Disk) {
        self.points.push(Point { kind, media: disk.snapshot(), phase: self.phase });
    }

    fn settle(&mut self, disk: &Disk) {
        if let Some(kind) = self.last.take() {
            self.note(kind, disk);
        }
    }

    fn hear(&mut self, call: &Call<'_>, disk: &Disk) {
        self.settle(disk);
        self.last = match call.operation {
            Operation::Open if !disk.paths().iter().any(|path| path == call.path) => {
                Some(Kind::Create)
            }
            Operation::Write => Some(Kind::Write),
            Operation::Truncate => Some(Kind::Truncate),
            Operation::Delete => Some(Kind::Delete),
            Operation::Sync => {
                self.note(Kind::Sync, disk);
                Some(Kind::Synced)
            }
            _ => None,
        };
    }
}

impl Recorder {
    /// Records from now on. At the start these promises hold.
    pub(crate) fn start(disk: &Disk, promises: Vec<Promise>) -> Self {
        let tape = Arc::new(Mutex::new(Tape { points: Vec::new(), last: None, phase: 0 }));
        let (heard, seen) = (Arc::clone(&tape), disk.clone());
        disk.on_call(move |call| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).hear(call, &seen);
            Outcome::Go
        });
        Self { disk: disk.clone(), tape, phases: vec![promises] }
    }

    fn promises(&mut self) -> &mut Vec<Promise> {
        self.phases.last_mut().unwrap()
    }

    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.phases.last().unwrap().iter().any(|promise| promise.path == path)
    }

    fn promise(&mut self, path: &Path) -> &mut Promise {
        self.promises().iter_mut().find(|promise| promise.path == path).unwrap()
    }

    /// What happens next belongs to a new phase, which owes the same until more is said.
    fn turn(&mut self) {
        let mut tape = self.tape.lock().unwrap();
        tape.settle(&self.disk);
        tape.phase += 1;
        drop(tape);
        self.phases.push(self.phases.last().unwrap().clone());
    }

    /// A step begins that may leave `path` as it is or as [`Self::done`] will tell.
    pub(crate) fn begin(&mut self) {
        self.turn();
    }

    /// The step is done: `path` now has this content for good.
    pub(crate) fn done(&mut self, path: &Path, content: u64) {
        self.promise(path).allowed.insert(content);
        self.turn();
        self.promise(path).allowed = BTreeSet::from([content]);
        let mut tape = self.tape.lock().unwrap();
        tape.note(Kind::Done, &self.disk);
    }

    /// From now on nothing is promised of `path`, which may be new.
    pub(crate) fn void(&mut self, path: &Path, key: u8) {
        self.turn();
        self.promises().retain(|promise| promise.path != path);
        let path = path.to_owned();
        self.promises().push(Promise { path, key, allowed: BTreeSet::new() });
    }

    /// A promise out of nothing: `path` has this content, or none was there.
    pub(crate) fn promise_new(&mut self, path: &Path, key: u8, content: u64) {
        self.turn();
        self.promises().retain(|promise| promise.path != path);
        let (path, allowed) = (path.to_owned(), BTreeSet::from([content]));
        self.promises().push(Promise { path, key, allowed });
        self.tape.lock().unwrap().note(Kind::Done, &self.disk);
    }

    /// `path` is of no interest any more.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.turn();
        self.promises().retain(|promise| promise.path != path);
    }

    /// Every point, and what is promised in it.
    pub(crate) fn stop(mut self) -> Vec<(Point, Vec<Promise>)> {
        self.turn();
        self.disk.off_call();
        let points = std::mem::take(&mut self.tape.lock().unwrap().points);
        let phases = self.phases;
        points.into_iter().map(|point| (phases[point.phase].clone(), point)).map(swap).collect()
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}
