//! Where Kafka is and how to get in, and each kind of client made from that: the one place that makes a client's settings.

use std::collections::BTreeMap;

use quadrille_program::{Key, Loaded, Secret, key};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// `kafka`: where the brokers are, how to get in, and what names carry in an isolated world.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Put before every topic's name: an isolated world on a shared broker.
    pub topic_prefix: String,
    /// Put before the service's name in its consumer group.
    pub group_prefix: String,
    /// How long a group waits for a silent member, in milliseconds.
    pub session_timeout_ms: u32,
    /// Encryption, and who we are.
    pub security: Security,
    /// Settings of librdkafka's, handed on as they are; each may be a secret.
    pub options: BTreeMap<String, Secret>,
}

/// `kafka.security`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// Whether the connection is encrypted, and whether we sign in.
    pub protocol: Protocol,
    /// How we sign in.
    pub mechanism: Mechanism,
    /// As whom we sign in.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// A file of PEM certificates of those who sign the brokers' ones; empty: the machine's.
    pub ca_location: String,
    /// A file with our own PEM certificate, where brokers ask for one.
    pub certificate_location: String,
    /// A file with the PEM key of that certificate. Its password, if it has one, is the option `ssl.key.password`.
    pub key_location: String,
}

/// `kafka.security.protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Neither.
    #[default]
    Plaintext,
    /// Encrypted.
    Ssl,
    /// Signed in, in the clear.
    SaslPlaintext,
    /// Signed in, encrypted.
    SaslSsl,
}

/// `kafka.security.mechanism`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Mechanism {
    /// The password itself is sent.
    #[serde(rename = "PLAIN")]
    Plain,
    /// It is proved that the password is known.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Likewise.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Default for Connection {
    /// The broker of `make up`.
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic_prefix: String::new(),
            group_prefix: String::new(),
            session_timeout_ms: 10_000,
            security: Security::default(),
            options: BTreeMap::new(),
        }
    }
}

/// All keys of a [`Connection`], which stands as `kafka` among the settings.
pub const KEYS: [Key; 12] = [
    key::BROKERS,
    key::TOPIC_PREFIX,
    key::GROUP_PREFIX,
    Key::number(
        "kafka.session_timeout_ms",
        6_000,
        300_000,
        "brokers take no shorter one by default (group.min.session.timeout.ms), and a client that may be silent for longer than the five minutes \
         between two polls (max.poll.interval.ms) does not start",
    ),
    Key::one_of("kafka.security.protocol", &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]),
    Key::one_of("kafka.security.mechanism", &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
    Key::text("kafka.security.username", "any text", |_| Ok(()), ""),
    Key::secret("kafka.security.password", "any text", ""),
    Key::text("kafka.security.ca_location", "empty or a file", file, "without it no broker can be trusted"),
    Key::text("kafka.security.certificate_location", "empty or a file", file, "a broker that asks for it refuses us"),
    Key::text("kafka.security.key_location", "empty or a file", file, "a certificate is of use with its key only"),
    Key::family(
        "kafka.options",
        "settings of librdkafka's, as kafka.options.socket.keepalive.enable",
        option,
        "they are handed on to it as they are",
    ),
];

