//! Strict reading: what cannot come back out as it went in is refused.

use std::fmt;

use larder_types::limits::DOCUMENT_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Reason;

/// The text of a file; a byte order mark and line ends stay as they are.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Reason> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Reason::Binary { at: at as u64 });
    }
    String::from_utf8(bytes)
        .map_err(|error| Reason::NotUtf8 { at: error.utf8_error().valid_up_to() as u64 })
}

/// A JSON value, if it can be kept whole: no key twice in an object, no number that a double or a
/// 64-bit integer would round, and no deeper than a document may be.
pub(crate) fn json(text: &str) -> Result<Value, Reason> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Strict { levels_left: levels_max() };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| malformed(&error))?;
    match numbers(text).find(|number| !is_kept(number)) {
        Some(number) => Err(Reason::Lossy { number: number.to_owned() }),
        None => Ok(value),
    }
}

/// The document around the value is a level of its own.
fn levels_max() -> usize {
    DOCUMENT_DEPTH_MAX - 1
}

const TOO_DEEP: &str = "nested too deeply";

fn malformed(error: &serde_json::Error) -> Reason {
    let message = error.to_string();
    if message.starts_with(TOO_DEEP) || message.starts_with("recursion limit") {
        return Reason::TooDeep { levels_max: levels_max() as u64 };
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    Reason::Malformed {
        line: error.line() as u64,
        column: error.column() as u64,
        message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Strict {
    levels_left: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels_left = self.levels_left.checked_sub(1);
        levels_left.map(|levels_left| Self { levels_left }).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inside)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
        }
        Ok(Value::Object(map))
    }
}

/// The number tokens of a valid JSON text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut in_string = false;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                b'-' | b'0'..=b'9' if !in_string => {
                    let start = at;
                    let part =
                        |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                    while bytes.get(at).is_some_and(part) {
                        at += 1;
                    }
                    return text.get(start..at);
                }
                _ => {}
            }
            at += 1;
        }
        None
    })
}

/// Whether reading and writing the number keeps its value.
fn is_kept(token: &str) -> bool {
    if token.parse::<u64>().is_ok() || token.parse::<i64>().is_ok() {
        return true;
    }
    let Ok(value) = token.parse::<f64>() else { return false };
    // `{:e}` writes the shortest digits that read back as the same double.
    value.is_finite() && decimal(token) == decimal(&format!("{value:e}"))
}

/// Sign, digits without zeros around them, and the power of ten of the last one.
fn decimal(token: &str) -> Option<(bool, String, i64)> {
    let (negative, token) = match token.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, token),
    };
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (token, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some((negative, kept.to_owned(), power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason(text: &str) -> &'static str {
        json(text).map_or_else(|reason| reason.kind(), |_| "taken")
    }

    #[test]
    fn values_of_every_kind_are_taken() {
        let text =
            r#"{"a": [1, -2, 0.5, "x\n\"3e999\"", true, null, {}], "ü": 18446744073709551615}"#;
        let expect = json!({
            "a": [1, -2, 0.5, "x\n\"3e999\"", true, null, {}], "ü": u64::MAX
        });
        assert_eq!(json(text), Ok(expect));
        assert_eq!(json("\u{feff}7"), Ok(json!(7)), "a byte order mark is no JSON, but harmless");
    }

    #[test]
    fn malformed_json_is_placed() {
        let malformed = json("{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap_err();
        let Reason::Malformed { line, column, message } = malformed else {
            panic!("{malformed:?}")
        };
        assert_eq!((line, column), (3, 7));
        assert!(!message.contains("at line"), "{message}");
        for text in ["", "{", "[1,]", "nul", "1 2", "{\"a\":1,\"a\":2}", "[1e999]", "\"\u{1}\""] {
            assert_eq!(reason(text), "malformed", "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_and_does_not_overflow_the_stack() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(reason(&nested(levels_max())), "taken");
        assert_eq!(reason(&nested(levels_max() + 1)), "too-deep");
        assert_eq!(reason(&nested(100_000)), "too-deep");
        let objects = format!("{}1{}", "{\"a\":".repeat(64), "}".repeat(64));
        assert_eq!(reason(&objects), "too-deep");
    }

    #[test]
    fn numbers_come_out_as_they_went_in_or_not_at_all() {
        for number in [
            "0",
            "-0",
            "0.1",
            "1.10",
            "1e23",
            "100e-2",
            "-1.5E+3",
            "9007199254740993",
            "5e-324",
            "1.7976931348623157e308",
            "-9223372036854775808",
            "0.000",
            "123456789.125",
        ] {
            assert_eq!(reason(&format!("[{number}]")), "taken", "{number}");
        }
        for number in [
            "12345678901234567890123",
            "3.14159265358979323846",
            "0.1000000000000000055511151231257827",
            "1e-400",
            "-9223372036854775809",
        ] {
            let text = format!(r#"{{"quoted 1e999": "\\", "n": {number}}}"#);
            assert_eq!(json(&text), Err(Reason::Lossy { number: number.to_owned() }));
        }
    }

    #[test]
    fn a_number_is_read_as_its_nearest_double() {
        // A reader that is off by one in the last place would change values on their way through.
        for number in ["0.3561380755265203e-2", "122.416294033786585", "7.2057594037927933e16"] {
            let value: f64 = number.parse().unwrap();
            let text = format!("{value:?}");
            assert_eq!(json(&text), Ok(json!(value)));
            assert_eq!(serde_json::to_string(&json(&text).unwrap()).unwrap().parse(), Ok(value));
        }
        for bits in (0..2000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(json(&format!("{value:?}")), Ok(json!(value)));
            }
        }
    }

    #[test]
    fn text_is_utf_8_without_zero_bytes() {
        let kept = "\u{feff}a\r\nb\n".to_owned();
        assert_eq!(text(kept.clone().into_bytes()), Ok(kept));
        assert_eq!(text(b"ab\0c".to_vec()), Err(Reason::Binary { at: 2 }));
        assert_eq!(text(b"ab\xffc".to_vec()), Err(Reason::NotUtf8 { at: 2 }));
    }
}
