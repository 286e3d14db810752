//! New keys for copied profiles, and devices that give way, on disks whose power fails.

use larder_engine::{Carried, Reason, Role, Whose};
use larder_log::Band;
use larder_pages::testing::{Disk, Loss, Snapshot};

use super::disk::{HOME, fail_everywhere, on, open, used};
use super::*;

fn renew(disk: &Disk) -> Result<larder_engine::Renewed> {
    Profile::renew(on(disk, disk.calls()), HOME.as_ref(), &unlock())
}

fn go_on_alone(disk: &Disk) -> Result<()> {
    let name = "shared:test".parse().unwrap();
    Profile::go_on_alone(on(disk, disk.calls()), HOME.as_ref(), &unlock(), &name)
}

fn waits(device: &Device) -> Result<bool> {
    Ok(device.space.state()?.reasons.contains(&Reason::Renewed))
}

fn crash_while_going_on_alone(every: usize) {
    let before = used();
    let disk = Disk::new().unwrap();
    disk.restore(&before);
    let was = open(&disk, &unlock()).unwrap().space.device();
    let work = |disk: &Disk, (): &mut ()| {
        if renew(disk).and_then(|_| go_on_alone(disk)).is_err() {
            return;
        }
        let Ok(mut device) = open(disk, &unlock()) else { return };
        let _ = device.writer.carry_over();
        let _ = device.close();
    };
    fail_everywhere(&before, every, work, |disk, ()| {
        let mut device = open(disk, &unlock()).unwrap();
        if device.space.device() == was {
            let waits = waits(&device).unwrap();
            device.close().unwrap();
            if !waits {
                renew(disk).unwrap();
            }
            go_on_alone(disk).unwrap();
            device = open(disk, &unlock()).unwrap();
        }
        assert!(device.writer.carry_over().unwrap().unwrap().is_done);
        device.holds(1..=3);
        assert_ne!(device.space.device(), was);
        assert_eq!(device.space.devices().unwrap().len(), 1);
        device.put(object(200), &json!({"n": 200}));
        disk.crash(Loss::Everything);
        drop(device);
        open(disk, &unlock()).unwrap().holds((1..=3).chain([200]));
    });
}

/// A laptop and a phone, each on a disk of its own, closed. The phone has two entries that the
/// laptop has not, and the laptop one that the phone has not.
fn household(laptop_disk: &Disk, phone_disk: &Disk) -> (Snapshot, Snapshot) {
    laptop_disk.restore(&used());
    let mut laptop = open(laptop_disk, &unlock()).unwrap();
    let terms = Terms { of: Whose::Own, role: Role::Owner, clearance: Band::Red };
    let invitation = laptop.profile.invite_on(&laptop.space, Vec::new(), terms).unwrap();
    let mut phone = laptop.admit_by(HOME.as_ref(), on(phone_disk, 2), invitation);
    sync(&mut laptop, &mut phone);
    sync(&mut laptop, &mut phone);
    phone.put(object(4), &json!({"n": 4}));
    phone.put(object(1), &json!({"n": 1, "edited": true}));
    laptop.put(object(5), &json!({"n": 5}));
    laptop.close().unwrap();
    phone.close().unwrap();
    (laptop_disk.snapshot(), phone_disk.snapshot())
}

fn told(space: &Space, peer: &TransportId, request: Request) -> Result<Reply> {
    match space.answer(peer, request) {
        Answer::Reply(Reply::Failed { message }) => Err(Error::Internal(message)),
        Answer::Reply(reply) => Ok(reply),
        Answer::Write(_) => Err(Error::Internal("there is no fork".into())),
    }
}

/// As `pull`, on a disk that may fail.
fn hear(device: &mut Device, other: &Device) -> Result<()> {
    let me = device.profile.transport_id();
    let mut after = Position::default();
    loop {
        let own = told(&device.space, &me, Request::ReadFrontiers)?;
        let Reply::Frontiers { logs, epochs_held, .. } = own else { unreachable!() };
        let have = logs.iter().map(|log| (log.device, log.size)).collect();
        let (epochs, bytes_target) = (epochs_held, larder_types::limits::BATCH_BYTES_TARGET);
        let request = Request::ReadBatch { after, have, epochs, bytes_target };
        let Reply::Batch { position, batch } = told(&other.space, &me, request)? else {
            unreachable!()
        };
        let Some(batch) = batch else { return Ok(()) };
        device.writer.apply(*batch)?;
        after = position;
    }
}

/// Renews the phone, has the laptop let it in, and carries over, as far as it is still to be done.
fn renew_and_join(
    laptop: &mut Device,
    disk: &Disk,
    was: larder_types::DeviceId,
) -> Result<Carried> {
    let mut phone = open(disk, &unlock())?;
    if phone.space.device() == was {
        let waits = waits(&phone)?;
        phone.close()?;
        if !waits {
            renew(disk)?;
        }
        let env = on(disk, disk.calls());
        let options = ProfileOptions::default();
        let profile = Profile::open(env, HOME.as_ref(), &unlock(), Access::ReadWrite, options)?;
        let terms = Terms { of: Whose::Own, role: Role::Owner, clearance: Band::Red };
        let invitation = laptop.profile.invite_on(&laptop.space, Vec::new(), terms)?;
        let mut joining = profile.begin_join(invitation)?;
        let (agreed, admission) = profile.ask_within(&mut joining, &laptop.profile, &[9; 32])?;
        laptop.writer.admit(admission.enrolment.clone())?;
        let reply = laptop.profile.welcome(&admission, &laptop.space)?;
        let (space, writer) = profile.finish_join(joining, &agreed, &reply)?;
        phone = Device { profile, space, writer };
    }
    let Reply::Frontiers { logs, forks, .. } = laptop.frontiers() else { unreachable!() };
    let peer = laptop.profile.transport_id();
    told(&phone.space, &peer, Request::CheckFrontiers { logs, forks })?;
    hear(&mut phone, laptop)?;
    phone.writer.show()?;
    let carried = phone.writer.carry_over()?;
    hear(laptop, &phone)?;
    phone.close()?;
    carried.ok_or(Error::Internal("there is no old copy".into()))
}

