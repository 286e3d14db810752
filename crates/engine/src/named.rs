//! How far the first entries of a log name the others: by it is told what an author knew.

use std::collections::BTreeMap;

use larder_log::Header;
use larder_log::stability::Named;
use larder_store::space::logs::LogId;
use larder_store::space::{entries, snapshots};
use rusqlite::Connection;

use crate::state::State;
use crate::{Error, Result};

/// How many entries lie between two behind which it is kept. A look reads the headers since the
/// last of those, and a log has years of them.
const KEPT_EVERY: u64 = 64;

/// How many headers are read at once.
const PAGE: u64 = 256;

/// Of each log as far as was looked, or as entries were written.
pub(crate) type LookedAt = BTreeMap<LogId, Named>;

/// What the first `end` entries of a log name of the others.
pub(crate) fn named_up_to(db: &Connection, log: LogId, end: u64) -> Result<Named> {
    go_on(db, log, end, snapshots::named(db, log, end)?)
}

/// The same, from what is known of fewer of them.
pub(crate) fn go_on(db: &Connection, log: LogId, end: u64, mut named: Named) -> Result<Named> {
    // Less than was looked at before: a device has come that holds less.
    if named.size() > end {
        named = snapshots::named(db, log, end)?;
    }
    while named.size() < end {
        let first = named.size() + 1;
        for entry in entries::range(db, log, first, end.min(named.size() + PAGE))? {
            let header = Header::decode(&entry.header).ok();
            if !header.is_some_and(|header| named.take(&header)) {
                let message = format!("the header of entry {} cannot be read", entry.seq);
                return Err(Error::Corrupt(message));
            }
        }
        if named.size() + 1 == first {
            return Err(Error::Corrupt(format!("entry {first} of a log is missing")));
        }
    }
    Ok(named)
}

impl State {
    /// An entry was written. Keeps what its log names up to there, once in a while.
    pub(crate) fn note_named(
        &mut self,
        db: &Connection,
        log: LogId,
        header: &Header,
    ) -> Result<()> {
        let before = header.seq.saturating_sub(1);
        // What was taken of a transaction that came to nothing is of another size.
        let known = self.naming.remove(&log).filter(|named| named.size() == before);
        let is_kept = header.seq.is_multiple_of(KEPT_EVERY);
        let mut named = match known {
            Some(named) => named,
            None if is_kept || before.is_multiple_of(KEPT_EVERY) => named_up_to(db, log, before)?,
            None => return Ok(()),
        };
        named.take(header);
        if is_kept {
            snapshots::add_named(db, log, &named)?;
        }
        self.naming.insert(log, named);
        Ok(())
    }
}
