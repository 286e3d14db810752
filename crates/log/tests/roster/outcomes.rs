//! Named outcomes: what a family may do to each other, and what a thief may do to it.
//!
//! Device n belongs to member n unless it is said otherwise; device 0 is the founder's, an owner.

use larder_log::act::{Act, Enrolment, Role};
use larder_log::{Band, VoidReason};

use super::world::{World, device, enrolment};

/// Devices 1 to 3, enrolled by the founder with these roles, one knowing of the other. Gives the
/// newest act.
fn family(roles: [Role; 3]) -> (World, usize) {
    let mut world = World::new();
    let mut newest = 0;
    for (n, role) in (1..).zip(roles) {
        newest = world.enrol(0, &[newest], enrolment(n, n, role, Band::Red));
    }
    (world, newest)
}

fn role(world: &World, n: u8) -> Option<Role> {
    world.roster().device(&device(n)).map(|device| device.role)
}

/// What an act is told when it is the last to arrive.
fn told(world: &World, at: usize) -> Result<(), VoidReason> {
    let mut roster = world.roster_of((0..world.acts.len()).filter(|other| *other != at));
    roster.apply(&world.acts[at].header, 0, &world.acts[at].act)
}

#[test]
fn a_revocation_beside_a_grant_wins() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    world.change(0, &[newest], (2, 1), Role::Admin, Band::Red);
    world.revoke(1, &[newest], &[(2, 5)], &[]);
    assert_eq!(role(&world, 2), None);
    let roster = world.roster();
    let shut_out = roster.known(&device(2)).unwrap();
    assert_eq!(shut_out.keeps, Some(5));
    assert_eq!(shut_out.standing_at(5).unwrap().role, Role::Admin, "what it had done counts");
    assert_eq!(shut_out.standing_at(6), None);
    assert!(!roster.cleared().contains_key(&device(2)));
}

#[test]
fn two_that_revoke_each_other_are_both_out() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    world.revoke(0, &[newest], &[(1, 0)], &[]);
    world.revoke(1, &[newest], &[(0, 4)], &[]);
    assert_eq!((role(&world, 0), role(&world, 1)), (None, None));
    assert_eq!(role(&world, 2), Some(Role::Writer), "what the founder did before counts");
}

#[test]
fn a_circle_of_revocations_takes_effect_as_a_whole() {
    let (mut world, newest) = family([Role::Owner, Role::Owner, Role::Writer]);
    for (author, target) in [(0, 1), (1, 2), (2, 0)] {
        world.revoke(author, &[newest], &[(target, 4)], &[]);
    }
    assert_eq!([0, 1, 2].map(|n| role(&world, n)), [None; 3]);
    assert_eq!(role(&world, 3), Some(Role::Writer));
}

#[test]
fn there_is_no_seniority() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    world.revoke(1, &[newest], &[(0, 4)], &[]);
    assert_eq!(role(&world, 0), None, "a stolen first phone can be shut out");
}

#[test]
fn whoever_knows_that_it_is_out_shuts_nobody_out() {
    let (mut world, newest) = family([Role::Owner, Role::Owner, Role::Writer]);
    let out = world.revoke(0, &[newest], &[(1, 0)], &[]);
    let revenge = world.revoke(1, &[out], &[(0, 0)], &[]);
    assert_eq!(role(&world, 0), Some(Role::Owner));
    assert_eq!(told(&world, revenge), Err(VoidReason::Revoked));
}

