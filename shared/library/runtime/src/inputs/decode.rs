//! From a Kafka record to an input: by the writer's schema id, with resolution to the reader's schema.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use quadrille_core::{Envelope, Input, Policy, RecordType, Records, Tombstone, TopicKind, ids, is_projection};
use quadrille_kafka::registry::{Found, Registry, Unavailable};
use quadrille_schemas::wire;
use uuid::Uuid;

use crate::{
    heard::{self, Heard},
    operators::{self, OperatorRequest},
    record::{HeaderFault, MOST_VALUE_BYTES, RawHeaders, RawRecord},
    telemetry,
    work::{Message, Rejection},
};

/// Requests may be this large at most.
pub(crate) const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// A schema id that the registry does not know is asked for again after this time at the earliest.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);

/// A registry that had all our schemas is believed to have them for so long.
const OURS_FOR: Duration = Duration::from_secs(60);
/// So many schema ids are remembered at most.
const MOST_KNOWN: usize = 10_000;

/// What is often behind a value that cannot be read.
const CUT: &str = "kcat cuts its standard input at each byte 10: was the record sent from a file, or with -D?";

/// Decodes a service's records. Knows each writer's schema once it was asked for; decoding itself asks nobody.
pub(crate) struct Decoder {
    /// What the service hears, and behind that the operators' requests.
    heard: Vec<Heard>,
    registry: Registry,
    known: RwLock<HashMap<(&'static str, u32), Arc<KnownSchema>>>,
    /// When the registry last had all our schemas.
    asked_for_ours: tokio::sync::Mutex<Option<Instant>>,
}

/// What a schema id means on one topic.
enum KnownSchema {
    /// One of the types heard: its index, and the way from the writer's schema to ours.
    Heard(usize, wire::Resolution),
    /// Another record type.
    Foreign(String),
    /// A type that is heard, written in a way that cannot be read.
    Unreadable(Rejection),
    /// The registry knew no such id then.
    Unknown(Instant),
}

/// What a record turned out to be.
pub(crate) enum Decoded<P: Policy> {
    Message(Message<P>),
    /// No message that this service can handle.
    Rejected(Rejection),
    /// An event of a type that this service does not hear.
    Skipped(String),
    /// The schema must be fetched first: [`Decoder::fetch`].
    NeedsSchema(u32),
}

/// A record's value.
enum Value<H> {
    Heard(H),
    Operator(operators::Request),
}

impl<H: Records> Value<H> {
    fn key(&self) -> String {
        match self {
            Self::Heard(record) => record.key(),
            Self::Operator(request) => request.key(),
        }
    }
}

impl Decoder {
    pub fn new<P: Policy>(registry: Registry) -> Self {
        Self { heard: heard::heard::<P>(), registry, known: RwLock::default(), asked_for_ours: Default::default() }
    }

    pub fn decode<P: Policy>(&self, raw: &RawRecord, now_ms: i64) -> Decoded<P> {
        // Whatever a stranger's bytes do to a decoder, they end as a dead letter and not as the end of the consumer.
        let decode = || self.try_decode(raw, now_ms).unwrap_or_else(Decoded::Rejected);
        catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_panic| {
            Decoded::Rejected(Rejection::new("undecodable", "value", "the decoder panicked at this value"))
        })
    }

