//! What a document is without some of its parts, and how edits that were made beside that are made
//! again.

use larder_types::{DeviceId, EntryHash, ObjectId, Timestamp};
use serde_json::Value;

use crate::document::Document;
use crate::json::same_object;
use crate::{Actor, DocumentError, Heads, Object};

/// Takes the part out of a value that these names lead to, from member to member; one of a list by
/// its place, from 0. Whether there was such a part.
pub fn take_out_part(value: &mut Object, path: &[String]) -> bool {
    let Some((last, way)) = path.split_last() else { return false };
    let Some((first, rest)) = way.split_first() else { return value.remove(last).is_some() };
    let Some(mut at) = value.get_mut(first) else { return false };
    for name in rest {
        let next = match at {
            Value::Object(members) => members.get_mut(name),
            Value::Array(items) => name.parse().ok().and_then(|at: usize| items.get_mut(at)),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    match at {
        Value::Object(members) => members.remove(last).is_some(),
        Value::Array(items) => match last.parse::<usize>() {
            Ok(at) if at < items.len() => {
                items.remove(at);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// The same path with each place in a list as the number is written.
pub fn resolved(value: &Object, path: &[String]) -> Vec<String> {
    let mut names = path.iter();
    let mut resolved: Vec<String> = names.next().cloned().into_iter().collect();
    let mut at = resolved.first().and_then(|first| value.get(first));
    for name in names {
        let (next, name) = match at {
            Some(Value::Array(items)) => match name.parse::<usize>() {
                Ok(place) => (items.get(place), place.to_string()),
                Err(_) => (None, name.clone()),
            },
            Some(Value::Object(members)) => (members.get(name), name.clone()),
            _ => (None, name.clone()),
        };
        at = next;
        resolved.push(name);
    }
    resolved
}

/// Whether a path leads to a list, through objects.
pub fn leads_to_list(value: &Object, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    let found = rest.iter().try_fold(value.get(first), |at, name| Some(at?.as_object()?.get(name)));
    matches!(found, Some(Some(Value::Array(_))))
}

/// The same path as far as it leads through objects: what stands where in a list is another thing
/// in another version.
pub fn up_to_list(value: &Object, path: &[String]) -> Vec<String> {
    let mut kept = Vec::with_capacity(path.len());
    let mut at = value.get(path.first().map_or("", String::as_str));
    for (name, next) in path.iter().zip(path.iter().skip(1).map(Some).chain([None])) {
        kept.push(name.clone());
        if matches!(at, Some(Value::Array(_))) {
            break;
        }
        at = next.and_then(|next| at?.get(next));
    }
    kept
}

/// `theirs` with what differs between `before` and `after`, but for the parts that the paths lead
/// to: of these, `theirs` has what counts. Where both changed one place to different values, it is
/// that of `after`. `None`: nothing comes of it.
///
/// # Errors
/// As [`Document::put`].
pub fn carry_over(
    mut before: Object,
    mut after: Object,
    theirs: &Object,
    paths: &[Vec<String>],
) -> Result<Option<Object>, DocumentError> {
    for path in paths {
        settle(&mut before, path, Some(theirs));
        settle(&mut after, path, Some(theirs));
    }
    if same_object(&before, &after) {
        return Ok(None);
    }
    let actor =
        |n| Actor::of(&DeviceId::new([n; 32]), &ObjectId::new([n; 16]), &EntryHash::new([n; 32]));
    let mut merged = Document::flat(before);
    // What is written last wins, though it was not written behind the other.
    merged.put(actor(1), None, theirs, Timestamp(0))?;
    merged.put(actor(2), Some(&Heads::FLAT), &after, Timestamp(0))?;
    let merged = merged.value()?;
    Ok((!same_object(&merged, theirs)).then_some(merged))
}

/// What is at a path becomes what `theirs` has there.
fn settle(value: &mut Object, path: &[String], theirs: Option<&Object>) {
    let Some((first, rest)) = path.split_first() else { return };
    let their = theirs.and_then(|members| members.get(first));
    match value.get_mut(first) {
        Some(Value::Object(members)) if !rest.is_empty() => {
            settle(members, rest, their.and_then(Value::as_object));
        }
        _ => match their {
            Some(their) => {
                value.insert(first.clone(), their.clone());
            }
            None => {
                value.remove(first);
            }
        },
    }
}

impl Document {
    /// Whether some version of it has a part at this path.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`].
    pub fn ever_had(&self, path: &[String]) -> Result<bool, DocumentError> {
        let has = |value: &Object| take_out_part(&mut value.clone(), path);
        if has(&self.value()?) || has(&self.value_at(&Heads::FLAT)?) {
            return Ok(true);
        }
        for change in self.changes_in_order() {
            if has(&self.value_at(&Heads::of(&[change.hash]))?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn parts_are_taken_out_of_objects_and_lists() {
        let whole = object(&json!({"a": {"b": [{"c": 1}, 2]}, "d": 3}));
        let without = |at: &str| {
            let mut value = whole.clone();
            take_out_part(&mut value, &path(at)).then_some(Value::Object(value))
        };
        assert_eq!(without("d"), Some(json!({"a": {"b": [{"c": 1}, 2]}})));
        assert_eq!(without("a/b/0/c"), Some(json!({"a": {"b": [{}, 2]}, "d": 3})));
        assert_eq!(without("a/b/1"), Some(json!({"a": {"b": [{"c": 1}]}, "d": 3})));
        for none in ["x", "d/x", "a/b/2", "a/b/x", "a/b/0/c/d", "a/b/1/0", ""] {
            assert_eq!(without(none), None, "{none}");
        }
        assert!(!take_out_part(&mut whole.clone(), &[]));
        assert_eq!(up_to_list(&whole, &path("a/b/0/c")), path("a/b"));
        for (named, place) in [("a/b/00/c", "a/b/0/c"), ("a/b/+1", "a/b/1"), ("a/b/07", "a/b/7")] {
            assert_eq!(resolved(&whole, &path(named)), path(place));
        }
        assert_eq!(resolved(&whole, &path("a/01/02")), path("a/01/02"));
        assert!(leads_to_list(&whole, &path("a/b")) && !leads_to_list(&whole, &path("a")));
        assert!(!leads_to_list(&whole, &path("a/b/0")) && !leads_to_list(&whole, &path("x/y")));
        assert_eq!(up_to_list(&whole, &path("a/x/y")), path("a/x/y"));
        assert_eq!(up_to_list(&whole, &path("d")), path("d"));
    }

    #[test]
    fn an_edit_made_beside_a_redaction_is_carried_over_without_what_was_taken_out() {
        let text = |line: &str| format!("first\n{line}\nlast\n");
        let before =
            object(&json!({"n": 1, "of": {"x": "secret", "y": 1}, "body": text("middle")}));
        let after = object(&json!({
            "n": 2, "of": {"x": "secret!", "y": 5}, "body": text("middle, and more"), "new": [1],
        }));
        // It was redacted, and edited since.
        let theirs = object(&json!({"n": 3, "of": {"y": 1}, "body": text("middle") + "end\n"}));
        let carried = carry_over(before.clone(), after, &theirs, &[path("of/x")]).unwrap().unwrap();
        let body = text("middle, and more") + "end\n";
        assert_eq!(
            Value::Object(carried),
            json!({"n": 2, "of": {"y": 5}, "body": body, "new": [1]})
        );
        // Nothing but what was taken out was edited, or what it stood in was made something else.
        for of in [json!({"x": "other", "y": 1}), json!("secret"), json!(["secret"])] {
            let mut after = before.clone();
            after.insert("of".to_owned(), of);
            let carried = carry_over(before.clone(), after, &theirs, &[path("of/x")]).unwrap();
            let carried = carried.map(|value| Value::Object(value).to_string());
            assert!(carried.is_none_or(|text| !text.contains("secret") && text.contains("end")));
        }
    }
}
