//! A handle of a space that shows less than its device may read: the kitchen's tablet, used by all.

use std::collections::BTreeSet;
use std::io::Cursor as Bytes;

use larder::{
    Band, Base, ChangesCursor, ErrorKind, Heads, IdempotencyKey, NewBlob, ObjectId, Options,
    PersonalKind, Query, ReceiptInfo, Role, Space, Terms, Timestamp, UnitOfWork, Version, Whose,
};
use serde_json::{Value, json};

use crate::common::{Device, household, kind, note};

const CANARY: &str = "zqcanary";

/// What is hidden, what can be seen, and which file is hidden.
struct Written {
    hidden: Vec<ObjectId>,
    seen: Vec<ObjectId>,
    photo: larder::BlobId,
}

async fn put(space: &Space, band: Band, value: &Value) -> ObjectId {
    let mut unit = UnitOfWork::new();
    unit.band(band);
    let object = unit.create("notes", value).unwrap();
    unit.vector(object, vec![1.0, if band == Band::Green { 1.0 } else { 0.0 }]);
    space.commit(unit).await.unwrap();
    object
}

fn photo(name: &str, band: Band) -> NewBlob {
    NewBlob { media_type: "image/png".into(), name: Some(name.into()), band: Some(band) }
}

/// Of each kind one in GREEN and one above: edited, in the trash, deleted, with a file.
async fn write(space: &Space) -> Written {
    let (mut hidden, mut seen) = (Vec::new(), Vec::new());
    let mut id = None;
    for band in [Band::Amber, Band::Green, Band::Red] {
        let all = if band == Band::Green { &mut seen } else { &mut hidden };
        let word = if band == Band::Green { "plain" } else { CANARY };
        let bytes = Bytes::new(format!("{word} {band}"));
        let blob = space.add_blob(bytes, photo(word, band)).await.unwrap();
        if band != Band::Green {
            id = Some(blob.id);
        }
        let named = json!({"path": word, "body": word, "$blob": blob.id.to_string()});
        let edited = put(space, band, &named).await;
        let value = json!({"path": word, "body": format!("{word} soup"), "n": 1});
        space.put("notes", edited, &value).await.unwrap();
        let trashed = put(space, band, &note("trashed", &format!("{word} soup"))).await;
        space.trash(trashed).await.unwrap();
        let deleted = put(space, band, &note("deleted", &format!("{word} soup"))).await;
        space.delete(deleted).await.unwrap();
        all.extend([edited, trashed, deleted]);
    }
    Written { hidden, seen, photo: id.unwrap() }
}

async fn with_tablet() -> (Device, Device, Written) {
    let ana = Device::found("Ana").await;
    let terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Green };
    let invitation = ana.profile.invite_on(&household(), terms).await.unwrap().unattended();
    let tablet = Device::join("tablet", Options::default(), &invitation.text).await;
    tablet.sync().await;
    let written = write(&ana.space).await;
    tablet.sync().await;
    (ana, tablet, written)
}

/// Everything that a handle tells of documents, as text.
async fn told(space: &Space, written: &Written) -> String {
    let mut all = vec![format!("{:?}", space.list(None, None, 100).await.unwrap().documents)];
    all.push(format!("{:?}", space.list_trash(None, None, 100).await.unwrap().documents));
    for path in [CANARY, "plain"] {
        all.push(format!("{:?}", space.find("notes", path).await.unwrap()));
    }
    for query in [
        Query::text("soup").limit(1),
        Query::text(CANARY),
        Query::text(format!("{CANARY} soup")),
        Query::similar("soup").limit(1),
        Query::similar(CANARY),
        Query::both(format!("{CANARY} soup")),
    ] {
        let found = space.search(query).await.unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.document.object, &it.snippet)).collect();
        all.push(format!("{found:?}"));
    }
    for object in written.hidden.iter().chain(&written.seen) {
        let object = *object;
        all.push(format!("{:?}", space.document(object).await.unwrap()));
        all.push(format!("{:?}", space.is_deleted(object).await.unwrap()));
        all.push(format!("{:?}", space.history(object).await.unwrap()));
        all.push(said(object, space.conflicts(object).await));
        all.push(said(object, space.value_at(object, Version::Now).await));
        let then = Version::Time(Timestamp(u64::MAX / 2));
        all.push(said(object, space.value_at(object, then).await));
        let flat = || Version::Heads(Heads::FLAT);
        all.push(said(object, space.diff(object, flat(), Version::Now).await));
        all.push(said(object, space.restorable(object, Version::Now).await));
    }
    all.join("\n")
}

