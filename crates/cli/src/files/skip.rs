use std::fmt;

use serde::{Serialize, Serializer};

use crate::output::{bytes, printable};

/// A file, or one line of one, that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Skip {
    /// Relative to the imported folder.
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(flatten)]
    pub(crate) reason: Reason,
}

/// Why it was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Unreadable(String),
    Symlink,
    NotAFile,
    Name(String),
    TooLarge { bytes: u64, bytes_max: u64 },
    Binary { at: u64 },
    NotUtf8 { at: u64 },
    Malformed { line: u64, column: u64, message: String },
    TooDeep { levels_max: u64 },
    Lossy { number: String },
    Refused(String),
    Exists(String),
    NotHere,
}

impl Reason {
    /// Whether something that was asked for is missing from the result.
    pub(crate) fn is_loss(&self) -> bool {
        !matches!(self, Self::Symlink)
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Symlink => "symlink",
            Self::NotAFile => "not-a-file",
            Self::Name(_) => "name",
            Self::TooLarge { .. } => "too-large",
            Self::Binary { .. } => "binary",
            Self::NotUtf8 { .. } => "not-utf-8",
            Self::Malformed { .. } => "malformed",
            Self::TooDeep { .. } => "too-deep",
            Self::Lossy { .. } => "lossy-number",
            Self::Refused(_) => "refused",
            Self::Exists(_) => "exists",
            Self::NotHere => "not-here",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.path))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", printable(&self.reason.to_string()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read ({error})"),
            Self::Symlink => f.write_str("is a symbolic link, which are not followed"),
            Self::NotAFile => f.write_str("is no regular file"),
            Self::Name(why) => write!(f, "its name {why}"),
            Self::NotHere => f.write_str("is not on this device: `larder blob get` fetches it"),
            Self::TooLarge { bytes: size, bytes_max } => {
                write!(f, "has {}, more than the {} it may have", bytes(*size), bytes(*bytes_max))
            }
            Self::Binary { at } => write!(f, "is binary (a zero byte at offset {at})"),
            Self::NotUtf8 { at } => write!(f, "is not UTF-8 (at byte offset {at})"),
            Self::Malformed { line, column, message } => {
                write!(f, "malformed JSON at line {line}, column {column}: {message}")
            }
            Self::TooDeep { levels_max } => {
                write!(f, "nests deeper than {levels_max} levels")
            }
            Self::Lossy { number } => {
                write!(f, "the number {number} would lose digits: write it as a string")
            }
            Self::Refused(why) => f.write_str(why),
            Self::Exists(what) => write!(f, "{what}: kept as it is (--force overwrites)"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("reason", self.kind())?;
        map.serialize_entry("message", &self.to_string())?;
        map.end()
    }
}
