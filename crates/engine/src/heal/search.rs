//! The indexes against the documents. What is wrong with them is mended by building them anew,
//! which is recorded in one transaction and done by the index stage afterwards. A vector that is
//! not there may be one that the embedder failed on, which is no damage: a repair has it tried
//! again.

use std::sync::Arc;

use larder_store::space::documents::Document;
use rusqlite::Connection;

use super::{CheckedPart, Checking};
use crate::Result;
use crate::rows::text_of;
use crate::state::State as WriterState;
use crate::touched::parse;

/// Some documents, and with `is_bad` what is wrong with the indexes as a whole. Whether they are to
/// be built anew.
pub(super) fn check(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    page: &[Document],
    is_bad: bool,
) -> Result<bool> {
    let mut is_bad = is_bad;
    let shared = Arc::clone(&state.shared);
    let embedder = shared.embedder.id();
    // They may be made yet.
    let are_awaited = state.queue.unembedded() > 0;
    let mut lacking = Vec::new();
    for row in page {
        if state.queue.contains(db, row.document)? {
            continue;
        }
        let Ok(value) = parse(&row.json) else { continue };
        let text = text_of(&value);
        let standing = larder_search::standing(db, embedder, row.document, &text)?;
        is_bad |= !standing.words;
        if !standing.vector && !are_awaited {
            lacking.push(row.document);
        }
    }
    checking.report.without_vector += lacking.len() as u64;
    for document in lacking.into_iter().filter(|_| checking.repair) {
        larder_search::remove_vector(db, embedder, document)?;
        state.embed_from(db, document, document)?;
    }
    if is_bad {
        if checking.repair {
            state.reindex(db)?;
        }
        checking.found(CheckedPart::Search, "the indexes do not hold what the documents say");
    }
    Ok(is_bad)
}
