/// A reproducible source of chance: `SplitMix64` (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014). Not for keys.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed rolls the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// All 64 bits by chance.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl larder_types::Entropy for Dice {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let roll = self.roll().to_le_bytes();
            chunk.iter_mut().zip(roll).for_each(|(to, from)| *to = from);
        }
    }
}
