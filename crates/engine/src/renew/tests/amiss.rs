//! What is carried over where something is amiss: damage, lost devices, repeated units.

use std::collections::BTreeSet;

use larder_types::IdempotencyKey;

use super::*;

const PAGE_BYTES: usize = 4096;

fn old_file(dir: &Path) -> std::path::PathBuf {
    let spaces = fs::read_dir(dir.join("spaces")).unwrap();
    let mut paths = spaces.map(|entry| entry.unwrap().path());
    paths.find(|path| path.to_string_lossy().ends_with(".db.set-aside-1")).unwrap()
}

/// One page of the old file could not be read any more. The carrying came to no end at it, nothing
/// told of that, and a purge was refused for ever. Now what can be read is carried over, whichever
/// page it is, and what cannot is named.
#[test]
fn whichever_page_of_the_old_file_is_damaged_the_rest_is_carried_over_and_it_is_named() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    work_apart(&mut phone);
    for n in 20..40 {
        phone.put(n, &json!({"title": format!("letter {n}"), "text": "x".repeat(700)}));
    }
    phone.close();
    renew(dirs[1].path(), 4).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 5);
    meet(&mut laptop, &mut phone);
    let was = laptop.space.digest().unwrap();
    phone.close();
    laptop.close();
    let file = old_file(dirs[1].path());
    let pages = fs::metadata(&file).unwrap().len() / PAGE_BYTES as u64;
    assert!(pages > 40, "{pages}");
    let name = file.strip_prefix(dirs[1].path()).unwrap().to_owned();
    let (mut whole, mut named) = (0, 0);
    for page in (0..pages).step_by(3) {
        let tries: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        copy(dirs[0].path(), tries[0].path());
        copy(dirs[1].path(), tries[1].path());
        let path = tries[1].path().join(&name);
        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(page).unwrap() * PAGE_BYTES;
        bytes[at + 100..at + 200].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let mut laptop = Device::open(tries[0].path(), 6);
        let mut phone = Device::open(tries[1].path(), 7);
        assert_eq!(laptop.space.digest().unwrap(), was);
        meet(&mut laptop, &mut phone);
        let carried = phone.writer.carry_over();
        let carried = carried.unwrap_or_else(|error| panic!("page {page}: {error}")).unwrap();
        assert!(carried.is_done, "page {page}");
        meet(&mut laptop, &mut phone);
        let is_there = |n| laptop.value(n).is_some();
        let lacking: BTreeSet<u8> = (20..40).chain([3]).filter(|n| !is_there(*n)).collect();
        assert!(lacking.is_empty() || !carried.left.is_empty(), "page {page}: {lacking:?}");
        whole += u64::from(lacking.is_empty());
        named += u64::from(!carried.left.is_empty());
        phone.close();
        laptop.close();
        if !carried.left.is_empty() {
            assert!(purge(tries[1].path()).is_err(), "page {page}: only the old file has it");
        }
    }
    assert!(named > 2 && whole > pages / 10, "{named} named, {whole} whole, of {pages}");
}

/// An app repeats a unit after a crash, under its idempotency key. The phone got new keys in
/// between, and did the unit once more: the laptop had the first one already, so that nothing of it
/// was carried over, and its key neither.
#[test]
fn a_unit_that_the_others_have_is_not_done_again_after_a_renewal() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    let unit = |n: u8| {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(n), &json!({"of": n})).unwrap();
        unit.idempotency_key(IdempotencyKey::new([n; 16]));
        unit
    };
    let was = phone.space.device();
    phone.commit(unit(20)).unwrap();
    meet(&mut laptop, &mut phone);
    phone.commit(unit(21)).unwrap();
    phone.close();
    for seed in [10, 20] {
        renew(dirs[1].path(), seed).unwrap();
        let mut phone = joined_again(&mut laptop, dirs[1].path(), seed + 1);
        meet(&mut laptop, &mut phone);
        phone.writer.show().unwrap();
        assert!(phone.writer.carry_over().unwrap().unwrap().is_done);
        meet(&mut laptop, &mut phone);
        let before = phone.space.status().unwrap().entries;
        for n in [20, 21] {
            let mut again = phone.writer.commit(&mut std::iter::once(unit(n)));
            let receipt = again.pop().unwrap().unwrap();
            let header = receipt.verify().unwrap();
            assert_eq!(header.device == was, n == 20, "each is where it was written first");
            let mut other = UnitOfWork::new();
            other.put("notes", object(n), &json!({"of": "something else"})).unwrap();
            other.idempotency_key(IdempotencyKey::new([n; 16]));
            assert!(matches!(phone.commit(other), Err(Error::IdempotencyKeyReused)));
        }
        assert_eq!(phone.space.status().unwrap().entries, before, "nothing was written");
        phone.close();
    }
    laptop.close();
}

