//! What it costs to judge the acts of a stolen admin's device and of whom it lets in.

use std::time::{Duration, Instant};

use larder_crypto::{AckPublic, SUITE, SealingPublic};
use larder_types::{DeviceId, EntryHash, EpochId, Hash, MemberId, SpaceId, TransportId};

use super::Roster;
use super::acts::STEPS;
use crate::act::{
    Act, ChangeAct, Cut, DeviceKeys, Enrolment, EnrolmentAct, Genesis, RevocationAct, Role,
};
use crate::header::Header;
use crate::section::Band;

/// As many logs as are taken in of whom one device lets in.
const PUPPETS: u32 = 63;

/// Adds so many acts.
type Shape = fn(&mut History, u32);

/// What a thief might have its device and its puppets write.
const SHAPES: [(&str, Shape); 10] = [
    ("one changes its own role, each act knowing of the one before", |all, acts| {
        for _ in 0..acts {
            all.change(2, 2, 1, Role::Admin, &[all.ends[2]]);
        }
    }),
    ("one lowers and raises another", |all, acts| {
        for n in 0..acts {
            let role = if n % 2 == 0 { Role::Reader } else { Role::Admin };
            all.change(1, 2, 1, role, &[all.ends[1]]);
        }
    }),
    ("each lets in the next", |all, acts| {
        for n in 0..acts {
            let by = if n == 0 { 1 } else { 1000 + n - 1 };
            all.enrol(by, 1000 + n, &[all.last]);
        }
    }),
    ("all change their own roles, each knowing of its own acts alone", |all, acts| {
        for n in 0..acts {
            let of = 2 + n % PUPPETS;
            all.change(of, of, 1, Role::Admin, &[all.ends[of as usize]]);
        }
    }),
    ("all change each other's roles, each knowing of all before", |all, acts| {
        for n in 0..acts {
            let (by, of) = (2 + n % PUPPETS, 2 + n * 7 % PUPPETS);
            let role = if n % 3 == 0 { Role::Writer } else { Role::Admin };
            all.change(by, of, 1 + u64::from(n % 50), role, &[all.last]);
        }
    }),
    ("the same, each knowing of two that are drawn", |all, acts| {
        for _ in 0..acts {
            let (by, of) = (2 + all.below(PUPPETS), 2 + all.below(PUPPETS));
            let within = if all.below(4) == 0 { 4000 } else { 100 };
            let parents = [all.recent(within), all.recent(within)];
            let role = if all.below(9) == 0 { Role::Writer } else { Role::Admin };
            let from_seq = 1 + u64::from(all.below(50));
            all.change(by, of, from_seq, role, &parents);
        }
    }),
    ("all change the role of one, nobody knowing of the others", |all, acts| {
        let known = all.last;
        for n in 0..acts {
            all.change(2 + n % PUPPETS, 2, 1, Role::Admin, &[known]);
        }
    }),
    ("all shut each other out, knowing of each other's enrolments", |all, acts| {
        let known = all.last;
        for n in 0..acts {
            let (by, of) = (2 + n % PUPPETS, 2 + n * 7 % PUPPETS);
            all.revoke(by, of, u64::from(acts - n), &[known]);
        }
    }),
    ("they let one another's device in, and are cut entry by entry", |all, acts| {
        let known = all.last;
        for n in 0..acts / 2 {
            let by = 2 + n % PUPPETS;
            all.enrol(by, 1000 + n, &[all.ends[by as usize]]);
        }
        for n in 0..acts / 2 {
            let keeps = u64::from((acts / 2 - n) / PUPPETS);
            all.revoke(1, 2 + n % PUPPETS, keeps, &[known]);
        }
    }),
    ("all let in the same device, nobody knowing of the others", |all, acts| {
        let known = all.last;
        for n in 0..acts {
            all.enrol(2 + n % PUPPETS, 1000, &[known]);
        }
    }),
];

