//! What somebody without the key can do to the files: an error, or the content proven unchanged.
//!
//! Every case is judged the same way. The one thing that may pass without an error besides the
//! content as it was is an earlier committed state, and each test says where it expects that: cut
//! or damaged at its end, a WAL looks as a crash leaves it. What nothing sees is in the tests whose
//! names begin with `unseen`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use larder_pages::testing::{Dice, Disk};
use larder_pages::{Error, OpenMode, Vfs};
use rusqlite::Connection;

use crate::common::{Image, KEY, create, dump, is_intact, key, vfs_over};

const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;
const WAL_HEADER: usize = 32;
const PATH: &str = "/tampered.db";
const WAL_PATH: &str = "/tampered.db-wal";
const MODES: [OpenMode; 2] = [OpenMode::ReadOnly, OpenMode::ReadWrite];

/// What became of tampered files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// An error of opening or reading: damage, a wrong key, a foreign file.
    Refused,
    /// All content is as it was.
    Same,
    /// The content is what was committed this many transactions before the end.
    Earlier(usize),
    /// Anything else: what must not be.
    Changed,
}

type Counts = BTreeMap<Verdict, usize>;

/// A disk in memory, and the history of a database on it.
struct Bench {
    disk: Disk,
    vfs: Vfs,
    image: Image,
    /// The content after each transaction of the WAL, the first being that of the file alone, and
    /// how long the WAL then was.
    history: Vec<(String, usize)>,
}

impl Bench {
    /// Five pages, one of them the end of an overflow chain, which is content without structure;
    /// and a WAL of three transactions.
    fn new(name: &str) -> Self {
        Self::living(name, |db, _| {
            db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
            db.execute("INSERT INTO t VALUES (1, ?1)", ["overflow ".repeat(700)]).unwrap();
            checkpoint(db, "TRUNCATE");
        })
    }

    fn living(name: &str, past: impl FnOnce(&Connection, &Disk)) -> Self {
        let disk = Disk::register(&format!("tampering-{name}")).unwrap();
        let vfs = vfs_over(Some(disk.name()));
        let db = create(&vfs, Path::new(PATH));
        past(&db, &disk);
        let state = || {
            let frames = db
                .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, u32>(1))
                .unwrap();
            (dump(&db).unwrap(), WAL_HEADER + frames as usize * FRAME)
        };
        let mut history = vec![state()];
        for i in 0..3 {
            db.execute_batch(&format!(
                "BEGIN; INSERT INTO t VALUES ({i}, 'x'); INSERT INTO u VALUES ({i}); COMMIT"
            ))
            .unwrap();
            history.push(state());
        }
        let image = image_of(&disk);
        disk.kill();
        Self { disk, vfs, image, history }
    }

    fn put(&self, image: &Image) {
        self.disk.put(PATH, &image.main);
        if image.wal.is_empty() {
            self.disk.remove(WAL_PATH);
        } else {
            self.disk.put(WAL_PATH, &image.wal);
        }
    }

    /// Opens the image and reads all of it.
    fn read(&self, image: &Image, mode: OpenMode) -> Result<String, Error> {
        self.put(image);
        let db = self.vfs.open(Path::new(PATH), &key(KEY), mode).inspect_err(|_| {
            let left = image_of(&self.disk);
            assert!(left.main == image.main && left.wal == image.wal, "refused, yet changed");
        })?;
        let content = dump(&db)?;
        assert!(is_intact(&db), "it can be read, but is not intact");
        Ok(content)
    }

    fn judge(&self, image: &Image, mode: OpenMode) -> Verdict {
        match self.read(image, mode) {
            Err(Error::Corrupt { .. } | Error::NotADatabase { .. } | Error::WrongKey { .. }) => {
                Verdict::Refused
            }
            Err(error) => panic!("not an error of damage: {error:?}"),
            Ok(content) => {
                let mut states = self.history.iter().rev().map(|(state, _)| state);
                match states.position(|state| *state == content) {
                    Some(0) => Verdict::Same,
                    Some(before) => Verdict::Earlier(before),
                    None => Verdict::Changed,
                }
            }
        }
    }

    /// What a WAL comes to in which each frame is the one that was there, or is none of its own.
    fn verdict_on(&self, wal: &[u8]) -> Verdict {
        let whole = |index: &usize| wal.get(frame(*index)) == self.image.wal.get(frame(*index));
        let frames = wal.len().saturating_sub(WAL_HEADER) / FRAME;
        if wal.get(..WAL_HEADER) != self.image.wal.get(..WAL_HEADER) {
            let any = (1..=frames).any(|index| whole(&index));
            return if any { Verdict::Refused } else { Verdict::Earlier(self.transactions()) };
        }
        let until = (1..=frames).find(|index| !whole(index)).unwrap_or(frames + 1);
        let before_each = &self.history[..self.transactions()];
        let mut starts = before_each.iter().map(|(_, length)| 1 + length / FRAME);
        if starts.any(|start| start > until && start <= frames && whole(&start)) {
            return Verdict::Refused;
        }
        match self.history.iter().rev().position(|(_, length)| length / FRAME < until) {
            Some(0) => Verdict::Same,
            before => Verdict::Earlier(before.unwrap()),
        }
    }

    /// Judges each WAL beside the database as it is, and counts.
    fn judge_wals(
        &self,
        wals: impl Iterator<Item = (String, Vec<u8>)>,
        modes: &[OpenMode],
    ) -> Counts {
        let mut counts = Counts::new();
        for (name, wal) in wals {
            let expected = self.verdict_on(&wal);
            let image = Image { main: self.image.main.clone(), wal };
            for mode in modes {
                assert_eq!(self.judge(&image, *mode), expected, "{name}, {mode:?}");
                *counts.entry(expected).or_default() += 1;
            }
        }
        counts
    }

    /// Asserts that each database, without a WAL, is refused; and counts.
    fn refuses_all(
        &self,
        mains: impl Iterator<Item = (String, Vec<u8>)>,
        modes: &[OpenMode],
    ) -> usize {
        let mut count = 0;
        for (name, main) in mains {
            let image = Image { main, wal: Vec::new() };
            for mode in modes {
                assert_eq!(self.judge(&image, *mode), Verdict::Refused, "{name}, {mode:?}");
                count += 1;
            }
        }
        count
    }

    /// The frames of its WAL.
    fn frames(&self) -> usize {
        (self.history[self.transactions()].1 - WAL_HEADER) / FRAME
    }

    fn pages(&self) -> usize {
        self.image.main.len() / PAGE
    }

    /// The number of transactions of its WAL.
    fn transactions(&self) -> usize {
        self.history.len() - 1
    }
}

