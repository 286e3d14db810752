//! An I/O error at every call below the shim, first to last: never a success that is none, never a
//! loss of what was committed, never a panic; and the connection goes on where SQLite's own would.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, Once};

use larder_pages::testing::{Call, Disk, Loss, Operation, Outcome, Snapshot};
use larder_pages::{Copied, Error, OpenMode, Vfs};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::common::{KEY, create, dump, is_intact, key, vfs_over};

const PATH: &str = "/a.db";
const COPY: &str = "/copy.db";

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug)]
struct Seen {
    operation: Operation,
    is_wal: bool,
    length: usize,
    step: usize,
}

/// What the disk is told to do.
#[derive(Default)]
struct Plan {
    seen: Vec<Seen>,
    step: usize,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    at: usize,
    outcome: Outcome,
    then: Then,
}

/// What happens to the calls after the first that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    AllIsWell,
    /// Those of the same kind fail as well.
    SameFails,
    AllFails,
}

impl Plan {
    fn judge(&mut self, call: &Call<'_>) -> Outcome {
        let is_wal = call.path.to_string_lossy().ends_with("-wal");
        let (operation, length) = (call.operation, call.length);
        let seen = Seen { operation, is_wal, length, step: self.step };
        self.seen.push(seen);
        let Some(fault) = self.fault else { return Outcome::Go };
        let index = self.seen.len() - 1;
        let same = self.seen.get(fault.at).is_some_and(|first| first.operation == operation);
        match fault.then {
            _ if index == fault.at => fault.outcome,
            Then::SameFails if index > fault.at && same => fault.outcome,
            Then::AllFails if index > fault.at => outcomes(&seen)[0],
            _ => Outcome::Go,
        }
    }
}

/// Every way in which a call may fail; the plainest first.
fn outcomes(call: &Seen) -> Vec<Outcome> {
    let codes: &[i32] = match call.operation {
        Operation::Open => &[ffi::SQLITE_CANTOPEN],
        Operation::Close => &[ffi::SQLITE_IOERR_CLOSE],
        Operation::Read => &[ffi::SQLITE_IOERR_READ],
        Operation::Write => &[ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_FULL],
        Operation::Truncate => &[ffi::SQLITE_IOERR_TRUNCATE],
        Operation::Sync => &[ffi::SQLITE_IOERR_FSYNC],
        Operation::Size => &[ffi::SQLITE_IOERR_FSTAT],
        Operation::Lock => &[ffi::SQLITE_IOERR_LOCK, ffi::SQLITE_BUSY],
        Operation::Unlock => &[ffi::SQLITE_IOERR_UNLOCK],
        Operation::Delete => &[ffi::SQLITE_IOERR_DELETE],
        Operation::Access => &[ffi::SQLITE_IOERR_ACCESS],
        Operation::Rename
        | Operation::List
        | Operation::MakeDirectory
        | Operation::SyncDirectory => unreachable!("SQLite has no such call"),
    };
    let mut all: Vec<_> = codes.iter().map(|code| Outcome::Fail(*code)).collect();
    match call.operation {
        Operation::Read => all.extend([0, call.length / 2].map(Outcome::Short)),
        // No disk keeps a part of what lies within one of its sectors.
        Operation::Write if call.length > 512 => {
            all.extend([0, call.length / 2].map(Outcome::Short));
        }
        Operation::Sync => all.push(Outcome::Forget(ffi::SQLITE_IOERR_FSYNC)),
        _ => {}
    }
    all
}

/// Who stands on the disk.
enum Side {
    Ours(Vfs),
    /// Plain SQLite; alone on the file, since the disk has no shared memory.
    Plain,
}

/// A disk, who stands on it, and how it began.
struct World {
    disk: Disk,
    again: Disk,
    side: Side,
    after: Vfs,
    begin: Snapshot,
    plan: Arc<Mutex<Plan>>,
    /// The content at the beginning, as SQL.
    schema: String,
}

/// What a database goes through.
struct Life {
    mode: OpenMode,
    steps: &'static [&'static str],
}

