//! The heartbeat: this system's service registry is the compacted topic `platform.instances`, a record per running instance.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use chrono::{DateTime, Utc};
use metrics::gauge;
use quadrille_core::Record;
use quadrille_platform::{AssignedTopic, InstanceHeartbeat};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::{
    consumer::{Consumer, Partition},
    effects::LastAnswer,
    outbox,
    publisher::Publisher,
    resources::Resources,
};

/// How often an instance says that it is there.
const EVERY: Duration = Duration::from_secs(5);
/// How long a beat waits for the database to tell of the outbox: one that is silent is told of, and not waited for.
const OUTBOX: Duration = Duration::from_secs(2);
/// So many partitions a beat names at most.
const MOST_PARTITIONS: usize = 1_000;

/// Says that an instance is there and how it gets on, and at its end that it is gone.
pub(crate) struct Heartbeat {
    pub resources: Arc<Resources>,
    /// Where it listens.
    pub http: String,
    /// Where others reach it, if that is known.
    pub advertised: Option<String>,
    /// The topics that it reads.
    pub hears: Vec<String>,
    pub started_at: DateTime<Utc>,
    /// Weak: the last one that holds the consumer leaves the group.
    pub consumer: Weak<Consumer>,
    pub last_answer: Arc<LastAnswer>,
}

impl Heartbeat {
    /// Beats until `stop`, and then takes the instance's record back. Nothing depends on it: a failure is tried again at the next beat.
    pub async fn run(self, stop: CancellationToken) {
        let topic = &*InstanceHeartbeat::TYPE.topic.name;
        let publisher = Publisher::new::<InstanceHeartbeat>(Arc::clone(&self.resources), "heartbeat", topic, 4_000);
        let mut publisher = match publisher {
            Ok(publisher) => publisher,
            Err(error) => return debug!(%error, "No heartbeat"),
        };
        let instance = &self.resources.instance;
        while !stop.is_cancelled() {
            let beaten = async {
                let beat = self.beat().await;
                publisher.publish(Uuid::now_v7(), instance, beat.sent_at, &beat).await
            };
            if let Some(Err(error)) = stop.run_until_cancelled(beaten).await {
                debug!(%error, "A heartbeat was not heard");
            }
            stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
        if let Err(error) = publisher.delete(instance).await {
            debug!(%error, "The last heartbeat was not taken back");
        }
    }

    async fn beat(&self) -> InstanceHeartbeat {
        let outbox =
            tokio::time::timeout(OUTBOX, outbox::waiting(&self.resources.pool)).await.ok().and_then(Result::ok);
        if let Some((rows, age_seconds)) = outbox {
            gauge!("quadrille_outbox_rows").set(rows as f64);
            gauge!("quadrille_outbox_age_seconds").set(age_seconds as f64);
        }
        let partitions = self.consumer.upgrade().map(|consumer| consumer.assigned()).unwrap_or_default();
        let (status, detail) = self.resources.health.summary();
        InstanceHeartbeat {
            instance: self.resources.instance.clone(),
            service: self.resources.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: format!("http://{}", self.http),
            status: status.to_owned(),
            detail,
            hears: self.hears.clone(),
            started_at: self.started_at,
            sent_at: Utc::now(),
            advertised: self.advertised.clone(),
            lag: partitions.iter().map(|(_, lag)| *lag).sum(),
            assigned: by_topic(&partitions),
            outbox_rows: outbox.map(|(rows, _)| rows),
            outbox_age_seconds: outbox.map(|(_, age_seconds)| age_seconds),
            outside_answered_at: self.last_answer.at(),
        }
    }
}

/// The first [`MOST_PARTITIONS`] of `partitions`, which are sorted, each with its lag where that is known.
fn by_topic(partitions: &[(Partition, Option<i64>)]) -> Vec<AssignedTopic> {
    let named = &partitions[..partitions.len().min(MOST_PARTITIONS)];
    let of_topic = named.chunk_by(|((topic, _), _), ((next, _), _)| topic == next);
    of_topic
        .map(|of_topic| AssignedTopic {
            topic: of_topic.first().map(|((topic, _), _)| (*topic).to_owned()).unwrap_or_default(),
            partitions: of_topic.iter().map(|((_, number), _)| *number).collect(),
            lag: of_topic.iter().map(|(_, lag)| *lag).sum(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_by_topic_and_a_lag_is_known_once_all_are() {
        let told = by_topic(&[(("a", 0), Some(2)), (("a", 4), Some(3)), (("b", 1), None), (("b", 2), Some(1))]);
        let told: Vec<_> = told.iter().map(|of| (of.topic.as_str(), of.partitions.as_slice(), of.lag)).collect();
        assert_eq!(told, [("a", &[0, 4][..], Some(5)), ("b", &[1, 2][..], None)]);
        let many: Vec<_> = (0..3_000).map(|number| (("a", number), Some(1))).collect();
        assert_eq!(by_topic(&many).iter().map(|of| of.partitions.len()).sum::<usize>(), MOST_PARTITIONS);
        assert!(by_topic(&[]).is_empty());
    }
}
