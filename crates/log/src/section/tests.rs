use larder_types::{Clock, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::metadata::{Metadata, kind};

struct Seeded(u64);
impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            // Knuth's MMIX generator: enough for a test.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            [*byte, ..] = (self.0 >> 32).to_le_bytes();
        }
    }
}

fn opened(body: Vec<u8>) -> Opened {
    Opened {
        meta_salt: [9; 16],
        metadata: Metadata {
            kind: kind::DOCUMENT_CREATE,
            collection: Some("notes".parse().unwrap()),
            object: None,
            generation: None,
            actor: None,
            correlation: None,
            clock: Clock { wall: Timestamp(1), count: 2 },
            personal: None,
        },
        body,
    }
}

fn address() -> Address {
    Address {
        space: SpaceId::new([1; 32]),
        device: DeviceId::new([2; 32]),
        seq: 3,
        index: 4,
        epoch: EpochId::new([5; 32]),
        step: 6,
        band: Band::Amber,
    }
}

fn seal(opened: &Opened) -> (SectionCommitment, Vec<u8>) {
    let mut entropy = Seeded(1);
    let control = ControlSecret::new(Secret::new([8; 32]));
    let secret = Secret::new([7; 32]);
    seal_section(&mut entropy, &address(), &secret, Class::Data, &control, opened).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn opening_undoes_sealing_and_any_flipped_bit_is_refused(
        body in prop::collection::vec(any::<u8>(), 0..4096),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let opened = opened(body);
        let (commitment, mut sealed) = seal(&opened);
        let secret = Secret::new([7; 32]);
        prop_assert_eq!(open_section(&address(), &secret, &commitment, &sealed), Ok(opened));
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(
            open_section(&address(), &secret, &commitment, &sealed),
            Err(SectionError::NotCommitted)
        );
        // Even where the commitment was made for the altered bytes, they do not open.
        let forged = SectionCommitment { sealed: sealed_digest(&sealed), ..commitment };
        prop_assert_eq!(
            open_section(&address(), &secret, &forged, &sealed),
            Err(SectionError::DoesNotOpen)
        );
    }

    #[test]
    fn padding_costs_at_most_12_percent_and_is_a_closure(len in 0..(16_usize << 20)) {
        let padded = padme(len);
        prop_assert!(padded >= len);
        prop_assert!(padded * 100 <= len * 112);
        prop_assert_eq!(padme(padded), padded);
    }

    #[test]
    fn hostile_plaintexts_are_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(unpad_and_decompress(&bytes).is_err());
    }
}

#[test]
fn a_section_opens_at_its_own_place_alone() {
    let (commitment, sealed) = seal(&opened(b"body".to_vec()));
    let secret = Secret::new([7; 32]);
    let here = address();
    for elsewhere in [
        Address { space: SpaceId::new([9; 32]), ..here },
        Address { device: DeviceId::new([9; 32]), ..here },
        Address { seq: 9, ..here },
        Address { index: 9, ..here },
        Address { epoch: EpochId::new([9; 32]), ..here },
        Address { step: 9, ..here },
        Address { band: Band::Red, ..here },
    ] {
        assert_eq!(
            open_section(&elsewhere, &secret, &commitment, &sealed),
            Err(SectionError::DoesNotOpen)
        );
    }
    let moved = SectionCommitment { meta: Hash::new([9; 32]), ..commitment };
    assert_eq!(open_section(&here, &secret, &moved, &sealed), Err(SectionError::DoesNotOpen));
}

#[test]
fn what_opens_but_is_not_what_was_committed_to_is_void() {
    // GCM does not commit to its key: an author can make bytes that open, but as something else
    // than the metadata that everyone else sees.
    let (commitment, _) = seal(&opened(b"body".to_vec()));
    let other = opened(b"another body".to_vec());
    let padded = compress_and_pad(&other.encode()).unwrap();
    let secret = Secret::new([7; 32]);
    let key = address().key(&secret, &commitment.key_salt);
    let sealed = aead::seal_section(&key, &address().associated_data(&commitment.meta), &padded);
    let forged = SectionCommitment {
        sealed: sealed_digest(&sealed),
        len: sealed.len() as u64,
        ..commitment
    };
    assert_eq!(open_section(&address(), &secret, &forged, &sealed), Err(SectionError::Mismatch));
}

