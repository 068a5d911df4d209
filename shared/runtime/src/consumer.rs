//! From Kafka to the worker: one thread a service polls all its topics, decodes, and hands on what arrives.
//!
//! The thread never stops polling, so that the group never takes the instance for dead: a partition whose next record cannot be
//! handed on (its schema is not to be had, or the worker is behind) is paused and its record kept, the others go on.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::{counter, gauge};
use quadrille_core::{Policy, RecordType, Records};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
    statistics::Broker,
};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, error, info, warn};

use crate::{
    arrival::{Arrival, Content, Origin, RawHeaders, RawRecord},
    backoff::Backoff,
    decode::{Decoded, Decoder},
    gaps,
    ground::Ground,
    health::Health,
    kafka, operators,
    reading::Contact,
};

/// How long the thread waits for room at the worker before it pauses the partition.
const ROOM_WAIT: Duration = Duration::from_millis(500);

type Partition = (&'static str, i32);

/// A service's membership in its group.
pub(crate) struct Consumer {
    client: Arc<BaseConsumer<Group>>,
}

/// Which partitions are ours, each with the number of its assignment.
pub(crate) struct Group {
    topics: HashMap<String, &'static str>,
    service: &'static str,
    brokers: String,
    /// For the look at gaps: a client that joins no group.
    onlooker: ClientConfig,
    health: Arc<Health>,
    contact: Arc<Contact>,
    state: Mutex<Assigned>,
}

struct Assignment {
    generation: u64,
    /// Records that the worker has and has not committed yet.
    in_hand: usize,
}

#[derive(Default)]
struct Assigned {
    generations: u64,
    current: HashMap<Partition, Assignment>,
}

impl Consumer {
    pub fn subscribe<P: Policy>(ground: &Ground, contact: Arc<Contact>) -> anyhow::Result<Self> {
        let kafka = &ground.kafka;
        let types = P::Heard::TYPES.iter().chain(operators::TYPES);
        let mut topics: Vec<&'static str> = types.map(|RecordType { topic, .. }| *topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let physical: Vec<String> = topics.iter().map(|topic| format!("{}{topic}", kafka.topic_prefix)).collect();
        let group = Group {
            topics: physical.iter().cloned().zip(topics).collect(),
            service: P::SERVICE,
            brokers: kafka.brokers.clone(),
            onlooker: kafka::onlooker_config(kafka, P::SERVICE),
            health: Arc::clone(&ground.health),
            contact,
            state: Mutex::default(),
        };
        let client: BaseConsumer<Group> =
            kafka::consumer_config(kafka, P::SERVICE, &ground.instance).create_with_context(group)?;
        client.subscribe(&physical.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { client: Arc::new(client) })
    }

    /// Notes that records are handled: their offsets are committed within a second, or when the partition passes on.
    ///
    /// A record that was read under an earlier assignment of its partition moves nothing: its partition may have gone on elsewhere.
    pub fn handled<'a>(&self, records: impl Iterator<Item = &'a RawRecord>) {
        let group = self.client.context();
        let mut handled: HashMap<(Partition, u64), (i64, usize)> = HashMap::new();
        {
            let assigned = group.assigned();
            for record in records {
                let partition = (record.topic, record.partition);
                if assigned.is(partition, record.generation) {
                    let (next, count) = handled.entry((partition, record.generation)).or_default();
                    *next = (*next).max(record.offset + 1);
                    *count += 1;
                }
            }
        }
        group.store(&self.client, handled.iter().map(|((partition, _), (next, _))| (*partition, *next)));
        // Counted down last: from then on the poller may store what lies behind.
        let mut assigned = group.assigned();
        for ((partition, generation), (_, count)) in handled {
            if let Some(assignment) = assigned.current.get_mut(&partition)
                && assignment.generation == generation
            {
                assignment.in_hand = assignment.in_hand.saturating_sub(count);
            }
        }
    }

    /// Polls until `stop`, on a thread of its own.
    pub fn run<P: Policy>(
        &self,
        decoder: Arc<Decoder>,
        worker: mpsc::Sender<Arrival<P>>,
        most_bytes: usize,
        stop: Arc<AtomicBool>,
        tokio: tokio::runtime::Handle,
    ) {
        let mut poller = Poller {
            client: &self.client,
            decoder,
            worker,
            room: Arc::new(Semaphore::new(most_bytes)),
            most_bytes,
            tokio,
            stalled: HashMap::new(),
            skipped: HashMap::new(),
        };
        while !stop.load(Ordering::Relaxed) {
            poller.pass_over_skipped();
            poller.retry_stalled();
            let wait = if poller.stalled.is_empty() { 100 } else { 10 };
            match self.client.poll(Duration::from_millis(wait)) {
                Some(Ok(message)) => poller.take(&message),
                Some(Err(error)) => poller.report(&error),
                None => {}
            }
        }
    }

    /// Commits what is handled. The group is left when the consumer is dropped.
    pub fn commit(&self) {
        match self.client.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                warn!(%error, "The last offsets were not committed: what they cover will be met in the inbox")
            }
        }
    }
}

