use larder_crypto::{AckKey, AckPublic, DeviceSigningKey, SealingKey, SealingPublic, TransportKey};
use larder_types::DeviceId;

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

fn asking(joiner: &Joiner) -> Asking {
    let entropy = &mut Seeded::new(70);
    Asking::new(entropy, &secret(1), &EXPORTER, joiner.keys.clone(), "Ana's phone").unwrap()
}

fn space() -> SpaceId {
    SpaceId::new([2; 32])
}

fn name() -> SpaceName {
    "shared:household".parse().unwrap()
}

fn answering(request: &PairRequest, seed: u64) -> Answering {
    let entropy = &mut Seeded::new(seed);
    Answering::new(entropy, &secret(1), &EXPORTER, request.clone(), space(), &name())
}

/// What both say, with nobody between them.
fn talk(joiner: &Joiner) -> (Heard, Agreed) {
    let asking = asking(joiner);
    let answering = answering(asking.request(), 7);
    let heard = asking.hear(&answering.answer().encode()).unwrap();
    let agreed = answering.revealed(&heard.reveal).unwrap();
    (heard, agreed)
}

fn welcome() -> Welcome {
    Welcome {
        space: space(),
        name: name(),
        control: Secret::new([3; 32]),
        inviter: DeviceId::new([9; 32]),
    }
}

fn seal(agreed: &Agreed, to: &Joiner) -> PairReply {
    welcome().seal(&mut Seeded::new(8), &secret(1), agreed, &to.keys.sealing).unwrap()
}

#[test]
fn a_joiner_is_welcomed() {
    let joiner = joiner(1);
    let asking = asking(&joiner);
    let heard = PairRequest::decode(&asking.request().encode()).unwrap();
    assert_eq!((&heard, heard.label()), (asking.request(), "Ana's phone"));
    heard.verify(&secret(1), &EXPORTER, &joiner.keys.transport).unwrap();
    let answering = answering(&heard, 7);
    let heard = asking.hear(&answering.answer().encode()).unwrap();
    assert!(heard.is_named(&name()) && !heard.is_named(&"shared:other".parse().unwrap()));
    assert_eq!(heard.space, space());
    let reveal = PairReveal::decode(&heard.reveal.encode()).unwrap();
    let agreed = answering.revealed(&reveal).unwrap();
    assert_eq!(agreed, heard.agreed);
    assert_eq!(agreed.check_code(), heard.agreed.check_code());
    let reply = PairReply::decode(&seal(&agreed, &joiner).encode()).unwrap();
    let opened = reply.open(&secret(1), &heard.agreed, &joiner.sealing).unwrap();
    assert_eq!((opened.space, &opened.name), (welcome().space, &welcome().name));
    assert_eq!((opened.control.expose(), opened.inviter), (&[3; 32], welcome().inviter));
}

#[test]
fn a_request_proves_nothing_with_another_secret_or_on_another_connection() {
    let joiner = joiner(1);
    let said = asking(&joiner).request().clone();
    let verify = |secret: &Secret<16>, exporter: &[u8; 32]| {
        said.verify(secret, exporter, &joiner.keys.transport)
    };
    assert_eq!(verify(&secret(1), &EXPORTER), Ok(()));
    assert_eq!(verify(&secret(2), &EXPORTER), Err(PairingError::WrongProof));
    assert_eq!(verify(&secret(1), &[6; 32]), Err(PairingError::WrongProof));
}

/// Calls `judge` with each frame that differs from `frame` in one bit, and with each that is cut.
fn spoilt(frame: &[u8], judge: impl Fn(&[u8]) -> bool) {
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut changed = frame.to_vec();
            changed[at] ^= 1 << bit;
            assert!(!judge(&changed), "byte {at}, bit {bit}");
        }
        assert!(!judge(&frame[..at]), "cut at {at}");
    }
    assert!(judge(frame));
}

#[test]
fn a_frame_with_any_byte_changed_is_refused() {
    let joiner = joiner(1);
    let transport = joiner.keys.transport;
    let asking = asking(&joiner);
    let request = asking.request().clone();
    spoilt(&request.encode(), |frame| {
        let said = PairRequest::decode(frame);
        said.and_then(|said| said.verify(&secret(1), &EXPORTER, &transport)).is_ok()
    });
    let answering = answering(&request, 7);
    spoilt(&answering.answer().encode(), |frame| self::asking(&joiner).hear(frame).is_ok());
    let heard = asking.hear(&answering.answer().encode()).unwrap();
    spoilt(&heard.reveal.encode(), |frame| {
        PairReveal::decode(frame).and_then(|reveal| answering.revealed(&reveal)).is_ok()
    });
    let agreed = answering.revealed(&heard.reveal).unwrap();
    spoilt(&seal(&agreed, &joiner).encode(), |frame| {
        let opened = PairReply::decode(frame);
        opened.and_then(|reply| reply.open(&secret(1), &agreed, &joiner.sealing)).is_ok()
    });
}

