//! Reading topics to their end, and following them from there.
//!
//! Without a consumer group: what is read here moves nobody's offsets. Only committed records are seen. Offsets at which nothing can
//! be read, however often it is tried, are passed over and told: [`Reader::unreadable`].

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::ControlFlow, sync::Arc, time::Instant};

use anyhow::{Context, bail};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
};

use crate::{
    Brokers, Connection, Record,
    broker::{READER, TIMEOUT, explained, hurried, is_passing, patiently, settled},
    is_unreadable, unreadable,
};

/// So often reading is tried again at a place that cannot be read, before it counts as an error of the whole topic.
const TRIES: u32 = 5;

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

/// Offsets at which nothing can be read: those from `from` to before `to`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unreadable {
    /// The topic, without prefix.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first such offset.
    pub from: i64,
    /// The first offset behind them at which something can be read, or at which the next record will lie.
    pub to: i64,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, from, to } = self;
        write!(f, "{topic}/{partition}@{from}")?;
        if to - from > 1 {
            write!(f, " to {}", to - 1)?;
        }
        write!(f, " cannot be read: a batch that the client does not unpack, such as one of more than 100 MB")
    }
}

/// What lies at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A record.
    Record(Record),
    /// A batch that cannot be unpacked.
    Unreadable(Unreadable),
    /// No record that a consumer gets: retention or compaction took it, it was aborted, or it is the mark of a transaction. The next
    /// record, if there is one, lies at this offset.
    Nothing(Option<i64>),
}

/// A reader of topics. Its calls block: use it from a thread that may wait.
pub struct Reader {
    consumer: BaseConsumer,
    connection: Connection,
    unreadable: RefCell<Vec<Unreadable>>,
}

fn config(connection: &Connection) -> ClientConfig {
    let mut config = hurried(connection.observer(READER, READER));
    config
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // The end is an event of its own: transaction markers take up offsets, so no record need ever come with the last one.
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "32768");
    config
}

fn consumer(connection: &Connection) -> anyhow::Result<BaseConsumer> {
    config(connection).create().context("The Kafka client cannot be made")
}

