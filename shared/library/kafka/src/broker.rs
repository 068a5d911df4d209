//! Kafka as the command line needs it: topics and their settings, reading to the end and beyond, one record at a time in.

mod admin;
mod groups;
mod producer;
mod reader;
mod record;

pub use admin::{Admin, TopicFound};
pub use groups::committed;
pub use producer::{Placed, Producer};
pub use reader::{At, Follow, Partition, Positions, Reader, Start, Unreadable};
pub use record::Record;

use std::time::Instant;

use rdkafka::{ClientConfig, error::KafkaResult};

use crate::Settings;

/// How long a broker may take to answer before it counts as away.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What every client of ours is configured with.
pub(crate) fn client(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.kafka.brokers)
        .set("client.id", "quadrille-cli")
        // A broker that was away is tried again at once: nobody waits for a command line's backoff.
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.connection.setup.timeout.ms", "5000");
    config
}

/// Tries again while a topic that has just been made settles on its broker.
pub(crate) fn settled<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    use rdkafka::types::RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition, UnknownTopicOrPartition};
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error)
                if Instant::now() < deadline
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(LeaderNotAvailable | NotLeaderForPartition | UnknownTopicOrPartition)
                    ) =>
            {
                std::thread::sleep(PATIENCE / 200);
            }
            answer => return answer,
        }
    }
}

/// Says what to do when no broker answers; every other error as it is.
pub(crate) fn explained(settings: &Settings, error: rdkafka::error::KafkaError) -> anyhow::Error {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    match error.rdkafka_error_code() {
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve) => anyhow::anyhow!(
            "No Kafka broker answers at {}: `make up` brings one up here; QUADRILLE__KAFKA__BROKERS or --brokers names another",
            settings.kafka.brokers
        ),
        _ => anyhow::Error::new(error),
    }
}
