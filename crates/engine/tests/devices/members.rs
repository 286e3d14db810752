//! Roles, and devices that are shut out.

use larder_engine::{Terms, Whose};
use larder_log::Band;
use larder_log::act::Role;

use super::*;

const WRITER: Terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Red };

/// A founder and two writers who know each other.
fn family(dirs: &[tempfile::TempDir]) -> [Device; 3] {
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut one = founder.invite_on(dirs[1].path(), 2, WRITER);
    let mut two = founder.invite_on(dirs[2].path(), 3, WRITER);
    one.pull(&founder);
    two.pull(&founder);
    [founder, one, two]
}

fn dirs() -> Vec<tempfile::TempDir> {
    (0..4).map(|_| tempfile::tempdir().unwrap()).collect()
}

fn note(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

fn text(device: &Device, n: u8) -> Option<Value> {
    device.space.document(&note(n)).unwrap().map(|found| Value::Object(found.value))
}

fn finds(device: &mut Device, word: &str) -> Vec<ObjectId> {
    let found = device.search(&larder_engine::Query::text(word));
    found.into_iter().map(|found| found.document.object).collect()
}

fn put(device: &mut Device, n: u8, value: &Value) -> Result<Receipt> {
    let mut unit = UnitOfWork::new();
    unit.put("notes", note(n), value).unwrap();
    device.writer.commit(&mut std::iter::once(unit)).pop().unwrap()
}

/// A phone was lost. What it wrote and others had counts; what it writes afterwards counts nowhere,
/// in whatever order the news arrives; and what the others write is not sealed to it.
#[test]
fn a_lost_phone_writes_and_reads_nothing_more() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    put(&mut lost, 1, &json!({"text": "before"})).unwrap();
    founder.pull(&lost);
    // The thief writes; the other device hears of that before it hears of the revocation.
    put(&mut lost, 1, &json!({"text": "by the thief"})).unwrap();
    put(&mut lost, 2, &json!({"text": "by the thief too"})).unwrap();
    other.pull(&lost);
    assert_eq!(text(&other, 2), Some(json!({"text": "by the thief too"})));
    assert_eq!(finds(&mut other, "thief").len(), 2);
    let receipt = founder.writer.revoke(&[lost.space.device()]).unwrap();
    receipt.verify().unwrap();
    put(&mut founder, 3, &json!({"text": "a secret"})).unwrap();

    other.pull(&founder);
    founder.pull(&other);
    for device in [&founder, &other] {
        assert_eq!(text(device, 1), Some(json!({"text": "before"})), "as it was");
        assert_eq!(text(device, 2), None, "what counts no more is not shown");
        assert_eq!(text(device, 3), Some(json!({"text": "a secret"})));
        assert_eq!(device.space.devices().unwrap().len(), 2);
        assert_eq!(device.space.former_devices().unwrap()[0].device, lost.space.device());
    }
    let mut checking = larder_engine::Checking::new(false);
    while !other.writer.check_step(&mut checking).unwrap() {}
    assert_eq!(checking.into_report().findings, [], "the space is what its log says");
    assert_eq!(finds(&mut other, "thief"), []);
    assert_eq!(finds(&mut other, "before"), [note(1)]);

    // It is no peer any more: nothing is answered.
    let transport = lost.profile.transport_id();
    assert_eq!(founder.space.peer_device(&transport), None);
    // With a recording of all that was sent, handed over by an accomplice, it reads nothing new.
    let position = Position::default();
    let request = Request::ReadBatch {
        after: position,
        have: BTreeMap::new(),
        epochs: Vec::new(),
        bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
    };
    let mut after = request;
    loop {
        let answer = founder.space.answer(&other.profile.transport_id(), after);
        let Answer::Reply(Reply::Batch { position, batch }) = answer else { panic!("{answer:?}") };
        let Some(batch) = batch else { break };
        let _ = lost.writer.apply(*batch);
        after = Request::ReadBatch {
            after: position,
            have: lost.have(),
            epochs: Vec::new(),
            bytes_target: larder_types::limits::BATCH_BYTES_TARGET,
        };
    }
    assert!(text(&lost, 1).is_some(), "the positive control: it reads what it had");
    assert_eq!(text(&lost, 3), None, "sealed to the others alone");
    // And once it knows, it says so.
    let refused = put(&mut lost, 4, &json!({"text": "anything"})).unwrap_err();
    assert!(matches!(refused, Error::ShutOut), "{refused}");
}