/// What came of it, whichever the id was.
fn said<T: std::fmt::Debug>(object: ObjectId, result: Result<T, larder::Error>) -> String {
    let text = match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    };
    text.replace(&object.to_string(), "ID")
}

async fn changes(space: &Space) -> Vec<String> {
    let mut changes = space.changes(ChangesCursor::START);
    let count = changes.behind(1000).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..count {
        let larder::Changed::Document(change) = changes.next().await.unwrap() else { panic!() };
        let by = change.by.map(|by| (by.device, by.seq));
        all.push(format!("{} {:?} {:?} {by:?}", change.object, change.kind, change.collection));
    }
    all
}

/// The tablet in the kitchen is Ana's device, and shows what a guest may see. What it answers is
/// word by word what a device answers that never had anything above GREEN.
#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_handle_answers_as_a_device_that_never_had_it() {
    let (ana, tablet, written) = with_tablet().await;
    let green = ana.space.at_clearance(Band::Green);
    assert!(told(&ana.space, &written).await.contains(CANARY), "there is something to find");
    assert_eq!(told(&green, &written).await, told(&tablet.space, &written).await);
    assert!(!told(&green, &written).await.contains(CANARY));
    // No more by way of a higher one.
    let again = green.at_clearance(Band::Red);
    assert_eq!(told(&again, &written).await, told(&tablet.space, &written).await);
    assert_eq!(again.clearance().await.unwrap(), Band::Green);

    assert_eq!(green.digest().await.unwrap(), tablet.space.digest().await.unwrap());
    let of_tablet = changes(&tablet.space).await;
    assert_eq!(changes(&green).await, of_tablet);
    assert!(changes(&ana.space).await.len() > of_tablet.len());
    let (here, there) = (green.status().await.unwrap(), tablet.space.status().await.unwrap());
    assert_eq!(
        (here.documents, here.trashed, here.tombstones, here.unindexed),
        (there.documents, there.trashed, there.tombstones, 0)
    );
    assert_eq!(here.blobs.blobs, there.blobs.blobs);
    assert_eq!(here.blobs.bytes, there.blobs.bytes);
    // Vectors that the app gave; the tablet has none of those.
    let near =
        async |space: &Space| space.search(Query::vector(vec![1.0, 0.0]).limit(1)).await.unwrap();
    assert!(written.hidden.contains(&near(&ana.space).await[0].document.object));
    let found = near(&green).await;
    assert_eq!((found.len(), found[0].document.object), (1, written.seen[0]));

    // Files.
    let names = async |space: &Space| {
        let all = space.blobs().await.unwrap();
        all.into_iter().map(|blob| (blob.id, blob.name)).collect::<Vec<_>>()
    };
    assert_eq!(names(&green).await, names(&tablet.space).await);
    assert_eq!(names(&ana.space).await.len(), 3);
    let unknown = green.blob(written.photo).await.unwrap_err();
    let of_tablet = tablet.space.blob(written.photo).await.unwrap_err();
    assert_eq!(unknown.to_string(), of_tablet.to_string());
    let (id, _) = names(&green).await[0].clone();
    assert_eq!(green.blob(id).await.unwrap().read(0..5).await.unwrap(), b"plain");

    // Receipts: which entries there are is no secret, what they are of is.
    let all = async |space: &Space| space.receipts(None, 1000).await.unwrap();
    let places = |of: &[ReceiptInfo]| -> BTreeSet<_> {
        of.iter().map(|info| (info.device, info.seq)).collect()
    };
    // Either device may have written an empty entry since.
    let both = &places(&all(&tablet.space).await) & &places(&all(&ana.space).await);
    let shared = async |space: &Space| {
        let mut shared = all(space).await;
        shared.retain(|info| both.contains(&(info.device, info.seq)));
        shared
    };
    let receipts = shared(&green).await;
    assert_eq!(receipts, shared(&tablet.space).await);
    assert_ne!(receipts, shared(&ana.space).await);
    for receipt in receipts {
        green.receipt(receipt.device, receipt.seq).await.unwrap();
    }
}

