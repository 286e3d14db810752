//! Chunks from and to other devices.

use larder_log::blob::{chunk_digest, fingerprint, open_chunk};
use larder_protocol::{BlobPosition, BlobReply, BlobRequest, Keeps};
use larder_store::space::blobs::{self as table, At, NewChunk};
use larder_types::{Hash, TransportId};

use super::policy;
use crate::space::Space;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// What the reading side makes of a blob session's request.
#[derive(Debug)]
pub enum BlobAnswer {
    /// The reply to the session.
    Reply(BlobReply),
    /// The writer has to keep this ([`SpaceWriter::store_chunks`]), and then the reply is
    /// [`BlobReply::Stored`].
    Store(NewChunk),
    /// The writer may let go of this ([`SpaceWriter::release_kept`]), and then the reply is
    /// [`BlobReply::Released`].
    Release(Keeps),
}

impl Space {
    pub(crate) fn answer_blobs_to(
        &self,
        peer: &TransportId,
        request: BlobRequest,
        eager: bool,
        is_free: &mut dyn FnMut(&Hash) -> bool,
    ) -> BlobAnswer {
        let answer = match request {
            BlobRequest::ReadWanted { from, limit } => {
                self.read_wanted(from, limit, eager, is_free).map(BlobAnswer::Reply)
            }
            BlobRequest::ReadChunk { digest } => self
                .chunk_for(peer, &digest)
                .map(|sealed| BlobAnswer::Reply(BlobReply::Chunk { sealed })),
            BlobRequest::StoreChunk { digest, sealed } => {
                self.open_received(digest, sealed).map(BlobAnswer::Store)
            }
            BlobRequest::ReadHeld { digests } => self
                .held_for(peer, &digests)
                .map(|digests| BlobAnswer::Reply(BlobReply::Held { digests })),
            BlobRequest::ReadKept { from, limit } => {
                self.kept_for(peer, from, limit).map(BlobAnswer::Reply)
            }
            BlobRequest::ReadDurable { keeps } => self
                .holds_of(peer, &keeps)
                .map(|keeps| BlobAnswer::Reply(BlobReply::Confirmed { keeps })),
            BlobRequest::Release { keeps } => Ok(BlobAnswer::Release(keeps)),
        };
        answer.unwrap_or_else(|e| BlobAnswer::Reply(BlobReply::Failed { message: e.to_string() }))
    }

    fn read_wanted(
        &self,
        from: BlobPosition,
        limit: usize,
        eager: bool,
        is_free: &mut dyn FnMut(&Hash) -> bool,
    ) -> Result<BlobReply> {
        let mut at = At { blob: from.0, start: from.1 };
        loop {
            let found = self.chunks_to_ask(at, limit, eager)?;
            let is_end = found.len() < limit;
            at = found.last().map_or(at, |(behind, _)| *behind);
            let mut chunks: Vec<Hash> = found.into_iter().map(|(_, digest)| digest).collect();
            chunks.retain(|digest| is_free(digest));
            if is_end || !chunks.is_empty() {
                let next = (!is_end).then_some(BlobPosition(at.blob, at.start));
                return Ok(BlobReply::Wanted { chunks, next });
            }
        }
    }

    /// A chunk for a peer that is enrolled and may read, of a blob up to its clearance: one that
    /// was lowered since may have kept the manifest. To any other this device holds nothing.
    fn chunk_for(&self, peer: &TransportId, digest: &Hash) -> Result<Option<Vec<u8>>> {
        let Some((_, up_to)) = self.reading_peer(peer, &[])? else { return Ok(None) };
        let is_for_peer = table::is_up_to(&*self.shared.pool.reader()?, digest, up_to)?;
        if is_for_peer { self.sealed_chunk(digest) } else { Ok(None) }
    }

    /// Which of these chunks are held, for such a peer: what is held shows who has which file.
    fn held_for(&self, peer: &TransportId, digests: &[Hash]) -> Result<Vec<Hash>> {
        let Some((_, up_to)) = self.reading_peer(peer, &[])? else { return Ok(Vec::new()) };
        let held = self.held_chunks(digests)?;
        let db = self.shared.pool.reader()?;
        let mut shown = Vec::new();
        for digest in held {
            if table::is_up_to(&db, &digest, up_to)? {
                shown.push(digest);
            }
        }
        Ok(shown)
    }

    /// At most `limit` chunks that are wanted here and not held, from `from` on, each with where
    /// the walk goes on behind it.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn wanted_chunks(&self, from: At, limit: usize) -> Result<Vec<(At, Hash)>> {
        self.chunks_to_ask(from, limit, true)
    }

    fn chunks_to_ask(&self, from: At, limit: usize, eager: bool) -> Result<Vec<(At, Hash)>> {
        let db = self.shared.pool.reader()?;
        let bytes_max = if eager { policy(&db)?.eager_bytes_max } else { 0 };
        Ok(table::wanted(&db, bytes_max, from, limit)?)
    }

    /// How many chunks are held.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn held_chunk_count(&self) -> Result<u64> {
        Ok(table::held(&*self.shared.pool.reader()?)?)
    }

    /// A chunk's sealed bytes, if they are held. Damaged ones are not, and the space's state says
    /// so: who got them would take this device for a liar.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn sealed_chunk(&self, digest: &Hash) -> Result<Option<Vec<u8>>> {
        let sealed = table::sealed(&*self.shared.pool.reader()?, digest)?;
        let is_right = sealed.as_ref().is_none_or(|sealed| chunk_digest(sealed) == *digest);
        if !is_right {
            let what = "a chunk of a blob is not what its manifest says";
            self.shared.trouble.read_failed(&Error::Corrupt(what.into()));
        }
        Ok(sealed.filter(|_| is_right))
    }

    /// Which of these chunks are held.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn held_chunks(&self, digests: &[Hash]) -> Result<Vec<Hash>> {
        let db = self.shared.pool.reader()?;
        let mut held = Vec::new();
        for digest in digests {
            if table::holds(&db, digest)? {
                held.push(*digest);
            }
        }
        Ok(held)
    }

    /// A chunk that arrived, whose bytes have this digest: opened, if it opens, so that what is
    /// added here later need not be sealed again. One that does not open was sealed so by the
    /// device that added it.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn open_received(&self, digest: Hash, sealed: Vec<u8>) -> Result<NewChunk> {
        let named = table::chunk_named(&*self.shared.pool.reader()?, &digest)?;
        let opened = named.and_then(|chunk| {
            let plain = open_chunk(&chunk, &sealed).ok()?;
            Some((fingerprint(&plain), chunk.key))
        });
        Ok(NewChunk { digest, sealed, opened })
    }
}

impl SpaceWriter {
    /// Keeps chunks that arrived, in one transaction, and returns how many are new. What no blob
    /// has is passed over.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn store_chunks(&mut self, chunks: &[NewChunk]) -> Result<usize> {
        self.record(|tx, _| {
            let mut new = 0;
            for chunk in chunks {
                new += usize::from(table::put_chunk(tx, chunk, false)?);
            }
            Ok(new)
        })
    }
}