#[test]
fn a_reader_reads_and_does_not_write() {
    let dirs = dirs();
    let mut founder = Device::found(dirs[0].path(), 1);
    put(&mut founder, 1, &json!({"text": "for all"})).unwrap();
    let terms = Terms { role: Role::Reader, ..WRITER };
    let mut reader = founder.invite_on(dirs[1].path(), 2, terms);
    reader.pull(&founder);
    assert_eq!(text(&reader, 1), Some(json!({"text": "for all"})));
    let refused = put(&mut reader, 2, &json!({"text": "no"})).unwrap_err();
    assert!(matches!(refused, Error::MayNotWrite(Role::Reader)), "{refused}");
    // A file that a reader added would be there on its own device alone.
    let (manifest, _) = blobs::staged(&mut reader, b"no", "no.txt");
    let refused = reader.writer.commit_blob(&manifest);
    assert!(matches!(refused, Err(Error::MayNotWrite(Role::Reader))));
    let of_writer = reader.profile.invite_on(&reader.space, Vec::new(), WRITER);
    assert!(matches!(of_writer, Err(Error::Invalid(_))));
    let nobody = reader.writer.revoke(&[founder.space.device()]);
    assert!(matches!(nobody, Err(Error::Invalid(_))), "and rules over nobody");

    founder.writer.change_role(reader.space.device(), Role::Writer, Band::Red).unwrap();
    reader.pull(&founder);
    put(&mut reader, 2, &json!({"text": "by now it may"})).unwrap();
    founder.pull(&reader);
    assert_eq!(text(&founder, 2), Some(json!({"text": "by now it may"})));
}

/// A writer becomes a reader while it is away and writes on: what it wrote beside that counts
/// nowhere, and it finds out. Once it may write again, what it writes from then on counts.
#[test]
fn what_a_writer_wrote_beside_its_demotion_counts_for_nothing() {
    let dirs = dirs();
    let [mut founder, mut one, mut two] = family(&dirs);
    put(&mut one, 1, &json!({"text": "first"})).unwrap();
    founder.pull(&one);
    founder.writer.change_role(one.space.device(), Role::Reader, Band::Red).unwrap();
    put(&mut one, 1, &json!({"text": "beside it"})).unwrap();
    two.pull(&one);
    assert_eq!(text(&two, 1), Some(json!({"text": "beside it"})));
    two.pull(&founder);
    founder.pull(&one);
    one.pull(&founder);
    for device in [&founder, &one, &two] {
        assert_eq!(text(device, 1), Some(json!({"text": "first"})));
    }
    assert!(matches!(put(&mut one, 3, &json!({})), Err(Error::MayNotWrite(Role::Reader))));
    founder.writer.change_role(one.space.device(), Role::Writer, Band::Red).unwrap();
    one.pull(&founder);
    put(&mut one, 1, &json!({"text": "second"})).unwrap();
    founder.pull(&one);
    two.pull(&founder);
    for device in [&founder, &one, &two] {
        assert_eq!(text(device, 1), Some(json!({"text": "second"})));
    }
}

#[test]
fn a_space_is_never_left_without_an_owner() {
    let dirs = dirs();
    let [mut founder, one, _] = family(&dirs);
    let me = founder.space.device();
    let refused = founder.writer.revoke(&[me]).unwrap_err();
    assert!(refused.to_string().contains("owner"), "{refused}");
    let refused = founder.writer.change_role(me, Role::Writer, Band::Red).unwrap_err();
    assert!(refused.to_string().contains("owner"), "{refused}");
    put(&mut founder, 1, &json!({"text": "and nothing of it was kept"})).unwrap();
    founder.writer.change_role(one.space.device(), Role::Owner, Band::Red).unwrap();
    founder.writer.revoke(&[me]).unwrap();
    assert!(matches!(put(&mut founder, 2, &json!({})), Err(Error::ShutOut)));
}

/// What is known of membership is the same after the space was closed and opened.
#[test]
fn a_revocation_lasts() {
    let dirs = dirs();
    let [mut founder, lost, _] = family(&dirs);
    founder.writer.revoke(&[lost.space.device()]).unwrap();
    let before = (founder.space.devices().unwrap(), founder.space.former_devices().unwrap());
    let name = founder.space.name().clone();
    founder.writer.close().unwrap();
    let Device { profile, space, writer } = founder;
    drop(writer);
    drop(space);
    let (space, _writer) = profile.open_space(&name).unwrap();
    assert_eq!((space.devices().unwrap(), space.former_devices().unwrap()), before);
}

