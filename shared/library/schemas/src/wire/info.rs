//! A record type with everything that tools ask of it.

use quadrille_core::{DecodeError, Record, RecordType, TopicType};
use serde::{Serialize, de::DeserializeOwned};

use super::{from_json, to_json};

/// What tools know of a record type on a topic. The table of all is generated.
#[derive(Clone, Copy, Debug)]
pub struct RecordInfo {
    /// Topic, full name and schema.
    pub record: RecordType,
    /// What the record means.
    pub doc: &'static str,
    /// Its fields in order.
    pub fields: &'static [FieldInfo],
    /// A valid JSON to start from.
    pub example: &'static str,
    /// The number of its newest frozen version, or 0.
    pub version: u32,
    encode: fn(&str) -> Result<Encoded, DecodeError>,
    decode: fn(&[u8]) -> Result<String, DecodeError>,
}

/// What tools know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// The name.
    pub name: &'static str,
    /// The type as people write it.
    pub ty: &'static str,
    /// The default as JSON, where it has one.
    pub default: Option<&'static str>,
    /// What it means.
    pub doc: &'static str,
    /// Whether it is shown as `***`.
    pub secret: bool,
}

/// A record as it goes to Kafka, but for the schema's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The record key.
    pub key: String,
    /// The Avro datum.
    pub datum: Vec<u8>,
}

impl RecordInfo {
    /// The table's entry for a type.
    pub const fn of<T: Record + Serialize + DeserializeOwned>(
        doc: &'static str,
        fields: &'static [FieldInfo],
        example: &'static str,
        version: u32,
    ) -> Self {
        Self { record: T::TYPE, doc, fields, example, version, encode: encode::<T>, decode: decode::<T> }
    }

    /// The same type on another topic: dead letters are of one type, on a topic of each service.
    #[must_use]
    pub const fn on(self, topic: &'static TopicType) -> Self {
        Self { record: RecordType { topic, ..self.record }, ..self }
    }

    /// The record's name without its namespace.
    pub fn short_name(&self) -> &'static str {
        self.record.name.rsplit('.').next().unwrap_or(self.record.name)
    }

    /// A record's key and datum from its JSON; an error names the field.
    pub fn from_json(&self, json: &str) -> Result<Encoded, DecodeError> {
        (self.encode)(json)
    }

    /// A datum of this type's own schema as one line of JSON; secrets are `***`.
    pub fn to_json(&self, datum: &[u8]) -> Result<String, DecodeError> {
        (self.decode)(datum)
    }
}

fn encode<T: Record + DeserializeOwned>(json: &str) -> Result<Encoded, DecodeError> {
    let record: T = from_json(json)?;
    let mut datum = Vec::new();
    record.encode(&mut datum);
    Ok(Encoded { key: record.key(), datum })
}

fn decode<T: Record + Serialize>(datum: &[u8]) -> Result<String, DecodeError> {
    T::decode(datum).map(|record| to_json(&record))
}
