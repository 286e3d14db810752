//! A path as it stands in a command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A path as somebody wrote it; [`Call::path`](crate::home::Call::path) says where it leads.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// Whether it stands for stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        self.0.as_os_str() == "-"
    }

    /// Where it leads from `dir`.
    pub(crate) fn within(&self, dir: &Path) -> PathBuf {
        dir.join(&self.0)
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Place {
    fn from(text: &T) -> Self {
        Self(PathBuf::from(text))
    }
}

impl From<OsString> for Place {
    fn from(text: OsString) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
