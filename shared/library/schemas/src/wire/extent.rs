//! How many values a datum describes, before any of them is built: a null, or a record of nulls, takes memory and no bytes.

use quadrille_core::DecodeError;

use crate::{NamedType, Schema, Type};

/// So many bytes of a field's or symbol's name count as a value: whoever builds values copies the name of each.
const NAME_BYTES: usize = 64;

/// Makes sure that `datum` is whole and describes no more than `most` values. Whoever builds values relies on both: at the end of a datum
/// apache-avro reads nulls and falses for as long as items were promised, and it makes room for a fixed value before it looks for its bytes.
pub(super) fn check(schema: &Schema, datum: &[u8], most: usize) -> Result<(), DecodeError> {
    let mut walk = Walk { schema, datum, left: most };
    walk.value(&schema.root).map_err(|end| match end {
        End::Exceeded => DecodeError(format!("the datum describes more than {most} values")),
        End::Malformed => DecodeError("the datum ends early, or is none of its writer's schema".to_owned()),
    })
}

/// Reads over a datum by [Avro's binary encoding](https://avro.apache.org/docs/1.12.0/specification/#binary-encoding).
struct Walk<'a> {
    schema: &'a Schema,
    datum: &'a [u8],
    left: usize,
}

/// Why a walk ends before the datum does.
enum End {
    Exceeded,
    Malformed,
}

impl<'a> Walk<'a> {
    fn value(&mut self, ty: &'a Type) -> Result<(), End> {
        self.count(1)?;
        match ty {
            Type::Null => Ok(()),
            Type::Boolean => self.skip(1),
            Type::Int | Type::Long | Type::Time => self.number().map(drop),
            Type::Float => self.skip(4),
            Type::Double => self.skip(8),
            Type::Bytes | Type::String | Type::Uuid | Type::Decimal { .. } => self.sized(),
            Type::Logical { base, .. } => self.value(base),
            Type::Array(items) => self.blocks(|walk| walk.value(items)),
            Type::Map(values) => self.blocks(|walk| {
                walk.sized()?;
                walk.value(values)
            }),
            Type::Union(variants) => {
                let index = usize::try_from(self.number()?).map_err(|_| End::Malformed)?;
                self.value(variants.get(index).ok_or(End::Malformed)?)
            }
            Type::Named(name) => match self.schema.named.get(name).ok_or(End::Malformed)? {
                NamedType::Record(record) => record.fields.iter().try_for_each(|field| {
                    self.count(field.name.len() / NAME_BYTES)?;
                    self.value(&field.ty)
                }),
                NamedType::Enum { symbols, .. } => {
                    let index = usize::try_from(self.number()?).map_err(|_| End::Malformed)?;
                    let symbol = symbols.get(index).ok_or(End::Malformed)?;
                    self.count(symbol.len() / NAME_BYTES)
                }
                NamedType::Fixed { size } => self.skip(*size),
            },
        }
    }

    /// Blocks of items until one of none. A negative count says that the block's size in bytes follows.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), End>) -> Result<(), End> {
        loop {
            let count = self.number()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.number()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn count(&mut self, values: usize) -> Result<(), End> {
        self.left = self.left.checked_sub(values).ok_or(End::Exceeded)?;
        Ok(())
    }

    fn sized(&mut self) -> Result<(), End> {
        let size = u64::try_from(self.number()?).map_err(|_| End::Malformed)?;
        self.skip(size)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), End> {
        let bytes = usize::try_from(bytes).map_err(|_| End::Malformed)?;
        self.datum = self.datum.get(bytes..).ok_or(End::Malformed)?;
        Ok(())
    }

    /// A zig-zag number of at most ten bytes.
    fn number(&mut self) -> Result<i64, End> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.datum.split_first().ok_or(End::Malformed)?;
            self.datum = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(End::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> Schema {
        Schema::parse(&format!(r#"{{ "type": "record", "name": "a.R", "fields": [{fields}] }}"#))
            .expect("a sound schema")
    }

    /// How many values a datum describes: the least bound that it does not exceed.
    fn values(schema: &Schema, datum: &[u8]) -> usize {
        (0..1_000).find(|most| check(schema, datum, *most).is_ok()).expect("not that many")
    }

    fn refused(schema: &Schema, datum: &[u8], most: usize) -> String {
        check(schema, datum, most).map_err(|error| error.to_string()).expect_err("it is none")
    }

    #[test]
    fn every_value_counts_with_bytes_or_without() {
        let all = schema(
            r#"{ "name": "n", "type": "null" }, { "name": "b", "type": "boolean" }, { "name": "i", "type": "int" },
               { "name": "f", "type": "float" }, { "name": "d", "type": "double" }, { "name": "s", "type": "string" },
               { "name": "u", "type": ["null", "long"] }, { "name": "a", "type": { "type": "array", "items": "long" } },
               { "name": "m", "type": { "type": "map", "values": "null" } },
               { "name": "e", "type": { "type": "enum", "name": "a.E", "symbols": ["X"] } },
               { "name": "x", "type": { "type": "fixed", "name": "a.F", "size": 3 } },
               { "name": "p", "type": { "type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2 } }"#,
        );
        let mut datum = vec![1, 0xac, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, b'h', b'i', 2, 6];
        // Two items, then one in a block that tells its size; two entries of a map; an enum, a fixed, a decimal.
        datum.extend([4, 2, 4, 1, 2, 6, 0, 4, 2, b'k', 2, b'l', 0, 0, 1, 2, 3, 2, 9]);
        assert_eq!(values(&all, &datum), 1 + 12 + 1 + 3 + 2);
    }

    #[test]
    fn a_datum_that_is_none_is_refused() {
        let text = schema(r#"{ "name": "a", "type": { "type": "array", "items": "string" } }"#);
        for datum in [
            &[][..],
            &[2],
            &[2, 20, b'x'],
            &[2, 1],
            &[0xff; 20],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert!(refused(&text, datum, 10).contains("ends early"), "{datum:?}");
        }
        let huge =
            schema(r#"{ "name": "x", "type": { "type": "fixed", "name": "a.F", "size": 4611686018427387904 } }"#);
        assert!(refused(&huge, &[0; 100], 10).contains("ends early"));
    }

    #[test]
    fn names_count_with_each_value_that_has_them() {
        let name = "n".repeat(6_400);
        let list = format!(
            r#"{{ "name": "a", "type": {{ "type": "array", "items":
                {{ "type": "record", "name": "a.I", "fields": [{{ "name": "{name}", "type": "boolean" }}] }} }} }}"#
        );
        // A record of a list of two items, each a record of one value whose name counts for a hundred.
        assert_eq!(values(&schema(&list), &[4, 0, 0, 0]), 2 + 2 * (2 + 100));
        let kind = format!(r#"{{ "name": "e", "type": {{ "type": "enum", "name": "a.E", "symbols": ["{name}"] }} }}"#);
        assert_eq!(values(&schema(&kind), &[0]), 2 + 100);
        assert!(refused(&schema(&kind), &[2], 1_000).contains("none of its writer's schema"));
    }

    #[test]
    fn items_of_no_bytes_are_counted_and_not_built() {
        let nulls = schema(r#"{ "name": "a", "type": { "type": "array", "items": "null" } }"#);
        // i64::MAX items, and i64::MIN of them with a size of 0.
        for count in [0xfe, 0xff] {
            let datum = [count, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0];
            assert!(refused(&nulls, &datum, 100_000).contains("more than 100000 values"));
        }
    }
}
