//! What the two processes say: a greeting each, then frames of a kind, a length and a payload.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use zeroize::Zeroizing;

/// Of one frame, a command line included.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Of stdin, stdout or stderr in one frame.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"larder-c";
/// Counts up with every change of the frames.
const PROTOCOL: u8 = 3;

/// What both sides say first. Its form never changes: whatever came before or comes after can tell
/// who it speaks with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    protocol: u8,
    pub(super) version: String,
}

impl Hello {
    pub(super) fn own() -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u8::try_from(self.version.len()).map_err(io::Error::other)?;
        let head = [MAGIC.as_slice(), &[self.protocol, length]].concat();
        to.write_all(&[head.as_slice(), self.version.as_bytes()].concat())
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; MAGIC.len() + 2];
        from.read_exact(&mut head)?;
        let Some([protocol, length]) = head.strip_prefix(MAGIC.as_slice()) else {
            return Err(malformed("this is not a process of larder"));
        };
        let mut version = vec![0; usize::from(*length)];
        from.read_exact(&mut version)?;
        let version = String::from_utf8_lossy(&version).into_owned();
        Ok(Self { protocol: *protocol, version })
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// From the client: a [`Request`], once.
    Run = 1,
    /// From the client: some of its stdin, for each `WantStdin`; empty at its end.
    Stdin = 2,
    /// From the client: somebody pressed Ctrl-C.
    Interrupt = 3,
    /// From the client: a passphrase, for each `WantPassphrase`.
    Passphrase = 4,
    /// From the server: bytes for stdout.
    Out = 16,
    /// From the server: bytes for stderr.
    Err = 17,
    /// From the server: it waits for some of stdin.
    WantStdin = 18,
    /// From the server, last: the exit code, one byte.
    Exit = 19,
    /// From the server: what was typed on a terminal and not read yet answers nothing any more.
    ForgetTyped = 20,
    /// From the server: it waits for a passphrase; one byte says which.
    WantPassphrase = 21,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Run,
        Self::Stdin,
        Self::Interrupt,
        Self::Passphrase,
        Self::Out,
        Self::Err,
        Self::WantStdin,
        Self::Exit,
        Self::ForgetTyped,
        Self::WantPassphrase,
    ];
}

/// Of a frame; wiped when dropped.
pub(super) type Payload = Zeroizing<Vec<u8>>;

pub(super) fn write_frame(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > FRAME_BYTES_MAX {
        return Err(malformed("the command line is longer than 1 MiB: use files"));
    }
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let head = [&[kind as u8], length.to_le_bytes().as_slice()].concat();
    // What a person types may be a secret, and so may be what is shown.
    to.write_all(&Zeroizing::new([head.as_slice(), payload].concat()))
}

/// The next frame; none if the other side ended between two.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Option<(Kind, Payload)>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let kind = Kind::ALL.into_iter().find(|known| [*known as u8] == kind);
    let kind = kind.ok_or_else(|| malformed("a frame of no known kind"))?;
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > FRAME_BYTES_MAX {
        return Err(malformed("a frame that is too long"));
    }
    let mut payload = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

/// A command to run: its line, and what the asking process knows of its surroundings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Columns of the terminal that stderr is, if it is one.
    pub(super) width: Option<u16>,
    /// Whether stdin is a terminal.
    pub(super) typed: bool,
    pub(super) dir: PathBuf,
    /// The command's name and its arguments.
    pub(super) args: Vec<OsString>,
}

impl Request {
    /// The width, zero for none; whether stdin is a terminal; then directory and arguments, each
    /// ended by the zero byte that none of them can hold.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.width.unwrap_or(0).to_le_bytes().to_vec();
        bytes.push(u8::from(self.typed));
        let dir = std::iter::once(self.dir.as_os_str());
        for text in dir.chain(self.args.iter().map(OsString::as_os_str)) {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let (width, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("no request"))?;
        let width = u16::from_le_bytes(*width);
        let (typed, rest) = match rest.split_first() {
            Some((flag @ (0 | 1), rest)) => (*flag == 1, rest),
            _ => return Err(malformed("a request that does not say who types")),
        };
        let rest = rest.strip_suffix(&[0]).ok_or_else(|| malformed("a request that is cut"))?;
        let mut texts = rest.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let dir = texts.next().map(PathBuf::from).unwrap_or_default();
        let args = texts.map(|text| OsString::from_vec(text.as_bytes().to_vec())).collect();
        Ok(Self { width: (width > 0).then_some(width), typed, dir, args })
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        Hello::own().write(&mut bytes).unwrap();
        write_frame(&mut bytes, Kind::Stdin, b"abc").unwrap();
        write_frame(&mut bytes, Kind::Interrupt, b"").unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(Hello::read(&mut from).unwrap(), Hello::own());
        assert_eq!(read_frame(&mut from).unwrap(), Some((Kind::Stdin, b"abc".to_vec().into())));
        assert_eq!(read_frame(&mut from).unwrap(), Some((Kind::Interrupt, Vec::new().into())));
        assert_eq!(read_frame(&mut from).unwrap(), None);
        let args: Vec<OsString> = ["larder", "get", "", "ä"].map(OsString::from).to_vec();
        for (width, typed, args) in [(Some(80), true, args), (None, false, Vec::new())] {
            let request = Request { width, typed, dir: "/a b".into(), args };
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        let mut whole = Vec::new();
        write_frame(&mut whole, Kind::Out, b"abc").unwrap();
        for length in 1..whole.len() {
            assert!(read_frame(&mut &whole[..length]).is_err(), "{length}");
        }
        let mut long = vec![Kind::Out as u8];
        long.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_frame(&mut long.as_slice()).is_err());
        assert!(read_frame(&mut [99, 0, 0, 0, 0].as_slice()).is_err());
        assert!(Hello::read(&mut b"HTTP/1.1 200 OK\r\n".as_slice()).is_err());
        assert!(Request::decode(&[]).is_err());
        assert!(Request::decode(&[0, 0, 0, b'a']).is_err());
        assert!(Request::decode(&[0, 0, 2, b'a', 0]).is_err());
        let too_long = vec![0; FRAME_BYTES_MAX + 1];
        assert!(write_frame(&mut Vec::new(), Kind::Run, &too_long).is_err());
    }
}
