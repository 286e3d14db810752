//! Power failures below the shim, one story each; `crash_points` has them at every point.

use std::path::Path;
use std::sync::{Arc, Mutex};

use larder_pages::testing::{Call, Disk, Loss, Operation, Outcome, Snapshot};
use larder_pages::{Copied, Error, OpenMode, Vfs};

use crate::common::{KEY, create, dump, is_intact, key, vfs_over};

const PATH: &str = "/d/a.db";
const WAL: &str = "/d/a.db-wal";

/// A disk with a shim over it.
fn disk(name: &str) -> (Disk, Vfs) {
    let disk = Disk::register(&format!("power-{name}")).unwrap();
    let vfs = vfs_over(Some(disk.name()));
    (disk, vfs)
}

/// Keeps a snapshot of each moment before a call that `chosen` picks.
fn snapshots(
    disk: &Disk,
    chosen: impl Fn(&Call<'_>) -> bool + Send + 'static,
) -> Arc<Mutex<Vec<Snapshot>>> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (into, seen) = (Arc::clone(&taken), disk.clone());
    disk.on_call(move |call| {
        if chosen(call) {
            into.lock().unwrap().push(seen.snapshot());
        }
        Outcome::Go
    });
    taken
}

fn every_loss() -> impl Iterator<Item = Loss> {
    [Loss::Everything, Loss::Nothing, Loss::AllWritesButLast, Loss::FirstWrite]
        .into_iter()
        .chain((0..40).flat_map(|seed| [Loss::Sectors(seed), Loss::Torn(seed)]))
}

fn content(vfs: &Vfs, path: &str, key_byte: u8) -> Result<String, Error> {
    let db = vfs.open(Path::new(path), &key(key_byte), OpenMode::ReadWrite)?;
    assert!(is_intact(&db));
    Ok(dump(&db)?)
}

#[test]
fn what_was_committed_survives_every_loss() {
    let (disk, vfs) = disk("committed");
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')").unwrap();
    db.execute_batch("BEGIN; INSERT INTO t VALUES ('open')").unwrap();
    let before = disk.snapshot();
    let (again, vfs_again) = self::disk("committed-again");
    for loss in every_loss() {
        again.restore(&before);
        again.crash(loss);
        let found = content(&vfs_again, PATH, KEY).unwrap();
        assert!(found.contains("kept") && !found.contains("open"), "{loss:?}");
    }
    disk.crash(Loss::Everything);
    db.execute_batch("COMMIT").unwrap_err();
    drop(db);
    assert!(content(&vfs, PATH, KEY).unwrap().contains("kept"));
}

/// With `synchronous=NORMAL` a commit is not synced. If frames claimed all the same that those
/// before them were, an ordinary loss of power would be called damage.
#[test]
fn what_was_not_synced_is_lost_from_the_end_and_is_no_damage() {
    let (disk, vfs) = disk("normal");
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a); PRAGMA synchronous=NORMAL").unwrap();
    for i in 0..6 {
        let row = format!("row {i}|{}", "x".repeat(9000));
        db.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
    }
    let normal = disk.snapshot();
    db.execute_batch("PRAGMA synchronous=FULL; INSERT INTO t VALUES ('synced')").unwrap();
    db.execute_batch("INSERT INTO t VALUES ('last')").unwrap();
    let full = disk.snapshot();

    let (again, vfs_again) = self::disk("normal-again");
    let mut lengths = std::collections::BTreeSet::new();
    for loss in every_loss() {
        again.restore(&normal);
        again.crash(loss);
        let found = content(&vfs_again, PATH, KEY).unwrap();
        let rows: Vec<bool> = (0..6).map(|i| found.contains(&format!("row {i}|"))).collect();
        assert!(rows.is_sorted_by(|a, b| a >= b), "{loss:?}: {rows:?}");
        lengths.insert(rows.into_iter().filter(|kept| *kept).count());
        again.restore(&full);
        again.crash(loss);
        let found = content(&vfs_again, PATH, KEY).unwrap();
        assert!(["row 5|", "synced", "last"].iter().all(|row| found.contains(row)), "{loss:?}");
    }
    assert!(lengths.contains(&0) && lengths.len() > 2, "{lengths:?}");

    // Once they are synced, what is lost of them is damage again.
    again.restore(&full);
    let mut wal = again.bytes(WAL).unwrap();
    wal[5000] ^= 1;
    again.put(WAL, &wal);
    let error = content(&vfs_again, PATH, KEY).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

