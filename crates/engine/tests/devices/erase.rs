//! Erasure on disks whose power fails, and what outsiders see of it.

use larder_engine::Checking;
use larder_pages::testing::{Disk, Loss};

use super::disk::{fail_everywhere, open, used};
use super::*;

/// What had come of an erasure when the power failed.
#[derive(Default)]
struct Erased {
    erased: bool,
    reported: bool,
}

fn crash_while_erasing(every: usize) {
    let work = |disk: &Disk, done: &mut Erased| {
        let Ok(mut device) = open(disk, &unlock()) else { return };
        done.erased = device.writer.erase(object(1)).is_ok();
        done.reported = done.erased && matches!(device.writer.finish_erasures(), Ok(true));
        let _ = device.close();
    };
    fail_everywhere(&used(), every, work, |disk, done: &Erased| {
        let mut device = open(disk, &unlock()).unwrap();
        device.holds(2..=3);
        let listed = device.space.erasures().unwrap();
        if done.reported {
            assert!(listed[0].is_done() && !device.writer.wants_erasing());
        }
        if listed.is_empty() {
            assert!(!done.erased, "an erasure that had a receipt is lost");
            device.holds([1]);
            device.writer.erase(object(1)).unwrap();
        }
        // What was cut is made up for without anybody asking for the erasure once more.
        assert!(device.writer.finish_erasures().unwrap());
        assert!(device.space.document(&object(1)).unwrap().is_none());
        let listed = device.space.erasures().unwrap();
        assert!(listed.len() == 1 && listed[0].is_done(), "{listed:?}");
        let mut checking = Checking::new(false);
        while !device.writer.check_step(&mut checking).unwrap() {}
        assert!(checking.report().findings.is_empty(), "{:?}", checking.report().findings);
        disk.crash(Loss::Everything);
        drop(device);
        let device = open(disk, &unlock()).unwrap();
        assert!(device.space.erasures().unwrap()[0].is_done());
        device.holds(2..=3);
    });
}

#[test]
fn a_crash_while_something_is_erased_leaves_it_whole_or_takes_all_of_it() {
    crash_while_erasing(17);
}

#[test]
#[ignore = "takes minutes"]
fn a_crash_at_any_call_of_an_erasure_does_so_too() {
    crash_while_erasing(1);
}

#[test]
fn receipts_of_what_was_erased_verify_and_an_outsider_accepts_the_export() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut a = Device::found(&dirs[0].path().join("profile"), 1);
    let receipt = a.put(object(1), &json!({"title": "zqcanary"}));
    let mut b = a.invite(&dirs[1].path().join("profile"), 2);
    sync(&mut a, &mut b);
    let edited = b.put(object(1), &json!({"title": "zqcanary again"}));
    let kept = a.put(object(2), &json!({"title": "stays"}));
    sync(&mut a, &mut b);
    let erasure = a.writer.erase(object(1)).unwrap();
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        assert!(device.writer.finish_erasures().unwrap());
    }
    sync(&mut a, &mut b);
    for (device, dir) in [&a, &b].into_iter().zip(&dirs) {
        for receipt in [&receipt, &edited, &kept, &erasure] {
            let author = receipt.checkpoint.device;
            let now = device.space.receipt(&author, receipt.index + 1).unwrap();
            now.verify().unwrap();
            assert_eq!(now.header, receipt.header);
        }
        let export = dir.path().join("receipts");
        device.space.export_receipts(&export, &mut |_, _| {}).unwrap();
        let verdict = larder_audit::verify(&export).unwrap();
        assert_eq!(verdict.logs.len(), 2);
        assert!(device.space.erasures().unwrap()[0].is_done());
    }
}

/// Found by the simulator: a newcomer heard of an erasure before it heard of its own enrolment, had
/// nothing of the object on its disk, and never said so: the erasure was never done.
#[test]
fn a_newcomer_says_that_it_has_nothing_of_what_was_erased_before() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "zqcanary"}));
    a.writer.erase(object(1)).unwrap();
    assert!(a.writer.finish_erasures().unwrap());
    let mut b = a.admit_in(dirs[1].path(), world(2));
    let mut put_off = 0;
    b.pull_by(1, &a, &mut |b| put_off += usize::from(!b.writer.finish_erasures().unwrap()));
    assert!(put_off > 0, "it hears of it before it hears that it belongs to the space");
    assert!(b.writer.finish_erasures().unwrap());
    a.pull(&b);
    for device in [&a, &b] {
        assert!(device.space.erasures().unwrap()[0].is_done());
    }
}
