//! Documents above a device's clearance: it holds entries with them, and nothing of what they say.

use larder_engine::{Checking, Mode, NewBlob, Standing, Whose};
use larder_log::Band;
use larder_log::act::Role;

use super::prune::{meet, settle};
use super::*;

const CANARY: &str = "zqcanary";

pub(super) fn cleared(clearance: Band) -> Terms {
    Terms { of: Whose::New, role: Role::Writer, clearance }
}

/// A founder that is cleared for everything, and devices cleared up to these bands.
pub(crate) fn household<const N: usize>(
    dirs: &[tempfile::TempDir],
    bands: [Band; N],
) -> (Device, [Device; N]) {
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut at = 0;
    let others = bands.map(|band| {
        at += 1;
        founder.invite_on(dirs[at].path(), at as u64 + 1, cleared(band))
    });
    (founder, others)
}

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

impl Device {
    pub(super) fn put_in(&mut self, band: Band, object: ObjectId, value: &Value) -> Result<()> {
        let mut unit = UnitOfWork::new();
        unit.band(band);
        unit.put("notes", object, value).unwrap();
        self.commit(unit).map(drop)
    }

    fn has(&self, n: u8) -> bool {
        self.space.document(&object(n)).unwrap().is_some()
    }

    pub(super) fn sound(&mut self) {
        let mut checking = Checking::new(false);
        while !self.writer.check_step(&mut checking).unwrap() {}
        assert_eq!(checking.into_report().findings, []);
    }

    /// Everything that its files hold, opened: each table of the space, word by word.
    fn finds(&mut self, word: &str) -> bool {
        let found = self.search(&Query::text(word));
        let json = self.space.list(None, None, 1000).unwrap();
        let listed = json
            .documents
            .iter()
            .any(|document| Value::Object(document.value.clone()).to_string().contains(word));
        !found.is_empty() || listed
    }
}

#[test]
fn a_device_shows_nothing_above_its_clearance_and_is_as_ready_as_any() {
    let dirs = dirs(4);
    let (mut founder, [mut amber, mut green]) = household(&dirs, [Band::Amber, Band::Green]);
    founder.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
    founder.put_in(Band::Amber, object(2), &json!({"text": "for some"})).unwrap();
    founder.put_in(Band::Red, object(3), &json!({"text": "for few"})).unwrap();
    founder.put_in(Band::Amber, object(2), &json!({"text": "for some, edited"})).unwrap();
    let refused = founder.put_in(Band::Red, object(2), &json!({})).unwrap_err();
    assert!(matches!(&refused, Error::Invalid(why) if why.contains("AMBER")), "{refused}");
    amber.pull(&founder);
    // By way of one that is cleared for less, and then from who has it.
    green.pull(&amber);
    let seen = |device: &Device| [1, 2, 3].map(|n| device.has(n));
    assert_eq!(seen(&founder), [true; 3]);
    assert_eq!(seen(&amber), [true, true, false]);
    assert_eq!(seen(&green), [true, false, false]);
    assert_eq!(amber.value(object(2)), json!({"text": "for some, edited"}));
    assert_eq!(amber.space.document(&object(2)).unwrap().unwrap().band, Band::Amber);
    for device in [&mut founder, &mut amber, &mut green] {
        let status = device.space.status().unwrap();
        assert_eq!((status.waiting, status.lacking, status.pending), (0, 0, 0));
        assert_eq!(device.wanted(), None, "nothing is asked for");
        assert_eq!((status.state.mode, status.state.reasons), (Mode::Ready, vec![]));
        device.sound();
    }
    // What it holds of the others' logs it acknowledges as they do.
    let logs = founder.have();
    assert_eq!(green.have(), logs);
    founder.learn_acks(&green);
    let of_founder = founder.space.status().unwrap();
    let own = of_founder.logs.iter().find(|log| log.device == founder.space.device()).unwrap();
    assert!(own.acknowledged.iter().any(|(_, size)| *size == own.size), "{own:?}");
    // It edits and deletes what it may.
    green.put_in(Band::Green, object(1), &json!({"text": "by the tablet"})).unwrap();
    let refused = green.put_in(Band::Amber, object(4), &json!({})).unwrap_err();
    assert!(matches!(refused, Error::NotCleared { band: Band::Amber, .. }), "{refused}");
    founder.pull(&green);
    assert_eq!(founder.value(object(1)), json!({"text": "by the tablet"}));
}

