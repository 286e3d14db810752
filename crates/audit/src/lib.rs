//! Verifies a receipt export with public keys alone: no store, no secret, no trust in whoever
//! made the export. Small enough to be read in one sitting, so that an outsider may.
//!
//! [`verify`] reads the directory that [`format::ExportWriter`] writes, in memory that does not
//! grow with the number of entries. `docs/format/log.md` describes the files.

mod error;
pub mod format;
mod verdict;
mod verify;

pub use error::AuditError;
pub use verdict::{AckVerdict, LogVerdict, Verdict};
pub use verify::verify;