/// A phone lies in a drawer for ever: nothing can be pruned, since it might hold edits that nobody
/// has seen. Once it is shut out nobody waits for it, also where somebody has what it wrote
/// besides.
#[test]
fn a_device_that_never_returns_holds_up_no_pruning_once_it_is_shut_out() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    put(&mut lost, 9, &json!({"text": "before"})).unwrap();
    founder.pull(&lost);
    prune::four_edited(&mut founder);
    prune::settle(&mut [&mut founder, &mut other]);
    assert_eq!((founder.pruned(), other.pruned()), (0, 0), "it is waited for");

    put(&mut lost, 9, &json!({"text": "besides"})).unwrap();
    other.pull(&lost);
    let device = lost.space.device();
    drop(lost);
    founder.writer.revoke(&[device]).unwrap();
    prune::settle(&mut [&mut founder, &mut other]);
    prune::settle(&mut [&mut founder, &mut other]);
    assert!(founder.pruned() > 0 && other.pruned() > 0);
    for device in [&founder, &other] {
        assert_eq!(text(device, 9), Some(json!({"text": "before"})));
    }
}

const KIT: [u8; 32] = [77; 32];

/// The only owner's device is lost. The writer's tablet and the words give the space back: it is
/// an owner then, lets others in, and what it writes is sealed without the lost one.
#[test]
fn a_recovery_kit_gives_a_space_back_without_its_owner() {
    let dirs = dirs();
    let kit = Secret::new(KIT);
    let mut phone = founded_with(dirs[0].path(), &kit);
    phone.put(object(1), &json!({"title": "Before"}));
    let mut tablet = phone.invite_on(dirs[1].path(), 2, WRITER);
    let mut laptop = phone.invite_on(dirs[2].path(), 3, WRITER);
    let lost = phone.space.device();
    // Who has not heard of the laptop yet sees other digits.
    let digits = |device: &Device| device.space.fingerprint().unwrap();
    assert_ne!(digits(&tablet), digits(&phone));
    tablet.pull(&phone);
    let before = digits(&tablet);
    assert_eq!([&before, &before], [&digits(&phone), &digits(&laptop)]);

    let receipt = tablet.writer.recover(&kit, &[lost]).unwrap();
    receipt.verify().unwrap();
    assert_eq!(tablet.space.own_role().unwrap(), Role::Owner);
    assert_ne!(tablet.space.fingerprint().unwrap(), before);
    tablet.put(object(2), &json!({"title": "After"}));
    // Whoever hears of it agrees; the lost device's own words count nowhere.
    phone.put(object(3), &json!({"title": "By the thief"}));
    sync(&mut laptop, &mut tablet);
    laptop.pull(&phone);
    tablet.pull(&laptop);
    for device in [&laptop, &tablet] {
        assert_eq!(device.value(object(2)), json!({"title": "After"}));
        assert!(device.space.document(&object(3)).unwrap().is_none());
        assert_eq!(device.space.devices().unwrap().len(), 2);
    }
    phone.pull(&tablet);
    assert!(phone.space.document(&object(2)).unwrap().is_none(), "it was sealed without it");
    // It may do what an owner may.
    let owner = Terms { role: Role::Owner, ..WRITER };
    let newcomer = tablet.invite_on(dirs[3].path(), 4, owner);
    assert_eq!(newcomer.value(object(1)), json!({"title": "Before"}));
}

/// A thief shut everybody out from the owner's phone. The words were refused on every device that
/// had heard of it.
#[test]
fn the_words_help_a_device_that_the_thief_has_shut_out() {
    let dirs = dirs();
    let kit = Secret::new(KIT);
    let mut phone = founded_with(dirs[0].path(), &kit);
    phone.put(object(1), &json!({"title": "Before"}));
    let mut tablet = phone.invite_on(dirs[1].path(), 2, WRITER);
    let (thief, own) = (phone.space.device(), tablet.space.device());
    let laptop = phone.invite_on(dirs[3].path(), 4, WRITER);
    phone.writer.revoke(&[own]).unwrap();
    // From somebody who had not heard of it yet.
    let to = laptop.profile.transport_id();
    for batch in super::peers::batches(&phone, to, &tablet.epochs()) {
        if batch.size() > tablet.have().get(&batch.device).copied().unwrap_or(0) {
            tablet.writer.apply(batch).unwrap();
        }
    }
    assert!(tablet.space.own_role().is_err());
    tablet.writer.recover(&kit, &[thief]).unwrap();
    assert_eq!(tablet.space.own_role().unwrap(), Role::Owner);
    tablet.put(object(2), &json!({"title": "After"}));
    let newcomer = tablet.invite_on(dirs[2].path(), 3, WRITER);
    assert_eq!(newcomer.value(object(1)), json!({"title": "Before"}));
    assert_eq!(newcomer.value(object(2)), json!({"title": "After"}));
}

