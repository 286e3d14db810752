//! Reads a change's bytes far enough to bound them, before Automerge does.
//!
//! Automerge's columns are run-length encoded: twenty bytes can claim 2⁶⁰ operations, and a few
//! thousand can name one long key 10⁵ times. Compressed changes inflate without a cap; they are
//! refused, since sections are compressed as a whole. The layout is Automerge's binary format,
//! <https://automerge.org/automerge-binary-format-spec/>.

use larder_types::limits::{CHANGE_BYTES_MAX, CHANGE_OPERATIONS_MAX};
use sha2::{Digest, Sha256};

use crate::VoidReason;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHANGE_CHUNK: u8 = 1;
const HASH_BYTES: usize = 32;
const NOBODY_LABEL: &[u8] = b"larder/nobody/v0";

const GROUP: u64 = 0;
const DELTA: u64 = 3;
const BOOLEAN: u64 = 4;
const STRING: u64 = 5;
const VALUE: u64 = 7;
const DEFLATED: u64 = 8;

/// Checks that `bytes` are one uncompressed change of no more than the permitted size, inflated.
pub(crate) fn check(bytes: &[u8]) -> Result<(), VoidReason> {
    let (_, mut contents) = open(bytes)?;
    body(&mut contents)
}

/// The hash of a change, and of those that it names as its past.
pub(crate) fn link(bytes: &[u8]) -> Result<([u8; 32], Vec<[u8; 32]>), VoidReason> {
    let (hash, mut contents) = open(bytes)?;
    let deps = contents.length()?;
    let deps = contents.take(deps.saturating_mul(HASH_BYTES))?;
    Ok((hash, deps.as_chunks().0.to_vec()))
}

/// The same change by nobody: its actor follows from all else that it says, so that whoever makes
/// it makes the same one.
pub(crate) fn by_nobody(bytes: &[u8]) -> Result<Vec<u8>, VoidReason> {
    let named = Named::read(bytes)?;
    let actor = named.nobody();
    let contents = [named.before, &leb128(actor.len() as u64), &actor, named.after].concat();
    let hashed = [&[CHANGE_CHUNK], &*leb128(contents.len() as u64), &contents].concat();
    let hash: [u8; 32] = Sha256::digest(&hashed).into();
    let (checksum, _) = hash.split_at(4);
    Ok([&MAGIC, checksum, &hashed].concat())
}

/// Whether a change is by nobody. Nobody has two changes: its actor is that of this one alone.
pub(crate) fn is_by_nobody(bytes: &[u8]) -> bool {
    Named::read(bytes).is_ok_and(|named| named.actor == named.nobody())
}

/// A change's contents: what comes before the actor's length, the actor, and what comes after it.
struct Named<'a> {
    before: &'a [u8],
    actor: &'a [u8],
    after: &'a [u8],
}

impl<'a> Named<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, VoidReason> {
        let (_, mut contents) = open(bytes)?;
        let all = contents.0;
        let deps = contents.length()?;
        contents.take(deps.saturating_mul(HASH_BYTES))?;
        let (before, _) = all.split_at(all.len() - contents.0.len());
        Ok(Self { before, actor: contents.prefixed()?, after: contents.0 })
    }

    fn nobody(&self) -> [u8; 32] {
        let digest = Sha256::new().chain_update(NOBODY_LABEL).chain_update(self.before);
        digest.chain_update(self.after).finalize().into()
    }
}

/// How long the first of some chunks says it is; 0 if it says nothing.
pub(crate) fn first_len(chunks: &[u8]) -> usize {
    let mut rest = Input(chunks);
    let body_len = rest.take(MAGIC.len() + 4 + 1).and_then(|_| rest.length());
    body_len.map_or(0, |len| chunks.len() - rest.0.len() + len)
}

/// A chunk's hash and contents.
fn open(bytes: &[u8]) -> Result<([u8; 32], Input<'_>), VoidReason> {
    if bytes.len() > CHANGE_BYTES_MAX {
        return Err(VoidReason::TooLarge);
    }
    let mut chunk = Input(bytes);
    if chunk.take(MAGIC.len())? != MAGIC {
        return Err(malformed("not a change"));
    }
    let checksum = chunk.take(4)?;
    if chunk.take(1)? != [CHANGE_CHUNK] {
        return Err(malformed("not an uncompressed change"));
    }
    let body_len = chunk.length()?;
    if body_len != chunk.0.len() {
        return Err(malformed("not of the length it claims"));
    }
    let mut sum = Sha256::new().chain_update([CHANGE_CHUNK]);
    sum.update(leb128(body_len as u64));
    sum.update(chunk.0);
    let hash: [u8; 32] = sum.finalize().into();
    if !hash.starts_with(checksum) {
        return Err(malformed("checksum does not match"));
    }
    Ok((hash, chunk))
}

