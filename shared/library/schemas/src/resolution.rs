//! Whether one schema's data can be read with another: Avro's resolution, decided field by field before any datum.
//!
//! Stricter than Avro where Avro is careless: a decimal's scale and precision and a time's unit must be equal, texts and
//! bytes do not stand in for each other, and records must have the same full name.

use std::{collections::BTreeSet, fmt};

use crate::{NamedType, Record, Schema, Type};

/// Why data of a writer's schema cannot be read with a reader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The field, as a path; empty for the record itself.
    pub field: String,
    /// What does not fit.
    pub what: String,
    /// What whoever changes the schema should do.
    pub fix: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the record {}", self.what),
            field => write!(f, "field `{field}` {}", self.what),
        }
    }
}

/// Everything for which `reader` cannot read what was written with `writer`; none means that it can.
pub fn mismatches(writer: &Schema, reader: &Schema) -> Vec<Mismatch> {
    let mut resolution = Resolution { writer, reader, open: Vec::new(), found: Vec::new() };
    resolution.compare(&writer.root, &reader.root, "");
    resolution.found
}

/// Whether a datum of one schema is a datum of the other as it stands: same names, types, logical types and order of
/// fields. Docs, defaults and attributes do not matter, and a uuid is a string.
pub fn same_shape(one: &Schema, other: &Schema) -> bool {
    fn types(one: &Schema, other: &Schema, a: &Type, b: &Type, open: &mut BTreeSet<String>) -> bool {
        match (a, b) {
            (Type::Named(a), Type::Named(b)) if a != b => false,
            (Type::Named(name), Type::Named(_)) => match (one.named.get(name), other.named.get(name)) {
                _ if !open.insert(name.clone()) => true,
                (Some(NamedType::Record(a)), Some(NamedType::Record(b))) => {
                    a.fields.len() == b.fields.len()
                        && a.fields
                            .iter()
                            .zip(&b.fields)
                            .all(|(a, b)| a.name == b.name && types(one, other, &a.ty, &b.ty, open))
                }
                (a, b) => a == b,
            },
            (Type::Array(a), Type::Array(b)) | (Type::Map(a), Type::Map(b)) => types(one, other, a, b, open),
            (Type::Union(a), Type::Union(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| types(one, other, a, b, open))
            }
            (Type::Uuid | Type::String, Type::Uuid | Type::String) => true,
            (a, b) => a == b,
        }
    }
    types(one, other, &one.root, &other.root, &mut BTreeSet::new())
}

struct Resolution<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    /// The named types that are being compared: a recursive type ends here.
    open: Vec<String>,
    found: Vec<Mismatch>,
}

impl<'s> Resolution<'s> {
    fn compare(&mut self, written: &'s Type, wanted: &'s Type, path: &str) {
        match (written, wanted) {
            (Type::Named(written), Type::Named(wanted)) => self.named(written, wanted, path),
            (Type::Array(written), Type::Array(wanted)) => self.compare(written, wanted, &format!("{path}[]")),
            (Type::Map(written), Type::Map(wanted)) => self.compare(written, wanted, &format!("{path}{{}}")),
            (Type::Union(written), _) => {
                for variant in written {
                    self.compare(variant, wanted, path);
                }
            }
            (written, Type::Union(variants)) => self.one_of(written, variants, wanted, path),
            (Type::Int, Type::Long) | (Type::Uuid | Type::String, Type::Uuid | Type::String) => {}
            (written, wanted) if written == wanted => {}
            (Type::Null, wanted) => {
                let what = format!("may be null in the writer's schema, where {} is expected", wanted.text());
                self.push(path, what, KEEP_TYPE);
            }
            (written, wanted) => self.different(written, wanted, path),
        }
    }