/// A thief with the phone of an admin says that it did not know of its revocation. What gives
/// something does not count behind the cut; what takes something away does, as from any device
/// that did not know; but an admin's revocation has no force over an owner.
#[test]
fn back_dated_acts_of_a_stolen_phone_give_nothing() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Owner]);
    world.writes(1, 3);
    world.revoke(0, &[newest], &[(1, 3)], &[]);
    let puppet = world.enrol(1, &[newest], enrolment(9, 9, Role::Admin, Band::Red));
    let promoted = world.change(1, &[newest], (2, 1), Role::Admin, Band::Red);
    world.revoke(1, &[newest], &[(0, 0)], &[]);
    world.revoke(1, &[newest], &[(3, 0)], &[]);
    assert_eq!(told(&world, puppet), Err(VoidReason::Revoked));
    assert_eq!(told(&world, promoted), Err(VoidReason::Revoked));
    assert_eq!(role(&world, 9), None);
    assert_eq!(
        [0, 2, 3].map(|n| role(&world, n)),
        [Role::Owner, Role::Writer, Role::Owner].map(Some)
    );
}

#[test]
fn a_puppet_of_a_revoked_admin_is_nobody_and_its_own_puppets_are_too() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    world.revoke(0, &[newest], &[(1, 0)], &[]);
    let puppet = world.enrol(1, &[newest], enrolment(8, 8, Role::Admin, Band::Red));
    let second = world.enrol(8, &[puppet], enrolment(9, 9, Role::Writer, Band::Red));
    assert_eq!((role(&world, 8), role(&world, 9)), (None, None));
    assert_eq!(told(&world, second), Err(VoidReason::NotEnrolled));
}

#[test]
fn an_admin_has_no_power_over_owners_also_if_it_says_not_to_know() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    world.change(0, &[newest], (2, 1), Role::Owner, Band::Red);
    world.change(1, &[newest], (2, 1), Role::Reader, Band::Green);
    world.revoke(1, &[newest], &[(2, 0)], &[]);
    assert_eq!(role(&world, 2), Some(Role::Owner));
    let of_owner = world.enrol(1, &[newest], enrolment(5, 5, Role::Owner, Band::Red));
    assert_eq!(told(&world, of_owner), Err(VoidReason::Role));
}

#[test]
fn a_demotion_counts_from_its_place_on() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    let kept = world.enrol(1, &[newest], enrolment(5, 5, Role::Writer, Band::Red));
    world.change(0, &[newest], (1, 2), Role::Reader, Band::Green);
    let void = world.enrol(1, &[kept], enrolment(6, 6, Role::Writer, Band::Red));
    assert_eq!((role(&world, 5), role(&world, 6)), (Some(Role::Writer), None));
    assert_eq!(told(&world, void), Err(VoidReason::Role));
    let roster = world.roster();
    let standing = |seq| roster.device(&device(1)).unwrap().standing_at(seq).unwrap();
    assert_eq!((standing(1).role, standing(2).role), (Role::Admin, Role::Reader));
    assert_eq!((standing(1).clearance, standing(2).clearance), (Band::Red, Band::Green));
}

#[test]
fn a_demotion_beside_a_promotion_wins_and_a_later_promotion_lifts_both() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let up = world.change(0, &[newest], (2, 1), Role::Admin, Band::Red);
    let down = world.change(1, &[newest], (2, 1), Role::Reader, Band::Green);
    assert_eq!(role(&world, 2), Some(Role::Reader));
    world.change(0, &[up, down], (2, 4), Role::Writer, Band::Amber);
    let roster = world.roster();
    let found = roster.device(&device(2)).unwrap();
    assert_eq!((found.role, found.clearance), (Role::Writer, Band::Amber));
    assert_eq!(found.standing_at(3).unwrap().role, Role::Reader, "not before its place");
}

