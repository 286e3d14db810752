//! Copies of a profile that are given new keys, on real files, cut at each step.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_protocol::{Position, Reply, Request};
use larder_types::limits::BATCH_BYTES_TARGET;
use larder_types::{DeviceId, ObjectId, SpaceName};
use serde_json::{Value, json};

use crate::durability_tests::World;
use crate::steps::{Step, hooked};
use crate::{
    Access, Answer, Band, Carried, Environment, Error, Profile, ProfileOptions, Reason, Result,
    Role, Secret, Space, SpaceWriter, Terms, UnitOfWork, Unlock, Whose,
};

mod alone;
mod amiss;
mod bound;
mod here;

struct Device {
    profile: Profile,
    space: Space,
    writer: SpaceWriter,
}

fn world(seed: u64) -> Arc<dyn Environment> {
    Arc::new(World(AtomicU64::new(seed << 40)))
}

fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

fn name() -> SpaceName {
    "shared:test".parse().unwrap()
}

fn options(label: &str) -> ProfileOptions {
    ProfileOptions { label: Some(label.into()), ..ProfileOptions::default() }
}

fn object(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

impl Device {
    fn found(dir: &Path, seed: u64) -> Self {
        let profile = Profile::create(world(seed), dir, &unlock(), options("laptop")).unwrap();
        let (space, writer) = profile.create_space(&name()).unwrap();
        Self { profile, space, writer }
    }

    fn open(dir: &Path, seed: u64) -> Self {
        let profile =
            Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x")).unwrap();
        Self::of(profile)
    }

    fn of(profile: Profile) -> Self {
        let (space, writer) = profile.open_space(&name()).unwrap();
        Self { profile, space, writer: writer.unwrap() }
    }

    fn close(self) {
        let Self { profile, space, mut writer } = self;
        writer.close().unwrap();
        drop(writer);
        space.close().unwrap();
        profile.close().unwrap();
    }

    /// Lets a profile in, or in again.
    fn invite(&mut self, profile: Profile, terms: Terms) -> Result<Self> {
        let invitation = self.profile.invite_on(&self.space, Vec::new(), terms)?;
        let mut joining = profile.begin_join(invitation)?;
        let (agreed, admission) = profile.ask_within(&mut joining, &self.profile, &[9; 32])?;
        self.writer.admit(admission.enrolment.clone())?;
        let reply = self.profile.welcome(&admission, &self.space)?;
        let (space, writer) = profile.finish_join(joining, &agreed, &reply)?;
        Ok(Self { profile, space, writer })
    }

    fn commit(&mut self, unit: UnitOfWork) -> Result<()> {
        self.writer.commit(&mut std::iter::once(unit)).pop().unwrap().map(drop)
    }

    fn put(&mut self, n: u8, value: &Value) {
        self.try_put(n, value).unwrap();
    }

    fn try_put(&mut self, n: u8, value: &Value) -> Result<()> {
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(n), value).unwrap();
        unit.actor("ana");
        self.commit(unit)
    }

    fn value(&self, n: u8) -> Option<Value> {
        Some(Value::Object(self.space.document(&object(n)).unwrap()?.value))
    }

    fn frontiers(&self) -> Reply {
        match self.space.answer(&self.profile.transport_id(), Request::ReadFrontiers) {
            Answer::Reply(reply) => reply,
            Answer::Write(_) => panic!("reading writes nothing"),
        }
    }

    /// A session in one direction: what `other` shows is compared, and what this one lacks is
    /// taken, as far as it is taken.
    fn hear(&mut self, other: &Self) {
        let (me, peer) = (self.profile.transport_id(), other.profile.transport_id());
        let Reply::Frontiers { logs, forks, .. } = other.frontiers() else { panic!() };
        let check = Request::CheckFrontiers { logs, forks };
        if let Answer::Write(task) = self.space.answer(&peer, check) {
            self.writer.answer(task);
        }
        let mut after = Position::default();
        loop {
            let Reply::Frontiers { logs, epochs_held, .. } = self.frontiers() else { panic!() };
            let have = logs.iter().map(|log| (log.device, log.size)).collect();
            let (epochs, bytes_target) = (epochs_held, BATCH_BYTES_TARGET);
            let request = Request::ReadBatch { after, have, epochs, bytes_target };
            let Answer::Reply(Reply::Batch { position, batch }) = other.space.answer(&me, request)
            else {
                return;
            };
            let Some(batch) = batch else { return };
            if self.writer.apply(*batch).is_err() {
                return;
            }
            after = position;
        }
    }

    fn reasons(&self) -> Vec<Reason> {
        self.space.state().unwrap().reasons
    }
}

