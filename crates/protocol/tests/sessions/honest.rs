use larder_protocol::{Event, Frame, Request};
use larder_types::limits::{BATCHES_IN_FLIGHT_MAX, PUSH_COALESCE_MS};
use larder_types::{CloseCode, Timestamp};
use proptest::prelude::*;

use crate::world::{SPACE, Step, Store, World};

const PAIR: &[(usize, usize)] = &[(0, 1)];
const RING: &[(usize, usize)] = &[(0, 1), (1, 2), (2, 0)];

fn two_with_history() -> World {
    let mut world = World::new(2, &[]);
    for (store, entries) in [(0, 3), (1, 1), (0, 1), (1, 5), (0, 2)] {
        world.commit(store, entries, 100);
    }
    world
}

fn received(events: &[Event]) -> usize {
    let entries = |event: &Event| match event {
        Event::Received { entries, .. } => *entries,
        _ => 0,
    };
    events.iter().map(entries).sum()
}

#[test]
fn two_devices_come_to_hold_the_same_and_know_it() {
    let mut world = two_with_history();
    world.connect(0, 1);
    world.finish();
    world.assert_converged();
    let [first, second] = &world.links[0];
    assert!(first.caught_up() && second.caught_up());
    assert_eq!((received(&first.events), received(&second.events)), (6, 6));
    // Each knows that the other holds it.
    for store in &world.stores {
        let mut ackers: Vec<_> = store.acks.keys().collect();
        ackers.sort();
        assert_eq!(ackers.len(), 2, "{ackers:?}");
    }
    assert_eq!(world.stores[0].repeated + world.stores[1].repeated, 0);
}

#[test]
fn devices_with_nothing_are_caught_up_at_once() {
    let mut world = World::new(2, PAIR);
    world.finish();
    assert!(world.links[0].iter().all(super::world::End::caught_up));
}

#[test]
fn a_commit_is_pushed_within_20_ms_and_others_go_with_it() {
    let mut world = two_with_history();
    world.connect(0, 1);
    world.finish();
    for (writer, reader) in [(0, 1), (1, 0)] {
        let began = world.now;
        world.commit(writer, 1, 10);
        world.commit(writer, 1, 10);
        world.settle();
        assert_ne!(world.stores[0].frontier(), world.stores[1].frontier(), "not before its time");
        let at = world.links[0][writer].session.poll_timeout().unwrap();
        assert!(at.0 - began.0 <= PUSH_COALESCE_MS && at.0 - began.0 >= PUSH_COALESCE_MS / 2);
        world.advance(at);
        world.settle();
        world.assert_converged();
        assert!(world.links[0][writer].session.is_caught_up());
        assert_eq!(world.links[0][reader].events.last(), Some(&Event::CaughtUp));
        world.finish();
    }
    // Idle: no timer, nothing to send.
    assert!(world.links[0].iter().all(|end| end.session.poll_timeout().is_none()));
}

#[test]
fn one_pass_ends_when_both_are_equal_and_loses_nothing() {
    let mut world = two_with_history();
    world.connect(0, 1);
    // The first to be caught up closes at once, whatever the other still has in hand.
    for closer in 0..2 {
        let link = world.connect(0, 1);
        while !world.links[link][closer].caught_up() {
            for side in [closer, 1 - closer] {
                for step in [Step::Transmit, Step::Deliver, Step::Answer] {
                    world.step(link, side, step);
                }
            }
        }
        world.links[link][closer].session.close(CloseCode::Done, "");
        world.finish();
        world.assert_converged();
        let ends = &world.links[link];
        assert_eq!(ends[closer].closed(), Some((CloseCode::Done, false)));
        assert_eq!(ends[1 - closer].closed(), Some((CloseCode::Done, true)));
        assert!(ends[1 - closer].caught_up());
        let acks = |store: &Store| store.acks.clone();
        assert_eq!(acks(&world.stores[0]), acks(&world.stores[1]));
        world.commit(closer, 1, 10);
    }
}

/// A connection is cut after its first frame, after its second, and so on to its last: each time
/// the next session goes on from what was durable, and sends nothing of that again (which
/// `World` asserts at each frame).
#[test]
fn a_session_cut_anywhere_is_resumed() {
    let mut uncut = two_with_history();
    uncut.connect(0, 1);
    uncut.finish();
    assert!(uncut.delivered > 10);
    for frames in 0..=uncut.delivered {
        for finishes in [false, true] {
            let mut world = two_with_history();
            world.connect(0, 1);
            'cut: loop {
                for side in 0..2 {
                    for step in [Step::Transmit, Step::Deliver, Step::Answer] {
                        if world.delivered >= frames {
                            break 'cut;
                        }
                        world.step(0, side, step);
                    }
                }
            }
            world.cut(0, finishes);
            world.commit(1, 1, 10);
            world.connect(0, 1);
            world.finish();
            world.assert_converged();
            assert_eq!(world.stores[0].repeated + world.stores[1].repeated, 0);
        }
    }
}

