//! What can be seen at a glance when a space is opened: gross damage, in a few milliseconds however
//! large the space is. What it does not see a check does.

use larder_document::Heads;
use larder_log::checkpoint::Checkpoint;
use larder_log::{Header, entry_hash, kind, merkle};
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::{documents, entries, sections, transactions};
use larder_types::canonical;
use rusqlite::Connection;

use crate::Result;
use crate::state::State as WriterState;
use crate::touched::{load, parse};

/// Logs and documents that are looked at.
const LOGS_MAX: usize = 8;
const DOCUMENTS_MAX: u32 = 8;
/// A history beyond this is not loaded.
const HISTORY_BYTES_MAX: usize = 256 << 10;

/// What is wrong, if anything is.
pub(super) fn glance(db: &Connection, state: &WriterState) -> Result<Option<String>> {
    for log in logs::every(db)?.iter().take(LOGS_MAX) {
        if let Some(what) = log_end(db, state, log)? {
            return Ok(Some(format!("the log of {}: {what}", log.device)));
        }
    }
    let newest = documents::newest(db, DOCUMENTS_MAX)?;
    if newest.is_empty() && has_lost_all(db)? {
        return Ok(Some("the documents that its log tells of are gone".into()));
    }
    for row in &newest {
        let Ok(value) = parse(&row.json) else {
            return Ok(Some(format!("the value of document {}", row.object)));
        };
        let history = documents::history(db, row.document)?;
        if history.is_some_and(|bytes| bytes.len() > HISTORY_BYTES_MAX) {
            continue;
        }
        let is_sound = load(db, row).is_ok_and(|document| {
            let heads = canonical::decode::<Heads>(&row.heads, row.heads.len());
            heads.is_ok_and(|heads| heads == document.heads())
                && document.value().is_ok_and(|now| now == value)
        });
        if !is_sound {
            return Ok(Some(format!("the history of document {}", row.object)));
        }
    }
    Ok(None)
}

/// The last entry, the tree above it and what its device signed.
fn log_end(db: &Connection, state: &WriterState, log: &Log) -> Result<Option<&'static str>> {
    let (size, root) = (log.frontier.size(), log.frontier.root());
    if size == 0 {
        return Ok(None);
    }
    let space = state.shared.id;
    let checkpoint = Checkpoint { space, device: log.device, size, root };
    let last = transactions::last_of(db, log.log)?.filter(|last| last.last_seq == size);
    if last.is_none_or(|last| checkpoint.verify(&last.signature).is_err()) {
        return Ok(Some("its end is not what its device signed"));
    }
    if merkle::root_at(&Tree::new(db, log.log), size).ok() != Some(root) {
        return Ok(Some("its tree has holes"));
    }
    let is_there = entries::find(db, log.log, size)?.is_some_and(|entry| {
        let header = Header::decode(&entry.header);
        header.is_ok_and(|header| header.seq == size) && entry_hash(&entry.header) == entry.hash
    });
    Ok((!is_there).then_some("its last entry cannot be read"))
}

/// Whether there are no documents, and neither tombstones, though some were created.
fn has_lost_all(db: &Connection) -> Result<bool> {
    let created = sections::applied(db, kind::DOCUMENT_CREATE..=kind::DOCUMENT_CREATE, 0, 1)?;
    Ok(!created.is_empty() && !larder_store::space::tombstones::any(db)?)
}