fn meet(one: &mut Device, other: &mut Device) {
    for _ in 0..2 {
        one.hear(other);
        other.hear(one);
    }
}

fn own() -> Terms {
    Terms { of: Whose::Own, role: Role::Owner, clearance: Band::Red }
}

/// A laptop, and a phone that has what it has, closed.
fn household(dirs: &[tempfile::TempDir]) -> Device {
    let mut laptop = Device::found(dirs[0].path(), 1);
    laptop.put(1, &json!({"title": "letter", "a": 0, "b": 0, "text": "one\ntwo\nthree\n"}));
    laptop.put(4, &json!({"title": "to go"}));
    let phone = Profile::create(world(2), dirs[1].path(), &unlock(), options("phone")).unwrap();
    let mut phone = laptop.invite(phone, own()).unwrap();
    meet(&mut laptop, &mut phone);
    phone.put(5, &json!({"title": "of the phone"}));
    meet(&mut laptop, &mut phone);
    phone.close();
    laptop
}

/// What the older of two copies does while nobody hears of it.
fn work_apart(older: &mut Device) {
    let text = "one\ntwo, as the older copy has it\nthree\n";
    older.put(1, &json!({"title": "letter", "a": 1, "b": 0, "text": "one\ntwo\nthree\n"}));
    older.put(1, &json!({"title": "letter", "a": 2, "b": 0, "text": text}));
    older.put(3, &json!({"title": "new on the older copy"}));
    older.put(3, &json!({"title": "new on the older copy", "more": true}));
    let mut unit = UnitOfWork::new();
    unit.delete(object(4));
    older.commit(unit).unwrap();
    let mut unit = UnitOfWork::new();
    unit.trash(object(5));
    older.commit(unit).unwrap();
    // An id that the other copy uses too.
    older.put(9, &json!({"by": "older"}));
}

fn renew(dir: &Path, seed: u64) -> Result<crate::Renewed> {
    Profile::renew(world(seed), dir, &unlock())
}

fn joined_again(laptop: &mut Device, dir: &Path, seed: u64) -> Device {
    let profile =
        Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x")).unwrap();
    laptop.invite(profile, own()).unwrap()
}

fn check_letter(device: &Device) {
    let text = "one\ntwo, as the older copy has it\nthree, as the newer has it\n";
    let letter = json!({"title": "letter", "a": 2, "b": 1, "text": text});
    assert_eq!(device.value(1), Some(letter), "edits of both copies");
    let more = json!({"title": "new on the older copy", "more": true});
    assert_eq!(device.value(3), Some(more));
    assert_eq!(device.value(4), None);
    assert!(device.space.is_deleted(&object(4)).unwrap());
    assert!(device.space.document(&object(5)).unwrap().is_none_or(|it| it.trashed.is_some()));
    let nines: Vec<Value> = ["older", "newer"]
        .into_iter()
        .filter(|by| {
            let all = device.space.list(None, None, 100).unwrap().documents;
            all.iter().any(|item| item.value.get("by") == Some(&json!(by)))
        })
        .map(Value::from)
        .collect();
    assert_eq!(nines, ["older", "newer"], "both documents that were created under one id");
}