#[test]
fn three_devices_in_a_ring_do_not_disturb_each_other() {
    let mut world = World::new(3, RING);
    for round in 0..5 {
        for store in 0..3 {
            world.commit(store, 1 + (round + store) % 3, 50);
        }
        world.finish();
        world.assert_converged();
    }
    for end in world.links.iter().flatten() {
        assert_eq!(end.closed(), None, "{:?}", end.events.last());
    }
    // Everybody learned what everybody holds: each of three of the two others' logs.
    let acks: Vec<_> = world.stores.iter().map(|store| store.acks.clone()).collect();
    assert_eq!(acks[0].len(), 6);
    assert!(acks.iter().all(|other| *other == acks[0]));
}

#[test]
fn what_a_third_device_wrote_is_passed_on() {
    let mut world = World::new(3, &[(0, 1)]);
    world.commit(0, 2, 50);
    world.finish();
    let link = world.connect(1, 2);
    world.finish();
    world.assert_converged();
    // And on again while the sessions are open.
    world.commit(0, 1, 50);
    world.commit(2, 1, 50);
    world.finish();
    world.assert_converged();
    assert!(world.links[link][1].session.is_caught_up());
}

#[test]
fn a_slow_store_holds_the_sender_back() {
    let mut world = World::new(2, &[]);
    for _ in 0..20 {
        world.commit(0, 1, 10);
    }
    world.connect(0, 1);
    // Device 2 answers nothing but the questions that begin a session.
    loop {
        let waits = |request: &Request| matches!(request, Request::Apply { .. });
        let mut any = false;
        for (side, step) in [
            (0, Step::Deliver),
            (0, Step::Answer),
            (0, Step::Transmit),
            (1, Step::Deliver),
            (1, Step::Transmit),
        ] {
            any |= world.step(0, side, step);
        }
        if !world.links[0][1].requests.front().is_some_and(waits) {
            any |= world.step(0, 1, Step::Answer);
        }
        if !any {
            break;
        }
    }
    let [first, second] = &world.links[0];
    assert!(!second.session.wants_frame());
    let batches = second.requests.iter().filter(|r| matches!(r, Request::Apply { .. })).count();
    assert_eq!(batches, 1, "one at a time");
    // In flight, in the transport, and made ready: no more.
    let under_way = second.inbox.len() + BATCHES_IN_FLIGHT_MAX + 2;
    let sent = first.events.iter().filter(|e| matches!(e, Event::Sent { .. })).count();
    assert!(sent <= under_way, "{sent}");
    world.finish();
    world.assert_converged();
}

#[test]
fn a_log_that_is_refused_holds_up_no_other() {
    let mut world = World::new(3, &[(0, 1)]);
    world.commit(0, 1, 10);
    world.finish();
    world.commit(1, 1, 10);
    let stranger = world.stores[0].me;
    world.stores[2].refuses.insert(stranger);
    let link = world.connect(1, 2);
    world.finish();
    assert!(world.links[link].iter().all(super::world::End::caught_up));
    let sizes = world.stores[2].sizes();
    assert_eq!(sizes.get(&world.stores[1].me), Some(&1));
    assert_eq!(sizes.get(&stranger).copied().unwrap_or(0), 0);
    let events = &world.links[link][1].events;
    assert!(
        events.iter().any(|e| matches!(e, Event::Refused { device, .. } if *device == stranger))
    );
    // More of it in this session is not even asked for.
    world.commit(0, 1, 10);
    world.finish();
    assert!(world.links[link].iter().all(|end| end.session.is_caught_up()));
}

// A device refused a log that built on what it had not heard of, got both from a third, and kept
// the log to itself in that session: what it wrote next built on it and was refused in turn. A
// simulated run showed it.
#[test]
fn a_log_that_was_refused_is_passed_on_once_it_came_by_another_way() {
    let mut world = World::new(3, &[(0, 1)]);
    world.commit(0, 1, 10);
    world.finish();
    world.links.clear();
    let stranger = world.stores[0].me;
    world.stores[2].refuses.insert(stranger);
    let link = world.connect(1, 2);
    world.finish();
    let refused = |event: &Event| matches!(event, Event::Refused { .. });
    assert!(world.links[link][1].events.iter().any(refused));
    world.stores[2].refuses.clear();
    world.commit(0, 1, 10);
    world.connect(0, 2);
    world.finish();
    assert_eq!(world.stores[1].sizes().get(&stranger), Some(&2));
}

