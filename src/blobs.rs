//! Blobs: files of any size, beside the documents that name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_engine::{Band, BlobInfo, BlobPolicy, BlobReader, Collected, NewBlob};
use larder_types::limits::{BLOB_CHUNK_BYTES_MAX, BLOB_LACKED_MAX};
use larder_types::{BlobId, Hash};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{blocking, to_the_end, told};
use crate::{Error, Result, Space};

/// A blob of a space. What it says of itself is as it was when it was asked for.
#[derive(Debug, Clone)]
pub struct Blob {
    space: Space,
    info: BlobInfo,
}

impl Space {
    /// Adds a blob: reads it to its end, seals it chunk by chunk and keeps it. No more of it is in
    /// memory than a few MiB. What is held already, of an older version of the file perhaps, is
    /// not kept twice; the same content under the same name is the same blob.
    ///
    /// A document names it by `{"$blob": "<id>"}` anywhere in its value. A blob that no document
    /// names is removed after a while.
    ///
    /// Dropping the future ends it; nothing of the blob is kept then.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) as the reader has it;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a media type or name that is empty or
    /// too long, and for more than [`BLOB_BYTES_MAX`](crate::limits::BLOB_BYTES_MAX); the
    /// storage's.
    pub async fn add_blob(
        &self,
        reader: impl Read + Send + 'static,
        about: NewBlob,
    ) -> Result<BlobInfo> {
        let is_black = about.band == Some(Band::Black);
        let home = if is_black { self.black_made().await? } else { self.clone() };
        let (space, seen) = (home.open_seen().await?, home.seen().await?);
        let writer = space.writer()?.clone();
        let runtime = tokio::runtime::Handle::current();
        let asked = Asked(Arc::default());
        let given_up = Arc::clone(&asked.0);
        let added = tokio::task::spawn_blocking(move || {
            let mut adding = seen.add_blob(reader, about)?;
            let result = loop {
                if given_up.load(Ordering::Relaxed) {
                    break Err(Error::Closed);
                }
                let part = match adding.part() {
                    Ok(part) if part.is_empty() => break Ok(()),
                    Ok(part) => part,
                    Err(error) => break Err(error.into()),
                };
                if let Err(error) = runtime.block_on(writer.with(move |w| w.stage(&part))) {
                    break Err(error);
                }
            };
            let staged = adding.staged();
            let committed = result.and_then(|()| {
                let manifest = adding.finish()?;
                runtime.block_on(writer.run(true, move |w| w.commit_blob(&manifest)))
            });
            match committed {
                Ok(info) => {
                    space.blobs.tick();
                    Ok(info)
                }
                Err(error) => {
                    // If this fails too, it is swept when the space is opened next.
                    let _ = runtime.block_on(writer.with(move |w| w.unstage(&staged)));
                    Err(error)
                }
            }
        });
        let added = added.await.map_err(|e| Error::Internal(e.to_string()))?;
        drop(asked);
        added
    }

    /// A blob, whole here or not.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none, or its manifest has
    /// not arrived; the storage's.
    pub async fn blob(&self, id: BlobId) -> Result<Blob> {
        let home = self.home_of_blob(id).await?;
        let info = home.read_seen(move |space| {
            space.blob(&id)?.ok_or_else(|| {
                larder_engine::Error::NotFound(format!("there is no blob {id} here"))
            })
        });
        let info = info.await?;
        Ok(Blob { space: home, info })
    }

    /// All blobs, in the order in which this device came to know them.
    ///
    /// # Errors
    /// The storage's.
    pub async fn blobs(&self) -> Result<Vec<BlobInfo>> {
        self.both(false, larder_engine::Space::blobs).await
    }

    /// Which blobs this device fetches by itself: all that a document names, unless told.
    ///
    /// # Errors
    /// The storage's.
    pub async fn blob_policy(&self) -> Result<BlobPolicy> {
        self.read(larder_engine::Space::blob_policy).await
    }

    /// Sets which blobs this device fetches by itself. What it holds already, it keeps.
    ///
    /// # Errors
    /// The storage's.
    pub async fn set_blob_policy(&self, policy: BlobPolicy) -> Result<()> {
        let space = self.open().await?;
        space.writer()?.with(move |writer| writer.set_blob_policy(policy)).await?;
        space.blobs.tick();
        Ok(())
    }

