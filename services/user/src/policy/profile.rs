//! A profile is free JSON that clients agree on: this service checks that it is an object, and keeps it as it was written.

use quadrille_core::bounds::Fault;
use serde_json::{Map, Value};

/// How many bytes a profile may have.
const PROFILE: usize = 64 * 1024;

/// A JSON object of at most [`PROFILE`] bytes, nested no deeper than the parser goes (127): whoever reads it can read it.
pub(super) fn object(field: &str, json: &str) -> Result<(), Fault> {
    if json.len() > PROFILE {
        return Err(Fault::new(field, format_args!("have at most {PROFILE} bytes")));
    }
    match serde_json::from_str::<Map<String, Value>>(json) {
        Ok(_) => Ok(()),
        Err(_) => Err(Fault::new(field, "be a JSON object, e.g. {\"language\": \"de\"}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_and_nothing_else() {
        for sound in ["{}", " {\"a\": [1, {\"b\": null}]}\n"] {
            assert_eq!(object("profile", sound), Ok(()), "{sound}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(PROFILE));
        for refused in ["", "[]", "null", "\"{}\"", "{", "{}{}", "{a: 1}", "{\"a\":\"\0\"}", &deep, &large] {
            assert!(object("profile", refused).is_err(), "{:.40}", refused);
        }
    }
}
