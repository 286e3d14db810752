//! Walking the transactions from a frontier yields what is missing there, all of it, once, in an
//! order in which it can be applied.

use std::collections::{BTreeMap, HashMap};

use crate::fixture::{append, device, space};
use larder_log::merkle::Frontier;
use larder_log::{Batch, Payload, VerifiedBatch, VerifiedEntry, checkpoint::Checkpoint};
use larder_store::space::sections::State;
use larder_store::space::transactions::{self, Walk};
use larder_store::space::{logs, transactions::Transaction};
use larder_types::DeviceId;
use proptest::prelude::*;
use rusqlite::Connection;

type Sizes = BTreeMap<DeviceId, u64>;

const REPLICAS: u8 = 4;

/// What replicas do to each other.
#[derive(Debug, Clone)]
enum Step {
    /// A replica's device commits a transaction of so many entries.
    Commit(u8, u8),
    /// The first takes over what it lacks of the second, at most so many transactions.
    Sync(u8, u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    prop_oneof![
        (replica.clone(), 1..4_u8).prop_map(|(replica, entries)| Step::Commit(replica, entries)),
        (replica.clone(), replica, 0..8_usize)
            .prop_map(|(to, from, most)| Step::Sync(to, from, most)),
    ]
}

fn sizes(conn: &Connection) -> Sizes {
    logs::every(conn).unwrap().into_iter().map(|log| (log.device, log.frontier.size())).collect()
}

fn covers(large: &Sizes, small: &Sizes) -> bool {
    small.iter().all(|(device, size)| large.get(device).copied().unwrap_or(0) >= *size)
}

fn take(conn: &Connection, batch: &Batch) {
    let log = logs::find_or_add(conn, &batch.device).unwrap();
    assert_eq!(log.frontier.size() + 1, batch.first_seq, "contiguous");
    let mut after: Frontier = log.frontier;
    let (mut nodes, mut entries) = (Vec::new(), Vec::new());
    for entry in &batch.entries {
        let header = larder_log::Header::decode(&entry.header).unwrap();
        let hash = header.hash();
        after.append(hash.into(), &mut |node| nodes.push(node));
        entries.push(VerifiedEntry { header, hash });
    }
    let (size, root) = (after.size(), after.root());
    let space = larder_types::SpaceId::new([9; 32]);
    let checkpoint = Checkpoint { space, device: batch.device, size, root };
    let verified = VerifiedBatch { entries, after, nodes, checkpoint };
    let unopened = |_, payload: &Payload| (State::unopened(payload), None);
    transactions::store(conn, log.log, batch, &verified, unopened).unwrap();
}

fn collect(walk: &mut Walk, conn: &Connection) -> Vec<(Transaction, u64)> {
    std::iter::from_fn(|| walk.next(conn).unwrap()).collect()
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn replicas_that_walk_each_other_converge_in_causal_order(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let replicas: Vec<Connection> = (0..REPLICAS).map(|_| space()).collect();
        // What each transaction's author had applied when it committed: its causal past.
        let mut past: HashMap<(DeviceId, u64), Sizes> = HashMap::new();
        let sync = |to: usize, from: usize, most: usize, past: &HashMap<_, Sizes>| {
            let mut walk = Walk::new(&replicas[from], sizes(&replicas[to])).unwrap();
            let mut sent = 0;
            while sent < most && let Some((next, from_seq)) = walk.next(&replicas[from]).unwrap() {
                let batch = transactions::batch(&replicas[from], &next, from_seq).unwrap();
                let past = &past[&(batch.device, batch.size())];
                assert!(covers(&sizes(&replicas[to]), past), "applied before its past");
                take(&replicas[to], &batch);
                sent += 1;
            }
        };
        for step in steps {
            match step {
                Step::Commit(replica, entries) => {
                    let conn = &replicas[usize::from(replica)];
                    let before = sizes(conn);
                    let none: &[Payload] = &[];
                    let batch = append(conn, &device(replica), &vec![none; usize::from(entries)]);
                    past.insert((batch.device, batch.size()), before);
                }
                Step::Sync(to, from, most) if to != from => {
                    sync(usize::from(to), usize::from(from), most, &past);
                }
                Step::Sync(..) => {}
            }
        }
        let all = usize::from(REPLICAS);
        for _ in 0..2 {
            for to in 0..all {
                for from in (0..all).filter(|from| *from != to) {
                    sync(to, from, usize::MAX, &past);
                    prop_assert!(covers(&sizes(&replicas[to]), &sizes(&replicas[from])));
                }
            }
        }
        for replica in &replicas {
            prop_assert_eq!(sizes(replica), sizes(&replicas[0]));
        }
    }

    #[test]
    fn from_any_frontier_the_walk_yields_exactly_what_is_missing(
        commits in prop::collection::vec((0..3_u8, 1..4_u8), 0..24),
        frontier in prop::collection::vec(0..20_u64, 3),
        later in prop::collection::vec((0..4_u8, 1..4_u8), 0..6),
        elsewhere in 0..40_u64,
    ) {
        let conn = space();
        let none: &[Payload] = &[];
        let mut expected = Vec::new();
        let mut held: Vec<u64> = frontier.clone();
        held.push(0);
        let commit = |held: &[u64], expected: &mut Vec<_>, (author, entries): (u8, u8)| {
            let batch = append(&conn, &device(author), &vec![none; usize::from(entries)]);
            for seq in batch.first_seq..=batch.size() {
                if seq > held[usize::from(author)] {
                    expected.push((batch.device, seq));
                }
            }
        };
        for made in commits {
            commit(&held, &mut expected, made);
        }
        let known = frontier.iter().zip(0..).map(|(size, n)| (device(n), *size));
        let mut walk = Walk::new(&conn, known.chain([(device(77), 5)])).unwrap();
        let mut yielded = Vec::new();
        let mut positions = Vec::new();
        let mut gather = |walk: &mut Walk, yielded: &mut Vec<_>| {
            for (next, from_seq) in collect(walk, &conn) {
                let author = logs::by_number(&conn, next.log).unwrap().device;
                assert!((next.first_seq..=next.last_seq).contains(&from_seq));
                yielded.extend((from_seq..=next.last_seq).map(|seq| (author, seq)));
                positions.push(next.position);
            }
        };
        gather(&mut walk, &mut yielded);
        prop_assert_eq!(&yielded, &expected);

        // The walk goes on with what is committed later, less what the peer got elsewhere.
        walk.cover(&device(0), elsewhere);
        held[0] = held[0].max(elsewhere);
        for made in later {
            commit(&held, &mut expected, made);
        }
        gather(&mut walk, &mut yielded);
        prop_assert_eq!(yielded, expected);
        prop_assert!(positions.is_sorted());
    }
}

/// A session says so of a log that it stopped.
#[test]
fn a_log_that_is_held_without_end_is_passed_over() {
    let conn = space();
    let none: &[Payload] = &[];
    for author in [0, 1, 0] {
        append(&conn, &device(author), &[none]);
    }
    for size in [u64::MAX, u64::MAX - 1, 2] {
        let mut walk = Walk::new(&conn, [(device(0), size)]).unwrap();
        let found = collect(&mut walk, &conn);
        assert_eq!(found.iter().map(|(next, _)| next.position).collect::<Vec<_>>(), [2]);
    }
}
