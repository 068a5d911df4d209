//! Putting records into topics, one acknowledgement each.

use anyhow::Context;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::{
    Connection,
    broker::{READER, TIMEOUT, explained, hurried, refusal},
};

/// A producer whose records are on all replicas when it says so.
pub struct Producer {
    producer: FutureProducer,
    connection: Connection,
}

/// Where a record came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Producer {
    /// Prepares a producer; the first record tells whether a broker is there.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let producer = hurried(connection.client(READER))
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // As the Java clients partition, and our services.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
            .create()
            .context("The Kafka client cannot be made")?;
        Ok(Self { producer, connection: connection.clone() })
    }

    /// Sends one record to a topic (named without prefix) and waits for its acknowledgement.
    pub async fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, String)],
    ) -> anyhow::Result<Placed> {
        let physical = self.connection.topic(topic);
        let headers = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        let mut record = FutureRecord::<[u8], [u8]>::to(&physical).payload(value).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        let sent = self.producer.send(record, TIMEOUT).await;
        match sent {
            Ok(delivery) => Ok(Placed { partition: delivery.partition, offset: delivery.offset }),
            Err((error, _)) => Err(self.unsent(&physical, error)),
        }
    }

    fn unsent(&self, topic: &str, error: rdkafka::error::KafkaError) -> anyhow::Error {
        use rdkafka::types::RDKafkaErrorCode::{
            MessageTimedOut, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
        };
        match error.rdkafka_error_code() {
            Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition) => {
                anyhow::anyhow!("There is no topic {topic}: `quadrille topics apply` makes all that are declared")
            }
            Some(MessageTimedOut) => match refusal(&self.connection) {
                Some(refusal) => anyhow::anyhow!(refusal),
                None => anyhow::anyhow!(
                    "The broker at {} did not acknowledge the record in {} s; whether it arrived is not known",
                    self.connection.brokers,
                    TIMEOUT.as_secs()
                ),
            },
            _ => explained(&self.connection, error),
        }
    }
}