struct Poller<'a, P: Policy> {
    client: &'a Arc<BaseConsumer<Group>>,
    decoder: Arc<Decoder>,
    worker: mpsc::Sender<Arrival<P>>,
    room: Arc<Semaphore>,
    most_bytes: usize,
    tokio: tokio::runtime::Handle,
    stalled: HashMap<Partition, Stalled>,
    /// Where reading goes on behind records that were skipped, with the generation that they were read under.
    skipped: HashMap<Partition, (u64, i64)>,
}

/// A paused partition's records, in order; the first one waits for something.
struct Stalled {
    records: VecDeque<RawRecord>,
    fetch: Option<tokio::task::JoinHandle<Result<(), String>>>,
    retry_at: Instant,
    backoff: Backoff,
}

enum Passed {
    On,
    NeedsSchema(RawRecord, u32),
    NoRoom(RawRecord),
}

impl<P: Policy> Poller<'_, P> {
    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(record) = self.client.context().own(message) else {
            return;
        };
        let partition = (record.topic, record.partition);
        if let Some(stalled) = self.stalled.get_mut(&partition) {
            stalled.records.push_back(record);
            return;
        }
        match self.pass(record, ROOM_WAIT) {
            Passed::On => {}
            Passed::NeedsSchema(record, id) => self.stall(partition, record, Some(id)),
            Passed::NoRoom(record) => self.stall(partition, record, None),
        }
    }

    fn pass(&mut self, record: RawRecord, room_wait: Duration) -> Passed {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        let content = match self.decoder.decode::<P>(&record, now_ms) {
            Decoded::NeedsSchema(id) => return Passed::NeedsSchema(record, id),
            Decoded::Input(envelope) => Content::Input(envelope),
            Decoded::Asked(asked) => Content::Asked(asked),
            Decoded::Rejected(rejection) => Content::Rejected(rejection),
            Decoded::Skipped(name) => {
                counter!("quadrille_records_skipped_total", "topic" => record.topic, "type" => name).increment(1);
                self.skipped.insert((record.topic, record.partition), (record.generation, record.offset + 1));
                return Passed::On;
            }
        };
        // Bounded in count and in bytes: what waits here while the database is away is memory.
        let bytes = record.bytes().clamp(1, self.most_bytes) as u32;
        let room = async {
            let bytes = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok();
            self.worker.reserve().await.map(|slot| (slot, bytes))
        };
        let room = self.tokio.block_on(async { tokio::time::timeout(room_wait, room).await });
        match room {
            Ok(Ok((slot, room))) => {
                // What was skipped before it goes on with it.
                self.skipped.remove(&(record.topic, record.partition));
                self.client.context().take_in_hand(&record);
                slot.send(Arrival { origin: Origin::Record(Box::new(record)), content, room });
                Passed::On
            }
            Err(_elapsed) => Passed::NoRoom(record),
            // The worker has ended, and this thread is about to: nothing passes it.
            Ok(Err(_closed)) => Passed::NoRoom(record),
        }
    }

    fn stall(&mut self, partition: Partition, record: RawRecord, schema: Option<u32>) {
        if let Err(error) = self.client.pause(&self.client.context().list(partition)) {
            debug!(%error, "A partition that just went could not be paused");
        }
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let retry_at = Instant::now() + backoff.wait();
        let mut stalled = Stalled { records: VecDeque::from([record]), fetch: None, retry_at, backoff };
        if let Some(id) = schema {
            stalled.fetch = Some(self.fetch(partition.0, id));
        }
        self.stalled.insert(partition, stalled);
    }

    fn fetch(&self, topic: &'static str, id: u32) -> tokio::task::JoinHandle<Result<(), String>> {
        let decoder = Arc::clone(&self.decoder);
        self.tokio.spawn(async move { decoder.fetch(topic, id).await.map_err(|error| error.to_string()) })
    }

    fn retry_stalled(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        let partitions: Vec<Partition> = self.stalled.keys().copied().collect();
        for partition in partitions {
            if !self.client.context().owns(partition) {
                self.stalled.remove(&partition);
                continue;
            }
            let Some(mut stalled) = self.stalled.remove(&partition) else {
                continue;
            };
            if self.unstall(partition, &mut stalled) {
                match self.client.resume(&self.client.context().list(partition)) {
                    Ok(()) => continue,
                    Err(error) => debug!(%error, "A partition could not be resumed yet"),
                }
            }
            self.stalled.insert(partition, stalled);
        }
        if self.stalled.values().all(|stalled| stalled.fetch.is_none()) {
            self.client.context().health.ok("registry");
        }
    }

    /// Whether the partition can go on.
    fn unstall(&mut self, partition: Partition, stalled: &mut Stalled) -> bool {
        if let Some(fetch) = &mut stalled.fetch {
            if !fetch.is_finished() || Instant::now() < stalled.retry_at {
                return false;
            }
            match self.tokio.block_on(fetch) {
                Ok(Ok(())) => stalled.fetch = None,
                failed => {
                    let cause = match failed {
                        Ok(Err(cause)) => cause,
                        other => format!("{other:?}"),
                    };
                    self.client.context().health.error("registry", &cause);
                    warn!(topic = partition.0, partition = partition.1, "A partition waits for a schema: {cause}");
                    stalled.retry_at = Instant::now() + stalled.backoff.wait();
                    let Some(Decoded::NeedsSchema(id)) =
                        stalled.records.front().map(|r| self.decoder.decode::<P>(r, 0))
                    else {
                        stalled.fetch = None;
                        return false;
                    };
                    stalled.fetch = Some(self.fetch(partition.0, id));
                    return false;
                }
            }
        }
        while let Some(record) = stalled.records.pop_front() {
            match self.pass(record, Duration::ZERO) {
                Passed::On => {}
                Passed::NoRoom(record) => {
                    stalled.records.push_front(record);
                    return false;
                }
                Passed::NeedsSchema(record, id) => {
                    stalled.records.push_front(record);
                    stalled.fetch = Some(self.fetch(partition.0, id));
                    return false;
                }
            }
        }
        true
    }

    /// Moves offsets past skipped records, once nothing before them is still to be committed.
    fn pass_over_skipped(&mut self) {
        if self.skipped.is_empty() {
            return;
        }
        let group = self.client.context();
        let assigned = group.assigned();
        let mut done = vec![];
        self.skipped.retain(|partition, (generation, next)| match assigned.current.get(partition) {
            Some(assignment) if assignment.generation == *generation && assignment.in_hand > 0 => true,
            Some(assignment) if assignment.generation == *generation => {
                done.push((*partition, *next));
                false
            }
            _ => false,
        });
        drop(assigned);
        group.store(self.client, done.into_iter());
    }

    fn report(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                // Said in health too, by `Group::stats`, for as long as it is so.
                error!(%error, "A topic that this service hears is gone");
            }
            _ => {
                counter!("quadrille_consumer_errors_total").increment(1);
                warn!(%error, "The consumer met an error and goes on");
            }
        }
    }
}