#[test]
fn an_answer_to_another_request_or_of_whom_has_not_the_secret_is_refused() {
    let joiner = joiner(1);
    let hear = |answering: &Answering| {
        asking(&joiner).hear(&answering.answer().encode()).map(drop).unwrap_err()
    };
    let other = Asking::new(
        &mut Seeded::new(71),
        &secret(1),
        &EXPORTER,
        joiner.keys.clone(),
        "Ana's phone",
    );
    assert_eq!(hear(&answering(other.unwrap().request(), 7)), PairingError::WrongProof);
    let (entropy, request) = (&mut Seeded::new(7), asking(&joiner).request().clone());
    let stranger = Answering::new(entropy, &secret(2), &EXPORTER, request, space(), &name());
    assert_eq!(hear(&stranger), PairingError::WrongProof);
}

#[test]
fn a_welcome_opens_for_its_joiner_talk_and_secret_alone() {
    let (first, second) = (joiner(1), joiner(2));
    let (_, agreed) = talk(&first);
    let reply = seal(&agreed, &first);
    let open = |secret: &Secret<16>, agreed: &Agreed, joiner: &Joiner| {
        reply.open(secret, agreed, &joiner.sealing).map(drop)
    };
    assert_eq!(open(&secret(1), &agreed, &first), Ok(()));
    assert_eq!(open(&secret(2), &agreed, &first), Err(PairingError::WrongProof));
    // The same request, answered once more.
    let asking = asking(&first);
    let answering = answering(asking.request(), 99);
    let again = asking.hear(&answering.answer().encode()).unwrap().agreed;
    assert_eq!(open(&secret(1), &again, &first), Err(PairingError::WrongProof));
    assert_eq!(open(&secret(1), &agreed, &second), Err(PairingError::DoesNotOpen));
}

/// With the answer the joiner looks whether it has that space, or another one of its name, and
/// keeps its keys under it. A welcome to another one would pass by all that.
#[test]
fn a_welcome_to_another_space_than_was_named_is_refused() {
    let joiner = joiner(1);
    let (_, agreed) = talk(&joiner);
    let open = |welcome: Welcome| {
        let (entropy, to) = (&mut Seeded::new(8), &joiner.keys.sealing);
        let reply = welcome.seal(entropy, &secret(1), &agreed, to).unwrap();
        reply.open(&secret(1), &agreed, &joiner.sealing).map(drop)
    };
    assert_eq!(open(welcome()), Ok(()));
    let another = Welcome { space: SpaceId::new([4; 32]), ..welcome() };
    assert!(matches!(open(another), Err(PairingError::OutOfBounds(_))));
    let another = Welcome { name: "shared:other".parse().unwrap(), ..welcome() };
    assert!(matches!(open(another), Err(PairingError::OutOfBounds(_))));
}

/// A joiner's keys are kept under zeros as long as it knows of no space.
#[test]
fn a_space_of_zeros_is_none() {
    let asking = asking(&joiner(1));
    let (entropy, none) = (&mut Seeded::new(7), SpaceId::new([0; 32]));
    let request = asking.request().clone();
    let answering = Answering::new(entropy, &secret(1), &EXPORTER, request, none, &name());
    let refused = asking.hear(&answering.answer().encode()).map(drop).unwrap_err();
    assert!(matches!(refused, PairingError::OutOfBounds(_)), "{refused}");
}

/// He has the invitation, and stands between: each end talks to him, on a connection of its own.
/// The code that the inviter shows is fixed; he tries to bring the joiner to show it, too.
struct Between {
    inviter_shows: CheckCode,
    joiner: Joiner,
}

impl Between {
    const ON_JOINERS_SIDE: [u8; 32] = [6; 32];

    fn new() -> Self {
        let (_, agreed) = talk(&joiner(66));
        Self { inviter_shows: agreed.check_code(), joiner: joiner(1) }
    }

    fn victim(&self, seed: u64) -> Asking {
        let entropy = &mut Seeded::new(seed);
        let (exporter, keys) = (&Self::ON_JOINERS_SIDE, self.joiner.keys.clone());
        Asking::new(entropy, &secret(1), exporter, keys, "Ana's phone").unwrap()
    }

