//! An Avro schema, as far as rules, evolution and code generation look into it.
//!
//! Coding is `apache-avro`'s business; this model is for saying precisely, field by field, what a schema is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A parsed schema: its root type and every named type within it.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// The type of a whole datum.
    pub root: Type,
    /// Records, enums and fixed types by full name.
    pub named: BTreeMap<String, NamedType>,
}

/// A type as Avro knows it; the logical types that we use are types of their own.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// `uuid` on a string.
    Uuid,
    /// `timestamp-micros` on a long.
    Time,
    /// `decimal` on bytes.
    Decimal {
        precision: u64,
        scale: u64,
    },
    /// Any other logical type: its name (with precision and scale where given) and what it stands on.
    Logical {
        name: String,
        base: Box<Type>,
    },
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// A record, enum or fixed type, by its full name.
    Named(String),
}

/// A type that has a name.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NamedType {
    Record(Record),
    Enum { symbols: Vec<String>, default: Option<String> },
    Fixed { size: u64 },
}

/// A record type.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The full name.
    pub name: String,
    /// What it means.
    pub doc: String,
    /// `quadrille.key`: the field that is the record key.
    pub key: Option<String>,
    /// The fields in order.
    pub fields: Vec<Field>,
}

/// A record's field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// What it means.
    pub doc: String,
    /// Its type.
    pub ty: Type,
    /// The default, where it has one.
    pub default: Option<Value>,
    /// `quadrille.secret`: shown as `***` by every tool.
    pub secret: bool,
    /// `quadrille.id`: a text that identifies something, and so may do without a default.
    pub id: bool,
    /// `quadrille.example`: a value for `quadrille example`.
    pub example: Option<Value>,
    /// Whether it has aliases, which we refuse.
    pub aliased: bool,
}

impl Schema {
    /// Parses a schema's text, which must stand on its own (shared types inlined).
    pub fn parse(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        let mut named = BTreeMap::new();
        let root = parse_type(&json, "", &mut named)?;
        Ok(Self { root, named })
    }

    /// The root record, if the root is a record.
    pub fn record(&self) -> Option<&Record> {
        match &self.root {
            Type::Named(name) => self.record_named(name),
            _ => None,
        }
    }

    /// The record of that full name.
    pub fn record_named(&self, name: &str) -> Option<&Record> {
        match self.named.get(name) {
            Some(NamedType::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Whether the schema, with every named type written out wherever it stands, is within bounds; else a sentence that says what is not.
    ///
    /// A type that contains itself bounds no datum's depth, and a chain of types that each hold the one before it twice describes in a
    /// hundred lines what no memory holds: whatever walks the types one by one is for schemas that have passed here.
    pub fn bounded(&self) -> Result<(), String> {
        match self.extent(&self.root, 1, &mut BTreeMap::new())?.types {
            ..=MOST_TYPES => Ok(()),
            _ => Err(format!("describes more than {MOST_TYPES} values where every type is written out")),
        }
    }

    /// `known` has the extents of the named types, and `None` for those that are being looked at.
    fn extent<'s>(
        &'s self,
        ty: &'s Type,
        depth: usize,
        known: &mut BTreeMap<&'s str, Option<Extent>>,
    ) -> Result<Extent, String> {
        let (name, inner): (_, Vec<&Type>) = match ty {
            Type::Array(inner) | Type::Map(inner) => (None, vec![inner]),
            Type::Union(variants) => (None, variants.iter().collect()),
            Type::Named(name) => {
                let fields = self.record_named(name).map_or(&[][..], |record| &record.fields);
                (Some(name.as_str()), fields.iter().map(|field| &field.ty).collect())
            }
            _ => (None, vec![]),
        };
        let extent = match name.and_then(|name| known.get(name)) {
            Some(None) => return Err("contains itself, which bounds no depth".to_owned()),
            Some(Some(extent)) => *extent,
            None => {
                let mut extent = Extent { types: 1, height: 1 };
                known.extend(name.map(|name| (name, None)));
                // Not deeper than may be: this walk's own depth is bounded likewise.
                for inner in inner.into_iter().take_while(|_| depth <= MOST_DEPTH) {
                    let inner = self.extent(inner, depth + 1, known)?;
                    extent.types = extent.types.saturating_add(inner.types);
                    extent.height = extent.height.max(inner.height + 1);
                }
                known.extend(name.map(|name| (name, Some(extent))));
                extent
            }
        };
        match depth + extent.height {
            ..=MOST_DEPTH => Ok(extent),
            _ => Err(format!("nests types more than {MOST_DEPTH} deep")),
        }
    }
}

/// How many types a schema may describe where each named one is written out; ours have some dozens.
const MOST_TYPES: usize = 10_000;
/// How deeply they may nest.
const MOST_DEPTH: usize = 64;

/// What a type comes to where it is written out.
#[derive(Clone, Copy)]
struct Extent {
    types: usize,
    height: usize,
}

impl Record {
    /// The name without its namespace.
    pub fn short_name(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(_, short)| short)
    }

    /// The namespace, or empty.
    pub fn namespace(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(namespace, _)| namespace)
    }
}

