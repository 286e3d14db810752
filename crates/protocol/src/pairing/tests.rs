use larder_crypto::{AckKey, AckPublic, DeviceSigningKey, TransportKey};

use super::*;
use crate::tests_common::Seeded;

const EXPORTER: [u8; 32] = [5; 32];

struct Joiner {
    sealing: SealingKey,
    keys: DeviceKeys,
}

fn joiner(seed: u64) -> Joiner {
    let entropy = &mut Seeded::new(seed);
    let sealing = SealingKey::generate(entropy);
    let keys = DeviceKeys {
        suite: SUITE,
        signing: DeviceSigningKey::generate(entropy).device_id(),
        ack: AckKey::generate(entropy).public(),
        sealing: sealing.public(),
        transport: TransportKey::generate(entropy).public(),
    };
    Joiner { sealing, keys }
}

fn secret(number: u8) -> Secret<16> {
    Secret::new([number; 16])
}

fn request(joiner: &Joiner) -> PairRequest {
    let member = Some(MemberId::new([4; 16]));
    PairRequest::new(&secret(1), &EXPORTER, joiner.keys.clone(), "Ana's phone", member).unwrap()
}

fn welcome() -> Welcome {
    Welcome {
        space: SpaceId::new([2; 32]),
        name: "shared:household".parse().unwrap(),
        control: Secret::new([3; 32]),
        inviter: DeviceId::new([9; 32]),
    }
}

fn seal(transcript: &Transcript, to: &Joiner) -> PairReply {
    welcome().seal(&mut Seeded::new(8), &secret(1), transcript, &to.keys.sealing).unwrap()
}

#[test]
fn a_joiner_is_welcomed() {
    let joiner = joiner(1);
    let said = request(&joiner);
    let heard = PairRequest::decode(&said.encode()).unwrap();
    assert_eq!(heard, said);
    assert_eq!((heard.label(), heard.member()), ("Ana's phone", Some(MemberId::new([4; 16]))));
    let transcript = heard.verify(&secret(1), &EXPORTER, &joiner.keys.transport).unwrap();
    assert_eq!(transcript, said.transcript(&EXPORTER));
    let reply = PairReply::decode(&seal(&transcript, &joiner).encode()).unwrap();
    let opened = reply.open(&secret(1), &said.transcript(&EXPORTER), &joiner.sealing).unwrap();
    assert_eq!((opened.space, &opened.name), (welcome().space, &welcome().name));
    assert_eq!((opened.control.expose(), opened.inviter), (&[3; 32], welcome().inviter));
}

#[test]
fn a_request_proves_nothing_with_another_secret_or_on_another_connection() {
    let joiner = joiner(1);
    let said = request(&joiner);
    let verify = |secret: &Secret<16>, exporter: &[u8; 32]| {
        said.verify(secret, exporter, &joiner.keys.transport).unwrap_err()
    };
    assert_eq!(verify(&secret(2), &EXPORTER), PairingError::WrongProof);
    assert_eq!(verify(&secret(1), &[6; 32]), PairingError::WrongProof);
}

#[test]
fn a_request_with_any_byte_changed_is_refused() {
    let joiner = joiner(1);
    let frame = request(&joiner).encode();
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut changed = frame.clone();
            changed[at] ^= 1 << bit;
            let verified = PairRequest::decode(&changed)
                .and_then(|said| said.verify(&secret(1), &EXPORTER, &joiner.keys.transport));
            assert!(verified.is_err(), "byte {at}, bit {bit}");
        }
        assert!(PairRequest::decode(&frame[..at]).is_err());
    }
}

#[test]
fn a_welcome_opens_for_its_joiner_connection_and_secret_alone() {
    let (first, second) = (joiner(1), joiner(2));
    let transcript = request(&first).transcript(&EXPORTER);
    let reply = seal(&transcript, &first);
    let open = |secret: &Secret<16>, transcript: &Transcript, joiner: &Joiner| {
        reply.open(secret, transcript, &joiner.sealing).map(drop)
    };
    assert_eq!(open(&secret(1), &transcript, &first), Ok(()));
    assert_eq!(open(&secret(2), &transcript, &first), Err(PairingError::WrongProof));
    let elsewhere = request(&first).transcript(&[6; 32]);
    assert_eq!(open(&secret(1), &elsewhere, &first), Err(PairingError::WrongProof));
    assert_eq!(open(&secret(1), &transcript, &second), Err(PairingError::DoesNotOpen));
}

