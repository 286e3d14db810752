//! A caller's own thread and the writer's, which do the work of one space by turns.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as channel;
use std::time::Duration;

use larder_engine::{Access, Environment, Profile, ProfileOptions, Query, Secret, Space, Unlock};
use larder_types::limits::INDEX_IDLE_MS;
use larder_types::{Entropy, SpaceName, Timestamp};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::system::{OsEntropy, System};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The real world, whose clock breaks down when it is told to.
#[derive(Default)]
struct Breaking(AtomicBool);

impl Environment for Breaking {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::Relaxed), "the clock broke down");
        System.now()
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        System.entropy()
    }
}

struct Device {
    dir: TempDir,
    clock: Arc<Breaking>,
    engine: Profile,
    reader: Space,
    writer: Writer,
    events: broadcast::Receiver<Event>,
}

fn household() -> SpaceName {
    "shared:household".parse().unwrap()
}

fn key() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

impl Device {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(Breaking::default()));
        let env: Arc<dyn Environment> = clock.clone();
        let engine = Profile::create(env, dir.path(), &key(), ProfileOptions::default()).unwrap();
        let (reader, writer) = engine.create_space(&household()).unwrap();
        let events = broadcast::Sender::new(64);
        let heard = events.subscribe();
        let writer = Writer::start(writer, Ticks(Vec::new()), events).unwrap();
        let device = Self { dir, clock, engine, reader, writer, events: heard };
        device.rests();
        device
    }

    /// Waits until the thread has put the worker down.
    fn rests(&self) {
        until("the thread did not rest", || self.writer.desk.has_worker().then_some(()));
    }

    /// Waits until it has, and looks after it no more.
    fn sleeps(&self) {
        until("the thread goes on looking", || self.writer.desk.is_asleep().then_some(()));
    }

    fn documents(&self) -> u64 {
        self.reader.status().unwrap().documents
    }
}

/// Waits for something that happens on another thread, and of which that tells nobody.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

fn unit(number: usize) -> UnitOfWork {
    let mut unit = UnitOfWork::new();
    unit.create(&mut OsEntropy, "notes", &json!({ "number": number, "body": "sesame" })).unwrap();
    unit
}

/// Who writes one unit after the other wakes no other thread for each; what they leave is indexed
/// all the same, and after that nothing looks after the space any more.
#[test]
fn commits_on_the_callers_thread_wake_the_writers_now_and_then_only() {
    const UNITS: usize = 400;
    let mut device = Device::new();
    device.sleeps();
    let (before, begun) = (device.writer.desk.roused(), Instant::now());
    for number in 0..UNITS {
        let receipt = device.writer.commit_blocking(unit(number)).unwrap();
        let entry = receipt.verify().unwrap();
        assert_eq!(entry.seq, receipt.checkpoint.size);
        assert_eq!(device.documents(), number as u64 + 1, "it is readable at once");
    }
    // Once, and again after each time that it had gone to sleep between two of them.
    let roused = device.writer.desk.roused() - before;
    let periods = begun.elapsed().as_millis() / u128::from(INDEX_IDLE_MS);
    assert!((1..=periods + 1).contains(&roused.into()), "{roused} times in {periods} periods");

    until("nothing was indexed", || match device.events.try_recv() {
        Ok(Event::Indexed { .. }) => Some(()),
        _ => None,
    });
    device.sleeps();
    let query = Query::text("sesame").limit(UNITS);
    assert!(device.reader.awaits_index(&query).is_none());
    assert_eq!(device.reader.search(&query).unwrap().len(), UNITS);
}

/// Work for the worker, which says when it begins, and goes on until it is told.
fn work_until_told(
    device: &Device,
) -> (impl Future<Output = Result<()>>, channel::Receiver<()>, channel::Sender<()>) {
    let (begun, waits) = channel::channel();
    let (go_on, told) = channel::channel();
    let work = device.writer.with(move |_| {
        begun.send(()).unwrap();
        told.recv().unwrap();
        Ok(())
    });
    (work, waits, go_on)
}

/// What was asked before is done before, whoever asked it and in whatever way.
#[test]
fn a_unit_that_waits_is_not_overtaken() {
    let device = Device::new();
    let (work, waits, go_on) = work_until_told(&device);
    let free = device.writer.jobs.max_capacity();
    thread::scope(|scope| {
        let busy = scope.spawn(|| wait(work).unwrap());
        waits.recv().unwrap();
        let first = scope.spawn(|| wait(device.writer.commit(unit(1))).unwrap());
        until("no unit waits", || (device.writer.jobs.capacity() == free - 1).then_some(()));
        let second = scope.spawn(|| device.writer.commit_blocking(unit(2)).unwrap());
        until("one unit waits", || (device.writer.jobs.capacity() == free - 2).then_some(()));
        go_on.send(()).unwrap();
        busy.join().unwrap();
        let [first, second] = [first, second].map(|unit| unit.join().unwrap().entry().unwrap());
        assert_eq!(second.seq, first.seq + 1);
    });
}

