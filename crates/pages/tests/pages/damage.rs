//! What a crash or a careless hand leaves: an error, or the content proven whole. (Tampering by
//! rule, byte by byte, is in `tampering`.)

use std::path::Path;

use larder_pages::testing::Forge;
use larder_pages::{Error, OpenMode, Vfs};
use rusqlite::Connection;

use crate::common::{Image, KEY, create, dump, files, key, vfs, wal_of};

const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;
const WAL_HEADER: usize = 32;

/// A database with three pages in its file and four transactions in its WAL.
struct Sample {
    dir: tempfile::TempDir,
    vfs: Vfs,
    image: Image,
    /// What was in it after each transaction of the WAL, and how many frames the WAL had.
    history: Vec<(String, usize)>,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vfs = vfs();
        let path = dir.path().join("sample.db");
        let db = create(&vfs, &path);
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a, b)").unwrap();
        db.execute("INSERT INTO t VALUES (1, zeroblob(1000))", []).unwrap();
        checkpoint(&db);
        let mut history = vec![(dump(&db).unwrap(), 0)];
        for i in 0..4 {
            db.execute_batch(&format!(
                "BEGIN; INSERT INTO t VALUES ({i}, 'x'); INSERT INTO u VALUES ({i}, 'y'); COMMIT"
            ))
            .unwrap();
            let frames = (Image::of(&path).wal.len() - WAL_HEADER) / FRAME;
            history.push((dump(&db).unwrap(), frames));
        }
        let image = Image::of(&path);
        Self { dir, vfs, image, history }
    }

    fn open(&self, image: &Image, mode: OpenMode) -> Result<String, String> {
        let dir = self.dir.path().join("laid");
        std::fs::create_dir_all(&dir).unwrap();
        image.content(&dir, &self.vfs, mode)
    }

    /// Frames before the last transaction, which a crash may take.
    fn frames_before_last(&self) -> usize {
        self.history[self.history.len() - 2].1
    }
}