    /// Removes from this device, now, the content of all blobs that no document here names. By
    /// itself this happens once they have not been named for
    /// [`BLOB_GRACE_MS`](crate::limits::BLOB_GRACE_MS), and every other device has seen that.
    ///
    /// # Errors
    /// The storage's.
    pub async fn collect_blobs(&self) -> Result<Collected> {
        let writer = self.open().await?.writer()?.clone();
        to_the_end(async move { writer.with(larder_engine::SpaceWriter::collect_blobs).await })
            .await
    }
}

impl Blob {
    /// What is known of it.
    pub fn info(&self) -> &BlobInfo {
        &self.info
    }

    /// Fetches what of it is not here from the devices that are connected. `progress` is told how
    /// many of how many missing chunks have come. The wish for it is durable: what does not come
    /// now is fetched from whichever device has it and connects later.
    ///
    /// # Errors
    /// [`ErrorKind::NotHere`](crate::ErrorKind::NotHere) if no device that is connected has it, or
    /// none is connected; the storage's.
    pub async fn fetch(&mut self, mut progress: impl FnMut(u64, u64) + Send) -> Result<()> {
        let (id, open) = (self.info.id, self.space.open_seen().await?);
        let mut arrivals = open.blobs.arrivals.subscribe();
        let mut resting = open.blobs.resting.subscribe();
        let missing = self.space.blob(id).await?.info.missing;
        if missing > 0 {
            open.writer()?.with(move |writer| writer.want_blob(&id)).await?;
        }
        let tick = open.blobs.tick();
        loop {
            self.info = self.space.blob(id).await?.info;
            progress(missing.saturating_sub(self.info.missing), missing);
            if self.info.missing == 0 {
                return Ok(());
            }
            let all_rest = |all: &BTreeMap<u64, u64>| all.values().all(|seen| *seen >= tick);
            if all_rest(&resting.borrow_and_update()) {
                // What came last may have come after it was counted.
                self.info = self.space.blob(id).await?.info;
                if self.info.missing == 0 {
                    continue;
                }
                let missing = self.info.missing;
                return Err(larder_engine::Error::BlobNotHere { id, missing }.into());
            }
            tokio::select! {
                // The senders are in `open`. A profile that is closed has no streams.
                Ok(()) = arrivals.changed() => {}
                Ok(()) = resting.changed() => {}
            }
        }
    }

    /// Writes its content to `out`, verified, in order. `progress` is told how many of how many
    /// bytes are written. The writer is given back; it was not flushed.
    ///
    /// # Errors
    /// [`ErrorKind::NotHere`](crate::ErrorKind::NotHere) if it is not whole on this device: then
    /// nothing is written; [`ErrorKind::Io`](crate::ErrorKind::Io) as the writer has it; the
    /// storage's.
    pub async fn write_to<W: Write + Send + 'static>(
        &self,
        mut out: W,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<W> {
        let (reader, id) = (self.space.seen().await?, self.info.id);
        let (telling, tells) = watch::channel((0, 0));
        let written = blocking(move || {
            let mut blob = reader.read_blob(&id)?;
            let (size, mut written) = (blob.size(), 0);
            // The reader does not keep the space.
            let _space = reader;
            loop {
                let piece = blob.next_piece()?;
                if piece.is_empty() {
                    return Ok(out);
                }
                let path = || "the copy of a blob".into();
                out.write_all(piece)
                    .map_err(|source| larder_engine::Error::Io { path: path(), source })?;
                written += piece.len() as u64;
                telling.send_replace((written, size));
            }
        });
        told(written, tells, progress).await
    }

    /// A part of its content, at most a chunk's length
    /// ([`BLOB_CHUNK_BYTES_MAX`](crate::limits::BLOB_CHUNK_BYTES_MAX)) of it; shorter where the
    /// blob ends. Only the chunks in question have to be here.
    ///
    /// # Errors
    /// [`ErrorKind::NotHere`](crate::ErrorKind::NotHere); the storage's.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let id = self.info.id;
        let wanted = range.end.saturating_sub(range.start).min(BLOB_CHUNK_BYTES_MAX as u64);
        let read = move |space: &larder_engine::Space| {
            let mut reader = space.read_partial_blob(&id)?;
            let io = |e: std::io::Error| larder_engine::Error::Internal(e.to_string());
            reader.seek(SeekFrom::Start(range.start)).map_err(io)?;
            let wanted = usize::try_from(wanted).unwrap_or(BLOB_CHUNK_BYTES_MAX);
            let mut content = Vec::new();
            while content.len() < wanted {
                let piece = reader.next_piece()?;
                if piece.is_empty() {
                    break;
                }
                let taken = piece.len().min(wanted - content.len());
                content.extend_from_slice(piece.get(..taken).unwrap_or_default());
            }
            Ok(content)
        };
        self.space.read_seen(read).await
    }

    /// A reader of its content, for threads that may block.
    ///
    /// # Errors
    /// [`ErrorKind::NotHere`](crate::ErrorKind::NotHere) if it is not whole on this device; the
    /// storage's.
    pub async fn reader(&self) -> Result<BlobReader> {
        let id = self.info.id;
        self.space.read_seen(move |space| space.read_blob(&id)).await
    }
}

