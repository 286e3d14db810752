//! What in a text may be personal: ways to reach somebody, money, health, what opens something.
//!
//! [`Classifier`] is what an app brings, or takes from here: [`Patterns`] knows shapes with check
//! digits where they have some (IBAN, cards), and words of English, German and a little French,
//! Spanish and Italian. It is a help for people who write, not a guarantee: what it misses is
//! written down in `docs/VERIFICATION.md`, with the command that measures it.
//!
//! Invariants: no input makes it panic or take more than linear time (`regex` guarantees that); it
//! keeps nothing of what it reads.

#[cfg(feature = "patterns")]
mod checks;
#[cfg(feature = "patterns")]
mod patterns;

use std::fmt;
use std::ops::Range;

#[cfg(feature = "patterns")]
pub use patterns::Patterns;

/// What kind of personal data something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A way to reach somebody: address, telephone, e-mail.
    Contact,
    /// Accounts, cards, tax numbers, income and debts.
    Financial,
    /// Illness, treatment, medicine.
    Health,
    /// What opens something: passwords, PINs, keys.
    Credentials,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Contact, Self::Financial, Self::Health, Self::Credentials];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Financial => "financial",
            Self::Health => "health",
            Self::Credentials => "credentials",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something personal in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What kind.
    pub kind: Kind,
    /// Where, in bytes; on the borders of characters.
    pub at: Range<usize>,
}

/// Tells what in a text is personal. Called for each text of a document that is about to be
/// written, on the thread that writes: it should be quick.
pub trait Classifier: Send + Sync {
    /// What is personal in `text`, in any order; places may overlap. A place that is no part of the
    /// text, or cuts a character, is passed over.
    fn classify(&self, text: &str) -> Vec<Found>;
}
