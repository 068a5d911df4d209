//! How a broker is asked by whoever waits in front of it, and what its errors mean.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use crate::Connection;

/// How long a broker may take to answer before it counts as away.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long the events of a client that got no answer are looked through.
const EVENTS: Duration = Duration::from_millis(100);

/// The name by which readers and tools are known to brokers, and the group that a reader names, as its client wants one, and never joins.
pub(crate) const READER: &str = "quadrille-cli";

/// For a client that somebody waits for: a broker that was away is tried again at once.
pub fn hurried(mut config: ClientConfig) -> ClientConfig {
    config.set("reconnect.backoff.max.ms", "500").set("socket.connection.setup.timeout.ms", "5000");
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
pub fn explained(connection: &Connection, error: KafkaError) -> anyhow::Error {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    match error.rdkafka_error_code() {
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve) => anyhow::anyhow!(
            "No Kafka broker answers at {}: `make up` brings one up here; QUADRILLE__KAFKA__BROKERS or --brokers names another",
            connection.brokers
        ),
        _ => anyhow::Error::new(error),
    }
}

/// Hears why brokers refuse a client, which no call's own error tells: as its context. Clones are of one client.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<Option<String>>>);

impl Refusals {
    /// Why the client was last refused for its certificate, user or password, if it was. Looks through the events that wait, so not for a
    /// client that has partitions to read.
    pub fn last(client: &BaseConsumer<Self>) -> Option<String> {
        // No single look tells that nothing waits: a line of the client's log is an event, too, and ends it.
        let deadline = Instant::now() + EVENTS;
        while client.context().said().is_none() && Instant::now() < deadline {
            let _ = client.poll(deadline.saturating_duration_since(Instant::now()));
        }
        client.context().said()
    }

    /// The same of a client whose events are looked through already.
    pub(crate) fn said(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whatever error a call of the client's came to: why it was refused, if it was, else as [`explained`].
    pub fn explain(client: &BaseConsumer<Self>, connection: &Connection, error: KafkaError) -> anyhow::Error {
        match Self::last(client) {
            Some(reason) => anyhow::anyhow!(connection.refused(&reason)),
            None => explained(connection, error),
        }
    }
}

impl ClientContext for Refusals {
    fn error(&self, error: KafkaError, reason: &str) {
        use rdkafka::types::RDKafkaErrorCode::{Authentication, SSL};
        if matches!(error.rdkafka_error_code(), Some(Authentication | SSL)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Refusals {}