impl Type {
    /// The type within `["null", T]`.
    pub fn nullable(&self) -> Option<&Type> {
        match self {
            Self::Union(variants) => match variants.as_slice() {
                [Self::Null, inner] | [inner, Self::Null] => Some(inner),
                _ => None,
            },
            _ => None,
        }
    }

    /// The type as people write it, e.g. `decimal(12,2)` or `array of quadrille.order.OrderLine`.
    pub fn text(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Boolean => "boolean".into(),
            Self::Int => "int".into(),
            Self::Long => "long".into(),
            Self::Float => "float".into(),
            Self::Double => "double".into(),
            Self::Bytes => "bytes".into(),
            Self::String => "string".into(),
            Self::Uuid => "uuid".into(),
            Self::Time => "timestamp-micros".into(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::Logical { name, base } => format!("{name} on {}", base.text()),
            Self::Array(items) => format!("array of {}", items.text()),
            Self::Map(values) => format!("map of {}", values.text()),
            Self::Union(variants) => match self.nullable() {
                Some(inner) => format!("nullable {}", inner.text()),
                None => format!("union of {}", variants.iter().map(Self::text).collect::<Vec<_>>().join(", ")),
            },
            Self::Named(name) => name.clone(),
        }
    }
}

fn parse_type(json: &Value, namespace: &str, named: &mut BTreeMap<String, NamedType>) -> Result<Type, String> {
    match json {
        Value::String(name) => named_or_primitive(name, namespace, named),
        Value::Array(variants) => {
            let variants = variants.iter().map(|variant| parse_type(variant, namespace, named));
            Ok(Type::Union(variants.collect::<Result<_, _>>()?))
        }
        Value::Object(object) => parse_object(object, namespace, named),
        other => Err(format!("`{other}` is no type")),
    }
}

fn parse_object(
    object: &Map<String, Value>,
    namespace: &str,
    named: &mut BTreeMap<String, NamedType>,
) -> Result<Type, String> {
    let kind = object.get("type").ok_or("a type has no `type`")?;
    let base = match kind.as_str() {
        Some("array") => {
            let items = object.get("items").ok_or("an array has no `items`")?;
            Type::Array(Box::new(parse_type(items, namespace, named)?))
        }
        Some("map") => {
            let values = object.get("values").ok_or("a map has no `values`")?;
            Type::Map(Box::new(parse_type(values, namespace, named)?))
        }
        Some("record" | "error") => parse_record(object, namespace, named)?,
        Some("enum") => {
            let symbols = object.get("symbols").and_then(Value::as_array).ok_or("an enum has no `symbols`")?;
            let symbols = symbols.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            declare(object, namespace, named, NamedType::Enum { symbols, default: text(object, "default") })?
        }
        Some("fixed") => {
            let size = object.get("size").and_then(Value::as_u64).ok_or("a fixed type has no `size`")?;
            declare(object, namespace, named, NamedType::Fixed { size })?
        }
        _ => parse_type(kind, namespace, named)?,
    };
    Ok(match text(object, "logicalType") {
        None => base,
        Some(name) => logical(&name, base, object),
    })
}

fn logical(name: &str, base: Type, object: &Map<String, Value>) -> Type {
    let number = |key| object.get(key).and_then(Value::as_u64);
    match (name, &base) {
        ("uuid", Type::String) => Type::Uuid,
        ("timestamp-micros", Type::Long) => Type::Time,
        ("decimal", Type::Bytes) => {
            Type::Decimal { precision: number("precision").unwrap_or(0), scale: number("scale").unwrap_or(0) }
        }
        ("decimal", _) => {
            let name = format!("decimal({},{})", number("precision").unwrap_or(0), number("scale").unwrap_or(0));
            Type::Logical { name, base: Box::new(base) }
        }
        _ => Type::Logical { name: name.to_owned(), base: Box::new(base) },
    }
}

