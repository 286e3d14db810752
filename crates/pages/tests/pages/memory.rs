//! Keys in the memory of this process: there while a database is open, and gone after it.
//!
//! The search runs in a process of its own, which never has a key but in the hands of the code
//! under test: it is told what to look for under a mask, by this process, which lived the same
//! life before with the same random numbers and so knows every nonce.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_crypto::{Secret, hash, kdf};
use larder_pages::testing::{MemorySearch, masked};
use larder_pages::{OpenMode, Vfs};
use larder_types::{Entropy, hex};
use rusqlite::Connection;
use xaes_256_gcm::aes::Aes256;
use xaes_256_gcm::aes::cipher::BlockCipherEncrypt;
use xaes_256_gcm::aes_gcm::Aes256Gcm;
use xaes_256_gcm::aes_gcm::aead::{AeadInOut, KeyInit};

use crate::common::{dump, wal_of};

const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;
const LABEL: &[u8; 16] = b"larder/pages/v1\0";
const PLACE: &str = "LARDER_TEST_MEMORY";
/// What stands in the database, for the measurement of plaintext.
const CONTENT: &str = "canary-kX7w-in-every-row";

/// The same bytes in every process.
struct Hashes(u64);

impl Entropy for Hashes {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            self.0 += 1;
            let hash = hash::sha256(&[b"memory test", &self.0.to_be_bytes()]);
            chunk.copy_from_slice(&hash.as_bytes()[..chunk.len()]);
        }
    }
}

/// Hands out what lies under the mask, straight into a secret.
struct Unmasked(Vec<u8>);

impl Entropy for Unmasked {
    fn fill(&mut self, bytes: &mut [u8]) {
        for (to, from) in bytes.iter_mut().zip(&self.0) {
            *to = from ^ masked(&[0])[0];
        }
    }
}

fn vfs() -> Vfs {
    Vfs::register("memory", None, Box::new(Hashes(0))).unwrap()
}

/// Writes, reads, a rollback, a spill and a checkpoint.
fn work(db: &Connection) {
    db.execute_batch("PRAGMA cache_size=8; CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000)
         INSERT INTO t (a) SELECT '{CONTENT} ' || i FROM n"
    );
    db.execute_batch(&fill).unwrap();
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    db.execute_batch(&format!("BEGIN; {fill}; ROLLBACK; DELETE FROM t WHERE id % 7 = 0")).unwrap();
    assert!(dump(db).unwrap().contains(CONTENT));
}

/// What the same life leaves behind: the file, and the secrets that went into it.
struct Expected {
    main: Vec<u8>,
    secrets: Vec<(&'static str, Vec<u8>)>,
}

fn expected(data_key: &Secret<32>, dir: &Path) -> Expected {
    let path = dir.join("a.db");
    let db = vfs().open(&path, data_key, OpenMode::Create).unwrap();
    work(&db);
    let wal = std::fs::read(wal_of(&path)).unwrap();
    let checkpointed = std::fs::read(&path).unwrap();
    drop(db);
    let main = std::fs::read(&path).unwrap();

    let page_key = kdf::hkdf_sha256(data_key.expose(), &main[..16], LABEL);
    let extracted = hash::hmac_sha256(&main[..16], &[data_key.expose()]);
    let mut secrets = vec![
        ("data key", data_key.expose().to_vec()),
        ("extracted key", extracted.to_vec()),
        ("page key", page_key.expose().to_vec()),
        ("content", CONTENT.as_bytes().to_vec()),
    ];
    let pages = main.chunks(PAGE).chain(checkpointed.chunks(PAGE));
    let frames = wal[32..].chunks(FRAME).map(|frame| &frame[24..]);
    let nonces = pages.chain(frames).map(|page| &page[PAGE - 48..PAGE - 24]);
    let keys = nonces.map(|nonce| ("message key", message_key(&page_key, nonce).to_vec()));
    secrets.extend(keys);
    opens_second_page(&page_key, &main);
    Expected { main, secrets }
}

/// The AES-256-GCM key of one message (C2SP XAES-256-GCM, steps 1 to 5).
fn message_key(page_key: &Secret<32>, nonce: &[u8]) -> [u8; 32] {
    let aes = Aes256::new(page_key.expose().into());
    let mut l = [0; 16].into();
    aes.encrypt_block(&mut l);
    let l = u128::from_be_bytes(l.into());
    let k1 = (l << 1) ^ (if l >> 127 == 1 { 0x87 } else { 0 });
    let mut key = [0; 32];
    for (half, counter) in key.chunks_mut(16).zip([1, 2]) {
        let message = [&[0, counter, b'X', 0], &nonce[..12]].concat();
        let block = u128::from_be_bytes(message.try_into().unwrap()) ^ k1;
        let mut block = block.to_be_bytes().into();
        aes.encrypt_block(&mut block);
        half.copy_from_slice(&block);
    }
    key
}

/// What is looked for is what opens pages.
fn opens_second_page(page_key: &Secret<32>, main: &[u8]) {
    let (body, tail) = main[PAGE..2 * PAGE].split_at(PAGE - 48);
    let mut body = body.to_vec();
    let key = message_key(page_key, &tail[..24]);
    let nonce: [u8; 12] = tail[12..24].try_into().unwrap();
    let tag: [u8; 16] = tail[24..40].try_into().unwrap();
    let ad = [&LABEL[..], &[1], &main[..16], &2_u32.to_be_bytes(), &tail[40..44]].concat();
    Aes256Gcm::new(&key.into())
        .decrypt_inout_detached(&nonce.into(), &ad, body.as_mut_slice().into(), &tag.into())
        .unwrap();
}

#[test]
fn no_key_is_left_after_closing() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data_key = Secret::random(&mut Hashes(1 << 32));
    let expected = expected(&data_key, here.path());
    let mut lines = String::new();
    for (name, secret) in &expected.secrets {
        writeln!(lines, "{name}={}", hex(&masked(secret))).unwrap();
    }
    std::fs::write(there.path().join("secrets"), lines).unwrap();

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::a_life_under_search", "--ignored", "--nocapture"])
        .env(PLACE, there.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout).into_owned();
    println!("{told}");
    assert!(child.status.success(), "{told}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(told.contains("1 passed"), "{told}");
    let lived = std::fs::read(there.path().join("a.db")).unwrap();
    assert!(lived == expected.main, "both lives were the same, so the nonces were");
}

#[test]
#[ignore = "run by no_key_is_left_after_closing, in a process of its own"]
fn a_life_under_search() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let lines = std::fs::read_to_string(place.join("secrets")).unwrap();
    let mut search = MemorySearch::default();
    let mut data_key = None;
    for line in lines.lines() {
        let (name, hex) = line.split_once('=').unwrap();
        let under_mask = unhex(hex);
        search.add(name, &under_mask);
        data_key.get_or_insert_with(|| Secret::random(&mut Unmasked(under_mask)));
    }
    let data_key: Secret<32> = data_key.unwrap();
    let mut look = |when: &str| {
        let found = search.run().unwrap();
        println!("{when}: {found:?}");
        found
    };
    let db = vfs().open(&place.join("a.db"), &data_key, OpenMode::Create).unwrap();
    let open = look("opened");
    assert!(open["data key"] >= 4 && open["page key"] >= 4, "the search finds what is there");
    drop(data_key);
    assert_eq!(look("without the caller's key")["data key"], 0);
    work(&db);
    let used = look("used");
    assert!(used["page key"] >= 4 && used["content"] > 0);
    drop(db);
    let closed = look("closed");
    let left: Vec<_> = closed.iter().filter(|(name, n)| **n > 0 && *name != "content").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
