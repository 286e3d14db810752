//! Edits that were made beside a redaction, made again in what is left. Whoever has them makes the
//! same changes of them, so that it does not matter how many devices do.

use std::collections::{HashMap, HashSet};

use automerge::ChangeHash;
use larder_types::Timestamp;

use crate::apply::Incoming;
use crate::document::Document;
use crate::{Actor, DocumentError, Heads, Link, Object, Outcome, carry_over, chunk, trash_of};

/// A change among others.
pub(crate) struct Linked {
    pub(crate) hash: ChangeHash,
    /// When, as its author claims.
    pub(crate) seconds: i64,
    pub(crate) deps: Vec<ChangeHash>,
}

impl Document {
    /// What this document has that the version `known` has not, made again in the document that was
    /// created as `left`, without the parts that the paths lead to: a change by nobody for each
    /// that comes to something, behind those that it builds on. Each follows from the one that it
    /// stands for, from what that builds on, and from `left` and the paths alone. Of a version that
    /// is not all here these changes are too (`and`), with what they build on.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`], [`DocumentError::Internal`].
    pub fn made_again(
        &self,
        known: &Heads,
        and: &HashSet<[u8; 32]>,
        left: &Object,
        paths: &[Vec<String>],
    ) -> Result<Vec<Vec<u8>>, DocumentError> {
        let changes = self.changes_in_order();
        let known = known.hashes().into_iter().chain(and.iter().copied().map(ChangeHash));
        let mut before: HashSet<ChangeHash> = known.collect();
        // Each comes behind those it builds on.
        for change in changes.iter().rev() {
            if before.contains(&change.hash) {
                before.extend(&change.deps);
            }
        }
        let mut again = Again::new(left);
        let mut last: Option<(ChangeHash, Object)> = None;
        for late in changes.iter().filter(|it| !it.deps.is_empty() && !before.contains(&it.hash)) {
            again.go_to(late)?;
            let after = self.value_at(&Heads::of(&[late.hash]))?;
            let trashes = self.change(&late.hash).and_then(|bytes| trash_of(&bytes));
            let value = match last.take() {
                _ if trashes.is_some() => None,
                Some((hash, value)) if late.deps == [hash] => Some(value),
                _ => Some(self.value_at(&Heads::of(&late.deps))?),
            };
            let value = value.map(|before| (before, after.clone()));
            again.make(late, trashes, value, paths)?;
            last = Some((late.hash, after));
        }
        Ok(again.made.into_iter().map(|made| made.bytes).collect())
    }
}

/// A change that was made again.
struct Made {
    link: Link,
    bytes: Vec<u8>,
}

struct Again<'a> {
    left: &'a Object,
    made: Vec<Made>,
    /// By change: the version that it came to.
    versions: HashMap<ChangeHash, Heads>,
    /// What is left as of the version that the next one builds on.
    at: Document,
}

impl<'a> Again<'a> {
    fn new(left: &'a Object) -> Self {
        let at = Document::flat(left.clone());
        Self { left, made: Vec::new(), versions: HashMap::new(), at }
    }

    /// Goes to the version that what a change builds on came to, with nothing beside it: what is
    /// written there is numbered after its past alone.
    fn go_to(&mut self, late: &Linked) -> Result<(), DocumentError> {
        let versions = late.deps.iter().filter_map(|dep| self.versions.get(dep));
        let base = versions.fold(Heads::FLAT, Heads::and);
        if self.at.heads() == base {
            return Ok(());
        }
        let mut past: HashSet<[u8; 32]> = base.iter().copied().collect();
        for made in self.made.iter().rev().filter(|_| !base.is_flat()) {
            if past.contains(&made.link.hash) {
                past.extend(&made.link.deps);
            }
        }
        self.at = Document::flat(self.left.clone());
        for made in self.made.iter().filter(|made| past.contains(&made.link.hash)) {
            take(&mut self.at, &made.bytes)?;
        }
        Ok(())
    }

    /// Makes a change again there: into the trash or out of it, or from one value to another.
    fn make(
        &mut self,
        late: &Linked,
        trashes: Option<bool>,
        value: Option<(Object, Object)>,
        paths: &[Vec<String>],
    ) -> Result<(), DocumentError> {
        let seconds = u64::try_from(late.seconds).unwrap_or(0);
        let time = Timestamp(seconds.saturating_mul(1000));
        let (mut copy, by) = (self.at.clone(), Actor::NOBODY);
        let made = match (trashes, value) {
            (Some(is_in), _) => copy.put_in_trash(by, is_in, time),
            (None, Some((before, after))) => {
                match carry_over(before, after, &self.at.value()?, paths) {
                    Ok(Some(value)) => copy.put(by, None, &value, time),
                    other => other.map(|_| None),
                }
            }
            (None, None) => Ok(None),
        };
        // What there is no room for is not made again.
        if let Ok(Some(bytes)) = made {
            let internal = |e| DocumentError::Internal(format!("a change by nobody: {e}"));
            let bytes = chunk::by_nobody(&bytes).map_err(internal)?;
            take(&mut self.at, &bytes)?;
            self.made.push(Made { link: Link::of(&bytes)?, bytes });
        }
        self.versions.insert(late.hash, self.at.heads());
        Ok(())
    }
}

