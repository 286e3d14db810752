use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ScalarValue};
use larder_types::limits::CHANGE_OPERATIONS_MAX;
use serde_json::Value;

use crate::derive::is_text;
use crate::diff::{hunks, splices};
use crate::json::{same, sorted};
use crate::read::{Reader, Shown};
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
    Before(usize),
}

impl<'t, 'd> Writer<'t, 'd> {
    pub(crate) fn unbounded(tx: &'t mut Transaction<'d>) -> Self {
        Self { tx, operations_max: usize::MAX }
    }

    pub(crate) fn bounded(tx: &'t mut Transaction<'d>) -> Self {
        Self { tx, operations_max: CHANGE_OPERATIONS_MAX }
    }

    /// Makes the root's value `new`, touching nothing that is the same already.
    pub(crate) fn update(&mut self, new: &Object) -> Result<(), DocumentError> {
        self.update_map(&ROOT, new, 1)
    }

    pub(crate) fn fill_map(&mut self, map: &ObjId, object: &Object) -> Result<(), DocumentError> {
        sorted(object)
            .into_iter()
            .try_for_each(|(key, value)| self.write(map, Place::Key(key), value))
    }

    fn update_map(&mut self, map: &ObjId, new: &Object, level: usize) -> Result<(), DocumentError> {
        let mut old: std::collections::BTreeMap<_, _> =
            self.reader().entries(map).into_iter().map(|(key, shown, _)| (key, shown)).collect();
        for (key, value) in sorted(new) {
            match old.remove(key.as_str()) {
                Some(shown) => self.update_place(map, Place::Key(key), &shown, value, level + 1)?,
                None => self.write(map, Place::Key(key), value)?,
            }
        }
        for key in old.keys() {
            self.tx.delete(map, key.as_str()).map_err(internal)?;
            self.within_bounds(0)?;
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
            for index in (hunk.old.start + kept..hunk.old.end).rev() {
                self.tx.delete(list, index).map_err(internal)?;
                self.within_bounds(0)?;
            }
            let added = new.get(hunk.new.start + kept..hunk.new.end).unwrap_or(&[]);
            for (index, value) in (hunk.old.start + kept..).zip(added) {
                self.write(list, Place::Before(index), value)?;
            }
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
        self.within_bounds(1)?;
        match value {
            Value::Object(object) => {
                let id = self.make(obj, place, ObjType::Map)?;
                self.fill_map(&id, object)
            }
            Value::Array(items) => {
                let id = self.make(obj, place, ObjType::List)?;
                let mut items = items.iter().enumerate();
                items.try_for_each(|(i, item)| self.write(&id, Place::Before(i), item))
            }
            Value::String(text) if is_text(text) && self.has_room_for(text) => {
                let id = self.make(obj, place, ObjType::Text)?;
                self.tx.splice_text(&id, 0, 0, text).map_err(internal)
            }
            Value::String(text) => self.scalar(obj, place, text.as_str().into()),
            Value::Number(number) => self.scalar(obj, place, scalar_of(number)),
            Value::Bool(b) => self.scalar(obj, place, (*b).into()),
            Value::Null => self.scalar(obj, place, ScalarValue::Null),
        }
    }

    /// A text too large for one change is written as a scalar: it is kept, but edits of it will
    /// not merge until it has become a text again.
    fn has_room_for(&self, text: &str) -> bool {
        self.tx.pending_ops().saturating_add(1 + text.chars().count()) <= self.operations_max
    }

    fn make(
        &mut self,
        obj: &ObjId,
        place: Place<'_>,
        kind: ObjType,
    ) -> Result<ObjId, DocumentError> {
        match place {
            Place::Key(key) => self.tx.put_object(obj, key, kind),
            Place::Over(index) => self.tx.put_object(obj, index, kind),
            Place::Before(index) => self.tx.insert_object(obj, index, kind),
        }
        .map_err(internal)
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
            Place::Before(index) => self.tx.insert(obj, index, value),
        }
        .map_err(internal)
    }

    fn within_bounds(&self, more: usize) -> Result<(), DocumentError> {
        let operations = self.tx.pending_ops().saturating_add(more);
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

fn scalar_of(number: &serde_json::Number) -> ScalarValue {
    if let Some(n) = number.as_i64() {
        ScalarValue::Int(n)
    } else if let Some(n) = number.as_u64() {
        ScalarValue::Uint(n)
    } else {
        number.as_f64().map_or(ScalarValue::Null, ScalarValue::F64)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(error: AutomergeError) -> DocumentError {
    DocumentError::Internal(error.to_string())
}
