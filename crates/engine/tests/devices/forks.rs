//! Logs with two histories, between devices that converse as they do over a network.

use std::collections::VecDeque;
use std::fs;

use larder_engine::Mode;
use larder_log::{ForkProof, Payload};
use larder_protocol::{Config, Event, Fork, Session};
use larder_types::DeviceId;

use super::*;

/// One side of a conversation.
struct Side<'d> {
    device: &'d mut Device,
    session: Session,
    events: Vec<Event>,
}

impl<'d> Side<'d> {
    fn new(device: &'d mut Device, peer: TransportId) -> Self {
        let (me, peer) = (device.space.device(), device.space.peer_device(&peer));
        let session = Session::new(Config::new(me), device.space.id(), peer, [1; 32]);
        Self { device, session, events: Vec::new() }
    }

    /// Does all that there is to do without the peer; whether there was anything.
    fn step(&mut self, peer: TransportId, arrived: &mut VecDeque<Vec<u8>>) -> bool {
        let mut is_busy = false;
        while let Some(request) = self.session.poll_request() {
            let reply = match self.device.space.answer(&peer, request) {
                Answer::Reply(reply) => reply,
                Answer::Write(task) => self.device.writer.answer(task).reply,
            };
            self.session.handle_reply(Timestamp(0), reply);
            is_busy = true;
        }
        if self.session.wants_frame()
            && let Some(frame) = arrived.pop_front()
        {
            self.session.handle_frame(Timestamp(0), &frame);
            is_busy = true;
        }
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        is_busy
    }
}

/// What both have is exchanged; what happened on each side.
fn converse(one: &mut Device, other: &mut Device) -> [Vec<Event>; 2] {
    converse_while(one, other, |_, _| {})
}

/// The same, and once both have everything, `meanwhile` happens and they go on.
fn converse_while(
    one: &mut Device,
    other: &mut Device,
    meanwhile: impl FnOnce(&mut Device, &mut Device),
) -> [Vec<Event>; 2] {
    let ids = [one.profile.transport_id(), other.profile.transport_id()];
    let mut sides = [Side::new(one, ids[1]), Side::new(other, ids[0])];
    exchange(&mut sides, ids);
    let [one, other] = &mut sides;
    meanwhile(one.device, other.device);
    for side in &mut sides {
        side.session.handle_local_commit(Timestamp(0));
        side.session.handle_timeout(Timestamp(1000));
    }
    exchange(&mut sides, ids);
    sides.map(|side| side.events)
}