fn parse_record(
    object: &Map<String, Value>,
    namespace: &str,
    named: &mut BTreeMap<String, NamedType>,
) -> Result<Type, String> {
    let name = full_name(object, namespace)?;
    let placeholder = Record { name: name.clone(), doc: String::new(), key: None, fields: Vec::new() };
    let root = declare(object, namespace, named, NamedType::Record(placeholder))?;
    let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
    let mut fields = Vec::new();
    for field in object.get("fields").and_then(Value::as_array).ok_or(format!("{name} has no `fields`"))? {
        let field = field.as_object().ok_or(format!("a field of {name} is no object"))?;
        let field_name = text(field, "name").ok_or(format!("a field of {name} has no `name`"))?;
        let ty = field.get("type").ok_or(format!("field `{field_name}` of {name} has no `type`"))?;
        let ty = parse_type(ty, inner, named).map_err(|cause| format!("field `{field_name}` of {name}: {cause}"))?;
        let flag = |key| field.get(key) == Some(&Value::Bool(true));
        fields.push(Field {
            name: field_name,
            doc: text(field, "doc").unwrap_or_default(),
            ty,
            default: field.get("default").cloned(),
            secret: flag("quadrille.secret"),
            id: flag("quadrille.id"),
            example: field.get("quadrille.example").cloned(),
            aliased: field.contains_key("aliases"),
        });
    }
    let doc = text(object, "doc").unwrap_or_default();
    let record = Record { name: name.clone(), doc, key: text(object, "quadrille.key"), fields };
    named.insert(name, NamedType::Record(record));
    Ok(root)
}

fn declare(
    object: &Map<String, Value>,
    namespace: &str,
    named: &mut BTreeMap<String, NamedType>,
    definition: NamedType,
) -> Result<Type, String> {
    let name = full_name(object, namespace)?;
    match named.insert(name.clone(), definition) {
        None => Ok(Type::Named(name)),
        Some(_) => Err(format!("{name} is defined twice")),
    }
}

fn full_name(object: &Map<String, Value>, enclosing: &str) -> Result<String, String> {
    let name = text(object, "name").ok_or("a named type has no `name`")?;
    let namespace = text(object, "namespace").unwrap_or_else(|| enclosing.to_owned());
    Ok(qualified(&name, &namespace))
}

fn qualified(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn named_or_primitive(name: &str, namespace: &str, named: &BTreeMap<String, NamedType>) -> Result<Type, String> {
    Ok(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        other => {
            let full = qualified(other, namespace);
            match (named.contains_key(&full), named.contains_key(other)) {
                (true, _) => Type::Named(full),
                (false, true) => Type::Named(other.to_owned()),
                (false, false) => return Err(format!("`{other}` is no type: neither Avro's own nor one from common/")),
            }
        }
    })
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record that holds a chain of `length` records, each with the one before it `times`.
    fn chain(length: usize, times: usize) -> Schema {
        let mut fields =
            vec![r#"{ "name": "c0", "type": { "type": "record", "name": "a.C0", "fields": [] } }"#.to_owned()];
        for n in 1..length {
            let held = (0..times).map(|i| format!(r#"{{ "name": "f{i}", "type": "a.C{}" }}"#, n - 1));
            let held = held.collect::<Vec<_>>().join(", ");
            fields.push(format!(
                r#"{{ "name": "c{n}", "type": {{ "type": "record", "name": "a.C{n}", "fields": [{held}] }} }}"#
            ));
        }
        let text = format!(r#"{{ "type": "record", "name": "a.R", "fields": [{}] }}"#, fields.join(", "));
        Schema::parse(&text).expect("a sound schema")
    }

    #[test]
    fn a_schema_is_bounded_as_it_is_written_out() {
        assert_eq!(chain(12, 2).bounded(), Ok(()));
        assert_eq!(chain(60, 1).bounded(), Ok(()));
        let large = "describes more than 10000 values where every type is written out";
        assert_eq!(chain(14, 2).bounded(), Err(large.to_owned()));
        assert_eq!(chain(60, 1_000).bounded(), Err(large.to_owned()));
        let deep = "nests types more than 64 deep";
        assert_eq!(chain(65, 1).bounded(), Err(deep.to_owned()));
        assert_eq!(chain(20_000, 1).bounded(), Err(deep.to_owned()));
    }
}
