//! A profile is free JSON that clients agree on: this service checks that it is an object, and keeps it as it was written.

use std::{collections::BTreeSet, fmt};

use quadrille_core::bounds::Fault;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// How many bytes a profile may have.
const PROFILE: usize = 64 * 1024;

/// A JSON object of at most [`PROFILE`] bytes that everybody reads alike: nested no deeper than the parser goes (127), no number
/// beyond what a double holds, each key once in its object.
pub(super) fn object(field: &str, json: &str) -> Result<(), Fault> {
    if json.len() > PROFILE {
        return Err(Fault::new(field, format_args!("have at most {PROFILE} bytes")));
    }
    if json.starts_with('\u{feff}') {
        return Err(Fault::new(field, "begin with its JSON, not with a byte order mark (U+FEFF)"));
    }
    match serde_json::from_str(json) {
        Ok(Json::Object) => Ok(()),
        Ok(Json::Other) => Err(Fault::new(field, "be a JSON object, e.g. {\"language\": \"de\"}")),
        // The parser tells what and where, and repeats nothing of the text.
        Err(error) => Err(Fault::new(field, format_args!("be JSON that can be read: {error}"))),
    }
}

/// What a JSON text turned out to be, once it was read to its end.
enum Json {
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        while elements.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            // Readers differ on which of two counts.
            if !keys.insert(key) {
                return Err(A::Error::custom("a key comes twice in one object"));
            }
            fields.next_value::<Json>()?;
        }
        Ok(Json::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_and_nothing_else() {
        for sound in [
            "{}",
            " {\"a\": [1, {\"b\": null}]}\n",
            "{\"a\": [0, -1, 1e308, 18446744073709551616, true, \"\\ud83d\\ude00\\u0000\"]}",
            "{\"a\": {\"a\": 1}, \"A\": 1}",
        ] {
            assert_eq!(object("profile", sound), Ok(()), "{sound}");
        }
        for none in ["[]", "null", "\"{}\"", "7", "true", "-7", "1.5"] {
            let must = Err(Fault::new("profile", "be a JSON object, e.g. {\"language\": \"de\"}"));
            assert_eq!(object("profile", none), must, "{none}");
        }
    }

    #[test]
    fn an_object_is_never_said_to_be_none() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(PROFILE));
        for (refused, what) in [
            ("{\"a\": 1e400}", "be JSON that can be read: number out of range at line 1 column 11"),
            ("{\"a\": -1e999}", "number out of range"),
            ("{\"secret\": 1, \"b\": {}, \"secret\": 2}", "a key comes twice in one object at line 1 column 31"),
            ("{\"a\": [{\"b\": 1, \"\\u0062\": 2}]}", "a key comes twice in one object"),
            ("{\"a\": \"\\ud800\"}", "hex escape"),
            ("{\"\\udc00\": 1}", "lone leading surrogate"),
            ("{\"a\": NaN}", "expected value at line 1 column 7"),
            ("{\"a\": Infinity}", "expected value at line 1 column 7"),
            ("{\"a\": 01}", "invalid number"),
            ("{}{}", "trailing characters at line 1 column 3"),
            ("{\"a\": 1,}", "trailing comma"),
            ("{a: 1}", "key must be a string"),
            ("{\"a\":\"\0\"}", "control character"),
            ("{", "EOF while parsing an object"),
            ("", "EOF while parsing a value"),
            ("\u{feff}{}", "byte order mark"),
            (&deep, "recursion limit exceeded at line 1 column"),
            (&large, "have at most 65536 bytes"),
        ] {
            let fault = object("profile", refused).expect_err(refused);
            assert!(fault.detail.contains(what), "{:.40}: {}", refused, fault.detail);
            assert!(!fault.detail.contains("JSON object") && !fault.detail.contains("secret"), "{}", fault.detail);
        }
    }
}