/// A guest who knows or guesses an id learns nothing by trying to write there, and what is above
/// the handle's clearance is neither touched nor written.
#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_handle_writes_nothing_above_and_touches_nothing_there() {
    let (ana, _tablet, written) = with_tablet().await;
    let green = ana.space.at_clearance(Band::Green);
    let digest = ana.space.digest().await.unwrap();
    let unknown = ObjectId::new([0xee; 16]);
    for object in &written.hidden {
        let object = *object;
        for (it, other) in [
            (said(object, green.delete(object).await), said(unknown, green.delete(unknown).await)),
            (said(object, green.trash(object).await), said(unknown, green.trash(unknown).await)),
            (
                said(object, green.undo_trash(object).await),
                said(unknown, green.undo_trash(unknown).await),
            ),
            (
                said(object, green.restore(object, Version::Now).await),
                said(unknown, green.restore(unknown, Version::Now).await),
            ),
            (
                said(object, vector(&green, object).await),
                said(unknown, vector(&green, unknown).await),
            ),
            (said(object, edit(&green, object).await), said(unknown, edit(&green, unknown).await)),
        ] {
            assert_eq!(it, other);
            assert!(it.contains("ID"), "refused: {it}");
        }
        // An id that is taken cannot be used, whatever it is taken by.
        let refused = green.put("notes", object, &note("mine", "now")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string().to_lowercase();
        for word in ["amber", "red", "cleared", "deleted", "trash"] {
            assert!(!text.replace("cannot be used here", "").contains(word), "{text}");
        }
    }
    for band in [Band::Amber, Band::Red] {
        let mut unit = UnitOfWork::new();
        unit.band(band);
        unit.create("notes", &note("above", "")).unwrap();
        assert_eq!(kind(green.commit(unit.clone()).await), ErrorKind::NotAllowed);
        let blocking = green.clone();
        let done = tokio::task::spawn_blocking(move || blocking.commit_blocking(unit)).await;
        assert_eq!(kind(done.unwrap()), ErrorKind::NotAllowed);
        let added = green.add_blob(Bytes::new("above"), photo("above", band)).await;
        assert_eq!(kind(added), ErrorKind::NotAllowed);
    }
    assert_eq!(ana.space.digest().await.unwrap(), digest);

    // A key that a unit above has used tells nothing of it, and is no receipt for another unit.
    let mut unit = UnitOfWork::new();
    unit.idempotency_key(IdempotencyKey::new([7; 16]));
    unit.band(Band::Red);
    let above = unit.create("notes", &note("above", "")).unwrap();
    ana.space.commit(unit).await.unwrap();
    ana.space.erase(above).await.unwrap();
    let mut unit = UnitOfWork::new();
    unit.idempotency_key(IdempotencyKey::new([7; 16]));
    unit.create("notes", &note("mine", "")).unwrap();
    assert_eq!(kind(green.commit(unit).await), ErrorKind::Conflict);

    // What is seen can be worked with as ever.
    let amber = ana.space.at_clearance(Band::Amber);
    assert!(amber.document(written.hidden[0]).await.unwrap().is_some());
    assert!(amber.document(written.hidden[3]).await.unwrap().is_none(), "that is RED");
    green.put("notes", written.seen[0], &note("edited", "here")).await.unwrap();
    green.undo_trash(written.seen[1]).await.unwrap();
    let (restored, _) = green.restore(written.seen[2], Version::Now).await.unwrap();
    let (new, _) = green.create("notes", &note("new", "here")).await.unwrap();
    for object in [written.seen[0], written.seen[1], restored, new] {
        assert_eq!(ana.space.document(object).await.unwrap().unwrap().band, Band::Green);
    }
    // New ones are no higher where the space's usual ones are.
    let diary = ana.profile.create_space(&"personal:diary".parse().unwrap()).await.unwrap();
    let (page, _) = diary.at_clearance(Band::Green).create("pages", &note("p", "")).await.unwrap();
    assert_eq!(diary.document(page).await.unwrap().unwrap().band, Band::Green);
    let copy = green.copy_to(new, &diary, None).await.unwrap();
    assert!(diary.document(copy.object).await.unwrap().is_some());
    assert_eq!(kind(green.copy_to(written.hidden[0], &diary, None).await), ErrorKind::NotFound);
}

