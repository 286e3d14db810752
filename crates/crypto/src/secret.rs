use std::fmt;

use larder_types::Entropy;
use zeroize::Zeroize;

/// `N` secret bytes on the heap, overwritten with zeros when dropped.
///
/// Prints as redacted; has no `PartialEq` and no `Serialize`.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// The secret with these bytes. The argument's own copy is overwritten.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let boxed = Box::new(bytes);
        bytes.zeroize();
        Self(boxed)
    }

    /// A fresh secret.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        let mut boxed = Box::new([0; N]);
        entropy.fill(&mut *boxed);
        Self(boxed)
    }

    /// A secret with the bytes of `slice`, if it has exactly `N` of them.
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        if slice.len() != N {
            return None;
        }
        let mut boxed = Box::new([0; N]);
        boxed.copy_from_slice(slice);
        Some(Self(boxed))
    }

    /// The bytes. What copies them is responsible for the copy.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> zeroize::ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Overwrites the free part of this thread's stack, down to 32 KiB below the caller.
///
/// Ciphers expand keys into temporaries, and a move copies: what lies there is nobody's to wipe.
/// To be called when the last holder of a key lets go. It reaches no other thread's stack.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
pub fn wipe_stack() {
    const BYTES: usize = 32 << 10;
    let mut below = [0_u8; BYTES];
    std::hint::black_box(&mut below);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secret = Secret::new([0xab; 32]);
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(redacted) Secret(redacted)");
        assert_eq!(secret.clone().expose(), &[0xab; 32]);
    }

    #[test]
    fn a_secret_has_exactly_its_length() {
        assert!(Secret::<4>::from_slice(&[1, 2, 3]).is_none());
        assert!(Secret::<4>::from_slice(&[1, 2, 3, 4, 5]).is_none());
        assert_eq!(Secret::<4>::from_slice(&[1, 2, 3, 4]).unwrap().expose(), &[1, 2, 3, 4]);
    }
}