#[test]
fn the_band_is_read_with_the_control_secret_and_masked_without() {
    let control = ControlSecret::new(Secret::new([8; 32]));
    let (commitment, _) = seal(&opened(Vec::new()));
    assert_eq!(commitment.band(&control), Ok(Band::Amber));
    let masks: std::collections::BTreeSet<u8> =
        (0..64).map(|salt| control.mask(&[salt; 16])).collect();
    assert!(masks.len() > 32, "masks differ between sections");
}

#[test]
fn large_sections_seal_and_larger_ones_are_refused() {
    let mut noise = vec![0; SECTION_BYTES_MAX - 200];
    Seeded(3).fill(&mut noise);
    let largest = opened(noise);
    let (commitment, sealed) = seal(&largest);
    assert!(sealed.len() <= SEALED_BYTES_MAX);
    assert_eq!(open_section(&address(), &Secret::new([7; 32]), &commitment, &sealed), Ok(largest));
    let control = ControlSecret::new(Secret::new([8; 32]));
    let too_large = seal_section(
        &mut Seeded(1),
        &address(),
        &Secret::new([7; 32]),
        Class::Data,
        &control,
        &opened(vec![0; SECTION_BYTES_MAX]),
    );
    assert!(matches!(too_large, Err(SectionError::TooLarge { .. })));
}

#[test]
fn a_compression_bomb_stops_at_the_limit() {
    let frame = zstd::bulk::compress(&vec![0; SECTION_BYTES_MAX + 1], ZSTD_LEVEL).unwrap();
    assert!(frame.len() < 4096);
    assert!(decompress(&frame, SECTION_BYTES_MAX).is_err());
    let whole = zstd::bulk::compress(&vec![0; SECTION_BYTES_MAX], ZSTD_LEVEL).unwrap();
    assert_eq!(decompress(&whole, SECTION_BYTES_MAX).unwrap().len(), SECTION_BYTES_MAX);
}

#[test]
fn a_section_is_void_that_holds_more_than_its_sealed_bytes_may() {
    // Sealed as any other; without the padding that holds the ratio, 10 MiB came out of 1 KiB.
    let bomb = opened(vec![0; SECTION_BYTES_MAX - 200]);
    let (commitment, sealed) = seal(&bomb);
    assert!(sealed.len() * SECTION_RATIO_MAX >= SECTION_BYTES_MAX - 200);
    let secret = Secret::new([7; 32]);
    assert_eq!(open_section(&address(), &secret, &commitment, &sealed), Ok(bomb.clone()));

    let frame = compress(&bomb.encode()).unwrap();
    let mut padded = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    padded.extend(&frame);
    padded.resize(padme(padded.len()), 0);
    let key = address().key(&secret, &commitment.key_salt);
    let sealed = aead::seal_section(&key, &address().associated_data(&commitment.meta), &padded);
    let forged = SectionCommitment {
        sealed: sealed_digest(&sealed),
        len: sealed.len() as u64,
        ..commitment
    };
    assert!(sealed.len() < 4096);
    let refused = |result| matches!(result, Err(SectionError::Malformed(_)));
    assert!(refused(open_section(&address(), &secret, &forged, &sealed)));
    assert!(refused(open_carried(&forged, &frame)), "nor does it come in carried");
    // So far it is unpacked, and no further.
    let most = forged.opened_bytes_max();
    assert!(decompress(&frame, most).is_err() && most < 1 << 16);
}

#[test]
fn what_is_carried_is_the_frame_that_was_sealed() {
    for body in [b"body".to_vec(), vec![7; 100_000]] {
        let opened = opened(body);
        let (commitment, sealed) = seal(&opened);
        let secret = Secret::new([7; 32]);
        let carried = carry_section(&address(), &secret, &commitment, &sealed).unwrap();
        assert_eq!(carried, pack(&opened).unwrap());
        assert_eq!(open_carried(&commitment, &carried), Ok(opened));
        let other = SectionCommitment { meta: Hash::new([9; 32]), ..commitment };
        assert_eq!(open_carried(&other, &carried), Err(SectionError::Mismatch));
        assert!(carry_section(&address(), &secret, &other, &sealed).is_err());
    }
}

