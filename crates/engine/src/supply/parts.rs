//! Parts of a snapshot in frames.

use larder_log::snapshot::{Content, Part};
use larder_types::limits::FRAME_BYTES_MAX;

use crate::{Error, Result};

/// Packs a part into what a frame has room for, without documents that take more by themselves: the
/// others go over all the same.
pub(super) fn pack(mut part: Part) -> Result<Vec<u8>> {
    loop {
        let packed = part.pack().map_err(|e| Error::Internal(e.to_string()))?;
        if packed.len() <= PACKED_BYTES_MAX {
            return Ok(packed);
        }
        let largest = part.items.iter_mut().max_by_key(|item| match &item.content {
            Content::Gone => 0,
            Content::Document { value, changes } => {
                value.len() + changes.iter().map(|change| change.len()).sum::<usize>()
            }
        });
        match largest {
            Some(item) if item.content != Content::Gone => item.content = Content::Gone,
            _ => return Err(Error::Internal("the leaves of a part are too large".into())),
        }
    }
}

/// What frames the part takes room too.
const PACKED_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 10);

#[cfg(test)]
mod tests {
    use larder_log::snapshot::Item;
    use larder_types::Hash;

    use super::*;

    /// A household had an album in one document, of 21 MiB that compress to nothing less. The part
    /// with it fitted into no frame, so an empty one went over, and whoever joined after a pruning
    /// got none of the documents behind it either, for ever.
    #[test]
    fn a_document_that_fits_into_no_frame_keeps_no_other_back() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // Xorshift (Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(21 << 20)
        .collect();
        let item = |leaf, value: &[u8]| Item {
            leaf: vec![leaf],
            content: Content::Document { value: value.to_vec(), changes: Vec::new() },
        };
        let items = vec![item(1, b"{}"), item(2, &noise), item(3, b"{}")];
        let part = Part { snapshot: Hash::new([1; 32]), items, proof: Vec::new() };
        let packed = pack(part.clone()).unwrap();
        assert!(packed.len() < FRAME_BYTES_MAX);
        let sent = Part::unpack(&packed).unwrap();
        assert_eq!(sent.items[1].content, Content::Gone);
        assert_eq!((&sent.items[0], &sent.items[2]), (&part.items[0], &part.items[2]));
        // What fits goes as it is.
        let small = Part { items: vec![item(1, b"{}")], ..part };
        assert_eq!(Part::unpack(&pack(small.clone()).unwrap()).unwrap(), small);
    }
}
