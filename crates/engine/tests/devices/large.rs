//! Documents that are too large for a part of a snapshot come piece by piece.

use larder_log::snapshot::{Content, Part};
use larder_pages::testing::Disk;
use larder_protocol::{Lack, Supply, Want, WantedSnapshot};
use larder_types::limits::BATCH_BYTES_TARGET;

use super::prune::{four_edited, meet, pieces, settle};
use super::*;

const LARGE: u8 = 9;

/// A page of an album: as many characters, which compress to an eighth.
fn page(n: u64, len: usize) -> String {
    let noise = blobs::noise(n, len / 8 + 1);
    let bits = noise.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    bits.take(len).map(|bit| if bit { 'a' } else { 'b' }).collect()
}

/// A document that was overwritten again and again, and that two devices edited apart.
fn write_large(a: &mut Device, b: &mut Device, megabytes: u64) {
    a.put(object(LARGE), &json!({"title": "Album"}));
    meet(a, b);
    for n in 0..megabytes {
        a.put(object(LARGE), &json!({ "title": "Album", "page": page(n, 900_000) }));
    }
    b.edit(object(LARGE), |value| value["by b"] = page(1 << 20, 100_000).into());
    b.edit(object(LARGE), |value| value["title"] = "An album".into());
    meet(a, b);
}

/// Two devices that have pruned a space with a large document.
fn pruned_pair(dirs: &[tempfile::TempDir], megabytes: u64) -> (Device, Device) {
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    four_edited(&mut a);
    write_large(&mut a, &mut b, megabytes);
    settle(&mut [&mut a, &mut b]);
    assert!(a.pruned() > 0 && b.pruned() > 0);
    (a, b)
}

fn dirs<const N: usize>() -> [tempfile::TempDir; N] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

impl Device {
    /// What is wanted of a snapshot.
    fn wanted_of_snapshot(&self) -> Option<WantedSnapshot> {
        self.wanted().and_then(|want| want.snapshot)
    }

    /// How many pieces of the large document are here, once all else of the snapshot is.
    fn pieces_here(&self) -> Option<u64> {
        self.wanted_of_snapshot()?.lacking.first().map(|(.., pieces)| *pieces)
    }

    /// Takes what `other` has next of the snapshot. False: there is nothing more.
    fn take_next(&mut self, other: &Self) -> bool {
        let Some(snapshot) = self.wanted_of_snapshot() else { return false };
        let want = Want { snapshot: Some(snapshot), ..Want::default() };
        let supply = self.supply_of(other, &want);
        self.writer.take_supply(&supply).unwrap().progress
    }

    /// Takes parts until some pieces of the large document are here.
    fn take_some(&mut self, other: &Self) {
        while self.pieces_here().is_none_or(|pieces| pieces < 4) {
            assert!(self.take_next(other));
        }
        assert!(self.space.document(&object(LARGE)).unwrap().is_none(), "half of it is shown");
    }
}

/// A household had an album in one document whose history took more than a frame. So nothing was
/// pruned any more, in all of the space, for ever.
#[test]
fn a_document_that_fits_into_no_frame_is_pruned_and_comes_to_a_newcomer() {
    comes_to_a_newcomer(12);
}

#[test]
#[ignore = "takes about a minute of a processor"]
fn a_document_of_50_megabytes_is_pruned_and_comes_to_a_newcomer() {
    comes_to_a_newcomer(50);
}

fn comes_to_a_newcomer(megabytes: u64) {
    let dirs = dirs::<3>();
    let (mut a, mut b) = pruned_pair(&dirs, megabytes);
    let mut c = a.invite(dirs[2].path(), 3);
    let (mut parts, mut largest) = (0, 0);
    while let Some(snapshot) = c.wanted_of_snapshot() {
        let want = Want { snapshot: Some(snapshot), ..Want::default() };
        let supply = c.supply_of(&a, &want);
        let part = Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap();
        let of = |item: &larder_log::snapshot::Item| match &item.content {
            Content::Gone => 0,
            Content::Document { pieces, .. } => pieces.iter().map(|piece| piece.len()).sum(),
        };
        largest = largest.max(part.items.iter().map(of).sum::<usize>());
        parts += 1;
        assert!(c.writer.take_supply(&supply).unwrap().progress);
        // Whoever is there goes on writing.
        match parts {
            3 => a.edit(object(LARGE), |value| value["title"] = "The album".into()),
            5 => b.edit(object(LARGE), |value| value["late"] = true.into()),
            7 => {
                meet(&mut a, &mut b);
                c.pull(&a);
                c.put(object(20), &json!({"by": "c"}));
            }
            _ => {}
        }
    }
    assert!(parts >= 12, "{parts}");
    assert!(largest < 2 * BATCH_BYTES_TARGET, "{largest}");
    assert_eq!(c.value(object(LARGE)), a.value(object(LARGE)));
    let seen = c.value(object(LARGE));
    assert_eq!((&seen["title"], &seen["late"]), (&json!("The album"), &json!(true)));
    meet(&mut a, &mut c);
    meet(&mut b, &mut c);
    c.edit(object(LARGE), |value| value["by c"] = 1.into());
    meet(&mut a, &mut c);
    assert_eq!(a.value(object(LARGE))["by c"], 1);
    // It is pruned on as any other.
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(c.space.prune_status().unwrap().waits_for, []);
}

