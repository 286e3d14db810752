use std::path::Path;
use std::sync::OnceLock;

use larder_crypto::Secret;
use larder_pages::testing::{Disk, Forge};
use larder_pages::{OpenMode, Vfs};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::world::Counting;
use crate::{part, parts};

pub(crate) const PAGE: usize = 4096;
const BODY: usize = PAGE - 48;
const FRAME: usize = 24 + PAGE;
const WAL_HEADER: usize = 32;
const PATH: &str = "/fuzzed.db";
const WAL_PATH: &str = "/fuzzed.db-wal";
/// Pages that an input may make at most.
const PAGES_MAX: usize = 40;
/// Steps of SQLite's machine after which a query is stopped: damaged pages can send one in circles.
const STEPS_MAX: i32 = 20_000;

/// A database with a WAL on a disk in memory, the same in every run.
struct Base {
    disk: Disk,
    vfs: Vfs,
    main: Vec<u8>,
    wal: Vec<u8>,
    /// The content of the file alone, and after each transaction of the WAL.
    states: Vec<String>,
    id: [u8; 16],
}

pub(crate) fn key() -> Secret<32> {
    Secret::new([7; 32])
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = Disk::register("fuzz").expect("a name of its own");
        let entropy = Box::new(Counting(7));
        let vfs = Vfs::register("fuzz-sealed", Some("fuzz"), entropy).expect("a name of its own");
        let db = vfs.open(Path::new(PATH), &key(), OpenMode::Create).expect("a database");
        let run = |sql: &str| db.execute_batch(sql).expect("valid SQL");
        run("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT); CREATE INDEX i ON t (b);
             CREATE TABLE u (a PRIMARY KEY) WITHOUT ROWID;
             CREATE VIEW v AS SELECT a FROM t UNION SELECT a FROM u;
             CREATE TRIGGER w AFTER INSERT ON u BEGIN INSERT INTO t (a) VALUES (new.a); END;
             INSERT INTO t (a, b) VALUES (1, 'one'), (x'02', 'two'), (3.5, NULL);
             INSERT INTO t (a, b) VALUES (4, printf('%.9000c', 'x'));
             INSERT INTO u VALUES ('five'), (6); DELETE FROM t WHERE id = 2");
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
        let mut states = vec![dump(&db).expect("readable")];
        for i in 0..3 {
            run(&format!("BEGIN; INSERT INTO u VALUES ({i}); UPDATE t SET a = {i}; COMMIT"));
            states.push(dump(&db).expect("readable"));
        }
        let bytes = |path| disk.bytes(path).expect("a file");
        let (main, wal) = (bytes(PATH), bytes(WAL_PATH));
        disk.kill();
        drop(db);
        let id = main[..16].try_into().expect("16 bytes");
        Base { disk, vfs, main, wal, states, id }
    })
}

impl Base {
    fn put(&self, main: &[u8], wal: Option<&[u8]>) {
        self.disk.put(PATH, main);
        match wal {
            Some(wal) => self.disk.put(WAL_PATH, wal),
            None => self.disk.remove(WAL_PATH),
        }
    }

    /// Opens the files and reads all of them; what cannot be opened stays as it is.
    fn read(&self, mode: OpenMode) -> Option<(Connection, rusqlite::Result<String>)> {
        // An empty WAL is as good as none, and SQLite makes one to look at the schema.
        let files = || [PATH, WAL_PATH].map(|path| self.disk.bytes(path).unwrap_or_default());
        let before = files();
        match self.vfs.open(Path::new(PATH), &key(), mode) {
            Ok(mut db) => {
                db.progress_handler(STEPS_MAX, Some(|| true)).expect("a handler");
                let content = dump(&db);
                Some((db, content))
            }
            Err(_) => {
                assert!(before == files(), "refused, yet changed");
                None
            }
        }
    }
}

/// Schema and rows in a fixed order, or the first error.
pub(crate) fn dump(db: &Connection) -> rusqlite::Result<String> {
    let mut out = String::new();
    let mut schema = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2, 3")?;
    let entries: Vec<(String, String, Option<String>)> = schema
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (kind, name, sql) in entries {
        out.push_str(&format!("{kind} {name} {sql:?}\n"));
        if kind != "table" {
            continue;
        }
        let name = name.replace('"', "\"\"");
        let mut rows = db.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get::<_, Value>(column));
            lines.push(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?));
        }
        lines.sort();
        out.push_str(&lines.join("\n"));
    }
    Ok(out)
}