/// What a device with a lower clearance passes on lacks bytes: who is cleared for them asks whoever
/// has them.
#[test]
fn what_came_by_a_device_with_a_lower_clearance_comes_from_another() {
    let dirs = dirs(4);
    let (mut founder, [mut red, mut green]) = household(&dirs, [Band::Red, Band::Green]);
    founder.put_in(Band::Red, object(1), &json!({"text": "for few"})).unwrap();
    green.pull(&founder);
    red.pull(&green);
    assert!(!red.has(1));
    assert!(red.wanted().is_some());
    let acked = |device: &Device| {
        let Reply::Frontiers { acks, .. } = device.frontiers() else { unreachable!() };
        let of = founder.space.device();
        let own =
            |ack: &&larder_log::ack::Ack| (ack.acker, ack.device) == (device.space.device(), of);
        acks.iter().find(own).map_or(0, |ack| ack.size)
    };
    let whole = founder.have()[&founder.space.device()];
    assert!(acked(&red) < whole && acked(&green) == whole);
    red.fill(&founder);
    assert!(red.has(1));
    assert_eq!(acked(&red), whole);
}

/// Pruning goes on with a device that cannot read all: each agrees on what it can.
#[test]
fn what_all_agree_on_up_to_their_clearances_is_pruned() {
    let dirs = dirs(6);
    let (mut founder, [mut amber, mut green]) = household(&dirs, [Band::Amber, Band::Green]);
    for n in 1..=4 {
        for band in Band::SHARED {
            let of = object(n * 10 + band as u8);
            founder.put_in(band, of, &json!({"n": n, "title": "first"})).unwrap();
            founder.put_in(band, of, &json!({"n": n, "title": "second"})).unwrap();
        }
    }
    settle(&mut [&mut founder, &mut amber, &mut green]);
    settle(&mut [&mut founder, &mut amber, &mut green]);
    let pruned = [&founder, &amber, &green].map(Device::pruned);
    assert!(pruned.iter().all(|pruned| *pruned > 0), "{pruned:?}");
    assert_eq!(founder.value(object(12)), json!({"n": 1, "title": "second"}));
    // Newcomers get of it what they are cleared for, from whoever has it.
    let mut all = founder.invite_on(dirs[3].path(), 7, cleared(Band::Red));
    let mut some = founder.invite_on(dirs[4].path(), 8, cleared(Band::Amber));
    let mut few = founder.invite_on(dirs[5].path(), 9, cleared(Band::Green));
    // Who is cleared for less has the beginning.
    all.fill(&green);
    assert!(!all.has(12));
    all.fill(&founder);
    some.fill(&founder);
    few.fill(&founder);
    let counts = [&all, &some, &few].map(|device| device.space.status().unwrap().documents);
    assert_eq!(counts, [12, 8, 4]);
    for device in [&all, &some, &few] {
        assert_eq!(device.wanted(), None);
    }
    // And it goes on.
    founder.put_in(Band::Amber, object(11), &json!({"n": 1, "title": "third"})).unwrap();
    let before = founder.pruned();
    let mut every = [&mut founder, &mut amber, &mut green, &mut all, &mut some, &mut few];
    settle(&mut every);
    settle(&mut every);
    assert!(founder.pruned() > before, "{before}");
    for device in [&mut founder, &mut amber, &mut green, &mut all, &mut some, &mut few] {
        device.sound();
    }
}