const ROWS: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 15)
    INSERT INTO t SELECT i, replace(hex(zeroblob(500)), '00', i || '-') FROM n;";

/// Spills, savepoints, overwritten frames, both kinds of checkpoint, a shorter file.
const WORKED: Life = Life {
    mode: OpenMode::ReadWrite,
    steps: &[
        "SAVEPOINT r; UPDATE t SET a = a || 'x'; SAVEPOINT q; DELETE FROM t WHERE id % 2;
         ROLLBACK TO q; UPDATE t SET a = 'y' || a WHERE id % 3 = 0; RELEASE r",
        "PRAGMA wal_checkpoint(FULL)",
        "DELETE FROM t WHERE id % 4 = 0",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "INSERT INTO t VALUES (NULL, 'last but one')",
        "VACUUM",
        "INSERT INTO t VALUES (NULL, 'last')",
    ],
};

const CREATED: Life = Life {
    mode: OpenMode::Create,
    steps: &["CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 'first')"],
};

/// Opens what a killed process left.
const RECOVERED: Life = Life {
    mode: OpenMode::ReadWrite,
    steps: &["INSERT INTO t VALUES (NULL, 'more')", "PRAGMA wal_checkpoint(RESTART)"],
};

impl World {
    /// `prepare` may use the database; it is then closed, or its process killed.
    fn new(name: &str, ours: bool, schema: &str, kill: bool) -> Self {
        let disk = Disk::register(&format!("{name}-{ours}")).unwrap();
        let again = Disk::register(&format!("{name}-{ours}-again")).unwrap();
        let side = if ours { Side::Ours(vfs_over(Some(disk.name()))) } else { Side::Plain };
        let after = vfs_over(Some(again.name()));
        let plan = Arc::<Mutex<Plan>>::default();
        let begin = disk.snapshot();
        let mut world = Self { disk, again, side, after, begin, plan, schema: schema.to_owned() };
        if !schema.is_empty() {
            let db = world.open(OpenMode::Create).unwrap();
            for sql in schema.split_inclusive(';').filter(|sql| !sql.trim().is_empty()) {
                db.execute_batch(sql).unwrap();
            }
            if kill {
                world.begin = world.disk.snapshot();
            }
            drop(db);
        }
        if !kill {
            world.begin = world.disk.snapshot();
        }
        let told = Arc::clone(&world.plan);
        world.disk.on_call(move |call| told.lock().unwrap().judge(call));
        world
    }

    fn open(&self, mode: OpenMode) -> Result<Connection, Error> {
        let vfs = match &self.side {
            Side::Ours(vfs) => return vfs.open(Path::new(PATH), &key(KEY), mode),
            Side::Plain => self.disk.name(),
        };
        let create = if mode == OpenMode::Create { "CREATE" } else { "" };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | if create.is_empty() { OpenFlags::empty() } else { OpenFlags::SQLITE_OPEN_CREATE };
        let db = Connection::open_with_flags_and_vfs(PATH, flags, vfs)?;
        db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY")?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        db.execute_batch("PRAGMA synchronous=FULL")?;
        Ok(db)
    }

    /// What the disk holds after its process is killed, and after the power failed as well.
    fn survivors(&self) -> [Result<String, Error>; 2] {
        let now = self.disk.snapshot();
        [None, Some(Loss::Everything)].map(|loss| {
            self.again.restore(&now);
            if let Some(loss) = loss {
                self.again.crash(loss);
            }
            let db = self.after.open(Path::new(PATH), &key(KEY), OpenMode::Create)?;
            assert!(is_intact(&db));
            Ok(dump(&db)?)
        })
    }

    fn reset(&self, fault: Option<Fault>) {
        self.plan.lock().unwrap().fault = None;
        self.disk.restore(&self.begin);
        *self.plan.lock().unwrap() = Plan { fault, ..Plan::default() };
    }

    fn model(&self) -> Connection {
        let model = Connection::open_in_memory().unwrap();
        model.execute_batch(&self.schema).unwrap();
        model
    }

