//! Snapshots: what the entries up to a frontier come to, so that their bodies are not needed.
//!
//! All honest devices compute the same one from the entries alone, and each says so in its own log
//! by the same act. A snapshot is accepted when all devices that were enrolled within its frontier
//! have said it; then whoever has the roots of its trees can be given the bytes by anybody.

use std::collections::{BTreeMap, BTreeSet};

use larder_crypto::hash::sha256;
use larder_crypto::kdf::hkdf_sha256;
use larder_types::limits::{
    LOGS_MAX, PROOF_HASHES_MAX, SNAPSHOT_LEAF_BYTES_MAX, SNAPSHOT_PART_BYTES_MAX,
    SNAPSHOT_PART_LEAVES_MAX, SNAPSHOT_PART_PIECES_MAX,
};
use larder_types::{Clock, CollectionName, DeviceId, EntryHash, Hash, ObjectId, canonical};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::error::{SectionError, VoidReason};
use crate::header::VERSION;
use crate::roster::Roster;
use crate::section::{self, Band};
use crate::{labels, merkle};

/// Where a snapshot ends in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LogEnd {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// How many of its entries count.
    #[n(1)]
    pub size: u64,
    /// The root of the tree over them.
    #[n(2)]
    pub root: Hash,
}

/// What the documents up to a band come to. There is one tree over the leaves of all bands, lowest
/// first: that of a band is the beginning of that of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BandTree {
    /// The band.
    #[n(0)]
    pub band: Band,
    /// How many leaves there are of it and of the bands below it.
    #[n(1)]
    pub leaves: u64,
    /// The root of the tree over them (RFC 6962), in the order of [`Leaf::key`].
    #[n(2)]
    pub root: Hash,
}

/// The act by which a device states what the entries up to a frontier come to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct SnapshotAct {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// Every log with entries that count; by device, each once.
    #[n(1)]
    pub frontier: Vec<LogEnd>,
    /// GREEN and the bands above it, up to the one that its author is cleared for.
    #[n(2)]
    pub bands: Vec<BandTree>,
}

impl SnapshotAct {
    /// The snapshot's name: two devices that state the same one give it the same, up to whatever
    /// band each of them states it.
    pub fn id(&self) -> Hash {
        sha256(&[labels::SNAPSHOT, &canonical::encode(&self.up_to(Band::Green))])
    }

    /// What it states of a band and those below it.
    #[must_use]
    pub fn up_to(&self, band: Band) -> Self {
        let bands = self.bands.iter().filter(|tree| tree.band <= band).copied().collect();
        Self { v: self.v, frontier: self.frontier.clone(), bands }
    }

    /// Whether both state the same, of the bands that both state something of.
    pub fn agrees(&self, other: &Self) -> bool {
        let bands = self.bands.iter().zip(&other.bands);
        self.v == other.v
            && self.frontier == other.frontier
            && bands.into_iter().all(|(one, other)| one == other)
    }

    /// The tree over all leaves that it states something of.
    pub fn whole(&self) -> Option<&BandTree> {
        self.bands.last()
    }

    /// Whether it ends nowhere behind these ends.
    pub fn is_within(&self, ends: &BTreeMap<DeviceId, u64>) -> bool {
        let is_within = |end: &LogEnd| ends.get(&end.device).is_some_and(|size| *size >= end.size);
        self.frontier.iter().all(is_within)
    }

    /// How many entries of `device`'s log count.
    pub fn size_of(&self, device: &DeviceId) -> u64 {
        let at = self.frontier.binary_search_by(|end| end.device.cmp(device));
        at.ok().and_then(|at| self.frontier.get(at)).map_or(0, |end| end.size)
    }

    /// Whether every entry that counts in `other` counts here.
    pub fn includes(&self, other: &Self) -> bool {
        other.frontier.iter().all(|end| end.size <= self.size_of(&end.device))
    }

