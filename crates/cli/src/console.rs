//! Where a command's text goes and where its input comes from: this process's own streams, or those
//! of another process on whose behalf it runs here.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
#[cfg(unix)]
use std::sync::Arc;

use indicatif::ProgressDrawTarget;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::args::Global;
use crate::passphrase::{self, Which};
#[cfg(unix)]
use crate::socket::Client;

#[derive(Debug)]
pub(crate) enum Console {
    Own,
    #[cfg(unix)]
    Client(Arc<Client>),
}

impl Console {
    /// Writes to stdout and flushes. A reader that has seen enough (`larder list | head`) ends this
    /// process in good order.
    ///
    /// # Errors
    /// Stdout is gone.
    pub(crate) fn write_out(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Own => {
                let mut out = io::stdout().lock();
                match out.write_all(bytes).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        std::process::exit(0)
                    }
                    result => result,
                }
            }
            #[cfg(unix)]
            Self::Client(client) => client.write_out(bytes),
        }
    }

    /// Writes to stderr.
    ///
    /// # Errors
    /// Stderr is gone.
    pub(crate) fn write_err(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Own => io::stderr().lock().write_all(bytes),
            #[cfg(unix)]
            Self::Client(client) => client.write_err(bytes),
        }
    }

    /// What can be drawn on, if stderr is a terminal.
    pub(crate) fn terminal(&self) -> Option<ProgressDrawTarget> {
        match self {
            Self::Own => io::stderr().is_terminal().then(ProgressDrawTarget::stderr),
            #[cfg(unix)]
            Self::Client(client) => client.terminal(),
        }
    }

    /// The next line of stdin, without its end; none if there is no more. Whoever stops waiting for
    /// it leaves a thread behind that waits on.
    pub(crate) async fn line(&self) -> io::Result<Option<Zeroizing<String>>> {
        let (told, line) = oneshot::channel();
        match self {
            Self::Own => {
                std::thread::spawn(move || told.send(first_line(io::stdin().lock())));
            }
            #[cfg(unix)]
            Self::Client(client) => {
                let client = Arc::clone(client);
                std::thread::spawn(move || told.send(first_line(client.stdin())));
            }
        }
        line.await.map_err(io::Error::other)?
    }

    /// A passphrase, which the process asks for that was given the command.
    ///
    /// # Errors
    /// There is no terminal and no file to take it from; the process is gone.
    pub(crate) async fn passphrase(
        &self,
        global: &Global,
        which: Which,
        new_file: Option<&Path>,
    ) -> anyhow::Result<Zeroizing<String>> {
        match self {
            Self::Own => passphrase::read(global, which, new_file),
            #[cfg(unix)]
            Self::Client(client) => {
                let (told, read) = oneshot::channel();
                let client = Arc::clone(client);
                std::thread::spawn(move || told.send(client.passphrase(which)));
                Ok(read.await??)
            }
        }
    }

    /// Drops what was typed and not read yet, if stdin is a terminal: it answers no question that
    /// comes from here on.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn forget_typed(&self) -> io::Result<()> {
        match self {
            Self::Own => forget_typed(),
            #[cfg(unix)]
            Self::Client(client) => client.forget_typed(),
        }
    }

    /// Whether stdin is a terminal.
    pub(crate) fn is_typed(&self) -> bool {
        match self {
            Self::Own => io::stdin().is_terminal(),
            #[cfg(unix)]
            Self::Client(client) => client.is_typed(),
        }
    }

    /// Stdin.
    pub(crate) fn stdin(&self) -> Box<dyn Read + '_> {
        match self {
            Self::Own => Box::new(io::stdin().lock()),
            #[cfg(unix)]
            Self::Client(client) => Box::new(client.stdin()),
        }
    }
}

/// Drops what was typed and not read yet, if this process's stdin is a terminal.
#[cfg(unix)]
pub(crate) fn forget_typed() -> io::Result<()> {
    use rustix::termios::{QueueSelector, tcflush};
    let stdin = io::stdin();
    if stdin.is_terminal() {
        tcflush(&stdin, QueueSelector::IFlush)?;
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on the other systems")]
fn forget_typed() -> io::Result<()> {
    Ok(())
}

const LINE_BYTES_MAX: usize = 4096;

/// Byte by byte, so that nothing behind the line is taken.
fn first_line(mut from: impl Read) -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut byte = Zeroizing::new([0; 1]);
    while line.len() < LINE_BYTES_MAX {
        match from.read(byte.as_mut_slice())? {
            0 if line.is_empty() => return Ok(None),
            0 => break,
            _ if *byte == [b'\n'] => break,
            _ => line.extend_from_slice(byte.as_slice()),
        }
    }
    let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
    Ok(Some(Zeroizing::new(text.trim_end_matches('\r').to_owned())))
}
