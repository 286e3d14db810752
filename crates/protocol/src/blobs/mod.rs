//! Blobs between two devices of a space, on a stream of their own: each asks the other for chunks
//! by digest, and checks what it is sent.
//!
//! Invariants: at most [`BLOB_REQUESTS_MAX`] chunks are asked of a peer and not yet stored, and as
//! many of a peer's requests are kept; answers come in the order of the requests; a chunk that has
//! not the digest it was asked by ends the session, and is never handed to storage.
//!
//! Memory: what was asked for and arrived, at most [`BLOB_REQUESTS_MAX`] chunks, and one on its way
//! out; twice [`BLOB_LACKED_MAX`] digests.

mod frame;
mod keeps;

use std::collections::{BTreeSet, VecDeque};

use larder_log::blob::chunk_digest;
use larder_types::limits::{BLOB_LACKED_MAX, BLOB_REQUESTS_MAX, BLOB_SESSION_BYTES_MAX, KEEPS_MAX};
use larder_types::{CloseCode, Hash};

pub use self::frame::{BLOB_FRAME_BYTES_MAX, BlobFrame};
pub use self::keeps::Keeps;

/// Where storage's walk over what it wants, or keeps, goes on; a session does not look into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobPosition(pub i64, pub i64);

/// What a session asks of storage. Each is answered by one reply, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobRequest {
    /// Which chunks are wanted and not held, from there on: [`BlobReply::Wanted`].
    ReadWanted {
        /// Where the walk goes on.
        from: BlobPosition,
        /// How many at most.
        limit: usize,
    },
    /// A chunk for the peer, if the peer may have it: [`BlobReply::Chunk`].
    ReadChunk {
        /// Which.
        digest: Hash,
    },
    /// Keep a chunk, whose digest is right: [`BlobReply::Stored`].
    StoreChunk {
        /// Its digest.
        digest: Hash,
        /// Its sealed bytes.
        sealed: Vec<u8>,
    },
    /// Which of these chunks are held by now: [`BlobReply::Held`].
    ReadHeld {
        /// Those that the peer asked for in vain.
        digests: Vec<Hash>,
    },
    /// What is kept until another device has it, if the peer may be that one, from there on:
    /// [`BlobReply::Kept`].
    ReadKept {
        /// Where the walk goes on.
        from: BlobPosition,
        /// How many at most.
        limit: usize,
    },
    /// What of this is durable here, and this device may read: [`BlobReply::Confirmed`].
    ReadDurable {
        /// What the peer keeps until somebody has it.
        keeps: Keeps,
    },
    /// The peer has this: it need not be kept any longer. [`BlobReply::Released`].
    Release {
        /// What.
        keeps: Keeps,
    },
}

/// Storage's reply to a [`BlobRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobReply {
    /// Chunks that are wanted.
    Wanted {
        /// Their digests.
        chunks: Vec<Hash>,
        /// Where the walk goes on; none at its end.
        next: Option<BlobPosition>,
    },
    /// A chunk's sealed bytes; none if it is not held, or not for this peer.
    Chunk {
        /// The bytes.
        sealed: Option<Vec<u8>>,
    },
    /// A chunk is durable, or no longer of use.
    Stored,
    /// Chunks that are held.
    Held {
        /// Their digests.
        digests: Vec<Hash>,
    },
    /// What is kept for others; nothing at the end of the walk.
    Kept {
        /// What.
        keeps: Keeps,
        /// Where the walk goes on; none at its end.
        next: Option<BlobPosition>,
    },
    /// What is durable here.
    Confirmed {
        /// What.
        keeps: Keeps,
    },
    /// What the peer has is not kept for it any more.
    Released,
    /// Storage failed.
    Failed {
        /// How.
        message: String,
    },
}

