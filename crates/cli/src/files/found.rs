//! Opening the very file that was found, and not another one that was put into its place meanwhile.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Which file was found somewhere, whatever it is called. Windows has no such thing in `std`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Found {
    #[cfg(unix)]
    pub(crate) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_metadata: &Metadata) -> Self {
        Self {}
    }
}

/// Opens a file for reading. If it was found before, no link is followed, no pipe is waited for,
/// and it has to be the same file.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidData`] if it is another file by now.
pub(crate) fn open_found(path: &Path, found: Option<Found>) -> io::Result<File> {
    let Some(found) = found else { return File::open(path) };
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || Found::of(&metadata) != found {
        let what = "another file was put in its place while it was imported";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(file)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Somebody else who may write to the folder waits until a file in it was looked at, and then
    /// puts a link to a private file in its place.
    #[test]
    fn what_was_put_in_a_files_place_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("secret"), "private").unwrap();
        let refused = |swap: &dyn Fn()| {
            fs::write(at("note.md"), "a note").unwrap();
            let found = Found::of(&fs::symlink_metadata(at("note.md")).unwrap());
            assert!(open_found(&at("note.md"), Some(found)).is_ok());
            // Kept, so that its number is not given out again.
            fs::rename(at("note.md"), at("moved")).unwrap();
            swap();
            assert!(open_found(&at("note.md"), Some(found)).is_err());
            fs::remove_file(at("note.md")).unwrap();
        };
        refused(&|| symlink(at("secret"), at("note.md")).unwrap());
        refused(&|| fs::hard_link(at("secret"), at("note.md")).unwrap());
        refused(&|| {
            let made = std::process::Command::new("mkfifo").arg(at("note.md")).status().unwrap();
            assert!(made.success());
        });
        // What a person names may be a link.
        symlink(at("secret"), at("mine.md")).unwrap();
        assert!(open_found(&at("mine.md"), None).is_ok());
    }
}
