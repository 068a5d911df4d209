//! The choreography as an AsyncAPI 3 document: topics are channels, what services state and hear are operations.
//!
//! Payloads point to the newest frozen version of each schema, so that the document stays short and says nothing twice.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Choreography, Record, Service, Topic};

/// The document as YAML.
pub(crate) fn yaml(choreography: &Choreography) -> String {
    let channels = choreography.topics.iter().map(|topic| (topic.name.clone(), channel(choreography, topic)));
    let operations = choreography.services.iter().flat_map(|service| operations(choreography, service));
    let messages = choreography.records.iter().map(|record| (record.name.clone(), message(choreography, record)));
    let document = Document {
        asyncapi: "3.0.0",
        info: Info {
            title: "The choreography",
            version: env!("CARGO_PKG_VERSION"),
            description: "What each service hears and states, and what clients may send. Generated: `quadrille check --write`.",
        },
        default_content_type: CONTENT_TYPE,
        channels: channels.collect(),
        operations: operations.collect(),
        components: Components { messages: messages.collect(), schemas: BTreeMap::from([("Headers", headers())]) },
    };
    serde_saphyr::to_string(&document).expect("names, texts and lists have a YAML form")
}

const CONTENT_TYPE: &str = "application/avro";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    asyncapi: &'static str,
    info: Info,
    default_content_type: &'static str,
    channels: BTreeMap<String, Channel>,
    operations: BTreeMap<String, Operation>,
    components: Components,
}

#[derive(Serialize)]
struct Info {
    title: &'static str,
    version: &'static str,
    description: &'static str,
}

#[derive(Serialize)]
struct Components {
    messages: BTreeMap<String, Message>,
    schemas: BTreeMap<&'static str, Headers>,
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "$ref")]
    to: String,
}

fn to(path: String) -> Reference {
    Reference { to: path }
}

#[derive(Serialize)]
struct Channel {
    address: String,
    description: String,
    messages: BTreeMap<String, Reference>,
    bindings: Bindings<ChannelBinding>,
}

/// What is particular to Kafka.
#[derive(Serialize)]
struct Bindings<T> {
    kafka: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelBinding {
    topic: String,
    partitions: u32,
    topic_configuration: TopicConfiguration,
    binding_version: &'static str,
}

#[derive(Serialize)]
struct TopicConfiguration {
    #[serde(rename = "cleanup.policy")]
    cleanup: [String; 1],
}

fn channel(choreography: &Choreography, topic: &Topic) -> Channel {
    let name = |record: &Record| (record.name.clone(), to(format!("#/components/messages/{}", record.name)));
    Channel {
        address: topic.name.clone(),
        description: format!(
            "{}: written by {}, keyed by {}, kept {}.",
            kinds(topic),
            topic.writer,
            topic.key,
            kept(topic)
        ),
        messages: choreography.records_of(&topic.name).map(name).collect(),
        bindings: Bindings {
            kafka: ChannelBinding {
                topic: topic.name.clone(),
                partitions: topic.partitions,
                topic_configuration: TopicConfiguration { cleanup: [topic.cleanup.clone()] },
                binding_version: "0.5.0",
            },
        },
    }
}

/// What a topic holds, to begin a sentence with.
fn kinds(topic: &Topic) -> &'static str {
    match topic.kind.as_str() {
        "requests" => "Requests",
        "state" => "State",
        "dead-letters" => "Dead letters",
        _ => "Events",
    }
}

/// How long a topic keeps its records, for people.
pub(crate) fn kept(topic: &Topic) -> String {
    match topic.cleanup.as_str() {
        "compact" => "as the last of each key".into(),
        _ => topic.retention.clone(),
    }
}

#[derive(Serialize)]
struct Operation {
    action: &'static str,
    channel: Reference,
    summary: String,
    messages: Vec<Reference>,
}

