//! What this instance has of its group: which partitions, under which assignment, where each begins, and how far each may be committed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::gauge;
use quadrille_core::{Policy, TopicType};
use quadrille_kafka::{Brokers, headers};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaResult,
    message::BorrowedMessage,
    types::RDKafkaRespErr,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Partition;
use crate::{
    database::Database,
    deadline_barrier::BrokerUptime,
    health::Health,
    heard, limits,
    position::{self, Reached},
    progress::Progress,
    record::{HeaderFault, RawHeaders, RawRecord, admit_value},
    resources::Resources,
    retention_check,
    skips::Skips,
};

/// Which partitions are ours, each with the number of its assignment.
pub(crate) struct Group {
    pub topics: HashMap<String, &'static TopicType>,
    pub service: &'static str,
    pub brokers: String,
    /// For the retention check: a client that joins no group.
    pub onlooker: ClientConfig,
    pub health: Arc<Health>,
    pub broker_uptime: Arc<BrokerUptime>,
    pub progress: Arc<Progress>,
    pub known: Brokers,
    /// Another client has taken this one's place, which speaks for the instance from now on.
    pub retired: AtomicBool,
    /// Partitions came, and the database did not tell their positions in time: the group is left, and joined anew once it does.
    pub is_left: AtomicBool,
    /// Where partitions begin, of a projection; else where the group has committed.
    pub positions: Option<Positions>,
    pub state: Mutex<Assigned>,
}

/// The positions of a projection, as its database has them.
#[derive(Clone)]
pub(super) struct Positions {
    pool: Database,
    tokio: tokio::runtime::Handle,
    stop: CancellationToken,
}

/// The sleep between two tries to read them.
const TRY_AGAIN: Duration = Duration::from_millis(500);

impl Positions {
    pub fn new(pool: Database, stop: CancellationToken) -> Self {
        Self { pool, tokio: tokio::runtime::Handle::current(), stop }
    }

    /// Waits until the database tells them; none where the service stops before. Nobody waits for one that has not joined its group.
    pub fn wait(&self) -> Option<BTreeMap<(String, i32), i64>> {
        self.tokio.block_on(self.stop.run_until_cancelled(self.read()))
    }

    /// The same within a rebalance, where the whole group waits: for [`limits::POSITIONS`] at most.
    fn wait_as_member(&self) -> Option<BTreeMap<(String, i32), i64>> {
        let read = async { tokio::time::timeout(limits::POSITIONS, self.read()).await.ok() };
        self.tokio.block_on(self.stop.run_until_cancelled(read)).flatten()
    }

