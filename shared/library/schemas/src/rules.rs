//! Our own rules for schemas, beyond Avro's.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use quadrille_topics::{KeyKind, TopicType};

use crate::{Common, Field, Folder, NamedType, Problem, Record, RecordFile, Schema, Type};

/// Every breach of a rule within a record.
pub(crate) fn of_records(folder: &Folder, common: &Common, decimals: Option<&[Type]>) -> Vec<Problem> {
    let mut found = Vec::new();
    for file in &folder.records {
        let topic = folder.topic_of(file);
        let mut rules = Rules { file, topic, decimals, found: &mut found };
        rules.names();
        rules.key();
        for record in file.schema.named.values() {
            rules.named(record, common);
        }
    }
    found
}

/// Every breach of a rule that spans files.
pub(crate) fn of_folder(folder: &Folder, common: &Common) -> Vec<Problem> {
    let mut found = Vec::new();
    unique_names(folder, &mut found);
    used(folder, common, &mut found);
    found
}

struct Rules<'a> {
    file: &'a RecordFile,
    topic: Option<&'a TopicType>,
    /// The decimals that the folder allows, where it sets a rule.
    decimals: Option<&'a [Type]>,
    found: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    fn names(&mut self) {
        let record = self.file.record();
        if !self.file.file.ends_with(&format!("/{}.avsc", record.short_name())) {
            self.whole(format!("defines {}", record.name), "name file and record alike");
        }
        if self.file.text.contains("{}") {
            self.whole("contains the text {}", "write { } instead: Apicurio 3.0.9 refuses a schema with {} in it");
        }
        if record.namespace().is_empty() {
            self.whole("has no namespace", "add `\"namespace\": \"<system>.<aggregate>\"`");
        }
    }

    fn key(&mut self) {
        let record = self.file.record();
        let Some(key) = &record.key else {
            return self
                .whole("names no key", "add `\"quadrille.key\": \"<field>\"`: the field that is the record key");
        };
        let Some(field) = record.fields.iter().find(|field| field.name == *key) else {
            return self.whole(format!("names the key `{key}`, which is no field"), "name the field that is the key");
        };
        let Some(topic) = self.topic else { return };
        let wanted = if topic.key == KeyKind::Uuid { Type::Uuid } else { Type::String };
        if field.ty != wanted {
            let what = format!("is {}, but the keys of {} are {}", field.ty.text(), topic.name, topic.key.name());
            self.field(&field.name, what, format!("make it {}", wanted.text()));
        }
    }

    fn named(&mut self, named: &NamedType, common: &Common) {
        let record = match named {
            NamedType::Record(record) => record,
            NamedType::Enum { .. } | NamedType::Fixed { .. } => {
                return self.whole("defines an enum or a fixed type", "use a string whose doc lists its values");
            }
        };
        if record.name != self.file.record().name && !common.contains_key(&record.name) {
            self.whole(format!("defines {} inside another record", record.name), "give it a file in common/");
        }
        if record.doc.trim().is_empty() {
            self.whole(format!("{} has no doc", record.name), "say what it means");
        }
        for field in &record.fields {
            self.check_field(record, field);
        }
    }

    fn check_field(&mut self, record: &Record, field: &Field) {
        let name = if record.name == self.file.record().name {
            field.name.clone()
        } else {
            format!("{}.{}", record.short_name(), field.name)
        };
        if field.doc.trim().is_empty() {
            self.field(&name, "has no doc", "say what it means, its unit and bounds");
        }
        let snake = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !field.name.bytes().all(snake) || !field.name.starts_with(|first: char| first.is_ascii_lowercase()) {
            self.field(&name, "is not in snake case", "use a-z, 0-9 and _, a letter first");
        }
        if field.aliased {
            self.field(&name, "has aliases", "keep the name: a renamed field is a new field");
        }
        if let Err((what, fix)) = allowed(&field.ty, self.decimals) {
            self.field(&name, what, fix);
        }
        self.check_default(record, field, &name);
        if field.secret && !matches!(field.ty.nullable().unwrap_or(&field.ty), Type::String) {
            self.field(&name, "is secret, but no text", "mark texts only, nullable or not");
        }
        if let Some(topic) = self.topic.filter(|topic| field.secret && !topic.secrets) {
            let fix = format!("keep it off this topic, or set `secrets = true` of {} in topics.toml", topic.name);
            self.field(&name, format!("is secret, and {} may have no secrets", topic.name), fix);
        }
    }

    fn check_default(&mut self, record: &Record, field: &Field, name: &str) {
        match &field.default {
            Some(default) => {
                if let Err(what) = fits(&self.file.schema, &field.ty, default) {
                    let fix = "give it one of its type; a nullable field's is null, a bytes field's is ASCII";
                    self.field(name, format!("has the default {default}, {what}"), fix);
                }
            }
            None if record.key.as_ref() == Some(&field.name) || field.id || may_lack_default(&field.ty) => {}
            None => self.field(
                name,
                "has no default",
                "give it one (only ids, numbers and records do without): older and newer builds read each other's records by it",
            ),
        }
    }

    fn whole(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.found.push(Problem::of_file(&self.file.file, what, fix));
    }

    fn field(&mut self, field: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.found.push(Problem::of_field(&self.file.file, field, what, fix));
    }
}

/// How many digits a decimal may have: what is held is a 64-bit number.
const MOST_DIGITS: u64 = 18;

