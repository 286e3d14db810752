//! How long documents are kept, and which clocks are believed.

use larder_engine::{Band, Retained, Retention};
use larder_log::act::Role;

use super::prune::meet;
use super::*;

const DAY: u64 = 86_400_000;
const START: u64 = 1_700_000_000_000;
/// 2038-01-19.
const END_OF_32_BITS: u64 = 2_147_472_000_000;

/// A device whose clock can be set.
struct Timed {
    device: Device,
    world: Arc<World>,
    _dir: tempfile::TempDir,
}

impl Timed {
    fn world(seed: u64) -> Arc<World> {
        Arc::new(World { clock: AtomicU64::new(0), seed: AtomicU64::new(seed << 40) })
    }

    fn found() -> Self {
        let (dir, world) = (tempfile::tempdir().unwrap(), Self::world(1));
        let profile =
            Profile::create(world.clone(), dir.path(), &unlock(), options("first")).unwrap();
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        Self { device: Device { profile, space, writer }, world, _dir: dir }
    }

    fn invite(&mut self, seed: u64) -> Self {
        let (dir, world) = (tempfile::tempdir().unwrap(), Self::world(seed));
        world.clock.store(self.world.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        let device = self.device.invite_in(dir.path(), world.clone());
        Self { device, world, _dir: dir }
    }

    fn set_clock(&self, ms: u64) {
        self.world.clock.store(ms.wrapping_sub(START), Ordering::Relaxed);
    }

    fn trash(&mut self, n: u8) {
        let mut unit = UnitOfWork::new();
        unit.trash(object(n));
        self.device.commit(unit).unwrap();
    }

    fn tend(&mut self) -> Retained {
        self.device.writer.tend_retention().unwrap()
    }

    fn is_deleted(&self, n: u8) -> bool {
        self.device.space.is_deleted(&object(n)).unwrap()
    }

    fn is_trashed(&self, n: u8) -> bool {
        let document = self.device.space.document(&object(n)).unwrap();
        document.is_some_and(|document| document.trashed.is_some())
    }

    fn set(&mut self, age_ms: Option<u64>, count: Option<u64>, trash_ms: u64) {
        let retention = Retention { age_ms, count, trash_ms };
        self.device.writer.set_retention(Some("notes"), None, retention).unwrap();
    }
}

/// Days pass on all devices, and they meet on each.
fn live(devices: &mut [&mut Timed], days: u64) -> Retained {
    let mut all = Retained::default();
    for _ in 0..days {
        for timed in devices.iter_mut() {
            timed.world.clock.fetch_add(DAY, Ordering::Relaxed);
        }
        // Somebody writes something, so that there is something to acknowledge.
        for (n, timed) in (200..).zip(devices.iter_mut()) {
            let mut unit = UnitOfWork::new();
            let now = timed.world.clock.load(Ordering::Relaxed);
            unit.put("diary", object(n), &json!({ "now": now })).unwrap();
            timed.device.commit(unit).unwrap();
        }
        for one in 0..devices.len() {
            for other in one + 1..devices.len() {
                let (left, right) = devices.split_at_mut(other);
                meet(&mut left[one].device, &mut right[0].device);
            }
        }
        for timed in devices.iter_mut() {
            let Retained { trashed, deleted, failed } = timed.tend();
            all.trashed += trashed;
            all.deleted += deleted;
            all.failed += failed;
        }
    }
    all
}

#[test]
fn what_was_in_the_trash_for_its_time_is_deleted_once_and_everywhere() {
    let mut a = Timed::found();
    (1..=3).for_each(|n| drop(a.device.put(object(n), &json!({ "n": n }))));
    let mut b = a.invite(2);
    a.trash(1);
    assert_eq!(live(&mut [&mut a, &mut b], 29), Retained::default());
    assert!(a.is_trashed(1) && b.is_trashed(1));
    // Whoever edits it elsewhere meanwhile, not knowing of it, has it kept for as long again.
    b.trash(2);
    a.device.put(object(2), &json!({"n": 2, "edited": true}));
    assert_eq!(live(&mut [&mut a, &mut b], 4), Retained { deleted: 1, ..Retained::default() });
    assert!(a.is_deleted(1) && b.is_deleted(1) && b.is_trashed(2));
    assert_eq!(live(&mut [&mut a, &mut b], 24), Retained::default());
    let mut unit = UnitOfWork::new();
    unit.undo_trash(object(2));
    b.device.commit(unit).unwrap();
    assert_eq!(live(&mut [&mut a, &mut b], 40), Retained::default());
    assert_eq!(a.device.value(object(2)), json!({"n": 2, "edited": true}));
    let by = a.device.space.history(&object(1)).unwrap();
    assert_eq!(by.last().unwrap().actor.as_deref(), Some("retention"));
}

/// A device with its clock in 2038, and another one's there, delete nothing: neither what they know
/// of, nor, once the clock is right again, what was written meanwhile.
#[test]
fn one_wrong_clock_deletes_nothing_whosever_it_is() {
    for wrong in [END_OF_32_BITS, START + 400 * DAY, 1, START - 400 * DAY] {
        for who in [0, 1] {
            let mut a = Timed::found();
            a.set(Some(10 * DAY), None, 20 * DAY);
            (1..=4).for_each(|n| drop(a.device.put(object(n), &json!({ "n": n }))));
            let mut b = a.invite(2);
            a.trash(1);
            b.trash(2);
            live(&mut [&mut a, &mut b], 3);
            [&a, &b][who].set_clock(wrong);
            // It writes and puts into the trash while its clock is wrong.
            [&mut a, &mut b][who].trash(3);
            meet(&mut a.device, &mut b.device);
            for _ in 0..3 {
                for timed in [&mut a, &mut b] {
                    assert_eq!(timed.tend(), Retained::default(), "{wrong} {who}");
                }
                let still = live(&mut [&mut a, &mut b], 2);
                assert_eq!(still, Retained::default(), "{wrong} {who}");
            }
            // Put right.
            let now = START + 9 * DAY;
            for timed in [&a, &b] {
                timed.set_clock(now);
            }
            let right = live(&mut [&mut a, &mut b], 4);
            assert_eq!((right.deleted, right.trashed), (0, 1), "{wrong} {who}: only what is old");
            assert!(a.is_trashed(1) && a.is_trashed(2) && a.is_trashed(3) && a.is_trashed(4));
            // What it put there then is as old as it has been known by both.
            let before = live(&mut [&mut a, &mut b], 9);
            assert_eq!(before.deleted, 2, "{wrong} {who}: by now it is day 22");
            assert!(a.is_trashed(3) && a.is_trashed(4));
            assert_eq!(live(&mut [&mut a, &mut b], 14).deleted, 2, "{wrong} {who}");
        }
    }
}

/// Found in reading: a clock some weeks back was confirmed by what a third device had said before
/// it fell silent, what had been noted since was forgotten, and once the clock was right again all
/// counted as old.
#[test]
fn who_has_long_been_silent_confirms_no_clock_that_is_behind() {
    let mut a = Timed::found();
    a.set(None, None, 20 * DAY);
    a.device.put(object(1), &json!({}));
    let (mut b, mut silent) = (a.invite(2), a.invite(3));
    live(&mut [&mut a, &mut b, &mut silent], 2);
    live(&mut [&mut a, &mut b], 28);
    a.trash(1);
    live(&mut [&mut a, &mut b], 1);
    a.set_clock(START + 6 * DAY);
    for _ in 0..3 {
        assert_eq!(a.tend(), Retained::default());
    }
    a.set_clock(START + 32 * DAY);
    b.set_clock(START + 32 * DAY);
    assert_eq!(live(&mut [&mut a, &mut b], 3).deleted, 0);
    assert!(a.is_trashed(1) && b.is_trashed(1));
    assert_eq!(live(&mut [&mut a, &mut b], 20).deleted, 1, "it goes when its time has come");
}

#[test]
fn a_device_alone_asks_and_does_it_when_a_person_says_so() {
    let mut a = Timed::found();
    a.device.put(object(1), &json!({}));
    a.trash(1);
    assert_eq!(live(&mut [&mut a], 40), Retained::default());
    assert!(a.is_trashed(1));
    let due = a.device.space.retention_due(None).unwrap();
    assert!(due.asks);
    assert_eq!((due.to_delete, due.to_trash, due.total()), (1, 0, 1));
    assert_eq!(a.device.writer.apply_retention().unwrap().deleted, 1);
    assert!(a.is_deleted(1));
    assert_eq!(a.device.space.retention_due(None).unwrap().total(), 0);
    // Whoever joins later brings a second clock, and the time counts from then on.
    a.device.put(object(2), &json!({}));
    a.trash(2);
    live(&mut [&mut a], 40);
    let mut b = a.invite(2);
    assert_eq!(live(&mut [&mut a, &mut b], 25), Retained::default());
    assert_eq!(live(&mut [&mut a, &mut b], 10).deleted, 1);
    assert!(!a.device.space.retention_due(None).unwrap().asks);
}

#[test]
fn the_newest_stay_of_a_collection_that_may_have_so_many() {
    let mut a = Timed::found();
    (1..=6).for_each(|n| drop(a.device.put(object(n), &json!({ "n": n }))));
    let mut b = a.invite(2);
    b.set_refused();
    a.set(None, Some(4), 5 * DAY);
    a.device.put(object(1), &json!({"n": 1, "newest": true}));
    meet(&mut a.device, &mut b.device);
    assert_eq!(
        b.device.space.retention().unwrap().of(Some(&"notes".parse().unwrap()), None).count,
        Some(4)
    );
    let due = a.device.space.retention_due(None).unwrap();
    assert_eq!((due.to_trash, due.asks), (2, false));
    let done = live(&mut [&mut a, &mut b], 4);
    assert_eq!(done, Retained { trashed: 2, ..Retained::default() });
    assert!(b.is_trashed(2) && b.is_trashed(3) && !b.is_trashed(1));
    // Someone's clock is ahead: which are the newest cannot be told, and nothing goes.
    a.device.put(object(7), &json!({ "n": 7 }));
    b.set_clock(END_OF_32_BITS);
    b.device.put(object(8), &json!({ "n": 8 }));
    meet(&mut a.device, &mut b.device);
    let due = a.device.space.retention_due(None).unwrap();
    assert_eq!((due.to_trash, due.clock_ahead), (0, vec!["notes".to_owned()]));
    assert_eq!(a.device.writer.apply_retention().unwrap(), Retained::default());
}

impl Timed {
    /// What makes no sense cannot be set.
    fn set_refused(&mut self) {
        for (age_ms, count, trash_ms) in
            [(Some(0), None, DAY), (None, Some(0), DAY), (None, Some(4), 0)]
        {
            let wrong = Retention { age_ms, count, trash_ms };
            let set = self.device.writer.set_retention(None, None, wrong);
            assert!(matches!(set, Err(Error::Invalid(_))), "{wrong:?}");
        }
    }
}

#[test]
fn only_owners_and_admins_set_it_and_what_they_set_beside_each_other_comes_to_the_same() {
    let mut a = Timed::found();
    let mut b = a.invite(2);
    a.set(Some(5 * DAY), None, 0);
    b.set(Some(9 * DAY), None, DAY);
    meet(&mut a.device, &mut b.device);
    let notes = "notes".parse().unwrap();
    let kept = Retention { age_ms: Some(9 * DAY), count: None, trash_ms: DAY };
    for device in [&a, &b] {
        assert_eq!(device.device.space.retention().unwrap().of(Some(&notes), None), kept);
    }
    b.set(Some(3 * DAY), None, DAY);
    meet(&mut a.device, &mut b.device);
    assert_eq!(a.device.space.retention().unwrap().of(Some(&notes), None).age_ms, Some(3 * DAY));
    // What a device sets counts as long as it had the right to.
    let b_id = b.device.space.device();
    a.device.writer.change_role(b_id, Role::Writer, larder_engine::Band::Red).unwrap();
    meet(&mut a.device, &mut b.device);
    assert_eq!(a.device.space.retention().unwrap().of(Some(&notes), None).age_ms, Some(3 * DAY));
    let refused = b.device.writer.set_retention(None, None, Retention::default());
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    // Shut out, what it set while nobody had heard of it counts for nothing.
    let mut c = a.invite(3);
    c.set(Some(DAY), None, 0);
    a.device.writer.revoke(&[c.device.space.device()]).unwrap();
    a.device.pull(&c.device);
    meet(&mut a.device, &mut b.device);
    for timed in [&mut a, &mut b] {
        assert_eq!(
            timed.device.space.retention().unwrap().of(Some(&notes), None).age_ms,
            Some(3 * DAY)
        );
        timed.device.is_whole();
    }
}

/// A device that is cleared for GREEN does not know how many RED documents a collection has: were
/// they counted with the others, a phone would remove what the tablet keeps, and so tell of them.
#[test]
fn each_band_is_kept_for_its_own_time_and_counted_by_itself() {
    let mut a = Timed::found();
    a.set_clock(START);
    for (n, band) in [(1, Band::Green), (2, Band::Green), (3, Band::Red), (4, Band::Red)] {
        a.device.put_in(band, object(n), &json!({ "n": n })).unwrap();
    }
    a.set_clock(START + 40 * DAY);
    let kept = |age_ms, count| Retention { age_ms, count, trash_ms: DAY };
    a.set(None, Some(1), DAY);
    let due = |a: &Timed| a.device.space.retention_due(None).unwrap().to_trash;
    assert_eq!(due(&a), 2, "one of each band");
    // What is set for the collection counts before what is for the band.
    a.device.writer.set_retention(None, Some(Band::Red), kept(Some(DAY), None)).unwrap();
    assert_eq!(due(&a), 2);
    let of = (Some("notes"), Some(Band::Red), kept(Some(DAY), None));
    assert_eq!(a.device.space.retention_due(Some(of)).unwrap().to_trash, 3);
    a.device.writer.set_retention(of.0, of.1, of.2).unwrap();
    assert_eq!(a.device.writer.apply_retention().unwrap().trashed, 3);
    assert_eq!([1, 2, 3, 4].map(|n| a.is_trashed(n)), [true, false, true, true]);
    let black = a.device.writer.set_retention(None, Some(Band::Black), kept(None, None));
    assert!(matches!(black, Err(Error::Invalid(_))));
}
