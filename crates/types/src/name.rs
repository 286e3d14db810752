use std::fmt;
use std::str::FromStr;

use crate::limits::NAME_BYTES_MAX;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The kind before the colon is missing or unknown.
    #[error(
        "a space's name starts with its kind: \
         personal:NAME, selective:NAME, shared:NAME, extended:NAME or black:NAME"
    )]
    Kind,
    /// Empty, too long, or with a character that is not allowed.
    #[error(
        "a name is 1 to {NAME_BYTES_MAX} bytes of letters, digits, '-', '_' and '.', not '{0}'"
    )]
    Form(String),
}

/// The five kinds of space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpaceKind {
    /// One member's own devices.
    Personal,
    /// Some members of the household.
    Selective,
    /// The whole household.
    Shared,
    /// People and agents beyond the household.
    Extended,
    /// This device alone: nothing of it ever leaves.
    Black,
}

impl SpaceKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Personal, "personal"),
        (Self::Selective, "selective"),
        (Self::Shared, "shared"),
        (Self::Extended, "extended"),
        (Self::Black, "black"),
    ];
}

fn is_plain(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                d.str()?.parse().map_err(|e: NameError| {
                    minicbor::decode::Error::message(e.to_string()).at(d.position())
                })
            }
        }
    };
}

/// A space's name: its kind, a colon, and a plain name: `shared:household`. What is BLACK of that
/// one is in `black:shared:household`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceName(String);
name!(SpaceName);

impl SpaceName {
    /// The name of the space that has what is BLACK of this one: `black:` before it. `None` for one
    /// that is such itself, and where it would be too long.
    pub fn companion(&self) -> Option<Self> {
        format!("{BLACK}{self}").parse().ok()
    }

    /// The space of which this one has what is BLACK, if it is such.
    pub fn companion_of(&self) -> Option<Self> {
        self.0.strip_prefix(BLACK)?.parse().ok()
    }

    /// The kind before the colon.
    pub fn kind(&self) -> SpaceKind {
        SpaceKind::ALL
            .iter()
            .find(|(_, text)| self.0.split(':').next() == Some(text))
            .map_or(SpaceKind::Personal, |(kind, _)| *kind)
    }
}

const BLACK: &str = "black:";

impl FromStr for SpaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, rest) = text.split_once(':').ok_or(NameError::Kind)?;
        if !SpaceKind::ALL.iter().any(|(_, known)| *known == kind) {
            return Err(NameError::Kind);
        }
        let of = if kind == "black" { rest.split_once(':') } else { None };
        let is_companion = of.is_some_and(|(of, plain)| {
            let is_known = SpaceKind::ALL.iter().any(|(_, known)| *known == of && of != kind);
            is_known && is_plain(plain)
        });
        if text.len() > NAME_BYTES_MAX || !(is_plain(rest) || is_companion) {
            return Err(NameError::Form(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A collection's name: a plain name such as `notes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionName(String);
name!(CollectionName);

impl FromStr for CollectionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_plain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Form(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_not_repaired() {
        let name: SpaceName = "shared:household".parse().unwrap();
        assert_eq!(name.kind(), SpaceKind::Shared);
        for bad in ["household", "private:x", "shared:", "shared:a b", "shared:../x", "shared:a:b"]
        {
            assert!(bad.parse::<SpaceName>().is_err(), "{bad}");
        }
        let black = name.companion().unwrap();
        assert_eq!((black.as_str(), black.kind()), ("black:shared:household", SpaceKind::Black));
        assert_eq!((black.companion(), black.companion_of()), (None, Some(name)));
        let diary: SpaceName = "black:diary".parse().unwrap();
        assert_eq!((diary.kind(), diary.companion_of()), (SpaceKind::Black, None));
        for bad in ["black:", "black:black:x", "black:private:x", "black:shared:", "black:a:b:c"] {
            assert!(bad.parse::<SpaceName>().is_err(), "{bad}");
        }
        let long: SpaceName = format!("shared:{}", "x".repeat(NAME_BYTES_MAX - 7)).parse().unwrap();
        assert_eq!(long.companion(), None);
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<CollectionName>().is_err());
        assert!("receitas-da-avó".parse::<CollectionName>().is_ok());
    }
}
