//! The relay: publishes the outbox, per topic and key in the order of its numbers, and removes a row after its acknowledgement.
//!
//! Read from the head, send all, await all acknowledgements, delete by id, read again. Nothing is read ahead: a transaction that commits
//! late may bring a lower number, which the next read from the head finds. A floor spares the read what old snapshots keep of deleted
//! rows; it rises only past numbers that no open transaction can still bring.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, Utc};
use metrics::{counter, gauge};
use rdkafka::{
    ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    config,
    ground::Ground,
    kafka,
    lease::{BEAT, Lease},
};

/// Rows of one round at most.
const ROUND: i64 = 5_000;
/// The net under lost wake-ups.
const NET: Duration = Duration::from_millis(100);
/// A row that the broker refuses for good is tried again this often.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// The broker takes records of 1,000,000 bytes with key and headers; a larger one would be refused after later ones of its key had passed.
const MAX_RECORD_BYTES: usize = 980_000;

/// The relay of one instance. It works only while it owns the service's lease.
pub(crate) struct Relay {
    pub ground: Arc<Ground>,
    pub wake: Arc<Notify>,
    /// Whether this instance owns the lease.
    pub owner: Arc<AtomicBool>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    topic: String,
    key: String,
    event_id: Uuid,
    #[sqlx(rename = "type")]
    record_type: String,
    version: i64,
    causation_id: Uuid,
    time: DateTime<Utc>,
    traceparent: String,
    tracestate: String,
    payload: Vec<u8>,
    /// The oldest transaction that was still open when the row was read.
    oldest_open: i64,
}

/// Keys whose next row the broker refuses, with that row's number and the time of the next try.
type Held = BTreeMap<(String, String), (i64, Instant)>;

/// Up to where the outbox is known to be empty for good.
#[derive(Default)]
struct Floor {
    floor: i64,
    candidate: Option<(i64, i64)>,
}

impl Relay {
    /// Publishes until `stop`, and then until the outbox is empty or `abort`.
    pub async fn run(self, stop: CancellationToken, abort: CancellationToken) {
        while !stop.is_cancelled() {
            let lease = tokio::select! {
                () = stop.cancelled() => return,
                lease = Lease::take(&self.ground.database, &self.ground.instance, || self.ground.health.ok("relay")) => lease,
            };
            let error = match lease {
                Err(error) => error.to_string(),
                Ok(mut lease) => {
                    self.owner.store(true, Ordering::Relaxed);
                    let published = tokio::select! {
                        published = self.publish(&mut lease, &stop) => published,
                        () = abort.cancelled() => Ok(()),
                    };
                    self.owner.store(false, Ordering::Relaxed);
                    match published {
                        Ok(()) => return lease.release().await,
                        Err(error) => format!("{error:#}"),
                    }
                }
            };
            warn!("The relay begins anew: {error}");
            self.ground.health.error("relay", &error);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn publish(&self, lease: &mut Lease, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut sender = Sender::new(&self.ground.kafka, self.ground.service)?;
        let mut floor = Floor::default();
        let mut held = Held::new();
        let mut beaten = Instant::now();
        loop {
            held.retain(|_, (_, retry_at)| *retry_at > Instant::now());
            let rows = read(lease, floor.floor, &held).await?;
            gauge!("quadrille_outbox_round").set(rows.len() as f64);
            if beaten.elapsed() >= BEAT {
                lease.beat().await?;
                beaten = Instant::now();
            }
            if rows.is_empty() {
                if held.is_empty() {
                    self.ground.health.ok("relay");
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(NET) => {}
                }
                continue;
            }
            let sent = sender.send_all(&rows, &mut held, lease).await?;
            let horizon = remove(lease, &sent.acknowledged).await?;
            counter!("quadrille_published_total").increment(sent.acknowledged.len() as u64);
            match sent.refusal {
                None => floor.after(&rows, horizon, held.values().map(|(id, _)| *id).min()),
                Some(refusal) => {
                    self.ground.health.warn("relay", &refusal);
                    sender = Sender::new(&self.ground.kafka, self.ground.service)?;
                    floor = Floor::default();
                }
            }
        }
    }
}

async fn read(lease: &mut Lease, floor: i64, held: &Held) -> sqlx::Result<Vec<Row>> {
    let (topics, keys): (Vec<&str>, Vec<&str>) = held.keys().map(|(topic, key)| (topic.as_str(), key.as_str())).unzip();
    let query = if held.is_empty() {
        "select *, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_open
         from outbox where id > $1 order by id limit $2"
    } else {
        "select *, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_open
         from outbox where id > $1 and (topic, key) not in (select * from unnest($3::text[], $4::text[]))
         order by id limit $2"
    };
    let query = sqlx::query_as(query).bind(floor).bind(ROUND);
    let query = if held.is_empty() { query } else { query.bind(topics).bind(keys) };
    query.fetch_all(&mut lease.connection).await
}

/// Removes published rows, and returns a transaction id that was given out after they were read.
async fn remove(lease: &mut Lease, published: &[i64]) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "with removed as (delete from outbox where id = any($1)) select pg_current_xact_id()::text::bigint",
    )
    .bind(published)
    .fetch_one(&mut lease.connection)
    .await
}

