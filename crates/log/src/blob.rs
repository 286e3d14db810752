//! Blobs: a manifest that travels in the log, and sealed chunks that travel beside it.
//!
//! Invariants: each chunk is sealed under a random key of its own, used once, which stands in the
//! manifest and nowhere else on the wire; a blob's id is the hash of its manifest, and the manifest
//! names each chunk by the digest of its sealed bytes, in order: so whoever knows an id can tell
//! the content from any other, and whoever has sealed bytes can check them without a key.

use larder_crypto::hash::sha256;
use larder_crypto::{SUITE, Secret, aead};
use larder_types::limits::{
    BLOB_BYTES_MAX, BLOB_CHUNK_BYTES_MAX, BLOB_CHUNKS_MAX, BLOB_MEDIA_TYPE_BYTES_MAX,
    BLOB_NAME_BYTES_MAX, SECTION_BYTES_MAX,
};
use larder_types::{BlobId, Hash, canonical};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::error::BlobError;
use crate::header::VERSION;
use crate::labels;
use crate::section::padme;

/// What a blob is made of.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct Manifest {
    #[n(0)]
    v: u8,
    #[n(1)]
    suite: u16,
    /// How many bytes it has.
    #[n(2)]
    pub size: u64,
    /// What they are, as the app says (RFC 6838).
    #[n(3)]
    pub media_type: String,
    /// What it was called where it came from.
    #[n(4)]
    pub name: Option<String>,
    /// Its chunks, from first to last; none of an empty blob.
    #[n(5)]
    pub chunks: Vec<Chunk>,
}

/// One chunk of a blob.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct Chunk {
    /// How many bytes of the blob it holds.
    #[n(0)]
    pub len: u32,
    /// [`chunk_digest`] of its sealed bytes.
    #[n(1)]
    pub digest: Hash,
    /// What it is sealed under.
    #[cbor(n(2), with = "secret")]
    pub key: Secret<32>,
}

impl Manifest {
    /// A manifest of these chunks.
    ///
    /// # Errors
    /// [`BlobError::Invalid`] beyond a limit of the format.
    pub fn new(
        media_type: String,
        name: Option<String>,
        chunks: Vec<Chunk>,
    ) -> Result<Self, BlobError> {
        let size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        let manifest = Self { v: VERSION, suite: SUITE, size, media_type, name, chunks };
        manifest.check()?;
        Ok(manifest)
    }

