use std::io;
use std::path::PathBuf;

/// Why an export is not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The export contradicts itself: it was altered, is incomplete, or was never true.
    #[error("{}{}: {reason}", file.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
    Refuted {
        /// The file, within the export.
        file: PathBuf,
        /// The line in it, from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read, so nothing is said about the export.
    #[error(
        "{} could not be read: {source}. Check that the directory is an export and readable",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}