fn work_of_newer(newer: &mut Device) {
    let text = "one\ntwo\nthree, as the newer has it\n";
    newer.put(1, &json!({"title": "letter", "a": 0, "b": 1, "text": text}));
    newer.put(2, &json!({"title": "new on the newer copy"}));
    newer.put(9, &json!({"by": "newer"}));
}

/// Somebody moved to a new phone by copying the profile, and went on using the old one for a week.
/// The space said that the profile was copied and could not be written any more, and all that the
/// old one had was to be typed again.
#[test]
fn two_copies_that_were_both_used_are_renewed_and_all_edits_end_on_all_devices() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    copy(dirs[1].path(), dirs[2].path());
    let mut newer = Device::open(dirs[1].path(), 3);
    work_of_newer(&mut newer);
    meet(&mut laptop, &mut newer);
    let mut older = Device::open(dirs[2].path(), 4);
    let was = older.space.device();
    work_apart(&mut older);
    meet(&mut laptop, &mut older);
    assert!(older.try_put(6, &json!({})).is_err(), "it says that it is a copy");
    older.close();
    // This is on the newer one alone, which has not heard that it was copied.
    newer.put(7, &json!({"title": "late on the newer copy"}));

    let renewed = renew(dirs[2].path(), 5).unwrap();
    assert_eq!((renewed.waiting, renewed.alone), (vec![name()], Vec::new()));
    let mut older = Device::open(dirs[2].path(), 6);
    assert_eq!(older.value(3).unwrap()["more"], true, "it can be read meanwhile");
    assert!(matches!(older.try_put(6, &json!({})), Err(Error::Renewed)));
    assert!(older.reasons().contains(&Reason::Renewed));
    older.close();
    let mut older = joined_again(&mut laptop, dirs[2].path(), 7);
    assert_ne!(older.space.device(), was);
    assert!(older.reasons().contains(&Reason::Carrying { what: None }));
    assert_eq!(older.writer.carry_over().unwrap().map(|it| it.is_done), Some(false), "too early");
    meet(&mut laptop, &mut older);
    let transport = laptop.profile.transport_id();
    let heard = [(transport, vec![(was, 0)])].into();
    older.space.shared.carrying().as_mut().unwrap().peers = heard;
    older.writer.show().unwrap();
    assert!(!older.writer.carry_over().unwrap().unwrap().is_done, "one that has nothing is heard");
    older.hear(&laptop);
    let carried = older.writer.carry_over().unwrap().unwrap();
    let Carried { entries, created, edited, deleted, moot, is_done, .. } = carried.clone();
    assert_eq!((entries, created, edited, deleted, moot), (7, 2, 4, 1, 0), "{carried:?}");
    assert!(is_done && carried.left.is_empty(), "{carried:?}");
    assert!(!older.reasons().contains(&Reason::Carrying { what: None }));
    meet(&mut laptop, &mut older);
    check_letter(&older);
    check_letter(&laptop);
    assert_eq!(older.space.digest().unwrap(), laptop.space.digest().unwrap());

    // Of a log with two histories nobody takes more from its own device.
    newer.hear(&laptop);
    assert!(matches!(newer.try_put(8, &json!({})), Err(Error::OtherHistory)));
    newer.close();
    renew(dirs[1].path(), 8).unwrap();
    let mut newer = joined_again(&mut laptop, dirs[1].path(), 9);
    meet(&mut laptop, &mut newer);
    let carried = newer.writer.carry_over().unwrap().unwrap();
    assert_eq!((carried.entries, carried.created), (1, 1), "what others had is not done twice");
    meet(&mut laptop, &mut newer);
    meet(&mut laptop, &mut older);
    let digest = laptop.space.digest().unwrap();
    for device in [&newer, &older, &laptop] {
        check_letter(device);
        assert_eq!(device.value(7).unwrap()["title"], "late on the newer copy");
        assert_eq!(device.value(2).unwrap()["title"], "new on the newer copy");
        assert_eq!(device.space.digest().unwrap(), digest);
    }
    let history = laptop.space.history(&object(3)).unwrap();
    assert!(history.iter().all(|item| item.actor.as_deref() == Some("ana")));
    for device in [newer, older, laptop] {
        device.close();
    }
}

