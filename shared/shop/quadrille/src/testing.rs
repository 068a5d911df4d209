//! Histories for tests: records as services would state them, made by hand so that each can be made wrong.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use quadrille_cli::{codec::Decoded, kafka::Record, render::key_field, types};
use quadrille_core::ids;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{CATALOGUE, timeline::Fact};

/// Offsets go up with every record made, as they would in one partition.
static NEXT: AtomicI64 = AtomicI64::new(0);

/// A record in the making.
#[derive(Clone, Debug)]
pub struct Made {
    pub name: &'static str,
    pub key: String,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub value: Value,
}

impl Made {
    /// A client's request.
    pub fn request(name: &'static str, key: &str) -> Self {
        Self::new(name, key).header("ce_id", "r-1").header("ce_source", "/test")
    }

    /// A service's fact.
    pub fn event(name: &'static str, key: &str, version: i64) -> Self {
        let topic = types::named(&CATALOGUE, name).expect("a known type").record.topic;
        let id = ids::v5(&[&topic.name, key, name, &version.to_string()]);
        Self::new(name, key)
            .header("ce_specversion", "1.0")
            .header("ce_id", &id.to_string())
            .header("ce_type", types::named(&CATALOGUE, name).expect("known").record.name)
            .header("ce_time", "2026-01-31T12:00:00.000000Z")
            .header("content-type", "application/avro")
            .header("ce_source", &format!("/quadrille/{}", topic.writer))
            .header("ce_subject", key)
            .header("ce_correlationid", key)
            .header("ce_aggregateversion", &version.to_string())
    }

    fn new(name: &'static str, key: &str) -> Self {
        let info = types::named(&CATALOGUE, name).expect("a known type");
        let mut value: Value = serde_json::from_str(info.example).expect("a valid example");
        value[key_field(info)] = json!(key.to_lowercase());
        if matches!(info.record.topic.key, quadrille_core::KeyKind::Pattern(_)) {
            value[key_field(info)] = json!(key);
        }
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name, key: key.to_owned(), offset, timestamp_ms: 1_000_000 + offset, headers: vec![], value }
    }

    /// Adds or replaces a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self.headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
        self
    }

    /// As a client that knows no headers.
    pub fn without_headers(mut self) -> Self {
        self.headers.clear();
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    /// The cause header.
    pub fn caused_by(self, cause: &Self) -> Self {
        let id = cause.id();
        self.header("ce_causationid", &id.to_string())
    }

    /// The timestamp.
    pub fn at(mut self, ms: i64) -> Self {
        self.timestamp_ms = ms;
        self
    }

    /// A field of the value.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        *self.value.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        self
    }

    /// The same once more, later in the partition.
    pub fn again(&self) -> Self {
        Self { offset: NEXT.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    /// The id by which services know it.
    pub fn id(&self) -> Uuid {
        self.fact().id.expect("an id")
    }

    /// The record with its identity.
    pub fn fact(&self) -> Fact {
        let info = types::named(&CATALOGUE, self.name).expect("a known type");
        let record = Record {
            topic: Arc::from(&*info.record.topic.name),
            partition: 0,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: Some(self.key.as_bytes().to_vec()),
            value: Some(self.value.to_string().into_bytes()),
            headers: self.headers.clone(),
        };
        Fact::of(&CATALOGUE, record, Decoded::Record { info, json: self.value.to_string() })
    }
}
