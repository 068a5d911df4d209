//! What spans all records: an enum per topic, the topics, the table of record types.

use super::rust::{WIRE, module};
use crate::{Cleanup, Folder, RecordFile, Topic, Writer, example};

pub(super) fn code(folder: &Folder) -> String {
    let mut code =
        String::from("\n/// The records of each topic as a closed set.\npub mod topics {\n    use super::*;\n");
    let mut seen = Vec::new();
    for topic in &folder.topics {
        if seen.contains(&&topic.records) {
            continue;
        }
        seen.push(&topic.records);
        let records = folder.records.iter().filter(|file| file.folder == topic.records);
        let names: Vec<&str> = records.map(|file| file.record().short_name()).collect();
        code += &format!(
            "\n    ::quadrille_core::records! {{\n        /// The records of `{}`.\n        pub enum {} {{ {} }}\n    }}\n",
            topic.records,
            pascal(&topic.records),
            names.join(", ")
        );
    }
    code +=
        "}\n\n/// Every topic, as declared in `topics.toml`.\npub const TOPICS: &[::quadrille_schemas::Topic] = &[\n";
    for topic in &folder.topics {
        code += &topic_code(topic);
    }
    code += &format!(
        "];\n\n/// Every record type of every topic, with its docs, an example, and its coding from and to JSON.\n\
         pub static REGISTRY: &[{WIRE}::RecordInfo] = &[\n"
    );
    for topic in &folder.topics {
        for file in folder.records.iter().filter(|file| file.folder == topic.records) {
            code += &record_code(topic, file);
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

fn topic_code(topic: &Topic) -> String {
    let duration = |time: std::time::Duration| format!("::std::time::Duration::from_secs({})", time.as_secs());
    let borrowed = |text: &str| format!("::std::borrow::Cow::Borrowed({text:?})");
    let writer = match &topic.writer {
        Writer::Clients => "Clients".to_owned(),
        Writer::All => "All".to_owned(),
        Writer::Service(service) => format!("Service({})", borrowed(service)),
    };
    let cleanup = match topic.cleanup {
        Cleanup::Delete => "Delete".to_owned(),
        Cleanup::Compact { within } => format!("Compact {{ within: {} }}", duration(within)),
    };
    format!(
        "    ::quadrille_schemas::Topic {{\n        name: {},\n        records: {},\n        partitions: {},\n        \
         writer: ::quadrille_schemas::Writer::{writer},\n        key: ::quadrille_schemas::Key::{:?},\n        \
         cleanup: ::quadrille_schemas::Cleanup::{cleanup},\n        retention: {},\n        why: {},\n    }},\n",
        borrowed(&topic.name),
        borrowed(&topic.records),
        topic.partitions,
        topic.key,
        topic.retention.map_or("None".to_owned(), |time| format!("Some({})", duration(time))),
        borrowed(&topic.why),
    )
}

fn record_code(topic: &Topic, file: &RecordFile) -> String {
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
        "    {WIRE}::RecordInfo::of::<{}::{}>(\n        {:?},\n        {:?},\n        &[\n{fields}        ],\n        {:?},\n    ),\n",
        module(&record.name),
        record.short_name(),
        topic.name,
        record.doc,
        example(&file.schema)
    )
}
