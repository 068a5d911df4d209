//! The thread that polls: decodes each record and hands it to the worker, and parks the partitions that have to wait.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::counter;
use quadrille_core::Policy;
use quadrille_kafka::{UnreadableBatch, unreadable};
use rdkafka::{
    ClientConfig, Offset,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{Partition, group::Group};
use crate::{
    backoff::Backoff,
    decode::{Decoded, Decoder},
    limits,
    position::Reached,
    record::{RawHeaders, RawRecord},
    skips::Skips,
    work::{Rejection, Work, WorkItem},
};

/// So much of a partition is held while a schema is asked for; beyond it the partition is paused.
const MOST_HELD: usize = 1_000;
const MOST_HELD_BYTES: usize = 1 << 20;
/// How often the worker of a projection is told where reading has come to.
const TELL_REACHED: Duration = Duration::from_secs(1);
/// How long the thread waits for the worker to have capacity before it pauses the partition.
const CAPACITY_WAIT: Duration = Duration::from_millis(500);

/// Where records go, and by what way.
pub(crate) struct Downstream<P: Policy> {
    pub decoder: Arc<Decoder>,
    pub worker: mpsc::Sender<WorkItem<P>>,
    pub skips: Arc<Skips>,
    /// What waiting records may take, in bytes.
    pub memory: Arc<Semaphore>,
    pub most_bytes: usize,
    pub tokio: tokio::runtime::Handle,
}

/// One client's polling.
pub(super) struct Poller<'a, P: Policy> {
    client: &'a Arc<BaseConsumer<Group>>,
    downstream: &'a Downstream<P>,
    parked: HashMap<Partition, Parked>,
    /// Where reading goes on behind records that were not subscribed to, with the epoch that they were read under.
    unsubscribed: HashMap<Partition, (u64, i64)>,
    /// When the worker was last told where reading has come to.
    told_reached: Instant,
    /// The look at an offset that seems not to be readable, on a thread of its own.
    searching: Option<Search>,
}

struct Search {
    partition: Partition,
    epoch: u64,
    found: std::thread::JoinHandle<KafkaResult<Vec<UnreadableBatch>>>,
}

/// A partition's records that wait in this process, in order; the first one waits for something.
struct Parked {
    records: VecDeque<RawRecord>,
    bytes: usize,
    /// Whether the client has been told to fetch no more of it. Not at once for a schema: what the client has fetched already it forgets at a
    /// pause, and to fetch it again takes longer than to ask the registry.
    paused: bool,
    fetch: Option<tokio::task::JoinHandle<Result<(), String>>>,
    retry_at: Instant,
    backoff: Backoff,
}

impl Parked {
    fn pause(&mut self, client: &BaseConsumer<Group>, partition: Partition) {
        if !self.paused {
            match client.pause(&client.context().list(partition)) {
                Ok(()) => self.paused = true,
                Err(error) => debug!(%error, "A partition that just went could not be paused"),
            }
        }
    }

    /// Whether it is fetched again, or still.
    fn resume(&mut self, client: &BaseConsumer<Group>, partition: Partition) -> bool {
        match if self.paused { client.resume(&client.context().list(partition)) } else { Ok(()) } {
            Ok(()) => true,
            Err(error) => {
                debug!(%error, "A partition could not be resumed yet");
                false
            }
        }
    }
}

/// Why a record cannot be handed on yet.
enum Blocked {
    NeedsSchema(Box<RawRecord>, u32),
    /// The worker is behind, or has ended; then this thread is about to.
    NoCapacity(Box<RawRecord>),
}

impl<'a, P: Policy> Poller<'a, P> {
    pub(super) fn new(client: &'a Arc<BaseConsumer<Group>>, downstream: &'a Downstream<P>) -> Self {
        Self {
            client,
            downstream,
            parked: HashMap::new(),
            unsubscribed: HashMap::new(),
            told_reached: Instant::now(),
            searching: None,
        }
    }

