//! Records as JSON, for people and for the edge.

use std::borrow::Cow;

use quadrille_core::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// Reads a record from JSON. Strict: an unknown field is refused (it may be a mistyped one), and an error names the field.
pub fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, DecodeError> {
    let json = quote_long_numbers(json);
    let mut deserializer = serde_json::Deserializer::from_str(&json);
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = Vec::new();
    let read: Result<T, _> =
        serde_ignored::deserialize(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track), |path| {
            unknown.push(field(&path))
        });
    let record = read.map_err(|error| {
        let path = track.path().to_string();
        DecodeError(if path == "." { error.to_string() } else { format!("field `{path}`: {error}") })
    })?;
    deserializer.end().map_err(|error| DecodeError(error.to_string()))?;
    match unknown.first() {
        None => Ok(record),
        Some(field) => Err(DecodeError(format!("field `{field}` is not known"))),
    }
}

/// Writes a record as one line of JSON, in the order of its fields; secrets are `***`.
pub fn to_json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("a record is JSON")
}

fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", field(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field(parent),
    }
}

/// Numbers with more digits than a float holds, as texts: so a float's rounding passes for no amount of money.
fn quote_long_numbers(json: &str) -> Cow<'_, str> {
    const SAFE_DIGITS: usize = 15;
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    let bytes = json.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let number = &json[at..at + length.count()];
                let digits = number.bytes().filter(u8::is_ascii_digit).count();
                if digits > SAFE_DIGITS && number.contains(['.', 'e', 'E']) {
                    out.push_str(&json[copied..at]);
                    out.push('"');
                    out.push_str(number);
                    out.push('"');
                    copied = at + number.len();
                }
                at += number.len();
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        Cow::Borrowed(json)
    } else {
        out.push_str(&json[copied..]);
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_fractions_are_quoted() {
        let json = r#"{ "a": 19.99, "b": "1.00000000000000000001 \" 2", "c": 12345678901234567890 }"#;
        assert_eq!(quote_long_numbers(json), json);
        assert_eq!(quote_long_numbers("[19.9900000000000000001,1]"), "[\"19.9900000000000000001\",1]");
        assert_eq!(quote_long_numbers("\"open \\"), "\"open \\");
    }
}
