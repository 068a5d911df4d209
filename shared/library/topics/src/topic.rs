//! A topic as it is declared.

use std::{borrow::Cow, fmt, time::Duration};

use crate::KeyKind;

/// A topic as `topics.toml` declares it. Borrowed where it was generated into a program, owned where it was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicType {
    /// The name, without any prefix of an isolated world. Of [`TopicKind::DeadLetters`] it is what follows the service's name.
    pub name: Cow<'static, str>,
    /// What its records are to whoever reads them.
    pub kind: TopicKind,
    /// Who writes it.
    pub writer: TopicWriter,
    /// What its record keys are.
    pub key: KeyKind,
    /// How many partitions it has, for its whole life.
    pub partitions: u32,
    /// How many brokers keep a copy; `None` is the broker's default.
    pub replication: Option<u16>,
    /// How many copies have to be written before a record counts as written; `None` is the broker's default.
    pub min_insync_replicas: Option<u16>,
    /// How long records are kept and handled; `None` is without end.
    pub retention: Option<Duration>,
    /// How soon a record goes that a newer one of its key has overtaken: given for [`TopicKind::State`], and for no other kind.
    pub compact_within: Option<Duration>,
    /// Whether its records may have secret fields.
    pub secrets: bool,
    /// The full names of its record types.
    pub records: Cow<'static, [Cow<'static, str>]>,
    /// Why it is kept so.
    pub why: Cow<'static, str>,
}

/// What a topic's records are to whoever reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKind {
    /// Facts: of one writer, each with an id of its own, and numbered per key, so that the order of a key's records counts.
    Events,
    /// What anybody asks of a service: without version or cause, and without an order among the requests of a key.
    Requests,
    /// The last record of each key is what counts; one without a value says that the key is gone.
    State,
    /// What a service could not handle. Each service has a topic of its own: `<service>.<name>`.
    DeadLetters,
}

/// Who writes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicWriter {
    /// Whoever has a request: [`TopicKind::Requests`].
    Clients,
    /// Every service.
    All,
    /// This service only.
    Service(Cow<'static, str>),
}

/// The setting of what one record of a topic may unpack to: what brokers take of it packed, so that compression is no way around that. A
/// batch of many may still unpack to many times as much.
pub const MOST_UNPACKED: &str = "max.decompressed.message.bytes";
const MOST_UNPACKED_BYTES: u32 = 1_048_588;

impl TopicType {
    /// The topic's settings as Kafka names them. A broker older than 4.4 does not know [`MOST_UNPACKED`]'s.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let millis = |time: Duration| time.as_millis().to_string();
        let cleanup = if self.compact_within.is_some() { "compact" } else { "delete" };
        let mut settings = vec![
            ("cleanup.policy", cleanup.to_owned()),
            ("retention.ms", self.retention.map_or("-1".to_owned(), millis)),
        ];
        settings.extend(self.compact_within.map(|within| ("max.compaction.lag.ms", millis(within))));
        settings.extend(self.min_insync_replicas.map(|copies| ("min.insync.replicas", copies.to_string())));
        settings.push((MOST_UNPACKED, MOST_UNPACKED_BYTES.to_string()));
        settings
    }

    /// The topics that there are with these services: itself, or, of dead letters, one of each service.
    pub fn with_services<'a>(&self, services: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let own = |service: &str| Self {
            name: self.name_of(service).into(),
            writer: TopicWriter::Service(service.to_owned().into()),
            ..self.clone()
        };
        match self.kind {
            TopicKind::DeadLetters => services.into_iter().map(own).collect(),
            _ => vec![self.clone()],
        }
    }

    /// The name of this service's own topic, where each has one.
    pub fn name_of(&self, service: &str) -> String {
        format!("{service}.{}", self.name)
    }
}

impl TopicKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Events, Self::Requests, Self::State, Self::DeadLetters];

    /// The kind as `topics.toml` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Requests => "requests",
            Self::State => "state",
            Self::DeadLetters => "dead-letters",
        }
    }
}

impl fmt::Display for TopicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TopicWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clients => "clients",
            Self::All => "all",
            Self::Service(service) => service,
        })
    }
}
