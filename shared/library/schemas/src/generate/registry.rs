//! What spans all records: an enum per topic, the topics, the table of record types.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use quadrille_topics::{KeyKind, KeyPattern, TopicType, TopicWriter};

use super::rust::{WIRE, module};
use crate::{Folder, RecordFile, example};

pub(super) fn code(folder: &Folder) -> String {
    let mut code = keys_code(folder);
    code += "\n/// The topics, and the records of each as a closed set.\npub mod topics {\n    use super::*;\n";
    for topic in &folder.topics {
        code += &topic_code(topic);
        let records = folder.records.iter().filter(|file| topic.name == file.folder);
        let names: Vec<&str> = records.map(|file| file.record().short_name()).collect();
        code += &format!(
            "\n    ::quadrille_core::records! {{\n        /// The records of `{}`.\n        pub enum {} {{ {} }}\n    }}\n",
            topic.name,
            pascal(&topic.name),
            names.join(", ")
        );
    }
    code += "}\n\n/// Every topic, as declared in `topics.toml`.\npub static TOPICS: &[&::quadrille_core::TopicType] = &[\n";
    for topic in &folder.topics {
        code += &format!("    &topics::{},\n", screaming(&topic.name));
    }
    code += &format!(
        "];\n\n/// Every record type of every topic, with its docs, an example, and its coding from and to JSON.\n\
         pub static RECORD_TYPES: &[{WIRE}::RecordInfo] = &[\n"
    );
    for topic in &folder.topics {
        for file in folder.records.iter().filter(|file| topic.name == file.folder) {
            code += &record_code(file);
        }
    }
    code += "];\n";
    code
}

/// `order.events` as `OrderEvents`.
pub(super) fn pascal(topic: &str) -> String {
    topic
        .split(|separator: char| !separator.is_ascii_alphanumeric())
        .map(|word| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default())
        .collect()
}

/// `order.events` as `ORDER_EVENTS`.
pub(super) fn screaming(topic: &str) -> String {
    topic.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }).collect()
}

/// The forms of keys that the topics have.
fn keys_code(folder: &Folder) -> String {
    let patterns: BTreeMap<&str, &KeyPattern> = folder
        .topics
        .iter()
        .filter_map(|topic| match &topic.key {
            KeyKind::Pattern(pattern) => Some((&*pattern.name, pattern)),
            KeyKind::Uuid | KeyKind::Text => None,
        })
        .collect();
    if patterns.is_empty() {
        return String::new();
    }
    let mut code = String::from("\n/// The forms of record keys that `topics.toml` declares.\npub mod keys {\n");
    for (name, pattern) in patterns {
        code += &format!(
            "    /// `{pattern}`.
    pub const {constant}: ::quadrille_core::KeyPattern = ::quadrille_core::KeyPattern {{
        name: {name},
        first: {first},
        rest: {rest},
        longest: {longest},
        case: ::quadrille_core::KeyCase::{case:?},
    }};
",
            constant = screaming(name),
            name = borrowed(name),
            first = borrowed(&pattern.first),
            rest = borrowed(&pattern.rest),
            longest = pattern.longest,
            case = pattern.case,
        );
    }
    code + "}\n"
}

fn borrowed(text: &str) -> String {
    format!("::std::borrow::Cow::Borrowed({text:?})")
}

fn topic_code(topic: &TopicType) -> String {
    let duration = |time: Option<Duration>| match time {
        Some(time) => format!("Some(::std::time::Duration::from_secs({}))", time.as_secs()),
        None => "None".to_owned(),
    };
    let writer = match &topic.writer {
        TopicWriter::Service(service) => format!("Service({})", borrowed(service)),
        other => format!("{other:?}"),
    };
    let key = match &topic.key {
        KeyKind::Pattern(pattern) => format!("Pattern(keys::{})", screaming(&pattern.name)),
        other => format!("{other:?}"),
    };
    let records: Vec<String> = topic.records.iter().map(Cow::as_ref).map(borrowed).collect();
    format!(
        "
    /// The topic `{name}`: {why}.
    pub static {constant}: ::quadrille_core::TopicType = ::quadrille_core::TopicType {{
        name: {borrowed_name},
        kind: ::quadrille_core::TopicKind::{kind:?},
        writer: ::quadrille_core::TopicWriter::{writer},
        key: ::quadrille_core::KeyKind::{key},
        partitions: {partitions},
        replication: {replication:?},
        min_insync_replicas: {min_insync_replicas:?},
        retention: {retention},
        compact_within: {compact_within},
        secrets: {secrets},
        records: ::std::borrow::Cow::Borrowed(&[{records}]),
        why: {borrowed_why},
    }};
",
        name = topic.name,
        why = topic.why,
        constant = screaming(&topic.name),
        borrowed_name = borrowed(&topic.name),
        kind = topic.kind,
        partitions = topic.partitions,
        replication = topic.replication,
        min_insync_replicas = topic.min_insync_replicas,
        retention = duration(topic.retention),
        compact_within = duration(topic.compact_within),
        secrets = topic.secrets,
        records = records.join(", "),
        borrowed_why = borrowed(&topic.why),
    )
}

fn record_code(file: &RecordFile) -> String {
    let record = file.record();
    let fields: String = record
        .fields
        .iter()
        .map(|field| {
            format!(
                "            {WIRE}::FieldInfo {{ name: {:?}, ty: {:?}, default: {:?}, doc: {:?}, secret: {} }},\n",
                field.name,
                field.ty.text(),
                field.default.as_ref().map(ToString::to_string),
                field.doc,
                field.secret
            )
        })
        .collect();
    format!(
        "    {WIRE}::RecordInfo::of::<{}::{}>(\n        {:?},\n        &[\n{fields}        ],\n        {:?},\n        {},\n    ),\n",
        module(&record.name),
        record.short_name(),
        record.doc,
        example(&file.schema),
        file.versions.last().map_or(0, |version| version.number)
    )
}
