//! What differs between two values, for people to read.

use serde::Serialize;
use serde_json::Value;

use crate::diff::hunks;
use crate::json::{same, sorted};
use crate::{DocumentError, Object};

/// A place at which two values differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The place, as a JSON Pointer (RFC 6901): in the earlier value if something is gone from
    /// there, else in the later one.
    pub path: String,
    /// What stood there; none if it is new.
    pub before: Option<Value>,
    /// What stands there; none if it is gone.
    pub after: Option<Value>,
}

/// Lines of a text that others took the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedLines<'a> {
    /// The lines that are gone.
    pub before: Vec<&'a str>,
    /// The lines that are new.
    pub after: Vec<&'a str>,
}

/// The places at which two values differ, each as deep as it goes, keys sorted by their bytes and
/// lists from first to last.
///
/// # Errors
/// [`DocumentError::TooDeep`] for values that no document has.
pub fn differences(before: &Object, after: &Object) -> Result<Vec<Difference>, DocumentError> {
    let mut found = Vec::new();
    objects(before, after, "", 0, &mut found)?;
    Ok(found)
}

/// The lines in which two texts differ, in order.
pub fn changed_lines<'a>(before: &'a str, after: &'a str) -> Vec<ChangedLines<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lines = |of: &[&'a str], range| of.get(range).map(<[_]>::to_vec).unwrap_or_default();
    hunks(&old, &new, |a, b| a == b)
        .into_iter()
        .map(|hunk| ChangedLines { before: lines(&old, hunk.old), after: lines(&new, hunk.new) })
        .collect()
}

fn objects(
    before: &Object,
    after: &Object,
    path: &str,
    level: usize,
    found: &mut Vec<Difference>,
) -> Result<(), DocumentError> {
    let at = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    for (key, old) in sorted(before) {
        match after.get(key) {
            Some(new) => values(old, new, &at(key), level, found)?,
            None => found.push(gone(at(key), old)),
        }
    }
    for (key, new) in sorted(after) {
        if !before.contains_key(key) {
            found.push(came(at(key), new));
        }
    }
    Ok(())
}

fn values(
    before: &Value,
    after: &Value,
    path: &str,
    level: usize,
    found: &mut Vec<Difference>,
) -> Result<(), DocumentError> {
    if level > LEVELS_MAX {
        return Err(DocumentError::TooDeep);
    }
    match (before, after) {
        _ if same(before, after) => {}
        (Value::Object(old), Value::Object(new)) => objects(old, new, path, level + 1, found)?,
        (Value::Array(old), Value::Array(new)) => lists(old, new, path, level + 1, found)?,
        _ => found.push(Difference {
            path: path.to_owned(),
            before: Some(before.clone()),
            after: Some(after.clone()),
        }),
    }
    Ok(())
}

/// Of items that took the place of others, as many as there are of both are compared one by one.
fn lists(
    before: &[Value],
    after: &[Value],
    path: &str,
    level: usize,
    found: &mut Vec<Difference>,
) -> Result<(), DocumentError> {
    for hunk in hunks(before, after, same) {
        let both = hunk.old.len().min(hunk.new.len());
        let (old_end, new_end) = (hunk.old.start + both, hunk.new.start + both);
        for (old, new) in (hunk.old.start..old_end).zip(hunk.new.start..new_end) {
            if let (Some(item), Some(other)) = (before.get(old), after.get(new)) {
                values(item, other, &format!("{path}/{old}"), level, found)?;
            }
        }
        for old in old_end..hunk.old.end {
            found.extend(before.get(old).map(|item| gone(format!("{path}/{old}"), item)));
        }
        for new in new_end..hunk.new.end {
            found.extend(after.get(new).map(|item| came(format!("{path}/{new}"), item)));
        }
    }
    Ok(())
}

fn gone(path: String, value: &Value) -> Difference {
    Difference { path, before: Some(value.clone()), after: None }
}

fn came(path: String, value: &Value) -> Difference {
    Difference { path, before: None, after: Some(value.clone()) }
}

/// What a merge gives may nest one deeper than a document's own limit says.
const LEVELS_MAX: usize = larder_types::limits::DOCUMENT_DEPTH_MAX + 2;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: &Value, after: &Value, expect: &[(&str, Option<Value>, Option<Value>)]) {
        let of = |value: &Value| value.as_object().unwrap().clone();
        let found = differences(&of(before), &of(after)).unwrap();
        let found: Vec<_> =
            found.iter().map(|d| (d.path.as_str(), d.before.clone(), d.after.clone())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn differences_go_as_deep_as_they_can_and_no_further() {
        let before = json!({"a": 1, "b": {"x": 1, "y/z": [1, 2, 3]}, "gone": null, "t": "one"});
        let after = json!({"a": 1.0, "b": {"x": 1, "y/z": [1, 3, 4]}, "new": [], "t": "one"});
        check(
            &before,
            &after,
            &[
                ("/a", Some(json!(1)), Some(json!(1.0))),
                ("/b/y~1z/1", Some(json!(2)), None),
                ("/b/y~1z/2", None, Some(json!(4))),
                ("/gone", Some(Value::Null), None),
                ("/new", None, Some(json!([]))),
            ],
        );
        check(&before, &before, &[]);
        let items = |n: u8| json!({"items": [{"name": "milk", "n": n}, {"name": "salt"}]});
        check(&items(1), &items(2), &[("/items/0/n", Some(json!(1)), Some(json!(2)))]);
    }

    #[test]
    fn lines_that_stay_are_left_out() {
        let found = changed_lines("a\nb\nc\n", "a\nB\nc\nd\n");
        let changed = |before, after| ChangedLines { before, after };
        assert_eq!(found, [changed(vec!["b"], vec!["B"]), changed(vec![], vec!["d"])]);
    }
}
