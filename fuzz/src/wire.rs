use larder_crypto::Secret;
use larder_log::ack::Ack;
use larder_log::roster::Roster;
use larder_protocol::pairing::{
    Agreed, Answering, Asking, CodeStart, Ends, Guess, PairReply, PairRequest, PairReveal, Refusal,
    ShortCode, Welcome,
};
use larder_protocol::{
    Acks, Config, Fork, Frame, Frontiers, Greeting, Invitation, Lack, LogHead, Offered, Position,
    Reply, Request, Session, Side, Supply, Want, WantedSnapshot, agree,
};
use larder_types::{CloseCode, DeviceId, EpochId, Hash, Timestamp};

use crate::world::Counting;
use crate::{World, part, parts};

/// A frame of a session.
pub fn frames(data: &[u8]) {
    let space = World::new().space;
    if let Ok(frame) = Frame::decode(data, &space) {
        let again = Frame::decode(&frame.encode(), &space).expect("what was written is read");
        assert_eq!(again, frame);
    }
}

pub(crate) fn frame_seeds(world: &World) -> Vec<Vec<u8>> {
    let close = Frame::Close { code: CloseCode::Malformed, message: "no".to_owned() };
    let all = [
        frontiers(world, 3),
        Frame::Batch(Box::new(world.batch())),
        acks(world),
        Frame::CaughtUp,
        Frame::Digest(Hash::new([8; 32])),
        Frame::Message(vec![7; 40]),
        Frame::Want(want()),
        Frame::Supply(Box::new(supply())),
        close,
    ];
    all.iter().map(Frame::encode).collect()
}

fn want() -> Want {
    let snapshot =
        WantedSnapshot { id: Hash::new([5; 32]), received: 3, after: None, lacking: Vec::new() };
    Want { snapshot: Some(snapshot), ..Want::default() }
}

fn supply() -> Supply {
    Supply { snapshot: Some(vec![7; 40]), ..Supply::default() }
}

fn frontiers(world: &World, size: usize) -> Frame {
    Frame::Frontiers(Frontiers {
        space: world.space,
        logs: vec![head(world, size)],
        epochs_held: vec![EpochId::new(*world.entries[0].hash.as_bytes())],
        forks: vec![],
    })
}

fn head(world: &World, size: usize) -> LogHead {
    let (checkpoint, signature) = world.checkpoint(size);
    LogHead { device: checkpoint.device, size: checkpoint.size, root: checkpoint.root, signature }
}

fn acks(world: &World) -> Frame {
    let (checkpoint, _) = world.checkpoint(3);
    let ack = Ack::sign(&checkpoint, checkpoint.device, &world.ack, 1_700_000_000);
    Frame::Acks(Acks { handled: 1, acks: vec![ack] })
}

/// What is said before a session: greetings, and the messages of pairing.
pub fn handshake(data: &[u8]) {
    let (secret, exporter) = (Secret::new([3; 16]), [4; 32]);
    if let Ok(greeting) = Greeting::decode(data) {
        assert_eq!(greeting.encode(), data);
        let spaces = [offered(&World::new())];
        let _ = agree(&greeting, &exporter, Side::Connector, &spaces);
    }
    if let Ok(request) = PairRequest::decode(data) {
        let peer = request.keys().transport;
        let _ = request.verify(&secret, &exporter, &peer);
    }
    let world = World::new();
    let _ = asking(&world).hear(data);
    let (own, code) = (world.keys.transport, ShortCode::random(&mut Counting(6)));
    let ends = Ends { exporter: &exporter, joiner: &own, inviter: &own };
    let _ = Guess::new(&mut Counting(7), &code, &ends).secret(data, &ends);
    if let Ok(start) = CodeStart::decode(data) {
        let _ = start.answer(&mut Counting(8), &code, &ends);
    }
    let (answering, agreed) = agreed(&world);
    if let Ok(reveal) = PairReveal::decode(data) {
        let _ = answering.revealed(&reveal);
    }
    if let Ok(reply) = PairReply::decode(data) {
        let _ = reply.open(&secret, &agreed, &world.sealing);
    }
}