/// A device was cleared for more: all that it may read by now comes, of before and of what was
/// pruned too. Then for less: it keeps nothing.
#[test]
fn a_raised_clearance_brings_what_it_gives_and_a_lowered_one_takes_it() {
    for is_pruned in [false, true] {
        let dirs = dirs(3);
        let (mut founder, [mut tablet]) = household(&dirs, [Band::Green]);
        founder.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
        for band in [Band::Amber, Band::Red] {
            let of = object(band as u8 + 1);
            founder.put_in(band, of, &json!({"text": format!("{CANARY} one")})).unwrap();
            founder.put_in(band, of, &json!({"text": format!("{CANARY} two")})).unwrap();
        }
        tablet.pull(&founder);
        if is_pruned {
            settle(&mut [&mut founder, &mut tablet]);
            settle(&mut [&mut founder, &mut tablet]);
            assert!(founder.pruned() > 0 && tablet.pruned() > 0);
        }
        founder.put_in(Band::Amber, object(4), &json!({"text": "behind"})).unwrap();
        tablet.pull(&founder);
        assert!(!tablet.finds(CANARY));

        let device = tablet.space.device();
        founder.writer.change_role(device, Role::Writer, Band::Amber).unwrap();
        founder.put_in(Band::Amber, object(5), &json!({"text": "since then"})).unwrap();
        meet(&mut tablet, &mut founder);
        meet(&mut tablet, &mut founder);
        assert_eq!([2, 3, 4, 5].map(|n| tablet.has(n)), [true, false, true, true], "{is_pruned}");
        assert_eq!(tablet.value(object(2)), json!({"text": format!("{CANARY} two")}));
        assert!(tablet.finds(CANARY));
        assert_eq!(tablet.wanted(), None);
        tablet.put_in(Band::Amber, object(6), &json!({"text": "by the tablet"})).unwrap();
        founder.pull(&tablet);
        assert!(founder.has(6));
        settle(&mut [&mut founder, &mut tablet]);
        settle(&mut [&mut founder, &mut tablet]);
        tablet.sound();

        founder.writer.change_role(device, Role::Writer, Band::Green).unwrap();
        // What it writes beside that counts nowhere.
        tablet.put_in(Band::Amber, object(7), &json!({"text": "beside it"})).unwrap();
        tablet.put_in(Band::Green, object(8), &json!({"text": "beside it"})).unwrap();
        meet(&mut tablet, &mut founder);
        assert_eq!([7, 8].map(|n| founder.has(n)), [false, true]);
        for n in [2, 4, 5, 6, 7] {
            assert!(!tablet.has(n), "{n}");
        }
        assert!(tablet.has(1) && tablet.has(8) && founder.has(2));
        assert!(!tablet.finds(CANARY));
        for device in [&founder, &tablet] {
            assert_eq!(device.wanted(), None);
            let status = device.space.status().unwrap();
            assert_eq!((status.state.mode, status.state.reasons), (Mode::Ready, vec![]));
        }
        settle(&mut [&mut founder, &mut tablet]);
        settle(&mut [&mut founder, &mut tablet]);
        for device in [&mut founder, &mut tablet] {
            device.sound();
        }
        // And for more again.
        founder.writer.change_role(device, Role::Writer, Band::Red).unwrap();
        meet(&mut tablet, &mut founder);
        meet(&mut tablet, &mut founder);
        assert_eq!(
            [2, 3, 4, 5, 6, 7].map(|n| tablet.has(n)),
            [true, true, true, true, true, false]
        );
        assert_eq!(tablet.wanted(), None);
    }
}

/// What a phone had written was known to the others by way of the tablet alone, which may not read
/// it. Then the phone was cleared for less, heard of that by the tablet too, and dropped the only
/// copy that there was; the others waited for it for ever. `status` had said that the tablet held
/// all.
#[test]
fn what_nobody_else_has_a_lowered_device_keeps() {
    for is_raised_again in [false, true] {
        let dirs = dirs(4);
        let bands = [Band::Amber, Band::Green, Band::Red];
        let (mut founder, [mut phone, mut tablet, mut other]) = household(&dirs, bands);
        phone.pull(&founder);
        tablet.pull(&founder);
        phone.put_in(Band::Amber, object(1), &json!({"text": CANARY})).unwrap();
        let device = phone.space.device();
        tablet.pull(&phone);
        founder.pull(&tablet);
        other.pull(&tablet);
        phone.learn_acks(&tablet);
        phone.pull(&tablet);
        let status = phone.space.status().unwrap();
        let of_tablet = status.progress.iter().find(|of| of.device == tablet.space.device());
        let of_tablet = of_tablet.unwrap();
        assert_eq!((of_tablet.standing, of_tablet.pending), (Standing::UpToABand, 0));
        assert_eq!(of_tablet.up_to, Some(Band::Green));

        founder.writer.change_role(device, Role::Writer, Band::Green).unwrap();
        tablet.pull(&founder);
        phone.pull(&tablet);
        phone.learn_acks(&tablet);
        assert_eq!(phone.space.clearance().unwrap(), Band::Green);
        assert!(!phone.has(1) && !phone.finds(CANARY));
        phone.sound();
        if is_raised_again {
            founder.writer.change_role(device, Role::Writer, Band::Amber).unwrap();
            tablet.pull(&founder);
            phone.pull(&tablet);
        }
        founder.fill(&phone);
        assert_eq!(founder.value(object(1)), json!({"text": CANARY}));
        let want = other.wanted().unwrap();
        let hands_over = |phone: &Device| !other.supply_of(phone, &want).sections.is_empty();
        assert!(hands_over(&phone));
        phone.asks(&founder);
        if is_raised_again {
            phone.fill(&founder);
            assert!(phone.has(1) && hands_over(&phone));
        } else {
            assert!(!hands_over(&phone), "it is gone, once another has it");
        }
        other.fill(&founder);
        settle(&mut [&mut founder, &mut phone, &mut tablet, &mut other]);
        for device in [&mut founder, &mut phone, &mut tablet, &mut other] {
            assert_eq!(device.wanted(), None);
            device.sound();
        }
    }
}

