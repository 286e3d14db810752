//! Databases that are large for a test: offsets past 4 GiB, and the memory of a `VACUUM`.
//! Together they write about 15 GB under `TMPDIR`, and remove it again:
//! `cargo test --release -p larder-pages --test pages large -- --ignored --nocapture`

use std::path::Path;

use larder_pages::OpenMode;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::common::{KEY, create, is_intact, key, vfs, wal_of};

const ROW: usize = 1 << 20;
const GIB: u64 = 1 << 30;

/// What row `id` has at every 512th byte, so that no page of it is like another.
fn stamp(id: i64, at: usize) -> [u8; 8] {
    (id << 32 | i64::try_from(at).unwrap()).to_be_bytes()
}

fn row(id: i64) -> Vec<u8> {
    let mut bytes = vec![0; ROW];
    for at in (0..ROW).step_by(512) {
        bytes[at..at + 8].copy_from_slice(&stamp(id, at));
    }
    bytes
}

/// Every row, its start and its end read through a blob handle.
fn has_rows(db: &Connection, rows: i64) {
    let mut found = vec![0; ROW];
    for id in 1..=rows {
        let blob = db.blob_open("main", "t", "b", id, true).unwrap();
        blob.read_at_exact(&mut found, 0).unwrap();
        assert!(found == row(id), "row {id}");
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[test]
#[ignore = "writes 9 GB"]
fn content_lies_and_is_found_past_4_gib_in_the_file_and_in_the_wal() {
    const ROWS: i64 = 4200;
    let dir = tempfile::tempdir().unwrap();
    let (vfs, path) = (vfs(), dir.path().join("large.db"));
    let open = || {
        let db = vfs.open(&path, &key(KEY), OpenMode::ReadWrite).unwrap();
        db.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
        db
    };
    create(&vfs, &path).execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, b)").unwrap();
    let mut db = open();
    for group in (1..=ROWS).collect::<Vec<_>>().chunks(100) {
        let transaction = db.transaction().unwrap();
        for id in group {
            transaction.execute("INSERT INTO t VALUES (?1, ?2)", (id, row(*id))).unwrap();
        }
        transaction.commit().unwrap();
    }
    let wal = size(&wal_of(&path));
    assert!(wal > 4 * GIB && size(&path) < GIB, "{wal} bytes of WAL");
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(db);

    let db = open();
    has_rows(&db, ROWS);
    let checkpoint = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    assert_eq!(checkpoint, Ok(0));
    assert!(size(&path) > 4 * GIB && size(&wal_of(&path)) == 0);
    let lock_page = 1 + u32::try_from(GIB / 4096).unwrap();
    let used = "SELECT count(*) FROM dbstat WHERE pageno = ?1";
    assert_eq!(db.query_row(used, [lock_page], |row| row.get(0)), Ok(0));
    assert_eq!(db.query_row(used, [lock_page - 1], |row| row.get(0)), Ok(1));
    assert_eq!(db.query_row(used, [lock_page + 1], |row| row.get(0)), Ok(1));
    drop(db);

    let db = open();
    has_rows(&db, ROWS);
    // Rows on either side of 1, 2 and 4 GiB change, by SQL and by handle.
    for id in [1000, 1022, 1023, 1024, 2040, 2048, 4070, 4080, 4090, 4200] {
        let mut blob = db.blob_open("main", "t", "b", id, false).unwrap();
        blob.write_at(&row(id + 1), 0).unwrap();
        blob.write_at(&row(id), 0).unwrap();
    }
    db.execute("DELETE FROM t WHERE id = 4200", []).unwrap();
    db.execute("INSERT INTO t VALUES (4200, ?1)", [row(4200)]).unwrap();
    drop(db);
    let db = open();
    has_rows(&db, ROWS);
    assert!(is_intact(&db));
    println!("{} bytes in the file, {wal} in the WAL", size(&path));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "writes 3 GB"]
fn memory_of_a_vacuum() {
    const ROWS: i64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let (vfs, path) = (vfs(), dir.path().join("vacuumed.db"));
    let mut db = create(&vfs, &path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, b)").unwrap();
    for group in (1..=ROWS).collect::<Vec<_>>().chunks(50) {
        let transaction = db.transaction().unwrap();
        for id in group {
            transaction.execute("INSERT INTO t VALUES (?1, ?2)", (id, row(*id))).unwrap();
        }
        transaction.commit().unwrap();
    }
    let mib = |bytes: u64| bytes >> 20;
    // From least to most: what one frees, the allocator may keep.
    let before = memory_bytes("VmRSS");
    let peak_bytes = |work: &dyn Fn()| {
        // Makes the peak what is in memory now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        work();
        memory_bytes("VmHWM").saturating_sub(before)
    };
    let into = peak_bytes(&|| vfs.vacuum_into(&db, &dir.path().join("new.db"), &key(9)).unwrap());
    let sort = peak_bytes(&|| {
        let sql = "SELECT count(*) FROM (SELECT substr(b, 1, 500000) FROM t ORDER BY 1 LIMIT -1)";
        assert_eq!(db.query_row(sql, [], |row| row.get(0)), Ok(ROWS));
    });
    let vacuum = peak_bytes(&|| db.execute_batch("VACUUM").unwrap());
    println!(
        "{} MiB of database: VACUUM takes {} MiB more memory, vacuum_into {}, a sort of {} MiB {}",
        mib(size(&path)),
        mib(vacuum),
        mib(into),
        ROWS / 2,
        mib(sort)
    );
    assert!(mib(into) < 64, "a compact copy needs no more than the page cache");
}

/// A line of what Linux says about this process's memory.
#[cfg(target_os = "linux")]
fn memory_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