proptest! {
    // Small frames and large ones are read by other means.
    #[test]
    fn frames_of_any_size_are_read_whole_or_refused(
        len in prop_oneof![0..300_usize, SMALL_BYTES - 2..SMALL_BYTES + 3], cut in 1..20_usize,
        more: u8,
    ) {
        let plain: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        let frame = compress(&plain).unwrap();
        prop_assert_eq!(&*decompress(&frame, len).unwrap(), &plain);
        prop_assert!(len == 0 || decompress(&frame, len - 1).is_err());
        prop_assert!(decompress(&frame[..frame.len().saturating_sub(cut)], len).is_err());
        prop_assert!(decompress(&[&frame[..], &[more]].concat(), len).is_err());
    }
}

#[test]
fn a_frame_is_one_and_whole() {
    let frame = zstd::bulk::compress(b"plain", ZSTD_LEVEL).unwrap();
    let read = |bytes: &[u8]| decompress(bytes, SECTION_BYTES_MAX);
    assert_eq!(*read(&frame).unwrap(), b"plain");
    assert!(read(&frame[..frame.len() - 1]).is_err(), "cut");
    assert!(read(&[&frame[..], b"x"].concat()).is_err(), "a byte more");
    assert!(read(&[&frame[..], &frame[..]].concat()).is_err(), "two frames");
    assert!(read(b"").is_err(), "none");
}

proptest! {
    // Else what was sealed before could not be sealed again to the same bytes.
    #[test]
    fn a_context_that_was_used_makes_the_same_frames_as_a_new_one(
        texts in prop::collection::vec(("[a-d]{1,9}", 0..2000_usize), 1..20),
    ) {
        for (word, times) in texts {
            let plain = word.repeat(times).into_bytes();
            prop_assert_eq!(
                compress(&plain).unwrap(),
                zstd::bulk::compress(&plain, ZSTD_LEVEL).unwrap()
            );
        }
    }
}

#[test]
fn padding_is_zeros_up_to_the_padme_length_and_nothing_else() {
    let padded = compress_and_pad(&[5; 100]).unwrap();
    assert!(unpad_and_decompress(&padded).is_ok());
    let mut longer = padded.to_vec();
    longer.push(0);
    assert!(unpad_and_decompress(&longer).is_err());
    let plain = unpad_and_decompress(&padded).unwrap().1;
    assert_eq!(*plain, [5; 100]);
    let body: Vec<u8> = (0..=255).collect();
    let padded = compress_and_pad(&body).unwrap();
    let mut dirty = padded.to_vec();
    *dirty.last_mut().unwrap() = 1;
    assert!(unpad_and_decompress(&dirty).is_err());
}

#[test]
fn padme_lengths_are_those_of_the_paper() {
    // Nikitin et al. 2019, §4: the length as a float whose mantissa is no longer than its exponent.
    for (len, padded) in [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (100_000, 100_352)] {
        assert_eq!(padme(len), padded, "{len}");
    }
}

#[test]
fn what_was_sealed_is_sealed_again_to_the_same_bytes_and_nothing_else_is() {
    let opened = opened(vec![7; 3000]);
    let (commitment, sealed) = seal(&opened);
    let secret = Secret::new([7; 32]);
    let again = |opened: &Opened| reseal_section(&address(), &secret, &commitment, opened);
    assert_eq!(again(&opened), Some(sealed));
    let other = Opened { body: vec![8; 3000], ..opened.clone() };
    assert_eq!(again(&other), None);
    // Its author commits to one thing and seals another.
    let (garbage, _) = seal(&other);
    let lie = SectionCommitment { sealed: garbage.sealed, len: garbage.len, ..commitment.clone() };
    assert!(opened.matches(&lie));
    assert_eq!(reseal_section(&address(), &secret, &lie, &opened), None);
}

#[test]
fn a_clock_that_no_database_holds_is_refused() {
    let at = |wall| {
        let mut opened = opened(Vec::new());
        opened.metadata.clock.wall = Timestamp(wall);
        Opened::decode(&opened.encode())
    };
    assert!(at(larder_types::limits::CLOCK_MS_MAX).is_ok());
    assert!(matches!(at(larder_types::limits::CLOCK_MS_MAX + 1), Err(SectionError::Malformed(_))));
    assert!(at(u64::MAX).is_err());
}