/// Any one device has to do with the words: a tablet that was made a reader of the lowest band, and
/// an old phone that had given way to another.
#[test]
fn the_words_help_a_device_that_was_demoted_or_had_left() {
    for leaves in [false, true] {
        let dirs = dirs();
        let kit = Secret::new(KIT);
        let mut phone = founded_with(dirs[0].path(), &kit);
        phone.put(object(1), &json!({"title": "Before"}));
        let mut tablet = phone.invite_on(dirs[1].path(), 2, WRITER);
        tablet.put(object(2), &json!({"title": "By the tablet"}));
        let (lost, own) = (phone.space.device(), tablet.space.device());
        if leaves {
            tablet.writer.revoke(&[own]).unwrap();
            assert!(tablet.space.own_role().is_err());
        } else {
            phone.pull(&tablet);
            phone.writer.change_role(own, Role::Reader, Band::Green).unwrap();
            tablet.pull(&phone);
            assert_eq!(tablet.space.own_role().unwrap(), Role::Reader);
        }
        assert!(put(&mut tablet, 3, &json!({"title": "No"})).is_err());
        drop(phone);

        tablet.writer.recover(&kit, &[lost]).unwrap();
        assert_eq!(tablet.space.own_role().unwrap(), Role::Owner);
        tablet.put(object(3), &json!({"title": "After"}));
        let owner = Terms { role: Role::Owner, ..WRITER };
        let mut newcomer = tablet.invite_on(dirs[2].path(), 3, owner);
        for (n, title) in [(1, "Before"), (2, "By the tablet"), (3, "After")] {
            assert_eq!(tablet.value(object(n)), json!({"title": title}));
            assert_eq!(newcomer.value(object(n)), json!({"title": title}));
        }
        newcomer.put(object(4), &json!({"title": "By the newcomer"}));
        sync(&mut tablet, &mut newcomer);
        assert_eq!(tablet.space.devices().unwrap().len(), 2);
    }
}

#[test]
fn wrong_words_give_nothing_back_and_write_nothing() {
    let dirs = dirs();
    let (kit, other) = (Secret::new(KIT), Secret::new([78; 32]));
    let mut phone = founded_with(dirs[0].path(), &kit);
    let mut tablet = phone.invite_on(dirs[1].path(), 2, WRITER);
    let entries = tablet.space.status().unwrap().entries;
    let mut refused = |kit: &Secret<32>, lost: &[larder_types::DeviceId], says: &str| {
        let error = tablet.writer.recover(kit, lost).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(tablet.space.own_role().unwrap(), Role::Writer);
        assert_eq!(tablet.space.status().unwrap().entries, entries);
    };
    refused(&other, &[], "another kit");
    refused(&kit, &[larder_types::DeviceId::new([1; 32])], "no device");
    let me = tablet.space.device();
    let error = tablet.writer.recover(&kit, &[me]).unwrap_err().to_string();
    assert!(error.contains("lost ones"), "{error}");
    // A space that has no kit.
    let mut plain = Device::found(dirs[2].path(), 5);
    let error = plain.writer.recover(&kit, &[]).unwrap_err().to_string();
    assert!(error.contains("without a recovery kit"), "{error}");
}

/// The same kit, and no space shows it by its key.
#[test]
fn a_kit_serves_several_spaces_each_with_a_key_of_its_own() {
    let nonces = [[1; 16], [2; 16]];
    let keys =
        nonces.map(|nonce| larder_log::act::recovery_key(&Secret::new(KIT), &nonce).public());
    assert_ne!(keys[0], keys[1]);
}