fn image_of(disk: &Disk) -> Image {
    Image {
        main: disk.bytes(PATH).unwrap_or_default(),
        wal: disk.bytes(WAL_PATH).unwrap_or_default(),
    }
}

fn checkpoint(db: &Connection, mode: &str) {
    let busy = db
        .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0))
        .unwrap();
    assert_eq!(busy, 0);
}

fn page(number: usize) -> Range<usize> {
    (number - 1) * PAGE..number * PAGE
}

fn frame(index: usize) -> Range<usize> {
    let at = WAL_HEADER + (index - 1) * FRAME;
    at..at + FRAME
}

/// `bytes` with one of them altered: each in turn, once for each bit of `bits(position)`.
fn flips<'a>(
    bytes: &'a [u8],
    bits: impl Fn(usize) -> Range<usize> + 'a,
) -> impl Iterator<Item = (String, Vec<u8>)> + 'a {
    (0..bytes.len()).flat_map(move |position| {
        bits(position).map(move |bit| {
            let mut altered = bytes.to_vec();
            altered[position] ^= 1 << bit;
            (format!("byte {position}, bit {bit}"), altered)
        })
    })
}

fn one_bit(position: usize) -> Range<usize> {
    let bit = position % 8;
    bit..bit + 1
}

/// Every byte of the database alone, and of its WAL beside it, with no verdict but the right one.
fn flip_every_byte(name: &str, bits: impl Fn(usize) -> Range<usize> + Copy, modes: &[OpenMode]) {
    let bench = Bench::new(name);
    let flips_of = |length: usize| (0..length).map(|at| bits(at).len()).sum::<usize>();
    let refused = bench.refuses_all(flips(&bench.image.main, bits), modes);
    assert_eq!(refused, flips_of(bench.pages() * PAGE) * modes.len());

    let counts = bench.judge_wals(flips(&bench.image.wal, bits), modes);
    let (_, durable) = bench.history[bench.transactions() - 1];
    let all = flips_of(bench.image.wal.len()) * modes.len();
    let refused = flips_of(durable) * modes.len();
    let expected = [(Verdict::Refused, refused), (Verdict::Earlier(1), all - refused)];
    assert_eq!(counts, Counts::from(expected));
    println!("{name}: {} pages, {} frames: {counts:?}", bench.pages(), bench.frames());
}

