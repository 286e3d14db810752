//! Merkle trees of RFC 6962 §2.1 (RFC 9162 §2.1) over SHA-256.
//!
//! A node is named by its level (0: a leaf) and its index within the level; only perfect subtrees
//! are nodes, and they never change once complete, so they can be stored. Everything else (the
//! root at any size, proofs) is computed from at most two nodes per level.

use std::convert::Infallible;

use larder_crypto::hash::sha256;
use larder_types::Hash;

/// The hash of a leaf: SHA-256(0x00 ‖ `data`).
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// The hash of an inner node: SHA-256(0x01 ‖ `left` ‖ `right`).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// A perfect subtree: the `1 << level` leaves from `index << level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The height above the leaves.
    pub level: u8,
    /// The position among the nodes of its level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

/// What a tree needs to grow: its size and the roots of its perfect subtrees, largest first.
/// At most 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The empty tree's.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }

    /// The perfect subtrees that the tree consists of, largest first.
    pub fn peaks(&self) -> impl Iterator<Item = Node> {
        let mut rest = self.size;
        let mut start = 0_u64;
        self.peaks.iter().map_while(move |hash| {
            let level = rest.checked_ilog2()?;
            let node =
                Node { level: u8::try_from(level).ok()?, index: start >> level, hash: *hash };
            rest -= 1 << level;
            start += 1 << level;
            Some(node)
        })
    }

    /// Adds a leaf and reports every perfect subtree that it completes, the leaf itself first.
    ///
    /// # Panics
    /// Never in practice: after 2⁶⁴ leaves.
    pub fn append(&mut self, leaf: Hash, completed: &mut dyn FnMut(Node)) {
        let mut node = Node { level: 0, index: self.size, hash: leaf };
        completed(node);
        // As in adding one to a binary number: equal subtrees merge and carry.
        while node.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            node = Node {
                level: node.level + 1,
                index: node.index >> 1,
                hash: node_hash(&left, &node.hash),
            };
            completed(node);
        }
        self.peaks.push(node.hash);
        self.size += 1;
    }
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> minicbor::Encode<C> for Frontier {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.u64(self.size)?;
        self.peaks.encode(e, ctx)
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Frontier {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("expected size and peaks"));
        }
        let size = d.u64()?;
        let peaks: Vec<Hash> = minicbor::Decode::decode(d, ctx)?;
        if u32::try_from(peaks.len()) == Ok(size.count_ones()) {
            Ok(Self { size, peaks })
        } else {
            Err(minicbor::decode::Error::message("as many peaks as one-bits in the size"))
        }
    }
}

/// Where the perfect subtrees of a tree are kept.
pub trait Nodes {
    /// Why a node could not be read.
    type Error;

    /// The hash of the node. Asked only for nodes that lie whole within the tree.
    ///
    /// # Errors
    /// The storage's own.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// All nodes of a tree in memory: about 64 bytes for each leaf. For exports and tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryNodes {
    levels: Vec<Vec<Hash>>,
    frontier: Frontier,
}

impl MemoryNodes {
    /// The nodes over these leaf hashes.
    pub fn new(leaves: impl IntoIterator<Item = Hash>) -> Self {
        let mut nodes = Self::default();
        for leaf in leaves {
            nodes.append(leaf);
        }
        nodes
    }

    /// Adds a leaf.
    pub fn append(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.frontier.append(leaf, &mut |node| match levels.get_mut(usize::from(node.level)) {
            Some(level) => level.push(node.hash),
            None => levels.push(vec![node.hash]),
        });
    }

    /// The tree's frontier.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }
}

impl Nodes for MemoryNodes {
    type Error = Infallible;

    /// A node that is not there reads as zeros, whose proofs do not verify.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let hash = usize::try_from(index)
            .ok()
            .and_then(|index| self.levels.get(usize::from(level))?.get(index));
        Ok(hash.copied().unwrap_or(Hash::new([0; 32])))
    }
}

/// The root of the tree's first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn root_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    range_root(nodes, 0, size)
}

