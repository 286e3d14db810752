use std::cell::RefCell;
use std::io::Read;

use larder_crypto::hash::sha256;
use larder_crypto::kdf::hkdf_sha256;
use larder_crypto::{Secret, aead};
pub use larder_types::limits::SECTION_SEALED_BYTES_MAX as SEALED_BYTES_MAX;
use larder_types::limits::{SECTION_BYTES_MAX, SECTION_RATIO_MAX};
use larder_types::{DeviceId, Entropy, EpochId, Hash, SpaceId, canonical};
use zeroize::Zeroizing;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::epoch::ControlSecret;
use crate::error::SectionError;
use crate::metadata::Opened;
use crate::{labels, merkle};

const ZSTD_LEVEL: i32 = 3;
/// 16 MiB: larger than any window that [`SECTION_BYTES_MAX`] bytes need.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;
const LENGTH_BYTES: usize = 4;

/// What a section is to those who cannot open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Content, sealed under an epoch's secrets.
    Data = 0,
    /// An act, sealed under the space's control secret.
    Control = 1,
}

impl Class {
    /// The class with this number; none for one that this version does not know.
    pub const fn from_u8(class: u8) -> Option<Self> {
        match class {
            0 => Some(Self::Data),
            1 => Some(Self::Control),
            _ => None,
        }
    }
}

/// How sensitive an object is; a device is cleared up to one of these.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Band {
    /// For every device of the space.
    #[n(0)]
    Green = 0,
    /// For devices cleared for it.
    #[n(1)]
    Amber = 1,
    /// For the few devices cleared for it.
    #[n(2)]
    Red = 2,
    /// Never leaves its device.
    #[n(3)]
    Black = 3,
}

impl std::fmt::Display for Band {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Green => "GREEN",
            Self::Amber => "AMBER",
            Self::Red => "RED",
            Self::Black => "BLACK",
        })
    }
}

impl Band {
    /// The bands that have secrets, lowest first.
    pub const SHARED: [Self; 3] = [Self::Green, Self::Amber, Self::Red];

    /// The band with this number.
    pub const fn from_u8(band: u8) -> Option<Self> {
        match band {
            0 => Some(Self::Green),
            1 => Some(Self::Amber),
            2 => Some(Self::Red),
            3 => Some(Self::Black),
            _ => None,
        }
    }

    /// The next lower band.
    pub const fn lower(self) -> Option<Self> {
        match self {
            Self::Green => None,
            Self::Amber => Some(Self::Green),
            Self::Red => Some(Self::Amber),
            Self::Black => Some(Self::Red),
        }
    }
}

/// The public half of a section: a leaf of its entry's section tree, about 110 bytes.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct SectionCommitment {
    /// See [`Class`]; others are kept as they are.
    #[n(0)]
    pub class: u8,
    /// The band, masked by [`ControlSecret::mask`].
    #[n(1)]
    pub masked_band: u8,
    /// [`Opened::meta_commitment`].
    #[n(2)]
    pub meta: Hash,
    /// The digest of the sealed bytes.
    #[n(3)]
    pub sealed: Hash,
    /// How many sealed bytes there are.
    #[n(4)]
    pub len: u64,
    /// The salt of the section's key.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub key_salt: [u8; 16],
}

impl SectionCommitment {
    /// The leaf of the section tree.
    pub fn leaf(&self) -> Hash {
        merkle::leaf_hash(&canonical::encode(self))
    }

    /// The band, for who has the control secret.
    ///
    /// # Errors
    /// [`SectionError::UnknownBand`].
    pub fn band(&self, control: &ControlSecret) -> Result<Band, SectionError> {
        let band = self.masked_band ^ control.mask(&self.key_salt);
        Band::from_u8(band).ok_or(SectionError::UnknownBand(band))
    }

    /// Whether `sealed` are the bytes that the author committed to.
    pub fn is_of(&self, sealed: &[u8]) -> bool {
        u64::try_from(sealed.len()) == Ok(self.len) && sealed_digest(sealed) == self.sealed
    }

