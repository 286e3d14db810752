use std::ffi::OsString;
use std::io;
use std::path::Path;

use rusqlite::ffi;

use super::disk::{Disk, Handle};
use crate::code::Code;
use crate::files::{Files, Held, Lock};
use crate::lower::Filled;

impl Files for Disk {
    fn vfs(&self) -> Option<&str> {
        Some(self.name())
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = self.open_existing(path, ffi::SQLITE_OPEN_READONLY)?;
        let read = || {
            let size = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(bytes_max);
            let mut bytes = vec![0; size];
            match file.read(&mut bytes, 0)? {
                Filled::Whole => Ok(bytes),
                Filled::Short => Err(Code::SHORT_READ),
            }
        };
        let read = read();
        let closed = file.close();
        let bytes = read.map_err(io_error)?;
        closed.map_err(io_error).map(|()| bytes)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open(path, CREATE).map_err(io_error)?;
        let mut write = || {
            file.truncate(0)?;
            file.write(bytes, 0)?;
            file.sync()
        };
        let written = write();
        let closed = file.close();
        written.and(closed).map_err(io_error)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.rename_file(from, to).map_err(io_error)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.delete(path, false).map_err(io_error)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let file = self.open_existing(path, ffi::SQLITE_OPEN_READONLY)?;
        let size = file.size();
        let closed = file.close();
        let size = size.map_err(io_error)?;
        closed.map_err(io_error).map(|()| size)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.access(path).map_err(io_error)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.names_in(dir).map_err(io_error)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self.make_directory(dir).map_err(io_error)? {
            Ok(())
        } else {
            Err(io::ErrorKind::AlreadyExists.into())
        }
    }

    fn make_private(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync_directory(dir).map_err(io_error)
    }

    fn lock(&self, path: &Path, lock: Lock) -> io::Result<Held> {
        let (file, level) = match lock {
            Lock::Exclusive => {
                (self.open(path, CREATE).map_err(io_error)?, ffi::SQLITE_LOCK_EXCLUSIVE)
            }
            Lock::Shared => {
                (self.open_existing(path, ffi::SQLITE_OPEN_READONLY)?, ffi::SQLITE_LOCK_SHARED)
            }
        };
        match file.lock(level) {
            Ok(()) => Ok(Held::new(Guard(Some(file)))),
            Err(code) => {
                let _ = file.close();
                Err(io_error(code))
            }
        }
    }
}

const CREATE: i32 = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;

/// A handle that goes, with its locks, when this is dropped.
struct Guard(Option<Handle>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            let _ = handle.close();
        }
    }
}

impl Disk {
    fn open_existing(&self, path: &Path, flags: i32) -> io::Result<Handle> {
        self.open(path, flags).map_err(|code| {
            if self.is_there(path) { io_error(code) } else { io::ErrorKind::NotFound.into() }
        })
    }
}

fn io_error(code: Code) -> io::Error {
    match code {
        Code::BUSY => io::ErrorKind::WouldBlock.into(),
        Code::FULL => io::ErrorKind::StorageFull.into(),
        Code::NO_SUCH_FILE => io::ErrorKind::NotFound.into(),
        code => io::Error::other(format!("the disk in memory answers {code:?}")),
    }
}
