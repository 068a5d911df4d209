//! Sends a round of the outbox, and collects what the broker says of each of its records.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::SecondsFormat;
use quadrille_kafka::{Brokers, CloudEvent, Connection};
use rdkafka::{
    ClientContext, Message, Statistics,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::Notify;
use tracing::warn;

use super::{Held, Row};
use crate::{lease::Lease, outbox::carried};

/// The client's queue is full: it is offered the record again after this time.
const QUEUE_FULL: Duration = Duration::from_millis(2);

/// A producer that sends one round after the other.
pub(super) struct Sender {
    producer: ThreadedProducer<Round>,
    prefix: String,
    service: &'static str,
}

/// What became of a round.
#[derive(Default)]
pub(super) struct Sent<'a> {
    /// Numbers of rows.
    pub acknowledged: Vec<i64>,
    /// The last offset that was acknowledged, by topic and partition.
    pub last: BTreeMap<(&'a str, i32), i64>,
    pub refusal: Option<String>,
    /// The broker refused a batch for one of its records: sent one by one they tell which.
    pub is_unsure: bool,
}

impl Sender {
    pub fn new(kafka: &Connection, service: &'static str) -> anyhow::Result<Self> {
        let producer = kafka
            .producer(&format!("quadrille-{service}-relay"))
            // What the broker refuses for good ends the client: else it would renumber what comes behind and send that. And nothing is on its way
            // behind a batch that may be refused: from a producer that it does not know yet a broker takes any number.
            .set("enable.gapless.guarantee", "true")
            .set("max.in.flight.requests.per.connection", "1")
            .set("statistics.interval.ms", "5000")
            .create_with_context(Round::default())?;
        Ok(Self { producer, prefix: kafka.topic_prefix.clone(), service })
    }

    /// Sends a round and awaits every acknowledgement, however long the broker is away; the lease is kept meanwhile. Where each is sent
    /// `alone`, the next one is when it is answered, and none after one that is refused.
    pub async fn send_all<'a>(
        &self,
        rows: &'a [Row],
        held: &mut Held,
        alone: bool,
        lease: &mut Lease,
    ) -> anyhow::Result<Sent<'a>> {
        self.hand_over(rows, held, alone, lease).await?;
        lease.while_beating(self.round().all_answered()).await?;
        let mut sent = collect(self.round().take(), rows, held, alone);
        if self.round().known.are_forgotten() {
            sent.refusal.get_or_insert_with(|| "the client has forgotten every broker and is made anew".into());
        }
        Ok(sent)
    }

    /// Hands the client all rows but those of held keys, up to one that ends the round.
    async fn hand_over(&self, rows: &[Row], held: &mut Held, alone: bool, lease: &mut Lease) -> sqlx::Result<()> {
        for (index, row) in rows.iter().enumerate() {
            if held.holds(row) {
                continue;
            }
            if let Err(error) = self.send(index, row, lease).await? {
                let is_its_own = refused(&error).is_some();
                if is_its_own {
                    // Too large, for one. At once, so that nothing of its key passes it.
                    held.hold(row, &error.to_string());
                }
                self.round().answers().failed.push((index, error));
                if !is_its_own {
                    // The client takes nothing more.
                    return Ok(());
                }
            } else if alone {
                lease.while_beating(self.round().all_answered()).await?;
                if !self.round().answers().failed.is_empty() || self.round().known.are_forgotten() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Hands a row's record to the client, once it has room.
    async fn send(&self, index: usize, row: &Row, lease: &mut Lease) -> sqlx::Result<Result<(), KafkaError>> {
        let topic = format!("{}{}", self.prefix, row.topic);
        let mut record = BaseRecord::with_opaque_to(&topic, index)
            .key(row.key.as_str())
            .payload(row.value.as_slice())
            .headers(headers(row, self.service));
        // A request has the time at which it is sent: however long the broker was away, nobody finds it too old.
        if row.version.is_some() {
            record = record.timestamp(row.time.timestamp_millis());
        }
        // Before it is sent, since its answer may come at once.
        self.round().open.fetch_add(1, Ordering::AcqRel);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(Ok(())),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned))
                    if !self.round().known.are_forgotten() =>
                {
                    record = returned;
                    lease.while_beating(tokio::time::sleep(QUEUE_FULL)).await?;
                }
                Err((error, _)) => {
                    self.round().open.fetch_sub(1, Ordering::AcqRel);
                    return Ok(Err(error));
                }
            }
        }
    }

    fn round(&self) -> &Round {
        self.producer.context()
    }
}

