use larder_types::limits::{DOCUMENT_DEPTH_MAX, DOCUMENT_JSON_BYTES_MAX};
use serde_json::Value;

use crate::DocumentError;

/// The member of a document's root that says whether it is in the trash. No value has it.
pub(crate) const TRASH: &str = "$trash";

/// A document's value.
pub type Object = serde_json::Map<String, Value>;

/// The canonical JSON of a value that is within the limits: no white space, keys sorted by their
/// bytes, numbers as `serde_json` writes them.
///
/// # Errors
/// [`DocumentError::TooLarge`], [`DocumentError::TooDeep`], [`DocumentError::Reserved`].
pub fn check(value: &Object) -> Result<Vec<u8>, DocumentError> {
    check_names(value)?;
    if !object_fits(value, DOCUMENT_DEPTH_MAX) {
        return Err(DocumentError::TooDeep);
    }
    let bytes = canonical(value);
    if bytes.len() > DOCUMENT_JSON_BYTES_MAX {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Reads a value that is within the limits.
///
/// # Errors
/// [`DocumentError::NotAnObject`], [`DocumentError::TooLarge`], [`DocumentError::TooDeep`],
/// [`DocumentError::Reserved`].
pub fn parse(bytes: &[u8]) -> Result<Object, DocumentError> {
    if bytes.len() > DOCUMENT_JSON_BYTES_MAX {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    // serde_json itself stops at 128 levels, so this does not exhaust the stack.
    let value: Object =
        serde_json::from_slice(bytes).map_err(|e| DocumentError::NotAnObject(e.to_string()))?;
    check_names(&value)?;
    if object_fits(&value, DOCUMENT_DEPTH_MAX) { Ok(value) } else { Err(DocumentError::TooDeep) }
}

fn check_names(value: &Object) -> Result<(), DocumentError> {
    if value.contains_key(TRASH) { Err(DocumentError::Reserved) } else { Ok(()) }
}

/// The canonical JSON of any value, whatever its size.
pub fn canonical(value: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    write_object(value, &mut out);
    out
}

/// Whether the values are the same, kind of number and sign of zero included.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_object(a, b),
        _ => a == b,
    }
}

pub(crate) fn same_object(a: &Object, b: &Object) -> bool {
    a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
}

fn same_number(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    match (a.is_f64(), b.is_f64()) {
        (true, true) => a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits),
        _ => a == b,
    }
}

/// The keys of an object by their bytes, whichever order its map keeps them in.
pub(crate) fn sorted(object: &Object) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn fits(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(object) => object_fits(object, levels),
        Value::Array(items) => {
            levels.checked_sub(1).is_some_and(|left| items.iter().all(|item| fits(item, left)))
        }
        _ => true,
    }
}

fn object_fits(object: &Object, levels: usize) -> bool {
    levels.checked_sub(1).is_some_and(|left| object.values().all(|value| fits(value, left)))
}

fn write_object(object: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in sorted(object).into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_plain(key, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        scalar => write_plain(scalar, out),
    }
}

fn write_plain<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Strings and numbers always serialise, and writing to a Vec cannot fail.
    let done = serde_json::to_writer(out, value);
    debug_assert!(done.is_ok(), "serialising a JSON scalar failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Object {
        let mut value = Value::Null;
        for _ in 1..levels {
            value = Value::Array(vec![value]);
        }
        [("a".to_owned(), value)].into_iter().collect()
    }

    #[test]
    fn limits_are_inclusive() {
        assert!(check(&nested(DOCUMENT_DEPTH_MAX)).is_ok());
        assert_eq!(check(&nested(DOCUMENT_DEPTH_MAX + 1)), Err(DocumentError::TooDeep));
        assert_eq!(parse(&canonical(&nested(65))), Err(DocumentError::TooDeep));
        let text = |bytes: usize| {
            [("a".to_owned(), Value::String("x".repeat(bytes)))].into_iter().collect::<Object>()
        };
        assert!(check(&text(DOCUMENT_JSON_BYTES_MAX - 8)).is_ok());
        assert!(matches!(
            check(&text(DOCUMENT_JSON_BYTES_MAX - 7)),
            Err(DocumentError::TooLarge { .. })
        ));
    }

    #[test]
    fn kinds_of_number_are_told_apart() {
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(!same(&number("1"), &number("1.0")));
        assert!(!same(&number("0.0"), &number("-0.0")));
        assert!(same(&number("18446744073709551615"), &number("18446744073709551615")));
        assert!(same(&number("[1e3,{\"a\":2}]"), &number("[1000.0,{\"a\":2}]")));
    }

    #[test]
    fn floats_survive_their_text() {
        for bits in [0x3ff0_0000_0000_0001, 0x7fef_ffff_ffff_ffff, 1, 0x8000_0000_0000_0000_u64] {
            let value = Value::from(f64::from_bits(bits));
            let read: Value = serde_json::from_str(&value.to_string()).unwrap();
            assert_eq!(read.as_f64().unwrap().to_bits(), bits);
        }
    }
}