/// Who asked is gone once this is dropped.
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the blob streams of one space share: each chunk is asked of one peer at a time.
#[derive(Default)]
pub(crate) struct Traffic(Arc<Shared>);

impl std::ops::Deref for Traffic {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Default)]
pub(crate) struct Shared {
    /// Counts whenever something may be wanted that was not, or held that was not.
    ticks: watch::Sender<u64>,
    /// Counts whenever chunks were stored.
    arrivals: watch::Sender<u64>,
    /// Of each stream, up to which tick it has looked and found nothing more to ask for.
    resting: watch::Sender<BTreeMap<u64, u64>>,
    claims: Mutex<Claimed>,
}

/// Which stream asks for which chunk.
#[derive(Default)]
struct Claimed {
    streams: BTreeMap<u64, Stream>,
    chunks: HashMap<Hash, Claim>,
}

/// A stream that there is.
struct Stream {
    /// What its peer is known to lack.
    lacked: BTreeSet<Hash>,
    /// When something came of it last.
    moved: Instant,
}

/// A stream that asks for a chunk.
struct Claim {
    owner: u64,
    since: Instant,
    /// Streams that would have asked for it meanwhile: they look again if nothing comes of it.
    waiting: BTreeSet<u64>,
}

impl Claim {
    /// Whether its stream may still come by the chunk.
    fn counts(&self, streams: &BTreeMap<u64, Stream>, now: Instant) -> bool {
        let moved = streams.get(&self.owner).map_or(self.since, |stream| stream.moved);
        now - self.since < CLAIM_MAX && now - moved.max(self.since) < CLAIM_SILENT_MAX
    }
}

impl Shared {
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    /// Has all streams look anew; returns the tick's number.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.send_modify(|count| *count += 1);
        *self.ticks.borrow()
    }

    pub(crate) fn arrived(&self) {
        self.arrivals.send_modify(|count| *count += 1);
    }
}

impl Traffic {
    /// The part of the stream with this number.
    pub(crate) fn turn(&self, number: u64) -> Turn {
        self.0.resting.send_modify(|all| {
            all.insert(number, 0);
        });
        let looked = *self.0.ticks.borrow();
        let claims = Claims { shared: Arc::clone(&self.0), number };
        let stream = Stream { lacked: BTreeSet::new(), moved: Instant::now() };
        claims.lock().streams.insert(number, stream);
        Turn { claims, looked, missed: 0 }
    }
}

/// One stream's part. Dropped, it gives up its claims.
pub(crate) struct Turn {
    claims: Claims,
    looked: u64,
    /// Chunks that came to nothing here and that other streams wait for.
    missed: usize,
}

impl Turn {
    pub(crate) fn claims(&self) -> Claims {
        self.claims.clone()
    }

    /// The stream looks anew at what is wanted.
    pub(crate) fn look(&mut self) {
        self.looked = *self.claims.shared.ticks.borrow();
    }

    /// It found nothing more to ask for.
    pub(crate) fn rest(&mut self) {
        self.hand_over();
        let (number, looked) = (self.claims.number, self.looked);
        // A tick of 0 is one that nobody waits for.
        self.claims.shared.resting.send_if_modified(|all| {
            all.insert(number, looked).is_none_or(|before| before != looked)
        });
    }

    /// Whether it would ask for a chunk that another stream asks for.
    pub(crate) fn is_waiting(&self) -> bool {
        let number = self.claims.number;
        self.claims.lock().chunks.values().any(|claim| claim.waiting.contains(&number))
    }

    /// Something has come of it: it may go on with what it asked for.
    pub(crate) fn moved(&self, now: Instant) {
        if let Some(stream) = self.claims.lock().streams.get_mut(&self.claims.number) {
            stream.moved = now;
        }
    }