pub(super) fn founded_with(dir: &Path, kit: &Secret<32>) -> Device {
    let profile = Profile::create(world(1), dir, &unlock(), options("first")).unwrap();
    let name = "shared:test".parse().unwrap();
    let (space, writer) = profile.create_space_with(&name, Some(kit)).unwrap();
    Device { profile, space, writer }
}

/// Cleo had the lost phone's late edit before she heard that it was shut out, and wrote on in the
/// same document: what she was given a receipt for stays, and so does what it is written on. What
/// nobody wrote on goes.
#[test]
fn what_was_written_on_late_edits_is_kept_with_them() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    put(&mut founder, 1, &json!({"text": "one\n"})).unwrap();
    lost.pull(&founder);
    founder.pull(&lost);
    // Late: a change, a new document, and both of what nobody builds on.
    put(&mut lost, 1, &json!({"text": "one\ntwo\n"})).unwrap();
    put(&mut lost, 2, &json!({"text": "new\n"})).unwrap();
    put(&mut lost, 3, &json!({"text": "nobody wrote on"})).unwrap();
    other.pull(&lost);
    put(&mut other, 1, &json!({"text": "one\ntwo\nthree\n"})).unwrap();
    put(&mut other, 2, &json!({"text": "new\nand more\n"})).unwrap();
    founder.writer.revoke(&[lost.space.device()]).unwrap();

    // The founder has what was written on it before what that says counts.
    founder.pull(&other);
    assert_eq!(text(&founder, 1), Some(json!({"text": "one\n"})));
    other.pull(&founder);
    founder.pull(&other);
    for device in [&founder, &other] {
        assert_eq!(text(device, 1), Some(json!({"text": "one\ntwo\nthree\n"})));
        assert_eq!(text(device, 2), Some(json!({"text": "new\nand more\n"})));
        assert_eq!(text(device, 3), None);
    }
    assert_eq!(founder.space.digest().unwrap(), other.space.digest().unwrap());
    for device in [&mut founder, &mut other] {
        let mut checking = larder_engine::Checking::new(false);
        while !device.writer.check_step(&mut checking).unwrap() {}
        assert_eq!(checking.into_report().findings, []);
    }
    // A newcomer sees the same.
    let mut newcomer = founder.invite_on(dirs[3].path(), 4, WRITER);
    newcomer.pull(&founder);
    assert_eq!(founder.space.digest().unwrap(), newcomer.space.digest().unwrap());
}

/// A lost phone had brought a document with a picture, late, and Cleo, who had not heard, wrote on
/// in it. Whoever heard of that before the picture's manifest came took the manifest for void: the
/// document was adopted, and showed no picture for ever.
#[test]
fn what_was_written_on_keeps_its_picture() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    let content = blobs::noise(7, 100_000);
    let (info, _) = blobs::add(&mut lost, &content, "late.png");
    let (unnamed, _) = blobs::add(&mut lost, &blobs::noise(8, 1000), "unnamed.png");
    let photo = json!({"$blob": info.id.to_string()});
    put(&mut lost, 1, &json!({"text": "new\n", "photo": photo})).unwrap();
    other.pull(&lost);
    assert!(blobs::fetch(&mut other, &lost) > 0);
    put(&mut other, 1, &json!({"text": "new\nand more\n", "photo": photo})).unwrap();
    founder.writer.revoke(&[lost.space.device()]).unwrap();
    // It comes late to one with its bytes, and to another without.
    founder.pull(&other);
    other.pull(&founder);
    founder.pull(&other);
    let mut newcomer = founder.admit_in(dirs[3].path(), world(4));
    let me = newcomer.profile.transport_id();
    for mut batch in super::peers::batches(&founder, me, &[]) {
        for entry in &mut batch.entries {
            for (section, payload) in entry.commitments.iter().zip(&mut entry.payloads) {
                if batch.device == lost.space.device() && section.class == 0 {
                    *payload = larder_log::Payload::Missing;
                }
            }
        }
        newcomer.writer.apply(batch).unwrap();
    }
    newcomer.fill(&founder);
    for device in [&mut founder, &mut newcomer] {
        assert_eq!(text(device, 1).unwrap()["text"], "new\nand more\n");
        assert!(device.space.blob(&info.id).unwrap().is_some());
        assert!(blobs::fetch(device, &other) > 0);
        assert_eq!(blobs::read(device, &info.id), content);
        assert_eq!(device.wanted(), None);
        device.sound();
    }
    // What nobody names is never fetched.
    assert!(founder.space.blob(&unnamed.id).unwrap().is_some_and(|blob| blob.missing > 0));
}

