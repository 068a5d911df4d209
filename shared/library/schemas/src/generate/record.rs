//! One record as a Rust struct.

use super::{
    Struct,
    registry::screaming,
    rust::{WIRE, default, field_type, ident, is_plain, serde_with},
};
use quadrille_topics::KeyKind;

use crate::{Field, Folder, Record, RecordFile, Schema, Type};

pub(super) fn code(folder: &Folder, item: &Struct<'_>) -> String {
    let name = item.record.short_name();
    let mut code = docs(&item.record.doc, "    ");
    code += &format!(
        "    #[derive(Clone, Debug, PartialEq, Eq, Hash, {WIRE}::serde::Serialize, {WIRE}::serde::Deserialize)]\n    \
         #[serde(crate = \"{WIRE}::serde\")]\n    pub struct {name} {{\n"
    );
    for field in &item.record.fields {
        code += &docs(&field.doc, "        ");
        code += &serde_attribute(item.schema, item.record, field);
        code += &format!("        pub {}: {},\n", ident(&field.name), field_type(field));
    }
    code += "    }\n\n";
    code += &constructor(item.schema, item.record);
    code += &defaults(item.schema, item.record);
    if let Some(file) = item.file {
        code += &record_impl(folder, file);
    }
    if item.content {
        code += &content_impl(item.schema, item.record);
    }
    code
}

/// A schema's doc as doc attributes: plain text, so that rustdoc takes nothing but `code` for markup.
pub(super) fn docs(text: &str, indent: &str) -> String {
    let mut code = false;
    let plain: String = text
        .chars()
        .flat_map(|letter| {
            code ^= letter == '`';
            let escape = !code && matches!(letter, '[' | ']' | '<' | '>' | '*' | '_');
            escape.then_some('\\').into_iter().chain([letter])
        })
        .collect();
    plain.lines().map(|line| format!("{indent}#[doc = {:?}]\n", format!(" {line}"))).collect()
}

fn serde_attribute(schema: &Schema, record: &Record, field: &Field) -> String {
    let with = serde_with(&field.ty);
    let default = field.default.as_ref().map(|value| {
        if is_plain(schema, &field.ty, value) {
            "default".to_owned()
        } else {
            format!("default = \"{}::default_{}\"", record.short_name(), field.name)
        }
    });
    let parts: Vec<String> = with.into_iter().chain(default).collect();
    if parts.is_empty() { String::new() } else { format!("        #[serde({})]\n", parts.join(", ")) }
}

/// `Default` where every field has one; `new(..)` with the fields that have none otherwise.
fn constructor(schema: &Schema, record: &Record) -> String {
    let name = record.short_name();
    let values = |field: &Field| match &field.default {
        Some(value) => format!("{}: {}", ident(&field.name), default(schema, field, value)),
        None => ident(&field.name),
    };
    let values: Vec<String> = record.fields.iter().map(values).collect();
    let required: Vec<&Field> = record.fields.iter().filter(|field| field.default.is_none()).collect();
    if required.is_empty() {
        return format!(
            "    #[allow(clippy::derivable_impls)]\n    impl Default for {name} {{\n        fn default() -> Self {{\n            \
             Self {{ {} }}\n        }}\n    }}\n\n",
            values.join(", ")
        );
    }
    let parameters: Vec<String> =
        required.iter().map(|field| format!("{}: {}", ident(&field.name), field_type(field))).collect();
    let rest = if required.len() == record.fields.len() { "" } else { ", everything else at its default" };
    format!(
        "    #[allow(clippy::too_many_arguments)]\n    impl {name} {{\n        \
         /// A record with what has no default{rest}.\n        pub fn new({}) -> Self {{\n            Self {{ {} }}\n        }}\n    }}\n\n",
        parameters.join(", "),
        values.join(", ")
    )
}