    /// Whether it asks for a chunk, or would ask for one that another stream asks for.
    pub(crate) fn has_open(&self) -> bool {
        let number = self.claims.number;
        let is_part = |claim: &Claim| claim.owner == number || claim.waiting.contains(&number);
        self.claims.lock().chunks.values().any(is_part)
    }

    /// Whether it waits for a chunk that it may ask for by now.
    pub(crate) fn is_passed_over(&self, now: Instant) -> bool {
        let Claimed { streams, chunks } = &*self.claims.lock();
        let waits = |claim: &&Claim| claim.waiting.contains(&self.claims.number);
        chunks.values().filter(waits).any(|claim| !claim.counts(streams, now))
    }

    /// A chunk has come.
    pub(crate) fn release(&mut self, digest: &Hash) {
        self.give_up(digest);
    }

    /// The peer does not hold a chunk: others may ask theirs for it.
    pub(crate) fn lacks(&mut self, digest: &Hash) {
        let number = self.claims.number;
        let mut claims = self.claims.lock();
        let lacked = claims.streams.get_mut(&number).map(|stream| &mut stream.lacked);
        // Beyond the limit it is asked for again, and no other stream is told.
        let is_new =
            lacked.is_some_and(|lacked| lacked.len() < BLOB_LACKED_MAX && lacked.insert(*digest));
        drop(claims);
        let is_missed = self.give_up(digest);
        self.missed += usize::from(is_missed && is_new);
        if self.missed >= MISSED_MAX {
            self.hand_over();
        }
    }

    /// The peer holds chunks by now that it lacked.
    pub(crate) fn holds(&mut self, digests: &[Hash]) {
        let mut claims = self.claims.lock();
        if let Some(stream) = claims.streams.get_mut(&self.claims.number) {
            stream.lacked.retain(|digest| !digests.contains(digest));
        }
    }

    /// Gives up a claim. Whether others wait for it.
    fn give_up(&self, digest: &Hash) -> bool {
        let chunks = &mut self.claims.lock().chunks;
        let is_own = |claim: &Claim| claim.owner == self.claims.number;
        match chunks.get(digest) {
            Some(claim) if is_own(claim) => {
                chunks.remove(digest).is_some_and(|claim| !claim.waiting.is_empty())
            }
            _ => false,
        }
    }

    /// Has the other streams look anew, if they wait for what came to nothing here.
    fn hand_over(&mut self) {
        if std::mem::take(&mut self.missed) > 0 {
            self.claims.wake_others();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let number = self.claims.number;
        let mut claims = self.claims.lock();
        claims.streams.remove(&number);
        let before = claims.chunks.len();
        claims.chunks.retain(|_, claim| claim.owner != number);
        for claim in claims.chunks.values_mut() {
            claim.waiting.remove(&number);
        }
        let is_missed = claims.chunks.len() < before || self.missed > 0;
        drop(claims);
        if is_missed {
            self.claims.wake_others();
        }
        self.claims.shared.resting.send_modify(|all| {
            all.remove(&number);
        });
    }
}

/// The way for one stream to claim chunks.
#[derive(Clone)]
pub(crate) struct Claims {
    shared: Arc<Shared>,
    number: u64,
}

impl Claims {
    /// Whether this stream may ask for a chunk: no other does. One whose peer has fallen silent, or
    /// that has not come by the chunk for long, is passed over.
    pub(crate) fn take(&self, digest: &Hash, now: Instant) -> bool {
        let mut claims = self.lock();
        // Reading goes on for a moment after its stream is gone.
        let Claimed { streams, chunks } = &mut *claims;
        let Some(stream) = streams.get(&self.number) else { return false };
        if stream.lacked.contains(digest) {
            return false;
        }
        if let Some(claim) = chunks.get_mut(digest)
            && claim.owner != self.number
            && claim.counts(streams, now)
        {
            claim.waiting.insert(self.number);
            return false;
        }
        let claim = Claim { owner: self.number, since: now, waiting: BTreeSet::new() };
        claims.chunks.insert(*digest, claim);
        true
    }

    /// What the other streams found before this does not count any more: they look anew.
    fn wake_others(&self) {
        self.shared.resting.send_modify(|all| {
            for (_, looked) in all.iter_mut().filter(|(number, _)| **number != self.number) {
                *looked = 0;
            }
        });
        self.shared.tick();
    }