fn exchange(sides: &mut [Side<'_>; 2], ids: [TransportId; 2]) {
    let mut under_way = [VecDeque::new(), VecDeque::new()];
    loop {
        let mut is_busy = false;
        for me in [0, 1] {
            is_busy |= sides[me].step(ids[1 - me], &mut under_way[me]);
            while let Some(frame) = sides[me].session.poll_transmit() {
                under_way[1 - me].push_back(frame);
                is_busy = true;
            }
        }
        if !is_busy {
            return;
        }
    }
}

fn open(dir: &Path, seed: u64) -> Device {
    let options = ProfileOptions::default();
    let profile = Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options).unwrap();
    let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    Device { profile, space, writer: writer.unwrap() }
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

/// Closes a device and opens it twice: as it is, and as a copy.
fn copied(device: Device, from: &Path, to: &Path) -> (Device, Device) {
    let Device { profile, space, mut writer } = device;
    writer.close().unwrap();
    drop(writer);
    space.close().unwrap();
    drop(space);
    profile.close().unwrap();
    drop(profile);
    copy(from, to);
    (open(from, 20), open(to, 21))
}

/// Two copies of the founder of a space, and two other devices that have what it had.
fn household(dirs: &[tempfile::TempDir]) -> (Device, Device, [Device; 2]) {
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut others =
        [(dirs[1].path(), 2), (dirs[2].path(), 3)].map(|(dir, seed)| founder.invite(dir, seed));
    for other in &mut others {
        converse(&mut founder, other);
    }
    let (one, two) = copied(founder, dirs[0].path(), dirs[3].path());
    (one, two, others)
}

/// Whose logs the device can prove to have two histories.
fn proven(device: &Device) -> Vec<DeviceId> {
    let Reply::Frontiers { forks, .. } = device.frontiers() else { unreachable!() };
    let check = |fork: &Fork| {
        let proven = ForkProof::check(&fork.evidence, &device.space.id());
        assert_eq!(proven, Some(fork.device));
        fork.device
    };
    forks.iter().map(check).collect()
}

fn knows(device: &Device, other: DeviceId) -> bool {
    device.space.devices().unwrap().iter().any(|known| known.device == other)
}

/// A simulated run in which a profile was copied and both copies were used: one of them let a
/// device in. Who held the other copy's history could never learn of that, refused the newcomer
/// and all who had its entries in their past, and ended each session with them: devices that had
/// done nothing wrong stayed apart for ever.
#[test]
fn who_was_let_in_by_one_of_two_copies_is_known_to_those_who_follow_the_other() {
    let dirs: Vec<_> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut late = founder.invite(dirs[1].path(), 2);
    founder.put(object(1), &json!({"n": 1}));
    let mut left = founder.invite(dirs[2].path(), 3);
    let mut right = founder.invite(dirs[3].path(), 4);
    founder.put(object(2), &json!({"n": 2}));
    for other in [&mut left, &mut right] {
        converse(&mut founder, other);
    }
    let forked = founder.space.device();
    let (mut one, mut two) = copied(founder, dirs[0].path(), dirs[4].path());

    one.put(object(3), &json!({"n": 3}));
    converse(&mut one, &mut left);
    let mut newcomer = two.invite(dirs[5].path(), 5);
    newcomer.put(object(4), &json!({"n": 4}));
    for other in [&mut two, &mut newcomer] {
        converse(other, &mut right);
    }
    // This names the newcomer's entry, so that nobody takes it who does not take that.
    right.put(object(5), &json!({"n": 5}));

    for _ in 0..2 {
        for events in converse(&mut left, &mut right) {
            let is_fault = |event: &Event| {
                matches!(
                    event,
                    Event::Closed { .. } | Event::Refused { code: CloseCode::BadBatch, .. }
                )
            };
            assert!(!events.iter().any(is_fault), "{events:?}");
        }
    }
    assert!(knows(&left, newcomer.space.device()));
    for n in [4, 5] {
        assert_eq!(left.value(object(n)), json!({"n": n}));
    }
    // From then on they need nobody between them.
    left.put(object(6), &json!({"n": 6}));
    converse(&mut left, &mut newcomer);
    assert_eq!(newcomer.value(object(6)), json!({"n": 6}));
    for device in [&left, &right, &newcomer] {
        assert_eq!(proven(device), [forked]);
    }

    // It knew of the fork before it had all of the history that both copies share.
    for _ in 0..2 {
        converse(&mut late, &mut right);
    }
    assert_eq!(proven(&late), [forked]);
    for n in [1, 2, 4, 5] {
        assert_eq!(late.value(object(n)), json!({"n": n}));
    }
    let late_id = late.space.device();
    drop(late);
    let late = open(dirs[1].path(), 22);
    assert_eq!(late.space.device(), late_id);
    drop(left);
    let left = open(dirs[2].path(), 23);
    assert!(knows(&left, newcomer.space.device()), "it forgot when it was closed");
}

/// A device that one of two copies let in, and that met only those who follow the other, heard of
/// its own enrolment beside the proof. Its first entry named the history that it held, not its
/// enrolment, and was refused by everybody, with all that it wrote later.
#[test]
fn a_newcomer_names_its_enrolment_where_it_holds_the_other_history() {
    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let (mut one, mut two, [mut left, mut right]) = household(&dirs);
    one.put(object(1), &json!({"n": 1}));
    converse(&mut one, &mut left);
    for n in 2..5 {
        two.put(object(n), &json!({"n": n}));
    }
    let mut newcomer = two.admit_in(dirs[4].path(), world(5));
    converse(&mut two, &mut right);
    for _ in 0..2 {
        converse(&mut left, &mut right);
    }
    for _ in 0..2 {
        converse(&mut newcomer, &mut left);
    }
    newcomer.put(object(9), &json!({"n": 9}));
    for other in [&mut left, &mut right] {
        converse(&mut newcomer, other);
        assert_eq!(other.value(object(9)), json!({"n": 9}));
    }
}

/// Who has the key of a device, and a proof that its log forked is known, adds nothing any more:
/// neither entries, nor enrolments in a history that nobody has seen.
#[test]
fn a_device_whose_log_forked_adds_nothing_any_more() {
    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut other = founder.invite(dirs[1].path(), 2);
    let forked = founder.space.device();
    let (mut one, mut two) = copied(founder, dirs[0].path(), dirs[2].path());
    copy(dirs[2].path(), dirs[3].path());
    one.put(object(1), &json!({"n": 1}));
    two.put(object(2), &json!({"n": 2}));
    converse(&mut one, &mut other);
    converse(&mut two, &mut other);
    assert_eq!(proven(&other), [forked]);
    let held = other.have()[&forked];
    let state = two.space.state().unwrap();
    assert_eq!(state.mode, Mode::ReadOnly);
    // Others reach for it again and again. It takes nothing, and that is no failure of its disk.
    other.put(object(5), &json!({"n": 5}));
    for events in converse(&mut two, &mut other) {
        assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. })), "{events:?}");
        assert!(events.contains(&Event::CaughtUp), "{events:?}");
    }

    // The first goes on, because it has not heard of it, and a third lets a stranger in.
    one.put(object(3), &json!({"n": 3}));
    let mut third = open(dirs[3].path(), 24);
    let stranger = third.invite(dirs[4].path(), 5);
    for copy in [&mut one, &mut third] {
        for _ in 0..2 {
            converse(copy, &mut other);
            assert_eq!(copy.space.state().unwrap().mode, Mode::ReadOnly);
        }
    }
    assert_eq!(other.have()[&forked], held);
    assert!(!knows(&other, stranger.space.device()));
    other.put(object(4), &json!({"n": 4}));
}