    /// A written type against a union: one variant must take it. The closest one's mismatches are told.
    fn one_of(&mut self, written: &'s Type, variants: &'s [Type], wanted: &'s Type, path: &str) {
        let before = self.found.len();
        let mut closest: Option<Vec<Mismatch>> = None;
        for variant in variants {
            self.compare(written, variant, path);
            let found = self.found.split_off(before);
            if found.is_empty() {
                return;
            }
            if matches!((written, variant), (Type::Named(a), Type::Named(b)) if a == b) {
                closest = Some(found);
            }
        }
        match closest {
            Some(found) => self.found.extend(found),
            None => self.different(written, wanted, path),
        }
    }

    fn named(&mut self, written: &str, wanted: &str, path: &str) {
        if written != wanted {
            return self.push(
                path,
                format!("is {written} in the writer's schema, where {wanted} is expected"),
                "keep the full name: another name is another type",
            );
        }
        if self.open.iter().any(|open| open == written) {
            return;
        }
        self.open.push(written.to_owned());
        match (self.writer.named.get(written), self.reader.named.get(wanted)) {
            (Some(NamedType::Record(written)), Some(NamedType::Record(wanted))) => self.records(written, wanted, path),
            (Some(NamedType::Enum { symbols, .. }), Some(NamedType::Enum { symbols: known, default })) => {
                let unknown = symbols.iter().find(|symbol| !known.contains(symbol));
                if let (Some(unknown), None) = (unknown, default) {
                    let what = format!("may be the symbol {unknown}, which the reader's {wanted} has not");
                    self.push(path, what, "keep the symbols, and give the enum itself a default before adding one");
                }
            }
            (Some(written), Some(wanted)) if written == wanted => {}
            _ => self.push(path, format!("is another kind of type under the name {written}"), KEEP_TYPE),
        }
        self.open.pop();
    }

    fn records(&mut self, written: &'s Record, wanted: &'s Record, path: &str) {
        for field in &wanted.fields {
            let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
            match written.fields.iter().find(|written| written.name == field.name) {
                Some(written) => self.compare(&written.ty, &field.ty, &path),
                None if field.default.is_some() => {}
                None => self.push(
                    &path,
                    "is missing in the writer's schema and has no default".to_owned(),
                    "give a new field a default; keep a field that has none",
                ),
            }
        }
    }

    fn different(&mut self, written: &Type, wanted: &Type, path: &str) {
        let what = format!("is {} in the writer's schema, where {} is expected", written.text(), wanted.text());
        self.push(path, what, KEEP_TYPE);
    }

    fn push(&mut self, path: &str, what: String, fix: &'static str) {
        self.found.push(Mismatch { field: path.to_owned(), what, fix });
    }
}

