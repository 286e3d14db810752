use std::sync::Mutex;

use larder_types::Entropy;

use crate::code::Code;
use crate::sync::locked;

/// Bytes drawn from the entropy source at a time.
const POOL: usize = 4096;

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
        out.iter_mut().zip(bytes.iter().skip(*used)).for_each(|(to, from)| *to = *from);
        *used += out.len();
        Ok(())
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
}