/// A phone wrote letters while it was away, and an admin who did not know of them cleared it for
/// less from before them on: they were void, and so the only bytes of them went. Then an owner who
/// did not know of them either took that back: they counted for everybody, and nobody had them. And
/// where another had raised the phone in between, they stayed void on the phone that had them.
#[test]
fn what_is_void_for_now_goes_no_more_than_what_counts() {
    for is_raised_between in [false, true] {
        let dirs = dirs(5);
        let mut founder = Device::found(dirs[0].path(), 1);
        let owner = Terms { of: Whose::New, role: Role::Owner, clearance: Band::Red };
        let mut other = founder.invite_on(dirs[1].path(), 2, owner);
        let terms = Terms { role: Role::Admin, ..owner };
        let mut admin = founder.invite_on(dirs[2].path(), 3, terms);
        let mut phone = founder.invite_on(dirs[3].path(), 4, cleared(Band::Amber));
        let mut tablet = founder.invite_on(dirs[4].path(), 5, cleared(Band::Green));
        let device = phone.space.device();
        for one in [&mut other, &mut admin, &mut phone, &mut tablet] {
            one.pull(&founder);
        }
        phone.put_in(Band::Amber, object(1), &json!({"text": CANARY})).unwrap();
        admin.writer.change_role(device, Role::Writer, Band::Green).unwrap();
        other.pull(&admin);
        phone.pull(&admin);
        assert!(!phone.has(1) && !phone.finds(CANARY));
        // They acknowledge it by way of the tablet, without the bytes.
        tablet.pull(&phone);
        for one in [&mut admin, &mut founder] {
            one.pull(&tablet);
            assert!(!one.has(1));
            phone.learn_acks(one);
        }
        if is_raised_between {
            founder.writer.change_role(device, Role::Writer, Band::Amber).unwrap();
            phone.pull(&founder);
            assert_eq!(phone.space.clearance().unwrap(), Band::Amber);
            assert!(!phone.has(1));
        }
        other.writer.change_role(device, Role::Writer, Band::Amber).unwrap();
        for one in [&mut phone, &mut founder, &mut admin] {
            one.pull(&other);
        }
        for _ in 0..2 {
            for one in [&mut founder, &mut admin, &mut other] {
                meet(one, &mut phone);
            }
        }
        for one in [&mut founder, &mut other, &mut admin, &mut phone] {
            assert_eq!(one.value(object(1)), json!({"text": CANARY}), "{is_raised_between}");
            assert_eq!(one.wanted(), None);
            one.sound();
        }
    }
}

/// What a phone had written for some was known to the others by way of the kitchen tablet, and then
/// the phone fell into a lake and was shut out. All waited for bytes that nobody had: nothing was
/// pruned any more. But a laptop that was away may have met the phone: nothing is given up before
/// it has said that it lacks them too. Each says so by itself, also where the tablet has stated a
/// snapshot of them meanwhile, which the others could not agree on and waited for. And a newcomer,
/// who might have them too, brings them back as missing nowhere: the snapshot stands for them.
#[test]
fn what_nobody_has_of_a_lost_device_is_not_waited_for() {
    for met in [false, true] {
        let dirs = dirs(5);
        let bands = [Band::Amber, Band::Green, Band::Red];
        let (mut founder, [mut phone, mut tablet, mut laptop]) = household(&dirs, bands);
        for device in [&mut phone, &mut tablet, &mut laptop] {
            device.pull(&founder);
        }
        for text in ["first", "second"] {
            phone.put_in(Band::Amber, object(1), &json!({"text": text})).unwrap();
            phone.put_in(Band::Green, object(2), &json!({"text": text})).unwrap();
        }
        tablet.pull(&phone);
        if met {
            laptop.pull(&phone);
        }
        founder.pull(&tablet);
        founder.writer.revoke(&[phone.space.device()]).unwrap();
        drop(phone);
        tablet.prune(true);
        for _ in 0..2 {
            meet(&mut founder, &mut tablet);
            by_itself(&mut founder);
        }
        assert_eq!((founder.has(1), founder.has(2)), (false, true));
        assert!(founder.wanted().is_some(), "the laptop may have it");
        meet(&mut founder, &mut laptop);
        assert_eq!(founder.has(1), met);
        let mut all = [&mut founder, &mut tablet, &mut laptop];
        for _ in 0..3 {
            for device in &mut all {
                by_itself(device);
            }
            settle(&mut all);
        }
        for device in &all {
            assert_eq!(device.wanted(), None);
            assert!(device.pruned() >= 2, "{met}");
        }
        if met {
            // What the founder had said is taken back: it has the only copy then.
            founder.writer.revoke(&[laptop.space.device()]).unwrap();
        }
        let mut newcomer = founder.invite_on(dirs[4].path(), 9, cleared(Band::Red));
        newcomer.fill(&founder);
        for device in [&mut founder, &mut newcomer] {
            assert_eq!((device.has(1), device.has(2)), (met, true));
            device.sound();
        }
        for _ in 0..2 {
            by_itself(&mut newcomer);
            settle(&mut [&mut founder, &mut tablet, &mut newcomer]);
        }
        if !met {
            meet(&mut founder, &mut laptop);
            meet(&mut newcomer, &mut laptop);
        }
        let before = [&founder, &tablet, &newcomer].map(Device::pruned);
        for text in ["more", "and more"] {
            founder.edit(object(2), |value| value["text"] = text.into());
        }
        let mut all = vec![&mut founder, &mut tablet, &mut newcomer];
        if !met {
            all.push(&mut laptop);
        }
        settle(&mut all);
        settle(&mut all);
        for (device, before) in all.iter().zip(before) {
            assert_eq!(device.wanted(), None);
            assert!(device.pruned() > before, "{} of {before}, {met}", device.pruned());
        }
    }
}