    fn lock(&self) -> MutexGuard<'_, Claimed> {
        self.shared.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a stream keeps what it asked for while nothing comes of it. Who waits for a chunk looks
/// again that often.
pub(crate) const CLAIM_SILENT_MAX: Duration = Duration::from_secs(5);

/// The same while something comes: a chunk of 1 MiB at 70 kbit/s.
const CLAIM_MAX: Duration = Duration::from_mins(2);

/// Chunks that came to nothing, after which others look anew without waiting for more.
const MISSED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Hash {
        Hash::new([n; 32])
    }

    /// A phone asked the laptop for a photo's chunks, and the tablet, which it was connected to as
    /// well, was passed over meanwhile. The laptop did not have them. The tablet did, and was not
    /// asked before something else changed.
    #[test]
    fn what_one_peer_lacks_is_asked_of_another_that_was_passed_over() {
        let traffic = Traffic::default();
        let (mut laptop, mut tablet) = (traffic.turn(1), traffic.turn(2));
        let tick = traffic.tick();
        laptop.look();
        tablet.look();
        assert!(
            laptop.claims().take(&digest(1), Instant::now())
                && !tablet.claims().take(&digest(1), Instant::now())
        );
        assert!(tablet.is_waiting() && !laptop.is_waiting());
        tablet.rest();
        let mut ticks = traffic.subscribe();
        ticks.mark_unchanged();
        laptop.lacks(&digest(1));
        laptop.rest();
        assert!(ticks.has_changed().unwrap(), "the others are told");
        let resting = traffic.resting.borrow().clone();
        assert!(resting[&1] >= tick && resting[&2] < tick, "it is not over: {resting:?}");

        // Nor is it asked of the one that lacks it again, in turns with the other, for ever.
        ticks.mark_unchanged();
        laptop.look();
        tablet.look();
        assert!(
            !laptop.claims().take(&digest(1), Instant::now())
                && tablet.claims().take(&digest(1), Instant::now())
        );
        laptop.rest();
        tablet.lacks(&digest(1));
        tablet.rest();
        assert!(!ticks.has_changed().unwrap());
        assert!(
            !laptop.claims().take(&digest(1), Instant::now())
                && !tablet.claims().take(&digest(1), Instant::now())
        );
        // Until the peer says that it has come by it.
        tablet.holds(&[digest(1)]);
        assert!(tablet.claims().take(&digest(1), Instant::now()));
    }

    #[test]
    fn a_stream_that_ends_hands_over_what_it_asked_for() {
        let traffic = Traffic::default();
        let (laptop, mut tablet) = (traffic.turn(1), traffic.turn(2));
        let tick = traffic.tick();
        tablet.look();
        assert!(
            laptop.claims().take(&digest(1), Instant::now())
                && !tablet.claims().take(&digest(1), Instant::now())
        );
        tablet.rest();
        drop(laptop);
        assert!(traffic.resting.borrow().values().all(|seen| *seen < tick));
        assert!(!tablet.is_waiting() && tablet.claims().take(&digest(1), Instant::now()));
    }

    /// A tablet had asked a phone with a bad connection for the chunks of a photo, eight at a time,
    /// and the laptop beside it was passed over: for two minutes for each chunk that the phone did
    /// not send.
    #[test]
    fn who_falls_silent_is_passed_over_and_who_is_only_slow_is_not() {
        let traffic = Traffic::default();
        let (phone, laptop) = (traffic.turn(1), traffic.turn(2));
        let takes = |turn: &Turn, now| turn.claims().take(&digest(1), now);
        let mut now = Instant::now();
        assert!(takes(&phone, now) && !takes(&laptop, now));
        assert!(phone.has_open() && laptop.has_open() && !laptop.is_passed_over(now));
        for _ in 0..8 {
            now += CLAIM_SILENT_MAX / 2;
            phone.moved(now);
            assert!(!laptop.is_passed_over(now) && !takes(&laptop, now));
        }
        now += CLAIM_SILENT_MAX;
        assert!(laptop.is_passed_over(now) && takes(&laptop, now));
        // The phone looks again as well, and does not take it back.
        assert!(!takes(&phone, now) && phone.is_waiting());
        // However much comes of a stream, a single chunk is not waited for without end.
        let since = now;
        while now < since + CLAIM_MAX {
            now += CLAIM_SILENT_MAX / 2;
            laptop.moved(now);
        }
        assert!(phone.is_passed_over(now) && takes(&phone, now));
    }
}
