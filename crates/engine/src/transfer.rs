//! How a copy of a document in another space is called, so that whoever is cut while making it
//! finds it again.

use larder_crypto::hash::sha256;
use larder_types::{CorrelationId, ObjectId, SpaceId};

const LABEL: &[u8] = b"larder/transfer/v0";

/// Whose doing the creation of a copy is, and what brings it up to date.
pub const COPIED: &str = "copy";

/// The same of a document that was moved.
pub const MOVED: &str = "move";

/// The id of the n-th copy of a document in another space, and what ties its creation to what
/// becomes of the document: who does not know the document's space cannot tell that it is one.
pub fn copy_id(
    (space, object): (&SpaceId, &ObjectId),
    target: &SpaceId,
    n: u32,
) -> (ObjectId, CorrelationId) {
    let half = |part: &[u8]| {
        let from = [space.as_bytes().as_slice(), object.as_bytes(), target.as_bytes()].concat();
        let hash = sha256(&[LABEL, part, &from, &n.to_be_bytes()]);
        let mut half = [0; 16];
        half.iter_mut().zip(hash.as_bytes()).for_each(|(to, byte)| *to = *byte);
        half
    };
    (ObjectId::new(half(b"object")), CorrelationId::new(half(b"correlation")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn copies_differ_by_document_space_and_number() {
        let (one, other) = (SpaceId::new([1; 32]), SpaceId::new([2; 32]));
        let (a, b) = (ObjectId::new([1; 16]), ObjectId::new([2; 16]));
        let ids = [
            copy_id((&one, &a), &other, 0),
            copy_id((&one, &a), &other, 1),
            copy_id((&one, &b), &other, 0),
            copy_id((&other, &a), &one, 0),
            copy_id((&one, &a), &one, 0),
        ];
        let all: BTreeSet<ObjectId> = ids.iter().map(|(object, _)| *object).collect();
        assert_eq!(all.len(), ids.len());
        assert!(ids.iter().all(|(object, tie)| object.as_bytes() != tie.as_bytes()));
        assert_eq!(copy_id((&one, &a), &other, 0), ids[0]);
    }
}
