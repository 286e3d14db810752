//! A password-authenticated key exchange: two ends that know the same few digits get the same key,
//! and whoever does not know them learns of each exchange only whether one guess was right.
//!
//! SPAKE2 (Abdalla and Pointcheval, CT-RSA 2005) over edwards25519 by the crate `spake2`, which
//! came before RFC 9382 and writes its transcript differently. Where the RFC multiplies by the
//! cofactor, what is received is refused here unless it lies in the prime-order group.

use ed25519_dalek::VerifyingKey;
use larder_types::Entropy;
use spake2::{Ed25519Group, Identity, Password, Spake2};

use crate::Secret;
use crate::error::BadKey;
use crate::keys::EntropyRng;

/// Bytes of a message.
pub const PAKE_BYTES: usize = 32;

/// Which end it is: who begins, or who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PakeSide {
    /// Begins.
    First,
    /// Answers.
    Second,
}

/// One end of one exchange; good for one guess.
pub struct Pake {
    state: Spake2<Ed25519Group>,
    side: PakeSide,
}

impl std::fmt::Debug for Pake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pake(redacted)")
    }
}

impl Pake {
    /// Begins, with what both know and how the two ends are named; also what is to be said.
    pub fn start(
        entropy: &mut dyn Entropy,
        side: PakeSide,
        password: &[u8],
        first: &[u8],
        second: &[u8],
    ) -> (Self, [u8; PAKE_BYTES]) {
        let (password, rng) = (Password::new(password), EntropyRng(entropy));
        let (first, second) = (Identity::new(first), Identity::new(second));
        let (state, message) = match side {
            PakeSide::First => Spake2::start_a_with_rng(&password, &first, &second, rng),
            PakeSide::Second => Spake2::start_b_with_rng(&password, &first, &second, rng),
        };
        let mut said = [0; PAKE_BYTES];
        // The first byte says whose it is, which is known here.
        said.iter_mut().zip(message.iter().skip(1)).for_each(|(said, byte)| *said = *byte);
        (Self { state, side }, said)
    }

    /// The key. It is the other end's only if that knows the same, which is to be proven with it.
    ///
    /// # Errors
    /// [`BadKey`] for a message that is no element of the group.
    pub fn finish(self, said: &[u8; PAKE_BYTES]) -> Result<Secret<32>, BadKey> {
        let point = VerifyingKey::from_bytes(said).map_err(|_| BadKey)?;
        if point.is_weak() || !point.to_edwards().is_torsion_free() {
            return Err(BadKey);
        }
        let other = match self.side {
            PakeSide::First => b'B',
            PakeSide::Second => b'A',
        };
        let mut message = Vec::with_capacity(PAKE_BYTES + 1);
        message.push(other);
        message.extend_from_slice(said);
        let key = zeroize::Zeroizing::new(self.state.finish(&message).map_err(|_| BadKey)?);
        Secret::from_slice(&key).ok_or(BadKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);
    impl Entropy for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = self.0.to_be_bytes()[0];
            }
        }
    }

    fn keys(first: (&[u8], &[u8]), second: (&[u8], &[u8])) -> [[u8; 32]; 2] {
        let (a, to_b) = Pake::start(&mut Fixed(1), PakeSide::First, first.0, first.1, b"b");
        let (b, to_a) = Pake::start(&mut Fixed(2), PakeSide::Second, second.0, second.1, b"b");
        [*a.finish(&to_a).unwrap().expose(), *b.finish(&to_b).unwrap().expose()]
    }

    #[test]
    fn the_same_digits_between_the_same_ends_give_the_same_key_and_nothing_else_does() {
        let [a, b] = keys((b"12345678", b"a"), (b"12345678", b"a"));
        assert_eq!(a, b);
        let [a, b] = keys((b"12345678", b"a"), (b"12345679", b"a"));
        assert_ne!(a, b);
        let [a, b] = keys((b"12345678", b"a"), (b"12345678", b"c"));
        assert_ne!(a, b);
    }

    #[test]
    fn what_is_outside_the_prime_order_group_is_refused() {
        let (_, good) = Pake::start(&mut Fixed(3), PakeSide::Second, b"x", b"a", b"b");
        let finish = |said: &[u8; 32]| {
            Pake::start(&mut Fixed(4), PakeSide::First, b"x", b"a", b"b").0.finish(said).map(drop)
        };
        assert_eq!(finish(&good), Ok(()));
        let mut one = [0; 32];
        one[0] = 1;
        // The neutral element, one of order 2, one of order 4, and bytes that are no point.
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut two = [0; 32];
        two[0] = 2;
        for bad in [one, minus_one, [0; 32], two] {
            assert_eq!(finish(&bad), Err(BadKey), "{bad:?}");
        }
        // A good one, and one of order 2 added to it: (x, y) + (0, -1) = (-x, -y).
        let negated = VerifyingKey::from_bytes(&good).unwrap().to_edwards();
        let order_two = VerifyingKey::from_bytes(&minus_one).unwrap().to_edwards();
        let mixed = (negated + order_two).compress().to_bytes();
        assert_eq!(finish(&mixed), Err(BadKey));
    }
}
