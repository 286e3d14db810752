//! Adding a blob: cut, sealed and staged part by part, then its manifest.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};

use fastcdc::v2020::{Normalization, StreamCDC};
use larder_crypto::Secret;
use larder_log::blob::{Chunk, Manifest, chunk_digest, fingerprint, seal_chunk};
use larder_log::{Band, Class, kind};
use larder_store::space::blobs::{self as table, NewChunk};
use larder_types::limits::{
    BLOB_BYTES_MAX, BLOB_CHUNK_BYTES_MAX, BLOB_CHUNK_BYTES_MEAN, BLOB_CHUNK_BYTES_MIN,
    BLOB_STAGED_BYTES_TARGET,
};
use larder_types::{CorrelationId, Entropy, Hash};
use rusqlite::Connection;

use super::{BlobInfo, info, insert, unknown};
use crate::commit::{Appended, Draft};
use crate::rows::Origin;
use crate::space::Space;
use crate::state::State;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// What an app says of a blob that it adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// What it is: `image/png` (RFC 6838). 1 to 128 bytes.
    pub media_type: String,
    /// What it is called, at most 255 bytes.
    pub name: Option<String>,
    /// How sensitive it is: as the documents that are to name it. None: as the space's documents
    /// are if nobody says.
    pub band: Option<Band>,
}

/// How long the chunks are that a blob is cut into, but for the last, in bytes: what the limits say
/// unless told otherwise. Whoever fetches a blob takes chunks of any size up to
/// [`BLOB_CHUNK_BYTES_MAX`], so it is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBytes {
    /// At least so many; 64 or more.
    pub min: usize,
    /// On average; 256 or more.
    pub mean: usize,
    /// At most; 1024 or more.
    pub max: usize,
}

impl Default for ChunkBytes {
    fn default() -> Self {
        let (min, mean) = (BLOB_CHUNK_BYTES_MIN, BLOB_CHUNK_BYTES_MEAN);
        Self { min, mean, max: BLOB_CHUNK_BYTES_MAX }
    }
}

/// A blob that is being read. Dropped before its manifest is committed, what was staged of it is
/// removed by [`SpaceWriter::unstage`], or when the space is opened next.
///
/// Memory: one chunk before it is cut, and what [`BlobAdding::part`] returns.
pub struct BlobAdding<R: Read> {
    space: Space,
    about: NewBlob,
    band: Band,
    cutter: StreamCDC<Source<R>>,
    entropy: Box<dyn Entropy>,
    chunks: Vec<Chunk>,
    /// What was sealed for this blob, by its content.
    sealed: HashMap<Hash, usize>,
    bytes: u64,
}

/// A blob that was read to its end, and all of whose chunks are to be held here.
#[derive(Debug)]
pub struct NewManifest {
    manifest: Manifest,
    band: Band,
    staged: Vec<Hash>,
}

impl NewManifest {
    /// The chunks that were staged for it.
    pub fn staged(&self) -> &[Hash] {
        &self.staged
    }
}

impl Space {
    /// Begins to read a blob. Call [`BlobAdding::part`] and hand what it returns to
    /// [`SpaceWriter::stage`] until there is no more, then commit [`BlobAdding::finish`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a media type or name that is empty or too long.
    pub fn add_blob<R: Read>(&self, reader: R, about: NewBlob) -> Result<BlobAdding<R>> {
        // Refused before much is read.
        manifest(about.clone(), Vec::new())?;
        let published = self.shared.published()?;
        let most = self.sight.up_to();
        let clearance = published.clearance.ok_or(Error::Auditor)?.min(most);
        let usual = published.default_band().min(most);
        let band = self.shared.written(about.band)?.unwrap_or(usual);
        if band > clearance {
            return Err(Error::NotCleared { band, clearance });
        }
        let seed = published.keyring.control().blob_cut();
        let ChunkBytes { min, mean, max } = self.shared.profile.chunk_bytes;
        let cutter = StreamCDC::with_level_and_seed(
            Source(reader),
            min,
            mean,
            max.min(BLOB_CHUNK_BYTES_MAX),
            Normalization::Level2,
            seed,
        );
        Ok(BlobAdding {
            space: self.clone(),
            about,
            band,
            cutter,
            entropy: self.shared.env.entropy(),
            chunks: Vec::new(),
            sealed: HashMap::new(),
            bytes: 0,
        })
    }
}