/// Whoever asks for more than the queue has room for waits for a place: what an app hands over
/// faster than the disk takes it does not pile up in memory.
#[test]
fn a_full_queue_makes_callers_wait_and_loses_nothing() {
    const MORE: usize = 10;
    let device = Device::new();
    let (work, waits, go_on) = work_until_told(&device);
    let all = WRITE_QUEUE_MAX + MORE;
    thread::scope(|scope| {
        let busy = scope.spawn(|| wait(work).unwrap());
        waits.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut units: Vec<_> =
            (0..all).map(|number| Box::pin(device.writer.commit(unit(number)))).collect();
        runtime.block_on(std::future::poll_fn(|context| {
            assert!(units.iter_mut().all(|unit| unit.as_mut().poll(context).is_pending()));
            std::task::Poll::Ready(())
        }));
        assert_eq!(device.writer.jobs.capacity(), 0, "there is room left");
        go_on.send(()).unwrap();
        busy.join().unwrap();
        let done = units.into_iter().map(|unit| runtime.block_on(unit).unwrap());
        let seqs: Vec<u64> = done.map(|receipt| receipt.entry().unwrap().seq).collect();
        assert!(seqs.len() == all && seqs.is_sorted_by(|a, b| a < b), "in the order asked");
    });
    assert_eq!(device.documents(), all as u64);
}

/// A unit has its place in the queue, and the thread does not know of it yet.
#[test]
fn nor_is_one_that_nobody_has_seen_yet() {
    let device = Device::new();
    device.sleeps();
    let (answer, first) = oneshot::channel();
    device.writer.jobs.try_send(Job::Commit(Box::new(unit(1)), answer)).unwrap();
    let second = device.writer.commit_blocking(unit(2)).unwrap().entry().unwrap();
    let first = wait(first).unwrap().unwrap().entry().unwrap();
    assert_eq!(second.seq, first.seq + 1);
}

/// While the thread is on its way to the worker, callers stand behind it: else it would never come
/// to its turn beside one that writes without end.
#[test]
fn who_waits_for_the_worker_has_it_next() {
    let device = Device::new();
    let taken = device.writer.desk.take(&device.writer.bell.0).unwrap();
    thread::scope(|scope| {
        let queued = scope.spawn(|| wait(device.writer.commit(unit(1))).unwrap());
        until("the thread does not want it", || device.writer.desk.is_awaited().then_some(()));
        taken.with(|_| ()).unwrap();
        let blocking = device.writer.commit_blocking(unit(2)).unwrap().entry().unwrap();
        assert_eq!(queued.join().unwrap().entry().unwrap().seq, blocking.seq - 1);
    });
}

/// A caller breaks down in the middle of its commit: nothing of the unit is left, nobody goes on
/// with what it held, and everything else can be closed and opened again.
#[test]
fn a_caller_that_panics_ends_the_writer_and_leaves_nothing() {
    let device = Device::new();
    let kept = device.writer.commit_blocking(unit(1)).unwrap();
    device.rests();
    device.clock.0.store(true, Ordering::Relaxed);
    let broken = || device.writer.commit_blocking(unit(2));
    catch_unwind(AssertUnwindSafe(broken)).unwrap_err();
    device.clock.0.store(false, Ordering::Relaxed);

    assert!(matches!(device.writer.commit_blocking(unit(3)), Err(Error::Closed)));
    assert!(matches!(wait(device.writer.commit(unit(4))), Err(Error::Closed)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let closed = runtime.block_on(device.writer.close());
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(device.documents(), 1);
    // Its connection was given back.
    device.reader.close().unwrap();
    device.engine.close().unwrap();
    let Device { dir, clock, engine, reader, writer, events } = device;
    drop((engine, reader, writer, events));

    let options = ProfileOptions::default();
    let opened = Profile::open(clock, dir.path(), &key(), Access::ReadWrite, options).unwrap();
    let (reader, writer) = opened.open_space(&household()).unwrap();
    assert_eq!(reader.status().unwrap().documents, 1);
    let mut writer = writer.unwrap();
    let next = writer.commit(&mut std::iter::once(unit(5))).remove(0).unwrap();
    assert_eq!(next.entry().unwrap().seq, kept.entry().unwrap().seq + 1);
    writer.close().unwrap();
}

/// Nobody is left to ask for anything: the thread ends, though it rests without a time set.
#[test]
fn the_thread_ends_with_the_last_way_to_it() {
    let device = Device::new();
    device.writer.commit_blocking(unit(1)).unwrap();
    let thread = device.writer.thread.lock().unwrap().take().unwrap();
    let other = device.writer.clone();
    drop(device.writer);
    other.commit_blocking(unit(2)).unwrap();
    drop(other);
    assert!(thread.join().unwrap());
    assert_eq!(device.reader.status().unwrap().documents, 2);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn wal_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let is_wal = entry.file_name().to_str().unwrap().ends_with("-wal");
        bytes += match entry.metadata().unwrap() {
            of if of.is_dir() => wal_bytes(&entry.path()),
            of if is_wal => of.len(),
            _ => 0,
        };
    }
    bytes
}

/// An app was killed, and had perhaps just let go of a secret: its old row stood in the write-ahead
/// log for as long as nobody wrote over it.
#[test]
fn what_an_app_that_was_killed_left_in_its_write_ahead_logs_goes_by_itself() {
    let (killed, left) = (Device::new(), tempfile::tempdir().unwrap());
    copy(killed.dir.path(), left.path());
    assert!(wal_bytes(&left.path().join("spaces")) > 0 && wal_bytes(left.path()) > 0);
    let (env, options) = (Arc::new(System), ProfileOptions::default());
    let access = Access::ReadWrite;
    let engine = Profile::open(env, left.path(), &key(), access, options).unwrap();
    let (_, writer) = engine.open_space(&household()).unwrap();
    let events = broadcast::Sender::new(64);
    let _writer = Writer::start(writer.unwrap(), Ticks(Vec::new()), events).unwrap();
    until("nobody empties them", || (wal_bytes(left.path()) == 0).then_some(()));
}