#[test]
fn the_recovery_key_gives_the_space_back() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let one = world.revoke(0, &[newest], &[(1, 0)], &[]);
    let two = world.revoke(1, &[newest], &[(0, 4), (2, 0), (3, 0)], &[]);
    assert_eq!([0, 1, 2, 3].map(|n| role(&world, n)), [None; 4]);
    let new = enrolment(7, 0, Role::Owner, Band::Red);
    let forged = world.recover(7, &[one, two], new.clone(), &[], false);
    assert_eq!(told(&world, forged), Err(VoidReason::NoRecovery));
    assert_eq!(role(&world, 7), None);
    world.recover(7, &[one, two], new, &[(1, 0)], true);
    assert_eq!(role(&world, 7), Some(Role::Owner));
    let again = world.enrol(7, &[world.acts.len() - 1], enrolment(4, 2, Role::Writer, Band::Red));
    assert_eq!(told(&world, again), Ok(()));
    // The thief does what it can, and says that it knew of nothing.
    world.revoke(1, &[newest], &[(0, 0)], &[]);
    assert_eq!((role(&world, 7), role(&world, 4)), (Some(Role::Owner), Some(Role::Writer)));
}

/// A device that recovered the space was taken for one of those that had let it in, or of the thief
/// that carried its act once more: whom it let in had as little room as the thief's puppets.
#[test]
fn whom_a_recovered_owner_lets_in_came_in_by_it_alone() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    let enrolled = world.enrol(1, &[newest], enrolment(4, 4, Role::Writer, Band::Red));
    let new = enrolment(4, 4, Role::Owner, Band::Red);
    let recovered = world.recover(4, &[enrolled], new, &[], true);
    world.enrol(4, &[recovered], enrolment(5, 5, Role::Admin, Band::Red));
    let by = world.enrol(4, &[recovered], enrolment(6, 6, Role::Admin, Band::Red));
    world.enrol(6, &[by], enrolment(7, 7, Role::Writer, Band::Red));
    assert!(world.replays(1));
    let roster = world.roster();
    let branches = |all: [u8; 4]| all.map(|n| roster.branch_of(&device(n)));
    assert_eq!(branches([4, 5, 6, 7]), [4, 4, 4, 6].map(device));
    assert_eq!(branches([0, 1, 2, 3]), [device(0); 4]);
    assert!([0, 4].iter().all(|n| roster.is_founder(&device(*n))));
    assert!(![1, 5, 6, 7].iter().any(|n| roster.is_founder(&device(*n))));
}

/// The key signs what it gives, and not who carries it: a device that was recovered and then shut
/// out, or stripped of its role, carried the same act in another entry, which nobody could have
/// known of, and was an owner again.
#[test]
fn a_recovery_that_is_carried_once_more_gives_nothing_back() {
    for carrier in [7, 2] {
        for shut_out in [true, false] {
            let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
            let new = enrolment(7, 0, Role::Owner, Band::Red);
            let recovered = world.recover(7, &[newest], new, &[], true);
            if shut_out {
                world.revoke(0, &[recovered], &[(7, 1)], &[]);
            } else {
                world.change(0, &[recovered], (7, 2), Role::Reader, Band::Green);
            }
            let before = role(&world, 7);
            assert_ne!(before, Some(Role::Owner));
            assert!(world.replays(carrier));
            assert_eq!(role(&world, 7), before, "by {carrier}");
        }
    }
}

/// What the words make of a device, whatever it was.
fn recovered(n: u8) -> Enrolment {
    enrolment(n, n, Role::Owner, Band::Red)
}

/// A tablet that was given a lesser role once, by others or by itself, and is all that is left.
#[test]
fn a_recovery_lifts_the_demotion_that_it_knew_of() {
    for by in [0, 2] {
        let (mut world, newest) = family([Role::Owner, Role::Admin, Role::Writer]);
        let down = world.change(by, &[newest], (2, 2), Role::Reader, Band::Green);
        assert_eq!(role(&world, 2), Some(Role::Reader));
        let recovery = world.recover(2, &[down], recovered(2), &[(0, 4), (1, 0)], true);
        let roster = world.roster();
        let found = roster.device(&device(2)).unwrap();
        assert_eq!((found.role, found.clearance), (Role::Owner, Band::Red), "by {by}");
        let newcomer = world.enrol(2, &[recovery], enrolment(5, 5, Role::Owner, Band::Red));
        assert_eq!(told(&world, newcomer), Ok(()));
        assert_eq!([0, 1, 5].map(|n| role(&world, n)), [None, None, Some(Role::Owner)]);
    }
}

