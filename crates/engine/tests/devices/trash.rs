//! What is in the trash, what comes out of it, and what is made again of what is gone.

use larder_engine::{ChangeKind, ChangesCursor, Checking, Version};
use larder_types::limits::REMOVALS_UNASKED_MAX;

use super::*;

impl Device {
    fn trash(&mut self, object: ObjectId) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.trash(object);
        self.commit(unit)
    }

    fn undo_trash(&mut self, object: ObjectId) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.undo_trash(object);
        self.commit(unit)
    }

    fn is_trashed(&self, object: ObjectId) -> bool {
        self.space.document(&object).unwrap().unwrap().trashed.is_some()
    }

    /// How many documents are listed, and how many are in the trash.
    fn counted(&self) -> (usize, usize) {
        let shown = self.space.list(None, None, 1000).unwrap().documents.len();
        (shown, self.space.list_trash(Some("notes"), None, 1000).unwrap().documents.len())
    }

    pub(super) fn is_whole(&mut self) {
        let mut checking = Checking::new(false);
        while !self.writer.check_step(&mut checking).unwrap() {}
        assert!(checking.report().findings.is_empty(), "{:?}", checking.report().findings);
    }
}

fn pair() -> ([tempfile::TempDir; 2], Device, Device) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut a = Device::found(dirs[0].path(), 1);
    a.put(object(1), &json!({"title": "lentil soup", "path": "soup.md"}));
    a.put(object(2), &json!({"title": "lentil stew", "path": "stew.md"}));
    let b = a.invite(dirs[1].path(), 2);
    (dirs, a, b)
}

#[test]
fn what_is_in_the_trash_is_kept_and_not_shown_until_it_comes_out() {
    let (_dirs, mut a, mut b) = pair();
    b.put(object(1), &json!({"title": "lentil soup", "path": "soup.md", "salt": true}));
    sync(&mut a, &mut b);
    let end = a.space.changes_end().unwrap();
    b.trash(object(1)).unwrap();
    b.trash(object(2)).unwrap();
    assert_eq!(b.trash(object(2)).map(drop).ok(), Some(()), "it is there already");
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        assert_eq!(device.counted(), (0, 2));
        assert_eq!(device.search(&Query::text("lentil")).len(), 0);
        assert!(device.space.find("notes", "soup.md").unwrap().is_empty());
        assert_eq!(device.value(object(1))["salt"], true, "it is what it was");
        assert!(device.is_trashed(object(1)) && device.is_trashed(object(2)));
        assert!(!device.space.is_deleted(&object(1)).unwrap());
        let mut unit = UnitOfWork::new();
        unit.put("notes", object(1), &json!({"title": "edited"})).unwrap();
        assert!(matches!(device.commit(unit), Err(Error::Trashed(_))));
        device.is_whole();
    }
    let told: Vec<_> =
        a.space.changes(&end, 9).unwrap().changes.iter().map(|change| change.kind).collect();
    assert_eq!(told, [ChangeKind::Trashed; 2]);
    a.undo_trash(object(2)).unwrap();
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        assert_eq!(device.counted(), (1, 1));
        let found = device.search(&Query::text("lentil").limit(1));
        assert_eq!(
            found.iter().map(|found| found.document.object).collect::<Vec<_>>(),
            [object(2)]
        );
        assert_eq!(device.value(object(2)), json!({"title": "lentil stew", "path": "stew.md"}));
        device.is_whole();
    }
    b.put(object(2), &json!({"title": "lentil stew with leek", "path": "stew.md"}));
    let words: Vec<_> = b.space.history(&object(2)).unwrap().iter().map(|item| item.kind).collect();
    assert_eq!(words, ["create", "trash", "untrash", "change"]);
    // In one unit, and a document that is created in it is not put there.
    let mut unit = UnitOfWork::new();
    unit.undo_trash(object(1));
    unit.put("notes", object(1), &json!({"title": "out, and edited"})).unwrap();
    b.commit(unit).unwrap();
    let mut unit = UnitOfWork::new();
    unit.put("notes", object(3), &json!({})).unwrap();
    unit.trash(object(3));
    assert!(matches!(b.commit(unit), Err(Error::Invalid(_))));
    assert!(matches!(b.trash(object(9)), Err(Error::NotFound(_))));
    sync(&mut a, &mut b);
    assert_eq!(a.counted(), (2, 0));
}

#[test]
fn edits_and_deletions_beside_the_trash_come_to_the_same_everywhere() {
    let (_dirs, mut a, mut b) = pair();
    for n in 3..=6 {
        a.put(object(n), &json!({"n": n}));
    }
    sync(&mut a, &mut b);
    // An edit beside it is in the trash with it.
    a.trash(object(1)).unwrap();
    b.put(object(1), &json!({"title": "soup with leek", "path": "soup.md"}));
    // Both put it there, and one who has seen only the one takes it out.
    a.trash(object(2)).unwrap();
    b.trash(object(2)).unwrap();
    a.undo_trash(object(2)).unwrap();
    // Both put it there.
    a.trash(object(3)).unwrap();
    b.trash(object(3)).unwrap();
    // A tombstone wins over putting it there, and over taking it out.
    a.trash(object(4)).unwrap();
    b.delete(object(4));
    sync(&mut a, &mut b);
    a.trash(object(5)).unwrap();
    sync(&mut a, &mut b);
    a.undo_trash(object(5)).unwrap();
    b.delete(object(5));
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        assert_eq!(device.value(object(1))["title"], "soup with leek");
        assert!(device.is_trashed(object(1)));
        assert!(!device.is_trashed(object(2)));
        assert!(device.is_trashed(object(3)));
        for n in [4, 5] {
            assert!(device.space.is_deleted(&object(n)).unwrap());
            assert!(matches!(device.undo_trash(object(n)), Err(Error::Deleted(_))));
        }
        assert_eq!(device.counted(), (2, 2));
        device.is_whole();
    }
}

