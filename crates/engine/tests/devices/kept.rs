//! A device is cleared for less, and has what nobody else has.

use larder_engine::{BlobAnswer, NewBlob};
use larder_log::act::Role;
use larder_log::{Band, Payload};
use larder_protocol::{BlobPosition, BlobReply, BlobRequest, BlobSession, Run, Want};

use super::bands::{cleared, household};
use super::prune::{meet, settle};
use super::*;

const WORD: &str = "zqonlyhere";

fn dirs(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

impl Device {
    /// Asks another device which it is connected with what that holds of what is kept here.
    pub(super) fn asks(&mut self, other: &Self) {
        let peers = [other, &*self].map(|device| device.profile.transport_id());
        let reply = |space: &Space, peer, request| match space.answer_blobs(
            peer,
            request,
            true,
            &mut |_| true,
        ) {
            BlobAnswer::Reply(reply) => reply,
            other => panic!("{other:?}"),
        };
        let mut from = Some(BlobPosition::default());
        while let Some(at) = from {
            let request = BlobRequest::ReadKept { from: at, limit: 2 };
            let BlobReply::Kept { keeps, next } = reply(&self.space, &peers[0], request) else {
                panic!("another answer")
            };
            let request = BlobRequest::ReadDurable { keeps };
            let BlobReply::Confirmed { keeps } = reply(&other.space, &peers[1], request) else {
                panic!("another answer")
            };
            self.writer.release_kept(&peers[0], &keeps).unwrap();
            from = next;
        }
    }

    pub(super) fn clears(&mut self, device: larder_types::DeviceId, role: Role, band: Band) {
        self.writer.change_role(device, role, band).unwrap();
    }

    /// Nothing of it is shown to whoever uses the device.
    fn shows_nothing(&mut self) {
        assert_eq!(self.search(&Query::text(WORD)), []);
        let listed = self.space.list(None, None, 1000).unwrap().documents;
        let json: Vec<String> =
            listed.into_iter().map(|it| Value::Object(it.value).to_string()).collect();
        assert!(json.iter().all(|json| !json.contains(WORD)), "{json:?}");
        assert!([2, 3].iter().all(|n| self.space.document(&object(*n)).unwrap().is_none()));
        self.sound();
    }
}

/// The one phone that was cleared for health notes had pruned them, so that it had them as
/// documents and not as entries. Its owner cleared it for less, and a new phone for them: the notes
/// had gone with the clearance, and the new phone waited for them for ever.
#[test]
fn what_was_pruned_does_not_go_with_the_clearance_of_the_only_device_that_has_it() {
    let (new, tablet_too, again) = (0, 1, 2);
    for who in [new, tablet_too, again] {
        let dirs = dirs(4);
        let (mut phone, [mut tablet]) = household(&dirs, [Band::Green]);
        let me = phone.space.device();
        phone.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
        for n in [2, 3] {
            phone.put_in(Band::Red, object(n), &json!({"text": "first"})).unwrap();
            phone.put_in(Band::Red, object(n), &json!({"text": WORD, "n": n})).unwrap();
        }
        for _ in 0..2 {
            settle(&mut [&mut phone, &mut tablet]);
        }
        assert!(phone.pruned() >= 4, "the control: {}", phone.pruned());
        phone.put_in(Band::Red, object(3), &json!({"text": WORD, "n": "later"})).unwrap();
        phone.clears(me, Role::Owner, Band::Green);
        phone.shows_nothing();
        // It goes on, and nothing is agreed on that would leave out what only it has.
        for _ in 0..2 {
            tablet.edit(object(1), |value| value["text"] = json!("edited"));
            settle(&mut [&mut phone, &mut tablet]);
        }
        phone.shows_nothing();
        let mut left = Some(tablet);
        let mut other = match who {
            0 => phone.invite_on(dirs[2].path(), 7, cleared(Band::Red)),
            1 => {
                let raised = left.take().unwrap();
                phone.clears(raised.space.device(), Role::Writer, Band::Red);
                raised
            }
            _ => {
                phone.clears(me, Role::Owner, Band::Red);
                let has = |n| json!({"text": WORD, "n": n});
                assert_eq!(phone.value(object(2)), has(json!(2)));
                assert_eq!(phone.value(object(3)), has(json!("later")));
                phone.sound();
                assert_eq!(phone.wanted(), None);
                phone.invite_on(dirs[2].path(), 7, cleared(Band::Red))
            }
        };
        meet(&mut other, &mut phone);
        assert_eq!(other.value(object(2)), json!({"text": WORD, "n": 2}));
        assert_eq!(other.value(object(3)), json!({"text": WORD, "n": "later"}));
        assert_eq!(other.wanted(), None);
        other.sound();
        // Once another has it, it goes, and pruning goes on.
        let mut settled = |phone: &mut Device, other: &mut Device| {
            let mut all: Vec<&mut Device> = [other, phone].into_iter().chain(&mut left).collect();
            settle(&mut all);
            settle(&mut all);
        };
        settled(&mut phone, &mut other);
        let before = other.pruned();
        other.edit(object(2), |value| value["n"] = json!("there"));
        settled(&mut phone, &mut other);
        assert!(other.pruned() > before, "{who}: {before}");
        if who != again {
            phone.shows_nothing();
            let kept = phone.space.status().unwrap().kept;
            assert_eq!((kept.sections, kept.documents), (0, 0));
        }
        other.sound();
    }
}

/// A phone that was cleared for what is AMBER had pruned it. It was cleared for less, so that it
/// kept those documents for others, and then for more than it had ever been: what it had kept was
/// not all that is agreed on up to there, was taken for damaged, and the phone took in nothing any
/// more (simulated seed 670). Since that was mended it kept them for ever, though nobody is cleared
/// for more, who could say to hold them: so it stated nothing, and nobody pruned any more.
#[test]
fn what_was_kept_is_taken_back_by_who_is_cleared_for_more_than_ever() {
    let dirs = dirs(3);
    let bands = [Band::Amber, Band::Green];
    let (mut founder, [mut phone, mut tablet]) = household(&dirs, bands);
    let id = phone.space.device();
    founder.put_in(Band::Green, object(1), &json!({"text": "for all"})).unwrap();
    for (n, band) in [(2, Band::Amber), (3, Band::Red)] {
        founder.put_in(band, object(n), &json!({"text": "first"})).unwrap();
        founder.put_in(band, object(n), &json!({"text": WORD, "n": n})).unwrap();
    }
    for _ in 0..2 {
        settle(&mut [&mut founder, &mut phone, &mut tablet]);
    }
    assert!(phone.pruned() >= 3, "the control: {}", phone.pruned());
    founder.clears(id, Role::Writer, Band::Green);
    phone.pull(&founder);
    phone.shows_nothing();
    assert_eq!(phone.space.status().unwrap().kept.documents, 1, "the control");
    founder.clears(id, Role::Writer, Band::Red);
    phone.pull(&founder);
    assert_eq!(phone.value(object(2)), json!({"text": WORD, "n": 2}), "its own");
    phone.fill(&founder);
    for n in [2, 3] {
        assert_eq!(phone.value(object(n)), json!({"text": WORD, "n": n}));
    }
    assert_eq!(phone.wanted(), None);
    phone.sound();
    // What it kept is of use to nobody any more, and so holds no pruning up.
    let before = founder.pruned();
    founder.put_in(Band::Red, object(3), &json!({"text": WORD, "n": "later"})).unwrap();
    for _ in 0..2 {
        settle(&mut [&mut founder, &mut phone, &mut tablet]);
    }
    assert!(founder.pruned() > before, "{before}");
    assert_eq!(phone.space.status().unwrap().kept.documents, 0);
}

/// What a step's secrets had been forgotten of lay opened in the phone's own store, and went with
/// its clearance at once, though it was the only copy: it could not be sealed again.
#[test]
fn what_was_put_down_opened_does_not_go_either() {
    let dirs = dirs(5);
    let (mut phone, [mut tablet]) = household(&dirs, [Band::Green]);
    let me = phone.space.device();
    phone.put_in(Band::Red, object(2), &json!({"text": WORD})).unwrap();
    // The next epoch begins, and the one before is forgotten.
    let mut second = phone.invite_on(dirs[2].path(), 5, cleared(Band::Green));
    for _ in 0..3 {
        for one in [&mut phone, &mut tablet, &mut second] {
            while let Some(mut pruning) = one.writer.wants_pruning().unwrap() {
                while !one.writer.prune_step(&mut pruning).unwrap() {}
            }
            one.writer.heartbeat().unwrap();
        }
        meet(&mut phone, &mut tablet);
        meet(&mut phone, &mut second);
        meet(&mut phone, &mut tablet);
    }
    phone.clears(me, Role::Owner, Band::Green);
    phone.shows_nothing();
    assert_eq!(phone.space.status().unwrap().kept.sections, 1);
    let mut other = phone.invite_on(dirs[3].path(), 7, cleared(Band::Red));
    let run = Run { device: me, first: 1, last: phone.have()[&me] };
    let supply = other.supply_of(&phone, &Want { sections: vec![run], ..Want::default() });
    let is_opened = |payload: &Payload| matches!(payload, Payload::Opened(_));
    let payloads = || supply.sections.iter().flat_map(|fill| &fill.payloads);
    assert!(payloads().any(is_opened), "the control: it is here opened alone");
    other.pull(&phone);
    other.fill(&phone);
    assert_eq!(other.value(object(2)), json!({"text": WORD}));
    phone.shows_nothing();
    assert_eq!(phone.space.status().unwrap().kept.sections, 1);
    phone.asks(&other);
    assert_eq!(phone.space.status().unwrap().kept.sections, 0);
}

/// A laptop acknowledged a phone's letter, and was shut out before the phone was cleared for less.
/// The founder had acknowledged it by way of a tablet, while the phone was not cleared for it, so
/// without its bytes; and then an owner took that back who did not know of the letter. Both words
/// were taken for copies, and the letter went when the phone was cleared for less.
#[test]
fn what_others_acknowledged_is_no_copy() {
    for is_shut_out in [true, false] {
        let dirs = dirs(5);
        let bands = [Band::Amber, Band::Amber, Band::Red];
        let (mut founder, [mut phone, mut laptop, mut second]) = household(&dirs, bands);
        let mut tablet = founder.invite_on(dirs[4].path(), 9, cleared(Band::Green));
        let (id, laptop_id) = (phone.space.device(), laptop.space.device());
        if !is_shut_out {
            founder.clears(laptop_id, Role::Admin, Band::Red);
            founder.clears(second.space.device(), Role::Owner, Band::Red);
        }
        for one in [&mut phone, &mut laptop, &mut second, &mut tablet] {
            one.pull(&founder);
        }
        if !is_shut_out {
            laptop.clears(id, Role::Writer, Band::Green);
            founder.pull(&laptop);
            second.pull(&laptop);
        }
        phone.put_in(Band::Amber, object(2), &json!({"text": WORD})).unwrap();
        if is_shut_out {
            laptop.pull(&phone);
            phone.learn_acks(&laptop);
        }
        // The founder knows of the letter by the tablet alone.
        tablet.pull(&phone);
        founder.pull(&tablet);
        if is_shut_out {
            founder.writer.revoke(&[laptop_id]).unwrap();
        } else {
            phone.learn_acks(&founder);
            second.clears(id, Role::Writer, Band::Amber);
            founder.pull(&second);
        }
        founder.clears(id, Role::Writer, Band::Green);
        assert!(founder.wanted().is_some(), "the control: it has no bytes, and the letter counts");
        tablet.pull(&founder);
        phone.pull(&tablet);
        phone.learn_acks(&tablet);
        phone.learn_acks(&founder);
        phone.shows_nothing();
        let kept = |phone: &Device| phone.space.status().unwrap().kept.sections;
        assert_eq!(kept(&phone), 1, "{is_shut_out}");
        // Neither is asked who was shut out, nor does it say so who lacks it or may not have it.
        for other in [&laptop, &tablet, &founder] {
            phone.asks(other);
            assert_eq!(kept(&phone), 1, "{is_shut_out}");
        }
        founder.fill(&phone);
        assert_eq!(founder.value(object(2)), json!({"text": WORD}));
        phone.asks(&founder);
        assert_eq!(kept(&phone), 0);
    }
}

/// Of what two devices keep none is the other's copy: each knows of its own lower clearance, and
/// not yet of the other's.
#[test]
fn who_keeps_something_for_others_does_not_say_that_it_has_it() {
    let dirs = dirs(4);
    let (mut founder, [mut phone, mut laptop]) = household(&dirs, [Band::Amber, Band::Amber]);
    let ids = [phone.space.device(), laptop.space.device()];
    phone.pull(&founder);
    phone.put_in(Band::Amber, object(2), &json!({"text": WORD})).unwrap();
    founder.pull(&phone);
    laptop.pull(&founder);
    assert_eq!(laptop.value(object(2)), json!({"text": WORD}));
    let mut second = founder.invite_on(dirs[3].path(), 9, cleared(Band::Red));
    founder.clears(second.space.device(), Role::Owner, Band::Red);
    second.pull(&founder);
    founder.clears(ids[0], Role::Writer, Band::Green);
    second.clears(ids[1], Role::Writer, Band::Green);
    phone.pull(&founder);
    laptop.pull(&second);
    let kept = |one: &Device| one.space.status().unwrap().kept.sections;
    assert_eq!((kept(&phone), kept(&laptop)), (1, 1));
    phone.asks(&laptop);
    laptop.asks(&phone);
    assert_eq!((kept(&phone), kept(&laptop)), (1, 1));
    for one in [&mut phone, &mut laptop] {
        one.asks(&second);
        assert_eq!(kept(one), 0);
    }
}

/// A phone added a picture that nobody had fetched yet, and was cleared for less: the picture was
/// gone. Now its chunks stay, without what opens them, until another device says that it has them.
#[test]
fn a_picture_that_nobody_has_fetched_does_not_go_with_a_clearance() {
    for is_erased in [false, true] {
        let dirs = dirs(3);
        let bands = [Band::Amber, Band::Green];
        let (mut founder, [mut phone, mut tablet]) = household(&dirs, bands);
        phone.pull(&founder);
        tablet.pull(&founder);
        let new = NewBlob { media_type: "image/png".into(), name: None, band: Some(Band::Amber) };
        let content = super::blobs::noise(7, 700_000);
        let mut adding = phone.space.add_blob(&content[..], new).unwrap();
        for _ in 0..2 {
            let part = adding.part().unwrap();
            phone.writer.stage(&part).unwrap();
        }
        let blob = phone.writer.commit_blob(&adding.finish().unwrap()).unwrap();
        let value = json!({"text": WORD, "photo": {"$blob": blob.id.to_string()}});
        phone.put_in(Band::Amber, object(2), &value).unwrap();
        founder.pull(&phone);
        tablet.pull(&phone);
        founder.clears(phone.space.device(), Role::Writer, Band::Green);
        phone.pull(&founder);
        phone.shows_nothing();
        assert_eq!(phone.space.blobs().unwrap(), []);
        let chunks = phone.space.status().unwrap().kept.chunks;
        assert!(chunks > 1, "{chunks}");
        if is_erased {
            founder.writer.erase(object(2)).unwrap();
            phone.pull(&founder);
            assert_eq!(phone.space.status().unwrap().kept.chunks, 0);
            assert_eq!(phone.space.held_chunk_count().unwrap(), 0);
            continue;
        }
        // Who is cleared for no more neither gets nor confirms anything.
        exchange(&mut phone, &mut tablet);
        assert_eq!(phone.space.status().unwrap().kept.chunks, chunks);
        assert_eq!(tablet.space.held_chunk_count().unwrap(), 0);
        exchange(&mut phone, &mut founder);
        assert_eq!(super::blobs::read(&founder, &blob.id), content);
        assert_eq!(phone.space.status().unwrap().kept.chunks, 0);
        assert_eq!(phone.space.held_chunk_count().unwrap(), 0);
        phone.sound();
    }
}

/// A whole session about blobs between two devices.
fn exchange(a: &mut Device, b: &mut Device) {
    let peers = [b.profile.transport_id(), a.profile.transport_id()];
    let mut sessions = [BlobSession::new(), BlobSession::new()];
    let sides = [a, b];
    sessions.iter_mut().for_each(BlobSession::handle_settled);
    let mut is_quiet = false;
    while !std::mem::replace(&mut is_quiet, true) {
        for at in 0..2 {
            while let Some(request) = sessions[at].poll_request() {
                is_quiet = false;
                let side = &mut *sides[at];
                let answer = side.space.answer_blobs(&peers[at], request, true, &mut |_| true);
                sessions[at].handle_reply(match answer {
                    BlobAnswer::Reply(reply) => reply,
                    BlobAnswer::Store(chunk) => {
                        side.writer.store_chunks(&[chunk]).unwrap();
                        BlobReply::Stored
                    }
                    BlobAnswer::Release(keeps) => {
                        side.writer.release_kept(&peers[at], &keeps).unwrap();
                        BlobReply::Released
                    }
                });
            }
            if let Some(frame) = sessions[at].poll_transmit() {
                is_quiet = false;
                sessions[1 - at].handle_frame(&frame);
            }
        }
    }
    assert!(sessions.iter().all(BlobSession::is_idle));
}