    fn answer(victim: &Asking, seed: u64) -> Answering {
        let (exporter, request) = (&Self::ON_JOINERS_SIDE, victim.request().clone());
        Answering::new(&mut Seeded::new(seed), &secret(1), exporter, request, space(), &name())
    }
}

/// The positive control: if the joiner gave its nonce away in the request, whoever stands between
/// would try nonces of his own until the codes agree, a million times on average.
#[test]
fn without_the_commitment_who_grinds_finds_the_code() {
    let between = Between::new();
    let victim = between.victim(70);
    // What a request without the commitment would show.
    let nonce = *victim.nonce.expose();
    let mut body = Between::answer(&victim, 1).answer.body;
    let found = (0_u64..20_000_000).find(|number| {
        body.nonce[..8].copy_from_slice(&number.to_be_bytes());
        Agreed::new(&victim.opening, &body, &nonce).check_code() == between.inviter_shows
    });
    assert!(found.is_some(), "the grinding itself works");
    // The very frame, told to the joiner, makes it show the inviter's code.
    let proof = prove(&secret(1), ANSWER, &victim.opening, &[&canonical::encode(&body)]);
    let heard = victim.hear(&PairAnswer { body, proof }.encode()).unwrap();
    assert_eq!(heard.agreed.check_code(), between.inviter_shows);
}

/// With it he can only guess. He may prepare as many answers as he likes; each victim hears one,
/// before he knows its nonce, and what the codes of different answers are he learns afterwards.
#[test]
fn with_the_commitment_who_grinds_has_one_guess() {
    let between = Between::new();
    let guesses = 2000;
    let agreed = (0..guesses).filter(|seed| {
        let victim = between.victim(1000 + seed);
        // All that he knows of the nonce: to grind against this gives a nonce that is not it.
        let committed = victim.request().body.commitment;
        let mut body = Between::answer(&victim, *seed).answer.body;
        let best = (0_u64..500).find(|number| {
            body.nonce[..8].copy_from_slice(&number.to_be_bytes());
            let guess = Agreed::new(&victim.opening, &body, committed.as_bytes());
            guess.check_code() == between.inviter_shows
        });
        body.nonce[..8].copy_from_slice(&best.unwrap_or(*seed).to_be_bytes());
        let proof = prove(&secret(1), ANSWER, &victim.opening, &[&canonical::encode(&body)]);
        let heard = victim.hear(&PairAnswer { body, proof }.encode()).unwrap();
        heard.agreed.check_code() == between.inviter_shows
    });
    // Each time a chance of one in a million, and the seeds are fixed.
    assert_eq!(agreed.count(), 0);
}

/// From the other end: he has heard the inviter's nonce, and would like to have said another.
#[test]
fn who_revealed_something_else_than_committed_to_is_refused() {
    let joiner = joiner(1);
    let asking = asking(&joiner);
    let answering = answering(asking.request(), 7);
    for seed in 1000..1100 {
        let mut nonce = [0; 32];
        Seeded::new(seed).fill(&mut nonce);
        let refused = answering.revealed(&PairReveal { nonce }).unwrap_err();
        assert_eq!(refused, PairingError::WrongReveal);
    }
    let heard = asking.hear(&answering.answer().encode()).unwrap();
    answering.revealed(&heard.reveal).unwrap();
}

#[test]
fn everything_that_was_said_is_in_the_code() {
    let first = talk(&joiner(1)).1;
    let other_keys = talk(&joiner(2)).1;
    assert_ne!(first, other_keys);
    let asking = asking(&joiner(1));
    let other_nonce = answering(asking.request(), 9);
    let heard = asking.hear(&other_nonce.answer().encode()).unwrap();
    assert_ne!(first, heard.agreed);
    assert_ne!(first.check_code(), heard.agreed.check_code());
}

#[test]
fn a_check_code_is_read_as_people_write_it() {
    let code = CheckCode::of(&Hash::new([7; 32]));
    let text = code.to_string();
    assert_eq!((text.len(), text.as_bytes()[3]), (7, b' '));
    for typed in [text.clone(), text.replace(' ', ""), text.replace(' ', "-"), format!(" {text}\n")]
    {
        assert_eq!(typed.parse(), Ok(code), "{typed}");
    }
    for wrong in ["", "12345", "1234567", "12 345a", "١٢٣٤٥٦", &"1".repeat(100)] {
        assert_eq!(wrong.parse::<CheckCode>(), Err(NotACheckCode), "{wrong}");
    }
}

