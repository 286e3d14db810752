//! What an app is told of changes, and of how far other devices are.

use larder_engine::{Change, ChangeKind, ChangesCursor, Mode, Reason, Standing};

use super::*;

/// All changes behind a cursor, read in pages of two, and the cursor behind them.
fn read(device: &Device, mut from: ChangesCursor) -> (Vec<Change>, ChangesCursor) {
    let mut all = Vec::new();
    loop {
        // As an app does that keeps it as text.
        from = from.to_string().parse().unwrap();
        let page = device.space.changes(&from, 2).unwrap();
        assert!(!page.lost);
        all.extend(page.changes);
        from = page.cursor;
        if !page.more {
            return (all, from);
        }
    }
}

fn brief(changes: &[Change]) -> Vec<(ObjectId, ChangeKind, Option<bool>)> {
    let brief = |change: &Change| {
        let local = change.by.as_ref().map(|by| by.local);
        (change.object, change.kind, local)
    };
    changes.iter().map(brief).collect()
}

#[test]
fn changes_are_told_once_in_order_and_from_any_place_on() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let receipt = a.put(object(1), &json!({"title": "Soup"}));
    a.put(object(2), &json!({"title": "Bread"}));
    let mut b = a.invite(two.path(), 2);
    let (first, place) = read(&b, ChangesCursor::START);
    let created = |n| (object(n), ChangeKind::Created, Some(false));
    assert_eq!(brief(&first), [created(1), created(2)]);
    let by = first[0].by.as_ref().unwrap();
    assert_eq!((by.device, by.seq), (a.space.device(), receipt.index + 1));
    assert_eq!(first[0].collection.as_ref().unwrap().as_str(), "notes");
    assert_eq!(place, b.space.changes_end().unwrap());

    b.put(object(1), &json!({"title": "Fish soup"}));
    let mut unit = UnitOfWork::new();
    unit.delete(object(2));
    a.commit(unit).unwrap();
    // Too late: a has deleted it.
    b.put(object(2), &json!({"title": "Rye bread"}));
    sync(&mut a, &mut b);
    let (more, end) = read(&b, place);
    assert_eq!(
        brief(&more),
        [
            (object(1), ChangeKind::Edited, Some(true)),
            (object(2), ChangeKind::Edited, Some(true)),
            (object(2), ChangeKind::Deleted, Some(false)),
        ]
    );
    assert_eq!(more[2].collection.as_ref().unwrap().as_str(), "notes", "of what is gone, too");
    let (at_a, _) = read(&a, ChangesCursor::START);
    let too_late = (object(2), ChangeKind::Edited, Some(false));
    assert!(!brief(&at_a).contains(&too_late), "it had no effect there");
    // From the middle of a page on, and from the end.
    assert_eq!(read(&b, more[0].cursor).0, more[1..]);
    assert_eq!(read(&b, end).0, []);
    assert!(a.space.changes(&end, 10).unwrap().lost, "another device's place means nothing here");
}

/// A tombstone is noted for each band that an erasure counts in, and an app was told of one once
/// for each of them.
#[test]
fn an_erasure_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    a.put(object(1), &json!({"title": "Soup"}));
    let place = a.space.changes_end().unwrap();
    a.writer.erase(object(1)).unwrap();
    let (changes, _) = read(&a, place);
    assert_eq!(brief(&changes), [(object(1), ChangeKind::Reread, None)]);
    let unit = |a: &mut Device| {
        let mut unit = UnitOfWork::new();
        unit.delete(object(2));
        a.commit(unit).unwrap();
    };
    a.put(object(2), &json!({"title": "Bread"}));
    let place = a.space.changes_end().unwrap();
    unit(&mut a);
    let (changes, _) = read(&a, place);
    assert_eq!(brief(&changes), [(object(2), ChangeKind::Deleted, Some(true))]);
}

#[test]
fn a_document_that_has_to_give_way_is_told_under_both_ids() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = Device::found(one.path(), 1);
    let mut b = a.invite(two.path(), 2);
    a.put(object(1), &json!({"by": "a"}));
    b.put(object(1), &json!({"by": "b"}));
    let places = [a.space.changes_end().unwrap(), b.space.changes_end().unwrap()];
    sync(&mut a, &mut b);
    let all = a.space.list(None, None, 10).unwrap().documents;
    let copy = all.iter().map(|document| document.object).find(|id| *id != object(1)).unwrap();
    for (device, place) in [&a, &b].into_iter().zip(places) {
        let (changes, _) = read(device, place);
        let told: Vec<ObjectId> = changes.iter().map(|change| change.object).collect();
        // On one of the two the newcomer went on to the derived id; on the other it displaced.
        assert!(told.contains(&copy), "{changes:?}");
        let moved = changes.iter().any(|change| change.kind == ChangeKind::Reread);
        assert_eq!(moved, told.contains(&object(1)), "{changes:?}");
    }
    let (_, place) = read(&a, ChangesCursor::START);
    b.put(copy, &json!({"by": "both"}));
    a.pull(&b);
    let edited = [(copy, ChangeKind::Edited, Some(false))];
    assert_eq!(brief(&read(&a, place).0), edited, "an edit is told under the id it is read by");
}

