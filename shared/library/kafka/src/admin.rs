//! Topics as they are on the broker, and their making and fixing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use rdkafka::{
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::{
    Connection,
    broker::{READER, TIMEOUT, explained, hurried, patiently},
};

/// How often it is looked whether a change shows.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A connection for administration.
pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    connection: Connection,
}

/// A topic as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFound {
    /// How many partitions it has.
    pub partitions: usize,
    /// Every setting in effect, whoever set it.
    pub settings: BTreeMap<String, String>,
    /// What was set on this very topic: a change must repeat it, or it is lost.
    own: BTreeMap<String, String>,
}

impl TopicFound {
    /// One made by hand, for tests.
    pub fn new(partitions: usize, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { partitions, settings, own: BTreeMap::new() }
    }
}

impl Admin {
    /// Connects; the first call tells whether a broker is there.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let client = hurried(connection.client(READER)).create().context("The Kafka client cannot be made")?;
        Ok(Self { client, connection: connection.clone() })
    }

    /// The topics of these physical names that exist.
    pub async fn find(&self, names: &[String]) -> anyhow::Result<BTreeMap<String, TopicFound>> {
        // Metadata is asked for all topics: asking for one by name would be a request to make it, where brokers allow that.
        let metadata = tokio::task::block_in_place(|| {
            patiently(&self.connection, |patience| self.client.inner().fetch_metadata(None, patience))
        })?;
        let partitions: BTreeMap<&str, usize> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name(), topic.partitions().len()))
            .collect();
        let present: Vec<&String> = names.iter().filter(|name| partitions.contains_key(name.as_str())).collect();
        if present.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<_> = present.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let described = self
            .client
            .describe_configs(&resources, &options())
            .await
            .map_err(|error| explained(&self.connection, error))?;
        let mut found = BTreeMap::new();
        for (name, resource) in present.into_iter().zip(described) {
            let resource = resource.map_err(|code| anyhow!("The settings of topic {name} cannot be read: {code}"))?;
            let valued = || resource.entries.iter().filter_map(|entry| Some((entry, entry.value.clone()?)));
            let own = valued().filter(|(entry, _)| entry.source == ConfigSource::DynamicTopic);
            let topic = TopicFound {
                partitions: partitions[name.as_str()],
                settings: valued().map(|(entry, value)| (entry.name.clone(), value)).collect(),
                own: own.map(|(entry, value)| (entry.name.clone(), value)).collect(),
            };
            found.insert(name.clone(), topic);
        }
        Ok(found)
    }

    /// Makes topics, and returns once the broker shows them all.
    ///
    /// One that came to be in the meantime is no error: whoever made it reads the same declaration.
    pub async fn create(&self, topics: &[NewTopic<'_>]) -> anyhow::Result<()> {
        let results =
            self.client.create_topics(topics, &options()).await.map_err(|error| explained(&self.connection, error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(anyhow!(code).context(format!("Topic {name} cannot be made"))),
            }
        }
        // The controller has them; a broker shows them a little later, and who starts now should find them.
        let names: Vec<String> = topics.iter().map(|topic| topic.name.to_owned()).collect();
        let deadline = Instant::now() + TIMEOUT;
        while self.find(&names).await?.len() < names.len() {
            anyhow::ensure!(Instant::now() < deadline, "The broker took the new topics but does not show them all");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Sets settings of a topic, leaves its others as they are, and returns once the broker shows them.
    pub async fn set(&self, name: &str, found: &TopicFound, settings: &[(&'static str, String)]) -> anyhow::Result<()> {
        // The client knows only the request that replaces all of a topic's own settings, so they are sent along.
        let mut wanted: BTreeMap<&str, &str> = found.own.iter().map(|(key, value)| (&**key, &**value)).collect();
        wanted.extend(settings.iter().map(|(key, value)| (*key, value.as_str())));
        let change = AlterConfig { specifier: ResourceSpecifier::Topic(name), entries: wanted.into_iter().collect() };
        let results = self
            .client
            .alter_configs([&change], &options())
            .await
            .map_err(|error| explained(&self.connection, error))?;
        for result in results {
            result.map_err(|(_, code)| anyhow!("The settings of topic {name} cannot be changed: {code}"))?;
        }
        let shown = |found: &TopicFound| settings.iter().all(|(key, value)| found.settings.get(*key) == Some(value));
        let deadline = Instant::now() + TIMEOUT;
        while !self.find(&[name.to_owned()]).await?.get(name).is_some_and(shown) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "The broker took new settings of topic {name} but does not show them"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Deletes topics by their physical names. Those that are not there are passed over.
    pub async fn delete(&self, names: &[String]) -> anyhow::Result<()> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let results =
            self.client.delete_topics(&names, &options()).await.map_err(|error| explained(&self.connection, error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => return Err(anyhow!("Topic {name} cannot be deleted: {code}")),
            }
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}