    /// How many bytes the section may have opened.
    fn opened_bytes_max(&self) -> usize {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        len.saturating_mul(SECTION_RATIO_MAX).min(SECTION_BYTES_MAX)
    }
}

/// The root of the tree over an entry's section commitments.
pub fn sections_root(commitments: &[SectionCommitment]) -> Hash {
    let leaves: Vec<Hash> = commitments.iter().map(SectionCommitment::leaf).collect();
    merkle::root_of(&leaves)
}

/// Where a section stands. Bound into its key and its encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The header's `space`, so zero in a genesis entry.
    pub space: SpaceId,
    /// The author.
    pub device: DeviceId,
    /// The entry.
    pub seq: u64,
    /// The section in the entry, from 0.
    pub index: u32,
    /// The header's epoch.
    pub epoch: EpochId,
    /// The header's step.
    pub step: u32,
    /// The section's band; GREEN for CONTROL sections.
    pub band: Band,
}

impl Address {
    fn place(&self, label: &[u8]) -> Vec<u8> {
        [
            label,
            self.space.as_bytes(),
            self.device.as_bytes(),
            &self.seq.to_be_bytes(),
            &self.index.to_be_bytes(),
        ]
        .concat()
    }

    fn key(&self, secret: &Secret<32>, key_salt: &[u8; 16]) -> Secret<32> {
        hkdf_sha256(secret.expose(), key_salt, &self.place(labels::SECTION_KEY))
    }

    fn associated_data(&self, meta: &Hash) -> Vec<u8> {
        let mut data = self.place(labels::SECTION_AD);
        data.extend_from_slice(self.epoch.as_bytes());
        data.extend_from_slice(&self.step.to_be_bytes());
        data.push(self.band as u8);
        data.extend_from_slice(meta.as_bytes());
        data
    }
}

/// Seals a section for `address` under the band's secret at the address's step (DATA) or under
/// [`ControlSecret::section_secret`] (CONTROL): encoded, compressed, padded, encrypted.
///
/// # Errors
/// [`SectionError::TooLarge`]; [`SectionError::Malformed`] for metadata no reader would accept.
pub fn seal_section(
    entropy: &mut dyn Entropy,
    address: &Address,
    secret: &Secret<32>,
    class: Class,
    mask_secret: &ControlSecret,
    opened: &Opened,
) -> Result<(SectionCommitment, Vec<u8>), SectionError> {
    let plain = Zeroizing::new(opened.encode());
    if plain.len() > SECTION_BYTES_MAX {
        return Err(SectionError::TooLarge { len: plain.len(), max: SECTION_BYTES_MAX });
    }
    opened.check()?;
    let padded = compress_and_pad(&plain)?;
    let mut key_salt = [0; 16];
    entropy.fill(&mut key_salt);
    let meta = opened.meta_commitment();
    let key = address.key(secret, &key_salt);
    let sealed = aead::seal_section(&key, &address.associated_data(&meta), &padded);
    let commitment = SectionCommitment {
        class: class as u8,
        masked_band: address.band as u8 ^ mask_secret.mask(&key_salt),
        meta,
        sealed: sealed_digest(&sealed),
        len: sealed.len() as u64,
        key_salt,
    };
    Ok((commitment, sealed))
}

/// Opens a section and checks it against everything its author committed to.
///
/// AES-GCM does not commit to its key, so that it opened proves nothing yet: metadata and body
/// must be those of `commitment`.
///
/// # Errors
/// [`SectionError`]; the section is then void.
pub fn open_section(
    address: &Address,
    secret: &Secret<32>,
    commitment: &SectionCommitment,
    sealed: &[u8],
) -> Result<Opened, SectionError> {
    let padded = decrypt(address, secret, commitment, sealed)?;
    commitment.decode(&unpad_and_decompress(&padded)?.1)
}

/// [`open_section`], and the section as [`pack`] would give it: the frame that its author sealed.
///
/// # Errors
/// As [`open_section`].
pub fn carry_section(
    address: &Address,
    secret: &Secret<32>,
    commitment: &SectionCommitment,
    sealed: &[u8],
) -> Result<Vec<u8>, SectionError> {
    let padded = decrypt(address, secret, commitment, sealed)?;
    let (frame, plain) = unpad_and_decompress(&padded)?;
    commitment.decode(&plain)?;
    Ok(frame.to_vec())
}

