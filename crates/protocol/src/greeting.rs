//! The first words on a connection: which versions, and which spaces both sides have.
//!
//! For each of its spaces a side sends a tag, HMAC-SHA-256 under the space's discovery secret over
//! keying material of this very connection and the side's name. A peer that has the space computes
//! the same tag; to any other the tag is noise, of no use on another connection or sent back.
//! Random tags pad their number to a power of two. The acceptor, which speaks first, adds to each a
//! mark of what it holds, by which the connector sees whether it holds the same.

use std::collections::BTreeMap;

use larder_crypto::{Secret, hash::hmac_sha256};
pub use larder_types::limits::GREETING_BYTES_MAX;
use larder_types::limits::SPACES_PER_CONNECTION_MAX;
use larder_types::{Entropy, Hash, SpaceId, canonical};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::error::GreetingError;

/// The label of the keying material (TLS exporter) that [`Greeting::new`] and [`agree`] take.
pub const GREETING_EXPORTER: &str = "EXPORTER-larder-greeting-v0";

/// The versions of the protocol that this crate speaks, best first.
pub const VERSIONS: &[u16] = &[0];

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that connected; it also opens the streams.
    Connector,
    /// The one that accepted.
    Acceptor,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Connector => Self::Acceptor,
            Self::Acceptor => Self::Connector,
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::Connector => b"connector",
            Self::Acceptor => b"acceptor",
        }
    }
}

/// Names a space on one connection, to those who have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; TAG_BYTES]);

/// Bytes of a [`Tag`].
pub const TAG_BYTES: usize = 16;

/// A space as a side offers it.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The space.
    pub space: SpaceId,
    /// Its discovery secret.
    pub discovery: Secret<32>,
    /// What is held of it ([`crate::held_digest`]).
    pub held: Hash,
}

impl Tag {
    /// The tag that `side` sends for the space with this discovery secret.
    pub fn new(discovery: &Secret<32>, exporter: &[u8; 32], side: Side) -> Self {
        Self(shortened(hmac_sha256(discovery.expose(), &[TAG_LABEL, exporter, side.label()])))
    }

    /// The tag's bytes: the first frame of a space's stream is these, of the connector's tag.
    pub const fn as_bytes(&self) -> &[u8; TAG_BYTES] {
        &self.0
    }

    /// Reads the first frame of a stream. `None`: not a tag.
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        frame.try_into().ok().map(Self)
    }
}

impl<C> Encode<C> for Tag {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Tag {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes: ByteArray<TAG_BYTES> = Decode::decode(d, ctx)?;
        Ok(Self(*bytes))
    }
}

type Mark = ByteArray<MARK_BYTES>;

fn mark_of(offered: &Offered, exporter: &[u8; 32]) -> Mark {
    let parts = [MARK_LABEL, exporter, offered.held.as_bytes()];
    shortened(hmac_sha256(offered.discovery.expose(), &parts)).into()
}

/// The first bytes of a MAC (RFC 2104 §5).
fn shortened<const N: usize>(mac: [u8; 32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(mac) {
        *to = from;
    }
    bytes
}

/// The one frame that each side sends on a connection's first stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Greeting {
    #[n(0)]
    versions: Vec<u16>,
    #[n(1)]
    tags: Vec<Tag>,
    /// One for each tag, or none at all.
    #[n(2)]
    marks: Vec<Mark>,
}

impl Greeting {
    /// What `side` says, having these spaces: each with its discovery secret.
    ///
    /// # Errors
    /// [`GreetingError::TooManySpaces`] beyond [`SPACES_PER_CONNECTION_MAX`].
    pub fn new(
        entropy: &mut dyn Entropy,
        exporter: &[u8; 32],
        side: Side,
        spaces: &[Offered],
    ) -> Result<Self, GreetingError> {
        if spaces.len() > SPACES_PER_CONNECTION_MAX {
            return Err(GreetingError::TooManySpaces { count: spaces.len() });
        }
        let mut said: Vec<(Tag, Mark)> = spaces
            .iter()
            .map(|offered| {
                (Tag::new(&offered.discovery, exporter, side), mark_of(offered, exporter))
            })
            .collect();
        said.resize_with(padded(spaces.len()), || {
            let (mut tag, mut mark) = ([0; TAG_BYTES], [0; MARK_BYTES]);
            entropy.fill(&mut tag);
            entropy.fill(&mut mark);
            (Tag(tag), mark.into())
        });
        // In order of their bytes, so that their order says nothing.
        said.sort_unstable();
        let (tags, mut marks): (_, Vec<_>) = said.into_iter().unzip();
        if side == Side::Connector {
            marks.clear();
        }
        Ok(Self { versions: VERSIONS.to_vec(), tags, marks })
    }

    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the peer's frame.
    ///
    /// # Errors
    /// [`GreetingError::Malformed`], also for more versions or tags than there may be.
    pub fn decode(frame: &[u8]) -> Result<Self, GreetingError> {
        let greeting: Self = canonical::decode(frame, GREETING_BYTES_MAX)?;
        if greeting.versions.len() > VERSIONS_MAX || greeting.tags.len() > SPACES_PER_CONNECTION_MAX
        {
            return Err(GreetingError::TooMuch);
        }
        if !greeting.marks.is_empty() && greeting.marks.len() != greeting.tags.len() {
            return Err(GreetingError::TooMuch);
        }
        Ok(greeting)
    }