#[test]
fn who_lies_about_a_piece_is_refused_and_another_goes_on_where_it_was() {
    let dirs = dirs::<3>();
    let (mut a, mut b) = pruned_pair(&dirs, 5);
    let mut c = a.invite(dirs[2].path(), 3);
    b.pull(&a);
    c.take_some(&a);
    let want = Want { snapshot: c.wanted_of_snapshot(), ..Want::default() };
    let here = c.pieces_here().unwrap();
    let supply = c.supply_of(&a, &want);
    let good = Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap();
    let supply_of =
        |part: &Part| Supply { snapshot: Some(part.pack().unwrap()), ..Supply::default() };
    let lies: [fn(&mut Part); 6] = [
        |part| pieces(part, 0)[0][200_000] ^= 1,
        |part| pieces(part, 0)[0].truncate(200_000),
        |part| pieces(part, 0)[0] = b"{}".to_vec().into(),
        // What it has already, as if it came next.
        |part| pieces(part, 0).insert(0, vec![0; 40].into()),
        |part| pieces(part, 0).push(vec![0x85; 100].into()),
        |part| {
            let again = pieces(part, 0)[0].clone();
            pieces(part, 0).push(again);
        },
    ];
    for lie in lies {
        let mut part = good.clone();
        lie(&mut part);
        match c.writer.take_supply(&supply_of(&part)) {
            Err(Error::Refused { code, message, .. }) => {
                assert_eq!(code, CloseCode::BadBatch);
                assert!(message.contains(&object(LARGE).to_string()), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(c.pieces_here(), Some(here), "of what is refused nothing is kept");
    }
    // What is of no use is no reason to ask the same peer once more.
    let at = |at: u64| {
        let mut part = good.clone();
        let Content::Document { at: number, .. } = &mut part.items[0].content else { panic!() };
        *number = at;
        part
    };
    let mut gone = good.clone();
    gone.items[0].content = Content::Gone;
    let mut none = good.clone();
    pieces(&mut none, 0).clear();
    for useless in [at(here + 1), at(u64::MAX), at(0), gone, none] {
        assert!(!c.writer.take_supply(&supply_of(&useless)).unwrap().progress);
        assert_eq!(c.pieces_here(), Some(here));
    }
    // Another one goes on, from what it has stored in its own way; and what comes twice, because
    // two were asked, does no harm.
    let from_b = c.supply_of(&b, &want);
    assert!(from_b.snapshot == supply.snapshot, "both cut it at the same places");
    assert!(c.writer.take_supply(&from_b).unwrap().progress);
    assert!(c.pieces_here().unwrap() > here);
    assert!(!c.writer.take_supply(&supply).unwrap().progress);
    while c.take_next(&b) {}
    assert_eq!(c.wanted_of_snapshot(), None);
    assert_eq!(c.space.digest().unwrap(), b.space.digest().unwrap());
}

/// A device that had stated what all agreed on was away with edits that nobody had seen, of the
/// document that is handed over piece by piece.
#[test]
fn who_was_away_brings_its_edits_of_a_large_document() {
    let dirs = dirs::<3>();
    let (mut a, mut b) = pruned_pair(&dirs, 4);
    b.edit(object(LARGE), |value| value["unsent"] = page(77, 10_000).into());
    b.edit(object(LARGE), |value| value["title"] = "Unsent".into());
    let mut c = a.invite(dirs[2].path(), 3);
    c.take_some(&a);
    a.edit(object(LARGE), |value| value["meanwhile"] = 1.into());
    // It comes back in the middle, and what it wrote waits for the rest.
    b.pull(&c);
    c.pull(&b);
    assert!(c.space.document(&object(LARGE)).unwrap().is_none());
    while c.take_next(&a) {}
    let seen = c.value(object(LARGE));
    assert_eq!((&seen["title"], seen["unsent"].is_string()), (&json!("Unsent"), true));
    for _ in 0..2 {
        meet(&mut b, &mut c);
        meet(&mut a, &mut c);
    }
    assert_eq!(b.value(object(LARGE))["meanwhile"], 1);
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.value(object(LARGE)), b.value(object(LARGE)));
}

/// Half of a document had come when it was deleted. What had come of it stayed.
#[test]
fn what_is_deleted_while_it_comes_is_let_go_of() {
    let dirs = dirs::<3>();
    let (mut a, mut b) = pruned_pair(&dirs, 5);
    let mut c = a.invite(dirs[2].path(), 3);
    b.pull(&a);
    c.take_some(&a);
    a.delete(object(LARGE));
    let want = Want { snapshot: c.wanted_of_snapshot(), ..Want::default() };
    let supply = c.supply_of(&a, &want);
    let part = Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap();
    assert_eq!(part.items, [], "nothing of it is handed over any more");
    c.pull(&a);
    assert_eq!(c.pieces_here(), None, "nor asked for");
    // Nor is it taken of who has not heard of it yet.
    let supply = c.supply_of(&b, &want);
    assert_ne!(Part::unpack(supply.snapshot.as_ref().unwrap()).unwrap().items, []);
    assert!(!c.writer.take_supply(&supply).unwrap().progress);
    assert_eq!(c.space.wanted(Lack::default()).unwrap().want, None);
    assert!(c.space.is_deleted(&object(LARGE)).unwrap());
    assert_eq!(c.space.digest().unwrap(), a.space.digest().unwrap());
}

/// What is durable of a document is not fetched again.
#[test]
fn a_crash_in_the_middle_loses_no_piece_that_was_taken() {
    let dirs = dirs::<2>();
    let (mut a, _b) = pruned_pair(&dirs, 3);
    let disk = Disk::new().unwrap();
    a.invite_in(disk::HOME.as_ref(), disk::on(&disk, 3)).close().unwrap();
    let next_of = |c: &Device| {
        let wanted = c.space.wanted(Lack::default()).ok()?.want.and_then(|want| want.snapshot);
        Some(wanted.map(|snapshot| Want { snapshot: Some(snapshot), ..Want::default() }))
    };
    let pieces_in = |want: &Want| {
        let lacking = &want.snapshot.as_ref().unwrap().lacking;
        lacking.first().map_or(0, |(.., pieces)| *pieces)
    };
    let work = |disk: &Disk, durable: &mut u64| {
        let Ok(mut c) = disk::open(disk, &unlock()) else { return };
        while let Some(next) = next_of(&c) {
            let Some(want) = next else {
                *durable = u64::MAX;
                break;
            };
            *durable = pieces_in(&want);
            if c.writer.take_supply(&c.supply_of(&a, &want)).is_err() {
                return;
            }
        }
        let _ = c.close();
    };
    disk::fail_everywhere(&disk.snapshot(), 397, work, |disk, durable: &u64| {
        let mut c = disk::open(disk, &unlock()).unwrap();
        match next_of(&c).unwrap() {
            Some(want) => assert!(pieces_in(&want) >= *durable, "{want:?}, had {durable}"),
            None => assert_eq!(c.value(object(LARGE)), a.value(object(LARGE))),
        }
        while c.take_next(&a) {}
        assert_eq!(c.value(object(LARGE)), a.value(object(LARGE)));
        assert_eq!(c.space.digest().unwrap(), a.space.digest().unwrap());
        c.close().unwrap();
    });
}

/// `MEGABYTES` says how many.
#[test]
#[ignore = "measures"]
fn how_long_a_large_document_takes_to_be_handed_over() {
    let megabytes = std::env::var("MEGABYTES").map_or(50, |text| text.parse().unwrap());
    let dirs = dirs::<3>();
    let (mut a, _b) = pruned_pair(&dirs, megabytes);
    let mut c = a.invite(dirs[2].path(), 3);
    let begun = std::time::Instant::now();
    let (mut parts, mut bytes, mut longest) = (0, 0, [std::time::Duration::ZERO; 2]);
    while let Some(snapshot) = c.wanted_of_snapshot() {
        let want = Want { snapshot: Some(snapshot), ..Want::default() };
        let asked = std::time::Instant::now();
        let supply = c.supply_of(&a, &want);
        longest[0] = longest[0].max(asked.elapsed());
        bytes += supply.snapshot.as_ref().map_or(0, Vec::len);
        let came = std::time::Instant::now();
        assert!(c.writer.take_supply(&supply).unwrap().progress);
        longest[1] = longest[1].max(came.elapsed());
        parts += 1;
    }
    println!(
        "{megabytes} MB in {parts} parts of {bytes} packed bytes, in {:?}; the longest of \
         supplying and of taking in {longest:?}",
        begun.elapsed()
    );
    assert_eq!(c.value(object(LARGE)), a.value(object(LARGE)));
}