    /// Polls until `stop`, or until another client has to take this one's place. An error means that the client never works again.
    pub(super) fn poll(mut self, stop: &CancellationToken) -> Result<(), RDKafkaErrorCode> {
        while !stop.is_cancelled() && !self.client.context().is_over() {
            self.advance_past_unsubscribed();
            self.retry_parked();
            self.advance_past_unreadable();
            self.tell_reached();
            let wait = if self.parked.is_empty() { 100 } else { 10 };
            match self.client.poll(Duration::from_millis(wait)) {
                Some(Ok(message)) => self.on_message(&message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(code),
                Some(Err(error)) => self.report(&error),
                None => {}
            }
        }
        Ok(())
    }

    fn on_message(&mut self, message: &BorrowedMessage<'_>) {
        let Some(record) = self.client.context().to_raw_record(message) else {
            return;
        };
        let partition = record.topic_partition();
        if let Some(parked) = self.parked.get_mut(&partition) {
            parked.bytes += record.bytes();
            parked.records.push_back(record);
            if parked.bytes > MOST_HELD_BYTES || parked.records.len() > MOST_HELD {
                parked.pause(self.client, partition);
            }
            return;
        }
        match self.dispatch(record, CAPACITY_WAIT) {
            Ok(()) => {}
            Err(Blocked::NeedsSchema(record, id)) => self.park(partition, *record, Some(id)),
            Err(Blocked::NoCapacity(record)) => self.park(partition, *record, None),
        }
    }

    /// Decodes a record and hands it to the worker, or passes it over.
    fn dispatch(&mut self, record: RawRecord, wait: Duration) -> Result<(), Blocked> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        if let Some(rejection) = self.downstream.skips.rejection(&record.topic.name, record.partition, record.offset) {
            return self.hand_on(record, |record| Work::Rejected(record, rejection), wait);
        }
        match self.downstream.decoder.decode::<P>(&record, now_ms) {
            Decoded::Message(message) => self.hand_on(record, |record| Work::Record(record, message), wait),
            Decoded::Rejected(rejection) => self.hand_on(record, |record| Work::Rejected(record, rejection), wait),
            Decoded::NeedsSchema(id) => Err(Blocked::NeedsSchema(Box::new(record), id)),
            Decoded::Skipped(name) => {
                // A stranger's type has any name: as a label it would be a series of its own for good.
                let known = record.topic.records.iter().find(|known| **known == name).map_or("other", |known| known);
                counter!("quadrille_records_skipped_total", "topic" => &*record.topic.name, "type" => known)
                    .increment(1);
                self.unsubscribed.insert(record.topic_partition(), (record.epoch, record.offset + 1));
                Ok(())
            }
        }
    }

    fn hand_on(
        &mut self,
        record: RawRecord,
        work: impl FnOnce(Box<RawRecord>) -> Work<P>,
        wait: Duration,
    ) -> Result<(), Blocked> {
        // Bounded in count and in bytes: what waits here while the database is away is memory.
        let bytes = record.bytes().clamp(1, self.downstream.most_bytes) as u32;
        let capacity = async {
            let memory = Arc::clone(&self.downstream.memory).acquire_many_owned(bytes).await.ok();
            self.downstream.worker.reserve().await.map(|slot| (slot, memory))
        };
        match self.downstream.tokio.block_on(async { tokio::time::timeout(wait, capacity).await }) {
            Ok(Ok((slot, memory))) => {
                // What was passed over before it goes on with it.
                self.unsubscribed.remove(&record.topic_partition());
                self.client.context().take_in_hand(&record);
                slot.send(WorkItem::sized(work(Box::new(record)), memory));
                Ok(())
            }
            Err(_elapsed) => Err(Blocked::NoCapacity(Box::new(record))),
            Ok(Err(_closed)) => Err(Blocked::NoCapacity(Box::new(record))),
        }
    }

    fn park(&mut self, partition: Partition, record: RawRecord, schema: Option<u32>) {
        self.client.context().parked(partition, true);
        let mut parked = Parked {
            bytes: record.bytes(),
            records: VecDeque::from([record]),
            paused: false,
            fetch: schema.map(|id| self.fetch(partition.0, id)),
            retry_at: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
        };
        if schema.is_none() {
            parked.pause(self.client, partition);
        }
        self.parked.insert(partition, parked);
    }