fn checkpoint(db: &Connection) {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[test]
fn a_database_that_does_not_open_stays_as_it_is() {
    let sample = Sample::new();
    let (last, _) = sample.history.last().unwrap().clone();
    let dir = sample.dir.path().join("laid");
    std::fs::create_dir(&dir).unwrap();
    let mut refused = 0;
    let durable = WAL_HEADER + sample.frames_before_last() * FRAME;
    let wal = (0..durable).step_by(307).chain([0, 16, 24, 31]).map(|position| (true, position));
    let main = (0..sample.image.main.len()).step_by(611).map(|position| (false, position));
    for (in_wal, position) in wal.chain(main) {
        let mut image = sample.image.clone();
        let bytes = if in_wal { &mut image.wal } else { &mut image.main };
        bytes[position] ^= 0x40;
        let path = image.lay(&dir);
        match sample.vfs.open(&path, &key(KEY), OpenMode::ReadWrite) {
            Ok(db) => {
                let content = dump(&db);
                assert!(content.is_err() || content == Ok(last.clone()), "{position} {in_wal}");
            }
            Err(error) => {
                let left = Image::of(&path);
                assert!(left.main == image.main, "{position} {in_wal} {error}");
                assert!(left.wal == image.wal, "{position} {in_wal} {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

/// A checkpoint writes page 1 in place; a crash may tear it, and the WAL still has it.
#[test]
fn a_torn_first_page_is_repaired_from_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("a.db");
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')").unwrap();
    checkpoint(&db);
    db.execute_batch("CREATE TABLE u (a); INSERT INTO u VALUES ('too')").unwrap();
    let image = Image::of(&path);
    let laid = dir.path().join("laid");
    std::fs::create_dir(&laid).unwrap();
    for sectors in 1..8 {
        for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
            let mut torn = image.clone();
            torn.main[sectors * 512..PAGE].fill(0xa5);
            assert_eq!(torn.content(&laid, &vfs, mode).unwrap(), dump(&db).unwrap());
        }
    }
}

/// Frames of a rolled-back transaction stay behind the last commit, under the same salts. They
/// must not make the torn end that a crash leaves look like damage.
#[test]
fn what_a_rollback_left_in_the_wal_is_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("a.db");
    let db = create(&vfs, &path);
    db.execute_batch("PRAGMA cache_size=5; CREATE TABLE t (a); INSERT INTO t VALUES ('first')")
        .unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 400)
        INSERT INTO t SELECT hex(randomblob(500)) FROM n";
    db.execute_batch(&format!("BEGIN; {fill}; ROLLBACK")).unwrap();
    let first = dump(&db).unwrap();
    let committed = {
        let image = Image::of(&path);
        db.execute("INSERT INTO t VALUES ('second')", []).unwrap();
        let after = Image::of(&path);
        assert_eq!(image.wal.len(), after.wal.len(), "written over the leftovers");
        let changed = |at: &usize| image.wal[*at..*at + FRAME] != after.wal[*at..*at + FRAME];
        (WAL_HEADER..after.wal.len()).step_by(FRAME).filter(changed).collect::<Vec<_>>()
    };
    let second = dump(&db).unwrap();
    let image = Image::of(&path);
    let laid = dir.path().join("laid");
    std::fs::create_dir(&laid).unwrap();
    let last = *committed.last().unwrap();
    assert!(image.wal.len() > last + 10 * FRAME);
    for (torn, expected) in [(last + FRAME, &second), (last, &first), (committed[0], &first)] {
        let mut image = image.clone();
        image.wal[torn + 600..torn + 1200].fill(0);
        let content = image.content(&laid, &vfs, OpenMode::ReadWrite);
        assert_eq!(content.as_ref(), Ok(expected), "torn at {torn}");
    }
    drop(db);
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("foreign.db");
    let plain = {
        let path = dir.path().join("plain.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
        drop(db);
        std::fs::read(path).unwrap()
    };
    let samples: [(&str, Vec<u8>); 6] = [
        ("without encryption", plain),
        ("too short", b"Dear diary".to_vec()),
        ("its header", b"Dear diary ".repeat(1000)),
        (
            "its header",
            (0..20_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect(),
        ),
        ("too short", vec![1; 4095]),
        ("its header", vec![0; 8192]),
    ];
    for (expected, bytes) in samples {
        std::fs::write(&path, &bytes).unwrap();
        for mode in [OpenMode::Create, OpenMode::ReadWrite, OpenMode::ReadOnly] {
            let error = vfs.open(&path, &key(KEY), mode).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
    std::fs::write(&path, b"").unwrap();
    for mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        let error = vfs.open(&path, &key(KEY), mode).unwrap_err().to_string();
        assert!(error.contains("an empty file"), "{error}");
    }
    assert_eq!(names(dir.path()), ["foreign.db", "plain.db"]);
}

/// An empty database beside a full WAL lost its content; SQLite alone would delete the WAL.
#[test]
fn an_empty_file_beside_a_wal_is_damage() {
    let sample = Sample::new();
    let image = Image { main: Vec::new(), wal: sample.image.wal.clone() };
    for mode in [OpenMode::Create, OpenMode::ReadWrite] {
        assert!(sample.open(&image, mode).is_err());
        let left = Image::of(&sample.dir.path().join("laid/image.db"));
        assert_eq!(left.wal, image.wal);
    }
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).into_iter().map(|(name, _)| name).collect()
}

/// SQLite reads a page behind the end of the file as zeros. The last page of an overflow chain
/// is content without any structure: a file cut there gave zeros for data, and no error.
#[test]
fn a_page_missing_at_the_end_is_not_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("a.db");
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE u (a); CREATE TABLE t (a)").unwrap();
    db.execute("INSERT INTO t VALUES (?1)", ["content ".repeat(1000)]).unwrap();
    checkpoint(&db);
    db.execute("INSERT INTO u VALUES (1)", []).unwrap();
    let mut image = Image::of(&path);
    let laid = dir.path().join("laid");
    std::fs::create_dir(&laid).unwrap();
    for cut in [PAGE, PAGE - 100, PAGE + 100] {
        let length = image.main.len() - cut;
        let image = Image { main: image.main[..length].to_vec(), ..image.clone() };
        let path = image.lay(&laid);
        let db = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
        let read = db.query_row("SELECT a FROM t", [], |row| row.get::<_, String>(0));
        let error = larder_pages::Error::from(read.unwrap_err());
        assert!(matches!(error, larder_pages::Error::Corrupt { .. }), "{error}");
    }
    image.wal.clear();
    image.main.truncate(image.main.len() - PAGE);
    assert!(image.content(&laid, &vfs, OpenMode::ReadWrite).is_err());
    assert_eq!(names(&laid), ["image.db"], "not even an empty WAL is made");
}

/// A frame of the WAL as it was before it started over authenticates at its place, but it is not
/// what SQLite wrote there since.
#[test]
fn a_frame_of_the_wal_before_is_damage_in_a_running_database() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("a.db");
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    checkpoint(&db);
    let frame = WAL_HEADER..WAL_HEADER + FRAME;
    db.execute("INSERT INTO t VALUES ('old')", []).unwrap();
    let old = std::fs::read(wal_of(&path)).unwrap()[frame.clone()].to_vec();
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    db.execute("UPDATE t SET a = 'new'", []).unwrap();
    let new = std::fs::read(wal_of(&path)).unwrap();
    assert_eq!(old[..4], new[frame.clone()][..4], "both are of the same page");
    let read = |bytes: &[u8]| {
        std::fs::write(wal_of(&path), bytes).unwrap();
        let other = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
        other.query_row("SELECT a FROM t", [], |row| row.get::<_, String>(0))
    };
    let mut replaced = new.clone();
    replaced[frame].copy_from_slice(&old);
    let error = larder_pages::Error::from(read(&replaced).unwrap_err());
    assert!(matches!(error, larder_pages::Error::Corrupt { .. }), "{error}");
    assert_eq!(read(&new), Ok("new".to_owned()));
}

/// Behind a damaged header, a frame for page 0, which somebody with the key had sealed, was looked
/// up in the database at an offset below its start.
#[test]
fn a_frame_for_page_zero_behind_a_damaged_header_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    db.execute_batch("INSERT INTO t VALUES ('written')").unwrap();
    let mut image = Image::of(&path);
    let mut forge = Forge::new(&key(KEY), image.main[..16].try_into().unwrap());
    let (mut frame, flags) = forge.open_frame(1, &image.wal[32..32 + 4120]).unwrap();
    frame[..4].fill(0);
    let sealed = forge.frame(1, flags, &frame);
    image.wal[32..32 + 4120].copy_from_slice(&sealed);
    image.wal[31] ^= 1;
    let forged = tempfile::tempdir().unwrap();
    let laid = image.lay(forged.path());
    let refused = vfs.open(&laid, &key(KEY), OpenMode::ReadWrite);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
}