/// The same where one of the others may read and not write. It said nothing, because it could not
/// have taken it back, and what nobody had was waited for by all for ever. Now it says so, and if
/// it gets the bytes after all, it takes that back and hands them on.
#[test]
fn who_may_only_read_says_what_it_lacks_and_takes_it_back() {
    for is_found in [false, true] {
        let dirs = dirs(4);
        let bands = [Band::Amber, Band::Green, Band::Red];
        let (mut founder, [mut phone, mut tablet, mut reader]) = household(&dirs, bands);
        founder.writer.change_role(reader.space.device(), Role::Reader, Band::Red).unwrap();
        for device in [&mut phone, &mut tablet, &mut reader] {
            device.pull(&founder);
        }
        phone.put_in(Band::Amber, object(1), &json!({"text": "for some"})).unwrap();
        phone.put_in(Band::Green, object(2), &json!({"text": "for all"})).unwrap();
        tablet.pull(&phone);
        founder.pull(&tablet);
        founder.writer.revoke(&[phone.space.device()]).unwrap();
        reader.pull(&founder);
        by_itself(&mut reader);
        assert!(reader.wanted().is_some(), "the founder may have it");
        if is_found {
            reader.fill(&phone);
            assert!(reader.has(1), "it had said that it lacks this");
        }
        drop(phone);
        let mut all = [&mut founder, &mut tablet, &mut reader];
        for _ in 0..4 {
            for device in &mut all {
                by_itself(device);
            }
            settle(&mut all);
        }
        for device in &all {
            assert_eq!(device.wanted(), None, "{is_found}");
        }
        assert_eq!((founder.has(1), reader.has(1)), (is_found, is_found));
        let lost = [&founder, &tablet, &reader].map(|it| it.space.status().unwrap().lost);
        assert_eq!(lost, if is_found { [0, 0, 0] } else { [1, 1, 1] });
        for device in [&mut founder, &mut reader] {
            device.sound();
        }
    }
}

/// Does what it finds to do while nobody asks it for anything.
fn by_itself(device: &mut Device) {
    while let Some(mut pruning) = device.writer.wants_pruning().unwrap() {
        while !device.writer.prune_step(&mut pruning).unwrap() {}
    }
}