/// Fails the `at`th step that is reached, once.
fn cut_at(at: usize, work: impl FnOnce()) -> bool {
    let (reached, cut) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (count, was_cut) = (Rc::clone(&reached), Rc::clone(&cut));
    let hook = move |_| {
        count.set(count.get() + 1);
        if count.get() != at {
            return Ok(());
        }
        was_cut.set(true);
        Err(io::Error::other("the power went"))
    };
    hooked(hook, work);
    cut.get()
}

/// Renews what is in `dir` as far as it is still to be done, and carries over what there is.
fn renew_whole(laptop: &mut Device, dir: &Path, was: DeviceId, seed: &mut u64) -> Result<Carried> {
    let mut next = || {
        *seed += 1;
        *seed
    };
    let open = |seed| Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x"));
    let profile = open(next())?;
    let (space, mut writer) = profile.open_space(&name())?;
    let is_old = space.device() == was;
    let is_marked = space.state()?.reasons.contains(&Reason::Renewed);
    writer.as_mut().unwrap().close()?;
    drop(writer);
    space.close()?;
    profile.close()?;
    if is_old && !is_marked {
        renew(dir, next())?;
    }
    let profile = open(next())?;
    let mut device = if is_old { laptop.invite(profile, own())? } else { Device::of(profile) };
    for _ in 0..2 {
        device.hear(laptop);
    }
    let carried = device.writer.carry_over()?.unwrap();
    laptop.hear(&device);
    device.hear(laptop);
    device.close();
    Ok(carried)
}

/// The battery may be empty at any moment of it: nothing is lost then, nothing is done twice, and
/// the profile is the old device or the new one.
#[test]
fn a_renewal_that_is_cut_anywhere_goes_on_and_does_nothing_twice() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let phone = tempfile::tempdir().unwrap();
    copy(dirs[1].path(), phone.path());
    let mut newer = Device::open(dirs[1].path(), 3);
    work_of_newer(&mut newer);
    meet(&mut laptop, &mut newer);
    newer.close();
    let mut older = Device::open(phone.path(), 4);
    let was = older.space.device();
    work_apart(&mut older);
    meet(&mut laptop, &mut older);
    older.close();
    laptop.close();
    let mut cuts = 0;
    for at in 1.. {
        let tries: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        copy(dirs[0].path(), tries[0].path());
        copy(phone.path(), tries[1].path());
        let mut laptop = Device::open(tries[0].path(), 100);
        let mut seed = 200;
        let was_cut = cut_at(at, || {
            let _ = renew_whole(&mut laptop, tries[1].path(), was, &mut seed);
        });
        let carried = renew_whole(&mut laptop, tries[1].path(), was, &mut seed).unwrap();
        assert!(carried.is_done && carried.left.is_empty(), "cut at {at}: {carried:?}");
        assert_eq!((carried.entries, carried.created), (7, 2), "cut at {at}");
        check_letter(&laptop);
        let device = Device::open(tries[1].path(), 300);
        assert_ne!(device.space.device(), was);
        assert_eq!(device.space.digest().unwrap(), laptop.space.digest().unwrap(), "cut at {at}");
        device.close();
        laptop.close();
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 12, "{cuts}");
}