#[test]
fn a_demotion_beside_a_recovery_has_no_force_and_a_later_one_has() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let recovery = world.recover(2, &[newest], recovered(2), &[(0, 4)], true);
    world.change(1, &[newest], (2, 1), Role::Reader, Band::Green);
    world.change(2, &[newest], (2, 1), Role::Auditor, Band::Green);
    assert_eq!(role(&world, 2), Some(Role::Owner), "a thief has the device's keys, not the words");
    world.change(1, &[recovery], (2, 1), Role::Writer, Band::Amber);
    assert_eq!(role(&world, 2), Some(Role::Writer));
}

#[test]
fn each_recovery_of_a_device_lifts_what_was_taken_since_the_last_one() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let one = world.recover(2, &[newest], recovered(2), &[], true);
    let down = world.change(1, &[one], (2, 2), Role::Reader, Band::Green);
    assert_eq!(role(&world, 2), Some(Role::Reader));
    let two = world.recover(2, &[down], recovered(2), &[], true);
    assert_eq!(role(&world, 2), Some(Role::Owner));
    world.change(1, &[one], (2, 2), Role::Auditor, Band::Green);
    world.revoke(1, &[one], &[(2, 0)], &[]);
    assert_eq!(role(&world, 2), Some(Role::Owner), "who knew of the first alone");
    world.change(1, &[two], (2, 2), Role::Writer, Band::Green);
    assert_eq!(role(&world, 2), Some(Role::Writer));
}

/// A phone was taken for lost and shut out by a recovery on the tablet. It lay behind the sofa, and
/// then the tablet was lost: the phone and the words gave nothing back, since a recovery's cut had
/// force over everybody for ever.
#[test]
fn a_recovery_lifts_another_ones_cut_that_it_knew_of_and_none_beside_it() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let one = world.recover(1, &[newest], recovered(1), &[(2, 0)], true);
    world.recover(2, &[one], recovered(2), &[(1, 1)], true);
    assert_eq!([1, 2].map(|n| role(&world, n)), [None, Some(Role::Owner)]);
    assert!(world.replays(1), "with the same signature there is nothing new");
    assert_eq!([1, 2].map(|n| role(&world, n)), [None, Some(Role::Owner)]);

    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let one = world.recover(1, &[newest], recovered(1), &[(2, 0)], true);
    let two = world.recover(2, &[newest], recovered(2), &[(1, 0)], true);
    assert_eq!([1, 2].map(|n| role(&world, n)), [None, None]);
    world.recover(2, &[one, two], recovered(2), &[], true);
    assert_eq!([1, 2].map(|n| role(&world, n)), [None, Some(Role::Owner)]);
}

/// An old phone that had given way to a new one lay in a drawer, and the new one was lost. The
/// words gave nothing back there: what a device had done to itself stood for ever. So a thief that
/// had a copy of a device's keys could shut out whom the words had made an owner, too.
#[test]
fn a_recovery_takes_back_a_device_that_had_left() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let left = world.revoke(1, &[newest], &[(1, 1)], &[]);
    assert_eq!(role(&world, 1), None);
    let recovery = world.recover(1, &[left], recovered(1), &[(0, 4)], true);
    assert_eq!((role(&world, 0), role(&world, 1)), (None, Some(Role::Owner)));
    world.revoke(1, &[newest], &[(1, 0)], &[]);
    assert_eq!(role(&world, 1), Some(Role::Owner), "nor does a copy's leaving beside it count");
    world.revoke(1, &[recovery], &[(1, 4)], &[]);
    assert_eq!(role(&world, 1), None, "and it may leave again");
}

