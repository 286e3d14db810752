//! A database that an earlier build sealed, with the cipher of `aes-gcm`: every build must open
//! it, with whatever cipher it has.

use std::path::Path;

use larder_pages::OpenMode;

use crate::common::{KEY, copy, create, is_intact, key, vfs};

#[test]
fn a_database_of_old_opens_for_ever() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages/golden/golden.db");
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&golden, dir.path());
    let vfs = vfs();
    let rows = |db: &rusqlite::Connection| {
        let mut select = db.prepare("SELECT text FROM t ORDER BY id").unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let reader = vfs.open(&path, &key(KEY), OpenMode::ReadOnly).unwrap();
    assert_eq!(rows(&reader), ["in the file", "in the WAL"]);
    assert!(is_intact(&reader));
    drop(reader);

    let writer = create(&vfs, &path);
    writer.execute("INSERT INTO t VALUES (3, 'of today')", []).unwrap();
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(writer);
    assert_eq!(rows(&create(&vfs, &path)), ["in the file", "in the WAL", "of today"]);
}
