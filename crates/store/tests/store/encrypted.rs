//! The pool and the schema over the encrypting VFS, on a real file.

use std::path::{Path, PathBuf};

use larder_crypto::Secret;
use larder_log::Payload;
use larder_pages::{OpenMode, Vfs};
use larder_store::migrate::{Run, SPACE};
use larder_store::space::{self, logs, transactions};
use larder_store::{ErrorKind, Pool, StoreError, configure};
use larder_types::Entropy;

use crate::fixture::{NOW, append, device};

/// Bytes that differ from each other; nothing here is worth protecting.
struct Counting(u64);

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

fn pool(vfs: &Vfs, path: PathBuf, key: u8) -> Pool {
    let vfs = vfs.clone();
    let key = Secret::new([key; 32]);
    Pool::new(Box::new(move |access| {
        let conn = vfs.open(&path, &key, OpenMode::Create).map_err(StoreError::open)?;
        configure(&conn, access)?;
        Ok(conn)
    }))
}

fn contains(path: &Path, needle: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_space_is_written_read_closed_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("space.db");
    let vfs = Vfs::register("store-tests", None, Box::new(Counting(7))).unwrap();
    let first = pool(&vfs, path.clone(), 1);
    let canary = b"the canary that must not be seen".as_slice();
    let batch = {
        let mut writer = first.writer().unwrap();
        assert_eq!(SPACE.migrate(&mut writer, Run::at(NOW)).unwrap(), SPACE.version());
        let tx = larder_store::begin(&mut writer).unwrap();
        let big = Payload::Sealed([vec![1; 3 << 20], canary.to_vec()].concat());
        let batch = append(&tx, &device(1), &[&[big], &[]]);
        let reader = first.reader().unwrap();
        SPACE.verify(&reader).unwrap();
        assert_eq!(space::status(&reader).unwrap().entries, 0, "a snapshot from before");
        larder_store::commit(tx).unwrap();
        assert_eq!(space::status(&reader).unwrap().entries, 2);
        batch
    };
    for reopened in [false, true] {
        if reopened {
            first.close().unwrap();
            assert!(matches!(first.reader(), Err(StoreError::Closed)));
            first.reopen();
        }
        let reader = first.reader().unwrap();
        let log = logs::find(&reader, &device(1)).unwrap().unwrap();
        let last = transactions::last_of(&reader, log.log).unwrap().unwrap();
        assert_eq!(transactions::batch(&reader, &last, 1).unwrap(), batch);
    }
    first.close().unwrap();
    assert!(!contains(&path, canary));

    let before = std::fs::read(&path).unwrap();
    let error = pool(&vfs, path.clone(), 2).writer().unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_flipped_bit_is_corruption_that_names_the_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("space.db");
    let vfs = Vfs::register("store-tests-flip", None, Box::new(Counting(8))).unwrap();
    let whole = pool(&vfs, path.clone(), 1);
    {
        let mut writer = whole.writer().unwrap();
        SPACE.migrate(&mut writer, Run::at(NOW)).unwrap();
        append(&writer, &device(1), &[&[Payload::Sealed(vec![1; 1 << 20])]]);
    }
    whole.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // Within the payload, which takes up nearly all of the file's last quarter.
    let middle = bytes.len() * 7 / 8;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    whole.reopen();
    let reader = whole.reader().unwrap();
    let log = logs::find(&reader, &device(1)).unwrap().unwrap();
    let last = transactions::last_of(&reader, log.log).unwrap().unwrap();
    let error = transactions::batch(&reader, &last, 1).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("sections"), ErrorKind::Corrupt), "{error}");
}