/// Where the laptop stood when the phone's power failed.
#[derive(Default)]
struct Left {
    laptop: Option<Snapshot>,
}

fn crash_while_joining_again(every: usize) {
    let (laptop_disk, phone_disk) = (Disk::new().unwrap(), Disk::new().unwrap());
    let (laptop, phone) = household(&laptop_disk, &phone_disk);
    phone_disk.restore(&phone);
    let was = open(&phone_disk, &unlock()).unwrap().space.device();
    let work = |disk: &Disk, left: &mut Left| {
        laptop_disk.restore(&laptop);
        let mut laptop = open(&laptop_disk, &unlock()).unwrap();
        let _ = renew_and_join(&mut laptop, disk, was);
        laptop.close().unwrap();
        left.laptop = Some(laptop_disk.snapshot());
    };
    fail_everywhere(&phone, every, work, |disk, left: &Left| {
        laptop_disk.restore(left.laptop.as_ref().unwrap());
        let mut laptop = open(&laptop_disk, &unlock()).unwrap();
        let carried = renew_and_join(&mut laptop, disk, was).unwrap();
        assert!(carried.is_done && carried.left.is_empty(), "{carried:?}");
        assert_eq!((carried.entries, carried.created, carried.edited), (2, 1, 1), "{carried:?}");
        let phone = open(disk, &unlock()).unwrap();
        for device in [&laptop, &phone] {
            device.holds(2..=5);
            assert_eq!(device.value(object(1)), json!({"n": 1, "edited": true}));
            let notes = device.space.list(None, None, 100).unwrap().documents;
            assert_eq!(notes.len(), 5, "nothing is there twice");
        }
        assert_eq!(laptop.space.digest().unwrap(), phone.space.digest().unwrap());
        phone.close().unwrap();
        laptop.close().unwrap();
    });
}

fn crash_while_retiring(every: usize) {
    let (laptop_disk, phone_disk) = (Disk::new().unwrap(), Disk::new().unwrap());
    let (laptop, phone) = household(&laptop_disk, &phone_disk);
    laptop_disk.restore(&laptop);
    phone_disk.restore(&phone);
    let mut laptop = open(&laptop_disk, &unlock()).unwrap();
    let mut phone = open(&phone_disk, &unlock()).unwrap();
    sync(&mut laptop, &mut phone);
    let acks = |from: &Device, to: &mut Device| {
        let Reply::Frontiers { acks, .. } = from.frontiers() else { unreachable!() };
        to.writer.store_acks(&acks).unwrap();
    };
    acks(&laptop, &mut phone);
    let (to, was) = (laptop.space.device(), phone.space.device());
    laptop.close().unwrap();
    phone.close().unwrap();
    let (laptop, phone) = (laptop_disk.snapshot(), phone_disk.snapshot());
    let work = |disk: &Disk, retired: &mut bool| {
        let Ok(mut phone) = open(disk, &unlock()) else { return };
        *retired = phone.writer.retire(to, false).is_ok();
        let _ = phone.close();
    };
    fail_everywhere(&phone, every, work, |disk, retired: &bool| {
        laptop_disk.restore(&laptop);
        let mut laptop = open(&laptop_disk, &unlock()).unwrap();
        let mut phone = open(disk, &unlock()).unwrap();
        phone.holds(2..=5);
        let is_in = phone.space.devices().unwrap().iter().any(|device| device.device == was);
        assert!(!is_in || !retired, "it had a receipt for going");
        if is_in {
            phone.writer.retire(to, false).unwrap();
        }
        assert!(matches!(phone.writer.retire(to, false), Err(Error::ShutOut)));
        laptop.pull(&phone);
        let left: Vec<_> = laptop.space.devices().unwrap();
        assert_eq!(left.iter().map(|device| device.device).collect::<Vec<_>>(), [to]);
        laptop.holds(2..=5);
        laptop.put(object(6), &json!({"n": 6}));
        phone.close().unwrap();
        laptop.close().unwrap();
    });
}

#[test]
fn a_crash_while_a_space_goes_on_alone_leaves_the_old_device_or_the_new() {
    crash_while_going_on_alone(97);
}

#[test]
fn a_crash_while_a_copy_is_renewed_and_let_in_loses_nothing_and_does_nothing_twice() {
    crash_while_joining_again(211);
}

#[test]
fn a_crash_while_a_device_gives_way_leaves_it_in_or_out() {
    crash_while_retiring(13);
}

#[test]
#[ignore = "takes minutes"]
fn a_crash_at_any_call_of_a_renewal_or_a_retirement_does_so_too() {
    crash_while_going_on_alone(1);
    crash_while_joining_again(1);
    crash_while_retiring(1);
}
