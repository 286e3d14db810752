//! What a space takes on the disk.

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
