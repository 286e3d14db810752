use std::fmt;

use bip39::{Language, Mnemonic};
use larder_engine::Secret;
use zeroize::{Zeroize, Zeroizing};

use crate::system::OsEntropy;
use crate::{Error, Result};

/// 24 words on paper that give spaces back whose owners' devices are all lost. Together with any
/// device's copy of a space they make that device an owner ([`Space::recover`]); without one they
/// open nothing.
///
/// The words (BIP-39, English) are 256 random bits. They are kept nowhere: whoever made the kit
/// writes them down, and is asked for them when they are needed. One kit may serve several spaces,
/// none of which shows that.
///
/// [`Space::recover`]: crate::Space::recover
#[derive(Clone)]
pub struct RecoveryKit(Secret<32>);

impl fmt::Debug for RecoveryKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKit(redacted)")
    }
}

impl RecoveryKit {
    /// How many words there are.
    pub const WORDS: usize = 24;

    /// A new one.
    pub fn generate() -> Self {
        Self(Secret::random(&mut OsEntropy))
    }

    /// The words, with single blanks between them: to be shown once.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal).
    pub fn words(&self) -> Result<Zeroizing<String>> {
        let mnemonic = Mnemonic::from_entropy(self.0.expose());
        let mut mnemonic = mnemonic.map_err(|error| Error::Internal(error.to_string()))?;
        // Room for all at once, so that growing leaves no copies behind.
        let mut text = Zeroizing::new(String::with_capacity(Self::WORDS * 9));
        for word in mnemonic.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        mnemonic.zeroize();
        Ok(text)
    }

    /// The kit with these words. Capitals and any white space are forgiven.
    ///
    /// # Errors
    /// [`Error::RecoveryWords`] if they are not 24 words of the list, or not any kit's.
    pub fn from_words(text: &str) -> Result<Self> {
        let mut typed = Zeroizing::new(String::with_capacity(text.len()));
        for word in text.split_whitespace() {
            if !typed.is_empty() {
                typed.push(' ');
            }
            typed.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        let parsed = Mnemonic::parse_in_normalized(Language::English, &typed);
        let mut mnemonic = parsed.map_err(|error| Error::RecoveryWords(said(&error)))?;
        let (entropy, length) = mnemonic.to_entropy_array();
        mnemonic.zeroize();
        let entropy = Zeroizing::new(entropy);
        let bits = entropy.get(..length).and_then(Secret::from_slice);
        bits.map(Self).ok_or_else(|| Error::RecoveryWords("there have to be 24".to_owned()))
    }

    pub(crate) const fn secret(&self) -> &Secret<32> {
        &self.0
    }
}

/// What is wrong, without any word.
fn said(error: &bip39::Error) -> String {
    match error {
        bip39::Error::BadWordCount(count) => format!("there have to be 24, and these are {count}"),
        bip39::Error::UnknownWord(index) => format!("word {} is not in the list", index + 1),
        bip39::Error::InvalidChecksum => {
            "each is in the list, but one is wrong or in the wrong place".to_owned()
        }
        _ => "they are no kit's".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_down() {
        let kit = RecoveryKit::generate();
        let words = kit.words().unwrap();
        assert_eq!(words.split(' ').count(), RecoveryKit::WORDS);
        let on_paper = words.to_uppercase().replace(' ', "\n  ");
        let again = RecoveryKit::from_words(&on_paper).unwrap();
        assert_eq!(again.secret().expose(), kit.secret().expose());
        assert!(!format!("{kit:?}").contains(words.split(' ').next().unwrap()));
    }

    /// The vectors that BIP-39 refers to (trezor/python-mnemonic, vectors.json).
    #[test]
    fn the_words_are_those_of_bip_39() {
        let zeros = RecoveryKit(Secret::new([0; 32]));
        assert_eq!(*zeros.words().unwrap(), format!("{}art", "abandon ".repeat(23)));
        let text = "legal winner thank year wave sausage worth useful legal winner thank year \
                    wave sausage worth useful legal winner thank year wave sausage worth title";
        assert_eq!(RecoveryKit::from_words(text).unwrap().secret().expose(), &[0x7f; 32]);
    }

    #[test]
    fn wrong_words_are_told_apart_and_not_repeated() {
        let words = RecoveryKit::generate().words().unwrap();
        let first = words.split(' ').next().unwrap();
        let swapped = if first == "zoo" { "zone" } else { "zoo" };
        for (text, says) in [
            ("", "24"),
            ("abandon", "24"),
            (&*words.replacen(first, "larder", 1), "word 1 "),
            (&*format!("{}about", "abandon ".repeat(11)), "24"),
            (&*format!("{}abandon", "abandon ".repeat(23)), "wrong place"),
        ] {
            let error = RecoveryKit::from_words(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("larder ") && !error.contains(swapped), "{error}");
        }
    }
}
