//! What is on its way to one side of a connection, and what that side reads of it: the bytes of a
//! stream, cut anywhere, made into frames by what makes them on a device.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use larder_pages::testing::Dice;
use larder_transport::{
    BoxFuture, Error, FrameReceiver, FrameSender, FrameStream, RecvHalf, Result, SendHalf,
};

pub(crate) enum Packet {
    Frame(Vec<u8>),
    /// The first bytes of one, behind which the connection was cut.
    Part {
        of: Vec<u8>,
        bytes: usize,
    },
    /// The other side sends nothing more.
    End,
}

/// What a side reads.
pub(crate) enum Got {
    Frame(Vec<u8>),
    /// The other side ended without a word.
    End,
}

pub(crate) struct Inbox {
    coming: VecDeque<Packet>,
    /// Frames that have arrived and were not read.
    unread: usize,
    pipe: Pipe,
    sender: FrameSender,
    receiver: FrameReceiver,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let pipe = Pipe::default();
        let stream = FrameStream::new(Box::new(pipe.clone()), Box::new(pipe.clone()));
        let (sender, receiver) = stream.split();
        Self { coming: VecDeque::new(), unread: 0, pipe, sender, receiver }
    }

    pub(crate) fn push(&mut self, packet: Packet) {
        self.coming.push_back(packet);
    }

    /// Before all that is on its way.
    pub(crate) fn push_first(&mut self, packet: Packet) {
        self.coming.push_front(packet);
    }

    /// Packets that were sent and not read.
    pub(crate) fn under_way(&self) -> usize {
        self.coming.len() + self.unread
    }

    /// The next packet arrives.
    pub(crate) fn arrive(&mut self) {
        match self.coming.pop_front() {
            Some(Packet::Frame(frame)) => {
                self.send(&frame);
                self.unread += 1;
            }
            Some(Packet::Part { of, bytes }) => {
                let before = self.pipe.lock().bytes.len();
                self.send(&of);
                self.pipe.lock().bytes.truncate(before + bytes);
            }
            Some(Packet::End) => self.pipe.lock().is_ended = true,
            None => {}
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let sent = at_once(self.sender.send(frame));
        assert!(matches!(sent, Some(Ok(()))), "what is written to memory: {sent:?}");
    }

    /// The next that there is to read.
    pub(crate) fn read(&mut self) -> Option<Got> {
        match at_once(self.receiver.recv(usize::MAX))? {
            Ok(Some(frame)) => {
                self.unread -= 1;
                Some(Got::Frame(frame))
            }
            Ok(None) => Some(Got::End),
            Err(error) => panic!("a stream that is not broken: {error}"),
        }
    }

    /// The connection is cut: of what is on its way only the beginning arrives, which may end
    /// within a frame. How many whole packets do.
    pub(crate) fn cut(&mut self, dice: &mut Dice) -> usize {
        let arrives = usize::try_from(dice.below(self.coming.len() as u64 + 1)).unwrap_or(0);
        let next = self.coming.drain(arrives..).next();
        if let Some(Packet::Frame(of)) = next {
            let bytes = usize::try_from(dice.below((PREFIX_BYTES + of.len()) as u64));
            self.coming.push_back(Packet::Part { of, bytes: bytes.unwrap_or(0) });
        }
        arrives
    }

    /// The side notices that the connection is gone. Whether that was within a frame, of which it
    /// gets nothing.
    pub(crate) fn break_off(&mut self) -> bool {
        self.pipe.lock().is_broken = true;
        for _ in 0..self.unread {
            let whole = at_once(self.receiver.recv(usize::MAX));
            assert!(matches!(whole, Some(Ok(Some(_)))), "a frame that has arrived: {whole:?}");
        }
        let left = at_once(self.receiver.recv(usize::MAX));
        let is_ended = self.pipe.lock().is_ended;
        let is_known = match &left {
            Some(Ok(None)) => is_ended,
            Some(Err(Error::Cut { .. })) => !is_ended,
            _ => false,
        };
        assert!(is_known, "behind the last frame of a connection that is cut: {left:?}");
        self.receiver.bytes_partial() > 0
    }
}

/// Of the length before each frame.
const PREFIX_BYTES: usize = 4;

/// What comes of something that waits for nothing but bytes; none if those are not here.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// A stream in memory.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Stream>>);

#[derive(Default)]
struct Stream {
    bytes: VecDeque<u8>,
    is_ended: bool,
    is_broken: bool,
}

impl Pipe {
    fn lock(&self) -> std::sync::MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendHalf for Pipe {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.lock().bytes.extend(bytes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<()>> {
        self.lock().is_ended = true;
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort(&mut self) {
        self.lock().is_broken = true;
    }
}

impl RecvHalf for Pipe {
    fn read<'a>(&'a mut self, buffer: &'a mut Vec<u8>, max: usize) -> BoxFuture<'a, Result<bool>> {
        let mut stream = self.lock();
        let most = stream.bytes.len().min(max);
        buffer.extend(stream.bytes.drain(..most));
        let end = match (most, stream.is_ended, stream.is_broken) {
            (1.., ..) => Ok(true),
            (0, true, _) => Ok(false),
            (0, false, true) => Err(Error::Cut { detail: "the connection is cut".to_owned() }),
            (0, false, false) => return Box::pin(std::future::pending()),
        };
        Box::pin(std::future::ready(end))
    }
}