/// A tablet was cleared for less while it was away, and wrote on. In whatever order the others hear
/// of the one and the other, what it wrote above its clearance counts nowhere.
#[test]
fn what_is_written_above_a_clearance_is_void_in_any_order() {
    for hears_first in [true, false] {
        let dirs = dirs(4);
        let (mut founder, [mut tablet, mut other]) = household(&dirs, [Band::Amber, Band::Red]);
        tablet.pull(&founder);
        tablet.put_in(Band::Amber, object(1), &json!({"text": "before"})).unwrap();
        founder.pull(&tablet);
        let device = tablet.space.device();
        founder.writer.change_role(device, Role::Writer, Band::Green).unwrap();
        tablet.put_in(Band::Amber, object(1), &json!({"text": "beside it"})).unwrap();
        tablet.put_in(Band::Amber, object(2), &json!({"text": "beside it"})).unwrap();
        tablet.put_in(Band::Green, object(3), &json!({"text": "for all"})).unwrap();
        if hears_first {
            other.pull(&founder);
            other.writer.counted();
            other.pull(&tablet);
            let void = other.writer.counted().void;
            assert_eq!(void.get(&larder_engine::VoidCause::Band), Some(&2), "{void:?}");
        } else {
            other.pull(&tablet);
            assert!(other.has(2), "as far as it knew then");
            other.pull(&founder);
        }
        founder.pull(&other);
        for device in [&mut founder, &mut other] {
            assert_eq!(device.value(object(1)), json!({"text": "before"}));
            assert!(!device.has(2) && device.has(3));
            device.sound();
            let of_tablet = device.space.receipts(Some((tablet.space.device(), 0)), 100).unwrap();
            let void = of_tablet.iter().filter(|it| it.device == tablet.space.device());
            let void: Vec<_> = void.map(|it| it.void.as_slice()).collect();
            assert_eq!(void.concat(), ["band", "band"], "the reason is kept: {of_tablet:?}");
        }
        assert_eq!(founder.space.digest().unwrap(), other.space.digest().unwrap());
    }
}

/// An app names its documents by what they are of, and so two devices create one under the same id,
/// one of them for few. Whoever sees only the other must find it where all others do, and what is
/// deleted of one is not deleted of the other.
#[test]
fn documents_of_two_bands_under_one_id_are_two() {
    for deletes in [None, Some(Band::Green), Some(Band::Amber)] {
        let dirs = dirs(4);
        let (mut founder, [mut amber, mut green]) = household(&dirs, [Band::Amber, Band::Green]);
        for device in [&mut founder, &mut amber, &mut green] {
            assert_eq!(device.wanted(), None);
        }
        amber.put_in(Band::Amber, object(1), &json!({"text": "for some"})).unwrap();
        green.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
        match deletes {
            Some(Band::Amber) => amber.delete(object(1)),
            Some(_) => green.delete(object(1)),
            None => {}
        }
        founder.pull(&amber);
        founder.pull(&green);
        amber.pull(&founder);
        green.pull(&founder);
        let digest = founder.space.digest().unwrap();
        assert_eq!(amber.space.digest().unwrap(), digest);
        let count = |device: &Device| device.space.status().unwrap().documents;
        match deletes {
            None => {
                assert_eq!([&founder, &amber, &green].map(count), [2, 2, 1]);
                assert_eq!(founder.value(object(1)), json!({"text": "for all"}));
                assert_eq!(green.value(object(1)), json!({"text": "for all"}));
            }
            Some(Band::Amber) => {
                assert_eq!([&founder, &amber, &green].map(count), [1, 1, 1]);
                assert_eq!(founder.value(object(1)), json!({"text": "for all"}));
            }
            Some(_) => {
                assert_eq!([&founder, &amber, &green].map(count), [1, 1, 0]);
                assert_eq!(founder.value(object(1)), json!({"text": "for some"}));
            }
        }
        settle(&mut [&mut founder, &mut amber, &mut green]);
        for device in [&mut founder, &mut amber, &mut green] {
            device.sound();
        }
    }
}

/// Who erases an object erases of it what it is cleared for: an id that is known or guessed is no
/// way to what one may not read.
#[test]
fn an_erasure_reaches_as_far_as_its_author_is_cleared() {
    let dirs = dirs(4);
    let (mut founder, [mut amber, mut green]) = household(&dirs, [Band::Amber, Band::Green]);
    amber.put_in(Band::Amber, object(1), &json!({"text": "for some"})).unwrap();
    green.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
    green.writer.erase(object(1)).unwrap();
    founder.pull(&amber);
    founder.pull(&green);
    amber.pull(&founder);
    green.pull(&founder);
    assert!(!green.has(1));
    for device in [&founder, &amber] {
        assert_eq!(device.value(object(1)), json!({"text": "for some"}));
    }
    // Whoever has something of it left is not told that all of it is gone.
    for device in [&founder, &amber, &green] {
        assert_eq!(device.space.erasures().unwrap()[0].up_to, Band::Green);
    }
    founder.writer.erase(object(1)).unwrap();
    assert_eq!(founder.space.erasures().unwrap()[0].up_to, Band::Red);
    amber.pull(&founder);
    green.pull(&founder);
    for device in [&mut founder, &mut amber, &mut green] {
        assert!(!device.has(1));
        device.sound();
    }
    settle(&mut [&mut founder, &mut amber, &mut green]);
}

