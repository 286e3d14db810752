//! `profile.key`: the profile key, sealed under a passphrase or under a key the host app keeps, and
//! which of the profile's databases it opens.

use larder_crypto::aead::XAes;
use larder_crypto::password::Argon2Params;
use larder_crypto::{Secret, password};
use larder_types::{Entropy, canonical};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::dir::Dir;
use crate::steps::{self, Step};
use crate::{Error, Result};

const FILE: &str = "profile.key";
const PARTIAL: &str = "profile.key.new";
const FILE_BYTES_MAX: usize = 4096;
const LABEL: &[u8] = b"larder/profile-key/v0";

/// What opens a profile.
pub enum Unlock {
    /// A passphrase, stretched with Argon2id (RFC 9106).
    Passphrase(Zeroizing<String>),
    /// 32 bytes kept by the host app, in the operating system's keychain for instance.
    Key(Secret<32>),
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(redacted)",
            Self::Key(_) => "Key(redacted)",
        })
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct KeyFile {
    #[n(0)]
    v: u8,
    #[n(1)]
    suite: u16,
    /// Which database of the profile the key opens; each purge makes the next.
    #[n(2)]
    generation: u32,
    #[n(3)]
    stretch: Option<Stretch>,
    #[cbor(n(4), with = "minicbor::bytes")]
    wrapped: Vec<u8>,
}

/// What `profile.key` holds, opened.
pub(crate) struct ProfileKey {
    pub(crate) key: Secret<32>,
    /// Which database of the profile it opens.
    pub(crate) generation: u32,
    /// What its passphrase costs to try; none if a host app keeps the key.
    pub(crate) cost: Option<Argon2Params>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Stretch {
    #[n(0)]
    cost: Argon2Params,
    #[cbor(n(1), with = "minicbor::bytes")]
    salt: [u8; 16],
}

impl Stretch {
    fn key(&self, passphrase: &str) -> Result<Secret<32>> {
        password::derive(passphrase.as_bytes(), &self.salt, &self.cost)
            .map_err(|e| Error::Corrupt(format!("{FILE}: {e}")))
    }

    /// Authenticated with the wrapped key, so that nobody makes a passphrase cheaper to guess, or
    /// has the key open another database.
    fn context(generation: u32, stretch: Option<&Self>) -> Vec<u8> {
        let mut context = LABEL.to_vec();
        context.extend(generation.to_be_bytes());
        if let Some(stretch) = stretch {
            context.extend(canonical::encode(stretch));
        }
        context
    }
}

/// Whether `dir` holds a profile.
pub(crate) fn exists(dir: &Dir) -> Result<bool> {
    dir.exists(FILE)
}

/// Writes a profile key to `dir`, sealed, in one step: a crash leaves the file as it was or as it
/// is to be. An error leaves it open which of the two is there.
pub(crate) fn write(
    dir: &Dir,
    unlock: &Unlock,
    key: &ProfileKey,
    entropy: &mut dyn Entropy,
) -> Result<()> {
    let (stretch, wrapping) = match unlock {
        Unlock::Passphrase(passphrase) => {
            let mut salt = [0; 16];
            entropy.fill(&mut salt);
            let stretch = Stretch { cost: key.cost.unwrap_or_default(), salt };
            let key = stretch.key(passphrase)?;
            (Some(stretch), key)
        }
        Unlock::Key(key) => (None, key.clone()),
    };
    let generation = key.generation;
    let context = Stretch::context(generation, stretch.as_ref());
    let wrapped = XAes::new(&wrapping).seal(entropy, &context, key.key.expose());
    let file = KeyFile { v: 0, suite: larder_crypto::SUITE, generation, stretch, wrapped };
    write_atomically(dir, &canonical::encode(&file))
}

/// Reads and opens the profile key. Nothing is written.
pub(crate) fn open(dir: &Dir, unlock: &Unlock) -> Result<ProfileKey> {
    // One byte more tells a file that is too long.
    let Some(bytes) = dir.read(FILE, FILE_BYTES_MAX + 1)? else {
        return Err(Error::NotFound(format!("there is no profile in {}", dir.path.display())));
    };
    let damaged = |why: String| {
        Error::Corrupt(format!("{FILE} is damaged ({why}): restore it from a backup"))
    };
    let file: KeyFile =
        canonical::decode(&bytes, FILE_BYTES_MAX).map_err(|e| damaged(e.to_string()))?;
    if file.v != 0 || file.suite != larder_crypto::SUITE {
        return Err(Error::Invalid(format!(
            "{FILE} is of version {} and suite {}, which this release does not know: open it with \
             the release that made it, or update this one",
            file.v, file.suite
        )));
    }
    let wrapping = match (unlock, &file.stretch) {
        (Unlock::Passphrase(passphrase), Some(stretch)) => stretch.key(passphrase)?,
        (Unlock::Key(key), None) => key.clone(),
        (Unlock::Passphrase(_), None) => {
            return Err(Error::Invalid(
                "this profile opens with a 32-byte key of its app, not with a passphrase".into(),
            ));
        }
        (Unlock::Key(_), Some(_)) => {
            return Err(Error::Invalid("this profile opens with a passphrase".into()));
        }
    };
    let context = Stretch::context(file.generation, file.stretch.as_ref());
    let plain =
        XAes::new(&wrapping).open(&context, &file.wrapped).map_err(|_| Error::WrongPassphrase)?;
    let bytes: [u8; 32] =
        plain.as_slice().try_into().map_err(|_| damaged("its key has another length".into()))?;
    let cost = file.stretch.as_ref().map(|stretch| stretch.cost);
    Ok(ProfileKey { key: Secret::new(bytes), generation: file.generation, cost })
}

/// The key file as it is.
pub(crate) fn bytes(dir: &Dir) -> Result<Option<Vec<u8>>> {
    dir.read(FILE, FILE_BYTES_MAX)
}

/// Removes what a write that was cut left.
pub(crate) fn remove_partial(dir: &Dir) -> Result<()> {
    dir.remove(PARTIAL)
}

fn write_atomically(dir: &Dir, bytes: &[u8]) -> Result<()> {
    let (target, partial) = (dir.path_of(FILE), dir.path_of(PARTIAL));
    let write = || -> std::io::Result<()> {
        dir.files.write_new(&partial, bytes)?;
        dir.files.rename(&partial, &target)?;
        steps::reached(Step::KeyFileNamed)?;
        dir.files.sync_dir(&dir.path)
    };
    write().map_err(|e| Error::io(&target, e))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use larder_pages::SystemFiles;

    use super::*;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    const COST: Argon2Params = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(Zeroizing::new(text.to_owned()))
    }