#[test]
fn check_codes_are_spread_evenly() {
    let mut counts = [0_u32; 10];
    for number in 0_u64..10_000 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let text = CheckCode::of(&Hash::new(hash)).to_string();
        counts[usize::from(text.as_bytes()[0] - b'0')] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn keys_that_cannot_be_enrolled_are_refused() {
    let good = joiner(1);
    let verify = |change: &dyn Fn(&mut DeviceKeys)| {
        let mut keys = good.keys.clone();
        change(&mut keys);
        Asking::new(&mut Seeded::new(70), &secret(1), &EXPORTER, keys, "x")
            .unwrap()
            .request()
            .verify(&secret(1), &EXPORTER, &good.keys.transport)
    };
    assert_eq!(verify(&|_| ()), Ok(()));
    for change in [
        &(|keys: &mut DeviceKeys| keys.suite = 1) as &dyn Fn(&mut DeviceKeys),
        &|keys| keys.transport = joiner(2).keys.transport,
        &|keys| keys.signing = DeviceId::new([0; 32]),
        &|keys| keys.ack = AckPublic::new([0; 32]),
        &|keys| keys.sealing = SealingPublic::new([0; SealingPublic::BYTES]),
    ] {
        assert!(matches!(verify(change), Err(PairingError::BadKeys(_))));
    }
}

#[test]
fn labels_are_bounded_and_printable() {
    let keys = joiner(1).keys;
    for label in ["", "a\nb", &"x".repeat(LABEL_BYTES_MAX + 1)] {
        let entropy = &mut Seeded::new(70);
        let result = Asking::new(entropy, &secret(1), &EXPORTER, keys.clone(), label);
        assert!(matches!(result, Err(PairingError::OutOfBounds(_))), "{label}");
        // Nor from a peer.
        let mut said = asking(&joiner(1)).request().clone();
        said.body.label = label.to_owned();
        assert!(PairRequest::decode(&said.encode()).is_err(), "{label}");
    }
}

#[test]
fn a_refusal_says_why() {
    for refusal in [1, 2, 3, 4, 5, 6, 7, 8, 9, 77].map(Refusal::from_wire) {
        let reply = PairReply::refused(refusal, &"é".repeat(500));
        let reply = PairReply::decode(&reply.encode()).unwrap();
        let (_, agreed) = talk(&joiner(1));
        let at_the_end = reply.open(&secret(1), &agreed, &joiner(1).sealing).map(drop);
        let at_once = asking(&joiner(1)).hear(&reply.encode()).map(drop);
        for heard in [at_the_end, at_once] {
            match heard {
                Err(PairingError::Refused { refusal: said, message }) => {
                    assert_eq!(said, refusal);
                    assert_eq!(message.len(), 256);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // One that a peer makes longer than it may be is cut.
    let reply = PairReply::Refused { refusal: Refusal::Used, message: "x".repeat(5000) };
    match PairReply::decode(&reply.encode()).unwrap() {
        PairReply::Refused { message, .. } => assert_eq!(message.len(), 256),
        PairReply::Welcome { .. } => panic!(),
    }
}

mod short_code {
    use super::*;

    const JOINERS: [u8; 32] = [21; 32];
    const INVITERS: [u8; 32] = [22; 32];

    fn code(digits: &str) -> ShortCode {
        digits.parse().unwrap()
    }

    /// What each end takes for the secret, when each has these digits, connection and peer.
    fn secrets(
        joiner: (&str, [u8; 32], [u8; 32]),
        inviter: (&str, [u8; 32], [u8; 32]),
    ) -> ([u8; 16], [u8; 16]) {
        let (own, key) = (TransportId::new(JOINERS), TransportId::new(joiner.2));
        let ends = Ends { exporter: &joiner.1, joiner: &own, inviter: &key };
        let guess = Guess::new(&mut Seeded::new(1), &code(joiner.0), &ends);
        let start = CodeStart::decode(&guess.start().encode()).unwrap();
        let (key, own) = (TransportId::new(inviter.2), TransportId::new(INVITERS));
        let his = Ends { exporter: &inviter.1, joiner: &key, inviter: &own };
        let (answer, there) = start.answer(&mut Seeded::new(2), &code(inviter.0), &his).unwrap();
        let here = guess.secret(&answer.encode(), &ends).unwrap();
        (*here.expose(), *there.expose())
    }

    #[test]
    fn both_have_a_secret_if_the_digits_are_the_same() {
        let (here, there) =
            secrets(("1234-5678", EXPORTER, INVITERS), ("12345678", EXPORTER, JOINERS));
        assert_eq!(here, there);
        let (here, there) =
            secrets(("1234-5679", EXPORTER, INVITERS), ("12345678", EXPORTER, JOINERS));
        assert_ne!(here, there);
    }

    /// He passes the frames on from one connection to another, or plays either end with his own
    /// key: the positive control is the case above, of which each differs in one thing alone.
    #[test]
    fn who_stands_between_has_neither_ends_secret_nor_have_they_the_same() {
        let two_connections =
            secrets(("1234-5678", EXPORTER, INVITERS), ("1234-5678", [6; 32], JOINERS));
        let his_key_to_the_joiner =
            secrets(("1234-5678", EXPORTER, [66; 32]), ("1234-5678", EXPORTER, JOINERS));
        let his_key_to_the_inviter =
            secrets(("1234-5678", EXPORTER, INVITERS), ("1234-5678", EXPORTER, [66; 32]));
        for (here, there) in [two_connections, his_key_to_the_joiner, his_key_to_the_inviter] {
            assert_ne!(here, there);
        }
    }

    /// A frame of another talk is of no use: each end's share is drawn anew.
    #[test]
    fn a_recorded_answer_does_not_fit_another_guess() {
        let (joiner, inviter) = (TransportId::new(JOINERS), TransportId::new(INVITERS));
        let ends = Ends { exporter: &EXPORTER, joiner: &joiner, inviter: &inviter };
        let code = code("1234-5678");
        let guess = |seed| Guess::new(&mut Seeded::new(seed), &code, &ends);
        let (answer, there) = guess(1).start().answer(&mut Seeded::new(2), &code, &ends).unwrap();
        let fits =
            |seed| guess(seed).secret(&answer.encode(), &ends).unwrap().expose() == there.expose();
        assert!(fits(1));
        assert!(!fits(3));
    }

    #[test]
    fn frames_are_read_strictly() {
        let (joiner, inviter) = (TransportId::new(JOINERS), TransportId::new(INVITERS));
        let ends = Ends { exporter: &EXPORTER, joiner: &joiner, inviter: &inviter };
        let code = code("1234-5678");
        let guess = || Guess::new(&mut Seeded::new(1), &code, &ends);
        let start = guess().start().encode();
        let (answer, _) = guess().start().answer(&mut Seeded::new(2), &code, &ends).unwrap();
        let answer = answer.encode();
        for at in 0..start.len() {
            assert!(CodeStart::decode(&start[..at]).is_err());
        }
        for at in 0..answer.len() {
            assert!(guess().secret(&answer[..at], &ends).is_err());
        }
        // No request is a start, and none of these a request.
        let request = asking(&joiner_of(1)).request().encode();
        assert!(CodeStart::decode(&request).is_err() && PairRequest::decode(&start).is_err());
        let refused = PairReply::refused(Refusal::Burned, "").encode();
        let refused = guess().secret(&refused, &ends).map(drop).unwrap_err();
        assert!(matches!(refused, PairingError::Refused { refusal: Refusal::Burned, .. }));
        // The neutral element, which would make the secret known to all.
        let mut neutral = [0; PAKE_BYTES_OF_TESTS];
        neutral[0] = 1;
        let said = canonical::encode(&(0_u8, minicbor::bytes::ByteArray::from(neutral)));
        let start = CodeStart::decode(&said).unwrap();
        let refused = start.answer(&mut Seeded::new(2), &code, &ends).map(drop).unwrap_err();
        assert!(matches!(refused, PairingError::BadKeys(_)));
    }

    const PAKE_BYTES_OF_TESTS: usize = larder_crypto::pake::PAKE_BYTES;

    fn joiner_of(seed: u64) -> Joiner {
        super::joiner(seed)
    }

    #[test]
    fn a_short_code_is_read_as_people_write_it_and_shown_on_purpose_only() {
        let code = ShortCode::random(&mut Seeded::new(5));
        let text = code.to_string();
        assert_eq!((text.len(), text.as_bytes()[4]), (9, b'-'));
        for typed in [text.clone(), text.replace('-', ""), text.replace('-', " ")] {
            assert_eq!(typed.parse::<ShortCode>().unwrap().to_string(), text);
        }
        assert!(!format!("{code:?}").contains(&text[..4]));
        for wrong in ["", "1234567", "123456789", "1234-567x", "١٢٣٤٥٦٧٨"] {
            assert!(wrong.parse::<ShortCode>().is_err(), "{wrong}");
        }
    }
}