    /// Whether its sender seems to hold of a space what is held here. Beyond that it says nothing.
    fn holds_same(&self, tag: &Tag, mark: Mark) -> bool {
        self.tags.iter().zip(&self.marks).any(|said| said == (tag, &mark))
    }
}

/// What both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The version that both speak from here on.
    pub version: u16,
    /// The spaces in common, in the order in which the connector opens their streams, each with
    /// the tag that its stream's first frame holds.
    pub spaces: Vec<(SpaceId, Tag)>,
    /// Those of which the peer seems to hold the same, as the acceptor has said.
    pub same: Vec<SpaceId>,
}

/// What `side`, having `spaces`, shares with the peer that sent `theirs`. Both sides come to the
/// same result.
///
/// # Errors
/// [`GreetingError::NoCommonVersion`].
pub fn agree(
    theirs: &Greeting,
    exporter: &[u8; 32],
    side: Side,
    spaces: &[Offered],
) -> Result<Agreement, GreetingError> {
    let common = VERSIONS.iter().filter(|version| theirs.versions.contains(version));
    let version = *common.max().ok_or_else(|| GreetingError::NoCommonVersion {
        ours: VERSIONS.to_vec(),
        theirs: theirs.versions.clone(),
    })?;
    let mut same = Vec::new();
    // By the connector's tag, which both sides can compute.
    let mut shared = BTreeMap::new();
    for offered in spaces {
        let tag = Tag::new(&offered.discovery, exporter, side.other());
        if !theirs.tags.contains(&tag) {
            continue;
        }
        if theirs.holds_same(&tag, mark_of(offered, exporter)) {
            same.push(offered.space);
        }
        shared.insert(Tag::new(&offered.discovery, exporter, Side::Connector), offered.space);
    }
    let spaces = shared.into_iter().map(|(tag, space)| (space, tag)).collect();
    Ok(Agreement { version, spaces, same })
}

fn padded(count: usize) -> usize {
    count.next_power_of_two().clamp(TAGS_MIN, SPACES_PER_CONNECTION_MAX)
}

