//! Shared types: `common/` inlined at first use.

use std::collections::{BTreeMap, BTreeSet};

/// The texts of `common/`, by the full name of the type that each defines.
pub type Common = BTreeMap<String, String>;

/// A schema's text with the types of `common/` inlined at first use: what is registered, hashed, frozen and kept as golden.
///
/// A reference is a JSON string that is exactly a shared type's full name, as the value of `type`, `items` or `values`
/// (or within an array there). The first reference to a type is replaced by that type's file, indented to fit and inlined
/// likewise; later ones stay, since Avro knows the name from then on. Nothing else of the text is touched.
pub fn inlined(text: &str, common: &Common) -> Result<String, String> {
    let mut inliner = Inliner { common, known: BTreeSet::new(), open: Vec::new() };
    inliner.inline(text)
}

struct Inliner<'a> {
    common: &'a Common,
    known: BTreeSet<String>,
    open: Vec<String>,
}

impl Inliner<'_> {
    fn inline(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len() * 2);
        let mut rest = text;
        let mut key = "";
        while let Some(start) = rest.find('"') {
            out.push_str(&rest[..start]);
            let length = literal_length(&rest[start..]).ok_or("a text is not closed")?;
            let literal = &rest[start..start + length];
            let name = &literal[1..length - 1];
            rest = &rest[start + length..];
            let is_key = rest.trim_start().starts_with(':');
            if is_key {
                key = name;
            }
            match self.common.get_key_value(name) {
                Some((name, definition)) if !is_key && matches!(key, "type" | "items" | "values") => {
                    let definition = self.define(name, definition)?;
                    out.push_str(
                        definition.as_deref().map_or(literal.to_owned(), |text| indented(text, &out)).as_str(),
                    );
                }
                _ => out.push_str(literal),
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The definition to stand for a reference, or `None` where the name is known already.
    fn define(&mut self, name: &str, definition: &str) -> Result<Option<String>, String> {
        if self.open.iter().any(|open| open == name) {
            return Err(format!("{name} contains itself"));
        }
        if !self.known.insert(name.to_owned()) {
            return Ok(None);
        }
        self.open.push(name.to_owned());
        let text = self.inline(definition.trim())?;
        self.open.pop();
        Ok(Some(text))
    }
}

/// The length of the JSON string literal that `text` begins with, quotes included.
fn literal_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `text` with all lines but the first indented like the line that `before` ends with.
fn indented(text: &str, before: &str) -> String {
    let line = before.rsplit('\n').next().unwrap_or("");
    let indent = &line[..line.len() - line.trim_start().len()];
    text.replace('\n', &format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(types: &[(&str, &str)]) -> Common {
        types.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_shared_type_is_inlined_once_and_indented() {
        let common = common(&[("a.B", "{\n  \"type\": \"a.C\"\n}\n"), ("a.C", "{ \"c\": 1 }")]);
        let text = "[\n  { \"type\": [\"null\", \"a.B\"] },\n  { \"items\": \"a.B\", \"values\": \"a.C\" }\n]";
        let expected = "[\n  { \"type\": [\"null\", {\n    \"type\": { \"c\": 1 }\n  }] },\n  { \"items\": \"a.B\", \"values\": \"a.C\" }\n]";
        assert_eq!(inlined(text, &common).as_deref(), Ok(expected));
    }

    #[test]
    fn only_types_are_references() {
        let common = common(&[("a.B", "{}")]);
        let text = r#"{ "doc": "a.B", "default": "a.B", "a.B": "\"a.B", "symbols": ["a.B"] }"#;
        assert_eq!(inlined(text, &common).as_deref(), Ok(text));
    }

    #[test]
    fn a_type_that_contains_itself_is_refused() {
        let common = common(&[("a.B", r#"{ "type": "a.C" }"#), ("a.C", r#"{ "items": "a.B" }"#)]);
        assert_eq!(inlined(r#"{ "type": "a.B" }"#, &common), Err("a.B contains itself".into()));
    }
}
