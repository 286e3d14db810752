//! Passphrases, from where their owner has them.
//!
//! One comes from a prompt, a file or a file descriptor; never from an argument or an environment
//! variable, which other processes can read. It is read by the process that was asked for the
//! command, whichever runs it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use zeroize::Zeroizing;

use crate::args::Global;
use crate::exit::{Exit, Failure};

const BYTES_MAX: u64 = 4096;

/// Which one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Which {
    /// What opens the profile.
    Present = 1,
    /// What is to open it from now on.
    New = 2,
}

/// The passphrase that is asked for. A new one may be in a file.
pub(crate) fn read(
    global: &Global,
    which: Which,
    new_file: Option<&Path>,
) -> anyhow::Result<Zeroizing<String>> {
    match which {
        Which::Present => present(global, false),
        Which::New => other(new_file),
    }
}

/// What opens the profile. With `new`, of one that is about to be made.
pub(crate) fn present(global: &Global, new: bool) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = if let Some(path) = &global.passphrase_file {
        from_file(path).with_context(|| format!("cannot read {}", path.display()))?
    } else if let Some(fd) = global.passphrase_fd {
        from_file(Path::new(&format!("/dev/fd/{fd}")))
            .with_context(|| format!("cannot read file descriptor {fd}"))?
    } else if new {
        prompt_twice("Passphrase: ")?
    } else {
        prompt("Passphrase: ")?
    };
    if new {
        check_new(&passphrase)?;
    }
    Ok(passphrase)
}

/// What is to open it from now on.
fn other(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let new = match file {
        Some(path) => from_file(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => prompt_twice("New passphrase: ")?,
    };
    check_new(&new)?;
    Ok(new)
}

fn check_new(passphrase: &str) -> anyhow::Result<()> {
    if passphrase.is_empty() {
        let message = "the passphrase is empty: choose a longer one";
        return Err(Failure::error(Exit::Usage, message));
    }
    Ok(())
}

fn prompt_twice(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = prompt(text)?;
    check_new(&passphrase)?;
    // Compared in the open: both came from the same person a moment ago.
    if *prompt("The same again: ")? != *passphrase {
        return Err(Failure::error(Exit::Usage, "the two passphrases differ: start again"));
    }
    Ok(passphrase)
}

fn prompt(text: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|error| {
        Failure::error(
            Exit::Usage,
            format!(
                "there is no terminal to ask for the passphrase ({error}): use \
                 --passphrase-file or --passphrase-fd"
            ),
        )
    })
}

fn from_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    first_line(File::open(path)?)
}

/// The first line, without its line break and nothing else taken away.
fn first_line(reader: impl Read) -> anyhow::Result<Zeroizing<String>> {
    // Room for all of it at once, so that growing leaves no copies behind.
    let capacity = usize::try_from(BYTES_MAX)? + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    reader.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    anyhow::ensure!(line.len() < capacity, "a passphrase has at most {BYTES_MAX} bytes");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).context("the passphrase is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_and_keeps_its_blanks() {
        for (file, expect) in [
            ("correct horse\n", "correct horse"),
            (" a \r\nsecond line\n", " a "),
            ("no line break", "no line break"),
            ("", ""),
            ("\n", ""),
        ] {
            assert_eq!(*first_line(file.as_bytes()).unwrap(), expect);
        }
        assert!(first_line(&b"\xff\xfe"[..]).is_err());
        assert!(first_line("x".repeat(5000).as_bytes()).is_err());
        let longest = "x".repeat(4096);
        assert_eq!(*first_line(format!("{longest}\n{longest}").as_bytes()).unwrap(), longest);
    }
}
