//! Which partitions a topic has.

use std::time::Duration;

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

/// A topic's partitions, by their numbers: at least one.
///
/// # Errors
///
/// The broker did not answer within `patience`, or has no such topic, or has just started and does not know the topic's partitions yet. That one
/// is no error of the client's: whoever took it as it is would find nothing to read.
pub fn partitions(client: &BaseConsumer, topic: &str, patience: Duration) -> KafkaResult<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(topic), patience)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    if let Some(error) = found.and_then(|found| found.error()) {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let partitions: Vec<i32> =
        found.iter().flat_map(|found| found.partitions()).map(|partition| partition.id()).collect();
    if partitions.is_empty() {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
    }
    Ok(partitions)
}