    fn fetch(&self, topic: &'static str, id: u32) -> tokio::task::JoinHandle<Result<(), String>> {
        let decoder = Arc::clone(&self.downstream.decoder);
        self.downstream.tokio.spawn(async move { decoder.fetch(topic, id).await.map_err(|error| error.to_string()) })
    }

    fn retry_parked(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        let partitions: Vec<Partition> = self.parked.keys().copied().collect();
        for partition in partitions {
            if !self.client.context().owns(partition) {
                self.parked.remove(&partition);
                continue;
            }
            let Some(mut parked) = self.parked.remove(&partition) else {
                continue;
            };
            if self.try_resume(partition, &mut parked) && parked.resume(self.client, partition) {
                self.client.context().parked(partition, false);
                continue;
            }
            self.parked.insert(partition, parked);
        }
        if self.parked.values().all(|parked| parked.fetch.is_none()) {
            self.client.context().health.ok("registry");
        }
    }

    /// Whether the partition can go on.
    fn try_resume(&mut self, partition: Partition, parked: &mut Parked) -> bool {
        // What a person has passed over needs no schema.
        let is_skipped = |record: &RawRecord| {
            self.downstream.skips.rejection(&record.topic.name, record.partition, record.offset).is_some()
        };
        if parked.records.front().is_some_and(is_skipped) {
            parked.fetch = None;
        }
        if let Some(fetch) = &mut parked.fetch {
            if !fetch.is_finished() || Instant::now() < parked.retry_at {
                return false;
            }
            match self.downstream.tokio.block_on(fetch) {
                Ok(Ok(())) => parked.fetch = None,
                failed => {
                    let cause = match failed {
                        Ok(Err(cause)) => cause,
                        other => format!("{other:?}"),
                    };
                    self.client.context().health.error("registry", &cause);
                    warn!(topic = partition.0, partition = partition.1, "A partition waits for a schema: {cause}");
                    parked.pause(self.client, partition);
                    parked.retry_at = Instant::now() + parked.backoff.wait();
                    let Some(Decoded::NeedsSchema(id)) =
                        parked.records.front().map(|r| self.downstream.decoder.decode::<P>(r, 0))
                    else {
                        parked.fetch = None;
                        return false;
                    };
                    parked.fetch = Some(self.fetch(partition.0, id));
                    return false;
                }
            }
        }
        while let Some(record) = parked.records.pop_front() {
            let bytes = record.bytes();
            match self.dispatch(record, Duration::ZERO) {
                Ok(()) => parked.bytes -= bytes,
                Err(Blocked::NoCapacity(record)) => {
                    parked.records.push_front(*record);
                    parked.pause(self.client, partition);
                    return false;
                }
                Err(Blocked::NeedsSchema(record, id)) => {
                    parked.records.push_front(*record);
                    parked.fetch = Some(self.fetch(partition.0, id));
                    return false;
                }
            }
        }
        true
    }

    /// Moves offsets past records that were not subscribed to, once nothing before them is still to be committed.
    fn advance_past_unsubscribed(&mut self) {
        if self.unsubscribed.is_empty() {
            return;
        }
        let group = self.client.context();
        let assigned = group.assigned();
        let mut done = vec![];
        self.unsubscribed.retain(|partition, (epoch, next)| match assigned.current.get(partition) {
            Some(assignment) if assignment.epoch == *epoch && assignment.in_hand > 0 => true,
            Some(assignment) if assignment.epoch == *epoch => {
                done.push((*partition, *epoch, *next));
                false
            }
            _ => false,
        });
        drop(assigned);
        if !done.is_empty() {
            group.progress.made();
        }
        if group.positions.is_some() {
            for (partition, epoch, next) in &done {
                group.note_reached(*epoch, Reached { partition: *partition, next: *next, at_end: None });
            }
        }
        group.store(self.client, done.into_iter().map(|(partition, _, next)| (partition, next)));
    }

