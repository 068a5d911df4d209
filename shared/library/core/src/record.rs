//! Records: one Avro record type of one topic, and closed sets of them.

use std::{
    fmt::Debug,
    hash::{Hash, Hasher},
};

use crate::TopicType;

/// One Avro record type on one topic. Implemented by the types that are generated from `schemas/`; never by hand.
pub trait Record: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The type's topic, full name and schema.
    const TYPE: RecordType;

    /// The record key that the value itself names, in the normal form of its topic's keys.
    fn key(&self) -> String;

    /// Appends the Avro datum (no framing) to `datum`.
    fn encode(&self, datum: &mut Vec<u8>);

    /// Reads a datum that was written with [`RecordType::schema`] itself.
    ///
    /// Resolution from another writer's schema comes before this, by whoever knows the writer's schema.
    fn decode(datum: &[u8]) -> Result<Self, DecodeError>;
}

/// What is fixed for all records of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordType {
    /// The topic.
    pub topic: &'static TopicType,
    /// The Avro full name, e.g. `quadrille.order.OrderCreated`.
    pub name: &'static str,
    /// The schema's text: exactly what is registered.
    pub schema: &'static str,
}

impl RecordType {
    /// The schema registry's subject, by TopicRecordNameStrategy: `<topic>-<full name>`.
    pub fn subject(&self) -> String {
        format!("{}-{}", self.topic.name, self.name)
    }

    /// The name without its namespace.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

/// By the name alone: schemas are long, and sets of record types small.
impl Hash for RecordType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A closed set of record types: what a service hears, or what it states. Made by [`records!`](crate::records).
pub trait Records: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// [`Gone`] where the set has records of state topics and its service is told that a key is gone; else [`Nothing`](crate::Nothing).
    type Gone: Tombstone;

    /// All types of the set, in the order of their declaration.
    const TYPES: &'static [RecordType];

    /// Which of [`Self::TYPES`] this record is.
    fn record_type(&self) -> &'static RecordType;

    /// See [`Record::key`].
    fn key(&self) -> String;

    /// See [`Record::encode`].
    fn encode(&self, datum: &mut Vec<u8>);

    /// Reads a datum written with the schema of `TYPES[index]`.
    fn decode(index: usize, datum: &[u8]) -> Result<Self, DecodeError>;
}

/// A key of a state topic is gone: its last record has no value. The key is the envelope's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gone {
    /// The topic.
    pub topic: &'static str,
}

/// [`Gone`], or [`Nothing`](crate::Nothing) where a service is not told of it.
pub trait Tombstone: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// What a record without a value on this topic says; `None` where nobody is told.
    fn on(topic: &'static str) -> Option<Self>;

    /// The topic.
    fn topic(&self) -> &'static str;
}

impl Tombstone for Gone {
    fn on(topic: &'static str) -> Option<Self> {
        Some(Self { topic })
    }

    fn topic(&self) -> &'static str {
        self.topic
    }
}

/// Why a datum is not a record of the expected type: a sentence that names the field where that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);