#[test]
fn a_welcome_with_any_byte_changed_is_refused() {
    let joiner = joiner(1);
    let transcript = request(&joiner).transcript(&EXPORTER);
    let frame = seal(&transcript, &joiner).encode();
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut changed = frame.clone();
            changed[at] ^= 1 << bit;
            let opened = PairReply::decode(&changed)
                .and_then(|reply| reply.open(&secret(1), &transcript, &joiner.sealing));
            assert!(opened.is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn keys_that_cannot_be_enrolled_are_refused() {
    let good = joiner(1);
    let verify = |change: &dyn Fn(&mut DeviceKeys)| {
        let mut keys = good.keys.clone();
        change(&mut keys);
        PairRequest::new(&secret(1), &EXPORTER, keys, "x", None)
            .unwrap()
            .verify(&secret(1), &EXPORTER, &good.keys.transport)
            .map(drop)
    };
    assert_eq!(verify(&|_| ()), Ok(()));
    for change in [
        &(|keys: &mut DeviceKeys| keys.suite = 2) as &dyn Fn(&mut DeviceKeys),
        &|keys| keys.transport = joiner(2).keys.transport,
        &|keys| keys.signing = DeviceId::new([0; 32]),
        &|keys| keys.ack = AckPublic::new([0; 32]),
        &|keys| keys.sealing = SealingPublic::new([0; 32]),
    ] {
        assert!(matches!(verify(change), Err(PairingError::BadKeys(_))));
    }
}

#[test]
fn labels_are_bounded_and_printable() {
    let keys = joiner(1).keys;
    for label in ["", "a\nb", &"x".repeat(LABEL_BYTES_MAX + 1)] {
        let result = PairRequest::new(&secret(1), &EXPORTER, keys.clone(), label, None);
        assert!(matches!(result, Err(PairingError::OutOfBounds(_))), "{label}");
        // Nor from a peer.
        let mut said = request(&joiner(1));
        said.body.label = label.to_owned();
        assert!(PairRequest::decode(&said.encode()).is_err(), "{label}");
    }
}

#[test]
fn a_refusal_says_why() {
    for refusal in [1, 2, 3, 4, 5, 6, 77].map(Refusal::from_wire) {
        let reply = PairReply::refused(refusal, &"é".repeat(500));
        let reply = PairReply::decode(&reply.encode()).unwrap();
        let transcript = request(&joiner(1)).transcript(&EXPORTER);
        match reply.open(&secret(1), &transcript, &joiner(1).sealing).map(drop) {
            Err(PairingError::Refused { refusal: said, message }) => {
                assert_eq!(said, refusal);
                assert_eq!(message.len(), 256);
            }
            other => panic!("{other:?}"),
        }
    }
    // One that a peer makes longer than it may be is cut.
    let reply = PairReply::Refused { refusal: Refusal::Used, message: "x".repeat(5000) };
    match PairReply::decode(&reply.encode()).unwrap() {
        PairReply::Refused { message, .. } => assert_eq!(message.len(), 256),
        PairReply::Welcome { .. } => panic!(),
    }
}

#[test]
fn a_new_member_is_left_out_of_the_request() {
    let keys = joiner(1).keys;
    let fields = |member| {
        let said = PairRequest::new(&secret(1), &EXPORTER, keys.clone(), "x", member).unwrap();
        let frame = said.encode();
        assert_eq!(PairRequest::decode(&frame).unwrap().member(), member);
        frame[1]
    };
    // An array of three, or of four.
    assert_eq!((fields(None), fields(Some(MemberId::new([4; 16])))), (0x83, 0x84));
}
