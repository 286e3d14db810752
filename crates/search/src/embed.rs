/// Why texts could not be embedded; what an app's own embedder has to say.
#[derive(Debug, thiserror::Error)]
#[error("the embedder failed: {0}")]
pub struct EmbedError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Turns texts into vectors that lie close together where the texts are alike.
pub trait Embedder: Send + Sync {
    /// Names the model and everything else that its vectors depend on: vectors of different ids
    /// are never compared. 1 to 64 of `a-z`, `0-9` and `-`.
    fn id(&self) -> &str;

    /// How many numbers a vector has.
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
        let spaced = spaced(text);
        let starts: Vec<usize> =
            spaced.char_indices().map(|(i, _)| i).chain([spaced.len()]).collect();
        let mut sums = [0_i32; Self::DIMENSIONS];
        for from in 0..starts.len() {
            let window = starts.get(from..).unwrap_or(&[]);
            // One hash runs on through the three lengths.
            let mut hash = FNV_OFFSET;
            for (n, ends) in (1..=Self::LONGEST).zip(window.windows(2)) {
                let [start, end] = *ends else { continue };
                hash = fnv_1a(hash, spaced.as_bytes().get(start..end).unwrap_or(&[]));
                let [slot, .., sign] = hash.to_le_bytes();
                if n >= Self::SHORTEST
                    && let Some(sum) = sums.get_mut(usize::from(slot))
                {
                    *sum += if sign & 1 == 0 { 1 } else { -1 };
                }
            }
        }
        normalised(&sums)
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

/// Lower-case words with one space before and after each.
fn spaced(text: &str) -> String {
    let mut spaced = String::from(" ");
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            spaced.push(c);
        } else if !spaced.ends_with(' ') {
            spaced.push(' ');
        }
    }
    if !spaced.ends_with(' ') {
        spaced.push(' ');
    }
    spaced
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
