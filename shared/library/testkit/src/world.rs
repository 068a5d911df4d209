//! A world of its own on the real broker and registry: topics under a fresh prefix, and what is needed to speak and listen there.

use std::{ops::ControlFlow, time::Instant};

use quadrille_cli::{
    Catalogue, Settings,
    kafka::{Admin, Codec, Placed, Producer, Reader, Record, Start},
    settings::Overrides,
};
use quadrille_schemas::wire::unframe;
use rdkafka::admin::{NewTopic, TopicReplication};
use uuid::Uuid;

use crate::TIMEOUT;

/// The shortest that brokers allow by default: tests that kill instances wait for it.
const SESSION_TIMEOUT_MS: u32 = 6_000;

/// Topics under a prefix of their own, deleted with this value.
pub struct World {
    /// For the command line's functions: they see this world only.
    pub settings: Settings,
    producer: Producer,
    codec: Codec,
}

impl World {
    /// Creates all topics of `catalogue` under a fresh prefix. Schemas are shared with the main world: `make up` has applied them.
    pub async fn new(catalogue: Catalogue) -> anyhow::Result<Self> {
        let prefix = format!("t{}.", &Uuid::new_v4().simple().to_string()[..10]);
        let overrides = Overrides { topic_prefix: Some(prefix.clone()), ..Overrides::default() };
        let mut settings = Settings::load(catalogue, overrides)?;
        settings.kafka.group_prefix = prefix;
        create_topics(&settings).await?;
        led(&settings).await?;
        let producer = Producer::connect(&settings.kafka)?;
        let codec = Codec::new(settings.registry()?, &[]);
        Ok(Self { settings, producer, codec })
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

async fn create_topics(settings: &Settings) -> anyhow::Result<()> {
    let topics = settings.catalogue.topics;
    let names: Vec<String> = topics.iter().map(|topic| settings.topic(&topic.name)).collect();
    let own: Vec<_> = topics.iter().map(|topic| topic.settings()).collect();
    let topics = topics.iter().zip(&names).zip(&own).map(|((topic, name), own)| {
        let new = NewTopic::new(name, topic.partitions as i32, TopicReplication::Fixed(1));
        own.iter().fold(new, |new, (key, value)| new.set(key, value))
    });
    Admin::connect(&settings.kafka)?.create(&topics.collect::<Vec<_>>()).await
}

/// Waits until every new partition has its leader: the broker shows a topic a little before.
async fn led(settings: &Settings) -> anyhow::Result<()> {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || {
        let reader = Reader::connect(&settings.kafka)?;
        let names = settings.catalogue.topic_names();
        let deadline = Instant::now() + TIMEOUT;
        while let Err(error) = reader.partitions(&names) {
            anyhow::ensure!(Instant::now() < deadline, error);
        }
        Ok(())
    })
    .await?
}

/// Reads a record's value as the type that it is said to be.
pub fn decoded<R: quadrille_core::Record>(record: &Record) -> anyhow::Result<R> {
    let (_, datum) = unframe(record.value.as_deref().unwrap_or_default())?;
    Ok(R::decode(datum)?)
}

impl Drop for World {
    fn drop(&mut self) {
        let settings = self.settings.clone();
        let deleted = std::thread::spawn(move || -> anyhow::Result<()> {
            let names: Vec<String> =
                settings.catalogue.topics.iter().map(|topic| settings.topic(&topic.name)).collect();
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio.block_on(async { Admin::connect(&settings.kafka)?.delete(&names).await })
        });
        if !matches!(deleted.join(), Ok(Ok(()))) {
            eprintln!("the topics under {} are left behind", self.prefix());
        }
    }
}