#[test]
fn what_is_in_the_trash_is_erased_like_anything_else() {
    let (_dirs, mut a, mut b) = pair();
    a.trash(object(1)).unwrap();
    b.put(object(1), &json!({"title": "zqcanary", "path": "soup.md"}));
    sync(&mut a, &mut b);
    assert_eq!(b.search(&Query::text("zqcanary")).len(), 0);
    a.writer.erase(object(1)).unwrap();
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        assert!(device.writer.finish_erasures().unwrap());
        assert_eq!(device.counted(), (1, 0));
        assert!(matches!(device.undo_trash(object(1)), Err(Error::Deleted(_))));
        device.is_whole();
    }
    sync(&mut a, &mut b);
    assert!(a.space.erasures().unwrap()[0].is_done());
}

#[test]
fn a_newcomer_to_a_pruned_space_has_the_same_in_its_trash() {
    let (_dirs, mut a, mut b) = pair();
    a.trash(object(1)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        for device in [&mut a, &mut b] {
            device.prune(true);
        }
        sync(&mut a, &mut b);
        a.learn_acks(&b);
        b.learn_acks(&a);
    }
    assert!(a.pruned() > 0, "nothing was pruned");
    let mut c = a.invite(dir.path(), 3);
    c.fill(&a);
    assert!(c.is_trashed(object(1)));
    assert_eq!((c.counted(), c.space.digest().unwrap()), ((1, 1), a.space.digest().unwrap()));
    c.undo_trash(object(1)).unwrap();
    sync(&mut a, &mut c);
    assert_eq!(a.counted(), (2, 0));
}

#[test]
fn what_was_deleted_is_made_again_under_another_id_that_names_it() {
    let (_dirs, mut a, mut b) = pair();
    a.put(object(1), &json!({"title": "lentil soup", "salt": 1}));
    sync(&mut a, &mut b);
    b.put(object(1), &json!({"title": "lentil soup", "salt": 1, "late": true}));
    a.delete(object(1));
    sync(&mut a, &mut b);
    let restore = |device: &mut Device, version: &Version| -> Result<ObjectId> {
        let found = device.space.restorable(&object(1), version)?;
        let mut unit = UnitOfWork::new();
        let mut entropy = Counter(device.have().values().sum());
        let collection = found.collection.as_str();
        let new = unit.restore(&mut entropy, object(1), collection, found.value)?;
        device.commit(unit)?;
        Ok(new)
    };
    // Also what was written too late, and what it was before.
    let new = restore(&mut b, &Version::Now).unwrap();
    assert_eq!(b.value(new), json!({"title": "lentil soup", "salt": 1, "late": true}));
    let flat = Version::Heads("flat".parse().unwrap());
    let first = restore(&mut b, &flat).unwrap();
    assert_eq!(b.value(first), json!({"title": "lentil soup", "path": "soup.md"}));
    sync(&mut a, &mut b);
    for device in [&mut a, &mut b] {
        let history = device.space.history(&new).unwrap();
        assert_eq!(history[0].restored_from, Some(object(1)));
        assert_eq!(history[0].kind, "restore");
        assert!(device.space.is_deleted(&object(1)).unwrap(), "it never comes back");
        device.is_whole();
    }
    let value = a.value(first);
    a.edit(first, |value| value["more"] = 1.into());
    assert_ne!(a.value(first), value, "it is a document like any other");
    let then = Version::Time(Timestamp(0));
    assert!(matches!(restore(&mut a, &then), Err(Error::NotFound(_))));
    a.writer.erase(object(1)).unwrap();
    assert!(matches!(restore(&mut a, &Version::Now), Err(Error::NotFound(_))));
    assert!(matches!(a.space.restorable(&object(9), &Version::Now), Err(Error::NotFound(_))));
}

#[test]
fn many_documents_go_at_once_only_if_somebody_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::found(dir.path(), 1);
    let many = u8::try_from(REMOVALS_UNASKED_MAX + 1).unwrap();
    for n in 1..=many {
        a.put(object(n), &json!({ "n": n }));
    }
    let unit = |count: u8, remove: fn(&mut UnitOfWork, ObjectId)| {
        let mut unit = UnitOfWork::new();
        (1..=count).for_each(|n| remove(&mut unit, object(n)));
        unit
    };
    for remove in [UnitOfWork::trash, UnitOfWork::delete] {
        let refused = a.commit(unit(many, remove));
        assert!(matches!(refused, Err(Error::RemovesMany { removed: 51 })), "{refused:?}");
    }
    assert_eq!(a.counted(), (usize::from(many), 0));
    a.commit(unit(many - 1, UnitOfWork::trash)).unwrap();
    let mut sure = unit(many, UnitOfWork::delete);
    sure.confirm_removals();
    a.commit(sure).unwrap();
    assert_eq!(a.counted(), (0, 0));
    let read = a.space.changes(&ChangesCursor::START, 1000).unwrap();
    assert_eq!(read.changes.last().unwrap().kind, ChangeKind::Deleted);
}