    /// The tree of a band.
    pub fn tree(&self, band: Band) -> Option<&BandTree> {
        self.bands.iter().find(|tree| tree.band == band)
    }

    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        if self.v != VERSION {
            let message = format!("version {}, this program reads version {VERSION}", self.v);
            return Err(VoidReason::Malformed(message));
        }
        if self.frontier.len() > LOGS_MAX || self.frontier.iter().any(|end| end.size == 0) {
            return Err(VoidReason::Snapshot("too many logs, or one without entries"));
        }
        if !self.frontier.is_sorted_by(|a, b| a.device < b.device) {
            return Err(VoidReason::Snapshot("logs not in order of device, each once"));
        }
        let bands = self.bands.iter().map(|tree| tree.band);
        if self.bands.is_empty() || !bands.eq(Band::SHARED.into_iter().take(self.bands.len())) {
            return Err(VoidReason::Snapshot("bands not from GREEN on in order, each once"));
        }
        if !self.bands.is_sorted_by_key(|tree| tree.leaves) {
            return Err(VoidReason::Snapshot("a band with fewer leaves than the one below it"));
        }
        Ok(())
    }
}

impl Roster {
    /// The devices that have to state a snapshot for it to be accepted: all that may read and were
    /// enrolled within its frontier, or have entries there. Whoever came later writes nothing that
    /// is not behind it. A frontier that leaves enrolments out leaves out nobody by it whose
    /// entries it speaks of.
    pub fn asked_for(&self, snapshot: &SnapshotAct) -> BTreeSet<DeviceId> {
        self.devices()
            .filter(|(id, device)| {
                let mut by = device.enrolled_by.iter();
                let within = by.any(|dep| dep.seq <= snapshot.size_of(&dep.device));
                let has_written = snapshot.size_of(id) > 0;
                device.role.may_read() && (within || has_written || device.enrolled_by.is_empty())
            })
            .map(|(id, _)| *id)
            .collect()
    }
}

/// Which entry did something, and when, as its author's clock claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Stamp {
    /// The author.
    #[n(0)]
    pub device: DeviceId,
    /// The entry.
    #[n(1)]
    pub seq: u64,
    /// The author's clock.
    #[n(2)]
    pub clock: Clock,
}

/// One element of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Leaf {
    /// A deleted object: of several deletions the first by (clock, device, seq, index).
    #[n(0)]
    Tombstone(#[n(0)] TombstoneLeaf),
    /// A document that was created and whose id was not deleted.
    #[n(1)]
    Document(#[n(0)] DocumentLeaf),
}

/// A deleted object.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct TombstoneLeaf {
    /// What was deleted.
    #[n(0)]
    pub object: ObjectId,
    /// Where it had been.
    #[n(1)]
    pub collection: Option<CollectionName>,
    /// By whom and when.
    #[n(2)]
    pub deleted: Stamp,
    /// The section in the entry.
    #[n(3)]
    pub index: u32,
    /// The band in which it was deleted.
    #[n(4)]
    pub band: Band,
}

/// A document as it is at the frontier.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DocumentLeaf {
    /// The id it was created under. Where it lives follows from all creations and deletions.
    #[n(0)]
    pub object: ObjectId,
    /// The entry that created it.
    #[n(1)]
    pub generation: EntryHash,
    /// Its collection.
    #[n(2)]
    pub collection: CollectionName,
    /// Its creation.
    #[n(3)]
    pub created: Stamp,
    /// Of its creation and its changes the last by (clock, device, seq).
    #[n(4)]
    pub updated: Stamp,
    /// [`value_digest`] of the value it was created with.
    #[n(5)]
    pub value: Hash,
    /// The hashes of the changes that no other builds on, in order. They commit to the whole
    /// history, each by what it names as its past.
    #[n(6)]
    pub heads: Vec<Hash>,
    /// Its band.
    #[n(7)]
    pub band: Band,
    /// [`leaf_salt`] of the section that created it. Without it who is not cleared for the document
    /// could guess from the tree's root what is in it.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub salt: [u8; 16],
    /// What it stands for, if it is what is left of redacted ones, as its creation says; none where
    /// a leaf has no room for that.
    #[n(9)]
    pub redacted: Option<ByteVec>,
}

/// The salt of a document's leaf, from the `meta_salt` of the section that created it.
pub fn leaf_salt(meta_salt: &[u8; 16]) -> [u8; 16] {
    let salt = hkdf_sha256(meta_salt, &[], labels::SNAPSHOT_SALT);
    salt.expose().first_chunk().copied().unwrap_or_default()
}

/// What leaves are sorted by, each once: the band, the object, then the generation, zeros for a
/// tombstone.
pub type LeafKey = (Band, ObjectId, EntryHash);

/// The digest of the value that a document was created with: of its canonical JSON.
pub fn value_digest(json: &[u8]) -> Hash {
    sha256(&[labels::SNAPSHOT_VALUE, json])
}

