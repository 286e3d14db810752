//! The indexes against the documents. What is wrong with them is mended by building them anew,
//! which is recorded in one transaction and done by the index stage afterwards.

use larder_store::space::documents;
use rusqlite::Connection;

use super::{CheckedPart, Checking, STEP, Stage};
use crate::Result;
use crate::embed::has_vector;
use crate::rows::text_of;
use crate::state::State as WriterState;
use crate::touched::parse;

pub(super) fn check(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    after: i64,
    is_bad: bool,
) -> Result<Stage> {
    let page = documents::page(db, None, after, STEP)?;
    let mut is_bad = is_bad;
    let embedder = &*state.shared.embedder;
    for row in &page {
        if state.queue.contains(db, row.document)? {
            continue;
        }
        let Ok(value) = parse(&row.json) else { continue };
        let text = text_of(&value);
        let standing = larder_search::standing(db, embedder.id(), row.document, &text)?;
        // An embedder may fail on a text, and then it has no vector.
        let may_be_made_yet = state.queue.unembedded() > 0;
        let lacks_vector = !standing.vector && !may_be_made_yet && has_vector(embedder, &text);
        is_bad |= !standing.words || lacks_vector;
    }
    if let Some(last) = page.last().filter(|_| !is_bad) {
        return Ok(Stage::Indexed(last.document, false));
    }
    if is_bad {
        if checking.repair {
            state.reindex(db)?;
        }
        checking.found(CheckedPart::Search, "the indexes do not hold what the documents say");
    }
    Ok(Stage::Done)
}
