use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// What lies over every byte of a secret while it is looked for, so that the search does not find
/// itself.
const MASK: u8 = 0xa5;
/// A secret is looked for in pieces of this many bytes: a remnant that was half written over
/// still counts.
const PIECE: usize = 8;
const CHUNK: usize = 1 << 20;

/// Looks for secrets in all readable memory of this process (Linux).
///
/// Memory: 1 MiB, and 64 bytes for each piece of a secret.
pub struct MemorySearch {
    names: Vec<String>,
    /// Masked pieces, and the name each belongs to.
    pieces: HashMap<u64, usize>,
    /// By the low 16 bits of a masked piece: most positions are passed over on these alone.
    sieve: Vec<bool>,
    buffer: Vec<u8>,
}

/// `bytes` under a mask, or without it again.
pub fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

impl Default for MemorySearch {
    fn default() -> Self {
        let (names, pieces) = (Vec::new(), HashMap::new());
        Self { names, pieces, sieve: vec![false; 1 << 16], buffer: vec![0; CHUNK] }
    }
}

impl MemorySearch {
    /// Looks for this secret too, given under its mask ([`masked`]). What is left over after
    /// pieces of eight bytes is not looked for, nor a piece of zeros.
    pub fn add(&mut self, name: &str, under_mask: &[u8]) {
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        for piece in under_mask.chunks_exact(PIECE).filter(|piece| *piece != [MASK; PIECE]) {
            let piece = word(piece);
            self.pieces.insert(piece, index);
            if let Some(slot) = self.sieve.get_mut(low(piece)) {
                *slot = true;
            }
        }
    }

    /// How many pieces of each secret there are in memory, by name; a whole copy of 32 bytes is
    /// four.
    ///
    /// # Errors
    /// Those of reading `/proc/self`.
    pub fn run(&mut self) -> io::Result<BTreeMap<String, usize>> {
        let mut counts = vec![0; self.names.len()];
        let memory = File::open("/proc/self/mem")?;
        for line in fs::read_to_string("/proc/self/maps")?.lines() {
            if let Some((start, end)) = readable(line) {
                self.search(&memory, start, end, &mut counts);
            }
        }
        Ok(self.names.iter().cloned().zip(counts).collect())
    }

    fn search(&mut self, memory: &File, start: u64, end: u64, counts: &mut [usize]) {
        let own = self.buffer.as_ptr() as u64;
        let own = own..own + self.buffer.len() as u64;
        let mut at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(chunk) = self.buffer.get_mut(..length) else { return };
            // Some regions of the kernel's cannot be read, whatever their flags say.
            if memory.read_exact_at(chunk, at).is_err() {
                chunk.fill(0);
                return;
            }
            for (position, piece) in (at..).zip(chunk.windows(PIECE)) {
                let piece = word(piece) ^ u64::from_ne_bytes([MASK; PIECE]);
                if self.sieve.get(low(piece)) == Some(&true)
                    && !own.contains(&position)
                    && let Some(index) = self.pieces.get(&piece)
                    && let Some(count) = counts.get_mut(*index)
                {
                    *count += 1;
                }
            }
            chunk.fill(0);
            // A piece may lie across two chunks.
            at += if at + (length as u64) < end { length - (PIECE - 1) } else { length } as u64;
        }
    }
}

/// Start and end of a region of `/proc/self/maps`, if it can be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let bound = |text| u64::from_str_radix(text, 16).ok();
    (rest.starts_with('r') && !rest.contains("[v")).then_some((bound(start)?, bound(end)?))
}

fn word(piece: &[u8]) -> u64 {
    u64::from_ne_bytes(crate::format::bytes(piece, 0))
}

fn low(piece: u64) -> usize {
    usize::from(u16::from_ne_bytes(crate::format::bytes(&piece.to_ne_bytes(), 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_while_it_is_there() {
        let under_mask: Vec<u8> = (0..32_u8).map(|i| i.wrapping_mul(37) ^ 0x5c).collect();
        let mut search = MemorySearch::default();
        search.add("held", &under_mask);
        let held = masked(&under_mask);
        let before = search.run().unwrap()["held"];
        assert!(before >= 4, "{before}");
        let across = [&[0; 3], &held[..20]].concat();
        assert!(search.run().unwrap()["held"] >= before + 2, "at any address, and in part");
        drop((held, across));
    }
}