const KEEP_TYPE: &str = "keep the field as it is and add a new one with a default";

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> Schema {
        Schema::parse(&format!(r#"{{ "type": "record", "name": "a.R", "fields": [{fields}] }}"#))
            .expect("a sound schema")
    }

    fn field(ty: &str) -> Schema {
        schema(&format!(r#"{{ "name": "f", "type": {ty} }}"#))
    }

    /// What does not fit when `written` is read as `wanted`.
    fn reading(written: &Schema, wanted: &Schema) -> String {
        mismatches(written, wanted).iter().map(Mismatch::to_string).collect::<Vec<_>>().join("; ")
    }

    const MONEY: &str = r#"{ "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }"#;

    #[test]
    fn fields_come_and_go_by_their_defaults() {
        let small = schema(r#"{ "name": "a", "type": "int" }"#);
        let defaulted = schema(r#"{ "name": "a", "type": "int" }, { "name": "b", "type": "string", "default": "" }"#);
        let required = schema(r#"{ "name": "a", "type": "int" }, { "name": "b", "type": "string" }"#);
        assert_eq!(reading(&small, &defaulted), "");
        assert_eq!(reading(&defaulted, &small), "");
        assert_eq!(reading(&small, &required), "field `b` is missing in the writer's schema and has no default");
    }

    #[test]
    fn another_type_is_named_with_both() {
        let cases = [
            ("\"int\"", "\"long\"", ""),
            ("\"long\"", "\"int\"", "field `f` is long in the writer's schema, where int is expected"),
            ("\"string\"", "\"bytes\"", "field `f` is string in the writer's schema, where bytes is expected"),
            ("\"string\"", r#"{ "type": "string", "logicalType": "uuid" }"#, ""),
            ("\"string\"", r#"["null", "string"]"#, ""),
            (
                r#"["null", "string"]"#,
                "\"string\"",
                "field `f` may be null in the writer's schema, where string is expected",
            ),
            (
                "\"int\"",
                r#"["null", "string"]"#,
                "field `f` is int in the writer's schema, where nullable string is expected",
            ),
            (
                &MONEY.replace("2 }", "4 }"),
                MONEY,
                "field `f` is decimal(12,4) in the writer's schema, where decimal(12,2) is expected",
            ),
            ("\"bytes\"", MONEY, "field `f` is bytes in the writer's schema, where decimal(12,2) is expected"),
            (
                r#"{ "type": "long", "logicalType": "timestamp-millis" }"#,
                r#"{ "type": "long", "logicalType": "timestamp-micros" }"#,
                "field `f` is timestamp-millis on long in the writer's schema, where timestamp-micros is expected",
            ),
            (
                r#"{ "type": "array", "items": "string" }"#,
                r#"{ "type": "array", "items": "int" }"#,
                "field `f[]` is string in the writer's schema, where int is expected",
            ),
            (
                r#"{ "type": "enum", "name": "a.E", "symbols": ["X", "Y"] }"#,
                r#"{ "type": "enum", "name": "a.E", "symbols": ["X"] }"#,
                "field `f` may be the symbol Y, which the reader's a.E has not",
            ),
            (
                r#"{ "type": "enum", "name": "a.E", "symbols": ["X", "Y"] }"#,
                r#"{ "type": "enum", "name": "a.E", "symbols": ["X"], "default": "X" }"#,
                "",
            ),
            (
                r#"["null", { "type": "record", "name": "a.P", "fields": [{ "name": "p", "type": "int" }] }]"#,
                r#"["null", { "type": "record", "name": "a.P", "fields": [{ "name": "p", "type": "string" }] }]"#,
                "field `f.p` is int in the writer's schema, where string is expected",
            ),
        ];
        for (written, wanted, expected) in cases {
            assert_eq!(reading(&field(written), &field(wanted)), expected, "{written} read as {wanted}");
        }
    }

    #[test]
    fn another_full_name_is_another_type() {
        let other = Schema::parse(r#"{ "type": "record", "name": "b.R", "fields": [] }"#).expect("a sound schema");
        assert_eq!(reading(&other, &schema("")), "the record is b.R in the writer's schema, where a.R is expected");
    }

    #[test]
    fn the_shape_is_what_a_datum_shows() {
        let documented = schema(r#"{ "name": "f", "type": "string", "doc": "x", "default": "y" }"#);
        assert!(same_shape(&field("\"string\""), &documented));
        assert!(same_shape(&field("\"string\""), &field(r#"{ "type": "string", "logicalType": "uuid" }"#)));
        assert!(!same_shape(&field("\"int\""), &field("\"long\"")));
        assert!(!same_shape(&field(MONEY), &field(&MONEY.replace("2 }", "4 }"))));
        let (ab, ba) = (r#"{ "name": "a", "type": "int" }"#, r#"{ "name": "b", "type": "int" }"#);
        assert!(!same_shape(&schema(&format!("{ab}, {ba}")), &schema(&format!("{ba}, {ab}"))));
    }

    #[test]
    fn a_recursive_type_ends() {
        let list = field(r#"["null", "a.R"]"#);
        assert!(list.bounded().is_err_and(|error| error.contains("contains itself")));
        assert!(same_shape(&list, &list));
        assert_eq!(reading(&list, &list), "");
        assert_eq!(field("\"int\"").bounded(), Ok(()));
    }
}