/// A crash in the one write that makes a file a database left a file of a page or less that did
/// not open, nor could it be created anew. Now the id and the clear bytes come last.
#[test]
fn a_database_whose_creation_was_cut_short_can_be_created() {
    let (original, vfs) = disk("cut");
    let moments = snapshots(&original, |_| true);
    drop(create(&vfs, Path::new(PATH)));
    original.off_call();
    let (disk, vfs) = disk("cut-again");
    let (mut unfinished, mut noisy) = (0, 0);
    for moment in moments.lock().unwrap().iter() {
        for loss in every_loss() {
            disk.restore(moment);
            disk.crash(loss);
            let left = disk.bytes(PATH).unwrap_or_default();
            if vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).is_err() {
                unfinished += 1;
                assert_eq!(disk.bytes(PATH).unwrap_or_default(), left, "{loss:?}");
            }
            let created = vfs.open(Path::new(PATH), &key(KEY), OpenMode::Create);
            // A first sector of noise may as well be another program's file.
            if let (Err(error), Loss::Torn(_)) = (&created, loss) {
                noisy += 1;
                assert!(matches!(error, Error::NotADatabase { .. }), "{loss:?}: {error}");
                assert!(left.len() <= 4096 && left[..24] != [0; 24]);
                continue;
            }
            let db = created.unwrap_or_else(|error| panic!("{loss:?}: {error}"));
            db.execute_batch("CREATE TABLE t (a)").unwrap();
            drop(db);
            assert!(content(&vfs, PATH, KEY).unwrap().contains("CREATE TABLE t"));
        }
    }
    assert!(unfinished > 50 && noisy > 0 && noisy < unfinished / 4, "{noisy} of {unfinished}");
}

/// The name of a file is not durable before its first WAL is synced: a crash may leave that WAL,
/// and take the database that nothing was committed to. That was called damage.
#[test]
fn a_wal_without_frames_beside_no_database_is_no_damage() {
    let (disk, vfs) = disk("unnamed");
    drop(create(&vfs, Path::new(PATH)));
    let wal = {
        let db = create(&vfs, Path::new(PATH));
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        disk.bytes(WAL).unwrap()
    };
    disk.remove(PATH);
    disk.put(WAL, &wal[..32]);
    drop(create(&vfs, Path::new(PATH)));
    disk.remove(PATH);
    disk.put(WAL, &wal);
    let refused = vfs.open(Path::new(PATH), &key(KEY), OpenMode::Create);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "a frame had a database");
}

/// A WAL that begins anew gets a new header over the old one, before the old frames. Torn within
/// its sector, it looked like one that damage had struck, and the database did not open again. Nor
/// did it, later, if rows had been deleted: what a page in the WAL still has of them is not in the
/// file.
#[test]
fn a_header_torn_as_the_wal_begins_anew_costs_nothing() {
    let (disk, vfs) = disk("header");
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    for i in 0..20 {
        db.execute("INSERT INTO t VALUES (?1)", [i]).unwrap();
    }
    let rows = "CREATE TABLE u (a, b); CREATE INDEX ua ON u (a);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 24)
        INSERT INTO u SELECT i, hex(randomblob(450)) FROM n;
        DELETE FROM u WHERE a % 3 = 0; UPDATE u SET a = a + 1";
    db.execute_batch(rows).unwrap();
    let committed = dump(&db).unwrap();
    let unsaved = disk.snapshot();
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    let is_frame = |call: &Call<'_>| call.operation == Operation::Write && call.offset == 32;
    let moments = snapshots(&disk, is_frame);
    let old = disk.bytes(WAL).unwrap();
    db.execute("INSERT INTO t VALUES ('more')", []).unwrap();
    disk.off_call();
    let moment = moments.lock().unwrap().pop().unwrap();
    let (again, vfs) = self::disk("header-again");
    again.restore(&moment);
    let new = again.bytes(WAL).unwrap();
    assert!(old[..32] != new[..32] && old[32..] == new[32..]);
    for cut in 1..32 {
        for (start, end) in [(&new, &old), (&old, &new)] {
            let torn = [&start[..cut], &end[cut..]].concat();
            if [&old[..32], &new[..32]].contains(&&torn[..32]) {
                continue;
            }
            again.restore(&moment);
            again.put(WAL, &torn);
            assert_eq!(content(&vfs, PATH, KEY).unwrap(), committed, "torn at {cut}");

            // The same header while the database has not all of it is damage.
            again.restore(&unsaved);
            again.put(WAL, &torn);
            let refused = content(&vfs, PATH, KEY);
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "torn at {cut}: {refused:?}");
        }
    }
}