/// The entries of a lost phone came to the laptop by way of a tablet that may not read them, and
/// their bytes to one other device alone. That one was renewed: it said as all did that it lacked
/// the bytes, the letter was given up, and a purge removed the file that had it.
#[test]
fn bytes_that_only_the_old_file_has_are_taken_from_it() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let (tablet, lost) = (dirs[2].path(), dirs[3].path());
    let tablet = Profile::create(world(6), tablet, &unlock(), options("tablet")).unwrap();
    let terms = Terms { clearance: Band::Green, ..own() };
    let mut tablet = laptop.invite(tablet, terms).unwrap();
    let lost = Profile::create(world(7), lost, &unlock(), options("lost")).unwrap();
    let mut lost = laptop.invite(lost, own()).unwrap();
    let mut phone = Device::open(dirs[1].path(), 8);
    for _ in 0..2 {
        meet(&mut laptop, &mut tablet);
        meet(&mut laptop, &mut lost);
        meet(&mut laptop, &mut phone);
    }
    let mut unit = UnitOfWork::new();
    unit.band(Band::Amber);
    unit.put("notes", object(50), &json!({"title": "an amber letter"})).unwrap();
    lost.commit(unit).unwrap();
    phone.hear(&lost);
    tablet.hear(&lost);
    laptop.hear(&tablet);
    assert!(phone.value(50).is_some() && laptop.value(50).is_none());
    assert!(laptop.writer.state().lacks());
    phone.close();
    laptop.writer.revoke(&[lost.space.device()]).unwrap();
    renew(dirs[1].path(), 9).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 10);
    phone.hear(&laptop);
    phone.writer.show().unwrap();
    let must_say = |phone: &Device| {
        let db = phone.space.shared.pool.reader().unwrap();
        phone.writer.state().must_say_lacking(&db).unwrap()
    };
    assert!(phone.writer.state().lacks() && !must_say(&phone), "it may have the bytes");
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert!(carried.is_done && carried.left.is_empty(), "{carried:?}");
    assert!(!phone.writer.state().lacks() && !must_say(&phone));
    assert_eq!(phone.value(50), Some(json!({"title": "an amber letter"})));
    for device in [laptop, tablet, lost, phone] {
        device.close();
    }
}

/// How far each edited document had come was one list in one value, searched from its beginning
/// and written anew with each lot: with many documents it took hours, and was at last too long to
/// be read.
#[test]
fn what_is_noted_of_a_carrying_does_not_grow_with_the_documents() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    for n in 20..120 {
        phone.put(n, &json!({"n": 0}));
    }
    phone.put(20, &json!({"n": 1}));
    phone.close();
    renew(dirs[1].path(), 4).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 5);
    meet(&mut laptop, &mut phone);
    phone.writer.show().unwrap();
    let (mut longest, mut most) = (0, 0);
    while !phone.writer.carry_step().unwrap() {
        let db = phone.space.shared.pool.reader().unwrap();
        let noted = larder_store::space::value(&db, "carrying").unwrap().unwrap();
        longest = longest.max(noted.len());
        let rows = "SELECT count(*) FROM carry_ends";
        most = most.max(db.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap());
    }
    assert!(longest < 400, "{longest} bytes");
    assert_eq!(most, 100);
    let db = phone.space.shared.pool.reader().unwrap();
    let left: i64 = db.query_row("SELECT count(*) FROM carry_ends", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "they go with the carrying");
    drop(db);
    meet(&mut laptop, &mut phone);
    assert_eq!(laptop.value(20), Some(json!({"n": 1})));
    phone.close();
    laptop.close();
}