/// Functions for serde's defaults that are not Rust's own.
fn defaults(schema: &Schema, record: &Record) -> String {
    let functions: String = record
        .fields
        .iter()
        .filter_map(|field| {
            let value = field.default.as_ref().filter(|value| !is_plain(schema, &field.ty, value))?;
            let (ty, value) = (field_type(field), default(schema, field, value));
            Some(format!("        fn default_{}() -> {ty} {{ {value} }}\n", field.name))
        })
        .collect();
    if functions.is_empty() { functions } else { format!("    impl {} {{\n{functions}    }}\n\n", record.short_name()) }
}

fn record_impl(folder: &Folder, file: &RecordFile) -> String {
    let record = file.record();
    let kind = folder.topic_of(file).map_or(&KeyKind::Text, |topic| &topic.key);
    let field = ident(record.key.as_deref().unwrap_or_default());
    let key = match kind {
        KeyKind::Uuid => format!("self.{field}.to_string()"),
        KeyKind::Text => format!("self.{field}.clone()"),
        KeyKind::Pattern(pattern) => format!(
            "super::keys::{}.normal_form(&self.{field}).unwrap_or_else(|| self.{field}.clone())",
            screaming(&pattern.name)
        ),
    };
    format!(
        r####"    impl ::quadrille_core::Record for {name} {{
        const TYPE: ::quadrille_core::RecordType = ::quadrille_core::RecordType {{
            topic: &super::topics::{topic},
            name: {full:?},
            schema: r###"{schema}"###,
        }};

        fn key(&self) -> String {{
            {key}
        }}

        fn encode(&self, datum: &mut Vec<u8>) {{
            Self::codec().encode(self, datum);
        }}

        fn decode(datum: &[u8]) -> Result<Self, ::quadrille_core::DecodeError> {{
            Self::codec().decode(datum)
        }}
    }}

    impl {name} {{
        fn codec() -> &'static {WIRE}::Codec {{
            static CODEC: ::std::sync::LazyLock<{WIRE}::Codec> =
                ::std::sync::LazyLock::new(|| {WIRE}::Codec::of(&<{name} as ::quadrille_core::Record>::TYPE));
            &CODEC
        }}
    }}

"####,
        name = record.short_name(),
        topic = screaming(&file.folder),
        full = record.name,
        schema = file.text,
    )
}

/// What of the record counts as its content: all fields that are not at their default, by name.
fn content_impl(schema: &Schema, record: &Record) -> String {
    let mut fields: Vec<&Field> = record.fields.iter().collect();
    fields.sort_by_key(|field| &field.name);
    let mut body = String::new();
    for field in fields {
        let name = ident(&field.name);
        let write = format!("object.field({:?}, &self.{name});", field.name);
        body += &match &field.default {
            None => format!("            {write}\n"),
            Some(value) => {
                let differs = match &field.ty {
                    Type::Array(_) => format!("!self.{name}.is_empty()"),
                    Type::Boolean => format!("{}self.{name}", if value.as_bool() == Some(true) { "!" } else { "" }),
                    ty if ty.nullable().is_some() => format!("self.{name}.is_some()"),
                    Type::String if value == "" => format!("!self.{name}.is_empty()"),
                    Type::String if !field.secret => format!("self.{name} != {value}"),
                    _ => format!("self.{name} != {}", typed_default(schema, field, value)),
                };
                format!("            if {differs} {{\n                {write}\n            }}\n")
            }
        };
    }
    format!(
        "    impl {WIRE}::Content for {} {{\n        fn write(&self, json: &mut Vec<u8>) {{\n            \
         let mut object = {WIRE}::content::Object::begin(json);\n{body}            object.end();\n        }}\n    }}\n\n",
        record.short_name()
    )
}

/// The default as an expression whose type is plain to see.
fn typed_default(schema: &Schema, field: &Field, value: &serde_json::Value) -> String {
    match default(schema, field, value) {
        expression if expression == "Default::default()" => format!("<{}>::default()", field_type(field)),
        expression => expression,
    }
}