/// Opens what another device carried, as [`pack`] gave it, and checks it as [`open_section`] does.
///
/// # Errors
/// [`SectionError`]; it is not what the section's author committed to then.
pub fn open_carried(commitment: &SectionCommitment, packed: &[u8]) -> Result<Opened, SectionError> {
    let plain = decompress(packed, commitment.opened_bytes_max()).map_err(|e| zstd_failed(&e))?;
    commitment.decode(&plain)
}

fn decrypt(
    address: &Address,
    secret: &Secret<32>,
    commitment: &SectionCommitment,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SectionError> {
    if !commitment.is_of(sealed) {
        return Err(SectionError::NotCommitted);
    }
    let key = address.key(secret, &commitment.key_salt);
    let data = address.associated_data(&commitment.meta);
    aead::open_section(&key, &data, sealed, SEALED_BYTES_MAX).map_err(|_| SectionError::DoesNotOpen)
}

impl SectionCommitment {
    /// Reads an opened section that has to be this one.
    fn decode(&self, plain: &[u8]) -> Result<Opened, SectionError> {
        let opened = Opened::decode(plain)?;
        if opened.matches(self) { Ok(opened) } else { Err(SectionError::Mismatch) }
    }
}

fn zstd_failed(error: &std::io::Error) -> SectionError {
    SectionError::Malformed(format!("zstd: {error}"))
}

/// Seals an opened section as its author did, if `opened` is what the author sealed: sealing takes
/// no other chance than the key's salt, which is public. None if these are not the bytes of
/// `commitment`: the author sealed something else, or compressed it otherwise than this version.
pub fn reseal_section(
    address: &Address,
    secret: &Secret<32>,
    commitment: &SectionCommitment,
    opened: &Opened,
) -> Option<Vec<u8>> {
    let padded = compress_and_pad(&Zeroizing::new(opened.encode())).ok()?;
    let key = address.key(secret, &commitment.key_salt);
    let data = address.associated_data(&commitment.meta);
    let sealed = aead::seal_section(&key, &data, &padded);
    (opened.matches(commitment) && commitment.is_of(&sealed)).then_some(sealed)
}

pub(crate) fn sealed_digest(sealed: &[u8]) -> Hash {
    sha256(&[labels::SEALED, sealed])
}

/// An opened section as it is carried and kept: one zstd frame, so that an entry takes no more room
/// opened than sealed.
///
/// # Errors
/// [`SectionError::Malformed`] if compression fails.
pub fn pack(opened: &Opened) -> Result<Vec<u8>, SectionError> {
    let plain = Zeroizing::new(opened.encode());
    compress(&plain).map_err(|e| zstd_failed(&e))
}

/// Undoes [`pack`], within the bounds of a section.
///
/// # Errors
/// [`SectionError::Malformed`] for anything else than one frame around one canonical section.
pub fn unpack(packed: &[u8]) -> Result<Opened, SectionError> {
    let plain = decompress(packed, SECTION_BYTES_MAX).map_err(|e| zstd_failed(&e))?;
    Opened::decode(&plain)
}

/// Compressed length (u32, big-endian) ‖ one zstd frame ‖ zeros up to [`padded_len`].
fn compress_and_pad(plain: &[u8]) -> Result<Zeroizing<Vec<u8>>, SectionError> {
    let frame = Zeroizing::new(compress(plain).map_err(|e| zstd_failed(&e))?);
    let len = u32::try_from(frame.len())
        .map_err(|_| SectionError::TooLarge { len: frame.len(), max: SECTION_BYTES_MAX })?;
    let padded_len = padded_len(frame.len(), plain.len());
    let mut padded = Zeroizing::new(Vec::with_capacity(padded_len));
    padded.extend_from_slice(&len.to_be_bytes());
    padded.extend_from_slice(&frame);
    padded.resize(padded_len, 0);
    Ok(padded)
}

/// The Padmé length of what is there, or of as much as the plain bytes need to be within the bound
/// on how far they were compressed: then what a batch holds opened is bounded by its own length.
fn padded_len(frame_len: usize, plain_len: usize) -> usize {
    padme((LENGTH_BYTES + frame_len).max(plain_len / SECTION_RATIO_MAX))
}

thread_local! {
    /// Making a context costs more than compressing a small section in it. It is kept for small
    /// ones only, since it stays as large as the largest has made it.
    static SMALL: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// The same for the way back, where it stays as it is.
    static DECODER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

const SMALL_BYTES: usize = 32 << 10;

/// One zstd frame. The same bytes whichever context they are made in.
pub(crate) fn compress(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    if plain.len() > SMALL_BYTES {
        return zstd::bulk::compress(plain, ZSTD_LEVEL);
    }
    SMALL.with_borrow_mut(|kept| {
        let mut context = match kept.take() {
            Some(context) => context,
            None => Compressor::new(ZSTD_LEVEL)?,
        };
        let frame = context.compress(plain)?;
        *kept = Some(context);
        Ok(frame)
    })
}

/// What follows decryption, for the fuzzer, which cannot make an authentic section of any bytes.
///
/// # Errors
/// As [`open_section`].
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn open_padded(padded: &[u8]) -> Result<Opened, SectionError> {
    Opened::decode(&unpad_and_decompress(padded)?.1)
}

/// The frame, and what is in it.
fn unpad_and_decompress(padded: &[u8]) -> Result<(&[u8], Zeroizing<Vec<u8>>), SectionError> {
    let malformed = |reason: &str| SectionError::Malformed(reason.to_owned());
    let (len, rest) =
        padded.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| malformed("no length"))?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| malformed("length"))?;
    let (frame, padding) =
        rest.split_at_checked(len).ok_or_else(|| malformed("longer than itself"))?;
    let bytes_max = padded.len().saturating_add(1).saturating_mul(SECTION_RATIO_MAX);
    let plain = decompress(frame, bytes_max.min(SECTION_BYTES_MAX)).map_err(|e| zstd_failed(&e))?;
    if padded.len() != padded_len(len, plain.len()) || padding.iter().any(|byte| *byte != 0) {
        return Err(malformed("padding"));
    }
    Ok((frame, plain))
}

