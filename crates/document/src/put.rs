use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ROOT, ScalarValue, hydrate};
use larder_types::Timestamp;
use larder_types::limits::CHANGE_OPERATIONS_MAX;
use serde_json::Value;

use crate::diff::{hunks, splices};
use crate::json::{TRASH, same, sorted};
use crate::read::{Reader, Shown};
use crate::tree::{self, Texts, operations};
use crate::{DocumentError, Object};

/// Writes JSON into a transaction.
pub(crate) struct Writer<'t, 'd> {
    tx: &'t mut Transaction<'d>,
    operations_max: usize,
}

/// A place to write to.
#[derive(Clone, Copy)]
enum Place<'a> {
    Key(&'a str),
    Over(usize),
}

impl<'t, 'd> Writer<'t, 'd> {
    pub(crate) fn bounded(tx: &'t mut Transaction<'d>) -> Self {
        Self { tx, operations_max: CHANGE_OPERATIONS_MAX }
    }

    /// Makes the root's value `new`, touching nothing that is the same already.
    pub(crate) fn update(&mut self, new: &Object) -> Result<(), DocumentError> {
        self.update_map(&ROOT, new, 1)
    }

    /// Says that the document is in the trash since then, or that it is not.
    pub(crate) fn trash(&mut self, since: Option<Timestamp>) -> Result<(), DocumentError> {
        let value = match since {
            Some(since) => ScalarValue::Int(i64::try_from(since.0).unwrap_or(i64::MAX)),
            None => ScalarValue::Boolean(false),
        };
        self.scalar(&ROOT, Place::Key(TRASH), value)
    }

    fn update_map(&mut self, map: &ObjId, new: &Object, level: usize) -> Result<(), DocumentError> {
        let mut old: std::collections::BTreeMap<_, _> =
            self.reader().entries(map).into_iter().map(|(key, shown, _)| (key, shown)).collect();
        if level == 1 {
            old.remove(TRASH);
        }
        for (key, value) in sorted(new) {
            match old.remove(key.as_str()) {
                Some(shown) => self.update_place(map, Place::Key(key), &shown, value, level + 1)?,
                None => self.write(map, Place::Key(key), value)?,
            }
        }
        for key in old.keys() {
            self.tx.delete(map, key.as_str()).map_err(internal)?;
            self.within_bounds()?;
        }
        Ok(())
    }

    fn update_list(
        &mut self,
        list: &ObjId,
        new: &[Value],
        level: usize,
    ) -> Result<(), DocumentError> {
        let (shown, values) = {
            let reader = self.reader();
            let shown: Vec<Shown> = reader.items(list).into_iter().map(|(item, _)| item).collect();
            let values: Vec<Value> =
                shown.iter().map(|item| reader.value(item, level + 1)).collect::<Result<_, _>>()?;
            (shown, values)
        };
        // From the back, so that the positions before stay what they were.
        for hunk in hunks(&values, new, same).into_iter().rev() {
            let pairs = hunk.old.clone().zip(hunk.new.clone());
            let kept = hunk.old.len().min(hunk.new.len());
            let at = hunk.old.start + kept;
            let added = new.get(hunk.new.start + kept..hunk.new.end).unwrap_or(&[]);
            self.splice(list, at, hunk.old.end - at, added)?;
            for (from, to) in pairs {
                if let (Some(shown), Some(value)) = (shown.get(from), new.get(to)) {
                    self.update_place(list, Place::Over(from), shown, value, level + 1)?;
                }
            }
        }
        Ok(())
    }

    fn update_place(
        &mut self,
        container: &ObjId,
        place: Place<'_>,
        shown: &Shown,
        new: &Value,
        level: usize,
    ) -> Result<(), DocumentError> {
        match (shown, new) {
            (Shown::Map(id), Value::Object(new)) => self.update_map(id, new, level),
            (Shown::List(id), Value::Array(new)) => self.update_list(id, new, level),
            (Shown::Text(id), Value::String(new)) => {
                let old = self.reader().text(id)?;
                let splices = splices(&old, new);
                let cost: usize = splices.iter().map(|s| s.delete + s.insert.chars().count()).sum();
                if self.tx.pending_ops() + cost > self.operations_max {
                    return self.write(container, place, &Value::String(new.clone()));
                }
                for splice in splices.iter().rev() {
                    let delete = isize::try_from(splice.delete).unwrap_or(isize::MAX);
                    self.tx.splice_text(id, splice.at, delete, &splice.insert).map_err(internal)?;
                }
                Ok(())
            }
            (Shown::Plain(old), new) if same(old, new) => Ok(()),
            _ => self.write(container, place, new),
        }
    }

    fn write(&mut self, obj: &ObjId, place: Place<'_>, value: &Value) -> Result<(), DocumentError> {
        let texts = self.texts_for(|texts| operations(value, texts))?;
        match tree::value(value, texts) {
            hydrate::Value::Scalar(scalar) => self.scalar(obj, place, scalar),
            tree => match place {
                Place::Key(key) => self.tx.batch_create_object(obj, key, &tree, false),
                Place::Over(index) => self.tx.batch_create_object(obj, index, &tree, false),
            }
            .map(drop)
            .map_err(internal),
        }
    }

    fn splice(
        &mut self,
        list: &ObjId,
        at: usize,
        delete: usize,
        added: &[Value],
    ) -> Result<(), DocumentError> {
        let cost = |texts| added.iter().fold(delete, |sum, item| sum + operations(item, texts));
        let texts = self.texts_for(cost)?;
        let added: Vec<_> = added.iter().map(|item| tree::value(item, texts)).collect();
        let delete = isize::try_from(delete).unwrap_or(isize::MAX);
        self.tx.splice(list, at, delete, added).map_err(internal)
    }

    /// Whether there is room for texts. A text too large for one change is written as a scalar:
    /// it is kept, but edits of it will not merge until it has become a text again.
    fn texts_for(&self, cost: impl Fn(Texts) -> usize) -> Result<Texts, DocumentError> {
        let total = |texts| self.tx.pending_ops().saturating_add(cost(texts));
        let fits = |texts: &Texts| total(*texts) <= self.operations_max;
        let operations = total(Texts::Plain);
        [Texts::Kept, Texts::Plain]
            .into_iter()
            .find(fits)
            .ok_or(DocumentError::TooManyOperations { operations })
    }

    fn scalar(
        &mut self,
        obj: &ObjId,
        place: Place<'_>,
        value: ScalarValue,
    ) -> Result<(), DocumentError> {
        match place {
            Place::Key(key) => self.tx.put(obj, key, value),
            Place::Over(index) => self.tx.put(obj, index, value),
        }
        .map_err(internal)
    }

    fn within_bounds(&self) -> Result<(), DocumentError> {
        let operations = self.tx.pending_ops();
        if operations <= self.operations_max {
            Ok(())
        } else {
            Err(DocumentError::TooManyOperations { operations })
        }
    }

    fn reader(&self) -> Reader<'_, Transaction<'d>> {
        Reader { doc: self.tx, heads: None }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(error: AutomergeError) -> DocumentError {
    DocumentError::Internal(error.to_string())
}
