//! How far the service has read what it hears. A business deadline waits for it: an answer that lies on a topic counts, although the
//! service was down or slow when its deadline passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use metrics::gauge;
use quadrille_core::{Policy, Records};
use quadrille_kafka::partitions;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
};
use tracing::warn;

use crate::{limits, resources::Resources};

/// Offsets are committed each second; they are looked at again after this time.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// What is not read within this time is said, and looked at anew.
const WARN_AFTER: Duration = Duration::from_secs(30);
/// A partition that stands still for so long may have nothing but transaction markers left.
const CHECK_FOR_MARKERS_AFTER: Duration = Duration::from_secs(3);

/// Since when a broker answers, as this instance sees it.
#[derive(Default)]
pub(crate) struct BrokerUptime(Mutex<Option<Instant>>);

impl BrokerUptime {
    /// A broker answers.
    pub fn is_there(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    /// None does.
    pub fn is_lost(&self) {
        *self.since() = None;
    }

    /// For how long one has answered without a break.
    fn held_for(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What deadlines wait for.
pub(crate) struct DeadlineBarrier {
    resources: Arc<Resources>,
    broker_uptime: Arc<BrokerUptime>,
    client: ClientConfig,
    /// Without the world's prefix.
    topics: BTreeSet<&'static str>,
    after_return: Duration,
}

impl DeadlineBarrier {
    pub fn new<P: Policy>(resources: &Arc<Resources>, broker_uptime: Arc<BrokerUptime>, after_return_ms: u64) -> Self {
        let group = resources.kafka.group(resources.service);
        let mut config = resources.kafka.observer(&format!("quadrille-{}-onlooker", resources.service), &group);
        // To tell the end of what can be read from a record that is still to come.
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        Self {
            resources: Arc::clone(resources),
            broker_uptime,
            client: config,
            topics: P::Heard::TYPES.iter().map(|heard| &*heard.topic.name).collect(),
            after_return: Duration::from_millis(after_return_ms),
        }
    }

    /// Waits until the whole group has handled what lay on its topics when this was called, and a broker has answered for long enough.
    /// Returns the database's time of that call: deadlines that were due by then may fire.
    pub async fn wait_until_consumed(&self, oldest: DateTime<Utc>) -> DateTime<Utc> {
        loop {
            match self.try_wait_until_consumed(oldest).await {
                Ok(now) => {
                    self.resources.health.ok("deadlines");
                    gauge!("quadrille_deadlines_waiting_seconds").set(0.0);
                    return now;
                }
                Err(why) => {
                    let waits = (Utc::now() - oldest).to_std().unwrap_or_default();
                    gauge!("quadrille_deadlines_waiting_seconds").set(waits.as_secs_f64());
                    if waits > WARN_AFTER {
                        warn!("Deadlines wait: {why}");
                        self.resources.health.warn("deadlines", &format!("they wait: {why}"));
                    }
                }
            }
        }
    }

    async fn try_wait_until_consumed(&self, oldest: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        // What others have in their outboxes comes a moment after the broker: it must have had its time.
        let held = self.broker_uptime.held_for().unwrap_or_default();
        if let Some(rest) = self.after_return.checked_sub(held).filter(|rest| !rest.is_zero()) {
            tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
            return Err(format!("the broker has answered for {held:?} only, {:?} are asked for", self.after_return));
        }
        let now: DateTime<Utc> =
            match sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.resources.pool).await {
                Ok(now) => now,
                Err(error) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return Err(error.to_string());
                }
            };
        let (client, topics, prefix) =
            (self.client.clone(), self.topics.clone(), self.resources.kafka.topic_prefix.clone());
        let read = tokio::task::spawn_blocking(move || {
            // A new one each time: one that is kept may have forgotten every broker (`quadrille_kafka::Brokers`).
            let client: BaseConsumer = client.create()?;
            read_to(&client, &ends(&client, &topics, &prefix)?)
        });
        let read = read.await;
        match read {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(unread))) => return Err(format!("{unread} is not read to its end as of {oldest}")),
            failed => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Err(match failed {
                    Ok(Err(error)) => error.to_string(),
                    other => format!("{other:?}"),
                });
            }
        }
        match self.broker_uptime.held_for() {
            Some(held) if held >= self.after_return => Ok(now),
            _ => Err("the broker went away meanwhile".to_owned()),
        }
    }
}

type Ends = BTreeMap<(String, i32), (i64, i64)>;

/// The first and the last offset but one of each partition, as of now.
fn ends(client: &BaseConsumer, topics: &BTreeSet<&'static str>, prefix: &str) -> KafkaResult<Ends> {
    let mut ends = Ends::new();
    for topic in topics {
        let topic = format!("{prefix}{topic}");
        for partition in partitions(client, &topic, limits::BROKER)? {
            let watermarks = client.fetch_watermarks(&topic, partition, limits::BROKER)?;
            ends.insert((topic.clone(), partition), watermarks);
        }
    }
    Ok(ends)
}

/// Waits until the group's committed offsets, of whichever instances, have reached `ends`. Names a partition that does not get there.
fn read_to(client: &BaseConsumer, ends: &Ends) -> KafkaResult<Option<String>> {
    let mut open = ends.clone();
    let began = Instant::now();
    let mut peeked = false;
    loop {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in open.keys() {
            list.add_partition(topic, *partition);
        }
        for element in client.committed_offsets(list, limits::BROKER)?.elements() {
            let key = (element.topic().to_owned(), element.partition());
            let Some((low, end)) = open.get(&key).copied() else { continue };
            let next = match element.offset() {
                Offset::Offset(next) => next.max(low),
                _ => low,
            };
            if next >= end {
                open.remove(&key);
            } else {
                open.insert(key, (next, end));
            }
        }
        if !peeked && began.elapsed() > CHECK_FOR_MARKERS_AFTER {
            peeked = true;
            let mut unread = Ends::new();
            for ((topic, partition), (next, end)) in open {
                if has_record(client, &topic, partition, next, end)? {
                    unread.insert((topic, partition), (next, end));
                }
            }
            open = unread;
        }
        let Some(((topic, partition), (next, end))) = open.first_key_value() else { return Ok(None) };
        if began.elapsed() > WARN_AFTER {
            return Ok(Some(format!("{topic}/{partition} (at {next} of {end})")));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Whether there is a record to be read from `next` on and before `end`: markers and what was aborted take up offsets too.
fn has_record(client: &BaseConsumer, topic: &str, partition: i32, next: i64, end: i64) -> KafkaResult<bool> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(next))?;
    client.assign(&list)?;
    let deadline = Instant::now() + limits::BROKER;
    let found = loop {
        match client.poll(POLL_INTERVAL) {
            Some(Ok(record)) => break record.offset() < end,
            Some(Err(KafkaError::PartitionEOF(_))) => break false,
            Some(Err(_)) | None if Instant::now() > deadline => break true,
            Some(Err(_)) | None => {}
        }
    };
    client.unassign()?;
    Ok(found)
}