fn bytes(n: u32) -> [u8; 32] {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn enrolment(n: u32, member: u8) -> Enrolment {
    let (signing, transport) = (DeviceId::new(bytes(n)), TransportId::new(bytes(n)));
    let (ack, sealing) =
        (AckPublic::new(bytes(n)), SealingPublic::new([bytes(n)[3]; SealingPublic::BYTES]));
    let keys = DeviceKeys { suite: SUITE, signing, ack, sealing, transport };
    let (member, label) = (MemberId::new([member; 16]), String::new());
    let role = if n == 0 { Role::Owner } else { Role::Admin };
    Enrolment { v: 0, member, label, role, clearance: Band::Red, keys }
}

/// Acts with the headers of their entries. Device 0 founded the space, 1 is the thief's, those from
/// 2 on are its puppets.
struct History {
    acts: Vec<(Header, Act)>,
    hashes: Vec<EntryHash>,
    sizes: Vec<u64>,
    /// The last act by or about each device, and of all.
    ends: Vec<EntryHash>,
    last: EntryHash,
    space: SpaceId,
    drawn: u64,
}

impl History {
    fn of(shape: Shape, acts: u32) -> Self {
        let zero = EntryHash::new([0; 32]);
        let (devices, space) = (1001 + acts as usize, SpaceId::new([0; 32]));
        let (sizes, ends) = (vec![0; devices], vec![zero; devices]);
        let (hashes, last) = (Vec::new(), zero);
        let mut all = Self { acts: Vec::new(), hashes, sizes, ends, last, space, drawn: 1 };
        let genesis = Genesis {
            v: 0,
            suite: SUITE,
            name: "shared:household".parse().unwrap(),
            founder: enrolment(0, 1),
            recovery: None,
            control_commitment: Hash::new([0; 32]),
            nonce: [4; 16],
        };
        all.state(0, 0, Act::Genesis(genesis));
        all.space = SpaceId::from(all.last);
        all.enrol(0, 1, &[all.last]);
        for puppet in 2..2 + PUPPETS {
            all.enrol(1, puppet, &[all.last]);
        }
        shape(&mut all, acts);
        all
    }

    fn state(&mut self, author: u32, of: u32, act: Act) {
        let size = &mut self.sizes[author as usize];
        *size += 1;
        let header = Header {
            v: 0,
            space: self.space,
            device: DeviceId::new(bytes(author)),
            seq: *size,
            deps: Vec::new(),
            epoch: EpochId::new([0; 32]),
            step: 0,
            n: 1,
            sections_root: Hash::new(bytes(u32::try_from(self.acts.len()).unwrap())),
        };
        self.last = header.hash();
        self.ends[author as usize] = self.last;
        self.ends[of as usize] = self.last;
        self.hashes.push(self.last);
        self.acts.push((header, act));
    }

    fn enrol(&mut self, by: u32, of: u32, parents: &[EntryHash]) {
        let act = EnrolmentAct { parents: parents.to_vec(), enrolment: enrolment(of, 2) };
        self.state(by, of, Act::Enrolment(act));
    }

    fn change(&mut self, by: u32, of: u32, from_seq: u64, role: Role, parents: &[EntryHash]) {
        let (parents, device) = (in_order(parents), DeviceId::new(bytes(of)));
        let act = ChangeAct { parents, v: 0, device, from_seq, role, clearance: Band::Red };
        self.state(by, of, Act::Change(act));
    }

    fn revoke(&mut self, by: u32, of: u32, keeps: u64, parents: &[EntryHash]) {
        let cuts = vec![Cut { device: DeviceId::new(bytes(of)), keeps }];
        let act = RevocationAct { parents: in_order(parents), v: 0, cuts, members: Vec::new() };
        self.state(by, of, Act::Revocation(act));
    }

    /// Knuth's MMIX generator: enough for a test.
    fn below(&mut self, n: u32) -> u32 {
        self.drawn = self
            .drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.drawn >> 33) % u64::from(n)).unwrap()
    }

    /// One of the last so many acts.
    fn recent(&mut self, acts: u32) -> EntryHash {
        let back = 1 + self.below(acts) as usize;
        self.hashes[self.hashes.len().saturating_sub(back).max(64)]
    }

    /// The roster of all, made at once, and how long that took.
    fn judged(&self) -> (Roster, Duration) {
        let begun = Instant::now();
        let acts = self.acts.iter().map(|(header, act)| (header, 0, act));
        let roster = Roster::of(self.space, acts);
        (roster, begun.elapsed())
    }

    /// The same, one act after another as they come from another device; in this order, or from
    /// the last to the first.
    fn applied(&self, is_backwards: bool) -> (Roster, Duration) {
        let begun = Instant::now();
        let mut roster = Roster::new(self.space);
        let mut apply = |(header, act): &(Header, Act)| {
            let _void_or_not = roster.apply(header, 0, act);
        };
        if is_backwards {
            self.acts.iter().rev().for_each(&mut apply);
        } else {
            self.acts.iter().for_each(apply);
        }
        (roster, begun.elapsed())
    }
}