    #[expect(clippy::result_large_err, reason = "a rejection is rare, and moved once")]
    fn try_decode<P: Policy>(&self, raw: &RawRecord, now_ms: i64) -> Result<Decoded<P>, Rejection> {
        let topic = raw.topic;
        let is_request = topic.kind == TopicKind::Requests;
        match raw.header_fault {
            None => {}
            Some(HeaderFault::NotText) => {
                let detail = "a header's name is not UTF-8, so none of the headers can be read";
                return Err(Rejection::new("unreadable_headers", "headers", detail));
            }
            Some(HeaderFault::TooLarge(name)) => {
                let most = RawHeaders::MOST_BYTES;
                return Err(Rejection::new("too_large", name, format!("the headers take more than {most} bytes")));
            }
        }
        let key = topic.key.normalize(raw.key.as_deref()).map_err(|error| Rejection::new("bad_key", "key", error))?;
        let by_position = || ids::anonymous_request(&topic.name, raw.partition, raw.offset, raw.timestamp_ms);
        let event = raw.event();
        let trace = |id| telemetry::extract(id, event.traceparent, event.tracestate);
        if raw.value.is_none() && topic.kind == TopicKind::State {
            let Some(gone) = <P::Heard as Records>::Gone::on(&topic.name) else {
                return Ok(Decoded::Skipped("a key that is gone".to_owned()));
            };
            let id = by_position();
            let input = Input::Gone(gone);
            return Ok(Decoded::Message(Message::Input(
                Envelope { id, cause: id, key, version: 0, trace: trace(id), input },
                None,
            )));
        }
        let value = raw.value.as_deref().unwrap_or_default();
        if value.is_empty() {
            return Err(Rejection::new(
                "no_value",
                "value",
                "the record has no value: produce an Avro record in the Confluent wire format",
            ));
        }
        let size = raw.cut.as_ref().map_or(value.len(), |cut| cut.size);
        let most = if is_request { MAX_REQUEST_BYTES } else { MOST_VALUE_BYTES };
        if size > most {
            let detail = format!("the record's value has {size} bytes; {most} are allowed");
            return Err(Rejection::new("too_large", "value", detail));
        }
        let (schema_id, datum) = wire::unframe(value).map_err(|error| Rejection::new("bad_frame", "value", error))?;

        let writer = self.known.read().ok().and_then(|known| known.get(&(&*topic.name, schema_id)).cloned());
        let (index, plan) = match writer.as_deref() {
            None => return Ok(Decoded::NeedsSchema(schema_id)),
            Some(KnownSchema::Unknown(since)) if since.elapsed() > UNKNOWN_FOR => {
                return Ok(Decoded::NeedsSchema(schema_id));
            }
            Some(KnownSchema::Unknown(_)) => {
                let detail = format!("the registry knows no schema {schema_id}; {CUT}");
                return Err(Rejection::new("unknown_schema", "value", detail));
            }
            Some(KnownSchema::Unreadable(rejection)) => return Err(rejection.clone()),
            Some(KnownSchema::Foreign(name)) if is_request => {
                let detail = format!("{} takes no {name}", topic.name);
                return Err(Rejection::new("unknown_type", "value", detail).of_type(name));
            }
            Some(KnownSchema::Foreign(name)) => return Ok(Decoded::Skipped(name.clone())),
            Some(KnownSchema::Heard(index, plan)) => (*index, plan),
        };

        let Heard { record_type: RecordType { name, .. }, index } = self.heard[index];
        let undecodable = |error: &dyn std::fmt::Display| Rejection::new("undecodable", "value", error).of_type(name);
        let datum = plan.apply(datum).map_err(|error| undecodable(&error))?;
        let value = match index.checked_sub(P::Heard::TYPES.len()) {
            None => P::Heard::decode(index, &datum).map(Value::Heard),
            Some(index) => operators::Request::decode(index, &datum).map(Value::Operator),
        };
        let value = value.map_err(|error| undecodable(&error))?;
        let names = value.key();
        let named = topic.key.normalize(Some(names.as_bytes()));
        if named.as_deref() != Ok(key.as_str()) {
            let detail = format!("the record's key is '{key}', its value names '{names}': they must be the same");
            return Err(Rejection::new("key_differs", "key", detail).of_type(name));
        }
        // One topic for the operators' requests to all services.
        if matches!(value, Value::Operator(_)) && key != P::SERVICE {
            return Ok(Decoded::Skipped(name.to_owned()));
        }
        // What is taken by position is taken once however old it is, and a rebuilt read model wants all that there still is. So does a new group of
        // operators' requests, each of which is known for ever once it was carried out.
        let may_be_old = is_projection::<P>() || matches!(value, Value::Operator(_));
        if !may_be_old
            && let Some(retention_ms) = topic.retention.and_then(|kept| i64::try_from(kept.as_millis()).ok())
            && raw.timestamp_ms >= 0
            && raw.timestamp_ms < now_ms - retention_ms
        {
            let detail = format!("the record is older than its topic's retention of {retention_ms} ms");
            return Err(Rejection::new("too_old", "timestamp", detail).of_type(name));
        }

        let source = event.source;
        let former = Some(event.id).filter(|ce_id| is_request && !ce_id.is_empty());
        let former = former.and_then(|ce_id| ids::former_request(&topic.name, &key, source, ce_id));
        let ce_id = match topic.kind {
            // As builds published letters that gave them no headers. Their key is their id.
            TopicKind::DeadLetters if event.id.is_empty() => &key,
            _ => event.id,
        };
        let id = match (topic.kind, ce_id) {
            (TopicKind::Requests, "") => by_position(),
            (TopicKind::Requests, ce_id) => ids::request(&topic.name, &key, name, source, ce_id),
            (TopicKind::Events | TopicKind::DeadLetters, ce_id) => Uuid::try_parse(ce_id).map_err(|_| {
                let detail = "an event needs the header ce_id, a UUID: it identifies the event wherever it is heard";
                Rejection::new("no_id", "ce_id", detail).of_type(name)
            })?,
            (TopicKind::State, ce_id) => Uuid::try_parse(ce_id).unwrap_or_else(|_| by_position()),
        };
        let message = match value {
            Value::Operator(request) => Message::Operator(OperatorRequest { id, former, request }),
            Value::Heard(record) => {
                let envelope = Envelope {
                    id,
                    cause: id,
                    key,
                    version: event.version.parse().unwrap_or_default(),
                    trace: trace(id),
                    input: Input::Record(record),
                };
                Message::Input(envelope, former)
            }
        };
        Ok(Decoded::Message(message))
    }