/// Lives on with whatever was opened; every error is fine.
fn live_on(db: &Connection) {
    for sql in [
        "PRAGMA integrity_check(10)",
        "SELECT count(*), sum(length(b)) FROM t WHERE b > 'a'",
        "SELECT * FROM v",
    ] {
        let _ = db.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        });
    }
    for sql in [
        "INSERT INTO u VALUES ('written')",
        "UPDATE t SET b = b || 'more'",
        "BEGIN; DELETE FROM t; ROLLBACK",
        "DELETE FROM t WHERE id % 2 = 0",
        "PRAGMA wal_checkpoint(PASSIVE)",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        let _ = db.execute_batch(sql);
    }
}

fn mode_of(choice: u8) -> OpenMode {
    if choice & 1 == 0 { OpenMode::ReadOnly } else { OpenMode::ReadWrite }
}

/// Parts of four bytes of place and the bytes to put there; a part without bytes cuts there.
fn patch(bytes: &mut Vec<u8>, data: &mut &[u8], length_max: usize) {
    while let Some(part) = part(data) {
        let Some((place, put)) = part.split_first_chunk::<4>() else { return };
        let place = u32::from_be_bytes(*place) as usize % length_max;
        if put.is_empty() {
            bytes.truncate(place);
        }
        let end = (place + put.len()).min(length_max);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[place..end].copy_from_slice(&put[..end - place]);
    }
}

/// Arbitrary bytes as a database, under the right key: as they are on disk, or as pages that
/// authenticate, so that SQLite meets what somebody with the key may have written.
pub fn pages_file(data: &[u8]) {
    let base = base();
    let Some((choice, mut data)) = data.split_first() else { return };
    let authentic = choice & 2 != 0;
    let mut main = base.main.clone();
    if authentic {
        let forge = &mut Forge::new(&key(), base.id);
        main = main
            .chunks(PAGE)
            .zip(1..)
            .flat_map(|(page, number)| forge.open_page(number, page).expect("our own"))
            .collect();
        patch(&mut main, &mut data, PAGES_MAX * PAGE);
        main = main.chunks(PAGE).zip(1..).flat_map(|(page, n)| forge.page(n, page)).collect();
    } else if choice & 4 == 0 {
        patch(&mut main, &mut data, PAGES_MAX * PAGE);
    } else {
        main = data.to_vec();
    }
    base.put(&main, None);
    let Some((db, content)) = base.read(mode_of(*choice)) else { return };
    if !authentic && let Ok(content) = content {
        assert_eq!(content, base.states[0], "forged without the key");
    }
    live_on(&db);
}

/// Arbitrary bytes as a WAL beside a database that is whole: as they are on disk, or as frames
/// that authenticate, with fitting checksums or without.
pub fn pages_wal(data: &[u8]) {
    let base = base();
    let Some((choice, mut data)) = data.split_first() else { return };
    let authentic = choice & 2 != 0;
    let mut wal = base.wal.clone();
    if authentic {
        wal = frames(base, *choice, &mut data);
    } else if choice & 4 == 0 {
        patch(&mut wal, &mut data, WAL_HEADER + PAGES_MAX * FRAME);
    } else {
        wal = data.to_vec();
    }
    base.put(&base.main, Some(&wal));
    let Some((db, content)) = base.read(mode_of(*choice)) else { return };
    if !authentic && let Ok(content) = content {
        assert!(base.states.contains(&content), "forged without the key");
    }
    live_on(&db);
}