/// A document of an id that another has in a higher band was redacted, and the list of edits that
/// came late named whoever wrote the other one, which nobody had redacted.
#[test]
fn what_is_above_a_redaction_is_no_late_edit_of_it() {
    let dirs = dirs(4);
    let (mut founder, [mut amber, mut green]) = household(&dirs, [Band::Amber, Band::Green]);
    amber.put_in(Band::Amber, object(1), &json!({"text": "for some"})).unwrap();
    green.put_in(Band::Green, object(1), &json!({"text": "for all", "kept": 1})).unwrap();
    founder.pull(&amber);
    founder.pull(&green);
    let redacted = green.writer.redact(object(1), &[vec!["text".to_owned()]]).unwrap().object;
    founder.pull(&green);
    amber.pull(&founder);
    for device in [&founder, &amber] {
        assert_eq!(device.value(object(1)), json!({"text": "for some"}));
        let [info] = &device.space.erasures().unwrap()[..] else { panic!() };
        assert_eq!((&info.redacted_as[..], info.up_to), (&[redacted][..], Band::Green));
        assert_eq!(info.late, [], "nobody edited it beside that");
    }
}

/// Whoever opens an epoch knows its secrets of every band. So nobody who is cleared for more writes
/// to one that a device with a lower clearance has opened.
#[test]
fn nothing_is_sealed_to_an_epoch_of_a_device_that_is_cleared_for_less() {
    let dirs = dirs(4);
    let mut founder = Device::found(dirs[0].path(), 1);
    let terms = Terms { role: Role::Admin, ..cleared(Band::Green) };
    let mut admin = founder.invite_on(dirs[1].path(), 2, terms);
    let mut newcomer = admin.invite_on(dirs[2].path(), 3, cleared(Band::Green));
    founder.pull(&admin);
    let epochs = |device: &Device| device.epochs().len();
    let before = epochs(&founder);
    founder.put_in(Band::Red, object(1), &json!({"text": "for few"})).unwrap();
    assert_eq!(epochs(&founder), before + 1, "it opened its own");
    admin.pull(&founder);
    newcomer.pull(&founder);
    admin.put_in(Band::Green, object(2), &json!({"text": "for all"})).unwrap();
    founder.pull(&admin);
    founder.put_in(Band::Red, object(3), &json!({"text": "for few"})).unwrap();
    assert_eq!(epochs(&founder), before + 1, "and all stay with it");
    assert_eq!(founder.value(object(2)), json!({"text": "for all"}));
}

/// A tablet is cleared for GREEN. Whoever picks it up invites another device by it, on the usual
/// terms: that was cleared for everything where the tablet was an owner's.
#[test]
fn a_device_lets_in_none_that_is_cleared_for_more_unless_it_says_so() {
    let dirs = dirs(4);
    let mut founder = Device::found(dirs[0].path(), 1);
    let terms = Terms { of: Whose::Own, role: Role::Owner, clearance: Band::Green };
    let mut tablet = founder.invite_on(dirs[1].path(), 2, terms);
    let newcomer = tablet.invite(dirs[2].path(), 3);
    assert_eq!(newcomer.space.clearance().unwrap(), Band::Green);
    let terms = Terms { clearance: Band::Amber, ..terms };
    let other = tablet.invite_on(dirs[3].path(), 4, terms);
    assert_eq!(other.space.clearance().unwrap(), Band::Amber);
}

