//! Chunks from and to other devices.

use larder_log::blob::{fingerprint, open_chunk};
use larder_store::space::blobs::{self as table, At, NewChunk};
use larder_types::Hash;

use super::policy;
use crate::Result;
use crate::space::Space;
use crate::writer::SpaceWriter;

impl Space {
    /// At most `limit` chunks that are wanted here and not held, from `from` on, each with where
    /// the walk goes on behind it.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn wanted_chunks(&self, from: At, limit: usize) -> Result<Vec<(At, Hash)>> {
        let db = self.shared.pool.reader()?;
        Ok(table::wanted(&db, policy(&db)?.eager_bytes_max, from, limit)?)
    }

    /// A chunk's sealed bytes, if they are held.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn sealed_chunk(&self, digest: &Hash) -> Result<Option<Vec<u8>>> {
        Ok(table::sealed(&*self.shared.pool.reader()?, digest)?)
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