    /// Lives through it with a fault: what fails is tried once more, on the same connection if
    /// there is one. Answers with what failed.
    fn live(&self, life: &Life, fault: Option<Fault>) -> Lived {
        self.reset(fault);
        let model = self.model();
        let mut lived = Lived::default();
        let mut opened = self.open(life.mode);
        if let Err(error) = &opened {
            lived.failed.push((0, error.to_string()));
            self.check(&[dump(&model).unwrap()], &format!("{fault:?} on opening"));
            opened = self.open(life.mode);
        }
        let db = match opened {
            Ok(db) => db,
            Err(error) => {
                lived.is_stuck = true;
                self.check(&[dump(&model).unwrap()], &format!("{fault:?} on opening: {error}"));
                return lived;
            }
        };
        let _ = db.execute_batch("PRAGMA cache_size=5");
        let mut ghosts = Vec::new();
        for (number, sql) in life.steps.iter().enumerate() {
            self.plan.lock().unwrap().step = number + 1;
            let first = self.take(&db, &model, sql, &mut ghosts, &mut lived);
            let last =
                if first { self.take(&db, &model, sql, &mut ghosts, &mut lived) } else { false };
            if last {
                lived.is_stuck = true;
                return lived;
            }
        }
        self.plan.lock().unwrap().step = life.steps.len() + 1;
        ghosts.push(dump(&model).unwrap());
        drop(db);
        self.check(&ghosts, &format!("{fault:?} at the end"));
        lived
    }

    /// Takes one step, on the model too if it was taken. Answers whether it should be tried again.
    ///
    /// What failed may come back when the process dies, until something is committed over it (its
    /// frames may have reached the WAL whole): those are the ghosts.
    fn take(
        &self,
        db: &Connection,
        model: &Connection,
        sql: &str,
        ghosts: &mut Vec<String>,
        lived: &mut Lived,
    ) -> bool {
        let step = self.plan.lock().unwrap().step;
        let before = dump(model).unwrap();
        let done = db.execute_batch(sql);
        if let Err(error) = &done {
            lived.failed.push((step, error.to_string()));
            if !db.is_autocommit() {
                let _ = db.execute_batch("ROLLBACK");
            }
        }
        if matches!(self.side, Side::Plain) {
            return done.is_err();
        }
        let undone = model.execute_batch("SAVEPOINT s").and_then(|()| model.execute_batch(sql));
        assert!(undone.is_ok() || sql == "VACUUM", "{undone:?}");
        let after = dump(model).unwrap();
        let mut possible = ghosts.clone();
        possible.push(after.clone());
        if done.is_err() {
            possible.push(before.clone());
        }
        let context = format!("{:?} in step {step}: {done:?}", self.plan.lock().unwrap().fault);
        self.check(&possible, &context);
        let found = dump(db).or_else(|_| dump(db));
        let is_there = match &found {
            Ok(found) if done.is_ok() => {
                assert!(*found == after, "{context}: {}", brief(found, &[after]));
                true
            }
            Ok(found) => {
                let either = [before, after];
                assert!(either.contains(found), "{context}: {}", brief(found, &either));
                *found == either[1]
            }
            Err(error) => {
                lived.failed.push((step, error.to_string()));
                done.is_ok()
            }
        };
        if is_there {
            if !sql.starts_with("PRAGMA") {
                ghosts.clear();
            }
            model.execute_batch("RELEASE s").unwrap();
        } else {
            ghosts.push(dump(model).unwrap());
            model.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
        }
        (done.is_err() && !is_there) || found.is_err()
    }

    fn check(&self, possible: &[String], context: &str) {
        if matches!(self.side, Side::Plain) {
            return;
        }
        for (found, when) in self.survivors().into_iter().zip(["killed", "lost power"]) {
            match found {
                Ok(found) => {
                    let brief = || brief(&found, possible);
                    assert!(possible.contains(&found), "{context}: {when}: {}", brief());
                }
                // Of one that is being made there may be a part of its first page.
                Err(Error::NotADatabase { .. }) if possible.iter().any(String::is_empty) => {}
                Err(error) => panic!("{context}: {when}: {error}"),
            }
        }
    }
}

