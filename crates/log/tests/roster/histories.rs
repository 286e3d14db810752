//! Generated histories, in several orders of arrival, against the model.

use std::collections::BTreeSet;

use larder_log::Band;
use larder_log::act::Role;
use larder_log::roster::{Lifted, Roster};

use super::model::Model;
use super::world::{World, device, enrolment};

const ROLES: [Role; 5] = [Role::Owner, Role::Admin, Role::Writer, Role::Reader, Role::Auditor];
const BANDS: [Band; 3] = [Band::Green, Band::Amber, Band::Red];
const DEVICES: u64 = 6;
const PLACES: [u64; 8] = [1, 2, 3, 4, 5, 7, 9, 12];

/// Knuth's MMIX generator: enough for a test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn device(&mut self) -> u8 {
        u8::try_from(self.below(DEVICES)).unwrap()
    }

    fn member(&mut self) -> u8 {
        u8::try_from(self.below(4)).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Up to a dozen acts. Each author knows most of what was stated, or only a little: whoever wants
/// to do harm says that it knew what suits it.
fn history(dice: &mut Dice, mut world: World) -> World {
    for _ in 0..3 + dice.below(10) {
        let author = dice.device();
        let newest = world.acts.len() as u64;
        let mut known: Vec<usize> = (0..=dice.below(2))
            .map(|_| usize::try_from(newest - 1 - dice.below(newest.min(4))).unwrap())
            .collect();
        if dice.below(4) == 0 {
            known.push(usize::try_from(dice.below(newest)).unwrap());
        }
        let of = dice.device();
        let at = dice.below(world.size(of) + 3);
        match dice.below(22) {
            0..8 => {
                let role = dice.of(&ROLES[..3]);
                let member = if dice.below(4) == 0 { dice.member() } else { of % 4 };
                let mut new = enrolment(of, member, role, dice.of(&BANDS));
                new.label = format!("by {author}");
                world.enrol(author, &known, new);
            }
            8..13 => {
                let (role, band) = (dice.of(&ROLES), dice.of(&BANDS));
                world.change(author, &known, (of, at), role, band);
            }
            13..17 => {
                let mut cuts = vec![(of, at)];
                if dice.below(3) == 0 {
                    cuts.push((dice.device(), dice.below(4)));
                }
                world.revoke(author, &known, &cuts, &[]);
            }
            17..19 => {
                let members = [dice.member()];
                let cuts = if dice.below(2) == 0 { vec![(of, at)] } else { Vec::new() };
                world.revoke(author, &known, &cuts, &members);
            }
            _ if dice.below(3) == 0 && world.replays(author) => {}
            _ => {
                // Mostly of the device that carries it, which has often lost something before.
                let of = if dice.below(4) == 0 { of } else { author };
                let new = enrolment(of, of % 4, Role::Owner, Band::Red);
                let is_signed = dice.below(8) > 0;
                let cuts = [(dice.device(), dice.below(4))];
                let cuts = if dice.below(2) == 0 { &cuts[..] } else { &[] };
                world.recover(author, &known, new, cuts, is_signed);
            }
        }
        world.writes(author, dice.below(2));
    }
    world
}

/// Of how many devices something is lifted.
fn agrees(seed: u64, begun: World) -> usize {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let world = history(&mut dice, begun);
    let roster = world.roster();
    let mut order: Vec<usize> = (0..world.acts.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, usize::try_from(dice.below(at as u64 + 1)).unwrap());
    }
    let elsewhere = world.roster_of(order.iter().copied());
    assert_eq!(elsewhere, roster, "seed {seed}: another order of arrival");
    let twice = world.roster_of(order.iter().copied().chain(order.iter().rev().copied()));
    assert_eq!(twice, roster, "seed {seed}: everything twice");
    let acts = world.acts.iter().map(|stated| (&stated.header, 0, &stated.act));
    assert_eq!(Roster::of(world.space, acts), roster, "seed {seed}: all at once");
    let (model, lifted) = (Model::new(&world), roster.lifted());
    let expected = model.outcome(&PLACES);
    for n in 0..u8::try_from(DEVICES).unwrap() {
        let found = roster.known(&device(n)).map(|found| {
            let standings = PLACES.iter().map(|seq| found.standing_at(*seq)).collect();
            (found.member, found.label.clone(), found.keeps, standings)
        });
        assert_eq!(
            found.as_ref(),
            expected.get(&device(n)),
            "seed {seed}, device {n}: {:#?}",
            world.acts.iter().map(|stated| &stated.act).collect::<Vec<_>>()
        );
        let entries = |one: &Lifted| one.by.iter().map(|by| by.entry).collect();
        let found = lifted.get(&device(n)).into_iter().flatten();
        let found: BTreeSet<_> = found.map(|one| (one.act.entry, entries(one))).collect();
        assert_eq!(found, model.lifted(&device(n)), "seed {seed}, device {n}: what is lifted");
    }
    lifted.len()
}

#[test]
fn generated_histories_come_to_what_the_model_says() {
    for seed in 0..300 {
        agrees(seed, World::new());
    }
}

/// An owner that was an admin, whom that had let in, and another owner by the kit: what others say
/// of them has often no force.
fn with_new_owners() -> World {
    let mut world = World::new();
    let admin = world.enrol(0, &[0], enrolment(1, 1, Role::Admin, Band::Red));
    let other = world.enrol(0, &[admin], enrolment(2, 2, Role::Admin, Band::Red));
    let let_in = world.enrol(2, &[other], enrolment(4, 4, Role::Writer, Band::Red));
    world.change(0, &[let_in], (2, 1), Role::Owner, Band::Red);
    world.revoke(1, &[let_in], &[(2, 0)], &[]);
    let new = enrolment(3, 3, Role::Owner, Band::Red);
    world.recover(3, &[let_in], new, &[], true);
    world
}

#[test]
fn what_is_lifted_in_generated_histories_is_what_the_model_says() {
    let lifted: usize = (0..40).map(|seed| agrees(seed, with_new_owners())).sum();
    assert!(lifted > 60, "the control: {lifted}");
}

/// `LARDER_HISTORIES=100000 cargo test --release -p larder-log --test roster -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn many_generated_histories_come_to_what_the_model_says() {
    let many = std::env::var("LARDER_HISTORIES").map_or(100_000, |n| n.parse().unwrap());
    for seed in 0..many {
        agrees(1_000_000 + seed, World::new());
        agrees(2_000_000 + seed, with_new_owners());
    }
    println!("{many} histories agree with the model");
}
