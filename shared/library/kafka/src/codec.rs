//! Framed Avro: any record as JSON by its writer's schema id, and records of compiled types as values.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use quadrille_core::{Record, RecordType};
use quadrille_schemas::wire::{RecordInfo, Resolution, WriterSchema, frame, unframe};

use crate::{
    Registry,
    registry::{Found, Unavailable},
};

/// A schema id that the registry does not know is asked for again after this time at the earliest.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);
/// So many schema ids are remembered at most.
const MOST_KNOWN: usize = 10_000;

/// What a value turned out to be.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A record of a type that we know on its topic, as JSON with secrets hidden.
    Record {
        /// The type.
        info: &'static RecordInfo,
        /// One line of JSON.
        json: String,
    },
    /// A record of a type that is not known on its topic, by its writer's schema.
    Dynamic {
        /// The type's full name.
        name: String,
        /// One line of JSON, secrets hidden; none where the datum is none of its schema.
        json: Option<String>,
    },
    /// There is no value.
    Null,
    /// Not decodable.
    Bad {
        /// Why.
        reason: String,
        /// The type that its schema is one of, where that much could be told.
        of: Option<&'static RecordInfo>,
    },
}

impl Decoded {
    /// Not decodable, and of no type that could be told.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self::Bad { reason: reason.into(), of: None }
    }
}

/// Codes values; asks the registry for each schema once.
pub struct Codec {
    registry: Registry,
    records: &'static [RecordInfo],
    known: Mutex<HashMap<u32, Arc<Known>>>,
    ids: Mutex<HashMap<String, u32>>,
}

/// What a schema id means.
enum Known {
    Writer(WriterSchema, Vec<(&'static RecordInfo, Result<Resolution, String>)>),
    Unusable(String),
    /// The registry knew no such id then.
    Missing(Instant),
}

impl Codec {
    /// A codec that knows these types, each on its topic.
    pub fn new(registry: Registry, records: &'static [RecordInfo]) -> Self {
        Self { registry, records, known: Mutex::default(), ids: Mutex::default() }
    }

    /// Decodes a value of `topic` (without prefix), or of whatever topic has the type.
    ///
    /// # Errors
    ///
    /// Only a registry that is away. Whatever is wrong with the value is [`Decoded::Bad`].
    pub async fn decode(&self, topic: Option<&str>, value: Option<&[u8]>) -> Result<Decoded, Unavailable> {
        let Some(value) = value else { return Ok(Decoded::Null) };
        let (id, datum) = match unframe(value) {
            Ok(framed) => framed,
            Err(error) => return Ok(Decoded::bad(error.to_string())),
        };
        let known = self.known(id).await?;
        let (writer, readers) = match &*known {
            Known::Unusable(reason) => return Ok(Decoded::bad(reason)),
            Known::Missing(_) => return Ok(Decoded::bad(format!("the registry has no schema id {id}"))),
            Known::Writer(writer, readers) => (writer, readers),
        };
        let reader = readers.iter().find(|(info, _)| topic.is_none_or(|topic| info.record.topic.name == topic));
        Ok(match reader {
            None => Decoded::Dynamic { name: writer.name().to_owned(), json: writer.json(datum).ok() },
            Some((info, Err(reason))) => Decoded::Bad { reason: reason.clone(), of: Some(info) },
            Some((info, Ok(plan))) => match plan.apply(datum).and_then(|datum| info.to_json(&datum)) {
                Ok(json) => Decoded::Record { info, json },
                Err(error) => {
                    Decoded::Bad { reason: format!("it is no {}: {error}", info.short_name()), of: Some(info) }
                }
            },
        })
    }

    /// A record's value as it goes to Kafka.
    ///
    /// # Errors
    ///
    /// The registry is away, or does not have our schema of the type.
    pub async fn encode<R: Record>(&self, record: &R) -> anyhow::Result<Vec<u8>> {
        let id = self.id_of(&R::TYPE).await?;
        let mut datum = vec![];
        record.encode(&mut datum);
        Ok(frame(id, &datum))
    }

    /// The id of a type's schema.
    ///
    /// # Errors
    ///
    /// The registry is away, or does not have our schema of the type.
    pub async fn id_of(&self, record: &RecordType) -> anyhow::Result<u32> {
        let subject = record.subject();
        if let Some(id) = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&subject) {
            return Ok(*id);
        }
        let id = self.registry.id_of(&subject, record.schema).await?;
        let id = id.with_context(|| {
            format!("The registry does not have our schema of {subject}: `quadrille schemas apply` registers it")
        })?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(subject, id);
        Ok(id)
    }

    async fn known(&self, id: u32) -> Result<Arc<Known>, Unavailable> {
        let cached = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(known) = cached
            && !matches!(&*known, Known::Missing(since) if since.elapsed() > UNKNOWN_FOR)
        {
            return Ok(known);
        }
        let known = Arc::new(match self.registry.schema(id).await? {
            Found::Nothing => Known::Missing(Instant::now()),
            Found::Other(kind) => Known::Unusable(format!("schema id {id} is of kind {kind}; records here are Avro")),
            Found::Avro(text) => match WriterSchema::new(&text) {
                Err(error) => Known::Unusable(format!("schema id {id} is of no use: {error}")),
                Ok(writer) => {
                    let readers = self.records.iter().filter(|info| info.record.name == writer.name());
                    let plan = |info: &'static RecordInfo| {
                        (info, writer.prepare(&info.record).map_err(|error| error.to_string()))
                    };
                    let readers = readers.map(plan).collect();
                    Known::Writer(writer, readers)
                }
            },
        });
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(id, known.clone());
        Ok(known)
    }
}
