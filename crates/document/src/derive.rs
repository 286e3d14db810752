use automerge::transaction::CommitOptions;
use automerge::{Automerge, ROOT, TextEncoding};

use crate::heads::Actor;
use crate::put::Writer;
use crate::{DocumentError, Object};

/// By which rules a flat value becomes an Automerge change. Every device derives the same bytes.
///
/// Version 0: actor of sixteen zero bytes, sequence number 1, time 0, keys in the order of their
/// bytes, each container filled before what follows it. Objects become maps, arrays lists,
/// integers that fit 64 bits with sign `int`, larger ones `uint`, others floats. A string of more
/// than 200 characters or with a line feed or carriage return becomes a text, others scalars.
pub const DERIVATION: u16 = 0;

const SCALAR_CHARS_MAX: usize = 200;

/// Characters are counted in code points: what counts as one must not change with Unicode's
/// tables.
pub(crate) const ENCODING: TextEncoding = TextEncoding::UnicodeCodePoint;

/// Whether a string becomes a text, in which edits of different places merge.
pub(crate) fn is_text(string: &str) -> bool {
    string.contains(['\n', '\r']) || string.chars().nth(SCALAR_CHARS_MAX).is_some()
}

/// The history that stands behind `genesis`: one change.
pub(crate) fn root(genesis: &Object) -> Result<Automerge, DocumentError> {
    let mut doc = Automerge::new_with_encoding(ENCODING);
    doc.set_actor(Actor::ROOT.id());
    let options = CommitOptions::default().with_time(0);
    if genesis.is_empty() {
        doc.empty_commit(options);
        return Ok(doc);
    }
    let mut tx = doc.transaction();
    Writer::unbounded(&mut tx).fill_map(&ROOT, genesis)?;
    tx.commit_with(options);
    Ok(doc)
}