fn body(input: &mut Input<'_>) -> Result<(), VoidReason> {
    let deps = input.length()?;
    input.take(deps.saturating_mul(HASH_BYTES))?;
    input.prefixed()?;
    for _ in ["sequence number", "first operation", "time"] {
        input.varint()?;
    }
    if !input.prefixed()?.is_empty() {
        return Err(malformed("carries a message"));
    }
    for _ in 0..input.length()? {
        input.prefixed()?;
    }
    let count = input.length()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push((input.unsigned()?, input.length()?));
    }
    for (spec, len) in columns {
        column(spec, Input(input.take(len)?))?;
    }
    if input.0.is_empty() { Ok(()) } else { Err(malformed("carries extra bytes")) }
}

fn column(spec: u64, mut input: Input<'_>) -> Result<(), VoidReason> {
    if spec & DEFLATED != 0 {
        return Err(malformed("a column is compressed"));
    }
    let mut rows = Rows::default();
    match spec & 7 {
        VALUE => {}
        BOOLEAN => {
            while !input.0.is_empty() {
                rows.add(input.unsigned()?, None)?;
            }
        }
        kind => {
            while !input.0.is_empty() {
                match input.signed()? {
                    0 => rows.add(input.unsigned()?, None)?,
                    run @ 1.. => {
                        let weight = input.weight(kind)?;
                        rows.add(run.unsigned_abs(), weight)?;
                    }
                    literals => {
                        for _ in 0..literals.unsigned_abs() {
                            let weight = input.weight(kind)?;
                            rows.add(1, weight)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// How many rows a column has, and how many bytes or grouped rows they stand for.
#[derive(Default)]
struct Rows {
    count: u64,
    group: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
enum Weight {
    Bytes(u64),
    Grouped(u64),
}

impl Rows {
    fn add(&mut self, run: u64, weight: Option<Weight>) -> Result<(), VoidReason> {
        self.count = self.count.saturating_add(run);
        match weight {
            Some(Weight::Bytes(n)) => self.bytes = self.bytes.saturating_add(n.saturating_mul(run)),
            Some(Weight::Grouped(n)) => {
                self.group = self.group.saturating_add(n.saturating_mul(run));
            }
            None => {}
        }
        if self.count.max(self.group) > CHANGE_OPERATIONS_MAX as u64 {
            Err(VoidReason::TooManyOperations)
        } else if self.bytes > CHANGE_BYTES_MAX as u64 {
            Err(VoidReason::TooLarge)
        } else {
            Ok(())
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], VoidReason> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| malformed("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn prefixed(&mut self) -> Result<&'a [u8], VoidReason> {
        let len = self.length()?;
        self.take(len)
    }

    /// A length or count; nothing has more items than there are bytes left.
    fn length(&mut self) -> Result<usize, VoidReason> {
        let len = self.unsigned()?;
        usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.0.len())
            .ok_or_else(|| malformed("cut short"))
    }

    fn varint(&mut self) -> Result<&'a [u8], VoidReason> {
        let end = self.0.iter().take(10).position(|byte| *byte < 0x80);
        let end = end.ok_or_else(|| malformed("a number is too long"))?;
        self.take(end + 1)
    }

    fn unsigned(&mut self) -> Result<u64, VoidReason> {
        let bytes = self.varint()?;
        let mut value = 0_u64;
        for (i, byte) in bytes.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(malformed("a number is too large"));
            }
            value |= bits << (7 * i);
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<i64, VoidReason> {
        let bytes = self.varint()?;
        let mut value = 0_i64;
        for (i, byte) in bytes.iter().enumerate() {
            value |= i64::from(byte & 0x7f) << (7 * i);
        }
        let bits = 7 * bytes.len();
        if bits < 64 && bytes.last().is_some_and(|last| last & 0x40 != 0) {
            value |= -1 << bits;
        }
        Ok(value)
    }

    /// Skips one value of a column; says what it weighs in every row of its run.
    fn weight(&mut self, kind: u64) -> Result<Option<Weight>, VoidReason> {
        match kind {
            GROUP => self.unsigned().map(|n| Some(Weight::Grouped(n))),
            DELTA => self.varint().map(|_| None),
            STRING => self.prefixed().map(|text| Some(Weight::Bytes(text.len() as u64))),
            _ => self.varint().map(|_| None),
        }
    }
}

fn leb128(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn malformed(why: &'static str) -> VoidReason {
    VoidReason::Malformed(why.to_owned())
}