async fn vector(space: &Space, object: ObjectId) -> Result<larder::Receipt, larder::Error> {
    let mut unit = UnitOfWork::new();
    unit.vector(object, vec![0.0, 1.0]);
    space.commit(unit).await
}

async fn edit(space: &Space, object: ObjectId) -> Result<larder::Receipt, larder::Error> {
    let mut unit = UnitOfWork::new();
    unit.put_at("notes", object, &note("edited", ""), Base::Exactly(Heads::FLAT)).unwrap();
    space.commit(unit).await
}

/// What is about the space as a whole shows, counts or does more than the handle may: none of it
/// works, and what nobody thought of does not either.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_the_whole_space_is_refused_on_a_lowered_handle() {
    let (ana, tablet, written) = with_tablet().await;
    let green = ana.space.at_clearance(Band::Green);
    let dir = tempfile::tempdir().unwrap();
    let me = green.device();
    let member = green.devices().await.unwrap()[0].member;
    let seen = written.seen[0];
    let mut refused = vec![
        kind(green.erase(seen).await),
        kind(green.erasures().await),
        kind(green.redact(seen, vec![vec!["body".to_owned()]]).await),
        kind(green.retention_due(None).await),
        kind(green.apply_retention().await),
        kind(green.set_retention(None, None, larder::Retention::default()).await),
        kind(green.set_policy(larder::PolicyChange::default()).await),
        kind(green.set_contract(None, PersonalKind::Health, None).await),
        kind(green.written_by(member).await),
        kind(green.export_receipts(&dir.path().join("out"), |_, _| ()).await),
        kind(green.check().await),
        kind(green.repair().await),
        kind(green.prune_status().await),
        kind(green.prune(|_| ()).await),
        kind(green.rekey(|_, _| ()).await),
        kind(green.collect_blobs().await),
        kind(green.blob_policy().await),
    ];
    let other = tablet.space.device();
    refused.push(kind(green.revoke(vec![other]).await));
    refused.push(kind(green.revoke_member(member).await));
    refused.push(kind(green.change_role(other, Role::Reader, Band::Red).await));
    assert!(refused.iter().all(|kind| *kind == ErrorKind::NotAllowed), "{refused:?}");
    assert_eq!(green.retention().await.unwrap(), ana.space.retention().await.unwrap());
    assert_eq!(green.fingerprint().await.unwrap(), ana.space.fingerprint().await.unwrap());
    assert!(green.state().await.is_ok() && green.device() == me);
    assert!(green.personal(me, 1).await.unwrap().is_empty());
}

/// What kinds a contract found is metadata of what it was found in.
#[cfg(feature = "classify")]
#[tokio::test(flavor = "multi_thread")]
async fn what_kinds_were_found_above_is_not_told() {
    use larder::ContractAction::Raise;
    let ana = Device::found("Ana").await;
    ana.space.set_contract(None, PersonalKind::Health, Some(Raise(Band::Amber))).await.unwrap();
    let (_, receipt) =
        ana.space.create("notes", &note("Ella", "has tonsillitis again")).await.unwrap();
    let (device, seq) = (receipt.device, receipt.seq);
    assert_eq!(ana.space.personal(device, seq).await.unwrap(), [PersonalKind::Health]);
    let green = ana.space.at_clearance(Band::Green);
    assert_eq!(green.personal(device, seq).await.unwrap(), []);
    let refused = green.create("notes", &note("Ella", "has tonsillitis")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Contract);
    assert!(refused.to_string().contains("cleared for GREEN"), "{refused}");
}