fn in_order(parents: &[EntryHash]) -> Vec<EntryHash> {
    let mut parents = parents.to_vec();
    parents.sort();
    parents.dedup();
    parents
}

/// 503 acts of one puppet of a stolen admin's device kept every device of a household busy for two
/// minutes, at every start: each act was judged by going through all before it, and for each of
/// those through all before that. Eight times as many took five hundred times as long; where each
/// looks at all before it, it is sixty-four times.
#[test]
fn eight_times_as_many_acts_do_not_take_five_hundred_times_as_many_steps() {
    for (what, shape) in SHAPES {
        let steps = |acts| {
            let all = History::of(shape, acts);
            let at_once = stepped(|| all.judged());
            [at_once, stepped(|| all.applied(false))]
        };
        let (few, many) = (steps(64), steps(8 * 64));
        let times = few.into_iter().zip(many).map(|(few, many)| many / few);
        let times: Vec<u64> = times.collect();
        println!("{times:?} times as many steps, of {many:?}: {what}");
        assert!(times.iter().all(|times| *times < 200), "{times:?} times: {what}");
    }
}

fn stepped<T>(does: impl FnOnce() -> T) -> u64 {
    let before = STEPS.get();
    drop(does());
    STEPS.get() - before
}

/// Acts that arrive in another order are judged by way of other sets of acts.
#[test]
fn many_acts_come_to_the_same_in_any_order() {
    for (what, shape) in SHAPES {
        let mut all = History::of(shape, 300);
        let (roster, _) = all.judged();
        assert!(all.applied(true).0 == roster, "{what}: backwards");
        for at in (1..all.acts.len()).rev() {
            let other = all.below(u32::try_from(at).unwrap() + 1) as usize;
            all.acts.swap(at, other);
        }
        assert!(all.applied(false).0 == roster, "{what}: in an order that was drawn");
    }
}

/// Of this process, in KiB; nothing where that is not told.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// `LARDER_ACTS=8192 cargo test --release -p larder-log --lib -- --ignored --nocapture many_acts`
#[test]
#[ignore = "measures"]
fn what_many_acts_of_many_puppets_cost() {
    let most = std::env::var("LARDER_ACTS").map_or(2048, |acts| acts.parse().unwrap());
    println!("        steps for each act");
    println!("acts    at once  one by one      at once  one by one      memory  what they do");
    for (what, shape) in SHAPES {
        let numbers = std::iter::successors(Some(512), |acts| Some(acts * 4));
        for acts in numbers.take_while(|acts| *acts <= most) {
            let all = History::of(shape, acts);
            let (before, mut each) = (resident(), [0; 2]);
            let (mut at_once, mut one_by_one) = (None, None);
            each[0] = stepped(|| at_once = Some(all.judged())) / u64::from(acts);
            let memory = resident().saturating_sub(before);
            each[1] = stepped(|| one_by_one = Some(all.applied(false))) / u64::from(acts);
            let ((roster, at_once), (same, one_by_one)) = (at_once.unwrap(), one_by_one.unwrap());
            assert!(same == roster);
            println!(
                "{acts:<6} {:>8}  {:>10}   {at_once:>10.1?}  {one_by_one:>10.1?}  {memory:>6} KiB  \
                 {what}",
                each[0], each[1]
            );
        }
    }
}