/// A copy was called whole while its name was not durable: whoever then let go of the original
/// could have lost both.
#[test]
fn a_whole_copy_and_the_end_of_the_original_survive_a_crash() {
    const COPY: &str = "/d/b.db";
    let (disk, vfs) = disk("copy");
    let mut db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('copied')").unwrap();
    let mut copying = vfs.copy_of(&mut db, Path::new(COPY), &key(9)).unwrap();
    while matches!(copying.step(&mut db, 2).unwrap(), Copied::Partly { .. }) {}
    let whole = disk.snapshot();
    drop(db);
    let moments = snapshots(&disk, |_| true);
    vfs.remove(Path::new(PATH)).unwrap();
    disk.off_call();
    let removed = disk.snapshot();

    let (disk, vfs) = self::disk("copy-again");
    for loss in every_loss() {
        for moment in [&whole, &removed] {
            disk.restore(moment);
            disk.crash(loss);
            assert!(content(&vfs, COPY, 9).unwrap().contains("copied"), "{loss:?}");
        }
        assert_eq!(disk.bytes(PATH), None, "{loss:?}");
        for moment in moments.lock().unwrap().iter() {
            disk.restore(moment);
            disk.crash(loss);
            assert!(disk.bytes(PATH).is_some() || disk.bytes(WAL).is_none(), "a WAL alone");
        }
    }
}

/// A process was killed between writing a transaction and syncing it. What the next one reads, it
/// may send to a peer: a power failure must not take it away then.
#[test]
fn what_a_killed_process_left_is_durable_once_it_was_read() {
    let (disk, vfs) = disk("killed");
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    let moments = snapshots(&disk, |call| call.operation == Operation::Sync);
    db.execute_batch("INSERT INTO t VALUES ('unsynced')").unwrap();
    disk.off_call();
    let moment = moments.lock().unwrap().pop().unwrap();
    let (again, vfs) = self::disk("killed-again");
    again.restore(&moment);
    again.crash(Loss::Everything);
    assert!(!content(&vfs, PATH, KEY).unwrap().contains("unsynced"), "nothing synced it");
    again.restore(&moment);
    let db = vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
    assert!(dump(&db).unwrap().contains("unsynced"));
    again.crash(Loss::Everything);
    drop(db);
    assert!(content(&vfs, PATH, KEY).unwrap().contains("unsynced"));
}

/// A process was killed after it wrote the first page of a database and before it synced it. The
/// next one committed to the WAL, and a power failure took the page with the id, without which the
/// WAL does not open.
#[test]
fn a_commit_is_durable_though_the_creation_was_killed() {
    let (disk, vfs) = disk("unsynced");
    let moments = snapshots(&disk, |call| call.operation == Operation::Sync);
    drop(create(&vfs, Path::new(PATH)));
    disk.off_call();
    let moment = moments.lock().unwrap().pop().unwrap();
    let (again, vfs) = self::disk("unsynced-again");
    again.restore(&moment);
    let db = vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
    db.execute_batch("CREATE TABLE t (a)").unwrap();
    again.crash(Loss::Everything);
    drop(db);
    assert!(content(&vfs, PATH, KEY).unwrap().contains("CREATE TABLE t"));
}

/// A frame's header has checksums of plaintext: it waits for its page, and both are one message.
#[test]
fn a_frame_reaches_the_disk_in_one_write() {
    let (disk, vfs) = disk("frames");
    let writes = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&writes);
    disk.on_call(move |call| {
        if call.operation == Operation::Write && call.path == Path::new(WAL) {
            into.lock().unwrap().push((call.offset, call.length));
        }
        Outcome::Go
    });
    let db = create(&vfs, Path::new(PATH));
    db.execute_batch(
        "PRAGMA cache_size=5; CREATE TABLE t (a, b); CREATE INDEX i ON t (b); BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200)
         INSERT INTO t SELECT i, hex(zeroblob(100 + i)) FROM n; UPDATE t SET a = a + 1; COMMIT",
    )
    .unwrap();
    let writes = writes.lock().unwrap();
    let (headers, frames): (Vec<_>, Vec<_>) = writes.iter().partition(|write| write.1 == 32);
    assert!(headers.iter().all(|(offset, _)| *offset == 0));
    assert!(frames.iter().all(|(at, length)| length % 4120 == 0 && (at - 32) % 4120 == 0));
    assert!(frames.iter().map(|(_, length)| length / 4120).sum::<usize>() > 100);
}
