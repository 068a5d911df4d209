//! A datum of any schema as JSON, for people: by its writer's schema alone, whoever that is.

use apache_avro::types::Value as Datum;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::DateTime;
use serde_json::Value;

use super::time;
use crate::{Field, NamedType, Schema, Type};

/// A datum's value as JSON, in the forms that compiled types have: decimals and times as text, bytes as base64, secrets as `***`. A value that
/// is not of its type is null.
pub(super) fn json(schema: &Schema, ty: &Type, datum: &Datum) -> Value {
    match (ty, datum) {
        (Type::Time, Datum::Long(micros)) => match DateTime::from_timestamp_micros(*micros) {
            Some(time) => time::text(&time).into(),
            None => (*micros).into(),
        },
        (Type::Decimal { scale, .. }, Datum::Bytes(bytes)) => decimal(bytes, *scale).unwrap_or_else(|| base64(bytes)),
        (Type::Logical { base, .. }, datum) => json(schema, base, datum),
        (Type::Union(types), Datum::Union(index, datum)) => {
            types.get(*index as usize).map_or(Value::Null, |ty| json(schema, ty, datum))
        }
        (Type::Array(ty), Datum::Array(items)) => items.iter().map(|item| json(schema, ty, item)).collect(),
        (Type::Map(ty), Datum::Map(items)) => {
            items.iter().map(|(name, item)| (name.clone(), json(schema, ty, item))).collect()
        }
        (Type::Named(name), Datum::Record(values)) => {
            let fields = match schema.named.get(name) {
                Some(NamedType::Record(record)) => record.fields.as_slice(),
                _ => &[],
            };
            let shown = |(field, (_, datum)): (&Field, &(String, Datum))| {
                let value = if field.secret { "***".into() } else { json(schema, &field.ty, datum) };
                (field.name.clone(), value)
            };
            fields.iter().zip(values).map(shown).collect()
        }
        (_, Datum::Boolean(flag)) => (*flag).into(),
        (_, Datum::Int(number)) => (*number).into(),
        (_, Datum::Long(number)) => (*number).into(),
        (_, Datum::Float(number)) => (*number).into(),
        (_, Datum::Double(number)) => (*number).into(),
        (_, Datum::String(text) | Datum::Enum(_, text)) => text.as_str().into(),
        (_, Datum::Bytes(bytes) | Datum::Fixed(_, bytes)) => base64(bytes),
        _ => Value::Null,
    }
}

fn base64(bytes: &[u8]) -> Value {
    BASE64_STANDARD.encode(bytes).into()
}

/// Big-endian two's complement of up to 16 bytes, with so many decimals.
fn decimal(bytes: &[u8], scale: u64) -> Option<Value> {
    let scale = usize::try_from(scale).ok().filter(|scale| *scale <= 38)?;
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 16];
    wide[16_usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    let units = i128::from_be_bytes(wide);
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, decimals) = digits.split_at(digits.len() - scale);
    let point = if scale == 0 { "" } else { "." };
    Some(format!("{}{whole}{point}{decimals}", if units < 0 { "-" } else { "" }).into())
}

#[cfg(test)]
mod tests {
    use crate::wire::WriterSchema;

    /// Everything that Avro has, of a type that nobody compiled in.
    #[test]
    fn a_record_of_any_schema_is_shown() {
        let text = r#"{"type":"record","name":"a.B","fields":[
            {"name":"flag","type":"boolean"},
            {"name":"number","type":"long"},
            {"name":"half","type":"double"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
            {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}},
            {"name":"raw","type":"bytes"},
            {"name":"mark","type":{"type":"fixed","name":"Mark","size":2}},
            {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["X","Y"]}},
            {"name":"word","type":["null","string"]},
            {"name":"none","type":["null","string"]},
            {"name":"password","type":"string","quadrille.secret":true},
            {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[{"name":"n","type":"int"}]}}},
            {"name":"more","type":{"type":"map","values":"int"}}]}"#;
        let mut datum = vec![1, 5];
        datum.extend(0.5_f64.to_le_bytes());
        datum.extend([0, 4, 0xff, 0x85, 2, 0xff, 1, 2, 2, 2, 4, b'h', b'i', 0, 2, b'p', 2, 8, 0, 2, 2, b'k', 2, 0]);
        let shown = WriterSchema::new(text).expect("a schema").json(&datum).expect("a datum");
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let expected: serde_json::Value = serde_json::from_str(
            r#"{"flag":true,"number":-3,"half":0.5,"at":"1970-01-01T00:00:00.000000Z","price":"-1.23","raw":"/w==","mark":"AQI=","kind":"Y","word":"hi","none":null,"password":"***","items":[{"n":4}],"more":{"k":1}}"#,
        )
        .expect("JSON");
        assert_eq!(shown, expected);
        datum.pop();
        assert!(WriterSchema::new(text).expect("a schema").json(&datum).is_err(), "cut short");
    }
}
