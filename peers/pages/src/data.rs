//! What is written and asked for: the same on all sides, from fixed seeds.

/// `SplitMix64`: small, fast and the same everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without `end`.
    pub(crate) fn below(&mut self, end: i64) -> i64 {
        self.next().cast_signed().rem_euclid(end)
    }
}

/// Rows of random bytes and a random number each, cheap to draw while the clock runs.
pub(crate) struct Rows {
    rng: Rng,
    bytes: Vec<u8>,
    length: usize,
}

impl Rows {
    pub(crate) fn new(seed: u64, length: usize) -> Self {
        let mut rng = Rng::new(seed);
        let bytes = (0..1 << 17).flat_map(|_| rng.next().to_le_bytes()).collect();
        Self { rng, bytes, length }
    }

    pub(crate) fn next(&mut self) -> (i64, &[u8]) {
        let number = i64::from(u32::from_le_bytes(low_half(self.rng.next())));
        let last = self.bytes.len() - self.length;
        let at = usize::try_from(self.rng.next()).map_or(0, |at| at % last);
        (number, self.bytes.get(at..at + self.length).unwrap_or_default())
    }
}

const fn low_half(number: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = number.to_le_bytes();
    [a, b, c, d]
}

/// Made-up words, the first ones far more often, as in a language.
pub(crate) struct Words(Rng);

impl Words {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    pub(crate) fn text(&mut self, words: usize) -> String {
        let words: Vec<String> = (0..words).map(|_| self.word()).collect();
        words.join(" ")
    }

    /// One of 2^15 words; each of fifteen classes, twice as large as the one before, is as likely.
    pub(crate) fn word(&mut self) -> String {
        let class = 1 << (1 + self.0.below(15));
        let mut number = self.0.below(class);
        let mut word = String::new();
        for _ in 0..3 {
            for letters in ["bdfgklmnprstvz", "aeiou"] {
                let count = i64::try_from(letters.len()).unwrap_or(1);
                let at = usize::try_from(number % count).unwrap_or(0);
                word.extend(letters.chars().nth(at));
                number /= count;
            }
        }
        word
    }
}

/// A vector as sqlite-vec takes it: little-endian `f32` from -1 to 1.
pub(crate) fn vector(rng: &mut Rng, dimensions: usize) -> Vec<u8> {
    (0..dimensions)
        .flat_map(|_| {
            let [a, b, ..] = rng.next().to_le_bytes();
            (f32::from(i16::from_le_bytes([a, b])) / 32768.0).to_le_bytes()
        })
        .collect()
}