impl Leaf {
    /// Its place in the order.
    pub const fn key(&self) -> LeafKey {
        match self {
            Self::Tombstone(leaf) => (leaf.band, leaf.object, EntryHash::new([0; 32])),
            Self::Document(leaf) => (leaf.band, leaf.object, leaf.generation),
        }
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// As [`canonical::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, canonical::DecodeError> {
        canonical::decode(bytes, SNAPSHOT_LEAF_BYTES_MAX)
    }
}

/// The hash of an encoded leaf in the band's tree.
pub fn leaf_hash(encoded: &[u8]) -> Hash {
    merkle::leaf_hash(encoded)
}

/// What a leaf stands for, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// Nothing beside a tombstone's leaf; of a document, that its sender has it no more.
    #[n(0)]
    Gone,
    /// A document, or as much of it as there is room for. Its pieces are the canonical JSON of its
    /// first value and then its changes, one each: of those that the leaf's heads or a piece before
    /// name, the one with the lowest hash comes next.
    #[n(1)]
    Document {
        /// How many pieces come before these.
        #[n(0)]
        at: u64,
        /// Pieces that follow each other.
        #[n(1)]
        pieces: Vec<minicbor::bytes::ByteVec>,
    },
}

/// A leaf as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Item {
    /// The leaf's exact bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub leaf: Vec<u8>,
    /// What it stands for.
    #[n(1)]
    pub content: Content,
}

/// A part of a snapshot as it travels: leaves that follow each other, with proof that they belong
/// there; or such as were named one by one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Part {
    /// Which snapshot.
    #[n(0)]
    pub snapshot: Hash,
    /// The leaves, in order.
    #[n(1)]
    pub items: Vec<Item>,
    /// That the tree over all leaves up to the last of these is the beginning of that of its band
    /// (RFC 9162 §2.1.4).
    #[n(2)]
    pub proof: Vec<Hash>,
}

impl Part {
    /// One zstd frame around the canonical encoding.
    ///
    /// # Errors
    /// [`SectionError::Malformed`] if compression fails.
    pub fn pack(&self) -> Result<Vec<u8>, SectionError> {
        section::compress(&canonical::encode(self)).map_err(malformed)
    }

    /// Undoes [`Self::pack`], within [`SNAPSHOT_PART_BYTES_MAX`].
    ///
    /// # Errors
    /// [`SectionError::Malformed`].
    pub fn unpack(packed: &[u8]) -> Result<Self, SectionError> {
        let plain = section::decompress(packed, SNAPSHOT_PART_BYTES_MAX).map_err(malformed)?;
        if !counts(&plain).map_err(malformed)? {
            return Err(malformed("more in it than there may be"));
        }
        canonical::decode(&plain, SNAPSHOT_PART_BYTES_MAX).map_err(malformed)
    }
}

/// Whether a part has no more items and pieces than it may have. Looked at first because an empty
/// one takes much more room in memory.
fn counts(plain: &[u8]) -> Result<bool, minicbor::decode::Error> {
    let within = |count: Option<u64>, max: usize| {
        count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= max)
    };
    let mut decoder = minicbor::Decoder::new(plain);
    decoder.array()?;
    decoder.bytes()?;
    let Some(items) = within(decoder.array()?, SNAPSHOT_PART_LEAVES_MAX) else { return Ok(false) };
    let mut left = SNAPSHOT_PART_PIECES_MAX;
    for _ in 0..items {
        decoder.array()?;
        decoder.bytes()?;
        decoder.array()?;
        if decoder.u8()? == 0 {
            decoder.skip()?;
            continue;
        }
        decoder.array()?;
        decoder.u64()?;
        let Some(pieces) = within(decoder.array()?, left) else { return Ok(false) };
        left -= pieces;
        for _ in 0..pieces {
            decoder.bytes()?;
        }
    }
    Ok(within(decoder.array()?, PROOF_HASHES_MAX).is_some())
}