/// Two devices were talking when one of them heard from one copy of a profile, and one from the
/// other. What each handed on did not fit the log as the other had it: the session of two devices
/// that had done nothing wrong was closed with `BadBatch`, or, where both histories were as long,
/// nothing was noticed until later entries did not fit.
#[test]
fn two_histories_that_meet_in_a_session_are_proven_there_and_it_goes_on() {
    for (ours, theirs) in [(1, 1), (1, 3), (3, 1), (2, 2)] {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let (mut one, mut two, [mut left, mut right]) = household(&dirs);
        let forked = one.space.device();
        for n in 0..ours {
            one.put(object(10 + n), &json!({"n": n}));
        }
        for n in 0..theirs {
            two.put(object(20 + n), &json!({"n": n}));
        }
        let found = converse_while(&mut left, &mut right, |left, right| {
            left.pull(&one);
            right.pull(&two);
            left.put(object(1), &json!({"by": "left"}));
            right.put(object(2), &json!({"by": "right"}));
        });
        let is_fault = |event: &Event| matches!(event, Event::Closed { .. });
        assert!(!found.iter().flatten().any(is_fault), "{ours} {theirs}: {found:?}");
        let is_found =
            |event: &Event| matches!(event, Event::Forked(fork) if fork.device == forked);
        assert!(found.iter().flatten().any(is_found), "{ours} {theirs}: {found:?}");
        for _ in 0..2 {
            converse(&mut left, &mut right);
        }
        for device in [&left, &right] {
            assert_eq!(proven(device), [forked], "{ours} {theirs}");
            for (n, by) in [(1, "left"), (2, "right")] {
                assert_eq!(device.value(object(n)), json!({"by": by}), "{ours} {theirs}");
            }
        }
    }
}

/// A simulated device lacked a section of a log with two histories, and asked another for it by its
/// number. That one held the other history, and what it had of that number was taken for a lie: the
/// session of two devices that had done nothing wrong was closed. It was again where the one that
/// asked had not heard of the other history yet.
#[test]
fn bytes_of_the_other_history_are_of_no_use_and_accuse_nobody() {
    for is_told in [false, true] {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let (mut one, mut two, [mut left, mut right]) = household(&dirs);
        let forked = one.space.device();
        one.put(object(10), &json!({"of": "one"}));
        two.put(object(20), &json!({"of": "two"}));
        let peer = left.profile.transport_id();
        for mut batch in super::peers::batches(&one, peer, &left.epochs()) {
            for payload in batch.entries.iter_mut().flat_map(|entry| &mut entry.payloads) {
                *payload = Payload::Missing;
            }
            if batch.size() > left.have().get(&batch.device).copied().unwrap_or(0) {
                left.writer.apply(batch).unwrap();
            }
        }
        right.pull(&two);
        if is_told {
            let found = converse(&mut left, &mut right);
            let is_fault = |event: &Event| matches!(event, Event::Closed { .. });
            assert!(!found.iter().flatten().any(is_fault), "{found:?}");
        }
        assert_eq!(proven(&left).contains(&forked), is_told);
        let want = left.wanted().expect("it lacks a section");
        let supply = left.supply_of(&right, &want);
        assert!(!supply.sections.is_empty(), "the other has one of that number");
        assert!(!left.writer.take_supply(&supply).unwrap().progress);
        left.fill(&one);
        assert_eq!(left.value(object(10)), json!({"of": "one"}));
    }
}

