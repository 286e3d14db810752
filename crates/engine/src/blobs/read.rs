//! Reading a blob, chunk by chunk.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Weak};

use larder_log::blob::open_chunk;
use larder_store::space::blobs as table;
use larder_types::BlobId;
use zeroize::Zeroizing;

use super::unknown;
use crate::space::{Shared, Space};
use crate::{Error, Result};

/// Reads a blob's content in order, or from wherever it is sought. What it yields was verified.
///
/// It keeps no space open: once the last handle of the space is gone, and with it its keys, reading
/// fails.
///
/// Memory: one chunk.
pub struct BlobReader {
    space: Weak<Shared>,
    id: BlobId,
    blob: i64,
    size: u64,
    at: u64,
    /// The chunk that was read last, and where it starts.
    chunk: Option<(u64, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("id", &self.id)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Space {
    /// A reader of a blob's content, from its beginning.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::BlobNotHere`] if it is not whole; the storage's errors.
    pub fn read_blob(&self, id: &BlobId) -> Result<BlobReader> {
        let reader = self.read_partial_blob(id)?;
        let row = table::find(&*self.shared.pool.reader()?, id)?;
        match row.map(|row| row.missing) {
            Some(0) => Ok(reader),
            Some(missing) => Err(Error::BlobNotHere { id: *id, missing }),
            None => Err(unknown(id)),
        }
    }

    /// The same for a blob that need not be whole: reading fails where a chunk is missing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Auditor`]; the storage's errors.
    pub fn read_partial_blob(&self, id: &BlobId) -> Result<BlobReader> {
        self.check_reads()?;
        let db = self.shared.pool.reader()?;
        let row = table::find(&db, id)?.filter(|row| self.sight.sees(row.band));
        let row = row.ok_or_else(|| unknown(id))?;
        let (space, blob, size) = (Arc::downgrade(&self.shared), row.blob, row.size);
        Ok(BlobReader { space, id: *id, blob, size, at: 0, chunk: None })
    }
}

impl BlobReader {
    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What of the content stands from here to the end of its chunk, and goes on behind it. Empty:
    /// the end.
    ///
    /// # Errors
    /// [`Error::BlobNotHere`]; [`Error::Invalid`] once the space is closed; [`Error::Corrupt`] if a
    /// chunk is not what the manifest says, which
    /// only the device can bring about that added it; the storage's errors.
    pub fn next_piece(&mut self) -> Result<&[u8]> {
        if self.at >= self.size {
            return Ok(&[]);
        }
        let here = |start: u64, len: usize, at: u64| {
            let offset = at.checked_sub(start).and_then(|offset| usize::try_from(offset).ok());
            offset.filter(|offset| *offset < len)
        };
        let is_loaded = self
            .chunk
            .as_ref()
            .is_some_and(|(start, plain)| here(*start, plain.len(), self.at).is_some());
        if !is_loaded {
            self.chunk = Some(self.load()?);
        }
        let Some((start, plain)) = &self.chunk else { return Ok(&[]) };
        let offset = here(*start, plain.len(), self.at).unwrap_or(plain.len());
        let piece = plain.get(offset..).unwrap_or_default();
        self.at += piece.len() as u64;
        Ok(piece)
    }

    fn load(&self) -> Result<(u64, Zeroizing<Vec<u8>>)> {
        let closed = || Error::Invalid("the space was closed: open it and the blob again".into());
        let space = self.space.upgrade().ok_or_else(closed)?;
        let found = table::chunk_at(&*space.pool.reader()?, self.blob, self.at)?;
        let Some(table::Place { start, chunk, sealed }) = found else {
            return Err(Error::Corrupt(format!("blob {} has a hole", self.id)));
        };
        let Some(sealed) = sealed else {
            let row = table::find(&*space.pool.reader()?, &self.id)?;
            let missing = row.map_or(1, |row| row.missing.max(1));
            return Err(Error::BlobNotHere { id: self.id, missing });
        };
        let plain = open_chunk(&chunk, &sealed)
            .map_err(|e| Error::Corrupt(format!("blob {}: {e}", self.id)))?;
        Ok((start, plain))
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let before = self.at;
        let piece = self.next_piece().map_err(io::Error::other)?;
        let taken = piece.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..taken), piece.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at = before + taken as u64;
        Ok(taken)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the blob's beginning");
        self.at = target.ok_or_else(before)?;
        Ok(self.at)
    }
}