impl Reader {
    /// Prepares a reader; the first call tells whether a broker is there.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        Ok(Self { consumer: consumer(connection)?, connection: connection.clone(), unreadable: RefCell::default() })
    }

    /// What could not be read and was passed over since this was last asked.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.unreadable.take()
    }

    /// The partitions of these topics, with their offsets now. A topic that is not there is an error that names it.
    pub fn partitions(&self, topics: &[&str]) -> anyhow::Result<Vec<Partition>> {
        let metadata = patiently(&self.connection, |patience| self.consumer.fetch_metadata(None, patience))?;
        let mut partitions = Vec::new();
        let mut missing = Vec::new();
        for topic in topics {
            let physical = self.connection.topic(topic);
            let Some(found) = metadata.topics().iter().find(|found| found.name() == physical) else {
                missing.push(physical);
                continue;
            };
            let name: Arc<str> = Arc::from(*topic);
            for partition in found.partitions() {
                let ask = || self.consumer.fetch_watermarks(&physical, partition.id(), TIMEOUT);
                let (low, high) = settled(ask).map_err(|error| explained(&self.connection, error))?;
                partitions.push(Partition { topic: name.clone(), number: partition.id(), low, high });
            }
        }
        if !missing.is_empty() {
            bail!("There is no topic {}: `quadrille topics apply` makes all that are declared", missing.join(", "));
        }
        Ok(partitions)
    }

    /// Reads one topic from `start` to its end as it is now (and a little beyond, if it grows meanwhile).
    ///
    /// Within a partition records come in their order. `visit` may stop early. Returns where reading ended.
    pub fn read_to_end(
        &self,
        topic: &str,
        start: Start,
        visit: impl FnMut(Record) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Positions> {
        self.read(&self.partitions(&[topic])?, start, visit)
    }

    /// Reads the partitions of one topic from `start` to the ends that were noted (and a little beyond), as [`Self::read_to_end`] does.
    pub fn read(
        &self,
        partitions: &[Partition],
        start: Start,
        mut visit: impl FnMut(Record) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Positions> {
        let mut positions = self.positions(partitions, start)?;
        let Some(topic) = partitions.first().map(|partition| partition.topic.clone()) else { return Ok(positions) };
        let mut open: BTreeMap<i32, i64> = partitions
            .iter()
            .filter(|partition| positions[&(partition.topic.clone(), partition.number)] < partition.high)
            .map(|partition| (partition.number, partition.high))
            .collect();
        self.assign(positions.iter().filter(|((_, number), _)| open.contains_key(number)))?;

        let (mut heard, mut tries) = (Instant::now(), 0);
        while !open.is_empty() {
            match self.consumer.poll(TIMEOUT / 20) {
                Some(Ok(message)) => {
                    (heard, tries) = (Instant::now(), 0);
                    let (number, next) =
                        (rdkafka::Message::partition(&message), rdkafka::Message::offset(&message) + 1);
                    positions.insert((topic.clone(), number), next);
                    if visit(Record::of(topic.clone(), &message))?.is_break() {
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
                Some(Err(error)) if is_passing(&error) && heard.elapsed() < TIMEOUT => {}
                Some(Err(error)) if is_unreadable(&error) && tries < TRIES => {
                    let ends = |(_, number): &(Arc<str>, i32)| open.get(number).copied();
                    let is_past = self.pass_over(&mut positions, ends)?;
                    (heard, tries) = (Instant::now(), if is_past { 0 } else { tries + 1 });
                    open.retain(|number, high| positions[&(topic.clone(), *number)] < *high);
                    self.assign(positions.iter().filter(|((_, number), _)| open.contains_key(number)))?;
                }
                Some(Err(error)) => {
                    return Err(explained(&self.connection, error).context(format!("Topic {topic} cannot be read")));
                }
                None if heard.elapsed() >= TIMEOUT => {
                    bail!(
                        "Topic {topic} was read in part only: the broker says nothing more, though the end was not reached"
                    );
                }
                None => {}
            }
        }
        self.consumer.unassign().map_err(|error| explained(&self.connection, error))?;
        Ok(positions)
    }

    /// Moves each position at which nothing can be read behind what cannot, and notes what that is; whether there was any. An error of
    /// the client's does not say of which partition it is: each is looked at that has an end and has not reached it.
    fn pass_over(
        &self,
        positions: &mut Positions,
        end: impl Fn(&(Arc<str>, i32)) -> Option<i64>,
    ) -> anyhow::Result<bool> {
        let before = self.unreadable.borrow().len();
        for (place, position) in positions {
            let Some(end) = end(place).filter(|end| *position < *end) else { continue };
            let to = self.behind(place, *position)?.min(end);
            if to > *position {
                let unreadable = Unreadable { topic: place.0.clone(), partition: place.1, from: *position, to };
                self.unreadable.borrow_mut().push(unreadable);
                *position = to;
            }
        }
        Ok(self.unreadable.borrow().len() > before)
    }

    /// What lies at one offset.
    ///
    /// # Errors
    ///
    /// The topic has no such partition, or the offset lies before or behind all that it holds.
    pub fn at(&self, topic: &str, number: i32, offset: i64) -> anyhow::Result<At> {
        let partitions = self.partitions(&[topic])?;
        let found = partitions.iter().find(|partition| partition.number == number);
        let Partition { topic, low, high, .. } = found
            .with_context(|| format!("{topic} has no partition {number}: they are 0 to {}", partitions.len() - 1))?;
        if !(*low..*high).contains(&offset) {
            bail!("{topic}/{number} holds the offsets {low} to {}, so there is no {offset}", high - 1);
        }
        let place = (topic.clone(), number);
        // Of this partition alone: only so an error tells of which it is.
        let consumer = consumer(&self.connection)?;
        assign(&consumer, &self.connection, [(&place, &offset)].into_iter())?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => {
                    let record = Record::of(place.0, &message);
                    let is_there = record.offset == offset;
                    return Ok(if is_there { At::Record(record) } else { At::Nothing(Some(record.offset)) });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(At::Nothing(None)),
                Some(Err(error)) if is_unreadable(&error) => {
                    let to = self.behind(&place, offset)?;
                    return Ok(At::Unreadable(Unreadable { topic: place.0, partition: number, from: offset, to }));
                }
                Some(Err(error)) if is_passing(&error) && Instant::now() < deadline => {}
                Some(Err(error)) => return Err(explained(&self.connection, error)),
                None => bail!("{}/{number}@{offset}: the broker says nothing", place.0),
            }
        }
    }

    /// The first offset from `from` on that does not lie in a batch which cannot be read.
    fn behind(&self, place: &(Arc<str>, i32), from: i64) -> anyhow::Result<i64> {
        let found = unreadable(&config(&self.connection), &self.connection.topic(&place.0), place.1, from, TIMEOUT);
        Ok(found.map_err(|error| explained(&self.connection, error))?.map_or(from, |found| found.to))
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
            asked.add_partition_offset(
                &self.connection.topic(&partition.topic),
                partition.number,
                Offset::Offset(ms),
            )?;
        }
        let answer = settled(|| self.consumer.offsets_for_times(asked.clone(), TIMEOUT))
            .map_err(|error| explained(&self.connection, error))?;
        let offset = |partition: &Partition| {
            let found = answer.find_partition(&self.connection.topic(&partition.topic), partition.number);
            match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => partition.high,
            }
        };
        Ok(partitions.iter().map(|partition| keyed(partition, offset(partition))).collect())
    }

    /// Goes on reading from these positions, without end.
    pub fn follow(&self, positions: &Positions) -> anyhow::Result<Follow<'_>> {
        let client = RefCell::new(following(&self.connection, positions)?);
        let names = positions.keys().map(|(topic, _)| (self.connection.topic(topic), topic.clone())).collect();
        Ok(Follow { reader: self, client, names, positions: RefCell::new(positions.clone()) })
    }

    fn assign<'a>(&self, positions: impl Iterator<Item = (&'a (Arc<str>, i32), &'a i64)>) -> anyhow::Result<()> {
        assign(&self.consumer, &self.connection, positions)
    }
}