impl Drop for Sender {
    /// What is not acknowledged stays in the outbox: it must not leave this process later, behind its successors.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

/// What a row's headers say.
fn headers(row: &Row, service: &str) -> OwnedHeaders {
    let id = row.event_id.to_string();
    let cause = row.causation_id.map(|cause| cause.to_string()).unwrap_or_default();
    let source = format!("/quadrille/{service}");
    let time = row.time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let version = row.version.map(|version| version.to_string()).unwrap_or_default();
    let (traceparent, tracestate) = carried(&row.traceparent, &row.tracestate);
    if (traceparent, tracestate) != (row.traceparent.as_str(), row.tracestate.as_str()) {
        warn!(topic = row.topic, key = row.key, event.id = %row.event_id, "A trace beyond W3C's bounds is not carried on");
    }
    let event = CloudEvent {
        id: &id,
        source: &source,
        record_type: &row.record_type,
        subject: &row.key,
        time: &time,
        correlation: &row.key,
        causation: &cause,
        version: &version,
        traceparent,
        tracestate,
    };
    event.headers()
}

/// Tells what became of a round, and holds the keys of what the broker refuses for good.
fn collect<'a>(answers: Answers, rows: &'a [Row], held: &mut Held, alone: bool) -> Sent<'a> {
    let Answers { mut acknowledged, mut failed } = answers;
    let mut sent = Sent::default();
    // In the order of their numbers: a key is held at its first.
    failed.sort_by_key(|(index, _)| *index);
    for (index, error) in &failed {
        let row = &rows[*index];
        match refused(error) {
            _ if held.holds(row) => {}
            Some(Refused::Batch) if !alone => sent.is_unsure = true,
            Some(_) => held.hold(row, &error.to_string()),
            None => {}
        }
        sent.refusal = Some(format!("{}, key {}: {error}", row.topic, row.key));
    }
    acknowledged.sort_unstable();
    for (index, partition, offset) in acknowledged {
        let row = &rows[index];
        if offset < 0 {
            // The client says so of a repeat that the broker no longer knows the first of. Without an offset nothing can be noted, so the
            // row stays and is sent once more.
            sent.refusal = Some(format!("{}, key {}: acknowledged without an offset", row.topic, row.key));
            continue;
        }
        sent.acknowledged.push(row.id);
        let last = sent.last.entry((row.topic.as_str(), partition)).or_default();
        *last = offset.max(*last);
    }
    sent
}

/// What a broker refuses for good.
enum Refused {
    /// Every record of the topic.
    Topic,
    /// A batch, for at least one of its records.
    Batch,
}

fn refused(error: &KafkaError) -> Option<Refused> {
    use RDKafkaErrorCode::{
        InvalidMessage, InvalidRecord, InvalidTimestamp, MessageSizeTooLarge, PolicyViolation,
        TopicAuthorizationFailed, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    match error.rdkafka_error_code()? {
        TopicAuthorizationFailed | UnknownTopic | UnknownTopicOrPartition | UnknownPartition => Some(Refused::Topic),
        MessageSizeTooLarge | InvalidMessage | InvalidRecord | InvalidTimestamp | PolicyViolation => {
            Some(Refused::Batch)
        }
        _ => None,
    }
}

/// What is known of the round under way, by its rows' indices.
#[derive(Default)]
struct Round {
    /// Records without an answer.
    open: AtomicUsize,
    answers: Mutex<Answers>,
    wake: Notify,
    known: Brokers,
}

#[derive(Default)]
struct Answers {
    /// With the partition and the offset that the record has.
    acknowledged: Vec<(usize, i32, i64)>,
    failed: Vec<(usize, KafkaError)>,
}

impl Round {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Answers {
        std::mem::take(&mut self.answers())
    }

    /// Waits until none is open, or until the client has forgotten whom to ask.
    async fn all_answered(&self) {
        while self.open.load(Ordering::Acquire) > 0 && !self.known.are_forgotten() {
            self.wake.notified().await;
        }
    }
}

impl ClientContext for Round {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
        if self.known.are_forgotten() {
            self.wake.notify_one();
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // That one of our settings is called experimental is no news at each start.
        if facility != "CONFWARN" {
            DefaultClientContext.log(level, facility, message);
        }
    }
}

impl ProducerContext for Round {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut answers = self.answers();
        match result {
            Ok(record) => answers.acknowledged.push((index, record.partition(), record.offset())),
            Err((error, _)) => answers.failed.push((index, error.clone())),
        }
        drop(answers);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::row, *};
    use crate::outbox::{MAX_RECORD_BYTES, record_bytes};

    /// As the client counts it: with lengths of at most 5 bytes each, twice per header and three times per record, and 21 more.
    #[test]
    fn a_record_is_no_larger_than_it_was_said_to_be() {
        let row = row(1, 3);
        let headers = headers(&row, "notification");
        let header = |index| {
            let header = rdkafka::message::Headers::get(&headers, index);
            header.key.len() + header.value.map_or(0, <[u8]>::len) + 10
        };
        let count = rdkafka::message::Headers::count(&headers);
        assert_eq!(count, 12);
        let bytes = (0..count).map(header).sum::<usize>() + row.key.len() + row.value.len() + 36;
        let said = record_bytes(&row.key, (&row.traceparent, &row.tracestate), &row.value);
        assert!(bytes <= said && said < MAX_RECORD_BYTES, "{bytes} {said}");
    }
}
