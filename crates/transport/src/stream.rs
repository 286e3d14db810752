use std::fmt;

use crate::{Error, RecvHalf, Result, SendHalf};

/// Both halves of a stream of frames.
///
/// A frame is its length, four bytes big-endian, and that many bytes. Reading holds one frame at
/// most in memory, and of that no more than has arrived.
#[derive(Debug)]
pub struct FrameStream {
    sender: FrameSender,
    receiver: FrameReceiver,
}

impl FrameStream {
    /// Frames over the two halves of a byte stream.
    pub fn new(send: Box<dyn SendHalf>, recv: Box<dyn RecvHalf>) -> Self {
        Self { sender: FrameSender::new(send), receiver: FrameReceiver::new(recv) }
    }

    /// Sends one frame; see [`FrameSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.sender.send(frame).await
    }

    /// Receives one frame; see [`FrameReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>> {
        self.receiver.recv(max).await
    }

    /// Ends the sending half; see [`FrameSender::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&mut self) -> Result<()> {
        self.sender.finish().await
    }

    /// What is sent on this stream yields to the connection's other streams.
    pub fn yield_to_others(&mut self) {
        self.sender.half.yield_to_others();
    }

    /// The halves, each to be used from a task of its own.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }

    /// Bytes sent so far, length prefixes included.
    pub fn bytes_sent(&self) -> u64 {
        self.sender.bytes
    }

    /// Bytes received so far, length prefixes included.
    pub fn bytes_received(&self) -> u64 {
        self.receiver.bytes
    }
}

/// The sending half of a [`FrameStream`]. Dropped before [`FrameSender::finish`] it breaks the
/// stream off, so that the peer never mistakes a task that died for an end.
pub struct FrameSender {
    half: Box<dyn SendHalf>,
    bytes: u64,
    finished: bool,
}

impl FrameSender {
    fn new(half: Box<dyn SendHalf>) -> Self {
        Self { half, bytes: 0, finished: false }
    }

    /// Sends one frame, waiting while the peer takes none. A future dropped halfway leaves the
    /// stream unusable: run this to its end.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] for more than `u32::MAX` bytes; [`Error::LocallyClosed`] after
    /// `finish`; [`Error::Cut`], [`Error::Closed`] or [`Error::TimedOut`] as the peer has it.
    pub async fn send(&mut self, frame: &[u8]) -> Result<()> {
        if self.finished {
            return Err(Error::LocallyClosed);
        }
        let len = u32::try_from(frame.len())
            .map_err(|_| Error::FrameTooLarge { len: frame.len(), max: u32::MAX as usize })?;
        if frame.len() <= COPIED_BYTES_MAX {
            let mut joined = Vec::with_capacity(PREFIX + frame.len());
            joined.extend_from_slice(&len.to_be_bytes());
            joined.extend_from_slice(frame);
            self.half.write(&joined).await?;
        } else {
            self.half.write(&len.to_be_bytes()).await?;
            self.half.write(frame).await?;
        }
        self.bytes = self.bytes.saturating_add(PREFIX as u64 + u64::from(len));
        Ok(())
    }

    /// Ends the stream and waits until the peer's transport has every byte of it (which says
    /// nothing of what the peer did with them).
    ///
    /// # Errors
    /// [`Error::Cut`], [`Error::Closed`] or [`Error::TimedOut`] as the peer has it.
    pub async fn finish(&mut self) -> Result<()> {
        self.finished = true;
        self.half.finish().await
    }

    /// Bytes sent so far, length prefixes included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.finished {
            self.half.abort();
        }
    }
}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSender").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The receiving half of a [`FrameStream`].
pub struct FrameReceiver {
    half: Box<dyn RecvHalf>,
    /// The frame under way: prefix, then body.
    partial: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl FrameReceiver {
    fn new(half: Box<dyn RecvHalf>) -> Self {
        Self { half, partial: Vec::new(), bytes: 0, ended: false }
    }

    /// Receives one frame of at most `max` bytes. `None`: the peer ended the stream, between two
    /// frames. Dropping the future loses nothing; the next call goes on where it was.
    ///
    /// Memory: [`FrameReceiver::bytes_held`], at most `max` and 256 KiB.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] before any of the frame is read; [`Error::Cut`] if the stream
    /// ends or breaks within a frame; [`Error::Closed`] or [`Error::TimedOut`] as the peer has it.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>> {
        while !self.ended {
            let wanted = match self.partial.first_chunk::<PREFIX>() {
                None => PREFIX,
                Some(prefix) => {
                    let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
                    if len > max {
                        return Err(Error::FrameTooLarge { len, max });
                    }
                    PREFIX.saturating_add(len)
                }
            };
            let missing = wanted.saturating_sub(self.partial.len());
            if missing == 0 {
                let mut frame = std::mem::take(&mut self.partial);
                frame.drain(..PREFIX);
                return Ok(Some(frame));
            }
            let before = self.partial.len();
            // Twice as much as has arrived, and never more than the frame: what is only said to
            // come takes no room.
            self.partial.reserve_exact(missing.min(before.max(READ_BYTES_MAX)));
            let more = self.half.read(&mut self.partial, missing.min(READ_BYTES_MAX)).await?;
            self.bytes = self.bytes.saturating_add((self.partial.len() - before) as u64);
            self.ended = !more;
        }
        if self.partial.is_empty() {
            Ok(None)
        } else {
            Err(Error::Cut { detail: "the stream ended within a frame".to_owned() })
        }
    }

    /// Bytes received so far, length prefixes included.
    pub fn bytes_received(&self) -> u64 {
        self.bytes
    }

    /// Of these, those of a frame that is not whole yet.
    pub fn bytes_partial(&self) -> usize {
        self.partial.len()
    }

    /// Bytes of memory that this frame takes.
    pub fn bytes_held(&self) -> usize {
        self.partial.capacity()
    }
}

impl fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReceiver").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Bytes of the length before each frame.
const PREFIX: usize = 4;
/// A frame up to this size goes out in one write with its prefix, and so in one packet if small.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// What is asked of the transport at once.
const READ_BYTES_MAX: usize = 256 << 10;