fn offered(world: &World) -> Offered {
    let (space, discovery) = (world.space, Secret::new([5; 32]));
    Offered { space, discovery, held: Hash::new([6; 32]) }
}

pub(crate) fn handshake_seeds(world: &World) -> Vec<Vec<u8>> {
    let exporter = [4; 32];
    let spaces = [offered(world)];
    let greeting = Greeting::new(&mut Counting(2), &exporter, Side::Acceptor, &spaces).unwrap();
    let asking = asking(world);
    let request = asking.request().encode();
    let (answering, agreed) = agreed(world);
    let answer = answering.answer().encode();
    let reveal = asking.hear(&answer).unwrap().reveal.encode();
    let welcome = Welcome {
        space: world.space,
        name: "shared:household".parse().unwrap(),
        control: Secret::new([6; 32]),
        inviter: world.signing.device_id(),
    };
    let sealing = world.sealing.public();
    let welcome = welcome.seal(&mut Counting(3), &Secret::new([3; 16]), &agreed, &sealing).unwrap();
    let refused = PairReply::refused(Refusal::Used, "used");
    let (own, code) = (world.keys.transport, ShortCode::random(&mut Counting(6)));
    let ends = Ends { exporter: &exporter, joiner: &own, inviter: &own };
    let start = Guess::new(&mut Counting(7), &code, &ends).start().clone();
    let (share, _) = start.answer(&mut Counting(8), &code, &ends).unwrap();
    let short = [start.encode(), share.encode()];
    let frames = [greeting.encode(), request, answer, reveal, welcome.encode(), refused.encode()];
    [&short[..], &frames[..]].concat()
}

fn asking(world: &World) -> Asking {
    let keys = world.keys.clone();
    Asking::new(&mut Counting(4), &Secret::new([3; 16]), &[4; 32], keys, "phone").unwrap()
}

fn agreed(world: &World) -> (Answering, Agreed) {
    let (asking, name) = (asking(world), "shared:household".parse().unwrap());
    let (entropy, secret) = (&mut Counting(5), Secret::new([3; 16]));
    let request = asking.request().clone();
    let answering = Answering::new(entropy, &secret, &[4; 32], request, world.space, &name);
    let heard = asking.hear(&answering.answer().encode()).unwrap();
    (answering, heard.agreed)
}

/// The text that is pasted.
pub fn invitation(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(invitation) = text.parse::<Invitation>() {
        let again = invitation.to_string();
        assert_eq!(again.parse::<Invitation>().unwrap().to_string(), again);
    }
}

pub(crate) fn invitation_seeds(world: &World) -> Vec<Vec<u8>> {
    let invitation = Invitation {
        inviter: world.keys.transport,
        addresses: vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap()],
        secret: Secret::new([3; 16]),
        expires: Timestamp(1_700_000_000_000),
    };
    vec![invitation.to_string().into_bytes(), b"larder-invite-0-aaaa".to_vec()]
}

/// A session with a peer that sends whatever it likes, over storage that answers in any order.
/// It never panics, polling always comes to an end, and after the end nothing more is asked.
pub fn session(data: &[u8]) {
    let world = World::new();
    let mut rest = data;
    let mut now = Timestamp(1_700_000_000_000);
    let me = DeviceId::new([1; 32]);
    let peer = Some(world.signing.device_id());
    let mut session = Session::new(Config::new(me), world.space, peer, [7; 32]);
    let mut asked = Vec::new();
    for _ in 0..64 {
        let Some((op, more)) = rest.split_first() else { break };
        rest = more;
        match op % 8 {
            0..=2 => {
                let Some(frame) = part(&mut rest) else { break };
                session.handle_frame(now, frame);
            }
            3 => session.handle_local_commit(now),
            4 => {
                now.0 += u64::from(*op) << 4;
                session.handle_timeout(now);
            }
            5 if *op > 250 => session.close(CloseCode::Malformed, "enough"),
            _ => {
                if !asked.is_empty() {
                    let request = asked.remove(usize::from(op >> 3) % asked.len());
                    session.handle_reply(now, answer(&world, request, *op));
                }
            }
        }
        drain(&mut session, &mut asked);
    }
}