/// The lost phone was an owner's: the thief let a device of his in, late, and Cleo, who had not
/// heard, took in what it wrote and wrote on. That device is nobody's peer, and what it wrote by
/// itself counts for nothing; nothing of Cleo's is lost for it.
#[test]
fn a_device_that_a_thief_let_in_holds_up_nobody() {
    let dirs = dirs();
    let owner = Terms { role: Role::Owner, ..WRITER };
    let mut founder = Device::found(dirs[0].path(), 1);
    let mut lost = founder.invite_on(dirs[1].path(), 2, owner);
    let mut other = founder.invite_on(dirs[2].path(), 3, WRITER);
    lost.pull(&founder);
    other.pull(&founder);
    lost.pull(&other);
    founder.pull(&lost);
    let mut puppet = lost.invite_on(dirs[3].path(), 4, WRITER);
    puppet.pull(&lost);
    put(&mut puppet, 1, &json!({"text": "by the puppet\n"})).unwrap();
    put(&mut puppet, 2, &json!({"text": "by the puppet alone"})).unwrap();
    lost.pull(&puppet);
    other.pull(&lost);
    put(&mut other, 1, &json!({"text": "by the puppet\nand by Cleo\n"})).unwrap();
    put(&mut other, 3, &json!({"text": "by Cleo"})).unwrap();
    founder.writer.revoke(&[lost.space.device()]).unwrap();

    founder.pull(&other);
    assert_eq!(text(&founder, 3), Some(json!({"text": "by Cleo"})));
    other.pull(&founder);
    founder.pull(&other);
    for device in [&founder, &other] {
        assert_eq!(text(device, 1), Some(json!({"text": "by the puppet\nand by Cleo\n"})));
        assert_eq!(text(device, 2), None);
        assert_eq!(device.space.peer_device(&puppet.profile.transport_id()), None);
    }
    assert_eq!(founder.space.digest().unwrap(), other.space.digest().unwrap());
}

/// Nothing is left of a document but its leaf in a snapshot when the thief changes it, late. What
/// he wrote goes again, and what others wrote on it does not.
#[test]
fn late_edits_of_what_was_pruned_go_as_well() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    prune::four_edited(&mut founder);
    prune::settle(&mut [&mut founder, &mut lost, &mut other]);
    prune::settle(&mut [&mut founder, &mut lost, &mut other]);
    assert!(founder.pruned() > 0 && other.pruned() > 0 && lost.pruned() > 0);
    let before: Vec<_> = (1..=2).map(|n| text(&other, n).unwrap()).collect();
    let late = |value: &Value, text: &str| {
        let mut value = value.clone();
        value["late"] = json!(text);
        value
    };
    // Of what was deleted the snapshot has an earlier version.
    let third = late(&text(&founder, 3).unwrap(), "by the founder");
    put(&mut founder, 3, &third).unwrap();
    lost.pull(&founder);
    other.pull(&founder);
    put(&mut lost, 1, &late(&before[0], "by the thief")).unwrap();
    put(&mut lost, 2, &late(&before[1], "by the thief")).unwrap();
    lost.delete(note(3));
    other.pull(&lost);
    assert_eq!(text(&other, 3), None);
    let edited = late(&late(&before[1], "by the thief"), "and by Cleo");
    put(&mut other, 2, &edited).unwrap();
    founder.writer.revoke(&[lost.space.device()]).unwrap();
    other.pull(&founder);
    founder.pull(&other);
    for device in [&founder, &other] {
        assert_eq!(text(device, 1).as_ref(), Some(&before[0]));
        assert_eq!(text(device, 2).as_ref(), Some(&edited));
    }
    // Of what he deleted nothing was left there; the founder still has it.
    assert!(text(&founder, 3).is_some());
    other.fill(&founder);
    assert_eq!(text(&founder, 3).as_ref(), Some(&third));
    assert_eq!(text(&other, 3).as_ref(), Some(&third));
    assert_eq!(founder.space.digest().unwrap(), other.space.digest().unwrap());
}

