//! A world of its own on the real broker and registry: topics under a fresh prefix, and what is needed to speak and listen there.

use std::{ops::ControlFlow, time::Instant};

use quadrille_core::TopicType;
use quadrille_kafka::{Admin, Codec, Connection, KEYS, Placed, Producer, Reader, Record, Registry, Start, registry};
use quadrille_program::{environment, key};
use quadrille_schemas::wire::unframe;
use rdkafka::admin::{NewTopic, TopicReplication};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::TIMEOUT;

/// The shortest that brokers allow by default: tests that kill instances wait for it.
const SESSION_TIMEOUT_MS: u32 = 6_000;

/// Topics under a prefix of their own, deleted with this value.
pub struct World {
    /// Where the world is, for whoever looks into it.
    pub settings: Settings,
    topics: Vec<TopicType>,
    producer: Producer,
    codec: Codec,
}

/// Where a world's broker and registry are: the keys of services and tools.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Settings {
    /// `QUADRILLE__KAFKA__*`
    pub kafka: Connection,
    /// `QUADRILLE__REGISTRY__*`
    pub registry: registry::Settings,
}

impl Settings {
    /// What the environment says of broker and registry, whatever else it says.
    fn load() -> anyhow::Result<Self> {
        let is_others = |name: &str| !name.starts_with("kafka.") && !name.starts_with("registry.");
        let keys = KEYS.iter().chain([&key::REGISTRY_URL]);
        Ok(quadrille_program::load(&Self::default(), keys, is_others, &environment()?, [])?.settings)
    }

    /// A topic's physical name.
    pub fn topic(&self, name: &str) -> String {
        self.kafka.topic(name)
    }

    /// A client of the schema registry.
    pub fn registry(&self) -> anyhow::Result<Registry> {
        Registry::new(&self.registry, TIMEOUT)
    }
}

impl World {
    /// Creates a workspace's topics, and the platform's for these services, under a fresh prefix. Schemas are shared with the main world:
    /// `make up` has applied them.
    pub async fn new(topics: &[&TopicType], services: &[&str]) -> anyhow::Result<Self> {
        let prefix = format!("t{}.", &Uuid::new_v4().simple().to_string()[..10]);
        let mut settings = Settings::load()?;
        settings.kafka.topic_prefix.clone_from(&prefix);
        settings.kafka.group_prefix = prefix;
        let topics = quadrille_platform::with_platform(topics, services);
        create(&topics, &settings).await?;
        led(&topics, &settings).await?;
        let producer = Producer::connect(&settings.kafka)?;
        let codec = Codec::new(settings.registry()?, &[]);
        Ok(Self { settings, topics, producer, codec })
    }

    /// The prefix of this world's topics and groups.
    pub fn prefix(&self) -> &str {
        &self.settings.kafka.topic_prefix
    }

    /// The configuration of a service in this world, over the given database.
    pub fn config<C: Default>(&self, service: &str, database: &str) -> quadrille_runtime::Config<C> {
        let mut config = quadrille_runtime::Config::of(service);
        config.kafka.clone_from(&self.settings.kafka);
        config.registry.clone_from(&self.settings.registry);
        config.database.url = database.to_owned();
        config.database.migrate_url = database.to_owned();
        config.kafka.session_timeout_ms = SESSION_TIMEOUT_MS;
        config
    }

    /// The same as environment, for a service in a process of its own.
    pub fn environment(&self, database: &str) -> Vec<(String, String)> {
        let session_timeout_ms = SESSION_TIMEOUT_MS.to_string();
        let kafka = &self.settings.kafka;
        [
            ("KAFKA__BROKERS", kafka.brokers.as_str()),
            ("KAFKA__TOPIC_PREFIX", &kafka.topic_prefix),
            ("KAFKA__GROUP_PREFIX", &kafka.group_prefix),
            ("KAFKA__SESSION_TIMEOUT_MS", &session_timeout_ms),
            ("REGISTRY__URL", &self.settings.registry.url),
            ("DATABASE__URL", database),
            ("DATABASE__MIGRATE_URL", database),
            ("HTTP__BIND", "127.0.0.1:0"),
        ]
        .map(|(key, value)| (format!("QUADRILLE__{key}"), value.to_owned()))
        .into()
    }

