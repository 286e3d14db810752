//! The files beside databases: a key file, directories, a lock. Handed in together with the VFS
//! that the databases are on, so that a test can put a whole profile on a disk of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// A place for files, and the VFS that has the databases among them.
///
/// As on every disk: what was written is durable once the file is synced, a name once its directory
/// is.
pub trait Files: Send + Sync {
    /// The SQLite VFS whose paths lead to the same files; `None` is the operating system's.
    fn vfs(&self) -> Option<&str>;

    /// The first `bytes_max` bytes of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; those of the disk.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// Writes a file in place of the one that may be there, and makes its content durable.
    ///
    /// # Errors
    /// Those of the disk. Any part of the file may be there then.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name in the same directory, in place of what had that name. A crash
    /// leaves either.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; those of the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name away.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; those of the disk.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Bytes in a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; those of the disk.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Whether the path leads to a file or a directory.
    ///
    /// # Errors
    /// Those of the disk.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; those of the disk.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Makes a directory in one that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; those of the disk.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Lets nobody but the owner into a directory, where the operating system has the notion.
    ///
    /// # Errors
    /// Those of the disk.
    fn make_private(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable, where the operating system has the notion.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks a file against other processes and other holders in this one, until the answer is
    /// dropped. [`Lock::Exclusive`] makes the file if it is not there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if somebody holds it; [`io::ErrorKind::NotFound`]; those of
    /// the disk.
    fn lock(&self, path: &Path, lock: Lock) -> io::Result<Held>;
}

/// How a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// By several.
    Shared,
    /// By one alone.
    Exclusive,
}

/// A lock on a file, given back when it is dropped.
pub struct Held(#[expect(dead_code, reason = "its drop gives the lock back")] Box<dyn Send + Sync>);

impl Held {
    /// What unlocks when it is dropped.
    pub(crate) fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// The operating system's files.
#[derive(Clone, Debug, Default)]
pub struct SystemFiles {
    vfs: Option<String>,
}

impl SystemFiles {
    /// Databases go through the SQLite VFS of this name, one over the same files.
    pub fn through(vfs: &str) -> Self {
        Self { vfs: Some(vfs.to_owned()) }
    }
}

impl Files for SystemFiles {
    fn vfs(&self) -> Option<&str> {
        self.vfs.as_deref()
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn make_private(&self, dir: &Path) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        }
        let _ = dir;
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // The parent of a relative path may have no name.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path, lock: Lock) -> io::Result<Held> {
        let (file, locked) = match lock {
            Lock::Exclusive => {
                let file = File::options().create(true).truncate(false).write(true).open(path)?;
                let locked = file.try_lock();
                (file, locked)
            }
            Lock::Shared => {
                let file = File::open(path)?;
                let locked = file.try_lock_shared();
                (file, locked)
            }
        };
        locked.map_err(io::Error::from)?;
        Ok(Held::new(file))
    }
}