/// The frontier of the tree's first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn frontier_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Frontier, N::Error> {
    Ok(Frontier { size, peaks: peaks_of(nodes, 0, size)? })
}

/// The proof that the leaf `index` is in the tree of the first `size` leaves (RFC 9162 §2.1.3.1);
/// empty if it is not.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion_proof<N: Nodes + ?Sized>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    let (mut start, mut len) = (0, size);
    while len > 1 {
        let split = largest_power_below(len);
        if index - start < split {
            proof.push(range_root(nodes, start + split, len - split)?);
            len = split;
        } else {
            proof.push(range_root(nodes, start, split)?);
            start += split;
            len -= split;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `to` leaves begins with that of the first `from`
/// (RFC 9162 §2.1.4.1); empty if `from` is zero or not below `to`.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency_proof<N: Nodes + ?Sized>(
    nodes: &N,
    from: u64,
    to: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if from == 0 || from >= to {
        return Ok(proof);
    }
    let (mut start, mut len, mut old, mut whole) = (0, to, from, true);
    while old != len {
        let split = largest_power_below(len);
        if old <= split {
            proof.push(range_root(nodes, start + split, len - split)?);
            len = split;
        } else {
            proof.push(range_root(nodes, start, split)?);
            start += split;
            len -= split;
            old -= split;
            whole = false;
        }
    }
    if !whole {
        proof.push(range_root(nodes, start, len)?);
    }
    proof.reverse();
    Ok(proof)
}

/// A proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The leaf or the older tree is not within the tree.
    #[error("the proof is about a leaf or a size beyond the tree")]
    OutOfRange,
    /// More or fewer hashes than the position needs.
    #[error("the proof has the wrong number of hashes")]
    WrongLength,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    WrongRoot,
}

/// Checks that `leaf` is at `index` in the tree with `root` (RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            // At the right edge, levels without a sibling are skipped.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::WrongLength)
    } else if hash == *root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot)
    }
}

/// Checks that the tree with `to_root` begins with the one with `from_root` (RFC 9162 §2.1.4.2).
/// From the empty tree there is nothing to prove, and such a proof is refused.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    from: u64,
    from_root: &Hash,
    to: u64,
    to_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if from == 0 || from > to {
        return Err(ProofError::OutOfRange);
    }
    if from == to {
        return match (proof.is_empty(), from_root == to_root) {
            (true, true) => Ok(()),
            (false, _) => Err(ProofError::WrongLength),
            (true, false) => Err(ProofError::WrongRoot),
        };
    }
    let mut rest = proof;
    let mut first = *from_root;
    if !from.is_power_of_two() {
        let (head, tail) = rest.split_first().ok_or(ProofError::WrongLength)?;
        (first, rest) = (*head, tail);
    }
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::WrongLength)
    } else if old == *from_root && new == *to_root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot)
    }
}

/// The root of the tree over these leaf hashes.
pub fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.append(*leaf, &mut |_| {});
    }
    frontier.root()
}

/// The largest power of two below `len`, which is at least 2.
fn largest_power_below(len: u64) -> u64 {
    1 << (u64::BITS - 1 - (len - 1).leading_zeros())
}

/// The root over the `len` leaves from `start`, which every power of two up to `len` divides.
fn range_root<N: Nodes + ?Sized>(nodes: &N, start: u64, len: u64) -> Result<Hash, N::Error> {
    Ok(fold(&peaks_of(nodes, start, len)?))
}

fn peaks_of<N: Nodes + ?Sized>(nodes: &N, start: u64, len: u64) -> Result<Vec<Hash>, N::Error> {
    let mut peaks = Vec::new();
    let mut at = start;
    for level in (0..64_u8).rev() {
        if len >> level & 1 == 1 {
            peaks.push(nodes.node(level, at >> level)?);
            at += 1 << level;
        }
    }
    Ok(peaks)
}

fn fold(peaks: &[Hash]) -> Hash {
    let mut peaks = peaks.iter().rev();
    match peaks.next() {
        None => empty_root(),
        Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
    }
}

#[cfg(test)]
mod tests;