/// What the thief wrote in one document under very many creations of its id is more than can be
/// made anew at once. It goes all the same.
#[test]
fn a_document_that_was_created_very_often_is_judged_too() {
    let dirs = dirs();
    let [mut founder, mut lost, mut other] = family(&dirs);
    // Each of these is a creation beside the others: the device knows of none of them.
    let mut thieves: Vec<Device> = Vec::new();
    let all: Vec<_> = (0..20).map(|_| tempfile::tempdir().unwrap()).collect();
    for (seed, dir) in (10..).zip(&all) {
        thieves.push(founder.invite_on(dir.path(), seed, WRITER));
    }
    put(&mut founder, 1, &json!({"text": "by the founder\n"})).unwrap();
    for thief in &mut thieves {
        put(thief, 1, &json!({"text": "beside it\n"})).unwrap();
        founder.pull(thief);
    }
    lost.pull(&founder);
    other.pull(&founder);
    let shown = text(&other, 1).unwrap();
    let mut late = shown.clone();
    late["late"] = json!("by the thief");
    put(&mut lost, 1, &late).unwrap();
    other.pull(&lost);
    assert_eq!(text(&other, 1), Some(late));
    founder.writer.revoke(&[lost.space.device()]).unwrap();
    other.pull(&founder);
    assert_eq!(text(&other, 1), Some(shown));
    assert_eq!(text(&founder, 1), text(&other, 1));
}

/// A thief had shut a tablet out from the owner's phone, and the laptop agreed with the phone on
/// what everything came to: without the letter that the tablet wrote before it heard. When the
/// words had given the space back to the tablet, the laptop took the letter for one that was in
/// there, dropped its bytes, and who came later never got it. And of what the laptop itself had
/// written the tablet got nothing: it was asked to agree on what no bytes were left of.
#[test]
fn what_was_agreed_on_while_a_device_was_shut_out_loses_nothing_once_the_words_bring_it_back() {
    use super::prune::{four_edited, settle};
    for by_thief in [false, true] {
        let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
        let kit = Secret::new(KIT);
        let mut phone = founded_with(dirs[0].path(), &kit);
        let mut tablet = phone.invite_on(dirs[1].path(), 2, WRITER);
        let mut laptop = phone.invite_on(dirs[2].path(), 3, WRITER);
        four_edited(&mut phone);
        settle(&mut [&mut phone, &mut tablet, &mut laptop]);
        let (thief, before) = (phone.space.device(), laptop.pruned());
        phone.writer.revoke(&[tablet.space.device()]).unwrap();
        for n in 1..=2 {
            tablet.put(object(9), &json!({"text": "a letter", "n": n}));
        }
        laptop.pull(&tablet);
        if by_thief {
            for n in 1..=4 {
                phone.edit(object(n), |value| value["edited"] = "by the thief".into());
            }
        }
        laptop.pull(&phone);
        assert!(laptop.space.document(&object(9)).unwrap().is_none(), "the control");
        for n in 5..=8 {
            laptop.put(object(n), &json!({"by": "the laptop"}));
            laptop.edit(object(n), |value| value["laptop"] = n.into());
        }
        for _ in 0..3 {
            settle(&mut [&mut phone, &mut laptop]);
        }
        assert!(laptop.pruned() >= before + 8, "the control");
        tablet.writer.recover(&kit, &[thief]).unwrap();
        laptop.pull(&tablet);
        tablet.pull(&laptop);
        let mut newcomer = tablet.admit_in(dirs[3].path(), world(8));
        laptop.pull(&tablet);
        newcomer.pull(&laptop);
        newcomer.fill(&laptop);
        let before = laptop.pruned();
        for n in 1..=4 {
            laptop.edit(object(n), |value| value["more"] = n.into());
        }
        for _ in 0..2 {
            settle(&mut [&mut tablet, &mut laptop, &mut newcomer]);
        }
        assert!(laptop.pruned() > before && tablet.pruned() > 0, "nothing is agreed on any more");
        let mut late = tablet.admit_in(dirs[4].path(), world(9));
        laptop.pull(&tablet);
        late.pull(&laptop);
        late.fill(&laptop);
        let digest = laptop.space.digest().unwrap();
        for device in [&mut tablet, &mut laptop, &mut newcomer, &mut late] {
            assert_eq!(device.value(object(9)), json!({"text": "a letter", "n": 2}));
            assert_eq!(device.value(object(8)), json!({"by": "the laptop", "laptop": 8}));
            let waiting = device.space.status().unwrap().waiting;
            assert_eq!((device.space.digest().unwrap(), waiting), (digest, 0));
            device.sound();
        }
    }
}
