//! The durable stage runs ahead of the visible one, and is cut.

use larder_log::Payload;

use super::*;

/// Small numbers of a known sequence (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

impl Device {
    /// Opens the profile anew, as after a crash.
    pub(super) fn reopen(self, dir: &Path) -> Self {
        let Self { profile, space, writer } = self;
        let name = space.name().clone();
        drop((writer, space));
        drop(profile);
        let options = ProfileOptions::default();
        let profile = Profile::open(world(9), dir, &unlock(), Access::ReadWrite, options).unwrap();
        let (space, writer) = profile.open_space(&name).unwrap();
        Self { profile, space, writer: writer.unwrap() }
    }

    /// The next batch that `other` has and this one lacks.
    fn next_batch(&self, other: &Self) -> Option<larder_engine::Batch> {
        self.next_batch_of(other, larder_types::limits::BATCH_BYTES_TARGET)
    }

    fn next_batch_of(&self, other: &Self, bytes_target: usize) -> Option<larder_engine::Batch> {
        let request = Request::ReadBatch {
            after: Position::default(),
            have: self.have(),
            epochs: self.epochs(),
            bytes_target,
        };
        let Reply::Batch { batch, .. } = ask(&other.space, &self.profile.transport_id(), request)
        else {
            unreachable!()
        };
        batch.map(|batch| *batch)
    }

    fn change(&mut self, random: &mut Random) {
        let n = u8::try_from(random.below(6)).unwrap() + 1;
        let mut unit = UnitOfWork::new();
        if random.below(8) == 0 {
            unit.delete(object(n));
        } else {
            let text = format!("{} and {}\nline", random.below(100), random.below(100));
            unit.put("notes", object(n), &json!({"title": "one", "text": text})).unwrap();
        }
        // What is deleted is not changed, and what is not there is not deleted.
        let _ = self.commit(unit);
    }
}

#[test]
fn documents_are_the_same_however_much_is_stored_before_it_is_read() {
    for seed in 0..4 {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut random = Random(seed);
        let mut a = Device::found(dirs[0].path(), 10 * seed + 1);
        let mut b = a.invite(dirs[1].path(), 10 * seed + 2);
        let mut c = a.invite(dirs[2].path(), 10 * seed + 3);
        let mut behind = 0;
        for _ in 0..8 {
            for _ in 0..random.below(5) {
                a.change(&mut random);
            }
            for _ in 0..random.below(5) {
                b.change(&mut random);
            }
            sync(&mut a, &mut b);
            while let Some(batch) = c.next_batch(&a) {
                let held = c.have().get(&batch.device).copied().unwrap_or(0);
                let applied = match random.below(6) {
                    0 => c.writer.apply(batch),
                    _ => c.writer.store(batch),
                };
                assert!(applied.unwrap().size > held);
                behind = behind.max(c.space.status().unwrap().pending);
                match random.below(6) {
                    0 => {
                        c.writer.show().unwrap();
                        assert!(c.writer.is_shown());
                    }
                    1 => c = c.reopen(dirs[2].path()),
                    _ => {}
                }
            }
            if random.below(2) == 0 {
                // A unit of its own sees, and names, everything that is durable.
                c.change(&mut random);
                assert!(c.writer.is_shown());
                sync(&mut a, &mut c);
                sync(&mut a, &mut b);
            }
        }
        assert!(behind > 1, "it never ran ahead");
        c.writer.show().unwrap();
        assert_eq!(a.space.digest().unwrap(), c.space.digest().unwrap());
        assert_eq!(c.space.status().unwrap().pending, 0);
        let words = |device: &mut Device| {
            let mut found: Vec<ObjectId> =
                device.search(&Query::text("one")).iter().map(|f| f.document.object).collect();
            found.sort();
            found
        };
        assert_eq!(words(&mut a), words(&mut c));
        for n in 1..7 {
            let history = |device: &Device| device.space.history(&object(n)).unwrap().len();
            assert_eq!(history(&a), history(&c));
        }
    }
}

#[test]
fn what_was_only_stored_is_read_after_a_cut_before_anything_is_written() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    a.put(object(1), &json!({"title": "Letter", "n": 1}));
    a.put(object(1), &json!({"title": "Letter", "n": 2}));
    let batch = b.next_batch(&a).unwrap();
    let begin = b.space.changes_end().unwrap();
    b.writer.store(batch).unwrap();
    assert!(b.space.changes(&begin, 10).unwrap().changes.is_empty(), "nobody can read it yet");
    assert!(b.space.document(&object(1)).unwrap().is_none(), "stored and not readable yet");
    assert_eq!(b.space.status().unwrap().pending, 2);
    let mut b = b.reopen(dirs[1].path());
    assert!(!b.writer.is_shown());
    b.put(object(1), &json!({"title": "Letter", "n": 2, "more": true}));
    assert_eq!(b.space.history(&object(1)).unwrap().len(), 3, "an edit, not a second document");
    assert_eq!(b.space.status().unwrap().documents, 1);
    assert_eq!(b.space.changes(&begin, 10).unwrap().changes.len(), 3);
    sync(&mut a, &mut b);
}

