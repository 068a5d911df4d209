//! How a broker is asked by whoever waits in front of it, and what its errors mean.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex, OnceLock, PoisonError},
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

/// Who waits is told after this time, and where connections are refused, it is looked so often whether they still are.
const SOON: Duration = Duration::from_secs(1);

/// A broker that is starting refuses connections for some seconds; where all still do after this time, none is there.
const REFUSED_FOR: Duration = Duration::from_secs(4);

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

/// Who is told what is waited for.
static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// Has `tell` say what is waited for, and how long, where a broker does not answer at once. Without it nothing is said.
pub fn on_wait(tell: fn(&str)) {
    let _ = TELL.set(tell);
}

/// Asks brokers, each time for so long as it is told, until one answers: for [`TIMEOUT`], and where all of them refuse the connection for some
/// seconds only. Blocks.
///
/// # Errors
///
/// What is asked fails for another reason, or no broker answers: [`explained`].
pub fn patiently<T>(connection: &Connection, ask: impl Fn(Duration) -> KafkaResult<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    let (mut patience, mut is_told) = (SOON, false);
    loop {
        match ask(patience) {
            Err(error) if is_passing(&error) && began.elapsed() < TIMEOUT => {}
            answer => return answer.map_err(|error| explained(connection, error)),
        }
        let is_refused = is_refused(connection);
        if !is_told {
            let (why, until) = match is_refused {
                true => ("refuses connections", REFUSED_FOR),
                false => ("does not answer yet", TIMEOUT),
            };
            if let Some(tell) = TELL.get() {
                tell(&format!("Kafka at {} {why}: waiting {} s for it.", connection.brokers, until.as_secs()));
            }
            is_told = true;
        }
        if is_refused && began.elapsed() >= REFUSED_FOR {
            return Err(away(connection));
        }
        patience = if is_refused { SOON } else { TIMEOUT.saturating_sub(began.elapsed()) };
        // Some errors come before the time is up.
        std::thread::sleep(EVENTS);
    }
}

/// Whether nothing listens where brokers are said to be.
fn is_refused(connection: &Connection) -> bool {
    let refuses = |address: SocketAddr| {
        TcpStream::connect_timeout(&address, SOON).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    let mut brokers = connection.brokers.split(',');
    brokers.all(|broker| broker.trim().to_socket_addrs().is_ok_and(|mut addresses| addresses.all(refuses)))
}

/// Whether an error says no more than that no broker answers.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Partial, Resolve,
    };
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Partial | Resolve))
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
    if !is_passing(&error) {
        return anyhow::Error::new(error);
    }
    refusal(connection).map_or_else(|| away(connection), |refusal| anyhow::anyhow!(refusal))
}

fn away(connection: &Connection) -> anyhow::Error {
    anyhow::anyhow!(
        "No Kafka broker answers at {}: `make up` brings one up here; QUADRILLE__KAFKA__BROKERS or --brokers names another",
        connection.brokers
    )
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::TcpListener};

    use rdkafka::types::RDKafkaErrorCode::{BrokerTransportFailure, InvalidTopic};

    use super::*;

    fn at(brokers: String) -> Connection {
        Connection { brokers, ..Connection::default() }
    }

    #[test]
    fn a_broker_that_is_slow_is_waited_for_and_one_that_is_not_there_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let slow = listener.local_addr().expect("its address");
        // A port of its own that nobody listens at any more.
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("its address");
        assert!(is_refused(&at(gone.to_string())));
        assert!(!is_refused(&at(format!("{gone}, {slow}"))), "one of them may be there");

        let asked = RefCell::new(vec![]);
        let answer = patiently(&at(slow.to_string()), |patience| {
            asked.borrow_mut().push(patience);
            match asked.borrow().len() {
                1 => Err(KafkaError::MetadataFetch(BrokerTransportFailure)),
                _ => Ok(7),
            }
        });
        assert_eq!(answer.expect("the second time"), 7);
        let asked = asked.into_inner();
        assert!(asked[0] == SOON && asked[1] > REFUSED_FOR, "{asked:?}");

        let other = patiently::<()>(&at(gone.to_string()), |_| Err(KafkaError::MetadataFetch(InvalidTopic)));
        assert!(!other.expect_err("at once").to_string().contains("make up"));
    }
}
