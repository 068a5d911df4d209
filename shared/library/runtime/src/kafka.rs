//! What must be true of topics before a service starts, and how a client is given up.

use std::collections::BTreeMap;

use quadrille_core::{RecordType, TopicType};
use quadrille_kafka::{Connection, refusal};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    types::RDKafkaRespErr,
};
use tokio::task::JoinHandle;

use crate::limits;

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
    /// A topic was made in another shape than declared; nothing fixes that while we run.
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
pub(crate) fn check_topics(kafka: &Connection, service: &str, types: &[RecordType]) -> Topics {
    let client = kafka.client(&format!("quadrille-{service}-start")).create();
    let client: BaseConsumer = match client {
        Ok(client) => client,
        Err(error) => {
            return Topics::Refused(format!("no client of kafka.brokers '{}' can be made: {error}", kafka.brokers));
        }
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
            Err(error) => {
                let away = || format!("no broker at {} answers: {error}", kafka.brokers);
                return Topics::Waiting(refusal(kafka).unwrap_or_else(away));
            }
        };
        if let Some(changed) = changed_partitions(&topic, record_type.topic, count) {
            return Topics::Refused(changed);
        }
        counts.insert(&*record_type.topic.name, count);
    }
    Topics::Ready
}
