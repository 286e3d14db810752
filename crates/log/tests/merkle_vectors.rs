//! Proofs, good and bad, that other implementations of RFC 6962 are held to as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use data_encoding::BASE64;
use larder_log::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use larder_types::Hash;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    name: String,
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<Option<String>>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    name: String,
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<Option<String>>>,
    want_err: bool,
}

/// Some cases have roots that are no hashes, which our types cannot hold: a hash stands for each.
fn root(text: Option<&String>) -> Hash {
    let bytes = BASE64.decode(text.map_or("", String::as_str).as_bytes()).unwrap();
    Hash::from_slice(&bytes).unwrap_or_else(|| leaf_hash(&bytes))
}

fn hash(text: Option<&String>) -> Option<Hash> {
    Hash::from_slice(&BASE64.decode(text?.as_bytes()).unwrap()) // none: refused as unreadable
}

fn hashes(texts: Option<Vec<Option<String>>>) -> Option<Vec<Hash>> {
    texts.unwrap_or_default().iter().map(|text| hash(text.as_ref())).collect()
}

#[test]
fn inclusion_proofs() {
    let cases: Vec<Inclusion> =
        serde_json::from_str(include_str!("vectors/inclusion.json")).unwrap();
    assert_eq!(cases.len(), 98);
    assert_eq!(cases.iter().filter(|case| case.want_err).count(), 92);
    for case in cases {
        let accepted = || {
            let (leaf, root) = (hash(case.leaf_hash.as_ref())?, hash(case.root.as_ref())?);
            let proof = hashes(case.proof.clone())?;
            verify_inclusion(&leaf, case.leaf_idx, case.tree_size, &proof, &root).ok()
        };
        assert_eq!(accepted().is_none(), case.want_err, "{}", case.name);
    }
}

#[test]
fn consistency_proofs() {
    let cases: Vec<Consistency> =
        serde_json::from_str(include_str!("vectors/consistency.json")).unwrap();
    assert_eq!(cases.len(), 98);
    assert_eq!(cases.iter().filter(|case| case.want_err).count(), 92);
    for case in cases {
        let accepted = || {
            let (from, to) = (root(case.root1.as_ref()), root(case.root2.as_ref()));
            let proof = hashes(case.proof.clone())?;
            verify_consistency(case.size1, &from, case.size2, &to, &proof).ok()
        };
        assert_eq!(accepted().is_none(), case.want_err, "{}", case.name);
    }
}
