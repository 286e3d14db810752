//! What is in the security log of a device, and that nobody else fills it.

use larder_engine::{SecurityKind, SecurityLog, Terms, Whose};
use larder_log::Band;
use larder_log::act::Role;
use larder_types::limits::{SECURITY_BRANCH_MAX, SECURITY_COUNTS_MAX, SECURITY_EVENTS_MAX};

use super::*;

const WRITER: Terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Red };

fn put(device: &mut Device, n: u8) -> Result<Receipt> {
    let mut unit = UnitOfWork::new();
    unit.put("notes", ObjectId::new([n; 16]), &json!({ "n": n })).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
}

fn log(device: &Device) -> SecurityLog {
    device.profile.security().unwrap()
}

fn of(device: &Device, kind: SecurityKind) -> Vec<(Option<larder_types::DeviceId>, String)> {
    let events = log(device).events.into_iter().filter(|event| event.kind == kind);
    events.map(|event| (event.device, event.detail)).collect()
}

#[test]
fn who_came_went_and_wrote_what_he_might_not_is_in_the_log() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut child = founder.invite_on(dirs[1].path(), 2, WRITER);
    let mut lost = founder.invite_on(dirs[2].path(), 3, WRITER);
    child.pull(&founder);
    let [founder_id, child_id, lost_id] =
        [&founder, &child, &lost].map(|device| device.space.device());
    let came = |id| (Some(id), "writer, red".to_owned());
    assert_eq!(of(&founder, SecurityKind::Enrolled), [came(child_id), came(lost_id)]);
    // To a device that has just joined, all others are new.
    assert_eq!(of(&child, SecurityKind::Enrolled), [came(lost_id)]);
    assert_eq!(of(&lost, SecurityKind::Enrolled), []);

    // The child is made a reader, and writes before it hears of that.
    founder.writer.change_role(child_id, Role::Reader, Band::Amber).unwrap();
    (1..=3).for_each(|n| drop(put(&mut child, n).unwrap()));
    founder.pull(&child);
    let changed = [(Some(child_id), "reader, amber".to_owned())];
    assert_eq!(of(&founder, SecurityKind::RoleChanged), changed);
    let refused = (Some(child_id), "role".to_owned());
    assert_eq!(of(&founder, SecurityKind::WriteRefused).first(), Some(&refused));
    let counts = log(&founder).counts;
    let refusals = counts.iter().filter(|it| it.kind == SecurityKind::WriteRefused);
    let refusals: Vec<_> = refusals.map(|it| (it.count, it.device)).collect();
    assert_eq!(refusals, [(3, Some(child_id))]);
    child.pull(&founder);
    assert_eq!(of(&child, SecurityKind::RoleChanged), changed);
    // Its own app tries on.
    assert!(matches!(put(&mut child, 4), Err(Error::MayNotWrite(_))));
    assert!(of(&child, SecurityKind::WriteRefused).contains(&refused));

    let rotated = |device: &Device| {
        let founder = Some(founder_id);
        let counts = log(device).counts.into_iter();
        let of = counts.filter(|it| (it.kind, it.device) == (SecurityKind::Rotated, founder));
        of.map(|it| it.count).sum::<u64>()
    };
    let before = rotated(&founder);
    founder.writer.revoke(&[lost_id]).unwrap();
    put(&mut founder, 9).unwrap();
    child.pull(&founder);
    for device in [&founder, &child] {
        assert_eq!(of(device, SecurityKind::Revoked), [(Some(lost_id), String::new())]);
    }
    assert_eq!(rotated(&founder), before + 1);
    assert!(of(&founder, SecurityKind::Rotated).iter().all(|(by, _)| *by == Some(founder_id)));
    put(&mut lost, 5).unwrap();

    // It is all there after a restart, and what was seen is not new.
    let (events, summary) = (log(&founder).events, founder.profile.security_summary(2).unwrap());
    assert_eq!((summary.new, summary.latest.len()), (events.len() as u64, 2));
    assert_eq!(summary.latest[0].seq, events.last().unwrap().seq);
    founder.profile.security_seen().unwrap();
    assert_eq!(founder.profile.security_summary(2).unwrap().new, 0);
    founder.close().unwrap();
    let options = ProfileOptions::default();
    let reader = Access::ReadOnly;
    let profile = Profile::open(world(9), dirs[0].path(), &unlock(), reader, options).unwrap();
    assert_eq!(profile.security().unwrap().events, events);
    assert!(matches!(profile.security_seen(), Err(Error::ReadOnly)));
}

