/// Why texts could not be embedded; what an app's own embedder has to say.
#[derive(Debug, thiserror::Error)]
#[error("the embedder failed: {0}")]
pub struct EmbedError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Turns texts into vectors that lie close together where the texts are alike.
pub trait Embedder: Send + Sync {
    /// Names the model and everything else that its vectors depend on: vectors of different ids
    /// are never compared. 1 to 64 of `a-z`, `0-9` and `-`; not `app`, nor what begins with `app-`:
    /// so the vectors are called that apps bring themselves.
    fn id(&self) -> &str;

    /// How many numbers a vector has: 1 to
    /// [`VECTOR_DIMENSIONS_MAX`](larder_types::limits::VECTOR_DIMENSIONS_MAX).
    fn dimensions(&self) -> usize;

    /// A vector for each text, in order.
    ///
    /// # Errors
    /// [`EmbedError`], with the model's own as its source.
    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// Vectors of hashed character n-grams: likeness of spelling, not of meaning.
///
/// It needs no model and no file. It finds inflections, compounds and misspellings ("tomatoes" for
/// "tomatos"), and texts that share many words; it does not find "car" for "vehicle". Texts are
/// lower-cased, and what is neither letter nor digit counts as a space; then every sequence of 3,
/// 4 and 5 characters adds 1 to, or takes 1 from, one of 256 numbers, chosen by its FNV-1a hash
/// (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009). The roots of
/// the sums are scaled to length 1. A text without any letter or digit gives zeros.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashedNgrams;

impl HashedNgrams {
    const DIMENSIONS: usize = 256;
    const SHORTEST: usize = 3;
    const LONGEST: usize = 5;

    fn embed(text: &str) -> Vec<f32> {
        let mut grams = Grams::new();
        grams.push(b" ");
        let mut after_space = true;
        let mut take = |c: char| {
            if c.is_alphanumeric() {
                grams.push(c.encode_utf8(&mut [0; 4]).as_bytes());
                after_space = false;
            } else if !std::mem::replace(&mut after_space, true) {
                grams.push(b" ");
            }
        };
        for c in text.chars() {
            if c.is_ascii() {
                take(c.to_ascii_lowercase());
            } else {
                c.to_lowercase().for_each(&mut take);
            }
        }
        take(' ');
        normalised(&grams.sums)
    }
}

/// Sums over the sequences of characters, as they come: lower-case words with one space before and
/// after each.
struct Grams {
    sums: [i32; HashedNgrams::DIMENSIONS],
    /// Hashes of the last character, the last two and so on. They do not wait for one another.
    ends: [u64; HashedNgrams::LONGEST],
    chars: usize,
}

impl Grams {
    const fn new() -> Self {
        let sums = [0; HashedNgrams::DIMENSIONS];
        Self { sums, ends: [FNV_OFFSET; HashedNgrams::LONGEST], chars: 0 }
    }

    #[inline]
    fn push(&mut self, c: &[u8]) {
        let [one, two, three, four, _] = self.ends;
        self.ends = [FNV_OFFSET, one, two, three, four].map(|hash| fnv_1a(hash, c));
        self.chars += 1;
        let longest = self.chars.min(HashedNgrams::LONGEST);
        for hash in self.ends.iter().take(longest).skip(HashedNgrams::SHORTEST - 1) {
            let [slot, .., sign] = hash.to_le_bytes();
            if let Some(sum) = self.sums.get_mut(usize::from(slot)) {
                *sum += if sign & 1 == 0 { 1 } else { -1 };
            }
        }
    }
}

impl Embedder for HashedNgrams {
    fn id(&self) -> &'static str {
        "hashed-char-ngrams-v1"
    }

    fn dimensions(&self) -> usize {
        Self::DIMENSIONS
    }

    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| Self::embed(text)).collect())
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits (draft-eastlake-fnv), going on from `hash`.
fn fnv_1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Only operations that IEEE 754 rounds alike everywhere.
fn normalised(sums: &[i32]) -> Vec<f32> {
    let length: f64 = sums.iter().map(|sum| f64::from(sum.unsigned_abs())).sum::<f64>().sqrt();
    let scale = |sum: &i32| {
        let root = f64::from(sum.unsigned_abs()).sqrt() * f64::from(sum.signum());
        if length == 0.0 { 0.0 } else { to_f32(root / length) }
    };
    sums.iter().map(scale).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is meant; |x| is at most 1")]
fn to_f32(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let vectors = HashedNgrams.embed_batch(&[a, b]).unwrap();
        vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_are_the_same_on_every_platform() {
        let vector = &HashedNgrams.embed_batch(&["Fish soup, for 4. Água!"]).unwrap()[0];
        let mut bits = 0xcbf2_9ce4_8422_2325_u64;
        for byte in vector.iter().flat_map(|x| x.to_le_bytes()) {
            bits = (bits ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        assert_eq!(format!("{bits:016x}"), "bc8f0dec6c18584d");
        assert_eq!(fnv_1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn they_have_length_one_or_none() {
        for text in ["a", "soup", &"long text ".repeat(1000)] {
            assert!((cosine(text, text) - 1.0).abs() < 1e-5, "{text}");
        }
        for text in ["", "  ", "?!"] {
            let vectors = HashedNgrams.embed_batch(&[text]).unwrap();
            assert!(vectors[0].iter().all(|x| *x == 0.0) && vectors[0].len() == 256, "{text}");
        }
    }

    #[test]
    fn likeness_is_of_spelling() {
        assert!(cosine("tomatoes", "Tomatos") > 0.4);
        assert!(cosine("tomatoes", "Tomatos") > cosine("tomatoes", "vehicle") + 0.3);
        assert!(cosine("fish soup", "soup of fish") > 0.5);
    }
}
