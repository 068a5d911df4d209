//! Records of any shape, as no client of good will sends them.

use std::time::Duration;

use anyhow::Context;
use quadrille_cli::{Settings, kafka::Placed};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

/// A record before it is sent. Whatever is not there is null.
#[derive(Clone, Debug, Default)]
pub struct RawRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Headers, as they are.
    pub headers: Vec<(&'static str, Option<Vec<u8>>)>,
    /// The timestamp; else the time of sending.
    pub timestamp_ms: Option<i64>,
}

/// A producer that asks no questions.
pub struct RawProducer {
    producer: FutureProducer,
    settings: Settings,
}

impl RawProducer {
    /// A producer into the world of `settings`.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let mut config = settings.kafka.client("quadrille-show");
        config.set("acks", "all").set("linger.ms", "0");
        Ok(Self { producer: config.create()?, settings: settings.clone() })
    }

    /// Sends a record to a topic (named without prefix), and says where it came to lie.
    pub async fn send(&self, topic: &str, raw: &RawRecord) -> anyhow::Result<Placed> {
        let physical = self.settings.topic(topic);
        let headers = raw
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        let mut record = FutureRecord::<[u8], [u8]>::to(&physical).headers(headers);
        record.key = raw.key.as_deref();
        record.payload = raw.value.as_deref();
        record.timestamp = raw.timestamp_ms;
        let sent = self.producer.send(record, Duration::from_secs(10)).await;
        let placed = sent.map_err(|(error, _)| error).with_context(|| format!("a record to {physical}"))?;
        Ok(Placed { partition: placed.partition, offset: placed.offset })
    }
}
