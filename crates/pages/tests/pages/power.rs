//! Power failures below the shim.

use std::path::Path;

use larder_pages::OpenMode;
use larder_pages::testing::{Disk, Loss};

use crate::common::{KEY, create, dump, is_intact, key, vfs_over};

const PATH: &str = "/a.db";

#[test]
fn what_was_committed_survives_every_loss() {
    let disk = Disk::register("power-committed").unwrap();
    let db = create(&vfs_over(Some(disk.name())), Path::new(PATH));
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')").unwrap();
    db.execute_batch("BEGIN; INSERT INTO t VALUES ('open')").unwrap();
    let before = disk.snapshot();
    let again = Disk::register("power-committed-again").unwrap();
    let vfs = vfs_over(Some(again.name()));
    for loss in [Loss::Everything, Loss::Nothing, Loss::Sectors(1), Loss::Torn(2)] {
        again.restore(&before);
        again.crash(loss);
        let db = vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
        assert!(dump(&db).unwrap().contains("kept"), "{loss:?}");
        assert!(!dump(&db).unwrap().contains("open"), "{loss:?}");
        assert!(is_intact(&db));
    }
    disk.crash(Loss::Everything);
    db.execute_batch("COMMIT").unwrap_err();
    drop(db);
    assert!(disk.bytes(PATH).is_some());
}