/// Where two contents differ first.
fn brief(found: &str, possible: &[String]) -> String {
    let differs = |of: &String| {
        let same = found.bytes().zip(of.bytes()).take_while(|(a, b)| a == b).count();
        let part = |text: &str| text.chars().skip(same.saturating_sub(20)).take(60).collect();
        let (a, b): (String, String) = (part(found), part(of));
        format!("at {same} {a:?} instead of {b:?}")
    };
    possible.iter().map(differs).collect::<Vec<_>>().join(", or ")
}

#[derive(Debug, Default)]
struct Lived {
    failed: Vec<(usize, String)>,
    /// A step failed that was tried twice.
    is_stuck: bool,
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of each thread, also those that are caught.
fn count_panics() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
}

type Place = (usize, Operation, bool);

/// Fails every `stride`th call of a life in every way, one at a time. Answers with the places after
/// which trying again was of no use, and how many faults there were.
fn every_fault(
    world: &World,
    life: &Life,
    thens: &[Then],
    stride: usize,
) -> (BTreeSet<Place>, u64) {
    count_panics();
    let undisturbed = world.live(life, None);
    assert!(undisturbed.failed.is_empty(), "{undisturbed:?}");
    let calls = std::mem::take(&mut world.plan.lock().unwrap().seen);
    let mut kinds = BTreeMap::<_, u64>::new();
    let (mut useless, mut faults) = (BTreeSet::new(), 0);
    for (at, call) in calls.iter().enumerate().step_by(stride) {
        for outcome in outcomes(call) {
            for then in thens {
                let lived = world.live(life, Some(Fault { at, outcome, then: *then }));
                faults += 1;
                *kinds.entry(call.operation).or_default() += 1;
                if *then == Then::AllIsWell && lived.is_stuck {
                    useless.insert((call.step, call.operation, call.is_wal));
                }
            }
        }
    }
    assert_eq!(PANICS.get(), 0);
    println!("{faults} faults: {kinds:?}");
    (useless, faults)
}

fn compare(name: &str, life: &Life, schema: &str, kill: bool) {
    let ours = World::new(name, true, schema, kill);
    let (useless, faults) = every_fault(&ours, life, &[Then::AllIsWell], 1);
    let plain = World::new(name, false, schema, kill);
    let (useless_plain, _) = every_fault(&plain, life, &[Then::AllIsWell], 1);
    println!("{name}: {useless:?} against {useless_plain:?}");
    assert!(useless.is_subset(&useless_plain), "{useless:?} against {useless_plain:?}");
    assert!(faults > 20);
}

#[test]
fn a_fault_in_a_working_life_passes() {
    compare("faults-worked", &WORKED, ROWS, false);
}

#[test]
fn a_fault_while_it_is_made_passes() {
    compare("faults-created", &CREATED, "", false);
}

#[test]
fn a_fault_while_it_is_recovered_passes() {
    compare("faults-recovered", &RECOVERED, ROWS, true);
}

fn stay(name: &str, stride: usize) {
    let lives = [
        ("worked", &WORKED, ROWS, false),
        ("created", &CREATED, "", false),
        ("recovered", &RECOVERED, ROWS, true),
    ];
    for (life_name, life, schema, kill) in lives {
        let world = World::new(&format!("{name}-{life_name}"), true, schema, kill);
        every_fault(&world, life, &[Then::SameFails, Then::AllFails], stride);
    }
}

#[test]
fn faults_that_stay_lose_nothing() {
    stay("stay", 7);
}

#[test]
#[ignore = "many seconds; cargo test -p larder-pages faults -- --include-ignored --nocapture"]
fn faults_that_stay_from_any_call_on_lose_nothing() {
    stay("stay-all", 1);
}