/// Takes in a change that was made here.
fn take(document: &mut Document, change: &[u8]) -> Result<(), DocumentError> {
    let read = Incoming::of_anybody(change);
    let outcome = read.map(|incoming| document.apply_read(&[incoming]));
    match outcome.as_deref() {
        Ok([Outcome::Applied | Outcome::Duplicate]) => Ok(()),
        other => Err(DocumentError::Internal(format!("a change made again: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use larder_types::{DeviceId, EntryHash, ObjectId};
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn actor(n: u8) -> Actor {
        let device = DeviceId::new([n; 32]);
        Actor::of(&device, &ObjectId::new([1; 16]), &EntryHash::new([1; 32]))
    }

    fn edit(document: &mut Document, n: u8, change: impl FnOnce(&mut Object)) -> Vec<u8> {
        let mut value = document.value().unwrap();
        change(&mut value);
        let now = Timestamp(u64::from(n) * 1000);
        document.put(actor(n), None, &value, now).unwrap().unwrap()
    }

    fn again(document: &Document, known: &Heads, left: &Value) -> Vec<Vec<u8>> {
        let paths = [vec!["secret".to_owned()]];
        document.made_again(known, &HashSet::new(), &object(left), &paths).unwrap()
    }

    fn set(name: &'static str, to: Value) -> impl FnOnce(&mut Object) {
        move |value| drop(value.insert(name.to_owned(), to))
    }

    /// Two devices of which each has some of what was edited beside a redaction make the same of
    /// what both have, and all of it together is what was written, but for what was taken out.
    #[test]
    fn whoever_has_an_edit_makes_the_same_change_of_it() {
        let text = "first line\nsecond line\n";
        let mut all = Document::flat(object(&json!({"secret": "x", "n": 0, "text": text})));
        edit(&mut all, 1, set("n", json!(1)));
        let known = all.heads();
        let left = json!({"n": 1, "text": text});
        assert!(again(&all, &known, &left).is_empty());
        let mut other = all.clone();
        let mut one = all.clone();
        let first = edit(&mut all, 1, set("text", json!(text.replace("first", "1st"))));
        let aside = edit(&mut other, 2, set("text", json!(format!("{text}third line\n"))));
        one.apply(&[(actor(1), &first)]);
        other.apply(&[(actor(1), &first)]);
        all.apply(&[(actor(2), &aside)]);
        // Of which nothing comes, and what builds on it.
        edit(&mut all, 3, set("secret", json!("more of it")));
        edit(&mut all, 3, |value| {
            value.insert("secret".to_owned(), json!("and more"));
            value.insert("n".to_owned(), json!(2));
        });
        all.put_in_trash(actor(1), true, Timestamp(9000)).unwrap().unwrap();

        let made = [&one, &other, &all].map(|it| again(it, &known, &left));
        assert_eq!(made.each_ref().map(Vec::len), [1, 2, 4]);
        assert!(made[1].contains(&made[0][0]) && made[1].iter().all(|it| made[2].contains(it)));
        let mut rest = Document::flat(object(&left));
        for made in [&made[1], &made[2], &made[0]] {
            let changes: Vec<_> = made.iter().map(|bytes| (actor(7), &bytes[..])).collect();
            for outcome in rest.apply(&changes) {
                assert!(matches!(outcome, Outcome::Applied | Outcome::Duplicate), "{outcome:?}");
            }
        }
        let whole = text.replace("first", "1st") + "third line\n";
        assert_eq!(Value::Object(rest.value().unwrap()), json!({"n": 2, "text": whole}));
        assert_eq!(rest.trashed().unwrap(), Some(Timestamp(9000)));
    }

    /// What a version is made of that is not all here is told otherwise: else it was made again
    /// although it was in what is left.
    #[test]
    fn what_was_known_is_not_made_again_though_what_builds_on_it_is_not_here() {
        let mut mine = Document::flat(object(&json!({"n": 0})));
        edit(&mut mine, 1, set("n", json!(1)));
        let own = mine.heads();
        let mut theirs = mine.clone();
        edit(&mut theirs, 2, set("n", json!(2)));
        edit(&mut mine, 1, set("m", json!(1)));
        let of = |and: &HashSet<[u8; 32]>| {
            mine.made_again(&theirs.heads(), and, &object(&json!({"n": 2})), &[]).unwrap()
        };
        assert_eq!(of(&HashSet::new()).len(), 2);
        let made = of(&own.iter().copied().collect());
        let mut rest = Document::flat(object(&json!({"n": 2})));
        assert_eq!(rest.apply(&[(actor(7), &made[0])]), [Outcome::Applied]);
        assert_eq!(Value::Object(rest.value().unwrap()), json!({"n": 2, "m": 1}));
    }

    /// Else somebody could write one change in nobody's name for some devices, and another one with
    /// its number for others.
    #[test]
    fn nobody_has_but_the_one_change_that_it_is_named_by() {
        let mut document = Document::flat(object(&json!({"n": 0})));
        let known = document.heads();
        edit(&mut document, 1, set("n", json!(1)));
        let made = again(&document, &known, &json!({"n": 0})).pop().unwrap();
        assert!(chunk::is_by_nobody(&made));
        let change = automerge::Change::try_from(&made[..]).unwrap();
        let mut forged = change.decode();
        forged.time += 1;
        let forged = automerge::Change::from(forged).raw_bytes().to_vec();
        assert!(!chunk::is_by_nobody(&forged));
        let mut rest = Document::flat(object(&json!({"n": 0})));
        let void = Outcome::Void(crate::VoidReason::WrongActor);
        assert_eq!(rest.apply(&[(actor(7), &forged), (actor(7), &made)]), [void, Outcome::Applied]);
    }
}