/// A phone was thought to be lost, and shut out. It had been in a drawer, with letters that nobody
/// else had: what it wrote counted for nothing, and it could not be let in again with it.
#[test]
fn a_device_that_was_shut_out_comes_back_with_what_it_had_not_sent() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    phone.put(3, &json!({"title": "in the drawer"}));
    phone.put(5, &json!({"title": "of the phone", "edited": true}));
    let was = phone.space.device();
    laptop.writer.revoke(&[was]).unwrap();
    laptop.hear(&phone);
    assert_eq!(laptop.value(3), None, "it counts for nothing");
    phone.close();
    renew(dirs[1].path(), 4).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 5);
    meet(&mut laptop, &mut phone);
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert!(carried.is_done && carried.left.is_empty(), "{carried:?}");
    meet(&mut laptop, &mut phone);
    for device in [&laptop, &phone] {
        let letters = device.space.list(None, None, 100).unwrap().documents;
        assert_eq!(letters.len(), 4, "nothing is there twice");
        assert_eq!(device.value(3), Some(json!({"title": "in the drawer"})));
        let edited = json!({"title": "of the phone", "edited": true});
        assert_eq!(device.value(5), Some(edited));
    }
    laptop.close();
    phone.close();
}

/// Who lets the copy in again may let it read less than before. What it may not write any more is
/// named, and stays in the file that was set aside, where a later renewal finds it.
#[test]
fn what_cannot_be_carried_over_is_named_and_kept() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    let mut unit = UnitOfWork::new();
    unit.band(Band::Red);
    unit.put("notes", object(3), &json!({"title": "a secret"})).unwrap();
    phone.commit(unit).unwrap();
    let mut unit = UnitOfWork::new();
    unit.band(Band::Green);
    unit.put("notes", object(6), &json!({"title": "for all"})).unwrap();
    phone.commit(unit).unwrap();
    phone.close();
    renew(dirs[1].path(), 4).unwrap();
    let profile =
        Profile::open(world(5), dirs[1].path(), &unlock(), Access::ReadWrite, options("x"));
    let terms = Terms { clearance: Band::Green, ..own() };
    let mut phone = laptop.invite(profile.unwrap(), terms).unwrap();
    meet(&mut laptop, &mut phone);
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert_eq!((carried.is_done, carried.entries, carried.left.len()), (true, 1, 1));
    let left = &carried.left[0];
    assert!(left.what.contains("RED") || left.what.contains("Red"), "{}", left.what);
    assert!(dirs[1].path().join(&left.file).is_file());
    meet(&mut laptop, &mut phone);
    assert_eq!(laptop.value(6), Some(json!({"title": "for all"})));
    let file = dirs[1].path().join(&left.file);
    phone.close();
    still_left(&mut laptop, dirs[1].path());
    assert!(file.is_file());
    let mut phone = Device::open(dirs[1].path(), 12);
    phone.writer.leave_behind().unwrap();
    phone.close();
    purge(dirs[1].path()).unwrap();
    assert!(!file.is_file());
    laptop.close();
}

fn purge(dir: &Path) -> Result<crate::Purged> {
    Profile::purge(world(13), dir, &unlock(), None, &mut |_| {})
}

/// A routine purge took the file with what had been left behind, and so did a second renewal, after
/// which nothing told of it any more; the phone gave way to another one that had never seen it.
fn still_left(laptop: &mut Device, dir: &Path) {
    let refused = purge(dir).unwrap_err().to_string();
    assert!(refused.contains("could not be carried over"), "{refused}");
    renew(dir, 8).unwrap();
    let mut phone = joined_again(laptop, dir, 9);
    let to = laptop.space.device();
    meet(laptop, &mut phone);
    let refused = phone.writer.retire(to, false).unwrap_err().to_string();
    assert!(refused.contains("not carried over yet"), "{refused}");
    phone.writer.show().unwrap();
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert!(carried.is_done);
    assert_eq!(carried.left.len(), 1, "it is named still");
    let refused = phone.writer.retire(to, false).unwrap_err().to_string();
    assert!(refused.contains("could not be carried over"), "{refused}");
    phone.close();
    let refused = purge(dir).unwrap_err().to_string();
    assert!(refused.contains("could not be carried over"), "{refused}");
}

