//! Where a database lies: names, links, permissions, files that go away, forked processes.
#![expect(unsafe_code, reason = "a test runs in a forked process")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_pages::testing::Disk;
use larder_pages::{Error, OpenMode, Vfs};
use rusqlite::{Connection, ffi};

use crate::common::{KEY, create, dump, files, is_intact, key, vfs, vfs_over, wal_of};
use crate::sharing::in_another_process;

fn open(vfs: &Vfs, path: &Path) -> Result<Connection, Error> {
    vfs.open(path, &key(KEY), OpenMode::ReadWrite)
}

fn write(db: &Connection, text: &str) {
    db.execute_batch("CREATE TABLE IF NOT EXISTS t (a)").unwrap();
    db.execute("INSERT INTO t VALUES (?1)", [text]).unwrap();
}

#[test]
fn any_name_that_the_system_takes_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    // Apple's file systems take UTF-8 only.
    let raw: &[u8] = if cfg!(target_vendor = "apple") { b"raw" } else { b"raw \xff\xfe.db" };
    let names: [&[u8]; 9] = [
        b"with spaces .db",
        "Küche 日記 🥕.db".as_bytes(),
        raw,
        b"file:a?mode=ro&vfs=unix#x.db",
        b"100%25.db",
        b"quote'\"`;--.db",
        b"line\nbreak",
        b"-wal",
        b"-journal",
    ];
    for name in names {
        let path = dir.path().join(OsStr::from_bytes(name));
        let db = create(&vfs, &path);
        write(&db, "kept");
        assert_eq!(in_another_process("write", &path), "in use", "{path:?}");
        drop(db);
        assert_eq!(in_another_process("write", &path), "opened true", "{path:?}");
        assert!(is_intact(&open(&vfs, &path).unwrap()));
    }
    let mut found: Vec<Vec<u8>> = dir
        .path()
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().as_bytes().to_vec())
        .collect();
    found.sort();
    let mut expected: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    expected.sort();
    assert_eq!(found, expected, "no file beside them");
}

/// SQLite's limit is 512 bytes; the WAL's name is longer than the database's.
#[test]
fn a_path_that_is_too_long_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let full = dir.path().canonicalize().unwrap();
    let mut refused = 0;
    for length in [300, 480, 500, 504, 505, 506, 507, 508, 509, 510, 511, 512, 513, 600, 3000] {
        let mut path = full.clone();
        while path.as_os_str().len() + 202 < length {
            path.push("d".repeat(200));
        }
        fs::create_dir_all(&path).unwrap();
        path.push("n".repeat(length - path.as_os_str().len() - 1));
        assert_eq!(path.as_os_str().len(), length);
        match vfs.open(&path, &key(KEY), OpenMode::Create) {
            Ok(db) => {
                assert!(refused == 0, "{length} is taken, a shorter one is not");
                write(&db, "kept");
                drop(db);
                assert!(dump(&open(&vfs, &path).unwrap()).unwrap().contains("kept"));
            }
            Err(Error::Unnameable(_) | Error::CannotOpen { .. }) => refused += 1,
            Err(error) => panic!("{length}: {error}"),
        }
    }
    assert!((2..14).contains(&refused), "{refused}");
}

#[test]
fn links_lead_to_the_same_database() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let path = dir.path().join("a.db");
    let db = create(&vfs, &path);
    write(&db, "first");

    let linked = dir.path().join("linked.db");
    symlink(&path, &linked).unwrap();
    symlink(dir.path(), dir.path().join("folder")).unwrap();
    for path in [&linked, &dir.path().join("folder/a.db"), &dir.path().join("./folder/./a.db")] {
        assert_eq!(in_another_process("write", path), "in use", "{path:?}");
        let again = open(&vfs, path).unwrap();
        write(&again, "second");
        assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
    }
    assert!(!wal_of(&linked).exists());

    // A hard link has a WAL of its own beside it: nobody may use both.
    let hard = dir.path().join("hard.db");
    fs::hard_link(&path, &hard).unwrap();
    assert!(matches!(open(&vfs, &hard), Err(Error::InUse { .. })));
    assert_eq!(in_another_process("write", &hard), "in use");
    assert_eq!(in_another_process("read", &hard), "in use");
    assert!(!wal_of(&hard).exists());
    drop(db);
    assert_eq!(in_another_process("write", &hard), "opened true");
}

#[test]
fn a_database_that_was_moved_or_replaced_is_not_mixed_with_another() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let (path, away) = (dir.path().join("a.db"), dir.path().join("away.db"));
    let db = create(&vfs, &path);
    write(&db, "first");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();

    fs::rename(&path, &away).unwrap();
    assert!(matches!(open(&vfs, &path), Err(Error::Missing { .. })));
    assert_eq!(in_another_process("write", &away), "in use");
    assert!(matches!(open(&vfs, &away), Err(Error::InUse { .. })));
    fs::copy(&away, &path).unwrap();
    let replaced = open(&vfs, &path);
    assert!(matches!(replaced, Err(Error::Corrupt { .. })), "{replaced:?}");
    // Those who had it open still have it.
    assert!(dump(&db).unwrap().contains("first") && is_intact(&db));
    drop(db);
    for path in [&path, &away] {
        assert!(dump(&open(&vfs, path).unwrap()).unwrap().contains("first"));
    }
}

