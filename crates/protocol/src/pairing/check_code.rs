use std::fmt;
use std::str::FromStr;

use larder_crypto::hash::sha256;
use larder_types::Hash;

use super::CODE_LABEL;

/// Six digits of all that two pairing devices said, which people compare: `042 517`.
///
/// Reading one forgives blanks and dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckCode(u32);

impl CheckCode {
    /// How many there are. Whoever stands between two devices has one chance in as many.
    pub const COUNT: u32 = 1_000_000;

    pub(super) fn of(transcript: &Hash) -> Self {
        let digest = sha256(&[CODE_LABEL, transcript.as_bytes()]);
        let number = digest
            .as_bytes()
            .iter()
            .fold(0_u64, |number, byte| (number << 8 | u64::from(*byte)) % u64::from(Self::COUNT));
        Self(u32::try_from(number).unwrap_or_default())
    }
}

impl fmt::Display for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Debug for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckCode({self})")
    }
}

/// The text is no six digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a check code is six digits, as 042 517")]
pub struct NotACheckCode;

impl FromStr for CheckCode {
    type Err = NotACheckCode;

    fn from_str(text: &str) -> Result<Self, NotACheckCode> {
        if text.len() > 64 {
            return Err(NotACheckCode);
        }
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotACheckCode);
        }
        digits.parse().map(Self).map_err(|_| NotACheckCode)
    }
}