#[test]
fn every_byte_counts_to_a_reader() {
    flip_every_byte("flips-reader", one_bit, &[OpenMode::ReadOnly]);
}

#[test]
fn every_byte_counts_to_a_writer() {
    flip_every_byte("flips-writer", one_bit, &[OpenMode::ReadWrite]);
}

#[test]
#[ignore = "minutes; cargo test -p larder-pages tampering -- --ignored --nocapture"]
fn every_bit_counts() {
    flip_every_byte("flips-bits", |_| 0..8, &MODES);
}

/// Beside a WAL that holds some of its pages, damage to the file is an error or is covered.
#[test]
fn every_byte_of_a_database_beside_a_wal_counts() {
    let bench = Bench::new("flips-beside");
    let covered: BTreeSet<u32> = (1..=bench.frames())
        .map(|index| bench.image.wal[frame(index)][..4].try_into().unwrap())
        .map(u32::from_be_bytes)
        .collect();
    let step = 7;
    for (position, altered) in (0..).zip(flips(&bench.image.main, one_bit)).step_by(step) {
        let number = u32::try_from(position / PAGE + 1).unwrap();
        // The id, the page size and the versions are looked at before any WAL is.
        let is_covered = covered.contains(&number) && !(0..24).contains(&position);
        let expected = if is_covered { Verdict::Same } else { Verdict::Refused };
        let image = Image { main: altered.1, ..bench.image.clone() };
        assert_eq!(bench.judge(&image, OpenMode::ReadOnly), expected, "{}", altered.0);
    }
    assert!(covered.len() < bench.pages(), "some are not in the WAL");
}

#[test]
fn a_page_counts_in_its_own_place_alone() {
    let (bench, other) = (Bench::new("pages"), Bench::new("pages-other"));
    let main = &bench.image.main;
    let mut cases = Vec::new();
    let with = |number: usize, bytes: &[u8]| {
        let mut altered = main.clone();
        altered[page(number)].copy_from_slice(bytes);
        altered
    };
    for at in 1..=bench.pages() {
        for from in (1..=bench.pages()).filter(|from| *from != at) {
            let mut exchanged = with(at, &main[page(from)]);
            exchanged[page(from)].copy_from_slice(&main[page(at)]);
            cases.push((format!("{from} and {at} exchanged"), exchanged));
            cases.push((format!("{from} again at {at}"), with(at, &main[page(from)])));
        }
        let theirs = &other.image.main[page(at)];
        cases.push((format!("page {at} of another database"), with(at, theirs)));
        let ours: [&[u8]; 3] = [&main[..16], &theirs[16..PAGE - 48], &main[page(at)][PAGE - 48..]];
        cases.push((format!("{at} of another under our id and tail"), with(at, &ours.concat())));
        for index in 1..=bench.frames() {
            let framed = &bench.image.wal[frame(index)][24..];
            cases.push((format!("the page of frame {index} at {at}"), with(at, framed)));
        }
        cases.push((format!("zeros at {at}"), with(at, &[0; PAGE])));
    }
    let count = bench.refuses_all(cases.into_iter(), &MODES);
    assert!(count > 100, "{count}");
}

#[test]
fn a_database_cut_anywhere_is_refused() {
    let bench = Bench::new("cuts");
    let main = &bench.image.main;
    let lengths = || (0..main.len()).filter(|length| length % 64 < 2 || length % PAGE > PAGE - 3);
    let cut = lengths().map(|length| (format!("{length} bytes"), main[..length].to_vec()));
    bench.refuses_all(cut, &MODES);
    // Beside a WAL too, unless the WAL has all that is missing.
    for length in lengths().step_by(9) {
        let image = Image { main: main[..length].to_vec(), ..bench.image.clone() };
        let verdict = bench.judge(&image, OpenMode::ReadOnly);
        assert!(matches!(verdict, Verdict::Refused | Verdict::Same), "{length}: {verdict:?}");
    }
}

