//! Framed Avro to JSON, by the writer's schema id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use quadrille_schemas::wire::{Plan, RecordInfo, Writer, frame, unframe};
use tokio::runtime::Handle;

use crate::{Settings, registry::Registry};

/// What a value turned out to be.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A record of a type that we know, as JSON with secrets hidden.
    Record {
        /// The type.
        info: &'static RecordInfo,
        /// One line of JSON.
        json: String,
    },
    /// A record of a type that is not known on its topic.
    Unknown {
        /// The type's full name.
        name: String,
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

/// Decodes values; asks the registry for each schema id once.
pub struct Decoder {
    records: &'static [RecordInfo],
    registry: Registry,
    handle: Handle,
    known: Mutex<HashMap<u32, Arc<Known>>>,
}

/// What a schema id means.
enum Known {
    Writer(Writer, Vec<(&'static RecordInfo, Result<Plan, String>)>),
    Unusable(String),
}

impl Decoder {
    /// A decoder within the current runtime. Its calls block, so they are for threads that may.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let handle = Handle::try_current().context("a decoder needs a tokio runtime")?;
        let (records, registry) = (settings.catalogue.records, Registry::connect(settings)?);
        Ok(Self { records, registry, handle, known: Mutex::default() })
    }

    /// Decodes a value of `topic`, or of whatever topic has the type. Only a registry that is away is an error.
    pub fn decode(&self, topic: Option<&str>, value: Option<&[u8]>) -> anyhow::Result<Decoded> {
        let Some(value) = value else { return Ok(Decoded::Null) };
        let (id, datum) = match unframe(value) {
            Ok(framed) => framed,
            Err(error) => return Ok(Decoded::bad(error.to_string())),
        };
        let known = self.known(id)?;
        let (writer, readers) = match &*known {
            Known::Unusable(reason) => return Ok(Decoded::bad(reason)),
            Known::Writer(writer, readers) => (writer, readers),
        };
        let reader = readers.iter().find(|(info, _)| topic.is_none_or(|topic| info.record.topic.name == topic));
        Ok(match reader {
            None => Decoded::Unknown { name: writer.name().to_owned() },
            Some((info, Err(reason))) => Decoded::Bad { reason: reason.clone(), of: Some(info) },
            Some((info, Ok(plan))) => match plan.apply(datum).and_then(|datum| info.to_json(&datum)) {
                Ok(json) => Decoded::Record { info, json },
                Err(error) => {
                    Decoded::Bad { reason: format!("it is no {}: {error}", info.short_name()), of: Some(info) }
                }
            },
        })
    }

    fn known(&self, id: u32) -> anyhow::Result<Arc<Known>> {
        let cached = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(known) = cached {
            return Ok(known);
        }
        let text = self.handle.block_on(self.registry.text_of(id))?;
        let known = Arc::new(match text.as_deref().map(Writer::new) {
            None => Known::Unusable(format!("the registry has no schema id {id}")),
            Some(Err(error)) => Known::Unusable(format!("schema id {id} is of no use: {error}")),
            Some(Ok(writer)) => {
                let readers = self.records.iter().filter(|info| info.record.name == writer.name());
                let plan =
                    |info: &'static RecordInfo| (info, writer.prepare(&info.record).map_err(|error| error.to_string()));
                let readers = readers.map(plan).collect();
                Known::Writer(writer, readers)
            }
        });
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, known.clone());
        Ok(known)
    }
}

/// Encodes JSON of one record type.
pub struct Encoder {
    info: &'static RecordInfo,
    id: u32,
}

/// A record ready for Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The key that the value names.
    pub key: String,
    /// Frame and datum.
    pub value: Vec<u8>,
}

impl Encoder {
    /// Looks the type's schema id up, unless it is given.
    pub async fn connect(settings: &Settings, info: &'static RecordInfo, id: Option<u32>) -> anyhow::Result<Self> {
        let id = match id {
            Some(id) => id,
            None => {
                let subject = info.record.subject();
                let found = Registry::connect(settings)?.id_of(&subject, info.record.schema).await?;
                found.with_context(|| {
                    format!(
                        "The registry does not have our schema of {subject}: `quadrille schemas apply` registers it"
                    )
                })?
            }
        };
        Ok(Self { info, id })
    }

    /// The record type.
    pub fn info(&self) -> &'static RecordInfo {
        self.info
    }

    /// Encodes one JSON document; an error names the field.
    pub fn encode(&self, json: &str) -> anyhow::Result<Framed> {
        let encoded = self.info.from_json(json).map_err(|error| {
            let name = self.info.short_name();
            anyhow::anyhow!("This is no {name}: {error} (`quadrille example {name}` shows a valid one)")
        })?;
        Ok(Framed { key: encoded.key, value: frame(self.id, &encoded.datum) })
    }
}

/// The documents of a text that holds one or several, each exactly as it is written: numbers keep their digits. A byte order mark
/// before any of them is none of it.
pub fn documents(text: &str) -> anyhow::Result<Vec<&str>> {
    let begun = |rest: &str| rest.trim_start_matches(|char: char| char.is_whitespace() || char == '\u{feff}').len();
    let mut documents = Vec::new();
    let mut rest = &text[text.len() - begun(text)..];
    while !rest.is_empty() {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        stream.next().transpose().with_context(|| match documents.len() {
            0 => "The input is not JSON".to_owned(),
            before => format!("Behind {before} documents the input is not JSON; lines are counted from there"),
        })?;
        let (document, behind) = rest.split_at(stream.byte_offset());
        documents.push(document.trim());
        rest = &behind[behind.len() - begun(behind)..];
    }
    anyhow::ensure!(!documents.is_empty(), "The input holds no JSON document");
    if documents.iter().any(|document| document.starts_with('[')) {
        anyhow::bail!("The input is a JSON array: give its documents one after another (jq -c '.[]' does that)");
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_taken_apart_as_they_are_written() {
        let text = "{\"a\": 19.9900000000000000001}\n\n {\"b\":\"}{\"}{\"c\":1}";
        let expected = ["{\"a\": 19.9900000000000000001}", "{\"b\":\"}{\"}", "{\"c\":1}"];
        assert_eq!(documents(text).expect("three"), expected);
        let marked = format!("\u{feff}{}\u{feff}\n{}", expected[0], expected[2]);
        assert_eq!(documents(&marked).expect("two"), [expected[0], expected[2]]);
        assert!(documents("  ").is_err());
        assert!(documents("{\"a\":1} x").is_err());
        assert!(documents("[{}]").expect_err("an array").to_string().contains("jq"));
    }
}