    /// Tells the worker of a projection, behind all that it was given, where reading has come to. A worker that is behind is told later.
    fn tell_reached(&mut self) {
        let group = self.client.context();
        if group.positions.is_none() || self.told_reached.elapsed() < TELL_REACHED {
            return;
        }
        self.told_reached = Instant::now();
        let Ok(slot) = self.downstream.worker.try_reserve() else { return };
        let mut assigned = group.assigned();
        // What is parked is not handed on yet.
        let handed_on = assigned.current.iter_mut().filter(|(partition, _)| !self.parked.contains_key(*partition));
        let reached: Vec<Reached> = handed_on.filter_map(|(_, assignment)| assignment.reached.take()).collect();
        drop(assigned);
        if !reached.is_empty() {
            slot.send(Work::Reached(reached).into());
        }
    }

    /// Looks at a partition that has had more to read for too long and has not moved. Where the offset itself is at fault, says so in a
    /// dead letter without an original, and goes on behind it.
    fn advance_past_unreadable(&mut self) {
        let group = self.client.context();
        let Some(search) = self.searching.take() else {
            if let Some((partition, epoch, from)) = group.standing_still(&self.downstream.skips) {
                let (client, topic) = (group.onlooker.clone(), group.physical(partition.0).to_owned());
                let find = move || unreadable_in_a_row(&client, &topic, partition.1, from);
                match std::thread::Builder::new().name(format!("{}-unreadable", group.service)).spawn(find) {
                    Ok(found) => self.searching = Some(Search { partition, epoch, found }),
                    Err(error) => warn!(%error, "Why a partition stands still could not be looked at"),
                }
            }
            return;
        };
        if !search.found.is_finished() {
            self.searching = Some(search);
            return;
        }
        let (topic, partition) = search.partition;
        // Whatever comes of it, the next look has its time.
        if !group.moved(search.partition, search.epoch) {
            return;
        }
        let found = match search.found.join() {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return warn!(topic, partition, %error, "Why a partition stands still could not be seen"),
            Err(_panic) => return,
        };
        for batch in found {
            if !self.advance_past_batch(search.partition, search.epoch, batch) {
                // Without room it is found again: the partition still stands.
                break;
            }
        }
    }

    /// Tells of one batch, and sets reading behind it. Whether it is told.
    fn advance_past_batch(&mut self, (topic, partition): Partition, epoch: u64, batch: UnreadableBatch) -> bool {
        let UnreadableBatch { from, to, cause } = batch;
        let Some((physical, declared)) = self.client.context().topic(topic) else {
            return false;
        };
        error!(
            topic,
            partition, from, to, "Offsets cannot be read and are passed over; reading goes on at {to}: {cause}"
        );
        let detail = format!("the offsets {from} to {} cannot be read: {cause}; no original could be kept", to - 1);
        let record = RawRecord {
            topic: declared,
            partition,
            offset: from,
            epoch,
            timestamp_ms: -1,
            key: None,
            value: None,
            cut: None,
            headers: RawHeaders::default(),
            header_fault: None,
        };
        let rejection = Rejection::new("unreadable", "value", detail);
        let is_told = self.hand_on(record, |record| Work::Rejected(record, rejection), CAPACITY_WAIT).is_ok();
        if is_told {
            counter!("quadrille_records_unreadable_total", "topic" => topic).increment((to - from).max(1) as u64);
            match self.client.seek(physical, partition, Offset::Offset(to), limits::BROKER) {
                // The letter stands for all of them.
                Ok(()) => drop(self.unsubscribed.insert((topic, partition), (epoch, to))),
                Err(error) => warn!(topic, partition, %error, "Reading could not be set behind it yet"),
            }
        }
        is_told
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

/// The batches from `from` on that cannot be read and follow one another without anything sound between them, as far as they are found in the
/// time that the first had.
fn unreadable_in_a_row(
    client: &ClientConfig,
    topic: &str,
    partition: i32,
    from: i64,
) -> KafkaResult<Vec<UnreadableBatch>> {
    let began = Instant::now();
    let mut found: Vec<UnreadableBatch> =
        unreadable(client, topic, partition, from, limits::BROKER)?.into_iter().collect();
    while let Some(last) = found.last()
        && began.elapsed() < limits::UNREADABLE
        && let Ok(Some(next)) = unreadable(client, topic, partition, last.to, limits::BROKER)
    {
        found.push(next);
    }
    Ok(found)
}
