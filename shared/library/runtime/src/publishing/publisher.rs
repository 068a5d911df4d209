//! A producer of what the runtime sends by itself, beside the outbox: heartbeats and dead letters, one after another.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use quadrille_core::Record;
use quadrille_kafka::{Brokers, CloudEvent};
use quadrille_schemas::wire;
use rdkafka::{
    ClientConfig,
    error::KafkaResult,
    producer::{FutureProducer, FutureRecord},
};
use uuid::Uuid;

use crate::{kafka::retire, resources::Resources};

/// Publishes records of one type to one topic, and awaits the broker's answer to each.
pub(crate) struct Publisher {
    resources: Arc<Resources>,
    /// Where, and under which subject its schema is known.
    topic: String,
    subject: String,
    schema_id: Option<u32>,
    config: ClientConfig,
    client: FutureProducer<Brokers>,
    known: Brokers,
}

impl Publisher {
    /// A publisher to the topic of this logical name, whose records are given up after `timeout_ms`; `name` is its client's.
    pub fn new<R: Record>(resources: Arc<Resources>, name: &str, topic: &str, timeout_ms: u32) -> KafkaResult<Self> {
        let mut config = resources.kafka.producer(&format!("quadrille-{}-{name}", resources.service));
        config.set("message.timeout.ms", timeout_ms.to_string()).set("statistics.interval.ms", "5000");
        let known = Brokers::default();
        Ok(Self {
            client: config.create_with_context(known.clone())?,
            topic: resources.kafka.topic(topic),
            subject: format!("{topic}-{}", R::TYPE.name),
            schema_id: None,
            resources,
            config,
            known,
        })
    }

    /// Publishes a record, whose key names it. It has neither cause nor version.
    pub async fn publish<R: Record>(
        &mut self,
        id: Uuid,
        key: &str,
        time: DateTime<Utc>,
        record: &R,
    ) -> anyhow::Result<()> {
        let registry = &self.resources.registry;
        let schema_id = match self.schema_id {
            Some(known) => known,
            None => {
                let found = registry.id_of(&self.subject, R::TYPE.schema).await?;
                *self.schema_id.insert(found.ok_or_else(|| registry.lost(&self.subject))?)
            }
        };
        let mut datum = vec![];
        record.encode(&mut datum);
        let payload = wire::frame(schema_id, &datum);
        let (id, source) = (id.to_string(), format!("/quadrille/{}", self.resources.service));
        let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let headers = CloudEvent {
            id: &id,
            source: &source,
            record_type: R::TYPE.name,
            subject: key,
            time: &time,
            correlation: key,
            ..CloudEvent::default()
        };
        self.send(key, Some((&payload, headers))).await
    }

    /// Takes the record of a key back from a compacted topic.
    pub async fn delete(&mut self, key: &str) -> anyhow::Result<()> {
        self.send(key, None).await
    }

    /// Sends a record, by a new client where the former has forgotten every broker.
    async fn send(&mut self, key: &str, record: Option<(&[u8], CloudEvent<'_>)>) -> anyhow::Result<()> {
        if self.known.are_forgotten() {
            self.known = Brokers::default();
            let new = self.config.create_with_context(self.known.clone())?;
            drop(retire(std::mem::replace(&mut self.client, new)));
        }
        let mut of_key = FutureRecord::<str, [u8]>::to(&self.topic).key(key);
        if let Some((payload, headers)) = record {
            of_key = of_key.payload(payload).headers(headers.headers());
        }
        self.client.send(of_key, std::time::Duration::ZERO).await.map(drop).map_err(|(error, _)| error.into())
    }
}
