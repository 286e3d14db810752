//! Changes to documents that ask for more than a device may give, or build on what never was.
//!
//! A change is Automerge's (<https://automerge.org/automerge-binary-format-spec/>), and its
//! checksum is right, so that nothing but the limits and rules of `larder-document` stops it.

use larder_crypto::hash::sha256;
use larder_pages::testing::Dice;
use larder_types::Entropy;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHANGE_CHUNK: u8 = 1;
const HASH_BYTES: usize = 32;
/// As many operations as no device could hold, in some sixty bytes.
const MANY: u64 = 1 << 40;

/// A change with the place of a good one that keeps every rule and that Automerge loses: it deletes
/// what was never there.
pub(crate) fn lost(good: &[u8]) -> Vec<u8> {
    let mut parts = Parts::read(good);
    parts.rest = operations(1, b"a", DELETE);
    parts.write()
}

/// The parts of a change that are spoilt.
struct Parts {
    deps: Vec<[u8; HASH_BYTES]>,
    actor: Vec<u8>,
    seq: u64,
    start: u64,
    time: Vec<u8>,
    /// The other actors, and all columns.
    rest: Vec<u8>,
}

/// A change made of a good one. What it came from must not show any trace of it.
pub(crate) fn spoilt(dice: &mut Dice, good: &[u8]) -> Vec<u8> {
    let mut parts = Parts::read(good);
    match dice.below(6) {
        0 => parts.rest = operations(MANY, b"a", PUT),
        1 => parts.rest = operations(50_000, &[b'a'; 4000], PUT),
        2 => parts.start = 1 << 31,
        3 => parts.seq += 1000,
        4 => dice.fill(&mut parts.deps[0]),
        _ => {
            // Numbered as if it came before the document.
            parts.start = 1;
        }
    }
    parts.write()
}

impl Parts {
    fn read(change: &[u8]) -> Self {
        let mut input = Input(&change[9..]);
        input.number();
        let deps = (0..input.number()).map(|_| input.take(HASH_BYTES).try_into().expect("a hash"));
        let deps = deps.collect();
        let actor = input.prefixed();
        let (seq, start) = (input.number(), input.number());
        let time = input.varint().to_vec();
        assert!(input.prefixed().is_empty(), "a message");
        Self { deps, actor, seq, start, time, rest: input.0.to_vec() }
    }

    fn write(&self) -> Vec<u8> {
        let mut contents = leb128(self.deps.len() as u64);
        contents.extend(self.deps.as_flattened());
        contents.extend(leb128(self.actor.len() as u64));
        contents.extend(&self.actor);
        contents.extend(leb128(self.seq));
        contents.extend(leb128(self.start));
        contents.extend(&self.time);
        contents.push(0);
        contents.extend(&self.rest);
        let len = leb128(contents.len() as u64);
        let sum = sha256(&[&[CHANGE_CHUNK], &len, &contents]);
        [&MAGIC, &sum.as_bytes()[..4], &[CHANGE_CHUNK], &len, &contents].concat()
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 3;

/// No other actors, and so many times null under one key, or that deleted, each column in one run.
fn operations(count: u64, key: &[u8], action: u8) -> Vec<u8> {
    let run = |value: &[u8]| [signed(count), value.to_vec()].concat();
    let columns = [
        (0x15, run(&[&leb128(key.len() as u64), key].concat())),
        (0x34, leb128(count)),
        (0x42, run(&[action])),
        (0x56, run(&[0])),
        (0x70, run(&[0])),
    ];
    let mut out = vec![0];
    out.extend(leb128(columns.len() as u64));
    for (spec, column) in &columns {
        out.push(*spec);
        out.extend(leb128(column.len() as u64));
    }
    for (_, column) in columns {
        out.extend(column);
    }
    out
}

fn leb128(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
    out
}

/// A positive number where negative ones are possible: its highest bit is the sign.
fn signed(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x40 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
    out
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte < 0x80).expect("a number's end");
        self.take(end + 1)
    }

    fn number(&mut self) -> u64 {
        let bytes = self.varint().iter().enumerate();
        bytes.fold(0, |sum, (at, byte)| sum | u64::from(byte & 0x7f) << (7 * at))
    }

    fn prefixed(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.number()).expect("a length");
        self.take(len).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use larder_document::{Actor, Document};
    use larder_types::{DeviceId, EntryHash, ObjectId, Timestamp};
    use serde_json::json;

    use super::*;

    /// A change that were void for being no change at all would test no limit.
    #[test]
    fn what_is_read_and_written_again_is_the_same_and_what_is_spoilt_never_counts() {
        let object = |value| {
            let serde_json::Value::Object(value) = value else { unreachable!() };
            value
        };
        let value = object(json!({"title": "One", "text": "A text.\n"}));
        let author = DeviceId::new([1; 32]);
        let actor = Actor::of(&author, &ObjectId::new([2; 16]), &EntryHash::new([3; 32]));
        let edited = object(json!({"title": "Two", "text": "A longer text.\n"}));
        let mut writer = Document::load(value.clone(), None).unwrap();
        let good = writer.put(actor, None, &edited, Timestamp(0)).unwrap().unwrap();
        assert_eq!(Parts::read(&good).write(), good);
        let mut dice = Dice::new(7);
        for _ in 0..60 {
            let bad = spoilt(&mut dice, &good);
            let mut reader = Document::load(value.clone(), None).unwrap();
            let outcome = reader.apply(&[(actor, &bad)]);
            assert!(outcome[0] != larder_document::Outcome::Applied, "{bad:?}");
            let good = reader.apply(&[(actor, &good)]);
            assert_eq!(good[0], larder_document::Outcome::Applied);
        }
        let mut reader = Document::load(value, None).unwrap();
        let outcomes = reader.apply(&[(actor, &lost(&good)), (actor, &good)]);
        let refused = larder_document::Outcome::Void(larder_document::VoidReason::Refused);
        assert_eq!(outcomes, [refused, larder_document::Outcome::Applied]);
    }
}