impl Assigned {
    fn is(&self, partition: Partition, generation: u64) -> bool {
        self.current.get(&partition).is_some_and(|assignment| assignment.generation == generation)
    }
}

impl Group {
    fn assigned(&self) -> std::sync::MutexGuard<'_, Assigned> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in_hand(&self, record: &RawRecord) {
        let mut assigned = self.assigned();
        if assigned.is((record.topic, record.partition), record.generation)
            && let Some(assignment) = assigned.current.get_mut(&(record.topic, record.partition))
        {
            assignment.in_hand += 1;
        }
    }

    /// Stores where reading goes on; the client commits it. Refused where a partition was revoked just now: its next owner meets
    /// the inbox.
    fn store(&self, client: &BaseConsumer<Self>, next: impl Iterator<Item = (Partition, i64)>) {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in next {
            let topic = self.physical(topic).unwrap_or(topic);
            let added = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            debug_assert!(added.is_ok());
        }
        if list.count() > 0
            && let Err(error) = client.store_offsets(&list)
        {
            debug!(%error, "Offsets were not stored");
        }
    }

    fn owns(&self, partition: Partition) -> bool {
        self.assigned().current.contains_key(&partition)
    }

    fn physical(&self, topic: &str) -> Option<&str> {
        self.topics.iter().find(|(_, logical)| **logical == topic).map(|(physical, _)| physical.as_str())
    }

    fn list(&self, (topic, partition): Partition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(self.physical(topic).unwrap_or(topic), partition);
        list
    }

    /// Copies a message of a partition that is ours.
    fn own(&self, message: &BorrowedMessage<'_>) -> Option<RawRecord> {
        let topic = *self.topics.get(message.topic())?;
        let generation = self.assigned().current.get(&(topic, message.partition()))?.generation;
        // The client panics at a header name that is not UTF-8.
        let headers = catch_unwind(AssertUnwindSafe(|| {
            message
                .headers()
                .map(|headers| headers.iter().map(|header| (header.key, header.value)).collect())
                .unwrap_or_default()
        }));
        let headers: Option<RawHeaders> = headers.ok();
        Some(RawRecord {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            generation,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            unreadable_headers: headers.is_none(),
            headers: headers.unwrap_or_default(),
        })
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let known = |topic: &str| self.topics.get(topic).copied();
        list.elements().iter().filter_map(|element| Some((known(element.topic())?, element.partition()))).collect()
    }
}

