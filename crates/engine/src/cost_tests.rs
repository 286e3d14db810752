//! What a unit of work costs, counted and not timed: pages that go ahead into the log of writes,
//! by the tree they are of; calls that write and sync; statements, and SQLite's steps within them.
//!
//! `cargo test -p larder-engine --lib cost_tests -- --nocapture` prints it. The bounds are what it
//! was found to be and a little more: who gets above one has made every commit dearer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder_pages::Files;
use larder_pages::testing::{Disk, Operation, Outcome};
use larder_types::{Entropy, ObjectId, Timestamp};
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use serde_json::json;

use crate::durability_tests::World;
use crate::prune::tests::Device;
use crate::steps::counted;
use crate::{Environment, Profile, ProfileOptions, Secret, UnitOfWork, Unlock};

/// A frame of the log of writes: a header that names the page, and the page.
const FRAME: u64 = 24 + 4096;
const WAL_HEADER: u64 = 32;

struct OnDisk(World, Disk);

impl Environment for OnDisk {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn entropy(&self) -> Box<dyn Entropy> {
        self.0.entropy()
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.1.clone())
    }
}

struct Bench {
    disk: Disk,
    device: Device,
    seen: Arc<Mutex<Seen>>,
    statements: Arc<AtomicU64>,
    units: u64,
}

/// What the disk was asked for.
#[derive(Default)]
struct Seen {
    /// Writes to a log of writes, from where to how far.
    writes: Vec<(PathBuf, u64, u64)>,
    /// Syncs of any file.
    syncs: u64,
}

/// Sums over some units.
#[derive(Default)]
struct Costs {
    units: u64,
    frames: BTreeMap<u32, u64>,
    writes: u64,
    syncs: u64,
    statements: u64,
    steps: u64,
}

impl Bench {
    fn new() -> Self {
        let disk = Disk::new().unwrap();
        let world = OnDisk(World(AtomicU64::new(1)), disk.clone());
        let (unlock, options) = (Unlock::Key(Secret::new([7; 32])), ProfileOptions::default());
        let profile =
            Profile::create(Arc::new(world), Path::new("/profile"), &unlock, options).unwrap();
        let mut device = Device::found_by(profile);
        let statements = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&statements);
        let counting = move |_: TraceEvent<'_>| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let db = device.writer.db.as_mut().unwrap();
        db.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(counting)).unwrap();
        Self { disk, device, seen: Arc::default(), statements, units: 0 }
    }

    fn unit(&mut self) -> UnitOfWork {
        self.units += 1;
        let mut id = [0; 16];
        // As those of an app, which are random.
        let hash = larder_crypto::hash::sha256(&[&self.units.to_be_bytes()]);
        id.copy_from_slice(&hash.as_bytes()[..16]);
        let text = |n: usize| format!("{:x?}", &hash.as_bytes()[..n]);
        let record = json!({
            "number": self.units, "name": text(8), "city": text(12), "done": false,
            "note": text(24) + &text(24) + &text(10),
        });
        let mut unit = UnitOfWork::new();
        unit.put("records", ObjectId::new(id), &record).unwrap();
        unit
    }

    fn commit(&mut self, group: usize) {
        let units: Vec<UnitOfWork> = (0..group).map(|_| self.unit()).collect();
        let done = self.device.writer.commit(&mut units.into_iter());
        assert!(done.len() == group && done.iter().all(Result::is_ok));
    }

    /// What these groups cost together.
    fn measure(&mut self, groups: usize, of: usize) -> Costs {
        let mut costs = Costs { units: (groups * of) as u64, ..Costs::default() };
        let seen = Arc::clone(&self.seen);
        self.disk.on_call(move |call| {
            let mut seen = seen.lock().unwrap();
            let is_wal = call.path.extension().is_some_and(|end| end == "db-wal");
            match call.operation {
                Operation::Write if is_wal => {
                    let end = call.offset + call.length as u64;
                    seen.writes.push((call.path.to_owned(), call.offset, end));
                }
                Operation::Sync => seen.syncs += 1,
                _ => {}
            }
            Outcome::Go
        });
        for _ in 0..groups {
            let before = self.statements.load(Ordering::Relaxed);
            costs.steps += counted(|| self.commit(of)).1;
            costs.statements += self.statements.load(Ordering::Relaxed) - before;
            let Seen { writes, syncs } = std::mem::take(&mut *self.seen.lock().unwrap());
            costs.writes += writes.len() as u64;
            costs.syncs += syncs;
            for (path, from, to) in writes {
                let wal = self.disk.bytes(&path).unwrap();
                let first = from.max(WAL_HEADER);
                assert_eq!((first - WAL_HEADER) % FRAME, 0);
                for at in (first..to).step_by(usize::try_from(FRAME).unwrap()) {
                    let at = usize::try_from(at).unwrap();
                    let page = u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
                    *costs.frames.entry(page).or_default() += 1;
                }
            }
        }
        self.disk.off_call();
        costs
    }

    /// The costs by the trees that the pages are of, printed. Returns the frames of a unit.
    fn tell(&self, costs: &Costs) -> Told {
        let db = self.device.space.shared.pool.reader().unwrap();
        let mut of = db.prepare("SELECT pageno, name FROM dbstat").unwrap();
        let pages = of.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let pages: BTreeMap<u32, String> = pages.collect::<Result<_, _>>().unwrap();
        let mut trees: BTreeMap<&str, u64> = BTreeMap::new();
        for (page, frames) in &costs.frames {
            let tree = pages.get(page).map_or("(of no tree)", String::as_str);
            *trees.entry(tree).or_default() += frames;
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let each = |count: u64| count as f64 / costs.units as f64;
        Told {
            frames: each(costs.frames.values().sum()),
            writes: each(costs.writes),
            syncs: each(costs.syncs),
            statements: each(costs.statements),
            steps: each(costs.steps),
            trees: trees
                .into_iter()
                .map(|(tree, frames)| (tree.to_owned(), each(frames)))
                .collect(),
        }
    }
}

/// Of one unit, on average.
struct Told {
    frames: f64,
    writes: f64,
    syncs: f64,
    statements: f64,
    steps: f64,
    trees: Vec<(String, f64)>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, writes, syncs, statements, steps, trees } = self;
        write!(
            f,
            "{frames:.2} frames in {writes:.2} writes, {syncs:.3} syncs, {statements:.2} \
             statements, {steps:.0} steps;"
        )?;
        trees.iter().try_for_each(|(tree, frames)| write!(f, " {tree} {frames:.2}"))
    }
}

#[test]
fn a_unit_costs_no_more_than_it_did() {
    let mut bench = Bench::new();
    bench.commit(100);
    // Alone, and in groups: frames, writes, syncs, statements that one may take.
    for (group, frames, writes, syncs, statements) in [
        (1, 9.9, 1.1, 1.1, 14.5),
        (16, 1.8, 0.15, 0.1, 6.8),
        (64, 0.9, 0.1, 0.05, 6.4),
        (256, 0.6, 0.1, 0.05, 6.3),
    ] {
        let costs = bench.measure((256 / group).max(4), group);
        let told = bench.tell(&costs);
        println!("{group:>4}: {told}");
        assert!(told.frames < frames, "{group}: {told}");
        assert!(told.writes < writes, "{group}: {told}");
        assert!(told.syncs < syncs, "{group}: {told}");
        assert!(told.statements < statements, "{group}: {told}");
    }
}