/// A profile was copied, or restored from an old backup, and both copies wrote on.
#[test]
fn a_forked_log_is_found_and_stopped_and_the_others_go_on() {
    let mut world = World::new(3, &[(0, 1), (0, 2)]);
    world.commit(0, 1, 10);
    world.finish();
    world.links.clear();
    let mut copy = world.stores[0].clone();
    world.stores[0].commit(1, 20);
    copy.commit(1, 30);
    world.connect(0, 1);
    world.finish();
    std::mem::swap(&mut world.stores[0], &mut copy);
    world.links.clear();
    world.connect(0, 2);
    world.finish();
    world.links.clear();
    world.commit(1, 1, 10);
    world.commit(2, 1, 10);
    let forked = world.stores[0].me;
    let link = world.connect(1, 2);
    world.finish();
    for end in &world.links[link] {
        assert!(end.caught_up() && end.closed().is_none());
        assert!(
            end.events.iter().any(|e| matches!(e, Event::Forked(fork) if fork.device == forked))
        );
    }
    let (one, two) = (world.stores[1].frontier(), world.stores[2].frontier());
    assert_ne!(one[&forked], two[&forked]);
    for device in [world.stores[1].me, world.stores[2].me] {
        assert_eq!(one[&device], two[&device]);
    }
}

#[test]
fn a_store_that_fails_ends_the_session_and_says_so() {
    let mut world = two_with_history();
    world.stores[1].is_full = true;
    let link = world.connect(0, 1);
    world.finish();
    assert_eq!(world.links[link][1].closed(), Some((CloseCode::Storage, false)));
    assert_eq!(world.links[link][0].closed(), Some((CloseCode::Storage, true)));
    assert!(!world.links[link].iter().any(super::world::End::caught_up));
}

#[test]
fn a_peer_that_says_nothing_is_given_up() {
    let mut world = two_with_history();
    world.connect(0, 1);
    world.step(0, 0, Step::Answer);
    let end = &mut world.links[0][0];
    let at = end.session.poll_timeout().unwrap();
    end.session.handle_timeout(Timestamp(at.0 - 1));
    assert!(!end.session.is_closed());
    end.session.handle_timeout(at);
    assert!(end.session.is_closed() && end.session.poll_timeout().is_none());
    let mut last = None;
    while let Some(frame) = end.session.poll_transmit() {
        last = Some(frame);
    }
    let last = Frame::decode(&last.unwrap(), &SPACE).unwrap();
    assert!(matches!(last, Frame::Close { code: CloseCode::TimedOut, .. }));
}

/// What happens next in a world, drawn by chance.
#[derive(Debug, Clone)]
enum Move {
    Step { link: usize, side: usize, step: Step },
    Commit { store: usize, entries: usize },
    Pass { ms: u64 },
    Cut { link: usize, finishes: bool },
}

fn moves(devices: usize, links: usize, count: usize) -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![Just(Step::Deliver), Just(Step::Answer), Just(Step::Transmit)];
    let one = prop_oneof![
        40 => (0..links, 0..2_usize, step)
            .prop_map(|(link, side, step)| Move::Step { link, side, step }),
        4 => (0..devices, 1..4_usize).prop_map(|(store, entries)| Move::Commit { store, entries }),
        3 => (0..30_u64).prop_map(|ms| Move::Pass { ms }),
        1 => (0..links, any::<bool>()).prop_map(|(link, finishes)| Move::Cut { link, finishes }),
    ];
    prop::collection::vec(one, 0..count)
}

fn run(devices: u8, links: &[(usize, usize)], moves: Vec<Move>) -> World {
    let mut world = World::new(devices, links);
    for next in moves {
        match next {
            Move::Step { link, side, step } => {
                world.step(link, side, step);
            }
            Move::Commit { store, entries } => world.commit(store, entries, 20),
            Move::Pass { ms } => world.advance(Timestamp(world.now.0 + ms)),
            Move::Cut { link, finishes } => {
                let ends = [world.links[link][0].store, world.links[link][1].store];
                world.cut(link, finishes);
                world.connect(ends[0], ends[1]);
            }
        }
    }
    // From here on everything gets its turn.
    world.finish();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_devices_converge_whatever_happens_when(moves in moves(2, 1, 400)) {
        let world = run(2, PAIR, moves);
        world.assert_converged();
        prop_assert!(world.links[0].iter().all(|end| end.session.is_caught_up()));
        prop_assert_eq!(world.stores[0].repeated + world.stores[1].repeated, 0);
    }

    #[test]
    fn three_devices_in_a_ring_converge_whatever_happens_when(moves in moves(3, 3, 600)) {
        let world = run(3, RING, moves);
        world.assert_converged();
        prop_assert!(world.links.iter().flatten().all(|end| end.session.is_caught_up()));
    }
}
