//! A batch as it travels: without what follows from the rest of it.
//!
//! Of a header travels what only its author could know; the other fields, and the digests of
//! sections that are there as they were sealed, the reader computes. If any of it were not what the
//! author signed, the tree would come to another root than the checkpoint's.

use larder_types::limits::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX, SECTIONS_MAX};
use larder_types::{DeviceId, EpochId, Hash, SpaceId, canonical};
use minicbor::{Decode, Decoder, Encode};

use super::{Batch, BatchEntry, Payload};
use crate::error::{BatchError, HeaderError};
use crate::header::{Dep, Header, VERSION};
use crate::section::{SectionCommitment, sealed_digest, sections_root};

#[derive(Encode, Decode)]
#[cbor(array)]
struct Travelling {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    first_seq: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: [u8; 64],
    /// Each once, in the order of the entries that first name it.
    #[n(3)]
    seals: Vec<Seal>,
    #[n(4)]
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Seal {
    #[n(0)]
    epoch: EpochId,
    #[n(1)]
    step: u32,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Entry {
    /// Which of the seals; none for the genesis entry.
    #[n(0)]
    seal: Option<u32>,
    #[n(1)]
    deps: Vec<Dep>,
    #[n(2)]
    sections: Vec<Section>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Section {
    #[n(0)]
    class: u8,
    #[n(1)]
    masked_band: u8,
    #[n(2)]
    meta: Hash,
    #[cbor(n(3), with = "minicbor::bytes")]
    key_salt: [u8; 16],
    #[n(4)]
    bytes: Bytes,
}

/// The bytes of a section, or what its author committed to.
#[derive(Encode, Decode)]
enum Bytes {
    #[n(0)]
    Missing(#[n(0)] Hash, #[n(1)] u64),
    #[n(1)]
    Sealed(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(2)]
    Opened(#[n(0)] Hash, #[n(1)] u64, #[cbor(n(2), with = "minicbor::bytes")] Vec<u8>),
}

impl Batch {
    /// The canonical encoding. What a header or a commitment says against the rest of the batch, or
    /// a header that is none, is lost by it: [`Batch::verify`] would refuse that.
    pub fn encode(&self) -> Vec<u8> {
        let mut seals = Vec::new();
        let entries = self.entries.iter().map(|entry| Entry::of(entry, &mut seals)).collect();
        let Self { device, first_seq, signature, .. } = *self;
        canonical::encode(&Travelling { device, first_seq, signature, seals, entries })
    }

    /// Reads a batch of this space, of at most [`FRAME_BYTES_MAX`] bytes. Does not verify.
    ///
    /// # Errors
    /// [`BatchError::Count`] of entries or sections, before anything is allocated for so many;
    /// [`BatchError::Decode`]; [`BatchError::Header`].
    pub fn decode(bytes: &[u8], space: &SpaceId) -> Result<Self, BatchError> {
        check_counts(bytes)?;
        let travelling: Travelling = canonical::decode(bytes, FRAME_BYTES_MAX)?;
        let Travelling { device, first_seq, signature, seals, entries: all } = travelling;
        if first_seq.checked_add(all.len() as u64).is_none() {
            let source = HeaderError::Invalid("a number beyond all numbers");
            return Err(BatchError::Header { seq: first_seq, source });
        }
        let mut entries = Vec::with_capacity(all.len());
        let mut named = Vec::new();
        for (entry, seq) in all.into_iter().zip(first_seq..) {
            let refuse = |source| BatchError::Header { seq, source };
            let seal = match entry.seal {
                None => None,
                Some(at) => {
                    let known = usize::try_from(at).ok().and_then(|at| seals.get(at)).copied();
                    let seal = known.ok_or(refuse(HeaderError::Invalid("no such seal")))?;
                    // In one order, and so in one encoding.
                    if place(&mut named, seal) != at {
                        return Err(refuse(HeaderError::Invalid("seals out of order")));
                    }
                    Some(seal)
                }
            };
            entries.push(entry.into_entry(space, device, seq, seal).map_err(refuse)?);
        }
        if named.len() != seals.len() {
            let source = HeaderError::Invalid("seals that no entry names");
            return Err(BatchError::Header { seq: first_seq, source });
        }
        Ok(Self { device, first_seq, entries, signature })
    }
}

/// Where a seal stands, if need be behind all others.
fn place(seals: &mut Vec<Seal>, seal: Seal) -> u32 {
    // Entries next to each other have one seal as a rule.
    let known = seals.iter().rposition(|known| *known == seal);
    let at = known.unwrap_or_else(|| {
        seals.push(seal);
        seals.len() - 1
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Entry {
    fn of(entry: &BatchEntry, seals: &mut Vec<Seal>) -> Self {
        let sections = entry.commitments.iter().zip(&entry.payloads);
        let sections = sections.map(|(commitment, payload)| Section::of(commitment, payload));
        let sections = sections.collect();
        let Ok(header) = Header::decode(&entry.header) else {
            return Self { seal: None, deps: Vec::new(), sections };
        };
        let Header { deps, epoch, step, .. } = header;
        let seal = (!header.space.is_zero()).then(|| place(seals, Seal { epoch, step }));
        Self { seal, deps, sections }
    }

    fn into_entry(
        self,
        space: &SpaceId,
        device: DeviceId,
        seq: u64,
        seal: Option<Seal>,
    ) -> Result<BatchEntry, HeaderError> {
        let (commitments, payloads): (Vec<_>, Vec<_>) =
            self.sections.into_iter().map(Section::into_halves).unzip();
        // Of the genesis entry, whose hash the space is.
        let none = Seal { epoch: EpochId::new([0; 32]), step: 0 };
        let space = if seal.is_some() { *space } else { SpaceId::new([0; 32]) };
        let Seal { epoch, step } = seal.unwrap_or(none);
        let header = Header {
            v: VERSION,
            space,
            device,
            seq,
            deps: self.deps,
            epoch,
            step,
            n: u32::try_from(commitments.len())
                .map_err(|_| HeaderError::Invalid("too many sections"))?,
            sections_root: sections_root(&commitments),
        };
        header.check()?;
        Ok(BatchEntry { header: header.encode(), commitments, payloads })
    }
}

impl Section {
    fn of(commitment: &SectionCommitment, payload: &Payload) -> Self {
        let SectionCommitment { class, masked_band, meta, sealed, len, key_salt } = *commitment;
        let bytes = match payload {
            Payload::Missing => Bytes::Missing(sealed, len),
            Payload::Sealed(bytes) => Bytes::Sealed(bytes.clone()),
            Payload::Opened(bytes) => Bytes::Opened(sealed, len, bytes.clone()),
        };
        Self { class, masked_band, meta, key_salt, bytes }
    }

    fn into_halves(self) -> (SectionCommitment, Payload) {
        let Self { class, masked_band, meta, key_salt, bytes } = self;
        let (sealed, len, payload) = match bytes {
            Bytes::Missing(sealed, len) => (sealed, len, Payload::Missing),
            Bytes::Sealed(bytes) => {
                (sealed_digest(&bytes), bytes.len() as u64, Payload::Sealed(bytes))
            }
            Bytes::Opened(sealed, len, bytes) => (sealed, len, Payload::Opened(bytes)),
        };
        (SectionCommitment { class, masked_band, meta, sealed, len, key_salt }, payload)
    }
}

/// Counted first, because an entry of four bytes becomes many times as large in memory.
fn check_counts(bytes: &[u8]) -> Result<(), BatchError> {
    let malformed = |e: minicbor::decode::Error| {
        BatchError::Decode(canonical::DecodeError::Malformed(e.to_string()))
    };
    let mut decoder = Decoder::new(bytes);
    // `Err` inside: so many that it is too many.
    let mut count = || {
        let array_of = |decoder: &mut Decoder<'_>, max: usize| {
            let count = decoder.array()?.and_then(|count| usize::try_from(count).ok());
            let count = count.unwrap_or(usize::MAX);
            Ok(if count > max { Err(count) } else { Ok(count) })
        };
        decoder.array()?;
        for _ in 0..4 {
            decoder.skip()?;
        }
        let entries = match array_of(&mut decoder, BATCH_ENTRIES_MAX)? {
            Ok(entries) => entries,
            Err(count) => return Ok(Err(count)),
        };
        for _ in 0..entries {
            decoder.array()?;
            decoder.skip()?;
            decoder.skip()?;
            match array_of(&mut decoder, SECTIONS_MAX)? {
                Ok(sections) => (0..sections).try_for_each(|_| decoder.skip())?,
                Err(count) => return Ok(Err(count)),
            }
        }
        Ok(Ok(()))
    };
    count().map_err(malformed)?.map_err(BatchError::Count)
}