/// What had given a device its role was taken for one of the acts that had no force over it any
/// more, once it recovered the space, or an owner made one of it whom an admin had made an admin:
/// whom it had let in until then were nobody from then on.
#[test]
fn whom_a_device_let_in_stay_when_it_is_given_more() {
    for recovers in [false, true] {
        let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
        let up = world.change(1, &[newest], (2, 1), Role::Admin, Band::Red);
        let newcomer = world.enrol(2, &[up], enrolment(5, 5, Role::Writer, Band::Red));
        assert_eq!(role(&world, 5), Some(Role::Writer));
        if recovers {
            world.recover(2, &[newcomer], recovered(2), &[], true);
        } else {
            world.change(0, &[newcomer], (2, 3), Role::Owner, Band::Red);
        }
        let roles = [2, 5].map(|n| role(&world, n));
        assert_eq!(roles, [Some(Role::Owner), Some(Role::Writer)], "{recovers}");
    }
}

#[test]
fn who_was_shut_out_comes_back_under_new_keys_alone() {
    let (mut world, newest) = family([Role::Writer, Role::Writer, Role::Writer]);
    let out = world.revoke(0, &[newest], &[(1, 2)], &[]);
    let same = world.enrol(0, &[out], enrolment(1, 1, Role::Writer, Band::Red));
    assert_eq!(told(&world, same), Err(VoidReason::Enrolled));
    assert_eq!(role(&world, 1), None);
    world.enrol(0, &[out], enrolment(5, 1, Role::Writer, Band::Red));
    assert_eq!(role(&world, 5), Some(Role::Writer));
}

#[test]
fn a_member_is_shut_out_with_devices_that_nobody_had_heard_of() {
    let (mut world, newest) = family([Role::Writer, Role::Writer, Role::Writer]);
    let unheard = world.enrol(1, &[newest], enrolment(5, 1, Role::Writer, Band::Red));
    let out = world.revoke(0, &[newest], &[(1, 6)], &[1]);
    assert_eq!(told(&world, unheard), Ok(()), "it was written before the cut");
    assert_eq!((role(&world, 1), role(&world, 5)), (None, None));
    let later = world.enrol(0, &[out], enrolment(6, 1, Role::Writer, Band::Red));
    assert_eq!(told(&world, later), Ok(()), "whoever knows of it may admit the member again");
}

/// A child's tablet said, in vain, that both its parents' phones were the child's. When the child
/// was shut out with every device, so were the phones, at their first entry: nobody was left, and
/// none of what they had let in or written counted. To say so afterwards was enough.
#[test]
fn what_is_void_says_of_nobodys_device_whose_it_is() {
    for is_late in [false, true] {
        let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
        let out = |world: &mut World| world.revoke(0, &[newest], &[(2, 1)], &[2]);
        if is_late {
            out(&mut world);
        }
        for n in [0, 1] {
            let void = world.enrol(2, &[newest], enrolment(n, 2, Role::Writer, Band::Green));
            assert!(told(&world, void).is_err());
        }
        if !is_late {
            out(&mut world);
        }
        let roles = [0, 1, 2, 3].map(|n| role(&world, n));
        assert_eq!(roles, [Some(Role::Owner), Some(Role::Owner), None, Some(Role::Writer)]);
    }
}

/// A stolen admin's device does the same of a phone that was let in after it, saying that it had
/// not heard: that enrolment holds. Whose a device is, no other one says for all.
#[test]
fn an_enrolment_beside_another_makes_a_device_nobody_elses() {
    let (mut world, newest) = family([Role::Owner, Role::Admin, Role::Writer]);
    let phone = world.enrol(0, &[newest], enrolment(4, 1, Role::Owner, Band::Red));
    world.enrol(2, &[newest], enrolment(4, 2, Role::Writer, Band::Red));
    let own = world.enrol(2, &[newest], enrolment(5, 2, Role::Writer, Band::Red));
    assert_eq!(told(&world, own), Ok(()));
    world.revoke(0, &[phone], &[(2, 9)], &[2]);
    let roles = [0, 1, 2, 3, 4, 5].map(|n| role(&world, n));
    let [owner, writer] = [Role::Owner, Role::Writer].map(Some);
    assert_eq!(roles, [owner, owner, None, writer, owner, None]);
}