/// A service's operations: one per topic and direction.
fn operations(choreography: &Choreography, service: &Service) -> Vec<(String, Operation)> {
    let directions = [
        ("send", "states", &service.states),
        ("send", "requests", &service.requests),
        ("receive", "hears", &service.hears),
    ];
    let mut found = vec![];
    for (action, verb, records) in directions {
        for topic in &choreography.topics {
            let of_topic = choreography.records_of(&topic.name).filter(|record| records.contains(&record.name));
            let messages: Vec<Reference> =
                of_topic.map(|record| to(format!("#/channels/{}/messages/{}", topic.name, record.name))).collect();
            if !messages.is_empty() {
                let summary = format!("What {} {verb} on {}.", service.name, topic.name);
                let channel = to(format!("#/channels/{}", topic.name));
                found.push((
                    format!("{}.{verb}.{}", service.name, topic.name),
                    Operation { action, channel, summary, messages },
                ));
            }
        }
    }
    found
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    name: String,
    title: String,
    summary: String,
    content_type: &'static str,
    headers: Reference,
    payload: Payload,
    bindings: Bindings<MessageBinding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    schema_format: &'static str,
    schema: Schema,
}

/// A workspace's own schemas are files beside the document. The platform's are in its crate, wherever that is: they stand here.
#[derive(Serialize)]
#[serde(untagged)]
enum Schema {
    File(Reference),
    Here(serde_json::Value),
}

fn schema(record: &Record) -> Schema {
    match quadrille_platform::RECORD_TYPES.iter().find(|info| info.record.name == record.full_name) {
        None => Schema::File(to(format!("../{}", newest(record)))),
        Some(info) => {
            Schema::Here(serde_json::from_str(info.record.schema).expect("a generated record's schema is JSON"))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageBinding {
    key: KeySchema,
    schema_id_location: &'static str,
    schema_id_payload_encoding: &'static str,
    binding_version: &'static str,
}

#[derive(Serialize)]
struct KeySchema {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    description: String,
}

fn message(choreography: &Choreography, record: &Record) -> Message {
    let uuid = choreography.topics_of(&record.name).all(|topic| topic.key == "uuid");
    Message {
        name: record.full_name.clone(),
        title: record.name.clone(),
        summary: record.doc.clone(),
        content_type: CONTENT_TYPE,
        headers: to("#/components/schemas/Headers".into()),
        payload: Payload { schema_format: "application/vnd.apache.avro;version=1.9.0", schema: schema(record) },
        bindings: Bindings {
            kafka: MessageBinding {
                key: KeySchema {
                    r#type: "string",
                    format: uuid.then_some("uuid"),
                    description: format!("The field `{}`.", record.key),
                },
                schema_id_location: "payload",
                schema_id_payload_encoding: "confluent",
                binding_version: "0.5.0",
            },
        },
    }
}

/// The newest frozen version stands on its own; the file that people edit names shared types.
fn newest(record: &Record) -> String {
    match (record.file.rsplit_once('/'), record.versions) {
        (Some((folder, _)), number @ 1..) => format!("{folder}/versions/{}.{number}.avsc", record.name),
        _ => record.file.clone(),
    }
}

#[derive(Serialize)]
struct Headers {
    r#type: &'static str,
    description: &'static str,
    properties: BTreeMap<&'static str, Header>,
}

#[derive(Serialize)]
struct Header {
    r#type: &'static str,
    description: &'static str,
}

/// The contract's headers: docs/contract.md, section 1.
fn headers() -> Headers {
    let header = |(name, description)| (name, Header { r#type: "string", description });
    let properties = [
        ("ce_specversion", "1.0"),
        ("ce_id", "the event's id"),
        ("ce_source", "/quadrille/<service>"),
        ("ce_type", "the record's full name"),
        ("ce_subject", "the aggregate's id, which is the record key"),
        ("ce_time", "when it was stated"),
        ("ce_correlationid", "the saga's id; elsewhere the aggregate's id"),
        ("ce_causationid", "the id of the record that caused it"),
        ("ce_aggregateversion", "1, 2, 3 ... per key and topic"),
        ("content-type", "application/avro"),
        ("traceparent", "W3C trace context"),
        ("tracestate", "W3C trace context"),
    ];
    Headers {
        r#type: "object",
        description: "CloudEvents 1.0, the Kafka binding in binary mode. A client's request may do without any.",
        properties: properties.map(header).into(),
    }
}