#[test]
fn what_is_put_behind_the_end_changes_nothing() {
    let bench = Bench::new("tails");
    let Image { main, wal } = &bench.image;
    let mut dice = Dice::new(1);
    let mut garbage = |length| {
        let mut bytes = vec![0; length];
        larder_types::Entropy::fill(&mut dice, &mut bytes);
        bytes
    };
    let mut tails = vec![vec![0; 1], vec![0; PAGE], vec![0; 5 * PAGE + 100], garbage(3 * PAGE)];
    tails.extend((1..=bench.pages()).map(|number| main[page(number)].to_vec()));
    for tail in &tails {
        let image = Image { main: [&main[..], tail].concat(), wal: wal.clone() };
        for mode in MODES {
            assert_eq!(bench.judge(&image, mode), Verdict::Same);
        }
        bench.put(&image);
        // What is written there later is not confused by it.
        let db = bench.vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
        db.execute("INSERT INTO t VALUES (9, ?1)", ["more ".repeat(8000)]).unwrap();
        checkpoint(&db, "TRUNCATE");
        let written = dump(&db).unwrap();
        drop(db);
        let db = bench.vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadOnly).unwrap();
        assert!(is_intact(&db) && dump(&db) == Ok(written));
    }
    let tails = [vec![0; 1], vec![0; 3 * FRAME], garbage(FRAME), garbage(2 * FRAME + 7)];
    let mut tails = Vec::from(tails);
    tails.extend((1..=bench.frames()).map(|index| wal[frame(index)].to_vec()));
    tails.push(wal[WAL_HEADER..].to_vec());
    let wals = tails.iter().map(|tail| ("a tail".to_owned(), [&wal[..], tail].concat()));
    let counts = bench.judge_wals(wals, &MODES);
    assert_eq!(counts, Counts::from([(Verdict::Same, tails.len() * MODES.len())]));
}

/// Exchanged, doubled, left out, taken from elsewhere, cut at every boundary and between.
#[test]
fn a_frame_counts_in_its_own_place_alone() {
    let (bench, other) = (Bench::new("frames"), Bench::new("frames-other"));
    let wal = &bench.image.wal;
    let mut cases = Vec::new();
    let with = |index: usize, bytes: &[u8]| {
        let mut altered = wal.clone();
        altered[frame(index)].copy_from_slice(bytes);
        altered
    };
    for at in 1..=bench.frames() {
        for from in (1..=bench.frames()).filter(|from| *from != at) {
            let mut exchanged = with(at, &wal[frame(from)]);
            exchanged[frame(from)].copy_from_slice(&wal[frame(at)]);
            cases.push((format!("{from} and {at} exchanged"), exchanged));
            cases.push((format!("{from} again at {at}"), with(at, &wal[frame(from)])));
        }
        let (before, after) = (&wal[..frame(at).start], &wal[frame(at).end..]);
        cases.push((format!("{at} left out"), [before, after].concat()));
        let doubled = [before, &wal[frame(at)], &wal[frame(at)], after].concat();
        cases.push((format!("{at} doubled"), doubled));
        let theirs = &other.image.wal[frame(at)];
        cases.push((format!("{at} of another database"), with(at, theirs)));
        cases.push((format!("the end of another from {at}"), [before, theirs].concat()));
        for number in 1..=bench.pages() {
            let framed = [&wal[frame(at)][..24], &bench.image.main[page(number)]].concat();
            cases.push((format!("page {number} as the page of {at}"), with(at, &framed)));
        }
        cases.push((format!("zeros at {at}"), with(at, &[0; FRAME])));
    }
    cases.push(("another's".to_owned(), other.image.wal.clone()));
    let counts = bench.judge_wals(cases.into_iter(), &MODES);
    assert_eq!(counts[&Verdict::Same], MODES.len(), "the last frame again behind itself");
    assert!(counts[&Verdict::Refused] > 100, "{counts:?}");

    let near_a_frame = |length: &usize| {
        let within = length.saturating_sub(WAL_HEADER) % FRAME;
        *length <= WAL_HEADER || !(3..=FRAME - 3).contains(&within) || within % 512 == 24
    };
    let cuts = (0..wal.len()).filter(near_a_frame);
    let cuts = cuts.map(|length| (format!("{length} bytes"), wal[..length].to_vec()));
    let counts = bench.judge_wals(cuts, &MODES);
    let earlier = (1..=bench.transactions()).map(Verdict::Earlier);
    assert!(counts.keys().copied().eq(earlier), "a cut is no damage: {counts:?}");
}

