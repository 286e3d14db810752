use automerge::transaction::{CommitOptions, Transactable};
use automerge::{Automerge, TextEncoding};

use crate::heads::Actor;
use crate::tree::{self, Texts};
use crate::{DocumentError, Object};

/// By which rules a flat value becomes an Automerge change. Every device derives the same bytes.
///
/// Version 0: actor of sixteen zero bytes, sequence number 1, time 0; breadth first, keys in the
/// order of their bytes. Objects become maps, arrays lists, integers that fit 64 bits with sign
/// `int`, larger ones `uint`, others floats. A string of more than 200 characters or with a line
/// feed or carriage return becomes a text, others scalars.
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
    tx.init_root_from_hydrate(&tree::map(genesis, Texts::Kept))
        .map_err(|e| DocumentError::Internal(e.to_string()))?;
    tx.commit_with(options);
    Ok(doc)
}

#[cfg(test)]
mod tests {
    use automerge::ReadDoc;
    use larder_types::hex;

    use super::*;
    use crate::json::parse;

    const VECTORS: &str = include_str!("../tests/vectors/derivation-0.txt");

    fn change_of(json: &str) -> Vec<u8> {
        let doc = root(&parse(json.as_bytes()).unwrap()).unwrap();
        let [head] = doc.get_heads()[..] else { panic!("one change") };
        doc.get_change_by_hash(&head).unwrap().raw_bytes().to_vec()
    }

    /// To add a case, give it an empty change; the failure shows what is derived.
    #[test]
    fn derived_changes_are_what_they_always_were() {
        let mut count = 0;
        for record in VECTORS.split("\n\n").skip(1) {
            let field = |name: &str| {
                record.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap()
            };
            let derived = hex(&change_of(field("json:")));
            assert_eq!(derived, field("change:"), "{}", field("name:"));
            count += 1;
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn a_derived_change_does_not_depend_on_the_order_keys_were_written_in() {
        assert_eq!(
            change_of(r#"{"b":{"d":1,"c":2},"a":0}"#),
            change_of(r#"{"a":0,"b":{"c":2,"d":1}}"#)
        );
        assert_ne!(change_of(r#"{"a":1}"#), change_of(r#"{"a":1.0}"#));
    }
}