    /// Its bytes: the body of a section of kind [`crate::kind::BLOB`].
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BlobError> {
        let manifest: Self = canonical::decode(bytes, SECTION_BYTES_MAX)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The id of the blob with this encoded manifest.
    pub fn id(bytes: &[u8]) -> BlobId {
        sha256(&[labels::BLOB_ID, bytes]).into()
    }

    fn check(&self) -> Result<(), BlobError> {
        if (self.v, self.suite) != (VERSION, SUITE) {
            return Err(BlobError::Newer { v: self.v, suite: self.suite });
        }
        let is_bad = |text: &str, max| text.is_empty() || text.len() > max;
        if is_bad(&self.media_type, BLOB_MEDIA_TYPE_BYTES_MAX) {
            return Err(BlobError::Invalid("its media type is empty or too long"));
        }
        if self.name.as_ref().is_some_and(|name| is_bad(name, BLOB_NAME_BYTES_MAX)) {
            return Err(BlobError::Invalid("its name is empty or too long"));
        }
        if self.chunks.len() > BLOB_CHUNKS_MAX || self.size > BLOB_BYTES_MAX {
            return Err(BlobError::Invalid("it is too large"));
        }
        let mut size = 0;
        for chunk in &self.chunks {
            let len = usize::try_from(chunk.len).unwrap_or(usize::MAX);
            if len == 0 || len > BLOB_CHUNK_BYTES_MAX {
                return Err(BlobError::Invalid("a chunk is empty or too large"));
            }
            size += u64::from(chunk.len);
        }
        if size == self.size { Ok(()) } else { Err(BlobError::Invalid("its sizes do not add up")) }
    }
}

/// Seals up to [`BLOB_CHUNK_BYTES_MAX`] bytes under a key that is used this once: zeros up to the
/// Padmé length, then AES-256-GCM with a zero nonce.
pub fn seal_chunk(key: &Secret<32>, plain: &[u8]) -> Vec<u8> {
    let mut padded = Zeroizing::new(Vec::with_capacity(padme(plain.len())));
    padded.extend_from_slice(plain);
    padded.resize(padme(plain.len()), 0);
    aead::seal_section(key, labels::BLOB_AD, &padded)
}

/// Opens a sealed chunk.
///
/// # Errors
/// [`BlobError::DoesNotOpen`] for anything but what [`seal_chunk`] makes of `chunk.len` bytes.
pub fn open_chunk(chunk: &Chunk, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BlobError> {
    let len = usize::try_from(chunk.len).unwrap_or(usize::MAX);
    if len > BLOB_CHUNK_BYTES_MAX || sealed.len() != padme(len) + aead::TAG_BYTES {
        return Err(BlobError::DoesNotOpen);
    }
    let mut plain = aead::open_section(&chunk.key, labels::BLOB_AD, sealed, BLOB_CHUNK_BYTES_MAX)
        .map_err(|_| BlobError::DoesNotOpen)?;
    if plain.iter().skip(len).any(|byte| *byte != 0) {
        return Err(BlobError::DoesNotOpen);
    }
    plain.truncate(len);
    Ok(plain)
}

/// What names a sealed chunk.
pub fn chunk_digest(sealed: &[u8]) -> Hash {
    sha256(&[labels::BLOB_CHUNK, sealed])
}

/// What names an opened chunk on its own device, so that it is not sealed and kept twice.
pub fn fingerprint(plain: &[u8]) -> Hash {
    sha256(&[labels::BLOB_PLAIN, plain])
}

/// The most bytes that a sealed chunk has.
pub const CHUNK_SEALED_BYTES_MAX: usize = BLOB_CHUNK_BYTES_MAX + aead::TAG_BYTES;

mod secret {
    use larder_crypto::Secret;
    use minicbor::bytes::ByteArray;
    use minicbor::encode::Write;
    use minicbor::{Decode, Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        secret: &Secret<32>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(secret.expose())?.ok()
    }

    pub(super) fn decode<C>(
        d: &mut Decoder<'_>,
        ctx: &mut C,
    ) -> Result<Secret<32>, minicbor::decode::Error> {
        let bytes: ByteArray<32> = Decode::decode(d, ctx)?;
        Ok(Secret::new(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(len: u32) -> Chunk {
        Chunk { len, digest: Hash::new([2; 32]), key: Secret::new([3; 32]) }
    }

    fn manifest(chunks: Vec<Chunk>) -> Result<Manifest, BlobError> {
        Manifest::new("image/png".into(), Some("a.png".into()), chunks)
    }

    #[test]
    fn a_manifest_is_what_it_was_and_has_one_id() {
        let encoded = manifest(vec![chunk(5), chunk(1 << 20)]).unwrap().encode();
        let decoded = Manifest::decode(&encoded).unwrap();
        assert_eq!(decoded.encode(), encoded);
        assert_eq!((decoded.size, decoded.chunks.len()), (5 + (1 << 20), 2));
        let other = manifest(vec![chunk(1 << 20), chunk(5)]).unwrap().encode();
        assert_ne!(Manifest::id(&encoded), Manifest::id(&other), "the order counts");
        assert!(!format!("{decoded:?}").contains("3, 3"), "keys are not printed");
    }

    #[test]
    fn what_no_manifest_may_say_is_refused() {
        for chunks in [vec![chunk(0)], vec![chunk((1 << 20) + 1)], vec![chunk(1); (128 << 10) + 1]]
        {
            assert!(matches!(manifest(chunks), Err(BlobError::Invalid(_))));
        }
        for (media_type, name) in [
            (String::new(), None),
            ("x".repeat(129), None),
            ("image/png".into(), Some(String::new())),
            ("image/png".into(), Some("x".repeat(256))),
        ] {
            assert!(matches!(
                Manifest::new(media_type, name, Vec::new()),
                Err(BlobError::Invalid(_))
            ));
        }
        let mut lies = manifest(vec![chunk(5)]).unwrap();
        lies.size = 6;
        assert!(matches!(Manifest::decode(&lies.encode()), Err(BlobError::Invalid(_))));
        lies.v = 1;
        assert!(matches!(Manifest::decode(&lies.encode()), Err(BlobError::Newer { v: 1, .. })));
        assert!(matches!(Manifest::decode(b"hello"), Err(BlobError::Decode(_))));
        assert!(manifest(Vec::new()).unwrap().size == 0, "an empty blob is one");
    }

    #[test]
    fn the_largest_manifest_fits_into_a_section() {
        let largest = manifest(vec![chunk(1 << 17); 128 << 10]).unwrap();
        assert_eq!(largest.size, BLOB_BYTES_MAX);
        assert!(largest.encode().len() + (64 << 10) < SECTION_BYTES_MAX);
    }

    #[test]
    fn a_chunk_opens_only_as_the_manifest_says() {
        for len in [1_u32, 2, 100, (1 << 20) - 1, 1 << 20] {
            let plain = vec![7; len as usize];
            let mut chunk = chunk(len);
            let sealed = seal_chunk(&chunk.key, &plain);
            assert!(sealed.len() <= CHUNK_SEALED_BYTES_MAX);
            assert_eq!(*open_chunk(&chunk, &sealed).unwrap(), plain);
            chunk.len -= 1;
            assert!(open_chunk(&chunk, &sealed).is_err(), "its last byte is no padding");
            chunk.len += 1;
            let mut bent = sealed.clone();
            bent[0] ^= 1;
            assert_ne!(chunk_digest(&bent), chunk_digest(&sealed));
            assert!(open_chunk(&chunk, &bent).is_err());
            assert!(open_chunk(&chunk, &[]).is_err());
            chunk.key = Secret::new([4; 32]);
            assert!(open_chunk(&chunk, &sealed).is_err());
        }
    }
}