// Whether a database is there was asked of the machine's own disk as well: a file that happened to
// have the same name there made one that is gone look like one that cannot be read.
#[test]
fn what_lies_on_the_machines_disk_is_no_matter_of_another_disk() {
    let disk = Disk::register("elsewhere").unwrap();
    let vfs = vfs_over(Some(disk.name()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    fs::write(&path, "something else").unwrap();
    assert!(matches!(open(&vfs, &path), Err(Error::Missing { .. })));
    // And one that is empty is there, on either.
    disk.put(&path, b"");
    let empty = open(&vfs, &path);
    assert!(!matches!(empty, Err(Error::Missing { .. })), "{empty:?}");
}

#[test]
fn a_folder_that_goes_away_ends_nothing_badly() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = vfs();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("a.db");
    let db = create(&vfs, &path);
    write(&db, "first");
    fs::remove_dir_all(&folder).unwrap();
    // The system keeps deleted files for those who have them open, and tells them nothing.
    assert!(dump(&db).unwrap().contains("first"));
    assert!(matches!(open(&vfs, &path), Err(Error::Missing { .. })));
    let made = vfs.open(&path, &key(KEY), OpenMode::Create);
    assert!(matches!(made, Err(Error::CannotOpen { .. })), "{made:?}");
    drop(db);
    fs::create_dir(&folder).unwrap();
    write(&create(&vfs, &path), "another");
    assert!(!dump(&open(&vfs, &path).unwrap()).unwrap().contains("first"));
}

/// Permissions do not bind the superuser: then everything here may be written.
#[test]
fn what_may_not_be_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("a.db");
    let vfs = vfs();
    write(&create(&vfs, &path), "first");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for (folder_mode, file_mode) in [(0o700, 0o400), (0o500, 0o600), (0o500, 0o400)] {
        set(&path, file_mode).unwrap();
        set(&folder, folder_mode).unwrap();
        let before = files(&folder);
        let may_write = fs::File::options().append(true).open(&path).is_ok();
        let probe = folder.join("probe");
        let may_add = fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).is_ok();
        let opened = open(&vfs, &path);
        match &opened {
            Ok(db) if may_write && may_add => write(db, "more"),
            Err(Error::NotWritable { .. }) if !may_write || !may_add => {}
            other => panic!("{other:?} in {folder_mode:o} with {file_mode:o}"),
        }
        drop(opened);
        if !may_write || !may_add {
            assert_eq!(files(&folder), before);
        }
        let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
        assert!(dump(&reader).unwrap().contains("first") && is_intact(&reader));
        drop(reader);
        set(&folder, 0o700).unwrap();
    }
}

/// A forked child has its parent's connections, with an index of the WAL that soon is of another
/// time. It used to delete the parent's WAL when it closed them.
#[test]
fn a_forked_child_changes_nothing() {
    // Alone in a process: the child would wait for ever for a lock of SQLite's that another test's
    // thread held at the fork.
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "paths::a_forked_child_alone", "--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout);
    // A filter that matches no test succeeds as well.
    assert!(alone.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "run by a_forked_child_changes_nothing, in a process of its own"]
fn a_forked_child_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let vfs = vfs();
    let db = create(&vfs, &path);
    write(&db, "parent");
    db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    let before = images(&path);
    // Never closed in this process: the child has a copy of its memory, and closes that.
    let db: &'static Connection = Box::leak(Box::new(db));
    forked(db, |db| {
        db.execute("INSERT INTO t VALUES ('child')", []).unwrap_err();
        let cut = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        assert!(cut != Ok(0), "{cut:?}");
        db.flush_prepared_statement_cache();
        // SAFETY: the connection is alive, has no statements, and is not used again here.
        assert_eq!(unsafe { ffi::sqlite3_close(db.handle()) }, ffi::SQLITE_OK);
    });
    assert_eq!(images(&path), before);
    write(db, "parent again");
    assert_eq!(in_another_process("write", &path), "in use");
    let content = dump(db).unwrap();
    assert!(content.contains("parent again") && !content.contains("child"));
    assert!(is_intact(db));
}

fn images(path: &Path) -> [Vec<u8>; 2] {
    // Not read through `std::fs` in this process: closing the file would drop its locks.
    [path.to_owned(), wal_of(path)].map(|path: PathBuf| {
        Command::new("cat").arg(path).output().map(|output| output.stdout).unwrap()
    })
}

/// Runs `work` in a forked child.
fn forked(db: &'static Connection, work: fn(&'static Connection)) {
    const DONE: i32 = 77;
    let address = std::ptr::from_ref(db).expose_provenance();
    let mut command = Command::new("true");
    // SAFETY: no other thread is at work in this process, so the child finds no lock held; the
    // connection is never freed, and this thread waits.
    unsafe {
        command.pre_exec(move || {
            let db = &*std::ptr::with_exposed_provenance::<Connection>(address);
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(db))).is_ok();
            // An error is the one thing that the parent is told.
            Err(std::io::Error::from_raw_os_error(if done { DONE } else { 1 }))
        });
    }
    assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(DONE));
}
