//! Commands while `larder serve` runs: it owns the profile, so it runs them, on behalf of the
//! processes that ask, over a Unix domain socket in the profile's directory.
//!
//! Invariants: only processes of the user who serves are answered, as the kernel tells it; both
//! sides say their version first, in a form that never changes, and go no further unless it is the
//! same, for the command line and what it prints are the interface; every frame is bounded before
//! memory is given to it; a client that stops reading holds up its own command only.

mod client;
mod server;
mod wire;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use client::{refuse_while_served, run_there};
pub(crate) use server::{Client, Server};

/// The socket's name in the profile's directory.
const NAME: &str = "serve.sock";
/// What fits into a `sockaddr_un` on every system.
const PATH_BYTES_MAX: usize = 103;

/// The socket by a name that is short enough to bind or connect to, while this lives.
struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self { path, _dir: None });
        }
        Self::through_descriptor(dir)
    }

    /// The directory by the number of an open file.
    #[cfg(target_os = "linux")]
    fn through_descriptor(dir: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }

    #[cfg(not(target_os = "linux"))]
    fn through_descriptor(dir: &Path) -> io::Result<Self> {
        let message = format!("the path of {} is too long for a socket in it", dir.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}