fn malformed(e: impl std::fmt::Display) -> SectionError {
    SectionError::Malformed(format!("a part of a snapshot: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_types::Timestamp;

    fn device(n: u8) -> DeviceId {
        DeviceId::new([n; 32])
    }

    fn act(sizes: &[(u8, u64)]) -> SnapshotAct {
        let end = |(n, size): &(u8, u64)| LogEnd {
            device: device(*n),
            size: *size,
            root: Hash::new([*n; 32]),
        };
        let tree = BandTree { band: Band::Green, leaves: 0, root: merkle::empty_root() };
        SnapshotAct { v: VERSION, frontier: sizes.iter().map(end).collect(), bands: vec![tree] }
    }

    #[test]
    fn a_snapshot_has_one_form_and_includes_what_ends_before_it() {
        let one = act(&[(1, 5), (2, 7)]);
        one.check().unwrap();
        assert_eq!((one.size_of(&device(2)), one.size_of(&device(3))), (7, 0));
        assert!(one.includes(&act(&[(1, 5)])) && !act(&[(1, 5)]).includes(&one));
        assert_ne!(one.id(), act(&[(1, 5), (2, 8)]).id());
        for bad in [act(&[(2, 7), (1, 5)]), act(&[(1, 5), (1, 6)]), act(&[(1, 0)])] {
            assert!(matches!(bad.check(), Err(VoidReason::Snapshot(_))));
        }
        let tree = one.bands[0];
        let amber = BandTree { band: Band::Amber, leaves: 3, root: merkle::empty_root() };
        let more = SnapshotAct { bands: vec![tree, amber], ..one.clone() };
        more.check().unwrap();
        assert!(more.id() == one.id() && more.agrees(&one) && one.agrees(&more) && more != one);
        assert_eq!((more.up_to(Band::Green), more.whole()), (one.clone(), Some(&amber)));
        let other = BandTree { leaves: 4, ..amber };
        assert!(!more.agrees(&SnapshotAct { bands: vec![tree, other], ..one.clone() }));
        let fewer = [BandTree { leaves: 4, ..tree }, amber];
        for bands in [vec![], vec![amber], vec![tree, tree], fewer.to_vec()] {
            let bad = SnapshotAct { bands, ..act(&[]) };
            assert!(matches!(bad.check(), Err(VoidReason::Snapshot(_))));
        }
        assert!(SnapshotAct { v: 1, ..one }.check().is_err());
    }

    #[test]
    fn a_part_unpacks_to_itself_and_none_is_larger_than_it_may_be() {
        let item = |pieces: usize| Item {
            leaf: vec![1, 2],
            content: Content::Document { at: 7, pieces: vec![Vec::new().into(); pieces] },
        };
        let gone = Item { leaf: Vec::new(), content: Content::Gone };
        let part = |items: Vec<Item>| Part {
            snapshot: Hash::new([1; 32]),
            items,
            proof: vec![Hash::new([2; 32])],
        };
        let good = part(vec![item(2), gone.clone(), item(0)]);
        assert_eq!(Part::unpack(&good.pack().unwrap()).unwrap(), good);
        let refused = |part: &Part| Part::unpack(&part.pack().unwrap()).is_err();
        assert!(refused(&part(vec![gone; SNAPSHOT_PART_LEAVES_MAX + 1])));
        let half = SNAPSHOT_PART_PIECES_MAX / 2;
        assert!(refused(&part(vec![item(half), item(half), item(1)])));
        let bomb = section::compress(&vec![0; SNAPSHOT_PART_BYTES_MAX + 1]).unwrap();
        assert!(bomb.len() < 1 << 16 && Part::unpack(&bomb).is_err());
        assert!(Part::unpack(&[]).is_err());
    }

    #[test]
    fn leaves_decode_to_themselves_and_sort_a_tombstone_first() {
        let deleted =
            Stamp { device: device(1), seq: 3, clock: Clock { wall: Timestamp(5), count: 6 } };
        let (object, band) = (ObjectId::new([9; 16]), Band::Amber);
        let tombstone =
            Leaf::Tombstone(TombstoneLeaf { object, collection: None, deleted, index: 2, band });
        let document = Leaf::Document(DocumentLeaf {
            object,
            generation: EntryHash::new([1; 32]),
            collection: "notes".parse().unwrap(),
            created: deleted,
            updated: deleted,
            value: value_digest(b"{}"),
            heads: vec![Hash::new([4; 32])],
            band,
            salt: leaf_salt(&[5; 16]),
            redacted: None,
        });
        let Leaf::Document(mut left) = document.clone() else { panic!() };
        left.redacted = Some(vec![7; 40].into());
        assert!(tombstone.key() < document.key());
        for leaf in [tombstone, document, Leaf::Document(left)] {
            assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
        }
    }
}