fn drain(session: &mut Session, asked: &mut Vec<Request>) {
    for _ in 0..10_000 {
        let request = session.poll_request();
        let frame = session.poll_transmit();
        let event = session.poll_event();
        if let Some(frame) = &frame {
            Frame::decode(frame, &session.space()).expect("what a session sends is a frame");
        }
        if request.is_none() && frame.is_none() && event.is_none() {
            let _ = session.poll_timeout();
            assert!(asked.len() < 64, "requests pile up");
            return;
        }
        asked.extend(request);
    }
    panic!("polling has no end");
}

fn answer(world: &World, request: Request, op: u8) -> Reply {
    let fork = || Fork { device: world.signing.device_id(), evidence: vec![1], acts: vec![] };
    if op == 0xff {
        return Reply::Failed { message: "the disk is full".to_owned() };
    }
    if op & 0xf0 == 0xe0 {
        let fatal = op & 1 == 0;
        return Reply::Refused { code: CloseCode::Malformed, message: "no".to_owned(), fatal };
    }
    match request {
        Request::ReadFrontiers => {
            let logs = if op & 0x40 == 0 { Vec::new() } else { vec![head(world, 2)] };
            Reply::Frontiers { logs, epochs_held: vec![], acks: vec![], forks: vec![] }
        }
        Request::CheckFrontiers { .. } => {
            Reply::Checked { forks: if op & 0x40 == 0 { Vec::new() } else { vec![fork()] } }
        }
        Request::ReadBatch { after, .. } => Reply::Batch {
            position: Position(after.0.saturating_add(1)),
            batch: (op & 0x40 == 0 && after.0 < 3).then(|| Box::new(world.batch())),
        },
        Request::Apply { .. } if op & 0x40 != 0 => Reply::Forked(fork()),
        Request::Apply { batch, .. } => Reply::Applied {
            device: batch.device,
            size: batch.size(),
            acks: Vec::new(),
            lacks: op & 0x20 != 0,
        },
        Request::ReadWants { from } => Reply::Wanted {
            want: (op & 0x20 != 0).then(|| Box::new(want())),
            next: match from {
                Lack::Leaves(_) => Some(Lack::Sections(0)),
                Lack::Sections(after) if op & 0x40 != 0 && after < 4 => {
                    Some(Lack::Sections(after + 1))
                }
                Lack::Sections(_) | Lack::Blobs(_) => None,
            },
        },
        Request::ReadSupply { .. } => {
            let supply = if op & 0x20 == 0 { Supply::default() } else { supply() };
            Reply::Supply { supply: Box::new(supply) }
        }
        Request::TakeSupply { .. } => Reply::Supplied {
            progress: op & 0x20 != 0,
            acks: Vec::new(),
        },
        Request::StoreAcks { acks } => Reply::AcksStored { new: acks },
    }
}

pub(crate) fn session_seeds(world: &World) -> Vec<Vec<u8>> {
    let frames: Vec<Vec<u8>> =
        [frontiers(world, 3), Frame::Batch(Box::new(world.batch())), acks(world), Frame::CaughtUp]
            .iter()
            .map(Frame::encode)
            .collect();
    let mut whole = vec![6];
    for frame in &frames {
        whole.push(0);
        whole.extend_from_slice(&parts(&[frame]));
        whole.extend_from_slice(&[6, 6, 3, 4]);
    }
    let mut early = vec![0];
    early.extend_from_slice(&parts(&[&frames[3]]));
    // The roster of the seed's space is one that a receiver accepts.
    let mut roster = Roster::new(world.space);
    assert!(roster.apply(&world.entries[0].header, 0, &world.acts[0]).is_ok());
    vec![whole, early]
}
