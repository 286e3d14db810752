use std::fmt;
use std::str::FromStr;

use automerge::{ActorId, ChangeHash};
use larder_types::{DeviceId, EntryHash, FromHexError, ObjectId, hex, unhex};
use sha2::{Digest, Sha256};

const ACTOR_LABEL: &[u8] = b"larder/actor/v0";
const STRAND_MAGIC: [u8; 4] = [0x13, 0xb2, 0x23, 0x09];
const FLAT: &str = "flat";

/// A version of a document: the hashes of the changes that no later one builds on, sorted.
///
/// Without any it is the value that the document was created with. Shown as hex joined by commas,
/// or as `flat`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Heads(Vec<[u8; 32]>);

impl Heads {
    /// The version a document was created with.
    pub const FLAT: Self = Self(Vec::new());

    /// Whether this is the version a document was created with.
    pub fn is_flat(&self) -> bool {
        self.0.is_empty()
    }

    /// The version that the author of a change saw when it was made: the change and all it builds
    /// on. `None` if these are not the bytes of a change that may count.
    pub fn after(change: &[u8]) -> Option<Self> {
        crate::chunk::check(change).ok()?;
        // A chunk's hash is over all of it but magic and checksum.
        let hashed = change.get(8..)?;
        Some(Self(vec![Sha256::digest(hashed).into()]))
    }

    /// The version with all that each of the two has. It may name changes that others of it build
    /// on: see [`crate::Document::without_covered`].
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        Self::sorted(self.0)
    }

    /// The version with these heads.
    pub fn from_hashes(hashes: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self::sorted(hashes.into_iter().collect())
    }

    /// The hashes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.0.iter()
    }

    pub(crate) fn of(hashes: &[ChangeHash]) -> Self {
        Self::sorted(hashes.iter().map(|hash| hash.0).collect())
    }

    pub(crate) fn hashes(&self) -> Vec<ChangeHash> {
        self.0.iter().copied().map(ChangeHash).collect()
    }

    fn sorted(mut hashes: Vec<[u8; 32]>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes)
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_flat() {
            return f.write_str(FLAT);
        }
        for (i, hash) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(&hex(hash))?;
        }
        Ok(())
    }
}

impl FromStr for Heads {
    type Err = FromHexError;

    fn from_str(text: &str) -> Result<Self, FromHexError> {
        if text == FLAT {
            return Ok(Self::FLAT);
        }
        text.split(',').map(unhex).collect::<Result<_, _>>().map(Self::sorted)
    }
}

impl<C> minicbor::Encode<C> for Heads {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        for hash in &self.0 {
            e.bytes(hash)?;
        }
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Heads {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let hashes: Vec<minicbor::bytes::ByteArray<32>> = minicbor::Decode::decode(d, ctx)?;
        Ok(Self::sorted(hashes.into_iter().map(Into::into).collect()))
    }
}

/// Who wrote a change, as Automerge knows them: one device in one generation of one document.
///
/// Automerge gives an edit made to an old version, on a device that has gone on since, a strand
/// of its own: an actor of a four-byte mark, a counter and these bytes. Both belong to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor([u8; 16]);

impl Actor {
    /// Who wrote the derived root change: nobody.
    pub(crate) const ROOT: Self = Self([0; 16]);

    /// Who writes what is made again, whoever does it: each such change has an actor of its own,
    /// which follows from what it says.
    pub const NOBODY: Self = Self([0xff; 16]);

    /// SHA-256(label ‖ device ‖ object ‖ generation), its first 16 bytes.
    pub fn of(device: &DeviceId, object: &ObjectId, generation: &EntryHash) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(ACTOR_LABEL)
            .chain_update(device.as_bytes())
            .chain_update(object.as_bytes())
            .chain_update(generation.as_bytes())
            .finalize()
            .into();
        let mut actor = [0; 16];
        for (to, from) in actor.iter_mut().zip(digest) {
            *to = from;
        }
        Self(actor)
    }

    pub(crate) fn id(self) -> ActorId {
        ActorId::from(self.0)
    }

    pub(crate) fn owns(self, id: &ActorId) -> bool {
        let bytes = id.to_bytes();
        let Some(front) = bytes.strip_suffix(&self.0) else { return false };
        match front.strip_prefix(&STRAND_MAGIC) {
            None => front.is_empty(),
            Some(level) => is_strand_level(level),
        }
    }
}

/// A positive LEB128 number in its shortest form, of at most three bytes.
fn is_strand_level(bytes: &[u8]) -> bool {
    let Some((last, more)) = bytes.split_last() else { return false };
    more.len() <= 2 && *last != 0 && *last < 0x80 && more.iter().all(|byte| *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use larder_types::canonical;

    use super::*;

    #[test]
    fn heads_are_sorted_and_survive_text_and_bytes() {
        let heads = Heads::of(&[ChangeHash([2; 32]), ChangeHash([1; 32]), ChangeHash([2; 32])]);
        assert_eq!(heads.hashes(), [ChangeHash([1; 32]), ChangeHash([2; 32])]);
        for heads in [heads, Heads::FLAT] {
            assert_eq!(heads.to_string().parse::<Heads>().unwrap(), heads);
            let bytes = canonical::encode(&heads);
            assert_eq!(canonical::decode::<Heads>(&bytes, 1024).unwrap(), heads);
        }
        assert!("".parse::<Heads>().is_err());
        let unsorted = [[2u8; 32], [1; 32]].map(minicbor::bytes::ByteArray::from);
        let bytes = canonical::encode(&unsorted.to_vec());
        assert!(canonical::decode::<Heads>(&bytes, 1024).is_err());
    }

    #[test]
    fn an_actor_owns_its_strands_and_nobody_elses() {
        let device = DeviceId::new([1; 32]);
        let actor = Actor::of(&device, &ObjectId::new([2; 16]), &EntryHash::new([3; 32]));
        assert!(actor.owns(&actor.id()));
        let strand = |level: &[u8]| {
            ActorId::from([&STRAND_MAGIC[..], level, &actor.0[..]].concat().as_slice())
        };
        assert!(actor.owns(&strand(&[1])));
        assert!(actor.owns(&strand(&[0x80, 1])));
        for bad in [&[][..], &[0], &[0x80, 0], &[1, 1], &[0x80], &[0x80, 0x80, 0x80, 1]] {
            assert!(!actor.owns(&strand(bad)), "{bad:?}");
        }
        let other = Actor::of(&device, &ObjectId::new([9; 16]), &EntryHash::new([3; 32]));
        assert!(!actor.owns(&other.id()));
        assert!(!actor.owns(&ActorId::from([&[7][..], &actor.0[..]].concat().as_slice())));
    }
}
