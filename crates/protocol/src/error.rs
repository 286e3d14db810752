use larder_crypto::BadKey;
use larder_types::canonical::DecodeError;
use larder_types::limits::SPACES_PER_CONNECTION_MAX;

use crate::pairing::Refusal;

/// Why a connection's greeting came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    // The peer.
    /// Not a greeting.
    #[error("the other device's greeting is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// More versions or tags than a greeting may have.
    #[error("the other device's greeting names too much")]
    TooMuch,
    /// The peer is older or newer than this device can talk to.
    #[error(
        "the other device speaks version {theirs:?} of the protocol and this one {ours:?}; \
         update the older one"
    )]
    NoCommonVersion {
        /// What this device speaks.
        ours: Vec<u16>,
        /// What the peer says it speaks.
        theirs: Vec<u16>,
    },

    // Misuse.
    /// More spaces than one connection may offer.
    #[error("{count} spaces where one connection offers at most {SPACES_PER_CONNECTION_MAX}")]
    TooManySpaces {
        /// How many were given.
        count: usize,
    },
}

/// Why a text is no invitation that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// The text does not begin as an invitation does.
    #[error("this is not an invitation: one begins with larder1-")]
    NotAnInvitation,
    /// Made by a program that writes them differently.
    #[error(
        "this invitation is of version {version}, and this program reads version 1; \
         use the same version of larder on both devices"
    )]
    OtherVersion {
        /// The version it names.
        version: u64,
    },
    /// Characters are missing, added or changed.
    #[error("this invitation was mangled on its way; copy all of it again")]
    Mangled,
}

/// Why pairing came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    // The peer.
    /// Not a message of this protocol.
    #[error("the other device's message is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The message breaks a limit of this protocol.
    #[error("the other device's message is out of bounds: {0}")]
    OutOfBounds(&'static str),
    /// The message does not prove that its sender has the invitation, on this very connection.
    #[error("the other device does not have this invitation; ask for a new one")]
    WrongProof,
    /// What the joiner revealed is not what it was committed to.
    #[error(
        "the other device revealed something else than it was committed to: somebody may stand \
         between the two devices; ask for a new invitation"
    )]
    WrongReveal,
    /// The keys are not all usable, or not those of this connection.
    #[error("the other device's keys cannot be used: {0}")]
    BadKeys(&'static str),
    /// The inviter says no.
    #[error("the invitation was refused: {refusal}{}", aside(.message))]
    Refused {
        /// The named reason.
        refusal: Refusal,
        /// What the inviter adds to it; to be shown, never acted on.
        message: String,
    },

    // Internal.
    /// The welcome was sealed to another key, or altered.
    #[error("the welcome does not open; ask for a new invitation")]
    DoesNotOpen,
}

impl From<BadKey> for PairingError {
    fn from(_: BadKey) -> Self {
        Self::BadKeys("a key of small order")
    }
}

fn aside(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}