fn assign<'a, C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    connection: &Connection,
    positions: impl Iterator<Item = (&'a (Arc<str>, i32), &'a i64)>,
) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    for ((topic, number), offset) in positions {
        list.add_partition_offset(&connection.topic(topic), *number, Offset::Offset(*offset))?;
    }
    consumer.assign(&list).map_err(|error| explained(connection, error))
}

/// A reader that has gone live.
pub struct Follow<'a> {
    reader: &'a Reader,
    /// Kept for so long that it may see a broker start.
    client: RefCell<BaseConsumer<Brokers>>,
    names: BTreeMap<String, Arc<str>>,
    positions: RefCell<Positions>,
}

fn following(connection: &Connection, positions: &Positions) -> anyhow::Result<BaseConsumer<Brokers>> {
    let mut config = config(connection);
    let client = config.set("statistics.interval.ms", "5000").create_with_context(Brokers::default());
    let client = client.context("The Kafka client cannot be made")?;
    assign(&client, connection, positions.iter())?;
    Ok(client)
}

impl Follow<'_> {
    /// The next record, or `None` where none came in time.
    pub fn next(&self, patience: std::time::Duration) -> anyhow::Result<Option<Record>> {
        let deadline = Instant::now() + patience;
        if self.client.borrow().context().are_forgotten() {
            self.client.replace(following(&self.reader.connection, &self.positions.borrow())?);
        }
        let client = self.client.borrow();
        loop {
            match client.poll(deadline.saturating_duration_since(Instant::now())) {
                None => return Ok(None),
                Some(Ok(message)) => {
                    let Some(name) = self.names.get(rdkafka::Message::topic(&message)) else {
                        continue;
                    };
                    let record = Record::of(name.clone(), &message);
                    self.positions.borrow_mut().insert((name.clone(), record.partition), record.offset + 1);
                    return Ok(Some(record));
                }
                // A broker that is away comes back: whoever watches waits for it.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) if is_unreadable(&error) => self.pass_over(&client)?,
                Some(Err(error)) => return Err(explained(&self.reader.connection, error)),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Goes on behind what cannot be read.
    fn pass_over(&self, client: &BaseConsumer<Brokers>) -> anyhow::Result<()> {
        let topics: Vec<&str> = self.names.values().map(|name| &**name).collect();
        // The reader's own client may have forgotten every broker meanwhile.
        let partitions = Reader::connect(&self.reader.connection)?.partitions(&topics)?;
        let ends: Positions = partitions.into_iter().map(|found| ((found.topic, found.number), found.high)).collect();
        let mut positions = self.positions.borrow_mut();
        self.reader.pass_over(&mut positions, |place| ends.get(place).copied())?;
        assign(client, &self.reader.connection, positions.iter())
    }
}