/// What an option may not set, by its beginning where that ends in a dot, and why.
const OURS: [(&str, &str); 35] = [
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("security.protocol", "kafka.security.protocol says it"),
    ("sasl.mechanism", MECHANISM),
    ("sasl.mechanisms", MECHANISM),
    ("sasl.username", "kafka.security.username says it"),
    ("sasl.password", "kafka.security.password says it"),
    ("ssl.ca.location", "kafka.security.ca_location says it"),
    ("ssl.certificate.location", "kafka.security.certificate_location says it"),
    ("ssl.key.location", "kafka.security.key_location says it"),
    ("session.timeout.ms", SESSION),
    ("heartbeat.interval.ms", SESSION),
    ("client.id", "it tells which part of which program a client is"),
    ("group.id", "a service's group is its name behind kafka.group_prefix"),
    ("group.instance.id", MEMBERS),
    ("group.protocol", MEMBERS),
    ("partition.assignment.strategy", MEMBERS),
    ("enable.auto.commit", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("auto.offset.reset", OFFSETS),
    ("enable.partition.eof", "the ends of topics are told to those who read up to them"),
    ("isolation.level", "what was not committed is nobody's to read"),
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    ("enable.idempotence", ACKS),
    ("enable.gapless.guarantee", ACKS),
    ("max.in.flight", ACKS),
    ("max.in.flight.requests.per.connection", ACKS),
    ("message.timeout.ms", ACKS),
    ("delivery.timeout.ms", ACKS),
    ("transactional.id", ACKS),
    ("partitioner", "records of a key lie where all clients look for them"),
    ("statistics.interval.ms", "lag and health are told by them"),
    ("plugin.library.paths", "it has the client load any code"),
];
const BROKERS: &str = "kafka.brokers says it";
const MECHANISM: &str = "kafka.security.mechanism says it";
const SESSION: &str = "kafka.session_timeout_ms says it";
const MEMBERS: &str = "instances hand partitions over to one another by it";
const OFFSETS: &str = "an offset is committed once its record is handled, and not before";
const ACKS: &str = "no record is lost, doubled or out of order by it";

/// What is wrong with an option: librdkafka itself says whether it knows the setting and takes the value.
fn option(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Err(format!("{name} is not set by hand, since {why}: remove it"));
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        // Its own words repeat the value, which may be a secret.
        Err(rdkafka::error::KafkaError::ClientConfig(rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(format!("librdkafka has no setting {name}"))
        }
        Err(_) => Err(format!("librdkafka does not take this value of {name}")),
    }
}

fn file(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Ok(());
    }
    std::fs::File::open(path).map(drop).map_err(|error| format!("it cannot be opened: {error}"))
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    fn signs_in(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn encrypts(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    /// Refuses what does not go together: a secret that would not be used, or one that is missing.
    ///
    /// # Errors
    ///
    /// A sentence with two keys, where each was set, and why they exclude one another.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), quadrille_program::Error> {
        const PROTOCOL: &str = "kafka.security.protocol";
        let (signs_in, encrypts) = (self.protocol.signs_in(), self.protocol.encrypts());
        for (name, is_empty) in [
            ("kafka.security.username", self.username.is_empty()),
            ("kafka.security.password", self.password.is_empty()),
        ] {
            let rule = "sasl_plaintext and sasl_ssl sign in by both, and the others by neither";
            loaded.require(signs_in != is_empty, [PROTOCOL, name], rule)?;
        }
        for (name, path) in [
            ("kafka.security.ca_location", &self.ca_location),
            ("kafka.security.certificate_location", &self.certificate_location),
            ("kafka.security.key_location", &self.key_location),
        ] {
            loaded.require(encrypts || path.is_empty(), [PROTOCOL, name], "only ssl and sasl_ssl have certificates")?;
        }
        loaded.require(
            self.certificate_location.is_empty() == self.key_location.is_empty(),
            ["kafka.security.certificate_location", "kafka.security.key_location"],
            "a certificate is of use with its key only",
        )
    }

    fn apply(&self, config: &mut ClientConfig) {
        let Self { protocol, mechanism, username, password, ca_location, certificate_location, key_location } = self;
        config.set("security.protocol", protocol.name());
        if protocol.signs_in() {
            config.set("sasl.mechanism", mechanism.name());
            config.set("sasl.username", username).set("sasl.password", password.expose());
        }
        for (name, path) in [
            ("ssl.ca.location", ca_location),
            ("ssl.certificate.location", certificate_location),
            ("ssl.key.location", key_location),
        ] {
            if !path.is_empty() {
                config.set(name, path);
            }
        }
    }
}

impl Connection {
    /// A topic's physical name.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// A topic's own name, or `None` where it belongs to another world.
    pub fn logical<'a>(&self, physical: &'a str) -> Option<&'a str> {
        physical.strip_prefix(&self.topic_prefix)
    }

    /// A service's consumer group.
    pub fn group(&self, service: &str) -> String {
        format!("{}{service}", self.group_prefix)
    }

    /// Any client's settings: for administration and metadata, and for what has needs of its own. `id` tells the broker's logs which client
    /// it is.
    pub fn client(&self, id: &str) -> ClientConfig {
        self.with(id, &[])
    }

    /// A member of a service's group. Queues are bounded, so that memory is; `fetch.queue.backoff.ms` keeps a full queue from making the
    /// fetcher sleep for its default of a second.
    pub fn member(&self, id: &str, service: &str) -> ClientConfig {
        self.with(
            id,
            &[
                ("group.id", &self.group(service)),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("session.timeout.ms", &self.session_timeout_ms.to_string()),
                ("heartbeat.interval.ms", &(self.session_timeout_ms / 3).to_string()),
                ("auto.offset.reset", "earliest"),
                ("enable.auto.commit", "true"),
                ("auto.commit.interval.ms", "1000"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", "read_committed"),
                ("fetch.min.bytes", "1"),
                ("fetch.wait.max.ms", "500"),
                ("queued.min.messages", "10000"),
                ("queued.max.messages.kbytes", "8192"),
                ("fetch.message.max.bytes", "524288"),
                ("fetch.queue.backoff.ms", "2"),
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("reconnect.backoff.max.ms", "2000"),
                ("statistics.interval.ms", "5000"),
            ],
        )
    }

    /// A client that reads or asks for a group's offsets, and never joins it: it moves nobody's offsets.
    pub fn observer(&self, id: &str, group: &str) -> ClientConfig {
        self.with(id, &[("group.id", group), ("enable.auto.commit", "false")])
    }

    /// A producer. `message.timeout.ms=0`: a record waits for the broker however long it is away; a client that gave up on one while it
    /// sent the next would lose and reorder.
    pub fn producer(&self, id: &str) -> ClientConfig {
        self.with(
            id,
            &[
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("linger.ms", "0"),
                ("batch.num.messages", "10000"),
                ("batch.size", "1000000"),
                ("message.timeout.ms", "0"),
                // As the Java clients partition.
                ("partitioner", "murmur2_random"),
                ("queue.buffering.max.messages", "10000"),
                ("queue.buffering.max.kbytes", "8192"),
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("reconnect.backoff.max.ms", "2000"),
            ],
        )
    }

    /// A client's settings, which the options outrank.
    fn with(&self, id: &str, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", id);
        self.security.apply(&mut config);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        for (name, value) in &self.options {
            config.set(name, value.expose());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use quadrille_program::load;
    use rdkafka::{
        consumer::BaseConsumer,
        producer::{DefaultProducerContext, ThreadedProducer},
    };

    use super::*;

    #[derive(Clone, Debug, Default, Deserialize, Serialize)]
    struct Settings {
        kafka: Connection,
    }

    fn loaded(variables: &[(&str, &str)]) -> Result<Loaded<Settings>, quadrille_program::Error> {
        let variable = |(name, value): &(&str, &str)| (format!("QUADRILLE__KAFKA__{name}"), (*value).to_owned());
        let environment = variables.iter().map(variable).collect();
        let loaded = load(&Settings::default(), &KEYS, |_| false, &environment, [])?;
        loaded.settings.kafka.security.check(&loaded)?;
        Ok(loaded)
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        loaded(variables).map(drop).expect_err("refused").to_string()
    }

    const SIGNED_IN: [(&str, &str); 3] =
        [("SECURITY__PROTOCOL", "sasl_ssl"), ("SECURITY__USERNAME", "me"), ("SECURITY__PASSWORD", "s3cret")];

    #[test]
    fn what_is_set_reaches_every_kind_of_client() {
        let options = [("OPTIONS__SOCKET__KEEPALIVE__ENABLE", "true"), ("OPTIONS__LINGER__MS", "5")];
        let loaded = loaded(&[SIGNED_IN.as_slice(), &options].concat()).expect("sound");
        assert!(!loaded.describe().contains("s3cret"), "{}", loaded.describe());
        let kafka = &loaded.settings.kafka;
        assert!(!format!("{kafka:?}").contains("s3cret"), "{kafka:?}");
        for config in [kafka.client("a"), kafka.member("a", "b"), kafka.observer("a", "b"), kafka.producer("a")] {
            for (name, value) in [
                ("bootstrap.servers", "127.0.0.1:9092"),
                ("client.id", "a"),
                ("security.protocol", "sasl_ssl"),
                ("sasl.mechanism", "SCRAM-SHA-512"),
                ("sasl.username", "me"),
                ("sasl.password", "s3cret"),
                ("socket.keepalive.enable", "true"),
                // Over the settings of the client's kind, too.
                ("linger.ms", "5"),
            ] {
                assert_eq!(config.get(name), Some(value), "{name}");
            }
        }
    }

    /// A client is made of each: what it needs is built into librdkafka.
    #[test]
    fn every_protocol_and_mechanism_is_built_in() {
        for protocol in ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] {
            for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let mut set = vec![("SECURITY__PROTOCOL", protocol), ("SECURITY__MECHANISM", mechanism)];
                if protocol.starts_with("sasl") {
                    set.extend_from_slice(&SIGNED_IN[1..]);
                }
                let kafka = loaded(&set).expect("sound").settings.kafka;
                let member: BaseConsumer = kafka.member("a", "b").create().expect("a member");
                let producer: ThreadedProducer<DefaultProducerContext> =
                    kafka.producer("a").create().expect("a producer");
                drop((member, producer));
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_both_keys_and_without_the_password() {
        for (set, keys) in [
            (&SIGNED_IN[..2], ["kafka.security.protocol", "kafka.security.password"]),
            (&SIGNED_IN[1..], ["kafka.security.protocol", "kafka.security.username"]),
            (&SIGNED_IN[2..], ["kafka.security.protocol", "kafka.security.password"]),
            (&[("SECURITY__CA_LOCATION", "/dev/null")], ["kafka.security.protocol", "kafka.security.ca_location"]),
            (
                &[("SECURITY__PROTOCOL", "ssl"), ("SECURITY__KEY_LOCATION", "/dev/null")],
                ["kafka.security.certificate_location", "kafka.security.key_location"],
            ),
        ] {
            let refused = refused(set);
            assert!(keys.iter().all(|key| refused.contains(key)), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        let refused = refused(&[("SECURITY__PROTOCOL", "ssl"), ("SECURITY__CA_LOCATION", "/nowhere")]);
        assert!(
            refused.contains("kafka.security.ca_location is '/nowhere'") && refused.contains("opened"),
            "{refused}"
        );
    }

    #[test]
    fn an_option_that_the_runtime_rests_on_is_refused_by_name_with_the_reason() {
        for (ours, why) in OURS {
            let variable = format!("OPTIONS__{}", ours.replace('.', "__"));
            let refused = refused(&[(&variable, "s3cret")]);
            assert!(refused.contains(&format!("kafka.options.{ours}")) && refused.contains(why), "{refused}");
        }
        let unknown = refused(&[("OPTIONS__LINGER", "s3cret")]);
        assert!(unknown.contains("librdkafka has no setting linger"), "{unknown}");
        let value = refused(&[("OPTIONS__LINGER__MS", "s3cret")]);
        assert!(value.contains("librdkafka does not take this value of linger.ms"), "{value}");
        assert!(!(unknown + &value).contains("s3cret"));
    }
}