/// A tablet that had just been let in stood beside the phone, and had nothing yet: the phone had
/// all that it had. Another one had been off for a month. With either of them the phone took what
/// all the others had of its old log for what only it had, and wrote it once more.
#[test]
fn nothing_is_carried_over_after_hearing_only_who_has_little() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let tablet = Profile::create(world(3), dirs[2].path(), &unlock(), options("tablet")).unwrap();
    let mut tablet = laptop.invite(tablet, own()).unwrap();
    let mut phone = Device::open(dirs[1].path(), 4);
    meet(&mut laptop, &mut phone);
    tablet.hear(&laptop);
    phone.put(3, &json!({"title": "the laptop has it"}));
    laptop.hear(&phone);
    let Reply::Frontiers { acks, .. } = laptop.frontiers() else { panic!() };
    phone.writer.store_acks(&acks).unwrap();
    phone.put(6, &json!({"title": "nobody has it"}));
    phone.close();
    renew(dirs[1].path(), 5).unwrap();
    // Who lets it in does not have its last letter.
    let mut phone = joined_again(&mut tablet, dirs[1].path(), 6);
    let empty = tablet.profile.transport_id();
    phone.writer.show().unwrap();
    phone.space.shared.carrying().as_mut().unwrap().peers.insert(empty, Vec::new());
    let done = |phone: &mut Device| phone.writer.carry_over().unwrap().unwrap();
    assert!(!done(&mut phone).is_done, "it has nothing yet");
    meet(&mut tablet, &mut phone);
    let carried = done(&mut phone);
    // The laptop signed that it holds one of the two: that is as it was, and the other is its own.
    assert_eq!((carried.is_done, carried.created), (true, 1), "{carried:?}");
    assert!(phone.value(3).is_some());
    meet(&mut laptop, &mut phone);
    meet(&mut laptop, &mut phone);
    for n in [3, 6] {
        assert!(laptop.value(n).is_some(), "{n}");
    }
    let letters = laptop.space.list(None, None, 100).unwrap().documents;
    assert_eq!(letters.len(), 5, "nothing is there twice");
    for device in [laptop, tablet, phone] {
        device.close();
    }
}

/// A phone was shut out by a tablet which did not know that the laptop had edited a letter of the
/// phone's meanwhile, and adopted it. When the phone came back, with new keys, the letter was there
/// twice, and who erased the one had the other.
#[test]
fn what_somebody_adopted_is_not_carried_over_once_more() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let tablet = Profile::create(world(3), dirs[2].path(), &unlock(), options("tablet")).unwrap();
    let mut tablet = laptop.invite(tablet, own()).unwrap();
    let mut phone = Device::open(dirs[1].path(), 4);
    meet(&mut laptop, &mut phone);
    meet(&mut laptop, &mut tablet);
    let was = phone.space.device();
    phone.put(3, &json!({"title": "letter", "text": "one\n"}));
    phone.put(3, &json!({"title": "letter", "text": "one\ntwo\n"}));
    phone.put(6, &json!({"title": "nobody adopts it"}));
    laptop.hear(&phone);
    laptop.writer.show().unwrap();
    laptop.put(3, &json!({"title": "letter", "text": "one\ntwo\nthree\n"}));
    tablet.writer.revoke(&[was]).unwrap();
    meet(&mut laptop, &mut tablet);
    laptop.writer.show().unwrap();
    assert!(laptop.value(3).is_some() && laptop.value(6).is_none(), "one is adopted");
    phone.close();
    renew(dirs[1].path(), 5).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 6);
    meet(&mut laptop, &mut phone);
    phone.writer.show().unwrap();
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert_eq!((carried.is_done, carried.created, carried.edited), (true, 1, 0), "{carried:?}");
    meet(&mut laptop, &mut phone);
    for device in [&laptop, &phone] {
        let letters = device.space.list(None, None, 100).unwrap().documents;
        assert_eq!(letters.len(), 5, "nothing is there twice");
        assert_eq!(device.value(3).unwrap()["text"], "one\ntwo\nthree\n");
        assert!(device.value(6).is_some());
    }
    for device in [laptop, tablet, phone] {
        device.close();
    }
}

