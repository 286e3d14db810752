//! What is in the security log of a device, and that nobody else fills it.

use larder_engine::{SecurityKind, SecurityLog, Terms, Whose};
use larder_log::Band;
use larder_log::act::Role;
use larder_types::limits::{SECURITY_COUNTS_MAX, SECURITY_EVENTS_MAX};

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
    let (child_id, lost_id) = (child.space.device(), lost.space.device());
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
    assert_eq!((counts[0].count, counts[0].device, counts.len()), (3, Some(child_id), 1));
    child.pull(&founder);
    assert_eq!(of(&child, SecurityKind::RoleChanged), changed);
    // Its own app tries on.
    assert!(matches!(put(&mut child, 4), Err(Error::MayNotWrite(_))));
    assert!(of(&child, SecurityKind::WriteRefused).contains(&refused));

    let rotated = of(&founder, SecurityKind::Rotated).len();
    founder.writer.revoke(&[lost_id]).unwrap();
    put(&mut founder, 9).unwrap();
    child.pull(&founder);
    for device in [&founder, &child] {
        assert_eq!(of(device, SecurityKind::Revoked), [(Some(lost_id), String::new())]);
    }
    assert_eq!(of(&founder, SecurityKind::Rotated).len(), rotated + 1);
    assert_eq!(of(&founder, SecurityKind::Rotated)[rotated].0, Some(founder.space.device()));
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
