use automerge::{ChangeHash, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value as Stored};
use larder_types::limits::DOCUMENT_DEPTH_MAX;
use serde_json::{Number, Value};

use crate::json::TRASH;
use crate::{DocumentError, Object};

/// A place where concurrent edits wrote different values.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The place, as a JSON Pointer (RFC 6901).
    pub path: String,
    /// The value that every device shows.
    pub shown: Value,
    /// The values that lost, in no order that means anything.
    pub others: Vec<Value>,
}

/// What stands at one place: a container, or a plain value.
#[derive(Debug)]
pub(crate) enum Shown {
    Map(ObjId),
    List(ObjId),
    Text(ObjId),
    Plain(Value),
}

impl Shown {
    pub(crate) fn of(stored: Stored<'_>, id: ObjId) -> Self {
        match stored {
            Stored::Object(ObjType::Map | ObjType::Table) => Self::Map(id),
            Stored::Object(ObjType::List) => Self::List(id),
            Stored::Object(ObjType::Text) => Self::Text(id),
            Stored::Scalar(scalar) => Self::Plain(plain(&scalar)),
        }
    }
}

/// Changes with bytes or scalars of a later Automerge are void, so null never stands for them.
fn plain(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Str(text) => Value::String(text.to_string()),
        ScalarValue::Int(n) | ScalarValue::Timestamp(n) => Value::Number((*n).into()),
        ScalarValue::Counter(n) => Value::Number(i64::from(n).into()),
        ScalarValue::Uint(n) => Value::Number((*n).into()),
        ScalarValue::F64(n) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        ScalarValue::Boolean(b) => Value::Bool(*b),
        ScalarValue::Null | ScalarValue::Bytes(_) | ScalarValue::Unknown { .. } => Value::Null,
    }
}

/// Reads at some heads, or (`None`) at the present, or at a transaction's own base.
pub(crate) struct Reader<'a, D> {
    pub(crate) doc: &'a D,
    pub(crate) heads: Option<&'a [ChangeHash]>,
}