/// A frame that a disk lost a write of is the one of the WAL before, at the same place: it
/// authenticates, and what SQLite makes of its salts is the end of the WAL. Three committed
/// transactions were gone without an error.
#[test]
fn a_frame_of_an_older_wal_does_not_end_the_wal_in_silence() {
    let mut older = Vec::new();
    let bench = Bench::living("older-frame", |db, disk| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
        for i in 0..20 {
            db.execute("INSERT INTO t VALUES (?1, 'old')", [i]).unwrap();
        }
        older = image_of(disk).wal;
        checkpoint(db, "RESTART");
    });
    let wal = &bench.image.wal;
    assert_eq!(wal.len(), older.len(), "the new WAL was written over the old one");
    let cases = (1..=bench.frames()).map(|index| {
        let mut altered = wal.clone();
        altered[frame(index)].copy_from_slice(&older[frame(index)]);
        (format!("frame {index}"), altered)
    });
    let counts = bench.judge_wals(cases, &MODES);
    assert!(counts[&Verdict::Refused] > 0, "{counts:?}");
}

#[test]
fn random_damage_to_a_large_database_is_found() {
    damage_a_large_database("large", 15);
}

#[test]
#[ignore = "minutes; cargo test -p larder-pages tampering -- --ignored --nocapture"]
fn much_random_damage_to_a_large_database_is_found() {
    damage_a_large_database("large-long", 2000);
}

/// Each time one bit, a sector, a page or a stretch is altered somewhere in 12 MB; all pages hold
/// content or lead to it, so that a full read must meet it.
fn damage_a_large_database(name: &str, times: u64) {
    let bench = Bench::living(name, |db, _| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a); CREATE INDEX i ON t (a)")
            .unwrap();
        db.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 6000)
             INSERT INTO t SELECT i, randomblob(1800) FROM n",
        )
        .unwrap();
    });
    let db = bench.vfs.open(Path::new(PATH), &key(KEY), OpenMode::ReadWrite).unwrap();
    checkpoint(&db, "TRUNCATE");
    drop(db);
    let main = image_of(&bench.disk).main;
    assert!(main.len() > 12_000_000, "{}", main.len());
    let mut dice = Dice::new(2);
    let altered = (0..times).map(|time| {
        let mut main = main.clone();
        let mut below = |end: usize| usize::try_from(dice.below(end as u64)).unwrap();
        let (at, other) = (below(main.len() / PAGE) * PAGE, below(main.len() / PAGE) * PAGE);
        let sector = at + below(8) * 512;
        let what = match time % 5 {
            0 => "a bit flipped",
            1 => "a sector of zeros",
            2 => "a sector of another page",
            3 => "a page exchanged",
            _ => "a stretch of the file repeated",
        };
        match time % 5 {
            0 => main[at + below(PAGE)] ^= 1 << below(8),
            1 => main[sector..sector + 512].fill(0),
            2 if at != other => main.copy_within(other..other + 512, sector),
            3 if at != other => main.copy_within(other..other + PAGE, at),
            4 if at > 8 * PAGE => main.copy_within(..8 * PAGE, at - 7 * PAGE),
            _ => main[at] ^= 1,
        }
        (format!("{what} at {at}"), main)
    });
    assert_eq!(bench.refuses_all(altered, &[OpenMode::ReadOnly]) as u64, times);
}

/// A page is bound to its place, not to its time. Two tables that were always equal differ now,
/// and nothing says so.
#[test]
fn unseen_an_older_page_at_its_own_number() {
    let mut older = Vec::new();
    let bench = Bench::living("unseen-page", |db, disk| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
        for state in ["old", "new"] {
            older = image_of(disk).main;
            db.execute_batch(&format!(
                "DELETE FROM t; INSERT INTO t VALUES (1, '{state}');
                 DELETE FROM u; INSERT INTO u VALUES ('{state}')"
            ))
            .unwrap();
            checkpoint(db, "TRUNCATE");
        }
    });
    let mut main = bench.image.main.clone();
    assert_eq!(older.len(), main.len());
    main[page(2)].copy_from_slice(&older[page(2)]);
    for mode in MODES {
        let content = bench.read(&Image { main: main.clone(), wal: Vec::new() }, mode).unwrap();
        assert!(content.contains("old") && content.contains("new"), "{content}");
    }
    // Page 1 counts the pages and changes; of another time, it fits or it does not.
    main[page(2)].copy_from_slice(&bench.image.main[page(2)]);
    main[page(1)].copy_from_slice(&older[page(1)]);
    let content = bench.read(&Image { main, wal: Vec::new() }, OpenMode::ReadOnly).unwrap();
    assert_eq!(content, bench.history[0].0);
}

