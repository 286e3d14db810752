//! A proof that a log has two histories, which stands alone: whoever has the log's public key,
//! which is its name, can check it.

use larder_types::limits::{FORK_ACTS_BYTES_MAX, FORK_PROOF_BYTES_MAX, PROOF_HASHES_MAX};
use larder_types::{DeviceId, EntryHash, Hash, SpaceId, canonical};
use minicbor::{Decode, Encode};

use crate::checkpoint::Checkpoint;
use crate::header::{Header, entry_hash};
use crate::merkle::{Nodes, consistency_proof, root_at, verify_consistency};
use crate::receipt::{ObjectProof, Receipt};
use crate::section::SectionCommitment;

/// Two checkpoints of one log, both signed by its device, of which the smaller is not the beginning
/// of the larger.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ForkProof {
    /// A signed note of the smaller tree, or of one as large.
    #[n(0)]
    smaller: String,
    /// A signed note of the larger.
    #[n(1)]
    larger: String,
    /// The root that the larger tree had when it was as small.
    #[n(2)]
    root: Hash,
    /// That it had it (RFC 9162 §2.1.4.1).
    #[n(3)]
    proof: Vec<Hash>,
}

impl ForkProof {
    /// The proof from another's signed checkpoint, and the log as it is here with its last one.
    /// `None`: that checkpoint is of the beginning of this log, or of more than there is here.
    ///
    /// # Errors
    /// Those of `nodes`.
    pub fn new<N: Nodes + ?Sized>(
        theirs: (&Checkpoint, &[u8; 64]),
        ours: (&Checkpoint, &[u8; 64]),
        nodes: &N,
    ) -> Result<Option<Self>, N::Error> {
        let (size, ours_size) = (theirs.0.size, ours.0.size);
        if size == 0 || size > ours_size {
            return Ok(None);
        }
        let root = root_at(nodes, size)?;
        if root == theirs.0.root {
            return Ok(None);
        }
        Ok(Some(Self {
            smaller: theirs.0.to_note(theirs.1),
            larger: ours.0.to_note(ours.1),
            root,
            proof: consistency_proof(nodes, size, ours_size)?,
        }))
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// How large the smaller tree is: there at the latest the two histories differ. For bytes that
    /// were checked before; `None` for what is no proof.
    pub fn differs_at(bytes: &[u8]) -> Option<u64> {
        let Self { smaller, .. } = canonical::decode(bytes, FORK_PROOF_BYTES_MAX).ok()?;
        Some(Checkpoint::parse_note(&smaller).ok()?.0.size)
    }

    /// Whose log has two histories, if `bytes` prove that of one of this space.
    pub fn check(bytes: &[u8], space: &SpaceId) -> Option<DeviceId> {
        let Self { smaller, larger, root, proof } =
            canonical::decode(bytes, FORK_PROOF_BYTES_MAX).ok()?;
        let (smaller, signature) = Checkpoint::parse_note(&smaller).ok()?;
        smaller.verify(&signature).ok()?;
        let (larger, signature) = Checkpoint::parse_note(&larger).ok()?;
        larger.verify(&signature).ok()?;
        let is_of_one_log = (smaller.space, larger.space, smaller.device)
            == (*space, *space, larger.device)
            && proof.len() <= PROOF_HASHES_MAX
            && root != smaller.root;
        let is_proven =
            verify_consistency(smaller.size, &root, larger.size, &larger.root, &proof).is_ok();
        (is_of_one_log && is_proven).then_some(smaller.device)
    }
}

/// An act in a log with two histories, shown to be its device's: a receipt and the section's bytes.
/// Devices hand it to those that hold the other history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ProvenAct {
    #[cbor(n(0), with = "minicbor::bytes")]
    header: Vec<u8>,
    #[n(1)]
    proof: Vec<Hash>,
    /// A signed note of a tree that has the entry.
    #[n(2)]
    note: String,
    #[n(3)]
    index: u32,
    #[n(4)]
    commitment: SectionCommitment,
    #[n(5)]
    path: Vec<Hash>,
    #[cbor(n(6), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

/// What a [`ProvenAct`] shows. What the section says, and what it is worth, is not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSection<'a> {
    /// The entry's header.
    pub header: Header,
    /// The section's place in the entry.
    pub index: u32,
    /// Its public half.
    pub commitment: &'a SectionCommitment,
    /// Its bytes, which are those committed to.
    pub sealed: &'a [u8],
}

