//! Chunks of blobs against the digests that their manifests give them.

use larder_log::blob::chunk_digest;
use larder_store::space::blobs::{self as table, Held};
use rusqlite::Connection;

use super::{CheckedPart, Checking, Outcome};
use crate::Result;
use crate::blobs::policy;
use crate::trouble::is_damage;

/// What was seen of some chunks.
pub(super) struct Looked {
    chunks: u64,
    last: Option<i64>,
    bad: Vec<(Held, Damage)>,
}

/// What is wrong with a chunk.
#[derive(Clone, Copy, PartialEq)]
enum Damage {
    Differs,
    Missing,
    Unreadable,
}

/// Looks at some chunks behind `after`, outside of any transaction that writes: one ends where a
/// page cannot be read.
///
/// Memory: one chunk.
pub(super) fn look(db: &Connection, after: i64) -> Result<Looked> {
    let page = table::held_page(db, after, CHUNKS_STEP)?;
    let (chunks, last) = (page.len() as u64, page.last().map(|held| held.chunk));
    let mut bad = Vec::new();
    for held in page {
        let damage = match table::sealed(db, &held.digest) {
            Ok(Some(sealed)) if chunk_digest(&sealed) == held.digest => continue,
            Ok(Some(_)) => Damage::Differs,
            Ok(None) => Damage::Missing,
            Err(error) => match error.into() {
                error if is_damage(&error) => Damage::Unreadable,
                error => return Err(error),
            },
        };
        bad.push((held, damage));
    }
    Ok(Looked { chunks, last, bad })
}

/// Drops what was seen to be bad.
pub(super) fn settle(db: &Connection, checking: &mut Checking, looked: &Looked) -> Result<()> {
    checking.report.chunks += looked.chunks;
    for (held, damage) in &looked.bad {
        let outcome = match damage {
            // Pages that cannot be read cannot be freed either.
            Damage::Unreadable => Outcome::Lost,
            _ if checking.repair => Outcome::Wanted,
            _ => Outcome::Fetchable,
        };
        if outcome == Outcome::Wanted {
            table::drop_chunk(db, held.chunk, policy(db)?.eager_bytes_max)?;
        }
        let of = match table::blob_with(db, held.chunk)? {
            Some(id) => format!("blob {id}"),
            None => "a blob that is being added".to_owned(),
        };
        let what = format!("a chunk of {of} {}", damage.told());
        checking.found(CheckedPart::Blob, what).outcome = outcome;
    }
    Ok(())
}

impl Looked {
    /// The last chunk that was looked at, if there were any.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }
}

impl Damage {
    const fn told(self) -> &'static str {
        match self {
            Self::Differs => "is not what its manifest says",
            Self::Missing => "is not there",
            Self::Unreadable => "cannot be read",
        }
    }
}

/// Chunks in one step: at most so many MiB are read and hashed before others may write.
const CHUNKS_STEP: u32 = 16;
