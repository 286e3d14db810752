//! Where a command's text goes and where its input comes from: this process's own streams, or those
//! of another process on whose behalf it runs here.

use std::io::{self, IsTerminal, Read, Write};
#[cfg(unix)]
use std::sync::Arc;

use indicatif::ProgressDrawTarget;

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

    /// Stdin.
    pub(crate) fn stdin(&self) -> Box<dyn Read + '_> {
        match self {
            Self::Own => Box::new(io::stdin().lock()),
            #[cfg(unix)]
            Self::Client(client) => Box::new(client.stdin()),
        }
    }
}