impl ProvenAct {
    /// From the receipt of the entry's section, and the section's sealed bytes. `None` if the
    /// receipt is of no section.
    pub fn new(receipt: Receipt, sealed: Vec<u8>) -> Option<Self> {
        let note = receipt.checkpoint.to_note(&receipt.signature);
        let Receipt { header, proof, object, .. } = receipt;
        let ObjectProof { index, commitment, path } = object?;
        Some(Self { header, proof, note, index, commitment, path, sealed })
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads what [`ProvenAct::encode`] wrote. Does not verify. `None` if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        canonical::decode(bytes, FORK_ACTS_BYTES_MAX).ok()
    }

    /// The entry and the section's place in it, as it says.
    pub fn place(&self) -> (EntryHash, u32) {
        (entry_hash(&self.header), self.index)
    }

    /// The entry's header, as it says; none if it is no header.
    pub fn header(&self) -> Option<Header> {
        Header::decode(&self.header).ok()
    }

    /// What it shows of a log of this space, if it does.
    pub fn check(&self, space: &SpaceId) -> Option<ShownSection<'_>> {
        let (checkpoint, signature) = Checkpoint::parse_note(&self.note).ok()?;
        let seq = self.header()?.seq;
        let Self { index, commitment, path, .. } = self;
        let object =
            ObjectProof { index: *index, commitment: commitment.clone(), path: path.clone() };
        let receipt = Receipt {
            header: self.header.clone(),
            index: seq.checked_sub(1)?,
            proof: self.proof.clone(),
            checkpoint,
            signature,
            object: Some(object),
        };
        let header = receipt.verify().ok()?;
        let is_shown = header.space_id() == *space && commitment.is_of(&self.sealed);
        let (index, sealed) = (*index, self.sealed.as_slice());
        is_shown.then_some(ShownSection { header, index, commitment, sealed })
    }
}

#[cfg(test)]
mod tests {
    use larder_crypto::{DeviceSigningKey, Secret};

    use super::*;
    use crate::merkle::{MemoryNodes, leaf_hash};

    const SPACE: SpaceId = SpaceId::new([1; 32]);

    fn log(leaves: &str) -> MemoryNodes {
        MemoryNodes::new(leaves.bytes().map(|leaf| leaf_hash(&[leaf])))
    }

    fn signed(key: &DeviceSigningKey, nodes: &MemoryNodes, size: u64) -> (Checkpoint, [u8; 64]) {
        let Ok(root) = root_at(nodes, size);
        let checkpoint = Checkpoint { space: SPACE, device: key.device_id(), size, root };
        (checkpoint, checkpoint.sign(key))
    }

    #[test]
    fn two_histories_are_proven_and_one_is_not() {
        let key = DeviceSigningKey::from_secret(&Secret::new([2; 32]));
        let (one, other) = (log("abcdefg"), log("abcXef"));
        for theirs in 1..=6 {
            for ours in 1..=7 {
                let (theirs, ours) = (signed(&key, &other, theirs), signed(&key, &one, ours));
                let Ok(made) = ForkProof::new((&theirs.0, &theirs.1), (&ours.0, &ours.1), &one);
                let differs = theirs.0.size > 3 && theirs.0.size <= ours.0.size;
                assert_eq!(made.is_some(), differs, "{} {}", theirs.0.size, ours.0.size);
                let Some(made) = made else { continue };
                let bytes = made.encode();
                assert_eq!(ForkProof::check(&bytes, &SPACE), Some(key.device_id()));
                assert_eq!(ForkProof::check(&bytes, &SpaceId::new([9; 32])), None);
                for at in 0..bytes.len() {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1;
                    assert_eq!(ForkProof::check(&changed, &SPACE), None, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn nobody_proves_a_fork_of_an_honest_log() {
        let key = DeviceSigningKey::from_secret(&Secret::new([2; 32]));
        let (one, other) = (log("abcdefg"), log("abcX"));
        let (small, large) = (signed(&key, &one, 4), signed(&key, &one, 7));
        let Ok(none) = ForkProof::new((&small.0, &small.1), (&large.0, &large.1), &one);
        assert_eq!(none, None);
        // Another root is claimed for the time when the log was small.
        let Ok(root) = root_at(&other, 4);
        let Ok(proof) = consistency_proof(&one, 4, 7);
        let (smaller, larger) = (small.0.to_note(&small.1), large.0.to_note(&large.1));
        let forged = ForkProof { smaller, larger, root, proof };
        assert_eq!(ForkProof::check(&forged.encode(), &SPACE), None);
    }
}