#[test]
fn no_device_is_said_to_have_what_it_has_not_signed_for() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "Soup"}));
    let mut b = a.invite(dirs[1].path(), 2);
    let standing = |of: &Device, other: &Device| {
        let status = of.space.status().unwrap();
        let found = status.progress.iter().find(|p| p.device == other.space.device()).unwrap();
        (found.standing, found.pending, found.ahead)
    };
    let all = a.space.status().unwrap().entries;
    assert_eq!(standing(&a, &a), (Standing::Here, 0, 0));
    assert_eq!(standing(&a, &b), (Standing::Unknown, all, 0), "it has it, and has not said so");
    let acks = |from: &Device| {
        let Reply::Frontiers { acks, .. } = from.frontiers() else { unreachable!() };
        acks
    };
    a.writer.store_acks(&acks(&b)).unwrap();
    assert_eq!(standing(&a, &b), (Standing::Everything, 0, 0));
    a.put(object(1), &json!({"title": "Fish soup"}));
    assert_eq!(standing(&a, &b), (Standing::Behind, 1, 0), "an older word is not enough");

    // A third one that holds what b does not, as a knows and b does not have.
    let mut c = a.invite(dirs[2].path(), 3);
    b.pull(&a);
    c.put(object(3), &json!({"title": "Bread"}));
    a.pull(&c);
    b.writer.store_acks(&acks(&a)).unwrap();
    let status = b.space.status().unwrap();
    assert!(status.lacking > 0, "{status:?}");
    assert_eq!(standing(&b, &a).2, status.lacking);
    assert_eq!(status.state.mode, Mode::Ready, "{:?}", status.state);
    b.pull(&a);
    assert_eq!(b.space.status().unwrap().lacking, 0);
}

#[test]
fn a_space_says_why_it_cannot_be_written() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    assert_eq!(a.space.state().unwrap().mode, Mode::Ready);
    a.writer.close().unwrap();
    a.space.close().unwrap();
    a.profile.close().unwrap();
    copy_dir(dirs[0].path(), dirs[2].path());
    let reopen = |dir: &Path| {
        let profile =
            Profile::open(world(7), dir, &unlock(), Access::ReadWrite, options("x")).unwrap();
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        Device { profile, space, writer: writer.unwrap() }
    };
    let mut a = reopen(dirs[0].path());
    a.put(object(1), &json!({"title": "Soup"}));
    b.pull(&a);

    let mut old = reopen(dirs[2].path());
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    old.space.on_state_change(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(old.space.state().unwrap().mode, Mode::Ready, "it cannot know yet");
    let Reply::Frontiers { logs, .. } = b.frontiers() else { unreachable!() };
    ask(&old.space, &b.profile.transport_id(), Request::CheckFrontiers { logs, forks: vec![] });
    let state = old.space.state().unwrap();
    assert_eq!(state.mode, Mode::ReadOnly);
    assert!(matches!(state.reasons[..], [Reason::RolledBack { .. }]), "{state:?}");
    assert_eq!(told.load(Ordering::Relaxed), 1);
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(2), &json!({})).unwrap();
    assert!(matches!(old.commit(unit), Err(Error::RolledBack { .. })));
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_message_is_taken_once_and_only_from_the_device_that_sealed_it() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let mut b = a.invite(dirs[1].path(), 2);
    let c = a.invite(dirs[2].path(), 3);
    b.pull(&a);
    let [key_a, key_c] = [&a, &c].map(|device| device.profile.transport_id());
    let sealed: Vec<_> =
        (0..3_u8).map(|n| a.space.source().unwrap().seal_message(vec![n]).unwrap()).collect();
    assert!(
        b.space.source().unwrap().open_message(&key_c, &sealed[0]).is_none(),
        "c passes it off as its own"
    );
    let first = b.space.source().unwrap().open_message(&key_a, &sealed[1]).unwrap();
    assert_eq!((first.device, first.body), (a.space.device(), vec![1]));
    assert!(b.space.source().unwrap().open_message(&key_a, &sealed[1]).is_none(), "again");
    assert!(b.space.source().unwrap().open_message(&key_a, &sealed[0]).is_none(), "an older one");
    assert!(b.space.source().unwrap().open_message(&key_a, &sealed[2]).is_some());
    assert!(
        a.space.source().unwrap().open_message(&key_a, &sealed[0]).is_some(),
        "a holds the secret as well"
    );
    let elsewhere = Device::found(tempfile::tempdir().unwrap().path(), 9);
    assert!(elsewhere.space.source().unwrap().open_message(&key_a, &sealed[2]).is_none());
    assert!(b.space.source().unwrap().open_message(&key_a, b"").is_none());
}

/// Each opening of a space begins to count its messages anew. What was sent before the sender's
/// restart counted for as much as what came after it, so that it could be played again.
#[test]
fn a_message_from_before_its_senders_restart_is_not_taken_again() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut a = Device::found(dirs[0].path(), 1);
    let b = a.invite(dirs[1].path(), 2);
    let key = a.profile.transport_id();
    let mut before: Vec<_> =
        (0..3_u8).map(|n| a.space.source().unwrap().seal_message(vec![n]).unwrap()).collect();
    assert!(b.space.source().unwrap().open_message(&key, &before[0]).is_some());
    for seed in 3..6 {
        a.writer.close().unwrap();
        drop(a);
        let (access, options) = (Access::ReadWrite, ProfileOptions::default());
        let profile = Profile::open(world(seed), dirs[0].path(), &unlock(), access, options);
        let profile = profile.unwrap();
        let (space, writer) = profile.open_space(&"shared:test".parse().unwrap()).unwrap();
        a = Device { profile, space, writer: writer.unwrap() };
        let sealed = a.space.source().unwrap().seal_message(vec![9]).unwrap();
        assert!(b.space.source().unwrap().open_message(&key, &sealed).is_some());
        for old in &before {
            assert!(b.space.source().unwrap().open_message(&key, old).is_none());
        }
        before.push(sealed);
    }
}
