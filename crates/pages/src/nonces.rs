use std::sync::Mutex;

use larder_crypto::aead::{NONCE_BYTES, NONCE_PREFIX_BYTES};
use larder_types::Entropy;

use crate::code::Code;
use crate::format::copy;
use crate::sync::locked;

/// Bytes drawn from the entropy source at a time. Few: a snapshot of the machine holds what is left
/// of them, and if it is resumed twice both draw the same.
const POOL: usize = 512;

/// Random bytes for nonces, ids and SQLite's own generator, drawn in blocks.
///
/// Invariant: a forked child draws nothing, since it would repeat its parent's nonces.
pub(crate) struct Nonces {
    pool: Mutex<Pool>,
    process: u32,
}

struct Pool {
    entropy: Box<dyn Entropy + Send>,
    bytes: Box<[u8; POOL]>,
    used: usize,
}

impl Nonces {
    pub(crate) fn new(entropy: Box<dyn Entropy + Send>) -> Self {
        let pool = Pool { entropy, bytes: Box::new([0; POOL]), used: POOL };
        Self { pool: Mutex::new(pool), process: std::process::id() }
    }

    /// `N` bytes that were never drawn before.
    ///
    /// # Errors
    /// In a forked child.
    pub(crate) fn draw<const N: usize>(&self) -> Result<[u8; N], Code> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// Whether this is the process that all connections were opened in.
    ///
    /// # Errors
    /// In a forked child. What it knows of the files is of another time than the files.
    pub(crate) fn check_process(&self) -> Result<(), Code> {
        if std::process::id() == self.process { Ok(()) } else { Err(Code::IOERR) }
    }

    pub(crate) fn fill(&self, out: &mut [u8]) -> Result<(), Code> {
        self.check_process()?;
        let mut pool = locked(&self.pool);
        let Pool { entropy, bytes, used } = &mut *pool;
        if out.len() > POOL {
            entropy.fill(out);
            return Ok(());
        }
        if POOL - *used < out.len() {
            entropy.fill(bytes.as_mut_slice());
            *used = 0;
        }
        copy(out, bytes.get(*used..).unwrap_or_default());
        *used += out.len();
        Ok(())
    }
}

/// Messages of a database whose nonces begin alike.
///
/// Each new beginning costs its writer and its readers the derivation of a key. 2¹⁶ random halves
/// of 12 bytes hold two equal ones with a chance of 2⁻⁶⁵.
const NONCES_PER_PREFIX: u32 = 1 << 16;

/// The nonces of one database: random throughout, the first half drawn anew only now and then.
///
/// The second half is no counter: a machine that is resumed twice from one snapshot would count the
/// same numbers twice.
#[derive(Default)]
pub(crate) struct DatabaseNonces(Mutex<Drawn>);

#[derive(Default)]
struct Drawn {
    prefix: [u8; NONCE_PREFIX_BYTES],
    /// Nonces that may still begin with `prefix`.
    left: u32,
}

impl DatabaseNonces {
    /// A nonce that was never drawn before.
    ///
    /// # Errors
    /// In a forked child.
    pub(crate) fn draw(&self, source: &Nonces) -> Result<[u8; NONCE_BYTES], Code> {
        let mut drawn = locked(&self.0);
        if drawn.left == 0 {
            *drawn = Drawn { prefix: source.draw()?, left: NONCES_PER_PREFIX };
        }
        drawn.left -= 1;
        let mut nonce = [0; NONCE_BYTES];
        let (prefix, rest) = nonce.split_at_mut(NONCE_PREFIX_BYTES);
        prefix.copy_from_slice(&drawn.prefix);
        source.fill(rest)?;
        Ok(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u8);
    impl Entropy for Counter {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0;
                self.0 = self.0.wrapping_add(1);
            }
        }
    }

    #[test]
    fn no_byte_is_handed_out_twice() {
        let nonces = Nonces::new(Box::new(Counter(0)));
        let mut expected = 0_u8;
        for _ in 0..1000 {
            for byte in nonces.draw::<8>().unwrap() {
                assert_eq!(byte, expected);
                expected = expected.wrapping_add(1);
            }
        }
    }

    #[test]
    fn nonces_begin_alike_for_a_while_and_end_at_random() {
        let source = Nonces::new(Box::new(Counter(0)));
        let (here, there) = (DatabaseNonces::default(), DatabaseNonces::default());
        let first = here.draw(&source).unwrap();
        assert_ne!(there.draw(&source).unwrap()[..12], first[..12], "each database has its own");
        let mut last = first;
        for _ in 1..NONCES_PER_PREFIX {
            let next = here.draw(&source).unwrap();
            assert_eq!(next[..12], first[..12]);
            assert_ne!(next[12..], last[12..]);
            last = next;
        }
        assert_ne!(here.draw(&source).unwrap()[..12], first[..12]);
    }
}
