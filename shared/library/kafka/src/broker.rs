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

use crate::{Connection, Protocol};

/// How long a broker may take to answer before it counts as away.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a broker may take to refuse us, and the client's events about it to be looked through.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
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
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match ask() {
            Err(error)
                if Instant::now() < deadline
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(LeaderNotAvailable | NotLeaderForPartition | UnknownTopicOrPartition)
                    ) =>
            {
                std::thread::sleep(TIMEOUT / 200);
            }
            answer => return answer,
        }
    }
}

/// Says what to do when no broker answers, or that one refuses us; every other error as it is. Blocks while it looks which of the two it is, for
/// a few seconds, and only where the connection is secured.
pub fn explained(connection: &Connection, error: KafkaError) -> anyhow::Error {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    match error.rdkafka_error_code() {
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve) => match refusal(connection) {
            Some(refusal) => anyhow::anyhow!(refusal),
            None => anyhow::anyhow!(
                "No Kafka broker answers at {}: `make up` brings one up here; QUADRILLE__KAFKA__BROKERS or --brokers names another",
                connection.brokers
            ),
        },
        _ => anyhow::Error::new(error),
    }
}

/// A sentence that says why brokers refuse us, if they do: our user, our password, our certificate or theirs. To the client a broker that refuses it
/// is one that is away, and only its events tell; so a client of its own is made to hear them. Blocks for some seconds at most.
pub fn refusal(connection: &Connection) -> Option<String> {
    if connection.security.protocol == Protocol::Plaintext {
        return None;
    }
    let refusals = Refusals::default();
    let client: BaseConsumer<Refusals> =
        hurried(connection.client(READER)).create_with_context(refusals.clone()).ok()?;
    let _ = client.fetch_metadata(None, REFUSED_WITHIN);
    // No single look tells that nothing waits: a line of the client's log is an event, too, and ends it.
    let deadline = Instant::now() + EVENTS;
    while refusals.last().is_none() && Instant::now() < deadline {
        let _ = client.poll(deadline.saturating_duration_since(Instant::now()));
    }
    let reason = refusals.last()?;
    let (brokers, user) = (&connection.brokers, &connection.security.username);
    Some(format!("Kafka at {brokers} does not let us in (kafka.security.*, user '{user}'): {reason}"))
}

/// Hears why brokers refuse a client.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Option<String>>>);

impl Refusals {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
