//! JSON as the trees that Automerge makes containers of in one go, many times faster than value by
//! value: first all that is in a container, then what is in its containers, keys by their bytes.

use std::collections::HashMap;

use automerge::{ScalarValue, hydrate};
use serde_json::Value;

use crate::Object;
use crate::derive::{ENCODING, is_text};

/// Whether long strings become texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Texts {
    Kept,
    Plain,
}

pub(crate) fn map(object: &Object, texts: Texts) -> hydrate::Map {
    let entries = object.iter().map(|(key, item)| (key.as_str(), value(item, texts)));
    entries.collect::<HashMap<_, _>>().into()
}

pub(crate) fn value(json: &Value, texts: Texts) -> hydrate::Value {
    let scalar = match json {
        Value::Object(object) => return hydrate::Value::Map(map(object, texts)),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| value(item, texts)).collect();
            return hydrate::Value::List(items.into());
        }
        Value::String(text) if texts == Texts::Kept && is_text(text) => {
            return hydrate::Value::text(ENCODING, text);
        }
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => scalar_of(number),
        Value::Bool(b) => ScalarValue::from(*b),
        Value::Null => ScalarValue::Null,
    };
    hydrate::Value::Scalar(scalar)
}

/// How many operations it takes to write the value.
pub(crate) fn operations(json: &Value, texts: Texts) -> usize {
    match json {
        Value::Object(object) => object.values().fold(1, |sum, item| sum + operations(item, texts)),
        Value::Array(items) => items.iter().fold(1, |sum, item| sum + operations(item, texts)),
        Value::String(text) if texts == Texts::Kept && is_text(text) => 1 + text.chars().count(),
        _ => 1,
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