// A device was killed with a batch stored that nobody could read yet. The next batch made that
// readable with its first entry, and the device was killed before the others were. It read all of
// it again, and took what had created documents for a second creation of them, which counts for
// nothing: it found every snapshot to be another than the others did, and nobody pruned any more.
#[test]
fn what_is_read_a_second_time_after_a_cut_counts_as_it_did() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    for numbers in [1..=1, 2..=4] {
        for n in numbers {
            a.put(object(n), &json!({"n": n}));
        }
        let batch = b.next_batch(&a).unwrap();
        b.writer.store(batch).unwrap();
        assert!(!b.writer.is_shown());
        b = b.reopen(dirs[1].path());
    }
    b.writer.show().unwrap();
    assert_eq!(b.space.digest().unwrap(), a.space.digest().unwrap());
    for n in 1..=4 {
        a.edit(object(n), |value| value["edited"] = true.into());
    }
    prune::meet(&mut a, &mut b);
    prune::settle(&mut [&mut a, &mut b]);
    assert!(a.pruned() > 0 && b.pruned() > 0, "they do not agree");
}

// Sections of a large batch are opened ahead, on another thread, while its entries are stored: that
// must not be seen by what comes of it. Neither where a section is not what was committed to, nor
// where one is missing, nor where they come opened.
#[test]
fn what_is_opened_ahead_is_taken_in_as_if_each_came_alone() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let mut c = a.invite(dirs[2].path(), 3);
    for round in 0..10_u8 {
        let mut unit = UnitOfWork::new();
        for n in 1..=30 {
            unit.put("notes", object(n), &json!({"round": round, "n": n})).unwrap();
        }
        a.commit(unit).unwrap();
    }
    let good = b.next_batch(&a).unwrap();
    // Behind those that let in the others.
    let last = good.entries.len() - 1;
    assert!(last >= 9 && good.entries[last - 9..].iter().all(|entry| entry.payloads.len() == 30));
    let before = b.have();
    let mut bad = good.clone();
    let Payload::Sealed(bytes) = &mut bad.entries[last - 2].payloads[20] else { panic!() };
    bytes[9] ^= 1;
    let refused = b.writer.apply(bad).unwrap_err();
    assert!(refused.to_string().contains("section 20 of entry"), "{refused}");
    assert_eq!(b.have(), before, "nothing of it is kept");
    let mut fewer = good.clone();
    fewer.entries[last - 6].payloads[5] = Payload::Missing;
    b.writer.apply(fewer).unwrap();
    assert_eq!(b.space.status().unwrap().waiting, 1 + 6, "and six edits that build on it");
    b.fill(&a);

    // The same entries, each in a batch of its own, and to who came later and has no secrets.
    while let Some(batch) = c.next_batch_of(&a, 1) {
        assert_eq!(batch.entries.len(), 1);
        c.writer.apply(batch).unwrap();
    }
    let d = a.invite(dirs[3].path(), 4);
    for other in [&mut b, &mut c] {
        other.pull(&a);
        assert_eq!(other.space.digest().unwrap(), a.space.digest().unwrap());
    }
    assert_eq!(d.space.digest().unwrap(), a.space.digest().unwrap());
    assert_eq!(d.value(object(30)), json!({"round": 9, "n": 30}));
}

// An embedder may take a while; what it was given may be another text by then.
#[test]
fn a_vector_of_a_text_that_changed_meanwhile_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let near = |a: &Device, words: &str| -> Vec<ObjectId> {
        let found = a.space.search(&Query::similar(words)).unwrap();
        found.into_iter().map(|found| found.document.object).collect()
    };
    for n in 1..=3 {
        a.put(object(n), &json!({"title": "apple"}));
    }
    while a.writer.index(8).unwrap() > 0 {}
    let embedder = a.writer.embedder();
    let first = a.writer.next_unembedded(8).unwrap().embed(&*embedder);
    // Meanwhile one changes, one goes, and of one the words are indexed before the vector comes.
    a.put(object(1), &json!({"title": "plum"}));
    while a.writer.index(8).unwrap() > 0 {}
    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    a.commit(unit).unwrap();
    while a.writer.index(8).unwrap() > 0 {}
    a.put(object(4), &json!({"title": "pear"}));
    a.writer.store_vectors(&first).unwrap();
    assert_eq!(near(&a, "apple"), [object(3)], "only its text is still what was embedded");
    assert!(a.space.awaits_index(&Query::text("pear")).is_some());
    // What was not brought back is made again after a start.
    let mut a = a.reopen(dir.path());
    assert_eq!(a.writer.unembedded(), 1);
    assert_eq!(a.search(&Query::similar("plum"))[0].document.object, object(1));
    assert_eq!(a.search(&Query::similar("pear"))[0].document.object, object(4));
    assert_eq!(a.writer.unembedded(), 0);
    // While a changed text waits for its vector, it has none of the text before.
    a.put(object(3), &json!({"title": "fig"}));
    while a.writer.index(8).unwrap() > 0 {}
    assert!(!near(&a, "apple").contains(&object(3)));
    assert_eq!(a.search(&Query::similar("fig"))[0].document.object, object(3));
}