/// Of a batch that begins where the histories have parted already nothing can be shown. It was
/// refused as what no honest device sends, and it is what one sends that was told of a number.
#[test]
fn what_follows_another_history_is_not_taken_and_accuses_nobody() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut other = founder.invite(dirs[1].path(), 2);
    converse(&mut founder, &mut other);
    let (mut one, mut two) = copied(founder, dirs[0].path(), dirs[2].path());
    one.put(object(1), &json!({"n": 1}));
    other.pull(&one);
    for n in 2..4 {
        two.put(object(n), &json!({"n": n}));
    }
    let read = |have| {
        let me = other.profile.transport_id();
        let epochs = other.epochs();
        let request =
            Request::ReadBatch { after: Position::default(), have, epochs, bytes_target: 1 << 20 };
        let Reply::Batch { batch: Some(batch), .. } = ask(&two.space, &me, request) else {
            unreachable!()
        };
        *batch
    };
    let (batch, mut from_the_start) = (read(other.have()), read(BTreeMap::new()));
    let (size, device) = (other.have()[&batch.device], batch.device);
    assert_eq!(batch.first_seq, size + 1, "behind where they part");
    let mut garbage = batch.clone();
    let Err(Error::Refused { code, .. }) = other.writer.apply(batch) else { panic!("taken") };
    assert_eq!(code, CloseCode::Gap);
    assert_eq!(proven(&other), []);
    // And what no honest device sends is refused as ever.
    garbage.entries[0].header[0] ^= 1;
    let Err(Error::Refused { code, .. }) = other.writer.apply(garbage) else { panic!("taken") };
    assert_eq!(code, CloseCode::BadBatch);
    from_the_start.signature[0] ^= 1;
    assert!(from_the_start.first_seq == 1 && from_the_start.size() > size);
    let refused = other.writer.apply(from_the_start);
    let Err(Error::Refused { code, .. }) = refused else { panic!("taken") };
    assert_eq!(code, CloseCode::BadBatch);
    assert_eq!(other.have()[&device], size);
}

/// A device that had heard of two histories took an edit before the part of the log, shared by
/// both, with the edit that it builds on. Nothing was wrong with it, and a check said that there
/// was: it made the document again in the order in which its sections had come, without the edit,
/// and a repair left it so. Seed 21001 of simulated runs.
#[test]
fn a_check_makes_documents_whose_edits_came_first() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut late = founder.invite(dirs[1].path(), 2);
    let mut right = founder.invite(dirs[2].path(), 3);
    converse(&mut founder, &mut late);
    for n in 1..3 {
        founder.put(object(1), &json!({"n": n}));
    }
    converse(&mut founder, &mut right);
    let forked = founder.space.device();
    let (mut one, mut two) = copied(founder, dirs[0].path(), dirs[3].path());
    for (copy, n) in [(&mut one, 8), (&mut two, 9)] {
        copy.put(object(n), &json!({"n": n}));
        converse(copy, &mut right);
    }
    right.put(object(1), &json!({"n": 3}));

    let (me, peer) = (late.profile.transport_id(), right.profile.transport_id());
    let Reply::Frontiers { forks, .. } = right.frontiers() else { unreachable!() };
    let request = Request::CheckFrontiers { logs: Vec::new(), forks };
    let Answer::Write(task) = late.space.answer(&peer, request) else { panic!("no news") };
    late.writer.answer(task);
    assert_eq!(proven(&late), [forked]);
    let mut have = late.have();
    have.insert(forked, u64::MAX);
    let (epochs, after) = (late.epochs(), Position::default());
    let request = Request::ReadBatch { after, have, epochs, bytes_target: 1 << 20 };
    let Reply::Batch { batch: Some(edit), .. } = ask(&right.space, &me, request) else {
        unreachable!()
    };
    late.writer.apply(*edit).unwrap();
    assert!(late.space.document(&object(1)).unwrap().is_none());
    late.pull(&right);
    assert_eq!(late.value(object(1)), json!({"n": 3}));
    for repair in [false, true] {
        let mut checking = larder_engine::Checking::new(repair);
        while !late.writer.check_step(&mut checking).unwrap() {}
        assert_eq!(checking.report().findings, []);
        assert_eq!(late.value(object(1)), json!({"n": 3}));
    }
}

/// Found by the simulator: both copies of a phone were used before it was shut out. No proof was
/// kept of a device that is none of the space's any more, so that two honest devices, each of which
/// builds on one of its histories, refused each other's logs for ever.
#[test]
fn two_histories_of_a_device_that_was_shut_out_hold_up_nobody() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let (mut one, mut two, [mut b, mut c]) = household(&dirs);
    one.put(object(1), &json!({"of": "one"}));
    two.put(object(2), &json!({"of": "two"}));
    converse(&mut one, &mut b);
    converse(&mut two, &mut c);
    b.writer.revoke(&[one.space.device()]).unwrap();
    b.put(object(3), &json!({"of": "b"}));
    c.put(object(4), &json!({"of": "c"}));
    converse(&mut b, &mut c);
    converse(&mut b, &mut c);
    for device in [&b, &c] {
        assert_eq!(proven(device), [one.space.device()]);
        assert!(device.space.document(&object(3)).unwrap().is_some());
        assert!(device.space.document(&object(4)).unwrap().is_some());
    }
}