#[test]
fn unseen_an_older_copy_of_everything_or_of_the_file_alone() {
    let mut older = None;
    let bench = Bench::living("unseen-copy", |db, disk| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
        older = Some((image_of(disk), dump(db).unwrap()));
        checkpoint(db, "TRUNCATE");
    });
    let (older, content) = older.unwrap();
    let without_wal = Image { wal: Vec::new(), ..bench.image.clone() };
    for mode in MODES {
        assert_eq!(bench.read(&older, mode).unwrap(), content);
        assert_eq!(bench.judge(&without_wal, mode), Verdict::Earlier(bench.transactions()));
    }
}

/// The checksum of a WAL's header is SQLite's, and anybody can make it. With other salts none of
/// the frames belongs to it.
#[test]
fn unseen_a_header_made_anew_is_a_missing_wal() {
    let bench = Bench::new("unseen-header");
    let mut wal = bench.image.wal.clone();
    wal[16..24].copy_from_slice(b"new salt");
    let (mut first, mut second) = (0_u32, 0_u32);
    let little = wal[3] & 1 == 0;
    let words: Vec<u32> = wal[..24]
        .chunks(4)
        .map(|word| word.try_into().unwrap())
        .map(|word| if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) })
        .collect();
    for pair in words.chunks(2) {
        first = first.wrapping_add(pair[0]).wrapping_add(second);
        second = second.wrapping_add(pair[1]).wrapping_add(first);
    }
    wal[24..28].copy_from_slice(&first.to_be_bytes());
    wal[28..32].copy_from_slice(&second.to_be_bytes());
    let image = Image { wal, ..bench.image.clone() };
    for mode in MODES {
        assert_eq!(bench.judge(&image, mode), Verdict::Earlier(bench.transactions()));
    }
}

/// The frames of an older WAL are older pages at their own numbers: beside a file that has gone
/// on since, they are taken for newer ones.
#[test]
fn unseen_an_older_wal_beside_a_newer_file() {
    let mut older = Vec::new();
    let bench = Bench::living("unseen-wal", |db, disk| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
        checkpoint(db, "TRUNCATE");
        db.execute("INSERT INTO t VALUES (1, 'old')", []).unwrap();
        older = image_of(disk).wal;
        db.execute_batch("UPDATE t SET b = 'new'; INSERT INTO u VALUES ('new')").unwrap();
        checkpoint(db, "TRUNCATE");
    });
    let image = Image { wal: older, ..bench.image.clone() };
    for mode in MODES {
        let content = bench.read(&image, mode).unwrap();
        assert!(content.contains("old") && content.contains("new"), "{content}");
    }
}

/// What a transaction wrote before it was rolled back stands under the salts of its WAL, until
/// the next one writes over it. Put back, it breaks SQLite's chain of checksums there, and that is
/// where the WAL ends.
#[test]
fn unseen_an_older_frame_at_its_own_index_cuts_the_wal_there() {
    let mut older = Vec::new();
    let bench = Bench::living("unseen-frame", |db, disk| {
        db.execute_batch("CREATE TABLE t (a, b); CREATE TABLE u (a)").unwrap();
        checkpoint(db, "TRUNCATE");
        db.execute_batch("PRAGMA cache_size=5; INSERT INTO u VALUES (0)").unwrap();
        db.execute_batch(
            "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 400)
             INSERT INTO t SELECT i, hex(randomblob(800)) FROM n; ROLLBACK",
        )
        .unwrap();
        older = image_of(disk).wal;
    });
    let mut wal = bench.image.wal.clone();
    let first = 1 + bench.history[0].1 / FRAME;
    assert_ne!(wal[frame(first)], older[frame(first)]);
    assert_eq!(wal[frame(first)][8..16], older[frame(first)][8..16], "the same salts");
    wal[frame(first)].copy_from_slice(&older[frame(first)]);
    let image = Image { wal, ..bench.image.clone() };
    for mode in MODES {
        assert_eq!(bench.judge(&image, mode), Verdict::Earlier(bench.transactions()));
    }
}

/// Each database has a key of its own in a profile. Here two have the same.
#[test]
fn unseen_another_database_under_the_same_key() {
    let (bench, other) = (Bench::new("unseen-other"), Bench::new("unseen-others"));
    let image = Image { main: other.image.main.clone(), wal: bench.image.wal.clone() };
    for mode in MODES {
        assert_eq!(bench.read(&image, mode).unwrap(), other.history[0].0);
        assert_eq!(bench.read(&other.image, mode).unwrap(), other.history[3].0);
    }
}