    fn on_disk(path: &Path) -> Dir {
        Dir { files: Arc::new(SystemFiles::default()), path: path.to_owned() }
    }

    fn written(unlock: &Unlock) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let key = ProfileKey { key: Secret::new([3; 32]), generation: 5, cost: Some(COST) };
        write(&on_disk(dir.path()), unlock, &key, &mut Zeros).unwrap();
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        (dir, bytes)
    }

    #[test]
    fn what_was_written_opens_with_what_sealed_it() {
        for (unlock, cost) in
            [(passphrase("soup"), Some(COST)), (Unlock::Key(Secret::new([4; 32])), None)]
        {
            let (dir, _) = written(&unlock);
            let key = open(&on_disk(dir.path()), &unlock).unwrap();
            assert_eq!((key.key.expose(), key.generation, key.cost), (&[3; 32], 5, cost));
            assert!(!dir.path().join(PARTIAL).exists());
        }
    }

    #[test]
    fn every_byte_is_checked_and_there_is_one_encoding() {
        let unlock = passphrase("soup");
        let (dir, bytes) = written(&unlock);
        let path = dir.path().join(FILE);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            fs::write(&path, &other).unwrap();
            assert!(open(&on_disk(dir.path()), &unlock).is_err(), "byte {at}");
        }
        let other = |file: KeyFile| canonical::encode(&file);
        let file = || canonical::decode::<KeyFile>(&bytes, FILE_BYTES_MAX).unwrap();
        let long = [bytes.as_slice(), &[0]].concat();
        let large = other(KeyFile { wrapped: vec![0; FILE_BYTES_MAX], ..file() });
        for damaged in [&[][..], &bytes[..bytes.len() - 1], &long, &large] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(open(&on_disk(dir.path()), &unlock), Err(Error::Corrupt(_))));
        }
        for unknown in [KeyFile { v: 1, ..file() }, KeyFile { suite: 0x7fff, ..file() }] {
            fs::write(&path, other(unknown)).unwrap();
            assert!(matches!(open(&on_disk(dir.path()), &unlock), Err(Error::Invalid(_))));
        }
        // Another database than the one it was made for.
        fs::write(&path, other(KeyFile { generation: 4, ..file() })).unwrap();
        assert!(matches!(open(&on_disk(dir.path()), &unlock), Err(Error::WrongPassphrase)));
        fs::write(&path, &bytes).unwrap();
        open(&on_disk(dir.path()), &unlock).unwrap();
        assert!(matches!(
            open(&on_disk(dir.path()), &passphrase("soap")),
            Err(Error::WrongPassphrase)
        ));
    }
}
