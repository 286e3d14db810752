//! Looks into what is compressed: Automerge deflates its columns, and what is carried opened is a
//! zstd frame, so a search of the bytes of a page does not see what these say.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};

use super::canary_tests::{count, image, index, profile, synced};
use super::tests::{OBJECT, finish, prune, sync};
use super::*;
use crate::UnitOfWork;
use crate::prune::tests::Device;
use serde_json::json;

/// In how many places something inflates that holds the needle. A stream is tried to begin at every
/// byte of every part, whatever stands before it, and read as far as the part goes: it is found
/// also where nothing leads to it any more, or its end is elsewhere.
fn inflated(parts: &[Vec<u8>], needle: &[u8]) -> usize {
    let mut inflater = Decompress::new(false);
    let mut out = vec![0; INFLATED_BYTES_MAX];
    let holds = |text: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    let mut found = 0;
    for part in parts {
        for at in 0..part.len() {
            // A block of another type holds what it says as it is, or is none (RFC 1951, 3.2.3).
            if matches!(part[at] >> 1 & 3, 1 | 2) {
                inflater.reset(false);
                // What was read before something that is no stream counts.
                let _ = inflater.decompress(&part[at..], &mut out, FlushDecompress::None);
                let len = usize::try_from(inflater.total_out()).unwrap();
                found += usize::from(len >= needle.len() && holds(&out[..len]));
            }
            if part[at..].starts_with(&ZSTD_MAGIC) {
                let mut plain = Vec::new();
                let frame = zstd::stream::read::Decoder::with_buffer(&part[at..]).unwrap();
                let _ = frame.single_frame().take(PLAIN_BYTES_MAX).read_to_end(&mut plain);
                found += usize::from(holds(&plain)) + inflated(&[plain], needle);
            }
        }
    }
    found
}

/// Every value of every table, whole: those too that are on several pages.
fn values(device: &mut Device) -> Vec<Vec<u8>> {
    let read = |db: &Connection| {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";
        let mut tables = db.prepare(tables).unwrap();
        let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut values = Vec::new();
        for table in tables {
            let mut rows = db.prepare(&format!("SELECT * FROM \"{}\"", table.unwrap())).unwrap();
            let columns = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let bytes = (0..columns).filter_map(|n| row.get_ref(n).unwrap().as_bytes().ok());
                values.extend(bytes.map(<[u8]>::to_vec));
            }
        }
        values
    };
    device.writer.transact(|tx, _| Ok(read(tx))).unwrap()
}

/// Some of the compressed bytes of an object's history, from all of its length: of what is cut
/// anywhere nothing may be left either.
fn pieces(device: &mut Device, object: ObjectId) -> Vec<Vec<u8>> {
    let history = device.writer.transact(|tx, _| {
        let row = documents::find(tx, &object)?.unwrap();
        Ok(documents::history(tx, row.document)?.unwrap())
    });
    let history = history.unwrap();
    (0..history.len() - 24).step_by(300).map(|at| history[at..at + 24].to_vec()).collect()
}

/// Text that hardly two have in common, and that takes about half of its room when deflated.
fn words(count: u64, seed: u64) -> String {
    let word = |n: u64| format!("{:x}", (n + seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

fn write(device: &mut Device, object: ObjectId, value: &serde_json::Value) {
    let mut unit = UnitOfWork::new();
    unit.put("notes", object, value).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap().unwrap();
    index(device);
}

/// A sentence was written in letters and taken out again, so that only their histories have it,
/// deflated: of one that is on one page, of one that takes several, and of one of which a part is
/// redacted. All have pruned what they agree on, and the tablet has the letters from that.
#[test]
fn nothing_of_what_was_erased_inflates_from_any_page_or_value() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut devices = synced(&dirs[..2]);
    let (large, part) = (ObjectId::new([2; 16]), ObjectId::new([3; 16]));
    let stays = ObjectId::new([4; 16]);
    for (object, count) in [(OBJECT, 60), (large, 800), (part, 60), (stays, 60)] {
        let sentence = if object == stays { STAYS } else { SENTENCE };
        let plain = words(count, object.as_bytes()[0].into());
        let said = format!("{plain} {sentence} {plain}");
        for text in [&plain, &said, &plain] {
            write(&mut devices[0], object, &json!({"title": "letter", "body": text, "n": 1}));
        }
    }
    sync(&mut devices);
    prune(&mut devices);
    let tablet = devices[0].invite_as(profile(dirs[2].path(), 3));
    devices.push(tablet);
    sync(&mut devices);

    let mut compressed = Vec::new();
    for (device, dir) in devices.iter_mut().zip(&dirs) {
        index(device);
        assert!(device.writer.empty_wal().unwrap());
        let of = [OBJECT, large, part].map(|object| pieces(device, object));
        let (image, values) = (image(dir.path(), device), values(device));
        assert!(of[1].len() > 20, "the control is on one page");
        for (n, of) in of.iter().enumerate() {
            // Some stand across two pages.
            let found = of.iter().filter(|piece| count(&image, piece) > 0).count();
            assert!(found * 10 >= of.len() * 9, "{n}: {found} of {}", of.len());
        }
        assert_eq!(count(&image, SENTENCE.as_bytes()), 0, "the control is seen without inflating");
        assert_eq!(count(&values, SENTENCE.as_bytes()), 0);
        assert!(inflated(&image, SENTENCE.as_bytes()) >= 2, "the control is lost");
        assert!(inflated(&values, SENTENCE.as_bytes()) >= 3, "the control is lost");
        compressed.extend(of.into_iter().flatten());
    }

    devices[0].writer.erase(OBJECT).unwrap();
    devices[2].writer.erase(large).unwrap();
    let left = devices[1].writer.redact(part, &[vec!["body".to_owned()]]).unwrap();
    sync(&mut devices);
    finish(&mut devices);
    for (device, dir) in devices.iter_mut().zip(&dirs) {
        assert_eq!(device.space.document(&left.object).unwrap().unwrap().value["n"], 1);
        let (image, values) = (image(dir.path(), device), values(device));
        for parts in [&image, &values] {
            assert_eq!(count(parts, SENTENCE.as_bytes()), 0);
            assert_eq!(inflated(parts, SENTENCE.as_bytes()), 0, "{:?}", dir.path());
            assert!(inflated(parts, STAYS.as_bytes()) > 0, "nothing inflates any more");
        }
        let found = compressed.iter().filter(|piece| count(&image, piece) > 0).count();
        assert_eq!(found, 0, "pieces of {} in {:?}", compressed.len(), dir.path());
        for info in device.space.receipts(None, 1000).unwrap() {
            device.space.receipt(&info.device, info.seq).unwrap().verify().unwrap();
        }
    }
}

const SENTENCE: &str = "What is beneath the third apple tree, nobody knows.";
const STAYS: &str = "What is beneath the second one, everybody knows.";
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const INFLATED_BYTES_MAX: usize = 1 << 18;
const PLAIN_BYTES_MAX: u64 = 16 << 20;
