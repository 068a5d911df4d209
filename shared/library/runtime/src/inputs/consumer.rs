//! From Kafka to the worker: one thread per service polls all its topics, decodes, and hands on.
//!
//! The thread never stops polling, so that the group never takes the instance for dead: a partition whose next record cannot be
//! handed on (its schema is not to be had, or the worker is behind) is parked, the others go on.

mod group;
mod poller;
mod statistics;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use quadrille_core::{Policy, is_projection};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub(crate) use self::poller::Downstream;
use self::{
    group::{Assignment, Group, Positions},
    poller::Poller,
};
use crate::{deadline_barrier::BrokerUptime, limits, progress::Progress, record::RawRecord, resources::Resources};

/// A partition of one of the service's topics, named without the world's prefix.
pub(crate) type Partition = (&'static str, i32);

/// A service's membership in its group.
pub(crate) struct Consumer {
    config: ClientConfig,
    /// As the first client finds it.
    group: Group,
    /// None while topics or positions are waited for: what a client has to tell is kept in memory until somebody polls it.
    client: Mutex<Option<Arc<BaseConsumer<Group>>>>,
}

impl Consumer {
    /// A membership that begins when it is run.
    ///
    /// A projection starts each partition at its position; until `stop` it waits for the database to tell it.
    pub fn new<P: Policy>(
        resources: &Resources,
        broker_uptime: Arc<BrokerUptime>,
        progress: Arc<Progress>,
        stop: &CancellationToken,
    ) -> Self {
        let kafka = &resources.kafka;
        let positions = is_projection::<P>().then(|| Positions::new(resources.pool.clone(), stop.clone()));
        let mut config = kafka.member(&format!("quadrille-{}-{}", P::SERVICE, resources.instance), &resources.group());
        if positions.is_some() {
            // They tell when a partition's end is reached.
            config.set("statistics.interval.ms", "1000");
        }
        let group = Group::new::<P>(resources, positions, broker_uptime, progress);
        Self { config, group, client: Mutex::default() }
    }

    fn client(&self) -> Option<Arc<BaseConsumer<Group>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a new client join the group. Whoever calls this polls it from then on.
    fn join(&self, group: Group) -> KafkaResult<Arc<BaseConsumer<Group>>> {
        let client: BaseConsumer<Group> = self.config.create_with_context(group)?;
        client.subscribe(&client.context().topics.keys().map(String::as_str).collect::<Vec<_>>())?;
        let client = Arc::new(client);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Gives a client up. What came by it is handled as after a rebalance.
    fn retire(&self, old: Arc<BaseConsumer<Group>>) {
        old.context().retired.store(true, Ordering::Relaxed);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Its end waits for answers that do not come, so it is nobody else's.
        let end = move || {
            while Arc::strong_count(&old) > 1 {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        drop(std::thread::Builder::new().name("former-consumer".into()).spawn(end));
    }

    /// Whether a partition is this instance's.
    pub fn owns(&self, partition: Partition) -> bool {
        self.client().is_some_and(|client| client.context().owns(partition))
    }

    /// The partitions that are this instance's, sorted, each with what is still to be read of it where that is known.
    pub fn assigned(&self) -> Vec<(Partition, Option<i64>)> {
        let Some(client) = self.client() else { return vec![] };
        let assigned = client.context().assigned();
        let mut partitions: Vec<_> =
            assigned.current.iter().map(|(partition, assignment)| (*partition, assignment.lag)).collect();
        partitions.sort_unstable();
        partitions
    }

    /// Notes that records are handled: their offsets are committed within a second, or when the partition passes on.
    ///
    /// A record that was read under an earlier assignment of its partition moves nothing: its partition may have gone on elsewhere.
    pub fn store_offsets<'a>(&self, records: impl Iterator<Item = &'a RawRecord>) {
        let Some(client) = self.client() else { return };
        let group = client.context();
        let mut handled: HashMap<(Partition, u64), (i64, usize)> = HashMap::new();
        {
            let assigned = group.assigned();
            for record in records {
                let partition = record.topic_partition();
                if assigned.is(partition, record.epoch) {
                    let (next, count) = handled.entry((partition, record.epoch)).or_default();
                    *next = (*next).max(record.offset + 1);
                    *count += 1;
                }
            }
        }
        group.store(&client, handled.iter().map(|((partition, _), (next, _))| (*partition, *next)));
        // Counted down last: from then on the poller may store what lies behind.
        let mut assigned = group.assigned();
        for ((partition, epoch), (_, count)) in handled {
            if let Some(assignment) = assigned.current.get_mut(&partition)
                && assignment.epoch == epoch
            {
                assignment.in_hand = assignment.in_hand.saturating_sub(count);
            }
        }
    }

    /// Polls until `stop`, on a thread of its own.
    pub fn run<P: Policy>(&self, downstream: &Downstream<P>, stop: &CancellationToken) {
        let mut group = self.group.anew();
        loop {
            if group.positions.as_ref().is_some_and(|positions| positions.wait().is_none()) {
                // The service stops.
                return;
            }
            let client = match self.join(group) {
                Ok(client) => client,
                Err(error) => return error!("The group could not be joined: {error}"),
            };
            if let Err(error) = Poller::new(&client, downstream).poll(stop) {
                // The process ends, and whoever supervises it starts a new one.
                return error!("The Kafka client has failed for good: {error}");
            }
            if stop.is_cancelled() {
                return;
            }
            match client.context().known.are_forgotten() {
                true => warn!("The Kafka client has forgotten every broker: it is made anew"),
                false => warn!("The database does not tell positions: partitions are left to others until it does"),
            }
            group = client.context().anew();
            self.retire(client);
        }
    }

    /// What waits to be read or committed, if anything does.
    pub fn waiting(&self) -> Option<String> {
        let client = self.client()?;
        let assigned = client.context().assigned();
        let waits =
            |assignment: &Assignment| assignment.in_hand > 0 || assignment.parked || assignment.unread.is_some();
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
        let joining = self.client().and_then(|client| client.context().assigned().joining);
        let health = &self.group.health;
        match joining.map(|since| since.elapsed()) {
            Some(since) if since >= limits::JOINING => {
                health.error("group", &format!("this instance has not come into its group for {} s", since.as_secs()));
            }
            _ => health.ok("group"),
        }
    }

    /// Commits what is handled. The group is left when the consumer is dropped.
    pub fn commit(&self) {
        let Some(client) = self.client() else { return };
        match client.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                warn!(%error, "The last offsets were not committed: what they cover will be met in the inbox")
            }
        }
    }
}