impl<D: ReadDoc> Reader<'_, D> {
    pub(crate) fn root(&self) -> Result<Object, DocumentError> {
        let mut root = self.object(&ROOT, 1)?;
        root.remove(TRASH);
        Ok(root)
    }

    /// When it was put into the trash, in milliseconds as the author claims; the latest, if several
    /// did at the same time. `None`: it is not there, or somebody took it out at the same time.
    pub(crate) fn trashed(&self) -> Result<Option<u64>, DocumentError> {
        let all = match self.heads {
            None => self.doc.get_all(&ROOT, TRASH),
            Some(heads) => self.doc.get_all_at(&ROOT, TRASH, heads),
        }
        .map_err(|e| DocumentError::Corrupt(e.to_string()))?;
        let time = |stored: &Stored<'_>| match stored {
            Stored::Scalar(scalar) => match scalar.as_ref() {
                ScalarValue::Int(ms) => u64::try_from(*ms).ok(),
                ScalarValue::Uint(ms) => Some(*ms),
                _ => None,
            },
            Stored::Object(_) => None,
        };
        let times: Option<Vec<u64>> = all.iter().map(|(stored, _)| time(stored)).collect();
        Ok(times.and_then(|times| times.into_iter().max()))
    }

    pub(crate) fn entries(&self, map: &ObjId) -> Vec<(String, Shown, bool)> {
        let range = match self.heads {
            None => self.doc.map_range(map, ..),
            Some(heads) => self.doc.map_range_at(map, .., heads),
        };
        let entry = |item: automerge::iter::MapRangeItem<'_>| {
            let (id, conflict) = (item.id(), item.conflict);
            (item.key.into_owned(), Shown::of(item.value.into_value(), id), conflict)
        };
        range.map(entry).collect()
    }

    pub(crate) fn items(&self, list: &ObjId) -> Vec<(Shown, bool)> {
        let range = match self.heads {
            None => self.doc.list_range(list, ..),
            Some(heads) => self.doc.list_range_at(list, .., heads),
        };
        let item = |item: automerge::iter::ListRangeItem<'_>| {
            let (id, conflict) = (item.id(), item.conflict);
            (Shown::of(item.value.into_value(), id), conflict)
        };
        range.map(item).collect()
    }

    pub(crate) fn text(&self, text: &ObjId) -> Result<String, DocumentError> {
        match self.heads {
            None => self.doc.text(text),
            Some(heads) => self.doc.text_at(text, heads),
        }
        .map_err(|e| DocumentError::Corrupt(e.to_string()))
    }

    /// The value at a place `level` levels down. A merge may nest deeper than any one device's
    /// write may; what lies below the limit reads as null, on all devices alike.
    pub(crate) fn value(&self, shown: &Shown, level: usize) -> Result<Value, DocumentError> {
        match shown {
            Shown::Map(_) | Shown::List(_) if level > DOCUMENT_DEPTH_MAX => Ok(Value::Null),
            Shown::Map(id) => self.object(id, level).map(Value::Object),
            Shown::List(id) => self
                .items(id)
                .iter()
                .map(|(item, _)| self.value(item, level + 1))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Shown::Text(id) => self.text(id).map(Value::String),
            Shown::Plain(value) => Ok(value.clone()),
        }
    }

    fn object(&self, id: &ObjId, level: usize) -> Result<Object, DocumentError> {
        self.entries(id)
            .into_iter()
            .map(|(key, shown, _)| Ok((key, self.value(&shown, level + 1)?)))
            .collect()
    }

    pub(crate) fn conflicts(&self) -> Result<Vec<Conflict>, DocumentError> {
        let mut found = Vec::new();
        self.conflicts_below(&Shown::Map(ROOT), "", 1, &mut found)?;
        Ok(found)
    }

    fn conflicts_below(
        &self,
        shown: &Shown,
        path: &str,
        level: usize,
        found: &mut Vec<Conflict>,
    ) -> Result<(), DocumentError> {
        if level > DOCUMENT_DEPTH_MAX {
            return Ok(());
        }
        let places: Vec<(Prop, String, Shown, bool, &ObjId)> = match shown {
            Shown::Map(id) => self
                .entries(id)
                .into_iter()
                .map(|(key, shown, conflict)| {
                    let token = key.replace('~', "~0").replace('/', "~1");
                    (Prop::Map(key), token, shown, conflict, id)
                })
                .collect(),
            Shown::List(id) => self
                .items(id)
                .into_iter()
                .enumerate()
                .map(|(i, (shown, conflict))| (Prop::Seq(i), i.to_string(), shown, conflict, id))
                .collect(),
            Shown::Text(_) | Shown::Plain(_) => return Ok(()),
        };
        for (prop, token, shown, conflict, container) in places {
            if level == 1 && token == TRASH {
                continue;
            }
            let path = format!("{path}/{token}");
            if conflict {
                found.extend(self.conflict_at(container, prop, &path, &shown, level + 1)?);
            }
            self.conflicts_below(&shown, &path, level + 1, found)?;
        }
        Ok(())
    }

    /// The conflict at one place, unless all sides wrote the same.
    fn conflict_at(
        &self,
        container: &ObjId,
        prop: Prop,
        path: &str,
        shown: &Shown,
        level: usize,
    ) -> Result<Option<Conflict>, DocumentError> {
        let all = match self.heads {
            None => self.doc.get_all(container, prop),
            Some(heads) => self.doc.get_all_at(container, prop, heads),
        }
        .map_err(|e| DocumentError::Corrupt(e.to_string()))?;
        let shown = self.value(shown, level)?;
        let mut others = Vec::new();
        // The last is the one that is shown.
        for (stored, id) in all.into_iter().rev().skip(1) {
            let other = self.value(&Shown::of(stored, id), level)?;
            if !crate::json::same(&other, &shown) {
                others.push(other);
            }
        }
        let path = path.to_owned();
        Ok((!others.is_empty()).then_some(Conflict { path, shown, others }))
    }
}
