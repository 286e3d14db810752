use proptest::prelude::*;

use super::*;

fn leaf(index: u64) -> Hash {
    leaf_hash(&index.to_be_bytes())
}

/// RFC 6962 §2.1 as it is written down, to compare with.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&mth(left), &mth(right))
        }
    }
}

#[test]
fn roots_are_those_of_the_rfc_and_every_proof_verifies() {
    let leaves: Vec<Hash> = (0..70).map(leaf).collect();
    let nodes = MemoryNodes::new(leaves.iter().copied());
    for size in 0..=70_u64 {
        let root = mth(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!(root_at(&nodes, size), Ok(root));
        for index in 0..size {
            let proof = inclusion_proof(&nodes, index, size).unwrap();
            assert_eq!(verify_inclusion(&leaf(index), index, size, &proof, &root), Ok(()));
        }
        for from in 1..=size {
            let proof = consistency_proof(&nodes, from, size).unwrap();
            let from_root = root_at(&nodes, from).unwrap();
            assert_eq!(verify_consistency(from, &from_root, size, &root, &proof), Ok(()));
        }
    }
}

#[test]
fn a_frontier_grows_as_the_tree_does() {
    let leaves: Vec<Hash> = (0..70).map(leaf).collect();
    let nodes = MemoryNodes::new(leaves.iter().copied());
    let mut frontier = Frontier::new();
    for (leaf, size) in leaves.iter().zip(1..) {
        frontier.append(*leaf, &mut |node| {
            assert_eq!(nodes.node(node.level, node.index), Ok(node.hash));
        });
        assert_eq!(frontier_at(&nodes, size), Ok(frontier.clone()));
        let mut leaves = 0;
        for node in frontier.peaks() {
            assert_eq!(nodes.node(node.level, node.index), Ok(node.hash));
            assert_eq!(node.index << node.level, leaves);
            leaves += 1 << node.level;
        }
        assert_eq!(leaves, size);
        assert_eq!((frontier.size(), Ok(frontier.root())), (size, root_at(&nodes, size)));
        let bytes = larder_types::canonical::encode(&frontier);
        assert_eq!(larder_types::canonical::decode(&bytes, 4096), Ok(frontier.clone()));
    }
}

#[test]
fn a_frontier_with_too_few_peaks_is_refused() {
    let mut frontier = Frontier::new();
    (0..3).for_each(|index| frontier.append(leaf(index), &mut |_| {}));
    let mut bytes = larder_types::canonical::encode(&frontier);
    bytes[1] = 4; // the size: as many as one peak would hold
    assert!(larder_types::canonical::decode::<Frontier>(&bytes, 4096).is_err());
}

proptest! {
    #[test]
    fn a_proof_with_any_change_is_refused(
        size in 2..300_u64,
        index: prop::sample::Index,
        at: prop::sample::Index,
        bit in 0..256_usize,
    ) {
        let nodes = MemoryNodes::new((0..size).map(leaf));
        let root = nodes.frontier().root();
        let index = index.index(usize::try_from(size).unwrap()) as u64;
        let mut proof = inclusion_proof(&nodes, index, size).unwrap();
        let check =
            |proof: &[Hash], index| verify_inclusion(&leaf(index), index, size, proof, &root);
        prop_assert!(check(&proof, index).is_ok());
        prop_assert!(check(&proof, (index + 1) % size).is_err());
        prop_assert!(check(&proof[1..], index).is_err());
        let at = at.index(proof.len());
        let mut bytes = *proof[at].as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        proof[at] = Hash::new(bytes);
        prop_assert_eq!(check(&proof, index), Err(ProofError::WrongRoot));
    }

    #[test]
    fn hostile_proofs_never_panic(
        index: u64, size: u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let proof: Vec<Hash> = proof.into_iter().map(Hash::new).collect();
        let root = leaf(0);
        prop_assert!(verify_inclusion(&root, index, size, &proof, &leaf(1)).is_err());
        prop_assert!(verify_consistency(index, &root, size, &leaf(1), &proof).is_err());
    }
}