    async fn read(&self) -> BTreeMap<(String, i32), i64> {
        loop {
            match position::stored(&self.pool).await {
                Ok(stored) => return stored,
                Err(error) => warn!(%error, "Partitions wait for their positions, which the database does not tell"),
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

pub(super) struct Assignment {
    pub epoch: u64,
    /// Records that the worker has and has not committed yet.
    pub in_hand: usize,
    /// Its records wait in this process.
    pub parked: bool,
    /// Where reading goes on although there is more to read, and since when it has not moved.
    pub unread: Option<(i64, Instant)>,
    /// Records that are still to be read, where that is known.
    pub lag: Option<i64>,
    /// Where a transaction begins that is open still, and since when.
    pub open: Option<(i64, Instant)>,
    /// Of a projection: where reading has come to, until the worker is told.
    pub reached: Option<Reached>,
    /// Since when it has been read without a break.
    pub since: Instant,
}

#[derive(Default)]
pub(super) struct Assigned {
    pub epochs: u64,
    pub current: HashMap<Partition, Assignment>,
    /// Since when this instance has been on its way into the group.
    pub joining: Option<Instant>,
}

impl Assigned {
    pub fn is(&self, partition: Partition, epoch: u64) -> bool {
        self.current.get(&partition).is_some_and(|assignment| assignment.epoch == epoch)
    }
}

impl Group {
    pub fn new<P: Policy>(
        resources: &Resources,
        positions: Option<Positions>,
        broker_uptime: Arc<BrokerUptime>,
        progress: Arc<Progress>,
    ) -> Self {
        let kafka = &resources.kafka;
        Self {
            topics: heard::heard::<P>()
                .iter()
                .map(|heard| heard.record_type.topic)
                .map(|topic| (format!("{}{}", kafka.topic_prefix, topic.name), topic))
                .collect(),
            service: P::SERVICE,
            brokers: kafka.brokers.clone(),
            onlooker: kafka.observer(&format!("quadrille-{}-onlooker", P::SERVICE), &kafka.group(&resources.group())),
            health: Arc::clone(&resources.health),
            broker_uptime,
            progress,
            known: Brokers::default(),
            retired: AtomicBool::default(),
            is_left: AtomicBool::default(),
            positions,
            state: Mutex::default(),
        }
    }

    /// The same group for another client. Its assignments are numbered on, so that records of the old ones are known as such.
    pub fn anew(&self) -> Self {
        Self {
            topics: self.topics.clone(),
            service: self.service,
            brokers: self.brokers.clone(),
            onlooker: self.onlooker.clone(),
            health: Arc::clone(&self.health),
            broker_uptime: Arc::clone(&self.broker_uptime),
            progress: Arc::clone(&self.progress),
            known: Brokers::default(),
            retired: AtomicBool::default(),
            is_left: AtomicBool::default(),
            positions: self.positions.clone(),
            state: Mutex::new(Assigned { epochs: self.assigned().epochs, ..Assigned::default() }),
        }
    }

    pub fn assigned(&self) -> std::sync::MutexGuard<'_, Assigned> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take_in_hand(&self, record: &RawRecord) {
        let mut assigned = self.assigned();
        if assigned.is(record.topic_partition(), record.epoch)
            && let Some(assignment) = assigned.current.get_mut(&record.topic_partition())
        {
            assignment.in_hand += 1;
            // An end that was reached before this record is one no longer.
            assignment.reached.take_if(|reached| record.offset >= reached.next);
        }
    }

    /// Stores where reading goes on; the client commits it. Refused where a partition was revoked just now: its next owner meets
    /// the inbox.
    pub fn store(&self, client: &BaseConsumer<Self>, next: impl Iterator<Item = (Partition, i64)>) {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in next {
            let topic = self.physical(topic);
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
    pub fn parked(&self, partition: Partition, parked: bool) {
        if let Some(assignment) = self.assigned().current.get_mut(&partition) {
            assignment.parked = parked;
            assignment.since = Instant::now();
        }
    }

    /// A partition that has had more to read for too long, or for long enough for a person, and the offset at which it stands.
    pub fn standing_still(&self, skips: &Skips) -> Option<(Partition, u64, i64)> {
        self.assigned().current.iter().find_map(|(partition, assignment)| {
            let (offset, since) = assignment.unread.filter(|_| !assignment.parked)?;
            let is_asked_for = || skips.rejection(partition.0, partition.1, offset).is_some();
            (since.elapsed() >= limits::UNREADABLE || is_asked_for()).then_some((*partition, assignment.epoch, offset))
        })
    }

    /// Counts a partition's standstill anew; false where it has passed on.
    pub fn moved(&self, partition: Partition, epoch: u64) -> bool {
        let mut assigned = self.assigned();
        let assignment = assigned.current.get_mut(&partition).filter(|assignment| assignment.epoch == epoch);
        assignment.map(|assignment| assignment.unread = None).is_some()
    }

    /// Whether another client has to take this one's place: it works no more, or has left its partitions to others.
    pub fn is_over(&self) -> bool {
        self.known.are_forgotten() || self.is_left.load(Ordering::Relaxed)
    }

    pub fn owns(&self, partition: Partition) -> bool {
        self.assigned().current.contains_key(&partition)
    }

    /// A topic's name with the world's prefix, and its declaration.
    pub fn topic(&self, name: &str) -> Option<(&str, &'static TopicType)> {
        let mut topics = self.topics.iter().map(|(physical, declared)| (physical.as_str(), *declared));
        topics.find(|(_, declared)| declared.name == name)
    }

    pub fn physical<'a>(&'a self, topic: &'a str) -> &'a str {
        self.topic(topic).map_or(topic, |(physical, _)| physical)
    }

    pub fn list(&self, (topic, partition): Partition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(self.physical(topic), partition);
        list
    }

    /// Copies a message of a partition that is ours.
    pub fn to_raw_record(&self, message: &BorrowedMessage<'_>) -> Option<RawRecord> {
        let topic = *self.topics.get(message.topic())?;
        let epoch = self.assigned().current.get(&(&topic.name, message.partition()))?.epoch;
        let headers = headers(message, |headers| RawHeaders::admit(headers));
        let (headers, header_fault) = headers.unwrap_or((RawHeaders::default(), Some(HeaderFault::NotText)));
        let (value, cut) = message.payload().map(admit_value).unzip();
        Some(RawRecord {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            epoch,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value,
            cut: cut.flatten(),
            headers,
            header_fault,
        })
    }

    pub fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let known = |topic: &str| self.topics.get(topic).map(|declared| &*declared.name);
        list.elements().iter().filter_map(|element| Some((known(element.topic())?, element.partition()))).collect()
    }
}

impl Group {
    /// Notes where reading has come to; what is known already is not forgotten for less.
    pub fn note_reached(&self, epoch: u64, reached: Reached) {
        let mut assigned = self.assigned();
        let assignment = assigned.current.get_mut(&reached.partition);
        if let Some(assignment) = assignment.filter(|assignment| assignment.epoch == epoch)
            && assignment.reached.is_none_or(|known| reached.next > known.next || reached.at_end.is_some())
        {
            assignment.reached = Some(reached);
        }
    }

    /// Takes partitions: of a projection each at its position.
    fn take(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let starts = match &self.positions {
            Some(positions) if list.count() > 0 => match positions.wait_as_member() {
                Some(stored) => self.start_at(list, &stored).map(|()| true),
                None => Ok(false),
            },
            _ => Ok(true),
        };
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            RebalanceProtocol::None | RebalanceProtocol::Eager => consumer.assign(list),
        };
        match starts.and_then(|known| assigned.map(|()| known)) {
            Ok(true) => {}
            // Nothing of them is read: the service stops, or leaves them to others.
            Ok(false) => return self.is_left.store(true, Ordering::Relaxed),
            Err(error) => return error!(%error, "Partitions could not be taken"),
        }
        let new = self.partitions(list);
        let mut assigned = self.assigned();
        assigned.epochs += 1;
        let epoch = assigned.epochs;
        let assignment = |partition: &Partition| {
            let since = Instant::now();
            let assignment = Assignment {
                epoch,
                in_hand: 0,
                parked: false,
                unread: None,
                lag: None,
                open: None,
                reached: None,
                since,
            };
            (*partition, assignment)
        };
        assigned.current.extend(new.iter().map(assignment));
        drop(assigned);
        // One that was paused when it passed on comes back paused.
        if let Err(error) = consumer.resume(list) {
            warn!(%error, "Partitions that came back could not be resumed");
        }
        if !new.is_empty() {
            info!(service = self.service, "{} partitions are ours", new.len());
            retention_check::report_lost_records(self.onlooker.clone(), self.service, (*list).clone());
        }
    }

    /// Has each partition begin at its position, or at its beginning where it has none.
    fn start_at(&self, list: &mut TopicPartitionList, stored: &BTreeMap<(String, i32), i64>) -> KafkaResult<()> {
        let physical: Vec<(String, i32)> =
            list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        for (topic, partition) in physical {
            let Some(declared) = self.topics.get(&topic) else { continue };
            let position = stored.get(&(declared.name.to_string(), partition));
            let start = position.map_or(Offset::Beginning, |next| Offset::Offset(*next));
            list.set_partition_offset(&topic, partition, start)?;
        }
        Ok(())
    }

    /// Lets partitions go. What is handled is committed before, so that the next owner starts there.
    fn let_go(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
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

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => return self.take(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.let_go(consumer, list),
            error => error!("The group could not be rebalanced: {error:?}"),
        }
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::None | RebalanceProtocol::Eager => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            warn!(%error, "Partitions that pass on could not be let go");
        }
    }
}