/// What a session tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobEvent {
    /// A chunk is durable here.
    Stored {
        /// Its digest.
        digest: Hash,
        /// Its sealed bytes.
        bytes: usize,
    },
    /// The peer does not hold a chunk that it was asked for, or that storage wants and it would be
    /// asked for again.
    Lacked {
        /// Which.
        digest: Hash,
    },
    /// The peer holds chunks by now that it did not hold when it was asked for them.
    Holds {
        /// Which.
        digests: Vec<Hash>,
    },
    /// Both sides have what they want of each other, as far as the other has it. Comes again after
    /// each time that one wanted something more.
    Idle,
    /// The session is over.
    Closed {
        /// Why.
        code: CloseCode,
        /// The same for people.
        message: String,
        /// Whether the peer ended it.
        by_peer: bool,
    },
}

/// Where the walk over the wanted chunks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    At(BlobPosition),
    /// Storage was asked; `again`: what it says may be out of date by now.
    Reading {
        again: bool,
    },
    Done,
}

/// Where it is with asking what the peer has of what is kept until somebody has it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keeping {
    /// It asks once the peer wants nothing more.
    Waiting,
    /// Storage was asked for some.
    Reading,
    /// The peer was asked; where the walk goes on.
    Asking(Keeps, Option<BlobPosition>),
    /// Storage lets go of what the peer has.
    Releasing(Option<BlobPosition>),
    Done,
}

/// One side of a blob stream. Poll requests, events and frames until there are none after each
/// call that handles something.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "two sides of one stream, each with its own")]
pub struct BlobSession {
    walk: Walk,
    to_ask: VecDeque<Hash>,
    /// Asked and not yet answered, in order.
    asked: VecDeque<Hash>,
    /// Handed to storage, in order: digest and length.
    storing: VecDeque<(Hash, usize)>,
    /// What the peer said that it does not hold.
    lacking: BTreeSet<Hash>,

    /// What the peer asked for, in order.
    serving: VecDeque<Hash>,
    is_reading: bool,
    /// What the peer asked for in vain.
    lacked: BTreeSet<Hash>,
    is_checking: bool,
    check_again: bool,

    keeping: Keeping,
    /// There may be more to ask about than the walk under way finds.
    keeps_again: bool,
    /// The peer knows that it was asked about all.
    told_kept: bool,
    /// The peer asked about what it keeps, and the answer has not left.
    confirming: bool,
    /// The peer has asked about all that it keeps.
    peer_asked: bool,

    /// The log's session has brought all that there was.
    is_settled: bool,
    said_idle: bool,
    peer_idle: bool,
    told_idle: bool,

    frames: VecDeque<Vec<u8>>,
    requests: VecDeque<BlobRequest>,
    events: VecDeque<BlobEvent>,
    is_closed: bool,
}

impl Default for BlobSession {
    fn default() -> Self {
        Self::new()
    }
}

/// What is told from outside.
impl BlobSession {
    /// A session that begins by asking storage what is wanted.
    pub fn new() -> Self {
        let mut session = Self {
            walk: Walk::At(BlobPosition::default()),
            to_ask: VecDeque::new(),
            asked: VecDeque::new(),
            storing: VecDeque::new(),
            lacking: BTreeSet::new(),
            serving: VecDeque::new(),
            is_reading: false,
            lacked: BTreeSet::new(),
            is_checking: false,
            check_again: false,
            keeping: Keeping::Waiting,
            keeps_again: false,
            told_kept: false,
            confirming: false,
            peer_asked: false,
            is_settled: false,
            said_idle: false,
            peer_idle: false,
            told_idle: false,
            frames: VecDeque::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            is_closed: false,
        };
        session.go_on();
        session
    }

    /// A frame arrived, of at most [`BLOB_FRAME_BYTES_MAX`].
    pub fn handle_frame(&mut self, bytes: &[u8]) {
        if self.is_closed {
            return;
        }
        match BlobFrame::decode(bytes) {
            Ok(frame) => {
                if let Err((code, message)) = self.take(frame) {
                    self.close(code, message);
                }
            }
            Err(error) => self.close(error.code, &error.message),
        }
        self.go_on();
    }

