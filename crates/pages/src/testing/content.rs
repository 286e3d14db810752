use std::sync::{Arc, LazyLock};

const BLOCK: usize = 4096;

type Block = [u8; BLOCK];

/// Zeros, in all that was never written.
static HOLE: LazyLock<Arc<Block>> = LazyLock::new(|| Arc::new([0; BLOCK]));

/// The bytes of a file in blocks that copies of it share until one of them changes.
#[derive(Clone, Default)]
pub(super) struct Content {
    blocks: Vec<Arc<Block>>,
    length: u64,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(0)];
        self.read(0, &mut bytes);
        bytes
    }

    /// Fills `out` from `offset` and answers with how many bytes the file had; zeros follow.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (found, beyond) = out.split_at_mut(there.min(out.len()));
        for (block, within, to) in pieces(offset, found.len()) {
            let from = self.blocks.get(block).and_then(|bytes| bytes.get(within.clone()));
            if let (Some(from), Some(to)) = (from, found.get_mut(to)) {
                to.copy_from_slice(from);
            }
        }
        beyond.fill(0);
        found.len()
    }

    /// Zeros fill the space between the end and `offset`, if there is any.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.length {
            self.resize(end);
        }
        for (block, within, from) in pieces(offset, bytes.len()) {
            let to = self.blocks.get_mut(block).map(Arc::make_mut);
            if let (Some(to), Some(from)) =
                (to.and_then(|block| block.get_mut(within)), bytes.get(from))
            {
                to.copy_from_slice(from);
            }
        }
    }

    /// Cuts the end off, or adds zeros.
    pub(super) fn resize(&mut self, length: u64) {
        let blocks = usize::try_from(length.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        self.blocks.resize_with(blocks, || Arc::clone(&HOLE));
        self.length = length;
        // What was cut off must not come back when the file grows again.
        let tail = usize::try_from(length % BLOCK as u64).unwrap_or(0);
        if let (true, Some(last)) = (tail > 0, self.blocks.last_mut())
            && let Some(cut) = last.get(tail..)
            && HOLE.get(tail..) != Some(cut)
            && let Some(cut) = Arc::make_mut(last).get_mut(tail..)
        {
            cut.fill(0);
        }
    }

    /// Takes the blocks that these bytes lie in from `other`, without copying them.
    pub(super) fn share(&mut self, other: &Self, offset: u64, length: usize) {
        for (block, ..) in pieces(offset, length) {
            if let (Some(to), Some(from)) = (self.blocks.get_mut(block), other.blocks.get(block)) {
                *to = Arc::clone(from);
            }
        }
    }
}

/// Splits `length` bytes at `offset` by blocks: which one, where in it, and where in the bytes.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset.checked_add(done as u64).filter(|_| done < length)?;
        let block = usize::try_from(at / BLOCK as u64).ok()?;
        let within = usize::try_from(at % BLOCK as u64).ok()?;
        let take = (BLOCK - within).min(length - done);
        let piece = (block, within..within + take, done..done + take);
        done += take;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_zeros_elsewhere() {
        let mut content = Content::default();
        content.write(0, b"abc");
        let before = content.clone();
        content.write(10_000, &[7; 5000]);
        assert_eq!(content.length(), 15_000);
        let mut expected = vec![0; 15_000];
        expected[..3].copy_from_slice(b"abc");
        expected[10_000..].fill(7);
        assert_eq!(content.to_vec(), expected);
        assert_eq!(before.to_vec(), b"abc", "a copy stays as it was");

        let mut out = [1; 8];
        assert_eq!(content.read(14_996, &mut out), 4);
        assert_eq!(out, [7, 7, 7, 7, 0, 0, 0, 0]);

        content.resize(10_001);
        content.resize(15_000);
        expected[10_001..].fill(0);
        assert_eq!(content.to_vec(), expected, "what was cut off is gone");
    }

    #[test]
    fn holes_take_no_memory() {
        let mut content = Content::default();
        content.write(5 << 30, b"far");
        let mut out = [1; 6];
        assert_eq!(content.read((5 << 30) - 3, &mut out), 6);
        assert_eq!(&out, b"\0\0\0far");
    }
}
