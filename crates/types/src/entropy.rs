/// A source of unpredictable bytes, handed down from the façade (or from a seed, in a simulation).
///
/// Implementations must be suitable for keys: the operating system's generator, or a
/// cryptographic generator seeded from it.
pub trait Entropy: Send {
    /// Overwrites all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn fill(&mut self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}
