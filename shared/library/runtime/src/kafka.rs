//! How this platform's Kafka clients are set up, and what must be true of topics before a service starts.

use std::{collections::BTreeMap, time::Duration};

use quadrille_core::{RecordType, TopicType};
use quadrille_kafka::Brokers;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaRespErr,
};
use tokio::task::JoinHandle;

use crate::{config, limits};

/// A consumer's settings. Queues are bounded, so that memory is; `fetch.queue.backoff.ms` keeps a full queue from making the fetcher
/// sleep for its default of a second.
pub(crate) fn consumer_config(kafka: &config::Kafka, service: &str, instance: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", format!("quadrille-{service}-{instance}"))
        .set("group.id", format!("{}{service}", kafka.group_prefix))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", kafka.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (kafka.session_timeout_ms / 3).to_string())
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "500")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.message.max.bytes", "524288")
        .set("fetch.queue.backoff.ms", "2")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "2000")
        .set("statistics.interval.ms", "5000");
    config
}

/// The settings of a client that asks for a group's offsets and never joins it.
pub(crate) fn onlooker_config(kafka: &config::Kafka, service: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", format!("quadrille-{service}-onlooker"))
        .set("group.id", format!("{}{service}", kafka.group_prefix));
    config
}

/// A producer's settings. `message.timeout.ms=0`: a record waits for the broker however long it is away; a client that gave up on one
/// while it sent the next would lose and reorder.
pub(crate) fn producer_config(kafka: &config::Kafka, client: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", client)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "10000")
        .set("queue.buffering.max.kbytes", "8192")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "2000");
    config
}

/// A client that sends one record after another and awaits each answer.
pub(crate) struct Producer {
    config: ClientConfig,
    client: FutureProducer<Brokers>,
    known: Brokers,
}

impl Producer {
    /// A producer whose records are given up after `timeout_ms`.
    pub fn new(kafka: &config::Kafka, client: &str, timeout_ms: u32) -> KafkaResult<Self> {
        let mut config = producer_config(kafka, client);
        config.set("message.timeout.ms", timeout_ms.to_string()).set("statistics.interval.ms", "5000");
        let known = Brokers::default();
        Ok(Self { client: config.create_with_context(known.clone())?, config, known })
    }

    /// Sends a record, by a new client where the former has forgotten every broker.
    pub async fn send(&mut self, record: FutureRecord<'_, str, [u8]>) -> KafkaResult<()> {
        if self.known.are_forgotten() {
            self.known = Brokers::default();
            let new = self.config.create_with_context(self.known.clone())?;
            drop(retire(std::mem::replace(&mut self.client, new)));
        }
        self.client.send(record, Duration::ZERO).await.map(drop).map_err(|(error, _)| error)
    }
}

/// Gives a client up where it may take its time: its threads are waited for, and one may be within the resolver.
pub(crate) fn retire(client: impl Send + 'static) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || drop(client))
}

/// What stands in the way of a start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Topics {
    /// All are there, with their declared number of partitions.
    Ready,
    /// Something is not there yet; it is waited for.
    Waiting(String),
    /// A topic was made in another shape than declared; nothing mends that while we run.
    Refused(String),
}

/// What is wrong with a topic that has `count` partitions, if they are not as many as declared. None at all is another matter: then the
/// topic is not there.
pub(crate) fn changed_partitions(physical: &str, topic: &TopicType, count: usize) -> Option<String> {
    let declared = topic.partitions as usize;
    (count != 0 && count != declared).then(|| {
        format!(
            "topic {physical} has {count} partitions, {declared} are declared: a topic's number of partitions is fixed for its life, as keys would move"
        )
    })
}

/// Compares the topics that a service hears and states with their declaration. Blocks: call it off the async threads.
pub(crate) fn check_topics(kafka: &config::Kafka, types: &[RecordType]) -> Topics {
    let client: BaseConsumer = match ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create() {
        Ok(client) => client,
        Err(error) => return Topics::Refused(format!("kafka.brokers '{}': {error}", kafka.brokers)),
    };
    let mut counts = BTreeMap::new();
    for record_type in types {
        if counts.contains_key(&*record_type.topic.name) {
            continue;
        }
        let topic = format!("{}{}", kafka.topic_prefix, record_type.topic.name);
        let count = match client.fetch_metadata(Some(&topic), limits::BROKER) {
            Ok(metadata) => match metadata.topics().first() {
                Some(found) if found.error().is_none() => found.partitions().len(),
                Some(found) if found.error() != Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                    return Topics::Waiting(format!("the broker says of topic {topic}: {:?}", found.error()));
                }
                _ => {
                    return Topics::Waiting(format!(
                        "topic {topic} does not exist: `quadrille topics apply` creates it"
                    ));
                }
            },
            Err(error) => return Topics::Waiting(format!("no broker at {} answers: {error}", kafka.brokers)),
        };
        if let Some(changed) = changed_partitions(&topic, record_type.topic, count) {
            return Topics::Refused(changed);
        }
        counts.insert(&*record_type.topic.name, count);
    }
    Topics::Ready
}