/// One frame, whole, of at most `bytes_max` bytes. Whatever size the frame claims, only what it
/// really holds is allocated.
pub(crate) fn decompress(frame: &[u8], bytes_max: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    if let Ok(Some(claimed)) = zstd_safe::get_frame_content_size(frame)
        && let Some(len) = usize::try_from(claimed).ok().filter(|len| *len <= SMALL_BYTES)
    {
        return decompress_small(frame, len, bytes_max);
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frame)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    let mut plain = Zeroizing::new(Vec::new());
    let mut block = Zeroizing::new([0; 16 << 10]);
    loop {
        let read = decoder.read(&mut *block)?;
        let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
        if plain.len() + read > bytes_max {
            return Err(std::io::Error::other("more bytes than there may be"));
        }
        plain.extend_from_slice(part);
    }
    if decoder.finish().is_empty() {
        Ok(plain)
    } else {
        Err(std::io::Error::other("bytes after the frame"))
    }
}

/// A frame that claims to hold `len` bytes.
fn decompress_small(
    frame: &[u8],
    len: usize,
    bytes_max: usize,
) -> std::io::Result<Zeroizing<Vec<u8>>> {
    if len > bytes_max {
        return Err(std::io::Error::other("more bytes than there may be"));
    }
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(std::io::Error::other("not one whole frame"));
    }
    DECODER.with_borrow_mut(|kept| {
        let mut context = match kept.take() {
            Some(context) => context,
            None => Decompressor::new()?,
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(len));
        let held = context.decompress_to_buffer(frame, &mut *plain)?;
        *kept = Some(context);
        if held == len { Ok(plain) } else { Err(std::io::Error::other("of another length")) }
    })
}

/// The Padmé length: at most 12 % above `len`, and it tells O(log log len) bits about it
/// (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
/// PURBs", 2019).
pub(crate) fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let free_bits = exponent - (exponent.ilog2() + 1);
    let mask = (1 << free_bits) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests;