impl Floor {
    /// After a round read from this floor was published; `horizon` is a transaction id given out after the read.
    ///
    /// Whoever writes the outbox has a transaction id before it draws a number. Who drew one below a number m that was seen did so
    /// before the read, so its id is below the horizon. Once no transaction below the horizon is open, a read that began after has seen
    /// all numbers up to m. (A snapshot's `xmax` is no such horizon: it is one above the highest *completed* id, and open ones may lie
    /// at or above it.)
    fn after(&mut self, rows: &[Row], horizon: i64, lowest_held: Option<i64>) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
        match self.candidate {
            Some((number, horizon_then)) if first.oldest_open >= horizon_then => {
                let full = rows.len() as i64 == ROUND;
                self.floor = if full { number.min(last.id) } else { number };
                self.candidate = Some((last.id, horizon));
            }
            Some(_) => {}
            None => self.candidate = Some((last.id, horizon)),
        }
        if let Some(held) = lowest_held {
            self.floor = self.floor.min(held - 1);
        }
    }
}

/// A producer, and the acknowledgements of the round under way.
struct Sender {
    producer: ThreadedProducer<Acks>,
    acks: Arc<Round>,
    prefix: String,
    service: &'static str,
}

#[derive(Default)]
struct Round {
    open: AtomicUsize,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    wake: Notify,
}

struct Acks(Arc<Round>);

struct Sent {
    acknowledged: Vec<i64>,
    refusal: Option<String>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).push((index, error.clone()));
        }
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake.notify_one();
        }
    }
}

impl Sender {
    fn new(kafka: &config::Kafka, service: &'static str) -> anyhow::Result<Self> {
        let acks = Arc::new(Round::default());
        let client = format!("quadrille-{service}-relay");
        let producer = kafka::producer_config(kafka, &client).create_with_context(Acks(Arc::clone(&acks)))?;
        Ok(Self { producer, acks, prefix: kafka.topic_prefix.clone(), service })
    }

    /// Sends a round and awaits every acknowledgement, however long the broker is away; the lease is kept meanwhile.
    async fn send_all(&self, rows: &[Row], held: &mut Held, lease: &mut Lease) -> anyhow::Result<Sent> {
        let mut skipped = HashSet::new();
        let mut too_large = None;
        // One more than is sent, so that the count cannot reach zero before all are sent.
        self.acks.open.store(1, Ordering::Release);
        let mut beat = tokio::time::interval(BEAT);
        for (index, row) in rows.iter().enumerate() {
            if !held.is_empty() && held.contains_key(&(row.topic.clone(), row.key.clone())) {
                skipped.insert(index);
                continue;
            }
            if row.payload.len() > MAX_RECORD_BYTES {
                let refusal =
                    format!("the record has {} bytes; the broker takes {MAX_RECORD_BYTES}", row.payload.len());
                hold(held, row, &refusal);
                skipped.insert(index);
                too_large = Some(refusal);
                continue;
            }
            self.acks.open.fetch_add(1, Ordering::AcqRel);
            let topic = format!("{}{}", self.prefix, row.topic);
            let mut record = BaseRecord::with_opaque_to(&topic, index)
                .key(row.key.as_str())
                .payload(row.payload.as_slice())
                .timestamp(row.time.timestamp_millis())
                .headers(headers(row, self.service));
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                        record = returned;
                        tokio::select! {
                            () = tokio::time::sleep(Duration::from_millis(2)) => {}
                            _ = beat.tick() => lease.beat().await?,
                        }
                    }
                    Err((error, _)) => {
                        // At once, so that nothing of its key passes it.
                        hold(held, row, &error.to_string());
                        self.acks.failed.lock().unwrap_or_else(PoisonError::into_inner).push((index, error));
                        self.acks.open.fetch_sub(1, Ordering::AcqRel);
                        break;
                    }
                }
            }
        }
        if self.acks.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            loop {
                tokio::select! {
                    () = self.acks.wake.notified() => {
                        if self.acks.open.load(Ordering::Acquire) == 0 {
                            break;
                        }
                    }
                    _ = beat.tick() => lease.beat().await?,
                }
            }
        }
        let mut failed = std::mem::take(&mut *self.acks.failed.lock().unwrap_or_else(PoisonError::into_inner));
        // In the order of their numbers: a key is held at its first.
        failed.sort_by_key(|(index, _)| *index);
        let mut refusal = too_large;
        for (index, error) in &failed {
            skipped.insert(*index);
            if refused_for_good(error) {
                hold(held, &rows[*index], &error.to_string());
            }
            refusal = Some(format!("{}: {error}", rows[*index].topic));
        }
        let acknowledged = rows.iter().enumerate().filter(|(index, _)| !skipped.contains(index)).map(|(_, row)| row.id);
        Ok(Sent { acknowledged: acknowledged.collect(), refusal })
    }
}

