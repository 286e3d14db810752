//! The directory of a profile, on the disk that the environment hands in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_pages::{Files, Held, Lock};

use crate::profile::Access;
use crate::{Environment, Error, Result};

const LOCK: &str = "lock";

/// A directory with its disk. Names in it are relative, with `/` between their parts.
#[derive(Clone)]
pub(crate) struct Dir {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) path: PathBuf,
}

impl Dir {
    pub(crate) fn new(env: &dyn Environment, path: &Path) -> Self {
        Self { files: env.files(), path: path.to_owned() }
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> Result<bool> {
        let path = self.path_of(name);
        self.files.exists(&path).map_err(|e| Error::io(&path, e))
    }

    /// The first `bytes_max` bytes of a file; none if it is not there.
    pub(crate) fn read(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(name);
        unless_missing(self.files.read(&path, bytes_max)).map_err(|e| Error::io(&path, e))
    }

    /// Bytes in a file, 0 if it is not there.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        let path = self.path_of(name);
        let size = unless_missing(self.files.size(&path)).map_err(|e| Error::io(&path, e))?;
        Ok(size.unwrap_or(0))
    }

    /// Gives a file another name, in place of what had that name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path_of(from), self.path_of(to));
        self.files.rename(&from, &to).map_err(|e| Error::io(&to, e))
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path_of(name);
        unless_missing(self.files.remove(&path)).map(drop).map_err(|e| Error::io(&path, e))
    }

    /// The names in one of its directories (`""` is itself); none if that is not there.
    pub(crate) fn names(&self, dir: &str) -> Result<Vec<String>> {
        let path = self.path_of(dir);
        let names = unless_missing(self.files.list(&path)).map_err(|e| Error::io(&path, e))?;
        Ok(names.into_iter().flatten().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Makes the names in one of its directories durable.
    pub(crate) fn sync_names(&self, dir: &str) -> Result<()> {
        let path = self.path_of(dir);
        self.files.sync_dir(&path).map_err(|e| Error::io(&path, e))
    }

    /// Makes it, a directory in it and those above, durably; nobody but the owner gets in.
    pub(crate) fn make(&self, inner: &str) -> Result<()> {
        let path = self.path_of(inner);
        make_dirs(&*self.files, &path).map_err(|e| Error::io(&path, e))?;
        self.files.make_private(&self.path).map_err(|e| Error::io(&self.path, e))?;
        self.sync_names("")
    }

    /// Keeps other processes out, for as long as the answer lives.
    pub(crate) fn lock(&self, access: Access) -> Result<Option<Held>> {
        let path = self.path_of(LOCK);
        let lock = match access {
            Access::ReadWrite => Lock::Exclusive,
            Access::ReadOnly => Lock::Shared,
        };
        match self.files.lock(&path, lock) {
            Ok(held) => Ok(Some(held)),
            // On a medium that cannot be written nobody writes.
            Err(e) if access == Access::ReadOnly && e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::InUse(self.path.clone())),
            Err(e) => Err(Error::io(&path, e)),
        }
    }
}

/// A crash while one is made leaves a last one of which nobody knows whether its name is durable:
/// so the name of that which was there is made durable as well.
fn make_dirs(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut there = None;
    for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if files.exists(dir)? {
            there = Some(dir);
            break;
        }
        missing.push(dir);
    }
    if let Some(parent) = there.and_then(Path::parent) {
        match files.sync_dir(parent) {
            // Not ours to open, so not ours to have made it in.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    for dir in missing.into_iter().rev() {
        match files.make_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => dir.parent().map_or(Ok(()), |parent| files.sync_dir(parent))?,
        }
    }
    Ok(())
}

fn unless_missing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
