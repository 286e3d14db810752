//! The sides, and how each opens a database. Which of them this binary has, its features say.

use std::path::Path;

use anyhow::Result;
use rusqlite::Connection;

#[cfg(all(feature = "larder", feature = "sqlcipher"))]
compile_error!("two SQLite libraries in one binary: build each side on its own");
#[cfg(not(any(feature = "larder", feature = "sqlcipher")))]
compile_error!("no side: build with the feature `larder` or `sqlcipher`");

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Side {
    /// SQLite as it is.
    Plain,
    /// Larder's pages, sealed with the cipher of the default build.
    Larder,
    /// The same with the feature `aws-lc`.
    LarderAwsLc,
    /// `SQLCipher` as it is, with a raw key.
    Sqlcipher,
}

impl Side {
    pub(crate) const ALL: [Self; 4] =
        [Self::Plain, Self::Larder, Self::LarderAwsLc, Self::Sqlcipher];

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Larder => "larder",
            Self::LarderAwsLc => "larder-aws-lc",
            Self::Sqlcipher => "sqlcipher",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Larder => "aes-gcm",
            Self::LarderAwsLc => "aws-lc",
            Self::Sqlcipher => "SQLCipher",
        }
    }

    /// The file name of the binary that has this side.
    pub(crate) const fn binary(self) -> &'static str {
        match self {
            Self::Plain | Self::Larder => "larder",
            Self::LarderAwsLc => "larder-aws-lc",
            Self::Sqlcipher => "sqlcipher",
        }
    }

    /// Sides that read and write the same files have the same.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Larder | Self::LarderAwsLc => "larder",
            Self::Sqlcipher => "sqlcipher",
        }
    }
}

/// What Larder sets on its connections, set on the others too.
const PRAGMAS: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;
    PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON;";

/// Opens databases as one side does.
pub(crate) struct Opener {
    pub(crate) side: Side,
    #[cfg(feature = "larder")]
    vfs: larder_pages::Vfs,
}

#[cfg(feature = "larder")]
impl Opener {
    pub(crate) fn new(side: Side) -> Result<Self> {
        anyhow::ensure!(side != Side::Sqlcipher, "this binary has no SQLCipher");
        let vfs = larder_pages::Vfs::register("larder", None, Box::new(Os))?;
        Ok(Self { side, vfs })
    }

    /// Opens the database at `path`, or makes one.
    pub(crate) fn open(&self, path: &Path) -> Result<Connection> {
        if self.side == Side::Plain {
            let db = Connection::open(path)?;
            db.execute_batch(PRAGMAS)?;
            return Ok(db);
        }
        let key = larder_crypto::Secret::new([1; 32]);
        Ok(self.vfs.open(path, &key, larder_pages::OpenMode::Create)?)
    }
}

#[cfg(feature = "larder")]
pub(crate) use larder_pages::load_vectors;

#[cfg(feature = "larder")]
struct Os;

#[cfg(feature = "larder")]
impl larder_types::Entropy for Os {
    #[expect(clippy::expect_used, reason = "nothing can be sealed without randomness")]
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives randomness");
    }
}

#[cfg(feature = "sqlcipher")]
impl Opener {
    pub(crate) fn new(side: Side) -> Result<Self> {
        anyhow::ensure!(side == Side::Sqlcipher, "this binary has SQLCipher only");
        Ok(Self { side })
    }

    /// Opens the database at `path`, or makes one. The key is raw: nothing is derived from it
    /// but the key of the page MAC.
    #[expect(clippy::unused_self, reason = "Larder's opener has a VFS")]
    pub(crate) fn open(&self, path: &Path) -> Result<Connection> {
        let db = Connection::open(path)?;
        let key = "01".repeat(32);
        db.execute_batch(&format!("PRAGMA key=\"x'{key}'\"; PRAGMA cipher_page_size=4096;"))?;
        db.execute_batch(PRAGMAS)?;
        Ok(db)
    }
}

/// As `larder_pages::load_vectors`, which would bring a second SQLite.
#[cfg(feature = "sqlcipher")]
#[expect(unsafe_code, reason = "sqlite-vec is C; its entry point takes the raw connection")]
pub(crate) fn load_vectors(connection: &Connection) -> rusqlite::Result<()> {
    use std::ffi::{c_char, c_int};

    use rusqlite::ffi;

    type EntryPoint = unsafe extern "C" fn(
        *mut ffi::sqlite3,
        *mut *mut c_char,
        *const ffi::sqlite3_api_routines,
    ) -> c_int;

    let mut message: *mut c_char = std::ptr::null_mut();
    // SAFETY: sqlite-vec is built with SQLITE_CORE against the SQLite that rusqlite links, so it
    // has the signature of an extension's entry point (its crate declares it without one) and
    // never touches the API table. `message` outlives the call; what is put there is SQLite's to
    // free, and freeing null does nothing.
    let code = unsafe {
        let init =
            std::mem::transmute::<*const (), EntryPoint>(sqlite_vec::sqlite3_vec_init as *const ());
        let code = init(connection.handle(), &raw mut message, std::ptr::null());
        ffi::sqlite3_free(message.cast());
        code
    };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }
}
