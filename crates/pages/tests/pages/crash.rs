//! What is left after a process is gone without a checkpoint.

use crate::common::{KEY, copy, create, dump, is_intact, key, vfs, wal_of};
use larder_pages::OpenMode;

/// A shim that put its tag into SQLite's own buffer lost all of these without an error: the
/// frame's checksum, taken before xWrite, no longer matched what came back.
#[test]
fn every_committed_transaction_survives_the_loss_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let db = create(&vfs(), &path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    for i in 0..50 {
        db.execute("INSERT INTO t (text) VALUES (?1)", [format!("row {i}").repeat(30)]).unwrap();
    }
    let left = copy(&path, &dir.path().join("copy"));
    let again = vfs().open(&left, &key(KEY), OpenMode::ReadWrite).unwrap();
    assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
    assert!(dump(&again).unwrap().contains("row 49"));
    assert!(is_intact(&again));
    drop(again);
    assert!(!wal_of(&left).exists(), "the last connection checkpoints");
    let again = vfs().open(&left, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(dump(&again).unwrap(), dump(&db).unwrap());
}