impl ClientContext for Group {
    /// Called every few seconds: says in health whether a broker is there and has our topics, and in metrics what is still to be read.
    fn stats(&self, statistics: Statistics) {
        let up = |broker: &Broker| broker.nodeid >= 0 && broker.state == "UP";
        let gone = self.topics.keys().find(|topic| {
            statistics.topics.get(*topic).is_some_and(|stats| stats.partitions.keys().all(|partition| *partition < 0))
        });
        let reached = statistics.brokers.values().any(up);
        if reached {
            self.contact.is_there();
        } else {
            self.contact.is_lost();
        }
        if !reached {
            self.health.error("kafka", &format!("no broker at {} answers", self.brokers));
        } else if let Some(topic) = gone {
            self.health.error("kafka", &format!("topic {topic}, which this service hears, is gone"));
        } else {
            self.health.ok("kafka");
        }
        let mut changed = None;
        for (topic, stats) in statistics.topics {
            let count = stats.partitions.keys().filter(|partition| **partition >= 0).count();
            changed = changed.or_else(|| kafka::changed_partitions(&topic, self.topics.get(&topic)?, count));
            for (partition, stats) in stats.partitions {
                let Some(topic) = self.topics.get(topic.as_str()) else {
                    continue;
                };
                if self.owns((*topic, partition)) && stats.consumer_lag >= 0 {
                    gauge!("quadrille_consumer_lag", "topic" => *topic, "partition" => partition.to_string())
                        .set(stats.consumer_lag as f64);
                }
            }
        }
        match changed {
            None => self.health.ok("partitions"),
            Some(changed) => {
                error!("{changed}");
                self.health.error("partitions", &changed);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.contact.is_lost();
        }
        debug!(%error, reason, "The Kafka client reports");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            // What is handled is committed before the partition passes on, so that its next owner starts there.
            if let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
                debug!(%error, "Nothing to commit before partitions pass on");
            }
            let gone = self.partitions(list);
            let mut assigned = self.assigned();
            for (topic, partition) in &gone {
                assigned.current.remove(&(*topic, *partition));
                gauge!("quadrille_consumer_lag", "topic" => *topic, "partition" => partition.to_string()).set(0.0);
            }
            info!(service = self.service, "{} partitions pass on", gone.len());
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            let new = self.partitions(list);
            let mut assigned = self.assigned();
            assigned.generations += 1;
            let generation = assigned.generations;
            let assignment = |partition: &Partition| (*partition, Assignment { generation, in_hand: 0 });
            assigned.current.extend(new.iter().map(assignment));
            drop(assigned);
            // One that was paused when it passed on comes back paused.
            if let Err(error) = consumer.resume(list) {
                warn!(%error, "Partitions that came back could not be resumed");
            }
            if !new.is_empty() {
                info!(service = self.service, "{} partitions are ours", new.len());
                gaps::look(self.onlooker.clone(), self.service, (*list).clone());
            }
        }
    }
}
