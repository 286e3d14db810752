use std::fmt;
use std::str::FromStr;

use minicbor::bytes::ByteArray;

use crate::{Entropy, FromHexError, hex, unhex};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id with these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads an id of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Whether every byte is zero.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|byte| *byte == 0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = FromHexError;

            fn from_str(text: &str) -> Result<Self, FromHexError> {
                unhex(text).map(Self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes: ByteArray<$len> = minicbor::Decode::decode(d, ctx)?;
                Ok(Self(*bytes))
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// A fresh random id.
            pub fn random(entropy: &mut dyn Entropy) -> Self {
                let mut bytes = [0; Self::LEN];
                entropy.fill(&mut bytes);
                Self(bytes)
            }
        }
    };
}

id!(/** A SHA-256 value. */ Hash, 32);
id!(
    /** A space: the leaf hash of its genesis entry's header. */
    SpaceId,
    32
);
id!(
    /** A device within one space: its Ed25519 signing key there (RFC 8032). */
    DeviceId,
    32
);
id!(
    /** A profile's Ed25519 transport key, as seen by its peers. */
    TransportId,
    32
);
id!(/** The leaf hash of an entry's header. */ EntryHash, 32);
id!(
    /** An epoch: the hash of the entry that opens it; zero stands for none. */
    EpochId,
    32
);
id!(/** A person or agent admitted to a space. */ MemberId, 16);
id!(
    /** A blob: the hash of its manifest, which names its content. */
    BlobId,
    32
);
id!(/** A document or event. */ ObjectId, 16);
id!(/** Chosen by the app to tie units of work together. */ CorrelationId, 16);
id!(/** Chosen by the app: a unit with a key seen before is not done again. */ IdempotencyKey, 16);

random_id!(MemberId);
random_id!(ObjectId);
random_id!(CorrelationId);
random_id!(IdempotencyKey);

impl From<Hash> for BlobId {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

impl From<EntryHash> for EpochId {
    fn from(hash: EntryHash) -> Self {
        Self(hash.0)
    }
}

impl From<EntryHash> for SpaceId {
    fn from(hash: EntryHash) -> Self {
        Self(hash.0)
    }
}

impl From<Hash> for EntryHash {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

impl From<EntryHash> for Hash {
    fn from(hash: EntryHash) -> Self {
        Self(hash.0)
    }
}