    /// The record's value as it goes to Kafka.
    pub async fn framed<R: quadrille_core::Record>(&mut self, record: &R) -> anyhow::Result<Vec<u8>> {
        self.codec.encode(record).await
    }

    /// Sends a record as a client without headers does.
    pub async fn send<R: quadrille_core::Record>(&mut self, record: &R) -> anyhow::Result<Placed> {
        let value = self.framed(record).await?;
        self.send_raw(&R::TYPE.topic.name, Some(record.key().as_bytes()), &value, &[]).await
    }

    /// Sends anything.
    pub async fn send_raw(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, String)],
    ) -> anyhow::Result<Placed> {
        self.producer.send(topic, key, value, headers).await
    }

    /// All that a topic holds now.
    pub async fn read(&self, topic: &str) -> anyhow::Result<Vec<Record>> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut records = vec![];
            Reader::connect(&settings.kafka)?.read_to_end(&topic, Start::Beginning, |record| {
                records.push(record);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(records)
        })
        .await?
    }

    /// Reads a topic from its beginning, and on as it grows, until `enough` says so of what was read.
    pub async fn read_until(
        &self,
        topic: &str,
        mut enough: impl FnMut(&[Record]) -> bool + Send + 'static,
    ) -> anyhow::Result<Vec<Record>> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let reader = Reader::connect(&settings.kafka)?;
            let partitions = reader.partitions(&[&topic])?;
            let positions = reader.positions(&partitions, Start::Beginning)?;
            let follow = reader.follow(&positions)?;
            let mut records = vec![];
            while !enough(&records) {
                match follow.next(TIMEOUT)? {
                    Some(record) => records.push(record),
                    None => anyhow::bail!("{topic}: {} records came, and nothing more in {TIMEOUT:?}", records.len()),
                }
            }
            Ok(records)
        })
        .await?
    }
}

async fn create(topics: &[TopicType], settings: &Settings) -> anyhow::Result<()> {
    let names: Vec<String> = topics.iter().map(|topic| settings.topic(&topic.name)).collect();
    let own: Vec<_> = topics.iter().map(|topic| topic.settings()).collect();
    let topics = topics.iter().zip(&names).zip(&own).map(|((topic, name), own)| {
        let new = NewTopic::new(name, topic.partitions as i32, TopicReplication::Fixed(1));
        own.iter().fold(new, |new, (key, value)| new.set(key, value))
    });
    Admin::connect(&settings.kafka)?.create(&topics.collect::<Vec<_>>()).await
}

/// Waits until every new partition has its leader: the broker shows a topic a little before.
async fn led(topics: &[TopicType], settings: &Settings) -> anyhow::Result<()> {
    let (names, kafka) = (names(topics), settings.kafka.clone());
    tokio::task::spawn_blocking(move || {
        let reader = Reader::connect(&kafka)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let deadline = Instant::now() + TIMEOUT;
        while let Err(error) = reader.partitions(&names) {
            anyhow::ensure!(Instant::now() < deadline, error);
        }
        Ok(())
    })
    .await?
}

fn names(topics: &[TopicType]) -> Vec<String> {
    topics.iter().map(|topic| topic.name.to_string()).collect()
}

/// Reads a record's value as the type that it is said to be.
pub fn decoded<R: quadrille_core::Record>(record: &Record) -> anyhow::Result<R> {
    let (_, datum) = unframe(record.value.as_deref().unwrap_or_default())?;
    Ok(R::decode(datum)?)
}

impl Drop for World {
    fn drop(&mut self) {
        let (names, kafka) = (names(&self.topics), self.settings.kafka.clone());
        let deleted = std::thread::spawn(move || -> anyhow::Result<()> {
            let names: Vec<String> = names.iter().map(|name| kafka.topic(name)).collect();
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio.block_on(async { Admin::connect(&kafka)?.delete(&names).await })
        });
        if !matches!(deleted.join(), Ok(Ok(()))) {
            eprintln!("the topics under {} are left behind", self.prefix());
        }
    }
}