    /// Storage answered a request. Replies to [`BlobRequest::StoreChunk`] come in the order of the
    /// requests.
    pub fn handle_reply(&mut self, reply: BlobReply) {
        if self.is_closed {
            return;
        }
        match reply {
            BlobReply::Wanted { chunks, next } => {
                let again = self.walk == Walk::Reading { again: true };
                self.walk = match next {
                    _ if again => Walk::At(BlobPosition::default()),
                    Some(next) => Walk::At(next),
                    None => Walk::Done,
                };
                self.take_wanted(chunks);
            }
            BlobReply::Chunk { sealed } => {
                self.is_reading = false;
                if let Some(digest) = self.serving.pop_front() {
                    self.answer(digest, sealed);
                }
            }
            BlobReply::Stored => {
                if let Some((digest, bytes)) = self.storing.pop_front() {
                    self.events.push_back(BlobEvent::Stored { digest, bytes });
                }
            }
            BlobReply::Held { digests } => {
                self.is_checking = false;
                self.lacked.retain(|digest| !digests.contains(digest));
                if !digests.is_empty() {
                    self.frames.push_back(BlobFrame::Have(digests).encode());
                }
            }
            BlobReply::Kept { keeps, next } => {
                if keeps.is_empty() {
                    self.read_kept(None);
                } else {
                    self.told_kept = false;
                    self.frames.push_back(BlobFrame::Keeps(keeps.clone()).encode());
                    self.keeping = Keeping::Asking(keeps, next);
                }
            }
            BlobReply::Confirmed { keeps } => {
                self.frames.push_back(BlobFrame::Holds(keeps).encode());
            }
            BlobReply::Released => {
                if let Keeping::Releasing(next) = self.keeping {
                    self.read_kept(next);
                }
            }
            BlobReply::Failed { message } => self.close(CloseCode::Storage, &message),
        }
        self.go_on();
    }

    /// Something may be wanted that was not, or held that was not.
    pub fn handle_changed(&mut self) {
        self.walk = match self.walk {
            Walk::Reading { .. } => Walk::Reading { again: true },
            Walk::At(_) | Walk::Done => Walk::At(BlobPosition::default()),
        };
        self.check_again = true;
        self.go_on();
    }

    /// The session about the log has brought all that the peer had, or is over: what is not wanted
    /// now is not wanted because of it.
    pub fn handle_settled(&mut self) {
        if !self.is_settled {
            self.is_settled = true;
            self.ask_about_kept();
            self.handle_changed();
        }
    }

    /// More may be kept than was, or the peer may have more of it.
    pub fn handle_kept(&mut self) {
        if !self.is_closed {
            self.ask_about_kept();
            self.go_on();
        }
    }

    /// Ends the session.
    pub fn close(&mut self, code: CloseCode, message: &str) {
        if self.is_closed {
            return;
        }
        let message = crate::frame::shortened(message).to_owned();
        self.frames.clear();
        self.frames.push_back(BlobFrame::Close { code, message: message.clone() }.encode());
        self.end(code, message, false);
    }
}

