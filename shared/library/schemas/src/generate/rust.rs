//! Avro types and defaults as Rust.

use serde_json::Value;

use super::record_of;
use crate::{Field, Schema, Type};

pub(super) const WIRE: &str = "::quadrille_schemas::wire";

/// The module for a full name: the last part of its namespace.
pub(super) fn module(full_name: &str) -> &str {
    let namespace = full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
    namespace.rsplit('.').next().unwrap_or("")
}

/// A full name as a path from within one of the modules.
pub(super) fn path(full_name: &str) -> String {
    let short = full_name.rsplit('.').next().unwrap_or(full_name);
    format!("super::{}::{short}", module(full_name))
}

/// A field's name as an identifier.
pub(super) fn ident(name: &str) -> String {
    const KEYWORDS: [&str; 38] = [
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
        "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
        "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "type", "use",
    ];
    if KEYWORDS.contains(&name)
        || ["trait", "true", "try", "typeof", "where", "while", "yield", "unsafe"].contains(&name)
    {
        format!("r#{name}")
    } else {
        name.to_owned()
    }
}

/// The Rust type of a field.
pub(super) fn field_type(field: &Field) -> String {
    type_of(&field.ty, field.secret)
}

fn type_of(ty: &Type, secret: bool) -> String {
    match ty {
        Type::Boolean => "bool".into(),
        Type::Int => "i32".into(),
        Type::Long => "i64".into(),
        Type::Bytes => format!("{WIRE}::Bytes"),
        Type::String if secret => format!("{WIRE}::Secret"),
        Type::Uuid => format!("{WIRE}::Uuid"),
        Type::Time => format!("{WIRE}::Time"),
        Type::Decimal { precision, scale } => format!("{WIRE}::Decimal<{precision}, {scale}>"),
        Type::Array(items) => format!("Vec<{}>", type_of(items, false)),
        Type::Named(name) => path(name),
        _ => match ty.nullable() {
            Some(inner) => format!("Option<{}>", type_of(inner, secret)),
            None => "String".into(),
        },
    }
}

/// The serde attribute that a field's type needs, beside its default.
pub(super) fn serde_with(ty: &Type) -> Option<String> {
    match (ty, ty.nullable()) {
        (Type::Uuid, _) => Some(format!("with = \"{WIRE}::id\"")),
        (Type::Time, _) => Some(format!("with = \"{WIRE}::time\"")),
        (_, Some(Type::Uuid)) => Some(format!("with = \"{WIRE}::id::nullable\"")),
        (_, Some(Type::Time)) => Some(format!("with = \"{WIRE}::time::nullable\"")),
        _ => None,
    }
}

/// Whether a field's default is what Rust's `Default` gives for its type.
pub(super) fn is_plain(schema: &Schema, ty: &Type, default: &Value) -> bool {
    match (ty, default) {
        (_, Value::Null | Value::Bool(false)) => true,
        (_, Value::Number(number)) => number.as_i64() == Some(0),
        (Type::Decimal { .. }, Value::String(text)) => units(text) == 0,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (ty, Value::Object(object)) => record_of(schema, ty).is_some_and(|record| {
            record
                .fields
                .iter()
                .all(|field| field.default.is_some() && field.default.as_ref() == object.get(&field.name))
        }),
        _ => false,
    }
}

/// A field's default as an expression.
pub(super) fn default(schema: &Schema, field: &Field, default: &Value) -> String {
    default_of(schema, &field.ty, default, field.secret)
}

fn default_of(schema: &Schema, ty: &Type, default: &Value, secret: bool) -> String {
    if is_plain(schema, ty, default) {
        return "Default::default()".into();
    }
    match (ty, default) {
        (Type::Time, Value::Number(micros)) => format!("{WIRE}::time::from_micros({micros})"),
        (Type::Decimal { .. }, Value::String(text)) => format!("{WIRE}::Decimal::units({})", units(text)),
        (Type::Bytes, Value::String(text)) => format!("{WIRE}::Bytes({:?}.into())", text),
        (Type::String, Value::String(text)) if secret => format!("{WIRE}::Secret::new({text:?})"),
        (Type::String, Value::String(text)) => format!("String::from({text:?})"),
        (Type::Named(name), Value::Object(object)) => {
            let fields = record_of(schema, ty).map_or(&[][..], |record| &record.fields);
            let members = fields.iter().map(|field| {
                let value = object.get(&field.name).unwrap_or(&Value::Null);
                format!("{}: {}", ident(&field.name), default_of(schema, &field.ty, value, field.secret))
            });
            format!("{} {{ {} }}", path(name), members.collect::<Vec<_>>().join(", "))
        }
        (_, other) => other.to_string(),
    }
}

/// A decimal's default: big-endian two's complement in the text's code points, which the rules keep to ASCII.
fn units(text: &str) -> i64 {
    text.chars().fold(0, |units, byte| units << 8 | i64::from(u32::from(byte) & 0x7f))
}
