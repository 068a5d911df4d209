//! From Kafka to the worker: one thread a service polls all its topics, decodes, and hands on what arrives.
//!
//! The thread never stops polling, so that the group never takes the instance for dead: a partition whose next record cannot be
//! handed on (its schema is not to be had, or the worker is behind) is paused and its record kept, the others go on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::{counter, gauge};
use quadrille_core::{Policy, Records, TopicType};
use quadrille_kafka::{Brokers, Unreadable, headers, unreadable};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
    statistics::Broker,
};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, error, info, warn};

use crate::{
    arrival::{Arrival, Content, HeaderFault, Origin, RawHeaders, RawRecord, Rejection, admit_value},
    backoff::Backoff,
    decode::{Decoded, Decoder},
    gaps,
    ground::Ground,
    health::Health,
    kafka, limits, operators,
    progress::Progress,
    reading::Contact,
    skips::Skips,
};

/// So much of a partition is held while a schema is asked for; beyond it the partition is paused.
const MOST_HELD: usize = 1_000;
const MOST_HELD_BYTES: usize = 1 << 20;
/// How long the thread waits for room at the worker before it pauses the partition.
const ROOM_WAIT: Duration = Duration::from_millis(500);

type Partition = (&'static str, i32);

/// A service's membership in its group.
pub(crate) struct Consumer {
    config: ClientConfig,
    client: Mutex<Arc<BaseConsumer<Group>>>,
}

/// Which partitions are ours, each with the number of its assignment.
pub(crate) struct Group {
    topics: HashMap<String, &'static TopicType>,
    service: &'static str,
    brokers: String,
    /// For the look at gaps: a client that joins no group.
    onlooker: ClientConfig,
    health: Arc<Health>,
    contact: Arc<Contact>,
    progress: Arc<Progress>,
    known: Brokers,
    /// Another client has taken this one's place, which speaks for the instance from now on.
    retired: AtomicBool,
    state: Mutex<Assigned>,
}

struct Assignment {
    generation: u64,
    /// Records that the worker has and has not committed yet.
    in_hand: usize,
    /// Its records wait in this process.
    stalled: bool,
    /// Where reading goes on although there is more to read, and since when it has not moved.
    unread: Option<(i64, Instant)>,
    /// Where a transaction begins that is open still, and since when.
    open: Option<(i64, Instant)>,
}

#[derive(Default)]
struct Assigned {
    generations: u64,
    current: HashMap<Partition, Assignment>,
    /// Since when this instance has been on its way into the group.
    joining: Option<Instant>,
}

impl Consumer {
    pub fn subscribe<P: Policy>(
        ground: &Ground,
        contact: Arc<Contact>,
        progress: Arc<Progress>,
    ) -> anyhow::Result<Self> {
        let kafka = &ground.kafka;
        let topics = P::Heard::TYPES.iter().chain(operators::TYPES).map(|heard| heard.topic);
        let group = Group {
            topics: topics.map(|topic| (format!("{}{}", kafka.topic_prefix, topic.name), topic)).collect(),
            service: P::SERVICE,
            brokers: kafka.brokers.clone(),
            onlooker: kafka::onlooker_config(kafka, P::SERVICE),
            health: Arc::clone(&ground.health),
            contact,
            progress,
            known: Brokers::default(),
            retired: AtomicBool::default(),
            state: Mutex::default(),
        };
        let config = kafka::consumer_config(kafka, P::SERVICE, &ground.instance);
        let client = Mutex::new(group.join(&config)?);
        Ok(Self { config, client })
    }

    fn client(&self) -> Arc<BaseConsumer<Group>> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Joins the group with a new client. What came by the old one is handled as after a rebalance.
    fn join_anew(&self, old: Arc<BaseConsumer<Group>>) -> KafkaResult<()> {
        old.context().retired.store(true, Ordering::Relaxed);
        let new = old.context().anew().join(&self.config)?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = new;
        // Its end waits for answers that do not come, so it is nobody else's.
        let end = move || {
            while Arc::strong_count(&old) > 1 {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        drop(std::thread::Builder::new().name("former-consumer".into()).spawn(end));
        Ok(())
    }

    /// Notes that records are handled: their offsets are committed within a second, or when the partition passes on.
    ///
    /// A record that was read under an earlier assignment of its partition moves nothing: its partition may have gone on elsewhere.
    pub fn handled<'a>(&self, records: impl Iterator<Item = &'a RawRecord>) {
        let client = self.client();
        let group = client.context();
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
        group.store(&client, handled.iter().map(|((partition, _), (next, _))| (*partition, *next)));
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
        skips: Arc<Skips>,
        most_bytes: usize,
        stop: Arc<AtomicBool>,
        tokio: tokio::runtime::Handle,
    ) {
        let room = Arc::new(Semaphore::new(most_bytes));
        while !stop.load(Ordering::Relaxed) {
            let client = self.client();
            let poller = Poller {
                client: &client,
                decoder: Arc::clone(&decoder),
                worker: worker.clone(),
                skips: Arc::clone(&skips),
                room: Arc::clone(&room),
                most_bytes,
                tokio: tokio.clone(),
                stalled: HashMap::new(),
                skipped: HashMap::new(),
                searching: None,
            };
            if let Err(error) = poller.poll(&stop) {
                // The process ends, and whoever supervises it starts a new one.
                return error!("The Kafka client has failed for good: {error}");
            }
            if client.context().known.are_forgotten() && !stop.load(Ordering::Relaxed) {
                warn!("The Kafka client has forgotten every broker: it is made anew");
                if let Err(error) = self.join_anew(client) {
                    return error!("The Kafka client could not be made anew: {error}");
                }
            }
        }
    }

    /// What waits to be read or committed, if anything does.
    pub fn waiting(&self) -> Option<String> {
        let client = self.client();
        let assigned = client.context().assigned();
        let waits =
            |assignment: &Assignment| assignment.in_hand > 0 || assignment.stalled || assignment.unread.is_some();
        let mut waiting: Vec<&Partition> = assigned
            .current
            .iter()
            .filter(|(_, assignment)| waits(assignment))
            .map(|(partition, _)| partition)
            .collect();
        waiting.sort_unstable();
        let (topic, partition) = waiting.first()?;
        Some(match waiting.len() - 1 {
            0 => format!("{topic}/{partition}"),
            more => format!("{topic}/{partition} (and {more} more)"),
        })
    }

    /// Says in health whether this instance is in its group or on its way.
    pub fn tell_membership(&self) {
        let client = self.client();
        let group = client.context();
        let joining = group.assigned().joining.map(|since| since.elapsed());
        match joining {
            Some(since) if since >= limits::JOINING => {
                group
                    .health
                    .error("group", &format!("this instance has not come into its group for {} s", since.as_secs()));
            }
            _ => group.health.ok("group"),
        }
    }

    /// Commits what is handled. The group is left when the consumer is dropped.
    pub fn commit(&self) {
        match self.client().commit_consumer_state(CommitMode::Sync) {
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
    skips: Arc<Skips>,
    room: Arc<Semaphore>,
    most_bytes: usize,
    tokio: tokio::runtime::Handle,
    stalled: HashMap<Partition, Stalled>,
    /// Where reading goes on behind records that were skipped, with the generation that they were read under.
    skipped: HashMap<Partition, (u64, i64)>,
    /// The look at an offset that seems not to be readable, on a thread of its own.
    searching: Option<Search>,
}

struct Search {
    partition: Partition,
    generation: u64,
    found: std::thread::JoinHandle<KafkaResult<Vec<Unreadable>>>,
}

/// A partition's records that wait in this process, in order; the first one waits for something.
struct Stalled {
    records: VecDeque<RawRecord>,
    bytes: usize,
    /// Whether the client has been told to fetch no more of it. Not at once for a schema: what the client has fetched already it forgets at a
    /// pause, and to fetch it again takes longer than to ask the registry.
    paused: bool,
    fetch: Option<tokio::task::JoinHandle<Result<(), String>>>,
    retry_at: Instant,
    backoff: Backoff,
}

impl Stalled {
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

enum Passed {
    On,
    NeedsSchema(RawRecord, u32),
    NoRoom(RawRecord),
}

impl<P: Policy> Poller<'_, P> {
    /// Polls until `stop`, or until the client has forgotten every broker. An error means that the client never works again.
    fn poll(mut self, stop: &AtomicBool) -> Result<(), RDKafkaErrorCode> {
        while !stop.load(Ordering::Relaxed) && !self.client.context().known.are_forgotten() {
            self.pass_over_skipped();
            self.retry_stalled();
            self.pass_over_unreadable();
            let wait = if self.stalled.is_empty() { 100 } else { 10 };
            match self.client.poll(Duration::from_millis(wait)) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(code),
                Some(Err(error)) => self.report(&error),
                None => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(record) = self.client.context().own(message) else {
            return;
        };
        let partition = (record.topic, record.partition);
        if let Some(stalled) = self.stalled.get_mut(&partition) {
            stalled.bytes += record.bytes();
            stalled.records.push_back(record);
            if stalled.bytes > MOST_HELD_BYTES || stalled.records.len() > MOST_HELD {
                stalled.pause(self.client, partition);
            }
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
        if let Some(rejection) = self.skips.rejection(record.topic, record.partition, record.offset) {
            return self.hand_on(record, Content::Rejected(rejection), room_wait);
        }
        let content = match self.decoder.decode::<P>(&record, now_ms) {
            Decoded::NeedsSchema(id) => return Passed::NeedsSchema(record, id),
            Decoded::Input(envelope, former) => Content::Input(envelope, former),
            Decoded::Asked(asked) => Content::Asked(asked),
            Decoded::Rejected(rejection) => Content::Rejected(rejection),
            Decoded::Skipped(name) => {
                // A stranger's type has any name: as a label it would be a series of its own for good.
                let known = self.decoder.declared_type(record.topic, &name);
                counter!("quadrille_records_skipped_total", "topic" => record.topic, "type" => known).increment(1);
                self.skipped.insert((record.topic, record.partition), (record.generation, record.offset + 1));
                return Passed::On;
            }
        };
        self.hand_on(record, content, room_wait)
    }

    fn hand_on(&mut self, record: RawRecord, content: Content<P>, room_wait: Duration) -> Passed {
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
        self.client.context().stalled(partition, true);
        let mut stalled = Stalled {
            bytes: record.bytes(),
            records: VecDeque::from([record]),
            paused: false,
            fetch: schema.map(|id| self.fetch(partition.0, id)),
            retry_at: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
        };
        if schema.is_none() {
            stalled.pause(self.client, partition);
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
            if self.unstall(partition, &mut stalled) && stalled.resume(self.client, partition) {
                self.client.context().stalled(partition, false);
                continue;
            }
            self.stalled.insert(partition, stalled);
        }
        if self.stalled.values().all(|stalled| stalled.fetch.is_none()) {
            self.client.context().health.ok("registry");
        }
    }

    /// Whether the partition can go on.
    fn unstall(&mut self, partition: Partition, stalled: &mut Stalled) -> bool {
        // What a person has passed over needs no schema.
        let is_skipped =
            |record: &RawRecord| self.skips.rejection(record.topic, record.partition, record.offset).is_some();
        if stalled.records.front().is_some_and(is_skipped) {
            stalled.fetch = None;
        }
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
                    stalled.pause(self.client, partition);
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
            let bytes = record.bytes();
            match self.pass(record, Duration::ZERO) {
                Passed::On => stalled.bytes -= bytes,
                Passed::NoRoom(record) => {
                    stalled.records.push_front(record);
                    stalled.pause(self.client, partition);
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
        if !done.is_empty() {
            group.progress.made();
        }
        group.store(self.client, done.into_iter());
    }

    /// Looks at a partition that has had more to read for too long and has not moved. Where the offset itself is at fault, says so in a
    /// dead letter without an original, and goes on behind it.
    fn pass_over_unreadable(&mut self) {
        let group = self.client.context();
        let Some(search) = self.searching.take() else {
            if let Some((partition, generation, from)) = group.standing_still(&self.skips) {
                let (client, topic) =
                    (group.onlooker.clone(), group.physical(partition.0).unwrap_or(partition.0).to_owned());
                let find = move || unreadable_in_a_row(&client, &topic, partition.1, from);
                match std::thread::Builder::new().name(format!("{}-unreadable", group.service)).spawn(find) {
                    Ok(found) => self.searching = Some(Search { partition, generation, found }),
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
        if !group.moved(search.partition, search.generation) {
            return;
        }
        let found = match search.found.join() {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return warn!(topic, partition, %error, "Why a partition stands still could not be seen"),
            Err(_panic) => return,
        };
        for batch in found {
            if !self.pass_over_batch(search.partition, search.generation, batch) {
                // Without room it is found again: the partition still stands.
                break;
            }
        }
    }

    /// Tells of one batch, and sets reading behind it. Whether it is told.
    fn pass_over_batch(&mut self, (topic, partition): Partition, generation: u64, batch: Unreadable) -> bool {
        let Unreadable { from, to, cause } = batch;
        let group = self.client.context();
        error!(
            topic,
            partition, from, to, "Offsets cannot be read and are passed over; reading goes on at {to}: {cause}"
        );
        let detail = format!("the offsets {from} to {} cannot be read: {cause}; no original could be kept", to - 1);
        let record = RawRecord {
            topic,
            partition,
            offset: from,
            generation,
            timestamp_ms: -1,
            key: None,
            value: None,
            cut: None,
            headers: RawHeaders::default(),
            header_fault: None,
        };
        let content = Content::Rejected(Rejection::new("unreadable", "value", detail));
        let is_told = matches!(self.hand_on(record, content, ROOM_WAIT), Passed::On);
        if is_told {
            counter!("quadrille_records_unreadable_total", "topic" => topic).increment((to - from).max(1) as u64);
            let physical = group.physical(topic).unwrap_or(topic);
            match self.client.seek(physical, partition, Offset::Offset(to), limits::BROKER) {
                // The letter stands for all of them.
                Ok(()) => drop(self.skipped.insert((topic, partition), (generation, to))),
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

impl Assigned {
    fn is(&self, partition: Partition, generation: u64) -> bool {
        self.current.get(&partition).is_some_and(|assignment| assignment.generation == generation)
    }
}

impl Group {
    /// A client of this group, on its way into it.
    fn join(self, config: &ClientConfig) -> KafkaResult<Arc<BaseConsumer<Self>>> {
        let client: BaseConsumer<Self> = config.create_with_context(self)?;
        client.subscribe(&client.context().topics.keys().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Arc::new(client))
    }

    /// The same group for another client. Its assignments are numbered on, so that records of the old ones are known as such.
    fn anew(&self) -> Self {
        Self {
            topics: self.topics.clone(),
            service: self.service,
            brokers: self.brokers.clone(),
            onlooker: self.onlooker.clone(),
            health: Arc::clone(&self.health),
            contact: Arc::clone(&self.contact),
            progress: Arc::clone(&self.progress),
            known: Brokers::default(),
            retired: AtomicBool::default(),
            state: Mutex::new(Assigned { generations: self.assigned().generations, ..Assigned::default() }),
        }
    }

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

    /// Notes that a partition's records wait in this process, or do no longer.
    fn stalled(&self, partition: Partition, stalled: bool) {
        if let Some(assignment) = self.assigned().current.get_mut(&partition) {
            assignment.stalled = stalled;
        }
    }

    /// A partition that has had more to read for too long, or for long enough for a person, and the offset at which it stands.
    fn standing_still(&self, skips: &Skips) -> Option<(Partition, u64, i64)> {
        self.assigned().current.iter().find_map(|(partition, assignment)| {
            let (offset, since) = assignment.unread.filter(|_| !assignment.stalled)?;
            let is_asked_for = || skips.rejection(partition.0, partition.1, offset).is_some();
            (since.elapsed() >= limits::UNREADABLE || is_asked_for()).then_some((
                *partition,
                assignment.generation,
                offset,
            ))
        })
    }

    /// Counts a partition's standstill anew; false where it has passed on.
    fn moved(&self, partition: Partition, generation: u64) -> bool {
        let mut assigned = self.assigned();
        let assignment = assigned.current.get_mut(&partition).filter(|assignment| assignment.generation == generation);
        assignment.map(|assignment| assignment.unread = None).is_some()
    }

    /// Notes from where a partition is still to be read.
    fn note_unread(&self, partition: Partition, stats: &rdkafka::statistics::Partition) {
        let mut assigned = self.assigned();
        let Some(assignment) = assigned.current.get_mut(&partition) else { return };
        let end = if stats.ls_offset >= 0 { stats.hi_offset.min(stats.ls_offset) } else { stats.hi_offset };
        assignment.unread = match assignment.unread {
            // What was fetched and not taken yet moves as soon as it is polled for.
            _ if stats.next_offset < 0 || stats.next_offset >= end || stats.fetchq_cnt > 0 => None,
            Some((offset, since)) if offset == stats.next_offset => Some((offset, since)),
            _ => Some((stats.next_offset, Instant::now())),
        };
    }

    /// What cannot be read since a producer has left a transaction open, where that is so for long: nothing else tells of it.
    fn hidden(&self, partition: Partition, stats: &rdkafka::statistics::Partition) -> Option<String> {
        let mut assigned = self.assigned();
        let assignment = assigned.current.get_mut(&partition)?;
        let stable = stats.ls_offset;
        assignment.open = match assignment.open {
            _ if stable < 0 || stable >= stats.hi_offset => None,
            Some((offset, since)) if offset == stable => Some((offset, since)),
            _ => Some((stable, Instant::now())),
        };
        let (offset, since) = assignment.open?;
        (since.elapsed() >= limits::UNREADABLE).then(|| {
            format!(
                "{}/{}@{offset} and what lies behind it cannot be read: a producer has left a transaction open",
                partition.0, partition.1
            )
        })
    }

    fn owns(&self, partition: Partition) -> bool {
        self.assigned().current.contains_key(&partition)
    }

    fn physical(&self, topic: &str) -> Option<&str> {
        self.topics.iter().find(|(_, declared)| declared.name == topic).map(|(physical, _)| physical.as_str())
    }

    fn list(&self, (topic, partition): Partition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(self.physical(topic).unwrap_or(topic), partition);
        list
    }

    /// Copies a message of a partition that is ours.
    fn own(&self, message: &BorrowedMessage<'_>) -> Option<RawRecord> {
        let topic = &*self.topics.get(message.topic())?.name;
        let generation = self.assigned().current.get(&(topic, message.partition()))?.generation;
        let headers = headers(message, |headers| RawHeaders::admit(headers));
        let (headers, header_fault) = headers.unwrap_or((RawHeaders::default(), Some(HeaderFault::NotText)));
        let (value, cut) = message.payload().map(admit_value).unzip();
        Some(RawRecord {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            generation,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value,
            cut: cut.flatten(),
            headers,
            header_fault,
        })
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let known = |topic: &str| self.topics.get(topic).map(|declared| &*declared.name);
        list.elements().iter().filter_map(|element| Some((known(element.topic())?, element.partition()))).collect()
    }
}

impl ClientContext for Group {
    /// Called every few seconds: says in health whether a broker is there and has our topics, and in metrics what is still to be read.
    fn stats(&self, statistics: Statistics) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        self.known.note(&statistics);
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
        let is_in = statistics.cgrp.is_some_and(|group| group.state == "up" && group.join_state == "steady");
        {
            let mut assigned = self.assigned();
            assigned.joining = if is_in { None } else { Some(assigned.joining.unwrap_or_else(Instant::now)) };
        }
        let (mut changed, mut hidden) = (None, None);
        for (topic, stats) in statistics.topics {
            let count = stats.partitions.keys().filter(|partition| **partition >= 0).count();
            changed = changed.or_else(|| kafka::changed_partitions(&topic, self.topics.get(&topic)?, count));
            for (partition, stats) in stats.partitions {
                let Some(declared) = self.topics.get(topic.as_str()) else {
                    continue;
                };
                let topic = &*declared.name;
                self.note_unread((topic, partition), &stats);
                hidden = hidden.or(self.hidden((topic, partition), &stats));
                if self.owns((topic, partition)) && stats.consumer_lag >= 0 {
                    gauge!("quadrille_consumer_lag", "topic" => topic, "partition" => partition.to_string())
                        .set(stats.consumer_lag as f64);
                }
            }
        }
        match hidden {
            None => self.health.ok("transactions"),
            Some(hidden) => self.health.warn("transactions", &hidden),
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
        let is_ours = !self.retired.load(Ordering::Relaxed);
        if is_ours && error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
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
            let assignment = |partition: &Partition| {
                (*partition, Assignment { generation, in_hand: 0, stalled: false, unread: None, open: None })
            };
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

/// The batches from `from` on that cannot be read and follow one another without anything sound between them, as far as they are found in the
/// time that the first had.
fn unreadable_in_a_row(client: &ClientConfig, topic: &str, partition: i32, from: i64) -> KafkaResult<Vec<Unreadable>> {
    let began = Instant::now();
    let mut found: Vec<Unreadable> = unreadable(client, topic, partition, from, limits::BROKER)?.into_iter().collect();
    while let Some(last) = found.last()
        && began.elapsed() < limits::UNREADABLE
        && let Ok(Some(next)) = unreadable(client, topic, partition, last.to, limits::BROKER)
    {
        found.push(next);
    }
    Ok(found)
}