/// What is asked from outside.
impl BlobSession {
    /// The next frame for the peer.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front();
        if frame.as_ref().is_some_and(|frame| BlobFrame::is_answer(frame)) {
            self.confirming = false;
        }
        self.go_on();
        frame
    }

    /// The next request to storage.
    pub fn poll_request(&mut self) -> Option<BlobRequest> {
        self.requests.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<BlobEvent> {
        self.events.pop_front()
    }

    /// Whether it wants nothing of the peer that the peer may have, and waits for nothing.
    pub fn is_resting(&self) -> bool {
        self.walk == Walk::Done
            && self.to_ask.is_empty()
            && self.asked.is_empty()
            && self.storing.is_empty()
    }

    /// Whether both sides have what they want of each other, as far as the other has it.
    pub fn is_idle(&self) -> bool {
        self.told_idle
    }

    /// Bytes of memory that it keeps because of what the peer sends, asks for or does not read,
    /// with what storage has of it: at most [`BLOB_SESSION_BYTES_MAX`].
    pub fn bytes_held(&self) -> usize {
        let frames = self.frames.iter().map(Vec::capacity).sum::<usize>();
        let storing = self.storing.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let lists = [&self.to_ask, &self.asked, &self.serving];
        let listed = lists.into_iter().map(VecDeque::capacity).sum::<usize>();
        let sets = self.lacking.len() + self.lacked.len();
        frames + storing + (listed + 2 * sets) * size_of::<Hash>()
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

type Refusal = (CloseCode, &'static str);

impl BlobSession {
    fn take(&mut self, frame: BlobFrame) -> Result<(), Refusal> {
        match frame {
            BlobFrame::Want(digests) => {
                if self.serving.len() + digests.len() > BLOB_REQUESTS_MAX {
                    return Err((CloseCode::LimitExceeded, "more chunks asked for than may be"));
                }
                (self.peer_idle, self.told_idle) = (false, false);
                self.serving.extend(digests);
            }
            BlobFrame::Chunk(sealed) => {
                let asked = self.asked.pop_front();
                let digest = asked.ok_or((CloseCode::Unexpected, "a chunk nobody asked for"))?;
                if chunk_digest(&sealed) != digest {
                    return Err((CloseCode::BadChunk, "another chunk than was asked for"));
                }
                self.storing.push_back((digest, sealed.len()));
                self.requests.push_back(BlobRequest::StoreChunk { digest, sealed });
            }
            BlobFrame::Lacks => {
                let asked = self.asked.pop_front();
                let digest = asked.ok_or((CloseCode::Unexpected, "an answer to nothing"))?;
                if self.lacking.len() < BLOB_LACKED_MAX {
                    self.lacking.insert(digest);
                }
                self.events.push_back(BlobEvent::Lacked { digest });
            }
            BlobFrame::Have(digests) => {
                let mut holds = digests;
                holds.retain(|digest| self.lacking.remove(digest));
                if !holds.is_empty() {
                    self.events.push_back(BlobEvent::Holds { digests: holds });
                    self.handle_changed();
                }
            }
            BlobFrame::Keeps(keeps) => {
                if self.confirming {
                    return Err((CloseCode::LimitExceeded, "asked again before the answer"));
                }
                self.peer_asked = keeps.is_empty();
                if !self.peer_asked {
                    self.confirming = true;
                    self.requests.push_back(BlobRequest::ReadDurable { keeps });
                }
            }
            BlobFrame::Holds(mut keeps) => {
                let Keeping::Asking(asked, next) = &self.keeping else {
                    return Err((CloseCode::Unexpected, "an answer to nothing"));
                };
                keeps.retain_of(asked);
                let next = *next;
                if keeps.is_empty() {
                    self.read_kept(next);
                } else {
                    self.keeping = Keeping::Releasing(next);
                    self.requests.push_back(BlobRequest::Release { keeps });
                }
            }
            BlobFrame::Idle => {
                self.peer_idle = true;
                self.ask_about_kept();
            }
            BlobFrame::Close { code, message } => self.end(code, message, true),
        }
        Ok(())
    }

    /// Asks about all that is kept, once what the peer wanted of it is durable there, and this side
    /// has heard what it may not read any more.
    fn ask_about_kept(&mut self) {
        if !self.is_settled || !self.peer_idle {
            return;
        }
        match self.keeping {
            Keeping::Waiting | Keeping::Done => self.read_kept(Some(BlobPosition::default())),
            Keeping::Reading | Keeping::Asking(..) | Keeping::Releasing(_) => {
                self.keeps_again = true;
            }
        }
    }

    fn read_kept(&mut self, from: Option<BlobPosition>) {
        let again = || std::mem::take(&mut self.keeps_again).then(BlobPosition::default);
        self.keeping = if let Some(from) = from.or_else(again) {
            self.requests.push_back(BlobRequest::ReadKept { from, limit: KEEPS_MAX });
            Keeping::Reading
        } else {
            if !std::mem::replace(&mut self.told_kept, true) {
                self.frames.push_back(BlobFrame::Keeps(Keeps::default()).encode());
            }
            Keeping::Done
        };
    }

    /// Notes what to ask for. A walk that begins anew comes by what is under way, and a blob may
    /// have one chunk several times.
    fn take_wanted(&mut self, chunks: Vec<Hash>) {
        for chunk in chunks {
            if self.lacking.contains(&chunk) {
                self.events.push_back(BlobEvent::Lacked { digest: chunk });
                continue;
            }
            let is_under_way = self.to_ask.contains(&chunk)
                || self.asked.contains(&chunk)
                || self.storing.iter().any(|(storing, _)| *storing == chunk);
            if !is_under_way {
                self.to_ask.push_back(chunk);
            }
        }
    }

    fn answer(&mut self, digest: Hash, sealed: Option<Vec<u8>>) {
        let frame = if let Some(sealed) = sealed {
            BlobFrame::Chunk(sealed)
        } else {
            // Beyond the limit the peer asks again in its next session.
            if self.lacked.len() < BLOB_LACKED_MAX {
                self.lacked.insert(digest);
            }
            BlobFrame::Lacks
        };
        self.frames.push_back(frame.encode());
    }

    /// Does what can be done now.
    fn go_on(&mut self) {
        if self.is_closed {
            return;
        }
        self.ask();
        // One chunk at a time is read for the peer, and none while one waits to be sent.
        if !self.is_reading
            && self.frames.is_empty()
            && let Some(digest) = self.serving.front()
        {
            self.is_reading = true;
            self.requests.push_back(BlobRequest::ReadChunk { digest: *digest });
        }
        if self.check_again && !self.is_checking {
            self.check_again = false;
            if !self.lacked.is_empty() {
                self.is_checking = true;
                let digests = self.lacked.iter().copied().collect();
                self.requests.push_back(BlobRequest::ReadHeld { digests });
            }
        }
        if self.is_settled && !self.said_idle && self.is_resting() {
            self.said_idle = true;
            self.frames.push_back(BlobFrame::Idle.encode());
        }
        let both = self.said_idle && self.peer_idle && self.serving.is_empty();
        let both = both && self.keeping == Keeping::Done && self.peer_asked && !self.confirming;
        if both && self.frames.is_empty() && !self.told_idle {
            self.told_idle = true;
            self.events.push_back(BlobEvent::Idle);
        }
    }

    fn ask(&mut self) {
        let taken = self.asked.len() + self.storing.len();
        let free = BLOB_REQUESTS_MAX.saturating_sub(taken);
        if let Walk::At(from) = self.walk
            && self.to_ask.is_empty()
            && free > 0
        {
            self.walk = Walk::Reading { again: false };
            self.requests.push_back(BlobRequest::ReadWanted { from, limit: free });
        }
        // A peer that does not read what it is asked, and answers all the same, would have
        // questions pile up here.
        if !self.frames.is_empty() {
            return;
        }
        let now: Vec<Hash> = self.to_ask.drain(..free.min(self.to_ask.len())).collect();
        if !now.is_empty() {
            (self.said_idle, self.told_idle) = (false, false);
            self.asked.extend(&now);
            self.frames.push_back(BlobFrame::Want(now).encode());
        }
    }

    fn end(&mut self, code: CloseCode, message: String, by_peer: bool) {
        self.is_closed = true;
        self.requests.clear();
        self.events.push_back(BlobEvent::Closed { code, message, by_peer });
    }
}

// Chunks asked for and one on its way out, with what tells of those that were asked for in vain.
const _: () = assert!(
    (BLOB_REQUESTS_MAX + 1) * BLOB_FRAME_BYTES_MAX + 6 * BLOB_LACKED_MAX * size_of::<Hash>()
        <= BLOB_SESSION_BYTES_MAX
);

#[cfg(test)]
mod tests;
