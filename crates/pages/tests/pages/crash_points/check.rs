use std::path::Path;

use larder_pages::testing::{Dice, Disk, Loss, Snapshot};
use larder_pages::{OpenMode, Vfs};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::recorder::{Promise, Recorder};
use super::{digest, empty, open};
use crate::common::is_intact;

/// How deep failures nest: one while what an earlier one left is recovered, and one more.
const NESTING: usize = 2;

/// Disks to crash on, one for each failure within another.
pub(crate) struct Bench {
    levels: Vec<(Disk, Vfs)>,
    /// How often a failure is followed by another during recovery.
    nested_percent: u64,
    /// Failures during recovery so far.
    pub(crate) nested: usize,
}

/// The end of a life.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The process is killed; the system lives on with what is not synced.
    Killed,
    PowerFailed(Loss),
}

impl Bench {
    pub(crate) fn new(name: &str, nested_percent: u64) -> Self {
        let levels = (0..=NESTING).map(|level| super::disk_and_vfs(&format!("{name}-{level}")));
        Self { levels: levels.collect(), nested_percent, nested: 0 }
    }

    /// Fails the power at `media` and checks what comes back, its recovery interrupted as well.
    pub(crate) fn check(
        &mut self,
        media: &Snapshot,
        promises: &[Promise],
        seed: u64,
    ) -> Result<(), String> {
        self.check_at(0, media, promises, &mut Dice::new(seed), false)
    }

    fn check_at(
        &mut self,
        level: usize,
        media: &Snapshot,
        promises: &[Promise],
        dice: &mut Dice,
        was_torn: bool,
    ) -> Result<(), String> {
        let (disk, vfs) = self.levels[level].clone();
        let end = some_end(dice, level == 0);
        disk.restore(media);
        if let End::PowerFailed(loss) = end {
            disk.crash(loss);
        }
        let is_torn = was_torn || matches!(end, End::PowerFailed(Loss::Torn(_)));
        let recorder = Recorder::start(&disk, promises.to_vec());
        let mut recovery = Recovery { vfs: &vfs, disk: &disk, is_torn, dice, recorder };
        let result = promises.iter().try_for_each(|promise| recovery.run(promise));
        let points = recovery.recorder.stop();
        result.map_err(|error| format!("{error}, after {end:?}"))?;

        if level < NESTING && dice.chance(self.nested_percent) {
            let chosen = usize::try_from(dice.below(points.len() as u64)).unwrap();
            let (point, promises) = &points[chosen];
            self.nested += 1;
            self.check_at(level + 1, &point.media, promises, dice, is_torn).map_err(|error| {
                format!("{error}, at {:?} of recovery from {end:?}", point.kind)
            })?;
        }
        Ok(())
    }
}

/// A header of the WAL that is torn within its sector can be told from damage only while the
/// frames are as a life without failures left them: so only the first failure tears.
fn some_end(dice: &mut Dice, may_tear: bool) -> End {
    End::PowerFailed(match dice.below(24) {
        0..=3 => return End::Killed,
        4 | 5 => Loss::Everything,
        6 => Loss::Nothing,
        7 => Loss::AllWritesButLast,
        8 => Loss::FirstWrite,
        9..=15 if may_tear => Loss::Torn(dice.roll()),
        _ => Loss::Sectors(dice.roll()),
    })
}

/// A device that comes back and finds its databases.
struct Recovery<'a> {
    vfs: &'a Vfs,
    disk: &'a Disk,
    /// There may be noise from a failure now or before.
    is_torn: bool,
    dice: &'a mut Dice,
    recorder: Recorder,
}

impl Recovery<'_> {
    fn run(&mut self, promise: &Promise) -> Result<(), String> {
        let path = promise.path.as_path();
        let fail = |what: &str, error: String| format!("{}: {what}: {error}", path.display());
        let open = |mode| open(self.vfs, path, promise.key, mode).map_err(|e| e.to_string());
        if promise.allowed.is_empty() {
            drop(open(OpenMode::ReadWrite));
            self.vfs.remove(path).map_err(|error| fail("remove", error.to_string()))?;
            let db = open(OpenMode::Create).map_err(|error| fail("start over", error))?;
            let content = digest(&db).map_err(|error| fail("read anew", error.to_string()))?;
            return if content == empty() { Ok(()) } else { Err(fail("new", "not empty".into())) };
        }
        // Nothing was ever committed: even the file may be missing.
        let may_be_void = promise.allowed.contains(&empty());
        let mode = if may_be_void { OpenMode::Create } else { OpenMode::ReadWrite };
        let db = match open(mode) {
            // A new file full of noise cannot be told from someone else's.
            Err(_) if may_be_void && self.may_be_noise(path) => {
                self.vfs.remove(path).map_err(|error| fail("remove", error.to_string()))?;
                open(mode)
            }
            opened => opened,
        };
        let db = db.map_err(|error| fail("open", error))?;
        let found = digest(&db).map_err(|error| fail("read", error.to_string()))?;
        if !promise.allowed.contains(&found) {
            return Err(fail("content", "no committed state that may be there".into()));
        }
        if !is_intact(&db) {
            return Err(fail("integrity_check", "not ok".into()));
        }
        // What was read once does not go away, whatever happens next.
        self.recorder.done(path, found);
        read_every_page(&db).map_err(|error| fail("read every page", error.to_string()))?;
        self.go_on(path, db, mode, promise.key).map_err(|error| fail("go on", error.to_string()))
    }

    fn may_be_noise(&self, path: &Path) -> bool {
        let bytes = self.disk.bytes(path).unwrap_or_default();
        let is_blank = bytes.iter().take(24).all(|byte| *byte == 0);
        self.is_torn && bytes.len() <= 4096 && !is_blank
    }

    fn go_on(
        &mut self,
        path: &Path,
        db: Connection,
        mode: OpenMode,
        key: u8,
    ) -> Result<(), larder_pages::Error> {
        self.recorder.begin();
        db.execute_batch(
            "BEGIN; CREATE TABLE IF NOT EXISTS later (n, b);
             INSERT INTO later VALUES (1, zeroblob(9000)); COMMIT",
        )?;
        let content = digest(&db)?;
        self.recorder.done(path, content);
        if self.dice.chance(60) {
            let mode = if self.dice.chance(50) { "PASSIVE" } else { "TRUNCATE" };
            db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
        }
        drop(db);
        let db = open(self.vfs, path, key, mode)?;
        assert_eq!(digest(&db)?, content, "after closing and opening again");
        assert!(is_intact(&db));
        Ok(())
    }
}

/// A backup reads pages that no table uses too.
fn read_every_page(db: &Connection) -> rusqlite::Result<()> {
    let mut memory = Connection::open_in_memory()?;
    let step = Backup::new(db, &mut memory)?.step(-1)?;
    assert_eq!(step, StepResult::Done);
    Ok(())
}