#[test]
fn a_writer_admits_and_shuts_out_its_own_devices_and_no_others() {
    let (mut world, newest) = family([Role::Writer, Role::Writer, Role::Reader]);
    let own = world.enrol(1, &[newest], enrolment(5, 1, Role::Writer, Band::Amber));
    assert_eq!(told(&world, own), Ok(()));
    let greater = world.enrol(1, &[newest], enrolment(6, 1, Role::Admin, Band::Red));
    let foreign = world.enrol(1, &[newest], enrolment(7, 2, Role::Writer, Band::Red));
    assert_eq!(
        (told(&world, greater), told(&world, foreign)),
        (Err(VoidReason::Role), Err(VoidReason::Role))
    );
    let lost = world.revoke(1, &[own], &[(5, 0)], &[]);
    let other = world.revoke(1, &[own], &[(2, 0)], &[]);
    assert_eq!((told(&world, lost), told(&world, other)), (Ok(()), Err(VoidReason::Role)));
    assert_eq!((role(&world, 5), role(&world, 2)), (None, Some(Role::Writer)));
}

#[test]
fn nobody_but_an_owner_gives_a_clearance_above_its_own() {
    let mut world = World::new();
    let admin = world.enrol(0, &[0], enrolment(1, 1, Role::Admin, Band::Green));
    let above = world.enrol(1, &[admin], enrolment(2, 2, Role::Writer, Band::Red));
    let equal = world.enrol(1, &[admin], enrolment(3, 3, Role::Writer, Band::Green));
    assert_eq!((told(&world, above), told(&world, equal)), (Err(VoidReason::Role), Ok(())));
    let raised = world.change(1, &[equal], (3, 1), Role::Writer, Band::Amber);
    assert_eq!(told(&world, raised), Err(VoidReason::Role));
    let raised = world.change(0, &[equal], (3, 1), Role::Writer, Band::Amber);
    assert_eq!(told(&world, raised), Ok(()));
}

#[test]
fn everybody_may_step_back_and_leave() {
    let (mut world, newest) = family([Role::Admin, Role::Reader, Role::Writer]);
    world.change(1, &[newest], (1, 2), Role::Reader, Band::Green);
    world.revoke(2, &[newest], &[(2, 1)], &[]);
    assert_eq!((role(&world, 1), role(&world, 2)), (Some(Role::Reader), None));
}

#[test]
fn an_act_waits_for_what_it_names() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    let last = world.enrol(1, &[newest], enrolment(5, 5, Role::Writer, Band::Red));
    let mut roster = world.roster_of((0..last).filter(|at| *at != 2));
    let apply = |roster: &mut larder_log::roster::Roster, at: usize| {
        roster.apply(&world.acts[at].header, 0, &world.acts[at].act)
    };
    assert_eq!(apply(&mut roster, last), Err(VoidReason::Unjudged));
    assert!(roster.device(&device(5)).is_none());
    assert_eq!(apply(&mut roster, 2), Ok(()));
    assert_eq!(roster.device(&device(5)).unwrap().role, Role::Writer);
    assert_eq!(roster, world.roster());
}

#[test]
fn acts_that_name_nothing_or_stand_second_are_void() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Writer]);
    let at = world.revoke(0, &[newest], &[(1, 0)], &[]);
    let mut roster = world.roster_of(0..at);
    let stated = &world.acts[at];
    assert_eq!(roster.apply(&stated.header, 1, &stated.act), Err(VoidReason::NotFirst));
    let Act::Revocation(mut act) = stated.act.clone() else { unreachable!() };
    act.parents.clear();
    let body = Act::Revocation(act).to_body();
    let read = Act::from_body(larder_log::kind::REVOCATION, &body);
    assert!(matches!(read, Err(VoidReason::Malformed(_))));
}

