//! Exit codes, and what a failure says.

use std::fmt;
use std::process::ExitCode;

use larder::ErrorKind;

/// What the process ends with; the numbers are part of the interface (`larder --help`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    WrongPassphrase = 3,
    InUse = 4,
    NotFound = 5,
    Skips = 6,
    Refuted = 7,
    Unreachable = 8,
    Refused = 9,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure whose exit code the command itself decides.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { exit, message: message.into() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error, by the first cause that has one.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(error) = cause.downcast_ref::<larder::Error>() {
            return code_of_kind(error.kind());
        }
    }
    Exit::Failed
}

pub(crate) fn code_of_kind(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::WrongPassphrase => Exit::WrongPassphrase,
        ErrorKind::InUse => Exit::InUse,
        ErrorKind::NotFound | ErrorKind::Deleted => Exit::NotFound,
        ErrorKind::Unreachable => Exit::Unreachable,
        ErrorKind::Invitation | ErrorKind::Refused => Exit::Refused,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_code_under_context() {
        let error = Failure::error(Exit::Skips, "2 files were skipped").context("while importing");
        assert_eq!(code_of(&error), Exit::Skips);
        assert_eq!(code_of(&anyhow::anyhow!("other")), Exit::Failed);
        assert_eq!(code_of_kind(ErrorKind::InUse), Exit::InUse);
        assert_eq!(code_of_kind(ErrorKind::Corrupt), Exit::Failed);
    }
}
