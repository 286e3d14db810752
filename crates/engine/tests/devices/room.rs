//! What a space takes on the disk.

use std::time::{Duration, Instant};

use larder_engine::{Checking, PrunePolicy, Pruned, Pruning};

use super::*;

/// The bytes of the one space's database itself.
fn file_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("spaces")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let databases = files.filter(|file| file.extension().is_some_and(|is| is == "db"));
    databases.map(|file| file.metadata().unwrap().len()).sum()
}

pub(super) fn letter(seed: u64) -> Value {
    let noise = blobs::noise(seed, 600_000);
    let text: String = noise.iter().map(|byte| char::from(b' ' + byte % 90)).collect();
    json!({ "text": text })
}

// Who deleted a year's photos had the same 40 GB on the disk as before, for good: what was freed
// in the file could only be used by new content.
#[test]
fn a_file_gets_shorter_once_most_of_it_is_free_and_writers_come_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    for n in 1..=20 {
        a.put(object(n), &letter(n.into()));
    }
    for n in 2..=20 {
        a.delete(object(n));
    }
    let mut pruning = Pruning::new(true);
    let mut written = 0_u8;
    while !a.writer.prune_step(&mut pruning).unwrap() {
        written += 1;
        a.put(object(100 + written), &json!({ "n": written }));
    }
    let Pruned { sections, bytes, file_bytes_before, file_bytes_after, .. } = *pruning.pruned();
    assert!(sections >= 20 && bytes > 20 * 400_000, "{sections} {bytes}");
    assert!(file_bytes_after * 4 < file_bytes_before, "{file_bytes_before} {file_bytes_after}");
    assert!(written > 8, "{written}");
    let on_disk = file_bytes(dir.path());
    assert!(on_disk <= file_bytes_after, "{on_disk} {file_bytes_after}");
    assert_eq!(a.value(object(1)), letter(1));
    for n in 1..=written {
        assert_eq!(a.value(object(100 + n)), json!({ "n": n }));
    }
    let mut checking = Checking::new(false);
    while !a.writer.check_step(&mut checking).unwrap() {}
    assert_eq!(checking.into_report().findings, []);
}

// What is free stays where it is little: the file would be written over and over.
#[test]
fn a_file_keeps_a_little_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    for n in 1..=4 {
        a.put(object(n), &letter(n.into()));
    }
    a.delete(object(1));
    a.delete(object(2));
    let before = a.writer.look_for_room().unwrap();
    assert!(!a.writer.wants_shrink());
    a.prune(true);
    assert!(a.writer.look_for_room().unwrap() >= before);
}

#[test]
fn a_space_prunes_by_itself_from_where_it_is_told_to_and_looks_only_when_something_came() {
    let from = |bytes| PrunePolicy::From { bytes };
    let cases = [(PrunePolicy::ByHand, false), (from(1 << 20), true), (from(1 << 30), false)];
    for (prunes, does) in cases {
        let dir = tempfile::tempdir().unwrap();
        let options = ProfileOptions { prunes, ..options("one") };
        let profile = Profile::create(world(1), dir.path(), &unlock(), options).unwrap();
        let (space, writer) = profile.create_space(&"shared:test".parse().unwrap()).unwrap();
        let mut a = Device { profile, space, writer };
        // There is nothing yet.
        assert!(a.writer.wants_pruning().unwrap().is_none());
        assert!(!a.writer.may_want_pruning());
        for n in 1..=4 {
            a.put(object(n), &letter(n.into()));
        }
        let Some(mut pruning) = a.writer.wants_pruning().unwrap() else {
            assert!(!does, "{prunes:?}");
            continue;
        };
        assert!(does, "{prunes:?}");
        while !a.writer.prune_step(&mut pruning).unwrap() {}
        assert_eq!(pruning.pruned().sections, 4);
        // What it did itself is looked at once more, and then no more.
        assert!(a.writer.wants_pruning().unwrap().is_none());
        assert!(!a.writer.may_want_pruning());
    }
}

// How long an app waits for a space with many entries to be opened, and a writer for a step of a
// pruning. `ENTRIES` says how many there are.
#[test]
#[ignore = "measures"]
fn how_long_opening_and_the_steps_of_a_pruning_take() {
    let count: u32 = std::env::var("ENTRIES").map_or(100_000, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let unit = |n: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let mut unit = UnitOfWork::new();
        unit.put("notes", ObjectId::new(id), &json!({ "n": n, "text": "x".repeat(400) })).unwrap();
        unit
    };
    for first in (0..count).step_by(250) {
        let done = a.writer.commit(&mut (first..first + 250).map(unit));
        assert!(done.iter().all(Result::is_ok));
    }
    a.writer.close().unwrap();
    drop(a.writer);
    a.space.close().unwrap();
    let begun = Instant::now();
    let (_space, writer) = a.profile.open_space(&"shared:test".parse().unwrap()).unwrap();
    println!("a space of {count} entries is opened in {:?}", begun.elapsed());
    let (mut writer, mut pruning) = (writer.unwrap(), Pruning::new(true));
    let mut steps: Vec<Duration> = Vec::new();
    loop {
        let begun = Instant::now();
        let is_done = writer.prune_step(&mut pruning).unwrap();
        steps.push(begun.elapsed());
        if is_done {
            break;
        }
    }
    steps.sort();
    let (sum, middle) = (steps.iter().sum::<Duration>(), steps[steps.len() / 2]);
    let last: Vec<_> = steps.iter().rev().take(4).collect();
    println!("{:?}", pruning.pruned());
    println!(
        "{} steps in {sum:?}, half of them within {middle:?}, the longest {last:?}",
        steps.len()
    );
}