/// The acts that have no force over a device, or over who let it in, and what has taken it.
fn lifted(world: &World, n: u8) -> Vec<(usize, Vec<usize>)> {
    let place = |by: &larder_log::Dep| world.acts.iter().position(|one| one.entry() == by.entry);
    let mut roster = world.roster_of(0..world.acts.len() - 1);
    let _before = roster.lifted();
    let last = &world.acts[world.acts.len() - 1];
    let _void_or_not = roster.apply(&last.header, 0, &last.act);
    let lifted = roster.lifted().get(&device(n)).cloned().unwrap_or_default();
    let all = lifted.iter().map(|one| {
        let by = one.by.iter().map(|by| place(by).unwrap()).collect();
        (place(&one.act).unwrap(), by)
    });
    all.collect()
}

/// Who had not heard of that took the new owner for shut out, and whom it had let in for let in by
/// nobody, but for those before the cut.
#[test]
fn what_an_admin_says_of_a_new_owner_is_lifted_from_that_and_from_whom_it_let_in() {
    let (mut world, newest) = family([Role::Admin, Role::Admin, Role::Writer]);
    let early = world.enrol(2, &[newest], enrolment(4, 4, Role::Writer, Band::Red));
    let late = world.enrol(2, &[early], enrolment(5, 5, Role::Writer, Band::Red));
    world.enrol(5, &[late], enrolment(6, 5, Role::Writer, Band::Red));
    let raised = world.change(0, &[newest], (2, 1), Role::Owner, Band::Red);
    let revoked = world.revoke(1, &[newest], &[(2, 1)], &[]);
    let all = [0, 1, 2, 3, 4, 5, 6].map(|n| lifted(&world, n));
    let one = vec![(revoked, vec![raised])];
    let none = Vec::new();
    assert_eq!(all, [&none, &none, &one, &none, &none, &one, &one].map(Clone::clone));
    let again = world.change(0, &[raised], (2, 3), Role::Owner, Band::Amber);
    assert_eq!(lifted(&world, 2), [(revoked, vec![raised, again])]);
    assert!([2, 5, 6].iter().all(|n| role(&world, *n).is_some()));
}

#[test]
fn what_a_thief_says_of_who_recovers_is_lifted_and_so_is_its_own_leaving() {
    let (mut world, newest) = family([Role::Owner, Role::Writer, Role::Writer]);
    let revoked = world.revoke(1, &[newest], &[(2, 0)], &[]);
    let left = world.revoke(2, &[newest], &[(2, 1)], &[]);
    let new = enrolment(2, 2, Role::Owner, Band::Red);
    let recovered = world.recover(2, &[left], new, &[(1, 0)], true);
    let by = vec![recovered];
    assert_eq!(lifted(&world, 2), [(revoked, by.clone()), (left, by)]);
}

/// Nor is there anything to be lifted where an act has force, whatever stands beside it.
#[test]
fn what_its_author_had_no_right_to_say_is_not_lifted() {
    let (mut world, newest) = family([Role::Admin, Role::Writer, Role::Owner]);
    let raised = world.change(0, &[newest], (2, 1), Role::Owner, Band::Red);
    world.revoke(1, &[newest], &[(3, 0)], &[]);
    world.revoke(1, &[raised], &[(2, 0)], &[]);
    world.revoke(2, &[newest], &[(1, 0)], &[]);
    assert_eq!([0, 1, 2, 3].map(|n| lifted(&world, n)), [const { Vec::new() }; 4]);
    world.revoke(0, &[newest], &[(3, 0)], &[]);
    world.revoke(3, &[newest], &[(0, 4)], &[]);
    world.revoke(0, &[newest], &[(2, 0)], &[]);
    assert_eq!([0, 1, 2, 3].map(|n| lifted(&world, n)), [const { Vec::new() }; 4]);
    assert_eq!([0, 2, 3].map(|n| role(&world, n)), [None; 3]);
}