/// The WAL with its plaintext patched and sealed again.
fn frames(base: &Base, choice: u8, data: &mut &[u8]) -> Vec<u8> {
    let forge = &mut Forge::new(&key(), base.id);
    let (header, sealed) = base.wal.split_at(WAL_HEADER);
    let mut plain = header.to_vec();
    let mut flags = Vec::new();
    for (frame, index) in sealed.chunks(FRAME).zip(1..) {
        let (frame, flag) = forge.open_frame(index, frame).expect("our own");
        plain.extend_from_slice(&frame);
        flags.push(flag);
    }
    patch(&mut plain, data, WAL_HEADER + PAGES_MAX * FRAME);
    let start = plain.len().min(WAL_HEADER);
    let (header, frames) = plain.split_at_mut(start);
    // Without these, SQLite would look at next to nothing.
    if choice & 8 != 0 && header.len() == WAL_HEADER {
        let mut sums = chained([0; 2], &header[..24]);
        put_sums(&mut header[24..], sums);
        for frame in frames.chunks_mut(FRAME) {
            if frame.len() < FRAME {
                break;
            }
            frame[8..16].copy_from_slice(&header[16..24]);
            frame[24 + BODY..].fill(0);
            sums = chained(chained(sums, &frame[..8]), &frame[24..]);
            put_sums(&mut frame[16..], sums);
        }
    }
    let mut out = header.to_vec();
    for (position, frame) in frames.chunks(FRAME).enumerate() {
        let index = u32::try_from(position + 1).expect("few frames");
        let flags = flags.get(position).copied().unwrap_or(choice >> 4 & 1);
        out.extend_from_slice(&forge.frame(index, flags, frame));
    }
    out
}

/// SQLite's checksum of a WAL, in the byte order that our own header names.
fn chained([mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let little = base().wal[3] & 1 == 0;
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let word = pair[at..at + 4].try_into().expect("four bytes");
            if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) }
        };
        first = first.wrapping_add(word(0)).wrapping_add(second);
        second = second.wrapping_add(word(4)).wrapping_add(first);
    }
    [first, second]
}

fn put_sums(out: &mut [u8], [first, second]: [u32; 2]) {
    out[..4].copy_from_slice(&first.to_be_bytes());
    out[4..8].copy_from_slice(&second.to_be_bytes());
}

fn patches(choice: u8, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let place = |(place, bytes): &(usize, &[u8])| {
        [&u32::try_from(*place).expect("a small place").to_be_bytes()[..], bytes].concat()
    };
    let patches: Vec<Vec<u8>> = patches.iter().map(place).collect();
    let patches: Vec<&[u8]> = patches.iter().map(Vec::as_slice).collect();
    [&[choice][..], &parts(&patches)].concat()
}

pub(crate) fn file_seeds() -> Vec<Vec<u8>> {
    let base = base();
    let mut seeds: Vec<Vec<u8>> = (0..4).map(|choice| vec![choice]).collect();
    seeds.push([&[4], &base.main[..2 * PAGE]].concat());
    for choice in [0, 1, 2, 3] {
        // Page count, freelist, schema cookie; a cell pointer; a cell; the end cut off.
        seeds.push(patches(choice, &[(28, &[0, 0, 0, 3])]));
        seeds.push(patches(choice, &[(32, &[0, 0, 0, 2, 0, 0, 0, 9]), (40, &[9])]));
        seeds.push(patches(choice, &[(PAGE + 8, &[0xff, 0xf0]), (PAGE + 3, &[0, 1])]));
        seeds.push(patches(choice, &[(2 * PAGE + 4000, &[0x83; 40])]));
        seeds.push(patches(choice, &[(3 * PAGE, &[])]));
        seeds.push(patches(choice, &[(9 * PAGE, &[13, 0, 0, 0, 1])]));
    }
    seeds
}

pub(crate) fn wal_seeds() -> Vec<Vec<u8>> {
    let base = base();
    let mut seeds: Vec<Vec<u8>> = (0..4).map(|choice| vec![choice]).collect();
    seeds.push([&[4], &base.wal[..WAL_HEADER + FRAME]].concat());
    for choice in [0, 1, 2, 3, 10, 11, 26, 27] {
        let second = WAL_HEADER + FRAME;
        seeds.push(patches(choice, &[(second, &[0, 0, 0, 1])]));
        seeds.push(patches(choice, &[(second + 4, &[0, 0, 0, 2])]));
        seeds.push(patches(choice, &[(second + 8, &[1; 8])]));
        seeds.push(patches(choice, &[(second + 24, &[2, 0, 0, 0, 7])]));
        seeds.push(patches(choice, &[(16, &[3; 8])]));
        seeds.push(patches(choice, &[(second, &[])]));
        seeds.push(patches(choice, &[(9 * FRAME, &[0, 0, 0, 9, 0, 0, 0, 9])]));
    }
    seeds
}
