//! Reading topics to their end, and following them from there.
//!
//! Without a consumer group: what is read here moves nobody's offsets. Only committed records are seen.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Instant};

use anyhow::{Context, bail};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{PATIENCE, Record, client, explained, settled};
use crate::Settings;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that there is.
    Beginning,
    /// After the last record that there is.
    End,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record with this timestamp (in milliseconds) or a later one.
    Time(i64),
}

/// A partition and the offsets it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The topic, without prefix.
    pub topic: Arc<str>,
    /// Its number.
    pub number: i32,
    /// The first offset that there is.
    pub low: i64,
    /// The offset that the next record will have.
    pub high: i64,
}

/// What has been read up to: the next offset by topic (without prefix) and partition.
pub type Positions = BTreeMap<(Arc<str>, i32), i64>;

/// A reader of topics. Its calls block: use it from a thread that may wait.
pub struct Reader {
    consumer: BaseConsumer,
    settings: Settings,
}

impl Reader {
    /// Prepares a reader; the first call tells whether a broker is there.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let consumer = client(settings)
            // Required by the client, never joined.
            .set("group.id", "quadrille-cli")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            // The end is an event of its own: transaction markers take up offsets, so no record need ever come with the last one.
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "32768")
            .create()
            .context("The Kafka client cannot be made")?;
        Ok(Self { consumer, settings: settings.clone() })
    }

    /// The partitions of these topics, with their offsets now. A topic that is not there is an error that names it.
    pub fn partitions(&self, topics: &[&str]) -> anyhow::Result<Vec<Partition>> {
        let metadata =
            self.consumer.fetch_metadata(None, PATIENCE).map_err(|error| explained(&self.settings, error))?;
        let mut partitions = Vec::new();
        let mut missing = Vec::new();
        for topic in topics {
            let physical = self.settings.topic(topic);
            let Some(found) = metadata.topics().iter().find(|found| found.name() == physical) else {
                missing.push(physical);
                continue;
            };
            let name: Arc<str> = Arc::from(*topic);
            for partition in found.partitions() {
                let ask = || self.consumer.fetch_watermarks(&physical, partition.id(), PATIENCE);
                let (low, high) = settled(ask).map_err(|error| explained(&self.settings, error))?;
                partitions.push(Partition { topic: name.clone(), number: partition.id(), low, high });
            }
        }
        if !missing.is_empty() {
            bail!("There is no topic {}: `quadrille topics apply` makes all that are declared", missing.join(", "));
        }
        Ok(partitions)
    }

    /// Reads one topic from `start` to its end as it was at the call (and a little beyond, if it grows meanwhile).
    ///
    /// Within a partition records come in their order. `visit` may stop early. Returns where reading ended.
    pub fn read_to_end(
        &self,
        topic: &str,
        start: Start,
        mut visit: impl FnMut(Record) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Positions> {
        let partitions = self.partitions(&[topic])?;
        let mut positions = self.positions(&partitions, start)?;
        let mut open: BTreeMap<i32, i64> = partitions
            .iter()
            .filter(|partition| positions[&(partition.topic.clone(), partition.number)] < partition.high)
            .map(|partition| (partition.number, partition.high))
            .collect();
        let assigned = positions.iter().filter(|((_, number), _)| open.contains_key(number));
        self.assign(assigned)?;

        let name: Arc<str> = Arc::from(topic);
        let mut heard = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(PATIENCE / 20) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let (number, next) =
                        (rdkafka::Message::partition(&message), rdkafka::Message::offset(&message) + 1);
                    positions.insert((name.clone(), number), next);
                    if visit(Record::of(name.clone(), &message))?.is_break() {
                        break;
                    }
                    if open.get(&number).is_some_and(|high| next >= *high) {
                        open.remove(&number);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    heard = Instant::now();
                    open.remove(&number);
                }
                Some(Err(error)) if is_passing(&error) && heard.elapsed() < PATIENCE => {}
                Some(Err(error)) => {
                    return Err(explained(&self.settings, error).context(format!("Topic {topic} cannot be read")));
                }
                None if heard.elapsed() >= PATIENCE => {
                    bail!(
                        "Topic {topic} was read in part only: the broker says nothing more, though the end was not reached"
                    );
                }
                None => {}
            }
        }
        self.consumer.unassign().map_err(|error| explained(&self.settings, error))?;
        Ok(positions)
    }

    /// Where each partition's reading begins for a `start`.
    pub fn positions(&self, partitions: &[Partition], start: Start) -> anyhow::Result<Positions> {
        let keyed = |partition: &Partition, offset: i64| ((partition.topic.clone(), partition.number), offset);
        let Start::Time(ms) = start else {
            let offset = |partition: &Partition| match start {
                Start::Beginning => partition.low,
                Start::Offset(offset) => offset.clamp(partition.low, partition.high),
                Start::End | Start::Time(_) => partition.high,
            };
            return Ok(partitions.iter().map(|partition| keyed(partition, offset(partition))).collect());
        };
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition_offset(&self.settings.topic(&partition.topic), partition.number, Offset::Offset(ms))?;
        }
        let answer = settled(|| self.consumer.offsets_for_times(asked.clone(), PATIENCE))
            .map_err(|error| explained(&self.settings, error))?;
        let offset = |partition: &Partition| {
            let found = answer.find_partition(&self.settings.topic(&partition.topic), partition.number);
            match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => partition.high,
            }
        };
        Ok(partitions.iter().map(|partition| keyed(partition, offset(partition))).collect())
    }

    /// Goes on reading from these positions, without end.
    pub fn follow(&self, positions: &Positions) -> anyhow::Result<Follow<'_>> {
        self.assign(positions.iter())?;
        let names = positions.keys().map(|(topic, _)| (self.settings.topic(topic), topic.clone())).collect();
        Ok(Follow { reader: self, names })
    }

    fn assign<'a>(&self, positions: impl Iterator<Item = (&'a (Arc<str>, i32), &'a i64)>) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for ((topic, number), offset) in positions {
            list.add_partition_offset(&self.settings.topic(topic), *number, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list).map_err(|error| explained(&self.settings, error))
    }
}

/// A reader that has gone live.
pub struct Follow<'a> {
    reader: &'a Reader,
    names: BTreeMap<String, Arc<str>>,
}

impl Follow<'_> {
    /// The next record, or `None` where none came in time.
    pub fn next(&self, patience: std::time::Duration) -> anyhow::Result<Option<Record>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.reader.consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                None => return Ok(None),
                Some(Ok(message)) => {
                    let Some(name) = self.names.get(rdkafka::Message::topic(&message)) else {
                        continue;
                    };
                    return Ok(Some(Record::of(name.clone(), &message)));
                }
                // A broker that is away comes back: whoever watches waits for it.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(explained(&self.reader.settings, error)),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}