impl<R: Read> BlobAdding<R> {
    /// Reads on until a few MiB are sealed that are not held here yet. Empty: the end.
    ///
    /// # Errors
    /// [`Error::Io`] as the reader has it; [`Error::Invalid`] for more bytes than a blob may have;
    /// the storage's errors.
    pub fn part(&mut self) -> Result<Vec<NewChunk>> {
        let mut part = Vec::new();
        let mut bytes = 0;
        while bytes < BLOB_STAGED_BYTES_TARGET {
            let Some(read) = self.cutter.next() else { break };
            let plain = read.map_err(|e| Error::Io { path: self.place(), source: e.into() })?.data;
            self.bytes = self.bytes.saturating_add(plain.len() as u64);
            if self.bytes > BLOB_BYTES_MAX {
                let message = format!("a blob may have {BLOB_BYTES_MAX} bytes, and this has more");
                return Err(Error::Invalid(message));
            }
            if let Some(new) = self.take(&plain)? {
                bytes += new.sealed.len();
                part.push(new);
            }
        }
        Ok(part)
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was sealed so far.
    pub fn staged(&self) -> Vec<Hash> {
        let digest = |at: &usize| self.chunks.get(*at).map(|chunk| chunk.digest);
        self.sealed.values().filter_map(digest).collect()
    }

    /// The manifest of what was read.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond a limit of the format.
    pub fn finish(self) -> Result<NewManifest> {
        let staged = self.staged();
        Ok(NewManifest { manifest: manifest(self.about, self.chunks)?, band: self.band, staged })
    }

    /// The next chunk; sealed, unless its content is held already.
    fn take(&mut self, plain: &[u8]) -> Result<Option<NewChunk>> {
        let len = u32::try_from(plain.len())
            .map_err(|_| Error::Internal("a chunk is larger than the cutter was told".into()))?;
        let opened = fingerprint(plain);
        if let Some(chunk) = self.sealed.get(&opened).and_then(|at| self.chunks.get(*at)) {
            let chunk = chunk.clone();
            self.chunks.push(chunk);
            return Ok(None);
        }
        let known = table::known(&*self.space.shared.pool.reader()?, &opened, self.band)?;
        if let Some((digest, key)) = known {
            self.chunks.push(Chunk { len, digest, key });
            return Ok(None);
        }
        let key = Secret::random(&mut *self.entropy);
        let sealed = seal_chunk(&key, plain);
        let digest = chunk_digest(&sealed);
        self.sealed.insert(opened, self.chunks.len());
        self.chunks.push(Chunk { len, digest, key: key.clone() });
        Ok(Some(NewChunk { digest, sealed, opened: Some((opened, key)) }))
    }

    fn place(&self) -> std::path::PathBuf {
        self.about.name.clone().unwrap_or_else(|| "a blob".into()).into()
    }
}

fn manifest(about: NewBlob, chunks: Vec<Chunk>) -> Result<Manifest> {
    Manifest::new(about.media_type, about.name, chunks)
        .map_err(|e| Error::Invalid(format!("the blob cannot be added: {e}")))
}

impl SpaceWriter {
    /// Keeps chunks of a blob that is being added. No blob has them yet.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn stage(&mut self, chunks: &[NewChunk]) -> Result<()> {
        self.transact(|tx, _| {
            for chunk in chunks {
                table::put_chunk(tx, chunk, true)?;
            }
            Ok(())
        })
    }

    /// Removes what was staged for a blob that comes to nothing.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn unstage(&mut self, digests: &[Hash]) -> Result<()> {
        if digests.is_empty() {
            return Ok(());
        }
        self.record(|tx, _| Ok(table::unstage(tx, Some(digests)).map(drop)?))
    }

    /// Removes what a crash left staged. Only while nothing is being added.
    pub(crate) fn sweep_staged(&mut self) -> Result<()> {
        let db = self.connection()?;
        let left = table::has_staged(&db)?;
        self.db = Some(db);
        if left { self.record(|tx, _| Ok(table::unstage(tx, None).map(drop)?)) } else { Ok(()) }
    }

    /// Appends a blob's manifest to the log; from here on there is such a blob. The same content,
    /// added where it is held under the same name, is the same blob, and is not added twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] if chunks that it shares with another blob were removed meanwhile;
    /// [`Error::NotYetEnrolled`], [`Error::ShutOut`], [`Error::MayNotWrite`]; the storage's errors.
    /// What was staged is still there then.
    pub fn commit_blob(&mut self, new: &NewManifest) -> Result<BlobInfo> {
        let manifest = &new.manifest;
        let body = manifest.encode();
        let id = Manifest::id(&body);
        self.transact(|tx, state| {
            let found = table::find(tx, &id)?;
            if let Some(row) = found.filter(|row| row.missing == 0 && row.band <= new.band) {
                table::lease(tx, &id)?;
                return info(&state.shared, tx, row);
            }
            for chunk in &manifest.chunks {
                if !table::holds(tx, &chunk.digest)? {
                    let message = "what this blob shares with another one was removed while it \
                                   was added: add it again";
                    return Err(Error::Invalid(message.into()));
                }
            }
            state.check_may_write()?;
            state.check_cleared(new.band)?;
            state.ensure_epoch(tx)?;
            let origin = state.append_manifest(tx, body, new.band, None, None)?;
            state.sign(tx)?;
            insert(tx, &origin, &id, manifest)?;
            table::lease(tx, &id)?;
            let row = table::find(tx, &id)?.ok_or_else(|| unknown(&id))?;
            info(&state.shared, tx, row)
        })
    }
}

impl State {
    /// Appends the entry that holds a blob's manifest. No checkpoint covers it yet.
    pub(crate) fn append_manifest(
        &mut self,
        db: &Connection,
        body: Vec<u8>,
        band: Band,
        actor: Option<&str>,
        correlation: Option<CorrelationId>,
    ) -> Result<Origin> {
        let draft = Draft {
            kind: kind::BLOB,
            class: Class::Data,
            collection: None,
            object: None,
            generation: None,
            body,
            band,
            personal: None,
        };
        let Appended { seq, hash: entry, .. } = self.append(db, &[&draft], actor, correlation)?;
        let (log, device, clock) = (self.log, self.device(), self.clock);
        Ok(Origin { log, device, seq, index: 0, entry, clock, band })
    }
}

/// A reader whose signals do not interrupt it.
struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