    /// Fetches the schema `id` for `topic`. A passing error is returned and nothing is remembered.
    pub async fn fetch(&self, topic: &'static str, id: u32) -> Result<(), Unavailable> {
        let writer = match self.registry.schema(id).await? {
            Found::Avro(text) => self.writer(topic, id, &text),
            Found::Other(kind) => {
                let detail = format!("schema {id} is of kind {kind}; records here are Avro");
                KnownSchema::Unreadable(Rejection::new("unusable_schema", "value", detail))
            }
            Found::Nothing => {
                self.has_ours().await?;
                KnownSchema::Unknown(Instant::now())
            }
        };
        if let Ok(mut known) = self.known.write() {
            if known.len() >= MOST_KNOWN {
                // Strangers' ids: whichever come again are asked for again. They may have our types' names, too.
                known.retain(|_, writer| matches!(**writer, KnownSchema::Heard(..)));
                if known.len() >= MOST_KNOWN {
                    known.clear();
                }
            }
            known.insert((topic, id), Arc::new(writer));
        }
        Ok(())
    }

    /// Makes sure that the registry has at least our own schemas: one that has lost its data knows no id at all, and an id says nothing
    /// until that is fixed. Asked once a minute at most: a stranger's garbage is no reason to ask for all of them each time.
    async fn has_ours(&self) -> Result<(), Unavailable> {
        let mut asked = self.asked_for_ours.lock().await;
        let types: Vec<RecordType> = self.heard.iter().map(|heard| heard.record_type).collect();
        if asked.is_none_or(|asked| asked.elapsed() > OURS_FOR) {
            if let Err(subject) = self.registry.ids_of(&types).await? {
                return Err(self.registry.lost(&subject));
            }
            *asked = Some(Instant::now());
        }
        Ok(())
    }

    fn writer(&self, topic: &str, id: u32, text: &str) -> KnownSchema {
        let schema = match wire::WriterSchema::new(text) {
            Ok(schema) => schema,
            Err(error) => {
                let detail = format!("schema {id} is not usable: {error}");
                return KnownSchema::Unreadable(Rejection::new("unusable_schema", "value", detail));
            }
        };
        let types = self.heard.iter().map(|heard| &heard.record_type).enumerate();
        let mut heard = types.filter(|(_, heard)| heard.topic.name == topic && heard.name == schema.name());
        match heard.next() {
            None => KnownSchema::Foreign(schema.name().to_owned()),
            Some((index, reader)) => match schema.prepare(reader) {
                Ok(plan) => KnownSchema::Heard(index, plan),
                Err(error) => {
                    let detail = format!("schema {id} cannot be read as {}: {error}", reader.name);
                    KnownSchema::Unreadable(Rejection::new("unusable_schema", "value", detail).of_type(reader.name))
                }
            },
        }
    }
}