/// Grandma added a paragraph to a letter on her old phone, while a password was taken out of that
/// letter on the laptop. When the phone came back the paragraph was counted among edits of deleted
/// documents, and a purge removed the only file that had it.
#[test]
fn an_edit_of_a_letter_that_was_redacted_meanwhile_is_named() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    let text = "one\ntwo\nthree\nand a paragraph\n";
    phone.put(1, &json!({"title": "letter", "a": 0, "b": 0, "text": text}));
    phone.put(3, &json!({"title": "another"}));
    phone.close();
    let rest = laptop.writer.redact(object(1), &[vec!["a".to_owned()]]).unwrap().object;
    renew(dirs[1].path(), 4).unwrap();
    let mut phone = joined_again(&mut laptop, dirs[1].path(), 5);
    meet(&mut laptop, &mut phone);
    phone.writer.show().unwrap();
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert_eq!((carried.is_done, carried.created, carried.moot), (true, 1, 0), "{carried:?}");
    assert_eq!(carried.left.len(), 1, "{carried:?}");
    assert!(carried.left[0].what.contains(&rest.to_string()), "{carried:?}");
    phone.close();
    assert!(purge(dirs[1].path()).is_err(), "only the old file has it");
    laptop.close();
}

/// The disk refused one rename, amid a renewal, and the app went on. The old file could not be
/// found under its new name, all in it was given up for that, and the next purge removed it.
#[test]
fn an_old_copy_that_cannot_be_read_for_now_is_carried_over_later() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut laptop = household(&dirs);
    let mut phone = Device::open(dirs[1].path(), 3);
    phone.put(3, &json!({"title": "on the phone alone"}));
    phone.close();
    renew(dirs[1].path(), 4).unwrap();
    let profile =
        Profile::open(world(5), dirs[1].path(), &unlock(), Access::ReadWrite, options("x"));
    let profile = profile.unwrap();
    let invitation = laptop.profile.invite_on(&laptop.space, Vec::new(), own()).unwrap();
    let mut joining = profile.begin_join(invitation).unwrap();
    let (agreed, admission) = profile.ask_within(&mut joining, &laptop.profile, &[9; 32]).unwrap();
    laptop.writer.admit(admission.enrolment.clone()).unwrap();
    let reply = laptop.profile.welcome(&admission, &laptop.space).unwrap();
    let unmoved = |step| match step {
        Step::RenewedNamed => Err(io::Error::other("the disk refuses it")),
        _ => Ok(()),
    };
    let joined = hooked(unmoved, || profile.finish_join(joining, &agreed, &reply));
    assert!(joined.is_err());
    let mut phone = Device::of(profile);
    meet(&mut laptop, &mut phone);

    let aside = || {
        let spaces = fs::read_dir(dirs[1].path().join("spaces")).unwrap();
        let mut paths = spaces.map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_string_lossy().contains(".db.set-aside-1"))
    };
    assert!(aside().is_none(), "it has its old name");
    let hidden = dirs[1].path().join("elsewhere");
    assert!(!phone.writer.carry_step().unwrap(), "it is moved, and there is more to do");
    let file = aside().unwrap();
    fs::rename(&file, &hidden).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(phone.writer.carry_step().is_err(), "no file can be opened there");
    fs::remove_dir(&file).unwrap();
    fs::rename(&hidden, &file).unwrap();
    assert!(phone.writer.has_old_copy());
    let carried = phone.writer.carry_over().unwrap().unwrap();
    assert!(carried.is_done && carried.left.is_empty(), "{carried:?}");
    meet(&mut laptop, &mut phone);
    assert_eq!(laptop.value(3), Some(json!({"title": "on the phone alone"})));
    phone.close();
    laptop.close();
}
