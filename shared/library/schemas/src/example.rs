//! `example`: a valid JSON to start from.

use serde_json::Value;

use crate::{Field, Record, Schema, Type};

/// An example of a schema's record as indented JSON, in the order of its fields: what must be given, and what the schema
/// has an example for (`quadrille.example`). The rest has defaults.
pub fn example(schema: &Schema) -> String {
    schema.record().map_or_else(String::new, |record| object(schema, record, ""))
}

fn object(schema: &Schema, record: &Record, indent: &str) -> String {
    let inner = format!("{indent}  ");
    let members: Vec<String> = record
        .fields
        .iter()
        .filter_map(|field| Some(format!("{inner}\"{}\": {}", field.name, member(schema, field, &inner)?)))
        .collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n{indent}}}", members.join(",\n")) }
}

/// The field's example, or `None` where its default may stand.
fn member(schema: &Schema, field: &Field, indent: &str) -> Option<String> {
    if let Some(example) = &field.example {
        return Some(example.to_string());
    }
    match &field.ty {
        Type::Named(name) => schema.record_named(name).map(|record| object(schema, record, indent)),
        Type::Array(items) => match &**items {
            Type::Named(name) => {
                schema.record_named(name).map(|record| format!("[{}]", object(schema, record, indent)))
            }
            _ => None,
        },
        _ if field.default.is_some() => None,
        ty => Some(some(ty).to_string()),
    }
}

fn some(ty: &Type) -> Value {
    match ty {
        Type::Boolean => false.into(),
        Type::Int | Type::Long => 1.into(),
        Type::Decimal { precision, scale } => {
            format!("{:.*}", *scale as usize, if precision > scale { 1.0 } else { 0.0 }).into()
        }
        Type::Uuid => "00000000-0000-4000-8000-000000000001".into(),
        Type::Time => "2026-01-01T00:00:00Z".into(),
        _ => "".into(),
    }
}