/// The types that our records are made of; anything else is refused with a fix.
fn allowed(ty: &Type, decimals: Option<&[Type]>) -> Result<(), (String, Cow<'static, str>)> {
    match ty {
        Type::Boolean | Type::Int | Type::Long | Type::Bytes | Type::String | Type::Uuid | Type::Time => Ok(()),
        Type::Named(_) => Ok(()),
        Type::Decimal { precision, scale } => match decimals {
            Some(rule) if !rule.contains(ty) => {
                let allowed: Vec<String> = rule.iter().map(Type::text).collect();
                let what = format!("is {}, which [rules] of topics.toml does not allow", ty.text());
                Err((what, format!("use {}", allowed.join(" or ")).into()))
            }
            _ if (1..=MOST_DIGITS).contains(precision) && scale <= precision => Ok(()),
            _ => {
                let fix = format!("use 1 to {MOST_DIGITS} digits, no more of them behind the point than there are");
                Err((format!("is {}", ty.text()), fix.into()))
            }
        },
        Type::Float | Type::Double => {
            Err(("is a floating point number".into(), "use a decimal, an int or a long".into()))
        }
        Type::Array(items) => match &**items {
            Type::Named(_) | Type::String | Type::Int | Type::Long => Ok(()),
            other => {
                Err((format!("is an array of {}", other.text()), "use an array of records, texts or numbers".into()))
            }
        },
        Type::Union(_) => match ty.nullable() {
            Some(Type::Array(_)) => Err(("is a nullable array".into(), "an array's default is []".into())),
            Some(inner) if matches!(ty, Type::Union(variants) if variants[0] == Type::Null) => allowed(inner, decimals),
            Some(_) => {
                let fix = "put \"null\" first, so that the default can be null";
                Err(("is nullable with null last".into(), fix.into()))
            }
            None => Err((format!("is a {}", ty.text()), "use a nullable type, or several fields".into())),
        },
        Type::Null | Type::Map(_) | Type::Logical { .. } => Err((
            format!("is of the type {}", ty.text()),
            "use boolean, int, long, string, bytes, uuid, a decimal, timestamp-micros, an array or a record of common/"
                .into(),
        )),
    }
}

/// Ids, amounts, and records made of them.
fn may_lack_default(ty: &Type) -> bool {
    matches!(ty, Type::Uuid | Type::Decimal { .. } | Type::Int | Type::Long | Type::Named(_))
}

/// Whether a default is of its field's type.
fn fits(schema: &Schema, ty: &Type, default: &Value) -> Result<(), String> {
    let sound = match (ty, default) {
        (Type::Boolean, Value::Bool(_)) | (Type::String, Value::String(_)) => true,
        (Type::Int, Value::Number(number)) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        (Type::Long | Type::Time, Value::Number(number)) => number.is_i64(),
        (Type::Bytes, Value::String(text)) => text.is_ascii(),
        (Type::Decimal { .. }, Value::String(text)) => text.is_ascii() && !text.is_empty(),
        (Type::Array(_), Value::Array(items)) => items.is_empty(),
        (Type::Union(_), Value::Null) => true,
        (Type::Named(name), Value::Object(object)) => {
            let record = schema.record_named(name).ok_or("which is of no record")?;
            if let Some(unknown) = object.keys().find(|key| !record.fields.iter().any(|field| field.name == **key)) {
                return Err(format!("in which `{unknown}` is no field of {name}"));
            }
            for field in &record.fields {
                let value = object.get(&field.name).ok_or(format!("in which `{}` is missing", field.name))?;
                fits(schema, &field.ty, value)?;
            }
            true
        }
        _ => false,
    };
    if sound { Ok(()) } else { Err(format!("which is no {}", ty.text())) }
}

/// Records are known by their short names too (flat re-exports, `quadrille example OrderRequested`).
fn unique_names(folder: &Folder, found: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    let records = folder.records.iter().flat_map(|file| {
        let named = file.schema.named.values();
        named.filter_map(move |named| match named {
            NamedType::Record(record) => Some((file, record)),
            _ => None,
        })
    });
    for (file, record) in records {
        let known = seen.insert(record.short_name(), &record.name);
        if known.is_some_and(|known| known != record.name) {
            let what = format!("{} has the short name of {}", record.name, known.unwrap_or_default());
            found.push(Problem::of_file(&file.file, what, "rename one of the two"));
        }
    }
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for file in &folder.records {
        if let Some(other) = files.insert(&file.record().name, &file.file) {
            let what = format!("defines {}, as {other} does", file.record().name);
            found.push(Problem::of_file(&file.file, what, "define each record once"));
        }
    }
}

/// Every topic has records, and every shared type is used.
fn used(folder: &Folder, common: &Common, found: &mut Vec<Problem>) {
    for topic in &folder.topics {
        if !folder.records.iter().any(|file| topic.name == file.folder) {
            let what = format!("{} has no records", topic.name);
            found.push(Problem::of_file("topics.toml", what, format!("add {}/<Record>.avsc", topic.name)));
        }
    }
    let names: BTreeSet<&String> = folder.records.iter().flat_map(|file| file.schema.named.keys()).collect();
    for name in common.keys().filter(|name| !names.contains(name)) {
        found.push(Problem::of_file("common", format!("{name} is used by no record"), "use it or remove it"));
    }
}