#[test]
fn what_anybody_can_repeat_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let founder = Device::found(dir.path(), 1);
    let mut written = 0;
    for _ in 0..5000 {
        if founder.profile.count_refusal("a stranger") {
            founder.profile.write_security_counts();
            written += 1;
        }
    }
    assert_eq!(written, 13);
    let counts = |device: &Device| {
        let counts = log(device).counts.into_iter();
        counts.map(|count| (count.detail, count.count)).collect::<Vec<_>>()
    };
    assert_eq!(counts(&founder), [("a stranger".to_owned(), 5000)]);
    founder.close().unwrap();
    // What was not written yet is when the profile is closed, and it goes on from there.
    let reopen = || {
        let options = ProfileOptions::default();
        let opened = Profile::open(world(7), dir.path(), &unlock(), Access::ReadWrite, options);
        let profile = opened.unwrap();
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        Device { profile, space, writer: writer.unwrap() }
    };
    let founder = reopen();
    assert!(founder.profile.count_refusal("a stranger"));
    founder.profile.write_security_counts();
    assert!(!founder.profile.count_refusal("a stranger"));
    founder.close().unwrap();
    let founder = reopen();
    assert_eq!(counts(&founder), [("a stranger".to_owned(), 5002)]);
    let times: Vec<u64> = log(&founder).events.iter().map(|event| event.count).collect();
    assert_eq!(times, (0..13).map(|n| 1 << n).collect::<Vec<u64>>());

    // One that never says the same twice.
    for n in 0..3 * SECURITY_COUNTS_MAX {
        if founder.profile.count_refusal(&format!("reason {n}")) {
            founder.profile.write_security_counts();
        }
    }
    let SecurityLog { counts, events, dropped } = log(&founder);
    let others = counts.iter().find(|count| count.detail == "and others").unwrap();
    assert!(others.count > 2 * SECURITY_COUNTS_MAX - 3, "{others:?}");
    assert!(counts.len() as u64 <= SECURITY_COUNTS_MAX + 1, "{}", counts.len());
    assert!((events.len() as u64) < SECURITY_COUNTS_MAX + 40 && dropped == 0, "{}", events.len());
}

#[test]
fn of_too_many_events_the_oldest_go_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let founder = Device::found(dir.path(), 1);
    for n in 0..SECURITY_EVENTS_MAX + 100 {
        founder.space.note_export(&n.to_string());
    }
    let SecurityLog { events, dropped, .. } = log(&founder);
    assert_eq!((events.len() as u64, dropped), (SECURITY_EVENTS_MAX, 100));
    assert_eq!(events[0].detail, "100");
    founder.profile.check().unwrap();
}

/// An admin's device that somebody else holds by now shuts the founder's phone out and then opens
/// epochs, lets puppets in and gives them roles by the hundreds: that the phone was shut out was
/// gone from the bounded log of everybody else, behind what that device did.
#[test]
fn what_one_device_does_again_and_again_does_not_push_out_what_others_did() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let admin = Terms { role: Role::Admin, ..WRITER };
    let mut thief = founder.invite_on(dirs[1].path(), 2, admin);
    let phone = founder.invite_on(dirs[2].path(), 3, WRITER);
    thief.pull(&founder);
    let [thief_id, phone_id] = [&thief, &phone].map(|device| device.space.device());
    let before = log(&founder).events.len();
    thief.writer.revoke(&[phone_id]).unwrap();
    founder.pull(&thief);
    let puppet = thief.invite_on(dirs[3].path(), 4, WRITER).space.device();
    let bands = [Band::Green, Band::Red];
    for n in 0..40 {
        // Each of them opens an epoch as well.
        thief.writer.change_role(puppet, Role::Writer, bands[n % 2]).unwrap();
        if n % 20 == 0 {
            founder.pull(&thief);
        }
    }
    founder.pull(&thief);
    let SecurityLog { events, counts, .. } = log(&founder);
    assert!(events.len() - before < 30, "{}", events.len());
    assert_eq!(of(&founder, SecurityKind::Revoked), [(Some(phone_id), String::new())]);
    let of_thief = (SecurityKind::Rotated, Some(thief_id));
    let opened = counts.iter().find(|it| (it.kind, it.device) == of_thief).unwrap();
    assert!(opened.count > 40, "{opened:?}");
    founder.profile.check().unwrap();
}

/// As many puppets as there is room for, of one admin by way of each other. They are told apart up
/// to a bound, and who is let in by somebody else is told of as ever.
#[test]
fn puppets_of_one_device_leave_room_for_who_comes_by_another() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let admin = Terms { role: Role::Admin, ..WRITER };
    let mut thief = founder.invite_on(dirs[1].path(), 2, admin);
    let thief_id = thief.space.device();
    let mut last = None;
    for n in 0..SECURITY_BRANCH_MAX as u64 + 3 {
        let dir = tempfile::tempdir().unwrap();
        let mut puppet = match last.as_mut() {
            Some((by, _)) if n % 10 == 0 => Device::invite_on(by, dir.path(), 10 + n, admin),
            _ => thief.invite_on(dir.path(), 10 + n, admin),
        };
        founder.pull(&puppet);
        thief.pull(&puppet);
        puppet.pull(&thief);
        last = Some((puppet, dir));
    }
    let enrolled = of(&founder, SecurityKind::Enrolled);
    let others = (Some(thief_id), "and others that it let in".to_owned());
    assert!(enrolled.contains(&others));
    let told = enrolled.iter().filter(|one| **one != others).count();
    assert_eq!(told, SECURITY_BRANCH_MAX + 1, "and the thief's own device");
    let honest = founder.invite_on(dirs[2].path(), 3, WRITER).space.device();
    let came = (Some(honest), "writer, red".to_owned());
    assert_eq!(of(&founder, SecurityKind::Enrolled).last(), Some(&came));
}