#[test]
fn a_blob_follows_the_band_of_what_names_it() {
    let dirs = dirs(3);
    let (mut founder, [mut green]) = household(&dirs, [Band::Green]);
    let content = blobs::noise(5, 200_000);
    let mut add = |band: Option<Band>| {
        let new = NewBlob { media_type: "image/png".into(), name: None, band };
        let mut adding = founder.space.add_blob(&content[..], new).unwrap();
        loop {
            let part = adding.part().unwrap();
            if part.is_empty() {
                break;
            }
            founder.writer.stage(&part).unwrap();
        }
        founder.writer.commit_blob(&adding.finish().unwrap()).unwrap()
    };
    let (red, usual) = (add(Some(Band::Red)), add(None));
    assert_ne!(red.id, usual.id, "no key of one opens the other");
    assert_eq!((red.band, usual.band), (Band::Red, Band::Green));
    let naming = |id: &larder_types::BlobId| json!({"photo": {"$blob": id.to_string()}});
    for (band, id) in [(Band::Green, &red.id), (Band::Red, &usual.id)] {
        let refused = founder.put_in(band, object(9), &naming(id)).unwrap_err();
        assert!(matches!(&refused, Error::Invalid(why) if why.contains("blob")), "{refused}");
    }
    assert!(!founder.has(9), "nothing of the unit is left");
    founder.put_in(Band::Red, object(1), &naming(&red.id)).unwrap();
    founder.put_in(Band::Green, object(2), &naming(&usual.id)).unwrap();
    green.pull(&founder);
    assert!(green.space.blob(&red.id).unwrap().is_none());
    assert!(blobs::fetch(&mut green, &founder) > 0);
    assert_eq!(blobs::read(&green, &usual.id), content);

    let device = green.space.device();
    founder.writer.change_role(device, Role::Writer, Band::Red).unwrap();
    meet(&mut green, &mut founder);
    assert!(blobs::fetch(&mut green, &founder) > 0);
    assert_eq!(blobs::read(&green, &red.id), content);
    founder.writer.change_role(device, Role::Writer, Band::Green).unwrap();
    meet(&mut green, &mut founder);
    assert!(green.space.blob(&red.id).unwrap().is_none());
    assert_eq!(blobs::read(&green, &usual.id), content);
}

/// An app may name a device BLACK as it may RED; no device has a secret for that.
#[test]
fn nothing_is_written_in_a_band_that_leaves_no_device() {
    let dirs = dirs(2);
    let (mut founder, [mut other]) = household(&dirs, [Band::Black]);
    let id = founder.space.device();
    founder.writer.change_role(id, Role::Owner, Band::Black).unwrap();
    other.pull(&founder);
    for device in [&mut founder, &mut other] {
        assert_eq!(device.space.clearance().unwrap(), Band::Red);
        let refused = device.put_in(Band::Black, object(1), &json!({})).unwrap_err();
        assert!(matches!(refused, Error::NotCleared { band: Band::Black, .. }), "{refused}");
        let about = NewBlob { media_type: "a/b".into(), name: None, band: Some(Band::Black) };
        let refused = device.space.add_blob(std::io::empty(), about).map(drop).unwrap_err();
        assert!(matches!(refused, Error::NotCleared { .. }), "{refused}");
        device.put_in(Band::Red, object(2), &json!({"n": 2})).unwrap();
    }
}

/// A tablet erased a letter after it had been cleared for less, of which it had not heard; a laptop
/// heard of the erasure first, and dropped the bytes. Then, within one session, the laptop was
/// cleared for less and for more again: the bytes came back as they were sealed, under a secret
/// that it had said to have and had given away since, and it asked nobody to open them. The letter
/// was missing there, and nothing said so.
#[test]
fn what_comes_back_sealed_after_a_raise_is_asked_to_be_opened() {
    let dirs = dirs(4);
    // As long as the phone is away, all keep what is new as it was sealed.
    let (mut founder, [mut laptop, mut tablet, _phone]) = household(&dirs, [Band::Amber; 3]);
    let letter = json!({"text": "a letter"});
    meet(&mut laptop, &mut founder);
    laptop.put_in(Band::Amber, object(1), &letter).unwrap();
    meet(&mut laptop, &mut founder);
    meet(&mut laptop, &mut tablet);
    founder.writer.change_role(tablet.space.device(), Role::Writer, Band::Green).unwrap();
    tablet.writer.erase(object(1)).unwrap();
    meet(&mut laptop, &mut tablet);
    assert!(laptop.space.document(&object(1)).unwrap().is_none());

    let epochs = laptop.epochs();
    for clearance in [Band::Green, Band::Amber] {
        founder.writer.change_role(laptop.space.device(), Role::Writer, clearance).unwrap();
        laptop.pull(&founder);
    }
    let want = Box::new(laptop.wanted().unwrap());
    let request = Request::ReadSupply { want, epochs };
    let answer = founder.space.answer(&laptop.profile.transport_id(), request);
    let Answer::Reply(Reply::Supply { supply }) = answer else { panic!("{answer:?}") };
    laptop.writer.take_supply(&supply).unwrap();

    settle(&mut [&mut founder, &mut laptop, &mut tablet]);
    for device in [&mut founder, &mut laptop] {
        assert_eq!(device.wanted(), None);
        assert_eq!(device.value(object(1)), letter);
        // It was erased up to what the tablet was cleared for, and lives above.
        assert!(!device.space.is_deleted(&object(1)).unwrap());
        device.sound();
    }
}