const TAG_LABEL: &[u8] = b"larder/space-tag/v0";
const MARK_LABEL: &[u8] = b"larder/space-mark/v0";
const MARK_BYTES: usize = 8;
const TAGS_MIN: usize = 4;
const VERSIONS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_common::Seeded;

    fn offered(n: u8, held: u8) -> Offered {
        let (space, discovery) = (SpaceId::new([n; 32]), Secret::new([n; 32]));
        Offered { space, discovery, held: Hash::new([held; 32]) }
    }

    fn spaces(numbers: &[u8]) -> Vec<Offered> {
        numbers.iter().map(|n| offered(*n, *n)).collect()
    }

    fn greet(exporter: [u8; 32], side: Side, numbers: &[u8]) -> Greeting {
        let greeting = Greeting::new(&mut Seeded::new(9), &exporter, side, &spaces(numbers));
        let frame = greeting.unwrap().encode();
        assert!(frame.len() <= GREETING_BYTES_MAX);
        Greeting::decode(&frame).unwrap()
    }

    #[test]
    fn both_sides_find_the_same_spaces_in_the_same_order() {
        let exporter = [7; 32];
        let all: Vec<u8> = (0..64).collect();
        for (ours, theirs, common) in [
            (&all[..], &all[..], 64),
            (&[1, 2, 3][..], &[3, 4, 2][..], 2),
            (&[1][..], &[2][..], 0),
            (&[][..], &[1][..], 0),
        ] {
            let connector = greet(exporter, Side::Connector, ours);
            let acceptor = greet(exporter, Side::Acceptor, theirs);
            let first = agree(&acceptor, &exporter, Side::Connector, &spaces(ours)).unwrap();
            let second = agree(&connector, &exporter, Side::Acceptor, &spaces(theirs)).unwrap();
            assert_eq!((&first.spaces, first.version), (&second.spaces, second.version));
            assert_eq!(first.spaces.len(), common);
            assert_eq!(first.same.len(), common, "the acceptor said what it holds");
            assert!(second.same.is_empty(), "the connector does not");
        }
    }

    #[test]
    fn tags_are_of_no_use_on_another_connection_or_sent_back() {
        let said = greet([7; 32], Side::Connector, &[1]);
        let none = |agreement: Agreement| agreement.spaces.is_empty();
        assert!(none(agree(&said, &[8; 32], Side::Acceptor, &spaces(&[1])).unwrap()));
        assert!(none(agree(&said, &[7; 32], Side::Connector, &spaces(&[1])).unwrap()));
    }

    #[test]
    fn a_mark_tells_who_has_the_space_whether_the_same_is_held_and_nobody_else() {
        let exporter = [7; 32];
        let says = |held| {
            let spaces = [offered(1, held), offered(2, 0)];
            Greeting::new(&mut Seeded::new(9), &exporter, Side::Acceptor, &spaces).unwrap()
        };
        let same = |greeting: &Greeting, held| {
            agree(greeting, &exporter, Side::Connector, &[offered(1, held)]).unwrap().same
        };
        assert_eq!(same(&says(5), 5), [SpaceId::new([1; 32])]);
        assert_eq!(same(&says(5), 6), []);
        // Of another space the same says nothing, and each tag has one.
        let greeting = says(5);
        assert_eq!(greeting.marks.len(), greeting.tags.len());
        assert_eq!(
            agree(&greeting, &exporter, Side::Connector, &[offered(3, 5)]).unwrap().same,
            []
        );
        let other = agree(&greeting, &[8; 32], Side::Connector, &[offered(1, 5)]).unwrap();
        assert_eq!(other.same, [], "on another connection it is another");
    }

    #[test]
    fn the_number_of_tags_says_little_about_the_number_of_spaces() {
        for (count, tags) in [(0, 4), (1, 4), (4, 4), (5, 8), (33, 64), (64, 64)] {
            let numbers: Vec<u8> = (0..count).collect();
            assert_eq!(greet([7; 32], Side::Connector, &numbers).tags.len(), tags);
        }
        let numbers: Vec<u8> = (0..65).collect();
        let result =
            Greeting::new(&mut Seeded::new(9), &[0; 32], Side::Connector, &spaces(&numbers));
        assert!(matches!(result, Err(GreetingError::TooManySpaces { count: 65 })));
    }

    #[test]
    fn versions_are_negotiated_and_a_newer_peer_is_named() {
        let mut said = greet([7; 32], Side::Connector, &[1]);
        said.versions = vec![9, 0];
        assert_eq!(agree(&said, &[7; 32], Side::Acceptor, &[]).unwrap().version, 0);
        said.versions = vec![9, 8];
        let error = agree(&said, &[7; 32], Side::Acceptor, &[]).unwrap_err();
        assert!(error.to_string().contains("update"), "{error}");
    }

    #[test]
    fn too_much_is_refused() {
        let mut said = greet([7; 32], Side::Connector, &[1]);
        said.versions = vec![0; 17];
        assert!(matches!(Greeting::decode(&said.encode()), Err(GreetingError::TooMuch)));
        said.versions = vec![0];
        said.tags = vec![Tag([0; TAG_BYTES]); 65];
        assert!(matches!(Greeting::decode(&said.encode()), Err(GreetingError::TooMuch)));
        said.tags = vec![Tag([0; TAG_BYTES]); 300];
        assert!(matches!(Greeting::decode(&said.encode()), Err(GreetingError::Malformed(_))));
        assert!(matches!(Greeting::decode(b"hello"), Err(GreetingError::Malformed(_))));
        said.tags = vec![Tag([0; TAG_BYTES]); 4];
        said.marks = vec![Mark::from([0; MARK_BYTES]); 3];
        assert!(matches!(Greeting::decode(&said.encode()), Err(GreetingError::TooMuch)));
        assert_eq!(Tag::from_frame(&[1; TAG_BYTES - 1]), None);
    }
}