impl Drop for Sender {
    /// What is not acknowledged stays in the outbox: it must not leave this process later, behind its successors.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

fn hold(held: &mut Held, row: &Row, refusal: &str) {
    error!(topic = row.topic, key = row.key, version = row.version, event.id = %row.event_id,
        "The broker refuses an event; its key waits and is tried again in {REFUSED_FOR:?}: {refusal}");
    counter!("quadrille_refused_total", "topic" => row.topic.clone()).increment(1);
    held.entry((row.topic.clone(), row.key.clone())).or_insert((row.id, Instant::now() + REFUSED_FOR));
}

fn refused_for_good(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        InvalidMessage, InvalidRecord, MessageSizeTooLarge, PolicyViolation, TopicAuthorizationFailed,
        UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            MessageSizeTooLarge
                | InvalidMessage
                | InvalidRecord
                | PolicyViolation
                | TopicAuthorizationFailed
                | UnknownTopic
                | UnknownTopicOrPartition
                | UnknownPartition
        )
    )
}

/// The CloudEvents 1.0 Kafka binding, binary mode, with our extensions and W3C trace context.
fn headers(row: &Row, service: &str) -> OwnedHeaders {
    let id = row.event_id.to_string();
    let cause = row.causation_id.to_string();
    let source = format!("/quadrille/{service}");
    let time = row.time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let version = row.version.to_string();
    let all = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", &source),
        ("ce_type", &row.record_type),
        ("ce_subject", &row.key),
        ("ce_time", &time),
        ("content-type", "application/avro"),
        ("ce_correlationid", &row.key),
        ("ce_causationid", &cause),
        ("ce_aggregateversion", &version),
        ("traceparent", &row.traceparent),
        ("tracestate", &row.tracestate),
    ];
    let present = all.into_iter().filter(|(_, value)| !value.is_empty());
    present.fold(OwnedHeaders::new_with_capacity(12), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

/// Wakes the relay, in this process or in the instance that owns the lease.
pub(crate) struct Wake {
    pub ground: Arc<Ground>,
    pub owner: Arc<AtomicBool>,
    pub local: Arc<Notify>,
}

/// The channel on which instances wake the relay's owner.
const CHANNEL: &str = "quadrille_outbox";

impl Wake {
    /// Facts were committed. Outside the transaction: commits that notify queue behind one another.
    pub async fn facts(&self) {
        self.local.notify_one();
        if !self.owner.load(Ordering::Relaxed)
            && let Err(error) = sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&self.ground.pool).await
        {
            // The owner's poll is the net.
            tracing::debug!(%error, "The relay's owner was not woken");
        }
    }

    /// Listens for other instances' wake-ups until `stop`.
    pub async fn listen(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let listening = async {
                let mut listener = sqlx::postgres::PgListener::connect_with(self.ground.pool.pool()).await?;
                listener.listen(CHANNEL).await?;
                loop {
                    listener.recv().await?;
                    self.local.notify_one();
                }
            };
            let ended: Result<(), sqlx::Error> = tokio::select! {
                () = stop.cancelled() => return,
                ended = listening => ended,
            };
            if let Err(error) = ended {
                info!(%error, "Wake-ups of other instances are not heard for now; the relay polls");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
