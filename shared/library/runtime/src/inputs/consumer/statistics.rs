//! What the client tells every few seconds: whether a broker is there and has our topics, what is still to be read, and what stands still.

use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::gauge;
use rdkafka::{
    ClientContext, Statistics,
    error::{KafkaError, RDKafkaErrorCode},
    statistics::Broker,
};
use tracing::{debug, error};

use super::{Partition, group::Group};
use crate::{kafka, limits, position::Reached};

/// A partition that was assigned or resumed so short a time ago may have been told nothing of its end yet.
const FRESH: Duration = Duration::from_secs(2);

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
            self.broker_uptime.is_there();
        } else {
            self.broker_uptime.is_lost();
        }
        if !reached {
            self.health.error("kafka", &format!("no broker at {} answers", self.brokers));
        } else if let Some(topic) = gone {
            self.health.error("kafka", &format!("topic {topic}, which this service hears, is gone"));
        } else {
            self.health.ok("kafka");
        }
        let is_in = statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady");
        {
            let mut assigned = self.assigned();
            assigned.joining = if is_in { None } else { Some(assigned.joining.unwrap_or_else(Instant::now)) };
        }
        let (mut changed, mut hidden) = (None, None);
        // By the second: the later half of one is taken for the earlier.
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(statistics.time.unsigned_abs()));
        let told = Instant::now().checked_sub(age.unwrap_or_default());
        for (topic, stats) in statistics.topics {
            let count = stats.partitions.keys().filter(|partition| **partition >= 0).count();
            changed = changed.or_else(|| kafka::changed_partitions(&topic, self.topics.get(&topic)?, count));
            for (partition, stats) in stats.partitions {
                let Some(declared) = self.topics.get(topic.as_str()) else {
                    continue;
                };
                let topic = &*declared.name;
                self.note_unread((topic, partition), &stats);
                if self.positions.is_some()
                    && let Some(at) = heard_at(&statistics.brokers, &stats, told)
                {
                    self.note_end((topic, partition), &stats, at);
                }
                hidden = hidden.or(self.hidden((topic, partition), &stats));
                self.note_lag((topic, partition), &stats);
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
            self.broker_uptime.is_lost();
        }
        debug!(%error, reason, "The Kafka client reports");
    }
}

/// When the broker that a partition is fetched from was last heard of.
fn heard_at(
    brokers: &HashMap<String, Broker>,
    stats: &rdkafka::statistics::Partition,
    told: Option<Instant>,
) -> Option<Instant> {
    let broker = brokers.values().find(|broker| broker.nodeid == stats.leader && broker.state == "UP")?;
    told?.checked_sub(Duration::from_micros(u64::try_from(broker.rxidle).ok()?))
}

/// The end of what can be read; negative where it is not known.
fn end(stats: &rdkafka::statistics::Partition) -> i64 {
    if stats.ls_offset >= 0 { stats.hi_offset.min(stats.ls_offset) } else { stats.hi_offset }
}

/// What is still to be read, where that is known: of a partition of which nothing was ever committed the client does not tell.
fn lag(stats: &rdkafka::statistics::Partition) -> Option<i64> {
    let unread = || (end(stats) >= 0 && stats.next_offset >= 0).then(|| (end(stats) - stats.next_offset).max(0));
    if stats.consumer_lag >= 0 { Some(stats.consumer_lag) } else { unread() }
}

impl Group {
    /// Notes how much of a partition is still to be read, for metrics and the heartbeat.
    fn note_lag(&self, (topic, partition): Partition, stats: &rdkafka::statistics::Partition) {
        if let Some(lag) = lag(stats)
            && let Some(assignment) = self.assigned().current.get_mut(&(topic, partition))
        {
            assignment.lag = Some(lag);
            gauge!("quadrille_consumer_lag", "topic" => topic, "partition" => partition.to_string()).set(lag as f64);
        }
    }

    /// Notes that a partition is read to its end, as of `at`.
    fn note_end(&self, partition: Partition, stats: &rdkafka::statistics::Partition, at: Instant) {
        let end = end(stats);
        let is_at_end = end >= 0 && stats.next_offset >= end && stats.fetchq_cnt == 0 && stats.fetch_state == "active";
        let epoch = self.assigned().current.get(&partition).and_then(|assignment| {
            (!assignment.parked && assignment.since.elapsed() >= FRESH).then_some(assignment.epoch)
        });
        if let Some(epoch) = epoch.filter(|_| is_at_end) {
            self.note_reached(epoch, Reached { partition, next: stats.next_offset, at_end: Some(at) });
        }
    }

    /// Notes from where a partition is still to be read.
    fn note_unread(&self, partition: Partition, stats: &rdkafka::statistics::Partition) {
        let mut assigned = self.assigned();
        let Some(assignment) = assigned.current.get_mut(&partition) else { return };
        let end = end(stats);
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
}
