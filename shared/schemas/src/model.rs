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
    pub named: BTreeMap<String, Named>,
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
pub enum Named {
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
            Some(Named::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Whether a type contains itself, which bounds no datum's depth.
    pub fn is_recursive(&self) -> bool {
        fn visit<'s>(schema: &'s Schema, ty: &'s Type, open: &mut Vec<&'s str>) -> bool {
            match ty {
                Type::Array(inner) | Type::Map(inner) => visit(schema, inner, open),
                Type::Union(variants) => variants.iter().any(|variant| visit(schema, variant, open)),
                Type::Named(name) if open.contains(&name.as_str()) => true,
                Type::Named(name) => {
                    open.push(name);
                    let fields = schema.record_named(name).map_or(&[][..], |record| &record.fields);
                    let found = fields.iter().any(|field| visit(schema, &field.ty, open));
                    open.pop();
                    found
                }
                _ => false,
            }
        }
        visit(self, &self.root, &mut Vec::new())
    }
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

fn parse_type(json: &Value, namespace: &str, named: &mut BTreeMap<String, Named>) -> Result<Type, String> {
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
    named: &mut BTreeMap<String, Named>,
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
            declare(object, namespace, named, Named::Enum { symbols, default: text(object, "default") })?
        }
        Some("fixed") => {
            let size = object.get("size").and_then(Value::as_u64).ok_or("a fixed type has no `size`")?;
            declare(object, namespace, named, Named::Fixed { size })?
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
    named: &mut BTreeMap<String, Named>,
) -> Result<Type, String> {
    let name = full_name(object, namespace)?;
    let placeholder = Record { name: name.clone(), doc: String::new(), key: None, fields: Vec::new() };
    let root = declare(object, namespace, named, Named::Record(placeholder))?;
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
    named.insert(name, Named::Record(record));
    Ok(root)
}

fn declare(
    object: &Map<String, Value>,
    namespace: &str,
    named: &mut BTreeMap<String, Named>,
    definition: Named,
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

fn named_or_primitive(name: &str, namespace: &str, named: &BTreeMap<String, Named>) -> Result<Type, String> {
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