/// A copy that said it was whole is: after a power failure too.
#[test]
fn a_fault_while_it_is_copied_passes() {
    let world = World::new("faults-copied", true, ROWS, true);
    let Side::Ours(vfs) = &world.side else { unreachable!() };
    let copied = |db: &mut Connection| -> Result<(), Error> {
        let mut copying = vfs.copy_of(db, Path::new(COPY), &key(KEY + 1))?;
        loop {
            match copying.step(db, 3) {
                Ok(Copied::Partly { .. }) => {}
                Ok(Copied::Whole { .. }) => return Ok(()),
                Err(error) => {
                    copying.abandon(db);
                    return Err(error);
                }
            }
        }
    };
    let expected = dump(&world.model()).unwrap();
    count_panics();
    let mut calls = Vec::new();
    let mut faults = 0;
    for at in 0.. {
        let outcomes = calls.get(at).map_or_else(|| vec![Outcome::Go], outcomes);
        if at > 0 && at >= calls.len() {
            break;
        }
        for outcome in outcomes {
            world.reset(None);
            let mut db = world.open(OpenMode::ReadWrite).unwrap();
            let fault = Fault { at, outcome, then: Then::AllIsWell };
            *world.plan.lock().unwrap() = Plan { fault: Some(fault), ..Plan::default() };
            let tried = copied(&mut db);
            if calls.is_empty() {
                calls.clone_from(&world.plan.lock().unwrap().seen);
            }
            faults += u64::from(tried.is_err());
            for again in [false, true] {
                if again {
                    copied(&mut db).unwrap();
                } else if tried.is_err() {
                    continue;
                }
                world.again.restore(&world.disk.snapshot());
                let open = || {
                    let (path, key) = (Path::new(COPY), key(KEY + 1));
                    world.after.open(path, &key, OpenMode::ReadWrite).unwrap()
                };
                // The first commit makes the file's name durable, and nothing else of it.
                let copy = open();
                copy.execute_batch("CREATE VIEW v AS SELECT 1").unwrap();
                world.again.crash(Loss::Everything);
                drop(copy);
                let copy = open();
                assert!(is_intact(&copy), "{fault:?}");
                copy.execute_batch("DROP VIEW v").unwrap();
                assert_eq!(dump(&copy).unwrap(), expected, "{fault:?}: {tried:?}");
            }
            assert_eq!(dump(&db).unwrap(), expected, "{fault:?}");
        }
    }
    assert_eq!(PANICS.get(), 0);
    println!("{faults} faults of a copy");
    assert!(faults > 30, "{faults}");
}

/// A sync failed, and its process was killed. What it should have covered is in the cache only, and
/// the next sync succeeds without it: so Linux behaves. The next process takes it for committed and
/// may send it to a peer: a power failure must not take it away then.
#[test]
fn what_a_failed_sync_covered_is_written_again_before_it_counts() {
    let disk = Disk::register("forgets").unwrap();
    let path = Path::new(PATH);
    let first = vfs_over(Some(disk.name()));
    let db = create(&first, path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('before')").unwrap();
    let fails = |outcome: Outcome| {
        disk.on_call(move |call| match call.operation {
            Operation::Sync => outcome,
            _ => Outcome::Go,
        });
    };
    fails(Outcome::Forget(ffi::SQLITE_IOERR_FSYNC));
    db.execute_batch("INSERT INTO t VALUES ('written')").unwrap_err();
    assert!(!dump(&db).unwrap().contains("written"), "it failed");
    disk.kill();
    drop(db);

    let second = vfs_over(Some(disk.name()));
    fails(Outcome::Fail(ffi::SQLITE_IOERR_FSYNC));
    let refused = second.open(path, &key(KEY), OpenMode::ReadWrite);
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
    disk.off_call();
    let db = second.open(path, &key(KEY), OpenMode::ReadWrite).unwrap();
    let seen = dump(&db).unwrap();
    assert!(seen.contains("written"));
    disk.crash(Loss::Everything);
    drop(db);
    let third = vfs_over(Some(disk.name()));
    let db = third.open(path, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&db).unwrap(), seen);
}
